"""Positions, margin, wallet and the account itself at the simulated BitMEX, by REST.

In: parameters of an authenticated account. Out: rows, or ``BadRequest`` in the venue's words. Written from
the fact sheet, sections 5.1, 5.5 and 6.5. Leverage 0 is cross margin, any other isolates the position.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from dquant.simulator import bitmex_account_rows as account_rows
from dquant.simulator.bitmex_account import BitmexAccount, image
from dquant.simulator.bitmex_money import MAX_LEVERAGE
from dquant.simulator.bitmex_params import BadRequest, Params
from dquant.simulator.bitmex_tables import Row, iso
from dquant.simulator.bitmex_trade_rest import Handler, Reply, TradeRest
from dquant.simulator.orders import Refused, Why

if TYPE_CHECKING:
    from dquant.simulator.bitmex_server import BitmexServer

_BALANCE_TYPES = ("Trade", "Funding", "Settlement", "Liquidation", "Bankruptcy")
_OPEN = ("New", "PartiallyFilled")


class AccountRest:
    """The routes of lists, positions and the account; they lean on the orders' for what names a contract."""

    def __init__(self, venue: "BitmexServer", trade: TradeRest) -> None:
        self._venue, self._side, self._trade = venue, venue.private, trade
        self.routes: dict[tuple[str, str], Handler] = {
            ("GET", "/order"): self._orders,
            ("GET", "/execution"): lambda params, account: self._executions(params, account.executions),
            ("GET", "/execution/tradeHistory"): self._trade_history,
            ("GET", "/position"): self._positions,
            ("POST", "/position/leverage"): self._leverage,
            ("POST", "/position/isolate"): self._isolate,
            ("POST", "/position/riskLimit"): self._risk_limit,
            ("POST", "/position/transferMargin"): self._transfer_margin,
            ("GET", "/user"): lambda _params, account: Reply(self._user(account)),
            ("GET", "/user/margin"): self._margin,
            ("GET", "/user/wallet"): self._wallet,
            ("GET", "/user/walletHistory"): self._wallet_history,
            ("GET", "/user/commission"): lambda _params, _account: Reply(self._commission()),
            ("POST", "/user/positionMode"): self._position_mode,
            ("GET", "/user/quoteFillRatio"): lambda _params, account: Reply([self._fill_ratio(account)]),
            ("GET", "/apiKey"): lambda _params, account: Reply(self._keys(account)),
        }

    @property
    def _now(self) -> int:
        return self._venue.now_ns

    # Lists

    def _orders(self, params: Params, account: BitmexAccount) -> Reply:
        wanted = dict(params.table("filter"))
        is_open: Any = wanted.pop("open", None)
        terminated = wanted.pop("ordStatus.isTerminated", None)
        if terminated is not None:
            is_open = not terminated
        rows: Iterable[Row] = account.orders.values()
        if is_open is not None:
            rows = [row for row in rows if (row["ordStatus"] in _OPEN) == bool(is_open)]
        return self._list(rows, params, wanted, ("orderID", "account"))

    def _executions(self, params: Params, rows: Iterable[Row]) -> Reply:
        return self._list(rows, params, params.table("filter"), ("execID", "orderID", "account"))

    def _trade_history(self, params: Params, account: BitmexAccount) -> Reply:
        return self._executions(
            params, [row for row in account.executions if row["execType"] in _BALANCE_TYPES]
        )

    def _positions(self, params: Params, account: BitmexAccount) -> Reply:
        rows = [_shown(row) for row in account.positions.values()]
        return self._list(rows, params, params.table("filter"), ("account", "strategy"))

    def _list(
        self, rows: Iterable[Row], params: Params, wanted: Mapping[str, Any], keys: tuple[str, ...]
    ) -> Reply:
        query = {
            name: params.text(name) or "" for name in ("symbol", "count", "start", "startTime", "endTime")
        }
        query["reverse"] = "true" if params.flag("reverse") else ""
        query["columns"] = ",".join(params.texts("columns"))
        return Reply(self._venue.rest.list_rows(rows, query, wanted=wanted, keys=keys))

    # Positions

    def _leverage(self, params: Params, account: BitmexAccount) -> Reply:
        symbol = self._trade.listed(params).contract.symbol
        params.needs("leverage")
        leverage = params.number("leverage") or Decimal(0)
        if not 0 <= leverage <= MAX_LEVERAGE or 0 < leverage < Decimal("0.01"):
            raise BadRequest("Invalid leverage", "ValidationError")
        # 0 is cross: the margin that the contract asks for.
        return self._set_terms(account, symbol, leverage or MAX_LEVERAGE, is_cross=not leverage)

    def _isolate(self, params: Params, account: BitmexAccount) -> Reply:
        symbol = self._trade.listed(params).contract.symbol
        is_cross = params.flag("enabled") is False
        leverage = MAX_LEVERAGE if is_cross else account.term(symbol).leverage
        return self._set_terms(account, symbol, leverage, is_cross=is_cross)

    def _set_terms(self, account: BitmexAccount, symbol: str, leverage: Decimal, *, is_cross: bool) -> Reply:
        try:
            self._side.exchange.isolate(account.name, symbol, is_isolated=not is_cross, leverage=leverage)
        except Refused:
            raise BadRequest("Account has insufficient Available Balance", "ValidationError") from None
        terms = account.term(symbol)
        terms.leverage, terms.is_cross = leverage, is_cross
        return self._position(account, symbol)

    def _risk_limit(self, params: Params, account: BitmexAccount) -> Reply:
        listed = self._trade.listed(params)
        params.needs("riskLimit")
        limit = params.whole("riskLimit")
        if limit is None or not listed.contract.fixed["riskLimit"] <= limit <= account_rows.MARGIN_RISK_LIMIT:
            raise BadRequest("Invalid riskLimit", "ValidationError")
        account.term(listed.contract.symbol).risk_limit = limit
        return self._position(account, listed.contract.symbol)

    def _transfer_margin(self, params: Params, account: BitmexAccount) -> Reply:
        symbol = self._trade.listed(params).contract.symbol
        params.needs("amount")
        amount = params.whole("amount")
        try:
            self._side.exchange.move_margin(account.name, symbol, amount or 0)
        except Refused as exc:
            words = "Account has insufficient Available Balance"
            if exc.why is Why.NO_POSITION:
                words = f"Position of {symbol} has no isolated margin"
            raise BadRequest(words, "ValidationError") from None
        return self._position(account, symbol)

    def _position(self, account: BitmexAccount, symbol: str) -> Reply:
        return Reply(_shown(self._side.refresh(account, symbol, self._now)))

    @staticmethod
    def _position_mode(params: Params, account: BitmexAccount) -> Reply:
        """Answer who asks for one position a contract; hedge mode is not simulated."""
        mode = params.text("positionMode") or "OneWay"
        if mode != "OneWay":
            raise BadRequest("Invalid positionMode", "ValidationError")
        if account.open_rows():
            raise BadRequest("Position mode cannot be changed with open orders", "ValidationError")
        return Reply({"account": account.number, "positionMode": mode})

    # Money

    def _margin(self, params: Params, account: BitmexAccount) -> Reply:
        self._side.remark(account, self._now)
        return self._by_coin(params, "margin", account.margins)

    def _wallet(self, params: Params, account: BitmexAccount) -> Reply:
        return self._by_coin(params, "wallet", account.wallet_rows)

    @staticmethod
    def _by_coin(params: Params, table: str, rows: Mapping[str, Row]) -> Reply:
        coin = params.text("currency") or "XBt"
        if coin == "all":
            return Reply([image(table, row) for row in rows.values()])
        if coin not in rows:
            raise BadRequest("Invalid currency", "ValidationError")
        return Reply(image(table, rows[coin]))

    def _wallet_history(self, params: Params, account: BitmexAccount) -> Reply:
        coin = params.text("currency") or "XBt"
        rows = [row for row in reversed(account.transacts) if coin in ("all", row["currency"])]
        return self._list(rows, params, {}, ())

    def _commission(self) -> Row:
        rates: Row = {}
        for symbol in self._venue.markets:
            engine = self._side.house.listed[symbol].engine
            rates[symbol] = {
                "maxFee": float(engine.taker_fee),
                "makerFee": float(engine.maker_fee),
                "takerFee": float(engine.taker_fee),
                "settlementFee": float(engine.delivery_fee),
            }
        return rates

    # The account

    def _user(self, account: BitmexAccount) -> Row:
        name = f"simulated-{account.number}"
        return {
            "id": account.number,
            "firstname": "Simulated",
            "lastname": str(account.number),
            "username": name,
            "accountName": name,
            "isUser": True,
            "email": f"{name}@example.com",
            "preferences": {},
            "TFAEnabled": "",
            "country": "SC",
            "typ": "Individual",
            "created": iso(self._venue.start_ns),
            "lastUpdated": iso(self._venue.start_ns),
        }

    def _fill_ratio(self, account: BitmexAccount) -> Row:
        rows = account.orders.values()
        quotes, dealt = len(rows), sum(1 for row in rows if row["cumQty"])
        row = {"date": iso(self._now), "account": account.number, "quoteCount": quotes, "dealtCount": dealt}
        means = {"quotesMavg7": float(quotes), "dealtMavg7": float(dealt)}
        return row | means | {"QFRMavg7": dealt / max(1, quotes)}

    def _keys(self, account: BitmexAccount) -> list[Row]:
        return [
            {
                "id": key.key_id,
                "name": "simulated",
                "permissions": list(key.permissions),
                "cidrs": ["0.0.0.0/0"],
                "enabled": True,
                "userId": account.number,
                "created": iso(self._venue.start_ns),
            }
            for key in self._side.keys.keys_of(account.number)
        ]


def _shown(row: Row) -> Row:
    return {name: value for name, value in row.items() if value is not None}
