"""Scenario files: what is read, what is refused with which words, and when their faults come."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dquant.errors import ConfigError
from dquant.simulator import injection, scenarios
from dquant.simulator.exchange_faults import ExchangeFaults
from dquant.simulator.faults import FaultBoard
from dquant.simulator.ledger import Ledger
from dquant.simulator.player import ScenarioPlayer
from dquant.simulator.process import addresses, keys_of

S = 1_000_000_000
BEGAN = 1_795_305_600 * S


class FakeExchange:
    def __init__(self) -> None:
        self.ledger, self.faults = Ledger(), ExchangeFaults()


class FakeVenue:
    """What a player asks of a venue."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.faults = FaultBoard()
        self.counters: Counter[str] = Counter()
        self.exchange = FakeExchange()


class Stage:
    """A player over two fake venues, and what it told."""

    def __init__(self, toml: str, seed: int = 1) -> None:
        self.venues: dict[str, Any] = {name: FakeVenue(name) for name in ("okex", "bitmex")}
        self.notes: list[dict[str, Any]] = []
        scenario = scenarios.parse(toml, "mine", "mine.toml")
        self.player = ScenarioPlayer(scenario, self.venues, BEGAN, seed, self.notes.append)

    def play(self, seconds: float) -> None:
        now = BEGAN + int(seconds * S)
        self.player.play(now, now)

    def told(self) -> list[tuple[float, str, str]]:
        return [((note["ts"] - BEGAN) / S, note["venue"], note["fault"]) for note in self.notes]

    def board(self, venue: str = "okex") -> list[str]:
        return injection.in_effect(self.venues[venue], 0)


def test_a_fault_comes_at_its_time_and_is_lifted_after_so_long():
    stage = Stage('[[step]]\nat_s = 2\nvenue = "okex"\nfault = "silent"\nfor_s = 3')
    seen = []
    for second in range(8):
        stage.play(second)
        seen.append(stage.board())
    assert seen == [[], [], ["silent"], ["silent"], ["silent"], [], [], []]
    assert stage.player.is_over


def test_a_step_without_a_venue_comes_at_both():
    stage = Stage('[[step]]\nat_s = 1\nfault = "drop"')
    stage.play(1)
    assert stage.told() == [(1.0, "okex", "drop"), (1.0, "bitmex", "drop")]


def test_a_repeated_step_comes_as_often_as_it_says():
    stage = Stage('[[step]]\nat_s = 1\nevery_s = 2\ntimes = 3\nvenue = "okex"\nfault = "gap"')
    for tenth in range(200):
        stage.play(tenth / 10)
    assert stage.told() == [(1.0, "okex", "gap"), (3.0, "okex", "gap"), (5.0, "okex", "gap")]
    assert stage.player.is_over


def test_a_step_waits_for_what_clients_do():
    stage = Stage('[[step]]\nafter = "connection"\nnth = 2\ndelay_s = 0.5\nvenue = "okex"\nfault = "freeze"')
    stage.venues["bitmex"].counters["connections"] += 5  # not here
    stage.play(1)
    stage.venues["okex"].counters["connections"] += 1
    stage.play(2)
    assert stage.told() == []
    stage.venues["okex"].counters["connections"] += 1
    stage.play(3)
    stage.play(3.4)
    assert stage.told() == []
    stage.play(3.5)
    assert stage.told() == [(3.5, "okex", "freeze")]


def test_what_happened_before_the_scenario_began_does_not_count():
    venue = FakeVenue("okex")
    venue.counters["rest"] = 7
    toml = '[[step]]\nafter = "rest"\nvenue = "okex"\nfault = "drop"'
    player = ScenarioPlayer(scenarios.parse(toml, "m", "m"), {"okex": venue}, BEGAN, 1, lambda _note: None)  # type: ignore[dict-item]
    player.play(BEGAN, BEGAN)
    assert venue.faults.injected == 0
    venue.counters["rest"] += 1
    player.play(BEGAN + S, BEGAN + S)
    assert venue.faults.injected == 1


