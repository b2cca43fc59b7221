"""The clearing house: fills, funding, settlement and delivery booked to accounts, and said as events.

In: what was traded or is due, with its price. Out: cash and positions of the accounts (``accounts``),
events in order (``take_events``) and the ``ledger``. Pure; orders wait and meet elsewhere (``exchange``).

The house is the other side of everything that the background does: an account of its own, so that in each
coin cash only changes hands. Over all accounts, exactly and always:

    sum(cash) - sum(deposits) == sum(cost of open positions)
"""

from collections import deque
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

from dquant.simulator.accounts import Account, PositionMode
from dquant.simulator.contract import Contract, Payoff, share_of, signed
from dquant.simulator.exchange_events import (
    BalanceChanged,
    Event,
    Fill,
    FundingPaid,
    OrderFilled,
    PositionChanged,
    PositionDelivered,
    PositionSettled,
)
from dquant.simulator.flow import FlowMarket
from dquant.simulator.ledger import Ledger
from dquant.simulator.orders import BID, Kind, Order, OrderRequest, PosSide, Reason, State
from dquant.simulator.positions import Position
from dquant.simulator.units import fixed

EVENTS_LIMIT = 100_000  # events kept for a venue that does not take them; the oldest go, counted
HOUSE = "house"
NewOrder = Callable[[Account, OrderRequest], Order]


