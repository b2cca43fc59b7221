"""Both websocket libraries behind the seam, held to the same tests."""

import asyncio
import base64
import contextlib
import hashlib
import os
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from dquant.errors import MarketUnreachable, RateLimited, RemoteProtocolError
from dquant.markets import transport as module
from dquant.markets.transport import Connection, connect

DEADLINE_S = 5.0
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Peer:
    """The far end of one websocket, frame by frame."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def accept(self) -> str:
        head = await self.reader.readuntil(b"\r\n\r\n")
        lines = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:] if ": " in line)
        fields = {name.lower(): value for name, value in lines.items()}
        key = base64.b64encode(
            hashlib.sha1(fields["sec-websocket-key"].encode() + GUID, usedforsecurity=False).digest()
        )
        self.writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + key + b"\r\n\r\n"
        )
        return head.decode()

    def send(self, opcode: int, payload: bytes, *, is_final: bool = True) -> None:
        size = len(payload)
        head = bytes([opcode | (0x80 if is_final else 0)])
        if size < 126:
            head += bytes([size])
        elif size < 65536:
            head += bytes([126]) + struct.pack("!H", size)
        else:
            head += bytes([127]) + struct.pack("!Q", size)
        self.writer.write(head + payload)

    async def receive(self) -> tuple[int, bytes]:
        async with asyncio.timeout(DEADLINE_S):
            first, second = await self.reader.readexactly(2)
            assert second & 0x80, "a client masks"
            size = second & 0x7F
            if size == 126:
                (size,) = struct.unpack("!H", await self.reader.readexactly(2))
            mask = await self.reader.readexactly(4)
            masked = await self.reader.readexactly(size)
        return first & 0x0F, bytes(byte ^ mask[index % 4] for index, byte in enumerate(masked))


class Server:
    """Accepts one websocket after the other and hands their far ends to the test."""

    def __init__(self) -> None:
        self.peers: asyncio.Queue[Peer] = asyncio.Queue()
        self.handshake: Callable[[Peer], Any] = Peer.accept
        self.url = ""
        self._writers: list[asyncio.StreamWriter] = []

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        peer = Peer(reader, writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await self.handshake(peer)
            self.peers.put_nowait(peer)

    async def stop(self) -> None:
        for writer in self._writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    listener = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    server.url = f"ws://127.0.0.1:{listener.sockets[0].getsockname()[1]}/realtime"
    yield server
    await server.stop()
    listener.close()
    await listener.wait_closed()


@pytest.fixture(autouse=True)
def _short_goodbyes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the peers of these tests, which never hang up, cost little."""
    monkeypatch.setattr(module, "CLOSE_TIMEOUT_S", 0.1)


@pytest.fixture(params=["picows", "websockets"])
def library(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param)
    return str(request.param)


class Ends:
    """Both ends of a connection."""

    def __init__(self, library: str, server: Server) -> None:
        self.library, self.server = library, server
        self.texts: asyncio.Queue[bytes] = asyncio.Queue()
        self.failure: Exception | None = None
        self.connection: Connection
        self.peer: Peer

    async def open(self) -> "Ends":
        self.connection = await connect(
            self.server.url,
            self._on_text,
            timeout_s=DEADLINE_S,
            transport=self.library,  # type: ignore[arg-type]
        )
        self.peer = await self.server.peers.get()
        return self

    def _on_text(self, text: bytes) -> None:
        self.texts.put_nowait(text)
        if self.failure is not None:
            raise self.failure

    async def text(self) -> bytes:
        async with asyncio.timeout(DEADLINE_S):
            return await self.texts.get()

    async def ended(self) -> str:
        async with asyncio.timeout(DEADLINE_S):
            return await self.connection.wait_closed()


@pytest.fixture
async def ends(library: str, server: Server) -> AsyncIterator[Ends]:
    ends = await Ends(library, server).open()
    yield ends
    ends.connection.close("the test is over")
    with contextlib.suppress(RemoteProtocolError, MarketUnreachable):
        await ends.ended()


async def test_texts_arrive_whole_as_bytes_and_in_order(ends: Ends) -> None:
    ends.peer.send(TEXT, b"one")
    ends.peer.send(TEXT, "zwei ü".encode())
    ends.peer.send(TEXT, b"x" * 700_000)

    got = [await ends.text() for _ in range(3)]
    assert got == [b"one", "zwei ü".encode(), b"x" * 700_000]
    assert all(type(text) is bytes for text in got)


async def test_fragments_are_put_together_around_a_ping(ends: Ends) -> None:
    ends.peer.send(TEXT, b'{"a', is_final=False)
    ends.peer.send(PING, b"?")
    ends.peer.send(0, b'":', is_final=False)
    ends.peer.send(0, b"1}")
    ends.peer.send(TEXT, b"next")

    assert [await ends.text(), await ends.text()] == [b'{"a":1}', b"next"]
    assert await ends.peer.receive() == (PONG, b"?")


