"""Records and numbers as text: the lines of piped output, and the cells of the screen.

Records go in, text without a line break at its end comes out. Pure; times are ns since
the Unix epoch and are written as UTC.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from dquant.constants import NS_PER_MS, NS_PER_S
from dquant.model.events import LIVE, Difference, Health, Price
from dquant.util import one_line

SIMULATED = "SIMULATED"
NOTHING = "—"

_BARS = "▁▂▃▄▅▆▇█"
_GAP = "·"
_MARKET_WIDTH = 30  # okex_future_btcusd_nextquarter
_PRICE_WIDTH = 9
_AMOUNT_WIDTH = 7
_MOST_DECIMALS = 8

_encode = msgspec.json.Encoder().encode


def is_simulated(environment: str) -> bool:
    """Tell whether prices of this environment must be called simulated."""
    return environment == "dev"


def json_line(record: Difference | Price) -> bytes:
    """Return the record as one JSON object, without the line break."""
    return _encode(record)


def plain_line(record: Difference | Price, mark: str | None = None) -> str:
    """Return the record as one line for a person, without the line break.

    ``mark`` says where prices come from that are neither live nor simulated, e.g. from a tape.
    """
    parts = [format_time(record.ts_recv)]
    if mark or is_simulated(record.environment):
        parts.append(mark or SIMULATED)
    parts.append("LIVE " if record.verdict == LIVE else "STALE")
    parts.append(_difference_text(record) if isinstance(record, Difference) else _price_text(record))
    line = "  ".join(parts)
    return line if line.isprintable() else one_line(line)  # a tape may name its instruments as it likes


def health_line(health: Health) -> str:
    """Return a change of a market's state as one line for a person, without the line break."""
    parts = [format_time(health.ts_recv)]
    if is_simulated(health.environment):
        parts.append(SIMULATED)
    parts += [f"{health.market:<{_MARKET_WIDTH}}", health.state, one_line(health.reason or "")]
    return "  ".join(parts).rstrip()


def _difference_text(difference: Difference) -> str:
    names = f"{difference.a} - {difference.b}"
    if difference.verdict != LIVE:
        return f"{one_line(difference.reason or '')}  {names}"
    numbers = "  ".join(
        f"{label} {'' if value is None else format_number(value, sign=True):>8}"
        for label, value in (
            ("sell", difference.sell_diff),
            ("buy", difference.buy_diff),
            ("bid", difference.bid_diff),
            ("ask", difference.ask_diff),
        )
    )
    ages = "  ".join(
        f"{key} {NOTHING if age is None else format_age(age / 1000):>6}"
        for key, age in difference.age_ms.items()
    )
    return f"{numbers}  age  {ages}  {names}"


def _price_text(price: Price) -> str:
    name = f"{price.market or price.inst_id:<{_MARKET_WIDTH}}"
    if price.verdict != LIVE:
        return f"{name}  {one_line(price.reason or '')}"
    sides = "  ".join(
        f"{label} {_optional(value):>{_PRICE_WIDTH}} x {_optional_amount(amount):<{_AMOUNT_WIDTH}}"
        for label, value, amount in (
            ("bid", price.bid, price.bid_amount),
            ("ask", price.ask, price.ask_amount),
        )
    )
    return f"{name}  {sides}  {price.inst_id}"


class ChangeFilter:
    """Tells which records say something new; times, ages and counters alone do not."""

    def __init__(self) -> None:
        self._newest: dict[str | None, tuple[object, ...]] = {}

    def is_change(self, record: Difference | Price) -> bool:
        """Tell whether the record differs from the one of the same market before it."""
        said: tuple[object, ...]
        if isinstance(record, Difference):
            key: str | None = record.a
            said = (record.ask_diff, record.bid_diff, record.buy_diff, record.sell_diff)
        else:
            key = record.market or record.inst_id
            said = (record.bid, record.bid_amount, record.ask, record.ask_amount, record.inst_id)
        said = (*said, record.verdict, record.reason)
        if self._newest.get(key) == said:
            return False
        self._newest[key] = said
        return True


def format_time(ts: int) -> str:
    """Return ``2026-11-22T08:00:01.250Z``."""
    moment = datetime.fromtimestamp(ts // NS_PER_S, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ts % NS_PER_S // NS_PER_MS:03d}Z"


def format_number(value: float, *, sign: bool = False) -> str:
    """Return the number as short as it can be, with at least one decimal and no exponent."""
    return f"{value:{'+' if sign else ''}.{count_decimals(value)}f}"


def count_decimals(value: float) -> int:
    """Return how many decimals the number needs, from 1 to 8."""
    digits = f"{value:.{_MOST_DECIMALS}f}" if "e" in repr(value) else repr(value)
    return min(_MOST_DECIMALS, max(1, len(digits.rstrip("0").partition(".")[2])))


def format_amount(amount: float) -> str:
    """Return an amount in at most 7 characters: whole contracts, few decimals, then millions."""
    if abs(amount) >= 1e7:
        return f"{amount / 1e6:.1f}M"
    if amount == int(amount):
        return str(int(amount))
    return f"{amount:.4f}".rstrip("0").rstrip(".")[:_AMOUNT_WIDTH].rstrip(".")


def format_age(age_s: float) -> str:
    """Return an age in at most 6 characters, in the unit that a glance needs."""
    if age_s < 0.9995:
        return f"{max(age_s, 0.0) * 1000:.0f} ms"
    if age_s < 60:
        return f"{age_s:.1f} s"
    if age_s < 3600:
        return f"{age_s / 60:.0f} min"
    return f"{age_s / 3600:.0f} h"


def fit(text: str, width: int) -> str:
    """Return the text in ``width`` characters or fewer, the cut marked."""
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def sparkline(values: Sequence[float | None]) -> str:
    """Return one bar a value, from the lowest to the highest; gaps are dots, the time before them blank."""
    known = [value for value in values if value is not None]
    if not known:
        return " " * len(values)
    low, high = min(known), max(known)
    span, most = high - low, len(_BARS) - 1
    bars = [
        _GAP if value is None else _BARS[round((value - low) / span * most)] if span else _BARS[3]
        for value in values
    ]
    first = next(position for position, value in enumerate(values) if value is not None)
    return " " * first + "".join(bars[first:])


def _optional(value: float | None) -> str:
    return NOTHING if value is None else format_number(value)


def _optional_amount(amount: float | None) -> str:
    return NOTHING if amount is None else format_amount(amount)


class StartFilter:
    """Holds back what is stale only because it was started a moment ago.

    Args:
        until: When that stops being an excuse, ns since the Unix epoch.

    """

    def __init__(self, until: int) -> None:
        self._until = until
        self._held: dict[str | None, Difference | Price] = {}
        self._seen: set[str | None] = set()  # what was live once is not starting any more

    def take(self, record: Difference | Price) -> bool:
        """Tell whether a record is to be shown now; else it may come out of ``overdue``."""
        key = record.market if isinstance(record, Price) else record.a
        if record.verdict != LIVE and key not in self._seen and record.ts_recv < self._until:
            self._held[key] = record
            return False
        self._held.pop(key, None)
        self._seen.add(key)
        return True

    def overdue(self, now: int) -> list[Difference | Price]:
        """Return what was held back and is news by now, once."""
        if now < self._until:
            return []
        held, self._held = self._held, {}
        self._seen.update(held)
        return list(held.values())
