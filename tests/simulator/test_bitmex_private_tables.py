"""Private tables and money of the simulated BitMEX: forms as recorded, satoshi by hand."""

import json
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dquant.simulator.bitmex_account import sparse
from dquant.simulator.bitmex_account_rows import OpenOrders, PositionTerms, open_orders, position_row
from dquant.simulator.bitmex_instruments import XBTUSD, XBTUSDT
from dquant.simulator.bitmex_money import engine_contract
from dquant.simulator.bitmex_order_rows import OrderFace, trade_facts
from dquant.simulator.bitmex_private_types import PRIVATE_KEYS, PRIVATE_TYPES
from dquant.simulator.bitmex_tables import PLATFORM_ONLY
from dquant.simulator.exchange_events import Fill, PositionView
from dquant.simulator.flow_book import BID
from dquant.simulator.injection import inject
from dquant.simulator.orders import OrderView, PosSide, Reason, State

FIXTURES = Path(__file__).resolve().parents[3] / "shared" / "fixtures" / "bitmex"
INVERSE, LINEAR = engine_contract(XBTUSD), engine_contract(XBTUSDT)
TABLES = ("order", "execution", "position", "margin", "wallet", "transact", "privateNotifications")


def recorded(name):
    path = FIXTURES / name
    if not path.exists():
        pytest.skip(f"{path} is not there: payloads of the venue live beside the repo")
    return json.loads(path.read_text())


def heard(connection, table):
    frames = [json.loads(text) for text in connection.texts_to_send()]
    return [frame for frame in frames if frame.get("table") == table]


# Section 6.3 to 6.5, by hand


