"""The verbs: wiring, signals and exit codes. The only module that knows all rooms.

Everything that can be wrong with a command line or a configuration is said before
anything connects. Rooms that a verb does not need are not imported.
"""

import asyncio
import contextlib
import gc
import io
import json
import logging
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from dquant import arguments, log
from dquant.config import MyConfiguration
from dquant.constants import EXIT_DONE, EXIT_FAILED, NS_PER_S, STOP_TIMEOUT_S
from dquant.errors import ConfigError, DquantError
from dquant.model.events import Health, Price
from dquant.terminal import REFRESH_S
from dquant.util import has_screen, now_ns, stop_signals

if TYPE_CHECKING:
    from dquant.datafeed import Datafeed
    from dquant.markets.face import MarketSpec
    from dquant.output import LineWriter
    from dquant.pipeline.redis_link import RedisSettings
    from dquant.strategy.view import Screen
    from dquant.terminal import Picture

logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parent.parent
SCREEN_VERBS = ("watch", "feed", "monitor")
WARNING_LINES = 3  # of a screen, for the newest warning
STRATEGY_TIME_S = 0.5
# That a market which has just been started is not live yet is news only after this long.
CONNECTING_NS = 3 * NS_PER_S
# Markets are told to stop first; what is left of the five seconds belongs to output and servers.
MARKETS_STOP_S = STOP_TIMEOUT_S - 2.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    if sys.stdout is None:  # closed by whoever started us; the first socket must not get its number
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a locale without our dashes and bars costs those alone
    options = arguments.parse(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(options)
    except DquantError as exc:
        sys.stderr.write(f"dquant {options.verb}: {exc}\n")
        _abandon_output()
        return exc.exit_code
    except KeyboardInterrupt:
        return EXIT_DONE
    except BrokenPipeError:  # the reader of a pipe went away
        _abandon_output()
        return EXIT_DONE


def _abandon_output() -> None:
    """Drop what cannot be written from standard output: Python would try again at exit, and complain."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _dispatch(options: Namespace) -> int:
    if options.verb in arguments.NOT_YET:
        raise ConfigError("not built yet; there are watch, feed, monitor, simulate, replay and markets")
    if options.verb == "test":
        raise ConfigError("the tests are run by: bash cli.sh test")
    cfg = MyConfiguration()
    _check_names(options)
    return _VERBS[options.verb](options, cfg)


# -- what several verbs need -------------------------------------------------------------------


def _names(options: Namespace, cfg: MyConfiguration) -> tuple[list[str], str]:
    """Return the market names, and where they were given."""
    if options.markets is None:
        return cfg.markets, f"{_place(cfg, 'markets')} [markets]"
    return _split(options.markets), "-m"


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _place(cfg: MyConfiguration, key: str) -> str:
    """Return where a key is set, or the file where it could be."""
    source = cfg.source_of(key)
    return str(cfg.path) if source == "default" else source


def _check_names(options: Namespace) -> None:
    """Refuse names that nobody knows in ``-m`` and ``-s``, also where the verb makes no use of them."""
    if options.strategy is not None:
        from dquant.strategy.strategy import check_strategy

        check_strategy(options.strategy, "-s")
    if options.markets is not None and options.verb != "replay":
        from dquant.markets.market_factory import specs_of

        specs_of(_split(options.markets), "-m")


def _check_simulation(cfg: MyConfiguration) -> None:
    if cfg.simulated_venues and not cfg.is_simulated:
        source = cfg.source_of("simulated_venues")
        raise ConfigError("simulated_venues: simulated prices must not pass for live ones; use dev", source)


def _is_screen(options: Namespace) -> bool:
    return not options.json and has_screen(sys.stdout)


def _set_up_log(options: Namespace, cfg: MyConfiguration) -> log.LastWords:
    level = "debug" if options.debug else cfg.log_level
    owns_terminal = _is_screen(options) and sys.stderr.isatty() and options.verb in SCREEN_VERBS
    return log.set_up(options.verb, level, ROOT / cfg.log_dir, owns_terminal=owns_terminal)


@dataclass
class _Limits:
    """When a verb ends by itself."""

    count: int | None
    seen: int = 0

    def take(self, records: int = 1) -> bool:
        """Count records; tell whether that was the last one."""
        self.seen += records
        return self.count is not None and self.seen >= self.count


def _run_until_stopped(options: Namespace, run: Callable[[asyncio.Event], Coroutine[Any, Any, int]]) -> int:
    """Run a coroutine that ends soon after its event is set: by a signal or by ``--duration``."""

    async def supervise() -> int:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in stop_signals():
            loop.add_signal_handler(number, stop.set)
        if options.duration is not None:
            loop.call_later(options.duration, stop.set)
        return await run(stop)

    from dquant.markets.market import loop_factory

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(supervise())


@contextlib.contextmanager
def _venues(specs: Sequence["MarketSpec"], cfg: MyConfiguration) -> Iterator[dict[str, tuple[str, str]]]:
    """Start simulated venues for those without an address; give REST and websocket address of each."""
    missing = sorted({spec.venue for spec in specs if not getattr(cfg, f"{spec.venue}_ws_url")})
    if not missing or not cfg.simulated_venues:
        yield {}
        return
    from dquant.simulator.child import start_child
    from dquant.simulator.process import SimulateOptions

    child = start_child(SimulateOptions(seed=cfg.simulator_seed))
    try:
        yield {venue: (child.addresses[venue]["rest"], child.addresses[venue]["ws"]) for venue in missing}
    finally:
        child.stop()


def redis_settings(cfg: MyConfiguration) -> "RedisSettings":
    """Return where Redis is, by the keys of ``[redis]``."""
    from dquant.pipeline.redis_link import RedisSettings

    return RedisSettings.from_config(cfg)


# -- watch -------------------------------------------------------------------------------------


def _watch(options: Namespace, cfg: MyConfiguration) -> int:
    from dquant.datafeed import Datafeed
    from dquant.markets.market_factory import check_venues_open, create_markets, specs_of
    from dquant.strategy.strategy import create_strategy
    from dquant.strategy.view import create_screen

    names, source = _names(options, cfg)
    specs = specs_of(names, source)
    strategy_name = cfg.strategy if options.strategy is None else options.strategy
    strategy_source = _place(cfg, "strategy") if options.strategy is None else "-s"
    strategy = create_strategy(strategy_name, names, cfg.environment, strategy_source, source)
    check_venues_open(specs, cfg)
    _check_simulation(cfg)
    last_words = _set_up_log(options, cfg)
    with _venues(specs, cfg) as addresses:
        feed = Datafeed(create_markets(names, cfg, addresses))
        screen = create_screen(strategy)
        if _is_screen(options):
            return _run_until_stopped(
                options, lambda stop: _watch_screen(options, feed, screen, last_words, stop)
            )
        return _run_until_stopped(options, lambda stop: _watch_lines(options, feed, screen, stop))


async def _watch_lines(options: Namespace, feed: "Datafeed", screen: "Screen", stop: asyncio.Event) -> int:
    from dquant.output import LineWriter
    from dquant.strategy.text import ChangeFilter, StartFilter, json_line, plain_line

    limits = _Limits(options.count)
    changes = ChangeFilter()
    out = LineWriter()
    start = StartFilter(now_ns() + CONNECTING_NS)
    timed_at = 0.0

    def show(records: Sequence[Any]) -> bool:
        for record in records:
            if not start.take(record) or not changes.is_change(record):
                continue
            shown = msgspec.structs.replace(record, ts_pub=now_ns()) if isinstance(record, Price) else record
            out.write(json_line(shown) if options.json else plain_line(shown).encode())
            if limits.take():
                return True
        return False

    with _running(feed):
        try:
            while not (stop.is_set() or out.is_broken):
                events = await _next_or_stop(feed, stop, REFRESH_S)
                if any(show(screen.update(event)) for event in events):
                    break
                if time.monotonic() - timed_at > STRATEGY_TIME_S:
                    timed_at = time.monotonic()
                    out.look()
                    if show(screen.on_time(now_ns())) or show(start.overdue(now_ns())):
                        break
                if feed.failed():
                    break
        finally:
            code = _close(out, await _stop_feed(feed))
    return code


def _close(out: "LineWriter", code: int) -> int:
    """Write what waits, say what was not written, and give the exit code."""
    out.close()
    if out.dropped:
        logger.warning("%d lines dropped: the reader of standard output was too slow", out.dropped)
    return EXIT_FAILED if out.error else code


async def _watch_screen(
    options: Namespace, feed: "Datafeed", screen: "Screen", last_words: log.LastWords, stop: asyncio.Event
) -> int:
    from dquant.terminal import Picture

    limits = _Limits(options.count)
    with _running(feed):
        drawn_at = 0.0
        try:
            with Picture() as picture:
                while not (stop.is_set() or feed.failed() or picture.is_gone):
                    events = await _next_or_stop(feed, stop, REFRESH_S)
                    done = [limits.take(len(screen.update(event))) for event in events]
                    now = time.monotonic()
                    if now - drawn_at >= REFRESH_S:
                        drawn_at = now
                        _draw(picture, screen, _unseen(feed), last_words.text)
                    if any(done):
                        break
        finally:
            code = await _stop_feed(feed)
    return code


def _unseen(feed: "Datafeed") -> str:
    counts = {"conflated": feed.conflated, "changes of state dropped": feed.dropped}
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count)


@contextlib.contextmanager
def _running(feed: "Datafeed", *, wants_prices: bool = True) -> Iterator[None]:
    feed.start(wants_prices=wants_prices)
    gc.collect()
    gc.freeze()  # what lives as long as the process need not be looked at again
    yield


async def _next_or_stop(feed: "Datafeed", stop: asyncio.Event, timeout_s: float) -> list[Price | Health]:
    """Wait for events, but no longer than a stop takes to be noticed."""
    if stop.is_set():
        return []
    return await feed.next_events(timeout_s)


async def _stop_feed(feed: "Datafeed") -> int:
    alive = await feed.stop(MARKETS_STOP_S)
    for name in alive:
        logger.error("%s did not stop in %g s", name, MARKETS_STOP_S)
    for market in feed.failed():
        sys.stderr.write(f"dquant: {market.market_name} failed: {market.failure}\n")
    return EXIT_FAILED if alive or feed.failed() else EXIT_DONE


def _draw(
    picture: "Picture", screen: "Screen", footer: str, last_words: str, *, is_alarm: bool = False
) -> None:
    from rich.console import Group, RenderableType
    from rich.text import Text

    last = last_words[: WARNING_LINES * picture.width]
    below = [Text(footer, style="bold red" if is_alarm else "dim")] if footer else []
    below += [Text(last, style="yellow", overflow="fold")] if last else []
    height = picture.height - len(below) - len(last) // picture.width
    lines: list[RenderableType] = [screen.render(now_ns(), picture.width, height), *below]
    picture.draw(Group(*lines))


# -- feed --------------------------------------------------------------------------------------


def _feed(options: Namespace, cfg: MyConfiguration) -> int:
    from dquant.datafeed import Datafeed
    from dquant.markets.market_factory import check_venues_open, create_markets, specs_of
    from dquant.pipeline.valkey_child import Keeper

    names, source = _names(options, cfg)
    specs = specs_of(names, source)
    check_venues_open(specs, cfg)
    _check_simulation(cfg)
    settings = redis_settings(cfg)
    last_words = _set_up_log(options, cfg)
    keeper = Keeper(settings, cfg.environment)
    keeper.start()
    try:
        with _venues(specs, cfg) as addresses:
            feed = Datafeed(create_markets(names, cfg, addresses))
            feed.publish_to(settings, streams=cfg.redis_streams, stream_length=cfg.redis_stream_length)
            return _run_until_stopped(
                options, lambda stop: _feed_until(options, feed, settings.address, last_words, stop)
            )
    finally:
        keeper.stop()


async def _feed_until(
    options: Namespace, feed: "Datafeed", address: str, last_words: log.LastWords, stop: asyncio.Event
) -> int:
    from dquant.output import LineWriter
    from dquant.strategy.text import health_line
    from dquant.strategy.ticker import Ticker
    from dquant.strategy.view import TickerScreen
    from dquant.terminal import Picture

    names = [market.market_name for market in feed.markets]
    environment = feed.markets[0].environment
    screen = TickerScreen(Ticker(names, environment), "feed")
    is_screen = _is_screen(options)
    out = None if is_screen else LineWriter()
    if out is not None and not options.json:
        mark = "SIMULATED " if environment == "dev" else ""
        out.write(f"feeding {mark}{', '.join(names)} to {address}".encode())
    with _running(feed, wants_prices=False):
        try:
            with Picture() if is_screen else contextlib.nullcontext() as picture:
                # Publishing goes on without a log of it, but not without the reader of a pipe.
                while not (stop.is_set() or feed.failed() or (out and out.is_pipe and not out.look())):
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(REFRESH_S):
                            await stop.wait()
                    for health in feed.take_health():
                        screen.update(health)
                        if out is not None and options.json:
                            out.write(msgspec.json.encode(health))
                        elif out is not None and health.state != "heartbeat":
                            out.write(health_line(health).encode())
                    published = feed.published()
                    if picture is not None:
                        for market in feed.markets:
                            screen.update(market.price)
                        is_alarm = not all(publisher.is_connected for publisher in feed.publishers)
                        link = "NO CONNECTION to" if is_alarm else "to"
                        footer = f"{link} {address}: {published} prices, {feed.lost()} conflated or lost"
                        _draw(picture, screen, footer, last_words.text, is_alarm=is_alarm)
                    if options.count is not None and published >= options.count:
                        break
        finally:
            code = await _stop_feed(feed)
            if out is not None:
                code = _close(out, code)
    return code


# -- monitor, simulate -------------------------------------------------------------------------


def _monitor(options: Namespace, cfg: MyConfiguration) -> int:
    from dquant.pipeline.monitor_subscriber import DEFAULT_CHANNELS, run_monitor
    from dquant.pipeline.subscription import check_channels
    from dquant.pipeline.valkey_child import Keeper

    settings = redis_settings(cfg)
    channels = options.channels
    if options.markets is not None and not channels:
        channels = [f"{kind}:{name}" for name in _split(options.markets) for kind in DEFAULT_CHANNELS]
    check_channels(channels, settings)
    _set_up_log(options, cfg)
    keeper = Keeper(settings, cfg.environment)
    keeper.start()
    try:
        return run_monitor(
            channels, settings, duration=options.duration, count=options.count, as_json=options.json
        )
    finally:
        keeper.stop()


def _simulate(options: Namespace, cfg: MyConfiguration) -> int:
    from dquant.simulator.process import options_from, serve

    if options.seed is None:
        options.seed = cfg.simulator_seed
    try:
        chosen = options_from(options)
    except ValueError as exc:
        raise ConfigError(str(exc)) from exc
    _set_up_log(options, cfg)
    return serve(chosen)


# -- markets -----------------------------------------------------------------------------------


def _markets(options: Namespace, cfg: MyConfiguration) -> int:
    from dquant.markets.market_factory import SPECS, VENUE_TITLES
    from dquant.output import BlockWriter

    rows = []
    for spec in SPECS.values():
        closed_at = getattr(cfg, f"{spec.venue}_closed_at")
        rows.append(
            {
                "market": spec.name,
                "venue": VENUE_TITLES[spec.venue],
                "instrument": spec.inst_id or f"{spec.family}-<YYMMDD>",
                "contract": spec.contract,
                "code": spec.meta_code,
                "title": spec.title,
                "closed_at": closed_at or None,
            }
        )
    out = BlockWriter()
    if options.json:
        for row in rows[: options.count]:
            out.write(json.dumps(row).encode())
        out.flush()
        return EXIT_DONE
    columns = ("market", "venue", "instrument", "contract", "code", "title")
    widths = {column: max(len(column), *(len(str(row[column])) for row in rows)) for column in columns}
    out.write("  ".join(column.ljust(widths[column]) for column in columns).rstrip().encode())
    for row in rows[: options.count]:
        text = "  ".join(str(row[column]).ljust(widths[column]) for column in columns).rstrip()
        closed = f" (closed {row['closed_at']})" if row["closed_at"] else ""
        out.write(f"{text}{closed}".encode())
    out.flush()
    return EXIT_DONE


# -- replay ------------------------------------------------------------------------------------


def _replay(options: Namespace, cfg: MyConfiguration) -> int:
    from dquant.replay import replay

    return replay(options, cfg.environment, _split(options.markets or ""))


_VERBS: dict[str, Callable[[Namespace, MyConfiguration], int]] = {
    "watch": _watch,
    "feed": _feed,
    "monitor": _monitor,
    "simulate": _simulate,
    "markets": _markets,
    "replay": _replay,
}
