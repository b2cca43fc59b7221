"""OKX public websocket face: which instrument the market stands for, and when it rolls.

It owns clock and sockets (through ``conversation``) and asks REST for the instruments
before each connection, so that a market name finds today's contract without a restart.
A dated contract is left when the market's alias moves on to the next one: for this week's that
is its expiry, for the others the Friday on which they get a nearer alias. The reason is
``rolling``, and the next conversation waits until the alias has a listed contract (fact
sheet ``okx-v5`` section 6: listed at 08:10 UTC, ten minutes after delivery).
"""

import asyncio
import logging
import random

import msgspec

from dquant.constants import NS_PER_S
from dquant.errors import MarketError, MarketUnreachable
from dquant.markets.conversation import TICK_S, ConnectionSettings, Conversation
from dquant.markets.face import MarketSink, MarketSpec
from dquant.markets.okex._okex_books import BOOK_CHANNEL
from dquant.markets.okex._okex_expiry import contract_of, end_of
from dquant.markets.okex._okex_future_rest import OkexFutureRest
from dquant.markets.okex._okex_protocol import TRANSIENT_CODES, OkexPublicProtocol
from dquant.markets.websocket_face import WebsocketFace
from dquant.model.events import Event, InstrumentState, SubscriptionChanged
from dquant.model.instrument import Instrument
from dquant.util import now_ns

logger = logging.getLogger(__name__)

REFUSED = "subscription refused"
# The instruments endpoint allows 20 requests in 2 s; a listing is awaited far below that.
LISTING_POLL_S = 2.0
FOR_EVER = 2**63
ENDED_STATES = ("expired",)
NOT_YET_STATES = ("preopen", "test")
WIRE_KINDS = {"future": "FUTURES", "swap": "SWAP", "spot": "SPOT"}

DEFAULT_CHANNELS = ("books", "bbo-tbt", "trades", "mark-price", "index-tickers")


