"""The simulated BitMEX, without I/O: the interface of ``venue``.

In: virtual time, the flow, commands of clients. Out: texts for each connection and REST answers.
Every change of a book makes a delta (nothing is conflated in ``orderBookL2``, ``quote`` and ``trade``);
``_25``, ``_100`` and ``orderBook10`` are throttled. It opens no socket and reads no clock.

Written from the BitMEX fact sheet, sections 1 to 3, 5.5 to 6.7 and 9, frozen at July 2026. Accounts and
their tables are in ``bitmex_private``; without accounts every key is refused.

Faults (``faults``): ``gap`` loses the deltas of one change that adds or removes a level, ``duplicate``
sends them twice, ``crossed`` adds a bid above the best ask that is not there, ``unknown`` changes and
deletes a level nobody has, ``sized_delete`` lets a delete carry a size, ``idle`` sends a delta without
rows, ``reset`` a second partial, ``early`` a delta before the next partial. ``freeze`` says nothing of
one book (levels, quotes), not even to a new subscriber of it, and lets it catch up afterwards.
``notice`` has no words here: the venue restarts (close code 1012).
"""

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import count, groupby
from operator import attrgetter
from typing import Any
from urllib.parse import parse_qs

from dquant.constants import NS_PER_MS, NS_PER_S
from dquant.simulator import bitmex_bins as bins
from dquant.simulator import bitmex_instruments as instruments
from dquant.simulator import bitmex_tables as tables
from dquant.simulator.bars import MINUTE_NS
from dquant.simulator.bitmex_auth import AuthRefused, credentials_in
from dquant.simulator.bitmex_books import ThrottledWindow
from dquant.simulator.bitmex_connection import CLOSE_RESTART, BitmexConnection
from dquant.simulator.bitmex_indices import PERIOD_NS, Indices
from dquant.simulator.bitmex_limits import STRANGER_PER_MINUTE
from dquant.simulator.bitmex_market import BitmexMarket
from dquant.simulator.bitmex_platform import FUND, Platform
from dquant.simulator.bitmex_private import BitmexPrivate, SimulatedAccount
from dquant.simulator.bitmex_private_types import PRIVATE_TYPES
from dquant.simulator.bitmex_rest import BitmexRest
from dquant.simulator.bitmex_spoil import spoil_levels
from dquant.simulator.bitmex_tables import Row
from dquant.simulator.exchange import Exchange, TradingMode
from dquant.simulator.faults import FaultBoard
from dquant.simulator.flow import Flow
from dquant.simulator.venue import CLOSE_ABORT, Refusal, RestAnswer, RestRequest, true_top

WINDOWS = {"orderBookL2_25": 25, "orderBookL2_100": 100}
L2_TABLES = ("orderBookL2", *WINDOWS)
THROTTLE_NS = 100 * NS_PER_MS
# Section 3.4: mark and index ticked every 5 s in 2018 and end in .500 in 2026, the period is unconfirmed.
PRICE_NS, PRICE_PHASE_NS = NS_PER_S, 500 * NS_PER_MS
SLOW_NS = PERIOD_NS  # top of book and day figures in the instrument row, indices
CONNECTS_PER_HOUR = 720
HOUR_NS = 3600 * NS_PER_S
NOTES_LIMIT = 1000
GONE_LIMIT = 20  # settled futures that REST still lists
PLATFORM_PATH = "/realtimePlatform"


