"""What waits to be published for one market, bounded, and what gives way when Redis cannot keep up.

Pure: records in (``put_*``), batches out (``take``); no socket, no clock. The order of the calls is
the order of publication: nothing is ever overtaken, so no live price can follow a newer stale one.
``take_price`` is the short way for what waits mostly: one price.

- Prices and depths are state. While Redis keeps up every one is published; past ``limit`` waiting
  records, or while there is no connection, they are conflated to the newest. Stale verdicts are
  news that must not vanish: they stay in the line (the last ``STALE_KEPT``) when others are conflated.
- Trades are events: a bounded line, the oldest go. Health: the newest few.

Each loss is counted (``conflated``, ``dropped``, ``lost``) and travels in ``Health.dropped``. ``seq``
counts per kind at sending, so that a hole in it is a record lost after it left here.

Units: ``ts_pub`` ns since the Unix epoch.
"""

from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

import msgspec

from dquant.model.events import STALE, Depth, Health, Price, TradeRecord
from dquant.pipeline.resp import Batch

PRICES_KEPT = 256
DEPTHS_KEPT = 16
TRADES_KEPT = 1024
HEALTH_KEPT = 16
STALE_KEPT = 16

State = TypeVar("State", bound=Price | Depth)
Event = TypeVar("Event", TradeRecord, Health)

_encode = msgspec.json.Encoder().encode
_replace = msgspec.structs.replace


class StateQueue(Generic[State]):
    """The waiting records of one kind of state, and the newest that was ever put."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.waiting: list[State] = []
        self.newest: State | None = None
        self.conflated = 0
        self.dropped = 0

    def put(self, record: State, *, keeps_up: bool) -> None:
        self.newest = record
        waiting = self.waiting
        waiting.append(record)
        if not keeps_up or len(waiting) > self._limit:
            self.conflate()

    def conflate(self) -> None:
        """Keep the last stale verdicts and the newest record, in order."""
        waiting = self.waiting
        if len(waiting) < 2:
            return
        stale: list[State] = [record for record in waiting[:-1] if record.verdict == STALE]
        self.conflated += len(waiting) - 1 - len(stale)
        if len(stale) > STALE_KEPT:
            self.dropped += len(stale) - STALE_KEPT
            stale = stale[-STALE_KEPT:]
        self.waiting = [*stale, waiting[-1]]

    def take(self) -> list[State]:
        waiting, self.waiting = self.waiting, []
        return waiting


class EventQueue(Generic[Event]):
    """A bounded line of which the oldest go."""

    def __init__(self, limit: int) -> None:
        self.waiting: deque[Event] = deque(maxlen=limit)
        self.dropped = 0

    def put(self, record: Event) -> None:
        if len(self.waiting) == self.waiting.maxlen:
            self.dropped += 1
        self.waiting.append(record)

    def take(self) -> list[Event]:
        waiting = list(self.waiting)
        self.waiting.clear()
        return waiting


class Outbox:
    """Everything of one market that waits for the next round trip to Redis."""

    def __init__(self) -> None:
        self.prices: StateQueue[Price] = StateQueue(PRICES_KEPT)
        self.depths: StateQueue[Depth] = StateQueue(DEPTHS_KEPT)
        self.trades: EventQueue[TradeRecord] = EventQueue(TRADES_KEPT)
        self.health: EventQueue[Health] = EventQueue(HEALTH_KEPT)
        self.lost = 0  # left here and was never acknowledged
        self._keeps_up = False
        self._seq = {"price": 0, "depth": 0, "trade": 0, "health": 0}
        self._latest: dict[str, bytes] = {}

    @property
    def prices_sent(self) -> int:
        return self._seq["price"]

    @property
    def conflated(self) -> int:
        return self.prices.conflated + self.depths.conflated

    @property
    def dropped(self) -> int:
        """Records that went without being sent, or were sent and never acknowledged."""
        return self.lost + sum(q.dropped for q in (self.prices, self.depths, self.trades, self.health))

    @property
    def waiting(self) -> int:
        return sum(len(q.waiting) for q in (self.prices, self.depths, self.trades, self.health))

    def put_price(self, price: Price) -> None:
        self.prices.put(price, keeps_up=self._keeps_up)

    def put_depth(self, depth: Depth) -> None:
        self.depths.put(depth, keeps_up=self._keeps_up)

    def receive_connected(self) -> None:
        """A connection stands: queue again the newest state, which the server may never have seen."""
        self._keeps_up = True
        if self.prices.newest is not None and not self.prices.waiting:
            self.prices.waiting.append(self.prices.newest)
        if self.depths.newest is not None and not self.depths.waiting:
            self.depths.waiting.append(self.depths.newest)

    def receive_disconnected(self, unanswered: int) -> None:
        """The connection went with ``unanswered`` records under way; they may or may not have arrived."""
        self._keeps_up = False
        self.lost += unanswered
        self.prices.conflate()
        self.depths.conflate()

    def take_price(self, ts_pub: int) -> bytes | None:
        """Number, stamp and encode the one price that waits; ``None``, and nothing taken, where more does."""
        waiting = self.prices.waiting
        if len(waiting) != 1 or self.depths.waiting or self.trades.waiting or self.health.waiting:
            return None
        self._seq["price"] = seq = self._seq["price"] + 1
        self._latest["price"] = text = _encode(_replace(waiting.pop(), seq=seq, ts_pub=ts_pub))
        return text

    def take(self, ts_pub: int) -> list[Batch]:
        """Number, stamp and encode all that waits, and empty the box."""
        batches: list[Batch] = []
        if self.prices.waiting:
            batches.append(self._batch("price", self.prices.take(), ts_pub))
        if self.depths.waiting:
            batches.append(self._batch("depth", self.depths.take(), ts_pub))
        if self.trades.waiting:
            batches.append(self._batch("trade", self.trades.take(), ts_pub))
        if self.health.waiting:
            sent = {batch.kind for batch in batches}
            # The heartbeat renews the keys of a quiet market before they expire.
            quiet = [
                Batch(kind, [], text) for kind, text in self._latest.items() if kind not in sent | {"health"}
            ]
            lost = self.conflated + self.dropped
            health = [_replace(record, dropped=record.dropped + lost) for record in self.health.take()]
            batches += [*quiet, self._batch("health", health, ts_pub)]
        return batches

    def _batch(
        self, kind: str, records: Sequence[Price | Depth | TradeRecord | Health], ts_pub: int
    ) -> Batch:
        first = self._seq[kind] + 1
        texts = [
            _encode(_replace(record, seq=seq, ts_pub=ts_pub)) for seq, record in enumerate(records, first)
        ]
        self._seq[kind] += len(texts)
        if kind == "trade":
            return Batch(kind, texts, None)
        self._latest[kind] = texts[-1]
        return Batch(kind, texts, texts[-1])
