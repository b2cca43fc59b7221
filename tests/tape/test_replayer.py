"""A replay says what an independent reading of the same tape says, and never believes a broken book."""

import json
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dquant.errors import RemoteProtocolError
from dquant.model.events import Price
from dquant.tape.reader import BadRecord, TapeRecord, read_tape
from dquant.tape.replayer import Replayer

RECORDED = Path(__file__).parents[3] / "shared" / "fixtures" / "tapes"
OWN = Path(__file__).parents[1] / "data" / "tapes"

BOOK = "BTC-USD-261030"


def replay(path: Path, inst_ids: Iterable[str] = ()) -> tuple[Replayer, list[Price]]:
    replayer = Replayer("dev", list(inst_ids))
    prices = []
    for item in read_tape(path):
        assert not isinstance(item, BadRecord)
        prices += replayer.receive(item[1])
    return replayer, prices


def recorded(name: str) -> Path:
    path = RECORDED / name
    if not path.is_file():
        pytest.skip(f"no recorded tape at {path}")
    return path


# --- recorded sessions, against a reading of their text that shares nothing with the program ----------


Shown = tuple[str, Decimal | None, Decimal | None, Decimal | None, Decimal | None, int]


def frames_in(path: Path) -> Iterator[tuple[int, Any]]:
    for line in path.read_text("utf-8").splitlines()[1:]:
        entry = json.loads(line)
        if entry["dir"] == "in" and entry["text"].startswith("{"):
            yield entry["ts"], json.loads(entry["text"], parse_float=Decimal, parse_int=Decimal)


def best(bids: dict[Decimal, Decimal], asks: dict[Decimal, Decimal]) -> tuple[Decimal | None, ...]:
    bid, ask = max(bids, default=None), min(asks, default=None)
    return bid, None if bid is None else bids[bid], ask, None if ask is None else asks[ask]


def naive_okex(path: Path) -> list[Shown]:
    """Apply ``books`` to plain dicts, without sequence or checksum."""
    books: dict[str, tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]]] = {}
    shown: dict[str, tuple[Decimal | None, ...]] = {}
    changes: list[Shown] = []
    for ts, frame in frames_in(path):
        if frame.get("arg", {}).get("channel") != "books" or "data" not in frame:
            continue
        inst_id = frame["arg"]["instId"]
        if frame["action"] == "snapshot":
            books[inst_id] = ({}, {})
        for data in frame["data"]:
            for side, levels in zip(books[inst_id], (data["bids"], data["asks"]), strict=True):
                for price, size, *_ in levels:
                    if Decimal(size):
                        side[Decimal(price)] = Decimal(size)
                    else:
                        side.pop(Decimal(price), None)
            top = best(*books[inst_id])
            if top != shown.get(inst_id):
                shown[inst_id] = top
                changes.append((inst_id, *top, ts))  # type: ignore[arg-type]
    return changes


def naive_bitmex(path: Path) -> list[Shown]:
    """Apply ``orderBookL2`` to a dict from id to side, price and size."""
    books: dict[str, dict[Decimal, list[Any]]] = {}
    shown: dict[str, tuple[Decimal | None, ...]] = {}
    changes: list[Shown] = []
    for ts, frame in frames_in(path):
        if frame.get("table") != "orderBookL2":
            continue
        if frame["action"] == "partial":
            for symbol in {row["symbol"] for row in frame["data"]}:
                books[symbol] = {}
        touched = []
        for row in frame["data"]:
            book = books.get(row["symbol"])
            if book is None:
                continue
            if row["symbol"] not in touched:
                touched.append(row["symbol"])
            if frame["action"] == "delete":
                book.pop(row["id"], None)
            elif frame["action"] == "update":
                if row["id"] in book and "size" in row:
                    book[row["id"]][2] = row["size"]
            else:
                book[row["id"]] = [row["side"], row["price"], row["size"]]
        for symbol in touched:
            sides: dict[str, dict[Decimal, Decimal]] = {"Buy": {}, "Sell": {}}
            for side, price, size in books[symbol].values():
                sides[side][price] = size
            top = best(sides["Buy"], sides["Sell"])
            if top != shown.get(symbol):
                shown[symbol] = top
                changes.append((symbol, *top, ts))  # type: ignore[arg-type]
    return changes


