"""The venue as a whole: repeatable, the Friday roll, subscriptions that outlive what they are of."""

import json

import pytest

from dquant.simulator.exchange import TradingMode
from dquant.simulator.okex_server import OkexOptions

INST, NEXT, NEW = "BTC-USD-261127", "BTC-USD-261204", "BTC-USD-261211"
CHANNELS = ("books", "bbo-tbt", "books5", "tickers", "trades", "mark-price", "price-limit")


def session(okex) -> list[str]:
    connection = okex.connect()
    okex.subscribe(connection, *({"channel": channel, "instId": INST} for channel in CHANNELS))
    texts = []
    for _ in range(200):
        okex.pass_time(10)
        texts += connection.texts_to_send()
    return texts


def test_a_stepped_session_repeats_byte_for_byte(okex_at):
    first = session(okex_at(2026, 11, 22, seed=5))
    assert len(first) > 100
    assert session(okex_at(2026, 11, 22, seed=5)) == first
    assert session(okex_at(2026, 11, 22, seed=6)) != first


def test_truth_is_what_the_book_channel_shows(okex, frames):
    connection = okex.listen("bbo-tbt", INST)
    okex.run(1000)
    okex.idle(10)
    shown = frames(connection)[-1]["data"][0]
    truth = okex.venue.truth()[INST]
    assert (truth["bid"], truth["bid_amount"]) == (float(shown["bids"][0][0]), float(shown["bids"][0][1]))
    assert (truth["ask"], truth["ask_amount"]) == (float(shown["asks"][0][0]), float(shown["asks"][0][1]))


def test_a_frozen_book_gives_a_new_listener_nothing_until_it_thaws(okex, frames):
    okex.venue.faults.inject("freeze", {"inst_id": INST, "duration_s": 2}, 0)
    connection = okex.connect()
    okex.subscribe(connection, {"channel": "books", "instId": INST}, {"channel": "books", "instId": NEXT})
    okex.run(1900)
    assert {frame["arg"]["instId"] for frame in frames(connection) if "data" in frame} == {NEXT}
    okex.run(300)
    thawed = [frame for frame in frames(connection) if frame["arg"]["instId"] == INST]
    assert [frame["action"] for frame in thawed][:2] == ["snapshot", "update"]
    assert thawed[1]["data"][0]["prevSeqId"] == thawed[0]["data"][0]["seqId"]


def test_the_index_is_told_by_its_own_name(okex, frames):
    connection = okex.listen("index-tickers", "BTC-USD")
    okex.run(2000)
    rows = [frame["data"][0] for frame in frames(connection)]
    assert 5 < len(rows) <= 21
    assert {row["instId"] for row in rows} == {"BTC-USD"}


def test_an_index_that_stands_still_is_repeated_each_minute(okex, frames):
    connection = okex.listen("index-tickers", "BTC-USD")
    okex.idle(100)
    frames(connection)
    okex.idle(59_000)
    assert frames(connection) == []
    okex.idle(1_000)
    assert len(frames(connection)) == 1


