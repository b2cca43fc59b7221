"""Orders of clients as the engine knows them: what is asked, what is live, why something ended.

Types only, no venue's spelling: prices are whole ticks, sizes whole lots of the instrument, times virtual
ns since the Unix epoch, sides ``BID`` (buys) and ``ASK`` (sells). ``Order`` is the engine's own, changing
object; everybody else gets an ``OrderView``, a frozen picture of it.
"""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

BID, ASK = 0, 1
SIGNS = (1, -1)  # what a filled lot of each side does to a position


class Kind(StrEnum):
    """How an order behaves when it comes in."""

    LIMIT = "limit"
    MARKET = (
        "market"  # takes up to ``tick``, the protection price that the venue gives; the rest is cancelled
    )
    POST_ONLY = "post_only"  # cancelled with ``Reason.POST_ONLY`` where it would take
    IOC = "ioc"
    FOK = "fok"


class State(StrEnum):
    """Where an order is in its life; the last two are final."""

    WAITING = "waiting"  # a stop not triggered, or asleep until another is filled: no book, no margin
    LIVE = "live"
    PARTLY_FILLED = "partly_filled"
    FILLED = "filled"
    CANCELLED = "cancelled"


class SelfTrade(StrEnum):
    """What happens where an order would meet another one of the same owner."""

    ALLOW = "allow"
    CANCEL_MAKER = "cancel_maker"
    CANCEL_TAKER = "cancel_taker"
    CANCEL_BOTH = "cancel_both"


class Contingency(StrEnum):
    """What an order means for those that share its link (``links``)."""

    OCO = "oco"  # one cancels the other
    OTO = "oto"  # one triggers the others


PositionKey = tuple[str, "PosSide", bool]  # of one account: instrument, side, whether it is isolated


class PosSide(StrEnum):
    """Which position of an instrument: the only one (net, one way), or that of long/short mode."""

    NET = "net"
    LONG = "long"
    SHORT = "short"


class Reason(StrEnum):
    """Why an order ended, or a position or balance changed."""

    USER = "user"
    FILL = "fill"
    POST_ONLY = "post_only"  # would have taken
    IOC = "ioc"  # the rest of an order that does not rest (IOC, market)
    FOK = "fok"
    SELF_TRADE = "self_trade"
    DEAD_MAN = "dead_man"
    REDUCE_ONLY = "reduce_only"  # nothing is left for it to reduce
    AMEND = "amend"
    POSITION_CLOSED = "position_closed"
    MARGIN = "margin"  # a triggered stop that the account cannot carry
    LIQUIDATION = "liquidation"
    FUNDING = "funding"
    SETTLEMENT = "settlement"  # the daily one: the position stays, its PnL is paid
    DELIVERY = "delivery"  # the contract is over
    LINK = "link"  # an order that it hangs together with
    TRANSFER = "transfer"
    LATE_REJECT = "late_reject"  # a fault: accepted first, refused later
    FAULT = "fault"
    VENUE_CLOSED = "venue_closed"
    EXPIRED = "expired"  # the order's own time is over


class Why(StrEnum):
    """Why a request was refused."""

    UNKNOWN_ACCOUNT = "unknown_account"
    UNKNOWN_SYMBOL = "unknown_symbol"
    UNKNOWN_ORDER = "unknown_order"
    FINISHED = "finished"  # the order is done already; facts: state
    NOT_OPEN = "not_open"  # instrument or venue takes no orders
    REDUCE_ONLY_MODE = "reduce_only_mode"  # the venue takes only what reduces
    SIZE = "size"
    PRICE = "price"
    POST_ONLY = "post_only"  # amended so, it would take
    CLIENT_ID = "client_id"  # another open order has it
    MARGIN = "margin"  # facts: coin, needed, available (minor units)
    REDUCE_ONLY = "reduce_only"  # facts: position (lots)
    POSITION_SIDE = "position_side"
    POSITION_SIZE = "position_size"  # closes more than there is
    NO_POSITION = "no_position"
    TOO_MANY_ORDERS = "too_many_orders"
    LEVERAGE = "leverage"
    IN_USE = "in_use"  # orders or positions are open
    LINK = "link"  # others have it already
    NOTHING_TO_DO = "nothing_to_do"
    FAULT = "fault"


class Refused(Exception):
    """A request that the exchange does not grant; ``facts`` help the venue to word its answer."""

    def __init__(self, why: Why, **facts: object) -> None:
        self.why, self.facts = why, facts
        super().__init__(f"{why} {facts}" if facts else str(why))


class TriggerSource(StrEnum):
    """Which price wakes a stop."""

    LAST = "last"
    MARK = "mark"
    INDEX = "index"


class Trigger(msgspec.Struct, frozen=True):
    """When a stop or touched order goes to the book: its price at or above (``rising``) or below ``tick``."""

    tick: int
    rising: bool
    source: TriggerSource = TriggerSource.LAST


