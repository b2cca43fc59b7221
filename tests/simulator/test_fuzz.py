"""Any bytes on any socket, any JSON, any REST request: a venue-like answer or a close, never a crash."""

import asyncio
import base64
import hashlib
import hmac
import json
import random
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dquant.simulator.bitmex_server import BitmexServer
from dquant.simulator.clock import VirtualClock
from dquant.simulator.flow import Flow
from dquant.simulator.okex_login import Secrets
from dquant.simulator.okex_server import OkexServer
from dquant.simulator.process import KEYS, bitmex_accounts
from dquant.simulator.rest_faults import answer_with_faults
from dquant.simulator.server import SimulatedVenues
from dquant.simulator.venue import RestRequest

START = 1_795_305_600_000_000_000  # Sunday 2026-11-22 00:00 UTC
DEADLINE_S = 15.0
OKEX, BITMEX = KEYS["okex"], KEYS["bitmex"]

OKEX_GET = [
    "public/instruments",
    "market/ticker",
    "market/books",
    "market/trades",
    "market/candles",
    "public/funding-rate",
    "account/balance",
    "account/positions",
    "account/config",
    "account/bills",
    "account/max-size",
    "account/leverage-info",
    "trade/order",
    "trade/fills",
    "trade/orders-pending",
    "trade/orders-history",
    "asset/balances",
    "nowhere",
]
OKEX_POST = [
    "trade/order",
    "trade/batch-orders",
    "trade/cancel-order",
    "trade/cancel-batch-orders",
    "trade/amend-order",
    "trade/amend-batch-orders",
    "trade/close-position",
    "trade/cancel-all-after",
    "account/set-leverage",
    "account/set-position-mode",
]
BITMEX_PATHS = [
    "instrument",
    "instrument/active",
    "orderBook/L2",
    "trade",
    "trade/bucketed",
    "quote",
    "funding",
    "order",
    "order/all",
    "order/bulk",
    "order/cancelAllAfter",
    "order/closePosition",
    "position",
    "position/leverage",
    "position/isolate",
    "execution",
    "execution/tradeHistory",
    "user",
    "user/margin",
    "user/wallet",
    "user/walletHistory",
    "settlement",
    "nowhere",
]
KEYS_OFTEN = [
    "instId",
    "instIdCode",
    "ordId",
    "clOrdId",
    "side",
    "ordType",
    "sz",
    "px",
    "tdMode",
    "posSide",
    "reduceOnly",
    "expTime",
    "tag",
    "timeOut",
    "lever",
    "mgnMode",
    "posMode",
    "ccy",
    "newSz",
    "newPx",
    "symbol",
    "orderQty",
    "price",
    "stopPx",
    "execInst",
    "timeInForce",
    "orderID",
    "clOrdID",
    "origClOrdID",
    "leverage",
    "timeout",
    "filter",
    "columns",
    "count",
    "start",
    "reverse",
    "startTime",
    "endTime",
    "args",
    "op",
    "id",
    "channel",
    "instType",
    "code",
]
VALUES_OFTEN = [
    "BTC-USD-SWAP",
    "BTC-USD-261127",
    "XBTUSD",
    "buy",
    "sell",
    "Buy",
    "Sell",
    "limit",
    "market",
    "post_only",
    "fok",
    "ioc",
    "optimal_limit_ioc",
    "Limit",
    "Market",
    "Stop",
    "cross",
    "net",
    "long",
    "short",
    "long_short_mode",
    "1",
    "0.1",
    "100",
    "-1",
    "0",
    "1e400",
    "NaN",
    "84000",
    "84000.05",
    "ParticipateDoNotInitiate",
    "ReduceOnly",
    "Close",
    "GoodTillCancel",
    "FillOrKill",
    "true",
    "false",
    "subscribe",
    "login",
    "order",
    "batch-orders",
    "cancel-order",
    "amend-order",
    "authKeyExpires",
    "cancelAllAfter",
    "books",
    "orders",
    "account",
    "positions",
    "orderBookL2:XBTUSD",
    "order:XBTUSD",
]

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**25), 10**25)
    | st.floats(allow_nan=False)
    | st.text(max_size=12)
    | st.sampled_from(VALUES_OFTEN)
)
keys = st.sampled_from(KEYS_OFTEN) | st.text(max_size=6)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=6),
    max_leaves=12,
)
objects = st.dictionaries(st.sampled_from(KEYS_OFTEN), values, max_size=8)
orders = st.fixed_dictionaries(
    {
        "instId": st.sampled_from(["BTC-USD-SWAP", "BTC-USDT", "BTC-USD-261127"]) | values,
        "symbol": st.sampled_from(["XBTUSD", "ETHUSD"]) | values,
        "tdMode": st.sampled_from(["cross", "cash"]) | values,
        "side": st.sampled_from(["buy", "sell", "Buy", "Sell"]) | values,
        "ordType": st.sampled_from(["limit", "market", "Limit", "Market", "post_only"]) | values,
        "sz": st.sampled_from(["1", "0.1", "5"]) | values,
        "px": st.sampled_from(["84000", "1", "200000", "84000.05"]) | values,
        "orderQty": st.sampled_from([100, -100, 1000]) | values,
        "price": st.sampled_from([84000, 83999.5, 1e9]) | values,
    },
    optional=dict.fromkeys(
        ("clOrdId", "clOrdID", "reduceOnly", "execInst", "expTime", "posSide", "tag"), values
    ),
)
commands = st.fixed_dictionaries(
    {
        "op": st.sampled_from(
            [
                "subscribe",
                "unsubscribe",
                "login",
                "order",
                "batch-orders",
                "cancel-order",
                "amend-order",
                "batch-cancel-orders",
                "mass-cancel",
                "authKeyExpires",
                "cancelAllAfter",
                "ping",
            ]
        )
        | values,
        "args": st.lists(orders | objects | values, max_size=3) | values,
    },
    optional={"id": values, "expTime": values},
)


