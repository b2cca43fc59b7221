"""The picture on a terminal: a real pseudo-terminal, a process of its own that is stopped and goes on."""

import concurrent.futures
import contextlib
import io
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from dquant.terminal import Picture
from dquant.util import has_screen

ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"

PROGRAM = """
import asyncio
from dquant.terminal import Picture

async def draw():
    with Picture() as picture:
        for number in range(1000):
            picture.draw(f"picture {number}")
            await asyncio.sleep(0.02)
            if number == 999 or stop.is_set() or picture.is_gone:
                break

stop = asyncio.Event()
async def main():
    import signal
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await draw()

asyncio.run(main())
"""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("term", "is_one"), [("xterm", True), ("dumb", False), ("unknown", False), (None, True)]
)
def test_a_terminal_that_cannot_redraw_gets_lines(
    term: str | None, is_one: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TERM", raising=False)
    if term is not None:
        monkeypatch.setenv("TERM", term)
    assert has_screen(Terminal()) is is_one
    assert not has_screen(io.StringIO())


class Program:
    """A program on a terminal of its own."""

    def __init__(self) -> None:
        self.master, terminal = pty.openpty()
        environment = os.environ | {"TERM": "xterm"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM], stdin=terminal, stdout=terminal, stderr=terminal, env=environment
        )
        os.close(terminal)

    def read_until(self, mark: bytes) -> bytes:
        """Return what is written up to the mark."""
        text, deadline = b"", time.monotonic() + 10
        while mark not in text:
            assert select.select([self.master], [], [], max(0.0, deadline - time.monotonic()))[0], text
            text += os.read(self.master, 4096)
        return text

    def read_to_the_end(self) -> bytes:
        """Return what is written until nobody has the terminal open any more."""
        text = b""
        with contextlib.suppress(OSError):
            while select.select([self.master], [], [], 10)[0]:
                text += os.read(self.master, 4096)
        return text

    def state(self) -> str:
        with open(f"/proc/{self.process.pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]


@pytest.fixture
def program() -> Iterator[Program]:
    program = Program()
    yield program
    program.process.kill()
    program.process.wait()
    if program.master >= 0:
        os.close(program.master)


def test_the_terminal_is_given_back_when_stopped_and_taken_again(program: Program) -> None:
    """What Ctrl-Z and ``fg`` do: the shell must not be left on the second screen, without a cursor."""
    program.read_until(b"picture")
    program.process.send_signal(signal.SIGTSTP)
    assert b"\x1b[?25h" in program.read_until(LEAVE)
    deadline = time.monotonic() + 10
    while program.state() != "T":
        assert time.monotonic() < deadline
        time.sleep(0.005)
    program.process.send_signal(signal.SIGCONT)
    program.read_until(ENTER)
    program.read_until(b"picture")


def test_the_last_picture_stays_after_the_end(program: Program) -> None:
    program.read_until(b"picture")
    program.process.terminate()
    _, _, after = program.read_to_the_end().partition(LEAVE)
    assert program.process.wait(10) == 0
    assert after.split()[0] == b"picture"


async def test_a_terminal_that_is_slow_is_not_gone() -> None:
    """Whoever shares it may have made it non-blocking, so that a picture does not fit at once."""
    master, terminal = pty.openpty()
    with concurrent.futures.ThreadPoolExecutor() as threads:
        with os.fdopen(terminal, "w") as stream, Picture(stream) as picture:
            os.set_blocking(terminal, False)
            reading = threads.submit(_read_slowly, master)
            for number in range(60):
                picture.draw(f"n{number} " + "picture " * 200)
        text = reading.result(10)
    os.close(master)
    assert not picture.is_gone
    assert text.count(LEAVE) == 1
    assert b"n59 picture" in text


def _read_slowly(master: int) -> bytes:
    time.sleep(0.2)
    text = b""
    with contextlib.suppress(OSError):  # nobody has the terminal open any more
        while block := os.read(master, 65536):
            text += block
    return text


def test_a_terminal_that_goes_away_is_no_error(program: Program) -> None:
    """Its window was closed: what is drawn meets an error of input and output then, and so does the end."""
    program.read_until(b"picture")
    os.close(program.master)
    program.master = -1
    assert program.process.wait(10) == 0
