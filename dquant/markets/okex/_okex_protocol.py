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

from collections.abc import Iterable
from typing import Any

import msgspec

from dquant.constants import NS_PER_MS
from dquant.errors import RemoteProtocolError
from dquant.markets.book_watch import BookWatch
from dquant.markets.okex._okex_frames import (
    BookData,
    BookFrame,
    Envelope,
    Row,
    TextBookData,
    TextBookFrame,
    decode_book,
    decode_envelope,
    decode_rows,
    decode_text_book,
)
from dquant.model.book import ChecksumBook, Levels, PriceBook
from dquant.model.events import (
    Event,
    FundingRate,
    IndexPrice,
    InstrumentState,
    MarkPrice,
    ReconnectAsked,
    SubscriptionChanged,
    TickerStats,
    TopOfBook,
    Trade,
)

BOOK_CHANNEL = "books"
DEEP_CHANNELS = ("books", "books-l2-tbt", "books50-l2-tbt")
TOP_CHANNELS = ("bbo-tbt", "books5")

# Refusals that pass by themselves (fact sheet 2.6); every other code stays refused.
TRANSIENT_CODES = frozenset({"60014", "60023", "63999", "64007"})
NOTICE_UPGRADE = "64008"

# Requests whose answers are awaited; older ones are forgotten, their errors then name no channel.
MAX_PENDING_REQUESTS = 64

_SNAPSHOT = "snapshot"
_BOOK_FRAME = b'{"arg":{"channel":"books'
_NO_CHECKSUM = b'"checksum":0'
_ANY_CHECKSUM = b'"checksum"'


class _BookState:
    """One book of one channel: its levels, where its chain stands, whether it is believed."""

    __slots__ = ("book", "channel", "is_auction", "last_prev", "last_seq", "proved", "watch")

    def __init__(self, channel: str, watch: BookWatch) -> None:
        self.channel = channel
        self.watch = watch
        self.book = PriceBook()
        self.proved: ChecksumBook | None = None  # in place of ``book`` while checksums are sent
        self.last_seq: int | None = None
        self.last_prev: int | None = None
        self.is_auction = False


