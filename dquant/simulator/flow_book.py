"""A simulated order book in whole ticks and lots, and the taps that venues read it through.

Everything outside sees only this: ``best``, ``top``, ``sequence``, ``revision``, ``tap`` for reading, and
``set_level`` (the background's size at a price) and ``take`` for changing. Clients' orders (``rest``,
``withdraw``, ``shrink``) share the levels with the background: a level's size is what both have there, and
a price where a client waits has a ``Queue``. Without clients nothing of that is looked at.

Sides are ``BID`` and ``ASK``. A level is ``(tick, lots, orders)``. A book is never crossed: ``set_level``
refuses a price on the wrong side of the other side's best.
"""

from bisect import bisect_left
from typing import NamedTuple, Protocol

from dquant.simulator.orders import ASK, BID, Order, SelfTrade
from dquant.simulator.queues import Queue

__all__ = ["ASK", "BID", "TAP_LIMIT", "FillListener", "FlowBook", "LevelChange", "Tap", "Trade"]

TAP_LIMIT = 50_000  # changes a tap holds before it says "read the whole book"


class LevelChange(NamedTuple):
    """One price level that changed; ``lots`` 0 is a level that went, ``lots_before`` 0 one that came."""

    ts: int  # ns, virtual
    sequence: int  # changes of one happening share it and belong into one frame
    side: int
    tick: int
    lots: int
    orders: int
    lots_before: int


class Trade(NamedTuple):
    """What one taker order took at one price; a sweep makes several with one ``sequence``."""

    ts: int  # ns, virtual
    sequence: int
    trade_id: int  # of the last of the merged maker fills; theirs are trade_id - fills + 1 … trade_id
    side: int  # of the taker: BID bought, ASK sold
    tick: int
    lots: int
    fills: int  # maker orders filled
    parts: tuple[tuple[int, int], ...] = ()  # (trade_id, lots) of each fill where a client took or waited


class Tap:
    """One consumer's queue of what happened since it looked last.

    Bounded: past ``TAP_LIMIT`` changes they are dropped, counted in ``lost``, and ``overflowed`` says that
    the book has to be read anew (``take_changes`` clears it).
    """

    __slots__ = ("_changes", "_trades", "lost", "overflowed", "wants_changes")

    def __init__(self, wants_changes: bool = True) -> None:
        self.wants_changes = wants_changes
        self._changes: list[LevelChange] = []
        self._trades: list[Trade] = []
        self.lost = 0
        self.overflowed = False

    def add_change(self, change: LevelChange) -> None:
        """Note one change; the book calls this."""
        if not self.wants_changes:
            return
        if len(self._changes) >= TAP_LIMIT:
            self.lost += len(self._changes)
            self._changes.clear()
            self.overflowed = True
        self._changes.append(change)

    def add_trade(self, trade: Trade) -> None:
        """Note one trade; the book calls this."""
        if len(self._trades) >= TAP_LIMIT:
            self.lost += len(self._trades)
            self._trades.clear()
        self._trades.append(trade)

    def take_changes(self) -> list[LevelChange]:
        """Return the level changes in the order they happened, and forget them."""
        self.overflowed = False
        if not self._changes:
            return []
        changes, self._changes = self._changes, []
        return changes

    def take_trades(self) -> list[Trade]:
        """Return the trades in the order they happened, and forget them."""
        if not self._trades:
            return []
        trades, self._trades = self._trades, []
        return trades


class FillListener(Protocol):
    """Whose orders wait in the book; told of each fill at once, in order."""

    def filled(self, maker: Order | None, taker: Order | None, tick: int, lots: int, trade_id: int) -> None:
        """Take note of one fill; None is the background. The maker's place in the book is taken care of."""

    def met_itself(self, maker: Order) -> None:
        """Cancel this order: another one of its owner has reached it."""


