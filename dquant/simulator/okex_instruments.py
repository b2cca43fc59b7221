"""What OKX lists at a given time: the six dated futures of each coin, swaps, spot, and the decoys.

In: virtual time. Out: ``Listing`` objects with state and alias, their REST rows, and the ``MarketSpec``
that makes ``flow`` trade them. Written from the fact sheet, section 6 (state of September 2026):
contracts expire Friday 08:00 UTC, their successors are listed at 08:10, and for the minutes between one
alias has no live contract.

Times are ns since the Unix epoch, virtual.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import Any

from dquant.constants import NS_PER_MS, NS_PER_S
from dquant.simulator.flow import MarketSpec
from dquant.simulator.units import ms_text

_DAY_NS = 86_400 * NS_PER_S
_EXPIRY_NS = 8 * 3600 * NS_PER_S  # into the Friday, UTC
_LISTING_DELAY_NS = 600 * NS_PER_S
_PREOPEN_NS = 300 * NS_PER_S  # before the listing
_EPOCH = date(1970, 1, 1)
ALIASES = ("this_week", "next_week", "this_month", "next_month", "quarter", "next_quarter")
# Happenings a second and levels a side of each alias: near and quarterly contracts are the busy ones.
_BUSY = {
    "this_week": (45.0, 520),
    "next_week": (20.0, 500),
    "this_month": (12.0, 480),
    "next_month": (8.0, 450),
    "quarter": (25.0, 520),
    "next_quarter": (6.0, 320),
}


def expiry_ns(day: date) -> int:
    """Return when a contract of this Friday expires."""
    return (day - _EPOCH).days * _DAY_NS + _EXPIRY_NS


def expiries_by_alias(now_ns: int) -> dict[str, date]:
    """Return the Friday of each alias: weeks first, then month and quarter ends not used already."""
    friday = _EPOCH + timedelta(days=now_ns // _DAY_NS)
    friday += timedelta(days=(4 - friday.weekday()) % 7)
    if expiry_ns(friday) <= now_ns:
        friday += timedelta(days=7)
    chosen = [friday, friday + timedelta(days=7)]
    for months in (range(1, 13), (3, 6, 9, 12)):
        day, found = friday, 0
        while found < 2:
            is_last = (day + timedelta(days=7)).month != day.month
            if is_last and day.month in months and day not in chosen:
                chosen.append(day)
                found += 1
            day += timedelta(days=7)
    return dict(zip(ALIASES, chosen, strict=True))


@lru_cache(maxsize=256)
def listed_ns(expiry: date) -> int:
    """Return when this Friday's contract was listed: ten minutes after the roll that first needed it."""
    roll = expiry - timedelta(days=7)
    while expiry in expiries_by_alias(expiry_ns(roll)).values():
        roll -= timedelta(days=7)
    return expiry_ns(roll + timedelta(days=7)) + _LISTING_DELAY_NS + 686 * NS_PER_MS


@dataclass(frozen=True, slots=True)
class Listing:
    """One instrument as it is listed at some time."""

    inst_id: str
    inst_type: str
    family: str
    underlying: str
    coin: str
    alias: str
    state: str  # preopen, live, expired
    listed_ns: int
    expiry_ns: int | None
    contract_value: float  # USD (inverse) or coin (linear) of one contract; 0: spot
    is_inverse: bool
    code: int
    spec: MarketSpec
    row: dict[str, Any]  # as REST lists it

    @property
    def index_id(self) -> str:
        """The name of the index that it follows."""
        return f"{self.coin}-{self.spec.quote}"

    @property
    def has_funding(self) -> bool:
        """Whether longs and shorts pay each other."""
        return self.spec.funding_hour is not None


