"""The shapes of OKX v5 public frames, for typed decoding.

Written from the fact sheet ``okx-v5`` sections 2 and 5 (guide of 2026-06-27). Prices,
sizes and times are strings on the wire; the lax decoders turn them into numbers in one
pass. Only what is used is decoded. Sizes are contracts (spot: base coin), ``ts`` is ms.

A frame of books is typed to the last number: an infinite size or a time that does not fit
in ns is refused here and reaches no book; the book itself refuses the rest. An
``Envelope`` takes any JSON object, because kinds come and go without notice.
"""

from typing import Annotated, Any

import msgspec

MAX_TIME_MS = 9_223_372_036_854  # in ns it still fits into 64 bits

# Each bound costs 4 ns a level; ``PriceBook`` looks at signs, NaN and the price itself.
Size = Annotated[float, msgspec.Meta(le=1e18)]
TimeMs = Annotated[int, msgspec.Meta(ge=0, le=MAX_TIME_MS)]


class Arg(msgspec.Struct, gc=False):
    """What a push or an ack is about."""

    channel: str
    instId: str = ""  # noqa: N815


class Row(msgspec.Struct, array_like=True, gc=False):
    """One level as numbers; the wire's dead field and order count are not read."""

    px: float
    sz: Size


class TextLevel(msgspec.Struct, array_like=True, gc=False):
    """One level in the wire's spelling, which the retired checksum covers."""

    px: str
    sz: str


class BookData(msgspec.Struct, gc=False):
    """One book message; the sequence numbers are absent before 2022's end, the checksum 0 since 2026."""

    asks: list[Row]
    bids: list[Row]
    ts: TimeMs
    seqId: int | None = None  # noqa: N815
    prevSeqId: int | None = None  # noqa: N815
    checksum: int | None = 0


class BookFrame(msgspec.Struct, gc=False):
    """A push of ``books``, ``bbo-tbt`` or ``books5``; the last two have no ``action``."""

    arg: Arg
    data: list[BookData]
    action: str = ""


class TextBookData(msgspec.Struct, gc=False):
    """One book message with its levels as text."""

    asks: list[TextLevel]
    bids: list[TextLevel]
    ts: TimeMs
    seqId: int | None = None  # noqa: N815
    prevSeqId: int | None = None  # noqa: N815
    checksum: int | None = 0


class TextBookFrame(msgspec.Struct, gc=False):
    """A book push of the checksum era."""

    arg: Arg
    data: list[TextBookData]
    action: str = ""


class Envelope(msgspec.Struct, gc=False):
    """Any JSON object, far enough to tell its kind; codes were ints in a few old errors."""

    event: Any = ""
    id: Any = ""
    code: Any = ""
    msg: Any = ""
    channel: Any = ""
    action: Any = ""
    arg: Any = None
    data: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)

    def arg_of(self, key: str) -> str:
        """Return one text of ``arg``, ``""`` where there is none."""
        value = self.arg.get(key) if isinstance(self.arg, dict) else None
        return value if isinstance(value, str) else ""


decode_book = msgspec.json.Decoder(BookFrame, strict=False).decode
decode_text_book = msgspec.json.Decoder(TextBookFrame, strict=False).decode
decode_envelope = msgspec.json.Decoder(Envelope).decode
decode_rows = msgspec.json.Decoder(list[Any]).decode