def test_the_roll_expires_one_contract_and_lists_the_next(okex_at, frames):
    okex = okex_at(2026, 11, 27, 7, 59, 58)
    connection = okex.connect()
    okex.subscribe(
        connection,
        {"channel": "instruments", "instType": "FUTURES"},
        {"channel": "books", "instId": INST},
        {"channel": "books", "instId": NEXT},
    )
    okex.run(2500)
    pushed = frames(connection)
    states = [
        (row["instId"], row["state"])
        for frame in pushed
        if frame["arg"]["channel"] == "instruments" and "data" in frame
        for row in frame["data"]
    ]
    assert (INST, "expired") in states
    assert okex.get("market/ticker", instId=INST)[1]["code"] == "51001"
    assert okex.get("market/ticker", instId=NEXT)[1]["code"] == "0"
    assert [note["event"] for note in okex.venue.events_of_note() if note["inst_id"] == INST] == ["expired"]

    # The expired book is silent, the other goes on, and the connection lives.
    okex.run(500)
    assert {frame["arg"]["instId"] for frame in frames(connection)} == {NEXT}
    okex.subscribe(connection, {"channel": "books", "instId": "BTC-USD-261120"})
    assert frames(connection)[0]["code"] == "60018"

    # preopen, then live ten minutes after: a book that was asked for early starts by itself.
    okex.pass_time(6 * 60_000)
    assert okex.get("market/ticker", instId=NEW)[1]["code"] == "51001"
    okex.subscribe(connection, {"channel": "books", "instId": NEW})
    new = [frame for frame in frames(connection) if frame["arg"].get("instId") == NEW]
    assert [frame.get("event") for frame in new] == ["subscribe"]
    okex.pass_time(4 * 60_000)
    okex.run(500)
    said = frames(connection)
    new = [frame["action"] for frame in said if frame["arg"].get("instId") == NEW]
    assert new[:2] == ["snapshot", "update"]
    assert (NEW, "live") in [
        (frame["data"][0]["instId"], frame["data"][0]["state"])
        for frame in said
        if frame["arg"]["channel"] == "instruments"
    ]


def test_an_instrument_says_when_it_takes_no_orders(okex_at, frames):
    """Its books go on. What expires while it is suspended says that it expired, and nothing else."""
    okex = okex_at(2026, 11, 27, 7, 59, 50)
    connection = okex.connect()
    okex.subscribe(connection, {"channel": "instruments", "instType": "FUTURES"})
    frames(connection)

    def told():
        okex.run(100)
        return [(row["instId"], row["state"]) for frame in frames(connection) for row in frame["data"]]

    okex.venue.exchange.set_trading(TradingMode.CLOSED, NEXT)
    assert told() == [(NEXT, "suspend")]
    assert told() == []
    assert okex.get("public/instruments", instType="FUTURES", instId=NEXT)[1]["data"][0]["state"] == "suspend"
    okex.venue.exchange.set_trading(TradingMode.OPEN, NEXT)
    assert told() == [(NEXT, "live")]

    okex.venue.exchange.set_trading(TradingMode.CLOSED, INST)
    assert told() == [(INST, "suspend")]
    okex.pass_time(10_000)
    assert [state for name, state in told() if name == INST] == ["expired"]


def test_an_expired_contract_can_still_be_unsubscribed(okex_at, frames):
    okex = okex_at(2026, 11, 27, 7, 59, 59)
    connection = okex.listen("books", INST)
    okex.run(2000)
    frames(connection)
    connection.receive_text(
        json.dumps({"op": "unsubscribe", "args": [{"channel": "books", "instId": INST}]}), okex.real_ns
    )
    assert [frame["event"] for frame in frames(connection)] == ["unsubscribe"]


def test_an_expired_contract_is_subscribed_by_nobody_else(okex_at, frames):
    okex = okex_at(2026, 11, 27, 7, 59, 59)
    listener = okex.listen("books", INST)
    okex.run(2_000)
    frames(listener)
    for connection in (listener, okex.connect()):
        okex.subscribe(connection, {"channel": "books", "instId": INST})
        assert [frame["code"] for frame in frames(connection)] == ["60018"]
    assert connection.subscriptions() == []


def test_a_leap_over_the_roll_lands_on_the_new_listings(okex_at):
    okex = okex_at(2026, 11, 27, 7, 0)
    okex.pass_time(3 * 3_600_000)
    assert INST not in okex.venue.listings
    assert okex.venue.listings[NEW].state == "live"
    assert okex.venue.truth()[NEW]["bid"] < okex.venue.truth()[NEW]["ask"]


