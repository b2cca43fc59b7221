"""The soak: two markets at ten times the real rate, Redis, a monitor and a watch, for half an hour.

``.venv/bin/python -m benchmarks.soak [--minutes N]``. The simulated venues run with a clock ten times as
fast, so that everything comes at ten times the real rate. What feeds Redis (two market threads, a publisher
each) runs in a process that counts its own tasks, threads and open files every ten seconds and, after its
stop, what was left behind; ``watch`` and ``monitor`` run as they ship and are looked at from outside.

Verdict: memory flat (resident memory of the last two thirds within 2 %), nothing left behind, every
process ended with code 0 within its five seconds. Samples go to ``benchmarks/results/soak.jsonl``.
"""

import argparse
import asyncio
import collections
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.environments import ROOT
from benchmarks.run import process, redis_server
from dquant.simulator.process import SimulateOptions

MARKETS = "okex_future_btcusd_thisweek,bitmex_future_btcusd"
SPEED = 10
SAMPLE_S = 10.0
FLAT_SHARE = 0.02
SETTLE_SHARE = 1 / 3  # of the time, not judged
STOP_S = 5.0
Sample = dict[str, Any]


def look(pid: int) -> Sample:
    """Return memory, threads and open files of a process, as the kernel counts them."""
    folder = Path(f"/proc/{pid}")
    status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line)
    return {
        "rss_kib": int(status["VmRSS"].split()[0]),
        "threads": int(status["Threads"]),
        "fds": len(list((folder / "fd").iterdir())),
    }


# -- the process under test -------------------------------------------------------------------------


async def _feed(addresses: dict[str, tuple[str, str]], redis_port: int) -> None:
    from dquant.config import MyConfiguration
    from dquant.datafeed import Datafeed
    from dquant.markets.market_factory import create_markets
    from dquant.model.events import Health
    from dquant.pipeline.redis_link import RedisSettings

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    # The pools of the executor (one thread a market that is stopped) and of libuv belong to the process.
    sleeps = (asyncio.to_thread(time.sleep, 0.1) for _ in MARKETS.split(","))
    await asyncio.gather(*sleeps, loop.getaddrinfo("localhost", 80))
    before = look(os.getpid()) | {"tasks": len(asyncio.all_tasks())}
    feed = Datafeed(create_markets(MARKETS.split(","), MyConfiguration("dev", {}), addresses))
    feed.publish_to(RedisSettings(port=redis_port), streams=True, stream_length=10_000)
    feed.start()
    states: collections.Counter[str] = collections.Counter()
    sampled_at = time.monotonic()
    while not stop.is_set():
        for event in await feed.next_events(0.5):
            if isinstance(event, Health):
                why = f" ({event.reason})" if event.state == "stale" else ""
                states[f"{event.market}: {event.state}{why}"] += 1
        if time.monotonic() - sampled_at >= SAMPLE_S:
            sampled_at = time.monotonic()
            loops = [market._loop for market in feed.markets]
            sample = look(os.getpid()) | {
                "tasks": len(asyncio.all_tasks())
                + sum(len(asyncio.all_tasks(each)) for each in loops if each),
                "prices": sum(market.price.seq for market in feed.markets),
                "lost": feed.lost(),
                "states": dict(states),
            }
            print(json.dumps(sample), flush=True)
    alive = await feed.stop(STOP_S)
    failed = [f"{market.market_name}: {market.failure}" for market in feed.failed()]
    del feed
    await asyncio.sleep(0.5)
    after = look(os.getpid()) | {"tasks": len(asyncio.all_tasks())}
    names = sorted(each.name for each in threading.enumerate())
    print(
        json.dumps({"before": before, "after": after, "alive": alive, "failed": failed, "threads": names}),
        flush=True,
    )


# -- the conductor ----------------------------------------------------------------------------------


class Watched:
    """A process of the product, looked at from outside."""

    def __init__(self, name: str, command: list[str], variables: dict[str, str]) -> None:
        self.name = name
        self.samples: list[Sample] = []
        self.child = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | variables, stdout=subprocess.DEVNULL
        )

    def sample(self) -> None:
        with contextlib.suppress(OSError, KeyError):
            self.samples.append(look(self.child.pid))

    def stop(self) -> str:
        """End it; return what was wrong with that, or nothing."""
        if self.child.poll() is not None:
            return f"{self.name} ended by itself with code {self.child.returncode}"
        self.child.send_signal(signal.SIGTERM)
        try:
            code = self.child.wait(STOP_S + 1)
        except subprocess.TimeoutExpired:
            self.child.kill()
            return f"{self.name} was still there {STOP_S:g} s after SIGTERM"
        return f"{self.name} ended with code {code}" if code else ""


def spread(samples: list[Sample], measure: str) -> float:
    """Return how far a measure of the judged samples spreads, as a share of its median."""
    judged = [float(sample[measure]) for sample in samples[int(len(samples) * SETTLE_SHARE) :]]
    return (max(judged) - min(judged)) / statistics.median(judged) if judged else float("nan")


