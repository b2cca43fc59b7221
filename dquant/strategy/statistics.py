"""Mean, deviation, range and a short history of one number over the last minutes.

The number is a step function of time: each value holds until the next one, so that all
figures are weighted by time and do not depend on how often the same value is repeated or
how busy a market was. Stale periods (``None``) have no weight.

The window is a ring of buckets (60 of 5 s by default): memory is fixed, an update costs
the same however much history there is, and the window's length is exact to one bucket.
Deviation by West's weighted update within a bucket and Chan's merge of buckets: no sum of
squares, hence no cancellation at prices of 84,000 and deviations of 0.1.

Pure: time comes in, ns since the Unix epoch.
"""

from dataclasses import dataclass
from math import sqrt

from dquant.constants import NS_PER_S

SET_BACK_NS = 60 * NS_PER_S


@dataclass(frozen=True, slots=True)
class Summary:
    """What the number did in the window; ``deviation`` is the population's."""

    mean: float
    deviation: float
    low: float
    high: float


class _Bucket:
    __slots__ = ("high", "index", "low", "m2", "mean", "weight")

    def __init__(self, index: int) -> None:
        self.index = index
        self.weight = 0  # ns that a value held
        self.mean = 0.0
        self.m2 = 0.0
        self.low: float | None = None
        self.high: float | None = None

    def hold(self, value: float, duration: int) -> None:
        """Count a value that held for so many ns."""
        if self.low is None:
            self.touch(value)  # carried over from the bucket before
        self.weight += duration
        delta = value - self.mean
        if delta:
            step = delta * (duration / self.weight)
            self.mean += step
            self.m2 += duration * delta * (delta - step)

    def touch(self, value: float) -> None:
        """Widen the range to a value that begins to hold, before any time has passed."""
        if self.low is None or self.high is None:
            self.low = self.high = self.mean = value
        elif value < self.low:
            self.low = value
        elif value > self.high:
            self.high = value


class RollingStatistics:
    """Time-weighted figures of the last ``window_s`` seconds in buckets of ``bucket_s``."""

    def __init__(self, window_s: float = 300.0, bucket_s: float = 5.0) -> None:
        self._bucket_ns = int(bucket_s * NS_PER_S)
        self.bucket_count = max(1, round(window_s / bucket_s))
        self._buckets: list[_Bucket | None] = [None] * self.bucket_count
        self._value: float | None = None
        self._now: int | None = None
        self._current = _Bucket(-1)

    def update(self, now: int, value: float | None) -> None:
        """Note that the number is ``value`` from ``now`` on; ``None`` while it is not known.

        A time up to a minute before the newest one counts as the newest one; where it is further back,
        the clock was set, and the window begins anew.
        """
        self.advance(now)
        self._value = value
        if value is not None:
            self._current.touch(value)

    def advance(self, now: int) -> None:
        """Let the value in force hold until ``now``."""
        last = self._now
        if last is None or now < last - SET_BACK_NS:
            self._buckets = [None] * self.bucket_count
            self._now = now
            self._open(now // self._bucket_ns)
            return
        if now <= last:
            return
        self._now = now
        value = self._value
        index = now // self._bucket_ns
        current = self._current
        if index != current.index:
            if value is not None:
                current.hold(value, (current.index + 1) * self._bucket_ns - last)
            # Whatever is older than the window need not be filled.
            for skipped in range(max(current.index + 1, index - self.bucket_count + 1), index):
                bucket = self._open(skipped)
                if value is not None:
                    bucket.hold(value, self._bucket_ns)
            current = self._open(index)
            last = index * self._bucket_ns
        if value is not None and now > last:
            current.hold(value, now - last)

    def summary(self, now: int) -> Summary | None:
        """Return the figures of the window that ends now; ``None`` when it holds no value."""
        weight, mean, m2 = 0, 0.0, 0.0
        low: float | None = None
        high: float | None = None
        for bucket in self._window(now):
            if bucket is None or bucket.low is None or bucket.high is None:
                continue
            low = bucket.low if low is None or bucket.low < low else low
            high = bucket.high if high is None or bucket.high > high else high
            if bucket.weight:
                total = weight + bucket.weight
                delta = bucket.mean - mean
                mean += delta * (bucket.weight / total)
                m2 += bucket.m2 + delta * delta * (weight / total) * bucket.weight
                weight = total
        if low is None or high is None:
            return None
        if not weight:
            return Summary(low if self._value is None else self._value, 0.0, low, high)
        return Summary(min(max(mean, low), high), sqrt(m2 / weight), low, high)

    def series(self, now: int, points: int) -> list[float | None]:
        """Return at most ``points`` means, oldest first; ``None`` where no value was known.

        Neighbouring buckets are joined where there are more buckets than points. They are
        joined by their place in time, not in the window: a point does not change its value
        while it moves to the left.
        """
        joined = max(1, -(-self.bucket_count // max(1, points)))
        groups: dict[int, list[float]] = {}
        buckets = self._window(now)  # may move on to a new current bucket
        newest = self._current.index // joined
        for bucket in buckets:
            if bucket is not None and bucket.weight:
                groups.setdefault(bucket.index // joined, []).append(bucket.mean)
        if self._value is not None and not self._current.weight:
            groups.setdefault(newest, []).append(self._value)  # in force, for no time yet
        count = min(points, -(-self.bucket_count // joined))
        wanted = (groups.get(group) for group in range(newest - count + 1, newest + 1))
        return [sum(means) / len(means) if means else None for means in wanted]

    def _open(self, index: int) -> _Bucket:
        bucket = _Bucket(index)
        self._buckets[index % self.bucket_count] = bucket
        self._current = bucket
        return bucket

    def _window(self, now: int) -> list[_Bucket | None]:
        self.advance(now)
        oldest = self._current.index - self.bucket_count
        return [bucket if bucket is not None and bucket.index > oldest else None for bucket in self._buckets]
