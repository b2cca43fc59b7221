"""Orders at the simulated BitMEX by REST: golden answers of the fact sheet, its rules and refusals."""

import json
import re
from urllib.parse import quote, urlencode

import pytest

from dquant.simulator.bitmex_private_types import ORDER_TYPES
from dquant.simulator.exchange import TradingMode
from dquant.simulator.exchange_faults import OrderFault
from dquant.simulator.rest_faults import answer_with_faults
from dquant.simulator.venue import RestRequest

ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def plain(row):
    """Take off a row what differs every time, having looked at its form."""
    row = dict(row)
    assert GUID.fullmatch(row.pop("orderID"))
    assert ISO.fullmatch(row.pop("timestamp"))
    assert ISO.fullmatch(row.pop("transactTime"))
    return row


RESTING = {
    "account": 100_001,
    "clOrdID": "mine",
    "cumQty": 0,
    "currency": "USD",
    "leavesQty": 200,
    "ordStatus": "New",
    "ordType": "Limit",
    "orderQty": 200,
    "pool": "Aggregated",
    "price": 80_000.5,
    "settlCurrency": "XBt",
    "side": "Buy",
    "strategy": "OneWay",
    "symbol": "XBTUSD",
    "text": "Submitted via API.",
    "timeInForce": "GoodTillCancel",
    "workingIndicator": True,
}


def test_an_order_rests_is_amended_and_cancelled_with_the_recorded_answers(bitmex):
    """Section 5.3: the shapes of November 2025, with what XBTUSD and 2026 add."""
    placed = bitmex.place(orderQty=200, price=80_000.5, clOrdID="mine")
    assert plain(placed) == RESTING
    assert list(placed) == sorted(placed, key=str)
    status, amended = bitmex.ask(
        "PUT", "/order", {"orderID": placed["orderID"], "orderQty": 300, "price": 79_999}
    )
    assert (status, amended["orderID"]) == (200, placed["orderID"])
    text = "Amended orderQty price\nSubmitted via API."
    assert plain(amended) == RESTING | {"orderQty": 300, "leavesQty": 300, "price": 79_999.0, "text": text}
    status, rows = bitmex.ask("DELETE", "/order", {"orderID": placed["orderID"]})
    gone = {
        "orderQty": 300,
        "price": 79_999.0,
        "leavesQty": 0,
        "ordStatus": "Canceled",
        "workingIndicator": False,
    }
    assert (status, len(rows)) == (200, 1)
    assert plain(rows[0]) == RESTING | gone | {"text": "Canceled\nCanceled via API."}


def test_a_cancel_that_fails_is_a_200_with_an_error_in_its_row(bitmex):
    """Section 5.2: recorded 2025-12-09."""
    done = bitmex.place(orderQty=100, clOrdID="done")
    unknown = "e119ebc6-c1c9-4108-88e0-c819bb688646"
    status, rows = bitmex.ask("DELETE", "/order", {"orderID": [done["orderID"], unknown]})
    assert status == 200
    assert [row["orderID"] for row in rows] == [done["orderID"], unknown]
    for row in rows:
        assert row["error"] == "Unable to cancel order"
        assert row.keys() == {
            *("account", "error", "orderID", "timestamp", "transactTime", "workingIndicator")
        }
    status, rows = bitmex.ask("DELETE", "/order", query="clOrdID=nobody")
    assert (status, rows[0]["clOrdID"], rows[0]["error"]) == (200, "nobody", "Unable to cancel order")


