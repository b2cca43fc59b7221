"""One account of the simulated BitMEX: its private tables, kept up to date from the engine's events.

In: events of the engine, in order, and moments at which marks are told again. Out: the rows of every private
table, and ``Frame`` s: what subscribers of the account have to hear. Written from the fact sheet, sections
3.1 to 3.5: one order row with the final state of a request, New and Trade in one insert of executions, sparse
updates with an explicit null where a value is gone. Finished orders, executions and wallet entries are kept
for REST up to a limit, the oldest go first.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

from dquant.simulator import bitmex_account_rows as account_rows
from dquant.simulator import bitmex_order_rows as order_rows
from dquant.simulator.bitmex_account_rows import PositionTerms, Wallet
from dquant.simulator.bitmex_instruments import BitmexContract
from dquant.simulator.bitmex_order_rows import OrderFace
from dquant.simulator.bitmex_private_types import PRIVATE_TYPES
from dquant.simulator.bitmex_tables import Row, iso
from dquant.simulator.contract import Contract
from dquant.simulator.exchange import Exchange
from dquant.simulator.exchange_events import (
    BalanceChanged,
    Event,
    FundingPaid,
    LeverageChanged,
    OrderAccepted,
    OrderAmended,
    OrderCancelled,
    OrderFilled,
    OrderTriggered,
    PositionChanged,
    PositionDelivered,
)
from dquant.simulator.orders import OrderView, Reason

ORDERS_KEPT, EXECUTIONS_KEPT, TRANSACTS_KEPT = 5_000, 10_000, 1_000
FIRST_EXEC_ID = 0x1_0000_0000
_ALWAYS = {
    "order": ("orderID", "clOrdID", "account", "symbol", "timestamp"),
    "position": (
        *("account", "symbol", "strategy", "currency", "currentQty", "markPrice", "liquidationPrice"),
        "timestamp",
    ),
    "margin": ("account", "currency", "timestamp"),
    "wallet": ("account", "currency", "timestamp"),
}
_TIMES = {"timestamp", "transactTime"}
_KEPT_NULLS = frozenset({"markPrice", "liquidationPrice"})  # recorded so in partials


class Frame(NamedTuple):
    """One delta of a private table; ``symbol`` is empty where the table has none."""

    table: str
    symbol: str
    action: str
    rows: list[Row]


@dataclass(slots=True)
class Listed:
    """A contract as the venue and as the engine know it; it is kept after its end, for its rows."""

    contract: BitmexContract
    engine: Contract
    match_base: int = 0

    def match_id(self, trade_id: int) -> str:
        """Return the id of a public print, which its executions share."""
        return f"00000000-006d-1000-0000-{self.match_base + trade_id:012x}"


OrderEvent = OrderAccepted | OrderFilled | OrderCancelled | OrderAmended | OrderTriggered


class House:
    """What all accounts of the venue share."""

    def __init__(self, seed: int, exchange: Exchange, xbt_price: Callable[[], float]) -> None:
        self.seed, self.exchange, self.xbt_price = seed, exchange, xbt_price
        self.listed: dict[str, Listed] = {}
        self.ended: set[str] = set()  # contracts that the engine does not know any more
        self._exec_numbers = count(FIRST_EXEC_ID)

    def exec_id(self) -> str:
        """Return the id of the next execution row; they rise."""
        return f"00000000-006d-1000-0000-{next(self._exec_numbers):012x}"


def ordered(table: str, row: Row) -> Row:
    """Return a row with its columns in the order of the table's types, without what is not there."""
    return {name: row[name] for name in PRIVATE_TYPES[table] if name in row and (row[name] is not None)}


def image(table: str, row: Row) -> Row:
    """Return a row as a partial or an insert shows it."""
    shown = {name: value for name, value in row.items() if value is not None or name in _KEPT_NULLS}
    return {name: shown[name] for name in PRIVATE_TYPES[table] if name in shown}


