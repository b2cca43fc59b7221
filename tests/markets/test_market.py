"""The doors of a market, from other threads, over each transport, against the simulated venues."""

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from dquant.errors import ConfigError, WrongThreadError
from dquant.markets import market as module
from dquant.markets.market import Market
from dquant.markets.okex._okex_protocol import OkexPublicProtocol
from dquant.markets.waiters import ALL_FLAGS, Waiters
from dquant.model.events import (
    LIVE,
    STALE,
    BookStale,
    Depth,
    IndexPrice,
    SubscriptionChanged,
    TickerStats,
    TopOfBook,
    TradeRecord,
)

OKEX, BITMEX, SWAP = "okex_future_btcusd_thisweek", "bitmex_future_btcusd", "okex_swap_btcusd"
MakeMarket = Callable[..., Market]

pytestmark = pytest.mark.usefixtures("faultless")


@pytest.fixture(params=["picows", "websockets"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[OKEX, BITMEX])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_prices_are_read_from_any_thread(
    venues: Any, make_market: MakeMarket, transport: str, name: str
) -> None:
    market = make_market(venues, name, transport=transport)
    assert market.get_ticker() is None or market.price.verdict == LIVE
    assert market.update(["ticker", "depth"])
    ticker, depth = market.get_ticker(), market.get_depth(5)

    assert ticker is not None
    assert ticker["bid"]["price"] < ticker["ask"]["price"]
    assert min(ticker["bid"]["amount"], ticker["ask"]["amount"]) > 0
    assert depth is not None
    bids, asks = ([level["price"] for level in depth[side]] for side in ("bids", "asks"))
    assert (len(bids), bids) == (5, sorted(bids, reverse=True))
    assert (len(asks), asks) == (5, sorted(asks))
    assert bids[0] < asks[0]
    assert market.name == f"market-{name}"


def test_start_is_told_step_by_step_with_the_instrument(
    venues: Any, make_market: MakeMarket, log: Any, transport: str, name: str
) -> None:
    market = make_market(venues, name, transport=transport)
    log.wait(market.get_ticker)
    assert market.stop()

    told = [(each.state, each.verdict, each.reason) for each in log.health if each.state != "heartbeat"]
    assert told == [
        ("connecting", STALE, None),
        ("connected", STALE, None),
        ("live", LIVE, None),
        ("closed", STALE, "closed"),
    ]
    live = next(each for each in log.health if each.state == "live")
    assert live.inst_id == market.price.inst_id != ""
    last, _ = log.prices[-1]
    assert (last.verdict, last.reason, last.bid) == (STALE, "closed", None)
    seqs = [price.seq for price, _ in log.prices]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))


def test_update_waits_for_each_kind(venues: Any, make_market: MakeMarket) -> None:
    market = make_market(venues)
    kinds: set[str] = set()
    market.register_callbacks({"event": lambda event: kinds.add(type(event).__name__)})

    assert market.update(["ticker", "depth", "trade", "mark", "index"], timeout=10.0)
    assert {"TopOfBook", "Trade", "MarkPrice", "IndexPrice"} <= kinds
    assert market.update([])
    assert market._waiters.waiting == []


def test_update_takes_the_call_shapes_of_the_original(venues: Any, make_market: MakeMarket) -> None:
    """Nothing at all is the depth; of a mapping each key counts, and nothing came while one has not."""
    market = make_market(venues)

    assert market.update()
    assert market.update({"depth": True, "trades": False, "index_price": False}, timeout=10.0)
    assert market.update("ticker, depth")
    assert not market.update({"depth": True, "stats": False}, timeout=0.3)
    with pytest.raises(ConfigError, match="'get_order' is not known"):
        market.update({"depth": False, "get_order": False})


def test_update_that_times_out_leaves_no_waiter(venues: Any, make_market: MakeMarket) -> None:
    market = make_market(venues)
    assert market.update(["ticker"])

    assert not market.update(["stats"], timeout=0.05)  # a channel that nobody subscribed
    assert market.update("ticker", timeout=10.0)
    assert market.update(["ticker"])  # the loop has taken the request to forget before this one
    assert market._waiters.waiting == []


