"""Virtual time."""

import pytest

from dquant.simulator.clock import VirtualClock

START = 1_795_334_400_000_000_123
S = 1_000_000_000


def test_real_time_with_an_offset_keeps_every_ns():
    clock = VirtualClock(START, real_ns=5)
    assert clock.now(5) == START
    assert clock.now(5 + 7) == START + 7


def test_a_fast_clock_runs_its_factor_from_the_moment_it_is_set():
    clock = VirtualClock(START)
    clock.set_speed(60, real_ns=10 * S)
    assert clock.now(11 * S) == START + 70 * S


def test_a_stepped_clock_moves_only_when_told():
    clock = VirtualClock(START, speed=0)
    assert clock.now(999 * S) == START
    clock.advance(3, real_ns=999 * S)
    assert clock.now(10_000 * S) == START + 3


def test_setting_and_stepping_add_to_a_running_clock():
    clock = VirtualClock(START)
    clock.set(START + 100 * S, real_ns=S)
    clock.advance(5 * S, real_ns=2 * S)
    assert clock.now(3 * S) == START + 107 * S


def test_time_never_goes_back():
    clock = VirtualClock(START)
    assert clock.now(5 * S) == START + 5 * S
    assert clock.now(2 * S) == START + 5 * S
    with pytest.raises(ValueError, match="cannot be set back"):
        clock.set(START, real_ns=6 * S)
    with pytest.raises(ValueError, match="stepped back"):
        clock.advance(-1)


@pytest.mark.parametrize("speed", [-1.0, float("nan"), 1e7])
def test_impossible_speeds_are_refused(speed):
    with pytest.raises(ValueError, match="speed"):
        VirtualClock(START, speed=speed)
