"""Other people's clients on a simulated pair: one pair a test process, one environment a kind of client."""

import json
import os
import subprocess
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dquant.simulator.child import SimulatedChild, start_child
from dquant.simulator.process import SimulateOptions
from tests.conformance.environments import NAMES, EnvironmentMissing, environment

CLIENTS = Path(__file__).resolve().parent / "clients"
SEED = 20261122
DEADLINE_S = 90  # a client of five seconds on a machine that does ten other things


@dataclass
class Seen:
    """What a client said it saw, by call."""

    values: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    errors: dict[str, list[dict[str, str]]] = field(default_factory=lambda: defaultdict(list))

    def __getitem__(self, call: str) -> Any:
        """Return the last answer of a call that must not have failed."""
        assert not self.errors.get(call), f"{call}: {self.errors[call]}"
        assert self.values.get(call), f"{call} said nothing"
        return self.values[call][-1]

    def all(self, call: str) -> list[Any]:
        """Return every answer of a call that must not have failed."""
        assert self[call] is not None
        return self.values[call]


@dataclass(frozen=True)
class Pair:
    """The simulated venues and their control door."""

    child: SimulatedChild

    def where(self, venue: str) -> dict[str, Any]:
        """Return what a client is told: addresses and keys of one venue."""
        return {"venue": venue, **self.child.addresses[venue], "keys": self.child.addresses["keys"][venue]}

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Ask the control door."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.child.control + path, data)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def truth(self, venue: str) -> dict[str, Any]:
        """Return the true tops of book of one venue."""
        return self.ask("/state")["venues"][venue]["truth"]


Run = Callable[..., Seen]


@pytest.fixture(scope="session")
def pair() -> Iterator[Pair]:
    """A simulated pair with a fixed seed, on the real clock: clients sign with theirs.

    So a test names no contract that will expire, and holds at every hour, Friday 08:00 to 08:10 UTC too.
    """
    child = start_child(SimulateOptions(seed=SEED))
    yield Pair(child)
    child.stop()


@pytest.fixture(scope="session")
def interpreters() -> dict[str, Path | str]:
    """Make every environment once; what cannot be made is the reason."""
    found: dict[str, Path | str] = {}
    for name in NAMES:
        try:
            found[name] = environment(name)
        except EnvironmentMissing as exc:
            found[name] = str(exc)
    return found


@pytest.fixture
def python_of(interpreters: dict[str, Path | str]) -> Callable[[str], Path]:
    """Return the interpreter of an environment; no environment is no test.

    In CI there must be one: a skip there would say that clients work which nobody tried.
    """

    def find(name: str) -> Path:
        python = interpreters[name]
        if isinstance(python, Path):
            return python
        reason = f"no environment for {name}: {python}"
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(reason)
        pytest.skip(reason)

    return find


@pytest.fixture
def run(pair: Pair, python_of: Callable[[str], Path]) -> Run:
    """Run a client script on one venue to its end and return what it saw."""

    def run_client(name: str, script: str, venue: str, **more: Any) -> Seen:
        python = python_of(name)
        done = subprocess.run(
            [str(python), str(CLIENTS / f"{script}.py"), json.dumps({**pair.where(venue), **more})],
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
            env={
                "PATH": os.environ.get("PATH", ""),
                "HOME": os.environ.get("HOME", "/"),
                "LC_ALL": "C.UTF-8",
            },
        )
        assert done.returncode == 0, f"{script} on {venue}: {done.stderr[-3000:]}"
        seen = Seen()
        for line in done.stdout.splitlines():
            said = json.loads(line)
            if "error" in said:
                seen.errors[said["call"]].append(said)
            else:
                seen.values[said["call"]].append(said["value"])
        return seen

    return run_client
