"""The difference strategy: numbers by hand, identities, and what a stale leg does to it."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dquant.model.events import Price
from dquant.strategy.diff import Diff, subtract_prices

A = "okex_future_btcusd_thisweek"
B = "bitmex_future_btcusd"
NUMBERS = ("ask_diff", "bid_diff", "buy_diff", "sell_diff")

wire_prices = st.decimals(min_value="0.01", max_value="2000000", places=2).map(float)
# An uncrossed book: bid, and ask at least one tick above it, both as the wire writes them.
books = st.tuples(st.integers(min_value=1, max_value=10**8), st.integers(min_value=1, max_value=10**5)).map(
    lambda ticks: (float(Decimal(ticks[0]) / 100), float(Decimal(sum(ticks)) / 100))
)


@pytest.fixture
def diff():
    return Diff([A, B], "dev")


@pytest.fixture
def live(diff, make_price):
    """A strategy both of whose legs are live."""
    diff.on_event(make_price(A, 84093.4, 84093.5, at_s=1))
    diff.on_event(make_price(B, 84090.0, 84090.1, at_s=1.25))
    return diff


def numbers(difference):
    return [getattr(difference, name) for name in NUMBERS]


def test_the_four_differences_are_those_worked_out_by_hand(live):
    difference = live.calc_diff()

    assert (difference.a, difference.b, difference.environment) == (A, B, "dev")
    assert (difference.verdict, difference.reason) == ("live", None)
    assert difference.ask_diff == 3.4  # 84093.5 - 84090.1, which floats make 3.3999999999941792
    assert difference.bid_diff == 3.4  # 84093.4 - 84090.0
    assert difference.buy_diff == 3.5  # 84093.5 - 84090.0
    assert difference.sell_diff == 3.3  # 84093.4 - 84090.1


def test_times_are_those_of_the_newest_leg_and_ages_count_from_there(diff, make_price):
    diff.on_event(make_price(A, 84093.4, 84093.5, at_s=1))
    newer = make_price(B, 84090.0, 84090.1, at_s=1.25)

    (difference,) = diff.on_event(newer)

    assert (difference.ts_event, difference.ts_recv) == (newer.ts_event, newer.ts_recv)
    assert difference.age_ms == {"a": 250.0, "b": 0.0}


def test_a_price_that_another_thread_stamped_earlier_gives_no_negative_age(diff, make_price):
    diff.on_event(make_price(A, 84093.4, 84093.5, at_s=1.002))

    (difference,) = diff.on_event(make_price(B, 84090.0, 84090.1, at_s=1))

    assert difference.age_ms == {"a": 0.0, "b": 2.0}


def test_before_both_legs_were_seen_there_is_no_difference_and_the_record_says_why(diff, make_price):
    assert diff.calc_diff() is None

    (difference,) = diff.on_event(make_price(A, 84093.4, 84093.5))

    assert diff.calc_diff() is None
    assert (difference.verdict, difference.reason) == ("stale", "b: not seen yet")
    assert difference.age_ms == {"a": 0.0, "b": None}
    assert numbers(difference) == [None] * 4


@pytest.mark.parametrize(
    ("bid", "ask", "reason"),
    [(84093.4, None, "a: no ask"), (None, 84093.5, "a: no bid"), (None, None, "a: empty book")],
)
def test_a_one_sided_leg_gives_no_numbers_at_all(live, make_price, bid, ask, reason):
    (difference,) = live.on_event(make_price(A, bid, ask, at_s=2))

    assert (difference.verdict, difference.reason) == ("stale", reason)
    assert numbers(difference) == [None] * 4


def test_a_stale_leg_is_named_with_its_reason_and_not_used_until_it_is_live_again(live, make_price):
    (broken,) = live.on_event(make_price(A, reason="sequence broken", at_s=2))
    (other_leg_moves,) = live.on_event(make_price(B, 84000.0, 84000.1, at_s=3))
    (healed,) = live.on_event(make_price(A, 84010.0, 84010.5, at_s=4))

    assert broken.reason == other_leg_moves.reason == "a: sequence broken"
    assert numbers(broken) == numbers(other_leg_moves) == [None] * 4
    assert other_leg_moves.age_ms == {"a": 2000.0, "b": 0.0}  # a was last believed at 1 s
    assert (healed.verdict, healed.sell_diff) == ("live", 9.9)


def test_both_legs_stale_are_both_named(live, make_price):
    live.on_event(make_price(A, reason="sequence broken", at_s=2))

    (difference,) = live.on_event(make_price(B, reason="rolling", at_s=2))

    assert difference.reason == "a: sequence broken; b: rolling"


def test_stale_health_makes_the_leg_stale_before_its_price_does(live, make_health):
    (difference,) = live.on_event(make_health(B, "stale", verdict="stale", reason="connection lost", at_s=2))

    assert (difference.verdict, difference.reason) == ("stale", "b: connection lost")


def test_health_without_a_reason_gives_its_state(live, make_health):
    (difference,) = live.on_event(make_health(B, "closed", verdict="stale", at_s=2))

    assert difference.reason == "b: closed"


def test_a_live_heartbeat_changes_nothing_and_does_not_revive_a_doubted_price(live, make_price, make_health):
    assert live.on_event(make_health(B, at_s=2)) == []
    live.on_event(make_health(B, "stale", verdict="stale", reason="crossed", at_s=3))

    assert live.on_event(make_health(B, at_s=4)) == []
    assert live.calc_diff().verdict == "stale"

    (difference,) = live.on_event(make_price(B, 84090.0, 84090.1, at_s=4))
    assert difference.verdict == "live"


def test_a_live_price_from_before_the_doubt_does_not_lift_it(live, make_price, make_health):
    live.on_event(make_health(B, "stale", verdict="stale", reason="crossed", at_s=3))

    assert live.on_event(make_price(B, 84090.0, 84090.1, at_s=2.9)) == []
    assert live.calc_diff().reason == "b: crossed"


def test_stale_health_from_before_the_newest_price_is_old_news(live, make_price, make_health):
    live.on_event(make_price(B, 84090.0, 84090.1, at_s=5))

    assert live.on_event(make_health(B, "stale", verdict="stale", reason="crossed", at_s=4)) == []
    assert live.calc_diff().verdict == "live"


def test_a_market_whose_heartbeat_stops_is_silent_and_stays_so_until_its_next_price(
    live, make_price, make_health
):
    start = make_price(A).ts_recv
    second = 1_000_000_000
    for market in (A, B):
        live.on_event(make_health(market, at_s=2))
    assert live.on_time(start + 2 * second) == []
    live.on_event(make_health(A, at_s=4))
    assert live.on_time(start + 4 * second) == []

    (silent,) = live.on_time(start + 6 * second)

    assert (silent.verdict, silent.reason) == ("stale", "b: silent")
    assert silent.ts_recv == start + 6 * second
    assert live.on_time(start + 6 * second) == []  # said once
    assert live.on_event(make_health(B, at_s=6)) == []
    (difference,) = live.on_event(make_price(B, 84090.0, 84090.1, at_s=6))
    assert difference.verdict == "live"


def test_a_market_that_never_sent_a_heartbeat_is_not_judged_by_silence(live, make_price):
    start = make_price(A).ts_recv

    assert live.on_time(start) == []
    assert live.on_time(start + 3600 * 10**9) == []


def test_prices_of_the_other_environment_are_never_used(live, make_price):
    (difference,) = live.on_event(make_price(A, 84093.4, 84093.5, environment="pro", at_s=2))

    assert (difference.verdict, difference.reason) == ("stale", "a: prices of pro, not of dev")
    assert numbers(difference) == [None] * 4


def test_other_markets_are_not_this_strategys_business(live, make_price, make_health):
    assert live.on_event(make_price("okex_swap_btcusd", 1.0, 2.0)) == []
    assert live.on_event(make_health("okex_swap_btcusd", "closed", verdict="stale")) == []


@given(wire_prices, wire_prices)
def test_a_difference_of_wire_prices_is_the_decimal_difference(left, right):
    assert Decimal(repr(subtract_prices(left, right))) == Decimal(repr(left)) - Decimal(repr(right))


@given(books, books)
def test_what_can_be_traded_is_never_better_than_side_against_side(book_a, book_b):
    """sell <= bid_diff, ask_diff <= buy, and both spreads lie between sell and buy."""
    diff = Diff([A, B], "dev")
    for market, (bid, ask) in ((A, book_a), (B, book_b)):
        (found,) = diff.on_event(Price(market, "x", "dev", 0, bid, 1.0, ask, 1.0, "live", None, 1, 2))

    assert found.sell_diff < found.bid_diff < found.buy_diff
    assert found.sell_diff < found.ask_diff < found.buy_diff
    spreads = subtract_prices(book_a[1], book_a[0]) + subtract_prices(book_b[1], book_b[0])
    assert found.buy_diff - found.sell_diff == pytest.approx(spreads, abs=1e-6)


@given(books, books)
def test_swapping_the_markets_swaps_the_signs(book_a, book_b):
    found = []
    for first, second in ((book_a, book_b), (book_b, book_a)):
        diff = Diff([A, B], "dev")
        diff.on_event(Price(A, "x", "dev", 0, first[0], 1.0, first[1], 1.0, "live", None, 1, 2))
        found += diff.on_event(Price(B, "x", "dev", 0, second[0], 1.0, second[1], 1.0, "live", None, 1, 2))

    assert found[0].sell_diff == -found[1].buy_diff
    assert found[0].bid_diff == -found[1].bid_diff
    assert found[0].ask_diff == -found[1].ask_diff


prices_or_stale = st.one_of(
    st.tuples(st.sampled_from([A, B]), books, st.none()),
    st.tuples(st.sampled_from([A, B]), st.just((None, None)), st.sampled_from(["gap", "silent"])),
)


@given(st.lists(prices_or_stale, max_size=30))
def test_numbers_are_there_exactly_while_both_newest_prices_are_live(steps):
    diff, newest = Diff([A, B], "dev"), {}
    for ts, (market, (bid, ask), reason) in enumerate(steps):
        verdict = "stale" if reason else "live"
        (found,) = diff.on_event(Price(market, "x", "dev", 0, bid, 1.0, ask, 1.0, verdict, reason, ts, ts))
        newest[market] = verdict

        is_live = [newest.get(A), newest.get(B)] == ["live", "live"]
        assert found.verdict == ("live" if is_live else "stale")
        assert [number is not None for number in numbers(found)] == [is_live] * 4
        assert (found.reason is None) == is_live
