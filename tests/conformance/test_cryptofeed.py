"""cryptofeed, its own checks on, listens to the public side of both simulated venues."""

import pytest

pytestmark = pytest.mark.timeout(240)  # the first of them makes the environments


@pytest.mark.parametrize("venue", ["okex", "bitmex"])
def test_cryptofeed_follows_books_trades_ticker_and_funding(run, pair, venue):
    before = pair.ask("/state")["venues"][venue]["counters"].get("connections", 0)
    seen = run("cryptofeed", "cryptofeed_books", venue)
    assert seen["version"] == "2.4.1"
    counts = seen["counts"]
    assert counts["l2_book"] >= 60
    assert all(counts[channel] > 0 for channel in ("trades", "ticker", "funding"))
    assert seen["crossed"] == 0
    assert all(float(row["bid"]) < float(row["ask"]) for row in seen.all("l2_book"))
    assert all(float(row["bid"]) < float(row["ask"]) for row in seen.all("ticker"))
    assert {row["side"] for row in seen.all("trades")} <= {"buy", "sell"}
    assert all(float(row["amount"]) > 0 for row in seen.all("trades"))
    assert abs(float(seen["funding"]["rate"])) < 0.004
    # Its answer to a book that it does not believe is a new connection.
    state = pair.ask("/state")["venues"][venue]
    assert state["counters"]["connections"] - before == seen["connections"]
