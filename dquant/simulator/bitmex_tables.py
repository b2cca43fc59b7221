"""Tables of the simulated BitMEX: keys, types, and the JSON text of frames.

Rows go in as plain dicts, text comes out, byte for byte in the manner of the new backend:
no blanks, absent rather than null, floats as Java prints them (``5.0E-4``, ``100.0``).

Written from the BitMEX fact sheet, sections 2.3, 2.4, 3.1 to 3.4 (frozen at July 2026).
Units: prices are floats in quote currency, sizes are contracts, times come as ns since the
Unix epoch and leave as ISO 8601 UTC with milliseconds.
"""

import json
from collections.abc import Iterable
from decimal import Decimal
from functools import lru_cache
from math import isfinite
from typing import Any

from dquant.simulator.json_text import json_text
from dquant.simulator.units import iso_text

Row = dict[str, Any]

SHEET_URL = "https://ws.bitmex.com/app/wsAPI"

L2_TYPES = {
    "symbol": "symbol", "id": "long", "side": "symbol", "size": "long", "price": "float",
    "pool": "symbol", "timestamp": "timestamp", "transactTime": "timestamp",
}  # fmt: skip
QUOTE_TYPES = {
    "timestamp": "timestamp", "symbol": "symbol", "bidSize": "long", "bidPrice": "float",
    "askPrice": "float", "askSize": "long", "pool": "symbol",
}  # fmt: skip
TRADE_TYPES = {
    "timestamp": "timestamp", "symbol": "symbol", "side": "symbol", "size": "long", "price": "float",
    "tickDirection": "symbol", "trdMatchID": "guid", "grossValue": "long", "homeNotional": "float",
    "foreignNotional": "float", "trdType": "symbol", "pool": "symbol",
}  # fmt: skip
INSTRUMENT_TYPES = {
    "symbol": "symbol", "rootSymbol": "symbol", "state": "symbol", "typ": "symbol", "listing": "timestamp",
    "front": "timestamp", "expiry": "timestamp", "settle": "timestamp", "listedSettle": "timestamp",
    "relistInterval": "timespan", "positionCurrency": "symbol", "underlying": "symbol",
    "quoteCurrency": "symbol", "underlyingSymbol": "symbol", "reference": "symbol",
    "referenceSymbol": "symbol", "calcInterval": "timespan", "publishInterval": "timespan",
    "publishTime": "timespan", "maxOrderQty": "long", "minPrice": "float", "maxPrice": "float",
    "lotSize": "long", "tickSize": "float", "multiplier": "long", "settlCurrency": "symbol",
    "underlyingToPositionMultiplier": "long", "underlyingToSettleMultiplier": "long",
    "quoteToSettleMultiplier": "long", "isQuanto": "boolean", "isInverse": "boolean", "initMargin": "float",
    "maintMargin": "float", "riskLimit": "long", "riskStep": "long", "limit": "float", "taxed": "boolean",
    "deleverage": "boolean", "makerFee": "float", "takerFee": "float", "settlementFee": "float",
    "fundingBaseSymbol": "symbol", "fundingQuoteSymbol": "symbol", "fundingPremiumSymbol": "symbol",
    "fundingTimestamp": "timestamp", "fundingInterval": "timespan", "fundingRate": "float",
    "indicativeFundingRate": "float", "rebalanceTimestamp": "timestamp", "rebalanceInterval": "timespan",
    "prevClosePrice": "float", "limitDownPrice": "float", "limitUpPrice": "float", "prevTotalVolume": "long",
    "totalVolume": "long", "volume": "long", "volume24h": "long", "prevTotalTurnover": "long",
    "totalTurnover": "long", "turnover": "long", "turnover24h": "long", "homeNotional24h": "float",
    "foreignNotional24h": "float", "prevPrice24h": "float", "vwap": "float", "highPrice": "float",
    "lowPrice": "float", "lastPrice": "float", "lastPriceProtected": "float", "lastTickDirection": "symbol",
    "lastChangePcnt": "float", "bidPrice": "float", "midPrice": "float", "askPrice": "float",
    "impactBidPrice": "float", "impactMidPrice": "float", "impactAskPrice": "float",
    "hasLiquidity": "boolean", "openInterest": "long", "openValue": "long", "fairMethod": "symbol",
    "fairBasisRate": "float", "fairBasis": "float", "fairPrice": "float", "markMethod": "symbol",
    "markPrice": "float", "indicativeSettlePrice": "float", "settledPriceAdjustmentRate": "float",
    "settledPrice": "float", "instantPnl": "boolean", "minTick": "float", "fundingBaseRate": "float",
    "fundingQuoteRate": "float", "farLegSymbol": "symbol", "nearLegSymbol": "symbol", "pool": "symbol",
    "tags": "", "timestamp": "timestamp",
}  # fmt: skip

