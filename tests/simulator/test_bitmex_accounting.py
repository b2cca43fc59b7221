"""The books of BitMEX accounts kept a second time: from executions alone, by the formulas of the fact sheet.

Nothing of the simulator's own arithmetic is used here. Two accounts trade at random, with each other and with
the flow, over a funding and a settlement of realised PnL; then every row of money has to be what the sheet
makes of their executions (sections 6.3 to 6.6), and what the ledger says.
"""

import json
from fractions import Fraction
from random import Random

import pytest

ACCOUNTS = (100_001, 100_002)
SYMBOLS = ("XBTUSD", "XBTUSDT", "ETHUSD", "XBTU26")
LOTS = {"ETHUSD": 1}
DEPOSITS = {"XBt": 1_000_000_000, "USDt": 100_000_000_000}


def exact(number):
    """Return what a number of the wire says, as a fraction."""
    return Fraction(repr(number))


def nearest(value):
    return (2 * value.numerator + value.denominator) // (2 * value.denominator)


def value_of(symbol, qty, price):
    """Return the value in minor units: a lot of an inverse contract is rounded to a satoshi."""
    if symbol in ("XBTUSD", "XBTU26"):
        return qty // 100 * nearest(Fraction(10**10) / exact(price))
    return nearest(qty * exact(price) * (100 if symbol == "ETHUSD" else 1))


def sign_of(symbol, qty):
    """Return the sign of a cost: a long of an inverse contract costs below zero."""
    return -1 if (qty > 0) == (symbol in ("XBTUSD", "XBTU26")) else 1


class Books:
    """What an account's executions add up to."""

    def __init__(self):
        self.cash = dict(DEPOSITS)
        self.qty, self.cost, self.realised, self.paid = ({} for _ in range(4))

    def take(self, row):
        if row["execType"] == "Bankruptcy":  # the house pays what a liquidation lost beyond the margin
            self.cash[row["settlCurrency"]] -= row["execComm"]
            return
        if "lastQty" not in row:
            assert not {"execCost", "execComm", "realisedPnl"} & row.keys()
            return
        symbol, coin, size = row["symbol"], row["settlCurrency"], row["lastQty"]
        held = self.qty.get(symbol, 0)
        value = value_of(symbol, size, row["lastPx"])
        fee = int(value * exact(row["commission"]))
        if row["execType"] == "Funding":
            assert size == abs(held)
            assert row["execComm"] == (fee if held > 0 else -fee)
        else:
            assert row["execComm"] == fee
            self._trade(row, symbol, size if row["side"] == "Buy" else -size, held, value)
        self.paid[symbol] = self.paid.get(symbol, 0) + row["execComm"]
        self.cash[coin] += row.get("realisedPnl", 0) - row["execComm"]

    def _trade(self, row, symbol, signed, held, value):
        cost = sign_of(symbol, signed) * value
        assert row["execCost"] == cost
        open_cost, realised = self.cost.get(symbol, 0), 0
        if not held:
            self.realised[symbol] = self.paid[symbol] = 0
        if held * signed >= 0:
            self.cost[symbol] = open_cost + cost
        else:
            closed = min(abs(held), abs(signed))
            part = sign_of(symbol, signed) * value_of(symbol, closed, row["lastPx"])
            share = nearest(Fraction(open_cost * closed, abs(held)))
            realised = -(share + part)
            self.cost[symbol] = open_cost - share if closed == abs(signed) else cost - part
            if closed < abs(signed):  # through zero: a new position
                self.realised[symbol], self.paid[symbol] = -realised, 0
        assert row["realisedPnl"] == realised
        self.realised[symbol] += realised
        self.qty[symbol] = held + signed

    def check_position(self, row):
        symbol = row["symbol"]
        qty, cost = self.qty.get(symbol, 0), self.cost.get(symbol, 0)
        assert (row["currentQty"], row["unrealisedCost"]) == (qty, cost)
        if qty:
            worth = sign_of(symbol, qty) * value_of(symbol, abs(qty), row["markPrice"])
            assert (row["markValue"], row["unrealisedPnl"]) == (worth, worth - cost)
            assert (row["currentComm"], row["realisedPnl"]) == (
                self.paid[symbol],
                self.realised[symbol] - self.paid[symbol],
            )


def act(bench, rng, account):
    """Do something that a client may do."""
    symbol = rng.choice(SYMBOLS)
    bid, ask = bench.best(symbol)
    side = rng.choice(("Buy", "Sell"))
    body = {"symbol": symbol, "side": side, "orderQty": rng.choice((1, 3, 17, 250)) * LOTS.get(symbol, 100)}
    match rng.randrange(9):
        case 0 | 1:
            body["price"] = bid if side == "Buy" else ask  # rests at the top, and may meet the other one
        case 2:
            body |= {"price": ask if side == "Buy" else bid, "timeInForce": "ImmediateOrCancel"}
        case 3:
            body = {"symbol": symbol, "execInst": "Close"}
        case 4:
            asked = {"symbol": symbol, "leverage": rng.choice((0, 3, 25, 100))}
            status, row = bench.ask("POST", "/position/leverage", asked, account=account)
            assert status in (200, 400)
            if status == 200 and row["currentQty"] and not row["crossMargin"]:  # no loss is left to the house
                assert row["posMargin"] + row["unrealisedPnl"] > row["posMaint"]
            return
        case 5:
            rows = bench.ask("GET", "/order", query='filter={"open":true}', account=account)[1]
            if rows:
                row = rng.choice(rows)
                ask_for = {
                    "orderID": row["orderID"],
                    "orderQty": row["orderQty"] + LOTS.get(row["symbol"], 100),
                }
                bench.ask("PUT", "/order", ask_for, account=account)
            return
        case 6:
            bench.flow.coins["BTC"].price *= rng.choice((0.97, 1.03))  # enough to use up the margin of some
    assert bench.ask("POST", "/order", body, account=account)[0] in (200, 400)


@pytest.mark.parametrize("seed", [1, 2])
def test_every_row_of_money_is_what_the_executions_come_to(bitmex_at, seed):
    bench = bitmex_at(2026, 7, 1, 11, 59, 58, seed=seed)  # funding and settlement of realised PnL at noon
    bench.run(100)
    listeners = {account: bench.listen("execution", account=account) for account in ACCOUNTS}
    rng = Random(seed)
    for _ in range(90):
        act(bench, rng, rng.choice(ACCOUNTS))
        bench.run(40)
    kinds = set()
    for account, connection in listeners.items():
        books = Books()
        for text in connection.texts_to_send():
            frame = json.loads(text)
            for row in frame["data"] if frame["table"] == "execution" else ():
                kinds.add((row["execType"], row.get("lastLiquidityInd")))
                books.take(row)
        margins = bench.ask("GET", "/user/margin", query="currency=all", account=account)[1]
        positions = bench.ask("GET", "/position", account=account)[1]
        for row in positions:
            books.check_position(row)
        for row in margins:
            coin = row["currency"]
            assert row["walletBalance"] == books.cash[coin] == row["amount"] + row["realisedPnl"]
            assert bench.venue.exchange.balance(str(account), coin).cash == books.cash[coin]
            mine = [position["unrealisedPnl"] for position in positions if position["currency"] == coin]
            assert row["marginBalance"] == books.cash[coin] + sum(mine)
            assert row["excessMargin"] == row["marginBalance"] - row["initMargin"] - row["maintMargin"]
            balance = bench.venue.exchange.balance(str(account), coin)
            assert row["availableMargin"] == balance.available
    assert {("Trade", "AddedLiquidity"), ("Trade", "RemovedLiquidity"), ("Funding", None)} <= kinds