async def test_texts_are_sent_in_order_uncompressed(ends: Ends) -> None:
    for number in range(20):
        ends.connection.send(f"text {number}")

    assert [await ends.peer.receive() for _ in range(20)] == [
        (TEXT, f"text {number}".encode()) for number in range(20)
    ]


async def test_no_extension_is_offered(library: str, server: Server) -> None:
    heads: list[str] = []

    async def accept(peer: Peer) -> None:
        heads.append(await peer.accept())

    server.handshake = accept
    ends = await Ends(library, server).open()
    ends.connection.close("done")
    await ends.ended()

    assert "sec-websocket-extensions" not in heads[0].lower()


async def test_close_of_the_venue_is_answered_and_its_words_are_told(ends: Ends) -> None:
    ends.peer.send(CLOSE, struct.pack("!H", 4004) + b"No data received in 30s.")

    assert await ends.ended() == "closed by the venue: 4004 No data received in 30s."
    opcode, payload = await ends.peer.receive()
    assert (opcode, payload[:2]) == (CLOSE, struct.pack("!H", 4004))


async def test_close_without_a_code_is_an_end_like_any_other(ends: Ends) -> None:
    ends.peer.send(CLOSE, b"")

    assert (await ends.ended()).startswith("closed by the venue")


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_lost_connection_is_told(ends: Ends, how: str) -> None:
    if how == "close":
        ends.peer.writer.close()
    else:
        ends.peer.writer.transport.abort()

    assert await ends.ended() == "connection lost"


async def test_our_own_close_is_told_with_our_reason_and_ends_soon(ends: Ends) -> None:
    """The peer does not answer: nothing waits for it much longer than the limit."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    ends.connection.close("rolling")

    assert await ends.ended() == "rolling"
    assert loop.time() - started < 2 * module.CLOSE_TIMEOUT_S + 0.5
    assert (await ends.peer.receive())[0] == CLOSE


async def test_closing_twice_and_sending_after_it_is_harmless(ends: Ends) -> None:
    ends.connection.close("first")
    ends.connection.close("second")
    ends.connection.send("too late")

    assert await ends.ended() == "first"
    ends.connection.send("much too late")
    ends.connection.close("third")


async def test_what_on_text_raises_ends_the_connection_and_is_raised(ends: Ends) -> None:
    ends.failure = RemoteProtocolError("unreadable frame")
    ends.peer.send(TEXT, b"nonsense")

    with pytest.raises(RemoteProtocolError, match="unreadable frame"):
        await ends.ended()
    async with asyncio.timeout(DEADLINE_S):
        while await ends.peer.reader.read(1024):
            pass  # a goodbye, then the end


@pytest.mark.parametrize("is_in_one", [True, False])
async def test_message_beyond_the_limit_ends_the_connection(
    ends: Ends, monkeypatch: pytest.MonkeyPatch, is_in_one: bool
) -> None:
    half = b"x" * (module.MAX_MESSAGE_BYTES // 2 + 100)
    if is_in_one:
        ends.peer.send(TEXT, half + half)
    else:
        ends.peer.send(TEXT, half, is_final=False)
        ends.peer.send(0, half)

    with contextlib.suppress(MarketUnreachable):
        await ends.ended()
    assert ends.texts.empty()


async def test_refused_upgrade_is_unreachable_with_its_status(library: str, server: Server) -> None:
    async def refuse(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        peer.writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy")

    server.handshake = refuse

    with pytest.raises(MarketUnreachable, match="503"):
        await Ends(library, server).open()


@pytest.mark.parametrize(
    ("status", "retry_after", "pause_s"),
    [(429, "17", 17.0), (429, "", 1.0), (503, "3", 3.0), (429, "86400", 600.0)],
)
async def test_refused_upgrade_carries_the_pause_that_the_venue_asks_for(
    library: str, server: Server, status: int, retry_after: str, pause_s: float
) -> None:
    """A market is sent to sleep for ten minutes at most, whatever a server says."""

    async def refuse(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        head = f"Retry-After: {retry_after}\r\n" if retry_after else ""
        peer.writer.write(f"HTTP/1.1 {status} No\r\n{head}Content-Length: 4\r\n\r\nbusy".encode())

    server.handshake = refuse

    with pytest.raises(RateLimited, match=str(status)) as refused:
        await Ends(library, server).open()
    assert refused.value.retry_after_s == pause_s


async def test_answer_that_is_no_http_is_unreachable(library: str, server: Server) -> None:
    async def babble(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        peer.writer.write(b"what?\r\n\r\n")
        peer.writer.close()

    server.handshake = babble

    with pytest.raises(MarketUnreachable):
        await Ends(library, server).open()


async def test_hang_up_during_the_handshake_is_unreachable(library: str, server: Server) -> None:
    async def hang_up(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        peer.writer.close()

    server.handshake = hang_up

    with pytest.raises(MarketUnreachable):
        await Ends(library, server).open()


async def test_port_where_nobody_listens_is_unreachable(library: str) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{sock.getsockname()[1]}/"
        with pytest.raises(MarketUnreachable):
            await connect(url, lambda text: None, timeout_s=DEADLINE_S, transport=library)  # type: ignore[arg-type]


async def test_redirect_to_where_nobody_listens_is_unreachable(library: str, server: Server) -> None:
    async def redirect(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        peer.writer.write(b"HTTP/1.1 301 Moved\r\nLocation: ws://localhost:1/\r\nContent-Length: 0\r\n\r\n")

    server.handshake = redirect

    with pytest.raises(MarketUnreachable):
        await Ends(library, server).open()


def test_loop_does_not_wait_for_a_resolver_that_hangs(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its servers are silent, as when the line is down: neither the deadline nor the loop's end waits."""
    go_on, is_asked = threading.Event(), threading.Event()

    def hang(*args: Any, **options: Any) -> Any:
        is_asked.set()
        assert go_on.wait(30.0)
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    async def give_up() -> None:
        with pytest.raises(MarketUnreachable, match=r"no connection in 0\.2 s"):
            await connect("ws://venue.invalid/x", print, timeout_s=0.2, transport=library)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setattr(module, "proxy_for", lambda url: None)
    started = time.monotonic()
    try:
        asyncio.run(give_up())
        assert is_asked.is_set()
        assert time.monotonic() - started < DEADLINE_S
    finally:
        go_on.set()
        for thread in threading.enumerate():
            if thread.name == "getaddrinfo":
                thread.join(DEADLINE_S)


