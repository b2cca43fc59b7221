"""ccxt, unmodified but for its URLs, reads the public side of both simulated venues."""

import time
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from dquant.markets.okex._okex_expiry import expiry_of

ENVIRONMENTS = {"okex": "okex", "bitmex": "bitmex"}
SYMBOL = "BTC/USD:BTC"
pytestmark = pytest.mark.timeout(240)  # the first of them makes the environments


def is_book(book):
    bids, asks = [row[0] for row in book["bids"]], [row[0] for row in book["asks"]]
    assert bids == sorted(bids, reverse=True)
    assert asks == sorted(asks)
    assert bids[0] < asks[0]
    assert all(row[1] > 0 for row in [*book["bids"], *book["asks"]])
    return bids[0], asks[0]


def check_common(seen):
    ticker = seen["fetch_ticker"]
    assert ticker["symbol"] == SYMBOL
    assert ticker["low"] <= ticker["last"] <= ticker["high"]
    assert 0 < ticker["bid"] < ticker["ask"]
    bid, ask = is_book(seen["fetch_order_book"])
    assert abs(bid / ticker["bid"] - 1) < 0.01
    assert abs(ask / ticker["ask"] - 1) < 0.01
    trades = seen["fetch_trades"]
    assert [trade["timestamp"] for trade in trades] == sorted(trade["timestamp"] for trade in trades)
    assert {trade["side"] for trade in trades} <= {"buy", "sell"}
    assert all(abs(trade["price"] / bid - 1) < 0.02 and trade["amount"] > 0 for trade in trades)
    assert SYMBOL in seen["fetch_tickers"]
    assert abs(seen["fetch_funding_rate"]["fundingRate"]) < 0.004
    candles = seen["fetch_ohlcv"]
    assert {later[0] - row[0] for row, later in pairwise(candles)} == {60_000}
    assert all(
        low <= min(opened, close) <= max(opened, close) <= high for _, opened, high, low, close, _ in candles
    )
    assert candles[-1][4] == pytest.approx(ticker["last"], rel=0.01)
    days = seen["fetch_days"]
    assert len(days) == 60
    assert {later[0] - row[0] for row, later in pairwise(days)} == {86_400_000}
    history = seen["fetch_funding_rate_history"]
    gaps = {later["timestamp"] - row["timestamp"] for row, later in pairwise(history)}
    assert gaps == {8 * 3_600_000}


def test_ccxt_reads_market_data_of_okx(run, pair):
    seen = run("okex", "ccxt_market_data", "okex")
    assert seen["version"] == "4.5.90"
    markets = seen["load_markets"]
    futures = (row for row in markets.values() if row["expiry"] and row["id"].startswith("BTC-USD-"))
    swap, weekly = markets[SYMBOL], min(futures, key=lambda row: row["expiry"])
    assert (swap["contractSize"], swap["inverse"], swap["settle"], swap["type"]) == (100, True, "BTC", "swap")
    assert (swap["precision"]["price"], swap["limits"]["amount"]["min"]) == (0.1, 0.1)
    friday = datetime.fromtimestamp(expiry_of("this_week", seen["fetch_time"] * 10**6) / 1e9, UTC)
    assert (weekly["type"], weekly["symbol"]) == ("future", f"BTC/USD:BTC-{friday:%y%m%d}")
    assert weekly["expiryDatetime"] == f"{friday:%Y-%m-%dT08:00:00.000Z}"
    assert (markets["BTC/USDT:USDT"]["linear"], markets["BTC/USDT"]["spot"]) == (True, True)
    check_common(seen)
    assert abs(seen["fetch_time"] / 1000 - time.time()) < 60
    assert seen["fetch_status"]["status"] == "ok"
    assert SYMBOL in seen["fetch_funding_rates"]
    mark = seen["fetch_mark_price"]["markPrice"]
    assert seen["fetch_mark_ohlcv"][-1][4] == pytest.approx(mark, rel=0.01)
    assert seen["fetch_mark_prices"][SYMBOL]["markPrice"] == pytest.approx(mark, rel=0.01)
    assert float(seen["index"]["data"][0]["idxPx"]) == pytest.approx(mark, rel=0.01)
    assert seen["fetch_open_interest"]["openInterestAmount"] > 0
    top = pair.truth("okex")["BTC-USD-SWAP"]
    assert seen["fetch_ticker"]["bid"] == pytest.approx(top["bid"], rel=0.01)
    assert [error["error"] for error in seen.errors["fetch_unknown"]] == ["BadSymbol"]


def test_ccxt_reads_market_data_of_bitmex(run, pair):
    seen = run("bitmex", "ccxt_market_data", "bitmex")
    assert seen["version"] == "4.5.60"
    markets = seen["load_markets"]
    swap = markets[SYMBOL]
    assert (swap["id"], swap["inverse"], swap["settle"]) == ("XBTUSD", True, "BTC")
    assert (swap["precision"]["price"], swap["precision"]["amount"]) == (0.1, 100)
    assert markets["BTC/USDT:USDT"]["linear"]
    check_common(seen)
    assert seen["currencies"]["BTC"]["precision"] == 1e-8
    top = pair.truth("bitmex")["XBTUSD"]
    assert seen["fetch_ticker"]["bid"] == pytest.approx(top["bid"], rel=0.01)
    assert "'symbol' is a required arg." in seen.errors["fetch_unknown"][0]["text"]


@pytest.mark.parametrize("venue", ["okex", "bitmex"])
def test_ccxt_follows_the_streams(run, pair, venue):
    seen = run(ENVIRONMENTS[venue], "ccxt_streams", venue, states=25, control=pair.child.control)
    books = seen.all("watch_order_book")
    assert len(books) == 25
    tops = [is_book(book) for book in books]
    assert len(set(tops)) > 1
    assert len(seen["book_kept"]["bids"]) == 300
    assert seen["book_kept"] == seen["book_fetched"]
    assert len(seen.all("watch_ticker")) == 3
    # Of a sparse update ccxt makes a ticker with holes; the first one is whole.
    first = seen.all("watch_ticker")[0]
    assert first["bid"] < first["ask"]
    for trades in seen.all("watch_trades"):
        assert all(trade["symbol"] == SYMBOL and trade["price"] > 0 for trade in trades)
    if venue == "okex":
        assert books[-1]["levels"] == [400, 400]
        for book in seen.all("watch_order_book_top"):
            is_book(book)
        ((_, opened, high, low, close, volume),) = seen["watch_ohlcv"][-1:]
        assert 0 < low <= min(opened, close) <= max(opened, close) <= high
        assert volume >= 0
        assert seen["watch_mark_price"]["markPrice"] > 0
        assert abs(seen["watch_funding_rate"]["fundingRate"]) < 0.004
        assert seen["watch_bids_asks"][SYMBOL]["bid"] < seen["watch_bids_asks"][SYMBOL]["ask"]
