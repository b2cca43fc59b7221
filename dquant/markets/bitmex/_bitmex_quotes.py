"""Holds the top of an L2 book against what ``quote`` says it is; pure, times in ns since the Unix epoch.

BitMEX numbers nothing (fact sheet ``bitmex`` 3.1), so a lost delta that crosses no book shows
nowhere in ``orderBookL2`` itself. ``quote`` tells every best price with its size as well, in
frames of its own, in no order with the book's: a recording of 2021 brings a second's quotes
together, up to a second after the book had gone through each of them, price and size alike.

So a quote is good if its side of the book looks like that, went on from there after the quote's
own time, or comes to it within ``GRACE_NS``. One that is not, and no later one either, says
that the book lacks something. A quote that is ``MEMORY_NS`` behind the book by its own time says
nothing, and neither does silence: a ``quote`` that stopped is no reason to doubt a book that goes on.
"""

from dquant.constants import NS_PER_MS, NS_PER_S

MEMORY_NS = 5 * NS_PER_S
GRACE_NS = 2 * NS_PER_S
# Looks at the clock that must find the quote unmatched: after a pause of this process the clock
# is far ahead of what still waits to be read.
LOOKS = 3
SAME_NS = 10 * NS_PER_MS  # two times of one event may differ by so much
MAX_REMEMBERED = 512  # states of one side; older than ``MEMORY_NS`` they go first
# A book that was fetched anew so often and still is not what the quotes say is not what is wrong.
MAX_STRIKES = 3

State = tuple[float | None, float]  # price and size


class _Side:
    """One side: how the book looked lately, and the quotes that it did not look like."""

    __slots__ = ("looks", "past", "price", "since", "size", "unmatched")

    def __init__(self) -> None:
        self.price: float | None = None
        self.size = 0.0
        self.past: dict[State, int] = {}  # until when the book looked so by the venue's clock, oldest first
        self.unmatched: set[State] = set()
        self.since = 0  # when the first of them came
        self.looks = 0

    def forget(self) -> None:
        self.past.clear()
        self._settle()

    def change(self, price: float | None, size: float, ts_event: int) -> None:
        """Take how the book looks from now on."""
        past, left = self.past, (self.price, self.size)
        past.pop(left, None)
        past[left] = ts_event
        self.price, self.size = price, size
        if self.unmatched and (price, size) in self.unmatched:
            self._settle()
        if len(past) > MAX_REMEMBERED:
            self._prune(ts_event)

    def _settle(self) -> None:
        self.unmatched.clear()
        self.looks = 0

    def _prune(self, ts_event: int) -> None:
        for state, until in list(self.past.items()):
            if len(self.past) <= MAX_REMEMBERED // 2 and ts_event - until <= MEMORY_NS:
                break
            del self.past[state]

    def receive_quote(self, quoted: State, ts_event: int, now: int) -> bool:
        """Take one quote; return whether the book looks so, or went on from there since."""
        until = self.past.get(quoted)
        if quoted == (self.price, self.size) or (until is not None and ts_event <= until + SAME_NS):
            self._settle()
            return True
        if not self.unmatched:
            self.since = now
        if len(self.unmatched) < MAX_REMEMBERED:
            self.unmatched.add(quoted)
        return False

    def is_wrong(self, now: int) -> bool:
        """Look at the clock; tell whether a quote has been without its match for too long."""
        if not self.unmatched:
            return False
        self.since = min(self.since, now)  # our clock may have been set back
        self.looks += 1
        return now - self.since > GRACE_NS and self.looks > LOOKS


class QuoteCheck:
    """Both sides of one book. The book's core tells of tops, quotes, snapshots and time."""

    __slots__ = ("_ask", "_bid", "_book_ts", "_strikes", "is_off")

    def __init__(self) -> None:
        self._bid, self._ask = _Side(), _Side()
        self._book_ts = 0  # the newest time of the book by the venue's clock
        self._strikes = 0
        self.is_off = False  # the quotes were wrong more often than could be the book's fault

    def begin(self) -> None:
        """Note that the book was fetched anew: what was before does not count."""
        self._bid.forget()
        self._ask.forget()

    def receive_top(
        self, bid: float | None, bid_size: float, ask: float | None, ask_size: float, ts_event: int
    ) -> None:
        """Take what the book shows after a message."""
        self._book_ts = ts_event
        side = self._bid
        if bid_size != side.size or bid != side.price:
            side.change(bid, bid_size, ts_event)
        side = self._ask
        if ask_size != side.size or ask != side.price:
            side.change(ask, ask_size, ts_event)

    def receive_quote(
        self, bid: float | None, bid_size: float, ask: float | None, ask_size: float, ts_event: int, now: int
    ) -> None:
        """Take one quote of a book that is believed."""
        if ts_event < self._book_ts - MEMORY_NS:
            return
        is_bid_good = self._bid.receive_quote((bid, bid_size), ts_event, now)
        is_ask_good = self._ask.receive_quote((ask, ask_size), ts_event, now)
        if is_bid_good and is_ask_good:
            self._strikes = 0

    def is_wrong(self, now: int) -> bool:
        """Look at the clock, twice a second; tell whether the book is not what the quotes say."""
        if self.is_off or not (self._bid.is_wrong(now) | self._ask.is_wrong(now)):
            return False
        self._strikes += 1
        self.is_off = self._strikes > MAX_STRIKES
        return not self.is_off
