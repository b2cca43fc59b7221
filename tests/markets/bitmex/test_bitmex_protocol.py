"""The public BitMEX core: golden frames by hand, damage, recordings, and any text at all."""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dquant.constants import NS_PER_S
from dquant.errors import LocalProtocolError, RemoteProtocolError
from dquant.markets.bitmex._bitmex_books import UNKNOWN_LIMIT
from dquant.markets.bitmex._bitmex_protocol import RATE_RETRIES, BitmexPublicProtocol
from dquant.markets.lag_watch import LagWatch
from dquant.model.events import (
    BookStale,
    FundingRate,
    IndexPrice,
    InstrumentState,
    MarkPrice,
    SubscriptionChanged,
    TopOfBook,
    Trade,
)

NOW = 1_759_312_800 * NS_PER_S  # 2025-10-01T10:00:00Z
SILENCE_S = 10.0
BOOK_TOPIC = "orderBookL2:XBTUSD"


def core(symbols=("XBTUSD",), **options):
    return BitmexPublicProtocol(symbols, silence_s=SILENCE_S, now=NOW, **options)


def told(client, *frames, ts=NOW):
    """Feed frames (text or object) and return the events they made."""
    for frame in frames:
        client.receive_text(frame if isinstance(frame, str | bytes) else json.dumps(frame), ts)
    return client.events_received()


def commands(client):
    return [(sent["op"], sent["args"]) for sent in map(json.loads, client.texts_to_send())]


def level(level_id, side, size=None, price=None, symbol="XBTUSD", **more):
    row = {"symbol": symbol, "id": level_id, "side": side, "size": size, "price": price, **more}
    return {key: value for key, value in row.items() if value is not None}


def book(action, *rows, table="orderBookL2", **more):
    return {"table": table, "action": action, **more, "data": list(rows)}


def partial(*rows, symbol="XBTUSD", table="orderBookL2"):
    rows = rows or (level(1, "Sell", 10, 101.0, symbol), level(2, "Buy", 20, 100.0, symbol))
    return book("partial", *rows, table=table, keys=["symbol", "id", "side"], filter={"symbol": symbol})


def tops(events):
    return [(e.bid, e.bid_size, e.ask, e.ask_size) for e in events if isinstance(e, TopOfBook)]


def stale_reasons(events):
    return [event.reason for event in events if isinstance(event, BookStale)]


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


# The other tables


def test_tables_of_2026_become_events(golden):
    client = core()
    events = told(client, *golden("ws_tables_2026.jsonl"))
    at = 1_779_879_600 * NS_PER_S  # 2026-05-27T11:00:00Z
    half, noon, evening = NS_PER_S // 2, at + 3600 * NS_PER_S, at + 9 * 3600 * NS_PER_S
    tenth = NS_PER_S // 10

    assert events == [
        TopOfBook("XBTUSD", 75847.5, 700.0, 75847.6, 200.0, at, NOW, False),
        TopOfBook("XBTUSD", 75847.5, 800.0, 75847.6, 200.0, at + tenth, NOW, False),
        TopOfBook("XBTUSD", 75847.5, 800.0, None, 0.0, at + 2 * tenth, NOW, False),
        SubscriptionChanged("quote", "XBTUSD", True, "", "", NOW),
        Trade(
            "XBTUSD",
            "00000000-006d-1000-0000-000000000002",
            75847.5,
            300.0,
            "sell",
            at + 250_000_000,
            NOW,
        ),
        MarkPrice("XBTUSD", 75846.9, at, NOW),
        IndexPrice("XBTUSD", 75847.62, at, NOW),
        FundingRate("XBTUSD", 0.0001, noon, at, NOW),
        InstrumentState("XBTUSD", "live", NOW),
        IndexPrice("XBTUSD", 75847.7, at + half, NOW),
        FundingRate("XBTUSD", 0.00025, noon, noon, NOW),
        FundingRate("XBTUSD", 0.00025, evening, noon + half, NOW),
        InstrumentState("XBTUSD", "expired", NOW),
    ]
    assert client.quarantined == 0


