"""Public REST of the simulated BitMEX: list parameters, rate-limit headers, error bodies.

Requests go in, answers go out; the rows are those that the websocket tables keep. Written from the
BitMEX fact sheet, sections 5.1, 5.5, 5.6 and 5.8: 30 requests a minute for strangers, as a bucket that
is refilled continuously (on real time, or a stopped clock would never refill it).
"""

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dquant.constants import NS_PER_S
from dquant.simulator import bitmex_tables as tables
from dquant.simulator.bars import MINUTE_NS
from dquant.simulator.bitmex_assets import ASSETS
from dquant.simulator.bitmex_connection import HELP
from dquant.simulator.bitmex_tables import Row
from dquant.simulator.venue import RestAnswer, RestRequest

if TYPE_CHECKING:
    from dquant.simulator.bitmex_server import BitmexServer

PREFIX = "/api/v1"
COUNT, MAX_COUNT, MAX_COUNT_PRINTS = 100, 500, 1000
BIN_SIZES = {"1m": MINUTE_NS, "5m": 5 * MINUTE_NS, "1h": 60 * MINUTE_NS, "1d": 1440 * MINUTE_NS}
PRIVATE_ROUTES = ("/order", "/position", "/user", "/execution", "/wallet", "/apiKey")


class BadRequest(Exception):
    """The request cannot be served; the message is the venue's."""

    def __init__(self, message: str, name: str = "HTTPError") -> None:
        super().__init__(message)
        self.message, self.name = message, name


