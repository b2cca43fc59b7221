"""The weekly roll: Friday 08:00 UTC the contract expires, at 08:10 its successor's successor is listed."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from dquant.markets.market import Market
from dquant.markets.okex import _okex_future_ws as face
from dquant.markets.okex._okex_expiry import end_of, expiries_at
from dquant.model.events import LIVE, STALE

THIS, NEXT, SWAP = "okex_future_btcusd_thisweek", "okex_future_btcusd_nextweek", "okex_swap_btcusd"
NS_PER_S = 10**9
# 2026-12-04 is an ordinary Friday, the second of its month's four.
EXPIRY_NS = int(datetime(2026, 12, 4, 8, tzinfo=UTC).timestamp()) * NS_PER_S
FIRST, SECOND, THIRD = "BTC-USD-261204", "BTC-USD-261211", "BTC-USD-261218"

# How a test brings the clock over 08:00 and 08:10: in real time and then by a step, or sped up.
WAYS = ["step", "speed"]


@pytest.fixture(autouse=True)
def _quick_listing(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face, "LISTING_POLL_S", 0.1)


@pytest.fixture(params=[True, False], ids=["alias", "no-alias"])
def has_alias(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def make_market(make_market: Callable[..., Market]) -> Callable[..., Market]:
    """Make markets that wait for a book for long: silence is no subject here."""
    return partial(make_market, book_silence_s=10)


@pytest.fixture
def make_friday(make_venues: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Make venues whose clock stands so many seconds before the expiry."""
    made = []

    def make(before_s: float, **options: Any) -> Any:
        made.append(make_venues(start_ns=EXPIRY_NS - int(before_s * NS_PER_S), **options))
        return made[-1]

    yield make
    for venues in made:
        venues.stop()


def pass_time(venues: Any, way: str, until_ns: int) -> None:
    """Bring the venue's clock to a time: at once, or a hundred times as fast as ours."""
    if way == "step":
        venues.clock(set=until_ns)
        return
    venues.clock(speed=100)
    deadline = time.monotonic() + 30.0
    while venues.state()["now_ns"] < until_ns:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    venues.clock(speed=1)


def check_nothing_is_live_after_its_expiry(mark: Any, name: str, expiring: str, venues: Any) -> None:
    prices = mark.prices(name)
    old = [price for price in prices if price.inst_id == expiring and price.verdict == LIVE]
    assert all(price.ts_event < price_expiry(expiring) for price in old)
    first_new = next(i for i, p in enumerate(prices) if p.verdict == LIVE and p.inst_id != expiring)
    assert all(price.inst_id != expiring for price in prices[first_new:])


def price_expiry(inst_id: str) -> int:
    day = datetime.strptime(inst_id[-6:], "%y%m%d").replace(tzinfo=UTC, hour=8)
    return int(day.timestamp()) * NS_PER_S


def test_alias_stands_for_a_contract_until_a_nearer_one_does() -> None:
    """Worked by hand: 2026-12-25 is the last Friday of its month and quarter."""
    now = EXPIRY_NS - 1
    week = 7 * 86_400 * NS_PER_S
    assert expiries_at(now)["this_month"] == EXPIRY_NS + 3 * week
    assert end_of("this_week", EXPIRY_NS, now) == EXPIRY_NS
    assert end_of("next_week", EXPIRY_NS + week, now) == EXPIRY_NS
    # In the week before the last it is next week's contract, from Friday the 11th on.
    assert end_of("this_month", EXPIRY_NS + 3 * week, now) == EXPIRY_NS + week
    assert end_of("this_week", EXPIRY_NS, EXPIRY_NS) == EXPIRY_NS
    assert end_of("next_week", EXPIRY_NS + week, EXPIRY_NS + 5) == EXPIRY_NS + 5


