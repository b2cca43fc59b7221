"""How late is late: by the quickest message, by the venue's own clock, and never for a flicker."""

from hypothesis import given
from hypothesis import strategies as st

from dquant.constants import NS_PER_MS, NS_PER_S
from dquant.markets.lag_watch import LagWatch

S = NS_PER_S


def late(watch, *lags, is_news=True):
    return [watch.judge(lag, is_news=is_news) for lag in lags]


def test_lag_is_judged_by_the_quickest_message_whatever_the_clocks_say():
    """Our clock is an hour ahead of the venue's: that is no lag. Late ends at half the limit."""
    watch, hour = LagWatch(3.0), 3600 * S

    assert late(watch, hour + S, hour, hour + 3 * S) == [False] * 3
    assert late(watch, hour + 4 * S, hour + 2 * S, hour + 1.6 * S, hour + 1.4 * S) == [
        True,
        True,
        True,
        False,
    ]
    assert late(watch, hour - 2 * S, hour + 2 * S) == [False, True]


def test_old_snapshot_of_a_quiet_book_makes_nothing_late_but_ends_no_lateness_either():
    watch = LagWatch(3.0)
    late(watch, 0)

    assert late(watch, 60 * S, is_news=False) == [False]
    assert late(watch, 8 * S) == [True]
    assert late(watch, 8 * S, 60 * S, S, is_news=False) == [True, True, False]


def test_round_trip_to_the_venue_tells_a_clock_that_was_set_from_a_slow_connection():
    watch = LagWatch(3.0)
    assert late(watch, 0, 8 * S) == [False, True]
    watch.measure(-8 * S, 100 * NS_PER_MS)  # the venue's clock is 8 s behind ours now
    assert late(watch, 8 * S) == [False]

    assert late(watch, 16 * S) == [True]
    watch.measure(-8 * S, 100 * NS_PER_MS)
    watch.measure(-12 * S, 8 * S)  # an answer that was as slow as the connection tells nothing
    assert late(watch, 16 * S) == [True]
    watch.measure(-16 * S, 2 * S)  # wrong by a second at most
    assert late(watch, 16 * S) == [False]


def test_one_wrong_time_makes_nothing_late_for_ever():
    """Our clock, or one message's, was 10 s off for a moment, and the venue tells no time."""
    watch = LagWatch(3.0)
    assert late(watch, 0, -10 * S, 0) == [False, False, True]
    watch.forget()
    watch.answer(0, waited=S)
    assert late(watch, 0, S) == [False, False]


def test_clock_that_the_venue_answers_with_alone_makes_nothing_late():
    """It may be off where that of its messages is not."""
    watch = LagWatch(3.0)
    late(watch, 0)
    watch.measure(45 * S, 0)
    assert late(watch, 0) == [False]


def test_frames_that_another_clock_dated_are_never_late():
    """Frames of months ago, sent again at any pace: the venue's clock says that theirs is another one."""
    months = 90 * 86_400 * S
    for waited in (0, 8 * S):
        watch = LagWatch(3.0)
        watch.measure(0, 0)
        watch.answer(months, waited)
        assert late(watch, months, months + 4 * S, months + 60 * S) == [False] * 3

    watch = LagWatch(3.0)
    assert late(watch, months, months + 4 * S) == [False, True]
    watch.measure(0, 0)  # the answer comes later
    assert late(watch, months + 4 * S) == [False]


def test_old_snapshot_of_a_quiet_book_is_not_taken_for_another_clock_s():
    watch = LagWatch(3.0)
    watch.measure(0, 0)
    watch.answer(75 * S, waited=0)
    assert late(watch, 75 * S, is_news=False) == [False]
    assert late(watch, 0, 4 * S) == [False, True]


def test_connection_that_is_slow_from_its_beginning_shows_by_its_first_answer():
    """The snapshot was asked for 8 s ago, and nothing has ever come quicker."""
    watch = LagWatch(3.0)
    watch.answer(8 * S, waited=8 * S)
    assert late(watch, 8 * S, is_news=False) == [True]
    assert late(watch, 8 * S, 2 * S, S) == [True, True, False]


def test_venue_s_clock_tells_a_slow_answer_from_an_old_one():
    """Both were waited for 8 s: one shows the book of now, the other that of 8 s ago."""
    for lag, expected in ((0, False), (8 * S, True)):
        watch = LagWatch(3.0)
        watch.measure(0, 0)
        watch.answer(lag, waited=8 * S)
        assert late(watch, lag, is_news=False) == [expected]
    watch = LagWatch(3.0)
    watch.measure(45 * S, 0)  # of a clock that is not that of its messages
    watch.answer(0, waited=S)
    assert late(watch, 0, S) == [False, False]


def test_answer_that_was_kept_back_is_not_late_where_the_usual_lag_is_known():
    watch = LagWatch(3.0)
    late(watch, 0)
    watch.answer(0, waited=8 * S)
    assert late(watch, 0, is_news=False) == [False]


def test_quick_answer_with_an_old_snapshot_is_in_time():
    watch = LagWatch(3.0)
    watch.answer(60 * S, waited=S)
    assert late(watch, 60 * S, is_news=False) == [False]
    assert late(watch, 0, 2 * S) == [False, False]


@given(st.lists(st.tuples(st.integers(-(2**62), 2**62), st.booleans())))
def test_limit_of_zero_never_judges(messages):
    watch = LagWatch(0)
    watch.answer(0, waited=60 * S)
    watch.measure(5, 0)
    for lag, is_news in messages:
        assert watch.low <= lag <= watch.high
        assert not watch.judge(lag, is_news=is_news)


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1))
def test_bounds_pass_over_no_message_that_would_change_anything(messages):
    """The hot path looks at ``low`` and ``high`` alone."""
    watch, whole = LagWatch(3.0), LagWatch(3.0)
    for lag_s, is_news in messages:
        is_inside = watch.low <= lag_s * S <= watch.high
        expected = whole.judge(lag_s * S, is_news=is_news)
        assert (False if is_inside else watch.judge(lag_s * S, is_news=is_news)) == expected
