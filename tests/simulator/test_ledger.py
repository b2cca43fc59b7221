"""The ledger keeps the newest rows and finds them by account, kind, number and time."""

import json
from decimal import Decimal

import pytest

from dquant.simulator.exchange_events import DeadManFired, FundingPaid, RequestRefused
from dquant.simulator.ledger import KINDS, Ledger
from dquant.simulator.orders import PosSide


def fired(number: int, account: str = "a") -> DeadManFired:
    return DeadManFired(number=number, ts=number * 10, account=account, tag="")


def ledger_of(*rows, limit: int = 100) -> Ledger:
    ledger = Ledger(limit)
    for row in rows:
        ledger.add(row)
    return ledger


def test_the_oldest_rows_go_and_are_counted():
    ledger = ledger_of(*(fired(number) for number in range(1, 8)), limit=3)
    assert [row.number for row in ledger.rows()] == [5, 6, 7]
    assert (len(ledger), ledger.dropped) == (3, 4)


def test_rows_are_found_by_account_kind_number_time_and_count():
    refusal = RequestRefused(number=3, ts=30, account="a", verb="place", why="margin")
    ledger = ledger_of(fired(1), fired(2, "b"), refusal, fired(4))
    assert [row.number for row in ledger.rows(account="a")] == [1, 3, 4]
    assert ledger.rows(kind="request_refused") == [refusal]
    assert [row.number for row in ledger.rows(since=2)] == [3, 4]
    assert [row.number for row in ledger.rows(since_ns=30)] == [3, 4]
    assert [row.number for row in ledger.rows(limit=2)] == [3, 4]
    assert [row.number for row in ledger.rows(account="a", limit=2)] == [3, 4]


def test_an_unknown_kind_is_said_with_those_there_are():
    with pytest.raises(ValueError, match="balance_changed"):
        Ledger().rows(kind="nonsense")
    with pytest.raises(ValueError, match="at least one"):
        Ledger(0)


def test_rows_become_plain_objects_with_exact_decimals():
    row = FundingPaid(
        number=1,
        ts=5,
        account="a",
        symbol="X",
        pos_side=PosSide.NET,
        lots=-3,
        rate=Decimal("0.0001"),
        mark=Decimal("84000.10"),
        value=12,
        amount=-1,
        coin="BTC",
    )
    (found,) = ledger_of(row).objects()
    assert found["kind"] == "funding_paid"
    assert (found["rate"], found["mark"], found["pos_side"]) == ("0.0001", "84000.10", "net")
    assert json.loads(json.dumps(found)) == found


def test_every_event_has_a_kind_of_its_own():
    assert len(KINDS) >= 14
    assert KINDS["dead_man_fired"] is DeadManFired
