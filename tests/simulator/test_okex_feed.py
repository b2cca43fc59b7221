"""The books of the simulated OKX: window, chain, cadence, and the faults of one book."""

import itertools
import json
from dataclasses import dataclass, field
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dquant.simulator.faults import FaultBoard
from dquant.simulator.flow import Flow
from dquant.simulator.flow_book import ASK, BID
from dquant.simulator.okex_chain import WINDOW
from dquant.simulator.okex_feed import InstrumentFeed
from dquant.simulator.okex_instruments import universe
from dquant.simulator.okex_messages import book_checksum
from dquant.simulator.units import Step

MS = 1_000_000
START = 1_795_305_600_000_000_000
INST = "BTC-USD-261127"


@dataclass
class Client:
    """An independent reading of the guide: levels by text, the chain, nothing clever."""

    levels: dict[str, dict[str, list[str]]] = field(default_factory=lambda: {"asks": {}, "bids": {}})
    seq: int | None = None
    unknown_deletes: int = 0

    def read(self, text: str) -> None:
        frame = json.loads(text)
        book = frame["data"][0]
        if frame["action"] == "snapshot":
            assert book["prevSeqId"] == -1
            self.levels = {"asks": {}, "bids": {}}
        else:
            assert book["prevSeqId"] == self.seq, "the chain is broken"
        self.seq = book["seqId"]
        for side in ("asks", "bids"):
            for price, size, zero, orders in book[side]:
                assert zero == "0"
                if size == "0":
                    assert orders == "0"
                    self.unknown_deletes += self.levels[side].pop(price, None) is None
                else:
                    self.levels[side][price] = [size, orders]

    def sorted(self, side: str) -> list[tuple[str, list[str]]]:
        return sorted(self.levels[side].items(), key=lambda level: float(level[0]), reverse=side == "bids")


class Pair:
    """One feed and one client, joined by function calls."""

    def __init__(self, seed: int = 1) -> None:
        self.flow = Flow(seed, START)
        listing = universe(START)[INST]
        self.market = self.flow.add(listing.spec)
        self.faults = FaultBoard()
        self.feed = InstrumentFeed(listing, self.market, self.faults)
        self.now = START
        self.client = Client()

    def listen(self, *channels: str) -> list[str]:
        texts = []
        for channel in channels:
            self.feed.listen(channel, self.now)
            texts.append(self.feed.first_push(channel, self.now, self.now - START))
        return [text for text in texts if text is not None]

    def run(self, ms: int, flow: bool = True, step: int = 10) -> list[tuple[str, dict]]:
        pushes = []
        for _ in range(ms // step):
            self.now += step * MS
            if flow:
                self.flow.advance(self.now)
            pushes += self.feed.publish(self.now, self.now - START)
        return [(channel, json.loads(text)) for channel, text in pushes]

    def true_window(self, side: int) -> list[tuple[str, list[str]]]:
        top = self.market.book.top(side, WINDOW)
        price, size = self.market.tick.text, self.market.lot.text
        return [(price(tick), [size(lots), str(orders)]) for tick, (lots, orders) in top.items()]


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32),
    st.lists(
        st.tuples(st.sampled_from([BID, ASK]), st.integers(0, 520), st.integers(-30, 30), st.integers(0, 50)),
        max_size=60,
    ),
)
def test_snapshot_and_updates_give_the_true_top_400(seed, changes):
    """Whatever happens in a deep book: the client's is the best 400 levels, and no delete comes unknown."""
    pair = Pair(seed)
    (snapshot,) = pair.listen("books")
    pair.client.read(snapshot)
    book = pair.market.book
    for number, (side, place, shift, lots) in enumerate(changes):
        book.begin(pair.now, 3)
        tick = book.tick_at(side, min(place, book.depth(side) - 1)) + shift
        book.set_level(side, tick, lots, 1)
        if number % 7 == 0:
            pair.now += 100 * MS
            for _channel, text in pair.feed.publish(pair.now, 0):
                pair.client.read(text)
    pair.now += 100 * MS
    pair.flow.advance(pair.now)
    for _channel, text in pair.feed.publish(pair.now, 0):
        pair.client.read(text)
    assert pair.client.sorted("bids") == pair.true_window(BID)
    assert pair.client.sorted("asks") == pair.true_window(ASK)
    assert len(pair.client.levels["bids"]) == WINDOW
    assert pair.client.unknown_deletes == 0


