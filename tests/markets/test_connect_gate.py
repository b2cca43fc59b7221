"""Turns to connect: never more than the venue takes in any second, each host for itself."""

from hypothesis import given
from hypothesis import strategies as st

from dquant.markets.connect_gate import MAX_HOSTS, TURNS, ConnectGate

OKEX, BITMEX = "wss://ws.okx.com:8443/ws/v5/public", "wss://ws.bitmex.com/realtime"


def test_the_first_three_go_at_once_and_the_fourth_waits():
    gate = ConnectGate()
    waits = [gate.reserve(OKEX, 100.0) for _ in range(4)]
    assert waits[:3] == [0.0, 0.0, 0.0]
    assert 1.0 < waits[3] < 1.2


def test_hosts_do_not_wait_for_each_other_but_paths_of_one_do():
    gate = ConnectGate()
    for _ in range(3):
        gate.reserve(OKEX, 100.0)
    assert gate.reserve(BITMEX, 100.0) == 0.0
    assert gate.reserve(OKEX.replace("public", "business"), 100.0) > 0.0


@given(st.lists(st.floats(0.0, 3.0), min_size=1, max_size=60))
def test_no_second_sees_more_than_the_venue_takes(pauses):
    gate, now, times = ConnectGate(), 1000.0, []
    for pause in pauses:
        now += pause
        times.append(now + gate.reserve(OKEX, now))
    for start in times:
        assert sum(start <= one < start + 1.0 for one in times) <= TURNS


def test_hosts_that_are_not_asked_for_any_more_are_forgotten():
    gate = ConnectGate()
    for number in range(10 * MAX_HOSTS):
        gate.reserve(f"ws://127.0.0.1:{number}/x", float(number))
    assert len(gate._turns) <= MAX_HOSTS
