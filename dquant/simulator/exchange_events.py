"""What the exchange says happened, as frozen records; venues spell them, the ledger keeps them.

Units: prices in ticks, sizes in lots, money in whole minor units of the named coin (``Coin``), times
virtual ns since the Unix epoch. A fee is positive when paid. Every event names its account.
"""

from decimal import Decimal

import msgspec

from dquant.simulator.orders import OrderView, PosSide, Reason


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """Base of all events; ``number`` rises by one with each of an exchange."""

    number: int
    ts: int
    account: str


class Fill(msgspec.Struct, frozen=True, kw_only=True):
    """One execution of one order; the two sides of a trade between clients share the ``trade_id``."""

    fill_id: int  # rising within the exchange
    order_id: int
    account: str
    symbol: str
    client_id: str
    pos_side: PosSide
    is_isolated: bool = False
    ts: int
    trade_id: int  # as in the public print; 0: no print (delivery)
    side: int
    tick: int | None  # None where the price is off the tick (delivery)
    price: Decimal
    lots: int
    value: int  # minor units of the settle coin, positive
    is_maker: bool
    fee: int  # minor units of ``fee_coin``, positive paid
    fee_coin: str
    fee_rate: Decimal
    realised: int  # PnL of what it closed, without fee
    position: int  # signed lots afterwards
    reason: Reason  # FILL, or LIQUIDATION, DELIVERY


class PositionView(msgspec.Struct, frozen=True, kw_only=True):
    """A position at one moment; a closed one has ``lots`` 0 and keeps its sums until it opens again."""

    position_id: int
    account: str
    symbol: str
    pos_side: PosSide
    is_isolated: bool = False
    margin: int = 0  # set aside for it where it is isolated, 0 where it is cross
    lots: int  # signed, long above 0 (also of a SHORT position in long/short mode: below 0)
    cost: int  # signed value of the open lots at their entries (after a daily settlement: at its price)
    entry_cost: int  # the same at the real entries, settlements left out
    entry: Decimal | None  # average entry price; None when flat
    real_entry: Decimal | None  # the same, settlements left out
    mark: Decimal
    mark_value: int  # signed, at the mark price
    unrealised: int  # mark_value - cost
    realised: int  # by closing fills since it was opened, without fees, funding and settlements
    settled: int  # paid by daily settlements since it was opened
    fees: int  # positive paid, since it was opened
    funding: int  # positive paid, since it was opened
    previous_realised: int  # net result of the last position in this place (realised+settled-fees-funding)
    leverage: Decimal
    initial_margin: int
    maintenance_margin: int
    liquidation_price: Decimal | None
    opened_ns: int
    updated_ns: int


class BalanceView(msgspec.Struct, frozen=True, kw_only=True):
    """Money of one coin of an account at one moment, minor units."""

    account: str
    coin: str
    decimals: int  # one coin is 10 ** decimals minor units
    cash: int
    unrealised: int
    equity: int  # cash + unrealised
    isolated: int = 0  # margin set aside for isolated positions, part of cash
    isolated_unrealised: int = 0  # their part of ``unrealised``
    initial_margin: int  # of cross positions
    order_margin: int  # of open orders, and what spot orders hold
    maintenance_margin: int  # of cross positions
    available: int  # cross equity - initial_margin - order_margin, never below 0
    updated_ns: int


class OrderAccepted(Event, frozen=True, kw_only=True, tag="order_accepted"):
    """An order came in; what it does at once follows as further events of the same time."""

    order: OrderView


class OrderFilled(Event, frozen=True, kw_only=True, tag="order_filled"):
    """An order was filled in part or in full; ``order`` is its picture just after this fill."""

    order: OrderView
    fill: Fill


class OrderCancelled(Event, frozen=True, kw_only=True, tag="order_cancelled"):
    """An order ended with something left, or was refused late."""

    order: OrderView
    reason: Reason


class OrderAmended(Event, frozen=True, kw_only=True, tag="order_amended"):
    """Price or size changed; ``reason`` USER, or REDUCE_ONLY where the exchange cut it to the position."""

    order: OrderView
    reason: Reason
    request_id: str = ""


class OrderTriggered(Event, frozen=True, kw_only=True, tag="order_triggered"):
    """A stop woke and goes to the book now."""

    order: OrderView


class PositionChanged(Event, frozen=True, kw_only=True, tag="position_changed"):
    """A position after something happened to it."""

    position: PositionView
    reason: Reason
    trade_id: int = 0


class BalanceChanged(Event, frozen=True, kw_only=True, tag="balance_changed"):
    """Cash moved by ``delta``; trades say PnL and fee in one."""

    balance: BalanceView
    delta: int
    reason: Reason
    symbol: str = ""


class FundingPaid(Event, frozen=True, kw_only=True, tag="funding_paid"):
    """A perpetual's funding was exchanged."""

    symbol: str
    pos_side: PosSide
    lots: int  # signed
    rate: Decimal
    mark: Decimal
    value: int  # signed position value at the mark
    amount: int  # positive paid
    coin: str


class PositionSettled(Event, frozen=True, kw_only=True, tag="position_settled"):
    """A daily settlement paid the unrealised PnL; the position goes on from the settlement price."""

    symbol: str
    pos_side: PosSide
    price: Decimal
    amount: int  # positive received
    coin: str


class PositionDelivered(Event, frozen=True, kw_only=True, tag="position_delivered"):
    """A contract ended; its position was closed at the delivery price (``fill`` has PnL and fee)."""

    symbol: str
    pos_side: PosSide
    price: Decimal
    fill: Fill


class MarginCalled(Event, frozen=True, kw_only=True, tag="margin_called"):
    """Equity fell under maintenance margin; orders are cancelled and positions closed right after this."""

    coin: str
    equity: int
    maintenance_margin: int


class LeverageChanged(Event, frozen=True, kw_only=True, tag="leverage_changed"):
    """Another leverage holds for a group of instruments or an isolated position (``leverage_group``)."""

    symbol: str  # it was asked for by this one
    group: str
    leverage: Decimal


class DeadManFired(Event, frozen=True, kw_only=True, tag="dead_man_fired"):
    """A timer ran out; ``tag`` empty: the account's own. Its cancels follow."""

    tag: str


class RequestRefused(Event, frozen=True, kw_only=True, tag="request_refused"):
    """A request was not granted: for the ledger only, never in ``take_events``."""

    verb: str
    why: str
    symbol: str = ""
    client_id: str = ""
    order_id: int = 0
