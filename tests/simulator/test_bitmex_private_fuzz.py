"""Whatever comes in at the simulated BitMEX is answered as the venue answers, and nothing breaks."""

import contextlib
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dquant.simulator.bitmex_params import BadRequest, Params
from dquant.simulator.venue import RestRequest

ROUTES = [
    *(("POST", "/order"), ("PUT", "/order"), ("DELETE", "/order"), ("DELETE", "/order/all")),
    *(("POST", "/order/cancelAllAfter"), ("POST", "/order/closePosition"), ("GET", "/order")),
    *(("GET", "/execution"), ("GET", "/execution/tradeHistory"), ("GET", "/position")),
    *(("POST", "/position/leverage"), ("POST", "/position/isolate"), ("POST", "/position/riskLimit")),
    *(
        ("POST", "/position/transferMargin"),
        ("GET", "/user"),
        ("GET", "/user/margin"),
        ("GET", "/user/wallet"),
    ),
    *(("GET", "/user/walletHistory"), ("GET", "/user/commission"), ("GET", "/apiKey"), ("GET", "/nowhere")),
]
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.integers(-300, 300).map(lambda number: number * 100),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=40),
    st.sampled_from(
        ["XBTUSD", "XBTUSDT", "Buy", "Sell", "Market", "Stop", "Close", "ReduceOnly", "true", "[", "{}"]
    ),
    st.sampled_from(
        ["1e400", "NaN", "-0", "0.1", "80000", '["a"]', '{"open": true}', '{"a": {}}', "XBt", "all"]
    ),
    st.lists(st.text(max_size=5), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
)
FIELDS = st.dictionaries(
    st.sampled_from(
        [
            *(
                "symbol",
                "side",
                "orderQty",
                "price",
                "stopPx",
                "ordType",
                "timeInForce",
                "execInst",
                "clOrdID",
            ),
            *(
                "orderID",
                "origClOrdID",
                "leavesQty",
                "text",
                "timeout",
                "leverage",
                "filter",
                "columns",
                "count",
            ),
            *("start", "reverse", "startTime", "endTime", "currency", "riskLimit", "enabled", "pegPriceType"),
            *("pegOffsetValue", "displayQty", "expiryTime", "amount", "contingencyType", "strategy"),
        ]
    ),
    VALUES,
    max_size=6,
)
RUN = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def is_like_the_venue(answer):
    """Look at the form of an answer."""
    body = json.loads(answer.body)
    if answer.status == 200:
        return isinstance(body, (dict, list))
    return (
        answer.status in (400, 401, 403, 404)
        and body.keys() == {"error"}
        and {"message", "name"} <= body["error"].keys() <= {"message", "name", "details"}
        and bool(body["error"]["message"])
    )


@RUN
@given(route=st.sampled_from(ROUTES), fields=FIELDS, symbol=st.booleans())
def test_any_fields_get_an_answer_of_the_venue(bitmex, route, fields, symbol):
    method, path = route
    if symbol:
        fields = {"symbol": "XBTUSD", "orderQty": 100, **fields}
    body = json.dumps(fields).encode()
    headers = bitmex.signed(method, f"/api/v1{path}", body)
    query = {name: str(value) for name, value in fields.items()} if method == "GET" else {}
    asked = RestRequest(method, f"/api/v1{path}", query, b"" if method == "GET" else body, headers)
    headers = bitmex.signed(method, f"/api/v1{path}", asked.body)
    asked = RestRequest(method, asked.path, query, asked.body, headers, asked.path)
    assert is_like_the_venue(bitmex.venue.answer(asked, bitmex.now_ns))
    bitmex.run(10)


@RUN
@given(
    route=st.sampled_from(ROUTES),
    body=st.binary(max_size=60),
    kind=st.sampled_from(["application/json", "x/y"]),
)
def test_any_bytes_get_an_answer_of_the_venue(bitmex, route, body, kind):
    method, path = route
    headers = bitmex.signed(method, f"/api/v1{path}", body) | {"content-type": kind}
    asked = RestRequest(method, f"/api/v1{path}", {}, body, headers, f"/api/v1{path}")
    assert is_like_the_venue(bitmex.venue.answer(asked, bitmex.now_ns))


@RUN
@given(
    headers=st.dictionaries(
        st.sampled_from(["api-key", "api-expires", "api-signature"]), st.text(max_size=30)
    )
)
def test_any_credentials_are_refused(bitmex, headers):
    asked = RestRequest("GET", "/api/v1/position", {}, b"", headers, "/api/v1/position")
    assert bitmex.venue.answer(asked, bitmex.now_ns).status in (400, 401)


@RUN
@given(
    op=st.sampled_from(["authKeyExpires", "cancelAllAfter", "subscribe", "unsubscribe"]),
    args=st.one_of(VALUES, st.lists(VALUES, max_size=4)),
    is_known=st.booleans(),
)
def test_any_arguments_of_an_op_are_answered_on_the_websocket(bitmex, op, args, is_known):
    connection = bitmex.listen() if is_known else bitmex.venue.connect("/realtime", "", bitmex.real_ns)
    if not isinstance(connection.conn_id, str):
        return
    connection.texts_to_send()
    connection.receive_text(json.dumps({"op": op, "args": args}), bitmex.real_ns)
    answers = [json.loads(text) for text in connection.texts_to_send()]
    assert answers or args == []
    assert all(
        "error" in answer or "success" in answer or "now" in answer or "table" in answer for answer in answers
    )
    bitmex.venue.disconnected(connection)
    bitmex.venue._connect_times.clear()


@given(text=st.text(max_size=50))
def test_a_number_is_a_number_or_refused(text):
    number = None
    with contextlib.suppress(BadRequest):
        number = Params({"price": text}).number("price")
    assert number is None or number.is_finite()


@pytest.mark.parametrize(
    "body", [b"[1]", b"1", b'{"a": NaN}', b"[" * 5000, b"\xff\xfe", b'{"a": 1' + b"0" * 5000 + b"}"]
)
def test_a_body_that_is_no_object_is_refused(body):
    with pytest.raises(BadRequest):
        Params.of(
            RestRequest("POST", "/api/v1/order", {}, body, {"content-type": "application/json"})
        ).number("a")
