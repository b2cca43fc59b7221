"""One contract of the simulated BitMEX as the venue shows it: its rows, its last prints, its funding.

In: a market of ``flow`` and virtual time. Out: rows (dicts) of ``trade``, ``quote``, ``orderBook10``,
``funding`` and ``settlement``, and the sparse changes of the ``instrument`` row. The book's levels are
the business of ``bitmex_books``, who is sent what that of ``bitmex_server``.

Written from the BitMEX fact sheet, sections 3.4 and 6.3 to 6.7. Units as there: prices in quote
currency, sizes in contracts; times are ns since the Unix epoch inside and ISO 8601 in rows.
"""

from collections import deque
from random import Random
from typing import Any

from dquant.simulator.bars import KEPT, Bar
from dquant.simulator.bitmex_books import PublishedBook, ThrottledWindow
from dquant.simulator.bitmex_instruments import (
    FUNDING_INTERVAL,
    FUNDING_PERIOD_NS,
    BitmexContract,
    next_funding,
)
from dquant.simulator.bitmex_tables import BIN_TYPES, INSTRUMENT_TYPES, POOL, QUOTE_TYPES, Row, iso
from dquant.simulator.flow import Flow
from dquant.simulator.flow_book import ASK, BID, Trade

HISTORY = 1000  # rows kept of trades and quotes for REST
FUNDING_EVENTS = 60  # 20 days
CLOSE_VOLUME, CLOSE_TURNOVER = 3_868_480_147_789, 37_667_656_761_390_205  # as recorded in 2024-11
FIRST_LEVEL_ID, FIRST_MATCH_ID = 185_238_990_000, 0x2B21_0B79_0000  # the size of those of early 2026


class Numbers:
    """Level ids and match ids of one contract: both rise, neither says anything.

    Each contract draws its own, so that the text of frames does not hang on how often the venue publishes.
    """

    def __init__(self, seed: int, symbol: str) -> None:
        self._levels, matches = Random(f"{seed}/levels/{symbol}"), Random(f"{seed}/matches/{symbol}")
        self._level = FIRST_LEVEL_ID + self._levels.randrange(10**9)
        self.match_base = FIRST_MATCH_ID + matches.randrange(2**40)

    def level_id(self) -> int:
        """Return the id of a new price level."""
        self._level += self._levels.randrange(1, 200)
        return self._level

    def match_id(self, trade_id: int) -> str:
        """Return the id of a trade of the flow; executions of clients' orders in it carry the same."""
        return f"00000000-006d-1000-0000-{self.match_base + trade_id:012x}"


def funding_row(symbol: str, ts: int, rate: float) -> Row:
    """Return one row of the funding table; the daily rate is what a double makes of three times the rate."""
    return {
        "timestamp": iso(ts),
        "symbol": symbol,
        "fundingInterval": FUNDING_INTERVAL,
        "fundingRate": rate,
        "fundingRateDaily": rate * 3,
    }


