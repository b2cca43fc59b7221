"""Reads a tape: JSON lines, plain or compressed by its name, first line the header.

A tape is what one session said on its wires (``docs/formats.md``). A record that cannot be
read, a torn last line included, comes out as ``BadRecord`` with its line, and reading goes
on; only a file that is no tape at all ends it. Memory stays that of one line.
"""

import gzip
import io
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
    """The first line; ``started`` is ns since the Unix epoch."""

    tape: int
    started: int = 0
    note: str = ""


class TapeRecord(msgspec.Struct, gc=False):
    """One wire event: ``ts`` ns by the recorder's clock; ``rest`` answers carry their ``path``."""

    ts: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    venue: str
    conn: str
    dir: Literal["in", "out", "state", "rest"]
    text: str
    path: str | None = None


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
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise ConfigError(f"{path}: no such file", "replay") from exc
    except PermissionError as exc:
        raise ConfigError(f"{path}: may not be read", "replay") from exc
    except IsADirectoryError as exc:
        raise TapeError(str(path), "is a directory, not a tape") from exc
    except OSError as exc:
        raise TapeError(str(path), f"cannot be opened: {exc.strerror}") from exc


def _open(path: Path) -> BinaryIO:
    if path.suffix == ".gz":
        return cast("BinaryIO", gzip.open(path, "rb"))
    if path.suffix == ".zst":
        return cast("BinaryIO", io.BufferedReader(_ZstFile(path)))
    return path.open("rb")


class _ZstFile(io.RawIOBase):
    """The contents of a ``.zst`` file of any number of frames.

    ``zstandard``'s own reader has no lines, ends quietly where a file was cut off, and stops
    after the first frame.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
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

    def close(self) -> None:
        self._file.close()
        super().close()

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
    except _PARSE_ERRORS as exc:
        words = line[:WORDS_SHOWN].decode(errors="replace").strip()
        raise TapeError(str(path), f"is no tape, its first line is {words!r}", 1) from exc
    if header.tape != TAPE_VERSION:
        raise TapeError(
            str(path), f"is a tape of version {header.tape}; this program reads {TAPE_VERSION}", 1
        )
