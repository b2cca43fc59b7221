"""The door of a venue: plain REST requests are read and answered here, all others by aiohttp.

Clients wait for the answer to an order, and with aiohttp's server two fifths of what the venue did
meanwhile was HTTP. So a connection begins here. A plain request (GET, POST, PUT or DELETE of HTTP/1.1,
alone in what has arrived, its path without escapes, its headers ASCII and each there once, a small body
of known length) goes to the venue as it arrives, and its answer out in one write. The first request that
is anything else takes its connection to aiohttp for good, unread and unanswered: websockets, pipelined
requests, HEAD, ``Expect``, chunks, compression, ``Connection: close``, large or broken ones. Nothing is
refused here.

Idle connections are closed, and while an answer is late, or not taken from us, nothing more is read.
"""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from functools import lru_cache
from http.client import responses
from typing import Any, cast
from urllib.parse import parse_qsl

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from dquant.constants import NS_PER_S
from dquant.simulator.clock import VirtualClock
from dquant.simulator.rest_faults import answer_with_faults
from dquant.simulator.venue import RestAnswer, RestRequest, Venue

HEAD_LIMIT = 8190  # bytes, as aiohttp has it for each line
BODY_LIMIT = 64 * 1024  # bytes; a larger one is aiohttp's to read, or to refuse
_HEAD = re.compile(
    rb"(GET|POST|PUT|DELETE) ((?:/[\w-]+)+)"
    rb"(?:\?((?:[\w.~!$&'()*+,;=:@/?-]++|%[2-7][0-9A-Fa-f])*+))? HTTP/1\.1\r\n"
    rb"((?:[\w!#$%&'*+.^`|~-]+:[ \t]*[\x21-\x7e][\t\x20-\x7e]*\r\n)+)\r\n"
)
_FIELD = re.compile(r"([^:]+):[ \t]*([^\r]+)\r\n")
_NOT_PLAIN = frozenset(
    ("upgrade", "transfer-encoding", "content-encoding", "expect", "trailer", "proxy-connection")
)


# What clients do wrong on the way to us: oversized headers, broken chunks, hanging up in the middle.
CLIENT_ERRORS = (HttpProcessingError, web.RequestPayloadError, ConnectionError)


class OwnErrors(logging.LoggerAdapter[logging.Logger]):
    """A log for aiohttp: what a client did wrong is counted, only what is ours comes with its traceback."""

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__(logger, {})
        self.bad_requests = 0

    def exception(self, msg: object, *args: object, exc_info: Any = True, **more: Any) -> None:
        """Log an exception that ended a request, unless it is the client's."""
        if isinstance(exc_info, CLIENT_ERRORS):
            self.bad_requests += 1
            self.debug("%s: %s", msg, type(exc_info).__name__)
            return
        super().exception(msg, *args, exc_info=exc_info, **more)


class NotPlainError(Exception):
    """A request that is not for this door."""


def read_plain(data: bytes, remote: str) -> RestRequest | None:
    """Return the one request that has arrived; None while some of its body is missing.

    Raises:
        NotPlainError: It is not plain, or there is more than one.

    """
    head = _HEAD.match(data)
    if head is None or head.end() > HEAD_LIMIT:
        raise NotPlainError
    method, path, query, lines = head.groups()
    fields = _FIELD.findall(lines.decode("ascii"))
    headers = {name.lower(): value.rstrip(" \t") for name, value in fields}
    length = headers.get("content-length", "0")
    if (
        len(headers) < len(fields)
        or "host" not in headers
        or not _NOT_PLAIN.isdisjoint(headers)
        or headers.get("connection", "keep-alive").lower() != "keep-alive"
        or not (length.isdigit() and len(length) < 7 and int(length) <= BODY_LIMIT)
    ):
        raise NotPlainError
    body = data[head.end() :]
    if len(body) < int(length):
        return None
    if len(body) > int(length):
        raise NotPlainError
    target = path if query is None else path + b"?" + query
    pairs: dict[str, str] = {}
    if query:
        for name, value in parse_qsl(query.decode("ascii"), keep_blank_values=True):
            pairs.setdefault(name, value)
    return RestRequest(
        method.decode("ascii"), path.decode("ascii"), pairs, body, headers, target.decode("ascii"), remote
    )


def written(answer: RestAnswer, date: str) -> bytes:
    """Return an answer as it goes over the wire."""
    more = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
    head = (
        f"HTTP/1.1 {answer.status} {responses.get(answer.status, '')}\r\n{more}"
        f"Content-Type: {answer.content_type}\r\nContent-Length: {len(answer.body)}\r\nDate: {date}\r\n\r\n"
    )
    return head.encode("ascii") + answer.body


@lru_cache(maxsize=4)
def http_date(seconds: int) -> str:
    """Return a time, s since the epoch, as the header ``Date`` has it."""
    return formatdate(seconds, usegmt=True)


def hangs_up(answer: RestAnswer) -> bool:
    """Return whether the venue closes the connection after an answer, as its headers say."""
    headers = answer.headers
    return bool(headers) and "close" in (headers.get("Connection"), headers.get("connection"))


