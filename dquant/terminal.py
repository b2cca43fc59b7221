"""A picture on a terminal, drawn anew in its place a few times a second.

It has the terminal's second screen for itself, so that neither a resize nor a key that somebody types leaves
a trace in it. The terminal is given back as it was, on Ctrl-Z too, and the last picture stays after the end.

rich costs 20 MB and 100 ms, and is imported only where there is a terminal to draw on.
"""

import asyncio
import contextlib
import errno
import io
import os
import signal
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self, TextIO

if TYPE_CHECKING:
    from rich.console import RenderableType

REFRESH_S = 0.25  # at most four times a second, which an eye can follow


class Picture:
    """Enter it in a running loop; ``draw`` shows what is new.

    Args:
        stream: The terminal; standard output by default.

    """

    def __init__(self, stream: TextIO | None = None) -> None:
        from rich.console import Console
        from rich.live import Live

        self.is_gone = False  # the terminal: nobody sees what is drawn from here on
        self._console = Console(file=stream or sys.stdout)
        self._fd = _descriptor_of(self._console.file)
        self._live = Live(console=self._console, screen=True, auto_refresh=False)
        self._newest: RenderableType | None = None

    @property
    def width(self) -> int:
        """Columns of the terminal as it is now."""
        return self._console.width

    @property
    def height(self) -> int:
        """Lines of the terminal as it is now."""
        return self._console.height

    def draw(self, newest: "RenderableType") -> None:
        """Show this in place of what is there."""
        self._newest = newest
        with self._while_there():
            self._live.update(newest, refresh=True)
            if not self._console.file.isatty():  # rich draws nothing then, and says nothing
                raise OSError(errno.EIO, "the terminal is gone")

    def __enter__(self) -> Self:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTSTP, self._suspend)
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTSTP)
        with self._while_there():
            self._live.stop()
        if self._newest is not None:
            with self._while_there():
                self._console.print(self._newest)

    @contextlib.contextmanager
    def _while_there(self) -> Iterator[None]:
        """Take it for no error when the terminal is gone, and write to nowhere then."""
        try:
            # Whoever shares the terminal may have made it non-blocking: one that is slow is not gone.
            if self._fd is not None:
                os.set_blocking(self._fd, True)
            yield
        except OSError:
            self.is_gone = True
            if self._fd is not None:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._fd)  # what is left is written at the end, too
                os.close(nowhere)

    def _suspend(self) -> None:
        with self._while_there():
            self._live.stop()
        os.kill(os.getpid(), signal.SIGSTOP)  # goes on from here after `fg`
        with self._while_there():
            self._live.start(refresh=True)


def _descriptor_of(stream: IO[str]) -> int | None:
    """Return the descriptor under a stream; a stream in memory has none."""
    try:
        return stream.fileno()
    except io.UnsupportedOperation:
        return None
