"""A parent's handle on simulated venues in a process of their own (``process`` is the child's side).

In: ``SimulateOptions``. Out: ``SimulatedChild`` with addresses and ``stop``. Blocking: call it from a
thread that may wait up to ``START_TIMEOUT_S``.
"""

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from dquant.constants import STOP_TIMEOUT_S
from dquant.errors import MarketUnreachable
from dquant.simulator.process import SimulateOptions

START_TIMEOUT_S = 30.0  # half a second where there is time; a busy machine took more than ten
ERROR_LINES = 200  # of standard error, kept: the newest
EVENT_LINES = 1000  # of standard output after the first, kept: the newest


class SimulatedChild:
    """Simulated venues that run until ``stop``, or until this process is gone.

    Args:
        process: The child, started with pipes.

    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.addresses: dict[str, Any] = {}
        self.events: deque[str] = deque(maxlen=EVENT_LINES)  # JSON lines of events of note
        self._process = process
        self._errors: deque[str] = deque(maxlen=ERROR_LINES)
        self._first: queue.Queue[str | None] = queue.Queue()
        self._readers = [
            threading.Thread(target=self._read_output, name="simulator-output", daemon=True),
            threading.Thread(target=self._read_errors, name="simulator-errors", daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the child is there."""
        return self._process.poll() is None

    @property
    def okex_rest(self) -> str:
        """OKX, HTTP: ``/api/v5/…`` follows."""
        return str(self.addresses["okex"]["rest"])

    @property
    def okex_ws(self) -> str:
        """OKX, websocket: ``/public``, ``/private`` or ``/business`` follows."""
        return str(self.addresses["okex"]["ws"])

    @property
    def bitmex_rest(self) -> str:
        """BitMEX, HTTP: ``/api/v1/…`` follows."""
        return str(self.addresses["bitmex"]["rest"])

    @property
    def bitmex_ws(self) -> str:
        """BitMEX, websocket."""
        return str(self.addresses["bitmex"]["ws"])

    @property
    def control(self) -> str:
        """The control door, HTTP."""
        return str(self.addresses["control"])

    def errors(self) -> str:
        """Return the newest lines of the child's standard error."""
        return "".join(self._errors)

    def wait_until_ready(self, timeout_s: float) -> None:
        """Wait for the first line.

        Raises:
            MarketUnreachable: It did not come in time, or the child ended; with what it said.

        """
        try:
            line = self._first.get(timeout=timeout_s)
        except queue.Empty:
            self.stop()
            raise MarketUnreachable(
                f"simulated exchanges not ready in {timeout_s:g} s {self.errors()}".rstrip()
            ) from None
        if line is None:
            code = self.stop()
            raise MarketUnreachable(f"simulated exchanges ended with {code}: {self.errors().strip()}")
        self.addresses = json.loads(line)

    def stop(self) -> int:
        """End the child: by the end of its input, then by signals; return its exit code."""
        for end in (self._close_input, self._process.terminate, self._process.kill):
            end()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_TIMEOUT_S / 2)
                break
        for reader in self._readers:
            reader.join(STOP_TIMEOUT_S / 2)
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
        return self._process.wait(STOP_TIMEOUT_S)

    def _close_input(self) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def _read_output(self) -> None:
        pipe: IO[str] | None = self._process.stdout
        if pipe is None:
            return
        first = pipe.readline()
        self._first.put(first or None)
        for line in pipe:
            self.events.append(line)

    def _read_errors(self) -> None:
        if self._process.stderr is not None:
            for line in self._process.stderr:
                self._errors.append(line)


def start_child(options: SimulateOptions | None = None, timeout_s: float = START_TIMEOUT_S) -> SimulatedChild:
    """Start simulated venues in a process of their own and wait until they can be reached.

    Raises:
        MarketUnreachable: They were not ready in time, or could not start.

    """
    chosen = replace(options or SimulateOptions(), as_json=True, parent_pid=os.getpid())
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "dquant.simulator.process", chosen.to_text()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(),
        process_group=0,
    )
    child = SimulatedChild(process)
    child.wait_until_ready(timeout_s)
    return child


def _environment() -> dict[str, str]:
    """Return our variables without the configuration's: the venues need none, and some are secrets."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DQUANT_")}
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return environment
