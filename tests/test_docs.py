"""The pages say what is so: their commands are run, and their tables are compared with the code."""

import configparser
import dataclasses
import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from dquant import config
from dquant.model import events
from dquant.simulator.faults import KINDS
from dquant.simulator.injection import DEEDS, ORDER_FAULTS

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(
    r"(?:^<!-- test: (?P<how>.+?) -->\n)?^```(?P<language>\w*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL
)
DEADLINE_S = 40


@dataclasses.dataclass(frozen=True)
class Command:
    """One command of a page, made ready to be run."""

    page: str
    line: int
    words: list[str]
    variables: dict[str, str]
    exit_code: int

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def commands_of(page: str, text: str) -> list[Command]:
    """Return the commands of the ``sh`` blocks of one page that are to be run."""
    found = []
    for block in FENCE.finditer(text):
        if block["language"] != "sh":
            assert not re.search(r"^\S*\s*bash cli\.sh", block["body"], re.MULTILINE), (
                "a command belongs in a sh block"
            )
            continue
        first = text.count("\n", 0, block.start("body")) + 1
        how, _, rest = (block["how"] or "").partition(" ")
        assert how in {"run", "insert", "append", "exit", "not"}, (
            f"{page}:{first}: how is this block to be tested?"
        )
        if how == "not":
            continue
        for line, command in enumerate(block["body"].splitlines(), first):
            words, variables = shlex.split(command), {}
            while "=" in words[0]:
                name, _, value = words.pop(0).partition("=")
                variables[name] = value
            assert words[:2] == ["bash", "cli.sh"], f"{page}:{line}: not a command of ours"
            inserted = shlex.split(rest) if how == "insert" else []
            appended = shlex.split(rest) if how == "append" else []
            exit_code = int(rest) if how == "exit" else 0
            found.append(Command(page, line, [*inserted, *words[2:], *appended], variables, exit_code))
    return found


COMMANDS = [command for page in PAGES for command in commands_of(page.name, page.read_text("utf-8"))]


def program() -> list[str]:
    """Return cli.sh where it made the environment of these tests, else what cli.sh would start.

    Without this, running one test by a hand-made environment would have cli.sh rebuild it.
    """
    if (Path(sys.prefix) / ".dquant-dev").exists() and Path(sys.prefix) == ROOT / ".venv":
        return ["bash", str(ROOT / "cli.sh")]
    return [sys.executable, "-P", "-m", "dquant"]


