"""One client's websocket at the simulated OKX: requests in, acks, errors and pushes out. No I/O.

Written from the fact sheet, sections 2 and 8.3: one ack an element, errors by code without ``arg``, text
``ping``, 480 requests an hour, close 4004 after 30 s in which nothing was pushed; trading operations after a
login on the private URL. What a subscription or an order means is the venue's business (``okex_server``);
the connection knows which URL carries what.

Times are real time, ns: housekeeping does not speed up with the market's clock.
"""

import json
import re
from collections import deque
from typing import Any, Protocol

from dquant.constants import NS_PER_S
from dquant.simulator import okex_messages as messages
from dquant.simulator.okex_errors import OkexError
from dquant.simulator.okex_login import KeyRing, LoginRejected, check_login
from dquant.simulator.okex_private import COUNTED, OkexPrivate
from dquant.simulator.okex_trade import OPERATIONS, Answer

MAX_FRAME = 64 * 1024  # bytes of a request
REQUESTS_PER_HOUR = 480
_HOUR_NS = 3600 * NS_PER_S
_SILENCE_NS = 30 * NS_PER_S
_WORK_US = 900  # between inTime and outTime
_ID = re.compile(r"[A-Za-z0-9]{1,32}")

Subscription = tuple[str, str]  # channel, and what it is of: instrument, index, type or nothing


class OkexHost(Protocol):
    """What a connection asks of its venue."""

    push_before_ack: bool
    is_vip: bool
    now_ns: int
    private: OkexPrivate

    @property
    def data_before_ack(self) -> bool:
        """Whether the first push comes before the ack of its subscription."""

    @property
    def keys(self) -> KeyRing:
        """The keys that may log in now."""

    def request_ms(self) -> int:
        """Return the clock that requests' times are held against, ms."""

    def resolve(self, channel: str, arg: dict[str, Any]) -> Subscription | None:
        """Return what an arg stands for; None where there is no such channel or instrument."""

    def subscribed(self, connection: "OkexConnection", subscription: Subscription, real_ns: int) -> None:
        """Start a subscription; the first push may follow at once."""

    def unsubscribed(self, connection: "OkexConnection", subscription: Subscription) -> None:
        """End a subscription."""

    def fault_code(self, op: str, real_ns: int) -> str | None:
        """Return the code with which a fault refuses a login or a subscription now."""

    def count(self, what: str) -> None:
        """Count something that happened."""

    def operate(self, account: str, operation: str, args: Any, exp_time: Any, real_ns: int) -> Answer:
        """Do a trading operation; raises ``OkexError`` where it is refused as a whole."""

    def tell(self, real_ns: int) -> None:
        """Push what trading set off to whoever listens."""


