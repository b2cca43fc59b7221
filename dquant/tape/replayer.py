"""Plays a tape through the same protocol cores that run live, on the tape's clock.

Pure: records go in, price records come out; reading the file and keeping pace is the
caller's. A price comes each time the best price or amount of an instrument's L2 book
changes, and when its verdict does. Silence is not judged: a tape ends where it ends.

Units: prices in quote currency, amounts in contracts, times in ns since the Unix epoch by
the recorder's clock; ``ts_pub`` is ``ts_recv``, so that two replays give the same bytes.
"""

from collections import Counter
from collections.abc import Collection

from dquant.errors import RemoteProtocolError
from dquant.markets.bitmex._bitmex_protocol import BitmexPublicProtocol
from dquant.markets.okex._okex_protocol import OkexPublicProtocol
from dquant.model.events import LIVE, STALE, BookStale, Price, TopOfBook
from dquant.tape.reader import TapeRecord

Core = OkexPublicProtocol | BitmexPublicProtocol
CONNECTION_LOST = "connection lost"


class _Shown:
    """What was last said about one instrument."""

    __slots__ = ("inst_id", "is_live", "seq", "top", "ts_event")

    def __init__(self, inst_id: str) -> None:
        self.inst_id = inst_id
        self.is_live = False
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
        self._cores: dict[tuple[str, str], Core] = {}
        self._shown: dict[tuple[str, str, str], _Shown] = {}
        self._quarantined_before = 0

    @property
    def quarantined(self) -> int:
        """Frames and rows that the cores could not read."""
        return self._quarantined_before + sum(core.quarantined for core in self._cores.values())

    def instruments(self) -> list[str]:
        """Return the instruments whose books were seen."""
        return sorted({inst_id for _, _, inst_id in self._shown})

    def receive(self, record: TapeRecord) -> list[Price]:
        """Take one record; return the price records that it makes.

        Raises:
            RemoteProtocolError: The frame cannot be read. It is counted; the replay may go on,
                because a frame that mattered shows as a broken chain or a wrong checksum.

        """
        wire = (record.venue, record.conn)
        if record.dir == "state":
            return self._end(wire, record.ts)
        if record.dir != "in":
            return []
        core = self._cores.get(wire)
        if core is None:
            made = _make_core(record.venue, record.ts)
            if made is None:
                self.unknown_venues[record.venue] += 1
                return []
            core = self._cores[wire] = made
        self.frames += 1
        try:
            core.receive_text(record.text, record.ts)
        except RemoteProtocolError:
            self._quarantined_before += 1
            raise
        core.texts_to_send()
        prices = []
        for event in core.events_received():
            if isinstance(event, TopOfBook):
                if event.from_book:
                    prices.append(self._top(wire, event))
            elif isinstance(event, BookStale):
                prices.append(self._stale(wire, event.inst_id, event.reason, event.ts_recv))
        return [price for price in prices if price is not None]

    def _end(self, wire: tuple[str, str], ts: int) -> list[Price]:
        """A connection opened or closed: what the one before it knew is not believed any more."""
        core = self._cores.pop(wire, None)
        if core is not None:
            self._quarantined_before += core.quarantined
        mine = [shown for (venue, conn, _), shown in self._shown.items() if (venue, conn) == wire]
        prices = [self._stale(wire, shown.inst_id, CONNECTION_LOST, ts) for shown in mine if shown.is_live]
        return [price for price in prices if price is not None]

    def _top(self, wire: tuple[str, str], event: TopOfBook) -> Price | None:
        if self._wanted and event.inst_id not in self._wanted:
            return None
        shown = self._shown_of(wire, event.inst_id)
        top = (event.bid, event.bid_size, event.ask, event.ask_size)
        shown.ts_event = event.ts_event
        if shown.is_live and top == shown.top:
            return None
        shown.top, shown.is_live = top, True
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
            event.ts_recv,
            event.ts_recv,
        )

    def _stale(self, wire: tuple[str, str], inst_id: str, reason: str, ts: int) -> Price | None:
        if self._wanted and inst_id not in self._wanted:
            return None
        shown = self._shown_of(wire, inst_id)
        if not shown.is_live:
            return None
        shown.is_live = False
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

    def _shown_of(self, wire: tuple[str, str], inst_id: str) -> _Shown:
        key = (*wire, inst_id)
        shown = self._shown.get(key)
        if shown is None:
            shown = self._shown[key] = _Shown(inst_id)
        return shown


def _make_core(venue: str, now: int) -> Core | None:
    if venue == "okex":
        return OkexPublicProtocol(silence_s=0, now=now, is_open=True)
    if venue == "bitmex":
        return BitmexPublicProtocol(None, silence_s=0, now=now)
    return None
