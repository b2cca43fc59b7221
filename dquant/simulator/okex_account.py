"""Money and positions of the simulated OKX as its pushes and REST answers spell them.

In: the engine's ``BalanceView`` and ``PositionView``, prices, how the account is set. Out: dicts with the
venue's keys and string values, of the channels account, positions and balance_and_position (section 9) and of
``/account`` (section 8.1). Pure. Futures mode (acctLv 2) unless the account says otherwise: every coin is its
own margin, so equity in USD is a sum for the eye only.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from dquant.simulator.contract import Contract
from dquant.simulator.exchange_events import BalanceView, PositionView
from dquant.simulator.okex_instruments import Listing
from dquant.simulator.okex_orders import Prices, decimal_text, money_text, notional_usd
from dquant.simulator.orders import PosSide, Reason
from dquant.simulator.units import ms_text

# A sum of rounded values gives a price back with errors behind these places.
ENTRY_PLACES = 7
UsdPrice = Callable[[str], Decimal]  # of a coin
_POS_BASE, _POS_STEP = 3_950_000_000_000_000_000, 4_096

# What balance_and_position calls a happening.
EVENT_TYPES = {
    Reason.FUNDING: "funding_fee",
    Reason.SETTLEMENT: "settlement",
    Reason.DELIVERY: "delivered",
    Reason.LIQUIDATION: "liquidation",
    Reason.TRANSFER: "transferred",
}
# (type, subType) of a bill that is no trade; the second of subType is for money that comes in.
BILL_TYPES = {
    Reason.TRANSFER: ("1", ("12", "11")),
    Reason.DELIVERY: ("3", ("112", "112")),
    Reason.FUNDING: ("8", ("173", "174")),
    Reason.SETTLEMENT: ("3", ("", "")),  # the sheet names no number
    Reason.LIQUIDATION: ("5", ("104", "105")),
}
# What a position that has just been closed has none of, as it has no average price.
_OF_A_SIZE = ("imr", "mmr", "notionalUsd", "upl", "uplLastPx", "uplRatio", "uplRatioLastPx")
_BILL_KEYS = (
    *("bal", "balChg", "billId", "ccy", "clOrdId", "earnAmt", "earnApr", "execType", "fee", "fillFwdPx"),
    *("fillIdxPx", "fillMarkPx", "fillMarkVol", "fillPxUsd", "fillPxVol", "fillTime", "from", "instId"),
    *("instType", "interest", "mgnMode", "notes", "ordId", "pnl", "posBal", "posBalChg", "px", "subType"),
    *("sz", "tag", "to", "tradeId", "ts", "type"),
)


@dataclass(slots=True)
class AccountSettings:
    """How an account is set up; ``level`` is acctLv: 1 spot, 2 futures, 3 multi-currency."""

    uid: str
    level: str = "2"
    pos_mode: str = "net_mode"


def detail(balance: BalanceView, settings: AccountSettings, usd: Decimal, *, is_push: bool) -> dict[str, Any]:
    """Return one coin of an account."""

    def amount(minor: int) -> str:
        return money_text(minor, balance.decimals)

    has_margin = settings.level != "1"
    equity = Decimal(balance.equity).scaleb(-balance.decimals)
    available = amount(balance.available)
    maintained = balance.maintenance_margin
    cross = balance.equity - balance.isolated - balance.isolated_unrealised
    row: dict[str, Any] = {
        "accAvgPx": "",
        "availBal": available,
        "availEq": available if has_margin else "",
        "borrowFroz": "",
        "cashBal": amount(balance.cash),
        "ccy": balance.coin,
        "clSpotInUseAmt": "",
        "colBorrAutoConversion": "0",
        "colRes": "0",
        "collateralEnabled": False,
        "collateralRestrict": False,
        "crossLiab": "",
        "disEq": decimal_text(equity * usd, 12),
        "eq": amount(balance.equity),
        "eqUsd": decimal_text(equity * usd, 12),
        "fixedBal": "0",
        "frozenBal": amount(balance.initial_margin + balance.order_margin + balance.isolated),
        "frpType": "0",
        "imr": amount(balance.initial_margin + balance.order_margin) if has_margin else "",
        "interest": "",
        "isoEq": amount(balance.isolated + balance.isolated_unrealised) if has_margin else "",
        "isoLiab": "",
        "isoUpl": amount(balance.isolated_unrealised) if has_margin else "",
        "liab": "",
        "maxLoan": "",
        "mgnRatio": decimal_text(Decimal(cross) / maintained, 8) if has_margin and maintained else "",
        "mmr": amount(maintained) if has_margin else "",
        "notionalLever": "0" if has_margin else "",
        "openAvgPx": "",
        "ordFrozen": amount(balance.order_margin),
        "rewardBal": "0",
        "smtSyncEq": "0",
        "spotBal": "",
        "spotCopyTradingEq": "0",
        "spotInUseAmt": "",
        "spotIsoBal": "0",
        "spotUpl": "",
        "spotUplRatio": "",
        "stgyEq": "0",
        "totalPnl": "",
        "totalPnlRatio": "",
        "twap": "0",
        "uTime": ms_text(balance.updated_ns),
        "upl": amount(balance.unrealised) if has_margin else "",
        "uplLiab": "",
    }
    if is_push:
        row |= {"coinUsdPrice": decimal_text(usd, 8), "maxSpotInUseAmt": ""}
    else:
        row |= {
            "autoLendAmt": "0",
            "autoLendMtAmt": "0",
            "autoLendStatus": "unsupported",
            "autoStakingStatus": "unsupported",
            "maxSpotInUse": "",
        }
    return row


def account_row(
    balances: Iterable[BalanceView], settings: AccountSettings, usd: UsdPrice, now_ns: int, *, is_push: bool
) -> dict[str, Any]:
    """Return an account as the channel and ``/account/balance`` show it."""
    details = [detail(balance, settings, usd(balance.coin), is_push=is_push) for balance in balances]
    total = sum((Decimal(row["eqUsd"]) for row in details), Decimal())
    isolated = sum((Decimal(row["isoEq"] or 0) * usd(row["ccy"]) for row in details), Decimal())
    return {
        "adjEq": "",
        "availEq": "",
        "borrowFroz": "",
        "delta": "",
        "deltaLever": "",
        "deltaNeutralStatus": "",
        "details": details,
        "imr": "",
        "isoEq": decimal_text(isolated, 12),
        "mgnRatio": "",
        "mmr": "",
        "notionalUsd": "",
        "notionalUsdForBorrow": "",
        "notionalUsdForFutures": "",
        "notionalUsdForOption": "",
        "notionalUsdForSwap": "",
        "ordFroz": "",
        "totalEq": decimal_text(total, 12),
        "uTime": ms_text(now_ns),
        "upl": "",
    }


def pos_id(position: PositionView) -> str:
    """Return the posId of a position."""
    return str(_POS_BASE + position.position_id * _POS_STEP)


def margin_mode(position: PositionView) -> str:
    """Return ``mgnMode``."""
    return "isolated" if position.is_isolated else "cross"


def shown_size(position: PositionView, lot_size: Decimal) -> str:
    """Return ``pos``: signed in net mode, without sign in long/short mode."""
    lots = position.lots if position.pos_side is PosSide.NET else abs(position.lots)
    return decimal_text(lots * lot_size)


def entry_texts(position: PositionView, has_settlement: bool) -> dict[str, str]:
    """Return ``avgPx`` and, of contracts that settle daily, the entry without settlements."""
    entry, real = position.entry, position.real_entry
    return {
        "avgPx": "" if entry is None else decimal_text(entry, ENTRY_PLACES),
        "nonSettleAvgPx": decimal_text(real, ENTRY_PLACES) if has_settlement and real is not None else "",
    }


def position_row(
    position: PositionView,
    listing: Listing,
    contract: Contract,
    prices: Prices,
    decimals: int,
    trade_id: str,
    closing: int,
) -> dict[str, Any]:
    """Return a position as ``/account/positions`` shows it; the channel adds ``pTime``.

    ``closing``: lots of it that open orders are to close.
    """

    def amount(minor: int) -> str:
        return money_text(minor, decimals)

    lot_size = contract.lot.size
    contracts = abs(position.lots) * lot_size
    is_flat = not position.lots
    size = shown_size(position, lot_size)
    margin = position.initial_margin
    ratio = Decimal(position.unrealised) / margin if margin else Decimal()
    maintained = position.maintenance_margin
    last = Decimal(prices.last)
    upl_last = 0 if is_flat else contract.cost(position.lots, last) - position.cost
    ratio_last = Decimal(upl_last) / margin if margin else Decimal()
    liquidation = position.liquidation_price
    entries = entry_texts(position, contract.has_daily_settlement)
    net = position.realised + position.settled - position.fees - position.funding
    row = {
        "adl": "1",
        "availPos": ""
        if position.pos_side is PosSide.NET
        else decimal_text(max(0, abs(position.lots) - closing) * lot_size),
        **entries,
        "baseBal": "",
        "baseBorrowed": "",
        "baseInterest": "",
        "bePx": entries["avgPx"],
        "bizRefId": "",
        "bizRefType": "",
        "cTime": ms_text(position.opened_ns),
        "ccy": contract.settle,
        "clSpotInUseAmt": "",
        "closeOrderAlgo": [],
        "deltaBS": "",
        "deltaPA": "",
        "fee": amount(-position.fees),
        "fundingFee": amount(-position.funding),
        "gammaBS": "",
        "gammaPA": "",
        "hedgedPos": "",
        "idxPx": prices.index,
        "imr": "" if position.is_isolated else amount(margin),
        "instId": listing.inst_id,
        "instType": listing.inst_type,
        "interest": "",
        "last": prices.last,
        "lever": decimal_text(position.leverage),
        "liab": "",
        "liabCcy": "",
        "liqPenalty": "0",
        "liqPx": "" if liquidation is None else decimal_text(liquidation, 8),
        "margin": amount(margin) if position.is_isolated else "",
        "markPx": prices.mark,
        "maxSpotInUseAmt": "",
        "mgnMode": margin_mode(position),
        "mgnRatio": decimal_text(Decimal(margin + position.unrealised) / maintained, 8) if maintained else "",
        "mmr": amount(maintained),
        "notionalUsd": decimal_text(
            notional_usd(listing, contracts, Decimal(prices.mark), Decimal(prices.index)), 10
        ),
        "optVal": "",
        "pendingCloseOrdLiabVal": "",
        "pnl": amount(position.realised),
        "pos": size,
        "posCcy": "",
        "posId": pos_id(position),
        "posSide": str(position.pos_side),
        "quoteBal": "",
        "quoteBorrowed": "",
        "quoteInterest": "",
        "realizedPnl": amount(net),
        "settledPnl": amount(position.settled) if contract.has_daily_settlement else "",
        "spotInUseAmt": "",
        "spotInUseCcy": "",
        "thetaBS": "",
        "thetaPA": "",
        "tradeId": trade_id,
        "uTime": ms_text(position.updated_ns),
        "upl": amount(position.unrealised),
        "uplLastPx": amount(upl_last),
        "uplRatio": decimal_text(ratio, 16),
        "uplRatioLastPx": decimal_text(ratio_last, 16),
        "usdPx": "",
        "vegaBS": "",
        "vegaPA": "",
    }
    return row | dict.fromkeys(_OF_A_SIZE, "") if is_flat else row


def push_position_row(row: dict[str, Any], now_ns: int) -> dict[str, Any]:
    """Return a position's row as the ``positions`` channel has it."""
    pushed = {key: value for key, value in row.items() if key not in ("baseBal", "quoteBal")}
    return {**pushed, "pTime": ms_text(now_ns)}


