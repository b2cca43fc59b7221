"""Output never holds up who writes: a reader that stops costs lines, counted, and no time."""

import collections
import fcntl
import logging
import os
import pty
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dquant.errors import DquantError
from dquant.output import BLOCK_BYTES, MAX_LINES, BlockWriter, LineWriter

DEADLINE_S = 10.0
# A pipe of Linux takes 64 KiB; lines of 1000 bytes fill it and what the thread holds soon.
LINE = b"x" * 999


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Return the reading and the writing end; what is still open is closed after the test."""
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue  # the test did it


def read_all(fd: int) -> bytes:
    """Read until the writing end is closed."""
    parts = []
    while part := os.read(fd, 65536):
        parts.append(part)
    return b"".join(parts)


def wait_until(condition: object, what: str) -> None:
    assert callable(condition)
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.002)


# --- LineWriter ---------------------------------------------------------------------------------------


def test_a_reader_that_leaves_between_two_lines_is_noticed(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    writer = LineWriter(writing)
    assert writer.look()
    os.close(reading)
    assert not writer.look()
    assert (writer.is_broken, writer.error) == (True, None)
    writer.close()


def test_what_cannot_be_written_is_kept_for_the_exit_code(caplog: pytest.LogCaptureFixture) -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    writer = LineWriter(fd)
    writer.write(b"line")
    writer.close()
    os.close(fd)
    assert writer.error == "standard output cannot be written: No space left on device"
    assert not writer.look()
    caplog.clear()


def test_lines_come_out_in_order_and_whole(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(read_all(reading)))
    reader.start()
    writer = LineWriter(writing)
    lines = [b"%d" % number for number in range(5000)]
    for line in lines:
        writer.write(line)
    writer.close(DEADLINE_S)
    os.close(writing)
    reader.join(DEADLINE_S)
    assert got[0].splitlines() == lines
    assert got[0].endswith(b"\n")
    assert writer.dropped == 0


def test_a_reader_that_stops_costs_the_oldest_lines_and_no_time(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    writer = LineWriter(writing)
    total = MAX_LINES + 3000
    started = time.monotonic()
    for number in range(total):
        writer.write(b"%06d" % number + LINE)
    assert time.monotonic() - started < 2.0
    assert writer.dropped > 1000
    dropped = writer.dropped
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(read_all(reading)))
    reader.start()
    writer.close(DEADLINE_S)
    os.close(writing)
    reader.join(DEADLINE_S)
    numbers = [int(line[:6]) for line in got[0].splitlines()]
    assert numbers == sorted(numbers)
    assert numbers[-1] == total - 1
    assert len(numbers) == total - dropped
    assert writer.dropped == dropped
    assert not writer.is_broken


def test_closing_waits_only_as_long_as_it_may_and_counts_what_is_left(pipe: tuple[int, int]) -> None:
    _, writing = pipe
    writer = LineWriter(writing)
    for _ in range(2000):
        writer.write(LINE)
    started = time.monotonic()
    writer.close(0.1)
    assert time.monotonic() - started < 2.0
    assert writer.dropped >= 1000
    os.close(pipe[0])  # lets the thread go
    writer._thread.join(DEADLINE_S)
    assert not writer._thread.is_alive()


def test_a_reader_that_went_away_is_noticed(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    writer = LineWriter(writing)
    os.close(reading)
    writer.write(b"x")
    wait_until(lambda: writer.is_broken, "nobody noticed")
    for _ in range(MAX_LINES + 10):
        writer.write(b"x")
    assert writer.dropped == 0  # nobody is there to miss them
    started = time.monotonic()
    writer.close()
    assert time.monotonic() - started < 1.0


def test_a_window_that_was_closed_is_a_reader_that_went_away() -> None:
    master, terminal = pty.openpty()
    lines, blocks = LineWriter(terminal), BlockWriter(terminal)
    os.close(master)
    lines.write(b"unread")
    blocks.write(b"unread")
    lines.close()
    with pytest.raises(BrokenPipeError):
        blocks.flush()
    os.close(terminal)
    assert (lines.is_broken, lines.error) == (True, None)


def test_a_full_disk_is_said_once_and_ends_the_writing(caplog: pytest.LogCaptureFixture) -> None:
    with open("/dev/full", "wb", buffering=0) as full, caplog.at_level(logging.ERROR, "dquant"):
        writer = LineWriter(full.fileno())
        writer.write(b"x")
        wait_until(lambda: writer.is_broken, "nobody noticed")
        writer.close()
    assert [record.getMessage() for record in caplog.records] == [
        "standard output cannot be written: No space left on device"
    ]


def test_a_descriptor_that_somebody_made_non_blocking_loses_nothing(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    fcntl.fcntl(writing, fcntl.F_SETFL, fcntl.fcntl(writing, fcntl.F_GETFL) | os.O_NONBLOCK)
    writer = LineWriter(writing)
    for number in range(1000):
        writer.write(b"%06d" % number + LINE)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(read_all(reading)))
    reader.start()
    writer.close(DEADLINE_S)
    os.close(writing)
    reader.join(DEADLINE_S)
    assert len(got[0].splitlines()) == 1000
    assert not writer.is_broken


# --- BlockWriter --------------------------------------------------------------------------------------


class Stop(Exception):
    pass


def test_blocks_hold_every_line_in_order(tmp_path: Path) -> None:
    path = tmp_path / "out"
    lines = [b"%d" % number for number in range(30_000)]
    with path.open("wb") as file:
        writer = BlockWriter(file.fileno())
        for line in lines:
            writer.write(line)
        writer.flush()
    assert path.read_bytes().splitlines() == lines


def test_a_slow_reader_gets_every_line(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(read_all(reading)))
    writer = BlockWriter(writing)
    threading.Timer(0.05, reader.start).start()
    for number in range(300):
        writer.write(b"%06d" % number + LINE)
    writer.flush()
    os.close(writing)
    reader.join(DEADLINE_S)
    assert [int(line[:6]) for line in got[0].splitlines()] == list(range(300))


def test_a_signal_ends_the_wait_for_a_reader_and_no_line_comes_twice(pipe: tuple[int, int]) -> None:
    reading, writing = pipe

    def stop(number: int, stack: object) -> None:
        raise Stop

    before = signal.signal(signal.SIGALRM, stop)
    writer = BlockWriter(writing)
    lines = [b"%06d" % number + LINE for number in range(1000)]
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(Stop):
            collections.deque(map(writer.write, lines), maxlen=0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    started = time.monotonic()
    writer.close(0.1)
    assert time.monotonic() - started < 2.0
    os.close(writing)
    whole = read_all(reading).split(b"\n")[:-1]
    assert [int(line[:6]) for line in whole] == list(range(len(whole)))
    assert len(whole) > 10


def test_what_waits_is_written_at_the_end(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    writer = BlockWriter(writing)
    writer.write(b"x" * (BLOCK_BYTES // 8))
    writer.close()
    os.close(writing)
    assert read_all(reading) == b"x" * (BLOCK_BYTES // 8) + b"\n"


def test_a_block_for_a_reader_that_went_away_is_a_broken_pipe(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.close(reading)
    writer = BlockWriter(writing)
    writer.write(b"x")
    with pytest.raises(BrokenPipeError):
        writer.flush()
    writer.close()  # not again


def test_a_full_disk_is_an_error_of_one_line() -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        writer = BlockWriter(full.fileno())
        writer.write(b"x")
        with pytest.raises(DquantError, match="standard output cannot be written: No space left on device"):
            writer.flush()
