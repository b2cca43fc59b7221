"""Steps and times as text."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dquant.simulator.units import Step, fixed, iso_text, ms_text


@pytest.mark.parametrize(
    ("size", "steps", "text"),
    [
        ("0.1", 842003, "84200.3"),
        ("0.1", 842000, "84200"),
        ("0.5", 3, "1.5"),
        ("100", 7, "700"),
        ("0.00000001", 1, "0.00000001"),
        ("0.01", 0, "0"),
        ("0.05", -3, "-0.15"),
    ],
)
def test_steps_are_written_without_trailing_zeros(size, steps, text):
    assert Step(size).text(steps) == text


@given(
    st.sampled_from(["0.1", "0.01", "0.5", "0.00000001", "1", "100", "0.25"]), st.integers(-(10**9), 10**12)
)
def test_text_is_exactly_the_number_of_steps(size, steps):
    assert Decimal(Step(size).text(steps)) == Decimal(size) * steps


@pytest.mark.parametrize("size", ["0", "-1", "NaN"])
def test_a_step_must_be_positive(size):
    with pytest.raises(ValueError, match="step"):
        Step(size)


def test_numbers_and_times_have_the_venues_forms():
    assert fixed(-0.00001, 2) == "0"
    assert fixed(84000.50, 2) == "84000.5"
    assert ms_text(1_795_334_400_123_999_999) == "1795334400123"
    assert iso_text(1_795_334_400_007_000_000) == "2026-11-22T08:00:00.007Z"
