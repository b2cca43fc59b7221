"""Whether a login or a request at the simulated OKX is signed as the guide asks (fact sheet, section 3).

The signature is Base64(HMAC-SHA256(secret, timestamp + method + path with query + body)). A websocket login
signs ``GET/users/self/verify`` with Unix seconds, a REST request its own with ISO 8601 UTC milliseconds; the
timestamp may be 30 s from the venue's clock.

In: what came over the wire and the venue's time, ms. Out: the account's keys, or a refusal by code.
"""

import base64
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from dquant.simulator.okex_errors import OkexError
from dquant.simulator.signatures import hmac_sha256
from dquant.simulator.venue import RestRequest

_WINDOW_MS = 30_000
_SECONDS = re.compile(r"\d{1,12}(\.\d{1,9})?", re.ASCII)
# What a key looks like: another text is none at all, one like it is nobody's.
_KEY = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
_ISO = re.compile(r"(\d{4}-\d\d-\d\d)T([01]\d|2[0-3]):([0-5]\d):([0-5]\d)(\.\d{1,9})?Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Secrets:
    """The keys of one simulated account; they open nothing else."""

    api_key: str
    secret: str = field(repr=False)
    passphrase: str = field(default="", repr=False)
    account: str = "main"
    is_demo_only: bool = False  # of the demo environment; others are of both here
    may_trade: bool = True
    refusal: str = ""  # the code that it always gets: 50100 (frozen), 50110 (bound to another address)


KeyRing = Mapping[str, Secrets]  # by API key


class LoginRejected(Exception):
    """Carries the venue's error code, and what stands in the gap of its words."""

    def __init__(self, code: str, param: str = "") -> None:
        self.code, self.param = code, param
        super().__init__(code)


def sign(secret: str, text: str | bytes) -> str:
    """Return the signature of a pre-hash text."""
    data = text if isinstance(text, bytes) else text.encode()
    return base64.b64encode(hmac_sha256(secret, data)).decode()


def check_login(arg: Any, keys: KeyRing, now_ms: int, *, is_demo: bool = False) -> Secrets:
    """Check the one element of a login's ``args``, in production or demo; return whose it is.

    Raises:
        LoginRejected: It is nobody's, or not now.

    """
    if not isinstance(arg, dict):
        raise LoginRejected("60013")
    for name in ("apiKey", "passphrase", "timestamp", "sign"):
        if arg.get(name) == "":
            raise LoginRejected("60027", name)
    api_key = arg.get("apiKey")
    secrets = keys.get(api_key) if isinstance(api_key, str) else None
    if secrets is None or (secrets.is_demo_only and not is_demo):
        is_key = isinstance(api_key, str) and (secrets is not None or _KEY.fullmatch(api_key))
        raise LoginRejected("60032" if is_key else "60005")
    if arg.get("passphrase") != secrets.passphrase:
        raise LoginRejected("60024")
    timestamp = arg.get("timestamp")
    if type(timestamp) in (int, float):
        timestamp = str(timestamp)  # OKX's own SDK sends a number
    # Seconds, and clients that follow the guide's example (the clock's ms through 1000) send a fraction too.
    if not isinstance(timestamp, str) or not _SECONDS.fullmatch(timestamp):
        raise LoginRejected("60004")
    if abs(float(timestamp) * 1000 - now_ms) > _WINDOW_MS:
        raise LoginRejected("60006")
    expected = sign(secrets.secret, f"{timestamp}GET/users/self/verify")
    given = arg.get("sign")
    if not isinstance(given, str) or not _equal(given, expected):
        raise LoginRejected("60007")
    if secrets.refusal:
        raise LoginRejected("60009")
    return secrets


def check_request(request: RestRequest, keys: KeyRing, now_ms: int) -> Secrets:
    """Check the four headers of a private request; return whose it is.

    Raises:
        OkexError: 50100 to 50114 and 50119 with HTTP 401, 50006, 50120.

    """
    headers, given = request.headers, {}
    for name, code in (("key", "50103"), ("passphrase", "50104"), ("sign", "50106"), ("timestamp", "50107")):
        given[name] = headers.get(f"ok-access-{name}", "")
        if not given[name]:
            has_token = name == "key" and "authorization" in headers
            raise OkexError("50114" if has_token else code)
    secrets = keys.get(given["key"])
    if secrets is None:
        raise OkexError("50119" if _KEY.fullmatch(given["key"]) else "50111")
    if secrets.is_demo_only and headers.get("x-simulated-trading") != "1":
        raise OkexError("50101")
    asked_ms = _time_ms(given["timestamp"])
    if abs(asked_ms - now_ms) > _WINDOW_MS:
        raise OkexError("50102")
    target = request.target or request.path
    text = f"{given['timestamp']}{request.method}{target}".encode("utf-8", "surrogateescape") + request.body
    if not _equal(given["sign"], sign(secrets.secret, text)):
        raise OkexError("50113")
    if not _equal(given["passphrase"], secrets.passphrase):
        raise OkexError("50105")
    if secrets.refusal:
        raise OkexError(secrets.refusal, request.remote)
    if request.method == "POST" and not secrets.may_trade:
        raise OkexError("50120")
    kind = headers.get("content-type", "application/json")
    if request.method == "POST" and "json" not in kind.lower():
        raise OkexError("50006")
    return secrets


def _equal(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), expected.encode())


def _time_ms(text: str) -> int:
    """Return the time of a header, ms.

    Raises:
        OkexError: 50112.

    """
    found = _ISO.fullmatch(text)
    if found is None:
        raise OkexError("50112")
    date, hours, minutes, seconds, part = found.groups()
    try:
        day_s = _midnight_s(date)
    except ValueError:
        raise OkexError("50112") from None
    second_s = day_s + int(hours) * 3600 + int(minutes) * 60 + int(seconds)
    return second_s * 1000 + int(float(part or 0) * 1000)


@lru_cache(maxsize=16)
def _midnight_s(date: str) -> int:
    return int(datetime.fromisoformat(date).replace(tzinfo=UTC).timestamp())
