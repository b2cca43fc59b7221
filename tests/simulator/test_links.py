"""Orders that hang together at the simulated BitMEX: one cancels the other, one triggers the others."""

import pytest

OCO, OTO = {"contingencyType": "OneCancelsTheOther"}, {"contingencyType": "OneTriggersTheOther"}
LINK = {"clOrdLinkID": "link"}


def orders(bitmex):
    """Return what became of each order, by its client's id."""
    rows = bitmex.ask("GET", "/order")[1]
    return {row["clOrdID"]: (row["ordStatus"], row["workingIndicator"]) for row in rows}


def sell_into(bitmex, price, lots=1):
    """Let the other account sell to whoever bids this price; it is the best one by then."""
    return bitmex.place(
        account=100_002, side="Sell", orderQty=lots * 100, price=price, timeInForce="ImmediateOrCancel"
    )


def test_a_partial_fill_of_one_cancels_the_other_at_once(bitmex):
    bid, ask = bitmex.best()
    price = round((bid + ask) / 2, 1)
    near = bitmex.place(orderQty=500, price=price, clOrdID="near", **LINK, **OCO)
    far = bitmex.place(orderQty=500, price=bid - 50, clOrdID="far", **LINK, **OCO)
    assert (near["contingencyType"], far["clOrdLinkID"]) == ("OneCancelsTheOther", "link")
    assert bitmex.refused(
        "POST", "/order", {"symbol": "XBTUSD", "orderQty": 100, "price": 1, **LINK, **OCO}
    ) == ("Invalid clOrdLinkID")
    sell_into(bitmex, price)
    assert orders(bitmex) == {"near": ("PartiallyFilled", True), "far": ("Canceled", False)}
    row = next(row for row in bitmex.ask("GET", "/order")[1] if row["clOrdID"] == "far")
    assert row["text"].startswith("Canceled: Linked order")


def test_a_stop_that_wakes_cancels_the_other_though_it_rests(bitmex):
    bid, ask = bitmex.best()
    bitmex.place(orderQty=100, price=bid - 50, clOrdID="rests", **LINK, **OCO)
    stop = {"ordType": "StopLimit", "stopPx": ask - 50, "price": bid - 60, "execInst": "LastPrice"}
    bitmex.place(orderQty=100, side="Buy", clOrdID="stop", **stop, **LINK, **OCO)
    bitmex.run(20)
    assert orders(bitmex) == {"rests": ("Canceled", False), "stop": ("New", True)}


def test_the_one_that_is_left_when_the_other_is_cancelled_goes_on(bitmex):
    bid, _ask = bitmex.best()
    for name in ("a", "b"):
        bitmex.place(orderQty=100, price=bid - 50, clOrdID=name, **LINK, **OCO)
    bitmex.ask("DELETE", "/order", {"clOrdID": "a"})
    assert orders(bitmex) == {"a": ("Canceled", False), "b": ("New", True)}


def test_an_entry_wakes_its_exits_and_one_of_them_cancels_the_other(bitmex):
    """As clients do it: an entry that triggers, a profit and a loss that cancel each other."""
    bid, ask = bitmex.best()
    price = round((bid + ask) / 2, 1)
    bitmex.place(orderQty=200, price=price, clOrdID="entry", **LINK, **OTO)
    exits = {"orderQty": -200, "execInst": "ReduceOnly", **LINK, **OCO}
    profit = bitmex.place(price=round(price + 100, 1), clOrdID="profit", **exits)
    stop = {"ordType": "Stop", "stopPx": round(price - 100, 1), "execInst": "LastPrice,ReduceOnly"}
    bitmex.place(clOrdID="loss", **(exits | stop))
    assert (profit["ordStatus"], profit["workingIndicator"]) == ("New", False)
    assert bitmex.ask("GET", "/position")[1][0]["openOrderSellQty"] == 0
    sell_into(bitmex, price)
    assert orders(bitmex)["profit"] == ("New", False)  # not filled to its end yet
    connection = bitmex.listen("execution", "order")
    sell_into(bitmex, price)
    assert orders(bitmex) == {
        "entry": ("Filled", False),
        "profit": ("New", True),
        "loss": ("New", False),
    }
    assert any('"triggered"' not in text and "profit" in text for text in connection.texts_to_send())
    bitmex.venue.exchange.amend("100001", 2, tick=bitmex.venue.markets["XBTUSD"].market.book.best_bid)
    bitmex.run(10)
    assert orders(bitmex) == {
        "entry": ("Filled", False),
        "profit": ("Filled", False),
        "loss": ("Canceled", False),
    }
    assert bitmex.ask("GET", "/position")[1][0]["currentQty"] == 0


@pytest.mark.parametrize("way", ["/order", "/order/all"])
def test_exits_end_with_an_entry_that_is_cancelled(bitmex, way):
    bid, _ask = bitmex.best()
    bitmex.place(orderQty=100, price=bid - 50, clOrdID="entry", **LINK, **OTO)
    bitmex.place(orderQty=-100, price=bid + 900, clOrdID="exit", execInst="ReduceOnly", **LINK)
    assert bitmex.refused(
        "POST", "/order", {"symbol": "XBTUSD", "orderQty": 100, "price": 1, **LINK, **OTO}
    ) == ("Invalid clOrdLinkID")
    bitmex.ask("DELETE", way, {"clOrdID": "entry"} if way == "/order" else {})
    assert orders(bitmex) == {"entry": ("Canceled", False), "exit": ("Canceled", False)}


def test_an_entry_that_fills_at_once_lets_its_exits_in_as_they_come(bitmex):
    bid, _ask = bitmex.best()
    bitmex.place(orderQty=100, clOrdID="entry", **LINK, **OTO)
    bitmex.place(orderQty=-100, price=bid + 900, clOrdID="exit", execInst="ReduceOnly", **LINK)
    assert orders(bitmex) == {"entry": ("Filled", False), "exit": ("New", True)}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (OCO, "Invalid clOrdLinkID"),
        ({"contingencyType": "OneUpdatesTheOtherAbsolute", **LINK}, "Invalid contingencyType"),
    ],
)
def test_a_contingency_needs_a_link_and_a_name(bitmex, fields, message):
    assert (
        bitmex.refused("POST", "/order", {"symbol": "XBTUSD", "orderQty": 100, "price": 1, **fields})
        == message
    )
