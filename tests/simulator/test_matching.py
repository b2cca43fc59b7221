"""Orders against each other and the background: price, then time, as a naive reading of the rule says."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dquant.simulator.flow import Flow, FlowMarket, MarketSpec
from dquant.simulator.matching import Matching
from dquant.simulator.orders import ASK, BID, Kind, Order, OrderRequest, Reason, SelfTrade

START = 1_795_305_600_000_000_000
S = 1_000_000_000


@dataclass
class Listener:
    """Keeps ``Order.filled``, as an exchange does, and writes down what it hears."""

    fills: list[tuple[int, int, int, int]] = field(
        default_factory=list
    )  # maker, taker, tick, lots; 0: background
    met: list[int] = field(default_factory=list)
    matching: Matching | None = None

    def filled(self, maker, taker, tick, lots, trade_id):
        for order in (maker, taker):
            if order is not None:
                order.filled += lots
                assert order.filled <= order.lots
                if order.left == 0:
                    order.finished_ns = START
                    self.matching.filled_up(order)
        self.fills.append((maker.order_id if maker else 0, taker.order_id if taker else 0, tick, lots))

    def met_itself(self, maker):
        self.matching.leave(maker)
        maker.finished_ns = START
        self.met.append(maker.order_id)


class Bench:
    """One instrument whose background a test lays itself."""

    def __init__(self):
        flow = Flow(1, START)
        self.market = flow.add(MarketSpec("X", coin="BTC", tick="0.1", lot="1"))
        self.book = self.market.book
        for side in (BID, ASK):
            for tick in self.book.ticks(side):
                self.book.set_level(side, tick, 0, 0)
        self.matching = Matching(self.market)
        self.listener = self.book.listener = Listener(matching=self.matching)
        self._ids = 0

    def order(self, side, tick, lots, kind=Kind.LIMIT, owner="", self_trade=SelfTrade.CANCEL_MAKER):
        self._ids += 1
        request = OrderRequest("X", side, lots, kind, tick, self_trade=self_trade)
        name = owner or f"account {self._ids}"
        return Order(self._ids, name, name, request, START)

    def enter(self, *args, **more):
        order = self.order(*args, **more)
        return order, self.matching.enter(order)


def test_the_better_price_is_taken_first_and_at_one_price_who_came_first():
    bench = Bench()
    late_but_better = 99
    first, _ = bench.enter(ASK, 100, 5)
    second, _ = bench.enter(ASK, 100, 5)
    third, _ = bench.enter(ASK, late_but_better, 5)
    taker, rest = bench.enter(BID, 100, 12)
    assert rest is None
    assert [fill[0] for fill in bench.listener.fills] == [third.order_id, first.order_id, second.order_id]
    assert [fill[3] for fill in bench.listener.fills] == [5, 5, 2]
    assert (second.left, taker.left) == (3, 0)


def test_an_order_waits_behind_the_background_that_was_there_and_before_what_comes_later():
    bench = Bench()
    bench.book.set_level(BID, 100, 30, 3)
    order, _ = bench.enter(BID, 100, 10)
    bench.book.set_level(BID, 100, 50, 5)  # 20 more come, behind it
    assert bench.matching.lots_before(order) == 30
    assert bench.book.level(BID, 100) == (60, 6)
    bench.book.take(ASK, 35, 100)
    assert order.filled == 5
    bench.book.take(ASK, 10, 100)
    assert (order.filled, order.left) == (10, 0)
    assert bench.book.level(BID, 100)[0] == 15


def test_background_that_goes_away_leaves_from_the_back():
    bench = Bench()
    bench.book.set_level(BID, 100, 30, 3)
    order, _ = bench.enter(BID, 100, 10)
    bench.book.set_level(BID, 100, 50, 5)
    bench.book.set_level(BID, 100, 25, 2)
    assert bench.matching.lots_before(order) == 25
    bench.book.set_level(BID, 100, 0, 0)
    assert bench.matching.lots_before(order) == 0
    assert bench.book.level(BID, 100) == (10, 1)


def test_a_smaller_size_keeps_the_place_and_the_level_shows_it():
    bench = Bench()
    first, _ = bench.enter(BID, 100, 10)
    bench.enter(BID, 100, 10)
    bench.matching.resize(first, 4)
    assert bench.book.level(BID, 100) == (14, 2)
    bench.enter(ASK, 100, 5)
    assert [fill[0] for fill in bench.listener.fills] == [1, 2]


def test_a_post_only_order_that_would_take_is_turned_away():
    bench = Bench()
    bench.book.set_level(ASK, 101, 5, 1)
    assert bench.enter(BID, 101, 1, Kind.POST_ONLY)[1] is Reason.POST_ONLY
    assert bench.enter(BID, 100, 1, Kind.POST_ONLY)[1] is None
    assert bench.book.level(ASK, 101) == (5, 1)


def test_an_immediate_order_takes_what_it_can_and_its_rest_goes():
    bench = Bench()
    bench.book.set_level(ASK, 101, 5, 1)
    order, rest = bench.enter(BID, 101, 8, Kind.IOC)
    assert (order.filled, rest) == (5, Reason.IOC)
    assert bench.book.best_bid is None


def test_a_market_order_stops_at_its_protection_price():
    bench = Bench()
    bench.book.set_level(ASK, 101, 5, 1)
    bench.book.set_level(ASK, 110, 5, 1)
    order, rest = bench.enter(BID, 105, 8, Kind.MARKET)
    assert (order.filled, rest) == (5, Reason.IOC)
    assert bench.book.best_ask == 110


def test_fill_or_kill_takes_all_or_leaves_the_book_alone():
    bench = Bench()
    bench.book.set_level(ASK, 101, 5, 1)
    bench.enter(ASK, 102, 5)
    order, rest = bench.enter(BID, 102, 11, Kind.FOK)
    assert (order.filled, rest) == (0, Reason.FOK)
    assert bench.book.level(ASK, 101) == (5, 1)
    order, rest = bench.enter(BID, 102, 10, Kind.FOK)
    assert (order.filled, rest) == (10, None)


@pytest.mark.parametrize(
    ("policy", "met", "filled", "rest"),
    [
        (SelfTrade.CANCEL_MAKER, [1], 5, None),
        (SelfTrade.CANCEL_TAKER, [], 0, Reason.SELF_TRADE),
        (SelfTrade.CANCEL_BOTH, [1], 0, Reason.SELF_TRADE),
        (SelfTrade.ALLOW, [], 8, None),
    ],
)
def test_an_owner_does_not_trade_with_itself(policy, met, filled, rest):
    bench = Bench()
    bench.enter(ASK, 100, 5, owner="me")
    bench.enter(ASK, 100, 5)
    order, why = bench.enter(BID, 100, 8, owner="me", self_trade=policy)
    assert bench.listener.met == met
    assert (order.filled, why) == (filled, rest)
    if policy is SelfTrade.CANCEL_MAKER:
        assert bench.book.level(BID, 100) == (3, 1)


def test_the_prints_of_clients_trades_are_public():
    bench = Bench()
    tap = bench.book.tap()
    bench.book.set_level(ASK, 100, 4, 2)
    bench.enter(ASK, 100, 5)
    bench.enter(BID, 100, 7)
    (trade,) = tap.take_trades()
    assert (trade.side, trade.tick, trade.lots, trade.fills) == (BID, 100, 7, 3)
    assert bench.market.trades[-1] == trade


def test_clients_who_empty_a_side_see_it_come_back():
    flow = Flow(1, START)
    market = flow.add(MarketSpec("X", coin="BTC", tick="0.1", lot="1"))
    matching = Matching(market)
    market.book.listener = Listener(matching=matching)
    request = OrderRequest("X", BID, 10**9, Kind.MARKET)
    assert matching.enter(Order(1, "me", "me", request, START)) is Reason.IOC
    assert market.book.best_ask is None
    flow.advance(START + 5 * S)
    assert market.book.best_bid < market.book.best_ask
    assert market.book.depth(ASK) >= 400


def test_an_order_worth_taking_is_taken_by_the_background_in_time():
    flow = Flow(1, START)
    market = flow.add(MarketSpec("X", coin="BTC", tick="0.1", lot="1", size=10.0))
    matching = Matching(market)
    listener = market.book.listener = Listener(matching=matching)
    order = Order(1, "me", "me", OrderRequest("X", ASK, 500, Kind.LIMIT, market.book.best_bid + 1), START)
    order.tick -= 40  # it sells well below what everybody thinks it is worth
    taken_at_once = matching.enter(order)
    assert taken_at_once is None
    assert 0 < order.filled < 500
    flow.advance(START + 9 * S)
    assert order.left == 0
    assert sum(fill[3] for fill in listener.fills if fill[0] == 1) > 0


def test_a_leap_in_time_trades_with_whoever_is_on_its_way():
    flow = Flow(2, START)
    market = flow.add(MarketSpec("X", coin="BTC", tick="0.1", lot="1"))
    matching = Matching(market)
    market.book.listener = Listener(matching=matching)
    far = Order(1, "me", "me", OrderRequest("X", BID, 7, Kind.LIMIT, 1_000), START)
    matching.enter(far)
    rest = [
        Order(2 + side, "me", "me", OrderRequest("X", side, 7, Kind.LIMIT, tick), START)
        for side, tick in ((BID, market.book.best_bid), (ASK, market.book.best_ask))
    ]
    for order in rest:
        matching.enter(order)
    flow.advance(START + 86_400 * S)
    assert market.book.best_bid < market.book.best_ask
    assert sorted(order.filled for order in rest) in ([0, 7], [7, 7])
    assert far.filled == 0
    assert market.book.level(BID, 1_000) == (7, 1)


# Against a naive reading of price-time priority


class NaiveBook:
    """A list of orders; the next maker is looked up among all of them each time."""

    def __init__(self):
        self.resting = []  # [order id, side, tick, left]
        self.fills = []

    def enter(self, order_id, side, tick, lots, kind):
        def makers():
            found = [
                row
                for row in self.resting
                if row[1] != side and (row[2] <= tick if side == BID else row[2] >= tick)
            ]
            return sorted(found, key=lambda row: row[2] if side == BID else -row[2])  # stable: time

        if kind is Kind.POST_ONLY and makers():
            return
        if kind is Kind.FOK and sum(row[3] for row in makers()) < lots:
            return
        while lots and (found := makers()):
            maker = found[0]
            taken = min(lots, maker[3])
            self.fills.append((maker[0], order_id, maker[2], taken))
            maker[3] -= taken
            lots -= taken
            if not maker[3]:
                self.resting.remove(maker)
        if lots and kind in (Kind.LIMIT, Kind.POST_ONLY):
            self.resting.append([order_id, side, tick, lots])

    def cancel(self, order_id):
        self.resting = [row for row in self.resting if row[0] != order_id]

    def shrink(self, order_id, left):
        for row in self.resting:
            if row[0] == order_id:
                row[3] = min(row[3], left)


actions = st.one_of(
    st.tuples(
        st.just("enter"),
        st.sampled_from([BID, ASK]),
        st.integers(95, 105),
        st.integers(1, 20),
        st.sampled_from([Kind.LIMIT, Kind.LIMIT, Kind.LIMIT, Kind.POST_ONLY, Kind.IOC, Kind.FOK]),
    ),
    st.tuples(st.just("cancel"), st.integers(1, 30)),
    st.tuples(st.just("shrink"), st.integers(1, 30), st.integers(1, 10)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(actions, max_size=40))
def test_fills_are_those_of_a_naive_engine(script):
    bench, naive, orders = Bench(), NaiveBook(), {}
    for verb, *rest in script:
        if verb == "enter":
            side, tick, lots, kind = rest
            order, _ = bench.enter(side, tick, lots, kind)
            orders[order.order_id] = order
            naive.enter(order.order_id, side, tick, lots, kind)
        elif any(row[0] == rest[0] for row in naive.resting):
            order = orders[rest[0]]
            if verb == "cancel":
                bench.matching.leave(order)
                naive.cancel(order.order_id)
            elif rest[1] < order.left:
                bench.matching.resize(order, order.filled + rest[1])
                naive.shrink(order.order_id, rest[1])
        assert bench.listener.fills == naive.fills
        book = bench.book
        levels = {}
        for _, side, tick, left in naive.resting:
            lots, count = levels.get((side, tick), (0, 0))
            levels[side, tick] = lots + left, count + 1
        assert levels == {
            (side, tick): level for side in (BID, ASK) for tick, level in book.top(side).items()
        }
        assert book.best_bid is None or book.best_ask is None or book.best_bid < book.best_ask


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**16),
    st.lists(
        st.tuples(st.sampled_from([BID, ASK]), st.integers(-60, 60), st.integers(1, 5_000)), max_size=12
    ),
    st.booleans(),
)
def test_a_living_book_with_clients_is_never_crossed_and_its_changes_add_up(seed, asks, leaps):
    flow = Flow(seed, START)
    market: FlowMarket = flow.add(MarketSpec("X", coin="BTC", tick="0.1", lot="1", rate=200.0))
    matching = Matching(market)
    market.book.listener = Listener(matching=matching)
    levels = {side: dict(market.book.top(side)) for side in (BID, ASK)}
    tap, now, orders = market.book.tap(), START, []
    for number, (side, away, lots) in enumerate(asks, 1):
        mid = market.book.best_bid
        orders.append(
            Order(
                number, f"{number}", f"{number}", OrderRequest("X", side, lots, Kind.LIMIT, mid + away), now
            )
        )
        matching.enter(orders[-1])
        now += 30 * S if leaps and number % 4 == 0 else S // 10
        flow.advance(now)
        assert market.book.best_bid < market.book.best_ask
    for change in tap.take_changes():
        before = levels[change.side].get(change.tick, (0, 0))[0]
        assert change.lots_before == before
        if change.lots:
            levels[change.side][change.tick] = (change.lots, change.orders)
        else:
            del levels[change.side][change.tick]
    for side in (BID, ASK):
        assert levels[side] == market.book.top(side)
    for order in orders:
        assert 0 <= order.filled <= order.lots
        if order.is_open:
            assert market.book.level(order.side, order.tick)[0] >= order.left


def test_without_clients_nothing_changes():
    """A keeper with nothing to do and a client who came and went leave the background as it was."""

    class Keeper:
        def next_due(self):
            return None

        def advance(self, now_ns):
            pass

    pictures = []
    for with_keeper in (False, True):
        flow = Flow(9, START)
        market = flow.add(MarketSpec("X", coin="BTC", tick="0.1", lot="1"))
        if with_keeper:
            flow.keepers.append(Keeper())
        tap = market.book.tap()
        flow.advance(START + 3 * S)
        flow.advance(START + 60 * S)
        pictures.append((tap.take_changes(), tap.take_trades(), market.book.sequence))
    assert pictures[0] == pictures[1]


def test_a_view_of_an_order_is_a_picture_that_stays():
    bench = Bench()
    order = bench.order(BID, 100, 10)
    view = order.view()
    order.filled = 4
    assert (view.filled, view.left) == (0, 10)
