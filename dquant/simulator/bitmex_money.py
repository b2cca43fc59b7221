"""BitMEX contracts in the engine's terms: what a lot is worth, what it costs to trade, what margin it takes.

Written from the fact sheet, sections 6.1 to 6.5. Money is whole satoshi (``XBt``) and whole 1e-6 USDT
(``USDt``). Prices come as ``Decimal``, no float touches money.
"""

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

from dquant.simulator.bitmex_instruments import BitmexContract
from dquant.simulator.contract import Contract, Payoff
from dquant.simulator.units import Step

COINS = {"XBt": 8, "USDt": 6}
# Section 6.3: an order of 100 contracts worth 107287 took 1181: initial margin and the taker fee twice.
MARGIN_FEES = 2
MAX_LEVERAGE = Decimal(100)
# Minor units of the settle coin: one contract at price 1.
_QUANTO_FACE, _LINEAR_FACE = 100, 1
VALUES_KEPT = 4096
_SATOSHI_USD = 10**8  # one USD at price 1


def inverse_value(lot: int) -> Callable[[int, Decimal], int]:
    """Return the value of lots of an inverse contract: each lot is rounded to a satoshi (section 6.3)."""

    @lru_cache(VALUES_KEPT)  # open orders are valued again with every change of any of them
    def value_of(lots: int, price: Decimal) -> int:
        over, under = price.as_integer_ratio()
        # Halves go up; between two lots' values there is none at a tick of 0.1.
        return lots * ((2 * lot * _SATOSHI_USD * under + over) // (2 * over))

    return value_of


def engine_contract(contract: BitmexContract) -> Contract:
    """Return a listed contract as the engine knows it."""
    lot, row = contract.lot, contract.fixed
    is_inverse = contract.payoff == "inverse"
    faces = {"inverse": _SATOSHI_USD, "quanto": _QUANTO_FACE, "linear": _LINEAR_FACE}
    initial, maintenance = Decimal(repr(row["initMargin"])), Decimal(repr(row["maintMargin"]))
    return Contract(
        symbol=contract.symbol,
        payoff=Payoff.INVERSE if is_inverse else Payoff.LINEAR,
        tick=Step(repr(contract.tick)),
        lot=Step(str(lot)),
        settle=row["settlCurrency"],
        face=Fraction(faces[contract.payoff] * lot),
        maker_fee=Decimal(repr(row["makerFee"])),
        taker_fee=Decimal(repr(row["takerFee"])),
        group=contract.symbol,
        initial_rate=initial,
        maintenance_rate=maintenance,
        max_leverage=MAX_LEVERAGE,
        default_leverage=MAX_LEVERAGE,
        margin_fees=MARGIN_FEES,
        delivery_fee=Decimal(repr(row["settlementFee"])),
        expiry_ns=contract.expiry,
        max_lots=row["maxOrderQty"] // lot,
        value_of=inverse_value(lot) if is_inverse else None,
    )