def exactly(number: float | None) -> Decimal | None:
    """Return the number as the wire wrote it; ``repr`` of such a float gives that back."""
    return None if number is None else Decimal(repr(number))


@pytest.mark.parametrize(
    ("name", "naive", "fewest"),
    [
        ("okex-2022-05-13-UNI-USD-SWAP.jsonl", naive_okex, 40),
        ("bitmex-2021-07-22-four-symbols.jsonl", naive_bitmex, 90),
    ],
)
def test_a_recorded_session_gives_the_price_changes_of_a_naive_reading(
    name: str, naive: Any, fewest: int
) -> None:
    path = recorded(name)
    replayer, prices = replay(path)
    expected = naive(path)
    assert [
        (
            price.inst_id,
            exactly(price.bid),
            exactly(price.bid_amount),
            exactly(price.ask),
            exactly(price.ask_amount),
            price.ts_recv,
        )
        for price in prices
    ] == expected
    assert len(expected) >= fewest
    assert {(price.verdict, price.reason, price.market) for price in prices} == {("live", None, None)}
    assert replayer.stale_reasons == {}
    assert replayer.quarantined == 0
    assert replayer.changes == len(expected)
    assert replayer.frames == sum(
        json.loads(line)["dir"] == "in" for line in path.read_text("utf-8").splitlines()[1:]
    )


def test_a_recorded_session_is_filtered_by_instrument() -> None:
    path = recorded("bitmex-2021-07-22-four-symbols.jsonl")
    everything = replay(path)[1]
    some = replay(path, ["BCHUSD", "ADAUSDT"])[1]
    assert some == [price for price in everything if price.inst_id in ("BCHUSD", "ADAUSDT")]
    assert {price.inst_id for price in everything} == {"UNIUSDT", "ADAUSDT", "EOSUSDT", "BCHUSD"}


# --- sessions of our own ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["okex-chain-2026", "bitmex-book-2026"])
def test_a_golden_session_gives_the_records_worked_out_by_hand(name: str) -> None:
    prices = replay(OWN / f"{name}.jsonl")[1]
    assert [msgspec.json.encode(price) for price in prices] == (
        OWN / f"{name}.expected.jsonl"
    ).read_bytes().splitlines()


def test_the_summary_of_the_golden_session_counts_what_happened() -> None:
    replayer, _ = replay(OWN / "okex-chain-2026.jsonl")
    assert replayer.frames == 18
    assert replayer.changes == 9
    assert replayer.stale_reasons == {"sequence broken": 1, "connection lost": 2}


def test_a_replay_gives_the_same_twice() -> None:
    path = OWN / "okex-chain-2026.jsonl"
    assert replay(path)[1] == replay(path)[1]


def frame(ts: int, text: str, venue: str = "okex", conn: str = "public", direction: str = "in") -> TapeRecord:
    return TapeRecord(ts, venue, direction, text, conn)  # type: ignore[arg-type]


def book(
    prev: int, seq: int, bid: str, ask: str, action: str = "update", inst_id: str = BOOK, ts: int = 0
) -> str:
    data = {"bids": [[bid, "1", "0", "1"]], "asks": [[ask, "1", "0", "1"]], "ts": str(1790400000100 + ts)}
    return json.dumps(
        {
            "arg": {"channel": "books", "instId": inst_id},
            "action": action,
            "data": [{**data, "checksum": 0, "seqId": seq, "prevSeqId": prev}],
        },
        separators=(",", ":"),
    )


