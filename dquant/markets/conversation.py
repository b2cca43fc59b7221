"""One websocket connection with one protocol core, and the loop that keeps one up for ever.

This is the face that both venues share: it owns the socket and the clock and decides
nothing about what is said. A conversation ends by the venue, by silence, by damage or
because its face ended it; ``Keeper`` then waits with full jitter and opens the next one
with a new core, so that no memory of the old connection can leak. A clean close is a
fault like any other: a market feed has no reason to end.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import time_ns
from typing import Any, Protocol

from dquant.constants import NS_PER_S
from dquant.errors import MarketError, RateLimited, RemoteProtocolError
from dquant.markets.connect_gate import reserve_turn
from dquant.markets.transport import Connection, Transport, connect
from dquant.model.book import Levels
from dquant.model.events import LIVE, BookStale, Event, Price, ReconnectAsked, TopOfBook
from dquant.model.instrument import Instrument
from dquant.util import full_jitter, now_ns

logger = logging.getLogger(__name__)
wire_logger = logging.getLogger("dquant.wire")

TICK_S = 0.5
# A conversation that brought a believed book for this long has earned a fresh back-off.
SETTLED_S = 10.0
# The venue gives 60 s between its notice and the end (OKX fact sheet 2.3).
HANDOVER_S = 45.0
HANDOVER_TRIES = 5
# A connection that brings no book at all for this long is given up for the next one, and so is one
# whose book has been in doubt for this long: what was asked for there does not come (any more).
FIRST_BOOK_S = 30.0
LOST_BOOK_S = 90.0
# While the instrument is suspended no book is expected, but no longer than this: that it trades again
# may have been missed between REST and the subscription, and the next connection asks anew.
SUSPENDED_S = 900.0
CLOSING_S = 1.0
# What a connection tells at first may be older than what the one before it told last, for this long.
BEHIND_S = 3.0
WIRE_LOG_CHARACTERS = 400


class Core(Protocol):
    """A protocol core: ``okex._okex_protocol`` and ``bitmex._bitmex_protocol``."""

    silence_limit_s: float
    messages: int
    quarantined: int

    def receive_open(self, now: int) -> None: ...
    def receive_text(self, text: str | bytes, ts_recv: int) -> None: ...
    def receive_silence(self) -> None: ...
    def receive_time(self, now: int) -> None: ...
    def events_received(self) -> list[Event]: ...
    def texts_to_send(self) -> list[str]: ...
    def depth(self, inst_id: str, levels: int) -> tuple[Levels, Levels] | None: ...
    def is_suspended(self, inst_id: str) -> bool: ...
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
    book_lag_s: float = 3.0


class Conversation:
    """One connection from its opening to its end.

    Args:
        core: A fresh core with its subscriptions already asked for.
        url: Where to connect.
        on_top: Takes each top of book while this conversation is the one that is heard.
        on_event: Takes every other event, in the running loop.
        instrument: What it is about.
        on_tick: Called twice a second with our clock while connected.

    """

    def __init__(
        self,
        core: Core,
        url: str,
        settings: ConnectionSettings,
        on_top: Callable[[TopOfBook], None],
        on_event: Callable[["Conversation", Event], None],
        instrument: Instrument,
        on_tick: Callable[["Conversation", int], None] | None = None,
    ) -> None:
        self.core = core
        self.url = url
        self.instrument = instrument
        self.is_heard = False  # set by the keeper; a successor is silent until it takes over
        self.ready = asyncio.Event()  # set with the first believed book
        self.leave_asked = asyncio.Event()  # the venue announced the end of this connection
        self._settings = settings
        self._on_top = on_top
        self._on_event = on_event
        self._on_tick = on_tick
        self._on_end: Callable[[Conversation, str], None] = _ignore_end
        self._connection: Connection | None = None
        self._closing = ""
        self._book_top: TopOfBook | None = None  # newest of the verified book, while it is believed
        self._ready_made_top: TopOfBook | None = None
        self._stale: BookStale | None = None
        self._newest_told = 0  # ts_event of the live price of before, until this conversation has caught up
        self._behind_until = 0.0  # by the loop's clock
        self._first_top_at = 0  # when the first believed book came, our clock; 0 before
        self._last_text_at = 0
        self._is_wire_logged = wire_logger.isEnabledFor(logging.DEBUG)

    async def run(
        self,
        on_open: Callable[["Conversation"], None],
        on_end: Callable[["Conversation", str], None],
    ) -> str:
        """Connect, converse, and return what ended the conversation.

        Args:
            on_open: Called once the connection is there.
            on_end: Called as soon as nothing that was said may be believed any more, which is before
                the connection is properly closed; perhaps more than once.

        Raises:
            MarketError: The connection could not be opened, or the conversation was damaged.

        """
        settings = self._settings
        self._on_end = on_end
        await asyncio.sleep(reserve_turn(self.url))
        self._connection = await connect(
            self.url, self._receive, timeout_s=settings.connect_timeout_s, transport=settings.transport
        )
        wire_logger.info("= open %s", self.url)
        ended = asyncio.ensure_future(self._connection.wait_closed())
        ticker = asyncio.ensure_future(self._tick())
        try:
            self._last_text_at = now = now_ns()
            self.core.receive_open(now)
            on_open(self)
            self.drain()
            if self._closing:
                self.close(self._closing)
            await asyncio.wait({ticker, ended}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                reason = ended.result()
            else:
                ticker.result()  # raises: a tick ends only by damage
                raise AssertionError("the ticker ended by itself")
        except Exception as exc:
            on_end(self, str(exc))
            raise
        else:
            on_end(self, reason)
            return reason
        finally:
            ticker.cancel()
            self._connection.close(self._closing or "closed by us")
            await asyncio.wait({ticker, ended}, timeout=CLOSING_S)
            await _end(ended)
            wire_logger.info("= closed %s", self.url)

    def close(self, reason: str) -> None:
        """End the conversation, unheard from now on; ``run`` returns with this reason."""
        self.is_heard = False
        self._closing = self._closing or reason
        if self._connection is not None:
            self._connection.close(reason)

    def is_settled(self, now: int) -> bool:
        """Tell whether the conversation held long enough to be no part of a row of failures."""
        return self._first_top_at > 0 and now - self._first_top_at > SETTLED_S * NS_PER_S

    def take_over(self, price: Price) -> None:
        """Say again what was said so far and still holds, where that is news beside ``price``.

        From here on no top is told that is older than a live ``price``, until the first that is not: a
        connection may lag the one before it by a little, and its core cannot know what that one told.
        """
        if self._book_top is None:
            if self._stale is not None:
                self._on_event(self, self._stale)
            return
        if price.verdict == LIVE:
            self._newest_told = price.ts_event
            self._behind_until = asyncio.get_running_loop().time() + BEHIND_S
        tops = [self._book_top]
        ready_made = self._ready_made_top
        if ready_made is not None and ready_made.ts_event >= self._book_top.ts_event:
            tops.append(ready_made)
        for top in tops:
            if top.ts_event > self._newest_told:
                self._tell_top(top)

    def drain(self) -> None:
        """Hand on what the core has to say: events first, then texts to the wire."""
        events = self.core.events_received()
        tops = 0
        for event in events:
            if type(event) is TopOfBook:
                tops += 1
                if event.from_book:
                    self._book_top = event
                    if not self._first_top_at:
                        self._first_top_at = event.ts_recv
                        self.ready.set()
                else:
                    self._ready_made_top = event
                if self.is_heard:
                    if self._newest_told:
                        self._tell_top(event)
                    else:
                        self._on_top(event)
            else:
                self._note(event)
                self._on_event(self, event)
        if tops and tops == len(events):
            return  # a book that is believed asks for nothing; the hot path ends here
        if self._connection is None:
            return  # a venue may speak before ``connect`` has returned; what we say waits until then
        for text in self.core.texts_to_send():
            wire_logger.debug("> %.400s", text)
            self._connection.send(text)

    def _tell_top(self, top: TopOfBook) -> None:
        """Tell a top unless the conversation before this one told a newer one."""
        if top.ts_event < self._newest_told and asyncio.get_running_loop().time() < self._behind_until:
            return
        self._newest_told = 0
        self._on_top(top)

    def _note(self, event: Event) -> None:
        if type(event) is BookStale:
            self._newest_told = 0  # any price is news after that
            self._stale = event
            self._book_top = self._ready_made_top = None
        elif type(event) is ReconnectAsked:
            self.leave_asked.set()

    def _receive(self, text: bytes) -> None:
        now = time_ns()
        self._last_text_at = now
        if self._is_wire_logged:
            wire_logger.debug("< %s", text[:WIRE_LOG_CHARACTERS])
        try:
            self.core.receive_text(text, now)
            self.drain()
        except Exception as exc:
            # More of the same read may follow before the end is noticed: none of it counts.
            self._on_end(self, str(exc))
            raise

    async def _tick(self) -> None:
        asked_at = 0
        clock = asyncio.get_running_loop().time
        believed_at = traded_at = clock()
        while True:
            await asyncio.sleep(TICK_S)
            now = now_ns()
            limit = int(self.core.silence_limit_s * NS_PER_S)
            # Our clock may have been set back: what was heard is not ahead of it.
            self._last_text_at, asked_at = min(self._last_text_at, now), min(asked_at, now)
            if now - max(self._last_text_at, asked_at) > limit:
                self.core.receive_silence()
                asked_at = now
            if self._book_top is not None:
                believed_at = traded_at = clock()
            elif self.core.is_suspended(self.instrument.inst_id) and clock() - traded_at < SUSPENDED_S:
                believed_at = clock()
            bookless_s = LOST_BOOK_S if self._first_top_at else FIRST_BOOK_S
            if clock() - believed_at > bookless_s:
                raise RemoteProtocolError(f"no book in {bookless_s:g} s")
            self.core.receive_time(now)
            if self._on_tick is not None:
                self._on_tick(self, now)
            self.drain()


class Keeper:
    """Keeps one conversation up for ever, with a successor before the venue ends the old one.

    Only the ``active`` conversation is to be believed. It is active from before it connects until it
    has ended or another one took over, with no wait between that and ``on_down``.

    Args:
        name: For the log.
        open_conversation: Makes the next conversation; may ask the venue's REST first.
        on_active: Given the conversation that is to be heard from now on.
        on_open: Told that the active conversation has its connection.
        on_down: Told, once each time, why there is no conversation now.

    """

    def __init__(
        self,
        name: str,
        settings: ConnectionSettings,
        open_conversation: Callable[[], Awaitable[Conversation]],
        on_active: Callable[[Conversation], None],
        on_open: Callable[[], None],
        on_down: Callable[[str], None],
    ) -> None:
        self.active: Conversation | None = None
        self.reconnects = 0
        self._name = name
        self._settings = settings
        self._open = open_conversation
        self._on_active = on_active
        self._on_open = on_open
        self._on_down = on_down
        self._attempt = 0
        self._running: dict[asyncio.Future[str], Conversation] = {}
        self._ended = [0, 0, 0]  # messages, resyncs and quarantined of conversations that are over

    @property
    def messages(self) -> int:
        """Messages received since the start."""
        return self._ended[0] + sum(each.core.messages for each in self._running.values())

    @property
    def resyncs(self) -> int:
        """Snapshots asked for since the start because a book was in doubt."""
        return self._ended[1] + sum(each.core.resyncs() for each in self._running.values())

    @property
    def quarantined(self) -> int:
        """Frames and rows set aside since the start."""
        return self._ended[2] + sum(each.core.quarantined for each in self._running.values())

    async def keep_connect(self) -> None:
        """Converse until cancelled."""
        try:
            await self._keep_connect()
        finally:
            self.active = None  # who asks for a channel now asks nobody

    async def _keep_connect(self) -> None:
        while True:
            conversation = None
            pause_s = 0.0
            try:
                conversation = await self._open()
                self._activate(conversation)
                reason = await self._follow(conversation)
            except MarketError as exc:
                reason = str(exc)
                if isinstance(exc, RateLimited):
                    pause_s = exc.retry_after_s
            except Exception as exc:
                # A bug of ours must not end the market: it is told like any fault, with its traceback.
                logger.exception("%s: conversation failed", self._name)
                reason = f"{type(exc).__name__}: {exc}"
            if conversation is None:
                self._on_down(reason)
            elif self.active is not None:
                self._lose(self.active, reason)
            delay_s = pause_s + self._delay_s(self._attempt)
            self._attempt += 1
            self.reconnects += 1
            logger.warning("%s: %s; next try in %.1f s", self._name, reason, delay_s)
            await asyncio.sleep(delay_s)

    def _delay_s(self, attempt: int) -> float:
        settings = self._settings
        return full_jitter(attempt, settings.reconnect_base_s, settings.reconnect_ceiling_s)

    def _activate(self, conversation: Conversation) -> None:
        if self.active is not None:
            self.active.is_heard = False
        self.active = conversation
        conversation.is_heard = True
        self._on_active(conversation)

    def _lose(self, conversation: Conversation, reason: str) -> None:
        if conversation is not self.active:
            return
        self.active = None
        conversation.is_heard = False
        if conversation.is_settled(now_ns()):
            self._attempt = 0
        self._on_down(reason)

    def _opened(self, conversation: Conversation) -> None:
        if conversation is self.active:
            self._on_open()

    def _start(self, conversation: Conversation) -> "asyncio.Future[str]":
        run: asyncio.Future[str] = asyncio.ensure_future(conversation.run(self._opened, self._lose))
        self._running[run] = conversation
        run.add_done_callback(self._retire)
        return run

    def _retire(self, run: "asyncio.Future[str]") -> None:
        core = self._running.pop(run).core
        for place, count in enumerate((core.messages, core.resyncs(), core.quarantined)):
            self._ended[place] += count

    async def _follow(self, conversation: Conversation) -> str:
        """Run a conversation and, when the venue announces its end, its successors."""
        run = self._start(conversation)
        in_a_row = 0
        try:
            while True:
                leave = asyncio.ensure_future(conversation.leave_asked.wait())
                both: set[asyncio.Future[Any]] = {run, leave}
                try:
                    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    leave.cancel()
                if run.done():
                    return run.result()
                # A venue that announces the end of each new connection is not asked for the next at once.
                in_a_row = 0 if conversation.is_settled(now_ns()) else in_a_row + 1
                if in_a_row:
                    await asyncio.wait({run}, timeout=self._delay_s(in_a_row))
                    if run.done():
                        return run.result()
                successor, next_run = await self._hand_over(run)
                if successor is None or next_run is None:
                    return await run
                old_run, conversation, run = run, successor, next_run
                self._activate(successor)
                old_run.cancel()  # closes its connection, and nobody needs to wait for that
        finally:
            await _end(run)

    async def _hand_over(
        self, old_run: "asyncio.Future[str]"
    ) -> tuple[Conversation, "asyncio.Future[str]"] | tuple[None, None]:
        """Open the next conversation while the old one still speaks; take one not ready once that is over."""
        for attempt in range(HANDOVER_TRIES):
            try:
                successor = await self._open()
            except Exception as exc:
                logger.warning("%s: no successor yet: %s", self._name, exc)
            else:
                run = self._start(successor)
                if await self._is_next(successor, run, old_run):
                    return successor, run
            await asyncio.wait({old_run}, timeout=self._delay_s(attempt))
            if old_run.done():
                break
        return None, None

    @staticmethod
    async def _is_next(
        successor: Conversation, run: "asyncio.Future[str]", old_run: "asyncio.Future[str]"
    ) -> bool:
        """Wait for the first believed book of a successor; end it if it fails."""
        ready = asyncio.ensure_future(successor.ready.wait())
        is_next = False
        try:
            waited: set[asyncio.Future[Any]] = {run, ready, old_run}
            await asyncio.wait(waited, timeout=HANDOVER_S, return_when=asyncio.FIRST_COMPLETED)
            is_next = not run.done() and (successor.ready.is_set() or old_run.done())
        finally:
            ready.cancel()
            if not is_next:
                await _end(run)
        return is_next


def _ignore_end(conversation: Conversation, reason: str) -> None:
    pass


async def _end(task: "asyncio.Future[str]") -> None:
    """Cancel a task and wait for it; what it raises is nobody's business any more, our own end is."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()
