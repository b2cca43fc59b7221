"""One exchange behind a simulated venue: orders against the flow's books, accounts, time, and the truth.

It knows no venue: prices are ticks, sizes lots, money whole minor units (``contract``), times virtual ns. A
venue (``okex_*``, ``bitmex_*``) owns one, turns its wire into the verbs below and the events into its wire.

Set up, once::

    exchange = Exchange("okex", flow, coins={"BTC": 16, "USDT": 16}, options=ExchangeOptions(...))
    exchange.list_contract(Contract(...), market)       # market: the FlowMarket of ``flow.add``
    exchange.delist(symbol)                             # after its delivery
    exchange.open_account("main", {"BTC": Decimal(10)}, mode=PositionMode.NET, owner="master")

Verbs of a client; each raises ``Refused(why, **facts)`` where it is not granted, and acts at ``exchange.now_ns``
(``advance`` and ``flow.advance`` move it)::

    place(account, OrderRequest) -> Placed              # .order: OrderView after all it did at once; .answer: faults
    amend(account, order_id, lots=, tick=, trigger_tick=, client_id=, request_id=) -> OrderView
    cancel(account, order_id, reason=Reason.USER) -> OrderView
    cancel_all(account, symbol=None, side=None, tag=None, reason=) -> list[OrderView]
    close_position(account, symbol, pos_side=NET, tick=None, client_id="", note=None) -> Placed
    set_dead_man(account, timeout_ns, tag="") -> int    # when it fires (0: timeout_ns 0 switched it off)
    set_leverage(account, symbol, Decimal) ; set_mode(account, PositionMode) ; transfer(account, coin, Decimal)

Reading::

    order(account, order_id) -> OrderView ; find(account, client_id) -> OrderView | None   (newest with that id)
    open_orders(account, symbol=None) ; finished_orders(account) ; fills(account)       (bounded, oldest first)
    balance(account, coin) -> BalanceView ; balances(account)
    position(account, symbol, pos_side=NET) -> PositionView | None ; positions(account)  (all ever held)
    leverage(account, symbol) ; mode(account) ; accounts() ; mark(symbol) ; dead_man(account, tag)
    max_lots(account, symbol, side, tick) -> int
    take_events(account=None) -> list[Event]            # since the last call, in order; see below
    ledger                                              # ``ledger.Ledger``: everything that ever happened

Events (``exchange_events``): a place gives OrderAccepted, then per fill OrderFilled, PositionChanged,
BalanceChanged, then OrderCancelled where a rest does not stay; the makers' events stand between, each with its
``account``. ``Event.number`` orders all of them. One order's final state after a request is the last of its
events. OrderView.note is the venue's own dict, handed in with the request.

Time: ``flow.advance(now)`` calls ``exchange.advance`` at every moment that something is due (dead-man timers,
funding, daily settlement, delivery, expiring orders), so that timers fire before what the books do later, however
far the clock leaps. A venue only takes the events in its ``publish``. Funding, settlement and delivery are told::

    exchange.schedule_funding(symbol, at_ns)            # rate: the market's own at that time
    exchange.pay_funding(symbol, rate) ; exchange.settle_daily(symbol, price) ; exchange.deliver(symbol, price)

``Contract.expiry_ns`` and ``has_daily_settlement`` are heeded by ``advance`` itself (price: the index, the mark).

Faults: ``exchange.faults`` (``exchange_faults``): few policies that a scenario sets, e.g.
``faults.add(OrderFault("reject", nth=2, account="main", why=Why.FAULT))``; ``Placed.answer`` tells the venue to
lose, delay or double its acknowledgement. ``exchange.call_margin(account)`` liquidates; ``exchange.set_trading``
closes the venue or leaves it to reducing orders.
"""