def test_a_funding_that_happened_is_told_where_no_coming_one_is_known():
    row = {"timestamp": "2025-10-01T12:00:00.000Z", "symbol": "XBTUSD", "fundingRate": 1e-4}
    events = told(
        core(), {"table": "funding", "action": "partial", "filter": {"symbol": "XBTUSD"}, "data": [row]}
    )
    at = NOW + 7200 * NS_PER_S

    assert events == [FundingRate("XBTUSD", 0.0001, at, at, NOW)]


@pytest.mark.parametrize(
    ("table", "row"),
    [
        ("quote", {"symbol": "XBTUSD", "bidPrice": "100"}),
        ("quote", {"symbol": "XBTUSD", "bidPrice": 100, "askPrice": 100}),
        ("quote", {"symbol": "XBTUSD", "bidPrice": -1}),
        ("trade", {"symbol": "XBTUSD", "side": "Buy", "size": 1}),
        ("trade", {"symbol": "XBTUSD", "size": 1, "price": 1}),
        ("trade", {"symbol": "XBTUSD", "side": "Both", "size": 1, "price": 1}),
        ("trade", {"symbol": "XBTUSD", "side": "Buy", "size": 0, "price": 1}),
        ("trade", {"side": "Buy", "size": 1, "price": 1}),
        ("instrument", {"symbol": "XBTUSD", "markPrice": []}),
        ("instrument", 5),
        ("funding", {"symbol": "XBTUSD", "fundingRate": 1}),
        ("funding", {"symbol": "XBTUSD", "fundingRate": 1, "timestamp": "noon"}),
    ],
)
def test_a_bad_row_of_another_table_is_quarantined_and_the_rest_read(table, row):
    client = core()
    good = {
        "quote": {"symbol": "XBTUSD", "bidPrice": 1},
        "trade": {"symbol": "XBTUSD", "side": "Buy", "size": 1, "price": 1},
        "instrument": {"symbol": "XBTUSD", "markPrice": 1},
        "funding": {"symbol": "XBTUSD", "fundingRate": 1, "timestamp": "2025-10-01T10:00:00.000Z"},
    }[table]
    told(client, {"table": table, "action": "partial", "filter": {"symbol": "XBTUSD"}, "data": []})

    assert len(told(client, {"table": table, "action": "insert", "data": [row, good]})) == 1
    assert client.quarantined == 1


