"""Runs dquant as a program, in an environment that holds nothing of the tester's."""

import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dquant.entrypoint import main

ROOT = Path(__file__).resolve().parents[1]
RUN_DEADLINE_S = 30.0

# Behind ``&`` or ``nohup`` these are ignored, and what the tests start would inherit that.
for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)

Start = Callable[..., "subprocess.Popen[bytes]"]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
Here = Callable[..., tuple[int, str, str]]


def variables_for(log_dir: Path, more: dict[str, str]) -> dict[str, str]:
    """Return an environment of the few things a program needs, and a Redis address where nothing answers."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = str(unused.getsockname()[1])
    return {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(log_dir),
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "error",
        "DQUANTENV": "dev",
        "DQUANT_REDIS_PORT": port,
        "DQUANT_LOG_DIR": str(log_dir),
        **more,
    }


@pytest.fixture
def start_dquant(tmp_path: Path) -> Iterator[Start]:
    """Start ``python -m dquant WORDS``; keywords go to ``Popen``. What still runs afterwards is killed."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*words: str, env: dict[str, str] | None = None, **more: object) -> "subprocess.Popen[bytes]":
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process: subprocess.Popen[bytes] = subprocess.Popen(
            [sys.executable, "-P", "-m", "dquant", *words],
            env=variables_for(tmp_path / "log", env or {}),
            cwd=tmp_path,
            **{**pipes, **more},  # type: ignore[call-overload]
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def run_dquant(start_dquant: Start) -> Run:
    """Run ``python -m dquant WORDS`` to its end."""

    def run(*words: str, env: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
        process = start_dquant(*words, env=env)
        out, err = process.communicate(timeout=RUN_DEADLINE_S)
        return subprocess.CompletedProcess(words, process.returncode, out.decode(), err.decode())

    return run


@pytest.fixture
def restored_log() -> Iterator[None]:
    """Leave the logger of the project as it was: what a test sets up writes to that test's own streams."""
    logger = logging.getLogger("dquant")
    handlers, level, propagate = list(logger.handlers), logger.level, logger.propagate
    yield
    for handler in logger.handlers:
        if handler not in handlers:
            handler.close()
    logger.handlers, logger.level, logger.propagate = handlers, level, propagate


@pytest.fixture
def here(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, restored_log: None
) -> Here:
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