def test_a_market_order_says_so_with_what_was_left_out(bitmex):
    _bid, ask = bitmex.best()
    row = bitmex.place(orderQty=100)
    assert (row["ordType"], row["timeInForce"], row["ordStatus"]) == ("Market", "ImmediateOrCancel", "Filled")
    assert (row["avgPx"], row["cumQty"], row["leavesQty"], row["side"]) == (ask, 100, 0, "Buy")
    assert "price" not in row


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"orderQty": -100}, {"side": "Sell", "ordType": "Market", "orderQty": 100}),
        ({"orderQty": "100", "price": "80000"}, {"side": "Buy", "ordType": "Limit", "price": 80_000.0}),
        ({"orderQty": -100, "side": "Sell", "price": 90_000}, {"side": "Sell", "orderQty": 100}),
        ({"orderQty": 100, "price": "79999.90000000001"}, {"price": 79_999.9}),  # a double's noise
        ({"orderQty": 100, "price": 80_000, "timeInForce": "Day"}, {"timeInForce": "Day"}),
        ({"orderQty": 100, "price": 80_000, "text": "note"}, {"text": "note"}),
        (
            {"orderQty": 100, "stopPx": 90_000, "ordType": "Stop"},
            {"workingIndicator": False, "ordStatus": "New"},
        ),
        (
            {"orderQty": 100, "pegPriceType": "PrimaryPeg", "pegOffsetValue": -5, "execInst": "Fixed"},
            {"ordType": "Pegged", "pegOffsetValue": -5.0},
        ),
        ({"orderQty": 100, "price": 80_000, "displayQty": 0}, {"displayQty": 0}),
        ({"orderQty": 100, "price": 80_000, "side": None, "execInst": ""}, {"side": "Buy"}),
    ],
)
def test_what_is_left_out_has_the_documented_default(bitmex, fields, expected):
    row = bitmex.place(**fields)
    assert {name: row[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"symbol": None, "orderQty": 100}, "'symbol' is a required arg."),
        ({"symbol": "NOPE", "orderQty": 100}, "Invalid symbol"),
        ({}, "Invalid orderQty"),
        ({"orderQty": 0}, "Invalid orderQty"),
        ({"orderQty": 150}, "Invalid orderQty"),
        ({"orderQty": 100.5}, "Invalid orderQty"),
        ({"orderQty": "many"}, "Invalid orderQty"),
        ({"orderQty": True}, "Invalid orderQty"),
        ({"orderQty": [100]}, "Invalid orderQty"),
        ({"orderQty": 10_000_100}, "Invalid orderQty"),
        ({"orderQty": -100, "side": "Buy"}, "Invalid orderQty"),
        ({"orderQty": 100, "side": "buy"}, "Invalid side"),
        ({"orderQty": 100, "price": 80_000.05}, "Invalid price tickSize"),
        ({"orderQty": 100, "price": 80_000.00001}, "Invalid price tickSize"),
        ({"orderQty": 100, "price": 1e-9}, "Invalid price tickSize"),
        ({"orderQty": 100, "price": -1}, "Invalid price"),
        ({"orderQty": 100, "price": 1_000_001}, "Invalid price"),
        ({"orderQty": 100, "price": "NaN"}, "Invalid price"),
        ({"orderQty": 100, "ordType": "Limit"}, "Invalid price"),
        ({"orderQty": 100, "ordType": "Bracket"}, "Invalid ordType"),
        ({"orderQty": 100, "ordType": "Stop"}, "Invalid stopPx for ordType"),
        ({"orderQty": 100, "price": 80_000, "stopPx": 81_000}, "Invalid stopPx for ordType"),
        ({"orderQty": 100, "ordType": "Stop", "stopPx": 81_000.01}, "Invalid stopPx tickSize"),
        ({"orderQty": 100, "price": 80_000, "timeInForce": "IOC"}, "Invalid timeInForce"),
        ({"orderQty": 100, "price": 80_000, "execInst": "AllOrNone"}, "Invalid execInst"),
        ({"orderQty": 100, "price": 80_000, "execInst": "MarkPrice,LastPrice"}, "Invalid execInst"),
        ({"orderQty": 100, "price": 80_000, "clOrdID": "x" * 37}, "Invalid clOrdID"),
        ({"orderQty": 100, "pegPriceType": "TrailingStopPeg"}, "Invalid pegOffsetValue"),
        (
            {"orderQty": 100, "pegPriceType": "TrailingStopPeg", "pegOffsetValue": 0.05},
            "Invalid pegOffsetValue tickSize",
        ),
        (
            {"orderQty": 100, "pegPriceType": "TrailingStopPeg", "pegOffsetValue": -90_000},
            "Invalid pegOffsetValue",
        ),
        ({"orderQty": 100, "pegPriceType": "Peg"}, "Invalid pegPriceType"),
        (
            {"orderQty": 100, "side": "Buy", "execInst": "ReduceOnly"},
            "Order had execInst of [ReduceOnly] and side of [Buy] but current position is [0]",
        ),
    ],
)
def test_what_breaks_a_rule_is_a_400_in_the_venues_words(bitmex, fields, message):
    assert bitmex.refused("POST", "/order", {"symbol": "XBTUSD", **fields}) == message
    assert bitmex.ask("GET", "/order") == (200, [])


