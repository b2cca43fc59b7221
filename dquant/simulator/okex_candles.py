"""Candles of the simulated OKX, by REST and as channels: of trades, of mark prices and of indices.

In: the feeds, the reference prices, a query or who listens to what, virtual time. Out: rows, newest first, or
``(subscription, frame text)``. Written from the fact sheet, sections 1, 5.10 and 7: past what is kept, or
before a contract was listed, comes an empty list. A channel tells the open candle as it changes, twice a
second, and once more when it closes.
"""

from collections.abc import Collection, Mapping

from dquant.constants import NS_PER_MS
from dquant.simulator import okex_data as data
from dquant.simulator import okex_history as history
from dquant.simulator.bars import Bar, Period
from dquant.simulator.okex_bars import BARS
from dquant.simulator.okex_feed import InstrumentFeed
from dquant.simulator.okex_messages import CANDLES, dump
from dquant.simulator.okex_reference import ReferenceBars

_CADENCE_NS = 500 * NS_PER_MS

Subscription = tuple[str, str]
Rows = list[list[str]]


class Candles:
    """What candles there are; ``kind`` is ``trade``, ``mark`` or ``index``, ``name`` what they are of."""

    def __init__(self, feeds: Mapping[str, InstrumentFeed], references: ReferenceBars) -> None:
        self._feeds, self._references = feeds, references

    def page(self, kind: str, name: str, query: Mapping[str, str], limit: int, now_ns: int) -> Rows | None:
        """Return the candles of a query; None where there are no bars of that size."""
        period = BARS.get(query.get("bar", "") or "1m")
        if period is None:
            return None
        since_ns = 0
        if not query.get("after") and not query.get("before"):
            # The newest are found without putting together all that is kept; months differ in length.
            reach = limit * period.size_ns * (2 if period.months else 1)
            since_ns = max(0, period.start(now_ns - reach))
        bars = self._bars(kind, name, now_ns, period, since_ns)
        times = [bar.start // NS_PER_MS for bar in bars]
        return self._rows(kind, name, history.page_by(bars, times, query, limit), period, now_ns)

    def newest(self, kind: str, name: str, bar: str, now_ns: int) -> Rows:
        """Return the open candle and the one before it, as far as there are any."""
        period = BARS[bar]
        since_ns = period.start(period.start(now_ns) - 1)
        return self._rows(kind, name, self._bars(kind, name, now_ns, period, since_ns), period, now_ns)

    def _bars(self, kind: str, name: str, now_ns: int, period: Period, since_ns: int) -> list[Bar]:
        feed = self._feeds.get(name)
        if kind != "index":
            if feed is None:
                return []
            since_ns = max(since_ns, period.start(feed.listing.listed_ns))
        if kind == "trade":
            assert feed is not None
            return feed.market.day.bars.bars(now_ns, period, since_ns)[::-1]
        return self._references.bars(kind, name, now_ns, period, since_ns)[::-1]

    def _rows(self, kind: str, name: str, bars: list[Bar], period: Period, now_ns: int) -> Rows:
        if kind != "trade":
            return [
                self._references.row(name, bar, is_closed=period.after(bar.start) <= now_ns) for bar in bars
            ]
        feed = self._feeds.get(name)
        if feed is None:
            return []
        return [
            data.candle(feed.listing, feed.market, bar, period.after(bar.start) <= now_ns) for bar in bars
        ]


class CandlePushes:
    """What listeners of candles were shown last."""

    def __init__(self, candles: Candles) -> None:
        self._candles = candles
        self._shown: dict[Subscription, list[str]] = {}
        self._slot = 0

    def first_push(self, subscription: Subscription, now_ns: int) -> str | None:
        """Return the open candle for a new listener; None where there is none yet."""
        rows = self._newest(subscription, now_ns)
        return _push(subscription, rows[0]) if rows else None

    def publish(self, listened: Collection[Subscription], now_ns: int) -> list[tuple[Subscription, str]]:
        """Return what is to be said up to now."""
        pushes: list[tuple[Subscription, str]] = []
        if now_ns // _CADENCE_NS == self._slot:
            return pushes
        self._slot = now_ns // _CADENCE_NS
        for subscription in listened:
            if subscription[0] not in CANDLES:
                continue
            rows, shown = self._newest(subscription, now_ns), self._shown.get(subscription)
            if not rows or rows[0] == shown:
                continue
            self._shown[subscription] = rows[0]
            if shown is not None and len(rows) > 1 and rows[1][0] == shown[0]:
                pushes.append((subscription, _push(subscription, rows[1])))  # it has closed
            pushes.append((subscription, _push(subscription, rows[0])))
        return pushes

    def forget(self, subscription: Subscription) -> None:
        """Note that nobody listens any more."""
        self._shown.pop(subscription, None)

    def _newest(self, subscription: Subscription, now_ns: int) -> Rows:
        channel, name = subscription
        kind, bar = CANDLES[channel]
        return self._candles.newest(kind, name, bar, now_ns)


def _push(subscription: Subscription, row: list[str]) -> str:
    channel, name = subscription
    return dump({"arg": {"channel": channel, "instId": name}, "data": [row]})
