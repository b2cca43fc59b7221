"""BitMEX public channels, client side, without I/O.

Text frames go in; market events and text frames to send come out. Nothing here opens a
socket, starts a thread or reads a clock: ``_bitmex_future_ws`` does that. Order books are
kept by ``_bitmex_books``, text is read by ``_bitmex_frames``.

Written from the fact sheet of the API as it was before the venue closed (July 2026):

- 2.3, 2.4 acks and errors, in any order with the data, with or without ``status``
- 2.5 after 5 silent seconds a text ``ping``, after 5 more the connection is given up
- 3.1 tables: nothing counts before its ``partial``, which replaces and never merges
- 3.4 quotes, trades, sparse instrument rows, funding

``quote`` gives tops that the venue made (``from_book=False``). The rows of a ``trade``
partial happened before the subscription and are not told again. Mark price, index price
and funding rate are told when they change. Units: price in quote currency, size in
contracts, time in ns since the Unix epoch (the wire carries ISO 8601 with ms).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import msgspec

from dquant.constants import NS_PER_S
from dquant.errors import LocalProtocolError, RemoteProtocolError
from dquant.markets.bitmex._bitmex_books import BOOK_TABLES, BitmexBooks
from dquant.markets.bitmex._bitmex_frames import (
    PARSE_ERRORS,
    Envelope,
    FundingRow,
    InstrumentRow,
    IsoClock,
    LevelRow,
    QuoteRow,
    TableFrame,
    TableReader,
    TradeRow,
    connections_left,
    read_envelope,
    request_of,
    retry_after_s,
    state_of,
)
from dquant.markets.lag_watch import LagWatch
from dquant.model.book import Levels
from dquant.model.events import (
    Event,
    FundingRate,
    IndexPrice,
    InstrumentState,
    MarkPrice,
    SubscriptionChanged,
    TopOfBook,
    Trade,
)

PUBLIC_TOPICS: Final = ("orderBookL2", "quote", "trade", "instrument", "funding")

# Whole small books, ready-made; nobody subscribes them here.
TOP_TABLE: Final = "orderBook10"

# Longer lists were refused (fact sheet 2.4).
TOPICS_A_COMMAND = 10

# A subscription refused for its rate is sent again when the venue says so, this many times.
RATE_RETRIES = 5

# How a book frame begins; what begins otherwise is read the slower way, with the same result.
_BOOK_HEADS: Final = ('{"table":"orderBookL2', b'{"table":"orderBookL2')


class _Facts:
    """What the sparse rows of one instrument add up to; ``None`` is unknown or cleared."""

    __slots__ = ("funding_time", "index", "mark", "rate", "state")

    def __init__(self) -> None:
        self.state: str | None = None
        self.mark: float | None = None
        self.index: float | None = None
        self.rate: float | None = None
        self.funding_time: int | None = None


class BitmexPublicProtocol:
    """Sans-I/O client of the public tables of one connection.

    Args:
        symbols: What to subscribe; rows of other symbols are dropped. ``None`` only listens, to
            every symbol seen, and asks for nothing: that is for a replay.
        silence_s: How long one book may be without a message; 0 never judges.
        now: ns since the Unix epoch.
        topics: The tables to subscribe.
        lag: Says which messages of a book are late; without one none is.

    """

    silence_limit_s = 5.0

    def __init__(
        self,
        symbols: Sequence[str] | None,
        *,
        silence_s: float,
        now: int,
        topics: Sequence[str] = PUBLIC_TOPICS,
        lag: LagWatch | None = None,
    ) -> None:
        self.messages = 0
        self.connections_left: int | None = None  # in the venue's window, from the welcome
        self.quarantined = 0  # rows and frames that could not be used
        self.unread: Counter[str] = Counter()  # of a tape: book tables that nobody reads here
        self._symbols = None if symbols is None else tuple(symbols)
        self._topics = tuple(topics)
        self._events: list[Event] = []
        self._texts: list[str] = []
        self._is_ping_sent = False
        self._clock = IsoClock()
        self._books = BitmexBooks(
            self._symbols,
            [topic for topic in topics if topic in BOOK_TABLES],
            silence_s=silence_s,
            now=now,
            clock=self._clock,
            send=self._send,
            quarantine=self._quarantine,
            lag=lag or LagWatch(0),
            has_quotes="quote" in topics and symbols is not None,
        )
        self._book_reader = TableReader(LevelRow)
        self._read_book_text = self._book_reader.read_text
        # The append-only and sparse tables: how to read and what to do with a row.
        self._tables: dict[str, tuple[TableReader[Any], Callable[[Any, bool, int], None]]] = {
            "quote": (TableReader(QuoteRow), self._receive_quote),
            "trade": (TableReader(TradeRow), self._receive_trade),
            "instrument": (TableReader(InstrumentRow), self._receive_instrument),
            "funding": (TableReader(FundingRow), self._receive_funding),
        }
        self._begun: dict[str, set[str]] = {table: set() for table in self._tables}  # "": every symbol
        self._facts: dict[str, _Facts] = {}
        self._unsubscribing: Counter[str] = Counter()  # topics that a resync of ours is leaving
        self._rate_refusals: Counter[str] = Counter()
        self._retry_at: dict[str, int] = {}

    # The doors

    def subscribe(self, topics: Sequence[str] | None = None) -> None:
        """Queue the subscription of every topic for every symbol.

        Args:
            topics: Only these; ``None`` takes those of the constructor.

        Raises:
            LocalProtocolError: This core only listens.

        """
        if self._symbols is None:
            raise LocalProtocolError("a core without symbols only listens")
        topics = self._topics if topics is None else topics
        args = [f"{topic}:{symbol}" for topic in topics for symbol in self._symbols]
        for start in range(0, len(args), TOPICS_A_COMMAND):
            self._send("subscribe", args[start : start + TOPICS_A_COMMAND])

    def receive_open(self, now: int) -> None:
        """Note that the connection is there: what was asked for goes out now."""
        self._books.receive_open(now)

    def receive_state(self, inst_id: str, state: str, now: int) -> None:
        """Take the state of a symbol, in neutral words, from elsewhere: its book may begin before its row."""
        self._books.receive_state(inst_id, state, now, self._events)

    def receive_text(self, text: str | bytes, ts_recv: int) -> None:
        """Take one text frame; then drain ``texts_to_send`` and ``events_received``.

        Raises:
            RemoteProtocolError: The frame is not what the guide describes, or the venue refuses to talk.

        """
        self.messages += 1
        self._is_ping_sent = False
        if text[:21] in _BOOK_HEADS:
            try:
                frame = self._read_book_text(text)
            except PARSE_ERRORS:
                pass  # read row by row below, or refused
            else:
                if frame.table in BOOK_TABLES:
                    self._books.receive(frame, ts_recv, self._events)
                    return
        if text.strip() in ("pong", b"pong"):
            return
        try:
            envelope = read_envelope(text)
        except PARSE_ERRORS as exc:
            raise RemoteProtocolError(f"unreadable frame {text[:120]!r}: {exc}") from exc
        if envelope.table is not None:
            self._receive_table(envelope.table, envelope, ts_recv)
        elif envelope.error is not None:
            self._receive_error(envelope, envelope.error, ts_recv)
        elif envelope.success is not None:
            self._receive_ack(envelope, ts_recv)
        elif envelope.info is not None:
            left = connections_left(envelope)
            self.connections_left = self.connections_left if left is None else left
        else:
            self.quarantined += 1

    def receive_silence(self) -> None:
        """Note that ``silence_limit_s`` passed without a frame: ping once, then give up.

        Raises:
            RemoteProtocolError: The ping was not answered either.

        """
        if self._is_ping_sent:
            raise RemoteProtocolError(f"no answer to a ping within {self.silence_limit_s:g} s")
        self._is_ping_sent = True
        self._texts.append("ping")

    def receive_time(self, now: int) -> None:
        """Judge the silence of each book, and send what had to wait; call it about twice a second."""
        self._books.receive_time(now, self._events)
        if self._retry_at:
            due = [topic for topic, at in self._retry_at.items() if at <= now]
            for topic in due:
                del self._retry_at[topic]
            self._books.receive_open(now)
            for start in range(0, len(due), TOPICS_A_COMMAND):
                self._send("subscribe", due[start : start + TOPICS_A_COMMAND])

    def events_received(self) -> list[Event]:
        """Return the events since the last call."""
        events = self._events
        self._events = []
        return events

    def texts_to_send(self) -> list[str]:
        """Return the texts to send since the last call."""
        texts = self._texts
        self._texts = []
        return texts

    def depth(self, inst_id: str, levels: int) -> tuple[Levels, Levels] | None:
        """Return up to ``levels`` (price, size) a side, best first; ``None`` while the book is stale."""
        return self._books.depth(inst_id, levels)

    def is_suspended(self, inst_id: str) -> bool:
        """Tell whether the venue lets nobody trade this symbol now, so that no book is to be expected."""
        return self._books.is_suspended(inst_id)

    @property
    def unbegun(self) -> Counter[str]:
        """Book messages of each symbol of a tape before its first partial."""
        return self._books.unbegun

    @property
    def unknown_ids(self) -> int:
        """Book rows about levels that the book did not have."""
        return self._books.unknown_ids

    def resyncs(self) -> int:
        """Return how often a partial was asked for because a book was in doubt."""
        return self._books.resyncs()

    # Acks and errors

    def _quarantine(self, rows: int) -> None:
        self.quarantined += rows

    def _send(self, op: str, topics: list[str]) -> None:
        if op == "unsubscribe":
            self._unsubscribing.update(topics)
        self._texts.append(msgspec.json.encode({"op": op, "args": topics}).decode())

    def _receive_ack(self, envelope: Envelope, ts_recv: int) -> None:
        if envelope.subscribe is not None:
            self._rate_refusals.pop(envelope.subscribe, None)
            self._books.receive_begin(envelope.subscribe)
            self._tell_subscription(envelope.subscribe, ts_recv, is_subscribed=bool(envelope.success))
        elif envelope.unsubscribe is not None:
            topic = envelope.unsubscribe
            if self._unsubscribing[topic] > 0:
                self._unsubscribing[topic] -= 1
                return
            table, _, symbol = topic.partition(":")
            self._begun.get(table, set()).discard(symbol)
            self._books.receive_end(topic, "unsubscribed", ts_recv, self._events)
            self._tell_subscription(topic, ts_recv, is_subscribed=False)

    def _receive_error(self, envelope: Envelope, words: str, ts_recv: int) -> None:
        request = request_of(envelope)
        lowered = words.lower()
        if "already subscribed" in lowered or "not subscribed" in lowered:
            if request.op == "unsubscribe":
                self._unsubscribing.subtract(topic for topic in request.topics() if topic in words)
                self._unsubscribing += Counter()  # forget what fell to 0 or below
            return
        code = "" if envelope.status is None else str(envelope.status)
        if request.op != "subscribe":
            if request.op:
                self._events.append(SubscriptionChanged(request.op, "", False, code, words, ts_recv))
                return
            raise RemoteProtocolError(f"error {code} without a request: {words}")
        # One bad topic of a list is refused alone; only the words say which (fact sheet 2.4).
        named = [topic for topic in request.topics() if topic in words] or request.topics()
        for topic in named:
            if envelope.status == 429 and self._rate_refusals[topic] < RATE_RETRIES:
                self._rate_refusals[topic] += 1
                self._retry_at[topic] = ts_recv + int(retry_after_s(envelope) * NS_PER_S)
                continue
            self._books.receive_end(topic, "subscription refused", ts_recv, self._events)
            self._tell_subscription(topic, ts_recv, is_subscribed=False, code=code, message=words)

    def _tell_subscription(
        self, topic: str, ts_recv: int, *, is_subscribed: bool, code: str = "", message: str = ""
    ) -> None:
        channel, _, symbol = topic.partition(":")
        self._events.append(SubscriptionChanged(channel, symbol, is_subscribed, code, message, ts_recv))

    # Tables

    def _receive_table(self, table: str, envelope: Envelope, ts_recv: int) -> None:
        if table in BOOK_TABLES:
            book_frame, bad_rows = self._book_reader.read_envelope(envelope)
            if bad_rows:
                self._books.receive_damaged(book_frame, bad_rows, ts_recv, self._events)
            else:
                self._books.receive(book_frame, ts_recv, self._events)
            return
        known = self._tables.get(table)
        if known is None:
            if self._symbols is None and table == TOP_TABLE:
                self.unread[table] += 1
            return
        reader, receive_row = known
        frame, bad_rows = reader.read_envelope(envelope)
        self.quarantined += len(bad_rows)
        begun = self._begun[table]
        is_partial = frame.action == "partial"
        if is_partial:
            begun.update(_covered(frame))
        if frame.action == "delete":
            return
        for row in frame.data:
            if ("" in begun or row.symbol in begun) and (
                self._symbols is None or row.symbol in self._symbols
            ):
                receive_row(row, is_partial, ts_recv)

    def _receive_quote(self, row: QuoteRow, is_partial: bool, ts_recv: int) -> None:
        bid, ask = row.bid_price, row.ask_price
        if (
            (bid is not None and not bid > 0.0)
            or (ask is not None and not ask > 0.0)
            or (bid is not None and ask is not None and bid >= ask)
        ):
            self.quarantined += 1
            return
        ts_event = self._clock.ns(row.timestamp, ts_recv)
        quote = TopOfBook(
            row.symbol,
            bid,
            0.0 if bid is None else row.bid_size or 0.0,
            ask,
            0.0 if ask is None else row.ask_size or 0.0,
            ts_event,
            ts_recv,
            from_book=False,
        )
        self._books.receive_quote(quote)
        self._events.append(quote)

    def _receive_trade(self, row: TradeRow, is_partial: bool, ts_recv: int) -> None:
        # Index symbols begin with a dot; before trdType came, nothing else told their ticks from trades.
        if is_partial or row.kind not in (None, "Regular") or row.symbol[:1] == ".":
            return
        if row.side not in ("Buy", "Sell") or not (row.price or 0.0) > 0.0 or not (row.size or 0.0) > 0.0:
            self.quarantined += 1
            return
        self._events.append(
            Trade(
                row.symbol,
                row.trade_id or "",
                cast("float", row.price),
                cast("float", row.size),
                "buy" if row.side == "Buy" else "sell",
                self._clock.ns(row.timestamp, ts_recv),
                ts_recv,
            )
        )

    def _receive_instrument(self, row: InstrumentRow, is_partial: bool, ts_recv: int) -> None:
        symbol = row.symbol
        old = self._facts.get(symbol)
        if old is None:
            old = self._facts[symbol] = _Facts()
        # Missing is unchanged, except in a partial, which is the whole row; null is cleared.
        absent = None if is_partial else msgspec.UNSET
        mark = absent if row.mark_price is msgspec.UNSET else row.mark_price
        index = absent if row.indicative_settle_price is msgspec.UNSET else row.indicative_settle_price
        rate = absent if row.funding_rate is msgspec.UNSET else row.funding_rate
        stamp = absent if row.funding_timestamp is msgspec.UNSET else row.funding_timestamp
        state = absent if row.state is msgspec.UNSET else row.state
        ts_event = self._clock.ns(row.timestamp, ts_recv)
        if mark is not msgspec.UNSET and mark != old.mark:
            old.mark = mark
            if mark is not None:
                self._events.append(MarkPrice(symbol, mark, ts_event, ts_recv))
        if index is not msgspec.UNSET and index != old.index:
            old.index = index
            if index is not None:
                self._events.append(IndexPrice(symbol, index, ts_event, ts_recv))
        if rate is not msgspec.UNSET or stamp is not msgspec.UNSET:
            before = (old.rate, old.funding_time)
            if rate is not msgspec.UNSET:
                old.rate = rate
            if stamp is not msgspec.UNSET:
                old.funding_time = self._clock.ns(stamp, 0) or None
            self._tell_funding(symbol, old, before, ts_event, ts_recv)
        if state is not msgspec.UNSET and state != old.state:
            old.state = state
            if state is not None:
                self._events.append(InstrumentState(symbol, state_of(state), ts_recv))
                self._books.receive_state(symbol, state_of(state), ts_recv, self._events)

    def _receive_funding(self, row: FundingRow, is_partial: bool, ts_recv: int) -> None:
        """Take a funding that happened; the instrument's coming one is newer and not overwritten."""
        funding_time = self._clock.ns(row.timestamp, 0)
        if not funding_time:
            self.quarantined += 1
            return
        facts = self._facts.get(row.symbol)
        if facts is None:
            facts = self._facts[row.symbol] = _Facts()
        if facts.funding_time is None or facts.funding_time < funding_time:
            before = (facts.rate, facts.funding_time)
            facts.rate, facts.funding_time = row.funding_rate, funding_time
            self._tell_funding(row.symbol, facts, before, funding_time, ts_recv)

    def _tell_funding(
        self, symbol: str, facts: _Facts, before: tuple[float | None, int | None], ts_event: int, ts_recv: int
    ) -> None:
        rate, funding_time = facts.rate, facts.funding_time
        if rate is not None and funding_time is not None and (rate, funding_time) != before:
            self._events.append(FundingRate(symbol, rate, funding_time, ts_event, ts_recv))


def _covered(frame: TableFrame[Any]) -> set[str]:
    """Return the symbols that a partial begins; ``""`` stands for all."""
    if frame.filter is None:
        return {row.symbol for row in frame.data}
    return set(frame.filter.symbols()) or {""}