class OkexPublicProtocol:
    """Sans-I/O client of one public connection; OKX hangs up after 30 silent seconds.

    Args:
        silence_s: Seconds without a message about a book that make it stale; 0 never judges.
        now: Our clock at the start, ns since the Unix epoch.
        is_open: Take books that were never subscribed here as well, as a replayed tape needs.

    """

    silence_limit_s = 10.0

    def __init__(self, *, silence_s: float, now: int, is_open: bool = False) -> None:
        self.messages = 0
        self.quarantined = 0
        self.duplicates = 0
        self._silence_s = silence_s
        self._now = now
        self._is_open = is_open
        self._books: dict[str, _BookState] = {}
        self._events: list[Event] = []
        self._outgoing: list[str] = []
        self._is_ping_sent = False
        self._pending: dict[str, list[dict[str, str]]] = {}
        self._request_number = 0

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
        self._request("unsubscribe", given_up)

    def set_auction(self, inst_id: str, *, is_auction: bool) -> None:
        """Note that a crossed book is legal now (pre-open and call auction), or no longer."""
        if inst_id in self._books:
            self._books[inst_id].is_auction = is_auction

    # -- what comes in -------------------------------------------------------------------------

    def receive_text(self, text: str | bytes, ts_recv: int) -> None:
        """Take one text frame; then drain ``texts_to_send`` and ``events_received``.

        Raises:
            RemoteProtocolError: The frame is not what the guide describes.

        """
        self.messages += 1
        self._is_ping_sent = False
        self._now = ts_recv
        raw = text.encode() if isinstance(text, str) else text
        if raw.startswith(_BOOK_FRAME):
            self._receive_book_text(raw, ts_recv)
        elif raw != b"pong":
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
                self._doubt(state, f"silent for {watch.silence_ns / 1e9:g} s", now)
            else:
                self._ask_snapshot(watch, now)

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
            if _NO_CHECKSUM in raw or _ANY_CHECKSUM not in raw:
                frame = decode_book(raw)
            else:
                frame = decode_text_book(raw)
                if not any(data.checksum for data in frame.data):  # a 0 spelt another way
                    frame = decode_book(raw)
            arg, action = frame.arg, frame.action
            for data in frame.data:
                if action:
                    self._receive_deep(arg.channel, arg.instId, action, data, ts_recv)
                elif arg.channel in TOP_CHANNELS:
                    self._receive_top(arg.instId, data, ts_recv)
        except (msgspec.MsgspecError, ValueError) as exc:
            self._quarantine_book(raw, ts_recv, exc)

    def _receive_deep(
        self, channel: str, inst_id: str, action: str, data: BookData | TextBookData, ts_recv: int
    ) -> None:
        state = self._books.get(inst_id)
        if state is None:
            if not self._is_open or channel not in DEEP_CHANNELS:
                return  # still under way from a subscription given up
            state = self._books[inst_id] = self._new_book(channel, inst_id)
        if channel != state.channel:
            return  # a second book of the same instrument has a chain of its own
        watch = state.watch
        watch.last_ts = ts_recv
        if action == _SNAPSHOT:
            state.book.clear()
            state.proved = ChecksumBook() if isinstance(data, TextBookData) and data.checksum else None
            watch.accept()
        elif not watch.is_live:
            return  # the chain is broken: only a snapshot starts a new one
        elif (data.prevSeqId is None or data.prevSeqId != state.last_seq) and not self._is_unchained_legal(
            state, data, ts_recv
        ):
            return
        state.last_seq = data.seqId
        state.last_prev = data.prevSeqId
        if state.proved is not None and not self._is_proved(state, data, ts_recv):
            return
        if state.proved is not None:
            bid, bid_size, ask, ask_size = state.proved.top()
        elif isinstance(data, BookData):
            book = state.book
            book.apply(data.bids, data.asks)
            bid, bid_size, ask, ask_size = book.top()
        else:
            # The old checksum came back: this book lacks the spelling that proves it.
            self._doubt(state, "checksum returned", ts_recv)
            return
        if bid is not None and ask is not None and bid >= ask and not state.is_auction:
            self._doubt(state, "crossed", ts_recv)
            return
        self._events.append(TopOfBook(inst_id, bid, bid_size, ask, ask_size, data.ts * NS_PER_MS, ts_recv))

    def _is_unchained_legal(self, state: _BookState, data: BookData | TextBookData, ts_recv: int) -> bool:
        """Judge an update whose prevSeqId is not the last seqId; ``True`` when it may be applied."""
        if data.seqId is None and data.prevSeqId is None and state.last_seq is None and data.checksum:
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
        if proved.checksum() != data.checksum:
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
        bid, ask = (data.bids[0] if data.bids else None), (data.asks[0] if data.asks else None)
        top = TopOfBook(
            inst_id,
            None if bid is None else float(bid.px),
            0.0 if bid is None else float(bid.sz),
            None if ask is None else float(ask.px),
            0.0 if ask is None else float(ask.sz),
            data.ts * NS_PER_MS,
            ts_recv,
            False,
        )
        if top.bid is not None and top.ask is not None and not 0.0 < top.bid < top.ask:
            return  # an auction, or nonsense: the verified book alone speaks then
        self._events.append(top)

    def _doubt(self, state: _BookState, reason: str, ts_recv: int) -> None:
        stale = state.watch.doubt(reason, ts_recv)
        if stale is not None:
            self._events.append(stale)
        state.last_seq = state.last_prev = None
        self._ask_snapshot(state.watch, ts_recv)

    def _ask_snapshot(self, watch: BookWatch, now: int) -> None:
        if watch.take_resync(now):
            arg = {"channel": BOOK_CHANNEL, "instId": watch.inst_id}
            self._request("unsubscribe", [arg])
            self._request("subscribe", [arg])

    def _quarantine_book(self, raw: bytes, ts_recv: int, exc: Exception) -> None:
        """Count a book message that cannot be read; its book is in doubt, the others are not."""
        try:
            envelope = decode_envelope(raw)
        except msgspec.MsgspecError:
            raise RemoteProtocolError(f"unreadable frame: {raw[:120]!r}") from exc
        self.quarantined += 1
        state = self._books.get(str(envelope.arg.get("instId", "")))
        if state is not None and envelope.arg.get("channel") in DEEP_CHANNELS:
            state.watch.last_ts = ts_recv
            if state.watch.is_live:
                self._doubt(state, "unreadable update", ts_recv)

    def _new_book(self, channel: str, inst_id: str) -> _BookState:
        return _BookState(channel, BookWatch(inst_id, self._silence_s, self._now))

    # -- everything else -----------------------------------------------------------------------

    def _receive_other(self, raw: bytes, ts_recv: int) -> None:
        try:
            envelope = decode_envelope(raw)
        except msgspec.MsgspecError as exc:
            raise RemoteProtocolError(f"unreadable frame: {raw[:120]!r}") from exc
        if envelope.event:
            self._receive_control(envelope.event, envelope, ts_recv)
            return
        channel = envelope.arg.get("channel")
        if channel in DEEP_CHANNELS or channel in TOP_CHANNELS:
            self._receive_book_text(raw, ts_recv)
            return
        read = _READERS.get(str(channel))
        if read is None:
            return  # a kind that nobody here asked for; the guide adds some without notice
        try:
            rows = decode_rows(envelope.data)
        except msgspec.MsgspecError:
            self.quarantined += 1
            return
        for row in rows:
            try:
                event = read(row, ts_recv)
            except (KeyError, TypeError, ValueError):
                self.quarantined += 1
            else:
                if event is not None:
                    self._events.append(event)

    def _receive_control(self, event: str, envelope: Envelope, ts_recv: int) -> None:
        code, message = str(envelope.code), str(envelope.msg)
        if event == "notice" and code == NOTICE_UPGRADE:
            self._events.append(ReconnectAsked(f"{code}: {message}", ts_recv))
        elif event == "subscribe":
            arg = envelope.arg
            self._events.append(
                SubscriptionChanged(
                    str(arg.get("channel", "")), str(arg.get("instId", "")), True, "0", "", ts_recv
                )
            )
        elif event == "channel-conn-count-error":
            self._refuse({"channel": envelope.channel}, "channel-conn-count", "too many connections", ts_recv)
        elif event == "error":
            self._receive_error(envelope.id, code, message, ts_recv)

    def _receive_error(self, request_id: str, code: str, message: str, ts_recv: int) -> None:
        """Find out what was refused: an error names no channel, its request leads there (fact sheet 2.3)."""
        asked = self._pending.get(request_id, [])
        named = _arg_in_words(message)
        if len(asked) <= 1 or named in asked:
            self._refuse(named if named in asked or not asked else asked[0], code, message, ts_recv)
            return
        # One of several, and the words do not tell which: each is asked for again, alone.
        del self._pending[request_id]
        for arg in asked:
            self._request("subscribe", [arg])

    def _refuse(self, arg: dict[str, str], code: str, message: str, ts_recv: int) -> None:
        channel, inst_id = arg.get("channel", ""), arg.get("instId", "")
        self._events.append(SubscriptionChanged(channel, inst_id, False, code, message, ts_recv))
        state = self._books.get(inst_id)
        if channel == BOOK_CHANNEL and state is not None:
            stale = state.watch.doubt(
                f"subscription refused: {code}", ts_recv, is_resync_wanted=code in TRANSIENT_CODES
            )
            if stale is not None:
                self._events.append(stale)

    def _request(self, op: str, args: list[dict[str, str]]) -> None:
        self._request_number += 1
        request_id = str(self._request_number)
        if op == "subscribe":
            self._pending[request_id] = args
            while len(self._pending) > MAX_PENDING_REQUESTS:
                del self._pending[next(iter(self._pending))]
        self._outgoing.append(msgspec.json.encode({"id": request_id, "op": op, "args": args}).decode())


