"""The one place where a websocket library is chosen; faces know only ``connect``.

``picows`` delivers frames by callback and costs a third to two thirds less CPU a message
than ``websockets`` (``benchmarks/README.md``); ``websockets`` is the fallback where picows
does not import, and can be asked for by name. Both carry the same face tests.

Text arrives as bytes of UTF-8, whole messages only, in order, in the running loop.
Nothing is sent compressed: deflate costs more than it saves on a good line.
"""

import asyncio
import contextlib
import functools
import ipaddress
import logging
import socket
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

from dquant.errors import MarketError, MarketUnreachable, RateLimited
from dquant.markets.daemon_call import call_in_daemon
from dquant.markets.http_get import pause_of
from dquant.util import proxy_for

# The largest message there is: BitMEX's partial of a full book was 709 KB in 2021.
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
TOO_LONG = f"{{}}: a message of more than {MAX_MESSAGE_BYTES} bytes"
CLOSE_TIMEOUT_S = 0.5
# One dead address of several, such as that of a broken IPv6, must not use up the whole deadline.
EACH_ADDRESS_S = 3.0
RATE_LIMIT_PAUSE_S = 1.0  # where a 429 does not say for how long

Transport = Literal["auto", "picows", "websockets"]
OnText = Callable[[bytes], None]


class Connection(Protocol):
    """An open websocket; its texts go to the ``on_text`` given to ``connect``."""

    def send(self, text: str) -> None:
        """Send one text frame without waiting; a connection that is closing drops it."""

    def close(self, reason: str) -> None:
        """Start to close; ``wait_closed`` returns when that is done."""

    async def wait_closed(self) -> str:
        """Wait for the end of the connection and return what ended it.

        An exception that ``on_text`` raised closes the connection and is raised here.
        """


async def connect(
    url: str, on_text: OnText, *, timeout_s: float, transport: Transport = "auto"
) -> Connection:
    """Open a websocket.

    Raises:
        MarketUnreachable: No connection within ``timeout_s``.
        RateLimited: The venue asks for a pause.

    """
    opener = (
        _connect_websockets if transport == "websockets" or not _has_picows(transport) else _connect_picows
    )
    try:
        async with asyncio.timeout(timeout_s):
            return await opener(url, on_text)
    except TimeoutError as exc:
        raise MarketUnreachable(f"{url}: no connection in {timeout_s:g} s") from exc


def _refusal(url: str, exc: Exception, status: int, headers: Mapping[str, str]) -> MarketError:
    """Return what a refused upgrade asks for: to come again, or later than that."""
    retry_after = headers.get("Retry-After", "")
    if status == 429 or (status == 503 and retry_after):
        return RateLimited(f"{url}: {exc}", pause_of(retry_after, RATE_LIMIT_PAUSE_S))
    return MarketUnreachable(f"{url}: {exc}")


def _has_picows(transport: Transport) -> bool:
    try:
        import picows  # noqa: F401
    except ImportError:
        if transport == "picows":
            raise
        return False
    return True


async def _connect_picows(url: str, on_text: OnText) -> Connection:
    import picows

    text_frame, continued = picows.WSMsgType.TEXT, picows.WSMsgType.CONTINUATION
    close_frame = picows.WSMsgType.CLOSE

    class Listener(picows.WSListener):
        def __init__(self) -> None:
            self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.reason = ""
            self.error: BaseException | None = None
            self._parts: list[bytes] = []

        def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
            kind = frame.msg_type
            try:
                if kind == text_frame and frame.fin:
                    if frame.payload_size > MAX_MESSAGE_BYTES:
                        # picows hangs up over it, and may still hand over what it had read by then.
                        raise MarketUnreachable(TOO_LONG.format(url))
                    on_text(frame.get_payload_as_bytes())
                elif kind in (text_frame, continued):
                    self._receive_part(frame)
                elif kind == close_frame:
                    words = bytes(frame.get_close_message() or b"").decode(errors="replace")
                    self.reason = self.reason or f"closed by the venue: {frame.get_close_code()} {words}"
                    transport.send_close(frame.get_close_code())
                    transport.disconnect()
            except Exception as exc:
                self.error = self.error or exc
                transport.disconnect(graceful=False)

        def _receive_part(self, frame: picows.WSFrame) -> None:
            self._parts.append(frame.get_payload_as_bytes())
            if sum(map(len, self._parts)) > MAX_MESSAGE_BYTES:
                raise MarketUnreachable(TOO_LONG.format(url))
            if frame.fin:
                whole, self._parts = b"".join(self._parts), []
                on_text(whole)

        def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
            if not self.closed.done():
                self.closed.set_result(None)

    class Picows:
        def __init__(self, transport: picows.WSTransport, listener: Listener) -> None:
            self._transport, self._listener = transport, listener

        def send(self, text: str) -> None:
            if not self._transport.is_disconnected:
                self._transport.send(text_frame, text.encode())

        def close(self, reason: str) -> None:
            self._listener.reason = self._listener.reason or reason
            with contextlib.suppress(Exception):
                self._transport.send_close(picows.WSCloseCode.OK)
            self._transport.disconnect()

        async def wait_closed(self) -> str:
            await asyncio.shield(self._listener.closed)
            if self._listener.error is not None:
                raise self._listener.error
            return self._listener.reason or "connection lost"

    proxy = proxy_for(url)
    sockets: list[socket.socket] = []

    async def open_socket(parsed: Any) -> socket.socket:
        sockets.append(await _open_socket(parsed.host, parsed.port))
        return sockets[-1]

    opening = asyncio.ensure_future(
        picows.ws_connect(
            Listener,
            url,
            max_frame_size=MAX_MESSAGE_BYTES,
            logger_name=logging.getLogger("dquant.picows"),
            websocket_handshake_timeout=None,
            proxy=proxy,
            socket_factory=None if proxy else open_socket,
        )
    )
    try:
        transport, listener = await asyncio.shield(opening)
    except asyncio.CancelledError:
        # picows forgets the socket of a handshake that is cancelled; one that fails it closes.
        if sockets:
            _shut_down(sockets[-1])
        else:
            opening.cancel()
        await asyncio.wait({opening}, timeout=CLOSE_TIMEOUT_S)
        if opening.cancel() or opening.cancelled() or opening.exception() is not None:
            raise
        opening.result()[0].disconnect(graceful=False)
        raise
    except picows.WSInvalidStatusError as exc:
        answer = exc.response
        status, headers = (0, {}) if answer is None else (answer.status, answer.headers)
        raise _refusal(url, exc, status, headers) from exc
    except (picows.WSError, OSError) as exc:
        raise MarketUnreachable(f"{url}: {exc}") from exc
    if listener is None:
        raise MarketUnreachable(f"{url}: connection lost during the handshake")
    assert isinstance(listener, Listener)
    return Picows(transport, listener)


