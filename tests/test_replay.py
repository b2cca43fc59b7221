"""The verb ``replay`` as its users meet it: records, summary, pace, signals, and any file at all."""

import gzip
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

TAPES = Path(__file__).parent / "data" / "tapes"
OKEX = TAPES / "okex-chain-2026.jsonl"
EXPECTED = (TAPES / "okex-chain-2026.expected.jsonl").read_bytes().splitlines()
DEADLINE_S = 30.0

Start = Callable[..., "subprocess.Popen[bytes]"]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
Here = Callable[..., tuple[int, str, str]]


def test_replay_as_json_prints_the_records_and_ends_with_a_summary(run_dquant: Run) -> None:
    done = run_dquant("replay", str(OKEX), "--json")
    assert done.returncode == 0
    assert done.stdout.encode().splitlines() == EXPECTED
    assert done.stderr.splitlines() == [
        f"{OKEX}: 18 frames, 9 changes, 3 stale periods, 2 connection lost, 1 sequence broken, "
        "0 quarantined frames, 0 bad lines",
        f"{OKEX}: BTC-USD-SWAP is stale to the end: connection lost",
    ]


def test_replay_for_people_marks_prices_as_replayed(here: Here) -> None:
    code, out, _ = here("replay", OKEX)
    lines = out.splitlines()
    assert code == 0
    assert len(lines) == len(EXPECTED)
    assert all("REPLAYED" in line and "SIMULATED" not in line for line in lines)
    assert sum("STALE" in line for line in lines) == 3
    assert "84309.1" in lines[0]
    assert "sequence broken" in lines[5]


def test_replay_in_pro_says_pro(here: Here) -> None:
    _, out, _ = here("--json", "replay", OKEX, DQUANTENV="pro")
    assert {json.loads(line)["environment"] for line in out.splitlines()} == {"pro"}


def test_replay_is_filtered_by_instrument_and_says_which_is_not_there(here: Here) -> None:
    code, out, err = here("-m", "BTC-USD-SWAP,XBTUSD", "--json", "replay", OKEX)
    assert code == 0
    assert out.encode().splitlines() == [line for line in EXPECTED if b"BTC-USD-SWAP" in line]
    assert err.splitlines()[1:] == [
        f"{OKEX}: BTC-USD-SWAP is stale to the end: connection lost",
        f"{OKEX}: no book of XBTUSD on this tape; there is BTC-USD-261030",
    ]


def test_replay_says_why_there_is_no_price(here: Here, tmp_path: Path) -> None:
    """The session was recorded from its middle on: no snapshot."""
    path = tmp_path / "a.jsonl"
    lines = [line for line in OKEX.read_text("utf-8").splitlines() if r"\"snapshot\"" not in line]
    path.write_text("\n".join(lines), "utf-8")
    code, out, err = here("--json", "replay", path)
    assert (code, out) == (0, "")
    assert err.splitlines()[1:] == [
        f"{path}: no price of BTC-USD-261030: 8 book messages without a snapshot before them",
        f"{path}: no price of BTC-USD-SWAP: 1 book messages without a snapshot before them",
    ]


def test_replay_stops_after_a_count_and_claims_nothing_about_the_rest(here: Here) -> None:
    for count in (1, 2, 8, 9):  # the eighth and ninth come from one record of the tape
        _, out, _ = here("--json", "--count", count, "replay", OKEX)
        assert out.encode().splitlines() == EXPECTED[:count]
    _, _, err = here("--count", "1", "-m", "BTC-USD-261030,XBTUSD", "replay", OKEX)
    assert "XBTUSD" not in err


