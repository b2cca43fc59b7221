"""The order desk: which orders an exchange takes, and their way from acceptance to their end.

In: requests already addressed to an account and instrument, fills from the books (it is the books'
``FillListener``), prices for stops. Out: orders in the books (``matching``), fills in the accounts and events
(``clearing``). It knows no time of its own and no timers; ``exchange`` does.

An order that only closes is never larger than its position: it is cut when it comes in, and again, or
cancelled, whenever the position shrinks (``Reason.REDUCE_ONLY``).
"""

from collections.abc import Callable, Mapping
from decimal import Decimal

from msgspec.structs import replace

from dquant.simulator import links
from dquant.simulator.accounts import Account, PositionMode, closing_side, maintenance_margin
from dquant.simulator.clearing import Clearing
from dquant.simulator.contract import Contract, Payoff
from dquant.simulator.exchange_events import (
    MarginCalled,
    OrderAccepted,
    OrderAmended,
    OrderCancelled,
    OrderTriggered,
)
from dquant.simulator.exchange_faults import OrderFault
from dquant.simulator.matching import Matching
from dquant.simulator.orders import (
    ASK,
    BID,
    Contingency,
    Kind,
    Order,
    OrderRequest,
    OrderView,
    PositionKey,
    PosSide,
    Reason,
    Refused,
    SelfTrade,
    State,
    TriggerSource,
    Why,
)
from dquant.simulator.timers import TimerKey, Timers

HouseNote = Callable[[str, OrderRequest], Mapping[str, object]]  # of an account and what is ordered for it


