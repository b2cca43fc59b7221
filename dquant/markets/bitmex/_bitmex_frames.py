"""What BitMEX says on its public websocket, as typed rows, and how text becomes them.

Pure decoding: no state but the cache of one clock, no decisions. A frame is first read as
its table in one pass; where that fails, as an envelope whose rows are read one by one, so
that one bad row costs one row. Fields that nobody uses are not decoded.

Written from the fact sheet of the API (last protocol, July 2026): 2.3 acks, 2.4 errors,
3.1 envelope, 3.3 nulls (missing = unchanged, null = cleared), 3.4 tables. Rows of older
years have fewer fields: the price of an L2 ``update`` or ``delete`` came in April 2023,
the timestamps of L2 rows in February 2022.
"""

from datetime import UTC, datetime, timedelta
from typing import Final, Generic, Literal, TypeVar

import msgspec

from dquant.constants import NS_PER_MS
from dquant.errors import RemoteProtocolError

# What msgspec raises on text from outside; RecursionError on absurd nesting.
PARSE_ERRORS = (msgspec.MsgspecError, UnicodeError, RecursionError)

Action = Literal["partial", "insert", "update", "delete"]

ABSENT = msgspec.Raw(b"{}")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

# How a time with milliseconds ends, and what that adds to its second.
_MILLIS: Final = {f".{ms:03}Z": ms * NS_PER_MS for ms in range(1000)}

_STATES: Final = {
    "Open": "live",
    "Closed": "suspend",
    "Unlisted": "preopen",
    "Expired": "expired",
    "Cleared": "expired",
    "Settled": "expired",
    "Delisted": "expired",
}


class Filter(msgspec.Struct, gc=False):
    """Which rows a subscription covers; without a symbol: those of all symbols."""

    symbol: str | list[str] | None = None

    def symbols(self) -> list[str]:
        """Return the symbols that are named."""
        if self.symbol is None:
            return []
        return [self.symbol] if isinstance(self.symbol, str) else self.symbol


class LevelRow(msgspec.Struct, gc=False):
    """A row of ``orderBookL2`` and its shorter kin; keyed by symbol, id and side."""

    symbol: str
    id: int
    side: Literal["Buy", "Sell"]
    size: float | None = None
    price: float | None = None
    timestamp: str | None = None


class QuoteRow(msgspec.Struct, gc=False, rename="camel"):
    """A ready-made top of book; a side is missing while nothing rests there."""

    symbol: str
    bid_price: float | None = None
    bid_size: float | None = None
    ask_price: float | None = None
    ask_size: float | None = None
    timestamp: str | None = None


class TradeRow(msgspec.Struct, gc=False):
    """A print; what is not ``Regular`` (index ticks, settlement) is no trade and may lack its side."""

    symbol: str
    side: str | None = None
    size: float | None = None
    price: float | None = None
    trade_id: str | None = msgspec.field(default=None, name="trdMatchID")
    kind: str | None = msgspec.field(default=None, name="trdType")
    timestamp: str | None = None


class InstrumentRow(msgspec.Struct, gc=False, rename="camel"):
    """What changed of one instrument."""

    symbol: str
    state: str | msgspec.UnsetType | None = msgspec.UNSET
    mark_price: float | msgspec.UnsetType | None = msgspec.UNSET
    indicative_settle_price: float | msgspec.UnsetType | None = msgspec.UNSET
    funding_rate: float | msgspec.UnsetType | None = msgspec.UNSET
    funding_timestamp: str | msgspec.UnsetType | None = msgspec.UNSET
    timestamp: str | None = None


class FundingRow(msgspec.Struct, gc=False, rename="camel"):
    """A funding that was exchanged at ``timestamp``."""

    symbol: str
    timestamp: str
    funding_rate: float


class Envelope(msgspec.Struct, gc=False):
    """Any frame that is an object: a table, an ack, an error or a notice."""

    table: str | None = None
    action: str | None = None
    data: msgspec.Raw = ABSENT
    filter: Filter | None = None
    success: bool | None = None
    subscribe: str | None = None
    unsubscribe: str | None = None
    error: str | None = None
    status: int | None = None
    meta: msgspec.Raw = ABSENT
    request: msgspec.Raw = ABSENT
    info: str | None = None
    limit: msgspec.Raw = ABSENT


class Request(msgspec.Struct, gc=False):
    """The command that an ack or an error repeats; ``args`` keeps the spelling we sent."""

    op: str = ""
    args: list[str] | str = ""

    def topics(self) -> list[str]:
        """Return the arguments as a list."""
        return [self.args] if isinstance(self.args, str) else self.args


