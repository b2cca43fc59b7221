"""Options stand where people put them, and each mistake is one line and exit code 2."""

from argparse import Namespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dquant import arguments
from dquant.arguments import NOT_YET, VERBS, parse

REPLAY = ["replay", "tape.jsonl"]


def refusal(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line that refuses a command line."""
    with pytest.raises(SystemExit) as caught:
        parse(argv)
    assert caught.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    return said.err


def test_without_a_verb_it_watches() -> None:
    options = parse([])
    assert options.verb == "watch"
    assert (options.markets, options.strategy, options.count, options.duration) == (None, None, None, None)
    assert (options.debug, options.json) == (False, False)


def test_the_original_order_of_flags_and_verb_is_understood() -> None:
    options = parse(["-d", "-m", "a,b", "-s", "diff", "watch"])
    assert (options.debug, options.markets, options.strategy, options.verb) == (True, "a,b", "diff", "watch")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_takes_the_common_options_on_either_side(verb: str) -> None:
    given_words = ["--json", "--count", "3", "--duration", "1.5", "-m", "a", "-s", "ticker", "-d"]
    words = REPLAY if verb == "replay" else [verb]
    before, after = parse([*given_words, *words]), parse([*words, *given_words])
    assert before == after
    assert (before.verb, before.json, before.count, before.duration) == (verb, True, 3, 1.5)
    assert (before.markets, before.strategy, before.debug) == ("a", "ticker", True)


def test_an_option_after_the_verb_stands_before_the_same_option_before_it() -> None:
    options = parse(["--count", "1", "--json", "watch", "--count", "2"])
    assert (options.count, options.json) == (2, True)


@pytest.mark.parametrize("flag", ["--count", "--duration"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "1e999", "x", ""])
@pytest.mark.parametrize("is_before", [True, False])
def test_a_number_that_is_none_or_not_above_zero_is_refused(
    flag: str, value: str, is_before: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refusal([flag, value, "watch"] if is_before else ["watch", flag, value], capsys)
    assert flag in message
    assert value in message


def test_a_count_is_a_whole_number(capsys: pytest.CaptureFixture[str]) -> None:
    assert "1.5" in refusal(["--count", "1.5"], capsys)


def test_the_options_of_one_verb_are_refused_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse([*REPLAY, "--speed", "2.5"]).speed == 2.5
    assert parse(REPLAY).speed is None
    assert "--speed" in refusal(["watch", "--speed", "2"], capsys)
    assert "--speed" in refusal([*REPLAY, "--speed", "0"], capsys)


def test_replay_wants_a_tape(capsys: pytest.CaptureFixture[str]) -> None:
    assert "TAPE" in refusal(["replay"], capsys)
    assert "b.jsonl" in refusal(["replay", "a.jsonl", "b.jsonl"], capsys)


@pytest.mark.parametrize(
    "argv",
    [
        ["monitor", "price", "health", "--json"],
        ["monitor", "price", "--json", "health"],
        ["monitor", "--json", "price", "health"],
        ["--json", "monitor", "price", "health"],
    ],
)
def test_monitor_takes_channels_on_both_sides_of_its_options(argv: list[str]) -> None:
    options = parse(argv)
    assert options.channels == ["price", "health"]
    assert options.json


def test_monitor_refuses_an_option_that_nobody_knows(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--jsno" in refusal(["monitor", "price", "--jsno", "health"], capsys)


def test_ports_of_the_simulator_are_ports(capsys: pytest.CaptureFixture[str]) -> None:
    options = parse(["simulate", "--okex-port", "0", "--bitmex-port", "65535"])
    assert (options.okex_port, options.bitmex_port) == (0, 65535)
    for port in ("65536", "-1", "http"):
        assert "--okex-port" in refusal(["simulate", "--okex-port", port], capsys)


@pytest.mark.parametrize("argv", [["wach"], ["-m"], ["--jsno"], ["watch", "a\nb"], ["watch", "--coun", "3"]])
def test_a_mistake_is_one_line_that_leads_to_the_help(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "(see --help)" in refusal(argv, capsys)


def test_an_unknown_verb_is_answered_with_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    message = refusal(["wach"], capsys)
    assert all(verb in message for verb in VERBS)


@pytest.mark.parametrize("verb", [None, *VERBS])
def test_help_teaches_and_ends_well(verb: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse([verb, "--help"] if verb else ["--help"])
    assert not caught.value.code
    said = capsys.readouterr()
    assert said.err == ""
    for flag in ("--markets", "--strategy", "--debug", "--json", "--count", "--duration"):
        assert flag in said.out
    if verb is None:
        assert all(f"    {name}" in said.out for name in VERBS)
        assert "DQUANTENV" in said.out
        assert "exit codes" in said.out
    else:
        assert VERBS[verb].split()[-1] in said.out


def test_verbs_that_are_not_there_yet_say_so_in_the_help() -> None:
    assert {verb for verb, words in VERBS.items() if "(not yet)" in words} == set(NOT_YET)
    assert arguments.DEFAULT_VERB in VERBS


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.sampled_from([*VERBS, "-m", "--json", "--count", "3", "--", "-x", "é\n"]) | st.text(max_size=5),
        max_size=5,
    )
)
def test_any_command_line_is_understood_or_refused(argv: list[str]) -> None:
    try:
        options = parse(argv)
    except SystemExit as exc:
        options, code = None, exc.code
        refused = code in (0, 2, None)
    else:
        refused = False
    assert refused or (isinstance(options, Namespace) and options.verb in VERBS)
