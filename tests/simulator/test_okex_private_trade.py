"""Operations on the private websocket of the simulated OKX: requests and their answers, as the guide has."""

import json
from decimal import Decimal

import pytest

from dquant.simulator.exchange_faults import OrderFault
from dquant.simulator.okex_server import OkexOptions
from dquant.simulator.okex_trade import TradeOptions
from dquant.simulator.orders import ASK

SWAP = "BTC-USD-SWAP"
FUTURE = "BTC-USD-261127"
SPOT = "BTC-USDT"


def refusal(frames):
    """Return (code, sCode, sMsg) of an operation's answer."""
    row = frames[0]["data"][0]
    return frames[0]["code"], row["sCode"], row["sMsg"]


def test_an_order_is_answered_with_its_ids_and_both_times(trader):
    answer = trader.place(px=trader.price(ticks=-2000), clOrdId="b1c2d3", tag="t1")[0]
    now_us = str(trader.bench.now_ns // 1_000)
    assert answer == {
        "id": "a1",
        "op": "order",
        "data": [
            {
                "clOrdId": "b1c2d3",
                "ordId": answer["data"][0]["ordId"],
                "tag": "t1",
                "ts": now_us[:-3],
                "sCode": "0",
                "sMsg": "Order placed",
                "subCode": "",
            }
        ],
        "code": "0",
        "msg": "",
        "inTime": now_us,
        "outTime": str(int(now_us) + 900),
    }
    assert len(answer["data"][0]["ordId"]) == 19


@pytest.mark.parametrize(
    ("fixture", "operation"),
    [
        ("ws_op_batch_orders__all_ok", "batch-orders"),
        ("ws_op_amend_order__ok", "amend-order"),
        ("ws_op_batch_amend__all_ok", "batch-amend-orders"),
        ("ws_op_cancel_order__ok", "cancel-order"),
        ("ws_op_batch_cancel__all_ok", "batch-cancel-orders"),
        ("ws_op_order__fail", "order"),
        ("ws_op_batch_orders__partial_code2", "batch-orders"),
        ("ws_op_batch_cancel__partial_code2", "batch-cancel-orders"),
        ("ws_op_batch_cancel__all_failed_code1", "batch-cancel-orders"),
    ],
)
def test_answers_have_the_keys_and_types_of_the_documented_ones(trader, recorded, fixture, operation):
    expected = recorded(fixture)
    price = trader.price(ticks=-2000)
    new = {
        "instIdCode": trader.code(SWAP),
        "tdMode": "cross",
        "side": "buy",
        "ordType": "limit",
        "sz": "1",
        "px": price,
    }
    ids = [trader.place(px=price)[0]["data"][0]["ordId"] for _ in range(2)]
    args = []
    for number, row in enumerate(expected["data"]):
        is_ok = row["sCode"] == "0"
        if operation.endswith(("orders", "order")) and "cancel" not in operation and "amend" not in operation:
            args.append(new if is_ok else new | {"sz": "900000000"})
        else:
            arg = {"instIdCode": trader.code(SWAP), "ordId": ids[number] if is_ok else "1"}
            args.append(arg | ({"newSz": "2", "reqId": "b12344"} if "amend" in operation else {}))
    answer = trader.op(operation, *args)[0]
    assert answer["code"] == expected["code"]
    assert answer.keys() == expected.keys() - {"subCode"}
    for row, like in zip(answer["data"], expected["data"], strict=True):
        # The docs print subCode in some answers to new orders and not in others.
        assert row.keys() - {"subCode"} == like.keys() - {"subCode"}
        assert all(isinstance(value, str) for value in row.values())
        assert (row["sCode"] == "0") == (like["sCode"] == "0")


def test_arguments_that_are_none_are_refused_as_documented(trader, recorded):
    expected = recorded("ws_op_order__format_error_60013")
    for args in (None, {}, "x", [], [1]):
        trader.connection.receive_text(json.dumps({"id": "1512", "op": "order", "args": args}), 0)
        (answer,) = trader.frames()
        assert answer == {**expected, "inTime": answer["inTime"], "outTime": answer["outTime"]}


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"instIdCode": None}, "50014", "Parameter instIdCode can not be empty."),
        ({"instIdCode": None, "instId": SWAP}, "50014", "Parameter instIdCode can not be empty."),
        ({"instIdCode": 1}, "51001", None),
        ({"instIdCode": "x"}, "51001", None),
        ({"tdMode": "cash"}, "51000", "Parameter tdMode  error "),
        ({"tdMode": None}, "50014", "Parameter tdMode can not be empty."),
        ({"side": "up"}, "51000", "Parameter side  error "),
        ({"posSide": "long"}, "51000", "Parameter posSide  error "),
        ({"ordType": "iceberg"}, "51000", "Parameter ordType  error "),
        ({"px": None}, "51000", "Parameter px  error "),
        ({"px": "84000.05"}, "51000", "Parameter px  error "),
        ({"px": "-1"}, "51000", "Parameter px  error "),
        ({"px": "1e3"}, "51000", "Parameter px  error "),
        ({"px": "1000"}, None, None),
        ({"px": "100000"}, "51006", None),
        ({"sz": "0"}, "51000", "Parameter sz  error "),
        ({"sz": "0.05"}, "51020", None),
        ({"sz": "0.15"}, "51121", None),
        ({"sz": "200000000"}, "51101", None),
        ({"ordType": "market", "sz": "50000"}, "51202", None),
        ({"sz": "1000000"}, "51008", "Order failed. Insufficient BTC margin in account"),
        ({"clOrdId": "with-hyphen"}, "51000", "Parameter clOrdId  error "),
        ({"clOrdId": "x" * 33}, "51000", "Parameter clOrdId  error "),
        ({"tag": "x" * 17}, "51000", "Parameter tag  error "),
        ({"reduceOnly": True}, "51169", None),
        ({"reduceOnly": "perhaps"}, "51000", "Parameter reduceOnly  error "),
        ({"ordType": "fok", "stpMode": "cancel_both"}, "54036", None),
        ({"stpMode": "none"}, "51000", "Parameter stpMode  error "),
        ({"attachAlgoOrds": [{"slTriggerPx": "1"}]}, "51000", None),
        ({"side": {}}, "51000", "Parameter side  error "),
    ],
)
def test_a_bad_order_is_refused_by_its_code(trader, change, code, words):
    frames = trader.place(**({"px": trader.price(ticks=-2000)} | change))
    if code is None:
        # A buy below the lowest sell price is allowed: it rests far away.
        assert frames[0]["code"] == "0"
        return
    top, s_code, message = refusal(frames)
    assert (top, s_code) == ("1", code)
    assert words in (None, message)


