"""Whether a websocket login at the simulated OKX is what the guide asks for (fact sheet, section 3).

The signature is Base64(HMAC-SHA256(secret, timestamp + "GET" + "/users/self/verify")), the timestamp Unix
seconds, at most 30 s from the venue's clock.
"""

import base64
import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Any

_WINDOW_MS = 30_000


@dataclass(frozen=True, slots=True)
class Secrets:
    """The keys of one simulated account; they open nothing else."""

    api_key: str
    secret: str = field(repr=False)
    passphrase: str = field(default="", repr=False)


class LoginRejected(Exception):
    """Carries the venue's error code."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


def check_login(arg: Any, secrets: Secrets, now_ms: int) -> None:
    """Check the one element of a login's ``args``.

    Raises:
        LoginRejected: It is not this account's, or not now.

    """
    if not isinstance(arg, dict):
        raise LoginRejected("60013")
    if arg.get("apiKey") != secrets.api_key:
        raise LoginRejected("60005")
    if arg.get("passphrase") != secrets.passphrase:
        raise LoginRejected("60024")
    timestamp = arg.get("timestamp")
    if not isinstance(timestamp, str) or not timestamp.isascii() or not timestamp.isdecimal():
        raise LoginRejected("60004")
    if len(timestamp) > 12 or abs(int(timestamp) * 1000 - now_ms) > _WINDOW_MS:
        raise LoginRejected("60006")
    text = f"{timestamp}GET/users/self/verify".encode()
    expected = base64.b64encode(hmac.new(secrets.secret.encode(), text, hashlib.sha256).digest()).decode()
    sign = arg.get("sign")
    if not isinstance(sign, str) or not hmac.compare_digest(sign.encode(), expected.encode()):
        raise LoginRejected("60007")
