"""OKX's own SDK (python-okx): REST with both environments' header, and its websocket clients."""

import asyncio
import importlib.metadata
import json
import logging
from typing import Any

import okx.Account as Account
import okx.MarketData as MarketData
import okx.PublicData as PublicData
import okx.Trade as Trade
import websockets
from okx.websocket.WebSocketFactory import WebSocketFactory
from okx.websocket.WsPrivateAsync import WsPrivateAsync
from okx.websocket.WsPublicAsync import WsPublicAsync
from report import WHERE, attempt, refuse, tell

logging.disable(logging.CRITICAL)
INST = "BTC-USD-SWAP"
keys = WHERE["keys"]
signed = {
    "api_key": keys["apiKey"],
    "api_secret_key": keys["secret"],
    "passphrase": keys["passphrase"],
    "domain": WHERE["rest"],
    "flag": "1",
}

tell("version", importlib.metadata.version("python-okx"))
market = MarketData.MarketAPI(domain=WHERE["rest"], flag="0")
public = PublicData.PublicAPI(domain=WHERE["rest"], flag="0")
attempt("get_ticker", market.get_ticker, INST)
attempt("get_orderbook", market.get_orderbook, INST, "5")
attempt("get_instruments", public.get_instruments, "FUTURES", instFamily="BTC-USD")
attempt("get_funding_rate", public.get_funding_rate, INST)
attempt("get_system_time", public.get_system_time)
ticker = market.get_ticker(INST)["data"][0]
low = f"{float(ticker['bidPx']) * 0.98:.1f}"

if WHERE.get("private"):
    account = Account.AccountAPI(**signed)
    trade = Trade.TradeAPI(**signed)
    attempt("get_account_config", account.get_account_config)
    attempt("set_position_mode", account.set_position_mode, "net_mode")
    attempt("set_leverage", account.set_leverage, "5", "cross", instId=INST)
    attempt("get_account_balance", account.get_account_balance)
    attempt("get_fee_rates", account.get_fee_rates, "SWAP", instFamily="BTC-USD")
    attempt("get_max_order_size", account.get_max_order_size, INST, "cross")
    placed = attempt(
        "place_order",
        trade.place_order,
        instId=INST,
        tdMode="cross",
        side="buy",
        ordType="limit",
        sz="2",
        px=low,
        clOrdId="sdk1",
    )
    attempt("get_order", trade.get_order, INST, clOrdId="sdk1")
    attempt("amend_order", trade.amend_order, INST, clOrdId="sdk1", newSz="3")
    attempt("get_order_list", trade.get_order_list, instType="SWAP")
    attempt("cancel_order", trade.cancel_order, INST, clOrdId="sdk1")
    orders = [
        {"instId": INST, "tdMode": "cross", "side": "buy", "ordType": "limit", "sz": size, "px": low}
        for size in ("1", "0.05")
    ]
    batch = attempt("place_multiple_orders", trade.place_multiple_orders, orders)
    if batch:
        ids = [{"instId": INST, "ordId": row["ordId"]} for row in batch["data"] if row["ordId"]]
        attempt("cancel_multiple_orders", trade.cancel_multiple_orders, ids)
    market_order = {"instId": INST, "tdMode": "cross", "side": "sell", "ordType": "market", "sz": "1"}
    attempt("market_sell", trade.place_order, **market_order)
    attempt("get_positions", account.get_positions, instType="SWAP")
    attempt("close_positions", trade.close_positions, INST, "cross")
    attempt("get_fills", trade.get_fills, instType="SWAP")
    attempt("get_orders_history", trade.get_orders_history, "SWAP")
    attempt("get_account_bills", account.get_account_bills)


class PlainFactory(WebSocketFactory):
    """The SDK's own insists on TLS, whatever its URL says."""

    async def connect(self) -> Any:
        self.websocket = await websockets.connect(self.url)
        return self.websocket


async def listen() -> None:
    """Subscribe as the SDK's examples do, and say the first frames."""
    found: asyncio.Queue[str] = asyncio.Queue()
    client = WsPublicAsync(url=WHERE["ws"] + "/public")
    client.factory = PlainFactory(client.url)
    await client.start()
    args = [{"channel": "books", "instId": INST}, {"channel": "tickers", "instId": INST}]
    await client.subscribe(args, found.put_nowait)
    for _ in range(6):
        tell("ws_public", brief(await asyncio.wait_for(found.get(), 10)))
    await client.factory.close()
    if not WHERE.get("private"):
        return
    private = WsPrivateAsync(
        apiKey=keys["apiKey"],
        passphrase=keys["passphrase"],
        secretKey=keys["secret"],
        url=WHERE["ws"] + "/private",
        useServerTime=False,
    )
    private.factory = PlainFactory(private.url)
    await private.start()
    args = [{"channel": "orders", "instType": "ANY"}, {"channel": "account"}]
    await private.subscribe(args, found.put_nowait)
    await asyncio.sleep(1)
    code = public.get_instruments("SWAP", instId=INST)["data"][0]["instIdCode"]
    arg = {"instIdCode": code, "tdMode": "cross", "side": "buy", "ordType": "limit", "sz": "1", "px": low}
    await private.place_order([{**arg, "clOrdId": "sdk2"}], found.put_nowait, id="a1")
    await asyncio.sleep(0.5)
    await private.cancel_order([{"instIdCode": code, "clOrdId": "sdk2"}], found.put_nowait, id="a2")
    await asyncio.sleep(1)
    while not found.empty():
        tell("ws_private", brief(found.get_nowait()))
    await private.factory.close()


def brief(text: str) -> Any:
    frame = json.loads(text)
    if frame.get("arg", {}).get("channel") == "books" and "data" in frame:
        frame["data"] = [{"levels": len(row["asks"]), "seqId": row["seqId"]} for row in frame["data"]]
    return frame


try:
    asyncio.run(asyncio.wait_for(listen(), 40))
except Exception as exc:
    refuse("websocket", exc)
