"""OKX public channels, client side, without I/O.

Text frames go in; market events and text frames to send come out. Nothing here opens a
socket, starts a thread or reads a clock: ``_okex_future_ws`` does that.

Written from the fact sheet ``okx-v5`` (guide of 2026-06-27, recordings to 2026-09-30):

- 2.1 to 2.4: frame kinds, acks and errors by code, the text heartbeat
- 5.1 to 5.7: tickers, book channels, trades, mark and index price, funding, instruments
- 5.2: the seqId chain with its idle and reset frames; the checksum, 0 since 2026-06

Units: price in quote currency, size in contracts (spot: base coin), time in ns since
the Unix epoch (the wire carries ms). A book of the checksum era is verified by CRC32
on every message, and by the chain as well where both are sent.
"""

from collections import Counter, deque
from collections.abc import Iterable
from math import inf

import msgspec

from dquant.constants import NS_PER_MS, NS_PER_S
from dquant.errors import RemoteProtocolError
from dquant.markets.book_watch import CONNECTING, BookWatch, TokenBucket
from dquant.markets.lag_watch import LagWatch
from dquant.markets.okex._okex_frames import (
    BookData,
    BookFrame,
    Envelope,
    Row,
    TextBookData,
    TextBookFrame,
    TextLevel,
    decode_book,
    decode_envelope,
    decode_rows,
    decode_text_book,
)
from dquant.markets.okex._okex_rows import READERS, ROW_ERRORS
from dquant.model.book import ChecksumBook, Levels, PriceBook
from dquant.model.events import (
    Event,
    InstrumentState,
    ReconnectAsked,
    SubscriptionChanged,
    TopOfBook,
)

BOOK_CHANNEL = "books"
DEEP_CHANNELS = ("books", "books-l2-tbt", "books50-l2-tbt")
TOP_CHANNELS = ("bbo-tbt", "books5")

# Refusals that pass by themselves (fact sheet 2.6); every other code stays refused.
TRANSIENT_CODES = frozenset({"60014", "60023", "63999", "64007"})
NOTICE_UPGRADE = "64008"

# A channel that was refused for now is asked for again after this long, then after twice that …
RETRY_AFTER_S = 10.0
MAX_RETRIES = 5

# Requests whose answers are awaited; older ones are forgotten, their errors then name no channel.
MAX_PENDING_REQUESTS = 64

# The venue takes 480 requests an hour (fact sheet 2.5). What the core sends by itself stays within
# 40 + 360 in any hour, over all books of the connection; the rest is for ``subscribe``.
REQUEST_BURST = 40
REQUEST_REFILL_S = 10.0

# A book without a change is told of all the same about every 60 s (fact sheet 5.2): an idle frame.
# Longer silence than this is never a quiet market.
IDLE_LIMIT_NS = 75 * NS_PER_S

# The venue keeps a client at 400 a side; a book far above that was never told what went away.
MAX_LEVELS = 5000

AUCTION_STATES = ("preopen",)
UNREADABLE = (msgspec.MsgspecError, RecursionError)

_SNAPSHOT = "snapshot"
_UPDATE = "update"
_BOOK_FRAME = b'{"arg":{"channel":"books'
_NO_CHECKSUM = b'"checksum":0'
_ANY_CHECKSUM = b'"checksum"'


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
        self.is_followed = False  # in doubt, crossed or late, but the chain still holds
        self.has_newer_top = False  # a ready-made one came, of a later seqId than the book had then
        self.newer_seq = 0


class _Request:
    """One request on its way: what was asked for, and how often that was refused for now."""

    __slots__ = ("args", "op", "refusals")

    def __init__(self, op: str, args: list[dict[str, str]], refusals: int) -> None:
        self.op = op
        self.args = args
        self.refusals = refusals


