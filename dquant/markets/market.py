"""A market: one thread, one asyncio loop, and the doors in and out.

Inside, a face converses with the venue and hands over events; the market turns them into
``Price`` and ``Health`` records with a verdict and calls whoever registered, in its own
thread and without a lock. Outside, any other thread reads the newest price, waits for
fresh data or posts a call. Nothing polls: every waiting door sits on an event with a
deadline.

Units: prices in quote currency, amounts in contracts, times in ns since the Unix epoch.
"""

import asyncio
import concurrent.futures
import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeVar

from dquant.constants import HEARTBEAT_S, STOP_TIMEOUT_S
from dquant.errors import ConfigError, MarketError, WrongThreadError
from dquant.markets.face import Face, MarketSink, MarketSpec
from dquant.markets.waiters import FLAGS_OF_A_BOOK, FLAGS_OF_A_TOP, Waiter, Waiters, flags_of
from dquant.model.book import Levels
from dquant.model.events import (
    LIVE,
    STALE,
    BookStale,
    Depth,
    Event,
    Health,
    Price,
    TopOfBook,
    Trade,
    TradeRecord,
    Verdict,
)
from dquant.model.instrument import Instrument
from dquant.util import now_ns

logger = logging.getLogger(__name__)

T = TypeVar("T")
Callback = Callable[[Any], None]

CALLBACK_KINDS = ("price", "depth", "trade", "health", "event")

# A loop that has not beaten for this long may hold old prices for live ones.
STALLED_S = 3.0
CALLBACK_ERRORS_LOGGED = 5


class SideExit(Protocol):
    """What runs in a market's loop beside it, e.g. a publisher."""

    def start(self) -> None:
        """Begin, in the running loop."""

    async def close(self) -> None:
        """Hand on what waits, with a deadline, and end."""


