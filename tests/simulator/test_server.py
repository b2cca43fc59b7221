"""The simulated venues over real sockets on loopback, and their control door."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import pytest
import websockets
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from dquant.simulator import server
from dquant.simulator.bitmex_server import BitmexServer
from dquant.simulator.clock import VirtualClock
from dquant.simulator.flow import Flow
from dquant.simulator.okex_login import Secrets, sign
from dquant.simulator.okex_server import OkexServer
from dquant.simulator.process import addresses
from dquant.simulator.server import SimulatedVenues

START = 1_795_305_600_000_000_000  # Sunday 2026-11-22 00:00 UTC
INST = "BTC-USD-261127"
DEADLINE_S = 10.0


class Stand:
    """Running venues and a client's tools."""

    def __init__(self, venues: SimulatedVenues, session: aiohttp.ClientSession) -> None:
        self.venues, self.session = venues, session
        self.notes: list[dict[str, Any]] = []

    def okex(self, kind: str = "public", **more: Any) -> connect:
        return connect(f"{addresses(self.venues.base)['okex']['ws']}/{kind}", compression=None, **more)

    async def control(self, path: str, **body: Any) -> Any:
        async with self.session.post(self.venues.base("control") + path, json=body) as answer:
            return await answer.json()

    async def wait(self, is_so: Callable[[Any], bool]) -> None:
        """Wait until the state is so."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                if is_so(await self.state()):
                    return
                await asyncio.sleep(0.02)

    async def state(self) -> Any:
        async with self.session.get(self.venues.base("control") + "/state") as answer:
            return await answer.json()


async def make_stand(speed: float = 1.0) -> Stand:
    flow = Flow(3, START)
    venues = [OkexServer(flow, Secrets("a", "b", "c")), BitmexServer(flow)]
    notes: list[dict[str, Any]] = []
    clock = VirtualClock(START, time.monotonic_ns(), speed)
    stand = Stand(SimulatedVenues(flow, venues, clock, note=notes.append), aiohttp.ClientSession())
    stand.notes = notes
    await stand.venues.start()
    return stand


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    made = await make_stand()
    yield made
    await made.session.close()
    await made.venues.stop()


@pytest.fixture
async def stepped() -> AsyncIterator[Stand]:
    """Venues whose clock stands still."""
    made = await make_stand(speed=0.0)
    yield made
    await made.session.close()
    await made.venues.stop()


async def receive(ws: ClientConnection) -> Any:
    async with asyncio.timeout(DEADLINE_S):
        text = await ws.recv()
    return text if text == "pong" else json.loads(text)


async def subscribe(ws: ClientConnection, *channels: str, inst_id: str = INST) -> None:
    args = [{"channel": channel, "instId": inst_id} for channel in channels]
    await ws.send(json.dumps({"op": "subscribe", "args": args}))


async def closed(ws: ClientConnection) -> websockets.frames.Close | None:
    """Read until the server is gone; return its close frame."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                await ws.recv()
            except ConnectionClosed as exc:
                return exc.rcvd


async def test_a_client_gets_ack_snapshot_and_a_chain_of_updates(stand):
    async with stand.okex() as ws:
        await subscribe(ws, "books")
        assert (await receive(ws))["event"] == "subscribe"
        snapshot = await receive(ws)
        assert snapshot["action"] == "snapshot"
        last = snapshot["data"][0]["seqId"]
        for _ in range(5):
            update = await receive(ws)
            assert (update["action"], update["data"][0]["prevSeqId"]) == ("update", last)
            last = update["data"][0]["seqId"]
        await ws.send("ping")
        while await receive(ws) != "pong":
            pass


async def test_both_venues_share_one_market(stand):
    base = addresses(stand.venues.base)
    async with stand.session.get(
        f"{base['bitmex']['rest']}/api/v1/orderBook/L2?symbol=XBTUSD&depth=1"
    ) as answer:
        perpetual = [row["price"] for row in await answer.json()]
    async with stand.session.get(
        f"{base['okex']['rest']}/api/v5/market/ticker?instId=BTC-USD-SWAP"
    ) as answer:
        swap = float((await answer.json())["data"][0]["bidPx"])
    assert all(abs(price / swap - 1) < 0.01 for price in perpetual)


async def test_bitmex_welcomes_and_serves_from_the_query_string(stand):
    url = f"{addresses(stand.venues.base)['bitmex']['ws']}?subscribe=orderBookL2:XBTUSD"
    async with connect(url, compression=None) as ws:
        assert "info" in await receive(ws)
        seen = [await receive(ws) for _ in range(3)]
        assert any(frame.get("action") == "partial" for frame in seen)


