"""Private REST of the simulated OKX: headers, queries, settings, dead-man switch, and what time brings."""

import json
from decimal import Decimal

import pytest

from dquant.simulator.okex_limits import LIMITS
from dquant.simulator.okex_login import sign
from dquant.simulator.okex_server import OkexOptions
from dquant.simulator.okex_trade import TradeOptions
from dquant.simulator.venue import RestRequest

SWAP = "BTC-USD-SWAP"
FUTURE = "BTC-USD-261127"
SPOT = "BTC-USDT"
HOUR_MS = 3_600_000


def types(value):
    if isinstance(value, dict):
        return {key: types(item) for key, item in value.items()}
    if isinstance(value, list):
        return [types(value[0])] if value else []
    return type(value).__name__


def order(**fields):
    return {"instId": SWAP, "tdMode": "cross", "side": "buy", "ordType": "limit", "sz": "1"} | fields


# Who asks


@pytest.mark.parametrize(
    ("method", "path", "body", "signature"),
    [
        ("GET", "/api/v5/account/balance?ccy=BTC", "", "k5j3O3Q4vTMRjW8im3/cQrV7xV1W3Xm9Ij2c9tTTQuo="),
        (
            "POST",
            "/api/v5/trade/order",
            '{"instId":"BTC-USD-261030","tdMode":"cross","side":"buy","ordType":"limit","px":"84000","sz":"1"}',
            "UzFr2HiOi/rKD6joyeqrv8MFwULklEpJHpTCSv/sdP0=",
        ),
    ],
)
def test_the_published_signatures_are_ours(method, path, body, signature):
    assert sign("test-secret-0123456789", f"2026-09-25T08:00:00.000Z{method}{path}{body}") == signature


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"ok-access-key": ""}, 401, "50103"),
        ({"ok-access-passphrase": ""}, 401, "50104"),
        ({"ok-access-passphrase": "wrong"}, 401, "50105"),
        ({"ok-access-sign": ""}, 401, "50106"),
        ({"ok-access-timestamp": ""}, 401, "50107"),
        ({"ok-access-key": "nobody"}, 401, "50111"),
        ({"ok-access-timestamp": "yesterday"}, 401, "50112"),
        ({"ok-access-timestamp": "2026-13-01T00:00:00.000Z"}, 401, "50112"),
        ({"ok-access-timestamp": "2026-11-21T23:59:00.000Z"}, 401, "50102"),
        ({"ok-access-sign": "AAAA"}, 401, "50113"),
        ({"ok-access-sign": "\u00e9"}, 401, "50113"),
    ],
)
def test_a_request_that_is_not_signed_as_it_should_is_refused(trader, change, status, code):
    request = trader.signed("GET", "account/balance", None, {})
    headers = {**request.headers, **change}
    answer = trader.bench.venue.answer(
        RestRequest("GET", request.path, {}, b"", headers, request.target), trader.bench.now_ns
    )
    body = json.loads(answer.body)
    assert (answer.status, body["code"]) == (status, code)
    assert "data" not in body


def test_the_body_is_signed_byte_for_byte_and_must_be_json(trader):
    request = trader.signed("POST", "trade/order", order(), {})
    for body, code in ((request.body + b" ", "50113"), (b"", "50113")):
        changed = RestRequest("POST", request.path, {}, body, request.headers, request.target)
        assert json.loads(trader.bench.venue.answer(changed, trader.bench.now_ns).body)["code"] == code
    plain = trader.signed("POST", "trade/order", order(), {}, **{"content-type": "text/plain"})
    assert json.loads(trader.bench.venue.answer(plain, trader.bench.now_ns).body)["code"] == "50006"
    assert trader.ask("POST", "trade/order") == (
        400,
        {"code": "50000", "data": [], "msg": types_msg("50000")},
    )
    assert trader.ask("POST", "trade/order", [order()])[1]["code"] == "50002"
    assert trader.ask("POST", "trade/batch-orders", order())[1]["code"] == "50002"
    assert trader.ask("PUT", "trade/order", order())[0] == 405
    assert trader.ask("GET", "trade/no-such")[0] == 404