class BitmexRest:
    """Routes and the rate limit of one venue."""

    def __init__(self, venue: "BitmexServer", per_minute: int) -> None:
        self._venue = venue
        self._limit, self._tokens, self._filled_ns = per_minute, float(per_minute), 0
        self._routes: dict[str, Callable[[Mapping[str, str]], Any]] = {
            "/instrument": lambda query: self._list(self._instruments(everything=True), query),
            "/instrument/active": lambda _query: self._instruments(),
            "/instrument/indices": lambda _query: list(venue.indices.values()),
            "/instrument/activeAndIndices": lambda _query: [*self._instruments(), *venue.indices.values()],
            "/instrument/activeIntervals": lambda _query: self._intervals(),
            "/orderBook/L2": self._book,
            "/trade": lambda query: self._prints("trades", query),
            "/trade/bucketed": self._buckets,
            "/quote": lambda query: self._prints("quotes", query),
            "/funding": lambda query: self._list(self._merged("fundings"), query),
            "/settlement": lambda query: self._list(venue.settlements, query),
            "/liquidation": lambda query: self._list([], query),
            "/wallet/assets": lambda _query: list(ASSETS),
            "/schema/websocketHelp": lambda _query: HELP,
        }

    @staticmethod
    def error_body(message: str, name: str = "HTTPError") -> Row:
        """Return the body of every error."""
        return {"error": {"message": message, "name": name}}

    def overloaded(self) -> RestAnswer:
        """Return what a venue under load shedding says; the connection is gone afterwards."""
        message = "The system is currently overloaded. Please try again later."
        return self._say(503, self.error_body(message), {"connection": "close"})

    def answer(self, request: RestRequest, now_ns: int, real_ns: int) -> RestAnswer:
        """Answer one request."""
        self._tokens += max(0, real_ns - self._filled_ns) * self._limit / MINUTE_NS
        self._tokens = min(self._tokens, float(self._limit))
        self._filled_ns = max(real_ns, self._filled_ns)
        headers = {"x-ratelimit-limit": str(self._limit)}
        if self._tokens < 1:
            headers |= {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(now_ns // NS_PER_S + 1)}
            headers["Retry-After"] = "1"
            body = self.error_body("Rate limit exceeded, retry in 1 seconds.", "RateLimitError")
            return self._say(429, body, headers)
        self._tokens -= 1
        headers["x-ratelimit-remaining"] = str(int(self._tokens))
        headers["x-ratelimit-reset"] = str(now_ns // NS_PER_S + 1)
        status, body = self._serve(request)
        return self._say(status, body, headers)

    def _say(self, status: int, body: Any, headers: Mapping[str, str]) -> RestAnswer:
        text = body if isinstance(body, str) else tables.encode(body)
        return RestAnswer(status, text.encode(), headers)

    def _serve(self, request: RestRequest) -> tuple[int, Any]:
        route = request.path.removeprefix(PREFIX)
        if any(header.lower() == "api-key" for header in request.headers):
            return 401, self.error_body("Invalid API Key.")
        serve = self._routes.get(route)
        if serve is None and any(
            route == private or route.startswith(f"{private}/") for private in PRIVATE_ROUTES
        ):
            return 401, self.error_body("Authorization Required")
        if serve is None or request.method != "GET" or not request.path.startswith(PREFIX):
            return 404, self.error_body("Not Found")
        try:
            return 200, serve(request.query)
        except BadRequest as exc:
            return 400, self.error_body(exc.message, exc.name)

    # Rows

    def _instruments(self, everything: bool = False) -> list[Row]:
        # Recorded answers carry one field more than the feed, and keep two as null (section 3.3).
        more: Row = {"limitDownPrice": None, "limitUpPrice": None, "capped": False}
        rows = [{**market.row, **more} for market in self._venue.markets.values()]
        if everything:
            rows += [*self._venue.gone.values(), *self._venue.indices.values()]
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
        depth = self._whole(query, "depth", 25, 1_000_000)
        market = self._venue.markets.get(symbol)
        rows = [] if market is None else market.book.image(self._venue.now_ns, depth)
        return f"[{','.join(rows)}]"

    def _merged(self, what: str) -> list[Row]:
        rows = [row for market in self._venue.markets.values() for row in getattr(market, what)]
        return sorted(rows, key=lambda row: str(row["timestamp"]))

    def _prints(self, what: str, query: Mapping[str, str]) -> list[Row]:
        return self._list(self._merged(what), query, MAX_COUNT_PRINTS)

    def _buckets(self, query: Mapping[str, str]) -> list[Row]:
        """Return bars, stamped with their ends; a day's only when a whole one is kept."""
        size_ns = BIN_SIZES.get(query.get("binSize") or "1m")
        if size_ns is None:
            raise BadRequest("'binSize' must be one of 1m, 5m, 1h, 1d.", "ValidationError")
        now, is_partial = self._venue.now_ns, query.get("partial", "").lower() in ("true", "1")
        rows = [
            market.bucket(bar, bar.start + size_ns)
            for market in self._venue.markets.values()
            for bar in market.market.day.bars.bars(now, size_ns)
            if is_partial or bar.start + size_ns <= now
        ]
        return self._list(sorted(rows, key=lambda row: str(row["timestamp"])), query, MAX_COUNT_PRINTS)

    # List parameters, section 5.1

    def _whole(self, query: Mapping[str, str], name: str, default: int, most: int) -> int:
        text = query.get(name, "")
        if not text:
            return default
        if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) > most:
            raise BadRequest(f"'{name}' must be a whole number from 0 to {most}.", "ValidationError")
        return int(text)

    def _list(self, rows: Iterable[Row], query: Mapping[str, str], most: int = MAX_COUNT) -> list[Row]:
        wanted = self._filter(query)
        symbol = query.get("symbol", "")
        since, until = self._moment(query, "startTime"), self._moment(query, "endTime")
        chosen = [
            row
            for row in rows
            if (not symbol or self._is_of(row["symbol"], symbol))
            and all(row.get(key) in values for key, values in wanted.items())
            and (since is None or row["timestamp"] >= since)
            and (until is None or row["timestamp"] <= until)
        ]
        if query.get("reverse", "").lower() in ("true", "1"):
            chosen.reverse()
        start = self._whole(query, "start", 0, 100_000_000)
        chosen = chosen[start : start + self._whole(query, "count", COUNT, most)]
        columns = [
            name for name in query.get("columns", "").strip('[]" ').replace('"', "").split(",") if name
        ]
        if columns:
            kept = {"symbol", "timestamp", *(name.strip() for name in columns)}
            chosen = [{key: value for key, value in row.items() if key in kept} for row in chosen]
        return chosen

    def _is_of(self, symbol: str, asked: str) -> bool:
        """Return whether a symbol is the one asked for, or of that root or series (``XBT:quarterly``)."""
        if symbol == asked:
            return True
        root, _, series = asked.partition(":")
        market = self._venue.markets.get(symbol)
        if market is None or market.contract.fixed["rootSymbol"] != root:
            return False
        return series in ("", "perpetual" if market.contract.expiry is None else "quarterly")

    def _filter(self, query: Mapping[str, str]) -> dict[str, list[Any]]:
        text = query.get("filter", "")
        if not text:
            return {}
        try:
            wanted = json.loads(text)
        except (ValueError, RecursionError):
            wanted = None
        if not isinstance(wanted, dict):
            raise BadRequest("'filter' must be a JSON object.", "ValidationError")
        return {key: value if isinstance(value, list) else [value] for key, value in wanted.items()}

    def _moment(self, query: Mapping[str, str], name: str) -> str | None:
        text = query.get(name, "")
        if not text:
            return None
        try:
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=UTC)
            return tables.iso(int(moment.timestamp() * 1000) * 1_000_000)
        except (ValueError, OverflowError, OSError):
            raise BadRequest(f"'{name}' must be an ISO 8601 time.", "ValidationError") from None
