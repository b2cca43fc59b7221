"""The candle channels of the simulated OKX: the open candle as it changes, and once more when it closes.

In: who listens to what, the feeds, virtual time. Out: ``(subscription, frame text)``. Written from the fact
sheet, section 5.10; a candle that changed is pushed twice a second.
"""

from collections.abc import Collection, Mapping

from dquant.constants import NS_PER_MS
from dquant.simulator import okex_history as history
from dquant.simulator.okex_feed import InstrumentFeed
from dquant.simulator.okex_messages import CANDLE_CHANNELS, dump

_CADENCE_NS = 500 * NS_PER_MS

Subscription = tuple[str, str]


class CandlePushes:
    """What listeners of candles were shown last."""

    def __init__(self) -> None:
        self._shown: dict[Subscription, list[str]] = {}
        self._slot = 0

    def first_push(self, channel: str, feed: InstrumentFeed, now_ns: int) -> str | None:
        """Return the open candle for a new listener."""
        rows = _rows(channel, feed, now_ns)
        return _push(channel, feed, rows[0]) if rows else None

    def publish(
        self, listened: Collection[Subscription], feeds: Mapping[str, InstrumentFeed], now_ns: int
    ) -> list[tuple[Subscription, str]]:
        """Return what is to be said up to now."""
        pushes: list[tuple[Subscription, str]] = []
        if now_ns // _CADENCE_NS == self._slot:
            return pushes
        self._slot = now_ns // _CADENCE_NS
        for subscription in listened:
            channel, name = subscription
            feed = feeds.get(name)
            if channel not in CANDLE_CHANNELS or feed is None:
                continue
            rows, shown = _rows(channel, feed, now_ns), self._shown.get(subscription)
            if not rows or rows[0] == shown:
                continue
            self._shown[subscription] = rows[0]
            if shown is not None and len(rows) > 1 and rows[1][0] == shown[0]:
                pushes.append((subscription, _push(channel, feed, rows[1])))  # it has closed
            pushes.append((subscription, _push(channel, feed, rows[0])))
        return pushes

    def forget(self, subscription: Subscription) -> None:
        """Note that nobody listens any more."""
        self._shown.pop(subscription, None)


def _rows(channel: str, feed: InstrumentFeed, now_ns: int) -> list[list[str]]:
    """Return the open candle and the one before it."""
    return history.newest_candles(feed.listing, feed.market, channel.removeprefix("candle"), now_ns)


def _push(channel: str, feed: InstrumentFeed, row: list[str]) -> str:
    return dump({"arg": {"channel": channel, "instId": feed.listing.inst_id}, "data": [row]})