def test_a_balance_that_does_not_suffice_is_a_coded_error(bitmex):
    """Section 5.6: recorded in December 2024."""
    bitmex.ask("POST", "/position/riskLimit", {"symbol": "XBTUSD", "riskLimit": 10**12})
    status, body = bitmex.ask("POST", "/order", {"symbol": "XBTUSD", "orderQty": 10_000_000, "price": 1000})
    assert status == 400
    # 1e7 / 1000 = 10,000 XBT; times (1 % + 2 * 0.05 %)
    words = "Account has insufficient Available Balance, 11000000000 XBt required"
    assert body == {"error": {"message": words, "name": "CodedHTTPError", "details": "19000"}}


def test_a_position_may_not_outgrow_its_risk_limit(bitmex):
    # 1e7 / 45,000 = 222 XBT, the limit is 200
    words = "Value of position and orders exceeds position Risk Limit"
    assert (
        bitmex.refused("POST", "/order", {"symbol": "XBTUSD", "orderQty": 10_000_000, "price": 45_000})
        == words
    )


def test_an_id_is_unique_among_open_orders_and_free_again_afterwards(bitmex):
    row = bitmex.place(orderQty=100, price=80_000, clOrdID="a")
    asked = {"symbol": "XBTUSD", "orderQty": 100, "price": 79_000, "clOrdID": "a"}
    assert bitmex.refused("POST", "/order", asked) == "Duplicate clOrdID"
    bitmex.ask("DELETE", "/order", {"clOrdID": "a"})
    assert bitmex.place(**asked)["orderID"] != row["orderID"]


def test_a_post_only_order_that_would_cross_is_a_200_and_cancelled(bitmex):
    row = bitmex.place(orderQty=100, price=90_000, execInst="ParticipateDoNotInitiate")
    assert (row["ordStatus"], row["leavesQty"], row["workingIndicator"]) == ("Canceled", 0, False)
    assert row["text"].startswith("Canceled: Order had execInst of ParticipateDoNotInitiate")


def test_immediate_or_cancel_and_fill_or_kill_end_at_once(bitmex):
    bid, _ask = bitmex.best()
    for name in ("ImmediateOrCancel", "FillOrKill"):
        row = bitmex.place(orderQty=100, price=bid - 100, timeInForce=name)
        assert (row["ordStatus"], row["cumQty"]) == ("Canceled", 0)
        assert row["text"] == f"Canceled: Order had timeInForce of {name}\nSubmitted via API."
    row = bitmex.place(orderQty=2_000_000, price=bid + 3, timeInForce="ImmediateOrCancel")
    assert row["ordStatus"] == "Canceled"
    assert 0 < row["cumQty"] < 2_000_000
    row = bitmex.place(orderQty=1_900_000, price=bid + 3, timeInForce="FillOrKill")
    assert (row["ordStatus"], row["cumQty"]) == ("Canceled", 0)


def test_close_takes_the_whole_position_and_other_closing_orders_with_it(bitmex):
    bitmex.place(orderQty=500)
    resting = bitmex.place(side="Sell", orderQty=200, price=90_000, execInst="Close")
    row = bitmex.place(execInst="Close", ordType="Market")
    assert (row["side"], row["orderQty"], row["ordStatus"]) == ("Sell", 500, "Filled")
    assert (
        bitmex.ask("GET", "/order", query=f"filter={quote(json.dumps({'orderID': resting['orderID']}))}")[1][
            0
        ]["ordStatus"]
        == "Canceled"
    )
    assert bitmex.ask("GET", "/position")[1][0]["currentQty"] == 0
    message = bitmex.refused("POST", "/order", {"symbol": "XBTUSD", "execInst": "Close"})
    assert message.startswith("Order had execInst of [Close]")


def test_close_position_is_the_old_way_to_close(bitmex):
    bitmex.place(orderQty=-300)
    status, row = bitmex.ask("POST", "/order/closePosition", {"symbol": "XBTUSD"})
    assert (status, row["side"], row["orderQty"], row["execInst"]) == (200, "Buy", 300, "Close")


def test_reduce_only_is_cut_to_the_position(bitmex):
    bitmex.place(orderQty=300)
    row = bitmex.place(orderQty=1000, side="Sell", execInst="ReduceOnly")
    assert row["cumQty"] == 300
    assert bitmex.ask("GET", "/position")[1][0]["currentQty"] == 0


