"""What a monitor knows of each market after reading its records: rates, holes, lags, verdicts, silence.

Pure: records as they came (channel, bytes, our time) in, ``MarketView`` for the screen and ``Notice`` for
the log out. Bounded in markets and in memory. A record that cannot be read is counted and never an error.

Holes: ``seq`` counts per market and kind, so a jump is ``seq`` records lost. When ``seq`` goes back within
one channel, a new publisher run began, which is no loss; a record that another channel brought before is
not counted twice. When the channel of its prices was lost, a market is not live before the next price.

Units: ns since the Unix epoch, lags in ms, rates per second.
"""

import dataclasses
from collections import deque
from collections.abc import Collection

import msgspec

from dquant.constants import CHANNELS, FEED_SILENCE_S, NS_PER_MS, NS_PER_S
from dquant.model.events import STALE, Depth, Health, Price, TradeRecord

RATE_WINDOW_S = 5
# Said before the third heartbeat is due, so that with a look four times a second it is said within 3 s.
SILENT_AFTER_S = FEED_SILENCE_S - 0.4
MARKETS_KEPT = 256
NOTICES_KEPT = 64
CHANNELS_KEPT = 8  # of a market and kind; there are two, and a pattern may match what others make up
# A feed that starts again and again does not do it so often: two take turns.
TURNS, TURNS_WITHIN_S = 4, 10.0

Record = Price | Health | Depth | TradeRecord

