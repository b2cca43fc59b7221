"""Frames of BitMEX written by hand, and a core to feed them to."""

import functools

from dquant.constants import NS_PER_S
from dquant.markets.bitmex._bitmex_protocol import BitmexPublicProtocol
from tests.markets.cores import feed

NOW = 1_759_312_800 * NS_PER_S  # 2025-10-01T10:00:00Z
SILENCE_S = 10.0
BOOK_TOPIC = "orderBookL2:XBTUSD"
told = functools.partial(feed, ts=NOW)


def core(symbols=("XBTUSD",), **options):
    return BitmexPublicProtocol(symbols, silence_s=SILENCE_S, now=NOW, **options)


def level(level_id, side, size=None, price=None, symbol="XBTUSD", **more):
    row = {"symbol": symbol, "id": level_id, "side": side, "size": size, "price": price, **more}
    return {key: value for key, value in row.items() if value is not None}


def book(action, *rows, table="orderBookL2", **more):
    return {"table": table, "action": action, **more, "data": list(rows)}


def partial(*rows, symbol="XBTUSD", table="orderBookL2"):
    rows = rows or (level(1, "Sell", 10, 101.0, symbol), level(2, "Buy", 20, 100.0, symbol))
    return book("partial", *rows, table=table, keys=["symbol", "id", "side"], filter={"symbol": symbol})
