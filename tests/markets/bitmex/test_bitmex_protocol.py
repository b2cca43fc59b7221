"""The public BitMEX core: tables, conversation, damage, recordings, and any text at all."""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dquant.constants import NS_PER_S
from dquant.errors import RemoteProtocolError
from dquant.markets.bitmex._bitmex_protocol import RATE_RETRIES
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
from tests.markets.bitmex.frames import BOOK_TOPIC, NOW, book, core, level, partial, told
from tests.markets.cores import commands, stale_reasons, tops

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