def snapshot(seq: int, bid: str, ask: str, inst_id: str = BOOK) -> str:
    return book(-1, seq, bid, ask, "snapshot", inst_id)


def verdicts(prices: Iterable[Price]) -> list[tuple[str, str | None, float | None, int]]:
    return [(price.verdict, price.reason, price.bid, price.ts_recv) for price in prices]


def test_a_gap_is_stale_until_the_next_snapshot() -> None:
    replayer = Replayer("dev")
    texts = [
        snapshot(10, "99", "101"),
        book(11, 12, "100", "101"),
        book(12, 13, "100", "101"),
        snapshot(20, "98", "102"),
    ]
    prices = [price for ts, text in enumerate(texts) for price in replayer.receive(frame(ts, text))]
    assert verdicts(prices) == [
        ("live", None, 99.0, 0),
        ("stale", "sequence broken", None, 1),
        ("live", None, 98.0, 3),
    ]
    assert (prices[1].bid_amount, prices[1].ask, prices[1].ask_amount) == (None, None, None)
    assert [price.seq for price in prices] == [1, 2, 3]


def test_a_lost_connection_is_stale_until_the_snapshot_of_the_next() -> None:
    replayer = Replayer("dev")
    prices = [
        *replayer.receive(frame(0, snapshot(10, "99", "101"))),
        *replayer.receive(frame(1, "closed 1006", direction="state")),
        *replayer.receive(frame(2, "open wss://x", direction="state")),
        *replayer.receive(frame(3, book(10, 11, "100", "101"))),  # a new connection knows nothing
        *replayer.receive(frame(4, snapshot(10, "99", "101"))),
    ]
    assert verdicts(prices) == [
        ("live", None, 99.0, 0),
        ("stale", "connection lost", None, 1),
        ("live", None, 99.0, 4),
    ]


def test_a_lost_connection_leaves_the_books_of_the_others() -> None:
    replayer = Replayer("dev")
    replayer.receive(frame(0, snapshot(10, "99", "101", "A"), conn="1"))
    replayer.receive(frame(0, snapshot(10, "99", "101", "B"), conn="2"))
    replayer.receive(frame(1, "closed", conn="1", direction="state"))
    later = replayer.receive(frame(2, book(10, 11, "100", "101", inst_id="B"), conn="2"))
    assert [(price.inst_id, price.reason, price.bid, price.ts_recv) for price in later] == [
        ("A", "connection lost", None, 1),
        ("B", None, 100.0, 2),
    ]


def test_a_recording_that_closes_its_connections_ends_and_nothing_goes_stale() -> None:
    replayer = Replayer("dev")
    for conn in ("1", "2"):
        replayer.receive(frame(0, snapshot(10, "99", "101", f"INST{conn}"), conn=conn))
    for conn in ("1", "2"):
        assert replayer.receive(frame(1, "closed 1000", conn=conn, direction="state")) == []
    assert replayer.receive(frame(2, "{}", direction="out")) == []
    assert replayer.stale_reasons == {}
    lost = replayer.receive(frame(3, "open wss://x", conn="2", direction="state"))
    assert [(price.reason, price.ts_recv) for price in lost] == [("connection lost", 1)] * 2


def test_what_a_lost_connection_leaves_is_not_lost_in_an_unreadable_frame() -> None:
    replayer = Replayer("dev")
    replayer.receive(frame(0, snapshot(10, "99", "101")))
    replayer.receive(frame(1, "closed", direction="state"))
    with pytest.raises(RemoteProtocolError):
        replayer.receive(frame(2, "garbage"))
    prices = replayer.receive(frame(3, snapshot(20, "98", "101")))
    assert verdicts(prices) == [("stale", "connection lost", None, 1), ("live", None, 98.0, 3)]


