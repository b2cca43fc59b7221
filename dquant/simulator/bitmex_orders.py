"""What a client asks for when it places an order at the simulated BitMEX, checked against the contract.

In: the parameters of ``POST /order``. Out: an ``OrderAsk`` in ticks and lots, or the venue's refusal. Who has
the balance, what crosses and what triggers is not decided here. Written from the fact sheet, sections 5.3 and
5.6, linked orders from the announcement that ``links`` names. Iceberg quantities are taken note of and shown
in full.
"""

from decimal import Decimal

import msgspec

from dquant.simulator.bitmex_instruments import BitmexContract
from dquant.simulator.bitmex_params import BadRequest, Params
from dquant.simulator.flow_book import ASK, BID
from dquant.simulator.orders import Contingency

CL_ORD_ID_LIMIT, TEXT_LIMIT = 36, 255
SIDES = {"Buy": BID, "Sell": ASK}
ORD_TYPES = (
    "Limit", "Market", "Stop", "StopLimit", "MarketIfTouched", "LimitIfTouched", "Pegged",
)  # fmt: skip
PRICED_TYPES = frozenset({"Limit", "StopLimit", "LimitIfTouched"})
STOP_TYPES = frozenset({"Stop", "StopLimit", "MarketIfTouched", "LimitIfTouched"})
TIMES_IN_FORCE = ("GoodTillCancel", "ImmediateOrCancel", "FillOrKill", "Day")
POST_ONLY, REDUCE_ONLY, CLOSE = "ParticipateDoNotInitiate", "ReduceOnly", "Close"
TRIGGERS = ("MarkPrice", "IndexPrice", "LastPrice")
EXEC_INSTS = frozenset({POST_ONLY, REDUCE_ONLY, CLOSE, *TRIGGERS, "Fixed", "LastWithinMark"})
_NOISE = Decimal("1e-6")  # of a tick: what is left of a double's arithmetic
TRAILING = "TrailingStopPeg"
PEGS = ("PrimaryPeg", "MarketPeg", TRAILING)
CONTINGENCIES = {"OneCancelsTheOther": Contingency.OCO, "OneTriggersTheOther": Contingency.OTO}


class OrderAsk(msgspec.Struct, frozen=True):
    """An order as asked for. Ticks and lots are whole steps of the contract, ``side`` is BID or ASK."""

    symbol: str
    side: int
    lots: int  # 0: the whole position (``Close`` without a quantity)
    ord_type: str
    time_in_force: str
    tick: int | None = None
    stop_tick: int | None = None
    exec_inst: tuple[str, ...] = ()
    cl_ord_id: str = ""
    cl_ord_link_id: str = ""
    contingency_type: str = ""
    display_qty: int | None = None
    peg_type: str = ""
    peg_offset: Decimal | None = None
    text: str = ""
    is_side_given: bool = True

    @property
    def is_stop(self) -> bool:
        """Whether it waits for a trigger."""
        return self.ord_type in STOP_TYPES

    @property
    def contingency(self) -> Contingency | None:
        """What it means for the orders that it is linked to."""
        return CONTINGENCIES.get(self.contingency_type)

    @property
    def is_close(self) -> bool:
        """Whether it closes the whole position, whatever that is."""
        return CLOSE in self.exec_inst and not self.lots

    @property
    def reduces_only(self) -> bool:
        """Whether it must not grow a position."""
        return REDUCE_ONLY in self.exec_inst or CLOSE in self.exec_inst


def read_order(params: Params, contract: BitmexContract) -> OrderAsk:
    """Check the parameters of a new order.

    Raises:
        BadRequest: One of them is not what the venue takes.

    """
    exec_inst = _exec_inst(params)
    qty, side, is_side_given = _quantity_and_side(params, contract, is_close=CLOSE in exec_inst)
    peg_type, peg_offset = _peg(params)
    ord_type = _ord_type(params, peg_type, exec_inst)
    tick = tick_of(params, "price", contract)
    if ord_type in PRICED_TYPES and tick is None:
        raise BadRequest("Invalid price")
    if ord_type not in PRICED_TYPES:
        tick = None
    stop_tick = tick_of(params, "stopPx", contract)
    if ord_type in STOP_TYPES:
        if stop_tick is None and peg_type != TRAILING:
            raise BadRequest("Invalid stopPx for ordType")
    elif stop_tick is not None:
        raise BadRequest("Invalid stopPx for ordType")
    is_market = ord_type in ("Market", "Stop", "MarketIfTouched")
    time_in_force = params.text("timeInForce") or ("ImmediateOrCancel" if is_market else "GoodTillCancel")
    if time_in_force not in TIMES_IN_FORCE:
        raise BadRequest("Invalid timeInForce")
    if ord_type == "Market":
        time_in_force = "ImmediateOrCancel"
    if POST_ONLY in exec_inst and (is_market or time_in_force in ("ImmediateOrCancel", "FillOrKill")):
        raise BadRequest("Invalid execInst for ordType")
    link, contingency_type = _link(params)
    if (params.text("strategy") or "OneWay") != "OneWay":
        raise BadRequest("Invalid strategy")
    display_qty = params.whole("displayQty")
    if display_qty is not None and (display_qty < 0 or display_qty % contract.lot):
        raise BadRequest("Invalid displayQty")
    return OrderAsk(
        symbol=contract.symbol,
        side=side,
        lots=qty // contract.lot,
        ord_type=ord_type,
        time_in_force=time_in_force,
        tick=tick,
        stop_tick=stop_tick,
        exec_inst=exec_inst,
        cl_ord_id=cl_ord_id_of(params, "clOrdID"),
        cl_ord_link_id=link,
        contingency_type=contingency_type,
        display_qty=display_qty,
        peg_type=peg_type,
        peg_offset=peg_offset,
        text=(params.text("text") or "")[:TEXT_LIMIT],
        is_side_given=is_side_given,
    )


