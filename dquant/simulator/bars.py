"""Minute bars of one instrument, and longer ones made of them: what both venues' candles are read from.

In: every trade (``add``). Out: ``bars(now_ns, size_ns)``, oldest first and without holes: a time in which
nobody traded is a bar that stands still, with no volume. Prices in ticks, sizes in lots, times in ns.

Kept are the newest ``KEPT`` minutes, one day; what was before the start is invented, from the price at
the start backwards, and only when somebody asks.
"""

from collections import deque
from dataclasses import dataclass
from random import Random

from dquant.constants import NS_PER_S

MINUTE_NS = 60 * NS_PER_S
KEPT = 1440  # minutes
_STEP = 4e-4  # how far an invented minute goes


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


def _still(start: int, tick: int) -> Bar:
    return Bar(start, tick, tick, tick, tick)


class MinuteBars:
    """The minute bars of one instrument.

    Args:
        ts: When it begins.
        tick: The price then.
        minute_lots: What an invented minute trades, about.

    """

    __slots__ = ("_bars", "_first", "_has_past", "_minute_lots")

    def __init__(self, ts: int, tick: int, minute_lots: int) -> None:
        self._first = _still(ts - ts % MINUTE_NS, tick)
        self._bars: deque[Bar] = deque([self._first], maxlen=KEPT)
        self._minute_lots = max(2, minute_lots)
        self._has_past = False

    def add(self, ts: int, tick: int, lots: int) -> None:
        """Count one trade."""
        bar = self._bars[-1]
        if ts - bar.start >= MINUTE_NS:
            bar = Bar(ts - ts % MINUTE_NS, tick, tick, tick, tick)
            self._bars.append(bar)
        bar.add(tick, lots)

    def bars(self, now_ns: int, size_ns: int = MINUTE_NS, origin_ns: int = 0) -> list[Bar]:
        """Return bars of a size, a whole number of minutes, the unfinished one last.

        A bar begins at a multiple of its size after ``origin_ns``; one whose beginning is not kept any more
        is left out, but for the unfinished one, which then has what is kept.
        """
        self._invent_past()
        oldest = now_ns - now_ns % MINUTE_NS - (KEPT - 1) * MINUTE_NS
        found: list[Bar] = []
        for bar in self._without_holes(now_ns):
            if bar.start < oldest:
                continue
            start = bar.start - (bar.start - origin_ns) % size_ns
            if found and found[-1].start == start:
                found[-1].join(bar)
            elif found or bar.start == start or start + size_ns > now_ns:
                found.append(Bar(start, *(getattr(bar, name) for name in Bar.__slots__[1:])))
        return found

    def _without_holes(self, now_ns: int) -> list[Bar]:
        whole: list[Bar] = []
        for bar in self._bars:
            self._stand_still(whole, bar.start)
            whole.append(bar)
        self._stand_still(whole, now_ns - now_ns % MINUTE_NS + MINUTE_NS)
        return whole

    def _stand_still(self, whole: list[Bar], until_ns: int) -> None:
        """Fill up with bars that stand still; of a long hole only what can be kept."""
        if not whole:
            return
        close = whole[-1].close
        first = max(whole[-1].start + MINUTE_NS, until_ns - KEPT * MINUTE_NS)
        whole.extend(_still(start, close) for start in range(first, until_ns, MINUTE_NS))

    def _invent_past(self) -> None:
        """Walk back from the first price; the same instrument and start have the same past."""
        if self._has_past:
            return
        self._has_past = True
        first = self._first
        rng = Random(f"bars/{first.start}/{first.open}/{self._minute_lots}")
        close = first.open
        for back in range(1, KEPT - len(self._bars) + 1):
            opened = max(1, close + round(close * rng.gauss(0.0, _STEP)))
            lots = 1 + int(self._minute_lots * rng.uniform(0.3, 1.7))
            high, low = max(opened, close) + rng.randrange(5), max(1, min(opened, close) - rng.randrange(5))
            mean = (opened + high + low + close) // 4
            bar = Bar(first.start - back * MINUTE_NS, opened, high, low, close)
            bar.lots, bar.trades, bar.value = lots, 1 + lots // 20, mean * lots
            bar.last_lots = 1 + lots // 30
            self._bars.appendleft(bar)
            close = opened