def test_the_snapshot_has_400_levels_a_side_in_price_order():
    pair = Pair()
    book = json.loads(pair.listen("books")[0])["data"][0]
    bids, asks = ([float(row[0]) for row in book[side]] for side in ("bids", "asks"))
    assert len(bids) == len(asks) == 400
    assert bids == sorted(bids, reverse=True)
    assert asks == sorted(asks)
    assert bids[0] < asks[0]
    assert (book["checksum"], book["prevSeqId"]) == (0, -1)


def test_a_second_listener_joins_the_same_chain():
    pair = Pair()
    pair.client.read(pair.listen("books")[0])
    for _channel, frame in pair.run(450):
        pair.client.read(json.dumps(frame))
    late = Client()
    late.read(pair.feed.first_push("books", pair.now, 0))
    for _channel, frame in pair.run(500):
        late.read(json.dumps(frame))
        pair.client.read(json.dumps(frame))
    assert late.levels == pair.client.levels
    assert late.seq == pair.client.seq


def test_updates_come_on_100_ms_boundaries_with_uneven_growing_sequence():
    pair = Pair()
    pair.listen("books")
    books = [frame["data"][0] for _channel, frame in pair.run(3000)]
    assert 25 <= len(books) <= 30
    assert all(int(book["ts"]) % 100 == 0 for book in books)
    steps = [book["seqId"] - book["prevSeqId"] for book in books]
    assert min(steps) > 0
    assert len(set(steps)) > 5
    sizes = [len(book["asks"]) + len(book["bids"]) for book in books]
    assert 2 < sum(sizes) / len(sizes) < 25


def test_bbo_books_and_trades_share_one_sequence():
    """A trade's seqId is at most that of the book which contains it, and all of one taker carry the same."""
    pair = Pair()
    pair.listen("bbo-tbt", "books", "trades")
    pushes = pair.run(5000)
    by_ts: dict[str, set[int]] = {}
    last_trade = 0
    for channel, frame in pushes:
        row = frame["data"][0]
        if channel == "trades":
            assert row["seqId"] >= last_trade
            last_trade = row["seqId"]
        else:
            assert row["seqId"] >= last_trade
            by_ts.setdefault(row["ts"], set()).add(row["seqId"])
    channels = {channel for channel, _frame in pushes}
    assert channels == {"bbo-tbt", "books", "trades"}


def test_the_order_within_one_moment_is_bbo_books_books5():
    pair = Pair()
    pair.listen("books5", "books", "bbo-tbt")
    places = {"bbo-tbt": 0, "books": 1, "books5": 2}
    for _ in range(50):
        order = [places[channel] for channel, _frame in pair.run(100, step=100)]
        assert order == sorted(order)


def test_bbo_comes_at_most_every_10_ms_and_only_on_change():
    pair = Pair()
    pair.listen("bbo-tbt")
    pushes = pair.run(1000, step=5)
    assert 5 < len(pushes) <= 100
    pictures = [(frame["data"][0]["asks"], frame["data"][0]["bids"]) for _channel, frame in pushes]
    assert all(one != other for one, other in itertools.pairwise(pictures))
    assert set(pushes[0][1]["data"][0]) == {"asks", "bids", "ts", "seqId"}


def test_a_minute_without_change_brings_an_empty_update_and_a_repeated_picture():
    pair = Pair()
    first = [json.loads(text) for text in pair.listen("books", "bbo-tbt")]
    assert pair.run(59_900, flow=False, step=100) == []
    pushes = dict(pair.run(200, flow=False, step=100))
    book = pushes["books"]["data"][0]
    assert (book["asks"], book["bids"]) == ([], [])
    assert book["seqId"] == book["prevSeqId"] == first[0]["data"][0]["seqId"]
    assert pushes["bbo-tbt"]["data"][0]["bids"] == first[1]["data"][0]["bids"]


def test_the_ticker_is_silent_while_nothing_changes():
    pair = Pair()
    pair.listen("tickers")
    assert len(pair.run(2000)) <= 20
    pair.run(200, flow=False)
    assert pair.run(5000, flow=False) == []