@pytest.mark.parametrize(
    ("qty", "price", "value"),
    [
        (100, "98570.9", 101_450),
        (400, "43772", 913_828),
        (400, "43772.75", 913_812),
        (1500, "22957.36", 6_533_850),
    ],
)
def test_the_value_of_inverse_contracts_is_that_of_recorded_rows(qty, price, value):
    assert INVERSE.value(qty // 100, Decimal(price)) == value
    assert INVERSE.cost(qty // 100, Decimal(price)) == -value
    assert INVERSE.cost(-qty // 100, Decimal(price)) == value


def test_the_value_of_linear_contracts_is_that_of_a_recorded_row():
    assert LINEAR.value(48, Decimal("97343.4")) == 467_248_320
    assert LINEAR.cost(48, Decimal("97343.4")) == 467_248_320


@pytest.mark.parametrize(
    ("value", "rate", "fee"),
    [(9_495_200, "0.0009", 8_545), (88_155, "0.00075", 66), (476_172, "0.0005", 238), (1_000, "0", 0)],
)
def test_fees_are_cut_towards_zero(value, rate, fee):
    assert INVERSE.fee(value, Decimal(rate)) == fee


def view(side, lots, tick, **more):
    facts = dict.fromkeys(OrderView.__struct_fields__)
    facts |= {
        "side": side,
        "lots": lots,
        "filled": 0,
        "tick": tick,
        "state": State.LIVE,
        "reduce_only": False,
    }
    return OrderView(**{**facts, **more})


def test_an_order_takes_the_margin_that_was_recorded():
    """100 contracts worth 107287 took 1181: 1 % and two taker fees of 0.05 %, rounded up."""
    tick = round(1e10 / 107_287 / 0.1)
    orders = open_orders([view(BID, 1, tick)], INVERSE, XBTUSD, Decimal(100), 0)
    assert (orders.buy_qty, orders.buy_cost, orders.margin) == (100, -107_287, 1_181)
    closing = open_orders([view(BID, 1, tick)], INVERSE, XBTUSD, Decimal(100), -1)
    assert (closing.buy_cost, closing.margin) == (-107_287, 0)
    assert (
        open_orders([view(BID, 1, tick, state=State.WAITING)], INVERSE, XBTUSD, Decimal(100), 0)
        == OpenOrders()
    )


def test_a_position_row_says_what_the_recorded_one_says():
    """Section 6.3: long 400 of December 2023, at its fees and maintenance rate."""
    row = recorded("ws_position_partial_XBTUSD_long400_2023-12-07.json")["data"][0]
    position = PositionView(
        position_id=1,
        account="a",
        symbol="XBTUSD",
        pos_side=PosSide.NET,
        lots=4,
        cost=-912_269,
        entry_cost=-912_269,
        entry=INVERSE.entry(4, -912_269),
        real_entry=None,
        mark=Decimal(43_772),
        mark_value=INVERSE.cost(4, Decimal(43_772)),
        unrealised=-913_828 + 912_269,
        realised=0,
        settled=0,
        fees=684,
        funding=0,
        previous_realised=0,
        leverage=Decimal(100),
        initial_margin=9_817,
        maintenance_margin=3_887,
        liquidation_price=None,
        opened_ns=0,
        updated_ns=0,
    )
    orders, terms = OpenOrders(), PositionTerms()
    ours = position_row(
        position, 1, XBTUSD, INVERSE, terms, orders, Decimal(43_772), 1_701_907_740_709_000_000, 0.0
    )
    same = (
        *("symbol", "currency", "underlying", "quoteCurrency", "initMarginReq", "leverage", "crossMargin"),
        *(
            "currentQty",
            "currentCost",
            "currentComm",
            "realisedCost",
            "unrealisedCost",
            "isOpen",
            "markPrice",
        ),
        *("markValue", "riskValue", "homeNotional", "foreignNotional", "posCost", "posCross", "posMargin"),
        *("posMaint", "initMargin", "maintMargin", "realisedPnl", "unrealisedPnl", "unrealisedPnlPcnt"),
        *("unrealisedRoePcnt", "timestamp", "openingQty", "riskLimit"),
    )
    assert {name: ours[name] for name in same} == {name: row[name] for name in same}
    # 400e8 / 912269 is 43846.7163; the venue said .7643, from fills that are not in the recording.
    assert ours["avgEntryPrice"] == pytest.approx(row["avgEntryPrice"], abs=0.05)
    assert ours["breakEvenPrice"] == pytest.approx(row["breakEvenPrice"], abs=0.5)  # the tick was 0.5
    assert ours.keys() - {"strategy", "posState", "posInit"} == row.keys() - {"posState"}


def fill(**facts):
    known = {"fill_id": 1, "order_id": 1, "account": "a", "symbol": "XBTUSD", "client_id": "", "ts": 0}
    known |= {
        "pos_side": PosSide.NET,
        "trade_id": 5,
        "side": BID,
        "tick": 1,
        "is_maker": False,
        "realised": 0,
    }
    return Fill(**known, position=0, reason=Reason.FILL, fee_coin="XBt", fee_rate=Decimal("0.0005"), **facts)


def test_signs_of_an_execution_follow_the_side_and_the_kind_of_contract():
    price = Decimal("98570.9")
    bought = trade_facts(fill(lots=1, price=price, value=101_450, fee=50), XBTUSD, "id", 0.0)
    assert (bought["execCost"], bought["homeNotional"], bought["foreignNotional"]) == (
        -101_450,
        0.0010145,
        -100.0,
    )
    linear = trade_facts(fill(lots=48, price=price, value=467_248_320, fee=50), XBTUSDT, "id", 0.0)
    assert (linear["execCost"], linear["homeNotional"], linear["foreignNotional"]) == (
        *(467_248_320, 0.0048),
        -467.24832,
    )


def test_a_match_has_the_same_notionals_in_private_as_in_public(bitmex):
    """A quanto's are coins and dollars too, as in the recorded trades of ETHUSD."""
    for symbol, qty in (("ETHUSD", 10), ("XBTUSD", 100), ("XBTUSDT", 100)):
        bitmex.place(symbol=symbol, side="Buy", orderQty=qty)
        bitmex.run(10)
        (done,) = bitmex.ask("GET", "/execution/tradeHistory", query=f"symbol={symbol}")[1]
        trades = bitmex.ask("GET", "/trade", query=f"symbol={symbol}&count=9&reverse=true")[1]
        (trade,) = [row for row in trades if row["trdMatchID"] == done["trdMatchID"]]
        assert done["homeNotional"] == pytest.approx(trade["homeNotional"], rel=1e-4)
        assert done["foreignNotional"] == pytest.approx(-trade["foreignNotional"], rel=1e-4)
        (held,) = bitmex.ask("GET", "/position", query=f'filter={{"symbol":"{symbol}"}}')[1]
        assert held["homeNotional"] == pytest.approx(done["homeNotional"], rel=1e-3)


def test_an_average_price_is_exact_for_one_price_and_harmonic_for_several():
    face = OrderFace("g", 1, XBTUSD, {}, "", "")
    assert face.average is None
    face.add_fill(fill(lots=1, price=Decimal("98570.9"), value=0, fee=0))
    face.add_fill(fill(lots=3, price=Decimal("98570.9"), value=0, fee=0))
    assert face.average == 98_570.9
    face.add_fill(fill(lots=4, price=Decimal(100_000), value=0, fee=0))
    assert face.average == round(2 / (1 / 98_570.9 + 1 / 100_000), 4)


# Frames


def test_partials_declare_keys_and_types_of_2026(bitmex):
    connection = bitmex.venue.connect("/realtime", "", 0, bitmex.signed("GET", "/realtime"))
    connection.receive_text(json.dumps({"op": "subscribe", "args": list(TABLES)}), 0)
    frames = [json.loads(text) for text in connection.texts_to_send()]
    partials = {frame["table"]: frame for frame in frames if frame.get("action") == "partial"}
    assert tuple(partials) == TABLES
    for table, frame in partials.items():
        assert list(frame) == ["table", "action", "keys", "types", "filter", "data"]
        assert (frame["keys"], frame["types"]) == (PRIVATE_KEYS[table], PRIVATE_TYPES[table])
        assert frame["filter"] == {"account": 100_001}
    assert [row["currency"] for row in partials["margin"]["data"]] == ["XBt", "USDt"]
    for name, table in (
        ("ws_position_partial_empty_2025.json", "position"),
        ("ws_margin_partial_2025.json", "margin"),
        ("ws_execution_partial_empty_2025.json", "execution"),
    ):
        real = recorded(name)
        assert partials[table]["keys"] == real["keys"]
        assert real["types"].items() <= partials[table]["types"].items()


def test_every_table_that_the_help_names_is_served_without_a_symbol_and_with_a_star(bitmex):
    """The venue's JavaScript client reads the help first, then asks for ``margin:*``."""
    status, told = bitmex.ask("GET", "/schema/websocketHelp")
    names = [name for names in told["subscriptionSubjects"].values() for name in names]
    names = [name for name in names if name not in PLATFORM_ONLY]  # on a socket of their own
    assert status == 200
    assert set(TABLES) | {"trade", "connected"} <= set(names)
    for suffix in ("", ":*"):
        connection, topics = bitmex.listen(), [f"{name}{suffix}" for name in names]
        connection.receive_text(json.dumps({"op": "subscribe", "args": topics}), 0)
        frames = [json.loads(text) for text in connection.texts_to_send()]
        assert [frame["subscribe"] for frame in frames if frame.get("success")] == topics
        assert [frame["table"] for frame in frames if frame.get("action") == "partial"] == names
    connection.receive_text(json.dumps({"op": "unsubscribe", "args": topics}), 0)
    bitmex.place(side="Buy", ordType="Market", orderQty=100)
    bitmex.run(200)
    assert not [text for text in connection.texts_to_send() if "table" in json.loads(text)]


def test_rows_of_all_symbols_come_by_a_star(bitmex):
    connection = bitmex.listen("margin:*", "execution:*", "quote:*")
    for symbol in ("XBTUSD", "ETHUSD"):
        bitmex.place(symbol=symbol, side="Buy", ordType="Market", orderQty=100)
    bitmex.run(500)
    frames = [json.loads(text) for text in connection.texts_to_send()]
    assert {frame["table"] for frame in frames} == {"margin", "execution", "quote"}
    for table in ("execution", "quote"):
        rows = [row for frame in frames if frame["table"] == table for row in frame["data"]]
        assert {row["symbol"] for row in rows} >= {"XBTUSD", "ETHUSD"}


def test_a_margin_row_has_the_columns_of_a_recorded_one(bitmex):
    """The venue leaves out what it has no value of; ours says two of these as zeros."""
    real = recorded("ws_margin_partial_2025.json")["data"][0]
    _status, row = bitmex.ask("GET", "/user/margin")
    assert row.keys() - real.keys() == {"prevRealisedPnl", "grossExecCost"}
    assert real.keys() <= row.keys()
    assert {type(row[name]) for name in real if isinstance(real[name], int)} == {int}


def test_an_execution_is_told_as_new_and_trade_in_one_insert(bitmex):
    """Section 3.5: the recorded frame of January 2025 is of a spot contract, which has no settle currency."""
    real = recorded("ws_execution_insert_market_buy_spot_2025-01-08.json")["data"]
    connection = bitmex.listen("execution")
    order = bitmex.place(orderQty=100)
    (frame,) = heard(connection, "execution")
    new, trade = frame["data"]
    assert (frame["action"], new["execType"], trade["execType"]) == ("insert", "New", "Trade")
    added = {"strategy", "settlCurrency", "pool"}
    assert new.keys() == real[0].keys() | added
    more = {"execCommCcy", "realisedPnl", "trdType", "tradePool"}
    assert trade.keys() == real[1].keys() | added | more
    assert int(trade["execID"][-12:], 16) == int(new["execID"][-12:], 16) + 1
    fee = int(abs(trade["execCost"]) * 0.0005)
    assert (trade["execComm"], trade["lastLiquidityInd"], trade["orderID"]) == (
        *(fee, "RemovedLiquidity"),
        order["orderID"],
    )
    assert trade["execCost"] == -round(1e10 / trade["lastPx"])


def test_an_execution_shares_its_match_id_with_the_public_print(bitmex):
    public, own = bitmex.venue.connect("/realtime", "subscribe=trade:XBTUSD", 0), bitmex.listen("execution")
    public.texts_to_send()
    bitmex.place(orderQty=100)
    bitmex.run(20)
    prints = {row["trdMatchID"] for frame in heard(public, "trade") for row in frame["data"]}
    trades = [row for frame in heard(own, "execution") for row in frame["data"] if row["execType"] == "Trade"]
    assert trades
    assert {row["trdMatchID"] for row in trades} <= prints


def test_each_match_at_one_price_is_printed_with_its_own_id_and_size(bitmex):
    """Who looks for the print of an execution finds it, though one order took several at a price."""
    bid, ask = bitmex.best()
    price = round((bid + ask) / 2, 1)
    for lots in (3, 5):
        bitmex.place(orderQty=lots * 100, price=price)
    public = bitmex.venue.connect("/realtime", "subscribe=trade:XBTUSD", 0)
    public.texts_to_send()
    connection = bitmex.listen("execution")
    bitmex.place(account=100_002, side="Sell", orderQty=800, price=price)
    bitmex.run(10)
    fills = {
        row["trdMatchID"]: row["lastQty"] for frame in heard(connection, "execution") for row in frame["data"]
    }
    prints = {row["trdMatchID"]: row["size"] for frame in heard(public, "trade") for row in frame["data"]}
    assert sorted(fills.values()) == [300, 500]
    assert {name: prints.get(name) for name in fills} == fills


def test_an_order_comes_as_one_row_with_its_final_state_then_as_sparse_updates(bitmex):
    connection = bitmex.listen("order")
    bitmex.place(orderQty=100, clOrdID="taken")
    (frame,) = heard(connection, "order")
    assert (frame["action"], [row["ordStatus"] for row in frame["data"]]) == ("insert", ["Filled"])
    resting = bitmex.place(orderQty=100, price=80_000, clOrdID="rests")
    assert heard(connection, "order")[0]["data"][0]["ordStatus"] == "New"
    bitmex.run(10)
    bitmex.ask("DELETE", "/order", {"clOrdID": "rests"})
    (frame,) = heard(connection, "order")
    (row,) = frame["data"]
    assert (frame["action"], row["orderID"], row["text"]) == (
        *("update", resting["orderID"]),
        "Canceled\nCanceled via API.",
    )
    assert row.keys() == {
        *("orderID", "clOrdID", "account", "symbol", "ordStatus", "workingIndicator", "leavesQty", "text"),
        *("transactTime", "timestamp"),
    }


def test_a_partial_of_orders_holds_open_ones_alone(bitmex):
    bitmex.place(orderQty=100, price=80_000, clOrdID="open")
    bitmex.place(orderQty=100, clOrdID="filled")
    bitmex.place(symbol="XBTUSDT", orderQty=100, price=80_000, clOrdID="other")
    connection = bitmex.venue.connect("/realtime", "", 0, bitmex.signed("GET", "/realtime"))
    connection.receive_text('{"op": "subscribe", "args": ["order", "order:XBTUSDT"]}', 0)
    whole, one = heard(connection, "order")
    assert [row["clOrdID"] for row in whole["data"]] == ["open", "other"]
    assert [row["clOrdID"] for row in one["data"]] == ["other"]
    assert one["filter"] == {"account": 100_001, "symbol": "XBTUSDT"}
    bitmex.place(orderQty=100, price=80_000)
    assert len(heard(connection, "order")) == 1  # of one symbol, told once
    bitmex.place(symbol="XBTUSDT", orderQty=100, price=80_000)
    assert len(heard(connection, "order")) == 1


def test_an_open_order_alone_makes_a_position_row_open_as_recorded(bitmex):
    """Section 3.5: update of January 2025, with the same columns."""
    bitmex.place(orderQty=100)
    bitmex.place(execInst="Close")
    connection = bitmex.listen("position")
    bitmex.place(orderQty=100, price=80_000)
    (frame,) = heard(connection, "position")
    real = recorded("ws_position_update_open_order_2025-01-09.json")["data"][0]
    (row,) = frame["data"]
    assert row.keys() | {"deleveragePercentile"} == real.keys() | {"strategy"}
    assert (row["isOpen"], row["currentQty"], row["openOrderBuyCost"], row["liquidationPrice"]) == (
        *(True, 0),
        *(-125_000, None),
    )
    assert row["initMargin"] == 1_375  # 125000 * 0.011


def test_a_closed_position_stays_with_zeros_and_nulls_what_is_gone(bitmex):
    connection = bitmex.listen("position")
    bitmex.place(orderQty=400)
    opened = heard(connection, "position")[0]["data"][0]
    bitmex.place(execInst="Close")
    (frame,) = heard(connection, "position")
    (row,) = frame["data"]
    assert (row["currentQty"], row["isOpen"], row["markPrice"], row["avgEntryPrice"]) == (
        0,
        False,
        None,
        None,
    )
    trades = bitmex.ask("GET", "/execution/tradeHistory")[1]
    net = -sum(row["execCost"] + row["execComm"] for row in trades)
    assert row["prevRealisedPnl"] == net
    assert (opened["realisedPnl"], opened["currentComm"]) == (-trades[0]["execComm"], trades[0]["execComm"])


def test_marks_are_told_again_every_ten_seconds(bitmex):
    bitmex.place(orderQty=400)
    connection = bitmex.listen("position", "margin")
    bitmex.run(10_500)
    rows = [row for frame in heard(connection, "position") for row in frame["data"]]
    assert 1 <= len(rows) <= 2
    assert {"currentQty", "markPrice", "liquidationPrice", "unrealisedPnl"} <= rows[0].keys()


def test_what_rest_works_out_anew_is_told_too(bitmex):
    """A mirror of the feed stays what REST says, whoever asks for the margin in between."""
    bitmex.place(orderQty=10_000)
    connection = bitmex.listen("position", "margin")
    mirror = {table: {} for table in ("position", "margin")}
    for table, rows in (("position", "/position"), ("margin", "/user/margin?currency=all")):
        path, _, query = rows.partition("?")
        for row in bitmex.ask("GET", path, query=query)[1]:
            mirror[table][row.get("symbol"), row["currency"]] = row
    bitmex.run(500)
    for _ in range(3):
        bitmex.run(200)
        margins = bitmex.ask("GET", "/user/margin", query="currency=all")[1]
        for frame in (json.loads(text) for text in connection.texts_to_send()):
            for row in frame["data"]:
                mirror[frame["table"]][row.get("symbol"), row["currency"]].update(row)
        for row in margins:
            assert mirror["margin"][None, row["currency"]] == row
        for row in bitmex.ask("GET", "/position")[1]:
            assert mirror["position"][row["symbol"], row["currency"]] == row


def test_executions_come_in_their_order_across_contracts(bitmex):
    for symbol, price in (("XBTUSD", 80_000), ("ETHUSD", 2_000), ("XBTUSD", 80_100)):
        bitmex.place(symbol=symbol, orderQty=100, price=price)
    connection = bitmex.listen("execution")
    bitmex.ask("DELETE", "/order/all", {})
    frames = heard(connection, "execution")
    assert [{row["symbol"] for row in frame["data"]} for frame in frames] == [
        {"XBTUSD"},
        {"ETHUSD"},
        {"XBTUSD"},
    ]
    ids = [row["execID"] for frame in frames for row in frame["data"]]
    assert ids == sorted(ids)


def test_tables_are_shuffled_where_the_fault_says_so(bitmex):
    bitmex.venue.faults.inject("shuffle", {}, bitmex.real_ns)
    connection = bitmex.listen("execution", "order", "position", "margin")
    orders = set()
    for _ in range(20):
        bitmex.place(orderQty=100)
        orders.add(tuple(json.loads(text)["table"] for text in connection.texts_to_send()))
    assert len(orders) > 1
    assert {tuple(sorted(order)) for order in orders} == {("execution", "margin", "order", "position")}


@given(
    before=st.dictionaries(st.sampled_from(sorted(PRIVATE_TYPES["position"])), st.integers() | st.none()),
    after=st.dictionaries(st.sampled_from(sorted(PRIVATE_TYPES["position"])), st.integers() | st.none()),
)
def test_a_client_that_merges_updates_has_the_row(before, after):
    """Missing is unchanged, null is cleared."""
    merged = dict(before)
    merged.update(sparse("position", before, after) or {})

    def known(row):
        return {name: value for name, value in row.items() if value is not None and name != "timestamp"}

    assert known(merged) == known(after)


# Money of whole conversations


def identities(bitmex, account=100_001):
    margins = {
        row["currency"]: row
        for row in bitmex.ask("GET", "/user/margin", query="currency=all", account=account)[1]
    }
    positions = bitmex.ask("GET", "/position", account=account)[1]
    for row in positions:
        assert row["unrealisedPnl"] == row["markValue"] - row["unrealisedCost"]
        assert row["realisedPnl"] == -row["realisedCost"] - row["currentComm"]
        assert row["currentCost"] == row["realisedCost"] + row["unrealisedCost"]
    for coin, row in margins.items():
        mine = [position for position in positions if position["currency"] == coin]
        assert row["walletBalance"] == row["amount"] + row["realisedPnl"]
        assert row["marginBalance"] == row["walletBalance"] + row["unrealisedPnl"]
        assert row["excessMargin"] == row["marginBalance"] - row["initMargin"] - row["maintMargin"]
        assert row["unrealisedPnl"] == sum(position["unrealisedPnl"] for position in mine)
        assert row["initMargin"] == sum(position["initMargin"] for position in mine)
        balance = bitmex.venue.exchange.balance(str(account), coin)
        assert row["walletBalance"] == balance.cash
        assert row["initMargin"] == balance.order_margin
        assert row["availableMargin"] == balance.available
    return margins


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["XBTUSD", "XBTUSDT"]),
        st.sampled_from(["market", "limit", "close", "cancel", "wait"]),
        st.integers(1, 40),
        st.booleans(),
    ),
    max_size=12,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=ACTIONS)
