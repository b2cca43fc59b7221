"""A book whose levels are named by an id instead of their price (BitMEX ``orderBookL2``).

A level is one mutable cell ``[key, size]`` that stands both in the id map of its side and in
the side's list, so that a change of size, most of what such a feed says, is one dictionary
look-up. The lists are sorted with the best price last, as in ``book``; ask keys are negated.

An id is unique on its side only: each side has a map of its own. Two ids at one price are two
levels, the newer of them first. A size of 0 leaves nothing there and removes the level. A price
that is not a positive number, or a negative size, raises ``ValueError`` and changes nothing.
"""

from bisect import bisect_left, bisect_right
from math import inf

from dquant.model.book import Levels, Top

Cell = list[float]  # [key, size]


class IdBook:
    """One book; the caller counts the ids that it did not know (``False``)."""

    __slots__ = ("_ask_cells", "_ask_ids", "_ask_keys", "_bid_cells", "_bid_ids", "_bid_keys")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget every level."""
        self._bid_ids: dict[int, Cell] = {}
        self._bid_keys: list[float] = []
        self._bid_cells: list[Cell] = []
        self._ask_ids: dict[int, Cell] = {}
        self._ask_keys: list[float] = []
        self._ask_cells: list[Cell] = []

    def insert(self, level_id: int, is_bid: bool, price: float, size: float) -> bool:
        """Add a level; ``False`` if the id was there already and has been overwritten.

        Raises:
            ValueError: The price is not a positive number or the size is negative.

        """
        if not (0.0 < price < inf and 0.0 <= size < inf):
            raise ValueError(f"level of price {price!r} and size {size!r}")
        ids = self._bid_ids if is_bid else self._ask_ids
        old = ids.pop(level_id, None)
        if old is not None:
            self._take_out(old, is_bid)
        if size > 0.0:
            cell = [price if is_bid else -price, size]
            ids[level_id] = cell
            self._put_in(cell, is_bid)
        return old is None

    def update(self, level_id: int, is_bid: bool, size: float | None, price: float | None = None) -> bool:
        """Change the size, the price or both; ``None`` keeps. ``False`` if the id is unknown.

        Raises:
            ValueError: The price is not a positive number or the size is negative.

        """
        ids = self._bid_ids if is_bid else self._ask_ids
        cell = ids.get(level_id)
        if cell is None:
            return False
        if size is None:
            size = cell[1]
        elif not 0.0 <= size < inf:
            raise ValueError(f"size {size!r}")
        if price is not None:
            key = price if is_bid else -price
            if key != cell[0]:
                if not 0.0 < price < inf:
                    raise ValueError(f"price {price!r}")
                self._take_out(cell, is_bid)
                cell[0] = key
                self._put_in(cell, is_bid)
        if size == 0.0:
            del ids[level_id]
            self._take_out(cell, is_bid)
        cell[1] = size
        return True

    def delete(self, level_id: int, is_bid: bool) -> bool:
        """Remove a level; ``False`` if the id is unknown."""
        cell = (self._bid_ids if is_bid else self._ask_ids).pop(level_id, None)
        if cell is None:
            return False
        self._take_out(cell, is_bid)
        return True

    def _put_in(self, cell: Cell, is_bid: bool) -> None:
        keys = self._bid_keys if is_bid else self._ask_keys
        at = bisect_right(keys, cell[0])
        keys.insert(at, cell[0])
        (self._bid_cells if is_bid else self._ask_cells).insert(at, cell)

    def _take_out(self, cell: Cell, is_bid: bool) -> None:
        if is_bid:
            keys, cells = self._bid_keys, self._bid_cells
        else:
            keys, cells = self._ask_keys, self._ask_cells
        at = bisect_left(keys, cell[0])
        while cells[at] is not cell:  # another id at the same price
            at += 1
        del keys[at], cells[at]

    def top(self) -> Top:
        """Return best bid, its size, best ask, its size; ``None`` and 0 for an empty side."""
        bids, asks = self._bid_keys, self._ask_keys
        if bids and asks:
            return bids[-1], self._bid_cells[-1][1], -asks[-1], self._ask_cells[-1][1]
        if bids:
            return bids[-1], self._bid_cells[-1][1], None, 0.0
        if asks:
            return None, 0.0, -asks[-1], self._ask_cells[-1][1]
        return None, 0.0, None, 0.0

    def depth(self, levels: int) -> tuple[Levels, Levels]:
        """Return up to ``levels`` (price, size) of each side, best first."""
        bids = [(cell[0], cell[1]) for cell in self._bid_cells[-1 : -1 - levels : -1]]
        asks = [(-cell[0], cell[1]) for cell in self._ask_cells[-1 : -1 - levels : -1]]
        return bids, asks

    def __len__(self) -> int:
        return len(self._bid_keys) + len(self._ask_keys)
