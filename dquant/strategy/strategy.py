"""The interface of all strategies, and the table that the command line chooses from.

A strategy is pure: events and the time go in, records to show come out. It opens no
socket, starts no thread and reads no clock, so that the same object runs live, on the
simulated venues and from a tape. Times are ns since the Unix epoch.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

from dquant.errors import ConfigError
from dquant.model.events import Difference, Health, Price
from dquant.strategy.diff import Diff
from dquant.strategy.ticker import Ticker

Record = Difference | Price


class Strategy(Protocol):
    """Events in, records out."""

    name: ClassVar[str]
    description: ClassVar[str]
    market_count: ClassVar[tuple[int, int]]  # fewest and most markets that it takes
    markets: list[str]
    environment: str

    def on_event(self, event: Price | Health) -> Sequence[Record]:
        """Take one event of a market; return what there is to show, newest last."""

    def on_time(self, now: int) -> Sequence[Record]:
        """Note the time, about twice a second; return what the mere passing of time changed."""


STRATEGIES: Mapping[str, type[Diff] | type[Ticker]] = {"diff": Diff, "ticker": Ticker}


def check_strategy(name: str, source: str | None = None) -> type[Diff] | type[Ticker]:
    """Return what this name stands for.

    Raises:
        ConfigError: No strategy has this name; ``source`` says where it stands.

    """
    chosen = STRATEGIES.get(name)
    if chosen is None:
        raise ConfigError(f"strategy: {name!r} is unknown; allowed: {', '.join(STRATEGIES)}", source)
    return chosen


def create_strategy(
    name: str,
    markets: Sequence[str],
    environment: str,
    source: str | None = None,
    markets_source: str | None = None,
) -> Diff | Ticker:
    """Make the strategy of this name over these markets.

    Args:
        name: A key of ``STRATEGIES``.
        markets: Market names in the order given; ``diff`` subtracts the second from the first.
        environment: ``dev`` or ``pro``; prices of the other one are never used.
        source: The option, file or variable that named the strategy, for the error.
        markets_source: That of the markets.

    Raises:
        ConfigError: No strategy has this name, or it cannot work on these markets.

    """
    chosen = check_strategy(name, source)
    who = f"{name}, the strategy of {source}," if source else name
    fewest, most = chosen.market_count
    if not fewest <= len(markets) <= most:
        wanted = f"exactly {fewest}" if fewest == most else f"{fewest} to {most}"
        given = ",".join(markets) or "none"
        raise ConfigError(
            f"markets: {who} takes {wanted} markets, {len(markets)} given ({given})", markets_source
        )
    if len(set(markets)) != len(markets):
        raise ConfigError(
            f"markets: {who} takes different markets, one is given twice ({','.join(markets)})",
            markets_source,
        )
    return chosen(list(markets), environment)