def test_every_satoshi_is_accounted_for_after_any_conversation(bitmex_at, actions):
    """What executions add up to is what the wallet says; a mirror of the feed is what REST says."""
    bench = bitmex_at(2026, 7, 1, 16)
    bench.run(100)
    connection = bench.listen("execution", "order", "position", "margin")
    frames = []
    for symbol, what, lots, buys in actions:
        bid, ask = bench.best(symbol)
        side = "Buy" if buys else "Sell"
        body = {"symbol": symbol, "side": side, "orderQty": lots * 100}
        if what == "limit":
            body["price"] = bid if buys else ask
        if what == "close":
            body = {"symbol": symbol, "execInst": "Close"}
        if what == "cancel":
            bench.ask("DELETE", "/order/all")
        elif what == "wait":
            bench.run(300)
        else:
            assert bench.ask("POST", "/order", body)[0] in (200, 400)
        frames += [json.loads(text) for text in connection.texts_to_send()]
    margins = identities(bench)
    frames += [json.loads(text) for text in connection.texts_to_send()]
    executions = [row for frame in frames if frame["table"] == "execution" for row in frame["data"]]
    assert len({row["execID"] for row in executions}) == len(executions)
    for coin in ("XBt", "USDt"):
        trades = [row for row in executions if row["settlCurrency"] == coin and "lastQty" in row]
        paid = sum(row["realisedPnl"] - row["execComm"] for row in trades)
        assert margins[coin]["walletBalance"] - margins[coin]["amount"] == paid
    mirror = {}
    for frame in frames:
        if frame["table"] == "order":
            for row in frame["data"]:
                known = mirror.setdefault(row["orderID"], {})
                assert (not known) == (frame["action"] == "insert")
                known.update(row)
    rest = {row["orderID"]: row for row in bench.ask("GET", "/order")[1]}
    assert {key: {**row, "timestamp": 0} for key, row in mirror.items()} == {
        key: {**row, "timestamp": 0} for key, row in rest.items()
    }


