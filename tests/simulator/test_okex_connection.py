"""A client's conversation with the simulated OKX: acks, errors by code, heartbeat, limits."""

import base64
import hashlib
import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dquant.simulator.flow import Flow
from dquant.simulator.okex_login import LoginRejected, Secrets, check_login
from dquant.simulator.okex_server import OkexOptions, OkexServer
from dquant.simulator.venue import CLOSE_ABORT, Refusal

INST = "BTC-USD-261127"
S = 1_000_000_000


def say(connection, frames, **request):
    connection.receive_text(json.dumps(request), 0)
    return frames(connection)


def test_each_element_is_acked_with_connection_and_echoed_id(okex, frames):
    connection = okex.connect()
    args = [{"channel": "trades", "instId": INST}, {"channel": "trades", "instId": "BTC-USDT"}]
    answers = say(connection, frames, id="1512", op="subscribe", args=args)
    assert answers == [
        {"id": "1512", "event": "subscribe", "arg": arg, "connId": connection.conn_id} for arg in args
    ]
    assert len(connection.conn_id) == 8
    assert int(connection.conn_id, 16) >= 0
    assert connection.subscriptions() == [f"trades:{INST}", "trades:BTC-USDT"]


def test_acks_are_the_recorded_ones(okex, frames, recorded):
    connection = okex.connect()
    answers = say(connection, frames, **recorded("ws_subscribe__request_tickers"))
    assert answers[0] == {**recorded("ws_subscribe__ack_tickers"), "connId": connection.conn_id}
    answers = say(connection, frames, **recorded("ws_unsubscribe__request_tickers"))
    assert answers == [{**recorded("ws_unsubscribe__ack_tickers"), "connId": connection.conn_id}]


def test_a_subscription_twice_is_acked_twice(okex, frames):
    connection = okex.connect()
    for _ in range(2):
        answers = say(connection, frames, op="subscribe", args=[{"channel": "books", "instId": INST}])
        assert [frame.get("event", frame.get("action")) for frame in answers] == ["subscribe", "snapshot"]


def test_data_may_come_before_its_ack(okex_at, frames):
    okex = okex_at(2026, 11, 22, options=OkexOptions(data_before_ack=True))
    answers = say(okex.connect(), frames, op="subscribe", args=[{"channel": "books", "instId": INST}])
    assert [frame.get("event", frame.get("action")) for frame in answers] == ["snapshot", "subscribe"]


def test_nothing_comes_after_an_unsubscribe(okex, frames):
    connection = okex.listen("books", INST)
    say(connection, frames, op="unsubscribe", args=[{"channel": "books", "instId": INST}])
    okex.run(500)
    assert frames(connection) == []
    assert okex.venue.feeds[INST].channels == set()


def test_an_id_of_digits_may_come_without_quotes(okex, frames):
    connection = okex.connect()
    connection.receive_text('{"id":1512,"op":"subscribe","args":[{"channel":"status"}]}', okex.real_ns)
    assert [frame.get("id") for frame in frames(connection)] == ["1512", None]


def test_a_bad_element_fails_alone(okex, frames):
    args = [{"channel": "books", "instId": "NO-SUCH"}, {"channel": "trades", "instId": INST}]
    answers = say(okex.connect(), frames, id="7", op="subscribe", args=args)
    assert [(frame["event"], frame.get("code")) for frame in answers] == [
        ("error", "60018"),
        ("subscribe", None),
    ]
    assert "arg" not in answers[0]


@pytest.mark.parametrize(
    ("kind", "arg", "code"),
    [
        ("public", {"channel": "candle1m", "instId": "BTC-USDT"}, "60018"),
        ("public", {"channel": "orders", "instType": "ANY"}, "60018"),
        ("public", {"channel": "trades-all", "instId": INST}, "60018"),
        ("public", {"channel": "books-l2-tbt", "instId": INST}, "60011"),
        ("public", {"channel": "books"}, "60018"),
        ("public", {"channel": "books", "instId": 5}, "60018"),
        ("public", {"channel": "index-tickers", "instId": INST}, "60018"),
        ("public", {"channel": "funding-rate", "instId": INST}, "60018"),
        ("public", {"channel": "open-interest", "instId": "BTC-USDT"}, "60018"),
        ("public", {"channel": "instruments", "instType": "FRUIT"}, "60018"),
        ("public", {"instId": INST}, "60013"),
        ("public", "books", "60013"),
        ("business", {"channel": "books", "instId": INST}, "64002"),
        ("private", {"channel": "orders", "instType": "ANY"}, "60011"),
        ("private", {"channel": "books", "instId": INST}, "60018"),
        ("business", {"channel": "orders-algo", "instType": "ANY"}, "60011"),
        ("private", {"channel": "orders-algo", "instType": "ANY"}, "64001"),
    ],
)
def test_the_wrong_url_channel_or_instrument_is_refused_by_code(okex, frames, kind, arg, code):
    connection = okex.connect(kind)
    (answer,) = say(connection, frames, op="subscribe", args=[arg])
    assert (answer["event"], answer["code"]) == ("error", code)
    assert connection.subscriptions() == []


