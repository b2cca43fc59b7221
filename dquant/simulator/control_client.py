"""The control door from Python, for tests and scripts: blocking HTTP, standard library only.

In: the address that ``simulate`` prints. Out: what the door answers, as plain objects; its refusals are
``ValueError`` s with its own words. Every call has a deadline.
"""

import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

TIMEOUT_S = 60.0  # a step of a minute is played through before it is answered


class ControlClient:
    """One control door.

    Args:
        base: ``http://127.0.0.1:…``, as the first line of ``simulate --json`` has it under ``control``.
        timeout_s: How long an answer may take.

    """

    def __init__(self, base: str, timeout_s: float = TIMEOUT_S) -> None:
        self._base, self._timeout_s = base.rstrip("/"), timeout_s
        # Loopback is never reached through a proxy.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def state(self) -> dict[str, Any]:
        """Return time, connections, counters, faults in effect and the true tops."""
        return self._ask("/state")

    def ledger(self, **query: str | int) -> dict[str, Any]:
        """Return what truly happened, by venue: ``venue``, ``account``, ``kind``, ``since``, ``limit``."""
        return self._ask(f"/ledger?{urllib.parse.urlencode(query)}")

    def accounts(self, **query: str) -> dict[str, Any]:
        """Return balances, positions and open orders: ``venue``, ``account``."""
        return self._ask(f"/accounts?{urllib.parse.urlencode(query)}")

    def scenarios(self) -> dict[str, Any]:
        """Return the scenarios there are, and those being played."""
        return self._ask("/scenarios")

    def inject(self, venue: str, fault: str, **params: Any) -> dict[str, Any]:
        """Put a fault into effect."""
        return self._ask("/fault", {"venue": venue, "fault": fault, **params})

    def clear(self, venue: str, kind: str | None = None) -> int:
        """Lift the faults of a venue, or those of one kind; return how many."""
        more = {} if kind is None else {"kind": kind}
        return int(self._ask("/fault", {"venue": venue, "fault": "clear", **more})["lifted"])

    def play(self, name: str) -> dict[str, Any]:
        """Play a shipped scenario from now on."""
        return self._ask("/scenario", {"name": name})

    def play_text(self, toml: str) -> dict[str, Any]:
        """Play a scenario of one's own, given as TOML, from now on."""
        return self._ask("/scenario", {"toml": toml})

    def end(self, name: str | None = None) -> int:
        """End a scenario, or all; return how many."""
        return int(self._ask("/scenario", {"end": name})["ended"])

    def clock(self, **asked: float) -> int:
        """Change the clock (``set``, ``advance_s``, ``speed``); return its time, ns."""
        return int(self._ask("/clock", asked)["now_ns"])

    def step(self, seconds: float) -> int:
        """Step the clock; return its time, ns."""
        return self.clock(advance_s=seconds)

    def _ask(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data, {"Content-Type": "application/json"})  # noqa: S310 - an address of ours
        try:
            with self._opener.open(request, timeout=self._timeout_s) as answer:
                found: dict[str, Any] = json.load(answer)
        except urllib.error.HTTPError as exc:
            with exc:
                text = exc.read().decode(errors="replace")
            raise ValueError(_words(text)) from None
        return found


def _words(text: str) -> str:
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return text[:500]
