"""What the simulated OKX remembers: candles and paid funding, by REST.

In: query, feed, virtual time. Out: rows as ``okex_rest`` answers them, newest first. Written from the fact
sheet, sections 5.10 and 7: ``after`` is older than the time given, ``before`` newer; past what is kept comes
an empty list. One day is kept, so the longest bar is four hours.
"""

from collections.abc import Mapping
from random import Random
from typing import Any

from dquant.simulator import okex_data as data
from dquant.simulator.bars import MINUTE_NS
from dquant.simulator.flow import FlowMarket
from dquant.simulator.okex_instruments import Listing
from dquant.simulator.units import ms_text

_HOUR_NS = 60 * MINUTE_NS
_FUNDING_NS = 8 * _HOUR_NS
_FUNDINGS = 270  # three months
BARS = {
    **{f"{count}m": count * MINUTE_NS for count in (1, 3, 5, 15, 30)},
    **{f"{count}H": count * _HOUR_NS for count in (1, 2, 4)},
}


def candles(
    listing: Listing, market: FlowMarket, query: Mapping[str, str], limit: int, now_ns: int
) -> list[list[str]] | None:
    """Return the candles asked for; None where there are no bars of that size."""
    size_ns = BARS.get(query.get("bar", "") or "1m")
    if size_ns is None:
        return None
    rows = [
        data.candle(listing, market, bar, bar.start + size_ns <= now_ns)
        for bar in market.day.bars.bars(now_ns, size_ns)
    ]
    return _page(rows[::-1], [int(row[0]) for row in rows[::-1]], query, limit)


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


def _page(rows: list[Any], times_ms: list[int], query: Mapping[str, str], limit: int) -> list[Any]:
    """Return one page of rows that are newest first."""
    older_than = _ms(query, "after", 10**18)
    newer_than = _ms(query, "before", -1)
    chosen = [row for row, time in zip(rows, times_ms, strict=True) if newer_than < time < older_than]
    return chosen[:limit]


def _ms(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 18 else default
