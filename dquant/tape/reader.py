"""Reads a tape: JSON lines, plain or compressed by its name, first line the header.

A tape is what one session said on its wires (``docs/formats.md``). A record that cannot be
read, a torn last line included, comes out as ``BadRecord`` with its line, and reading goes
on; only a file that is no tape at all ends it. Memory stays that of one line.
"""

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal, cast

import msgspec

from dquant.errors import ConfigError, TapeError

TAPE_VERSION = 1
MAX_LINE_BYTES = 64 * 1024 * 1024
WORDS_SHOWN = 60


class Header(msgspec.Struct):
    """The first line; ``started`` is ns since the Unix epoch."""

    tape: int
    started: int = 0
    note: str = ""


class TapeRecord(msgspec.Struct, gc=False):
    """One wire event: ``ts`` ns by the recorder's clock; ``rest`` answers carry their ``path``."""

    ts: int
    venue: str
    conn: str
    dir: Literal["in", "out", "state", "rest"]
    text: str
    path: str = ""


class BadRecord(msgspec.Struct):
    """A line that is no record, and why."""

    line: int
    what: str


_decode_header = msgspec.json.Decoder(Header).decode
_decode_record = msgspec.json.Decoder(TapeRecord).decode


def read_tape(path: Path) -> Iterator[tuple[int, TapeRecord] | BadRecord]:
    """Yield each record with its line number, or what was wrong with the line.

    Raises:
        ConfigError: There is no such file, or it may not be read (exit code 2).
        TapeError: The file is no tape (exit code 1).

    """
    try:
        with _open(path) as file:
            yield from _read(path, file)
    except FileNotFoundError as exc:
        raise ConfigError(f"{path}: no such file", "replay") from exc
    except PermissionError as exc:
        raise ConfigError(f"{path}: may not be read", "replay") from exc
    except IsADirectoryError as exc:
        raise TapeError(str(path), "is a directory, not a tape") from exc


def _open(path: Path) -> BinaryIO:
    if path.suffix == ".gz":
        return cast("BinaryIO", gzip.open(path, "rb"))
    if path.suffix == ".zst":
        import zstandard

        return cast("BinaryIO", zstandard.open(path, "rb"))
    return path.open("rb")


def _read(path: Path, file: BinaryIO) -> Iterator[tuple[int, TapeRecord] | BadRecord]:
    number = 0
    lines = _lines(path, file)
    for line in lines:
        number += 1
        if isinstance(line, str):
            if number == 1:
                raise TapeError(str(path), f"is no tape: {line}")
            yield BadRecord(number, line)
        elif number == 1:
            _check_header(path, line)
        elif not line.strip():
            continue
        else:
            try:
                record = _decode_record(line)
            except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
                torn = "" if line.endswith(b"\n") else ", torn off"
                yield BadRecord(number, f"no record of a tape{torn}: {exc}")
            else:
                yield number, record
    if number == 0:
        raise TapeError(str(path), "is empty, not a tape")


def _lines(path: Path, file: BinaryIO) -> Iterator[bytes | str]:
    """Yield lines; a fault of the compression comes out as words in place of the torn line."""
    while True:
        try:
            line = file.readline(MAX_LINE_BYTES)
        except Exception as exc:
            # Each compression has an error class of its own; what is read by now stays good.
            yield f"cannot be read on ({path.suffix or 'plain'}): {exc}"
            return
        if not line:
            return
        yield line


def _check_header(path: Path, line: bytes) -> None:
    try:
        header = _decode_header(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        words = line[:WORDS_SHOWN].decode(errors="replace").strip()
        raise TapeError(str(path), f"is no tape, its first line is {words!r}", 1) from exc
    if header.tape != TAPE_VERSION:
        raise TapeError(
            str(path), f"is a tape of version {header.tape}; this program reads {TAPE_VERSION}", 1
        )
