"""An exchange as its venue uses it: orders, accounts, time, faults; money that never appears or vanishes."""

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from dquant.simulator.accounts import PositionMode
from dquant.simulator.contract import Contract, Payoff, inverse_face, linear_face
from dquant.simulator.exchange import Exchange, ExchangeOptions, TradingMode
from dquant.simulator.exchange_events import (
    BalanceChanged,
    DeadManFired,
    FundingPaid,
    MarginCalled,
    OrderAccepted,
    OrderAmended,
    OrderCancelled,
    OrderFilled,
    OrderTriggered,
    PositionChanged,
    PositionDelivered,
    PositionSettled,
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
    TriggerSource,
    Why,
)

MS = 1_000_000
S = 1_000 * MS
HOUR = 3_600 * S
DAY = 24 * HOUR
START = 1_795_305_600 * S  # Sunday, 2026-11-22 00:00 UTC
D = Decimal
COIN = 10**16


class Bench:
    """An exchange with an inverse perpetual, an inverse future, a linear perpetual and spot."""

    def __init__(self, seed: int = 3, options: ExchangeOptions | None = None, **specs: Any) -> None:
        self.flow = Flow(seed, START)
        self.exchange = Exchange("test", self.flow, {"BTC": 16, "USDT": 16}, options)
        self.books = {}
        spec = MarketSpec("PERP", coin="BTC", tick="0.1", lot="0.1", funding_hour=0, **specs)
        common = {"maker_fee": D("0.0002"), "taker_fee": D("0.0005")}
        for name, payoff, group in (
            ("PERP", Payoff.INVERSE, "PERP"),
            ("FUT", Payoff.INVERSE, "BTC-USD"),
            ("LIN", Payoff.LINEAR, "LIN"),
            ("SPOT", Payoff.SPOT, "SPOT"),
        ):
            of_time = {"expiry_ns": START + 5 * DAY + 8 * HOUR} if name == "FUT" else {}
            own = replace(spec, symbol=name, funding_hour=0 if name in ("PERP", "LIN") else None, **of_time)
            if name == "SPOT":
                own = replace(own, lot="0.0001", quote="USDT")
            market = self.flow.add(own)
            self.books[name] = market.book
            face = (
                inverse_face(market.lot, "100", 16)
                if payoff is Payoff.INVERSE
                else linear_face(market.lot, "1" if payoff is Payoff.SPOT else "0.01", 16)
            )
            self.exchange.list_contract(
                Contract(
                    symbol=name,
                    payoff=payoff,
                    tick=market.tick,
                    lot=market.lot,
                    settle="BTC" if payoff is Payoff.INVERSE else "USDT",
                    face=face,
                    group=group,
                    base="BTC" if payoff is Payoff.SPOT else "",
                    base_lot=COIN // 10_000 if payoff is Payoff.SPOT else 0,
                    has_daily_settlement=name == "FUT",
                    **of_time,
                    **common,
                ),
                market,
            )
        for name in ("a", "b"):
            self.exchange.open_account(name, {"BTC": D(10), "USDT": D(1_000_000)})
        self.exchange.take_events()

    def best(self, side: int, symbol: str = "PERP") -> int:
        book = self.books[symbol]
        tick = book.best_bid if side == BID else book.best_ask
        assert tick is not None
        return tick

    def ask(self, account: str = "a", side: int = BID, lots: int = 10, tick: int | None = None, **more: Any):
        symbol = more.pop("symbol", "PERP")
        kind = more.pop("kind", Kind.LIMIT)
        return self.exchange.place(account, OrderRequest(symbol, side, lots, kind, tick, **more)).order

    def buy(self, lots: int = 10, account: str = "a", symbol: str = "PERP", **more: Any):
        return self.ask(account, BID, lots, symbol=symbol, kind=Kind.MARKET, **more)

    def sell(self, lots: int = 10, account: str = "a", symbol: str = "PERP", **more: Any):
        return self.ask(account, ASK, lots, symbol=symbol, kind=Kind.MARKET, **more)

    def pass_time(self, ns: int) -> list[Any]:
        self.flow.advance(self.flow.now_ns + ns)
        return self.exchange.take_events()

    def events(self) -> list[Any]:
        return self.exchange.take_events()

    def kinds(self, account: str = "a") -> list[str]:
        return [type(event).__name__ for event in self.events() if event.account == account]

    def check_conservation(self) -> None:
        """In every coin cash only changes hands; what is open has its counterpart in the costs."""
        clearing = self.exchange._clearing
        everybody = [*clearing.accounts.values(), clearing.house]
        for coin in clearing.coins:
            cash = sum(account.cash.get(coin, 0) for account in everybody)
            cost = sum(
                position.cost
                for account in everybody
                for position in account.positions.values()
                if position.contract.settle == coin
            )
            assert cash - clearing.deposits.get(coin, 0) == cost
        for symbol in clearing.contracts:
            lots = [
                position.lots
                for account in everybody
                for key, position in account.positions.items()
                if key[0] == symbol
            ]
            assert sum(lots) == 0


