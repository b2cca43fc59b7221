"""Size and speed of the simulated venues: what they cost at market rates, a stepped day, order to answer.

``.venv/bin/python -m benchmarks.simulator [--seconds N] [--hours N] [--orders N]``. The venues run as
shipped, ``simulate`` in a process of its own; ten clients of each in this one. Three figures with limits:

- CPU of the venues' process with all clients listening, as a share of one core (at most 0.25). Clients of OKX
  have ``books``, ``bbo-tbt``, ``trades`` and ``tickers`` of the weekly future and the swap, those of BitMEX
  ``orderBookL2``, ``quote``, ``trade`` and ``instrument`` of XBTUSD.
- Real time of a day that the control door steps, a minute at a time (at most 300 s)
- Real time from sending an order to reading its acknowledgement: OKX by websocket and REST, BitMEX by REST
  (median at most 2 ms), paced below the venues' rate limits. The client is aiohttp's; REST is measured once
  more over a bare socket, which leaves little but the venue and the kernel.
"""

import argparse
import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import uvloop

from dquant.simulator.child import SimulatedChild, start_child
from dquant.simulator.process import SimulateOptions

CLIENTS = 10
WARM_UP_S = 4.0
CPU_LIMIT, DAY_LIMIT_S, ACK_LIMIT_MS = 0.25, 300.0, 2.0
PACE_S = 0.05  # OKX: 60 orders in 2 s
BITMEX_PACE_S, BITMEX_ORDERS = 0.12, 100  # 10 a second, 120 a minute
Figure = dict[str, Any]
Post = Callable[[str, str, dict[str, str]], Awaitable[Any]]  # target, body, headers -> JSON
Result = TypeVar("Result")


@contextlib.contextmanager
def venues(**options: Any) -> Iterator[SimulatedChild]:
    """Run the simulated venues in a process of their own."""
    child = start_child(SimulateOptions(**options))
    try:
        yield child
    finally:
        child.stop()


def cpu_s(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


async def listen(session: aiohttp.ClientSession, url: str, text: str, count: list[int]) -> None:
    """Listen to one websocket, counting frames and bytes."""
    async with session.ws_connect(url, compress=0, max_msg_size=0) as ws:
        await ws.send_str(text)
        async for message in ws:
            count[0] += 1
            count[1] += len(message.data)


async def weekly(session: aiohttp.ClientSession, rest: str) -> str:
    """Return the instrument of this week's future."""
    async with session.get(f"{rest}/api/v5/public/instruments?instType=FUTURES&instFamily=BTC-USD") as answer:
        rows = (await answer.json())["data"]
    return str(next(row["instId"] for row in rows if row["alias"] == "this_week"))


async def at_market_rates(child: SimulatedChild, seconds: float) -> Figure:
    """Measure the venues' processor time with all clients listening."""
    async with aiohttp.ClientSession() as session:
        instruments = [await weekly(session, child.okex_rest), "BTC-USD-SWAP"]
        args = [
            {"channel": channel, "instId": name}
            for name in instruments
            for channel in ("books", "bbo-tbt", "trades", "tickers")
        ]
        okex = json.dumps({"op": "subscribe", "args": args})
        topics = [f"{table}:XBTUSD" for table in ("orderBookL2", "quote", "trade", "instrument")]
        bitmex = json.dumps({"op": "subscribe", "args": topics})
        count = [0, 0]
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(listen(session, url, text, count))
                for url, text in ((f"{child.okex_ws}/public", okex), (child.bitmex_ws, bitmex))
                for _ in range(CLIENTS)
            ]
            await asyncio.sleep(WARM_UP_S)
            began, used, frames, size = time.monotonic(), cpu_s(child.pid), *count
            await asyncio.sleep(seconds)
            passed = time.monotonic() - began
            figure = {
                "share of a core": (cpu_s(child.pid) - used) / passed,
                "frames a second": (count[0] - frames) / passed,
                "MB a second": (count[1] - size) / passed / 1e6,
                "resident MB": resident_mb(child.pid),
            }
            for task in tasks:
                task.cancel()
    return figure


