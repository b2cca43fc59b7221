"""Plays a tape through the same protocol cores that run live, on the tape's clock.

Pure: records go in, price records come out; reading the file and keeping pace is the
caller's. A price comes each time the best price or amount of an instrument's L2 book
changes, and when its verdict does. Silence is not judged: a tape ends where it ends.

Each connection has a core of its own. Where several of a tape carry the same instrument, each
change is told once: the connection whose snapshot came last speaks, from when its book is as new as
what was told; another takes its place when its book goes stale, or has been silent for ``SILENCE_S``
while the other's moves. The exchange's time of what is told never goes back by such a change.

Units: prices in quote currency, amounts in contracts, times in ns since the Unix epoch by
the recorder's clock; ``ts_pub`` is ``ts_recv``, so that two replays give the same bytes.
"""

from collections import Counter
from collections.abc import Collection

from dquant.constants import NS_PER_S
from dquant.errors import RemoteProtocolError
from dquant.markets.bitmex._bitmex_protocol import BitmexPublicProtocol
from dquant.markets.okex._okex_protocol import OkexPublicProtocol
from dquant.model.events import LIVE, STALE, BookStale, Price, TopOfBook
from dquant.tape.reader import TapeRecord

Core = OkexPublicProtocol | BitmexPublicProtocol
CONNECTION_LOST = "connection lost"
SILENCE_S = 10
DEAD_S = 30  # after which a silent connection is not believed to be there (okx-v5 2.4)
NAMES_SHOWN = 10


class _Shown:
    """What was last said about one instrument, and which connection said it."""

    __slots__ = (
        "floor",
        "heir",
        "inst_id",
        "newest",
        "others",
        "reason",
        "seq",
        "speaker",
        "top",
        "ts_event",
    )

    def __init__(self, inst_id: str) -> None:
        self.inst_id = inst_id
        self.speaker: str | None = None  # None while stale
        self.reason = ""  # why it is stale, or was last
        self.newest: TopOfBook | None = None  # what the speaker's book shows
        self.others: dict[str, TopOfBook] = {}  # live books of connections that do not speak
        self.heir: str | None = None  # of them, the one whose snapshot came last
        self.floor = 0  # exchange time that the speaker must have reached, after another spoke
        self.seq = 0
        self.top: tuple[float | None, float, float | None, float] | None = None
        self.ts_event = 0


