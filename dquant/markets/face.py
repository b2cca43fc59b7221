"""What a market and its two faces ask of each other, and what a market name stands for."""

from dataclasses import dataclass
from typing import Protocol

from dquant.model.book import Levels
from dquant.model.events import Event, Price, TopOfBook
from dquant.model.instrument import Instrument, Kind


@dataclass(frozen=True, slots=True)
class MarketSpec:
    """One market name: which venue, what is traded there, and its older meta code."""

    name: str
    venue: str
    meta_code: str  # what the factory hands to the market classes, e.g. ``btc_usd_this_week``
    kind: Kind
    family: str
    inst_id: str | None  # None: found by alias
    alias: str | None
    contract: str  # what one contract is, in words
    title: str


class MarketSink(Protocol):
    """What a face tells its market, always in the market's own loop."""

    price: Price  # the newest, with its verdict

    def on_instrument(self, instrument: Instrument) -> None:
        """What is said from now on is about this instrument."""

    def on_connected(self) -> None:
        """The connection is there; its book is not yet."""

    def on_top(self, top: TopOfBook) -> None:
        """A book moved, or was confirmed."""

    def on_event(self, event: Event) -> None:
        """Something else happened on the wire."""

    def on_down(self, reason: str, detail: str) -> None:
        """No believed price can come now; ``reason`` is short and stable, ``detail`` is for the log."""


class Face(Protocol):
    """The websocket face of one market."""

    @property
    def messages(self) -> int: ...
    @property
    def resyncs(self) -> int: ...
    @property
    def quarantined(self) -> int: ...
    @property
    def reconnects(self) -> int: ...
    async def keep_connect(self) -> None: ...
    def sub_channel(self, channel: str) -> None: ...
    def depth(self, levels: int) -> tuple[Levels, Levels] | None: ...
