"""cryptofeed; variants ``plain``, ``check`` (its checksum, if that release has one), ``redis`` (BookStream),
``check-redis`` (both).

Its own addresses are replaced by the load server's; one line of it insists on ``wss://`` and is told so.
"""

import asyncio
import dataclasses
import itertools

import cryptofeed.connection as cryptofeed_connection
import uvloop
from cryptofeed import FeedHandler, exchanges
from cryptofeed.backends.redis import BookStream
from cryptofeed.defines import L2_BOOK

from benchmarks.client import Session


def run(session: Session, variant: str) -> None:
    host = f"127.0.0.1:{session.port}"
    if session.stream.venue == "okx":
        feed_class, path = exchanges.OKX, "/ws/v5/public"
    else:
        feed_class, path = exchanges.Bitmex, "/realtime"
    _point(feed_class, host, f"ws://{host}{path}")
    index, tick = session.index, session.tick
    number = itertools.count()
    is_timed = session.stream.venue == "okx"  # its BitMEX books come without a time: one call a message

    async def book(book: object, _receipt: float) -> None:
        sides = book.book
        at = index(book.timestamp * 1000) if is_timed else next(number)
        tick(at, float(sides.bids.index(0)[0]), float(sides.asks.index(0)[0]))

    settings = {"checksum_validation": True} if variant.startswith("check") else {}
    callbacks = [book]
    if variant.endswith("redis"):
        callbacks.append(BookStream(host="127.0.0.1", port=session.options.redis_port, key="bench"))
    handler = FeedHandler(
        config={"uvloop": True, "log": {"filename": "", "level": "ERROR", "disabled": True}}
    )
    handler.add_feed(
        feed_class(symbols=["BTC-USD-PERP"], channels=[L2_BOOK], callbacks={L2_BOOK: callbacks}, **settings)
    )
    # cryptofeed 2 asks for "the" loop, which newer uvloops no longer make by themselves.
    asyncio.set_event_loop(uvloop.new_event_loop())
    handler.run()


def _point(feed_class: type, host: str, url: str) -> None:
    feed_class.rest_endpoints = [
        dataclasses.replace(endpoint, address=f"http://{host}") for endpoint in feed_class.rest_endpoints
    ]
    feed_class.websocket_endpoints = [
        dataclasses.replace(endpoint, address=f"wss://{host}") for endpoint in feed_class.websocket_endpoints
    ]
    connection_class = cryptofeed_connection.WSAsyncConn
    start = connection_class.__init__

    def start_plain(self: object, address: str, *args: object, **kwargs: object) -> None:
        start(self, address, *args, **kwargs)
        self.address = url

    connection_class.__init__ = start_plain
