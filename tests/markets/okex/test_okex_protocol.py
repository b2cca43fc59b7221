"""The public OKX core: golden frames by hand, damage, limits, recordings, and any text at all."""

import contextlib
import json
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dquant.constants import NS_PER_MS, NS_PER_S
from dquant.errors import RemoteProtocolError
from dquant.markets.lag_watch import LagWatch
from dquant.markets.okex._okex_protocol import (
    MAX_LEVELS,
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

NOW = 1_795_334_400 * NS_PER_S  # 2026-11-22T08:00:00Z
INST = "BTC-USD-261127"
SILENCE_S = 10.0
BOOKS = {"channel": "books", "instId": INST}


def core(*inst_ids, **options):
    """Return a core that has asked for these books, its requests drained."""
    client = OkexPublicProtocol(silence_s=SILENCE_S, now=NOW, **options)
    client.subscribe([{"channel": "books", "instId": inst_id} for inst_id in inst_ids or (INST,)])
    client.texts_to_send()
    return client


def told(client, *frames, ts=NOW):
    """Feed frames (text or object) and return the events they made."""
    for frame in frames:
        client.receive_text(frame if isinstance(frame, str | bytes) else json.dumps(frame), ts)
    return client.events_received()


def commands(client):
    return [(sent["op"], sent["args"]) for sent in map(json.loads, client.texts_to_send())]


def at(seconds):
    return NOW + int(seconds * NS_PER_S)


def rows(*levels):
    return [[str(price), str(size), "0", "1"] for price, size in levels]


def book(action, asks=(), bids=(), inst_id=INST, channel="books", ts=1795334400000, **fields):
    data = {"asks": rows(*asks), "bids": rows(*bids), "ts": str(ts), **fields}
    frame = {"arg": {"channel": channel, "instId": inst_id}, "data": [data]}
    return {**frame, "action": action} if action else frame


def snapshot(seq=10, inst_id=INST, **fields):
    fields = {"asks": [(101, 5)], "bids": [(100, 7)], "checksum": 0, **fields}
    return book("snapshot", inst_id=inst_id, seqId=seq, prevSeqId=-1, **fields)


def update(prev, seq, asks=(), bids=(), inst_id=INST, **fields):
    return book("update", asks, bids, inst_id, **{"checksum": 0, "seqId": seq, "prevSeqId": prev, **fields})


def push(channel, *data, inst_id=INST):
    return {"arg": {"channel": channel, "instId": inst_id}, "data": list(data)}


def error(code, message="Refused.", **fields):
    return {"event": "error", "code": code, "msg": message, **fields}


def tops(events):
    return [(e.bid, e.bid_size, e.ask, e.ask_size) for e in events if isinstance(e, TopOfBook)]


def stale_reasons(events):
    return [event.reason for event in events if isinstance(event, BookStale)]


# Books: the chain


def test_book_of_2026_follows_the_chain_through_idle_and_reset(golden):
    """Idle frames repeat the seqId, maintenance restarts it lower: neither is a gap."""
    client = core()
    events = told(client, *golden("ws_books_2026.jsonl"))

    assert events[0] == SubscriptionChanged("books", INST, True, "0", "", NOW)
    assert tops(events) == [
        (84309.1, 57.2, 84310.2, 66.0),
        (84309.1, 57.2, 84310.2, 66.0),
        (84310.0, 12.5, 84311.5, 4.0),
        (84310.0, 12.5, 84311.5, 4.0),
        (84310.0, 12.5, 84311.5, 5.0),
        (84310.0, 12.5, 84311.4, 1.0),
        (84310.0, 12.5, None, 0.0),
        (None, 0.0, None, 0.0),
        (84300.0, 2.0, 84400.0, 1.0),
    ]
    assert stale_reasons(events) == []
    assert [event.ts_event - NOW for event in events[1:4]] == [n * 100 * NS_PER_MS for n in (1, 4, 5)]
    assert client.depth(INST, 5) == ([(84300.0, 2.0)], [(84400.0, 1.0)])
    assert (client.quarantined, client.duplicates, client.messages, commands(client)) == (0, 0, 10, [])


def test_gap_is_stale_until_the_new_snapshot(golden):
    """A repeated message is dropped; after the gap nothing applies, however well it would chain."""
    client = core()
    frames = golden("ws_books_2026_gap.jsonl")
    before = told(client, *frames[:4])

    assert tops(before) == [(84309.1, 57.2, 84310.2, 66.0), (84309.5, 1.0, 84310.2, 66.0)]
    assert before[-1] == BookStale(INST, "sequence broken", NOW)
    assert client.duplicates == 1
    assert client.depth(INST, 5) is None
    assert commands(client) == [("unsubscribe", [BOOKS]), ("subscribe", [BOOKS])]

    after = told(client, *frames[4:])
    assert tops(after) == [(84309.2, 9.0, 84309.9, 2.0), (84309.3, 1.0, 84309.9, 2.0)]
    assert stale_reasons(after) == []
    assert (client.resyncs(), commands(client)) == (1, [])


@pytest.mark.parametrize(
    "damage",
    [
        update(9, 11),
        update(-1, 11),
        {**update(10, 11), "action": "anything"} | update(11, 12),
        book("update", bids=[(99, 1)], checksum=0, seqId=11),
        book("update", bids=[(99, 1)], checksum=0),
        book("update", bids=[(99, 1)]),
        book("update", bids=[(99, 1)], checksum=77),
        update(10, None) | {},
        update(10, 10, bids=[(100, 8)], inst_id=INST, checksum=77),
    ],
)
def test_update_that_does_not_chain_is_a_break(damage):
    """A prevSeqId that is missing is no 0; a checksum where none was sent proves nothing."""
    client = core()
    told(client, snapshot(10))
    events = told(client, damage)
    if not stale_reasons(events):  # a seqId that is missing breaks with the message after it
        events = told(client, update(10, 11))

    assert len(stale_reasons(events)) == 1
    assert tops(events) == []
    assert told(client, update(11, 12)) == []


def test_acks_and_messages_of_the_old_subscription_may_come_late():
    client = core()
    told(client, snapshot(10))
    told(client, update(11, 12))
    ack = {"event": "subscribe", "arg": BOOKS, "connId": "a4d3ae55"}
    events = told(client, update(12, 13), snapshot(20), {**ack, "event": "unsubscribe"}, update(20, 21), ack)

    assert [type(event) for event in events] == [TopOfBook, TopOfBook, SubscriptionChanged]
    assert client.depth(INST, 1) is not None


def test_books_of_one_connection_are_judged_apart():
    client = core("A", "B")
    events = told(client, snapshot(10, "A"), snapshot(20, "B"), update(9, 11, inst_id="A"))
    assert stale_reasons(events) == ["sequence broken"]

    events = told(client, update(20, 21, bids=[(100.5, 1)], inst_id="B"), update(11, 12, inst_id="A"))
    assert [(event.inst_id, event.bid) for event in events] == [("B", 100.5)]
    assert (client.depth("A", 1), client.depth("B", 1)) == (None, ([(100.5, 1.0)], [(101.0, 5.0)]))
    assert client.depth("C", 1) is None


@pytest.mark.parametrize("bid", [101, 102])
def test_crossed_book_is_stale(bid):
    client = core()
    events = told(client, snapshot(10), update(10, 11, bids=[(bid, 1)]))

    assert (len(tops(events)), stale_reasons(events)) == (1, ["crossed"])
    assert len(commands(client)) == 2


def test_crossed_book_whose_chain_holds_is_live_again_when_the_venue_uncrosses_it():
    """The snapshot that was asked for is not needed: every message since was next in the chain."""
    client = core()
    told(client, snapshot(10), update(10, 11, bids=[(101, 1)]))
    assert told(client, update(11, 12, bids=[(102, 1)])) == []  # crossed still
    assert tops(told(client, update(12, 13, bids=[(102, 0), (101, 0)]))) == [(100, 7, 101, 5)]
    assert stale_reasons(told(client, update(14, 15))) == ["sequence broken"]


def test_crossed_book_whose_chain_breaks_waits_for_a_snapshot():
    client = core()
    told(client, snapshot(10), update(10, 11, bids=[(101, 1)]))
    assert stale_reasons(told(client, update(99, 100))) == ["sequence broken"]
    assert told(client, update(100, 101, bids=[(101, 0)])) == []


def test_quiet_book_is_given_more_time_once_its_snapshot_shows_that_nothing_changed():
    """A contract that nobody quotes moves on its idle frames alone, which come every 60 s."""
    client, now = core(), 0.0
    told(client, snapshot(10), ts=at(now))
    reasons = []
    for _ in range(4):
        while not (events := client.events_received()):
            now += 0.5
            client.receive_time(at(now))
        reasons += stale_reasons(events)
        told(client, snapshot(10), ts=at(now))
        commands(client)
    assert reasons == [f"silent for {limit} s" for limit in (10, 20, 40, 75)]

    for idle in range(1, 4):
        told(client, update(10, 10), ts=at(now + idle * 60))
        client.receive_time(at(now + idle * 60 + 59))
    assert client.depth(INST, 1) is not None


@pytest.mark.parametrize("is_frozen", [False, True])
def test_book_that_moved_while_it_was_silent_is_given_no_more_time(is_frozen):
    """Its snapshot shows it, or the ready-made top where even the snapshots are frozen."""
    client = core()
    told(client, snapshot(10), ts=at(0))
    for number in range(1, 4):
        top = book("", bids=[(100, 9)], asks=[(101, 5)], channel="bbo-tbt", seqId=10 + number)
        told(client, top, ts=at(number * 10.5 - 1))
        client.receive_time(at(number * 10.5))
        events = told(client, snapshot(10 if is_frozen else 10 + number), ts=at(number * 10.5))
        assert stale_reasons(events) == ["silent for 10 s"]


def test_late_book_is_followed_and_live_again_with_the_first_message_in_time():
    """What was late is not asked for again; the chain goes on holding, or breaks as ever."""
    client = core(lag=LagWatch(3.0))
    told(client, snapshot(10), update(10, 11), ts=at(0.1))
    events = told(client, update(11, 12, bids=[(100, 8)]), update(12, 13), ts=at(4))

    assert events == [BookStale(INST, "late", at(4))]
    assert client.depth(INST, 1) is None
    assert told(client, snapshot(20, bids=[(100, 9)]), ts=at(5)) == [BookStale(INST, "late", at(5))]
    assert told(client, update(20, 20), ts=at(5)) == []  # an idle frame is no proof
    assert commands(client) == []
    in_time = update(20, 21, asks=[(101, 6)], ts=1795334404000)
    assert tops(told(client, in_time, ts=at(4.5))) == [(100, 9, 101, 6)]
    assert stale_reasons(told(client, update(21, 22, bids=[(99, 1)]), update(23, 24), ts=at(4.6))) == [
        "late",
        "sequence broken",
    ]


def test_late_ready_made_top_is_no_price_and_its_book_is_late():
    """It comes before the book's own message; one that repeats what is known tells nothing."""
    client = core(lag=LagWatch(3.0))
    told(client, snapshot(10), update(10, 11, bids=[(100, 8)]))
    repeated = book("", bids=[(100, 8)], asks=[(101, 5)], channel="bbo-tbt", seqId=11)
    assert stale_reasons(told(client, repeated, ts=at(4))) == []
    newer = book("", bids=[(100, 9)], asks=[(101, 5)], channel="bbo-tbt", seqId=12)
    assert told(client, newer, ts=at(4)) == [BookStale(INST, "late", at(4))]
    assert tops(told(client, update(11, 12, bids=[(100, 9)], ts=1795334404000), ts=at(4))) == [
        (100, 9, 101, 5)
    ]


@pytest.mark.parametrize(("opened_s", "reasons"), [(0, ["late"]), (7, [])])
def test_first_snapshot_is_late_when_its_question_was_asked_long_ago(opened_s, reasons):
    """What counts is when the request went out, not when it was made up."""
    client = core(lag=LagWatch(3.0))
    client.receive_open(at(opened_s))

    assert stale_reasons(told(client, snapshot(10), ts=at(8))) == reasons


def test_old_snapshot_and_idle_frame_of_a_quiet_book_are_not_late():
    client = core(lag=LagWatch(3.0))
    client.receive_time(at(0))
    told(client, snapshot(9), update(9, 10), ts=at(0.1))

    assert stale_reasons(told(client, snapshot(10), update(10, 10), ts=at(59))) == []


def test_crossed_book_is_legal_in_pre_open_and_not_after_it():
    client = core("A", INST)
    state = {"arg": {"channel": "instruments", "instType": "FUTURES"}, "data": []}
    told(client, {**state, "data": [{"instId": INST, "state": "preopen"}]})
    crossed = {"bids": [(102, 1)]}
    assert tops(told(client, snapshot(10), update(10, 11, **crossed))) == [(100, 7, 101, 5), (102, 1, 101, 5)]
    assert stale_reasons(told(client, snapshot(10, "A", **crossed))) == ["crossed"]

    told(client, {**state, "data": [{"instId": INST, "state": "live"}]})
    assert stale_reasons(told(client, update(11, 12))) == ["crossed"]


def test_book_given_up_is_forgotten_and_its_late_messages_are_ignored():
    client = core()
    told(client, snapshot(10))
    client.unsubscribe([BOOKS])

    assert commands(client) == [("unsubscribe", [BOOKS])]
    assert told(client, update(10, 11), update(12, 13)) == []
    assert client.depth(INST, 1) is None


def test_other_deep_channels_never_reach_the_book():
    """They have chains of their own, and books-rpi holds other orders."""
    client = core()
    told(client, snapshot(10))
    for channel in ("books-l2-tbt", "books50-l2-tbt", "books-rpi", "books-elp", "books-new"):
        assert told(client, snapshot(500) | {"arg": {"channel": channel, "instId": INST}}) == []
    assert tops(told(client, update(10, 11))) == [(100, 7, 101, 5)]


def test_keys_may_come_in_any_order():
    frame = snapshot(10)
    events = told(
        core(),
        {key: frame[key] for key in ("action", "data", "arg")},
        {"data": update(10, 11)["data"], "arg": {"instId": INST, "channel": "books"}, "action": "update"},
    )

    assert len(tops(events)) == 2


# Books: the eras of the checksum


def test_book_of_2022_is_proved_by_its_checksum_alone(golden):
    """The snapshot spells the guide's example, 831078360; an unknown delete is harmless."""
    client = core("BTC-USD-220624")
    frames = golden("ws_books_2022.jsonl")
    assert '"checksum":831078360' in frames[0]
    events = told(client, *frames)

    assert tops(events) == [
        (3366.1, 7.0, 3366.8, 9.0),
        (3366.1, 7.0, 3366.8, 9.0),
        (3366.1, 7.0, 3367.0, 15.0),
        (3366.1, 7.0, 3367.0, 15.0),
        (3366.1, 7.0, None, 0.0),
    ]
    assert (stale_reasons(events), client.quarantined) == ([], 0)
    assert client.depth("BTC-USD-220624", 2) == ([(3366.1, 7.0), (3366.0, 40.0)], [])


@pytest.mark.parametrize("lost", [2, 3])
def test_lost_update_of_2022_shows_in_the_checksum(golden, lost):
    """Line 3 is an idle one: nothing is lost with it."""
    client = core("BTC-USD-220624")
    frames = golden("ws_books_2022.jsonl")
    events = told(client, *frames[:lost], *frames[lost + 1 :])

    assert stale_reasons(events) == ([] if lost == 3 else ["checksum mismatch"])


def test_book_of_2025_is_proved_by_chain_and_checksum(golden):
    client = core("BTC-USD-251226")
    events = told(client, *golden("ws_books_2025.jsonl"))

    assert tops(events) == [
        (92000.0, 50.0, 92000.5, 100.0),
        (92000.0, 50.0, 92000.4, 2.0),
        (92000.0, 50.0, 92000.4, 2.0),
        (91999.9, 1.0, 92000.4, 2.0),
    ]
    assert stale_reasons(events) == ["checksum mismatch"]
    assert [op for op, _ in commands(client)] == ["unsubscribe", "subscribe"]


def test_gap_of_2025_shows_in_the_chain_though_the_checksum_holds(golden):
    frames = golden("ws_books_2025.jsonl")
    events = told(core("BTC-USD-251226"), frames[0], frames[3])

    assert stale_reasons(events) == ["sequence broken"]


def test_checksum_that_becomes_0_is_verified_no_more(golden):
    """June 2026, within one connection: 0 or none at all; the chain goes on."""
    client = core("BTC-USD-251226")
    events = told(client, *golden("ws_books_retired_checksum.jsonl"))

    assert tops(events) == [
        (92000.0, 50.0, 92000.5, 100.0),
        (92000.0, 50.0, 92000.4, 2.0),
        (92000.0, 50.0, 92000.4, 2.0),
        (92000.1, 1.0, 92000.5, 100.0),
        (92000.1, 1.0, 92000.5, 99.0),
    ]
    assert client.depth("BTC-USD-251226", 9) == (
        [(92000.1, 1.0), (92000.0, 50.0)],
        [(92000.5, 99.0), (92001.0, 3.0)],
    )
    assert (stale_reasons(events), commands(client)) == ([], [])


def test_checksum_that_comes_back_needs_a_new_snapshot():
    """The book has lost the spelling that the checksum covers."""
    client = core()
    events = told(client, snapshot(10), update(10, 11, checksum=_signed(b"100:7:101:5")))
    assert stale_reasons(events) == ["checksum returned"]

    proved = snapshot(20, checksum=_signed(b"100:7:101:5"))
    assert tops(told(client, proved)) == [(100, 7, 101, 5)]


@pytest.mark.parametrize("spelling", ['"checksum": 0', '"checksum":null', '"checksum":"0"', '"checksum":-0'])
def test_checksum_of_0_is_never_verified_however_it_is_spelt(spelling):
    text = json.dumps(snapshot(10)).replace('"checksum": 0', spelling)

    assert tops(told(core(), text)) == [(100, 7, 101, 5)]


def test_frame_of_two_messages_is_verified_message_by_message():
    """``data`` is a list: each message of it keeps its own checksum, or 0 for none."""
    start = snapshot(10, checksum=_signed(b"100:7:101:5"))
    frame, second = update(10, 11, asks=[(102, 1)]), update(11, 12, bids=[(100.5, 1)])
    second["data"][0]["checksum"] = _signed(b"100.5:1:101:5:100:7:102:1")
    frame["data"] += second["data"]
    assert tops(told(core(), start, frame)) == [(100, 7, 101, 5), (100, 7, 101, 5), (100.5, 1, 101, 5)]

    frame["data"][1]["checksum"] += 1
    assert stale_reasons(told(core(), start, frame)) == ["checksum mismatch"]


def _signed(text):
    unsigned = crc32(text)
    return unsigned - 2**32 if unsigned >= 2**31 else unsigned


# Tapes: books that nobody subscribed here


def test_tape_opens_books_as_they_come():
    client = OkexPublicProtocol(silence_s=0, now=NOW, is_open=True)
    early = update(5, 6)
    events = told(client, early, snapshot(10), update(10, 11), snapshot(10, "ETH-USD-SWAP"))

    assert [event.inst_id for event in events] == [INST, INST, "ETH-USD-SWAP"]


def test_tape_takes_one_deep_channel_an_instrument_and_goes_over_when_that_is_broken():
    client = OkexPublicProtocol(silence_s=0, now=NOW, is_open=True)
    other = {"channel": "books", "instId": INST}
    first = {"channel": "books-l2-tbt", "instId": INST}
    assert len(told(client, snapshot(10) | {"arg": first}, snapshot(50) | {"arg": other})) == 1
    assert stale_reasons(told(client, update(1, 2) | {"arg": first})) == ["sequence broken"]
    assert len(told(client, snapshot(60) | {"arg": other}, update(60, 61) | {"arg": other})) == 2
    assert told(client, snapshot(99) | {"arg": {"channel": "books-rpi", "instId": INST}}) == []


def test_eras_may_be_mixed_on_one_tape(golden):
    client = OkexPublicProtocol(silence_s=0, now=NOW, is_open=True)
    eras = (
        "ws_books_2022.jsonl",
        "ws_books_2025.jsonl",
        "ws_books_2026.jsonl",
        "ws_books_retired_checksum.jsonl",
    )
    streams = [list(golden(name)) for name in eras[:3]]
    mixed = [stream[n] for n in range(10) for stream in streams if n < len(stream)]
    events = told(client, *mixed, *golden(eras[3]))  # the last is the 2025 instrument once more

    assert len(tops(events)) == 5 + 4 + 9 + 5
    assert stale_reasons(events) == ["checksum mismatch"]


# Books: what cannot be read

BAD_LEVELS = [
    *(["100", size, "0", "1"] for size in ("nan", "inf", "Infinity", "1e400", "-1", "", "x", None, [])),
    *([price, "1", "0", "1"] for price in ("nan", "inf", "-1", "0", "", "x", None, {})),
    ["100"],
    [],
    {},
    "100",
    None,
]


@pytest.mark.parametrize("level", BAD_LEVELS)
@pytest.mark.parametrize("checksum", [0, 1])
@pytest.mark.parametrize("side", ["bids", "asks"])
def test_bad_level_puts_its_book_in_doubt_and_no_other(level, checksum, side):
    client = core("A", INST)
    proved = {"checksum": _signed(b"100:7:101:5")} if checksum else {}
    told(client, snapshot(10, "A"), snapshot(10, **proved))
    damaged = update(10, 11, **proved)
    damaged["data"][0][side] = [level]
    events = told(client, damaged)

    assert stale_reasons(events) == ["unreadable update"]
    assert client.quarantined == 1
    assert tops(told(client, update(10, 11, inst_id="A"), update(11, 12))) == [(100, 7, 101, 5)]


@pytest.mark.parametrize("ts", ["", "-1", "x", "1.5", "99999999999999999999", None, "nan"])
def test_time_that_is_none_is_damage(ts):
    damaged = update(10, 11)
    damaged["data"][0]["ts"] = ts
    client = core()
    assert stale_reasons(told(client, snapshot(10), damaged)) == ["unreadable update"]

    del damaged["data"][0]["ts"]
    client = core()
    assert stale_reasons(told(client, snapshot(10), damaged)) == ["unreadable update"]


def test_push_of_a_book_without_action_is_damage():
    client = core()
    frame = update(10, 11)
    del frame["action"]

    assert stale_reasons(told(client, snapshot(10), frame)) == ["unreadable update"]


def test_unreadable_first_snapshot_is_asked_for_again():
    """Else the market would be connecting for ever, on a connection that is fine."""
    client = core()
    events = told(client, snapshot(10, bids=[("x", 1)]))

    assert stale_reasons(events) == ["unreadable snapshot"]
    assert [op for op, _ in commands(client)] == ["unsubscribe", "subscribe"]
    told(client, update(10, 11), snapshot(10, bids=[("x", 1)]))
    assert commands(client) == []  # not more often than the limit
    assert len(tops(told(client, snapshot(20)))) == 1


def test_empty_push_is_nothing():
    client = core()
    assert told(client, snapshot(10), {**update(10, 11), "data": []}, update(10, 12))[1:]
    assert client.quarantined == 0


def test_book_that_only_grows_is_stale():
    """The venue keeps a client at 400 levels a side; ours must not grow without end."""
    client = core()
    told(client, snapshot(10), update(10, 11, asks=[(200 + n, 1) for n in range(MAX_LEVELS)]))
    client.receive_time(at(1))

    assert stale_reasons(client.events_received()) == ["too many levels"]


# Tops that the venue sends ready-made


def test_ready_made_tops_are_marked_as_such(golden):
    """An empty side is legal, a crossed one is left to the verified book."""
    events = told(core(), *golden("ws_tops.jsonl"))

    assert tops(events) == [
        (84309.1, 57.2, 84310.2, 66.0),
        (84309.1, 57.2, None, 0.0),
        (84309.1, 57.2, 84310.2, 66.0),
        (None, 0.0, None, 0.0),
    ]
    assert not any(event.from_book for event in events)
    assert events[0].ts_event == NOW + 110 * NS_PER_MS


def test_ready_made_top_never_goes_behind_the_book():
    """bbo-tbt and books of an instrument share one line of seqIds."""
    client = core()
    top = book(None, [(101, 1)], [(100.5, 1)], channel="bbo-tbt", seqId=9)
    assert len(told(client, top, snapshot(10))) == 2
    assert told(client, top) == []
    top["data"][0]["seqId"] = 10
    assert tops(told(client, top)) == [(100.5, 1, 101, 1)]


def test_price_does_not_go_back_when_the_book_is_overtaken():
    """bbo-tbt of seqId 14 came before the books message of 12: that one says so, once."""
    client = core()
    top = book(None, [(101, 3)], [(100.5, 1)], channel="bbo-tbt", seqId=14)
    told(client, snapshot(10), top)
    events = told(client, update(10, 12, bids=[(100.1, 1)]))
    assert [(event.bid, event.is_behind) for event in events] == [(100.1, True)]

    events = told(client, update(12, 13, bids=[(100.5, 2)]))
    assert [(event.bid, event.is_behind) for event in events] == [(100.5, False)]


@pytest.mark.parametrize("second", [update(10, 14), update(10, 3), snapshot(20), snapshot(11)])
def test_book_that_is_not_overtaken_is_not_behind(second):
    """Nor across a reset, where a small seqId is the newer one."""
    client = core()
    told(client, snapshot(10), book(None, [(101, 3)], [(100.5, 1)], channel="bbo-tbt", seqId=14))

    assert [(event.from_book, event.is_behind) for event in told(client, second)] == [(True, False)]


@pytest.mark.parametrize("level", BAD_LEVELS)
@pytest.mark.parametrize("era", [{}, {"checksum": 5}])
def test_bad_ready_made_top_is_counted_and_the_book_is_not_in_doubt(level, era):
    client = core()
    damaged = book(None, [], [], channel="bbo-tbt", seqId=11, **era)
    damaged["data"][0]["bids"] = [level]

    assert tops(told(client, snapshot(10), damaged)) == [(100, 7, 101, 5)]
    assert client.quarantined == 1


# Everything else that is pushed


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


def test_book_that_falls_silent_is_stale_however_busy_the_others_are():
    client = core("A", INST)
    told(client, snapshot(10, "A"), snapshot(10))
    for second in range(1, 14):
        told(client, update(10, 10, inst_id="A"), ts=at(second))
        client.receive_time(at(second))
    assert client.depth("A", 1) is not None
    assert client.depth(INST, 1) is None
    assert commands(client) == [("unsubscribe", [BOOKS]), ("subscribe", [BOOKS])]


def test_duplicate_is_no_sign_of_life():
    client = core()
    message = update(10, 11)
    told(client, snapshot(10), message)
    for second in range(1, 14):
        told(client, message, ts=at(second))
        client.receive_time(at(second))

    assert client.depth(INST, 1) is None


def test_snapshot_that_never_comes_is_asked_for_again():
    """The wait begins with the acknowledgement; updates without a snapshot are no sign of life."""
    client = core()
    told(client, {"event": "subscribe", "arg": BOOKS}, ts=at(8))
    for second in range(9, 19):
        told(client, update(second, second + 1), ts=at(second))
        client.receive_time(at(second))
    assert commands(client) == []
    client.receive_time(at(18.5))

    assert stale_reasons(client.events_received()) == ["no snapshot"]
    assert commands(client) == [("unsubscribe", [BOOKS]), ("subscribe", [BOOKS])]


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


# Truth


def truth_of(changes, *, chained, checked):
    """Return the messages of a venue and what its book shows after each; ``ts`` is the message's number."""
    bids, asks = {100: 1}, {200: 1}
    frames, shown = [], []
    seq = 1000
    for number, (kind, side, price, size) in enumerate([("snapshot", 0, 0, 0), *changes]):
        level = (bids, asks)[side]
        rows_of = [[], []]
        prev = -1 if kind == "snapshot" else seq
        if kind == "snapshot":
            rows_of = [list(bids.items()), list(asks.items())]
            seq = 1000 * number + 1000
        elif kind == "update":
            at_price = price + 100 * side
            level[at_price] = size
            rows_of[side] = [(at_price, size)]
            if not size:
                del level[at_price]
            seq += 7
        elif kind == "reset":
            seq = -1000 * number - 5  # smaller than any before, and never seen again
        best = [sorted(bids.items(), reverse=True)[:25], sorted(asks.items())[:25]]
        parts = [f"{p}:{s}" for n in range(25) for one in best for p, s in one[n : n + 1]]
        fields = {"seqId": seq, "prevSeqId": prev} if chained else {}
        fields["checksum"] = _signed(":".join(parts).encode()) if checked else 0
        action = "snapshot" if kind == "snapshot" else "update"
        frames.append(json.dumps(book(action, rows_of[1], rows_of[0], ts=number, **fields)))
        bid, ask = (one[0] if one else (None, 0) for one in best)
        shown.append((*bid, *ask))
    return frames, shown


kinds = st.sampled_from(["update"] * 8 + ["idle", "reset", "snapshot"])
changes_of_a_venue = st.lists(
    st.tuples(kinds, st.integers(0, 1), st.integers(60, 100), st.integers(0, 3)), min_size=1, max_size=40
)


@settings(deadline=None, max_examples=500)
@given(
    changes_of_a_venue,
    st.lists(st.sampled_from(["pass"] * 6 + ["drop", "twice", "later", "again"]), min_size=1, max_size=60),
    st.sampled_from([(True, False), (False, True), (True, True)]),
)
def test_no_loss_repetition_or_disorder_yields_a_wrong_top(changes, fates, era):
    """Each top is the venue's own after that very message; a doubt ends the tops until a snapshot."""
    frames, shown = truth_of(changes, chained=era[0], checked=era[1])
    order, late = [], []
    for number in range(len(frames)):
        fate = fates[number % len(fates)]
        if fate != "drop":
            order += {"twice": [number] * 2, "later": [], "again": [number, number // 2]}.get(fate, [number])
        order += late
        late = [number] if fate == "later" else []
    client = core()
    is_live = False
    for number in order:
        for event in told(client, frames[number]):
            if isinstance(event, BookStale):
                is_live = False
                continue
            assert is_live or '"snapshot"' in frames[number]
            is_live = True
            assert event.ts_event == number * NS_PER_MS
            assert (event.bid, event.bid_size, event.ask, event.ask_size) == shown[number]
        assert (client.depth(INST, 1) is not None) == is_live


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