@pytest.fixture
def bench() -> Bench:
    return Bench()


def refused(why: Why):
    return pytest.raises(Refused, match=f"^{why}")


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


# Time


def test_a_dead_mans_timer_cancels_everything_at_its_moment_however_far_the_clock_leaps(bench):
    exchange = bench.exchange
    order = bench.ask(tick=bench.best(BID) - 5_000)
    bench.events()
    due = exchange.set_dead_man("a", 10 * S)
    assert exchange.dead_man("a") == due == exchange.now_ns + 10 * S
    events = bench.pass_time(30 * DAY)
    fired = next(event for event in events if isinstance(event, DeadManFired))
    cancelled = next(event for event in events if isinstance(event, OrderCancelled))
    assert fired.ts == cancelled.ts == due
    assert cancelled.reason is Reason.DEAD_MAN
    assert exchange.order("a", order.order_id).filled == 0
    assert exchange.dead_man("a") == 0


def test_a_timer_told_again_starts_again_and_a_tagged_one_spares_the_others(bench):
    exchange = bench.exchange
    far = bench.best(BID) - 5_000
    tagged, plain = bench.ask(tick=far, tag="bot"), bench.ask(tick=far)
    exchange.set_dead_man("a", 2 * S, "bot")
    bench.pass_time(S)
    exchange.set_dead_man("a", 2 * S, "bot")
    bench.pass_time(S + 500 * MS)
    assert exchange.order("a", tagged.order_id).is_open
    bench.pass_time(S)
    assert exchange.order("a", tagged.order_id).reason is Reason.DEAD_MAN
    assert exchange.order("a", plain.order_id).is_open
    exchange.set_dead_man("a", 2 * S)
    exchange.set_dead_man("a", 0)
    bench.pass_time(5 * S)
    assert exchange.order("a", plain.order_id).is_open


def test_an_order_with_an_end_is_cancelled_then(bench):
    order = bench.ask(tick=bench.best(BID) - 5_000, expires_ns=bench.flow.now_ns + S)
    other = bench.ask(tick=bench.best(BID) - 5_000, expires_ns=bench.flow.now_ns + S)
    bench.exchange.cancel("a", other.order_id)
    bench.pass_time(2 * S)
    assert bench.exchange.order("a", order.order_id).reason is Reason.EXPIRED
    assert bench.exchange.order("a", other.order_id).reason is Reason.USER


def test_funding_is_exchanged_at_its_hour_on_open_positions(bench):
    bench.buy(100)
    bench.sell(40, "b")
    bench.events()
    events = bench.pass_time(8 * HOUR)
    paid = {event.account: event for event in events if isinstance(event, FundingPaid)}
    assert {event.ts for event in paid.values()} == {START + 8 * HOUR}
    assert paid["a"].lots == 100
    assert paid["a"].amount * 40 == pytest.approx(-paid["b"].amount * 100, rel=1e-6)
    assert paid["a"].amount == pytest.approx(float(abs(paid["a"].value) * paid["a"].rate), abs=2)
    bench.check_conservation()