def test_the_delivery_price_is_estimated_in_the_last_hour(okex_at, frames):
    okex = okex_at(2026, 11, 27, 6, 59, 59)
    connection = okex.connect()
    okex.subscribe(connection, {"channel": "estimated-price", "instType": "FUTURES", "instFamily": "BTC-USD"})
    frames(connection)
    okex.run(900)
    assert frames(connection) == []
    okex.run(1100)
    rows = [frame["data"][0] for frame in frames(connection)]
    delivered = [row["instId"] for row in rows if row["settleType"] == "delivery"]
    assert set(delivered) == {INST}
    assert 4 <= len(delivered) <= 6
    # The others are settled in that hour.
    settled = {row["instId"] for row in rows if row["settleType"] == "settlement"}
    assert len(settled) == 5
    assert INST not in settled


def test_the_daily_settlement_is_estimated_in_the_hour_before_it(okex_at, frames):
    okex = okex_at(2026, 11, 24, 7, 30)
    connection = okex.connect()
    okex.subscribe(connection, {"channel": "estimated-price", "instType": "FUTURES", "instFamily": "BTC-USD"})
    okex.run(400)
    rows = [row for frame in frames(connection) for row in frame.get("data", [])]
    assert {row["settleType"] for row in rows} == {"settlement"}
    assert len({row["instId"] for row in rows}) == 6


def test_maintenance_is_told_by_the_status_and_refuses_orders(trader, okex, frames):
    watcher = okex.connect()
    okex.subscribe(watcher, {"channel": "status"})
    okex.venue.faults.inject("maintenance", {"duration_s": 1}, okex.real_ns)
    okex.run(500)
    assert okex.get("system/status")[1]["data"][0]["state"] == "ongoing"
    assert trader.place(ordType="market")[0]["data"][0]["sCode"] == "50001"
    okex.run(1_000)
    states = [row["state"] for frame in frames(watcher) for row in frame.get("data", [])]
    assert states == ["completed", "ongoing", "completed"]
    assert trader.place(ordType="market")[0]["data"][0]["sCode"] == "0"


def test_the_alias_can_be_absent(okex_at):
    okex = okex_at(2026, 11, 22, options=OkexOptions(has_alias=False))
    _status, answer = okex.get("public/instruments", instType="FUTURES", instFamily="BTC-USD")
    assert len(answer["data"]) == 6
    assert all("alias" not in row for row in answer["data"])


def test_a_connection_that_goes_takes_its_subscriptions_along(okex):
    connection = okex.listen("books", INST)
    okex.venue.disconnected(connection)
    okex.run(200)
    assert okex.venue.connections() == []
    assert okex.venue.feeds[INST].channels == set()
    assert connection.texts_to_send()[1:] == []


@pytest.mark.parametrize(
    ("channel", "start", "width"),
    [
        ("candle1m", (10, 0, 50), 9),
        ("candle1D", (15, 59, 50), 9),
        ("candle1Wutc", (23, 59, 50), 9),
        ("mark-price-candle1m", (10, 0, 50), 6),
        ("index-candle1H", (10, 59, 50), 6),
    ],
)
def test_candles_are_pushed_while_they_change_and_when_they_close(okex_at, frames, channel, start, width):
    okex = okex_at(2026, 11, 22, *start)  # a Sunday
    connection = okex.connect("business")
    arg = {"channel": channel, "instId": "BTC-USDT"}
    okex.subscribe(connection, arg)
    ack, first = frames(connection)
    assert ack["event"] == "subscribe"
    assert (first["arg"], len(first["data"][0]), first["data"][0][-1]) == (arg, width, "0")
    okex.run(12_000, 100)
    rows = [frame["data"][0] for frame in frames(connection)]
    minute = str(okex.now_ns // 60_000_000_000 * 60_000)
    closed = [row for row in rows if row[-1] == "1"]
    assert [row[0] for row in closed] == first["data"][0][:1]
    assert rows[-1][0] == minute
    assert all(float(row[3]) <= float(row[4]) <= float(row[2]) for row in rows)
