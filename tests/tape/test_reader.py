"""A tape is read to its last good record, and what is wrong with it is said by line."""

import gzip
import json
import random
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dquant.errors import ConfigError, DquantError, TapeError
from dquant.tape.reader import BadRecord, Position, TapeRecord, read_tape

HEADER = b'{"tape": 1, "started": 1790400000000000000, "note": "test"}\n'


def record(ts: int, text: str = "pong", **more: str) -> bytes:
    fields = {"ts": ts, "venue": "okex", "conn": "public", "dir": "in", "text": text, **more}
    return json.dumps(fields).encode() + b"\n"


def read(path: Path, content: bytes) -> list[tuple[int, TapeRecord] | BadRecord]:
    path.write_bytes(content)
    return list(read_tape(path))


def times(items: list[tuple[int, TapeRecord] | BadRecord]) -> list[tuple[int, int]]:
    """Return line and time of the good records."""
    return [(item[0], item[1].ts) for item in items if isinstance(item, tuple)]


def bad(items: list[tuple[int, TapeRecord] | BadRecord]) -> list[BadRecord]:
    return [item for item in items if isinstance(item, BadRecord)]


@pytest.fixture
def tape(tmp_path: Path) -> Path:
    return tmp_path / "a.jsonl"


def test_records_come_with_their_line_numbers(tape: Path) -> None:
    items = read(
        tape, HEADER + record(5, dir="state", text="open wss://x") + b"\n" + record(7, '{"a":"\\n"}')
    )
    assert items == [
        (2, TapeRecord(5, "okex", "state", "open wss://x", "public")),
        (4, TapeRecord(7, "okex", "in", '{"a":"\\n"}', "public")),
    ]


def test_fields_that_nobody_knows_and_an_empty_path_are_no_fault(tape: Path) -> None:
    line = b'{"host":"a","ts":1,"venue":"okex","conn":"x","dir":"rest","text":"","path":"/api/v5/x"}\r\n'
    no_path = b'{"ts":2,"venue":"okex","conn":"x","dir":"in","text":"","path":null}\n'
    items = read(tape, HEADER + line + no_path)
    assert times(items) == [(2, 1), (3, 2)]
    assert isinstance(items[0], tuple)
    assert items[0][1].path == "/api/v5/x"


def test_a_recording_of_one_connection_need_not_name_it(tape: Path) -> None:
    header = b'{"tape": 1, "started": "2026-09-26", "note": null, "by": ["x"]}\n'
    assert read(tape, header + b'{"ts":1,"venue":"okex","dir":"in","text":"pong"}\n') == [
        (2, TapeRecord(1, "okex", "in", "pong"))
    ]


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_the_position_tells_how_much_of_the_file_was_read(tmp_path: Path, suffix: str) -> None:
    """In bytes of the file, compressed or not, and as far as it is read ahead."""
    source = random.Random(1)
    lines = [record(ts, source.randbytes(500).hex()) for ts in range(1000)]
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(PACKERS.get(suffix, bytes)(HEADER + b"".join(lines)))
    position = Position()
    assert position.share() is None
    shares = [position.share() for _ in read_tape(path, position)]
    known = [share for share in shares if share is not None]
    assert len(known) == 1000
    assert known == sorted(known)
    assert known[0] < 0.3 < 0.4 < known[500] < 0.9
    assert known[-1] == 1.0
    assert position.share() is None


@pytest.mark.parametrize(
    "line",
    [
        b"garbage\n",
        b"\xff\xfe\x00\n",
        b"[]\n",
        b"null\n",
        b'{"ts":1}\n',
        b'{"ts":"1","venue":"okex","conn":"p","dir":"in","text":"x"}\n',
        b'{"ts":-1,"venue":"okex","conn":"p","dir":"in","text":"x"}\n',
        b'{"ts":99999999999999999999999,"venue":"okex","conn":"p","dir":"in","text":"x"}\n',
        b'{"ts":1,"venue":"okex","conn":"p","dir":"up","text":"x"}\n',
        b'{"ts":1,"venue":"okex","conn":"p","dir":"in","text":{"a":1}}\n',
        b'{"ts":1,"venue":"okex","conn":"p","dir":"in","text":"\\ud800"}\n',
        b'{"ts":1,"deep":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n",
    ],
    ids=lambda line: line[:60].decode(errors="replace").strip(),
)
def test_a_bad_record_is_said_by_line_and_reading_goes_on(tape: Path, line: bytes) -> None:
    items = read(tape, HEADER + record(1) + line + record(3))
    assert times(items) == [(2, 1), (4, 3)]
    assert [item.line for item in bad(items)] == [3]
    assert "torn" not in bad(items)[0].what


def test_a_torn_last_line_is_said_to_be_torn(tape: Path) -> None:
    items = read(tape, HEADER + record(1) + record(2)[:-20])
    assert times(items) == [(2, 1)]
    assert [(item.line, "torn off" in item.what) for item in bad(items)] == [(3, True)]