def test_the_venue_may_say_the_funding_rate():
    bench = Bench(options=ExchangeOptions(funding_rate=lambda symbol, at_ns: D("-0.001")))
    bench.buy(100)
    events = bench.pass_time(8 * HOUR + S)
    (paid,) = [event for event in events if isinstance(event, FundingPaid)]
    assert paid.rate == D("-0.001")
    assert paid.amount < 0


def test_a_daily_settlement_pays_the_open_result_and_moves_the_entry(bench):
    bench.buy(100, symbol="FUT")
    before = bench.exchange.position("a", "FUT")
    cash = bench.exchange.balance("a", "BTC").cash
    events = bench.pass_time(8 * HOUR + S)
    (settled,) = [event for event in events if isinstance(event, PositionSettled)]
    assert settled.ts == START + 8 * HOUR
    after = bench.exchange.position("a", "FUT")
    assert after.settled == settled.amount != 0
    assert bench.exchange.balance("a", "BTC").cash == cash + settled.amount
    assert round(after.entry, 4) == settled.price
    assert after.real_entry == before.entry
    bench.check_conservation()


def test_settlements_come_every_day_but_the_last_at_the_price_the_venue_says():
    bench = Bench(options=ExchangeOptions(settlement_price=lambda symbol: D(84_000)))
    bench.buy(100, symbol="FUT")
    events = bench.pass_time(6 * DAY)
    settled = [event for event in events if isinstance(event, PositionSettled)]
    assert [event.ts for event in settled] == [START + day * DAY + 8 * HOUR for day in range(5)]
    assert {event.price for event in settled} == {D(84_000)}
    assert [event.amount for event in settled[1:]] == [0, 0, 0, 0]
    assert any(isinstance(event, PositionDelivered) for event in events)


def test_a_contract_that_ends_cancels_its_orders_and_closes_its_positions():
    bench = Bench(options=ExchangeOptions(delivery_price=lambda symbol: D("84321.5")))
    bench.buy(100, symbol="FUT")
    order = bench.ask(tick=100, symbol="FUT")
    entry = bench.exchange.position("a", "FUT")
    events = bench.pass_time(6 * DAY)
    (delivered,) = [event for event in events if isinstance(event, PositionDelivered)]
    assert delivered.ts == START + 5 * DAY + 8 * HOUR
    assert (delivered.price, delivered.fill.lots, delivered.fill.side) == (D("84321.5"), 100, ASK)
    assert bench.exchange.order("a", order.order_id).reason is Reason.DELIVERY
    closed = bench.exchange.position("a", "FUT")
    assert closed.lots == 0
    # 1000 USD from the entry to the delivery price, whatever was settled on the way
    exact = Fraction(-entry.cost) - Fraction(1000 * COIN) / Fraction(D("84321.5"))
    assert closed.realised + closed.settled == pytest.approx(float(exact), abs=10)
    with refused(Why.NOT_OPEN):
        bench.buy(1, symbol="FUT")
    bench.check_conservation()
    bench.exchange.delist("FUT")
    with refused(Why.UNKNOWN_SYMBOL):
        bench.buy(1, symbol="FUT")
    bench.check_conservation()


def test_a_position_can_be_delivered_by_an_order_of_the_house():
    options = ExchangeOptions(delivery_price=lambda symbol: D("84321.5"), has_delivery_orders=True)
    bench = Bench(options=options)
    bench.buy(100, symbol="FUT")
    bench.events()
    bench.exchange.deliver("FUT")
    filled, delivered, *_ = bench.events()
    assert isinstance(filled, OrderFilled)
    assert isinstance(delivered, PositionDelivered)
    assert filled.fill == delivered.fill
    order = bench.exchange.order("a", filled.fill.order_id)
    assert (order.category, order.state, order.filled, order.fee) == (
        Reason.DELIVERY,
        State.FILLED,
        100,
        filled.fill.fee,
    )
    assert bench.exchange._desk.open_orders == 0
    bench.check_conservation()


