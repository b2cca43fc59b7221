"""OKX instruments: decoys, bad rows, and the REST face against a server that misbehaves on loopback."""

import asyncio
import json
from contextlib import asynccontextmanager
from decimal import Decimal

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from dquant.constants import NS_PER_MS
from dquant.errors import MarketError, MarketUnreachable, RateLimited, RemoteProtocolError
from dquant.markets.okex._okex_future_rest import OkexFutureRest, instruments_of
from dquant.model.instrument import Instrument

INSTRUMENTS = "/api/v5/public/instruments"
TIME = "/api/v5/public/time"


def by_id(rows):
    instruments, quarantined = instruments_of(rows)
    return {item.inst_id: item for item in instruments}, quarantined


def test_rows_become_instruments_and_decoys_are_no_damage(golden_body):
    found, quarantined = by_id(json.loads(golden_body("rest_instruments.json"))["data"])

    assert list(found) == ["BTC-USD-261127", "BTC-USD-261204", "BTC-USD-SWAP", "BTC-USDT-SWAP", "BTC-USDT"]
    assert quarantined == 12
    assert found["BTC-USD-261127"] == Instrument(
        venue="okex",
        inst_id="BTC-USD-261127",
        kind="future",
        family="BTC-USD",
        tick=Decimal("0.1"),
        lot=Decimal("0.1"),
        min_size=Decimal("0.1"),
        multiplier=Decimal(100),
        is_inverse=True,
        settle_ccy="BTC",
        state="live",
        alias="this_week",
        expiry=1795766400000 * NS_PER_MS,
        listed=1794557400686 * NS_PER_MS,
        inst_id_code=412345,
    )
    bare, linear, spot = found["BTC-USD-261204"], found["BTC-USDT-SWAP"], found["BTC-USDT"]
    assert (bare.alias, bare.inst_id_code, bare.listed, bare.state) == ("", None, None, "preopen")
    assert (linear.is_inverse, linear.multiplier, linear.settle_ccy) == (False, Decimal("0.01"), "USDT")
    assert (spot.kind, spot.family, spot.multiplier, spot.settle_ccy) == ("spot", "BTC-USDT", 1, "USDT")
    assert (spot.is_inverse, spot.expiry, found["BTC-USD-SWAP"].expiry) == (False, None, None)


def test_recorded_rows_are_read_whole(recorded):
    for path in sorted((recorded / "okx").glob("rest_public_instruments_*.json")):
        rows = json.loads(path.read_text())["data"]
        found, quarantined = by_id(rows)
        assert (len(found), quarantined) == (len(rows), 0), path.name

    demo, real = (
        by_id(json.loads((recorded / "okx" / f"rest_public_instruments_{name}.json").read_text())["data"])[0]
        for name in ("BTC-USDT-SWAP_demo_2026-09", "BTC-USDT-SWAP_2026-09")
    )
    assert demo["BTC-USDT-SWAP"].inst_id_code == 2021032601102993
    assert (demo["BTC-USDT-SWAP"].tick, real["BTC-USDT-SWAP"].tick) == (Decimal("0.01"), Decimal("0.1"))


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
ROW = {
    "instType": "FUTURES",
    "instId": "BTC-USD-261127",
    "instFamily": "BTC-USD",
    "ctType": "inverse",
    "ctVal": "100",
    "ctMult": "1",
    "settleCcy": "BTC",
    "tickSz": "0.1",
    "lotSz": "0.1",
    "minSz": "0.1",
    "state": "live",
    "alias": "",
    "ruleType": "normal",
    "expTime": "1795766400000",
    "instIdCode": 1,
}


@given(st.lists(st.dictionaries(st.sampled_from(sorted(ROW)), json_like, max_size=3) | json_like, max_size=4))
def test_any_row_is_read_or_counted(changes):
    rows = [{**ROW, **change} if isinstance(change, dict) else change for change in changes]
    instruments, quarantined = instruments_of([ROW, *rows])

    assert instruments[0].inst_id == "BTC-USD-261127"
    assert len(instruments) + quarantined <= len(rows) + 1
    for item in instruments:
        assert item.round_size(Decimal("7.77")) >= 0
        assert isinstance(item.state, str)


class Venue:
    """Answers each request with the next prepared answer and notes what was asked."""

    def __init__(self):
        self.answers = {}
        self.asked = []
        self.url = ""

    async def answer(self, request):
        self.asked.append(request.path_qs)
        status, body = self.answers[request.path]
        if status == "hang":
            await asyncio.sleep(30)
        if status == "cut":
            request.transport.close()
            status = 200
        if isinstance(body, dict | list):
            body = json.dumps(body)
        return web.Response(status=status, body=body, content_type="application/json")


