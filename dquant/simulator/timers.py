"""Things that happen at moments: a small table of timers, pure.

In: ``set(key, due_ns)`` and ``drop(key)``; a key has one time. Out: ``next_due`` and ``take_due``, earliest
first, at the same moment in the order they were set.
"""

from collections.abc import Iterator

TimerKey = tuple[str, ...]  # what is due, and of whom


class Timers:
    """Timers by key."""

    __slots__ = ("_dues", "_next")

    def __init__(self) -> None:
        self._dues: dict[TimerKey, int] = {}
        self._next: int | None = None

    def set(self, key: TimerKey, due_ns: int) -> None:
        """Let a key be due then, and no more when it was due before."""
        self.drop(key)
        self._dues[key] = due_ns
        self._next = due_ns if self._next is None else min(self._next, due_ns)

    def drop(self, key: TimerKey) -> bool:
        """Forget a key; return whether it was there."""
        due = self._dues.pop(key, None)
        if due is not None and due == self._next:
            self._next = min(self._dues.values(), default=None)
        return due is not None

    def due(self, key: TimerKey) -> int | None:
        """Return when a key is due."""
        return self._dues.get(key)

    def next_due(self) -> int | None:
        """Return the earliest time of all; None where there is no timer."""
        return self._next

    def take_due(self, now_ns: int) -> Iterator[tuple[int, TimerKey]]:
        """Take out what is due, one by one; what is set on the way takes part."""
        while self._next is not None and self._next <= now_ns:
            due = self._next
            key = next(key for key, time in self._dues.items() if time == due)
            self.drop(key)
            yield due, key
