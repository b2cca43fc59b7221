"""ccxt's REST side on an account: one evening of a trader, step by step, every answer told."""

import time
from typing import Any

import ccxt
from ccxt_client import SYMBOL, exchange
from report import WHERE, attempt, tell

client = exchange(ccxt, with_keys=True)
client.load_markets()
book = client.fetch_order_book(SYMBOL, 5)
middle = (book["bids"][0][0] + book["asks"][0][0]) / 2
is_okex = WHERE["venue"] == "okex"
LOT = 1 if is_okex else 100
HUGE = 90_000  # lots
# ccxt hands a time in force on to BitMEX as it is.
IOC, FOK = ("IOC", "FOK") if is_okex else ("ImmediateOrCancel", "FillOrKill")


def price(share: float) -> float:
    """Return a price this share of the mid at the start, on the tick."""
    return float(client.price_to_precision(SYMBOL, middle * share))


def order(call: str, kind: str, side: str, lots: int, at: float | None = None, **params: Any) -> Any:
    """Place an order and say what the answer was, then what the venue says of it."""
    params = {"clientOrderId": call.replace("_", ""), **params}
    placed = attempt(call, client.create_order, SYMBOL, kind, side, lots * LOT, at, params)
    if placed is not None and placed.get("id"):
        attempt(f"{call}: fetched", client.fetch_order, placed["id"], SYMBOL)
    return placed


def has_nothing_open(call: str, *ids: str) -> None:
    """Say whether these orders are gone from the open ones, within a second."""
    ends = time.monotonic() + 3
    while (
        still := {row["id"] for row in client.fetch_open_orders(SYMBOL)} & set(ids)
    ) and time.monotonic() < ends:
        time.sleep(0.2)
    tell(call, sorted(still))


attempt("fetch_balance", client.fetch_balance)
attempt("fetch_positions", client.fetch_positions)
if is_okex:
    attempt("set_position_mode", client.set_position_mode, False)
    attempt("set_leverage", client.set_leverage, 5, SYMBOL, {"mgnMode": "cross"})
    attempt("fetch_leverage", client.fetch_leverage, SYMBOL, {"mgnMode": "cross"})
    attempt("fetch_trading_fee", client.fetch_trading_fee, SYMBOL)
else:
    attempt("set_leverage", client.set_leverage, 5, SYMBOL)
    attempt("fetch_leverage", client.fetch_leverage, SYMBOL)

# An order that rests, is amended and cancelled.
resting = order("resting", "limit", "buy", 2, price(0.98))
if resting:
    number = resting["id"]
    attempt("fetch_open_orders", client.fetch_open_orders, SYMBOL)
    attempt("edit_order", client.edit_order, number, SYMBOL, "limit", "buy", 3 * LOT, price(0.97))
    attempt("edited", client.fetch_order, number, SYMBOL)
    attempt("cancel_order", client.cancel_order, number, SYMBOL)
    attempt("canceled", client.fetch_order, number, SYMBOL)
    attempt("cancel_order_again", client.cancel_order, number, SYMBOL)

# Every kind that takes, and every one that ends by itself.
order("market_buy", "market", "buy", 5)
attempt("positions_long", client.fetch_positions, [SYMBOL])
order("ioc_sell", "limit", "sell", 1, price(0.996), timeInForce=IOC)
order("fok_sell", "limit", "sell", 1, price(0.996), timeInForce=FOK)
order("fok_too_much", "limit", "buy", HUGE, price(1.003), timeInForce=FOK)
order("post_only", "limit", "sell", 1, price(1.02), postOnly=True)
order("post_only_crossing", "limit", "sell", 1, price(0.996), postOnly=True)
order("reduce_only", "limit", "sell", 1, price(0.996), reduceOnly=True)
if not is_okex:
    below: dict[str, Any] = {"triggerPrice": price(0.95), "triggerDirection": "below"}
    above: dict[str, Any] = {"triggerPrice": price(1.05), "triggerDirection": "above"}
    order("stop", "market", "sell", 1, None, **below)
    order("stop_limit", "limit", "sell", 1, price(0.94), **below)
    order("touched", "market", "sell", 1, None, **above)
    order("touched_limit", "limit", "sell", 1, price(1.06), **above)
    order("trailing", "market", "sell", 1, None, trailingAmount=price(0.01), triggerDirection="below")
if is_okex:
    order("optimal_limit_ioc", "optimal_limit_ioc", "buy", 1)
order("off_lot", "limit", "buy", 1, price(0.98), **({"sz": "0.05"} if is_okex else {"orderQty": 50}))

# What is left is cancelled, by list, at once and by the dead man.
rows = attempt("open_before_cancel", client.fetch_open_orders, SYMBOL) or []
numbers = [row["id"] for row in rows]
attempt("cancel_orders", client.cancel_orders, numbers, SYMBOL)
has_nothing_open("left_by_cancel_orders", *numbers)
pair = [order(f"pair{at}", "limit", "buy", 1, price(0.97)) for at in (1, 2)]
if is_okex:
    attempt("dead_man", client.cancel_all_orders_after, 10_000)
    attempt("dead_man_off", client.cancel_all_orders_after, 0)
    attempt("cancel_pair", client.cancel_orders, [row["id"] for row in pair if row], SYMBOL)
else:
    # ccxt takes BitMEX's milliseconds for seconds.
    attempt("dead_man", client.cancel_all_orders_after, 60_000_000)
    attempt("dead_man_off", client.cancel_all_orders_after, 0)
    attempt("cancel_all", client.cancel_all_orders, SYMBOL)
has_nothing_open("left_by_cancel_pair", *(row["id"] for row in pair if row))

# Home again, and what history says.
if is_okex:
    attempt("close_position", client.close_position, SYMBOL, None, {"marginMode": "cross"})
else:
    attempt("close_position", client.private_post_order, {"symbol": "XBTUSD", "execInst": "Close"})
attempt("positions_flat", client.fetch_positions, [SYMBOL])
attempt("fetch_closed_orders", client.fetch_closed_orders, SYMBOL)
attempt("fetch_my_trades", client.fetch_my_trades, SYMBOL)
if is_okex:
    attempt("fetch_canceled_orders", client.fetch_canceled_orders, SYMBOL)
attempt("fetch_ledger", client.fetch_ledger, "BTC", None, None, {"type": "swap"} if is_okex else {})
attempt("balance_after", client.fetch_balance)
wrong = exchange(ccxt, with_keys=True)
wrong.secret = "0" * 32
attempt("wrong_secret", wrong.fetch_balance)