class RecordedWaiters(Waiters):
    def __init__(self) -> None:
        super().__init__()
        self.woken: list[str] = []

    def receive(self, flags: frozenset[str]) -> None:
        self.woken.append(" ".join(sorted(flags)))
        super().receive(flags)


def test_ready_made_top_is_fresh_for_the_ticker_but_no_fresh_depth(
    venues: Any, make_market: MakeMarket, log: Any
) -> None:
    """BitMEX quotes are in no order with its book: they wake nobody. Those of OKX wake who wants a ticker."""
    market, other = make_market(venues), make_market(venues, BITMEX)
    other.sub_channel("quote")
    quotes: list[Any] = []
    for each in (market, other):
        assert each.update(["ticker"])
    other.register_callbacks({"event": quotes.append})
    log.wait(lambda: any(getattr(event, "from_book", True) is False for event in quotes))

    prices = [price for price, _ in log.prices if price.market == BITMEX and price.verdict == LIVE]
    books = sum(getattr(event, "from_book", False) for event in quotes)
    assert books <= len(prices)
    waiters = market._waiters = RecordedWaiters()
    assert not market.update(["stats"], timeout=0.3)
    assert {"ticker", "depth ticker"} <= set(waiters.woken)


def test_time_of_a_live_price_does_not_go_back(venues: Any, make_market: MakeMarket, log: Any) -> None:
    """OKX stamps a book with the full 100 ms, and the ready-made top that is in it with its very ms.

    After a stale period, or with another contract, time begins anew: a venue may set its clock.
    """
    market = make_market(venues, is_started=False)
    for ts_event, inst_id, from_book in (
        (702, "A", True),
        (700, "A", True),
        (703, "A", False),
        (5, "B", True),
    ):
        market.on_top(TopOfBook(inst_id, 1.0, 1.0, 2.0, 1.0, ts_event, 1000, from_book))
    market.on_event(BookStale("B", "sequence broken", 1001))
    market.on_top(TopOfBook("B", 1.0, 1.0, 2.0, 1.0, 4, 1002))

    assert [price.ts_event for price, _ in log.prices] == [702, 702, 703, 5, 5, 4]


def test_update_right_after_start_waits_for_the_loop(venues: Any, make_market: MakeMarket) -> None:
    market = make_market(venues, is_started=False)
    assert not market.update(["ticker"], timeout=0.05)
    market.start()
    assert market.update(["ticker"])


def test_update_ends_when_the_market_does(venues: Any, make_market: MakeMarket) -> None:
    market = make_market(venues)
    assert market.update(["ticker"])
    answers: list[bool] = []
    waiting = threading.Thread(target=lambda: answers.append(market.update(["stats"], timeout=30.0)))
    waiting.start()
    while not market._waiters.waiting:
        time.sleep(0.001)
    market.stop()
    waiting.join(5.0)

    assert answers == [False]
    assert market.update(["ticker"]) is False
    assert market.get_depth() is None


def test_unknown_words_are_refused_with_what_is_allowed(venues: Any, make_market: MakeMarket) -> None:
    market = make_market(venues, is_started=False)

    with pytest.raises(ConfigError, match=f"'tickers' is not known; allowed: {', '.join(ALL_FLAGS)}"):
        market.update(["ticker", "tickers"])
    for door in (market.register_callbacks, market.remove_callbacks):
        with pytest.raises(ConfigError, match="'prices' is not known; allowed: price, depth, trade"):
            door({"prices": print})


def test_waiting_in_the_market_s_own_thread_is_refused(
    venues: Any, make_market: MakeMarket, log: Any
) -> None:
    """The door that only reads works there, the one that would wait for itself says so at once."""
    market = make_market(venues)
    found: list[Any] = []

    def look(price: Any) -> None:
        if price.verdict == LIVE and not found:
            for door in (market.update, market.stop):
                with pytest.raises(WrongThreadError, match=market.name):
                    door()
            market.sub_channel("tickers")
            found.append(market.get_depth(1))

    market.register_callbacks({"price": look})
    log.wait(lambda: found)
    assert len(found[0]["bids"]) == 1
    assert market.callback_errors == 0


