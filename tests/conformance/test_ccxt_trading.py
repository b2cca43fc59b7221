"""ccxt trades on both simulated venues, and what it believes afterwards is what the ledger says."""

from decimal import Decimal

import pytest

pytestmark = pytest.mark.timeout(240)  # the first of them makes the environments
SYMBOL = "BTC/USD:BTC"
ACCOUNT = "main"
COIN = {"okex": "BTC", "bitmex": "XBt"}
INST = {"okex": "BTC-USD-SWAP", "bitmex": "XBTUSD"}
LOT = {"okex": 1, "bitmex": 100}
LOT_SIZE = {"okex": Decimal("0.1"), "bitmex": Decimal(100)}  # contracts in a lot of the ledger
DECIMALS = 16  # of a coin's amounts in OKX's ledger
TRIGGERED = ("stop", "stop_limit", "touched", "touched_limit", "trailing")


@pytest.fixture(params=["okex", "bitmex"])
def venue(request):
    return request.param


def number(order, name):
    """Return a size as the venue wrote it: ccxt turns BitMEX's contracts into coins, or into nothing."""
    names = {"amount": ("orderQty", "sz"), "filled": ("cumQty", "accFillSz")}[name]
    return next(Decimal(order["info"][key]) for key in names if order["info"].get(key))


def price_of(trade):
    """Return a fill's own price: for BitMEX ccxt gives the order's average."""
    return Decimal(str(trade["info"].get("lastPx") or trade["price"]))


def ledger(pair, venue, since=0):
    rows, last = [], since
    while True:
        page = pair.ask(f"/ledger?venue={venue}&account={ACCOUNT}&since={last}")[venue]["rows"]
        if not page:
            return rows
        rows += page
        last = page[-1]["number"]


def last_number(pair, venue):
    return max((row["number"] for row in ledger(pair, venue)), default=0)


def true_balance(pair, venue):
    accounts = pair.ask(f"/accounts?venue={venue}&account={ACCOUNT}")[venue][ACCOUNT]
    balance = next(row for row in accounts["balances"] if row["coin"] == COIN[venue])
    return Decimal(balance["cash"]).scaleb(-balance["decimals"]), accounts


