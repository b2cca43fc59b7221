"""Prices and sizes go to the grid of their instrument, never across it."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dquant.model.instrument import Instrument


def instrument(tick, lot):
    return Instrument(
        venue="okex",
        inst_id="BTC-USD-261127",
        kind="future",
        family="BTC-USD",
        tick=Decimal(tick),
        lot=Decimal(lot),
        min_size=Decimal(lot),
        multiplier=Decimal(100),
        is_inverse=True,
        settle_ccy="BTC",
    )


@pytest.mark.parametrize(
    ("tick", "price", "rounded"),
    [("0.1", "84093.49", "84093.4"), ("0.5", "84093.49", "84093.0"), ("1E-10", "0.00000000015", "1E-10")],
)
def test_price_goes_to_the_tick_towards_zero(tick, price, rounded):
    assert instrument(tick, "1").round_price(Decimal(price)) == Decimal(rounded)


@pytest.mark.parametrize(
    ("lot", "size", "rounded"),
    [
        ("0.1", "0.39", "0.3"),
        ("0.1", "0.3", "0.3"),
        ("0.1", "0.09", "0"),
        ("1", "7.9", "7"),
        ("100", "199", "100"),
    ],
)
def test_size_goes_down_to_the_lot(lot, size, rounded):
    assert instrument("0.1", lot).round_size(Decimal(size)) == Decimal(rounded)


@given(st.decimals(0, 10**9, places=8), st.sampled_from(["0.1", "1", "100", "0.00000001"]))
def test_rounded_size_is_on_the_grid_and_less_than_a_lot_away(size, lot):
    rounded = instrument("0.1", lot).round_size(size)

    assert rounded % Decimal(lot) == 0
    assert 0 <= size - rounded < Decimal(lot)