def test_a_book_that_was_given_up_is_stale_until_it_is_taken_anew() -> None:
    replayer = Replayer("dev")
    arg = {"channel": "books", "instId": BOOK}
    texts = [
        snapshot(10, "99", "101"),
        json.dumps({"event": "unsubscribe", "arg": {"channel": "bbo-tbt", "instId": BOOK}}),
        json.dumps({"event": "unsubscribe", "arg": arg, "connId": "a4d3ae55"}),
        json.dumps({"event": "subscribe", "arg": arg, "connId": "a4d3ae55"}),
        snapshot(20, "98", "101"),
        book(20, 21, "98.5", "101"),
    ]
    prices = [price for ts, text in enumerate(texts) for price in replayer.receive(frame(ts, text))]
    assert verdicts(prices) == [
        ("live", None, 99.0, 0),
        ("stale", "unsubscribed", None, 2),
        ("live", None, 98.0, 4),
        ("live", None, 98.5, 5),
    ]


# --- one instrument on several connections ------------------------------------------------------------

SECOND = 10**9


def play(replayer: Replayer, *records: tuple[int, str, str]) -> list[Price]:
    """Play frames, each with its time and its connection."""
    return [
        price
        for ts, conn, text in records
        for price in replayer.receive(
            frame(ts, text, conn=conn, direction="state" if text.startswith(("open", "closed")) else "in")
        )
    ]


def test_what_several_connections_carry_is_told_once() -> None:
    """That of the connection whose snapshot came last, so that the price never goes back."""
    prices = play(
        Replayer("dev"),
        (0, "1", snapshot(10, "99", "101")),
        (1, "2", snapshot(10, "99", "101")),
        (2, "1", book(10, 11, "100", "101")),
        (3, "2", book(10, 11, "100", "101")),
        (4, "1", book(11, 12, "100.5", "101")),
        (5, "1", book(12, 13, "100.6", "101")),
        (6, "2", book(11, 12, "100.5", "101")),
        (7, "2", book(12, 13, "100.6", "101")),
    )
    assert [(price.seq, price.bid, price.ts_recv) for price in prices] == [
        (1, 99.0, 0),
        (2, 100.0, 3),
        (3, 100.5, 6),
        (4, 100.6, 7),
    ]


@pytest.mark.parametrize(
    "end", ["closed 1006", "open wss://x", book(10, 99, "1", "2"), book(7, 99, "1", "2")]
)
def test_another_connection_speaks_when_the_book_of_the_first_is_lost(end: str) -> None:
    """By a close, a reconnect, a crossed book or a gap: stale is only what no connection has."""
    replayer = Replayer("dev")
    prices = play(
        replayer,
        (0, "1", snapshot(10, "99", "101")),
        (1, "2", snapshot(10, "99", "101")),
        (2, "1", book(10, 11, "100", "101")),
        (3, "2", end),
        (4, "1", book(11, 12, "100.5", "101")),
        (5, "2", snapshot(13, "100.7", "101")),
        (6, "1", book(12, 13, "100.7", "101")),
        (7, "1", book(1, 2, "1", "101")),
        (8, "2", book(2, 3, "1", "101")),
    )
    assert verdicts(prices) == [
        ("live", None, 99.0, 0),
        ("live", None, 100.0, 3),
        ("live", None, 100.5, 4),
        ("live", None, 100.7, 5),
        ("stale", "sequence broken", None, 8),
    ]
    assert replayer.stale_reasons == {"sequence broken": 1}