def conduct(minutes: float) -> int:
    """Start everything, sample, stop everything, and return the exit code of the verdict."""
    results = ROOT / "benchmarks" / "results"
    results.mkdir(exist_ok=True)
    options = SimulateOptions(speed=SPEED, as_json=True, parent_pid=os.getpid())
    simulate = [sys.executable, "-m", "dquant.simulator.process", options.to_text()]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis_port = stack.enter_context(redis_server(folder))
        first, simulator = stack.enter_context(process(simulate))
        threading.Thread(target=_drain, args=(simulator,), daemon=True).start()
        where = json.loads(first)
        addresses = {venue: (where[venue]["rest"], where[venue]["ws"]) for venue in ("okex", "bitmex")}
        variables = {"DQUANTENV": "dev", "DQUANT_REDIS_PORT": str(redis_port)}
        for venue, (rest, ws) in addresses.items():
            variables |= {f"DQUANT_{venue.upper()}_REST_URL": rest, f"DQUANT_{venue.upper()}_WS_URL": ws}
        own = [sys.executable, "-m", "benchmarks.soak", "--inside", json.dumps([addresses, redis_port])]
        feed = subprocess.Popen(own, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        dquant = [sys.executable, "-m", "dquant", "--json"]
        others = [
            Watched("watch", [*dquant, "-m", MARKETS, "-s", "diff", "watch"], variables),
            Watched("monitor", [*dquant, "monitor"], variables),
        ]
        said: list[Sample] = []
        reader = threading.Thread(target=_collect, args=(feed, said), daemon=True)
        reader.start()
        try:
            _sample_until(time.monotonic() + minutes * 60, said, others, results / "soak.jsonl")
        finally:
            faults = [fault for fault in (other.stop() for other in others) if fault]
            feed.send_signal(signal.SIGTERM)
            try:
                if feed.wait(2 * STOP_S):
                    faults.append(f"feed ended with code {feed.returncode}")
            except subprocess.TimeoutExpired:
                feed.kill()
                faults.append("feed did not stop")
            reader.join(STOP_S)
    return _judge(minutes, said, others, faults)


def _collect(feed: "subprocess.Popen[str]", said: list[Sample]) -> None:
    assert feed.stdout is not None
    for line in feed.stdout:
        said.append(json.loads(line))


def _drain(child: "subprocess.Popen[str]") -> None:
    assert child.stdout is not None
    for _ in child.stdout:
        pass


def _sample_until(deadline: float, said: list[Sample], others: list[Watched], path: Path) -> None:
    seen = 0
    with path.open("w") as out:
        while time.monotonic() < deadline:
            time.sleep(SAMPLE_S)
            for other in others:
                other.sample()
            for sample in said[seen:]:
                out.write(json.dumps(sample) + "\n")
                out.flush()
                print(
                    f"rss {sample['rss_kib']} KiB, {sample['threads']} threads, {sample['fds']} files, "
                    f"{sample['tasks']} tasks, {sample['prices']} prices, {sample['lost']} conflated or lost",
                    flush=True,
                )
            seen = len(said)


def _judge(minutes: float, said: list[Sample], others: list[Watched], faults: list[str]) -> int:
    samples = [each for each in said if "prices" in each]
    ends = [each for each in said if "before" in each]
    if not samples or not ends:
        faults.append("the feed said nothing")
    for name, its in (("feed", samples), *((other.name, other.samples) for other in others)):
        share = spread(its, "rss_kib")
        flat = "flat" if share <= FLAT_SHARE else "NOT FLAT"
        if share > FLAT_SHARE:
            faults.append(f"memory of {name} spread by {100 * share:.1f} %")
        first, last = (its[0]["rss_kib"], its[-1]["rss_kib"]) if its else (0, 0)
        print(
            f"{name}: {first} KiB at first, {last} at last, "
            f"last two thirds within {100 * share:.2f} %: {flat}"
        )
    for measure in ("tasks", "threads", "fds"):
        if samples and len({sample[measure] for sample in samples[int(len(samples) * SETTLE_SHARE) :]}) > 2:
            faults.append(f"{measure} kept changing: {[sample[measure] for sample in samples][-20:]}")
    for end in ends:
        print(f"after the stop: {end}")
        faults += [f"{name} did not stop" for name in end["alive"]] + end["failed"]
        for measure in ("tasks", "threads", "fds"):
            left = end["after"][measure] - end["before"][measure]
            if left > 0:
                faults.append(f"{left} {measure} left behind")
    if samples:
        rate = samples[-1]["prices"] / (minutes * 60)
        print(f"{samples[-1]['prices']} prices ({rate:.0f} a second), states {samples[-1]['states']}")
    print(f"soak of {minutes:g} minutes: {'; '.join(faults) or 'passed'}")
    return 1 if faults else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        import uvloop

        addresses, redis_port = json.loads(options.inside)
        uvloop.run(_feed({venue: (rest, ws) for venue, (rest, ws) in addresses.items()}, redis_port))
        return 0
    return conduct(options.minutes)


if __name__ == "__main__":
    sys.exit(main())
