"""BitMEX's own websocket client (bitmex-ws): the tables that it keeps, with and without a login."""

import importlib.metadata
import time
from typing import Any

from bitmex_websocket import BitMEXWebsocket
from report import WHERE, tell

keys: dict[str, Any] = {}
if WHERE.get("private"):
    keys = {"api_key": WHERE["keys"]["apiKey"], "api_secret": WHERE["keys"]["secret"]}
client = BitMEXWebsocket(endpoint=WHERE["ws"], symbol="XBTUSD", **keys)
tell("version", importlib.metadata.version("bitmex-ws"))
tell("instrument", client.get_instrument())
for _ in range(10):
    time.sleep(0.2)
    tell("ticker", client.get_ticker())
tell("tables", {name: len(rows) for name, rows in client.data.items()})
tell("depth", client.market_depth()[:5] if "orderBookL2" in client.data else [])
if keys:
    tell("funds", client.funds())
    tell("positions", client.positions())
    tell("open_orders", client.open_orders(""))
client.exit()
