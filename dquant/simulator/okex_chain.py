"""An incremental book of the simulated OKX: a snapshot, and then the differences to what was shown last.

In: virtual time and the market's book. Out: frames of ``books`` (400 levels a side, 100 ms), ``books-l2-tbt``
(400, 10 ms) or ``books50-l2-tbt`` (50, 10 ms). Written from the fact sheet, section 5.2: an update names what
changed in the window, so a level that leaves it is deleted and one that enters it is sent; its
``prevSeqId`` is the ``seqId`` before it in this channel. One line of numbers is shared by all channels.
"""

from dataclasses import dataclass

from dquant.constants import NS_PER_MS, NS_PER_S
from dquant.simulator.faults import FaultBoard
from dquant.simulator.flow import FlowMarket
from dquant.simulator.flow_book import ASK, BID
from dquant.simulator.okex_messages import Levels, book_checksum, books_push, level_rows

WINDOW = 400  # levels a side of ``books``
# Channel: levels a side, time between updates.
CHAINS = {
    "books-l2-tbt": (WINDOW, 10 * NS_PER_MS),
    "books50-l2-tbt": (50, 10 * NS_PER_MS),
    "books": (WINDOW, 100 * NS_PER_MS),
}
IDLE_NS = 60 * NS_PER_S  # what does not change is repeated after so long


@dataclass(slots=True)
class SequenceLine:
    """The sequence numbers of one instrument: the flow's own, less what resets took off."""

    market: FlowMarket
    shift: int = 0

    @property
    def seq_id(self) -> int:
        """The number of the book as it is now."""
        return self.market.book.sequence - self.shift


class BookChain:
    """One channel of one instrument, the same for all its listeners.

    Args:
        channel: Of ``CHAINS``.
        line: The instrument's numbers.
        faults: What is broken on purpose.

    """

    def __init__(self, channel: str, line: SequenceLine, faults: FaultBoard) -> None:
        self._channel, self._line, self._faults = channel, line, faults
        self._market, self._inst_id = line.market, line.market.symbol
        self._window, self._cadence_ns = CHAINS[channel]
        self._shown: tuple[Levels, Levels] = ({}, {})  # bids, asks as the listeners have them
        self._shown_seq = self._shown_ms = 0
        self._revision = -1
        self._slot = self._sent_ns = 0

    def begin(self, now_ns: int) -> None:
        """Begin a chain: what the first listener is shown is the book as it is."""
        book = self._market.book
        self._shown = book.top(BID, self._window), book.top(ASK, self._window)
        self._shown_seq, self._shown_ms = self._line.seq_id, now_ns // NS_PER_MS
        self._revision = book.revision
        self._slot, self._sent_ns = now_ns // self._cadence_ns, now_ns

    def snapshot(self, real_ns: int) -> str:
        """Return what a new listener gets: what the others have."""
        bids, asks = self._shown
        tick, lot = self._market.tick, self._market.lot
        return books_push(
            self._channel,
            self._inst_id,
            "snapshot",
            level_rows(asks.items(), tick, lot),
            level_rows(bids.items(), tick, lot),
            ts_ms=self._shown_ms,
            seq_id=self._shown_seq,
            prev_seq_id=-1,
            checksum=self._checksum(real_ns),
        )

    def publish(self, now_ns: int, real_ns: int) -> list[str]:
        """Return the frames that are due."""
        slot = now_ns // self._cadence_ns
        if slot == self._slot:
            return []
        self._slot = slot
        texts = []
        # That of the slot; but where time came in a stride, its picture is newer than that.
        ts_ms = max(slot * (self._cadence_ns // NS_PER_MS), self._market.book.ts // NS_PER_MS)
        if self._faults.take("idle", self._inst_id) is not None:
            texts.append(self._idle_frame(ts_ms, real_ns))
        if self._market.book.revision == self._revision:
            if now_ns - self._sent_ns >= IDLE_NS:
                self._sent_ns = now_ns
                texts.append(self._idle_frame(ts_ms, real_ns))
            return texts
        text = self._update(ts_ms, real_ns)
        if text is None:
            return texts
        self._sent_ns = now_ns
        if self._faults.take("gap", self._inst_id) is not None:
            return texts  # the chain has moved on, the frame is lost
        if self._faults.take("unchained", self._inst_id) is not None:
            text = text[: text.index(',"prevSeqId"')] + "}]}"
        texts.append(text)
        if self._faults.take("duplicate", self._inst_id) is not None:
            texts.append(text)
        return texts

    def _update(self, ts_ms: int, real_ns: int) -> str | None:
        """Return the frame that brings the listeners up to date, or None where they are."""
        book = self._market.book
        self._revision = book.revision
        bids, asks = book.top(BID, self._window), book.top(ASK, self._window)
        if self._faults.take("one_sided", self._inst_id) is not None:
            bids, self._revision = {}, -1  # the next update brings them back
        bid_rows, ask_rows = _difference(self._shown[0], bids, True), _difference(self._shown[1], asks, False)
        if not bid_rows and not ask_rows:
            return None
        if self._faults.take("crossed", self._inst_id) is not None and book.best_ask is not None:
            # A bid above the best ask; it is taken back by the next update, like any level that went.
            tick = book.best_ask + 5
            bids = {tick: (1, 1), **bids}
            bid_rows.insert(0, (tick, (1, 1)))
            self._revision = -1
        if self._faults.take("reset", self._inst_id) is not None and self._shown_seq > 1:
            self._line.shift = book.sequence - max(1, self._shown_seq // 1000)
        previous, self._shown_seq = self._shown_seq, self._line.seq_id
        self._shown, self._shown_ms = (bids, asks), ts_ms
        tick_step, lot_step = self._market.tick, self._market.lot
        return books_push(
            self._channel,
            self._inst_id,
            "update",
            level_rows(ask_rows, tick_step, lot_step),
            level_rows(bid_rows, tick_step, lot_step),
            ts_ms=ts_ms,
            seq_id=self._shown_seq,
            prev_seq_id=previous,
            checksum=self._checksum(real_ns),
        )

    def _idle_frame(self, ts_ms: int, real_ns: int) -> str:
        seq = self._shown_seq
        return books_push(
            self._channel,
            self._inst_id,
            "update",
            "[]",
            "[]",
            ts_ms=ts_ms,
            seq_id=seq,
            prev_seq_id=seq,
            checksum=self._checksum(real_ns),
        )

    def _checksum(self, real_ns: int) -> int:
        if not self._faults.holds("checksums", real_ns):
            return 0
        return book_checksum(*self._shown, self._market.tick, self._market.lot)


def _difference(old: Levels, new: Levels, descending: bool) -> list[tuple[int, tuple[int, int]]]:
    """Return what makes ``new`` of ``old``: changed and new levels, and ``(0, 0)`` for those that went."""
    if old == new:
        return []
    rows = [*new.items() - old.items(), *((tick, (0, 0)) for tick in old.keys() - new.keys())]
    rows.sort(reverse=descending)
    return rows
