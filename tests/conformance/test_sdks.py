"""The clients of the exchanges themselves, and one that makes sure of its orders when answers are lost."""

import pytest

pytestmark = pytest.mark.timeout(240)  # the first of them makes the environments


def test_the_sdk_of_okx_reads_trades_and_listens(run):
    seen = run("okex", "okx_sdk", "okex", private=True)
    assert seen["version"] == "0.4.4"
    calls = """get_ticker get_orderbook get_instruments get_funding_rate get_system_time
        get_account_config set_position_mode set_leverage get_account_balance get_fee_rates
        get_max_order_size place_order get_order amend_order get_order_list cancel_order
        cancel_multiple_orders market_sell get_positions close_positions get_fills
        get_orders_history get_account_bills"""
    for call in calls.split():
        assert seen[call]["code"] == "0", call
        assert seen[call]["data"], call
    aliases = {row["alias"] for row in seen["get_instruments"]["data"]}
    # From the roll, Friday 08:00 UTC, until 08:05 one of the six has no contract.
    assert len(seen["get_instruments"]["data"]) == len(aliases) >= 5
    assert seen["get_order_list"]["data"][0]["sz"] == "3"
    assert seen["place_multiple_orders"]["code"] == "2"
    assert [row["sCode"] for row in seen["place_multiple_orders"]["data"]] == ["0", "51020"]
    assert seen["get_positions"]["data"][0]["pos"] == "-1"
    assert not seen.errors["websocket"]
    kinds = {(frame.get("event"), frame["arg"]["channel"]) for frame in seen.all("ws_public")}
    assert kinds >= {("subscribe", "books"), ("subscribe", "tickers"), (None, "books"), (None, "tickers")}
    private = seen.all("ws_private")
    assert not [frame for frame in private if frame.get("event") == "error"]
    answers = {frame["id"]: frame["code"] for frame in private if "op" in frame}
    assert answers == {"a1": "0", "a2": "0"}
    states = [
        row["state"]
        for frame in private
        if frame.get("arg", {}).get("channel") == "orders" and "data" in frame
        for row in frame["data"]
    ]
    assert list(dict.fromkeys(states)) == ["live", "canceled"]


@pytest.mark.parametrize("private", [False, True], ids=["stranger", "account"])
def test_the_websocket_client_of_bitmex_keeps_its_tables(run, private):
    seen = run("bitmex", "bitmex_ws", "bitmex", private=private)
    assert seen["version"] == "1.5.0"
    assert (seen["instrument"]["symbol"], seen["instrument"]["tickSize"]) == ("XBTUSD", 0.1)
    assert all(0 < ticker["buy"] < ticker["sell"] for ticker in seen.all("ticker"))
    assert len({ticker["mid"] for ticker in seen.all("ticker")}) > 1
    assert seen["tables"]["orderBookL2"] > 500
    if private:
        assert seen["funds"]["currency"] == "XBt"
        assert seen["funds"]["walletBalance"] > 0
        assert seen["open_orders"] == []


def test_the_market_maker_of_bitmex_quotes_follows_and_leaves(run, pair):
    """What it believes its quotes to be is what they are; nothing of them stays."""
    account = "/ledger?venue=bitmex&account=main"
    since = pair.ask(account)["bitmex"]["last"]
    seen = run("maker", "bitmex_maker", "bitmex")
    rows = pair.ask(f"{account}&since={since}")["bitmex"]["rows"]
    quotes = {row["order"]["client_id"]: row["order"] for row in rows if row["kind"] == "order_amended"}
    assert len(quotes) == 6  # three a side, all moved
    true = [
        [name, ("Buy", "Sell")[order["side"]], order["tick"] / 10, (order["lots"] - order["filled"]) * 100]
        for name, order in quotes.items()
    ]
    assert sorted(seen["open"]) == sorted(seen["fetched"]) == sorted(true)
    assert (seen["left"], seen["connected"], seen["position"]) == ([], True, 0)
    ends = [row["order"]["client_id"] for row in rows if row["kind"] == "order_cancelled"]
    assert sorted(ends) == sorted(quotes)
    (balance,) = pair.ask("/accounts?venue=bitmex&account=main")["bitmex"]["main"]["balances"][:1]
    assert seen["balance"] == balance["cash"]


def test_a_client_that_makes_sure_of_its_orders_finds_what_became_of_them(run, pair):
    """okx-perp-reliable asks after every order without an answer: what it concludes is what happened."""
    account = "/ledger?venue=okex&account=main"
    since = pair.ask(account)["okex"]["last"]
    seen = run("okex", "okx_reliable", "okex", control=pair.child.control)
    rows = pair.ask(f"{account}&since={since}")["okex"]["rows"]
    filled = {row["order"]["client_id"] for row in rows if row["kind"] == "order_filled"}
    for call in ("plain", "timeout_done", "lost_done", "home"):
        assert (seen[call]["status"], seen[call]["id"] in filled) == ("CONFIRMED", True), call
    for call in ("timeout_undone", "lost_undone", "overloaded"):
        assert (seen[call]["status"], seen[call]["id"] in filled) == ("FAILED", False), call
    assert [error["error"] for error in seen.errors["rate_limited"]] == ["RateLimitError"]
    assert len(filled) == 4
