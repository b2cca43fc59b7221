"""Makes the environments that other people's clients run in, on first use, under ``.tools/conformance-*``.

In: the name of an environment. Out: its interpreter. Each is what ``requirements-NAME.lock`` beside this
page pins, by hash and without addresses; ``requirements-NAME.in`` says what was asked for, and
docs/development.md how the one is made from the other. A finished environment carries a stamp (lock file
and interpreter) and costs one hash from then on. Several test processes may ask at once: the first one
makes it, the others wait.

- ``okex``: today's ccxt, OKX's own SDK, and a client that makes sure of its orders
- ``bitmex``: the last ccxt that knows BitMEX, which stalls on aiohttp 3.14.4 and later, and BitMEX's own
  websocket client
- ``maker``: BitMEX's market maker, which wants a websocket-client of its time
- ``cryptofeed``: the last release that knows BitMEX, and the last that runs on Python 3.11; its sources are
  built here once, which wants a C compiler
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOOLS = HERE.parents[1] / ".tools"
NAMES = ("okex", "bitmex", "maker", "cryptofeed")
INSTALL_S = 150
_ONLY_ON = {"cryptofeed": "3.11"}


class EnvironmentMissing(Exception):
    """These clients cannot be had here; the message says why."""


def environment(name: str) -> Path:
    """Return the interpreter of an environment, made if need be.

    Raises:
        EnvironmentMissing: No package index can be reached, or there is no Python for it.

    """
    lock = HERE / f"requirements-{name}.lock"
    base = _interpreter(_ONLY_ON.get(name))
    stamp = hashlib.sha256(lock.read_bytes() + os.fsencode(Path(base).resolve())).hexdigest()
    folder = TOOLS / f"conformance-{name}"
    python = folder / "bin" / "python"
    if _is_ready(folder, python, stamp):
        return python
    TOOLS.mkdir(exist_ok=True)
    with _alone(TOOLS / f"conformance-{name}.lock"):
        if not _is_ready(folder, python, stamp):
            uv, settings = _uv(), _settings()
            _run([uv, "venv", "-q", "--clear", "--python", base, str(folder)], settings)
            _run([uv, "pip", "sync", "-q", "--require-hashes", "--python", str(python), str(lock)], settings)
            (folder / "stamp").write_text(stamp)
    return python


def _is_ready(folder: Path, python: Path, stamp: str) -> bool:
    mark = folder / "stamp"
    return python.exists() and mark.is_file() and mark.read_text() == stamp


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(command: list[str], settings: dict[str, str]) -> None:
    what = f"{Path(command[0]).name} {command[1]}"
    try:
        done = subprocess.run(
            command, env=settings, capture_output=True, text=True, timeout=INSTALL_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise EnvironmentMissing(f"{what}: not done in {INSTALL_S} s") from None
    if done.returncode:
        raise EnvironmentMissing(f"{what}: {done.stderr.strip()[-600:]}")


def _settings() -> dict[str, str]:
    """Return our variables with what pip is told, which uv must be told by other names."""
    settings = os.environ | {"UV_NATIVE_TLS": "1", "UV_SYSTEM_CERTS": "1", "UV_PYTHON_DOWNLOADS": "never"}
    settings.pop("VIRTUAL_ENV", None)
    settings.setdefault("CFLAGS", "-O0")  # cryptofeed is built from source: a test wants it soon, not fast
    config = subprocess.run(
        [_base_python(), "-m", "pip", "config", "list"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    ).stdout
    names = {
        "index-url": "UV_DEFAULT_INDEX",
        "trusted-host": "UV_INSECURE_HOST",
        "proxy": "HTTPS_PROXY",
        "cert": "SSL_CERT_FILE",
    }
    for section in ("global", "install", ":env:"):
        for key, value in re.findall(rf"^{section}\.([a-z-]+)='(.*)'$", config, re.MULTILINE):
            if key in names and names[key] not in os.environ:
                settings[names[key]] = value.replace("\\n", " ")
    return settings


def _uv() -> str:
    """Return a uv: the user's, the one that ``cli.sh`` fetched, or one fetched now."""
    for found in (shutil.which("uv"), *sorted(map(str, TOOLS.glob("*/bin/uv")))):
        if found:
            return found
    target = TOOLS / "conformance-uv"
    with _alone(TOOLS / "conformance-uv.lock"):
        if not (target / "bin" / "uv").exists():
            _run(
                [_base_python(), "-m", "pip", "install", "-q", "--target", str(target), "uv"], {**os.environ}
            )
    return str(target / "bin" / "uv")


def _base_python() -> str:
    return str(getattr(sys, "_base_executable", None) or sys.executable)


def _interpreter(version: str | None) -> str:
    """Return the Python that these tests stand on, or one of the version asked for."""
    if version is None or version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return _base_python()
    under_pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(
        f"versions/{version}*/bin/python"
    )
    for found in (shutil.which(f"python{version}"), *map(str, sorted(under_pyenv))):
        # A name may be there and still not run (a pyenv shim): only an answer counts.
        if found and _says(found) == version:
            return found
    raise EnvironmentMissing(f"no Python {version} on this machine")


def _says(python: str) -> str:
    done = subprocess.run(
        [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.stdout.strip()