class Market(threading.Thread):
    """One market of one exchange, running until ``stop``.

    Args:
        spec: What the market's name stands for.
        environment: ``dev`` or ``pro``; goes into every record.
        make_face: Makes the websocket face around this market as its sink.
        takes_tops: Whether the venue's ready-made tops are in one order with its book, so that
            the newer of the two is the price; else the book alone is.
        switch_interval_s: How long a thread keeps the interpreter from the others. A busy thread
            beside the market otherwise adds Python's 5 ms to every message; with less than a message
            takes, the market itself loses the interpreter in the middle of one.

    """

    def __init__(
        self,
        spec: MarketSpec,
        environment: str,
        make_face: Callable[[MarketSink], Face],
        *,
        takes_tops: bool = False,
        switch_interval_s: float = 100e-6,
        depth_levels: int = 20,
        depth_interval_s: float = 0.25,
    ) -> None:
        super().__init__(name=f"market-{spec.name}", daemon=True)
        self.spec = spec
        self.market_name = spec.name
        self.environment = environment
        self.price = self._stale_price("connecting")
        self.instrument: Instrument | None = None
        self.dropped: Callable[[], int] = lambda: 0  # what the slowest side exit lost; set by its owner
        self.callback_errors = 0
        self._takes_tops = takes_tops
        self._switch_interval_s = switch_interval_s
        self._depth_levels = depth_levels
        self._depth_interval_s = depth_interval_s
        self._face = make_face(self)
        self._registering = threading.Lock()
        self._set_callbacks(dict.fromkeys(CALLBACK_KINDS, ()))
        self._waiters = Waiters()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self._started_up = threading.Event()
        self._exits: list[SideExit] = []
        self._price_seq = 0
        self._was_live = False
        self._shown_depth: tuple[Levels, Levels] | None = None
        self._told_rolling = False
        # What to say when the price is live the next time, and why.
        self._live_state: tuple[str, str | None] = ("live", None)
        self._beat_at = time.monotonic()
        self.failure: BaseException | None = None

    # -- the thread ----------------------------------------------------------------------------

    def run(self) -> None:
        """Run the market's loop; ``start`` and ``stop`` are the doors."""
        sys.setswitchinterval(self._switch_interval_s)
        try:
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(self._run())
        except asyncio.CancelledError:
            pass
        except BaseException as exc:
            self.failure = exc
            logger.exception("%s: the market's loop failed", self.market_name)
            self.price = self._stale_price("failed")  # for the doors; nobody is called any more
        finally:
            self._loop = None
            self._started_up.set()

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> bool:
        """Ask the loop to end and wait for the thread; ``False`` if it is still alive after ``timeout_s``.

        Raises:
            WrongThreadError: Called from this market's own thread, which ``ask_to_stop`` ends.

        """
        if threading.current_thread() is self:
            raise WrongThreadError(f"stop() called from {self.name}")
        deadline = time.monotonic() + timeout_s
        self.ask_to_stop(timeout_s)
        if self.is_alive():
            self.join(max(0.0, deadline - time.monotonic()))
        return not self.is_alive()

    def ask_to_stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Ask the loop to end; waits only for one that is just starting."""
        if self.ident is None:
            return  # never started
        self._started_up.wait(timeout_s)
        loop, main = self._loop, self._main
        if loop is not None and main is not None:
            with contextlib.suppress(RuntimeError):  # it may end by itself meanwhile
                loop.call_soon_threadsafe(main.cancel)

    def _on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log what a library left behind in the loop: in our log, and in a line of it.

        asyncio's own way is a traceback on standard error, over the screen, and picows hands over
        errors that cannot even be printed so.
        """
        error = context.get("exception")
        words = f": {type(error).__name__}: {error}{_place_of(error)}" if isinstance(error, Exception) else ""
        what, _, _ = str(context.get("message")).partition("\n")
        logger.warning("%s: %s%s", self.market_name, what, words)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(self._on_loop_error)
        self._main = asyncio.current_task()
        self._started_up.set()
        for exit_ in self._exits:
            exit_.start()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.keep_connect())
                group.create_task(self._beat())
                if self._depth_levels:
                    group.create_task(self._publish_depth())
        finally:
            try:
                self._set_stale("closed", "stopped")
                self._tell("closed", "closed")
            finally:
                self._waiters.end()
                for exit_ in self._exits:
                    await exit_.close()

    async def keep_connect(self) -> None:
        """Stay connected to the venue until cancelled; runs in the market's loop."""
        self._tell("connecting", None)
        await self._face.keep_connect()

    async def _beat(self) -> None:
        while True:
            self._beat_at = time.monotonic()
            self._tell("heartbeat", self.price.reason)
            await asyncio.sleep(HEARTBEAT_S)

    async def _publish_depth(self) -> None:
        while True:
            await asyncio.sleep(self._depth_interval_s)
            if self._callbacks["depth"] and self._was_live:
                levels = self._face.depth(self._depth_levels)
                if levels is not None and levels != self._shown_depth:
                    self._show_depth(levels)

    def _show_depth(self, levels: tuple[Levels, Levels] | None) -> None:
        self._shown_depth = levels
        price = self.price
        bids, asks = levels or ([], [])
        self._call(
            "depth",
            Depth(
                self.market_name,
                price.inst_id,
                self.environment,
                0,
                bids,
                asks,
                price.verdict,
                price.reason,
                price.ts_event,
                price.ts_recv,
            ),
        )

    # -- doors for other threads ---------------------------------------------------------------

    def attach(self, side_exit: SideExit) -> None:
        """Run a side exit in this market's loop until after the last record; call before ``start``."""
        self._exits.append(side_exit)

    def register_callbacks(self, callbacks: Mapping[str, Callback]) -> None:
        """Call functions for every record of a kind, in the market's own thread.

        Args:
            callbacks: By kind: ``price``, ``depth``, ``trade``, ``health``, or ``event`` for everything
                that came from the wire. A callback that raises is logged and counted, not removed.

        Raises:
            ConfigError: A kind is not one of these.

        """
        self._check_kinds(callbacks)
        with self._registering:
            self._set_callbacks(
                {
                    kind: (*known, callbacks[kind]) if kind in callbacks else known
                    for kind, known in self._callbacks.items()
                }
            )

    def remove_callbacks(self, callbacks: Mapping[str, Callback]) -> None:
        """Forget functions given to ``register_callbacks``; unknown ones are ignored."""
        self._check_kinds(callbacks)
        with self._registering:
            self._set_callbacks(
                {
                    kind: tuple(one for one in known if one != callbacks.get(kind))
                    for kind, known in self._callbacks.items()
                }
            )

    def get_ticker(self) -> dict[str, dict[str, float | None]] | None:
        """Return ``{"ask": {"price", "amount"}, "bid": {…}}``, or ``None`` while stale; never waits."""
        price = self.price
        if price.verdict != LIVE or self.is_stalled():
            return None
        return {
            "ask": {"price": price.ask, "amount": price.ask_amount},
            "bid": {"price": price.bid, "amount": price.bid_amount},
        }

    def get_depth(self, levels: int = 20, timeout_s: float = 1.0) -> dict[str, list[dict[str, float]]] | None:
        """Return ``{"asks": [{"price", "amount"}, …], "bids": […]}``, best first, or ``None`` while stale.

        Blocks the calling thread for at most ``timeout_s``; no answer in time is ``None``.
        """
        if self.price.verdict != LIVE:
            return None
        if threading.current_thread() is self:
            found = self._read_depth(levels)
        else:
            try:
                found = self._post(lambda: self._read_depth(levels), timeout_s)
            except MarketError:
                return None
        if found is None:
            return None
        bids, asks = ([{"price": price, "amount": amount} for price, amount in side] for side in found)
        return {"asks": asks, "bids": bids}

    def update(self, flags: str | Iterable[str] = "depth", timeout: float = 5.0) -> bool:
        """Wait until fresh data of each named kind has arrived; ``False`` if it had not in time.

        Args:
            flags: Any of ``ticker depth trade mark index funding stats instrument``, in a list or one text
                (``"ticker,depth"``). Of a mapping, as the earlier program took it (``{"depth": False}``:
                it has not arrived yet), each key is waited for, whatever its value.
            timeout: Seconds; how long the calling thread may be blocked.

        Raises:
            ConfigError: A flag is unknown.
            WrongThreadError: Called from this market's own thread, which it would block.

        """
        waiter = Waiter(flags_of(flags))
        if threading.current_thread() is self:
            raise WrongThreadError(f"update() called from {self.name}")
        if not waiter.missing:
            return True
        deadline = time.monotonic() + timeout
        if self.ident is not None:
            self._started_up.wait(timeout)  # just started
        loop = self._loop
        if loop is None:
            return False
        try:
            loop.call_soon_threadsafe(self._waiters.add, waiter)
            is_done = waiter.done.wait(max(0.0, deadline - time.monotonic())) and not waiter.missing
            if not is_done:
                loop.call_soon_threadsafe(self._waiters.drop, waiter)
        except RuntimeError:
            return False  # the loop ended meanwhile
        return is_done

    def sub_channel(self, channel: str) -> None:
        """Subscribe one more public channel by the venue's own name, now and after every reconnect."""
        loop = self._loop
        if loop is None:
            self._face.sub_channel(channel)  # before the start; after the end it changes nothing
        else:
            with contextlib.suppress(RuntimeError):  # the loop ended meanwhile
                loop.call_soon_threadsafe(self._face.sub_channel, channel)

    def is_stalled(self) -> bool:
        """Tell whether the market's loop has stopped beating, so that nothing it holds can be live."""
        return time.monotonic() - self._beat_at > STALLED_S or self.failure is not None

    def _post(self, function: Callable[[], T], timeout_s: float) -> T:
        answer: concurrent.futures.Future[T] = concurrent.futures.Future()

        def run() -> None:
            if not answer.set_running_or_notify_cancel():
                return  # nobody waits any more
            try:
                answer.set_result(function())
            except Exception as exc:
                answer.set_exception(exc)

        try:
            loop = self._loop
            if loop is None:
                raise MarketError(f"{self.market_name} is not running")
            loop.call_soon_threadsafe(run)
            return answer.result(timeout_s)
        except RuntimeError as exc:  # the loop ended meanwhile
            raise MarketError(f"{self.market_name} is not running") from exc
        except concurrent.futures.TimeoutError:
            answer.cancel()
            raise MarketError(f"{self.market_name}: no answer from its loop in {timeout_s:g} s") from None

    def _read_depth(self, levels: int) -> tuple[Levels, Levels] | None:
        return self._face.depth(levels) if self._was_live else None

    def _set_callbacks(self, callbacks: Mapping[str, tuple[Callback, ...]]) -> None:
        # Replaced as a whole: the market's thread sees the old ones or the new ones. The two kinds
        # that every message asks for have a name of their own.
        self._callbacks = callbacks
        self._price_callbacks = callbacks["price"]
        self._event_callbacks = callbacks["event"]

    @staticmethod
    def _check_kinds(callbacks: Mapping[str, Callback]) -> None:
        for kind in callbacks:
            if kind not in CALLBACK_KINDS:
                raise ConfigError(
                    f"callback kind {kind!r} is not known; allowed: {', '.join(CALLBACK_KINDS)}"
                )

    # -- what the face tells (``MarketSink``) --------------------------------------------------

    def on_instrument(self, instrument: Instrument) -> None:
        """Note which contract is talked about from now on; another one is told once its price is live."""
        before = self.instrument
        if before is not None and before.inst_id != instrument.inst_id:
            what = f"{instrument.inst_id} follows {before.inst_id}"
            self.on_down("rolling", what)
            self._live_state = ("rolled", what)
        self.instrument = instrument

    def on_connected(self) -> None:
        """Note that the connection is there."""
        self._tell("connected", None)

    def on_top(self, top: TopOfBook) -> None:
        """Take one top of book, in the market's loop: the hot path."""
        is_live = self._was_live
        # A ready-made top is a price beside a sound book only; a book behind such a top heals, no more.
        is_price = not (is_live and top.is_behind) if top.from_book else is_live and self._takes_tops
        if is_price:
            self._price_seq = seq = self._price_seq + 1
            bid, ask, ts_event = top.bid, top.ask, top.ts_event
            before = self.price
            if is_live and ts_event < before.ts_event and top.inst_id == before.inst_id:
                # A venue's book and its ready-made tops are in one order, but not by time: the book
                # that takes the newer top in may carry the older stamp.
                ts_event = before.ts_event
            self.price = price = Price(
                self.market_name,
                top.inst_id,
                self.environment,
                seq,
                bid,
                None if bid is None else top.bid_size,
                ask,
                None if ask is None else top.ask_size,
                LIVE,
                None,
                ts_event,
                top.ts_recv,
            )
            if not is_live:
                self._receive_live()
            for callback in self._price_callbacks:
                try:
                    callback(price)
                except Exception:
                    self._count_callback_error("price")
        if self._waiters.waiting:
            self._wake_by_top(top)
        if self._event_callbacks:
            self._call("event", top)

    def on_event(self, event: Event) -> None:
        """Take one event of the wire other than a top, in the market's loop."""
        if isinstance(event, BookStale):
            self._set_stale(event.reason, event.reason)
        elif isinstance(event, Trade):
            self._on_trade(event)
        if self._waiters.waiting:
            self._waiters.receive_event(event)
        if self._event_callbacks:
            self._call("event", event)

    def on_down(self, reason: str, detail: str) -> None:
        """Note that no believed price can come now."""
        self._set_stale(reason, detail)
        if reason == "rolling" and not self._told_rolling:
            self._told_rolling = True
            self._tell("rolling", reason)

    # -- inside --------------------------------------------------------------------------------

    def _on_trade(self, trade: Trade) -> None:
        if self._callbacks["trade"]:
            self._call(
                "trade",
                TradeRecord(
                    self.market_name,
                    trade.inst_id,
                    self.environment,
                    0,
                    trade.trade_id,
                    trade.price,
                    trade.size,
                    trade.side,
                    trade.ts_event,
                    trade.ts_recv,
                ),
            )

    def _set_stale(self, reason: str, detail: str) -> None:
        if self.price.verdict == STALE and self.price.reason == reason:
            return
        if self._was_live:
            self._was_live = False
            self._live_state = ("resynchronised", None)
        self.price = self._stale_price(reason)
        self._call("price", self.price)
        if self._shown_depth is not None:
            self._show_depth(None)
        if detail != reason:
            logger.info("%s: %s: %s", self.market_name, reason, detail)
        if reason not in ("rolling", "closed"):
            self._tell("stale", reason)  # one reason everywhere: it is compared with that of the price

    def _receive_live(self) -> None:
        self._was_live = True
        self._told_rolling = False
        self._tell(*self._live_state)

    def _stale_price(self, reason: str) -> Price:
        before = getattr(self, "price", None)
        instrument = getattr(self, "instrument", None)
        inst_id = instrument.inst_id if instrument is not None else (self.spec.inst_id or "")
        ts_event = before.ts_event if before is not None else 0
        self._price_seq = getattr(self, "_price_seq", 0) + 1
        return Price(
            self.spec.name,
            inst_id,
            self.environment,
            self._price_seq,
            None,
            None,
            None,
            None,
            STALE,
            reason,
            ts_event,
            now_ns(),
        )

    def _tell(self, state: str, reason: str | None) -> None:
        if state != "heartbeat":
            logger.info("%s: %s%s", self.market_name, state, f" ({reason})" if reason else "")
        if self._callbacks["health"]:
            verdict: Verdict = self.price.verdict
            self._call(
                "health",
                Health(
                    self.market_name,
                    self.price.inst_id,
                    self.environment,
                    0,
                    state,
                    reason,
                    verdict,
                    self._face.messages,
                    self._face.resyncs,
                    self._face.reconnects,
                    self._face.quarantined,
                    self.dropped(),
                    now_ns(),
                ),
            )

    def _wake_by_top(self, top: TopOfBook) -> None:
        # Fresh data is believed data: a top that the verdict kept back wakes nobody.
        if self._was_live and top.from_book:
            self._waiters.receive(FLAGS_OF_A_BOOK)
        elif self._was_live and self._takes_tops:
            self._waiters.receive(FLAGS_OF_A_TOP)

    def _call(self, kind: str, record: object) -> None:
        for callback in self._callbacks[kind]:
            try:
                callback(record)
            except Exception:
                self._count_callback_error(kind)

    def _count_callback_error(self, kind: str) -> None:
        self.callback_errors += 1
        if self.callback_errors <= CALLBACK_ERRORS_LOGGED:
            logger.exception("%s: a %s callback failed", self.market_name, kind)


def _place_of(error: Exception) -> str:
    """Name the line that raised it."""
    trace = error.__traceback__
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f" ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})"


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes uvloop's loops, or ``None`` for asyncio's own where it is not installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
