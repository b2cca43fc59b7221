"""What flows from a market to everybody else: frozen, neutral of any venue.

Prices are floats in quote currency, made from the wire text and never computed, so
that ``repr`` gives the wire's value back; sizes and amounts are contracts (spot: base
coin). Times are ns since the Unix epoch: ``ts_event`` by the exchange's clock,
``ts_recv`` by ours. The records of ``docs/formats.md`` are these structs as JSON.
"""

from typing import Literal

import msgspec

Verdict = Literal["live", "stale"]
Side = Literal["buy", "sell"]

LIVE: Verdict = "live"
STALE: Verdict = "stale"


class TopOfBook(msgspec.Struct, frozen=True, gc=False):
    """Best bid and ask of one book after one message; ``None`` where a side is empty.

    ``from_book`` tells a verified L2 book from a top that the venue sent ready-made; ``is_behind``
    that the book is sound, but a ready-made top that came before is newer.
    """

    inst_id: str
    bid: float | None
    bid_size: float
    ask: float | None
    ask_size: float
    ts_event: int
    ts_recv: int
    from_book: bool = True
    is_behind: bool = False


class BookStale(msgspec.Struct, frozen=True, gc=False):
    """The book of one instrument can no longer be trusted until its next ``TopOfBook``."""

    inst_id: str
    reason: str
    ts_recv: int


class Trade(msgspec.Struct, frozen=True, gc=False):
    """One public print; ``side`` is the taker's."""

    inst_id: str
    trade_id: str
    price: float
    size: float
    side: Side
    ts_event: int
    ts_recv: int


class MarkPrice(msgspec.Struct, frozen=True, gc=False):
    """The price that positions are valued at."""

    inst_id: str
    price: float
    ts_event: int
    ts_recv: int


class IndexPrice(msgspec.Struct, frozen=True, gc=False):
    """The underlying index; ``inst_id`` is the instrument or index as the venue names it."""

    inst_id: str
    price: float
    ts_event: int
    ts_recv: int


class FundingRate(msgspec.Struct, frozen=True, gc=False):
    """What longs pay shorts (positive) at ``funding_time``, as a fraction of the position's value."""

    inst_id: str
    rate: float
    funding_time: int
    ts_event: int
    ts_recv: int


class TickerStats(msgspec.Struct, frozen=True, gc=False):
    """The venue's ticker: last trade and its size; volume of 24 h in contracts."""

    inst_id: str
    last: float
    last_size: float
    volume_24h: float
    ts_event: int
    ts_recv: int


class InstrumentState(msgspec.Struct, frozen=True, gc=False):
    """The venue says that an instrument changed state (live, suspend, expired …)."""

    inst_id: str
    state: str
    ts_recv: int


class SubscriptionChanged(msgspec.Struct, frozen=True, gc=False):
    """One channel of one instrument was confirmed, or refused with the venue's code and words."""

    channel: str
    inst_id: str
    is_subscribed: bool
    code: str
    message: str
    ts_recv: int


class ReconnectAsked(msgspec.Struct, frozen=True, gc=False):
    """The venue will close this connection soon: open the next one before this one goes."""

    reason: str
    ts_recv: int


Event = (
    TopOfBook
    | BookStale
    | Trade
    | MarkPrice
    | IndexPrice
    | FundingRate
    | TickerStats
    | InstrumentState
    | SubscriptionChanged
    | ReconnectAsked
)


class Price(msgspec.Struct, frozen=True, gc=False):
    """One market's top of book with its verdict: what strategies, the screen and Redis see.

    A stale price carries the reason and no prices. ``seq`` and ``ts_pub`` are the
    publisher's and stay 0 before it.
    """

    market: str | None
    inst_id: str
    environment: str
    seq: int
    bid: float | None
    bid_amount: float | None
    ask: float | None
    ask_amount: float | None
    verdict: Verdict
    reason: str | None
    ts_event: int
    ts_recv: int
    ts_pub: int = 0


class Health(msgspec.Struct, frozen=True, gc=False):
    """What became of a market: a change of state, or the heartbeat of each second.

    ``state`` is one of ``connecting connected live stale resynchronised rolling rolled closed heartbeat``.
    ``dropped`` counts what the slowest side exit conflated or lost since the start.
    """

    market: str
    inst_id: str
    environment: str
    seq: int
    state: str
    reason: str | None
    verdict: Verdict
    messages: int
    resyncs: int
    reconnects: int
    quarantined: int
    dropped: int
    ts_recv: int
    ts_pub: int = 0


class Depth(msgspec.Struct, frozen=True, gc=False):
    """The best levels of one book, best first, each ``(price, amount)``."""

    market: str
    inst_id: str
    environment: str
    seq: int
    bids: list[tuple[float, float]]
    asks: list[tuple[float, float]]
    verdict: Verdict
    reason: str | None
    ts_event: int
    ts_recv: int
    ts_pub: int = 0


class TradeRecord(msgspec.Struct, frozen=True, gc=False):
    """A public trade as it is published."""

    market: str
    inst_id: str
    environment: str
    seq: int
    trade_id: str
    price: float
    amount: float
    side: Side
    ts_event: int
    ts_recv: int
    ts_pub: int = 0


class Difference(msgspec.Struct, frozen=True, gc=False):
    """Market ``a`` against market ``b``, in quote currency; ``None`` where a leg is stale.

    ``ask_diff = a.ask - b.ask`` and ``bid_diff = a.bid - b.bid``; ``sell_diff = a.bid - b.ask``
    (sell a, buy b) and ``buy_diff = a.ask - b.bid`` (buy a, sell b) are what can be traded.
    """

    a: str
    b: str
    environment: str
    verdict: Verdict
    reason: str | None
    ask_diff: float | None
    bid_diff: float | None
    buy_diff: float | None
    sell_diff: float | None
    ts_event: int
    ts_recv: int
    age_ms: dict[str, float | None]
