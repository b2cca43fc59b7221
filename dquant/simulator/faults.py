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


_REST = ("method", "path", "count", "duration_s")

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
        FaultKind("one_sided", "okex: one book update takes all bids away", ("inst_id", "count"), True),
        FaultKind("unchained", "okex: one book update has no prevSeqId", ("inst_id", "count"), True),
        FaultKind("slow", "everything comes `delay_ms` late", ("delay_ms", "conn_id", "duration_s")),
        FaultKind("silent", "half-open: nothing is sent any more, no pong either", ("conn_id", "duration_s")),
        FaultKind("refuse", "new connections and REST are refused", ("duration_s",)),
        FaultKind("unknown", "bitmex: a level that nobody has changes and goes", ("inst_id", "count"), True),
        FaultKind("sized_delete", "bitmex: a delete carries a size", ("inst_id", "count"), True),
        FaultKind("early", "bitmex: a delta comes before the next partial", ("inst_id", "count"), True),
        FaultKind(
            "shuffle",
            "bitmex: private tables of one event, and acks and partials, in any order",
            ("duration_s",),
        ),
        FaultKind("stall", "frozen: what is sent waits, and comes all at once", ("conn_id", "duration_s")),
        FaultKind("reorder", "connections lag up to `delay_ms`, each its own", ("delay_ms", "duration_s")),
        FaultKind("rate_limited", "429, come again in `seconds` (1); okex 50011", (*_REST, "seconds"), True),
        FaultKind(
            "overloaded", "503 (okex 50001), nothing was done; bitmex lets cancels through", _REST, True
        ),
        FaultKind("timeout", "okex 50004, bitmex 502; carried out if `done`", (*_REST, "done"), True),
        FaultKind(
            "error",
            "refused with `code` (okex 50026, bitmex HTTP 500), nothing was done",
            (*_REST, "code"),
            True,
        ),
        FaultKind("lost_answer", "cut without an answer; carried out if `done`", (*_REST, "done"), True),
        FaultKind(
            "skew",
            "the venue's clock is `seconds` off (45) where it checks requests",
            ("seconds", "duration_s"),
        ),
        FaultKind(
            "push_twice", "okex: order pushes come twice, the second with a later uTime", ("duration_s",)
        ),
        FaultKind("end_first", "okex: the end of an order is told before its last fills", ("duration_s",)),
        FaultKind("data_first", "okex: data comes before the ack of its subscription", ("duration_s",)),
        FaultKind("checksums", "okex: books carry the CRC32 that they had until June 2026", ("duration_s",)),
        FaultKind("no_snapshot", "okex: books begin with an update, as was announced", ("duration_s",)),
        FaultKind(
            "paged", "okex: snapshots of account and positions come in pages of one row", ("duration_s",)
        ),
        FaultKind(
            "maintenance",
            "okex: the status channel tells of it; orders are refused by 50001",
            ("duration_s",),
        ),
        FaultKind(
            "cancel_late",
            "okex: a cancel is acknowledged, and done `delay_ms` later unless the order has filled",
            ("inst_id", "count", "delay_ms"),
            True,
        ),
        FaultKind(
            "slow_switch",
            "okex: a dead man's switch cancels order by order, `delay_ms` of its clock apart",
            ("delay_ms", "duration_s"),
        ),
        FaultKind("revoked", "okex: keys are gone; who used one is hung up on with 4007", ("duration_s",)),
        FaultKind("unlisted", "okex: new contracts are not listed", ("duration_s",)),
    )
}
REST_KINDS = ("rate_limited", "overloaded", "timeout", "lost_answer", "error")
_NUMBERS = {"duration_s", "delay_ms", "seconds", "count"}
_FLAGS = {"done"}
_SIGNED = {("skew", "seconds")}
_SECONDS = {"rate_limited": 1.0, "skew": 45.0}
_ENDLESS = 10**9  # times: a REST fault that has a duration and no count


