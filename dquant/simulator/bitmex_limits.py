"""How often one may ask the simulated BitMEX: token buckets and the headers that tell of them.

On real time, ns, or a stopped clock would never refill a bucket. Written from the fact sheet, section 5.8:
120 requests a minute for an account, 30 for strangers, and 10 a second on the second layer. Bans after
many errors are not simulated.
"""

from collections.abc import Mapping

from dquant.constants import NS_PER_S

ACCOUNT_PER_MINUTE, STRANGER_PER_MINUTE, SECOND_LAYER_PER_S = 120, 30, 10
MINUTE_NS = 60 * NS_PER_S
SECOND_LAYER = frozenset(
    {
        ("POST", "/order"),
        ("PUT", "/order"),
        ("DELETE", "/order"),
        ("DELETE", "/order/all"),
        ("POST", "/order/closePosition"),
        ("POST", "/position/isolate"),
        ("POST", "/position/leverage"),
        ("POST", "/position/transferMargin"),
    }
)


class Bucket:
    """Tokens that come back continuously, ``limit`` of them in ``period_ns``."""

    __slots__ = ("_filled_ns", "_period_ns", "_tokens", "limit")

    def __init__(self, limit: int, period_ns: int) -> None:
        self.limit, self._period_ns = limit, period_ns
        self._tokens, self._filled_ns = float(limit), 0

    @property
    def remaining(self) -> int:
        """Whole tokens left."""
        return int(self._tokens)

    def fill(self, real_ns: int) -> None:
        """Let tokens come back up to this real time."""
        passed = max(0, real_ns - self._filled_ns)
        self._tokens = min(float(self.limit), self._tokens + passed * self.limit / self._period_ns)
        self._filled_ns = max(real_ns, self._filled_ns)

    def take(self) -> bool:
        """Take one token; False where there is none."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    @property
    def wait_s(self) -> int:
        """Seconds until there is a token again, at least 1."""
        missing_ns = (1 - self._tokens) * self._period_ns / self.limit
        return max(1, -int(-missing_ns // NS_PER_S))


class Budget:
    """What one caller has left: its minute and, for an account, its second."""

    __slots__ = ("_minute", "_second")

    def __init__(self, per_minute: int, per_second: int) -> None:
        self._minute, self._second = Bucket(per_minute, MINUTE_NS), Bucket(per_second, NS_PER_S)

    def spend(
        self, route: tuple[str, str], now_ns: int, real_ns: int
    ) -> tuple[Mapping[str, str], int | None]:
        """Count one request; return the headers that tell of it, and seconds to wait if it is one too many.

        Args:
            route: Method and path below ``/api/v1``.
            now_ns: Virtual time, for the header that says when the bucket fills.
            real_ns: Real time, on which it fills.

        """
        self._minute.fill(real_ns)
        self._second.fill(real_ns)
        wait_s = None if self._minute.take() else self._minute.wait_s
        is_layered = route in SECOND_LAYER
        if wait_s is None and is_layered and not self._second.take():
            wait_s = 1
        headers = {
            "x-ratelimit-limit": str(self._minute.limit),
            "x-ratelimit-remaining": str(self._minute.remaining),
            "x-ratelimit-reset": str(now_ns // NS_PER_S + (wait_s or 1)),
        }
        if is_layered:
            headers["x-ratelimit-limit-1s"] = str(self._second.limit)
            headers["x-ratelimit-remaining-1s"] = str(self._second.remaining)
        if wait_s is not None:
            headers["Retry-After"] = str(wait_s)
        return headers, wait_s
