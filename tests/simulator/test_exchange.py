"""An exchange as its venue uses it: orders, positions, faults; money that never appears or vanishes."""

from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from dquant.simulator.accounts import PositionMode
from dquant.simulator.contract import Contract, Payoff, inverse_face
from dquant.simulator.exchange import Exchange, ExchangeOptions
from dquant.simulator.exchange_events import (
    BalanceChanged,
    OrderAccepted,
    OrderAmended,
    OrderCancelled,
    OrderFilled,
    PositionChanged,
    PositionDelivered,
    RequestRefused,
)
from dquant.simulator.exchange_faults import OrderFault
from dquant.simulator.flow import Flow, MarketSpec
from dquant.simulator.orders import (
    ASK,
    BID,
    Kind,
    OrderRequest,
    PosSide,
    Reason,
    Refused,
    SelfTrade,
    State,
    Trigger,
    Why,
)
from tests.simulator.exchange_bench import COIN, DAY, HOUR, MS, START, Bench, D, S, refused

# Orders


def test_an_order_that_rests_is_in_the_public_book_behind_what_was_there(bench):
    tick = bench.best(BID)
    before = bench.books["PERP"].level(BID, tick)
    order = bench.ask(tick=tick, lots=7)
    assert order.state is State.LIVE
    assert bench.books["PERP"].level(BID, tick) == (before[0] + 7, before[1] + 1)
    assert bench.exchange.lots_before("a", order.order_id) == before[0]
    assert bench.kinds() == ["OrderAccepted"]


def test_a_taker_is_told_in_order_and_its_trades_are_public(bench):
    tap = bench.books["PERP"].tap()
    ask = bench.best(ASK)
    size = bench.books["PERP"].level(ASK, ask)[0]
    order = bench.buy(size)
    assert (order.state, order.filled, order.left) == (State.FILLED, size, 0)
    assert bench.kinds() == ["OrderAccepted", "OrderFilled", "PositionChanged", "BalanceChanged"]
    assert [(trade.side, trade.tick, trade.lots) for trade in tap.take_trades()] == [(BID, ask, size)]
    assert bench.best(ASK) > ask


def test_two_clients_share_one_trade(bench):
    bid, ask = bench.best(BID), bench.best(ASK)
    assert ask - bid > 1
    maker = bench.ask("b", ASK, 5, tick=ask - 1)
    bench.ask("a", BID, 5, tick=ask - 1)
    fills = [event.fill for event in bench.events() if isinstance(event, OrderFilled)]
    assert [(fill.account, fill.is_maker, fill.side) for fill in fills] == [
        ("a", False, BID),
        ("b", True, ASK),
    ]
    assert fills[0].trade_id == fills[1].trade_id == bench.books["PERP"].last_trade_id
    assert bench.exchange.order("b", maker.order_id).state is State.FILLED
    assert bench.exchange.position("a", "PERP").lots == 5
    assert bench.exchange.position("b", "PERP").lots == -5
    bench.check_conservation()


def test_fees_and_cash_by_hand(bench):
    """0.5 contract of 100 USD bought and sold: fees 0.05 % of 50 USD in BTC each time, maker 0.02 %."""
    ask = bench.best(ASK)
    bench.ask("b", ASK, 5, tick=ask - 1)
    bench.ask("a", BID, 5, tick=ask - 1)
    price = Fraction(ask - 1, 10)
    value = Fraction(50) / price * COIN
    taken = 10 * COIN - bench.exchange.balance("a", "BTC").cash
    given = 10 * COIN - bench.exchange.balance("b", "BTC").cash
    assert taken == pytest.approx(float(value * Fraction(5, 10_000)), abs=1)
    assert given == pytest.approx(float(value * Fraction(2, 10_000)), abs=1)


