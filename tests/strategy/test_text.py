"""Records as lines of text and JSON, and the cells that both screens are made of."""

import json

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dquant.model.events import Difference, Price
from dquant.strategy.diff import Diff
from dquant.strategy.text import (
    ChangeFilter,
    count_decimals,
    fit,
    format_age,
    format_amount,
    format_number,
    format_time,
    json_line,
    one_line,
    plain_line,
    sparkline,
)

A = "okex_future_btcusd_thisweek"
B = "bitmex_future_btcusd"


@pytest.fixture
def difference(make_price):
    diff = Diff([A, B], "dev")
    diff.on_event(make_price(A, 84093.4, 84093.5, at_s=1))
    diff.on_event(make_price(B, 84090.0, 84090.1, at_s=1.25))
    return diff.calc_diff()


def test_a_live_difference_is_one_line_with_all_that_a_trader_reads(difference):
    assert plain_line(difference) == (
        "2026-11-22T08:00:01.250Z  SIMULATED  LIVE   "
        "sell     +3.3  buy     +3.5  bid     +3.4  ask     +3.4  age  a 250 ms  b   0 ms  "
        "okex_future_btcusd_thisweek - bitmex_future_btcusd"
    )


def test_a_stale_difference_says_why_and_shows_no_number(make_price):
    diff = Diff([A, B], "dev")
    diff.on_event(make_price(A, 84093.4, 84093.5))
    (stale,) = diff.on_event(make_price(B, reason="sequence broken", at_s=1))

    assert plain_line(stale) == (
        "2026-11-22T08:00:01.000Z  SIMULATED  STALE  b: sequence broken  "
        "okex_future_btcusd_thisweek - bitmex_future_btcusd"
    )


def test_an_instrument_that_a_tape_names_with_control_characters_is_one_line(make_price):
    line = plain_line(make_price("\x1b[2JXBT\nUSD", 84093.4, 84093.5))
    assert line.isprintable()
    assert "[2JXBT USD" in line


def test_live_lines_of_one_pair_align_whatever_the_numbers(difference):
    other = msgspec.structs.replace(
        difference, sell_diff=-1203.5, buy_diff=0.0, age_ms={"a": 61_000.0, "b": 9.0}
    )

    assert [at for at, char in enumerate(plain_line(difference)) if char == "b"][:3] == [
        at for at, char in enumerate(plain_line(other)) if char == "b"
    ][:3]
    assert len(plain_line(difference)) == len(plain_line(other))


def test_a_price_is_one_line_and_stale_has_its_reason_in_place_of_prices(make_price):
    assert plain_line(make_price(A, 84093.4, 84093.5)) == (
        "2026-11-22T08:00:00.000Z  SIMULATED  LIVE   okex_future_btcusd_thisweek     "
        "bid   84093.4 x 120      ask   84093.5 x 44       BTC-USD-261127"
    )
    assert plain_line(make_price(A, reason="rolling")) == (
        "2026-11-22T08:00:00.000Z  SIMULATED  STALE  okex_future_btcusd_thisweek     rolling"
    )


def test_live_prices_of_the_real_venues_are_not_called_simulated(make_price):
    assert "SIMULATED" not in plain_line(make_price(A, 84093.4, 84093.5, environment="pro"))


def test_a_missing_side_is_a_dash(make_price):
    assert "ask         — x —" in plain_line(make_price(A, 84093.4, None))


def test_a_venues_words_cannot_break_the_line_or_reach_the_terminal_as_commands(make_price):
    line = plain_line(make_price(A, reason="bad\ngateway\x1b[2J\tsorry"))

    assert line.endswith("bad gateway [2J sorry")


def test_a_price_without_a_market_is_named_by_its_instrument(make_price):
    price = msgspec.structs.replace(make_price(A, 1.0, 2.0), market=None)

    assert "LIVE   BTC-USD-261127" in plain_line(price)


def test_json_is_the_object_of_the_formats_page(difference):
    line = json_line(difference)

    assert b"\n" not in line
    assert json.loads(line) == {
        "a": A,
        "b": B,
        "environment": "dev",
        "verdict": "live",
        "reason": None,
        "ask_diff": 3.4,
        "bid_diff": 3.4,
        "buy_diff": 3.5,
        "sell_diff": 3.3,
        "ts_event": 1795334401245000000,
        "ts_recv": 1795334401250000000,
        "age_ms": {"a": 250.0, "b": 0.0},
    }
    assert msgspec.json.decode(line, type=Difference) == difference


