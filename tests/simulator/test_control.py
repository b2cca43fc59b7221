"""The control door and what it sets off, on real sockets: ledger, accounts, scenarios, faults."""

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from dquant.simulator.bitmex_server import BitmexServer
from dquant.simulator.clock import VirtualClock
from dquant.simulator.control_client import ControlClient
from dquant.simulator.flow import Flow
from dquant.simulator.okex_login import Secrets
from dquant.simulator.okex_server import OkexServer
from dquant.simulator.orders import BID, Kind, OrderRequest
from dquant.simulator.process import KEYS, bitmex_accounts
from dquant.simulator.server import SimulatedVenues

START = 1_795_305_600_000_000_000  # Sunday 2026-11-22 00:00 UTC
DEADLINE_S = 10.0


class Stand:
    def __init__(self, venues: SimulatedVenues, session: aiohttp.ClientSession) -> None:
        self.venues, self.session = venues, session
        self.client = ControlClient(venues.base("control"), DEADLINE_S)

    async def do(self, verb: str, *args: Any, **more: Any) -> Any:
        """Call the blocking client from a thread: the venues live in this loop."""
        return await asyncio.to_thread(getattr(self.client, verb), *args, **more)

    async def ask(self, venue: str, path: str, method: str = "GET") -> tuple[int, Any, Any]:
        async with self.session.request(method, self.venues.base(venue) + path) as answer:
            return answer.status, answer.headers, await answer.text()

    def buy(self, venue: str, inst_id: str, lots: int = 2) -> None:
        """Let the account buy at the market."""
        exchange: Any = self.venues.venues[venue].exchange  # type: ignore[attr-defined]
        exchange.place("main", OrderRequest(inst_id, BID, lots, Kind.MARKET))


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    """Stepped venues with an account each."""
    flow, keys = Flow(3, START), KEYS["okex"]
    secrets = Secrets(keys["apiKey"], keys["secret"], keys["passphrase"])
    served = [
        OkexServer(flow, secrets),
        BitmexServer(flow, rest_per_minute=10**9, accounts=bitmex_accounts(1)),
    ]
    venues = SimulatedVenues(flow, served, VirtualClock(START, time.monotonic_ns(), 0.0))
    await venues.start()
    async with aiohttp.ClientSession() as session:
        yield Stand(venues, session)
    await venues.stop()


async def test_the_door_explains_itself(stand: Stand) -> None:
    _status, _headers, text = await stand.ask("control", "/")
    shown = json.loads(text)
    assert "POST /scenario" in shown["doors"]
    assert {"gap", "ack_lost", "margin_call"} <= shown["faults"].keys()
    assert "order_filled" in shown["kinds of the ledger"]


async def test_the_ledger_says_what_truly_happened(stand: Stand) -> None:
    stand.buy("okex", "BTC-USD-SWAP")
    ledger = await stand.do("ledger", venue="okex", account="main")
    rows = ledger["okex"]["rows"]
    kinds = [row["kind"] for row in rows]
    assert kinds.index("order_accepted") < kinds.index("order_filled") < kinds.index("position_changed")
    assert ledger.keys() == {"okex"}
    assert ledger["okex"]["last"] == rows[-1]["number"]
    later = await stand.do("ledger", venue="okex", since=rows[-2]["number"])
    assert [row["number"] for row in later["okex"]["rows"]] == [rows[-1]["number"]]
    fills = await stand.do("ledger", kind="order_filled", limit=1)
    assert [row["kind"] for row in fills["okex"]["rows"]] == ["order_filled"]
    assert fills["bitmex"]["rows"] == []


async def test_accounts_are_shown_as_they_truly_are(stand: Stand) -> None:
    stand.buy("okex", "BTC-USD-SWAP", 20)
    main = (await stand.do("accounts", venue="okex"))["okex"]["main"]
    assert [(row["symbol"], row["lots"]) for row in main["positions"] if row["lots"]] == [
        ("BTC-USD-SWAP", 20)
    ]
    assert any(row["coin"] == "BTC" for row in main["balances"])


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/ledger?kind=gossip", "kind must be one of"),
        ("/ledger?venue=kraken", "venue must be one of okex, bitmex"),
        ("/ledger?limit=-1", "limit must be a whole number"),
        ("/ledger?colour=red", "the query takes venue, account, kind, since, limit"),
        ("/accounts?limit=3", "the query takes venue, account"),
    ],
)
async def test_a_query_that_makes_no_sense_is_told_what_is_allowed(
    stand: Stand, path: str, words: str
) -> None:
    status, _headers, text = await stand.ask("control", path)
    assert status == 400
    assert words in json.loads(text)["error"]


