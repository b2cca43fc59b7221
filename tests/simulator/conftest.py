"""Helpers for the simulated venues: a bench of each, driven without sockets, and recorded payloads."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlencode

import pytest

from dquant.simulator.bitmex_auth import sign as bitmex_sign
from dquant.simulator.bitmex_private import SimulatedAccount
from dquant.simulator.bitmex_server import BitmexServer
from dquant.simulator.flow import Flow
from dquant.simulator.okex_connection import OkexConnection
from dquant.simulator.okex_login import Secrets
from dquant.simulator.okex_login import sign as okex_sign
from dquant.simulator.okex_server import OkexOptions, OkexServer
from dquant.simulator.venue import RestRequest
from tests.simulator.exchange_bench import Bench

MS = 1_000_000
SECRETS = Secrets("key", "secret", "pass phrase")
FIXTURES = Path(__file__).resolve().parents[3] / "shared" / "fixtures" / "okx"


def utc(*when: int) -> int:
    """Return a time of day in UTC as ns since the epoch."""
    return int(datetime(*when, tzinfo=UTC).timestamp()) * 1_000 * MS


class OkexBench:
    """A venue, its flow and a stepped clock."""

    def __init__(self, start_ns: int, seed: int = 7, options: OkexOptions | None = None) -> None:
        self.now_ns, self.real_ns = start_ns, 0
        self.flow = Flow(seed, start_ns)
        self.venue = OkexServer(self.flow, SECRETS, options)

    def connect(self, kind: str = "public") -> OkexConnection:
        connection = self.venue.connect(f"/ws/v5/{kind}", "", self.real_ns)
        assert isinstance(connection, OkexConnection)
        return connection

    def subscribe(self, connection: OkexConnection, *args: dict[str, Any]) -> None:
        connection.receive_text(json.dumps({"op": "subscribe", "args": list(args)}), self.real_ns)

    def listen(self, channel: str, inst_id: str) -> OkexConnection:
        """Return a connection with one subscription, its ack taken off."""
        connection = self.connect()
        self.subscribe(connection, {"channel": channel, "instId": inst_id})
        texts = connection.texts_to_send()
        assert json.loads(texts[0])["event"] == "subscribe", texts[0]
        connection._outgoing.extend(texts[1:])
        return connection

    def run(self, ms: int, step_ms: int = 10) -> None:
        for _ in range(ms // step_ms):
            self.pass_time(step_ms)

    def pass_time(self, ms: int) -> None:
        self.now_ns += ms * MS
        self.real_ns += ms * MS
        self.flow.advance(self.now_ns)
        self.venue.publish(self.now_ns, self.real_ns)

    def idle(self, ms: int) -> None:
        """Let time pass in which nothing happens in any book."""
        self.now_ns += ms * MS
        self.real_ns += ms * MS
        self.venue.publish(self.now_ns, self.real_ns)

    def get(self, path: str, **query: str) -> tuple[int, dict[str, Any]]:
        answer = self.venue.answer(RestRequest("GET", f"/api/v5/{path}", query), self.now_ns)
        return answer.status, json.loads(answer.body)


@pytest.fixture
def okex() -> OkexBench:
    """A simulated OKX on a Sunday."""
    return OkexBench(utc(2026, 11, 22))


@pytest.fixture
def okex_at() -> Callable[..., OkexBench]:
    """Make a simulated OKX at a time and with options of the test's own."""
    return lambda *when, **more: OkexBench(utc(*when), **more)


