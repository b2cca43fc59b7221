"""The public OKX core apart from its books: rows, control, limits, recordings, and any text at all."""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dquant.constants import NS_PER_MS, NS_PER_S
from dquant.errors import RemoteProtocolError
from dquant.markets.okex._okex_protocol import (
    MAX_PENDING_REQUESTS,
    MAX_RETRIES,
    TRANSIENT_CODES,
    OkexPublicProtocol,
)
from dquant.model.events import (
    BookStale,
    FundingRate,
    IndexPrice,
    InstrumentState,
    MarkPrice,
    ReconnectAsked,
    SubscriptionChanged,
    TickerStats,
    TopOfBook,
    Trade,
)
from tests.markets.cores import commands, stale_reasons, tops
from tests.markets.okex.frames import (
    BOOKS,
    INST,
    NOW,
    SILENCE_S,
    at,
    core,
    error,
    push,
    snapshot,
    told,
    update,
)

# What is pushed besides books


def test_rows_become_events(golden):
    """Empty means none yet: no event, no 0, no damage."""
    client = core()
    assert told(client, *golden("ws_rows.jsonl")) == [
        TickerStats(INST, 84310.2, 3.0, 1010000.0, NOW, NOW),
        TickerStats(INST, 84310.2, 0.0, 0.0, NOW, NOW),
        Trade(INST, "5120412", 84310.2, 12.5, "buy", NOW + 233 * NS_PER_MS, NOW),
        Trade(INST, "5120413", 84310.1, 1.0, "sell", NOW + 233 * NS_PER_MS, NOW),
        MarkPrice(INST, 84309.7, NOW, NOW),
        IndexPrice("BTC-USD", 84280.0, NOW, NOW),
        FundingRate("BTC-USD-SWAP", 0.0000263463215391, NOW + 3600 * NS_PER_S, NOW + 5 * NS_PER_MS, NOW),
        FundingRate("BTC-USD-SWAP", -0.0001, NOW, NOW, NOW),
        *(InstrumentState(INST, state, NOW) for state in ("preopen", "live", "suspend", "expired")),
    ]
    assert client.quarantined == 0


TRADE = {"instId": INST, "tradeId": "1", "px": "100", "sz": "1", "side": "buy", "ts": "1"}
MARK = {"instId": INST, "markPx": "100", "ts": "1"}


@pytest.mark.parametrize(
    ("channel", "row"),
    [
        *(
            ("trades", TRADE | {key: value})
            for key in ("px", "sz")
            for value in ("", "nan", "inf", "-1", [], None)
        ),
        ("trades", TRADE | {"px": "0"}),
        ("trades", TRADE | {"px": 10**400}),
        ("trades", TRADE | {"side": "both"}),
        ("trades", TRADE | {"side": ["buy"]}),
        ("trades", TRADE | {"instId": ["x"]}),
        ("trades", TRADE | {"instId": ""}),
        ("trades", TRADE | {"tradeId": 7}),
        *(
            ("mark-price", MARK | {"ts": value})
            for value in ("", "-1", "9" * 20, "9" * 5000, 1e308, None, {})
        ),
        ("mark-price", {"instId": INST, "ts": "1"}),
        ("index-tickers", {"instId": INST, "idxPx": "0", "ts": "1"}),
        ("tickers", {"instId": INST, "ts": "1"}),
        ("funding-rate", {"instId": INST, "fundingRate": "0.1"}),
        ("funding-rate", {"instId": INST, "fundingRate": "inf", "fundingTime": "1"}),
        ("instruments", {"instId": INST}),
        ("instruments", {"instId": INST, "state": ["live"]}),
        *(("trades", value) for value in (None, "row", 7, [], {})),
    ],
)
def test_bad_row_is_counted_and_its_neighbours_are_read(channel, row):
    client = core()
    events = told(client, push(channel, row), push("trades", TRADE, row, TRADE))

    assert [type(event) for event in events] == [Trade, Trade]
    assert client.quarantined == 2


@pytest.mark.parametrize("data", [None, {}, "x", 7])
def test_push_that_is_no_list_is_counted(data):
    client = core()
    assert told(client, push("trades") | {"data": data}) == []
    assert client.quarantined == 1


# Acknowledgements, errors, notices


