"""The ``/account`` and ``/asset`` endpoints of the simulated OKX; see ``okex_private_rest``.

In: whose account, a query or a body. Out: the rows of the answer, or ``OkexError``. Written from the fact
sheet, section 8.1.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from dquant.simulator.accounts import PositionMode
from dquant.simulator.flow_book import ASK, BID
from dquant.simulator.okex_account import account_row, config_row, margin_mode, pos_id
from dquant.simulator.okex_contracts import COINS, DELIVERY_FEE, fees
from dquant.simulator.okex_errors import OkexError
from dquant.simulator.okex_instruments import Listing
from dquant.simulator.okex_orders import decimal_text, money_text, notional_usd
from dquant.simulator.okex_private import OkexPrivate
from dquant.simulator.okex_query import Query, given, needed, number, one_of, page
from dquant.simulator.okex_requests import required, text
from dquant.simulator.okex_trade import MARGIN_MODES, OkexDesk
from dquant.simulator.orders import PosSide, Refused, Why
from dquant.simulator.units import ms_text

_MODES = {"net_mode": PositionMode.NET, "long_short_mode": PositionMode.LONG_SHORT}
_FEE_GROUPS = {"SPOT": ("12",), "MARGIN": ("12",), "SWAP": ("4",), "FUTURES": ("5",)}
_MOST_IDS = 20
_REFUSALS = {Why.LEVERAGE: "59102", Why.MARGIN: "59108", Why.IN_USE: "59101"}

Rows = list[Any]


class AccountRest:
    """``get`` and ``post``: what answers each path."""

    def __init__(self, desk: OkexDesk, private: OkexPrivate) -> None:
        self._desk, self._exchange, self._private = desk, desk.exchange, private
        self._markets = desk.markets
        self.get: dict[str, Callable[[str, Query], Rows]] = {
            "account/config": lambda name, _query: [config_row(desk.settings[name])],
            "account/balance": self._balance,
            "account/positions": self._positions,
            "account/positions-history": self._closed_positions,
            "account/account-position-risk": self._risk,
            "account/leverage-info": self._leverage_info,
            "account/trade-fee": self._trade_fee,
            "account/max-size": self._max_size,
            "account/max-avail-size": self._max_avail,
            "account/bills": self._bills,
            "account/bills-archive": self._bills,
            "asset/currencies": self._currencies,
            "asset/balances": lambda _name, _query: [],
        }
        self.post: dict[str, Callable[[str, dict[str, Any]], Rows]] = {
            "account/set-position-mode": self._set_mode,
            "account/set-leverage": self._set_leverage,
        }

    def _balance(self, account: str, query: Query) -> Rows:
        wanted = [coin for coin in given(query, "ccy").split(",") if coin]
        if len(wanted) > _MOST_IDS:
            raise OkexError("50025", "ccy", _MOST_IDS)
        balances = [one for one in self._exchange.balances(account) if not wanted or one.coin in wanted]
        settings, markets = self._desk.settings[account], self._markets
        return [account_row(balances, settings, markets.usd_price, markets.now_ns, is_push=False)]

    def _positions(self, account: str, query: Query) -> Rows:
        inst_type, ids = given(query, "instType"), [one for one in given(query, "instId").split(",") if one]
        pos_ids = [one for one in given(query, "posId").split(",") if one]
        if inst_type and inst_type not in ("MARGIN", "SWAP", "FUTURES", "OPTION"):
            raise OkexError("51000", "instType")
        for inst_id in ids:
            self._markets.check_fits({**query, "instId": inst_id})
        if len(ids) > _MOST_IDS or len(pos_ids) > _MOST_IDS:
            raise OkexError("50025", "instId", _MOST_IDS)
        rows = []
        for position in self._exchange.positions(account):
            known = self._markets.rows(position.symbol)
            row = self._private.position(position) if known is not None and position.lots else None
            if (
                row is not None
                and inst_type in ("", row["instType"])
                and (not ids or row["instId"] in ids)
                and (not pos_ids or row["posId"] in pos_ids)
            ):
                rows.append(row)
        return rows

    def _closed_positions(self, account: str, query: Query) -> Rows:
        rows = [
            row
            for row in self._private.closed.of(account)
            if given(query, "instType") in ("", row["instType"])
            and given(query, "instId") in ("", row["instId"])
            and given(query, "mgnMode") in ("", row["mgnMode"])
            and given(query, "posId") in ("", row["posId"])
        ]
        return page(rows, query, lambda row: int(row["uTime"]), lambda value: int(number(value, "after")))

    def _risk(self, account: str, query: Query) -> Rows:
        inst_type = given(query, "instType")
        desk = self._desk
        balances = []
        for one in self._exchange.balances(account):
            equity = money_text(one.equity, one.decimals)
            worth = Decimal(equity) * desk.markets.usd_price(one.coin)
            balances.append({"ccy": one.coin, "disEq": decimal_text(worth, 12), "eq": equity})
        positions = []
        for position in self._exchange.positions(account):
            rows, contract = desk.markets.rows(position.symbol), desk.markets.contract(position.symbol)
            if not position.lots or rows is None or contract is None:
                continue
            listing, prices = rows.listing, desk.markets.prices(position.symbol)
            if inst_type not in ("", listing.inst_type):
                continue
            size = abs(position.lots) * contract.lot.size
            usd = notional_usd(listing, size, Decimal(prices.mark), Decimal(prices.index))
            positions.append(
                {
                    "baseBal": "",
                    "ccy": contract.settle,
                    "instId": listing.inst_id,
                    "instType": listing.inst_type,
                    "mgnMode": margin_mode(position),
                    "notionalCcy": money_text(abs(position.mark_value), COINS[contract.settle]),
                    "notionalUsd": decimal_text(usd, 10),
                    "pos": decimal_text(position.lots * contract.lot.size),
                    "posCcy": "",
                    "posId": pos_id(position),
                    "posSide": str(position.pos_side),
                    "quoteBal": "",
                }
            )
        return [{"adjEq": "", "balData": balances, "posData": positions, "ts": ms_text(desk.markets.now_ns)}]

    def _leverage_info(self, account: str, query: Query) -> Rows:
        mode = one_of(query, "mgnMode", MARGIN_MODES)
        is_net = self._desk.settings[account].pos_mode == "net_mode"
        rows = []
        for inst_id in self._ids(query):
            listing = self._derivative(inst_id)
            for pos_side in ("net",) if is_net else ("long", "short"):
                is_isolated = mode == "isolated"
                lever = self._desk.lever(account, listing, PosSide(pos_side), is_isolated=is_isolated)
                rows.append(
                    {"ccy": "", "instId": inst_id, "mgnMode": mode, "posSide": pos_side, "lever": lever}
                )
        return rows

    def _trade_fee(self, account: str, query: Query) -> Rows:
        del account
        inst_type = one_of(query, "instType", ("SPOT", "MARGIN", "SWAP", "FUTURES", "OPTION"))
        for name in ("instId", "instFamily", "uly"):
            value = given(query, name)
            if value and not self._markets.is_listed(inst_type, name, value):
                raise OkexError("51001")
        maker, taker = (decimal_text(-rate) for rate in fees("SPOT" if inst_type == "MARGIN" else inst_type))
        groups: tuple[str, ...] = _FEE_GROUPS.get(inst_type, ("1",))
        if given(query, "groupId"):
            groups = tuple(group for group in groups if group == query["groupId"])
        return [
            {
                "category": "1",
                "delivery": decimal_text(DELIVERY_FEE) if inst_type == "FUTURES" else "",
                "exercise": "",
                "feeGroup": [
                    {"elpMaker": maker, "groupId": group, "maker": maker, "taker": taker} for group in groups
                ],
                "fiat": [],
                "instType": inst_type,
                "level": "Lv1",
                "maker": maker,
                "makerU": "",
                "makerUSDC": "",
                "ruleType": "normal",
                "taker": taker,
                "takerU": "",
                "takerUSDC": "",
                "ts": ms_text(self._markets.now_ns),
            }
        ]

    def _max_size(self, account: str, query: Query) -> Rows:
        rows = []
        for inst_id in self._traded_ids(query):
            rows_of = self._markets.rows(inst_id)
            listing = self._markets.find_listing({"instId": inst_id}, by_code=False)
            if rows_of is None or inst_id not in self._markets.feeds:
                raise OkexError("51001")
            market = self._markets.feeds[inst_id].market
            price = given(query, "px")
            ticks = int(number(price, "px") / rows_of.tick.size) if price else None
            sizes = []
            for side in (BID, ASK):
                best = market.book.best_ask if side == BID else market.book.best_bid
                tick = ticks or best or market.day.last_tick
                is_isolated = query["tdMode"] == "isolated"
                lots = self._exchange.max_lots(account, inst_id, side, tick, is_isolated=is_isolated)
                sizes.append(rows_of.lot.text(max(lots, 0)))
            ccy = listing.row["settleCcy"] or listing.row["baseCcy"]
            rows.append({"ccy": ccy, "instId": inst_id, "maxBuy": sizes[0], "maxSell": sizes[1]})
        return rows

    def _max_avail(self, account: str, query: Query) -> Rows:
        free = {one.coin: money_text(one.available, one.decimals) for one in self._exchange.balances(account)}
        rows = []
        for inst_id in self._traded_ids(query):
            row = self._markets.find_listing({"instId": inst_id}, by_code=False).row
            buys, sells = row["settleCcy"] or row["quoteCcy"], row["settleCcy"] or row["baseCcy"]
            rows.append(
                {"instId": inst_id, "availBuy": free.get(buys, "0"), "availSell": free.get(sells, "0")}
            )
        return rows

    def _bills(self, account: str, query: Query) -> Rows:
        begin, end = given(query, "begin"), given(query, "end")
        since, until = (
            int(number(value, name)) if value else None for name, value in (("begin", begin), ("end", end))
        )
        rows = [
            row
            for row in self._private.bills.of(account)
            if all(
                given(query, name) in ("", row[name])
                for name in ("instType", "instId", "ccy", "mgnMode", "type", "subType")
            )
            and (since is None or int(row["ts"]) >= since)
            and (until is None or int(row["ts"]) <= until)
        ]
        return page(rows, query, lambda row: int(row["billId"]), lambda value: int(number(value, "billId")))

    def _currencies(self, account: str, query: Query) -> Rows:
        del account
        wanted = [coin for coin in given(query, "ccy").split(",") if coin]
        return [_currency(coin) for coin in COINS if not wanted or coin in wanted]

    def _set_mode(self, account: str, body: dict[str, Any]) -> Rows:
        pos_mode = required(body, "posMode")
        if pos_mode not in _MODES:
            raise OkexError("51000", "posMode")
        settings = self._desk.settings[account]
        if settings.level == "4" and pos_mode != "net_mode":
            raise OkexError("51041")
        if pos_mode != settings.pos_mode:
            try:
                self._exchange.set_mode(account, _MODES[pos_mode])
            except Refused as exc:
                raise OkexError("59000") from exc
            settings.pos_mode = pos_mode
        return [{"posMode": pos_mode}]

    def _set_leverage(self, account: str, body: dict[str, Any]) -> Rows:
        lever_text, mode, pos_side = required(body, "lever"), required(body, "mgnMode"), text(body, "posSide")
        inst_id = text(body, "instId")
        if not inst_id:
            if not text(body, "ccy"):
                raise OkexError("50015", "instId", "ccy")
            raise OkexError("51010")
        if mode not in MARGIN_MODES:
            raise OkexError("51000", "mgnMode")
        settings = self._desk.settings[account]
        is_isolated = mode == "isolated"
        if is_isolated and settings.level in ("3", "4"):
            raise OkexError("50072")
        if settings.level == "4":
            raise OkexError("51039")
        by_side = is_isolated and settings.pos_mode == "long_short_mode"
        if pos_side not in (("long", "short") if by_side else ("", "net")):
            raise OkexError("51000", "posSide")
        listing = self._derivative(inst_id)
        lever = number(lever_text, "lever")
        if lever < 1:
            raise OkexError("59105", "1")
        if lever > Decimal(listing.row["lever"]):
            raise OkexError("59102")
        try:
            side = PosSide(pos_side or "net")
            self._exchange.set_leverage(account, inst_id, lever, side, is_isolated=is_isolated)
        except Refused as exc:
            code = _REFUSALS.get(exc.why, "51000")
            if exc.why is Why.MARGIN and self._has_orders(account, listing):
                code = "59107"  # they bind what the other leverage needs
            raise OkexError(code, "lever") from exc
        return [{"instId": inst_id, "lever": decimal_text(lever), "mgnMode": mode, "posSide": pos_side}]

    def _has_orders(self, account: str, listing: Listing) -> bool:
        """Return whether orders are open that share an instrument's leverage."""
        group = self._exchange.contract(listing.inst_id).group
        views = self._exchange.open_orders(account)
        return any(
            not one.is_isolated and self._exchange.contract(one.symbol).group == group for one in views
        )

    def _ids(self, query: Query) -> list[str]:
        ids = [one for one in needed(query, "instId").split(",") if one]
        if len(ids) > _MOST_IDS:
            raise OkexError("50025", "instId", _MOST_IDS)
        return ids

    def _traded_ids(self, query: Query) -> list[str]:
        """Return the instruments of a query that also names a trade mode which fits them."""
        mode = needed(query, "tdMode")
        ids = self._ids(query)
        for inst_id in ids:
            listing = self._markets.find_listing({"instId": inst_id}, by_code=False)
            if mode not in (("cash",) if listing.inst_type == "SPOT" else MARGIN_MODES):
                raise OkexError("51000", "tdMode")
        return ids

    def _derivative(self, inst_id: str) -> Listing:
        listing = self._markets.find_listing({"instId": inst_id}, by_code=False)
        if listing.inst_type == "SPOT":
            raise OkexError("51000", "instId")
        return listing


def _currency(coin: str) -> dict[str, Any]:
    """Return a currency; nothing goes in or out of a simulated venue."""
    return {
        "burningFeeRate": "",
        "canDep": False,
        "canInternal": False,
        "canWd": False,
        "ccy": coin,
        "chain": f"{coin}-Simulated",
        "ctAddr": "",
        "depEstOpenTime": "",
        "depQuotaFixed": "",
        "depQuoteDailyLayer2": "",
        "fee": "0",
        "logoLink": "",
        "mainNet": True,
        "maxFee": "0",
        "maxFeeForCtAddr": "",
        "maxWd": "0",
        "minDep": "0",
        "minDepArrivalConfirm": "1",
        "minFee": "0",
        "minFeeForCtAddr": "",
        "minInternal": "0",
        "minWd": "0",
        "minWdUnlockConfirm": "1",
        "name": coin,
        "needTag": False,
        "usedDepQuotaFixed": "",
        "usedWdQuota": "0",
        "wdEstOpenTime": "",
        "wdQuota": "0",
        "wdTickSz": "8",
    }
