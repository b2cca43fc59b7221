"""Trailing stops of the simulated BitMEX: triggers that follow the price and never go back.

In: orders with ``TrailingStopPeg`` and their offset in ticks, virtual time. Out: amends at the engine, one a
second and order at most. An offset below zero hangs under the price and rises with it, one above zero falls
with it (fact sheet, section 5.3).
"""

from dataclasses import dataclass

from dquant.constants import NS_PER_S
from dquant.simulator.exchange import Exchange
from dquant.simulator.orders import OrderView, Refused, State, TriggerSource

STEP_NS = NS_PER_S


@dataclass(slots=True)
class Trail:
    """One trailing stop; ``offset`` is in ticks."""

    account: str
    symbol: str
    offset: int
    source: TriggerSource


class Trailing:
    """All trailing stops of the venue."""

    def __init__(self, exchange: Exchange, now_ns: int) -> None:
        self._exchange = exchange
        self._trails: dict[int, Trail] = {}  # by the engine's order id
        self._next_ns = now_ns

    def first_tick(self, symbol: str, offset: int, source: TriggerSource, last_tick: int) -> int:
        """Return where a trigger starts."""
        return self._reference(symbol, source, last_tick) + offset

    def add(self, order: OrderView, offset: int) -> None:
        """Let an order's trigger follow from now on; a new offset replaces the old one."""
        assert order.trigger is not None
        self._trails[order.order_id] = Trail(order.account, order.symbol, offset, order.trigger.source)

    def trail(self, order_id: int) -> Trail | None:
        """Return how an order trails; None where it does not."""
        return self._trails.get(order_id)

    def step(self, now_ns: int, last_ticks: dict[str, int]) -> None:
        """Move the triggers whose price has moved away; forget orders that do not wait any more."""
        if not self._trails or now_ns < self._next_ns:
            return
        self._next_ns = now_ns + STEP_NS
        for number, trail in list(self._trails.items()):
            try:
                order = self._exchange.order(trail.account, number)
            except Refused:  # so old that the engine has forgotten it
                del self._trails[number]
                continue
            if order.state is not State.WAITING or order.trigger is None or trail.symbol not in last_ticks:
                del self._trails[number]
                continue
            due = self._reference(trail.symbol, trail.source, last_ticks[trail.symbol]) + trail.offset
            if due > order.trigger.tick if trail.offset < 0 else due < order.trigger.tick:
                self._exchange.amend(trail.account, number, trigger_tick=due)

    def _reference(self, symbol: str, source: TriggerSource, last_tick: int) -> int:
        if source is TriggerSource.LAST:
            return last_tick
        price = self._exchange.mark(symbol) if source is TriggerSource.MARK else self._exchange.index(symbol)
        return int(price / self._exchange.contract(symbol).tick.size)
