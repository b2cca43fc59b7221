"""The books of the simulated OKX: bills of every change of cash, and positions that have ended.

In: the engine's events, in order. Out: rows of ``/account/bills`` and ``/account/positions-history``, newest
first. Bounded: the newest ``LIMIT`` of an account stay.
"""

from collections import deque
from decimal import Decimal
from itertools import count
from typing import TYPE_CHECKING

from dquant.simulator.exchange_events import BalanceChanged, Event, OrderFilled, PositionChanged, PositionView
from dquant.simulator.flow_book import ASK
from dquant.simulator.okex_account import BILL_TYPES, ENTRY_PLACES, bill_row, margin_mode, pos_id
from dquant.simulator.okex_contracts import COINS
from dquant.simulator.okex_orders import (
    bill_id_text,
    decimal_text,
    money_text,
    ord_id_text,
    sub_type,
    trade_id_text,
)
from dquant.simulator.orders import PosSide, Reason
from dquant.simulator.units import ms_text

if TYPE_CHECKING:
    from dquant.simulator.okex_trade import OkexDesk

LIMIT = 5_000
# Bills that are no fill have numbers of their own, above every fill's.
_FIRST_NUMBER = 10**9
_Key = tuple[str, str, PosSide, bool]
_NOTHING = (0, Decimal(), 0)


class Bills:
    """The bills of all accounts."""

    def __init__(self, desk: "OkexDesk") -> None:
        self._markets = desk.markets
        self._bills: dict[str, deque[dict[str, str]]] = {}
        self._last_fill: dict[str, OrderFilled] = {}
        self._is_isolated: dict[str, bool] = {}  # the position that moved last, whose cash comes next
        self._numbers = count(_FIRST_NUMBER)

    def of(self, account: str) -> list[dict[str, str]]:
        """Return an account's bills, newest first."""
        return list(reversed(self._bills.get(account, ())))

    def note(self, event: Event) -> None:
        """Write down what an event did to cash."""
        if isinstance(event, OrderFilled):
            self._last_fill[event.account] = event
        elif isinstance(event, PositionChanged):
            self._is_isolated[event.account] = event.position.is_isolated
        elif isinstance(event, BalanceChanged):
            bills = self._bills.setdefault(event.account, deque(maxlen=LIMIT))
            bills.append(self._row(event))

    def _row(self, event: BalanceChanged) -> dict[str, str]:
        balance = event.balance
        number = next(self._numbers)
        facts = {
            "bal": money_text(balance.cash, balance.decimals),
            "balChg": money_text(event.delta, balance.decimals),
            "billId": bill_id_text(number),
            "ccy": balance.coin,
            "fee": "0",
            "pnl": "0",
            "posBal": "0",
            "posBalChg": "0",
            "interest": "0",
            "sz": money_text(abs(event.delta), balance.decimals),
            "ts": ms_text(event.ts),
        }
        rows = self._markets.rows(event.symbol)
        if rows is not None:
            listing = rows.listing
            facts |= {"instId": listing.inst_id, "instType": listing.inst_type, "mgnMode": "cross"}
            if self._is_isolated.get(event.account):
                facts["mgnMode"] = "isolated"
        filled = self._last_fill.get(event.account)
        is_trade = event.reason in (Reason.FILL, Reason.DELIVERY, Reason.LIQUIDATION)
        if is_trade and filled is not None and filled.fill.symbol == event.symbol and rows is not None:
            fill = filled.fill
            kind = "2" if event.reason is Reason.FILL else BILL_TYPES[event.reason][0]
            decimals = COINS[fill.fee_coin]
            facts |= {
                "clOrdId": fill.client_id,
                "execType": "M" if fill.is_maker else "T",
                "fee": money_text(-fill.fee, decimals) if fill.fee_coin == balance.coin else "0",
                "fillTime": ms_text(fill.ts),
                "mgnMode": "cash" if rows.listing.inst_type == "SPOT" else facts["mgnMode"],
                "ordId": ord_id_text(fill.order_id),
                "pnl": money_text(fill.realised, balance.decimals),
                "px": rows.price(fill),
                "subType": sub_type(fill),
                "sz": rows.lot.text(fill.lots),
                "tag": filled.order.tag,
                "tradeId": trade_id_text(fill),
                "type": kind,
            }
        else:
            kind, (out, into) = BILL_TYPES.get(event.reason, ("2", ("1", "2")))
            facts |= {"type": kind, "subType": into if event.delta > 0 else out}
            if event.reason is Reason.FUNDING:
                facts |= {"pnl": money_text(event.delta, balance.decimals)}
        return bill_row(facts)