@pytest.mark.parametrize(
    "stamp", ["2025-10-01T10:00:00.5Z", "yesterday", "2025-10-01T10:00:0x.000Z", "", None]
)
def test_a_timestamp_that_cannot_be_read_is_ours(stamp):
    client = core()
    told(client, partial(), book("update", level(2, "Buy", 7, timestamp="2025-10-01T10:00:00.000Z")))
    (event,) = told(client, book("update", level(2, "Buy", 8, timestamp=stamp)), ts=NOW + 7)

    assert event.ts_event == (NOW + NS_PER_S // 2 if stamp == "2025-10-01T10:00:00.5Z" else NOW + 7)


# The conversation


def test_subscriptions_go_out_in_commands_of_ten_topics():
    client = core(("XBTUSD", "ETHUSD", "XBTUSDT"))
    client.subscribe()
    sent = commands(client)

    assert [(op, len(args)) for op, args in sent] == [("subscribe", 10), ("subscribe", 5)]
    assert {topic for _, args in sent for topic in args} == {
        f"{table}:{symbol}"
        for table in ("orderBookL2", "quote", "trade", "instrument", "funding")
        for symbol in ("XBTUSD", "ETHUSD", "XBTUSDT")
    }
    client.subscribe(["liquidation"])
    assert commands(client) == [
        ("subscribe", ["liquidation:XBTUSD", "liquidation:ETHUSD", "liquidation:XBTUSDT"])
    ]


def test_silence_is_answered_by_one_ping_and_then_by_giving_up():
    client = core()
    client.receive_silence()
    assert client.texts_to_send() == ["ping"]
    assert told(client, "pong") == []
    client.receive_silence()

    with pytest.raises(RemoteProtocolError, match="no answer to a ping"):
        client.receive_silence()


@pytest.mark.parametrize(
    "frame",
    [
        {"status": 400, "error": "You are already subscribed to this topic: orderBookL2:XBTUSD."},
        {"error": "Not subscribed to orderBookL2:XBTUSD. Please see the documentation."},
        {
            "status": 400,
            "error": f"Not subscribed to {BOOK_TOPIC}.",
            "meta": {},
            "request": {"op": "unsubscribe", "args": [BOOK_TOPIC]},
        },
    ],
)
def test_doing_twice_what_is_done_is_harmless(frame):
    assert told(core(), frame) == []


def test_a_refused_topic_is_told_and_asks_for_nothing_more():
    client = core(("XBTUSD", "NOSUCH"))
    words = "Unknown or expired symbol NOSUCH in orderBookL2:NOSUCH."
    request = {"op": "subscribe", "args": ["orderBookL2:XBTUSD", "orderBookL2:NOSUCH"]}
    events = told(client, {"status": 400, "error": words, "meta": {}, "request": request})

    assert events == [
        BookStale("NOSUCH", "subscription refused", NOW),
        SubscriptionChanged("orderBookL2", "NOSUCH", False, "400", words, NOW),
    ]
    told(client, partial())
    client.receive_time(NOW + NS_PER_S)
    assert client.texts_to_send() == []


def test_a_scalar_argument_and_a_missing_status_are_read():
    events = told(core(), {"error": "No such topic", "request": {"op": "subscribe", "args": "quote:XBTUSD"}})

    assert events == [SubscriptionChanged("quote", "XBTUSD", False, "", "No such topic", NOW)]


def test_a_subscription_refused_for_its_rate_is_sent_again_a_few_times():
    client = core()
    refusal = {
        "status": 429,
        "error": "Rate limit exceeded, retry in 2 seconds.",
        "meta": {"retryAfter": 2},
        "request": {"op": "subscribe", "args": "quote:XBTUSD"},
    }
    now = NOW
    for _ in range(RATE_RETRIES):
        assert told(client, refusal, ts=now) == []
        client.receive_time(now + NS_PER_S)
        assert client.texts_to_send() == []
        now += 2 * NS_PER_S
        client.receive_time(now)
        assert commands(client) == [("subscribe", ["quote:XBTUSD"])]
    (event,) = told(client, refusal, ts=now)

    assert event.code == "429"


def test_an_error_that_answers_no_command_ends_the_conversation():
    with pytest.raises(RemoteProtocolError, match="retry in 29 seconds"):
        told(core(), {"error": "Rate limit exceeded, retry in 29 seconds."})


def test_frames_of_other_tables_and_notices_are_passed_over():
    client = core()
    frames = [
        {"info": "Bye."},
        {"table": "orderBook10", "action": "update", "data": [{"symbol": "XBTUSD"}]},
        {"table": "order", "action": "insert", "data": [5]},
        {"success": True, "request": {"op": "authKeyExpires", "args": ["key", 17, "sig"]}},
    ]

    assert told(client, *frames) == []
    assert client.quarantined == 0
    assert client.messages == 4


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[]",
        "5",
        "null",
        '{"table":5,"action":"update","data":[]}',
        '{"table":"orderBookL2","action":"upsert","data":[]}',
        '{"table":"orderBookL2","data":[]}',
        '{"table":"orderBookL2","action":"update"}',
        '{"table":"orderBookL2","action":"update","data":{}}',
        '{"table":"quote","action":"insert","data":"x"}',
        '{"table":"trade","action":"insert","data":[],"filter":{"symbol":7}}',
        '{"table":"orderBookL2","action":"update","data":[',
        "\ud800",
        b"\xff\xfe",
        "[" * 100_000,
        '{"table":"orderBookL2","action":"update","data":' + "[" * 100_000,
    ],
)
def test_a_damaged_frame_ends_the_conversation(text):
    with pytest.raises(RemoteProtocolError):
        core().receive_text(text, NOW)