def test_a_step_waits_for_a_note_of_its_venue():
    stage = Stage('[[step]]\nafter = "expired"\nvenue = "okex"\nfault = "unlisted"')
    stage.player.see({"event": "expired", "venue": "bitmex"})
    stage.play(1)
    assert stage.told() == []
    stage.player.see({"event": "expired", "venue": "okex"})
    stage.play(2)
    assert stage.told() == [(2.0, "okex", "unlisted")]


def test_rates_are_the_seeds_own_and_about_as_often_as_asked():
    toml = '[[step]]\nper_minute = 6\nuntil_s = 600\nfault = "gap"'
    told = []
    for seed in (1, 1, 2):
        stage = Stage(toml, seed)
        for second in range(700):
            stage.play(second)
        told.append(stage.told())
    assert told[0] == told[1] != told[2]
    assert 80 < len(told[0]) < 160  # both venues, 120 is the mean
    assert {venue for _, venue, _ in told[0]} == {"okex", "bitmex"}
    assert max(at for at, _, _ in told[0]) <= 600


def test_an_order_fault_waits_at_the_exchange():
    stage = Stage(
        '[[step]]\nat_s = 0\nvenue = "bitmex"\nfault = "partial"\nwith = { share = 0.25, side = "buy" }'
    )
    stage.play(0)
    (fault,) = stage.venues["bitmex"].exchange.faults.waiting()
    assert (fault.kind, str(fault.share), fault.side) == ("partial", "0.25", 0)


def test_stopping_lifts_what_it_did_and_nothing_else():
    stage = Stage(
        '[[step]]\nat_s = 0\nvenue = "okex"\nfault = "silent"\n'
        '[[step]]\nat_s = 0\nvenue = "okex"\nfault = "ack_lost"'
    )
    stage.venues["okex"].faults.inject("slow", {}, 0)
    stage.play(0)
    assert stage.board() == ["slow", "silent", "ack_lost"]
    stage.player.stop()
    assert stage.board() == ["slow"]
    assert stage.player.is_over


def test_lifting_one_fault_leaves_its_twin():
    venue = FakeVenue("okex")
    first = injection.inject(venue, "silent", {}, 0)  # type: ignore[arg-type]
    injection.inject(venue, "silent", {}, 0)  # type: ignore[arg-type]
    assert first.lift()
    assert not first.lift()
    assert len(venue.faults.active(0)) == 1


