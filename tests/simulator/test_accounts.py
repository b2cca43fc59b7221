"""What accounts carry: margin of orders and positions, by hand."""

from decimal import Decimal

from dquant.simulator.accounts import FINISHED_LIMIT, Account, PositionMode, closing_side, maintenance_margin
from dquant.simulator.contract import Contract, Payoff, inverse_face
from dquant.simulator.orders import ASK, BID, Kind, Order, OrderRequest, PosSide, State, Trigger
from dquant.simulator.positions import Position
from dquant.simulator.units import Step

D = Decimal
LOT = Step("1")
CONTRACT = Contract(
    symbol="X",
    payoff=Payoff.INVERSE,
    tick=Step("1"),
    lot=LOT,
    settle="BTC",
    face=inverse_face(LOT, "100", 8),
    maker_fee=D(0),
    taker_fee=D(0),
    group="X",
)
CONTRACTS = {"X": CONTRACT}
KEY = "X", PosSide.NET, False


def mark(symbol: str) -> Decimal:
    return D(80_000)


def account(cash: int = 10**8, mode: PositionMode = PositionMode.NET) -> Account:
    opened = Account("a", "a", mode)
    opened.cash["BTC"] = cash
    return opened


def hold(holder: Account, number: int, side: int, lots: int, tick: int, **more) -> Order:
    order = Order(number, "a", "a", OrderRequest("X", side, lots, Kind.LIMIT, tick, **more), 0)
    holder.accept(order)
    holder.hold(order, CONTRACT)
    return order


def position(holder: Account, lots: int, price: int = 80_000) -> Position:
    held = holder.positions[KEY] = Position(CONTRACT, PosSide.NET, 1, 0)
    held.fill(lots, D(price), 0)
    return held


def test_a_position_binds_its_value_over_the_leverage():
    """80 contracts of 100 USD at 80,000: 0.1 BTC, a tenth of it at ten times, half a percent to maintain."""
    holder = account()
    position(holder, 80, 64_000)
    found = holder.margins("BTC", CONTRACTS, mark)
    assert (found.initial, found.maintenance) == (1_000_000, 50_000)
    assert found.unrealised == 12_500_000 - 10_000_000  # 8000/64000 - 8000/80000
    assert found.equity == 10**8 + 2_500_000
    assert found.free == found.equity - 1_000_000


def test_orders_of_the_two_sides_are_not_added_up():
    holder = account()
    hold(holder, 1, BID, 80, 80_000)
    hold(holder, 2, ASK, 40, 80_000)
    assert holder.margins("BTC", CONTRACTS, mark).orders == 1_000_000
    hold(holder, 3, ASK, 80, 80_000)
    assert holder.margins("BTC", CONTRACTS, mark).orders == 1_500_000


def test_what_closes_the_position_binds_nothing():
    holder = account()
    position(holder, 80)
    hold(holder, 1, ASK, 80, 80_000)
    assert holder.margins("BTC", CONTRACTS, mark).orders == 0
    hold(holder, 2, ASK, 40, 80_000)
    assert holder.margins("BTC", CONTRACTS, mark).orders == 500_000
    hold(holder, 3, ASK, 800, 80_000, reduce_only=True)
    assert holder.margins("BTC", CONTRACTS, mark).orders == 500_000


def test_what_an_order_binds_follows_its_size_and_ends_with_it():
    holder = account()
    order = hold(holder, 1, BID, 80, 80_000)
    order.filled = 40
    holder.hold(order, CONTRACT)
    assert holder.margins("BTC", CONTRACTS, mark).orders == 500_000
    order.state, order.finished_ns = State.CANCELLED, 5
    holder.hold(order, CONTRACT)
    view = holder.finish(order)
    assert holder.margins("BTC", CONTRACTS, mark).orders == 0
    assert holder.sums[KEY].lots == [0, 0]
    assert holder.view(1) == view
    assert holder.is_idle()


def test_a_stop_that_waits_binds_nothing():
    holder = account()
    hold(holder, 1, BID, 80, 80_000, trigger=Trigger(90_000, rising=True))
    assert holder.margins("BTC", CONTRACTS, mark).orders == 0


def test_leverage_is_never_more_than_the_contract_allows():
    """A hundred times would be 1 %, which is the lowest; a thousand would not be less."""
    holder = account()
    holder.leverages["X"] = D(1000)
    assert holder.initial_margin(CONTRACT, 10_000_000) == 100_000
    holder.leverages["X"] = D(3)
    assert holder.initial_margin(CONTRACT, 10_000_000) == 3_333_334
    assert maintenance_margin(CONTRACT, 1) == 1


def test_the_closing_side_of_long_and_short():
    assert [closing_side(side) for side in (PosSide.LONG, PosSide.SHORT, PosSide.NET)] == [ASK, BID, None]


def test_finished_orders_are_remembered_up_to_a_bound():
    holder = account()
    for number in range(1, FINISHED_LIMIT + 3):
        order = hold(holder, number, BID, 1, 80_000, client_id=f"c{number}")
        order.finished_ns = number
        holder.hold(order, CONTRACT)
        holder.finish(order)
    assert len(holder.finished) == FINISHED_LIMIT
    assert holder.view(2) is None
    assert "c2" not in holder.newest
    assert holder.newest["c3"] == 3
