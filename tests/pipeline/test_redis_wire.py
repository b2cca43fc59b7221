"""A wire against real servers: which records count as arrived, and how seldom answers are asked for."""

import asyncio
import contextlib

import pytest
from redis.asyncio import Redis

from dquant.pipeline import redis_wire
from dquant.pipeline.redis_link import RedisSettings
from dquant.pipeline.resp import Batch, KindPacker

PRICES = [Batch("price", [b'{"seq":1}', b'{"seq":2}'], b'{"seq":2}')]


@pytest.mark.parametrize("streams", [False, True])
def test_one_record_is_packed_as_a_batch_of_one_is(streams):
    packer = KindPacker("t%s", "price", "m", streams=streams, stream_length=10)
    out = []

    assert packer.pack(Batch("price", [b"{}"], b"{}"), out) == packer.replies_of_one
    assert b"".join(out) == packer.pack_one(b"{}")


@contextlib.asynccontextmanager
async def wire_to(settings):
    """Open a wire to a plain server; ``lost`` runs beside it, as the publisher has it."""
    errors = []
    packers = {"price": KindPacker("t", "price", "m", streams=False, stream_length=10)}
    wire = await redis_wire.open_wire(settings, packers, lambda: None, errors.append)
    wire.errors = errors
    end = asyncio.ensure_future(wire.lost())
    try:
        yield wire
    finally:
        await wire.close()
        await end


async def calls(server, command):
    async with Redis(port=server.port) as client:
        return (await client.info("commandstats")).get(f"cmdstat_{command}", {"calls": 0})["calls"]


@pytest.fixture
def _asks_once(monkeypatch):
    """Let only the first write ask for answers, and nothing ask for them later by itself."""
    monkeypatch.setattr(redis_wire, "_KEEPS_UP_S", 60.0)
    monkeypatch.setattr(redis_wire, "_WATCH_STEP_S", 60.0)


@pytest.mark.usefixtures("_asks_once")
async def test_what_was_sent_without_asking_is_open_until_the_next_answers(server, eventually):
    async with wire_to(RedisSettings(port=server.port, reply_timeout_s=60.0)) as wire:
        wire.send(PRICES)
        assert wire.records_open == 2
        await eventually(lambda: wire.is_idle)

        for _ in range(3):
            wire.send(PRICES)
            assert wire.is_ready, "the next write need not wait"
        async with asyncio.timeout(5):
            while await calls(server, "publish") < 16:  # noqa: ASYNC110 - the server knows, no event does
                await asyncio.sleep(0.005)
        assert wire.records_open == 6, "the server has them, but has not said so"
        assert not wire.is_idle

        wire.ask()
        await eventually(lambda: wire.is_idle)
        assert wire.records_open == 0
        assert wire.errors == []


@pytest.mark.usefixtures("_asks_once")
async def test_a_price_by_itself_is_asked_for_and_counted_like_the_others(server, eventually):
    async with wire_to(RedisSettings(port=server.port, reply_timeout_s=60.0)) as wire:
        wire.send_price(b'{"seq":1}')
        await eventually(lambda: wire.is_idle)
        wire.send_price(b'{"seq":2}')
        assert wire.records_open == 1
        wire.ask()
        await eventually(lambda: wire.is_idle)
        async with Redis(port=server.port) as client:
            assert await client.get("t:price:m") == b'{"seq":2}'


@pytest.mark.usefixtures("_asks_once")
async def test_answers_acknowledge_only_what_was_sent_before_they_were_asked_for(server, eventually):
    async with wire_to(RedisSettings(port=server.port, reply_timeout_s=60.0)) as wire:
        wire.send(PRICES)
        wire.send(PRICES)
        await eventually(lambda: wire.records_open < 4)
        assert wire.records_open == 2


async def test_answers_still_owed_are_asked_for_when_nothing_more_is_sent(server, eventually, monkeypatch):
    monkeypatch.setattr(redis_wire, "_KEEPS_UP_S", 60.0)
    async with wire_to(server.settings) as wire:
        wire.send(PRICES)
        wire.send(PRICES)
        await eventually(lambda: wire.is_idle)


async def test_a_server_that_freezes_after_its_last_answer_is_noticed(server, eventually, monkeypatch):
    monkeypatch.setattr(redis_wire, "_KEEPS_UP_S", 60.0)
    async with wire_to(server.settings) as wire:
        wire.send(PRICES)
        await eventually(lambda: wire.is_idle)
        server.freeze()
        wire.send(PRICES)
        assert wire.is_ready
        async with asyncio.timeout(5):
            assert await wire.lost() == "no reply for 1 s"
        assert wire.records_open == 2
        server.thaw()


@pytest.mark.usefixtures("_asks_once")
async def test_a_server_that_goes_with_answers_owed_is_not_asked_any_more(server, eventually):
    async with wire_to(RedisSettings(port=server.port, reply_timeout_s=60.0)) as wire:
        wire.send(PRICES)
        await eventually(lambda: wire.is_idle)
        wire.send(PRICES)
        server.kill()
        async with asyncio.timeout(5):
            assert "no reply" not in await wire.lost()
        assert wire.records_open == 2
        wire.ask()
        wire.send(PRICES)
        wire.send_price(b"{}")


@pytest.mark.usefixtures("_asks_once")
async def test_after_a_refusal_every_further_one_is_seen(make_server, eventually):
    server = make_server("user default off", "user bob on >hunter2 ~* &* +@all -set")
    async with wire_to(RedisSettings(port=server.port, user="bob", password="hunter2")) as wire:
        for number in range(1, 6):
            wire.send(PRICES)
            await eventually(lambda number=number: len(wire.errors) == number)


@pytest.mark.usefixtures("_asks_once")
async def test_where_client_reply_is_forbidden_every_write_is_answered(make_server, eventually):
    rules = "user bob on >hunter2 ~* &* +@all -client|reply -ping"
    server = make_server("user default off", rules)
    async with wire_to(RedisSettings(port=server.port, user="bob", password="hunter2")) as wire:
        for _ in range(3):
            wire.send(PRICES)
            await eventually(lambda: wire.is_idle)
        assert wire.errors == [], "that it may not is no news"


@pytest.mark.usefixtures("_asks_once")
async def test_a_proxy_that_answers_although_it_was_told_not_to_is_counted_as_one_that_answers(
    server, eventually
):
    async with deaf_proxy(server.port) as port, wire_to(RedisSettings(port=port)) as wire:
        for _ in range(3):
            wire.send(PRICES)
            assert wire.records_open == 2
            await eventually(lambda: wire.is_idle)


@contextlib.asynccontextmanager
async def deaf_proxy(port):
    """Pass everything on to a server, but turn OFF into ON."""
    writers = []

    async def copy(reader, writer, old=b"", new=b""):
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data.replace(old, new) if old else data)
                await writer.drain()

    async def serve(reader, writer):
        their_reader, their_writer = await asyncio.open_connection("127.0.0.1", port)
        writers.extend((writer, their_writer))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(copy(their_reader, writer))
                await copy(reader, their_writer, b"$3\r\nOFF\r\n", b"$2\r\nON\r\n")
                their_writer.close()
        finally:
            writer.close()

    front = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with front:
        yield front.sockets[0].getsockname()[1]
        for writer in writers:
            writer.close()
        for writer in writers:
            with contextlib.suppress(OSError):
                await writer.wait_closed()
