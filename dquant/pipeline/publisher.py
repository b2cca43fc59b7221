"""Publishes the prices, depths, trades and health of one market to Redis, from that market's loop.

Records of ``model.events`` in, by plain calls that never wait; on Redis the channels, latest keys and
bounded streams of ``resp``. What one wake-up of the market decodes goes out in one write, and what piles
up while Redis is slow to answer goes out with the next; ``outbox`` says what gives way when it is too slow,
or gone.
Reconnects for ever with full jitter, and then publishes the newest state again. It neither makes up records
nor decides verdicts: the market says ``stale`` before it goes, and calls ``publish_health`` once a second.

Not thread-safe: every call comes from the loop in which ``start`` was called.

Units: seconds, ns since the Unix epoch in records.
"""

import asyncio
import logging
from collections import Counter

from dquant.constants import CHANNELS, KEY_PREFIX
from dquant.model.events import STALE, Depth, Health, Price, TradeRecord
from dquant.pipeline.outbox import Outbox
from dquant.pipeline.redis_link import LINK_ERRORS, RedisSettings, cancel_all, explain
from dquant.pipeline.redis_wire import ClusterWire, Wire, open_wire
from dquant.pipeline.resp import KindPacker
from dquant.util import full_jitter, now_ns

BACKOFF_BASE_S, BACKOFF_CEILING_S = 0.05, 2.0
CLOSE_TIMEOUT_S = 2.0
SAME_MESSAGE_S = 60.0

log = logging.getLogger(__name__)


class Publisher:
    """The side exit of one market to Redis; may fail without the market noticing.

    Args:
        settings: Where Redis is.
        environment: ``dev`` or ``pro``, for the log only: records carry their own.
        market: The market's name, part of channels and keys.
        streams: Append every record to a stream, too.
        stream_length: About how many records a stream keeps.
        prefix: What keys begin with.

    """

    def __init__(
        self,
        settings: RedisSettings,
        environment: str,
        market: str,
        *,
        streams: bool = False,
        stream_length: int = 10_000,
        prefix: str = KEY_PREFIX,
    ) -> None:
        self.market, self.environment = market, environment
        self.reconnects = 0
        self.reply_errors: Counter[str] = Counter()
        self._settings = settings
        self._reach = settings  # with the nodes of a cluster that were seen
        self._packers = {
            kind: KindPacker(prefix, kind, market, streams=streams, stream_length=stream_length)
            for kind in CHANNELS
        }
        self._outbox = Outbox()
        self._wire: Wire | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._drained: asyncio.Event | None = None
        self._is_armed = False
        self._said_at: dict[str, float] = {}

    @property
    def is_connected(self) -> bool:
        return self._wire is not None

    @property
    def waiting(self) -> int:
        """Records not yet sent; bounded."""
        return self._outbox.waiting

    @property
    def published(self) -> int:
        """Prices that left for Redis."""
        return self._outbox.prices_sent

    @property
    def conflated(self) -> int:
        """States that a newer one replaced before they were sent."""
        return self._outbox.conflated

    @property
    def dropped(self) -> int:
        """Records that were thrown away, or sent and never acknowledged."""
        return self._outbox.dropped

    def start(self) -> None:
        """Start the one task, in the running loop; records may be published before."""
        if self._task is not None:
            raise RuntimeError("a publisher starts once")
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._keep_connected(), name=f"publisher-{self.market}")

    async def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Send what waits, for at most ``timeout_s`` and only while connected; then disconnect."""
        if self._task is None:
            return
        if self._wire is not None and (self._outbox.waiting or not self._wire.is_idle):
            self._drained = asyncio.Event()
            self._flush()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._drained.wait()
            except TimeoutError:
                log.warning("%s: %d records unpublished at the end", self.market, self._outbox.waiting)
        await cancel_all([self._task])
        self._task = None

    def publish_price(self, price: Price) -> None:
        """Publish one price; a stale one leaves at once, ahead of any answer still due."""
        self._outbox.put_price(price)
        self._arm()
        if price.verdict == STALE and self._wire is not None and self._wire.is_open_to_urgent:
            self._send(self._wire)

    def publish_depth(self, depth: Depth) -> None:
        """Publish the best levels of the book."""
        self._outbox.put_depth(depth)
        self._arm()

    def publish_trade(self, trade: TradeRecord) -> None:
        """Publish one public trade."""
        self._outbox.trades.put(trade)
        self._arm()

    def publish_health(self, health: Health) -> None:
        """Publish a heartbeat or a change of state; ``dropped`` grows by what was lost here."""
        self._outbox.health.put(health)
        self._arm()

    def _arm(self) -> None:
        """Flush at the end of this wake-up of the loop, so that one read's prices share one write."""
        if not (self._is_armed or self._wire is None or self._loop is None):
            self._is_armed = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_armed = False
        wire = self._wire
        if wire is None or not wire.is_ready:
            return  # the last reply of what is under way comes here again
        record = self._outbox.take_price(now_ns())
        if record is not None:
            wire.send_price(record)
        else:
            self._send(wire)
        if self._drained is not None:
            if wire.is_idle:
                self._drained.set()
            else:
                wire.ask()

    def _send(self, wire: Wire) -> None:
        batches = self._outbox.take(now_ns())
        if batches:
            wire.send(batches)

    async def _keep_connected(self) -> None:
        attempt = 0
        while True:
            try:
                wire = await open_wire(self._reach, self._packers, self._flush, self._receive_reply_error)
                if isinstance(wire, ClusterWire):
                    self._reach = wire.reach(self._settings)
                self._said_at.pop("connect", None)
                if await self._converse(wire):
                    attempt = 0
            except LINK_ERRORS as exc:
                self._say(explain(exc, self._settings))
            except Exception as exc:
                # A fault of ours must not end a side exit without a word: say it and go on.
                self._say(f"publishing failed: {type(exc).__name__}: {exc}", "fault")
            await asyncio.sleep(full_jitter(attempt, BACKOFF_BASE_S, BACKOFF_CEILING_S))
            attempt += 1

    async def _converse(self, wire: Wire) -> bool:
        """Publish over ``wire`` until it ends; tell whether it ever worked."""
        reason = ""
        self._wire = wire
        self._outbox.receive_connected()
        log.info("%s: publishing to %s (%s)", self.market, self._settings.address, self.environment)
        try:
            self._flush()
            reason = await wire.lost()
        finally:
            self._wire = None
            self._outbox.receive_disconnected(wire.records_open)
            if self._drained is not None:
                self._drained.set()  # nothing more can go out
            await wire.close()
        self.reconnects += 1
        self._say(f"lost Redis at {self._settings.address} ({reason}); trying again", "lost")
        return wire.answered

    def _receive_reply_error(self, text: str) -> None:
        code = text.partition(" ")[0]
        self.reply_errors[code] += 1
        self._say(f"Redis at {self._settings.address} refuses ({text[:200]})", code)

    def _say(self, message: str, subject: str = "connect") -> None:
        """Log a warning, the same subject once a minute."""
        now = asyncio.get_running_loop().time()
        if now - self._said_at.get(subject, -SAME_MESSAGE_S) >= SAME_MESSAGE_S:
            self._said_at[subject] = now
            log.warning("%s: %s", self.market, message)
