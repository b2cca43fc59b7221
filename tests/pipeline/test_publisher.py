"""A publisher against real servers: what subscribers see, and that faults never hold up the market."""

import asyncio
import contextlib
import json
import logging
import time

from redis.asyncio import Redis

from dquant.pipeline.outbox import HEALTH_KEPT, PRICES_KEPT, TRADES_KEPT
from dquant.pipeline.publisher import Publisher
from dquant.pipeline.redis_link import RedisSettings

MARKET = "okex_future_btcusd_thisweek"


@contextlib.asynccontextmanager
async def publishing(settings, market=MARKET, **options):
    publisher = Publisher(settings, "dev", market, **options)
    publisher.start()
    try:
        yield publisher
    finally:
        await publisher.close()


async def test_every_kind_arrives_on_both_channels_with_the_keys_of_the_design(
    server, records, tail, eventually
):
    channels = [name for kind in ("price", "depth", "trade", "health") for name in (kind, f"{kind}:{MARKET}")]
    async with tail(server.port, *channels) as got, publishing(server.settings) as publisher:
        publisher.publish_price(records.live())
        publisher.publish_depth(records.depth())
        publisher.publish_trade(records.trade())
        publisher.publish_health(records.health())
        await eventually(lambda: len(got) == 8)

    seen = dict(got)
    assert sorted(channel for channel, _ in got) == sorted(channels)
    assert seen["price"] == seen[f"price:{MARKET}"]
    price = seen["price"]
    assert list(price) == [
        "market", "inst_id", "environment", "seq", "bid", "bid_amount", "ask", "ask_amount",
        "verdict", "reason", "ts_event", "ts_recv", "ts_pub",
    ]  # fmt: skip
    assert price["seq"] == 1
    assert abs(price["ts_pub"] - time.time_ns()) < 60e9
    assert (price["market"], price["environment"], price["bid"]) == (MARKET, "dev", 84093.4)
    assert seen["depth"]["bids"] == [[84093.4, 120.0], [84093.3, 7.0]]
    assert seen["trade"]["trade_id"] == "t3"
    assert seen["health"]["state"] == "heartbeat"
    assert {record["seq"] for _, record in got} == {1}


async def test_numbers_have_no_hole_and_what_one_wake_up_brings_goes_in_one_write(
    server, records, tail, eventually
):
    async with tail(server.port, "price") as got, publishing(server.settings) as publisher:
        await eventually(lambda: publisher.is_connected)
        before = await _commands(server)
        for burst in range(20):
            for number in range(10):
                publisher.publish_price(records.live(float(burst * 10 + number)))
            await asyncio.sleep(0)
        await eventually(lambda: len(got) == 200)
        after = await _commands(server)

    assert [record["seq"] for _, record in got] == list(range(1, 201))
    assert [record["bid"] for _, record in got] == [float(number) for number in range(200)]
    assert after["cmdstat_publish"]["calls"] - before.get("cmdstat_publish", {"calls": 0})["calls"] == 400
    assert after["cmdstat_set"]["calls"] <= 20, "only the newest of a flush needs the key"
    replies_on = after["cmdstat_client|reply"]["calls"] - before["cmdstat_client|reply"]["calls"]
    assert replies_on < 40, "not every write asks for answers"


async def _commands(server):
    async with Redis(port=server.port) as client:
        return await client.info("commandstats")


async def test_the_latest_key_holds_the_newest_and_expires_without_heartbeats(server, records, eventually):
    async with Redis(port=server.port) as client, publishing(server.settings, prefix="t") as publisher:
        for number in range(5):
            publisher.publish_price(records.live(float(number)))
        key = f"t:price:{MARKET}"
        await eventually(lambda: publisher.is_connected and not publisher.waiting)
        text = await _value(client, key)
        assert json.loads(text)["bid"] == 4.0
        assert 0 < await client.pttl(key) <= 3_000

        await client.pexpire(key, 60_000)
        publisher.publish_health(records.health())
        await _value(client, f"t:health:{MARKET}")
        assert await client.pttl(key) <= 3_000, "the heartbeat renews it with its own time to live"


async def _value(client, key):
    async with asyncio.timeout(5):
        while (text := await client.get(key)) is None:  # noqa: ASYNC110 - the server knows, no event does
            await asyncio.sleep(0.005)
    return text


