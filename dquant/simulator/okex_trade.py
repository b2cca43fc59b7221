"""Trading at the simulated OKX: operations of websocket and REST in, answers with ``sCode`` out.

Stands between the venue's spelling (``okex_requests``, ``okex_orders``) and the engine (``exchange``): it
finds instruments, checks what the venue checks before its engine (price limits, batch sizes, expTime, rate
limits) and words what the engine refuses. What an operation does is told by the engine's events, which
``okex_private`` pushes. Written from the fact sheet, sections 8 and 10.

An order is known by ordId or clOrdId; one that was cancelled without a fill is forgotten two hours later.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dquant.constants import NS_PER_MS, NS_PER_S
from dquant.simulator.exchange import Exchange
from dquant.simulator.exchange_faults import PLAIN_ANSWER, AnswerPlan
from dquant.simulator.flow_book import ASK, BID
from dquant.simulator.okex_account import AccountSettings
from dquant.simulator.okex_dead_man import DeadManSwitches
from dquant.simulator.okex_errors import OkexError
from dquant.simulator.okex_instruments import Listing
from dquant.simulator.okex_limits import RateLimiter
from dquant.simulator.okex_markets import MarketsHost, OkexMarkets
from dquant.simulator.okex_orders import decimal_text, ord_id_text, order_id_of
from dquant.simulator.okex_requests import (
    Amendment,
    NewOrder,
    flag,
    named_order,
    parse_amend,
    parse_order,
    required,
    text,
)
from dquant.simulator.orders import (
    Kind,
    OrderRequest,
    OrderView,
    PosSide,
    Reason,
    Refused,
    SelfTrade,
    State,
    Why,
)
from dquant.simulator.units import ms_text

MOST_IN_BATCH = 20
MARGIN_MODES = ("cross", "isolated")
_MOST_AMENDMENTS = 3  # of one order in flight
_IN_FLIGHT_NS = NS_PER_MS  # real time; who waits for each answer never has four
_EIGHT_HOURS_NS, _DAY_NS = 8 * 3600 * NS_PER_S, 24 * 3600 * NS_PER_S
_MOST_PENDING = 500  # orders of an account in one instrument; the engine counts
FORGOTTEN_NS = 2 * 3600 * NS_PER_S

_KINDS = {
    "limit": Kind.LIMIT,
    "post_only": Kind.POST_ONLY,
    "fok": Kind.FOK,
    "ioc": Kind.IOC,
    "market": Kind.MARKET,
    "optimal_limit_ioc": Kind.MARKET,
}
_WORDS = {  # of what the engine refuses, where it always means the same
    Why.UNKNOWN_SYMBOL: "51001",
    Why.NOT_OPEN: "51022",
    Why.REDUCE_ONLY_MODE: "54012",
    Why.SIZE: "51005",
    Why.CLIENT_ID: "51016",
    Why.POSITION_SIZE: "51112",
    Why.NO_POSITION: "51169",
    Why.TOO_MANY_ORDERS: "51025",
    Why.LEVERAGE: "59102",
    Why.IN_USE: "59000",
    Why.NOTHING_TO_DO: "51500",
    Why.FAULT: "51149",
}

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class TradeOptions:
    """How trading differs from the usual.

    Args:
        processing_ms: What an order needs to the engine, for expTime alone: 50037 where it ends before.
        settling_ms: After funding, a daily settlement or a delivery new orders are refused so long.
        cancel_gap_ms: Between two cancels of a dead-man switch that fired; 0 cancels all at once.

    """

    processing_ms: int = 0
    cancel_gap_ms: int = 0
    settling_ms: int = 1_000


@dataclass(slots=True)
class Answer:
    """What an operation says: 0 all done, 1 none, 2 some; another code refused it as a whole."""

    rows: list[Row]
    code: str = "0"
    message: str = ""
    plan: AnswerPlan = PLAIN_ANSWER
    status: int = 200


@dataclass(frozen=True, slots=True)
class _Verb:
    """One operation: the limits it counts to, and how it does one element."""

    bucket: str
    is_batch: bool
    is_new: bool  # counts to the account's orders, takes expTime
    keys: tuple[str, ...] = field(default=())


_VERBS = {
    "order": _Verb("trade/order", False, True, ("tag",)),
    "batch-orders": _Verb("trade/batch-orders", True, True, ("tag",)),
    "cancel-order": _Verb("trade/cancel-order", False, False),
    "batch-cancel-orders": _Verb("trade/cancel-batch-orders", True, False),
    "amend-order": _Verb("trade/amend-order", False, True, ("reqId",)),
    "batch-amend-orders": _Verb("trade/amend-batch-orders", True, True, ("reqId",)),
}
OPERATIONS = frozenset(_VERBS)


class OkexDesk:
    """Orders of all accounts.

    Args:
        host: The venue.
        exchange: The engine.
        settings: How each account is set up.
        options: How trading differs from the usual.

    """

    def __init__(
        self,
        host: MarketsHost,
        exchange: Exchange,
        settings: dict[str, AccountSettings],
        options: TradeOptions | None = None,
    ) -> None:
        self.exchange, self.settings = exchange, settings
        self.markets = OkexMarkets(host, exchange)
        self.limiter = RateLimiter()
        # Amendments that fail after their ack, for the ``orders`` channel: (account, order, reqId, code).
        self.failed_amendments: list[tuple[OrderView, str, OkexError]] = []
        # Why the venue cancelled an order, where the engine does not know.
        self.cancel_sources: dict[tuple[str, int], str] = {}
        self._host = host
        self._options = options or TradeOptions()
        self._opened_ns = host.now_ns
        self._real_ns = 0  # when the operation at hand came
        self._asked_ns: int | None = None  # when the operation at hand came by websocket, real time
        self._amended_ns: dict[int, deque[int]] = {}
        self.switches = DeadManSwitches(host, exchange, self._options.cancel_gap_ms)
        self._do: dict[str, Callable[[str, Row, Listing], tuple[Row, AnswerPlan]]] = {
            "order": self._place,
            "batch-orders": self._place,
            "cancel-order": self._cancel,
            "batch-cancel-orders": self._cancel,
            "amend-order": self._amend,
            "batch-amend-orders": self._amend,
        }

    # Operations

    def operate(
        self,
        account: str,
        operation: str,
        args: list[Any],
        real_ns: int,
        *,
        by_code: bool,
        exp_time: Any = None,
    ) -> Answer:
        """Do one operation and answer every element.

        Raises:
            OkexError: It is refused as a whole.

        """
        verb = _VERBS[operation]
        self._host.count(operation)
        if (
            not args
            or not all(isinstance(arg, dict) for arg in args)
            or (not verb.is_batch and len(args) > 1)
        ):
            raise OkexError("60013" if by_code else "50002")
        if len(args) > MOST_IN_BATCH:
            raise OkexError("51501" if verb.keys == ("reqId",) else "51111", MOST_IN_BATCH)
        if verb.is_new:
            self._check_expiry(exp_time)
        self._check_limits(account, verb, args, real_ns, by_code=by_code)
        self._real_ns, self._asked_ns = real_ns, real_ns if by_code else None
        if verb.is_batch and verb.keys == ("reqId",):
            named = [(text(arg, "ordId"), text(arg, "clOrdId")) for arg in args]
            if len(set(named)) < len(named):
                raise OkexError("51512")
        rows, plan, done = [], PLAIN_ANSWER, 0
        for arg in args:
            row, one = self._one(account, operation, verb, arg, by_code=by_code)
            rows.append(row)
            done += row["sCode"] == "0"
            plan = one if one is not PLAIN_ANSWER else plan
        code = "0" if done == len(rows) else "2" if done else "1"
        return Answer(rows, code, plan=plan)

    def close_position(self, account: str, arg: Row) -> Row:
        """Close a whole position at the market.

        Raises:
            OkexError: 51023 without a position, 51115 with pending closing orders, and an order's own.

        """
        listing = self.markets.find_listing(arg, by_code=False)
        mode = required(arg, "mgnMode")
        if mode not in MARGIN_MODES or listing.inst_type == "SPOT":
            raise OkexError("51000", "mgnMode")
        is_isolated = mode == "isolated"
        settings = self.settings[account]
        pos_side = text(arg, "posSide") or ("net" if settings.pos_mode == "net_mode" else "")
        allowed = ("net",) if settings.pos_mode == "net_mode" else ("long", "short")
        if pos_side not in allowed:
            raise OkexError("51000", "posSide")
        side = PosSide(pos_side)
        position = self.exchange.position(account, listing.inst_id, side, is_isolated=is_isolated)
        if position is None or not position.lots:
            raise OkexError("51023")
        closing = ASK if position.lots > 0 else BID
        pending = [
            view
            for view in self.exchange.open_orders(account, listing.inst_id)
            if (view.pos_side, view.is_isolated) == (side, is_isolated)
            and view.side == closing
            and (view.reduce_only or side is not PosSide.NET)
        ]
        if pending and not flag(arg, "autoCxl"):
            raise OkexError("51115")
        for view in pending:
            self.exchange.cancel(account, view.order_id, Reason.POSITION_CLOSED)
        cl_ord_id, tag = text(arg, "clOrdId"), text(arg, "tag")
        highest, lowest = self.markets.limit_ticks(listing)
        note: Row = {
            "ordType": "market",
            "lever": self.lever(account, listing, side, is_isolated=is_isolated),
        }
        try:
            self.exchange.close_position(
                account,
                listing.inst_id,
                side,
                is_isolated=is_isolated,
                tick=lowest if closing == ASK else highest,
                client_id=cl_ord_id,
                note=note,
            )
        except Refused as exc:
            raise self._refusal(exc, listing) from exc
        return {"clOrdId": cl_ord_id, "instId": listing.inst_id, "posSide": pos_side, "tag": tag}

    def find_order(self, account: str, arg: Row) -> OrderView | None:
        """Return the order that ordId or clOrdId names; None for one that is not there any more.

        Raises:
            OkexError: 51003: neither is given.

        """
        ord_id, cl_ord_id = named_order(arg)
        if not ord_id:
            view = self.exchange.find(account, cl_ord_id)
        else:
            order_id = order_id_of(ord_id)
            try:
                view = None if order_id is None else self.exchange.order(account, order_id)
            except Refused:
                view = None
        return None if view is None or self.is_forgotten(view) else view

    def is_forgotten(self, view: OrderView) -> bool:
        """Return whether it was cancelled without a fill more than two hours ago."""
        return (
            view.state is State.CANCELLED
            and not view.filled
            and view.finished_ns is not None
            and self._host.now_ns - view.finished_ns >= FORGOTTEN_NS
        )

    def lever(
        self, account: str, listing: Listing, pos_side: PosSide = PosSide.NET, *, is_isolated: bool = False
    ) -> str:
        """Return the leverage of an instrument as orders show it."""
        if listing.inst_type == "SPOT":
            return ""
        lever = self.exchange.leverage(account, listing.inst_id, pos_side, is_isolated=is_isolated)
        return decimal_text(lever)

    def keep_limits(self) -> None:
        """Cancel resting orders that the moving price limit has left behind (cancelSource 15)."""
        for account in self.settings:
            for view in self.exchange.open_orders(account):
                listing = self._host.listings.get(view.symbol)
                if view.tick is None or listing is None or view.symbol not in self._host.feeds:
                    continue
                highest, lowest = self.markets.limit_ticks(listing)
                if view.tick > highest if view.side == BID else view.tick < lowest:
                    self.cancel_sources[account, view.order_id] = "15"
                    self.exchange.cancel(account, view.order_id)

    # Inside

    def _one(
        self, account: str, operation: str, verb: _Verb, arg: Row, *, by_code: bool
    ) -> tuple[Row, AnswerPlan]:
        try:
            if self._do[operation] == self._place and not by_code:
                self._check_ended(arg)
            return self._do[operation](account, arg, self.markets.find_listing(arg, by_code=by_code))
        except OkexError as exc:
            self._host.count(f"error_{exc.code}")
            given = {
                name: arg[name] if isinstance(arg.get(name), str) else ""
                for name in ("clOrdId", "ordId", *verb.keys)
            }
            if verb.keys == ("tag",):
                given["ordId"] = ""
            row = {**given, "ts": self._now_text(), "sCode": exc.code, "sMsg": exc.message}
            return (row | {"subCode": exc.sub_code} if verb.is_new else row), PLAIN_ANSWER

    def _place(self, account: str, arg: Row, listing: Listing) -> tuple[Row, AnswerPlan]:
        if self._host.faults.holds("maintenance", self._real_ns):
            raise OkexError("50001")
        settings = self.settings[account]
        new = parse_order(arg, listing, settings.pos_mode, settings.level)
        self._check_settling(listing)
        request = OrderRequest(
            symbol=listing.inst_id,
            side=new.side,
            lots=new.lots or self.markets.lots_for(new),
            kind=_KINDS[new.ord_type],
            tick=self.markets.checked_tick(listing, new.side, new.ticks, may_clamp=new.may_clamp),
            pos_side=PosSide(new.pos_side or "net"),
            reduce_only=new.is_reduce_only,
            is_isolated=new.is_isolated,
            client_id=new.cl_ord_id,
            tag=new.tag,
            self_trade=SelfTrade(new.stp_mode),
            note=self._note(listing, account, new),
        )
        if new.is_reduce_only:
            self._check_reduces(account, request)
        try:
            placed = self.exchange.place(account, request)
        except Refused as exc:
            raise self._refusal(exc, listing) from exc
        row = {
            "clOrdId": new.cl_ord_id,
            "ordId": ord_id_text(placed.order.order_id),
            "tag": new.tag,
            "ts": self._now_text(),
            "sCode": "0",
            "sMsg": "Order placed",
            "subCode": "",
        }
        return row, placed.answer

    def _cancel(self, account: str, arg: Row, listing: Listing) -> tuple[Row, AnswerPlan]:
        view = self.find_order(account, arg)
        if view is None or view.symbol != listing.inst_id or not view.is_open:
            raise OkexError("51400")
        fault = self._host.faults.take("cancel_late", listing.inst_id)
        if fault is not None:
            self.exchange.cancel_later(account, view.order_id, int(fault.delay_ms * NS_PER_MS))
        else:
            self.exchange.cancel(account, view.order_id)
        row = {"clOrdId": view.client_id, "ordId": ord_id_text(view.order_id), "ts": self._now_text()}
        return {**row, "sCode": "0", "sMsg": ""}, PLAIN_ANSWER

    def _amend(self, account: str, arg: Row, listing: Listing) -> tuple[Row, AnswerPlan]:
        change = parse_amend(arg, listing)
        view = self.find_order(account, arg)
        if view is None or view.symbol != listing.inst_id:
            raise OkexError("51603")
        if not view.is_open:
            raise OkexError("51503")
        if view.kind is Kind.MARKET:
            raise OkexError("51506")
        self._check_in_flight(view)
        tick = change.ticks
        if tick is not None:
            tick = self.markets.checked_tick(listing, view.side, tick, may_clamp=change.may_clamp)
        if not self._fails_late(account, view, change, tick):
            try:
                self.exchange.amend(
                    account, view.order_id, lots=change.lots, tick=tick, request_id=change.req_id
                )
            except Refused as exc:
                raise self._amend_refusal(exc, listing) from exc
        row = {
            "clOrdId": view.client_id,
            "ordId": ord_id_text(view.order_id),
            "ts": self._now_text(),
            "reqId": change.req_id,
            "sCode": "0",
            "sMsg": "",
            "subCode": "",
        }
        return row, PLAIN_ANSWER

    def _fails_late(self, account: str, view: OrderView, change: Amendment, tick: int | None) -> bool:
        """A post-only order that would take at its new price: acked, and refused by a push (section 9.1)."""
        if tick is None or view.kind is not Kind.POST_ONLY:
            return False
        book = self._host.feeds[view.symbol].market.book
        other = book.best_ask if view.side == BID else book.best_bid
        if other is None or (tick < other if view.side == BID else tick > other):
            return False
        if change.cancels_on_failure:
            view = self.exchange.cancel(account, view.order_id)
        self.failed_amendments.append((view, change.req_id, OkexError("51511")))
        return True

    def _check_expiry(self, exp_time: Any) -> None:
        if exp_time in (None, ""):
            return
        given = str(exp_time)
        if not (given.isascii() and given.isdecimal()) or len(given) > 15:
            raise OkexError("51000", "expTime")
        left_ns = int(given) * NS_PER_MS - self._host.now_ns
        if left_ns <= 0:
            raise OkexError("50036")
        if left_ns <= self._options.processing_ms * NS_PER_MS:
            raise OkexError("50037")

    def _check_ended(self, arg: Row) -> None:
        """Refuse an order in a contract that is over.

        Raises:
            OkexError: 51028 while it is delivered, 51027.

        """
        inst_id = arg.get("instId")
        rows = self.markets.rows(inst_id) if isinstance(inst_id, str) else None
        if rows is None or inst_id in self._host.listings or rows.listing.expiry_ns is None:
            return
        raise OkexError("51028" if self._is_settling(rows.listing.expiry_ns) else "51027")

    def _check_settling(self, listing: Listing) -> None:
        """Refuse an order while profits or funding are being paid.

        Raises:
            OkexError: 51029 or 51030.

        """
        funding = self._host.feeds[listing.inst_id].market.funding
        if funding is not None and self._is_settling(funding.prev_time):
            raise OkexError("51030")
        now_ns = self._host.now_ns
        settled_ns = now_ns - (now_ns - _EIGHT_HOURS_NS) % _DAY_NS
        if listing.row["futureSettlement"] and self._is_settling(settled_ns):
            raise OkexError("51029")

    def _is_settling(self, at_ns: int) -> bool:
        """Return whether something that fell due then, since the venue opened, is being done."""
        is_ours = at_ns > self._opened_ns
        return is_ours and 0 <= self._host.now_ns - at_ns < self._options.settling_ms * NS_PER_MS

    def _check_in_flight(self, view: OrderView) -> None:
        """Refuse a fourth amendment that comes before the first can have been done.

        Raises:
            OkexError: 51513.

        """
        now_ns = self._asked_ns
        if now_ns is None:
            return
        if len(self._amended_ns) > MOST_IN_BATCH:
            self._amended_ns = {
                number: times
                for number, times in self._amended_ns.items()
                if times[-1] > now_ns - _IN_FLIGHT_NS
            }
        times = self._amended_ns.setdefault(view.order_id, deque(maxlen=_MOST_AMENDMENTS))
        if len(times) == _MOST_AMENDMENTS and times[0] > now_ns - _IN_FLIGHT_NS:
            raise OkexError("51513")
        times.append(now_ns)

    def _check_limits(
        self, account: str, verb: _Verb, args: list[Row], real_ns: int, *, by_code: bool
    ) -> None:
        # A batch of one counts as a single order.
        bucket = verb.bucket
        if verb.is_batch and len(args) == 1:
            bucket = {
                "trade/batch-orders": "trade/order",
                "trade/cancel-batch-orders": "trade/cancel-order",
            }.get(bucket, "trade/amend-order")
        orders = 0
        for arg in args:
            try:
                listing = self.markets.find_listing(arg, by_code=by_code)
            except OkexError:  # what is no instrument is refused later, and counted until then
                name, is_spot = str(arg.get("instIdCode" if by_code else "instId"))[:40], False
            else:
                # REST names an instrument, a websocket its code: both count together (section 8.4).
                name, is_spot = listing.inst_id, listing.inst_type == "SPOT"
            if self.limiter.is_too_much(bucket, f"{account}/{name}", real_ns):
                raise OkexError("50011")
            orders += not is_spot
        if verb.is_new and orders and self.limiter.is_too_many_orders(account, real_ns, orders):
            raise OkexError("50061")

    def _check_reduces(self, account: str, request: OrderRequest) -> None:
        """Refuse a reduce-only order that does not reduce, as a whole.

        Raises:
            OkexError: 51169, 51170 or 51112.

        """
        position = self.exchange.position(
            account, request.symbol, request.pos_side, is_isolated=request.is_isolated
        )
        held = 0 if position is None else position.lots
        if not held:
            raise OkexError("51169")
        if (held > 0) == (request.side == BID):
            raise OkexError("51170")
        if request.lots > abs(held):
            raise OkexError("51112")

    def _note(self, listing: Listing, account: str, new: NewOrder) -> dict[str, object]:
        """Return what the venue wants back with every picture of an order."""
        side = PosSide(new.pos_side or "net")
        return {
            "ordType": new.ord_type,
            "tdMode": new.td_mode,
            "lever": self.lever(account, listing, side, is_isolated=new.is_isolated),
            "tgtCcy": new.tgt_ccy,
            "ccy": new.ccy,
            "sz": new.size,
        }

    def _refusal(self, exc: Refused, listing: Listing) -> OkexError:
        """Return the engine's refusal in the venue's words."""
        if exc.why is Why.MARGIN:
            coin = str(exc.facts.get("coin", listing.row["settleCcy"] or listing.row["quoteCcy"]))
            if listing.inst_type == "SPOT":
                words = f"Order failed. Insufficient {coin} balance in account"
                return OkexError("51008", message=words, sub_code="1000")
            return OkexError("51008", coin, sub_code="1001")
        if exc.why is Why.REDUCE_ONLY:
            return OkexError("51170" if exc.facts.get("position") else "51169")
        if exc.why is Why.TOO_MANY_ORDERS and exc.facts.get("limit") == _MOST_PENDING:
            return OkexError("51102", _MOST_PENDING)
        if exc.why in (Why.PRICE, Why.POSITION_SIDE):
            return OkexError("51000", "px" if exc.why is Why.PRICE else "posSide")
        return OkexError(_WORDS.get(exc.why, "51149"))

    def _amend_refusal(self, exc: Refused, listing: Listing) -> OkexError:
        if exc.why is Why.MARGIN:
            return OkexError("51502", sub_code="1030")
        if exc.why is Why.FINISHED:
            return OkexError("51503")
        if exc.why is Why.UNKNOWN_ORDER:
            return OkexError("51603")
        return self._refusal(exc, listing)

    def _now_text(self) -> str:
        return ms_text(self._host.now_ns)