async def test_a_control_ping_is_answered(stand):
    async with stand.okex() as ws:
        pong = await ws.ping()
        async with asyncio.timeout(DEADLINE_S):
            await pong


async def test_unknown_paths_are_refused(stand):
    with pytest.raises(InvalidStatus, match="404"):
        await stand.okex("nowhere").__aenter__()
    async with stand.session.get(stand.venues.base("okex") + "/api/v5/nowhere") as answer:
        assert answer.status == 404


async def test_state_tells_connections_subscriptions_and_truth(stand):
    async with stand.okex() as ws:
        await subscribe(ws, "books", "trades")
        await receive(ws)
        state = await stand.state()
        (connection,) = state["venues"]["okex"]["connections"]
        assert connection["subscriptions"] == [f"books:{INST}", f"trades:{INST}"]
        top = state["venues"]["okex"]["truth"][INST]
        assert top["bid"] < top["ask"]
        assert state["venues"]["bitmex"]["truth"]["XBTUSD"]["bid"] > 0


async def test_what_a_client_saw_is_the_truth_when_the_clock_stands(stepped):
    async with stepped.okex() as ws:
        await subscribe(ws, "bbo-tbt")
        await receive(ws)
        answer = await stepped.control("/clock", advance_s=2.5)
        assert answer["now_ns"] == START + 2_500_000_000
        top = (await stepped.state())["venues"]["okex"]["truth"][INST]
        await ws.send("ping")
        shown = None
        while (frame := await receive(ws)) != "pong":
            shown = frame["data"][0]
        assert (float(shown["bids"][0][0]), float(shown["asks"][0][0])) == (top["bid"], top["ask"])


@pytest.mark.parametrize("way", ["websocket", "rest"])
async def test_a_request_is_told_of_before_the_next_one_where_the_clock_stands(monkeypatch, way):
    # No tick of real time may decide which of them are told of together, and so in what order.
    monkeypatch.setattr(server, "TICK_S", 60.0)
    stand = await make_stand(speed=0.0)
    swap = {"tdMode": "cross", "side": "buy", "ordType": "market", "sz": "1"}
    spot = swap | {"tdMode": "cash", "tgtCcy": "base_ccy", "sz": "0.01"}
    orders = {"BTC-USDT": (3, spot), "BTC-USD-SWAP": (10458, swap)}
    try:
        async with stand.okex() as public, stand.okex("private") as private:
            await subscribe(public, "trades", inst_id="BTC-USD-SWAP")
            await subscribe(public, "trades", inst_id="BTC-USDT")
            assert [(await receive(public))["event"] for _ in range(2)] == ["subscribe"] * 2
            await private.send(json.dumps({"op": "login", "args": [signed("GET/users/self/verify")]}))
            for number, (inst_id, (code, order)) in enumerate(orders.items()):
                if way == "websocket":
                    request = {"id": str(number), "op": "order", "args": [order | {"instIdCode": code}]}
                    await private.send(json.dumps(request))
                    continue
                body = json.dumps(order | {"instId": inst_id})
                proof = signed(f"POST/api/v5/trade/order{body}")
                headers = {f"OK-ACCESS-{name}": proof[key] for name, key in OKEX_HEADERS.items()}
                headers["Content-Type"] = "application/json"
                url = f"{stand.venues.base('okex')}/api/v5/trade/order"
                async with stand.session.post(url, data=body, headers=headers) as answer:
                    assert (await answer.json())["code"] == "0"
            told = [(await receive(public))["arg"]["instId"] for _ in range(2)]
            assert told == list(orders)
            await stand.control("/fault", venue="okex", fault="notice")
            assert (await receive(public))["event"] == "notice"
    finally:
        await stand.session.close()
        await stand.venues.stop()


OKEX_HEADERS = {"KEY": "apiKey", "PASSPHRASE": "passphrase", "TIMESTAMP": "timestamp", "SIGN": "sign"}


def signed(what: str) -> dict[str, str]:
    """Return who we are at this OKX, and that we mean ``what``, at the time at which its clock stands."""
    seconds = START // 1_000_000_000
    is_login = what.startswith("GET/users")
    when = (
        str(seconds) if is_login else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    )
    return {"apiKey": "a", "passphrase": "c", "timestamp": when, "sign": sign("b", f"{when}{what}")}