class OkexFutureWs(WebsocketFace):
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
        super().__init__(spec, settings, sink, channels)
        self._instrument: Instrument | None = None
        self._rest = rest
        self._url = f"{ws_url.rstrip('/')}/public"
        self._listed: list[Instrument] = []
        self._seen_ns = 0  # the venue's clock was at least here, by the contracts it let expire
        self._end_ns = FOR_EVER  # of the alias's standing for ``_instrument``, by the venue's clock
        self._is_rolling = False

    def _subscribe(self, conversation: Conversation, channel: str) -> None:
        core = conversation.core
        assert isinstance(core, OkexPublicProtocol)
        core.subscribe([_arg_of(channel, conversation.instrument)])

    # -- which instrument ----------------------------------------------------------------------

    async def _open(self) -> Conversation:
        instrument = await self._resolve()
        core = OkexPublicProtocol(silence_s=self._settings.book_silence_s, now=now_ns(), lag=self._lag)
        wanted = [_arg_of(channel, instrument) for channel in self._channels]
        if instrument.kind == "swap" and "funding-rate" not in self._channels:
            wanted.append({"channel": "funding-rate", "instId": instrument.inst_id})
        core.subscribe(wanted)
        core.receive_state(instrument.inst_id, instrument.state, now_ns())
        core.subscribe([{"channel": "instruments", "instType": WIRE_KINDS[instrument.kind]}])
        return Conversation(
            core,
            self._url,
            self._settings,
            self._sink.on_top,
            self._on_event,
            instrument,
            self._on_tick,
        )

    def _on_active(self, conversation: Conversation) -> None:
        self._instrument = conversation.instrument
        self._end_ns = self._end_of(conversation.instrument)
        self._is_rolling = False
        super()._on_active(conversation)

    async def _resolve(self) -> Instrument:
        """Return the instrument to connect to, waiting while the venue lists none.

        Raises:
            MarketError: REST does not answer and no known contract is still alive, or it lists none
                while the one that is known still speaks.

        """
        while True:
            known = self._instrument
            is_known_alive = not self._is_rolling and self._ns_to_end(now_ns()) > 0
            try:
                self._listed = await self._rest.instruments(self._spec.kind, self._spec.family)
                await self._measure_clock()
            except MarketError:
                if known is None or not is_known_alive:
                    raise
                return known  # a REST fault must not keep a working websocket from us
            self._rows_quarantined += self._rest.take_quarantined()
            found = self._choose(self._venue_ns(now_ns()))
            if found is not None and found.state not in NOT_YET_STATES + ENDED_STATES:
                return found
            nothing = f"no listed contract of {self._spec.title} yet"
            if self._keeper.active is not None:
                raise MarketUnreachable(nothing)  # what still speaks is not given up for that
            if self._spec.alias is None:
                self._sink.on_down("not listed", nothing)
            else:
                self._is_rolling = True
                self._sink.on_down("rolling", nothing)
            await asyncio.sleep(LISTING_POLL_S * random.uniform(0.5, 1.0))

    async def _server_time(self) -> int:
        return await self._rest.server_time()

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

    def _venue_ns(self, now: int) -> int:
        return max(now + self._offset_ns, self._seen_ns)

    def _end_of(self, instrument: Instrument) -> int:
        if self._spec.alias is None or instrument.expiry is None:
            return FOR_EVER
        return end_of(self._spec.alias, instrument.expiry, self._venue_ns(now_ns()))

    def _ns_to_end(self, now: int) -> int:
        return self._end_ns - self._venue_ns(now)

    def _roll(self, conversation: Conversation) -> None:
        if conversation.is_heard:
            self._is_rolling = True
            conversation.close("rolling")
            self._sink.on_down("rolling", f"the time of {conversation.instrument.inst_id} is over")

    # -- what the conversation says ------------------------------------------------------------

    def _on_event(self, conversation: Conversation, event: Event) -> None:
        if not conversation.is_heard:
            return  # a successor is heard when it has taken over
        if isinstance(event, InstrumentState):
            if event.state in ENDED_STATES:
                self._note_expiry(conversation, event.inst_id)
            if event.inst_id != conversation.instrument.inst_id:
                return
            # For the next connection, should REST not answer then.
            self._instrument = msgspec.structs.replace(conversation.instrument, state=event.state)
        self._sink.on_event(event)
        if isinstance(event, SubscriptionChanged) and not event.is_subscribed:
            logger.warning(
                "%s: %s refused: %s %s",
                self._spec.name,
                event.channel or "a channel",
                event.code,
                event.message,
            )
            if event.channel == BOOK_CHANNEL and event.code not in TRANSIENT_CODES:
                # Nothing on this connection will bring a price any more; the next one may.
                self._sink.on_down(REFUSED, f"{event.code} {event.message}")
                conversation.close(REFUSED)

    def _note_expiry(self, conversation: Conversation, inst_id: str) -> None:
        """Note that some contract expired, which is when aliases move on."""
        if inst_id == conversation.instrument.inst_id:
            self._roll(conversation)
            return
        # Contracts expire in the order of their dates: anything else is a mistake and moves no clock.
        dated = [item for item in self._listed if item.expiry is not None]
        first = min(dated, key=lambda item: item.expiry or 0, default=None)
        if first is not None and first.inst_id == inst_id and first.expiry is not None:
            self._seen_ns = max(self._seen_ns, first.expiry)
            self._on_tick(conversation, now_ns())

    def _on_tick(self, conversation: Conversation, now: int) -> None:
        super()._on_tick(conversation, now)
        if not conversation.is_heard:
            return
        left_ns = self._ns_to_end(now)
        if left_ns <= 0:
            self._roll(conversation)
        elif left_ns < 2 * TICK_S * NS_PER_S:
            # The next tick would come late.
            asyncio.get_running_loop().call_later(left_ns / NS_PER_S, self._roll, conversation)

    def _on_down(self, reason: str) -> None:
        # A roll and a refusal have been told; that the connection went with them would hide why.
        if not self._is_rolling and reason != REFUSED:
            super()._on_down(reason)


def _arg_of(channel: str, instrument: Instrument) -> dict[str, str]:
    # An index is named by its pair, which is the family of a derivative (fact sheet 5.4).
    return {
        "channel": channel,
        "instId": instrument.family if channel == "index-tickers" else instrument.inst_id,
    }
