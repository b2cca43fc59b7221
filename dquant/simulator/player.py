"""Plays a scenario: at every moment of the venues' clock, puts into effect what is due.

In: a checked ``Scenario``, the venues, the clock's times through ``play``, their notes through ``see``.
Out: faults in effect (``injection``), and a note of each. Rates are drawn from the seed; nothing here reads a
clock, so that the same seed and the same times play the same faults.
"""

from collections import Counter, deque
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from dquant.constants import NS_PER_S
from dquant.simulator import injection
from dquant.simulator.ledger import KINDS as LEDGER_KINDS
from dquant.simulator.scenarios import DOINGS, Scenario, Step
from dquant.simulator.venue import Venue

LIFTS_LIMIT = 10_000  # faults waiting to be lifted; past it the oldest is lifted early
KEPT_LIMIT = 1_000  # faults without an end that ``stop`` can still lift: the newest
_CATCH_UP = 1_000  # faults of one step that one moment may bring, after a leap of the clock

Note = Callable[[dict[str, Any]], None]


class _Cue:
    """When one step of the scenario comes at one venue."""

    __slots__ = ("_base", "_rng", "due_ns", "left", "step", "venue")

    def __init__(self, step: Step, venue: Venue, began_ns: int, seed: str, seen: int) -> None:
        self.step, self.venue, self.left = step, venue, step.times
        self._rng = Random(f"{seed}/{step.number}/{venue.name}")
        self._base = seen
        self.due_ns: int | None = None
        if step.at_ns is not None:
            self.due_ns = began_ns + step.at_ns
        elif step.per_minute is not None:
            self.due_ns = began_ns + self._gap_ns()
            self.left = 10**9

    @property
    def is_over(self) -> bool:
        return self.left <= 0

    def look(self, now_ns: int, seen: int) -> None:
        """Note how often its event has happened by now."""
        if self.due_ns is None and seen - self._base >= self.step.nth:
            self.due_ns = now_ns + self.step.delay_ns

    def pass_on(self, began_ns: int) -> None:
        """Go on to the next time."""
        self.left -= 1
        if self.due_ns is None or self.is_over:
            return
        self.due_ns += self.step.every_ns or self._gap_ns()
        until = self.step.until_ns
        if until is not None and self.due_ns > began_ns + until:
            self.left = 0

    def _gap_ns(self) -> int:
        rate = self.step.per_minute or 1.0
        return max(1, int(self._rng.expovariate(rate / 60) * NS_PER_S))


class ScenarioPlayer:
    """One run of a scenario.

    Args:
        scenario: What to play.
        venues: By name; steps for a venue that is not there are left out.
        began_ns: Virtual time of its second 0.
        seed: Of the run: what the rates come from.
        note: Called for each fault.

    """

    def __init__(
        self, scenario: Scenario, venues: Mapping[str, Venue], began_ns: int, seed: int, note: Note
    ) -> None:
        self.scenario, self.began_ns = scenario, began_ns
        self.played = 0
        self._note = note
        self._venues = dict(venues)
        self._seen: dict[str, Counter[str]] = {name: Counter() for name in venues}
        self._ledger_number = {name: _newest(venue) for name, venue in venues.items()}
        self._lifts: list[tuple[int, Callable[[], bool]]] = []  # due, how
        self._kept: deque[Callable[[], bool]] = deque(maxlen=KEPT_LIMIT)
        self._cues = [
            _Cue(step, venues[name], began_ns, f"{seed}/{scenario.name}", self._count(name, step))
            for step in scenario.steps
            for name in step.venues
            if name in venues
        ]

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to happen or to be lifted."""
        return not self._cues and not self._lifts

    def see(self, note: dict[str, Any]) -> None:
        """Take a note of a venue: steps may wait for it."""
        seen = self._seen.get(str(note.get("venue")))
        if seen is not None:
            seen[str(note.get("event"))] += 1

    def play(self, now_ns: int, real_ns: int) -> None:
        """Put into effect, and lift, what is due by now."""
        if self._lifts and self._lifts[0][0] <= now_ns:
            for due_ns, lift in list(self._lifts):
                if due_ns <= now_ns:
                    lift()
            self._lifts = [entry for entry in self._lifts if entry[0] > now_ns]
        if any(cue.due_ns is None for cue in self._cues):
            self._read_ledgers()
        for cue in self._cues:
            if cue.due_ns is None:
                cue.look(now_ns, self._count(cue.venue.name, cue.step))
            for _ in range(_CATCH_UP):
                if cue.is_over or cue.due_ns is None or cue.due_ns > now_ns:
                    break
                self._put(cue, now_ns, real_ns)
                cue.pass_on(self.began_ns)
        if any(cue.is_over for cue in self._cues):
            self._cues = [cue for cue in self._cues if not cue.is_over]

    def stop(self) -> None:
        """End it: lift what it put into effect and still is, and play no more."""
        for lift in (*(lift for _due_ns, lift in self._lifts), *self._kept):
            lift()
        self._kept.clear()
        self._lifts.clear()
        self._cues.clear()

    def _put(self, cue: _Cue, now_ns: int, real_ns: int) -> None:
        step = cue.step
        facts = {"event": "fault", "venue": cue.venue.name, "fault": step.fault, **step.params}
        facts |= {"scenario": self.scenario.name, "step": step.number, "ts": now_ns}
        try:
            injected = injection.inject(cue.venue, step.fault, step.params, real_ns)
        except ValueError as exc:
            # What a file can get wrong was refused when it was read; this is the venue as it is now.
            self._note({**facts, "event": "fault refused", "error": str(exc)})
            return
        self.played += 1
        self._note(facts)
        if step.for_ns is None:
            self._kept.append(injected.lift)
        else:
            self._lifts.append((now_ns + step.for_ns, injected.lift))
            self._lifts.sort(key=lambda entry: entry[0])
            if len(self._lifts) > LIFTS_LIMIT:
                self._lifts.pop(0)[1]()

    def _count(self, venue: str, step: Step) -> int:
        """Return how often a step's event has happened at a venue, since any fixed moment."""
        event = step.after
        if event is None:
            return 0
        if event in DOINGS:
            return sum(self._venues[venue].counters[name] for name in DOINGS[event])
        return self._seen[venue][event]

    def _read_ledgers(self) -> None:
        for name, venue in self._venues.items():
            exchange = injection.exchange_of(venue)
            if exchange is None:
                continue
            for row in exchange.ledger.rows(since=self._ledger_number[name]):
                self._ledger_number[name] = row.number
                self._seen[name][_tag(row)] += 1


_TAGS = {kind: tag for tag, kind in LEDGER_KINDS.items()}


def _tag(row: object) -> str:
    return _TAGS[type(row)]  # type: ignore[index]


def _newest(venue: Venue) -> int:
    exchange = injection.exchange_of(venue)
    if exchange is None or not (rows := exchange.ledger.rows(limit=1)):
        return 0
    return rows[-1].number
