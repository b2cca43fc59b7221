"""``tradeBin`` and ``quoteBin`` tables of the simulated BitMEX: bars that are told when they are over.

In: a market with its minute bars, virtual time. Out: rows. Written from the fact sheet, sections 2.8 and 3.4:
the timestamp is the end of the bar; there is no key, bars are inserted. A bar of quotes is the last quote in
it; before the start, and where the clock leapt, it stands beside the bar's last price.
"""

from datetime import datetime
from typing import TYPE_CHECKING

from dquant.constants import NS_PER_S
from dquant.simulator.bars import DAY_NS, HOUR_NS, MINUTE_NS, Bar, Period
from dquant.simulator.bitmex_tables import BIN_TABLES, POOL, QUOTE_BIN_TABLES, Row

if TYPE_CHECKING:
    from dquant.simulator.bitmex_market import BitmexMarket

BINS = {"1m": MINUTE_NS, "5m": 5 * MINUTE_NS, "1h": HOUR_NS, "1d": DAY_NS}
SIZES = {
    table: size_ns
    for names in (BIN_TABLES, QUOTE_BIN_TABLES)
    for table, size_ns in zip(names, BINS.values(), strict=True)
}


def ended(before_ns: int, now_ns: int) -> list[str]:
    """Return the tables of which a bar ended between two moments."""
    return [table for table, size_ns in SIZES.items() if before_ns // size_ns != now_ns // size_ns]


def last_bar(market: "BitmexMarket", table: str, now_ns: int) -> list[Row]:
    """Return the newest bar that is over; none where no whole one is kept."""
    size_ns = SIZES[table]
    since_ns = now_ns - now_ns % size_ns - size_ns
    over = [bar for bar in bars(market, size_ns, now_ns, since_ns) if bar.start + size_ns <= now_ns]
    read = market.quote_bucket if table in QUOTE_BIN_TABLES else market.bucket
    return [{**read(bar, bar.start + size_ns), "pool": POOL} for bar in over[-1:]]


def bars(market: "BitmexMarket", size_ns: int, now_ns: int, since_ns: int = 0) -> list[Bar]:
    """Return the bars of a contract since it was listed, oldest first, the unfinished one last."""
    listing = datetime.fromisoformat(market.contract.fixed["listing"])
    listed_ns = int(listing.timestamp()) * NS_PER_S
    period = Period(size_ns)
    return market.market.day.bars.bars(now_ns, period, max(since_ns, period.start(listed_ns)))
