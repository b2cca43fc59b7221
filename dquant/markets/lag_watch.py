"""How late a venue's messages come; pure, times in ns, both clocks come in as arguments.

``ts_recv - ts_event`` is the way of a message plus the difference of two clocks. The least
that was seen stands for a message that did not wait; one that took ``limit_s`` longer did. A
slow connection differs from a silent one in that everything goes on, with prices of some while
ago. One that was slow from its beginning shows by its first answer: a snapshot is no older than
the question (``answer``), so it need not have taken longer than that.

Whether a clock was set is not told from here: who owns the sockets asks the venue for its time
again (``measure``) when lateness begins, and now and then. That only acquits: the clock that a
venue answers with need not be that of its messages. Where the two are ``SAME_CLOCK_NS`` apart and more they
surely are not one clock, as with old frames that are sent again: nothing is late then.
"""

from dquant.constants import NS_PER_S

SAME_CLOCK_NS = 60 * NS_PER_S
FAR = 2**63  # beyond every difference of two times


class LagWatch:
    """One for all connections of a market, so that the next one is judged by what the last one taught.

    ``low`` and ``high`` are bounds for the hot path: a message whose lag is between them changes nothing.

    Args:
        limit_s: How much later than the quickest a message may come; 0 never judges.

    """

    __slots__ = ("_least", "_limit", "_measured", "high", "is_late", "low")

    def __init__(self, limit_s: float) -> None:
        self.is_late = False
        self._limit = int(limit_s * NS_PER_S)
        self._least: int | None = None
        self._measured: int | None = None  # what the least is not below, as the venue's clock says
        self.low, self.high = -FAR, FAR
        self._set_bounds()

    def judge(self, lag: int, *, is_news: bool) -> bool:
        """Take one message's lag; return whether it is late.

        A snapshot or an idle frame is no news: its book may have stood still since its time, so it makes
        nothing late. It is believed to be late where news was; a lag of half the limit ends that.
        """
        if not self._limit:
            return False
        if self._least is None or lag < self._least:
            self._least = lag
        if self._is_of_another_clock(self._least):
            self.is_late = False
        elif self.is_late:
            self.is_late = lag > self._least + self._limit // 2
        elif is_news:
            self.is_late = lag > self._least + self._limit
        self._set_bounds()
        return self.is_late

    def answer(self, lag: int, waited: int) -> None:
        """Take the lag of the very first snapshot, and how long ago it was asked for; ``judge`` it then."""
        if self._limit and self._least is None:
            # It is somewhere between no older than now and as old as the question.
            usual = lag - waited
            self._least = usual if self._measured is None else max(usual, min(self._measured, lag))
            self.is_late = lag - self._least > self._limit and not self._is_of_another_clock(self._least)
            self._set_bounds()

    def measure(self, offset: int, round_trip: int) -> None:
        """Take the venue's clock minus ours; by half the time the answer took it may be wrong."""
        self._measured = -offset - round_trip // 2
        if self._least is not None and self._measured > self._least:
            self._least = self._measured
            self._set_bounds()

    def forget(self) -> None:
        """Forget what is usual: a connection ended late, and one wrong time may be why."""
        self._least = None
        self.is_late = False
        self._set_bounds()

    def _is_of_another_clock(self, usual: int) -> bool:
        return self._measured is not None and abs(usual - self._measured) > SAME_CLOCK_NS

    def _set_bounds(self) -> None:
        if not self._limit:
            return
        if self._least is None or self.is_late:
            self.low, self.high = FAR, -FAR  # look at every message
        else:
            self.low, self.high = self._least, self._least + self._limit