def types_msg(code):
    from dquant.simulator.okex_errors import WORDS

    return WORDS[code]


# Orders


def test_an_order_by_rest_is_answered_as_recorded(trader, recorded):
    expected = recorded("rest_trade_order__ok_2025-09_real")
    answer = trader.ask("POST", "trade/order", order(px=trader.price(ticks=-2000)))[1]
    answer["data"][0].pop("subCode")
    assert types(answer) == types(expected)
    assert answer["data"][0]["sMsg"] == expected["data"][0]["sMsg"]


def test_a_refusal_by_rest_is_answered_as_recorded(trader, recorded):
    expected = recorded("rest_trade_order__reject_51000_posSide")
    answer = trader.ask("POST", "trade/order", order(posSide="long", px="84000"))
    row = answer[1]["data"][0]
    assert answer[0] == 200
    assert (answer[1]["code"], answer[1]["msg"]) == (expected["code"], expected["msg"])
    assert (row["sCode"], row["sMsg"]) == ("51000", expected["data"][0]["sMsg"])


def test_batches_by_rest_say_how_many_succeeded(trader):
    good, bad = order(px=trader.price(ticks=-2000)), order(px="1", side="sell")
    answers = [trader.ask("POST", "trade/batch-orders", batch)[1] for batch in ([good], [good, bad], [bad])]
    assert [(answer["code"], answer["msg"]) for answer in answers] == [
        ("0", ""),
        ("2", "Bulk operation partially succeeded."),
        ("1", "All operations failed"),
    ]
    ids = [row["ordId"] for answer in answers for row in answer["data"] if row["ordId"]]
    amends = [{"instId": SWAP, "ordId": one, "newSz": "2"} for one in ids]
    assert trader.ask("POST", "trade/amend-batch-orders", amends)[1]["code"] == "0"
    pending = trader.ask("GET", "trade/orders-pending", instType="SWAP")[1]["data"]
    assert [(row["ordId"], row["sz"]) for row in pending] == [(one, "2") for one in ids[::-1]]
    cancels = [{"instId": SWAP, "ordId": one} for one in ids]
    assert trader.ask("POST", "trade/cancel-batch-orders", cancels)[1]["code"] == "0"
    assert trader.ask("GET", "trade/orders-pending")[1]["data"] == []


def test_queries_page_by_id_newest_first(trader):
    ids = [
        trader.ask("POST", "trade/order", order(px=trader.price(ticks=-2000)))[1]["data"][0]["ordId"]
        for _ in range(5)
    ]

    def pending(**query):
        answer = trader.ask("GET", "trade/orders-pending", **query)[1]
        return [row["ordId"] for row in answer["data"]]

    assert pending() == ids[::-1]
    assert pending(after=ids[2]) == [ids[1], ids[0]]
    assert pending(before=ids[2]) == [ids[4], ids[3]]
    assert pending(limit="2") == [ids[4], ids[3]]
    assert pending(instType="FUTURES") == []
    assert pending(ordType="post_only,limit") == ids[::-1]
    assert trader.ask("GET", "trade/orders-pending", after="x")[1]["code"] == "51000"


def test_the_lists_of_algo_orders_are_empty_and_want_to_know_which(trader):
    for path in ("trade/orders-algo-pending", "trade/orders-algo-history"):
        assert trader.ask("GET", path)[1]["code"] == "50014"
        assert trader.ask("GET", path, ordType="trigger")[1] == {"code": "0", "data": [], "msg": ""}
    assert trader.ask("GET", "trade/orders-history")[1]["code"] == "50014"