class Replayer:
    """Drives one core a connection from the records of a tape.

    Args:
        environment: Goes into every record, as it does live.
        inst_ids: Instruments to show; empty shows all.

    """

    def __init__(self, environment: str, inst_ids: Collection[str] = ()) -> None:
        self.frames = 0
        self.changes = 0
        self.stale_reasons: Counter[str] = Counter()
        self.unknown_venues: Counter[str] = Counter()
        self._environment = environment
        self._wanted = frozenset(inst_ids)
        self._unwanted: set[str] = set()  # what has a book too
        self._cores: dict[tuple[str, str], Core] = {}
        self._ended: dict[tuple[str, str], int] = {}  # connections that were closed, and when
        self._held: list[Price] = []  # to say with the next record
        self._shown: dict[tuple[str, str], _Shown] = {}
        self._heard: dict[tuple[str, str], int] = {}  # when the newest frame of each connection came
        self._ready_made: Counter[str] = Counter()  # tops of each instrument that the venue made
        self._quarantined_before = 0
        self._unbegun_before: Counter[str] = Counter()
        self._unread_before: Counter[str] = Counter()

    @property
    def quarantined(self) -> int:
        """Frames and rows that the cores could not read."""
        return self._quarantined_before + sum(core.quarantined for core in self._cores.values())

    def receive(self, record: TapeRecord) -> list[Price]:
        """Take one record; return the price records that it makes.

        Raises:
            RemoteProtocolError: The frame cannot be read. It is counted; the replay may go on,
                because a frame that mattered shows as a broken chain or a wrong checksum.

        """
        wire = (record.venue, record.conn)
        if record.dir == "state":
            self._ended.setdefault(wire, record.ts)
            return self.go_on(record)
        if record.dir != "in":
            return []
        said = self.go_on(record) if self._ended or self._held else []
        core = self._cores.get(wire)
        if core is None:
            made = _make_core(record.venue, record.ts)
            if made is None:
                self.unknown_venues[record.venue] += 1
                return said
            core = self._cores[wire] = made
        self.frames += 1
        self._heard[wire] = record.ts
        try:
            core.receive_text(record.text, record.ts)
        except RemoteProtocolError:
            self._quarantined_before += 1
            self._held = said
            raise
        core.texts_to_send()
        for event in core.events_received():
            price = None
            if isinstance(event, TopOfBook):
                if event.from_book:
                    price = self._top(wire, event)
                else:
                    self._ready_made[event.inst_id] += 1
            elif isinstance(event, BookStale):
                price = self._stale(wire, event.inst_id, event.reason, event.ts_recv)
            if price is not None:
                said.append(price)
        return said

    def go_on(self, record: TapeRecord) -> list[Price]:
        """Say what the connections that were closed leave behind, now that the tape goes on after them.

        Not before: with its last connections a recording ends, and no book goes stale. ``receive`` does
        this by itself; who waits before a record calls it earlier.
        """
        if record.dir != "in" and not (record.dir == "state" and record.text.startswith("open")):
            return []
        said, self._held = self._held, []
        ended, self._ended = self._ended, {}
        for wire, ts in ended.items():
            said += self._end(wire, ts)
        return said

    def remarks(self) -> list[str]:
        """Return what a whole tape has no prices of, and why, in lines for people."""
        unbegun, unread = self._unbegun_before.copy(), self._unread_before.copy()
        for core in self._cores.values():
            unbegun.update(core.unbegun)
            unread.update(core.unread)
        told = {inst_id for _, inst_id in self._shown}
        stale = [shown for shown in self._shown.values() if shown.speaker is None]
        lines = [f"{shown.inst_id} is stale to the end: {shown.reason}" for shown in stale[:NAMES_SHOWN]]
        if len(stale) > NAMES_SHOWN:
            lines.append(f"so are {len(stale) - NAMES_SHOWN} instruments more")
        lines += _no_price(unbegun, told, self._wanted, "book messages without a snapshot before them")
        told.update(unbegun)
        lines += _no_price(
            self._ready_made, told, self._wanted, "ready-made tops (bbo-tbt, books5 or quote) and no L2 book"
        )
        told.update(self._ready_made)
        lines += [
            f"no prices from {count} messages of {channel}, no L2 book" for channel, count in unread.items()
        ]
        if unseen := sorted(self._wanted - told):
            there = sorted(self._unwanted)
            names = ", ".join([*there[:NAMES_SHOWN], "…"] if len(there) > NAMES_SHOWN else there)
            lines.append(f"no book of {', '.join(unseen)} on this tape{names and f'; there is {names}'}")
        elif not (lines or told) and self.frames:
            lines.append("no L2 book on this tape")
        return lines

    def _end(self, wire: tuple[str, str], ts: int) -> list[Price]:
        """A connection is over: what it knew is not believed any more."""
        core = self._cores.pop(wire, None)
        if core is not None:
            self._quarantined_before += core.quarantined
            self._unbegun_before.update(core.unbegun)
            self._unread_before.update(core.unread)
        venue, conn = wire
        mine = [
            shown
            for (of_venue, _), shown in self._shown.items()
            if of_venue == venue and (conn == shown.speaker or conn in shown.others)
        ]
        prices = [self._stale(wire, shown.inst_id, CONNECTION_LOST, ts) for shown in mine]
        return [price for price in prices if price is not None]

    def _top(self, wire: tuple[str, str], event: TopOfBook) -> Price | None:
        venue, conn = wire
        shown = self._shown.get((venue, event.inst_id))
        if shown is None:
            if self._wanted and event.inst_id not in self._wanted:
                self._unwanted.add(event.inst_id)
                return None
            shown = self._shown[venue, event.inst_id] = _Shown(event.inst_id)
        if conn != shown.speaker:
            newest = shown.newest
            if shown.speaker is not None and newest is not None:
                if conn not in shown.others:
                    shown.heir = conn
                is_next = conn == shown.heir and event.ts_event >= newest.ts_event
                if not is_next and event.ts_recv - newest.ts_recv < SILENCE_S * NS_PER_S:
                    shown.others[conn] = event
                    return None
                shown.others[shown.speaker] = newest
                shown.floor = shown.ts_event
            shown.others.pop(conn, None)
            shown.speaker, shown.heir = conn, None
        shown.newest = event
        if event.ts_event < shown.floor:
            return None
        shown.floor = 0
        return self._say(shown, event, event.ts_recv)

    def _stale(self, wire: tuple[str, str], inst_id: str, reason: str, ts: int) -> Price | None:
        venue, conn = wire
        shown = self._shown.get((venue, inst_id))
        if shown is None:
            return None
        if conn != shown.speaker:
            shown.others.pop(conn, None)
            return None
        heard = [
            other for other in shown.others if ts - self._heard.get((venue, other), ts) < DEAD_S * NS_PER_S
        ]
        if heard:
            # The same book, by another connection.
            shown.speaker = max(heard, key=lambda other: shown.others[other].ts_event)
            shown.newest = shown.others.pop(shown.speaker)
            shown.floor = shown.ts_event
            return self._say(shown, shown.newest, ts) if shown.newest.ts_event >= shown.floor else None
        shown.speaker = shown.newest = shown.top = None
        shown.floor = 0
        shown.reason = reason
        shown.seq += 1
        self.stale_reasons[reason] += 1
        return Price(
            None,
            inst_id,
            self._environment,
            shown.seq,
            None,
            None,
            None,
            None,
            STALE,
            reason,
            shown.ts_event,
            ts,
            ts,
        )

    def _say(self, shown: _Shown, event: TopOfBook, ts_recv: int) -> Price | None:
        """Return the record of a top, if it is another one than the last."""
        top = (event.bid, event.bid_size, event.ask, event.ask_size)
        shown.ts_event = event.ts_event
        if top == shown.top:
            return None
        shown.top = top
        shown.seq += 1
        self.changes += 1
        return Price(
            None,
            event.inst_id,
            self._environment,
            shown.seq,
            event.bid,
            None if event.bid is None else event.bid_size,
            event.ask,
            None if event.ask is None else event.ask_size,
            LIVE,
            None,
            event.ts_event,
            ts_recv,
            ts_recv,
        )


def _no_price(counts: Counter[str], told: Collection[str], wanted: Collection[str], words: str) -> list[str]:
    """Return a line for each instrument not told of yet, and no more lines than can be read."""
    left = [
        (name, count)
        for name, count in counts.most_common()
        if name not in told and (not wanted or name in wanted)
    ]
    lines = [f"no price of {name}: {count} {words}" for name, count in left[:NAMES_SHOWN]]
    if len(left) > NAMES_SHOWN:
        lines.append(f"nor of {len(left) - NAMES_SHOWN} instruments more, for the same reason")
    return lines


def _make_core(venue: str, now: int) -> Core | None:
    if venue in ("okex", "okx"):  # the venue's name since 2022
        return OkexPublicProtocol(silence_s=0, now=now, is_open=True)
    if venue == "bitmex":
        return BitmexPublicProtocol(None, silence_s=0, now=now)
    return None
