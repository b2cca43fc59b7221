"""BitMEX REST, public side: the active instruments.

Written from the fact sheet of the API: 1 endpoints, 3.4 and 6.1 the instrument row, 5.6 errors.
``instruments_of`` is pure; the class owns the socket. One row that is bad or stands for a product
that no market of ours knows (spreads, predictions, FX and stock perpetuals) costs that row only.

``multiplier`` by 6.1: an inverse contract stands for ``multiplier / underlyingToSettleMultiplier``
of quote currency, a linear one (and spot) for ``1 / underlyingToPositionMultiplier`` of the
underlying. A quanto contract (ETHUSD) stands for neither: its ``multiplier`` is what one point
of price is worth in whole coins of settlement (``multiplier`` x 1e-8 XBT), so that
``size * multiplier * price`` is its value in that coin. Times are ns since the Unix epoch.
"""

from collections.abc import Sequence
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlencode

import msgspec

from dquant.constants import NS_PER_S
from dquant.errors import MarketUnreachable, RateLimited, RemoteProtocolError
from dquant.markets.bitmex._bitmex_frames import PARSE_ERRORS, ns_of_iso, state_of
from dquant.markets.http_get import HttpAnswer, http_get, pause_of
from dquant.model.instrument import Instrument, Kind

API_PATH: Final = "/api/v1"

# Where a 429 does not say for how long; the second layer's window is 1 s (fact sheet 5.8).
RATE_LIMIT_PAUSE_S = 1.0

_KINDS: Final[dict[str, Kind]] = {"FFWCSX": "swap", "FFCCSX": "future", "IFXXXP": "spot"}

# Minor units in one coin of settlement (fact sheet 6.2); only quanto contracts need it.
_SETTLE_SCALES: Final = {"XBt": Decimal("1E-8"), "USDt": Decimal("1E-6")}


class _Row(msgspec.Struct, rename="camel"):
    """The fields of an instrument row that are used; numbers keep the digits of the text."""

    symbol: str
    typ: str
    state: str
    underlying: str
    quote_currency: str
    tick_size: Decimal
    lot_size: Decimal
    multiplier: Decimal
    is_inverse: bool
    is_quanto: bool
    settl_currency: str | None = None
    underlying_to_position_multiplier: Decimal | None = None
    underlying_to_settle_multiplier: Decimal | None = None
    expiry: str | None = None
    listing: str | None = None


class _ErrorWords(msgspec.Struct):
    message: str = ""


class _ErrorBody(msgspec.Struct):
    error: _ErrorWords


_read_rows = msgspec.json.Decoder(list[msgspec.Raw]).decode
_read_row = msgspec.json.Decoder(_Row).decode
_read_error = msgspec.json.Decoder(_ErrorBody).decode


def instruments_of(body: bytes | str) -> tuple[list[Instrument], int]:
    """Return the ordinary instruments of an answer, and how many rows were left out.

    Raises:
        RemoteProtocolError: The answer is not a list.

    """
    try:
        rows = _read_rows(body)
    except PARSE_ERRORS as exc:
        raise RemoteProtocolError(f"no list of instruments: {body[:80]!r}") from exc
    instruments = []
    for row in rows:
        try:
            instruments.append(_instrument_of(_read_row(row)))
        except (*PARSE_ERRORS, ValueError, KeyError, ArithmeticError):
            continue
    return instruments, len(rows) - len(instruments)


def _instrument_of(row: _Row) -> Instrument:
    kind = _KINDS[row.typ]
    if row.is_inverse:
        multiplier = row.multiplier / _given(row.underlying_to_settle_multiplier)
    elif row.is_quanto:
        multiplier = row.multiplier * _SETTLE_SCALES[row.settl_currency or ""]
    else:
        multiplier = 1 / _given(row.underlying_to_position_multiplier)
    expiry = ns_of_iso(row.expiry) if row.expiry else None
    if kind == "future" and expiry is None:
        raise ValueError(f"{row.symbol}: a dated contract without expiry")
    lot = _positive(row.lot_size)
    return Instrument(
        venue="bitmex",
        inst_id=row.symbol,
        kind=kind,
        family=row.underlying + row.quote_currency,
        tick=_positive(row.tick_size),
        lot=lot,
        min_size=lot,
        multiplier=_positive(multiplier),
        is_inverse=row.is_inverse,
        settle_ccy=row.settl_currency or row.quote_currency,
        state=state_of(row.state),
        expiry=expiry,
        listed=ns_of_iso(row.listing) if row.listing else None,
    )


def _given(value: Decimal | None) -> Decimal:
    if value is None:
        raise ValueError("the row does not say what a contract stands for")
    return value


def _positive(value: Decimal) -> Decimal:
    if not value.is_finite() or value <= 0:
        raise ValueError(f"not a positive number: {value}")
    return value


class BitmexFutureRest:
    """The public REST endpoints of one BitMEX address.

    Args:
        base_url: Scheme and host; the guide's ``/api/v1`` may stand behind it.
        timeout_s: Deadline of each request, the connection included.

    """

    def __init__(self, base_url: str, timeout_s: float) -> None:
        self._base_url = base_url.rstrip("/").removesuffix(API_PATH) + API_PATH
        self._timeout_s = timeout_s
        self._quarantined = 0

    def take_quarantined(self) -> int:
        """Return how many rows were left out since the last call."""
        quarantined, self._quarantined = self._quarantined, 0
        return quarantined

    async def instruments(self, symbols: Sequence[str] = ()) -> list[Instrument]:
        """Return the active instruments among ``symbols``; all of them where none is named.

        Raises:
            MarketUnreachable: No usable answer in time; worth trying again.
            RateLimited: Asked too often.
            RemoteProtocolError: The answer is not what the guide describes.

        """
        found, quarantined = instruments_of(await self._get("/instrument/active"))
        self._quarantined += quarantined
        return [item for item in found if not symbols or item.inst_id in symbols]

    async def server_time(self, symbol: str) -> int:
        """Return the venue's clock, ns since the Unix epoch, half a second more or less.

        Any answer carries it in its head; a short one is asked for. Raises as ``instruments`` does.
        """
        query = urlencode({"symbol": symbol, "columns": "symbol", "count": 1})
        answer = await self._ask(f"/instrument?{query}")
        try:
            moment = parsedate_to_datetime(answer.date)
        except ValueError as exc:
            raise RemoteProtocolError(f"no date in an answer of {self._base_url}") from exc
        return int(moment.timestamp() * NS_PER_S) + NS_PER_S // 2

    async def _get(self, path: str) -> bytes:
        return (await self._ask(path)).body

    async def _ask(self, path: str) -> HttpAnswer:
        url = self._base_url + path
        answer = await http_get(url, self._timeout_s)
        status, body = answer.status, answer.body
        if status == 200:
            # A gateway's page instead of the answer is the gateway's trouble, not the protocol's.
            if body.lstrip()[:1] == b"<":
                raise MarketUnreachable(f"GET {url}: a page instead of JSON: {body[:80]!r}")
            return answer
        words = f"GET {url}: HTTP {status} {_words_of(body)}"
        if status == 429:
            raise RateLimited(words, pause_of(answer.retry_after, RATE_LIMIT_PAUSE_S))
        if status >= 500:
            raise MarketUnreachable(words)
        raise RemoteProtocolError(words)


def _words_of(body: bytes) -> str:
    try:
        return _read_error(body).error.message
    except PARSE_ERRORS:
        return repr(body[:80])
