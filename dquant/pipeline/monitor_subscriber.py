"""Tails Redis channels: a live table, plain lines, or the records themselves as JSON lines.

Channel names or patterns in; ``monitor_model`` keeps what they say. Subscribes over redis-py, subscribes
again with back-off after the server went, and says within 3 s that a feed fell silent: on the screen, or in
the log (standard error), so that ``--json`` has records alone on standard output. A connection on which not
even a PING is answered is given up and made anew.

Also a program: ``python -m dquant.pipeline.monitor_subscriber [CHANNEL …]``.

Units: seconds; ns since the Unix epoch in records.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from dquant.constants import EXIT_DONE
from dquant.errors import DquantError
from dquant.model.events import Depth, Health, Price, TradeRecord
from dquant.pipeline.monitor_model import MonitorModel, Record
from dquant.pipeline.redis_link import LINK_ERRORS, RedisSettings, close_client, create_client, explain
from dquant.pipeline.valkey_child import Keeper
from dquant.util import full_jitter, now_ns

if TYPE_CHECKING:
    from rich.live import Live

DEFAULT_CHANNELS = ("price", "health")
BACKOFF_BASE_S, BACKOFF_CEILING_S = 0.05, 1.0
TICK_S = 0.25  # also the table's 4 Hz
# A PING goes out after so long without any message; unanswered for as long again, the connection is dead.
PING_AFTER_S = 2.0
DEAD_AFTER_S = 4.0
NOTICES_SHOWN = 5

log = logging.getLogger(__name__)


class MonitorSubscriber:
    """Listens to channels and shows what comes.

    ``methods`` names the handler of each kind of record; a handler returns the plain line for it, or None.

    Args:
        channels: Names (``price``, ``price:<market>``, ``health`` …) or glob patterns.
        settings: Where Redis is.

    """

    def __init__(self, channels: Sequence[str], settings: RedisSettings) -> None:
        self.channels = tuple(channels) or DEFAULT_CHANNELS
        self.model = MonitorModel(now_ns())
        self.methods: dict[str, Callable[[Any], str | None]] = {
            "price": self.price_handler,
            "health": self.health_handler,
            "depth": self.depth_handler,
            "trade": self.trade_handler,
        }
        self.subscriptions = 0
        self.is_subscribed = False
        self.notices: deque[str] = deque(maxlen=NOTICES_SHOWN)
        self._settings = settings
        self._status = "connecting"
        self._states: dict[str, str] = {}
        self._stream: TextIO = sys.stdout
        self._as_json = False
        self._count: int | None = None
        self._live: Live | None = None
        self._pubsub: Any = None  # redis-py's pub/sub objects share no typed base
        self._message_at = 0.0
        self._done = asyncio.Event()

    # Handlers: one plain line for what a person at a pipe wants to see.

    def price_handler(self, price: Price) -> str:
        """Return a price as a line."""
        name = f"{_mark(price.environment)}{price.market or price.inst_id} {price.inst_id}"
        if price.verdict != "live":
            return f"{name} stale: {price.reason}"
        return f"{name} bid {price.bid} x {price.bid_amount} ask {price.ask} x {price.ask_amount}"

    def health_handler(self, health: Health) -> str | None:
        """Return a change of state as a line; a heartbeat that changes nothing gives none."""
        state = f"{health.verdict} {health.reason or ''}".strip()
        is_news = self._states.get(health.market) != state or health.state != "heartbeat"
        if len(self._states) < 4096 or health.market in self._states:
            self._states[health.market] = state
        return f"{_mark(health.environment)}{health.market} {health.state}: {state}" if is_news else None

    def depth_handler(self, depth: Depth) -> str:
        """Return the best level of each side, and how many there are, as a line."""
        name = f"{_mark(depth.environment)}{depth.market} {depth.inst_id} depth"
        if depth.verdict != "live":
            return f"{name} stale: {depth.reason}"
        bid, ask = depth.bids[:1], depth.asks[:1]
        return f"{name} {len(depth.bids)}+{len(depth.asks)} levels, best {bid} {ask}"

    def trade_handler(self, trade: TradeRecord) -> str:
        """Return a trade as a line."""
        name = f"{_mark(trade.environment)}{trade.market} {trade.inst_id}"
        return f"{name} {trade.side} {trade.amount} at {trade.price}"

    async def run(
        self,
        duration: float | None = None,
        count: int | None = None,
        as_json: bool = False,
        stream: TextIO | None = None,
    ) -> None:
        """Listen for ``duration`` seconds or ``count`` records, until cancelled, or while somebody reads."""
        self._stream = stream or sys.stdout
        self._as_json, self._count = as_json, count
        self._done = asyncio.Event()
        self.model = MonitorModel(now_ns())
        with self._screen():
            tasks = [asyncio.create_task(work()) for work in (self._listen, self._tick, self._done.wait)]
            try:
                finished, _ = await asyncio.wait(tasks, timeout=duration, return_when=asyncio.FIRST_COMPLETED)
                for task in finished:
                    task.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)

    @contextlib.contextmanager
    def _screen(self) -> Any:
        """Draw on a terminal while inside; elsewhere nothing."""
        if self._as_json or not self._stream.isatty():
            yield
            return
        from rich.console import Console
        from rich.live import Live

        with Live(console=Console(file=self._stream), auto_refresh=False) as self._live:
            yield
        self._live = None

    async def _listen(self) -> None:
        attempt = 0
        while True:
            records_before = self.model.records
            try:
                await self._converse()
            except LINK_ERRORS as exc:
                if self.is_subscribed or attempt == 0:
                    self._notice(f"{explain(exc, self._settings)}; trying again")
            finally:
                self.is_subscribed = False
            self._status = f"no connection to {self._settings.address}"
            attempt = 0 if self.model.records > records_before else attempt + 1
            await asyncio.sleep(full_jitter(attempt, BACKOFF_BASE_S, BACKOFF_CEILING_S))

    async def _converse(self) -> None:
        """Subscribe, and take messages until the connection fails."""
        loop = asyncio.get_running_loop()
        client = create_client(self._settings)
        try:
            await client.ping()  # a login that fails says so more clearly than a subscription
            self._pubsub = client.pubsub()
            names = [name for name in self.channels if not _is_pattern(name)]
            patterns = [name for name in self.channels if _is_pattern(name)]
            if names:
                await self._pubsub.subscribe(*names)
            if patterns:
                await self._pubsub.psubscribe(*patterns)
            async with asyncio.timeout(DEAD_AFTER_S) as deadline:
                async for message in self._pubsub.listen():
                    self._message_at = loop.time()
                    deadline.reschedule(self._message_at + DEAD_AFTER_S)
                    self._receive(message)
        finally:
            pubsub, self._pubsub = self._pubsub, None
            if pubsub is not None:
                with contextlib.suppress(*LINK_ERRORS):
                    await pubsub.aclose()
            await close_client(client)

    def _receive(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind in {"subscribe", "psubscribe"}:
            if not self.is_subscribed:
                self.is_subscribed = True
                self.subscriptions += 1
                self._status = f"listening to {' '.join(self.channels)} at {self._settings.address}"
                if self.subscriptions > 1:
                    self._notice(f"subscribed again at {self._settings.address}")
        elif kind in {"message", "pmessage"}:
            channel = message["channel"].decode(errors="replace")
            record = self.model.receive(channel, message["data"], now_ns())
            if record is not None:
                self._show(channel, record, message["data"])

    def _show(self, channel: str, record: Record, text: bytes) -> None:
        if self._as_json:
            # JSON has no raw newline inside a text: those between its tokens would break the line.
            self._write(text.decode().replace("\n", " ").strip())
        elif self._live is None:
            line = self.methods[channel.partition(":")[0]](record)
            if line is not None:
                self._write(line)
        if self._count is not None and self.model.records >= self._count:
            self._done.set()

    def _write(self, line: str) -> None:
        if self._done.is_set():
            return
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except BrokenPipeError:
            self._done.set()  # the reader has seen enough: an ordinary end

    def _notice(self, what: str) -> None:
        if self._live is None:
            log.warning("%s", what)
        self.notices.append(what)

    async def _tick(self) -> None:
        """Watch for silence, keep a quiet connection proven, redraw."""
        loop = asyncio.get_running_loop()
        pinged_at = 0.0
        while True:
            await asyncio.sleep(TICK_S)
            now = now_ns()
            self.model.receive_time(now)
            for notice in self.model.notices_received():
                self._notice(f"{notice.market}: {notice.what}" if notice.market else notice.what)
            quiet_since = max(self._message_at, pinged_at)
            if self.is_subscribed and self._pubsub is not None and loop.time() - quiet_since > PING_AFTER_S:
                pinged_at = loop.time()
                with contextlib.suppress(*LINK_ERRORS):
                    await self._pubsub.ping()
            if self._live is not None:
                from dquant.pipeline.monitor_view import draw

                self._live.update(draw(self.model, self._status, list(self.notices), now), refresh=True)


def _is_pattern(name: str) -> bool:
    return any(character in name for character in "*?[")


def _mark(environment: str) -> str:
    return "SIMULATED " if environment == "dev" else ""


def run_monitor(
    channels: Sequence[str],
    settings: RedisSettings,
    *,
    duration: float | None = None,
    count: int | None = None,
    as_json: bool = False,
) -> int:
    """Run a monitor on standard output until it is done or a signal comes; return the exit code.

    That Redis is there is the caller's care (``valkey_child.Keeper``); a missing one is waited for.
    """

    async def listen() -> None:
        task = asyncio.ensure_future(
            MonitorSubscriber(channels, settings).run(duration, count, as_json, sys.stdout)
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()

    asyncio.run(listen())
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes again at exit, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Run as a module; the verb ``monitor`` is the same with all options of the product."""
    parser = argparse.ArgumentParser(
        prog="python -m dquant.pipeline.monitor_subscriber", description="Tail channels."
    )
    parser.add_argument(
        "channels", nargs="*", metavar="CHANNEL", help="name or pattern (default: price health)"
    )
    parser.add_argument("--json", action="store_true", help="pass the records through, one a line")
    parser.add_argument("--count", type=int, help="stop after so many records")
    parser.add_argument("--duration", type=float, help="stop after so many seconds")
    options = parser.parse_args(argv)
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    from dquant.config import cfg

    try:
        settings = RedisSettings.from_config(cfg)
        keeper = Keeper(settings, cfg.environment)
        keeper.start()
        try:
            return run_monitor(
                options.channels,
                settings,
                duration=options.duration,
                count=options.count,
                as_json=options.json,
            )
        finally:
            keeper.stop()
    except DquantError as exc:
        log.error("%s", exc)
        return exc.exit_code


if __name__ == "__main__":
    sys.exit(main())