class ClosedPositions:
    """Positions that have ended, as ``/account/positions-history`` lists them; the newest ``LIMIT`` stay."""

    def __init__(self, desk: "OkexDesk") -> None:
        self._markets = desk.markets
        self._rows: dict[str, deque[dict[str, str]]] = {}
        self._open: dict[_Key, PositionView] = {}  # as it was before the last change
        self._most: dict[_Key, int] = {}
        # What closed so far: lots, the sum of lots * price, profit.
        self._closes: dict[_Key, tuple[int, Decimal, int]] = {}

    def of(self, account: str) -> list[dict[str, str]]:
        """Return an account's closed positions, newest first."""
        return list(reversed(self._rows.get(account, ())))

    def note(self, event: Event) -> None:
        """Follow a position through its fills."""
        if isinstance(event, OrderFilled):
            fill = event.fill
            key = fill.account, fill.symbol, fill.pos_side, fill.is_isolated
            held = self._open.get(key)
            if held is not None and (held.lots > 0) == (fill.side == ASK):
                lots, total, profit = self._closes.get(key, _NOTHING)
                part = min(fill.lots, abs(held.lots))
                self._closes[key] = lots + part, total + part * fill.price, profit + fill.realised
        elif isinstance(event, PositionChanged):
            position = event.position
            key = position.account, position.symbol, position.pos_side, position.is_isolated
            before = self._open.get(key)
            if before is not None and (not position.lots or (position.lots > 0) != (before.lots > 0)):
                rows = self._rows.setdefault(event.account, deque(maxlen=LIMIT))
                row = self._row(before, position, event.reason)
                if row is not None:
                    rows.append(row)
                self._most.pop(key, None)
                self._closes.pop(key, None)
            if position.lots:
                self._open[key] = position
                self._most[key] = max(self._most.get(key, 0), abs(position.lots))
            else:
                self._open.pop(key, None)

    def _row(self, before: PositionView, after: PositionView, reason: Reason) -> dict[str, str] | None:
        rows, contract = self._markets.rows(before.symbol), self._markets.contract(before.symbol)
        if rows is None or contract is None:
            return None
        key = before.account, before.symbol, before.pos_side, before.is_isolated
        lots, total, profit = self._closes.get(key, _NOTHING)
        decimals = COINS[contract.settle]
        # After a turn through zero the sums are the new position's; the net result is kept apart.
        net = after.previous_realised
        settled, funding = before.settled, before.funding
        if not after.lots:
            settled, funding = after.settled, after.funding
            net = after.realised + settled - after.fees - funding
        paid = profit + settled - funding - net  # fees, the closing ones included
        margin = Decimal(before.initial_margin) or Decimal(1)
        is_settled = contract.has_daily_settlement
        entry, real = before.entry, before.real_entry
        return {
            "cTime": ms_text(before.opened_ns),
            "ccy": contract.settle,
            "closeAvgPx": decimal_text(total / lots, 10) if lots else "",
            "closeTotalPos": rows.lot.text(lots),
            "instId": before.symbol,
            "instType": rows.listing.inst_type,
            "lever": decimal_text(before.leverage),
            "mgnMode": margin_mode(before),
            "openAvgPx": "" if entry is None else decimal_text(entry, ENTRY_PLACES),
            "openMaxPos": rows.lot.text(self._most.get(key, abs(before.lots))),
            "realizedPnl": money_text(net, decimals),
            "fee": money_text(-paid, decimals),
            "fundingFee": money_text(-funding, decimals),
            "liqPenalty": "0",
            "pnl": money_text(profit, decimals),
            "pnlRatio": decimal_text(Decimal(net) / margin, 16),
            "posId": pos_id(before),
            "posSide": str(before.pos_side),
            "direction": "long" if before.lots > 0 else "short",
            "triggerPx": "",
            "type": "3" if reason is Reason.LIQUIDATION else "2",
            "uTime": ms_text(after.updated_ns),
            "uly": rows.listing.underlying,
            "nonSettleAvgPx": decimal_text(real, ENTRY_PLACES) if is_settled and real is not None else "",
            "settledPnl": money_text(settled, decimals) if is_settled else "",
        }