async def test_a_scenario_is_played_on_the_stepped_clock_and_ended(stand: Stand) -> None:
    toml = "[[step]]\nat_s = 1\nvenue = 'okex'\nfault = 'silent'\n[[step]]\nat_s = 9\nfault = 'drop'"
    assert (await stand.do("play_text", toml))["steps"] == 2
    assert (await stand.do("state"))["venues"]["okex"]["faults"] == []
    await stand.do("step", 2)
    assert (await stand.do("state"))["venues"]["okex"]["faults"] == ["silent"]
    (playing,) = (await stand.do("scenarios"))["playing"]
    assert (playing["name"], playing["played"]) == ("posted", 1)
    assert await stand.do("end") == 1
    assert (await stand.do("state"))["venues"]["okex"]["faults"] == []


async def test_a_shipped_scenario_is_played_by_its_name(stand: Stand) -> None:
    await stand.do("play", "ack_lost")
    assert (await stand.do("state"))["venues"]["bitmex"]["faults"] == ["ack_lost"]
    assert await stand.do("clear", "bitmex", "ack_lost") == 1


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"name": "../../etc/passwd"}, "name must be that of a shipped scenario"),
        ({"name": "nothing"}, "there is no scenario"),
        ({"toml": "x = 1"}, "x: unknown key"),
        ({}, "a scenario takes"),
        ({"name": "drop", "toml": ""}, "a scenario takes"),
    ],
)
async def test_a_scenario_that_there_is_not_is_refused(stand: Stand, body: Any, words: str) -> None:
    async with stand.session.post(stand.venues.base("control") + "/scenario", json=body) as answer:
        assert answer.status == 400
        assert words in (await answer.json())["error"]


async def test_the_client_raises_what_the_door_says(stand: Stand) -> None:
    with pytest.raises(ValueError, match="'gap' takes inst_id, count, not 'side'"):
        await stand.do("inject", "okex", "gap", side="buy")


async def test_all_of_a_closing_venue(stand: Stand) -> None:
    stand.buy("bitmex", "XBTUSD", 3)
    await stand.do("play", "venue_closure")
    for _ in range(7):
        await stand.do("step", 5)
    with pytest.raises(Exception, match="reduce_only"):
        stand.buy("bitmex", "XBTUSD")
    for _ in range(12):
        await stand.do("step", 5)
    kinds = [row["kind"] for row in (await stand.do("ledger", venue="bitmex"))["bitmex"]["rows"]]
    assert "position_delivered" in kinds
    positions = (await stand.do("accounts", venue="bitmex"))["bitmex"]["main"]["positions"]
    assert all(row["lots"] == 0 for row in positions)
    for _ in range(6):
        await stand.do("step", 5)
    status, _headers, _text = await stand.ask("bitmex", "/api/v1/instrument?symbol=XBTUSD")
    assert status == 503


async def test_a_margin_call_liquidates(stand: Stand) -> None:
    stand.buy("okex", "BTC-USD-SWAP", 50)
    await stand.do("inject", "okex", "margin_call", account="main")
    rows = (await stand.do("ledger", venue="okex"))["okex"]["rows"]
    assert any(row["kind"] == "order_filled" and row["order"]["category"] == "liquidation" for row in rows)
    positions = (await stand.do("accounts", venue="okex"))["okex"]["main"]["positions"]
    assert all(row["lots"] == 0 for row in positions)


# REST


