"""What docs/configuration.md says the users of a server with an ACL need is enough, and no more is tried."""

import io
import re
from pathlib import Path

from redis.asyncio import Redis

from dquant.pipeline.publisher import Publisher
from dquant.pipeline.redis_link import RedisSettings
from tests.pipeline.monitoring import monitoring

PAGE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"
USERS = re.findall(r"^user (?:feed|reader) .*$", PAGE.read_text(), re.MULTILINE)


async def test_users_with_the_rights_of_the_page_feed_and_read(make_server, records, eventually):
    assert len(USERS) == 2
    lines = [line.replace("PASSWORD", "hunter2") for line in USERS]
    server = make_server("user default off", "user chief on >hunter2 ~* &* +@all", *lines)
    feed, reader = (
        RedisSettings(port=server.port, user=name, password="hunter2") for name in ("feed", "reader")
    )
    publisher = Publisher(feed, "dev", records.market, streams=True)
    publisher.start()
    stream = io.StringIO()
    channels = ("price", "depth*", "trade*", "health", f"price:{records.market}")
    try:
        async with monitoring(reader, *channels, as_json=True, stream=stream) as monitor:
            await eventually(lambda: monitor.is_subscribed and publisher.is_connected)
            publisher.publish_price(records.live())
            publisher.publish_depth(records.depth())
            publisher.publish_trade(records.trade())
            publisher.publish_health(records.health())
            await eventually(lambda: len(stream.getvalue().splitlines()) == 4)  # each once
    finally:
        await publisher.close()
    async with Redis(port=server.port, username="chief", password="hunter2") as chief:
        assert await chief.acl_log() == [], "a refused command"
        assert await chief.xlen(f"dquant:stream:price:{records.market}") == 1
        assert await chief.pttl(f"dquant:price:{records.market}") > 0
