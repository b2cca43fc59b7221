"""Deterministic streams of venue frames, with the true top of the book after each one.

In: the name of a stream and how many messages. Out: ready-made websocket frames and the
tops, kept in ``.tools/bench-streams`` because making them takes seconds. Message 0 is the
snapshot; message ``i`` carries the exchange time ``BASE_MS + i`` ms, so that any client can
say which message it has just seen. Nothing here is shared with dquant: the books are kept
by this generator's own plain code, so that a mistake in dquant's cannot hide.
"""

import json
import math
import random
import struct
import zlib
from array import array
from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

SEED = 7
VERSION = 4  # of the streams: a change here makes the cached ones be made again
BASE_MS = 1_772_323_200_000  # 2026-03-01T00:00:00Z
CACHE = Path(__file__).resolve().parent.parent / ".tools" / "bench-streams"
SNAPSHOT_EVERY = 100  # messages between the snapshots that a resubscribing client can get
TICKS = 10  # ticks a quote unit: both instruments quote in 0.1 USD

Top = tuple[float, float, float, float]  # bid, its size, ask, its size


@dataclass(frozen=True)
class Stream:
    """What one named stream is made of."""

    venue: str
    inst_id: str
    mean_changes: float
    shape: float  # of the gamma distribution of changes a message: smaller is more skewed
    levels: int  # a side
    depth: float  # mean distance of a change from the best price, in levels
    has_checksum: bool = False


STREAMS = {
    "okx7": Stream("okx", "BTC-USD-SWAP", 7.6, 2.0, 400, 25),
    "okx7crc": Stream("okx", "BTC-USD-SWAP", 7.6, 2.0, 400, 25, has_checksum=True),
    "okx24": Stream("okx", "BTC-USD-SWAP", 25.0, 1.5, 400, 60),
    "bitmex": Stream("bitmex", "XBTUSD", 2.1, 1.0, 1500, 25),
}


class Side:
    """One side of the true book: prices in ticks, sorted upwards, and what rests there."""

    def __init__(self, is_bid: bool) -> None:
        self.is_bid = is_bid
        self.ticks: list[int] = []
        self.rows: dict[int, tuple[int, int]] = {}  # tick -> size, id (BitMEX) or orders (OKX)

    def best(self) -> int:
        return self.ticks[-1] if self.is_bid else self.ticks[0]

    def at(self, depth: int) -> int:
        return self.ticks[-1 - depth] if self.is_bid else self.ticks[depth]

    def set(self, tick: int, size: int, mark: int) -> None:
        if tick not in self.rows:
            insort(self.ticks, tick)
        self.rows[tick] = (size, mark)

    def remove(self, tick: int) -> tuple[int, int]:
        del self.ticks[bisect_left(self.ticks, tick)]
        return self.rows.pop(tick)

    def best_first(self, limit: int) -> list[int]:
        return self.ticks[-1 : -1 - limit : -1] if self.is_bid else self.ticks[:limit]


