"""Broken deltas of a BitMEX book: what a one-shot fault makes of the frames of one change.

In: the board, the rows by action and the frames that would be sent. Out: the frames that are sent. Which
faults there are is in ``faults`` and the docstring of ``bitmex_server``.
"""

from dquant.simulator import bitmex_tables as tables
from dquant.simulator.bitmex_books import SIDES
from dquant.simulator.bitmex_market import BitmexMarket
from dquant.simulator.bitmex_tables import Row
from dquant.simulator.faults import FaultBoard
from dquant.simulator.flow_book import BID


def spoil_levels(
    faults: FaultBoard,
    table: str,
    market: BitmexMarket,
    ts: int,
    rows: dict[str, list[str]],
    frames: list[str],
) -> list[str]:
    """Return the frames of one change as the faults that wait for this book want them."""
    take, symbol = faults.take, market.symbol
    if "delete" in rows and take("sized_delete", symbol):
        sized = [text.replace('"price":', '"size":100,"price":', 1) for text in rows["delete"]]
        frames[0] = tables.delta(table, "delete", sized)
    if take("duplicate", symbol):
        frames = frames * 2
    if take("idle", symbol):
        frames.append(tables.delta(table, "update", []))
    ask = market.book.best()[1]
    if ask is not None and take("crossed", symbol):
        ghost = _ghost(market, ask + 5, ts, 100 * market.contract.lot)
        frames.append(tables.delta(table, "insert", [ghost]))
    if ask is not None and take("unknown", symbol):
        ghost = _ghost(market, ask + 3, ts, market.contract.lot)
        gone = _ghost(market, ask + 3, ts, None)
        frames += [tables.delta(table, "update", [ghost]), tables.delta(table, "delete", [gone])]
    return frames


def _ghost(market: BitmexMarket, tick: int, ts: int, size: int | None) -> str:
    """Return the row of a bid that does not exist."""
    row: Row = {"symbol": market.symbol, "id": market.numbers.level_id(), "side": SIDES[BID]}
    if size is not None:
        row["size"] = size
    row |= {"price": market.market.tick.number(tick), "pool": tables.POOL}
    row |= {"timestamp": tables.iso(ts), "transactTime": tables.iso(ts)}
    return tables.encode(row)