async def test_a_stream_keeps_the_same_record_and_stays_short(server, records, eventually):
    async with publishing(server.settings, streams=True, stream_length=50) as publisher:
        await eventually(lambda: publisher.is_connected)
        for _ in range(40):
            for _ in range(25):
                publisher.publish_price(records.live())
            await eventually(lambda: not publisher.waiting)
    async with Redis(port=server.port) as client:
        entries = await client.xrange(f"dquant:stream:price:{MARKET}")

    assert len(entries) <= 200, "MAXLEN ~ trims whole nodes of 100 entries"
    last = json.loads(entries[-1][1][b"json"])
    assert last["seq"] == 1000
    assert last["market"] == MARKET


async def test_a_killed_and_restarted_server_gets_the_newest_state_and_the_loss_is_counted(
    server, records, tail, eventually
):
    async with publishing(server.settings) as publisher:
        publisher.publish_price(records.live(1.0))
        publisher.publish_depth(records.depth())
        await eventually(lambda: publisher.is_connected and not publisher.waiting)
        server.kill()
        await eventually(lambda: not publisher.is_connected)
        for number in range(100):
            publisher.publish_price(records.live(float(number)))
        publisher.publish_price(records.stale())
        publisher.publish_price(records.live(500.0))
        assert publisher.waiting <= 4

        server.start()
        async with tail(server.port, "price", "health") as got:
            await eventually(lambda: publisher.is_connected and not publisher.waiting)
            publisher.publish_price(records.live(501.0))
            publisher.publish_health(records.health())
            await eventually(lambda: len(got) >= 2 and got[-1][0] == "health")
        async with Redis(port=server.port) as client:
            latest = json.loads(await client.get(f"dquant:price:{MARKET}"))
            depth = json.loads(await client.get(f"dquant:depth:{MARKET}"))

    assert latest["bid"] == 501.0
    assert depth["bids"][0] == [84093.4, 120.0], "a depth that the new server never saw is published again"
    assert publisher.conflated == 100
    assert got[-1][1]["dropped"] == publisher.conflated + publisher.dropped
    assert publisher.reconnects == 1


async def test_a_frozen_server_never_holds_up_the_market(server, records, eventually):
    """Publish calls return at once, what waits stays bounded, and publishing resumes after the thaw."""
    async with publishing(server.settings) as publisher:
        await eventually(lambda: publisher.is_connected)
        server.freeze()
        longest = 0.0
        for _ in range(200):
            for _ in range(20):
                started = time.perf_counter()
                publisher.publish_price(records.live())
                publisher.publish_trade(records.trade())
                publisher.publish_health(records.health())
                longest = max(longest, time.perf_counter() - started)
            await asyncio.sleep(0)
            assert publisher.waiting <= PRICES_KEPT + TRADES_KEPT + HEALTH_KEPT
        assert longest < 0.25, "generous: a shared machine; a blocked call would take the time limit of 1 s"
        await eventually(lambda: not publisher.is_connected)  # the time limit of a reply
        assert publisher.conflated > 0
        assert publisher.dropped > 0

        server.thaw()
        await eventually(lambda: publisher.is_connected and not publisher.waiting)
        publisher.publish_price(records.live(77.0))
        async with Redis(port=server.port) as client:
            await eventually(lambda: not publisher.waiting)
            async with asyncio.timeout(5):
                while json.loads(await client.get(f"dquant:price:{MARKET}"))["bid"] != 77.0:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)


async def test_a_stale_price_leaves_while_an_answer_is_still_due(server, records, eventually):
    async with publishing(server.settings) as publisher:
        await eventually(lambda: publisher.is_connected)
        server.freeze()
        async with asyncio.timeout(5):
            while not publisher.waiting:  # as soon as the server does not keep up, what comes waits
                publisher.publish_price(records.live())
                await asyncio.sleep(0.001)
        publisher.publish_price(records.stale())
        assert publisher.waiting == 0
        server.thaw()


async def test_refused_commands_are_counted_and_said_once(make_server, records, eventually, caplog):
    server = make_server("user default off", "user bob on >hunter2 ~* &* +@all -set")
    settings = RedisSettings(port=server.port, user="bob", password="hunter2")
    with caplog.at_level(logging.DEBUG):
        async with publishing(settings) as publisher:
            for number in range(1, 6):
                publisher.publish_price(records.live())
                await eventually(lambda number=number: publisher.reply_errors["NOPERM"] == number)
            assert publisher.is_connected
        text = caplog.text

    assert text.count("NOPERM") == 1
    assert "hunter2" not in text


