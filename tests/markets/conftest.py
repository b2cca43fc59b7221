"""Simulated venues in a thread of their own, and markets that talk to them over loopback."""

import asyncio
import contextlib
import itertools
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dquant.config import MyConfiguration
from dquant.markets import book_watch, conversation
from dquant.markets.market import Market
from dquant.markets.market_factory import create_markets
from dquant.model.events import LIVE, Health, Price
from dquant.pipeline.redis_link import RedisSettings
from dquant.pipeline.valkey_child import find_binary, probe
from dquant.simulator.bitmex_server import BitmexServer
from dquant.simulator.clock import VirtualClock
from dquant.simulator.control import ControlDoor
from dquant.simulator.flow import Flow
from dquant.simulator.okex_login import Secrets
from dquant.simulator.okex_server import OkexOptions, OkexServer
from dquant.simulator.server import SimulatedVenues
from dquant.simulator.venue import true_top

DEADLINE_S = 15.0
BOOK_SILENCE_S = 1.0
TRUTHS_KEPT = 5000
# How old a top may be that is published as live: the cadence of ``books``, and a busy machine.
TRUE_WITHIN_S = 1.0
# Wednesday 2026-12-02 10:00 UTC: no contract ends, nothing is paid and no bar of a day begins for hours.
QUIET_NS = 1_796_205_600 * 10**9

OKEX, BITMEX = "okex_future_btcusd_thisweek", "bitmex_future_btcusd"


class Truths(SimulatedVenues):
    """Venues that remember the true tops of some books, each with our wall clock."""

    watched: dict[str, deque[tuple[int, tuple[Any, ...]]]]

    def _publish(self, now_ns: int, real_ns: int) -> None:
        super()._publish(now_ns, real_ns)
        for name, tops in self.watched.items():
            feed = self.venues["okex"].feeds.get(name)
            if feed is not None:
                top = _top(true_top(feed.market))
                if not tops or tops[-1][1] != top:
                    tops.append((time.time_ns(), top))


def _top(truth: dict[str, Any]) -> tuple[Any, ...]:
    return truth["bid"], truth["bid_amount"], truth["ask"], truth["ask_amount"]


