"""Logging: standard error for people, a bounded file for the morning after.

Secrets never reach a record: nothing here or elsewhere logs a configuration value, and
what a redacting filter would have to catch is not put into messages in the first place.
"""

import contextlib
import logging
import logging.handlers
import os
import sys
import time
from pathlib import Path

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
FILE_BYTES = 10 * 1024 * 1024
FILES_KEPT = 3  # older parts of one process's log
NEWS_S = 60.0  # as long a warning is shown on a screen
PROCESSES_KEPT = 20  # logs of earlier processes


class _LogFile(logging.handlers.RotatingFileHandler):
    """A log that a full disk ends with one line; the program goes on without it."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Say it once, instead of a traceback a record."""
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)  # a mistake of ours
            return
        root = logging.getLogger("dquant")
        root.removeHandler(self)
        why = sys.exception()
        with contextlib.suppress(OSError):  # it tries to write what it could not write
            self.close()
        root.warning("no more records go to %s: %s", self.baseFilename, why)


class LastWords(logging.Handler):
    """Keeps the newest warning, for a minute, for a screen that owns the terminal."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._record: tuple[float, str] | None = None

    @property
    def text(self) -> str:
        """The warning with its time (UTC); empty when there is none that is new."""
        if self._record is None or time.time() - self._record[0] > NEWS_S:
            return ""
        moment, words = self._record
        return f"{time.strftime('%H:%M:%S', time.gmtime(moment))} {words}"

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the message."""
        self._record = (record.created, record.getMessage())


def set_up(verb: str, level: str, directory: Path, *, owns_terminal: bool) -> LastWords:
    """Send records to standard error and to ``directory/dquant-<verb>-<pid>.log``.

    Args:
        verb: Names the file.
        level: ``debug info warning error``.
        directory: Made if it is missing; a folder that cannot be written is said once and done without.
        owns_terminal: Whether a screen is drawn there; records then go to the file and to the result only.

    """
    root = logging.getLogger("dquant")
    root.setLevel(level.upper())
    root.propagate = False
    for handler in list(root.handlers):  # of a verb that ran before in this process
        root.removeHandler(handler)
        handler.close()
    formatter = logging.Formatter(FORMAT)
    formatter.converter = time.gmtime  # UTC, as in records and on screens
    last_words = LastWords()
    root.addHandler(last_words)
    if not owns_terminal:
        stream = logging.StreamHandler(sys.stderr)
        # The file has everything; a terminal gets wire frames only when somebody asks for them.
        stream.setLevel(logging.DEBUG if level == "debug" else logging.WARNING)
        stream.setFormatter(formatter)
        root.addHandler(stream)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _prune(directory)
        file = _LogFile(
            directory / f"dquant-{verb}-{os.getpid()}.log",
            maxBytes=FILE_BYTES,
            backupCount=FILES_KEPT,
            encoding="utf-8",
        )
    except OSError as exc:
        root.warning("no log file in %s: %s; set log_dir to a folder of yours", directory, exc.strerror)
    else:
        file.setFormatter(formatter)
        root.addHandler(file)
    return last_words


def _prune(directory: Path) -> None:
    aged = []
    for path in directory.glob("dquant-*.log*"):
        with contextlib.suppress(OSError):  # another process was faster
            aged.append((path.stat().st_mtime, path))
    for _, path in sorted(aged)[: -PROCESSES_KEPT * (FILES_KEPT + 1)]:
        with contextlib.suppress(OSError):
            path.unlink()
