"""Rate limits of the simulated OKX: so many requests in a window, by endpoint and what it counts by.

In: the endpoint, a key (user and instrument, user, or address) and real time, ns: limits do not speed up with
the market's clock. Out: whether it is too much. Written from the fact sheet, sections 2.5, 7 and 8.

Memory is bounded: keys that were quiet for a window are forgotten when ``KEY_LIMIT`` is reached.
"""

from collections import deque

from dquant.constants import NS_PER_S

KEY_LIMIT = 4_096
NEW_ORDERS_PER_WINDOW = 1_000  # new and amended orders of an account in 2 s, spot not counted: 50061
_WINDOW_NS = 2 * NS_PER_S

# Endpoint: requests (or orders) in a window, window in seconds.
LIMITS: dict[str, tuple[int, float]] = {
    "public/time": (10, 2),
    "public/instruments": (20, 2),
    "public/mark-price": (10, 2),
    "public/funding-rate": (10, 2),
    "public/funding-rate-history": (10, 2),
    "public/price-limit": (20, 2),
    "public/open-interest": (20, 2),
    "public/estimated-price": (10, 2),
    "public/estimated-settlement-info": (10, 2),
    "public/delivery-exercise-history": (40, 2),
    "public/settlement-history": (40, 2),
    "public/position-tiers": (10, 2),
    "public/underlying": (20, 2),
    "market/ticker": (20, 2),
    "market/tickers": (20, 2),
    "market/books": (40, 2),
    "market/books-full": (10, 2),
    "market/candles": (40, 2),
    "market/history-candles": (20, 2),
    "market/mark-price-candles": (20, 2),
    "market/history-mark-price-candles": (10, 2),
    "market/index-candles": (20, 2),
    "market/history-index-candles": (10, 2),
    "market/trades": (100, 2),
    "market/history-trades": (20, 2),
    "market/index-tickers": (20, 2),
    "system/status": (1, 5),
    "trade/order": (60, 2),
    "trade/batch-orders": (300, 2),
    "trade/cancel-order": (60, 2),
    "trade/cancel-batch-orders": (300, 2),
    "trade/amend-order": (60, 2),
    "trade/amend-batch-orders": (300, 2),
    "trade/close-position": (20, 2),
    "trade/cancel-all-after": (1, 1),
    "trade/order?": (60, 2),  # GET
    "trade/orders-pending": (60, 2),
    "trade/orders-history": (40, 2),
    "trade/orders-history-archive": (20, 2),
    "trade/fills": (60, 2),
    "trade/fills-history": (10, 2),
    "trade/account-rate-limit": (1, 1),
    "account/config": (5, 2),
    "account/balance": (10, 2),
    "account/positions": (10, 2),
    "account/positions-history": (10, 2),
    "account/account-position-risk": (10, 2),
    "account/set-position-mode": (5, 2),
    "account/set-leverage": (20, 2),
    "account/leverage-info": (20, 2),
    "account/trade-fee": (5, 2),
    "account/max-size": (20, 2),
    "account/max-avail-size": (20, 2),
    "account/bills": (5, 1),
    "account/bills-archive": (5, 2),
    "account/instruments": (20, 2),
    "asset/currencies": (6, 1),
    "asset/balances": (6, 1),
}


class RateLimiter:
    """Counts what was asked in the last seconds."""

    def __init__(self) -> None:
        self._asked: dict[tuple[str, str], deque[int]] = {}

    def is_too_much(self, bucket: str, key: str, real_ns: int, weight: int = 1) -> bool:
        """Count a request of this weight in its bucket; a refused one is not counted."""
        limit = LIMITS.get(bucket)
        return limit is not None and self._over(
            bucket, key, real_ns, weight, limit[0], int(limit[1] * NS_PER_S)
        )

    def is_too_many_orders(self, account: str, real_ns: int, orders: int = 1) -> bool:
        """Count new and amended orders of an account over all instruments."""
        return self._over("orders of", account, real_ns, orders, NEW_ORDERS_PER_WINDOW, _WINDOW_NS)

    def is_too_many_connections(self, address: str, real_ns: int, most: int) -> bool:
        """Count a new connection from an address; so many may be opened in a second."""
        return self._over("connections of", address, real_ns, 1, most, NS_PER_S)

    def _over(self, bucket: str, key: str, real_ns: int, weight: int, most: int, window_ns: int) -> bool:
        name = bucket, key
        asked = self._asked.get(name)
        if asked is None:
            if len(self._asked) >= KEY_LIMIT:
                self._forget(real_ns)
            asked = self._asked[name] = deque()
        while asked and asked[0] <= real_ns - window_ns:
            asked.popleft()
        if len(asked) + weight > most:
            return True
        asked.extend([real_ns] * weight)
        return False

    def _forget(self, real_ns: int) -> None:
        longest_ns = int(max(seconds for _count, seconds in LIMITS.values()) * NS_PER_S)
        self._asked = {
            name: asked for name, asked in self._asked.items() if asked and asked[-1] > real_ns - longest_ns
        }
