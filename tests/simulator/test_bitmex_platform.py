"""What surrounds trading at the simulated BitMEX: its own socket, the insurance fund, pages of the venue."""

import json


def frames(connection):
    return [json.loads(text) for text in connection.texts_to_send()]


def test_announcements_and_chat_have_a_socket_of_their_own(bitmex):
    """Section 1: /realtimePlatform carries them, /realtime does not any more."""
    topics = "announcement,chat,publicNotifications"
    welcome, *rest = frames(bitmex.venue.connect("/realtimePlatform", f"subscribe={topics},trade", 0))
    assert welcome["info"].startswith("Welcome")
    partials = {frame["table"]: frame for frame in rest if "table" in frame}
    assert set(partials) == set(topics.split(","))
    assert partials["announcement"]["keys"] == ["id"]
    assert partials["announcement"]["data"][0].keys() == partials["announcement"]["types"].keys()
    assert rest[-1]["error"] == "Unknown table: trade"
    _welcome, *refused = frames(bitmex.venue.connect("/realtime", f"subscribe={topics}", 0))
    assert [frame["status"] for frame in refused] == [400] * 3


def test_the_insurance_fund_is_told_of_at_noon_and_rest_says_the_same(bitmex_at):
    bench = bitmex_at(2026, 7, 1, 11, 59, 59)
    connection = bench.venue.connect("/realtime", "subscribe=insurance", 0)
    *_others, partial = frames(connection)
    assert (partial["keys"], partial["filter"]) == (["currency", "timestamp"], {})
    assert {row["timestamp"] for row in partial["data"]} == {"2026-06-30T12:00:00.000Z"}
    bench.run(2_000)
    (insert,) = frames(connection)
    assert {row["timestamp"] for row in insert["data"]} == {"2026-07-01T12:00:00.000Z"}
    rows = bench.ask("GET", "/insurance", query="reverse=true&count=2")[1]
    assert sorted(rows, key=str) == sorted(insert["data"], key=str)
    assert len(bench.ask("GET", "/insurance", query="count=500")[1]) == 120


def test_figures_of_the_venue_add_up(bitmex):
    rows = bitmex.ask("GET", "/stats")[1]
    total = {row["currency"]: row["openValue"] for row in rows if row["rootSymbol"] == "Total"}
    assert total.keys() == {"XBt", "USDt"}
    for coin, value in total.items():
        parts = [r["openValue"] for r in rows if r["currency"] == coin and r["rootSymbol"] != "Total"]
        assert sum(parts) == value
    for path in ("/announcement", "/announcement/urgent", "/chat", "/chat/channels", "/leaderboard"):
        assert isinstance(bitmex.ask("GET", path)[1], list)


def test_one_position_a_contract_is_the_only_mode(bitmex):
    ask = {"positionMode": "OneWay"}
    assert bitmex.ask("POST", "/user/positionMode", ask)[0] == 200
    assert (
        bitmex.refused("POST", "/user/positionMode", {"positionMode": "MultiWay"}) == "Invalid positionMode"
    )
    bitmex.place(orderQty=100, price=80_000)
    assert "open orders" in bitmex.refused("POST", "/user/positionMode", ask)