BIN_TYPES = {
    "timestamp": "timestamp", "symbol": "symbol", "open": "float", "high": "float", "low": "float",
    "close": "float", "trades": "long", "volume": "long", "vwap": "float", "lastSize": "long",
    "turnover": "long", "homeNotional": "float", "foreignNotional": "float", "pool": "symbol",
}  # fmt: skip
BIN_TABLES = ("tradeBin1m", "tradeBin5m", "tradeBin1h", "tradeBin1d")
QUOTE_BIN_TABLES = ("quoteBin1m", "quoteBin5m", "quoteBin1h", "quoteBin1d")

TYPES: dict[str, dict[str, str]] = {
    "instrument": INSTRUMENT_TYPES,
    "orderBookL2": L2_TYPES,
    "orderBookL2_25": L2_TYPES,
    "orderBookL2_100": L2_TYPES,
    "orderBook10": {"symbol": "symbol", "bids": "", "asks": "", "timestamp": "timestamp", "pool": "symbol"},
    "quote": QUOTE_TYPES,
    "trade": TRADE_TYPES,
    "funding": {
        "timestamp": "timestamp", "symbol": "symbol", "fundingInterval": "timespan",
        "fundingRate": "float", "fundingRateDaily": "float",
    },
    # The legacy columns are still declared, never filled.
    "settlement": {
        "timestamp": "timestamp", "symbol": "symbol", "settlementType": "symbol", "settledPrice": "float",
        "optionStrikePrice": "float", "optionUnderlyingPrice": "float", "bankrupt": "long",
        "taxBase": "long", "taxRate": "float",
    },
    "liquidation": {
        "orderID": "guid", "symbol": "symbol", "side": "symbol", "price": "float", "leavesQty": "long",
    },
    "connected": {"id": "long", "users": "long", "bots": "long"},
    **dict.fromkeys(BIN_TABLES, BIN_TYPES),
    **dict.fromkeys(QUOTE_BIN_TABLES, QUOTE_TYPES),
    "insurance": {"currency": "symbol", "timestamp": "timestamp", "walletBalance": "long"},
    "announcement": {"id": "long", "link": "", "title": "", "content": "", "date": "timestamp"},
    "chat": {
        "id": "long", "date": "timestamp", "user": "symbol", "message": "", "html": "", "fromBot": "boolean",
        "channelID": "long",
    },
    "publicNotifications": {
        "id": "long", "date": "timestamp", "title": "", "body": "", "ttl": "long", "type": "symbol",
        "closable": "boolean", "persist": "boolean", "waitForVisibility": "boolean", "sound": "",
    },
}  # fmt: skip

KEYS: dict[str, list[str]] = {
    "instrument": ["symbol"],
    "orderBookL2": ["symbol", "id", "side"],
    "orderBookL2_25": ["symbol", "id", "side"],
    "orderBookL2_100": ["symbol", "id", "side"],
    "orderBook10": ["symbol"],
    "quote": [],
    "trade": [],
    "funding": ["timestamp", "symbol"],
    "settlement": ["timestamp", "symbol"],
    "liquidation": ["orderID"],
    "connected": ["id"],
    **{table: [] for table in (*BIN_TABLES, *QUOTE_BIN_TABLES)},
    "insurance": ["currency", "timestamp"],
    **{table: ["id"] for table in ("announcement", "chat", "publicNotifications")},
}