def test_control_frames_are_told_by_code_and_unknown_ones_let_pass(golden):
    client = core()
    events = told(client, *golden("ws_control.jsonl"))
    words = "Subscribe failed, wrong URL or channel:candle1m,instId:BTC-USDT doesn't exist."

    assert [event for event in events if not isinstance(event, SubscriptionChanged)] == [
        ReconnectAsked(
            "64008: The connection will soon be closed for a service upgrade. Please reconnect.", NOW
        )
    ]
    changes = [event for event in events if isinstance(event, SubscriptionChanged)]
    assert changes[:2] == [SubscriptionChanged("books", INST, True, "0", "", NOW)] * 2
    assert [(e.channel, e.inst_id, e.is_subscribed, e.code) for e in changes[2:]] == [
        ("orders", "", False, "channel-conn-count"),
        ("candle1m", "BTC-USDT", False, "60018"),
        ("", "", False, "60014"),
        ("", "", False, "None"),
    ]
    assert changes[3].message.startswith(words)
    assert (client.quarantined, client.messages) == (0, 19)


def subscribed(*args):
    """Return a core and the id of the one request that asked for these."""
    client = OkexPublicProtocol(silence_s=SILENCE_S, now=NOW)
    client.subscribe(args)
    (sent,) = client.texts_to_send()
    return client, json.loads(sent)["id"]


def test_request_carries_an_id_and_all_channels():
    client = OkexPublicProtocol(silence_s=SILENCE_S, now=NOW)
    client.subscribe([BOOKS, {"channel": "trades", "instId": INST}])
    (text,) = client.texts_to_send()
    request = json.loads(text)

    assert request == {
        "id": request["id"],
        "op": "subscribe",
        "args": [BOOKS, {"channel": "trades", "instId": INST}],
    }
    assert request["id"].isalnum()
    assert client.texts_to_send() == []


def test_refused_book_is_stale_and_stays_so_until_a_snapshot_comes():
    """60018: the contract is unknown; asking again would change nothing. A later success counts."""
    client, request_id = subscribed(BOOKS)
    events = told(client, error("60018", id=request_id))

    assert events == [
        SubscriptionChanged("books", INST, False, "60018", "Refused.", NOW),
        BookStale(INST, "subscription refused: 60018", NOW),
    ]
    for second in range(1, 400):
        client.receive_time(at(second))
    assert (client.events_received(), commands(client)) == ([], [])

    assert len(tops(told(client, {"event": "subscribe", "arg": BOOKS}, snapshot(10)))) == 1


def test_refused_resync_is_not_repeated():
    client = core()
    told(client, snapshot(10), update(11, 12))
    _, subscribe = map(json.loads, client.texts_to_send())
    told(client, error("60018", id=subscribe["id"]))
    for second in range(1, 400):
        client.receive_time(at(second))

    assert commands(client) == []


def test_refused_unsubscribe_of_a_resync_refuses_nothing():
    """Unsubscribing what the venue does not know any more is no news; the snapshot still comes."""
    client = core()
    told(client, snapshot(10), update(11, 12))
    unsubscribe, _ = map(json.loads, client.texts_to_send())

    assert told(client, error("60018", id=unsubscribe["id"])) == []
    client.receive_time(at(SILENCE_S + 1))
    assert len(commands(client)) == 2


@pytest.mark.parametrize("code", sorted(TRANSIENT_CODES))
def test_book_refused_for_now_is_asked_for_again(code):
    client, request_id = subscribed(BOOKS)
    told(client, error(code, id=request_id))
    client.receive_time(at(1))

    assert commands(client) == [("unsubscribe", [BOOKS]), ("subscribe", [BOOKS])]


def test_channel_refused_for_now_is_asked_for_again_ever_more_rarely():
    """60014 is about the whole request: asking for each channel alone would make it worse."""
    trades, mark = ({"channel": channel, "instId": INST} for channel in ("trades", "mark-price"))
    client, request_id = subscribed(trades, mark)
    asked_at = []
    told(client, error("60014", id=request_id))
    for second in range(2000):
        client.receive_time(at(second))
        for request in map(json.loads, client.texts_to_send()):
            assert (request["op"], request["args"]) == ("subscribe", [trades, mark])
            asked_at.append(second)
            told(client, error("60014", id=request["id"]), ts=at(second))

    assert asked_at == [10, 30, 70, 150, 310]
    assert len(asked_at) == MAX_RETRIES


def test_channel_given_up_meanwhile_is_not_asked_for_again():
    trades, mark = ({"channel": channel, "instId": INST} for channel in ("trades", "mark-price"))
    client, request_id = subscribed(trades, mark)
    told(client, error("64007", id=request_id))
    client.unsubscribe([trades])
    client.receive_time(at(60))

    assert commands(client) == [("unsubscribe", [trades]), ("subscribe", [mark])]