async def test_dead_address_of_several_does_not_use_up_the_deadline(
    library: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its packets go nowhere: a socket whose queue is full answers no more than that."""
    monkeypatch.setattr(module, "EACH_ADDRESS_S", 0.1)
    monkeypatch.setattr(module, "proxy_for", lambda url: None)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf, contextlib.ExitStack() as stack:
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        port = int(server.url.rpartition(":")[2].partition("/")[0])
        kind = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        found = [(*kind, deaf.getsockname()), (*kind, ("127.0.0.1", port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: found)
        ends = Ends(library, server)
        server.url = f"ws://venue.invalid:{port}/"
        await ends.open()
        ends.connection.close("the test is over")
        await ends.ended()


@pytest.mark.parametrize("way", ["deadline", "cancelled"])
async def test_handshake_that_hangs_is_given_up_without_leaving_a_socket(
    library: str, server: Server, way: str
) -> None:
    accepted = asyncio.Event()

    async def hang(peer: Peer) -> None:
        accepted.set()
        await peer.reader.readuntil(b"\r\n\r\n")
        assert await peer.reader.read(1024) == b""  # until the client is gone
        gone.set()

    server.handshake = hang
    gone = asyncio.Event()
    timeout_s = 0.2 if way == "deadline" else 60.0
    opening = asyncio.ensure_future(
        connect(server.url, lambda text: None, timeout_s=timeout_s, transport=library)  # type: ignore[arg-type]
    )
    await accepted.wait()
    if way == "cancelled":
        await asyncio.sleep(0)
        opening.cancel()
    with pytest.raises(MarketUnreachable if way == "deadline" else asyncio.CancelledError):
        await opening
    async with asyncio.timeout(DEADLINE_S):
        await gone.wait()


async def test_no_file_is_left_open_by_connections_that_are_over(library: str, server: Server) -> None:
    async def once() -> None:
        ends = await Ends(library, server).open()
        ends.connection.close("done")
        await ends.ended()
        ends.peer.writer.close()
        with contextlib.suppress(ConnectionError):
            await ends.peer.writer.wait_closed()

    await once()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        await once()
    async with asyncio.timeout(DEADLINE_S):
        while len(os.listdir("/proc/self/fd")) > before:  # noqa: ASYNC110 - the kernel has no event
            await asyncio.sleep(0)


async def test_auto_falls_back_where_picows_does_not_import(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "picows", None)
    ends = await Ends("auto", server).open()
    ends.peer.send(TEXT, b"hello")

    assert await ends.text() == b"hello"
    assert type(ends.connection).__name__ == "Websockets"
    ends.connection.close("done")
    await ends.ended()
    with pytest.raises(ImportError):
        await Ends("picows", server).open()
