"""Orders and fills of the simulated OKX as its pushes and REST answers spell them.

In: the engine's ``OrderView`` and ``Fill``, and the instrument. Out: dicts with the venue's keys and string
values, of the ``orders`` channel (section 9.1) and of REST (section 8.4); ids both ways. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from dquant.simulator.exchange_events import Fill
from dquant.simulator.flow_book import BID
from dquant.simulator.okex_instruments import Listing
from dquant.simulator.okex_requests import SIDE_NAMES
from dquant.simulator.orders import OrderView, PosSide, Reason, State
from dquant.simulator.units import Step, ms_text

# ordId has 19 digits, more than a double holds; the engine counts from 1.
_ORD_BASE, _ORD_STEP = 3_960_000_000_000_000_000, 4_096
_STATES = {
    State.WAITING: "live",
    State.LIVE: "live",
    State.PARTLY_FILLED: "partially_filled",
    State.FILLED: "filled",
    State.CANCELLED: "canceled",
}
_CATEGORIES = {Reason.LIQUIDATION: "full_liquidation", Reason.DELIVERY: "delivery"}
_CANCEL_SOURCES = {
    Reason.USER: "1",
    Reason.AMEND: "1",
    Reason.LIQUIDATION: "3",
    Reason.DELIVERY: "7",
    Reason.FOK: "13",
    Reason.IOC: "14",
    Reason.POSITION_CLOSED: "17",
    Reason.DEAD_MAN: "20",
    Reason.REDUCE_ONLY: "22",
    Reason.POST_ONLY: "31",
    Reason.SELF_TRADE: "32",
}
_ALGO = {
    "algoClOrdId": "",
    "algoId": "",
    "attachAlgoClOrdId": "",
    "attachAlgoOrds": [],
    "isTpLimit": "false",
    "linkedAlgoOrd": {"algoId": ""},
    "slOrdPx": "",
    "slTriggerPx": "",
    "slTriggerPxType": "",
    "tpOrdPx": "",
    "tpTriggerPx": "",
    "tpTriggerPxType": "",
}


@dataclass(frozen=True, slots=True)
class Amended:
    """What the ``orders`` channel says of an amendment: result "0" done, "-1" failed, "1" order cancelled."""

    req_id: str = ""
    result: str = ""
    source: str = ""
    code: str = "0"
    message: str = ""


@dataclass(frozen=True, slots=True)
class Prices:
    """Where the market stands when a row is written."""

    last: str
    mark: str
    index: str


NO_AMENDMENT = Amended()
_NO_NOTE: Mapping[str, object] = {}


def ord_id_text(order_id: int) -> str:
    """Return the ordId of an engine's order."""
    return str(_ORD_BASE + order_id * _ORD_STEP)


def order_id_of(ord_id: str) -> int | None:
    """Return which of the engine's orders an ordId names; None where it can be none."""
    if not (ord_id.isascii() and ord_id.isdecimal()) or len(ord_id) > 19:
        return None
    number, rest = divmod(int(ord_id) - _ORD_BASE, _ORD_STEP)
    return number if rest == 0 and number > 0 else None


def decimal_text(value: Decimal, places: int | None = None) -> str:
    """Return a number without exponent and trailing zeros, rounded to so many places."""
    if places is not None:
        value = round(value, places)
    if not value:
        return "0"
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def money_text(minor: int, decimals: int) -> str:
    """Return an amount in minor units as the coin's own amount."""
    return decimal_text(Decimal(minor).scaleb(-decimals))


def note_of(view: OrderView) -> Mapping[str, object]:
    """Return what this venue keeps with an order."""
    return _NO_NOTE if view.note is None else view.note


def average_price(view: OrderView, tick: Step) -> Decimal | None:
    """Return the size-weighted average of its fills' prices; None before the first."""
    return Decimal(view.filled_ticks) / view.filled * tick.size if view.filled else None


def notional_usd(listing: Listing, contracts: Decimal, price: Decimal, index: Decimal) -> Decimal:
    """Return what so many contracts (spot: coins) are worth in USD."""
    if not listing.contract_value:
        return contracts * index
    value = Decimal(listing.row["ctVal"])
    if listing.is_inverse:
        return contracts * value
    return contracts * value * price


