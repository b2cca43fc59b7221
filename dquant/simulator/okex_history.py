"""What the simulated OKX remembers: trades and paid funding, by REST.

In: query, feed, virtual time. Out: rows as ``okex_rest`` answers them, newest first. Written from the fact
sheet, section 7: ``after`` is older than the id or time given, ``before`` newer; past what is kept comes an
empty list.
"""

from collections.abc import Mapping
from random import Random
from typing import Any, TypeVar

from dquant.simulator.bars import HOUR_NS
from dquant.simulator.flow import FlowMarket
from dquant.simulator.okex_instruments import Listing
from dquant.simulator.units import ms_text

_FUNDING_NS = 8 * HOUR_NS
_FUNDINGS = 270  # three months

T = TypeVar("T")


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
    return page_by(rows, [int(row["fundingTime"]) for row in rows], query, limit)


def trades(rows: list[dict[str, Any]], query: Mapping[str, str], limit: int) -> list[dict[str, Any]] | None:
    """Return a page of trades, newest first, by tradeId or (``type`` 2) time; None for another type."""
    key = {"": "tradeId", "1": "tradeId", "2": "ts"}.get(query.get("type", ""))
    return None if key is None else page(rows, key, query, limit)


def page(rows: list[dict[str, Any]], key: str, query: Mapping[str, str], limit: int) -> list[dict[str, Any]]:
    """Return one page of rows that are newest first, by a number each has."""
    return page_by(rows, [int(row[key]) for row in rows], query, limit)


def page_by(rows: list[T], numbers: list[int], query: Mapping[str, str], limit: int) -> list[T]:
    """Return one page of rows that are newest first, by their numbers or times, ms."""
    older_than = _ms(query, "after", 10**18)
    newer_than = _ms(query, "before", -1)
    chosen = [row for row, number in zip(rows, numbers, strict=True) if newer_than < number < older_than]
    return chosen[:limit]


def _ms(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 18 else default
