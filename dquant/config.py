"""Configuration: ``config/<environment>.cfg``, overridden by ``DQUANT_<KEY>`` variables.

``cfg`` is the configuration of this process: ``DQUANTENV`` names the environment (``dev``
unless set), and every key is an attribute with the type and unit that ``KEYS`` gives it.
A secret comes only from its variable or from ``secrets_file``, a file of mode 0600.
"""

import configparser
import datetime
import difflib
import ipaddress
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dquant.errors import ConfigError

ENVIRONMENTS = ("dev", "pro")
CONFIG_DIR = Path(__file__).resolve().parent.parent / "config"
VARIABLE_PREFIX = "DQUANT_"


def _text(text: str) -> str:
    return text


def _path(text: str) -> str:
    """a path, not empty"""
    if not text:
        raise ValueError
    return text


def _host(text: str) -> str:
    """a name or an address, without port and scheme"""
    if not re.fullmatch(r"[^\s:/@,\[\]]+", text):
        ipaddress.IPv6Address(text)
    return text


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise ValueError
        return value

    parse.__doc__ = f"a whole number from {low} to {high}"
    return parse


def _decimal(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = float(text)
        if not low <= value <= high:
            raise ValueError
        return value

    parse.__doc__ = f"a number from {low:g} to {high:g}"
    return parse


def _choice(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError
        return text

    parse.__doc__ = f"one of {', '.join(allowed)}"
    return parse


def _switch(text: str) -> bool:
    """yes or no"""
    states = configparser.ConfigParser.BOOLEAN_STATES
    if text.lower() not in states:
        raise ValueError
    return states[text.lower()]


def _address(*schemes: str) -> Callable[[str], str]:
    with_host = rf"({'|'.join(map(re.escape, schemes))})://[^\s/]\S*"
    pattern = re.compile(rf"{with_host}|unix:///\S+" if "unix" in schemes else with_host)

    def parse(text: str) -> str:
        if text and not pattern.fullmatch(text):
            raise ValueError
        return text

    parse.__doc__ = f"empty, or an address starting with {' or '.join(f'{scheme}://' for scheme in schemes)}"
    return parse


def _moment(text: str) -> str:
    """empty, or a UTC time such as 2026-09-23T04:00:00Z"""
    if text:
        datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z")  # "Z" is a zone to it
        if not re.fullmatch(r"[0-9]{4}(-[0-9]{2}){2}T([0-9]{2}:){2}[0-9]{2}Z", text):
            raise ValueError
    return text


@dataclass(frozen=True, slots=True)
class KeySpec:
    """One key: where it stands in the file, how its text is read, and what it means."""

    section: str
    parse: Callable[[str], Any]
    default: str
    unit: str
    help: str
    is_secret: bool = False


_REDIS_SCHEMES = (
    "redis",
    "rediss",
    "unix",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
)

KEYS: dict[str, KeySpec] = {
    "markets": KeySpec("main", _names, "", "names", "markets when -m is not given, comma-separated"),
    "strategy": KeySpec("main", _text, "diff", "name", "strategy when -s is not given"),
    "log_level": KeySpec(
        "main",
        _choice("debug", "info", "warning", "error"),
        "info",
        "level",
        "least level that is logged: debug, info, warning, error",
    ),
    "log_dir": KeySpec("main", _path, "var/log", "path", "folder of the log files, relative to the checkout"),
    "switch_interval_us": KeySpec(
        "main",
        _integer(5, 100_000),
        "100",
        "µs",
        "how long one thread may keep the Python interpreter from the others",
    ),
    "secrets_file": KeySpec(
        "main", _text, "", "path", "file of mode 0600 with secret keys, in the same format"
    ),
    "simulated_venues": KeySpec(
        "simulator", _switch, "no", "yes or no", "simulate the exchanges that have no address"
    ),
    "simulator_seed": KeySpec(
        "simulator", _integer(0, 2**63 - 1), "7", "number", "the same seed gives the same simulated prices"
    ),
    "okex_rest_url": KeySpec(
        "okex", _address("http", "https"), "", "address", "REST address of OKX, without /api/v5"
    ),
    "okex_ws_url": KeySpec(
        "okex", _address("ws", "wss"), "", "address", "websocket address of OKX, ending in /ws/v5"
    ),
    "okex_closed_at": KeySpec(
        "okex", _moment, "", "UTC time", "when the exchange closed for good; empty: it is open"
    ),
    "okex_use_instead": KeySpec(
        "okex", _text, "", "market name", "market that the error names in place of a closed one"
    ),
    "okex_api_key": KeySpec("okex", _text, "", "key", "API key", is_secret=True),
    "okex_api_secret": KeySpec("okex", _text, "", "key", "API secret", is_secret=True),
    "okex_passphrase": KeySpec("okex", _text, "", "key", "API passphrase", is_secret=True),
    "bitmex_rest_url": KeySpec(
        "bitmex", _address("http", "https"), "", "address", "REST address of BitMEX, ending in /api/v1"
    ),
    "bitmex_ws_url": KeySpec(
        "bitmex", _address("ws", "wss"), "", "address", "websocket address of BitMEX, ending in /realtime"
    ),
    "bitmex_closed_at": KeySpec(
        "bitmex", _moment, "", "UTC time", "when the exchange closed for good; empty: it is open"
    ),
    "bitmex_use_instead": KeySpec(
        "bitmex", _text, "", "market name", "market that the error names in place of a closed one"
    ),
    "bitmex_api_key": KeySpec("bitmex", _text, "", "key", "API key", is_secret=True),
    "bitmex_api_secret": KeySpec("bitmex", _text, "", "key", "API secret", is_secret=True),
    "transport": KeySpec(
        "connection",
        _choice("auto", "picows", "websockets"),
        "auto",
        "name",
        "websocket library: picows, websockets, or auto for picows where it is installed",
    ),
    "connect_timeout_s": KeySpec(
        "connection", _decimal(0.1, 120), "10", "s", "deadline of opening a connection"
    ),
    "rest_timeout_s": KeySpec("connection", _decimal(0.1, 120), "10", "s", "deadline of a REST request"),
    "reconnect_base_s": KeySpec(
        "connection",
        _decimal(0.01, 60),
        "0.5",
        "s",
        "longest wait before the first retry; doubled for each further one",
    ),
    "reconnect_ceiling_s": KeySpec(
        "connection", _decimal(0.1, 600), "30", "s", "longest wait before any retry"
    ),
    "book_silence_s": KeySpec(
        "connection", _decimal(0, 3600), "10", "s", "silence of one book that makes it stale; 0: never"
    ),
    "book_lag_s": KeySpec(
        "connection",
        _decimal(0, 3600),
        "3",
        "s",
        "how much later than usual a book's messages may come before it is stale; 0: never",
    ),
    "depth_levels": KeySpec(
        "feed", _integer(0, 400), "20", "levels", "levels a side that feed publishes; 0: no depth"
    ),
    "depth_interval_ms": KeySpec(
        "feed", _integer(10, 60_000), "250", "ms", "least time between two depths of a market"
    ),
    "redis_host": KeySpec("redis", _host, "127.0.0.1", "host", "Redis server"),
    "redis_port": KeySpec("redis", _integer(1, 65535), "6379", "port", "Redis server"),
    "redis_url": KeySpec(
        "redis",
        _address(*_REDIS_SCHEMES),
        "",
        "address",
        "address in place of host and port: TLS, Sentinel, Cluster",
    ),
    "redis_db": KeySpec("redis", _integer(0, 65535), "0", "number", "database number"),
    "redis_user": KeySpec("redis", _text, "", "name", "ACL user"),
    "redis_password": KeySpec("redis", _text, "", "key", "password of the user", is_secret=True),
    "redis_streams": KeySpec("redis", _switch, "no", "yes or no", "keep records in bounded streams as well"),
    "redis_stream_length": KeySpec(
        "redis", _integer(1, 10_000_000), "10000", "records", "about how many records a stream keeps"
    ),
}

# An address may carry a user and a password.
URL_KEYS = frozenset(name for name in KEYS if name.endswith("_url"))


class MyConfiguration:
    """The keys of one environment.

    Args:
        environment: ``dev`` or ``pro``; ``None`` reads ``DQUANTENV``.
        variables: The process environment; only names of ours are read.
        directory: Where the ``.cfg`` files are.

    Raises:
        ConfigError: Unknown environment, file, section or key, or a value that is not allowed.

    """

    def __init__(
        self,
        environment: str | None = None,
        variables: Mapping[str, str] | None = None,
        directory: Path = CONFIG_DIR,
    ) -> None:
        variables = os.environ if variables is None else variables
        self.environment = environment or variables.get("DQUANTENV") or "dev"
        if self.environment not in ENVIRONMENTS:
            raise ConfigError(
                f"environment {self.environment!r} is not known; allowed: {', '.join(ENVIRONMENTS)}",
                "DQUANTENV",
            )
        self.path = directory / f"{self.environment}.cfg"
        texts: dict[str, tuple[str, str]] = {name: (spec.default, "default") for name, spec in KEYS.items()}
        texts.update(_read_file(self.path, is_secret_file=False))
        from_variables = _read_variables(variables)
        secrets_file, secrets_source = from_variables.get("secrets_file", texts["secrets_file"])
        if secrets_file:
            texts.update(_read_secrets(Path(os.path.expanduser(secrets_file)), secrets_source))
        texts.update(from_variables)
        self._values = {name: _value_of(name, text, source) for name, (text, source) in texts.items()}
        self._sources = {name: source for name, (_, source) in texts.items()}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in KEYS:
            raise AttributeError(name)
        return self._values[name]

    def source_of(self, name: str) -> str:
        """Return where a key's value came from: a file, a variable, or ``default``."""
        return self._sources[name]

    @property
    def is_simulated(self) -> bool:
        """Whether what is shown is to be marked as simulated."""
        return self.environment == "dev"

    def __repr__(self) -> str:
        return f"MyConfiguration({self.environment!r}, {str(self.path)!r})"


def _read_file(path: Path, *, is_secret_file: bool) -> dict[str, tuple[str, str]]:
    # [DEFAULT] would speak for every section; here it is one that nobody knows.
    parser = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=None, default_section="")
    try:
        with path.open(encoding="utf-8-sig") as file:
            parser.read_file(file)
    except OSError as exc:
        raise ConfigError(f"cannot be read: {exc.strerror}", str(path)) from exc
    except (configparser.Error, UnicodeDecodeError) as exc:
        raise ConfigError(_what_is_no_ini(exc), str(path)) from None
    found: dict[str, tuple[str, str]] = {}
    sections = sorted({spec.section for spec in KEYS.values()})
    for section in parser.sections():
        if section not in sections:
            allowed = ", ".join(f"[{name}]" for name in sections)
            raise ConfigError(f"[{section}] is not a known section; allowed: {allowed}", str(path))
        for name, text in parser.items(section):
            spec = KEYS.get(name)
            if spec is None:
                raise ConfigError(f"[{section}] {name} is not a known key{_nearest(name)}", str(path))
            if (spec.is_secret or (name in URL_KEYS and "@" in text)) and not is_secret_file:
                what = "is a secret" if spec.is_secret else "holds a password"
                raise ConfigError(
                    f"{name} {what}: set {VARIABLE_PREFIX}{name.upper()} or put it into secrets_file",
                    str(path),
                )
            if spec.section != section:
                raise ConfigError(f"{name} belongs to [{spec.section}], not [{section}]", str(path))
            if "\0" in text:
                raise ConfigError(f"{name} holds a NUL character; allowed: text", str(path))
            found[name] = (text.strip(), str(path))
    return found


def _what_is_no_ini(exc: configparser.Error | UnicodeDecodeError) -> str:
    """Say what is wrong; the parser's own words quote the line, which may hold a secret."""
    if isinstance(exc, configparser.DuplicateOptionError):
        return f"[{exc.section}] {exc.option} stands there twice, again at line {exc.lineno}"
    if isinstance(exc, configparser.DuplicateSectionError):
        return f"[{exc.section}] stands there twice, again at line {exc.lineno}"
    if isinstance(exc, configparser.MissingSectionHeaderError):
        return f"line {exc.lineno} stands before the first [section]"
    if isinstance(exc, configparser.ParsingError):
        return f"line {exc.errors[0][0]} is neither [section] nor key = value"
    if isinstance(exc, UnicodeDecodeError):
        return "is not text in UTF-8"
    return f"is not an INI file ({type(exc).__name__})"


def _read_variables(variables: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    found = {}
    for variable, text in variables.items():
        if not variable.startswith(VARIABLE_PREFIX):
            continue
        name = variable.removeprefix(VARIABLE_PREFIX).lower()
        if name not in KEYS:
            raise ConfigError(f"{name} is not a known key{_nearest(name)}", variable)
        found[name] = (text.strip(), variable)
    return found


def _read_secrets(path: Path, source: str) -> dict[str, tuple[str, str]]:
    try:
        mode = path.stat().st_mode
    except OSError as exc:
        raise ConfigError(f"secrets_file {str(path)!r}: {exc.strerror}", source) from exc
    if not stat.S_ISREG(mode):
        raise ConfigError(f"secrets_file {str(path)!r} is not a file", source)
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigError(f"others can read it; do: chmod 600 {path}", f"secrets_file {path}")
    return _read_file(path, is_secret_file=True)


def _value_of(name: str, text: str, source: str) -> Any:
    spec = KEYS[name]
    try:
        return spec.parse(text)
    except ValueError:
        shown = "its value" if spec.is_secret or "@" in text else repr(text)
        allowed = (spec.parse.__doc__ or "text").strip()
        unit = "" if spec.unit in allowed else f" ({spec.unit})"
        raise ConfigError(f"{name}: {shown} is not allowed; allowed: {allowed}{unit}", source) from None


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name, KEYS, n=1)
    return f"; did you mean {near[0]}?" if near else "; docs/configuration.md lists them"


_loaded: MyConfiguration | None = None


def __getattr__(name: str) -> Any:
    # ``cfg`` is read on first use, so that importing a module never fails on a bad file.
    global _loaded
    if name != "cfg":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _loaded is None:
        _loaded = MyConfiguration()
    return _loaded