@pytest.mark.parametrize("source", list(TriggerSource))
def test_a_stop_waits_outside_the_book_without_margin_until_its_price_comes(bench, source):
    exchange = bench.exchange
    now = {
        TriggerSource.LAST: exchange.last("PERP"),
        TriggerSource.MARK: exchange.mark("PERP"),
        TriggerSource.INDEX: exchange.index("PERP"),
    }[source]
    away = int(now * 10) + 100
    stop = bench.ask(lots=20, kind=Kind.MARKET, trigger=Trigger(away, rising=True, source=source))
    assert stop.state is State.WAITING
    assert exchange.balance("a", "BTC").order_margin == 0
    bench.pass_time(10 * MS)
    assert exchange.order("a", stop.order_id).state is State.WAITING
    exchange.amend("a", stop.order_id, trigger_tick=int(now * 10) - 5_000)
    events = bench.pass_time(10 * MS)
    assert [type(event) for event in events if event.account == "a"][1:3] == [OrderTriggered, OrderFilled]
    done = exchange.order("a", stop.order_id)
    assert (done.triggered, done.filled) == (True, 20)


def test_a_stop_that_only_reduces_ends_where_nothing_is_left(bench):
    low = Trigger(bench.best(BID) - 20_000, rising=True)
    stop = bench.ask(side=ASK, lots=20, kind=Kind.MARKET, reduce_only=True, trigger=low)
    bench.pass_time(10 * MS)
    assert bench.exchange.order("a", stop.order_id).reason is Reason.REDUCE_ONLY


# Liquidation and the venue's own measures


def test_an_account_whose_equity_is_gone_is_liquidated(bench):
    exchange = bench.exchange
    exchange.open_account("thin", {"BTC": D("0.0015")})
    exchange.set_leverage("thin", "PERP", D(100))
    bench.buy(800, "thin")
    order = bench.ask("thin", tick=bench.best(BID) - 30_000, lots=1)
    bench.events()
    coin = bench.flow.coins["BTC"]
    coin.price *= 0.985
    events = bench.pass_time(S)
    names = [type(event) for event in events if event.account == "thin"]
    assert names[0] is MarginCalled
    assert exchange.order("thin", order.order_id).reason is Reason.LIQUIDATION
    assert exchange.position("thin", "PERP").lots == 0
    assert exchange.balance("thin", "BTC").cash >= 0
    forced = [event.fill for event in events if isinstance(event, OrderFilled) and event.account == "thin"]
    assert {fill.reason for fill in forced} == {Reason.LIQUIDATION}
    bench.check_conservation()


def test_a_margin_call_on_demand_closes_everything(bench):
    bench.buy(100)
    bench.sell(50, symbol="LIN")
    bench.exchange.call_margin("a")
    assert [view.lots for view in bench.exchange.positions("a")] == [0, 0]
    bench.check_conservation()


def test_an_isolated_position_has_margin_of_its_own_by_hand(bench):
    """1,000 USD at ten times, beside a cross position of the same instrument: 100 USD of margin, in BTC."""
    exchange = bench.exchange
    bench.buy(50)
    free = exchange.balance("a", "BTC").available
    bench.buy(100, is_isolated=True)
    held = exchange.position("a", "PERP", is_isolated=True)
    fills = [fill for fill in exchange.fills("a") if fill.is_isolated]
    margin = float(sum(Fraction(10 * fill.lots * COIN) / Fraction(fill.price) for fill in fills) / 10)
    fee = sum(fill.fee for fill in fills)
    assert (held.lots, exchange.position("a", "PERP").lots) == (100, 50)
    assert held.margin == held.initial_margin == pytest.approx(margin, abs=2)
    balance = exchange.balance("a", "BTC")
    assert (balance.isolated, balance.isolated_unrealised) == (held.margin, held.unrealised)
    assert balance.available == pytest.approx(free - margin - fee, abs=1e-4 * COIN)
    bench.sell(40, is_isolated=True, reduce_only=True)
    assert exchange.position("a", "PERP", is_isolated=True).margin == pytest.approx(margin * 0.6, abs=2)
    exchange.set_leverage("a", "PERP", D(20), is_isolated=True)
    assert exchange.position("a", "PERP", is_isolated=True).margin == pytest.approx(margin * 0.3, abs=2)
    assert exchange.leverage("a", "PERP") == 10
    exchange.pay_funding("PERP", D("0.001"))
    paid = exchange.position("a", "PERP", is_isolated=True).funding
    assert exchange.position("a", "PERP", is_isolated=True).margin == pytest.approx(
        margin * 0.3 - paid, abs=2
    )
    bench.sell(90, is_isolated=True)  # through zero
    held = exchange.position("a", "PERP", is_isolated=True)
    assert (held.lots, exchange.position("a", "PERP").lots) == (-30, 50)
    bench.ask(tick=bench.best(BID) - 100, is_isolated=True)
    with refused(Why.IN_USE):
        exchange.set_leverage("a", "PERP", D(5), is_isolated=True)
    bench.check_conservation()


