"""Lines to standard output from a thread of their own, so that a reader who stops holds up nobody.

A pipe whose reader sleeps blocks ``write`` for as long as it likes; signals and markets
must not wait for it. The queue is bounded: when it is full the oldest line goes and
``dropped`` counts it.
"""

import collections
import os
import sys
import threading

MAX_LINES = 10_000
CLOSE_TIMEOUT_S = 2.0


class LineWriter:
    """Writes lines to a file descriptor, newest never lost, oldest dropped when the reader is too slow."""

    def __init__(self, fd: int | None = None) -> None:
        self.dropped = 0
        self.is_broken = False  # the reader went away
        self._fd = sys.stdout.fileno() if fd is None else fd
        self._lines: collections.deque[bytes] = collections.deque()
        self._wake = threading.Event()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="stdout", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Queue one line, its end not included; never waits."""
        if len(self._lines) >= MAX_LINES:
            self._lines.popleft()
            self.dropped += 1
        self._lines.append(line)
        self._wake.set()

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Write what waits, for at most ``timeout_s``."""
        self._is_closing = True
        self._wake.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while self._lines and not self.is_broken:
                lines: list[bytes] = []
                while self._lines and len(lines) < 500:
                    lines.append(self._lines.popleft())
                self._write(b"\n".join(lines) + b"\n")
            if self._is_closing or self.is_broken:
                return

    def _write(self, block: bytes) -> None:
        view = memoryview(block)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            self.is_broken = True