_ROW: dict[str, Any] = {  # a dated inverse future as recorded in September 2026
    "alias": "",
    "auctionEndTime": "",
    "baseCcy": "",
    "category": "1",
    "contTdSwTime": "",
    "ctMult": "1",
    "ctType": "inverse",
    "ctVal": "100",
    "ctValCcy": "USD",
    "expTime": "",
    "floatPxLmtPct": "0.005",
    "freq": "",
    "futureSettlement": False,
    "groupId": "4",
    "initPxLmtPct": "0.02",
    "instCategory": "1",
    "instFamily": "",
    "instId": "",
    "instIdCode": 0,
    "instType": "",
    "lever": "100",
    "listTime": "",
    "longPosRemainingQuota": "",
    "lotSz": "0.1",
    "maxIcebergSz": "100000000.0000000000000000",
    "maxLmtAmt": "20000000",
    "maxLmtSz": "100000000",
    "maxMktAmt": "",
    "maxMktSz": "49000",
    "maxPlatOICoinLmt": "",
    "maxPlatOILmt": "",
    "maxPxLmtPct": "0.01",
    "maxStopSz": "49000",
    "maxTriggerSz": "100000000.0000000000000000",
    "maxTwapSz": "100000000.0000000000000000",
    "method": "",
    "minSz": "0.1",
    "openType": "call_auction",
    "optType": "",
    "posLmtAmt": "250000",
    "posLmtPct": "30",
    "preMktSwTime": "",
    "quoteCcy": "",
    "rpiMinLevel": "2",
    "rpiMinPxBand": "20",
    "ruleType": "normal",
    "seriesId": "",
    "settleCcy": "",
    "shortPosRemainingQuota": "",
    "state": "live",
    "stk": "",
    "tickSz": "0.1",
    "tradeQuoteCcyList": [],
    "uly": "",
    "upcChg": [],
}
_FUTURE_ROW = {
    "floatPxLmtPct": "0.01",
    "futureSettlement": True,
    "groupId": "5",
    "initPxLmtPct": "0.05",
    "lever": "20",
    "maxIcebergSz": "1000000.0000000000000000",
    "maxLmtSz": "1000000",
    "maxMktSz": "10000",
    "maxPxLmtPct": "0.05",
    "maxStopSz": "10000",
    "maxTriggerSz": "1000000.0000000000000000",
    "maxTwapSz": "1000000.0000000000000000",
    "openType": "",
    "posLmtAmt": "200000000",
    "posLmtPct": "25",
}
_LINEAR_ROW = {"ctType": "linear", "ctVal": "0.01", "ctValCcy": "BTC", "lotSz": "0.01", "minSz": "0.01"}
_DECOY_ROW = {**_FUTURE_ROW, **_LINEAR_ROW, "settleCcy": "USD", "futureSettlement": False}
_SPOT_ROW = {
    "baseCcy": "BTC",
    "ctMult": "",
    "ctType": "",
    "ctVal": "",
    "ctValCcy": "",
    "groupId": "12",
    "initPxLmtPct": "0.1",
    "lever": "10",
    "lotSz": "0.00000001",
    "maxIcebergSz": "9999999999.0000000000000000",
    "maxLmtAmt": "1000000",
    "maxLmtSz": "9999999999",
    "maxMktAmt": "1000000",
    "maxMktSz": "",
    "maxStopSz": "",
    "maxTriggerSz": "9999999999.0000000000000000",
    "maxTwapSz": "9999999999.0000000000000000",
    "minSz": "0.00001",
    "openType": "fix_price",
    "posLmtAmt": "",
    "posLmtPct": "",
    "quoteCcy": "USDT",
    "rpiMinLevel": "3",
    "tradeQuoteCcyList": ["USDT"],
}


def _listing(
    spec: MarketSpec, *, kind: str, family: tuple[str, str], code: int, listed: int, changes: dict[str, Any]
) -> Listing:
    """Put an instrument together; ``family`` is its instFamily and its underlying."""
    row = {
        **_ROW,
        **changes,
        "instId": spec.symbol,
        "instType": kind,
        "instFamily": family[0],
        "uly": family[1],
        "instIdCode": code,
        "listTime": ms_text(listed),
        "expTime": "" if spec.expiry_ns is None else ms_text(spec.expiry_ns),
        "tickSz": spec.tick,
        "lotSz": spec.lot,
    }
    return Listing(
        inst_id=spec.symbol,
        inst_type=kind,
        family=family[0],
        underlying=family[1],
        coin=spec.coin,
        alias=row["alias"],
        state=row["state"],
        listed_ns=listed,
        expiry_ns=spec.expiry_ns,
        contract_value=float(row["ctVal"] or 0),
        is_inverse=row["ctType"] == "inverse",
        code=code,
        spec=spec,
        row=row,
    )


def _perpetual_listings() -> list[Listing]:
    btc_usd = MarketSpec(
        "BTC-USD-SWAP",
        "BTC",
        "0.1",
        "0.1",
        depth=560,
        rate=70.0,
        size=1200.0,
        spacing=5,
        basis_bp=0.5,
        funding_hour=0,
    )
    eth_usd = MarketSpec(
        "ETH-USD-SWAP", "ETH", "0.01", "0.1", depth=480, rate=25.0, size=900.0, basis_bp=0.4, funding_hour=0
    )
    btc_usdt = MarketSpec(
        "BTC-USDT-SWAP",
        "BTC",
        "0.1",
        "0.01",
        quote="USDT",
        depth=560,
        rate=100.0,
        size=4000.0,
        spacing=3,
        basis_bp=-1.5,
        funding_hour=0,
        open_interest=280_000_000,
    )
    spot = MarketSpec(
        "BTC-USDT", "BTC", "0.1", "0.00000001", quote="USDT", depth=560, rate=80.0, size=3e7, spacing=4
    )
    linear = {**_LINEAR_ROW, "maxMktSz": "35000", "maxStopSz": "35000", "rpiMinLevel": "3"}
    rows: list[tuple[MarketSpec, str, str, int, int, dict[str, Any]]] = [
        (btc_usd, "SWAP", "BTC-USD", 10_458, 1_535_424_203_000, {"settleCcy": "BTC"}),
        (eth_usd, "SWAP", "ETH-USD", 10_461, 1_535_424_203_000, {"settleCcy": "ETH", "ctVal": "10"}),
        (btc_usdt, "SWAP", "BTC-USDT", 10_459, 1_573_557_408_000, {**linear, "settleCcy": "USDT"}),
        (spot, "SPOT", "", 3, 1_606_468_572_000, dict(_SPOT_ROW)),
    ]
    return [
        _listing(spec, kind=kind, family=(name, name), code=code, listed=ms * NS_PER_MS, changes=changes)
        for spec, kind, name, code, ms, changes in rows
    ]