@pytest.mark.parametrize(
    ("fixture", "path", "query", "extra"),
    [
        ("rest_trade_order_get__filled", "trade/order", {"instId": SPOT, "clOrdId": "s1"}, set()),
        ("rest_trade_orders_history", "trade/orders-history", {"instType": "SPOT"}, set()),
        ("rest_trade_fills", "trade/fills", {"instType": "SPOT"}, set()),
        ("rest_account_balance_spot_mode_demo_2026-09", "account/balance", {}, set()),
        ("rest_account_positions_doc", "account/positions", {}, set()),
        ("rest_account_positions_history", "account/positions-history", {}, set()),
        ("rest_account_config", "account/config", {}, set()),
        ("rest_account_bills", "account/bills", {}, set()),
        ("rest_account_leverage_info", "account/leverage-info", {"instId": SWAP, "mgnMode": "cross"}, set()),
        ("rest_account_max_size", "account/max-size", {"instId": SPOT, "tdMode": "cash"}, set()),
        ("rest_account_trade_fee_spot", "account/trade-fee", {"instType": "SPOT"}, set()),
        ("rest_trade_account_rate_limit", "trade/account-rate-limit", {}, set()),
        ("rest_trade_orders_pending_empty", "trade/orders-pending", {}, set()),
    ],
)
def test_answers_have_the_keys_and_types_of_the_recorded_ones(trader, recorded, fixture, path, query, extra):
    trader.place(SPOT, ordType="market", sz="100", clOrdId="s1")
    trader.place(SWAP, ordType="market", sz="2")
    trader.place(SWAP, ordType="market", side="sell", sz="2")
    trader.place(FUTURE, ordType="market", sz="2")
    status, answer = trader.ask("GET", path, **query)
    expected = recorded(fixture)
    if "details" in str(expected):
        assert answer["data"][0]["details"][0].keys() == expected["data"][0]["details"][0].keys()
        del answer["data"][0]["details"], expected["data"][0]["details"]
    assert status == 200
    assert types(answer) == types(expected)


def test_a_query_by_client_id_finds_the_newest_order_of_that_name(trader):
    first = trader.place(px=trader.price(ticks=-2000), clOrdId="same")[0]["data"][0]["ordId"]
    trader.op("cancel-order", {"instIdCode": trader.code(SWAP), "clOrdId": "same"})
    second = trader.place(px=trader.price(ticks=-2000), clOrdId="same")[0]["data"][0]["ordId"]
    assert (
        trader.ask("GET", "trade/order", instId=SWAP, clOrdId="same")[1]["data"][0]["ordId"]
        == second
        != first
    )
    assert trader.ask("GET", "trade/order", instId=SWAP, clOrdId="other")[1]["code"] == "51603"
    assert trader.ask("GET", "trade/order", instId=FUTURE, ordId=second)[1]["code"] == "51603"
    assert trader.ask("GET", "trade/order", instId="BTC-USD-200101", ordId=second)[1]["code"] == "51001"
    assert trader.ask("GET", "trade/order", instId=SWAP)[1]["code"] == "51003"


def test_a_cancelled_order_without_a_fill_is_forgotten_after_two_hours(trader):
    ord_id = trader.place(px=trader.price(ticks=-2000))[0]["data"][0]["ordId"]
    trader.place(ordType="market")
    trader.op("cancel-order", {"instIdCode": trader.code(SWAP), "ordId": ord_id})
    trader.bench.pass_time(2 * HOUR_MS - 1_000)
    assert trader.ask("GET", "trade/order", instId=SWAP, ordId=ord_id)[1]["code"] == "0"
    assert len(trader.ask("GET", "trade/orders-history", instType="SWAP")[1]["data"]) == 2
    trader.bench.pass_time(1_000)
    assert trader.ask("GET", "trade/order", instId=SWAP, ordId=ord_id)[1]["code"] == "51603"
    (row,) = trader.ask("GET", "trade/orders-history", instType="SWAP")[1]["data"]
    assert row["state"] == "filled"


