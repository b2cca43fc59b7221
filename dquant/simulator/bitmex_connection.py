"""One websocket of the simulated BitMEX: commands in, acks, errors, partials and frames out.

Pure; ``bitmex_server`` owns the tables and says what to send. Any text is answered or ends in a close
code, none raises. Written from the BitMEX fact sheet, sections 2.2 to 2.5; the words of the errors for
an unknown symbol, an unknown table and a private table are those that clients of the venue recorded.
"""

import json
from collections.abc import Callable
from typing import Any, Protocol

from dquant.simulator import bitmex_tables as tables
from dquant.simulator.bitmex_auth import AuthRefused
from dquant.simulator.bitmex_params import BadRequest, Params, dead_man_ms
from dquant.simulator.bitmex_private_types import ACCOUNT_TABLES, PRIVATE_TYPES

OUTGOING_LIMIT = 20_000  # texts; a client that is this far behind is hung up on
ERROR_LIMIT = 50  # errors on one connection before the venue hangs up
TEXT_LIMIT = 65_536  # characters of one command
CLOSE_POLICY, CLOSE_RESTART = 1008, 1012
SYMBOLLESS = tables.NO_SYMBOL_TABLES | ACCOUNT_TABLES

HELP = {
    "info": "See https://www.bitmex.com/app/wsAPI for more documentation.",
    "usage": 'Send messages in the format {"op": string, "args": string|array}',
    "ops": ["authKeyExpires", "cancelAllAfter", "subscribe", "unsubscribe"],
    "subscribe": 'To subscribe, send: {"op": "subscribe", "args": [subscriptionTopic, ...]}.',
    "subscriptionSubjects": {
        "authenticationRequired": sorted(PRIVATE_TYPES),
        "public": sorted(tables.TYPES),
    },
}


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _without_wildcard(topic: str) -> str:
    """Return a topic without ``:*``: the venue's own JavaScript client asks for ``margin:*``."""
    return topic.removesuffix(":*")


class Exchange(Protocol):
    """What a connection asks of the venue behind it."""

    def is_symbol(self, symbol: str) -> bool:
        """Return whether a topic may name this symbol."""

    def open_topic(self, connection: "BitmexConnection", topic: str) -> None:
        """Start to send a topic: its partial first."""

    def close_topic(self, connection: "BitmexConnection", topic: str) -> None:
        """Stop sending a topic."""

    def login(self, credentials: tuple[Any, Any, Any]) -> int:
        """Return the account of a login, or raise ``AuthRefused``."""

    def cancel_all_after(self, account: int, timeout_ms: int) -> tables.Row:
        """Set the dead-man's switch of an account."""

    def is_shuffled(self) -> bool:
        """Return whether a fault puts this partial before its ack."""

    def early_delta(self, topic: str) -> str | None:
        """Return a delta that has to overtake the partial of this topic, if a fault asks for one."""


