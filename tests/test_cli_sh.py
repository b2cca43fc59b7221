"""cli.sh, run for real in small checkouts of its own.

The environment of such a checkout is made by stand-ins for uv and pip that write down
how they were called, so that these tests need no network; one test at the end makes a
real environment from the real lock files. The stand-in for ``dquant`` prints what it sees.
"""

import dataclasses
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-uv.lock")
DEADLINE_S = 30

STAND_IN = """
import json, os, signal, sys, time
arguments = sys.argv[1:]
print(json.dumps({"arguments": arguments, "cwd": os.getcwd(), "pid": os.getpid(), "path": sys.path,
                  "DQUANTENV": os.environ["DQUANTENV"], "PYTHONPATH": os.environ["PYTHONPATH"]}))
if arguments[:1] == ["exit"]:
    sys.exit(int(arguments[1]))
if arguments[:1] == ["wait"]:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(71))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(72))
    print("waiting", flush=True)
    time.sleep(60)
"""

# A python3 that answers for pip itself and is otherwise the interpreter of the tests.
PYTHON = """#!/usr/bin/env bash
log() {{ echo "$*" >>"$STAND_IN_LOG"; }}
if [[ $1 == -m && $2 == pip ]]; then
    shift 2
    if [[ $1 == --version ]]; then exit "${{PIP_ABSENT:-0}}"; fi
    if [[ $1 == config ]]; then echo "$PIP_CONFIG"; exit 0; fi
    log "pip $*"
    exit "${{PIP_FAILS:-0}}"
fi
if [[ $1 == -c && $2 == *ensurepip* ]]; then
    [[ -z ${{VENV_ABSENT:-}} || -e $STAND_IN_LOG.apt ]]
    exit
fi
if [[ $1 == -m && $2 == venv && $3 == --clear ]]; then  # the environment that brings pip
    mkdir -p "$4/bin" && cp "$0" "$4/bin/python" && log "pip from ensurepip"
    sed -i 's/PIP_ABSENT:-0/NOTHING:-0/' "$4/bin/python"
    exit 0
fi
exec {python} "$@"
"""

UV = """#!/usr/bin/env bash
echo "uv $1 ${{*:2}} index=${{UV_DEFAULT_INDEX:-}}" >>"$STAND_IN_LOG"
[[ -z ${{UV_FAILS:-}} ]] || exit 1
if [[ $1 == venv ]]; then exec {python} -m venv --without-pip "${{@: -1}}"; fi
if [[ $1 == pip ]]; then
    # As the real one: it says that it was interrupted, and is not killed by it. It sleeps in the background
    # because a signal in the moment in which bash starts a command reaches neither of the two.
    trap '[[ -z ${{asleep:-}} ]] || kill "$asleep" 2>/dev/null; exit 130' INT
    if [[ -n ${{UV_SLOW:-}} ]]; then
        sleep "$UV_SLOW" &
        asleep=$!
        touch "$STAND_IN_LOG.installing"
        wait "$asleep"
    fi
    exit "${{UV_SYNC_FAILS:-0}}"
fi
"""

# What ruff, mypy and pytest are for these checkouts: they say what they were asked.
TOOL = """
import os, sys
print("ran", "{name}", *sys.argv[1:], flush=True)
sys.exit(int(os.environ.get("{name}_exit", 0)))
"""


