"""ccxt's websocket side on public market data: a number of states of each stream."""

import asyncio
import json
import urllib.request
from collections.abc import Awaitable, Callable
from typing import Any

from ccxt import pro
from ccxt_client import SYMBOL, exchange
from report import WHERE, refuse, tell

STATES = WHERE.get("states", 30)
TENTH_NS = 100_000_000


async def watch(call: str, states: int, method: Callable[..., Awaitable[Any]], *args: Any) -> None:
    """Say what the first ``states`` answers of one stream were."""
    try:
        for _ in range(states):
            tell(call, thin(await asyncio.wait_for(method(*args), 20)))
    except Exception as exc:
        refuse(call, exc)


def thin(value: Any) -> Any:
    """Return an order book as its first levels, anything else as it is."""
    if isinstance(value, dict) and "bids" in value and "asks" in value:
        return {
            "bids": [list(row)[:2] for row in value["bids"][:5]],
            "asks": [list(row)[:2] for row in value["asks"][:5]],
            "levels": [len(value["bids"]), len(value["asks"])],
            "timestamp": value["timestamp"],
        }
    return value


def move_clock(**how: Any) -> int:
    """Have the venue's clock moved or stopped; return its time, ns."""
    request = urllib.request.Request(WHERE["control"] + "/clock", json.dumps(how).encode())
    with urllib.request.urlopen(request, timeout=10) as answer:
        return int(json.load(answer)["now_ns"])


def levels(book: Any) -> dict[str, list[list[float]]]:
    return {side: [list(row)[:2] for row in book[side][:300]] for side in ("bids", "asks")}


async def compare(client: Any) -> None:
    """Say what the book came to by its updates, and what it is, while nothing happens."""
    now = move_clock(speed=0)
    try:
        # OKX tells of its books at every tenth of a second.
        move_clock(set=now - now % TENTH_NS + TENTH_NS)
        kept, before = levels(client.orderbooks[SYMBOL]), None
        while kept != before:  # what was under way is still coming
            await asyncio.sleep(0.4)
            kept, before = levels(client.orderbooks[SYMBOL]), kept
        tell("book_kept", kept)
        tell("book_fetched", levels(await client.fetch_order_book(SYMBOL, 300)))
    finally:
        move_clock(speed=1)


async def run() -> None:
    client = exchange(pro)
    # Two channels of one book on one client overwrite each other in ccxt's cache.
    other = exchange(pro)
    try:
        await client.load_markets()
        streams = [
            watch("watch_order_book", STATES, client.watch_order_book, SYMBOL),
            watch("watch_ticker", 3, client.watch_ticker, SYMBOL),
            watch("watch_trades", 3, client.watch_trades, SYMBOL),
        ]
        if WHERE["venue"] == "okex":
            streams += [
                watch("watch_order_book_top", STATES, other.watch_order_book, SYMBOL, 1),
                watch("watch_ohlcv", 2, client.watch_ohlcv, SYMBOL, "1m"),
                watch("watch_mark_price", 2, client.watch_mark_price, SYMBOL),
                watch("watch_funding_rate", 1, client.watch_funding_rate, SYMBOL),
                watch("watch_bids_asks", 3, client.watch_bids_asks, [SYMBOL]),
            ]
        await asyncio.gather(*streams)
        await compare(client)
    finally:
        await client.close()
        await other.close()


asyncio.run(run())
