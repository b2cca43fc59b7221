"""Makes the two environments of the benchmarks on first use, under ``.tools/bench-*``.

Peers of Python 3.11 and of 3.13 cannot share one, and dquant is measured beside each of them on
the same interpreter. An interpreter that is not on this machine is reported, never downloaded.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".tools"
HERE = Path(__file__).resolve().parent
VERSIONS = {"py311": "3.11", "py313": "3.13"}
INSTALL_S = 600


class EnvironmentMissing(Exception):
    """This part of the benchmarks cannot run here; the message says why."""


def environment(name: str) -> Path:
    """Return the interpreter of environment ``name`` (``py311``, ``py313``), made if need be."""
    requirements = HERE / f"requirements-{name}.txt"
    overrides = HERE / "overrides.txt"
    own = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    wanted = "\n".join((requirements.read_text(), *own, overrides.read_text()))
    stamp = hashlib.sha256(wanted.encode()).hexdigest()
    folder = TOOLS / f"bench-{name}"
    python = folder / "bin" / "python"
    if (folder / "stamp").is_file() and (folder / "stamp").read_text() == stamp and python.exists():
        return python
    uv, base = _uv(), _interpreter(VERSIONS[name])
    print(f"making {folder.relative_to(ROOT)} (once, about a minute)", file=sys.stderr, flush=True)
    all_wanted = TOOLS / f"bench-{name}.txt"
    all_wanted.write_text(wanted)
    _run([uv, "venv", "-q", "--clear", "--python", base, str(folder)])
    _run(
        [
            uv,
            "pip",
            "install",
            "-q",
            "--python",
            str(python),
            "--override",
            str(overrides),
            "-r",
            str(all_wanted),
        ]
    )
    (folder / "stamp").write_text(stamp)
    return python


def _run(command: list[str]) -> None:
    settings = os.environ | {"UV_NATIVE_TLS": "1"}
    done = subprocess.run(
        command, env=settings, capture_output=True, text=True, timeout=INSTALL_S, check=False
    )
    if done.returncode:
        raise EnvironmentMissing(f"{Path(command[0]).name} {command[1]}: {done.stderr.strip()[-600:]}")


def _uv() -> str:
    """Return a uv: the user's, the one that ``cli.sh`` fetched, or one fetched now."""
    for found in (shutil.which("uv"), *sorted(map(str, TOOLS.glob("*/bin/uv")))):
        if found:
            return found
    target = TOOLS / "bench-uv"
    python = getattr(sys, "_base_executable", None) or sys.executable
    _run([python, "-m", "pip", "install", "-q", "--target", str(target), "uv"])
    return str(target / "bin" / "uv")


def _interpreter(version: str) -> str:
    """Return a Python of this version that is on the machine: on the path, under pyenv, or known to uv."""
    under_pyenv = sorted(
        Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(f"versions/{version}*/bin/python")
    )
    for found in (shutil.which(f"python{version}"), *map(str, under_pyenv)):
        if found and _says(found, "import sys; print('%d.%d' % sys.version_info[:2])") == version:
            return found
    known = subprocess.run(
        [_uv(), "python", "find", "--no-python-downloads", version],
        capture_output=True,
        text=True,
        check=False,
    )
    if known.returncode == 0:
        return known.stdout.strip()
    raise EnvironmentMissing(f"no Python {version} on this machine")


def _says(python: str, code: str) -> str:
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    return done.stdout.strip()


def versions(python: Path, packages: tuple[str, ...]) -> dict[str, str]:
    """Return the version of each package installed beside ``python``, and of Python itself."""
    code = (
        "import importlib.metadata as m, platform\nprint('Python', platform.python_version())\n"
        f"for n in {packages!r}:\n try: print(n, m.version(n))\n except m.PackageNotFoundError: pass"
    )
    return dict(line.split(" ", 1) for line in _says(str(python), code).splitlines())
