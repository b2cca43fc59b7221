"""What is stale because it was just started is held back, and told when that is no excuse any more."""

from dquant.model.events import LIVE, STALE, Price
from dquant.strategy.text import StartFilter

UNTIL = 3_000


def price(market: str, verdict: str, ts_recv: int) -> Price:
    return Price(market, "X", "dev", 1, None, None, None, None, verdict, "connecting", 0, ts_recv)


def test_a_market_that_gets_live_in_time_was_never_stale():
    start = StartFilter(UNTIL)
    assert not start.take(price("a", STALE, 1_000))
    assert start.take(price("a", LIVE, 2_000))
    assert start.overdue(UNTIL) == []


def test_a_market_that_does_not_is_told_once_when_the_time_is_over():
    start = StartFilter(UNTIL)
    held = price("a", STALE, 1_000)
    assert not start.take(held)
    assert start.overdue(UNTIL - 1) == []
    assert start.overdue(UNTIL) == [held]
    assert start.take(held)
    assert start.overdue(UNTIL) == []


def test_a_market_that_was_live_is_told_stale_at_once():
    start = StartFilter(UNTIL)
    assert start.take(price("a", LIVE, 1_000))
    assert start.take(price("a", STALE, 1_100))
    assert not start.take(price("b", STALE, 1_100))
