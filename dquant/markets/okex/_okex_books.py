"""The order books of one OKX connection: book messages go in, tops of book and verdicts come out.

Without I/O and without text: ``_okex_protocol`` decodes and sends. One book an instrument, kept
from ``books`` or, on a tape, from one of its deeper kin (fact sheet ``okx-v5`` 5.2):

- the seqId chain with its idle and reset frames, and in the checksum era the CRC32 of every message
- a broken chain, a wrong checksum, an unreadable message or silence make a book stale; it drops what
  comes and asks for a new snapshot by unsubscribing and subscribing, as often as ``BookWatch`` allows
- a crossed book or a late message make it stale too, but its chain is followed: the next message
  may put it right
- so does a suspension of its instrument (5.7), until the first message after that

Tops that the venue sends ready-made share the book's line of seqIds and never go behind it.
"""

from collections import Counter
from collections.abc import Callable
from math import inf

from dquant.constants import NS_PER_MS, NS_PER_S
from dquant.markets.book_watch import CONNECTING, SUSPENDED, BookWatch, TokenBucket
from dquant.markets.lag_watch import LagWatch
from dquant.markets.okex._okex_frames import (
    BookData,
    BookFrame,
    Row,
    TextBookData,
    TextBookFrame,
    TextLevel,
)
from dquant.model.book import ChecksumBook, Levels, PriceBook
from dquant.model.events import Event, TopOfBook

BOOK_CHANNEL = "books"
DEEP_CHANNELS = ("books", "books-l2-tbt", "books50-l2-tbt")
TOP_CHANNELS = ("bbo-tbt", "books5")

# A book without a change is told of all the same about every 60 s (fact sheet 5.2): an idle frame.
# Longer silence than this is never a quiet market.
IDLE_LIMIT_NS = 75 * NS_PER_S

# The venue keeps a client at 400 a side; a book far above that was never told what went away.
MAX_LEVELS = 5000

AUCTION_STATES = ("preopen",)
# Of swaps also: a contract is being rebased, or takes passive orders only, so that no price can be had.
SUSPENDED_STATES = ("suspend", "rebase", "post_only")

_SNAPSHOT = "snapshot"
_UPDATE = "update"


class _BookState:
    """One book of one channel: its levels, where its chain stands, whether it is believed."""

    __slots__ = (
        "asked_at",
        "book",
        "channel",
        "has_newer_top",
        "is_followed",
        "last_prev",
        "last_seq",
        "newer_seq",
        "plain_seq",
        "proved",
        "silent_seq",
        "watch",
    )

    def __init__(self, channel: str, watch: BookWatch, now: int) -> None:
        self.channel = channel
        self.watch = watch
        self.asked_at = now  # when its snapshot was asked for; 0: it came
        self.book = PriceBook()
        self.proved: ChecksumBook | None = None  # in place of ``book`` while checksums are sent
        self.last_seq: int | None = None
        self.last_prev: int | None = None
        self.plain_seq: int | None = None  # ``last_seq`` while the book is live and the chain its only proof
        self.silent_seq: int | None = None  # where the chain stood when the book fell silent
        self.is_followed = False  # crossed, late or suspended, but the chain still holds
        self.has_newer_top = False  # a ready-made one came, of a later seqId than the book had then
        self.newer_seq = 0