def balance_item(balance: BalanceView) -> dict[str, str]:
    """Return an element of ``balData``."""
    return {
        "ccy": balance.coin,
        "cashBal": money_text(balance.cash, balance.decimals),
        "uTime": ms_text(balance.updated_ns),
    }


def position_item(
    position: PositionView, listing: Listing, contract: Contract, decimals: int, trade_id: str
) -> dict[str, str]:
    """Return an element of ``posData``."""
    return {
        "posId": pos_id(position),
        "tradeId": trade_id,
        "instId": listing.inst_id,
        "instType": listing.inst_type,
        "mgnMode": margin_mode(position),
        "posSide": str(position.pos_side),
        "pos": shown_size(position, contract.lot.size),
        "ccy": contract.settle,
        "posCcy": "",
        **entry_texts(position, contract.has_daily_settlement),
        "settledPnl": money_text(position.settled, decimals) if contract.has_daily_settlement else "",
        "uTime": ms_text(position.updated_ns),
    }


def config_row(settings: AccountSettings) -> dict[str, Any]:
    """Return ``/account/config``."""
    return {
        "acctLv": settings.level,
        "acctStpMode": "cancel_maker",
        "autoLoan": False,
        "ctIsoMode": "automatic",
        "enableSpotBorrow": False,
        "feeType": "0",
        "greeksType": "PA",
        "ip": "",
        "kycLv": "3",
        "label": "simulated",
        "level": "Lv1",
        "levelTmp": "",
        "liquidationGear": "-1",
        "mainUid": settings.uid,
        "mgnIsoMode": "automatic",
        "opAuth": "1",
        "perm": "read_only,trade",
        "posMode": settings.pos_mode,
        "roleType": "0",
        "settleCcy": "USDC",
        "settleCcyList": ["USD", "USDC", "USDG"],
        "spotBorrowAutoRepay": False,
        "spotOffsetType": "",
        "spotRoleType": "0",
        "spotTraderInsts": [],
        "stgyType": "0",
        "traderInsts": [],
        "type": "0",
        "uid": settings.uid,
    }


def bill_row(facts: Mapping[str, str]) -> dict[str, str]:
    """Return a bill: the venue's keys, empty where there are no facts."""
    return {key: facts.get(key, "") for key in _BILL_KEYS}
