"""Order faults bite the order they are meant for, as often as asked, and are then gone."""

from decimal import Decimal

import pytest

from dquant.simulator.exchange_faults import PLAIN_ANSWER, ExchangeFaults, OrderFault, answer_plan
from dquant.simulator.orders import ASK, BID, OrderRequest

BUY, SELL = OrderRequest("X", BID, 1), OrderRequest("X", ASK, 1)


def test_a_fault_waits_for_its_nth_matching_order_and_bites_count_times():
    faults = ExchangeFaults()
    faults.add(OrderFault(kind="reject", nth=2, count=2, side=BID))
    bitten = [bool(faults.take("a", request)) for request in (BUY, SELL, BUY, SELL, BUY, BUY)]
    assert bitten == [False, False, True, False, True, False]
    assert faults.bitten == 2
    assert faults.waiting() == []


def test_selectors_name_account_and_instrument():
    faults = ExchangeFaults()
    faults.add(OrderFault(kind="reject", account="b"))
    faults.add(OrderFault(kind="reject", symbol="Y"))
    assert faults.take("a", BUY) == []
    assert len(faults.take("b", BUY)) == 1


def test_what_makes_no_sense_is_refused():
    faults = ExchangeFaults()
    for fault in (
        OrderFault(kind="nonsense"),
        OrderFault(kind="reject", nth=0),
        OrderFault(kind="reject", count=0),
        OrderFault(kind="late_reject", delay_ns=-1),
        OrderFault(kind="partial", share=Decimal("1.5")),
    ):
        with pytest.raises(ValueError, match=r"."):
            faults.add(fault)


def test_faults_are_lifted_by_kind_or_altogether():
    faults = ExchangeFaults()
    for kind in ("reject", "ack_lost", "ack_late"):
        faults.add(OrderFault(kind=kind))
    assert faults.clear("reject") == 1
    assert faults.clear() == 2
    assert faults.take("a", BUY) == []


def test_the_answer_is_plain_unless_a_fault_says_otherwise():
    assert answer_plan([]) is PLAIN_ANSWER
    plan = answer_plan([OrderFault(kind="ack_late", delay_ns=7), OrderFault(kind="fill_first")])
    assert (plan.delay_ns, plan.after_events, plan.lost, plan.twice) == (7, True, False, False)
