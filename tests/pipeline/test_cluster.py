"""Publisher and monitor on a Redis Cluster of three real nodes, over sharded channels."""

import asyncio
import json

import msgspec
import pytest
from redis.asyncio import Redis, RedisCluster
from redis.crc import key_slot

from dquant.errors import ConfigError
from dquant.pipeline.monitor_subscriber import MonitorSubscriber
from dquant.pipeline.monitor_view import verdict
from dquant.pipeline.publisher import Publisher
from dquant.pipeline.redis_link import RedisSettings
from dquant.util import now_ns
from tests.pipeline.monitoring import monitoring

MARKETS = ("a", "b", "c", "d")  # their channels lie on all three nodes
CHANNELS = tuple(f"price:{name}" for name in MARKETS)


@pytest.fixture
def settings(cluster):
    return RedisSettings.from_url(f"redis+cluster://127.0.0.1:{cluster[0].port}")


@pytest.fixture
async def publishers(settings, eventually):
    publishers = [Publisher(settings, "dev", name, streams=True) for name in MARKETS]
    for publisher in publishers:
        publisher.start()
    await eventually(lambda: all(publisher.is_connected for publisher in publishers))
    yield publishers
    for publisher in publishers:
        await publisher.close()


def owner_of(cluster, channel):
    """The fixture deals the slots out in this order."""
    return cluster[min(key_slot(channel.encode()) // 5461, 2)]


async def test_a_cluster_gets_keys_streams_and_sharded_publications(
    cluster, settings, publishers, records, eventually, tail
):
    """Each channel is heard on the node that owns it, in order; nothing is broadcast to the others."""
    assert {owner_of(cluster, channel).port for channel in CHANNELS} == {server.port for server in cluster}
    async with (
        monitoring(settings, *CHANNELS, "health") as monitor,
        monitoring(settings, "price") as everything,
        tail(cluster[0].port, "price", *CHANNELS) as classic,
    ):
        await eventually(lambda: monitor.is_subscribed and everything.is_subscribed)
        for number in range(20):
            for publisher in publishers:
                publisher.publish_price(records.live(float(number), market=publisher.market))
            await asyncio.sleep(0)
        for publisher in publishers:
            publisher.publish_health(records.health(market=publisher.market))
        await eventually(lambda: monitor.model.records == 84 and everything.model.records == 80)

        assert classic == []
        for name in MARKETS:
            assert (monitor.model.markets[name].gaps, everything.model.markets[name].gaps) == (0, 0)
            assert monitor.model.markets[name].bid == 19.0
        assert all(publisher.reply_errors == {} for publisher in publishers)
        async with RedisCluster(host="127.0.0.1", port=cluster[1].port) as client:
            for name in MARKETS:
                assert json.loads(await client.get(f"dquant:price:{name}"))["bid"] == 19.0
                assert await client.xlen(f"dquant:stream:price:{name}") == 20


async def test_a_channel_is_followed_to_the_node_that_its_slot_moves_to(
    cluster, settings, publishers, records, eventually
):
    slot = key_slot(b"price:a")
    old, new = owner_of(cluster, "price:a"), owner_of(cluster, "price:b")
    async with monitoring(settings, *CHANNELS) as monitor:
        await eventually(lambda: monitor.is_subscribed)
        await move(slot, old, new)
        async with asyncio.timeout(10):
            while not monitor.is_subscribed or len(monitor.model.markets) < len(MARKETS):
                for publisher in publishers:
                    publisher.publish_price(records.live(7.0, market=publisher.market))
                await asyncio.sleep(0.02)

        assert monitor.subscriptions == 2


async def move(slot, old, new):
    """What ``redis-cli --cluster reshard`` does with a slot that holds no key."""
    async with Redis(port=old.port) as source, Redis(port=new.port) as target:
        source_id, target_id = [
            (await client.execute_command("CLUSTER MYID")).decode() for client in (source, target)
        ]
        await target.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", source_id)
        await source.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", target_id)
        for client in (target, source):
            await client.execute_command("CLUSTER SETSLOT", slot, "NODE", target_id)


async def test_the_loss_of_one_node_leaves_the_others_heard_and_heals(
    cluster, settings, publishers, records, eventually
):
    """The node that is named in the configuration is the one that goes."""
    gone = [name for name in MARKETS if owner_of(cluster, f"price:{name}") is cluster[0]]
    for server in cluster:
        async with Redis(port=server.port) as client:
            await client.config_set("cluster-require-full-coverage", "no")
    async with monitoring(settings, *CHANNELS) as monitor:
        await eventually(lambda: monitor.is_subscribed)
        cluster[0].kill()
        await eventually(lambda: not monitor.is_subscribed)
        heard = {publisher.market: publisher for publisher in publishers if publisher.market not in gone}
        for publisher in heard.values():
            publisher.publish_price(records.live(8.0, market=publisher.market))
        await eventually(
            lambda: {name for name, view in monitor.model.markets.items() if view.bid == 8.0} == {*heard}
        )

        cluster[0].start()
        await eventually(lambda: monitor.is_subscribed and all(each.is_connected for each in heard.values()))
        assert monitor.subscriptions == 2


async def test_a_price_whose_node_is_lost_is_not_live_while_heartbeats_go_on(
    cluster, settings, records, eventually, caplog
):
    """They come over another node. The lost one is tried again with back-off, and said once it is lost."""
    prices, heartbeats = owner_of(cluster, "price"), owner_of(cluster, "health:a")
    assert prices is not heartbeats
    for server in cluster:
        async with Redis(port=server.port) as client:
            await client.config_set("cluster-require-full-coverage", "no")

    async def publish(server, channel, record, seq):
        data = msgspec.json.encode(msgspec.structs.replace(record, seq=seq, ts_pub=now_ns()))
        async with Redis(port=server.port) as client:
            await client.execute_command("SPUBLISH", channel, data)

    async with monitoring(settings, "price", "health:a") as monitor:
        await eventually(lambda: monitor.is_subscribed)
        await publish(prices, "price", records.live(5.0, market="a"), 1)
        await publish(heartbeats, "health:a", records.health(market="a"), 1)
        await eventually(lambda: monitor.model.records == 2)
        view = monitor.model.markets["a"]
        assert view.is_live

        prices.kill()
        await eventually(lambda: not view.is_live)
        for seq in range(2, 42):
            await publish(heartbeats, "health:a", records.health(market="a"), seq)
            await asyncio.sleep(0.025)
        await eventually(lambda: monitor.model.records == 42)
        assert (view.is_live, view.is_silent) == (False, False)
        assert "UNHEARD" in verdict(view, now_ns()).plain
        assert caplog.text.count("trying again") <= 3

        prices.start()
        await eventually(lambda: monitor.is_subscribed)
        await publish(heartbeats, "health:a", records.health(market="a"), 42)
        await eventually(lambda: monitor.model.records == 43)
        assert not view.is_live
        await publish(prices, "price", records.live(6.0, market="a"), 2)
        await eventually(lambda: view.is_live)
        assert view.bid == 6.0


@pytest.mark.parametrize("channel", ["price:*", "pr?ce", "price:[ab]"])
def test_a_pattern_is_refused_in_a_cluster_with_what_is_allowed(channel):
    settings = RedisSettings.from_url("redis+cluster://127.0.0.1:1")
    with pytest.raises(ConfigError, match=r"^CHANNEL: .* allowed: names such as price"):
        MonitorSubscriber([channel], settings)