def test_a_position_is_closed_at_market_with_or_without_its_closing_orders(trader):
    body = {"instId": SWAP, "mgnMode": "cross"}
    assert trader.ask("POST", "trade/close-position", body)[1]["code"] == "51023"
    trader.place(ordType="market", sz="2")
    trader.place(side="sell", px=trader.price(side="ask", ticks=50), sz="1", reduceOnly=True)
    status, answer = trader.ask("POST", "trade/close-position", body)
    assert (status, answer["code"]) == (429, "51115")
    answer = trader.ask("POST", "trade/close-position", body | {"autoCxl": True})[1]
    assert answer["data"] == [{"clOrdId": "", "instId": SWAP, "posSide": "net", "tag": ""}]
    assert trader.ask("GET", "account/positions")[1]["data"] == []
    assert trader.ask("GET", "trade/orders-pending")[1]["data"] == []
    assert trader.ask("POST", "trade/close-position", body | {"mgnMode": "isolated"})[1]["code"] == "51023"
    assert trader.ask("POST", "trade/close-position", body | {"mgnMode": "cash"})[1]["code"] == "51000"


# The dead-man switch


def test_orders_end_when_nobody_winds_the_dead_man_switch(trader):
    trader.listen({"channel": "orders", "instType": "ANY"})
    trader.place(px=trader.price(ticks=-2000))
    trader.place(FUTURE, px=trader.price(FUTURE, ticks=-2000))
    now_ms = trader.bench.now_ns // 1_000_000
    row = trader.ask("POST", "trade/cancel-all-after", {"timeOut": "10"})[1]["data"][0]
    assert row == {"triggerTime": str(now_ms + 10_000), "tag": "", "ts": str(now_ms)}
    trader.bench.pass_time(9_000)
    trader.ask("POST", "trade/cancel-all-after", {"timeOut": "10"})
    trader.frames()
    trader.bench.pass_time(9_000)
    assert len(trader.ask("GET", "trade/orders-pending")[1]["data"]) == 2
    trader.bench.pass_time(1_000)
    trader.bench.pass_time(5_000)
    states = trader.order_states(trader.frames())
    assert states == [("canceled", "20", "0")] * 2


def test_a_tagged_switch_ends_the_orders_of_its_tag(trader):
    trader.place(px=trader.price(ticks=-2000), tag="mine", clOrdId="m")
    trader.place(px=trader.price(ticks=-2000), tag="yours", clOrdId="y")
    trader.ask("POST", "trade/cancel-all-after", {"timeOut": "10", "tag": "mine"})
    trader.bench.pass_time(11_000)
    trader.bench.pass_time(5_000)
    assert [row["clOrdId"] for row in trader.ask("GET", "trade/orders-pending")[1]["data"]] == ["y"]


def test_the_switch_takes_ten_seconds_to_two_minutes_and_twenty_tags(trader):
    def wind(**body):
        trader.bench.real_ns += 1_001_000_000
        trader.bench.venue.real_ns = trader.bench.real_ns
        return trader.ask("POST", "trade/cancel-all-after", body)[1]

    for text in ("9", "121", "-1", "x", "1e1", "٣٠"):
        assert wind(timeOut=text)["code"] == "51000"
    assert wind()["code"] == "50014"
    assert wind(timeOut="0")["data"][0]["triggerTime"] == "0"
    for number in range(20):
        assert wind(timeOut="120", tag=f"t{number}")["code"] == "0"
    assert wind(timeOut="120", tag="t20")["code"] == "51071"
    wind(timeOut="0", tag="t0")
    assert wind(timeOut="120", tag="t20")["code"] == "0"


# Settings


def test_leverage_of_futures_is_shared_and_bounded(trader):
    body = {"instId": FUTURE, "lever": "5", "mgnMode": "cross"}
    answer = trader.ask("POST", "account/set-leverage", body)[1]
    assert answer["data"] == [{"instId": FUTURE, "lever": "5", "mgnMode": "cross", "posSide": ""}]
    for inst_id, lever in ((FUTURE, "5"), ("BTC-USD-261204", "5"), (SWAP, "10")):
        row = trader.ask("GET", "account/leverage-info", instId=inst_id, mgnMode="cross")[1]["data"][0]
        assert (row["posSide"], row["lever"]) == ("net", lever)
    for change, code in (
        ({"lever": "21"}, "59102"),
        ({"lever": "0"}, "59105"),
        ({"lever": "x"}, "51000"),
        ({"mgnMode": "cash"}, "51000"),
        ({"posSide": "long"}, "51000"),
        ({"instId": SPOT}, "51000"),
        ({"instId": ""}, "50015"),
    ):
        assert trader.ask("POST", "account/set-leverage", body | change)[1]["code"] == code
    # 10 contracts at 5 times: 1000 USD / 5 of margin.
    trader.place(FUTURE, ordType="market", sz="10")
    row = trader.ask("GET", "account/positions")[1]["data"][0]
    assert abs(Decimal(row["imr"]) * Decimal(row["markPx"]) - 200) < Decimal("0.5")


