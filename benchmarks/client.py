"""One client under test in a process of its own: runs a contender, prints what it measured.

In: ``--contender module:variant`` and what the server sends. Out: one JSON object on standard
output: CPU µs a message from the 10 % mark to the last message, latency percentiles where the
server wrote down its sending times, resident memory, wrong tops, lost updates.
"""

import argparse
import importlib
import json
import mmap
import os
import sys
import threading
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.cores import pin
from benchmarks.streams import BASE_MS, STREAMS, Recorded

CHECK_MASK = 31  # tops of every 32nd message are compared, unless all are asked for
GIVE_UP_S = 6.0  # without a message
START_S = 25.0
CALIBRATION_PIECES = 15
LINGER_S = 1.0  # lets what was published last reach Redis

Tick = Callable[[int, float | None, float | None], None]


def calibrate() -> float:
    """Return the ms that a fixed piece of pure Python takes: how fast this machine is just now.

    The mean of many: the fastest of a few says how fast the machine can be, and scaling by that
    spread the CPU times of one client by 25 % where this spreads them by 21 %.
    """
    spent = 0
    for _ in range(CALIBRATION_PIECES):
        started = time.process_time_ns()
        numbers: dict[int, int] = {}
        for at in range(40_000):
            numbers[at & 255] = numbers.get(at & 127, 0) + (at ^ 3)
        spent += time.process_time_ns() - started
    return spent / CALIBRATION_PIECES / 1e6


class Session:
    """What a contender is told, and where it reports each top of book."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.port: int = options.port
        self.stream_name: str = options.stream
        self.stream = STREAMS[options.stream]
        self.count: int = options.count
        self.options = options
        self.is_checked = True
        self.stale = 0  # times the contender said that its book cannot be believed
        self.extra: dict[str, Any] = {}
        self._arrived = array("q", bytes(8 * self.count))
        self._tops: list[tuple[int, float | None, float | None]] = []
        self._times: dict[str, tuple[int, int]] = {}
        self._calibration = calibrate()
        self._done = threading.Lock()
        self.tick: Tick = self._make_tick(0 if options.check_all else CHECK_MASK)

    def index(self, ts_ms: float) -> int:
        """Return the number of the message that carries this exchange time."""
        return round(ts_ms) - BASE_MS

    def _make_tick(self, mask: int) -> Tick:
        arrived, tops, clock, times = self._arrived, self._tops, time.monotonic_ns, self._times
        mark, last = self.count // 10, self.count - 1
        stop = mark

        def tick(index: int, bid: float | None, ask: float | None) -> None:
            nonlocal stop
            arrived[index] = clock()
            if not index & mask:
                tops.append((index, bid, ask))
            if index >= stop:
                if not times:
                    times["mark"] = (time.process_time_ns(), clock())
                    self.marked = index
                    stop = last
                if index >= last:
                    times["end"] = (time.process_time_ns(), clock())
                    stop = self.count + 1
                    threading.Thread(target=self.finish).start()

        return tick

    def watch(self) -> None:
        """Give up when nothing arrives any more, so that no run hangs."""
        started = time.monotonic()
        seen = 0
        quiet_since = started
        while True:
            time.sleep(1.0)
            now_seen = len(self._tops)
            if now_seen != seen:
                seen, quiet_since = now_seen, time.monotonic()
            limit = GIVE_UP_S if seen else START_S
            if time.monotonic() - quiet_since > limit:
                self._times.setdefault("mark", (time.process_time_ns(), time.monotonic_ns()))
                self._times.setdefault("end", (time.process_time_ns(), time.monotonic_ns()))
                self.finish(is_whole=False)

    def finish(self, *, is_whole: bool = True) -> None:
        """Print the result and leave at once: nobody here waits for a client's own shutdown."""
        if not self._done.acquire(blocking=False):
            return
        if self.options.redis_port:
            time.sleep(LINGER_S)
        (cpu0, wall0), (cpu1, wall1) = self._times["mark"], self._times["end"]
        messages = max(1, self.count - 1 - getattr(self, "marked", self.count // 10))
        result = {
            "whole": is_whole,
            "cpu_us": (cpu1 - cpu0) / 1e3 / messages,
            "rate": messages * 1e9 / max(1, wall1 - wall0),
            "rss_kib": resident_kib(),
            "seen": sum(1 for at in self._arrived if at),
            "lost": sum(1 for at in self._arrived[1:] if not at),
            "wrong": self._count_wrong() if self.is_checked else 0,
            "checked": len(self._tops) if self.is_checked else 0,
            "stale": self.stale,
            "calibration_ms": (self._calibration + calibrate()) / 2,
        }
        if self.options.sent:
            result |= self._latencies()
        print(json.dumps(result | self.extra), flush=True)
        os._exit(0)

    def _count_wrong(self) -> int:
        recorded = Recorded(self.stream_name, self.count, needs_snapshots=self.options.snapshots)
        wrong = 0
        for index, bid, ask in self._tops:
            true_bid, _, true_ask, _ = recorded.top(index)
            # Some clients build floats by arithmetic; anything below a hundredth of a tick is that.
            wrong += bid is None or ask is None or abs(bid - true_bid) > 1e-3 or abs(ask - true_ask) > 1e-3
        return wrong

    def _latencies(self) -> dict[str, float]:
        with Path(self.options.sent).open("rb") as shared:
            sent = memoryview(mmap.mmap(shared.fileno(), 0, access=mmap.ACCESS_READ)).cast("q")
        late = sorted(
            self._arrived[index] - sent[index]
            for index in range(self.count // 10, self.count)
            if self._arrived[index] and sent[index]
        )
        if not late:
            return {}
        return {f"p{share:g}_us": late[int(len(late) * share / 100)] / 1e3 for share in (50, 90, 99)}


def resident_kib() -> int:
    """Return the resident memory of this process, 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contender", required=True, help="module:variant of benchmarks.contenders")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--stream", choices=STREAMS, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--sent", help="where the server writes its sending times")
    parser.add_argument("--check-all", action="store_true", help="compare the top after every message")
    parser.add_argument("--snapshots", action="store_true", help="the server's stream has snapshots")
    parser.add_argument("--unpinned", action="store_true", help="use every core, for clients of busy threads")
    parser.add_argument("--redis-port", type=int, default=0)
    options = parser.parse_args()
    if not options.unpinned:
        pin(1)
    module, _, variant = options.contender.partition(":")
    contender = importlib.import_module(f"benchmarks.contenders.{module}")
    session = Session(options)
    threading.Thread(target=session.watch, daemon=True).start()
    contender.run(session, variant)
    sys.exit(f"{options.contender} returned before the stream ended")


if __name__ == "__main__":
    main()
