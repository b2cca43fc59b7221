"""Rows of ``order`` and ``execution`` of the simulated BitMEX, from the engine's pictures and fills.

Written from the fact sheet, sections 3.5, 5.2 to 5.4, 6.3 to 6.6. Absent is absent, never null. The wire's
static facts of an order (type, instructions, the client's note) travel with it through the engine as its
``note``; what changes and the engine does not know (the client's id after an amend, the text) is in its
``OrderFace``.
"""

import hashlib
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any

from dquant.simulator.bitmex_instruments import BitmexContract
from dquant.simulator.bitmex_orders import OrderAsk
from dquant.simulator.bitmex_tables import POOL, Row, iso
from dquant.simulator.exchange_events import BalanceChanged, Fill, FundingPaid, PositionDelivered
from dquant.simulator.flow_book import BID
from dquant.simulator.orders import Kind, OrderView, Reason, State

SUBMITTED = "Submitted via API."
STATUSES = {
    State.WAITING: "New",
    State.LIVE: "New",
    State.PARTLY_FILLED: "PartiallyFilled",
    State.FILLED: "Filled",
    State.CANCELLED: "Canceled",
}
ENDS = {Reason.LATE_REJECT: "Rejected", Reason.MARGIN: "Rejected", Reason.EXPIRED: "Expired"}
# Section 3.5 for post-only; the words for the rest are the venue's of the same kind, the sheet has none.
CANCEL_TEXTS = {
    Reason.POST_ONLY: "Canceled: Order had execInst of ParticipateDoNotInitiate",
    Reason.IOC: "Canceled: Order had timeInForce of ImmediateOrCancel",
    Reason.FOK: "Canceled: Order had timeInForce of FillOrKill",
    Reason.REDUCE_ONLY: "Canceled: Order had execInst of Close or ReduceOnly but current position is 0",
    Reason.POSITION_CLOSED: "Canceled: Order had execInst of Close or ReduceOnly but current position is 0",
    Reason.DEAD_MAN: "Canceled: Cancel all after timeout",
    Reason.SELF_TRADE: "Canceled: Order would execute against another of the account",
    Reason.LIQUIDATION: "Canceled: Canceled by liquidation",
    Reason.DELIVERY: "Canceled: Instrument expired",
    Reason.EXPIRED: "Expired: Order had timeInForce of Day",
    Reason.MARGIN: "Rejected: Account has insufficient Available Balance",
    Reason.LATE_REJECT: "Rejected: Order rejected by the engine",
    Reason.VENUE_CLOSED: "Canceled: Market closed",
    Reason.LINK: "Canceled: Linked order was executed or canceled",
}
_PRICE_DECIMALS = 4
_SIDES = ("Buy", "Sell")


def guid_of(seed: int, what: str, number: int) -> str:
    """Return a guid that says nothing and comes again with the seed."""
    digits = hashlib.blake2b(f"{seed}/{what}/{number}".encode(), digest_size=16).hexdigest()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def note_of(ask: OrderAsk, contract: BitmexContract) -> Row:
    """Return the facts of an order that never change, spelled as its rows spell them."""
    note: Row = {"ordType": ask.ord_type, "timeInForce": ask.time_in_force}
    if ask.cl_ord_link_id:
        note["clOrdLinkID"] = ask.cl_ord_link_id
    if ask.contingency_type:
        note["contingencyType"] = ask.contingency_type
    if ask.exec_inst:
        note["execInst"] = ",".join(ask.exec_inst)
    if ask.display_qty is not None:
        note["displayQty"] = ask.display_qty
    if ask.peg_type:
        note["pegPriceType"] = ask.peg_type
        note["pegOffsetValue"] = float(ask.peg_offset or 0)
    if ask.is_close:
        note["isClose"] = True
    note["text"] = ask.text or SUBMITTED
    note["currency"] = contract.fixed["quoteCurrency"]
    return note


