"""What the simulated OKX remembers: candles and paid funding, by REST.

In: query, feed, virtual time. Out: rows as ``okex_rest`` answers them, newest first. Written from the fact
sheet, sections 5.10 and 7: ``after`` is older than the time given, ``before`` newer; past what is kept, or
before a contract was listed, comes an empty list.
"""

from collections.abc import Mapping
from random import Random
from typing import Any, TypeVar

from dquant.constants import NS_PER_MS
from dquant.simulator import okex_data as data
from dquant.simulator.bars import HOUR_NS
from dquant.simulator.flow import FlowMarket
from dquant.simulator.okex_bars import BARS
from dquant.simulator.okex_instruments import Listing
from dquant.simulator.units import ms_text

_FUNDING_NS = 8 * HOUR_NS
_FUNDINGS = 270  # three months

T = TypeVar("T")


def candles(
    listing: Listing, market: FlowMarket, query: Mapping[str, str], limit: int, now_ns: int
) -> list[list[str]] | None:
    """Return the candles asked for; None where there are no bars of that size."""
    period = BARS.get(query.get("bar", "") or "1m")
    if period is None:
        return None
    bars = market.day.bars.bars(now_ns, period, period.start(listing.listed_ns))[::-1]
    chosen = _page(bars, [bar.start // NS_PER_MS for bar in bars], query, limit)
    return [data.candle(listing, market, bar, period.after(bar.start) <= now_ns) for bar in chosen]


def newest_candles(listing: Listing, market: FlowMarket, name: str, now_ns: int) -> list[list[str]]:
    """Return the open candle of these bars and the one before it, if there was one."""
    period = BARS[name]
    since_ns = period.start(max(period.start(now_ns) - 1, listing.listed_ns))
    bars = market.day.bars.bars(now_ns, period, since_ns)[::-1]
    return [data.candle(listing, market, bar, period.after(bar.start) <= now_ns) for bar in bars]


def fundings(
    listing: Listing, market: FlowMarket, query: Mapping[str, str], limit: int
) -> list[dict[str, Any]]:
    """Return what was paid; the newest is true, what was before is invented."""
    funding = market.funding
    if funding is None:
        return []
    rows = []
    for back in range(_FUNDINGS):
        time_ns = funding.prev_time - back * _FUNDING_NS
        rate = funding.settled_rate
        if back:
            rng = Random(f"{market.symbol}/{time_ns}")
            rate = max(0.0, rng.gauss(1.0, 0.4)) * 1e-4
        rows.append(
            {
                "formulaType": "withRate",
                "fundingRate": f"{rate:.16f}",
                "fundingTime": ms_text(time_ns),
                "instId": listing.inst_id,
                "instType": listing.inst_type,
                "method": "current_period",
                "realizedRate": f"{rate:.16f}",
            }
        )
    return _page(rows, [int(row["fundingTime"]) for row in rows], query, limit)


def trades(rows: list[dict[str, Any]], query: Mapping[str, str], limit: int) -> list[dict[str, Any]] | None:
    """Return a page of trades, newest first, by tradeId or (``type`` 2) time; None for another type."""
    key = {"": "tradeId", "1": "tradeId", "2": "ts"}.get(query.get("type", ""))
    return None if key is None else page(rows, key, query, limit)


def page(rows: list[dict[str, Any]], key: str, query: Mapping[str, str], limit: int) -> list[dict[str, Any]]:
    """Return one page of rows that are newest first, by a number each has."""
    return _page(rows, [int(row[key]) for row in rows], query, limit)


def _page(rows: list[T], times_ms: list[int], query: Mapping[str, str], limit: int) -> list[T]:
    """Return one page of rows that are newest first."""
    older_than = _ms(query, "after", 10**18)
    newer_than = _ms(query, "before", -1)
    chosen = [row for row, time in zip(rows, times_ms, strict=True) if newer_than < time < older_than]
    return chosen[:limit]


def _ms(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 18 else default