def test_funding_moves_the_wallet_and_no_position(bitmex_at):
    """Section 6.6: value at the mark times the rate that was shown, longs pay where it is positive."""
    bench = bitmex_at(2026, 7, 1, 19, 59, 58)
    bench.run(100)
    bench.place(orderQty=10_000)
    bench.place(orderQty=-10_000, account=100_002)
    rate = bench.ask("GET", "/instrument", query="symbol=XBTUSD")[1][0]["fundingRate"]
    connection = bench.listen("execution", "margin")
    before = bench.ask("GET", "/user/margin")[1]["walletBalance"]
    bench.run(3000)
    (row,) = [row for frame in heard(connection, "execution") for row in frame["data"]]
    assert (row["execType"], row["lastQty"], row["commission"]) == ("Funding", 10_000, rate)
    assert row["execComm"] == int(100 * round(1e10 / row["lastPx"]) * rate)
    assert row["timestamp"] == "2026-07-01T20:00:00.000Z"
    assert bench.ask("GET", "/user/margin")[1]["walletBalance"] == before - row["execComm"]
    position = bench.ask("GET", "/position")[1][0]
    assert (position["currentQty"], position["currentComm"] > row["execComm"]) == (10_000, True)
    others = bench.ask("GET", "/execution", query="reverse=true&count=1", account=100_002)[1][0]
    assert abs(others["execComm"] + row["execComm"]) <= 1
    identities(bench)


