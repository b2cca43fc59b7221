"""Tails Redis channels: a live table, plain lines, or the records themselves as JSON lines.

Channel names or patterns in; ``subscription`` keeps them subscribed, ``monitor_model`` keeps what they say.
Says within 3 s that a feed fell silent: on the screen, or in the log (standard error), so that ``--json`` has
records alone on standard output.

Also a program: ``python -m dquant.pipeline.monitor_subscriber [CHANNEL …]``.

Units: seconds; ns since the Unix epoch in records.
"""

import argparse
import asyncio
import contextlib
import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

from dquant.constants import EXIT_DONE
from dquant.errors import DquantError
from dquant.model.events import Depth, Health, Price, TradeRecord
from dquant.output import LineWriter
from dquant.pipeline.monitor_model import MonitorModel, Record
from dquant.pipeline.redis_link import RedisSettings, cancel_all
from dquant.pipeline.subscription import Subscription
from dquant.pipeline.valkey_child import Keeper
from dquant.terminal import REFRESH_S, Picture
from dquant.util import has_screen, now_ns, one_line, stop_signals

DEFAULT_CHANNELS = ("price", "health")
NOTICES_SHOWN = 5

log = logging.getLogger(__name__)


class MonitorSubscriber:
    """Listens to channels and shows what comes.

    ``methods`` names the handler of each kind of record, and may be given others; a handler returns the plain
    line for its record, or None for none. What a handler raises is logged, counted in ``faults``, and ends
    nothing.

    Args:
        channels: Names (``price``, ``price:<market>``, ``health`` …) or glob patterns; in a Redis Cluster
            names only.
        settings: Where Redis is; by default where the configuration says.

    Raises:
        ConfigError: A channel that cannot be subscribed.

    """

    def __init__(self, channels: Sequence[str], settings: RedisSettings | None = None) -> None:
        if settings is None:
            from dquant.config import cfg

            settings = RedisSettings.from_config(cfg)
        self.channels = tuple(channels) or DEFAULT_CHANNELS
        self.model = MonitorModel(now_ns())
        self.methods: dict[str, Callable[[Any], str | None]] = {
            "price": self.price_handler,
            "health": self.health_handler,
            "depth": self.depth_handler,
            "trade": self.trade_handler,
        }
        self.notices: deque[str] = deque(maxlen=NOTICES_SHOWN)
        self._subscription = Subscription(self.channels, settings, self._receive, self._lose, self._notice)
        self._states: dict[str, str] = {}
        self._stream: TextIO | None = None
        self._out: LineWriter | None = None
        self._as_json = False
        self._count: int | None = None
        self._picture: Picture | None = None
        self._done = asyncio.Event()

    @property
    def is_subscribed(self) -> bool:
        """Whether every channel is listened to."""
        return self._subscription.is_subscribed

    @property
    def subscriptions(self) -> int:
        """How often all channels came to be subscribed."""
        return self._subscription.subscriptions

    @property
    def faults(self) -> int:
        """Records whose handler raised an exception."""
        return self._subscription.faults

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
        """Listen for ``duration`` seconds or ``count`` records, until cancelled, or while somebody reads.

        Lines go to ``stream``, by default to standard output in a way that no reader holds up.

        Raises:
            DquantError: Standard output cannot be written.

        """
        self._stream = stream
        self._as_json, self._count = as_json, count
        self._done = asyncio.Event()
        self.model = MonitorModel(now_ns())
        with self._screen(), self._lines():
            tasks = [
                asyncio.create_task(work()) for work in (self._subscription.run, self._tick, self._done.wait)
            ]
            try:
                finished, _ = await asyncio.wait(tasks, timeout=duration, return_when=asyncio.FIRST_COMPLETED)
                for task in finished:
                    task.result()
            finally:
                await cancel_all(tasks)

    @contextlib.contextmanager
    def _screen(self) -> Iterator[None]:
        """Draw on a terminal while inside; elsewhere nothing."""
        stream = self._stream or sys.stdout
        if self._as_json or not has_screen(stream):
            yield
            return
        with Picture(stream) as self._picture:
            yield
        self._picture = None

    @contextlib.contextmanager
    def _lines(self) -> Iterator[None]:
        """Write lines to standard output while inside, unless they go elsewhere."""
        if self._picture is not None or self._stream is not None:
            yield
            return
        self._out = out = LineWriter()
        try:
            yield
        finally:
            self._out = None
            out.close()
            if out.dropped:
                log.warning("%d lines dropped: the reader of standard output was too slow", out.dropped)
        if out.error:
            raise DquantError(out.error)

    def _lose(self, channels: tuple[str, ...]) -> None:
        self.model.receive_lost(channels)

    def _receive(self, channel: str, text: bytes) -> None:
        record = self.model.receive(channel, text, now_ns())
        if record is None:
            return
        try:
            self._show(channel, record, text)
        finally:
            if self._count is not None and self.model.records >= self._count:
                self._done.set()

    def _show(self, channel: str, record: Record, text: bytes) -> None:
        if self._as_json:
            # JSON has no raw newline inside a text: those between its tokens would break the line.
            self._write(text.decode().replace("\n", " ").strip())
        elif self._picture is None:
            line = self.methods[channel.partition(":")[0]](record)
            if line is not None:
                # Whoever else publishes there must not command the terminal.
                self._write(line if line.isprintable() else one_line(line))

    def _write(self, line: str) -> None:
        if self._done.is_set():
            return
        if self._out is not None:
            self._out.write(line.encode())
        elif self._stream is not None:
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except BrokenPipeError:
                self._done.set()  # the reader has seen enough: an ordinary end

    def _notice(self, what: str) -> None:
        what = one_line(what)
        log.warning("%s", what)
        self.notices.append(f"{datetime.now(UTC):%H:%M:%S} {what}")

    async def _tick(self) -> None:
        """Watch for silence, redraw."""
        while True:
            await asyncio.sleep(REFRESH_S)
            if self._out is not None and not self._out.look():
                self._done.set()  # the reader has seen enough: an ordinary end
            now = now_ns()
            self.model.receive_time(now)
            for notice in self.model.notices_received():
                self._notice(f"{notice.market}: {notice.what}" if notice.market else notice.what)
            if self._picture is not None:
                from dquant.pipeline.monitor_view import draw

                self._picture.draw(draw(self.model, self._subscription.status, list(self.notices), now))
                if self._picture.is_gone:
                    self._done.set()


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
        task = asyncio.ensure_future(MonitorSubscriber(channels, settings).run(duration, count, as_json))
        loop = asyncio.get_running_loop()
        for number in stop_signals():
            loop.add_signal_handler(number, task.cancel)
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()

    asyncio.run(listen())
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
    if options.json or not (has_screen(sys.stdout) and sys.stderr.isatty()):  # a picture has the terminal
        handler = logging.StreamHandler(sys.stderr)
        formatter = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
        formatter.converter = time.gmtime  # UTC, as in the logs of the verbs
        handler.setFormatter(formatter)
        logging.getLogger().addHandler(handler)
    else:
        # Without any handler logging writes warnings to standard error by itself.
        logging.getLogger().addHandler(logging.NullHandler())
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
        sys.stderr.write(f"monitor: {exc}\n")
        return exc.exit_code


if __name__ == "__main__":
    sys.exit(main())
