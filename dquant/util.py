"""Small leaves that several rooms need."""

import os
import random
import select
import signal
import stat
import sys
import time
from typing import TextIO
from urllib.parse import urlsplit

M_ARENA_MAX = -8  # malloc.h


def now_ns() -> int:
    """Return our wall clock, ns since the Unix epoch."""
    return time.time_ns()


def full_jitter(attempt: int, base_s: float, ceiling_s: float) -> float:
    """Return a delay drawn evenly from zero to the exponential bound of this attempt.

    Args:
        attempt: 0 for the first retry.
        base_s: The bound of the first retry.
        ceiling_s: What the bound never exceeds.

    """
    return random.uniform(0.0, min(ceiling_s, base_s * 2.0 ** min(attempt, 32)))


def one_line(text: str) -> str:
    """Return the words of somebody else as one printable line."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def has_screen(stream: TextIO) -> bool:
    """Tell whether a stream is a terminal on which a picture can be drawn again in its place."""
    return stream.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


def is_pipe(fd: int) -> bool:
    """Tell whether a program reads a descriptor, rather than a file or a service's log."""
    return stat.S_ISFIFO(os.fstat(fd).st_mode)


def has_reader(fd: int) -> bool:
    """Tell whether there is still somebody to write for; notices a reader that left between two lines."""
    poll = select.poll()
    poll.register(fd, 0)  # errors only
    return not any(state & select.POLLERR for _, state in poll.poll(0))


def stop_signals() -> tuple[signal.Signals, ...]:
    """Return the signals that ask for an orderly end; a lost terminal is one, but not under nohup."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return (signal.SIGINT, signal.SIGTERM, *(() if ignored else (signal.SIGHUP,)))


def proxy_for(url: str) -> str | None:
    """Return the proxy that the environment names for an address, never one for this very machine."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host == "localhost" or host.startswith("127.") or host == "::1":
        return None
    from urllib.request import getproxies, proxy_bypass  # 30 ms of import that loopback does not need

    if proxy_bypass(host):
        return None
    proxies = getproxies()
    return proxies.get("https" if parts.scheme in ("https", "wss") else "http") or proxies.get("all")


def share_one_arena() -> None:
    """Let all threads of this process share glibc's main heap; call it before they start.

    Each thread would otherwise get a heap of its own: 2 MB for the first market and 0.4 MB for
    each further one (``benchmarks/README.md``), for a lock that the interpreter's own lock makes free.
    """
    if sys.platform != "linux":
        return
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc only
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)
