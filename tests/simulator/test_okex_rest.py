"""REST of the simulated OKX: what a query selects, and what is refused how."""

from datetime import UTC, datetime

import pytest

from dquant.simulator import okex_data
from dquant.simulator.venue import RestRequest

INST = "BTC-USD-261127"


def test_time_is_the_virtual_time(okex):
    okex.run(1000)
    assert okex.get("public/time")[1]["data"] == [{"ts": str(okex.now_ns // 1_000_000)}]


def test_instruments_are_chosen_by_type_family_underlying_and_name(okex):
    def ids(**query):
        return [row["instId"] for row in okex.get("public/instruments", **query)[1]["data"]]

    assert len(ids(instType="FUTURES", instFamily="BTC-USD")) == 6
    assert len(ids(instType="FUTURES", uly="BTC-USD")) == 9
    assert ids(instType="SWAP", instFamily="BTC-USD") == ["BTC-USD-SWAP"]
    assert ids(instType="SPOT") == ["BTC-USDT"]
    assert ids(instType="SWAP", instId="ETH-USD-SWAP") == ["ETH-USD-SWAP"]
    assert ids(instType="OPTION") == []


def test_a_mark_price_is_asked_for_by_name_alone_and_any_funding_by_any(okex):
    by_name = okex.get("public/mark-price", instId=INST)[1]["data"]
    assert by_name == okex.get("public/mark-price", instType="FUTURES", instId=INST)[1]["data"]
    funded = {row["instId"] for row in okex.get("public/funding-rate", instId="ANY")[1]["data"]}
    assert funded >= {"BTC-USD-SWAP", "BTC-USDT-SWAP", "ETH-USD-SWAP"}
    assert INST not in funded


def test_candles_are_a_day_of_minutes_newest_first_with_the_open_one_marked(okex, recorded):
    okex.run(3000)
    rows = okex.get("market/candles", instId=INST, limit="300")[1]["data"]
    shape = recorded("rest_market_candles")["data"][0]
    assert len(rows) == 300
    assert all([type(value) for value in row] == [type(value) for value in shape] for row in rows)
    assert [int(row[0]) for row in rows] == sorted((int(row[0]) for row in rows), reverse=True)
    assert [row[8] for row in rows] == ["0", *["1"] * 299]
    older = okex.get("market/candles", instId=INST, after=rows[10][0], limit="5")[1]["data"]
    assert older == rows[11:16]
    hours = okex.get("market/candles", instId=INST, bar="1H")[1]["data"]
    assert {int(row[0]) % 3_600_000 for row in hours} == {0}
    assert okex.get("market/candles", instId=INST, after="1")[1]["data"] == []


@pytest.mark.parametrize(
    ("bar", "start"),
    [
        ("6Hutc", (2026, 11, 22, 6)),
        ("12H", (2026, 11, 22, 4)),
        ("1Dutc", (2026, 11, 22)),
        ("1D", (2026, 11, 21, 16)),
        ("1Wutc", (2026, 11, 16)),
        ("1W", (2026, 11, 15, 16)),
        ("1Mutc", (2026, 11, 1)),
        ("3M", (2026, 9, 30, 16)),
    ],
)
def test_long_candles_open_by_the_chinese_day_or_with_utc_by_ours(okex_at, bar, start):
    okex = okex_at(2026, 11, 22, 9)
    okex.run(100)
    rows = okex.get("market/candles", instId=INST, bar=bar)[1]["data"]
    assert int(rows[0][0]) == datetime(*start, tzinfo=UTC).timestamp() * 1000
    assert rows[0][8] == "0"
    minutes = okex.get("market/candles", instId=INST, limit="1")[1]["data"]
    assert rows[0][4] == minutes[0][4]


@pytest.mark.parametrize(("query", "key"), [({}, "tradeId"), ({"type": "2"}, "ts")])
def test_history_trades_are_walked_through_to_their_end(okex, query, key):
    okex.run(3_000)
    seen = okex.get("market/history-trades", instId=INST, limit="10", **query)[1]["data"]
    for _ in range(1_000):
        rows = okex.get("market/history-trades", instId=INST, limit="10", after=seen[-1][key], **query)[1]
        if not rows["data"]:
            break
        seen += rows["data"]
    else:
        pytest.fail("the pages have no end")
    ids = [int(row["tradeId"]) for row in seen]
    assert ids == sorted(set(ids), reverse=True)
    assert len(ids) > 20
    newer = okex.get("market/history-trades", instId=INST, before=seen[5][key], **query)[1]["data"]
    assert all(int(row[key]) > int(seen[5][key]) for row in newer)
    assert okex.get("market/history-trades", instId=INST, type="3")[0] == 400


def test_candles_of_every_size_have_a_past_that_ends_where_the_contract_was_listed(okex):
    """Upper-case bars from six hours on open at UTC+8, with ``utc`` at UTC."""

    def opens(inst_id, bar):
        rows = okex.get("market/candles", instId=inst_id, bar=bar, limit="300")[1]["data"]
        paged = okex.get("market/candles", instId=inst_id, bar=bar, limit="300", after="9" * 15)[1]["data"]
        assert rows == paged
        return [datetime.fromtimestamp(int(row[0]) / 1000, UTC) for row in rows]

    for bar, count, hours in (
        ("5m", 300, None),
        ("1H", 300, None),
        ("12H", 117, {4, 16}),
        ("12Hutc", 117, {0, 12}),
        ("1D", 300, {16}),
        ("1Dutc", 300, {0}),
        ("1W", 70, {16}),
        ("1Mutc", 15, {0}),
        ("3M", 4, {16}),
    ):
        found = opens("BTC-USD-SWAP", bar)
        assert len(found) >= count, bar
        assert hours is None or {moment.hour for moment in found} == hours
    assert {moment.weekday() for moment in opens("BTC-USD-SWAP", "1Wutc")} == {0}
    assert {moment.day for moment in opens("BTC-USD-SWAP", "1Mutc")} == {1}
    row = okex.get("public/instruments", instType="FUTURES", instId=INST)[1]["data"][0]
    listed = datetime.fromtimestamp(int(row["listTime"]) / 1000, UTC)
    assert opens(INST, "1Dutc")[-1].date() == listed.date()


def test_marks_and_indices_have_candles_that_agree_with_them(okex):
    okex.run(3_000)
    mark = okex.get("public/mark-price", instType="SWAP", instId="BTC-USD-SWAP")[1]["data"][0]["markPx"]
    index = okex.get("market/index-tickers", instId="BTC-USD")[1]["data"][0]["idxPx"]
    for path, inst_id, price in (
        ("mark-price-candles", "BTC-USD-SWAP", mark),
        ("index-candles", "BTC-USD", index),
    ):
        rows = okex.get(f"market/{path}", instId=inst_id, bar="1H")[1]["data"]
        assert rows == okex.get(f"market/history-{path}", instId=inst_id, bar="1H")[1]["data"]
        assert (len(rows), {len(row) for row in rows}) == (100, {6})
        assert [row[5] for row in rows] == ["0", *["1"] * 99]
        assert float(rows[0][3]) <= float(price) <= float(rows[0][2])
        assert abs(float(rows[0][4]) / float(price) - 1) < 1e-4  # it was looked at within the last second
        assert okex.get(f"market/{path}", instId="NOPE-USD")[1]["code"] == "51001"
        assert okex.get(f"market/{path}", instId=inst_id, limit="101")[1]["code"] == "51000"
    hours = [okex.get("market/candles", instId="BTC-USD-SWAP", bar="1H")[1]["data"], rows]
    basis = [float(one[4]) / float(two[4]) for one, two in zip(*hours, strict=True)]
    assert max(basis) - min(basis) < 1e-3


def test_paid_fundings_have_the_recorded_shape_and_begin_with_the_last_one(okex, recorded):
    rows = okex.get("public/funding-rate-history", instId="BTC-USD-SWAP", limit="5")[1]["data"]
    shape = recorded("rest_public_funding_rate_history")["data"][0]
    assert all(row.keys() == shape.keys() for row in rows)
    now = okex.get("public/funding-rate", instId="BTC-USD-SWAP")[1]["data"][0]
    assert (rows[0]["fundingTime"], rows[0]["fundingRate"]) == (
        now["prevFundingTime"],
        now["settFundingRate"],
    )
    assert okex.get("public/funding-rate-history", instId=INST)[0] == 400


def test_books_have_as_many_levels_as_asked_for(okex):
    for size, levels in (("", 1), ("7", 7), ("400", 400)):
        _status, answer = okex.get("market/books", instId=INST, sz=size)
        row = answer["data"][0]
        assert (len(row["bids"]), len(row["asks"])) == (levels, levels)
        assert row["seqId"] == okex.venue.feeds[INST].seq_id
    full = okex.get("market/books-full", instId=INST, sz="5000")[1]["data"][0]
    assert len(full["bids"]) > 400


def test_trades_are_newest_first_and_no_more_than_asked_for(okex):
    okex.run(3000)
    rows = okex.get("market/trades", instId=INST, limit="10")[1]["data"]
    ids = [int(row["tradeId"]) for row in rows]
    assert len(ids) == 10
    assert ids == sorted(ids, reverse=True)


def test_no_more_trades_are_made_than_are_asked_for(okex, monkeypatch):
    okex.run(3000)
    made, single_fills = [], okex_data.single_fills
    monkeypatch.setattr(
        okex_data, "single_fills", lambda market, item: made.append(item) or single_fills(market, item)
    )
    assert len(okex.get("market/trades", instId=INST, limit="1")[1]["data"]) == len(made) == 1


def test_tickers_list_a_type(okex):
    rows = okex.get("market/tickers", instType="SWAP")[1]["data"]
    assert {row["instId"] for row in rows} == {"BTC-USD-SWAP", "ETH-USD-SWAP", "BTC-USDT-SWAP"}


def test_indices_are_found_by_name_or_quote_currency(okex):
    rows = okex.get("market/index-tickers", quoteCcy="USD")[1]["data"]
    assert [row["instId"] for row in rows] == ["BTC-USD", "ETH-USD"]


def test_price_limits_lie_round_the_index(okex):
    row = okex.get("public/price-limit", instId=INST)[1]["data"][0]
    index = float(okex.get("market/index-tickers", instId="BTC-USD")[1]["data"][0]["idxPx"])
    assert float(row["sellLmt"]) < index < float(row["buyLmt"]) <= index * 1.05 + 1


def test_open_interest_in_coin_is_that_of_inverse_contracts(okex):
    (row,) = okex.get("public/open-interest", instType="FUTURES", instId=INST)[1]["data"]
    mark = okex.venue.feeds[INST].market.mark
    assert float(row["oiCcy"]) == pytest.approx(float(row["oi"]) * 100 / mark)


@pytest.mark.parametrize(
    ("path", "query", "status", "code"),
    [
        ("market/ticker", {}, 400, "50014"),
        ("market/ticker", {"instId": "NO-SUCH"}, 200, "51001"),
        ("public/instruments", {}, 400, "50014"),
        ("public/instruments", {"instType": "FRUIT"}, 400, "51000"),
        ("public/instruments", {"instType": "SWAP", "instId": INST}, 200, "51015"),
        ("market/books", {"instId": INST, "sz": "401"}, 400, "51000"),
        ("market/books", {"instId": INST, "sz": "-1"}, 400, "51000"),
        ("market/books", {"instId": INST, "sz": "\u0663"}, 400, "51000"),
        ("market/index-tickers", {}, 400, "50015"),
        ("market/index-tickers", {"instId": INST}, 200, "51001"),
        ("market/index-tickers", {"quoteCcy": "EUR"}, 200, "51001"),
        ("public/funding-rate", {"instId": INST}, 400, "51000"),
        ("market/candles", {"instId": INST, "bar": "7m"}, 400, "51000"),
        ("public/open-interest", {"instType": "SPOT"}, 400, "51000"),
        ("public/estimated-price", {"instId": "BTC-USD-SWAP"}, 400, "51000"),
    ],
)
def test_errors_come_in_the_venues_envelope(okex, path, query, status, code):
    answer = okex.get(path, **query)
    assert (answer[0], answer[1]["code"], answer[1]["data"]) == (status, code, [])
    assert answer[1]["msg"]


def test_only_get_reads(okex):
    answer = okex.venue.answer(RestRequest("POST", "/api/v5/public/time"), okex.now_ns)
    assert answer.status == 404


def test_an_estimate_exists_only_in_the_last_hour(okex):
    assert okex.get("public/estimated-price", instId=INST)[1] == {"code": "0", "data": [], "msg": ""}


def test_a_refusing_venue_answers_like_a_gateway(okex):
    okex.pass_time(10)
    okex.venue.faults.inject("refuse", {}, okex.real_ns)
    answer = okex.venue.answer(RestRequest("GET", "/api/v5/public/time"), okex.now_ns)
    assert (answer.status, answer.content_type) == (503, "text/html")
