"""The monitor's table for a terminal: one row a market, stale and silent ones without numbers.

``MonitorModel`` in, a rich renderable out. rich costs 20 MB and 100 ms, so this module is imported only
when there is a terminal to draw on.
"""

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dquant.pipeline.monitor_model import MarketView, MonitorModel
from dquant.util import one_line

# Numbers are never cut, and with 80 columns the longest market name still fits on one line.
NUMBERS = ("bid", "ask", "rate\nper s", "gaps\nlost", "lag ms\nevent")


def draw(model: MonitorModel, status: str, notices: list[str], now_ns: int) -> RenderableType:
    """Return the whole picture at ``now_ns``."""
    simulated = any(view.environment == "dev" for view in model.markets.values())
    title = "SIMULATED prices" if simulated else None
    table = Table(
        title=title, title_style="bold black on yellow", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    table.add_column("market\ninstrument", no_wrap=True)
    for name in NUMBERS:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict\nlast record", overflow="fold")
    for name in sorted(model.markets):
        table.add_row(*row(model.markets[name], now_ns))
    foot = [f"{status}; {model.records} records"]
    if model.bad:
        foot.append(f"{model.bad} bad")
    if model.unshown:
        foot.append(f"{model.unshown} of further markets not shown")
    return Group(table, Text(", ".join(foot)), *(Text(notice, style="yellow") for notice in notices))


def row(view: MarketView, now_ns: int) -> list[Text]:
    """Return the cells of one market."""
    rate = view.price_rate.per_s(now_ns)
    # From its publication, and from the exchange, to here.
    lags = f"{_lag(view.lag_pub_ms)}\n{_lag(view.lag_event_ms)}"
    return [
        Text(f"{one_line(view.market)}\n{one_line(view.inst_id)}"),
        Text(_price(view.bid) if view.is_live else "-"),
        Text(_price(view.ask) if view.is_live else "-"),
        Text(f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}"),
        Text(f"{view.gaps}\n{view.lost}", style="red" if view.gaps else ""),
        Text(lags),
        verdict(view, now_ns),
    ]


def verdict(view: MarketView, now_ns: int) -> Text:
    """Return the verdict with its reason, or since when nothing came."""
    if view.is_silent:
        return Text(f"SILENT for {view.age_s(now_ns):.0f} s", style="bold red")
    if view.is_unheard:
        return Text("UNHEARD: no price since Redis was lost", style="bold red")
    if view.is_mixed:
        return Text("MIXED: more than one feed", style="bold red")
    if view.verdict is None:
        return Text("no price yet", style="yellow")
    if not view.is_live:
        return Text(f"STALE: {one_line(view.reason or 'no reason given')}", style="bold red")
    return Text(f"live\n{view.age_s(now_ns):.1f} s ago", style="green")


def _price(price: float | None) -> str:
    return "-" if price is None else repr(price)


def _lag(lag_ms: float | None) -> str:
    return "-" if lag_ms is None else f"{lag_ms:.1f}"
