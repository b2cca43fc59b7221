"""What both venues' websocket faces are made of: a keeper, its counters, and the doors of a ``Face``.

A venue's face says how a conversation is opened, what one more channel is asked for like,
and what the end of a conversation means there.
"""

import asyncio
import logging
from abc import ABC, abstractmethod

from dquant.errors import MarketError
from dquant.markets.conversation import ConnectionSettings, Conversation, Keeper
from dquant.markets.face import MarketSink, MarketSpec
from dquant.markets.lag_watch import LagWatch
from dquant.model.book import Levels
from dquant.util import now_ns

logger = logging.getLogger(__name__)

# The venue is asked for its time before it is believed to be late, but not more often than this …
MEASURE_AGAIN_S = 5.0
# … and now and then, because two clocks drift apart.
MEASURE_S = 600.0


class WebsocketFace(ABC):
    """Keeps one market connected and hands its events to ``sink``.

    Args:
        spec: What the market's name stands for.
        settings: How to connect and to wait.
        sink: The market.
        channels: What is subscribed on every connection, by the venue's own names.

    """

    def __init__(
        self, spec: MarketSpec, settings: ConnectionSettings, sink: MarketSink, channels: tuple[str, ...]
    ) -> None:
        self._spec = spec
        self._settings = settings
        self._sink = sink
        self._channels = list(channels)
        self._rows_quarantined = 0
        self._lag = LagWatch(settings.book_lag_s)
        self._offset_ns = 0  # venue's clock minus ours, as last measured
        self._measured_at = 0.0  # by the loop's clock; when the venue was last asked for its time
        self._measuring: asyncio.Task[None] | None = None
        self._keeper = Keeper(
            spec.name, settings, self._open, self._on_active, sink.on_connected, self._on_down
        )

    @property
    def messages(self) -> int:
        """Messages received since the start."""
        return self._keeper.messages

    @property
    def resyncs(self) -> int:
        """Snapshots asked for since the start because a book was in doubt."""
        return self._keeper.resyncs

    @property
    def quarantined(self) -> int:
        """Frames and rows that could not be read since the start, REST included."""
        return self._keeper.quarantined + self._rows_quarantined

    @property
    def reconnects(self) -> int:
        """How often a conversation ended since the start."""
        return self._keeper.reconnects

    async def keep_connect(self) -> None:
        """Stay connected until cancelled."""
        try:
            await self._keeper.keep_connect()
        finally:
            if self._measuring is not None:
                self._measuring.cancel()

    def sub_channel(self, channel: str) -> None:
        """Subscribe one more channel of the instrument, now and after every reconnect."""
        if channel not in self._channels:
            self._channels.append(channel)
            active = self._keeper.active
            if active is not None:
                self._subscribe(active, channel)
                active.drain()

    def depth(self, levels: int) -> tuple[Levels, Levels] | None:
        """Return the best levels of the live book, best first, or ``None``."""
        active = self._keeper.active
        return None if active is None else active.core.depth(active.instrument.inst_id, levels)

    async def _measure_clock(self) -> None:
        """Ask the venue for its time.

        Raises:
            MarketError: It did not answer.

        """
        self._measured_at = asyncio.get_running_loop().time()
        asked_at = now_ns()
        venue_now = await self._server_time()
        answered_at = now_ns()
        self._offset_ns = venue_now - (asked_at + answered_at) // 2
        self._lag.measure(self._offset_ns, answered_at - asked_at)

    async def _try_measure_clock(self) -> None:
        try:
            await self._measure_clock()
        except MarketError as exc:
            logger.info("%s: no time of the venue: %s", self._spec.name, exc)

    def _on_tick(self, conversation: Conversation, now: int) -> None:
        """Look at the clock, twice a second."""
        if not conversation.is_heard or (self._measuring is not None and not self._measuring.done()):
            return
        since_s = asyncio.get_running_loop().time() - self._measured_at
        if since_s > (MEASURE_AGAIN_S if self._lag.is_late else MEASURE_S):
            self._measuring = asyncio.create_task(self._try_measure_clock())

    @abstractmethod
    async def _server_time(self) -> int:
        """Return the venue's clock, ns since the Unix epoch."""

    @abstractmethod
    async def _open(self) -> Conversation:
        """Make the next conversation."""

    @abstractmethod
    def _subscribe(self, conversation: Conversation, channel: str) -> None:
        """Ask for one more channel."""

    def _on_active(self, conversation: Conversation) -> None:
        """Take note that this conversation is heard from now on."""
        self._sink.on_instrument(conversation.instrument)
        conversation.take_over(self._sink.price)

    def _on_down(self, reason: str) -> None:
        """Take note that no conversation is there now."""
        if self._lag.is_late:
            self._lag.forget()
        self._sink.on_down("connection lost", reason)