def test_a_future_settles_at_expiry_and_takes_its_orders_with_it(bitmex_at):
    bench = bitmex_at(2026, 9, 25, 11, 59, 58)
    bench.run(100)
    bench.place(symbol="XBTU26", orderQty=1_000)
    bench.place(symbol="XBTU26", orderQty=100, price=70_000, clOrdID="rests")
    connection = bench.listen("execution", "order", "position")
    settlement = bench.venue.connect("/realtime", "subscribe=settlement", 0)
    settlement.texts_to_send()
    bench.run(3000)
    frames = [json.loads(text) for text in connection.texts_to_send()]
    (row,) = [
        row
        for frame in frames
        if frame["table"] == "execution"
        for row in frame["data"]
        if row["execType"] == "Settlement"
    ]
    (settled,) = heard(settlement, "settlement")
    assert (row["lastPx"], row["side"], row["lastQty"]) == (settled["data"][0]["settledPrice"], "Sell", 1_000)
    assert [row["ordStatus"] for frame in frames if frame["table"] == "order" for row in frame["data"]] == [
        "Canceled"
    ]
    (position,) = bench.ask("GET", "/position")[1]
    assert (position["currentQty"], position["isOpen"]) == (0, False)
    assert bench.refused("POST", "/order", {"symbol": "XBTU26", "orderQty": 100}) == "Instrument expired"
    assert bench.place(symbol="XBTZ26", orderQty=100)["ordStatus"] == "Filled"
    identities(bench)