def test_an_order_named_by_both_ids_is_cancelled_once(bitmex):
    row = bitmex.place(orderQty=100, price=80_000, clOrdID="a")
    bitmex.place(orderQty=100, price=80_000, clOrdID="b")
    _status, rows = bitmex.ask("DELETE", "/order", {"orderID": row["orderID"], "clOrdID": ["a", "b"]})
    assert [(row["clOrdID"], row["ordStatus"]) for row in rows] == [("a", "Canceled"), ("b", "Canceled")]


def test_load_shedding_lets_cancels_and_a_plain_close_through(bitmex):
    bitmex.place(orderQty=300)
    bitmex.place(orderQty=100, price=80_000, clOrdID="a")
    bitmex.venue.faults.inject("overloaded", {"count": 3}, bitmex.real_ns)

    def status(method, path, fields):
        body = json.dumps(fields).encode()
        headers = bitmex.signed(method, path, body)
        asked = RestRequest(method, path, {}, body, headers, path)
        answer = answer_with_faults(bitmex.venue, asked, bitmex.now_ns, bitmex.real_ns)
        return answer.status, json.loads(answer.body)

    overloaded = "The system is currently overloaded. Please try again later."
    for fields in (
        {"symbol": "XBTUSD", "orderQty": 100},
        {"symbol": "XBTUSD", "orderQty": 100, "execInst": "Close"},
    ):
        found, body = status("POST", "/api/v1/order", fields)
        assert (found, body["error"]["message"]) == (503, overloaded)
    assert status("DELETE", "/api/v1/order", {"clOrdID": "a"})[1][0]["ordStatus"] == "Canceled"
    assert status("POST", "/api/v1/order", {"symbol": "XBTUSD", "execInst": "Close"})[0] == 200
    assert status("POST", "/api/v1/position/leverage", {"symbol": "XBTUSD", "leverage": 5})[0] == 503
    assert [row["orderQty"] for row in bitmex.ask("GET", "/order")[1]] == [300, 100, 300]


def test_a_request_that_is_shed_counts_against_the_limits(bitmex_at):
    """Section 5.7; recorded answers of 503 carry the headers of the limits."""
    bench = bitmex_at(2026, 7, 1, 16, rest_per_minute=120)
    bench.venue.faults.inject("overloaded", {"count": 11}, bench.real_ns)
    body = b'{"symbol":"XBTUSD","orderQty":100}'
    path = "/api/v1/order"
    asked = RestRequest("POST", path, {}, body, bench.signed("POST", path, body), path)
    first, *_rest, last = [
        answer_with_faults(bench.venue, asked, bench.now_ns, bench.real_ns) for _ in range(11)
    ]
    assert (first.status, first.headers["x-ratelimit-remaining"]) == (503, "119")
    assert (last.status, last.headers["x-ratelimit-remaining-1s"]) == (503, "0")
    assert bench.ask("POST", "/order", {"symbol": "XBTUSD", "orderQty": 100})[0] == 429


# Amends, section 5.4


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"price": 79_000}, "orderID or origClOrdID must be sent."),
        ({"orderID": "nobody", "price": 79_000}, "Invalid orderID"),
        ({"origClOrdID": "nobody", "price": 79_000}, "Invalid orderID"),
        ({"origClOrdID": "a"}, "Invalid amend: orderQty, leavesQty, price, stopPx unchanged"),
        ({"origClOrdID": "a", "leavesQty": 0}, "Invalid leavesQty"),
        ({"origClOrdID": "a", "leavesQty": 150}, "Invalid leavesQty for lotSize"),
        ({"origClOrdID": "a", "orderQty": 150}, "Invalid orderQty"),
        ({"origClOrdID": "a", "orderQty": 100, "leavesQty": 100}, "Invalid leavesQty"),
        ({"origClOrdID": "a", "price": 79_000.01}, "Invalid price tickSize"),
        ({"origClOrdID": "a", "stopPx": 79_000}, "Invalid stopPx for ordType"),
        ({"origClOrdID": "a", "clOrdID": "b", "price": 79_000}, "Duplicate clOrdID"),
        ({"origClOrdID": "filled", "price": 79_000}, "Invalid ordStatus: Filled"),
        ({"origClOrdID": "gone", "price": 79_000}, "Invalid ordStatus: Canceled"),
    ],
)
def test_an_amend_that_makes_no_sense_is_a_400(bitmex, fields, message):
    for name, price in (("a", 80_000), ("b", 80_000), ("gone", 80_000)):
        bitmex.place(orderQty=200, price=price, clOrdID=name)
    bitmex.ask("DELETE", "/order", {"clOrdID": "gone"})
    bitmex.place(orderQty=100, clOrdID="filled")
    before = bitmex.ask("GET", "/order")
    assert bitmex.refused("PUT", "/order", fields) == message
    assert bitmex.ask("GET", "/order") == before