class RestDoor(asyncio.Protocol):
    """One connection, as long as its requests are plain."""

    def __init__(self, doors: "RestDoors") -> None:
        self._doors = doors
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._remote = ""
        self._partial = b""  # a request whose body is not all there
        self._late: asyncio.TimerHandle | None = None  # an answer that a fault holds back
        self._is_full = False  # what we write is not read
        self._is_reading = True
        self._used = 0.0  # when something last happened, by the loop's clock
        self._idle: asyncio.TimerHandle | None = None

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a connection."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self._remote = str(peer[0]) if peer else ""
        self._doors.open.add(self)
        self._used = self._doors.loop.time()
        self._look_whether_idle()

    def data_received(self, data: bytes) -> None:
        """Answer a plain request; hand the connection over where it is another."""
        data = self._partial + data
        try:
            request = read_plain(data, self._remote)
        except NotPlainError:
            self._hand_over(data)
            return
        if request is None:
            self._partial = data
            return
        self._partial = b""
        self._used = self._doors.loop.time()
        delay_ns = self._doors.delay_ns()
        if delay_ns:
            self._wait(delay_ns, lambda: self._answer(request))
        else:
            self._answer(request)

    def pause_writing(self) -> None:
        """Read no more requests of a client that does not read the answers."""
        self._is_full = True
        self._read_or_not()

    def resume_writing(self) -> None:
        """Read on."""
        self._is_full = False
        self._read_or_not()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; what it has asked for is done all the same."""
        del exc
        self._leave()
        if self._partial:
            self._doors.log.bad_requests += 1

    def shut(self) -> None:
        """Hang up, because the venue stops."""
        if self._late is not None:
            self._late.cancel()
        self._hang_up()

    # Inside

    def _answer(self, request: RestRequest) -> None:
        answer = self._doors.answer(request)
        if answer.delay_ns:
            self._wait(answer.delay_ns, lambda: self._write(answer))
        else:
            self._write(answer)
        self._doors.tell()

    def _write(self, answer: RestAnswer) -> None:
        if self._transport.is_closing():
            return
        if answer.is_lost:
            self._transport.abort()
            return
        self._transport.write(written(answer, self._doors.date()))
        self._used = self._doors.loop.time()
        if hangs_up(answer):
            self._transport.close()

    def _wait(self, delay_ns: int, then: Callable[[], None]) -> None:
        """Do something later, and read nothing until then."""

        def wake() -> None:
            self._late = None
            then()
            self._read_or_not()

        self._late = self._doors.loop.call_later(delay_ns / NS_PER_S, wake)
        self._read_or_not()

    def _read_or_not(self) -> None:
        wanted = self._late is None and not self._is_full
        if wanted == self._is_reading or self._transport.is_closing():
            return
        self._is_reading = wanted
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _hand_over(self, data: bytes) -> None:
        """Let aiohttp have the connection, with what has arrived."""
        self._leave()
        handler = self._doors.aiohttp_protocol()
        self._transport.set_protocol(handler)
        handler.connection_made(self._transport)
        handler.data_received(data)

    def _look_whether_idle(self) -> None:
        loop, idle_s = self._doors.loop, self._doors.idle_s
        passed = loop.time() - self._used
        if passed >= idle_s and self._late is None:
            self._hang_up()
        else:
            wait_s = idle_s - passed if passed < idle_s else idle_s
            self._idle = loop.call_later(wait_s, self._look_whether_idle)

    def _hang_up(self) -> None:
        if self._transport.get_write_buffer_size():
            self._transport.abort()  # to close it would wait for a client that does not read
        else:
            self._transport.close()

    def _leave(self) -> None:
        self._doors.open.discard(self)
        if self._idle is not None:
            self._idle.cancel()


class RestDoors(web.Server):
    """The server of a venue: every connection begins at a ``RestDoor``.

    Args:
        venue: Who answers.
        clock: Its real time is ``time.monotonic_ns()``.
        tell: Called after each answer, to send what the request set off to websockets.
        handler: Answers what is handed over.
        idle_s: A connection on which nothing is asked for so long is closed.
        log: Counts what is no request, logs what goes wrong here.

    """

    def __init__(
        self,
        venue: Venue,
        clock: VirtualClock,
        tell: Callable[[], None],
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        idle_s: float,
        log: OwnErrors,
    ) -> None:
        super().__init__(handler, access_log=None, logger=log, keepalive_timeout=idle_s)
        self.loop, self.idle_s, self.tell, self.log = asyncio.get_running_loop(), idle_s, tell, log
        self.open: set[RestDoor] = set()
        self._venue, self._clock = venue, clock

    def __call__(self) -> Any:
        """Return the protocol of a new connection."""
        return RestDoor(self)

    def aiohttp_protocol(self) -> web.RequestHandler:
        """Return aiohttp's protocol for a connection."""
        return super().__call__()

    def pre_shutdown(self) -> None:
        """Hang up on everybody."""
        super().pre_shutdown()
        for door in list(self.open):
            door.shut()

    def delay_ns(self) -> int:
        """Return how much later than it arrives a fault lets a request in."""
        return self._venue.faults.delay_ns(time.monotonic_ns())

    def answer(self, request: RestRequest) -> RestAnswer:
        """Let the venue answer; an error of ours is logged and answered with 500."""
        real_ns = time.monotonic_ns()
        try:
            return answer_with_faults(self._venue, request, self._clock.now(real_ns), real_ns)
        except Exception:
            self.log.exception("Error answering %s %s", request.method, request.path)
            return RestAnswer(500, b"", {"Connection": "close"}, "text/plain")

    def date(self) -> str:
        """Return the time of the venue's clock, which clients measure theirs against (BitMEX section 8)."""
        return http_date(self._venue.clock_s())