def test_what_can_be_bought_is_what_the_margin_allows(trader):
    price = trader.price(ticks=-2000)
    row = trader.ask("GET", "account/max-size", instId=SWAP, tdMode="cross", px=price)[1]["data"][0]
    answer = trader.place(px=price, sz=row["maxBuy"])[0]
    assert answer["code"] == "0"
    assert trader.place(px=price, sz="10")[0]["data"][0]["sCode"] == "51008"
    row = trader.ask("GET", "account/max-avail-size", instId=SPOT, tdMode="cash")[1]["data"][0]
    assert row == {"instId": SPOT, "availBuy": "500000", "availSell": row["availSell"]}


# What time brings


def test_funding_of_the_swap_is_paid_and_told(trader_at):
    trader = trader_at(2026, 11, 22, 7, 59)
    trader.place(ordType="market", sz="100")
    trader.listen({"channel": "balance_and_position"})
    before = Decimal(trader.ask("GET", "account/balance", ccy="BTC")[1]["data"][0]["details"][0]["cashBal"])
    trader.bench.run(61_000, 1_000)
    kinds = [frame["data"][0]["eventType"] for frame in trader.frames()]
    assert "funding_fee" in kinds
    bill = trader.ask("GET", "account/bills", type="8")[1]["data"][0]
    after = Decimal(trader.ask("GET", "account/balance", ccy="BTC")[1]["data"][0]["details"][0]["cashBal"])
    assert after - before == Decimal(bill["balChg"])
    assert bill["subType"] == ("174" if after > before else "173")
    row = trader.ask("GET", "account/positions")[1]["data"][0]
    assert Decimal(row["fundingFee"]) == Decimal(bill["balChg"])


def test_daily_settlement_pays_the_profit_and_moves_the_entry(trader_at):
    trader = trader_at(2026, 11, 23, 7, 59)
    trader.place(FUTURE, ordType="market", sz="100")
    entry = trader.ask("GET", "account/positions")[1]["data"][0]["avgPx"]
    trader.listen({"channel": "balance_and_position"})
    trader.bench.run(62_000, 1_000)
    assert "settlement" in [frame["data"][0]["eventType"] for frame in trader.frames()]
    row = trader.ask("GET", "account/positions")[1]["data"][0]
    assert row["nonSettleAvgPx"] == entry != row["avgPx"]
    # 100 contracts of 100 USD: long PnL is 10000 / entry - 10000 / settlement price.
    expected = 10_000 / Decimal(entry) - 10_000 / Decimal(row["avgPx"])
    assert abs(Decimal(row["settledPnl"]) - expected) < Decimal("1e-11")
    (settled,) = trader.bench.get("public/settlement-history", instFamily="BTC-USD")[1]["data"]
    prices = {item["instId"]: item["settlePx"] for item in settled["details"]}
    assert Decimal(prices[FUTURE]) == round(Decimal(row["avgPx"]), 4)