def test_error_of_one_of_several_is_found_by_its_words():
    trades = {"channel": "trades", "instId": INST}
    client, request_id = subscribed(BOOKS, trades)
    words = f"Wrong URL or channel:trades,instId:{INST} doesn't exist. Please use the correct URL."
    events = told(client, error("60018", words, id=request_id))

    assert [(event.channel, event.code) for event in events] == [("trades", "60018")]
    assert commands(client) == []


def test_error_of_one_of_several_without_words_asks_for_each_alone():
    trades = {"channel": "trades", "instId": INST}
    client, request_id = subscribed(BOOKS, trades)
    assert told(client, error("60012", id=request_id)) == []
    first, second = map(json.loads, client.texts_to_send())
    assert [first["args"], second["args"]] == [[BOOKS], [trades]]

    events = told(client, error("60012", id=second["id"]), error("60012", id=request_id))
    assert [(event.channel, event.code) for event in events] == [("trades", "60012"), ("", "60012")]
    assert commands(client) == []


def test_error_without_id_is_found_by_its_words():
    words = f"Subscribe failed, wrong URL or channel:books,instId:{INST} doesn't exist."
    events = told(core(), error("60018", words))

    assert [type(event) for event in events] == [SubscriptionChanged, BookStale]
    assert events[0].inst_id == INST


# Time


def test_ping_is_sent_once_and_any_frame_answers_it():
    client = core()
    client.receive_silence()
    assert client.texts_to_send() == ["ping"]
    told(client, "pong")
    client.receive_silence()
    told(client, b"pong")
    client.receive_silence()
    told(client, snapshot(10))
    client.receive_silence()
    with pytest.raises(RemoteProtocolError, match="no pong"):
        client.receive_silence()
    assert client.silence_limit_s * 2 < 30  # the venue hangs up after 30 s


@settings(deadline=None, max_examples=20)
@given(
    st.integers(1, 12),
    st.lists(
        st.sampled_from(["gap", "heal", "crossed", "bad", "refuse", "nothing"]), min_size=5, max_size=30
    ),
)
def test_requests_stay_below_480_an_hour_whatever_happens(books, plan):
    """Several books in one connection share its limit; two hours of trouble."""
    inst_ids = [f"X{n}" for n in range(books)]
    client = OkexPublicProtocol(silence_s=SILENCE_S, now=NOW)
    client.subscribe([{"channel": "books", "instId": inst_id} for inst_id in inst_ids])
    sent = []
    for second in range(0, 2 * 3600, 11):
        for number, inst_id in enumerate(inst_ids):
            trouble = plan[(second + number) % len(plan)]
            if trouble in ("gap", "heal", "crossed"):
                told(client, snapshot(10, inst_id), ts=at(second))
            if trouble == "gap":
                told(client, update(11, 12, inst_id=inst_id), ts=at(second))
            elif trouble == "crossed":
                told(client, update(10, 11, bids=[(101, 1)], inst_id=inst_id), ts=at(second))
            elif trouble == "bad":
                told(client, snapshot(10, inst_id, bids=[("x", 1)]), ts=at(second))
        client.receive_time(at(second))
        for text in client.texts_to_send():
            sent.append(second)
            request = json.loads(text)
            if plan[second % len(plan)] == "refuse" and request["op"] == "subscribe":
                told(client, error("60014", id=request["id"]), ts=at(second))
        client.events_received()
    for first in sent:
        assert sum(first <= one < first + 3600 for one in sent) <= 480
    assert len(client._pending) <= MAX_PENDING_REQUESTS


# Recordings, and anything at all


def wire_files(folder):
    names = sorted(path for path in folder.glob("ws_*.json") if "request" not in path.name)
    assert len(names) > 80
    return names


def test_every_recorded_frame_is_read_without_quarantine(recorded):
    """Truncated ones (their names say so) are read as well; only their checksum cannot hold."""
    for path in wire_files(recorded / "okx"):
        client = OkexPublicProtocol(silence_s=0, now=NOW, is_open=True)
        events = told(client, json.dumps(json.loads(path.read_text())))
        assert client.quarantined == 0, path.name
        reasons = stale_reasons(events)
        assert reasons == (["checksum mismatch"] if "snapshot_NEAR" in path.name else []), path.name


