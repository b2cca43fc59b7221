"""ccxt's websocket side on an account: all it can watch, while one order rests and goes and one fills."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from ccxt import pro
from ccxt_client import SYMBOL, exchange
from report import WHERE, refuse, tell

IS_OKEX = WHERE["venue"] == "okex"
LOT = 1 if IS_OKEX else 100
HEARD: set[str] = set()


async def watch(call: str, method: Callable[..., Awaitable[Any]], *args: Any) -> None:
    """Say all that a stream says until it is cancelled."""
    try:
        while True:
            tell(call, await method(*args))
            HEARD.add(call)
    except Exception as exc:
        refuse(call, exc)


async def attempt(call: str, doing: Awaitable[Any]) -> Any:
    try:
        return tell(call, await asyncio.wait_for(doing, 10))
    except Exception as exc:
        refuse(call, exc)
        return None


async def run() -> None:
    client = exchange(pro, with_keys=True)
    # What the streams say of one's own is only of interest from here on.
    client.newUpdates = True
    try:
        await client.load_markets()
        book = await client.fetch_order_book(SYMBOL, 5)
        low = float(client.price_to_precision(SYMBOL, book["bids"][0][0] * 0.98))
        watchers = [
            asyncio.create_task(watch("watch_orders", client.watch_orders, SYMBOL)),
            asyncio.create_task(watch("watch_my_trades", client.watch_my_trades, SYMBOL)),
            asyncio.create_task(watch("watch_balance", client.watch_balance)),
            # Of one symbol's positions ccxt never hears at BitMEX: it waits under a name of nobody's.
            asyncio.create_task(
                watch("watch_positions", client.watch_positions, [SYMBOL] if IS_OKEX else None)
            ),
        ]
        # ccxt does not say when it is subscribed, but the balance comes at once.
        for _ in range(100):
            await asyncio.sleep(0.1)
            if "watch_balance" in HEARD:
                break
        await asyncio.sleep(1.5)
        if IS_OKEX:
            resting = await attempt(
                "create_order_ws", client.create_order_ws(SYMBOL, "limit", "buy", 2 * LOT, low)
            )
            if resting:
                await attempt(
                    "edit_order_ws",
                    client.edit_order_ws(resting["id"], SYMBOL, "limit", "buy", 3 * LOT, low),
                )
                await attempt("cancel_order_ws", client.cancel_order_ws(resting["id"], SYMBOL))
        else:
            resting = await attempt("create", client.create_order(SYMBOL, "limit", "buy", 2 * LOT, low))
            if resting:
                await attempt("cancel", client.cancel_order(resting["id"], SYMBOL))
        await attempt("buy", client.create_order(SYMBOL, "market", "buy", LOT))
        await attempt("sell", client.create_order(SYMBOL, "market", "sell", LOT))
        await asyncio.sleep(1.5)
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)
    finally:
        await client.close()


asyncio.run(run())
