"""What the simulated OKX remembers: candles and paid funding, by REST.

In: query, feed, virtual time. Out: rows as ``okex_rest`` answers them, newest first. Written from the fact
sheet, sections 5.10 and 7: ``after`` is older than the time given, ``before`` newer; past what is kept comes
an empty list. Bars from six hours on open at UTC+8, with ``utc`` after their name at UTC. One day is kept, so
that of a longer bar there is the unfinished one alone, with what is kept of it.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from random import Random
from typing import Any

from dquant.constants import NS_PER_S
from dquant.simulator import okex_data as data
from dquant.simulator.bars import MINUTE_NS
from dquant.simulator.flow import FlowMarket
from dquant.simulator.okex_instruments import Listing
from dquant.simulator.units import ms_text

_HOUR_NS = 60 * MINUTE_NS
_FUNDING_NS = 8 * _HOUR_NS
_FUNDINGS = 270  # three months
_DAY_NS, _WEEK_NS = 24 * _HOUR_NS, 7 * 24 * _HOUR_NS
_MONDAY_NS = 4 * _DAY_NS  # 1970-01-05
_EAST_NS = 8 * _HOUR_NS
# Bar: its size, and when one of them began; UTC.
BARS = {
    **{f"{count}m": (count * MINUTE_NS, 0) for count in (1, 3, 5, 15, 30)},
    **{f"{count}H": (count * _HOUR_NS, 0) for count in (1, 2, 4)},
}
for _suffix, _shift_ns in (("", _EAST_NS), ("utc", 0)):
    BARS |= {f"{count}H{_suffix}": (count * _HOUR_NS, -_shift_ns) for count in (6, 12)}
    BARS |= {f"{count}D{_suffix}": (count * _DAY_NS, -_shift_ns) for count in (1, 2, 3)}
    BARS[f"1W{_suffix}"] = _WEEK_NS, _MONDAY_NS - _shift_ns
_MONTHS = {f"{count}M{suffix}": count for count in (1, 3) for suffix in ("", "utc")}
BAR_NAMES = frozenset({*BARS, *_MONTHS})


def candles(
    listing: Listing, market: FlowMarket, query: Mapping[str, str], limit: int, now_ns: int
) -> list[list[str]] | None:
    """Return the candles asked for; None where there are no bars of that size."""
    name = query.get("bar", "") or "1m"
    if name not in BAR_NAMES:
        return None
    size_ns, origin_ns = BARS.get(name) or _months(name, now_ns)
    rows = [
        data.candle(listing, market, bar, bar.start + size_ns <= now_ns)
        for bar in market.day.bars.bars(now_ns, size_ns, origin_ns)
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


def trades(rows: list[dict[str, Any]], query: Mapping[str, str], limit: int) -> list[dict[str, Any]] | None:
    """Return a page of trades, newest first, by tradeId or (``type`` 2) time; None for another type."""
    key = {"": "tradeId", "1": "tradeId", "2": "ts"}.get(query.get("type", ""))
    return None if key is None else page(rows, key, query, limit)


def page(rows: list[dict[str, Any]], key: str, query: Mapping[str, str], limit: int) -> list[dict[str, Any]]:
    """Return one page of rows that are newest first, by a number each has."""
    return _page(rows, [int(row[key]) for row in rows], query, limit)


def _months(name: str, now_ns: int) -> tuple[int, int]:
    """Return size and beginning of the bar of months that is open."""
    shift_ns, count = 0 if name.endswith("utc") else _EAST_NS, _MONTHS[name]
    now = datetime.fromtimestamp((now_ns + shift_ns) // NS_PER_S, UTC)
    month = now.year * 12 + (now.month - 1) // count * count
    first, last = (datetime(at // 12, at % 12 + 1, 1, tzinfo=UTC) for at in (month, month + count))
    start_ns = int(first.timestamp()) * NS_PER_S - shift_ns
    return int(last.timestamp()) * NS_PER_S - shift_ns - start_ns, start_ns


def _page(rows: list[Any], times_ms: list[int], query: Mapping[str, str], limit: int) -> list[Any]:
    """Return one page of rows that are newest first."""
    older_than = _ms(query, "after", 10**18)
    newer_than = _ms(query, "before", -1)
    chosen = [row for row, time in zip(rows, times_ms, strict=True) if newer_than < time < older_than]
    return chosen[:limit]


def _ms(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 18 else default