class BitmexMarket:
    """The public tables of one contract; a new one lists the contract in the flow."""

    def __init__(self, contract: BitmexContract, flow: Flow, now: int) -> None:
        self.contract, self._flow = contract, flow
        self.symbol = contract.symbol
        self.numbers = Numbers(flow.seed, contract.symbol)
        self.market = flow.add(contract.spec)
        self.tap = self.market.book.tap()
        self.book = PublishedBook(contract, self.market, self.numbers.level_id)
        self.windows: dict[str, ThrottledWindow] = {}  # by table, only while somebody listens
        self.trades: deque[Row] = deque(maxlen=HISTORY)
        self.quotes: deque[Row] = deque(maxlen=HISTORY)
        self.minute_quotes: dict[int, Row] = {}  # the last quote of a minute, by its end
        self.fundings: deque[Row] = deque(maxlen=FUNDING_EVENTS)
        self._top: tuple[Any, ...] = ()
        day = self.market.day
        self._last_tick, self._direction = day.last_tick, "ZeroPlusTick"
        self._volume = self._turnover = 0
        self.next_funding = next_funding(now)
        self._invent_funding()
        self.row = self._first_row(now)
        self.add_trade(Trade(now, 0, 0, BID, day.last_tick, day.last_lots, 1))
        self.new_quote(now)
        self.ten = self._read_ten(now)

    # Prints

    def add_trades(self, trade: Trade) -> list[Row]:
        """Take what one order took at one price; return a row for each match, as clients heard of them."""
        if len(trade.parts) < 2:
            return [self.add_trade(trade)]
        return [self.add_trade(trade._replace(trade_id=part, lots=lots)) for part, lots in trade.parts]

    def add_trade(self, trade: Trade) -> Row:
        """Take one print of the flow; return its row."""
        size, price = trade.lots * self.contract.lot, self._price(trade.tick)
        if trade.tick != self._last_tick:
            self._direction = "PlusTick" if trade.tick > self._last_tick else "MinusTick"
        elif not self._direction.startswith("Zero"):
            self._direction = f"Zero{self._direction}"
        self._last_tick = trade.tick
        gross = self.contract.gross_value(size, price)
        home, foreign = self.contract.notionals(size, price, self._flow.index("BTC"))
        self._volume += size
        self._turnover += gross
        row: Row = {
            "timestamp": iso(trade.ts),
            "symbol": self.symbol,
            "side": "Buy" if trade.side == BID else "Sell",
            "size": size,
            "price": price,
            "tickDirection": self._direction,
            "trdMatchID": self.numbers.match_id(trade.trade_id),
            "grossValue": gross,
            "homeNotional": home,
            "foreignNotional": foreign,
            "trdType": "Regular",
            "pool": POOL,
        }
        self.trades.append(row)
        return row

    def new_quote(self, ts: int) -> Row | None:
        """Return a quote row if the published top of book is not that of the last row."""
        bid, ask = self.book.best()
        row: Row = {"timestamp": iso(ts), "symbol": self.symbol}
        # Section 3.4: a side may be missing on an empty book.
        if bid is not None:
            row["bidSize"], row["bidPrice"] = self.book.levels[BID, bid].size, self._price(bid)
        if ask is not None:
            row["askPrice"], row["askSize"] = self._price(ask), self.book.levels[ASK, ask].size
        row["pool"] = POOL
        top = tuple(row.get(field) for field in ("bidPrice", "bidSize", "askPrice", "askSize"))
        if top == self._top:
            return None
        self._top = top
        self.quotes.append(row)
        return row

    def new_ten(self, ts: int) -> Row | None:
        """Return an orderBook10 row if the best ten levels are not those of the last row."""
        row = self._read_ten(ts)
        if (row["bids"], row["asks"]) == (self.ten["bids"], self.ten["asks"]):
            return None
        self.ten = row
        return row

    def _read_ten(self, ts: int) -> Row:
        sides: dict[int, list[list[float]]] = {BID: [], ASK: []}
        for (side, tick), level in self.book.window(10).items():
            sides[side].append([self._price(tick), level.size])
        return {
            "symbol": self.symbol,
            "bids": sides[BID],
            "asks": sides[ASK][::-1],
            "timestamp": iso(ts),
            "pool": POOL,
        }

    def bucket(self, bar: Bar, end_ns: int) -> Row:
        """Return a bar as ``tradeBin`` says it; without trades it has no mean and no last size."""
        price, lots = self.market.tick.number, self.market.lot.number
        size = int(lots(bar.lots))
        mean = price(bar.value) / bar.lots if bar.lots else price(bar.close)
        home, foreign = self.contract.notionals(size, mean, self._flow.index("BTC"))
        row = {
            "timestamp": iso(end_ns),
            "symbol": self.symbol,
            "open": price(bar.open),
            "high": price(bar.high),
            "low": price(bar.low),
            "close": price(bar.close),
            "trades": bar.trades,
            "volume": size,
            "turnover": self.contract.gross_value(size, mean),
            "homeNotional": home,
            "foreignNotional": foreign,
        }
        if bar.lots:
            row |= {"vwap": round(mean, 4), "lastSize": int(lots(bar.last_lots))}
        return {field: row[field] for field in BIN_TYPES if field in row}

    def close_minute(self, end_ns: int) -> None:
        """Note the last quote of the minute that ends."""
        self.minute_quotes[end_ns] = self.quotes[-1]
        if len(self.minute_quotes) > KEPT:
            del self.minute_quotes[next(iter(self.minute_quotes))]

    def quote_bucket(self, bar: Bar, end_ns: int) -> Row:
        """Return the last quote of a bar as ``quoteBin`` says it."""
        known = self.minute_quotes.get(end_ns)
        if known is None:
            price = self.market.tick.number
            size = max(1, bar.last_lots) * self.contract.lot
            known = {"bidSize": size, "bidPrice": price(bar.close - 1), "askPrice": price(bar.close)}
            known["askSize"] = size
        row = {**known, "timestamp": iso(end_ns), "symbol": self.symbol}
        return {field: row[field] for field in QUOTE_TYPES if field in row and field != "pool"}

    # Funding and settlement

    def _invent_funding(self) -> None:
        funding = self.market.funding
        self.funding_rate = self.indicative_rate = 0.0
        if funding is None:
            return
        rng = Random(f"{self._flow.seed}/funding/{self.symbol}")
        for back in range(FUNDING_EVENTS, 0, -1):
            rate = round(1e-4 + max(0.0, rng.gauss(0.0, 5e-5)), 6)
            ts = self.next_funding - back * FUNDING_PERIOD_NS
            self.fundings.append(funding_row(self.symbol, ts, rate))
        self.funding_rate, self.indicative_rate = round(funding.settled_rate, 6), round(funding.rate, 6)

    def settle_funding(self, now: int) -> Row | None:
        """Return the funding row if its time has come; after a long leap only the last of them.

        What was indicative becomes the rate of the interval that begins.
        """
        if self.market.funding is None or now < self.next_funding:
            return None
        latest = next_funding(now) - FUNDING_PERIOD_NS
        row = funding_row(self.symbol, latest, self.funding_rate)
        self.fundings.append(row)
        self.funding_rate = self.indicative_rate
        self.next_funding = next_funding(now)
        return row

    def settlement_rows(self, price: float, ended_ns: int) -> tuple[Row, Row]:
        """Return the settlement row and the pseudo trade, which has no side, of a contract that ends."""
        ts = iso(ended_ns)
        size = self.row["openInterest"]
        home, foreign = self.contract.notionals(size, price, price)
        settlement = {
            "timestamp": ts,
            "symbol": self.symbol,
            "settlementType": "Settlement",
            "settledPrice": price,
        }
        trade: Row = {
            "timestamp": ts,
            "symbol": self.symbol,
            "size": size,
            "price": price,
            "tickDirection": self._direction,
            "trdMatchID": self.numbers.match_id(self.market.book.last_trade_id + 1),
            "grossValue": self.contract.gross_value(size, price),
            "homeNotional": home,
            "foreignNotional": foreign,
            "trdType": "Settlement",
        }
        return settlement, trade

    # The instrument row: every change is sparse, and what has not changed is not in it

    def change(self, ts: int, fields: Row) -> Row | None:
        """Merge into the instrument row; return what of it is new, None if nothing is."""
        news = {key: value for key, value in fields.items() if self.row.get(key) != value}
        if not news:
            return None
        news["timestamp"] = iso(ts)
        self.row.update(news)
        return {"symbol": self.symbol, **news}

    def index_fields(self) -> Row:
        """Return the index price; it comes in frames with nothing else in them."""
        return {"indicativeSettlePrice": round(self.market.index, 2)}

    def mark_fields(self) -> Row:
        """Return the mark price; it comes in frames with nothing else in them."""
        mark = round(self.market.mark, 2)
        return {"fairPrice": mark, "markPrice": mark}

    def funding_fields(self) -> Row:
        """Return the funding of a perpetual; nothing for a future."""
        funding = self.market.funding
        if funding is None:
            return {}
        self.indicative_rate = round(funding.rate, 6)
        return {
            "fundingTimestamp": iso(self.next_funding),
            "fundingRate": self.funding_rate,
            "indicativeFundingRate": self.indicative_rate,
        }

    def top_fields(self) -> Row:
        """Return the top of book as the instrument row repeats it, a few seconds late."""
        bid, ask = self.book.best()
        if bid is None or ask is None:
            return {"hasLiquidity": False}
        bid_price, ask_price = self._price(bid), self._price(ask)
        mid = round((bid_price + ask_price) / 2, 4)
        return {
            "bidPrice": bid_price,
            "midPrice": mid,
            "askPrice": ask_price,
            "impactBidPrice": bid_price,
            "impactMidPrice": mid,
            "impactAskPrice": ask_price,
            "hasLiquidity": True,
        }

    def last_fields(self) -> Row:
        """Return the last price, and the volume since the close."""
        last = self._price(self._last_tick)
        before = self._price(self.market.day.open)
        return {
            "lastPrice": last,
            "lastPriceProtected": last,
            "lastTickDirection": self._direction,
            "lastChangePcnt": round(last / before - 1, 4),
            "totalVolume": CLOSE_VOLUME + self._volume,
            "volume": self._volume,
            "totalTurnover": CLOSE_TURNOVER + self._turnover,
            "turnover": self._turnover,
        }

    def day_fields(self) -> Row:
        """Return what happened in 24 hours, and the open interest."""
        day, contract = self.market.day, self.contract
        high, low = self._price(day.high), self._price(day.low)
        vwap = round((high + low) / 2, 4)
        volume = day.lots * contract.lot
        home, foreign = contract.notionals(volume, vwap, self._flow.index("BTC"))
        interest = self.market.open_interest * contract.lot
        return {
            "volume24h": volume,
            "turnover24h": contract.gross_value(volume, vwap),
            "homeNotional24h": home,
            "foreignNotional24h": foreign,
            "prevPrice24h": self._price(day.open),
            "vwap": vwap,
            "highPrice": high,
            "lowPrice": low,
            "openInterest": interest,
            "openValue": contract.gross_value(interest, round(self.market.mark, 2)),
        }

    def basis_fields(self) -> Row:
        """Return the fair basis and its yearly rate."""
        basis = round(round(self.market.mark, 2) - round(self.market.index, 2), 2)
        if self.market.funding is not None:
            return {"fairBasisRate": round(self.funding_rate * 3 * 365, 6), "fairBasis": basis}
        return {"fairBasisRate": round(self.market.spec.carry, 4), "fairBasis": basis}

    def _first_row(self, now: int) -> Row:
        row = {
            **self.contract.fixed,
            **self.funding_fields(),
            "prevClosePrice": self._price(self.market.day.open),
            "prevTotalVolume": CLOSE_VOLUME,
            "prevTotalTurnover": CLOSE_TURNOVER,
            **self.day_fields(),
            **self.last_fields(),
            **self.top_fields(),
            **self.basis_fields(),
            **self.mark_fields(),
            **self.index_fields(),
            "timestamp": iso(now),
        }
        return {field: row[field] for field in INSTRUMENT_TYPES if field in row}

    def _price(self, tick: int) -> float:
        return self.market.tick.number(tick)