def test_json_of_a_price_reads_back_as_the_same_price(make_price):
    price = make_price(A, 84093.4, 84093.5)

    assert msgspec.json.decode(json_line(price), type=Price) == price


def test_only_what_says_something_new_is_a_change(make_price):
    changes = ChangeFilter()

    assert changes.is_change(make_price(A, 1.0, 2.0))
    assert not changes.is_change(make_price(A, 1.0, 2.0, at_s=1))
    assert changes.is_change(make_price(B, 1.0, 2.0, at_s=1))
    assert not changes.is_change(make_price(A, 1.0, 2.0, at_s=2))
    assert changes.is_change(make_price(A, 1.0, 2.0, amounts=(1.0, 1.0)))
    assert changes.is_change(make_price(A, reason="gap"))
    assert not changes.is_change(make_price(A, reason="gap", at_s=4))
    assert changes.is_change(make_price(A, reason="silent"))


def test_a_difference_that_only_grew_older_is_no_change(difference):
    changes = ChangeFilter()

    assert changes.is_change(difference)
    assert not changes.is_change(msgspec.structs.replace(difference, ts_recv=1, age_ms={"a": 9.0, "b": 9.0}))
    assert changes.is_change(msgspec.structs.replace(difference, sell_diff=3.2))
    assert changes.is_change(msgspec.structs.replace(difference, verdict="stale", reason="a: gap"))


def test_times_are_utc_with_milliseconds():
    assert format_time(0) == "1970-01-01T00:00:00.000Z"
    assert format_time(1795334400999999999) == "2026-11-22T08:00:00.999Z"


@pytest.mark.parametrize(
    ("value", "text", "decimals"),
    [
        (84093.0, "84093.0", 1),
        (0.05, "0.05", 2),
        (1e-7, "0.0000001", 7),
        (-3.25, "-3.25", 2),
        (1e16, "1" + "0" * 16 + ".0", 1),
    ],
)
def test_numbers_are_as_short_as_they_can_be_without_an_exponent(value, text, decimals):
    assert format_number(value) == text
    assert count_decimals(value) == decimals


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (120.0, "120"),
        (0.1, "0.1"),
        (1234567.0, "1234567"),
        (25_300_000.0, "25.3M"),
        (1234.5678, "1234.56"),
        (0.0, "0"),
    ],
)
def test_amounts_fit_their_column(amount, text):
    assert format_amount(amount) == text


@pytest.mark.parametrize(
    ("age_s", "text"),
    [
        (-1, "0 ms"),
        (0.0004, "0 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (59.9, "59.9 s"),
        (90, "2 min"),
        (7300, "2 h"),
    ],
)
def test_ages_are_in_the_unit_that_a_glance_needs(age_s, text):
    assert format_age(age_s) == text


@given(st.floats(min_value=0, max_value=3.5e6))
def test_an_age_never_breaks_its_column(age_s):
    assert len(format_age(age_s)) <= 6


@given(st.floats(min_value=0, max_value=9e9))
def test_an_amount_never_breaks_its_column(amount):
    assert len(format_amount(amount)) <= 7


def test_a_sparkline_rises_with_its_values_and_shows_gaps():
    assert sparkline([None, None, 0.0, 7.0, None, 3.0]) == "  ▁█·▄"
    assert sparkline([2.0, 2.0]) == "▄▄"
    assert sparkline([None] * 3) == "   "
    assert sparkline([]) == ""


@given(st.lists(st.one_of(st.none(), st.floats(min_value=-1e9, max_value=1e9)), max_size=70))
@example([0.0, 2.2e-309])  # one divided by that is infinite
def test_a_sparkline_has_one_character_a_value(values):
    assert len(sparkline(values)) == len(values)


def test_what_is_cut_is_marked():
    assert [fit("abcdef", width) for width in (7, 6, 5, 1)] == ["abcdef", "abcdef", "abcd…", "…"]


@given(st.text())
def test_any_words_become_one_printable_line(text):
    assert one_line(text).isprintable()
