"""What an exchange does by its clock: timers, funding, settlements, deliveries, stops."""

from fractions import Fraction

import pytest

from dquant.simulator.exchange import ExchangeOptions
from dquant.simulator.exchange_events import (
    DeadManFired,
    FundingPaid,
    OrderCancelled,
    OrderFilled,
    OrderTriggered,
    PositionDelivered,
    PositionSettled,
)
from dquant.simulator.orders import (
    ASK,
    BID,
    Kind,
    Reason,
    State,
    Trigger,
    TriggerSource,
    Why,
)
from tests.simulator.exchange_bench import COIN, DAY, HOUR, MS, START, Bench, D, S, refused


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
