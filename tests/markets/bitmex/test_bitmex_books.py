"""The order books of the public BitMEX core: golden frames by hand, damage, doubt, and the truth."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dquant.constants import NS_PER_S
from dquant.errors import LocalProtocolError
from dquant.markets.bitmex._bitmex_books import UNKNOWN_LIMIT
from dquant.markets.lag_watch import LagWatch
from dquant.model.events import BookStale, InstrumentState, SubscriptionChanged, TopOfBook
from tests.markets.bitmex.frames import BOOK_TOPIC, NOW, SILENCE_S, book, core, level, partial, told
from tests.markets.cores import commands, stale_reasons, tops

# The book


def test_book_of_2025_is_followed_by_id_and_side(golden):
    client = core()
    events = told(client, *golden("ws_book_2025.jsonl"))

    assert events[0] == SubscriptionChanged("orderBookL2", "XBTUSD", True, "", "", NOW)
    assert tops(events) == [
        (114000.0, 700.0, 114000.5, 200.0),
        (114000.0, 900.0, 114000.5, 200.0),
        (114000.0, 900.0, 114000.3, 400.0),
        (113999.9, 100.0, 114000.3, 400.0),
        (113999.9, 100.0, 114001.0, 3000.0),
    ]
    assert [event.ts_event - NOW for event in events[1:]] == [
        1_000_000_000,
        1_250_000_000,
        2_500_000_000,
        59_999_000_000,
        60_001_000_000,
    ]
    assert client.connections_left == 718
    assert client.depth("XBTUSD", 5) == ([(113999.9, 100.0)], [(114001.0, 3000.0)])
    assert (client.quarantined, client.unknown_ids, client.texts_to_send()) == (0, 0, [])


def test_rows_of_2021_take_price_and_time_from_what_is_known(golden):
    """Update and delete rows had no price then, book rows no timestamp."""
    events = told(core(), *golden("ws_book_2021.jsonl"))

    assert tops(events) == [
        (41500.0, 600.0, 41500.5, 3100.0),
        (41500.0, 5600.0, 41500.5, 3100.0),
        (41499.5, 100.0, 41500.5, 3100.0),
        (41499.5, 100.0, 41500.0, 50.0),
    ]
    assert {event.ts_event for event in events if isinstance(event, TopOfBook)} == {NOW}


def test_stream_of_all_symbols_keeps_one_book_each(golden):
    """The second partial is the whole truth: a symbol that it does not name has no level left."""
    events = told(core(None), *golden("ws_book_all_symbols.jsonl"))

    assert [(event.inst_id, event.bid, event.ask) for event in events if isinstance(event, TopOfBook)] == [
        ("XBTUSD", 114000.0, 114001.0),
        ("ETHUSD", 4150.0, 4150.05),
        ("ETHUSD", 4150.0, 4150.05),
        ("XBTZ25", 115000.0, None),
        ("XBTUSD", 114000.0, None),
        ("ETHUSD", None, None),
        ("XBTZ25", None, None),
    ]


def test_everything_before_the_first_partial_is_dropped():
    client = core()
    early = told(client, book("insert", level(5, "Buy", 1, 100.5)), book("delete", level(6, "Buy")))

    assert early == []
    assert client.unknown_ids == 0
    assert tops(told(client, partial())) == [(100.0, 20.0, 101.0, 10.0)]


def test_a_second_partial_replaces_and_never_merges():
    client = core()
    told(client, partial(), book("insert", level(3, "Buy", 5, 100.5)))

    assert tops(told(client, partial(level(9, "Buy", 7, 99.0)))) == [(99.0, 7.0, None, 0.0)]
    assert client.depth("XBTUSD", 9) == ([(99.0, 7.0)], [])


def test_partial_without_levels_begins_an_empty_book():
    client = core()
    events = told(
        client, book("partial", filter={"symbol": "XBTUSD"}), book("insert", level(1, "Buy", 5, 100.0))
    )

    assert tops(events) == [(None, 0.0, None, 0.0), (100.0, 5.0, None, 0.0)]


def test_partial_without_filter_begins_the_symbols_of_its_rows():
    rows = [level(1, "Buy", 5, 100.0), level(1, "Buy", 6, 50.0, "ETHUSD")]
    client = core(None)
    told(client, book("partial", *rows))

    assert tops(told(client, book("update", level(1, "Buy", 8, symbol="ETHUSD")))) == [(50.0, 8.0, None, 0.0)]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"symbol": ["XBTUSD", "BCHUSD"]}, {"symbol": ["ETHUSD"]}),
        ({"symbol": "XBTUSD"}, {"symbol": "ETHUSD"}),
        ({}, {}),
    ],
)
@pytest.mark.parametrize("is_acknowledged", [True, False])
def test_partials_of_single_symbols_leave_each_other_alone(first, second, is_acknowledged):
    """Whatever their filters say: what shares no symbol was subscribed symbol by symbol."""
    client = core(None)
    for symbol in ("XBTUSD", "ETHUSD"):
        if is_acknowledged:
            told(client, {"success": True, "subscribe": f"orderBookL2:{symbol}", "request": {}})
    told(client, book("partial", level(1, "Buy", 5, 100.0), filter=first))
    told(client, book("partial", level(1, "Buy", 6, 50.0, "ETHUSD"), filter=second))

    assert tops(told(client, book("update", level(1, "Buy", 8)))) == [(100.0, 8.0, None, 0.0)]
    assert tops(told(client, book("update", level(1, "Buy", 9, symbol="ETHUSD")))) == [(50.0, 9.0, None, 0.0)]
    assert told(client, book("insert", level(1, "Buy", 9, 1.0, symbol="SOLUSD"))) == []


def test_a_filter_without_symbol_does_not_widen_what_we_subscribed():
    """The partial that a resync asks for is that of the symbol, not of all."""
    client = core(("XBTUSD", "ETHUSD"))
    told(client, book("partial", level(1, "Buy", 5, 100.0), filter={}))
    told(
        client,
        book("partial", level(1, "Buy", 6, 50.0, "ETHUSD"), level(2, "Sell", 6, 40.0, "ETHUSD"), filter={}),
    )

    assert client.depth("XBTUSD", 1) == ([(100.0, 5.0)], [])
    assert commands(client) == [
        ("unsubscribe", ["orderBookL2:ETHUSD"]),
        ("subscribe", ["orderBookL2:ETHUSD"]),
    ]


def test_one_frame_with_rows_of_two_symbols_moves_two_books():
    client = core(("XBTUSD", "ETHUSD"))
    told(client, partial(), partial(symbol="ETHUSD"))
    events = told(client, book("update", level(2, "Buy", 8), level(2, "Buy", 9, symbol="ETHUSD")))

    assert [(event.inst_id, event.bid_size) for event in events] == [("XBTUSD", 8.0), ("ETHUSD", 9.0)]


def test_key_order_of_a_frame_does_not_matter():
    client = core()
    told(client, partial())
    text = (
        '{"data":[{"side":"Buy","size":8,"id":2,"symbol":"XBTUSD"}],"action":"update","table":"orderBookL2"}'
    )

    assert tops(told(client, text)) == tops(told(client, text.encode())) == [(100.0, 8.0, 101.0, 10.0)]


def test_only_the_fullest_book_of_a_symbol_speaks():
    client = core(None)
    told(client, partial(table="orderBookL2_25"))
    told(client, partial())

    assert told(client, book("update", level(2, "Buy", 1), table="orderBookL2_25")) == []
    assert tops(told(client, book("update", level(2, "Buy", 2)))) == [(100.0, 2.0, 101.0, 10.0)]


def test_symbols_that_nobody_asked_for_are_left_alone():
    client = core()

    assert told(client, partial(symbol="ETHUSD"), book("insert", level(9, "Buy", 1, 1.0, "ETHUSD"))) == []
    assert client.depth("ETHUSD", 1) is None


# Doubt


def test_a_crossed_book_is_stale_until_a_new_partial():
    client = core()
    told(client, partial())
    events = told(client, book("insert", level(3, "Buy", 5, 101.0)))

    assert events == [BookStale("XBTUSD", "crossed", NOW)]
    assert commands(client) == [("unsubscribe", [BOOK_TOPIC]), ("subscribe", [BOOK_TOPIC])]
    assert client.depth("XBTUSD", 1) is None
    assert told(client, book("update", level(2, "Buy", 6))) == []  # still of the old stream
    assert tops(told(client, partial())) == [(100.0, 20.0, 101.0, 10.0)]
    assert client.resyncs() == 1


def states(action, word):
    return {
        "table": "instrument",
        "action": action,
        "filter": {"symbol": "XBTUSD"},
        "data": [{"symbol": "XBTUSD", "state": word}],
    }


@pytest.mark.parametrize(
    ("word", "neutral"), [("Closed", "suspend"), ("Unlisted", "preopen"), ("Settled", "expired")]
)
def test_symbol_that_is_not_open_has_no_price_until_it_is(word, neutral):
    """Its book is sound and goes on; nobody can trade there."""
    client = core()
    told(client, partial(), states("partial", "Open"))
    assert told(client, states("update", word)) == [
        InstrumentState("XBTUSD", neutral, NOW),
        BookStale("XBTUSD", "suspended", NOW),
    ]
    assert told(client, book("update", level(2, "Buy", 6)), partial()) == []
    client.receive_time(NOW + int((SILENCE_S + 1) * NS_PER_S))
    assert (client.events_received(), commands(client)) == ([], [])
    assert (client.depth("XBTUSD", 1), client.is_suspended("XBTUSD")) == (None, True)

    assert told(client, states("update", "Open")) == [InstrumentState("XBTUSD", "live", NOW)]
    assert commands(client) == [("unsubscribe", [BOOK_TOPIC]), ("subscribe", [BOOK_TOPIC])]
    assert tops(told(client, book("update", level(2, "Buy", 7)))) == [(100.0, 7.0, 101.0, 10.0)]


def test_symbol_that_was_not_open_before_the_connection_is_never_live_there():
    """Its book may come before its row of ``instrument``."""
    client = core()
    client.receive_state("XBTUSD", "suspend", NOW)

    assert told(client, partial(), book("update", level(2, "Buy", 6))) == [
        BookStale("XBTUSD", "suspended", NOW)
    ]
    assert len(tops(told(client, states("partial", "Open"), partial()))) == 1


def test_symbol_that_is_not_open_is_not_live_by_its_first_levels():
    """In a stream of all symbols a book may begin after its partial."""
    client = core(None)
    told(client, partial(symbol="ETHUSD") | {"filter": {}}, states("partial", "Closed"))
    events = told(client, book("insert", level(1, "Buy", 5, 100.0)))

    assert events == [BookStale("XBTUSD", "suspended", NOW)]
    told(client, states("update", "Open"))
    assert tops(told(client, book("update", level(1, "Buy", 6)))) == [(100.0, 6.0, None, 0.0)]


def test_acks_of_a_resync_are_not_told_as_the_end_of_the_subscription():
    client = core()
    told(client, partial(), book("insert", level(3, "Buy", 5, 102.0)))
    request = {"op": "unsubscribe", "args": [BOOK_TOPIC]}

    assert told(client, {"success": True, "unsubscribe": BOOK_TOPIC, "request": request}) == []
    assert told(client, {"success": True, "subscribe": BOOK_TOPIC, "request": {}}) == [
        SubscriptionChanged("orderBookL2", "XBTUSD", True, "", "", NOW)
    ]


def test_an_unsubscription_that_was_not_ours_ends_the_book():
    client = core(None)
    told(client, partial())
    events = told(client, {"success": True, "unsubscribe": BOOK_TOPIC})

    assert stale_reasons(events) == ["unsubscribed"]
    assert SubscriptionChanged("orderBookL2", "XBTUSD", False, "", "", NOW) in events
    client.receive_time(NOW + 100 * NS_PER_S)
    assert client.events_received() == []


def test_late_book_is_kept_and_live_again_with_the_first_message_in_time():
    client = core(lag=LagWatch(3.0))
    stamps = ["2025-10-01T10:00:00.000Z", "2025-10-01T10:00:03.000Z"]
    first, second = (level(2, "Buy", 5 + n, timestamp=stamp) for n, stamp in enumerate(stamps))
    told(client, partial(), book("update", first), ts=NOW)
    events = told(client, book("update", first), ts=NOW + 4 * NS_PER_S)

    assert events == [BookStale("XBTUSD", "late", NOW + 4 * NS_PER_S)]
    assert client.depth("XBTUSD", 1) is None
    client.receive_time(NOW + 5 * NS_PER_S)
    assert commands(client) == []
    assert tops(told(client, book("update", second), ts=NOW + 4 * NS_PER_S)) == [(100.0, 6.0, 101.0, 10.0)]


def test_first_partial_is_late_when_its_question_was_asked_long_ago():
    client = core(lag=LagWatch(3.0))
    client.receive_open(NOW)

    assert stale_reasons(told(client, partial(), ts=NOW + 8 * NS_PER_S)) == ["late"]


def test_a_few_unknown_levels_are_counted_and_ignored():
    client = core()
    told(client, partial())
    for _ in range(3):
        told(client, book("update", *[level(50 + n, "Buy", 5) for n in range(UNKNOWN_LIMIT)]))
        events = told(client, book("update", level(2, "Buy", 6)))

    assert tops(events) == [(100.0, 6.0, 101.0, 10.0)]
    assert client.unknown_ids == 3 * UNKNOWN_LIMIT


def test_too_many_unknown_levels_in_a_row_make_the_book_stale():
    client = core()
    told(client, partial())
    events = told(client, *[book("delete", level(50 + n, "Sell")) for n in range(UNKNOWN_LIMIT + 1)])

    assert stale_reasons(events) == ["unknown levels"]
    assert [op for op, _ in commands(client)] == ["unsubscribe", "subscribe"]


def test_a_level_with_the_same_id_on_the_other_side_is_another_level():
    client = core()
    told(client, partial())
    told(client, book("update", level(2, "Sell", 5, 101.0)))

    assert client.unknown_ids == 1


@pytest.mark.parametrize(
    "row",
    [
        level(3, "Buy", 5),
        level(3, "Buy", None, 99.0),
        level(3, "Buy", 5, -1.0),
        level(3, "Buy", -5, 99.0),
        level(3, "Both", 5, 99.0),
        level("x", "Buy", 5, 99.0),
        level(3, "Buy", "5", 99.0),
        level(3, None, 5, 99.0),
        None,
        [],
        {},
    ],
)
def test_a_bad_book_row_is_quarantined_and_the_book_fetched_anew(row):
    client = core()
    told(client, partial())
    events = told(client, book("insert", row))

    assert client.quarantined == 1
    assert stale_reasons(events) == ["unreadable row"]
    assert [op for op, _ in commands(client)] == ["unsubscribe", "subscribe"]
    assert tops(told(client, partial())) == [(100.0, 20.0, 101.0, 10.0)]


def test_a_bad_row_hurts_only_the_book_it_belongs_to():
    client = core(("XBTUSD", "ETHUSD"))
    told(client, partial(), partial(symbol="ETHUSD"))
    events = told(client, book("update", level("x", "Buy", 5, symbol="ETHUSD"), level(2, "Buy", 8)))

    assert stale_reasons(events) == ["unreadable row"]
    assert [event.inst_id for event in events] == ["ETHUSD", "XBTUSD"]
    assert tops(events) == [(100.0, 8.0, 101.0, 10.0)]


def test_a_partial_with_a_bad_row_does_not_begin_a_book():
    client = core()
    events = told(client, partial(level(1, "Buy", 5, 100.0), level(2, "Sell", 5, None)))

    assert tops(events) == []
    assert stale_reasons(events) == ["unreadable row"]
    assert client.depth("XBTUSD", 1) is None


def test_resyncs_are_limited_and_go_on_later():
    client = core()
    asked = 0
    for _ in range(50):
        told(client, partial(), book("insert", level(3, "Buy", 5, 102.0)))
        asked += len(client.texts_to_send()) // 2
    assert asked == 5

    client.receive_time(NOW + 31 * NS_PER_S)
    assert [op for op, _ in commands(client)] == ["unsubscribe", "subscribe"]


def test_a_silent_book_is_stale_however_busy_the_connection_is():
    client = core(("XBTUSD", "ETHUSD"))
    told(client, partial(), partial(symbol="ETHUSD"))
    later = NOW + int(SILENCE_S * NS_PER_S)
    told(client, book("update", level(2, "Buy", 8)), ts=later)
    client.receive_time(later)
    assert client.events_received() == []

    client.receive_time(later + NS_PER_S)
    assert client.events_received() == [BookStale("ETHUSD", "silent", later + NS_PER_S)]
    topic = "orderBookL2:ETHUSD"
    assert commands(client) == [("unsubscribe", [topic]), ("subscribe", [topic])]


def test_a_partial_that_never_comes_is_asked_for_again():
    client = core()
    client.receive_time(NOW + int(SILENCE_S * NS_PER_S))
    assert client.events_received() == []

    client.receive_time(NOW + int(SILENCE_S * NS_PER_S) + 1)
    assert stale_reasons(client.events_received()) == ["no snapshot"]
    assert [op for op, _ in commands(client)] == ["unsubscribe", "subscribe"]


def test_a_core_that_only_listens_asks_for_nothing():
    client = core(None)
    told(client, partial(), book("insert", level(3, "Buy", 5, 102.0)))
    client.receive_time(NOW + 3600 * NS_PER_S)

    assert client.texts_to_send() == []
    with pytest.raises(LocalProtocolError):
        client.subscribe()


# The truth


level_prices = st.integers(1, 6)
moves = st.lists(
    st.tuples(
        st.sampled_from(["insert", "update", "delete"]), level_prices, st.booleans(), st.integers(1, 9)
    ),
    max_size=40,
)


@settings(deadline=None)
@given(moves)
def test_top_is_that_of_a_naive_book_while_the_book_is_live(script):
    client = core(None)
    naive = {(1, False): 10.0, (2, True): 20.0}
    told(client, partial(level(1, "Sell", 10, 101.0), level(2, "Buy", 20, 100.0)))

    def price(number, is_bid):
        return 99.0 - number / 2 if is_bid else 102.0 + number / 2

    prices = {(1, False): 101.0, (2, True): 100.0}
    unknown_run = 0
    for action, number, is_bid, size in script:
        side = "Buy" if is_bid else "Sell"
        key = (100 + number, is_bid)
        unknown_run = 0 if action == "insert" or key in naive else unknown_run + 1
        if unknown_run > UNKNOWN_LIMIT:
            return
        (event,) = told(client, book(action, level(key[0], side, size, price(number, is_bid))))
        if isinstance(event, BookStale):
            assert event.reason == "unknown levels"
            return
        if action == "delete":
            naive.pop(key, None)
        elif action == "insert" or key in naive:
            naive[key], prices[key] = float(size), price(number, is_bid)
        bid = max((prices[k], naive[k]) for k in naive if k[1])
        ask = min((prices[k], naive[k]) for k in naive if not k[1])
        assert (event.bid, event.bid_size, event.ask, event.ask_size) == (*bid, *ask)
