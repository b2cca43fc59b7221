"""Markets merged for one consumer in another loop, and handed to Redis."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from dquant.datafeed import MAX_HEALTH_WAITING, Datafeed
from dquant.markets.face import MarketSink
from dquant.markets.market import Market
from dquant.markets.market_factory import SPECS
from dquant.model.events import BookStale, Health, Price, TopOfBook
from dquant.pipeline.redis_link import RedisSettings
from dquant.util import now_ns

OKEX, BITMEX = "okex_future_btcusd_thisweek", "bitmex_future_btcusd"
DEADLINE_S = 10.0


class FakeFace:
    """Stays connected to nothing; the test calls its market in the market's own loop."""

    messages = resyncs = quarantined = reconnects = 0

    def __init__(self, sink: MarketSink) -> None:
        self.sink = sink
        self.is_up = threading.Event()
        self.loop: asyncio.AbstractEventLoop
        self.failure: Exception | None = None
        self._end: asyncio.Event

    async def keep_connect(self) -> None:
        self.loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        self.is_up.set()
        await self._end.wait()
        raise RuntimeError("for the test")

    def fail(self) -> None:
        self.loop.call_soon_threadsafe(self._end.set)

    def sub_channel(self, channel: str) -> None: ...

    def depth(self, levels: int) -> None:
        return None

    def say(self, *events: TopOfBook | BookStale) -> None:
        """Let the market hear events, all in one wake-up of its loop, and wait until it has."""
        done = threading.Event()

        def run() -> None:
            for event in events:
                if isinstance(event, TopOfBook):
                    self.sink.on_top(msgspec.structs.replace(event, ts_recv=now_ns()))
                else:
                    self.sink.on_event(event)
            done.set()

        assert self.is_up.wait(DEADLINE_S)
        self.loop.call_soon_threadsafe(run)
        assert done.wait(DEADLINE_S)


def top(bid: float) -> TopOfBook:
    return TopOfBook("X", bid, 1.0, bid + 1, 1.0, 0, 0)


class Bench:
    def __init__(self) -> None:
        self.faces: dict[str, FakeFace] = {}
        self.markets = [Market(SPECS[name], "dev", self._maker(name)) for name in (OKEX, BITMEX)]
        self.feed = Datafeed(self.markets)

    def _maker(self, name: str) -> Callable[[MarketSink], FakeFace]:
        def make(sink: MarketSink) -> FakeFace:
            self.faces[name] = FakeFace(sink)
            return self.faces[name]

        return make

    async def say(self, name: str, *events: TopOfBook | BookStale) -> None:
        await asyncio.to_thread(self.faces[name].say, *events)

    async def prices(self, count: int) -> list[Price]:
        """Take prices until there were so many."""
        found: list[Price] = []
        async with asyncio.timeout(DEADLINE_S):
            while len(found) < count:
                found += [event for event in await self.feed.next_events(1.0) if isinstance(event, Price)]
        return found


@pytest.fixture
async def bench():
    bench = Bench()
    yield bench
    assert await bench.feed.stop(5.0) == []


async def test_prices_of_both_markets_come_in_order_of_their_time(bench: Bench) -> None:
    bench.feed.start()
    await bench.say(BITMEX, top(1.0))
    await bench.say(OKEX, top(2.0))

    assert [(price.market, price.bid) for price in await bench.prices(2)] == [(BITMEX, 1.0), (OKEX, 2.0)]


async def test_consumer_sees_the_newest_price_and_what_it_missed_is_counted(bench: Bench) -> None:
    bench.feed.start()
    await bench.say(OKEX, *(top(float(number)) for number in range(1, 51)))

    assert [price.bid for price in await bench.prices(1)] == [50.0]
    assert bench.feed.conflated == 49
    assert not any(isinstance(event, Price) for event in await bench.feed.next_events(0.01))


async def test_doubt_is_told_even_where_a_newer_price_has_replaced_it(bench: Bench) -> None:
    bench.feed.start()
    await bench.say(OKEX, top(1.0))
    await bench.prices(1)
    await bench.say(OKEX, BookStale("X", "sequence broken", 0), top(2.0))
    events: list[Price | Health] = []
    async with asyncio.timeout(DEADLINE_S):
        while not any(isinstance(event, Price) for event in events):
            events += await bench.feed.next_events(1.0)

    told = [
        (event.state, event.reason) if isinstance(event, Health) else event.bid
        for event in events
        if not (isinstance(event, Health) and event.state in ("heartbeat", "connecting"))
    ]
    assert told == [("stale", "sequence broken"), 2.0, ("resynchronised", None)]


