"""What the simulated BitMEX has told about one order book: level ids, rows, deltas and windows.

In: the changes of a ``flow_book`` tap. Out: rows of ``orderBookL2`` by action, and the images that
partials and the throttled windows (``_25``, ``_100``) are made of. The image holds what has been
published, not what is true: while a book is frozen the two differ, and a new subscriber sees the
image, so that image and deltas always fit together.

Written from the BitMEX fact sheet, section 3.4: ids are arbitrary and live as long as the level; a
change of size is an update, a change of price a delete and an insert; price, timestamp and
transactTime on all actions.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from dquant.simulator.bitmex_instruments import BitmexContract
from dquant.simulator.bitmex_tables import POOL, iso, java_double
from dquant.simulator.flow import FlowMarket
from dquant.simulator.flow_book import ASK, BID, LevelChange

SIDES = {BID: "Buy", ASK: "Sell"}
ACTIONS = ("delete", "update", "insert")  # this order never lets the book cross between two frames


@dataclass(slots=True)
class PublishedLevel:
    """One level as subscribers know it."""

    level_id: int
    size: int  # contracts
    transact_ns: int  # its last change


Place = tuple[int, int]  # side, tick


class PublishedBook:
    """The published image of one book; ``mint`` gives a new level its id."""

    __slots__ = ("_mint", "_ticks", "contract", "levels", "market")

    def __init__(self, contract: BitmexContract, market: FlowMarket, mint: Callable[[], int]) -> None:
        self.contract, self.market, self._mint = contract, market, mint
        self.levels: dict[Place, PublishedLevel] = {}
        self._ticks: tuple[list[int], list[int]] = ([], [])  # ascending on both sides
        self.reread()

    def reread(self) -> None:
        """Take the whole true book; levels that stay keep their ids."""
        known, self.levels = self.levels, {}
        book = self.market.book
        for side in (ASK, BID):
            for tick, (lots, _orders) in book.top(side).items():
                level = known.get((side, tick))
                level_id = level.level_id if level else self._mint()
                self.levels[side, tick] = PublishedLevel(level_id, lots * self.contract.lot, book.ts)
        self._ticks = (sorted(book.ticks(BID)), book.ticks(ASK))

    def best(self) -> tuple[int | None, int | None]:
        """Return the published best bid and best ask, in ticks."""
        bids, asks = self._ticks
        return bids[-1] if bids else None, asks[0] if asks else None

    def apply(self, changes: Iterable[LevelChange]) -> Iterator[tuple[int, dict[str, list[str]]]]:
        """Take changes; yield, for each happening that shows, its time and its rows by action."""
        for _sequence, happening in groupby(changes, attrgetter("sequence")):
            net: dict[Place, LevelChange] = {}
            for change in happening:
                place = (change.side, change.tick)
                first = net.get(place)
                net[place] = change if first is None else change._replace(lots_before=first.lots_before)
            rows: dict[str, list[str]] = {}
            ts = 0
            for place, change in net.items():
                action = self._apply_one(place, change)
                if action is not None:
                    rows.setdefault(action[0], []).append(action[1])
                    ts = change.ts
            if rows:
                yield ts, {action: rows[action] for action in ACTIONS if action in rows}

    def _apply_one(self, place: Place, change: LevelChange) -> tuple[str, str] | None:
        size = change.lots * self.contract.lot
        level = self.levels.get(place)
        if not size:
            if level is None:
                return None  # came and went within one happening
            level.transact_ns = change.ts
            text = self.row(place, level, change.ts, size=None)
            del self.levels[place]
            ticks = self._ticks[place[0]]
            del ticks[bisect_left(ticks, place[1])]
            return "delete", text
        if level is None:
            level = self.levels[place] = PublishedLevel(self._mint(), size, change.ts)
            insort(self._ticks[place[0]], place[1])
            return "insert", self.row(place, level, change.ts, size=size)
        if level.size == size:
            return None  # only the number of orders changed, which the venue does not show
        level.size, level.transact_ns = size, change.ts
        return "update", self.row(place, level, change.ts, size=size)

    def row(self, place: Place, level: PublishedLevel, ts: int, size: int | None) -> str:
        """Return the text of one row; books are most of the traffic, so it is put together by hand."""
        amount = f'"size":{size},' if size is not None else ""
        return (
            f'{{"symbol":"{self.contract.symbol}","id":{level.level_id},"side":"{SIDES[place[0]]}",{amount}'
            f'"price":{java_double(self.market.tick.number(place[1]))},"pool":"{POOL}",'
            f'"timestamp":"{iso(ts)}","transactTime":"{iso(level.transact_ns)}"}}'
        )

    def window(self, depth: int) -> dict[Place, PublishedLevel]:
        """Return the best ``depth`` published levels of each side (0: all), in the order of a partial.

        That order, sells from high to low, then buys from high to low, is the one of the recordings.
        """
        bids, asks = self._ticks
        places = [(ASK, tick) for tick in reversed(asks[: depth or None])]
        places += [(BID, tick) for tick in reversed(bids[-depth:])]
        return {place: self.levels[place] for place in places}

    def image(self, ts: int, depth: int = 0) -> list[str]:
        """Return the rows of a partial, stamped with the time of its making."""
        return [self.row(place, level, ts, level.size) for place, level in self.window(depth).items()]

    def farewell(self, ts: int) -> list[str]:
        """Return the rows that delete every published level."""
        return [self.row(place, level, ts, None) for place, level in self.window(0).items()]


class ThrottledWindow:
    """The best levels of a book, told in steps; a level that leaves the window is deleted there."""

    __slots__ = ("_shown", "_source", "depth")

    def __init__(self, source: PublishedBook, depth: int) -> None:
        self._source, self.depth = source, depth
        self._shown: dict[Place, PublishedLevel] = {}
        self._remember()

    def _remember(self) -> None:
        self._shown = {
            place: PublishedLevel(level.level_id, level.size, level.transact_ns)
            for place, level in self._source.window(self.depth).items()
        }

    def image(self, ts: int) -> list[str]:
        """Return the rows of a partial: what the last step showed."""
        return [self._source.row(place, level, ts, level.size) for place, level in self._shown.items()]

    def farewell(self, ts: int) -> list[str]:
        """Return the rows that delete what the last step showed."""
        return [self._source.row(place, level, ts, None) for place, level in self._shown.items()]

    def step(self, ts: int) -> dict[str, list[str]]:
        """Return the rows by action that lead from what was shown to the window of now."""
        before = self._shown
        self._remember()
        rows: dict[str, list[str]] = {}
        for place, level in before.items():
            now = self._shown.get(place)
            if now is None or now.level_id != level.level_id:
                rows.setdefault("delete", []).append(self._source.row(place, level, ts, None))
        for place, level in self._shown.items():
            was = before.get(place)
            if was is None or was.level_id != level.level_id:
                rows.setdefault("insert", []).append(self._source.row(place, level, ts, level.size))
            elif was.size != level.size:
                rows.setdefault("update", []).append(self._source.row(place, level, ts, level.size))
        return {action: rows[action] for action in ACTIONS if action in rows}