def test_the_background_fills_what_rests_and_prints_it(bench):
    ask = bench.best(ASK)
    order = bench.ask("a", ASK, 3, tick=ask - 1)  # first in its line
    tap = bench.books["PERP"].tap()
    for _ in range(300):
        events = bench.pass_time(100 * MS)
        if any(isinstance(event, OrderFilled) for event in events):
            break
    fill = next(event.fill for event in events if isinstance(event, OrderFilled))
    assert fill.order_id == order.order_id
    assert fill.is_maker
    assert fill.price == D(ask - 1) / 10
    assert any(trade.tick == ask - 1 and trade.side == BID for trade in tap.take_trades())
    bench.check_conservation()


def test_a_size_amended_down_keeps_its_place_another_price_does_not(bench):
    order = bench.ask(tick=bench.best(BID), lots=10)
    before = bench.exchange.lots_before("a", order.order_id)
    bench.books["PERP"].set_level(BID, order.tick, before + 50, 3)
    after = bench.exchange.amend("a", order.order_id, lots=4, request_id="r1")
    assert (after.lots, bench.exchange.lots_before("a", order.order_id)) == (4, before)
    bench.exchange.amend("a", order.order_id, lots=6)
    assert bench.exchange.lots_before("a", order.order_id) == before + 50
    bench.exchange.amend("a", order.order_id, tick=order.tick - 3)
    assert bench.books["PERP"].level(BID, order.tick)[0] == before + 50
    told = [event for event in bench.events() if isinstance(event, OrderAmended)]
    assert [event.request_id for event in told] == ["r1", "", ""]


def test_an_amendment_that_crosses_takes(bench):
    order = bench.ask(tick=bench.best(BID), lots=1)
    after = bench.exchange.amend("a", order.order_id, tick=bench.best(ASK))
    assert after.state is State.FILLED


def test_an_amendment_to_what_is_filled_ends_the_order(bench):
    ask = bench.best(ASK)
    order = bench.ask("b", ASK, 5, tick=ask - 1)
    bench.ask("a", BID, 3, tick=ask - 1)
    after = bench.exchange.amend("b", order.order_id, lots=2, tick=ask + 5)
    assert (after.state, after.filled, after.lots) == (State.FILLED, 3, 3)
    with refused(Why.FINISHED):
        bench.exchange.amend("b", order.order_id, lots=9)


def test_a_post_only_order_is_not_amended_into_the_other_side(bench):
    order = bench.ask(tick=bench.best(BID), kind=Kind.POST_ONLY)
    with refused(Why.POST_ONLY):
        bench.exchange.amend("a", order.order_id, tick=bench.best(ASK))
    assert bench.exchange.order("a", order.order_id) == order


def test_a_cancelled_order_leaves_the_book_and_is_remembered(bench):
    tick = bench.best(BID)
    before = bench.books["PERP"].level(BID, tick)
    order = bench.ask(tick=tick, client_id="mine")
    done = bench.exchange.cancel("a", order.order_id)
    assert (done.state, done.reason) == (State.CANCELLED, Reason.USER)
    assert bench.books["PERP"].level(BID, tick) == before
    assert bench.exchange.find("a", "mine") == done
    assert bench.exchange.open_orders("a") == []
    with refused(Why.FINISHED):
        bench.exchange.cancel("a", order.order_id)
    with refused(Why.UNKNOWN_ORDER):
        bench.exchange.cancel("b", order.order_id)


def test_a_client_id_is_unique_while_open_and_free_again_after(bench):
    first = bench.ask(tick=bench.best(BID), client_id="x")
    with refused(Why.CLIENT_ID):
        bench.ask(tick=bench.best(BID), client_id="x")
    bench.ask("b", tick=bench.best(BID), client_id="x")
    bench.exchange.cancel("a", first.order_id)
    again = bench.ask(tick=bench.best(BID), client_id="x")
    assert bench.exchange.find("a", "x") == again


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"lots": 0}, Why.SIZE),
        ({"lots": 10**13}, Why.SIZE),
        ({"tick": 0}, Why.PRICE),
        ({"tick": None}, Why.PRICE),
        ({"symbol": "NONE"}, Why.UNKNOWN_SYMBOL),
        ({"pos_side": PosSide.LONG}, Why.POSITION_SIDE),
        ({"reduce_only": True}, Why.REDUCE_ONLY),
        ({"lots": 10**6}, Why.MARGIN),
    ],
)
def test_what_cannot_be_taken_is_refused_and_changes_nothing(bench, change, why):
    request = OrderRequest("PERP", BID, 10, Kind.LIMIT, bench.best(BID) - 5)
    with refused(why):
        bench.exchange.place("a", structs.replace(request, **change))
    assert bench.exchange.open_orders("a") == []
    assert bench.events() == []
    (row,) = bench.exchange.ledger.rows(kind="request_refused")
    assert isinstance(row, RequestRefused)
    assert (row.account, row.why) == ("a", why)


