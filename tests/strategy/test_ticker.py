"""The ticker strategy: prices as they come, and a stale record where they must not be believed."""

import pytest

from dquant.strategy.ticker import Ticker

A = "okex_future_btcusd_thisweek"


@pytest.fixture
def ticker():
    return Ticker([A], "dev")


def is_without_prices(price):
    return price.bid is price.ask is price.bid_amount is price.ask_amount is None


def test_each_price_is_its_own_record(ticker, make_price):
    live, stale = make_price(A, 84093.4, 84093.5), make_price(A, reason="gap", at_s=1)

    assert ticker.on_event(live) == [live]
    assert ticker.on_event(stale) == [stale]


def test_a_one_sided_top_is_shown_as_it_is(ticker, make_price):
    price = make_price(A, 84093.4, None)

    assert ticker.on_event(price) == [price]
    assert ticker.legs[A].verdict == "live"


def test_other_markets_are_left_out(ticker, make_price, make_health):
    assert ticker.on_event(make_price("okex_swap_btcusd", 1.0, 2.0)) == []
    assert ticker.on_event(make_health("okex_swap_btcusd", "closed", verdict="stale")) == []


def test_stale_health_gives_a_stale_record_without_prices(ticker, make_price, make_health):
    ticker.on_event(make_price(A, 84093.4, 84093.5))

    (record,) = ticker.on_event(make_health(A, "stale", verdict="stale", reason="connection lost", at_s=2))

    assert (record.market, record.inst_id) == (A, "BTC-USD-261127")
    assert (record.verdict, record.reason) == ("stale", "connection lost")
    assert is_without_prices(record)


def test_health_before_any_price_gives_a_stale_record_of_that_market(ticker, make_health):
    (record,) = ticker.on_event(make_health(A, "connecting", verdict="stale"))

    assert (record.market, record.environment, record.reason) == (A, "dev", "connecting")
    assert is_without_prices(record)


def test_silence_gives_one_stale_record(ticker, make_price, make_health):
    price = make_price(A, 84093.4, 84093.5)
    ticker.on_event(price)
    ticker.on_event(make_health(A))
    ticker.on_time(price.ts_recv)

    (record,) = ticker.on_time(price.ts_recv + 3_100_000_000)

    assert (record.verdict, record.reason) == ("stale", "silent")
    assert is_without_prices(record)
    assert ticker.on_time(price.ts_recv + 4_000_000_000) == []


def test_a_late_price_from_before_the_doubt_is_not_shown(ticker, make_price, make_health):
    ticker.on_event(make_health(A, "stale", verdict="stale", reason="crossed", at_s=3))

    assert ticker.on_event(make_price(A, 84093.4, 84093.5, at_s=2)) == []


def test_a_clock_that_is_set_back_freezes_no_price(ticker, make_price, make_health):
    """A doubt of before is in the future then; prices must neither stand still as live nor wait for it."""
    ticker.on_event(make_health(A, verdict="stale", reason="connecting", at_s=0))
    ticker.on_event(make_price(A, 84093.4, 84093.5, at_s=1))
    for at_s in (-3600, -3599.9):
        assert [price.bid for price in ticker.on_event(make_price(A, 84000.0, 84001.0, at_s=at_s))] == [
            84000.0
        ]

    ticker.on_event(make_health(A, "stale", verdict="stale", reason="crossed", at_s=-3500))
    assert ticker.on_event(make_price(A, 84000.0, 84001.0, at_s=-3501)) == []
    ticker.on_event(make_health(A, at_s=-7200))
    assert [price.bid for price in ticker.on_event(make_price(A, 84000.0, 84001.0, at_s=-7199))] == [84000.0]
    (record,) = ticker.on_event(make_health(A, "stale", verdict="stale", reason="late", at_s=-9000))
    assert is_without_prices(record)


def test_silence_is_noticed_whatever_is_set_back(ticker, make_price, make_health):
    price = make_price(A, 84093.4, 84093.5)
    ticker.on_event(price)
    ticker.on_event(make_health(A))
    ticker.on_time(price.ts_recv)
    ticker.on_time(price.ts_recv - 3600 * 10**9)

    (record,) = ticker.on_time(price.ts_recv - 3596 * 10**9)

    assert (record.verdict, record.reason) == ("stale", "silent")


def test_prices_of_the_other_environment_are_shown_as_stale(ticker, make_price):
    (record,) = ticker.on_event(make_price(A, 84093.4, 84093.5, environment="pro"))

    assert (record.verdict, record.reason) == ("stale", "prices of pro, not of dev")
    assert is_without_prices(record)
