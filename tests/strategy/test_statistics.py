"""Rolling statistics against the naive computation over the same step function."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dquant.strategy.statistics import RollingStatistics

S = 1_000_000_000

values = st.floats(min_value=-3000, max_value=3000, allow_nan=False)
# (ns until the value changes, the next value or None for a stale period)
steps = st.lists(
    st.tuples(st.integers(min_value=0, max_value=9 * S), st.one_of(st.none(), values)),
    min_size=1,
    max_size=40,
)


def naive(intervals, oldest):
    """Work out mean and deviation of (start, end, value) after ``oldest`` with exact sums."""
    held = [
        (end - max(start, oldest), value)
        for start, end, value in intervals
        if end > oldest and value is not None
    ]
    weight = sum(duration for duration, _ in held)
    if not weight:
        return None
    mean = math.fsum(duration * value for duration, value in held) / weight
    return mean, math.sqrt(math.fsum(duration * (value - mean) ** 2 for duration, value in held) / weight)


@given(steps, st.integers(min_value=0, max_value=20 * S))
def test_figures_are_those_of_the_naive_computation_over_the_window(steps, start):
    """One value may hold for longer than the whole window of 20 s."""
    statistics = RollingStatistics(window_s=20, bucket_s=2)
    now, value, intervals, shown = start, None, [], []
    for wait, following in [(0, None), *steps, (5 * S, None)]:
        intervals.append((now, now + wait, value))
        now, value = now + wait, following
        statistics.update(now, value)
        if value is not None:
            shown.append(value)
    oldest = (now // (2 * S) - 9) * 2 * S

    summary = statistics.summary(now)
    expected = naive(intervals, oldest)

    if expected is None:
        assert summary is None or summary.deviation == 0.0
        return
    assert summary.mean == pytest.approx(expected[0], abs=1e-8)
    assert summary.deviation == pytest.approx(expected[1], abs=1e-6)
    in_force = [value for start, end, value in intervals if value is not None and end >= oldest]
    assert summary.low in in_force
    assert summary.high in in_force
    assert summary.low <= summary.mean <= summary.high


def test_figures_by_hand():
    """10 for 3 s, then 20 for 1 s: mean 12.5, variance (3 * 2.5² + 7.5²) / 4 = 18.75."""
    statistics = RollingStatistics(window_s=60, bucket_s=5)
    statistics.update(100 * S, 10.0)
    statistics.update(103 * S, 20.0)

    summary = statistics.summary(104 * S)

    assert (summary.mean, summary.low, summary.high) == (12.5, 10.0, 20.0)
    assert summary.deviation == pytest.approx(math.sqrt(18.75))


def test_repeating_a_value_weighs_no_more_than_saying_it_once():
    once, often = RollingStatistics(), RollingStatistics()
    once.update(0, 1.0)
    for tick in range(100):
        often.update(tick * S // 100, 1.0)
    for statistics in (once, often):
        statistics.update(S, 2.0)

    assert often.summary(2 * S).mean == pytest.approx(once.summary(2 * S).mean)
    assert once.summary(2 * S).mean == 1.5


def test_a_small_deviation_of_large_numbers_survives():
    """Squares of 1e9 leave no digit for a deviation of 1e-3 in a naive sum."""
    statistics = RollingStatistics()
    for tick in range(1000):
        statistics.update(tick * S // 10, 1e9 + (0.001 if tick % 2 else -0.001))

    assert statistics.summary(100 * S).deviation == pytest.approx(0.001, rel=1e-3)


def test_stale_periods_have_no_weight_and_are_gaps_in_the_series():
    statistics = RollingStatistics(window_s=50, bucket_s=5)
    statistics.update(0, 1.0)
    statistics.update(10 * S, None)
    statistics.update(20 * S, 3.0)

    assert statistics.summary(30 * S - 1).mean == pytest.approx(2.0)
    assert statistics.series(30 * S - 1, 10) == [None, None, None, None, 1.0, 1.0, None, None, 3.0, 3.0]


def test_what_is_older_than_the_window_is_forgotten():
    statistics = RollingStatistics(window_s=50, bucket_s=5)
    statistics.update(0, 1000.0)
    statistics.update(5 * S, 1.0)

    summary = statistics.summary(60 * S)

    assert (summary.mean, summary.deviation, summary.high) == (1.0, 0.0, 1.0)


def test_a_window_without_a_value_has_no_figures():
    statistics = RollingStatistics(window_s=50, bucket_s=5)
    assert statistics.summary(0) is None
    statistics.update(S, 1.0)
    statistics.update(2 * S, None)

    assert statistics.summary(3 * S) is not None
    assert statistics.summary(100 * S) is None
    assert statistics.series(100 * S, 10) == [None] * 10


def test_the_first_value_counts_before_any_time_has_passed():
    statistics = RollingStatistics()
    statistics.update(S, 7.0)

    assert (statistics.summary(S).mean, statistics.summary(S).deviation) == (7.0, 0.0)


def test_a_clock_that_steps_back_neither_raises_nor_counts_time_twice():
    statistics = RollingStatistics()
    statistics.update(10 * S, 1.0)
    statistics.update(4 * S, 3.0)

    assert statistics.summary(12 * S).mean == 3.0
    assert (statistics.summary(12 * S).low, statistics.summary(12 * S).high) == (1.0, 3.0)


def test_a_clock_that_is_set_back_far_begins_the_window_anew():
    """Its old values would stand in the window, unmoved, until the clock has caught up."""
    statistics = RollingStatistics()
    statistics.update(7200 * S, 1.0)
    statistics.update(3600 * S, 3.0)
    statistics.update(3610 * S, 5.0)

    assert (statistics.summary(3620 * S).low, statistics.summary(3620 * S).mean) == (3.0, 4.0)


def test_joined_points_keep_their_value_while_they_move_to_the_left():
    statistics = RollingStatistics(window_s=60, bucket_s=5)
    for second in range(60):
        statistics.update(second * S, float(second))
    before = statistics.series(59 * S, 4)

    after = statistics.series(74 * S, 4)  # one point of 15 s later

    assert after[:3] == pytest.approx(before[1:], abs=1.0)
    assert after[:2] == before[1:3]


@given(
    st.lists(st.integers(min_value=0, max_value=400 * S), max_size=50), st.integers(min_value=1, max_value=90)
)
def test_memory_and_series_are_bounded_whatever_the_times(waits, points):
    statistics, now = RollingStatistics(), 0
    for wait in waits:
        now += wait
        statistics.update(now, 1.0)

    assert len(statistics._buckets) == 60
    assert len(statistics.series(now, points)) <= points
