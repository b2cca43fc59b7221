"""An exchange by itself, with the instruments and the accounts that its tests need."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from dquant.simulator.contract import Contract, Payoff, inverse_face, linear_face
from dquant.simulator.exchange import Exchange, ExchangeOptions
from dquant.simulator.flow import Flow, MarketSpec
from dquant.simulator.orders import (
    ASK,
    BID,
    Kind,
    OrderRequest,
    Refused,
    Why,
)

MS = 1_000_000
S = 1_000 * MS
HOUR = 3_600 * S
DAY = 24 * HOUR
START = 1_795_305_600 * S  # Sunday, 2026-11-22 00:00 UTC
D = Decimal
COIN = 10**16


class Bench:
    """An exchange with an inverse perpetual, an inverse future, a linear perpetual and spot."""

    def __init__(self, seed: int = 3, options: ExchangeOptions | None = None, **specs: Any) -> None:
        self.flow = Flow(seed, START)
        self.exchange = Exchange("test", self.flow, {"BTC": 16, "USDT": 16}, options)
        self.books = {}
        spec = MarketSpec("PERP", coin="BTC", tick="0.1", lot="0.1", funding_hour=0, **specs)
        common = {"maker_fee": D("0.0002"), "taker_fee": D("0.0005")}
        for name, payoff, group in (
            ("PERP", Payoff.INVERSE, "PERP"),
            ("FUT", Payoff.INVERSE, "BTC-USD"),
            ("LIN", Payoff.LINEAR, "LIN"),
            ("SPOT", Payoff.SPOT, "SPOT"),
        ):
            of_time = {"expiry_ns": START + 5 * DAY + 8 * HOUR} if name == "FUT" else {}
            own = replace(spec, symbol=name, funding_hour=0 if name in ("PERP", "LIN") else None, **of_time)
            if name == "SPOT":
                own = replace(own, lot="0.0001", quote="USDT")
            market = self.flow.add(own)
            self.books[name] = market.book
            face = (
                inverse_face(market.lot, "100", 16)
                if payoff is Payoff.INVERSE
                else linear_face(market.lot, "1" if payoff is Payoff.SPOT else "0.01", 16)
            )
            self.exchange.list_contract(
                Contract(
                    symbol=name,
                    payoff=payoff,
                    tick=market.tick,
                    lot=market.lot,
                    settle="BTC" if payoff is Payoff.INVERSE else "USDT",
                    face=face,
                    group=group,
                    base="BTC" if payoff is Payoff.SPOT else "",
                    base_lot=COIN // 10_000 if payoff is Payoff.SPOT else 0,
                    has_daily_settlement=name == "FUT",
                    **of_time,
                    **common,
                ),
                market,
            )
        for name in ("a", "b"):
            self.exchange.open_account(name, {"BTC": D(10), "USDT": D(1_000_000)})
        self.exchange.take_events()

    def best(self, side: int, symbol: str = "PERP") -> int:
        book = self.books[symbol]
        tick = book.best_bid if side == BID else book.best_ask
        assert tick is not None
        return tick

    def ask(self, account: str = "a", side: int = BID, lots: int = 10, tick: int | None = None, **more: Any):
        symbol = more.pop("symbol", "PERP")
        kind = more.pop("kind", Kind.LIMIT)
        return self.exchange.place(account, OrderRequest(symbol, side, lots, kind, tick, **more)).order

    def buy(self, lots: int = 10, account: str = "a", symbol: str = "PERP", **more: Any):
        return self.ask(account, BID, lots, symbol=symbol, kind=Kind.MARKET, **more)

    def sell(self, lots: int = 10, account: str = "a", symbol: str = "PERP", **more: Any):
        return self.ask(account, ASK, lots, symbol=symbol, kind=Kind.MARKET, **more)

    def pass_time(self, ns: int) -> list[Any]:
        self.flow.advance(self.flow.now_ns + ns)
        return self.exchange.take_events()

    def events(self) -> list[Any]:
        return self.exchange.take_events()

    def kinds(self, account: str = "a") -> list[str]:
        return [type(event).__name__ for event in self.events() if event.account == account]

    def check_conservation(self) -> None:
        """In every coin cash only changes hands; what is open has its counterpart in the costs."""
        clearing = self.exchange._clearing
        everybody = [*clearing.accounts.values(), clearing.house]
        for coin in clearing.coins:
            cash = sum(account.cash.get(coin, 0) for account in everybody)
            cost = sum(
                position.cost
                for account in everybody
                for position in account.positions.values()
                if position.contract.settle == coin
            )
            assert cash - clearing.deposits.get(coin, 0) == cost
        for symbol in clearing.contracts:
            lots = [
                position.lots
                for account in everybody
                for key, position in account.positions.items()
                if key[0] == symbol
            ]
            assert sum(lots) == 0


def refused(why: Why):
    return pytest.raises(Refused, match=f"^{why}")
