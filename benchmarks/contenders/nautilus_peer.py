"""nautilus_trader's data client: its Rust websocket client and its book, without the engine around them."""

import asyncio

import uvloop
from nautilus_trader.core import nautilus_pyo3 as pyo3
from nautilus_trader.model.book import OrderBook
from nautilus_trader.model.data import capsule_to_data
from nautilus_trader.model.enums import BookType
from nautilus_trader.model.identifiers import InstrumentId

from benchmarks.client import Session


def run(session: Session, variant: str) -> None:
    uvloop.run(_run(session))


async def _run(session: Session) -> None:
    host = f"127.0.0.1:{session.port}"
    # It insists on keys even for public data; nobody reads these.
    http = pyo3.OKXHttpClient("none", "none", "none", base_url=f"http://{host}")
    instruments, _ = await http.request_instruments(pyo3.OKXInstrumentType.SWAP)
    book = OrderBook(InstrumentId.from_str("BTC-USD-SWAP.OKX"), BookType.L2_MBP)
    index, tick = session.index, session.tick

    def receive(message: object) -> None:
        # What OKXDataClient._handle_msg does with a book message, and then the book itself.
        if not pyo3.is_pycapsule(message):
            return
        deltas = capsule_to_data(message)
        book.apply(deltas)
        tick(index(deltas.ts_event / 1e6), float(book.best_bid_price()), float(book.best_ask_price()))

    client = pyo3.OKXWebSocketClient(url=f"ws://{host}/ws/v5/public", heartbeat=20)
    await client.connect(loop_=asyncio.get_running_loop(), instruments=instruments, callback=receive)
    await client.wait_until_active(timeout_secs=30.0)
    await client.subscribe_book_with_depth(pyo3.InstrumentId.from_str("BTC-USD-SWAP.OKX"), 0)
    await asyncio.Event().wait()
