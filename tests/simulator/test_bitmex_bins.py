"""Bars of the simulated BitMEX on the websocket: told when they are over, stamped with their end."""

import json
from pathlib import Path
from urllib.parse import urlencode

import pytest

FIXTURE = (
    Path(__file__).resolve().parents[3]
    / "shared"
    / "fixtures"
    / "bitmex"
    / "ws_tradeBin5m_insert_2025-02-07.json"
)


def test_a_bar_is_told_when_it_is_over_and_rest_says_the_same(bitmex_at):
    bench = bitmex_at(2026, 7, 1, 16, 3, 58)
    connection = bench.venue.connect("/realtime", "subscribe=tradeBin1m:XBTUSD,tradeBin5m:XBTUSD", 0)
    bench.run(500)
    partials = [json.loads(text) for text in connection.texts_to_send()]
    shown = {frame["table"]: frame["data"] for frame in partials if frame.get("action") == "partial"}
    assert [row["timestamp"] for row in shown["tradeBin1m"]] == ["2026-07-01T16:03:00.000Z"]
    assert [row["timestamp"] for row in shown["tradeBin5m"]] == ["2026-07-01T16:00:00.000Z"]
    bench.run(2_000)
    (frame,) = [json.loads(text) for text in connection.texts_to_send()]
    (row,) = frame["data"]
    assert (frame["table"], frame["action"], row["timestamp"]) == (
        *("tradeBin1m", "insert"),
        "2026-07-01T16:04:00.000Z",
    )
    assert row["low"] <= min(row["open"], row["close"]) <= max(row["open"], row["close"]) <= row["high"]
    query = "symbol=XBTUSD&binSize=1m&reverse=true&count=1"
    assert [{**bar, "pool": "Primary"} for bar in bench.ask("GET", "/trade/bucketed", query=query)[1]] == [
        row
    ]


def test_a_bar_has_the_columns_of_a_recorded_one(bitmex):
    if not FIXTURE.exists():
        pytest.skip(f"{FIXTURE} is not there: payloads of the venue live beside the repo")
    real = json.loads(FIXTURE.read_text())["data"][0]
    connection = bitmex.venue.connect("/realtime", "subscribe=tradeBin5m:XBTUSD", 0)
    frames = [json.loads(text) for text in connection.texts_to_send()]
    (row,) = frames[-1]["data"]
    assert row.keys() == real.keys() | {"pool"}


def test_a_bar_of_quotes_is_the_last_quote_in_it(bitmex_at):
    bench = bitmex_at(2026, 7, 1, 16, 3, 58)
    topics = "quote:XBTUSD,quoteBin1m:XBTUSD"
    connection = bench.venue.connect("/realtime", f"subscribe={topics}", 0)
    bench.run(3_000)
    frames = [json.loads(text) for text in connection.texts_to_send()]
    past, bar = [frame["data"][0] for frame in frames if frame.get("table") == "quoteBin1m"]
    assert (past["timestamp"], bar["timestamp"]) == ("2026-07-01T16:03:00.000Z", "2026-07-01T16:04:00.000Z")
    assert past["bidPrice"] < past["askPrice"]
    quotes = [row for frame in frames if frame.get("table") == "quote" for row in frame["data"]]
    last = max(
        (row for row in quotes if row["timestamp"] < bar["timestamp"]), key=lambda row: row["timestamp"]
    )
    assert {**bar, "timestamp": 0} == {**last, "timestamp": 0}
    query = "symbol=XBTUSD&binSize=1m&reverse=true&count=2"
    rows = bench.ask("GET", "/quote/bucketed", query=query)[1]
    assert [{**row, "pool": "Primary"} for row in rows] == [bar, past]


def test_hours_and_days_have_a_past_that_ends_where_the_contract_was_listed(bitmex_at):
    bench = bitmex_at(2026, 7, 1, 16, 3, 58)

    def ends(symbol, size, **more):
        query = urlencode({"symbol": symbol, "binSize": size, "count": 1000, "reverse": "true", **more})
        return [row["timestamp"] for row in bench.ask("GET", "/trade/bucketed", query=query)[1]]

    hours, days = ends("XBTUSD", "1h"), ends("XBTUSD", "1d")
    assert (len(hours), hours[0]) == (1000, "2026-07-01T16:00:00.000Z")
    assert len(days) > 400
    assert days[:2] == ["2026-07-01T00:00:00.000Z", "2026-06-30T00:00:00.000Z"]
    assert ends("XBTUSD", "1d", partial="true")[0] == "2026-07-02T00:00:00.000Z"
    (future,) = [row for row in bench.ask("GET", "/instrument/active")[1] if "expiry" in row]
    assert ends(future["symbol"], "1d")[-1] > future["listing"]
    connection = bench.venue.connect("/realtime", "subscribe=tradeBin1d:XBTUSD", 0)
    frames = [json.loads(text) for text in connection.texts_to_send()]
    assert [row["timestamp"] for row in frames[-1]["data"]] == days[:1]