class OkexConnection:
    """Sans-I/O server side of one websocket.

    Args:
        host: The venue.
        kind: ``public``, ``private`` or ``business``: the end of the URL.
        conn_id: Eight hex digits.
        real_ns: Now.
        is_demo: Of the demo environment.

    """

    def __init__(
        self, host: OkexHost, kind: str, conn_id: str, real_ns: int, *, is_demo: bool = False
    ) -> None:
        self.kind, self.conn_id, self.is_demo = kind, conn_id, is_demo
        self.may_trade = True
        self.close_code: int | None = None
        self.close_reason = ""
        self.is_logged_in = False
        self.account = ""  # whose login it is
        self.subscribed: dict[Subscription, dict[str, Any]] = {}
        self._host = host
        self._outgoing: list[str] = []
        self._pushed_ns = real_ns
        self._requests: deque[int] = deque()
        self._close_at_ns: int | None = None
        self._late: list[tuple[int, str]] = []  # answers that a fault keeps back until then (virtual time)

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
        request_id = None if request.get("id") == "" else request.get("id")
        if type(request_id) is int:
            request_id = str(request_id)  # digits, without their quotes
        if request_id is not None and not (isinstance(request_id, str) and _ID.fullmatch(request_id)):
            self._refuse("60033", messages.ERRORS["60033"].format("id"), None)
            return
        op, args = request["op"], request.get("args")
        if op == "ping" or (op in ("subscribe", "unsubscribe", "login") and not isinstance(args, list)):
            self._refuse("60012", f"Invalid request: {text}", request_id)
        elif op in OPERATIONS or op == "mass-cancel":
            self._operate(op, request, request_id, real_ns)
        elif op not in ("subscribe", "unsubscribe", "login"):
            self._refuse("60019", messages.ERRORS["60019"].format(op), request_id)
        elif not args:
            self._refuse("60013", messages.ERRORS["60013"], request_id)
        elif self._is_too_frequent(real_ns):
            self._refuse("60014", messages.ERRORS["60014"], request_id)
        elif (code := self._host.fault_code(op, real_ns)) is not None:
            self._refuse(code, messages.ERRORS.get(code, "Operation failed."), request_id)
        elif op == "login":
            self._login(args, request_id, real_ns)
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
        """Announce the end of the connection, and end it then, by the venue's clock."""
        self.push(messages.notice(self.conn_id), real_ns)
        self._close_at_ns = self._host.now_ns + int(seconds * NS_PER_S)

    def keep_house(self, real_ns: int) -> None:
        """Close what has been silent for 30 s, or was told to go; say what was kept back."""
        if self._late:
            due = [text for due_ns, text in self._late if due_ns <= self._host.now_ns]
            self._late = [entry for entry in self._late if entry[0] > self._host.now_ns]
            for text in due:
                self.push(text, real_ns)
        if self._close_at_ns is not None and self._host.now_ns >= self._close_at_ns:
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
        if not channel:
            self._refuse("60027", messages.ERRORS["60027"].format("channel"), request_id)
            return
        refusal = "64000" if arg.get("uly") else self._refusal(channel)
        if refusal is not None:
            self._refuse(refusal, messages.ERRORS[refusal], request_id)
            return
        subscription = None
        if self.kind == "private":
            subscription = self._host.private.resolve(channel, arg)
        elif channel in self._carried():
            subscription = self._host.resolve(channel, arg)
        mine = channel, str(arg.get("instId"))
        if subscription is None and op == "unsubscribe" and mine in self.subscribed:
            subscription = mine  # of a contract that has expired since
        if subscription is None:
            self._refuse("60018", messages.wrong_channel(arg), request_id)
            return
        text = messages.ack(op, arg, self.conn_id, request_id)
        if self.kind == "private":
            self._change_private(op, subscription, arg, text, real_ns)
            return
        if op == "subscribe":
            rival = self._rival(subscription)
            if rival is not None:
                both = channel if rival == "books-l2-tbt" else rival
                self._refuse("64004", messages.ERRORS["64004"].format(both, subscription[1]), request_id)
                return
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

    def _change_private(
        self, op: str, subscription: Subscription, arg: dict[str, Any], text: str, real_ns: int
    ) -> None:
        """Change a private subscription; one too many of its channel is acked and then ended."""
        private, channel = self._host.private, subscription[0]
        if op == "unsubscribe":
            self.push(text, real_ns)
            if self.subscribed.pop(subscription, None) is not None:
                private.unsubscribed(self, subscription)
            return
        is_full = channel in COUNTED and private.is_full(self, channel)
        if is_full:
            self.push(text, real_ns)
            self.push(private.count_text(self, channel, is_error=True), real_ns)
            return
        self.subscribed[subscription] = arg
        private.subscribed(self, subscription, arg, self._host.now_ns)
        if self._host.data_before_ack:
            private.first_push(self, subscription, real_ns)
        self.push(text, real_ns)
        self.push(private.count_text(self, channel, is_error=False), real_ns)
        if not self._host.data_before_ack:
            private.first_push(self, subscription, real_ns)

    def _operate(self, op: str, request: dict[str, Any], request_id: str | None, real_ns: int) -> None:
        """Do a trading operation and answer it; what it sets off is pushed right after."""
        if self.kind != "private":
            self._refuse("60028", messages.ERRORS["60028"], request_id)
        elif not self.is_logged_in:
            self._refuse("60011", messages.ERRORS["60011"], request_id)
        elif request_id is None:
            self._refuse("60027", messages.ERRORS["60027"].format("id"), None)
        else:
            in_us = self._host.now_ns // 1_000
            try:
                if not self.may_trade:
                    raise OkexError("50120")
                answer = self._host.operate(
                    self.account, op, request.get("args"), request.get("expTime"), real_ns
                )
            except OkexError as exc:
                answer = Answer([], exc.code, exc.message)
            frame = {
                "id": request_id,
                "op": op,
                "data": answer.rows,
                "code": answer.code,
                "msg": answer.message,
            }
            self._acknowledge(
                messages.dump({**frame, "inTime": str(in_us), "outTime": str(in_us + _WORK_US)}),
                answer,
                real_ns,
            )
            self._host.tell(real_ns)

    def _acknowledge(self, text: str, answer: Answer, real_ns: int) -> None:
        plan = answer.plan
        if plan.after_events or self._host.push_before_ack:
            self._host.tell(real_ns)
        if plan.lost:
            return
        for _ in range(2 if plan.twice else 1):
            if plan.delay_ns:
                self._late.append((self._host.now_ns + plan.delay_ns, text))
            else:
                self.push(text, real_ns)

    def _carried(self) -> frozenset[str]:
        if self.kind == "public":
            return messages.PUBLIC_CHANNELS
        return messages.BUSINESS_CHANNELS if self.kind == "business" else frozenset()

    def _refusal(self, channel: str) -> str | None:
        """Return the code with which this URL or login refuses a channel as such."""
        if self.kind == "business" and channel in messages.PUBLIC_CHANNELS | messages.PRIVATE_CHANNELS:
            return "64002"
        if self.kind == "private" and channel in messages.BUSINESS_CHANNELS:
            return "64001"
        owned = {"private": messages.PRIVATE_CHANNELS, "business": messages.ALGO_CHANNELS}
        if channel in owned.get(self.kind, ()) and not self.is_logged_in:
            return "60011"
        if self.kind == "private" and channel == "fills" and not self._host.is_vip:
            return "64003"
        if self.kind == "public" and channel in messages.TIER_CHANNELS and not self._host.is_vip:
            return "64003" if self.is_logged_in else "60011"
        return "60011" if channel in messages.TIER_CHANNELS and not self.is_logged_in else None

    def _rival(self, subscription: Subscription) -> str | None:
        """Return the book of one instrument that may not be listened to beside this one."""
        channel, name = subscription
        rivals = ("books", "books50-l2-tbt") if channel == "books-l2-tbt" else ("books-l2-tbt",)
        if channel not in messages.TIER_CHANNELS | {"books"}:
            return None
        return next((rival for rival in rivals if (rival, name) in self.subscribed), None)

    def _login(self, args: list[Any], request_id: str | None, real_ns: int) -> None:
        try:
            if self.is_logged_in:
                raise LoginRejected("60031")
            named = {name for arg in args if isinstance(arg, dict) for name in arg}
            if named >= {"apiKey", "token"}:
                raise LoginRejected("60026")
            now_ms = self._host.request_ms()
            secrets = check_login(args[0], self._host.keys, now_ms, is_demo=self.is_demo)
        except LoginRejected as exc:
            self._refuse(exc.code, messages.ERRORS[exc.code].format(exc.param), request_id)
            return
        self.is_logged_in, self.account = True, secrets.account
        self.may_trade = secrets.may_trade
        frame = {"event": "login", "code": "0", "msg": "", "connId": self.conn_id}
        self.push(messages.dump(frame if request_id is None else {"id": request_id, **frame}), real_ns)

    def _refuse(self, code: str, message: str, request_id: str | None) -> None:
        # An error answers, but it does not keep a connection alive.
        self._host.count(f"error_{code}")
        self._outgoing.append(messages.error(code, message, self.conn_id, request_id))