def test_an_isolated_position_falls_alone_and_costs_no_more_than_its_margin(bench):
    exchange = bench.exchange
    exchange.set_leverage("a", "PERP", D(100), is_isolated=True)
    bench.buy(1000)
    bench.buy(1000, is_isolated=True)
    spared = bench.ask(tick=bench.best(BID) - 200_000)
    gone = bench.ask(tick=bench.best(BID) - 200_000, is_isolated=True)
    margin, cash = exchange.position("a", "PERP", is_isolated=True).margin, exchange.balance("a", "BTC").cash
    bench.events()
    bench.flow.coins["BTC"].price *= 0.9
    events = bench.pass_time(S)
    (called,) = [event for event in events if isinstance(event, MarginCalled)]
    assert called.equity <= called.maintenance_margin
    assert exchange.position("a", "PERP").lots == 1000
    assert exchange.order("a", spared.order_id).is_open
    assert exchange.position("a", "PERP", is_isolated=True).lots == 0
    assert exchange.order("a", gone.order_id).reason is Reason.LIQUIDATION
    assert exchange.balance("a", "BTC").cash >= cash - margin
    bench.check_conservation()


def test_a_leverage_leaves_no_loss_to_the_house(bench):
    """A position that has lost a tenth does not get by with a hundredth of margin; a fifth will do."""
    exchange = bench.exchange
    exchange.set_leverage("a", "PERP", D(2), is_isolated=True)
    bench.buy(1000, is_isolated=True)
    bench.flow.coins["BTC"].price *= 0.9
    before = exchange.position("a", "PERP", is_isolated=True)
    with refused(Why.MARGIN):
        exchange.set_leverage("a", "PERP", D(100), is_isolated=True)
    assert exchange.position("a", "PERP", is_isolated=True) == before
    exchange.set_leverage("a", "PERP", D(5), is_isolated=True)
    assert not any(isinstance(event, MarginCalled) for event in bench.pass_time(S))


