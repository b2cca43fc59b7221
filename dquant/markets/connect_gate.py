"""Keeps all markets of this process together below a venue's limit on new connections.

OKX and BitMEX take three a second from one address (fact sheets ``okx-v5`` 2.5, ``bitmex``
2.7); ten markets that lose their connections in one moment must not be refused for coming
back in one moment. Turns are given out by reservation: thread-safe, nobody polls.
"""

import threading
import time
from collections import deque
from urllib.parse import urlsplit

# Three in any second, which is a little longer here than there.
TURNS = 3
WINDOW_S = 1.05
MAX_HOSTS = 64  # one an exchange; simulated ones come and go


class ConnectGate:
    """Gives out turns to connect, by host; ``now`` is a monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turns: dict[str, deque[float]] = {}

    def reserve(self, url: str, now: float) -> float:
        """Take the next turn at the host of ``url``; return the seconds to wait for it."""
        host = urlsplit(url).netloc
        with self._lock:
            turns = self._turns.pop(host, None) or deque(maxlen=TURNS)
            self._turns[host] = turns  # the longest unused host is the first
            if len(self._turns) > MAX_HOSTS:
                del self._turns[next(iter(self._turns))]
            turn = max(now, turns[0] + WINDOW_S) if len(turns) == TURNS else now
            turns.append(turn)
        return turn - now


_gate = ConnectGate()


def reserve_turn(url: str) -> float:
    """Take the next turn at a venue for this process; return the seconds to wait for it."""
    return _gate.reserve(url, time.monotonic())
