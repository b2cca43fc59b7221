"""Contracts of the simulated BitMEX: what is listed at a moment, their rows and their values.

Pure tables and arithmetic. Written from the BitMEX fact sheet, sections 3.4 (instrument) and
6.1 to 6.7. Where the sheet has no row of 2026, the last recorded one is kept (the 0.5 tick of the
XBT future). Units: prices in quote currency, sizes in contracts, values in the minor unit of the
settle currency (``XBt`` 1e-8, ``USDt`` 1e-6), times ns since the Unix epoch.
"""

from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from dquant.constants import NS_PER_S
from dquant.simulator.bitmex_tables import Row, iso
from dquant.simulator.flow import MarketSpec

HOUR_NS = 3600 * NS_PER_S
FUNDING_INTERVAL = "2000-01-01T08:00:00.000Z"  # a time of day on 2000-01-01: every 8 h
FUNDING_PERIOD_NS = 8 * HOUR_NS
FUNDING_OFFSET_NS = 4 * HOUR_NS  # 04:00, 12:00 and 20:00 UTC
QUARTER_CODES = {3: "H", 6: "M", 9: "U", 12: "Z"}
EXPIRY_HOUR = 12

Payoff = Literal["inverse", "quanto", "linear"]


@dataclass(frozen=True, slots=True)
class BitmexContract:
    """One tradable contract; ``fixed`` is the part of its instrument row that does not move.

    ``rate`` (happenings a second) and ``mean_lots`` say how busy the simulated market in it is.
    """

    symbol: str
    base: str  # a coin of the flow
    payoff: Payoff
    tick: float
    lot: int
    index: str
    expiry: int | None  # ns since the Unix epoch; None for a perpetual
    rate: float
    mean_lots: float
    fixed: Row

    @property
    def spec(self) -> MarketSpec:
        """How the market behind it behaves."""
        tick = repr(self.tick)
        perpetual = self.expiry is None
        return MarketSpec(
            self.symbol,
            coin=self.base,
            tick=tick,
            lot=str(self.lot),
            quote="USDT" if self.payoff == "linear" else "USD",
            depth=400,
            rate=self.rate,
            half_spread=3.0 if perpetual else 4.0,
            size=self.mean_lots,
            basis_bp=0.5 if perpetual else 0.0,
            carry=0.0 if perpetual else 0.06,
            expiry_ns=self.expiry,
            funding_hour=4 if perpetual else None,
        )

    def gross_value(self, size: int, price: float) -> int:
        """Return the value of ``size`` contracts in the minor unit of the settle currency."""
        if self.payoff == "inverse":
            # Section 6.3: since the lot is 100 contracts, a lot is what is rounded.
            return size * round(1e10 / price) // 100
        if self.payoff == "quanto":
            return round(size * price * 100)  # multiplier 100: satoshi per point and contract
        return round(size * price)  # 1e-6 XBT a contract, 1e-6 USDT the unit

    def notionals(self, size: int, price: float, xbt_price: float) -> tuple[float, float]:
        """Return home and foreign notional of a trade; ``xbt_price`` turns a quanto's satoshi into USD."""
        gross = self.gross_value(size, price)
        if self.payoff == "inverse":
            return gross / 1e8, float(size)
        if self.payoff == "quanto":
            foreign = gross / 1e8 * xbt_price
            return foreign / price, foreign
        return size / 1e6, gross / 1e6


def last_friday(year: int, month: int) -> datetime:
    """Return 12:00 UTC of the last Friday of a month, when its futures settle."""
    end = datetime(year, month, monthrange(year, month)[1], EXPIRY_HOUR, tzinfo=UTC)
    return end - timedelta(days=(end.weekday() - 4) % 7)


def _ns(moment: datetime) -> int:
    return int(moment.timestamp()) * NS_PER_S


def _months_before(year: int, month: int, months: int) -> tuple[int, int]:
    years, zero_month = divmod(year * 12 + month - 1 - months, 12)
    return years, zero_month + 1


