"""What an exchange tells about itself: orders, fills, balances, positions, prices. Nothing here changes it.

``Exchange`` is one of these; its module's docstring lists the doors.
"""

from decimal import Decimal

from dquant.simulator import links
from dquant.simulator.accounts import Account, PositionMode, closing_side
from dquant.simulator.clearing import Clearing
from dquant.simulator.contract import Contract, Payoff
from dquant.simulator.exchange_events import BalanceView, Fill, PositionView
from dquant.simulator.order_desk import OrderDesk
from dquant.simulator.orders import ASK, Contingency, OpenLots, OrderView, PosSide, Refused, Why


class ExchangeReader:
    """The reading doors of an exchange; an unknown account or instrument is ``Refused``."""

    def __init__(self, clearing: Clearing, desk: OrderDesk) -> None:
        self._clearing, self._desk = clearing, desk

    @property
    def now_ns(self) -> int:
        """Virtual time, as far as the flow has come."""
        return self._clearing.now_ns

    def symbols(self) -> list[str]:
        """Return the names of the listed instruments."""
        return list(self._clearing.contracts)

    def contract(self, symbol: str) -> Contract:
        """Return an instrument."""
        contract = self._clearing.contracts.get(symbol)
        if contract is None:
            raise Refused(Why.UNKNOWN_SYMBOL, symbol=symbol)
        return contract

    def accounts(self) -> list[str]:
        """Return the names of the accounts."""
        return list(self._clearing.accounts)

    def order(self, account: str, order_id: int) -> OrderView:
        """Return an order, open or done."""
        view = self._account(account).view(order_id)
        if view is None:
            raise Refused(Why.UNKNOWN_ORDER, order_id=order_id)
        return view

    def find(self, account: str, client_id: str) -> OrderView | None:
        """Return the newest order with a client id; None where there is none."""
        holder = self._account(account)
        order_id = holder.newest.get(client_id)
        return None if order_id is None else holder.view(order_id)

    def open_orders(self, account: str, symbol: str | None = None) -> list[OrderView]:
        """Return open orders, oldest first, stops that wait included."""
        orders = self._account(account).orders.values()
        return [order.view() for order in orders if symbol in (None, order.symbol)]

    def open_lots(self, account: str, symbol: str) -> list[OpenLots]:
        """Return what open orders of an instrument still have to fill, oldest first."""
        return [
            OpenLots(
                order.side, order.tick, order.lots - order.filled, order.request.reduce_only, order.state
            )
            for order in self._account(account).orders.values()
            if order.request.symbol == symbol
        ]

    def open_total(self, account: str) -> int:
        """Return how many orders are open at all instruments together."""
        return len(self._account(account).orders)

    def open_counts(self, account: str, symbol: str) -> tuple[int, int]:
        """Return how many orders are open at an instrument, and how many of them are stops that wait."""
        orders = [order for order in self._account(account).orders.values() if order.symbol == symbol]
        return len(orders), sum(order.is_waiting and order.request.trigger is not None for order in orders)

    def finished_orders(self, account: str) -> list[OrderView]:
        """Return the orders done with that are still remembered, in the order they ended."""
        return list(self._account(account).finished.values())

    def fills(self, account: str) -> list[Fill]:
        """Return the fills that are still remembered, oldest first."""
        return list(self._account(account).fills)

    def balance(self, account: str, coin: str) -> BalanceView:
        """Return one coin of an account."""
        decimals, clearing = self._clearing.coins[coin], self._clearing
        return self._account(account).balance_view(coin, decimals, clearing.contracts, clearing.mark)

    def balances(self, account: str) -> list[BalanceView]:
        """Return all coins that an account has ever had."""
        return [self.balance(account, coin) for coin in self._account(account).cash]

    def position(
        self, account: str, symbol: str, pos_side: PosSide = PosSide.NET, *, is_isolated: bool = False
    ) -> PositionView | None:
        """Return a position, flat ones too; None where there never was one."""
        holder = self._account(account)
        position = holder.positions.get((symbol, pos_side, is_isolated))
        if position is None:
            return None
        return holder.position_view(position, self._clearing.contracts, self._clearing.mark)

    def positions(self, account: str) -> list[PositionView]:
        """Return all positions of listed instruments, flat ones too."""
        holder, clearing = self._account(account), self._clearing
        held = holder.positions.values()
        return [holder.position_view(position, clearing.contracts, clearing.mark) for position in held]

    def leverage(
        self, account: str, symbol: str, pos_side: PosSide = PosSide.NET, *, is_isolated: bool = False
    ) -> Decimal:
        """Return the leverage that holds for an instrument, or for one isolated position."""
        return self._account(account).leverage(self.contract(symbol), pos_side, is_isolated=is_isolated)

    def mode(self, account: str) -> PositionMode:
        """Return how the account holds positions."""
        return self._account(account).mode

    def mark(self, symbol: str) -> Decimal:
        """Return the mark price as the venue prints it."""
        return self._clearing.mark(self.contract(symbol).symbol)

    def index(self, symbol: str) -> Decimal:
        """Return the index of an instrument."""
        return self._clearing.index(self.contract(symbol).symbol)

    def last(self, symbol: str) -> Decimal:
        """Return the price of the last trade."""
        contract = self.contract(symbol)
        return contract.price(self._clearing.markets[symbol].day.last_tick)

    def is_asleep(self, account: str, link: str, contingency: Contingency | None) -> bool:
        """Return whether an order would have to wait for another one to be filled."""
        return links.is_asleep(self._account(account), link, contingency)

    def lots_before(self, account: str, order_id: int) -> int:
        """Return what is to be filled before a resting order at its price."""
        order = self._account(account).orders.get(order_id)
        if order is None:
            raise Refused(Why.UNKNOWN_ORDER, order_id=order_id)
        return self._desk.matching[order.symbol].lots_before(order)

    def max_lots(
        self,
        account: str,
        symbol: str,
        side: int,
        tick: int,
        pos_side: PosSide = PosSide.NET,
        *,
        is_isolated: bool = False,
    ) -> int:
        """Return about how many lots the account could order at a price, closing ones included."""
        holder, contract = self._account(account), self.contract(symbol)
        closable = holder.closable((symbol, pos_side, is_isolated), side)
        if closing_side(pos_side) == side:
            return closable
        if contract.payoff is Payoff.SPOT and side == ASK:
            return max(0, self._margins_free(holder, contract.base)) // contract.base_lot
        free = max(0, self._margins_free(holder, contract.settle))
        value = contract.value(10**6, contract.price(tick))
        if contract.payoff is not Payoff.SPOT:
            value = holder.initial_margin(contract, value, pos_side, is_isolated=is_isolated)
        return min(contract.max_lots, closable + free * 10**6 // max(1, value))

    def _account(self, name: str) -> Account:
        account = self._clearing.accounts.get(name)
        if account is None:
            raise Refused(Why.UNKNOWN_ACCOUNT, account=name)
        return account

    def _margins_free(self, account: Account, coin: str) -> int:
        return account.margins(coin, self._clearing.contracts, self._clearing.mark).free