def test_callbacks_get_their_kind_in_the_market_s_thread_until_removed(
    venues: Any, make_market: MakeMarket, log: Any
) -> None:
    market = make_market(venues)
    got: dict[str, list[Any]] = {kind: [] for kind in ("price", "depth", "trade", "health", "event")}
    threads: set[str] = set()

    def see(kind: str) -> Callable[[Any], None]:
        def note(record: Any) -> None:
            threads.add(threading.current_thread().name)
            got[kind].append(record)

        return note

    callbacks = {kind: see(kind) for kind in got}
    market.register_callbacks(callbacks)
    log.wait(lambda: all(got.values()))
    market.remove_callbacks(callbacks)
    market.remove_callbacks(callbacks)  # unknown by now: ignored
    assert market.update(["ticker"])
    counts = {kind: len(records) for kind, records in got.items()}
    for _ in range(5):
        assert market.update(["ticker"])

    assert counts == {kind: len(records) for kind, records in got.items()}
    assert threads == {market.name}
    assert isinstance(got["depth"][0], Depth)
    assert isinstance(got["trade"][0], TradeRecord)


def test_callbacks_registered_by_many_threads_at_once_are_all_there(
    venues: Any, make_market: MakeMarket
) -> None:
    market = make_market(venues, is_started=False)
    calls: list[int] = []
    threads = [
        threading.Thread(
            target=lambda number=number: market.register_callbacks({"price": lambda _: calls.append(number)})
        )
        for number in range(50)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    market.on_down("connection lost", "for the test")

    assert sorted(calls) == list(range(50))


@pytest.mark.parametrize("kind", ["price", "trade", "health", "event", "depth"])
def test_callback_that_raises_is_counted_and_hurts_nobody(
    venues: Any, make_market: MakeMarket, log: Any, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    market = make_market(venues, is_started=False)

    def fail(record: Any) -> None:
        raise ValueError("a user's mistake")

    after: list[Any] = []
    market.register_callbacks({kind: fail})
    market.register_callbacks({kind: after.append})
    market.start()
    log.wait(lambda: len(after) >= (7 if kind in ("price", "event") else 2))
    log.wait(market.get_ticker)

    assert market.callback_errors >= 2
    assert 1 <= caplog.text.count(f"a {kind} callback failed") <= module.CALLBACK_ERRORS_LOGGED
    assert market.stop()
    assert market.failure is None


def test_what_a_library_leaves_in_the_loop_is_one_line_of_our_log(
    venues: Any, make_market: MakeMarket, log: Any, capfd: pytest.CaptureFixture[str], caplog: Any
) -> None:
    """asyncio would print a traceback over the screen; what is no error at all must not hurt either."""
    market = make_market(venues)
    log.wait(market.get_ticker)
    loop = market._loop
    assert loop is not None
    for error in (OSError("gone"), OSError, None):
        context = {"message": "SSL handshake failed\nprotocol: …", "exception": error}
        loop.call_soon_threadsafe(loop.call_exception_handler, context)
    assert market.update()

    ours = [r.getMessage() for r in caplog.records if "SSL" in r.getMessage()]
    assert ours == [
        f"{OKEX}: SSL handshake failed: OSError: gone",
        f"{OKEX}: SSL handshake failed",
        f"{OKEX}: SSL handshake failed",
    ]
    assert capfd.readouterr().err == ""


def test_price_of_a_loop_that_stands_still_is_not_given_out(
    venues: Any, make_market: MakeMarket, log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A callback that blocks is the user's own; what the market then holds is not live any more."""
    monkeypatch.setattr(module, "STALLED_S", 0.2)
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.05)
    market = make_market(venues)
    go_on, is_blocked = threading.Event(), threading.Event()

    def block(price: Any) -> None:
        is_blocked.set()
        go_on.wait(10.0)

    log.wait(market.get_ticker)
    market.register_callbacks({"price": block})
    assert is_blocked.wait(5.0)
    log.wait(lambda: market.get_ticker() is None)
    assert market.price.verdict == LIVE
    assert market.get_depth(timeout_s=0.05) is None
    market.remove_callbacks({"price": block})
    go_on.set()
    log.wait(market.get_ticker)


def test_depth_is_stale_with_the_price(venues: Any, make_market: MakeMarket, log: Any) -> None:
    market = make_market(venues, depth_interval_ms=50)
    depths: list[Depth] = []
    market.register_callbacks({"depth": depths.append})
    log.wait(lambda: depths)
    order: list[str] = []
    callbacks = {
        "price": lambda price: order.append(f"price {price.verdict}"),
        "depth": lambda depth: order.append(f"depth {depth.verdict}"),
    }
    market.register_callbacks(callbacks)
    venues.inject("okex", "drop")
    log.wait(lambda: "depth stale" in order)
    market.remove_callbacks(callbacks)

    at = order.index("price stale")
    assert order[at + 1] == "depth stale"
    stale = next(depth for depth in depths if depth.verdict == STALE)
    assert (stale.reason, stale.bids, stale.asks) == ("connection lost", [], [])
    log.wait(lambda: depths[-1].verdict == LIVE)
    assert depths[-1].bids[0][0] < depths[-1].asks[0][0]


@pytest.mark.parametrize(
    ("name", "channel", "kind"),
    [(OKEX, "tickers", TickerStats), (BITMEX, "orderBook10", SubscriptionChanged)],
)
def test_further_channel_is_subscribed_now_and_after_a_reconnect(
    venues: Any, make_market: MakeMarket, log: Any, name: str, channel: str, kind: type
) -> None:
    market = make_market(venues, name)
    venue = name.partition("_")[0]
    got: list[Any] = []
    log.wait(market.get_ticker)
    market.register_callbacks({"event": lambda event: got.append(event) if type(event) is kind else None})
    market.sub_channel(channel)
    market.sub_channel(channel)
    topic = f"{channel}:{market.price.inst_id}"
    log.wait(lambda: topic in subscriptions(venues, venue))
    log.wait(lambda: got)
    mark = log.mark()
    got.clear()
    venues.inject(venue, "drop")
    log.wait(lambda: "resynchronised" in mark.states(name))

    log.wait(lambda: topic in subscriptions(venues, venue))
    assert subscriptions(venues, venue).count(topic) == 1
    log.wait(lambda: got)


def subscriptions(venues: Any, venue: str) -> list[str]:
    return [
        topic for each in venues.state()["venues"][venue]["connections"] for topic in each["subscriptions"]
    ]


def test_channel_asked_for_before_the_start_is_subscribed(
    venues: Any, make_market: MakeMarket, log: Any
) -> None:
    market = make_market(venues, is_started=False)
    market.sub_channel("tickers")
    market.sub_channel("no-such-channel")
    market.start()

    assert market.update(["stats", "ticker"], timeout=10.0)  # the refused one costs nobody else anything


def test_channel_asked_for_after_the_end_is_asked_of_nobody(
    venues: Any, make_market: MakeMarket, log: Any, transport: str
) -> None:
    market = make_market(venues, transport=transport)
    log.wait(market.get_ticker)
    assert market.stop()
    asked = market._face._keeper.active  # type: ignore[attr-defined]
    market.sub_channel("tickers")
    assert asked is None


def test_swap_brings_funding_and_its_index(venues: Any, make_market: MakeMarket) -> None:
    market = make_market(venues, SWAP)
    got: list[Any] = []
    market.register_callbacks({"event": got.append})

    assert market.update(["ticker", "funding", "index", "mark"], timeout=10.0)
    assert next(event for event in got if isinstance(event, IndexPrice)).inst_id == "BTC-USD"
    assert market.instrument is not None
    assert (market.instrument.inst_id, market.instrument.kind) == ("BTC-USD-SWAP", "swap")


def test_market_stops_within_a_second_and_leaves_nothing_behind(
    venues: Any, make_market: MakeMarket, log: Any, transport: str, name: str
) -> None:
    """No thread, no socket, no file; the venue sees it go."""
    venue = name.partition("_")[0]
    first = make_market(venues, name, transport=transport)  # what is opened once for all is open now
    log.wait(first.get_ticker)
    assert first.stop()
    log.wait(lambda: venues.connections(venue) == [])
    files, threads = open_files(), threading.enumerate()

    market = make_market(venues, name, transport=transport)
    log.wait(lambda: market.get_ticker() and market.get_depth())
    started = time.monotonic()
    assert market.stop()

    assert time.monotonic() - started < 1.0
    assert not market.is_alive()
    log.wait(lambda: threading.enumerate() == threads)  # a question to REST may be on its way
    log.wait(lambda: venues.connections(venue) == [])
    log.wait(lambda: open_files() == files)
    assert market.get_ticker() is None


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("moment", ["at once", "rest hangs", "handshake hangs", "half-open", "rolling"])
def test_market_stops_at_any_moment(
    venues: Any, make_venues: Any, make_market: MakeMarket, log: Any, transport: str, moment: str
) -> None:
    files, threads = open_files(), set(threading.enumerate())
    with contextlib.ExitStack() as stack:
        addresses: Any = venues
        if moment in ("rest hangs", "handshake hangs"):
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))  # answers nobody
            addresses = Elsewhere(venues, listener, is_rest_too=moment == "rest hangs")
        elif moment == "rolling":
            addresses = make_venues(start_ns=FRIDAY_NS + 60 * 10**9)
            stack.callback(addresses.stop)
        name = "okex_future_btcusd_nextweek" if moment == "rolling" else OKEX
        market = make_market(addresses, name, transport=transport)
        if moment == "half-open":
            log.wait(market.get_ticker)
            venues.inject("okex", "silent")
        elif moment == "rolling":
            log.wait(lambda: market.price.reason == "rolling")
        elif moment != "at once":
            listener.settimeout(5.0)
            accepted, _ = listener.accept()
            stack.enter_context(accepted)
        started = time.monotonic()
        assert market.stop()
        assert time.monotonic() - started < 1.0
    log.wait(lambda: set(threading.enumerate()) <= threads)
    log.wait(lambda: open_files() <= files)


