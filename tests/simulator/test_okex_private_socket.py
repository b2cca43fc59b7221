"""Trading on the simulated OKX over real sockets: websocket and REST, and what one tells the other."""

import asyncio
import json
import time
from datetime import UTC, datetime

import aiohttp

from dquant.simulator.clock import VirtualClock
from dquant.simulator.exchange_faults import OrderFault
from dquant.simulator.flow import Flow
from dquant.simulator.okex_login import Secrets, sign
from dquant.simulator.okex_server import OkexServer
from dquant.simulator.server import SimulatedVenues

SECRETS = Secrets("key", "secret", "pass phrase")
SWAP = "BTC-USD-SWAP"
DEADLINE_S = 10.0


class Client:
    """A client with a key, over loopback."""

    def __init__(self, session, base):
        self.session, self.base = session, base

    async def ask(self, method, path, body=None):
        text = "" if body is None else json.dumps(body)
        timestamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        headers = {
            "OK-ACCESS-KEY": SECRETS.api_key,
            "OK-ACCESS-SIGN": sign(SECRETS.secret, f"{timestamp}{method}{path}{text}"),
            "OK-ACCESS-TIMESTAMP": timestamp,
            "OK-ACCESS-PASSPHRASE": SECRETS.passphrase,
            "Content-Type": "application/json",
        }
        async with self.session.request(method, self.base + path, data=text, headers=headers) as answer:
            return await answer.json()

    async def login(self, ws):
        timestamp = str(int(time.time()))
        arg = {"apiKey": SECRETS.api_key, "passphrase": SECRETS.passphrase, "timestamp": timestamp}
        arg["sign"] = sign(SECRETS.secret, f"{timestamp}GET/users/self/verify")
        await ws.send_json({"op": "login", "args": [arg]})
        assert (await ws.receive_json())["event"] == "login"
        await ws.send_json({"op": "subscribe", "args": [{"channel": "orders", "instType": "ANY"}]})
        assert [(await ws.receive_json())["event"] for _ in range(2)] == ["subscribe", "channel-conn-count"]


async def test_orders_of_both_doors_are_heard_on_the_websocket():
    now_ns = time.time_ns()
    flow = Flow(3, now_ns)
    venue = OkexServer(flow, SECRETS)
    venues = SimulatedVenues(flow, [venue], VirtualClock(now_ns, time.monotonic_ns()))
    await venues.start()
    try:
        async with asyncio.timeout(DEADLINE_S), aiohttp.ClientSession() as session:
            client = Client(session, venues.base("okex"))
            url = venues.base("okex").replace("http", "ws", 1) + "/ws/v5/private"
            async with session.ws_connect(url) as ws:
                await client.login(ws)
                new = {"tdMode": "cross", "side": "buy", "ordType": "market", "sz": "1"}
                code = venue.listings[SWAP].code
                await ws.send_json({"id": "1", "op": "order", "args": [{"instIdCode": code, **new}]})
                heard = [await ws.receive_json() for _ in range(3)]
                assert heard[0]["op"] == "order"
                assert [frame["data"][0]["state"] for frame in heard[1:]] == ["live", "filled"]
                # What REST does is news here at once, signed with the query as it is sent.
                answer = await client.ask(
                    "POST", "/api/v5/trade/order", {"instId": SWAP, **new, "clOrdId": "r1"}
                )
                assert answer["data"][0]["sCode"] == "0"
                assert [(await ws.receive_json())["data"][0]["clOrdId"] for _ in range(2)] == ["r1", "r1"]
                found = await client.ask("GET", f"/api/v5/trade/order?instId={SWAP}&clOrdId=r1")
                assert found["data"][0]["state"] == "filled"
                # An answer that is lost: the connection is cut, and the order is there all the same.
                venue.exchange.faults.add(OrderFault(kind="ack_lost"))
                lost = {"instId": SWAP, **new, "clOrdId": "r2"}
                try:
                    await client.ask("POST", "/api/v5/trade/order", lost)
                except aiohttp.ClientError:
                    pass
                else:
                    raise AssertionError("the answer was to be lost")
                assert (await ws.receive_json())["data"][0]["clOrdId"] == "r2"
    finally:
        await venues.stop()
