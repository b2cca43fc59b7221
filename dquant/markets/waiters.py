"""Who waits for fresh data of a market: the words that ``Market.update`` takes, and which event wakes whom.

``Waiters`` belongs to the market's loop; another thread only waits for ``Waiter.done`` and then reads.
"""

import threading
from collections.abc import Iterable

from dquant.errors import ConfigError
from dquant.model.events import (
    Event,
    FundingRate,
    IndexPrice,
    InstrumentState,
    MarkPrice,
    TickerStats,
    Trade,
)

# What can be waited for, by the words that people use, beside ``ticker`` and ``depth``.
FLAGS: dict[str, type] = {
    "trade": Trade,
    "mark": MarkPrice,
    "index": IndexPrice,
    "funding": FundingRate,
    "stats": TickerStats,
    "instrument": InstrumentState,
}
FLAGS_OF_A_BOOK = frozenset(("ticker", "depth"))
FLAGS_OF_A_TOP = frozenset(("ticker",))
FLAGS_BY_KIND = {kind: frozenset((flag,)) for flag, kind in FLAGS.items()}
ALL_FLAGS = (*sorted(FLAGS_OF_A_BOOK, reverse=True), *FLAGS)
ORIGINAL_FLAGS = {"trades": "trade", "index_price": "index"}  # words of the earlier program for the same


def flags_of(words: str | Iterable[str]) -> set[str]:
    """Read flags, in one text (``"ticker,depth"``) or one by one.

    Raises:
        ConfigError: A flag is unknown.

    """
    given = words.replace(",", " ").split() if isinstance(words, str) else list(words)
    flags = [ORIGINAL_FLAGS.get(word, word) for word in given]
    for flag in flags:
        if flag not in ALL_FLAGS:
            raise ConfigError(f"update flag {flag!r} is not known; allowed: {', '.join(ALL_FLAGS)}")
    return set(flags)


class Waiter:
    """One call that waits: what has not arrived yet, and whether the wait is over."""

    __slots__ = ("done", "missing")

    def __init__(self, flags: set[str]) -> None:
        self.missing = flags
        self.done = threading.Event()


class Waiters:
    """All that wait for one market."""

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        self.waiting: list[Waiter] = []

    def add(self, waiter: Waiter) -> None:
        """Let a waiter hear of what arrives from now on."""
        self.waiting.append(waiter)

    def drop(self, waiter: Waiter) -> None:
        """Forget one whose time is up."""
        if waiter in self.waiting:
            self.waiting.remove(waiter)

    def receive_event(self, event: Event) -> None:
        """Take one event other than a top."""
        flags = FLAGS_BY_KIND.get(type(event))
        if flags is not None:
            self.receive(flags)

    def receive(self, flags: frozenset[str]) -> None:
        """Note that data of these kinds arrived, and wake those that waited for nothing else."""
        for waiter in list(self.waiting):
            waiter.missing -= flags
            if not waiter.missing:
                self.waiting.remove(waiter)
                waiter.done.set()

    def end(self) -> None:
        """Wake everybody: nothing more will come."""
        for waiter in self.waiting:
            waiter.done.set()
