"""The live screens: what a person at a terminal sees of a strategy.

A screen wraps its strategy: events and the time go in by ``update`` and ``on_time`` (and
the strategy's records come out, for whoever needs them), ``lines`` gives the screen as
styled text and ``render`` the same as a rich renderable. Who owns the terminal calls
``render`` a few times a second; nothing here reads a clock or writes anywhere.

A stale leg is shown as stale, with its reason, and never as numbers. Prices and
differences are in quote currency, ``bp`` are basis points of the mid of ``b``; times are
ns since the Unix epoch. rich is imported only by who renders.
"""

import io
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dquant.constants import NS_PER_S
from dquant.model.events import LIVE, Difference, Health, Price
from dquant.strategy.diff import Diff
from dquant.strategy.leg import Leg
from dquant.strategy.statistics import RollingStatistics
from dquant.strategy.text import (
    NOTHING,
    SIMULATED,
    count_decimals,
    fit,
    format_age,
    format_amount,
    is_simulated,
    sparkline,
)
from dquant.strategy.ticker import Ticker
from dquant.util import one_line

if TYPE_CHECKING:
    from rich.console import Console, Group

Line = list[tuple[str, str]]  # (text, role) from left to right

# Colour means something or is not there.
STYLES = {
    "": "",
    "faint": "dim",
    "strong": "bold",
    "live": "green",
    "stale": "bold red",
    "warning": "yellow",
    "simulated": "bold black on yellow",
}

OLD_S = 3.0  # a price of that age is worth a look, long before its book counts as silent
WIDEST = 128  # room for one bar each 5 s of 5 minutes

_ROWS = (
    ("sell_diff", "sell a, buy b"),
    ("buy_diff", "buy a, sell b"),
    ("bid_diff", "bid - bid"),
    ("ask_diff", "ask - ask"),
)
_TROUBLES = ("reconnects", "resyncs", "dropped", "quarantined")


