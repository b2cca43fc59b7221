"""A delta that is lost without crossing anything shows by the quotes; a sound book agrees with them."""

import json
from collections import Counter

import pytest

from dquant.constants import NS_PER_MS, NS_PER_S
from dquant.markets.bitmex import _bitmex_quotes
from dquant.markets.bitmex._bitmex_protocol import BitmexPublicProtocol
from dquant.markets.bitmex._bitmex_quotes import MAX_STRIKES
from dquant.model.events import BookStale, SubscriptionChanged, TopOfBook

NOW = 1_795_334_400 * NS_PER_S
STAMP = "2026-11-22T08:00:{:06.3f}Z"
TOPIC = "orderBookL2:XBTUSD"


class Talk:
    """A core that is subscribed to both tables, and a clock that both ends share."""

    def __init__(self):
        self.core = BitmexPublicProtocol(["XBTUSD"], silence_s=0, now=NOW, topics=["orderBookL2", "quote"])
        self.now_s = 0.0
        self.events = []
        self.frame("quote", "partial", self.quote_row(100.0, 20, 101.0, 10))
        self.partial()

    def partial(self, bid_size=20):
        levels = [self.level(1, "Sell", 10, 101.0), self.level(2, "Buy", bid_size, 100.0)]
        self.frame("orderBookL2", "partial", *levels)

    def level(self, number, side, size, price):
        stamp = STAMP.format(self.now_s)
        return {
            "symbol": "XBTUSD",
            "id": number,
            "side": side,
            "size": size,
            "price": price,
            "timestamp": stamp,
        }

    def quote_row(self, bid, bid_size, ask, ask_size, at_s=None):
        stamp = STAMP.format(self.now_s if at_s is None else at_s)
        row = {"bidPrice": bid, "bidSize": bid_size, "askPrice": ask, "askSize": ask_size}
        return {"symbol": "XBTUSD", "timestamp": stamp, **row}

    def frame(self, table, action, *rows):
        more = {"filter": {"symbol": "XBTUSD"}} if action == "partial" else {}
        text = json.dumps({"table": table, "action": action, **more, "data": rows})
        self.core.receive_text(text, NOW + int(self.now_s * NS_PER_S))
        self.events += self.core.events_received()

    def size(self, size, number=2):
        """The best bid's size changes."""
        self.frame("orderBookL2", "update", self.level(number, "Buy", size, None))

    def quote(self, bid_size, at_s=None, bid=100.0):
        self.frame("quote", "insert", self.quote_row(bid, bid_size, 101.0, 10, at_s))

    def wait(self, seconds):
        for _ in range(int(seconds * 2)):
            self.now_s += 0.5
            self.core.receive_time(NOW + int(self.now_s * NS_PER_S))
        self.events += self.core.events_received()

    def reasons(self):
        return [event.reason for event in self.events if isinstance(event, BookStale)]

    def commands(self):
        return [(sent["op"], sent["args"]) for sent in map(json.loads, self.core.texts_to_send())]


def test_lost_delta_is_told_by_the_quote_that_the_book_never_looked_like():
    talk = Talk()
    talk.quote(25)  # the delta that made it 25 was lost
    talk.wait(2.0)
    assert talk.reasons() == []
    talk.wait(0.5)

    assert talk.reasons() == ["quote disagrees"]
    assert talk.core.depth("XBTUSD", 1) is None
    assert talk.commands() == [("unsubscribe", [TOPIC]), ("subscribe", [TOPIC])]
    talk.partial(bid_size=25)
    talk.wait(10)
    assert talk.reasons() == ["quote disagrees"]
    assert [e.bid_size for e in talk.events if isinstance(e, TopOfBook) and e.from_book] == [20, 25]


def test_quote_may_come_before_the_book_or_long_after_it():
    talk = Talk()
    talk.quote(25)
    talk.wait(1.5)
    talk.size(25)  # the book follows
    talk.wait(5)
    talk.size(30)
    talk.size(35)
    talk.now_s += 1
    for size in (30, 35):  # a second's quotes together
        talk.quote(size, at_s=talk.now_s - 1)
    talk.wait(10)

    assert talk.reasons() == []
    assert talk.commands() == []