def sparse(table: str, before: Row, after: Row) -> Row | None:
    """Return what an update says: keys, what has changed, null for what is gone; None if nothing is new."""
    news = {name: value for name, value in after.items() if before.get(name) != value}
    if before.keys() != after.keys():
        news |= {name: None for name, value in before.items() if value is not None and name not in after}
    if news.keys() <= _TIMES:
        return None
    return {name: after[name] for name in _ALWAYS[table] if name in after} | news


def _add_execution(frames: list[Frame], row: Row) -> None:
    """Add an execution to the last frame, or to a new one: a frame is of one symbol (section 3.1)."""
    if not frames or frames[-1].symbol != row["symbol"]:
        frames.append(Frame("execution", row["symbol"], "insert", []))
    frames[-1].rows.append(row)


class BitmexAccount:
    """The private tables of one account; ``name`` is what the engine calls it."""

    def __init__(self, number: int, house: House, name: str = "") -> None:
        self.number, self.name = number, name or str(number)
        self._house = house
        self.orders: dict[str, Row] = {}  # by orderID, oldest first
        self.executions: deque[Row] = deque(maxlen=EXECUTIONS_KEPT)
        self.positions: dict[str, Row] = {}
        self.margins: dict[str, Row] = {}
        self.wallets: dict[str, Wallet] = {}
        self.wallet_rows: dict[str, Row] = {}
        self.transacts: deque[Row] = deque(maxlen=TRANSACTS_KEPT)
        self.terms: dict[str, PositionTerms] = {}
        self.faces: dict[int, OrderFace] = {}  # by the engine's order id
        self.numbers: dict[str, int] = {}  # engine's order id by orderID
        self.open_ids: dict[str, int] = {}  # engine's order id by clOrdID of open orders
        self.cancel_texts: dict[int, str] = {}  # of cancels on their way
        self._stale: dict[str, None] = {}  # symbols whose positions, and …
        self._stale_coins: dict[str, None] = {}  # … coins whose margins have to be worked out anew
        self._transact_numbers = count(1)

    def open_wallet(self, coin: str, now: int) -> None:
        """Note what the account was opened with."""
        cash = self._house.exchange.balance(self.name, coin).cash
        self.wallets[coin] = Wallet(amount=cash, deposited=cash)
        self._note_wallet(coin, "Deposit", cash, now)
        self._refresh_wallet(coin, now)
        self._refresh_margin(coin, now)

    # Looking up

    def order_number(self, order_id: str | None, cl_ord_id: str | None) -> int | None:
        """Return the engine's number of an order by one of its ids: an open one, else the newest."""
        if order_id is not None:
            return self.numbers.get(order_id)
        if cl_ord_id is None:
            return None
        number = self.open_ids.get(cl_ord_id)
        if number is not None:
            return number
        ids = (row["orderID"] for row in reversed(self.orders.values()) if row.get("clOrdID") == cl_ord_id)
        return self.numbers.get(next(ids, ""))

    def row_of(self, number: int) -> Row:
        """Return the row of an order as it was last told."""
        return self.orders[self.faces[number].guid]

    def open_rows(self) -> list[Row]:
        """Return the rows of open orders, oldest first."""
        ids = sorted(self._open_numbers())
        return [self.row_of(number) for number in ids]

    def _open_numbers(self) -> list[int]:
        views = self._house.exchange.open_orders(self.name)
        return [view.order_id for view in views if view.order_id in self.faces]

    def term(self, symbol: str) -> PositionTerms:
        """Return what the account has chosen for a contract."""
        return self.terms.setdefault(symbol, PositionTerms())

    # What happened

    def apply(self, events: Sequence[Event], now: int) -> list[Frame]:
        """Take events of this account; return what its subscribers hear of executions and orders at once.

        Positions and margins follow with ``catch_up``: an answer to an order does not wait for them.
        """
        pictures: dict[int, tuple[OrderView, Row]] = {}
        frames: list[Frame] = []
        symbols, coins = self._stale, self._stale_coins
        transacts: list[Row] = []
        for event in events:
            if isinstance(event, OrderEvent):
                view = event.order
                face = self._face_of(view)
                symbols[view.symbol] = None
                execution, order = self._execution_of(event, face)
                pictures[view.order_id] = view, order
                _add_execution(frames, execution)
            elif isinstance(event, FundingPaid):
                symbols[event.symbol] = None
                _add_execution(frames, self._funding(event))
            elif isinstance(event, PositionDelivered):
                symbols[event.symbol] = None
                _add_execution(frames, self._delivery(event))
            elif isinstance(event, PositionChanged):
                symbols[event.position.symbol] = None
            elif isinstance(event, LeverageChanged):
                symbols[event.symbol] = None
            elif isinstance(event, BalanceChanged):
                coins[event.balance.coin] = None
                if event.reason is Reason.LIQUIDATION and not event.symbol:
                    _add_execution(frames, self._bankruptcy(event))
                elif event.reason is Reason.TRANSFER:
                    transacts.append(self._transfer(event))
        frames += self._order_frames(pictures.values())
        if transacts:
            frames.append(Frame("transact", "", "insert", transacts))
            for coin in dict.fromkeys(row["currency"] for row in transacts):
                frames += self._refresh_wallet(coin, now)
        return frames

    def catch_up(self, now: int) -> list[Frame]:
        """Work out what the last events have made stale; return what has changed."""
        if not self._stale and not self._stale_coins:
            return []
        symbols, coins = self._stale, self._stale_coins
        self._stale, self._stale_coins = {}, {}
        return self.refresh(symbols, coins, now)

    def refresh(
        self, symbols: Iterable[str], coins: Iterable[str], now: int, *, is_asked: bool = False
    ) -> list[Frame]:
        """Work out positions and margins anew; return what has changed.

        ``is_asked``: the account set their terms, so there is a row even where nothing was ever held.
        """
        frames: list[Frame] = []
        touched = dict.fromkeys(coins)
        for symbol in symbols:
            listed = self._house.listed.get(symbol)
            if listed is not None and symbol not in self._house.ended:
                frames += self._refresh_position(listed, now, is_asked=is_asked)
                touched[listed.engine.settle] = None
        for coin in touched:
            frames += self._refresh_margin(coin, now)
        return frames

    def remark(self, now: int) -> list[Frame]:
        """Return the updates that moving marks make, about every ten seconds (section 3.5)."""
        moving = [symbol for symbol, row in self.positions.items() if row["isOpen"]]
        return self.refresh(moving, (), now) if moving else []

    def settle_day(self, now: int) -> list[Frame]:
        """Move the day's realised PnL into the wallets' amounts."""
        frames: list[Frame] = []
        for coin, wallet in self.wallets.items():
            cash = self._house.exchange.balance(self.name, coin).cash
            realised = cash - wallet.amount
            if realised:
                wallet.previous_realised, wallet.amount, wallet.commission = realised, cash, 0
                row = self._note_wallet(coin, "RealisedPNL", realised, now)
                frames.append(Frame("transact", "", "insert", [row]))
                frames += self._refresh_wallet(coin, now)
                frames += self._refresh_margin(coin, now)
        return frames

    # Orders and executions

    def _face_of(self, view: OrderView) -> OrderFace:
        face = self.faces.get(view.order_id)
        if face is not None:
            return face
        listed = self._house.listed[view.symbol]
        note = dict(view.note or {})
        if not note:  # an order of the house
            note = {"ordType": "Limit", "timeInForce": "ImmediateOrCancel", "text": "Liquidation"}
            note["currency"] = listed.contract.fixed["quoteCurrency"]
        guid = order_rows.guid_of(self._house.seed, "order", view.order_id)
        face = OrderFace(guid, self.number, listed.contract, note, view.client_id, str(note["text"]))
        self.faces[view.order_id], self.numbers[guid] = face, view.order_id
        return face

    def _execution_of(self, event: OrderEvent, face: OrderFace) -> tuple[Row, Row]:
        """Return the rows of an execution and of its order, as they are after an event."""
        facts: Row = {}
        if isinstance(event, OrderAccepted):
            kind = "New"
        elif isinstance(event, OrderFilled):
            kind, fill = "Trade", event.fill
            face.add_fill(fill)
            listed = self._house.listed[fill.symbol]
            # What the house took in a liquidation was never printed: it has an id of its own.
            match_id = listed.match_id(fill.trade_id or -fill.fill_id)
            facts = order_rows.trade_facts(fill, listed.contract, match_id, self._house.xbt_price())
            if fill.reason is Reason.LIQUIDATION:
                facts["execType"] = "Liquidation"
            wallet = self.wallets.get(fill.fee_coin)
            if wallet is not None:
                wallet.commission += fill.fee
        elif isinstance(event, OrderTriggered):
            kind = "TriggeredOrActivatedBySystem"
        elif isinstance(event, OrderCancelled):
            kind = order_rows.status_of(event.order)
            face.text = self._end_text(event, face)
        else:
            kind = "Replaced"
            if face.replaced_id:
                facts, face.replaced_id = {"origClOrdID": face.replaced_id}, ""
        order = order_rows.order_row(event.order, face)
        row = ordered("execution", order_rows.execution_row(self._house.exec_id(), kind, order, **facts))
        self.executions.append(row)
        return row, order

    def _end_text(self, event: OrderCancelled, face: OrderFace) -> str:
        asked = self.cancel_texts.pop(event.order.order_id, None)
        if event.reason is Reason.USER:
            return f"Canceled\n{asked or 'Canceled via API.'}"
        words = order_rows.CANCEL_TEXTS.get(event.reason, "Canceled")
        return f"{words}\n{face.note['text']}"

    def _order_frames(self, pictures: Iterable[tuple[OrderView, Row]]) -> list[Frame]:
        frames: dict[tuple[str, str], Frame] = {}
        for view, after in pictures:
            face = self.faces[view.order_id]
            before = self.orders.get(face.guid)
            self.orders[face.guid] = after
            if view.is_open and face.cl_ord_id:
                self.open_ids[face.cl_ord_id] = view.order_id
            elif self.open_ids.get(face.cl_ord_id) == view.order_id:
                del self.open_ids[face.cl_ord_id]
            action = "insert" if before is None else "update"
            news = ordered("order", after) if before is None else sparse("order", before, after)
            if news is not None:
                frame = frames.setdefault((view.symbol, action), Frame("order", view.symbol, action, []))
                frame.rows.append(news)
        self._forget()
        return list(frames.values())

    def _forget(self) -> None:
        """Drop the oldest finished orders past the limit; open ones stay."""
        if len(self.orders) <= ORDERS_KEPT:
            return
        open_numbers = set(self._open_numbers())
        for guid in list(self.orders):
            if len(self.orders) <= ORDERS_KEPT:
                return
            number = self.numbers[guid]
            if number not in open_numbers:
                del self.orders[guid], self.numbers[guid], self.faces[number]

    def _funding(self, event: FundingPaid) -> Row:
        listed = self._house.listed[event.symbol]
        wallet = self.wallets.get(event.coin)
        if wallet is not None:
            wallet.commission += event.amount
        order_id = order_rows.guid_of(self._house.seed, "house", event.number)
        exec_id, xbt_price = self._house.exec_id(), self._house.xbt_price()
        row = order_rows.funding_row(exec_id, order_id, event, self.number, listed.contract, xbt_price)
        self.executions.append(ordered("execution", row))
        return self.executions[-1]

    def _delivery(self, event: PositionDelivered) -> Row:
        listed = self._house.listed[event.symbol]
        wallet = self.wallets.get(event.fill.fee_coin)
        if wallet is not None:
            wallet.commission += event.fill.fee
        order_id = order_rows.guid_of(self._house.seed, "house", event.number)
        exec_id, xbt_price = self._house.exec_id(), self._house.xbt_price()
        row = order_rows.settlement_row(exec_id, order_id, event, self.number, listed.contract, xbt_price)
        self.executions.append(ordered("execution", row))
        return self.executions[-1]

    def _bankruptcy(self, event: BalanceChanged) -> Row:
        """Return the row of what the house pays where a liquidation has lost more than there was."""
        coin = event.balance.coin
        wallet = self.wallets.get(coin)
        if wallet is not None:
            wallet.commission -= event.delta
        listed = self._house.listed[self.executions[-1]["symbol"]]  # the liquidation that went before
        order_id = order_rows.guid_of(self._house.seed, "house", event.number)
        row = order_rows.bankruptcy_row(self._house.exec_id(), order_id, event, self.number, listed.contract)
        self.executions.append(ordered("execution", row))
        return self.executions[-1]

    # Positions and money

    def _refresh_position(self, listed: Listed, now: int, *, is_asked: bool = False) -> list[Frame]:
        exchange, symbol = self._house.exchange, listed.contract.symbol
        terms = self.term(symbol)
        position = exchange.position(self.name, symbol, is_isolated=not terms.is_cross)
        held = 0 if position is None else position.lots
        orders = account_rows.open_orders(
            exchange.open_lots(self.name, symbol), listed.engine, listed.contract, terms.leverage, held
        )
        before = self.positions.get(symbol)
        if position is None and before is None and not (is_asked or orders.buy_qty or orders.sell_qty):
            return []
        mark = exchange.mark(symbol) if position is None or not position.lots else position.mark
        row = account_rows.position_row(
            position,
            self.number,
            listed.contract,
            listed.engine,
            terms,
            orders,
            mark,
            now,
            self._house.xbt_price(),
        )
        return self._replace("position", self.positions, symbol, row, symbol)

    def _refresh_margin(self, coin: str, now: int) -> list[Frame]:
        wallet = self.wallets.get(coin)
        if wallet is None:
            return []
        balance = self._house.exchange.balance(self.name, coin)
        positions = [row for row in self.positions.values() if row["currency"] == coin]
        row = account_rows.margin_row(balance, wallet, self.number, positions, now)
        return self._replace("margin", self.margins, coin, row, "")

    def _refresh_wallet(self, coin: str, now: int) -> list[Frame]:
        row = account_rows.wallet_row(coin, self.wallets[coin], self.number, now)
        return self._replace("wallet", self.wallet_rows, coin, row, "")

    @staticmethod
    def _replace(table: str, rows: dict[str, Row], key: str, row: Row, symbol: str) -> list[Frame]:
        before = rows.get(key)
        if before is None:
            rows[key] = row
            return [Frame(table, symbol, "insert", [image(table, row)])]
        news = sparse(table, before, row)
        if news is None:
            return []
        rows[key] = row
        return [Frame(table, symbol, "update", [news])]

    def _transfer(self, event: BalanceChanged) -> Row:
        coin, delta = event.balance.coin, event.delta
        wallet = self.wallets.setdefault(coin, Wallet())
        wallet.amount += delta
        if delta > 0:
            wallet.transfer_in += delta
        else:
            wallet.transfer_out -= delta
        return self._note_wallet(coin, "Transfer", delta, event.ts)

    def _note_wallet(self, coin: str, kind: str, amount: int, now: int) -> Row:
        number = next(self._transact_numbers)
        row: Row = {
            "transactID": order_rows.guid_of(self._house.seed, f"transact/{self.name}", number),
            "account": self.number,
            "currency": coin,
            "transactType": kind,
            "amount": amount,
            "fee": 0,
            "transactStatus": "Completed",
            "walletBalance": self.wallets[coin].amount,
            "transactTime": iso(now),
            "timestamp": iso(now),
        }
        self.transacts.append(row)
        return row