# Reading


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("x = 1\n", "x: unknown key; allowed: about, expect, start, step"),
        ("", r"step: 1 to 1000 tables \[\[step\]\] are due"),
        ("step = 3", "step: 1 to 1000"),
        ("step = [3]", "step 1: a table is due"),
        ("about = 5\n[[step]]\nat_s=1\nfault='gap'", "about: text is due, not 5"),
        ("start = 'noon'\n[[step]]\nat_s=1\nfault='gap'", "start: an ISO 8601 time is due"),
        ("[[step]]\nfault='gap'", "step 1: exactly one of at_s, after, per_minute is due"),
        ("[[step]]\nat_s=1\nper_minute=1\nfault='gap'", "exactly one of"),
        ("[[step]]\nat_s=1", "step 1: fault: text is due"),
        ("[[step]]\nat_s=1\nfault='explode'", "step 1: fault must be one of ack_late, .*, not 'explode'"),
        ("[[step]]\nat_s=1\nfault='gap'\nwith={side='buy'}", "'gap' takes inst_id, count, not 'side'"),
        ("[[step]]\nat_s=1\nfault='gap'\nwith=3", "with: a table"),
        (
            "[[step]]\nat_s=1\nfault='reject'\nwith={why='mood'}",
            "why of fault 'reject' must be one of .*margin",
        ),
        (
            "[[step]]\nat_s=1\nfault='partial'\nwith={share=2}",
            "share of fault 'partial' must be a number from 0 to 1",
        ),
        ("[[step]]\nat_s=1\nfault='timeout'\nwith={done=1}", "done of fault 'timeout' must be true or false"),
        ("[[step]]\nat_s=-1\nfault='gap'", "at_s: a number from 0"),
        ("[[step]]\nat_s=nan\nfault='gap'", "at_s: a number from 0"),
        ("[[step]]\nat_s=true\nfault='gap'", "at_s: a number from 0"),
        ("[[step]]\nat_s=1\nfault='gap'\nvenue='kraken'", "venue: one of okex, bitmex is due, not 'kraken'"),
        ("[[step]]\nat_s=1\nfault='gap'\nnth=2", "nth: only beside after"),
        ("[[step]]\nat_s=1\nfault='gap'\ntimes=2", "times: only beside every_s"),
        ("[[step]]\nafter='dawn'\nfault='gap'", "after: one of .*order_filled.* is due, not 'dawn'"),
        ("[[step]]\nafter='rest'\nnth=0\nfault='gap'", "nth: a whole number from 1"),
        ("[[step]]\nat_s=1\nfault='gap'\nspeed=1", "step 1: speed: unknown key; allowed: at_s"),
        ("[[step", "not TOML"),
    ],
)
def test_a_mistake_is_one_line_that_names_file_key_and_what_is_allowed(toml: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        scenarios.parse(toml, "mine", "mine.toml")
    assert str(caught.value).startswith("mine.toml: ")
    assert "\n" not in str(caught.value)


def test_every_shipped_scenario_is_sound_and_explained() -> None:
    found = scenarios.shipped()
    assert len(found) >= 25
    for scenario in found:
        assert scenario.about, scenario.name
        assert scenario.expect, scenario.name
        assert scenario.name.isidentifier()


def test_shipped_scenarios_end_nothing_by_real_time() -> None:
    """A stepped clock would not repeat it."""
    steps = [step for scenario in scenarios.shipped() for step in scenario.steps]
    assert [step for step in steps if "duration_s" in step.params] == []


def test_every_fault_of_the_simulator_is_in_a_shipped_scenario() -> None:
    played = {step.fault for scenario in scenarios.shipped() for step in scenario.steps}
    assert set(injection.names()) - played <= {"refuse"}


def test_a_file_of_ones_own_is_read_by_its_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("start = 2026-11-27T07:59:30Z\n[[step]]\nat_s = 1\nfault = 'gap'")
    scenario = scenarios.load(str(file))
    assert (scenario.name, scenario.start_ns) == ("mine", 1_795_766_370 * S)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        scenarios.load(str(file))
    file.write_bytes(b"#" * (scenarios.FILE_LIMIT + 1))
    with pytest.raises(ConfigError, match="longer than"):
        scenarios.load(str(file))


def test_simulate_lists_the_scenarios(here: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = here("simulate", "--list-scenarios", "--json")
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert {line["name"] for line in lines} == {scenario.name for scenario in scenarios.shipped()}
    assert all(line["about"] and line["faults"] for line in lines)
    _, page, _ = here("simulate", "--list-scenarios")
    assert all(line["about"] in page for line in lines)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--scenario", "nope"], "there is no scenario and no file 'nope'; shipped: "),
        (["--accounts", "0"], "--accounts: 0 is not above 0"),
        (["--accounts", "101"], "--accounts must be 1 to"),
    ],
)
def test_what_simulate_does_not_know_is_a_usage_error(
    arguments: list[str], words: str, here: Callable[..., tuple[int, str, str]]
) -> None:
    code, _, said = here("simulate", *arguments)
    assert code == 2
    assert words in said
    assert said.count("\n") == 1


def test_more_accounts_have_keys_of_their_own_and_leave_the_first_line_as_it_is() -> None:
    one, three = (addresses(lambda name: f"http://127.0.0.1:1/{name}", count) for count in (1, 3))
    assert {key: three[key] for key in one} == one
    assert "accounts" not in one
    keys = [(account["okex"]["apiKey"], account["bitmex"]["apiKey"]) for account in three["accounts"]]
    assert len(set(keys)) == 3
    assert three["accounts"][0] == {"name": "main", **one["keys"]}
    assert three["accounts"][2]["okex"] == keys_of(3)["okex"]