def test_a_contract_settled_by_force_is_settled_for_the_public_too(bitmex):
    """Section 6.7, as at the end of the venue: the state, the settlement, and no prices any more."""
    bitmex.place(orderQty=1_000)
    connection = bitmex.listen("execution")
    topics = "instrument:XBTUSD,settlement,trade:XBTUSD,quote:XBTUSD"
    public = bitmex.venue.connect("/realtime", f"subscribe={topics}", 0)
    public.texts_to_send()
    inject(bitmex.venue, "settle", {"inst_id": "XBTUSD"}, bitmex.real_ns)
    bitmex.run(1_000)
    (executed,) = [row for frame in heard(connection, "execution") for row in frame["data"]]
    frames = [json.loads(text) for text in public.texts_to_send()]
    told = {frame["table"]: frame["data"][0] for frame in frames}
    assert executed["execType"] == "Settlement"
    assert told["settlement"]["settledPrice"] == told["trade"]["price"] == executed["lastPx"]
    assert (told["trade"]["trdType"], told["instrument"]["state"]) == ("Settlement", "Settled")
    assert "quote" not in told
    assert bitmex.ask("GET", "/settlement")[1] == [told["settlement"]]
    assert bitmex.refused("POST", "/order", {"symbol": "XBTUSD", "orderQty": 100}) == "Market is not open"


def test_an_instrument_says_when_it_takes_no_orders(bitmex):
    public = bitmex.venue.connect("/realtime", "subscribe=instrument:XBTUSD", 0)
    for mode, state in (("closed", "Closed"), ("open", "Open")):
        public.texts_to_send()
        inject(bitmex.venue, "trading", {"mode": mode}, bitmex.real_ns)
        bitmex.run(20)
        rows = [row for text in public.texts_to_send() for row in json.loads(text)["data"]]
        assert [row["state"] for row in rows if "state" in row] == [state]


def test_realised_pnl_moves_into_the_wallet_at_noon(bitmex_at):
    bench = bitmex_at(2026, 7, 1, 11, 59, 58)
    bench.run(100)
    bench.place(orderQty=1_000)
    bench.place(execInst="Close")
    connection = bench.listen("wallet", "transact")
    before = bench.ask("GET", "/user/margin")[1]
    bench.run(3000)
    after = bench.ask("GET", "/user/margin")[1]
    assert before["realisedPnl"] < 0 == after["realisedPnl"]
    assert after["amount"] == before["walletBalance"] == after["walletBalance"]
    assert after["prevRealisedPnl"] == before["realisedPnl"]
    frames = [json.loads(text) for text in connection.texts_to_send()]
    assert {frame["table"] for frame in frames} == {"wallet", "transact"}
    history = bench.ask("GET", "/user/walletHistory")[1]
    assert [(row["transactType"], row["amount"]) for row in history] == [
        ("RealisedPNL", before["realisedPnl"]),
        ("Deposit", 1_000_000_000),
    ]
    identities(bench)


