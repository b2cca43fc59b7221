"""OKX public channels, client side, without I/O.

Text frames go in; market events and text frames to send come out. Nothing here opens a
socket, starts a thread or reads a clock: ``_okex_future_ws`` does that. Order books are
kept by ``_okex_books``, text is read by ``_okex_frames`` and ``_okex_rows``.

Written from the fact sheet ``okx-v5`` (guide of 2026-06-27, recordings to 2026-09-30):

- 2.1 to 2.4: frame kinds, acks and errors by code, the text heartbeat
- 2.5, 2.6: limits on requests; refusals that pass by themselves
- 5.1 to 5.7: tickers, book channels, trades, mark and index price, funding, instruments

Units: price in quote currency, size in contracts (spot: base coin), time in ns since
the Unix epoch (the wire carries ms).
"""

from collections import Counter, deque
from collections.abc import Iterable

import msgspec

from dquant.constants import NS_PER_S
from dquant.errors import RemoteProtocolError
from dquant.markets.book_watch import TokenBucket
from dquant.markets.lag_watch import LagWatch
from dquant.markets.okex._okex_books import BOOK_CHANNEL, DEEP_CHANNELS, TOP_CHANNELS, OkexBooks
from dquant.markets.okex._okex_frames import (
    BookFrame,
    Envelope,
    TextBookFrame,
    decode_book,
    decode_envelope,
    decode_rows,
    decode_text_book,
)
from dquant.markets.okex._okex_rows import READERS, ROW_ERRORS
from dquant.model.book import Levels
from dquant.model.events import Event, InstrumentState, ReconnectAsked, SubscriptionChanged

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

UNREADABLE = (msgspec.MsgspecError, RecursionError)