async def _open_socket(host: str, port: int) -> socket.socket:
    """Connect to the first address of a host that answers; each but the last has ``EACH_ADDRESS_S``."""
    addresses = await _resolve(host, port)
    failure = OSError(f"no address of {host}")
    for number, (family, kind, protocol, _, address) in enumerate(addresses, 1):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(EACH_ADDRESS_S if number < len(addresses) else None):
                await asyncio.get_running_loop().sock_connect(sock, address)
        except OSError as exc:
            sock.close()
            failure = exc
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure


async def _resolve(host: str, port: int) -> list[Any]:
    """Return the addresses of a host, as ``socket.getaddrinfo`` does, without the loop's own threads."""
    look_up = functools.partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return await call_in_daemon("getaddrinfo", look_up)
    return look_up()


def _shut_down(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


async def _connect_websockets(url: str, on_text: OnText) -> Connection:
    import websockets
    from websockets.asyncio.client import connect as open_websocket

    class Websockets:
        def __init__(self, websocket: websockets.ClientConnection) -> None:
            self._websocket = websocket
            self._reason = ""
            self._tasks: set[asyncio.Task[Any]] = set()
            self._reader = asyncio.ensure_future(self._read())
            self._is_ending = False
            self._watch()

        async def _read(self) -> str:
            try:
                while True:
                    on_text(await self._websocket.recv(decode=False))
            except websockets.ConnectionClosed as exc:
                frame = exc.rcvd
                said = f"closed by the venue: {frame.code} {frame.reason}" if frame else "connection lost"
                return self._reason or said
            finally:
                try:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(CLOSE_TIMEOUT_S):
                            await self._websocket.close()
                finally:
                    self._websocket.transport.abort()  # a peer that does not answer keeps nothing open

        def _watch(self) -> None:
            # After a closing frame, or a message that is too long, websockets waits for the peer
            # to hang up, however long that takes.
            if self._websocket.state is not websockets.State.OPEN:
                if self._is_ending:
                    self._websocket.transport.abort()
                self._is_ending = True
            if not self._reader.done():
                asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self._watch)

        def _spawn(self, coroutine: Any) -> None:
            task = asyncio.ensure_future(coroutine)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        def send(self, text: str) -> None:
            self._spawn(self._send(text))

        async def _send(self, text: str) -> None:
            with contextlib.suppress(websockets.ConnectionClosed):
                await self._websocket.send(text)

        def close(self, reason: str) -> None:
            self._reason = self._reason or reason
            self._spawn(self._websocket.close())

        async def wait_closed(self) -> str:
            return await asyncio.shield(self._reader)

    proxy, sock = proxy_for(url), None
    try:
        if proxy is None:
            parts = urlsplit(url)
            port = parts.port or (443 if parts.scheme == "wss" else 80)
            sock = await _open_socket(parts.hostname or "", port)
        websocket = await open_websocket(
            url,
            sock=sock,
            compression=None,
            max_size=MAX_MESSAGE_BYTES,
            ping_interval=None,
            proxy=proxy,
            open_timeout=None,
            close_timeout=CLOSE_TIMEOUT_S,
            logger=logging.getLogger("dquant.websockets"),
        )
    except websockets.InvalidStatus as exc:
        raise _refusal(url, exc, exc.response.status_code, exc.response.headers) from exc
    except (websockets.WebSocketException, OSError) as exc:
        raise MarketUnreachable(f"{url}: {exc}") from exc
    except (ValueError, AssertionError) as exc:  # a redirect elsewhere; nonsense for an answer
        raise MarketUnreachable(f"{url}: {exc!r}") from exc
    return Websockets(websocket)