def test_a_called_account_is_liquidated(bitmex):
    bitmex.place(orderQty=10_000)
    bitmex.place(orderQty=100, price=70_000)
    connection = bitmex.listen("execution", "position", "order")
    public = bitmex.venue.connect("/realtime", "subscribe=liquidation:XBTUSD", 0)
    public.texts_to_send()
    bitmex.venue.exchange.call_margin("100001")
    bitmex.run(10)
    rows = [row for frame in heard(connection, "execution") for row in frame["data"]]
    assert "Liquidation" in {row["execType"] for row in rows}
    inserted, deleted = heard(public, "liquidation")
    assert (inserted["action"], deleted["action"]) == ("insert", "delete")
    assert inserted["data"][0].keys() == {"orderID", "symbol", "side", "price", "leavesQty"}
    assert (inserted["data"][0]["side"], inserted["data"][0]["leavesQty"]) == ("Sell", 10_000)
    assert deleted["data"] == [{name: inserted["data"][0][name] for name in ("orderID", "symbol")}]
    assert bitmex.ask("GET", "/position")[1][0]["currentQty"] == 0
    assert {row["ordStatus"] for row in bitmex.ask("GET", "/order")[1]} <= {"Filled", "Canceled"}


# The account's other pages


def test_leverage_is_a_row_and_zero_is_cross(bitmex):
    status, row = bitmex.ask("POST", "/position/leverage", {"symbol": "XBTUSD", "leverage": 5})
    assert (status, row["leverage"], row["crossMargin"], row["initMarginReq"]) == (200, 5.0, False, 0.2)
    bitmex.place(orderQty=100, price=80_000)
    assert bitmex.ask("GET", "/position")[1][0]["initMargin"] == 25_125  # 125000 * (0.2 + 0.001)
    identities(bitmex)
    _status, row = bitmex.ask("POST", "/position/leverage", {"symbol": "XBTUSD", "leverage": 0})
    assert (row["leverage"], row["crossMargin"]) == (100.0, True)
    for leverage in (101, -1, 0.001, "much"):
        asked = {"symbol": "XBTUSD", "leverage": leverage}
        assert bitmex.refused("POST", "/position/leverage", asked) == "Invalid leverage"


def test_a_leverage_isolates_the_position_with_margin_of_its_own(bitmex):
    """Its liquidation is a tenth away at 10x, not where the whole account is gone; it can be fed."""
    asked = {"symbol": "XBTUSD", "leverage": 10}
    bitmex.ask("POST", "/position/leverage", asked)
    bitmex.place(orderQty=10_000)
    (row,) = bitmex.ask("GET", "/position")[1]
    cost = -row["posCost"]
    assert (row["crossMargin"], row["posMargin"], row["posCross"]) == (
        False,
        pytest.approx(cost / 10, abs=5),
        0,
    )
    # Long inverse: equity cost * (1/10 + 1) - value meets 0.5 % of the value at value = 1.1/1.005 cost.
    assert row["liquidationPrice"] == pytest.approx(row["avgEntryPrice"] * 1.005 / 1.1, abs=1)
    margin = identities(bitmex)["XBt"]
    assert margin["availableMargin"] == margin["walletBalance"] - row["posMargin"]
    fed = bitmex.ask("POST", "/position/transferMargin", {"symbol": "XBTUSD", "amount": 500_000})[1]
    assert fed["posMargin"] == row["posMargin"] + 500_000
    assert fed["liquidationPrice"] < row["liquidationPrice"]
    too_much = {"symbol": "XBTUSD", "amount": -600_000}
    assert "insufficient" in bitmex.refused("POST", "/position/transferMargin", too_much)
    identities(bitmex)
    assert bitmex.place(execInst="Close")["ordStatus"] == "Filled"
    identities(bitmex)


def test_an_isolated_position_loses_no_more_than_its_margin_and_executions_say_so(bitmex):
    """A liquidation that costs more than was set aside: the house pays the rest, and an execution tells."""
    bitmex.ask("POST", "/position/leverage", {"symbol": "XBTUSD", "leverage": 100})
    connection = bitmex.listen("execution")
    bitmex.place(orderQty=1_000_000)
    (position,) = bitmex.venue.exchange._clearing.accounts["100001"].positions.values()
    position.margin = before = 100_000  # the book is too deep for a loss of the whole margin
    bitmex.venue.exchange.call_margin("100001")
    bitmex.run(10)
    rows = [row for frame in heard(connection, "execution") for row in frame["data"]]
    paid = sum(row.get("realisedPnl", 0) - row.get("execComm", 0) for row in rows)
    margin = identities(bitmex)["XBt"]
    assert margin["walletBalance"] == 1_000_000_000 + paid
    closed = [row for row in rows if row["execType"] in ("Liquidation", "Bankruptcy")]
    assert sum(row.get("realisedPnl", 0) - row["execComm"] for row in closed) == -before
    history = bitmex.ask("GET", "/execution/tradeHistory", query="reverse=true&count=1")[1]
    assert (history[0]["execType"], history[0]["execComm"] < 0) == ("Bankruptcy", True)


