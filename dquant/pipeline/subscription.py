"""Keeps channels subscribed: on one server, or in a Redis Cluster on the owner of each channel.

Channel names or patterns in; messages, and which channels were lost, out by callbacks. Subscribes over
redis-py, and again with back-off after a server went; a connection on which not even a PING is answered is
given up and made anew.

In a cluster feeds publish by SPUBLISH: a message stays on the node that owns the slot of its channel, so each
such node has a connection here, of its own life. When a node goes or a slot moves, the owners of its
channels are asked for again, while the others are heard on. Redis has no patterns for sharded channels.

Units: seconds.
"""

import asyncio
import contextlib
import dataclasses
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

from redis.asyncio import RedisCluster

from dquant.errors import ConfigError
from dquant.pipeline.redis_link import (
    LINK_ERRORS,
    RedisSettings,
    cancel_all,
    close_client,
    create_client,
    explain,
    with_nodes,
)
from dquant.util import full_jitter

BACKOFF_BASE_S, BACKOFF_CEILING_S = 0.05, 1.0
# A PING goes out after so long without any message; unanswered for as long again, the connection is dead.
PING_AFTER_S = 2.0
DEAD_AFTER_S = 4.0
PING_STEP_S = 0.25
SAME_FAULT_S = 60.0  # between two tracebacks of what takes the messages

log = logging.getLogger(__name__)

_CONFIRMED = frozenset({"subscribe", "psubscribe", "ssubscribe"})
_MESSAGES = frozenset({"message", "pmessage", "smessage"})


@dataclasses.dataclass(slots=True)
class _Life:
    """What became of one connection."""

    messages: int = 0


class _SlotMoved(Exception):
    """The node says that the slot of one of our channels is another's now."""