def test_delivery_cancels_orders_closes_positions_and_ends_the_contract(trader_at):
    trader = trader_at(2026, 11, 27, 7, 59, 58)
    trader.place(FUTURE, ordType="market", sz="10")
    trader.place(FUTURE, px=trader.price(FUTURE, ticks=-2000), sz="1", clOrdId="open")
    entry = Decimal(trader.ask("GET", "account/positions")[1]["data"][0]["nonSettleAvgPx"])
    trader.listen(
        {"channel": "orders", "instType": "FUTURES"},
        {"channel": "positions", "instType": "ANY"},
        {"channel": "balance_and_position"},
    )
    watcher = trader.bench.connect("public")
    trader.bench.subscribe(watcher, {"channel": "instruments", "instType": "FUTURES"})
    trader.bench.run(3_000)
    frames = trader.frames()
    rows = [row for frame in frames if frame["arg"]["channel"] == "orders" for row in frame["data"]]
    assert [(row["clOrdId"], row["state"], row["cancelSource"]) for row in rows if row["clOrdId"]] == [
        ("open", "canceled", "7")
    ]
    both = [f["data"][0] for f in frames if f["arg"]["channel"] == "balance_and_position"]
    assert [row["eventType"] for row in both] == ["delivered"]
    (order_row,) = [row for row in rows if not row["clOrdId"]]
    assert (order_row["category"], order_row["state"], order_row["side"]) == ("delivery", "filled", "sell")
    assert (order_row["lever"], order_row["ordType"], order_row["tdMode"]) == ("10", "market", "cross")
    assert (order_row["sz"], order_row["accFillSz"], order_row["fillSz"]) == ("10", "10", "10")
    positions = [f["data"][0] for f in frames if f["arg"]["channel"] == "positions" and f["data"]]
    assert positions[-1]["pos"] == "0"
    states = [json.loads(text) for text in watcher.texts_to_send()]
    assert "expired" in [row["state"] for frame in states if "data" in frame for row in frame["data"]]
    history = trader.bench.get("public/delivery-exercise-history", instType="FUTURES", instFamily="BTC-USD")[
        1
    ]
    price = Decimal(history["data"][0]["details"][0]["px"])
    fill = next(
        row
        for row in trader.ask("GET", "trade/fills", instType="FUTURES")[1]["data"]
        if row["subType"] == "112"
    )
    expected = 1_000 / entry - 1_000 / price
    assert abs(Decimal(fill["fillPnl"]) - expected) < Decimal("1e-13")
    # The order is found like any other, its price is the delivery price, its trade is its own everywhere.
    (found,) = trader.ask("GET", "trade/orders-history", instType="FUTURES", category="delivery")[1]["data"]
    assert (found["ordId"], fill["ordId"]) == (order_row["ordId"], order_row["ordId"])
    assert Decimal(found["avgPx"]) == Decimal(order_row["fillPx"]) == Decimal(fill["fillPx"]) == price
    assert (found["pnl"], found["fee"]) == (fill["fillPnl"], fill["fee"])
    assert both[0]["trades"] == [{"instId": FUTURE, "tradeId": fill["tradeId"]}]
    (bill,) = [one for one in trader.ask("GET", "account/bills")[1]["data"] if one["subType"] == "112"]
    assert (bill["ordId"], bill["tradeId"], bill["px"]) == (fill["ordId"], fill["tradeId"], fill["fillPx"])
    assert Decimal(bill["balChg"]) == Decimal(fill["fillPnl"]) + Decimal(fill["fee"])
    assert Decimal(fill["tradeId"]) < 0
    assert (
        trader.ask("POST", "trade/order", order(instId=FUTURE, px="84000"))[1]["data"][0]["sCode"] == "51027"
    )


def test_what_friday_brings_in_one_instant_is_told_by_its_own_names(trader_at):
    trader = trader_at(2026, 11, 27, 7, 59, 58)
    for inst_id in (FUTURE, "BTC-USD-261204", "BTC-USD-SWAP"):
        trader.place(inst_id, ordType="market", sz="10")
    trader.listen({"channel": "balance_and_position"})
    trader.bench.run(3_000)
    rows = [row for frame in trader.frames() for row in frame["data"]]
    told = [(row["eventType"], *(item["instId"] for item in row["posData"])) for row in rows]
    assert sorted(told) == [
        ("delivered", FUTURE),
        ("funding_fee", "BTC-USD-SWAP"),
        ("settlement", "BTC-USD-261204"),
    ]


