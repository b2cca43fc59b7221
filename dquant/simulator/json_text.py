"""JSON as ``json.dumps`` writes it in ASCII without blanks, in less time.

In: objects and lists of texts, whole numbers, booleans, nulls, and floats whose ``repr`` has no exponent.
Out: the same text; msgspec writes it, and where the two differ (what is not ASCII, DEL) the standard library.
"""

import json
from typing import Any

import msgspec

_by_json = json.JSONEncoder(check_circular=False, separators=(",", ":")).encode


def json_text(value: Any) -> str:
    """Return a value as JSON."""
    try:
        text = msgspec.json.encode(value)
    except ValueError:  # half a character
        return _by_json(value)
    return text.decode() if text.isascii() and b"\x7f" not in text else _by_json(value)