class Subscription:
    """Channels that are listened to for as long as ``run`` runs.

    Attributes:
        subscriptions: How often all channels came to be subscribed.
        status: What is so now, in one line for people.
        faults: Messages whose taker raised an exception.

    Args:
        channels: Names or glob patterns.
        settings: Where Redis is.
        on_message: Takes a channel's name and the bytes that came on it. What it raises is logged and
            counted, and harms no connection.
        on_lost: Takes the channels of a connection that ended.
        on_notice: Takes one line for people: what was lost, what came back.

    Raises:
        ConfigError: A channel without a name, or a pattern in a cluster.

    """

    def __init__(
        self,
        channels: Sequence[str],
        settings: RedisSettings,
        on_message: Callable[[str, bytes], None],
        on_lost: Callable[[tuple[str, ...]], None],
        on_notice: Callable[[str], None],
    ) -> None:
        check_channels(channels, settings)
        self.channels = tuple(dict.fromkeys(channels))
        self.subscriptions = 0
        self.faults = 0
        self.status = "connecting"
        self._settings = settings
        self._known = settings  # with the nodes of a cluster that were seen
        self._on_message = on_message
        self._on_lost = on_lost
        self._on_notice = on_notice
        self._unheard = set(self.channels)
        self._fault_at = -math.inf
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[None] | None = None  # holds a bug of ours that ended one of them

    @property
    def is_subscribed(self) -> bool:
        """Whether every channel is listened to."""
        return not self._unheard

    async def run(self) -> None:
        """Listen until cancelled."""
        self._unheard = set(self.channels)
        self._failed = asyncio.get_running_loop().create_future()
        try:
            self._start(self.channels)
            await self._failed
        finally:
            await cancel_all(self._tasks)  # a task group would ask each of them once

    def _start(self, channels: tuple[str, ...]) -> None:
        task = asyncio.create_task(self._keep(channels))
        self._tasks.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        fault = None if task.cancelled() else task.exception()
        if fault is not None and self._failed is not None and not self._failed.done():
            self._failed.set_exception(fault)

    async def _keep(self, channels: tuple[str, ...]) -> None:
        """Keep ``channels`` subscribed; of those that other nodes own, further tasks take care."""
        attempt = 0
        while True:
            settings, life = self._settings, _Life()
            try:
                if settings.cluster:
                    (settings, channels), *others = await self._owners(channels)
                    for _, theirs in others:
                        self._start(theirs)
                await self._converse(settings, channels, life)
            except _SlotMoved:
                self._on_notice(f"{' '.join(channels)}: moved to another node than {settings.address}")
            except LINK_ERRORS as exc:
                if attempt == 0 or self._unheard.isdisjoint(channels):
                    self._on_notice(f"{explain(exc, settings)}; trying again")
            attempt = 0 if life.messages else attempt + 1
            self._unheard.update(channels)
            self.status = f"no connection to {self._settings.address}"
            await asyncio.sleep(full_jitter(attempt, BACKOFF_BASE_S, BACKOFF_CEILING_S))

    async def _owners(self, channels: tuple[str, ...]) -> list[tuple[RedisSettings, tuple[str, ...]]]:
        """Ask the cluster which node owns which channel."""
        client = create_client(self._known)
        assert isinstance(client, RedisCluster)
        try:
            async with asyncio.timeout(self._settings.connect_timeout_s * (2 + len(self._known.nodes))):
                await client.initialize()
            owned: dict[tuple[str, int], list[str]] = {}
            for name in channels:
                node = client.get_node_from_key(name)
                if node is None:
                    raise ConnectionError(f"no node serves the slot of {name}")
                owned.setdefault((node.host, int(node.port)), []).append(name)
            self._known = with_nodes(self._settings, client)
        finally:
            await close_client(client)
        return [
            (dataclasses.replace(self._settings, cluster=False, nodes=(), host=host, port=port), tuple(names))
            for (host, port), names in owned.items()
        ]

    async def _converse(self, settings: RedisSettings, channels: tuple[str, ...], life: _Life) -> None:
        """Subscribe, and take messages until the connection fails."""
        loop = asyncio.get_running_loop()
        client = create_client(settings)
        pubsub: Any = None  # redis-py's pub/sub objects share no typed base
        pinging: asyncio.Task[None] | None = None
        message_at = loop.time()

        async def ping() -> None:
            pinged_at = 0.0
            while True:
                await asyncio.sleep(PING_STEP_S)
                if loop.time() - max(message_at, pinged_at) > PING_AFTER_S:
                    pinged_at = loop.time()
                    with contextlib.suppress(*LINK_ERRORS):
                        await pubsub.ping()

        try:
            await client.ping()  # a login that fails says so more clearly than a subscription
            pubsub = client.pubsub()
            await self._subscribe(pubsub, channels)
            pinging = asyncio.create_task(ping())
            async with asyncio.timeout(DEAD_AFTER_S) as deadline:
                async for message in pubsub.listen():
                    message_at = loop.time()
                    deadline.reschedule(message_at + DEAD_AFTER_S)
                    self._receive(message, life)
        finally:
            self._on_lost(channels)  # before anything that takes time
            if pinging is not None:
                pinging.cancel()
                await asyncio.wait({pinging})
            if pubsub is not None:
                with contextlib.suppress(*LINK_ERRORS):
                    await pubsub.aclose()
            await close_client(client)

    async def _subscribe(self, pubsub: Any, channels: tuple[str, ...]) -> None:
        if self._settings.cluster:
            for name in channels:  # one by one: a command may name one slot only
                await pubsub.ssubscribe(name)
            return
        names = [name for name in channels if not is_pattern(name)]
        patterns = [name for name in channels if is_pattern(name)]
        if names:
            await pubsub.subscribe(*names)
        if patterns:
            await pubsub.psubscribe(*patterns)

    def _receive(self, message: dict[str, Any], life: _Life) -> None:
        kind = message["type"]
        if kind in _MESSAGES:
            life.messages += 1
            self._pass_on(message["channel"].decode(errors="replace"), message["data"])
        elif kind in _CONFIRMED and self._unheard:
            self._unheard.discard(message["channel"].decode(errors="replace"))
            if self.is_subscribed:
                self.subscriptions += 1
                self.status = f"listening to {' '.join(self.channels)} at {self._settings.address}"
                if self.subscriptions > 1:
                    self._on_notice(f"subscribed again at {self._settings.address}")
        elif kind == "sunsubscribe":
            # Nobody here asks for it.
            raise _SlotMoved

    def _pass_on(self, channel: str, data: bytes) -> None:
        """Give a message to its taker, whose faults are no fault of the connection."""
        try:
            self._on_message(channel, data)
        except Exception:
            self.faults += 1
            now = asyncio.get_running_loop().time()
            if now - self._fault_at >= SAME_FAULT_S:
                self._fault_at = now
                log.exception("no handling of a message on %s (%d so far)", channel[:80], self.faults)


def check_channels(channels: Sequence[str], settings: RedisSettings) -> None:
    """Refuse channels that cannot be subscribed.

    Raises:
        ConfigError: A channel without a name, or a pattern in a cluster.

    """
    for name in channels:
        if not name:
            raise ConfigError("a channel needs a name, such as price or price:<market>", "CHANNEL")
        if settings.cluster and is_pattern(name):
            raise ConfigError(
                f"{name!r} is a pattern, and the sharded channels of a Redis Cluster have none; "
                "allowed: names such as price, or price:<market> for one market",
                "CHANNEL",
            )


def is_pattern(name: str) -> bool:
    """Tell whether a channel's name stands for many."""
    return any(character in name for character in "*?[")
