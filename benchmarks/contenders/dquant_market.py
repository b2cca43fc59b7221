"""dquant as it ships: markets of the factory, prices seen by a callback in the market's own thread.

Variants: ``market``; ``websockets`` (the other transport); ``nine`` (markets in one process); ``redis`` (with
a publisher); ``hog`` (a busy Python thread beside it); ``hog-default`` (and Python's own switch interval).
"""

import threading
from collections.abc import Callable
from typing import Any

from benchmarks.client import Session
from benchmarks.streams import BASE_MS
from dquant.config import MyConfiguration
from dquant.markets.market import Market
from dquant.markets.market_factory import create_markets
from dquant.model.events import Price

NAMES = {"okx": "okex_swap_btcusd", "bitmex": "bitmex_future_btcusd"}
SETTINGS = {
    "websockets": {"DQUANT_TRANSPORT": "websockets"},
    "hog-default": {"DQUANT_SWITCH_INTERVAL_US": "5000"},
}


def run(session: Session, variant: str) -> None:
    cfg = MyConfiguration("dev", SETTINGS.get(variant, {}))
    host = f"127.0.0.1:{session.port}"
    addresses = {
        "okex": (f"http://{host}", f"ws://{host}/ws/v5"),
        "bitmex": (f"http://{host}", f"ws://{host}/realtime"),
    }
    name = NAMES[session.stream.venue]
    if variant.startswith("hog"):
        threading.Thread(target=_be_busy, daemon=True).start()
    markets = []
    for number in range(9 if variant == "nine" else 1):
        (market,) = create_markets([name], cfg, addresses)
        market.register_callbacks({"price": _ignore if number else _see(session)})
        if variant == "redis":
            _publish(market, session.options.redis_port)
        markets.append(market)
    for market in reversed(markets):
        market.start()
    markets[0].join()
    if markets[0].failure is not None:
        raise markets[0].failure


def _see(session: Session) -> Callable[[Price], None]:
    tick = session.tick

    def see(price: Price) -> None:
        if price.verdict == "live":
            tick(price.ts_event // 1_000_000 - BASE_MS, price.bid, price.ask)
        else:
            session.stale += 1

    return see


def _ignore(price: Price) -> None:
    pass


def _publish(market: Market, port: int) -> None:
    from dquant.pipeline.publisher import Publisher
    from dquant.pipeline.redis_link import RedisSettings

    publisher = Publisher(RedisSettings(port=port), market.environment, market.market_name)
    doors: dict[str, Callable[[Any], None]] = {
        "price": publisher.publish_price,
        "depth": publisher.publish_depth,
        "trade": publisher.publish_trade,
        "health": publisher.publish_health,
    }
    market.register_callbacks(doors)

    market.attach(publisher)


def _be_busy() -> None:
    number = 0
    while True:
        number = (number * 31 + 7) % 1_000_003