class DiffScreen:
    """Both tops, the four differences and their last minutes, and what may be believed.

    Attributes:
        legs: ``a`` and ``b`` with verdict, reason and price, as the strategy holds them.
        difference: The newest difference, ``None`` before the first event.

    """

    def __init__(self, diff: Diff, window_s: float = 300.0) -> None:
        self.diff = diff
        self.legs = diff.legs
        self.environment = diff.environment
        self.difference: Difference | None = None
        self.window_s = window_s
        self._decimals = 1
        self._instruments: tuple[str, ...] = ()
        self._begin()

    def _begin(self) -> None:
        """Forget the last minutes."""
        self.statistics = {name: RollingStatistics(self.window_s) for name, _ in _ROWS}
        self.statistics_bp = {name: RollingStatistics(self.window_s) for name, _ in _ROWS}
        self._started: int | None = None

    def update(self, event: Price | Health) -> list[Difference]:
        """Hand one event to the strategy and show what came of it."""
        return self._show(self.diff.on_event(event))

    def on_time(self, now: int) -> list[Difference]:
        """Hand the time to the strategy and show what came of it."""
        return self._show(self.diff.on_time(now))

    def mid_b(self) -> float | None:
        """Return the mid that basis points are of; ``None`` while ``b`` is stale."""
        if self.legs["b"].reason:
            return None
        bid, ask = self.legs["b"].both_sides()
        return (bid + ask) / 2

    def lines(self, now: int, width: int, height: int | None = None) -> list[Line]:
        """Return the screen as it is now, each line at most ``width`` wide.

        Where ``height`` is too low for all of it, the empty lines go first, then basis points and health.
        """
        self.on_time(now)
        width = min(width, WIDEST)
        self._decimals = most_decimals(self.legs.values(), self._decimals)
        title = title_line("diff", self.environment, now, width)
        legs, tops = self._leg_lines(now, width), self._top_lines(width)
        heading, *differences = self._difference_lines(now, width)
        health = [_health_line(key, leg) for key, leg in self.legs.items()]
        spacious = [title, [], *legs, [], *tops, [], heading, *differences, [], *health]
        if height is None or len(spacious) <= height:
            return spacious
        dense = [title, *legs, *tops, heading, *differences, *health]
        return dense if len(dense) <= height else [title, *legs, *tops, heading, *differences[::2]]

    def render(self, now: int, width: int, height: int | None = None) -> "Group":
        """Return the screen as it is now for rich to print."""
        return _to_rich(self.lines(now, width, height))

    def _show(self, differences: list[Difference]) -> list[Difference]:
        for difference in differences:
            self.difference = difference
            mid = self.mid_b()
            if difference.verdict == LIVE:
                instruments = tuple(leg.inst_id for leg in self.legs.values())
                if instruments != self._instruments:  # rolled: the next contract has another basis
                    self._instruments = instruments
                    self._begin()
                if self._started is None or difference.ts_recv < self._started:  # the clock was set back
                    self._started = difference.ts_recv
            for name, _ in _ROWS:
                value: float | None = getattr(difference, name)
                self.statistics[name].update(difference.ts_recv, value)
                bp = None if value is None or not mid else value / mid * 1e4
                self.statistics_bp[name].update(difference.ts_recv, bp)
        return differences

    def _leg_lines(self, now: int, width: int) -> list[Line]:
        name_width = max(len(leg.market) for leg in self.legs.values())
        name_width = min(max(name_width, 27), max(8, width - 41))
        rows: list[Line] = [
            [(f"    {'market':<{name_width}}  {'instrument':<16}  {'verdict':<7}  {'age':>6}", "faint")]
        ]
        for key, leg in self.legs.items():
            rows.append(
                [
                    (f" {key}  ", "strong"),
                    (f"{fit(leg.market, name_width):<{name_width}}  ", ""),
                    (f"{fit(leg.inst_id or NOTHING, 16):<16}  ", "faint"),
                    verdict_cell(leg, 7),
                    (f"  {_age(leg, now):>6}", _age_role(leg, now)),
                ]
            )
        return rows

    def _top_lines(self, width: int) -> list[Line]:
        rows: list[Line] = [
            [(f"    {'bid size':>10}  {'bid':>10}   {'ask':>10}  {'ask size':>10}  {'spread':>9}", "faint")]
        ]
        for key, leg in self.legs.items():
            row: Line = [(f" {key}  ", "strong")]
            top = leg.top
            if top is None:
                row.append((fit(f"STALE  {one_line(leg.reason)}", width - 4), "stale"))
            else:
                row += [
                    (f"{_amount(top.bid_amount):>10}  ", "faint"),
                    (
                        f"{_fixed(top.bid, self._decimals):>10}   {_fixed(top.ask, self._decimals):>10}",
                        "strong",
                    ),
                    (f"  {_amount(top.ask_amount):>10}", "faint"),
                    (f"  {_spread(top, self._decimals):>9}", ""),
                ]
            rows.append(row)
        return rows

    def _difference_lines(self, now: int, width: int) -> list[Line]:
        heading = f" {'a - b':<17} {'now':>9} {'mean':>9} {'dev':>7} {'low':>8} {'high':>8}"
        points = width - len(heading) - 3
        rows: list[Line] = [[(f"{heading}   {fit(self._window_text(now), points)}", "faint")]]
        mid = self.mid_b()
        for name, label in _ROWS:
            value = None if self.difference is None else getattr(self.difference, name)
            bars = sparkline(self.statistics[name].series(now, points)) if points > 0 else ""
            rows.append(
                [
                    (f" {label:<13} ", ""),
                    ("USD ", "faint"),
                    (f"{_fixed(value, self._decimals, sign=True):>9}", "strong"),
                    (_summary_text(self.statistics[name], now, self._decimals), ""),
                    (f"   {bars}", ""),
                ]
            )
            bp = None if value is None or not mid else value / mid * 1e4
            rows.append(
                [
                    (f" {'':<13}  bp {_fixed(bp, 2, sign=True):>9}", "faint"),
                    (_summary_text(self.statistics_bp[name], now, 2), "faint"),
                ]
            )
        return rows

    def _window_text(self, now: int) -> str:
        if self._started is None:
            return "no data yet"
        covered_s = min(self.window_s, max(0.0, (now - self._started) / NS_PER_S))
        return f"last {covered_s:.0f} s" if covered_s < 60 else f"last {covered_s / 60:.0f} min"


