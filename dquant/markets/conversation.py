"""One websocket connection with one protocol core, and the loop that keeps one up for ever.

This is the face that both venues share: it owns the socket and the clock and decides
nothing about what is said. A conversation ends by the venue, by silence, by damage or
because its face ended it; ``Keeper`` then waits with full jitter and opens the next one
with a new core, so that no memory of the old connection can leak. A clean close is a
fault like any other: a market feed has no reason to end.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import time_ns
from typing import Any, Protocol

from dquant.constants import NS_PER_S
from dquant.errors import MarketError
from dquant.markets.transport import Connection, Transport, connect
from dquant.model.book import Levels
from dquant.model.events import Event, ReconnectAsked, TopOfBook
from dquant.util import full_jitter, now_ns

logger = logging.getLogger(__name__)
wire_logger = logging.getLogger("dquant.wire")

TICK_S = 0.5
# A conversation that brought a believed book for this long has earned a fresh back-off.
SETTLED_S = 10.0
# The venue gives 60 s between its notice and the end (OKX fact sheet 2.3).
HANDOVER_S = 45.0
HANDOVER_TRIES = 5
WIRE_LOG_CHARACTERS = 400


class Core(Protocol):
    """A protocol core: ``okex._okex_protocol`` and ``bitmex._bitmex_protocol``."""

    silence_limit_s: float
    messages: int
    quarantined: int

    def receive_text(self, text: str | bytes, ts_recv: int) -> None: ...
    def receive_silence(self) -> None: ...
    def receive_time(self, now: int) -> None: ...
    def events_received(self) -> list[Event]: ...
    def texts_to_send(self) -> list[str]: ...
    def depth(self, inst_id: str, levels: int) -> tuple[Levels, Levels] | None: ...
    def resyncs(self) -> int: ...


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """How to connect and how to wait; the keys of ``[connection]`` in the configuration."""

    transport: Transport = "auto"
    connect_timeout_s: float = 10.0
    rest_timeout_s: float = 10.0
    reconnect_base_s: float = 0.5
    reconnect_ceiling_s: float = 30.0
    book_silence_s: float = 10.0


class Conversation:
    """One connection from its opening to its end.

    Args:
        core: A fresh core with its subscriptions already asked for.
        url: Where to connect.
        on_top: Takes each top of book while this conversation is the one that is heard.
        on_event: Takes every other event, in the running loop.
        on_tick: Called twice a second with our clock while connected.

    """

    def __init__(
        self,
        core: Core,
        url: str,
        settings: ConnectionSettings,
        on_top: Callable[[TopOfBook], None],
        on_event: Callable[["Conversation", Event], None],
        on_tick: Callable[["Conversation", int], None],
    ) -> None:
        self.core = core
        self.url = url
        self.is_open = False
        self.is_heard = False  # set by the keeper; a successor is silent until it takes over
        self.last_top: TopOfBook | None = None
        self.ready = asyncio.Event()  # set with the first believed book
        self.leave_asked = asyncio.Event()  # the venue announced the end of this connection
        self._settings = settings
        self._on_top = on_top
        self._on_event = on_event
        self._on_tick = on_tick
        self._connection: Connection | None = None
        self._closing = ""
        self._first_top_at = 0  # when the first believed book came, our clock; 0 before
        self._last_text_at = 0
        self._is_wire_logged = wire_logger.isEnabledFor(logging.DEBUG)

    async def run(self) -> str:
        """Connect, converse, and return what ended the conversation.

        Raises:
            MarketError: The connection could not be opened, or the conversation was damaged.

        """
        settings = self._settings
        self._connection = await connect(
            self.url, self._receive, timeout_s=settings.connect_timeout_s, transport=settings.transport
        )
        self.is_open = True
        wire_logger.info("= open %s", self.url)
        ticker = asyncio.ensure_future(self._tick())
        ended = asyncio.ensure_future(self._connection.wait_closed())
        try:
            self._last_text_at = now_ns()
            self.drain()
            if self._closing:
                self.close(self._closing)
            done, _ = await asyncio.wait({ticker, ended}, return_when=asyncio.FIRST_COMPLETED)
            if ended in done:
                return ended.result()
            ticker.result()  # raises: a tick ends only by damage
            raise AssertionError("the ticker ended by itself")
        finally:
            self.is_open = False
            ticker.cancel()
            self._connection.close(self._closing or "closed by us")
            with contextlib.suppress(TimeoutError, MarketError, asyncio.CancelledError):
                async with asyncio.timeout(2.0):
                    await ended
            ended.cancel()
            wire_logger.info("= closed %s", self.url)

    def close(self, reason: str) -> None:
        """End the conversation; ``run`` returns with this reason."""
        self._closing = self._closing or reason
        if self._connection is not None:
            self._connection.close(reason)

    def is_settled(self, now: int) -> bool:
        """Tell whether the conversation held long enough to be no part of a row of failures."""
        return self._first_top_at > 0 and now - self._first_top_at > SETTLED_S * NS_PER_S

    def drain(self) -> None:
        """Hand on what the core has to say: events first, then texts to the wire."""
        events = self.core.events_received()
        tops = 0
        for event in events:
            if type(event) is TopOfBook:
                tops += 1
                self.last_top = event
                if not self._first_top_at and event.from_book:
                    self._first_top_at = event.ts_recv
                    self.ready.set()
                if self.is_heard:
                    self._on_top(event)
            else:
                if type(event) is ReconnectAsked:
                    self.leave_asked.set()
                self._on_event(self, event)
        if tops and tops == len(events):
            return  # a book that is believed asks for nothing; the hot path ends here
        if self._connection is None:
            return  # a venue may speak before ``connect`` has returned; what we say waits until then
        for text in self.core.texts_to_send():
            wire_logger.debug("> %.400s", text)
            self._connection.send(text)

    def _receive(self, text: bytes) -> None:
        now = time_ns()
        self._last_text_at = now
        if self._is_wire_logged:
            wire_logger.debug("< %s", text[:WIRE_LOG_CHARACTERS])
        self.core.receive_text(text, now)
        self.drain()

    async def _tick(self) -> None:
        asked_at = 0
        while True:
            await asyncio.sleep(TICK_S)
            now = now_ns()
            limit = int(self.core.silence_limit_s * NS_PER_S)
            if now - max(self._last_text_at, asked_at) > limit:
                self.core.receive_silence()
                asked_at = now
            self.core.receive_time(now)
            self._on_tick(self, now)
            self.drain()


class Keeper:
    """Keeps one conversation up for ever, with a successor before the venue ends the old one.

    Args:
        name: For the log.
        open_conversation: Makes the next conversation; may ask the venue's REST first.
        on_down: Told why there is no conversation now, and how long until the next try.
        on_handed_over: Given the conversation that took over while the old one still spoke.

    """

    def __init__(
        self,
        name: str,
        settings: ConnectionSettings,
        open_conversation: Callable[[], Awaitable[Conversation]],
        on_down: Callable[[str, float], None],
        on_handed_over: Callable[[Conversation], None],
    ) -> None:
        self.active: Conversation | None = None
        self.reconnects = 0
        self._name = name
        self._settings = settings
        self._open = open_conversation
        self._on_down = on_down
        self._on_handed_over = on_handed_over

    async def keep_connect(self) -> None:
        """Converse until cancelled."""
        attempt = 0
        while True:
            try:
                self.active = await self._open()
                self.active.is_heard = True
                reason = await self._follow(self.active)
            except MarketError as exc:
                reason = str(exc)
            except Exception as exc:
                # A bug of ours must not end the market: it is told like any fault, with its traceback.
                logger.exception("%s: conversation failed", self._name)
                reason = f"{type(exc).__name__}: {exc}"
            last, self.active = self.active, None
            if last is not None:
                last.is_heard = False
            if last is not None and last.is_settled(now_ns()):
                attempt = 0
            delay_s = full_jitter(
                attempt, self._settings.reconnect_base_s, self._settings.reconnect_ceiling_s
            )
            attempt += 1
            self.reconnects += 1
            self._on_down(reason, delay_s)
            await asyncio.sleep(delay_s)

    async def _follow(self, conversation: Conversation) -> str:
        """Run a conversation and, when the venue announces its end, its successors."""
        run: asyncio.Future[str] = asyncio.ensure_future(conversation.run())
        try:
            while True:
                leave = asyncio.ensure_future(conversation.leave_asked.wait())
                both: set[asyncio.Future[Any]] = {run, leave}
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                leave.cancel()
                if run.done():
                    return run.result()
                successor, next_run = await self._hand_over(run)
                if successor is None or next_run is None:
                    return await run
                self.active = successor
                conversation.is_heard, successor.is_heard = False, True
                self._on_handed_over(successor)
                conversation.close("handed over to the next connection")
                with contextlib.suppress(MarketError):
                    await run
                conversation, run = successor, next_run
        finally:
            await _end(run)

    async def _hand_over(
        self, old_run: "asyncio.Future[str]"
    ) -> tuple[Conversation, "asyncio.Future[str]"] | tuple[None, None]:
        """Open the next conversation while the old one still speaks; give up when that one ends."""
        for attempt in range(HANDOVER_TRIES):
            try:
                successor = await self._open()
            except MarketError as exc:
                logger.warning("%s: no successor yet: %s", self._name, exc)
            else:
                run = asyncio.ensure_future(successor.run())
                ready = asyncio.ensure_future(successor.ready.wait())
                try:
                    waited: set[asyncio.Future[Any]] = {run, ready, old_run}
                    await asyncio.wait(waited, timeout=HANDOVER_S, return_when=asyncio.FIRST_COMPLETED)
                    if successor.ready.is_set() and not run.done():
                        return successor, run
                finally:
                    ready.cancel()
                    if not successor.ready.is_set() or run.done():
                        await _end(run)
            if old_run.done():
                break
            await asyncio.sleep(
                full_jitter(attempt, self._settings.reconnect_base_s, self._settings.reconnect_ceiling_s)
            )
        return None, None


async def _end(run: "asyncio.Future[str]") -> None:
    run.cancel()
    with contextlib.suppress(asyncio.CancelledError, MarketError):
        await run