def test_book_that_is_back_where_it_was_is_not_taken_for_a_slow_quote():
    """The size goes 20, 25, 20, and the last delta is lost: the quote of 20 is of after the 25."""
    talk = Talk()
    talk.size(25)
    talk.quote(25)
    talk.wait(1)
    talk.quote(20)
    talk.wait(3)

    assert talk.reasons() == ["quote disagrees"]


def test_quotes_that_stop_or_are_old_give_no_reason_to_doubt_a_book():
    talk = Talk()
    for size in range(30, 50):
        talk.size(size)
        talk.wait(1)
    talk.quote(21, at_s=talk.now_s - 8)
    talk.wait(10)

    assert talk.reasons() == []


def test_clock_that_is_far_ahead_of_what_waits_to_be_read_is_no_evidence():
    """The process stood still: the quote was read before, the delta of the same moment is read after."""
    talk = Talk()
    talk.quote(25)
    talk.now_s += 20
    talk.wait(0.5)
    talk.size(25)
    talk.wait(5)

    assert talk.reasons() == []


def test_quotes_that_no_snapshot_agrees_with_are_not_heeded_any_more():
    """A market must not be dead for a ``quote`` that is wrong; each doubt costs one partial."""
    talk = Talk()
    for size in range(30, 40):
        talk.quote(size)
        talk.wait(5)
        talk.partial()

    assert talk.reasons() == ["quote disagrees"] * MAX_STRIKES
    refused = [e for e in talk.events if isinstance(e, SubscriptionChanged)]
    assert [(e.channel, e.inst_id, e.is_subscribed) for e in refused] == [("quote", "XBTUSD", False)]


def test_memory_of_a_busy_side_is_bounded():
    talk = Talk()
    for number in range(3000):
        talk.now_s += 0.001
        talk.size(100 + number)
        talk.quote(5000 + number)
    (book,) = talk.core._books._tables["orderBookL2"].values()

    assert len(book.check._bid.past) <= _bitmex_quotes.MAX_REMEMBERED
    assert len(book.check._bid.unmatched) <= _bitmex_quotes.MAX_REMEMBERED


def play(records, symbols, without=None):
    """Play a recorded session as it was lived, one frame of it lost, and return why books were stale."""
    start = records[0]["ts"]
    client = BitmexPublicProtocol(symbols, silence_s=0, now=start, topics=["orderBookL2", "quote"])
    looked = start
    for number, record in enumerate(records):
        while looked + 500 * NS_PER_MS < record["ts"]:
            looked += 500 * NS_PER_MS
            client.receive_time(looked)
        if number != without:
            client.receive_text(record["text"], record["ts"])
    for _ in range(8):
        looked += 500 * NS_PER_MS
        client.receive_time(looked)
    return [(e.inst_id, e.reason) for e in client.events_received() if isinstance(e, BookStale)]


def test_recorded_session_agrees_with_its_quotes_and_notices_what_is_taken_out_of_it(recorded):
    """Its quotes come a second's together; of the deltas, one in six moves the top for longer than that."""
    tape = recorded / "tapes" / "bitmex-2021-07-22-four-symbols.jsonl"
    records = [r for r in map(json.loads, tape.read_text().splitlines()) if r.get("dir") == "in"]
    deltas = [
        number
        for number, record in enumerate(records)
        if record["text"].startswith('{"table":"orderBookL2"') and '"partial"' not in record["text"][:60]
    ]
    symbols = ["UNIUSDT", "ADAUSDT", "EOSUSDT", "BCHUSD"]

    assert play(records, symbols) == []
    found = Counter()
    for number in deltas[::5]:
        doubted = play(records, symbols, without=number)
        assert all(symbol in records[number]["text"] for symbol, _ in doubted)
        found.update(reason for _, reason in doubted)
    assert found["quote disagrees"] > found["crossed"]


@pytest.mark.parametrize("topics", [["orderBookL2"], ["orderBookL2", "quote"]])
def test_core_that_only_listens_or_has_no_quotes_is_never_in_doubt_for_them(topics):
    talk = Talk()
    talk.core = BitmexPublicProtocol(
        None if "quote" in topics else ["XBTUSD"], silence_s=0, now=NOW, topics=topics
    )
    talk.frame("quote", "partial", talk.quote_row(100.0, 20, 101.0, 10))
    talk.partial()
    talk.quote(25)
    talk.wait(10)

    assert talk.reasons() == []