def test_a_price_does_not_go_back_when_another_connection_that_lags_speaks() -> None:
    """Neither with its snapshot, nor when it takes the place of one that was lost."""
    records = [
        (0, "1", book(-1, 10, "99", "101", "snapshot", ts=0)),
        (1, "1", book(10, 11, "100", "101", ts=200)),
        (2, "2", book(-1, 10, "99", "101", "snapshot", ts=100)),  # older than what was told
        (3, "1", book(11, 12, "100.5", "101", ts=300)),
        (4, "2", book(10, 12, "100.5", "101", ts=300)),  # as new: speaks from here
        (5, "1", book(12, 13, "100.6", "101", ts=400)),
        (6, "2", book(12, 13, "100.6", "101", ts=400)),
        (7, "2", book(13, 14, "100.7", "101", ts=500)),
        (8, "2", book(7, 7, "1", "101", ts=600)),  # lost; "1" has not seen 100.7
        (9, "1", book(13, 14, "100.7", "101", ts=500)),
        (10, "1", book(14, 15, "100.8", "101", ts=600)),
    ]
    prices = play(Replayer("dev"), *records)
    assert verdicts(prices) == [
        ("live", None, bid, ts)
        for bid, ts in ((99.0, 0), (100.0, 1), (100.5, 3), (100.6, 6), (100.7, 7), (100.8, 10))
    ]


def test_a_connection_that_was_replaced_without_a_word_is_followed_by_the_next() -> None:
    prices = play(
        Replayer("dev"),
        (0, "a", snapshot(10, "99", "101")),
        (1, "b", snapshot(20, "98", "101")),
        (2, "b", book(20, 21, "98.5", "101")),
        (60 * SECOND, "b", book(9, 9, "1", "101")),  # "a" may be long gone: it does not speak again
    )
    assert verdicts(prices) == [
        ("live", None, 99.0, 0),
        ("live", None, 98.0, 1),
        ("live", None, 98.5, 2),
        ("stale", "sequence broken", None, 60 * SECOND),
    ]


def test_a_connection_that_lags_behind_a_silent_one_does_not_turn_the_price_back() -> None:
    prices = play(
        Replayer("dev"),
        (0, "2", book(-1, 10, "99", "101", "snapshot", ts=0)),
        (1, "1", book(-1, 10, "99", "101", "snapshot", ts=0)),
        (2, "1", book(10, 12, "100", "101", ts=5000)),
        (12 * SECOND, "2", book(10, 11, "99.5", "101", ts=4000)),  # from before what was told
        (13 * SECOND, "2", book(11, 13, "100.2", "101", ts=5100)),
    )
    assert verdicts(prices) == [
        ("live", None, 99.0, 0),
        ("live", None, 100.0, 2),
        ("live", None, 100.2, 13 * SECOND),
    ]


def test_a_connection_whose_book_stands_still_is_not_waited_for() -> None:
    prices = play(
        Replayer("dev"),
        (0, "1", snapshot(10, "99", "101")),
        (1, "2", snapshot(10, "99", "101")),
        (9 * SECOND, "1", book(10, 11, "100", "101")),
        (11 * SECOND, "1", book(11, 12, "100.5", "101")),
        (12 * SECOND, "1", book(12, 13, "100.6", "101")),
    )
    assert [(price.bid, price.ts_recv) for price in prices] == [
        (99.0, 0),
        (100.5, 11 * SECOND),
        (100.6, 12 * SECOND),
    ]