class Generator:
    """A book that changes at random, and the frames that tell of it."""

    def __init__(self, name: str) -> None:
        self.stream = STREAMS[name]
        self.random = random.Random(f"{SEED}-{self.stream.venue}-{self.stream.mean_changes}")
        self.bids, self.asks = Side(is_bid=True), Side(is_bid=False)
        self.seq_id = 6_000_000_000
        self.last_id = 62_400_000_000
        mid = 84_093 * TICKS
        for side, step in ((self.bids, -1), (self.asks, 1)):
            tick = mid + (step > 0)
            for _ in range(self.stream.levels):
                side.set(tick, self._size(), self._mark())
                tick += step * (1 + min(int(self.random.expovariate(0.5)), 40))

    def _size(self) -> int:
        return max(1, int(self.random.lognormvariate(5.0, 2.0)))

    def _mark(self) -> int:
        if self.stream.venue == "okx":
            return self.random.randint(1, 30)
        self.last_id += self.random.randint(1, 500)
        return self.last_id

    def _change_count(self) -> int:
        shape = self.stream.shape
        return 1 + int(self.random.gammavariate(shape, (self.stream.mean_changes - 0.5) / shape))

    def top(self) -> Top:
        bid, ask = self.bids.best(), self.asks.best()
        return bid / TICKS, float(self.bids.rows[bid][0]), ask / TICKS, float(self.asks.rows[ask][0])

    def _change(self, kind: str, side: Side) -> tuple[int, int, int]:
        """Change one level; return its tick, its new size (0: deleted) and its mark."""
        depth = min(int(self.random.expovariate(1 / self.stream.depth)), len(side.ticks) - 1)
        tick = side.at(depth)
        if kind == "insert":
            away = -1 if side.is_bid else 1
            other = (self.asks if side.is_bid else self.bids).best()
            # One in eight goes between the best prices where there is room: the top moves inwards.
            if depth < 3 and abs(other - side.best()) > 1:
                tick = side.best()
                away = -away
            while tick in side.rows or tick == other:
                tick += away
                if tick == other:
                    tick, away = side.best(), -away
        if kind == "delete":
            return tick, 0, side.remove(tick)[1]
        mark = side.rows[tick][1] if kind == "update" else self._mark()
        side.set(tick, self._size(), mark)
        return tick, side.rows[tick][0], mark

    def _kind_for(self, side: Side, share: tuple[float, float, float]) -> str:
        surplus = len(side.ticks) - self.stream.levels
        if surplus > self.stream.levels // 20:
            return self.random.choices(("update", "delete"), (share[0], share[1] + share[2]))[0]
        if surplus < -self.stream.levels // 20:
            return self.random.choices(("update", "insert"), (share[0], share[1] + share[2]))[0]
        return self.random.choices(("update", "insert", "delete"), share)[0]

    def snapshot(self, index: int) -> str:
        """Return the frame that tells the whole book as it is after message ``index``."""
        if self.stream.venue == "bitmex":
            rows = [
                self._bitmex_row(side, tick, index) for side in (self.asks, self.bids) for tick in side.ticks
            ]
            return _json(
                {
                    "table": "orderBookL2",
                    "action": "partial",
                    "keys": ["symbol", "id", "side"],
                    "types": {
                        "symbol": "symbol",
                        "id": "long",
                        "side": "symbol",
                        "size": "long",
                        "price": "float",
                    },
                    "filter": {"symbol": self.stream.inst_id},
                    "data": rows,
                }
            )
        sides = {
            name: [self._okx_row(tick, *side.rows[tick]) for tick in side.best_first(self.stream.levels)]
            for name, side in (("asks", self.asks), ("bids", self.bids))
        }
        return self._okx_frame("snapshot", sides, -1, index)

    def update(self, index: int) -> str:
        """Change the book and return the frame of message ``index`` that tells how."""
        if self.stream.venue == "bitmex":
            return self._bitmex_update(index)
        changed: dict[str, dict[int, tuple[int, int]]] = {"asks": {}, "bids": {}}
        fresh: set[tuple[str, int]] = set()  # levels that this very message brought
        for _ in range(self._change_count()):
            name, side = self.random.choice((("asks", self.asks), ("bids", self.bids)))
            kind = self._kind_for(side, (0.6, 0.2, 0.2))
            tick, size, mark = self._change(kind, side)
            if kind == "insert" and tick not in changed[name]:
                fresh.add((name, tick))
            if size:
                changed[name][tick] = (size, mark)
            elif (name, tick) in fresh:  # came and went within this message: nobody hears of it
                fresh.remove((name, tick))
                del changed[name][tick]
            else:
                changed[name][tick] = (0, 0)
        if not changed["asks"] and not changed["bids"]:
            return self.update(index)
        before = self.seq_id
        self.seq_id += self.random.randint(1, 20)
        sides = {
            "asks": [self._okx_row(tick, *row) for tick, row in sorted(changed["asks"].items())],
            "bids": [
                self._okx_row(tick, *row) for tick, row in sorted(changed["bids"].items(), reverse=True)
            ],
        }
        return self._okx_frame("update", sides, before, index)

    @staticmethod
    def _okx_row(tick: int, size: int, orders: int) -> list[str]:
        return [_price(tick), str(size), "0", str(orders)]

    def _okx_frame(self, action: str, sides: dict[str, list[list[str]]], prev: int, index: int) -> str:
        arg = {"channel": "books", "instId": self.stream.inst_id}
        data = sides | {
            "ts": str(BASE_MS + index),
            "checksum": self.checksum() if self.stream.has_checksum else 0,
            "prevSeqId": prev,
            "seqId": self.seq_id,
        }
        return _json({"arg": arg, "action": action, "data": [data]})

    def checksum(self) -> int:
        """Return OKX's old CRC32 over the best 25 levels, bid and ask in turn."""
        parts = []
        bids, asks = self.bids.best_first(25), self.asks.best_first(25)
        for bid, ask in zip(bids, asks, strict=True):
            parts += [_price(bid), str(self.bids.rows[bid][0]), _price(ask), str(self.asks.rows[ask][0])]
        return struct.unpack("i", struct.pack("I", zlib.crc32(":".join(parts).encode())))[0]

    def _bitmex_update(self, index: int) -> str:
        wanted = self.random.choices(("update", "insert", "delete"), (0.72, 0.14, 0.14))[0]
        touched = set()
        rows = []
        for _ in range(self._change_count()):
            side = self.random.choice((self.bids, self.asks))
            tick, _, mark = self._change(wanted, side)
            if (side.is_bid, tick) in touched:
                rows = [row for row in rows if row["id"] != mark]
            touched.add((side.is_bid, tick))
            row = self._bitmex_row(side, tick, index, mark)
            if wanted == "delete":
                del row["size"]
            rows.append(row)
        return _json({"table": "orderBookL2", "action": wanted, "data": rows})

    def _bitmex_row(self, side: Side, tick: int, index: int, mark: int | None = None) -> dict[str, object]:
        size, known = side.rows.get(tick, (0, 0))
        when = datetime.fromtimestamp((BASE_MS + index) / 1000, UTC).isoformat(timespec="milliseconds")
        when = when.replace("+00:00", "Z")
        return {
            "symbol": self.stream.inst_id,
            "id": known if mark is None else mark,
            "side": "Buy" if side.is_bid else "Sell",
            "size": size,
            "price": tick // TICKS if tick % TICKS == 0 else tick / TICKS,
            "timestamp": when,
            "transactTime": when,
        }


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _price(tick: int) -> str:
    whole, part = divmod(tick, TICKS)
    return f"{whole}.{part}" if part else str(whole)


