"""What an order request at the simulated OKX asks for, and whether it may be asked.

In: one object of a request (WS ``args`` element or REST body), the instrument it names, and how the account
is set. Out: ``NewOrder`` or ``Amendment``, in ticks and lots, or an ``OkexError``. What depends on the book
or on money (price limit, margin, reduce-only, open orders) is ``okex_trade``'s business. Written from the
fact sheet, sections 4, 6 and 8.2.

Simplified: spot has no margin, so ``isolated`` is for futures and swaps alone; attached TP/SL orders are
refused.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec

from dquant.simulator.flow_book import ASK, BID
from dquant.simulator.okex_errors import OkexError
from dquant.simulator.okex_instruments import Listing

SIDES = {"buy": BID, "sell": ASK}
SIDE_NAMES = {BID: "buy", ASK: "sell"}
PRICED = frozenset({"limit", "post_only", "fok", "ioc"})
UNPRICED = frozenset({"market", "optimal_limit_ioc"})
STP_MODES = ("cancel_maker", "cancel_taker", "cancel_both")
_NUMBER = re.compile(r"\d{1,20}(\.\d{1,18})?", re.ASCII)
_CL_ORD_ID = re.compile(r"[A-Za-z0-9]{1,32}", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9]{1,16}", re.ASCII)


class NewOrder(msgspec.Struct, frozen=True):
    """An order as it is asked for; prices in ticks, sizes in lots, of the instrument."""

    listing: Listing
    side: int  # BID buys
    pos_side: str  # net, long, short; empty for spot
    td_mode: str
    ord_type: str
    size: str  # as sent
    lots: int  # 0 where the size is an amount of quote currency
    quote_amount: Decimal | None
    ticks: int | None
    cl_ord_id: str = ""
    tag: str = ""
    ccy: str = ""
    tgt_ccy: str = ""
    stp_mode: str = "cancel_maker"
    is_reduce_only: bool = False
    may_clamp: bool = False  # pxAmendType 1

    @property
    def is_isolated(self) -> bool:
        """Whether its position has margin of its own."""
        return self.td_mode == "isolated"

    @property
    def closes(self) -> bool:
        """Whether it is the closing side of long/short mode."""
        return (self.side, self.pos_side) in ((ASK, "long"), (BID, "short"))


@dataclass(frozen=True, slots=True)
class Amendment:
    """A change of an order."""

    lots: int | None  # the new total size, filled part included
    size: str
    ticks: int | None
    req_id: str
    cancels_on_failure: bool
    may_clamp: bool


def parse_order(arg: dict[str, Any], listing: Listing, pos_mode: str, account_level: str) -> NewOrder:
    """Read the parameters of a new order.

    Raises:
        OkexError: 50014, 50024, 50072, 51000, 51005, 51010, 51020, 51021, 51101, 51121, 51202 or 54036.

    """
    if listing.state == "preopen":
        raise OkexError("51021")
    is_spot = listing.inst_type == "SPOT"
    td_mode, side, ord_type = (required(arg, name) for name in ("tdMode", "side", "ordType"))
    if not is_spot and account_level == "1":
        raise OkexError("51010")
    has_one_margin = account_level in ("3", "4")
    if td_mode == "isolated" and has_one_margin:
        raise OkexError("50072")
    allowed = ("cross", "isolated") if not is_spot else ("cross",) if has_one_margin else ("cash",)
    if td_mode not in allowed:
        raise OkexError("51000", "tdMode")
    if side not in SIDES:
        raise OkexError("51000", "side")
    if ord_type not in PRICED | UNPRICED or (is_spot and ord_type == "optimal_limit_ioc"):
        raise OkexError("51000", "ordType")
    pos_side = _pos_side(arg, is_spot, pos_mode)
    stp_mode = text(arg, "stpMode") or "cancel_maker"
    if stp_mode not in STP_MODES:
        raise OkexError("51000", "stpMode")
    if stp_mode == "cancel_both" and ord_type == "fok":
        raise OkexError("54036")
    if text(arg, "px") and (text(arg, "pxUsd") or text(arg, "pxVol")):
        raise OkexError("50024", "px", "pxUsd")
    if arg.get("attachAlgoOrds"):
        raise OkexError("51000", "attachAlgoOrds")
    tgt_ccy = text(arg, "tgtCcy")
    if tgt_ccy not in ("", "base_ccy", "quote_ccy"):
        raise OkexError("51000", "tgtCcy")
    if is_spot and ord_type == "market":
        tgt_ccy = tgt_ccy or ("quote_ccy" if side == "buy" else "base_ccy")
    else:
        tgt_ccy = ""  # it has no meaning elsewhere
    size = required(arg, "sz")
    by_quote = tgt_ccy == "quote_ccy"
    new = NewOrder(
        listing=listing,
        side=SIDES[side],
        pos_side=pos_side,
        td_mode=td_mode,
        ord_type=ord_type,
        size=size,
        lots=0 if by_quote else lots_of(size, listing, ord_type in UNPRICED, "sz"),
        quote_amount=_positive(size, "sz") if by_quote else None,
        ticks=ticks_of(text(arg, "px"), listing, "px") if ord_type in PRICED else None,
        cl_ord_id=_matching(arg, "clOrdId", _CL_ORD_ID),
        tag=_matching(arg, "tag", _TAG),
        ccy=text(arg, "ccy"),
        tgt_ccy=tgt_ccy,
        stp_mode=stp_mode,
        is_reduce_only=flag(arg, "reduceOnly") and pos_mode == "net_mode" and not is_spot,
        may_clamp=_px_amend_type(arg),
    )
    if is_spot:
        _check_amount(new)
    return new


def parse_amend(arg: dict[str, Any], listing: Listing) -> Amendment:
    """Read the parameters of an amendment.

    Raises:
        OkexError: 51000, 51020, 51101, 51121 or 51500.

    """
    new_size, new_price = text(arg, "newSz"), text(arg, "newPx")
    if not new_size and not new_price:
        raise OkexError("51500")
    return Amendment(
        lots=lots_of(new_size, listing, False, "newSz") if new_size else None,
        size=new_size,
        ticks=ticks_of(new_price, listing, "newPx") if new_price else None,
        req_id=_matching(arg, "reqId", _CL_ORD_ID),
        cancels_on_failure=flag(arg, "cxlOnFail"),
        may_clamp=_px_amend_type(arg),
    )


def named_order(arg: dict[str, Any]) -> tuple[str, str]:
    """Return ``(ordId, clOrdId)``, one of which is given; ordId wins where both are.

    Raises:
        OkexError: 51003: neither.

    """
    ord_id, cl_ord_id = text(arg, "ordId"), text(arg, "clOrdId")
    if not ord_id and not cl_ord_id:
        raise OkexError("51003")
    return ord_id, "" if ord_id else cl_ord_id


def text(arg: dict[str, Any], name: str) -> str:
    """Return a parameter as text; what is absent or null is empty.

    Raises:
        OkexError: 51000: it is an object, a list or a boolean.

    """
    value = arg.get(name)
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise OkexError("51000", name)
    return _plain(value, name)


def required(arg: dict[str, Any], name: str) -> str:
    """Return a parameter that must be there.

    Raises:
        OkexError: 50014: it is not; 51000: it is no text.

    """
    value = text(arg, name)
    if not value:
        raise OkexError("50014", name)
    return value


def flag(arg: dict[str, Any], name: str) -> bool:
    """Return a boolean parameter; clients also send it as text.

    Raises:
        OkexError: 51000.

    """
    value = arg.get(name)
    if value in (None, "", False, "false", "False"):
        return False
    if value is True or value in ("true", "True"):
        return True
    raise OkexError("51000", name)


def lots_of(size: str, listing: Listing, is_market: bool, name: str) -> int:
    """Return a size in lots.

    Raises:
        OkexError: 51000, 51020, 51121, 51101 or 51202.

    """
    amount = _positive(size, name)
    if amount < Decimal(listing.row["minSz"]):
        raise OkexError("51020")
    most = listing.row["maxMktSz" if is_market else "maxLmtSz"]
    if most and amount > Decimal(most):
        if is_market:
            raise OkexError("51202")
        raise OkexError("51101", most)
    lots = amount / Decimal(listing.row["lotSz"])
    if lots != int(lots):
        raise OkexError("51121")
    return int(lots)


def ticks_of(price: str, listing: Listing, name: str) -> int:
    """Return a price in ticks; one between two ticks is refused.

    Raises:
        OkexError: 51000.

    """
    ticks = _positive(price, name) / Decimal(listing.row["tickSz"])
    if ticks != int(ticks):
        raise OkexError("51000", name)
    return int(ticks)


def _check_amount(new: NewOrder) -> None:
    """Refuse a spot order that is worth too much; its quote currency counts as USD."""
    row = new.listing.row
    if new.quote_amount is not None and new.quote_amount > Decimal(row["maxMktAmt"]):
        raise OkexError("51202")
    if new.ticks is not None:
        worth = new.ticks * Decimal(row["tickSz"]) * new.lots * Decimal(row["lotSz"])
        if worth > Decimal(row["maxLmtAmt"]):
            raise OkexError("51005")


def _positive(value: str, name: str) -> Decimal:
    if not _NUMBER.fullmatch(value) or not Decimal(value):
        raise OkexError("51000", name)
    return Decimal(value)


def _plain(value: float, name: str) -> str:
    """Return a JSON number as text, without exponent."""
    number = Decimal(str(value))
    if not number.is_finite() or abs(number.adjusted()) > 30:
        raise OkexError("51000", name)
    return format(number, "f").removesuffix(".0")


def _pos_side(arg: dict[str, Any], is_spot: bool, pos_mode: str) -> str:
    pos_side = text(arg, "posSide")
    if is_spot:
        allowed, default = ("", "net"), ""
    elif pos_mode == "net_mode":
        allowed, default = ("", "net"), "net"
    else:
        allowed, default = ("long", "short"), pos_side
    if pos_side not in allowed:
        raise OkexError("51000", "posSide")
    return default


def _px_amend_type(arg: dict[str, Any]) -> bool:
    value = text(arg, "pxAmendType")
    if value not in ("", "0", "1"):
        raise OkexError("51000", "pxAmendType")
    return value == "1"


def _matching(arg: dict[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    value = text(arg, name)
    if value and not pattern.fullmatch(value):
        raise OkexError("51000", name)
    return value