def test_a_delivery_that_costs_more_than_the_margin_is_made_good_and_executions_say_so(bitmex):
    bitmex.ask("POST", "/position/leverage", {"symbol": "XBTU26", "leverage": 100})
    bitmex.place(symbol="XBTU26", orderQty=10_000)
    (position,) = bitmex.venue.exchange._clearing.accounts["100001"].positions.values()
    margin = position.margin
    bitmex.venue.exchange.deliver("XBTU26", Decimal(60_000))
    bitmex.run(10)
    paid, settled = bitmex.ask("GET", "/execution/tradeHistory", query="reverse=true&count=2")[1]
    assert [(row["symbol"], row["execType"]) for row in (settled, paid)] == [
        ("XBTU26", "Settlement"),
        ("XBTU26", "Bankruptcy"),
    ]
    assert sum(row.get("realisedPnl", 0) - row["execComm"] for row in (settled, paid)) == -margin
    identities(bitmex)


def test_a_loss_is_not_left_to_the_house_by_less_margin(bitmex):
    """A long that has lost a tenth cannot go on with a hundredth of margin, nor take out what it has."""
    bitmex.place(orderQty=100_000)
    bitmex.flow.coins["BTC"].price *= 0.9
    asked = {"symbol": "XBTUSD", "leverage": 100}
    assert "insufficient" in bitmex.refused("POST", "/position/leverage", asked)
    assert bitmex.ask("GET", "/position")[1][0]["crossMargin"] is True
    row = bitmex.ask("POST", "/position/leverage", asked | {"leverage": 5})[1]
    assert row["posMargin"] + row["unrealisedPnl"] > row["posMaint"]
    taken = {"symbol": "XBTUSD", "amount": -100}
    assert "insufficient" in bitmex.refused("POST", "/position/transferMargin", taken)
    assert bitmex.ask("POST", "/position/transferMargin", taken | {"amount": 100})[0] == 200
    bitmex.run(300)
    kinds = {row["execType"] for row in bitmex.ask("GET", "/execution")[1]}
    assert not kinds & {"Liquidation", "Bankruptcy"}
    identities(bitmex)


def test_a_position_changes_between_cross_and_isolated_with_its_orders(bitmex):
    bitmex.place(orderQty=10_000)
    bitmex.place(orderQty=1_000, price=80_000)
    for leverage, is_cross in ((20, False), (3, False), (0, True), (50, False)):
        asked = {"symbol": "XBTUSD", "leverage": leverage}
        row = bitmex.ask("POST", "/position/leverage", asked)[1]
        assert (row["currentQty"], row["openOrderBuyQty"], row["crossMargin"]) == (10_000, 1_000, is_cross)
        identities(bitmex)
    row = bitmex.ask("POST", "/position/isolate", {"symbol": "XBTUSD", "enabled": False})[1]
    assert (row["crossMargin"], row["leverage"]) == (True, 100.0)
    bitmex.place(side="Sell", orderQty=4_000, execInst="ReduceOnly")
    bitmex.ask("DELETE", "/order/all", {})
    bitmex.place(execInst="Close")
    assert identities(bitmex)["XBt"]["maintMargin"] == 0


def test_leverage_that_the_account_cannot_carry_changes_nothing(bitmex):
    for _ in range(4):
        bitmex.place(orderQty=10_000_000 // 4 // 100 * 100)
        bitmex.run(500)
    before = bitmex.ask("GET", "/position")[1][0]
    asked = {"symbol": "XBTUSD", "leverage": 1}
    assert "insufficient" in bitmex.refused("POST", "/position/leverage", asked)
    after = bitmex.ask("GET", "/position")[1][0]
    assert [after[name] for name in ("leverage", "crossMargin", "posMargin")] == [
        before[name] for name in ("leverage", "crossMargin", "posMargin")
    ]
    identities(bitmex)


def test_isolation_and_risk_limit_are_noted(bitmex):
    assert (
        bitmex.ask("POST", "/position/isolate", {"symbol": "XBTUSD", "enabled": True})[1]["crossMargin"]
        is False
    )
    assert (
        bitmex.ask("POST", "/position/isolate", {"symbol": "XBTUSD", "enabled": False})[1]["crossMargin"]
        is True
    )
    limit = 35_000_000_000
    row = bitmex.ask("POST", "/position/riskLimit", {"symbol": "XBTUSD", "riskLimit": limit})[1]
    assert row["riskLimit"] == limit
    asked = {"symbol": "XBTUSD", "amount": 100}
    assert "no isolated margin" in bitmex.refused("POST", "/position/transferMargin", asked)


def test_fees_wallet_user_and_keys_have_their_recorded_columns(bitmex):
    rates = bitmex.ask("GET", "/user/commission")[1]
    real = recorded("rest_GET_user_commission_2025.json")["response"]["body"]["1000000MOGUSDT"]
    assert rates["XBTUSD"] == real
    wallet = bitmex.ask("GET", "/user/wallet", query="currency=USDt")[1]
    assert (wallet["amount"], wallet["currency"], wallet["deposited"]) == (100_000_000_000, "USDt", 10**11)
    history = recorded("rest_GET_user_walletHistory_2024-12.json")["response"]["body"][0]
    ours = bitmex.ask("GET", "/user/walletHistory", query="currency=all")[1]
    assert len(ours) == 2
    assert ours[0].keys() == history.keys() | {"fee"}
    assert bitmex.ask("GET", "/user")[1]["id"] == 100_001
    (key,) = bitmex.ask("GET", "/apiKey")[1]
    assert (key["id"], "secret" in json.dumps(key)) == ("key-one", False)
    assert bitmex.ask("GET", "/user/quoteFillRatio")[1][0]["account"] == 100_001
    assert bitmex.ask("GET", "/user/margin", query="currency=DOGe")[0] == 400
