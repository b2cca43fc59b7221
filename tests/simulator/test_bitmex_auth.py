"""Signatures of the simulated BitMEX: the published vectors, and what is refused in which words."""

import json
from pathlib import Path

import pytest

from dquant.simulator.bitmex_auth import ApiKey, AuthRefused, KeyRing, credentials_in, sign
from dquant.simulator.venue import Refusal, RestRequest

# Fact sheet, section 4: the documented sample key, and two vectors of bitmex-cli.
SECRET = "chNOOS4KvNXR_Xq4k4c9qsfoKWvnDecLATCRlcBwyKDYnWgO"
BODY = '{"symbol":"XBTM15","price":219.0,"clOrdID":"mm_bitmex_1a/oemUeQ4CAJZgP3fjHsA","orderQty":98}'
FILTERED = "/api/v1/instrument?filter=%7B%22symbol%22%3A+%22XBTM15%22%7D"
VECTORS = [
    (SECRET, "GET", "/api/v1/instrument", "1518064236", "", "c7682d435d0cfe87c16098df34ef2eb5"),
    (SECRET, "GET", FILTERED, "1518064237", "", "e2f422547eecb5b3cb29ade2127e21b8"),
    (SECRET, "POST", "/api/v1/order", "1518064238", BODY, "1749cd2ccae4aa49048ae09f0b95110c"),
    ("secret", "GET", "/api/v1/order", "1518064236", "", "05b241833763473e08eff9bc87f8850a"),
    (
        "secret",
        "POST",
        "/api/v1/order",
        "1518064238",
        '{"symbol":"XBTUSD"}',
        "37a90d9a89f8dc9d6e2edf88dc8609e8",
    ),
    (SECRET, "GET", "/realtime", "1518064236", "", "6d459dc02866d35a2b965edeecc68063"),
]
FIXTURE = Path(__file__).resolve().parents[3] / "shared" / "fixtures" / "bitmex" / "auth_vectors.json"


@pytest.mark.parametrize(("secret", "verb", "path", "expires", "body", "starts"), VECTORS)
def test_published_vectors_come_out(secret, verb, path, expires, body, starts):
    signature = sign(secret, verb, path, expires, body.encode())
    assert signature.startswith(starts)
    ring = KeyRing([ApiKey("id", secret, 7)])
    assert ring.check(("id", expires, signature), verb, path, body.encode(), 1_518_064_000).account == 7


def test_all_recorded_vectors_come_out_in_full():
    if not FIXTURE.exists():
        pytest.skip(f"{FIXTURE} is not there: payloads of the venue live beside the repo")
    vectors = json.loads(FIXTURE.read_text())["vectors"]
    assert len(vectors) >= 7
    for vector in vectors:
        expires, body = str(vector["expires"]), vector["body"].encode()
        assert sign(vector["apiSecret"], vector["verb"], vector["path"], expires, body) == vector["signature"]


@pytest.mark.parametrize(
    ("key", "expires", "spoil", "status", "message"),
    [
        ("other", "2000", "", 401, "Invalid API Key."),
        ("id", "2000", "x", 401, "Signature not valid."),
        ("id", "1999", "", 400, "This request has expired - `expires` is in the past. Current time: 2000"),
        ("id", "soon", "", 400, "Invalid `expires`: a UNIX time in seconds is due."),
        ("id", None, "", 401, "Missing `expires`."),
        ("id", True, "", 401, "Missing `expires`."),
        (["id"], "2000", "", 401, "Invalid API Key."),
    ],
)
def test_what_is_not_right_is_refused_in_the_venues_words(key, expires, spoil, status, message):
    ring = KeyRing([ApiKey("id", "secret", 7)])
    signature = sign("secret", "GET", "/api/v1/order", str(expires)) + spoil
    with pytest.raises(AuthRefused) as refused:
        ring.check((key, expires, signature), "GET", "/api/v1/order", b"", 2_000)
    assert (refused.value.status, refused.value.message) == (status, message)


def test_an_expiry_in_milliseconds_is_far_ahead_and_taken():
    ring = KeyRing([ApiKey("id", "secret", 7)])
    expires = "1782921605000"
    assert ring.check_websocket(("id", expires, sign("secret", "GET", "/realtime", expires)), 1_782_921_600)


def test_secrets_are_in_no_repr():
    assert "hidden" not in repr(ApiKey("id", "hidden", 7))


def test_credentials_are_found_whatever_the_case_of_headers():
    assert credentials_in({"Api-Key": "a", "API-EXPIRES": "1", "api-signature": "s"}) == ("a", "1", "s")
    assert credentials_in({"accept": "*/*"}) is None