def test_60018_has_the_recorded_words(okex, frames, recorded):
    real = recorded("ws_subscribe__error_60018_candle_on_public")
    arg = {"channel": "candle1m", "instId": "BTC-USDT"}
    (answer,) = say(okex.connect(), frames, op="subscribe", args=[arg])
    assert {**answer, "connId": real["connId"]} == real


def test_60012_repeats_the_request(okex, recorded):
    real = recorded("ws_subscribe__error_60012")
    connection = okex.connect()
    text = '{"id": "1512", "op": "subscribe", "argss":[{ "channel" : "books", "instId" : "BTC-USD-191227"}]}'
    connection.receive_text(text, 0)
    answer = json.loads(connection.texts_to_send()[0])
    assert answer.keys() == real.keys()
    assert (answer["code"], answer["id"]) == ("60012", "1512")
    assert answer["msg"] == f"Invalid request: {text}"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "60012"),
        ("[1]", "60012"),
        ('{"args":[]}', "60012"),
        ('{"op":"ping"}', "60012"),
        ('{"op":"subscribe","args":{}}', "60012"),
        ('{"op":"subscribe","args":[]}', "60013"),
        ('{"op":"dance","args":[1]}', "60019"),
        ('{"id":"a-b","op":"subscribe","args":[1]}', "60033"),
        ('{"id":-1,"op":"subscribe","args":[1]}', "60033"),
        ('{"id":1.5,"op":"subscribe","args":[1]}', "60033"),
    ],
)
def test_requests_that_are_none_get_their_code(okex, frames, text, code):
    connection = okex.connect()
    connection.receive_text(text, 0)
    (answer,) = frames(connection)
    assert (answer["event"], answer["code"], answer["connId"]) == ("error", code, connection.conn_id)


VENUE = OkexServer(Flow(1, 1_795_305_600_000_000_000), Secrets("a", "b", "c"))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.text()
    | st.sampled_from(["subscribe", "books", "login", INST]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["op", "args", "id", "channel", "instId", "instType"]), inner)
    ),
    max_leaves=12,
)


@given(st.text() | JSON.map(json.dumps), st.sampled_from(["public", "private", "business"]))
def test_any_text_is_answered_or_ends_in_a_close(text, kind):
    connection = VENUE.connect(f"/ws/v5/{kind}", "", 0)
    connection.receive_text(text, 0)
    assert connection.texts_to_send() or connection.close_code is not None
    VENUE.disconnected(connection)


@pytest.mark.parametrize("key", ["channel", "instId"])
def test_text_that_is_no_unicode_is_answered_in_text_that_is(okex, key):
    connection = okex.connect()
    arg = {"channel": "books", "instId": INST, key: "\ud800"}
    connection.receive_text(json.dumps({"op": "subscribe", "args": [arg]}), 0)
    assert connection.texts_to_send()[0].encode()


def test_a_frame_that_is_too_long_ends_the_connection(okex):
    connection = okex.connect()
    connection.receive_text("x" * 70_000, 0)
    assert connection.close_code == 1009


def test_text_ping_is_answered_and_keeps_the_connection(okex):
    connection = okex.connect()
    for second in (20, 40, 60):
        connection.receive_text("ping", second * S)
        connection.keep_house(second * S + 1)
    assert connection.texts_to_send() == ["pong"] * 3
    assert connection.close_code is None


def test_thirty_silent_seconds_end_in_4004(okex):
    connection = okex.connect()
    connection.receive_text('{"op":"ping"}', 20 * S)  # answered with an error, which is no life
    connection.keep_house(30 * S - 1)
    assert connection.close_code is None
    connection.keep_house(30 * S)
    assert (connection.close_code, connection.close_reason) == (4004, "No data received in 30s.")


def test_more_than_480_requests_an_hour_are_refused(okex, frames):
    connection = okex.connect()
    arg = {"channel": "trades", "instId": INST}
    for number in range(481):
        op = ("subscribe", "unsubscribe")[number % 2]
        connection.receive_text(json.dumps({"op": op, "args": [arg]}), number)
    answers = frames(connection)
    assert [frame.get("code") for frame in answers if frame["event"] == "error"] == ["60014"]
    connection.receive_text(json.dumps({"op": "subscribe", "args": [arg]}), 3600 * S)
    assert frames(connection)[0]["event"] == "subscribe"


