"""REST of the simulated BitMEX: who asks and how often, the public routes, error bodies.

Requests go in, answers go out; the rows are those that the websocket tables keep. What an account asks for
is answered by ``bitmex_trade_rest`` and ``bitmex_account_rest``. Written from the BitMEX fact sheet, sections
4, 5.1, 5.5, 5.6 and 5.8. A 429 counts against nobody; bans after many errors are not simulated.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from dquant.constants import NS_PER_MS
from dquant.simulator import bitmex_bins as bins
from dquant.simulator import bitmex_tables as tables
from dquant.simulator.bars import Bar
from dquant.simulator.bitmex_account import BitmexAccount
from dquant.simulator.bitmex_account_rest import AccountRest
from dquant.simulator.bitmex_assets import ASSETS
from dquant.simulator.bitmex_auth import AuthRefused, credentials_in
from dquant.simulator.bitmex_connection import HELP
from dquant.simulator.bitmex_limits import ACCOUNT_PER_MINUTE, SECOND_LAYER_PER_S, Budget
from dquant.simulator.bitmex_lists import MAX_COUNT, MAX_COUNT_PRINTS, list_rows, whole
from dquant.simulator.bitmex_market import BitmexMarket
from dquant.simulator.bitmex_params import BadRequest, Params
from dquant.simulator.bitmex_tables import Row
from dquant.simulator.bitmex_trade_rest import TradeRest
from dquant.simulator.venue import RestAnswer, RestRequest

if TYPE_CHECKING:
    from dquant.simulator.bitmex_server import BitmexServer

PREFIX = "/api/v1"
LOST_STATUS = 502  # never seen: the connection is cut


class BitmexRest:
    """Routes and the rate limit of one venue."""

    def __init__(self, venue: "BitmexServer", per_minute: int) -> None:
        self._venue = venue
        self._per_minute = per_minute
        self._stranger = Budget(per_minute, SECOND_LAYER_PER_S)
        self._budgets: dict[int, Budget] = {}  # by account
        trade = TradeRest(venue)
        self._private = trade.routes | AccountRest(venue, trade).routes
        self._routes: dict[str, Callable[[Mapping[str, str]], Any]] = {
            "": lambda _query: self._about(),
            "/": lambda _query: self._about(),
            "/instrument": lambda query: self.list_rows(self._instruments(everything=True), query),
            "/instrument/active": lambda _query: self._instruments(),
            "/instrument/indices": lambda _query: list(venue.indices.rows.values()),
            "/instrument/activeAndIndices": lambda _query: [
                *self._instruments(),
                *venue.indices.rows.values(),
            ],
            "/instrument/activeIntervals": lambda _query: self._intervals(),
            "/orderBook/L2": self._book,
            "/trade": lambda query: self._prints("trades", query, *venue.indices.prints.values()),
            "/trade/bucketed": lambda query: self._buckets(query, BitmexMarket.bucket, venue.indices.buckets),
            "/quote": lambda query: self._prints("quotes", query),
            "/quote/bucketed": lambda query: self._buckets(query, BitmexMarket.quote_bucket),
            "/funding": lambda query: self.list_rows(self._merged("fundings"), query),
            "/settlement": lambda query: self.list_rows(venue.settlements, query),
            "/liquidation": lambda query: self.list_rows([], query),
            "/wallet/assets": lambda _query: list(ASSETS),
            "/schema/websocketHelp": lambda _query: HELP,
            **venue.platform.routes,
        }

    @staticmethod
    def error_body(message: str, name: str = "HTTPError", details: str | None = None) -> Row:
        """Return the body of every error."""
        error = {"message": message, "name": name}
        return {"error": error if details is None else {**error, "details": details}}

    def overloaded(self) -> RestAnswer:
        """Return what a venue under load shedding says; the connection is gone afterwards."""
        message = "The system is currently overloaded. Please try again later."
        return self._say(503, self.error_body(message), {"connection": "close"})

    def answer(self, request: RestRequest, now_ns: int, real_ns: int) -> RestAnswer:
        """Answer one request: first who asks, then whether too often, then what."""
        route = _route(request)
        try:
            account = self._who(request)
        except AuthRefused as exc:
            headers, _wait = self._stranger.spend(route, now_ns, real_ns)
            return self._say(exc.status, self.error_body(exc.message), headers)
        headers, wait_s = self._spend(route, account, now_ns, real_ns)
        if wait_s is not None:
            message = f"Rate limit exceeded, retry in {wait_s} seconds."
            return self._say(429, self.error_body(message, "RateLimitError"), headers)
        try:
            return self._serve(request, route, account, headers)
        except BadRequest as exc:
            return self._say(exc.status, self.error_body(exc.message, exc.name, exc.details), headers)
        except AuthRefused as exc:
            return self._say(exc.status, self.error_body(exc.message), headers)

    def count(self, request: RestRequest, now_ns: int, real_ns: int) -> Mapping[str, str]:
        """Count a request that is shed (section 5.7); return the headers that tell of the limits."""
        try:
            account = self._who(request)
        except AuthRefused:
            account = None
        return self._spend(_route(request), account, now_ns, real_ns)[0]

    def _spend(
        self, route: tuple[str, str], account: BitmexAccount | None, now_ns: int, real_ns: int
    ) -> tuple[Mapping[str, str], int | None]:
        budget = self._stranger if account is None else self._budget(account.number)
        return budget.spend(route, now_ns, real_ns)

    def _budget(self, account: int) -> Budget:
        per_minute = max(ACCOUNT_PER_MINUTE, self._per_minute)
        # Who raises the minute for a test or a bot of his own does not want to be held by the second.
        per_second = max(SECOND_LAYER_PER_S, self._per_minute // 12)
        return self._budgets.setdefault(account, Budget(per_minute, per_second))

    def _who(self, request: RestRequest) -> BitmexAccount | None:
        credentials = credentials_in(request.headers)
        if credentials is None:
            return None
        side = self._venue.private
        target = request.target or request.path
        key = side.keys.check(credentials, request.method, target, request.body, self._venue.clock_s())
        route = request.path.removeprefix(PREFIX)
        if request.method != "GET" and route.startswith(("/order", "/position")):
            is_cancel = request.method == "DELETE" or route == "/order/cancelAllAfter"
            if not ("order" in key.permissions or (is_cancel and "orderCancel" in key.permissions)):
                raise AuthRefused(403, "Access Denied")
        return side.accounts[key.account]

    def _serve(
        self,
        request: RestRequest,
        route: tuple[str, str],
        account: BitmexAccount | None,
        headers: Mapping[str, str],
    ) -> RestAnswer:
        serve = self._routes.get(route[1]) if request.method == "GET" else None
        if serve is not None:
            return self._say(200, serve(request.query), headers)
        handler = self._private.get(route)
        if handler is None:
            return self._say(404, self.error_body("Not Found"), headers)
        if account is None:
            return self._say(401, self.error_body("Authorization Required"), headers)
        self._venue.private.catch_up(account, self._venue.now_ns)
        reply = handler(Params.of(request), account)
        text = tables.encode(_sorted(reply.body)).encode()
        if reply.plan.lost:
            return RestAnswer(LOST_STATUS, b"", is_lost=True)
        return RestAnswer(200, text, headers, delay_ns=reply.plan.delay_ns)

    def _say(self, status: int, body: Any, headers: Mapping[str, str]) -> RestAnswer:
        text = body if isinstance(body, str) else tables.encode(body)
        return RestAnswer(status, text.encode(), headers)

    def list_rows(
        self,
        rows: Iterable[Row],
        query: Mapping[str, str],
        most: int = MAX_COUNT,
        *,
        keys: tuple[str, ...] = (),
        wanted: Mapping[str, Any] | None = None,
    ) -> list[Row]:
        """Return the rows that a query asks for, as ``bitmex_lists`` reads it.

        Raises:
            BadRequest: A parameter makes no sense.

        """
        return list_rows(rows, query, self._is_of, most, keys, wanted)

    # Rows

    def _about(self) -> Row:
        """Return the API's own page: clients read the clock from it."""
        return {"name": "BitMEX API", "version": "2.0.0", "timestamp": self._venue.now_ns // NS_PER_MS}

    def _instruments(self, everything: bool = False) -> list[Row]:
        # Recorded answers carry one field more than the feed, and keep two as null (section 3.3).
        more: Row = {"limitDownPrice": None, "limitUpPrice": None, "capped": False}
        rows = [{**market.row, **more} for market in self._venue.markets.values()]
        if everything:
            rows += [*self._venue.gone.values(), *self._venue.indices.rows.values()]
        return rows

    def _intervals(self) -> Row:
        names: list[tuple[str, str]] = []
        for market in self._venue.markets.values():
            contract = market.contract
            kind = "perpetual" if contract.expiry is None else "quarterly"
            root = contract.symbol if contract.payoff == "linear" else contract.fixed["rootSymbol"]
            names.append((f"{root}:{kind}", contract.symbol))
        return {"intervals": [name for name, _ in names], "symbols": [symbol for _, symbol in names]}

    def _book(self, query: Mapping[str, str]) -> str:
        symbol = query.get("symbol")
        if not symbol:
            raise BadRequest("'symbol' is a required arg.")
        depth = whole(query, "depth", 25, 1_000_000)
        market = self._venue.markets.get(symbol)
        rows = [] if market is None else market.book.image(self._venue.now_ns, depth)
        return f"[{','.join(rows)}]"

    def _merged(self, what: str, *more: Iterable[Row]) -> list[Row]:
        lists = [*(getattr(market, what) for market in self._venue.markets.values()), *more]
        rows = [row for some in lists for row in some]
        return sorted(rows, key=lambda row: str(row["timestamp"]))

    def _prints(self, what: str, query: Mapping[str, str], *more: Iterable[Row]) -> list[Row]:
        return self.list_rows(self._merged(what, *more), query, MAX_COUNT_PRINTS)

    def _buckets(
        self,
        query: Mapping[str, str],
        read: Callable[[BitmexMarket, Bar, int], Row],
        of_index: Callable[[str, int, int], list[Row]] | None = None,
    ) -> list[Row]:
        """Return bars, stamped with their ends; those of an index where it is asked for by its name."""
        size_ns = bins.BINS.get(query.get("binSize") or "1m")
        if size_ns is None:
            raise BadRequest("'binSize' must be one of 1m, 5m, 1h, 1d.", "ValidationError")
        now, is_partial = self._venue.now_ns, query.get("partial", "").lower() in ("true", "1")
        if of_index is not None and (symbol := query.get("symbol", "")) in self._venue.indices.rows:
            bars = of_index(symbol, size_ns, now)
            return self.list_rows(bars if is_partial else bars[:-1], query, MAX_COUNT_PRINTS)
        rows = [
            read(market, bar, bar.start + size_ns)
            for market in self._venue.markets.values()
            if self._is_of(market.symbol, query.get("symbol") or market.symbol)
            for bar in bins.bars(market, size_ns, now)
            if is_partial or bar.start + size_ns <= now
        ]
        return self.list_rows(sorted(rows, key=lambda row: str(row["timestamp"])), query, MAX_COUNT_PRINTS)

    def _is_of(self, symbol: str, asked: str) -> bool:
        """Return whether a symbol is the one asked for, or of that root or series (``XBT:quarterly``)."""
        if symbol == asked:
            return True
        root, _, series = asked.partition(":")
        market = self._venue.markets.get(symbol)
        if market is None or market.contract.fixed["rootSymbol"] != root:
            return False
        return series in ("", "perpetual" if market.contract.expiry is None else "quarterly")


def _route(request: RestRequest) -> tuple[str, str]:
    """Return method and path below ``/api/v1``."""
    is_ours = request.path == PREFIX or request.path.startswith(f"{PREFIX}/")
    return request.method, request.path.removeprefix(PREFIX) if is_ours else "nowhere"


def _sorted(body: Any) -> Any:
    """Return rows with their columns in the order of the alphabet, as the new backend answers."""
    if isinstance(body, list):
        return [_sorted(row) for row in body]
    return dict(sorted(body.items())) if isinstance(body, dict) else body
