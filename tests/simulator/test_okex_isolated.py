"""Isolated margin at the simulated OKX: a position with margin of its own beside the cross one, by hand."""

from decimal import Decimal

import pytest

from dquant.simulator.okex_server import OkexOptions

SWAP, FUTURE, SPOT = "BTC-USD-SWAP", "BTC-USD-261127", "BTC-USDT"


def by_mode(rows):
    return {row["mgnMode"]: row for row in rows}


def test_an_isolated_position_lives_beside_the_cross_one(trader):
    trader.listen({"channel": "positions", "instType": "ANY"}, {"channel": "orders", "instType": "ANY"})
    trader.place(ordType="market", sz="3")
    frames = trader.place(ordType="market", sz="20", tdMode="isolated")
    rows = [
        row for frame in frames if frame.get("arg", {}).get("channel") == "orders" for row in frame["data"]
    ]
    assert {row["tdMode"] for row in rows} == {"isolated"}
    rows = by_mode(trader.ask("GET", "account/positions", instId=SWAP)[1]["data"])
    cross, isolated = rows["cross"], rows["isolated"]
    assert (cross["pos"], isolated["pos"]) == ("3", "20")
    assert cross["posId"] != isolated["posId"]
    # 20 contracts of 100 USD at ten times: 200 USD in BTC at the entry.
    assert abs(Decimal(isolated["margin"]) * Decimal(isolated["avgPx"]) - 200) < Decimal("1e-6")
    assert (isolated["imr"], cross["margin"]) == ("", "")
    # A long falls where margin and loss meet the maintenance: 2000/avg - 2000/p + margin = 0.004 * 2000/p.
    price = 2000 * (1 + Decimal("0.004")) / (2000 / Decimal(isolated["avgPx"]) + Decimal(isolated["margin"]))
    assert abs(Decimal(isolated["liqPx"]) - price) < Decimal("0.001")
    (detail,) = trader.ask("GET", "account/balance", ccy="BTC")[1]["data"][0]["details"]
    equity = Decimal(isolated["margin"]) + Decimal(isolated["upl"])
    assert abs(Decimal(detail["isoEq"]) - equity) < Decimal("1e-14")
    assert Decimal(detail["isoUpl"]) == Decimal(isolated["upl"])
    bound = Decimal(cross["imr"]) + Decimal(isolated["margin"])
    assert abs(Decimal(detail["frozenBal"]) - bound) < Decimal("1e-14")
    free = Decimal(detail["eq"]) - Decimal(detail["isoEq"]) - Decimal(cross["imr"])
    assert abs(Decimal(detail["availEq"]) - free) < Decimal("1e-14")


def test_an_isolated_position_is_closed_alone(trader):
    trader.place(ordType="market", sz="3")
    trader.place(ordType="market", sz="2", tdMode="isolated")
    body = {"instId": SWAP, "mgnMode": "isolated"}
    assert trader.ask("POST", "trade/close-position", body)[1]["code"] == "0"
    (left,) = trader.ask("GET", "account/positions")[1]["data"]
    assert (left["mgnMode"], left["pos"]) == ("cross", "3")
    (closed,) = trader.ask("GET", "account/positions-history")[1]["data"]
    assert (closed["mgnMode"], closed["closeTotalPos"]) == ("isolated", "2")
    modes = [bill["mgnMode"] for bill in trader.ask("GET", "account/bills", type="2")[1]["data"]]
    assert (modes[0], modes[-1]) == ("isolated", "cross")


def test_a_leverage_does_not_set_an_isolated_position_free_of_its_loss(trader):
    """At twice it has half its value as margin; a tenth of that value is lost: 50 times would leave 2 %."""
    body = {"instId": SWAP, "lever": "2", "mgnMode": "isolated"}
    assert trader.ask("POST", "account/set-leverage", body)[1]["code"] == "0"
    trader.place(ordType="market", sz="20", tdMode="isolated")
    trader.bench.flow.coins["BTC"].price *= 0.9
    (before,) = trader.ask("GET", "account/positions")[1]["data"]
    assert trader.ask("POST", "account/set-leverage", body | {"lever": "50"})[1]["code"] == "59108"
    (after,) = trader.ask("GET", "account/positions")[1]["data"]
    assert [after[key] for key in ("lever", "margin")] == ["2", before["margin"]]
    assert trader.ask("POST", "account/set-leverage", body | {"lever": "5"})[1]["code"] == "0"


def test_isolated_leverage_is_of_one_instrument_and_in_long_short_mode_of_one_side(trader):
    body = {"instId": FUTURE, "lever": "5", "mgnMode": "isolated"}
    assert trader.ask("POST", "account/set-leverage", body)[1]["code"] == "0"
    info = trader.ask("GET", "account/leverage-info", instId=f"{FUTURE},BTC-USD-261204", mgnMode="isolated")
    assert [(row["mgnMode"], row["lever"]) for row in info[1]["data"]] == [
        ("isolated", "5"),
        ("isolated", "10"),
    ]
    (cross,) = trader.ask("GET", "account/leverage-info", instId=FUTURE, mgnMode="cross")[1]["data"]
    assert cross["lever"] == "10"
    trader.place(FUTURE, tdMode="isolated", px=trader.price(FUTURE, ticks=-2000))
    assert trader.ask("POST", "account/set-leverage", body | {"lever": "4"})[1]["code"] == "59101"
    for row in trader.ask("GET", "trade/orders-pending")[1]["data"]:
        trader.ask("POST", "trade/cancel-order", {"instId": FUTURE, "ordId": row["ordId"]})
    trader.ask("POST", "account/set-position-mode", {"posMode": "long_short_mode"})
    assert trader.ask("POST", "account/set-leverage", body)[1]["code"] == "51000"
    assert trader.ask("POST", "account/set-leverage", body | {"posSide": "short"})[1]["code"] == "0"
    info = trader.ask("GET", "account/leverage-info", instId=FUTURE, mgnMode="isolated")[1]["data"]
    assert [(row["posSide"], row["lever"]) for row in info] == [("long", "10"), ("short", "5")]


def test_isolated_margin_is_not_for_spot_nor_for_accounts_with_one_margin(trader, trader_at):
    assert trader.place(SPOT, tdMode="isolated", px="80000")[0]["data"][0]["sCode"] == "51000"
    other = trader_at(2026, 11, 22, options=OkexOptions(account_level="3"))
    assert other.place(tdMode="isolated", px="80000")[0]["data"][0]["sCode"] == "50072"
    body = {"instId": SWAP, "lever": "5", "mgnMode": "isolated"}
    assert other.ask("POST", "account/set-leverage", body)[1]["code"] == "50072"


@pytest.mark.parametrize(("mode", "has_settled"), [("cross", True), ("isolated", False)])
def test_the_daily_settlement_is_for_cross_positions(trader_at, mode, has_settled):
    trader = trader_at(2026, 11, 24, 7, 59, 58)
    trader.place("BTC-USD-261204", ordType="market", sz="10", tdMode=mode)
    trader.bench.run(3_000)
    (row,) = trader.ask("GET", "account/positions")[1]["data"]
    assert (row["avgPx"] != row["nonSettleAvgPx"], row["settledPnl"] != "0") == (has_settled, has_settled)