def test_too_many_orders_are_refused():
    bench = Bench(options=ExchangeOptions(max_orders_per_symbol=2))
    tick = bench.best(BID) - 10
    bench.ask(tick=tick)
    bench.ask(tick=tick)
    with refused(Why.TOO_MANY_ORDERS):
        bench.ask(tick=tick)
    bench.ask(tick=bench.best(BID, "FUT") - 10, symbol="FUT")


def test_accounts_of_one_owner_do_not_trade_with_each_other(bench):
    for name in ("m1", "m2"):
        bench.exchange.open_account(name, {"BTC": D(1)}, owner="master")
    tick = bench.best(ASK) - 1
    resting = bench.ask("m1", ASK, 5, tick=tick)
    taken = bench.ask("m2", BID, 5, tick=tick, self_trade=SelfTrade.CANCEL_TAKER)
    assert (taken.state, taken.reason) == (State.CANCELLED, Reason.SELF_TRADE)
    bench.ask("m2", BID, 5, tick=tick)
    assert bench.exchange.order("m1", resting.order_id).reason is Reason.SELF_TRADE


# Positions


def test_a_reduce_only_order_is_cut_to_the_position_and_goes_with_it(bench):
    bench.buy(20)
    tick = bench.best(ASK) + 50
    order = bench.ask(side=ASK, lots=50, tick=tick, reduce_only=True)
    assert order.lots == 20
    bench.sell(15)
    assert bench.exchange.order("a", order.order_id).lots == 5
    bench.sell(5)
    gone = bench.exchange.order("a", order.order_id)
    assert (gone.state, gone.reason) == (State.CANCELLED, Reason.REDUCE_ONLY)
    assert bench.books["PERP"].queue(ASK, tick) is None


def test_long_and_short_are_held_apart(bench):
    exchange = bench.exchange
    exchange.set_mode("a", PositionMode.LONG_SHORT)
    bench.buy(10, pos_side=PosSide.LONG)
    bench.sell(6, pos_side=PosSide.SHORT)
    assert exchange.position("a", "PERP", PosSide.LONG).lots == 10
    assert exchange.position("a", "PERP", PosSide.SHORT).lots == -6
    with refused(Why.POSITION_SIDE):
        bench.buy(1)
    with refused(Why.POSITION_SIZE):
        bench.sell(11, pos_side=PosSide.LONG)
    bench.ask(side=ASK, lots=4, tick=bench.best(ASK) + 9, pos_side=PosSide.LONG)
    with refused(Why.POSITION_SIZE):
        bench.sell(7, pos_side=PosSide.LONG)
    bench.sell(6, pos_side=PosSide.LONG)
    assert exchange.position("a", "PERP", PosSide.LONG).lots == 4
    with refused(Why.IN_USE):
        exchange.set_mode("a", PositionMode.NET)
    bench.check_conservation()


def test_a_position_is_closed_at_market(bench):
    bench.buy(30)
    order = bench.exchange.close_position("a", "PERP").order
    assert (order.side, order.filled, order.reduce_only) == (ASK, 30, True)
    assert bench.exchange.position("a", "PERP").lots == 0
    with refused(Why.NO_POSITION):
        bench.exchange.close_position("a", "PERP")


