"""Values, entries and fees by the numbers that the venues recorded."""

from decimal import Decimal
from fractions import Fraction

import pytest

from dquant.simulator.contract import (
    Contract,
    Payoff,
    inverse_face,
    linear_face,
    rounded_up,
    share_of,
)
from dquant.simulator.units import Step

D = Decimal


def satoshi_a_lot(lots: int, price: Decimal) -> int:
    """BitMEX rounds what 100 contracts of 1 USD are worth, then multiplies."""
    return lots * round(Fraction(10**10) / Fraction(price))


def xbtusd() -> Contract:
    lot = Step("100")
    return Contract(
        symbol="XBTUSD",
        payoff=Payoff.INVERSE,
        tick=Step("0.1"),
        lot=lot,
        settle="XBt",
        face=inverse_face(lot, "1", 8),
        maker_fee=D("0.0005"),
        taker_fee=D("0.0005"),
        group="XBTUSD",
        value_of=satoshi_a_lot,
    )


def xbtusdt() -> Contract:
    lot = Step("100")
    return Contract(
        symbol="XBTUSDT",
        payoff=Payoff.LINEAR,
        tick=Step("0.1"),
        lot=lot,
        settle="USDt",
        face=linear_face(lot, "0.000001", 6),
        maker_fee=D("0.0005"),
        taker_fee=D("0.0005"),
        group="XBTUSDT",
    )


@pytest.mark.parametrize(
    ("contracts", "price", "value"),
    [
        (100, "98570.9", 101450),
        (400, "43772", 913828),
        (400, "43772.75", 913812),
        (1500, "22957.36", 6533850),
    ],
)
def test_inverse_values_are_those_that_bitmex_recorded(contracts, price, value):
    assert xbtusd().value(contracts // 100, D(price)) == value


def test_a_linear_value_is_the_one_that_bitmex_recorded():
    assert xbtusdt().value(48, D("97343.4")) == 467248320


def test_buying_an_inverse_contract_costs_below_zero_and_a_linear_one_above():
    assert xbtusd().cost(4, D(43772)) == -913828
    assert xbtusd().cost(-4, D(43772)) == 913828
    assert xbtusdt().cost(48, D("97343.4")) == 467248320
    assert xbtusdt().cost(-48, D("97343.4")) == -467248320


def test_the_average_entry_follows_from_the_cost():
    """The recorded row of 400 contracts that cost 912269 satoshi says 43846.7643, a satoshi off the cost."""
    low, high = xbtusd().entry(4, -912269), xbtusd().entry(4, -912268)
    assert low is not None
    assert high is not None
    assert round(low, 4) == D("43846.7163")
    assert round(high, 4) == D("43846.7643")
    assert xbtusdt().entry(48, 467248320) == D("97343.4")
    assert xbtusd().entry(0, 0) is None


@pytest.mark.parametrize(
    ("value", "rate", "fee"),
    [
        (9495200, "0.0009", 8545),
        (88155, "0.00075", 66),
        (912269, "0.00075", 684),
        (912269, "-0.00025", -228),
        (912269, "0", 0),
    ],
)
def test_fees_are_cut_towards_zero(value, rate, fee):
    assert xbtusd().fee(value, D(rate)) == fee


def test_okx_coins_keep_sixteen_decimals():
    """1,000 USD at 84,000: 0.0119047619047619… BTC."""
    lot = Step("0.1")
    contract = Contract(
        symbol="BTC-USD-261127",
        payoff=Payoff.INVERSE,
        tick=Step("0.1"),
        lot=lot,
        settle="BTC",
        face=inverse_face(lot, "100", 16),
        maker_fee=D("0.0002"),
        taker_fee=D("0.0005"),
        group="BTC-USD",
    )
    assert contract.value(100, D(84000)) == 119047619047619
    assert contract.price(840003) == D("84000.3")


def test_a_share_of_all_is_all_and_quotients_round_as_said():
    assert share_of(-912269, 4, 4) == -912269
    assert share_of(10, 1, 4) == 3
    assert share_of(-912269, 1, 4) == -228067
    assert rounded_up(107287 * 11, 1000) == 1181
