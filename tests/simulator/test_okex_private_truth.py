"""What a client of the simulated OKX hears adds up to what is true, whatever it does and in which order."""

import json
from decimal import Decimal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SWAP = "BTC-USD-SWAP"
FINAL = ("filled", "canceled")

steps = st.lists(
    st.tuples(
        st.sampled_from(
            ("limit", "market", "post_only", "ioc", "fok", "cancel", "amend", "close", "wait", "wait")
        ),
        st.sampled_from(("buy", "sell")),
        st.integers(1, 400),  # size in lots
        st.integers(-30, 30),  # ticks from the best
    ),
    min_size=1,
    max_size=12,
)


def act(trader, step, names):
    """Do one step; return what is heard."""
    what, side, lots, ticks = step
    if what == "wait":
        trader.bench.run(100)
        return trader.frames()
    if what == "close":
        trader.ask("POST", "trade/close-position", {"instId": SWAP, "mgnMode": "cross", "autoCxl": True})
        return trader.frames()
    code = trader.code(SWAP)
    if what in ("cancel", "amend"):
        if not names:
            return []
        arg = {"instIdCode": code, "clOrdId": names[lots % len(names)]}
        if what == "amend":
            return trader.op(
                "amend-order", {**arg, "newSz": str(Decimal(lots) / 10), "reqId": f"r{len(names)}"}
            )
        return trader.op("cancel-order", arg)
    names.append(f"n{len(names)}")
    fields = (
        {} if what == "market" else {"px": trader.price(side="ask" if side == "buy" else "bid", ticks=ticks)}
    )
    fields["tdMode"] = "isolated" if lots % 3 == 0 else "cross"
    return trader.place(ordType=what, side=side, sz=str(Decimal(lots) / 10), clOrdId=names[-1], **fields)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_pushes_add_up_to_orders_fills_positions_and_cash(trader_at, steps):
    trader = trader_at(2026, 11, 22)
    trader.listen({"channel": "orders", "instType": "ANY"}, {"channel": "positions", "instType": "ANY"})
    names, frames = [], []
    for step in steps:
        frames += act(trader, step, names)
    trader.bench.run(100)
    frames += trader.frames()
    orders, filled, position, last = {}, {}, Decimal(), {}
    for frame in frames:
        channel = frame.get("arg", {}).get("channel")
        if channel == "positions":
            last[frame["data"][0]["mgnMode"]] = Decimal(frame["data"][0]["pos"])
        if channel != "orders":
            continue
        (row,) = frame["data"]
        before = orders.get(row["ordId"])
        assert before is None or before["state"] not in FINAL
        size = Decimal(row["fillSz"])
        filled[row["ordId"]] = filled.get(row["ordId"], Decimal()) + size
        assert Decimal(row["accFillSz"]) == filled[row["ordId"]]
        assert bool(row["tradeId"]) == bool(size)
        position += size if row["side"] == "buy" else -size
        orders[row["ordId"]] = row
    asked = {}
    for path, query in (("trade/orders-pending", {}), ("trade/orders-history", {"instType": "SWAP"})):
        asked |= {row["ordId"]: row for row in trader.ask("GET", path, **query)[1]["data"]}
    assert asked.keys() == orders.keys()
    for ord_id, row in orders.items():
        shared = ("state", "accFillSz", "sz", "px", "fee", "pnl", "cancelSource", "clOrdId", "uTime")
        assert {key: row[key] for key in shared} == {key: asked[ord_id][key] for key in shared}
    fills = trader.ask("GET", "trade/fills")[1]["data"]
    assert len({fill["tradeId"] for fill in fills}) == len(fills)
    assert sum(Decimal(fill["fillSz"]) for fill in fills) == sum(filled.values())
    held = sum(Decimal(row["pos"]) for row in trader.ask("GET", "account/positions")[1]["data"])
    assert held == position == sum(last.values())
    cash = Decimal(trader.ask("GET", "account/balance", ccy="BTC")[1]["data"][0]["details"][0]["cashBal"])
    earned = sum(Decimal(fill["fillPnl"]) + Decimal(fill["fee"]) for fill in fills)
    assert cash == 10 + earned


def test_the_same_seed_and_steps_say_the_same_bytes(trader_at):
    def conversation():
        trader = trader_at(2026, 11, 22, seed=3)
        said = []
        trader.bench.subscribe(
            trader.connection, {"channel": "orders", "instType": "ANY"}, {"channel": "account"}
        )
        for step in (
            ("market", "buy", 50, 0),
            ("limit", "sell", 30, 5),
            ("wait", "buy", 1, 0),
            ("close", "buy", 1, 0),
        ):
            said += act(trader, step, [])
        trader.bench.run(200)
        return json.dumps(said + trader.frames())

    assert conversation() == conversation()