FRIDAY_NS = 1_764_316_800 * 10**9  # 2025-11-28 08:00 UTC


class Elsewhere:
    """Addresses where nobody answers."""

    def __init__(self, venues: Any, listener: socket.socket, *, is_rest_too: bool) -> None:
        port = listener.getsockname()[1]
        rest = f"http://127.0.0.1:{port}" if is_rest_too else venues.addresses["okex"][0]
        self.addresses = {"okex": (rest, f"ws://127.0.0.1:{port}/ws/v5")}


def test_stopping_a_market_that_never_ran_or_ended_is_nothing(venues: Any, make_market: MakeMarket) -> None:
    market = make_market(venues, is_started=False)
    started = time.monotonic()
    assert market.stop()
    assert market.get_depth() is None
    assert time.monotonic() - started < 0.5
    other = make_market(venues)
    assert other.stop()
    assert other.stop()


def test_side_exit_runs_from_before_the_first_record_until_after_the_last(
    venues: Any, make_market: MakeMarket, log: Any
) -> None:
    told: list[str] = []

    class Exit:
        def start(self) -> None:
            told.append("start")
            asyncio.get_running_loop()

        async def close(self) -> None:
            await asyncio.sleep(0)
            told.append("close")

    market = make_market(venues, is_started=False)
    market.attach(Exit())
    market.register_callbacks({"health": lambda health: told.append(health.state)})
    market.start()
    log.wait(market.get_ticker)
    assert market.stop()

    states = [each for each in told if each != "heartbeat"]
    assert (states[0], states[-2:]) == ("start", ["closed", "close"])