def run(
    words: list[str], log_dir: Path, variables: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one command of ours with a Redis address of its own, where nothing answers."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = str(unused.getsockname()[1])
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DQUANT")}
    own = {
        "PYTHONPATH": str(ROOT),
        "DQUANTENV": "dev",
        "DQUANT_REDIS_PORT": port,
        "DQUANT_LOG_DIR": str(log_dir),
    }
    return subprocess.run(
        [*program(), *words],
        env={**inherited, **own, **(variables or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


# --- commands -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_command_of_the_pages_does_what_it_should(command: Command, tmp_path: Path) -> None:
    done = run(command.words, tmp_path, command.variables)
    assert done.returncode == command.exit_code, done.stderr
    assert "Traceback" not in done.stderr
    if "--json" in command.words and "--help" not in command.words:
        records = [msgspec.json.decode(line, type=dict) for line in done.stdout.splitlines()]
        assert all(record["environment"] == "dev" for record in records)
        if "--count" in command.words:
            assert len(records) == int(command.words[command.words.index("--count") + 1])
    if command.exit_code == 2:
        assert len(done.stderr.strip().splitlines()) == 1
        assert done.stdout == ""


def test_the_two_commands_of_the_readme_are_there_and_ready_to_be_copied() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert "\nbash cli.sh -m okex_future_btcusd_thisweek,bitmex_future_btcusd -s diff watch\n" in text
    assert "\nbash cli.sh test\n" in text
    assert any("watch" in command.words and command.page == "README.md" for command in COMMANDS)


def test_a_block_without_a_word_on_how_to_test_it_is_an_error() -> None:
    with pytest.raises(AssertionError, match=r"x\.md:2: how is this block"):
        commands_of("x.md", "```sh\nbash cli.sh markets\n```\n")


def test_commands_are_read_with_variables_and_additions() -> None:
    text = "words\n\n<!-- test: insert --duration 1 -->\n```sh\nA=b bash cli.sh -s diff watch\n```\n"
    assert commands_of("x.md", text) == [
        Command("x.md", 5, ["--duration", "1", "-s", "diff", "watch"], {"A": "b"}, 0)
    ]


# --- tables -------------------------------------------------------------------------------------------


def section(text: str, heading: str) -> str:
    found = re.search(rf"^(#+) {re.escape(heading)}\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"no section {heading!r}"
    return found[2]


def rows(text: str) -> list[list[str]]:
    """Return the cells of every table row under its heading row, whose first cell is code."""
    table = re.findall(r"^\| (`.*) \|$", text, re.MULTILINE)
    return [[cell.strip() for cell in row.split(" |")] for row in table]


def code(cell: str) -> str:
    return cell.strip().removeprefix("`").removesuffix("`")


def test_the_table_of_verbs_has_the_verbs_of_the_help(tmp_path: Path) -> None:
    table = {code(row[0]) for row in rows(section((ROOT / "README.md").read_text("utf-8"), "Verbs"))}
    text = run(["--help"], tmp_path).stdout
    listed = re.search(r"\{([a-z,]+)\}", text)
    helped = (
        set(listed[1].split(","))
        if listed
        else set(re.findall(r"^ {2,6}([a-z]+) {2,}\S", text, re.MULTILINE))
    )
    assert table == helped


@pytest.mark.parametrize("verb", ["exec", "rexec", "record", "backtest"])
def test_verbs_that_are_not_there_yet_say_so(verb: str, tmp_path: Path) -> None:
    done = run([verb], tmp_path)
    assert done.returncode == 2
    assert re.search(rf"\b{verb}\b.* not .*yet", done.stderr)
    assert "Traceback" not in done.stderr


RECORDS = {
    "Price": events.Price,
    "Depth": events.Depth,
    "Trade": events.TradeRecord,
    "Health": events.Health,
    "Difference": events.Difference,
}


@pytest.mark.parametrize("name", RECORDS)
def test_the_page_of_formats_has_every_field_in_order(name: str) -> None:
    text = section((ROOT / "docs" / "formats.md").read_text("utf-8"), name)
    fields = [field.encode_name for field in msgspec.structs.fields(RECORDS[name])]
    assert [code(row[0]) for row in rows(text) if len(row) == 3] == fields
    example = re.search(r"```json\n(.*?)\n```", text, re.DOTALL)
    assert example
    assert list(msgspec.json.decode(example[1], type=dict)) == fields
    msgspec.json.decode(example[1], type=RECORDS[name])


def test_the_page_of_configuration_has_every_key_with_its_unit_and_values() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    files = {}
    for environment in ("dev", "pro"):
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(ROOT / "config" / f"{environment}.cfg", "utf-8")
        files[environment] = {name: value for part in parser.sections() for name, value in parser.items(part)}

    said = {
        code(row[0]): [name, row[1], *map(code, row[2:5]), row[5]]
        for name in re.findall(r"^### \[(\w+)\]$", text, re.MULTILINE)
        for row in rows(section(text, f"[{name}]"))
    }
    known = {
        name: [
            spec.section,
            spec.unit,
            spec.default,
            files["dev"].get(name, ""),
            files["pro"].get(name, ""),
            spec.help + ("; *secret*" if spec.is_secret else ""),
        ]
        for name, spec in config.KEYS.items()
    }
    assert said == known


CHOOSING = (
    "account",
    "inst_id",
    "side",
    "nth",
    "count",
)  # which order: the page says it once, above the table


def test_the_page_of_the_simulator_has_every_fault_with_its_parameters() -> None:
    text = (ROOT / "docs" / "simulator.md").read_text("utf-8")
    said = {
        heading: {
            code(row[0]): (tuple(re.findall(r"`(\w+)`", row[1])), *row[2:])
            for row in rows(section(text, heading))
        }
        for heading in ("Faults of the wire", "Faults of orders", "What the exchange does")
    }
    assert said == {
        "Faults of the wire": {
            kind.name: (kind.params, kind.explanation, "once" if kind.one_shot else "lasts")
            for kind in KINDS.values()
        },
        "Faults of orders": {
            kind.name: (tuple(name for name in kind.params if name not in CHOOSING), kind.explanation)
            for kind in ORDER_FAULTS.values()
        },
        "What the exchange does": {kind.name: (kind.params, kind.explanation) for kind in DEEDS.values()},
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target
