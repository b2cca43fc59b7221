"""Timers come in their turn, once."""

from hypothesis import given
from hypothesis import strategies as st

from dquant.simulator.timers import Timers


def test_what_is_due_comes_earliest_first_and_no_more():
    timers = Timers()
    timers.set(("b",), 20)
    timers.set(("a",), 10)
    timers.set(("c",), 30)
    assert timers.next_due() == 10
    assert list(timers.take_due(20)) == [(10, ("a",)), (20, ("b",))]
    assert timers.next_due() == 30
    assert list(timers.take_due(20)) == []


def test_setting_again_moves_a_timer_and_dropping_ends_it():
    timers = Timers()
    timers.set(("a",), 10)
    timers.set(("a",), 50)
    assert (timers.next_due(), timers.due(("a",))) == (50, 50)
    assert timers.drop(("a",))
    assert not timers.drop(("a",))
    assert timers.next_due() is None


def test_what_is_set_on_the_way_takes_part():
    timers = Timers()
    timers.set(("every ten",), 10)
    seen = []
    for due, key in timers.take_due(35):
        seen.append(due)
        timers.set(key, due + 10)
    assert seen == [10, 20, 30]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.one_of(st.none(), st.integers(0, 9)))))
def test_the_next_one_is_the_smallest(script):
    timers, model = Timers(), {}
    for key, due in script:
        if due is None:
            assert timers.drop((key,)) == (model.pop(key, None) is not None)
        else:
            timers.set((key,), due)
            model[key] = due
        assert timers.next_due() == min(model.values(), default=None)
