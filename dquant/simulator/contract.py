"""What the engine must know of an instrument: its value, fees, margin; money in whole minor units.

``value(lots, price)`` is what a position or trade of that many lots is worth in the settle coin, a whole
number of its minor units, so that money adds up exactly. The rounding is the venue's: BitMEX rounds a lot of
100 contracts to a satoshi (sheet section 6.3), so it hands in its own ``value_of``; OKX pays fractions, so
its coins have 16 decimals here, far below what it prints.

Sign of a position's cost: a long of an inverse contract, and a short of a linear one, cost below zero, as
BitMEX writes ``currentCost`` (sections 6.3, 6.4). PnL is then ``mark_value - cost`` everywhere.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

from dquant.simulator.orders import SIGNS
from dquant.simulator.units import Step

ValueOf = Callable[[int, Decimal], int]  # (lots, price) -> minor units of the settle coin


class Payoff(StrEnum):
    """How the value follows the price."""

    INVERSE = "inverse"  # lots * face / price: settles in the base coin
    LINEAR = "linear"  # lots * face * price (quanto contracts too)
    SPOT = "spot"  # coins change hands; there is no position


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """One instrument, as accounts see it. Rates are fractions, fees positive paid."""

    symbol: str
    payoff: Payoff
    tick: Step
    lot: Step
    settle: str  # coin of margin, PnL and fees (spot: the quote coin)
    face: Fraction  # minor units of ``settle``: of one lot at price 1
    maker_fee: Decimal
    taker_fee: Decimal
    group: str  # leverage is shared within it (OKX cross futures: one underlying)
    base: str = ""  # spot: the coin bought
    base_lot: int = 0  # spot: minor units of ``base`` in a lot
    initial_rate: Decimal = Decimal("0.01")  # lowest initial margin; leverage may ask for more
    maintenance_rate: Decimal = Decimal("0.005")
    max_leverage: Decimal = Decimal(100)
    default_leverage: Decimal = Decimal(10)
    margin_fees: int = 0  # taker fees added to an order's margin (BitMEX 2: in and out, section 6.3)
    delivery_fee: Decimal = Decimal(0)
    mark_decimals: int = 2
    expiry_ns: int | None = None
    has_daily_settlement: bool = False  # OKX cross futures, 08:00 UTC
    max_lots: int = 10**12
    value_of: ValueOf | None = None

    def price(self, tick: int) -> Decimal:
        """Return a tick as a price."""
        return self.tick.size * tick

    def value(self, lots: int, price: Decimal) -> int:
        """Return the value of this many lots (no sign), minor units of the settle coin."""
        lots = abs(lots)
        if self.value_of is not None:
            return self.value_of(lots, price)
        over, under = price.as_integer_ratio()
        if self.payoff is Payoff.INVERSE:
            over, under = under, over
        return _rounded(self.face.numerator * lots * over, self.face.denominator * under)

    def cost(self, lots: int, price: Decimal) -> int:
        """Return the signed cost of a position of ``lots`` (signed) entered at this price."""
        value = self.value(lots, price)
        return value if (lots > 0) != (self.payoff is Payoff.INVERSE) else -value

    def entry(self, lots: int, cost: int) -> Decimal | None:
        """Return the average price that this many lots have this cost at: harmonic for inverse contracts."""
        if not lots or not cost:
            return None
        over, under = abs(cost) * self.face.denominator, abs(lots) * self.face.numerator
        if self.payoff is Payoff.INVERSE:
            over, under = under, over
        return Decimal(over) / Decimal(under)

    def fee(self, value: int, rate: Decimal) -> int:
        """Return the fee on a value, cut towards zero (BitMEX section 6.5); below zero is a rebate."""
        over, under = rate.as_integer_ratio()
        paid = value * abs(over) // under
        return paid if over >= 0 else -paid


def inverse_face(lot: Step, contract_usd: str, decimals: int) -> Fraction:
    """Return ``face`` of an inverse contract of so many USD, its coin having this many decimals."""
    return Fraction(lot.size) * Fraction(contract_usd) * Fraction(10**decimals)


def linear_face(lot: Step, contract_base: str, decimals: int) -> Fraction:
    """Return ``face`` of a linear contract (or spot: "1") of so many coins, for the quote's decimals."""
    return Fraction(lot.size) * Fraction(contract_base) * Fraction(10**decimals)


def signed(side: int, lots: int) -> int:
    """Return what lots filled on a side do to a position."""
    return SIGNS[side] * lots


def share_of(amount: int, part: int, whole: int) -> int:
    """Return ``amount * part / whole`` to the nearest minor unit; the whole of it for the whole."""
    return amount if part == whole else _rounded(amount * part, whole)


def rounded_up(over: int, under: int) -> int:
    """Return a quotient rounded up: margins."""
    return -(-over // under)


def _rounded(over: int, under: int) -> int:
    return (2 * over + under) // (2 * under)
