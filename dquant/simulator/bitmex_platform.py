"""What surrounds trading at the simulated BitMEX: announcements, chat, insurance fund, figures of the venue.

In: virtual time, the contracts. Out: rows of ``announcement``, ``chat``, ``publicNotifications`` (which have
a socket of their own, fact sheet section 1) and ``insurance``, and the REST routes of the same. Nobody
chats, the fund is invented and nothing is paid out of it. The sheet names these tables alone; their columns
are those of the venue's published API description.
"""

from collections.abc import Callable, Mapping
from random import Random
from typing import TYPE_CHECKING, Any

from dquant.constants import NS_PER_S
from dquant.simulator.bitmex_tables import Row, iso

if TYPE_CHECKING:
    from dquant.simulator.bitmex_server import BitmexServer

DAY_NS, FUND_HOUR_NS = 86_400 * NS_PER_S, 12 * 3600 * NS_PER_S
FUND_DAYS = 60
FUND = {"XBt": 3_600_000_000_000, "USDt": 24_000_000_000_000}  # minor units
CHANNELS = [{"id": number, "name": name} for number, name in enumerate(("English", "Chinese", "Russian"), 1)]


class Platform:
    """The pages of the venue that are not about one contract or one account."""

    def __init__(self, venue: "BitmexServer") -> None:
        self._venue = venue
        self.insurance = self._invent_fund()  # oldest first, both currencies of a day together
        self._next_fund_ns = fund_time(venue.now_ns)
        self.routes: dict[str, Callable[[Mapping[str, str]], Any]] = {
            "/announcement": lambda _query: self.announcements(),
            "/announcement/urgent": lambda _query: [],
            "/chat": lambda _query: [],
            "/chat/channels": lambda _query: CHANNELS,
            "/chat/connected": lambda _query: {"users": len(venue.connections()), "bots": 0},
            "/insurance": lambda query: venue.rest.list_rows(self.insurance, query, keys=("currency",)),
            "/leaderboard": lambda _query: [],
            "/stats": lambda _query: self._stats(),
        }

    def announcements(self) -> list[Row]:
        """Return the venue's announcements: that it is none."""
        return [
            {
                "id": 1,
                "link": "https://www.bitmex.com/blog",
                "title": "This is a simulated venue",
                "content": "Prices are invented, and so is the money.",
                "date": iso(self._venue.start_ns),
            }
        ]

    def new_insurance(self) -> list[Row]:
        """Return the fund's rows if the time of the day has come for them."""
        now = self._venue.now_ns
        if now < self._next_fund_ns:
            return []
        rows = self._fund_of(fund_time(now) - DAY_NS)
        self._next_fund_ns = fund_time(now)
        self.insurance = [*self.insurance, *rows][-FUND_DAYS * len(FUND) :]
        return rows

    def _invent_fund(self) -> list[Row]:
        latest = fund_time(self._venue.now_ns) - DAY_NS
        return [row for back in reversed(range(FUND_DAYS)) for row in self._fund_of(latest - back * DAY_NS)]

    def _fund_of(self, ts: int) -> list[Row]:
        rows = []
        for currency, amount in FUND.items():
            rng = Random(f"{self._venue.flow.seed}/insurance/{currency}/{ts}")
            balance = amount + amount // 10_000 * rng.randrange(-100, 100)
            rows.append({"currency": currency, "timestamp": iso(ts), "walletBalance": balance})
        return rows

    def _stats(self) -> list[Row]:
        """Return a day's figures by root and currency, and their sums by currency."""
        columns = ("volume24h", "turnover24h", "openInterest", "openValue")
        sums: dict[tuple[str, str], list[int]] = {}
        for market in self._venue.markets.values():
            coin = market.contract.fixed["settlCurrency"]
            for root in (market.contract.fixed["rootSymbol"], "Total"):
                figures = sums.setdefault((root, coin), [0] * len(columns))
                sums[root, coin] = [
                    have + market.row[name] for have, name in zip(figures, columns, strict=True)
                ]
        return [
            {"rootSymbol": root, "currency": coin, **dict(zip(columns, figures, strict=True))}
            for (root, coin), figures in sorted(sums.items())
        ]


def fund_time(now: int) -> int:
    """Return the next noon after a moment, when the fund is told of."""
    return now - (now - FUND_HOUR_NS) % DAY_NS + DAY_NS
