"""Events of two markets, as a datafeed hands them over."""

from collections.abc import Callable

import pytest

from dquant.model.events import Health, Price

A = "okex_future_btcusd_thisweek"
B = "bitmex_future_btcusd"
START = 1_795_334_400_000_000_000  # 2026-11-22T08:00:00Z, ns
INST_IDS = {A: "BTC-USD-261127", B: "XBTUSD"}


@pytest.fixture
def make_price() -> Callable[..., Price]:
    """Make the price of a market at ``at_s`` seconds after the start."""

    def make(
        market: str,
        bid: float | None = None,
        ask: float | None = None,
        *,
        at_s: float = 0.0,
        reason: str | None = None,
        environment: str = "dev",
        amounts: tuple[float, float] = (120.0, 44.0),
        inst_id: str | None = None,
    ) -> Price:
        ts_recv = START + round(at_s * 1e9)
        return Price(
            market=market,
            inst_id=inst_id or INST_IDS.get(market, market),
            environment=environment,
            seq=0,
            bid=bid,
            bid_amount=None if bid is None else amounts[0],
            ask=ask,
            ask_amount=None if ask is None else amounts[1],
            verdict="stale" if reason else "live",
            reason=reason,
            ts_event=ts_recv - 5_000_000,
            ts_recv=ts_recv,
        )

    return make


@pytest.fixture
def make_health() -> Callable[..., Health]:
    """Make the health of a market at ``at_s`` seconds after the start."""

    def make(
        market: str,
        state: str = "heartbeat",
        *,
        at_s: float = 0.0,
        verdict: str = "live",
        reason: str | None = None,
        reconnects: int = 0,
        dropped: int = 0,
    ) -> Health:
        return Health(
            market=market,
            inst_id=INST_IDS.get(market, market),
            environment="dev",
            seq=0,
            state=state,
            reason=reason,
            verdict=verdict,
            messages=1234,
            resyncs=0,
            reconnects=reconnects,
            quarantined=0,
            dropped=dropped,
            ts_recv=START + round(at_s * 1e9),
        )

    return make
