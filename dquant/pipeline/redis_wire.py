"""One connection of a publisher: batches go out in one write, replies come back as a count.

``PackedWire`` lets redis-py connect (address, TLS, Sentinel, login, database) and then takes over
the transport: bytes packed by ``resp`` go out, hiredis counts replies in ``data_received``, and no
task wakes up in between. Measured at 2000 prices a second on uvloop, without the loop's own cost: a redis-py
pipeline 105 us of CPU a price, ``send_packed_command`` and ``read_response`` 38 us, this 12 us.
An answer to every write would wake this loop once more for each, and cost the server a write that stands
between it and the subscribers: so answers are asked for once in 5 ms (``CLIENT REPLY``), and what was sent in
between counts as arrived with the next ones, for a server does what one connection says in order.
``ClusterWire`` is the same for Redis Cluster, over the ordinary client, which routes by key.

Neither queues: the publisher sends when ``is_ready``, once a wake-up of the loop; what piles up while a
server is slow goes out when it has answered all. A wire ends once (``lost``) and is not used again.

Units: seconds by the loop's clock.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import hiredis
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from dquant.pipeline.redis_link import LINK_ERRORS, RedisSettings, close_client, create_client, with_nodes
from dquant.pipeline.resp import Batch, KindPacker, command

_WATCH_STEP_S = 0.25
# Urgent writes may follow one that is still unanswered, up to so many open replies.
_OPEN_REPLIES = 512
# For so long after a write whose answers were asked for, others follow it without any of their own. If the
# answers are not here by then, the server is slow, and what comes piles up until it has answered everything.
_KEEPS_UP_S = 0.005
# For so long after a refusal every answer is asked for, so that each further one is seen.
_WARY_S = 10.0
_REPLY_ON, _REPLY_OFF = (command(b"CLIENT", b"REPLY", word) for word in (b"ON", b"OFF"))

OnIdle = Callable[[], None]
OnReplyError = Callable[[str], None]


class Wire(Protocol):
    """What the publisher needs of a connection."""

    answered: bool  # at least one good reply came
    records_open: int  # records sent and not yet acknowledged

    @property
    def is_idle(self) -> bool: ...

    @property
    def is_ready(self) -> bool: ...

    @property
    def is_open_to_urgent(self) -> bool: ...

    def send(self, batches: Sequence[Batch]) -> None: ...

    def send_price(self, record: bytes) -> None: ...

    def ask(self) -> None: ...

    async def lost(self) -> str: ...

    async def close(self) -> None: ...


async def open_wire(
    settings: RedisSettings, packers: Mapping[str, KindPacker], on_idle: OnIdle, on_reply_error: OnReplyError
) -> Wire:
    """Connect and log in.

    Raises:
        RedisError, OSError, TimeoutError: Not now; ``redis_link.explain`` says it in words.

    """
    client = create_client(settings)
    try:
        # Sentinels are asked one after the other, each with its own time limit.
        async with asyncio.timeout(settings.connect_timeout_s * (2 + len(settings.nodes))):
            if isinstance(client, RedisCluster):
                await client.initialize()
                return ClusterWire(client, packers, on_idle, on_reply_error)
            connection = await client.connection_pool.get_connection()  # type: ignore[no-untyped-call]
            can_be_silent = await _can_be_silent(connection)
        # redis-py has no public door to the transport of a connection; the lock file pins its version.
        writer = connection._writer
        if writer is None:
            raise ConnectionError("closed right after the login")
        wire = PackedWire(client, settings, packers, on_idle, on_reply_error, can_be_silent=can_be_silent)
        wire.take_over(writer.transport)
    except BaseException:
        await close_client(client)
        raise
    return wire


async def _can_be_silent(connection: AbstractConnection) -> bool:
    """Tell whether the server leaves answers away when told to; its ACL or a proxy may be against it."""
    words = [("CLIENT", "REPLY", "OFF"), ("CLIENT", "REPLY", "ON"), ("PING",)]
    await connection.send_packed_command(connection.pack_commands(words), check_health=False)
    is_told = await _is_ok(connection)
    # Only one of the two CLIENT commands is answered then, so that the second answer is that of PING.
    is_silent = is_told and not await _is_ok(connection)
    if not is_silent:
        for _ in range(1 if is_told else 2):
            await _is_ok(connection)
    return is_silent


async def _is_ok(connection: AbstractConnection) -> bool:
    try:
        return bool(await connection.read_response(disable_decoding=True) == b"OK")
    except ResponseError:
        return False


class PackedWire(asyncio.Protocol):
    """A plain server, TLS or Sentinel's master."""

    def __init__(
        self,
        client: Redis,
        settings: RedisSettings,
        packers: Mapping[str, KindPacker],
        on_idle: OnIdle,
        on_reply_error: OnReplyError,
        *,
        can_be_silent: bool,
    ) -> None:
        self.answered = False
        self.records_open = 0
        self._client = client
        self._settings = settings
        self._can_be_silent = can_be_silent
        self._packers = packers
        self._price_packer = packers["price"]
        self._on_idle = on_idle
        self._on_reply_error = on_reply_error
        self._loop = asyncio.get_running_loop()
        self._replies_open = 0
        self._records_asked = 0  # of the open ones, those that the open replies will acknowledge
        self._silent_from = 0.0  # no write is silent before
        self._silent_until = 0.0
        self._busy_since = 0.0  # there have been open replies without a break since then
        self._sent_at = 0.0
        self._is_paused = False
        self._end: asyncio.Future[str] = self._loop.create_future()
        self._reader = hiredis.Reader()
        self._transport: asyncio.WriteTransport | None = None
        self._protocol_before: asyncio.BaseProtocol | None = None

    def take_over(self, transport: asyncio.WriteTransport) -> None:
        """Become the protocol of a connection that redis-py has logged in."""
        self._transport, self._protocol_before = transport, transport.get_protocol()
        transport.set_protocol(self)
        if transport.is_closing():
            self._finish("closed right after the login")

    @property
    def is_idle(self) -> bool:
        return self._replies_open == 0 and self.records_open == 0 and not self._is_paused

    @property
    def is_ready(self) -> bool:
        if not self._replies_open:
            return not self._is_paused
        return self.is_open_to_urgent and self._loop.time() - self._busy_since < _KEEPS_UP_S

    @property
    def is_open_to_urgent(self) -> bool:
        return self._replies_open < _OPEN_REPLIES and not self._is_paused

    def send(self, batches: Sequence[Batch]) -> None:
        if self._transport is None or self._end.done():
            return
        out: list[bytes] = []
        replies = records = 0
        for batch in batches:
            replies += self._packers[batch.kind].pack(batch, out)
            records += len(batch.records)
        self.records_open += records
        now = self._loop.time()
        if self._silent_from <= now < self._silent_until:
            self._transport.write(b"".join(out))
        else:
            self._ask(out, replies, now)

    def send_price(self, record: bytes) -> None:
        """Send the newest price by itself, which is what there is mostly, and sooner than as a batch."""
        if self._transport is None or self._end.done():
            return
        self.records_open += 1
        packer = self._price_packer
        now = self._loop.time()
        if self._silent_from <= now < self._silent_until:
            self._transport.write(packer.pack_one(record))
        else:
            self._ask([packer.pack_one(record)], packer.replies_of_one, now)

    def ask(self) -> None:
        """Ask for the answers that are still owed, unless some are due anyhow."""
        if self.records_open and not (self._replies_open or self._transport is None or self._end.done()):
            self._ask([], 0, self._loop.time())

    def _ask(self, out: list[bytes], replies: int, now: float) -> None:
        assert self._transport is not None
        if self._can_be_silent:
            out = [_REPLY_ON, *out, _REPLY_OFF]  # of these two the first is answered
            replies += 1
            self._silent_until = now + _KEEPS_UP_S
        if not self._replies_open:
            self._busy_since = self._sent_at = now
        self._replies_open += replies
        self._records_asked = self.records_open
        self._transport.write(b"".join(out))

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not False:
                if isinstance(reply, hiredis.PushNotification):
                    continue
                self._replies_open -= 1
                if isinstance(reply, hiredis.ReplyError):
                    self._receive_error(str(reply))
                else:
                    self.answered = True
        except hiredis.ProtocolError as exc:
            self._finish(f"unreadable reply: {exc}")
            return
        if self._replies_open <= 0:
            self.records_open -= self._records_asked
            self._replies_open = self._records_asked = 0
            self._on_idle()
        else:
            self._sent_at = self._loop.time()  # it is slow, but it moves

    def _receive_error(self, text: str) -> None:
        self._on_reply_error(text)
        self._silent_from = self._loop.time() + _WARY_S
        # After a failover the old master is read-only: ask the sentinels again.
        if text.startswith("READONLY") and self._settings.sentinel_master:
            self._finish("the master became a replica")

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        if not self._replies_open:
            self._on_idle()

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(str(exc) if exc else "closed by the server")
        if self._protocol_before is not None:
            # redis-py's stream waits for this before it counts as closed; the reason stays with us.
            self._protocol_before.connection_lost(None)

    def _finish(self, reason: str) -> None:
        if not self._end.done():
            self._end.set_result(reason)

    async def lost(self) -> str:
        """Wait until the connection ends, or leaves a request unanswered too long; return why."""
        limit_s = self._settings.reply_timeout_s
        while not self._end.done():
            await asyncio.wait({self._end}, timeout=min(_WATCH_STEP_S, limit_s))
            self.ask()
            if self._replies_open and self._loop.time() - self._sent_at > limit_s:
                self._finish(f"no reply for {limit_s:g} s")
        return self._end.result()

    async def close(self) -> None:
        self._finish("closed by us")
        if self._transport is not None:
            # abort: with a frozen server a graceful close would wait for the send buffer for ever
            self._transport.abort()
        await close_client(self._client)


