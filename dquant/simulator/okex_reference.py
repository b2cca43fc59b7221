"""Candles of mark prices and indices of the simulated OKX, which nobody trades at: looked at once a second.

In: the feeds and the flow's indices, virtual time. Out: bars, and rows ``[ts, open, high, low, close,
confirm]``. Written from the fact sheet, sections 1, 5.4 and 5.10.
"""

from collections.abc import Mapping

from dquant.constants import NS_PER_S
from dquant.simulator.bars import Bar, BarHistory, Period
from dquant.simulator.flow import Flow
from dquant.simulator.okex_feed import InstrumentFeed
from dquant.simulator.units import Step, ms_text

_STEPS = {"BTC": Step("0.1"), "ETH": Step("0.01")}  # as marks are printed


class ReferenceBars:
    """The bars of every mark price and of the indices.

    Args:
        flow: The market.
        index_ids: The names of the indices, ``BTC-USD``.

    """

    def __init__(self, flow: Flow, index_ids: tuple[str, ...]) -> None:
        self._flow = flow
        self._slot = -1
        self._index_ids = index_ids
        self._histories: dict[tuple[str, str], BarHistory] = {}  # by kind and name

    def look(self, feeds: Mapping[str, InstrumentFeed], now_ns: int) -> None:
        """Take the prices of now into the bars, once a second; forget what is not listed any more."""
        slot = now_ns // NS_PER_S
        if slot == self._slot:
            return
        self._slot = slot
        for index_id in self._index_ids:
            coin, quote = index_id.split("-")
            self._add("index", index_id, coin, self._flow.index(coin, quote), now_ns)
        for name, feed in feeds.items():
            self._add("mark", name, feed.listing.coin, feed.market.mark, now_ns)
        if len(self._histories) > len(feeds) + len(self._index_ids):
            gone = [key for key in self._histories if key[0] == "mark" and key[1] not in feeds]
            for key in gone:
                del self._histories[key]

    def bars(self, kind: str, name: str, now_ns: int, period: Period, since_ns: int = 0) -> list[Bar]:
        """Return the bars of a ``mark`` or an ``index``, oldest first; none where there is no such one."""
        history = self._histories.get((kind, name))
        return [] if history is None else history.bars(now_ns, period, since_ns)

    @staticmethod
    def row(name: str, bar: Bar, *, is_closed: bool) -> list[str]:
        """Return one candle."""
        price = _STEPS[name.split("-", maxsplit=1)[0]].text
        prices = [price(tick) for tick in (bar.open, bar.high, bar.low, bar.close)]
        return [ms_text(bar.start), *prices, "1" if is_closed else "0"]

    def _add(self, kind: str, name: str, coin: str, price: float, now_ns: int) -> None:
        tick = _STEPS[coin].nearest(price)
        history = self._histories.get((kind, name))
        if history is None:
            past = self._flow.coins[coin].past
            self._histories[kind, name] = BarHistory(now_ns, tick, past=past)
        else:
            history.add(now_ns, tick, 0)
