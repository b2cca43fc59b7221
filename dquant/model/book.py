"""Order books: what rests at each price, kept from the messages of one venue.

Two books for levels named by price; ``id_book`` has the one for levels named by an id. All keep each side
as parallel lists sorted so that the best price stands last: a change near the top
moves few entries, and the top of the book is one look-up. A book does not judge
itself stale and knows no sequence numbers; the protocol core does.

Prices and sizes are floats made from the wire text (``repr`` gives it back); sizes are
contracts, or base coin on a spot market. A price that is not a positive finite number, or a
size that is negative or none, raises ``ValueError`` and leaves the book unusable until
``clear``. An infinite size is for the decoder to refuse; ``PriceBook`` does not look for it.
"""

from bisect import bisect_left
from collections.abc import Sequence
from math import inf, nan
from typing import Protocol
from zlib import crc32

CHECKSUM_LEVELS = 25

Top = tuple[float | None, float, float | None, float]
Levels = list[tuple[float, float]]


class LevelRow(Protocol):
    """A decoded level: price and absolute size; size 0 deletes the price."""

    @property
    def px(self) -> float: ...
    @property
    def sz(self) -> float: ...


class TextRow(Protocol):
    """A decoded level that keeps the wire's spelling, which the old checksum covers."""

    @property
    def px(self) -> str: ...
    @property
    def sz(self) -> str: ...