# Section 2.3: acks of these say which book they show. Section 2.8: these take no symbol.
BOOK_TABLES = frozenset({"orderBookL2", "orderBookL2_25", "orderBookL2_100", "orderBook10", "quote"})
POOL_TABLES = BOOK_TABLES | {"trade", *BIN_TABLES, *QUOTE_BIN_TABLES}
NO_SYMBOL_TABLES = frozenset({"connected", "insurance", "announcement", "chat", "publicNotifications"})
# Section 1: since 2023 these are told on a socket of their own, where there is little else.
PLATFORM_ONLY = frozenset({"announcement", "chat", "publicNotifications"})
PLATFORM_TABLES = PLATFORM_ONLY | {"connected", "privateNotifications"}
PRIVATE_TABLES = (
    "account", "affiliate", "execution", "margin", "order", "position", "privateNotifications", "transact",
    "wallet",
)  # fmt: skip
POOL = "Primary"


iso = lru_cache(maxsize=4096)(iso_text)  # the same moment stands in many rows


_quoted = json.encoder.encode_basestring_ascii
_AS_PYTHON = frozenset({str, int, bool, type(None)})  # types that JSON spells alike everywhere


def java_double(value: float) -> str:
    """Return a float as ``Double.toString`` of the exchange's backend prints it."""
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        return repr(value)
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    text = "".join(map(str, digits))
    power = int(exponent) + len(text) - 1
    return f"{'-' if sign else ''}{text[0]}.{text[1:] or '0'}E{power}"


_WORDS = {None: "null", True: "true", False: "false"}


def encode(value: Any) -> str:
    """Return JSON text without blanks, floats in the exchange's manner."""
    kind = type(value)
    if kind is dict:
        for item in value.values():
            if type(item) not in _AS_PYTHON and not (type(item) is float and 1e-3 <= item < 1e7):
                break
        else:
            return json_text(value)
        return "{" + ",".join([f"{_quoted(key)}:{encode(item)}" for key, item in value.items()]) + "}"
    if kind is str:
        return _quoted(value)
    if kind is float:
        return java_double(value) if isfinite(value) else "null"
    if kind is int:
        return str(value)
    if value is None or kind is bool:
        return _WORDS[value]
    return "[" + ",".join(map(encode, value)) + "]"


def delta(table: str, action: str, rows: Iterable[str]) -> str:
    """Return the text of an insert, update or delete; rows are texts."""
    return f'{{"table":"{table}","action":"{action}","data":[{",".join(rows)}]}}'


def partial(table: str, symbol: str | None, rows: Iterable[str]) -> str:
    """Return the text of the full image that opens a subscription; no symbol is an empty filter."""
    shape = {"keys": KEYS[table], "types": TYPES[table], "filter": {"symbol": symbol} if symbol else {}}
    return f'{{"table":"{table}","action":"partial",{encode(shape)[1:-1]},"data":[{",".join(rows)}]}}'


def welcome(now: int, remaining: int) -> str:
    """Return the first frame of a connection, in the form of 2025."""
    return encode(
        {
            "info": "Welcome to the BitMEX Realtime API.",
            "version": "2.0.0",
            "timestamp": iso(now),
            "docs": "https://www.bitmex.com/app/wsAPI",
            "heartbeatEnabled": False,
            "limit": {"remaining": remaining},
            "appName": "ws-feedhandler-dquant-simulator",
        }
    )


def ack(op: str, topic: str, request: Any) -> str:
    """Return the answer to one topic of a request; the request is repeated in full."""
    body: Row = {"success": True, op: topic, "request": request}
    if topic.partition(":")[0] in POOL_TABLES and op == "subscribe":
        body["pool"] = POOL
    return encode(body)


def error(status: int, message: str, request: Any, meta: Row | None = None) -> str:
    """Return an error frame of the websocket."""
    return encode({"status": status, "error": message, "meta": meta or {}, "request": request})