def test_recorded_rows_make_events(recorded):
    made = {}
    for path in wire_files(recorded / "okx"):
        client = OkexPublicProtocol(silence_s=0, now=NOW, is_open=True)
        events = told(client, json.dumps(json.loads(path.read_text())))
        made.setdefault(path.name.split("__")[0], set()).update(type(event) for event in events)

    for name, kind in {
        "ws_tickers": TickerStats,
        "ws_trades": Trade,
        "ws_mark_price": MarkPrice,
        "ws_index_tickers": IndexPrice,
        "ws_funding_rate": FundingRate,
        "ws_instruments": InstrumentState,
        "ws_bbo_tbt": TopOfBook,
        "ws_books5": TopOfBook,
    }.items():
        assert made[name] == {kind}, name
    assert made["ws_notice_64008.json"] == {ReconnectAsked}


def test_recorded_capture_of_2026_is_read_whole(recorded):
    path = recorded / "okx" / "captures" / "okx-2026-09-30-mark-funding-oi-index.jsonl"
    client = OkexPublicProtocol(silence_s=0, now=NOW, is_open=True)
    events = []
    for line in path.read_text().splitlines():
        _, _, text = line.partition("\t")
        events += told(client, text)

    assert client.quarantined == 0
    assert {MarkPrice, FundingRate, IndexPrice} <= {type(event) for event in events}


def test_recorded_tape_of_2022_is_proved_to_the_end(recorded):
    client = OkexPublicProtocol(silence_s=0, now=NOW, is_open=True)
    events = []
    for line in (recorded / "tapes" / "okex-2022-05-13-UNI-USD-SWAP.jsonl").read_text().splitlines()[1:]:
        record = json.loads(line)
        if record["dir"] == "in":
            events += told(client, record["text"], ts=record["ts"])

    assert (client.quarantined, stale_reasons(events)) == (0, [])
    assert len(tops(events)) > 50


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
channels = st.sampled_from(
    [
        "books",
        "books-l2-tbt",
        "bbo-tbt",
        "books5",
        "tickers",
        "trades",
        "mark-price",
        "instruments",
        "no-such",
    ]
)
names = [
    "instId",
    "last",
    "lastSz",
    "vol24h",
    "px",
    "sz",
    "side",
    "ts",
    "tradeId",
    "markPx",
    "idxPx",
    "state",
]
names += ["fundingRate", "fundingTime", "asks", "bids", "seqId", "prevSeqId", "checksum"]
values = json_like | st.sampled_from(["1", "", "buy", "nan", INST, 1e308, [["100", "1", "0", "1"]]])
wire_rows = st.dictionaries(st.sampled_from(names), values, max_size=8) | json_like
frames_like = st.fixed_dictionaries(
    {},
    optional={
        "arg": st.fixed_dictionaries({"channel": channels, "instId": st.just(INST)}) | json_like,
        "data": st.lists(wire_rows, max_size=3) | json_like,
        "action": st.sampled_from(["snapshot", "update", ""]) | json_like,
        "event": st.sampled_from(["error", "notice", "subscribe", "channel-conn-count-error"]) | json_like,
        "code": st.sampled_from(["60018", "60014", "64008"]) | json_like,
        "msg": st.just(f"channel:books,instId:{INST}") | json_like,
        "id": st.sampled_from(["1", "2", "3"]) | json_like,
        "channel": json_like,
    },
)


@settings(deadline=None, max_examples=300)
@given(
    st.lists(
        st.text() | st.binary() | json_like.map(json.dumps) | frames_like.map(json.dumps) | st.just("\ud800"),
        max_size=5,
    )
)
def test_any_text_is_read_or_refused_as_a_remote_error(texts):
    client = core()
    told(client, snapshot(10))
    for number, text in enumerate(texts):
        with contextlib.suppress(RemoteProtocolError):
            client.receive_text(text, NOW)
        client.receive_time(at(number))
        client.depth(INST, 5)
        json.dumps([str(event) for event in client.events_received()])
        for sent in client.texts_to_send():
            json.loads(sent)


@pytest.mark.parametrize(
    "start",
    [
        b"[",
        b'{"a":',
        b'{"data":[',
        b'{"arg":{"a":[',
        b'{"event":[',
        b'{"arg":{"channel":"books","instId":"X"},"data":[',
    ],
)
def test_absurd_nesting_is_refused(start):
    for text in (start * 100_000, start + b"[" * 100_000):
        with pytest.raises(RemoteProtocolError):
            core().receive_text(text, NOW)


@pytest.mark.parametrize("text", ["", "ping", "null", "1", '"pong"', "[]", "<html>", "{", b"\xff", "Pong"])
def test_text_that_is_no_object_ends_the_conversation(text):
    with pytest.raises(RemoteProtocolError, match="unreadable frame"):
        core().receive_text(text, NOW)