async def test_the_clock_can_be_set_over_the_roll(stepped):
    async with stepped.okex() as ws:
        await ws.send(
            json.dumps({"op": "subscribe", "args": [{"channel": "instruments", "instType": "FUTURES"}]})
        )
        await receive(ws)
        friday = START + 5 * 86_400_000_000_000 + 8 * 3_600_000_000_000
        await stepped.control("/clock", set=friday - 1_000_000_000)
        await stepped.control("/clock", advance_s=1)
        row = (await receive(ws))["data"][0]
        assert (row["instId"], row["state"]) == (INST, "expired")
        assert {"expired"} == {note["event"] for note in stepped.notes if note.get("inst_id") == INST}


async def test_a_fast_clock_runs_ahead(stand):
    answer = await stand.control("/clock", speed=500)
    assert answer["speed"] == 500
    await stand.wait(lambda state: state["now_ns"] >= START + 60_000_000_000)


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/fault", {"venue": "okex", "fault": "explode"}, "fault must be"),
        ("/fault", {"venue": "kraken", "fault": "drop"}, "venue must be"),
        ("/fault", {"venue": "okex", "fault": "freeze", "duration_s": "x"}, "must be a number"),
        ("/fault", {"venue": "okex", "fault": ["drop"]}, "fault must be"),
        ("/clock", {"speed": -1}, "speed must be"),
        ("/clock", {"set": 5}, "cannot be set back"),
        ("/clock", {"hour": 5}, "the clock takes"),
        ("/clock", {}, "the clock takes"),
        ("/nowhere", {}, "GET /state"),
    ],
)
async def test_the_control_door_says_what_it_takes(stand, path, body, words):
    answer = await stand.control(path, **body)
    assert words in answer["error"]


async def test_no_json_at_the_control_door_is_an_answer_too(stand):
    async with stand.session.post(stand.venues.base("control") + "/fault", data=b"\xff{") as answer:
        assert answer.status == 400


# Faults, from the control door to the socket


async def test_drop_cuts_the_connection_without_a_closing_handshake(stand):
    async with stand.okex() as ws:
        await subscribe(ws, "books")
        await stand.control("/fault", venue="okex", fault="drop")
        assert await closed(ws) is None


async def test_gap_breaks_the_chain_on_the_wire(stand):
    async with stand.okex() as ws:
        await subscribe(ws, "books")
        await receive(ws)
        last = (await receive(ws))["data"][0]["seqId"]
        await stand.control("/fault", venue="okex", fault="gap", inst_id=INST)
        while True:
            book = (await receive(ws))["data"][0]
            if book["prevSeqId"] != last:
                break
            last = book["seqId"]


async def test_slow_delays_frames(stand):
    async with stand.okex() as ws:
        await stand.control("/fault", venue="okex", fault="slow", delay_ms=300)
        began = time.monotonic()
        await ws.send("ping")
        assert await receive(ws) == "pong"
        assert time.monotonic() - began >= 0.3


async def test_silent_is_a_half_open_connection(stand):
    async with stand.okex() as ws:
        await subscribe(ws, "books")
        await receive(ws)
        await stand.control("/fault", venue="okex", fault="silent", duration_s=0.5)
        await ws.send("ping")
        pong = await ws.ping()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                while await receive(ws) != "pong":
                    pass
                pytest.fail("a pong came")
        assert not pong.done()
        while (await receive(ws)).get("action") != "update":
            pass


async def test_refuse_answers_503_for_a_while(stand):
    await stand.control("/fault", venue="okex", fault="refuse", duration_s=0.4)
    with pytest.raises(InvalidStatus, match="503"):
        await stand.okex().__aenter__()
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                async with stand.okex():
                    return
            except InvalidStatus:
                await asyncio.sleep(0.05)


async def test_answers_are_dated_by_the_venues_own_clock(stepped):
    """A client that corrects its clock by the header signs in time, whatever the venue's clock says."""
    await stepped.control("/fault", venue="bitmex", fault="skew", seconds=100)
    for venue, path in (("okex", "/api/v5/public/time"), ("bitmex", "/api/v1")):
        async with stepped.session.get(stepped.venues.base(venue) + path) as answer:
            dated = parsedate_to_datetime(answer.headers["Date"]).timestamp()
        assert dated - START // 1_000_000_000 == (100 if venue == "bitmex" else 0)