class TickerScreen:
    """One row a market: its top, its age, and whether it may be believed."""

    def __init__(self, ticker: Ticker, name: str = "ticker") -> None:
        self.ticker = ticker
        self.name = name
        self.legs = ticker.legs
        self.environment = ticker.environment
        self._decimals = dict.fromkeys(self.legs, 1)

    def update(self, event: Price | Health) -> list[Price]:
        """Hand one event to the strategy and return what came of it."""
        return self.ticker.on_event(event)

    def on_time(self, now: int) -> list[Price]:
        """Hand the time to the strategy and return what came of it."""
        return self.ticker.on_time(now)

    def lines(self, now: int, width: int, height: int | None = None) -> list[Line]:
        """Return the screen as it is now, each line at most ``width`` wide; ``height`` cuts off nothing."""
        self.on_time(now)
        width = min(width, WIDEST)
        has_room = width >= 108
        rest = 50 + (28 if has_room else 0)
        name_width = min(max(map(len, self.legs)), max(8, width - rest))
        heading = f" {'market':<{name_width}} {'':<5} {'size':>7} {'bid':>9} {'ask':>9} {'size':>7}"
        if has_room:
            heading += f" {'spread':>9}"
        heading += f" {'age':>6}"
        if has_room:
            heading += "  instrument"
        rows: list[Line] = [title_line(self.name, self.environment, now, width), [], [(heading, "faint")]]
        for market, leg in self.legs.items():
            decimals = self._decimals[market] = most_decimals([leg], self._decimals[market])
            row: Line = [
                (f" {fit(market, name_width):<{name_width}} ", ""),
                verdict_cell(leg, 5),
            ]
            top = leg.top
            if top is None:
                row.append((f" {fit(one_line(leg.reason), width - name_width - 8)}", "stale"))
            else:
                row += [
                    (f" {_amount(top.bid_amount):>7}", "faint"),
                    (f" {_fixed(top.bid, decimals):>9} {_fixed(top.ask, decimals):>9}", "strong"),
                    (f" {_amount(top.ask_amount):>7}", "faint"),
                    (f" {_spread(top, decimals):>9}" if has_room else "", ""),
                    (f" {_age(leg, now):>6}", _age_role(leg, now)),
                    (f"  {fit(leg.inst_id, 16)}" if has_room else "", "faint"),
                ]
            rows.append(row)
        troubles = [
            _health_line(fit(market, name_width), leg, only_troubles=True)
            for market, leg in self.legs.items()
            if leg.health is not None and any(getattr(leg.health, name) for name in _TROUBLES)
        ]
        return [*rows, [], *troubles] if troubles else rows

    def render(self, now: int, width: int, height: int | None = None) -> "Group":
        """Return the screen as it is now for rich to print."""
        return _to_rich(self.lines(now, width, height))


Screen = DiffScreen | TickerScreen


def create_screen(strategy: Diff | Ticker) -> Screen:
    """Make the screen of a strategy."""
    return DiffScreen(strategy) if isinstance(strategy, Diff) else TickerScreen(strategy)