async def test_a_wrong_password_is_said_without_it_and_once(make_server, records, caplog, eventually):
    server = make_server("requirepass right")
    async with publishing(RedisSettings(port=server.port, password="hunter2")) as publisher:
        publisher.publish_price(records.live())
        await eventually(lambda: "redis_password" in caplog.text)
        assert publisher.waiting == 1

    assert caplog.text.count("refuses us") == 1
    assert "hunter2" not in caplog.text
    assert "hunter2" not in repr(vars(publisher))


async def test_close_sends_what_waits(server, records, tail, eventually):
    async with tail(server.port, "price") as got:
        async with publishing(server.settings) as publisher:
            await eventually(lambda: publisher.is_connected)
            for _ in range(50):
                publisher.publish_price(records.live())
            started = time.monotonic()
        assert time.monotonic() - started < 0.5, "redis-py waits a second for a stream that nobody ended"
        await eventually(lambda: len(got) == 50)


async def test_close_without_a_server_is_quick(unused_port, records):
    started = time.monotonic()
    async with publishing(RedisSettings(port=unused_port)) as publisher:
        publisher.publish_price(records.live())
        await asyncio.sleep(0)
    assert time.monotonic() - started < 1.5


async def test_several_publishers_share_one_server(server, records, tail, eventually):
    names = ["one", "two", "three"]
    async with tail(server.port, "price") as got, contextlib.AsyncExitStack() as stack:
        publishers = [
            await stack.enter_async_context(publishing(server.settings, market=name)) for name in names
        ]
        for _ in range(30):
            for publisher in publishers:
                publisher.publish_price(records.live(market=publisher.market))
            await eventually(lambda: all(p.is_connected and not p.waiting for p in publishers))
        await eventually(lambda: len(got) == 90)

    for name in names:
        assert [r["seq"] for _, r in got if r["market"] == name] == list(range(1, 31))


async def test_a_sentinel_master_is_published_to(make_server, records, tail, eventually):
    master = make_server()
    sentinel = make_server(f"sentinel monitor main 127.0.0.1 {master.port} 1", arguments=("--sentinel",))
    settings = RedisSettings.from_url(f"redis+sentinel://127.0.0.1:{sentinel.port}/main")
    async with tail(master.port, "price") as got, publishing(settings) as publisher:
        publisher.publish_price(records.live())
        await eventually(lambda: got)


async def test_after_a_failover_the_new_master_gets_the_newest_state(make_server, records, eventually):
    """The old master becomes a read-only replica while the connection to it stays up."""
    old = make_server("repl-diskless-sync-delay 0")
    new = make_server(f"replicaof 127.0.0.1 {old.port}")
    async with Redis(port=new.port) as client, Redis(port=old.port) as old_client:
        await reached(client.info, lambda info: info["master_link_status"] == "up")
        await reached(old_client.info, lambda info: info["slave0"]["state"] == "online")
        watch = f"sentinel monitor main 127.0.0.1 {old.port} 1"
        sentinel = make_server(watch, arguments=("--sentinel",))
        settings = RedisSettings.from_url(f"redis+sentinel://127.0.0.1:{sentinel.port}/main")
        async with publishing(settings) as publisher:
            publisher.publish_price(records.live(1.0))
            await eventually(lambda: publisher.is_connected and not publisher.waiting)

            # What a sentinel does in a failover, by hand: the promotion, then the news of it.
            await client.replicaof("NO", "ONE")
            await old_client.replicaof("127.0.0.1", new.port)
            async with Redis(port=sentinel.port) as chief:
                await chief.sentinel_remove("main")
                await chief.sentinel_monitor("main", "127.0.0.1", new.port, 1)
            publisher.publish_price(records.live(2.0))
            await eventually(lambda: publisher.reconnects >= 1)
            assert publisher.reply_errors["READONLY"] >= 1
            await reached(
                lambda: client.get(f"dquant:price:{MARKET}"),
                lambda text: text is not None and json.loads(text)["bid"] == 2.0,
            )


async def reached(ask, condition):
    """Ask a server until the answer is as wanted."""
    async with asyncio.timeout(10):
        while not condition(await ask()):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