async def test_bitmex_closes_an_http_connection_that_idles(monkeypatch):
    """Section 1: after 90 s; a client has to bear that the connection it kept is gone."""
    monkeypatch.setitem(server.IDLE_S, "bitmex", 0.1)
    made = await make_stand()
    reader, writer = await asyncio.open_connection("127.0.0.1", made.venues.ports["bitmex"])
    writer.write(b"GET /api/v1 HTTP/1.1\r\nHost: venue\r\n\r\n")
    async with asyncio.timeout(DEADLINE_S):
        answer = await reader.read()  # up to the end: the venue hangs up
    assert answer.startswith(b"HTTP/1.1 200")
    writer.close()
    await made.session.close()
    await made.venues.stop()


async def test_notice_then_close(stand):
    async with stand.okex() as ws:
        await stand.control("/fault", venue="okex", fault="notice", seconds=0.2)
        assert (await receive(ws))["code"] == "64008"
        close = await closed(ws)
        assert close is not None
        assert close.code == 1001


async def test_faults_can_be_lifted_and_are_notes(stand):
    await stand.control("/fault", venue="okex", fault="silent")
    assert (await stand.state())["venues"]["okex"]["faults"] == ["silent"]
    assert await stand.control("/fault", venue="okex", fault="clear") == {"lifted": 1}
    assert [note["event"] for note in stand.notes] == ["fault", "faults cleared"]


async def test_a_binary_frame_ends_the_connection(stand):
    async with stand.okex() as ws:
        await ws.send(b"\x00")
        close = await closed(ws)
        assert close is not None
        assert close.code == 1003


@pytest.mark.parametrize(
    ("door", "path"), [("okex", "/api/v5/trade/order"), ("bitmex", "/api/v1/order"), ("control", "/fault")]
)
async def test_a_client_that_goes_in_the_middle_of_its_body_leaves_no_traceback(stand, caplog, door, path):
    host, port = stand.venues.base(door).removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{".encode())
    await writer.drain()
    await stand.state()  # the server has read the first part
    writer.close()
    await writer.wait_closed()
    await stand.state()
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


HANDSHAKE = (
    "GET {} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.mark.parametrize(
    ("door", "request_text"),
    [
        ("okex", "GET / HTTP/1.1\r\nHost: x\r\nX: " + "a" * 20_000 + "\r\n\r\n"),
        ("okex", "GET /" + "a" * 20_000 + " HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("okex", "GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("okex", "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n"),
        ("okex", "POST /x HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nab"),
        ("control", "POST /fault HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nab"),
        ("okex", HANDSHAKE.format("/ws/v5/public")),  # and gone before the answer
        ("bitmex", HANDSHAKE.format("/realtime")),
    ],
)
async def test_what_is_no_request_is_counted_and_leaves_no_traceback(stand, caplog, door, request_text):
    host, port = stand.venues.base(door).removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request_text.encode())
    if "websocket" in request_text:
        writer.transport.abort()
    else:
        assert b"400" in await reader.read(20)
        writer.close()
    await stand.wait(lambda state: door == "control" or state["bad_requests"] > 0)
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


async def test_a_client_that_does_not_read_is_hung_up_on_and_counted(stand, monkeypatch):
    monkeypatch.setattr(server, "QUEUE_LIMIT", 100_000)
    async with stand.okex(max_queue=1) as ws:
        for _ in range(10):  # a thousand snapshots of some 25 kB: more than the kernel's buffers hold
            await subscribe(ws, *["books"] * 100)
        await stand.wait(lambda state: state["slow_clients"] > 0)
        assert (await stand.state())["venues"]["okex"]["counters"]["close_4005"] == 1
        async with stand.okex() as other:
            await other.send("ping")
            assert await receive(other) == "pong"


async def test_an_error_of_the_driver_is_raised_to_whoever_waits(stand, monkeypatch):
    def broken(_now_ns: int) -> None:
        raise ZeroDivisionError("the flow broke")

    monkeypatch.setattr(stand.venues.flow, "advance", broken)
    with pytest.raises(ZeroDivisionError):
        async with asyncio.timeout(DEADLINE_S):
            await stand.venues.run(asyncio.Event())


async def test_stopping_says_goodbye(stand):
    async with stand.okex() as ws:
        await subscribe(ws, "books")
        await receive(ws)
        await stand.venues.stop()
        close = await closed(ws)
        assert close is not None
        assert close.code == 1001


async def test_a_taken_port_is_an_error_and_leaves_nothing_open(stand):
    flow = Flow(1, START)
    taken = {"okex": 0, "control": stand.venues.ports["control"]}
    other = SimulatedVenues(
        flow, [OkexServer(flow, Secrets("a", "b", "c"))], VirtualClock(START), ports=taken
    )
    with pytest.raises(OSError, match="address already in use"):
        await other.start()
