"""Helpers for the simulated OKX: a bench that drives it without sockets, and the recorded payloads."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dquant.simulator.flow import Flow
from dquant.simulator.okex_connection import OkexConnection
from dquant.simulator.okex_login import Secrets
from dquant.simulator.okex_server import OkexOptions, OkexServer
from dquant.simulator.venue import RestRequest

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