class Venues:
    """The venues' thread, and what a test does to them from its own."""

    def __init__(self, start_ns: int | None = None, speed: float = 1.0, *, has_alias: bool = True) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="simulated-venues", daemon=True)
        self._thread.start()
        self.simulated: Truths = self._do(self._start(start_ns, speed, has_alias))
        self.door = ControlDoor(self.simulated)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _start(self, start_ns: int | None, speed: float, has_alias: bool) -> Truths:
        start = time.time_ns() if start_ns is None else start_ns
        flow = Flow(7, start)
        venues = [
            OkexServer(flow, Secrets("key", "secret", "phrase"), OkexOptions(has_alias=has_alias)),
            BitmexServer(flow, rest_per_minute=10_000),
        ]
        simulated = Truths(flow, venues, VirtualClock(start, time.monotonic_ns(), speed))
        simulated.watched = {}
        await simulated.start()
        simulated.set_speed(speed)
        return simulated

    def _do(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(DEADLINE_S)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function in the venues' loop."""

        async def run() -> Any:
            return function(*args)

        return self._do(run())

    def inject(self, venue: str, fault: str, **params: Any) -> None:
        self.call(self.door.inject, {"venue": venue, "fault": fault, **params})

    def clear(self) -> None:
        for venue in self.simulated.venues:
            self.inject(venue, "clear")

    def clock(self, **asked: float) -> int:
        return int(self._do(self.door.set_clock(asked))["now_ns"])

    def state(self) -> dict[str, Any]:
        return self.call(self.door.state)

    def connections(self, venue: str) -> list[str]:
        return [each["conn_id"] for each in self.state()["venues"][venue]["connections"]]

    def truth(self, inst_id: str) -> tuple[Any, ...]:
        for venue in self.state()["venues"].values():
            if inst_id in venue["truth"]:
                return _top(venue["truth"][inst_id])
        raise KeyError(inst_id)

    def watch(self, inst_id: str) -> None:
        """Remember the true tops of a book of OKX from now on."""
        self.simulated.watched.setdefault(inst_id, deque(maxlen=TRUTHS_KEPT))

    def was_true(self, price: Price, within_s: float = TRUE_WITHIN_S) -> bool:
        """Tell whether a price was the top of its book at most so long before it was received."""
        told = (price.bid, price.bid_amount, price.ask, price.ask_amount)
        tops = list(self.simulated.watched[price.inst_id])
        ends = [at for at, _ in tops[1:]] + [time.time_ns()]
        return any(
            top == told and at <= price.ts_recv and end >= price.ts_recv - within_s * 1e9
            for (at, top), end in zip(tops, ends, strict=True)
        )

    @property
    def addresses(self) -> dict[str, tuple[str, str]]:
        okex, bitmex = self.simulated.base("okex"), self.simulated.base("bitmex")
        return {
            "okex": (okex, okex.replace("http", "ws") + "/ws/v5"),
            "bitmex": (bitmex, bitmex.replace("http", "ws") + "/realtime"),
        }

    def stop(self) -> None:
        self._do(self.simulated.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE_S)
        self._loop.close()


class Log:
    """What came out of markets, in order, from any thread; a test waits for what it wants to see."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.prices: list[tuple[Price, bool]] = []  # and whether get_ticker() answered at that moment
        self.health: list[Health] = []
        self.redis: list[tuple[str, dict[str, Any]]] = []
        self.screen: list[dict[str, str]] = []  # the reason of each leg, after each event
        self.others: list[Any] = []

    def add(self, where: str, what: Any) -> None:
        with self._changed:
            getattr(self, where).append(what)
            self._changed.notify_all()

    def mark(self) -> "Mark":
        with self._changed:
            return Mark(self)

    def wait(self, condition: Callable[[], Any], timeout_s: float = DEADLINE_S) -> Any:
        """Wait until something holds; whatever comes in makes it look again, and so does a while."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not (value := condition()):
                left_s = deadline - time.monotonic()
                assert left_s > 0, "it did not come in time"
                self._changed.wait(min(left_s, 0.05))
        return value

    def listen(self, market: Market) -> None:
        """Note every price and health record of a market."""
        market.register_callbacks(
            {
                "price": lambda price: self.add("prices", (price, market.get_ticker() is not None)),
                "health": lambda health: self.add("health", health),
            }
        )


class Mark:
    """The part of a log from some moment on."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._from = {name: len(getattr(log, name)) for name in ("prices", "health", "redis", "screen")}

    def prices(self, market: str) -> list[Price]:
        return [price for price, _ in self._log.prices[self._from["prices"] :] if price.market == market]

    def reasons(self, market: str) -> list[str]:
        """Why prices were stale, each in a row once."""
        reasons = [price.reason for price in self.prices(market) if price.verdict != LIVE]
        return [str(reason) for reason, _ in itertools.groupby(reasons)]

    def tickers(self, market: str) -> list[tuple[str, bool]]:
        """Verdicts, and whether get_ticker() answered at that moment."""
        pairs = self._log.prices[self._from["prices"] :]
        return [(price.verdict, has) for price, has in pairs if price.market == market]

    def states(self, market: str) -> list[str]:
        health = self._log.health[self._from["health"] :]
        return [each.state for each in health if each.market == market and each.state != "heartbeat"]

    def health(self, market: str) -> list[Health]:
        return [each for each in self._log.health[self._from["health"] :] if each.market == market]

    def screen(self, leg: str) -> list[str]:
        reasons = (legs[leg] for legs in self._log.screen[self._from["screen"] :])
        return [reason for reason, _ in itertools.groupby(reasons)]

    def redis(self, channel: str, market: str) -> list[dict[str, Any]]:
        found = self._log.redis[self._from["redis"] :]
        return [record for name, record in found if name == channel and record["market"] == market]


def settings(**changes: Any) -> MyConfiguration:
    """Return a configuration that waits for nothing long."""
    values = {
        "reconnect_base_s": 0.05,
        "reconnect_ceiling_s": 0.2,
        "book_silence_s": BOOK_SILENCE_S,
        "rest_timeout_s": 3,
        "connect_timeout_s": 3,
        "book_lag_s": 30,  # tests make the clocks of venues stand still
        "depth_interval_ms": 50,
        **changes,
    }
    return MyConfiguration("dev", {f"DQUANT_{name.upper()}": str(value) for name, value in values.items()})


@pytest.fixture(scope="module")
def quick() -> Iterator[None]:
    """Look at clocks more often, and let a module of faults ask for snapshots as often as it needs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conversation, "TICK_S", 0.1)
        patch.setattr(book_watch, "RESYNC_REFILL_S", 0.2)
        yield


@pytest.fixture(scope="session")
def make_venues() -> Callable[..., Venues]:
    """Make venues of a test's own; who makes them stops them."""
    return Venues


@pytest.fixture(scope="module")
def venues(quick: None) -> Iterator[Venues]:
    """Start both venues at a quiet hour, for all tests of a module."""
    venues = Venues(QUIET_NS)
    yield venues
    venues.stop()


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture(scope="session")
def make_log() -> Callable[[], Log]:
    return Log


@pytest.fixture(scope="session")
def make_settings() -> Callable[..., MyConfiguration]:
    return settings


@pytest.fixture
def make_market(log: Log) -> Iterator[Callable[..., Market]]:
    """Make markets against venues, listened to by ``log``; all are stopped after the test."""
    made: list[Market] = []

    def make(venues: Venues, name: str = OKEX, *, is_started: bool = True, **changes: Any) -> Market:
        (market,) = create_markets([name], settings(**changes), venues.addresses)
        log.listen(market)
        made.append(market)
        if is_started:
            market.start()
        return market

    yield make
    assert all(market.stop() for market in made)


@pytest.fixture
def faultless(venues: Venues) -> Iterator[None]:
    """Lift what a test broke."""
    yield
    venues.clear()


@pytest.fixture(scope="module")
def redis_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisSettings]:
    """Start a real Valkey on a free port."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    directory: Path = tmp_path_factory.mktemp("valkey")
    config = f'bind 127.0.0.1\nport {port}\nsave ""\ndir {directory}\n'
    process = subprocess.Popen([find_binary(), "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        assert process.stdin is not None
        with process.stdin as stdin, contextlib.suppress(BrokenPipeError):
            stdin.write(config.encode())
        deadline = time.monotonic() + DEADLINE_S
        while not probe("127.0.0.1", port):
            assert time.monotonic() < deadline, "Valkey did not start"
            time.sleep(0.005)
        yield RedisSettings(port=port, reply_timeout_s=1.0)
    finally:
        process.kill()
        process.wait()
