"""The instruments of the simulated OKX as the engine's accounts see them: value, fees, margin, delivery.

In: a ``Listing``. Out: its ``Contract``, its fee rates and position tiers. Written from the fact sheet,
sections 6 and 11. Lv1 fees; the delivery fee and the maintenance rates are not in the sheet and are set here.
"""

from decimal import Decimal
from fractions import Fraction

from dquant.simulator.contract import Contract, Payoff, inverse_face, linear_face
from dquant.simulator.okex_instruments import Listing
from dquant.simulator.units import Step

# OKX pays fractions of a satoshi; 16 decimals are far below what it prints.
COINS = {"BTC": 16, "ETH": 16, "USDT": 16, "USD": 16}
FUNDS = {"BTC": Decimal(10), "ETH": Decimal(100), "USDT": Decimal(500_000), "USD": Decimal(100_000)}
DELIVERY_FEE = Decimal("0.0001")
_FEES = {"SPOT": (Decimal("0.0008"), Decimal("0.001"))}
_DERIVATIVE_FEES = (Decimal("0.0002"), Decimal("0.0005"))
_MAINTENANCE = {"SWAP": Decimal("0.004"), "FUTURES": Decimal("0.01"), "SPOT": Decimal("0.03")}


def fees(inst_type: str) -> tuple[Decimal, Decimal]:
    """Return the maker and taker rates of a regular user, positive paid."""
    return _FEES.get(inst_type, _DERIVATIVE_FEES)


def maintenance_rate(inst_type: str) -> Decimal:
    """Return the maintenance margin rate of the first tier."""
    return _MAINTENANCE.get(inst_type, Decimal("0.03"))


def contract_of(listing: Listing) -> Contract:
    """Return an instrument as the engine's accounts see it."""
    row = listing.row
    tick, lot = Step(row["tickSz"]), Step(row["lotSz"])
    maker, taker = fees(listing.inst_type)
    is_spot = listing.inst_type == "SPOT"
    settle = row["quoteCcy"] if is_spot else row["settleCcy"]
    decimals = COINS[settle]
    highest = Decimal(row["lever"])
    if is_spot:
        payoff, face = Payoff.SPOT, linear_face(lot, "1", decimals)
    elif listing.is_inverse:
        payoff, face = Payoff.INVERSE, inverse_face(lot, row["ctVal"], decimals)
    else:
        payoff, face = Payoff.LINEAR, linear_face(lot, row["ctVal"], decimals)
    return Contract(
        symbol=listing.inst_id,
        payoff=payoff,
        tick=tick,
        lot=lot,
        settle=settle,
        face=face,
        maker_fee=maker,
        taker_fee=taker,
        # Cross futures share their leverage within an underlying, swaps have one each (section 8.1).
        group=f"FUTURES:{listing.family}" if listing.inst_type == "FUTURES" else listing.inst_id,
        base=row["baseCcy"] if is_spot else "",
        base_lot=int(Fraction(lot.size) * 10 ** COINS[row["baseCcy"]]) if is_spot else 0,
        initial_rate=1 / highest,
        maintenance_rate=maintenance_rate(listing.inst_type),
        max_leverage=highest,
        default_leverage=min(highest, Decimal(10)),
        delivery_fee=DELIVERY_FEE if listing.inst_type == "FUTURES" else Decimal(),
        mark_decimals=1 if listing.coin == "BTC" else 2,
        expiry_ns=listing.expiry_ns,
        has_daily_settlement=bool(row["futureSettlement"]),
    )
