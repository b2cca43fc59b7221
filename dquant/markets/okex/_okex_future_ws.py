"""OKX public websocket face: which instrument the market stands for, and when it rolls.

It owns clock and sockets (through ``conversation``) and asks REST for the instruments
before each connection, so that a market name finds today's contract without a restart.
A dated contract ends at its expiry: the conversation is left with the reason ``rolling``
and the next one waits until the alias has a listed contract (fact sheet ``okx-v5``
section 6: listed at 08:10 UTC, ten minutes after delivery).
"""

import asyncio
import logging
import random

from dquant.errors import MarketError
from dquant.markets.conversation import ConnectionSettings, Conversation, Keeper
from dquant.markets.face import MarketSink, MarketSpec
from dquant.markets.okex._okex_expiry import contract_of
from dquant.markets.okex._okex_future_rest import OkexFutureRest
from dquant.markets.okex._okex_protocol import OkexPublicProtocol
from dquant.model.book import Levels
from dquant.model.events import Event, InstrumentState, SubscriptionChanged
from dquant.model.instrument import Instrument
from dquant.util import now_ns

logger = logging.getLogger(__name__)

# The instruments endpoint allows 20 requests in 2 s; a listing is awaited far below that.
LISTING_POLL_S = 2.0
ENDED_STATES = ("expired",)
NOT_YET_STATES = ("preopen", "test")
UNKNOWN_INSTRUMENT = "60018"
WIRE_KINDS = {"future": "FUTURES", "swap": "SWAP", "spot": "SPOT"}

DEFAULT_CHANNELS = ("books", "bbo-tbt", "trades", "mark-price", "index-tickers")


