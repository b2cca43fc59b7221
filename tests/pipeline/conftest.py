"""Real Valkey servers on free loopback ports, and records to publish."""

import asyncio
import contextlib
import dataclasses
import itertools
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from dquant.model.events import Depth, Health, Price, TradeRecord
from dquant.pipeline.redis_link import RedisSettings
from dquant.pipeline.valkey_child import find_binary, probe

DEADLINE_S = 10.0


def free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@dataclasses.dataclass
class Server:
    """One server that a test starts, kills and freezes as it likes."""

    port: int
    directory: Path
    lines: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def settings(self) -> RedisSettings:
        return RedisSettings(port=self.port, reply_timeout_s=1.0)

    def start(self) -> "Server":
        config = ["bind 127.0.0.1", 'save ""', f"dir {self.directory}", f"port {self.port}", *self.lines]
        if self.arguments:  # sentinels want a file that they can rewrite
            path = self.directory / "server.conf"
            path.write_text("\n".join(config) + "\n")
            command, text = [find_binary(), str(path), *self.arguments], b""
        else:
            command, text = [find_binary(), "-"], "\n".join(config).encode()
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        assert self.process.stdin is not None
        with self.process.stdin as stdin:
            stdin.write(text)
        deadline = time.monotonic() + DEADLINE_S
        while not probe("127.0.0.1", self.port):
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.005)
        return self

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGCONT)


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers with further configuration lines; all are gone after the test."""
    servers: list[Server] = []

    def make(*lines: str, arguments: tuple[str, ...] = (), port: int | None = None) -> Server:
        directory = tmp_path / f"server-{len(servers)}"
        directory.mkdir()
        servers.append(Server(port or free_port(), directory, lines, arguments))
        return servers[-1].start()

    yield make
    for server in servers:
        server.kill()


@pytest.fixture
def server(make_server: Callable[..., Server]) -> Server:
    return make_server()


@pytest.fixture
def unused_port() -> int:
    return free_port()


class Records:
    """Makes records of one market; ``ts_recv`` counts up so that tests can tell them apart."""

    market = "okex_future_btcusd_thisweek"

    def __init__(self) -> None:
        self._ts = itertools.count(1)

    def live(self, bid: float = 84093.4, market: str | None = None) -> Price:
        ts = next(self._ts)
        return Price(
            market or self.market,
            "BTC-USD-261127",
            "dev",
            0,
            bid,
            120.0,
            bid + 0.1,
            44.0,
            "live",
            None,
            1000,
            ts,
        )

    def stale(self, reason: str = "sequence broken") -> Price:
        ts = next(self._ts)
        return Price(
            self.market, "BTC-USD-261127", "dev", 0, None, None, None, None, "stale", reason, 1000, ts
        )

    def depth(self) -> Depth:
        bids, asks = [(84093.4, 120.0), (84093.3, 7.0)], [(84093.5, 44.0)]
        return Depth(self.market, "BTC-USD-261127", "dev", 0, bids, asks, "live", None, 1000, next(self._ts))

    def trade(self) -> TradeRecord:
        ts = next(self._ts)
        return TradeRecord(self.market, "BTC-USD-261127", "dev", 0, f"t{ts}", 84093.5, 3.0, "buy", 1000, ts)

    def health(self, state: str = "heartbeat", dropped: int = 0, market: str | None = None) -> Health:
        return Health(
            market or self.market,
            "BTC-USD-261127",
            "dev",
            0,
            state,
            None,
            "live",
            10,
            1,
            2,
            3,
            dropped,
            next(self._ts),
        )


@pytest.fixture
def records() -> Records:
    return Records()


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """Wait until a condition holds, with a deadline; the event loop goes on meanwhile."""

    async def wait(condition: Callable[[], Any], timeout_s: float = DEADLINE_S) -> Any:
        async with asyncio.timeout(timeout_s):
            while not (value := condition()):  # noqa: ASYNC110 - any condition, not an event
                await asyncio.sleep(0.005)
        return value

    return wait


@pytest.fixture
def tail() -> Callable[..., Any]:
    """Subscribe to channels and collect ``(channel, record)`` until the block ends."""

    @contextlib.asynccontextmanager
    async def collect(port: int, *channels: str) -> Any:
        client = Redis(port=port)
        pubsub = client.pubsub()
        await pubsub.subscribe(*channels)
        got: list[tuple[str, dict[str, Any]]] = []
        subscribed = asyncio.Event()

        async def listen() -> None:
            confirmed = 0
            async for message in pubsub.listen():
                if message["type"] == "subscribe":
                    confirmed += 1
                    if confirmed == len(channels):
                        subscribed.set()
                else:
                    got.append((message["channel"].decode(), json.loads(message["data"])))

        task = asyncio.create_task(listen())
        try:
            async with asyncio.timeout(DEADLINE_S):
                await subscribed.wait()
            yield got
        finally:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()  # the server may have been killed on purpose
            await pubsub.aclose()
            await client.aclose()

    return collect


@pytest.fixture
async def cluster(make_server: Callable[..., Server], port_pairs: Any) -> list[Server]:
    """Three masters that own all slots."""
    servers = []
    for port, bus in port_pairs(3):
        servers.append(
            make_server("cluster-enabled yes", f"cluster-port {bus}", "cluster-node-timeout 2000", port=port)
        )
    ranges = [(0, 5460), (5461, 10922), (10923, 16383)]
    buses = []
    for number, (server, (first, last)) in enumerate(zip(servers, ranges, strict=True), 1):
        async with Redis(port=server.port) as client:
            await client.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
            await client.execute_command("CLUSTER SET-CONFIG-EPOCH", number)
            buses.append(int((await client.config_get("cluster-port"))["cluster-port"]))
    async with Redis(port=servers[0].port) as client:
        for server, bus in zip(servers[1:], buses[1:], strict=True):
            await client.execute_command("CLUSTER MEET", "127.0.0.1", server.port, bus)
    async with asyncio.timeout(15):
        for server in servers:
            async with Redis(port=server.port) as client:
                while (await client.cluster("INFO"))["cluster_state"] != "ok":  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
    return servers


@pytest.fixture
def port_pairs():
    def make(count):
        sockets = [socket.socket() for _ in range(2 * count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        ports = [sock.getsockname()[1] for sock in sockets]
        for sock in sockets:
            sock.close()
        return list(zip(ports[:count], ports[count:], strict=True))

    return make


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Any]:
    """Run what takes over a transport on uvloop as well: markets use it."""
    factories = {"asyncio": asyncio.new_event_loop}
    if item.path.name in ("test_publisher.py", "test_redis_wire.py"):
        uvloop = pytest.importorskip("uvloop")
        factories["uvloop"] = uvloop.new_event_loop
    return factories
