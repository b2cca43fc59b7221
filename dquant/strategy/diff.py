"""The difference between two markets.

``Price`` and ``Health`` events of both legs go in, one ``Difference`` comes out for each
price and for each change of verdict. Pure: no clock, no I/O. Prices and differences are
in quote currency, times ns since the Unix epoch, ages ms.
"""

from typing import ClassVar

from dquant.constants import NS_PER_MS
from dquant.model.events import LIVE, STALE, Difference, Health, Price
from dquant.strategy.leg import Leg

# The difference of two wire prices is a multiple of a tick, but not as floats:
# 84093.5 - 84090.1 is 3.3999999999941792. Rounded to 1e-8 and divided back it is the
# double nearest to the true decimal, hence prints as 3.4, for every tick down to 1e-8 and
# prices below 3e7 (there the spacing of doubles reaches 4e-9). Decimal(repr(price)) would
# be exact for any price, at six times the cost (0.9 against 0.15 µs).
_GRAIN = 1e8


def subtract_prices(left: float, right: float) -> float:
    """Return ``left - right`` without the noise of binary fractions."""
    return round((left - right) * _GRAIN) / _GRAIN


class Diff:
    """Watches market ``a`` against market ``b``; a stale leg gives no numbers.

    Args:
        markets: The names of ``a`` and ``b``.
        environment: Where the prices come from, ``dev`` or ``pro``.

    """

    name: ClassVar[str] = "diff"
    description: ClassVar[str] = "the price difference between two markets, and what of it can be traded"
    market_count: ClassVar[tuple[int, int]] = (2, 2)

    def __init__(self, markets: list[str], environment: str) -> None:
        self.markets = list(markets)
        self.environment = environment
        name_a, name_b = markets
        self._a = Leg(name_a, environment, needs_both_sides=True)
        self._b = Leg(name_b, environment, needs_both_sides=True)
        self.legs = {"a": self._a, "b": self._b}
        self._legs_by_market: dict[str | None, Leg] = {name_a: self._a, name_b: self._b}
        self._difference: Difference | None = None

    def calc_diff(self) -> Difference | None:
        """Return the difference as of the newest event; ``None`` before both legs were seen."""
        if self._a.price is None or self._b.price is None:
            return None
        return self._difference

    def on_event(self, event: Price | Health) -> list[Difference]:
        """Take one event; return the new difference, if the event makes one."""
        leg = self._legs_by_market.get(event.market)
        if leg is None:
            return []
        is_news = leg.receive_price(event) if isinstance(event, Price) else leg.receive_health(event)
        return [self._calculate(event.ts_recv)] if is_news else []

    def on_time(self, now: int) -> list[Difference]:
        """Note the time; return a stale difference when a leg has just become silent."""
        is_a_news, is_b_news = self._a.receive_time(now), self._b.receive_time(now)
        return [self._calculate(now)] if is_a_news or is_b_news else []

    def _calculate(self, now: int) -> Difference:
        a, b = self._a, self._b
        ts_event = 0
        if a.price is not None:
            ts_event = a.price.ts_event
            now = max(now, a.price.ts_recv)
        if b.price is not None:
            ts_event = max(ts_event, b.price.ts_event)
            now = max(now, b.price.ts_recv)
        age_ms = {
            "a": None if a.seen_at is None else (now - a.seen_at) / NS_PER_MS,
            "b": None if b.seen_at is None else (now - b.seen_at) / NS_PER_MS,
        }
        ask_diff = bid_diff = buy_diff = sell_diff = reason = None
        if a.reason or b.reason:
            reason = "; ".join(f"{key}: {leg.reason}" for key, leg in self.legs.items() if leg.reason)
        else:
            a_bid, a_ask = a.both_sides()
            b_bid, b_ask = b.both_sides()
            ask_diff = subtract_prices(a_ask, b_ask)
            bid_diff = subtract_prices(a_bid, b_bid)
            buy_diff = subtract_prices(a_ask, b_bid)
            sell_diff = subtract_prices(a_bid, b_ask)
        self._difference = Difference(
            a.market,
            b.market,
            self.environment,
            STALE if reason else LIVE,
            reason,
            ask_diff,
            bid_diff,
            buy_diff,
            sell_diff,
            ts_event,
            now,
            age_ms,
        )
        return self._difference