class BitmexConnection:
    """One client. ``is_silent`` tells whether a fault keeps everything from it at a real time.

    ``account`` is whose private tables it may see; None until it has logged in. ``is_platform``: it is of
    the socket that tells of the venue, not of its markets.
    """

    def __init__(
        self,
        conn_id: str,
        venue: Exchange,
        is_silent: Callable[[int, str], bool],
        account: int | None = None,
        *,
        is_platform: bool = False,
    ) -> None:
        self.conn_id = conn_id
        self._is_platform = is_platform
        self.account = account
        self.close_code: int | None = None
        self.close_reason = ""
        self.close_at_ns: int | None = None  # venue time of a hang-up that is already decided
        self.topics: dict[str, None] = {}  # in the order of subscription
        self.errors = 0
        self._venue, self._is_silent = venue, is_silent
        self._outgoing: list[str] = []
        self._real_ns = 0

    # What the sockets call

    def receive_text(self, text: str, real_ns: int) -> None:
        """Take one text frame of the client."""
        self._real_ns = real_ns
        if text == "ping":
            self.send("pong")
        elif text == "help":
            self.send(tables.encode(HELP))
        elif len(text) > TEXT_LIMIT:
            self._refuse(400, "Message too long.", text[:64])
        else:
            try:
                request = json.loads(text, parse_constant=_refuse_constant)
                self._receive_request(request)
            except (ValueError, RecursionError):
                self._refuse(400, "Unable to parse the message as JSON.", text[:1024])

    def texts_to_send(self) -> list[str]:
        """Return the texts to send, in order, and empty the list."""
        texts, self._outgoing = self._outgoing, []
        return texts

    def close(self, code: int, reason: str) -> None:
        """Ask for the connection to be closed after what is still to be sent; the first reason stands."""
        if self.close_code is None:
            self.close_code, self.close_reason = code, reason

    def subscriptions(self) -> list[str]:
        """Return what is subscribed, in words for the state page."""
        return list(self.topics)

    # What the venue calls

    def send(self, text: str, real_ns: int | None = None) -> None:
        """Queue one text, unless the connection is closing or a fault silences it."""
        if real_ns is not None:
            self._real_ns = real_ns
        if self.close_code is not None or self._is_silent(self._real_ns, self.conn_id):
            return
        if len(self._outgoing) >= OUTGOING_LIMIT:
            self._outgoing.clear()
            self.close(CLOSE_POLICY, "slow consumer")
            return
        self._outgoing.append(text)

    def subscribe_from_query(self, topics: list[str], real_ns: int) -> None:
        """Subscribe to the topics of the address; each is acknowledged as a request of its own."""
        self._real_ns = real_ns
        for topic in topics:
            self._subscribe(topic, {"op": "subscribe", "args": topic})

    # Commands

    def _receive_request(self, request: Any) -> None:
        if not isinstance(request, dict) or not isinstance(op := request.get("op"), str):
            self._refuse(400, 'Unrecognized request: an object with "op" is expected.', request)
            return
        args = request.get("args", [])
        if op in ("subscribe", "unsubscribe"):
            topics = args if isinstance(args, list) else [args]
            if not topics:
                self._refuse(400, f"{op} needs at least one topic.", request)
            for topic in topics:
                if self.close_code is not None:  # every answer repeats the request: thousands take seconds
                    return
                if not isinstance(topic, str):
                    self._refuse(400, f"Unknown table: {json.dumps(topic)[:64]}", request)
                elif op == "subscribe":
                    self._subscribe(topic, request)
                else:
                    self._unsubscribe(topic, request)
        elif op == "authKeyExpires":
            self._log_in(args, request)
        elif op == "cancelAllAfter":
            self._arm(args, request)
        else:
            self._refuse(400, f"Unknown op: {op[:64]}", request)

    def _log_in(self, args: Any, request: Any) -> None:
        if self.account is not None:
            self._refuse(400, "Already authenticated.", request)
        elif not isinstance(args, list) or len(args) != 3:
            self._refuse(400, "authKeyExpires needs a key, a time and a signature.", request)
        else:
            try:
                self.account = self._venue.login((args[0], args[1], args[2]))
            except AuthRefused as exc:
                self._refuse(exc.status, exc.message, request)
            else:
                self.send(tables.encode({"success": True, "request": request}))

    def _arm(self, args: Any, request: Any) -> None:
        timeout = args[0] if isinstance(args, list) and len(args) == 1 else args
        if self.account is None:
            self._refuse(401, "Not authenticated.", request)
            return
        try:
            answer = self._venue.cancel_all_after(
                self.account, dead_man_ms(Params({"t": timeout}).whole("t"))
            )
        except BadRequest:
            self._refuse(400, "Invalid timeout", request)
        else:
            self.send(tables.encode({**answer, "request": request}))

    def _subscribe(self, asked: str, request: Any) -> None:
        topic = _without_wildcard(asked)
        table, colon, symbol = topic.partition(":")
        if table in tables.PRIVATE_TABLES and self.account is None:
            notes = f"Account-locked tables include the following: {','.join(tables.PRIVATE_TABLES)}"
            words = "User requested an account-locked subscription but no authorization was provided."
            self._refuse(401, words, request, {"notes": notes})
        elif not self._serves(table):
            self._refuse(400, f"Unknown table: {table[:64]}", request)
        elif colon and (table in SYMBOLLESS or not self._venue.is_symbol(symbol)):
            self._refuse(400, "Unknown or expired symbol.", request)
        elif topic in self.topics:
            self._refuse(400, f"You are already subscribed to this topic: {topic}", request)
        else:
            early = self._venue.early_delta(topic)
            if early is not None:
                self.send(early)
            self.topics[topic] = None
            if self._venue.is_shuffled():  # section 2.1: their order is not fixed
                self._venue.open_topic(self, topic)
                self.send(tables.ack("subscribe", asked, request))
            else:
                self.send(tables.ack("subscribe", asked, request))
                self._venue.open_topic(self, topic)

    def _serves(self, table: str) -> bool:
        if self._is_platform:
            return table in tables.PLATFORM_TABLES
        return table not in tables.PLATFORM_ONLY and (table in tables.TYPES or table in PRIVATE_TYPES)

    def _unsubscribe(self, asked: str, request: Any) -> None:
        topic = _without_wildcard(asked)
        if topic not in self.topics:
            see = f"Please see the documentation at {tables.SHEET_URL}."
            self._refuse(400, f"Not subscribed to {asked[:64]}. {see}", request)
            return
        del self.topics[topic]
        self._venue.close_topic(self, topic)
        self.send(tables.ack("unsubscribe", asked, request))

    def _refuse(self, status: int, message: str, request: Any, meta: tables.Row | None = None) -> None:
        self.send(tables.error(status, message, request, meta))
        self.errors += 1
        if self.errors >= ERROR_LIMIT:
            self.close(CLOSE_POLICY, "Too many errors.")