class OkexPublicProtocol:
    """Sans-I/O client of one public connection; OKX hangs up after 30 silent seconds.

    Args:
        silence_s: Seconds without a message about a book that make it stale; 0 never judges.
        now: Our clock at the start, ns since the Unix epoch.
        lag: Says which messages of a book are late; without one none is.
        is_open: Take books that were never subscribed here as well, as a replayed tape needs.

    """

    silence_limit_s = 10.0

    def __init__(
        self, *, silence_s: float, now: int, lag: LagWatch | None = None, is_open: bool = False
    ) -> None:
        self.messages = 0
        self.quarantined = 0
        self.duplicates = 0
        self.unbegun: Counter[str] = Counter()  # book messages of an instrument before its first snapshot
        self.unread: Counter[str] = Counter()  # of a tape: book channels that nobody reads here
        self._silence_s = silence_s
        self._now = now
        self._lag = lag or LagWatch(0)
        self._is_open = is_open
        self._books: dict[str, _BookState] = {}
        self._events: list[Event] = []
        self._outgoing: list[str] = []
        self._is_ping_sent = False
        self._pending: dict[str, _Request] = {}
        self._retries: deque[tuple[int, _Request]] = deque()  # when to ask again, and for what
        self._request_number = 0
        self._bucket = TokenBucket(REQUEST_BURST, REQUEST_REFILL_S, now)
        self._in_auction: set[str] = set()

    # -- verbs ---------------------------------------------------------------------------------

    def subscribe(self, args: Iterable[dict[str, str]]) -> None:
        """Ask for channels, each ``{"channel": …, "instId": …}``, in one request."""
        wanted = list(args)
        for arg in wanted:
            if arg["channel"] == BOOK_CHANNEL and arg["instId"] not in self._books:
                self._books[arg["instId"]] = self._new_book(BOOK_CHANNEL, arg["instId"])
        self._request("subscribe", wanted)

    def unsubscribe(self, args: Iterable[dict[str, str]]) -> None:
        """Give channels up; a book is forgotten at once, its late messages are ignored."""
        given_up = list(args)
        for arg in given_up:
            if arg["channel"] == BOOK_CHANNEL:
                self._books.pop(arg["instId"], None)
        for _, request in self._retries:
            request.args = [arg for arg in request.args if arg not in given_up]
        self._request("unsubscribe", given_up)

    # -- what comes in -------------------------------------------------------------------------

    def receive_open(self, now: int) -> None:
        """Note that the connection is there: what was asked for goes out now."""
        self._now = now
        for state in self._books.values():
            state.asked_at = now

    def receive_text(self, text: str | bytes, ts_recv: int) -> None:
        """Take one text frame; then drain ``texts_to_send`` and ``events_received``.

        Raises:
            RemoteProtocolError: The frame is not what the guide describes.

        """
        self.messages += 1
        self._is_ping_sent = False
        self._now = ts_recv
        raw = text.encode(errors="surrogatepass") if isinstance(text, str) else text
        if raw.startswith(_BOOK_FRAME):
            self._receive_book_text(raw, ts_recv)
        elif raw.strip() != b"pong":
            self._receive_other(raw, ts_recv)

    def receive_silence(self) -> None:
        """Note ``silence_limit_s`` seconds without a frame: ping once, then give up.

        Raises:
            RemoteProtocolError: The last ping was not answered.

        """
        if self._is_ping_sent:
            raise RemoteProtocolError(f"no pong in {self.silence_limit_s:g} s")
        self._is_ping_sent = True
        self._outgoing.append("ping")

    def receive_time(self, now: int) -> None:
        """Look at the clock: a silent book goes stale, a wanted snapshot is asked for when allowed."""
        self._now = now
        for state in self._books.values():
            watch = state.watch
            if watch.is_silent(now):
                last_seq = state.last_seq
                self._doubt(state, f"silent for {watch.silence_ns / 1e9:g} s", now)
                state.silent_seq = last_seq
            elif watch.is_overdue(now):
                self._doubt(state, "no snapshot", now)
            elif watch.is_live and len(state.proved or state.book) > MAX_LEVELS:
                self._doubt(state, "too many levels", now)
            else:
                self._ask_snapshot(state, now)
        while self._retries and self._retries[0][0] <= now and self._bucket.take(1, now):
            _, request = self._retries.popleft()
            if request.args:
                self._request("subscribe", request.args, request.refusals)

    def events_received(self) -> list[Event]:
        """Return what happened since the last call."""
        events, self._events = self._events, []
        return events

    def texts_to_send(self) -> list[str]:
        """Return the frames to send since the last call."""
        texts, self._outgoing = self._outgoing, []
        return texts

    def depth(self, inst_id: str, levels: int) -> tuple[Levels, Levels] | None:
        """Return the best levels (price, size) of a live book, best first; else ``None``."""
        state = self._books.get(inst_id)
        if state is None or not state.watch.is_live:
            return None
        return (state.proved or state.book).depth(levels)

    def resyncs(self) -> int:
        """Return how many snapshots were asked for because a book was in doubt."""
        return sum(state.watch.resyncs for state in self._books.values())

    # -- books ---------------------------------------------------------------------------------

    def _receive_book_text(self, raw: bytes, ts_recv: int) -> None:
        try:
            # The levels' spelling is kept only while there is a checksum to prove with it.
            frame: BookFrame | TextBookFrame
            # Looked for from the right, where it stands: six times as fast as from the left.
            if raw.rfind(_NO_CHECKSUM) >= 0 or raw.rfind(_ANY_CHECKSUM) < 0:
                frame = decode_book(raw)
            else:
                frame = decode_text_book(raw)
                if not any(data.checksum for data in frame.data):  # a 0 spelt another way
                    frame = decode_book(raw)
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
                    self._conclude(state, state.book, inst_id, data, ts_recv)
                elif action:
                    self._receive_deep(arg.channel, inst_id, action, data, ts_recv)
                    state = self._books.get(inst_id)
                elif arg.channel in TOP_CHANNELS:
                    self._receive_top(arg.instId, data, ts_recv)
                elif arg.channel in DEEP_CHANNELS:
                    raise ValueError("neither snapshot nor update")
        except (*UNREADABLE, ValueError) as exc:
            self._receive_unreadable(raw, ts_recv, exc)

    def _receive_deep(
        self, channel: str, inst_id: str, action: str, data: BookData | TextBookData, ts_recv: int
    ) -> None:
        state = self._books.get(inst_id)
        if state is None:
            if not self._is_open:
                return  # still under way from a subscription given up
            if channel not in DEEP_CHANNELS:
                self.unread[channel] += 1
                return
            state = self._books[inst_id] = self._new_book(channel, inst_id)
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
            state, data, ts_recv
        ):
            return
        if state.proved is not None and not self._is_proved(state, data, ts_recv):
            return
        if state.proved is not None:
            self._conclude(state, state.proved, inst_id, data, ts_recv)
        elif isinstance(data, BookData):
            state.book.apply(data.bids, data.asks)
            self._conclude(state, state.book, inst_id, data, ts_recv)
        else:
            # The old checksum came back: this book lacks the spelling that proves it.
            self._doubt(state, "checksum returned", ts_recv)

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
    ) -> None:
        """Note where the chain stands after an applied message, and say what the book shows."""
        state.watch.last_ts = ts_recv
        state.last_seq = seq = data.seqId
        state.last_prev = data.prevSeqId
        bid, bid_size, ask, ask_size = book.top()
        if bid is not None and ask is not None and bid >= ask and inst_id not in self._in_auction:
            self._follow(state, "crossed", ts_recv)
            self._ask_snapshot(state, ts_recv)
            return
        ts_event = data.ts * NS_PER_MS
        if not self._lag.low <= ts_recv - ts_event <= self._lag.high and self._lag.judge(
            ts_recv - ts_event, is_news=data.prevSeqId != -1 and bool(data.bids or data.asks)
        ):
            self._follow(state, "late", ts_recv, is_resync_wanted=False)  # a snapshot would be as late
            return
        if state.is_followed:
            # Every message since was next in the chain: what was wrong was so at the venue or on the way.
            state.is_followed = False
            state.watch.accept()
        state.plain_seq = seq if book is state.book else None
        if state.has_newer_top and self._take_behind(state, data):
            self._events.append(
                TopOfBook(inst_id, bid, bid_size, ask, ask_size, ts_event, ts_recv, True, True)
            )
            return
        self._events.append(TopOfBook(inst_id, bid, bid_size, ask, ask_size, ts_event, ts_recv))

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

    def _is_unchained_legal(self, state: _BookState, data: BookData | TextBookData, ts_recv: int) -> bool:
        """Judge an update whose prevSeqId is not the last seqId; ``True`` when it may be applied."""
        is_chained = data.seqId is not None or data.prevSeqId is not None or state.last_seq is not None
        if not is_chained and data.checksum and state.proved is not None:
            return True  # recordings from before the chain: the checksum alone proves the book
        if data.seqId is not None and data.seqId == state.last_seq and data.prevSeqId == state.last_prev:
            self.duplicates += 1  # the very message that was applied last
            return False
        self._doubt(state, "sequence broken", ts_recv)
        return False

    def _is_proved(self, state: _BookState, data: BookData | TextBookData, ts_recv: int) -> bool:
        """Apply a message to a book of the checksum era; ``False`` when it is not believed."""
        proved = state.proved
        assert proved is not None
        if isinstance(data, BookData):
            if not data.bids and not data.asks:
                return True  # an idle frame changes nothing
            if data.seqId is None:
                self._doubt(state, "checksum missing", ts_recv)
                return False
            # The feed stopped sending checksums (2026-06): the chain alone proves the book from here.
            bids, asks = proved.depth(len(proved))
            state.book.clear()
            state.book.apply([Row(*level) for level in bids], [Row(*level) for level in asks])
            state.proved = None
            return True
        proved.apply(data.bids, data.asks)
        if data.checksum and proved.checksum() != data.checksum:
            self._doubt(state, "checksum mismatch", ts_recv)
            return False
        return True

    def _receive_top(self, inst_id: str, data: BookData | TextBookData, ts_recv: int) -> None:
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
                self._follow(state, "late", ts_recv, is_resync_wanted=False)  # so is the book, then
            return
        self._events.append(TopOfBook(inst_id, bid, bid_size, ask, ask_size, ts_event, ts_recv, False))
        if state is not None and data.seqId is not None:
            state.has_newer_top, state.newer_seq = True, data.seqId

    def _doubt(self, state: _BookState, reason: str, ts_recv: int) -> None:
        stale = state.watch.doubt(reason, ts_recv)
        if stale is not None:
            self._events.append(stale)
        state.last_seq = state.last_prev = state.plain_seq = None
        state.is_followed = False
        self._ask_snapshot(state, ts_recv)

    def _follow(self, state: _BookState, reason: str, ts_recv: int, *, is_resync_wanted: bool = True) -> None:
        """Believe a book no more, yet follow its chain: the next message may put it right."""
        stale = state.watch.doubt(reason, ts_recv, is_resync_wanted=is_resync_wanted)
        if stale is not None:
            self._events.append(stale)
        state.is_followed = True
        state.plain_seq = None

    def _ask_snapshot(self, state: _BookState, now: int) -> None:
        if self._bucket.has(2, now) and state.watch.take_resync(now):
            self._bucket.take(2, now)
            state.asked_at = now
            arg = {"channel": BOOK_CHANNEL, "instId": state.watch.inst_id}
            self._request("unsubscribe", [arg])
            self._request("subscribe", [arg])

    def _receive_unreadable(self, raw: bytes, ts_recv: int, exc: Exception) -> None:
        """Count a book message that cannot be read; its book is in doubt, the others are not."""
        try:
            envelope = decode_envelope(raw)
        except UNREADABLE:
            raise RemoteProtocolError(f"unreadable frame: {raw[:120]!r}") from exc
        if envelope.event:  # an acknowledgement whose keys come in this order
            self._receive_control(envelope, ts_recv)
            return
        self.quarantined += 1
        state = self._books.get(envelope.arg_of("instId"))
        if state is None or envelope.arg_of("channel") != state.channel:
            return
        if envelope.action == _SNAPSHOT:
            self._doubt(state, "unreadable snapshot", ts_recv)
        elif state.watch.is_live:
            self._doubt(state, "unreadable update", ts_recv)

    def _new_book(self, channel: str, inst_id: str) -> _BookState:
        return _BookState(channel, BookWatch(inst_id, self._silence_s, self._now), self._now)

    # -- everything else -----------------------------------------------------------------------

    def _receive_other(self, raw: bytes, ts_recv: int) -> None:
        try:
            envelope = decode_envelope(raw)
        except UNREADABLE as exc:
            raise RemoteProtocolError(f"unreadable frame: {raw[:120]!r}") from exc
        if envelope.event:
            self._receive_control(envelope, ts_recv)
            return
        channel = envelope.arg_of("channel")
        if channel in DEEP_CHANNELS or channel in TOP_CHANNELS:
            self._receive_book_text(raw, ts_recv)
            return
        read = READERS.get(channel)
        if read is None:
            return  # a kind that nobody here asked for; the guide adds some without notice
        try:
            rows = decode_rows(envelope.data)
        except UNREADABLE:
            self.quarantined += 1
            return
        for row in rows:
            try:
                event = read(row, ts_recv)
            except ROW_ERRORS:
                self.quarantined += 1
                continue
            if event is not None:
                self._events.append(event)
            if isinstance(event, InstrumentState):
                self._note_state(event)

    def _note_state(self, event: InstrumentState) -> None:
        # In pre-open and call auction a crossed book is legal (fact sheet 5.2).
        if event.state in AUCTION_STATES:
            self._in_auction.add(event.inst_id)
        else:
            self._in_auction.discard(event.inst_id)

    def _receive_control(self, envelope: Envelope, ts_recv: int) -> None:
        event, code, message = envelope.event, str(envelope.code), str(envelope.msg)
        if event == "notice" and code == NOTICE_UPGRADE:
            self._events.append(ReconnectAsked(f"{code}: {message}", ts_recv))
        elif event == "subscribe":
            channel, inst_id = envelope.arg_of("channel"), envelope.arg_of("instId")
            self._events.append(SubscriptionChanged(channel, inst_id, True, "0", "", ts_recv))
            state = self._books.get(inst_id)
            if state is not None and channel == state.channel and not state.watch.is_live:
                state.watch.last_ts = ts_recv  # its snapshot is awaited from here
        elif event == "unsubscribe" and self._is_open:
            # On a tape somebody else gave the book up, or begins it anew.
            state = self._books.get(envelope.arg_of("instId"))
            if state is not None and envelope.arg_of("channel") == state.channel and state.watch.is_live:
                self._doubt(state, "unsubscribed", ts_recv)
        elif event == "channel-conn-count-error":
            arg = {"channel": str(envelope.channel)}
            self._refuse(arg, "channel-conn-count", "too many connections", ts_recv)
        elif event == "error":
            self._receive_error(str(envelope.id), code, message, ts_recv)

    def _receive_error(self, request_id: str, code: str, message: str, ts_recv: int) -> None:
        """Find out what was refused: an error names no channel, its request leads there (fact sheet 2.3)."""
        request = self._pending.get(request_id)
        if request is not None and request.op == "unsubscribe":
            return  # what is not wanted is not there: nothing is lost
        asked = [] if request is None else request.args
        named = _arg_in_words(message)
        if named in asked or not asked:
            refused = [named]
        elif len(asked) == 1 or code in TRANSIENT_CODES:
            refused = asked
        else:
            # One of several, and the words do not tell which: each is asked for again, alone.
            del self._pending[request_id]
            for arg in asked:
                self._bucket.take(1, ts_recv)
                self._request("subscribe", [arg])
            return
        for arg in refused:
            self._refuse(arg, code, message, ts_recv)
        if request is not None and code in TRANSIENT_CODES:
            self._ask_later(refused, request.refusals, ts_recv)

    def _ask_later(self, args: list[dict[str, str]], refusals: int, now: int) -> None:
        # A book has its watch, which asks for it again.
        others = [arg for arg in args if arg["channel"] != BOOK_CHANNEL]
        if others and refusals < MAX_RETRIES:
            due = now + int(RETRY_AFTER_S * NS_PER_S) * 2**refusals
            self._retries.append((due, _Request("subscribe", others, refusals + 1)))

    def _refuse(self, arg: dict[str, str], code: str, message: str, ts_recv: int) -> None:
        channel, inst_id = arg.get("channel", ""), arg.get("instId", "")
        self._events.append(SubscriptionChanged(channel, inst_id, False, code, message, ts_recv))
        state = self._books.get(inst_id)
        if channel == BOOK_CHANNEL and state is not None:
            stale = state.watch.doubt(
                f"subscription refused: {code}", ts_recv, is_resync_wanted=code in TRANSIENT_CODES
            )
            state.plain_seq = None
            if stale is not None:
                self._events.append(stale)

    def _request(self, op: str, args: list[dict[str, str]], refusals: int = 0) -> None:
        self._request_number += 1
        request_id = str(self._request_number)
        self._pending[request_id] = _Request(op, args, refusals)
        while len(self._pending) > MAX_PENDING_REQUESTS:
            del self._pending[next(iter(self._pending))]
        self._outgoing.append(msgspec.json.encode({"id": request_id, "op": op, "args": args}).decode())


def _best(rows: list[Row] | list[TextLevel]) -> tuple[float | None, float]:
    """Return price and size of the first level, which is the best; a side may be empty."""
    if not rows:
        return None, 0.0
    price, size = float(rows[0].px), float(rows[0].sz)
    if not (0.0 < price < inf and 0.0 < size < inf):
        raise ValueError(f"level {price!r} of size {size!r}")
    return price, size


def _arg_in_words(message: str) -> dict[str, str]:
    """Find channel and instrument in an error's words: ``…channel:books,instId:BTC-USDT doesn't exist…``."""
    arg = {}
    for key in ("channel", "instId"):
        _, found, rest = message.partition(f"{key}:")
        if found:
            arg[key] = rest.split(",", 1)[0].split(" ", 1)[0].rstrip(".")
    return arg
