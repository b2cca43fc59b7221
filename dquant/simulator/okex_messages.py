"""The text frames that the simulated OKX sends: acks, errors and channel pushes.

Pure functions from facts to text, written from the fact sheet, sections 2 to 5. Books are most of the
traffic and are put together by hand; everything else goes through ``json``.
"""

import json
from collections.abc import Iterable
from itertools import islice, zip_longest
from typing import Any
from zlib import crc32

from dquant.simulator.okex_bars import BARS
from dquant.simulator.units import Step

# Channels by URL, fact sheet section 1. The two deep ones need a login and a fee tier.
BOOK_CHANNELS = frozenset({"books", "books5", "bbo-tbt"})
TIER_CHANNELS = frozenset({"books-l2-tbt", "books50-l2-tbt"})
MARKET_CHANNELS = BOOK_CHANNELS | {"tickers", "trades", "mark-price", "price-limit"}
DERIVATIVE_CHANNELS = frozenset({"open-interest"})
FUNDING_CHANNELS = frozenset({"funding-rate"})
INSTRUMENT_CHANNELS = MARKET_CHANNELS | DERIVATIVE_CHANNELS | FUNDING_CHANNELS
TYPE_CHANNELS = frozenset({"instruments", "estimated-price"})
PUBLIC_CHANNELS = INSTRUMENT_CHANNELS | TIER_CHANNELS | TYPE_CHANNELS | {"index-tickers", "status"}
# Candle channel: what it is of, and its bar.
CANDLES = {
    f"{prefix}candle{bar}": (kind, bar)
    for prefix, kind in (("", "trade"), ("mark-price-", "mark"), ("index-", "index"))
    for bar in BARS
}
CANDLE_CHANNELS = frozenset(CANDLES)
INDEX_CHANNELS = frozenset({"index-tickers", *(f"index-candle{bar}" for bar in BARS)})
# Nobody has algo orders here: who asks for them after a login is listened to, and hears of none.
ALGO_CHANNELS = frozenset({"orders-algo", "algo-advance"})
BUSINESS_CHANNELS = CANDLE_CHANNELS | ALGO_CHANNELS | {"trades-all"}
PRIVATE_CHANNELS = frozenset(
    {
        "orders",
        "fills",
        "account",
        "positions",
        "balance_and_position",
        "account-greeks",
        "liquidation-warning",
    }
)

ERRORS = {
    "60004": "Invalid timestamp",
    "60005": "Invalid apiKey",
    "60006": "Timestamp request expired",
    "60007": "Invalid sign",
    "60009": "Login failed.",
    "60011": "Please log in",
    "60013": "Invalid args",
    "60014": "Requests too frequent.",
    "60019": "Invalid op: {0}",
    "60024": "Wrong passphrase",
    "60027": "Parameter {0} can not be empty.",
    "60026": "Batch login by APIKey and token simultaneously is not supported.",
    "60028": "The current operation is not supported by this URL. "
    "Please use the correct URL for the operation.",
    "60031": "The WebSocket endpoint does not allow multiple or repeated logins.",
    "60032": "API key doesn't exist.",
    "60033": "Parameter {0} error",
    "63999": "Login failed due to internal error. Please try again later.",
    "64000": "Subscription parameter uly is unavailable anymore, please replace uly with instFamily.",
    "64001": 'This channel has been migrated to the "/business" URL. Please subscribe using the new URL.',
    "64002": 'This channel is not supported by "/business" URL. Please use "/private" channel(for private '
    'channels), or "/public" channel(for public channels).',
    "64003": "Your trading fee tier doesn't meet the requirement to access this channel",
    "64004": "Subscribe to both {0} and books-l2-tbt for {1} is not allowed. Unsubscribe books-l2-tbt first.",
    "64007": "Operation failed due to internal error. Please try again later.",
}
NOTICE_TEXT = "The connection will soon be closed for a service upgrade. Please reconnect."