@dataclass(slots=True)
class OrderFace:
    """One order as its account sees it, beside what the engine knows."""

    guid: str
    account: int
    contract: BitmexContract
    note: Row
    cl_ord_id: str
    text: str
    replaced_id: str = ""  # the client's id before an amend that gave another, until that is told
    _lots: int = 0
    _over_price: Fraction = Fraction(0)
    _at_price: Fraction = Fraction(0)
    _prices: set[Decimal] = field(default_factory=set)

    def add_fill(self, fill: Fill) -> None:
        """Take a fill into the average price."""
        price = Fraction(fill.price)
        self._lots += fill.lots
        self._over_price += fill.lots / price
        self._at_price += fill.lots * price
        if len(self._prices) < 2:  # one price stays exact
            self._prices.add(fill.price)

    @property
    def average(self) -> float | None:
        """The average price of the fills: harmonic for an inverse contract."""
        if not self._lots:
            return None
        if len(self._prices) == 1:
            return float(next(iter(self._prices)))
        is_inverse = self.contract.payoff == "inverse"
        mean = self._lots / self._over_price if is_inverse else self._at_price / self._lots
        return round(float(mean), _PRICE_DECIMALS)


def status_of(view: OrderView) -> str:
    """Return ``ordStatus``."""
    if view.state is State.CANCELLED and view.reason in ENDS:
        return ENDS[view.reason]
    return STATUSES[view.state]


def order_row(view: OrderView, face: OrderFace) -> Row:
    """Return the row of an order as it is in this picture."""
    contract, note = face.contract, face.note
    row: Row = {"orderID": face.guid}
    if face.cl_ord_id:
        row["clOrdID"] = face.cl_ord_id
    _copy(row, note, "clOrdLinkID")
    row |= {"account": face.account, "symbol": view.symbol, "strategy": "OneWay", "side": _SIDES[view.side]}
    is_whole_position = bool(note.get("isClose")) and not view.filled and view.is_open
    if not is_whole_position:
        row["orderQty"] = view.lots * contract.lot
    if view.tick is not None and view.kind is not Kind.MARKET:
        row["price"] = _price(view.tick, contract)
    _copy(row, note, "displayQty")
    if view.trigger is not None:
        row["stopPx"] = _price(view.trigger.tick, contract)
    _copy(row, note, "pegOffsetValue")
    _copy(row, note, "pegPriceType")
    row |= {"currency": note["currency"], "settlCurrency": contract.fixed["settlCurrency"]}
    row |= {"ordType": note["ordType"], "timeInForce": note["timeInForce"]}
    _copy(row, note, "execInst")
    _copy(row, note, "contingencyType")
    row["ordStatus"] = status_of(view)
    if view.triggered:
        row["triggered"] = "StopOrderTriggered"
    row["workingIndicator"] = view.is_open and view.state is not State.WAITING
    if row["ordStatus"] == "Rejected":
        row["ordRejReason"] = face.text.partition("\n")[0].removeprefix("Rejected: ")
    row["leavesQty"] = 0 if is_whole_position else view.left * contract.lot
    row["cumQty"] = view.filled * contract.lot
    if face.average is not None:
        row["avgPx"] = face.average
    row |= {"text": face.text, "transactTime": iso(view.updated_ns), "timestamp": iso(view.updated_ns)}
    row["pool"] = "Aggregated"
    return row


def execution_row(exec_id: str, exec_type: str, row: Row, **more: Any) -> Row:
    """Return the execution row of an order that is as in ``row``; what a fill adds comes in ``more``."""
    return {"execID": exec_id, **row, "execType": exec_type, **more}


def trade_facts(fill: Fill, contract: BitmexContract, match_id: str, xbt_price: float) -> Row:
    """Return what a fill adds to the execution row of its order; ``xbt_price`` is that of one XBT in USD."""
    sign = 1 if fill.side == BID else -1
    value = fill.value * (-sign if contract.payoff == "inverse" else sign)
    home, foreign = notionals(contract, fill.lots, fill.price, fill.value, xbt_price)
    return {
        "lastQty": fill.lots * contract.lot,
        "lastPx": float(fill.price),
        "lastLiquidityInd": "AddedLiquidity" if fill.is_maker else "RemovedLiquidity",
        "commission": float(fill.fee_rate),
        "brokerCommission": 0.0,
        "feeType": "Maker" if fill.is_maker else "Taker",
        "tradePublishIndicator": "PublishTrade",
        "trdMatchID": match_id,
        "execCost": value,
        "execComm": fill.fee,
        "execCommCcy": fill.fee_coin,
        "brokerExecComm": 0,
        "homeNotional": sign * home,
        "foreignNotional": -sign * foreign,
        "realisedPnl": fill.realised,
        "trdType": "Regular",
        "tradePool": POOL,
    }


