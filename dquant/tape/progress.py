"""A line on a terminal that says how far a long replay has come.

It stands in the last line of standard error, is drawn again at most ``PER_S`` times a second, and goes
away before anything else is written there. Nothing is drawn where standard error is no terminal, nor
where the prices themselves may be on it: standard output is a terminal, or a pipe to who knows what.
"""

import os
import stat
import sys
import time
from datetime import UTC, datetime

from dquant.constants import NS_PER_S
from dquant.tape.reader import Position

PER_S = 4.0
RECORDS_BETWEEN_LOOKS = 500  # a look at the clock for each record would cost more than the line
CLEAR_LINE = "\r\x1b[K"


class Progress:
    """Draws the line, and writes what must not run into it."""

    def __init__(self, position: Position) -> None:
        self._position = position
        self._is_shown = sys.stderr.isatty() and _is_out_of_sight(sys.stdout.fileno())
        self._is_drawn = False
        self._drawn_at = time.monotonic()  # a short tape is done before the first line
        self._left = RECORDS_BETWEEN_LOOKS

    def note(self, records: int, ts: int, *, is_waiting: bool = False) -> None:
        """Take how many records were read and the time of the newest, ns since the Unix epoch."""
        if not self._is_shown:
            return
        self._left -= 1
        if self._left > 0 and not is_waiting:
            return
        self._left = RECORDS_BETWEEN_LOOKS
        now = time.monotonic()
        if now - self._drawn_at < 1 / PER_S:
            return
        self._drawn_at, self._is_drawn = now, True
        share = self._position.share()
        done = "" if share is None else f"{share:4.0%}  "
        when = datetime.fromtimestamp(ts / NS_PER_S, UTC)
        sys.stderr.write(f"{CLEAR_LINE}{done}{records:,} records  {when:%Y-%m-%d %H:%M:%S} UTC")
        sys.stderr.flush()

    def say(self, line: str) -> None:
        """Write a line to standard error."""
        sys.stderr.write(f"{CLEAR_LINE if self._is_drawn else ''}{line}\n")
        self._is_drawn = False


def _is_out_of_sight(fd: int) -> bool:
    mode = os.fstat(fd).st_mode
    return not (os.isatty(fd) or stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode))