def test_trades_merge_the_fills_of_one_price_and_a_sweep_makes_several():
    pair = Pair()
    pair.listen("trades", "trades-all")
    book = pair.market.book
    book.begin(pair.now, 9)
    first, second = book.tick_at(ASK, 0), book.tick_at(ASK, 1)
    (lots, orders), (more, _others) = book.level(ASK, first), book.level(ASK, second)
    book.take(BID, lots + more - 1 if more > 1 else lots + 1)
    pushes = pair.run(10, flow=False)
    merged = [frame["data"][0] for channel, frame in pushes if channel == "trades"]
    single = [frame["data"][0] for channel, frame in pushes if channel == "trades-all"]
    assert [row["px"] for row in merged] == [pair.market.tick.text(tick) for tick in (first, second)]
    assert merged[0]["seqId"] == merged[1]["seqId"]
    assert merged[0]["count"] == str(orders)
    assert len(single) >= len(merged)
    ids = [int(row["tradeId"]) for row in single]
    assert len(ids) == len(set(ids))
    assert int(merged[0]["tradeId"]) in ids
    assert "seqId" not in single[0]


# Faults of one book


def chain(pushes):
    return [(frame["data"][0]["prevSeqId"], frame["data"][0]["seqId"]) for _channel, frame in pushes]


def test_gap_breaks_the_chain_once():
    pair = Pair()
    pair.client.read(pair.listen("books")[0])
    pair.faults.inject("gap", {"inst_id": INST}, 0)
    links = chain(pair.run(1000))
    seqs = [pair.client.seq, *(seq for _prev, seq in links)]
    breaks = [prev for (prev, _seq), last in zip(links, seqs, strict=False) if prev != last]
    assert len(breaks) == 1


def test_reset_goes_on_lower_with_an_unbroken_chain():
    pair = Pair()
    pair.client.read(pair.listen("books", "trades")[0])
    before = pair.client.seq
    pair.faults.inject("reset", {}, 0)
    pushes = pair.run(3000)
    for channel, frame in pushes:
        if channel == "books":
            pair.client.read(json.dumps(frame))
    assert pair.client.seq < before / 100
    assert pair.client.sorted("bids")[:50] == pair.true_window(BID)[:50]
    assert pushes[-1][1]["data"][0]["seqId"] < before


def test_idle_repeats_the_sequence_without_rows():
    pair = Pair()
    pair.client.read(pair.listen("books")[0])
    seq = pair.client.seq
    pair.faults.inject("idle", {}, 0)
    frame = pair.run(100)[0][1]["data"][0]
    assert (frame["seqId"], frame["prevSeqId"], frame["asks"], frame["bids"]) == (seq, seq, [], [])


def test_duplicate_sends_one_update_twice():
    pair = Pair()
    pair.listen("books")
    pair.faults.inject("duplicate", {}, 0)
    links = chain(pair.run(1000))
    assert len(links) - len(set(links)) == 1


def test_crossed_crosses_the_clients_book_until_the_next_update():
    pair = Pair()
    pair.client.read(pair.listen("books")[0])
    pair.faults.inject("crossed", {"inst_id": INST}, 0)
    crossed = []
    for _ in range(10):
        for _channel, frame in pair.run(100):
            pair.client.read(json.dumps(frame))
            best = [float(pair.client.sorted(side)[0][0]) for side in ("bids", "asks")]
            crossed.append(best[0] >= best[1])
    assert crossed.count(True) == 1
    assert pair.client.sorted("bids") == pair.true_window(BID)


def test_freeze_silences_the_book_channels_of_one_instrument_only():
    pair = Pair()
    pair.client.read(pair.listen("books", "bbo-tbt", "books5", "trades", "tickers", "mark-price")[0])
    pair.faults.inject("freeze", {"inst_id": INST, "duration_s": 3}, 0)
    assert {channel for channel, _frame in pair.run(2900)} <= {"trades", "tickers", "mark-price"}
    after = pair.run(500)
    assert {"books", "bbo-tbt", "books5"} <= {channel for channel, _frame in after}
    for channel, frame in after:
        if channel == "books":
            pair.client.read(json.dumps(frame))


