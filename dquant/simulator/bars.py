"""Bars of one instrument, from a minute to a quarter: what both venues' candles are read from.

In: every trade (``add``). Out: ``bars(now_ns, period)``, oldest first and without holes: a time in which
nobody traded is a bar that stands still, with no volume. Prices in ticks, sizes in lots, times in ns.

Kept are the newest ``KEPT`` bars of each of ``STEPS``: a day of minutes, five days of five minutes, two
months of hours, 16 months of eight hours. What is older than a step keeps is summed up in the next one. What
was before the start is invented (``Past``), one walk a coin: the basis between its instruments is what it was
at the start.
"""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random

from dquant.constants import NS_PER_S

MINUTE_NS = 60 * NS_PER_S
HOUR_NS = 60 * MINUTE_NS
DAY_NS = 24 * HOUR_NS
KEPT = 1440  # bars of each step
# Days of UTC and of UTC+8 both begin at a whole multiple of eight hours.
STEPS = (MINUTE_NS, 5 * MINUTE_NS, HOUR_NS, 8 * HOUR_NS)
_WALK = 4e-4  # how far an invented minute goes; longer ones by the root of their time


@dataclass(frozen=True, slots=True)
class Period:
    """What a bar stands for.

    Args:
        size_ns: Its length, a whole number of minutes; of months: that of the shortest.
        offset_ns: Where one of them begins, from the epoch; days and longer may begin at an hour that is a
            multiple of eight.
        months: Calendar months, in the day that ``offset_ns`` sets.

    """

    size_ns: int
    offset_ns: int = 0
    months: int = 0

    def start(self, ts: int) -> int:
        """Return when the bar begins that a moment lies in."""
        if not self.months:
            return ts - (ts - self.offset_ns) % self.size_ns
        day = datetime.fromtimestamp((ts - self.offset_ns) // NS_PER_S, UTC)
        month = (day.month - 1) // self.months * self.months + 1
        first = datetime(day.year, month, 1, tzinfo=UTC)
        return int(first.timestamp()) * NS_PER_S + self.offset_ns

    def after(self, start: int) -> int:
        """Return when the bar ends that begins then."""
        return self.start(start + self.months * 32 * DAY_NS) if self.months else start + self.size_ns


MINUTE = Period(MINUTE_NS)


@dataclass(slots=True)
class Bar:
    """One bar; ``value`` is the sum of ticks times lots, ``last_lots`` the size of its last trade."""

    start: int
    open: int
    high: int
    low: int
    close: int
    lots: int = 0
    trades: int = 0
    value: int = 0
    last_lots: int = 0

    def add(self, tick: int, lots: int) -> None:
        """Count one trade."""
        self.close = tick
        self.high, self.low = max(self.high, tick), min(self.low, tick)
        self.lots += lots
        self.trades += 1
        self.value += tick * lots
        self.last_lots = lots

    def join(self, later: "Bar") -> None:
        """Take a later bar into this one."""
        self.close = later.close
        self.high, self.low = max(self.high, later.high), min(self.low, later.low)
        self.lots += later.lots
        self.trades += later.trades
        self.value += later.value
        self.last_lots = later.last_lots or self.last_lots

    def begin(self, start: int) -> "Bar":
        """Return a longer bar that this one is the first part of."""
        return Bar(start, *(getattr(self, name) for name in Bar.__slots__[1:]))


def _still(start: int, tick: int) -> Bar:
    return Bar(start, tick, tick, tick, tick)


@dataclass(frozen=True, slots=True)
class PastBar:
    """A bar of a ``Past``: prices as parts of the first price, and what it traded in usual minutes."""

    start: int
    open: float
    high: float
    low: float
    close: float
    minutes: float

    def of(self, tick: int, minute_lots: int) -> Bar:
        """Return it as a bar of an instrument by its first price and what it trades in a minute."""
        opened, high, low, close = (
            max(1, round(tick * part)) for part in (self.open, self.high, self.low, self.close)
        )
        lots = max(1, int(self.minutes * minute_lots)) if minute_lots else 0
        mean = (opened + high + low + close) // 4
        return Bar(self.start, opened, high, low, close, lots, 1 + lots // 20, mean * lots, 1 + lots // 30)


class Past:
    """What the price of a coin did before the start, worked out when somebody asks.

    Args:
        seed: What the walk comes from.
        start_ns: When it ends.

    """

    __slots__ = ("_rng", "_steps", "_until", "start_ns")

    def __init__(self, seed: str, start_ns: int) -> None:
        self.start_ns = start_ns - start_ns % MINUTE_NS
        self._rng = Random(seed)
        self._steps: list[list[PastBar]] = []  # of each step, newest first
        self._until = (self.start_ns, 1.0)

    def backwards(self, depth: int) -> Iterator[PastBar]:
        """Return the bars of the first steps, newest first; each step goes on where the finer one ends."""
        while len(self._steps) < depth:
            self._walk_back(STEPS[len(self._steps)])
        for bars in self._steps[:depth]:
            yield from bars

    def _walk_back(self, step: int) -> None:
        rng, minutes = self._rng, step // MINUTE_NS
        until, close = self._until
        bars = []
        for _ in range(KEPT):
            start = until - 1 - (until - 1) % step
            share = (until - start) / step  # under 1 where a bar's end is told in finer ones
            reach = _WALK * math.sqrt(minutes * share)
            opened = max(0.05, close * (1.0 + rng.gauss(0.0, reach)))
            high = max(opened, close) * (1.0 + 0.3 * reach * rng.random())
            low = min(opened, close) * (1.0 - 0.3 * reach * rng.random())
            bars.append(PastBar(start, opened, high, low, close, minutes * share * rng.uniform(0.3, 1.7)))
            until, close = start, opened
        self._until = until, close
        self._steps.append(bars)


class BarHistory:
    """The bars of one instrument.

    Args:
        ts: When it begins.
        tick: The price then.
        minute_lots: What a minute of the past trades, about; 0 for prices that nobody trades at.
        past: What the price of its coin did before; None where it was not listed.

    """

    __slots__ = ("_first", "_minute_lots", "_past", "_series")

    def __init__(self, ts: int, tick: int, minute_lots: int = 0, past: Past | None = None) -> None:
        self._first = _still(ts - ts % MINUTE_NS, tick)
        self._series: list[deque[Bar]] = [deque([self._first]), *(deque[Bar]() for _ in STEPS[1:])]
        self._minute_lots = minute_lots
        self._past = past if past is not None and past.start_ns == self._first.start else None

    def add(self, ts: int, tick: int, lots: int) -> None:
        """Count one trade."""
        bar = self._series[0][-1]
        if ts - bar.start >= MINUTE_NS:
            bar = _still(ts - ts % MINUTE_NS, tick)
            self._append(0, bar)
        bar.add(tick, lots)

    def bars(self, now_ns: int, period: Period = MINUTE, since_ns: int = 0) -> list[Bar]:
        """Return the newest bars of a period, ``KEPT`` at most, the unfinished one last.

        Args:
            now_ns: Now.
            period: What a bar stands for; one whose beginning is not kept any more is left out. That of
                the listing begins with it, wherever in the period that was.
            since_ns: Bars that begin before are left out; few of them are found sooner.

        """
        depth = 1 + max(
            place
            for place, step in enumerate(STEPS)
            if period.size_ns % step == 0 and period.offset_ns % step == 0
        )
        parts = []
        for bar in self._backwards(depth):
            parts.append(bar)
            if bar.start < since_ns:
                break
        found: list[Bar] = []
        has_listing = self._past is None and len(self._series[depth - 1]) < KEPT
        for bar in reversed(parts):
            start = period.start(bar.start)
            if found and found[-1].start == start:
                found[-1].join(bar)
            elif found or bar.start == start or bar.start < since_ns or has_listing:
                _stand_still(found, period, start)
                found.append(bar.begin(start))
        _stand_still(found, period, period.after(period.start(now_ns)))
        return [bar for bar in found[-KEPT:] if bar.start >= since_ns]

    def _append(self, place: int, bar: Bar) -> None:
        """Add a bar to a series; what it has no room for becomes part of the next."""
        series = self._series[place]
        series.append(bar)
        if len(series) <= KEPT:
            return
        old = series.popleft()
        if place + 1 == len(STEPS):
            return
        longer = self._series[place + 1]
        start = old.start - old.start % STEPS[place + 1]
        if longer and longer[-1].start == start:
            longer[-1].join(old)
        else:
            self._append(place + 1, old.begin(start))

    def _backwards(self, depth: int) -> Iterator[Bar]:
        """Return the bars of the first steps, newest first, those of the past last."""
        for series in self._series[:depth]:
            yield from reversed(series)
        # A full series may have lost what came between the past and its oldest bar.
        if self._past is not None and len(self._series[depth - 1]) < KEPT:
            first = self._first
            for bar in self._past.backwards(depth):
                yield bar.of(first.open, self._minute_lots)


def _stand_still(found: list[Bar], period: Period, until_ns: int) -> None:
    """Fill up with bars that stand still; of a long hole only what can be kept."""
    if not found:
        return
    close, start = found[-1].close, period.after(found[-1].start)
    if start < until_ns - (KEPT + 1) * period.size_ns:
        start = period.start(until_ns - KEPT * period.size_ns)
    while start < until_ns:
        found.append(_still(start, close))
        start = period.after(start)