def test_paths_that_are_no_websocket_are_refused(okex):
    assert okex.venue.connect("/ws/v5/secret", "", 0) == Refusal(404, "no such websocket")


def test_connections_a_second_can_be_limited(okex_at):
    okex = okex_at(2026, 11, 22, options=OkexOptions(connections_per_second=3))
    answers = [okex.venue.connect("/ws/v5/public", "", 0) for _ in range(4)]
    assert [isinstance(answer, Refusal) for answer in answers] == [False, False, False, True]
    assert not isinstance(okex.venue.connect("/ws/v5/public", "", S), Refusal)


def test_an_address_may_open_three_a_second_and_this_machine_thirty(okex):
    def opened(address, count=40):
        answers = [okex.venue.connect("/ws/v5/public", "", 0, None, address) for _ in range(count)]
        return sum(not isinstance(answer, Refusal) for answer in answers)

    assert [opened(address) for address in ("10.0.0.1", "10.0.0.2", "127.0.0.1", "::1", "")] == [
        3,
        3,
        30,
        30,
        40,
    ]


def test_a_deep_book_is_for_a_fee_tier_and_not_beside_a_shallower_one(okex_at, frames):
    okex = okex_at(2026, 11, 22, options=OkexOptions(is_vip=True))
    connection = okex.connect()
    deep, half = ({"channel": name, "instId": INST} for name in ("books-l2-tbt", "books50-l2-tbt"))
    (answer,) = say(connection, frames, op="subscribe", args=[deep])
    assert answer["code"] == "60011"
    say(connection, frames, op="login", args=[login()])
    ack, snapshot = say(connection, frames, op="subscribe", args=[deep])
    assert (ack["event"], snapshot["action"], snapshot["arg"]) == ("subscribe", "snapshot", deep)
    assert len(snapshot["data"][0]["bids"]) == 400
    for rival in ({"channel": "books", "instId": INST}, half):
        assert say(connection, frames, op="subscribe", args=[rival])[0]["code"] == "64004"
    okex.run(300)
    updates = frames(connection)
    assert len(updates) > 3  # books has three in that time
    last = snapshot["data"][0]["seqId"]
    for update in updates:
        assert update["data"][0]["prevSeqId"] == last
        last = update["data"][0]["seqId"]
    say(connection, frames, op="unsubscribe", args=[deep])
    _ack, snapshot = say(connection, frames, op="subscribe", args=[half])
    assert (snapshot["arg"]["channel"], len(snapshot["data"][0]["asks"])) == ("books50-l2-tbt", 50)


# Login


def login(secret: str = "secret", **changes):
    arg = {"apiKey": "key", "passphrase": "pass phrase", "timestamp": "1795305600", **changes}
    text = f"{arg['timestamp']}GET/users/self/verify".encode()
    sign = base64.b64encode(hmac.new(secret.encode(), text, hashlib.sha256).digest()).decode()
    return {"sign": sign, **arg}


def test_the_published_signature_is_accepted():
    secrets = Secrets("k", "test-secret-0123456789", "p")
    sign = "8Yukqw2TYP5xwlj/cXQVFJ3TaHLwrMm6yrosgja7vlI="
    arg = {"apiKey": "k", "passphrase": "p", "timestamp": "1790323200", "sign": sign}
    check_login(arg, {secrets.api_key: secrets}, 1_790_323_200_000)
    with pytest.raises(LoginRejected, match="60006"):
        check_login(arg, {secrets.api_key: secrets}, 1_790_323_231_000)


def test_a_login_opens_private_channels_once(okex, frames, recorded):
    connection = okex.connect("private")
    (answer,) = say(connection, frames, op="login", args=[login()])
    assert answer.keys() == recorded("ws_login__ack").keys()
    assert (answer["event"], answer["code"]) == ("login", "0")
    (again,) = say(connection, frames, op="login", args=[login()])
    assert again["code"] == "60031"


@pytest.mark.parametrize("timestamp", [1795305600, "1795305600.25", 1795305600.25])
def test_a_login_says_its_time_in_one_of_the_ways_clients_do(okex, frames, timestamp):
    """The venue's own SDK sends a number; its guide's example is the clock's milliseconds through 1000."""
    connection = okex.connect("private")
    connection.receive_text(json.dumps({"op": "login", "args": [login(timestamp=timestamp)]}), okex.real_ns)
    assert frames(connection)[0]["event"] == "login"


