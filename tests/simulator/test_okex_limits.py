"""Rate limits of the simulated OKX: windows, keys, bounded memory."""

from hypothesis import given
from hypothesis import strategies as st

from dquant.simulator.okex_limits import KEY_LIMIT, LIMITS, NEW_ORDERS_PER_WINDOW, RateLimiter

S = 1_000_000_000


@given(st.lists(st.integers(0, 3 * S // 4), max_size=200))
def test_no_window_holds_more_than_the_limit(pauses):
    most, seconds = LIMITS["account/balance"]
    limiter, now, granted = RateLimiter(), 0, []
    for pause in pauses:
        now += pause
        is_refused = limiter.is_too_much("account/balance", "main", now)
        recent = [time for time in granted if time > now - int(seconds * S)]
        assert is_refused == (len(recent) >= most)
        if not is_refused:
            granted.append(now)


def test_keys_and_endpoints_are_counted_apart():
    limiter = RateLimiter()
    assert [limiter.is_too_much("account/config", "a", 0) for _ in range(6)] == [False] * 5 + [True]
    assert not limiter.is_too_much("account/config", "b", 0)
    assert not limiter.is_too_much("account/balance", "a", 0)
    assert not limiter.is_too_much("no/limit", "a", 0)


def test_a_refused_request_is_not_counted():
    limiter = RateLimiter()
    assert not limiter.is_too_many_orders("a", 0, NEW_ORDERS_PER_WINDOW - 1)
    assert limiter.is_too_many_orders("a", 0, 2)
    assert not limiter.is_too_many_orders("a", 0, 1)
    assert limiter.is_too_many_orders("a", 2 * S - 1, 1)
    assert not limiter.is_too_many_orders("a", 2 * S, 1)


def test_quiet_keys_are_forgotten():
    limiter = RateLimiter()
    for number in range(3 * KEY_LIMIT):
        limiter.is_too_much("public/time", str(number), number * S)
    assert len(limiter._asked) <= KEY_LIMIT
