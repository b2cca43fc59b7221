"""Private REST of the simulated OKX: trade and account endpoints, path and body in, status and body out.

In: a signed request (``okex_login`` has said whose), virtual and real time. Out: the venue's envelope.
Written from the fact sheet, sections 8.1, 8.4 and 10. Queries of orders and fills page by ``after`` (older
than) and ``before`` (newer than) an id, newest first.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dquant.constants import NS_PER_MS
from dquant.simulator.exchange_events import Fill
from dquant.simulator.json_text import json_text
from dquant.simulator.okex_account_rest import AccountRest
from dquant.simulator.okex_errors import OkexError
from dquant.simulator.okex_messages import dump
from dquant.simulator.okex_orders import order_id_of
from dquant.simulator.okex_private import OkexPrivate
from dquant.simulator.okex_query import Query, given, needed, number, one_of, page
from dquant.simulator.okex_trade import Answer, OkexDesk
from dquant.simulator.orders import OrderView, Refused
from dquant.simulator.units import ms_text
from dquant.simulator.venue import RestAnswer, RestRequest

INST_TYPES = ("SPOT", "MARGIN", "SWAP", "FUTURES", "OPTION")
_DAY_NS = 86_400_000 * NS_PER_MS
_WORK_US = 900
_OPERATIONS = {
    "trade/order": "order",
    "trade/batch-orders": "batch-orders",
    "trade/cancel-order": "cancel-order",
    "trade/cancel-batch-orders": "batch-cancel-orders",
    "trade/amend-order": "amend-order",
    "trade/amend-batch-orders": "batch-amend-orders",
}
_BATCHES = ("trade/batch-orders", "trade/cancel-batch-orders", "trade/amend-batch-orders")
PREFIXES = ("trade/", "account/", "asset/")

Rows = list[Any]
Endpoint = Callable[[str, Query], Rows]

_decode = json.JSONDecoder().decode


class OkexPrivateRest:
    """The endpoints that need a key.

    Args:
        desk: Trading.
        private: The private channels, which know bills and the pictures of positions.
        instruments: Answers ``public/instruments``, whose private twin is the same.

    """

    def __init__(self, desk: OkexDesk, private: OkexPrivate, instruments: Callable[[Query], Rows]) -> None:
        self._desk, self._exchange = desk, desk.exchange
        self._markets = desk.markets
        account = AccountRest(desk, private)
        self._get: dict[str, Endpoint] = {
            "trade/order": self._order,
            "trade/orders-pending": self._pending,
            "trade/orders-history": lambda name, query: self._history(name, query, 7),
            "trade/orders-history-archive": lambda name, query: self._history(name, query, 90),
            "trade/fills": lambda name, query: self._fills(name, query, 3),
            "trade/fills-history": lambda name, query: self._fills(name, query, 90),
            "trade/account-rate-limit": self._rate_limit,
            # Algo orders cannot be placed here, so that there are none.
            "trade/orders-algo-pending": lambda _name, query: self._no_algos(query),
            "trade/orders-algo-history": lambda _name, query: self._no_algos(query),
            "account/instruments": lambda _name, query: instruments(query),
            **account.get,
        }
        self._post: dict[str, Callable[[str, dict[str, Any]], Rows]] = {
            "trade/close-position": lambda name, body: [desk.close_position(name, body)],
            "trade/cancel-all-after": lambda name, body: [desk.switches.wind(name, body)],
            "trade/mass-cancel": self._mass_cancel,
            **account.post,
        }

    def answer(self, account: str, request: RestRequest, now_ns: int, real_ns: int) -> RestAnswer:
        """Answer a request of this account.

        Raises:
            OkexError: It is refused as a whole.

        """
        path = request.path.removeprefix("/api/v5/")
        if request.method == "GET":
            endpoint = self._get.get(path)
            if endpoint is None:
                raise OkexError("50115" if path in (*self._post, *_OPERATIONS) else "404")
            bucket = "trade/order?" if path == "trade/order" else path
            self._count(bucket, account, request.query.get("instId", ""), real_ns)
            return _enveloped(endpoint(account, request.query))
        if request.method != "POST":
            raise OkexError("50115")
        if path in _OPERATIONS:
            body = _body(request.body)
            return self._operate(account, path, body, request.headers, now_ns, real_ns)
        action = self._post.get(path)
        if action is None:
            raise OkexError("50115" if path in self._get else "404")
        body = _body(request.body)
        if not isinstance(body, dict):
            raise OkexError("50002")
        key = str(body.get("tag" if path == "trade/cancel-all-after" else "instId", ""))
        self._count(path, account, key, real_ns)
        return _enveloped(action(account, body))

    # Trading

    def _operate(
        self, account: str, path: str, body: Any, headers: Mapping[str, str], now_ns: int, real_ns: int
    ) -> RestAnswer:
        is_batch = path in _BATCHES
        if isinstance(body, list) is not is_batch:
            raise OkexError("50002")
        args = body if is_batch else [body]
        answer = self._desk.operate(
            account, _OPERATIONS[path], args, real_ns, by_code=False, exp_time=headers.get("exptime")
        )
        message = {"1": "All operations failed" if is_batch else "Operation failed."}.get(answer.code, "")
        if answer.code == "2":
            message = "Bulk operation partially succeeded."
        return _operated(answer, message, now_ns)

    def _mass_cancel(self, account: str, body: dict[str, Any]) -> Rows:
        del account
        if body.get("instType") != "OPTION":
            raise OkexError("51000", "instType")
        raise OkexError("51411")

    # Queries

    def _order(self, account: str, query: Query) -> Rows:
        listing = self._markets.find_listing(dict(query), by_code=False)
        view = self._desk.find_order(account, dict(query))
        if view is None or view.symbol != listing.inst_id:
            raise OkexError("51603")
        return self._rows([view], self._last_fills(account, {view.order_id}))

    def _pending(self, account: str, query: Query) -> Rows:
        self._markets.check_fits(query)
        views = [view for view in self._exchange.open_orders(account) if self._matches(view, query)]
        return self._page(account, views, query)

    def _history(self, account: str, query: Query, days: int) -> Rows:
        one_of(query, "instType", INST_TYPES)
        self._markets.check_fits(query)
        since_ns = self._markets.now_ns - days * _DAY_NS
        views = [
            view
            for view in self._exchange.finished_orders(account)
            if not self._desk.is_forgotten(view)
            and view.updated_ns >= since_ns
            and self._matches(view, query)
            and _is_within(view.created_ns, query)
        ]
        return self._page(account, views, query)

    def _page(self, account: str, views: list[OrderView], query: Query) -> Rows:
        views.sort(key=lambda view: view.order_id, reverse=True)
        chosen = page(views, query, lambda view: view.order_id, order_id_of)
        return self._rows(chosen, self._last_fills(account, {view.order_id for view in chosen}))

    def _matches(self, view: OrderView, query: Query) -> bool:
        rows = self._markets.rows(view.symbol)
        if rows is None:
            return False
        listing = rows.listing
        row = rows.rest_row(view, None)
        return (
            query.get("instType", "") in ("", listing.inst_type)
            and query.get("instFamily", "") in ("", listing.family)
            and query.get("uly", "") in ("", listing.underlying)
            and query.get("instId", "") in ("", listing.inst_id)
            and query.get("state", "") in ("", row["state"])
            and query.get("category", "") in ("", row["category"])
            and (not query.get("ordType") or row["ordType"] in query["ordType"].split(","))
        )

    def _rows(self, views: Iterable[OrderView], fills: Mapping[int, Fill]) -> Rows:
        found = []
        for view in views:
            rows = self._markets.rows(view.symbol)
            if rows is not None:
                source = self._desk.cancel_sources.get((view.account, view.order_id), "")
                found.append(rows.rest_row(view, fills.get(view.order_id), source))
        return found

    def _last_fills(self, account: str, order_ids: set[int]) -> dict[int, Fill]:
        fills: dict[int, Fill] = {}
        for fill in reversed(self._exchange.fills(account)):
            if len(fills) == len(order_ids):
                break
            if fill.order_id in order_ids:
                fills.setdefault(fill.order_id, fill)
        return fills

    def _fills(self, account: str, query: Query, days: int) -> Rows:
        since_ns = self._markets.now_ns - days * _DAY_NS
        order_id = order_id_of(query["ordId"]) if query.get("ordId") else None
        if query.get("instType"):
            one_of(query, "instType", INST_TYPES)
        self._markets.check_fits(query)
        found = []
        for fill in reversed(self._exchange.fills(account)):
            rows = self._markets.rows(fill.symbol)
            if rows is None or fill.ts < since_ns or not _is_within(fill.ts, query):
                continue
            listing = rows.listing
            if (
                query.get("instType", "") in ("", listing.inst_type)
                and query.get("instId", "") in ("", listing.inst_id)
                and query.get("instFamily", "") in ("", listing.family)
                and (not query.get("ordId") or fill.order_id == order_id)
            ):
                found.append(rows.fill_row(fill, self._known(account, fill.order_id)))
        if query.get("subType"):
            found = [row for row in found if row["subType"] == query["subType"]]
        return page(found, query, lambda row: int(row["billId"]), lambda text: int(number(text, "billId")))

    @staticmethod
    def _no_algos(query: Query) -> Rows:
        needed(query, "ordType")
        return []

    def _known(self, account: str, order_id: int) -> OrderView | None:
        """Return an order; None where it is forgotten."""
        try:
            return self._exchange.order(account, order_id)
        except Refused:
            return None

    def _rate_limit(self, account: str, query: Query) -> Rows:
        del account, query
        return [
            {
                "accRateLimit": "1000",
                "fillRatio": "",
                "mainFillRatio": "",
                "nextAccRateLimit": "1000",
                "ts": ms_text(self._markets.now_ns),
            }
        ]

    def _count(self, bucket: str, account: str, key: str, real_ns: int) -> None:
        if self._desk.limiter.is_too_much(bucket, f"{account}/{key[:40]}", real_ns):
            raise OkexError("50011")


def _body(body: bytes) -> Any:
    if not body:
        raise OkexError("50000")
    try:
        return _decode(body.decode())
    except (ValueError, RecursionError):
        raise OkexError("50002") from None


def _is_within(ts: int, query: Query) -> bool:
    begin, end = (given(query, name) for name in ("begin", "end"))
    ms = ts // NS_PER_MS
    return (not begin or ms >= int(number(begin, "begin"))) and (not end or ms <= int(number(end, "end")))


def _enveloped(rows: Rows) -> RestAnswer:
    return RestAnswer(200, dump({"code": "0", "data": rows, "msg": ""}).encode())


def _operated(answer: Answer, message: str, now_ns: int) -> RestAnswer:
    in_us = now_ns // 1_000
    frame = {
        "code": answer.code,
        "data": answer.rows,
        "inTime": str(in_us),
        "msg": answer.message or message,
        "outTime": str(in_us + _WORK_US),
    }
    return RestAnswer(
        answer.status, json_text(frame).encode(), is_lost=answer.plan.lost, delay_ns=answer.plan.delay_ns
    )
