"""At what prices the simulated OKX delivered and settled, and the tables of position tiers and underlyings.

In: deliveries and daily settlements as the engine asks for their prices, queries. Out: rows of the
public endpoints of section 7 that concern them. Only what happened since the start is known; the newest
``_KEPT`` of each stay.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from dquant.constants import NS_PER_S
from dquant.simulator.flow import Flow
from dquant.simulator.okex_contracts import maintenance_rate
from dquant.simulator.okex_instruments import Listing
from dquant.simulator.okex_orders import decimal_text
from dquant.simulator.units import fixed, ms_text

_KEPT = 1_000
_DAY_NS, _SETTLED_NS = 86_400 * NS_PER_S, 8 * 3600 * NS_PER_S
_HOUR_NS = 3600 * NS_PER_S

Row = dict[str, Any]


class Settlements:
    """What contracts ended and settled at.

    Args:
        flow: Where the indices are.

    """

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._delivered: dict[str, tuple[int, Listing, str]] = {}
        self._settled: dict[int, dict[str, tuple[Listing, str]]] = {}  # by time, by instrument

    def deliver(self, listing: Listing) -> str:
        """Return what a contract is delivered at: the index when it is first asked."""
        known = self._delivered.get(listing.inst_id)
        if known is None:
            price = fixed(self._flow.index(listing.coin, listing.spec.quote), 4)
            at_ns = self._flow.now_ns if listing.expiry_ns is None else listing.expiry_ns
            known = self._delivered[listing.inst_id] = (at_ns, listing, price)
            while len(self._delivered) > _KEPT:
                del self._delivered[next(iter(self._delivered))]
        return known[2]

    def settle(self, listing: Listing, mark: float, now_ns: int) -> str:
        """Return what a contract is settled at today: the mark when it is first asked."""
        at_ns = (now_ns - _SETTLED_NS) // _DAY_NS * _DAY_NS + _SETTLED_NS
        today = self._settled.setdefault(at_ns, {})
        while len(self._settled) > _KEPT:
            del self._settled[next(iter(self._settled))]
        known = today.get(listing.inst_id)
        if known is None:
            known = today[listing.inst_id] = (listing, fixed(mark, 4))
        return known[1]

    def delivery_rows(self, inst_type: str, family: str) -> list[Row]:
        """Return deliveries, newest first; the venue writes ``insId`` here."""
        by_time: dict[int, list[Row]] = {}
        for at_ns, listing, price in self._delivered.values():
            if listing.inst_type == inst_type and listing.family == family:
                row = {"insId": listing.inst_id, "px": price, "type": "delivery"}
                by_time.setdefault(at_ns, []).append(row)
        return [{"ts": ms_text(at_ns), "details": by_time[at_ns]} for at_ns in sorted(by_time, reverse=True)]

    def settlement_rows(self, family: str) -> list[Row]:
        """Return daily settlements, newest first."""
        rows = []
        for at_ns, settled in reversed(self._settled.items()):
            details = [
                {"instId": listing.inst_id, "settlePx": price}
                for listing, price in settled.values()
                if listing.family == family
            ]
            if details:
                rows.append({"details": details, "ts": ms_text(at_ns)})
        return rows


def next_settlement(listing: Listing, mark: float, now_ns: int) -> list[Row]:
    """Return the estimate of the next daily settlement: in the last hour before it alone."""
    at_ns = now_ns - (now_ns - _SETTLED_NS) % _DAY_NS + _DAY_NS
    if not listing.row["futureSettlement"] or at_ns - now_ns > _HOUR_NS:
        return []
    row = {"estSettlePx": fixed(mark, 4), "instId": listing.inst_id, "nextSettleTime": ms_text(at_ns)}
    return [{**row, "ts": ms_text(now_ns)}]


def tier_rows(listings: Iterable[Listing]) -> list[Row]:
    """Return the position tiers of these instruments: the simulated venue has one tier each."""
    rows, seen = [], set()
    for listing in listings:
        is_spot = listing.inst_type == "SPOT"
        name = listing.inst_id if is_spot else listing.family
        if (listing.inst_type, name) in seen:
            continue
        seen.add((listing.inst_type, name))
        row = listing.row
        rows.append(
            {
                "baseMaxLoan": "",
                "imr": decimal_text(1 / Decimal(row["lever"]), 6),
                "instFamily": listing.family,
                "instId": listing.inst_id if is_spot else "",
                "maxLever": row["lever"],
                "maxSz": row["maxLmtSz"],
                "minSz": "0",
                "mmr": decimal_text(maintenance_rate(listing.inst_type)),
                "optMgnFactor": "0",
                "quoteMaxLoan": "",
                "tier": "1",
                "uly": listing.underlying,
            }
        )
    return rows
