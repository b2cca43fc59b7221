"""The board of injected faults."""

import pytest

from dquant.simulator.faults import KINDS, FaultBoard

S = 1_000_000_000


def test_a_one_shot_fault_bites_its_book_once():
    board = FaultBoard()
    board.inject("gap", {"inst_id": "A"}, 0)
    assert board.take("gap", "B") is None
    assert board.take("gap", "A") is not None
    assert board.take("gap", "A") is None


def test_a_counted_fault_bites_as_often_as_asked():
    board = FaultBoard()
    board.inject("duplicate", {"count": 3}, 0)
    assert [board.take("duplicate", "A") is not None for _ in range(4)] == [True, True, True, False]


def test_a_lasting_fault_ends_with_its_duration():
    board = FaultBoard()
    board.inject("freeze", {"inst_id": "A", "duration_s": 2}, 10 * S)
    assert board.holds("freeze", 11 * S, "A")
    assert not board.holds("freeze", 11 * S, "B")
    assert not board.holds("freeze", 12 * S, "A")
    assert board.active(12 * S) == []


def test_a_fault_without_duration_holds_until_it_is_lifted():
    board = FaultBoard()
    board.inject("silent", {}, 0)
    board.inject("slow", {"delay_ms": 250, "conn_id": "c1"}, 0)
    assert board.holds("silent", 10**18, None, "c9")
    assert board.delay_ns(0, "c1") == 250_000_000
    assert board.delay_ns(0, "c2") == 0
    assert board.clear("silent") == 1
    assert not board.holds("silent", 0, None, "c9")
    assert board.clear() == 1


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("explode", {}, "unknown fault"),
        ("gap", {"delay_ms": 3}, "takes inst_id"),
        ("freeze", {"duration_s": "long"}, "must be a number"),
        ("freeze", {"duration_s": -1}, "must be a number"),
        ("freeze", {"inst_id": 7}, "must be text"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_would(name, params, words):
    with pytest.raises(ValueError, match=words):
        FaultBoard().inject(name, params, 0)


def test_every_kind_is_explained():
    assert all(kind.explanation and kind.name == name for name, kind in KINDS.items())
