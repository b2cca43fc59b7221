"""The control door of the simulated venues: faults, the clock, and what is true, over HTTP.

    GET  /state                                                 connections, counters, true tops of book
    POST /fault  {"venue": "okex", "fault": "gap", "inst_id": …}    see ``faults.KINDS``; "clear" lifts
    POST /clock  {"set": ns} | {"advance_s": s} | {"speed": x}

Every answer is JSON; what cannot be done is a 400 whose ``error`` says what is allowed. It has a port of its
own and asks nobody who he is: it is for loopback.
"""

import json
import time
from collections.abc import Mapping
from typing import Any, Protocol

from aiohttp import web

from dquant.constants import NS_PER_S
from dquant.simulator.clock import VirtualClock
from dquant.simulator.faults import KINDS
from dquant.simulator.flow import Flow
from dquant.simulator.venue import Venue


class Controlled(Protocol):
    """What the door asks of the venues' sockets and clock."""

    flow: Flow
    clock: VirtualClock
    slow_clients: int

    @property
    def venues(self) -> Mapping[str, Venue]:
        """The venues by name."""

    def catch_up(self) -> None:
        """Bring everything to what the clock says now."""

    async def step(self, delta_ns: int) -> None:
        """Step the clock."""

    def set_speed(self, speed: float) -> None:
        """Run the clock at another speed."""

    def note(self, event: dict[str, Any]) -> None:
        """Tell about an event of note."""

    def queued_bytes(self, venue: str, conn_id: str) -> int:
        """Return how much waits to be sent to a client."""


class ControlDoor:
    """Answers the control port."""

    def __init__(self, controlled: Controlled) -> None:
        self._controlled = controlled

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        try:
            if (request.method, request.path) == ("GET", "/state"):
                return _json(self.state())
            if request.method != "POST" or request.path not in ("/fault", "/clock"):
                return _json({"error": "GET /state, POST /fault, POST /clock"}, 404)
            asked = _read_object(await request.read())
            return _json(self.inject(asked) if request.path == "/fault" else await self.set_clock(asked))
        except (ValueError, RecursionError) as exc:
            return _json({"error": str(exc)}, 400)

    def inject(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Put a fault into effect, or lift what is in effect (``clear``, perhaps of one ``kind``).

        Raises:
            ValueError: It names no venue, fault or parameter that there is.

        """
        params = {**asked}
        venue_name, name = params.pop("venue", None), params.pop("fault", None)
        venue = self._controlled.venues.get(str(venue_name))
        if venue is None:
            raise ValueError(f"venue must be one of {', '.join(self._controlled.venues)}, not {venue_name!r}")
        if name == "clear":
            kind = params.get("kind")
            lifted = venue.faults.clear(None if kind is None else str(kind))
            self._controlled.note({"event": "faults cleared", "venue": venue.name, "lifted": lifted})
            return {"lifted": lifted}
        if not isinstance(name, str) or name not in KINDS:
            raise ValueError(f"fault must be clear or one of {', '.join(sorted(KINDS))}, not {name!r}")
        venue.faults.inject(name, params, time.monotonic_ns())
        self._controlled.note({"event": "fault", "venue": venue.name, "fault": name, **params})
        return {"injected": name}

    async def set_clock(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Change the clock: ``speed``, ``set`` and ``advance_s``, in this order where several are given.

        Raises:
            ValueError: There is no such thing, or it would set the clock back.

        """
        if not asked or asked.keys() - {"set", "advance_s", "speed"}:
            raise ValueError("the clock takes set (ns), advance_s (seconds) and speed (factor)")
        for key, value in asked.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e19:
                raise ValueError(f"{key} must be a number, not {value!r}")
        controlled = self._controlled
        if "speed" in asked:
            controlled.set_speed(asked["speed"])
        if "set" in asked:
            controlled.clock.set(int(asked["set"]), time.monotonic_ns())
        if "advance_s" in asked:
            await controlled.step(int(asked["advance_s"] * NS_PER_S))
        controlled.catch_up()
        return {"now_ns": controlled.clock.now(time.monotonic_ns()), "speed": controlled.clock.speed}

    def state(self) -> dict[str, Any]:
        """Return what is true: time, connections, counters, faults, the top of every book."""
        controlled, real_ns = self._controlled, time.monotonic_ns()
        venues = {
            name: {
                "connections": [
                    {
                        "conn_id": connection.conn_id,
                        "subscriptions": connection.subscriptions(),
                        "queued_bytes": controlled.queued_bytes(name, connection.conn_id),
                    }
                    for connection in venue.connections()
                ],
                "counters": dict(venue.counters),
                "faults": [fault.kind for fault in venue.faults.active(real_ns)],
                "truth": venue.truth(),
            }
            for name, venue in controlled.venues.items()
        }
        return {
            "now_ns": controlled.flow.now_ns,
            "speed": controlled.clock.speed,
            "seed": controlled.flow.seed,
            "slow_clients": controlled.slow_clients,
            "venues": venues,
        }


def _read_object(body: bytes) -> dict[str, Any]:
    asked = json.loads(body)
    if isinstance(asked, dict):
        return asked
    raise ValueError("the body must be a JSON object")


def _json(value: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(status=status, text=json.dumps(value), content_type="application/json")
