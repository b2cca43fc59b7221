"""Simulated venues as a process: first line, exit, and that the child never outlives its parent."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from dquant.errors import MarketUnreachable
from dquant.simulator.child import start_child
from dquant.simulator.process import KEYS, SimulateOptions

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 10.0
START_NS = 1_795_305_600_000_000_000
PARENT = """
import sys, time
from dquant.simulator.child import start_child
child = start_child()
print(child.pid, flush=True)
time.sleep(60)
"""


def heed_hangup() -> None:
    """Let SIGHUP end a child even where the tests themselves run under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def is_alive(pid: int) -> bool:
    """Return whether a process runs; one that waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while is_alive(pid):
        assert time.monotonic() < deadline, "the child outlived its parent"
        time.sleep(0.02)


def get(url: str):
    with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:
        return json.load(answer)


def test_a_child_is_ready_when_it_is_returned_and_gone_when_stopped():
    options = SimulateOptions(seed=9, start_ns=START_NS, speed=0.0, has_alias=False)
    child = start_child(options)
    try:
        assert get(f"{child.okex_rest}/api/v5/public/time")["data"][0]["ts"] == str(START_NS // 1_000_000)
        rows = get(f"{child.okex_rest}/api/v5/public/instruments?instType=FUTURES")["data"]
        assert not any("alias" in row for row in rows)
        assert get(f"{child.bitmex_rest}/api/v1/instrument?symbol=XBTUSD")[0]["symbol"] == "XBTUSD"
        assert get(f"{child.control}/state")["seed"] == 9
        assert child.addresses["keys"] == KEYS
        assert child.okex_ws.endswith("/ws/v5")
        assert child.bitmex_ws.endswith("/realtime")
        assert os.getpgid(child.pid) == child.pid, "a terminal's Ctrl-C would reach it"
    finally:
        assert child.stop() == 0
    assert not child.is_running
    assert child.errors() == ""


def test_a_child_gets_every_option_and_begins_when_its_scenario_does(tmp_path):
    options = SimulateOptions(
        okex_port=1,
        start_ns=START_NS + 1,
        has_alias=False,
        okex_connects_per_second=0,
        okex_account_level="3",
        duration_s=0.5,
        scenarios=("gaps", "slow"),
    )
    assert SimulateOptions.from_text(options.to_text()) == options

    plan = tmp_path / "plan.toml"
    plan.write_text('start = 2026-11-22T00:00:00Z\n[[step]]\nat_s = 1\nfault = "gap"\n')
    child = start_child(SimulateOptions(speed=0.0, scenarios=(str(plan),)))
    try:
        assert get(f"{child.control}/state")["now_ns"] == START_NS
    finally:
        child.stop()


def test_a_child_does_not_outlive_a_parent_that_is_killed():
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_alive(pid)
        parent.send_signal(signal.SIGKILL)
        parent.wait(DEADLINE_S)
        wait_until_gone(pid)


def test_a_child_goes_even_when_its_input_stays_open_elsewhere():
    """Another process holds the pipe: only the kernel, and a look at the parent, can tell."""
    keeper = PARENT.replace(
        "print(child.pid, flush=True)",
        "import os, subprocess\n"
        "pipe = child._process.stdin.fileno()\n"
        "held = subprocess.Popen(['sleep', '30'], pass_fds=[pipe])\n"
        "print(child.pid, held.pid, flush=True)",
    )
    with subprocess.Popen(
        [sys.executable, "-c", keeper], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid, held = map(int, parent.stdout.readline().split())
        try:
            parent.send_signal(signal.SIGKILL)
            parent.wait(DEADLINE_S)
            wait_until_gone(pid)
        finally:
            os.kill(held, signal.SIGKILL)


def test_a_child_outlives_the_thread_that_started_it():
    """The kernel calls the end of a thread the death of a parent; it is not."""
    started = []
    thread = threading.Thread(target=lambda: started.append(start_child()))
    thread.start()
    thread.join(DEADLINE_S)
    (child,) = started
    try:
        time.sleep(0.3)  # for a signal that must not end it
        assert "now_ns" in get(f"{child.control}/state")
    finally:
        child.stop()


def test_a_child_that_cannot_start_says_why():
    first = start_child()
    try:
        port = int(first.control.rsplit(":", 1)[1])
        with pytest.raises(MarketUnreachable, match="cannot listen"):
            start_child(SimulateOptions(control_port=port))
    finally:
        first.stop()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_process_ends_cleanly_on_a_signal(number, start_dquant):
    with start_dquant("simulate", "--json", preexec_fn=heed_hangup, text=True) as process:
        assert process.stdout is not None
        where = json.loads(process.stdout.readline())
        assert list(where) == ["okex", "bitmex", "control", "keys"]
        began = time.monotonic()
        process.send_signal(number)
        assert process.wait(DEADLINE_S) == 0
        assert time.monotonic() - began < 5
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_it_ends_by_itself_after_its_duration(start_dquant):
    with start_dquant("simulate", "--duration", "0.2", text=True) as process:
        out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0
    assert "SIMULATED" in out
    assert "/fault" in out
    assert err == ""


def test_it_ends_by_itself_after_so_many_records(start_dquant):
    # The first says where they are.
    with start_dquant("simulate", "--json", "--count", "2", text=True) as process:
        assert process.stdout is not None
        control = json.loads(process.stdout.readline())["control"]
        body = json.dumps({"venue": "okex", "fault": "drop"}).encode()
        urllib.request.urlopen(f"{control}/fault", data=body, timeout=DEADLINE_S).close()
        assert json.loads(process.stdout.readline()) == {"event": "fault", "venue": "okex", "fault": "drop"}
        assert process.wait(DEADLINE_S) == 0


def test_listening_beyond_loopback_is_said(start_dquant):
    with start_dquant("simulate", "--host", "0.0.0.0", "--duration", "0.1", text=True) as process:
        _out, err = process.communicate(timeout=DEADLINE_S)
    assert "not on loopback" in err


def test_ports_can_be_chosen():
    child = start_child()
    ports = [int(url.rsplit(":", 1)[1]) for url in (child.okex_rest, child.bitmex_rest, child.control)]
    child.stop()
    again = start_child(SimulateOptions(okex_port=ports[0], bitmex_port=ports[1], control_port=ports[2]))
    try:
        assert again.okex_rest.endswith(f":{ports[0]}")
        assert again.bitmex_rest.endswith(f":{ports[1]}")
        assert again.control.endswith(f":{ports[2]}")
    finally:
        again.stop()


@pytest.mark.parametrize("args", [["--speed", "-1"], ["--start", "yesterday"], ["--host", "example"]])
def test_bad_values_are_usage_errors(args, here):
    code, _, err = here("simulate", *args)
    assert code == 2
    assert "simulate:" in err
