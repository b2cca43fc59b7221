"""What the simulated OKX says about one instrument: its channels, their cadence and the book's sequence.

In: virtual time and which channels somebody listens to (``channels``). Out: ``(channel, frame text)`` pairs
in the order the venue sends them, one text for all listeners. Written from the fact sheet, section 5.

Incremental books are ``okex_chain``'s. One ``seqId`` line, the flow's own sequence, is shared by them,
bbo-tbt and trades.
"""

from collections.abc import Callable
from typing import Any

from dquant.constants import NS_PER_MS
from dquant.simulator import okex_data as data
from dquant.simulator.faults import FaultBoard
from dquant.simulator.flow import FlowMarket
from dquant.simulator.flow_book import ASK, BID, Tap
from dquant.simulator.okex_chain import CHAINS, IDLE_NS, BookChain, SequenceLine
from dquant.simulator.okex_instruments import Listing
from dquant.simulator.okex_messages import (
    BOOK_CHANNELS,
    TIER_CHANNELS,
    Levels,
    level_rows,
    push,
    small_book_push,
)

_ALL_BOOKS = BOOK_CHANNELS | TIER_CHANNELS
_BOOK_CADENCE_NS = 100 * NS_PER_MS
_BBO_CADENCE_NS = 10 * NS_PER_MS
_SMALL = {"bbo-tbt": _BBO_CADENCE_NS, "books5": _BOOK_CADENCE_NS, "tickers": _BOOK_CADENCE_NS}

Push = tuple[str, str]  # channel, text
DataOf = Callable[[Listing, FlowMarket, int], dict[str, Any]]

# Channel: (what it says, ms between pushes when changed, ms after which it repeats itself unchanged).
_PERIODIC: dict[str, tuple[DataOf, int, int]] = {
    "mark-price": (data.mark_price, 200, 10_000),
    "price-limit": (data.price_limit, 200, 10**12),
    "open-interest": (data.open_interest, 3_000, 3_000),
    "funding-rate": (data.funding_rate, 60_000, 60_000),
}