@dataclass(slots=True, eq=False)
class Fault:
    """One injected fault; None in a selector means every one."""

    kind: str
    inst_id: str | None = None
    conn_id: str | None = None
    until_ns: int | None = None  # real time; None holds until cleared or used up
    remaining: int = 1  # one-shot only
    delay_ms: float = 0.0
    seconds: float = 60.0
    method: str | None = None
    path: str | None = None  # what the path ends with
    code: str = ""  # what ``error`` says
    done: bool = True

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
        check_params(kind, params)
        duration = params.get("duration_s")
        usual_count = _ENDLESS if name in REST_KINDS and duration is not None else 1
        fault = Fault(
            kind=name,
            inst_id=params.get("inst_id"),
            conn_id=params.get("conn_id"),
            until_ns=None if duration is None else real_ns + int(duration * NS_PER_S),
            remaining=int(params.get("count", usual_count)),
            delay_ms=float(params.get("delay_ms", 100.0)),
            seconds=float(params.get("seconds", _SECONDS.get(name, 60.0))),
            method=params.get("method"),
            path=params.get("path"),
            code=params.get("code") or "",
            done=params.get("done", True),
        )
        self._faults.append(fault)
        self.injected += 1
        return fault

    def lift(self, fault: Fault) -> bool:
        """Take one fault out of effect; False where it is over already."""
        if fault not in self._faults:
            return False
        self._faults.remove(fault)
        return True

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

    def skew_ns(self, real_ns: int) -> int:
        """Return by how much the clock is off that requests' times are held against."""
        if not self._faults:
            return 0
        return int(sum(f.seconds for f in self.active(real_ns) if f.kind == "skew") * NS_PER_S)

    def reorder_ns(self, real_ns: int) -> int:
        """Return by how much a connection may lag behind another now."""
        return self._longest_ns("reorder", real_ns)

    def gap_ns(self, real_ns: int) -> int:
        """Return the time between two cancels of a dead man's switch that fires now; 0: all at once."""
        return self._longest_ns("slow_switch", real_ns)

    def take_rest(
        self,
        method: str,
        path: str,
        real_ns: int,
        spared: tuple[str, ...] = (),
        by_name: tuple[str, ...] = (),
    ) -> Fault | None:
        """Use up a fault of REST that bites this request, other than of the kinds it is spared.

        The path is compared from its end. Of the kinds ``by_name`` only those bite that name the method.
        """
        if not self._faults:
            return None
        for fault in self.active(real_ns):
            if (
                fault.kind in REST_KINDS
                and fault.kind not in spared
                and (fault.method == method or (fault.method is None and fault.kind not in by_name))
                and (fault.path is None or path.endswith(fault.path))
            ):
                fault.remaining -= 1
                if fault.remaining <= 0:
                    self._faults.remove(fault)
                return fault
        return None

    def delay_ns(self, real_ns: int, conn_id: str | None = None) -> int:
        """Return by how much a frame to this connection is held back now."""
        return self._longest_ns("slow", real_ns, conn_id)

    def _longest_ns(self, name: str, real_ns: int, conn_id: str | None = None) -> int:
        if not self._faults:
            return 0
        delays = (f.delay_ms for f in self.active(real_ns) if f.kind == name and f.bites(None, conn_id))
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


def check_params(kind: FaultKind, params: dict[str, Any]) -> None:
    """Look at the parameters of a fault.

    Raises:
        ValueError: It does not take one of them, or a value is not what is due.

    """
    name = kind.name
    for key, value in params.items():
        if key not in kind.params:
            raise ValueError(f"fault {name!r} takes {', '.join(kind.params)}, not {key!r}")
        if key in _NUMBERS:
            least = -1e6 if (name, key) in _SIGNED else 0
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= 1e6:
                raise ValueError(
                    f"{key} of fault {name!r} must be a number from {least:g} to 1e6, not {value!r}"
                )
        elif key in _FLAGS:
            if not isinstance(value, bool):
                raise ValueError(f"{key} of fault {name!r} must be true or false, not {value!r}")
        elif value is not None and not isinstance(value, str):
            raise ValueError(f"{key} of fault {name!r} must be text, not {value!r}")
