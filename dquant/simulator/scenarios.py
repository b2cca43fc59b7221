"""Scenario files: what goes wrong at the simulated venues, and when.

In: TOML, from a file of the operator's or one of those beside this module. Out: a ``Scenario``, checked as a
whole before anything is served, or a ``ConfigError`` naming file, key and what is allowed.
``player`` plays it.

    about  = "one line for the list"
    expect = "what a sound client does"
    start  = "2026-11-27T07:59:30Z"     # where the venues' clock starts, unless --start says (optional)

    [[step]]                            # one fault, at a time ...
    at_s  = 10                          # seconds of the venues' clock after the scenario began
    every_s = 30                        # again and again (optional), ``times`` at most
    venue = "okex"                      # okex or bitmex; without it both
    fault = "gap"                       # see ``injection``: every fault of the control door
    with  = { inst_id = "BTC-USD-SWAP", count = 2 }
    for_s = 5                           # lifted after so long on the venues' clock (optional)

    [[step]]                            # ... after an event ...
    after = "order_filled"              # see EVENTS
    nth   = 2                           # the second one since the scenario began (1)
    delay_s = 0.5

    [[step]]                            # ... or at a rate drawn from the seed
    per_minute = 4
    until_s = 600

``duration_s`` among a fault's own parameters is real time, as at the control door; everything else is the
venues' clock, so that a stepped clock repeats a scenario exactly.
"""

import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dquant.constants import NS_PER_MS, NS_PER_S
from dquant.errors import ConfigError
from dquant.simulator import injection
from dquant.simulator.ledger import KINDS as LEDGER_KINDS

VENUES = ("okex", "bitmex")
STEP_LIMIT = 1_000
FILE_LIMIT = 256 * 1024  # bytes
_FOLDER = Path(__file__).parent / "scenario_files"
_LONGEST_S = 366 * 86_400.0

# What a step may wait for: what the ledger writes, what venues tell as notes, and what clients do.
NOTES = ("expired", "listed", "preopen", "funding", "settlement")
DOINGS = {"connection": ("connections",), "subscribe": ("subscribe", "subscribes"), "rest": ("rest",)}
EVENTS = (*sorted(LEDGER_KINDS), *NOTES, *DOINGS)

_TOP_KEYS = ("about", "expect", "start", "step")
_TRIGGERS = ("at_s", "after", "per_minute")
_STEP_KEYS = (*_TRIGGERS, "every_s", "times", "nth", "delay_s", "until_s", "venue", "fault", "with", "for_s")
_BELONGS = {
    "every_s": "at_s",
    "times": "every_s",
    "nth": "after",
    "delay_s": "after",
    "until_s": "per_minute",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One fault and when it comes; times are ns of the venues' clock since the scenario began."""

    number: int  # from 1, as in the file
    venues: tuple[str, ...]
    fault: str
    params: dict[str, Any]
    for_ns: int | None = None
    at_ns: int | None = None
    every_ns: int | None = None
    times: int = 1
    after: str | None = None
    nth: int = 1
    delay_ns: int = 0
    per_minute: float | None = None
    until_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """A checked scenario; ``source`` is the file, ``start_ns`` virtual time or None."""

    name: str
    about: str
    expect: str
    steps: tuple[Step, ...]
    start_ns: int | None
    source: str


def shipped() -> list[Scenario]:
    """Return the scenarios that come with the simulator, by name."""
    return [_read(path) for path in sorted(_FOLDER.glob("*.toml"))]


def load(name: str) -> Scenario:
    """Return a shipped scenario by its name, or any by its file.

    Raises:
        ConfigError: There is none, or something in it is wrong.

    """
    path = _FOLDER / f"{name}.toml"
    if name.isidentifier() and path.is_file():
        return _read(path)
    path = Path(name)
    if not path.is_file():
        known = ", ".join(sorted(path.stem for path in _FOLDER.glob("*.toml")))
        raise ConfigError(f"there is no scenario and no file {name!r}; shipped: {known}", "--scenario")
    return _read(path)


def parse(text: str, name: str, source: str) -> Scenario:
    """Return the scenario that a TOML text describes.

    Raises:
        ConfigError: It is no TOML, or a key or value is wrong.

    """
    try:
        asked = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as exc:
        raise ConfigError(f"not TOML: {exc}", source) from exc
    reader = _Reader(source)
    reader.only(asked, _TOP_KEYS, "")
    steps = asked.get("step")
    if not isinstance(steps, list) or not 0 < len(steps) <= STEP_LIMIT:
        raise ConfigError(f"step: 1 to {STEP_LIMIT} tables [[step]] are due", source)
    return Scenario(
        name=name,
        about=reader.text(asked, "about", "", ""),
        expect=reader.text(asked, "expect", "", ""),
        steps=tuple(reader.step(number, step) for number, step in enumerate(steps, 1)),
        start_ns=reader.moment(asked, "start"),
        source=source,
    )


def catalogue() -> list[dict[str, Any]]:
    """Return what ``--list-scenarios`` says."""
    return [
        {
            "name": scenario.name,
            "about": scenario.about,
            "expect": scenario.expect,
            "venues": sorted({venue for step in scenario.steps for venue in step.venues}, reverse=True),
            "faults": list(dict.fromkeys(step.fault for step in scenario.steps)),
            "file": scenario.source,
        }
        for scenario in shipped()
    ]


def _read(path: Path) -> Scenario:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_LIMIT + 1)
        if len(data) > FILE_LIMIT:
            raise ConfigError(f"longer than {FILE_LIMIT} bytes", str(path))
        text = data.decode()
    except OSError as exc:
        raise ConfigError(f"cannot be read: {exc.strerror or exc}", str(path)) from exc
    except UnicodeDecodeError as exc:
        raise ConfigError("not TOML: not UTF-8", str(path)) from exc
    return parse(text, path.stem, str(path))


