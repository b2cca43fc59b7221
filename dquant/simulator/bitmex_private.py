"""The private side of the simulated BitMEX: accounts, who listens to them, and the engine behind.

In: virtual time, events of the ``Exchange``, subscriptions of authenticated connections. Out: frames of the
private tables, in the order execution, order, position, margin of one request, the last two a moment later
(tables are not ordered against each other at the venue: the fault ``shuffle`` mixes them). What an account
asks for by REST is the business of ``bitmex_trade_rest`` and ``bitmex_account_rest``. Written from the fact
sheet, sections 2.6, 3.5 and 6.6.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Any

from dquant.constants import NS_PER_MS, NS_PER_S
from dquant.simulator import bitmex_tables as tables
from dquant.simulator.bitmex_account import BitmexAccount, Frame, House, Listed, image, ordered
from dquant.simulator.bitmex_auth import ApiKey, KeyRing
from dquant.simulator.bitmex_books import SIDES
from dquant.simulator.bitmex_market import BitmexMarket
from dquant.simulator.bitmex_money import COINS, engine_contract
from dquant.simulator.bitmex_private_types import PRIVATE_KEYS, PRIVATE_TYPES
from dquant.simulator.bitmex_tables import Row, iso
from dquant.simulator.bitmex_trailing import Trailing
from dquant.simulator.exchange import Exchange, ExchangeOptions
from dquant.simulator.exchange_events import Event, OrderAccepted
from dquant.simulator.faults import FaultBoard
from dquant.simulator.flow import Flow
from dquant.simulator.orders import Reason

if TYPE_CHECKING:
    from dquant.simulator.bitmex_connection import BitmexConnection

REMARK_NS = 10 * NS_PER_S
DAY_NS, SETTLE_HOUR_NS = 86_400 * NS_PER_S, 12 * 3600 * NS_PER_S  # realised PnL is paid at 12:00 UTC


@dataclass(frozen=True, slots=True)
class SimulatedAccount:
    """An account to open: its number, its keys as (id, secret), what it starts with in whole coins.

    ``name`` is what ledger and control door call it; the number where it is empty.
    """

    number: int
    keys: tuple[tuple[str, str], ...]
    deposits: tuple[tuple[str, Decimal], ...] = (("XBt", Decimal(10)), ("USDt", Decimal(100_000)))
    permissions: tuple[str, ...] = ("order",)
    name: str = ""


class BitmexPrivate:
    """Accounts over one exchange; events wait in it until ``tell`` spells them."""

    def __init__(
        self,
        flow: Flow,
        faults: FaultBoard,
        accounts: Sequence[SimulatedAccount],
        tell_public: Callable[[str, str, str, list[Row]], None],
    ) -> None:
        options = ExchangeOptions(funding_rate=self._funding_rate, delivery_price=self._delivery_price)
        self.exchange = Exchange("bitmex", flow, coins=COINS, options=options)
        self.house = House(flow.seed, self.exchange, lambda: flow.index("BTC"))
        self.trailing = Trailing(self.exchange, flow.now_ns)
        self.keys = KeyRing(
            ApiKey(key_id, secret, account.number, account.permissions)
            for account in accounts
            for key_id, secret in account.keys
        )
        self.accounts: dict[int, BitmexAccount] = {}
        self.settled_prices: dict[str, Decimal] = {}  # of futures that are over, or are just ending
        self._markets: dict[str, BitmexMarket] = {}
        self._asked = accounts
        self._tell_public = tell_public  # table, symbol, action, rows
        self._faults, self._rng = faults, Random(f"{flow.seed}/shuffle")
        self._listeners: dict[tuple[int, str], dict[BitmexConnection, None]] = {}
        self._real_ns = 0
        self._next_remark_ns = flow.now_ns + REMARK_NS
        self._next_settle_ns = _after(flow.now_ns, DAY_NS, SETTLE_HOUR_NS)

    def open_accounts(self, now: int) -> None:
        """Open the accounts that were asked for; once, when everything is listed."""
        for asked in self._asked:
            account = BitmexAccount(asked.number, self.house, asked.name)
            self.accounts[asked.number] = account
            self.exchange.open_account(account.name, dict(asked.deposits))
        self.exchange.take_events()
        for asked in self._asked:
            for coin, _amount in asked.deposits:
                self.accounts[asked.number].open_wallet(coin, now)

    def list_market(self, market: BitmexMarket) -> None:
        """Let a contract be traded."""
        contract = engine_contract(market.contract)
        self._markets[market.symbol] = market
        self.house.listed[market.symbol] = Listed(market.contract, contract, market.numbers.match_base)
        self.exchange.list_contract(contract, market.market)

    def settle(self, symbol: str, now: int, real_ns: int) -> Decimal:
        """Settle a contract that is over and end trading in it; return the price of its settlement."""
        if symbol not in self.settled_prices:  # nobody held it, or the engine has not come to it yet
            self.exchange.deliver(symbol)
        self.tell(now, real_ns)
        for account in self.accounts.values():
            self.catch_up(account, now)
        self.exchange.delist(symbol)
        self.house.ended.add(symbol)
        self.exchange.take_events()  # of a book that is closed
        del self._markets[symbol]
        return self.settled_prices.pop(symbol)

    def _funding_rate(self, symbol: str, _at_ns: int) -> Decimal:
        """Return the rate that the venue has been showing (section 6.6: it is known beforehand)."""
        return Decimal(repr(self._markets[symbol].funding_rate))

    def _delivery_price(self, symbol: str) -> Decimal:
        """Return the index, the same however often the engine asks."""
        index = Decimal(repr(round(self._markets[symbol].market.index, 2)))
        return self.settled_prices.setdefault(symbol, index)

    # Time and events

    def tell(self, now: int, real_ns: int, twice: bool = False) -> None:
        """Spell what has happened since the last call to whoever listens.

        Args:
            now: Virtual time of the rows that are worked out now.
            real_ns: Real time, for faults.
            twice: A fault repeats the rows of orders.

        """
        self._real_ns = real_ns
        events = self.exchange.take_events()
        by_account: dict[str, list[Event]] = {}
        for event in events:
            by_account.setdefault(event.account, []).append(event)
        for account in self.accounts.values():
            mine = by_account.get(account.name)
            if mine:
                frames = account.apply(mine, now)
                if self._faults.holds("shuffle", real_ns):
                    frames += account.catch_up(now)
                self._send(account, frames, twice=twice)
                self._tell_liquidations(account, mine)

    def catch_up(self, account: BitmexAccount, now: int) -> None:
        """Bring positions and margins up to what has been told of orders; tell what has changed."""
        self._send(account, account.catch_up(now))

    def remark(self, account: BitmexAccount, now: int) -> None:
        """Bring positions and margins up to the marks of now; tell what has changed."""
        self._send(account, account.remark(now))

    def _tell_liquidations(self, account: BitmexAccount, events: list[Event]) -> None:
        """Tell the public of orders of the house: they come and go at once here (section 3.4)."""
        for event in events:
            if isinstance(event, OrderAccepted) and event.order.category is Reason.LIQUIDATION:
                order = event.order
                contract = self.house.listed[order.symbol].contract
                key = {"orderID": account.faces[order.order_id].guid, "symbol": order.symbol}
                row = key | {"side": SIDES[order.side], "price": float(self.exchange.mark(order.symbol))}
                row["leavesQty"] = order.lots * contract.lot
                self._tell_public("liquidation", order.symbol, "insert", [row])
                self._tell_public("liquidation", order.symbol, "delete", [key])

    def publish(self, now: int, real_ns: int) -> None:
        """Tell what has happened, marks every ten seconds, and the daily settlement of realised PnL."""
        self.trailing.step(now, {name: market.market.day.last_tick for name, market in self._markets.items()})
        self.tell(now, real_ns)
        for account in self.accounts.values():
            self.catch_up(account, now)
        if now >= self._next_settle_ns:
            self._next_settle_ns = _after(now, DAY_NS, SETTLE_HOUR_NS)
            for account in self.accounts.values():
                self._send(account, account.settle_day(now))
        if now >= self._next_remark_ns:
            self._next_remark_ns = now + REMARK_NS
            for account in self.accounts.values():
                self.remark(account, now)

    def refresh(self, account: BitmexAccount, symbol: str, now: int) -> Row:
        """Work a position out anew after its terms have changed; tell it, and return its row."""
        self._send(account, account.refresh((symbol,), (), now, is_asked=True))
        return account.positions[symbol]

    def set_dead_man(self, account: BitmexAccount, timeout_ms: int, now: int) -> Row:
        """Arm, replace or (0) disarm the account's timer; return the answer (section 2.6)."""
        # The engine's time is that of the last publication, a few milliseconds ago.
        late_ns = max(0, now - self.exchange.now_ns)
        fires = self.exchange.set_dead_man(account.name, timeout_ms and timeout_ms * NS_PER_MS + late_ns)
        return {"now": iso(now), "cancelTime": iso(fires) if timeout_ms else 0}

    def toss(self) -> bool:
        """Return one thing or the other, as the seed has it."""
        return self._rng.random() < 0.5

    # Subscriptions

    def open_topic(self, connection: "BitmexConnection", account: int, topic: str, real_ns: int) -> None:
        """Send the partial of a private topic, and from now on its deltas."""
        table, _, symbol = topic.partition(":")
        self.catch_up(self.accounts[account], self.exchange.now_ns)
        rows = [
            tables.encode(row)
            for row in self._rows_of(self.accounts[account], table)
            if symbol in ("", row.get("symbol"))
        ]
        filter_: Row = {"account": account}
        if symbol:
            filter_["symbol"] = symbol
        shape = {"keys": PRIVATE_KEYS[table], "types": PRIVATE_TYPES[table], "filter": filter_}
        data = ",".join(rows)
        text = f'{{"table":"{table}","action":"partial",{tables.encode(shape)[1:-1]},"data":[{data}]}}'
        connection.send(text, real_ns)
        self._listeners.setdefault((account, topic), {})[connection] = None

    def close_topic(self, connection: "BitmexConnection", account: int, topic: str) -> None:
        """Stop sending a private topic."""
        listeners = self._listeners.get((account, topic), {})
        listeners.pop(connection, None)
        if not listeners:
            self._listeners.pop((account, topic), None)

    @staticmethod
    def _rows_of(account: BitmexAccount, table: str) -> list[Row]:
        if table == "order":
            return [ordered(table, row) for row in account.open_rows()]
        found: dict[str, Any] = {
            "position": account.positions,
            "margin": account.margins,
            "wallet": account.wallet_rows,
        }
        return [image(table, row) for row in found.get(table, {}).values()]

    def _send(self, account: BitmexAccount, frames: list[Frame], twice: bool = False) -> None:
        if not frames or not self._listeners:
            return
        if self._faults.holds("shuffle", self._real_ns):
            self._rng.shuffle(frames)
        for frame in frames:
            listeners = dict(self._listeners.get((account.number, frame.table), {}))
            if frame.symbol:
                listeners |= self._listeners.get((account.number, f"{frame.table}:{frame.symbol}"), {})
            if not listeners:
                continue
            text = tables.delta(frame.table, frame.action, map(tables.encode, frame.rows))
            for _ in range(2 if twice and frame.table == "order" else 1):
                for connection in listeners:
                    connection.send(text, self._real_ns)


def _after(now: int, period_ns: int, phase_ns: int) -> int:
    return now - (now - phase_ns) % period_ns + period_ns
