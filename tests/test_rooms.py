"""Which room may import which: read from the source of every module, nothing is executed.

The rooms and why they exist are in docs/development.md. A new room, or a new module beside the
rooms, is refused until it has a line in ``MAY_IMPORT``.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "dquant"

LEAVES = frozenset({"constants", "errors", "util"})
EVERYTHING = frozenset({"*"})

# Room, module beside the rooms, or single module -> what it may import of dquant, apart from its own room.
MAY_IMPORT: dict[str, frozenset[str]] = {
    "__init__": frozenset(),
    "constants": LEAVES,
    "errors": LEAVES,
    "util": LEAVES,
    "config": LEAVES | {"model"},
    "model": LEAVES,
    "markets": LEAVES | {"model"},
    "strategy": LEAVES | {"model"},
    "trading": LEAVES | {"model", "strategy"},
    "pipeline": LEAVES | {"model"},
    "simulator": LEAVES | {"model"},  # the other party: a second reading of the venues' guides
    "tape": LEAVES | {"model", "markets"},  # of markets the cores only, see NOT_FOR
    "arguments": LEAVES,
    "log": LEAVES,
    "output": LEAVES,
    "terminal": LEAVES,
    # Where the configuration comes in: the factory, and the monitor as a program of its own.
    "markets.market_factory": LEAVES | {"model", "config"},
    "pipeline.monitor_subscriber": LEAVES | {"model", "config", "output", "terminal"},
    "datafeed": LEAVES | {"model", "markets", "strategy", "pipeline"},
    "replay": LEAVES | {"model", "output", "strategy", "tape"},
    "entrypoint": EVERYTHING,
    "__main__": EVERYTHING,
}

CORES = r"markets\..*_(protocol|books|quotes|frames|rows|expiry)"
FACES = r"markets\.(.*_(ws|rest)|face|market|market_factory|transport)"

# Finer than rooms: importing module, imported module (both as patterns of the name below dquant), why.
NOT_FOR: list[tuple[str, str, str]] = [
    (r"tape\..*", FACES, "a tape drives the cores, not the faces"),
    (r"markets\.okex\..*", r"markets\.bitmex.*", "one venue knows nothing of another"),
    (r"markets\.bitmex\..*", r"markets\.okex.*", "one venue knows nothing of another"),
    (CORES, FACES, "a core knows no face"),
]

# What takes text, events and times as arguments and gives text and events back has no business with these.
PURE = rf"model\..*|strategy\..*|{CORES}"
IO = (
    r"aiohttp|asyncio|concurrent|http|multiprocessing|picows|redis|select|selectors|signal|socket|ssl|"
    r"subprocess|threading|time|urllib|uvloop|websockets"
)


def is_main_guard(node: ast.AST) -> bool:
    """Tell ``if __name__ == "__main__":``: what is under it is a program of its own, not the module."""
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


def imports(path: Path, module: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the absolute name of everything that one file imports, wherever in it."""
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    pending: list[ast.AST] = [ast.parse(path.read_text("utf-8"), str(path))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            # `from dquant.markets import market` may mean the module as well as a name of the package.
            yield from ((node.lineno, f"{source}.{alias.name}") for alias in node.names)
        elif not is_main_guard(node):
            pending.extend(ast.iter_child_nodes(node))


def violations(root: Path) -> list[str]:
    """Return one line, ``file:line: what is wrong``, for every import under ``root`` that no rule allows."""
    found = []
    for path in sorted((root / PACKAGE).rglob("*.py")):
        where = path.relative_to(root)
        parts = [part for part in where.with_suffix("").parts if part != "__init__"]
        module, below = ".".join(parts), ".".join(parts[1:])
        room = parts[1] if len(parts) > 1 else "__init__"
        if room not in MAY_IMPORT:
            found.append(
                f"{where}:1: no rule says what {room!r} may import: give it one in tests/test_rooms.py"
            )
            continue
        for line, name in sorted(set(imports(path, module))):
            if re.fullmatch(PURE, below) and re.fullmatch(IO, name.split(".")[0]):
                found.append(f"{where}:{line}: {below} is pure and may not import {name}")
            if name.split(".")[0] != PACKAGE or name == PACKAGE:
                continue
            target = name.removeprefix(f"{PACKAGE}.")
            allowed = MAY_IMPORT.get(below, MAY_IMPORT[room])
            if target.split(".")[0] not in allowed | {room, "__version__"} and allowed != EVERYTHING:
                found.append(f"{where}:{line}: {room} may not import {name}")
            found += [
                f"{where}:{line}: {below} may not import {name}: {why}"
                for importer, imported, why in NOT_FOR
                if re.fullmatch(importer, below) and re.fullmatch(rf"({imported})(\..*)?", target)
            ]
    return found


def test_rooms_import_only_what_they_may() -> None:
    found = violations(ROOT)
    assert not found, "\n" + "\n".join(found)


def test_there_are_modules_to_read() -> None:
    """An empty tree has no violations either."""
    rooms = {path.name for path in (ROOT / PACKAGE).iterdir() if path.is_dir()}
    assert {"markets", "model", "pipeline", "simulator", "strategy", "tape"} <= rooms


@pytest.mark.parametrize(
    ("path", "line", "wrong"),
    [
        ("model/book.py", "from dquant.markets.market import Market", "model may not import"),
        ("model/book.py", "import asyncio", "model.book is pure"),
        ("strategy/diff.py", "import dquant.pipeline.publisher", "strategy may not import"),
        ("strategy/diff.py", "from ..markets import market", "strategy may not import"),
        ("strategy/diff.py", "def f():\n    from dquant import simulator", "strategy may not import"),
        ("simulator/server.py", "from dquant.markets.okex import _okex_protocol", "simulator may not import"),
        ("pipeline/publisher.py", "from dquant.strategy import diff", "pipeline may not import"),
        ("tape/replayer.py", "from dquant.markets.okex import _okex_future_ws", "not the faces"),
        ("tape/replayer.py", "from dquant.markets.market import Market", "not the faces"),
        ("markets/okex/_okex_protocol.py", "import time", "is pure"),
        ("markets/okex/_okex_books.py", "import threading", "is pure"),
        ("markets/okex/_okex_protocol.py", "from dquant.markets.bitmex import x", "another"),
        ("markets/market.py", "from dquant.entrypoint import main", "markets may not import"),
        ("markets/market.py", "from dquant.config import cfg", "markets may not import"),
        ("errors.py", "from dquant.model import events", "errors may not import"),
        ("novelty.py", "", "no rule says"),
    ],
)
def test_a_planted_violation_is_found_at_its_line(tmp_path: Path, path: str, line: str, wrong: str) -> None:
    file = tmp_path / PACKAGE / path
    file.parent.mkdir(parents=True)
    file.write_text(f"{line}\n")
    [found] = violations(tmp_path)
    assert found.startswith(f"{PACKAGE}/{path}:{line.count(chr(10)) + 1}: ")
    assert wrong in found


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (
            "model/book.py",
            "from bisect import insort\nfrom dquant.errors import DquantError\nfrom . import events\n",
        ),
        ("tape/replayer.py", "from dquant.markets.okex._okex_protocol import OkexProtocol\n"),
        (
            "entrypoint.py",
            "import asyncio\nfrom dquant.simulator import server\nfrom dquant.markets import market\n",
        ),
        ("pipeline/x.py", "if __name__ == '__main__':\n    from dquant.entrypoint import main\n"),
    ],
)
def test_an_allowed_import_is_not_reported(tmp_path: Path, path: str, text: str) -> None:
    file = tmp_path / PACKAGE / path
    file.parent.mkdir(parents=True)
    file.write_text(text)
    assert violations(tmp_path) == []
