"""ccxt's websocket side: ``watch_order_book`` in a loop, as its manual shows.

It hands over one state per wake-up: what it skips is counted as lost.
"""

import uvloop
from ccxt import pro

from benchmarks.client import Session


def run(session: Session, variant: str) -> None:
    uvloop.run(_run(session))


async def _run(session: Session) -> None:
    host = f"127.0.0.1:{session.port}"
    if session.stream.venue == "okx":
        exchange = pro.okx({"options": {"fetchMarkets": {"types": ["swap"]}}})
        exchange.urls["api"]["rest"] = f"http://{host}"
        exchange.urls["api"]["ws"] = f"ws://{host}/ws/v5"
    else:
        exchange = pro.bitmex({})
        exchange.urls["api"]["public"] = f"http://{host}"
        exchange.urls["api"]["ws"] = f"ws://{host}/realtime"
    index, tick = session.index, session.tick
    while True:
        book = await exchange.watch_order_book("BTC/USD:BTC")
        tick(index(book["timestamp"]), book["bids"][0][0], book["asks"][0][0])
