"""The monitor's table for a terminal: one row a market, stale and silent ones without numbers.

``MonitorModel`` in, a rich renderable out. rich costs 20 MB and 100 ms, so this module is imported only
when there is a terminal to draw on.
"""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dquant.pipeline.monitor_model import MarketView, MonitorModel

COLUMNS = ("market", "instrument", "bid", "ask", "rate/s", "gaps", "pub→here", "event→here", "verdict")


def draw(model: MonitorModel, status: str, notices: list[str], now_ns: int) -> RenderableType:
    """Return the whole picture at ``now_ns``."""
    simulated = any(view.environment == "dev" for view in model.markets.values())
    table = Table(title="SIMULATED prices" if simulated else None, title_style="bold black on yellow")
    for number, name in enumerate(COLUMNS):
        table.add_column(name, justify="left" if number in {0, 1, 8} else "right", no_wrap=number != 8)
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
    return [
        Text(view.market),
        Text(view.inst_id),
        Text(_price(view.bid) if view.is_live else "-"),
        Text(_price(view.ask) if view.is_live else "-"),
        Text(f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}"),
        Text(f"{view.gaps} ({view.lost} lost)" if view.gaps else "0", style="red" if view.gaps else ""),
        Text(_lag(view.lag_pub_ms)),
        Text(_lag(view.lag_event_ms)),
        verdict(view, now_ns),
    ]


def verdict(view: MarketView, now_ns: int) -> Text:
    """Return the verdict with its reason, or since when nothing came."""
    if view.is_silent:
        return Text(f"SILENT for {view.age_s(now_ns):.0f} s", style="bold red")
    if view.verdict is None:
        return Text("no price yet", style="yellow")
    if not view.is_live:
        return Text(f"STALE: {view.reason or 'no reason given'}", style="bold red")
    return Text(f"live, {view.age_s(now_ns):.1f} s", style="green")


def _price(price: float | None) -> str:
    return "-" if price is None else repr(price)


def _lag(lag_ms: float | None) -> str:
    return "-" if lag_ms is None else f"{lag_ms:.1f} ms"