def test_too_many_requests_come_as_429_or_200(trader_at):
    for status in (429, 200):
        trader = trader_at(2026, 11, 22, options=OkexOptions(limit_status=status))
        answers = [trader.ask("GET", "account/config") for _ in range(6)]
        assert [answer[0] for answer in answers] == [200] * 5 + [status]
        assert answers[-1][1]["code"] == "50011"


def test_an_account_places_a_thousand_orders_in_two_seconds_and_no_more(trader):
    limiter = trader.bench.venue.desk.limiter
    assert not limiter.is_too_many_orders("main", 0, 999)
    assert trader.place(px=trader.price(ticks=-2000))[0]["code"] == "0"
    answer = trader.place(px=trader.price(ticks=-2000))[0]
    assert (answer["code"], answer["data"]) == ("50061", [])
    # Spot is not counted, and not held up; by whichever door.
    spot = order(instId=SPOT, tdMode="cash", px="83900", sz="0.01")
    assert trader.ask("POST", "trade/order", spot)[1]["code"] == "0"
    assert trader.place(SPOT, px="83900", sz="0.01")[0]["code"] == "0"


def test_orders_of_one_instrument_count_together_by_rest_and_by_websocket(trader):
    most, _seconds = LIMITS["trade/order"]
    by_rest = order(px=trader.price(ticks=-2000))
    assert {trader.ask("POST", "trade/order", by_rest)[1]["code"] for _ in range(most)} == {"0"}
    assert trader.place(px=trader.price(ticks=-2000))[0]["code"] == "50011"
    assert trader.place(FUTURE, px=trader.price(FUTURE, ticks=-2000))[0]["code"] == "0"


def test_a_fault_lets_a_dead_man_switch_take_its_time(trader):
    trader.bench.venue.faults.inject("slow_switch", {"delay_ms": 400}, trader.bench.real_ns)
    for number in range(3):
        trader.place(px=trader.price(ticks=-2000), clOrdId=f"n{number}")
    trader.ask("POST", "trade/cancel-all-after", {"timeOut": "10"})
    trader.bench.run(10_100)
    left = []
    for _ in range(3):
        left.append(len(trader.ask("GET", "trade/orders-pending")[1]["data"]))
        trader.bench.run(400)
    assert left == [2, 1, 0]


def test_a_fill_carries_the_tag_of_its_order(trader):
    trader.place(ordType="market", tag="mine")
    assert {row["tag"] for row in trader.ask("GET", "trade/fills")[1]["data"]} == {"mine"}


def test_a_dead_man_switch_can_take_its_time(trader_at):
    trader = trader_at(2026, 11, 22, options=OkexOptions(trade=TradeOptions(cancel_gap_ms=500)))
    for _ in range(4):
        trader.place(px=trader.price(ticks=-2000), tag="t")
    trader.place(px=trader.price(ticks=-2000))
    trader.listen({"channel": "orders", "instType": "ANY"})
    trader.ask("POST", "trade/cancel-all-after", {"timeOut": "10", "tag": "t"})
    trader.bench.idle(9_990)
    counts = []
    for _ in range(5):
        trader.bench.idle(500)
        counts.append(trader.order_states(trader.frames()))
    assert counts == [*[[("canceled", "20", "0")]] * 4, []]
    trader.ask("POST", "trade/cancel-all-after", {"timeOut": "10", "tag": "t"})
    assert len(trader.ask("GET", "trade/orders-pending")[1]["data"]) == 1


def test_public_limits_count_by_address_and_what_is_asked(okex):
    def status(remote, inst_type="SWAP"):
        asked = RestRequest("GET", "/api/v5/public/instruments", {"instType": inst_type}, remote=remote)
        return okex.venue.answer(asked, okex.now_ns).status

    assert [status("10.0.0.1") for _ in range(21)] == [200] * 20 + [429]
    assert status("10.0.0.1", "FUTURES") == 200
    assert status("10.0.0.2") == 200
    okex.pass_time(2_000)
    assert status("10.0.0.1") == 200
