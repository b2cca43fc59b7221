"""Reads a tape: JSON lines, plain or compressed by its name, first line the header.

A tape is what was said on the wires (``docs/formats.md``). A record that cannot be
read, a torn last line included, comes out as ``BadRecord`` with its line, and reading goes
on; only a file that is no tape at all ends it. Memory stays that of one line.
"""

import gzip
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO, Literal, cast

import msgspec

from dquant.errors import ConfigError, TapeError

TAPE_VERSION = 1
MAX_LINE_BYTES = 64 * 1024 * 1024
COMPRESSED_BYTES = 4096  # read at once: what comes out of them, at the worst ratio, still fits
WORDS_SHOWN = 60

# What msgspec raises on a line from outside; RecursionError on absurd nesting.
_PARSE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Header(msgspec.Struct):
    """The first line; what else stands there is for people."""

    tape: int


class TapeRecord(msgspec.Struct, gc=False):
    """One wire event: ``ts`` ns by the recorder's clock; ``rest`` answers carry their ``path``.

    A recording of one connection need not name it.
    """

    ts: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    venue: str
    dir: Literal["in", "out", "state", "rest"]
    text: str
    conn: str = ""
    path: str | None = None


class BadRecord(msgspec.Struct):
    """A line that is no record, and why."""

    line: int
    what: str


class Position:
    """How far the reading of a tape has come, by the bytes of its file."""

    def __init__(self) -> None:
        self._file: BinaryIO | None = None
        self._size = 0

    def begin(self, file: BinaryIO) -> None:
        """Note the file that is read from now on."""
        status = os.fstat(file.fileno())
        self._file, self._size = file, status.st_size if stat.S_ISREG(status.st_mode) else 0

    def share(self) -> float | None:
        """Return what part of the file has been read, 0 to 1; ``None`` where that is not known."""
        if self._file is None or self._file.closed or not self._size:
            return None
        return min(1.0, self._file.tell() / self._size)


_decode_header = msgspec.json.Decoder(Header).decode
_decode_record = msgspec.json.Decoder(TapeRecord).decode


def read_tape(path: Path, position: Position | None = None) -> Iterator[tuple[int, TapeRecord] | BadRecord]:
    """Yield each record with its line number, or what was wrong with the line.

    Args:
        path: The tape.
        position: Is kept up to date, for who wants to show how far it is.

    Raises:
        ConfigError: There is no such file, or it may not be read (exit code 2).
        TapeError: The file is no tape (exit code 1).

    """
    try:
        with path.open("rb") as raw, _unpacked(path, raw) as file:
            if position is not None:
                position.begin(raw)
            yield from _read(path, file)
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise ConfigError(f"{path}: no such file", "replay") from exc
    except PermissionError as exc:
        raise ConfigError(f"{path}: may not be read", "replay") from exc
    except IsADirectoryError as exc:
        raise TapeError(str(path), "is a directory, not a tape") from exc
    except OSError as exc:
        raise TapeError(str(path), f"cannot be opened: {exc.strerror}") from exc


def _unpacked(path: Path, raw: BinaryIO) -> BinaryIO:
    if path.suffix == ".gz":
        return cast("BinaryIO", gzip.GzipFile(fileobj=raw, mode="rb"))
    if path.suffix == ".zst":
        return cast("BinaryIO", io.BufferedReader(_ZstFile(raw)))
    return raw


class _ZstFile(io.RawIOBase):
    """The contents of a ``.zst`` file of any number of frames.

    ``zstandard``'s own reader has no lines, ends quietly where a file was cut off, and stops
    after the first frame.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._chunks = self._read_chunks()
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        room = memoryview(buffer)  # type: ignore[arg-type]
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        size = min(len(room), len(self._rest))
        room[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size

    def _read_chunks(self) -> Iterator[bytes]:
        import zstandard

        frame = None
        while compressed := self._file.read(COMPRESSED_BYTES):
            while compressed:
                if frame is None:
                    frame = zstandard.ZstdDecompressor().decompressobj()
                yield frame.decompress(compressed)
                compressed = frame.unused_data if frame.eof else b""
                if frame.eof:
                    frame = None
        if frame is not None:
            raise EOFError("the file ended in the middle of a frame")


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
            except _PARSE_ERRORS as exc:
                torn = "" if line.endswith(b"\n") else ", torn off"
                yield BadRecord(number, f"no record of a tape{torn}: {exc}")
            else:
                yield number, record
    if number == 0:
        raise TapeError(str(path), "is empty, not a tape")


def _lines(path: Path, file: BinaryIO) -> Iterator[bytes | str]:
    """Yield lines; one that is too long, or torn by a fault of the compression, comes out as words."""
    is_rest = False
    while True:
        try:
            line = file.readline(MAX_LINE_BYTES)
        except Exception as exc:
            # Each compression has an error class of its own; what is read by now stays good.
            yield f"cannot be read on ({path.suffix or 'plain'}): {exc}"
            return
        if not line:
            return
        is_whole = len(line) < MAX_LINE_BYTES or line.endswith(b"\n")
        if not is_rest:
            yield line if is_whole else f"a line of more than {MAX_LINE_BYTES} bytes"
        is_rest = not is_whole


def _check_header(path: Path, line: bytes) -> None:
    try:
        header = _decode_header(line)
    except _PARSE_ERRORS as exc:
        words = line[:WORDS_SHOWN].decode(errors="replace").strip()
        raise TapeError(str(path), f"is no tape, its first line is {words!r}", 1) from exc
    if header.tape != TAPE_VERSION:
        raise TapeError(
            str(path), f"is a tape of version {header.tape}; this program reads {TAPE_VERSION}", 1
        )
