"""The prices of any number of markets, each as it comes.

``Price`` and ``Health`` events go in, ``Price`` records come out. A market that is in
doubt for a reason that its own prices do not tell (its health, its silence, a foreign
environment) gives a stale record without prices. Pure: no clock, no I/O.
"""

from typing import ClassVar

import msgspec

from dquant.model.events import STALE, Health, Price
from dquant.strategy.leg import Leg


class Ticker:
    """Shows the price of each market.

    Args:
        markets: The names of the markets.
        environment: Where the prices come from, ``dev`` or ``pro``.

    """

    name: ClassVar[str] = "ticker"
    description: ClassVar[str] = "the best bid and ask of each market"
    market_count: ClassVar[tuple[int, int]] = (1, 64)

    def __init__(self, markets: list[str], environment: str) -> None:
        self.markets = list(markets)
        self.environment = environment
        self.legs: dict[str, Leg] = {market: Leg(market, environment) for market in markets}

    def on_event(self, event: Price | Health) -> list[Price]:
        """Take one event; return the price to show, if the event brings or changes one."""
        leg = self.legs.get(event.market) if event.market is not None else None
        if leg is None:
            return []
        if isinstance(event, Price):
            if not leg.receive_price(event):
                return []
            return [event if not leg.reason or event.verdict == STALE else self._stale(leg, event.ts_recv)]
        return [self._stale(leg, event.ts_recv)] if leg.receive_health(event) else []

    def on_time(self, now: int) -> list[Price]:
        """Note the time; return a stale record of each market that has just become silent."""
        return [self._stale(leg, now) for leg in self.legs.values() if leg.receive_time(now)]

    def _stale(self, leg: Leg, now: int) -> Price:
        if leg.price is None:
            return Price(
                *(leg.market, leg.inst_id, self.environment, 0),
                *(None, None, None, None),
                STALE,
                leg.reason,
                0,
                now,
            )
        return msgspec.structs.replace(
            leg.price,
            bid=None,
            bid_amount=None,
            ask=None,
            ask_amount=None,
            verdict=STALE,
            reason=leg.reason,
            ts_recv=now,
        )
