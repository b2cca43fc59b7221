"""The control door of the simulated venues: faults, the clock, and what is true, over HTTP.

    GET  /                                                      this list
    GET  /state                                                 connections, counters, true tops of book
    GET  /ledger?venue=&account=&kind=&since=&limit=            what truly happened, oldest first
    GET  /accounts?venue=&account=                              balances, positions, open orders as they are
    GET  /scenarios                                             what there is, and what is being played
    POST /fault     {"venue": "okex", "fault": "gap", "inst_id": …}    see ``injection``; "clear" lifts
    POST /scenario  {"name": "gaps"} | {"toml": "…"} | {"end": "gaps"} | {"end": null}
    POST /clock     {"set": ns} | {"advance_s": s} | {"speed": x}

Every answer is JSON; what cannot be done is a 400 whose ``error`` says what is allowed. It has a port of its
own and asks nobody who he is: it is for loopback.
"""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec
from aiohttp import web

from dquant.constants import NS_PER_S
from dquant.errors import ConfigError
from dquant.simulator import injection, scenarios
from dquant.simulator.clock import VirtualClock
from dquant.simulator.faults import KINDS
from dquant.simulator.flow import Flow
from dquant.simulator.ledger import KINDS as LEDGER_KINDS
from dquant.simulator.ledger import LEDGER_LIMIT
from dquant.simulator.player import ScenarioPlayer
from dquant.simulator.venue import Venue

DOORS = {
    "GET /": "this list",
    "GET /state": "time, connections, counters, faults in effect, the true top of every book",
    "GET /ledger": "what truly happened: venue, account, kind, since (number), limit (1000)",
    "GET /accounts": "balances, positions and open orders as they truly are: venue, account",
    "GET /scenarios": "the shipped scenarios, and those being played",
    "POST /fault": '{"venue": "okex", "fault": "gap", …}; {"venue": "okex", "fault": "clear"} lifts',
    "POST /scenario": '{"name": "gaps"}, {"toml": "…"}, {"end": "gaps"} or {"end": null} for all',
    "POST /clock": '{"set": ns}, {"advance_s": seconds}, {"speed": factor}',
}


class Controlled(Protocol):
    """What the door asks of the venues' sockets and clock."""

    flow: Flow
    clock: VirtualClock
    slow_clients: int
    players: list[ScenarioPlayer]

    @property
    def bad_requests(self) -> int:
        """How many requests ended in the middle, or were no HTTP."""

    @property
    def venues(self) -> Mapping[str, Venue]:
        """The venues by name."""

    def catch_up(self) -> None:
        """Bring everything to what the clock says now."""

    def settle(self) -> None:
        """Tell at once what was set off, where the clock stands."""

    async def step(self, delta_ns: int) -> None:
        """Step the clock."""

    def set_speed(self, speed: float) -> None:
        """Run the clock at another speed."""

    def play(self, scenario: scenarios.Scenario) -> None:
        """Begin to play a scenario."""

    def end_scenario(self, name: str | None = None) -> int:
        """End a scenario, or all; return how many."""

    def note(self, event: dict[str, Any]) -> None:
        """Tell about an event of note."""

    def queued_bytes(self, venue: str, conn_id: str) -> int:
        """Return how much waits to be sent to a client."""


