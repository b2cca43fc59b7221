"""Who asks: the keys of the simulated BitMEX and the signatures of requests.

In: verb, path with query exactly as sent, ``expires``, raw body. Out: the account of the key, or a refusal
with status and words of the venue. Written from the BitMEX fact sheet, section 4: the signature is
hex(HMAC-SHA256(secret, verb + path + expires + body)); a websocket signs ``GET/realtime`` without query.
``expires`` is Unix seconds on the venue's clock; the far future is accepted (clients send milliseconds).
"""

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dquant.simulator.signatures import hmac_sha256

WS_PATH = "/realtime"
_EXPIRES_DIGITS = 18
HEADERS = ("api-key", "api-expires", "api-signature")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key of one simulated account; it opens nothing else.

    ``permissions``: ``order`` places and cancels, ``orderCancel`` cancels alone; none only reads.
    """

    key_id: str
    secret: str = field(repr=False)
    account: int
    permissions: tuple[str, ...] = ("order",)


class AuthRefused(Exception):
    """Nobody we know asks, or not now; ``status`` and ``message`` are the venue's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


def sign(secret: str, verb: str, path: str, expires: str, body: bytes = b"") -> str:
    """Return the signature of a request; ``path`` includes the query as it is sent."""
    text = f"{verb}{path}{expires}".encode("utf-8", "surrogateescape") + body
    return hmac_sha256(secret, text).hex()


class KeyRing:
    """All keys of the venue."""

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        self._keys = {key.key_id: key for key in keys}

    def keys_of(self, account: int) -> list[ApiKey]:
        """Return the keys of one account."""
        return [key for key in self._keys.values() if key.account == account]

    def accounts(self) -> list[int]:
        """Return the account numbers, each once."""
        return list(dict.fromkeys(key.account for key in self._keys.values()))

    def check(
        self, credentials: tuple[Any, Any, Any], verb: str, path: str, body: bytes, now_s: int
    ) -> ApiKey:
        """Return the key that signed a request; ``credentials`` are key, expires and signature as sent.

        Raises:
            AuthRefused: The key is unknown, the request has expired, or the signature is another's.

        """
        key_id, expires, signature = credentials
        key = self._keys.get(key_id) if isinstance(key_id, str) else None
        if key is None:
            raise AuthRefused(401, "Invalid API Key.")
        if isinstance(expires, bool) or not isinstance(expires, (int, str)):
            raise AuthRefused(401, "Missing `expires`.")
        text = str(expires)
        if not text.isascii() or not text.isdigit() or len(text) > _EXPIRES_DIGITS:
            raise AuthRefused(400, "Invalid `expires`: a UNIX time in seconds is due.")
        if int(text) < now_s:
            words = "This request has expired - `expires` is in the past."
            raise AuthRefused(400, f"{words} Current time: {now_s}")
        due = sign(key.secret, verb, path, text, body)
        if not isinstance(signature, str) or not hmac.compare_digest(
            signature.lower().encode("utf-8", "surrogatepass"), due.encode()
        ):
            raise AuthRefused(401, "Signature not valid.")
        return key

    def check_websocket(self, credentials: tuple[Any, Any, Any], now_s: int) -> ApiKey:
        """Return the key that signed a websocket login, however it was sent.

        Raises:
            AuthRefused: As ``check``.

        """
        return self.check(credentials, "GET", WS_PATH, b"", now_s)


def credentials_in(fields: Mapping[str, str]) -> tuple[Any, Any, Any] | None:
    """Return key, expires and signature of headers or query parameters; None where there is no key."""
    if "api-key" in fields:
        return fields["api-key"], fields.get("api-expires"), fields.get("api-signature")
    lowered = {name.lower(): value for name, value in fields.items() if name.lower().startswith("api-")}
    if not lowered:
        return None
    key_id, expires, signature = (lowered.get(name) for name in HEADERS)
    return key_id, expires, signature
