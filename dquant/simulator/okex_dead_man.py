"""Dead-man switches of the simulated OKX: ``/trade/cancel-all-after``, of an account or of one tag.

In: requests, virtual time. Out: when a switch fires, and cancels with ``Reason.DEAD_MAN``. Written from the
fact sheet, section 8.4: 0 switches off, 10 to 120 s, at most 20 live tags. The engine keeps the switches and
cancels at once; with a gap they are kept here and orders are cancelled one by one, as the guide warns.
"""

import contextlib
from collections import deque
from typing import Any

from dquant.constants import NS_PER_MS, NS_PER_S
from dquant.simulator.exchange import Exchange
from dquant.simulator.okex_errors import OkexError
from dquant.simulator.okex_markets import MarketsHost
from dquant.simulator.okex_requests import required, text
from dquant.simulator.orders import OrderView, Reason, Refused
from dquant.simulator.units import ms_text

MOST_TAGS = 20
_TIMEOUTS_S = range(10, 121)

Row = dict[str, Any]


class DeadManSwitches:
    """The switches of all accounts.

    Args:
        host: The venue.
        exchange: The engine.
        gap_ms: Virtual time between two cancels; 0 leaves it to the engine, which needs none.

    """

    def __init__(self, host: MarketsHost, exchange: Exchange, gap_ms: int = 0) -> None:
        self._host, self._exchange, self._usual_gap_ns = host, exchange, gap_ms * NS_PER_MS
        self._tags: dict[str, dict[str, int]] = {}  # account: tag: when it fires
        # With a gap: when switches fire, and whose turn is when.
        self._fuses: dict[tuple[str, str], int] = {}
        self._burning: deque[OrderView] = deque()
        self._burning_ns = 0

    def wind(self, account: str, arg: Row) -> Row:
        """Wind the dead-man timer of the account or of one tag; 0 stops it.

        Raises:
            OkexError: 50014, 51000 or 51071.

        """
        seconds, tag = required(arg, "timeOut"), text(arg, "tag")
        if not (seconds.isascii() and seconds.isdecimal()) or len(seconds) > 3:
            raise OkexError("51000", "timeOut")
        timeout_s = int(seconds)
        if (timeout_s and timeout_s not in _TIMEOUTS_S) or len(tag) > 16 or not (tag.isalnum() or not tag):
            raise OkexError("51000", "timeOut" if timeout_s and timeout_s not in _TIMEOUTS_S else "tag")
        now_ns = self._host.now_ns
        live = self._tags.setdefault(account, {})
        for name in [name for name, fires_ns in live.items() if fires_ns <= now_ns]:
            del live[name]
        if tag and timeout_s and tag not in live and len(live) >= MOST_TAGS:
            raise OkexError("51071")
        if self._gap_ns():
            self._exchange.set_dead_man(account, 0, tag)
            fires_ns = self._fuses[account, tag] = now_ns + timeout_s * NS_PER_S
            if not timeout_s:
                del self._fuses[account, tag]
        else:
            self._fuses.pop((account, tag), None)
            fires_ns = self._exchange.set_dead_man(account, timeout_s * NS_PER_S, tag)
        if tag and timeout_s:
            live[tag] = fires_ns
        elif tag:
            live.pop(tag, None)
        return {"triggerTime": ms_text(fires_ns) if timeout_s else "0", "tag": tag, "ts": ms_text(now_ns)}

    def _gap_ns(self) -> int:
        return self._usual_gap_ns or self._host.faults.gap_ns(self._host.real_ns)

    def pass_time(self) -> None:
        """Cancel one by one what dead-man switches ended, where they are not the engine's."""
        now_ns = self._host.now_ns
        for account, tag in [key for key, fires_ns in self._fuses.items() if fires_ns <= now_ns]:
            self._burning_ns = max(self._burning_ns, self._fuses.pop((account, tag)))
            self._burning += [
                view for view in self._exchange.open_orders(account) if not tag or view.tag == tag
            ]
        while self._burning and self._burning_ns <= now_ns:
            self._burning_ns += self._gap_ns()
            view = self._burning.popleft()
            # It may have been filled while it waited for its turn.
            with contextlib.suppress(Refused):
                self._exchange.cancel(view.account, view.order_id, Reason.DEAD_MAN)
