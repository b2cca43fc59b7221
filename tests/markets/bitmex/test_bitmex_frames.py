"""The clock of BitMEX timestamps and the neutral words for states."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from dquant.markets.bitmex._bitmex_frames import IsoClock, state_of

NEAR = datetime(2025, 12, 31, 23, 59, 58, tzinfo=UTC)


def wire(moment):
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}Z"


@given(st.lists(st.integers(0, 4000), min_size=1, max_size=20))
def test_the_clock_reads_any_sequence_of_times_exactly(offsets_ms):
    clock = IsoClock()
    for offset_ms in offsets_ms:
        moment = NEAR + timedelta(milliseconds=offset_ms)
        assert clock.ns(wire(moment), 0) == (1_767_225_598_000 + offset_ms) * 1_000_000


@given(st.lists(st.text(max_size=26) | st.just(wire(NEAR)), max_size=5))
def test_text_that_is_no_time_gives_the_default_and_spoils_nothing(texts):
    clock = IsoClock()
    for text in texts:
        clock.ns(text, 7)

    assert clock.ns(wire(NEAR), 7) == 1_767_225_598_000_000_000
    assert clock.ns(None, 7) == clock.ns("", 7) == clock.ns("2025-12-31T23:59:60.000Z", 7) == 7


def test_states_are_told_in_neutral_words():
    assert [state_of(word) for word in ("Open", "Closed", "Unlisted", "Settled", "Delisted", "Odd")] == [
        *("live", "suspend", "preopen", "expired", "expired", "odd"),
    ]