class Meta(msgspec.Struct, gc=False, rename="camel"):
    """What an error adds."""

    retry_after: float | None = None


class Limit(msgspec.Struct, gc=False):
    """How many connections are left in the window."""

    remaining: int | None = None


RowT = TypeVar("RowT", bound=msgspec.Struct)


class TableFrame(msgspec.Struct, Generic[RowT], gc=False):
    """A frame of one table with all its rows readable."""

    table: str
    action: Action
    data: list[RowT]
    filter: Filter | None = None


class _Symbol(msgspec.Struct, gc=False):
    symbol: str


class TableReader(Generic[RowT]):
    """Reads the frames of one table (or of several with the same rows)."""

    def __init__(self, row_type: type[RowT]) -> None:
        # In one pass from the text; the caller compares ``table`` afterwards.
        self.read_text = msgspec.json.Decoder(TableFrame[row_type]).decode  # type: ignore[valid-type]
        self._read_rows = msgspec.json.Decoder(list[row_type]).decode  # type: ignore[valid-type]
        self._read_row = msgspec.json.Decoder(row_type).decode

    def read_envelope(self, envelope: Envelope) -> tuple[TableFrame[RowT], list[msgspec.Raw]]:
        """Return a frame of the readable rows of an envelope, and the bad rows.

        Raises:
            RemoteProtocolError: No table of this protocol looks like that.

        """
        try:
            action = msgspec.convert(envelope.action, Action)
            raw_rows = _read_raw_rows(envelope.data)
        except PARSE_ERRORS as exc:
            raise RemoteProtocolError(f"unreadable frame of table {envelope.table!r}: {exc}") from exc
        frame: TableFrame[RowT] = TableFrame(envelope.table or "", action, [], envelope.filter)
        bad_rows = []
        try:
            frame.data = self._read_rows(envelope.data)
        except PARSE_ERRORS:
            for raw in raw_rows:
                try:
                    frame.data.append(self._read_row(raw))
                except PARSE_ERRORS:
                    bad_rows.append(raw)
        return frame, bad_rows


_read_raw_rows = msgspec.json.Decoder(list[msgspec.Raw]).decode
_read_symbol = msgspec.json.Decoder(_Symbol).decode
_read_request = msgspec.json.Decoder(Request).decode
_read_meta = msgspec.json.Decoder(Meta).decode
_read_limit = msgspec.json.Decoder(Limit).decode

read_envelope = msgspec.json.Decoder(Envelope).decode


def symbol_of(row: msgspec.Raw) -> str | None:
    """Return the symbol of a row that is otherwise unreadable, if it has one."""
    try:
        return _read_symbol(row).symbol
    except PARSE_ERRORS:
        return None


def request_of(envelope: Envelope) -> Request:
    """Return the repeated command; an empty one where there is none that we could have sent."""
    try:
        return _read_request(envelope.request)
    except PARSE_ERRORS:
        return Request()


def retry_after_s(envelope: Envelope) -> float:
    """Return how long a 429 asks us to wait; 1 s where it does not say."""
    try:
        return _read_meta(envelope.meta).retry_after or 1.0
    except PARSE_ERRORS:
        return 1.0


def connections_left(envelope: Envelope) -> int | None:
    """Return what the welcome says about connections left in the window (fact sheet 2.1)."""
    try:
        return _read_limit(envelope.limit).remaining
    except PARSE_ERRORS:
        return None


class IsoClock:
    """Turns ISO 8601 UTC text into ns since the epoch, and remembers the last text and its second."""

    __slots__ = ("_ns", "_second", "_second_ns", "_text")

    def __init__(self) -> None:
        self._text, self._ns = "", 0
        self._second, self._second_ns = "", 0

    def ns(self, text: str | None, default: int) -> int:
        """Return the time; ``default`` where there is none or it cannot be read."""
        if text == self._text:
            return self._ns
        if not text:
            return default
        # 2025-09-30T14:09:00.537Z: within one second only the end changes.
        millis = _MILLIS.get(text[19:])
        if millis is not None and text[:19] == self._second:
            ns = self._second_ns + millis
        else:
            try:
                ns = ns_of_iso(text)
            except (ValueError, OverflowError):
                return default
            if millis is not None:
                self._second, self._second_ns = text[:19], ns - millis
        self._text, self._ns = text, ns
        return ns


def ns_of_iso(text: str) -> int:
    """Return ns since the epoch; text without a zone is UTC.

    Raises:
        ValueError: It is no ISO 8601 time.

    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // _MICROSECOND * 1000


def state_of(word: str) -> str:
    """Return the neutral word for an instrument's state; an unknown one in lower case."""
    return _STATES.get(word, word.lower())
