"""Markets in, merged events out: to one consumer in another loop, and to Redis.

A market never waits for either. The consumer sees the newest price of each market; what a
newer price replaced before it was seen is counted in ``conflated``. Changes of state are
kept in a bounded queue, oldest dropped and counted in ``dropped``.
"""

import asyncio
import collections
import functools
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dquant.markets.market import Market
from dquant.model.events import Health, Price

if TYPE_CHECKING:
    from dquant.pipeline.publisher import Publisher
    from dquant.pipeline.redis_link import RedisSettings

MAX_HEALTH_WAITING = 1000


class Datafeed:
    """Collects the records of several market threads for one asyncio loop.

    Args:
        markets: Not started yet; ``start`` and ``stop`` do that.

    """

    def __init__(self, markets: Sequence[Market]) -> None:
        self.markets = list(markets)
        self.publishers: list[Publisher] = []
        self.conflated = 0
        self.dropped = 0
        self._prices: dict[str, Price] = {}
        self._health: collections.deque[Health] = collections.deque(maxlen=MAX_HEALTH_WAITING)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_armed = False
        self._wake = asyncio.Event()

    def publish_to(self, settings: "RedisSettings", *, streams: bool, stream_length: int) -> None:
        """Publish every market to Redis, each from its own loop; call before ``start``."""
        from dquant.pipeline.publisher import Publisher  # redis-py costs whoever does not publish 21 MB

        for market in self.markets:
            publisher = Publisher(
                settings,
                market.environment,
                market.market_name,
                streams=streams,
                stream_length=stream_length,
            )
            market.attach(publisher)
            market.dropped = functools.partial(_lost_by, publisher)
            market.register_callbacks(
                {
                    "price": publisher.publish_price,
                    "depth": publisher.publish_depth,
                    "trade": publisher.publish_trade,
                    "health": publisher.publish_health,
                }
            )
            self.publishers.append(publisher)

    def start(self, *, wants_prices: bool = True) -> None:
        """Start the markets; call it in the loop that will await ``next_events``.

        Args:
            wants_prices: Whether each price wakes this loop; a feed that only publishes does without.

        """
        self._loop = asyncio.get_running_loop()
        for market in self.markets:
            market.register_callbacks({"health": self._put_health})
            if wants_prices:
                market.register_callbacks({"price": self._put_price})
            market.start()

    async def stop(self, timeout_s: float) -> list[str]:
        """Stop all markets at once; return the names of those that did not end in time."""
        return await asyncio.to_thread(self._stop, timeout_s)

    def _stop(self, timeout_s: float) -> list[str]:
        deadline = time.monotonic() + timeout_s
        for market in self.markets:
            market.ask_to_stop(timeout_s)
        left = (max(0.0, deadline - time.monotonic()) for _ in self.markets)
        return [
            market.market_name
            for market, left_s in zip(self.markets, left, strict=True)
            if not market.stop(left_s)
        ]

    def take_health(self) -> list[Health]:
        """Return the changes of state and heartbeats since the last call; never waits."""
        taken = []
        while self._health:
            taken.append(self._health.popleft())
        return taken

    def published(self) -> int:
        """Return how many prices left for Redis since the start."""
        return sum(publisher.published for publisher in self.publishers)

    def lost(self) -> int:
        """Return how many records the publishers conflated or lost since the start."""
        return sum(map(_lost_by, self.publishers))

    async def next_events(self, timeout_s: float) -> list[Price | Health]:
        """Return what is new, oldest first; empty when nothing came within ``timeout_s``."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._wake.wait()
        except TimeoutError:
            return []
        self._wake.clear()
        self._is_armed = False  # before the look: what comes from here on wakes us again
        events: list[Price | Health] = [*self.take_health()]
        for market in self.markets:
            price = self._prices.pop(market.market_name, None)
            if price is not None:
                events.append(price)
        events.sort(key=_received)
        return events

    def failed(self) -> list[Market]:
        """Return the markets whose threads ended by a failure."""
        return [market for market in self.markets if market.failure is not None]

    def _put_price(self, price: Price) -> None:
        # In the market's thread. One dict operation a price: the interpreter makes it atomic.
        assert price.market is not None
        if price.market in self._prices:
            self.conflated += 1
        self._prices[price.market] = price
        if not self._is_armed:
            self._arm()

    def _put_health(self, health: Health) -> None:
        if len(self._health) == MAX_HEALTH_WAITING:
            self.dropped += 1
        self._health.append(health)
        if not self._is_armed:
            self._arm()

    def _arm(self) -> None:
        self._is_armed = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake.set)


def _lost_by(publisher: "Publisher") -> int:
    return publisher.dropped + publisher.conflated


def _received(event: Price | Health) -> int:
    return event.ts_recv
