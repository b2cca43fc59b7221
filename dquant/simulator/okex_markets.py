"""What trading at the simulated OKX knows of the instruments: names, contracts, prices, limits, the book.

In: instruments as they are listed and end (``listed``, ``delisted``), the venue's feeds and time. Out: which
one a request names, how its orders are written, where it stands, which prices are allowed (fact sheet,
sections 6, 8.2 and 11). Names and steps of the last ``_ROWS_LIMIT`` instruments are kept after their end.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Protocol

from dquant.simulator import okex_data as data
from dquant.simulator.contract import Contract
from dquant.simulator.exchange import Exchange
from dquant.simulator.faults import FaultBoard
from dquant.simulator.flow_book import ASK, BID
from dquant.simulator.okex_contracts import COINS, contract_of
from dquant.simulator.okex_errors import OkexError
from dquant.simulator.okex_feed import InstrumentFeed
from dquant.simulator.okex_instruments import Listing
from dquant.simulator.okex_orders import OrderRows, Prices
from dquant.simulator.okex_requests import NewOrder, required, text
from dquant.simulator.units import fixed

_ROWS_LIMIT = 400
_CODE = re.compile(r"\d{1,19}", re.ASCII)
# The demo environment numbers its instruments differently (seen with BTC-USDT-SWAP, section 1).
_DEMO_SHIFT = 2_021_032_601_092_534

Row = dict[str, Any]


def demo_code(listing: Listing) -> int:
    """Return the instIdCode of an instrument in the demo environment."""
    return listing.code + _DEMO_SHIFT


def check_fits(listing: Listing, query: Mapping[str, str]) -> None:
    """Look whether an instrument is of the type and family that a query names.

    Raises:
        OkexError: 51015 or 51002.

    """
    inst_type = query.get("instType", "")
    if inst_type not in ("", listing.inst_type) and (inst_type, listing.inst_type) != ("MARGIN", "SPOT"):
        raise OkexError("51015")
    if query.get("instFamily", "") not in ("", listing.family):
        raise OkexError("51002")
    if query.get("uly", "") not in ("", listing.underlying):
        raise OkexError("51002")


class MarketsHost(Protocol):
    """What this asks of its venue."""

    listings: dict[str, Listing]
    feeds: dict[str, InstrumentFeed]
    now_ns: int
    real_ns: int
    faults: FaultBoard

    def count(self, what: str) -> None:
        """Count something that happened."""

    def index(self, index_id: str) -> float:
        """Return the index of this name."""


class OkexMarkets:
    """The instruments, for trading.

    Args:
        host: The venue.
        exchange: The engine, which is told what is listed.

    """

    def __init__(self, host: MarketsHost, exchange: Exchange) -> None:
        self._host, self._exchange = host, exchange
        self._rows: dict[str, OrderRows] = {}
        self._contracts: dict[str, Contract] = {}
        self._prices: dict[str, Prices] = {}
        self._by_code: dict[int, Listing] = {}

    def listed(self, listing: Listing, feed: InstrumentFeed) -> None:
        """Take a new instrument."""
        if len(self._rows) >= _ROWS_LIMIT:
            oldest = next(iter(self._rows))
            del self._rows[oldest], self._contracts[oldest]
        self._rows[listing.inst_id] = OrderRows(listing, feed.market.tick, feed.market.lot, COINS)
        contract = self._contracts[listing.inst_id] = contract_of(listing)
        self._exchange.list_contract(contract, feed.market)
        self.relisted(listing)

    def relisted(self, listing: Listing) -> None:
        """Take what changed of an instrument: its alias."""
        for code in (listing.code, demo_code(listing)):
            self._by_code[code] = listing

    def delisted(self, listing: Listing) -> None:
        """Keep what an instrument that has ended is still asked for: its name and last prices."""
        for code in (listing.code, demo_code(listing)):
            self._by_code.pop(code, None)
        self._exchange.delist(listing.inst_id)

    def rows(self, symbol: str) -> OrderRows | None:
        """Return the writer of an instrument's orders; None where it ended long ago."""
        return self._rows.get(symbol)

    def contract(self, symbol: str) -> Contract | None:
        """Return an instrument as the engine sees it; None where it ended long ago."""
        return self._contracts.get(symbol)

    def usd_price(self, coin: str) -> Decimal:
        """Return what one coin is worth in USD."""
        if coin == "USD":
            return Decimal(1)
        if coin == "USDT":
            return Decimal(fixed(self._host.index("BTC-USD") / self._host.index("BTC-USDT"), 6))
        return Decimal(fixed(self._host.index(f"{coin}-USD"), 2))

    def prices(self, symbol: str) -> Prices:
        """Return where an instrument stands, or stood last."""
        feed = self._host.feeds.get(symbol)
        if feed is not None:
            market = feed.market
            decimals = 2 if feed.listing.coin == "ETH" else 1
            self._prices[symbol] = Prices(
                market.tick.text(market.day.last_tick),
                fixed(market.mark, decimals),
                fixed(market.index, decimals),
            )
        return self._prices.get(symbol) or Prices("0", "0", "0")

    @property
    def now_ns(self) -> int:
        """Virtual time."""
        return self._host.now_ns

    @property
    def feeds(self) -> dict[str, InstrumentFeed]:
        """The instruments that trade."""
        return self._host.feeds

    def by_code(self, code: object) -> Listing | None:
        """Return the instrument of an instIdCode."""
        return self._by_code.get(code) if isinstance(code, int) else None

    def is_listed(self, inst_type: str, name: str, value: str) -> bool:
        """Return whether there is an instrument of this type with this instId, instFamily or uly."""
        return any(
            listing.inst_type == inst_type and listing.row[name] == value
            for listing in self._host.listings.values()
        )

    def find_listing(self, arg: Row, *, by_code: bool) -> Listing:
        """Return the instrument an element names: websockets by instIdCode alone, REST by instId or the code.

        Raises:
            OkexError: 50014, 51000 or 51001.

        """
        code = text(arg, "instIdCode")
        coded = self._by_code.get(int(code)) if _CODE.fullmatch(code) else None
        if by_code or (code and not arg.get("instId")):
            if not code:
                raise OkexError("50014", "instIdCode")
            listing = coded
        else:
            listing = self._host.listings.get(required(arg, "instId"))
            if code and coded is not listing:
                raise OkexError("50016", "instIdCode", "instId")
        if listing is None:
            raise OkexError("51001")
        return listing

    def check_fits(self, query: Mapping[str, str]) -> None:
        """Look whether the instrument that a query names is of the type and family it names too.

        Raises:
            OkexError: 51015 or 51002.

        """
        listing = self._host.listings.get(query.get("instId", ""))
        if listing is not None:
            check_fits(listing, query)

    def limit_ticks(self, listing: Listing) -> tuple[int, int]:
        """Return the highest buy and the lowest sell price allowed now, in ticks."""
        return data.limit_ticks(listing, self._host.feeds[listing.inst_id].market, self._host.now_ns)

    def checked_tick(self, listing: Listing, side: int, tick: int | None, *, may_clamp: bool) -> int:
        """Return the price to send: inside the limit; without a price, the limit itself.

        Raises:
            OkexError: 51006.

        """
        highest, lowest = self.limit_ticks(listing)
        edge = highest if side == BID else lowest
        if tick is None:
            return edge
        if tick <= highest if side == BID else tick >= lowest:
            return tick
        if may_clamp:
            return edge
        write = self._rows[listing.inst_id].tick.text
        raise OkexError("51006", write(highest), write(lowest))

    def lots_for(self, new: NewOrder) -> int:
        """Return how many lots an amount of quote currency buys or sells in the book as it is.

        Raises:
            OkexError: 51020: less than the least.

        """
        market = self._host.feeds[new.listing.inst_id].market
        left, lots = new.quote_amount or Decimal(), 0
        for tick, (resting, _orders) in market.book.top(ASK if new.side == BID else BID, 400).items():
            each = tick * market.tick.size * market.lot.size
            taken = min(resting, int(left / each))
            lots += taken
            left -= taken * each
            if taken < resting:
                break
        if lots * market.lot.size < Decimal(new.listing.row["minSz"]):
            raise OkexError("51020")
        return lots
