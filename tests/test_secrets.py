"""Secrets appear in no log, repr, traceback, argument or child's environment, whatever is run."""

import contextlib
import json
import logging
import signal
import socket
import subprocess
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dquant.config import KEYS, MyConfiguration
from dquant.pipeline.redis_link import RedisSettings

SECRETS = {name: f"s3cret-{name}-hunter2" for name, spec in KEYS.items() if spec.is_secret}
MARK = b"hunter2"
DEADLINE_S = 30.0

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture(params=["variables", "file"])
def secrets(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """Return the variables that hand over every secret: themselves, or the name of a private file."""
    if request.param == "variables":
        return {f"DQUANT_{name.upper()}": value for name, value in SECRETS.items()}
    path = tmp_path / "secrets"
    path.touch(0o600)
    sections: dict[str, list[str]] = {}
    for name, value in SECRETS.items():
        sections.setdefault(KEYS[name].section, []).append(f"{name} = {value}")
    path.write_text("".join(f"[{name}]\n" + "\n".join(lines) + "\n" for name, lines in sections.items()))
    return {"DQUANT_SECRETS_FILE": str(path)}


def family(pid: int) -> Iterator[Path]:
    """Yield the folder under /proc of every descendant of a process."""
    for path in Path("/proc").iterdir():
        with contextlib.suppress(OSError, IndexError):
            if (
                path.name.isdigit()
                and int(path.joinpath("stat").read_text().rsplit(")", 1)[1].split()[1]) == pid
            ):
                yield path
                yield from family(int(path.name))


def look_over(process: "subprocess.Popen[bytes]", fewest: int) -> None:
    """Hold arguments of the whole family, and the environment of the descendants, to be free of secrets."""
    children = list(family(process.pid))
    assert len(children) >= fewest, "the children that this is about were not seen"
    assert MARK not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
    for child in children:
        with contextlib.suppress(FileNotFoundError):
            words = child.joinpath("cmdline").read_bytes()
            assert MARK not in words
            environment = child.joinpath("environ").read_bytes()
            assert MARK not in environment, words
            assert b"DQUANT_SECRETS_FILE" not in environment


def look_through(tmp_path: Path, out: bytes, err: bytes, *, has_log: bool = True) -> None:
    """Hold output and logs to be free of secrets."""
    assert MARK not in out
    assert MARK not in err
    assert b"Traceback" not in err
    logs = list((tmp_path / "log").glob("*"))
    assert bool(logs) == has_log
    for path in logs:
        assert MARK not in path.read_bytes()


def test_the_secrets_reach_the_configuration(secrets: dict[str, str]) -> None:
    """Without this, the tests below would look for what is not there."""
    cfg = MyConfiguration("dev", secrets)
    assert {name: getattr(cfg, name) for name in SECRETS} == SECRETS
    assert all(MARK.decode() in value for value in SECRETS.values())
    assert {"okex_api_secret", "bitmex_api_secret", "redis_password"} <= set(SECRETS)


def test_watch_at_its_most_talkative_says_no_secret(
    start_dquant: Start, tmp_path: Path, secrets: dict[str, str]
) -> None:
    process = start_dquant("-d", "-m", "okex_swap_btcusd", "-s", "ticker", "--json", "watch", env=secrets)
    assert process.stdout is not None
    first = process.stdout.readline()
    assert first, process.communicate(timeout=DEADLINE_S)
    assert json.loads(first)["market"] == "okex_swap_btcusd"
    look_over(process, 1)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0
    assert b"DEBUG" in err, "it was not talkative"
    look_through(tmp_path, first + out, err)


def test_feed_with_a_server_of_its_own_says_no_secret(
    start_dquant: Start, tmp_path: Path, secrets: dict[str, str]
) -> None:
    process = start_dquant("-d", "-m", "okex_swap_btcusd", "feed", env=secrets)
    assert process.stdout is not None
    first = process.stdout.readline()
    assert first.startswith(b"feeding "), process.communicate(timeout=DEADLINE_S)
    look_over(process, 2)  # the simulated venues and the Redis, which wants the password
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0
    look_through(tmp_path, first + out, err)


@pytest.mark.parametrize("verb", ["feed", "monitor"])
def test_a_redis_that_is_not_there_is_said_without_the_password(
    start_dquant: Start, tmp_path: Path, verb: str
) -> None:
    with socket.socket() as held:  # bound, but nobody listens
        held.bind(("127.0.0.1", 0))
        url = f"redis://user:{SECRETS['redis_password']}@127.0.0.1:{held.getsockname()[1]}/0"
        process = start_dquant("-d", verb, env={"DQUANTENV": "pro", "DQUANT_REDIS_URL": url})
        out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert len(err.splitlines()) == 1
    look_through(tmp_path, out, err)


@pytest.mark.parametrize(
    "variables",
    [
        {"DQUANT_REDIS_URL": "http://user:hunter2@host"},
        {"DQUANT_REDIS_URL": "redis://user:hunter2@host:port/0"},
        {"DQUANT_OKEX_SECRET": "hunter2"},
        {"DQUANT_OKEX_API_SECRETS": "hunter2"},
    ],
    ids=lambda variables: next(iter(variables)),
)
def test_a_mistake_beside_a_secret_is_said_without_it(
    start_dquant: Start, tmp_path: Path, variables: dict[str, str]
) -> None:
    process = start_dquant("-d", "feed", env=variables)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 2
    assert len(err.splitlines()) == 1
    assert next(iter(variables)).encode() in err
    look_through(tmp_path, out, err, has_log=False)


def test_markets_and_replay_say_no_secret(
    start_dquant: Start, tmp_path: Path, secrets: dict[str, str]
) -> None:
    for words in (["markets"], ["replay", str(tmp_path / "none")]):
        process = start_dquant("-d", *words, env=secrets)
        out, err = process.communicate(timeout=DEADLINE_S)
        look_through(tmp_path, out, err, has_log=False)


def test_reprs_tracebacks_and_records_that_hold_the_configuration_hold_no_secret(
    secrets: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    cfg = MyConfiguration("dev", secrets)
    redis = RedisSettings.from_config(cfg)
    assert redis.password == SECRETS["redis_password"]

    def fail(cfg: MyConfiguration, redis: RedisSettings) -> None:
        raise RuntimeError("failed", cfg, redis)

    try:
        fail(cfg, redis)
    except RuntimeError as exc:
        logging.getLogger("test").exception("with %s and %r and %s", cfg, redis, redis.address)
        # With the locals of the function, as some handlers show them.
        stack = traceback.StackSummary.extract(
            list(traceback.walk_tb(exc.__traceback__))[1:], capture_locals=True
        )
    assert "Traceback" in caplog.text
    shown = "".join(stack.format())
    assert "cfg = MyConfiguration" in shown
    for text in (repr(cfg), str(cfg), repr(redis), str(redis), redis.address, caplog.text, shown):
        assert MARK.decode() not in text