class OkexBooks:
    """All order books of one connection.

    Args:
        silence_s: How long a book may be without a message; 0 never judges.
        lag: Says which messages of a book are late.
        bucket: What the core may still send by itself.
        request: Queues a request: its name and channels.
        is_open: Take books that were never subscribed here as well.

    """

    def __init__(
        self,
        *,
        silence_s: float,
        lag: LagWatch,
        bucket: TokenBucket,
        request: Callable[[str, list[dict[str, str]]], None],
        is_open: bool,
    ) -> None:
        self.duplicates = 0
        self.unbegun: Counter[str] = Counter()  # messages of an instrument before its first snapshot
        self.unread: Counter[str] = Counter()  # of a tape: channels that nobody reads here
        self._silence_s = silence_s
        self._lag, self._bucket, self._request = lag, bucket, request
        self._is_open = is_open
        self._books: dict[str, _BookState] = {}
        self._in_auction: set[str] = set()
        self._suspended: set[str] = set()

    def open(self, inst_id: str, now: int) -> None:
        """Note that the book of an instrument is asked for."""
        if inst_id not in self._books:
            self._books[inst_id] = self._new_book(BOOK_CHANNEL, inst_id, now)

    def close(self, inst_id: str) -> None:
        """Forget a book; its late messages are ignored."""
        self._books.pop(inst_id, None)

    def receive_open(self, now: int) -> None:
        """Note that the connection is there: what was asked for goes out now."""
        for state in self._books.values():
            state.asked_at = now

    def receive(self, frame: BookFrame | TextBookFrame, ts_recv: int, events: list[Event]) -> None:
        """Take one readable frame of a book channel; append what it means to ``events``.

        Raises:
            ValueError: A level is none, or the push is neither a book's nor a top's.

        """
        arg, action = frame.arg, frame.action
        inst_id = arg.instId
        state = self._books.get(inst_id)
        for data in frame.data:
            if (
                state is not None
                and data.prevSeqId == state.plain_seq is not None
                and action == _UPDATE
                and arg.channel == state.channel
                and type(data) is BookData
            ):
                # The next update of a live book's chain: nearly every message there is.
                state.book.apply(data.bids, data.asks)
                self._conclude(state, state.book, inst_id, data, ts_recv, events)
            elif action:
                self._receive_deep(arg.channel, inst_id, action, data, ts_recv, events)
                state = self._books.get(inst_id)
            elif arg.channel in TOP_CHANNELS:
                self._receive_top(inst_id, data, ts_recv, events)
            elif arg.channel in DEEP_CHANNELS:
                raise ValueError("neither snapshot nor update")

    def receive_damaged(
        self, channel: str, inst_id: str, action: object, ts_recv: int, events: list[Event]
    ) -> None:
        """Note a book message that cannot be read: its book is in doubt, the others are not."""
        state = self._books.get(inst_id)
        if state is None or channel != state.channel:
            return
        if action == _SNAPSHOT:
            self._doubt(state, "unreadable snapshot", ts_recv, events)
        elif state.watch.is_live:
            self._doubt(state, "unreadable update", ts_recv, events)

    def receive_begin(self, channel: str, inst_id: str, ts_recv: int) -> None:
        """Note that a subscription was acknowledged: the book's snapshot is awaited from here."""
        state = self._books.get(inst_id)
        if state is not None and channel == state.channel and not state.watch.is_live:
            state.watch.last_ts = ts_recv

    def receive_end(self, channel: str, inst_id: str, ts_recv: int, events: list[Event]) -> None:
        """Note that a subscription ended which nobody here gave up: somebody else did, on a tape."""
        state = self._books.get(inst_id)
        if self._is_open and state is not None and channel == state.channel and state.watch.is_live:
            self._doubt(state, "unsubscribed", ts_recv, events)

    def receive_refusal(
        self, inst_id: str, reason: str, ts_recv: int, events: list[Event], *, is_resync_wanted: bool
    ) -> None:
        """Note that the venue refused the subscription of a book."""
        state = self._books.get(inst_id)
        if state is not None:
            stale = state.watch.doubt(reason, ts_recv, is_resync_wanted=is_resync_wanted)
            state.plain_seq = None
            if stale is not None:
                events.append(stale)

    def receive_state(self, inst_id: str, state: str, ts_recv: int, events: list[Event]) -> None:
        """Take the state of an instrument.

        In pre-open and call auction a crossed book is legal (5.2). While an instrument is suspended its
        book is kept but not told; afterwards a snapshot is asked for, because the book may stand still.
        """
        if state in AUCTION_STATES:
            self._in_auction.add(inst_id)
        else:
            self._in_auction.discard(inst_id)
        book = self._books.get(inst_id)
        if state in SUSPENDED_STATES:
            self._suspended.add(inst_id)
            if book is not None and book.watch.is_live:
                self._follow(book, SUSPENDED, ts_recv, events, is_resync_wanted=False)
        elif inst_id in self._suspended:
            self._suspended.remove(inst_id)
            if book is not None and book.watch.reason == SUSPENDED:
                book.watch.doubt(SUSPENDED, ts_recv)
                self._ask_snapshot(book, ts_recv)

    def is_suspended(self, inst_id: str) -> bool:
        """Tell whether the venue lets nobody trade this instrument now."""
        return inst_id in self._suspended

    def receive_time(self, now: int, events: list[Event]) -> None:
        """Judge silence and size, and ask for the snapshots that are still wanted."""
        for state in self._books.values():
            watch = state.watch
            if watch.is_silent(now):
                last_seq = state.last_seq
                self._doubt(state, f"silent for {watch.silence_ns / 1e9:g} s", now, events)
                state.silent_seq = last_seq
            elif watch.is_overdue(now):
                self._doubt(state, "no snapshot", now, events)
            elif watch.is_live and len(state.proved or state.book) > MAX_LEVELS:
                self._doubt(state, "too many levels", now, events)
            else:
                self._ask_snapshot(state, now)

    def depth(self, inst_id: str, levels: int) -> tuple[Levels, Levels] | None:
        """Return the best levels (price, size) of a live book, best first; else ``None``."""
        state = self._books.get(inst_id)
        if state is None or not state.watch.is_live:
            return None
        return (state.proved or state.book).depth(levels)

    def resyncs(self) -> int:
        """Return how many snapshots were asked for because a book was in doubt."""
        return sum(state.watch.resyncs for state in self._books.values())

    def _receive_deep(
        self,
        channel: str,
        inst_id: str,
        action: str,
        data: BookData | TextBookData,
        ts_recv: int,
        events: list[Event],
    ) -> None:
        state = self._books.get(inst_id)
        if state is None:
            if not self._is_open:
                return  # still under way from a subscription given up
            if channel not in DEEP_CHANNELS:
                self.unread[channel] += 1
                return
            state = self._books[inst_id] = self._new_book(channel, inst_id, ts_recv)
        watch = state.watch
        if channel != state.channel:
            # A second book of the same instrument has a chain of its own; a tape may go over to it.
            if not self._is_open or watch.is_live or action != _SNAPSHOT or channel not in DEEP_CHANNELS:
                return
            state.channel = channel
        if action == _SNAPSHOT:
            state.book.clear()
            state.proved = ChecksumBook() if isinstance(data, TextBookData) else None
            if data.seqId is not None and data.seqId == state.silent_seq:
                self._note_quiet(state, data.seqId)
            state.silent_seq = None
            state.has_newer_top = False  # of a line of seqIds that may have ended
            state.is_followed = False
            if state.asked_at:
                self._lag.answer(ts_recv - data.ts * NS_PER_MS, ts_recv - state.asked_at)
                state.asked_at = 0
            watch.accept()
        elif not (watch.is_live or state.is_followed):
            if watch.reason == CONNECTING:
                self.unbegun[inst_id] += 1
            return  # the chain is broken: only a snapshot starts a new one
        elif (data.prevSeqId is None or data.prevSeqId != state.last_seq) and not self._is_unchained_legal(
            state, data, ts_recv, events
        ):
            return
        if state.proved is not None and not self._is_proved(state, data, ts_recv, events):
            return
        book: PriceBook | ChecksumBook
        if state.proved is not None:
            book = state.proved
        elif isinstance(data, BookData):
            book = state.book
            book.apply(data.bids, data.asks)
        else:
            # The old checksum came back: this book lacks the spelling that proves it.
            self._doubt(state, "checksum returned", ts_recv, events)
            return
        if inst_id in self._suspended:
            watch.last_ts = ts_recv
            state.last_seq, state.last_prev = data.seqId, data.prevSeqId
            self._follow(state, SUSPENDED, ts_recv, events, is_resync_wanted=False)
        else:
            self._conclude(state, book, inst_id, data, ts_recv, events)

    @staticmethod
    def _note_quiet(state: _BookState, seq: int) -> None:
        """Give a book that was silent because nothing had changed more time, up to its idle frames."""
        if not (state.has_newer_top and state.newer_seq > seq):
            watch = state.watch
            watch.silence_ns = max(watch.silence_ns, min(2 * watch.silence_ns, IDLE_LIMIT_NS))

    def _conclude(
        self,
        state: _BookState,
        book: PriceBook | ChecksumBook,
        inst_id: str,
        data: BookData | TextBookData,
        ts_recv: int,
        events: list[Event],
    ) -> None:
        """Note where the chain stands after an applied message, and say what the book shows."""
        state.watch.last_ts = ts_recv
        state.last_seq = seq = data.seqId
        state.last_prev = data.prevSeqId
        bid, bid_size, ask, ask_size = book.top()
        if bid is not None and ask is not None and bid >= ask and inst_id not in self._in_auction:
            self._follow(state, "crossed", ts_recv, events)
            self._ask_snapshot(state, ts_recv)
            return
        ts_event = data.ts * NS_PER_MS
        if not self._lag.low <= ts_recv - ts_event <= self._lag.high and self._lag.judge(
            ts_recv - ts_event, is_news=data.prevSeqId != -1 and bool(data.bids or data.asks)
        ):
            # A snapshot would be as late.
            self._follow(state, "late", ts_recv, events, is_resync_wanted=False)
            return
        if state.is_followed:
            # Every message since was next in the chain: what was wrong was so at the venue or on the way.
            state.is_followed = False
            state.watch.accept()
        state.plain_seq = seq if book is state.book else None
        if state.has_newer_top and self._take_behind(state, data):
            events.append(TopOfBook(inst_id, bid, bid_size, ask, ask_size, ts_event, ts_recv, True, True))
            return
        events.append(TopOfBook(inst_id, bid, bid_size, ask, ask_size, ts_event, ts_recv))

    @staticmethod
    def _take_behind(state: _BookState, data: BookData | TextBookData) -> bool:
        """Tell whether a ready-made top that came before is newer than this book message.

        ``books`` is made every 100 ms and may be overtaken by ``bbo-tbt``, so the price would go back
        for as long. Told once: the next book message is 100 ms newer.
        """
        state.has_newer_top = False
        seq, prev = data.seqId, data.prevSeqId
        if seq is None or seq >= state.newer_seq:
            return False
        return prev is None or seq >= prev  # else the line of seqIds began anew: smaller is newer

    def _is_unchained_legal(
        self, state: _BookState, data: BookData | TextBookData, ts_recv: int, events: list[Event]
    ) -> bool:
        """Judge an update whose prevSeqId is not the last seqId; ``True`` when it may be applied."""
        is_chained = data.seqId is not None or data.prevSeqId is not None or state.last_seq is not None
        if not is_chained and data.checksum and state.proved is not None:
            return True  # recordings from before the chain: the checksum alone proves the book
        if data.seqId is not None and data.seqId == state.last_seq and data.prevSeqId == state.last_prev:
            self.duplicates += 1  # the very message that was applied last
            return False
        self._doubt(state, "sequence broken", ts_recv, events)
        return False

    def _is_proved(
        self, state: _BookState, data: BookData | TextBookData, ts_recv: int, events: list[Event]
    ) -> bool:
        """Apply a message to a book of the checksum era; ``False`` when it is not believed."""
        proved = state.proved
        assert proved is not None
        if isinstance(data, BookData):
            if not data.bids and not data.asks:
                return True  # an idle frame changes nothing
            if data.seqId is None:
                self._doubt(state, "checksum missing", ts_recv, events)
                return False
            # The feed stopped sending checksums (2026-06): the chain alone proves the book from here.
            bids, asks = proved.depth(len(proved))
            state.book.clear()
            state.book.apply([Row(*level) for level in bids], [Row(*level) for level in asks])
            state.proved = None
            return True
        proved.apply(data.bids, data.asks)
        if data.checksum and proved.checksum() != data.checksum:
            self._doubt(state, "checksum mismatch", ts_recv, events)
            return False
        return True

    def _receive_top(
        self, inst_id: str, data: BookData | TextBookData, ts_recv: int, events: list[Event]
    ) -> None:
        state = self._books.get(inst_id)
        # bbo-tbt and books of an instrument share one line of seqIds (fact sheet 5.2): never go back.
        # After a reset of the line the small seqIds of the top wait for the book to follow.
        newest = None if state is None else state.last_seq
        if newest is not None and data.seqId is not None and data.seqId < newest:
            return
        bid, bid_size = _best(data.bids)
        ask, ask_size = _best(data.asks)
        if bid is not None and ask is not None and bid >= ask:
            return  # an auction, or nonsense: the verified book alone speaks then
        ts_event = data.ts * NS_PER_MS
        if not self._lag.low <= ts_recv - ts_event <= self._lag.high and self._lag.judge(
            ts_recv - ts_event, is_news=newest is not None and data.seqId != newest
        ):
            if state is not None and state.watch.is_live:
                self._follow(state, "late", ts_recv, events, is_resync_wanted=False)  # so is the book, then
            return
        events.append(TopOfBook(inst_id, bid, bid_size, ask, ask_size, ts_event, ts_recv, False))
        if state is not None and data.seqId is not None:
            state.has_newer_top, state.newer_seq = True, data.seqId

    def _doubt(self, state: _BookState, reason: str, ts_recv: int, events: list[Event]) -> None:
        stale = state.watch.doubt(reason, ts_recv)
        if stale is not None:
            events.append(stale)
        state.last_seq = state.last_prev = state.plain_seq = None
        state.is_followed = False
        self._ask_snapshot(state, ts_recv)

    def _follow(
        self,
        state: _BookState,
        reason: str,
        ts_recv: int,
        events: list[Event],
        *,
        is_resync_wanted: bool = True,
    ) -> None:
        """Believe a book no more, yet follow its chain: the next message may put it right."""
        stale = state.watch.doubt(reason, ts_recv, is_resync_wanted=is_resync_wanted)
        if stale is not None:
            events.append(stale)
        state.is_followed = True
        state.plain_seq = None

    def _ask_snapshot(self, state: _BookState, now: int) -> None:
        if self._bucket.has(2, now) and state.watch.take_resync(now):
            self._bucket.take(2, now)
            state.asked_at = now
            arg = {"channel": BOOK_CHANNEL, "instId": state.watch.inst_id}
            self._request("unsubscribe", [arg])
            self._request("subscribe", [arg])

    def _new_book(self, channel: str, inst_id: str, now: int) -> _BookState:
        return _BookState(channel, BookWatch(inst_id, self._silence_s, now), now)


def _best(rows: list[Row] | list[TextLevel]) -> tuple[float | None, float]:
    """Return price and size of the first level, which is the best; a side may be empty."""
    if not rows:
        return None, 0.0
    price, size = float(rows[0].px), float(rows[0].sz)
    if not (0.0 < price < inf and 0.0 < size < inf):
        raise ValueError(f"level {price!r} of size {size!r}")
    return price, size
