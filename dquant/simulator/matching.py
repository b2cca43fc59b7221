"""Matching of clients' orders in one instrument: price, then time, against each other and the background.

Pure: an order comes in and takes what it reaches, best price first and at one price in the turn of the
queue, then rests, or says why its rest does not. Fills go to the book's listener one by one (``flow_book``),
which keeps ``Order.filled``; money, positions and events are not known here.

Prices are ticks, sizes lots. Kinds: ``LIMIT``; ``MARKET`` (to its protection price, the rest is cancelled);
``POST_ONLY`` (ends with ``Reason.POST_ONLY`` where it would take); ``IOC``; ``FOK`` (all at once or nothing).
A size amended down keeps the place in the queue; every other amendment starts again at the back.
"""

from dquant.simulator.flow import FlowMarket
from dquant.simulator.orders import BID, Kind, Order, Reason

_NEVER_REST = {Kind.MARKET: Reason.IOC, Kind.IOC: Reason.IOC, Kind.FOK: Reason.FOK}


class Matching:
    """The engine of one instrument, over the book of its market."""

    __slots__ = ("_market", "_resting")

    def __init__(self, market: FlowMarket) -> None:
        self._market = market
        self._resting: set[int] = set()

    def would_take(self, side: int, tick: int | None) -> bool:
        """Return whether an order at this price (None: any) would trade at once."""
        book = self._market.book
        best = book.best_ask if side == BID else book.best_bid
        return best is not None and (tick is None or (tick >= best if side == BID else tick <= best))

    def begin(self, now_ns: int) -> None:
        """Open a happening: what a request or timer changes in the book belongs together."""
        book = self._market.book
        book.begin(max(now_ns, book.ts), 1)

    def enter(self, order: Order) -> Reason | None:
        """Let an order in; return why what is left of it cannot rest, None where it rests or is filled."""
        book, kind, limit = self._market.book, order.request.kind, order.tick
        met_itself = False
        if kind is Kind.POST_ONLY:
            assert limit is not None
            if self.would_take(order.side, limit):
                return Reason.POST_ONLY
        elif kind is Kind.FOK and book.takeable(order, order.left, limit) < order.left:
            return Reason.FOK
        else:
            met_itself = self._market.take_for(order, limit)
        if not order.is_open or order.left == 0:
            return None
        if met_itself:
            return Reason.SELF_TRADE
        if kind in _NEVER_REST:
            return _NEVER_REST[kind]
        book.rest(order)
        self._resting.add(order.order_id)
        return None

    def leave(self, order: Order) -> None:
        """Take an order out of the book, if it is there."""
        if order.order_id in self._resting:
            self._resting.remove(order.order_id)
            self._market.book.withdraw(order)

    def filled_up(self, order: Order) -> None:
        """Forget an order that the book has filled to the end and let go by itself."""
        self._resting.discard(order.order_id)

    def resize(self, order: Order, lots: int) -> None:
        """Make an order smaller; it keeps its place."""
        if order.order_id in self._resting:
            self._market.book.shrink(order, lots)
        else:
            order.lots = lots

    def lots_before(self, order: Order) -> int:
        """Return what is to be filled before a resting order at its price."""
        assert order.tick is not None
        queue = self._market.book.queue(order.side, order.tick)
        return queue.lots_before(order) if queue is not None and order.order_id in self._resting else 0