def test_failure_of_the_loop_is_kept_and_nothing_stays_live(
    venues: Any, make_market: MakeMarket, log: Any
) -> None:
    market = make_market(venues)
    log.wait(market.get_ticker)

    def fail() -> int:
        raise RuntimeError("for the test")

    market.dropped = fail
    market.join(5.0)

    assert not market.is_alive()
    assert market.failure is not None
    assert market.get_ticker() is None
    assert market.price.verdict == STALE


def test_rest_that_is_down_at_the_start_heals(
    venues: Any, make_market: MakeMarket, log: Any, name: str
) -> None:
    venue = name.partition("_")[0]
    venues.inject(venue, "refuse")
    market = make_market(venues, name)
    log.wait(lambda: market._face.reconnects >= 3)
    assert (market.price.verdict, market.price.reason) == (STALE, "connection lost")
    assert market.get_ticker() is None
    venues.clear()
    log.wait(market.get_ticker)

    states = [each.state for each in log.health if each.state != "heartbeat"]
    assert states == ["connecting", "stale", "connected", "live"]


@pytest.mark.parametrize("fault", ["drop", "refuse", "half-open", "notice", "damage"])
def test_connection_faults_heal_over_each_transport(
    venues: Any,
    make_market: MakeMarket,
    log: Any,
    transport: str,
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    market = make_market(venues, transport=transport)
    log.wait(market.get_ticker)
    mark = log.mark()
    (conn_id,) = venues.connections("okex")
    if fault == "half-open":
        monkeypatch.setattr(OkexPublicProtocol, "silence_limit_s", 0.25)
        venues.inject("okex", "silent", conn_id=conn_id)
    elif fault == "damage":
        okex = venues.simulated.venues["okex"]
        venues.call(lambda: okex.connections()[0].push("{not json", time.monotonic_ns()))
    else:
        if fault == "refuse":
            venues.inject("okex", "refuse", duration_s=0.3)
        venues.inject("okex", "notice" if fault == "notice" else "drop")
    log.wait(lambda: conn_id not in venues.connections("okex"))
    log.wait(lambda: fault == "notice" or "resynchronised" in mark.states(OKEX))

    assert mark.reasons(OKEX) == ([] if fault == "notice" else ["connection lost"])
    log.wait(market.get_ticker)
    log.wait(lambda: len(venues.connections("okex")) == 1)


def test_rest_fault_does_not_keep_a_known_instrument_from_its_websocket(
    venues: Any, make_market: MakeMarket, log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    market = make_market(venues)
    log.wait(market.get_ticker)
    mark = log.mark()
    okex = venues.simulated.venues["okex"]
    monkeypatch.setattr(okex, "answer", lambda request, now_ns: broken())
    venues.inject("okex", "drop")
    log.wait(lambda: "resynchronised" in mark.states(OKEX))

    assert mark.reasons(OKEX) == ["connection lost"]


def broken() -> Any:
    from dquant.simulator.venue import RestAnswer

    return RestAnswer(502, b"<html>Bad Gateway</html>", {}, "text/html")


def test_bad_rows_are_counted_and_decoys_are_ignored(
    venues: Any, make_market: MakeMarket, log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two rows of the list cannot be read; the linear contract of the same Friday is no candidate."""
    okex = venues.simulated.venues["okex"]
    answer = okex.answer

    def spoil(request: Any, now_ns: int) -> Any:
        import json

        from msgspec.structs import replace

        found = answer(request, now_ns)
        if not request.path.endswith("/instruments"):
            return found
        body = json.loads(found.body)
        row = dict(body["data"][0])
        decoy = {**row, "instId": "BTC-USD_UM-999999", "instFamily": "BTC-USD_UM", "ctType": "linear"}
        body["data"] = [{**row, "tickSz": ""}, {**row, "expTime": "soon"}, decoy, *body["data"]]
        return replace(found, body=json.dumps(body).encode())

    monkeypatch.setattr(okex, "answer", spoil)
    market = make_market(venues)
    log.wait(market.get_ticker)
    log.wait(lambda: log.health[-1].quarantined)

    assert log.health[-1].quarantined == 2
    assert "_UM" not in market.price.inst_id
    assert market.instrument is not None
    assert market.instrument.is_inverse


def test_refused_book_is_tried_again_on_a_new_connection(
    venues: Any, make_market: MakeMarket, log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The instrument is listed, but the venue does not know its book for a while."""
    okex = venues.simulated.venues["okex"]
    resolve, is_refused = okex.resolve, True

    def refuse(channel: str, arg: dict[str, Any]) -> Any:
        return None if channel == "books" and is_refused else resolve(channel, arg)

    monkeypatch.setattr(okex, "resolve", refuse)
    market = make_market(venues)
    log.wait(lambda: market._face.reconnects >= 2)
    reasons = [price.reason for price, _ in log.prices if price.verdict == STALE]
    assert "subscription refused" in reasons
    assert "connection lost" not in reasons  # that is what we did about it, not why there is no price
    is_refused = False
    log.wait(market.get_ticker)