_PERPETUALS = _perpetual_listings()


def _future(coin: str, alias: str, day: date, now_ns: int) -> Listing | None:
    listed, expiry = listed_ns(day), expiry_ns(day)
    if now_ns < listed - _PREOPEN_NS:
        return None
    rate, depth = _BUSY[alias]
    is_btc = coin == "BTC"
    spec = MarketSpec(
        symbol=f"{coin}-USD-{day:%y%m%d}",
        coin=coin,
        tick="0.1" if is_btc else "0.01",
        lot="0.1",
        depth=depth if is_btc else depth - 150,
        rate=rate if is_btc else rate / 5,
        size=500.0,
        basis_spread_bp=2.0,
        carry=0.055,
        expiry_ns=expiry,
        open_interest=9_000_000,
    )
    changes = {
        **_FUTURE_ROW,
        "alias": alias,
        "ctVal": "100" if is_btc else "10",
        "settleCcy": coin,
        "state": "preopen" if now_ns < listed else "live",
    }
    code = 400_000 + (day - date(2020, 1, 3)).days * 10 + (0 if is_btc else 1)
    family = (f"{coin}-USD", f"{coin}-USD")
    return _listing(spec, kind="FUTURES", family=family, code=code, listed=listed, changes=changes)


def _decoys(fridays: dict[str, date]) -> list[Listing]:
    """What ``uly=BTC-USD`` also brings: USD-margined linear futures and an X-Perp."""
    listings = []
    for alias in ("this_week", "this_month"):
        day = fridays[alias]
        spec = _decoy_spec(f"BTC-USD_UM-{day:%y%m%d}", day, funding_hour=None)
        code = 600_000 + (day - date(2020, 1, 3)).days
        listings.append(
            _listing(
                spec,
                kind="FUTURES",
                family=("BTC-USD_UM", "BTC-USD"),
                code=code,
                listed=listed_ns(day),
                changes={**_DECOY_ROW, "alias": alias},
            )
        )
    listings.append(
        _listing(
            _decoy_spec("BTC-USD_UM_XPERP-310404", date(2031, 4, 4), funding_hour=0),
            kind="FUTURES",
            family=("BTC-USD_UM_XPERP", "BTC-USD"),
            code=599_001,
            listed=1_775_203_800_000 * NS_PER_MS,
            changes={**_DECOY_ROW, "alias": "this_five_years", "ruleType": "xperp"},
        )
    )
    return listings


def _decoy_spec(symbol: str, day: date, funding_hour: int | None) -> MarketSpec:
    return MarketSpec(
        symbol,
        "BTC",
        "0.1",
        "0.01",
        depth=120,
        rate=2.0,
        carry=0.055 if funding_hour is None else 0.0,
        expiry_ns=expiry_ns(day),
        funding_hour=funding_hour,
    )


def universe(now_ns: int) -> dict[str, Listing]:
    """Return everything that is listed at this time, preopen included, expired not; by instrument id."""
    fridays = expiries_by_alias(now_ns)
    listings = []
    for coin in ("BTC", "ETH"):
        for alias, day in fridays.items():
            listing = _future(coin, alias, day, now_ns)
            if listing is not None:
                listings.append(listing)
    decoys = [decoy for decoy in _decoys(fridays) if decoy.listed_ns <= now_ns]
    return {listing.inst_id: listing for listing in (*listings, *decoys, *_PERPETUALS)}


def next_change_ns(now_ns: int) -> int:
    """Return the next time at which ``universe`` may answer something else."""
    friday = expiry_ns(min(expiries_by_alias(now_ns).values()))
    last_roll = friday - 7 * _DAY_NS
    listing = last_roll + _LISTING_DELAY_NS + 686 * NS_PER_MS
    for time in (listing - _PREOPEN_NS, listing):
        if time > now_ns:
            return time
    return friday