async def test_waiting_ends_when_nothing_comes(bench: Bench) -> None:
    bench.feed.start()
    for name in (OKEX, BITMEX):
        await asyncio.to_thread(bench.faces[name].is_up.wait, DEADLINE_S)
    await bench.feed.next_events(0.1)
    started = time.monotonic()
    events = await bench.feed.next_events(0.05)

    assert time.monotonic() - started < 1.0
    assert all(isinstance(event, Health) for event in events)


async def test_no_price_is_lost_between_two_looks(bench: Bench) -> None:
    """Many small batches: the last price of each is always seen, however the wake-ups fall."""
    bench.feed.start()
    for number in range(1, 200):
        await bench.say(OKEX, top(float(number)))
        assert (await bench.prices(1))[-1].bid == number


async def test_feed_that_only_publishes_wakes_for_health_alone(bench: Bench) -> None:
    bench.feed.start(wants_prices=False)
    await bench.say(OKEX, top(1.0), top(2.0))
    events = await bench.feed.next_events(1.0)

    assert events
    assert all(isinstance(event, Health) for event in events)
    assert bench.feed.conflated == 0


async def test_health_that_nobody_takes_is_bounded_and_the_oldest_goes(bench: Bench) -> None:
    bench.feed.start()
    rounds = MAX_HEALTH_WAITING // 2 + 50
    for _ in range(rounds):
        await bench.say(OKEX, BookStale("X", "crossed", 0), top(1.0))
    health = bench.feed.take_health()

    assert len(health) == MAX_HEALTH_WAITING
    assert bench.feed.dropped >= 2 * rounds - MAX_HEALTH_WAITING
    assert health[-1].state in ("resynchronised", "heartbeat")
    assert bench.feed.take_health() == []


async def test_failed_market_is_named_and_the_other_goes_on(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.feed.start()
    await bench.say(OKEX, top(1.0))
    bench.faces[OKEX].fail()
    await asyncio.to_thread(bench.markets[0].join, DEADLINE_S)
    await bench.say(BITMEX, top(2.0))

    assert bench.feed.failed() == [bench.markets[0]]
    assert bench.markets[0].get_ticker() is None
    assert bench.markets[1].get_ticker() is not None
    assert "loop failed" in caplog.text


async def test_markets_that_hang_are_named_by_stop(bench: Bench) -> None:
    bench.feed.start()
    go_on = threading.Event()
    bench.markets[1].register_callbacks({"price": lambda _: go_on.wait(DEADLINE_S)})
    saying = asyncio.ensure_future(bench.say(BITMEX, top(1.0)))
    while bench.markets[1].price.verdict == "stale":  # noqa: ASYNC110 - another thread's doing
        await asyncio.sleep(0.001)
    try:
        assert await bench.feed.stop(0.1) == [BITMEX]
    finally:
        go_on.set()
        await saying


async def test_many_markets_stop_at_once_within_one_deadline() -> None:
    benches = [Bench() for _ in range(6)]
    feed = Datafeed([market for bench in benches for market in bench.markets])
    go_on = threading.Event()
    for market in feed.markets:
        market.register_callbacks({"health": lambda _: go_on.wait(DEADLINE_S)})
    feed.start()
    started = time.monotonic()
    alive = await feed.stop(0.3)
    took_s = time.monotonic() - started
    go_on.set()

    assert len(alive) == len(feed.markets) == 12
    assert took_s < 0.55  # not one deadline after the other
    assert await feed.stop(5.0) == []


async def test_redis_that_is_not_there_costs_the_market_nothing_and_is_counted(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.feed.publish_to(RedisSettings(port=1), streams=False, stream_length=10)
    assert [publisher.market for publisher in bench.feed.publishers] == [OKEX, BITMEX]
    bench.feed.start()
    await bench.say(OKEX, *(top(float(number)) for number in range(1, 11)))

    assert bench.markets[0].get_ticker() is not None
    assert bench.feed.lost() >= 8
    assert bench.feed.published() == 0  # what feed --count counts
    assert bench.markets[0].dropped() >= 8
    caplog.clear()


async def test_stopping_before_the_start_is_nothing() -> None:
    feed: Any = Bench().feed
    assert await feed.stop(1.0) == []
