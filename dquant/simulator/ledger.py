"""The ledger of an exchange: what truly happened, the truth that a client's beliefs are compared with.

In: every event (``exchange_events``), refused requests too. Out: rows as plain objects, by account, kind and
number or time. It is bounded: the newest ``limit`` rows are kept, ``dropped`` counts the others.
"""

from collections import deque
from typing import Any

import msgspec

from dquant.simulator.exchange_events import Event

LEDGER_LIMIT = 100_000  # rows


class Ledger:
    """The newest rows of one exchange, oldest first."""

    __slots__ = ("_rows", "dropped")

    def __init__(self, limit: int = LEDGER_LIMIT) -> None:
        if limit < 1:
            raise ValueError(f"a ledger keeps at least one row, not {limit}")
        self._rows: deque[Event] = deque(maxlen=limit)
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, event: Event) -> None:
        """Write one row."""
        if len(self._rows) == self._rows.maxlen:
            self.dropped += 1
        self._rows.append(event)

    def rows(
        self,
        *,
        account: str | None = None,
        kind: str | None = None,
        since: int | None = None,
        since_ns: int | None = None,
        limit: int | None = None,
    ) -> list[Event]:
        """Return rows, oldest first: of an account, a kind, past a number, from a time; the newest ``limit``.

        Raises:
            ValueError: There is no such kind.

        """
        if kind is not None and kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(sorted(KINDS))}, not {kind!r}")
        wanted = KINDS[kind] if kind is not None else Event
        found: list[Event] = []
        for row in reversed(self._rows):
            if (since is not None and row.number <= since) or (limit is not None and len(found) >= limit):
                break
            if since_ns is not None and row.ts < since_ns:
                break
            if isinstance(row, wanted) and account in (None, row.account):
                found.append(row)
        return found[::-1]

    def objects(self, **query: Any) -> list[dict[str, Any]]:
        """Return ``rows`` as plain objects for JSON: ``kind`` names each, decimals are text."""
        return [msgspec.to_builtins(row) for row in self.rows(**query)]


def _kinds() -> dict[str, type[Event]]:
    return {str(kind.__struct_config__.tag): kind for kind in Event.__subclasses__()}


KINDS = _kinds()