class InstrumentFeed:
    """One instrument's outgoing side.

    Args:
        listing: The instrument.
        market: Its market in the flow.
        faults: What is broken on purpose.

    """

    def __init__(self, listing: Listing, market: FlowMarket, faults: FaultBoard) -> None:
        self.listing, self.market = listing, market
        self.channels: set[str] = set()  # those with listeners
        self._faults = faults
        self._inst_id = listing.inst_id
        self._tap: Tap | None = None
        self._line = SequenceLine(market)
        self._chains: dict[str, BookChain] = {}  # those with listeners
        self._small_slot: dict[str, int] = {}
        self._small_shown: dict[str, Any] = {}
        self._small_sent_ns: dict[str, int] = {}
        self._periodic_slot: dict[str, int] = {}
        self._periodic_shown: dict[str, tuple[Any, int]] = {}

    @property
    def seq_id(self) -> int:
        """The venue's sequence number of the book as it is now."""
        return self._line.seq_id

    def is_frozen(self, real_ns: int) -> bool:
        """Return whether the book is kept silent on purpose."""
        return self._faults.holds("freeze", real_ns, self._inst_id)

    # Listeners come and go

    def listen(self, channel: str, now_ns: int) -> None:
        """Note that a channel has its first listener."""
        if channel in self.channels:
            return
        self.channels.add(channel)
        # What the first listener is about to be shown counts as said, see ``first_push``.
        if channel in CHAINS:
            chain = self._chains[channel] = BookChain(channel, self._line, self._faults)
            chain.begin(now_ns)
        elif channel in _SMALL:
            self._small_slot[channel] = now_ns // _SMALL[channel]
            self._small_sent_ns[channel] = now_ns
            self._small_shown[channel] = (
                self._ticker_facts() if channel == "tickers" else self._small_levels(channel)
            )
        elif channel in _PERIODIC:
            data_of, every_ms, _repeat_ms = _PERIODIC[channel]
            self._periodic_slot[channel] = now_ns // (every_ms * NS_PER_MS)
            row = data_of(self.listing, self.market, now_ns)
            self._periodic_shown[channel] = (_without_ts(row), now_ns)
        if channel in ("trades", "trades-all", "tickers") and self._tap is None:
            self._tap = self.market.book.tap(wants_changes=False)

    def forget(self, channel: str) -> None:
        """Note that a channel has no listener any more."""
        self.channels.discard(channel)
        self._chains.pop(channel, None)
        if self._tap is not None and not self.channels & {"trades", "trades-all", "tickers"}:
            self.market.book.close_tap(self._tap)
            self._tap = None

    def first_push(self, channel: str, now_ns: int, real_ns: int) -> str | None:
        """Return what a new listener gets at once; the trade channels begin with the next trade.

        It changes nothing: what the others were shown last stays what they are told the next change of.
        """
        if channel in self._chains:
            if self._faults.holds("no_snapshot", real_ns):
                return None
            return self._chains[channel].snapshot(real_ns)
        if channel in BOOK_CHANNELS:
            return self._small_book(channel, now_ns, *self._small_levels(channel))
        arg = {"channel": channel, "instId": self._inst_id}
        if channel == "tickers":
            return push(arg, data.ticker(self.listing, self.market, now_ns))
        periodic = _PERIODIC.get(channel)
        return None if periodic is None else push(arg, periodic[0](self.listing, self.market, now_ns))

    # Publishing

    def publish(self, now_ns: int, real_ns: int) -> list[Push]:
        """Return what is to be said up to now."""
        pushes: list[Push] = []
        if not self.channels:
            return pushes
        had_trades = self._publish_trades(pushes)
        if self.channels & _ALL_BOOKS and not self.is_frozen(real_ns):
            # The order within one connection is fixed: bbo-tbt, books-l2-tbt, books50-l2-tbt, books, books5.
            if "bbo-tbt" in self.channels:
                self._publish_small("bbo-tbt", now_ns, pushes)
            for channel in CHAINS:
                if channel in self._chains:
                    pushes.extend((channel, text) for text in self._chains[channel].publish(now_ns, real_ns))
            if "books5" in self.channels:
                self._publish_small("books5", now_ns, pushes)
        if "tickers" in self.channels:
            self._publish_ticker(now_ns, had_trades, pushes)
        for channel, (data_of, every_ms, repeat_ms) in _PERIODIC.items():
            if channel in self.channels:
                self._publish_periodic(channel, data_of, now_ns, every_ms, repeat_ms, pushes)
        return pushes

    def _publish_trades(self, pushes: list[Push]) -> bool:
        if self._tap is None:
            return False
        trades = self._tap.take_trades()
        for item in trades:
            if "trades" in self.channels:
                arg = {"channel": "trades", "instId": self._inst_id}
                row = data.trade(self.market, item, item.sequence - self._line.shift)
                pushes.append(("trades", push(arg, row)))
            if "trades-all" in self.channels:
                arg = {"channel": "trades-all", "instId": self._inst_id}
                pushes.extend(
                    ("trades-all", push(arg, fill)) for fill in data.single_fills(self.market, item)
                )
        return bool(trades)

    def _publish_small(self, channel: str, now_ns: int, pushes: list[Push]) -> None:
        slot = now_ns // _SMALL[channel]
        if slot == self._small_slot[channel]:
            return
        picture = self._small_levels(channel)
        # Unchanged for a minute: the last picture is repeated.
        idle = now_ns - self._small_sent_ns[channel] >= IDLE_NS
        if picture == self._small_shown[channel] and not idle:
            return
        self._small_slot[channel] = slot
        self._small_shown[channel] = picture
        self._small_sent_ns[channel] = now_ns
        pushes.append((channel, self._small_book(channel, now_ns, *picture)))

    def _small_levels(self, channel: str) -> tuple[Levels, Levels]:
        count = 1 if channel == "bbo-tbt" else 5
        book = self.market.book
        return book.top(BID, count), book.top(ASK, count)

    def _small_book(self, channel: str, now_ns: int, bids: Levels, asks: Levels) -> str:
        ms = now_ns // NS_PER_MS
        ts_ms = ms if channel == "books5" else self.market.book.ts // NS_PER_MS
        return small_book_push(
            channel, self._inst_id, self._rows(asks), self._rows(bids), ts_ms=ts_ms, seq_id=self.seq_id
        )

    def _publish_ticker(self, now_ns: int, had_trades: bool, pushes: list[Push]) -> None:
        shown = self._ticker_facts()
        if had_trades:
            self._small_shown["tickers"] = None  # a trade at the same price is news all the same
        slot = now_ns // _BOOK_CADENCE_NS
        if slot == self._small_slot["tickers"] or shown == self._small_shown["tickers"]:
            return
        self._small_slot["tickers"] = slot
        self._small_shown["tickers"] = shown
        arg = {"channel": "tickers", "instId": self._inst_id}
        pushes.append(("tickers", push(arg, data.ticker(self.listing, self.market, now_ns))))

    def _ticker_facts(self) -> tuple[Any, ...]:
        book = self.market.book
        bid, ask = book.best_bid, book.best_ask
        return (
            bid,
            None if bid is None else book.level(BID, bid)[0],
            ask,
            None if ask is None else book.level(ASK, ask)[0],
            self.market.day.last_tick,
        )

    def _publish_periodic(
        self, channel: str, data_of: DataOf, now_ns: int, every_ms: int, repeat_ms: int, pushes: list[Push]
    ) -> None:
        slot = now_ns // (every_ms * NS_PER_MS)
        if slot == self._periodic_slot[channel]:
            return
        self._periodic_slot[channel] = slot
        row = data_of(self.listing, self.market, now_ns)
        value = _without_ts(row)
        shown, sent_ns = self._periodic_shown[channel]
        if value == shown and now_ns - sent_ns < repeat_ms * NS_PER_MS:
            return
        self._periodic_shown[channel] = (value, now_ns)
        pushes.append((channel, push({"channel": channel, "instId": self._inst_id}, row)))

    def _rows(self, levels: Levels) -> str:
        return level_rows(levels.items(), self.market.tick, self.market.lot)


def _without_ts(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "ts"}