class BitmexServer:
    """The simulated BitMEX over a flow that it shares with the other venue."""

    name = "bitmex"
    ws_paths = ("/realtime", PLATFORM_PATH)

    def __init__(
        self,
        flow: Flow,
        faults: FaultBoard | None = None,
        rest_per_minute: int = STRANGER_PER_MINUTE,
        accounts: Sequence[SimulatedAccount] = (),
    ) -> None:
        self.flow = flow
        self.faults = FaultBoard() if faults is None else faults
        self.counters: Counter[str] = Counter()
        self.now_ns, self.real_ns = flow.now_ns, 0
        self.start_ns = flow.now_ns
        self._real_start_ns: int | None = None  # real time at the first call
        self.private = BitmexPrivate(flow, self.faults, accounts, self._tell_rows)
        self.markets: dict[str, BitmexMarket] = {}
        for contract in instruments.contracts(self.now_ns):
            self.markets[contract.symbol] = BitmexMarket(contract, flow, self.now_ns)
            self.private.list_market(self.markets[contract.symbol])
        self.private.open_accounts(self.now_ns)
        self.indices = Indices(flow, self.now_ns)
        self.gone: dict[str, Row] = {}  # instrument rows of settled futures
        self.settlements: deque[Row] = deque(maxlen=20)
        self.platform = Platform(self)
        self.rest = BitmexRest(self, rest_per_minute)
        self._connections: dict[str, BitmexConnection] = {}
        self._listeners: dict[str, dict[BitmexConnection, None]] = {}  # by topic
        self._waiting: list[tuple[BitmexConnection, str]] = []  # partials of frozen books
        self._connect_times: deque[int] = deque(maxlen=CONNECTS_PER_HOUR)  # real time
        self._conn_numbers = count(1)
        self._notes: deque[Row] = deque(maxlen=NOTES_LIMIT)
        self._due: dict[str, int] = {}

    # The interface of ``venue``

    def connect(
        self,
        path: str,
        query: str,
        real_ns: int,
        headers: Mapping[str, str] | None = None,
        remote: str = "",
    ) -> BitmexConnection | Refusal:
        """Take a new connection: the welcome first, then what the query string subscribes to."""
        del remote
        self._see_time(real_ns)
        if self.faults.holds("refuse", real_ns):
            self.counters["refused"] += 1
            return Refusal(503, "Service Unavailable")
        if path not in self.ws_paths:
            return Refusal(404, tables.encode(self.rest.error_body("Not Found")))
        params = parse_qs(query, keep_blank_values=True, max_num_fields=None)
        account = None
        credentials = credentials_in(headers or {}) or credentials_in(
            {name: values[0] for name, values in params.items()}
        )
        if credentials is not None:
            try:
                account = self.login(credentials)
            except AuthRefused as exc:
                return Refusal(401, tables.encode(self.rest.error_body(exc.message)))
        while self._connect_times and self._connect_times[0] <= real_ns - HOUR_NS:
            self._connect_times.popleft()
        if len(self._connect_times) >= CONNECTS_PER_HOUR:
            self.counters["refused"] += 1
            wait_s = max(1, -((real_ns - HOUR_NS - self._connect_times[0]) // NS_PER_S))
            words = f"Rate limit exceeded, retry in {wait_s} seconds."
            body = self.rest.error_body(words, "RateLimitError")
            return Refusal(429, tables.encode(body), {"Retry-After": str(wait_s)})
        self._connect_times.append(real_ns)
        conn_id = f"bitmex-{next(self._conn_numbers)}"
        connection = BitmexConnection(
            conn_id, self, self._is_silent, account, is_platform=path == PLATFORM_PATH
        )
        self._connections[connection.conn_id] = connection
        self.counters["connections"] += 1
        remaining = CONNECTS_PER_HOUR - len(self._connect_times)
        connection.send(tables.welcome(self.now_ns, remaining), real_ns)
        asked = [topic for value in params.get("subscribe", []) for topic in value.split(",") if topic]
        connection.subscribe_from_query(asked, real_ns)
        return connection

    def disconnected(self, connection: Any) -> None:
        """Forget a connection whose socket is gone."""
        if self._connections.pop(connection.conn_id, None) is not None:
            for topic in list(connection.topics):
                self.close_topic(connection, topic)
            connection.topics.clear()

    def connections(self) -> list[BitmexConnection]:
        """Return the open connections."""
        return list(self._connections.values())

    def publish(self, now_ns: int, real_ns: int) -> None:
        """Tell every subscriber what has happened up to now; call it after ``flow.advance(now_ns)``."""
        ended = bins.ended(self.now_ns, now_ns) if now_ns > self.now_ns else []
        self.now_ns = max(now_ns, self.now_ns)
        self._see_time(real_ns)
        self._spoil_connections()
        throttled, priced, slow = (
            self._is_due("throttled", THROTTLE_NS),
            self._is_due("price", PRICE_NS, PRICE_PHASE_NS),
            self._is_due("slow", SLOW_NS),
        )
        for market in list(self.markets.values()):
            if self._has_ended(market):
                continue
            if ended:
                market.close_minute(self.now_ns - self.now_ns % MINUTE_NS)
            self._publish_levels(market, throttled)
            traded = self._publish_trades(market)
            self._publish_instrument(market, traded=traded, priced=priced, slow=slow)
            for table in ended:
                if self._is_heard(table, market.symbol):
                    self._tell_rows(table, market.symbol, "insert", bins.last_bar(market, table, self.now_ns))
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for connection, topic in waiting:
                self.open_topic(connection, topic)
        if slow:
            self._publish_indices()
        if insurance := self.platform.new_insurance():
            self._tell_rows("insurance", "", "insert", insurance)
        self.private.publish(self.now_ns, real_ns)
        for market in list(self.markets.values()):
            if market.contract.expiry is not None and market.contract.expiry <= self.now_ns:
                self._settle(market)

    def answer(self, request: RestRequest, now_ns: int) -> RestAnswer:
        """Answer a REST request."""
        self.now_ns = max(now_ns, self.now_ns)
        self.counters["rest"] += 1
        if self.faults.holds("refuse", self.real_ns):
            return self.rest.overloaded()
        return self.rest.answer(request, self.now_ns, self.real_ns)

    def count_request(self, request: RestRequest, now_ns: int) -> Mapping[str, str]:
        """Count a request that a fault refuses; return the headers that tell of the limits."""
        return self.rest.count(request, now_ns, self.real_ns)

    def truth(self) -> dict[str, Any]:
        """Return the true top of book of each contract."""
        return {symbol: true_top(market.market) for symbol, market in self.markets.items()}

    def events_of_note(self) -> list[dict[str, Any]]:
        """Return fundings and settlements since the last call, oldest first."""
        notes = list(self._notes)
        self._notes.clear()
        return notes

    @property
    def exchange(self) -> Exchange:
        """The engine: what is true of orders and accounts."""
        return self.private.exchange

    # What connections ask

    def is_symbol(self, symbol: str) -> bool:
        """Return whether a topic may name this symbol."""
        return symbol in self.markets or symbol in self.indices.rows

    def open_topic(self, connection: BitmexConnection, topic: str) -> None:
        """Send the partial of a topic, and from now on its deltas."""
        self.counters["subscribes"] += 1
        table, _, symbol = topic.partition(":")
        if table in PRIVATE_TYPES:
            assert connection.account is not None, "the connection asks for private tables of an account only"
            self.private.open_topic(connection, connection.account, topic, self.real_ns)
            return
        if table in tables.BOOK_TABLES and self._is_frozen(symbol):
            self._waiting.append((connection, topic))
            return
        connection.send(self._partial(topic), self.real_ns)
        self._listeners.setdefault(topic, {})[connection] = None

    def close_topic(self, connection: BitmexConnection, topic: str) -> None:
        """Stop sending a topic; windows that nobody looks through any more are forgotten."""
        if topic.partition(":")[0] in PRIVATE_TYPES:
            assert connection.account is not None
            self.private.close_topic(connection, connection.account, topic)
            return
        self._waiting = [entry for entry in self._waiting if entry != (connection, topic)]
        listeners = self._listeners.get(topic, {})
        listeners.pop(connection, None)
        if listeners:
            return
        self._listeners.pop(topic, None)
        for market in self.markets.values():
            for table in list(market.windows):
                if not self._is_heard(table, market.symbol):
                    del market.windows[table]

    def login(self, credentials: tuple[Any, Any, Any]) -> int:
        """Return the account of a websocket login.

        Raises:
            AuthRefused: Key, time or signature are not right.

        """
        return self.private.keys.check_websocket(credentials, self.clock_s()).account

    def clock_s(self) -> int:
        """Return the time, s, that answers are dated with and ``expires`` is held against.

        It is the venue's clock, but it does not run ahead where that is stepped or sped up: clients sign with
        clocks of their own, and none of them could trade any more.
        """
        unhurried = self.start_ns + self.real_ns - (self._real_start_ns or 0)
        return (min(self.now_ns, unhurried) + self.faults.skew_ns(self.real_ns)) // NS_PER_S

    def cancel_all_after(self, account: int, timeout_ms: int) -> Row:
        """Set the dead-man's switch of an account; return what the ack says."""
        return self.private.set_dead_man(self.private.accounts[account], timeout_ms, self.now_ns)

    def is_shuffled(self) -> bool:
        """Return whether the fault ``shuffle`` puts this partial before its ack, every other time."""
        return self.faults.holds("shuffle", self.real_ns) and self.private.toss()

    def early_delta(self, topic: str) -> str | None:
        """Return an update that overtakes the partial of this topic, if the fault ``early`` asks for one."""
        table, _, symbol = topic.partition(":")
        market = self.markets.get(symbol)
        if table not in L2_TABLES or market is None or self.faults.take("early", symbol) is None:
            return None
        place, level = next(iter(market.book.window(1).items()))
        return tables.delta(table, "update", [market.book.row(place, level, self.now_ns, level.size)])

    def _see_time(self, real_ns: int) -> None:
        self.real_ns = real_ns
        if self._real_start_ns is None:
            self._real_start_ns = real_ns

    # Partials

    def _partial(self, topic: str) -> str:
        table, _, symbol = topic.partition(":")
        chosen = [self.markets[symbol]] if symbol in self.markets else []
        if not symbol:
            chosen = list(self.markets.values())
        rows: list[str] = []
        if table in L2_TABLES:
            rows = [row for market in chosen for row in self._book_image(market, table)]
        else:
            rows = list(map(tables.encode, self._rows_of(table, symbol, chosen)))
        return tables.partial(table, symbol or None, rows)

    def _book_image(self, market: BitmexMarket, table: str) -> list[str]:
        if table not in WINDOWS:
            return market.book.image(self.now_ns)
        window = market.windows.get(table)
        if window is None:
            window = market.windows[table] = ThrottledWindow(market.book, WINDOWS[table])
        return window.image(self.now_ns)

    def _rows_of(self, table: str, symbol: str, chosen: list[BitmexMarket]) -> Iterable[Row]:
        if table == "instrument":
            indices = [row for name, row in self.indices.rows.items() if symbol in ("", name)]
            return [*(market.row for market in chosen), *indices]
        if table == "quote":
            return [market.quotes[-1] for market in chosen]
        if table == "trade":
            indices = [rows[-1] for name, rows in self.indices.prints.items() if symbol in ("", name)]
            return [*(market.trades[-1] for market in chosen), *indices]
        if table == "orderBook10":
            for market in chosen:
                if not self._is_heard(table, market.symbol):
                    market.new_ten(self.now_ns)  # nobody kept it fresh
            return [market.ten for market in chosen]
        if table == "funding":
            return [market.fundings[-1] for market in chosen if market.fundings]
        if table == "settlement":
            return [row for row in self.settlements if symbol in ("", row["symbol"])][-1:]
        if table in bins.SIZES:
            return [row for market in chosen for row in bins.last_bar(market, table, self.now_ns)]
        if table == "insurance":
            return self.platform.insurance[-len(FUND) :]
        if table == "announcement":
            return self.platform.announcements()
        if table == "connected":
            return [{"id": 1, "users": len(self._connections), "bots": 0}]
        return []  # liquidation: whoever is liquidated is done at once; chat: nobody does

    # Deltas

    def _is_heard(self, table: str, symbol: str) -> bool:
        return f"{table}:{symbol}" in self._listeners or table in self._listeners

    def _tell(self, table: str, symbol: str, text: str) -> None:
        """Send one frame to whoever subscribed to the table or to the table of this symbol, once each."""
        of_symbol = self._listeners.get(f"{table}:{symbol}", {})
        listeners = of_symbol | self._listeners.get(table, {})
        for connection in listeners:
            connection.send(text, self.real_ns)
        self.counters["frames"] += len(listeners)

    def _tell_rows(self, table: str, symbol: str, action: str, rows: Iterable[Row]) -> None:
        if self._is_heard(table, symbol):
            self._tell(table, symbol, tables.delta(table, action, map(tables.encode, rows)))

    def _publish_levels(self, market: BitmexMarket, throttled: bool) -> None:
        if not self._is_frozen(market.symbol):
            self._publish_book(market)
            if throttled:
                self._publish_windows(market)

    def _publish_trades(self, market: BitmexMarket) -> bool:
        trades = market.tap.take_trades()
        for _sequence, sweep in groupby(trades, attrgetter("sequence")):
            rows = [row for trade in sweep for row in market.add_trades(trade)]
            self._tell_rows("trade", market.symbol, "insert", rows)
        return bool(trades)

    def _publish_book(self, market: BitmexMarket) -> None:
        symbol = market.symbol
        if market.tap.overflowed:
            # Too far behind to tell it change by change; a partial replaces what clients have.
            market.tap.take_changes()
            market.book.reread()
            self._tell_again(market)
            return
        for ts, rows in market.book.apply(market.tap.take_changes()):
            if self._is_heard("orderBookL2", symbol):
                self._tell_levels("orderBookL2", market, ts, rows)
            quote = market.new_quote(ts)
            if quote is not None:
                self._tell_rows("quote", symbol, "insert", [quote])

    def _publish_windows(self, market: BitmexMarket) -> None:
        for table, window in market.windows.items():
            rows = window.step(self.now_ns)
            if rows:
                self._tell_levels(table, market, self.now_ns, rows)
        if self._is_heard("orderBook10", market.symbol):
            ten = market.new_ten(self.now_ns)
            if ten is not None:
                self._tell_rows("orderBook10", market.symbol, "update", [ten])

    def _tell_again(self, market: BitmexMarket) -> None:
        """Send a second partial of one book to everybody who has it."""
        for table in L2_TABLES:
            for topic in (f"{table}:{market.symbol}", table):
                if topic in self._listeners:
                    text = self._partial(topic)
                    for connection in self._listeners[topic]:
                        connection.send(text, self.real_ns)
        quote = market.new_quote(self.now_ns)
        if quote is not None:
            self._tell_rows("quote", market.symbol, "insert", [quote])

    # Faults

    def _is_frozen(self, symbol: str) -> bool:
        return symbol in self.markets and self.faults.holds("freeze", self.real_ns, symbol)

    def _is_silent(self, real_ns: int, conn_id: str) -> bool:
        return self.faults.holds("silent", real_ns, None, conn_id)

    def _spoil_connections(self) -> None:
        while (fault := self.faults.take("drop")) is not None:
            for connection in self.connections():
                if fault.bites(None, connection.conn_id):
                    connection.close(CLOSE_ABORT, "dropped")
        while (fault := self.faults.take("notice")) is not None:
            for connection in self.connections():
                if fault.bites(None, connection.conn_id):
                    connection.close_at_ns = self.now_ns + int(
                        (60.0 if fault.seconds is None else fault.seconds) * NS_PER_S
                    )
        for connection in self.connections():
            if connection.close_at_ns is not None and connection.close_at_ns <= self.now_ns:
                connection.close(CLOSE_RESTART, "Service restart")

    def _tell_levels(self, table: str, market: BitmexMarket, ts: int, rows: dict[str, list[str]]) -> None:
        """Send the deltas of one change of a book, unless a fault spoils them."""
        symbol = market.symbol
        frames = [tables.delta(table, action, texts) for action, texts in rows.items()]
        if self.faults.active(self.real_ns):
            if ("insert" in rows or "delete" in rows) and self.faults.take("gap", symbol):
                return
            frames = spoil_levels(self.faults, table, market, ts, rows, frames)
            if self.faults.take("reset", symbol):
                frames.append(tables.partial(table, symbol, self._book_image(market, table)))
        for text in frames:
            self._tell(table, symbol, text)

    # Instruments, indices, funding, settlement

    def _is_due(self, what: str, period_ns: int, phase_ns: int = 0) -> bool:
        """Return whether a point of this grid has passed since the last one; missed ones are left out."""
        if self.now_ns < self._due.setdefault(what, self._after(self.now_ns, period_ns, phase_ns)):
            return False
        self._due[what] = self._after(self.now_ns, period_ns, phase_ns)
        return True

    @staticmethod
    def _after(now: int, period_ns: int, phase_ns: int) -> int:
        return now - (now - phase_ns) % period_ns + period_ns

    def _publish_instrument(self, market: BitmexMarket, *, traded: bool, priced: bool, slow: bool) -> None:
        funding = market.settle_funding(self.now_ns)
        if funding is not None:
            self._tell_rows("funding", market.symbol, "insert", [funding])
            self._note("funding", market.symbol, rate=funding["fundingRate"])
        changes: list[tuple[int, Row]] = []
        if traded:
            changes.append((self.now_ns, market.last_fields()))
        if priced:
            stamp = self.now_ns - (self.now_ns - PRICE_PHASE_NS) % PRICE_NS
            changes += [(stamp, market.index_fields()), (stamp, market.mark_fields())]
        if slow or funding is not None:
            fields = (market.funding_fields, market.top_fields, market.day_fields, market.basis_fields)
            changes += [(self.now_ns, read()) for read in fields]
        for stamp, news in changes:
            change = market.change(stamp, news)
            if change is not None:
                self._tell_rows("instrument", market.symbol, "update", [change])

    def _publish_indices(self) -> None:
        for symbol, change, trade in self.indices.step(self.now_ns):
            self._tell_rows("instrument", symbol, "update", [change])
            self._tell_rows("trade", symbol, "insert", [trade])

    def _settle(self, market: BitmexMarket) -> None:
        """Let a future expire and list the next one."""
        symbol = market.symbol
        price = self.private.settle(symbol, self.now_ns, self.real_ns)
        if market.row["state"] != "Settled":  # by force, before its time
            self._tell_settlement(market, price, market.contract.expiry or self.now_ns)
        self._tell_book_ends(market)
        self.gone[symbol] = market.row
        if len(self.gone) > GONE_LIMIT:
            del self.gone[next(iter(self.gone))]
        del self.markets[symbol]
        self.flow.remove(symbol)
        contract = instruments.quarterly_future(self.now_ns)
        successor = BitmexMarket(contract, self.flow, self.now_ns)
        self.markets[contract.symbol] = successor
        self.private.list_market(successor)
        self._tell_rows("instrument", contract.symbol, "insert", [successor.row])
        self._tell_book_begins(successor)
        self._note("settlement", symbol, price=float(price), listed=contract.symbol)

    def _tell_book_ends(self, market: BitmexMarket) -> None:
        """Take away the levels of a contract that is over, as all its orders are cancelled."""
        for table in L2_TABLES:
            book = market.windows.get(table) if table in WINDOWS else market.book
            if book is not None and self._is_heard(table, market.symbol):
                self._tell(table, market.symbol, tables.delta(table, "delete", book.farewell(self.now_ns)))

    def _tell_book_begins(self, market: BitmexMarket) -> None:
        """Bring the book of a new contract to who listens to those of all: no partial comes for it."""
        for table in L2_TABLES:
            if self._is_heard(table, market.symbol):
                self._tell(
                    table, market.symbol, tables.delta(table, "insert", self._book_image(market, table))
                )
        self._tell_rows("orderBook10", market.symbol, "insert", [market.ten])

    def _tell_settlement(self, market: BitmexMarket, price: Decimal, ended_ns: int) -> None:
        settlement, trade = market.settlement_rows(float(price), ended_ns)
        self.settlements.append(settlement)
        self._tell_rows("settlement", market.symbol, "insert", [settlement])
        self._tell_rows("trade", market.symbol, "insert", [trade])
        change = market.change(self.now_ns, {"state": "Settled", "settledPrice": settlement["settledPrice"]})
        if change is not None:
            self._tell_rows("instrument", market.symbol, "update", [change])

    def _has_ended(self, market: BitmexMarket) -> bool:
        """Return whether a contract was settled by force; tell of that, and of trading that stops."""
        symbol, state = market.symbol, market.row["state"]
        if state == "Settled":
            return True
        price = self.exchange.delivered_at(symbol)
        expiry = market.contract.expiry
        if price is not None:
            if expiry is not None and expiry <= self.now_ns:
                return False  # its time had come: ``_settle`` tells
            self._tell_settlement(market, price, self.now_ns)
            return True
        is_closed = self.exchange.trading(symbol) is TradingMode.CLOSED
        change = market.change(self.now_ns, {"state": "Closed" if is_closed else "Open"})
        if change is not None:
            self._tell_rows("instrument", symbol, "update", [change])
        return False

    def _note(self, event: str, symbol: str, **facts: Any) -> None:
        self._notes.append(
            {"venue": self.name, "event": event, "inst_id": symbol, "ts": self.now_ns, **facts}
        )
