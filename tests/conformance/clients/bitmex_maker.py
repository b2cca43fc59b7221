"""BitMEX's own market maker (sample-market-maker): it quotes, follows the price, and takes all away again.

It reads ``settings.py`` from the working directory, and a symbol from the command line.
"""

import atexit
import os
import sys
import tempfile
import time
from pathlib import Path

from report import WHERE, tell

os.chdir(tempfile.mkdtemp())
Path("settings.py").write_text(
    f"""
BASE_URL = "{WHERE["rest"]}/api/v1/"
API_KEY = "{WHERE["keys"]["apiKey"]}"
API_SECRET = "{WHERE["keys"]["secret"]}"
ORDER_PAIRS = 3
MIN_SPREAD = 0.02  # so that nobody takes its quotes
RELIST_INTERVAL = 1e-9  # it follows every tick
API_REST_INTERVAL = 0.1
WATCHED_FILES = []
"""
)
del sys.argv[1:]
from market_maker.market_maker import OrderManager  # noqa: E402

KEYS = ("clOrdID", "side", "price", "leavesQty")
maker = OrderManager()
atexit.unregister(maker.exit)
first = maker.exchange.get_ticker()
ends = time.monotonic() + 20
# Its prices are those of the instrument table, which move every few seconds.
while any(maker.exchange.get_ticker()[side] == first[side] for side in ("buy", "sell")):
    if time.monotonic() > ends:
        break
    time.sleep(0.1)
maker.sanity_check()
maker.print_status()
maker.place_orders()
time.sleep(0.5)
tell("open", [[row[key] for key in KEYS] for row in maker.exchange.get_orders()])
tell("fetched", [[row[key] for key in KEYS] for row in maker.exchange.bitmex.http_open_orders()])
tell("position", maker.exchange.get_position()["currentQty"])
tell("balance", maker.exchange.get_margin()["marginBalance"])
maker.exchange.cancel_all_orders()
tell("left", maker.exchange.bitmex.http_open_orders())
tell("connected", maker.check_connection())
maker.exchange.bitmex.exit()
