"""The verdict on one book and how often it may be fetched anew; both venues' cores keep one a book.

Pure: time comes in as an argument, ns since the Unix epoch.
"""

from dquant.constants import NS_PER_S
from dquant.model.events import BookStale

RESYNC_BURST = 5
RESYNC_REFILL_S = 30.0


class BookWatch:
    """Says whether a book may be believed, why not, and when a new snapshot may be asked for.

    Liveness is per book: ``silence_s`` without a message about this very book makes it
    stale, however busy the connection is. Snapshots are asked for at once while the
    burst lasts, then one every ``RESYNC_REFILL_S`` seconds, so that a feed that never
    heals cannot use up the venue's request limit (OKX: 480 an hour, fact sheet 2.5).
    """

    __slots__ = (
        "_asked_at",
        "_is_wanted",
        "_refilled_at",
        "_tokens",
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
        self.is_live = False
        self.reason = "connecting"
        self.last_ts = now  # of the last message about this book
        self.resyncs = 0  # snapshots asked for because the book was in doubt
        self._tokens = float(RESYNC_BURST)
        self._refilled_at = now
        self._is_wanted = False
        self._asked_at = now

    def accept(self) -> None:
        """Note a snapshot: the book is live again."""
        self.is_live = True
        self.reason = ""
        self._is_wanted = False

    def doubt(self, reason: str, now: int, *, is_resync_wanted: bool = True) -> BookStale | None:
        """Note that the book cannot be believed; return the event if that is news."""
        is_news = self.is_live or reason != self.reason
        self.is_live = False
        self.reason = reason
        if is_resync_wanted and not self._is_wanted:
            self._is_wanted = True
            self._asked_at = now - self.silence_ns  # nothing asked yet: may go out at once
        return BookStale(self.inst_id, reason, now) if is_news else None

    def is_silent(self, now: int) -> bool:
        """Tell whether a live book has been without a message for too long (0: never judged)."""
        return self.is_live and 0 < self.silence_ns < now - self.last_ts

    def take_resync(self, now: int) -> bool:
        """Tell whether to ask for a snapshot now; a yes counts against the limit.

        A snapshot that was asked for and did not come within the silence limit is asked for again.
        """
        if not self._is_wanted or now - self._asked_at < self.silence_ns:
            return False
        self._tokens = min(
            float(RESYNC_BURST), self._tokens + (now - self._refilled_at) / NS_PER_S / RESYNC_REFILL_S
        )
        self._refilled_at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        self._asked_at = now
        self.resyncs += 1
        return True