class OrderRows:
    """Writes the orders and fills of one instrument.

    Args:
        listing: The instrument.
        tick: Its price step.
        lot: Its size step.
        decimals: Of the coins its fees and profits are paid in.

    """

    def __init__(self, listing: Listing, tick: Step, lot: Step, decimals: Mapping[str, int]) -> None:
        self.listing, self.tick, self.lot = listing, tick, lot
        self._decimals = decimals
        self._is_spot = listing.inst_type == "SPOT"

    def push_row(
        self,
        view: OrderView,
        prices: Prices,
        fill: Fill | None = None,
        *,
        amended: Amended = NO_AMENDMENT,
        state: str = "",
        cancel_source: str = "",
        updated_ns: int = 0,
    ) -> dict[str, Any]:
        """Return an element of the ``orders`` channel; ``fill`` is this update's, if it is one."""
        index = Decimal(prices.index or 0)
        average = self._average(view)
        at = average or (Decimal(view.tick) * self.tick.size if view.tick else index)
        lots = self._size(view.lots)
        filled = self._size(view.filled)
        lever = str(note_of(view).get("lever", ""))
        row = {
            **self._common(view, state),
            "avgPx": "0" if average is None else decimal_text(average, 10),
            "cancelSource": cancel_source or self._cancel_source(view),
            "lever": lever or "0",
            "posSide": "" if self._is_spot else str(view.pos_side),
            "uTime": ms_text(updated_ns or view.updated_ns),
            "notionalUsd": decimal_text(notional_usd(self.listing, lots, at, index), 10),
            "fillNotionalUsd": decimal_text(notional_usd(self.listing, filled, at, index), 10)
            if filled
            else "",
            "lastPx": prices.last,
            "outcome": "",
            "slippage": "0",
            "riskBypassResult": "",
            "fillPx": "",
            "tradeId": "",
            "fillSz": "0",
            "fillTime": "",
            "fillPnl": "0",
            "fillFee": "0",
            "fillFeeCcy": "",
            "execType": "",
            "fillPxVol": "",
            "fillPxUsd": "",
            "fillMarkVol": "",
            "fillFwdPx": "",
            "fillMarkPx": "",
            "fillIdxPx": "",
            "amendSource": amended.source,
            "reqId": amended.req_id,
            "amendResult": amended.result,
            "code": amended.code,
            "msg": amended.message,
        }
        if fill is not None:
            row |= {
                "fillPx": self.price(fill),
                "tradeId": _order_trade_id(fill),
                "fillSz": self.lot.text(fill.lots),
                "fillTime": ms_text(fill.ts),
                "fillPnl": self._pnl(fill.realised),
                "fillFee": self._fee(fill.fee, fill.fee_coin),
                "fillFeeCcy": fill.fee_coin,
                "execType": "M" if fill.is_maker else "T",
                "fillMarkPx": "" if self._is_spot else prices.mark,
                "fillIdxPx": prices.index,
            }
        return row

    def rest_row(self, view: OrderView, last_fill: Fill | None, cancel_source: str = "") -> dict[str, Any]:
        """Return the order as REST queries show it; the fill fields are those of its last fill."""
        average = self._average(view)
        return {
            **self._common(view, ""),
            "avgPx": "" if average is None else decimal_text(average, 10),
            "cancelSource": cancel_source or self._cancel_source(view),
            "cancelSourceReason": "",
            "lever": str(note_of(view).get("lever", "")),
            "posSide": "net" if self._is_spot else str(view.pos_side),
            "uTime": ms_text(view.updated_ns),
            "fillPx": "" if last_fill is None else self.price(last_fill),
            "fillSz": "0" if last_fill is None else self.lot.text(last_fill.lots),
            "fillTime": "" if last_fill is None else ms_text(last_fill.ts),
            "tradeId": "" if last_fill is None else _order_trade_id(last_fill),
        }

    def fill_row(self, fill: Fill, view: OrderView | None) -> dict[str, Any]:
        """Return a fill as ``fills`` and ``fills-history`` show it."""
        return {
            "instType": self.listing.inst_type,
            "instId": self.listing.inst_id,
            "tradeId": trade_id_text(fill),
            "ordId": ord_id_text(fill.order_id),
            "clOrdId": fill.client_id,
            "billId": bill_id_text(fill.fill_id),
            "subType": sub_type(fill),
            "tag": "" if view is None else view.tag,
            "fillPx": self.price(fill),
            "fillSz": self.lot.text(fill.lots),
            "fillIdxPx": "",
            "fillPnl": self._pnl(fill.realised),
            "fillPxVol": "",
            "fillPxUsd": "",
            "fillMarkVol": "",
            "fillFwdPx": "",
            "fillMarkPx": "",
            "side": SIDE_NAMES[fill.side],
            "posSide": str(fill.pos_side),
            "execType": "M" if fill.is_maker else "T",
            "feeCcy": fill.fee_coin,
            "fee": self._fee(fill.fee, fill.fee_coin),
            "feeRate": decimal_text(-fill.fee_rate),
            "fillTime": ms_text(fill.ts),
            "ts": ms_text(fill.ts),
            "tradeQuoteCcy": self.listing.row["quoteCcy"],
        }

    def price(self, fill: Fill) -> str:
        """Return the price of a fill; a delivery's is no whole tick."""
        return self.tick.text(fill.tick) if fill.tick is not None else decimal_text(fill.price, 8)

    def _average(self, view: OrderView) -> Decimal | None:
        """Return the average price of an order; a delivery's is no whole tick, but one price."""
        if view.category is not Reason.DELIVERY or not view.filled_value:
            return average_price(view, self.tick)
        row = self.listing.row
        contracts = self._size(view.filled) * Decimal(row["ctVal"])
        value = Decimal(view.filled_value).scaleb(-self._decimals[row["settleCcy"]])
        return round(contracts / value if self.listing.is_inverse else value / contracts, 8)

    def _common(self, view: OrderView, state: str) -> dict[str, Any]:
        note = note_of(view)
        listing = self.listing
        is_unpriced = note.get("ordType", "limit") in ("market", "optimal_limit_ioc")
        by_quote = note.get("tgtCcy") == "quote_ccy"
        fee_coin = view.fee_coin or self._fee_coin(view.side)
        return {
            "instType": listing.inst_type,
            "instId": listing.inst_id,
            "tgtCcy": str(note.get("tgtCcy", "")),
            "ccy": str(note.get("ccy", "")),
            "tradeQuoteCcy": listing.row["quoteCcy"],
            "ordId": ord_id_text(view.order_id),
            "clOrdId": view.client_id,
            "tag": view.tag,
            "px": "" if is_unpriced or view.tick is None else self.tick.text(view.tick),
            "sz": str(note["sz"]) if by_quote else self.lot.text(view.lots),
            "ordType": str(note.get("ordType", "market")),
            "side": SIDE_NAMES[view.side],
            "tdMode": str(note.get("tdMode") or ("isolated" if view.is_isolated else "cross")),
            "accFillSz": self.lot.text(view.filled),
            "state": state or _STATES[view.state],
            "pnl": self._pnl(view.realised),
            "feeCcy": fee_coin,
            "fee": self._fee(view.fee, fee_coin),
            "rebateCcy": self._fee_coin(1 - view.side),
            "rebate": "0",
            "category": _CATEGORIES.get(view.category, "normal"),
            "cTime": ms_text(view.created_ns),
            "source": "",
            "reduceOnly": "true" if view.reduce_only else "false",
            "quickMgnType": "",
            "stpId": "",
            "stpMode": str(view.self_trade),
            "pxType": "",
            "pxUsd": "",
            "pxVol": "",
            **_ALGO,
        }

    def _size(self, lots: int) -> Decimal:
        return lots * self.lot.size

    def _fee_coin(self, side: int) -> str:
        """Return what fees are paid in: spot pays in what it gets, everything else in the settle coin."""
        row = self.listing.row
        if self._is_spot:
            return str(row["baseCcy"] if side == BID else row["quoteCcy"])
        return str(row["settleCcy"])

    def _fee(self, fee: int, coin: str) -> str:
        return money_text(-fee, self._decimals[coin])

    def _pnl(self, realised: int) -> str:
        coin = str(self.listing.row["settleCcy"] or self.listing.row["quoteCcy"])
        return money_text(realised, self._decimals[coin])

    def _cancel_source(self, view: OrderView) -> str:
        if view.state is not State.CANCELLED:
            return ""
        return _CANCEL_SOURCES.get(view.reason or Reason.USER, "0")


def trade_id_text(fill: Fill) -> str:
    """Return the tradeId of a fill: below zero where the house closed a position (section 9.1)."""
    if fill.reason is Reason.FILL:
        return str(fill.trade_id)
    return str(-(fill.trade_id or fill.fill_id))  # without a public print it is nobody's but the fill's


def _order_trade_id(fill: Fill) -> str:
    return str(fill.trade_id) if fill.reason is Reason.FILL else "0"


def bill_id_text(number: int) -> str:
    """Return a billId, which rises as ordId does."""
    return str(_ORD_BASE + number * _ORD_STEP + 1)


def sub_type(fill: Fill) -> str:
    """Return the transaction type of a fill, as ``fills`` and ``bills`` number them."""
    is_buy = fill.side == BID
    if fill.reason is Reason.DELIVERY:
        return "113" if is_buy else "112"  # buying back ends a short
    if fill.reason is Reason.LIQUIDATION:
        return "105" if is_buy else "104"
    if fill.pos_side is PosSide.NET:
        return "1" if is_buy else "2"
    if fill.pos_side is PosSide.LONG:
        return "3" if is_buy else "5"
    return "6" if is_buy else "4"
