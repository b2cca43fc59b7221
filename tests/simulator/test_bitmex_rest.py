"""REST of the simulated BitMEX: rows, list parameters, limits and errors."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dquant.constants import NS_PER_MS, NS_PER_S
from dquant.simulator.bitmex_server import BitmexServer
from dquant.simulator.flow import Flow
from dquant.simulator.venue import RestRequest

START_NS = 1_782_921_600_000_000_000  # 2026-07-01T16:00:00Z
FIXTURES = Path(__file__).resolve().parents[3] / "shared" / "fixtures" / "bitmex"


def venue_at(seconds=5, rest_per_minute=1_000_000):
    flow = Flow(7, START_NS)
    venue = BitmexServer(flow, rest_per_minute=rest_per_minute)
    for step in range(1, seconds * 10 + 1):
        now = START_NS + step * 100 * NS_PER_MS
        flow.advance(now)
        venue.publish(now, step * 100 * NS_PER_MS)
    return venue


VENUE = venue_at()


def get(route, venue=VENUE, **query):
    return venue.answer(RestRequest("GET", f"/api/v1{route}", query), venue.now_ns)


def rows(route, **query):
    answer = get(route, **query)
    assert answer.status == 200
    return json.loads(answer.body)


def fixture(name):
    path = FIXTURES / name
    if not path.exists():
        pytest.skip("the recorded payloads of ../shared/fixtures are not here")
    return json.loads(path.read_text())


def test_instruments_are_contracts_and_indices():
    contracts = {"XBTUSD", "ETHUSD", "XBTUSDT", "XBTU26"}
    indices = {".BXBT", ".BXBTT", ".BETH", ".BXBT30M"}
    assert {row["symbol"] for row in rows("/instrument/active")} == contracts
    assert {row["symbol"] for row in rows("/instrument/indices")} == indices
    assert {row["symbol"] for row in rows("/instrument/activeAndIndices")} == contracts | indices
    assert {row["symbol"] for row in rows("/instrument")} == contracts | indices
    assert [row["symbol"] for row in rows("/instrument", symbol="XBTUSD")] == ["XBTUSD"]
    assert [row["symbol"] for row in rows("/instrument", symbol="XBT:quarterly")] == ["XBTU26"]
    assert rows("/instrument/activeIntervals")["symbols"] == ["XBTUSD", "ETHUSD", "XBTUSDT", "XBTU26"]


def test_an_instrument_row_has_the_keys_and_nulls_of_the_recorded_one():
    recorded = fixture("rest_GET_instrument_XBTUSD_2024-11.json")
    (row,) = rows("/instrument", symbol="XBTUSD")
    assert row.keys() == recorded.keys()
    assert {key for key, value in row.items() if value is None} == {"limitDownPrice", "limitUpPrice"}
    for fact in ("multiplier", "lotSize", "tickSize", "settlCurrency", "isInverse", "typ", "makerFee"):
        assert row[fact] == recorded[fact]


def test_the_book_is_the_published_one_as_deep_as_asked():
    assert len(rows("/orderBook/L2", symbol="XBTUSD")) == 50
    assert len(rows("/orderBook/L2", symbol="XBTUSD", depth="3")) == 6
    whole = rows("/orderBook/L2", symbol="XBTUSD", depth="0")
    assert len(whole) == len(VENUE.markets["XBTUSD"].book.levels) > 700
    best = min(row["price"] for row in whole if row["side"] == "Sell")
    assert best == VENUE.truth()["XBTUSD"]["ask"]
    recorded = fixture("rest_GET_orderBook_L2_XBTUSD_6.json")[0]
    assert recorded.keys() <= whole[0].keys()


def test_trades_and_quotes_are_listed_from_old_to_new_or_reversed():
    old_first = rows("/trade", symbol="XBTUSD", count="500")
    new_first = rows("/trade", symbol="XBTUSD", count="500", reverse="true")
    assert old_first == new_first[::-1]
    assert [row["timestamp"] for row in old_first] == sorted(row["timestamp"] for row in old_first)
    assert (
        rows("/quote", symbol="XBTUSD", count="1", reverse="true")[0]["bidPrice"]
        == VENUE.truth()["XBTUSD"]["bid"]
    )
    assert {row["symbol"] for row in rows("/quote", count="1000")} == set(VENUE.markets)


def test_lists_take_start_count_filter_columns_and_times():
    everything = rows("/trade", count="1000")
    assert rows("/trade", start="2", count="3") == everything[2:5]
    sells = rows("/trade", count="1000", filter='{"side":"Sell","symbol":["XBTUSD","ETHUSD"]}')
    assert sells == [r for r in everything if r["side"] == "Sell" and r["symbol"] in ("XBTUSD", "ETHUSD")]
    assert all(row.keys() == {"symbol", "timestamp", "price"} for row in rows("/trade", columns='["price"]'))
    since = "2026-07-01T16:00:03.000Z"
    assert rows("/trade", startTime=since, count="1000") == [r for r in everything if r["timestamp"] >= since]
    assert rows("/trade", endTime=since, count="1000") == [r for r in everything if r["timestamp"] <= since]


@pytest.mark.parametrize(
    ("wanted", "times"),
    [
        ('{"timestamp.time": "12:00"}', 20),
        ('{"timestamp.hh": 4, "timestamp.month": "2026-06"}', 19),
        ('{"timestamp.date": ["2026-07-01", "2026-06-30"], "timestamp.uu": "00"}', 5),
        ('{"timestamp.date": "2026-07-01", "timestamp.hh": "7"}', 0),
        ('{"timestamp.time": [null, ""]}', 0),
    ],
)
def test_a_filter_may_name_a_part_of_the_timestamp(wanted, times):
    """Each of these 60 fundings is at 04, 12 or 20 o'clock; the last one is of the first of July, 12:00."""
    assert len(rows("/funding", symbol="XBTUSD", filter=wanted)) == times


