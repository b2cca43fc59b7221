"""The private channels of the simulated OKX: what the engine's events and time make subscribers hear.

In: subscriptions of logged-in connections, the engine's events (``publish`` takes them), virtual time. Out:
frames, handed to the connections. Written from the fact sheet, section 9: ``orders`` has no snapshot; account
and positions have one, events (money merged over 50 ms) and a regular push; balance_and_position is fastest.

A channel carries at most ``MOST_CONNECTIONS`` connections of an account; a new subscriber is told how many.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from dquant.constants import NS_PER_MS
from dquant.simulator.accounts import closing_side, leverage_group
from dquant.simulator.exchange_events import (
    BalanceChanged,
    BalanceView,
    Event,
    LeverageChanged,
    OrderAccepted,
    OrderAmended,
    OrderCancelled,
    OrderFilled,
    PositionChanged,
    PositionView,
)
from dquant.simulator.faults import FaultBoard
from dquant.simulator.okex_account import (
    EVENT_TYPES,
    account_row,
    balance_item,
    position_item,
    position_row,
    push_position_row,
)
from dquant.simulator.okex_bills import Bills, ClosedPositions
from dquant.simulator.okex_contracts import COINS
from dquant.simulator.okex_messages import dump
from dquant.simulator.okex_orders import Amended, ord_id_text, trade_id_text
from dquant.simulator.okex_trade import OkexDesk
from dquant.simulator.orders import Kind, OrderView, Reason
from dquant.simulator.units import ms_text

MOST_CONNECTIONS = 30
COUNTED = frozenset({"orders", "account", "positions", "balance_and_position", "fills"})
_TYPED = frozenset({"orders", "positions"})
_INST_TYPES = ("SPOT", "MARGIN", "SWAP", "FUTURES", "OPTION", "ANY")
_REGULAR_NS = 5_000 * NS_PER_MS
_MERGE_NS = 50 * NS_PER_MS
# Friday at 08:00 UTC brings all three in one instant; each is told by its own name.
_SCHEDULED = frozenset({Reason.FUNDING, Reason.SETTLEMENT, Reason.DELIVERY})
_TRADED = frozenset({Reason.FILL, Reason.LIQUIDATION, Reason.DELIVERY})
_INTERVALS_MS = {"0": 0, "2000": 2_000, "3000": 3_000, "4000": 4_000}


class Listener(Protocol):
    """A connection that hears pushes."""

    conn_id: str
    account: str

    def push(self, text: str, real_ns: int) -> None:
        """Queue a frame."""


@dataclass(slots=True)
class PrivateSubscription:
    """One subscription to a private channel."""

    connection: Listener
    arg: dict[str, Any]  # as it is echoed in pushes
    every_ns: int  # 0: events alone
    due_ns: int = 0

    def wants(self, inst_type: str, family: str, inst_id: str) -> bool:
        """Return whether it is about this instrument."""
        arg = self.arg
        return (
            arg.get("instType", "ANY") in ("ANY", inst_type)
            and arg.get("instFamily", "") in ("", family)
            and arg.get("instId", "") in ("", inst_id)
        )


@dataclass(slots=True)
class _Change:
    """What one push of balance_and_position tells."""

    positions: dict[int, tuple[PositionView, str]] = field(default_factory=dict)
    balances: dict[str, BalanceView] = field(default_factory=dict)
    trades: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class PushOptions:
    """How pushes differ from the usual.

    Args:
        repeats_orders: Every order push is sent twice, the second with a later ``uTime``.
        terminal_first: The push that ends an order overtakes its last fills.
        live_before_cancel: A post-only order that would take is shown live first, as before August 2026.

    """

    repeats_orders: bool = False
    terminal_first: bool = False
    live_before_cancel: bool = False


class OkexPrivate:
    """Subscribers of the private channels.

    Args:
        desk: Trading, which knows instruments and accounts.
        options: How pushes differ from the usual.
        faults: What is broken on purpose.

    """

    def __init__(self, desk: OkexDesk, options: PushOptions, faults: FaultBoard) -> None:
        self.bills, self.closed = Bills(desk), ClosedPositions(desk)
        self._desk, self._exchange = desk, desk.exchange
        self._markets = desk.markets
        self._options, self._faults = options, faults
        self._subscribed: dict[tuple[str, str], dict[tuple[str, str], PrivateSubscription]] = {}
        self._dirty: dict[str, tuple[int, set[str]]] = {}  # account: when to tell, which coins
        self._trade_ids: dict[tuple[str, int], str] = {}  # last trade of a position of an account

    # Subscriptions

    def resolve(self, channel: str, arg: dict[str, Any]) -> tuple[str, str] | None:
        """Return what an arg stands for; None where it stands for nothing."""
        if channel not in COUNTED or any(not isinstance(value, (str, int)) for value in arg.values()):
            return None
        if channel in _TYPED and arg.get("instType") not in _INST_TYPES:
            return None
        inst_id = arg.get("instId")
        if inst_id and self._markets.rows(str(inst_id)) is None:
            return None
        if _interval_ns(arg) is None:
            return None
        parts = (str(arg.get(key, "")) for key in ("instType", "instFamily", "instId", "ccy"))
        return channel, ":".join(parts).strip(":")

    def is_full(self, connection: Listener, channel: str) -> bool:
        """Return whether a channel takes no further connection of this account."""
        others = self._connections(connection.account, channel) - {connection.conn_id}
        return len(others) >= MOST_CONNECTIONS

    def count_text(self, connection: Listener, channel: str, *, is_error: bool) -> str:
        """Return the frame that tells how many connections of the account the channel has."""
        count = MOST_CONNECTIONS if is_error else len(self._connections(connection.account, channel))
        event = "channel-conn-count-error" if is_error else "channel-conn-count"
        return dump(
            {"event": event, "channel": channel, "connCount": str(count), "connId": connection.conn_id}
        )

    def subscribed(
        self, connection: Listener, subscription: tuple[str, str], arg: dict[str, Any], now_ns: int
    ) -> None:
        """Start a subscription."""
        channel, name = subscription
        echoed = {key: value for key, value in arg.items() if key != "extraParams"}
        echoed["uid"] = self._desk.settings[connection.account].uid
        every_ns = _interval_ns(arg) or 0
        entry = PrivateSubscription(connection, echoed, every_ns, now_ns + every_ns)
        key = connection.account, channel
        self._subscribed.setdefault(key, {})[connection.conn_id, name] = entry

    def first_push(self, connection: Listener, subscription: tuple[str, str], real_ns: int) -> None:
        """Send the snapshot of a new subscription, where its channel has one."""
        channel, name = subscription
        entry = self._subscribed[connection.account, channel][connection.conn_id, name]
        for text in self._snapshot(channel, entry, real_ns):
            connection.push(text, real_ns)

    def unsubscribed(self, connection: Listener, subscription: tuple[str, str]) -> None:
        """End a subscription."""
        channel, name = subscription
        entries = self._subscribed.get((connection.account, channel), {})
        entries.pop((connection.conn_id, name), None)

    # Pushes

    def publish(self, now_ns: int, real_ns: int) -> None:
        """Tell what happened since the last call, and what is due by time."""
        events = self._exchange.take_events()
        failed, self._desk.failed_amendments = self._desk.failed_amendments, []
        if events or failed:
            killed = {view.order_id for view, _req_id, _error in failed if not view.is_open}
            by_account: dict[str, list[Event]] = {}
            for event in events:
                by_account.setdefault(event.account, []).append(event)
            for account, own in by_account.items():
                if account in self._desk.settings:
                    self._tell(account, own, real_ns, killed)
            for view, req_id, error in failed:
                result = "-1" if view.is_open else "1"
                amended = Amended(req_id, result, "1", error.code, error.message)
                self._push_order(view, real_ns, amended=amended)
        for account in [name for name, (due_ns, _coins) in self._dirty.items() if due_ns <= now_ns]:
            self._push_money(account, self._dirty.pop(account)[1], real_ns)
        for (_account, channel), entries in self._subscribed.items():
            for entry in entries.values():
                if entry.every_ns and entry.due_ns <= now_ns:
                    entry.due_ns = now_ns + entry.every_ns
                    for text in self._snapshot(channel, entry, real_ns, is_regular=True):
                        entry.connection.push(text, real_ns)

    def _tell(self, account: str, events: list[Event], real_ns: int, killed: set[int]) -> None:
        """Push the events of one account: orders, then positions and money."""
        if self._options.terminal_first or self._faults.holds("end_first", real_ns):
            events = sorted(events, key=lambda event: not isinstance(event, OrderCancelled))
        refused = {
            event.order.order_id
            for event in events
            if isinstance(event, OrderCancelled)
            and event.reason is Reason.POST_ONLY
            and not self._options.live_before_cancel
        }
        positions: dict[int, tuple[PositionView, str]] = {}
        changes: dict[str, _Change] = {}
        event_type = last_trade = ""
        trades: list[dict[str, str]] = []
        for event in events:
            self.bills.note(event)
            self.closed.note(event)
            if isinstance(event, OrderAccepted):
                if event.order.order_id not in refused:
                    self._push_order(event.order, real_ns)
            elif isinstance(event, OrderFilled):
                self._push_fill(event, real_ns)
                last_trade = trade_id_text(event.fill)
                trades.append({"instId": event.fill.symbol, "tradeId": last_trade})
            elif isinstance(event, OrderCancelled):
                # An amendment that killed its order is told with its result, see ``failed_amendments``.
                if event.order.order_id not in killed:
                    self._push_order(event.order, real_ns)
            elif isinstance(event, OrderAmended):
                source = "1" if event.reason in (Reason.USER, Reason.AMEND) else "4"
                self._push_order(event.order, real_ns, amended=Amended(event.request_id, "0", source))
            elif isinstance(event, (PositionChanged, BalanceChanged)):
                event_type = EVENT_TYPES.get(event.reason, "filled")
                change = changes.setdefault(event_type if event.reason in _SCHEDULED else "", _Change())
                change.trades += trades
                trades = []
                if isinstance(event, BalanceChanged):
                    change.balances[event.balance.coin] = event.balance
                else:
                    position = event.position
                    key = position.position_id
                    if event.reason in _TRADED:
                        self._trade_ids[account, key] = last_trade
                    positions[key] = position, self._trade_ids.get((account, key), "")
                    change.positions[key] = positions[key]
            elif isinstance(event, LeverageChanged):
                event_type = event_type or "set_leverage"
                for position in self._levered(account, event.group):
                    number = position.position_id
                    told = position, self._trade_ids.get((account, number), "")
                    positions[number] = changes.setdefault("", _Change()).positions[number] = told
            self._touch(account, event)
        for position in self._less_available(account, events):
            number = position.position_id
            positions.setdefault(number, (position, self._trade_ids.get((account, number), "")))
        if positions:
            self._push_positions(account, positions.values(), real_ns)
        for name, change in changes.items():
            parts = (change.balances.values(), change.positions.values(), change.trades)
            self._push_both(account, name or event_type, *parts, real_ns)

    def _less_available(self, account: str, events: list[Event]) -> list[PositionView]:
        """Return the positions of which orders that came, changed or went leave more or less to close."""
        found = []
        for event in events:
            if isinstance(event, (OrderAccepted, OrderCancelled, OrderAmended)):
                order = event.order
                if closing_side(order.pos_side) == order.side:
                    key = order.symbol, order.pos_side
                    position = self._exchange.position(account, *key, is_isolated=order.is_isolated)
                    if position is not None and position.lots:
                        found.append(position)
        return found

    def _levered(self, account: str, group: str) -> list[PositionView]:
        """Return the open positions that a leverage holds for."""
        found = []
        for position in self._exchange.positions(account):
            contract = self._markets.contract(position.symbol)
            if position.lots and contract is not None:
                own = leverage_group(contract, position.pos_side, is_isolated=position.is_isolated)
                if own == group:
                    found.append(position)
        return found

    def _touch(self, account: str, event: Event) -> None:
        """Note which coins' pictures an event changed."""
        if isinstance(event, BalanceChanged):
            coins = {event.balance.coin}
        elif isinstance(event, LeverageChanged):
            # What orders and positions bind is another amount now.
            coins = {balance.coin for balance in self._exchange.balances(account)}
        elif isinstance(event, (OrderAccepted, OrderCancelled, OrderAmended, PositionChanged)):
            symbol = event.position.symbol if isinstance(event, PositionChanged) else event.order.symbol
            rows = self._markets.rows(symbol)
            if rows is None:
                return
            row = rows.listing.row
            coins = {row["settleCcy"]} if row["settleCcy"] else {row["baseCcy"], row["quoteCcy"]}
        else:
            return
        due_ns, known = self._dirty.get(account, (self._markets.now_ns + _MERGE_NS, set()))
        self._dirty[account] = due_ns, known | coins

    def _push_fill(self, event: OrderFilled, real_ns: int) -> None:
        view = event.order
        self._push_trade(view.account, event, real_ns)
        rows = self._markets.rows(view.symbol)
        is_spot_market = (
            rows is not None
            and rows.listing.inst_type == "SPOT"
            and view.kind is Kind.MARKET
            and not view.is_open
        )
        if is_spot_market:
            # A spot market order ends with a push of its own, without fill (recorded).
            self._push_order(view, real_ns, fill_of=event, state="partially_filled")
            self._push_order(view, real_ns)
        else:
            self._push_order(view, real_ns, fill_of=event)

    def _push_order(
        self,
        view: OrderView,
        real_ns: int,
        *,
        fill_of: OrderFilled | None = None,
        amended: Amended | None = None,
        state: str = "",
    ) -> None:
        entries = self._entries(view.account, "orders", view.symbol)
        rows = self._markets.rows(view.symbol)
        if not entries or rows is None:
            return
        row = rows.push_row(
            view,
            self._markets.prices(view.symbol),
            None if fill_of is None else fill_of.fill,
            amended=amended or Amended(),
            state=state,
            cancel_source=self._desk.cancel_sources.get((view.account, view.order_id), ""),
        )
        self._send(entries, [row], real_ns)
        if self._options.repeats_orders or self._faults.holds("push_twice", real_ns):
            self._send(entries, [{**row, "uTime": str(int(row["uTime"]) + 3)}], real_ns)

    def _push_trade(self, account: str, event: OrderFilled, real_ns: int) -> None:
        entries = self._entries(account, "fills", event.fill.symbol)
        rows = self._markets.rows(event.fill.symbol)
        if not entries or rows is None:
            return
        fill = event.fill
        client_id = fill.client_id if fill.client_id.isdecimal() and len(fill.client_id) < 19 else "0"
        row = {
            "instId": fill.symbol,
            "fillSz": rows.lot.text(fill.lots),
            "fillPx": rows.price(fill),
            "side": "buy" if fill.side == 0 else "sell",
            "ts": ms_text(fill.ts),
            "ordId": ord_id_text(fill.order_id),
            "clOrdId": client_id,
            "tradeId": trade_id_text(fill),
            "execType": "M" if fill.is_maker else "T",
            "count": "1",
        }
        self._send(entries, [row], real_ns)

    def _push_positions(
        self, account: str, changed: Iterable[tuple[PositionView, str]], real_ns: int
    ) -> None:
        for position, trade_id in changed:
            entries = self._entries(account, "positions", position.symbol)
            row = self.position(position, trade_id) if entries else None
            if row is not None:
                self._send(
                    entries, [push_position_row(row, self._markets.now_ns)], real_ns, eventType="event_update"
                )

    def _push_both(
        self,
        account: str,
        event_type: str,
        balances: Iterable[BalanceView],
        positions: Iterable[tuple[PositionView, str]],
        trades: list[dict[str, str]],
        real_ns: int,
    ) -> None:
        entries = list(self._subscribed.get((account, "balance_and_position"), {}).values())
        if entries:
            row = self._both_row(event_type, balances, positions, trades)
            self._send(entries, [row], real_ns)

    def _push_money(self, account: str, coins: set[str], real_ns: int) -> None:
        for entry in self._subscribed.get((account, "account"), {}).values():
            wanted = [coin for coin in sorted(coins) if entry.arg.get("ccy", "") in ("", coin)]
            if wanted:
                row = self._account_row(account, wanted)
                self._send([entry], [row], real_ns, eventType="event_update")

    # Pictures

    def position(self, position: PositionView, trade_id: str | None = None) -> dict[str, Any] | None:
        """Return a position's row; None for an instrument that nobody knows any more."""
        rows, contract = self._markets.rows(position.symbol), self._markets.contract(position.symbol)
        if rows is None or contract is None:
            return None
        if trade_id is None:
            trade_id = self._trade_ids.get((position.account, position.position_id), "")
        return position_row(
            position,
            rows.listing,
            contract,
            self._markets.prices(position.symbol),
            COINS[contract.settle],
            trade_id,
            self._closing(position),
        )

    def _closing(self, position: PositionView) -> int:
        """Return how many lots of a position of long/short mode open orders are to close."""
        side = closing_side(position.pos_side)
        if side is None:
            return 0
        key = position.pos_side, position.is_isolated, side
        orders = self._exchange.open_orders(position.account, position.symbol)
        return sum(order.left for order in orders if (order.pos_side, order.is_isolated, order.side) == key)

    def _account_row(self, account: str, coins: Iterable[str] | None = None) -> dict[str, Any]:
        balances = [
            balance for balance in self._exchange.balances(account) if coins is None or balance.coin in coins
        ]
        settings = self._desk.settings[account]
        return account_row(balances, settings, self._markets.usd_price, self._markets.now_ns, is_push=True)

    def _both_row(
        self,
        event_type: str,
        balances: Iterable[BalanceView],
        positions: Iterable[tuple[PositionView, str]],
        trades: list[dict[str, str]],
    ) -> dict[str, Any]:
        items = []
        for position, trade_id in positions:
            rows, contract = self._markets.rows(position.symbol), self._markets.contract(position.symbol)
            if rows is not None and contract is not None:
                decimals = COINS[contract.settle]
                items.append(position_item(position, rows.listing, contract, decimals, trade_id))
        return {
            "pTime": ms_text(self._markets.now_ns),
            "eventType": event_type,
            "balData": [balance_item(balance) for balance in balances],
            "posData": items,
            "trades": trades,
        }

    def _snapshot(
        self, channel: str, entry: PrivateSubscription, real_ns: int, *, is_regular: bool = False
    ) -> list[str]:
        account = entry.connection.account
        is_paged = self._faults.holds("paged", real_ns)
        if channel == "account":
            ccy = entry.arg.get("ccy", "")
            row = self._account_row(account, {ccy} if ccy else None)
            parts = [{**row, "details": [one]} for one in row["details"]] if is_paged else [row]
            return _pages(entry.arg, [[part] for part in parts])
        if channel == "balance_and_position":
            held = [
                (position, self._trade_ids.get((account, position.position_id), ""))
                for position in self._exchange.positions(account)
                if position.lots
            ]
            row = self._both_row("snapshot", self._exchange.balances(account), held, [])
            return [] if is_regular else [dump({"arg": entry.arg, "data": [row]})]
        if channel != "positions":
            return []
        data = []
        for position in self._exchange.positions(account):
            rows = self._markets.rows(position.symbol)
            if position.lots and rows is not None:
                listing = rows.listing
                row_ = self.position(position)
                if row_ is not None and entry.wants(listing.inst_type, listing.family, listing.inst_id):
                    data.append(push_position_row(row_, self._markets.now_ns))
        if is_regular and not data:
            return []
        return _pages(entry.arg, [[one] for one in data] if is_paged and data else [data])

    # Inside

    def _connections(self, account: str, channel: str) -> set[str]:
        return {conn_id for conn_id, _name in self._subscribed.get((account, channel), {})}

    def _entries(self, account: str, channel: str, symbol: str) -> list[PrivateSubscription]:
        """Return who hears of this instrument on a channel; nobody twice on one connection."""
        entries = self._subscribed.get((account, channel))
        rows = self._markets.rows(symbol)
        if not entries or rows is None:
            return []
        listing = rows.listing
        return [
            entry
            for entry in entries.values()
            if entry.wants(listing.inst_type, listing.family, listing.inst_id)
        ]

    def _send(
        self, entries: list[PrivateSubscription], rows: list[dict[str, Any]], real_ns: int, **more: str
    ) -> None:
        for entry in entries:
            entry.connection.push(dump({"arg": entry.arg, **more, "data": rows}), real_ns)


def _pages(arg: dict[str, Any], pages: list[list[Any]]) -> list[str]:
    """Return the frames of a snapshot; the last one says that it is."""
    return [
        dump(
            {
                "arg": arg,
                "eventType": "snapshot",
                "curPage": page,
                "lastPage": page == len(pages),
                "data": data,
            }
        )
        for page, data in enumerate(pages, 1)
    ]


def _interval_ns(arg: dict[str, Any]) -> int | None:
    """Return the time between regular pushes that an arg asks for; None where it is not understood."""
    extra = arg.get("extraParams")
    if extra in (None, ""):
        return _REGULAR_NS if arg.get("channel") in ("account", "positions") else 0
    try:
        interval = json.loads(str(extra)).get("updateInterval", "")
    except (ValueError, AttributeError, RecursionError):
        return None
    if interval == "":
        return _REGULAR_NS
    found = _INTERVALS_MS.get(interval) if isinstance(interval, str) else None
    return None if found is None else found * NS_PER_MS