def test_margin_by_hand(bench):
    """100 contracts of 100 USD at ten times: a tenth of 10,000 USD in BTC."""
    tick = bench.best(BID) - 100
    bench.ask(lots=1000, tick=tick)
    held = bench.exchange.balance("a", "BTC")
    expected = Fraction(10_000 * 10, tick) / 10 * COIN
    assert held.order_margin == pytest.approx(float(expected), abs=2)
    assert held.available == 10 * COIN - held.order_margin
    bench.exchange.set_leverage("a", "PERP", D(20))
    assert bench.exchange.balance("a", "BTC").order_margin == pytest.approx(float(expected / 2), abs=2)
    with refused(Why.LEVERAGE):
        bench.exchange.set_leverage("a", "PERP", D(101))


def test_bitmex_order_margin_by_the_recorded_row():
    """100 contracts that cost 107287 satoshi, leverage 100, taker 0.05 %: initMargin 1181."""
    flow = Flow(1, START)
    exchange = Exchange("bitmex", flow, {"XBt": 8})
    market = flow.add(MarketSpec("XBTUSD", coin="BTC", tick="0.1", lot="100"))
    exchange.list_contract(
        Contract(
            symbol="XBTUSD",
            payoff=Payoff.INVERSE,
            tick=market.tick,
            lot=market.lot,
            settle="XBt",
            face=inverse_face(market.lot, "1", 8),
            maker_fee=D("0.0005"),
            taker_fee=D("0.0005"),
            group="XBTUSD",
            default_leverage=D(100),
            margin_fees=2,
            value_of=lambda lots, price: lots * round(Fraction(10**10) / Fraction(price)),
        ),
        market,
    )
    exchange.open_account("main", {"XBt": D("0.00001182")})
    exchange.place("main", OrderRequest("XBTUSD", ASK, 1, Kind.LIMIT, 932_079))
    assert exchange.balance("main", "XBt").order_margin == 1181


def test_orders_that_close_need_no_margin(bench):
    exchange = bench.exchange
    bench.buy(1000)
    exchange.transfer("a", "BTC", -D(exchange.balance("a", "BTC").available - 10**9) / COIN)
    with refused(Why.MARGIN):
        bench.ask(lots=100, tick=bench.best(BID) - 50)
    order = bench.ask(side=ASK, lots=1000, tick=bench.best(ASK) + 50)
    assert order.state is State.LIVE


def test_spot_trades_swap_coins_and_take_the_fee_from_what_is_received(bench):
    order = bench.buy(1_000, symbol="SPOT")  # 0.1 BTC
    assert order.fee_coin == "BTC"
    assert order.fee == COIN // 10 * 5 // 10_000
    held = bench.exchange.balance("a", "BTC")
    assert held.cash == 10 * COIN + COIN // 10 - order.fee
    assert bench.exchange.balance("a", "USDT").cash == 1_000_000 * COIN - order.filled_value
    tick = bench.best(ASK, "SPOT") + 100
    bench.ask(side=ASK, lots=50_000, tick=tick, symbol="SPOT")
    assert bench.exchange.balance("a", "BTC").order_margin == 5 * COIN
    with refused(Why.MARGIN):
        bench.ask(side=ASK, lots=60_000, tick=tick, symbol="SPOT")
    bench.check_conservation()


# Faults


def test_the_nth_order_is_refused(bench):
    bench.exchange.faults.add(OrderFault(kind="reject", nth=2, account="a"))
    tick = bench.best(BID) - 5
    bench.ask(tick=tick)
    bench.ask("b", tick=tick)
    with refused(Why.FAULT):
        bench.ask(tick=tick)
    bench.ask(tick=tick)


def test_an_order_is_accepted_first_and_rejected_later(bench):
    bench.exchange.faults.add(OrderFault(kind="late_reject", delay_ns=200 * MS))
    order = bench.ask(tick=bench.best(BID) - 5_000)
    assert order.state is State.LIVE
    events = bench.pass_time(S)
    (cancelled,) = [event for event in events if isinstance(event, OrderCancelled)]
    assert (cancelled.reason, cancelled.ts) == (Reason.LATE_REJECT, order.created_ns + 200 * MS)