def test_an_amend_may_give_another_id_and_say_what_is_left(bitmex):
    bitmex.place(orderQty=200, price=80_000, clOrdID="a")
    status, row = bitmex.ask("PUT", "/order", {"origClOrdID": "a", "clOrdID": "b", "leavesQty": 500})
    assert (status, row["clOrdID"], row["orderQty"], row["leavesQty"]) == (200, "b", 500, 500)
    assert row["text"] == "Amended leavesQty\nSubmitted via API."
    replaced = bitmex.ask("GET", "/execution", query="reverse=true&count=1")[1][0]
    assert (replaced["execType"], replaced["clOrdID"], replaced["origClOrdID"]) == ("Replaced", "b", "a")
    assert bitmex.place(orderQty=200, price=80_000, clOrdID="a")["ordStatus"] == "New"  # it is free again
    assert bitmex.refused("PUT", "/order", {"origClOrdID": "zzz", "price": 1}) == "Invalid orderID"
    assert bitmex.ask("DELETE", "/order", {"clOrdID": "b"})[1][0]["ordStatus"] == "Canceled"


def test_an_amend_across_the_book_takes(bitmex):
    _bid, ask = bitmex.best()
    bitmex.place(orderQty=100, price=80_000, clOrdID="a")
    _status, row = bitmex.ask("PUT", "/order", {"origClOrdID": "a", "price": ask + 5})
    assert (row["ordStatus"], row["avgPx"]) == ("Filled", ask)


def test_a_post_only_order_amended_across_the_book_is_cancelled(bitmex):
    _bid, ask = bitmex.best()
    bitmex.place(orderQty=100, price=80_000, clOrdID="a", execInst="ParticipateDoNotInitiate")
    status, row = bitmex.ask("PUT", "/order", {"origClOrdID": "a", "price": ask + 5})
    assert (status, row["ordStatus"]) == (200, "Canceled")
    assert row["text"].startswith("Canceled: Order had execInst of ParticipateDoNotInitiate")


# Canceling, lists, the dead man


def test_cancel_all_takes_symbol_and_filter(bitmex):
    bitmex.place(orderQty=100, price=80_000, clOrdID="buy")
    bitmex.place(orderQty=-100, price=90_000, clOrdID="sell")
    bitmex.place(symbol="XBTUSDT", orderQty=100, price=80_000, clOrdID="other")

    def cancelled(**body):
        return [row["clOrdID"] for row in bitmex.ask("DELETE", "/order/all", body)[1]]

    assert cancelled(symbol="XBTUSD", filter='{"side": "Sell"}') == ["sell"]
    assert cancelled(symbol="XBTUSD", text="enough") == ["buy"]
    assert cancelled() == ["other"]
    assert cancelled() == []
    rows = bitmex.ask("GET", "/order")[1]
    assert [row["text"] for row in rows if row["clOrdID"] == "buy"] == ["Canceled\nenough"]


def test_lists_take_filter_count_start_reverse_and_columns(bitmex):
    for number in range(5):
        bitmex.place(orderQty=100, price=80_000 + number, clOrdID=f"o{number}")
        bitmex.run(10)
    bitmex.ask("DELETE", "/order", {"clOrdID": "o1"})

    def listed(**query):
        return bitmex.ask("GET", "/order", query=urlencode(query))[1]

    names = [row["clOrdID"] for row in listed()]
    assert names == ["o0", "o1", "o2", "o3", "o4"]
    assert [row["clOrdID"] for row in listed(filter='{"open": true}')] == ["o0", "o2", "o3", "o4"]
    still = listed(filter='{"ordStatus.isTerminated": false}', symbol="XBTUSD")
    assert [row["clOrdID"] for row in still] == ["o0", "o2", "o3", "o4"]
    assert [row["clOrdID"] for row in listed(filter='{"clOrdID": ["o3", "o1"]}')] == ["o1", "o3"]
    assert [row["clOrdID"] for row in listed(reverse="true", count=2, start=1)] == ["o3", "o2"]
    assert listed(symbol="XBTUSDT") == []
    row = listed(count=1, columns="clOrdID,price")[0]
    assert row.keys() == {"account", "clOrdID", "orderID", "price", "symbol", "timestamp"}
    since = listed()[3]["timestamp"]
    assert [row["clOrdID"] for row in listed(startTime=since)] == ["o1", "o3", "o4"]
    assert bitmex.ask("GET", "/order", query="count=501")[0] == 400


