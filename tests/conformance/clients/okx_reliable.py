"""okx-perp-reliable, which finds out what came of an order when no answer came, under faults."""

import asyncio
import importlib.metadata
import json
import urllib.request
from decimal import Decimal
from typing import Any

from okx_perp_reliable import OrderSide, ReliablePerpClient
from okx_perp_reliable.enums import OrderType
from report import WHERE, refuse, tell

INST = "BTC-USDT-SWAP"
ORDERS: list[tuple[str, OrderSide, dict[str, Any]]] = [
    ("plain", OrderSide.BUY, {}),
    ("timeout_done", OrderSide.SELL, {"fault": "timeout", "done": True}),
    ("timeout_undone", OrderSide.SELL, {"fault": "timeout", "done": False}),
    ("lost_done", OrderSide.BUY, {"fault": "lost_answer", "done": True}),
    ("lost_undone", OrderSide.BUY, {"fault": "lost_answer", "done": False}),
    ("overloaded", OrderSide.BUY, {"fault": "overloaded"}),
    ("rate_limited", OrderSide.BUY, {"fault": "rate_limited"}),
    ("home", OrderSide.SELL, {}),
]


def spoil(fault: dict[str, Any]) -> None:
    """Have the next order meet this fault."""
    body = json.dumps({"venue": "okex", "method": "POST", "path": "/trade/order", **fault}).encode()
    urllib.request.urlopen(urllib.request.Request(WHERE["control"] + "/fault", body), timeout=10).close()


async def run() -> None:
    keys = WHERE["keys"]
    client = ReliablePerpClient(
        api_key=keys["apiKey"],
        api_secret=keys["secret"],
        passphrase=keys["passphrase"],
        base_url=WHERE["rest"],
    )
    for number, (call, side, fault) in enumerate(ORDERS):
        if fault:
            spoil(fault)
        try:
            result = await client.place_order(
                inst_id=INST,
                side=side,
                order_type=OrderType.MARKET,
                size=Decimal("0.1"),
                cl_ord_id=f"reliable{number}",
            )
            tell(call, {"id": f"reliable{number}", "status": result.status.value, "order": result.order_id})
        except Exception as exc:
            refuse(call, exc)
    await client.close()


tell("version", importlib.metadata.version("okx-perp-reliable"))
asyncio.run(run())
