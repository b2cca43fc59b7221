"""Placing, amending and canceling orders at the simulated BitMEX, by REST.

In: parameters of an authenticated account. Out: rows, or ``BadRequest`` in the venue's words; the work is the
engine's. Written from the fact sheet, sections 5.2 to 5.6 and 2.6. A request is spelled to the account's
websockets before its answer is given. ``PrimaryPeg`` and ``MarketPeg`` take their price when they are placed
and keep it; ``TrailingStopPeg`` follows (``bitmex_trailing``).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from dquant.constants import NS_PER_MS, NS_PER_S
from dquant.simulator import bitmex_orders as orders
from dquant.simulator.bitmex_account import BitmexAccount, Listed
from dquant.simulator.bitmex_order_rows import note_of
from dquant.simulator.bitmex_orders import OrderAsk
from dquant.simulator.bitmex_params import BadRequest, Params, dead_man_ms
from dquant.simulator.bitmex_tables import Row, iso
from dquant.simulator.exchange_faults import PLAIN_ANSWER, AnswerPlan
from dquant.simulator.flow_book import ASK, BID
from dquant.simulator.orders import Kind, OrderRequest, PosSide, Reason, Refused, Trigger, TriggerSource, Why

if TYPE_CHECKING:
    from dquant.simulator.bitmex_server import BitmexServer

OPEN_LIMIT, STOP_LIMIT = 200, 10  # orders of one contract, section 5.8
DAY_NS = 86_400 * NS_PER_S
CANCEL_IDS_LIMIT = 500
_SOURCES = {
    "MarkPrice": TriggerSource.MARK,
    "IndexPrice": TriggerSource.INDEX,
    "LastPrice": TriggerSource.LAST,
}
_RESTING = {"ImmediateOrCancel": Kind.IOC, "FillOrKill": Kind.FOK}
_WORDS = {
    Why.CLIENT_ID: "Duplicate clOrdID",
    Why.SIZE: "Invalid orderQty",
    Why.PRICE: "Invalid price",
    Why.NOT_OPEN: "Market is not open",
    Why.UNKNOWN_SYMBOL: "Invalid symbol",
    Why.UNKNOWN_ORDER: "Invalid orderID",
    Why.NO_POSITION: "Order had execInst of [Close] but current position is [0]",
    Why.REDUCE_ONLY_MODE: "Value of position and orders exceeds position Risk Limit",
    Why.TOO_MANY_ORDERS: "Too many open orders",
    Why.LEVERAGE: "Invalid leverage",
    Why.NOTHING_TO_DO: "Invalid amend: orderQty, leavesQty, price, stopPx unchanged",
    Why.LINK: "Invalid clOrdLinkID",
    Why.FAULT: "Order rejected by the engine",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What a private request is answered with, and what a fault does to the acknowledgement."""

    body: Any
    plan: AnswerPlan = PLAIN_ANSWER


Handler = Callable[[Params, BitmexAccount], Reply]


