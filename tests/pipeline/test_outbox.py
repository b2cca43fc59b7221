"""The waiting lines: what is kept, what gives way, what is counted."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dquant.model.events import Price
from dquant.pipeline.outbox import PRICES_KEPT, STALE_KEPT, TRADES_KEPT, Outbox


def price(number: int, verdict: str) -> Price:
    if verdict == "stale":
        return Price("m", "i", "dev", 0, None, None, None, None, "stale", "gap", 0, number)
    return Price("m", "i", "dev", 0, 1.0, 1.0, 2.0, 1.0, "live", None, 0, number)


def sent_of(outbox: Outbox, kind: str = "price") -> list[dict[str, Any]]:
    return [json.loads(text) for batch in outbox.take(7) if batch.kind == kind for text in batch.records]


def test_all_prices_go_out_in_order_while_redis_keeps_up(records):
    outbox = Outbox()
    outbox.receive_connected()
    for number in range(PRICES_KEPT):
        outbox.put_price(records.live(float(number)))

    sent = sent_of(outbox)
    assert [record["bid"] for record in sent] == [float(number) for number in range(PRICES_KEPT)]
    assert [record["seq"] for record in sent] == list(range(1, PRICES_KEPT + 1))
    assert {record["ts_pub"] for record in sent} == {7}
    assert outbox.conflated == 0


def test_prices_past_the_limit_are_conflated_to_the_newest_and_counted(records):
    outbox = Outbox()
    outbox.receive_connected()
    for number in range(PRICES_KEPT + 1):
        outbox.put_price(records.live(float(number)))

    assert [record["bid"] for record in sent_of(outbox)] == [float(PRICES_KEPT)]
    assert outbox.conflated == PRICES_KEPT


def test_without_a_connection_only_the_newest_price_waits(records):
    outbox = Outbox()
    for number in range(10):
        outbox.put_price(records.live(float(number)))

    assert outbox.waiting == 1
    assert outbox.conflated == 9


def test_stale_verdicts_stay_in_the_line_when_live_prices_are_conflated(records):
    outbox = Outbox()
    for record in (
        records.live(),
        records.stale("first"),
        records.live(),
        records.stale("second"),
        records.live(5.0),
    ):
        outbox.put_price(record)

    assert [(r["verdict"], r["reason"]) for r in sent_of(outbox)] == [
        ("stale", "first"),
        ("stale", "second"),
        ("live", None),
    ]


def test_a_reconnect_publishes_the_newest_price_again_with_a_new_number(records):
    outbox = Outbox()
    outbox.receive_connected()
    outbox.put_price(records.live(5.0))
    first = sent_of(outbox)
    outbox.receive_disconnected(unanswered=1)
    outbox.receive_connected()

    again = sent_of(outbox)
    assert [record["bid"] for record in again] == [5.0]
    assert again[0]["seq"] == first[0]["seq"] + 1
    assert outbox.dropped == 1


def test_one_price_by_itself_is_numbered_and_said_again_like_the_others(records):
    outbox = Outbox()
    outbox.receive_connected()
    outbox.put_price(records.live(5.0))
    text = outbox.take_price(9)
    outbox.health.put(records.health())
    renewal = next(batch for batch in outbox.take(9) if batch.kind == "price")
    outbox.receive_disconnected(unanswered=0)
    outbox.receive_connected()
    (again,) = sent_of(outbox)

    first = json.loads(text)
    assert (first["seq"], first["bid"], first["ts_pub"]) == (1, 5.0, 9)
    assert renewal.latest == text
    assert (again["seq"], again["bid"]) == (2, 5.0)


@pytest.mark.parametrize("kind", ["prices", "depths", "trades", "health"])
def test_one_price_is_not_taken_from_among_others(records, kind):
    outbox = Outbox()
    outbox.receive_connected()
    assert outbox.take_price(9) is None
    outbox.put_price(records.live(5.0))
    if kind == "prices":
        outbox.put_price(records.live(6.0))
    elif kind == "depths":
        outbox.put_depth(records.depth())
    elif kind == "trades":
        outbox.trades.put(records.trade())
    else:
        outbox.health.put(records.health("stale"))

    assert outbox.take_price(9) is None
    assert sent_of(outbox)[0]["bid"] == 5.0


def test_the_oldest_trades_go_and_are_counted_in_health(records):
    outbox = Outbox()
    for _ in range(TRADES_KEPT + 3):
        outbox.trades.put(records.trade())
    outbox.health.put(records.health(dropped=10))

    batches = outbox.take(7)
    trades = next(batch for batch in batches if batch.kind == "trade")
    health = next(batch for batch in batches if batch.kind == "health")
    assert len(trades.records) == TRADES_KEPT
    assert json.loads(trades.records[-1])["trade_id"] == f"t{TRADES_KEPT + 3}"
    assert json.loads(health.records[0])["dropped"] == 13


def test_conflated_prices_are_counted_in_health(records):
    outbox = Outbox()
    for _ in range(5):
        outbox.put_price(records.live())
    outbox.health.put(records.health())

    assert sent_of(outbox, "health")[0]["dropped"] == 4


def test_a_heartbeat_renews_the_latest_price_of_a_quiet_market(records):
    outbox = Outbox()
    outbox.put_price(records.live(5.0))
    sent_of(outbox)
    outbox.health.put(records.health())

    renewal = next(batch for batch in outbox.take(9) if batch.kind == "price")
    assert renewal.records == []
    assert renewal.latest is not None
    assert json.loads(renewal.latest)["bid"] == 5.0


steps = st.lists(
    st.sampled_from(["live", "live", "stale", "take", "take one", "connect", "disconnect"]),
    min_size=1,
    max_size=200,
)


@settings(max_examples=150, deadline=None)
@given(steps)
def test_no_price_is_ever_overtaken_and_no_stale_verdict_vanishes(steps):
    """What is sent is in the order of what was put, so no live price follows a newer stale one."""
    outbox = Outbox()
    put: list[str] = []
    sent: list[int] = []
    for step in steps:
        if step in ("live", "stale"):
            put.append(step)
            outbox.put_price(price(len(put), step))
        elif step == "take one":
            text = outbox.take_price(7)
            sent += [] if text is None else [json.loads(text)["ts_recv"]]
        elif step == "take":
            sent += [record["ts_recv"] for record in sent_of(outbox)]
        elif step == "connect":
            outbox.receive_connected()
        else:
            outbox.receive_disconnected(0)
        assert outbox.waiting <= PRICES_KEPT
    sent += [record["ts_recv"] for record in sent_of(outbox)]

    assert sent == sorted(sent)
    if put:
        assert sent[-1] == len(put), "the newest state always goes out"
    missing = [n for n, verdict in enumerate(put, 1) if verdict == "stale" and n not in sent]
    assert len(missing) <= outbox.prices.dropped
    assert not missing or put.count("stale") > STALE_KEPT
    # A state that a reconnect queues again may be conflated, and counted, though its first sending arrived.
    unsent = len(put) - len(set(sent))
    assert unsent <= outbox.conflated + outbox.dropped <= unsent + steps.count("connect")