def test_a_price_outside_the_limit_names_both_limits_or_is_clamped(trader):
    row = trader.bench.get("public/price-limit", instId=SWAP)[1]["data"][0]
    _top, code, message = refusal(trader.place(px="100000"))
    assert code == "51006"
    assert message.endswith(f"(max buy price: {row['buyLmt']} , min sell price: {row['sellLmt']} )")
    far = {"side": "sell", "px": "70000", "sz": "0.1"}
    assert refusal(trader.place(**far))[1] == "51006"
    trader.listen({"channel": "orders", "instType": "ANY"})
    pushed = trader.place(**far, pxAmendType="1")[1]["data"][0]
    assert pushed["px"] == row["sellLmt"]


def test_a_client_order_id_is_unique_among_open_orders_only(trader):
    price = trader.price(ticks=-2000)
    trader.place(px=price, clOrdId="again")
    assert refusal(trader.place(px=price, clOrdId="again"))[1] == "51016"
    trader.op("cancel-order", {"instIdCode": trader.code(SWAP), "clOrdId": "again"})
    assert trader.place(px=price, clOrdId="again")[0]["code"] == "0"


def test_what_is_gone_can_neither_be_cancelled_nor_amended(trader):
    code = trader.code(SWAP)
    ord_id = trader.place(px=trader.price(ticks=-2000))[0]["data"][0]["ordId"]
    trader.op("cancel-order", {"instIdCode": code, "ordId": ord_id})
    assert refusal(trader.op("cancel-order", {"instIdCode": code, "ordId": ord_id}))[1] == "51400"
    assert (
        refusal(trader.op("amend-order", {"instIdCode": code, "ordId": ord_id, "newSz": "2"}))[1] == "51503"
    )
    assert refusal(trader.op("amend-order", {"instIdCode": code, "ordId": "7", "newSz": "2"}))[1] == "51603"
    assert refusal(trader.op("cancel-order", {"instIdCode": code, "clOrdId": "never"}))[1] == "51400"
    assert refusal(trader.op("cancel-order", {"instIdCode": code}))[1] == "51003"
    assert refusal(trader.op("amend-order", {"instIdCode": code, "ordId": ord_id}))[1] == "51500"


def test_an_order_of_another_instrument_is_not_found(trader):
    ord_id = trader.place(px=trader.price(ticks=-2000))[0]["data"][0]["ordId"]
    answer = trader.op("cancel-order", {"instIdCode": trader.code(FUTURE), "ordId": ord_id})
    assert refusal(answer)[1] == "51400"