def test_a_line_without_end_is_one_bad_record(tape: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not read at once, and the numbers of the lines after it are right."""
    monkeypatch.setattr("dquant.tape.reader.MAX_LINE_BYTES", 200)
    items = read(tape, HEADER + record(1, "x" * 1000) + record(2))
    assert times(items) == [(3, 2)]
    assert bad(items) == [BadRecord(2, "a line of more than 200 bytes")]


def test_a_last_line_without_its_end_is_still_a_record(tape: Path) -> None:
    assert times(read(tape, HEADER + record(1).rstrip(b"\n"))) == [(2, 1)]


def test_a_header_alone_is_a_tape_without_records(tape: Path) -> None:
    assert read(tape, HEADER) == []


PACKERS = {".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_compressed_tape_is_read_by_its_name(tmp_path: Path, suffix: str) -> None:
    lines = [record(ts, "x" * 100) for ts in range(3000)]
    content = PACKERS[suffix](HEADER + b"".join(lines))
    assert times(read(tmp_path / f"a.jsonl{suffix}", content)) == [(ts + 2, ts) for ts in range(3000)]


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_compressed_tape_may_be_written_in_pieces(tmp_path: Path, suffix: str) -> None:
    pack = PACKERS[suffix]
    content = pack(HEADER + record(1)[:10]) + pack(record(1)[10:]) + pack(record(2))
    assert times(read(tmp_path / f"a.jsonl{suffix}", content)) == [(2, 1), (3, 2)]


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_compressed_tape_that_was_cut_off_is_read_up_to_the_cut(tmp_path: Path, suffix: str) -> None:
    # What does not compress well fills several blocks, so that some of them are whole.
    chance = random.Random(7)
    lines = [record(ts, str(chance.getrandbits(60))) for ts in range(20_000)]
    content = PACKERS[suffix](HEADER + b"".join(lines))
    items = read(tmp_path / f"a.jsonl{suffix}", content[: len(content) * 3 // 4])
    good = times(items)
    assert len(good) > 1000
    assert good == [(ts + 2, ts) for ts in range(len(good))]
    assert [item.line for item in bad(items)] == [len(good) + 2]
    assert "cannot be read on" in bad(items)[0].what


@pytest.mark.parametrize("suffix", PACKERS)
def test_rubbish_after_a_compressed_tape_costs_only_itself(tmp_path: Path, suffix: str) -> None:
    items = read(tmp_path / f"a.jsonl{suffix}", PACKERS[suffix](HEADER + record(1)) + b"rubbish, much of it")
    assert times(items) == [(2, 1)]
    assert len(bad(items)) == 1


@pytest.mark.parametrize("suffix", ["", *PACKERS])
def test_an_empty_file_is_no_tape(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(TapeError, match="is empty") as caught:
        read(tmp_path / f"a.jsonl{suffix}", b"")
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_plain_file_by_a_compressed_name_is_no_tape(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(TapeError, match="is no tape") as caught:
        read(tmp_path / f"a.jsonl{suffix}", HEADER + record(1))
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    "first",
    [
        b"\n",
        b"hello\n",
        b"\x1f\x8b\x08\x00",
        b"{}\n",
        b'{"tape": "1"}\n',
        record(1),
        b"[" * 100_000,
    ],
)
def test_a_file_with_another_first_line_is_no_tape(tape: Path, first: bytes) -> None:
    with pytest.raises(TapeError, match="is no tape") as caught:
        read(tape, first + record(1))
    message = str(caught.value)
    assert str(tape) in message
    assert len(message.splitlines()) == 1
    assert caught.value.exit_code == 1


def test_a_tape_of_another_version_is_refused_with_both_versions(tape: Path) -> None:
    with pytest.raises(TapeError, match=r"version 2; this program reads 1"):
        read(tape, b'{"tape": 2}\n' + record(1))


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    for path in (tmp_path / "none.jsonl", tmp_path / "none.jsonl.gz", tmp_path / "none.jsonl.zst"):
        with pytest.raises(ConfigError, match="no such file") as caught:
            list(read_tape(path))
        assert str(path) in str(caught.value)
        assert caught.value.exit_code == 2
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="no such file"):
        list(read_tape(tmp_path / "file" / "below"))


@pytest.mark.parametrize("suffix", ["", *PACKERS])
def test_a_directory_is_no_tape(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"folder{suffix}"
    path.mkdir()
    with pytest.raises(TapeError, match="directory"):
        list(read_tape(path))


def test_a_name_that_no_file_can_have_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(TapeError, match="cannot be opened"):
        list(read_tape(tmp_path / ("a" * 300)))


def test_the_file_is_closed_when_nobody_reads_on(tape: Path) -> None:
    """An unclosed file would be a ResourceWarning, which is an error here."""
    tape.with_suffix(".zst").write_bytes(PACKERS[".zst"](HEADER + record(1) + record(2)))
    items = read_tape(tape.with_suffix(".zst"))
    next(items)
    items.close()  # type: ignore[attr-defined]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=200)
    | st.lists(st.sampled_from([HEADER, record(1), record(2)[:15], b"\n", b"\x00", b"{", b"}"])).map(
        b"".join
    ),
    suffix=st.sampled_from(["", ".gz", ".zst"]),
    is_packed=st.booleans(),
    cut=st.integers(0, 40),
)
def test_any_bytes_are_read_or_refused_in_one_line(
    tmp_path: Path, content: bytes, suffix: str, is_packed: bool, cut: int
) -> None:
    if is_packed and suffix:
        content = PACKERS[suffix](content)
    refused = ""
    try:
        read(tmp_path / f"any{suffix}", content[: len(content) - cut])
    except DquantError as exc:
        refused = str(exc)
    assert len(refused.splitlines()) <= 1
