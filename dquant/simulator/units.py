"""Whole steps (ticks, lots) to text and back: the only place where the simulator writes a price.

A ``Step("0.1")`` says that one step is 0.1; ``text(842003)`` is ``"84200.3"``, without trailing zeros,
as both venues print numbers. No float is involved.
"""

from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache

from dquant.constants import NS_PER_MS, NS_PER_S

_CACHE_LIMIT = 4_000  # texts kept per step; the prices of a few books come again and again


class Step:
    """The size of one tick or lot."""

    __slots__ = ("_cache", "_decimals", "_factor", "size", "text_size", "value")

    def __init__(self, size: str) -> None:
        value = Decimal(size)
        if not value.is_finite() or value <= 0:
            raise ValueError(f"a step must be positive, not {size!r}")
        exponent = int(value.normalize().as_tuple().exponent)
        self._decimals = max(-exponent, 0)
        self._factor = int(value.scaleb(self._decimals))
        self.text_size = size
        self.size = value
        self.value = float(value)
        self._cache: dict[int, str] = {}

    def text(self, steps: int) -> str:
        """Return this many steps as decimal text without trailing zeros."""
        text = self._cache.get(steps)
        if text is None:
            if len(self._cache) >= _CACHE_LIMIT:
                self._cache.clear()
            text = self._cache[steps] = self._write(steps)
        return text

    def _write(self, steps: int) -> str:
        units = steps * self._factor
        if not self._decimals:
            return str(units)
        sign, units = ("-", -units) if units < 0 else ("", units)
        whole, part = divmod(units, 10**self._decimals)
        digits = str(part).rjust(self._decimals, "0").rstrip("0")
        return f"{sign}{whole}.{digits}" if digits else f"{sign}{whole}"

    def number(self, steps: int) -> float:
        """Return this many steps as the nearest float, for records that people read."""
        return float(self.text(steps))

    def nearest(self, value: float) -> int:
        """Return the number of steps nearest to a value."""
        return round(value / self.value)


def fixed(value: float, decimals: int) -> str:
    """Return a number with at most this many decimals, without trailing zeros and never ``-0``."""
    text = f"{value:.{decimals}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def ms_text(ns: int) -> str:
    """Return a time as OKX writes it: ms since the epoch."""
    return str(ns // NS_PER_MS)


def iso_text(ns: int) -> str:
    """Return a time as BitMEX writes it: ISO 8601 UTC with milliseconds and ``Z``."""
    return f"{_iso_second(ns // NS_PER_S)}.{ns % NS_PER_S // NS_PER_MS:03d}Z"


@lru_cache(maxsize=64)
def _iso_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