def test_who_asks_for_algo_orders_on_the_business_url_hears_of_none(okex, frames):
    connection = okex.connect("business")
    say(connection, frames, op="login", args=[login()])
    args = [{"channel": "orders-algo", "instType": "SWAP"}, {"channel": "algo-advance", "instType": "ANY"}]
    answers = say(connection, frames, op="subscribe", args=[*args, {"channel": "orders-algo"}])
    assert [(frame["event"], frame.get("code")) for frame in answers] == [
        *[("subscribe", None)] * 2,
        ("error", "60018"),
    ]
    okex.run(1000)
    assert frames(connection) == []
    say(connection, frames, op="unsubscribe", args=args)
    assert connection.subscriptions() == []


def test_a_fee_tier_is_asked_for_after_the_login(okex, frames):
    connection = okex.connect()
    say(connection, frames, op="login", args=[login()])
    (answer,) = say(connection, frames, op="subscribe", args=[{"channel": "books-l2-tbt", "instId": INST}])
    assert answer["code"] == "64003"


@pytest.mark.parametrize(
    ("arg", "code"),
    [
        (login(apiKey="other"), "60005"),
        (login(passphrase="other"), "60024"),
        (login(timestamp="soon"), "60004"),
        (login(timestamp="2026-11-21T16:00:00.000Z"), "60004"),
        (login(timestamp="1795305500"), "60006"),
        (login(secret="other"), "60007"),
        ({**login(), "sign": None}, "60007"),
        ("key", "60013"),
    ],
)
def test_a_wrong_login_is_refused_by_code(okex, frames, arg, code):
    (answer,) = say(okex.connect("private"), frames, op="login", args=[arg])
    assert (answer["event"], answer["code"]) == ("error", code)


def test_secrets_stay_out_of_the_repr():
    assert "hunter2" not in repr(Secrets("key", "hunter2", "hunter2"))


@pytest.mark.parametrize(
    ("query", "headers"), [("", {"x-simulated-trading": "1"}), ("brokerId=9999", None), ("", None)]
)
def test_a_key_of_the_demo_logs_in_where_the_demo_is_asked_for(query, headers):
    keys = Secrets("key", "secret", "pass phrase", is_demo_only=True)
    venue = OkexServer(Flow(1, 1_795_305_600 * S), keys)
    connection = venue.connect("/ws/v5/private", query, 0, headers)
    connection.receive_text(json.dumps({"op": "login", "args": [login()]}), 0)
    answer = json.loads(connection.texts_to_send()[0])
    assert answer["code"] == ("0" if query or headers else "60032")


# What faults do to connections


def test_drop_cuts_all_connections_or_one(okex):
    one, other = okex.connect(), okex.connect()
    okex.venue.faults.inject("drop", {"conn_id": one.conn_id}, 0)
    okex.pass_time(10)
    assert (one.close_code, other.close_code) == (CLOSE_ABORT, None)
    okex.venue.faults.inject("drop", {}, 0)
    okex.pass_time(10)
    assert other.close_code == CLOSE_ABORT


def test_notice_comes_before_the_end(okex, frames, recorded):
    connection = okex.listen("trades", INST)
    frames(connection)
    okex.venue.faults.inject("notice", {"seconds": 2}, 0)
    okex.pass_time(10)
    notice = next(frame for frame in frames(connection) if frame.get("event") == "notice")
    assert notice == {**recorded("ws_notice_64008"), "connId": connection.conn_id}
    okex.run(1900)
    okex.venue.publish(okex.now_ns, okex.real_ns + 10_000_000_000)  # the clock stands meanwhile
    assert connection.close_code is None
    okex.run(200)
    assert connection.close_code == 1001


def test_refuse_turns_clients_away(okex):
    okex.pass_time(10)
    okex.venue.faults.inject("refuse", {"duration_s": 5}, okex.real_ns)
    assert okex.venue.connect("/ws/v5/public", "", okex.real_ns) == Refusal(503, "Service Unavailable")
    okex.run(5000, step_ms=100)
    assert not isinstance(okex.venue.connect("/ws/v5/public", "", okex.real_ns), Refusal)


def test_revoked_keys_end_what_is_logged_in_and_open_nothing(trader, okex):
    public = okex.connect()
    okex.venue.faults.inject("revoked", {"duration_s": 5}, okex.real_ns)
    okex.run(100)
    assert (trader.connection.close_code, public.close_code) == (4007, None)
    assert trader.ask("GET", "account/balance")[0] == 401
    okex.run(5_000)
    assert trader.ask("GET", "account/balance")[1]["code"] == "0"
