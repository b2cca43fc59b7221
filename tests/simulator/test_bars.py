"""Bars: trades counted into minutes, longer bars made of them, no holes, an invented day before."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dquant.constants import NS_PER_S
from dquant.simulator.bars import KEPT, MINUTE_NS, MinuteBars

START_NS = 1_795_334_400_000_000_000  # 2026-11-22T08:00:00Z


def test_trades_are_counted_into_their_minutes():
    bars = MinuteBars(START_NS, 1000, 60)
    for second, tick, lots in ((1, 1002, 5), (30, 998, 1), (59, 1001, 2), (61, 1003, 7)):
        bars.add(START_NS + second * NS_PER_S, tick, lots)
    first, second = bars.bars(START_NS + 90 * NS_PER_S)[-2:]
    assert (first.open, first.high, first.low, first.close) == (1000, 1002, 998, 1001)
    assert (first.lots, first.trades, first.last_lots) == (8, 3, 2)
    assert first.value == 1002 * 5 + 998 + 1001 * 2
    assert (second.open, second.close, second.lots) == (1003, 1003, 7)


def test_a_minute_without_trades_stands_still():
    bars = MinuteBars(START_NS, 1000, 60)
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
    found = MinuteBars(START_NS, 840_000, 600).bars(START_NS + NS_PER_S)
    assert len(found) == KEPT
    assert found[-1].start == START_NS
    assert [later.start - bar.start for bar, later in pairwise(found)] == [MINUTE_NS] * (KEPT - 1)
    assert found[-2].close == found[-1].open == 840_000
    assert all(bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high for bar in found)
    assert found == MinuteBars(START_NS, 840_000, 600).bars(START_NS + NS_PER_S)


@pytest.mark.parametrize("leap_minutes", [2 * KEPT, 10**6])
def test_after_a_long_leap_a_day_is_kept(leap_minutes):
    bars = MinuteBars(START_NS, 1000, 60)
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
    bars = MinuteBars(START_NS, 1000, 60)
    now = START_NS
    for step_ms, tick, lots in trades:
        now += step_ms * 1_000_000
        bars.add(now, tick, lots)
    single, long = bars.bars(now), bars.bars(now, minutes * MINUTE_NS)
    single = [bar for bar in single if bar.start >= long[0].start]
    assert sum(bar.lots for bar in long) == sum(bar.lots for bar in single)
    assert sum(bar.value for bar in long) == sum(bar.value for bar in single)
    assert max(bar.high for bar in long) == max(bar.high for bar in single)
    assert min(bar.low for bar in long) == min(bar.low for bar in single)
    assert (long[0].open, long[-1].close) == (single[0].open, single[-1].close)
    assert all(bar.start % (minutes * MINUTE_NS) == 0 for bar in long)