@pytest.mark.parametrize("way", WAYS)
def test_both_weeks_roll_without_a_restart(
    make_friday: Any, make_market: Callable[..., Market], log: Any, has_alias: bool, way: str
) -> None:
    """This week goes over to what is listed already, next week waits until 08:10."""
    venues = make_friday(30, has_alias=has_alias)
    this, following, swap = (make_market(venues, name) for name in (THIS, NEXT, SWAP))
    log.wait(lambda: this.get_ticker() and following.get_ticker() and swap.get_ticker())
    assert (this.price.inst_id, following.price.inst_id) == (FIRST, SECOND)
    mark = log.mark()

    pass_time(venues, way, EXPIRY_NS + 60 * NS_PER_S)
    log.wait(lambda: this.price.inst_id == SECOND and this.get_ticker())
    log.wait(lambda: "rolling" in mark.reasons(NEXT) or way == "speed")

    # Next week: nothing is listed until ten past eight.
    log.wait(lambda: following.price.reason == "rolling")
    assert following.get_ticker() is None
    assert following.get_depth() is None
    assert not [p for p in mark.prices(NEXT) if p.verdict == LIVE and p.inst_id == THIRD]
    log.wait(lambda: mark.health(NEXT)[-1].verdict == STALE)

    if venues.state()["now_ns"] < EXPIRY_NS + 570 * NS_PER_S:  # on a busy machine a fast clock runs past it
        venues.clock(set=EXPIRY_NS + 570 * NS_PER_S)
    pass_time(venues, way, EXPIRY_NS + 620 * NS_PER_S)
    log.wait(lambda: following.price.inst_id == THIRD and following.get_ticker())

    for name, before, after in ((THIS, FIRST, SECOND), (NEXT, SECOND, THIRD)):
        assert mark.reasons(name) == ["rolling"]
        states = mark.states(name)
        assert states.index("rolling") < states.index("rolled")
        assert states.count("rolling") == states.count("rolled") == 1
        rolled = next(each for each in mark.health(name) if each.state == "rolled")
        assert (rolled.inst_id, rolled.verdict) == (after, LIVE)
        assert rolled.reason == f"{after} follows {before}"
        rolling = next(each for each in mark.health(name) if each.state == "rolling")
        assert (rolling.inst_id, rolling.verdict, rolling.reason) == (before, STALE, "rolling")
        assert this.instrument is not None
    check_nothing_is_live_after_its_expiry(mark, THIS, FIRST, venues)
    assert all(has == (verdict == LIVE) for name in (THIS, NEXT) for verdict, has in mark.tickers(name))
    assert {price.inst_id for price in mark.prices(SWAP)} == {"BTC-USD-SWAP"}
    assert "rolling" not in mark.reasons(SWAP)


def test_price_ends_with_its_contract_on_a_clock_that_just_runs(
    make_friday: Any, make_market: Callable[..., Market], log: Any
) -> None:
    venues = make_friday(1.5)
    market = make_market(venues, THIS)
    log.wait(market.get_ticker)
    mark = log.mark()
    log.wait(lambda: any(price.inst_id != FIRST and price.verdict == LIVE for price in mark.prices(THIS)))

    assert mark.reasons(THIS) == ["rolling"]
    assert mark.states(THIS) == ["rolling", "connected", "rolled"]
    check_nothing_is_live_after_its_expiry(mark, THIS, FIRST, venues)