def test_one_account_does_not_see_or_touch_the_other(bitmex):
    row = bitmex.place(orderQty=100, price=80_000, clOrdID="mine")
    assert bitmex.ask("GET", "/order", account=100_002) == (200, [])
    _status, rows = bitmex.ask("DELETE", "/order", {"orderID": row["orderID"]}, account=100_002)
    assert rows[0]["error"] == "Unable to cancel order"
    assert bitmex.ask("DELETE", "/order/all", account=100_002) == (200, [])
    assert bitmex.ask("GET", "/order")[1][0]["ordStatus"] == "New"


def test_the_dead_man_cancels_everything_of_the_account_when_nobody_calls(bitmex):
    bitmex.place(orderQty=100, price=80_000)
    bitmex.place(symbol="XBTUSDT", orderQty=100, price=80_000)
    bitmex.place(account=100_002, orderQty=100, price=80_000)
    status, answer = bitmex.ask("POST", "/order/cancelAllAfter", {"timeout": 1000})
    assert status == 200
    assert answer == {"cancelTime": "2026-07-01T16:00:02.000Z", "now": "2026-07-01T16:00:01.000Z"}
    bitmex.run(900)
    bitmex.ask("POST", "/order/cancelAllAfter", {"timeout": 1000})
    bitmex.run(900)
    assert [row["ordStatus"] for row in bitmex.ask("GET", "/order")[1]] == ["New", "New"]
    bitmex.run(200)
    assert [row["ordStatus"] for row in bitmex.ask("GET", "/order")[1]] == ["Canceled", "Canceled"]
    assert [row["ordStatus"] for row in bitmex.ask("GET", "/order", account=100_002)[1]] == ["New"]
    assert bitmex.refused("POST", "/order/cancelAllAfter", {"timeout": -1}) == "Invalid timeout"
    assert bitmex.refused("POST", "/order/cancelAllAfter", {}) == "'timeout' is a required arg."


def test_the_dead_man_counts_from_the_moment_of_the_request(bitmex):
    """Requests come between two publications; the timer is not early by what has passed since the last."""
    bitmex.now_ns += 4_000_000
    answer = bitmex.ask("POST", "/order/cancelAllAfter", {"timeout": 1000})[1]
    assert answer == {"now": "2026-07-01T16:00:01.004Z", "cancelTime": "2026-07-01T16:00:02.004Z"}


def test_the_dead_man_is_armed_and_disarmed_by_websocket_too(bitmex):
    connection = bitmex.listen()
    bitmex.place(orderQty=100, price=80_000)
    for timeout, cancel_time in ((1000, "2026-07-01T16:00:02.000Z"), (0, 0)):
        request = {"op": "cancelAllAfter", "args": timeout}
        connection.receive_text(json.dumps(request), bitmex.real_ns)
        (answer,) = map(json.loads, connection.texts_to_send())
        assert answer == {"now": "2026-07-01T16:00:01.000Z", "cancelTime": cancel_time, "request": request}
    bitmex.run(1500)
    assert bitmex.ask("GET", "/order")[1][0]["ordStatus"] == "New"


def test_a_stop_waits_takes_no_margin_and_fires_on_its_side(bitmex):
    bid, ask = bitmex.best()
    far = bitmex.place(orderQty=100, side="Sell", ordType="Stop", stopPx=bid - 5000, execInst="LastPrice")
    near = bitmex.place(orderQty=100, side="Buy", ordType="Stop", stopPx=ask - 50, execInst="LastPrice")
    bitmex.run(2000)
    rows = {row["orderID"]: row for row in bitmex.ask("GET", "/order")[1]}
    assert (rows[far["orderID"]]["ordStatus"], rows[far["orderID"]]["workingIndicator"]) == ("New", False)
    fired = rows[near["orderID"]]
    assert (fired["ordStatus"], fired["triggered"]) == ("Filled", "StopOrderTriggered")
    kinds = [
        row["execType"] for row in bitmex.ask("GET", "/execution")[1] if row["orderID"] == near["orderID"]
    ]
    assert kinds == ["New", "TriggeredOrActivatedBySystem", "Trade"]


