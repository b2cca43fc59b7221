"""The program as its users meet it: what it prints, what it refuses, and how it ends."""

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

from dquant.arguments import NOT_YET
from dquant.entrypoint import main
from dquant.markets.market_factory import SPECS

TAPES = Path(__file__).parent / "data" / "tapes"
OKEX = TAPES / "okex-chain-2026.jsonl"
EXPECTED = (TAPES / "okex-chain-2026.expected.jsonl").read_bytes().splitlines()
DEADLINE_S = 30.0

Start = Callable[..., "subprocess.Popen[bytes]"]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
Here = Callable[..., tuple[int, str, str]]


@pytest.fixture
def here(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Here:
    """Run a command line in this process; return exit code, standard output and standard error."""

    def run(*words: object, **variables: str) -> tuple[int, str, str]:
        with monkeypatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("DQUANT")]:
                patch.delenv(name)
            patch.setenv("DQUANT_LOG_DIR", str(tmp_path / "log"))
            for name, value in variables.items():
                patch.setenv(name, value)
            try:
                code = main([str(word) for word in words])
            except SystemExit as exc:
                code = exc.code if isinstance(exc.code, int) else 0
        said = capfd.readouterr()
        return code, said.out, said.err

    return run


def refused(result: tuple[int, str, str]) -> str:
    """Return the one line of a refusal."""
    code, out, err = result
    assert code == 2
    assert out == ""
    assert len(err.splitlines()) == 1
    return err


# --- markets ------------------------------------------------------------------------------------------


def test_markets_lists_every_name_with_venue_instrument_and_contract(here: Here) -> None:
    code, out, err = here("markets")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0].split() == ["market", "venue", "instrument", "contract", "code", "title"]
    assert [line.split()[0] for line in lines[1:]] == list(SPECS)
    assert "closed" not in out
    by_name = {line.split()[0]: line for line in lines}
    assert "OKX" in by_name["okex_swap_btcusd"]
    assert "BTC-USD-SWAP" in by_name["okex_swap_btcusd"]
    assert "100 USD" in by_name["okex_swap_btcusd"]
    assert "btc_usd_this_week" in by_name["okex_future_btcusd_thisweek"]


def test_markets_in_pro_shows_which_are_closed(here: Here) -> None:
    _, out, _ = here("markets", DQUANTENV="pro")
    closed = {line.split()[0] for line in out.splitlines() if "closed 2026-09-23T04:00:00Z" in line}
    assert closed == {name for name, spec in SPECS.items() if spec.venue == "bitmex"}


def test_markets_as_json_is_one_object_a_line(here: Here) -> None:
    code, out, err = here("--json", "markets", DQUANTENV="pro")
    rows = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert [row["market"] for row in rows] == list(SPECS)
    assert rows[-1]["closed_at"] == "2026-09-23T04:00:00Z"
    assert rows[0]["closed_at"] is None
    assert len(here("--json", "markets", "--count", "2")[1].splitlines()) == 2


# --- what is refused, before anything connects --------------------------------------------------------


@pytest.mark.parametrize("verb", NOT_YET)
def test_a_verb_that_is_not_there_yet_says_so(here: Here, verb: str) -> None:
    assert f"dquant {verb}: not built yet" in refused(here(verb, "--count", "1"))


@pytest.mark.parametrize("verb", ["monitor", "simulate", "markets"])
def test_a_name_that_nobody_knows_is_refused_where_it_is_of_no_use_too(here: Here, verb: str) -> None:
    assert "-m: markets: 'xyzzy'" in refused(here("-m", "xyzzy", verb))
    assert "-s: strategy: 'xyzzy'" in refused(here("-s", "xyzzy", verb))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["simulate", "--start", "now"], "dquant simulate: --start: 'now' is no time; allowed: UTC such as"),
        (["simulate", "--host", "here"], "dquant simulate: --host: 'here' is no address"),
        (["monitor", ""], "dquant monitor: CHANNEL: a channel needs a name, such as price"),
    ],
)
def test_a_bad_option_of_a_verb_is_named_with_what_is_allowed(
    here: Here, words: list[str], says: str
) -> None:
    assert refused(here(*words)).startswith(says)


def test_a_pattern_is_refused_for_a_cluster_before_anything_connects(here: Here) -> None:
    message = refused(here("monitor", "price:*", DQUANT_REDIS_URL="redis+cluster://127.0.0.1:1"))
    assert "'price:*' is a pattern" in message
    assert "allowed: names such as price" in message