scraps = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
json_like = st.recursive(
    scraps,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
)
words = st.sampled_from(["XBTUSD", "Buy", "Sell", "2025-10-01T10:00:00.000Z", "Regular", "Open"])
values = words | st.integers(-2, 4) | st.floats(0, 200) | json_like
rows = st.dictionaries(
    st.sampled_from(
        [
            *(
                "symbol",
                "id",
                "side",
                "size",
                "price",
                "timestamp",
                "bidPrice",
                "askPrice",
                "bidSize",
                "trdType",
            ),
            *("trdMatchID", "state", "markPrice", "indicativeSettlePrice", "fundingRate", "fundingTimestamp"),
        ]
    ),
    values,
    max_size=8,
)
frames = st.fixed_dictionaries(
    {
        "table": st.sampled_from(["orderBookL2", "orderBookL2_25", "quote", "trade", "instrument", "funding"])
        | json_like,
        "action": st.sampled_from(["partial", "insert", "update", "delete"]) | json_like,
        "data": st.lists(rows | json_like, max_size=4) | json_like,
    },
    optional={"filter": st.fixed_dictionaries({}, optional={"symbol": words}) | json_like},
)
answers = st.fixed_dictionaries(
    {},
    optional={
        "error": words | json_like,
        "status": st.sampled_from([400, 429]) | json_like,
        "meta": json_like,
        "success": st.booleans() | json_like,
        "subscribe": words | json_like,
        "unsubscribe": words | json_like,
        "request": st.fixed_dictionaries(
            {},
            optional={
                "op": st.sampled_from(["subscribe", "unsubscribe"]),
                "args": st.lists(words) | json_like,
            },
        )
        | json_like,
    },
)
texts = st.one_of(st.text(), st.binary(), st.one_of(json_like, frames, answers).map(json.dumps))


@settings(deadline=None, max_examples=300)
@given(st.lists(texts, max_size=6), st.booleans())
def test_any_text_is_read_or_refused_as_a_remote_error(script, is_listening):
    client = core(None if is_listening else ("XBTUSD",))
    told(client, partial())
    for text in script:
        with contextlib.suppress(RemoteProtocolError):
            client.receive_text(text, NOW)
        client.receive_time(NOW)
        for event in client.events_received():
            assert not isinstance(event, TopOfBook) or None in (event.bid, event.ask) or event.bid < event.ask


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


# Recordings


def test_the_recorded_session_of_2021_has_no_stale_period(recorded):
    """The last top of each book is the last quote of the venue."""
    client, book_tops, quotes = core(None), {}, {}
    lines = (recorded / "tapes" / "bitmex-2021-07-22-four-symbols.jsonl").read_text().splitlines()
    for record in map(json.loads, lines):
        if record.get("dir") != "in":
            continue
        events = told(client, record["text"], ts=record["ts"])
        assert stale_reasons(events) == []
        for event in events:
            if isinstance(event, TopOfBook):
                top = (event.bid, event.bid_size, event.ask, event.ask_size)
                (book_tops if event.from_book else quotes)[event.inst_id] = top

    assert sorted(book_tops) == ["ADAUSDT", "BCHUSD", "EOSUSDT", "UNIUSDT"]
    assert book_tops == quotes
    assert (client.quarantined, client.unknown_ids) == (0, 0)


def test_every_recorded_frame_is_read(recorded):
    """Rows that their source keeps without an envelope are no frames."""
    folder = recorded / "bitmex"
    frames = [path for path in sorted(folder.rglob("ws_*.json")) if "table" in json.loads(path.read_text())]
    assert len(frames) > 50
    for path in frames:
        client = core(None)
        client.receive_text(path.read_bytes(), NOW)
        assert client.quarantined == 0, path.name
        if "orderBookL2" in path.name and "partial" in path.name:
            assert tops(client.events_received()), path.name


def test_the_recorded_session_of_2018_is_read(recorded):
    client = core(None)
    for line in (
        (recorded / "bitmex" / "captures" / "riot_testnet_session_2018-08-16.jsonl").read_text().splitlines()
    ):
        record = json.loads(line)
        if record["dir"] == "ws_in":
            client.receive_text(json.dumps(record["frame"]), NOW)

    kinds = {type(event) for event in client.events_received()}
    assert {TopOfBook, MarkPrice, IndexPrice, FundingRate, SubscriptionChanged} <= kinds
    assert client.quarantined == 0
