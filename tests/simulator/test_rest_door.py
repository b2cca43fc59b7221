"""The venues' own door for plain REST requests, beside aiohttp for everything else."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser
from hypothesis import given
from hypothesis import strategies as st

from dquant.simulator.bitmex_server import BitmexServer
from dquant.simulator.clock import VirtualClock
from dquant.simulator.flow import Flow
from dquant.simulator.injection import inject
from dquant.simulator.rest_door import NotPlainError, OwnErrors, RestDoors, read_plain
from dquant.simulator.venue import RestAnswer

START = 1_795_305_600_000_000_000  # Sunday 2026-11-22 00:00 UTC
DEADLINE_S = 10.0
ABOUT = b"GET /api/v1 HTTP/1.1\r\nHost: venue\r\n\r\n"


# What it reads


def often(*usual: str, odd: tuple[str, ...] = ()) -> st.SearchStrategy[str]:
    return st.sampled_from([*usual * (1 + 7 * len(odd) // len(usual)), *odd])


NAMES = often("Content-Type", "api-key", "X-Y", "user_agent", odd=("Connection", "Expect", "Upgrade", "hosT"))
VALUES = often("venue", "a b", "a: b", " x ", "keep-alive", "\tz", odd=("100-continue", "", "é", "a\x00b"))
PATHS = often("/api/v1/order", "/a_b/C-9", odd=("/api//v1", "/api/../v1", "/a%20b", "*", "http://x/y", "/a/"))
QUERIES = st.lists(
    often("a=1", "&", "b=", "+", "%20", "%3D", ";", "?/:@'", odd=("é", "#", "{", "%ff", "%2")), max_size=6
)


@st.composite
def requests(draw: Any) -> bytes:
    """Draw a request that is plain, or nearly."""

    def mostly(usual: str, *odd: str) -> str:
        return draw(often(usual, odd=odd))

    body = draw(st.binary(max_size=8))
    target = draw(PATHS) + draw(st.just("") | QUERIES.map(lambda parts: "?" + "".join(parts)))
    lines = [
        f"{mostly('POST', 'HEAD', 'get', 'PATCH')} {target} {mostly('HTTP/1.1', 'HTTP/1.0', 'HTTP/1.1 ')}"
    ]
    lines += ["Host: venue"] * (mostly("once", "never") == "once")
    lines += [f"{name}: {value}" for name, value in draw(st.lists(st.tuples(NAMES, VALUES), max_size=2))]
    if body or draw(st.booleans()):
        said = mostly(str(len(body)), f"0{len(body)}", f"+{len(body)}", "", "1")
        lines.append(f"{mostly('Content-Length', 'content-length')}: {said}")
    end = mostly("\r\n", "\n", "\r")
    return (end.join(lines) + mostly("\r\n\r\n", "\n\n", "\r\n \r\n")).encode() + body


@given(requests())
def test_what_it_reads_itself_aiohttp_reads_the_same(data):
    try:
        plain = read_plain(data, "127.0.0.1")
    except NotPlainError:
        return
    loop = asyncio.new_event_loop()
    try:
        parser = HttpRequestParser(BaseProtocol(loop), loop, 2**16)
        ((message, payload),), upgraded, tail = parser.feed_data(data)
        assert (upgraded, tail, message.should_close, message.compression) == (False, b"", False, None)
        assert payload.is_eof() is (plain is not None)
        if plain is None:
            return
        assert plain.method == message.method
        assert plain.target == message.path
        assert plain.path == message.url.path
        assert plain.query == dict(message.url.query)
        assert plain.headers == {name.lower(): value for name, value in message.headers.items()}
        assert plain.body == (payload.read_nowait() if payload.total_bytes else b"")
    finally:
        loop.close()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GET /api/v1 HTTP/1.1\r\nHost: venue\r\n",
        ABOUT + ABOUT,
        b"GET /api/v1 HTTP/1.1\r\nHost: venue\r\nX: " + b"a" * 8190 + b"\r\n\r\n",
        b"GET /api/v1?" + b"a" * 8190 + b"! HTTP/1.1\r\nHost: venue\r\n\r\n",
        b"POST /api/v1/order HTTP/1.1\r\nHost: venue\r\nContent-Length: 70000\r\n\r\n",
        b"POST /api/v1/order HTTP/1.1\r\nHost: venue\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /api/v1 HTTP/1.1\r\nHost: venue\r\nProxy-Connection: close\r\n\r\n",  # which aiohttp heeds
    ],
)
def test_what_is_not_one_small_plain_request_is_left_to_aiohttp(data):
    with pytest.raises(NotPlainError):
        read_plain(data, "")


# Connections


class Stand:
    """A venue behind its door; what is handed over is answered with ``aiohttp``."""

    def __init__(
        self, doors: RestDoors, venue: BitmexServer, log: OwnErrors, told: list[None], port: int
    ) -> None:
        self.doors, self.venue, self.log, self.told, self.port = doors, venue, log, told, port
        self.writers: list[asyncio.StreamWriter] = []

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        return reader, writer

    async def wait(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not is_so():  # noqa: ASYNC110 - of the server's, which tells nobody
                await asyncio.sleep(0.01)


@asynccontextmanager
async def standing(idle_s: float = 60.0) -> AsyncIterator[Stand]:
    async def handle(request: web.BaseRequest) -> web.Response:
        return web.Response(text=f"aiohttp {request.method} {(await request.read()).decode()}")

    flow = Flow(3, START)
    venue = BitmexServer(flow)
    log = OwnErrors(logging.getLogger("dquant.simulator.http"))
    told: list[None] = []
    doors = RestDoors(venue, VirtualClock(START), lambda: told.append(None), handle, idle_s, log)
    runner = web.ServerRunner(doors, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    stand = Stand(doors, venue, log, told, runner.addresses[0][1])
    try:
        yield stand
    finally:
        for writer in stand.writers:
            writer.close()
        await runner.cleanup()
    await stand.wait(lambda: not doors.open)


async def read_answer(reader: asyncio.StreamReader, method: str = "GET") -> tuple[int, bytes]:
    async with asyncio.timeout(DEADLINE_S):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        status = int(head.split()[1])
        length = int(head.lower().partition("content-length:")[2].split()[0])
        return status, b"" if method == "HEAD" else await reader.readexactly(length)


async def test_a_connection_goes_to_aiohttp_with_its_first_request_that_is_not_plain():
    async with standing() as stand:
        reader, writer = await stand.open()
        for _ in range(2):
            writer.write(ABOUT)
            status, body = await read_answer(reader)
            assert (status, b"BitMEX API" in body) == (200, True)
        assert (len(stand.doors.open), len(stand.told), stand.doors.requests_count) == (1, 2, 0)
        writer.write(b"HEAD /api/v1 HTTP/1.1\r\nHost: venue\r\n\r\n")
        assert await read_answer(reader, "HEAD") == (200, b"")
        head = b"POST /x HTTP/1.1\r\nHost: venue\r\n"
        writer.write(head + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\nab")
        assert await read_answer(reader) == (200, b"aiohttp POST ab")
        writer.write(
            b"POST /x HTTP/1.1\r\nHost: venue\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nc\r\n0\r\n\r\n"
        )
        assert await read_answer(reader) == (200, b"aiohttp POST c")
        writer.write(ABOUT * 2)
        assert [await read_answer(reader), await read_answer(reader)] == [(200, b"aiohttp GET ")] * 2
        assert not stand.doors.open


async def test_a_body_that_comes_later_is_waited_for_and_counted_where_it_never_comes():
    head = b"POST /api/v1/order HTTP/1.1\r\nHost: venue\r\nContent-Length: 2\r\n\r\n"
    async with standing() as stand:
        reader, writer = await stand.open()
        writer.write(head + b"{")
        await stand.wait(lambda: bool(stand.doors.open))
        await asyncio.sleep(0.02)
        assert not stand.venue.counters["rest"]
        writer.write(b"}")
        assert (await read_answer(reader))[0] == 401
        writer.write(head)
        await stand.wait(lambda: bool(next(iter(stand.doors.open))._partial))
        writer.close()
        await stand.wait(lambda: stand.log.bad_requests == 1)
        assert stand.venue.counters["rest"] == 1


async def test_what_comes_while_an_answer_is_late_is_answered_after_it():
    async with standing() as stand:
        inject(stand.venue, "slow", {"delay_ms": 150}, time.monotonic_ns())
        reader, writer = await stand.open()
        began = time.monotonic()
        writer.write(ABOUT)
        await stand.wait(lambda: any(door._late for door in stand.doors.open))
        writer.write(b"PATCH /x HTTP/1.1\r\nHost: venue\r\n\r\n")
        assert b"BitMEX API" in (await read_answer(reader))[1]
        assert time.monotonic() - began >= 0.15
        assert await read_answer(reader) == (200, b"aiohttp PATCH ")


async def test_nothing_is_read_of_a_client_that_does_not_read_its_answers():
    async with standing() as stand:
        reader, writer = await stand.open()
        writer.write(ABOUT)
        await read_answer(reader)
        (door,) = stand.doors.open
        door.pause_writing()
        writer.write(ABOUT)
        await asyncio.sleep(0.05)
        assert stand.venue.counters["rest"] == 1
        door.resume_writing()
        assert (await read_answer(reader))[0] == 200


async def test_a_client_that_never_reads_its_answer_is_cut_off_when_it_is_idle(monkeypatch):
    async with standing(idle_s=0.2) as stand:
        monkeypatch.setattr(stand.venue, "answer", lambda *_: RestAnswer(200, b" " * 16 * 1024 * 1024))
        _, writer = await stand.open()
        writer.write(ABOUT)
        await stand.wait(lambda: bool(stand.told))
        await stand.wait(lambda: not stand.doors.open)


async def test_a_lost_answer_cuts_the_connection_and_load_shedding_hangs_up():
    async with standing() as stand:
        for fault, answer in (("lost_answer", b""), ("overloaded", b"HTTP/1.1 503")):
            inject(stand.venue, fault, {}, time.monotonic_ns())
            reader, writer = await stand.open()
            writer.write(ABOUT)
            async with asyncio.timeout(DEADLINE_S):
                try:
                    assert (await reader.read())[:12] == answer
                except ConnectionResetError:
                    assert not answer


async def test_an_error_of_ours_is_a_500_and_comes_with_its_traceback(monkeypatch, caplog):
    async with standing() as stand:
        monkeypatch.setattr(stand.venue, "answer", lambda *_: 1 / 0)
        reader, writer = await stand.open()
        writer.write(ABOUT)
        async with asyncio.timeout(DEADLINE_S):
            assert (await reader.read()).startswith(b"HTTP/1.1 500")
        (record,) = [record for record in caplog.records if record.exc_info]
        assert (record.exc_info[0], stand.log.bad_requests) == (ZeroDivisionError, 0)


async def test_idle_connections_are_closed_and_used_ones_stay():
    async with standing(idle_s=0.3) as stand:
        reader, writer = await stand.open()
        began = time.monotonic()
        await asyncio.sleep(0.2)
        writer.write(ABOUT)
        await read_answer(reader)
        async with asyncio.timeout(DEADLINE_S):
            assert await reader.read() == b""
        assert time.monotonic() - began >= 0.5