class OkexFutureWs:
    """Keeps one market of OKX connected and hands its events to ``sink``.

    Args:
        ws_url: The address up to ``/ws/v5``.
        channels: Public channels of the instrument; ``books`` is what its verdict rests on.

    """

    def __init__(
        self,
        spec: MarketSpec,
        rest: OkexFutureRest,
        ws_url: str,
        settings: ConnectionSettings,
        sink: MarketSink,
        channels: tuple[str, ...] = DEFAULT_CHANNELS,
    ) -> None:
        self.instrument: Instrument | None = None
        self.quarantined = self.messages = self.resyncs = 0
        self._spec = spec
        self._rest = rest
        self._url = f"{ws_url.rstrip('/')}/public"
        self._settings = settings
        self._sink = sink
        self._channels = list(channels)
        self._listed: list[Instrument] = []
        self._offset_ns = 0  # venue's clock minus ours
        self._newest_ts_event = 0
        self._is_rolling = False
        self._before = (0, 0, 0)  # messages, resyncs and quarantined of earlier conversations
        self._keeper = Keeper(spec.name, settings, self._open, self._on_down, self._on_handed_over)

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
            if active is not None and self.instrument is not None:
                core = active.core
                assert isinstance(core, OkexPublicProtocol)
                core.subscribe([_arg_of(channel, self.instrument)])
                active.drain()

    def depth(self, levels: int) -> tuple[Levels, Levels] | None:
        """Return the best levels of the live book, best first, or ``None``."""
        active = self._keeper.active
        if active is None or self.instrument is None:
            return None
        return active.core.depth(self.instrument.inst_id, levels)

    # -- which instrument ----------------------------------------------------------------------

    async def _open(self) -> Conversation:
        instrument = await self._resolve()
        if self.instrument is not None and instrument.inst_id != self.instrument.inst_id:
            logger.info("%s: %s follows %s", self._spec.name, instrument.inst_id, self.instrument.inst_id)
        self.instrument = instrument
        self._is_rolling = False
        self._newest_ts_event = 0
        self._sink.on_instrument(instrument)
        self._before = (self.messages, self.resyncs, self.quarantined)
        core = OkexPublicProtocol(silence_s=self._settings.book_silence_s, now=now_ns())
        wanted = [_arg_of(channel, instrument) for channel in self._channels]
        if instrument.kind == "swap":
            wanted.append({"channel": "funding-rate", "instId": instrument.inst_id})
        core.subscribe(wanted)
        if instrument.kind == "future":
            core.subscribe([{"channel": "instruments", "instType": WIRE_KINDS[instrument.kind]}])
        return Conversation(core, self._url, self._settings, self._sink.on_top, self._on_event, self._on_tick)

    async def _resolve(self) -> Instrument:
        """Return the instrument to connect to, waiting while the venue lists none.

        Raises:
            MarketError: REST does not answer and no known contract is still alive.

        """
        while True:
            try:
                asked_at = now_ns()
                self._listed = await self._rest.instruments(self._spec.kind, self._spec.family)
                answered_at = now_ns()
                self._offset_ns = await self._rest.server_time() - (answered_at + now_ns()) // 2
            except MarketError:
                known = self.instrument
                if known is None or self._is_rolling or self._is_expired(known, now_ns()):
                    raise
                return known  # a REST fault must not keep a working websocket from us
            self.quarantined += self._rest.take_quarantined()
            found = self._choose(answered_at + self._offset_ns)
            if found is not None and found.state not in NOT_YET_STATES + ENDED_STATES:
                return found
            logger.debug("%s: nothing listed, asked at %d", self._spec.name, asked_at)
            self._is_rolling = True
            self._sink.on_down("rolling", f"no listed contract of {self._spec.title} yet")
            await asyncio.sleep(LISTING_POLL_S * random.uniform(0.5, 1.0))

    def _choose(self, venue_now: int) -> Instrument | None:
        if self._spec.alias is None:
            wanted = self._spec.inst_id
            return next((item for item in self._listed if item.inst_id == wanted), None)
        found = contract_of(self._spec.alias, self._listed, venue_now)
        if found is not None and found.alias and found.alias != self._spec.alias:
            logger.warning(
                "%s: %s is %s by its expiry, the venue calls it %s",
                self._spec.name,
                found.inst_id,
                self._spec.alias,
                found.alias,
            )
        return found

    def _is_expired(self, instrument: Instrument, now: int) -> bool:
        if instrument.expiry is None:
            return False
        return max(now + self._offset_ns, self._newest_ts_event) >= instrument.expiry

    def _roll(self, conversation: Conversation) -> None:
        if not self._is_rolling and self.instrument is not None:
            self._is_rolling = True
            conversation.is_heard = False
            self._sink.on_down("rolling", f"{self.instrument.inst_id} expired")
            conversation.close("rolling")

    # -- what the conversation says ------------------------------------------------------------

    def _on_event(self, conversation: Conversation, event: Event) -> None:
        if not conversation.is_heard:
            return
        if isinstance(event, InstrumentState):
            if self.instrument is not None and event.inst_id == self.instrument.inst_id:
                if event.state in ENDED_STATES:
                    self._roll(conversation)
                self._sink.on_event(event)
            return
        if isinstance(event, SubscriptionChanged) and not event.is_subscribed:
            logger.warning(
                "%s: %s refused: %s %s",
                self._spec.name,
                event.channel or "a channel",
                event.code,
                event.message,
            )
            is_book = event.channel == "books"
            if is_book and event.code == UNKNOWN_INSTRUMENT and self._spec.alias is not None:
                conversation.close("instrument unknown to the venue")
        self._sink.on_event(event)

    def _on_tick(self, conversation: Conversation, now: int) -> None:
        if conversation is self._keeper.active:
            self._count(conversation)
            if conversation.last_top is not None:
                self._newest_ts_event = conversation.last_top.ts_event
            if self.instrument is not None and self._is_expired(self.instrument, now):
                self._roll(conversation)

    def _count(self, conversation: Conversation) -> None:
        core = conversation.core
        messages, resyncs, quarantined = self._before
        self.messages = messages + core.messages
        self.resyncs = resyncs + core.resyncs()
        self.quarantined = quarantined + core.quarantined

    def _on_down(self, reason: str, delay_s: float) -> None:
        if self._is_rolling:
            return
        logger.warning("%s: %s; next try in %.1f s", self._spec.name, reason, delay_s)
        self._sink.on_down("connection lost", reason)

    def _on_handed_over(self, conversation: Conversation) -> None:
        logger.info("%s: the next connection took over", self._spec.name)
        if conversation.last_top is not None:
            self._sink.on_top(conversation.last_top)


def _arg_of(channel: str, instrument: Instrument) -> dict[str, str]:
    # An index is named by its pair, which is the family of a derivative (fact sheet 5.4).
    return {
        "channel": channel,
        "instId": instrument.family if channel == "index-tickers" else instrument.inst_id,
    }
