"""The keeper's races, with conversations over a connection that the test ends by hand."""

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from dquant.errors import MarketUnreachable, RateLimited, RemoteProtocolError
from dquant.markets import conversation as module
from dquant.markets.conversation import ConnectionSettings, Conversation, Keeper
from dquant.model.events import BookStale, Event, Price, ReconnectAsked, TopOfBook
from dquant.model.instrument import Instrument
from dquant.util import now_ns

DEADLINE_S = 5.0
SETTINGS = ConnectionSettings(reconnect_base_s=0.01, reconnect_ceiling_s=0.04)
STALE = Price("m", "X", "dev", 1, None, None, None, None, "stale", "connecting", 0, 0)
LIVE_AT_50 = Price("m", "X", "dev", 1, 5.0, 1.0, 6.0, 1.0, "live", None, 50, 0)


INSTRUMENT = Instrument(
    venue="okex",
    inst_id="X",
    kind="swap",
    family="X",
    tick=Decimal("0.1"),
    lot=Decimal(1),
    min_size=Decimal(1),
    multiplier=Decimal(100),
    is_inverse=True,
    settle_ccy="BTC",
)


def top(bid: float, ts_event: int = 1, *, from_book: bool = True) -> TopOfBook:
    return TopOfBook("X", bid, 1.0, bid + 1, 1.0, ts_event, now_ns(), from_book)


