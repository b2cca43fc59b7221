"""What every client script here shares: where the venue is, and how it says what it saw.

In: one JSON object as the only argument, ``{"venue", "rest", "ws", "keys", …}``. Out: one JSON object a
line on standard output, ``{"call": name, "value": …}`` or ``{"call": name, "error": class, "text": …}``.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

WHERE: dict[str, Any] = json.loads(sys.argv[1])


def tell(call: str, value: Any) -> Any:
    """Say what a call returned."""
    print(json.dumps({"call": call, "value": value}, default=str), flush=True)
    return value


def refuse(call: str, error: BaseException) -> None:
    """Say that a call failed."""
    line = {"call": call, "error": type(error).__name__, "text": str(error)[:1000]}
    print(json.dumps(line), flush=True)


def attempt(call: str, do: Callable[..., Any], *args: Any, **more: Any) -> Any:
    """Call, and say what came of it; None where it failed."""
    try:
        return tell(call, do(*args, **more))
    except Exception as exc:  # the client's own error classes are what is reported
        refuse(call, exc)
        return None
