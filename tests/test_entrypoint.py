"""The program as its users meet it: what it prints, what it refuses, and how it ends."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dquant.arguments import NOT_YET
from dquant.markets.market_factory import SPECS

TAPE = Path(__file__).parent / "data" / "tapes" / "okex-chain-2026.jsonl"
DEADLINE_S = 30.0

Start = Callable[..., "subprocess.Popen[bytes]"]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
Here = Callable[..., tuple[int, str, str]]


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


# --- how it ends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["markets"], ["replay", str(TAPE)]], ids=["markets", "replay"])
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
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