class FakeCore:
    """Says what the test queues, one list of events a text."""

    silence_limit_s = 10.0

    def __init__(self) -> None:
        self.messages = self.quarantined = self.asked = 0
        self.script: list[list[Event]] = []
        self.failure: Exception | None = None
        self.suspended = False
        self._events: list[Event] = []

    def receive_open(self, now: int) -> None: ...

    def receive_text(self, text: str | bytes, ts_recv: int) -> None:
        self.messages += 1
        if text == b"damage":
            raise RemoteProtocolError("damaged")
        self._events += self.script.pop(0)

    def receive_silence(self) -> None:
        raise RemoteProtocolError("no pong")

    def receive_time(self, now: int) -> None:
        if self.failure is not None:
            raise self.failure

    def events_received(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def texts_to_send(self) -> list[str]:
        return []

    def depth(self, inst_id: str, levels: int) -> None:
        return None

    def is_suspended(self, inst_id: str) -> bool:
        return self.suspended

    def resyncs(self) -> int:
        return self.asked


class FakeConnection:
    def __init__(self, on_text: Callable[[bytes], None], changed: asyncio.Event) -> None:
        self.on_text, self._changed = on_text, changed
        self.is_slow_to_close = False
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def send(self, text: str) -> None: ...

    def close(self, reason: str) -> None:
        if not self.is_slow_to_close:
            self.end(reason)

    def end(self, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_result(reason)
            self._changed.set()

    async def wait_closed(self) -> str:
        return await asyncio.shield(self.ended)


class Bench:
    """A keeper over fakes, and what it said in order."""

    def __init__(self) -> None:
        self.said: list[tuple[str, Any]] = []
        self.conversations: list[Conversation] = []
        self.connections: list[FakeConnection] = []
        self.price = STALE
        self.opening: Callable[[], Any] = lambda: None
        self.connecting: Callable[[], Any] = lambda: None
        self.keeper = Keeper("m", SETTINGS, self._open, self._on_active, lambda: None, self._on_down)
        self._changed = asyncio.Event()

    async def _open(self) -> Conversation:
        self.note("open", len(self.conversations))
        found = self.opening()
        if found is not None:
            await found
        talk = Conversation(FakeCore(), "ws://x", SETTINGS, self._on_top, self._on_event, INSTRUMENT)
        self.conversations.append(talk)
        self._changed.set()
        return talk

    async def connect(self, url: str, on_text: Any, *, timeout_s: float, transport: str) -> FakeConnection:
        found = self.connecting()
        if found is not None:
            await found
        self.connections.append(FakeConnection(on_text, self._changed))
        self._changed.set()
        return self.connections[-1]

    def _on_active(self, talk: Conversation) -> None:
        self.note("active", self.conversations.index(talk))
        talk.take_over(self.price)

    def _on_down(self, reason: str) -> None:
        self.note("down", reason)

    def _on_top(self, found: TopOfBook) -> None:
        self.note("top", found.bid)

    def _on_event(self, talk: Conversation, event: Event) -> None:
        if talk.is_heard:
            self.note("event", type(event).__name__)

    def note(self, kind: str, what: Any) -> None:
        self.said.append((kind, what))
        self._changed.set()

    def all(self, kind: str) -> list[Any]:
        return [what for each, what in self.said if each == kind]

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def say(self, number: int, *events: Event) -> None:
        """Let a venue say something on its connection."""
        core = self.conversations[number].core
        assert isinstance(core, FakeCore)
        core.script.append(list(events))
        self.connections[number].on_text(b"text")

    async def hand_over(self, *first: Event) -> None:
        """Let a successor, which says this first, take over beside a price that is live."""
        self.price = LIVE_AT_50
        self.say(0, top(5.0, ts_event=50), ReconnectAsked("64008", 0))
        await self.until(lambda: len(self.connections) == 2)
        self.say(1, *first)
        await self.until(lambda: self.all("active") == [0, 1])


@pytest.fixture
async def bench(monkeypatch: pytest.MonkeyPatch):
    bench = Bench()
    monkeypatch.setattr(module, "connect", bench.connect)
    monkeypatch.setattr(module, "reserve_turn", lambda url: 0.0)
    monkeypatch.setattr(module, "TICK_S", 0.01)
    task = asyncio.ensure_future(bench.keeper.keep_connect())
    await bench.until(lambda: bench.connections)
    yield bench
    task.cancel()
    await asyncio.wait({task}, timeout=1.0)
    assert task.cancelled()


def never() -> Any:
    return asyncio.get_running_loop().create_future()


async def test_end_of_a_connection_is_told_and_a_new_core_follows(bench: Bench) -> None:
    bench.say(0, top(1.0))
    bench.connections[0].end("closed by the venue: 1000")
    await bench.until(lambda: len(bench.connections) == 2)
    bench.say(1, top(2.0))

    assert [each for each in bench.said if each[0] != "open"] == [
        ("active", 0),
        ("top", 1.0),
        ("down", "closed by the venue: 1000"),
        ("active", 1),
        ("top", 2.0),
    ]
    assert bench.conversations[0].core is not bench.conversations[1].core
    assert bench.keeper.reconnects == 1


async def test_nothing_is_believed_while_a_dead_connection_is_being_closed(bench: Bench) -> None:
    """The peer does not answer the closing handshake: the price must not stay live for that long."""
    bench.say(0, top(1.0))
    bench.connections[0].is_slow_to_close = True
    bench.conversations[0].core.failure = RemoteProtocolError("no pong in 10 s")  # type: ignore[attr-defined]
    loop = asyncio.get_running_loop()
    started = loop.time()
    await bench.until(lambda: bench.all("down"))

    assert loop.time() - started < module.CLOSING_S / 2
    bench.say(0, top(2.0), BookStale("X", "crossed", 1))
    assert bench.all("top") == [1.0]
    assert bench.all("event") == []
    assert bench.all("down") == ["no pong in 10 s"]


async def test_what_follows_damage_in_the_same_read_does_not_count(bench: Bench) -> None:
    bench.say(0, top(1.0))
    with pytest.raises(RemoteProtocolError):
        bench.connections[0].on_text(b"damage")
    bench.say(0, top(2.0))

    assert bench.all("down") == ["damaged"]
    assert bench.all("top") == [1.0]


async def test_fault_of_ours_is_told_and_the_next_conversation_is_tried(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.conversations[0].core.failure = KeyError("px")  # type: ignore[attr-defined]
    await bench.until(lambda: len(bench.connections) == 2)

    assert bench.all("down") == ["'px'"]
    assert "Traceback" in caplog.text


async def test_successor_takes_over_before_the_old_connection_is_left(bench: Bench) -> None:
    bench.say(0, top(1.0, ts_event=1))
    bench.say(0, ReconnectAsked("64008", 0))
    await bench.until(lambda: len(bench.connections) == 2)
    bench.say(0, top(1.5, ts_event=2))
    bench.say(1, top(2.0, ts_event=3))
    await bench.until(lambda: bench.all("active") == [0, 1])
    bench.say(0, top(9.0, ts_event=9))
    await bench.until(bench.connections[0].ended.done)

    assert bench.all("top") == [1.0, 1.5, 2.0]
    assert bench.all("down") == []
    assert bench.keeper.reconnects == 0


async def test_successor_repeats_only_what_is_news(bench: Bench) -> None:
    """Its book is from before the newest price of the old connection, its ready-made top is newer."""
    await bench.hand_over(top(4.0, ts_event=40), top(6.0, ts_event=60, from_book=False))

    assert bench.all("top") == [5.0, 6.0]


async def test_successor_that_lags_a_little_does_not_take_the_price_back(bench: Bench) -> None:
    """Its own core cannot know how new the last top of the connection before it was."""
    await bench.hand_over(top(4.0, ts_event=40))
    bench.say(1, top(4.5, ts_event=49))
    bench.say(1, top(5.5, ts_event=50, from_book=False))
    bench.say(1, top(6.0, ts_event=48))  # its own order is the core's affair

    assert bench.all("top") == [5.0, 5.5, 6.0]


async def test_successor_whose_clock_is_far_behind_is_heard_all_the_same(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too long behind, or stale meanwhile: a price that stands still is worse than one that goes back."""
    await bench.hand_over(top(4.0, ts_event=40))
    bench.say(1, top(4.1, ts_event=41))
    bench.say(1, BookStale("X", "late", 0))
    bench.say(1, top(4.2, ts_event=42), ReconnectAsked("64008", 0))
    monkeypatch.setattr(module, "BEHIND_S", 0.0)
    await bench.until(lambda: len(bench.connections) == 3)
    bench.say(2, top(3.0, ts_event=30))
    await bench.until(lambda: bench.all("active") == [0, 1, 2])
    bench.say(2, top(3.1, ts_event=31))

    assert bench.all("top") == [5.0, 4.2, 3.1]


async def test_successor_whose_book_broke_meanwhile_says_so(bench: Bench) -> None:
    """Any price is news after that, as it is when a book breaks later."""
    bench.price = LIVE_AT_50
    bench.say(0, top(1.0), ReconnectAsked("64008", 0))
    await bench.until(lambda: len(bench.connections) == 2)
    bench.say(1, top(2.0, ts_event=2))
    bench.say(1, BookStale("X", "sequence broken", 0))
    await bench.until(lambda: bench.all("active") == [0, 1])

    assert bench.all("top") == [1.0]
    assert bench.all("event")[-1] == "BookStale"
    bench.say(1, top(3.0, ts_event=49))
    assert bench.all("top") == [1.0, 3.0]


@pytest.mark.parametrize("where", ["asking REST", "connecting"])
async def test_end_during_a_handover_is_told_at_once(bench: Bench, where: str) -> None:
    """The successor hangs in REST, or in its connection: the old one's end is not kept back by that."""
    if where == "asking REST":
        bench.opening = never
    else:
        bench.connecting = never
    bench.say(0, top(1.0), ReconnectAsked("64008", 0))
    opened = 2
    await bench.until(lambda: len(bench.all("open")) == opened)
    bench.connections[0].end("connection lost")
    await bench.until(lambda: bench.all("down"))

    assert bench.all("down") == ["connection lost"]
    assert bench.keeper.active in (None, bench.conversations[-1])


async def test_venue_that_announces_the_end_of_each_new_connection_is_not_hammered(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each notice in a row is followed later than the one before; a connection that settled counts anew."""
    asked: list[int] = []
    monkeypatch.setattr(module, "SETTLED_S", 3600.0)
    monkeypatch.setattr(module, "full_jitter", lambda attempt, *_: asked.append(attempt) or 0.0)
    for number in range(4):
        if number == 3:
            monkeypatch.setattr(module, "SETTLED_S", 0.0)
        bench.say(number, top(1.0 + number, ts_event=1 + number), ReconnectAsked("64008", 0))
        await bench.until(lambda count=number + 2: len(bench.connections) == count)
        bench.say(number + 1, top(1.5 + number, ts_event=2 + number))
        await bench.until(lambda count=number + 2: len(bench.all("active")) == count)

    assert asked == [1, 2, 3]
    assert bench.all("down") == []


async def test_successor_under_way_is_kept_when_the_old_connection_ends(bench: Bench) -> None:
    bench.say(0, top(1.0), ReconnectAsked("64008", 0))
    await bench.until(lambda: len(bench.connections) == 2)
    bench.connections[0].end("closed by the venue: 1001")
    await bench.until(lambda: bench.all("active") == [0, 1])
    bench.say(1, top(2.0, ts_event=2))

    assert bench.all("down") == ["closed by the venue: 1001"]
    assert bench.all("top") == [1.0, 2.0]
    assert len(bench.connections) == 2


async def test_failed_successors_are_tried_again_and_leave_nothing_behind(bench: Bench) -> None:
    failures = 2

    async def fail() -> None:
        raise MarketUnreachable("refused")

    bench.connecting = lambda: fail() if len(bench.conversations) <= 1 + failures else None
    bench.say(0, top(1.0), ReconnectAsked("64008", 0))
    await bench.until(lambda: len(bench.connections) == 2)
    bench.conversations[-1].core.script.append([top(2.0, ts_event=2)])  # type: ignore[attr-defined]
    bench.connections[1].on_text(b"text")
    await bench.until(lambda: bench.all("active") == [0, 1 + failures])

    assert bench.all("down") == []
    async with asyncio.timeout(DEADLINE_S):
        while len([task for task in asyncio.all_tasks() if "Conversation.run" in repr(task)]) > 1:  # noqa: ASYNC110 - any task
            await asyncio.sleep(0)
    assert bench.connections[0].ended.done()


async def test_cancelling_during_a_handover_ends_everything(bench: Bench) -> None:
    """The fixture cancels the keeper and allows it a second."""
    bench.say(0, top(1.0), ReconnectAsked("64008", 0))
    await bench.until(lambda: len(bench.connections) == 2)
    assert not bench.connections[1].ended.done()


async def test_counts_go_on_across_handovers_and_ends(bench: Bench) -> None:
    bench.say(0, top(1.0))
    bench.say(0, ReconnectAsked("64008", 0))
    await bench.until(lambda: len(bench.connections) == 2)
    bench.conversations[1].core.asked = 3  # type: ignore[attr-defined]
    bench.conversations[1].core.quarantined = 4  # type: ignore[misc]
    bench.say(1, top(2.0, ts_event=2))
    bench.say(0, top(3.0, ts_event=3))
    assert bench.keeper.messages == 4
    await bench.until(lambda: bench.all("active") == [0, 1])
    bench.connections[1].end("connection lost")
    await bench.until(lambda: len(bench.connections) == 3)
    bench.say(2, top(4.0))

    keeper = bench.keeper
    assert (keeper.messages, keeper.resyncs, keeper.quarantined) == (5, 3, 4)


async def test_tries_go_on_for_ever_with_jittered_delays_up_to_the_ceiling(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, float, float]] = []

    def jitter(attempt: int, base_s: float, ceiling_s: float) -> float:
        asked.append((attempt, base_s, ceiling_s))
        return 0.0

    async def refuse() -> None:
        raise MarketUnreachable("HTTP 503")

    monkeypatch.setattr(module, "full_jitter", jitter)
    bench.connecting = refuse
    bench.connections[0].end("closed by the venue: 1000")
    await bench.until(lambda: len(asked) >= 40)

    assert [attempt for attempt, _, _ in asked[:40]] == list(range(40))
    assert {limits for _, *limits in map(list, asked) for limits in [tuple(limits)]} == {
        (SETTINGS.reconnect_base_s, SETTINGS.reconnect_ceiling_s)
    }
    assert set(bench.all("down")[1:]) == {"HTTP 503"}


async def test_a_conversation_that_held_earns_a_fresh_back_off(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def jitter(attempt: int, base_s: float, ceiling_s: float) -> float:
        asked.append(attempt)
        return 0.0

    monkeypatch.setattr(module, "full_jitter", jitter)
    for number in range(3):
        bench.connections[number].end("lost")
        await bench.until(lambda count=number + 2: len(bench.connections) == count)
    monkeypatch.setattr(module, "SETTLED_S", 0.0)
    bench.say(3, top(1.0))
    bench.connections[3].end("lost")
    await bench.until(lambda: len(bench.connections) == 5)

    assert asked == [0, 1, 2, 0]


async def test_pause_that_the_venue_asks_for_is_kept(bench: Bench) -> None:
    async def limit() -> None:
        raise RateLimited("GET", 0.2)

    loop = asyncio.get_running_loop()
    bench.opening = lambda: limit() if len(bench.all("open")) == 2 else None
    bench.connections[0].end("lost")
    await bench.until(lambda: len(bench.all("down")) == 2)
    started = loop.time()
    await bench.until(lambda: len(bench.connections) == 2)

    assert loop.time() - started >= 0.19
    assert bench.all("down")[1] == "GET: try again in 0.2 s"


async def test_connection_whose_book_does_not_come_back_is_given_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers pings, and no question for a snapshot any more: a market must not wait there all night."""
    monkeypatch.setattr(module, "LOST_BOOK_S", 0.05)
    bench.say(0, top(1.0))
    await asyncio.sleep(0.1)
    assert bench.all("down") == []
    bench.say(0, BookStale("X", "sequence broken", 0))
    await bench.until(lambda: bench.all("down"))

    assert bench.all("down") == ["no book in 0.05 s"]


async def test_connection_is_not_given_up_for_want_of_a_price_while_nobody_can_trade(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But when that is over, or has lasted so long that its end may have been missed."""
    monkeypatch.setattr(module, "FIRST_BOOK_S", 0.05)
    monkeypatch.setattr(module, "LOST_BOOK_S", 0.05)
    bench.conversations[0].core.suspended = True
    bench.say(0, top(1.0), BookStale("X", "suspended", 0))
    await asyncio.sleep(0.15)
    assert bench.all("down") == []
    bench.conversations[0].core.suspended = False
    await bench.until(lambda: len(bench.connections) == 2)

    monkeypatch.setattr(module, "SUSPENDED_S", 0.05)
    bench.conversations[1].core.suspended = True
    await bench.until(lambda: len(bench.all("down")) == 2)
    assert bench.all("down") == ["no book in 0.05 s"] * 2


async def test_clock_that_is_set_back_keeps_no_dead_connection_alive(bench: Bench) -> None:
    """What was last heard then seems to be of the hour to come."""
    bench.say(0, top(1.0))
    bench.conversations[0]._last_text_at += 3600 * 10**9
    bench.conversations[0].core.silence_limit_s = 0.05
    await bench.until(lambda: bench.all("down"))

    assert bench.all("down") == ["no pong"]


async def test_connection_that_brings_no_book_is_given_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_BOOK_S", 0.05)
    await bench.until(lambda: bench.all("down"))

    assert bench.all("down")[0] == "no book in 0.05 s"
