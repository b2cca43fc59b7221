"""Rows of ``position``, ``margin``, ``wallet`` and ``transact`` of the simulated BitMEX.

In: the engine's pictures of a position and a balance, and what is asked of open orders. Out: rows, money as
whole minor units. Written from the fact sheet, sections 3.5, 6.3 and 6.4; identities that hold in every row:
``unrealisedPnl = markValue - unrealisedCost``, ``realisedPnl = -realisedCost - currentComm``,
``walletBalance = amount + realisedPnl``, ``marginBalance = walletBalance + unrealisedPnl``,
``excessMargin = marginBalance - initMargin - maintMargin``. Funding counts as commission. A column without a
value is None here: an update says null, a partial or REST row leaves it out.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from dquant.simulator.bitmex_instruments import BitmexContract
from dquant.simulator.bitmex_order_rows import notionals
from dquant.simulator.bitmex_tables import Row, iso
from dquant.simulator.contract import Contract, rounded_up
from dquant.simulator.exchange_events import BalanceView, PositionView
from dquant.simulator.flow_book import ASK, BID
from dquant.simulator.orders import OpenLots, OrderView, State

MARGIN_RISK_LIMIT = 1_000_000_000_000
_ENTRY = Decimal("0.0001")
_EMPTY_SUMS = (
    *("posCost", "posCross", "posComm", "posLoss", "posMargin", "posMaint", "posInit", "initMargin"),
    *("maintMargin", "realisedPnl", "unrealisedPnl"),
)


@dataclass(frozen=True, slots=True)
class OpenOrders:
    """What the open orders of one contract add up to; costs have the sign of the position they would make."""

    buy_qty: int = 0
    buy_cost: int = 0
    sell_qty: int = 0
    sell_cost: int = 0
    margin: int = 0


@dataclass(slots=True)
class PositionTerms:
    """What an account has chosen for a contract; leverage 0 on the wire is cross margin."""

    leverage: Decimal = Decimal(100)
    is_cross: bool = True
    risk_limit: int = 0


def open_orders(
    orders: Iterable[OpenLots | OrderView],
    engine: Contract,
    contract: BitmexContract,
    leverage: Decimal,
    held: int,
) -> OpenOrders:
    """Add up open orders; a stop takes nothing until it is triggered (section 5.3).

    The margin is that of the side that needs more, for what it opens beyond the lots ``held``.
    """
    qty, cost, opening, value = [0, 0], [0, 0], [0, 0], [0, 0]
    for order in orders:
        if order.tick is None or order.state is State.WAITING:
            continue
        lots = order.left if order.side == BID else -order.left
        worth = engine.cost(lots, engine.price(order.tick))
        qty[order.side] += order.left * contract.lot
        cost[order.side] += worth
        if not order.reduce_only:
            opening[order.side] += order.left
            value[order.side] += abs(worth)
    worst = 0
    for side, closable in ((BID, max(0, -held)), (ASK, max(0, held))):
        if opening[side] > closable:
            worst = max(worst, value[side] * (opening[side] - closable) // opening[side])
    rate = max(1 / leverage, engine.initial_rate) + engine.margin_fees * engine.taker_fee
    over, under = rate.as_integer_ratio()
    return OpenOrders(qty[BID], cost[BID], qty[ASK], cost[ASK], rounded_up(worst * over, under))


def position_row(
    position: PositionView | None,
    account: int,
    contract: BitmexContract,
    engine: Contract,
    terms: PositionTerms,
    orders: OpenOrders,
    mark: Decimal,
    ts: int,
    xbt_price: float,
) -> Row:
    """Return the whole row of a position; one that is closed stays with zeros."""
    lots = 0 if position is None else position.lots
    row: Row = {
        "account": account,
        "symbol": contract.symbol,
        "strategy": "OneWay",
        "currency": engine.settle,
        "underlying": contract.fixed["underlying"],
        "quoteCurrency": contract.fixed["quoteCurrency"],
        "commission": float(engine.taker_fee),
        "initMarginReq": float(max(1 / terms.leverage, engine.initial_rate)),
        "maintMarginReq": float(engine.maintenance_rate),
        "riskLimit": terms.risk_limit or contract.fixed["riskLimit"],
        "leverage": float(terms.leverage),
        "crossMargin": terms.is_cross,
        "deleveragePercentile": 1.0 if lots else None,
        "rebalancedPnl": 0,
        "prevRealisedPnl": _previous(position),
        "prevUnrealisedPnl": 0,
        "openingQty": lots * contract.lot,
        "openOrderBuyQty": orders.buy_qty,
        "openOrderBuyCost": orders.buy_cost,
        "openOrderBuyPremium": 0,
        "openOrderSellQty": orders.sell_qty,
        "openOrderSellCost": orders.sell_cost,
        "openOrderSellPremium": 0,
    }
    shown = mark if lots or orders.margin else None
    row |= _holding(position, contract, engine, terms, shown, xbt_price)
    row["riskValue"] += max(abs(orders.buy_cost), abs(orders.sell_cost))
    row["isOpen"] = bool(lots or orders.buy_qty or orders.sell_qty)
    row["initMargin"] = orders.margin
    row["timestamp"] = iso(ts)
    return row


def _previous(position: PositionView | None) -> int:
    """Return what the last closed position earned; one that has just closed is the last one."""
    if position is None:
        return 0
    if position.lots:
        return position.previous_realised
    result = position.realised + position.settled - position.fees - position.funding
    return result or position.previous_realised


def _holding(
    position: PositionView | None,
    contract: BitmexContract,
    engine: Contract,
    terms: PositionTerms,
    mark: Decimal | None,
    xbt_price: float,
) -> Row:
    """Return the columns that speak of what is held."""
    is_held = position is not None and position.lots != 0
    row: Row = {"currentQty": 0, "currentCost": 0, "currentComm": 0, "realisedCost": 0, "unrealisedCost": 0}
    row |= {"grossOpenPremium": 0, "isOpen": False, "markPrice": None if mark is None else float(mark)}
    row |= {"markValue": 0, "riskValue": 0, "homeNotional": 0.0, "foreignNotional": 0.0, "posState": None}
    row |= dict.fromkeys(_EMPTY_SUMS, 0)
    row |= {"unrealisedPnlPcnt": 0.0, "unrealisedRoePcnt": 0.0, "avgCostPrice": None, "avgEntryPrice": None}
    row |= {"breakEvenPrice": None, "marginCallPrice": None, "liquidationPrice": None, "bankruptPrice": None}
    if position is None or not is_held:
        return row
    long = position.lots > 0
    comm = position.fees + position.funding
    # The engine keeps what was realised; what that cost is the same with the other sign.
    realised_cost = -(position.realised + position.settled)
    sign = 1 if long else -1
    value = abs(position.mark_value)
    home, foreign = notionals(contract, abs(position.lots), position.mark, value, xbt_price)
    gain = Decimal(position.unrealised) / abs(position.cost) if position.cost else Decimal(0)
    initial = _part(abs(position.cost), max(1 / terms.leverage, engine.initial_rate))
    cross = 0 if position.is_isolated else max(0, -position.unrealised)
    # An isolated position keeps what it has lost from its own margin; the rest of the account is not bound.
    bound = position.margin + position.unrealised if position.is_isolated else position.initial_margin
    entry = None if position.entry is None else float(position.entry.quantize(_ENTRY))
    row |= {
        "currentQty": position.lots * contract.lot,
        "currentCost": position.cost + realised_cost,
        "currentComm": comm,
        "realisedCost": realised_cost,
        "unrealisedCost": position.cost,
        "markPrice": float(position.mark),
        "markValue": position.mark_value,
        "riskValue": abs(position.mark_value),
        "homeNotional": sign * home,
        "foreignNotional": -sign * foreign,
        "posCost": position.cost,
        "posCross": cross,
        "posComm": _part(abs(position.cost) + initial + cross, engine.taker_fee),
        "posMargin": position.initial_margin + cross,
        "posMaint": position.maintenance_margin,
        "posInit": initial,
        "maintMargin": bound,
        "realisedPnl": -realised_cost - comm,
        "unrealisedPnl": position.unrealised,
        "unrealisedPnlPcnt": float(round(gain, 4)) + 0.0,
        "unrealisedRoePcnt": float(round(gain * terms.leverage, 4)) + 0.0,  # never -0.0
        "avgCostPrice": entry,
        "avgEntryPrice": entry,
        "breakEvenPrice": _break_even(position, engine, comm - position.realised - position.settled),
    }
    if position.liquidation_price is not None:
        rate = engine.maintenance_rate if long else -engine.maintenance_rate
        call = _to_tick(position.liquidation_price, engine, up=long)
        bankrupt = _to_tick(position.liquidation_price * (1 - rate), engine, up=long)
        row |= {"marginCallPrice": call, "liquidationPrice": call, "bankruptPrice": bankrupt}
    return row


def _part(amount: int, rate: Decimal) -> int:
    over, under = rate.as_integer_ratio()
    return rounded_up(amount * over, under)


def _break_even(position: PositionView, engine: Contract, paid: int) -> float | None:
    """Return the price at which a position is worth its cost and what it has paid, on the tick."""
    # ``mark_value - cost`` must come to ``paid``.
    cost = position.cost + paid
    price = engine.entry(position.lots, cost) if (cost < 0) == (position.cost < 0) else None
    return None if price is None else _to_tick(price, engine, up=position.lots > 0)


def _to_tick(price: Decimal, engine: Contract, *, up: bool) -> float:
    rounding = ROUND_CEILING if up else ROUND_FLOOR
    return float((price / engine.tick.size).to_integral_value(rounding) * engine.tick.size)


@dataclass(slots=True)
class Wallet:
    """One coin of an account between two settlements of realised PnL, minor units."""

    amount: int = 0
    previous_realised: int = 0
    commission: int = 0
    deposited: int = 0
    withdrawn: int = 0
    transfer_in: int = 0
    transfer_out: int = 0


def margin_row(balance: BalanceView, wallet: Wallet, account: int, positions: list[Row], ts: int) -> Row:
    """Return the margin row of one coin; ``positions`` are the account's position rows in that coin."""
    realised = balance.cash - wallet.amount
    init = sum(row["initMargin"] for row in positions)
    maint = sum(row["maintMargin"] for row in positions)
    gross = sum(abs(row["markValue"]) for row in positions)
    equity = balance.cash + sum(row["unrealisedPnl"] for row in positions)
    excess = equity - init - maint
    available = max(0, excess)
    return {
        "account": account,
        "currency": balance.coin,
        "riskLimit": MARGIN_RISK_LIMIT,
        "amount": wallet.amount,
        "prevRealisedPnl": wallet.previous_realised,
        "grossComm": wallet.commission,
        "grossOpenCost": sum(
            abs(row["openOrderBuyCost"]) + abs(row["openOrderSellCost"]) for row in positions
        ),
        "grossOpenPremium": 0,
        "grossExecCost": 0,
        "grossMarkValue": gross,
        "riskValue": sum(row["riskValue"] for row in positions),
        "initMargin": init,
        "maintMargin": maint,
        "targetExcessMargin": excess,
        "realisedPnl": realised,
        "unrealisedPnl": equity - balance.cash,
        "walletBalance": balance.cash,
        "marginBalance": equity,
        "marginLeverage": round(gross / equity, 12) if equity > 0 else 0.0,
        "marginUsedPcnt": round((init + maint) / equity, 4) if equity > 0 else 0.0,
        "excessMargin": excess,
        "availableMargin": available,
        "withdrawableMargin": available,
        "timestamp": iso(ts),
        "foreignMarginBalance": 0,
        "foreignRequirement": 0,
    }


def wallet_row(coin: str, wallet: Wallet, account: int, ts: int) -> Row:
    """Return the wallet row of one coin; realised PnL is in it once a day."""
    return {
        "account": account,
        "currency": coin,
        "deposited": wallet.deposited,
        "withdrawn": wallet.withdrawn,
        "transferIn": wallet.transfer_in,
        "transferOut": wallet.transfer_out,
        "amount": wallet.amount,
        "pendingCredit": 0,
        "pendingDebit": 0,
        "confirmedDebit": 0,
        "timestamp": iso(ts),
    }
