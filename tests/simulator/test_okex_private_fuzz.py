"""Anything said to the private side of the simulated OKX is answered as the venue would; nothing raises."""

import json
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dquant.simulator.okex_trade import OPERATIONS

SWAP = "BTC-USD-SWAP"
ORDER_KEYS = (
    *(
        "instId",
        "instIdCode",
        "tdMode",
        "side",
        "posSide",
        "ordType",
        "sz",
        "px",
        "clOrdId",
        "tag",
        "reduceOnly",
    ),
    *(
        "tgtCcy",
        "pxAmendType",
        "stpMode",
        "ordId",
        "newSz",
        "newPx",
        "reqId",
        "cxlOnFail",
        "timeOut",
        "mgnMode",
    ),
    *("lever", "posMode", "autoCxl", "ccy", "attachAlgoOrds", "expTime"),
)
words = st.sampled_from(
    (
        *(
            SWAP,
            "BTC-USDT",
            "cross",
            "cash",
            "buy",
            "sell",
            "net",
            "long",
            "limit",
            "market",
            "post_only",
            "fok",
        ),
        *(
            "ioc",
            "optimal_limit_ioc",
            "1",
            "0.1",
            "0.05",
            "84000",
            "84000.1",
            "100000",
            "base_ccy",
            "quote_ccy",
        ),
        *(
            "true",
            "c1",
            "cancel_maker",
            "cancel_both",
            "10",
            "60",
            "0",
            "net_mode",
            "long_short_mode",
            "",
            "-1",
        ),
        *("1e9", "\u0663", "NaN"),
    )
)
leaves = (
    words
    | st.text(max_size=6)
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=True)
    | st.booleans()
    | st.none()
    | st.sampled_from((10458, 3, 2021032601102992))
)
anything = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3)
)
orders = st.dictionaries(st.sampled_from(ORDER_KEYS), words | anything, max_size=10)
likely = st.fixed_dictionaries(
    {"tdMode": st.just("cross"), "side": words, "ordType": words, "sz": words},
    optional={"px": words, "clOrdId": words, "reduceOnly": anything, "posSide": words, "stpMode": words},
).map(lambda order: {"instId": SWAP, "instIdCode": 10458, **order})
POSTS = (
    *(
        "trade/order",
        "trade/batch-orders",
        "trade/cancel-order",
        "trade/cancel-batch-orders",
        "trade/amend-order",
    ),
    *("trade/amend-batch-orders", "trade/close-position", "trade/cancel-all-after", "account/set-leverage"),
    *("account/set-position-mode", "trade/mass-cancel", "trade/nothing"),
)
GETS = (
    *("trade/order", "trade/orders-pending", "trade/orders-history", "trade/orders-history-archive"),
    *("trade/fills", "trade/fills-history", "trade/account-rate-limit", "account/config", "account/balance"),
    *("account/positions", "account/positions-history", "account/account-position-risk"),
    *("account/leverage-info", "account/trade-fee", "account/max-size", "account/max-avail-size"),
    *("account/bills", "account/bills-archive", "account/instruments", "asset/currencies", "asset/balances"),
)
QUERY_KEYS = (
    *(
        "instType",
        "instId",
        "instFamily",
        "uly",
        "ordId",
        "clOrdId",
        "state",
        "ordType",
        "after",
        "before",
        "limit",
    ),
    *("begin", "end", "ccy", "mgnMode", "tdMode", "px", "posId", "subType", "type", "groupId"),
)
queries = st.dictionaries(
    st.sampled_from(QUERY_KEYS),
    st.sampled_from(
        ("SPOT", "SWAP", "FUTURES", SWAP, "BTC-USDT", "cross", "cash", "1", "0", "99999999", "x", "9" * 40)
    )
    | st.text(max_size=5),
    max_size=5,
)
fuzz = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def unlimited(trader):
    """Let no rate limit hide what lies behind it."""
    trader.bench.real_ns += 5_000_000_000
    trader.bench.venue.real_ns = trader.bench.real_ns


@fuzz
@given(
    op=st.sampled_from(sorted(OPERATIONS)), args=st.lists(likely | orders | anything, max_size=3) | anything
)
def test_any_arguments_of_an_operation_are_answered(trader, op, args):
    unlimited(trader)
    text = json.dumps({"id": "f1", "op": op, "args": args, "expTime": None})
    trader.connection.receive_text(text, trader.bench.real_ns)
    answers = [frame for frame in trader.frames() if frame.get("op")]
    assert len(answers) == 1
    answer = answers[0]
    assert answer["id"] == "f1"
    assert (answer["code"] in ("0", "1", "2")) == bool(answer["data"])
    for row in answer["data"]:
        assert isinstance(row["sCode"], str)
        assert (row["sCode"] == "0") == (row["sMsg"] in ("", "Order placed"))
        assert row["sCode"] not in ("51149", "50026")


@fuzz
@given(path=st.sampled_from(POSTS), body=likely | orders | st.lists(likely | orders, max_size=3) | anything)
def test_any_body_is_answered_in_the_envelope(trader, path, body):
    unlimited(trader)
    status, answer = trader.ask("POST", path, body)
    assert answer.keys() >= {"code", "msg", "data"}
    assert isinstance(answer["code"], str)
    assert status in (200, 400, 404, 429)
    assert status != 200 or answer["code"] != "51149"


@fuzz
@given(path=st.sampled_from(GETS), query=queries)
def test_any_query_is_answered_in_the_envelope(trader, path, query):
    unlimited(trader)
    urlencode(query)
    status, answer = trader.ask("GET", path, **query)
    assert answer.keys() >= {"code", "msg", "data"}
    assert status in (200, 400)
    assert (answer["code"] == "0") or answer["data"] == []


@fuzz
@given(
    args=st.lists(orders | anything, max_size=2), channel=st.sampled_from(("orders", "account", "positions"))
)
def test_any_private_subscription_is_acked_or_refused(trader, args, channel):
    client = trader.bench.connect("private")
    client.is_logged_in, client.account = True, "main"
    args = [{**arg, "channel": channel} if isinstance(arg, dict) else arg for arg in args] or ["x"]
    client.receive_text(json.dumps({"op": "subscribe", "args": args}), trader.bench.real_ns)
    frames = [json.loads(text) for text in client.texts_to_send()]
    acks = [frame for frame in frames if frame.get("event") in ("subscribe", "error")]
    assert len(acks) == len(args)
    trader.place(ordType="market", sz="0.1")
    trader.bench.venue.disconnected(client)


@pytest.mark.parametrize("body", [b"{", b"[" * 5_000, b"\xff", b'"x"', b"1", b"null", b"[]", b"[1]", b"{}"])
def test_a_body_that_is_no_order_is_refused(trader, body):
    request = trader.signed("POST", "trade/order", None, {})
    from dquant.simulator.okex_login import sign
    from dquant.simulator.venue import RestRequest

    headers = dict(request.headers)
    text = f"{headers['ok-access-timestamp']}POST{request.target}".encode() + body
    headers["ok-access-sign"] = sign(trader.secrets.secret, text)
    asked = RestRequest("POST", request.path, {}, body, headers, request.target)
    answer = json.loads(trader.bench.venue.answer(asked, trader.bench.now_ns).body)
    assert answer["code"] in ("50002", "1")


@pytest.mark.parametrize(
    "text", ['{"op":"login","args":[{"apiKey":["x"]}]}', '{"op":"login","args":[{"apiKey":{}}]}']
)
def test_a_login_with_strange_keys_is_refused(okex, frames, text):
    connection = okex.connect("private")
    connection.receive_text(text, 0)
    assert frames(connection)[0]["code"] == "60005"