def test_a_batch_takes_twenty_and_refuses_more_as_a_whole(trader):
    arg = {"instIdCode": trader.code(SWAP), "ordId": "1"}
    assert len(trader.op("batch-cancel-orders", *[arg] * 20)[0]["data"]) == 20
    answer = trader.op("batch-cancel-orders", *[arg] * 21)[0]
    assert (answer["code"], answer["data"]) == ("51111", [])
    amend = [{**arg, "ordId": str(number), "newSz": "1"} for number in range(21)]
    assert trader.op("batch-amend-orders", *amend)[0]["code"] == "51501"
    assert trader.op("batch-amend-orders", amend[0], amend[0])[0]["code"] == "51512"


def test_an_order_whose_time_is_over_is_not_executed(trader_at):
    trader = trader_at(2026, 11, 22, options=OkexOptions(trade=TradeOptions(processing_ms=20)))
    now_ms = trader.bench.now_ns // 1_000_000
    arg = {
        "instIdCode": trader.code(SWAP),
        "tdMode": "cross",
        "side": "buy",
        "ordType": "market",
        "sz": "1",
    }
    for ends_ms, code in ((now_ms - 1, "50036"), (now_ms + 10, "50037"), ("soon", "51000")):
        answer = trader.op("order", arg, expTime=str(ends_ms))[0]
        assert (answer["code"], answer["data"]) == (code, [])
    assert trader.op("order", arg, expTime=str(now_ms + 30))[0]["code"] == "0"
    assert len(trader.ask("GET", "trade/fills")[1]["data"]) == 1


def test_operations_need_the_private_url_a_login_and_an_id(okex, trader, frames):
    request = {"id": "1", "op": "order", "args": [{}]}
    public, private = okex.connect("public"), okex.connect("private")
    for connection, code in ((public, "60028"), (private, "60011")):
        connection.receive_text(json.dumps(request), 0)
        (frame,) = frames(connection)
        assert (frame["event"], frame["code"], frame["id"]) == ("error", code, "1")
    del request["id"]
    trader.connection.receive_text(json.dumps(request), 0)
    assert trader.frames()[0]["code"] == "60027"


def test_mass_cancel_is_for_option_market_makers(trader):
    answer = trader.op("mass-cancel", {"instType": "OPTION", "instFamily": "BTC-USD"})[0]
    assert (answer["op"], answer["code"], answer["data"]) == ("mass-cancel", "51411", [])


def test_demo_codes_name_the_same_instruments(trader):
    request = trader.signed(
        "GET", "public/instruments", None, {"instType": "SWAP", "instId": "BTC-USDT-SWAP"}
    )
    answer = trader.bench.venue.answer(request, trader.bench.now_ns)
    assert json.loads(answer.body)["data"][0]["instIdCode"] == 10459
    request = trader.signed(
        "GET",
        "public/instruments",
        None,
        {"instType": "SWAP", "instId": "BTC-USDT-SWAP"},
        **{"x-simulated-trading": "1"},
    )
    answer = trader.bench.venue.answer(request, trader.bench.now_ns)
    demo = json.loads(answer.body)["data"][0]["instIdCode"]
    assert demo == 2021032601102993  # as seen in the demo environment
    assert (
        trader.place("BTC-USDT-SWAP", instIdCode=demo, px=trader.price("BTC-USDT-SWAP", ticks=-9))[0]["code"]
        == "0"
    )


def test_more_orders_than_the_limit_of_an_instrument_are_refused_until_time_passes(trader):
    arg = {"instIdCode": trader.code(SWAP), "ordId": "1"}
    codes = [trader.op("cancel-order", arg)[0]["code"] for _ in range(61)]
    assert codes == ["1"] * 60 + ["50011"]
    # Placing and other instruments have buckets of their own.
    assert trader.place(px=trader.price(ticks=-2000))[0]["code"] == "0"
    assert trader.op("cancel-order", arg | {"instIdCode": trader.code(FUTURE)})[0]["code"] == "1"
    trader.bench.pass_time(2_001)
    assert trader.op("cancel-order", arg)[0]["code"] == "1"