def test_bars_are_stamped_with_their_ends_and_have_the_recorded_fields():
    found = rows("/trade/bucketed", symbol="XBTUSD", binSize="1m", reverse="true", count="10")
    assert len(found) == 10
    assert all(row["timestamp"].endswith(":00.000Z") for row in found)
    assert found[0]["timestamp"] <= "2026-07-01T16:00:00.000Z"
    assert set(found[0]) == {
        "timestamp", "symbol", "open", "high", "low", "close", "trades", "volume", "vwap", "lastSize",
        "turnover", "homeNotional", "foreignNotional",
    }  # fmt: skip
    assert all(row["low"] <= row["vwap"] <= row["high"] and row["volume"] % 100 == 0 for row in found)
    partial = rows(
        "/trade/bucketed", symbol="XBTUSD", binSize="1h", reverse="true", count="1", partial="true"
    )
    assert partial[0]["timestamp"] == "2026-07-01T17:00:00.000Z"
    assert get("/trade/bucketed", binSize="3m").status == 400


def test_past_fundings_are_eight_hours_apart():
    recorded = fixture("rest_GET_funding_XBTUSD_2016.json")["response"]["body"][0]
    events = rows("/funding", symbol="XBTUSD")
    assert len(events) == 60
    assert events[-1]["timestamp"] == "2026-07-01T12:00:00.000Z"
    assert events[-2]["timestamp"] == "2026-07-01T04:00:00.000Z"
    assert events[0].keys() == recorded.keys()


def test_the_page_of_the_api_itself_says_the_time():
    for route in ("", "/"):
        assert rows(route)["timestamp"] == VENUE.now_ns // NS_PER_MS


def test_a_stranger_learns_the_scales_of_currencies_as_recorded():
    path = FIXTURES / "rest_GET_wallet_assets_2024-12.json"
    if not path.exists():
        pytest.skip(f"{path} is not there: payloads of the venue live beside the repo")
    recorded = {row["currency"]: row for row in json.loads(path.read_text())["response"]["body"]}
    for row in rows("/wallet/assets"):
        assert row.keys() == recorded[row["currency"]].keys()
        assert row["scale"] == recorded[row["currency"]]["scale"]