async def stepped(child: SimulatedChild, hours: float) -> Figure:
    """Measure how long stepped hours take, and what a whole day then takes."""
    began, used = time.monotonic(), cpu_s(child.pid)
    async with aiohttp.ClientSession() as session:
        for _ in range(int(hours * 60)):
            async with session.post(f"{child.control}/clock", json={"advance_s": 60}) as answer:
                answer.raise_for_status()
    passed = time.monotonic() - began
    return {"hours": hours, "s": passed, "s a day": passed * 24 / hours, "cpu s": cpu_s(child.pid) - used}


def okex_headers(keys: dict[str, str], method: str, target: str, body: str = "") -> dict[str, str]:
    """Sign a request as OKX asks."""
    stamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    digest = hmac.new(keys["secret"].encode(), f"{stamp}{method}{target}{body}".encode(), hashlib.sha256)
    return {
        "OK-ACCESS-KEY": keys["apiKey"],
        "OK-ACCESS-SIGN": base64.b64encode(digest.digest()).decode(),
        "OK-ACCESS-TIMESTAMP": stamp,
        "OK-ACCESS-PASSPHRASE": keys["passphrase"],
        "Content-Type": "application/json",
    }


async def okex_by_websocket(child: SimulatedChild, orders: int) -> list[float]:
    """Return the times from order to acknowledgement, ms."""
    keys, times = child.addresses["keys"]["okex"], []
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{child.okex_rest}/api/v5/public/instruments?instType=SWAP") as answer:
            rows = (await answer.json())["data"]
        code = next(row["instIdCode"] for row in rows if row["instId"] == "BTC-USD-SWAP")
        price = await okex_price(session, child)
        async with session.ws_connect(f"{child.okex_ws}/private") as ws:
            stamp = str(int(time.time()))
            digest = hmac.new(
                keys["secret"].encode(), f"{stamp}GET/users/self/verify".encode(), hashlib.sha256
            )
            login = {"apiKey": keys["apiKey"], "passphrase": keys["passphrase"], "timestamp": stamp}
            login["sign"] = base64.b64encode(digest.digest()).decode()
            await ws.send_json({"op": "login", "args": [login]})
            shown = await ws.receive_json()
            if shown.get("code") != "0":
                raise RuntimeError(f"login refused: {shown}")
            for number in range(orders):
                order = {"instIdCode": code, "tdMode": "cross", "side": "buy", "ordType": "limit", "sz": "1"}
                text = json.dumps({"id": str(number), "op": "order", "args": [{**order, "px": price}]})
                began = time.perf_counter()
                await ws.send_str(text)
                shown = await ws.receive_json()
                times.append((time.perf_counter() - began) * 1e3)
                check(shown, shown.get("code") == "0")
                await asyncio.sleep(PACE_S)
    return times


async def okex_price(session: aiohttp.ClientSession, child: SimulatedChild) -> str:
    """Return a price that rests: half a per cent below the best bid."""
    async with session.get(f"{child.okex_rest}/api/v5/market/ticker?instId=BTC-USD-SWAP") as answer:
        return f"{float((await answer.json())['data'][0]['bidPx']) * 0.995:.1f}"


