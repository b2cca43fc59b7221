"""Contracts of the simulated BitMEX: values against recorded trades, dates against the calendar."""

from datetime import UTC, datetime

import pytest

from dquant.constants import NS_PER_S
from dquant.simulator import bitmex_instruments as instruments
from dquant.simulator.bitmex_instruments import ETHUSD, XBTUSD, XBTUSDT


def ns(*moment):
    return int(datetime(*moment, tzinfo=UTC).timestamp()) * NS_PER_S


@pytest.mark.parametrize(
    ("contract", "size", "price", "value"),
    [
        (XBTUSD, 100, 98570.9, 101450),
        (XBTUSD, 400, 43772.0, 913828),
        (XBTUSD, 1500, 22957.36, 6533850),
        (XBTUSD, 3500, 68460.0, 5112485),
        (XBTUSDT, 4800, 97343.4, 467248320),
        (ETHUSD, 12, 1892.8, 2271360),
    ],
)
def test_gross_value_is_that_of_recorded_trades(contract, size, price, value):
    assert contract.gross_value(size, price) == value


def test_notionals_are_those_of_recorded_trades():
    assert XBTUSD.notionals(200, 68460.0, 0.0) == (0.00292142, 200.0)
    assert XBTUSDT.notionals(4800, 97343.4, 0.0) == pytest.approx((0.0048, 467.24832))
    home, foreign = ETHUSD.notionals(12, 1892.8, 1289.8126064735945 / 0.0227136)
    assert (home, foreign) == pytest.approx((0.6814310051107325, 1289.8126064735945))


@pytest.mark.parametrize(
    ("now", "symbol", "expiry"),
    [
        (ns(2026, 7, 1), "XBTU26", ns(2026, 9, 25, 12)),
        (ns(2026, 12, 25, 11, 59, 59), "XBTZ26", ns(2026, 12, 25, 12)),
        (ns(2026, 12, 25, 12), "XBTH27", ns(2027, 3, 26, 12)),
        (ns(2026, 12, 31), "XBTH27", ns(2027, 3, 26, 12)),
    ],
)
def test_the_quarterly_future_is_the_one_that_expires_next(now, symbol, expiry):
    future = instruments.quarterly_future(now)
    assert (future.symbol, future.expiry) == (symbol, expiry)


def test_the_row_of_a_future_dates_listing_and_front_as_recorded():
    """XBTU21 was listed with the old March future and came to the front with the July one."""
    row = instruments.quarterly_future(ns(2021, 7, 22)).fixed
    assert row["symbol"] == "XBTU21"
    assert row["expiry"] == row["settle"] == row["listedSettle"] == "2021-09-24T12:00:00.000Z"
    assert row["front"] == "2021-07-30T12:00:00.000Z"


def test_funding_is_at_four_twelve_and_twenty():
    assert instruments.next_funding(ns(2026, 7, 1)) == ns(2026, 7, 1, 4)
    assert instruments.next_funding(ns(2026, 7, 1, 4)) == ns(2026, 7, 1, 12)
    assert instruments.next_funding(ns(2026, 7, 1, 20)) == ns(2026, 7, 2, 4)


def test_an_index_row_has_neither_lot_nor_multiplier():
    row = instruments.index_row(".BXBT", 84000.0, 0)
    assert not {"multiplier", "lotSize", "settlCurrency"} & row.keys()
    assert row["typ"].startswith("MR")


def test_contract_facts_are_those_of_the_sheet():
    assert XBTUSD.fixed["isInverse"] is True
    assert XBTUSD.fixed["multiplier"] == XBTUSD.fixed["underlyingToSettleMultiplier"] == -100_000_000
    assert (XBTUSD.lot, XBTUSD.tick, XBTUSD.fixed["settlCurrency"]) == (100, 0.1, "XBt")
    assert ETHUSD.fixed["isQuanto"] is True
    assert (XBTUSDT.fixed["settlCurrency"], XBTUSDT.fixed["isInverse"]) == ("USDt", False)
    for contract in instruments.contracts(ns(2026, 7, 1)):
        assert contract.fixed["tickSize"] == contract.tick
        assert contract.fixed["lotSize"] == contract.lot
