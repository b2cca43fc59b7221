"""OKX REST, public side: which instruments there are, and what time it is there.

Written from the fact sheet ``okx-v5`` sections 1, 6 and 7. ``instruments_of`` is pure; the
class owns the socket. Sizes are contracts, times ns since the Unix epoch.
"""

from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import msgspec

from dquant.constants import NS_PER_MS
from dquant.errors import MarketUnreachable, RateLimited, RemoteProtocolError
from dquant.markets.http_get import http_get, pause_of
from dquant.markets.okex._okex_frames import MAX_TIME_MS
from dquant.model.instrument import Instrument, Kind

KINDS: dict[str, Kind] = {"FUTURES": "future", "SWAP": "swap", "SPOT": "spot"}
RATE_LIMIT_CODES = ("50011", "50013")
BUSY_CODES = ("50001", "50004", "50026")
# Every limit of the guide is per 2 s; a gateway that bans says for how long.
RATE_LIMIT_PAUSE_S = 2.0


# Ticks, lots and contract sizes are between these; anything else is nonsense.
LEAST, MOST = Decimal("1e-18"), Decimal("1e18")


class _Answer(msgspec.Struct):
    code: Any = ""
    msg: Any = ""
    data: Any = None  # a gateway's error may lack it or have another kind of it


_decode_answer = msgspec.json.Decoder(_Answer).decode


def instruments_of(rows: list[Any]) -> tuple[list[Instrument], int]:
    """Return the ordinary instruments among ``rows``, and how many rows could not be read.

    Linear decoys of an inverse family (``BTC-USD_UM…``) and X-Perps are left out, not quarantined:
    they are sound rows of products that no market of ours stands for.
    """
    instruments, quarantined = [], 0
    for row in rows:
        try:
            instrument = _instrument_of(row)
        except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError):
            quarantined += 1
        else:
            if instrument is not None:
                instruments.append(instrument)
    return instruments, quarantined


def _instrument_of(row: dict[str, Any]) -> Instrument | None:
    kind = KINDS[row["instType"]]
    family = row["instFamily"] or row["instId"]
    if row.get("ruleType", "normal") not in ("", "normal") or "_UM" in family:
        return None
    is_inverse = row["ctType"] == "inverse"
    if kind == "future" and not is_inverse:
        return None
    multiplier = Decimal(1) if kind == "spot" else _positive(row["ctVal"]) * _positive(row["ctMult"])
    code = row.get("instIdCode")
    return Instrument(
        venue="okex",
        inst_id=_text(row["instId"]),
        kind=kind,
        family=family,
        tick=_positive(row["tickSz"]),
        lot=_positive(row["lotSz"]),
        min_size=_positive(row["minSz"]),
        multiplier=multiplier,
        is_inverse=is_inverse,
        settle_ccy=_text(row["settleCcy"] or row["quoteCcy"]),
        state=_text(row["state"]),
        alias=_text(row.get("alias") or ""),
        expiry=_time(row.get("expTime"), is_needed=kind == "future"),
        listed=_time(row.get("listTime")),
        inst_id_code=None if code in (None, "") else int(code),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"not a text: {value!r}")
    return value


def _positive(text: str) -> Decimal:
    value = Decimal(text)
    if not LEAST <= value <= MOST:
        raise ValueError(f"not a sensible number: {text!r}")
    return value


def _ns(text: str) -> int:
    ms = int(text)
    if not 0 <= ms <= MAX_TIME_MS:
        raise ValueError(f"not a time in ms: {text!r}")
    return ms * NS_PER_MS


def _time(text: str | None, *, is_needed: bool = False) -> int | None:
    if text:
        return _ns(text)
    if is_needed:
        raise ValueError("a dated contract without expTime")
    return None


class OkexFutureRest:
    """The public REST endpoints of one OKX address.

    Args:
        base_url: Scheme and host, e.g. of the guide's section 1.
        timeout_s: Deadline of each request, the connection included.

    """

    def __init__(self, base_url: str, timeout_s: float) -> None:
        self._base_url = base_url.rstrip("/")
        self._timeout_s = timeout_s
        self._quarantined = 0

    def take_quarantined(self) -> int:
        """Return how many rows could not be read since the last call."""
        quarantined, self._quarantined = self._quarantined, 0
        return quarantined

    async def instruments(self, kind: Kind, family: str) -> list[Instrument]:
        """Return the live and announced instruments of one family (spot: of one pair).

        Raises:
            MarketUnreachable: No usable answer in time; worth trying again.
            RateLimited: Asked too often.
            RemoteProtocolError: The answer is not what the guide describes.

        """
        wire_kind = next(wire for wire, ours in KINDS.items() if ours == kind)
        query = {"instType": wire_kind, "instId" if kind == "spot" else "instFamily": family}
        found, quarantined = instruments_of(await self._get("/api/v5/public/instruments", query))
        self._quarantined += quarantined
        return [item for item in found if item.family == family]

    async def server_time(self) -> int:
        """Return the venue's clock, ns since the Unix epoch; raises as ``instruments`` does."""
        rows = await self._get("/api/v5/public/time", {})
        try:
            return _ns(rows[0]["ts"])
        except (IndexError, KeyError, TypeError, ValueError, OverflowError) as exc:
            raise RemoteProtocolError(f"no time in {rows!r}") from exc

    async def _get(self, path: str, query: dict[str, str]) -> list[Any]:
        url = f"{self._base_url}{path}" + (f"?{urlencode(query)}" if query else "")
        answer = await http_get(url, self._timeout_s)
        return _rows_of(url, answer.status, answer.body, answer.retry_after)


def _rows_of(url: str, status: int, body: bytes, retry_after: str = "") -> list[Any]:
    try:
        answer = _decode_answer(body)
    except (msgspec.MsgspecError, RecursionError) as exc:
        # Gateways answer HTML, and JSON without data (fact sheet 7): whose fault it is tells the status.
        if status == 429:
            raise RateLimited(f"GET {url}", pause_of(retry_after, RATE_LIMIT_PAUSE_S)) from exc
        if status >= 500:
            raise MarketUnreachable(f"GET {url}: HTTP {status}") from exc
        raise RemoteProtocolError(f"GET {url}: HTTP {status}, not JSON of the guide: {body[:80]!r}") from exc
    code = str(answer.code)
    if status == 429 or code in RATE_LIMIT_CODES:
        raise RateLimited(f"GET {url}", pause_of(retry_after, RATE_LIMIT_PAUSE_S))
    if status >= 500 or code in BUSY_CODES:
        raise MarketUnreachable(f"GET {url}: HTTP {status}, code {code} {answer.msg}")
    if code != "0":
        raise RemoteProtocolError(f"GET {url}: HTTP {status}, code {code} {answer.msg}")
    if not isinstance(answer.data, list):
        # Not the same as an empty list, which says that nothing is listed.
        raise RemoteProtocolError(f"GET {url}: HTTP {status}, code 0 without data")
    return answer.data
