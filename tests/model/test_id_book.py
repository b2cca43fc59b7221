"""``IdBook`` against a naive model, and the cases that the model does not reach by chance."""

from math import inf, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dquant.model.id_book import IdBook

ids = st.integers(min_value=1, max_value=9)
prices = st.sampled_from([99.5, 100.0, 100.5, 101.0, 101.5])
sizes = st.sampled_from([0.0, 1.0, 2.5, 300.0])
commands = st.one_of(
    st.tuples(st.just("insert"), ids, st.booleans(), sizes, prices),
    st.tuples(st.just("update"), ids, st.booleans(), st.none() | sizes, st.none() | prices),
    st.tuples(st.just("delete"), ids, st.booleans(), st.none(), st.none()),
)


class NaiveBook:
    """Every level in one dictionary, sorted anew for each question."""

    def __init__(self):
        self.rows = {}
        self.moves = 0

    def _age(self):
        self.moves += 1
        return self.moves

    def insert(self, level_id, is_bid, price, size):
        is_new = self.rows.pop((level_id, is_bid), None) is None
        if size:
            self.rows[level_id, is_bid] = (price, size, self._age())
        return is_new

    def update(self, level_id, is_bid, size, price):
        if (level_id, is_bid) not in self.rows:
            return False
        old_price, old_size, age = self.rows[level_id, is_bid]
        if price is not None and price != old_price:
            age = self._age()
        size = old_size if size is None else size
        self.rows[level_id, is_bid] = (old_price if price is None else price, size, age)
        if not size:
            del self.rows[level_id, is_bid]
        return True

    def delete(self, level_id, is_bid):
        return self.rows.pop((level_id, is_bid), None) is not None

    def side(self, is_bid):
        sign = -1 if is_bid else 1
        rows = [row for (_, side), row in self.rows.items() if side is is_bid]
        return [(price, size) for price, size, _ in sorted(rows, key=lambda row: (sign * row[0], -row[2]))]


@settings(deadline=None)
@given(st.lists(commands, max_size=60))
def test_book_shows_what_a_naive_model_shows_after_every_command(script):
    book, naive = IdBook(), NaiveBook()
    for verb, level_id, is_bid, size, price in script:
        if verb == "insert":
            assert book.insert(level_id, is_bid, price, size) is naive.insert(level_id, is_bid, price, size)
        elif verb == "update":
            assert book.update(level_id, is_bid, size, price) is naive.update(level_id, is_bid, size, price)
        else:
            assert book.delete(level_id, is_bid) is naive.delete(level_id, is_bid)
        bids, asks = naive.side(True), naive.side(False)
        assert book.depth(100) == (bids, asks)
        assert book.depth(2) == (bids[:2], asks[:2])
        assert book.top() == (*(bids or [(None, 0.0)])[0], *(asks or [(None, 0.0)])[0])
        assert len(book) == len(bids) + len(asks)


def test_one_id_on_both_sides_names_two_levels():
    book = IdBook()
    book.insert(7, True, 100.0, 1.0)
    book.insert(7, False, 101.0, 2.0)
    book.update(7, False, 5.0)

    assert book.top() == (100.0, 1.0, 101.0, 5.0)
    assert book.delete(7, True)
    assert book.top() == (None, 0.0, 101.0, 5.0)


def test_two_ids_at_one_price_are_removed_one_by_one():
    book = IdBook()
    for level_id, size in ((1, 10.0), (2, 20.0), (3, 30.0)):
        book.insert(level_id, False, 100.0, size)

    assert book.delete(2, False)
    assert book.depth(5)[1] == [(100.0, 30.0), (100.0, 10.0)]
    assert book.update(1, False, None, 99.0)
    assert book.top() == (None, 0.0, 99.0, 10.0)


def test_unknown_ids_are_told_and_change_nothing():
    book = IdBook()
    book.insert(1, True, 100.0, 1.0)

    assert book.update(1, False, 9.0) is False
    assert book.update(2, True, 9.0, 101.0) is False
    assert book.delete(2, True) is False
    assert book.depth(5) == ([(100.0, 1.0)], [])


def test_clear_forgets_levels_and_ids():
    book = IdBook()
    book.insert(1, True, 100.0, 1.0)
    book.clear()

    assert len(book) == 0
    assert book.top() == (None, 0.0, None, 0.0)
    assert book.update(1, True, 2.0) is False


@pytest.mark.parametrize(
    ("price", "size"),
    [(0.0, 1.0), (-1.0, 1.0), (nan, 1.0), (inf, 1.0), (100.0, -1.0), (100.0, nan), (100.0, inf)],
)
def test_impossible_levels_are_refused_and_leave_the_book_as_it_was(price, size):
    book = IdBook()
    book.insert(1, False, 101.0, 2.0)

    with pytest.raises(ValueError, match=r"price|size"):
        book.insert(1, False, price, size)
    with pytest.raises(ValueError, match=r"price|size"):
        book.update(1, False, size, price)
    assert book.depth(5) == ([], [(101.0, 2.0)])
