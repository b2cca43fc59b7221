"""What a REST request gets while a fault of the board bites it: 429, 503, a time-out, or no answer at all.

In: a venue, a request, both times. Out: the venue's own answer, or that of the fault in this venue's words.
Written from the fact sheets: OKX sections 7 and 10 (50011, 50001, 50004), BitMEX sections 5.6 and 5.7 (load
shedding lets cancels through, counts against the limits and hangs up; a 502 is HTML and leaves the outcome
open).
"""

import json
from collections.abc import Mapping

from dquant.constants import NS_PER_S
from dquant.simulator.faults import Fault
from dquant.simulator.okex_errors import refusal
from dquant.simulator.venue import RestAnswer, RestRequest, Venue

_OKEX_TIMEOUT = (
    "API endpoint request timeout. (does not mean that the request was successful or failed, "
    "please check the request result)."
)
_STATUSES = frozenset(str(status) for status in range(400, 600))
_BAD_GATEWAY = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>502 Bad Gateway</body>\r\n</html>\r\n"
)
_TOO_MANY = {
    "okex": (
        "50011",
        "Rate limit reached. Please refer to API documentation and throttle requests accordingly.",
    ),
    "bitmex": ("RateLimitError", "Rate limit exceeded, retry in {0} seconds."),
}
_OVERLOADED = {
    "okex": ("50001", "Service temporarily unavailable. Please try again later."),
    "bitmex": ("HTTPError", "The system is currently overloaded. Please try again later."),
}


def answer_with_faults(venue: Venue, request: RestRequest, now_ns: int, real_ns: int) -> RestAnswer:
    """Answer a request, unless a fault of REST bites it."""
    spared = ("overloaded",) if venue.name == "bitmex" and _is_exempt(request) else ()
    fault = venue.faults.take_rest(request.method, request.path, real_ns, spared)
    if fault is None:
        return venue.answer(request, now_ns)
    venue.counters[f"fault_{fault.kind}"] += 1
    if fault.kind in ("timeout", "lost_answer") and fault.done:
        venue.answer(request, now_ns)
    limits = venue.count_request(request, now_ns) if fault.kind == "overloaded" else {}
    return _spoilt(venue.name, fault, now_ns, limits)


def _is_exempt(request: RestRequest) -> bool:
    """Return whether load shedding lets a request through: cancels, and a close of a whole position."""
    closes = b"Close" in request.body and b"orderQty" not in request.body
    return request.method == "DELETE" or request.path.endswith("/order/cancelAllAfter") or closes


def _spoilt(venue: str, fault: Fault, now_ns: int, limits: Mapping[str, str]) -> RestAnswer:
    if fault.kind == "lost_answer":
        return RestAnswer(502, b"", is_lost=True)
    if fault.kind == "timeout":
        if venue == "okex":
            return _envelope(venue, 400, "50004", _OKEX_TIMEOUT)
        return RestAnswer(502, _BAD_GATEWAY, {"Connection": "close"}, "text/html")
    if fault.kind == "error":
        if venue == "okex":
            error = refusal(fault.code or "50026")
            return RestAnswer(error.status, json.dumps(error.envelope(), separators=(",", ":")).encode())
        status = int(fault.code) if fault.code in _STATUSES else 500
        return _envelope(venue, status, "HTTPError", "An error occurred.")
    if fault.kind == "overloaded":
        return _envelope(venue, 503, *_OVERLOADED[venue], {**limits, "Connection": "close"})
    seconds = max(1, int(fault.seconds))
    code, words = _TOO_MANY[venue]
    headers = {"Retry-After": str(seconds)}
    if venue == "bitmex":
        headers |= {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(now_ns // NS_PER_S + seconds)}
    return _envelope(venue, 429, code, words.format(seconds), headers)


def _envelope(
    venue: str, status: int, code: str, words: str, headers: dict[str, str] | None = None
) -> RestAnswer:
    if venue == "okex":
        body: dict[str, object] = {"code": code, "data": [], "msg": words}
    else:
        body = {"error": {"message": words, "name": code}}
    return RestAnswer(status, json.dumps(body, separators=(",", ":")).encode(), headers or {})