@contextlib.asynccontextmanager
async def posting(session: aiohttp.ClientSession, base: str, is_bare: bool) -> AsyncIterator[Post]:
    """Yield what posts, by a session of aiohttp or over a socket with nothing around it."""

    async def by_session(target: str, body: str, headers: dict[str, str]) -> Any:
        async with session.post(base + target, data=body, headers=headers) as answer:
            return await answer.json()

    async def by_socket(target: str, body: str, headers: dict[str, str]) -> Any:
        given = {"Host": host, **headers, "Content-Length": str(len(body))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        writer.write(f"POST {target} HTTP/1.1\r\n{lines}\r\n{body}".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].split()[0]
        return json.loads(await reader.readexactly(int(length)))

    if not is_bare:
        yield by_session
        return
    host = base.removeprefix("http://")
    reader, writer = await asyncio.open_connection(*host.split(":"))
    try:
        yield by_socket
    finally:
        writer.close()


async def okex_by_rest(child: SimulatedChild, orders: int, is_bare: bool = False) -> list[float]:
    """Return the times from order to acknowledgement, ms."""
    # An account of its own for each way: OKX keeps 500 orders pending, BitMEX takes 120 requests a minute.
    keys, times, target = child.addresses["accounts"][is_bare]["okex"], [], "/api/v5/trade/order"
    async with aiohttp.ClientSession() as session, posting(session, child.okex_rest, is_bare) as post:
        order = {"instId": "BTC-USD-SWAP", "tdMode": "cross", "side": "buy", "ordType": "limit", "sz": "1"}
        body = json.dumps({**order, "px": await okex_price(session, child)})
        for _ in range(orders):
            headers = okex_headers(keys, "POST", target, body)
            began = time.perf_counter()
            shown = await post(target, body, headers)
            times.append((time.perf_counter() - began) * 1e3)
            check(shown, shown.get("code") == "0")
            await asyncio.sleep(PACE_S)
    return times


async def bitmex_by_rest(child: SimulatedChild, orders: int, is_bare: bool = False) -> list[float]:
    """Return the times from order to acknowledgement, ms; every twentieth is followed by a cancel of all."""
    keys, times, target = child.addresses["accounts"][is_bare]["bitmex"], [], "/api/v1/order"
    async with aiohttp.ClientSession() as session, posting(session, child.bitmex_rest, is_bare) as post:
        async with session.get(f"{child.bitmex_rest}/api/v1/orderBook/L2?symbol=XBTUSD&depth=1") as answer:
            price = int(min(row["price"] for row in await answer.json()) * 0.995)
        body = json.dumps({"symbol": "XBTUSD", "side": "Buy", "orderQty": 100, "price": price})
        for number in range(min(orders, BITMEX_ORDERS)):
            headers = bitmex_headers(keys, "POST", target, body)
            began = time.perf_counter()
            shown = await post(target, body, headers)
            times.append((time.perf_counter() - began) * 1e3)
            check(shown, "orderID" in shown)
            if number % 20 == 19:
                headers = bitmex_headers(keys, "DELETE", target + "/all", "")
                async with session.delete(f"{child.bitmex_rest}{target}/all", headers=headers) as answer:
                    check(await answer.text(), answer.status == 200)
            await asyncio.sleep(BITMEX_PACE_S)
    return times


def bitmex_headers(keys: dict[str, str], method: str, target: str, body: str) -> dict[str, str]:
    """Sign a request as BitMEX asks."""
    expires = str(int(time.time()) + 60)
    digest = hmac.new(keys["secret"].encode(), f"{method}{target}{expires}{body}".encode(), hashlib.sha256)
    headers = {"api-key": keys["apiKey"], "api-expires": expires, "api-signature": digest.hexdigest()}
    return {**headers, "Content-Type": "application/json"} if body else headers


def check(shown: Any, is_good: bool) -> None:
    """Stop where an order was not taken: its time would say nothing."""
    if not is_good:
        raise RuntimeError(f"order refused: {shown}")


def spread(times: list[float]) -> Figure:
    """Return median and 99th percentile."""
    return {"median ms": statistics.median(times), "p99 ms": sorted(times)[int(len(times) * 0.99)]}


def run(measure: Coroutine[Any, Any, Result]) -> Result:
    """Run a measurement on uvloop, as the venues run."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(measure)


def main() -> int:
    """Measure, print a line a figure, and return 1 where a limit is not kept."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=30.0, help="of market rates (30)")
    parser.add_argument("--hours", type=float, default=24.0, help="of the stepped day (24)")
    parser.add_argument("--orders", type=int, default=200, help="by each way (200; OKX takes 500 pending)")
    options = parser.parse_args()
    figures: dict[str, Figure] = {}
    with venues() as child:
        figures["ten clients each"] = run(at_market_rates(child, options.seconds))
    with venues(accounts=2) as child:
        for name, measure in (
            ("OKX, websocket", okex_by_websocket),
            ("OKX, REST", okex_by_rest),
            ("BitMEX, REST", bitmex_by_rest),
            ("OKX, REST, bare socket", partial(okex_by_rest, is_bare=True)),
            ("BitMEX, REST, bare socket", partial(bitmex_by_rest, is_bare=True)),
        ):
            figures[name] = spread(run(measure(child, options.orders)))
    with venues(speed=0.0) as child:
        figures["a stepped day"] = run(stepped(child, options.hours))
    kept = figures["ten clients each"]["share of a core"] < CPU_LIMIT
    kept &= figures["a stepped day"]["s a day"] < DAY_LIMIT_S
    for name, figure in figures.items():
        kept &= figure.get("median ms", 0.0) < ACK_LIMIT_MS
        print(f"{name}: " + ", ".join(f"{what} {value:.4g}" for what, value in figure.items()))
    print("within the limits" if kept else "NOT within the limits")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