def test_a_part_is_filled_and_the_rest_cancelled(bench):
    bench.exchange.faults.add(OrderFault(kind="partial", share=D("0.3")))
    order = bench.buy(20)
    assert (order.lots, order.filled, order.state, order.reason) == (20, 6, State.CANCELLED, Reason.FAULT)
    bench.exchange.faults.add(OrderFault(kind="partial", share=D("0.3")))
    order = bench.ask(tick=bench.best(BID) - 5)
    assert (order.filled, order.reason) == (0, Reason.FAULT)
    assert bench.exchange.open_orders("a") == []


def test_acknowledgements_are_lost_late_and_doubled_as_the_venue_is_told(bench):
    faults = bench.exchange.faults
    faults.add(OrderFault(kind="ack_lost"))
    faults.add(OrderFault(kind="ack_late", nth=2, delay_ns=5))
    faults.add(OrderFault(kind="ack_twice", nth=3))
    request = OrderRequest("PERP", BID, 1, Kind.LIMIT, bench.best(BID))
    plans = [bench.exchange.place("a", request).answer for _ in range(4)]
    assert [(plan.lost, plan.delay_ns, plan.twice) for plan in plans] == [
        (True, 0, False),
        (False, 5, False),
        (False, 0, True),
        (False, 0, False),
    ]
    assert len(bench.exchange.open_orders("a")) == 4


# The whole


def test_events_are_numbered_and_stand_in_the_ledger_too(bench):
    bench.buy(5)
    events = bench.events()
    assert bench.exchange.ledger.rows(account="a", since=events[0].number - 1) == events
    assert [event.number for event in events] == sorted(event.number for event in events)
    assert isinstance(events[0], OrderAccepted)
    assert isinstance(events[-1], BalanceChanged)
    assert isinstance(events[-2], PositionChanged)


verbs = st.one_of(
    st.tuples(
        st.just("place"),
        st.sampled_from(["a", "b"]),
        st.sampled_from(["PERP", "FUT", "LIN", "SPOT"]),
        st.sampled_from([BID, ASK]),
        st.integers(1, 400),
        st.integers(-30, 30),
        st.sampled_from(list(Kind)),
        st.booleans(),
        st.sampled_from(list(SelfTrade)),
    ),
    st.tuples(st.just("cancel"), st.integers(0, 20)),
    st.tuples(st.just("amend"), st.integers(0, 20), st.integers(1, 300), st.integers(-20, 20)),
    st.tuples(st.just("wait"), st.sampled_from([5 * MS, 100 * MS, S, 60 * S, 9 * HOUR, 2 * DAY])),
    st.tuples(st.just("fault"), st.sampled_from(["partial", "late_reject", "reject"])),
    st.tuples(st.just("margin call"), st.sampled_from(["a", "b"])),
    st.tuples(st.just("dead man"), st.sampled_from(["a", "b"]), st.integers(0, 20)),
)