steps = st.lists(
    st.tuples(st.sampled_from("123"), st.sampled_from(["next"] * 6 + ["skip", "snapshot", "closed"])),
    min_size=5,
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(steps)
def test_however_connections_lag_and_fail_the_price_is_one_that_was_and_goes_on(
    script: list[tuple[str, str]],
) -> None:
    """State n of the exchange's book has the bid 1 + n and the time n; who skips one has a gap."""
    reached = dict.fromkeys("123", 0)
    is_sound = dict.fromkeys("123", False)
    replayer = Replayer("dev")
    newest, was_live = 0, False
    for ts, (conn, step) in enumerate(script):
        reached[conn] += 1 + (step == "skip")
        number = reached[conn]
        text = "closed"
        if step == "snapshot":
            text = book(-1, number, str(1 + number), "1000", "snapshot", ts=number)
        elif step != "closed":
            text = book(number - 1, number, str(1 + number), "1000", ts=number)
        is_sound[conn] = step == "snapshot" or (step == "next" and is_sound[conn])
        prices = play(replayer, (ts, conn, text), (ts, "other", "pong"))
        for price in prices:
            assert (
                price.verdict == "stale" or price.bid == 1 + (price.ts_event - 1790400000100 * 10**6) // 10**6
            )
            assert price.ts_event >= newest
            was_live = price.verdict == "live"
            newest = price.ts_event if was_live else 0  # after that any snapshot is a beginning
        assert was_live == any(is_sound.values())


# --- why there is no price ----------------------------------------------------------------------------


def l2(action: str, *rows: dict[str, Any], table: str = "orderBookL2", **more: Any) -> str:
    return json.dumps({"table": table, "action": action, **more, "data": rows})


def row(symbol: str, level_id: int, side: str, price: float) -> dict[str, Any]:
    return {"symbol": symbol, "id": level_id, "side": side, "size": 5, "price": price}


@pytest.mark.parametrize("is_closed", [False, True])
def test_a_tape_cut_out_of_a_session_says_that_it_has_no_snapshot(is_closed: bool) -> None:
    replayer = Replayer("dev")
    records = [
        frame(0, book(10, 11, "99", "101")),
        frame(1, book(11, 12, "99", "101")),
        frame(2, book(3, 4, "99", "101", inst_id="A")),
        frame(3, snapshot(4, "99", "101", inst_id="A")),
        frame(4, l2("update", row("XBTUSD", 1, "Buy", 99.0)), "bitmex"),
    ]
    if is_closed:
        records += [frame(5, "closed", direction="state"), frame(5, "closed", "bitmex", direction="state")]
        records += [frame(6, "open", direction="state"), frame(6, "open", "bitmex", direction="state")]
    for record in records:
        replayer.receive(record)
    assert replayer.remarks() == [
        *(["A is stale to the end: connection lost"] if is_closed else []),
        f"no price of {BOOK}: 2 book messages without a snapshot before them",
        "no price of XBTUSD: 1 book messages without a snapshot before them",
    ]


def test_a_tape_that_never_heals_says_what_stays_stale() -> None:
    replayer = Replayer("dev")
    for number in range(12):
        replayer.receive(frame(0, snapshot(10, "99", "101", inst_id=f"INST{number:02}")))
    for number in range(1, 12):
        replayer.receive(frame(1, book(5, 6, "99", "101", inst_id=f"INST{number:02}")))
    assert replayer.remarks() == [
        *(f"INST{number:02} is stale to the end: sequence broken" for number in range(1, 11)),
        "so are 1 instruments more",
    ]


def test_a_tape_of_ready_made_tops_says_that_it_has_no_book() -> None:
    replayer = Replayer("dev", ["A", "XBTUSD", "NONE"])
    side = [["99", "1", "0", "1"]]
    bbo = {"bids": side, "asks": [], "ts": "1", "seqId": 5}
    quote = {"symbol": "XBTUSD", "bidPrice": 99, "bidSize": 1}
    for text, venue in (
        (json.dumps({"arg": {"channel": "bbo-tbt", "instId": "A"}, "data": [bbo]}), "okx"),
        (json.dumps({"arg": {"channel": "books5", "instId": "A"}, "data": [bbo]}), "okx"),
        (json.dumps({"arg": {"channel": "books5", "instId": "B"}, "data": [bbo]}), "okx"),
        (l2("partial", quote, table="quote", filter={"symbol": "XBTUSD"}), "bitmex"),
        (l2("update", {"symbol": "XBTUSD", "bids": [[99, 1]]}, table="orderBook10"), "bitmex"),
    ):
        assert replayer.receive(frame(0, text, venue)) == []
    assert replayer.remarks() == [
        "no price of A: 2 ready-made tops (bbo-tbt, books5 or quote) and no L2 book",
        "no price of XBTUSD: 1 ready-made tops (bbo-tbt, books5 or quote) and no L2 book",
        "no prices from 1 messages of orderBook10, no L2 book",
        "no book of NONE on this tape",
    ]


def test_a_tape_without_any_book_says_so_and_many_instruments_are_summed_up() -> None:
    replayer = Replayer("dev")
    replayer.receive(frame(0, "pong"))
    assert replayer.remarks() == ["no L2 book on this tape"]
    for number in range(25):
        replayer.receive(frame(0, book(1, 2, "99", "101", inst_id=f"INST{number}")))
    assert len(replayer.remarks()) == 11
    assert replayer.remarks()[-1] == "nor of 15 instruments more, for the same reason"


def test_what_was_sent_and_asked_over_rest_changes_nothing() -> None:
    replayer = Replayer("dev")
    assert replayer.receive(frame(0, snapshot(10, "99", "101"), direction="out")) == []
    assert replayer.receive(frame(0, snapshot(10, "99", "101"), direction="rest")) == []
    assert replayer.frames == 0


def test_an_unreadable_frame_is_counted_and_the_chain_goes_on() -> None:
    replayer = Replayer("dev")
    replayer.receive(frame(0, snapshot(10, "99", "101")))
    for text in ("garbage", "{", "", "[]", '{"arg":'):
        with pytest.raises(RemoteProtocolError):
            replayer.receive(frame(1, text))
    assert [price.bid for price in replayer.receive(frame(2, book(10, 11, "100", "101")))] == [100.0]
    assert replayer.quarantined == 5
    assert replayer.frames == 7


def test_quarantined_frames_stay_counted_when_their_connection_ends() -> None:
    replayer = Replayer("dev")
    bad = snapshot(10, "99", "101").replace('"99"', '"none"')
    replayer.receive(frame(0, bad))
    assert replayer.quarantined == 1
    replayer.receive(frame(1, "closed", direction="state"))
    assert replayer.quarantined == 1


def test_frames_of_a_venue_that_nobody_reads_are_counted() -> None:
    replayer = Replayer("dev")
    assert replayer.receive(frame(0, "{}", venue="kraken")) == []
    assert replayer.receive(frame(1, "{}", venue="kraken")) == []
    assert replayer.unknown_venues == {"kraken": 2}
    assert replayer.frames == 0


words = st.sampled_from(
    [
        snapshot(10, "99", "101"),
        book(10, 11, "100", "101"),
        book(11, 12, "102", "101"),
        book(11, 12, "1e999", "101"),
        '{"table":"orderBookL2","action":"partial","data":[{"symbol":"X","id":1,"side":"Buy","size":1,"price":2}]}',
        '{"table":"orderBookL2","action":"insert","data":[{"symbol":"X","id":2,"side":"Sell","size":1,"price":1}]}',
        '{"table":"orderBookL2","action":"delete","data":[{"symbol":"X","id":1}]}',
        '{"table":"orderBookL2","data":' + "[" * 100_000,
        '{"arg":{"channel":"books","instId":"X"},"data":' + "[" * 100_000,
        '{"event":"error","deep":' + "[" * 100_000,
        "pong",
    ]
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            words | st.text(max_size=20),
            st.sampled_from(["okex", "bitmex", "?"]),
            st.sampled_from(["in", "in", "in", "state", "out"]),
        ),
        max_size=12,
    )
)
def test_any_session_is_replayed_and_never_shows_a_crossed_or_unbelieved_price(
    session: list[tuple[str, str, str]],
) -> None:
    replayer = Replayer("dev")
    for ts, (text, venue, direction) in enumerate(session):
        try:
            prices = replayer.receive(frame(ts, text, venue, direction=direction))
        except RemoteProtocolError:
            continue
        for price in prices:
            if price.verdict == "live":
                assert price.bid is None or price.ask is None or 0 < price.bid < price.ask
            else:
                assert (price.bid, price.ask) == (None, None)
                assert price.reason
