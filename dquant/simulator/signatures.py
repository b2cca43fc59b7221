"""HMAC-SHA256, with which both venues' clients sign.

``hmac`` sets its key up for every text and asks OpenSSL for everything anew, which took longer than what it
computes. Here the two states that a key leads to (RFC 2104: the key padded, its bits turned two ways) are
made once and copied.
"""

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import _Hash

_BLOCK = 64  # bytes
_INNER, _OUTER = (bytes(number ^ mask for number in range(256)) for mask in (0x36, 0x5C))


def hmac_sha256(secret: str, text: bytes) -> bytes:
    """Return the digest of a text under a secret."""
    inner, outer = _states(secret)
    inner, outer = inner.copy(), outer.copy()
    inner.update(text)
    outer.update(inner.digest())
    return outer.digest()


@lru_cache(maxsize=512)
def _states(secret: str) -> "tuple[_Hash, _Hash]":
    key = secret.encode()
    key = (hashlib.sha256(key).digest() if len(key) > _BLOCK else key).ljust(_BLOCK, b"\0")
    return hashlib.sha256(key.translate(_INNER)), hashlib.sha256(key.translate(_OUTER))
