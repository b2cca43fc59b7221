"""What is traded: one contract or pair of one venue, as its instruments list describes it."""

from decimal import ROUND_DOWN, Decimal
from typing import Literal

import msgspec

Kind = Literal["future", "swap", "spot"]


class Instrument(msgspec.Struct, frozen=True, kw_only=True):
    """One tradable instrument; sizes are contracts (spot: base coin), times ns since the Unix epoch."""

    venue: str
    inst_id: str
    kind: Kind
    family: str
    tick: Decimal
    lot: Decimal
    min_size: Decimal
    multiplier: Decimal  # what one contract stands for: inverse USD, linear base coin, spot 1
    is_inverse: bool
    settle_ccy: str
    state: str = "live"
    alias: str = ""  # the venue's own word, only a cross-check
    expiry: int | None = None
    listed: int | None = None
    inst_id_code: int | None = None

    def round_price(self, price: Decimal) -> Decimal:
        """Return the nearest multiple of the tick towards zero."""
        return (price / self.tick).to_integral_value(ROUND_DOWN) * self.tick

    def round_size(self, size: Decimal) -> Decimal:
        """Return the largest multiple of the lot that is not above ``size``."""
        return (size / self.lot).to_integral_value(ROUND_DOWN) * self.lot