def render_text(screen: Screen, now: int, width: int = 80, height: int = 24) -> str:
    """Return what a terminal of this size would show, without colours."""
    console = _console(width, height, has_colours=False)
    console.print(screen.render(now, width))
    lines = console.export_text().splitlines()[:height]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def render_svg(screen: Screen, now: int, width: int = 80, height: int = 24, title: str = "dquant") -> str:
    """Return a picture of what a terminal of this size would show."""
    console = _console(width, height, has_colours=True)
    console.print(screen.render(now, width))
    svg = console.export_svg(title=title, unique_id="dquant")
    # rich names fonts by address; a picture must not fetch anything.
    return re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)


def title_line(name: str, environment: str, now: int, width: int) -> Line:
    """Return the first line: what this is, SIMULATED if it is, and the time."""
    moment = f"{datetime.fromtimestamp(now // NS_PER_S, UTC):%Y-%m-%d %H:%M:%S} UTC"
    mark = f" {SIMULATED} " if is_simulated(environment) else ""
    left = f" dquant {name}"
    before = max(1, (width - len(mark)) // 2 - len(left))
    after = max(1, width - len(left) - before - len(mark) - len(moment) - 1)
    return [(left, "strong"), (" " * before, ""), (mark, "simulated"), (" " * after + moment, "faint")]


def verdict_cell(leg: Leg, width: int) -> tuple[str, str]:
    """Return LIVE or STALE as a coloured cell."""
    return f"{leg.verdict.upper():<{width}}", leg.verdict


def most_decimals(legs: Iterable[Leg], at_least: int) -> int:
    """Return the decimals that the legs' prices need, so that they align."""
    for leg in legs:
        if leg.top is not None:
            for price in (leg.top.bid, leg.top.ask):
                if price is not None:
                    at_least = max(at_least, count_decimals(price))
    return at_least


def _health_line(key: str, leg: Leg, *, only_troubles: bool = False) -> Line:
    health = leg.health
    if health is None:
        return [(f" {key}  no health report yet", "faint")]
    line: Line = [(f" {key} ", "faint")]
    if not only_troubles:
        line.append((f" messages {health.messages} ", "faint"))
    for name in _TROUBLES:
        count = getattr(health, name)
        if count or not only_troubles:
            line.append((f" {name} {count} ", "warning" if count else "faint"))
    return line


def _summary_text(statistics: RollingStatistics, now: int, decimals: int) -> str:
    summary = statistics.summary(now)
    if summary is None:
        return f" {NOTHING:>9} {NOTHING:>7} {NOTHING:>8} {NOTHING:>8}"
    finer = max(2, decimals)
    return (
        f" {_fixed(summary.mean, finer, sign=True):>9} {_fixed(summary.deviation, finer):>7}"
        f" {_fixed(summary.low, decimals, sign=True):>8} {_fixed(summary.high, decimals, sign=True):>8}"
    )


def _fixed(value: float | None, decimals: int, *, sign: bool = False) -> str:
    return NOTHING if value is None else f"{value:{'+' if sign else ''}.{decimals}f}"


def _amount(amount: float | None) -> str:
    return NOTHING if amount is None else format_amount(amount)


def _spread(top: Price, decimals: int) -> str:
    return NOTHING if top.bid is None or top.ask is None else f"{top.ask - top.bid:.{decimals}f}"


def _age(leg: Leg, now: int) -> str:
    return NOTHING if leg.seen_at is None else format_age((now - leg.seen_at) / NS_PER_S)


def _age_role(leg: Leg, now: int) -> str:
    return "warning" if leg.seen_at is not None and now - leg.seen_at > OLD_S * NS_PER_S else ""


def _to_rich(lines: list[Line]) -> "Group":
    from rich.console import Group
    from rich.text import Text

    return Group(
        *(
            Text.assemble(*((text, STYLES[role]) for text, role in line), no_wrap=True, overflow="ellipsis")
            for line in lines
        )
    )


def _console(width: int, height: int, *, has_colours: bool) -> "Console":
    from rich.console import Console

    return Console(
        file=io.StringIO(),
        record=True,
        width=width,
        height=height,
        force_terminal=has_colours,
        color_system="truecolor" if has_colours else None,
        legacy_windows=False,
    )