class ControlDoor:
    """Answers the control port."""

    def __init__(self, controlled: Controlled) -> None:
        self._controlled = controlled
        self._readings: dict[str, Callable[[dict[str, str]], dict[str, Any]]] = {
            "/": lambda _query: self.help(),
            "/state": lambda _query: self.state(),
            "/ledger": self.ledger,
            "/accounts": self.accounts,
            "/scenarios": lambda _query: self.list_scenarios(),
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        try:
            if request.method == "GET" and request.path in self._readings:
                return _json(self._readings[request.path](dict(request.query)))
            if request.method != "POST" or request.path not in ("/fault", "/scenario", "/clock"):
                return _json({"error": f"there is: {', '.join(DOORS)}"}, 404)
            asked = _read_object(await request.read())
            if request.path == "/clock":
                return _json(await self.set_clock(asked))
            done = self.inject(asked) if request.path == "/fault" else self.set_scenario(asked)
            self._controlled.settle()
            return _json(done)
        except (ValueError, RecursionError, ConfigError) as exc:
            return _json({"error": str(exc)}, 400)
        except (ConnectionResetError, web.RequestPayloadError):  # a body that breaks off, or is no body
            return _json({"error": "the body cannot be read"}, 400)

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
            lifted = injection.clear(venue, None if kind is None else str(kind))
            self._controlled.note({"event": "faults cleared", "venue": venue.name, "lifted": lifted})
            return {"lifted": lifted}
        injection.check(name, params)
        injection.inject(venue, str(name), params, time.monotonic_ns())
        self._controlled.note({"event": "fault", "venue": venue.name, "fault": name, **params})
        return {"injected": name}

    def set_scenario(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Begin to play a scenario (``name`` of a shipped one, or its ``toml``), or ``end`` one (None: all).

        Raises:
            ValueError: Neither is asked for, or there is no such scenario.
            ConfigError: Something in it is wrong.

        """
        if asked.keys() == {"end"} and (asked["end"] is None or isinstance(asked["end"], str)):
            return {"ended": self._controlled.end_scenario(asked["end"])}
        if asked.keys() == {"name"} and isinstance(asked["name"], str):
            if not asked["name"].isidentifier():  # a file of the operator's is none of the door's business
                raise ValueError("name must be that of a shipped scenario: GET /scenarios lists them")
            scenario = scenarios.load(asked["name"])
        elif asked.keys() == {"toml"} and isinstance(asked["toml"], str):
            scenario = scenarios.parse(asked["toml"], "posted", "toml")
        else:
            raise ValueError('a scenario takes {"name": …}, {"toml": "…"} or {"end": name or null}')
        self._controlled.play(scenario)
        return {"playing": scenario.name, "steps": len(scenario.steps)}

    def list_scenarios(self) -> dict[str, Any]:
        """Return the shipped scenarios, and those that are being played."""
        playing = [
            {"name": player.scenario.name, "began_ns": player.began_ns, "played": player.played}
            for player in self._controlled.players
        ]
        return {"playing": playing, "scenarios": scenarios.catalogue()}

    def ledger(self, query: dict[str, str]) -> dict[str, Any]:
        """Return what truly happened at each venue: rows, how many were dropped, the newest number.

        Raises:
            ValueError: The query makes no sense.

        """
        _only(query, ("venue", "account", "kind", "since", "limit"))
        since, limit = _whole(query, "since", 0, 10**15), _whole(query, "limit", 1_000, LEDGER_LIMIT)
        found: dict[str, Any] = {}
        for name, exchange in self._exchanges(query):
            rows = exchange.ledger.objects(
                account=query.get("account"), kind=query.get("kind"), since=since, limit=limit
            )
            newest = exchange.ledger.rows(limit=1)
            last = newest[-1].number if newest else 0
            found[name] = {"last": last, "dropped": exchange.ledger.dropped, "rows": rows}
        return found

    def accounts(self, query: dict[str, str]) -> dict[str, Any]:
        """Return the accounts of each venue as they truly are.

        Raises:
            ValueError: The query makes no sense.

        """
        _only(query, ("venue", "account"))
        wanted = query.get("account")
        return {
            name: {
                account: {
                    "balances": msgspec.to_builtins(list(exchange.balances(account))),
                    "positions": msgspec.to_builtins(list(exchange.positions(account))),
                    "open_orders": msgspec.to_builtins(list(exchange.open_orders(account))),
                }
                for account in exchange.accounts()
                if wanted in (None, account)
            }
            for name, exchange in self._exchanges(query)
        }

    def help(self) -> dict[str, Any]:
        """Return what the door takes."""
        faults = {**KINDS, **injection.ORDER_FAULTS, **injection.DEEDS}
        return {
            "doors": DOORS,
            "faults": {
                name: {"does": kind.explanation, "takes": list(kind.params)} for name, kind in faults.items()
            },
            "kinds of the ledger": sorted(LEDGER_KINDS),
        }

    def _exchanges(self, query: dict[str, str]) -> list[tuple[str, injection.Exchange]]:
        wanted = query.get("venue")
        if wanted is not None and wanted not in self._controlled.venues:
            raise ValueError(f"venue must be one of {', '.join(self._controlled.venues)}, not {wanted!r}")
        found = []
        for name, venue in self._controlled.venues.items():
            exchange = injection.exchange_of(venue)
            if exchange is not None and wanted in (None, name):
                found.append((name, exchange))
        return found

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
                "faults": injection.in_effect(venue, real_ns),
                "truth": venue.truth(),
            }
            for name, venue in controlled.venues.items()
        }
        return {
            "now_ns": controlled.flow.now_ns,
            "speed": controlled.clock.speed,
            "seed": controlled.flow.seed,
            "slow_clients": controlled.slow_clients,
            "bad_requests": controlled.bad_requests,
            "venues": venues,
        }


def _only(query: dict[str, str], allowed: tuple[str, ...]) -> None:
    for key in query:
        if key not in allowed:
            raise ValueError(f"the query takes {', '.join(allowed)}, not {key!r}")


def _whole(query: dict[str, str], name: str, default: int, most: int) -> int:
    text = query.get(name, str(default))
    if not text.isascii() or not text.isdigit() or len(text) > 18 or int(text) > most:
        raise ValueError(f"{name} must be a whole number from 0 to {most}, not {text[:30]!r}")
    return int(text)


def _read_object(body: bytes) -> dict[str, Any]:
    asked = json.loads(body)
    if isinstance(asked, dict):
        return asked
    raise ValueError("the body must be a JSON object")


def _json(value: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(status=status, text=json.dumps(value), content_type="application/json")
