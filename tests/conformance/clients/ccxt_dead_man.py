"""ccxt arms the dead man's switch and falls silent; at OKX it also holds both sides of a contract at once."""

import time

import ccxt
from ccxt_client import SYMBOL, exchange
from report import WHERE, attempt, tell

client = exchange(ccxt, with_keys=True)
client.load_markets()
is_okex = WHERE["venue"] == "okex"
LOT = 1 if is_okex else 100

book = client.fetch_order_book(SYMBOL, 5)
low = float(client.price_to_precision(SYMBOL, book["bids"][0][0] * 0.98))
order = attempt("create", client.create_order, SYMBOL, "limit", "buy", LOT, low)
# OKX takes ten seconds at least; ccxt takes BitMEX's milliseconds for seconds.
armed = time.monotonic()
attempt("arm", client.cancel_all_orders_after, 10_000 if is_okex else 3_000_000)
while client.fetch_open_orders(SYMBOL) and time.monotonic() - armed < 20:
    time.sleep(0.5)
tell("seconds", time.monotonic() - armed)
attempt("after", client.fetch_order, order["id"], SYMBOL)

if is_okex:
    attempt("hedged", client.set_position_mode, True)
    attempt("open_long", client.create_order, SYMBOL, "market", "buy", 2, None, {"posSide": "long"})
    attempt("open_short", client.create_order, SYMBOL, "market", "sell", 1, None, {"posSide": "short"})
    attempt("positions", client.fetch_positions, [SYMBOL])
    attempt("mode_refused", client.set_position_mode, False)
    attempt("close_long", client.create_order, SYMBOL, "market", "sell", 2, None, {"posSide": "long"})
    attempt("close_short", client.create_order, SYMBOL, "market", "buy", 1, None, {"posSide": "short"})
    attempt("flat", client.fetch_positions, [SYMBOL])
    attempt("netted", client.set_position_mode, False)
