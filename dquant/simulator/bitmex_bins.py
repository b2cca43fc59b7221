"""``tradeBin`` and ``quoteBin`` tables of the simulated BitMEX: bars that are told when they are over.

In: a market with its minute bars, virtual time. Out: rows. Written from the fact sheet, sections 2.8 and 3.4:
the timestamp is the end of the bar; there is no key, bars are inserted. A bar of quotes is the last quote in
it; before the start, and where the clock leapt, it stands beside the bar's last price.
"""

from typing import TYPE_CHECKING

from dquant.simulator.bars import MINUTE_NS
from dquant.simulator.bitmex_tables import BIN_TABLES, POOL, QUOTE_BIN_TABLES, Row

if TYPE_CHECKING:
    from dquant.simulator.bitmex_market import BitmexMarket

_SIZES = (MINUTE_NS, 5 * MINUTE_NS, 60 * MINUTE_NS, 1440 * MINUTE_NS)
SIZES = dict(zip(BIN_TABLES, _SIZES, strict=True)) | dict(zip(QUOTE_BIN_TABLES, _SIZES, strict=True))


def ended(before_ns: int, now_ns: int) -> list[str]:
    """Return the tables of which a bar ended between two moments."""
    return [table for table, size_ns in SIZES.items() if before_ns // size_ns != now_ns // size_ns]


def last_bar(market: "BitmexMarket", table: str, now_ns: int) -> list[Row]:
    """Return the newest bar that is over; none where no whole one is kept."""
    size_ns = SIZES[table]
    over = [bar for bar in market.market.day.bars.bars(now_ns, size_ns) if bar.start + size_ns <= now_ns]
    read = market.quote_bucket if table in QUOTE_BIN_TABLES else market.bucket
    return [{**read(bar, bar.start + size_ns), "pool": POOL} for bar in over[-1:]]
