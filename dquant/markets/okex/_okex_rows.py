"""Rows of the OKX public channels that are no books, one row in, one event out.

Written from the fact sheet ``okx-v5`` sections 4 and 5. Every number is a string on the
wire; an empty one means that there is none yet, which is no event and no 0. A row that
cannot be read raises ``KeyError``, ``TypeError``, ``ValueError`` or ``OverflowError``.

Units: prices in quote currency, sizes in contracts (spot: base coin), times in ns since
the Unix epoch (the wire carries ms).
"""

from collections.abc import Callable
from math import inf
from typing import Any

from dquant.constants import NS_PER_MS
from dquant.markets.okex._okex_frames import MAX_TIME_MS
from dquant.model.events import (
    Event,
    FundingRate,
    IndexPrice,
    InstrumentState,
    MarkPrice,
    TickerStats,
    Trade,
)

ROW_ERRORS = (KeyError, TypeError, ValueError, OverflowError)


def read_ticker(row: dict[str, Any], ts_recv: int) -> Event | None:
    """Read the ticker; ``None`` while nothing has traded."""
    if row["last"] == "":
        return None
    return TickerStats(
        _text(row["instId"]),
        _price(row["last"]),
        _size(row.get("lastSz") or 0),
        _size(row.get("vol24h") or 0),
        _time(row["ts"]),
        ts_recv,
    )


def read_trade(row: dict[str, Any], ts_recv: int) -> Event:
    """Read one public print; its side is the taker's."""
    side = row["side"]
    if side not in ("buy", "sell"):
        raise ValueError(f"side {side!r}")
    return Trade(
        _text(row["instId"]),
        _text(row["tradeId"]),
        _price(row["px"]),
        _size(row["sz"]),
        side,
        _time(row["ts"]),
        ts_recv,
    )


def read_mark(row: dict[str, Any], ts_recv: int) -> Event | None:
    """Read the mark price, if there is one."""
    if row["markPx"] == "":
        return None
    return MarkPrice(_text(row["instId"]), _price(row["markPx"]), _time(row["ts"]), ts_recv)


def read_index(row: dict[str, Any], ts_recv: int) -> Event | None:
    """Read the index price, if there is one."""
    if row["idxPx"] == "":
        return None
    return IndexPrice(_text(row["instId"]), _price(row["idxPx"]), _time(row["ts"]), ts_recv)


def read_funding(row: dict[str, Any], ts_recv: int) -> Event | None:
    """Read the estimated rate of the next settlement; some old rows carry none."""
    if row.get("fundingRate", "") == "":
        return None
    return FundingRate(
        _text(row["instId"]),
        _finite(row["fundingRate"]),
        _time(row["fundingTime"]),
        _time(row["ts"]) if row.get("ts") else ts_recv,
        ts_recv,
    )


def read_instrument(row: dict[str, Any], ts_recv: int) -> InstrumentState:
    """Read the state of one instrument."""
    return InstrumentState(_text(row["instId"]), _text(row["state"]), ts_recv)


READERS: dict[str, Callable[[dict[str, Any], int], Event | None]] = {
    "tickers": read_ticker,
    "trades": read_trade,
    "mark-price": read_mark,
    "index-tickers": read_index,
    "funding-rate": read_funding,
    "instruments": read_instrument,
}


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"not a name: {value!r}")
    return value


def _finite(value: Any) -> float:
    number = float(value)
    if not -inf < number < inf:
        raise ValueError(f"not a finite number: {value!r}")
    return number


def _price(value: Any) -> float:
    price = _finite(value)
    if price <= 0.0:
        raise ValueError(f"not a price: {value!r}")
    return price


def _size(value: Any) -> float:
    size = _finite(value)
    if size < 0.0:
        raise ValueError(f"not a size: {value!r}")
    return size


def _time(value: Any) -> int:
    ms = int(value)
    if not 0 <= ms <= MAX_TIME_MS:
        raise ValueError(f"not a time in ms: {value!r}")
    return ms * NS_PER_MS
