"""What is known of one market: its newest price, its health, and whether the price may be used.

``Price`` and ``Health`` events and the time go in; the verdict, with its reason, is an
attribute. Pure: no clock, no I/O. Times are ns since the Unix epoch.

The rule that everything here serves: a price that is in doubt is not used again. What
puts it in doubt may be a stale ``Price``, a stale ``Health`` or silence; only a newer
live ``Price`` takes the doubt away.

Newer is told by ``ts_recv``, but a clock may be set back, and what it said before is in the future
then. Prices come in their order, and so does health: a time that goes back among either tells of it.
"""

from dquant.constants import FEED_SILENCE_S, NS_PER_S
from dquant.model.events import LIVE, STALE, Health, Price, Verdict

NOT_SEEN = "not seen yet"
SILENT = "silent"
NO_REASON = "no reason given"

_SILENCE_NS = int(FEED_SILENCE_S * NS_PER_S)


class Leg:
    """One market as a strategy sees it.

    Args:
        market: The market's name, as its events carry it.
        environment: Where its prices must come from; others are never used.
        needs_both_sides: Whether a top without a bid or an ask is of no use.

    Attributes:
        price: The newest price, believed or not; read ``top`` instead to trade or show it.
        health: The newest health event.
        reason: Why the price may not be used; empty while it may.
        seen_at: ``ts_recv`` of the newest price that could be used.

    """

    __slots__ = (
        "_doubted_at",
        "_heard_at",
        "_is_beating",
        "_is_heard",
        "environment",
        "health",
        "market",
        "needs_both_sides",
        "price",
        "reason",
        "seen_at",
    )

    def __init__(self, market: str, environment: str, *, needs_both_sides: bool = False) -> None:
        self.market = market
        self.environment = environment
        self.needs_both_sides = needs_both_sides
        self.price: Price | None = None
        self.health: Health | None = None
        self.reason = NOT_SEEN
        self.seen_at: int | None = None
        self._doubted_at = 0
        self._heard_at = 0
        self._is_heard = False
        self._is_beating = False

    @property
    def verdict(self) -> Verdict:
        """Return ``live`` while the price may be used."""
        return STALE if self.reason else LIVE

    @property
    def top(self) -> Price | None:
        """Return the price if it may be used."""
        return None if self.reason else self.price

    def both_sides(self) -> tuple[float, float]:
        """Return bid and ask of a leg that may be used and needs both."""
        price = self.price
        if self.reason or price is None or price.bid is None or price.ask is None:
            raise ValueError(f"{self.market} has no bid and ask to use: {self.reason or 'one-sided'}")
        return price.bid, price.ask

    @property
    def inst_id(self) -> str:
        """Return the instrument as the venue names it, empty until an event named it."""
        if self.price is not None and self.price.inst_id:
            return self.price.inst_id
        return self.health.inst_id if self.health is not None else ""

    def receive_price(self, price: Price) -> bool:
        """Take the market's next price; tell whether it counts."""
        self._is_heard = True
        if self.price is not None and price.ts_recv < self.price.ts_recv:
            self._receive_set_back(price.ts_recv)
        if price.verdict == LIVE and price.ts_recv < self._doubted_at:
            return False  # health overtook it: this is from before the doubt
        self.price = price
        if price.environment != self.environment:
            self.reason = f"prices of {price.environment}, not of {self.environment}"
        elif price.verdict != LIVE:
            self.reason = price.reason or NO_REASON
        elif self.needs_both_sides and (price.bid is None or price.ask is None):
            self.reason = (
                "empty book" if price.bid is price.ask else "no bid" if price.bid is None else "no ask"
            )
        else:
            self.reason = ""
            self.seen_at = price.ts_recv
        return True

    def receive_health(self, health: Health) -> bool:
        """Take the market's health; tell whether the verdict or its reason changed."""
        is_set_back = self.health is not None and health.ts_recv < self.health.ts_recv
        if is_set_back:
            self._receive_set_back(health.ts_recv)
        self.health = health
        self._is_heard = True
        if health.state == "heartbeat":
            self._is_beating = True
        if health.verdict == LIVE:
            return False
        if self.price is not None and health.ts_recv < self.price.ts_recv and not is_set_back:
            return False
        self._doubted_at = health.ts_recv
        reason = health.reason or self.reason
        if not health.reason and self.reason in ("", NOT_SEEN):
            reason = NO_REASON if health.state == "heartbeat" else health.state
        is_news = reason != self.reason
        self.reason = reason
        return is_news

    def receive_time(self, now: int) -> bool:
        """Note the time; tell whether the market has just become silent.

        A market that sends heartbeats is silent after ``FEED_SILENCE_S`` without any event.
        Only this clock is read for it, so that a feed whose clock is off is not called silent.
        """
        if self._is_heard or not self._heard_at:
            self._is_heard = False
            self._heard_at = now
            return False
        self._heard_at = min(self._heard_at, now)  # our clock may have been set back
        if not self._is_beating or self.reason == SILENT or now - self._heard_at <= _SILENCE_NS:
            return False
        self.reason = SILENT
        return True

    def _receive_set_back(self, now: int) -> None:
        """Note that the market's clock was set back: what it says from here on is newer than any doubt."""
        self._doubted_at = min(self._doubted_at, now)
