"""One client's websocket at the simulated OKX: requests in, acks, errors and pushes out. No I/O.

Written from the fact sheet, section 2: one ack an element, errors by code without ``arg``, text ``ping``,
480 requests an hour, close 4004 after 30 s in which nothing was pushed. What a subscription means is
the venue's business (``okex_server``); the connection knows which URL carries which channel.

Times are real time, ns: housekeeping does not speed up with the market's clock.
"""

import json
import re
from collections import deque
from typing import Any, Protocol

from dquant.constants import NS_PER_S
from dquant.simulator import okex_messages as messages
from dquant.simulator.okex_login import LoginRejected, Secrets, check_login

MAX_FRAME = 64 * 1024  # bytes of a request
REQUESTS_PER_HOUR = 480
_HOUR_NS = 3600 * NS_PER_S
_SILENCE_NS = 30 * NS_PER_S
_ID = re.compile(r"[A-Za-z0-9]{1,32}")

Subscription = tuple[str, str]  # channel, and what it is of: instrument, index, type or nothing


class OkexHost(Protocol):
    """What a connection asks of its venue."""

    secrets: Secrets
    data_before_ack: bool

    def now_ms(self) -> int:
        """Return virtual time, ms."""

    def resolve(self, channel: str, arg: dict[str, Any]) -> Subscription | None:
        """Return what an arg stands for; None where there is no such channel or instrument."""

    def subscribed(self, connection: "OkexConnection", subscription: Subscription, real_ns: int) -> None:
        """Start a subscription; the first push may follow at once."""

    def unsubscribed(self, connection: "OkexConnection", subscription: Subscription) -> None:
        """End a subscription."""

    def count(self, what: str) -> None:
        """Count something that happened."""


