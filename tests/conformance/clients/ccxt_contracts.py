"""ccxt buys and sells one of every kind of instrument: spot, linear, inverse, quanto, dated."""

import ccxt
from ccxt_client import exchange
from report import WHERE, attempt

client = exchange(ccxt, with_keys=True)
client.load_markets()
if WHERE["venue"] == "okex":
    dated = [name for name in client.markets if name.startswith("BTC/USD:BTC-")]
    amounts = {"BTC/USDT": 0.01, "BTC/USDT:USDT": 2, "ETH/USD:ETH": 5, min(dated): 3}
else:
    dated = [name for name in client.markets if name.startswith("BTC/USD:BTC-")]
    amounts = {"BTC/USDT:USDT": 1000, "ETH/USD:BTC": 10, min(dated): 100}
for name, amount in amounts.items():
    attempt(f"{name} buy", client.create_order, name, "market", "buy", amount)
    if ":" in name:
        attempt(f"{name} held", client.fetch_positions, [name])
    attempt(f"{name} sell", client.create_order, name, "market", "sell", amount)
    attempt(f"{name} trades", client.fetch_my_trades, name)
attempt("balance", client.fetch_balance)
