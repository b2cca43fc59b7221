"""Each fault of the simulated venues, seen from the screen, from Redis and from ``get_ticker()``.

Two markets run in a feed that publishes to a real Valkey; one venue is broken and the other is not.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from redis.asyncio import Redis

from dquant.datafeed import Datafeed
from dquant.markets import conversation
from dquant.markets.bitmex._bitmex_protocol import BitmexPublicProtocol
from dquant.markets.market import Market
from dquant.markets.market_factory import create_markets
from dquant.markets.okex._okex_protocol import OkexPublicProtocol
from dquant.model.events import LIVE, STALE, MarkPrice
from dquant.pipeline.redis_link import RedisSettings
from dquant.strategy.strategy import create_strategy
from dquant.strategy.view import create_screen
from dquant.util import now_ns

OKEX, BITMEX = "okex_future_btcusd_thisweek", "bitmex_future_btcusd"
LEGS = {OKEX: "a", BITMEX: "b"}
NAMES = {"okex": OKEX, "bitmex": BITMEX}


class Rig:
    """What ``watch`` and ``feed`` do together, in a thread of its own, and a log of all that came out."""

    def __init__(self, markets: list[Market], redis: RedisSettings, log: Any) -> None:
        self.log = log
        self.markets = {market.market_name: market for market in markets}
        self.screen = create_screen(create_strategy("diff", [OKEX, BITMEX], "dev"))
        self._feed_markets, self._redis = markets, redis
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="rig")
        for market in markets:
            log.listen(market)
        self._thread.start()

    async def _run(self) -> None:
        feed = Datafeed(self._feed_markets)
        feed.publish_to(self._redis, streams=False, stream_length=10)
        async with Redis(port=self._redis.port) as client, client.pubsub() as pubsub:
            await pubsub.subscribe("health", *(f"price:{name}" for name in self.markets))
            listener = asyncio.create_task(self._listen(pubsub))
            feed.start()
            seen: dict[str, str] = {}
            while not self._is_stopping.is_set():
                for event in await feed.next_events(0.1):
                    self.screen.update(event)
                    reasons = {key: leg.reason for key, leg in self.screen.legs.items()}
                    if reasons != seen:
                        seen = reasons
                        self.log.add("screen", reasons)
                self.screen.on_time(now_ns())
            assert await feed.stop(5.0) == []
            listener.cancel()
            await asyncio.wait({listener})

    async def _listen(self, pubsub: Any) -> None:
        import msgspec

        async for message in pubsub.listen():
            if message["type"] == "message":
                record = msgspec.json.decode(message["data"])
                self.log.add("redis", (message["channel"].decode().partition(":")[0], record))

    def is_live(self) -> bool:
        """Tell whether everybody sees both markets live."""
        return all(
            market.get_ticker() is not None
            and self.log.screen
            and not self.log.screen[-1][LEGS[name]]
            and self._newest_on_redis(name) == LIVE
            for name, market in self.markets.items()
        )

    def _newest_on_redis(self, name: str) -> str | None:
        verdicts = (
            record["verdict"]
            for channel, record in reversed(self.log.redis)
            if channel == "price" and record["market"] == name
        )
        return next(verdicts, None)

    def stop(self) -> None:
        self._is_stopping.set()
        self._thread.join(10.0)
        assert not self._thread.is_alive()


@pytest.fixture(scope="module")
def rig(
    venues: Any,
    redis_settings: RedisSettings,
    make_log: Callable[[], Any],
    make_settings: Callable[..., Any],
) -> Iterator[Rig]:
    markets = create_markets([OKEX, BITMEX], make_settings(), venues.addresses)
    rig = Rig(markets, redis_settings, make_log())
    rig.log.wait(rig.is_live)
    watched = rig.markets[OKEX].price.inst_id
    venues.watch(watched)
    rig.log.wait(lambda: venues.simulated.watched[watched])  # what came before its first truth is not judged
    yield rig
    rig.stop()


@pytest.fixture(autouse=True)
def _sound(rig: Rig, venues: Any) -> Iterator[None]:
    """Begin with both markets live, and leave no fault behind."""
    rig.log.wait(rig.is_live)
    yield
    venues.clear()


@dataclass(frozen=True)
class Case:
    """A fault, and the reason that it must give; no reason: the price stays live."""

    venue: str
    fault: str
    reason: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    is_of_book: bool = False
    then: str = ""  # a second fault

    def __str__(self) -> str:
        return f"{self.venue}-{self.fault}-{self.reason or 'live'}".replace(" ", "-")


BOTH = [
    case
    for venue, silence in (("okex", "silent for 1 s"), ("bitmex", "silent"))
    for case in (
        Case(venue, "drop", "connection lost"),
        Case(venue, "freeze", silence, {"duration_s": 1.6}, is_of_book=True),
        Case(venue, "silent", silence, {"duration_s": 1.6}),
        Case(venue, "refuse", "connection lost", {"duration_s": 0.6}, then="drop"),
        Case(venue, "idle", is_of_book=True),
        Case(venue, "reset", is_of_book=True),
        Case(venue, "duplicate", is_of_book=True),
        Case(venue, "crossed", "crossed", is_of_book=True),
        Case(venue, "slow", "", {"delay_ms": 150, "duration_s": 0.6}),
        Case(venue, "slow", silence, {"delay_ms": 1700, "duration_s": 0.3}),
    )
]
CASES = [
    *BOTH,
    Case("okex", "gap", "sequence broken", is_of_book=True),
    Case("bitmex", "notice", "connection lost", {"seconds": 0.1}),
    Case("bitmex", "unknown", is_of_book=True),
    Case("bitmex", "sized_delete", is_of_book=True),
    Case("bitmex", "early", "connection lost", is_of_book=True, then="drop"),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_fault_is_told_with_its_reason_everywhere_and_heals(case: Case, rig: Rig, venues: Any) -> None:
    name = NAMES[case.venue]
    other = BITMEX if name == OKEX else OKEX
    market, log = rig.markets[name], rig.log
    params = {**case.params, **({"inst_id": market.price.inst_id} if case.is_of_book else {})}
    before, mark = market.price, log.mark()

    venues.inject(case.venue, case.fault, **params)
    if case.then:
        venues.inject(case.venue, case.then)
    if case.reason:
        log.wait(lambda: mark.redis("price", name)[-1:] and STALE in verdicts(mark.redis("price", name)))
        log.wait(lambda: case.reason in mark.screen(LEGS[name]))
        log.wait(lambda: "resynchronised" in mark.states(name))
    else:
        is_used_up = "duration_s" not in case.params
        log.wait(lambda: not is_used_up or case.fault not in venues.state()["venues"][case.venue]["faults"])
        log.wait(lambda: len(mark.prices(name)) > 20)
    log.wait(rig.is_live)
    log.wait(lambda: mark.redis("price", name) and mark.redis("price", name)[-1]["verdict"] == LIVE)

    # What was said, and to whom.
    wanted = [case.reason] if case.reason else []
    assert mark.reasons(name) == wanted
    assert [reason for reason in mark.screen(LEGS[name]) if reason] == wanted
    on_redis = [record for record in mark.redis("price", name) if record["verdict"] == STALE]
    assert {record["reason"] for record in on_redis} == set(wanted)
    assert all(record["bid"] is record["ask"] is None for record in on_redis)
    assert all(has == (verdict == LIVE) for verdict, has in mark.tickers(name))
    told = [record for record in mark.redis("health", name) if record["state"] == "stale"]
    assert [record["reason"] for record in told] == wanted
    assert {record["verdict"] for record in told} <= {STALE}

    # The other market, and the truth.
    assert mark.reasons(other) == []
    assert not any(mark.screen(LEGS[other]))
    assert market.price.seq > before.seq
    check_truth(mark, name, venues, within_s=1.0 + case.params.get("delay_ms", 0) / 1e3)


@pytest.mark.parametrize("venue", ["okex", "bitmex"])
def test_suspended_instrument_is_stale_everywhere_until_it_trades_again(
    venue: str, rig: Rig, venues: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its book is sound and goes on, on a connection that is kept, and on the next one too."""
    monkeypatch.setattr(conversation, "FIRST_BOOK_S", 0.2)
    monkeypatch.setattr(conversation, "LOST_BOOK_S", 0.2)
    name = NAMES[venue]
    other = BITMEX if name == OKEX else OKEX
    market, log = rig.markets[name], rig.log
    inst_id, mark = market.price.inst_id, log.mark()
    reconnects = market._face.reconnects

    venues.inject(venue, "trading", mode="closed", inst_id=inst_id)
    log.wait(lambda: "suspended" in mark.screen(LEGS[name]))
    suspended = log.mark()
    time.sleep(0.4)  # twice what a connection without a book is kept for
    assert market._face.reconnects == reconnects
    venues.inject(venue, "drop")
    log.wait(lambda: suspended.reasons(name) == ["connection lost", "suspended"])
    assert {price.verdict for price in suspended.prices(name)} == {STALE}
    assert market.get_ticker() is None

    venues.inject(venue, "trading", mode="open", inst_id=inst_id)
    log.wait(rig.is_live)
    assert mark.reasons(name) == ["suspended", "connection lost", "suspended"]
    assert mark.reasons(other) == []
    on_redis = [record for record in mark.redis("price", name) if record["verdict"] == STALE]
    assert ("suspended", None, None) in {(each["reason"], each["bid"], each["ask"]) for each in on_redis}
    check_truth(mark, name, venues)