def _okex_headers(method: str, target: str, body: bytes, at_ns: int = START) -> dict[str, str]:
    stamp = datetime.fromtimestamp(at_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    text = f"{stamp}{method}{target}".encode("utf-8", "surrogateescape") + body
    signature = base64.b64encode(hmac.new(OKEX["secret"].encode(), text, hashlib.sha256).digest()).decode()
    return {
        "ok-access-key": OKEX["apiKey"],
        "ok-access-sign": signature,
        "ok-access-timestamp": stamp,
        "ok-access-passphrase": OKEX["passphrase"],
        "content-type": "application/json",
    }


def _bitmex_headers(
    method: str, target: str, body: bytes, expires_s: int = START // 10**9 + 60
) -> dict[str, str]:
    text = f"{method}{target}{expires_s}".encode("utf-8", "surrogateescape") + body
    signature = hmac.new(BITMEX["secret"].encode(), text, hashlib.sha256).hexdigest()
    return {"api-key": BITMEX["apiKey"], "api-expires": str(expires_s), "api-signature": signature}


class World:
    """Both venues with an account each, without sockets; real time passes so that no limit refuses."""

    def __init__(self) -> None:
        self.flow = Flow(5, START)
        secrets = Secrets(OKEX["apiKey"], OKEX["secret"], OKEX["passphrase"])
        self.okex = OkexServer(self.flow, secrets)
        self.bitmex = BitmexServer(self.flow, rest_per_minute=10**9, accounts=bitmex_accounts(1))
        self.real_ns = 10**12

    def ask(
        self, venue: Any, method: str, path: str, query: dict[str, str], body: bytes, signed: bool
    ) -> Any:
        self.real_ns += 60 * 10**9
        venue.publish(venue.now_ns, self.real_ns)
        target = path + ("?" + "&".join(f"{quote(k)}={quote(v)}" for k, v in query.items()) if query else "")
        headers = {}
        if signed:
            sign = _okex_headers if venue is self.okex else _bitmex_headers
            headers = sign(method, target, body)
        request = RestRequest(method, path, query, body, headers, target, "127.0.0.1")
        return answer_with_faults(venue, request, venue.now_ns, self.real_ns)

    def logged_in(self, venue: Any) -> Any:
        if venue is self.okex:
            connection: Any = venue.connect("/ws/v5/private", "", self.real_ns)
            stamp = str(START // 10**9)
            text = f"{stamp}GET/users/self/verify".encode()
            signature = base64.b64encode(
                hmac.new(OKEX["secret"].encode(), text, hashlib.sha256).digest()
            ).decode()
            arg = {
                "apiKey": OKEX["apiKey"],
                "passphrase": OKEX["passphrase"],
                "timestamp": stamp,
                "sign": signature,
            }
            connection.receive_text(json.dumps({"op": "login", "args": [arg]}), self.real_ns)
        else:
            connection = venue.connect("/realtime", "", self.real_ns)
            expires = START // 10**9 + 60
            signature = hmac.new(
                BITMEX["secret"].encode(), f"GET/realtime{expires}".encode(), hashlib.sha256
            ).hexdigest()
            op = {"op": "authKeyExpires", "args": [BITMEX["apiKey"], expires, signature]}
            connection.receive_text(json.dumps(op), self.real_ns)
        return connection


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def _is_venue_like(venue: str, answer: Any) -> None:
    assert 200 <= answer.status < 600
    assert answer.status != 500, answer.body
    if "json" in answer.content_type:
        shown = json.loads(answer.body)
        if venue == "okex":
            assert {"code", "msg"} <= shown.keys(), shown
        elif answer.status >= 400:
            assert set(shown["error"]) == {"message", "name"}, shown


@settings(max_examples=150, deadline=None)
@given(
    path=st.sampled_from(OKEX_GET) | st.text(max_size=10),
    query=st.dictionaries(keys, st.sampled_from(VALUES_OFTEN) | st.text(max_size=12), max_size=5),
    signed=st.booleans(),
)
def test_any_query_at_okex_is_answered(world, path, query, signed):
    _is_venue_like("okex", world.ask(world.okex, "GET", f"/api/v5/{path}", query, b"", signed))


@settings(max_examples=120, deadline=None)
@given(
    method=st.sampled_from(["POST", "POST", "PUT", "DELETE"]),
    path=st.sampled_from(OKEX_POST),
    body=(orders | objects | values | st.lists(orders, max_size=3)).map(lambda v: json.dumps(v).encode())
    | st.binary(max_size=40),
)
def test_any_body_at_okex_is_answered(world, method, path, body):
    _is_venue_like("okex", world.ask(world.okex, method, f"/api/v5/{path}", {}, body, True))


@settings(max_examples=150, deadline=None)
@given(
    path=st.sampled_from(BITMEX_PATHS) | st.text(max_size=10),
    query=st.dictionaries(keys, st.sampled_from(VALUES_OFTEN) | st.text(max_size=12), max_size=5),
    signed=st.booleans(),
)
def test_any_query_at_bitmex_is_answered(world, path, query, signed):
    _is_venue_like("bitmex", world.ask(world.bitmex, "GET", f"/api/v1/{path}", query, b"", signed))


@settings(max_examples=250, deadline=None)
@given(
    method=st.sampled_from(["POST", "POST", "PUT", "DELETE"]),
    path=st.sampled_from(BITMEX_PATHS),
    body=(orders | objects | values).map(lambda v: json.dumps(v).encode()) | st.binary(max_size=40),
)
def test_any_body_at_bitmex_is_answered(world, method, path, body):
    _is_venue_like("bitmex", world.ask(world.bitmex, method, f"/api/v1/{path}", {}, body, True))


@settings(max_examples=120, deadline=None)
@given(texts=st.lists((commands | values).map(json.dumps) | st.text(max_size=60), min_size=1, max_size=6))
@pytest.mark.parametrize("name", ["okex", "bitmex"])
def test_any_text_on_a_logged_in_websocket_is_answered_or_ends_it(world, name, texts):
    venue = getattr(world, name)
    connection = world.logged_in(venue)
    for text in texts:
        connection.receive_text(text, world.real_ns)
    for text in connection.texts_to_send():
        assert text == "pong" or isinstance(json.loads(text), dict)
    venue.disconnected(connection)


# Signatures


def test_okex_refuses_what_is_not_signed_now_by_its_owner(world):
    target = "/api/v5/account/balance"
    good = _okex_headers("GET", target, b"")
    ask = lambda headers: json.loads(  # noqa: E731 - three words, used below only
        answer_with_faults(
            world.okex, RestRequest("GET", target, {}, b"", headers, target), START, world.real_ns
        ).body
    )["code"]
    assert ask(good) == "0"
    assert ask({**good, "ok-access-sign": good["ok-access-sign"][::-1]}) == "50113"
    assert ask({**good, "ok-access-passphrase": "x"}) == "50105"
    assert ask(_okex_headers("GET", target, b"", START - 31 * 10**9)) == "50102"
    assert ask(_okex_headers("GET", target, b"", START + 31 * 10**9)) == "50102"
    assert ask(_okex_headers("POST", target, b"")) == "50113"
    assert ask(_okex_headers("GET", target + "?ccy=BTC", b"")) == "50113"


def test_bitmex_refuses_what_is_not_signed_now_by_its_owner(world):
    target = "/api/v1/user/margin"
    good = _bitmex_headers("GET", target, b"")

    def ask(headers: dict[str, str]) -> int:
        request = RestRequest("GET", target, {}, b"", headers, target)
        return answer_with_faults(world.bitmex, request, START, world.real_ns).status

    assert ask(good) == 200
    assert ask({**good, "api-signature": good["api-signature"][::-1]}) == 401
    assert ask({**good, "api-key": "nobody"}) == 401
    assert ask(_bitmex_headers("GET", target, b"", START // 10**9 - 1)) in (400, 401)
    assert ask(_bitmex_headers("POST", target, b"")) == 401


def test_a_replayed_request_is_refused_once_its_time_is_over(world):
    """Both venues know a replay by its time alone: 30 s of OKX, ``expires`` of BitMEX."""
    for venue, target, headers, later_s in (
        (world.okex, "/api/v5/account/config", _okex_headers, 31),
        (world.bitmex, "/api/v1/user", _bitmex_headers, 61),
    ):
        request = RestRequest("GET", target, {}, b"", headers("GET", target, b""), target)
        assert venue.answer(request, START).status == 200
        late = World()
        other = late.okex if venue is world.okex else late.bitmex
        # Real time passes too: a clock that only leaps does not outdate what clients sign with their own.
        other.publish(START, 0)
        other.publish(START + later_s * 10**9, later_s * 10**9)
        assert other.answer(request, START + later_s * 10**9).status in (400, 401)


def test_a_skewed_clock_refuses_honest_requests_until_it_is_right_again():
    world = World()
    for venue, target, headers in (
        (world.okex, "/api/v5/account/balance", _okex_headers),
        (world.bitmex, "/api/v1/user/margin", _bitmex_headers),
    ):
        request = RestRequest("GET", target, {}, b"", headers("GET", target, b""), target)
        fault = venue.faults.inject("skew", {"seconds": 120}, world.real_ns)
        venue.publish(START, world.real_ns)
        assert venue.answer(request, START).status in (400, 401)
        venue.faults.lift(fault)
        assert venue.answer(request, START).status == 200


def test_faults_of_requests_bite_operations_of_a_websocket_too():
    """50004 leaves open whether the order lives: here the first does, the second does not."""
    world = World()
    connection, exchange = world.logged_in(world.okex), world.okex.exchange
    connection.texts_to_send()
    code = next(row.row["instIdCode"] for name, row in world.okex.listings.items() if name == "BTC-USD-SWAP")
    order = {
        "instIdCode": code,
        "tdMode": "cross",
        "side": "buy",
        "ordType": "limit",
        "sz": "1",
        "px": "83900",
    }

    def operate() -> tuple[list[str], int]:
        connection.receive_text(json.dumps({"id": "1", "op": "order", "args": [order]}), world.real_ns)
        answers = [json.loads(text) for text in connection.texts_to_send()]
        return [answer["code"] for answer in answers if "op" in answer], len(exchange.open_orders("main"))

    for fault, params in (
        ("timeout", {}),
        ("timeout", {"done": False}),
        ("rate_limited", {}),
        ("overloaded", {}),
        ("lost_answer", {}),
    ):
        world.okex.faults.inject(fault, {"method": "WS", "path": "order", **params}, world.real_ns)
    assert [operate() for _ in range(6)] == [
        (["50004"], 1),
        (["50004"], 1),
        (["50011"], 1),
        (["50001"], 1),
        ([], 2),
        (["0"], 3),
    ]


# Real sockets


@pytest.fixture
async def venues() -> AsyncIterator[SimulatedVenues]:
    flow = Flow(5, START)
    secrets = Secrets(OKEX["apiKey"], OKEX["secret"], OKEX["passphrase"])
    served = [
        OkexServer(flow, secrets),
        BitmexServer(flow, rest_per_minute=10**9, accounts=bitmex_accounts(1)),
    ]
    made = SimulatedVenues(flow, served, VirtualClock(START, time.monotonic_ns()))
    await made.start()
    yield made
    await made.stop()


async def _throw(host: str, port: int, data: bytes) -> bytes:
    """Send bytes on a fresh connection, read what comes until it is quiet or closed."""
    reader, writer = await asyncio.open_connection(host, port)
    received = b""
    try:
        writer.write(data)
        await writer.drain()
        async with asyncio.timeout(0.05):
            while chunk := await reader.read(65536):
                received += chunk
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.transport.abort()
    return received


def _junk(rng: random.Random) -> bytes:
    kind = rng.randrange(6)
    if kind == 0:
        return rng.randbytes(rng.randrange(1, 400))
    if kind == 1:
        return b"GET " + rng.randbytes(20) + b" HTTP/1.1\r\n\r\n"
    if kind == 2:
        return b"POST /api/v5/trade/order HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n{"
    if kind == 3:
        return b"GET /ws/v5/public HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n" + rng.randbytes(60)
    if kind == 4:
        return b"POST /order HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
    header = b"X-" + bytes(rng.choices(range(33, 126), k=10)) + b": " + rng.randbytes(30)
    return b"GET /state HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n\r\n"


async def test_any_bytes_on_any_socket_leave_the_venues_running(venues: SimulatedVenues) -> None:
    rng = random.Random(11)
    async with asyncio.timeout(DEADLINE_S):
        for _ in range(12):
            doors = [name for name in ("okex", "bitmex", "control") for _ in range(4)]
            await asyncio.gather(*(_throw(venues.host, venues.ports[name], _junk(rng)) for name in doors))
        await _still_runs(venues)


async def test_any_frame_on_a_websocket_leaves_the_venues_running(venues: SimulatedVenues) -> None:
    rng = random.Random(12)
    urls = [f"{venues.base('okex')}/ws/v5/{kind}" for kind in ("public", "private", "business")]
    urls.append(f"{venues.base('bitmex')}/realtime")
    async with asyncio.timeout(DEADLINE_S), aiohttp.ClientSession() as session:
        for url in urls * 3:
            async with session.ws_connect(url) as ws:
                for _ in range(10):
                    text = json.dumps({"op": rng.choice(["subscribe", "order", 3]), "args": [rng.random()]})
                    await ws.send_str(rng.choice([text, "ping", "[" * 5000, "\x00", "{}", '{"op": "order"}']))
                match rng.randrange(3):
                    case 0:
                        await ws.send_bytes(rng.randbytes(50))
                    case 1:
                        await ws.ping(b"x" * 125)
                    case _:
                        ws._writer.transport.write(rng.randbytes(200))  # type: ignore[union-attr]
                with_timeout = asyncio.timeout(0.1)
                try:
                    async with with_timeout:
                        async for _message in ws:
                            pass
                except TimeoutError:
                    pass
        await _still_runs(venues)


class _Watcher:
    """Stands where a scenario's player does: tells when the venues' clock has moved on."""

    is_over = False

    def __init__(self, since_ns: int, moved: asyncio.Event) -> None:
        self._since_ns, self._moved = since_ns, moved

    def play(self, now_ns: int, _real_ns: int) -> None:
        if now_ns > self._since_ns:
            self._moved.set()

    def see(self, _note: dict[str, Any]) -> None:
        """Take a note of a venue."""


async def _still_runs(venues: SimulatedVenues) -> None:
    before, played = venues.flow.now_ns, asyncio.Event()
    venues.players.append(_Watcher(before, played))  # type: ignore[arg-type]
    async with aiohttp.ClientSession() as session:
        async with session.get(venues.base("okex") + "/api/v5/public/time") as answer:
            assert (await answer.json())["code"] == "0"
        async with session.get(venues.base("bitmex") + "/api/v1/instrument?symbol=XBTUSD") as answer:
            assert (await answer.json())[0]["symbol"] == "XBTUSD"
        await played.wait()