class PriceBook:
    """A book whose levels are named by their price (OKX ``books``)."""

    __slots__ = ("_ask_keys", "_ask_sizes", "_bid_keys", "_bid_sizes")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget every level."""
        # The last entry of each key list is NaN: it compares below nothing and equals nothing,
        # so that bisect stays inside the list and no price can match it. Ask keys are negated.
        self._bid_keys: list[float] = [nan]
        self._bid_sizes: list[float] = [0.0]
        self._ask_keys: list[float] = [nan]
        self._ask_sizes: list[float] = [0.0]

    def apply(self, bids: Sequence[LevelRow], asks: Sequence[LevelRow]) -> None:
        """Set each price of both sides to its size; a size of 0 deletes, an unknown delete is ignored.

        Raises:
            ValueError: A price is not a positive number or a size is negative.

        """
        keys, sizes = self._bid_keys, self._bid_sizes
        for row in bids:
            key, size = row.px, row.sz
            at = bisect_left(keys, key)
            if keys[at] == key:
                if size > 0.0:
                    sizes[at] = size
                elif size == 0.0:
                    del keys[at], sizes[at]
                else:
                    raise ValueError(f"size {size!r} at {key!r}")
            elif size > 0.0 and 0.0 < key < inf:
                keys.insert(at, key)
                sizes.insert(at, size)
            elif size != 0.0 or not 0.0 < key < inf:
                raise ValueError(f"level {key!r} of size {size!r}")
        keys, sizes = self._ask_keys, self._ask_sizes
        for row in asks:
            key, size = -row.px, row.sz
            at = bisect_left(keys, key)
            if keys[at] == key:
                if size > 0.0:
                    sizes[at] = size
                elif size == 0.0:
                    del keys[at], sizes[at]
                else:
                    raise ValueError(f"size {size!r} at {-key!r}")
            elif size > 0.0 and -inf < key < 0.0:
                keys.insert(at, key)
                sizes.insert(at, size)
            elif size != 0.0 or not -inf < key < 0.0:
                raise ValueError(f"level {-key!r} of size {size!r}")

    def top(self) -> Top:
        """Return best bid, its size, best ask, its size; ``None`` and 0 for an empty side."""
        bids, asks = self._bid_keys, self._ask_keys
        if len(bids) > 1 and len(asks) > 1:
            return bids[-2], self._bid_sizes[-2], -asks[-2], self._ask_sizes[-2]
        bid = bids[-2] if len(bids) > 1 else None
        ask = -asks[-2] if len(asks) > 1 else None
        return (
            bid,
            0.0 if bid is None else self._bid_sizes[-2],
            ask,
            0.0 if ask is None else self._ask_sizes[-2],
        )

    def depth(self, levels: int) -> tuple[Levels, Levels]:
        """Return up to ``levels`` (price, size) of each side, best first."""
        bids = list(
            zip(self._bid_keys[-2 : -2 - levels : -1], self._bid_sizes[-2 : -2 - levels : -1], strict=True)
        )
        asks = [
            (-key, size)
            for key, size in zip(
                self._ask_keys[-2 : -2 - levels : -1], self._ask_sizes[-2 : -2 - levels : -1], strict=True
            )
        ]
        return bids, asks

    def __len__(self) -> int:
        return len(self._bid_keys) + len(self._ask_keys) - 2


class ChecksumBook:
    """A book named by price that can prove its best 25 levels with the CRC32 of OKX's old feed.

    The sum is built anew only when a change touched the best 25 of its side.
    """

    __slots__ = ("_ask_keys", "_ask_texts", "_bid_keys", "_bid_texts", "_checksum")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget every level."""
        self._bid_keys: list[float] = [nan]
        self._bid_texts: list[str] = [""]
        self._ask_keys: list[float] = [nan]
        self._ask_texts: list[str] = [""]
        self._checksum: int | None = None

    def apply(self, bids: Sequence[TextRow], asks: Sequence[TextRow]) -> None:
        """Set each price of both sides to its size, as ``PriceBook.apply`` does.

        Raises:
            ValueError: A price is not a positive number, a size is none or negative.

        """
        if self._apply_side(self._bid_keys, self._bid_texts, bids, 1.0) | self._apply_side(
            self._ask_keys, self._ask_texts, asks, -1.0
        ):
            self._checksum = None

    @staticmethod
    def _apply_side(keys: list[float], texts: list[str], rows: Sequence[TextRow], sign: float) -> bool:
        is_top_touched = False
        for row in rows:
            px, sz = row.px, row.sz
            key = sign * float(px)
            size = float(sz)
            if not 0.0 <= size < inf:
                raise ValueError(f"size {sz!r} at {px!r}")
            at = bisect_left(keys, key)
            if keys[at] == key:
                if len(keys) - at <= CHECKSUM_LEVELS + 1:
                    is_top_touched = True
                if size:
                    texts[at] = f"{px}:{sz}"
                else:
                    del keys[at], texts[at]
            elif not 0.0 < sign * key < inf:
                raise ValueError(f"price {px!r}")
            elif size:
                keys.insert(at, key)
                texts.insert(at, f"{px}:{sz}")
                if len(keys) - at <= CHECKSUM_LEVELS + 1:
                    is_top_touched = True
        return is_top_touched

    def checksum(self) -> int:
        """Return the signed CRC32 over the best 25 levels of both sides, interleaved."""
        if self._checksum is None:
            bids = self._bid_texts[-2 : -2 - CHECKSUM_LEVELS : -1]
            asks = self._ask_texts[-2 : -2 - CHECKSUM_LEVELS : -1]
            common = min(len(bids), len(asks))
            parts = [""] * (2 * common)
            parts[0::2] = bids[:common]
            parts[1::2] = asks[:common]
            parts += bids[common:]
            parts += asks[common:]
            unsigned = crc32(":".join(parts).encode())
            self._checksum = unsigned - (1 << 32) if unsigned & 0x8000_0000 else unsigned
        return self._checksum

    def top(self) -> Top:
        """Return best bid, its size, best ask, its size; ``None`` and 0 for an empty side."""
        bid = self._bid_keys[-2] if len(self._bid_keys) > 1 else None
        ask = -self._ask_keys[-2] if len(self._ask_keys) > 1 else None
        return (
            bid,
            0.0 if bid is None else _size_of(self._bid_texts[-2]),
            ask,
            0.0 if ask is None else _size_of(self._ask_texts[-2]),
        )

    def depth(self, levels: int) -> tuple[Levels, Levels]:
        """Return up to ``levels`` (price, size) of each side, best first."""
        return (
            [_level_of(text) for text in self._bid_texts[-2 : -2 - levels : -1]],
            [_level_of(text) for text in self._ask_texts[-2 : -2 - levels : -1]],
        )

    def __len__(self) -> int:
        return len(self._bid_keys) + len(self._ask_keys) - 2


def _size_of(text: str) -> float:
    return float(text[text.index(":") + 1 :])


def _level_of(text: str) -> tuple[float, float]:
    price, _, size = text.partition(":")
    return float(price), float(size)
