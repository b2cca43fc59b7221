"""Faults of the engine as policy: which order is refused, cut short or answered badly.

In: ``OrderFault`` s, from a scenario or the control door. Out: ``ExchangeFaults.take(request, account)`` says
which of them bites the order that just comes in; the exchange does the rest. A fault waits for the ``nth``
matching order from now, bites ``count`` orders in a row, and is gone.

- ``reject``: refused at once with ``why``
- ``late_reject``: accepted; cancelled with ``Reason.LATE_REJECT`` after ``delay_ns`` (virtual), if still open
- ``partial``: at most ``share`` of it fills at once, the rest is cancelled with ``Reason.FAULT``
- ``ack_lost``, ``ack_late`` (``delay_ns``), ``ack_twice``: the order lives as usual; ``Placed.answer`` tells
  the venue what to do with its acknowledgement
- ``fill_first``: the venue sends the order's events before its acknowledgement
"""

from collections import deque
from dataclasses import dataclass
from decimal import Decimal

from dquant.simulator.orders import OrderRequest, Why

KINDS = ("reject", "late_reject", "partial", "ack_lost", "ack_late", "ack_twice", "fill_first")
_LIMIT = 1_000  # faults waiting at once; more is a scenario gone wrong


@dataclass(slots=True, kw_only=True)
class OrderFault:
    """One fault; None and "" in a selector mean every one."""

    kind: str
    nth: int = 1  # the first that bites: 1 is the next matching order
    count: int = 1
    account: str | None = None
    symbol: str | None = None
    side: int | None = None
    why: Why = Why.FAULT
    delay_ns: int = 0
    share: Decimal = Decimal("0.5")

    def matches(self, account: str, request: OrderRequest) -> bool:
        """Return whether it is meant for this order."""
        return (
            self.account in (None, account)
            and self.symbol in (None, request.symbol)
            and self.side in (None, request.side)
        )


@dataclass(frozen=True, slots=True)
class AnswerPlan:
    """What the venue does with its acknowledgement."""

    lost: bool = False
    twice: bool = False
    delay_ns: int = 0  # virtual
    after_events: bool = False  # the events of the order are sent first


PLAIN_ANSWER = AnswerPlan()


class ExchangeFaults:
    """The order faults of one exchange; costs nothing while there are none."""

    __slots__ = ("_faults", "bitten")

    def __init__(self) -> None:
        self._faults: deque[OrderFault] = deque()
        self.bitten = 0

    def add(self, fault: OrderFault) -> None:
        """Put a fault into effect.

        Raises:
            ValueError: There is no such kind, a number makes no sense, or too many wait already.

        """
        if fault.kind not in KINDS:
            raise ValueError(f"an order fault is one of {', '.join(KINDS)}, not {fault.kind!r}")
        if fault.nth < 1 or fault.count < 1 or fault.delay_ns < 0 or not 0 <= fault.share <= 1:
            raise ValueError("nth and count start at 1, delay_ns at 0; share is between 0 and 1")
        if len(self._faults) >= _LIMIT:
            raise ValueError(f"{_LIMIT} order faults wait already")
        self._faults.append(fault)

    def clear(self, kind: str | None = None) -> int:
        """Lift all faults, or those of one kind; return how many."""
        kept = deque(fault for fault in self._faults if kind is not None and fault.kind != kind)
        lifted = len(self._faults) - len(kept)
        self._faults = kept
        return lifted

    def lift(self, fault: OrderFault) -> bool:
        """Take one fault out of effect; False where it has bitten for the last time."""
        if fault not in self._faults:
            return False
        self._faults.remove(fault)
        return True

    def waiting(self) -> list[OrderFault]:
        """Return the faults that have not bitten for the last time."""
        return list(self._faults)

    def take(self, account: str, request: OrderRequest) -> list[OrderFault]:
        """Return the faults that bite this order, counting every one that it matches."""
        if not self._faults:
            return []
        biting: list[OrderFault] = []
        for fault in list(self._faults):
            if not fault.matches(account, request):
                continue
            fault.nth -= 1
            if fault.nth > 0:
                continue
            biting.append(fault)
            fault.count -= 1
            if fault.count <= 0:
                self._faults.remove(fault)
        self.bitten += len(biting)
        return biting


def answer_plan(faults: list[OrderFault]) -> AnswerPlan:
    """Return what the venue does with the acknowledgement of an order that these faults bit."""
    if not faults:
        return PLAIN_ANSWER
    kinds = {fault.kind for fault in faults}
    delay = max((fault.delay_ns for fault in faults if fault.kind == "ack_late"), default=0)
    return AnswerPlan("ack_lost" in kinds, "ack_twice" in kinds, delay, "fill_first" in kinds)
