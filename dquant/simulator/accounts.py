"""Accounts of one exchange: cash, positions, margin of both, in whole minor units of each coin.

Pure; no orders are matched here and no time passes. Margin is cross, per settle coin, or isolated: then a
position has margin of its own, set aside from cash as it is opened, and loses no more than that. Kept simple:
initial margin is the value at the mark price (isolated: at the fill) over the leverage (no tiers), an order's
margin its value at its limit likewise, counted for the side that needs more, and only for what it opens
beyond the present position. Spot orders hold the coins that they would pay with.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache

from msgspec.structs import replace

from dquant.simulator.contract import Contract, Payoff, rounded_up
from dquant.simulator.exchange_events import BalanceView, Fill, PositionView
from dquant.simulator.orders import ASK, BID, Kind, Order, OrderView, PositionKey, PosSide
from dquant.simulator.positions import Position

FINISHED_LIMIT = (
    10_000  # finished orders and fills kept per account; the oldest go, the ledger has its own bound
)

Mark = Callable[[str], Decimal]


class PositionMode(StrEnum):
    """Whether an account has one position per instrument, or a long and a short one."""

    NET = "net"
    LONG_SHORT = "long_short"


@dataclass(slots=True)
class Margins:
    """What one coin of an account carries."""

    cash: int
    unrealised: int = 0  # of cross positions, as what follows
    initial: int = 0
    maintenance: int = 0
    orders: int = 0
    isolated: int = 0  # margin of isolated positions
    isolated_unrealised: int = 0

    @property
    def equity(self) -> int:
        """Cash and open PnL of all that is cross."""
        return self.cash - self.isolated + self.unrealised

    @property
    def free(self) -> int:
        """What new orders may use; below zero where too much is used already."""
        return self.equity - self.initial - self.orders


@dataclass(slots=True)
class OpenSums:
    """What the open orders of one position add up to, by side."""

    lots: list[int] = field(default_factory=lambda: [0, 0])
    value: list[int] = field(default_factory=lambda: [0, 0])


class Account:
    """One account; the exchange changes it, everybody else reads."""

    def __init__(self, name: str, owner: str, mode: PositionMode) -> None:
        self.name, self.owner, self.mode = name, owner, mode
        self.cash: dict[str, int] = {}
        self.cash_ns: dict[str, int] = {}
        self.positions: dict[PositionKey, Position] = {}
        self.leverages: dict[str, Decimal] = {}
        self.orders: dict[int, Order] = {}  # open ones, oldest first
        self.by_client_id: dict[str, int] = {}  # of open orders
        self.finished: dict[int, OrderView] = {}  # by order id, in the order they ended
        self.newest: dict[str, int] = {}  # client id -> the last order that had it
        self.fills: deque[Fill] = deque(maxlen=FINISHED_LIMIT)
        self.sums: dict[PositionKey, OpenSums] = {}
        self._held: dict[int, tuple[int, int]] = {}  # what an open order has added to the sums

    # Orders

    def accept(self, order: Order) -> None:
        """Take an order among the open ones."""
        self.orders[order.order_id] = order
        self.name_order(order, order.request.client_id)

    def name_order(self, order: Order, client_id: str) -> None:
        """Let an open order go by this client id."""
        if client_id:
            self.by_client_id[client_id] = self.newest[client_id] = order.order_id

    def finish(self, order: Order) -> OrderView:
        """Take an order that ended from the open ones; what it bound must be let go before."""
        view, client_id = order.view(), order.request.client_id
        del self.orders[order.order_id]
        if client_id:
            self.by_client_id.pop(client_id, None)
        self.finished[order.order_id] = view
        if len(self.finished) > FINISHED_LIMIT:
            oldest = self.finished.pop(next(iter(self.finished)))
            if self.newest.get(oldest.client_id) == oldest.order_id:
                del self.newest[oldest.client_id]
        return view

    def view(self, order_id: int) -> OrderView | None:
        """Return an order, open or done; None where it is unknown or forgotten."""
        order = self.orders.get(order_id)
        return order.view() if order is not None else self.finished.get(order_id)

    def hold(self, order: Order, contract: Contract) -> None:
        """Count what an order binds as it is now, in place of what it bound before."""
        lots, value = self._held.pop(order.order_id, (0, 0))
        sums = self.sums.get(order.key)
        if sums is None:
            sums = self.sums[order.key] = OpenSums()
        sums.lots[order.side] -= lots
        sums.value[order.side] -= value
        if order.is_open and not self.only_closes(order) and not order.is_waiting:
            lots, value = order.left, binding_value(order, contract, order.left)
            self._held[order.order_id] = lots, value
            sums.lots[order.side] += lots
            sums.value[order.side] += value

    def isolate(self, contract: Contract, *, is_isolated: bool, leverage: Decimal) -> None:
        """Give the net position of an instrument and its orders margin of their own, or the account's."""
        symbol, side = contract.symbol, PosSide.NET
        self.leverages[leverage_group(contract, side, is_isolated=is_isolated)] = leverage
        position = self.positions.pop((symbol, side, not is_isolated), None)
        if position is not None:
            self.positions[symbol, side, is_isolated] = position
        position = self.positions.get((symbol, side, is_isolated))
        if position is not None:
            position.is_isolated, position.margin = is_isolated, 0
            if is_isolated and position.lots:
                position.margin = self.initial_margin(contract, abs(position.cost), is_isolated=True)
        for order in self.orders.values():
            if order.symbol == symbol and order.request.is_isolated is not is_isolated:
                finished, order.finished_ns = order.finished_ns, order.created_ns  # lets go of what it binds
                self.hold(order, contract)
                order.request, order.finished_ns = replace(order.request, is_isolated=is_isolated), finished
                self.hold(order, contract)

    def only_closes(self, order: Order) -> bool:
        """Return whether an order can only make its position smaller."""
        asked = order.request
        return asked.reduce_only or closing_side(asked.pos_side) == asked.side

    def closable(self, key: PositionKey, side: int) -> int:
        """Return how many lots an order of this side could close."""
        position = self.positions.get(key)
        if position is None or position.lots == 0 or (position.lots > 0) == (side == BID):
            return 0
        return abs(position.lots)

    def is_idle(self) -> bool:
        """Return whether it has neither open orders nor open positions."""
        return not self.orders and not any(position.lots for position in self.positions.values())

    # Margin

    def leverage(
        self, contract: Contract, pos_side: PosSide = PosSide.NET, *, is_isolated: bool = False
    ) -> Decimal:
        """Return the leverage that holds for a contract; isolated, each position has its own."""
        group = leverage_group(contract, pos_side, is_isolated=is_isolated)
        return self.leverages.get(group, contract.default_leverage)

    def margins(self, coin: str, contracts: dict[str, Contract], mark: Mark) -> Margins:
        """Return what a coin carries at these marks."""
        found = Margins(self.cash.get(coin, 0))
        for (symbol, _side, is_isolated), position in self.positions.items():
            contract = position.contract
            if position.lots and contract.settle == coin:
                price = mark(symbol)
                if is_isolated:
                    found.isolated += position.margin
                    found.isolated_unrealised += position.unrealised(price)
                    continue
                value = abs(position.mark_value(price))
                found.unrealised += position.unrealised(price)
                found.initial += self.initial_margin(contract, value)
                found.maintenance += maintenance_margin(contract, value)
        for key, sums in self.sums.items():
            contract = contracts[key[0]]
            if contract.payoff is Payoff.SPOT:
                if contract.settle == coin:
                    found.orders += sums.value[BID]
                elif contract.base == coin:
                    found.orders += sums.lots[ASK] * contract.base_lot
            elif contract.settle == coin:
                found.orders += self.order_margin(contract, key, sums.lots, sums.value)
        return found

    def initial_margin(
        self, contract: Contract, value: int, pos_side: PosSide = PosSide.NET, *, is_isolated: bool = False
    ) -> int:
        """Return the initial margin of a position of this value."""
        over, under = self.leverage(contract, pos_side, is_isolated=is_isolated).as_integer_ratio()
        low_over, low_under = contract.initial_rate.as_integer_ratio()
        return max(rounded_up(value * under, over), rounded_up(value * low_over, low_under))

    def missing_margin(self, key: PositionKey, mark: Mark) -> int:
        """Return what an isolated position lacks for its maintenance margin; below zero where none is open.

        From 0 on it is liquidated.
        """
        position = self.positions.get(key)
        if position is None or not position.lots:
            return -1
        price = mark(key[0])
        needed = maintenance_margin(position.contract, abs(position.mark_value(price)))
        return needed - position.margin - position.unrealised(price)

    def order_margin(self, contract: Contract, key: PositionKey, lots: list[int], value: list[int]) -> int:
        """Return the margin of open orders of one position: of the side that needs more.

        BitMEX section 6.3: value times (1/leverage + two taker fees), rounded up.
        """
        worst = 0
        for side in (BID, ASK):
            opening = max(0, lots[side] - self.closable(key, side))
            if opening:
                worst = max(worst, value[side] * opening // lots[side])
        if not worst:
            return 0
        leverage = self.leverage(contract, key[1], is_isolated=key[2])
        fees = contract.margin_fees * contract.taker_fee
        over, under = _order_rate(leverage, contract.initial_rate, fees)
        return rounded_up(worst * over, under)

    def needed_for(self, order: Order, contract: Contract, price: Decimal) -> int:
        """Return how much more margin the account needs when this order comes in."""
        lots, key = order.left, order.key
        if contract.payoff is Payoff.SPOT:
            return contract.value(lots, price) if order.side == BID else lots * contract.base_lot
        if self.only_closes(order):
            return 0
        sums = self.sums.get(key) or OpenSums()
        more_lots, more_value = list(sums.lots), list(sums.value)
        more_lots[order.side] += lots
        more_value[order.side] += contract.value(lots, price)
        return self.order_margin(contract, key, more_lots, more_value) - self.order_margin(
            contract, key, sums.lots, sums.value
        )

    # Pictures

    def balance_view(
        self, coin: str, decimals: int, contracts: dict[str, Contract], mark: Mark
    ) -> BalanceView:
        """Return one coin as it is now."""
        found = self.margins(coin, contracts, mark)
        return BalanceView(
            account=self.name,
            coin=coin,
            decimals=decimals,
            cash=found.cash,
            unrealised=found.unrealised + found.isolated_unrealised,
            equity=found.cash + found.unrealised + found.isolated_unrealised,
            isolated=found.isolated,
            isolated_unrealised=found.isolated_unrealised,
            initial_margin=found.initial,
            order_margin=found.orders,
            maintenance_margin=found.maintenance,
            available=max(0, found.free),
            updated_ns=self.cash_ns.get(coin, 0),
        )

    def position_view(self, position: Position, contracts: dict[str, Contract], mark: Mark) -> PositionView:
        """Return one position as it is now."""
        contract = position.contract
        price = mark(contract.symbol)
        value = position.mark_value(price)
        liquidation = None
        if position.lots and position.is_isolated:
            liquidation = position.liquidation_price(position.margin, contract.maintenance_rate)
        elif position.lots:
            found = self.margins(contract.settle, contracts, mark)
            rest = found.equity - position.unrealised(price) - found.maintenance
            rest += maintenance_margin(contract, abs(value))
            liquidation = position.liquidation_price(rest, contract.maintenance_rate)
        return PositionView(
            position_id=position.position_id,
            account=self.name,
            symbol=contract.symbol,
            pos_side=position.pos_side,
            is_isolated=position.is_isolated,
            margin=position.margin,
            lots=position.lots,
            cost=position.cost,
            entry_cost=position.entry_cost,
            entry=contract.entry(position.lots, position.cost),
            real_entry=contract.entry(position.lots, position.entry_cost),
            mark=price,
            mark_value=value,
            unrealised=value - position.cost,
            realised=position.realised,
            settled=position.settled,
            fees=position.fees,
            funding=position.funding,
            previous_realised=position.previous_realised,
            leverage=self.leverage(contract, position.pos_side, is_isolated=position.is_isolated),
            initial_margin=position.margin
            if position.is_isolated
            else self.initial_margin(contract, abs(value)),
            maintenance_margin=maintenance_margin(contract, abs(value)),
            liquidation_price=liquidation,
            opened_ns=position.opened_ns,
            updated_ns=position.updated_ns,
        )


def leverage_group(contract: Contract, pos_side: PosSide, *, is_isolated: bool) -> str:
    """Return what a leverage holds for."""
    return f"isolated:{contract.symbol}:{pos_side}" if is_isolated else contract.group


def closing_side(pos_side: PosSide) -> int | None:
    """Return the side that closes a position of long/short mode; None for the net position."""
    return {PosSide.LONG: ASK, PosSide.SHORT: BID}.get(pos_side)


@lru_cache(maxsize=256)
def _order_rate(leverage: Decimal, initial_rate: Decimal, fees: Decimal) -> tuple[int, int]:
    """Return the margin of an order as a share of its value, exactly."""
    over, under = leverage.as_integer_ratio()
    rate = max(Decimal(under) / Decimal(over), initial_rate)
    return (rate + fees).as_integer_ratio()


def maintenance_margin(contract: Contract, value: int) -> int:
    """Return the maintenance margin of a position of this value."""
    over, under = contract.maintenance_rate.as_integer_ratio()
    return rounded_up(value * over, under)


def binding_value(order: Order, contract: Contract, lots: int) -> int:
    """Return what lots of an order are worth at its limit; a market order in flight counts nothing."""
    if order.tick is None or order.request.kind is Kind.MARKET:
        return 0
    return contract.value(lots, contract.price(order.tick))


def open_positions(accounts: Iterable[Account]) -> Iterator[tuple[Account, Position]]:
    """Yield everybody's open positions, in a fixed order."""
    for account in accounts:
        for position in list(account.positions.values()):
            if position.lots:
                yield account, position