def play(bench: Bench, script: list[Any]) -> list[Any]:
    """Run a script; return all events. Refusals are part of life."""
    exchange, seen = bench.exchange, []
    for verb, *rest in script:
        try:
            if verb == "place":
                account, symbol, side, lots, away, kind, reduce_only, policy = rest
                tick = (bench.books[symbol].best_bid or 840_000) + away
                request = OrderRequest(symbol, side, lots, kind, tick, self_trade=policy)
                if exchange.mode(account) is PositionMode.NET or symbol == "SPOT":
                    request = structs.replace(request, reduce_only=reduce_only and symbol != "SPOT")
                else:
                    request = structs.replace(
                        request, pos_side=PosSide.LONG if reduce_only else PosSide.SHORT
                    )
                if away % 5 == 0:
                    request = structs.replace(request, trigger=Trigger(tick, rising=side == BID))
                if away % 7 == 0:
                    request = structs.replace(request, expires_ns=exchange.now_ns + S)
                if away % 3 == 0 and symbol != "SPOT":
                    request = structs.replace(request, is_isolated=True)
                exchange.place(account, request)
            elif verb in ("cancel", "amend"):
                orders = [o for name in ("a", "b") for o in exchange.open_orders(name)]
                if not orders:
                    continue
                order = orders[rest[0] % len(orders)]
                if verb == "cancel":
                    exchange.cancel(order.account, order.order_id)
                else:
                    exchange.amend(order.account, order.order_id, lots=rest[1], tick=order.tick + rest[2])
            elif verb == "wait":
                bench.flow.advance(bench.flow.now_ns + rest[0])
            elif verb == "fault":
                exchange.faults.add(OrderFault(kind=rest[0], delay_ns=S))
            elif verb == "dead man":
                exchange.set_dead_man(rest[0], rest[1] * S)
            else:
                exchange.call_margin(rest[0])
        except Refused:
            pass
        seen += exchange.take_events()
        bench.check_conservation()
    return seen


@settings(max_examples=25, deadline=None)
@given(st.lists(verbs, max_size=14), st.integers(0, 1000), st.booleans())
def test_whatever_is_done_money_is_conserved_and_every_sum_holds(script, seed, is_hedged):
    bench = Bench(seed=seed, depth=60)
    if is_hedged:
        bench.exchange.set_mode("a", PositionMode.LONG_SHORT)
    events = play(bench, script)
    net: dict[tuple[str, str, PosSide, bool], int] = {}
    for event in events:
        if isinstance(event, OrderFilled):
            fill, order = event.fill, event.order
            key = fill.account, fill.symbol, fill.pos_side, fill.is_isolated
            before = net.get(key, 0)
            after = net[key] = before + (fill.lots if fill.side == BID else -fill.lots)
            assert 0 < fill.lots <= order.filled <= order.lots
            if fill.symbol != "SPOT":
                assert fill.position == after
                assert after >= 0 if fill.pos_side is PosSide.LONG else True
                assert after <= 0 if fill.pos_side is PosSide.SHORT else True
            if order.reduce_only:
                assert abs(after) < abs(before)
                assert before * after >= 0
            if order.tick is not None and fill.tick is not None:
                assert fill.tick <= order.tick if fill.side == BID else fill.tick >= order.tick
        elif isinstance(event, PositionDelivered):
            net[event.account, event.symbol, event.pos_side, event.fill.is_isolated] = 0
    for account in ("a", "b"):
        for position in bench.exchange.positions(account):
            key = account, position.symbol, position.pos_side, position.is_isolated
            assert position.lots == net.get(key, 0)
            assert position.margin == 0 or (position.is_isolated and position.lots)
        for order in bench.exchange.open_orders(account):
            assert order.left > 0
            if order.state is State.WAITING:
                continue
            queue = bench.books[order.symbol].queue(order.side, order.tick)
            assert queue is not None
    clearing = bench.exchange._clearing
    assert bench.exchange._desk.open_orders == sum(len(x.orders) for x in clearing.accounts.values())
    held = [p for x in clearing.accounts.values() for p in x.positions.values() if p.lots]
    assert clearing.open_positions == len(held)
    for book in bench.books.values():
        assert book.best_bid is None or book.best_ask is None or book.best_bid < book.best_ask
    for account in clearing.accounts.values():
        for sums in account.sums.values():
            assert min(*sums.lots, *sums.value) >= 0
        if not account.orders:
            assert all(sums.lots == sums.value == [0, 0] for sums in account.sums.values())


@settings(max_examples=8, deadline=None)
@given(st.lists(verbs, max_size=12))
def test_the_same_requests_at_the_same_times_give_the_same_events(script):
    first, second = (play(Bench(seed=11, depth=60), script) for _ in range(2))
    assert msgspec.json.encode(first) == msgspec.json.encode(second)