def tick_of(params: Params, name: str, contract: BitmexContract) -> int | None:
    """Return a price in ticks; None where there is none.

    Raises:
        BadRequest: It is not positive, off the tick or above the highest price.

    """
    price = params.number(name)
    if price is None:
        return None
    if price <= 0 or price > Decimal(str(contract.fixed["maxPrice"])):
        raise BadRequest(f"Invalid {name}")
    return steps_of(price, Decimal(str(contract.tick)), name)


def steps_of(value: Decimal, size: Decimal, name: str) -> int:
    """Return a price or an offset in ticks.

    The venue reads doubles, so that 83831.90000000001, as a client may write 83831.9, is on its tick.

    Raises:
        BadRequest: It is between two.

    """
    steps = value / size
    nearest = steps.to_integral_value()
    if abs(steps - nearest) > _NOISE or (value and not nearest):
        raise BadRequest(f"Invalid {name} tickSize")
    return int(nearest)


def lots_of(params: Params, name: str, contract: BitmexContract) -> int | None:
    """Return a quantity in lots, signed; None where there is none.

    Raises:
        BadRequest: It is off the lot or more than the venue takes.

    """
    qty = params.whole(name)
    if qty is None:
        return None
    if abs(qty) > contract.fixed["maxOrderQty"]:
        raise BadRequest(f"Invalid {name}")
    if qty % contract.lot:
        raise BadRequest(f"Invalid {name} for lotSize" if name == "leavesQty" else f"Invalid {name}")
    return qty // contract.lot


def cl_ord_id_of(params: Params, name: str) -> str:
    """Return a client's id for an order; empty where there is none.

    Raises:
        BadRequest: It is too long.

    """
    text = params.text(name) or ""
    if len(text) > CL_ORD_ID_LIMIT or not text.isprintable():
        raise BadRequest(f"Invalid {name}")
    return text


def _exec_inst(params: Params) -> tuple[str, ...]:
    parts = tuple(dict.fromkeys(params.texts("execInst")))
    if not EXEC_INSTS.issuperset(parts) or len(set(TRIGGERS) & set(parts)) > 1:
        raise BadRequest("Invalid execInst")
    return parts


def _quantity_and_side(params: Params, contract: BitmexContract, *, is_close: bool) -> tuple[int, int, bool]:
    side_text = params.text("side")
    if side_text is not None and side_text not in SIDES:
        raise BadRequest("Invalid side")
    lots = lots_of(params, "orderQty", contract)
    if lots is None and not is_close:
        raise BadRequest("Invalid orderQty")
    if lots == 0 or (lots is not None and lots < 0 and side_text == "Buy"):
        raise BadRequest("Invalid orderQty")
    side = SIDES[side_text] if side_text else ASK if lots is not None and lots < 0 else BID
    return abs(lots or 0) * contract.lot, side, side_text is not None or (lots is not None and lots < 0)


def _link(params: Params) -> tuple[str, str]:
    """Return ``clOrdLinkID`` and ``contingencyType``; the second needs the first."""
    link, contingency_type = cl_ord_id_of(params, "clOrdLinkID"), params.text("contingencyType") or ""
    if contingency_type and contingency_type not in CONTINGENCIES:
        raise BadRequest("Invalid contingencyType")
    if contingency_type and not link:
        raise BadRequest("Invalid clOrdLinkID")
    return link, contingency_type


def _peg(params: Params) -> tuple[str, Decimal | None]:
    peg_type, offset = params.text("pegPriceType") or "", params.number("pegOffsetValue")
    if peg_type and peg_type not in PEGS:
        raise BadRequest("Invalid pegPriceType")
    if peg_type == TRAILING and not offset:
        raise BadRequest("Invalid pegOffsetValue")
    return peg_type, offset if peg_type else None


def _ord_type(params: Params, peg_type: str, exec_inst: tuple[str, ...]) -> str:
    ord_type = params.text("ordType")
    if ord_type is None:
        ord_type = (
            "Stop"
            if peg_type == TRAILING
            else "Pegged"
            if peg_type
            else "Limit"
            if "price" in params
            else "Market"
        )
    if ord_type not in ORD_TYPES:
        raise BadRequest("Invalid ordType")
    if peg_type == TRAILING:
        if ord_type not in STOP_TYPES:
            raise BadRequest("Invalid ordType")
    elif peg_type and (ord_type != "Pegged" or "Fixed" not in exec_inst):
        raise BadRequest("Invalid execInst" if ord_type == "Pegged" else "Invalid ordType")
    if ord_type == "Pegged" and not peg_type:
        raise BadRequest("Invalid pegPriceType")
    return ord_type
