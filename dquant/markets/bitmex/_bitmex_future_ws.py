"""BitMEX public websocket face: one symbol, kept connected.

It owns clock and sockets (through ``conversation``) and looks the symbol up over REST
before the first connection, so that a name the venue does not list is said at once.
Perpetuals only: nothing here rolls. Fact sheet ``bitmex`` sections 1 and 2.
"""

import logging

import msgspec

from dquant.errors import MarketUnreachable
from dquant.markets.bitmex._bitmex_future_rest import BitmexFutureRest
from dquant.markets.bitmex._bitmex_protocol import BitmexPublicProtocol
from dquant.markets.conversation import ConnectionSettings, Conversation
from dquant.markets.face import MarketSink, MarketSpec
from dquant.markets.websocket_face import WebsocketFace
from dquant.model.events import Event, InstrumentState, SubscriptionChanged
from dquant.model.instrument import Instrument
from dquant.util import now_ns

logger = logging.getLogger(__name__)

BOOK_TOPIC = "orderBookL2"
# ``quote`` is what a lost delta of the book shows by.
DEFAULT_TOPICS = (BOOK_TOPIC, "quote", "trade", "instrument", "funding")


class BitmexFutureWs(WebsocketFace):
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
        super().__init__(spec, settings, sink, topics)
        self._instrument: Instrument | None = None
        self._symbol = spec.inst_id
        self._rest = rest
        self._url = ws_url

    def _subscribe(self, conversation: Conversation, channel: str) -> None:
        core = conversation.core
        assert isinstance(core, BitmexPublicProtocol)
        core.subscribe([channel])

    async def _open(self) -> Conversation:
        if self._instrument is None:
            self._instrument = await self._resolve()
        core = BitmexPublicProtocol(
            [self._symbol],
            silence_s=self._settings.book_silence_s,
            now=now_ns(),
            topics=tuple(self._channels),
            lag=self._lag,
        )
        core.receive_state(self._symbol, self._instrument.state, now_ns())
        core.subscribe()
        return Conversation(
            core,
            self._url,
            self._settings,
            self._sink.on_top,
            self._on_event,
            self._instrument,
            self._on_tick,
        )

    async def _server_time(self) -> int:
        return await self._rest.server_time(self._symbol)

    async def _resolve(self) -> Instrument:
        found = await self._rest.instruments([self._symbol])
        self._rows_quarantined += self._rest.take_quarantined()
        for instrument in found:
            if instrument.inst_id == self._symbol:
                return instrument
        raise MarketUnreachable(f"{self._symbol} is not among the active instruments")

    def _on_event(self, conversation: Conversation, event: Event) -> None:
        if not conversation.is_heard:
            return
        self._sink.on_event(event)
        if isinstance(event, InstrumentState) and event.inst_id == self._symbol:
            # The next connection may bring the book before it brings this.
            self._instrument = msgspec.structs.replace(conversation.instrument, state=event.state)
        elif isinstance(event, SubscriptionChanged) and not event.is_subscribed:
            # Without a code it was not the venue that ended it.
            words = f"refused: {event.code} {event.message}" if event.code else event.message
            logger.warning("%s: %s %s", self._spec.name, event.channel, words)
            if event.channel == BOOK_TOPIC:
                # Nothing on this connection will bring a price any more; the next one may.
                self._sink.on_down("subscription refused", f"{event.code} {event.message}")
                conversation.close("subscription refused")
