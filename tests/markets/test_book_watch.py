"""The verdict on one book, and how often a snapshot may be asked for, on a simulated clock."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dquant.constants import NS_PER_S
from dquant.markets.book_watch import RESYNC_BURST, RESYNC_REFILL_S, BookWatch, TokenBucket
from dquant.model.events import BookStale

NOW = 1_795_334_400 * NS_PER_S
HOUR_S = 3600


def watch(silence_s=10.0):
    return BookWatch("BTC-USD-261127", silence_s, NOW)


def at(seconds):
    return NOW + int(seconds * NS_PER_S)


def test_book_is_not_believed_before_its_snapshot():
    book = watch()

    assert (book.is_live, book.reason) == (False, "connecting")
    book.accept()
    assert (book.is_live, book.reason) == (True, "")


def test_doubt_is_told_once_for_each_reason():
    book = watch()
    book.accept()

    assert book.doubt("crossed", at(1)) == BookStale("BTC-USD-261127", "crossed", at(1))
    assert book.doubt("crossed", at(2)) is None
    assert book.doubt("sequence broken", at(3)) == BookStale("BTC-USD-261127", "sequence broken", at(3))
    book.accept()
    assert book.doubt("sequence broken", at(4)) is not None


def test_only_a_live_book_can_fall_silent():
    book = watch()
    assert not book.is_silent(at(100))
    book.accept()
    book.last_ts = at(100)

    assert not book.is_silent(at(110))
    assert book.is_silent(at(110.1))


def test_silence_of_zero_is_never_judged():
    book = watch(0)
    book.accept()

    assert not book.is_silent(at(HOUR_S))


def test_first_snapshot_is_overdue_after_its_wait():
    """Not judging silence does not mean to wait for ever for a subscription to begin."""
    for book in (watch(), watch(0), watch(300.0)):
        assert not book.is_overdue(at(10))
        assert book.is_overdue(at(10.1))
        book.doubt("no snapshot", at(11))
        assert not book.is_overdue(at(100))


def test_snapshot_is_asked_for_at_once_and_again_only_after_the_wait():
    for silence_s, wait_s in ((10.0, 10), (300.0, 10), (0, 10), (2.0, 2)):
        book = watch(silence_s)
        assert not book.take_resync(at(0))
        book.doubt("crossed", at(1))
        assert book.take_resync(at(1))
        assert not book.take_resync(at(1 + wait_s - 0.5))
        assert book.take_resync(at(1 + wait_s))
        book.accept()
        assert not book.take_resync(at(100))
        assert book.resyncs == 2


def test_refusal_for_good_asks_for_nothing_until_the_next_doubt():
    book = watch()
    book.doubt("sequence broken", at(0))
    assert book.take_resync(at(0))
    book.doubt("subscription refused: 60018", at(1), is_resync_wanted=False)
    assert not any(book.take_resync(at(second)) for second in range(1, 1000))

    book.doubt("sequence broken", at(1000))
    assert book.take_resync(at(1000))


def test_clock_set_back_neither_ends_the_judging_nor_blocks_the_asking():
    book = watch()
    book.accept()
    book.last_ts = at(5000)
    assert not book.is_silent(at(0))
    assert book.is_silent(at(10.1))
    for second in range(0, 200, 20):
        book.doubt("crossed", at(5000 + second))
        book.take_resync(at(5000 + second))
        book.accept()

    book.doubt("crossed", at(0))
    asked = [second for second in range(200) if book.take_resync(at(second))]
    assert 4 <= len(asked) <= RESYNC_BURST + 200 / RESYNC_REFILL_S


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0.0, 120.0), st.booleans()), min_size=50, max_size=400))
def test_asking_stays_within_burst_and_refill(steps):
    """Whatever breaks the book however often: no hour sees more than the burst and its refill."""
    book, second, asked = watch(), 0.0, []
    for pause_s, heals in steps:
        second += pause_s
        book.doubt("crossed", at(second))
        if book.take_resync(at(second)):
            asked.append(second)
            if heals:
                book.accept()
    for first in asked:
        within = [one for one in asked if first <= one < first + HOUR_S]
        assert len(within) <= RESYNC_BURST + HOUR_S / RESYNC_REFILL_S + 1
    assert book.resyncs == len(asked)


def test_bucket_refills_to_its_burst_and_no_further():
    bucket = TokenBucket(3, 10.0, NOW)
    assert [bucket.take(1, at(0)) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(1, at(9.9))
    assert bucket.take(1, at(10))
    assert bucket.has(3, at(1000))
    assert not bucket.has(4, at(1000))


@pytest.mark.parametrize("back_s", [1, 86_400])
def test_bucket_loses_nothing_by_a_clock_set_back(back_s):
    bucket = TokenBucket(3, 10.0, NOW)
    bucket.take(3, at(0))
    assert not bucket.take(1, at(-back_s))
    assert bucket.take(1, at(10 - back_s))
