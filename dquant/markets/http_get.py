"""One HTTP GET from a market's loop, with a deadline, by the standard library.

Public REST is a question or two a connection. A thread of its own for each costs nothing
between them, while aiohttp, loaded for it, kept 9 MB resident in every market process
(``benchmarks/README.md``).
"""

import asyncio
import time
from dataclasses import dataclass

from dquant.errors import MarketUnreachable
from dquant.markets.daemon_call import call_in_daemon
from dquant.util import proxy_for

MAX_BODY_BYTES = 16 * 1024 * 1024
CHUNK_BYTES = 64 * 1024
# No server may send a market to sleep for longer, whatever it asks for.
MAX_PAUSE_S = 600.0


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What a server said, whatever its status."""

    status: int
    body: bytes
    retry_after: str
    date: str = ""  # the server's clock, as the header says it


def pause_of(retry_after: str, default_s: float) -> float:
    """Return the seconds that ``Retry-After`` asks for; a date, nonsense or nothing is ``default_s``."""
    try:
        pause_s = float(retry_after)
    except ValueError:
        return default_s
    return min(pause_s, MAX_PAUSE_S) if pause_s > 0.0 else default_s


async def http_get(url: str, timeout_s: float) -> HttpAnswer:
    """Ask once; the thread that asks ends by its own socket deadlines if the answer is not awaited.

    Raises:
        MarketUnreachable: No answer, or not all of it, within ``timeout_s``.

    """
    try:
        async with asyncio.timeout(timeout_s):
            return await call_in_daemon("http-get", lambda: _get(url, timeout_s))
    except TimeoutError as exc:
        raise MarketUnreachable(_too_late(url, timeout_s)) from exc


def _get(url: str, timeout_s: float) -> HttpAnswer:
    import http.client
    import urllib.error
    import urllib.request

    headers = {"User-Agent": "dquant", "Accept": "application/json"}
    deadline = time.monotonic() + timeout_s
    try:
        proxy = proxy_for(url)
        proxies = {} if proxy is None else {"http": proxy, "https": proxy}
        opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies))
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - the configuration takes http(s) only
        try:
            response = opener.open(request, timeout=timeout_s)
        except urllib.error.HTTPError as exc:
            response = exc  # an answer like any other: who asked judges the status
        with response:
            parts, size = [], 0
            while chunk := response.read1(CHUNK_BYTES):
                parts.append(chunk)
                size += len(chunk)
                if size > MAX_BODY_BYTES:
                    raise MarketUnreachable(f"GET {url}: an answer of more than {MAX_BODY_BYTES} bytes")
                if time.monotonic() > deadline:
                    raise MarketUnreachable(f"GET {url}: not all of the answer in {timeout_s:g} s")
            head = response.headers
            return HttpAnswer(
                response.status, b"".join(parts), head.get("Retry-After", ""), head.get("Date", "")
            )
    except (OSError, http.client.HTTPException, ValueError) as exc:
        reason = getattr(exc, "reason", None) or exc
        if isinstance(reason, TimeoutError):
            raise MarketUnreachable(_too_late(url, timeout_s)) from exc
        raise MarketUnreachable(f"GET {url}: {reason!r}") from exc


def _too_late(url: str, timeout_s: float) -> str:
    return f"GET {url}: no answer within {timeout_s:g} s"