class FlowBook:
    """Price levels of one instrument.

    ``revision`` counts every change by one; ``sequence`` grows with every happening by an uneven step, as
    a venue's own numbering does. Both only grow.
    """

    __slots__ = (
        "_levels",
        "_lonely",
        "_queues",
        "_taps",
        "_ticks",
        "last_trade_id",
        "listener",
        "revision",
        "sequence",
        "taker_met_itself",
        "ts",
    )

    def __init__(self, sequence: int = 0, last_trade_id: int = 0) -> None:
        # Prices ascend on both sides: the best bid is the last, the best ask the first.
        self._ticks: tuple[list[int], list[int]] = ([], [])
        self._levels: tuple[dict[int, tuple[int, int]], dict[int, tuple[int, int]]] = ({}, {})
        self._taps: list[Tap] = []
        # Where clients wait, and the prices where nobody but them does.
        self._queues: tuple[dict[int, Queue], dict[int, Queue]] = ({}, {})
        self._lonely: tuple[set[int], set[int]] = (set(), set())
        self.listener: FillListener | None = None
        self.taker_met_itself = False  # how the last ``take`` ended
        self.revision = 0
        self.sequence = sequence
        self.last_trade_id = last_trade_id
        self.ts = 0  # ns, virtual: when it changed last

    # Reading

    @property
    def best_bid(self) -> int | None:
        """The highest bid, in ticks."""
        return self._ticks[BID][-1] if self._ticks[BID] else None

    @property
    def best_ask(self) -> int | None:
        """The lowest ask, in ticks."""
        return self._ticks[ASK][0] if self._ticks[ASK] else None

    def depth(self, side: int) -> int:
        """Return the number of levels of one side."""
        return len(self._ticks[side])

    def tick_at(self, side: int, index: int) -> int:
        """Return the price of the level ``index`` places behind the best (0)."""
        return self._ticks[side][index] if side == ASK else self._ticks[side][-1 - index]

    def level(self, side: int, tick: int) -> tuple[int, int]:
        """Return ``(lots, orders)`` at a price; ``(0, 0)`` where nothing rests."""
        return self._levels[side].get(tick, (0, 0))

    def ticks(self, side: int, count: int | None = None) -> list[int]:
        """Return the best prices of one side, best first; all without a count."""
        own = self._ticks[side]
        if side == ASK:
            return own[:count]
        best = own if count is None else own[-count:]
        return best[::-1]

    def top(self, side: int, count: int | None = None) -> dict[int, tuple[int, int]]:
        """Return the best levels of one side, best first: ``{tick: (lots, orders)}``."""
        ticks = self.ticks(side, count)
        return dict(zip(ticks, map(self._levels[side].__getitem__, ticks), strict=True))

    def queue(self, side: int, tick: int) -> Queue | None:
        """Return who waits at a price where a client does."""
        return self._queues[side].get(tick)

    def background_depth(self, side: int) -> int:
        """Return the number of levels of one side that the background has something at."""
        return len(self._ticks[side]) - len(self._lonely[side])

    def is_lonely(self, side: int, tick: int) -> bool:
        """Return whether only clients have something at a price."""
        return tick in self._lonely[side]

    def far_tick(self, side: int) -> int:
        """Return the background's price that is farthest from the best."""
        own, lonely = self._ticks[side], self._lonely[side]
        if not lonely:
            return own[0] if side == BID else own[-1]
        return next(tick for tick in (own if side == BID else reversed(own)) if tick not in lonely)

    def takeable(self, order: Order, lots: int, limit_tick: int | None) -> int:
        """Return how much of these lots an order could take at once up to the limit; its own do not count."""
        maker, found = 1 - order.side, 0
        for tick in self.ticks(maker):
            if found >= lots or not _reaches(order.side, tick, limit_tick):
                break
            queue = self._queues[maker].get(tick)
            if queue is None:
                found += self._levels[maker][tick][0]
                continue
            for item in queue.line():
                if isinstance(item, int):
                    found += item
                elif item.owner != order.owner or order.request.self_trade is SelfTrade.ALLOW:
                    found += item.left
                elif order.request.self_trade is not SelfTrade.CANCEL_MAKER:
                    return min(found, lots)
        return min(found, lots)

    def tap(self, wants_changes: bool = True) -> Tap:
        """Open a queue of changes and trades, or of trades alone, from now on."""
        tap = Tap(wants_changes)
        self._taps.append(tap)
        return tap

    def close_tap(self, tap: Tap) -> None:
        """Stop filling a tap."""
        self._taps.remove(tap)

    # Changing

    def begin(self, ts: int, step: int) -> None:
        """Open the next happening: what changes until the next call belongs together."""
        self.ts = ts
        self.sequence += step

    def set_level(self, side: int, tick: int, lots: int, orders: int) -> bool:
        """Let the background have this much at a price (0: nothing), beside what clients have there.

        What would cross the book is refused: False, as where nothing changes.
        """
        queue = self._queues[side].get(tick) if self._queues[side] else None
        if queue is None:
            return self._put(side, tick, lots, orders)
        if (max(lots, 0), orders) == (queue.background, queue.background_orders):
            return False
        queue.set_background(max(lots, 0), orders)
        return self._refresh(side, tick, queue)

    def rest(self, order: Order) -> None:
        """Let a client's order wait at its price, behind what is there; it must not cross."""
        side, tick = order.side, order.tick
        assert tick is not None
        queue = self._queues[side].get(tick)
        if queue is None:
            queue = self._queues[side][tick] = Queue(*self.level(side, tick))
        queue.add(order)
        self._refresh(side, tick, queue)

    def withdraw(self, order: Order) -> None:
        """Take a client's order out of the book."""
        assert order.tick is not None
        queue = self._queues[order.side][order.tick]
        queue.remove(order)
        self._refresh(order.side, order.tick, queue)

    def shrink(self, order: Order, lots: int) -> None:
        """Make a client's order smaller, in its place; ``lots`` is its new size, filled ones included."""
        assert order.tick is not None
        queue = self._queues[order.side][order.tick]
        queue.client_lots -= order.lots - lots
        order.lots = lots
        self._refresh(order.side, order.tick, queue)

    def _refresh(self, side: int, tick: int, queue: Queue) -> bool:
        """Bring a level up to its queue."""
        if not queue.client_orders:
            self._queues[side].pop(tick, None)
        if queue.client_orders and not queue.background:
            self._lonely[side].add(tick)
        else:
            self._lonely[side].discard(tick)
        return self._put(side, tick, queue.lots, queue.orders)

    def _put(self, side: int, tick: int, lots: int, orders: int) -> bool:
        ticks, levels = self._ticks[side], self._levels[side]
        before = levels.get(tick)
        if lots <= 0:
            if before is None:
                return False
            del levels[tick]
            del ticks[bisect_left(ticks, tick)]
            orders = 0
        elif before is None:
            other = self._ticks[1 - side]
            if other and (tick >= other[0] if side == BID else tick <= other[-1]):
                return False
            ticks.insert(bisect_left(ticks, tick), tick)
            levels[tick] = (lots, orders)
        elif before == (lots, orders):
            return False
        else:
            levels[tick] = (lots, orders)
        self.revision += 1
        if self._taps:
            was = before[0] if before is not None else 0
            change = LevelChange(self.ts, self.sequence, side, tick, max(lots, 0), orders, was)
            for tap in self._taps:
                tap.add_change(change)
        return True

    def take(
        self, side: int, lots: int, limit_tick: int | None = None, taker: Order | None = None
    ) -> list[Trade]:
        """Let a taker buy (``BID``) or sell (``ASK``) up to this much at the limit or better, no more.

        ``taker`` is a client's order, None the background. It stops early where the taker meets itself and
        its policy wants it to stop; the listener hears of every fill of a client.
        """
        maker = ASK if side == BID else BID
        trades: list[Trade] = []
        queues = self._queues[maker]
        stopped = False
        while lots > 0 and self._ticks[maker] and not stopped:
            tick = self._ticks[maker][0] if maker == ASK else self._ticks[maker][-1]
            if not _reaches(side, tick, limit_tick) or (taker is not None and not taker.is_open):
                break
            queue = queues.get(tick) if queues else None
            parts: list[tuple[int, int]] = []
            if queue is not None:
                filled, stopped = self._take_queue(maker, tick, queue, lots, taker, parts)
                taken = sum(part for _trade_id, part in parts)
            else:
                resting, orders = self._levels[maker][tick]
                taken = min(lots, resting)
                left = resting - taken
                # First in, first out: whole orders go first, the last of them perhaps in part.
                filled = orders if not left else max(1, orders * taken // resting)
                self._put(maker, tick, left, max(1, orders - filled) if left else 0)
                self.last_trade_id += filled
                if taker is not None and self.listener is not None:
                    self.listener.filled(None, taker, tick, taken, self.last_trade_id)
                    parts.append((self.last_trade_id, taken))
            if taken:
                trade_id = self.last_trade_id
                trades.append(
                    Trade(self.ts, self.sequence, trade_id, side, tick, taken, filled, tuple(parts))
                )
            lots -= taken
        self.taker_met_itself = stopped
        for tap in self._taps:
            for trade in trades:
                tap.add_trade(trade)
        return trades

    def _take_queue(
        self,
        maker: int,
        tick: int,
        queue: Queue,
        lots: int,
        taker: Order | None,
        parts: list[tuple[int, int]],
    ) -> tuple[int, bool]:
        """Fill one price in turn, part by part; return orders filled, and whether the taker stops here."""
        # The listener may cancel and cut orders while it hears of a fill, so the line is read anew each time.
        listener = self.listener
        assert listener is not None
        total = fills = 0
        while (head := queue.head) is not None:
            wanted = lots - total if taker is None else min(lots - total, taker.left)
            if wanted <= 0:
                break
            if isinstance(head, int):
                taken, filled = queue.take_background(wanted)
                order = None
            elif (
                taker is not None
                and head.owner == taker.owner
                and (policy := taker.request.self_trade) is not SelfTrade.ALLOW
            ):
                if policy is not SelfTrade.CANCEL_TAKER:
                    listener.met_itself(head)
                if policy is not SelfTrade.CANCEL_MAKER:
                    return fills, True
                continue
            else:
                taken, filled, order = queue.take_order(wanted), 1, head
            total += taken
            fills += filled
            self.last_trade_id += filled
            parts.append((self.last_trade_id, taken))
            self._refresh(maker, tick, queue)
            if order is not None or taker is not None:
                listener.filled(order, taker, tick, taken, self.last_trade_id)
        return fills, False


def _reaches(side: int, tick: int, limit_tick: int | None) -> bool:
    """Return whether a taker of this side with this limit trades at a price."""
    return limit_tick is None or (tick <= limit_tick if side == BID else tick >= limit_tick)