@pytest.mark.parametrize(
    ("venue", "fault", "status", "words"),
    [
        ("okex", "rate_limited", 429, '"50011"'),
        ("okex", "overloaded", 503, '"50001"'),
        ("okex", "timeout", 400, '"50004"'),
        ("bitmex", "rate_limited", 429, "RateLimitError"),
        ("bitmex", "overloaded", 503, "The system is currently overloaded. Please try again later."),
        ("bitmex", "timeout", 502, "<html>"),
    ],
)
async def test_a_fault_of_rest_answers_as_the_venue_does_and_is_used_up(
    stand: Stand, venue: str, fault: str, status: int, words: str
) -> None:
    path = {"okex": "/api/v5/public/time", "bitmex": "/api/v1/instrument/indices"}[venue]
    await stand.do("inject", venue, fault, path="/order")
    assert (await stand.ask(venue, path))[0] == 200  # of another path
    await stand.do("inject", venue, fault, path=path[7:])
    got, headers, text = await stand.ask(venue, path)
    assert (got, words in text) == (status, True), text
    assert ("Retry-After" in headers) == (status == 429)
    assert (await stand.ask(venue, path))[0] == 200


async def test_bitmex_sheds_no_cancels(stand: Stand) -> None:
    await stand.do("inject", "bitmex", "overloaded", duration_s=60)
    assert (await stand.ask("bitmex", "/api/v1/order/all", "DELETE"))[0] == 401  # not signed, but heard
    assert (await stand.ask("bitmex", "/api/v1/order", "POST"))[0] == 503


async def test_a_late_acknowledgement_is_late_by_what_was_asked_for(stand: Stand) -> None:
    """By REST the delay is real time, and it is served once."""
    body = b'{"symbol":"XBTUSD","orderQty":100,"price":60000}'
    key, expires = KEYS["bitmex"], str(int(time.time()) + 60)
    signed = b"POST/api/v1/order" + expires.encode() + body
    headers = {
        "content-type": "application/json",
        "api-key": key["apiKey"],
        "api-expires": expires,
        "api-signature": hmac.new(key["secret"].encode(), signed, hashlib.sha256).hexdigest(),
    }
    await stand.do("inject", "bitmex", "ack_late", delay_ms=400)
    started = time.monotonic()
    url = stand.venues.base("bitmex") + "/api/v1/order"
    async with stand.session.post(url, data=body, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
    assert 0.4 <= time.monotonic() - started < 0.79


async def test_a_lost_answer_cuts_the_connection(stand: Stand) -> None:
    await stand.do("inject", "okex", "lost_answer")
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await stand.ask("okex", "/api/v5/public/time", "POST")
    assert (await stand.ask("okex", "/api/v5/public/time"))[0] == 200


# Connections


async def _text(ws: aiohttp.ClientWebSocketResponse, timeout_s: float = DEADLINE_S) -> str:
    async with asyncio.timeout(timeout_s):
        return str((await ws.receive()).data)


async def test_a_frozen_connection_says_all_of_it_at_once_afterwards(stand: Stand) -> None:
    async with stand.session.ws_connect(f"{stand.venues.base('okex')}/ws/v5/public") as ws:
        await stand.do("inject", "okex", "stall")
        await asyncio.sleep(0)
        for _ in range(3):
            await ws.send_str("ping")
        with pytest.raises(TimeoutError):
            await _text(ws, 0.2)
        await stand.do("clear", "okex")
        assert [await _text(ws) for _ in range(3)] == ["pong"] * 3


async def test_reordering_lets_connections_lag_behind_one_another_but_not_themselves(stand: Stand) -> None:
    url = f"{stand.venues.base('okex')}/ws/v5/public"
    came: list[tuple[int, int]] = []

    async def converse(name: int) -> None:
        async with stand.session.ws_connect(url) as ws:
            for number in range(8):
                await ws.send_str(json.dumps({"op": "nothing", "id": f"n{number}"}))
                await asyncio.sleep(0.005)
            for _ in range(8):
                came.append((name, int(json.loads(await _text(ws))["id"][1:])))

    await stand.do("inject", "okex", "reorder", delay_ms=60)
    await asyncio.gather(*(converse(name) for name in range(4)))
    for name in range(4):
        assert [number for of, number in came if of == name] == list(range(8))
    assert [number for _of, number in came] != sorted(number for _of, number in came)
