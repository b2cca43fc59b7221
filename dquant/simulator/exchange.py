"""One exchange behind a simulated venue: orders against the flow's books, accounts, time, and the truth.

It knows no venue: prices are ticks, sizes lots, money whole minor units (``contract``), times virtual ns.
A venue (``okex_*``, ``bitmex_*``) owns one, turns its wire into the verbs below and the events into its wire.

Set up, once::

    exchange = Exchange("okex", flow, coins={"BTC": 16, "USDT": 16}, options=ExchangeOptions(...))
    exchange.list_contract(Contract(...), market)       # market: the FlowMarket of ``flow.add``
    exchange.delist(symbol)                             # after its delivery
    exchange.open_account("main", {"BTC": Decimal(10)}, mode=PositionMode.NET, owner="master")

Verbs of a client; each raises ``Refused(why, **facts)`` where it is not granted, and acts at
``exchange.now_ns`` (``flow.advance`` moves it)::

    place(account, OrderRequest) -> Placed              # .order after all it did at once; .answer: faults
    amend(account, order_id, lots=, tick=, trigger_tick=, client_id=, note=, request_id=) -> OrderView
    cancel(account, order_id, reason=Reason.USER) -> OrderView
    cancel_later(account, order_id, delay_ns)           # unless it has ended by then
    cancel_all(account, symbol=None, side=None, tag=None, reason=Reason.USER) -> list[OrderView]
    close_position(account, symbol, pos_side=NET, tick=None, client_id="", note=None) -> Placed
    set_dead_man(account, timeout_ns, tag="") -> int    # when it fires; 0: it is off (timeout_ns 0)
    set_leverage(account, symbol, Decimal, pos_side=NET) ; set_mode(account, PositionMode)
    isolate(account, symbol, is_isolated=, leverage=) ; move_margin(account, symbol, amount)   (minor units)
    transfer(account, coin, Decimal)

Reading; orders and fills done with are kept up to a bound (``accounts.FINISHED_LIMIT``), oldest first::

    order(account, order_id) -> OrderView ; find(account, client_id) -> OrderView | None   (the newest)
    open_orders(account, symbol=None) ; finished_orders(account) ; fills(account)
    balance(account, coin) -> BalanceView ; balances(account)
    position(account, symbol, pos_side=NET) -> PositionView | None ; positions(account)    (flat ones too)
    leverage(account, symbol) ; mode(account) ; mark(symbol) ; index(symbol) ; last(symbol)
    dead_man(account, tag="") -> int ; max_lots(account, symbol, side, tick, pos_side=NET) -> int
    is_asleep(account, link, contingency) -> bool       # whether an order would wait for another one
    trading(symbol) -> TradingMode ; delivered_at(symbol) -> Decimal | None
    symbols() ; contract(symbol) ; accounts() ; open_lots(account, symbol) ; open_counts(account, symbol)
    open_total(account) -> int
    lots_before(account, order_id) -> int               # to be filled before it at its price
    take_events() -> list[Event]                        # since the last call, in order; see below
    ledger                                              # ``ledger.Ledger``: the newest 100,000 rows

Events (``exchange_events``): a place gives OrderAccepted, then per fill OrderFilled, PositionChanged,
BalanceChanged, then OrderCancelled where a rest does not stay; the makers' events stand between, each with
its ``account``. ``Event.number`` orders all of them (with gaps: refused requests are in the ledger alone).
``OrderView.note`` is the venue's own dict, handed in with the request. What speaks of one position takes
``is_isolated=True`` for the one with margin of its own, beside the cross one.

Time: ``flow.advance(now)`` calls ``exchange.advance`` at every moment that something is due (dead-man timers,
funding, daily settlement, delivery, expiring orders), so that timers fire before what the books do later,
however far the clock leaps. A venue only takes the events in its ``publish``. By themselves happen: funding
at the times of the market's own funding (rate: ``options.funding_rate``, or the market's), daily settlement
at 08:00 UTC where the contract has it (price: ``options.settlement_price``, or the mark), delivery at
``Contract.expiry_ns`` (price: ``options.delivery_price``, or the index). By hand::

    pay_funding(symbol, rate) ; settle_daily(symbol, price=None) ; deliver(symbol, price=None)

Faults: ``exchange.faults`` (``exchange_faults``): few policies that a scenario sets, e.g.
``faults.add(OrderFault(kind="reject", nth=2, account="main"))``; ``Placed.answer`` tells the venue to lose,
delay or double its acknowledgement. ``call_margin(account)`` liquidates; ``set_trading(mode, symbol=None)``
closes the venue or one instrument, or leaves it to orders that reduce.

Liquidation is kept simple: where the equity of a coin falls to the maintenance margin (looked at every
100 ms), all orders on that coin are cancelled and all positions closed at market, what the book does not
take at the mark; what the account then owes, the house pays.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from msgspec.structs import replace

from dquant.constants import NS_PER_MS, NS_PER_S
from dquant.simulator.account_terms import AccountTerms
from dquant.simulator.accounts import Account, PositionMode
from dquant.simulator.clearing import Clearing
from dquant.simulator.contract import Contract, Payoff
from dquant.simulator.exchange_events import DeadManFired, Event
from dquant.simulator.exchange_faults import AnswerPlan, ExchangeFaults, answer_plan
from dquant.simulator.flow import Flow, FlowMarket
from dquant.simulator.ledger import LEDGER_LIMIT, Ledger
from dquant.simulator.matching import Matching
from dquant.simulator.order_desk import HouseNote, OrderDesk
from dquant.simulator.orders import (
    ASK,
    BID,
    Kind,
    Order,
    OrderRequest,
    OrderView,
    PosSide,
    Reason,
    Refused,
    State,
    Why,
)
from dquant.simulator.timers import Timers

_DAY_NS = 86_400 * NS_PER_S
_SETTLEMENT_NS = 8 * 3600 * NS_PER_S  # of the UTC day
_FUNDING_NS = 8 * 3600 * NS_PER_S
_ENDS = {"expire": Reason.EXPIRED, "late_reject": Reason.LATE_REJECT, "cancel": Reason.USER}  # of an order
_MARGIN_CHECK_NS = 100 * NS_PER_MS


class TradingMode(StrEnum):
    """Which orders are taken."""

    OPEN = "open"
    REDUCE_ONLY = "reduce_only"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class ExchangeOptions:
    """What differs between venues, beside their contracts."""

    max_orders: int = 4_000  # open orders of an account
    max_orders_per_symbol: int = 500
    has_delivery_orders: bool = False  # positions are delivered by an order of the house, as at OKX
    house_note: HouseNote | None = None  # the note of an order of the house: liquidation, delivery
    ledger_limit: int = LEDGER_LIMIT
    funding_rate: Callable[[str, int], Decimal] | None = None  # (symbol, settlement time)
    delivery_price: Callable[[str], Decimal] | None = None
    settlement_price: Callable[[str], Decimal] | None = None


@dataclass(frozen=True, slots=True)
class Placed:
    """An order that was taken, after all that it did at once, and what becomes of its acknowledgement."""

    order: OrderView
    answer: AnswerPlan


class Exchange(AccountTerms):
    """Orders, accounts and time of one venue.

    Args:
        name: For people.
        flow: Where the books are; the exchange joins it as a time keeper.
        coins: Decimals of the minor unit of each coin.
        options: What differs between venues.

    """

    def __init__(
        self, name: str, flow: Flow, coins: dict[str, int], options: ExchangeOptions | None = None
    ) -> None:
        self.name = name
        self.options = options or ExchangeOptions()
        self.faults = ExchangeFaults()
        self.ledger = Ledger(self.options.ledger_limit)
        clearing = Clearing(coins, self.ledger)
        clearing.now_ns = flow.now_ns
        self._timers = Timers()
        desk = OrderDesk(clearing, self._timers, self.options.max_orders, self.options.max_orders_per_symbol)
        desk.house_note = self.options.house_note
        super().__init__(clearing, desk)
        self.trading_changes = 0  # of ``trading``: who tells of it need not ask each time
        self._trading: dict[str, TradingMode] = {}  # "": the whole venue
        self._delivered: dict[str, Decimal] = {}  # prices of contracts that have ended and are still listed
        self._checked_ns = flow.now_ns
        flow.keepers.append(self)

    # Set up

    def list_contract(self, contract: Contract, market: FlowMarket) -> None:
        """Take orders in an instrument from now on."""
        symbol = contract.symbol
        if symbol in self._desk.matching:
            raise ValueError(f"{symbol} is listed already")
        self._clearing.contracts[symbol] = contract
        self._clearing.markets[symbol] = market
        self._desk.matching[symbol] = Matching(market)
        market.book.listener = self._desk
        if contract.expiry_ns is not None:
            self._timers.set(("deliver", symbol), contract.expiry_ns)
        if contract.has_daily_settlement:
            # The next 08:00: a contract listed after it on a Friday does not settle on that day.
            passed = (self.now_ns - _SETTLEMENT_NS) // _DAY_NS
            self._timers.set(("settle", symbol), (passed + 1) * _DAY_NS + _SETTLEMENT_NS)
        if market.funding is not None and contract.payoff is not Payoff.SPOT:
            self._timers.set(("funding", symbol), market.funding.time)

    def delist(self, symbol: str) -> None:
        """Forget an instrument; orders still open are cancelled, positions still open are delivered first."""
        self.deliver(symbol)
        for verb in ("deliver", "settle", "funding"):
            self._timers.drop((verb, symbol))
        for account in (*self._clearing.accounts.values(), self._clearing.house):
            for key in [key for key in account.positions if key[0] == symbol]:
                del account.positions[key]
            for key in [key for key in account.sums if key[0] == symbol]:
                del account.sums[key]
        self._clearing.markets[symbol].book.listener = None
        del self._desk.matching[symbol], self._clearing.markets[symbol], self._clearing.contracts[symbol]
        self._trading.pop(symbol, None)
        self._delivered.pop(symbol, None)

    def open_account(
        self,
        name: str,
        deposits: Mapping[str, Decimal],
        *,
        mode: PositionMode = PositionMode.NET,
        owner: str = "",
    ) -> None:
        """Open an account; those of one owner do not trade with each other (``SelfTrade``)."""
        if name in self._clearing.accounts or name == self._clearing.house.name:
            raise ValueError(f"there is an account {name!r} already")
        self._clearing.accounts[name] = Account(name, owner or name, mode)
        for coin, amount in deposits.items():
            self.transfer(name, coin, amount)

    def set_trading(self, mode: TradingMode, symbol: str | None = None) -> None:
        """Take these orders only from now on, in an instrument or in all; what rests stays."""
        self._trading[symbol or ""] = mode
        self.trading_changes += 1

    def trading(self, symbol: str) -> TradingMode:
        """Return which orders an instrument takes."""
        modes = {self._trading.get(symbol), self._trading.get("")}
        if TradingMode.CLOSED in modes:
            return TradingMode.CLOSED
        return TradingMode.REDUCE_ONLY if TradingMode.REDUCE_ONLY in modes else TradingMode.OPEN

    def delivered_at(self, symbol: str) -> Decimal | None:
        """Return the price at which a contract has ended; None while it has not."""
        return self._delivered.get(symbol)

    # Orders

    def place(self, account: str, request: OrderRequest) -> Placed:
        """Take an order, and let it do at once what it can.

        Raises:
            Refused: It is not taken; nothing has changed.

        """
        try:  # not ``_granting``: it is cheaper, and this is what clients wait for
            holder = self._account(account)
            contract = self.contract(request.symbol)
            self._check_trading(holder, request)
            request = self._desk.checked(holder, request, contract)
            faults = self.faults.take(account, request)
            for fault in faults:
                if fault.kind == "reject":
                    raise Refused(fault.why)
        except Refused as refused:
            self._write_refusal(refused, "place", account, request.symbol, request.client_id)
            raise
        order = self._desk.accept(holder, request)
        if not order.is_waiting:
            self._desk.matching[order.symbol].begin(self.now_ns)
            self._desk.enter(order, faults)
        self._desk.settle_links()
        for fault in faults:
            if fault.kind == "late_reject":
                key = ("late_reject", account, str(order.order_id))
                self._timers.set(key, self.now_ns + max(1, fault.delay_ns))
        return Placed(self.order(account, order.order_id), answer_plan(faults))

    def amend(
        self,
        account: str,
        order_id: int,
        *,
        lots: int | None = None,
        tick: int | None = None,
        trigger_tick: int | None = None,
        client_id: str | None = None,
        note: Mapping[str, object] | None = None,
        request_id: str = "",
    ) -> OrderView:
        """Change an open order; ``lots`` is its whole size, filled ones included.

        A smaller size at the same price keeps the place in the queue; a size already filled ends the order.

        Raises:
            Refused: The order stays as it was.

        """
        with self._granting("amend", account, order_id=order_id):
            holder = self._account(account)
            order = self._open_order(holder, order_id)
            contract = self.contract(order.symbol)
            new_lots = order.lots if lots is None else lots
            new_tick = order.tick if tick is None else tick
            if client_id and holder.by_client_id.get(client_id, order_id) != order_id:
                raise Refused(Why.CLIENT_ID, client_id=client_id)
            if (new_lots, new_tick) != (order.lots, order.tick):
                self._desk.check_amend(holder, order, contract, new_lots, new_tick)
        if client_id is not None and client_id != order.request.client_id:
            holder.by_client_id.pop(order.request.client_id, None)
            order.request = replace(order.request, client_id=client_id)
            holder.name_order(order, client_id)
        if note is not None:
            order.request = replace(order.request, note=note)
        if trigger_tick is not None and order.request.trigger is not None:
            order.request = replace(order.request, trigger=replace(order.request.trigger, tick=trigger_tick))
        order.updated_ns = self.now_ns
        matching = self._desk.matching[order.symbol]
        matching.begin(self.now_ns)
        if new_lots <= order.filled or (new_tick == order.tick and new_lots <= order.lots):
            matching.resize(order, max(new_lots, order.filled))
            holder.hold(order, contract)
            if order.left == 0 and not order.is_waiting:
                self._desk.finish(order, State.FILLED, Reason.AMEND)
            self._desk.say_amended(order, request_id=request_id)
        else:
            matching.leave(order)
            order.lots, order.tick = new_lots, new_tick
            holder.hold(order, contract)
            self._desk.say_amended(order, request_id=request_id)
            if not order.is_waiting:
                self._desk.enter(order, [])
        self._desk.settle_links()
        return self.order(account, order_id)

    def cancel(self, account: str, order_id: int, reason: Reason = Reason.USER) -> OrderView:
        """Cancel an open order.

        Raises:
            Refused: There is no such order, or it is done (``Why.FINISHED``, its ``state`` among the facts).

        """
        with self._granting("cancel", account, order_id=order_id):
            order = self._open_order(self._account(account), order_id)
        self._desk.matching[order.symbol].begin(self.now_ns)
        view = self._desk.finish(order, State.CANCELLED, reason)
        self._desk.settle_links()
        return view

    def cancel_later(self, account: str, order_id: int, delay_ns: int) -> None:
        """Cancel an order for its client after a while, if it is still open then."""
        self._timers.set(("cancel", account, str(order_id)), self.now_ns + max(1, delay_ns))

    def cancel_all(
        self,
        account: str,
        symbol: str | None = None,
        *,
        side: int | None = None,
        tag: str | None = None,
        reason: Reason = Reason.USER,
    ) -> list[OrderView]:
        """Cancel an account's open orders, oldest first: all, or those that fit; return them."""
        found = [
            order
            for order in self._account(account).orders.values()
            if symbol in (None, order.symbol)
            and side in (None, order.side)
            and tag in (None, order.request.tag)
        ]
        for name in dict.fromkeys(order.symbol for order in found):
            self._desk.matching[name].begin(self.now_ns)
        views = [self._desk.finish(order, State.CANCELLED, reason) for order in found]
        self._desk.settle_links()
        return views

    def close_position(
        self,
        account: str,
        symbol: str,
        pos_side: PosSide = PosSide.NET,
        *,
        is_isolated: bool = False,
        tick: int | None = None,
        client_id: str = "",
        note: Mapping[str, object] | None = None,
    ) -> Placed:
        """Close a position at market, down to the protection price ``tick``."""
        with self._granting("close_position", account, symbol, client_id):
            position = self._account(account).positions.get((symbol, pos_side, is_isolated))
            if position is None or not position.lots:
                raise Refused(Why.NO_POSITION, symbol=symbol)
        side = ASK if position.lots > 0 else BID
        request = OrderRequest(
            symbol,
            side,
            abs(position.lots),
            Kind.MARKET,
            tick,
            pos_side,
            reduce_only=True,
            is_isolated=is_isolated,
            client_id=client_id,
            note=note,
        )
        return self.place(account, request)

    # A dead man's switch

    def set_dead_man(self, account: str, timeout_ns: int, tag: str = "") -> int:
        """Cancel the account's orders (with a tag: its orders of that tag) unless told again in time.

        Return when it will fire; a ``timeout_ns`` of 0 switches it off and returns 0.
        """
        with self._granting("set_dead_man", account):
            self._account(account)
        key = ("dead_man", account, tag)
        if timeout_ns <= 0:
            self._timers.drop(key)
            return 0
        due = self.now_ns + timeout_ns
        self._timers.set(key, due)
        return due

    def dead_man(self, account: str, tag: str = "") -> int:
        """Return when a dead-man timer fires; 0 where it is off."""
        return self._timers.due(("dead_man", account, tag)) or 0

    # Events and time

    def take_events(self) -> list[Event]:
        """Return what happened since the last call, oldest first."""
        return self._clearing.take_events()

    def next_due(self) -> int | None:
        """Return when the next timer is due; None while nobody has anything that time could change."""
        is_busy = self._desk.open_orders or self._clearing.open_positions
        return self._timers.next_due() if is_busy else None

    def advance(self, now_ns: int) -> None:
        """Do what is due up to now; the flow calls it, after the books have moved there."""
        for due, (verb, *who) in self._timers.take_due(now_ns):
            self._clearing.now_ns = max(self._clearing.now_ns, due)
            if verb == "dead_man":
                self._clearing.emit(DeadManFired, who[0], tag=who[1])
                self.cancel_all(who[0], tag=who[1] or None, reason=Reason.DEAD_MAN)
            elif verb in _ENDS:
                order = self._clearing.accounts[who[0]].orders.get(int(who[1]))
                if order is not None:
                    self._desk.matching[order.symbol].begin(due)
                    self._desk.finish(order, State.CANCELLED, _ENDS[verb])
            elif verb == "funding":
                self.pay_funding(who[0], self._funding_rate(who[0], due))
                self._timers.set(("funding", who[0]), due + _FUNDING_NS)
            elif verb == "settle":
                expiry = self.contract(who[0]).expiry_ns
                if expiry is None or due < expiry:
                    self.settle_daily(who[0])
                    self._timers.set(("settle", who[0]), due + _DAY_NS)
            else:
                self.deliver(who[0])
        self._clearing.now_ns = max(self._clearing.now_ns, now_ns)
        if self._desk.waiting:
            self._desk.wake_stops()
        if self._clearing.open_positions and now_ns - self._checked_ns >= _MARGIN_CHECK_NS:
            self._checked_ns = now_ns
            self._check_margins()
        self._desk.settle_links()

    def pay_funding(self, symbol: str, rate: Decimal) -> None:
        """Exchange funding now; positive: longs pay."""
        self._clearing.pay_funding(symbol, rate)

    def settle_daily(self, symbol: str, price: Decimal | None = None) -> None:
        """Pay the unrealised PnL of all positions now, at a price or at the settlement price."""
        if price is None:
            hook = self.options.settlement_price
            price = self.mark(symbol) if hook is None else hook(symbol)
        self._clearing.settle_daily(symbol, price)

    def deliver(self, symbol: str, price: Decimal | None = None) -> None:
        """End a contract now: orders are cancelled, positions closed at a price, or at the delivery price."""
        self.contract(symbol)
        if price is None:
            hook = self.options.delivery_price
            price = self.index(symbol) if hook is None else hook(symbol)
        for account in self._clearing.accounts:
            self.cancel_all(account, symbol, reason=Reason.DELIVERY)
        new_order = self._desk.next_order if self.options.has_delivery_orders else None
        self._clearing.deliver(symbol, price, new_order)
        self.set_trading(TradingMode.CLOSED, symbol)
        self._delivered.setdefault(symbol, price)

    def call_margin(self, account: str, coin: str | None = None) -> None:
        """Liquidate an account, as if its equity had fallen to the maintenance margin; one coin, or all."""
        holder = self._account(account)
        for name in [coin] if coin is not None else list(holder.cash):
            self._desk.liquidate(holder, name)
            for key, position in list(holder.positions.items()):
                if position.is_isolated and position.lots and position.contract.settle == name:
                    self._desk.liquidate_isolated(holder, key)
        self._desk.settle_links()

    # Inside

    def _check_margins(self) -> None:
        clearing = self._clearing
        for account in clearing.accounts.values():
            coins = {
                position.contract.settle: None
                for position in account.positions.values()
                if position.lots and not position.is_isolated
            }
            for coin in coins:
                found = account.margins(coin, clearing.contracts, clearing.mark)
                if found.maintenance and found.equity <= found.maintenance:
                    self._desk.liquidate(account, coin)
            for key in [key for key in account.positions if key[2]]:
                if account.missing_margin(key, clearing.mark) >= 0:
                    self._desk.liquidate_isolated(account, key)

    def _check_trading(self, account: Account, request: OrderRequest) -> None:
        mode = self.trading(request.symbol)
        if mode is TradingMode.CLOSED:
            raise Refused(Why.NOT_OPEN, symbol=request.symbol)
        if mode is TradingMode.REDUCE_ONLY:
            self._desk.check_reducing(account, request)

    def _open_order(self, account: Account, order_id: int) -> Order:
        order = account.orders.get(order_id)
        if order is not None:
            return order
        view = account.view(order_id)
        if view is None:
            raise Refused(Why.UNKNOWN_ORDER, order_id=order_id)
        raise Refused(Why.FINISHED, state=view.state, order_id=order_id)

    def _funding_rate(self, symbol: str, at_ns: int) -> Decimal:
        if self.options.funding_rate is not None:
            return self.options.funding_rate(symbol, at_ns)
        funding = self._clearing.markets[symbol].funding
        assert funding is not None
        rate = funding.settled_rate if funding.prev_time >= at_ns else funding.rate
        return Decimal(f"{rate:.8f}")
