"""Bars: trades counted into minutes, longer bars made of them, no holes, an invented past before."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dquant.constants import NS_PER_S
from dquant.simulator.bars import DAY_NS, HOUR_NS, KEPT, MINUTE, MINUTE_NS, BarHistory, Past, Period

START_NS = 1_795_334_400_000_000_000  # 2026-11-22T08:00:00Z


def with_past(tick=840_000, minute_lots=600):
    return BarHistory(START_NS, tick, minute_lots, Past("seed/BTC", START_NS))


def test_trades_are_counted_into_their_minutes():
    bars = BarHistory(START_NS, 1000, 60)
    for second, tick, lots in ((1, 1002, 5), (30, 998, 1), (59, 1001, 2), (61, 1003, 7)):
        bars.add(START_NS + second * NS_PER_S, tick, lots)
    first, second = bars.bars(START_NS + 90 * NS_PER_S)[-2:]
    assert (first.open, first.high, first.low, first.close) == (1000, 1002, 998, 1001)
    assert (first.lots, first.trades, first.last_lots) == (8, 3, 2)
    assert first.value == 1002 * 5 + 998 + 1001 * 2
    assert (second.open, second.close, second.lots) == (1003, 1003, 7)


def test_a_minute_without_trades_stands_still():
    bars = BarHistory(START_NS, 1000, 60)
    bars.add(START_NS, 1005, 1)
    bars.add(START_NS + 3 * MINUTE_NS, 1010, 1)
    found = bars.bars(START_NS + 5 * MINUTE_NS)[-6:]
    assert [(bar.close, bar.lots) for bar in found] == [
        (1005, 1),
        *[(1005, 0)] * 2,
        (1010, 1),
        *[(1010, 0)] * 2,
    ]


def test_there_is_a_day_before_the_start_and_it_leads_to_the_first_price():
    found = with_past().bars(START_NS + NS_PER_S)
    assert len(found) == KEPT
    assert found[-1].start == START_NS
    assert [later.start - bar.start for bar, later in pairwise(found)] == [MINUTE_NS] * (KEPT - 1)
    assert found[-2].close == found[-1].open == 840_000
    assert all(bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high for bar in found)
    assert found == with_past().bars(START_NS + NS_PER_S)


@pytest.mark.parametrize("leap_minutes", [2 * KEPT, 10**6])
def test_after_a_long_leap_a_day_is_kept(leap_minutes):
    bars = with_past(1000)
    bars.add(START_NS + leap_minutes * MINUTE_NS, 900, 1)
    found = bars.bars(START_NS + leap_minutes * MINUTE_NS)
    assert len(found) == KEPT
    assert found[-1].close == 900


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 200_000), st.integers(900, 1100), st.integers(1, 50)), max_size=40),
    st.sampled_from([3, 5, 15, 60, 240]),
)
def test_longer_bars_are_the_sum_of_their_minutes(trades, minutes):
    bars = with_past(1000)
    now = START_NS
    for step_ms, tick, lots in trades:
        now += step_ms * 1_000_000
        bars.add(now, tick, lots)
    single, long = bars.bars(now), bars.bars(now, Period(minutes * MINUTE_NS))
    first = next(bar.start for bar in long if bar.start >= single[0].start)
    single, long = ([bar for bar in found if bar.start >= first] for found in (single, long))
    assert sum(bar.lots for bar in long) == sum(bar.lots for bar in single)
    assert sum(bar.value for bar in long) == sum(bar.value for bar in single)
    assert max(bar.high for bar in long) == max(bar.high for bar in single)
    assert min(bar.low for bar in long) == min(bar.low for bar in single)
    assert (long[0].open, long[-1].close) == (single[0].open, single[-1].close)
    assert all(bar.start % (minutes * MINUTE_NS) == 0 for bar in long)


SHANGHAI_NS = -8 * HOUR_NS
PERIODS = (
    MINUTE,
    Period(15 * MINUTE_NS),
    Period(4 * HOUR_NS),
    Period(6 * HOUR_NS, SHANGHAI_NS),
    Period(DAY_NS, SHANGHAI_NS),
    Period(7 * DAY_NS, 4 * DAY_NS),
    Period(28 * DAY_NS, months=1),
    Period(28 * DAY_NS, SHANGHAI_NS, months=3),
)


@pytest.mark.parametrize("period", PERIODS)
def test_bars_of_any_period_follow_each_other_and_end_with_the_open_one(period):
    bars, now = with_past(), START_NS + 40 * MINUTE_NS
    bars.add(now, 845_000, 3)
    found = bars.bars(now, period)
    assert len(found) > 1
    assert all(period.after(bar.start) == later.start for bar, later in pairwise(found))
    assert all(abs(bar.close - later.open) <= 1 for bar, later in pairwise(found[:-1]))
    assert found[-1].start <= now < period.after(found[-1].start)
    assert found[-1].close == 845_000
    assert found[-2:] == bars.bars(now, period, found[-2].start)


def test_days_weeks_and_months_begin_where_their_day_begins():
    def begins(ts, period):
        return datetime.fromtimestamp(period.start(ts) / NS_PER_S, UTC).strftime("%a %d %b %H:%M")

    friday = int(datetime(2026, 11, 27, 17, tzinfo=UTC).timestamp()) * NS_PER_S  # Saturday at UTC+8
    assert begins(friday, Period(DAY_NS)) == "Fri 27 Nov 00:00"
    assert begins(friday, Period(DAY_NS, SHANGHAI_NS)) == "Fri 27 Nov 16:00"
    assert begins(friday, Period(7 * DAY_NS, 4 * DAY_NS)) == "Mon 23 Nov 00:00"
    assert begins(friday, Period(28 * DAY_NS, months=1)) == "Sun 01 Nov 00:00"
    assert begins(friday, Period(28 * DAY_NS, SHANGHAI_NS, months=3)) == "Wed 30 Sep 16:00"


def test_what_minutes_have_no_room_for_lives_on_in_longer_bars():
    bars, trades = with_past(1000), 30_000
    for number in range(trades):  # a trade every five minutes: 104 days
        bars.add(START_NS + number * 5 * MINUTE_NS, 1000 + number % 7, 1)
    now = START_NS + (trades - 1) * 5 * MINUTE_NS
    days = [bar for bar in bars.bars(now, Period(DAY_NS)) if bar.start > START_NS]
    assert len(days) == 104
    assert {bar.lots for bar in days[:-1]} == {288}
    hours = bars.bars(now, Period(HOUR_NS))
    assert len(hours) == KEPT
    assert {bar.lots for bar in hours[:-1]} == {12}


def test_instruments_of_a_coin_keep_their_basis_in_the_past():
    past = Past("seed/BTC", START_NS)
    swap, future = (BarHistory(START_NS, tick, 60, past) for tick in (840_000, 848_400))
    for period in PERIODS:
        pairs = zip(swap.bars(START_NS, period), future.bars(START_NS, period), strict=True)
        assert all(abs(two.close / one.close - 1.01) < 1e-4 for one, two in pairs)


def test_what_is_listed_later_has_no_past():
    history = BarHistory(START_NS + HOUR_NS, 1000, 60, Past("seed/BTC", START_NS))
    assert len(history.bars(START_NS + HOUR_NS)) == 1


@pytest.mark.parametrize("period", PERIODS[1:])
def test_what_is_listed_within_a_bar_has_that_bar(period):
    """A contract of OKX is listed at ten past eight and lives two weeks: its first day and week count."""
    listed_ns = START_NS + 11 * MINUTE_NS
    history = BarHistory(listed_ns, 1000, 60, Past("seed/BTC", START_NS))
    history.add(listed_ns + MINUTE_NS, 1010, 3)
    (bar,) = history.bars(listed_ns + 90 * NS_PER_S, period)
    assert (bar.start, bar.open, bar.close, bar.lots) == (period.start(listed_ns), 1000, 1010, 3)