_DECODERS: dict[str, msgspec.json.Decoder[Record]] = {
    "price": msgspec.json.Decoder(Price),
    "health": msgspec.json.Decoder(Health),
    "depth": msgspec.json.Decoder(Depth),
    "trade": msgspec.json.Decoder(TradeRecord),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Notice:
    """One line for the log: a feed fell silent, came back, or a record was bad."""

    market: str | None
    what: str


class SlidingRate:
    """Records a second over the last whole seconds; memory of one counter a second."""

    def __init__(self) -> None:
        self._counts: deque[tuple[int, int]] = deque(maxlen=RATE_WINDOW_S + 1)

    def add(self, now_ns: int) -> None:
        second = now_ns // NS_PER_S
        if self._counts and self._counts[-1][0] == second:
            self._counts[-1] = (second, self._counts[-1][1] + 1)
        else:
            self._counts.append((second, 1))

    def per_s(self, now_ns: int) -> float:
        """The mean of the window's whole seconds, or what there is of the first one."""
        second = now_ns // NS_PER_S
        if not self._counts:
            return 0.0
        first = max(self._counts[0][0], second - RATE_WINDOW_S)
        if first >= second:
            return float(self._counts[-1][1])
        return sum(count for at, count in self._counts if first <= at < second) / (second - first)


@dataclasses.dataclass(slots=True)
class _Place:
    """How far one channel has brought the records of one market and kind."""

    run: int
    seq: int = 0
    ts_pub: int = 0
    is_heard: bool = False


class SeqWatch:
    """The numbering of one market and kind, which may come by several channels.

    A channel brings each record once and in order, so that a number that goes back there is a new run,
    whatever the clock of its machine says. Another channel brings the same records, earlier or later.

    Attributes:
        runs: Publisher runs seen, the first one included.
        gaps: Holes in the numbers.
        lost: Records that are missing there.

    """

    def __init__(self) -> None:
        self.runs = self.gaps = self.lost = 0
        self._seq = self._ts_pub = self._received_ns = 0
        self._places: dict[str, _Place] = {}
        self._turns: deque[int] = deque(maxlen=TURNS)  # when new runs began, our clock

    @property
    def is_heard(self) -> bool:
        """Whether a channel that brought records is still listened to."""
        return any(place.is_heard for place in self._places.values())

    @property
    def is_mixed(self) -> bool:
        """Whether two publishers take turns, each with a numbering of its own."""
        turns = self._turns
        # Turns of the time to come are from before our clock was set back.
        return len(turns) == TURNS and 0 <= self._received_ns - turns[0] < TURNS_WITHIN_S * NS_PER_S

    def receive(self, channel: str, seq: int, ts_pub: int, now_ns: int) -> bool:
        """Take one record's number; tell whether it is a new record."""
        place = self._places.get(channel)
        if place is None:
            if len(self._places) >= CHANNELS_KEPT:
                del self._places[next(iter(self._places))]
            place = self._places[channel] = _Place(self.runs)
        elif (seq, ts_pub) == (place.seq, place.ts_pub):
            return False  # subscribed by its name and by a pattern
        goes_on = place.is_heard and seq > place.seq
        is_newer = ts_pub > self._ts_pub
        if goes_on and place.run < self.runs and not (is_newer and seq > self._seq):
            place.seq, place.ts_pub = seq, ts_pub
            return False  # the rest of a run that another channel knows to be over
        is_new_run = self.runs == 0 or (
            seq <= self._seq and not goes_on and self._is_restart(place, seq, is_newer)
        )
        self.runs += is_new_run
        place.run, place.seq, place.ts_pub, place.is_heard = self.runs, seq, ts_pub, True
        if is_new_run:
            self._turns.append(now_ns)
        elif seq <= self._seq:
            return False  # another channel was faster
        elif seq > self._seq + 1:
            self.gaps += 1
            self.lost += seq - self._seq - 1
        self._seq, self._ts_pub, self._received_ns = seq, ts_pub, now_ns
        return True

    def _is_restart(self, place: _Place, seq: int, is_newer: bool) -> bool:
        """Tell whether a number of the past is a new run's; if not, another channel brought it before."""
        if place.run == self.runs and seq <= place.seq:
            return True  # this very channel had come further
        others = [other for other in self._places.values() if other is not place]
        return is_newer or not any(other.is_heard for other in others)

    def receive_lost(self, channels: Collection[str] | None) -> None:
        """Note that channels, or all of them, are no longer listened to."""
        for channel, place in self._places.items():
            if channels is None or channel in channels:
                place.is_heard = False


class MarketView:
    """One row of the monitor."""

    def __init__(self, market: str) -> None:
        self.market = market
        self.inst_id = ""
        self.environment = ""
        self.verdict: str | None = None
        self.reason: str | None = None
        self.bid: float | None = None
        self.ask: float | None = None
        self.state: str | None = None
        self.dropped = 0
        self.records = 0
        self.lag_pub_ms: float | None = None
        self.lag_event_ms: float | None = None
        self.last_ns = 0
        self.is_silent = False
        self.is_mixed = False
        self.price_rate = SlidingRate()
        self._watches: dict[str, SeqWatch] = {}

    @property
    def gaps(self) -> int:
        return sum(watch.gaps for watch in self._watches.values())

    @property
    def lost(self) -> int:
        return sum(watch.lost for watch in self._watches.values())

    @property
    def runs(self) -> int:
        """Publisher runs seen, the first one included."""
        return max((watch.runs for watch in self._watches.values()), default=0)

    @property
    def is_live(self) -> bool:
        """Whether the prices may be shown as numbers."""
        if self.verdict is None or self.verdict == STALE:
            return False
        return not (self.is_silent or self.is_mixed or self.is_unheard)

    @property
    def is_unheard(self) -> bool:
        """Whether its prices may have changed unheard: their channels were lost, and none came since.

        Where no price ever came, the same of its health.
        """
        watch = self._watches.get("price") or self._watches.get("health")
        return watch is not None and not watch.is_heard

    def age_s(self, now_ns: int) -> float:
        """Seconds since anything came from this market."""
        return max(0, now_ns - self.last_ns) / NS_PER_S

    def receive(self, channel: str, record: Record, now_ns: int) -> bool:
        """Take one record; False, and no sign of life, for one that came before by another channel."""
        watch = self._watches.setdefault(channel.partition(":")[0], SeqWatch())
        if not watch.receive(channel, record.seq, record.ts_pub, now_ns):
            return False
        self.last_ns, self.is_silent = now_ns, False
        self.records += 1
        self.is_mixed = any(watch.is_mixed for watch in self._watches.values())
        self.inst_id, self.environment = record.inst_id, record.environment
        self.lag_pub_ms = (now_ns - record.ts_pub) / NS_PER_MS
        if not isinstance(record, Health) and record.ts_event:
            self.lag_event_ms = (now_ns - record.ts_event) / NS_PER_MS
        if isinstance(record, Price):
            self.price_rate.add(now_ns)
            self.bid, self.ask = record.bid, record.ask
            self.verdict, self.reason = record.verdict, record.reason
        elif isinstance(record, Health):
            self.state, self.dropped = record.state, record.dropped
            if self.verdict is None or record.verdict == STALE:
                self.verdict, self.reason = record.verdict, record.reason
        return True

    def receive_lost(self, channels: Collection[str] | None) -> None:
        """Note that channels, or all of them, are no longer listened to."""
        for watch in self._watches.values():
            watch.receive_lost(channels)


class MonitorModel:
    """All markets that a monitor has heard of."""

    def __init__(self, started_ns: int) -> None:
        self.markets: dict[str, MarketView] = {}
        self.records = 0
        self.bad = 0
        self.unshown = 0  # records of markets beyond MARKETS_KEPT
        self.last_ns = started_ns
        self.is_silent = False
        self._notices: deque[Notice] = deque(maxlen=NOTICES_KEPT)

    def receive(self, channel: str, text: bytes, now_ns: int) -> Record | None:
        """Take one message; return its record when it is readable and new."""
        self.last_ns = now_ns
        if self.is_silent:
            self.is_silent = False
            self._notices.append(Notice(None, "records arrive again"))
        try:
            record = _DECODERS[channel.partition(":")[0]].decode(text)
        except (KeyError, msgspec.DecodeError, UnicodeDecodeError) as exc:
            self.bad += 1
            what = f"no kind of record: {exc}" if isinstance(exc, KeyError) else str(exc)
            self._notices.append(Notice(None, f"bad record on {channel[:80]}: {what}: {text[:80]!r}"))
            return None
        name = record.market or record.inst_id
        view = self.markets.get(name)
        if view is None:
            if len(self.markets) >= MARKETS_KEPT:
                self.unshown += 1
                return record
            view = self.markets[name] = MarketView(name)
        was_silent, was_mixed = view.is_silent, view.is_mixed
        if not view.receive(channel, record, now_ns):
            return None
        if was_silent:
            self._notices.append(Notice(name, "the feed is back"))
        if view.is_mixed and not was_mixed:
            self._notices.append(
                Notice(name, "more than one feed publishes it, and their prices mix: stop one")
            )
        self.records += 1
        return record

    def receive_lost(self, channels: Collection[str]) -> None:
        """Note that channels are no longer listened to; with a pattern all are: they are on one server."""
        has_pattern = any(character in name for name in channels for character in "*?[")
        for view in self.markets.values():
            view.receive_lost(None if has_pattern else channels)

    def receive_time(self, now_ns: int) -> None:
        """Notice silence; call it a few times a second."""
        limit_ns = int(SILENT_AFTER_S * NS_PER_S)
        self.last_ns = min(self.last_ns, now_ns)  # our clock may have been set back
        for view in self.markets.values():
            view.last_ns = min(view.last_ns, now_ns)
            if not view.is_silent and now_ns - view.last_ns >= limit_ns:
                view.is_silent = True
                self._notices.append(
                    Notice(
                        view.market, f"the feed is silent: no record, no heartbeat for {SILENT_AFTER_S:g} s"
                    )
                )
        if not self.is_silent and now_ns - self.last_ns >= limit_ns:
            self.is_silent = True
            what = "nothing arrives any more" if self.markets else "nothing has arrived: is a feed running?"
            self._notices.append(
                Notice(None, f"{what} ({SILENT_AFTER_S:g} s; channels: {', '.join(CHANNELS)})")
            )

    def notices_received(self) -> list[Notice]:
        """Return the notices since the last call, and forget them."""
        notices = list(self._notices)
        self._notices.clear()
        return notices