def test_nobody_is_liquidated_and_nothing_settled():
    assert rows("/liquidation") == rows("/settlement") == []


@pytest.mark.parametrize(
    ("request_", "status", "message"),
    [
        (RestRequest("GET", "/api/v1/statistics"), 404, "Not Found"),
        (RestRequest("GET", "/nowhere"), 404, "Not Found"),
        (RestRequest("POST", "/api/v1/trade"), 404, "Not Found"),
        (RestRequest("GET", "/api/v1/orderBook/L2"), 400, "'symbol' is a required arg."),
        (RestRequest("GET", "/api/v1/trade", {"filter": "{"}), 400, "'filter' must be a JSON object."),
        (RestRequest("GET", "/api/v1/trade", {"count": "-1"}), 400, "'count' must be a whole number"),
        (RestRequest("GET", "/api/v1/trade", {"count": "1001"}), 400, "'count' must be a whole number"),
        (
            RestRequest("GET", "/api/v1/trade", {"startTime": "x"}),
            400,
            "'startTime' must be an ISO 8601 time.",
        ),
        (RestRequest("POST", "/api/v1/order", body=b"{}"), 401, "Authorization Required"),
        (RestRequest("GET", "/api/v1/user/margin", headers={"api-key": "x"}), 401, "Invalid API Key."),
    ],
)
def test_errors_have_status_name_and_words(request_, status, message):
    answer = VENUE.answer(request_, VENUE.now_ns)
    error = json.loads(answer.body)["error"]
    assert answer.status == status
    assert error["message"].startswith(message)
    assert error["name"] in ("HTTPError", "ValidationError")


def test_an_unknown_route_answers_as_the_recorded_one():
    recorded = fixture("rest_error_404_2018.json")["response"]
    answer = get("/statistics")
    assert (answer.status, json.loads(answer.body)) == (recorded["status"], recorded["body"])
    assert {key for key in recorded["headers"] if key.startswith("x-rate")} <= answer.headers.keys()


def test_the_thirty_first_request_of_a_minute_is_refused_until_the_bucket_fills():
    venue = venue_at(1, rest_per_minute=30)
    answers = [get("/liquidation", venue) for _ in range(31)]
    assert [answer.status for answer in answers] == [200] * 30 + [429]
    assert [answer.headers["x-ratelimit-remaining"] for answer in answers][:2] == ["29", "28"]
    assert (answers[-1].headers["Retry-After"], answers[-1].headers["x-ratelimit-limit"]) == ("2", "30")
    assert json.loads(answers[-1].body) == {
        "error": {"message": "Rate limit exceeded, retry in 2 seconds.", "name": "RateLimitError"}
    }
    venue.publish(venue.now_ns, 4 * NS_PER_S)  # 3 s of real time later: 1.5 requests
    assert [get("/liquidation", venue).status for _ in range(2)] == [200, 429]


def test_refuse_answers_as_an_overloaded_venue():
    venue = venue_at(1)
    venue.faults.inject("refuse", {}, NS_PER_S)
    answer = get("/trade", venue)
    recorded = fixture("rest_error_503_overloaded_2018.json")["response"]
    assert (answer.status, json.loads(answer.body)) == (recorded["status"], recorded["body"])


@settings(max_examples=150, deadline=None)
@given(
    route=st.sampled_from(["/trade", "/quote", "/funding", "/instrument", "/orderBook/L2", "/settlement"])
    | st.text(),
    query=st.dictionaries(
        st.sampled_from(["symbol", "filter", "count", "start", "reverse", "startTime", "columns", "depth"])
        | st.text(),
        st.sampled_from(["XBTUSD", "XBT:", "{}", "[]", '{"a":{}}', "1", "true", "9" * 30, "0001-01-01"])
        | st.text(),
        max_size=4,
    ),
)
def test_any_request_gets_a_venue_like_answer(route, query):
    answer = VENUE.answer(RestRequest("GET", f"/api/v1{route}", query), VENUE.now_ns)
    body = json.loads(answer.body)
    assert answer.status in (200, 400, 401, 404)
    assert answer.status == 200 or body["error"]["message"]
