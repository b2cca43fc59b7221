"""One door to everything that can be broken on purpose: at the wire, at an order, at an account.

In: a venue, the name of a fault and its parameters, as the control door and scenario files give them. Out:
what was put into effect, or a ``ValueError`` that says what is allowed; ``check`` only looks.
Three sorts share the names:

- faults of the wire, ``faults.KINDS``: connections, books, REST answers; on the venue's board
- faults of an order, ``ORDER_FAULTS``: they wait for the ``nth`` matching order; on its exchange
- deeds, ``DEEDS``: what the exchange does at once; most of them cannot be lifted

Units: ``delay_ms`` of an order fault is virtual time, all times of the board's faults are real;
``inst_id`` is the instrument as the venue writes it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from dquant.constants import NS_PER_MS
from dquant.simulator.exchange import TradingMode
from dquant.simulator.exchange_events import BalanceView, PositionView
from dquant.simulator.exchange_faults import ExchangeFaults, OrderFault
from dquant.simulator.faults import KINDS, FaultKind, check_params
from dquant.simulator.ledger import Ledger
from dquant.simulator.orders import ASK, BID, OrderView, Refused, Why
from dquant.simulator.venue import Venue

_CHOICE = ("account", "inst_id", "side", "nth", "count")
ORDER_FAULTS: dict[str, FaultKind] = {
    kind.name: kind
    for kind in (
        FaultKind("reject", "an order is refused, `why` says as what", (*_CHOICE, "why"), True),
        FaultKind("late_reject", "accepted, then cancelled after `delay_ms`", (*_CHOICE, "delay_ms"), True),
        FaultKind("partial", "only `share` of it fills, the rest is cancelled", (*_CHOICE, "share"), True),
        FaultKind("ack_lost", "the order lives, its acknowledgement never comes", _CHOICE, True),
        FaultKind("ack_late", "its acknowledgement comes `delay_ms` late", (*_CHOICE, "delay_ms"), True),
        FaultKind("ack_twice", "its acknowledgement comes twice", _CHOICE, True),
        FaultKind("fill_first", "its fills are told before its acknowledgement", _CHOICE, True),
    )
}
DEEDS: dict[str, FaultKind] = {
    kind.name: kind
    for kind in (
        FaultKind("margin_call", "orders go, positions are liquidated at the market", ("account",), True),
        FaultKind("trading", "it takes orders by `mode`: open, reduce_only, closed", ("mode", "inst_id")),
        FaultKind("settle", "forced: contracts end, positions are paid out at the mark", ("inst_id",), True),
    )
}
_ALL = {**KINDS, **ORDER_FAULTS, **DEEDS}
_SIDES = {"buy": BID, "sell": ASK}


@dataclass(frozen=True, slots=True)
class Injected:
    """What is in effect now; ``lift`` takes it back and tells whether it still was."""

    name: str
    lift: Callable[[], bool]


class Exchange(Protocol):
    """What is asked of the exchange behind a venue."""

    @property
    def ledger(self) -> Ledger:
        """What truly happened."""

    def accounts(self) -> Iterable[str]:
        """Return the names of the accounts."""

    def balances(self, account: str) -> Iterable[BalanceView]:
        """Return an account's money."""

    def positions(self, account: str) -> Iterable[PositionView]:
        """Return an account's positions."""

    def open_orders(self, account: str) -> Iterable[OrderView]:
        """Return an account's open orders."""

    def mark(self, symbol: str) -> Decimal:
        """Return the mark price of a contract."""

    def set_trading(self, mode: TradingMode, symbol: str | None = None) -> None:
        """Take these orders only, in one contract or in all."""

    def call_margin(self, account: str) -> None:
        """Liquidate an account."""

    def deliver(self, symbol: str, price: Decimal | None = None) -> None:
        """End a contract."""

    @property
    def faults(self) -> ExchangeFaults:
        """The faults of orders."""


def names() -> list[str]:
    """Return the names of everything that can be broken."""
    return sorted(_ALL)


def exchange_of(venue: Venue) -> Exchange | None:
    """Return the exchange behind a venue; None where it only shows prices."""
    return getattr(venue, "exchange", None)


def can_be_injected(name: str) -> bool:
    """Return whether there is such a fault."""
    return name in _ALL


def check(name: object, params: dict[str, Any]) -> None:
    """Look at a fault without putting it into effect.

    Raises:
        ValueError: There is no such fault or parameter, or a value is not what is due.

    """
    if not isinstance(name, str) or not can_be_injected(name):
        raise ValueError(f"fault must be one of {', '.join(names())}, not {name!r}")
    if name in KINDS:
        check_params(KINDS[name], params)
    elif name in ORDER_FAULTS:
        _order_fault(name, params)
    else:
        _check_deed(name, params)