def verdicts(records: list[dict[str, Any]]) -> list[str]:
    return [record["verdict"] for record in records]


def check_truth(mark: Any, name: str, venues: Any, within_s: float = 1.0) -> None:
    """Assert that what was shown as live was so at its venue, as far as that can be told."""
    live = [price for price in mark.prices(name) if price.verdict == LIVE]
    assert live
    assert all(price.bid < price.ask for price in live)
    if name == OKEX:
        assert [price for price in live if not venues.was_true(price, within_s)] == []
        return
    # BitMEX sends each change in several frames, tops between them were never anybody's:
    # let its market stand still, and the price must be the true one.
    market = mark.prices(name)[-1]
    venues.clock(speed=0)
    try:
        log = mark._log
        log.wait(
            lambda: top_of([p for p, _ in log.prices if p.market == name][-1]) == venues.truth(market.inst_id)
        )
    finally:
        venues.clock(speed=1)


def top_of(price: Any) -> tuple[Any, ...]:
    return price.bid, price.bid_amount, price.ask, price.ask_amount


def test_slow_venue_is_late_everywhere_and_live_again_when_it_has_caught_up(
    make_venues: Any, redis_settings: RedisSettings, make_log: Any, make_settings: Any
) -> None:
    """Everything goes on, below the limit of silence, with prices of three seconds ago: they are not live."""
    venues = make_venues()  # with our clock: by any other nothing is late
    settings = make_settings(book_lag_s=2, book_silence_s=10)
    rig = Rig(create_markets([OKEX, BITMEX], settings, venues.addresses), redis_settings, make_log())
    try:
        rig.log.wait(rig.is_live)
        mark = rig.log.mark()
        for venue in NAMES:
            venues.inject(venue, "slow", delay_ms=3000, duration_s=1.5)
        for name in NAMES.values():
            rig.log.wait(lambda name=name: "late" in mark.screen(LEGS[name]))
            rig.log.wait(lambda name=name: "resynchronised" in mark.states(name))
        rig.log.wait(rig.is_live)

        for name in NAMES.values():
            assert mark.reasons(name) == ["late"]
            assert [reason for reason in mark.screen(LEGS[name]) if reason] == ["late"]
            on_redis = [record for record in mark.redis("price", name) if record["verdict"] == STALE]
            # The other rig tells of the same markets there, in its own words.
            assert ("late", None, None) in {(each["reason"], each["bid"], each["ask"]) for each in on_redis}
            assert all(has == (verdict == LIVE) for verdict, has in mark.tickers(name))
            # Nothing was asked for: a snapshot would have been as late.
            assert rig.markets[name]._face.resyncs == rig.markets[name]._face.reconnects == 0
            live = [price for price in mark.prices(name) if price.verdict == LIVE]
            assert max(price.ts_recv - price.ts_event for price in live) < 2.9 * 10**9
    finally:
        rig.stop()
        venues.stop()