class _Reader:
    """Reads values and says what is wrong with them."""

    def __init__(self, source: str) -> None:
        self._source = source

    def step(self, number: int, asked: Any) -> Step:
        where = f"step {number}: "
        if not isinstance(asked, dict):
            raise self._wrong(f"{where}a table is due")
        self.only(asked, _STEP_KEYS, where)
        triggers = [key for key in _TRIGGERS if key in asked]
        if len(triggers) != 1:
            raise self._wrong(f"{where}exactly one of {', '.join(_TRIGGERS)} is due")
        for key, owner in _BELONGS.items():
            if key in asked and owner not in asked:
                raise self._wrong(f"{where}{key}: only beside {owner}")
        fault = self.text(asked, "fault", None, where)
        params = asked.get("with", {})
        if not isinstance(params, dict):
            raise self._wrong(f"{where}with: a table of the fault's own parameters is due")
        try:
            injection.check(fault, params)
        except ValueError as exc:
            raise self._wrong(f"{where}{exc}") from exc
        for_ns = self._time(asked, "for_s", where)
        per_minute = self._number(asked, "per_minute", 1e-3, 6e3, where)
        return Step(
            number=number,
            venues=self._venues(asked, where),
            fault=fault,
            params=params,
            for_ns=for_ns,
            at_ns=self._time(asked, "at_s", where),
            every_ns=self._time(asked, "every_s", where, least=0.01),
            times=self._whole(asked, "times", 1_000_000 if "every_s" in asked else 1, where),
            after=self._choice(asked, "after", EVENTS, where),
            nth=self._whole(asked, "nth", 1, where),
            delay_ns=self._time(asked, "delay_s", where) or 0,
            per_minute=per_minute,
            until_ns=self._time(asked, "until_s", where),
        )

    def only(self, asked: dict[str, Any], allowed: tuple[str, ...], where: str) -> None:
        for key in asked:
            if key not in allowed:
                raise self._wrong(f"{where}{key}: unknown key; allowed: {', '.join(allowed)}")

    def text(self, asked: dict[str, Any], key: str, default: str | None, where: str) -> str:
        value = asked.get(key, default)
        if not isinstance(value, str):
            raise self._wrong(f"{where}{key}: text is due, not {value!r}")
        return value

    def moment(self, asked: dict[str, Any], key: str) -> int | None:
        value = asked.get(key)
        if value is None:
            return None
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value)
            except ValueError as exc:
                raise self._wrong(f"{key}: an ISO 8601 time is due, not {value!r}") from exc
        if not isinstance(value, datetime):
            raise self._wrong(f"{key}: an ISO 8601 time is due, not {value!r}")
        if value.tzinfo is None:
            value = value.replace(tzinfo=UTC)
        if not 2000 <= value.year <= 2100:
            raise self._wrong(f"{key}: a year from 2000 to 2100 is due")
        return int(value.timestamp() * 1000) * NS_PER_MS

    def _venues(self, asked: dict[str, Any], where: str) -> tuple[str, ...]:
        venue = self._choice(asked, "venue", VENUES, where)
        return VENUES if venue is None else (venue,)

    def _choice(self, asked: dict[str, Any], key: str, allowed: tuple[str, ...], where: str) -> str | None:
        value = asked.get(key)
        if value is not None and value not in allowed:
            raise self._wrong(f"{where}{key}: one of {', '.join(allowed)} is due, not {value!r}")
        return value

    def _time(self, asked: dict[str, Any], key: str, where: str, least: float = 0.0) -> int | None:
        value = self._number(asked, key, least, _LONGEST_S, where)
        return None if value is None else int(value * NS_PER_S)

    def _number(self, asked: dict[str, Any], key: str, least: float, most: float, where: str) -> float | None:
        value = asked.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
            raise self._wrong(f"{where}{key}: a number from {least:g} to {most:g} is due, not {value!r}")
        return float(value)

    def _whole(self, asked: dict[str, Any], key: str, default: int, where: str) -> int:
        value = asked.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1_000_000:
            raise self._wrong(f"{where}{key}: a whole number from 1 to 1000000 is due, not {value!r}")
        return value

    def _wrong(self, what: str) -> ConfigError:
        return ConfigError(what, self._source)