def write_executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@dataclasses.dataclass
class Checkout:
    """A directory that looks like a clone, and a PATH with nothing on it but what cli.sh may need."""

    root: Path
    bin: Path
    log: Path

    def environment(self, **variables: str) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
        return {**kept, "PATH": str(self.bin), "STAND_IN_LOG": str(self.log), "PIP_CONFIG": "", **variables}

    def start(
        self, *arguments: str, cwd: Path | None = None, cli: Path | None = None, **variables: str
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", str(cli or self.root / "cli.sh"), *arguments],
            cwd=cwd or self.root,
            env=self.environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(
        self, *arguments: str, cwd: Path | None = None, cli: Path | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        with self.start(*arguments, cwd=cwd, cli=cli, **variables) as process:
            out, err = process.communicate(timeout=DEADLINE_S)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def calls(self, beginning: str) -> list[str]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in lines if line.startswith(beginning)]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """Give a fresh clone, before its first use."""
    root, tools = tmp_path / "a clone", tmp_path / "bin"
    (root / "dquant").mkdir(parents=True)
    shutil.copy(ROOT / "cli.sh", root)
    for name in LOCKS:
        (root / name).write_text("# nothing\n")
    (root / "dquant" / "__init__.py").touch()
    (root / "dquant" / "__main__.py").write_text(STAND_IN)
    for name in ("ruff", "mypy", "pytest"):
        (root / f"{name}.py").write_text(TOOL.format(name=name))
    tools.mkdir()
    needed = (
        "bash",
        "cat",
        "cp",
        "env",
        "flock",
        "mkdir",
        "mv",
        "readlink",
        "rm",
        "sed",
        "sha256sum",
        "sleep",
        "touch",
    )
    for name in needed:
        found = shutil.which(name)
        assert found is not None
        (tools / name).symlink_to(found)
    write_executable(tools / "python3", PYTHON.format(python=sys.executable))
    pinned = hashlib.sha256(b"# nothing\n").hexdigest()[:12]
    write_executable(root / ".tools" / f"uv-{pinned}" / "bin" / "uv", UV.format(python=sys.executable))
    return Checkout(root, tools, tmp_path / "calls")


@pytest.fixture
def ready(checkout: Checkout) -> Checkout:
    """Give a clone whose environment is finished."""
    assert checkout.run().returncode == 0
    return checkout


def read_line_until(process: subprocess.Popen[str], wanted: str) -> None:
    assert process.stdout is not None
    while (line := process.stdout.readline()) and line.strip() != wanted:
        pass
    assert line, "ended before it said so"


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait until a condition holds, while a process runs; its end is the deadline."""
    while not condition():
        try:
            process.wait(0.02)
        except subprocess.TimeoutExpired:
            continue
        pytest.fail("ended before the condition held")


# --- what passes through ------------------------------------------------------------------------------


def test_arguments_and_exit_code_pass_through(ready: Checkout) -> None:
    done = ready.run("exit", "7", "two words", "")
    assert done.returncode == 7
    assert json.loads(done.stdout)["arguments"] == ["exit", "7", "two words", ""]
    assert done.stderr == ""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 71), (signal.SIGINT, 72)])
def test_signals_reach_the_program_which_is_the_same_process(
    ready: Checkout, number: signal.Signals, code: int
) -> None:
    with ready.start("wait") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["pid"] == process.pid
        read_line_until(process, "waiting")
        process.send_signal(number)
        process.communicate(timeout=DEADLINE_S)
    assert process.returncode == code


def test_the_users_directory_stays_and_its_files_are_not_taken_for_modules(
    ready: Checkout, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    (elsewhere / "json.py").write_text("raise SystemExit('taken from the wrong directory')")
    (elsewhere / "dquant").mkdir()
    link = tmp_path / "link to cli"
    link.symlink_to(ready.root / "cli.sh")
    directory_link = tmp_path / "link to clone"
    directory_link.symlink_to(ready.root)
    for cli in (ready.root / "cli.sh", link, directory_link / "cli.sh", Path("../a clone/cli.sh")):
        done = ready.run(cwd=elsewhere, cli=cli)
        assert done.returncode == 0, done.stderr
        seen = json.loads(done.stdout)
        assert seen["cwd"] == str(elsewhere)
        assert seen["path"][0] == str(ready.root)


def test_environment_is_dev_unless_set(ready: Checkout) -> None:
    assert json.loads(ready.run().stdout)["DQUANTENV"] == "dev"
    assert json.loads(ready.run(DQUANTENV="pro").stdout)["DQUANTENV"] == "pro"


def test_the_users_pythonpath_comes_after_the_checkout(ready: Checkout) -> None:
    assert json.loads(ready.run(PYTHONPATH="/x").stdout)["PYTHONPATH"] == f"{ready.root}:/x"


# --- first use ----------------------------------------------------------------------------------------


def test_first_use_makes_the_environment_and_says_so_on_standard_error(checkout: Checkout) -> None:
    done = checkout.run("exit", "0")
    assert done.returncode == 0
    assert "first use" in done.stderr
    assert "ready after" in done.stderr
    assert len(done.stdout.splitlines()) == 1
    [sync] = checkout.calls("uv pip sync")
    assert "--require-hashes" in sync
    assert "requirements.lock" in sync


def test_a_ready_environment_asks_no_python_and_installs_nothing(ready: Checkout) -> None:
    ready.log.unlink()
    (ready.bin / "python3").unlink()
    done = ready.run()
    assert (done.returncode, done.stderr) == (0, "")
    assert not ready.log.exists()


def test_the_second_of_two_first_starts_waits_says_so_and_installs_nothing(checkout: Checkout) -> None:
    with checkout.start(UV_SLOW="1") as first:
        wait_for(lambda: checkout.log.with_suffix(".installing").exists(), first)
        second = checkout.run()
        first.communicate(timeout=DEADLINE_S)
    assert (first.returncode, second.returncode) == (0, 0)
    assert "waiting for it" in second.stderr
    assert len(checkout.calls("uv pip sync")) == 1


def test_a_first_run_killed_half_way_is_made_anew(checkout: Checkout) -> None:
    with checkout.start(UV_SLOW="50") as process:
        wait_for(lambda: checkout.log.with_suffix(".installing").exists(), process)
        os.killpg(process.pid, signal.SIGKILL)
    half = checkout.root / ".venv" / "half-written"
    half.touch()
    done = checkout.run()
    assert done.returncode == 0, done.stderr
    assert not half.exists()
    assert len(checkout.calls("uv venv")) == 2
    assert checkout.run().stderr == ""


def test_an_interrupted_first_run_starts_nothing_more(checkout: Checkout) -> None:
    with checkout.start(UV_SLOW="50") as process:
        wait_for(lambda: checkout.log.with_suffix(".installing").exists(), process)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode in {130, -signal.SIGINT}
    assert out == ""
    assert "with pip" not in err


def test_a_changed_lock_file_is_installed_into_the_same_environment(ready: Checkout) -> None:
    kept = ready.root / ".venv" / "kept"
    kept.touch()
    (ready.root / "requirements.lock").write_text("# another\n")
    done = ready.run()
    assert done.returncode == 0
    assert "up to date" in done.stderr
    assert kept.exists()
    assert len(ready.calls("uv pip sync")) == 2


def test_an_interrupted_update_is_not_ready_for_the_lock_file_before_it_either(ready: Checkout) -> None:
    """Back on the old commit the old lock file counts again, and what is installed is half the new one."""
    before = (ready.root / "requirements.lock").read_text()
    (ready.root / "requirements.lock").write_text("# another\n")
    with ready.start(UV_SLOW="50") as process:
        wait_for(lambda: ready.log.with_suffix(".installing").exists(), process)
        os.killpg(process.pid, signal.SIGKILL)
    (ready.root / "requirements.lock").write_text(before)
    assert "making the environment" in ready.run().stderr


def test_a_verb_starts_while_the_tools_of_the_tests_are_being_installed(ready: Checkout) -> None:
    with ready.start("test", UV_SLOW="50") as process:
        wait_for(lambda: ready.log.with_suffix(".installing").exists(), process)
        done = ready.run("exit", "0")
        os.killpg(process.pid, signal.SIGKILL)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_environment_whose_python_went_away_is_made_anew(ready: Checkout) -> None:
    (ready.root / ".venv" / "bin" / "python").unlink()
    assert ready.run().returncode == 0
    assert len(ready.calls("uv venv")) == 2


def test_pip_takes_over_where_uv_does_not_run(checkout: Checkout) -> None:
    done = checkout.run(UV_FAILS="1")
    assert done.returncode == 0, done.stderr
    assert "with pip" in done.stderr
    [install] = checkout.calls("pip --python")
    assert "--require-hashes" in install


def test_a_failed_install_says_so_and_the_next_start_tries_again(checkout: Checkout) -> None:
    failed = checkout.run(UV_SYNC_FAILS="2", PIP_FAILS="1")
    assert failed.returncode == 1
    assert "could not install the packages of requirements.lock" in failed.stderr
    assert failed.stdout == ""
    assert checkout.run().returncode == 0


def test_the_index_that_pip_is_configured_with_is_given_to_uv(checkout: Checkout) -> None:
    config = "global.index-url='scheme://mirror/simple'\nglobal.timeout='9'"
    assert checkout.run(PIP_CONFIG=config).returncode == 0
    assert checkout.calls("uv pip sync")[0].endswith("index=scheme://mirror/simple")


# --- what is missing ----------------------------------------------------------------------------------


def test_a_python_too_old_is_one_clear_message(checkout: Checkout) -> None:
    write_executable(checkout.bin / "python3", "#!/usr/bin/env bash\necho False 3.9.2\n")
    write_executable(checkout.bin / "python3.12", "#!/usr/bin/env bash\nexit 127\n")
    done = checkout.run()
    assert done.returncode == 2
    assert done.stdout == ""
    assert "needs Python 3.11 or newer, and here python3 is 3.9.2" in done.stderr


def test_a_newer_python_beside_an_old_one_is_taken(checkout: Checkout) -> None:
    (checkout.bin / "python3").rename(checkout.bin / "python3.12")
    write_executable(checkout.bin / "python3", "#!/usr/bin/env bash\necho False 3.9.2\n")
    assert checkout.run().returncode == 0


def test_no_python_at_all_is_one_clear_message(checkout: Checkout) -> None:
    (checkout.bin / "python3").unlink()
    done = checkout.run()
    assert done.returncode == 2
    assert "there is no python3 here" in done.stderr
    assert "apt-get install python3" in done.stderr


def test_neither_pip_nor_venv_names_the_command_to_type(checkout: Checkout) -> None:
    done = checkout.run(PIP_ABSENT="1", VENV_ABSENT="1")
    assert done.returncode == 2
    assert re.search(r"apt-get install python3\S*-venv", done.stderr)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has its missing package installed")
def test_root_has_the_missing_package_installed_and_is_told_so(checkout: Checkout) -> None:
    write_executable(
        checkout.bin / "apt-get", '#!/usr/bin/env bash\necho "apt-get $*" | tee -a "$STAND_IN_LOG.apt"\n'
    )
    (checkout.bin / "tee").symlink_to(shutil.which("tee") or "tee")
    done = checkout.run("exit", "0", PIP_ABSENT="1", VENV_ABSENT="1")
    assert done.returncode == 0, done.stderr
    assert re.search(r"installing python3\S*-venv with apt-get", done.stderr)
    assert "apt-get" not in done.stdout
    assert checkout.calls("pip from ensurepip")


def test_a_directory_that_cannot_be_written_is_one_clear_message(checkout: Checkout) -> None:
    shutil.rmtree(checkout.root / ".tools")
    (checkout.root / ".tools").write_text("in the way")
    done = checkout.run()
    assert done.returncode == 2
    assert [
        line for line in done.stderr.splitlines() if "cannot write to" in line
    ] == done.stderr.splitlines()


def test_an_environment_on_the_private_python_of_another_is_one_clear_message(ready: Checkout) -> None:
    """Its owner has started it: to let him start it once more would help nobody."""
    shutil.rmtree(ready.root / ".tools")
    (ready.root / ".tools").write_text("in the way")
    python = ready.root / ".venv/bin/python"
    python.unlink()
    python.symlink_to("/root/.pyenv/versions/none/bin/python")
    done = ready.run()
    assert done.returncode == 2
    assert "stands on /root/.pyenv/versions/none/bin/python, which you cannot run" in done.stderr
    assert "owner" not in done.stderr


def test_help_of_test_needs_no_environment(checkout: Checkout) -> None:
    done = checkout.run("test", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "pytest arguments" in done.stdout
    assert not (checkout.root / ".venv").exists()


# --- the verb test ------------------------------------------------------------------------------------


def ran(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line.removeprefix("ran ") for line in done.stdout.splitlines() if line.startswith("ran ")]


def test_test_runs_every_check_and_then_the_suite(ready: Checkout) -> None:
    done = ready.run("test")
    assert done.returncode == 0
    assert ran(done) == ["ruff check .", "ruff format --check .", "mypy", "pytest -n 4"]
    assert "requirements-dev.lock" in ready.calls("uv pip sync")[-1]
    assert ready.run().stderr == ""  # the environment of the product is still ready


def test_arguments_of_test_go_to_pytest(ready: Checkout) -> None:
    assert ran(ready.run("test", "-k", "one two"))[-1] == "pytest -k one two"


def test_the_exit_code_of_test_is_that_of_the_first_failure(ready: Checkout) -> None:
    done = ready.run("test", mypy_exit="3", pytest_exit="5")
    assert done.returncode == 3
    assert len(ran(done)) == 4
    assert "failed: mypy,pytest" in done.stderr
    assert ready.run("test", pytest_exit="5").returncode == 5
    assert ready.run("test", ruff_exit="4", mypy_exit="3").returncode == 4


def test_what_failed_in_the_suite_is_run_once_more_alone_and_decides(ready: Checkout) -> None:
    done = ready.run("test", pytest_exit="1")
    assert done.returncode == 1
    assert ran(done)[-2:] == ["pytest -n 4", "pytest --last-failed --last-failed-no-failures none"]
    assert "failed: pytest" in done.stderr
    assert ran(ready.run("test", "-q", pytest_exit="1"))[-1] == "pytest -q"


def test_an_environment_with_the_tools_of_the_tests_keeps_them(ready: Checkout) -> None:
    assert ready.run("test").returncode == 0
    (ready.root / "requirements.lock").write_text("# another\n")
    assert ready.run().returncode == 0
    assert "requirements-dev.lock" in ready.calls("uv pip sync")[-1]


# --- the real files -----------------------------------------------------------------------------------


def pins(name: str) -> dict[str, str]:
    found = re.findall(r"^([a-z0-9][a-z0-9._-]*)==(\S+)", (ROOT / name).read_text(), re.MULTILINE)
    return dict(found)


@pytest.mark.parametrize("name", LOCKS)
def test_lock_files_carry_hashes_and_no_address(name: str) -> None:
    text = (ROOT / name).read_text()
    assert "://" not in text
    assert "--index" not in text
    requirements = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert requirements
    assert all("--hash=sha256:" in requirement for requirement in requirements)


def test_the_tests_run_on_the_versions_that_the_product_runs_on() -> None:
    assert pins("requirements.lock").items() <= pins("requirements-dev.lock").items()


def test_every_dependency_of_the_project_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())

    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower() for requirement in requirements}

    assert names(project["project"]["dependencies"]) <= pins("requirements.lock").keys()
    assert names(project["dependency-groups"]["dev"]) <= pins("requirements-dev.lock").keys()


def test_ci_runs_the_test_command_of_the_readme_and_nothing_else() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    commands = [line for line in script.read_text().splitlines() if line and not line.startswith("#")]
    assert commands[-1] == "exec bash cli.sh test"
    assert [line.split()[0] for line in commands[:-1]] == ["set", "cd"]
    assert "\nbash cli.sh test\n" in (ROOT / "README.md").read_text()


@pytest.mark.timeout(240)
def test_two_first_starts_at_once_from_the_package_index(checkout: Checkout) -> None:
    """The real lock files, uv and packages; the stand-in for dquant imports every dependency."""
    shutil.rmtree(checkout.root / ".tools")
    for name in LOCKS:
        shutil.copy(ROOT / name, checkout.root)
    imports = "import aiohttp, hiredis, msgspec, picows, redis, rich, uvloop, websockets\n"
    (checkout.root / "dquant" / "__main__.py").write_text(imports + STAND_IN)

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", str(checkout.root / "cli.sh"), "exit", "3"],
            env={
                name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "DQUANTENV")
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    with start() as one, start() as two:
        said = [process.communicate(timeout=200)[1] for process in (one, two)]
    if (
        one.returncode == 1
        and not os.environ.get("CI")
        and re.search("(?i)connection|resolve|network", said[0])
    ):
        pytest.skip(f"no package index within reach: {said[0][-200:]}")
    assert (one.returncode, two.returncode) == (3, 3), said
    assert sum("first use" in text for text in said) == 1
    assert sum("waiting for it" in text for text in said) == 1
