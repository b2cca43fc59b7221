"""Positions: by hand from the fact sheets, and sums that always add up."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dquant.simulator.contract import Contract, Payoff, inverse_face, linear_face
from dquant.simulator.orders import PosSide
from dquant.simulator.positions import Position
from dquant.simulator.units import Step

D = Decimal


def contract(payoff=Payoff.INVERSE, lot="0.1", size="100", decimals=16, **more) -> Contract:
    step = Step(lot)
    face = inverse_face if payoff is Payoff.INVERSE else linear_face
    return Contract(
        symbol="X",
        payoff=payoff,
        tick=Step("0.1"),
        lot=step,
        settle="BTC",
        face=face(step, size, decimals),
        maker_fee=D("0.0002"),
        taker_fee=D("0.0005"),
        group="X",
        **more,
    )


def position(*args, **more) -> Position:
    return Position(contract(*args, **more), PosSide.NET, 1, 0)


def test_a_long_of_ten_okx_contracts_earns_what_the_formula_says():
    """OKX section 11: N x 100 x (1/entry - 1/exit); 1000/80000 - 1000/84000 = 0.000595238095238… BTC."""
    held = position()
    held.fill(100, D(80000), 1)
    assert held.unrealised(D(84000)) == 5952380952381
    assert held.fill(-100, D(84000), 2) == 5952380952381
    assert (held.lots, held.cost, held.realised) == (0, 0, 5952380952381)


def test_a_short_of_an_inverse_contract_earns_when_the_price_falls():
    held = position()
    held.fill(-100, D(84000), 1)
    assert held.fill(100, D(80000), 2) == 5952380952381


def test_the_entry_of_inverse_contracts_is_the_harmonic_mean():
    """1 at 80000 and 3 at 84000: 4 / (1/80000 + 3/84000) = 82962.963…"""
    held = position()
    held.fill(10, D(80000), 1)
    held.fill(30, D(84000), 2)
    entry = held.contract.entry(held.lots, held.cost)
    assert entry is not None
    assert round(entry, 6) == D("82962.962963")
    held.fill(-20, D(90000), 3)
    after = held.contract.entry(held.lots, held.cost)
    assert after is not None
    assert round(after, 6) == D("82962.962963")


def test_the_recorded_bitmex_row():
    """2023-12-07: 400 contracts that cost 912269, marked at 43772: -1559 satoshi."""

    def satoshi(lots: int, price: Decimal) -> int:
        return lots * round(Fraction(10**10) / Fraction(price))

    held = position(lot="100", size="1", decimals=8, value_of=satoshi)
    held.lots, held.cost = 4, -912269
    assert held.mark_value(D(43772)) == -913828
    assert held.unrealised(D(43772)) == -1559


def test_a_linear_position_earns_size_times_move():
    """48 lots of 100 contracts of 1e-6 XBT: 0.0048 XBT x 1000 USDT = 4.8 USDT."""
    held = position(Payoff.LINEAR, lot="100", size="0.000001", decimals=6)
    held.fill(48, D(90000), 1)
    assert held.fill(-48, D(91000), 2) == 4_800_000
    held.fill(-48, D(90000), 3)
    assert held.fill(48, D(91000), 4) == -4_800_000


def test_through_zero_the_old_result_is_kept_and_the_new_position_begins_at_the_price():
    held = position()
    held.fill(100, D(80000), 1)
    assert held.fill(-150, D(84000), 2) == 5952380952381
    assert held.lots == -50
    assert (held.realised, held.previous_realised) == (0, 5952380952381)
    assert held.opened_ns == 2
    assert held.contract.entry(held.lots, held.cost) == pytest.approx(D(84000), abs=D("1e-6"))


def test_a_daily_settlement_pays_out_and_leaves_the_real_entry_alone():
    held = position()
    held.fill(100, D(80000), 1)
    paid = held.settle(D(84000), 2)
    assert paid == 5952380952381
    assert round(held.contract.entry(held.lots, held.cost), 5) == D(84000)
    assert round(held.contract.entry(held.lots, held.entry_cost), 5) == D(80000)
    closed = held.fill(-100, D(82000), 3)
    # 1000/80000 - 1000/82000 altogether
    assert paid + closed == round(Fraction(1000 * 10**16, 80000) - Fraction(1000 * 10**16, 82000))


@pytest.mark.parametrize(
    ("payoff", "lots"), [(p, n) for p in (Payoff.INVERSE, Payoff.LINEAR) for n in (100, -100)]
)
def test_at_the_liquidation_price_equity_is_the_maintenance_margin(payoff, lots):
    held = position(payoff, size="100" if payoff is Payoff.INVERSE else "0.01")
    held.fill(lots, D(80000), 1)
    cash = held.contract.value(100, D(80000)) // 5
    price = held.liquidation_price(cash, held.contract.maintenance_rate)
    assert price is not None
    equity = cash + held.unrealised(price)
    maintenance = held.contract.value(100, price) * held.contract.maintenance_rate
    assert equity == pytest.approx(int(maintenance), abs=10)
    assert (price < 80000) == (lots > 0)


fills = st.lists(
    st.tuples(st.integers(-50, 50).filter(bool), st.integers(1_000, 2_000_000)), min_size=1, max_size=30
)


@settings(max_examples=200, deadline=None)
@given(fills, st.sampled_from([Payoff.INVERSE, Payoff.LINEAR]), st.booleans())
def test_cost_and_results_always_add_up_to_what_was_paid(script, payoff, settles):
    held = position(payoff)
    paid = results = 0
    for now, (lots, tick) in enumerate(script):
        price = held.contract.price(tick)
        paid += held.contract.cost(lots, price)
        results += held.fill(lots, price, now)
        if settles and now % 3 == 0:
            results += held.settle(price, now)
        assert results == held.cost - paid
    assert held.lots == sum(lots for lots, _ in script)
    if held.lots:
        assert (held.cost > 0) == ((held.lots > 0) != (payoff is Payoff.INVERSE))
    else:
        assert held.cost == 0