def test_a_signature_covers_query_and_body_as_sent(bitmex):
    """The same words in another order or spelling are another request."""
    body = b'{"symbol": "XBTUSD", "orderQty": 100, "price": 80000}'
    headers = bitmex.signed("POST", "/api/v1/order", body)
    for sent, target, status in (
        (body, "/api/v1/order", 200),
        (body.replace(b" ", b""), "/api/v1/order", 401),
        (body, "/api/v1/order?x=1", 401),
    ):
        asked = RestRequest("POST", "/api/v1/order", {}, sent, headers, target)
        assert bitmex.venue.answer(asked, bitmex.now_ns).status == status


def test_a_replayed_request_is_refused_once_it_has_expired(bitmex):
    headers = bitmex.signed("GET", "/api/v1/position")
    asked = RestRequest("GET", "/api/v1/position", {}, b"", headers, "/api/v1/position")
    assert bitmex.venue.answer(asked, bitmex.now_ns).status == 200
    bitmex.run(7_000)
    late = bitmex.venue.answer(asked, bitmex.now_ns)
    assert late.status == 400
    assert json.loads(late.body)["error"]["message"].startswith("This request has expired - `expires` is")


def test_a_clock_that_leaps_ahead_does_not_shut_out_clients_with_clocks_of_their_own(bitmex):
    headers = bitmex.signed("GET", "/api/v1/position")
    bitmex.leap_to(bitmex.now_ns + 3_600_000_000_000)
    asked = RestRequest("GET", "/api/v1/position", {}, b"", headers, "/api/v1/position")
    assert bitmex.venue.answer(asked, bitmex.now_ns).status == 200


def test_what_is_not_of_the_api_is_not_found_with_and_without_a_key(bitmex):
    for path in ("/", "/foo", "/api/v2/order", "/api/v1/order/bulk", "/api/v1/nowhere"):
        for headers in ({}, bitmex.signed("GET", path)):
            asked = RestRequest("GET", path, {}, b"", headers, path)
            assert bitmex.venue.answer(asked, bitmex.now_ns).status == 404


def test_private_routes_want_a_key(bitmex):
    answer = bitmex.venue.answer(RestRequest("GET", "/api/v1/position"), bitmex.now_ns)
    assert (answer.status, json.loads(answer.body)["error"]["name"]) == (401, "HTTPError")


def test_a_clock_that_is_ahead_refuses_what_was_signed_in_time(bitmex):
    bitmex.venue.faults.inject("skew", {"seconds": 60}, bitmex.real_ns)
    status, body = bitmex.ask("GET", "/position")
    assert (status, "has expired" in body["error"]["message"]) == (400, True)


def test_a_websocket_logs_in_by_op_by_headers_and_by_query(bitmex):
    fields = bitmex.signed("GET", "/realtime")
    by_headers = bitmex.venue.connect("/realtime", "subscribe=margin", 0, fields)
    query = "&".join(f"{name}={value}" for name, value in fields.items())
    by_query = bitmex.venue.connect("/realtime", f"{query}&subscribe=margin", 0, {})
    by_op = bitmex.listen("margin")
    assert by_headers.account == by_query.account == by_op.account == 100_001
    for connection in (by_headers, by_query):
        assert json.loads(connection.texts_to_send()[-1])["table"] == "margin"


def test_an_upgrade_with_a_bad_signature_is_a_401(bitmex):
    fields = bitmex.signed("GET", "/realtime") | {"api-signature": "0" * 64}
    refusal = bitmex.venue.connect("/realtime", "", 0, fields)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, "Signature not valid." in refusal.body) == (401, True)


def test_logging_in_twice_is_an_error_and_a_private_topic_without_login_too(bitmex):
    connection = bitmex.listen()
    connection.receive_text('{"op": "authKeyExpires", "args": ["key-one", 1, "x"]}', 0)
    assert json.loads(connection.texts_to_send()[0])["status"] == 400
    stranger = bitmex.venue.connect("/realtime", "", 0)
    stranger.texts_to_send()
    for frame in ({"op": "subscribe", "args": "order"}, {"op": "cancelAllAfter", "args": 1000}):
        stranger.receive_text(json.dumps(frame), 0)
        answer = json.loads(stranger.texts_to_send()[0])
        assert (answer["status"], answer["request"]) == (401, frame)


def test_the_login_is_acknowledged_as_recorded(bitmex):
    connection = bitmex.venue.connect("/realtime", "", 0)
    connection.texts_to_send()
    fields = bitmex.signed("GET", "/realtime")
    args = [fields["api-key"], int(fields["api-expires"]), fields["api-signature"]]
    connection.receive_text(json.dumps({"op": "authKeyExpires", "args": args}), 0)
    request = {"op": "authKeyExpires", "args": args}
    assert [json.loads(text) for text in connection.texts_to_send()] == [
        {"success": True, "request": request}
    ]
