"""The line that says how far a long replay is stands on terminals only, and never in the way."""

import os
import pty
import select
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import pytest

from dquant.tape.progress import Progress
from dquant.tape.reader import Position, read_tape

NS = 1_790_400_000 * 10**9

DEADLINE_S = 5.0

Terminal = tuple[TextIO, Callable[[str], str]]


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """Give the end of a terminal that a program writes to, and what to read from the other."""
    outer, inner = pty.openpty()

    def said_up_to(end: str) -> str:
        said = b""
        while not said.endswith(end.encode()) and select.select([outer], [], [], DEADLINE_S)[0]:
            said += os.read(outer, 65_536)
        return said.decode()

    with os.fdopen(inner, "w") as stream:
        yield stream, said_up_to
    os.close(outer)


@pytest.fixture
def position(tmp_path: Path) -> Iterator[Position]:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"tape": 1}\n' + b"x" * 100_000)
    position = Position()
    reading = read_tape(path, position)
    next(reading)
    yield position
    reading.close()


def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    now = 100.0

    def tick(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(time, "monotonic", lambda: now)
    return tick


def test_a_long_replay_says_how_far_it_is_and_clears_the_line_before_it_says_more(
    monkeypatch: pytest.MonkeyPatch, terminal: Terminal, position: Position
) -> None:
    stream, said_up_to = terminal
    tick = clock(monkeypatch)
    with open(os.devnull, "w") as out:
        monkeypatch.setattr("sys.stdout", out)
        monkeypatch.setattr("sys.stderr", stream)
        progress = Progress(position)
        progress.note(1, NS, is_waiting=True)  # a short one is done before the first line
        tick(0.3)
        for number in range(500):
            progress.note(2 + number, NS)
        assert said_up_to("UTC") == "\r\x1b[K100%  501 records  2026-09-26 05:20:00 UTC"
        progress.note(502, NS, is_waiting=True)  # too soon for another
        progress.say("first")
        progress.say("second")
        stream.flush()
        assert said_up_to("second\r\n") == "\r\x1b[Kfirst\r\nsecond\r\n"


@pytest.mark.parametrize("where", ["terminal", "pipe"])
def test_nothing_is_drawn_where_the_prices_may_be_on_the_terminal(
    monkeypatch: pytest.MonkeyPatch, terminal: Terminal, position: Position, where: str
) -> None:
    """The pipe may lead to a pager."""
    stream, said_up_to = terminal
    tick = clock(monkeypatch)
    reading, writing = os.pipe()
    with open(reading, "rb"), open(writing, "w") as out:
        monkeypatch.setattr("sys.stderr", stream)
        monkeypatch.setattr("sys.stdout", stream if where == "terminal" else out)
        progress = Progress(position)
        tick(9.0)
        progress.note(1000, NS, is_waiting=True)
        progress.say("end")
        stream.flush()
        assert said_up_to("end\r\n") == "end\r\n"