@pytest.mark.parametrize("verb", ["watch", "feed"])
@pytest.mark.parametrize(
    ("words", "variables", "names"),
    [
        (["-m", "okex_swap_btcusdd"], {}, ["-m", "okex_swap_btcusdd", "did you mean okex_swap_btcusd?"]),
        (["-m", "xyzzy"], {}, ["-m", "'xyzzy'", "lists the names"]),
        (["-m", ","], {}, ["-m", "none given"]),
        (["-m", "okex_swap_btcusd,okex_swap_btcusd"], {}, ["-m", "okex_swap_btcusd is given twice"]),
        ([], {"DQUANT_MARKETS": "xyzzy"}, ["DQUANT_MARKETS", "'xyzzy'"]),
        ([], {"DQUANT_MARKETS": ""}, ["DQUANT_MARKETS [markets]", "none given"]),
        (["-s", ""], {}, ["-s: strategy", "diff, ticker"]),
        (["-s", "dif"], {}, ["-s: strategy", "'dif'", "diff, ticker"]),
        ([], {"DQUANT_REDIS_PORT": "none"}, ["DQUANT_REDIS_PORT", "redis_port", "1 to 65535"]),
        ([], {"DQUANT_REDIS_PROT": "1"}, ["DQUANT_REDIS_PROT", "did you mean redis_port?"]),
        ([], {"DQUANTENV": "live"}, ["DQUANTENV", "'live'", "dev, pro"]),
        ([], {"DQUANT_LOG_LEVEL": "loud"}, ["DQUANT_LOG_LEVEL", "debug, info, warning, error"]),
        (
            ["-m", "okex_swap_btcusd,bitmex_future_btcusd"],
            {"DQUANTENV": "pro"},
            [
                "pro.cfg [bitmex_closed_at]",
                "bitmex_future_btcusd",
                "BitMEX closed on 2026-09-23T04:00:00Z",
                "use okex_swap_btcusd instead",
            ],
        ),
        (
            [],
            {"DQUANTENV": "pro", "DQUANT_SIMULATED_VENUES": "yes"},
            ["DQUANT_SIMULATED_VENUES", "simulated_venues", "use dev"],
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_wrong_configuration_is_one_line_that_names_what_and_where(
    here: Here, verb: str, words: list[str], variables: dict[str, str], names: list[str]
) -> None:
    message = refused(here(*words, verb, **variables))
    assert message.startswith(f"dquant {verb}: ")
    for name in names:
        assert name in message


@pytest.mark.parametrize(
    ("words", "variables", "names"),
    [
        (["-s", "foo"], {}, ["-s", "'foo'", "diff, ticker"]),
        ([], {"DQUANT_STRATEGY": "foo"}, ["DQUANT_STRATEGY", "'foo'", "diff, ticker"]),
        (["-s", "diff", "-m", "okex_swap_btcusd"], {}, ["-m", "exactly 2", "okex_swap_btcusd"]),
        (["-m", "okex_swap_btcusd"], {}, ["dev.cfg", "exactly 2"]),
        ([], {"DQUANT_MARKETS": "okex_swap_btcusd"}, ["DQUANT_MARKETS", "exactly 2", "1 given"]),
        (
            ["-s", "diff", "-m", "okex_swap_btcusd,okex_swap_btcusdt,okex_spot_btcusdt"],
            {},
            ["exactly 2", "3 given"],
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_strategy_that_is_unknown_or_lacks_markets_is_one_line(
    here: Here, words: list[str], variables: dict[str, str], names: list[str]
) -> None:
    message = refused(here(*words, "watch", **variables))
    for name in names:
        assert name in message


def test_a_refusal_of_the_program_itself_is_one_line_too(run_dquant: Run) -> None:
    """Once over everything: interpreter, imports, exit."""
    done = run_dquant("-m", "bitmex_future_btcusd", "-s", "ticker", env={"DQUANTENV": "pro"})
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "BitMEX closed" in done.stderr


# --- replay -------------------------------------------------------------------------------------------


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
    assert f"{tmp_path / 'none'}: no such file" in refused(here("replay", tmp_path / "none"))


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


@pytest.mark.parametrize("words", [["markets"], ["replay", str(OKEX)]], ids=["markets", "replay"])
def test_a_reader_that_goes_away_is_no_error(start_dquant: Start, words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = start_dquant(*words, stdout=writing)
    os.close(writing)
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0
    assert b"Traceback" not in err
    assert b"BrokenPipe" not in err


@pytest.mark.parametrize("verb", ["simulate", "feed", "watch"])
def test_a_verb_without_an_end_ends_with_the_reader_of_its_pipe(
    start_dquant: Start, verb: str, unused_tcp_port: int
) -> None:
    """What ``| head -1`` does, also where nothing more would be written for a long time."""
    process = start_dquant(verb, env={"DQUANT_REDIS_PORT": str(unused_tcp_port)})
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    started = time.monotonic()
    process.wait(DEADLINE_S)
    assert process.returncode == 0
    assert time.monotonic() - started < 10.0


@pytest.mark.parametrize("verb", ["markets", "simulate"])
def test_a_full_disk_is_one_line(start_dquant: Start, verb: str) -> None:
    with open("/dev/full", "wb") as full:
        process = start_dquant(verb, stdout=full)
        _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert err.decode() == f"dquant {verb}: standard output cannot be written: No space left on device\n"


def test_a_locale_without_our_signs_is_no_error(start_dquant: Start) -> None:
    process = start_dquant("--help", env={"PYTHONIOENCODING": "ascii"})
    out, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, err) == (0, b"")
    assert b"NAME,?" in out


def test_standard_streams_may_be_closed(tmp_path: Path, start_dquant: Start) -> None:
    process = start_dquant("markets", preexec_fn=lambda: (os.close(1), os.close(2)))
    assert process.wait(DEADLINE_S) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_the_very_start_ends_without_words(
    start_dquant: Start, number: signal.Signals, tmp_path: Path
) -> None:
    """The program is caught while it waits to open its tape: nobody has opened the pipe's other end."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    process = start_dquant("replay", str(path))
    catches = 1 << (signal.SIGTERM - 1)
    deadline = time.monotonic() + DEADLINE_S
    status = Path(f"/proc/{process.pid}/status")
    while not int(status.read_text().split("SigCgt:")[1].split()[0], 16) & catches:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(number)
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0
    assert b"Traceback" not in err


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
