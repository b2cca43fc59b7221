"""Public REST of the simulated OKX: path and query in, status and body out.

Written from the fact sheet, section 7. Business errors come with HTTP 200, parameter errors with 400, both
in the venue's envelope ``{"code", "data", "msg"}``.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Protocol

from dquant.constants import NS_PER_MS
from dquant.simulator import okex_data as data
from dquant.simulator import okex_history as history
from dquant.simulator import okex_settlements as settlements
from dquant.simulator.flow_book import ASK, BID
from dquant.simulator.okex_candles import Candles
from dquant.simulator.okex_errors import OkexError
from dquant.simulator.okex_feed import InstrumentFeed
from dquant.simulator.okex_instruments import Listing
from dquant.simulator.okex_markets import check_fits
from dquant.simulator.okex_messages import dump
from dquant.simulator.okex_settlements import Settlements
from dquant.simulator.units import ms_text
from dquant.simulator.venue import RestAnswer, RestRequest

_NO_INSTRUMENT = "Instrument ID, Instrument ID code, or Spread ID doesn't exist."
_MOST_FAMILIES = 5
_INST_TYPES = ("SPOT", "MARGIN", "SWAP", "FUTURES", "OPTION")

Query = Mapping[str, str]
Rows = list[Any]


class RestHost(Protocol):
    """What the REST side asks of its venue."""

    listings: dict[str, Listing]
    feeds: dict[str, InstrumentFeed]
    candles: Candles
    settlements: Settlements

    def row(self, listing: Listing) -> dict[str, Any]:
        """Return an instrument's row."""

    def index_row(self, index_id: str) -> dict[str, Any] | None:
        """Return an index ticker; None where there is no such index."""

    def index_ids(self) -> list[str]:
        """Return the names of the indices."""

    def status_row(self) -> dict[str, Any]:
        """Return the newest maintenance."""


class RestError(OkexError):
    """An answer in the venue's error envelope, in words of its own."""

    def __init__(self, code: str, message: str, status: int = 200) -> None:
        super().__init__(code, message=message, status=status)