def test_ccxt_trades_and_agrees_with_the_ledger(run, pair, venue):
    lot, since = LOT[venue], last_number(pair, venue)
    cash_before, _ = true_balance(pair, venue)
    seen = run(venue, "ccxt_trading", venue)
    rows = ledger(pair, venue, since)

    # Set up
    assert seen["fetch_balance"]["BTC"]["total"] == pytest.approx(float(cash_before), abs=1e-9)
    assert seen["fetch_leverage"]["longLeverage"] == 5
    seen["set_leverage"]

    # An order that rests, is amended and cancelled
    placed = seen["resting: fetched"]
    assert (placed["status"], placed["side"], placed["clientOrderId"]) == ("open", "buy", "resting")
    assert number(placed, "amount") == 2 * lot
    assert placed["id"] in {order["id"] for order in seen["fetch_open_orders"]}
    edited = seen["edited"]
    assert (edited["id"], number(edited, "amount"), edited["status"]) == (placed["id"], 3 * lot, "open")
    assert edited["price"] < placed["price"]
    assert seen["canceled"]["status"] == "canceled"
    if venue == "okex":
        assert seen.errors["cancel_order_again"][0]["error"] == "OrderNotFound"
    else:
        assert seen["cancel_order_again"]["info"]["error"] == "Unable to cancel order"

    # What takes, what does not, and what is refused
    for call, lots in (("market_buy", 5), ("ioc_sell", 1), ("fok_sell", 1), ("reduce_only", 1)):
        order = seen[f"{call}: fetched"]
        assert (order["status"], number(order, "filled")) == ("closed", lots * lot), call
    assert seen["post_only: fetched"]["status"] == "open"
    assert seen["post_only_crossing: fetched"]["status"] == "canceled"
    assert seen.errors["fok_too_much"][0]["error"] == "InsufficientFunds"
    assert seen.errors["off_lot"][0]["error"] in ("InvalidOrder", "BadRequest")
    if venue == "okex":
        assert seen["optimal_limit_ioc: fetched"]["status"] == "closed"
    else:
        assert {seen[f"{call}: fetched"]["status"] for call in TRIGGERED} == {"open"}
    (position,) = seen["positions_long"]
    assert (position["symbol"], position["side"], position["contracts"]) == (SYMBOL, "long", 5 * lot)

    # Cancels: by list, at once; the dead man's switch armed and disarmed
    assert len(seen["open_before_cancel"]) == (1 if venue == "okex" else 1 + len(TRIGGERED))
    assert seen["left_by_cancel_orders"] == seen["left_by_cancel_pair"] == []
    assert seen["dead_man"]
    assert seen["dead_man_off"]

    # Home, and what history says, against what truly happened
    assert all(not row["contracts"] for row in seen["positions_flat"])
    assert_same_orders(seen, rows, venue)
    fills = [row["fill"] for row in rows if row["kind"] == "order_filled"]
    evening_ms = rows[0]["ts"] // 1_000_000
    mine = [trade for trade in seen["fetch_my_trades"] if trade["timestamp"] >= evening_ms]
    assert sorted(map(told, mine)) == sorted(booked(fill, venue) for fill in fills)
    ids = {order["id"] for order in orders(seen)}
    traded = sum(told(trade)[1] for trade in mine if trade["order"] in ids)
    assert traded == (9 if venue == "okex" else 8) * lot
    finished = {order["id"] for order in seen["fetch_closed_orders"]}
    assert {seen["market_buy: fetched"]["id"], seen["ioc_sell: fetched"]["id"]} <= finished
    assert seen["fetch_ledger"]
    cash, accounts = true_balance(pair, venue)
    assert seen["balance_after"]["BTC"]["total"] == pytest.approx(float(cash), abs=1e-9)
    assert accounts["open_orders"] == []
    assert all(row["lots"] == 0 for row in accounts["positions"] if row["symbol"] == INST[venue])
    changes = [
        row for row in rows if row["kind"] == "balance_changed" and row["balance"]["coin"] == COIN[venue]
    ]
    scale = -changes[-1]["balance"]["decimals"]
    assert sum(Decimal(row["delta"]).scaleb(scale) for row in changes) == cash - cash_before
    assert cash < cash_before  # fees

    # Nobody else's signature
    assert [error["error"] for error in seen.errors["wrong_secret"]] == ["AuthenticationError"]


def assert_same_orders(seen, rows, venue):
    """What the client was told of an order that had ended is what it came to."""
    truth = {row["order"]["client_id"]: row["order"] for row in rows if "order" in row}
    ended = [order for order in orders(seen) if order["status"] != "open"]
    assert len(ended) > 4
    for order in ended:
        true = truth[order["clientOrderId"]]
        assert order["status"] == {"filled": "closed", "cancelled": "canceled"}[true["state"]]
        assert number(order, "filled") == true["filled"] * LOT_SIZE[venue]
        assert number(order, "amount") == true["lots"] * LOT_SIZE[venue]


def told(trade):
    """Return price, size, fee and whether it rested, as the client was told of a fill."""
    info = trade["info"]
    if "fillPx" in info:
        return (
            Decimal(info["fillPx"]),
            Decimal(info["fillSz"]),
            -Decimal(info["fee"]),
            info["execType"] == "M",
        )
    rested = info["lastLiquidityInd"] == "AddedLiquidity"
    return Decimal(info["lastPx"]), Decimal(info["lastQty"]), Decimal(info["execComm"]), rested


def booked(fill, venue):
    """Return the same of a fill in the ledger, which counts in lots and in the coin's smallest unit."""
    fee = Decimal(fill["fee"])
    if venue == "okex":
        fee = fee.scaleb(-DECIMALS)
    return Decimal(fill["price"]), fill["lots"] * LOT_SIZE[venue], fee, fill["is_maker"]


