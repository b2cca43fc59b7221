"""What both venues' websocket faces are made of: a keeper, its counters, and the doors of a ``Face``.

A venue's face says how a conversation is opened, what one more channel is asked for like,
and what the end of a conversation means there.
"""

from abc import ABC, abstractmethod

from dquant.markets.conversation import ConnectionSettings, Conversation, Keeper
from dquant.markets.face import MarketSink, MarketSpec
from dquant.model.book import Levels


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
        await self._keeper.keep_connect()

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

    @abstractmethod
    async def _open(self) -> Conversation:
        """Make the next conversation."""

    @abstractmethod
    def _subscribe(self, conversation: Conversation, channel: str) -> None:
        """Ask for one more channel."""

    def _on_active(self, conversation: Conversation) -> None:
        """Take note that this conversation is heard from now on."""
        self._sink.on_instrument(conversation.instrument)
        conversation.repeat(self._sink.price)

    def _on_down(self, reason: str) -> None:
        """Take note that no conversation is there now."""
        self._sink.on_down("connection lost", reason)