def test_a_position_is_not_isolated_from_its_loss_nor_its_margin_taken_out(bench):
    exchange = bench.exchange
    bench.buy(1000)
    bench.flow.coins["BTC"].price *= 0.9
    before = exchange.position("a", "PERP"), exchange.balance("a", "BTC")
    with refused(Why.MARGIN):
        exchange.isolate("a", "PERP", is_isolated=True, leverage=D(100))
    assert (exchange.position("a", "PERP"), exchange.balance("a", "BTC")) == before
    bench.events()
    exchange.isolate("a", "PERP", is_isolated=True, leverage=D(5))
    (changed,) = bench.events()
    assert (changed.symbol, changed.group, changed.leverage) == ("PERP", "isolated:PERP:net", 5)
    with refused(Why.MARGIN):
        exchange.move_margin("a", "PERP", -1)
    fifth = exchange.position("a", "PERP", is_isolated=True).margin
    exchange.move_margin("a", "PERP", fifth)
    with refused(Why.MARGIN):
        exchange.move_margin("a", "PERP", -fifth // 2)  # the loss is more than the other half
    exchange.move_margin("a", "PERP", -fifth // 4)
    assert not any(isinstance(event, MarginCalled) for event in bench.pass_time(S))
    bench.check_conservation()


def test_an_isolated_position_is_delivered_for_no_more_than_its_margin():
    """The delivery comes before a look at the margin, at a price far from the mark."""
    bench = Bench(options=ExchangeOptions(delivery_price=lambda symbol: D(60_000)))
    exchange = bench.exchange
    bench.pass_time(5 * DAY + 8 * HOUR - S)
    exchange.set_leverage("a", "FUT", D(100), is_isolated=True)
    bench.buy(100, symbol="FUT", is_isolated=True)
    cash, margin = exchange.balance("a", "BTC").cash, exchange.position("a", "FUT", is_isolated=True).margin
    events = bench.pass_time(2 * S)
    assert any(isinstance(event, PositionDelivered) for event in events)
    assert exchange.balance("a", "BTC").cash == cash - margin
    bench.check_conservation()


def test_a_cross_position_delivered_for_more_than_there_is_leaves_no_debt(bench):
    """What is set aside for an isolated position stays there."""
    exchange = bench.exchange
    exchange.open_account("thin", {"BTC": D("0.003")})
    exchange.set_leverage("thin", "FUT", D(100))
    bench.buy(50, "thin", is_isolated=True)
    bench.buy(800, "thin", symbol="FUT")
    exchange.deliver("FUT", D(70_000))
    margin = exchange.position("thin", "PERP", is_isolated=True).margin
    assert exchange.balance("thin", "BTC").cash == margin > 0
    bench.check_conservation()


def test_the_house_covers_an_isolated_liquidation_alone(bench):
    """The order that closes it meets one of the same account: what that one loses is the account's."""
    exchange = bench.exchange
    bench.buy(100, is_isolated=True)
    bench.sell(100)
    bench.ask(tick=bench.best(ASK) - 1, lots=100)  # closes the short, dearer than it was sold
    key = "PERP", PosSide.NET, True
    exchange._clearing.accounts["a"].positions[key].margin = 1
    cash = exchange.balance("a", "BTC").cash
    bench.events()
    exchange._desk.liquidate_isolated(exchange._clearing.accounts["a"], key)
    fills = [event.fill for event in bench.events() if isinstance(event, OrderFilled)]
    own, other = (
        sum(fill.realised - fill.fee for fill in fills if fill.is_isolated is is_isolated)
        for is_isolated in (True, False)
    )
    assert own < -1
    assert other < 0
    assert exchange.balance("a", "BTC").cash == cash - 1 + other
    bench.check_conservation()


def test_a_daily_settlement_leaves_isolated_positions_alone(bench):
    bench.buy(10, symbol="FUT", is_isolated=True)
    bench.buy(10, symbol="FUT")
    bench.events()
    bench.exchange.settle_daily("FUT", D(90_000))
    settled = [event for event in bench.events() if isinstance(event, PositionChanged)]
    assert [event.position.is_isolated for event in settled] == [False]


def test_a_position_larger_than_the_book_is_closed_against_the_house(bench):
    bench.buy(100)
    book = bench.books["PERP"]
    for tick in book.ticks(BID):
        book.set_level(BID, tick, 0, 0)
    bench.exchange.call_margin("a", "BTC")
    (order,) = [o for o in bench.exchange.finished_orders("a") if o.category is Reason.LIQUIDATION]
    assert order.filled == 100
    assert bench.exchange.fills("a")[-1].trade_id == 0
    assert bench.exchange._desk.open_orders == 0
    bench.check_conservation()


def test_a_venue_that_closes_takes_first_only_what_reduces_then_nothing(bench):
    bench.buy(50)
    bench.exchange.set_trading(TradingMode.REDUCE_ONLY)
    with refused(Why.REDUCE_ONLY_MODE):
        bench.buy(1)
    with refused(Why.REDUCE_ONLY_MODE):
        bench.sell(51)
    bench.sell(20)
    bench.exchange.set_trading(TradingMode.CLOSED, "PERP")
    with refused(Why.NOT_OPEN):
        bench.sell(1)
    bench.exchange.set_trading(TradingMode.OPEN, "PERP")
    bench.exchange.set_trading(TradingMode.OPEN)
    bench.buy(1)


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