class OkexTrader:
    """A client of the simulated OKX with a key: one private websocket and signed REST."""

    def __init__(self, bench: OkexBench, secrets: Secrets = SECRETS) -> None:
        self.bench, self.secrets = bench, secrets
        self.connection = self.login()

    def login(self) -> OkexConnection:
        """Return a new private connection that has logged in."""
        connection = self.bench.connect("private")
        connection.receive_text(self.login_text(), self.bench.real_ns)
        (frame,) = connection.texts_to_send()
        assert json.loads(frame)["code"] == "0", frame
        return connection

    def login_text(self) -> str:
        """Return the frame that logs in now."""
        timestamp = str(self.bench.now_ns // 1_000_000_000)
        arg = {"apiKey": self.secrets.api_key, "passphrase": self.secrets.passphrase, "timestamp": timestamp}
        arg["sign"] = okex_sign(self.secrets.secret, f"{timestamp}GET/users/self/verify")
        return json.dumps({"op": "login", "args": [arg]})

    def frames(self) -> list[dict[str, Any]]:
        """Take what the private connection has to say."""
        return [json.loads(text) for text in self.connection.texts_to_send()]

    def listen(self, *args: dict[str, Any]) -> list[dict[str, Any]]:
        """Subscribe; return what comes back."""
        self.bench.subscribe(self.connection, *args)
        return self.frames()

    def code(self, inst_id: str) -> int:
        return self.bench.venue.listings[inst_id].code

    def op(self, op: str, *args: dict[str, Any], **top: Any) -> list[dict[str, Any]]:
        """Send an operation; return its answer and what follows at once."""
        request = {"id": "a1", "op": op, "args": list(args), **top}
        self.connection.receive_text(json.dumps(request), self.bench.real_ns)
        return self.frames()

    def place(self, inst_id: str = "BTC-USD-SWAP", **fields: Any) -> list[dict[str, Any]]:
        """Place an order by websocket; return its answer and what follows at once."""
        td_mode = "cash" if inst_id == "BTC-USDT" else "cross"
        arg = {
            "instIdCode": self.code(inst_id),
            "tdMode": td_mode,
            "side": "buy",
            "ordType": "limit",
            "sz": "1",
        }
        return self.op("order", arg | fields)

    def order_states(self, frames: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
        """Return (state, cancelSource, fillSz) of the order pushes among frames."""
        rows = [
            row
            for frame in frames
            if frame.get("arg", {}).get("channel") == "orders"
            for row in frame["data"]
        ]
        return [(row["state"], row["cancelSource"], row["fillSz"]) for row in rows]

    def price(self, inst_id: str = "BTC-USD-SWAP", side: str = "bid", ticks: int = 0) -> str:
        """Return a price so many ticks above the best of a side."""
        market = self.bench.venue.feeds[inst_id].market
        best = market.book.best_bid if side == "bid" else market.book.best_ask
        assert best is not None
        return market.tick.text(best + ticks)

    def ask(self, method: str, path: str, body: Any = None, **query: str) -> tuple[int, Any]:
        """Send a signed REST request; return status and answer."""
        answer = self.bench.venue.answer(self.signed(method, path, body, query), self.bench.now_ns)
        return answer.status, json.loads(answer.body)

    def signed(self, method: str, path: str, body: Any, query: dict[str, str], **more: str) -> RestRequest:
        """Return a signed REST request."""
        raw = b"" if body is None else json.dumps(body).encode()
        target = f"/api/v5/{path}" + (f"?{urlencode(query)}" if query else "")
        now = datetime.fromtimestamp(self.bench.now_ns // 1_000_000_000, UTC)
        timestamp = now.strftime("%Y-%m-%dT%H:%M:%S.000Z")
        headers = {
            "ok-access-key": self.secrets.api_key,
            "ok-access-sign": okex_sign(self.secrets.secret, f"{timestamp}{method}{target}".encode() + raw),
            "ok-access-timestamp": timestamp,
            "ok-access-passphrase": self.secrets.passphrase,
            "content-type": "application/json",
            **more,
        }
        return RestRequest(method, f"/api/v5/{path}", query, raw, headers, target)


@pytest.fixture
def trader(okex: OkexBench) -> OkexTrader:
    """A client with a key of a simulated OKX that has run for a tenth of a second."""
    okex.run(100)
    return OkexTrader(okex)


@pytest.fixture
def trader_at() -> Callable[..., OkexTrader]:
    """Make a client with a key at a time and with options of the test's own."""
    return lambda *when, **more: OkexTrader(OkexBench(utc(*when), **more))


@pytest.fixture
def frames() -> Callable[[OkexConnection], list[dict[str, Any]]]:
    """Take what a connection has to say, as objects."""
    return lambda connection: [json.loads(text) for text in connection.texts_to_send()]


@pytest.fixture
def recorded() -> Callable[[str], Any]:
    """Read a payload of the real venue; skips where they are not there."""

    def read(name: str) -> Any:
        path = FIXTURES / f"{name}.json"
        if not path.exists():
            pytest.skip(f"{path} is not there: payloads of the venue live beside the repo")
        return json.loads(path.read_text())

    return read


class BitmexBench:
    """A simulated BitMEX with two accounts, its flow and its clock, moved on by hand."""

    KEYS: ClassVar = {100_001: ("key-one", "secret-one"), 100_002: ("key-two", "secret-two")}

    def __init__(self, start_ns: int, seed: int = 7, rest_per_minute: int = 1_000_000) -> None:
        self.now_ns, self.real_ns = start_ns, 0
        self.flow = Flow(seed, start_ns)
        accounts = [SimulatedAccount(number, (key,)) for number, key in self.KEYS.items()]
        self.venue = BitmexServer(self.flow, rest_per_minute=rest_per_minute, accounts=accounts)

    def run(self, ms: int, step_ms: int = 10) -> None:
        for _ in range(max(1, ms // step_ms)):
            self.now_ns += step_ms * MS
            self.real_ns += step_ms * MS
            self.flow.advance(self.now_ns)
            self.venue.publish(self.now_ns, self.real_ns)

    def leap_to(self, now_ns: int) -> None:
        self.real_ns += 10 * MS
        self.now_ns = now_ns
        self.flow.advance(now_ns)
        self.venue.publish(now_ns, self.real_ns)

    def signed(self, method: str, target: str, body: bytes = b"", account: int = 100_001) -> dict[str, str]:
        key, secret = self.KEYS[account]
        expires = str(self.now_ns // 1_000_000_000 + 5)
        signature = bitmex_sign(secret, method, target, expires, body)
        return {"api-key": key, "api-expires": expires, "api-signature": signature}

    def ask(
        self, method: str, path: str, body: Any = None, *, query: str = "", account: int = 100_001
    ) -> tuple[int, Any]:
        """Send a signed request; return status and body."""
        answer = self.venue.answer(self.request(method, path, body, query, account), self.now_ns)
        self.venue.private.catch_up(self.venue.private.accounts[account], self.now_ns)
        return answer.status, json.loads(answer.body)

    def request(
        self, method: str, path: str, body: Any = None, query: str = "", account: int = 100_001
    ) -> RestRequest:
        """Return a signed request."""
        raw = b"" if body is None else json.dumps(body).encode()
        target = f"/api/v1{path}" + (f"?{query}" if query else "")
        headers = self.signed(method, target, raw, account) | {"content-type": "application/json"}
        return RestRequest(method, f"/api/v1{path}", dict(parse_qsl(query)), raw, headers, target)

    def place(self, account: int = 100_001, **fields: Any) -> Any:
        """Place an order that is taken; return its row."""
        status, row = self.ask("POST", "/order", {"symbol": "XBTUSD", **fields}, account=account)
        assert status == 200, row
        return row

    def refused(self, method: str, path: str, body: Any, status: int = 400) -> str:
        """Send a request that is refused; return its message."""
        found, answer = self.ask(method, path, body)
        assert (found, answer.keys()) == (status, {"error"}), answer
        return str(answer["error"]["message"])

    def listen(self, *topics: str, account: int = 100_001) -> Any:
        """Return a connection that has logged in and subscribed, nothing left to read from it."""
        key, secret = self.KEYS[account]
        expires = self.now_ns // 1_000_000_000 + 5
        connection = self.venue.connect("/realtime", "", self.real_ns)
        signature = bitmex_sign(secret, "GET", "/realtime", str(expires))
        for op, args in (("authKeyExpires", [key, expires, signature]), ("subscribe", list(topics))):
            connection.receive_text(json.dumps({"op": op, "args": args}), self.real_ns)
        connection.texts_to_send()
        return connection

    def best(self, symbol: str = "XBTUSD") -> tuple[float, float]:
        """Return the true best bid and ask."""
        truth = self.venue.truth()[symbol]
        return truth["bid"], truth["ask"]


@pytest.fixture
def bitmex() -> BitmexBench:
    """A simulated BitMEX on a Wednesday in July 2026, a second old."""
    bench = BitmexBench(utc(2026, 7, 1, 16))
    bench.run(1_000)
    return bench


@pytest.fixture
def bitmex_at() -> Callable[..., BitmexBench]:
    """Make a simulated BitMEX at a time of the test's own."""
    return lambda *when, **more: BitmexBench(utc(*when), **more)


@pytest.fixture
def bench() -> Bench:
    """An exchange by itself."""
    return Bench()