def notionals(
    contract: BitmexContract, lots: int, price: Decimal, value: int, xbt_price: float
) -> tuple[float, float]:
    """Return home and foreign notional of a value, both positive, as public trades have them."""
    qty = lots * contract.lot
    if contract.payoff == "inverse":
        return value / 1e8, float(qty)
    if contract.payoff == "quanto":
        foreign = value / 1e8 * xbt_price
        return foreign / float(price), foreign
    return qty / 1e6, value / 1e6


def funding_row(
    exec_id: str, order_id: str, event: FundingPaid, account: int, contract: BitmexContract, xbt_price: float
) -> Row:
    """Return the execution row of a funding: it moves the wallet, no position (section 6.6)."""
    sign = 1 if event.lots > 0 else -1
    home, foreign = notionals(contract, abs(event.lots), event.mark, abs(event.value), xbt_price)
    row = _house_row(
        exec_id, order_id, account, contract, event.ts, abs(event.lots) * contract.lot, event.mark
    )
    return row | {
        "side": _SIDES[event.lots < 0],
        "execType": "Funding",
        "ordType": "Limit",
        "ordStatus": "Filled",
        "text": "Funding",
        "commission": float(event.rate),
        "execCost": event.value,
        "execComm": event.amount,
        "execCommCcy": event.coin,
        "homeNotional": sign * home,
        "foreignNotional": -sign * foreign,
        "trdType": "Funding",
    }


def settlement_row(
    exec_id: str,
    order_id: str,
    event: PositionDelivered,
    account: int,
    contract: BitmexContract,
    xbt_price: float,
) -> Row:
    """Return the execution row of a future's settlement: it closes the position (section 6.7)."""
    fill = event.fill
    facts = trade_facts(fill, contract, exec_id, xbt_price)
    for field_of_trades in ("lastLiquidityInd", "feeType", "tradePublishIndicator", "tradePool"):
        del facts[field_of_trades]
    row = _house_row(exec_id, order_id, account, contract, event.ts, fill.lots * contract.lot, event.price)
    row |= {"side": _SIDES[fill.side], "execType": "Settlement", "ordType": "Market", "ordStatus": "Filled"}
    return row | facts | {"text": "Settlement", "trdType": "Settlement"}


def bankruptcy_row(
    exec_id: str, order_id: str, event: BalanceChanged, account: int, contract: BitmexContract
) -> Row:
    """Return the row of a debt that the house pays: it moves the wallet alone, so that executions add up.

    The sheet has the name of its type; the columns are those of a funding that is received.
    """
    return {
        "execID": exec_id,
        "orderID": order_id,
        "account": account,
        "symbol": contract.symbol,
        "strategy": "OneWay",
        "currency": contract.fixed["quoteCurrency"],
        "settlCurrency": event.balance.coin,
        "execType": "Bankruptcy",
        "ordStatus": "Filled",
        "workingIndicator": False,
        "leavesQty": 0,
        "text": "Bankruptcy",
        "execComm": -event.delta,
        "execCommCcy": event.balance.coin,
        "transactTime": iso(event.ts),
        "timestamp": iso(event.ts),
    }


def _house_row(
    exec_id: str, order_id: str, account: int, contract: BitmexContract, ts: int, qty: int, price: Decimal
) -> Row:
    return {
        "execID": exec_id,
        "orderID": order_id,
        "account": account,
        "symbol": contract.symbol,
        "strategy": "OneWay",
        "lastQty": qty,
        "lastPx": float(price),
        "orderQty": qty,
        "price": float(price),
        "currency": contract.fixed["quoteCurrency"],
        "settlCurrency": contract.fixed["settlCurrency"],
        "timeInForce": "GoodTillCancel" if contract.expiry is None else "ImmediateOrCancel",
        "workingIndicator": False,
        "leavesQty": 0,
        "cumQty": qty,
        "avgPx": float(price),
        "transactTime": iso(ts),
        "timestamp": iso(ts),
    }


def _price(tick: int, contract: BitmexContract) -> float:
    return float(Decimal(repr(contract.tick)) * tick)


def _copy(row: Row, note: Row, name: str) -> None:
    if name in note:
        row[name] = note[name]