def test_a_trailing_stop_follows_the_price_up_and_not_down(bitmex):
    connection = bitmex.listen("order")
    asked = {"orderQty": 100, "side": "Sell", "ordType": "Stop", "pegPriceType": "TrailingStopPeg"}
    row = bitmex.place(**asked, pegOffsetValue=-2000, clOrdID="t")
    first = row["stopPx"]
    assert (row["pegOffsetValue"], row["ordStatus"], row["workingIndicator"]) == (-2000.0, "New", False)
    connection.texts_to_send()
    stops = [first]
    highest = first + 2000
    for _ in range(30):
        bitmex.run(1000)
        highest = max(highest, bitmex.venue.markets["XBTUSD"].row["lastPrice"])
        for text in connection.texts_to_send():
            stops += [update["stopPx"] for update in json.loads(text)["data"]]
    assert stops == sorted(stops)
    assert first < stops[-1] <= highest - 2000
    _status, row = bitmex.ask("PUT", "/order", {"origClOrdID": "t", "pegOffsetValue": -1500})
    assert (row["pegOffsetValue"], row["stopPx"] > stops[-1]) == (-1500.0, True)
    for wrong in (1500, 0.05):
        fields = {"origClOrdID": "t", "pegOffsetValue": wrong}
        assert bitmex.refused("PUT", "/order", fields).startswith("Invalid pegOffsetValue")


def test_a_closing_stop_without_quantity_takes_what_there_is_then(bitmex):
    _bid, ask = bitmex.best()
    stop = {"side": "Sell", "ordType": "Stop", "execInst": "Close,LastPrice", "clOrdID": "stop"}
    row = bitmex.place(**stop, stopPx=ask - 900)
    assert ("orderQty" in row, row["leavesQty"], row["workingIndicator"]) == (False, 0, False)
    bitmex.place(orderQty=500)
    _status, row = bitmex.ask("PUT", "/order", {"origClOrdID": "stop", "stopPx": ask + 100})
    assert row["text"] == "Amended stopPx\nSubmitted via API."
    bitmex.run(20)
    row = bitmex.ask("GET", "/order", query="filter=%7B%22clOrdID%22%3A%22stop%22%7D")[1][0]
    assert (row["ordStatus"], row["orderQty"], row["cumQty"]) == ("Filled", 500, 500)
    assert bitmex.ask("GET", "/position")[1][0]["currentQty"] == 0


def test_stops_and_orders_of_a_contract_are_capped(bitmex):
    for number in range(10):
        bitmex.place(orderQty=100, side="Sell", ordType="Stop", stopPx=70_000 + number)
    asked = {"symbol": "XBTUSD", "orderQty": 100, "side": "Sell", "ordType": "Stop", "stopPx": 70_000}
    assert bitmex.refused("POST", "/order", asked) == "Too many open orders"
    for number in range(190):
        bitmex.place(orderQty=100, price=70_000 + number)
    assert bitmex.refused("POST", "/order", {**asked, "ordType": "Limit", "price": 1, "stopPx": None})
    assert bitmex.place(symbol="XBTUSDT", orderQty=100, price=70_000)["ordStatus"] == "New"


def test_a_form_is_read_like_json(bitmex):
    body = b"symbol=XBTUSD&orderQty=-100&price=90000.5&clOrdID=a%2Fb"
    headers = bitmex.signed("POST", "/api/v1/order", body)
    headers["content-type"] = "application/x-www-form-urlencoded"
    asked = RestRequest("POST", "/api/v1/order", {}, body, headers, "/api/v1/order")
    row = json.loads(bitmex.venue.answer(asked, bitmex.now_ns).body)
    assert (row["side"], row["price"], row["clOrdID"], row["ordStatus"]) == ("Sell", 90_000.5, "a/b", "New")


def test_an_expiry_time_of_an_order_is_heeded(bitmex):
    asked = {"symbol": "XBTUSD", "orderQty": 100, "price": 80_000}
    message = bitmex.refused("POST", "/order", asked | {"expiryTime": "2026-07-01T16:00:00.555Z"})
    assert message.startswith("This request has expired - `expiryTime` is in the past.")
    assert bitmex.place(**asked, expiryTime="2026-07-01T16:00:05.555Z")["ordStatus"] == "New"


def test_a_day_order_ends_at_midnight(bitmex_at):
    bench = bitmex_at(2026, 7, 1, 23, 59, 58)
    bench.place(orderQty=100, price=80_000, timeInForce="Day")
    bench.run(3000)
    (row,) = bench.ask("GET", "/order")[1]
    assert (row["ordStatus"], row["leavesQty"]) == ("Expired", 0)


