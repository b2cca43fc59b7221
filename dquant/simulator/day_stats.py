"""The last 24 hours of an instrument in hourly buckets: what tickers say of open, high, low and volume.

``bars`` is what candles are read from.

Prices in ticks, sizes in lots, times in ns (virtual).
"""

from collections import deque
from dataclasses import dataclass
from random import Random

from dquant.constants import NS_PER_S
from dquant.simulator.bars import BarHistory, Past

_HOUR_NS = 3600 * NS_PER_S
_DAY_NS = 24 * _HOUR_NS
_EIGHT_HOURS_NS = 8 * _HOUR_NS


@dataclass(slots=True)
class _Hour:
    start: int
    open: int
    high: int
    low: int
    lots: int


class DayStats:
    """Rolling day; starts with an invented day before it, so that no field is empty at the start."""

    __slots__ = ("_hours", "bars", "last_lots", "last_tick", "sod_utc0", "sod_utc8")

    def __init__(self, ts: int, tick: int, hourly_lots: int, rng: Random, past: Past | None = None) -> None:
        hour = ts - ts % _HOUR_NS
        path, price = [], tick
        for _ in range(24):
            path.append(price)
            price = max(1, price + round(tick * rng.uniform(-0.003, 0.003)))
        self._hours: deque[_Hour] = deque(maxlen=24)
        for back, (opened, closed) in enumerate(zip(path[:0:-1], path[-2::-1], strict=True)):
            lots = max(1, int(hourly_lots * rng.uniform(0.5, 1.5)))
            start = hour - (23 - back) * _HOUR_NS
            self._hours.append(_Hour(start, opened, max(opened, closed), min(opened, closed), lots))
        self.last_tick, self.last_lots = tick, max(1, hourly_lots // 1000)
        self.bars = BarHistory(ts, tick, max(2, hourly_lots // 60), past)
        self.sod_utc0 = path[min(ts % _DAY_NS // _HOUR_NS, 23)]
        self.sod_utc8 = path[min((ts + _EIGHT_HOURS_NS) % _DAY_NS // _HOUR_NS, 23)]

    def add(self, ts: int, tick: int, lots: int) -> None:
        """Count one trade."""
        self.last_tick, self.last_lots = tick, lots
        self.bars.add(ts, tick, lots)
        hour = self._hours[-1]
        if ts - hour.start >= _HOUR_NS:
            start = ts - ts % _HOUR_NS
            if start // _DAY_NS != hour.start // _DAY_NS:
                self.sod_utc0 = tick
            if (start + _EIGHT_HOURS_NS) // _DAY_NS != (hour.start + _EIGHT_HOURS_NS) // _DAY_NS:
                self.sod_utc8 = tick
            self._hours.append(_Hour(start, tick, tick, tick, lots))
            while self._hours[0].start <= start - _DAY_NS:
                self._hours.popleft()
            return
        hour.high, hour.low = max(hour.high, tick), min(hour.low, tick)
        hour.lots += lots

    @property
    def open(self) -> int:
        """The price 24 hours ago."""
        return self._hours[0].open

    @property
    def high(self) -> int:
        """The highest price of the day."""
        return max(hour.high for hour in self._hours)

    @property
    def low(self) -> int:
        """The lowest price of the day."""
        return min(hour.low for hour in self._hours)

    @property
    def lots(self) -> int:
        """The volume of the day."""
        return sum(hour.lots for hour in self._hours)
