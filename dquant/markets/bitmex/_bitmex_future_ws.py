"""BitMEX public websocket face: one symbol, kept connected.

It owns clock and sockets (through ``conversation``) and looks the symbol up over REST
before the first connection, so that a name the venue does not list is said at once.
Perpetuals only: nothing here rolls. Fact sheet ``bitmex`` sections 1 and 2.
"""

import logging

from dquant.errors import MarketUnreachable
from dquant.markets.bitmex._bitmex_future_rest import BitmexFutureRest
from dquant.markets.bitmex._bitmex_protocol import BitmexPublicProtocol
from dquant.markets.conversation import ConnectionSettings, Conversation, Keeper
from dquant.markets.face import MarketSink, MarketSpec
from dquant.model.book import Levels
from dquant.model.events import Event, SubscriptionChanged
from dquant.model.instrument import Instrument
from dquant.util import now_ns

logger = logging.getLogger(__name__)

BOOK_TOPIC = "orderBookL2"
DEFAULT_TOPICS = (BOOK_TOPIC, "trade", "instrument", "funding")


class BitmexFutureWs:
    """Keeps one market of BitMEX connected and hands its events to ``sink``."""

    def __init__(
        self,
        spec: MarketSpec,
        rest: BitmexFutureRest,
        ws_url: str,
        settings: ConnectionSettings,
        sink: MarketSink,
        topics: tuple[str, ...] = DEFAULT_TOPICS,
    ) -> None:
        assert spec.inst_id is not None
        self._instrument: Instrument | None = None
        self._rows_quarantined = 0
        self._spec = spec
        self._symbol = spec.inst_id
        self._rest = rest
        self._url = ws_url
        self._settings = settings
        self._sink = sink
        self._topics = list(topics)
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
        """Subscribe one more topic of the symbol, now and after every reconnect."""
        if channel not in self._topics:
            self._topics.append(channel)
            active = self._keeper.active
            if active is not None:
                core = active.core
                assert isinstance(core, BitmexPublicProtocol)
                core.subscribe([channel])
                active.drain()

    def depth(self, levels: int) -> tuple[Levels, Levels] | None:
        """Return the best levels of the live book, best first, or ``None``."""
        active = self._keeper.active
        return None if active is None else active.core.depth(self._symbol, levels)

    async def _open(self) -> Conversation:
        if self._instrument is None:
            self._instrument = await self._resolve()
        core = BitmexPublicProtocol(
            [self._symbol], silence_s=self._settings.book_silence_s, now=now_ns(), topics=tuple(self._topics)
        )
        core.subscribe()
        return Conversation(
            core,
            self._url,
            self._settings,
            self._sink.on_top,
            self._on_event,
            self._instrument,
        )

    async def _resolve(self) -> Instrument:
        found = await self._rest.instruments([self._symbol])
        self._rows_quarantined += self._rest.take_quarantined()
        for instrument in found:
            if instrument.inst_id == self._symbol:
                return instrument
        raise MarketUnreachable(f"{self._symbol} is not among the active instruments")

    def _on_active(self, conversation: Conversation) -> None:
        self._sink.on_instrument(conversation.instrument)
        conversation.repeat(self._sink.price)

    def _on_event(self, conversation: Conversation, event: Event) -> None:
        if not conversation.is_heard:
            return
        self._sink.on_event(event)
        if isinstance(event, SubscriptionChanged) and not event.is_subscribed:
            logger.warning("%s: %s refused: %s %s", self._spec.name, event.channel, event.code, event.message)
            if event.channel == BOOK_TOPIC:
                # Nothing on this connection will bring a price any more; the next one may.
                self._sink.on_down("subscription refused", f"{event.code} {event.message}")
                conversation.close("subscription refused")

    def _on_down(self, reason: str) -> None:
        self._sink.on_down("connection lost", reason)