def test_an_acknowledgement_can_be_lost_doubled_late_or_overtaken(trader):
    faults, price = trader.bench.venue.exchange.faults, trader.price(ticks=-2000)
    trader.listen({"channel": "orders", "instType": "ANY"})
    faults.add(OrderFault(kind="ack_lost"))
    assert [frame.get("op") for frame in trader.place(px=price, clOrdId="lost")] == [None]
    assert trader.ask("GET", "trade/order", instId=SWAP, clOrdId="lost")[1]["data"][0]["state"] == "live"
    faults.add(OrderFault(kind="ack_twice"))
    assert [frame.get("op") for frame in trader.place(px=price)] == ["order", "order", None]
    faults.add(OrderFault(kind="fill_first"))
    assert [frame.get("op") for frame in trader.place(px=price)] == [None, "order"]
    faults.add(OrderFault(kind="ack_late", delay_ns=50_000_000))
    assert [frame.get("op") for frame in trader.place(px=price)] == [None]
    trader.bench.run(40)
    assert trader.frames() == []
    trader.bench.run(20)
    assert [frame["op"] for frame in trader.frames()] == ["order"]


def test_a_spot_market_buy_counts_in_quote_and_sells_in_base(trader):
    trader.place(SPOT, ordType="market", side="buy", sz="1000")
    row = trader.ask("GET", "trade/orders-history", instType="SPOT")[1]["data"][0]
    assert (row["tgtCcy"], row["sz"], row["feeCcy"], row["state"]) == ("quote_ccy", "1000", "BTC", "filled")
    spent = Decimal(row["accFillSz"]) * Decimal(row["avgPx"])
    assert Decimal(999) < spent <= Decimal(1000)
    assert Decimal(row["fee"]) == -Decimal(row["accFillSz"]) * Decimal("0.001")
    trader.place(SPOT, ordType="market", side="sell", sz="0.001")
    row = trader.ask("GET", "trade/orders-history", instType="SPOT")[1]["data"][0]
    assert (row["tgtCcy"], row["sz"], row["accFillSz"], row["feeCcy"]) == (
        "base_ccy",
        "0.001",
        "0.001",
        "USDT",
    )
    assert refusal(trader.place(SPOT, tdMode="cross", px=trader.price(SPOT)))[1] == "51000"
    assert refusal(trader.place(SPOT, ordType="optimal_limit_ioc"))[1] == "51000"


def test_spot_mode_has_no_derivatives(trader_at):
    trader = trader_at(2026, 11, 22, options=OkexOptions(account_level="1"))
    assert refusal(trader.place(px=trader.price(ticks=-9)))[1] == "51010"
    assert trader.place(SPOT, px=trader.price(SPOT, ticks=-9))[0]["code"] == "0"


def test_public_prints_are_the_matches_that_private_fills_tell_of(trader):
    """Two orders of a client filled by one taker, then one that takes what many makers offer."""
    bench = trader.bench
    public = bench.connect("business")
    bench.subscribe(public, {"channel": "trades-all", "instId": SWAP})
    trader.listen({"channel": "orders", "instType": "ANY"})
    price = trader.price(side="ask", ticks=-1)
    frames = [frame for size in ("1", "9") for frame in trader.place(px=price, sz=size)]
    book = bench.venue.feeds[SWAP].market.book
    book.begin(bench.now_ns, 9)
    book.take(ASK, 100)
    frames += trader.place(ordType="market", sz="300")
    bench.run(20)
    frames += trader.frames()
    rows = [
        row for frame in frames if frame.get("arg", {}).get("channel") == "orders" for row in frame["data"]
    ]
    fills = {row["tradeId"]: row["fillSz"] for row in rows if row["tradeId"]}
    assert len(fills) > 2
    prints = {}
    for text in public.texts_to_send():
        for row in json.loads(text).get("data", ()):
            prints[row["tradeId"]] = row["sz"]
    assert {name: prints.get(name) for name in fills} == fills


def test_an_internal_error_is_said_of_an_order_too(trader):
    trader.bench.venue.faults.inject("error", {}, 0)
    answer = trader.place(px=trader.price(ticks=-2000))[0]
    assert (answer["code"], answer["data"]) == ("50026", [])


@pytest.mark.parametrize(("fault", "codes"), [("lost_answer", []), ("timeout", ["50004"])])
def test_what_is_lost_or_late_of_an_order_is_not_spent_on_a_subscription(trader, fault, codes):
    faults, channel = trader.bench.venue.faults, {"channel": "positions", "instType": "ANY"}
    faults.inject(fault, {}, 0)
    assert trader.listen(channel)[0]["event"] == "subscribe"
    frames = trader.place(px=trader.price(ticks=-2000))
    assert [frame["code"] for frame in frames if frame.get("op") == "order"] == codes
    assert len(trader.bench.venue.exchange.open_orders("main")) == 1
    faults.inject(fault, {"method": "WS"}, 0)
    assert trader.listen(channel)[0]["event"] == "error"