Levels = dict[int, tuple[int, int]]
_CHECKED = 25  # levels a side
_encode = json.JSONEncoder(check_circular=False, separators=(",", ":")).encode


def dump(value: Any) -> str:
    """Return JSON as the venue writes it, without blanks; in ASCII, so that any echo can be sent."""
    return _encode(value)


def ack(event: str, arg: dict[str, Any], conn_id: str, request_id: str | None) -> str:
    """Return the ack of one element of a subscribe or unsubscribe."""
    frame: dict[str, Any] = {"event": event, "arg": arg, "connId": conn_id}
    return dump(frame if request_id is None else {"id": request_id, **frame})


def error(code: str, message: str, conn_id: str, request_id: str | None = None) -> str:
    """Return an error frame; it names no ``arg``, as the venue's do not."""
    frame = {"event": "error", "code": code, "msg": message, "connId": conn_id}
    return dump(frame if request_id is None else {"id": request_id, **frame})


def wrong_channel(arg: dict[str, Any]) -> str:
    """Return the words of 60018 for this arg."""
    names = ",".join(f"{key}:{value}" for key, value in arg.items() if key != "channel")
    channel = arg.get("channel")
    return (
        f"Subscribe failed, wrong URL or channel:{channel},{names} doesn't exist. "
        "Please use the correct URL, channel and parameters referring to API document."
    )


def notice(conn_id: str) -> str:
    """Return the notice that the connection ends soon."""
    return dump({"event": "notice", "code": "64008", "msg": NOTICE_TEXT, "connId": conn_id})


def push(arg: dict[str, Any], *data: dict[str, Any]) -> str:
    """Return a channel push."""
    return dump({"arg": arg, "data": data})


def level_rows(levels: Iterable[tuple[int, tuple[int, int]]], tick: Step, lot: Step) -> str:
    """Return book levels as JSON rows ``[price, size, "0", orders]``, in the order given."""
    price, size = tick.text, lot.text
    rows = [f'["{price(t)}","{size(lots)}","0","{orders}"]' for t, (lots, orders) in levels]
    return f"[{','.join(rows)}]"


def books_push(
    channel: str,
    inst_id: str,
    action: str,
    asks: str,
    bids: str,
    *,
    ts_ms: int,
    seq_id: int,
    prev_seq_id: int,
    checksum: int = 0,
) -> str:
    """Return one frame of an incremental book; sides are the text of ``level_rows``."""
    return (
        f'{{"arg":{{"channel":"{channel}","instId":"{inst_id}"}},"action":"{action}","data":[{{"asks":{asks},'
        f'"bids":{bids},"ts":"{ts_ms}","checksum":{checksum},"seqId":{seq_id},"prevSeqId":{prev_seq_id}}}]}}'
    )


def book_checksum(bids: Levels, asks: Levels, tick: Step, lot: Step) -> int:
    """Return the checksum that a book had until June 2026: CRC32 of its best 25 levels, signed."""
    sides = [
        [f"{tick.text(at)}:{lot.text(lots)}" for at, (lots, _orders) in islice(levels.items(), _CHECKED)]
        for levels in (bids, asks)
    ]
    text = ":".join(level for pair in zip_longest(*sides) for level in pair if level is not None)
    unsigned = crc32(text.encode())
    return unsigned - (1 << 32) if unsigned >> 31 else unsigned


def small_book_push(channel: str, inst_id: str, asks: str, bids: str, *, ts_ms: int, seq_id: int) -> str:
    """Return one frame of ``bbo-tbt`` or ``books5``: a whole picture, no action, no chain."""
    inst = f',"instId":"{inst_id}"' if channel == "books5" else ""
    return (
        f'{{"arg":{{"channel":"{channel}","instId":"{inst_id}"}},"data":[{{"asks":{asks},"bids":{bids}{inst},'
        f'"ts":"{ts_ms}","seqId":{seq_id}}}]}}'
    )