def test_keys_may_be_held_to_reading_or_cancelling(bitmex):
    ring = bitmex.venue.private.keys
    key = ring._keys["key-one"]
    bitmex.place(orderQty=100, price=80_000, clOrdID="a")
    for permissions, allowed in (((), []), (("orderCancel",), ["DELETE"])):
        ring._keys["key-one"] = type(key)(key.key_id, key.secret, key.account, permissions)
        assert bitmex.ask("GET", "/order")[0] == 200
        assert bitmex.refused("POST", "/order", {"symbol": "XBTUSD", "orderQty": 100}, 403) == "Access Denied"
        assert (bitmex.ask("DELETE", "/order", {"clOrdID": "a"})[0] == 200) == ("DELETE" in allowed)


def test_the_second_layer_lets_ten_orders_a_second_through(bitmex_at):
    bench = bitmex_at(2026, 7, 1, rest_per_minute=30)
    bench.run(100)
    body = json.dumps({"symbol": "XBTUSD", "orderQty": 100, "price": 80_000}).encode()
    asked = RestRequest(
        "POST", "/api/v1/order", {}, body, bench.signed("POST", "/api/v1/order", body), "/api/v1/order"
    )
    answers = [bench.venue.answer(asked, bench.now_ns) for _ in range(11)]
    assert [answer.status for answer in answers] == [200] * 10 + [429]
    assert answers[0].headers["x-ratelimit-limit"] == "120"
    assert answers[0].headers["x-ratelimit-remaining"] == "119"
    assert answers[0].headers["x-ratelimit-remaining-1s"] == "9"
    assert (answers[-1].headers["Retry-After"], answers[-1].headers["x-ratelimit-remaining-1s"]) == ("1", "0")
    assert json.loads(answers[-1].body) == {
        "error": {"message": "Rate limit exceeded, retry in 1 seconds.", "name": "RateLimitError"}
    }
    bench.run(1000)
    assert bench.venue.answer(asked, bench.now_ns).status == 200
    reading = [bench.ask("GET", "/position")[0] for _ in range(120)]
    assert reading.count(429) == 12 - 2  # 12 were spent, 2 have come back


def test_an_acknowledgement_can_be_lost_late_or_told_twice(bitmex):
    faults = bitmex.venue.exchange.faults
    connection = bitmex.listen("order")
    for kind in ("ack_lost", "ack_late", "ack_twice"):
        faults.add(OrderFault(kind=kind, delay_ns=250_000_000))
        body = json.dumps({"symbol": "XBTUSD", "orderQty": 100, "price": 80_000, "clOrdID": kind}).encode()
        headers = bitmex.signed("POST", "/api/v1/order", body)
        asked = RestRequest("POST", "/api/v1/order", {}, body, headers, "/api/v1/order")
        answer = bitmex.venue.answer(asked, bitmex.now_ns)
        assert (answer.is_lost, answer.delay_ns) == (kind == "ack_lost", 250_000_000 * (kind == "ack_late"))
        assert len(connection.texts_to_send()) == (2 if kind == "ack_twice" else 1)
    assert {row["clOrdID"] for row in bitmex.ask("GET", "/order")[1]} == {"ack_lost", "ack_late", "ack_twice"}


def test_a_venue_that_only_lets_positions_shrink_says_so(bitmex):
    bitmex.place(orderQty=300)
    bitmex.venue.exchange.set_trading(TradingMode.REDUCE_ONLY)
    message = bitmex.refused("POST", "/order", {"symbol": "XBTUSD", "orderQty": 100})
    assert message == "Value of position and orders exceeds position Risk Limit"
    assert bitmex.place(orderQty=-100)["ordStatus"] == "Filled"
    bitmex.venue.exchange.set_trading(TradingMode.CLOSED)
    assert bitmex.refused("POST", "/order", {"symbol": "XBTUSD", "orderQty": -100}) == "Market is not open"


def test_every_column_of_an_order_is_a_declared_one(bitmex):
    connection = bitmex.listen("order")
    bitmex.place(orderQty=100, clOrdID="b", text="note")
    bitmex.place(
        orderQty=100, side="Sell", ordType="StopLimit", stopPx=70_000, price=69_000, execInst="MarkPrice"
    )
    for text in connection.texts_to_send():
        for row in json.loads(text)["data"]:
            assert list(row) == [name for name in ORDER_TYPES if name in row]
            assert None not in row.values()