def _arg_in_words(message: str) -> dict[str, str]:
    """Find channel and instrument in an error's words: ``…channel:books,instId:BTC-USDT doesn't exist…``."""
    arg = {}
    for key in ("channel", "instId"):
        _, found, rest = message.partition(f"{key}:")
        if found:
            arg[key] = rest.split(",", 1)[0].split(" ", 1)[0]
    return arg


def _number(text: Any) -> float:
    value = float(text)
    if not value - value == 0.0:
        raise ValueError(f"not a finite number: {text!r}")
    return value


def _read_ticker(row: dict[str, Any], ts_recv: int) -> Event | None:
    if row["last"] == "":
        return None  # nothing traded yet
    return TickerStats(
        row["instId"],
        _number(row["last"]),
        _number(row["lastSz"] or 0),
        _number(row["vol24h"] or 0),
        int(row["ts"]) * NS_PER_MS,
        ts_recv,
    )


def _read_trade(row: dict[str, Any], ts_recv: int) -> Event:
    side = row["side"]
    if side not in ("buy", "sell"):
        raise ValueError(f"side {side!r}")
    return Trade(
        row["instId"],
        row["tradeId"],
        _number(row["px"]),
        _number(row["sz"]),
        side,
        int(row["ts"]) * NS_PER_MS,
        ts_recv,
    )


def _read_mark(row: dict[str, Any], ts_recv: int) -> Event:
    return MarkPrice(row["instId"], _number(row["markPx"]), int(row["ts"]) * NS_PER_MS, ts_recv)


def _read_index(row: dict[str, Any], ts_recv: int) -> Event:
    return IndexPrice(row["instId"], _number(row["idxPx"]), int(row["ts"]) * NS_PER_MS, ts_recv)


def _read_funding(row: dict[str, Any], ts_recv: int) -> Event | None:
    if row.get("fundingRate", "") == "":
        return None
    return FundingRate(
        row["instId"],
        _number(row["fundingRate"]),
        int(row["fundingTime"]) * NS_PER_MS,
        int(row["ts"]) * NS_PER_MS if row.get("ts") else ts_recv,
        ts_recv,
    )


def _read_instrument(row: dict[str, Any], ts_recv: int) -> Event:
    return InstrumentState(row["instId"], row["state"], ts_recv)


_READERS = {
    "tickers": _read_ticker,
    "trades": _read_trade,
    "mark-price": _read_mark,
    "index-tickers": _read_index,
    "funding-rate": _read_funding,
    "instruments": _read_instrument,
}