@pytest.mark.parametrize(
    ("suffix", "pack"), [(".gz", gzip.compress), (".zst", zstandard.ZstdCompressor().compress)]
)
def test_replay_reads_compressed_tapes(
    here: Here, tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(pack(OKEX.read_bytes()))
    assert here("--json", "replay", path)[1].encode().splitlines() == EXPECTED


def test_replay_says_bad_lines_and_frames_and_replays_the_rest(here: Here, tmp_path: Path) -> None:
    lines = OKEX.read_bytes().splitlines(keepends=True)
    garbage = b'{"ts":1790400000000000000,"venue":"okex","conn":"public","dir":"in","text":"<html>\\n"}\n'
    kraken = b'{"ts":1790400000000000000,"venue":"kraken","conn":"public","dir":"in","text":"{}"}\n'
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"".join([*lines[:10], b"no record\n", garbage, kraken, *lines[10:]]) + lines[5][:-20])
    code, out, err = here("--json", "replay", path)
    assert code == 0
    assert out.encode().splitlines() == EXPECTED
    said = err.splitlines()
    assert said[0].startswith(f"{path}:11: no record of a tape: ")
    assert said[1].startswith(f"{path}:12: quarantined: ")
    assert said[2].startswith(f"{path}:{len(lines) + 4}: no record of a tape, torn off: ")
    assert said[3].endswith("1 quarantined frames, 2 bad lines")
    assert said[4] == f"{path}: BTC-USD-SWAP is stale to the end: connection lost"
    assert said[5] == f"{path}: 1 frames of 'kraken', a venue that this program cannot read"
    assert len(said) == 6


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "is empty"), (b"hello\n", "is no tape"), (b'{"tape":9}\n', "version 9")]
)
def test_replay_of_what_is_no_tape_fails_with_its_name(
    here: Here, tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    code, out, err = here("replay", path)
    assert (code, out) == (1, "")
    assert str(path) in err
    assert words in err
    assert len(err.splitlines()) == 1


def test_replay_of_a_folder_fails_and_of_nothing_is_a_mistake(here: Here, tmp_path: Path) -> None:
    code, _, err = here("replay", tmp_path)
    assert code == 1
    assert "is a directory" in err
    code, out, err = here("replay", tmp_path / "none")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert f"{tmp_path / 'none'}: no such file" in err


def tape_of(tmp_path: Path, times_ms: list[int]) -> Path:
    """Write a tape with one change of the top of a book at each time."""
    path = tmp_path / "paced.jsonl"
    rows = ['{"tape": 1}']
    for number, ms in enumerate(times_ms):
        data = {"bids": [[str(100 + number), "1", "0", "1"]], "asks": [], "ts": "1", "checksum": 0}
        data |= {"seqId": number, "prevSeqId": -1}
        text = json.dumps({"arg": {"channel": "books", "instId": "A"}, "action": "snapshot", "data": [data]})
        fields = {"ts": 10**18 + ms * 10**6, "venue": "okex", "conn": "p", "dir": "in", "text": text}
        rows.append(json.dumps(fields))
    path.write_text("\n".join(rows) + "\n")
    return path


def test_replay_at_a_speed_keeps_the_pace_of_the_tape(here: Here, tmp_path: Path) -> None:
    path = tape_of(tmp_path, [0, 1000, 500, 3000])
    started = time.monotonic()
    code, out, _ = here("--json", "replay", path, "--speed", "10")
    assert code == 0
    assert len(out.splitlines()) == 4
    assert 0.3 <= time.monotonic() - started < 5.0


@pytest.mark.parametrize("speed", ["0.001", "1e-300"])
def test_replay_ends_after_its_duration_however_far_the_next_record_is(
    here: Here, tmp_path: Path, speed: str
) -> None:
    path = tape_of(tmp_path, [0, 60_000])
    started = time.monotonic()
    code, out, err = here("--json", "replay", path, "--speed", speed, "--duration", "0.2")
    assert code == 0
    assert len(out.splitlines()) == 1
    assert "1 frames, 1 changes" in err
    assert 0.2 <= time.monotonic() - started < 5.0


def test_replay_leaves_the_signals_as_they_were(here: Here) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
    before = [signal.getsignal(number) for number in numbers]
    here("replay", OKEX, "--duration", "60")
    assert [signal.getsignal(number) for number in numbers] == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_replay_that_waits_for_its_next_record(
    start_dquant: Start, tmp_path: Path, number: signal.Signals
) -> None:
    process = start_dquant("--json", "replay", str(tape_of(tmp_path, [0, 60_000])), "--speed", "1")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["bid"] == 100.0
    started = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert time.monotonic() - started < 5.0
    assert (process.returncode, out) == (0, b"")
    assert err.decode().splitlines()[0].endswith("0 quarantined frames, 0 bad lines")


def test_a_signal_ends_a_replay_that_waits_for_its_tape(start_dquant: Start, tmp_path: Path) -> None:
    """The tape is a pipe whose writer says nothing more; the end is no fault of the tape."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    process = start_dquant("--json", "replay", str(path), "--speed", "1000")
    with path.open("wb", buffering=0) as tape:
        tape.write(tape_of(tmp_path, [0, 1, 2]).read_bytes())
        assert process.stdout is not None
        # The second is out when the third is read: it waits for a fourth.
        assert [json.loads(process.stdout.readline())["bid"] for _ in range(2)] == [100.0, 101.0]
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=DEADLINE_S)
    assert time.monotonic() - started < 5.0
    assert process.returncode == 0
    assert "0 bad lines" in err.decode()


def test_a_signal_ends_a_replay_whose_reader_stopped(start_dquant: Start, tmp_path: Path) -> None:
    path = tape_of(tmp_path, list(range(3000)))
    process = start_dquant("--json", "replay", str(path))
    assert process.stdout is not None
    process.stdout.read(1)  # it is at work; nobody reads on, and the pipe fills
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_S) == 0
    assert time.monotonic() - started < 5.0


pieces = st.sampled_from([line + b"\n" for line in OKEX.read_bytes().splitlines()])


@settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    content=st.lists(pieces | st.binary(max_size=30), max_size=12).map(b"".join),
    is_tape=st.booleans(),
    is_json=st.booleans(),
)
def test_any_file_is_replayed_or_refused(
    here: Here, tmp_path: Path, content: bytes, is_tape: bool, is_json: bool
) -> None:
    path = tmp_path / "any.jsonl"
    path.write_bytes((b'{"tape": 1}\n' if is_tape else b"") + content)
    code, out, err = here(*(["--json"] if is_json else []), "replay", path)
    assert code in (0, 1)
    assert "Traceback" not in err
    if is_json:
        assert all(json.loads(line)["market"] is None for line in out.splitlines())
    if is_tape:
        assert code == 0