def test_price_ends_by_the_clock_where_the_venue_says_nothing(
    make_friday: Any, make_market: Callable[..., Market], log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The notice of the expiry is lost, and the book goes on by mistake: the clock alone ends the price."""
    venues = make_friday(2.5)  # for a market to be live before
    okex = venues.simulated.venues["okex"]
    monkeypatch.setattr(okex, "_next_listing_ns", EXPIRY_NS + 3600 * NS_PER_S)
    market = make_market(venues, THIS)
    log.wait(market.get_ticker)
    mark = log.mark()
    log.wait(lambda: mark.reasons(THIS) == ["rolling"])
    ended_at = venues.state()["now_ns"]

    live = [price for price in mark.prices(THIS) if price.verdict == LIVE]
    assert max(price.ts_event for price in live) < EXPIRY_NS + NS_PER_S // 2  # a loaded machine is late
    assert ended_at - EXPIRY_NS < NS_PER_S
    assert market.get_ticker() is None


def test_expiry_of_a_far_contract_moves_no_clock(
    make_friday: Any, make_market: Callable[..., Market], log: Any
) -> None:
    """Contracts expire in the order of their dates: one that is said to go first is somebody's mistake."""
    venues = make_friday(3600)
    market = make_market(venues, NEXT)
    log.wait(market.get_ticker)
    mark = log.mark()
    okex = venues.simulated.venues["okex"]
    far = next(listing for listing in okex.listings.values() if listing.alias == "quarter")
    venues.call(okex._push_row, far, "expired", time.monotonic_ns())
    log.wait(lambda: len(mark.prices(NEXT)) > 20)

    assert mark.reasons(NEXT) == []
    assert market.price.inst_id == SECOND


def test_start_between_expiry_and_listing_waits(
    make_friday: Any, make_market: Callable[..., Market], log: Any
) -> None:
    venues = make_friday(-60)
    market = make_market(venues, NEXT)
    log.wait(lambda: market.price.reason == "rolling")
    assert market.instrument is None
    venues.clock(set=EXPIRY_NS + 620 * NS_PER_S)
    log.wait(market.get_ticker)

    assert market.price.inst_id == THIRD
    states = [each.state for each in log.health if each.state != "heartbeat"]
    assert states == ["connecting", "rolling", "connected", "live"]


def test_contract_in_preopen_is_not_taken_yet(
    make_friday: Any, make_market: Callable[..., Market], log: Any
) -> None:
    """From 08:05 the successor is listed as preopen, without a book."""
    venues = make_friday(-400)
    market = make_market(venues, NEXT)
    log.wait(lambda: venues.state()["venues"]["okex"]["counters"].get("rest", 0) >= 6)

    assert (market.price.verdict, market.price.reason) == (STALE, "rolling")
    assert venues.connections("okex") == []


def test_roll_goes_on_while_rest_is_down(
    make_friday: Any, make_market: Callable[..., Market], log: Any
) -> None:
    """It stays the roll: no other reason is said, and the expired contract is not connected to again."""
    venues = make_friday(2.5)  # for a market to be live before
    market = make_market(venues, THIS)
    log.wait(market.get_ticker)
    mark = log.mark()
    venues.inject("okex", "refuse")
    log.wait(lambda: market._face.reconnects >= 4)
    assert (market.price.verdict, market.price.reason) == (STALE, "rolling")
    venues.clear()
    log.wait(market.get_ticker)

    assert market.price.inst_id == SECOND
    assert mark.reasons(THIS) == ["rolling"]
    assert mark.states(THIS) == ["rolling", "connected", "rolled"]


def test_contract_that_is_suspended_at_its_end_rolls_as_any_other(
    make_friday: Any, make_market: Callable[..., Market], log: Any
) -> None:
    venues = make_friday(20)
    market = make_market(venues, THIS)
    log.wait(market.get_ticker)
    mark = log.mark()
    venues.inject("okex", "trading", mode="closed", inst_id=FIRST)
    log.wait(lambda: market.price.reason == "suspended")
    venues.clock(set=EXPIRY_NS + NS_PER_S)
    log.wait(market.get_ticker)

    assert market.price.inst_id == SECOND
    assert mark.reasons(THIS) == ["suspended", "rolling"]
    assert mark.states(THIS) == ["stale", "rolling", "connected", "rolled"]


def test_connection_lost_over_the_expiry_comes_back_on_the_next_contract(
    make_friday: Any, make_market: Callable[..., Market], log: Any
) -> None:
    venues = make_friday(20)
    market = make_market(venues, THIS)
    log.wait(market.get_ticker)
    mark = log.mark()
    venues.inject("okex", "refuse")
    venues.inject("okex", "drop")
    log.wait(lambda: market.price.reason == "connection lost")
    venues.clock(set=EXPIRY_NS + 700 * NS_PER_S)
    venues.clear()
    log.wait(market.get_ticker)

    assert market.price.inst_id == SECOND
    # REST may list the successor a moment before the websocket knows it; the next try is granted.
    assert mark.reasons(THIS)[0] == "connection lost"
    assert set(mark.reasons(THIS)) - {"subscription refused"} == {"connection lost", "rolling"}
    assert [mark.states(THIS).count(state) for state in ("rolling", "rolled")] == [1, 1]
    check_nothing_is_live_after_its_expiry(mark, THIS, FIRST, venues)


def test_notice_at_the_roll_goes_over_to_the_new_contract(
    make_friday: Any, make_market: Callable[..., Market], log: Any
) -> None:
    """The successor of the connection is about the successor of the contract."""
    venues = make_friday(20)
    market = make_market(venues, THIS)
    log.wait(market.get_ticker)
    mark = log.mark()
    venues.inject("okex", "slow", delay_ms=300, duration_s=0.5)
    venues.inject("okex", "notice", seconds=30)
    venues.clock(set=EXPIRY_NS + NS_PER_S)
    log.wait(lambda: market.price.inst_id == SECOND and market.get_ticker())

    assert set(mark.reasons(THIS)) == {"rolling"}
    assert mark.states(THIS).count("rolled") == 1
    check_nothing_is_live_after_its_expiry(mark, THIS, FIRST, venues)
    log.wait(lambda: len(venues.connections("okex")) == 1)