def orders(seen):
    """Return every order that was fetched after it was placed, by its last picture."""
    return [values[-1] for call, values in seen.values.items() if call.endswith(": fetched")]


def test_ccxt_hears_of_its_orders_trades_positions_and_balance(run, pair, venue):
    since = last_number(pair, venue)
    seen = run(venue, "ccxt_account_streams", venue)
    rows = ledger(pair, venue, since)
    updates = [order for batch in seen.all("watch_orders") for order in batch]
    by_id = {}
    for order in updates:
        by_id.setdefault(order["id"], []).append(order["status"])
    ids = [seen[call]["id"] for call in ("create_order_ws" if venue == "okex" else "create", "buy", "sell")]
    assert list(by_id) == ids
    assert by_id[ids[0]][0] == "open"
    assert [by_id[name][-1] for name in ids] == ["canceled", "closed", "closed"]
    heard = {(trade["id"], price_of(trade)) for batch in seen.all("watch_my_trades") for trade in batch}
    fills = [row["fill"] for row in rows if row["kind"] == "order_filled"]
    assert {price for _, price in heard} == {Decimal(fill["price"]) for fill in fills}
    assert len(heard) == len(fills)
    sizes = [row["contracts"] for batch in seen.all("watch_positions") for row in batch]
    assert LOT[venue] in sizes
    assert not sizes[-1]
    cash, _ = true_balance(pair, venue)
    assert seen["watch_balance"]["BTC"]["total"] == pytest.approx(float(cash), abs=1e-9)
    if venue == "okex":
        assert seen["edit_order_ws"]["id"] == seen["cancel_order_ws"]["id"] == ids[0]


def test_a_dead_man_s_orders_are_cancelled(run, pair, venue):
    since = last_number(pair, venue)
    seen = run(venue, "ccxt_dead_man", venue)
    assert (10 if venue == "okex" else 3) - 0.5 < seen["seconds"] < 18
    assert seen["after"]["status"] == "canceled"
    rows = [row for row in ledger(pair, venue, since) if row["kind"] == "order_cancelled"]
    assert [row["order"]["reason"] for row in rows] == ["dead_man"]
    if venue == "okex":
        sides = {(row["side"], row["contracts"]) for row in seen["positions"]}
        assert sides == {("long", 2), ("short", 1)}
        assert seen.errors["mode_refused"]
        assert seen["flat"] == []
        assert seen["netted"]["data"] == [{"posMode": "net_mode"}]


def test_ccxt_trades_every_kind_of_instrument(run, pair, venue):
    since = last_number(pair, venue)
    seen = run(venue, "ccxt_contracts", venue)
    assert not seen.errors
    fills = [row["fill"] for row in ledger(pair, venue, since) if row["kind"] == "order_filled"]
    names = [call.removesuffix(" trades") for call in seen.values if call.endswith(" trades")]
    assert len(names) == (4 if venue == "okex" else 3)
    for name in names:
        trades = seen[f"{name} trades"]
        symbol = trades[-1]["info"].get("symbol") or trades[-1]["info"]["instId"]
        prices = [Decimal(fill["price"]) for fill in fills if fill["symbol"] == symbol]
        assert prices == [price_of(trade) for trade in trades][-len(prices) :]
        if ":" in name:
            (position,) = seen[f"{name} held"]
            assert position["side"] == "long"
            bought = [fill["side"] for fill in fills if fill["symbol"] == symbol].count(0)
            mean = sum(prices[:bought]) / bought
            assert position["entryPrice"] == pytest.approx(float(mean), rel=1e-4)
    accounts = pair.ask(f"/accounts?venue={venue}&account={ACCOUNT}")[venue][ACCOUNT]
    assert all(row["lots"] == 0 for row in accounts["positions"])
    coins = {"XBt": "BTC", "USDt": "USDT"}
    for row in accounts["balances"]:
        total = seen["balance"].get(coins.get(row["coin"], row["coin"]), {}).get("total")
        assert total == pytest.approx(float(Decimal(row["cash"]).scaleb(-row["decimals"])), abs=1e-6)