class OrderRequest(msgspec.Struct, frozen=True):
    """What a client asks for, in ticks and lots.

    ``tick`` is the limit; for ``MARKET`` the protection price (None: as far as the book goes).
    """

    symbol: str
    side: int
    lots: int
    kind: Kind = Kind.LIMIT
    tick: int | None = None
    pos_side: PosSide = PosSide.NET
    reduce_only: bool = False  # never grows the position; what is above it is cut off
    is_isolated: bool = False  # its position has margin of its own
    client_id: str = ""  # unique among the account's open orders where given
    tag: str = ""  # dead-man timers may be by tag
    self_trade: SelfTrade = SelfTrade.CANCEL_MAKER
    trigger: Trigger | None = None
    link: str = ""  # shared by orders that hang together
    contingency: Contingency | None = None
    expires_ns: int | None = None  # cancelled then with ``Reason.EXPIRED``
    note: Mapping[str, object] | None = None  # the venue's own facts, handed back in every view

    @property
    def key(self) -> PositionKey:
        """Which position of the account it moves."""
        return self.symbol, self.pos_side, self.is_isolated


class OrderView(msgspec.Struct, frozen=True, kw_only=True):
    """An order at one moment."""

    order_id: int  # rising from 1 within one exchange; venues spell it as they like
    account: str
    symbol: str
    side: int
    kind: Kind
    tick: int | None
    lots: int  # as asked, or as amended
    filled: int
    state: State
    pos_side: PosSide
    reduce_only: bool
    is_isolated: bool = False
    client_id: str
    tag: str
    self_trade: SelfTrade
    trigger: Trigger | None
    triggered: bool
    category: Reason  # USER, or LIQUIDATION / DELIVERY for orders of the house
    filled_ticks: int  # sum of lots * tick over its fills: average price = filled_ticks / filled, in ticks
    filled_value: int  # sum of the fills' values, minor units: the exact (harmonic) average comes from it
    fee: int  # minor units of ``fee_coin``, positive paid
    fee_coin: str
    realised: int  # PnL realised by its fills, minor units of the settle coin, without fees
    created_ns: int
    updated_ns: int
    finished_ns: int | None
    reason: Reason | None  # why it ended; None while open
    note: Mapping[str, object] | None

    @property
    def left(self) -> int:
        """Lots still to fill while open; 0 once it is done."""
        return self.lots - self.filled if self.is_open else 0

    @property
    def is_open(self) -> bool:
        """Whether it may still fill."""
        return self.finished_ns is None


class OpenLots(msgspec.Struct, frozen=True, gc=False):
    """As much of an open order as adding them up takes; a whole ``OrderView`` costs ten times as much."""

    side: int
    tick: int | None
    left: int
    reduce_only: bool
    state: State


class Order:
    """The engine's own order; ``left`` is what may still fill."""

    __slots__ = (
        "account",
        "asleep",
        "category",
        "created_ns",
        "fee",
        "fee_coin",
        "filled",
        "filled_ticks",
        "filled_value",
        "finished_ns",
        "lots",
        "order_id",
        "owner",
        "realised",
        "reason",
        "request",
        "side",
        "state",
        "tick",
        "triggered",
        "updated_ns",
        "withheld",
    )

    def __init__(self, order_id: int, account: str, owner: str, request: OrderRequest, now_ns: int) -> None:
        self.order_id, self.account, self.owner = order_id, account, owner
        self.request, self.side, self.tick, self.lots = request, request.side, request.tick, request.lots
        self.state = State.LIVE if request.trigger is None else State.WAITING
        self.triggered = False
        self.asleep = False  # until the order that it is linked to is filled
        self.category = Reason.USER
        self.filled = self.filled_ticks = self.filled_value = self.fee = self.realised = 0
        self.withheld = 0  # lots that a fault keeps from filling
        self.fee_coin = ""
        self.created_ns = self.updated_ns = now_ns
        self.finished_ns: int | None = None
        self.reason: Reason | None = None

    @property
    def symbol(self) -> str:
        """The instrument."""
        return self.request.symbol

    @property
    def left(self) -> int:
        """Lots that may still fill."""
        return self.lots - self.filled - self.withheld

    @property
    def is_open(self) -> bool:
        """Whether it may still fill."""
        return self.finished_ns is None

    @property
    def is_waiting(self) -> bool:
        """Whether it is a stop that has not been triggered, or sleeps."""
        return self.state is State.WAITING

    @property
    def key(self) -> PositionKey:
        """Which position of the account it moves."""
        return self.request.key

    def view(self) -> OrderView:
        """Return a picture of it as it is now."""
        asked = self.request
        return OrderView(
            order_id=self.order_id,
            account=self.account,
            symbol=asked.symbol,
            side=self.side,
            kind=asked.kind,
            tick=self.tick,
            lots=self.lots,
            filled=self.filled,
            state=self.state,
            pos_side=asked.pos_side,
            reduce_only=asked.reduce_only,
            is_isolated=asked.is_isolated,
            client_id=asked.client_id,
            tag=asked.tag,
            self_trade=asked.self_trade,
            trigger=asked.trigger,
            triggered=self.triggered,
            category=self.category,
            filled_ticks=self.filled_ticks,
            filled_value=self.filled_value,
            fee=self.fee,
            fee_coin=self.fee_coin,
            realised=self.realised,
            created_ns=self.created_ns,
            updated_ns=self.updated_ns,
            finished_ns=self.finished_ns,
            reason=self.reason,
            note=asked.note,
        )
