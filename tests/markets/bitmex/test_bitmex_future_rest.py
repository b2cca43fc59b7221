"""The instruments of BitMEX: the rule of contract sizes, bad rows, and the REST face on loopback."""

import asyncio
import json
import subprocess
import sys
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import pytest
from aiohttp import web

from dquant.constants import NS_PER_S
from dquant.errors import MarketUnreachable, RateLimited, RemoteProtocolError
from dquant.markets.bitmex._bitmex_future_rest import BitmexFutureRest, instruments_of
from dquant.model.instrument import Instrument

PATH = "/api/v1/instrument/active"


def by_symbol(body):
    instruments, quarantined = instruments_of(body)
    return {item.inst_id: item for item in instruments}, quarantined


def test_rows_become_instruments_and_bad_or_exotic_rows_are_counted(golden):
    found, quarantined = by_symbol("\n".join(golden("rest_instrument_active.json")))

    assert sorted(found) == ["ETHUSD", "XBTUSD", "XBTUSDT", "XBTZ26"]
    assert quarantined == 5
    assert found["XBTUSD"] == Instrument(
        venue="bitmex",
        inst_id="XBTUSD",
        kind="swap",
        family="XBTUSD",
        tick=Decimal("0.1"),
        lot=Decimal(100),
        min_size=Decimal(100),
        multiplier=Decimal(1),
        is_inverse=True,
        settle_ccy="XBt",
        listed=1_463_140_800 * NS_PER_S,  # 2016-05-13T12:00:00Z
    )
    future, linear, quanto = found["XBTZ26"], found["XBTUSDT"], found["ETHUSD"]
    assert (future.kind, future.family, future.multiplier) == ("future", "XBTUSD", 1)
    assert future.expiry == 1_798_200_000 * NS_PER_S  # 2026-12-25T12:00:00Z
    assert (linear.is_inverse, linear.multiplier, linear.tick) == (False, Decimal("0.000001"), Decimal("0.1"))
    assert (quanto.is_inverse, quanto.multiplier, quanto.state) == (False, Decimal("0.000001"), "suspend")


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"<html>", b'{"error":{"message":"x"}}', b"\xff", b"[" * 100_000]
)
def test_what_is_no_list_is_refused(body):
    with pytest.raises(RemoteProtocolError):
        instruments_of(body)


def test_the_recorded_list_of_2021_is_read_whole(recorded):
    text = (
        recorded / "bitmex" / "captures" / "cryptofeed_BITMEX_rest_instrument_active_2021-07-22.txt"
    ).read_text()
    (answer,) = [line for line in text.splitlines() if "[{" in line]
    found, quarantined = by_symbol(answer[answer.index("[{") :])

    assert (len(found), quarantined) == (34, 0)
    assert {item.inst_id for item in found.values() if item.is_inverse} == {
        *("XBTUSD", "XBTEUR", "XBTU21", "XBTEURU21", "XBTZ21"),
    }
    assert found["TRXU21"].tick == Decimal("1E-10")
    assert found["XRPU21"].multiplier == 1


def test_other_recorded_rows_are_read(recorded):
    for name in ("rest_GET_instrument_XBTUSD_2024-03-02.json", "rest_GET_instrument_XBTUSD_2024-11.json"):
        row = json.loads((recorded / "bitmex" / name).read_text())
        found, quarantined = by_symbol(json.dumps(row if isinstance(row, list) else [row]))
        assert (found["XBTUSD"].multiplier, found["XBTUSD"].lot, quarantined) == (1, 100, 0)
    answer = json.loads((recorded / "bitmex" / "rest_GET_instrument_active_2024-12.json").read_text())
    found, quarantined = by_symbol(json.dumps(answer["response"]["body"]))
    assert (found["XBT_USDT"].kind, found["XBT_USDT"].multiplier, quarantined) == ("spot", Decimal("1E-8"), 0)


@asynccontextmanager
async def served(answer):
    """Serve one answer on a free loopback port; yield its address."""
    app = web.Application()
    app.router.add_get(PATH, answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


def answering(status=200, text="[]", **headers):
    async def answer(_request):
        return web.Response(
            status=status, text=text, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )

    return answer


@pytest.mark.parametrize("suffix", ["", "/", "/api/v1", "/api/v1/"])
async def test_instruments_are_fetched_and_chosen_by_symbol(golden, suffix):
    async with served(answering(text="\n".join(golden("rest_instrument_active.json")))) as url:
        rest = BitmexFutureRest(url + suffix, timeout_s=5.0)
        chosen = await rest.instruments(["XBTZ26", "NOSUCH"])
        everything = await rest.instruments()

    assert [item.inst_id for item in chosen] == ["XBTZ26"]
    assert len(everything) == 4
    assert rest.take_quarantined() == 10
    assert rest.take_quarantined() == 0


@pytest.mark.parametrize(
    ("retry_after", "pause_s"), [("3", 3.0), ("soon", 1.0), ("-5", 1.0), ("nan", 1.0), ("inf", 600.0)]
)
async def test_a_rate_limit_carries_the_pause_asked_for(retry_after, pause_s):
    words = '{"error":{"message":"Rate limit exceeded, retry in 1 seconds.","name":"RateLimitError"}}'
    async with served(answering(429, words, Retry_After=retry_after)) as url:
        with pytest.raises(RateLimited, match="Rate limit exceeded") as refused:
            await BitmexFutureRest(url, timeout_s=5.0).instruments()

    assert refused.value.retry_after_s == pause_s


@pytest.mark.parametrize(
    ("status", "text", "error"),
    [
        (502, "<html>\r\n<head><title>502 Bad Gateway</title></head></html>", MarketUnreachable),
        (
            503,
            '{"error":{"message":"The system is currently overloaded.","name":"HTTPError"}}',
            MarketUnreachable,
        ),
        (200, " <html>maintenance</html>", MarketUnreachable),
        (200, '{"error":{}}', RemoteProtocolError),
        (
            400,
            '{"error":{"message":"\'symbol\' is a required arg.","name":"HTTPError"}}',
            RemoteProtocolError,
        ),
        (404, "", RemoteProtocolError),
    ],
)
async def test_the_status_tells_trouble_of_the_line_from_a_broken_protocol(status, text, error):
    async with served(answering(status, text)) as url:
        with pytest.raises(error):
            await BitmexFutureRest(url, timeout_s=5.0).instruments()


async def test_no_answer_in_time_and_nobody_there_are_unreachable():
    async def never(_request):
        await asyncio.Event().wait()

    async with served(never) as url:
        with pytest.raises(MarketUnreachable, match="no answer within"):
            await BitmexFutureRest(url, timeout_s=0.05).instruments()
    with pytest.raises(MarketUnreachable):
        await BitmexFutureRest(url, timeout_s=5.0).instruments()


def test_importing_the_venue_does_not_import_aiohttp():
    program = (
        "import sys, dquant.markets.bitmex._bitmex_future_rest as rest; sys.exit('aiohttp' in sys.modules)"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], check=False, timeout=30, cwd=Path(__file__).parents[3]
    )
    assert done.returncode == 0
