"""cryptofeed on public market data, its own checks of sequence and of crossed books on.

It insists on ``wss://`` in its list of addresses, so its hook for addresses that carry a login gives it the
other one. It runs until every channel has said enough, then says what it saw.
"""

import asyncio
import dataclasses
import importlib.metadata
import time
from typing import Any

import cryptofeed.exchanges
from cryptofeed import FeedHandler
from cryptofeed.defines import FUNDING, L2_BOOK, TICKER, TRADES
from report import WHERE, tell

ENOUGH = {L2_BOOK: 60, TRADES: 5, TICKER: 20, FUNDING: 1}
DEADLINE_S = 25.0

base: Any = cryptofeed.exchanges.OKX if WHERE["venue"] == "okex" else cryptofeed.exchanges.Bitmex
connections = 0


class SimulatedFeed(base):  # type: ignore[misc]
    """The venue's own feed class, elsewhere."""

    websocket_endpoints = (dataclasses.replace(base.websocket_endpoints[0], authentication=True),)
    rest_endpoints = (dataclasses.replace(base.rest_endpoints[0], address=WHERE["rest"]),)

    async def _ws_authentication(self, _address: str, options: Any) -> tuple[str, Any]:
        global connections
        connections += 1
        return WHERE["ws"] + ("/public" if WHERE["venue"] == "okex" else ""), options


counts = dict.fromkeys(ENOUGH, 0)
crossed = 0
ends = time.monotonic() + DEADLINE_S


def count(channel: str, row: Any) -> None:
    """Count one callback, say the first few, and stop when all have said enough."""
    counts[channel] += 1
    if counts[channel] <= 3:
        tell(channel, row)
    is_done = all(counts[name] >= ENOUGH[name] for name in ENOUGH)
    if is_done or time.monotonic() > ends:
        asyncio.get_running_loop().stop()


async def on_book(book: Any, _receipt: float) -> None:
    global crossed
    bid, ask = book.book.bids.index(0)[0], book.book.asks.index(0)[0]
    crossed += bid >= ask
    levels = [len(book.book.bids), len(book.book.asks)]
    count(L2_BOOK, {"symbol": book.symbol, "bid": bid, "ask": ask, "levels": levels})


async def on_row(row: Any, _receipt: float) -> None:
    channel = {"Trade": TRADES, "Ticker": TICKER, "Funding": FUNDING}[type(row).__name__]
    count(channel, row.to_dict(numeric_type=str))


handler = FeedHandler(config={"uvloop": False, "log": {"filename": "", "level": "ERROR", "disabled": True}})
handler.add_feed(
    SimulatedFeed(
        cross_check=True,
        symbols=["BTC-USD-PERP"],
        channels=[L2_BOOK, TRADES, TICKER, FUNDING],
        callbacks={L2_BOOK: on_book, TRADES: on_row, TICKER: on_row, FUNDING: on_row},
    )
)
tell("version", importlib.metadata.version("cryptofeed"))
asyncio.set_event_loop(asyncio.new_event_loop())
handler.run()
tell("counts", counts)
tell("crossed", crossed)
tell("connections", connections)
