"""Positions in whole minor units: cost, realised and unrealised PnL, for any payoff.

Pure. A fill adds its signed cost (``contract.Contract.cost``); closing takes a share of the open cost away,
the last lot all that is left of it. So for every position, always and exactly:

    realised + settled == cost - (sum of the signed costs of all its fills)

and over both sides of all trades these sums cancel out. The average entry follows from the cost: harmonic for
inverse contracts, arithmetic for linear ones. Written from the fact sheets, OKX section 11 (daily settlement:
``cost`` moves to the settlement price, ``entry_cost`` stays) and BitMEX sections 6.3 and 6.4.
"""

from decimal import Decimal

from dquant.simulator.contract import Contract, Payoff, share_of
from dquant.simulator.orders import PosSide


class Position:
    """One position of one account; ``lots`` is signed, long above 0."""

    __slots__ = (
        "contract",
        "cost",
        "entry_cost",
        "fees",
        "funding",
        "is_isolated",
        "lots",
        "margin",
        "opened_ns",
        "pos_side",
        "position_id",
        "previous_realised",
        "realised",
        "settled",
        "updated_ns",
    )

    def __init__(
        self,
        contract: Contract,
        pos_side: PosSide,
        position_id: int,
        now_ns: int,
        *,
        is_isolated: bool = False,
    ) -> None:
        self.contract, self.pos_side, self.position_id = contract, pos_side, position_id
        self.is_isolated = is_isolated
        self.margin = 0  # set aside for it, where it is isolated
        self.lots = self.cost = self.entry_cost = 0
        self.realised = self.settled = self.fees = self.funding = self.previous_realised = 0
        self.opened_ns = self.updated_ns = now_ns

    def fill(self, lots: int, price: Decimal, now_ns: int) -> int:
        """Add a fill of signed lots; return the PnL that it realised."""
        cost = self.contract.cost(lots, price)
        self.updated_ns = now_ns
        if not self.lots:
            self._open(now_ns)
        if self.lots * lots >= 0:
            self.lots += lots
            self.cost += cost
            self.entry_cost += cost
            return 0
        closing = min(abs(lots), abs(self.lots))
        closing_cost = cost if closing == abs(lots) else self.contract.cost(_like(lots, closing), price)
        share = share_of(self.cost, closing, abs(self.lots))
        entry_share = share_of(self.entry_cost, closing, abs(self.lots))
        realised = -(share + closing_cost)
        self.realised += realised
        self.lots += _like(lots, closing)
        self.cost -= share
        self.entry_cost -= entry_share
        if closing < abs(lots):  # through zero: the rest is a new position
            self._open(now_ns)
            self.lots = lots - _like(lots, closing)
            self.cost = self.entry_cost = cost - closing_cost
        return realised

    def settle(self, price: Decimal, now_ns: int) -> int:
        """Pay the unrealised PnL and go on from this price; return what was paid."""
        amount = self.unrealised(price)
        self.cost += amount
        self.settled += amount
        self.updated_ns = now_ns
        return amount

    def mark_value(self, price: Decimal) -> int:
        """Return its signed value at a price."""
        return self.contract.cost(self.lots, price) if self.lots else 0

    def unrealised(self, price: Decimal) -> int:
        """Return what closing it at a price would realise."""
        return self.mark_value(price) - self.cost if self.lots else 0

    def result(self) -> int:
        """Return what it has brought since it was opened, all fees and payments included."""
        return self.realised + self.settled - self.fees - self.funding

    def liquidation_price(self, rest: int, maintenance_rate: Decimal) -> Decimal | None:
        """Return where equity meets maintenance margin; ``rest`` is the equity without its unrealised PnL.

        Everything else of the account is held still; None where no positive price does it.
        """
        if not self.lots:
            return None
        size = Decimal(abs(self.lots) * self.contract.face.numerator) / self.contract.face.denominator
        free = Decimal(rest - self.cost)
        is_long = self.lots > 0
        if self.contract.payoff is Payoff.INVERSE:
            free = free if is_long else -free
            factor = 1 + maintenance_rate if is_long else 1 - maintenance_rate
            return size * factor / free if free > 0 else None
        free = -free if is_long else free
        factor = 1 - maintenance_rate if is_long else 1 + maintenance_rate
        return free / (size * factor) if free > 0 else None

    def _open(self, now_ns: int) -> None:
        """Begin the sums anew; the ones of the last position live on in ``previous_realised``."""
        self.previous_realised = self.result()
        self.realised = self.settled = self.fees = self.funding = 0
        self.opened_ns = now_ns


def _like(lots: int, size: int) -> int:
    return size if lots > 0 else -size
