"""A simulated order book in whole ticks and lots, and the taps that venues read it through.

Everything outside sees only this: ``best``, ``top``, ``sequence``, ``revision``, ``tap`` for reading, and
``set_level``, ``take`` for changing. What stands behind may become a matching engine without the
venues noticing.

Sides are ``BID`` and ``ASK``. A level is ``(tick, lots, orders)``. A book is never crossed: ``set_level``
refuses a price on the wrong side of the other side's best.
"""

from bisect import bisect_left
from typing import NamedTuple

BID, ASK = 0, 1
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


class FlowBook:
    """Price levels of one instrument.

    ``revision`` counts every change by one; ``sequence`` grows with every happening by an uneven step, as
    a venue's own numbering does. Both only grow.
    """

    __slots__ = ("_levels", "_taps", "_ticks", "last_trade_id", "revision", "sequence", "ts")

    def __init__(self, sequence: int = 0, last_trade_id: int = 0) -> None:
        # Prices ascend on both sides: the best bid is the last, the best ask the first.
        self._ticks: tuple[list[int], list[int]] = ([], [])
        self._levels: tuple[dict[int, tuple[int, int]], dict[int, tuple[int, int]]] = ({}, {})
        self._taps: list[Tap] = []
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
        """Let this much rest at a price (0: nothing); refuse, and return False, what would cross the book."""
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

    def take(self, side: int, lots: int, limit_tick: int | None = None) -> list[Trade]:
        """Let a taker buy (``BID``) or sell (``ASK``) up to this much at the limit or better, no more."""
        maker = ASK if side == BID else BID
        trades: list[Trade] = []
        while lots > 0 and self._ticks[maker]:
            tick = self._ticks[maker][0] if maker == ASK else self._ticks[maker][-1]
            if limit_tick is not None and (tick > limit_tick if side == BID else tick < limit_tick):
                break
            resting, orders = self._levels[maker][tick]
            taken = min(lots, resting)
            left = resting - taken
            # First in, first out: whole orders go first, the last of them perhaps in part.
            filled = orders if not left else max(1, orders * taken // resting)
            self.set_level(maker, tick, left, max(1, orders - filled) if left else 0)
            self.last_trade_id += filled
            trades.append(Trade(self.ts, self.sequence, self.last_trade_id, side, tick, taken, filled))
            lots -= taken
        for tap in self._taps:
            for trade in trades:
                tap.add_trade(trade)
        return trades
