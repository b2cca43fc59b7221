"""The order books of one BitMEX connection: rows go in, tops of book and verdicts come out.

Without I/O and without text: ``_bitmex_protocol`` decodes and sends. One book a table and
symbol, levels named by id (fact sheet 3.4). BitMEX has neither sequence numbers nor checksums
(3.1), so a book is believed until its own contents, its quotes or its silence speak against it:

- everything before the first ``partial`` of a subscription is dropped; each ``partial`` replaces
- a crossed book, more than ``UNKNOWN_LIMIT`` rows in a row about levels that the book does not
  have, an unreadable row, or silence make it stale; it is emptied, drops what comes, and asks
  for a new ``partial`` by unsubscribing and subscribing, as often as ``BookWatch`` allows
- so does a top that is not what ``quote`` says it is (``_bitmex_quotes``), where quotes are subscribed
- a late message makes it stale as long as its lag lasts; the book goes on being kept
- so does a symbol that is not open for trading (``SUSPENDED_STATES``)

Where a symbol is fed by several L2 tables, only the fullest one speaks.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Final

import msgspec

from dquant.markets.bitmex._bitmex_frames import IsoClock, LevelRow, TableFrame, symbol_of
from dquant.markets.bitmex._bitmex_quotes import QuoteCheck
from dquant.markets.book_watch import CONNECTING, SUSPENDED, BookWatch
from dquant.markets.lag_watch import LagWatch
from dquant.model.book import Levels
from dquant.model.events import Event, SubscriptionChanged, TopOfBook
from dquant.model.id_book import IdBook

# From the fullest to the one that shows least.
BOOK_TABLES: Final = ("orderBookL2", "orderBookL2_100", "orderBookL2_25")

# At funding time a few updates of levels deleted just before are ordinary (fact sheet 8).
UNKNOWN_LIMIT = 10

# Neutral words (``state_of``) for states in which nobody can trade; a word that is not known is none of them.
SUSPENDED_STATES = ("suspend", "preopen", "expired")

QUOTES_OFF = "not heeded any more: it disagrees with each new snapshot of the book"


class _Book:
    """One book with its verdict and its subscription."""

    __slots__ = (
        "asked_at",
        "check",
        "is_fed",
        "is_heard",
        "is_refused",
        "is_whole",
        "levels",
        "table",
        "unknown_run",
        "watch",
    )

    def __init__(self, table: str, symbol: str, silence_s: float, now: int) -> None:
        self.table = table
        self.levels = IdBook()
        self.watch = BookWatch(symbol, silence_s, now)
        self.asked_at = now  # when its partial was asked for; 0: it came
        self.is_fed = False  # a partial came and nothing has spoken against the book since
        self.is_heard = True  # no fuller book of this symbol is there
        self.is_whole = False  # comes in the stream of all symbols
        self.is_refused = False
        self.unknown_run = 0
        self.check: QuoteCheck | None = None

    @property
    def topic(self) -> str:
        """The subscription that feeds this book."""
        return self.table if self.is_whole else f"{self.table}:{self.watch.inst_id}"


class BitmexBooks:
    """All order books of one connection.

    Args:
        symbols: Only these; ``None`` takes whatever comes and asks for nothing (a replay has
            nobody to answer).
        tables: Of ``BOOK_TABLES``, those that will be subscribed.
        silence_s: How long a book may be without a message; 0 never judges.
        now: ns since the Unix epoch.
        clock: Reads the timestamps of rows.
        send: Queues a command: its name and topics.
        quarantine: Counts rows that could not be used.
        lag: Says which messages of a book are late.
        has_quotes: Hold the fullest book of a symbol against ``receive_quote``; one that is in doubt
            for that asks for a partial, so this is not for a replay, which only listens.

    """

    def __init__(
        self,
        symbols: Sequence[str] | None,
        tables: Sequence[str],
        *,
        silence_s: float,
        now: int,
        clock: IsoClock,
        send: Callable[[str, list[str]], None],
        quarantine: Callable[[int], None],
        lag: LagWatch,
        has_quotes: bool,
    ) -> None:
        self.unknown_ids = 0  # rows about levels that the book does not have
        self.duplicate_ids = 0  # inserts of levels that it had already
        self.unbegun: Counter[str] = Counter()  # messages of each symbol before its first partial
        self._symbols = None if symbols is None else frozenset(symbols)
        self._silence_s = silence_s
        self._clock, self._send, self._quarantine, self._lag = clock, send, quarantine, lag
        self._suspended: set[str] = set()
        self._whole_tables: set[str] = set()
        self._single_tables: set[str] = set()  # subscribed symbol by symbol
        self._tables: dict[str, dict[str, _Book]] = {table: {} for table in BOOK_TABLES}
        for table in tables:
            for symbol in symbols or ():
                self._tables[table][symbol] = _Book(table, symbol, silence_s, now)
        for symbol in symbols or ():
            self._let_fullest_speak(symbol)
            heard = self._heard(symbol)
            if has_quotes and heard is not None:
                heard.check = QuoteCheck()

    def receive(self, frame: TableFrame[LevelRow], ts_recv: int, events: list[Event]) -> None:
        """Take one frame whose rows were all readable; append what it means to ``events``."""
        if frame.action == "partial":
            self._receive_partial(frame, ts_recv, events, set())
            return
        books = self._tables[frame.table]
        action = frame.action
        symbol, stamp = "", None
        book: _Book | None = None
        for row in frame.data:
            if row.symbol != symbol:  # in practice once a frame (fact sheet 3.1)
                if book is not None:
                    self._conclude(book, stamp, ts_recv, events)
                symbol = row.symbol
                book = books.get(symbol)
                if book is None and frame.table in self._whole_tables and action == "insert":
                    # It had no level yet when the partial of all symbols was made.
                    book = self._open(frame.table, symbol, ts_recv)
                    if book is not None:
                        book.is_whole = book.is_fed = True
                if book is None:
                    if self._symbols is None:
                        self.unbegun[symbol] += 1
                elif not book.is_fed:
                    book = None
            if book is None:
                continue
            stamp = row.timestamp
            try:
                if action == "update":
                    is_known = book.levels.update(row.id, row.side == "Buy", row.size, row.price)
                elif action == "delete":
                    is_known = book.levels.delete(row.id, row.side == "Buy")
                else:
                    is_known = True
                    if row.price is None or row.size is None:
                        raise ValueError("an insert without price or size")
                    if not book.levels.insert(row.id, row.side == "Buy", row.price, row.size):
                        self.duplicate_ids += 1
            except ValueError:
                self._quarantine(1)
                self._doubt(book, "unreadable row", ts_recv, events)
                book, symbol = None, ""
                continue
            if is_known:
                book.unknown_run = 0
                continue
            self.unknown_ids += 1
            book.unknown_run += 1
            if book.unknown_run > UNKNOWN_LIMIT:
                self._doubt(book, "unknown levels", ts_recv, events)
                book, symbol = None, ""
        if book is not None:
            self._conclude(book, stamp, ts_recv, events)

    def receive_open(self, now: int) -> None:
        """Note that the connection is there: what was asked for goes out now."""
        for books in self._tables.values():
            for book in books.values():
                book.asked_at = now

    def receive_damaged(
        self, frame: TableFrame[LevelRow], bad_rows: list[msgspec.Raw], ts_recv: int, events: list[Event]
    ) -> None:
        """Take a frame some of whose rows could not be read: the books they belong to are in doubt."""
        self._quarantine(len(bad_rows))
        hit = {symbol for row in bad_rows if (symbol := symbol_of(row)) is not None}
        if not hit:
            # A row without a symbol: that of its neighbours, else any of the table's.
            hit = {row.symbol for row in frame.data}
            if frame.filter is not None:
                hit.update(frame.filter.symbols())
            hit = hit or set(self._tables[frame.table])
        if frame.action == "partial":
            self._receive_partial(frame, ts_recv, events, hit)
            return
        for symbol in hit:
            book = self._tables[frame.table].get(symbol)
            if book is not None and book.is_fed:
                self._doubt(book, "unreadable row", ts_recv, events)
        self.receive(frame, ts_recv, events)

    def receive_time(self, now: int, events: list[Event]) -> None:
        """Judge silence, and ask for the partials that are still wanted."""
        for books in self._tables.values():
            for book in books.values():
                watch = book.watch
                if watch.is_silent(now) and not book.is_whole:  # of all symbols most are silent by nature
                    self._doubt(book, "silent", now, events)
                elif watch.is_live and book.check is not None and book.check.is_wrong(now):
                    self._doubt(book, "quote disagrees", now, events)
                elif book.check is not None and book.check.is_off:
                    book.check = None
                    events.append(SubscriptionChanged("quote", watch.inst_id, False, "", QUOTES_OFF, now))
                elif not watch.is_live and not book.is_refused:
                    if watch.reason == CONNECTING and 0 < watch.silence_ns < now - watch.last_ts:
                        self._doubt(book, "no snapshot", now, events)
                    else:
                        self._ask(book, now)

    def receive_quote(self, quote: TopOfBook) -> None:
        """Take a top that the venue made; nothing comes of it before it has had its time to be met."""
        book = self._heard(quote.inst_id)
        if book is not None and book.check is not None and book.is_fed:
            book.check.receive_quote(
                quote.bid, quote.bid_size, quote.ask, quote.ask_size, quote.ts_event, quote.ts_recv
            )

    def receive_state(self, symbol: str, state: str, ts_recv: int, events: list[Event]) -> None:
        """Take the state of a symbol, in neutral words.

        While it is suspended its books are kept but not told; afterwards a partial is asked for, because
        a book may stand still.
        """
        books = [table[symbol] for table in self._tables.values() if symbol in table]
        if state in SUSPENDED_STATES:
            self._suspended.add(symbol)
            for book in books:
                if book.watch.is_live:
                    self._suspend(book, ts_recv, events)
        elif symbol in self._suspended:
            self._suspended.remove(symbol)
            for book in books:
                if book.watch.reason == SUSPENDED:
                    book.watch.doubt(SUSPENDED, ts_recv)
                    self._ask(book, ts_recv)

    def is_suspended(self, symbol: str) -> bool:
        """Tell whether the venue lets nobody trade this symbol now."""
        return symbol in self._suspended

    def receive_begin(self, topic: str) -> None:
        """Note that a topic was acknowledged: that of one symbol, or of all."""
        table, _, symbol = topic.partition(":")
        if symbol and table in self._tables:
            self._single_tables.add(table)
        else:
            self._single_tables.discard(table)

    def receive_end(self, topic: str, reason: str, ts_recv: int, events: list[Event]) -> None:
        """Note that a topic is not subscribed (any more): its books are stale and ask for nothing."""
        table, _, symbol = topic.partition(":")
        for book in self._tables.get(table, {}).values():
            if book.topic == topic:
                book.is_refused = True
                self._doubt(book, reason, ts_recv, events)
        if not symbol:
            self._whole_tables.discard(table)

    def depth(self, symbol: str, levels: int) -> tuple[Levels, Levels] | None:
        """Return the best levels of a live book, best first; ``None`` while it is stale."""
        book = self._heard(symbol)
        return None if book is None or not book.watch.is_live else book.levels.depth(levels)

    def resyncs(self) -> int:
        """Return how often a partial was asked for because a book was in doubt."""
        return sum(book.watch.resyncs for books in self._tables.values() for book in books.values())

    def _receive_partial(
        self, frame: TableFrame[LevelRow], ts_recv: int, events: list[Event], hit: set[str]
    ) -> None:
        """Replace the books that a partial covers; those in ``hit`` had a row that cannot be read."""
        books = self._tables[frame.table]
        rows: dict[str, list[LevelRow]] = {symbol: [] for symbol in hit}
        if frame.filter is not None:
            rows.update((symbol, []) for symbol in frame.filter.symbols())
        for row in frame.data:
            rows.setdefault(row.symbol, []).append(row)
        is_whole = self._is_whole(frame, rows)
        if is_whole:
            self._whole_tables.add(frame.table)
            rows.update(
                (symbol, []) for symbol, book in books.items() if book.is_whole and symbol not in rows
            )
        for symbol, levels in rows.items():
            book = books.get(symbol) or self._open(frame.table, symbol, ts_recv)
            if book is not None:
                book.is_whole, book.is_refused = is_whole, False
                self._replace(book, levels, ts_recv, events, is_damaged=symbol in hit)

    def _is_whole(self, frame: TableFrame[LevelRow], named: Collection[str]) -> bool:
        """Tell whether a partial is the image of all symbols: its filter names none.

        That is not enough where single symbols were subscribed, by us or by the acknowledgements of
        a tape, or where the partials of a tape follow each other and share no symbol.
        """
        if frame.filter is None or frame.filter.symbols():
            return False
        if self._symbols is not None or frame.table in self._single_tables:
            return False
        known = [symbol for symbol, book in self._tables[frame.table].items() if book.is_whole]
        if not known or not named or any(symbol in named for symbol in known):
            return True
        self._single_tables.add(frame.table)
        self._whole_tables.discard(frame.table)
        for symbol in known:
            self._tables[frame.table][symbol].is_whole = False
        return False

    def _replace(
        self, book: _Book, rows: list[LevelRow], ts_recv: int, events: list[Event], *, is_damaged: bool
    ) -> None:
        book.levels.clear()
        book.unknown_run = 0
        for row in rows:
            try:
                if row.price is None or row.size is None:
                    raise ValueError("a level without price or size")
                if not book.levels.insert(row.id, row.side == "Buy", row.price, row.size):
                    self.duplicate_ids += 1
            except ValueError:
                self._quarantine(1)
                is_damaged = True
        if is_damaged:
            self._doubt(book, "unreadable row", ts_recv, events)
            return
        book.is_fed = True
        self._conclude(book, rows[-1].timestamp if rows else None, ts_recv, events, is_snapshot=True)

    def _conclude(
        self, book: _Book, stamp: str | None, ts_recv: int, events: list[Event], *, is_snapshot: bool = False
    ) -> None:
        """Say what the book shows after a message about it."""
        watch = book.watch
        watch.last_ts = ts_recv
        bid, bid_size, ask, ask_size = book.levels.top()
        if bid is not None and ask is not None and bid >= ask:
            self._doubt(book, "crossed", ts_recv, events)
            return
        ts_event = self._clock.ns(stamp, ts_recv)
        if book.check is not None:
            if is_snapshot:
                book.check.begin()
            book.check.receive_top(bid, bid_size, ask, ask_size, ts_event)
        if is_snapshot and book.asked_at:
            self._lag.answer(ts_recv - ts_event, ts_recv - book.asked_at)
            book.asked_at = 0
        if not self._lag.low <= ts_recv - ts_event <= self._lag.high and self._lag.judge(
            ts_recv - ts_event, is_news=not is_snapshot
        ):
            stale = watch.doubt("late", ts_recv, is_resync_wanted=False)  # a partial would be as late
            if stale is not None and book.is_heard:
                events.append(stale)
            return
        if not watch.is_live:
            if watch.inst_id in self._suspended:
                self._suspend(book, ts_recv, events)
                return
            watch.accept()
        if book.is_heard:
            events.append(TopOfBook(watch.inst_id, bid, bid_size, ask, ask_size, ts_event, ts_recv))

    def _doubt(self, book: _Book, reason: str, now: int, events: list[Event]) -> None:
        """Stop believing a book until its next partial, and ask for that."""
        book.is_fed = False
        book.levels.clear()
        stale = book.watch.doubt(reason, now, is_resync_wanted=not book.is_refused)
        if stale is not None and book.is_heard:
            events.append(stale)
        self._ask(book, now)

    def _suspend(self, book: _Book, now: int, events: list[Event]) -> None:
        stale = book.watch.doubt(SUSPENDED, now, is_resync_wanted=False)
        if stale is not None and book.is_heard:
            events.append(stale)

    def _ask(self, book: _Book, now: int) -> None:
        """Ask for a new partial if one is wanted and the limit allows."""
        if self._symbols is not None and not book.is_refused and book.watch.take_resync(now):
            book.asked_at = now
            self._send("unsubscribe", [book.topic])
            self._send("subscribe", [book.topic])

    def _open(self, table: str, symbol: str, now: int) -> _Book | None:
        """Return a new book, or ``None`` for a symbol that nobody asked for."""
        if self._symbols is not None and symbol not in self._symbols:
            return None
        book = self._tables[table][symbol] = _Book(table, symbol, self._silence_s, now)
        self._let_fullest_speak(symbol)
        return book

    def _heard(self, symbol: str) -> _Book | None:
        for books in self._tables.values():
            book = books.get(symbol)
            if book is not None and book.is_heard:
                return book
        return None

    def _let_fullest_speak(self, symbol: str) -> None:
        is_first = True
        for table in BOOK_TABLES:
            book = self._tables[table].get(symbol)
            if book is not None:
                book.is_heard, is_first = is_first, False