@asynccontextmanager
async def venue(status=200, body=b""):
    """Serve one loopback venue; every path gives this answer until ``answers`` says otherwise."""
    stand_in = Venue()
    stand_in.answers = {INSTRUMENTS: (status, body), TIME: (status, body)}
    app = web.Application()
    app.router.add_get("/{path:.*}", stand_in.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    stand_in.url = f"http://127.0.0.1:{port}"
    try:
        yield stand_in
    finally:
        await runner.cleanup()


async def test_family_is_asked_for_and_others_are_left_out(golden_body):
    async with venue(200, golden_body("rest_instruments.json")) as stand_in:
        rest = OkexFutureRest(stand_in.url + "/", 5.0)
        futures = await rest.instruments("future", "BTC-USD")
        spots = await rest.instruments("spot", "BTC-USDT")

        assert {item.family for item in futures} == {"BTC-USD"}
        assert [item.inst_id for item in spots if item.kind == "spot"] == ["BTC-USDT"]
        assert stand_in.asked == [
            f"{INSTRUMENTS}?instType=FUTURES&instFamily=BTC-USD",
            f"{INSTRUMENTS}?instType=SPOT&instId=BTC-USDT",
        ]
        assert (rest.take_quarantined(), rest.take_quarantined()) == (24, 0)


async def test_empty_list_is_an_answer():
    async with venue(200, {"code": "0", "msg": "", "data": []}) as stand_in:
        assert await OkexFutureRest(stand_in.url, 5.0).instruments("future", "BTC-USD") == []


async def test_clock_of_the_venue_is_told_in_ns():
    body = {"code": "0", "msg": "", "data": [{"ts": "1790439440699"}]}
    async with venue(200, body) as stand_in:
        assert await OkexFutureRest(stand_in.url, 5.0).server_time() == 1790439440699 * NS_PER_MS


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (502, b"<html>Bad gateway</html>", MarketUnreachable),
        (503, {"code": "50001", "msg": "Service temporarily unavailable"}, MarketUnreachable),
        (200, {"code": "50026", "msg": "System error", "data": []}, MarketUnreachable),
        (400, {"code": "50004", "msg": "Endpoint request timeout"}, MarketUnreachable),
        (504, b"", MarketUnreachable),
        (429, b"<html>error 1015</html>", RateLimited),
        (429, {"code": "50011", "msg": "Too Many Requests", "data": []}, RateLimited),
        (200, {"code": "50011", "msg": "Too Many Requests", "data": []}, RateLimited),
        (200, {"code": 50011, "msg": "Requests too frequent.", "data": ""}, RateLimited),
        (200, {"code": "50011", "msg": None, "data": None}, RateLimited),
        (429, {"code": "50013", "msg": "Systems are busy"}, RateLimited),
        (200, {"code": "51001", "data": [], "msg": "Instrument ID doesn't exist"}, RemoteProtocolError),
        (401, {"msg": "Timestamp request expired", "code": "50102"}, RemoteProtocolError),
        (403, b"<html>blocked</html>", RemoteProtocolError),
        (200, b"<html>maintenance</html>", RemoteProtocolError),
        (200, b"", RemoteProtocolError),
        (200, b"[]", RemoteProtocolError),
        (200, b"\xff\xfe", RemoteProtocolError),
        (200, b'{"data":' + b"[" * 100_000, RemoteProtocolError),
        (200, {}, RemoteProtocolError),
        (200, {"code": "0", "msg": ""}, RemoteProtocolError),
        (200, {"code": "0", "msg": "", "data": None}, RemoteProtocolError),
        (200, {"code": "0", "msg": "", "data": {"ts": "1"}}, RemoteProtocolError),
        ("cut", b"", MarketUnreachable),
    ],
)
async def test_answers_that_are_none(status, body, error):
    """Whose fault it is decides what becomes of it; a missing list is not an empty one."""
    async with venue(status, body) as stand_in:
        rest = OkexFutureRest(stand_in.url, 5.0)
        for asked in (rest.instruments("future", "BTC-USD"), rest.server_time()):
            with pytest.raises(error, match="GET http://127"):
                await asked


@pytest.mark.parametrize("ts", ["", "x", "-1", "9" * 20, "9" * 5000, None, 1e308, 1.5e300, [], {}])
async def test_time_that_is_none_is_refused(ts):
    for data in ([], [None], [{}], [{"ts": ts}]):
        async with venue(200, {"code": "0", "data": data}) as stand_in:
            with pytest.raises(RemoteProtocolError, match="no time"):
                await OkexFutureRest(stand_in.url, 5.0).server_time()


async def test_slow_venue_is_given_up_by_the_deadline():
    async with venue("hang", b"") as stand_in:
        rest = OkexFutureRest(stand_in.url, 0.2)
        with pytest.raises(MarketUnreachable, match=r"no answer|timed out|not all"):
            await asyncio.wait_for(rest.server_time(), 5.0)


async def test_venue_that_is_not_there_is_unreachable():
    async with venue() as stand_in:
        url = stand_in.url
    with pytest.raises(MarketUnreachable):
        await OkexFutureRest(url, 2.0).server_time()


async def test_address_that_is_none_is_a_market_error():
    with pytest.raises(MarketError):
        await OkexFutureRest("http://" + "x" * 300, 2.0).server_time()
