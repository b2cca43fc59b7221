"""The indices of the simulated BitMEX: their instrument rows, their pseudo trades, their bars.

In: the flow's prices, virtual time. Out: rows of ``instrument`` and ``trade``. Written from the BitMEX fact
sheet, section 3.4: an index prints trades of size 0 and ``trdType`` ``Referential``, every 5 s here.
"""

from collections import deque

from dquant.constants import NS_PER_S
from dquant.simulator.bars import BarHistory, Period
from dquant.simulator.bitmex_instruments import INDICES, index_row
from dquant.simulator.bitmex_tables import BIN_TYPES, Row, iso
from dquant.simulator.flow import Flow
from dquant.simulator.units import Step

PERIOD_NS = 5 * NS_PER_S
HISTORY = 1000  # prints kept of each index for REST
_TICK = Step("0.01")
_MATCH_ID_OF_NOTHING = "00000000-0000-0000-0000-000000000000"


class Indices:
    """What the venue knows of its indices."""

    def __init__(self, flow: Flow, now: int) -> None:
        self._flow = flow
        self.rows: dict[str, Row] = {}
        self.prints: dict[str, deque[Row]] = {}  # oldest first, one at least
        self._bars: dict[str, BarHistory] = {}
        for symbol, (coin, _quote) in INDICES.items():
            price = self._price(symbol)
            self.rows[symbol] = index_row(symbol, price, now)
            self.prints[symbol] = deque([self._print(symbol, iso(now))], maxlen=HISTORY)
            self._bars[symbol] = BarHistory(now, _TICK.nearest(price), past=flow.coins[coin].past)

    def step(self, now: int) -> list[tuple[str, Row, Row]]:
        """Print every index; return its name, the change of its instrument row, and the print."""
        stamp = iso(now - now % PERIOD_NS)
        news: list[tuple[str, Row, Row]] = []
        for symbol, row in self.rows.items():
            price, before = self._price(symbol), row["lastPrice"]
            self._bars[symbol].add(now, _TICK.nearest(price), 0)
            direction = "PlusTick" if price > before else "MinusTick" if price < before else "ZeroPlusTick"
            change = {"lastPrice": price, "markPrice": price, "lastTickDirection": direction}
            row.update(change, timestamp=stamp)
            self.prints[symbol].append(self._print(symbol, stamp))
            news.append((symbol, {"symbol": symbol, **change, "timestamp": stamp}, self.prints[symbol][-1]))
        return news

    def buckets(self, symbol: str, size_ns: int, now: int) -> list[Row]:
        """Return the bars of an index, oldest first, the unfinished one last; nothing is traded in them."""
        price = _TICK.number
        rows = []
        for bar in self._bars[symbol].bars(now, Period(size_ns)):
            row = {
                "timestamp": iso(bar.start + size_ns),
                "symbol": symbol,
                "open": price(bar.open),
                "high": price(bar.high),
                "low": price(bar.low),
                "close": price(bar.close),
                "trades": bar.trades,
                "volume": 0,
                "turnover": 0,
                "homeNotional": 0.0,
                "foreignNotional": 0.0,
            }
            rows.append({field: row[field] for field in BIN_TYPES if field in row})
        return rows

    def _price(self, symbol: str) -> float:
        return round(self._flow.index(*INDICES[symbol]), 2)

    def _print(self, symbol: str, stamp: str) -> Row:
        row = self.rows[symbol]
        return {
            "timestamp": stamp,
            "symbol": symbol,
            "side": "Buy",
            "size": 0,
            "price": row["lastPrice"],
            "tickDirection": row["lastTickDirection"],
            "trdMatchID": _MATCH_ID_OF_NOTHING,
            "grossValue": 0,
            "homeNotional": 0.0,
            "foreignNotional": 0.0,
            "trdType": "Referential",
        }