class Clearing:
    """Money and positions of one exchange."""

    def __init__(self, coins: dict[str, int], ledger: Ledger) -> None:
        self.coins = coins
        self.ledger = ledger
        self.now_ns = 0
        self.accounts: dict[str, Account] = {}
        self.house = Account(HOUSE, HOUSE, PositionMode.NET)
        self.contracts: dict[str, Contract] = {}
        self.markets: dict[str, FlowMarket] = {}
        self.open_positions = 0
        self.deposits: dict[str, int] = {}
        self.events_lost = 0
        self._events: deque[Event] = deque()
        self._numbers = 0
        self._fill_numbers = 0
        self._position_numbers = 0

    # Events

    def emit(self, kind: type[Event], account: str, **facts: Any) -> None:
        """Say that something happened, to the venue and to the ledger."""
        event = self._numbered(kind, account, facts)
        self._events.append(event)
        if len(self._events) > EVENTS_LIMIT:
            self._events.popleft()
            self.events_lost += 1

    def write(self, kind: type[Event], account: str, **facts: Any) -> None:
        """Write something into the ledger alone."""
        self._numbered(kind, account, facts)

    def take_events(self) -> list[Event]:
        """Return what happened since the last call, oldest first."""
        events = list(self._events)
        self._events.clear()
        return events

    def _numbered(self, kind: type[Event], account: str, facts: dict[str, Any]) -> Event:
        self._numbers += 1
        event = kind(number=self._numbers, ts=self.now_ns, account=account, **facts)
        self.ledger.add(event)
        return event

    # Prices

    def mark(self, symbol: str) -> Decimal:
        """Return the mark price as the venue prints it."""
        return Decimal(fixed(self.markets[symbol].mark, self.contracts[symbol].mark_decimals))

    def index(self, symbol: str) -> Decimal:
        """Return the index that an instrument follows."""
        return Decimal(fixed(self.markets[symbol].index, self.contracts[symbol].mark_decimals))

    # Fills

    def book_fill(self, order: Order, tick: int, lots: int, trade_id: int, *, is_maker: bool) -> None:
        """Book a fill of one order at a tick of the book."""
        contract = self.contracts[order.symbol]
        order.filled_ticks += lots * tick
        self._book(order, contract, contract.price(tick), tick, lots, trade_id, is_maker=is_maker)

    def book_at(self, order: Order, price: Decimal, lots: int) -> None:
        """Book a fill against the house, without a print."""
        contract = self.contracts[order.symbol]
        order.filled_ticks += lots * int(price / contract.tick.size)
        self._book(order, contract, price, None, lots, 0, is_maker=False)
        self.book_house(order.symbol, 1 - order.side, lots, price)

    def book_house(self, symbol: str, side: int, lots: int, price: Decimal) -> None:
        """Book what the background did against a client."""
        contract = self.contracts[symbol]
        if contract.payoff is Payoff.SPOT:
            self._swap_coins(self.house, contract, side, lots, contract.value(lots, price))
            return
        position = self._position(self.house, contract, PosSide.NET)
        self._pay(self.house, contract.settle, position.fill(signed(side, lots), price, self.now_ns))

    def _book(
        self,
        order: Order,
        contract: Contract,
        price: Decimal,
        tick: int | None,
        lots: int,
        trade_id: int,
        *,
        is_maker: bool,
    ) -> None:
        account, side = self.accounts[order.account], order.side
        value = contract.value(lots, price)
        rate = contract.maker_fee if is_maker else contract.taker_fee
        order.filled += lots
        order.filled_value += value
        order.updated_ns = self.now_ns
        realised, position = 0, None
        if contract.payoff is Payoff.SPOT:
            # Both venues take the fee of a spot trade from the coin received.
            fee_coin, received = (
                (contract.base, lots * contract.base_lot) if side == BID else (contract.settle, value)
            )
            fee = contract.fee(received, rate)
            self._swap_coins(account, contract, side, lots, value)
        else:
            fee_coin, fee = contract.settle, contract.fee(value, rate)
            asked = order.request
            position = self._position(account, contract, asked.pos_side, is_isolated=asked.is_isolated)
            held = position.lots
            realised = position.fill(signed(side, lots), price, self.now_ns)
            position.fees += fee
            if position.is_isolated:
                set_margin_aside(account, position, held, price)
            self.open_positions += (position.lots != 0) - (held != 0)
            self._pay(account, contract.settle, realised)
        self._pay(account, fee_coin, -fee)
        self._pay(self.house, fee_coin, fee)
        order.fee += fee
        order.fee_coin = fee_coin
        order.realised += realised
        order.state = State.PARTLY_FILLED if order.filled < order.lots else State.FILLED
        if order.state is State.FILLED:
            order.finished_ns = self.now_ns
        account.hold(order, contract)
        fill = Fill(
            fill_id=self._next_fill(),
            order_id=order.order_id,
            account=account.name,
            symbol=contract.symbol,
            client_id=order.request.client_id,
            pos_side=order.request.pos_side,
            is_isolated=order.request.is_isolated,
            ts=self.now_ns,
            trade_id=trade_id,
            side=side,
            tick=tick,
            price=price,
            lots=lots,
            value=value,
            is_maker=is_maker,
            fee=fee,
            fee_coin=fee_coin,
            fee_rate=rate,
            realised=realised,
            position=position.lots if position is not None else 0,
            reason=Reason.FILL if order.category is Reason.USER else order.category,
        )
        account.fills.append(fill)
        view = account.finish(order) if order.state is State.FILLED else order.view()
        self.emit(OrderFilled, account.name, order=view, fill=fill)
        if position is not None:
            self._say_position(account, position, fill.reason, trade_id)
            self._say_balance(account, contract.settle, realised - fee, fill.reason, contract.symbol)
            return
        moved = lots * contract.base_lot
        base, quote = (moved - fee, -value) if side == BID else (-moved, value - fee)
        self._say_balance(account, contract.base, base, fill.reason, contract.symbol)
        self._say_balance(account, contract.settle, quote, fill.reason, contract.symbol)

    def _swap_coins(self, account: Account, contract: Contract, side: int, lots: int, value: int) -> None:
        self._pay(account, contract.base, signed(side, lots) * contract.base_lot)
        self._pay(account, contract.settle, -value if side == BID else value)

    # Money that moves without a trade

    def transfer(self, account: Account, coin: str, amount: int) -> None:
        """Pay into an account, or out of it where below zero."""
        self.deposits[coin] = self.deposits.get(coin, 0) + amount
        self._pay(account, coin, amount)
        self._say_balance(account, coin, amount, Reason.TRANSFER)

    def cover_isolated(self, account: Account, coin: str, margin: int, result: int) -> None:
        """Let the house make good what the end of an isolated position has cost beyond its margin."""
        self._cover(account, coin, -result - margin)

    def cover_cross(self, account: Account, coin: str) -> None:
        """Let the house make good what an account owes that has no cross position in a coin any more.

        The margin of isolated ones pays for no others.
        """
        found = account.margins(coin, self.contracts, self.mark)
        if not found.maintenance:
            self._cover(account, coin, -found.equity)

    def _cover(self, account: Account, coin: str, owed: int) -> None:
        if owed > 0:
            self._pay(account, coin, owed)
            self._pay(self.house, coin, -owed)
            self._say_balance(account, coin, owed, Reason.LIQUIDATION)

    def pay_funding(self, symbol: str, rate: Decimal) -> None:
        """Exchange funding on everybody's position: value at the mark times rate, longs pay where above 0."""
        contract, price = self.contracts[symbol], self.mark(symbol)
        for account, position in self._holders(symbol):
            paid = contract.fee(contract.value(position.lots, price), rate)
            amount = paid if position.lots > 0 else -paid
            position.funding += amount
            if position.is_isolated:
                position.margin -= amount
            position.updated_ns = self.now_ns
            self._pay(account, contract.settle, -amount)
            self._pay(self.house, contract.settle, amount)
            self.emit(
                FundingPaid,
                account.name,
                symbol=symbol,
                pos_side=position.pos_side,
                lots=position.lots,
                rate=rate,
                mark=price,
                value=position.mark_value(price),
                amount=amount,
                coin=contract.settle,
            )
            self._say_position(account, position, Reason.FUNDING)
            self._say_balance(account, contract.settle, -amount, Reason.FUNDING, symbol)

    def settle_daily(self, symbol: str, price: Decimal) -> None:
        """Pay everybody's unrealised PnL at this price; positions go on from there. Isolated ones stay."""
        contract = self.contracts[symbol]
        for account, position in self._holders(symbol):
            if position.is_isolated:
                continue
            amount = position.settle(price, self.now_ns)
            counter = self._position(self.house, contract, PosSide.NET)
            counter.cost -= amount
            self._pay(account, contract.settle, amount)
            self._pay(self.house, contract.settle, -amount)
            self.emit(
                PositionSettled,
                account.name,
                symbol=symbol,
                pos_side=position.pos_side,
                price=price,
                amount=amount,
                coin=contract.settle,
            )
            self._say_position(account, position, Reason.SETTLEMENT)
            self._say_balance(account, contract.settle, amount, Reason.SETTLEMENT, symbol)

    def deliver(self, symbol: str, price: Decimal, new_order: NewOrder | None = None) -> None:
        """Close everybody's position at the delivery price, against the house.

        With ``new_order`` by an order of the house, which is filled at once; without, nobody ordered it.
        """
        contract = self.contracts[symbol]
        for account, position in self._holders(symbol):
            lots = position.lots
            side, size = (1 if lots > 0 else 0), abs(lots)
            value = contract.value(size, price)
            fee, margin = contract.fee(value, contract.delivery_fee), position.margin
            realised = position.fill(-lots, price, self.now_ns)
            position.fees += fee
            position.margin = 0
            self.open_positions -= 1
            self._pay(account, contract.settle, realised - fee)
            self._pay(self.house, contract.settle, fee)
            self.book_house(symbol, 1 - side, size, price)
            request = OrderRequest(
                symbol, side, size, Kind.MARKET, pos_side=position.pos_side, is_isolated=position.is_isolated
            )
            order = None if new_order is None else new_order(account, request)
            fill = Fill(
                fill_id=self._next_fill(),
                order_id=0 if order is None else order.order_id,
                account=account.name,
                symbol=symbol,
                client_id="",
                pos_side=position.pos_side,
                is_isolated=position.is_isolated,
                ts=self.now_ns,
                trade_id=0,
                side=side,
                tick=None,
                price=price,
                lots=size,
                value=value,
                is_maker=False,
                fee=fee,
                fee_coin=contract.settle,
                fee_rate=contract.delivery_fee,
                realised=realised,
                position=0,
                reason=Reason.DELIVERY,
            )
            account.fills.append(fill)
            if order is not None:
                self._fill_up(account, order, fill)
            self.emit(
                PositionDelivered,
                account.name,
                symbol=symbol,
                pos_side=position.pos_side,
                price=price,
                fill=fill,
            )
            self._say_position(account, position, Reason.DELIVERY)
            self._say_balance(account, contract.settle, realised - fee, Reason.DELIVERY, symbol)
            if position.is_isolated:
                self.cover_isolated(account, contract.settle, margin, realised - fee)
            else:
                self.cover_cross(account, contract.settle)

    # Inside

    def _fill_up(self, account: Account, order: Order, fill: Fill) -> None:
        """End an order of the house by one fill, which is booked already."""
        contract = self.contracts[order.symbol]
        order.filled, order.filled_value = fill.lots, fill.value
        order.filled_ticks = fill.lots * int(fill.price / contract.tick.size)
        order.fee, order.fee_coin, order.realised = fill.fee, fill.fee_coin, fill.realised
        order.state, order.finished_ns = State.FILLED, self.now_ns
        self.emit(OrderFilled, account.name, order=account.finish(order), fill=fill)

    def _holders(self, symbol: str) -> Iterable[tuple[Account, Position]]:
        return [
            (account, position)
            for account in self.accounts.values()
            for (held, *_), position in account.positions.items()
            if held == symbol and position.lots
        ]

    def _position(
        self, account: Account, contract: Contract, pos_side: PosSide, *, is_isolated: bool = False
    ) -> Position:
        key = contract.symbol, pos_side, is_isolated
        position = account.positions.get(key)
        if position is None:
            self._position_numbers += 1
            number = self._position_numbers
            position = Position(contract, pos_side, number, self.now_ns, is_isolated=is_isolated)
            account.positions[key] = position
        return position

    def _pay(self, account: Account, coin: str, amount: int) -> None:
        if amount or coin not in account.cash:
            account.cash[coin] = account.cash.get(coin, 0) + amount
            account.cash_ns[coin] = self.now_ns

    def _say_position(self, account: Account, position: Position, reason: Reason, trade_id: int = 0) -> None:
        view = account.position_view(position, self.contracts, self.mark)
        self.emit(PositionChanged, account.name, position=view, reason=reason, trade_id=trade_id)

    def _say_balance(self, account: Account, coin: str, delta: int, reason: Reason, symbol: str = "") -> None:
        view = account.balance_view(coin, self.coins[coin], self.contracts, self.mark)
        self.emit(BalanceChanged, account.name, balance=view, delta=delta, reason=reason, symbol=symbol)

    def _next_fill(self) -> int:
        self._fill_numbers += 1
        return self._fill_numbers


def set_margin_aside(account: Account, position: Position, held: int, price: Decimal) -> None:
    """Let the margin of an isolated position follow a fill at this price; it held so many lots before."""
    now = position.lots
    if held * now < 0:  # through zero: the rest is a new position
        held = position.margin = 0
    if abs(now) < abs(held):
        position.margin = share_of(position.margin, abs(now), abs(held))
        return
    value = position.contract.value(abs(now) - abs(held), price)
    position.margin += account.initial_margin(position.contract, value, position.pos_side, is_isolated=True)
