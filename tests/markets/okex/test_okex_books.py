"""The order books of the public OKX core: golden frames by hand, damage, disorder, and the truth."""

import json
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dquant.constants import NS_PER_MS
from dquant.markets.lag_watch import LagWatch
from dquant.markets.okex._okex_books import MAX_LEVELS
from dquant.markets.okex._okex_protocol import OkexPublicProtocol
from dquant.model.events import BookStale, InstrumentState, SubscriptionChanged, TopOfBook
from tests.markets.cores import commands, stale_reasons, tops
from tests.markets.okex.frames import (
    BOOKS,
    INST,
    NOW,
    SILENCE_S,
    at,
    book,
    core,
    snapshot,
    state,
    told,
    update,
)

# The chain


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
    told(client, state("preopen"))
    crossed = {"bids": [(102, 1)]}
    assert tops(told(client, snapshot(10), update(10, 11, **crossed))) == [(100, 7, 101, 5), (102, 1, 101, 5)]
    assert stale_reasons(told(client, snapshot(10, "A", **crossed))) == ["crossed"]

    told(client, state("live"))
    assert stale_reasons(told(client, update(11, 12))) == ["crossed"]


@pytest.mark.parametrize("word", ["suspend", "rebase", "post_only"])
def test_suspended_instrument_has_no_price_until_its_venue_says_that_it_is_live(word):
    """Its book is sound and goes on; nobody can trade there. The chain holds, or breaks as ever."""
    client = core()
    told(client, snapshot(10), state(word, "A"))
    assert told(client, state(word)) == [
        InstrumentState(INST, word, NOW),
        BookStale(INST, "suspended", NOW),
    ]
    assert (
        told(client, update(10, 11, bids=[(100.5, 1)]), update(11, 12, bids=[(102, 1)]), update(12, 12)) == []
    )
    client.receive_time(at(SILENCE_S + 1))
    assert (client.events_received(), commands(client)) == ([], [])
    assert (client.depth(INST, 1), client.is_suspended(INST)) == (None, True)
    assert stale_reasons(told(client, update(13, 14), snapshot(20))) == ["sequence broken", "suspended"]
    client.texts_to_send()

    assert told(client, state("live")) == [InstrumentState(INST, "live", NOW)]
    assert commands(client) == [("unsubscribe", [BOOKS]), ("subscribe", [BOOKS])]
    assert tops(told(client, update(20, 21, bids=[(100.5, 1)]))) == [(100.5, 1, 101, 5)]
    assert client.depth(INST, 1) is not None


def test_instrument_that_was_suspended_before_the_connection_is_never_live_there():
    client = core()
    client.receive_state(INST, "suspend", NOW)
    top = book(None, [(101, 1)], [(100.5, 1)], channel="bbo-tbt", seqId=11)
    proved = snapshot(20, checksum=_signed(b"100:7:101:5"))
    events = told(client, snapshot(10), update(10, 10), top, proved)
    assert [event.reason for event in events if isinstance(event, BookStale)] == ["suspended"] * 2
    assert not any(event.from_book for event in events if isinstance(event, TopOfBook))

    told(client, state("live"))
    assert len(tops(told(client, snapshot(30)))) == 1


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


# The eras of the checksum


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


# What cannot be read

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


# Time


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