def inject(venue: Venue, name: str, params: dict[str, Any], real_ns: int) -> Injected:
    """Put a fault into effect at a venue.

    Raises:
        ValueError: As ``check``, or the venue has no exchange to break.

    """
    check(name, params)
    if name in KINDS:
        fault = venue.faults.inject(name, params, real_ns)
        return Injected(name, lambda: venue.faults.lift(fault))
    exchange = exchange_of(venue)
    if exchange is None:
        raise ValueError(f"{venue.name} takes no orders, so {name!r} can break nothing")
    if name in DEEDS:
        return Injected(name, _do(exchange, name, params))
    order_fault, faults = _order_fault(name, params), exchange.faults
    faults.add(order_fault)
    return Injected(name, lambda: faults.lift(order_fault))


def clear(venue: Venue, name: str | None = None) -> int:
    """Lift all faults of a venue, or those of one kind; return how many.

    Raises:
        ValueError: There is no such kind.

    """
    if name is not None and not can_be_injected(name):
        raise ValueError(f"kind must be one of {', '.join(names())}, not {name!r}")
    lifted = venue.faults.clear(name)
    exchange = exchange_of(venue)
    return lifted if exchange is None else lifted + exchange.faults.clear(name)


def in_effect(venue: Venue, real_ns: int) -> list[str]:
    """Return the names of what holds or waits at a venue."""
    exchange = exchange_of(venue)
    waiting = [] if exchange is None else [fault.kind for fault in exchange.faults.waiting()]
    return [fault.kind for fault in venue.faults.active(real_ns)] + waiting


def _check_deed(name: str, params: dict[str, Any]) -> None:
    kind = DEEDS[name]
    for key, value in params.items():
        if key not in kind.params:
            raise ValueError(f"fault {name!r} takes {', '.join(kind.params)}, not {key!r}")
        if not isinstance(value, str):
            raise ValueError(f"{key} of fault {name!r} must be text, not {value!r}")  # noqa: TRY004 - as the others
    if name == "trading" and params.get("mode") not in list(TradingMode):
        raise ValueError(f"mode of fault 'trading' must be one of {', '.join(TradingMode)}")


def _do(exchange: Exchange, name: str, params: dict[str, Any]) -> Callable[[], bool]:
    """Do a deed; return how it is taken back, which only a trading mode can be."""
    account, inst_id = params.get("account"), params.get("inst_id")
    try:
        if name == "trading":
            exchange.set_trading(TradingMode(params["mode"]), inst_id)
            return lambda: _open(exchange, inst_id)
        if name == "margin_call":
            for holder in exchange.accounts() if account is None else [account]:
                exchange.call_margin(holder)
        else:
            held = [view for holder in exchange.accounts() for view in exchange.positions(holder)]
            symbols = dict.fromkeys(view.symbol for view in held if view.lots)
            for symbol in symbols if inst_id is None else [inst_id]:
                exchange.deliver(symbol, exchange.mark(symbol))
    except Refused as exc:
        raise ValueError(f"{name}: {exc}") from exc
    return lambda: False


def _open(exchange: Exchange, inst_id: str | None) -> bool:
    exchange.set_trading(TradingMode.OPEN, inst_id)
    return True


def _order_fault(name: str, params: dict[str, Any]) -> OrderFault:
    kind = ORDER_FAULTS[name]
    for key in params:
        if key not in kind.params:
            raise ValueError(f"fault {name!r} takes {', '.join(kind.params)}, not {key!r}")
    for key in ("account", "inst_id"):
        if params.get(key) is not None and not isinstance(params[key], str):
            raise ValueError(f"{key} of fault {name!r} must be text, not {params[key]!r}")
    why = params.get("why", "fault")
    if why not in list(Why):
        raise ValueError(f"why of fault {name!r} must be one of {', '.join(Why)}, not {why!r}")
    side = params.get("side")
    if side is not None and side not in ("buy", "sell"):
        raise ValueError(f"side of fault {name!r} must be buy or sell, not {side!r}")
    return OrderFault(
        kind=name,
        nth=int(_number(name, params, "nth", 1, 1)),
        count=int(_number(name, params, "count", 1, 1)),
        account=params.get("account"),
        symbol=params.get("inst_id"),
        side=None if side is None else _SIDES[side],
        why=Why(why),
        delay_ns=int(
            _number(name, params, "delay_ms", 0 if "delay_ms" not in kind.params else 500) * NS_PER_MS
        ),
        share=Decimal(str(_number(name, params, "share", 0.5, 0, 1))),
    )


def _number(
    name: str, params: dict[str, Any], key: str, default: float, least: float = 0, most: float = 1e6
) -> float:
    value = params.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise ValueError(
            f"{key} of fault {name!r} must be a number from {least:g} to {most:g}, not {value!r}"
        )
    return value