def front_quarter(now: int) -> tuple[str, datetime]:
    """Return symbol and expiry of the quarterly XBT future that expires next after ``now``."""
    year = datetime.fromtimestamp(now // NS_PER_S, UTC).year
    for candidate in (*((year, month) for month in QUARTER_CODES), (year + 1, 3)):
        expiry = last_friday(*candidate)
        if _ns(expiry) > now:
            return f"XBT{QUARTER_CODES[candidate[1]]}{candidate[0] % 100:02d}", expiry
    raise AssertionError("the March future of next year is always ahead")


def next_funding(now: int) -> int:
    """Return the next of 04:00, 12:00 and 20:00 UTC that is after ``now``."""
    return (
        (now - FUNDING_OFFSET_NS) // FUNDING_PERIOD_NS * FUNDING_PERIOD_NS
        + FUNDING_PERIOD_NS
        + FUNDING_OFFSET_NS
    )


def _row(symbol: str, root: str, typ: str, listing: str, **more: Any) -> Row:
    row: Row = {"symbol": symbol, "rootSymbol": root, "state": "Open", "typ": typ, "listing": listing}
    row.update({"front": listing, "reference": "BMEX", "maxOrderQty": 10_000_000, "maxPrice": 1e6})
    row.update({"isQuanto": False, "isInverse": False, "initMargin": 0.01, "maintMargin": 0.005})
    row.update({"riskLimit": 20_000_000_000, "riskStep": 15_000_000_000, "taxed": True, "deleverage": True})
    row.update({"makerFee": 5e-4, "takerFee": 5e-4, "settlementFee": 0.0, "fairMethod": "FundingRate"})
    row.update({"markMethod": "FairPrice", "hasLiquidity": True, "instantPnl": True, "minTick": 0.01})
    row.update(more)
    return row


def _funding(base: str, quote: str, symbol: str) -> Row:
    return {
        "fundingBaseSymbol": f".{base}BON8H",
        "fundingQuoteSymbol": f".{quote}BON8H",
        "fundingPremiumSymbol": f".{symbol}PI8H",
        "fundingInterval": FUNDING_INTERVAL,
        "fundingBaseRate": 3e-4,
        "fundingQuoteRate": 6e-4,
    }


INVERSE_XBT: Row = {
    "positionCurrency": "USD", "underlying": "XBT", "quoteCurrency": "USD", "underlyingSymbol": "XBT=",
    "lotSize": 100, "multiplier": -100_000_000, "settlCurrency": "XBt",
    "underlyingToSettleMultiplier": -100_000_000, "isInverse": True,
}  # fmt: skip

XBTUSD = BitmexContract(
    "XBTUSD", "BTC", "inverse", 0.1, 100, ".BXBT", None, 40.0, 60.0,
    _row("XBTUSD", "XBT", "FFWCSX", "2016-05-13T12:00:00.000Z", **INVERSE_XBT, referenceSymbol=".BXBT",
         tickSize=0.1, **_funding("XBT", "USD", "XBTUSD")),
)  # fmt: skip
ETHUSD = BitmexContract(
    "ETHUSD", "ETH", "quanto", 0.01, 1, ".BETH", None, 15.0, 300.0,
    _row("ETHUSD", "ETH", "FFWCSX", "2018-08-01T12:00:00.000Z", underlying="ETH", quoteCurrency="USD",
         underlyingSymbol="ETH=", referenceSymbol=".BETH", lotSize=1, tickSize=0.01, multiplier=100,
         settlCurrency="XBt", isQuanto=True, **_funding("ETH", "USD", "ETHUSD")),
)  # fmt: skip
XBTUSDT = BitmexContract(
    "XBTUSDT", "BTC", "linear", 0.1, 100, ".BXBTT", None, 15.0, 60.0,
    _row("XBTUSDT", "XBT", "FFWCSX", "2021-11-09T04:00:00.000Z", positionCurrency="XBT", underlying="XBT",
         quoteCurrency="USDT", underlyingSymbol="XBTT=", referenceSymbol=".BXBTT", maxOrderQty=1_000_000_000,
         lotSize=100, tickSize=0.1, multiplier=1, settlCurrency="USDt",
         underlyingToPositionMultiplier=1_000_000, quoteToSettleMultiplier=1_000_000,
         riskLimit=1_000_000_000_000, riskStep=1_000_000_000_000, **_funding("XBT", "USDT", "XBTUSDT")),
)  # fmt: skip


def quarterly_future(now: int) -> BitmexContract:
    """Return the XBT future that expires next, listed two quarters before, front for two months."""
    symbol, expiry = front_quarter(now)
    listing = last_friday(*_months_before(expiry.year, expiry.month, 6))
    front = last_friday(*_months_before(expiry.year, expiry.month, 2))
    end = iso(_ns(expiry))
    row = _row(
        symbol, "XBT", "FFCCSX", iso(_ns(listing)), **INVERSE_XBT, referenceSymbol=".BXBT30M", tickSize=0.5,
        expiry=end, settle=end, listedSettle=end, settlementFee=5e-4, fairMethod="ImpactMidPrice",
    )  # fmt: skip
    row.update({"front": iso(_ns(front)), "riskLimit": 7_500_000_000, "riskStep": 7_500_000_000})
    return BitmexContract(symbol, "BTC", "inverse", 0.5, 100, ".BXBT", _ns(expiry), 8.0, 40.0, row)


def contracts(now: int) -> list[BitmexContract]:
    """Return what can be traded at a moment."""
    return [XBTUSD, ETHUSD, XBTUSDT, quarterly_future(now)]


# Index symbol: coin and quote currency in the flow. The half-hour mean .BXBT30M is the index itself here.
INDICES = {
    ".BXBT": ("BTC", "USD"),
    ".BXBTT": ("BTC", "USDT"),
    ".BETH": ("ETH", "USD"),
    ".BXBT30M": ("BTC", "USD"),
}


def index_row(symbol: str, price: float, now: int) -> Row:
    """Return the instrument row of an index; it has no multiplier, lot or settle currency."""
    coin, quote = INDICES[symbol]
    root = "XBT" if coin == "BTC" else coin
    return {
        "symbol": symbol,
        "rootSymbol": root,
        "state": "Unlisted",
        "typ": "MRCXXX",
        "underlying": root,
        "quoteCurrency": quote,
        "underlyingSymbol": f"{root}{'T' if quote == 'USDT' else ''}=",
        "reference": "BMI",
        "referenceSymbol": symbol,
        "publishInterval": "2000-01-01T00:00:05.000Z",
        "minPrice": 0.01,
        "tickSize": 0.01,
        "isQuanto": False,
        "isInverse": False,
        "taxed": False,
        "deleverage": False,
        "prevPrice24h": price,
        "highPrice": price,
        "lowPrice": price,
        "lastPrice": price,
        "lastTickDirection": "ZeroPlusTick",
        "lastChangePcnt": 0.0,
        "hasLiquidity": False,
        "markMethod": "LastPrice",
        "markPrice": price,
        "instantPnl": False,
        "timestamp": iso(now),
    }
