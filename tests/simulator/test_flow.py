"""The market behind the venues: repeatable, never crossed, as busy as a real one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dquant.simulator.flow import GRID_NS, Flow, MarketSpec
from dquant.simulator.flow_book import ASK, BID, TAP_LIMIT, FlowBook

START = 1_795_305_600_000_000_000
S = 1_000_000_000
MS = 1_000_000


def flow_of(seed: int = 1, **changes):
    flow = Flow(seed, START)
    market = flow.add(MarketSpec("X", coin="BTC", tick="0.1", lot="0.1", **changes))
    return flow, market


def history(seed: int, steps: list[int]):
    flow, market = flow_of(seed)
    tap = market.book.tap()
    now = START
    for step in steps:
        now += step
        flow.advance(now)
    return tap.take_changes(), tap.take_trades(), market.mark, market.index, market.funding


def test_the_same_seed_gives_the_same_market():
    assert history(3, [100 * MS] * 20) == history(3, [100 * MS] * 20)
    assert history(3, [100 * MS] * 20) != history(4, [100 * MS] * 20)


def test_what_happens_does_not_depend_on_how_often_time_is_told():
    assert history(3, [5 * MS] * 200) == history(3, [250 * MS, 3 * MS, 747 * MS])


def test_one_instrument_is_the_same_whoever_else_is_listed():
    flow, market = flow_of()
    other_flow, other = flow_of()
    other_flow.add(MarketSpec("Y", coin="BTC", tick="0.1", lot="0.1"))
    for each in (flow, other_flow):
        each.advance(START + 2 * S)
    assert market.book.top(BID) == other.book.top(BID)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32))
def test_a_book_is_never_crossed_and_keeps_its_depth(seed):
    flow, market = flow_of(seed, depth=420, rate=300.0)
    book = market.book
    for step in range(60):
        flow.advance(START + step * 50 * MS)
        assert book.best_bid < book.best_ask
        assert min(book.depth(BID), book.depth(ASK)) >= 400


def test_changes_replayed_from_the_first_picture_give_the_book():
    flow, market = flow_of()
    levels = {side: dict(market.book.top(side)) for side in (BID, ASK)}
    tap = market.book.tap()
    flow.advance(START + 5 * S)
    for change in tap.take_changes():
        before = levels[change.side].get(change.tick, (0, 0))[0]
        assert change.lots_before == before
        if change.lots:
            levels[change.side][change.tick] = (change.lots, change.orders)
        else:
            del levels[change.side][change.tick]
    for side in (BID, ASK):
        assert levels[side] == market.book.top(side)


def test_it_is_about_as_busy_as_the_real_thing():
    """Some seven changed levels in 100 ms, most of them near the top, trades among them."""
    flow, market = flow_of(rate=60.0)
    tap = market.book.tap()
    flow.advance(START + 9 * S)
    changes, trades = tap.take_changes(), tap.take_trades()
    assert 40 < len(changes) / 9 < 160
    assert 2 < len(trades) / 9 < 60
    assert len({change.sequence for change in changes}) > len(changes) / 4


def test_trades_take_what_rests_and_count_their_fills():
    book = FlowBook(sequence=10, last_trade_id=100)
    book.begin(START, 5)
    book.set_level(ASK, 11, 4, 2)
    book.set_level(ASK, 12, 6, 3)
    tap = book.tap()
    book.begin(START + 1, 2)
    first, second = book.take(BID, 8, limit_tick=12)
    assert (first.tick, first.lots, first.fills, first.trade_id) == (11, 4, 2, 102)
    assert (second.tick, second.lots) == (12, 4)
    assert first.sequence == second.sequence == book.sequence == 17
    assert book.best_ask == 12
    assert book.level(ASK, 12) == (2, 1)
    assert tap.take_trades() == [first, second]


def test_a_taker_stops_at_its_limit():
    book = FlowBook()
    book.set_level(BID, 10, 5, 1)
    assert book.take(ASK, 3, limit_tick=11) == []


def test_a_level_that_would_cross_is_refused():
    book = FlowBook()
    assert book.set_level(BID, 10, 5, 1)
    assert not book.set_level(ASK, 10, 5, 1)
    assert not book.set_level(ASK, 9, 5, 1)
    assert book.best_ask is None


def test_a_tap_that_nobody_empties_stays_bounded_and_says_so():
    book = FlowBook()
    tap = book.tap()
    for lots in range(1, TAP_LIMIT + 3):
        book.set_level(BID, 10, lots, 1)
    assert tap.overflowed
    assert tap.lost == TAP_LIMIT
    assert len(tap.take_changes()) == 2
    assert not tap.overflowed


def test_a_leap_in_time_lays_whole_new_books():
    flow, market = flow_of()
    sequence = market.book.sequence
    flow.advance(START + 3 * 86_400 * S)
    assert market.book.best_bid < market.book.best_ask
    assert market.book.depth(BID) >= 400
    assert market.book.sequence > sequence
    assert flow.now_ns == START + 3 * 86_400 * S


def test_the_basis_of_a_future_shrinks_towards_its_expiry():
    expiry = START + 90 * 86_400 * S
    flow, market = flow_of(carry=0.06, expiry_ns=expiry, basis_spread_bp=0.0)
    far = market.mark / market.index - 1
    flow.advance(expiry - 60 * S)
    near = market.mark / market.index - 1
    assert far == pytest.approx(0.06 * 90 / 365, rel=0.01)
    assert abs(near) < 1e-5


def test_funding_settles_every_eight_hours_from_its_first_hour():
    flow, market = flow_of(funding_hour=4)
    first = market.funding
    assert first is not None
    assert first.time % (86_400 * S) // (3600 * S) in (4, 12, 20)
    flow.advance(first.time - 2 * S)
    flow.advance(first.time + 1 * S)
    after = market.funding
    assert after is not None
    assert after.prev_time == first.time
    assert after.time == first.next_time
    assert abs(after.rate) <= 0.00375


def test_an_instrument_is_listed_once_and_on_a_known_coin():
    flow, _ = flow_of()
    with pytest.raises(ValueError, match="listed already"):
        flow.add(MarketSpec("X", coin="BTC", tick="0.1", lot="0.1"))
    with pytest.raises(ValueError, match="unknown coin"):
        flow.add(MarketSpec("Z", coin="DOGE", tick="0.1", lot="0.1"))


def test_prices_may_move_in_longer_strides_and_come_out_at_the_same_time():
    """A stepped day takes them: fewer moves, the rest in steps of the grid, the same with the same seed."""

    def run(stride_ns):
        flow, moves = Flow(7, START), []
        coin = flow.coins["BTC"]
        flow.stride_ns = stride_ns
        for _ in range(3):
            flow.advance(flow.now_ns + 1_015_000_000)
            moves.append(coin.price)
        return flow.now_ns, moves

    end, fine = run(GRID_NS)
    coarse = run(10 * GRID_NS)
    assert coarse == run(10 * GRID_NS)
    assert coarse[0] == end == START + 3 * 1_015_000_000
    assert coarse[1] != fine
