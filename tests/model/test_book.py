"""Both books named by price against a dictionary, and the old checksum against its description."""

from decimal import Decimal
from math import inf, nan
from typing import NamedTuple
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dquant.model.book import CHECKSUM_LEVELS, ChecksumBook, PriceBook


class Row(NamedTuple):
    """One level as numbers."""

    px: float
    sz: float


class TextRow(NamedTuple):
    """One level as the wire spells it."""

    px: str
    sz: str


class NaiveBook:
    """Every level in one dictionary a side, sorted anew for each question."""

    def __init__(self):
        self.bids, self.asks = {}, {}

    def apply(self, bids, asks):
        for rows, side in ((bids, self.bids), (asks, self.asks)):
            for px, sz in rows:
                side.pop(Decimal(px), None)
                if Decimal(sz):
                    side[Decimal(px)] = (px, sz)

    def levels(self):
        return (
            [self.bids[price] for price in sorted(self.bids, reverse=True)],
            [self.asks[price] for price in sorted(self.asks)],
        )

    def top(self):
        bids, asks = ([(float(px), float(sz)) for px, sz in side[:1]] for side in self.levels())
        return (*(bids or [(None, 0.0)])[0], *(asks or [(None, 0.0)])[0])

    def depth(self, count):
        return tuple([(float(px), float(sz)) for px, sz in side[:count]] for side in self.levels())

    def checksum(self):
        """The guide's words: bid1, ask1, bid2, ask2 … of the best 25, and the rest of the longer side."""
        bids, asks = (side[:25] for side in self.levels())
        parts = []
        for rank in range(25):
            for side in (bids, asks):
                if rank < len(side):
                    parts.extend(side[rank])
        unsigned = crc32(":".join(parts).encode())
        return unsigned - 2**32 if unsigned >= 2**31 else unsigned


# The sides cross at random: a book keeps what it is told and leaves the judgement to the core.
prices = st.integers(1, 60).map(lambda n: f"{n / 10 + 100:.1f}")
sizes = st.sampled_from(["0", "0", "1", "2.5", "0.00000001", "300", "0.0", "12345678"])
sides = st.lists(st.tuples(prices, sizes), max_size=12)
messages = st.lists(st.tuples(sides, sides), max_size=15)
deep = st.lists(st.tuples(st.integers(1, 900).map(str), sizes), min_size=20, max_size=80)


@settings(deadline=None)
@given(messages)
def test_price_book_is_a_sorted_dictionary(stream):
    book, naive = PriceBook(), NaiveBook()
    for bids, asks in stream:
        book.apply(*([Row(float(px), float(sz)) for px, sz in rows] for rows in (bids, asks)))
        naive.apply(bids, asks)
        assert book.top() == naive.top()
    assert book.depth(5) == naive.depth(5)
    assert book.depth(1000) == naive.depth(1000)
    assert len(book) == len(naive.bids) + len(naive.asks)


@settings(deadline=None)
@given(messages, st.lists(st.tuples(deep, deep), max_size=2))
def test_checksum_book_is_a_sorted_dictionary_with_the_guides_checksum(stream, deep_stream):
    """The sum is cached between messages: it must not survive a change of the best 25."""
    book, naive = ChecksumBook(), NaiveBook()
    for bids, asks in stream + deep_stream + stream:
        book.apply(*([TextRow(*row) for row in rows] for rows in (bids, asks)))
        naive.apply(bids, asks)
        assert book.checksum() == naive.checksum()
        assert book.top() == naive.top()
    assert book.depth(7) == naive.depth(7)
    assert len(book) == len(naive.bids) + len(naive.asks)


def test_checksum_of_the_guides_example():
    """3366.1:7:3366.8:9:3368:8:3372:8, one bid and three asks, has the sum 831078360."""
    book = ChecksumBook()
    book.apply([TextRow("3366.1", "7")], [TextRow("3366.8", "9"), TextRow("3368", "8"), TextRow("3372", "8")])

    assert book.checksum() == 831078360


def test_checksum_covers_the_newest_spelling_of_a_level():
    book, fresh = ChecksumBook(), ChecksumBook()
    book.apply([TextRow("100.0", "5")], [])
    book.checksum()
    book.apply([TextRow("100.00", "5.0")], [])
    fresh.apply([TextRow("100.00", "5.0")], [])

    assert book.checksum() == fresh.checksum() == crc32(b"100.00:5.0")
    assert len(book) == 1


@pytest.mark.parametrize("rank", [CHECKSUM_LEVELS - 1, CHECKSUM_LEVELS, CHECKSUM_LEVELS + 1])
@pytest.mark.parametrize("size", ["0", "9"])
def test_only_the_best_25_count(rank, size):
    rows = [TextRow(str(1000 - n), "1") for n in range(40)]
    book = ChecksumBook()
    book.apply(rows, [])
    before = book.checksum()
    book.apply([TextRow(str(1000 - rank), size)], [])

    assert (book.checksum() != before) == (rank < CHECKSUM_LEVELS)


def test_empty_sides_have_no_price():
    for book, row in ((PriceBook(), Row(100.0, 1.0)), (ChecksumBook(), TextRow("100", "1"))):
        assert book.top() == (None, 0.0, None, 0.0)
        assert book.depth(5) == ([], [])
        book.apply([row], [])
        assert book.top() == (100.0, 1.0, None, 0.0)
        book.clear()
        book.apply([], [row])
        assert book.top() == (None, 0.0, 100.0, 1.0)
        assert book.depth(0) == ([], [])


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize(
    "row", [(0.0, 1.0), (-1.0, 1.0), (nan, 1.0), (inf, 1.0), (100.0, -1.0), (100.0, nan), (101.0, -1.0)]
)
def test_price_book_refuses_nonsense(side, row):
    book = PriceBook()
    book.apply([Row(100.0, 1.0)], [Row(102.0, 1.0)])
    with pytest.raises(ValueError, match="size"):
        book.apply(*([Row(*row)] if side == which else [] for which in (0, 1)))


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize(
    "row",
    [
        *[("100", size) for size in ("", "abc", "nan", "NaN", "-1", "inf", "Infinity", "1e999", "1x")],
        *[(price, "1") for price in ("", "abc", "nan", "-1", "0", "inf", "1e999")],
        ("101", "abc"),
    ],
)
def test_checksum_book_refuses_nonsense(side, row):
    """A size that is no number would be found by depth(), long after its message."""
    book = ChecksumBook()
    book.apply([TextRow("100", "1")], [TextRow("102", "1")])
    with pytest.raises(ValueError):  # noqa: PT011 - some of the words are float()'s own
        book.apply(*([TextRow(*row)] if side == which else [] for which in (0, 1)))
