"""Faults on demand: what is broken at a simulated venue right now, and for how long.

In: ``inject(name, params, real_ns)``, from the control door, a scenario or a test. Out: plain questions
that the venues (``okex_server``, ``bitmex_server``) and the sockets (``server``) ask where the fault bites.
Nothing here does I/O; durations are real time, because the clients' deadlines are.

A one-shot fault waits until the frame that it spoils comes by and is then used up (``count`` times);
a lasting one holds for ``duration_s``, or until ``clear``.
"""

from dataclasses import dataclass
from typing import Any

from dquant.constants import NS_PER_S


@dataclass(frozen=True, slots=True)
class FaultKind:
    """One thing that can go wrong, and which parameters it takes."""

    name: str
    explanation: str
    params: tuple[str, ...]
    one_shot: bool = False


KINDS: dict[str, FaultKind] = {
    kind.name: kind
    for kind in (
        FaultKind("drop", "close connections without a word (all, or one by conn_id)", ("conn_id",), True),
        FaultKind("notice", "say 64008, close after `seconds` (60)", ("conn_id", "seconds"), True),
        FaultKind("freeze", "one book says nothing more; the rest goes on", ("inst_id", "duration_s")),
        FaultKind("gap", "one book update is lost on the way", ("inst_id", "count"), True),
        FaultKind("reset", "sequence numbers start again lower, chain unbroken", ("inst_id", "count"), True),
        FaultKind(
            "idle", "an update without rows, its seqId that of the one before", ("inst_id", "count"), True
        ),
        FaultKind("duplicate", "one book update comes twice", ("inst_id", "count"), True),
        FaultKind(
            "crossed", "one book update puts the best bid above the best ask", ("inst_id", "count"), True
        ),
        FaultKind(
            "unknown", "BitMEX: a level that nobody has is changed and deleted", ("inst_id", "count"), True
        ),
        FaultKind("sized_delete", "BitMEX: a delete carries a size", ("inst_id", "count"), True),
        FaultKind(
            "early", "BitMEX: a delta comes before the partial of the next subscription", ("inst_id",), True
        ),
        FaultKind("slow", "everything comes `delay_ms` late", ("delay_ms", "conn_id", "duration_s")),
        FaultKind("silent", "half-open: nothing is sent any more, no pong either", ("conn_id", "duration_s")),
        FaultKind("refuse", "new connections and REST are refused", ("duration_s",)),
        FaultKind("unknown", "bitmex: a level that nobody has changes and goes", ("inst_id", "count"), True),
        FaultKind("sized_delete", "bitmex: a delete carries a size", ("inst_id", "count"), True),
        FaultKind("early", "bitmex: a delta comes before the next partial", ("inst_id", "count"), True),
    )
}
_NUMBERS = {"duration_s", "delay_ms", "seconds", "count"}


@dataclass(slots=True)
class Fault:
    """One injected fault; None in a selector means every one."""

    kind: str
    inst_id: str | None = None
    conn_id: str | None = None
    until_ns: int | None = None  # real time; None holds until cleared or used up
    remaining: int = 1  # one-shot only
    delay_ms: float = 0.0
    seconds: float = 60.0

    def bites(self, inst_id: str | None, conn_id: str | None) -> bool:
        """Return whether it is meant for this book or connection."""
        return (self.inst_id is None or self.inst_id == inst_id) and (
            self.conn_id is None or self.conn_id == conn_id
        )


class FaultBoard:
    """The faults of one venue. Questions are cheap while nothing is injected."""

    __slots__ = ("_faults", "injected")

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self.injected = 0

    def inject(self, name: str, params: dict[str, Any], real_ns: int) -> Fault:
        """Put a fault into effect.

        Raises:
            ValueError: There is no such fault or parameter, or a value is no number where one is due.

        """
        kind = KINDS.get(name)
        if kind is None:
            raise ValueError(f"unknown fault {name!r}; known: {', '.join(sorted(KINDS))}")
        for key, value in params.items():
            if key not in kind.params:
                raise ValueError(f"fault {name!r} takes {', '.join(kind.params)}, not {key!r}")
            if key in _NUMBERS:
                if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1e6:
                    raise ValueError(f"{key} of fault {name!r} must be a number from 0 to 1e6, not {value!r}")
            elif value is not None and not isinstance(value, str):
                raise ValueError(f"{key} of fault {name!r} must be text, not {value!r}")
        duration = params.get("duration_s")
        fault = Fault(
            kind=name,
            inst_id=params.get("inst_id"),
            conn_id=params.get("conn_id"),
            until_ns=None if duration is None else real_ns + int(duration * NS_PER_S),
            remaining=int(params.get("count", 1)),
            delay_ms=float(params.get("delay_ms", 100.0)),
            seconds=float(params.get("seconds", 60.0)),
        )
        self._faults.append(fault)
        self.injected += 1
        return fault

    def clear(self, name: str | None = None) -> int:
        """Lift all faults, or those of one kind; return how many."""
        kept = [fault for fault in self._faults if name is not None and fault.kind != name]
        lifted = len(self._faults) - len(kept)
        self._faults = kept
        return lifted

    def active(self, real_ns: int) -> list[Fault]:
        """Return the faults that are in effect or waiting, forgetting those whose time is over."""
        if self._faults:
            self._faults = [f for f in self._faults if f.until_ns is None or f.until_ns > real_ns]
        return self._faults

    def holds(self, name: str, real_ns: int, inst_id: str | None = None, conn_id: str | None = None) -> bool:
        """Return whether a lasting fault (freeze, silent, refuse) bites here now."""
        if not self._faults:
            return False
        return any(f.kind == name and f.bites(inst_id, conn_id) for f in self.active(real_ns))

    def delay_ns(self, real_ns: int, conn_id: str | None = None) -> int:
        """Return by how much a frame to this connection is held back now."""
        if not self._faults:
            return 0
        delays = [f.delay_ms for f in self.active(real_ns) if f.kind == "slow" and f.bites(None, conn_id)]
        return int(max(delays, default=0.0) * 1e6)

    def take(self, name: str, inst_id: str | None = None) -> Fault | None:
        """Use up a one-shot fault that bites this book; None when there is none.

        Drops and notices name a connection instead: take them without ``inst_id`` and read ``conn_id``.
        """
        for fault in self._faults:
            if fault.kind == name and (fault.inst_id is None or fault.inst_id == inst_id):
                fault.remaining -= 1
                if fault.remaining <= 0:
                    self._faults.remove(fault)
                return fault
        return None
