"""What an exchange does to accounts by itself: liquidation, isolated margin, and its own closing."""

from fractions import Fraction

import pytest

from dquant.simulator.exchange import ExchangeOptions, TradingMode
from dquant.simulator.exchange_events import (
    MarginCalled,
    OrderFilled,
    PositionChanged,
    PositionDelivered,
)
from dquant.simulator.orders import (
    ASK,
    BID,
    PosSide,
    Reason,
    Why,
)
from tests.simulator.exchange_bench import COIN, DAY, HOUR, Bench, D, S, refused


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