class ClusterWire:
    """A Redis Cluster: keys and sharded channels go to the nodes that own their slots.

    SPUBLISH stays on one node, where a classic PUBLISH would go to every node; subscribers use SSUBSCRIBE.
    """

    def __init__(
        self,
        client: RedisCluster,
        packers: Mapping[str, KindPacker],
        on_idle: OnIdle,
        on_reply_error: OnReplyError,
    ) -> None:
        self.answered = False
        self.records_open = 0
        self._client = client
        self._packers = packers
        self._on_idle = on_idle
        self._on_reply_error = on_reply_error
        self._batches: asyncio.Queue[Sequence[Batch]] = asyncio.Queue(1)

    @property
    def is_idle(self) -> bool:
        return self.records_open == 0 and self._batches.empty()

    @property
    def is_ready(self) -> bool:
        return self.is_idle

    @property
    def is_open_to_urgent(self) -> bool:
        return False  # one pipeline at a time; the next one takes it

    def send(self, batches: Sequence[Batch]) -> None:
        self.records_open = sum(len(batch.records) for batch in batches)
        self._batches.put_nowait(batches)

    def send_price(self, record: bytes) -> None:
        self.send([Batch("price", [record], record)])

    def ask(self) -> None:
        """Do nothing: every pipeline is answered."""

    def reach(self, settings: RedisSettings) -> RedisSettings:
        """Return the settings with every node that is known by now."""
        return with_nodes(settings, self._client)

    async def lost(self) -> str:
        """Work until a pipeline fails; return why."""
        while True:
            batches = await self._batches.get()
            try:
                await self._execute(batches)
            except LINK_ERRORS as exc:
                return str(exc) or type(exc).__name__
            self.records_open = 0
            self._on_idle()

    async def _execute(self, batches: Sequence[Batch]) -> None:
        pipeline = self._client.pipeline()
        for batch in batches:
            for name, *arguments in self._packers[batch.kind].commands(batch):
                pipeline.execute_command(name.decode(), *arguments)  # redis-py knows them by their text
        for reply in await pipeline.execute(raise_on_error=False):
            if isinstance(reply, (RedisConnectionError, RedisTimeoutError, OSError)):
                raise reply  # a node went, and whether the others go on is not known before a new look
            if isinstance(reply, Exception):
                self._on_reply_error(str(reply))
            else:
                self.answered = True

    async def close(self) -> None:
        await close_client(self._client)