@pytest.mark.parametrize("venue", ["okex", "bitmex"])
def test_half_open_connection_is_given_up_and_the_next_one_heals(
    venue: str, rig: Rig, venues: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither data nor a pong: the silence limit ends the connection before the book is called silent."""
    core = OkexPublicProtocol if venue == "okex" else BitmexPublicProtocol
    monkeypatch.setattr(core, "silence_limit_s", 0.25)
    name, mark = NAMES[venue], rig.log.mark()
    (conn_id,) = venues.connections(venue)

    venues.inject(venue, "silent", conn_id=conn_id)
    rig.log.wait(lambda: "resynchronised" in mark.states(name))

    assert mark.reasons(name) == ["connection lost"]
    assert conn_id not in venues.connections(venue)
    rig.log.wait(rig.is_live)
    assert "connection lost" in mark.screen(LEGS[name])
    check_truth(mark, name, venues)


def test_notice_brings_a_new_connection_before_the_old_one_goes(rig: Rig, venues: Any) -> None:
    """Between the two no price is stale, doubled, older than the one before, or wrong."""
    mark = rig.log.mark()
    (old,) = venues.connections("okex")

    venues.inject("okex", "notice", seconds=30)
    rig.log.wait(lambda: [new for new in venues.connections("okex") if new != old])
    rig.log.wait(lambda: old not in venues.connections("okex"))
    after = rig.log.mark()
    rig.log.wait(lambda: len(after.prices(OKEX)) > 20)

    assert mark.reasons(OKEX) == []
    assert mark.screen("a") == []
    assert set(verdicts(mark.redis("price", OKEX))) == {LIVE}
    assert len(venues.connections("okex")) == 1
    events = [price.ts_event for price in mark.prices(OKEX)]
    assert events == sorted(events)
    check_truth(mark, OKEX, venues)


def test_notice_while_the_venue_refuses_is_tried_again(rig: Rig, venues: Any) -> None:
    """No successor at first: the old connection is kept, the one after that takes over."""
    mark = rig.log.mark()
    (old,) = venues.connections("okex")
    counters = venues.state()["venues"]["okex"]["counters"]

    venues.inject("okex", "refuse")
    venues.inject("okex", "notice", seconds=30)
    rig.log.wait(
        lambda: venues.state()["venues"]["okex"]["counters"].get("refused", 0) > counters.get("refused", 0)
    )
    assert old in venues.connections("okex")
    venues.inject("okex", "clear", kind="refuse")
    rig.log.wait(lambda: old not in venues.connections("okex"))

    assert mark.reasons(OKEX) == []


def test_old_connection_that_ends_during_the_handover_leaves_no_live_price(rig: Rig, venues: Any) -> None:
    """It dies while its successor waits for a book: stale at once, live by the successor."""
    inst_id, mark = rig.markets[OKEX].price.inst_id, rig.log.mark()
    (old,) = venues.connections("okex")

    venues.inject("okex", "slow", delay_ms=400, duration_s=0.5)
    venues.inject("okex", "notice", seconds=0.6)
    venues.inject("okex", "freeze", inst_id=inst_id, duration_s=0.9)
    rig.log.wait(lambda: old not in venues.connections("okex"))
    rig.log.wait(lambda: "connection lost" in mark.reasons(OKEX))
    rig.log.wait(lambda: "resynchronised" in mark.states(OKEX))
    rig.log.wait(rig.is_live)

    assert mark.reasons(OKEX) == ["connection lost"]
    check_truth(mark, OKEX, venues, within_s=1.5)


def test_frozen_book_leaves_the_other_channels_of_its_market_alive(rig: Rig, venues: Any) -> None:
    market, mark = rig.markets[OKEX], rig.log.mark()
    marks: list[float] = []

    def see(event: object) -> None:
        if isinstance(event, MarkPrice) and market.get_ticker() is None:
            marks.append(event.price)
            rig.log.add("others", event)

    market.register_callbacks({"event": see})
    try:
        venues.inject("okex", "freeze", inst_id=market.price.inst_id)
        rig.log.wait(lambda: len(marks) > 2)
        assert not market.update(["ticker"], timeout=0.05)
        assert market.update(["mark"])
        assert market.get_depth() is None
        assert rig.screen.legs["a"].reason == "silent for 1 s"
        assert rig.screen.difference is not None
        assert (rig.screen.difference.verdict, rig.screen.difference.sell_diff) == (STALE, None)
    finally:
        market.remove_callbacks({"event": see})
    venues.clear()
    rig.log.wait(lambda: "resynchronised" in mark.states(OKEX))


def test_counters_go_on_counting_across_connections(rig: Rig, venues: Any) -> None:
    mark = rig.log.mark()
    for _ in range(2):
        states = len(mark.states(OKEX))
        venues.inject("okex", "drop")
        rig.log.wait(lambda count=states: "resynchronised" in mark.states(OKEX)[count:])
    venues.inject("okex", "notice", seconds=30)
    rig.log.wait(lambda: len(mark.health(OKEX)) > 6)

    health = mark.health(OKEX)
    for name in ("messages", "resyncs", "reconnects", "quarantined"):
        counts = [getattr(each, name) for each in health]
        assert counts == sorted(counts), name
    assert health[-1].reconnects - health[0].reconnects == 2
    sent = venues.state()["venues"]["okex"]["counters"]["frames"]
    assert health[-1].messages < 2 * sent  # nothing is counted twice


def test_lost_bitmex_delta_never_shows_a_crossed_book(rig: Rig, venues: Any) -> None:
    """BitMEX numbers nothing, so a lost delta shows by what it leads to or by its quote; that must heal."""
    market, mark = rig.markets[BITMEX], rig.log.mark()

    venues.inject("bitmex", "gap", inst_id=market.price.inst_id, count=3)
    rig.log.wait(lambda: "gap" not in venues.state()["venues"]["bitmex"]["faults"])
    rig.log.wait(lambda: len(mark.prices(BITMEX)) > 100)

    assert set(mark.reasons(BITMEX)) <= {"crossed", "unknown levels", "quote disagrees"}
    assert all(price.bid < price.ask for price in mark.prices(BITMEX) if price.verdict == LIVE)
    venues.inject("bitmex", "drop")
    rig.log.wait(lambda: "connection lost" in mark.reasons(BITMEX))


def test_heartbeats_tell_the_verdict_of_the_price(rig: Rig) -> None:
    mark = rig.log.mark()
    started = time.monotonic()
    rig.log.wait(lambda: len([h for h in mark.health(OKEX) if h.state == "heartbeat"]) >= 2)

    assert time.monotonic() - started < 3.0
    beats = [h for h in mark.health(OKEX) if h.state == "heartbeat"]
    assert {(beat.verdict, beat.reason) for beat in beats} == {(LIVE, None)}
    assert beats[1].messages > beats[0].messages
