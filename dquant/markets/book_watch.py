"""The verdict on one book and how often it may be fetched anew; both venues' cores keep one a book.

Pure: time comes in as an argument, ns since the Unix epoch.
"""

from dquant.constants import NS_PER_S
from dquant.model.events import BookStale

RESYNC_BURST = 5
RESYNC_REFILL_S = 30.0
SNAPSHOT_WAIT_S = 10.0

CONNECTING = "connecting"  # why a book that never had a snapshot is not live
SUSPENDED = "suspended"  # why a sound book is not live: its venue lets nobody trade there


class TokenBucket:
    """Lets a burst pass, then one token every ``refill_s`` seconds; a clock set back costs nothing."""

    __slots__ = ("_burst", "_refill_s", "_refilled_at", "_tokens")

    def __init__(self, burst: int, refill_s: float, now: int) -> None:
        self._burst = burst
        self._refill_s = refill_s
        self._tokens = float(burst)
        self._refilled_at = now

    def has(self, tokens: int, now: int) -> bool:
        """Tell whether so many tokens are there."""
        elapsed_s = max(0, now - self._refilled_at) / NS_PER_S
        self._tokens = min(float(self._burst), self._tokens + elapsed_s / self._refill_s)
        self._refilled_at = now
        return self._tokens >= tokens

    def take(self, tokens: int, now: int) -> bool:
        """Take so many tokens if they are there."""
        if not self.has(tokens, now):
            return False
        self._tokens -= tokens
        return True


class BookWatch:
    """Says whether a book may be believed, why not, and when a new snapshot may be asked for.

    Liveness is per book: ``silence_s`` without a message about this very book makes it
    stale, however busy the connection is. Snapshots are asked for at once while the
    burst lasts, then one every ``RESYNC_REFILL_S`` seconds, so that a feed that never
    heals cannot use up the venue's request limit (OKX: 480 an hour, fact sheet 2.5).
    """

    __slots__ = (
        "_asked_at",
        "_bucket",
        "_is_wanted",
        "_wait_ns",
        "inst_id",
        "is_live",
        "last_ts",
        "reason",
        "resyncs",
        "silence_ns",
    )

    def __init__(self, inst_id: str, silence_s: float, now: int) -> None:
        self.inst_id = inst_id
        self.silence_ns = int(silence_s * NS_PER_S)
        self._wait_ns = int(min(silence_s or SNAPSHOT_WAIT_S, SNAPSHOT_WAIT_S) * NS_PER_S)  # for a snapshot
        self.is_live = False
        self.reason = CONNECTING
        self.last_ts = now  # of the last message about this book
        self.resyncs = 0  # snapshots asked for because the book was in doubt
        self._bucket = TokenBucket(RESYNC_BURST, RESYNC_REFILL_S, now)
        self._is_wanted = False
        self._asked_at = now

    def accept(self) -> None:
        """Note a snapshot: the book is live again."""
        self.is_live = True
        self.reason = ""
        self._is_wanted = False

    def doubt(self, reason: str, now: int, *, is_resync_wanted: bool = True) -> BookStale | None:
        """Note that the book cannot be believed; return the event if that is news.

        Without ``is_resync_wanted`` no snapshot is asked for until the next doubt that wants one.
        """
        is_news = self.is_live or reason != self.reason
        self.is_live = False
        self.reason = reason
        if not is_resync_wanted:
            self._is_wanted = False
        elif not self._is_wanted:
            self._is_wanted = True
            self._asked_at = now - self._wait_ns  # nothing asked yet: may go out at once
        return BookStale(self.inst_id, reason, now) if is_news else None

    def is_silent(self, now: int) -> bool:
        """Tell whether a live book has been without a message for too long (0: never judged)."""
        self.last_ts = min(self.last_ts, now)  # our clock may have been set back
        return self.is_live and 0 < self.silence_ns < now - self.last_ts

    def is_overdue(self, now: int) -> bool:
        """Tell whether the very first snapshot has been awaited for too long."""
        self.last_ts = min(self.last_ts, now)
        return self.reason == CONNECTING and self._wait_ns < now - self.last_ts

    def take_resync(self, now: int) -> bool:
        """Tell whether to ask for a snapshot now; a yes counts against the limit.

        A snapshot that was asked for and did not come is asked for again after ``SNAPSHOT_WAIT_S``,
        or after the silence limit where that is shorter.
        """
        self._asked_at = min(self._asked_at, now)
        if not self._is_wanted or now - self._asked_at < self._wait_ns:
            return False
        if not self._bucket.take(1, now):
            return False
        self._asked_at = now
        self.resyncs += 1
        return True