class OrderDesk:
    """Orders of all accounts of one exchange."""

    def __init__(
        self, clearing: Clearing, timers: Timers, max_orders: int, max_orders_per_symbol: int
    ) -> None:
        self._clearing, self._timers = clearing, timers
        self._max_orders, self._max_orders_per_symbol = max_orders, max_orders_per_symbol
        self.matching: dict[str, Matching] = {}
        self.waiting: dict[int, Order] = {}  # stops
        self._ended_links: list[Order] = []  # orders that others may have waited for
        self.open_orders = 0
        self.house_note: HouseNote | None = None  # what the venue keeps with orders of the house
        self._order_numbers = 0

    # What is taken

    def checked(self, account: Account, request: OrderRequest, contract: Contract) -> OrderRequest:
        """Return what may come in, cut to the position where it only reduces.

        Raises:
            Refused: It may not.

        """
        self._check_form(account, request, contract)
        links.check_link(account, request)
        if request.trigger is not None or links.is_asleep(account, request.link, request.contingency):
            return request  # it is looked at when it wakes
        if request.reduce_only or closing_side(request.pos_side) is not None:
            request = self._cut(account, request)
        self.check_margin(account, Order(0, account.name, account.owner, request, 0), contract)
        return request

    def check_reducing(self, account: Account, request: OrderRequest) -> None:
        """Refuse what could grow a position."""
        closes = request.reduce_only or closing_side(request.pos_side) == request.side
        if not closes and account.closable(request.key, request.side) < request.lots:
            raise Refused(Why.REDUCE_ONLY_MODE)

    def check_margin(self, account: Account, order: Order, contract: Contract) -> None:
        """Refuse what the account cannot carry."""
        price = self._binding_price(order, contract)
        needed = account.needed_for(order, contract, price)
        if needed <= 0:
            return
        spot_sale = contract.payoff is Payoff.SPOT and order.side == ASK
        coin = contract.base if spot_sale else contract.settle
        available = account.margins(coin, self._clearing.contracts, self._clearing.mark).free
        if needed > available:
            raise Refused(Why.MARGIN, coin=coin, needed=needed, available=max(0, available))

    def check_amend(
        self, account: Account, order: Order, contract: Contract, lots: int, tick: int | None
    ) -> None:
        """Refuse an amendment that the order cannot take."""
        if lots <= 0 or lots > contract.max_lots:
            raise Refused(Why.SIZE, lots=lots)
        if tick is not None and tick <= 0:
            raise Refused(Why.PRICE, tick=tick)
        if order.is_waiting:
            return
        moves = tick != order.tick
        would_take = self.matching[order.symbol].would_take(order.side, tick)
        if moves and order.request.kind is Kind.POST_ONLY and would_take:
            raise Refused(Why.POST_ONLY)
        closable = account.closable(order.key, order.side)
        if account.only_closes(order):
            if lots - order.filled > closable:
                raise Refused(Why.REDUCE_ONLY, position=closable)
        elif moves or lots > order.lots:
            changed = Order(0, account.name, account.owner, replace(order.request, tick=tick, lots=lots), 0)
            changed.filled = min(order.filled, lots)
            self._check_margin_instead(account, order, changed, contract)

    # From acceptance to the end

    def accept(self, account: Account, request: OrderRequest, category: Reason = Reason.USER) -> Order:
        """Take an order among the open ones, and say so."""
        order = self._numbered(account, request, category)
        if links.is_asleep(account, request.link, request.contingency):
            order.state, order.asleep = State.WAITING, True
        account.accept(order)
        self.open_orders += 1
        if order.is_waiting and not order.asleep:
            self.waiting[order.order_id] = order
        if request.expires_ns is not None:
            self._timers.set(_expiry_key(order), request.expires_ns)
        self._clearing.emit(OrderAccepted, account.name, order=order.view())
        return order

    def enter(self, order: Order, faults: list[OrderFault]) -> None:
        """Let an accepted order into its book; what cannot rest of it is cancelled."""
        contract = self._clearing.contracts[order.symbol]
        account = self._clearing.accounts[order.account]
        for fault in faults:
            if fault.kind == "partial":
                order.withheld = order.left - int(order.left * fault.share)
        reason = self.matching[order.symbol].enter(order) if order.left else None
        if not order.is_open:
            return
        if order.withheld:
            order.withheld = 0
            self.matching[order.symbol].leave(order)
            reason = Reason.FAULT
        if reason is not None:
            self.finish(order, State.CANCELLED, reason)
        else:
            account.hold(order, contract)

    def finish(self, order: Order, state: State, reason: Reason) -> OrderView:
        """End an order that is not filled to its end, and say so."""
        account = self._clearing.accounts[order.account]
        self.matching[order.symbol].leave(order)
        self.waiting.pop(order.order_id, None)
        order.state, order.reason = state, reason
        order.finished_ns = order.updated_ns = self._clearing.now_ns
        account.hold(order, self._clearing.contracts[order.symbol])
        self._forget(order)
        self._note_end(order)
        view = account.finish(order)
        if state is State.CANCELLED:
            self._clearing.emit(OrderCancelled, account.name, order=view, reason=reason)
        return view

    def say_amended(self, order: Order, reason: Reason = Reason.USER, request_id: str = "") -> None:
        """Say that price or size of an order changed."""
        self._clearing.emit(
            OrderAmended, order.account, order=order.view(), reason=reason, request_id=request_id
        )

    # What the books tell

    def filled(self, maker: Order | None, taker: Order | None, tick: int, lots: int, trade_id: int) -> None:
        """Book one fill to both sides; None is the background, whose account is the house."""
        order = taker if taker is not None else maker
        assert order is not None
        symbol, clearing = order.symbol, self._clearing
        clearing.now_ns = max(clearing.now_ns, clearing.markets[symbol].book.ts)
        for side, is_maker in ((taker, False), (maker, True)):
            if side is None:
                price = clearing.contracts[symbol].price(tick)
                clearing.book_house(symbol, 1 - order.side, lots, price)
                continue
            clearing.book_fill(side, tick, lots, trade_id, is_maker=is_maker)
            if not side.is_open:
                self._forget(side)
                self._note_end(side)
                self.matching[symbol].filled_up(side)
        for side in (taker, maker):
            if side is not None:
                self._cancel_rivals(side)
                self._trim(clearing.accounts[side.account], side)

    def met_itself(self, maker: Order) -> None:
        """Cancel a resting order that another one of its owner has reached."""
        self.finish(maker, State.CANCELLED, Reason.SELF_TRADE)

    # What orders mean for each other

    def settle_links(self) -> None:
        """Wake what waited for an order that was filled, cancel what waited for one that was not."""
        while self._ended_links:
            primary = self._ended_links.pop(0)
            account = self._clearing.accounts[primary.account]
            for order in links.sleepers(account, primary):
                if not order.is_open:
                    continue  # cancelled by one that has just woken
                order.asleep = False
                if primary.state is not State.FILLED:
                    self.finish(order, State.CANCELLED, Reason.LINK)
                elif order.request.trigger is None:
                    self._wake(order)
                else:
                    self.waiting[order.order_id] = order

    def _note_end(self, order: Order) -> None:
        if order.request.contingency is Contingency.OTO:
            self._ended_links.append(order)

    def _cancel_rivals(self, order: Order) -> None:
        if order.request.contingency is not None:
            for rival in links.rivals(self._clearing.accounts[order.account], order):
                if rival.symbol != order.symbol:  # what happens in this book is under way already
                    self.matching[rival.symbol].begin(self._clearing.now_ns)
                self.finish(rival, State.CANCELLED, Reason.LINK)

    # What prices do

    def wake_stops(self) -> None:
        """Let the stops in whose price has been reached, oldest first."""
        for order in list(self.waiting.values()):
            if order.order_id in self.waiting and self._is_reached(order):
                self._wake(order)

    def liquidate(self, account: Account, coin: str) -> None:
        """Cancel all cross orders on a coin, close its positions at market; the house pays the debt."""
        clearing = self._clearing
        found = account.margins(coin, clearing.contracts, clearing.mark)
        clearing.emit(
            MarginCalled,
            account.name,
            coin=coin,
            equity=found.equity,
            maintenance_margin=found.maintenance,
        )
        for order in list(account.orders.values()):
            if clearing.contracts[order.symbol].settle == coin and not order.request.is_isolated:
                self._cancel_for_liquidation(order)
        for key, position in list(account.positions.items()):
            if position.lots and position.contract.settle == coin and not position.is_isolated:
                self._close(account, key, position.lots)
        clearing.cover_cross(account, coin)

    def liquidate_isolated(self, account: Account, key: PositionKey) -> None:
        """Cancel the orders of an isolated position and close it; it loses no more than its margin."""
        clearing, position = self._clearing, account.positions[key]
        contract, coin = position.contract, position.contract.settle
        price = clearing.mark(contract.symbol)
        clearing.emit(
            MarginCalled,
            account.name,
            coin=coin,
            equity=position.margin + position.unrealised(price),
            maintenance_margin=maintenance_margin(contract, abs(position.mark_value(price))),
        )
        for order in list(account.orders.values()):
            if order.key == key:
                self._cancel_for_liquidation(order)
        margin = position.margin
        order = self._close(account, key, position.lots)
        clearing.cover_isolated(account, coin, margin, order.realised - order.fee)

    def next_order(self, account: Account, request: OrderRequest) -> Order:
        """Return an order of the house that delivers a position; it is open until it is filled."""
        order = self._numbered(account, request, Reason.DELIVERY)
        account.accept(order)
        return order

    # Inside

    def _numbered(self, account: Account, request: OrderRequest, category: Reason) -> Order:
        self._order_numbers += 1
        if category is not Reason.USER and self.house_note is not None:
            request = replace(request, note=self.house_note(account.name, request))
        order = Order(self._order_numbers, account.name, account.owner, request, self._clearing.now_ns)
        order.category = category
        return order

    def _cancel_for_liquidation(self, order: Order) -> None:
        self.matching[order.symbol].begin(self._clearing.now_ns)
        self.finish(order, State.CANCELLED, Reason.LIQUIDATION)

    def _forget(self, order: Order) -> None:
        self.open_orders -= 1
        if order.request.expires_ns is not None:
            self._timers.drop(_expiry_key(order))

    def _check_form(self, account: Account, request: OrderRequest, contract: Contract) -> None:
        if not 0 < request.lots <= contract.max_lots:
            raise Refused(Why.SIZE, lots=request.lots)
        bounded = request.kind is Kind.MARKET or (request.tick is not None and request.tick > 0)
        if not bounded or (request.tick is not None and request.tick <= 0):
            raise Refused(Why.PRICE, tick=request.tick)
        sides = (PosSide.NET,) if account.mode is PositionMode.NET else (PosSide.LONG, PosSide.SHORT)
        if contract.payoff is Payoff.SPOT:
            sides = (PosSide.NET,)
        if request.pos_side not in sides:
            raise Refused(Why.POSITION_SIDE, allowed=sides)
        if request.client_id and request.client_id in account.by_client_id:
            raise Refused(Why.CLIENT_ID, client_id=request.client_id)
        if len(account.orders) >= self._max_orders:
            raise Refused(Why.TOO_MANY_ORDERS, limit=self._max_orders)
        if len(account.orders) >= self._max_orders_per_symbol:
            here = sum(order.symbol == request.symbol for order in account.orders.values())
            if here >= self._max_orders_per_symbol:
                raise Refused(Why.TOO_MANY_ORDERS, limit=self._max_orders_per_symbol)

    def _cut(self, account: Account, request: OrderRequest) -> OrderRequest:
        """Return a closing order no larger than its position; in long/short mode too large is refused."""
        key = request.key
        closable = account.closable(key, request.side)
        closing = closing_side(request.pos_side)
        if closing is None:
            if not closable:
                position = account.positions.get(key)
                raise Refused(Why.REDUCE_ONLY, position=0 if position is None else position.lots)
            return replace(request, lots=min(request.lots, closable))
        if closing == request.side:
            bound = sum(
                order.left
                for order in account.orders.values()
                if order.key == key and order.side == closing and not order.is_waiting
            )
            if not closable:
                raise Refused(Why.NO_POSITION, symbol=request.symbol)
            if request.lots > closable - bound:
                raise Refused(Why.POSITION_SIZE, position=closable, bound=bound)
        return request

    def _check_margin_instead(
        self, account: Account, order: Order, changed: Order, contract: Contract
    ) -> None:
        """Check an amended order as if the old one were not there."""
        finished, order.finished_ns = order.finished_ns, self._clearing.now_ns
        account.hold(order, contract)
        try:
            self.check_margin(account, changed, contract)
        finally:
            order.finished_ns = finished
            account.hold(order, contract)

    def _binding_price(self, order: Order, contract: Contract) -> Decimal:
        """Return the price that margin is counted at: the limit, or where a market order starts."""
        if order.tick is not None and order.request.kind is not Kind.MARKET:
            return contract.price(order.tick)
        book = self._clearing.markets[order.symbol].book
        best = book.best_ask if order.side == BID else book.best_bid
        return self._clearing.mark(order.symbol) if best is None else contract.price(best)

    def _trim(self, account: Account, filled: Order) -> None:
        """Cut or cancel what only closes and is now larger than its position."""
        for order in list(account.orders.values()):
            if order.key != filled.key or order.is_waiting or not account.only_closes(order):
                continue
            closable = account.closable(order.key, order.side)
            if not closable:
                self.finish(order, State.CANCELLED, Reason.REDUCE_ONLY)
            elif order.left > closable:
                self.matching[order.symbol].resize(order, order.filled + closable)
                order.updated_ns = self._clearing.now_ns
                self.say_amended(order, Reason.REDUCE_ONLY)

    def _is_reached(self, order: Order) -> bool:
        trigger, contract = order.request.trigger, self._clearing.contracts[order.symbol]
        assert trigger is not None
        if trigger.source is TriggerSource.LAST:
            price = contract.price(self._clearing.markets[order.symbol].day.last_tick)
        elif trigger.source is TriggerSource.MARK:
            price = self._clearing.mark(order.symbol)
        else:
            price = self._clearing.index(order.symbol)
        limit = contract.price(trigger.tick)
        return price >= limit if trigger.rising else price <= limit

    def _wake(self, order: Order) -> None:
        clearing = self._clearing
        account, contract = clearing.accounts[order.account], clearing.contracts[order.symbol]
        self.waiting.pop(order.order_id, None)
        order.state, order.triggered = State.LIVE, order.request.trigger is not None
        order.updated_ns = clearing.now_ns
        clearing.emit(OrderTriggered, account.name, order=order.view())
        self.matching[order.symbol].begin(clearing.now_ns)
        if order.triggered:
            self._cancel_rivals(order)
        try:
            if account.only_closes(order):
                closable = account.closable(order.key, order.side)
                if not closable:
                    raise Refused(Why.REDUCE_ONLY, position=0)
                order.lots = min(order.lots, closable)
            self.check_margin(account, order, contract)
        except Refused as refused:
            reason = Reason.MARGIN if refused.why is Why.MARGIN else Reason.REDUCE_ONLY
            self.finish(order, State.CANCELLED, reason)
            return
        self.enter(order, [])

    def _close(self, account: Account, key: PositionKey, lots: int) -> Order:
        symbol, pos_side, is_isolated = key
        request = OrderRequest(
            symbol,
            ASK if lots > 0 else BID,
            abs(lots),
            Kind.MARKET,
            pos_side=pos_side,
            reduce_only=True,
            is_isolated=is_isolated,
            self_trade=SelfTrade.ALLOW,
        )
        order = self.accept(account, request, Reason.LIQUIDATION)
        self.matching[symbol].begin(self._clearing.now_ns)
        self.matching[symbol].enter(order)
        if order.is_open:
            self._clearing.book_at(order, self._clearing.mark(symbol), order.left)
            self._forget(order)
        return order


def _expiry_key(order: Order) -> TimerKey:
    return "expire", order.account, str(order.order_id)