class OkexConnection:
    """Sans-I/O server side of one websocket.

    Args:
        host: The venue.
        kind: ``public``, ``private`` or ``business``: the end of the URL.
        conn_id: Eight hex digits.
        real_ns: Now.

    """

    def __init__(self, host: OkexHost, kind: str, conn_id: str, real_ns: int) -> None:
        self.kind, self.conn_id = kind, conn_id
        self.close_code: int | None = None
        self.close_reason = ""
        self.is_logged_in = False
        self.subscribed: dict[Subscription, dict[str, Any]] = {}
        self._host = host
        self._outgoing: list[str] = []
        self._pushed_ns = real_ns
        self._requests: deque[int] = deque()
        self._close_at_ns: int | None = None

    def receive_text(self, text: str, real_ns: int) -> None:
        """Take one text frame of the client."""
        if self.close_code is not None:
            return
        if text == "ping":
            self.push("pong", real_ns)
            return
        if len(text) > MAX_FRAME:
            self.close(1009, "frame too long")
            return
        try:
            request = json.loads(text)
        except (ValueError, RecursionError):
            request = None
        if not isinstance(request, dict) or not isinstance(request.get("op"), str):
            self._refuse("60012", f"Invalid request: {text}", None)
            return
        request_id = request.get("id")
        if request_id is not None and not (isinstance(request_id, str) and _ID.fullmatch(request_id)):
            self._refuse("60033", messages.ERRORS["60033"].format("id"), None)
            return
        op, args = request["op"], request.get("args")
        if op == "ping" or (op in ("subscribe", "unsubscribe", "login") and not isinstance(args, list)):
            self._refuse("60012", f"Invalid request: {text}", request_id)
        elif op not in ("subscribe", "unsubscribe", "login"):
            self._refuse("60019", messages.ERRORS["60019"].format(op), request_id)
        elif not args:
            self._refuse("60013", messages.ERRORS["60013"], request_id)
        elif self._is_too_frequent(real_ns):
            self._refuse("60014", messages.ERRORS["60014"], request_id)
        elif op == "login":
            self._login(args[0], request_id, real_ns)
        else:
            self._host.count(op)
            for arg in args:
                self._change(op, arg, request_id, real_ns)

    def push(self, text: str, real_ns: int) -> None:
        """Queue a frame that keeps the connection alive."""
        self._outgoing.append(text)
        self._pushed_ns = real_ns

    def texts_to_send(self) -> list[str]:
        """Return the frames to send, in order, and empty the list."""
        if not self._outgoing:
            return []
        texts, self._outgoing = self._outgoing, []
        return texts

    def close(self, code: int, reason: str) -> None:
        """Ask for the connection to be closed; the first reason stays."""
        if self.close_code is None:
            self.close_code, self.close_reason = code, reason
            self._host.count(f"close_{code}")

    def give_notice(self, real_ns: int, seconds: float) -> None:
        """Announce the end of the connection, and end it then."""
        self.push(messages.notice(self.conn_id), real_ns)
        self._close_at_ns = real_ns + int(seconds * NS_PER_S)

    def keep_house(self, real_ns: int) -> None:
        """Close what has been silent for 30 s, or was told to go."""
        if self._close_at_ns is not None and real_ns >= self._close_at_ns:
            self.close(1001, "service upgrade")
        elif real_ns - self._pushed_ns >= _SILENCE_NS:
            self.close(4004, "No data received in 30s.")

    def subscriptions(self) -> list[str]:
        """Return what is subscribed, for the state page."""
        return [":".join(part for part in subscription if part) for subscription in self.subscribed]

    def _is_too_frequent(self, real_ns: int) -> bool:
        while self._requests and self._requests[0] <= real_ns - _HOUR_NS:
            self._requests.popleft()
        if len(self._requests) >= REQUESTS_PER_HOUR:
            return True
        self._requests.append(real_ns)
        return False

    def _change(self, op: str, arg: Any, request_id: str | None, real_ns: int) -> None:
        """Subscribe or unsubscribe one element; a bad one fails alone."""
        if not isinstance(arg, dict) or not isinstance(arg.get("channel"), str):
            self._refuse("60013", messages.ERRORS["60013"], request_id)
            return
        channel: str = arg["channel"]
        refusal = self._refusal(channel)
        if refusal is not None:
            self._refuse(refusal, messages.ERRORS[refusal], request_id)
            return
        subscription = self._host.resolve(channel, arg) if channel in self._carried() else None
        if subscription is None:
            self._refuse("60018", messages.wrong_channel(arg), request_id)
            return
        text = messages.ack(op, arg, self.conn_id, request_id)
        if op == "subscribe":
            self.subscribed[subscription] = arg
            if not self._host.data_before_ack:
                self.push(text, real_ns)
            self._host.subscribed(self, subscription, real_ns)
            if self._host.data_before_ack:
                self.push(text, real_ns)
            return
        self.push(text, real_ns)
        if self.subscribed.pop(subscription, None) is not None:
            self._host.unsubscribed(self, subscription)

    def _carried(self) -> frozenset[str]:
        if self.kind == "public":
            return messages.PUBLIC_CHANNELS
        return messages.BUSINESS_CHANNELS if self.kind == "business" else frozenset()

    def _refusal(self, channel: str) -> str | None:
        """Return the code with which this URL or login refuses a channel as such."""
        if self.kind == "business" and channel in messages.PUBLIC_CHANNELS | messages.PRIVATE_CHANNELS:
            return "64002"
        if self.kind == "private" and channel in messages.PRIVATE_CHANNELS and not self.is_logged_in:
            return "60011"
        if self.kind == "public" and channel in messages.TIER_CHANNELS:
            return "64003" if self.is_logged_in else "60011"
        return None

    def _login(self, arg: Any, request_id: str | None, real_ns: int) -> None:
        try:
            if self.is_logged_in:
                raise LoginRejected("60031")
            check_login(arg, self._host.secrets, self._host.now_ms())
        except LoginRejected as exc:
            self._refuse(exc.code, messages.ERRORS[exc.code], request_id)
            return
        self.is_logged_in = True
        frame = {"event": "login", "code": "0", "msg": "", "connId": self.conn_id}
        self.push(messages.dump(frame if request_id is None else {"id": request_id, **frame}), real_ns)

    def _refuse(self, code: str, message: str, request_id: str | None) -> None:
        # An error answers, but it does not keep a connection alive.
        self._host.count(f"error_{code}")
        self._outgoing.append(messages.error(code, message, self.conn_id, request_id))