class OkexRest:
    """The endpoints that need no key."""

    def __init__(self, host: RestHost) -> None:
        self._host = host
        self._endpoints: dict[str, Callable[[Query, int], Rows]] = {
            "public/time": self._time,
            "public/instruments": self._instruments,
            "public/mark-price": self._mark_price,
            "public/funding-rate": self._funding_rate,
            "public/funding-rate-history": self._funding_history,
            "public/price-limit": self._price_limit,
            "public/open-interest": self._open_interest,
            "public/estimated-price": self._estimated_price,
            "market/ticker": self._ticker,
            "market/tickers": self._tickers,
            "market/books": self._books,
            "market/books-full": self._books_full,
            "market/trades": self._trades,
            "market/candles": self._candles,
            "market/history-candles": self._candles,
            "market/mark-price-candles": self._mark_candles,
            "market/history-mark-price-candles": self._mark_candles,
            "market/index-candles": self._index_candles,
            "market/history-index-candles": self._index_candles,
            "market/history-trades": self._history_trades,
            "public/underlying": self._underlying,
            "public/position-tiers": self._position_tiers,
            "public/delivery-exercise-history": self._deliveries,
            "public/settlement-history": self._settlements,
            "public/estimated-settlement-info": self._next_settlement,
            "market/index-tickers": self._index_tickers,
            "system/status": self._status,
        }

    def answer(self, request: RestRequest, now_ns: int) -> RestAnswer:
        """Answer one request."""
        endpoint = self._endpoints.get(request.path.removeprefix("/api/v5/"))
        try:
            if endpoint is None or request.method != "GET" or not request.path.startswith("/api/v5/"):
                raise RestError("404", "Invalid endpoint", 404)
            rows = endpoint(request.query, now_ns)
        except OkexError as exc:
            body = dump({"code": exc.code, "data": [], "msg": exc.message})
            return RestAnswer(exc.status, body.encode())
        return RestAnswer(200, dump({"code": "0", "data": rows, "msg": ""}).encode())

    def instruments(self, query: Query) -> Rows:
        """Return the instruments of a query; the private twin of the endpoint asks too.

        Raises:
            RestError: It names none.

        """
        return self._instruments(query, 0)

    # What a query names

    def _feed(self, query: Query) -> InstrumentFeed:
        inst_id = _given(query, "instId")
        feed = self._host.feeds.get(inst_id)
        if feed is None:
            raise RestError("51001", _NO_INSTRUMENT)
        return feed

    def _feeds(self, query: Query) -> list[InstrumentFeed]:
        """Return the instruments of ``instType``, perhaps of one family, underlying or name."""
        inst_type = _type(query)
        feeds = [
            feed
            for feed in self._host.feeds.values()
            if _matches(feed.listing, {**query, "instType": "SPOT" if inst_type == "MARGIN" else inst_type})
        ]
        if not feeds and query.get("instId"):
            raise self._unfit(query)
        return feeds

    def _unfit(self, query: Query) -> OkexError:
        """Return why a query finds no instrument: there is none of that name, or it is another one."""
        listing = self._host.listings.get(query.get("instId", ""))
        try:
            if listing is not None:
                check_fits(listing, query)
        except OkexError as exc:
            return exc
        return RestError("51001", _NO_INSTRUMENT)

    # Endpoints

    def _time(self, query: Query, now_ns: int) -> Rows:
        del query
        return [{"ts": ms_text(now_ns)}]

    def _instruments(self, query: Query, now_ns: int) -> Rows:
        del now_ns
        _type(query)
        found = [listing for listing in self._host.listings.values() if _matches(listing, query)]
        if not found and query.get("instId"):
            raise self._unfit(query)
        return [self._host.row(listing) for listing in found]

    def _ticker(self, query: Query, now_ns: int) -> Rows:
        feed = self._feed(query)
        return [data.ticker(feed.listing, feed.market, now_ns)]

    def _tickers(self, query: Query, now_ns: int) -> Rows:
        return [data.ticker(feed.listing, feed.market, now_ns) for feed in self._feeds(query)]

    def _books(self, query: Query, now_ns: int) -> Rows:
        return self._book(query, now_ns, 400, is_full=False)

    def _books_full(self, query: Query, now_ns: int) -> Rows:
        return self._book(query, now_ns, 5000, is_full=True)

    def _book(self, query: Query, now_ns: int, most: int, *, is_full: bool) -> Rows:
        feed = self._feed(query)
        size = _count(query, "sz", 1, most)
        book, price, amount = feed.market.book, feed.market.tick.text, feed.market.lot.text
        sides = {}
        for name, side in (("asks", ASK), ("bids", BID)):
            levels = book.top(side, size).items()
            if is_full:
                sides[name] = [[price(tick), amount(lots), str(orders)] for tick, (lots, orders) in levels]
            else:
                sides[name] = [
                    [price(tick), amount(lots), "0", str(orders)] for tick, (lots, orders) in levels
                ]
        row: dict[str, Any] = {**sides, "ts": ms_text(now_ns)}
        if not is_full:
            row["seqId"] = feed.seq_id
        return [row]

    def _trades(self, query: Query, now_ns: int) -> Rows:
        del now_ns
        fills = self._fills(query)
        return list(islice(fills, _count(query, "limit", 100, 500)))

    def _history_trades(self, query: Query, now_ns: int) -> Rows:
        del now_ns
        rows = history.trades(list(self._fills(query)), query, _count(query, "limit", 100, 100))
        if rows is None:
            raise RestError("51000", "Parameter type error", 400)
        return rows

    def _fills(self, query: Query) -> Iterator[dict[str, Any]]:
        """Return every match that is remembered, newest first, each made when it is read."""
        market = self._feed(query).market
        return (row for item in reversed(market.trades) for row in reversed(data.single_fills(market, item)))

    def _index_tickers(self, query: Query, now_ns: int) -> Rows:
        del now_ns
        if not query.get("instId") and not query.get("quoteCcy"):
            raise RestError("50015", "Either parameter quoteCcy or instId is required", 400)
        wanted = [query["instId"]] if query.get("instId") else self._host.index_ids()
        rows = [self._host.index_row(name) for name in wanted]
        if not query.get("instId"):
            rows = [
                row for row in rows if row is not None and row["instId"].endswith(f"-{query['quoteCcy']}")
            ]
        if not rows or None in rows:
            raise RestError("51001", _NO_INSTRUMENT)
        return rows

    def _mark_price(self, query: Query, now_ns: int) -> Rows:
        if query.get("instId") and not query.get("instType"):
            return [data.mark_price(feed.listing, feed.market, now_ns) for feed in [self._feed(query)]]
        return [data.mark_price(feed.listing, feed.market, now_ns) for feed in self._feeds(query)]

    def _funding_rate(self, query: Query, now_ns: int) -> Rows:
        if query.get("instId") == "ANY":
            return [
                data.funding_rate(feed.listing, feed.market, now_ns)
                for feed in self._host.feeds.values()
                if feed.listing.has_funding
            ]
        feed = self._feed(query)
        if not feed.listing.has_funding:
            raise RestError("51000", "Parameter instId error", 400)
        return [data.funding_rate(feed.listing, feed.market, now_ns)]

    def _funding_history(self, query: Query, now_ns: int) -> Rows:
        del now_ns
        feed = self._feed(query)
        if not feed.listing.has_funding:
            raise RestError("51000", "Parameter instId error", 400)
        return history.fundings(feed.listing, feed.market, query, _count(query, "limit", 100, 400))

    def _candles(self, query: Query, now_ns: int) -> Rows:
        return self._page_of_candles("trade", self._feed(query).listing.inst_id, query, 300, now_ns)

    def _mark_candles(self, query: Query, now_ns: int) -> Rows:
        return self._page_of_candles("mark", self._feed(query).listing.inst_id, query, 100, now_ns)

    def _index_candles(self, query: Query, now_ns: int) -> Rows:
        index_id = _given(query, "instId")
        if index_id not in self._host.index_ids():
            raise RestError("51001", _NO_INSTRUMENT)
        return self._page_of_candles("index", index_id, query, 100, now_ns)

    def _page_of_candles(self, kind: str, name: str, query: Query, most: int, now_ns: int) -> Rows:
        rows = self._host.candles.page(kind, name, query, _count(query, "limit", 100, most), now_ns)
        if rows is None:
            raise RestError("51000", "Parameter bar error", 400)
        return rows

    def _price_limit(self, query: Query, now_ns: int) -> Rows:
        feed = self._feed(query)
        return [data.price_limit(feed.listing, feed.market, now_ns)]

    def _open_interest(self, query: Query, now_ns: int) -> Rows:
        if _type(query) not in ("SWAP", "FUTURES", "OPTION"):
            raise RestError("51000", "Parameter instType error", 400)
        return [data.open_interest(feed.listing, feed.market, now_ns) for feed in self._feeds(query)]

    def _estimated_price(self, query: Query, now_ns: int) -> Rows:
        feed = self._feed(query)
        listing = feed.listing
        if listing.expiry_ns is None:
            raise RestError("51000", "Parameter instId error", 400)
        if listing.expiry_ns - now_ns > 3600 * 1000 * NS_PER_MS:
            return []
        row = data.estimated_price(listing, feed.market, now_ns)
        del row["settleType"]
        return [row]

    def _underlying(self, query: Query, now_ns: int) -> Rows:
        del now_ns
        inst_type = _type(query)
        if inst_type == "SPOT":
            raise RestError("51000", "Parameter instType error", 400)
        names = [one.underlying for one in self._host.listings.values() if one.inst_type == inst_type]
        return [list(dict.fromkeys(names))]

    def _position_tiers(self, query: Query, now_ns: int) -> Rows:
        del now_ns
        inst_type = _type(query)
        if _given(query, "tdMode") not in ("cross", "isolated"):
            raise RestError("51000", "Parameter tdMode error", 400)
        key = "instId" if inst_type == "MARGIN" else "instFamily"
        names = (query.get(key) or query.get("uly") or query.get("instId") or "").split(",")
        if names == [""]:
            raise RestError("50015", "Either parameter uly or instFamily is required", 400)
        if len(names) > _MOST_FAMILIES:
            raise RestError("50025", f"Parameter {key} count exceeds the limit {_MOST_FAMILIES}.")
        kind = "SPOT" if inst_type == "MARGIN" else inst_type
        found = [
            one
            for one in self._host.listings.values()
            if one.inst_type == kind and (one.inst_id in names or one.family in names)
        ]
        if not found:
            raise RestError("51001", _NO_INSTRUMENT)
        return settlements.tier_rows(found)

    def _deliveries(self, query: Query, now_ns: int) -> Rows:
        del now_ns
        inst_type = _type(query)
        if inst_type not in ("FUTURES", "OPTION"):
            raise RestError("51000", "Parameter instType error", 400)
        family = query.get("instFamily") or query.get("uly")
        if not family:
            raise RestError("50015", "Either parameter uly or instFamily is required", 400)
        rows = self._host.settlements.delivery_rows(inst_type, family)
        return history.page(rows, "ts", query, _count(query, "limit", 100, 100))

    def _settlements(self, query: Query, now_ns: int) -> Rows:
        del now_ns
        rows = self._host.settlements.settlement_rows(_given(query, "instFamily"))
        return history.page(rows, "ts", query, _count(query, "limit", 100, 100))

    def _next_settlement(self, query: Query, now_ns: int) -> Rows:
        feed = self._feed(query)
        return settlements.next_settlement(feed.listing, feed.market.mark, now_ns)

    def _status(self, query: Query, now_ns: int) -> Rows:
        del query, now_ns
        row = self._host.status_row()
        del row["ts"]
        return [row]


def _given(query: Query, name: str) -> str:
    value = query.get(name, "")
    if not value:
        raise RestError("50014", f"Parameter {name} can not be empty.", 400)
    return value


def _type(query: Query) -> str:
    inst_type = _given(query, "instType")
    if inst_type not in _INST_TYPES:
        raise RestError("51000", "Parameter instType error", 400)
    return inst_type


def _count(query: Query, name: str, default: int, most: int) -> int:
    text = query.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdecimal()) or len(text) > 6 or not 1 <= int(text) <= most:
        raise RestError("51000", f"Parameter {name} error", 400)
    return int(text)


def _matches(listing: Listing, query: Query) -> bool:
    return (
        listing.inst_type == query.get("instType")
        and query.get("instFamily", "") in ("", listing.family)
        and query.get("uly", "") in ("", listing.underlying)
        and query.get("instId", "") in ("", listing.inst_id)
    )