_BOOK_FRAME = b'{"arg":{"channel":"books'
_NO_CHECKSUM = b'"checksum":0'
_ANY_CHECKSUM = b'"checksum"'


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
        self._now = now
        self._events: list[Event] = []
        self._outgoing: list[str] = []
        self._is_ping_sent = False
        self._pending: dict[str, _Request] = {}
        self._retries: deque[tuple[int, _Request]] = deque()  # when to ask again, and for what
        self._request_number = 0
        self._bucket = TokenBucket(REQUEST_BURST, REQUEST_REFILL_S, now)
        self._books = OkexBooks(
            silence_s=silence_s,
            lag=lag or LagWatch(0),
            bucket=self._bucket,
            request=self._request,
            is_open=is_open,
        )

    # -- verbs ---------------------------------------------------------------------------------

    def subscribe(self, args: Iterable[dict[str, str]]) -> None:
        """Ask for channels, each ``{"channel": …, "instId": …}``, in one request."""
        wanted = list(args)
        for arg in wanted:
            if arg["channel"] == BOOK_CHANNEL:
                self._books.open(arg["instId"], self._now)
        self._request("subscribe", wanted)

    def unsubscribe(self, args: Iterable[dict[str, str]]) -> None:
        """Give channels up; a book is forgotten at once, its late messages are ignored."""
        given_up = list(args)
        for arg in given_up:
            if arg["channel"] == BOOK_CHANNEL:
                self._books.close(arg["instId"])
        for _, request in self._retries:
            request.args = [arg for arg in request.args if arg not in given_up]
        self._request("unsubscribe", given_up)

    # -- what comes in -------------------------------------------------------------------------

    def receive_open(self, now: int) -> None:
        """Note that the connection is there: what was asked for goes out now."""
        self._now = now
        self._books.receive_open(now)

    def receive_state(self, inst_id: str, state: str, now: int) -> None:
        """Take the state of an instrument from elsewhere: the channel may tell only what changes (5.7)."""
        self._books.receive_state(inst_id, state, now, self._events)

    def receive_text(self, text: str | bytes, ts_recv: int) -> None:
        """Take one text frame; then drain ``texts_to_send`` and ``events_received``.

        Raises:
            RemoteProtocolError: The frame is not what the guide describes.

        """
        self.messages += 1
        self._is_ping_sent = False
        self._now = ts_recv
        raw = text.encode(errors="surrogatepass") if isinstance(text, str) else text
        if not raw.startswith(_BOOK_FRAME) and self._receive_other(raw, ts_recv):
            return
        # The hot path has no call of its own for what follows: it would cost 1.5 % of a message.
        try:
            frame: BookFrame | TextBookFrame
            # The levels' spelling is kept only while there is a checksum to prove with it, which is
            # looked for from the right, where it stands: six times as fast as from the left.
            at = raw.rfind(_ANY_CHECKSUM)
            if at < 0 or raw.startswith(_NO_CHECKSUM, at):
                frame = decode_book(raw)
            else:
                frame = decode_text_book(raw)
                for data in frame.data:
                    if data.checksum:
                        break
                else:  # a 0 spelt another way
                    frame = decode_book(raw)
            self._books.receive(frame, ts_recv, self._events)
        except (*UNREADABLE, ValueError) as exc:
            self._receive_unreadable(raw, ts_recv, exc)

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
        self._books.receive_time(now, self._events)
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
        return self._books.depth(inst_id, levels)

    def is_suspended(self, inst_id: str) -> bool:
        """Tell whether the venue lets nobody trade this instrument now, so that no book is to be expected."""
        return self._books.is_suspended(inst_id)

    @property
    def duplicates(self) -> int:
        """Book messages that were the very ones applied last."""
        return self._books.duplicates

    @property
    def unbegun(self) -> Counter[str]:
        """Book messages of each instrument before its first snapshot."""
        return self._books.unbegun

    @property
    def unread(self) -> Counter[str]:
        """Messages of each book channel of a tape that nobody reads here."""
        return self._books.unread

    def resyncs(self) -> int:
        """Return how many snapshots were asked for because a book was in doubt."""
        return self._books.resyncs()

    # -- data ----------------------------------------------------------------------------------

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
        channel, inst_id = envelope.arg_of("channel"), envelope.arg_of("instId")
        self._books.receive_damaged(channel, inst_id, envelope.action, ts_recv, self._events)

    def _receive_other(self, raw: bytes, ts_recv: int) -> bool:
        """Take a frame that does not begin like a book's; ``False``: it is one, its keys in another order."""
        if raw.strip() == b"pong":
            return True
        try:
            envelope = decode_envelope(raw)
        except UNREADABLE as exc:
            raise RemoteProtocolError(f"unreadable frame: {raw[:120]!r}") from exc
        channel = envelope.arg_of("channel")
        if envelope.event:
            self._receive_control(envelope, ts_recv)
        elif channel in DEEP_CHANNELS or channel in TOP_CHANNELS:
            return False
        elif channel in READERS:  # else a kind that nobody asked for; the guide adds some without notice
            self._receive_rows(channel, envelope.data, ts_recv)
        return True

    def _receive_rows(self, channel: str, data: bytes, ts_recv: int) -> None:
        read = READERS[channel]
        try:
            rows = decode_rows(data)
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
                self._books.receive_state(event.inst_id, event.state, ts_recv, self._events)

    # -- control, requests ---------------------------------------------------------------------

    def _receive_control(self, envelope: Envelope, ts_recv: int) -> None:
        event, code, message = envelope.event, str(envelope.code), str(envelope.msg)
        channel, inst_id = envelope.arg_of("channel"), envelope.arg_of("instId")
        if event == "notice" and code == NOTICE_UPGRADE:
            self._events.append(ReconnectAsked(f"{code}: {message}", ts_recv))
        elif event == "subscribe":
            self._events.append(SubscriptionChanged(channel, inst_id, True, "0", "", ts_recv))
            self._books.receive_begin(channel, inst_id, ts_recv)
        elif event == "unsubscribe":
            self._books.receive_end(channel, inst_id, ts_recv, self._events)
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
        if channel == BOOK_CHANNEL:
            reason, is_passing = f"subscription refused: {code}", code in TRANSIENT_CODES
            self._books.receive_refusal(inst_id, reason, ts_recv, self._events, is_resync_wanted=is_passing)

    def _request(self, op: str, args: list[dict[str, str]], refusals: int = 0) -> None:
        self._request_number += 1
        request_id = str(self._request_number)
        self._pending[request_id] = _Request(op, args, refusals)
        while len(self._pending) > MAX_PENDING_REQUESTS:
            del self._pending[next(iter(self._pending))]
        self._outgoing.append(msgspec.json.encode({"id": request_id, "op": op, "args": args}).decode())


def _arg_in_words(message: str) -> dict[str, str]:
    """Find channel and instrument in an error's words: ``…channel:books,instId:BTC-USDT doesn't exist…``."""
    arg = {}
    for key in ("channel", "instId"):
        _, found, rest = message.partition(f"{key}:")
        if found:
            arg[key] = rest.split(",", 1)[0].split(" ", 1)[0].rstrip(".")
    return arg