@pytest.mark.parametrize(("channel", "most"), [("mark-price", 15), ("price-limit", 15), ("open-interest", 1)])
def test_periodic_channels_start_with_a_value_and_keep_their_cadence(channel, most):
    pair = Pair()
    (first,) = pair.listen(channel)
    assert json.loads(first)["arg"] == {"channel": channel, "instId": INST}
    assert 1 <= len(pair.run(3000)) <= most


def test_an_unchanged_mark_price_is_repeated_every_ten_seconds():
    pair = Pair()
    pair.listen("mark-price")
    assert pair.run(9_000, flow=False, step=100) == []
    assert len(pair.run(1_000, flow=False, step=100)) == 1


def test_a_late_listener_takes_no_change_from_the_others():
    """What is shown to a newcomer between two pushes still comes to everybody else."""
    pair = Pair()
    pair.listen("bbo-tbt")
    book, lot = pair.market.book, pair.market.lot.text
    pair.run(100, flow=False)
    book.begin(pair.now, 1)
    book.set_level(BID, book.tick_at(BID, 0), 4711, 1)
    pair.feed.first_push("bbo-tbt", pair.now, 0)
    ((_channel, frame),) = pair.run(20, flow=False)
    assert frame["data"][0]["bids"][0][1] == lot(4711)


def test_an_update_can_lack_its_chain_and_the_next_has_it_again():
    pair = Pair()
    pair.listen("books")
    pair.faults.inject("unchained", {"inst_id": INST}, 0)
    rows = [frame["data"][0] for _channel, frame in pair.run(1_000)]
    assert ["prevSeqId" in row for row in rows] == [False] + [True] * (len(rows) - 1)
    assert rows[1]["prevSeqId"] == rows[0]["seqId"]


def test_a_book_can_lose_a_side_until_the_next_update():
    pair = Pair()
    (snapshot,) = pair.listen("books")
    pair.client.read(snapshot)
    pair.faults.inject("one_sided", {"inst_id": INST}, 0)
    sizes = []
    for _channel, frame in pair.run(500):
        pair.client.read(json.dumps(frame))
        sizes.append(len(pair.client.levels["bids"]))
    assert sizes == [0] + [WINDOW] * (len(sizes) - 1)
    assert pair.client.sorted("bids") == pair.true_window(BID)


def test_the_old_checksum_is_that_of_the_sheet():
    """Section 5.2: the example string and its CRC32."""
    one, half = Step("1"), Step("0.1")
    bids, asks = {33661: (7, 1)}, {33668: (9, 1), 33680: (8, 1), 33720: (8, 1)}
    assert book_checksum(bids, asks, half, one) == crc32(b"3366.1:7:3366.8:9:3368:8:3372:8") == 831_078_360


def test_books_can_carry_checksums_of_what_the_client_has():
    pair = Pair()
    pair.faults.inject("checksums", {}, 0)
    texts = pair.listen("books") + [json.dumps(frame) for _channel, frame in pair.run(500)]
    for text in texts:
        pair.client.read(text)
        sides = [
            [f"{price}:{size}" for price, (size, _orders) in pair.client.sorted(side)[:25]]
            for side in ("bids", "asks")
        ]
        told = ":".join(level for both in zip(*sides, strict=True) for level in both)
        assert json.loads(text)["data"][0]["checksum"] % 2**32 == crc32(told.encode())


def test_books_can_begin_without_a_snapshot():
    pair = Pair()
    pair.faults.inject("no_snapshot", {}, 0)
    assert pair.listen("books") == []
    first = pair.run(200)[0][1]
    assert (first["action"], first["data"][0]["prevSeqId"] > 0) == ("update", True)


@pytest.mark.parametrize("step", [10, 37, 130])
def test_a_book_is_never_stamped_before_a_change_that_it_shows(step):
    """Where time comes in strides its slot is past: a top of the same seqId would seem to be newer."""
    pair = Pair()
    pair.listen("bbo-tbt", "books")
    tops = {}
    for channel, frame in pair.run(3000, step=step):
        (data,) = frame["data"]
        if channel == "bbo-tbt":
            tops[data["seqId"]] = int(data["ts"])
        else:
            assert int(data["ts"]) >= tops.get(data["seqId"], 0)
    assert len(tops) > 5
