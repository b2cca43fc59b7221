"""The clearing house says what happened once, in order, and keeps what nobody takes within a bound."""

from dquant.simulator import clearing as room
from dquant.simulator.accounts import Account, PositionMode
from dquant.simulator.clearing import Clearing
from dquant.simulator.exchange_events import DeadManFired, RequestRefused
from dquant.simulator.ledger import Ledger
from dquant.simulator.orders import Reason


def clearing() -> Clearing:
    house = Clearing({"BTC": 8}, Ledger())
    house.accounts["a"] = Account("a", "a", PositionMode.NET)
    return house


def test_events_are_numbered_and_taken_once():
    house = clearing()
    house.now_ns = 7
    house.emit(DeadManFired, "a", tag="")
    house.write(RequestRefused, "a", verb="place", why="margin")
    house.emit(DeadManFired, "a", tag="bot")
    assert [(event.number, event.ts) for event in house.take_events()] == [(1, 7), (3, 7)]
    assert house.take_events() == []
    assert [row.number for row in house.ledger.rows()] == [1, 2, 3]


def test_events_that_nobody_takes_are_dropped_and_counted(monkeypatch):
    monkeypatch.setattr(room, "EVENTS_LIMIT", 3)
    house = clearing()
    for _ in range(5):
        house.emit(DeadManFired, "a", tag="")
    assert [event.number for event in house.take_events()] == [3, 4, 5]
    assert house.events_lost == 2


def test_a_transfer_is_a_deposit_and_a_debt_is_the_houses():
    house = clearing()
    account = house.accounts["a"]
    house.transfer(account, "BTC", 500)
    account.cash["BTC"] -= 800
    house.house.cash["BTC"] = 800
    house.cover_cross(account, "BTC")
    assert (account.cash["BTC"], house.house.cash["BTC"], house.deposits["BTC"]) == (0, 500, 500)
    reasons = [event.reason for event in house.take_events()]
    assert reasons == [Reason.TRANSFER, Reason.LIQUIDATION]
