"""Lines to standard output that hold up nobody when the reader of a pipe stops reading.

A pipe whose reader sleeps blocks ``write`` for as long as it likes; signals and markets
must not wait for it. ``LineWriter`` is for what happens now: a thread of its own, and a bounded
queue from which the oldest line goes when it is full; ``dropped`` counts it. ``BlockWriter``
is for what can wait: it keeps every line and makes its caller wait, until a signal ends that.
"""

import collections
import contextlib
import errno
import logging
import os
import select
import stat
import sys
import threading
import time

from dquant.errors import DquantError
from dquant.util import has_reader, is_pipe

logger = logging.getLogger(__name__)

MAX_LINES = 10_000
LINES_AT_ONCE = 500
CLOSE_TIMEOUT_S = 2.0

BLOCK_BYTES = 65_536
PIPE_BYTES = 4096  # a pipe that is ready takes so many without blocking (PIPE_BUF)


def _no_reader_errors(fd: int) -> frozenset[int]:
    """Return the errors by which a descriptor says that nobody is there to read: of a closed window, EIO."""
    return frozenset({errno.EPIPE, errno.EIO} if os.isatty(fd) else {errno.EPIPE})


class LineWriter:
    """Writes lines to a file descriptor, newest never lost, oldest dropped when the reader is too slow.

    Attributes:
        dropped: Lines that were never written.
        is_pipe: Whether a program reads it, rather than a file or a service's log.
        is_broken: The reader went away, or nothing more can be written.
        error: Why nothing can be written, where it is not that the reader went away.

    """

    def __init__(self, fd: int | None = None) -> None:
        self.dropped = 0
        self.is_broken = False
        self.error: str | None = None
        self._fd = sys.stdout.fileno() if fd is None else fd
        self.is_pipe = is_pipe(self._fd)
        self._no_reader = _no_reader_errors(self._fd)
        self._lines: collections.deque[bytes] = collections.deque()
        self._wake = threading.Event()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="stdout", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Queue one line, its end not included; never waits."""
        if self.is_broken:
            return
        if len(self._lines) >= MAX_LINES:
            with contextlib.suppress(IndexError):  # the thread was faster
                self._lines.popleft()
                self.dropped += 1
        self._lines.append(line)
        self._wake.set()

    def look(self) -> bool:
        """Tell whether there is still somebody to write for; notices a reader that left between two lines."""
        self.is_broken = self.is_broken or not has_reader(self._fd)
        return not self.is_broken

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Write what waits, for at most ``timeout_s``; what is left then counts as dropped."""
        self._is_closing = True
        self._wake.set()
        self._thread.join(timeout_s)
        if not self.is_broken:
            self.dropped += len(self._lines)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while self._lines and not self.is_broken:
                lines: list[bytes] = []
                while self._lines and len(lines) < LINES_AT_ONCE:
                    with contextlib.suppress(IndexError):  # dropped since the look
                        lines.append(self._lines.popleft())
                self._write(b"\n".join(lines) + b"\n")
            if self._is_closing or self.is_broken:
                return

    def _write(self, block: bytes) -> None:
        view = memoryview(block)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                # Whoever shares the descriptor made it non-blocking.
                select.select([], [self._fd], [])
            except OSError as exc:
                if exc.errno not in self._no_reader:
                    self.error = f"standard output cannot be written: {exc.strerror}"
                    logger.error("%s", self.error)
                self.is_broken = True
                return


class BlockWriter:
    """Writes lines to a file descriptor in blocks, all of them and in order, from one thread.

    An exception that a signal handler raises may end a wait; ``close`` then writes what can still
    be written in its time, and never a line twice.

    Raises:
        BrokenPipeError: From any method: the reader went away.
        DquantError: From any method: nothing can be written there, for example on a full disk.

    """

    def __init__(self, fd: int | None = None) -> None:
        self._fd = sys.stdout.fileno() if fd is None else fd
        self._waiting = bytearray()
        self._is_in_doubt = False  # a write was broken off: how much went out is not known
        self._no_reader = _no_reader_errors(self._fd)
        is_file = stat.S_ISREG(os.fstat(self._fd).st_mode)
        self._step = BLOCK_BYTES if is_file else PIPE_BYTES

    def write(self, line: bytes) -> None:
        """Add one line, its end not included; waits for the reader when a block is full."""
        self._waiting += line
        self._waiting += b"\n"
        if len(self._waiting) >= BLOCK_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what waits, however long the reader takes."""
        while self._waiting:
            self._write_step(None)

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Write what waits, for at most ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        while self._waiting and not self._is_in_doubt:
            if not self._write_step(max(0.0, deadline - time.monotonic())):
                return

    def _write_step(self, timeout_s: float | None) -> bool:
        if not select.select([], [self._fd], [], timeout_s)[1]:
            return False
        self._is_in_doubt = True
        try:
            del self._waiting[: os.write(self._fd, self._waiting[: self._step])]
        except BlockingIOError:
            pass  # somebody else who writes there was faster
        except OSError as exc:
            if exc.errno in self._no_reader:
                raise BrokenPipeError(errno.EPIPE, "nobody reads standard output any more") from exc
            raise DquantError(f"standard output cannot be written: {exc.strerror}") from exc
        self._is_in_doubt = False
        return True
