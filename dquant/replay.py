"""The verb ``replay``: a tape in, price lines and a summary out, ended by signals wherever it waits.

It runs no loop: it reads, writes and sleeps in the main thread.
"""

import contextlib
import signal
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from dquant.constants import EXIT_DONE, NS_PER_S
from dquant.errors import RemoteProtocolError
from dquant.model.events import Price
from dquant.output import BlockWriter
from dquant.strategy.text import json_line, plain_line
from dquant.tape.progress import Progress
from dquant.tape.reader import BadRecord, Position, read_tape
from dquant.tape.replayer import Replayer
from dquant.util import one_line, stop_signals

REPLAYED = "REPLAYED"
LONGEST_SLEEP_S = 1e6  # what every clock can count


def replay(options: Namespace, environment: str, inst_ids: Sequence[str]) -> int:
    """Print the prices of ``options.tape`` and return the exit code.

    Args:
        options: Of the command line: ``tape``, ``speed``, ``json``, ``count`` and ``duration``.
        environment: Goes into every record.
        inst_ids: Instruments to show; none shows all.

    Raises:
        ConfigError: There is no such file.
        TapeError: The file cannot be read, or is no tape.
        BrokenPipeError: Who read standard output went away.
        DquantError: Nothing can be written there.

    """
    path = Path(options.tape)
    replayer = Replayer(environment, inst_ids)
    count: int | None = options.count
    records = bad_lines = shown = 0
    is_whole = False
    started, first_ts = time.monotonic(), None
    position = Position()
    progress = Progress(position)
    out = BlockWriter()

    def show(prices: list[Price]) -> bool:
        """Write prices, no more than ``--count`` in all; tell whether that was the last one."""
        nonlocal shown
        for price in prices:
            if shown == count:
                break
            out.write(json_line(price) if options.json else plain_line(price, REPLAYED).encode())
            shown += 1
        return shown == count

    with _stop_signals(options.duration):
        try:
            for item in read_tape(path, position):
                if isinstance(item, BadRecord):
                    bad_lines += 1
                    progress.say(f"{path}:{item.line}: {one_line(item.what)}")
                    continue
                line, record = item
                records += 1
                progress.note(records, record.ts, is_waiting=options.speed is not None)
                if options.speed is not None:
                    if show(replayer.go_on(record)):
                        break
                    out.flush()
                    first_ts = record.ts if first_ts is None else first_ts
                    _sleep_until(started + (record.ts - first_ts) / NS_PER_S / options.speed)
                try:
                    prices = replayer.receive(record)
                except RemoteProtocolError as exc:
                    progress.say(f"{path}:{line}: quarantined: {one_line(str(exc))}")
                    continue
                if prices and show(prices):
                    break
            else:
                is_whole = True
            out.flush()
        except _Stopped:
            out.close()
    progress.say(
        _summary(
            path, replayer.frames, replayer.changes, replayer.stale_reasons, replayer.quarantined, bad_lines
        )
    )
    if is_whole:
        for remark in replayer.remarks():
            progress.say(f"{path}: {one_line(remark)}")
    for venue, frames in replayer.unknown_venues.items():
        progress.say(f"{path}: {frames} frames of {venue!r}, a venue that this program cannot read")
    return EXIT_DONE


class _Stopped(BaseException):
    """A signal asked for the end; no ``except Exception`` takes it."""


def _stop_by_signal(number: int, frame: FrameType | None) -> None:
    for each in _signals_that_stop():
        signal.signal(each, signal.SIG_IGN)  # it is ending already
    raise _Stopped


def _signals_that_stop() -> tuple[signal.Signals, ...]:
    return (*stop_signals(), signal.SIGALRM)


@contextlib.contextmanager
def _stop_signals(duration_s: float | None) -> Iterator[None]:
    """Let signals, and the end of ``--duration``, raise ``_Stopped`` wherever the body waits."""
    before = {number: signal.signal(number, _stop_by_signal) for number in _signals_that_stop()}
    if duration_s is not None:
        signal.setitimer(signal.ITIMER_REAL, max(1e-6, min(duration_s, LONGEST_SLEEP_S)))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def _sleep_until(due: float) -> None:
    while (wait_s := due - time.monotonic()) > 0:
        time.sleep(min(wait_s, LONGEST_SLEEP_S))


def _summary(
    path: Path, frames: int, changes: int, stale: Counter[str], quarantined: int, bad_lines: int
) -> str:
    reasons = "".join(f", {count} {reason}" for reason, count in stale.most_common())
    return (
        f"{path}: {frames} frames, {changes} changes, {sum(stale.values())} stale periods{reasons}, "
        f"{quarantined} quarantined frames, {bad_lines} bad lines"
    )