class TradeRest:
    """The routes of orders; ``routes`` are by method and path below ``/api/v1``."""

    def __init__(self, venue: "BitmexServer") -> None:
        self._venue, self._side = venue, venue.private
        self.routes: dict[tuple[str, str], Handler] = {
            ("POST", "/order"): self._place,
            ("PUT", "/order"): self._amend,
            ("DELETE", "/order"): self._cancel,
            ("DELETE", "/order/all"): self._cancel_all,
            ("POST", "/order/cancelAllAfter"): self._dead_man,
            ("POST", "/order/closePosition"): self._close_position,
        }

    @property
    def _now(self) -> int:
        return self._venue.now_ns

    def listed(self, params: Params) -> Listed:
        """Return the contract that a request names.

        Raises:
            BadRequest: There is none, or it has expired.

        """
        params.needs("symbol")
        symbol = params.text("symbol") or ""
        if symbol in self._venue.gone:
            raise BadRequest("Instrument expired")
        if symbol not in self._venue.markets:
            raise BadRequest("Invalid symbol")
        return self._side.house.listed[symbol]

    # Placing

    def _place(self, params: Params, account: BitmexAccount) -> Reply:
        listed = self.listed(params)
        ask = orders.read_order(params, listed.contract)
        self._check_expiry(params)
        return self._send(ask, listed, account)

    def _close_position(self, params: Params, account: BitmexAccount) -> Reply:
        listed = self.listed(params)
        tick = orders.tick_of(params, "price", listed.contract)
        ask = OrderAsk(
            symbol=listed.contract.symbol,
            side=BID,
            lots=0,
            ord_type="Market" if tick is None else "Limit",
            time_in_force="ImmediateOrCancel" if tick is None else "GoodTillCancel",
            tick=tick,
            exec_inst=(orders.CLOSE,),
            is_side_given=False,
        )
        return self._send(ask, listed, account)

    def _send(self, ask: OrderAsk, listed: Listed, account: BitmexAccount) -> Reply:
        exchange = self._side.exchange
        if ask.cl_ord_id and ask.cl_ord_id in account.open_ids:
            raise BadRequest("Duplicate clOrdID")
        if ask.peg_type == orders.TRAILING:
            ask = self._trailing(ask, listed)
        elif ask.peg_type:
            ask = self._pegged(ask, listed)
        if ask.reduces_only and not exchange.is_asleep(account.name, ask.cl_ord_link_id, ask.contingency):
            ask = self._reducing(ask, listed, account)
        self._check_counts(ask, account)
        if not ask.reduces_only:
            self._check_risk(ask, listed, account)
        request = self._request(ask, listed, account)
        try:
            placed = exchange.place(account.name, request)
        except Refused as exc:
            self._tell()
            raise self._refusal(exc) from None
        if ask.peg_type == orders.TRAILING:
            self._side.trailing.add(placed.order, self._offset(ask.peg_offset, listed))
        self._tell(twice=placed.answer.twice)
        return Reply(account.row_of(placed.order.order_id), placed.answer)

    def _request(self, ask: OrderAsk, listed: Listed, account: BitmexAccount) -> OrderRequest:
        is_market = ask.ord_type in ("Market", "Stop", "MarketIfTouched")
        kind = Kind.MARKET if is_market else _RESTING.get(ask.time_in_force, Kind.LIMIT)
        if orders.POST_ONLY in ask.exec_inst:
            kind = Kind.POST_ONLY
        trigger = None
        if ask.stop_tick is not None:
            is_touched = ask.ord_type in ("MarketIfTouched", "LimitIfTouched")
            trigger = Trigger(ask.stop_tick, (ask.side == BID) != is_touched, _source(ask))
        is_day = ask.time_in_force == "Day"
        return OrderRequest(
            symbol=ask.symbol,
            side=ask.side,
            lots=ask.lots or listed.engine.max_lots,
            kind=kind,
            tick=ask.tick,
            pos_side=PosSide.NET,
            is_isolated=not account.term(ask.symbol).is_cross,
            reduce_only=ask.reduces_only,
            client_id=ask.cl_ord_id,
            trigger=trigger,
            link=ask.cl_ord_link_id,
            contingency=ask.contingency,
            expires_ns=self._now - self._now % DAY_NS + DAY_NS if is_day else None,
            note=note_of(ask, listed.contract),
        )

    def _reducing(self, ask: OrderAsk, listed: Listed, account: BitmexAccount) -> OrderAsk:
        """Give an order that only reduces its side and size; a plain Close cancels other closing orders."""
        is_isolated = not account.term(ask.symbol).is_cross
        position = self._side.exchange.position(account.name, ask.symbol, is_isolated=is_isolated)
        lots = 0 if position is None else position.lots
        side = ask.side if ask.is_side_given or not lots else (ASK if lots > 0 else BID)
        if ask.is_stop:
            return replace(ask, side=side)
        if not lots or (lots > 0) == (side == BID):
            what = orders.CLOSE if orders.CLOSE in ask.exec_inst else orders.REDUCE_ONLY
            held, words = lots * listed.contract.lot, "Buy" if side == BID else "Sell"
            raise BadRequest(
                f"Order had execInst of [{what}] and side of [{words}] but current position is [{held}]"
            )
        if ask.is_close:
            for row in account.open_rows():
                is_closing = orders.CLOSE in row.get("execInst", "") and row["symbol"] == ask.symbol
                if is_closing and row["workingIndicator"]:
                    self._cancel_one(account, account.numbers[row["orderID"]], "Canceled by Close order.")
            return replace(ask, side=side, lots=abs(lots))
        return replace(ask, side=side)

    def _pegged(self, ask: OrderAsk, listed: Listed) -> OrderAsk:
        book = self._venue.markets[ask.symbol].market.book
        own, other = (book.best_bid, book.best_ask)[:: 1 if ask.side == BID else -1]
        best = own if ask.peg_type == "PrimaryPeg" else other
        tick = (best or 0) + self._offset(ask.peg_offset, listed)
        if best is None or tick <= 0:
            raise BadRequest("Invalid pegOffsetValue")
        return replace(ask, tick=tick)

    def _trailing(self, ask: OrderAsk, listed: Listed) -> OrderAsk:
        last = self._venue.markets[ask.symbol].market.day.last_tick
        offset = self._offset(ask.peg_offset, listed)
        tick = self._side.trailing.first_tick(ask.symbol, offset, _source(ask), last)
        if tick <= 0:
            raise BadRequest("Invalid pegOffsetValue")
        return replace(ask, stop_tick=tick if ask.stop_tick is None else ask.stop_tick)

    @staticmethod
    def _offset(value: Decimal | None, listed: Listed) -> int:
        return orders.steps_of(value or Decimal(0), listed.engine.tick.size, "pegOffsetValue")

    def _check_expiry(self, params: Params) -> None:
        text = params.text("expiryTime")
        if text is None:
            return
        try:
            moment = datetime.fromisoformat(text)
            expires = int(moment.timestamp() * 1000) * NS_PER_MS
        except (ValueError, OverflowError, OSError):
            raise BadRequest("Invalid expiryTime") from None
        if expires <= self._now:
            words = f"Current time: {self._now // NS_PER_S}"
            raise BadRequest(f"This request has expired - `expiryTime` is in the past. {words}")

    def _check_counts(self, ask: OrderAsk, account: BitmexAccount) -> None:
        exchange = self._side.exchange
        if exchange.open_total(account.name) < (STOP_LIMIT if ask.is_stop else OPEN_LIMIT):
            return
        orders, stops = exchange.open_counts(account.name, ask.symbol)
        if orders >= OPEN_LIMIT or (ask.is_stop and stops >= STOP_LIMIT):
            raise BadRequest(_WORDS[Why.TOO_MANY_ORDERS], "ValidationError")

    def _check_risk(self, ask: OrderAsk, listed: Listed, account: BitmexAccount) -> None:
        """Refuse what would go beyond the position's risk limit; a stop is looked at when it triggers."""
        if ask.is_stop:
            return
        row = account.positions.get(ask.symbol, {})
        engine = listed.engine
        price = engine.price(ask.tick) if ask.tick is not None else self._side.exchange.mark(ask.symbol)
        value = engine.value(ask.lots, price)
        held = row.get("currentQty", 0)
        if (held > 0) != (ask.side == BID) and held:
            value = max(0, value - abs(row["markValue"]))
        limit = account.term(ask.symbol).risk_limit or listed.contract.fixed["riskLimit"]
        if row.get("riskValue", 0) + value > limit:
            raise BadRequest("Value of position and orders exceeds position Risk Limit", "ValidationError")

    # Amending

    def _amend(self, params: Params, account: BitmexAccount) -> Reply:
        if "orderID" not in params and "origClOrdID" not in params:
            raise BadRequest("orderID or origClOrdID must be sent.")
        number = account.order_number(params.text("orderID"), params.text("origClOrdID"))
        if number is None:
            raise BadRequest("Invalid orderID")
        face, row = account.faces[number], account.row_of(number)
        if row["ordStatus"] not in ("New", "PartiallyFilled"):
            raise BadRequest(f"Invalid ordStatus: {row['ordStatus']}")
        lots, names = self._new_lots(params, face.contract.lot, row, account, number)
        tick = orders.tick_of(params, "price", face.contract)
        if tick is not None and "price" not in row:
            raise BadRequest("Invalid price")
        stop_tick = orders.tick_of(params, "stopPx", face.contract)
        if stop_tick is not None and "stopPx" not in row:
            raise BadRequest("Invalid stopPx for ordType")
        if (peg := params.number("pegOffsetValue")) is not None:
            stop_tick = self._new_trail(peg, number, account)
        cl_ord_id = orders.cl_ord_id_of(params, "clOrdID")
        if cl_ord_id and account.open_ids.get(cl_ord_id, number) != number:
            raise BadRequest("Duplicate clOrdID")
        names += ["price"] * (tick is not None)
        if stop_tick is not None:
            names.append("stopPx" if peg is None else "pegOffsetValue")
        if not names:
            raise BadRequest(_WORDS[Why.NOTHING_TO_DO])
        words = f": {text[: orders.TEXT_LIMIT]}" if (text := params.text("text")) else ""
        before = face.text, face.cl_ord_id
        face.text = f"Amended {' '.join(names)}{words}\n{face.note['text']}"
        if cl_ord_id and cl_ord_id != face.cl_ord_id:
            account.open_ids.pop(face.cl_ord_id, None)
            face.cl_ord_id, face.replaced_id = cl_ord_id, face.cl_ord_id
        try:
            self._side.exchange.amend(
                account.name,
                number,
                lots=lots,
                tick=tick,
                trigger_tick=stop_tick,
                client_id=cl_ord_id or None,
            )
        except Refused as exc:
            face.text, face.cl_ord_id = before
            face.replaced_id = ""
            if before[1]:
                account.open_ids[before[1]] = number
            if exc.why is not Why.POST_ONLY:
                self._tell()
                raise self._refusal(exc) from None
            # As a new one that would cross; what an amended one gets is not recorded.
            self._side.exchange.cancel(account.name, number, Reason.POST_ONLY)
        if peg is not None:
            face.note["pegOffsetValue"] = float(peg)
            view = self._side.exchange.order(account.name, number)
            self._side.trailing.add(view, self._offset(peg, self._side.house.listed[view.symbol]))
        self._tell()
        return Reply(account.row_of(number))

    def _new_trail(self, peg: Decimal, number: int, account: BitmexAccount) -> int:
        """Return where the trigger of a trailing stop goes with a new offset."""
        trail = self._side.trailing.trail(number)
        listed = self._side.house.listed[account.faces[number].contract.symbol]
        offset = self._offset(peg, listed)
        if trail is None or not offset or (offset < 0) != (trail.offset < 0):
            raise BadRequest("Invalid pegOffsetValue")
        last = self._venue.markets[trail.symbol].market.day.last_tick
        tick = self._side.trailing.first_tick(trail.symbol, offset, trail.source, last)
        if tick <= 0:
            raise BadRequest("Invalid pegOffsetValue")
        return tick

    def _new_lots(
        self, params: Params, lot: int, row: Row, account: BitmexAccount, number: int
    ) -> tuple[int | None, list[str]]:
        contract = account.faces[number].contract
        total, leaves = (orders.lots_of(params, name, contract) for name in ("orderQty", "leavesQty"))
        filled = row["cumQty"] // lot
        if total is not None and leaves is not None:
            raise BadRequest("Invalid leavesQty")
        if leaves is not None:
            if leaves <= 0:
                raise BadRequest("Invalid leavesQty")
            return filled + leaves, ["leavesQty"]
        if total is None:
            return None, []
        if abs(total) <= filled:
            raise BadRequest("Invalid orderQty")
        return abs(total), ["orderQty"]

    # Canceling

    def _cancel(self, params: Params, account: BitmexAccount) -> Reply:
        asked = [(name, value) for name in ("orderID", "clOrdID") for value in params.texts(name)]
        if not asked:
            raise BadRequest("orderID or clOrdID must be sent.")
        if len(asked) > CANCEL_IDS_LIMIT:
            raise BadRequest("Too many orders.")
        rows: dict[Any, Row] = {}  # an order that is named twice is one row
        for name, value in asked:
            number = account.order_number(value, None) if name == "orderID" else None
            number = account.order_number(None, value) if name == "clOrdID" else number
            if (number or value) not in rows:
                rows[number or value] = self._cancelled(account, number, name, value, params.text("text"))
        return Reply(list(rows.values()))

    def _cancelled(
        self, account: BitmexAccount, number: int | None, name: str, value: str, text: str | None
    ) -> Row:
        """Cancel one order; return its row, or the short one that says why not (section 5.3)."""
        if number is not None and self._cancel_one(account, number, text):
            self._tell()
            return account.row_of(number)
        row: Row = {"account": account.number, "error": "Unable to cancel order", name: value}
        if number is not None:
            row["orderID"] = account.faces[number].guid
        stamp = iso(self._now)
        return row | {"timestamp": stamp, "transactTime": stamp, "workingIndicator": False}

    def _cancel_all(self, params: Params, account: BitmexAccount) -> Reply:
        symbol, wanted = params.text("symbol"), params.table("filter")
        rows = [
            row
            for row in account.open_rows()
            if symbol in (None, row["symbol"])
            and all(
                row.get(key) in (value if isinstance(value, list) else [value])
                for key, value in wanted.items()
            )
        ]
        numbers = [account.numbers[row["orderID"]] for row in rows]
        done = [number for number in numbers if self._cancel_one(account, number, params.text("text"))]
        self._tell()
        return Reply([account.row_of(number) for number in done])

    def _cancel_one(self, account: BitmexAccount, number: int, text: str | None) -> bool:
        account.cancel_texts[number] = (text or "Canceled via API.")[: orders.TEXT_LIMIT]
        try:
            self._side.exchange.cancel(account.name, number)
        except Refused:
            account.cancel_texts.pop(number, None)
            return False
        return True

    def _dead_man(self, params: Params, account: BitmexAccount) -> Reply:
        params.needs("timeout")
        return Reply(self._side.set_dead_man(account, dead_man_ms(params.whole("timeout")), self._now))

    # The engine's answers

    def _tell(self, twice: bool = False) -> None:
        self._side.tell(self._now, self._venue.real_ns, twice)

    def _refusal(self, exc: Refused) -> BadRequest:
        facts = exc.facts
        if exc.why is Why.MARGIN:
            words = "Account has insufficient Available Balance"
            if "needed" in facts:  # a fault names no amount
                words = f"{words}, {facts['needed']} {facts['coin']} required"
            return BadRequest(words, "CodedHTTPError", details="19000")
        if exc.why is Why.FINISHED:
            return BadRequest(f"Invalid ordStatus: {facts.get('state', '')}".rstrip(": "))
        if exc.why is Why.REDUCE_ONLY:
            return BadRequest(
                f"Order had execInst of [ReduceOnly] but current position is [{facts.get('position', 0)}]"
            )
        return BadRequest(_WORDS.get(exc.why, f"Invalid request: {exc.why}"))


def _source(ask: OrderAsk) -> TriggerSource:
    """Return the price that an order's trigger looks at."""
    return next((_SOURCES[name] for name in ask.exec_inst if name in _SOURCES), TriggerSource.LAST)