def messages(name: str, count: int) -> Iterator[tuple[str, Top, str | None]]:
    """Yield ``count`` frames with the top after each, and now and then the snapshot of that moment."""
    generator = Generator(name)
    yield generator.snapshot(0), generator.top(), None
    for index in range(1, count):
        text = generator.update(index)
        yield text, generator.top(), generator.snapshot(index) if index % SNAPSHOT_EVERY == 0 else None


def frame(text: str | bytes) -> bytes:
    """Return one unmasked, final websocket text frame."""
    payload = text.encode() if isinstance(text, str) else text
    if len(payload) < 126:
        return bytes((0x81, len(payload))) + payload
    if len(payload) < 1 << 16:
        return b"\x81\x7e" + struct.pack(">H", len(payload)) + payload
    return b"\x81\x7f" + struct.pack(">Q", len(payload)) + payload


class Recorded:
    """A stream as it lies on the disk: frames, where each begins, and the true tops."""

    def __init__(self, name: str, count: int, *, needs_snapshots: bool = False) -> None:
        kind = "snap" if needs_snapshots else "flat"
        self.folder = CACHE / f"{name}-{count}-{kind}-v{VERSION}"
        self.name, self.count = name, count
        if not (self.folder / "done").exists():
            self._make(needs_snapshots)
        self.tops = array("d")
        self._load(self.tops, "tops")

    def _load(self, numbers: "array[float] | array[int]", name: str) -> None:
        numbers.frombytes((self.folder / name).read_bytes())

    def frames(self) -> tuple[bytes, "array[int]"]:
        """Return all frames in one piece, and ``count + 1`` offsets into it."""
        offsets: array[int] = array("q")
        self._load(offsets, "offsets")
        return (self.folder / "frames").read_bytes(), offsets

    def snapshots(self) -> dict[int, bytes]:
        """Return the snapshot frames by the message after which they hold."""
        text = (self.folder / "snapshots").read_bytes()
        return {int(index): frame(body) for index, body in json.loads(text).items()}

    def top(self, index: int) -> Top:
        bid, bid_size, ask, ask_size = self.tops[4 * index : 4 * index + 4]
        return bid, bid_size, ask, ask_size

    def _make(self, needs_snapshots: bool) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        offsets, tops = array("q", [0]), array("d")
        snapshots = {}
        with (self.folder / "frames").open("wb") as out:
            for index, (text, top, snapshot) in enumerate(messages(self.name, self.count)):
                out.write(frame(text))
                offsets.append(out.tell())
                tops.extend(top)
                if needs_snapshots and snapshot is not None:
                    snapshots[index] = snapshot
        (self.folder / "offsets").write_bytes(offsets.tobytes())
        (self.folder / "tops").write_bytes(tops.tobytes())
        (self.folder / "snapshots").write_text(json.dumps(snapshots))
        (self.folder / "done").touch()


def describe(name: str, count: int = 20_000) -> str:
    """Return the mean size and what else characterises a stream, as a line for the README."""
    sizes, changes, moves, before = [], [], 0, None
    for text, top, _ in messages(name, count):
        data = json.loads(text)["data"]
        if STREAMS[name].venue == "bitmex":
            changes.append(len(data))
        else:
            changes.append(len(data[0]["asks"]) + len(data[0]["bids"]))
        sizes.append(len(text))
        moves += top != before
        before = top
    sizes, changes = sizes[1:], changes[1:]
    by_size, by_change = sorted(sizes), sorted(changes)

    def at(values: list[int], share: float) -> int:
        return values[math.floor(share * len(values))]

    return (
        f"{name}: mean {sum(sizes) / len(sizes):.0f} bytes (p10 {at(by_size, 0.1)}, p50 {at(by_size, 0.5)}, "
        f"p99 {at(by_size, 0.99)}), mean {sum(changes) / len(changes):.1f} changes "
        f"(p50 {at(by_change, 0.5)}, p99 {at(by_change, 0.99)}), top moves on {100 * moves / count:.0f} %"
    )


if __name__ == "__main__":
    for stream_name in STREAMS:
        print(describe(stream_name, 5000))
