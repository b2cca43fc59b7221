"""A consumer sees the newest price of each market and every change of state, and holds up no market."""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

from dquant.datafeed import MAX_HEALTH_WAITING, Datafeed
from dquant.markets.market import Market
from dquant.model.events import LIVE, Health, Price

DEADLINE_S = 10.0


class FakeMarket:
    """What ``Datafeed`` uses of a market; the test calls the callbacks, from whatever thread."""

    def __init__(self, name: str, *, ends: bool = True) -> None:
        self.market_name = name
        self.environment = "dev"
        self.failure: BaseException | None = None
        self.callbacks: dict[str, list[Callable[[Any], None]]] = {}
        self.is_started = self.is_stopped = False
        self._ends = ends

    def register_callbacks(self, callbacks: Mapping[str, Callable[[Any], None]]) -> None:
        for kind, callback in callbacks.items():
            self.callbacks.setdefault(kind, []).append(callback)

    def start(self) -> None:
        assert "health" in self.callbacks, "started before anybody listened"
        self.is_started = True

    def stop(self, timeout_s: float) -> bool:
        self.is_stopped = True
        return self._ends

    def say(self, record: Price | Health) -> None:
        for callback in self.callbacks.get("price" if isinstance(record, Price) else "health", []):
            callback(record)


def make(*names: str) -> tuple[Datafeed, list[FakeMarket]]:
    markets = [FakeMarket(name) for name in names]
    return Datafeed(cast("list[Market]", markets)), markets


def price(market: str, ts: int, bid: float = 1.0) -> Price:
    return Price(market, "X", "dev", ts, bid, 1.0, bid + 1, 1.0, LIVE, None, ts, ts)


def health(market: str, ts: int, state: str = "live") -> Health:
    return Health(market, "X", "dev", ts, state, None, LIVE, 0, 0, 0, 0, 0, ts)


async def test_the_newest_price_of_each_market_comes_with_what_it_replaced_counted() -> None:
    feed, (a, b) = make("a", "b")
    feed.start()
    assert a.is_started
    assert b.is_started
    for ts in (1, 2, 5):
        a.say(price("a", ts))
    b.say(price("b", 3))
    assert await feed.next_events(DEADLINE_S) == [price("b", 3), price("a", 5)]
    assert feed.conflated == 2
    assert await feed.next_events(0.01) == []
    a.say(price("a", 6))
    assert await feed.next_events(DEADLINE_S) == [price("a", 6)]
    assert feed.conflated == 2


async def test_changes_of_state_are_not_conflated_and_stand_in_order_with_prices() -> None:
    feed, (a,) = make("a")
    feed.start()
    a.say(health("a", 1, "connected"))
    a.say(price("a", 2))
    a.say(health("a", 3, "stale"))
    assert await feed.next_events(DEADLINE_S) == [
        health("a", 1, "connected"),
        price("a", 2),
        health("a", 3, "stale"),
    ]


async def test_changes_of_state_that_nobody_takes_are_bounded_and_the_newest_kept() -> None:
    feed, (a,) = make("a")
    feed.start()
    for ts in range(MAX_HEALTH_WAITING + 50):
        a.say(health("a", ts))
    taken = feed.take_health()
    assert len(taken) == MAX_HEALTH_WAITING
    assert taken[-1].ts_recv == MAX_HEALTH_WAITING + 49
    assert feed.take_health() == []


async def test_a_feed_that_only_publishes_is_not_woken_by_prices() -> None:
    feed, (a,) = make("a")
    feed.start(wants_prices=False)
    assert "price" not in a.callbacks


async def test_no_price_of_a_busy_thread_is_the_last_and_unseen() -> None:
    """The consumer ends up with the newest price of each market, whatever the threads do meanwhile."""
    feed, markets = make("a", "b", "c")
    feed.start()
    total = 20_000

    def talk(market: FakeMarket) -> None:
        for ts in range(1, total + 1):
            market.say(price(market.market_name, ts))

    threads = [threading.Thread(target=talk, args=[market]) for market in markets]
    newest = dict.fromkeys("abc", 0)
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + DEADLINE_S
    while set(newest.values()) != {total}:
        assert time.monotonic() < deadline, f"woken too seldom: {newest}"
        for event in await feed.next_events(1.0):
            assert isinstance(event, Price)
            assert event.market is not None
            assert event.ts_recv > newest[event.market]
            newest[event.market] = event.ts_recv
    for thread in threads:
        thread.join()


async def test_a_wait_ends_at_its_time() -> None:
    feed, _ = make("a")
    feed.start()
    started = time.monotonic()
    assert await feed.next_events(0.05) == []
    assert 0.04 < time.monotonic() - started < 5.0


async def test_stopping_names_the_markets_that_did_not_end() -> None:
    markets = [FakeMarket("a"), FakeMarket("b", ends=False)]
    feed = Datafeed(cast("list[Market]", markets))
    feed.start()
    assert await feed.stop(0.1) == ["b"]
    assert all(market.is_stopped for market in markets)


async def test_a_market_whose_thread_failed_is_named() -> None:
    feed, (a, b) = make("a", "b")
    assert feed.failed() == []
    b.failure = RuntimeError("x")
    assert feed.failed() == [b]
    assert a.failure is None


def test_a_market_that_speaks_after_the_loop_is_gone_is_no_error() -> None:
    feed, (a,) = make("a")

    async def once() -> None:
        feed.start()

    asyncio.run(once())
    a.say(price("a", 1))
    a.say(health("a", 2))
