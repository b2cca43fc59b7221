"""The simulated BitMEX: conversations, tables, faults, and its books against the flow's true ones."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dquant.constants import NS_PER_MS, NS_PER_S
from dquant.simulator.bitmex_connection import ERROR_LIMIT, OUTGOING_LIMIT
from dquant.simulator.bitmex_server import CONNECTS_PER_HOUR, BitmexServer
from dquant.simulator.flow import Flow
from dquant.simulator.flow_book import ASK, BID
from dquant.simulator.venue import Refusal

START_NS = 1_782_921_600_000_000_000  # 2026-07-01T16:00:00Z
FIXTURES = Path(__file__).resolve().parents[3] / "shared" / "fixtures" / "bitmex"
EXPIRY_NS = 1_790_337_600_000_000_000  # 2026-09-25T12:00:00Z, of XBTU26
STEP_NS = 10 * NS_PER_MS


class Bench:
    """A venue, its flow and its clock, moved on by hand."""

    def __init__(self, seed=7, start_ns=START_NS):
        self.flow = Flow(seed, start_ns)
        self.venue = BitmexServer(self.flow)
        self.now_ns, self.real_ns = start_ns, 0

    def connect(self, query=""):
        return self.venue.connect("/realtime", query, self.real_ns)

    def run(self, milliseconds, step_ns=STEP_NS):
        end = self.now_ns + milliseconds * NS_PER_MS
        while self.now_ns < end:
            self.now_ns = min(self.now_ns + step_ns, end)
            self.real_ns += step_ns
            self.flow.advance(self.now_ns)
            self.venue.publish(self.now_ns, self.real_ns)

    def leap_to(self, now_ns):
        self.now_ns = now_ns
        self.flow.advance(now_ns)
        self.venue.publish(now_ns, self.real_ns)

    def inject(self, name, **params):
        self.venue.faults.inject(name, params, self.real_ns)

    def ask(self, connection, op, args):
        connection.receive_text(json.dumps({"op": op, "args": args}), self.real_ns)
        return frames_of(connection)

    def true_book(self, symbol):
        market = self.venue.markets[symbol]
        lot = market.contract.lot
        return {
            (side, market.market.tick.number(tick)): lots * lot
            for side in (BID, ASK)
            for tick, (lots, _orders) in market.market.book.top(side).items()
        }


class Mirror:
    """A client's book by the rules of the fact sheet, section 3.1, as plain as can be."""

    def __init__(self, table="orderBookL2"):
        self.table, self.rows, self.partials = table, {}, 0
        self.unknown = self.doubled = self.crossings = self.early = 0

    def take(self, frames):
        for frame in frames:
            if frame.get("table") == self.table:
                self.take_one(frame)
        return self

    def take_one(self, frame):
        rows = {(row["symbol"], row["id"], row["side"]): row for row in frame["data"]}
        action = frame["action"]
        if action == "partial":
            symbol = frame["filter"].get("symbol")
            self.rows = {key: row for key, row in self.rows.items() if symbol not in (None, key[0])} | rows
            self.partials += 1
            return
        self.early += not self.partials
        for key, row in rows.items():
            if action == "delete":
                self.unknown += self.rows.pop(key, None) is None
            elif action == "insert":
                self.doubled += key in self.rows
                self.rows[key] = row
            elif key in self.rows:
                self.rows[key] = {**self.rows[key], **row}
            else:
                self.unknown += 1
        for symbol in {row["symbol"] for row in frame["data"]}:
            book = self.book(symbol)
            bids = [price for side, price in book if side == BID]
            asks = [price for side, price in book if side == ASK]
            self.crossings += bool(bids and asks and max(bids) >= min(asks))

    def book(self, symbol):
        sides = {"Buy": BID, "Sell": ASK}
        return {
            (sides[row["side"]], row["price"]): row["size"]
            for row in self.rows.values()
            if row["symbol"] == symbol
        }


def frames_of(connection):
    return [json.loads(text) for text in connection.texts_to_send()]


def of(frames, table, action=None):
    return [f for f in frames if f.get("table") == table and action in (None, f["action"])]


@pytest.fixture
def bench():
    return Bench()


# The conversation


def test_the_welcome_comes_first_and_counts_connections_down(bench):
    first, second = frames_of(bench.connect())[0], frames_of(bench.connect())[0]
    assert first["info"] == "Welcome to the BitMEX Realtime API."
    assert first["limit"] == {"remaining": CONNECTS_PER_HOUR - 1}
    assert second["limit"] == {"remaining": CONNECTS_PER_HOUR - 2}


def test_connections_that_are_used_up_are_refused_until_an_hour_has_passed(bench):
    for _ in range(CONNECTS_PER_HOUR):
        bench.venue.disconnected(bench.connect())
    bench.real_ns += 1000 * NS_PER_S
    refusal = bench.connect()
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.headers) == (429, {"Retry-After": "2600"})
    assert json.loads(refusal.body)["error"]["message"] == "Rate limit exceeded, retry in 2600 seconds."
    bench.real_ns += 2600 * NS_PER_S
    assert not isinstance(bench.connect(), Refusal)


def test_topics_of_the_query_string_are_subscribed_at_once(bench):
    frames = frames_of(bench.connect("subscribe=instrument,orderBookL2_25:XBTUSD"))
    acks = [frame for frame in frames if "success" in frame]
    assert acks == [
        {"success": True, "subscribe": "instrument", "request": {"op": "subscribe", "args": "instrument"}},
        {
            "success": True,
            "subscribe": "orderBookL2_25:XBTUSD",
            "request": {"op": "subscribe", "args": "orderBookL2_25:XBTUSD"},
            "pool": "Primary",
        },
    ]
    assert [frame["table"] for frame in frames if "table" in frame] == ["instrument", "orderBookL2_25"]


def test_a_scalar_argument_keeps_its_form_in_the_echo(bench):
    connection = bench.connect()
    bench.ask(connection, "subscribe", "quote:XBTUSD")
    ack = bench.ask(connection, "unsubscribe", "quote:XBTUSD")[0]
    assert ack == {
        "success": True,
        "unsubscribe": "quote:XBTUSD",
        "request": {"op": "unsubscribe", "args": "quote:XBTUSD"},
    }


def test_each_topic_of_a_list_gets_an_ack_with_the_whole_request(bench):
    topics = ["quote:XBTUSD", "trade:XBTUSD"]
    acks = [f for f in bench.ask(bench.connect(), "subscribe", topics) if f.get("success")]
    assert [ack["subscribe"] for ack in acks] == topics
    assert all(ack["request"] == {"op": "subscribe", "args": topics} for ack in acks)


@pytest.mark.parametrize(
    ("op", "args", "status", "words"),
    [
        ("subscribe", "nonsense", 400, "Unknown table: nonsense"),
        ("subscribe", ["quote:NOPE"], 400, "Unknown or expired symbol."),
        ("subscribe", ["connected:XBTUSD"], 400, "Unknown or expired symbol."),
        ("subscribe", ["position"], 401, "User requested an account-locked subscription"),
        ("unsubscribe", ["orderBookL2:XBTUSD"], 400, "Not subscribed to orderBookL2:XBTUSD."),
        ("authKeyExpires", ["key", 1700000000, "00"], 401, "Invalid API Key."),
        ("cancelAllAfter", 60000, 401, "Not authenticated."),
        ("fly", [], 400, "Unknown op: fly"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_request_echoed(bench, op, args, status, words):
    connection = bench.connect()
    frames_of(connection)
    (frame,) = bench.ask(connection, op, args)
    assert frame["status"] == status
    assert frame["error"].startswith(words)
    assert frame["request"] == {"op": op, "args": args}
    assert isinstance(frame["meta"], dict)


def test_a_second_subscription_is_an_error_and_changes_nothing(bench):
    connection = bench.connect("subscribe=trade")
    frames_of(connection)
    (frame,) = bench.ask(connection, "subscribe", "trade")
    assert frame["error"] == "You are already subscribed to this topic: trade"
    assert connection.subscriptions() == ["trade"]


def test_raw_ping_is_answered_with_raw_pong_and_help_with_help(bench):
    connection = bench.connect()
    connection.texts_to_send()
    connection.receive_text("ping", 0)
    connection.receive_text("help", 0)
    pong, help_text = connection.texts_to_send()
    assert pong == "pong"
    assert "orderBookL2" in json.loads(help_text)["subscriptionSubjects"]["public"]


def test_keys_in_the_address_are_refused_before_the_upgrade(bench):
    refusal = bench.connect("api-key=a&api-expires=1&api-signature=b")
    assert isinstance(refusal, Refusal)
    assert refusal.status == 401


def test_too_many_errors_end_the_connection(bench):
    connection = bench.connect()
    for _ in range(ERROR_LIMIT):
        connection.receive_text("{", 0)
    assert connection.close_code == 1008
    assert len(connection.texts_to_send()) == ERROR_LIMIT + 1


def test_a_request_that_ends_the_connection_is_not_read_to_its_end(bench):
    """Each of thousands of errors would repeat the thousands: the venue stood still for seconds."""
    connection = bench.connect()
    connection.receive_text(json.dumps({"op": "subscribe", "args": ["nothing"] * 3000}), bench.real_ns)
    assert (connection.close_code, connection.errors) == (1008, ERROR_LIMIT)


def test_a_client_that_never_reads_is_hung_up_on(bench):
    connection = bench.connect()
    for _ in range(OUTGOING_LIMIT + 1):
        connection.send("x")
    assert connection.close_code == 1008
    assert connection.texts_to_send() == []


def test_after_unsubscribing_or_leaving_nothing_more_comes(bench):
    connection = bench.connect("subscribe=orderBookL2:XBTUSD,orderBookL2_25:XBTUSD,trade")
    bench.ask(connection, "unsubscribe", ["orderBookL2:XBTUSD", "orderBookL2_25:XBTUSD"])
    bench.run(1000)
    assert {frame["table"] for frame in frames_of(connection)} == {"trade"}
    bench.venue.disconnected(connection)
    bench.run(1000)
    assert connection.texts_to_send() == []
    assert bench.venue.connections() == []
    assert bench.venue.markets["XBTUSD"].windows == {}


# Books


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    steps=st.lists(st.integers(1, 400) | st.just(15_000), min_size=1, max_size=12),
    late=st.integers(0, 11),
)
def test_partial_and_deltas_rebuild_the_true_book_at_any_pace(seed, steps, late):
    """Of each symbol, for all symbols at once, and for one who comes in the middle; leaps included."""
    bench = Bench(seed)
    everything, one = bench.connect("subscribe=orderBookL2"), None
    mirror, late_mirror = Mirror().take(frames_of(everything)), Mirror()
    for number, milliseconds in enumerate(steps):
        if number == late:
            one = bench.connect("subscribe=orderBookL2:ETHUSD")
        bench.run(milliseconds, milliseconds * NS_PER_MS)
        mirror.take(frames_of(everything))
        for symbol in bench.venue.markets:
            assert mirror.book(symbol) == bench.true_book(symbol)
        if one is not None:
            late_mirror.take(frames_of(one))
            assert late_mirror.book("ETHUSD") == bench.true_book("ETHUSD")
    for seen in (mirror, late_mirror):
        assert (seen.unknown, seen.doubled, seen.crossings, seen.early) == (0, 0, 0, 0)


def test_every_book_has_four_hundred_levels_a_side_in_the_order_of_the_recordings(bench):
    (partial,) = of(frames_of(bench.connect("subscribe=orderBookL2:XBTUSD")), "orderBookL2")
    rows = partial["data"]
    sells = [row["price"] for row in rows if row["side"] == "Sell"]
    buys = [row["price"] for row in rows if row["side"] == "Buy"]
    assert min(len(sells), len(buys)) >= 380
    assert [row["price"] for row in rows] == sorted(sells, reverse=True) + sorted(buys, reverse=True)
    assert all(row["size"] % 100 == 0 for row in rows)


def test_a_delta_has_rows_of_one_symbol_with_price_times_and_pool(bench):
    connection = bench.connect("subscribe=orderBookL2")
    frames_of(connection)
    bench.run(3000)
    deltas = of(frames_of(connection), "orderBookL2")
    assert {frame["action"] for frame in deltas} == {"insert", "update", "delete"}
    assert {row["symbol"] for frame in deltas for row in frame["data"]} == set(bench.venue.markets)
    common = ["symbol", "id", "side", "price", "pool", "timestamp", "transactTime"]
    for frame in deltas:
        assert len({row["symbol"] for row in frame["data"]}) == 1
        for row in frame["data"]:
            assert [key for key in row if key != "size"] == common
            assert ("size" in row) == (frame["action"] != "delete")


def test_the_id_of_a_level_lives_as_long_as_the_level_and_says_nothing_of_its_price(bench):
    connection = bench.connect("subscribe=orderBookL2:XBTUSD")
    frames = frames_of(connection)
    bench.run(20_000)
    frames += frames_of(connection)
    price_of, orders = {}, []
    for frame in of(frames, "orderBookL2"):
        for row in frame["data"]:
            assert price_of.setdefault((row["id"], row["side"]), row["price"]) == row["price"]
            if frame["action"] == "insert":
                orders.append((row["id"], row["price"]))
    assert [level_id for level_id, _ in orders] == sorted(level_id for level_id, _ in orders)
    assert [price for _, price in orders] != sorted(price for _, price in orders)


def test_books_are_not_conflated(bench):
    """However seldom the venue is asked, each change is told; the text does not depend on the pace."""
    seldom, often = Bench(3), Bench(3)
    texts = []
    for one, step_ns in ((seldom, 900 * NS_PER_MS), (often, 5 * NS_PER_MS)):
        connection = one.connect("subscribe=orderBookL2:XBTUSD,quote:XBTUSD,trade:XBTUSD")
        connection.texts_to_send()
        one.run(4500, step_ns)
        told = connection.texts_to_send()
        tables = ("orderBookL2", "quote", "trade")
        texts.append([[text for text in told if f'"table":"{table}"' in text] for table in tables])
    assert texts[0] == texts[1]
    assert len(texts[0][0]) > 100


def test_the_same_seed_repeats_everything_byte_for_byte():
    told = []
    for seed in (11, 11, 12):
        bench = Bench(seed)
        connection = bench.connect("subscribe=orderBookL2,orderBook10,quote,trade,instrument,funding")
        bench.run(6000)
        told.append(connection.texts_to_send())
    assert told[0] == told[1]
    assert told[0] != told[2]


@pytest.mark.parametrize(("table", "depth"), [("orderBookL2_25", 25), ("orderBookL2_100", 100)])
def test_a_window_holds_the_best_levels_and_lags_at_most_a_tenth_of_a_second(bench, table, depth):
    connection = bench.connect(f"subscribe={table}:XBTUSD")
    mirror = Mirror(table).take(frames_of(connection))
    market = bench.venue.markets["XBTUSD"].market
    for _ in range(30):
        bench.run(100)  # on the grid of the throttle
        mirror.take(frames_of(connection))
        best = {
            (side, market.tick.number(tick)): lots * 100
            for side in (BID, ASK)
            for tick, (lots, _orders) in market.book.top(side, depth).items()
        }
        assert mirror.book("XBTUSD") == best
    assert (mirror.unknown, mirror.doubled, mirror.crossings) == (0, 0, 0)


def test_quote_and_order_book_10_show_the_true_top(bench):
    connection = bench.connect("subscribe=quote:XBTUSD,orderBook10:XBTUSD")
    quote = ten = None
    for _ in range(30):
        bench.run(100)
        frames = frames_of(connection)
        quote = [row for frame in of(frames, "quote") for row in frame["data"]][-1:] or quote
        ten = [row for frame in of(frames, "orderBook10") for row in frame["data"]][-1:] or ten
        truth = bench.venue.truth()["XBTUSD"]
        assert (truth["bid"], truth["bid_amount"]) == (quote[0]["bidPrice"], quote[0]["bidSize"])
        assert (truth["ask"], truth["ask_amount"]) == (quote[0]["askPrice"], quote[0]["askSize"])
        assert ten[0]["bids"][0] == [truth["bid"], truth["bid_amount"]]
        assert ten[0]["asks"][0] == [truth["ask"], truth["ask_amount"]]
        assert len(ten[0]["bids"]) == len(ten[0]["asks"]) == 10


def test_a_late_partial_shows_the_book_of_now(bench):
    early = bench.connect("subscribe=orderBookL2_25:XBTUSD,orderBook10:XBTUSD")
    bench.ask(early, "unsubscribe", ["orderBookL2_25:XBTUSD", "orderBook10:XBTUSD"])
    bench.run(5030)
    frames = frames_of(bench.connect("subscribe=quote:XBTUSD,orderBook10:XBTUSD,orderBookL2_25:XBTUSD"))
    truth = bench.venue.truth()["XBTUSD"]
    assert of(frames, "quote")[0]["data"][0]["askPrice"] == truth["ask"]
    assert of(frames, "orderBook10")[0]["data"][0]["asks"][0][0] == truth["ask"]
    window = Mirror("orderBookL2_25").take(frames).book("XBTUSD")
    assert max(price for side, price in window if side == BID) == truth["bid"]


# Trades, instrument, funding, settlement


def test_trades_tell_direction_and_value(bench):
    connection = bench.connect("subscribe=trade:XBTUSD")
    bench.run(20_000)
    rows = [row for frame in of(frames_of(connection), "trade") for row in frame["data"]]
    assert len(rows) > 20
    for before, row in pairwise(rows):
        moved = row["price"] - before["price"]
        named = row["tickDirection"]
        assert named == ("PlusTick" if moved > 0 else "MinusTick") if moved else named.startswith("Zero")
        assert row["trdMatchID"] > before["trdMatchID"]
        assert row["grossValue"] == row["size"] * round(1e10 / row["price"]) // 100
        assert (row["foreignNotional"], row["trdType"]) == (row["size"], "Regular")


def test_index_and_mark_come_in_frames_of_their_own(bench):
    connection = bench.connect("subscribe=instrument:XBTUSD")
    frames_of(connection)
    bench.run(3000)
    rows = [row for frame in of(frames_of(connection), "instrument", "update") for row in frame["data"]]
    index = [row for row in rows if "indicativeSettlePrice" in row]
    mark = [row for row in rows if "markPrice" in row]
    assert len(index) == len(mark) == 3
    assert all(row.keys() == {"symbol", "indicativeSettlePrice", "timestamp"} for row in index)
    assert all(row.keys() == {"symbol", "fairPrice", "markPrice", "timestamp"} for row in mark)
    assert index[0]["timestamp"].endswith(".500Z")


def test_instrument_updates_merge_to_the_row_that_a_late_partial_has(bench):
    early = bench.connect("subscribe=instrument")
    bench.run(7000)
    merged = {}
    for frame in of(frames_of(early), "instrument"):
        for row in frame["data"]:
            merged.setdefault(row["symbol"], {}).update(row)
    (partial,) = of(frames_of(bench.connect("subscribe=instrument")), "instrument")
    assert partial["filter"] == {}
    assert merged == {row["symbol"]: row for row in partial["data"]}


def test_indices_print_pseudo_trades_of_no_size(bench):
    connection = bench.connect("subscribe=trade:.BXBT,instrument:.BXBT")
    frames_of(connection)
    bench.run(5000)
    frames = frames_of(connection)
    (trade,) = of(frames, "trade")
    assert (trade["data"][0]["size"], trade["data"][0]["trdType"]) == (0, "Referential")
    (update,) = of(frames, "instrument")
    assert update["data"][0]["lastPrice"] == trade["data"][0]["price"]
    (partial,) = of(frames_of(bench.connect("subscribe=trade:.BXBT")), "trade")
    assert partial["data"] == trade["data"]


def test_an_index_is_asked_for_by_its_trades_and_bars(bitmex):
    """``/trade?symbol=.BXBT&count=1&reverse=true`` is how many bots read it."""
    bitmex.run(65_000)
    newest = bitmex.ask("GET", "/trade", query="symbol=.BXBT&count=5&reverse=true")[1]
    assert [row["symbol"] for row in newest] == [".BXBT"] * 5
    assert newest[0]["price"] == bitmex.venue.indices.rows[".BXBT"]["lastPrice"]
    every = bitmex.ask("GET", "/trade", query="count=1000&reverse=true")[1]
    assert {row["symbol"] for row in every} >= {"XBTUSD", ".BXBT"}
    query = "symbol=.BXBT&binSize=1m&count=60&reverse=true"
    bars = bitmex.ask("GET", "/trade/bucketed", query=query)[1]
    assert (len(bars), {bar["volume"] for bar in bars}) == (60, {0})
    assert bars[0]["close"] in [row["price"] for row in every if row["symbol"] == ".BXBT"]
    assert bitmex.ask("GET", "/quote/bucketed", query=query)[1] == []


def test_funding_is_told_at_its_hour_and_the_next_rate_takes_over(bench):
    connection = bench.connect("subscribe=funding,instrument:XBTUSD")
    row = of(frames_of(connection), "instrument")[0]["data"][0]
    assert row["fundingTimestamp"] == "2026-07-01T20:00:00.000Z"
    bench.leap_to(START_NS + 4 * 3600 * NS_PER_S - NS_PER_S)
    assert of(frames_of(connection), "funding") == []
    bench.run(1000)
    frames = frames_of(connection)
    events = [event for frame in of(frames, "funding", "insert") for event in frame["data"]]
    assert {event["symbol"] for event in events} == {"XBTUSD", "ETHUSD", "XBTUSDT"}
    (mine,) = [event for event in events if event["symbol"] == "XBTUSD"]
    assert mine == {
        "timestamp": "2026-07-01T20:00:00.000Z",
        "symbol": "XBTUSD",
        "fundingInterval": "2000-01-01T08:00:00.000Z",
        "fundingRate": row["fundingRate"],
        "fundingRateDaily": row["fundingRate"] * 3,
    }
    moved = [r for f in of(frames, "instrument") for r in f["data"] if "fundingTimestamp" in r]
    assert moved[0]["fundingTimestamp"] == "2026-07-02T04:00:00.000Z"
    assert [note["event"] for note in bench.venue.events_of_note()] == ["funding"] * 3
    assert bench.venue.events_of_note() == []


def test_a_future_settles_and_the_next_one_is_listed(bench):
    connection = bench.connect("subscribe=settlement,trade,instrument,orderBookL2")
    frames_of(connection)
    expiry = bench.venue.markets["XBTU26"].contract.expiry
    bench.leap_to(expiry)
    frames = frames_of(connection)
    (settlement,) = of(frames, "settlement", "insert")
    assert settlement["data"][0]["symbol"] == "XBTU26"
    assert settlement["data"][0]["timestamp"] == "2026-09-25T12:00:00.000Z"
    pseudo = [r for f in of(frames, "trade") for r in f["data"] if r["trdType"] == "Settlement"]
    assert len(pseudo) == 1
    assert "side" not in pseudo[0]
    states = [r for f in of(frames, "instrument", "update") for r in f["data"] if "state" in r]
    assert [(row["symbol"], row["state"]) for row in states] == [("XBTU26", "Settled")]
    (listed,) = of(frames, "instrument", "insert")
    assert (listed["data"][0]["symbol"], listed["data"][0]["state"]) == ("XBTZ26", "Open")
    assert "XBTU26" not in bench.venue.truth()
    (error,) = bench.ask(connection, "subscribe", "quote:XBTU26")
    assert error["error"] == "Unknown or expired symbol."


def test_who_listens_to_all_books_sees_one_end_and_the_next_begin():
    """At 12:00 UTC of the last Friday of a quarter no partial comes; unknown levels cannot be updated."""
    bench = Bench(start_ns=EXPIRY_NS - NS_PER_S)
    tables = ("orderBookL2", "orderBookL2_25", "orderBook10")
    connection = bench.connect(f"subscribe={','.join(tables)}")
    bench.run(2500)
    frames = frames_of(connection)
    whole, window = (Mirror(table).take(frames) for table in tables[:2])
    assert {symbol for symbol, _id, _side in whole.rows} == set(bench.venue.markets)
    for symbol in bench.venue.markets:
        assert whole.book(symbol) == bench.true_book(symbol)
        assert len(window.book(symbol)) == 50
    assert window.book("XBTU26") == {}
    for mirror in (whole, window):
        assert (mirror.unknown, mirror.doubled, mirror.crossings, mirror.early) == (0, 0, 0, 0)
    tens = [frame["action"] for frame in of(frames, "orderBook10") if frame["data"][0]["symbol"] == "XBTZ26"]
    assert tens[:2] == ["insert", "update"]


# Faults


@pytest.fixture
def watched(bench):
    """A bench, a client of the XBTUSD book, and its mirror."""
    connection = bench.connect("subscribe=orderBookL2:XBTUSD")
    return bench, connection, Mirror().take(frames_of(connection))


def test_drop_closes_all_connections_or_the_named_one(bench):
    first, second = bench.connect(), bench.connect()
    bench.inject("drop", conn_id=second.conn_id)
    bench.run(10)
    assert (first.close_code, second.close_code) == (None, 1006)
    bench.inject("drop")
    bench.run(10)
    assert first.close_code == 1006


def test_notice_restarts_the_venue_for_its_clients_after_the_time(bench):
    connection = bench.connect()
    bench.inject("notice", seconds=1)
    bench.run(900)
    bench.venue.publish(bench.now_ns, bench.real_ns + 10_000_000_000)  # the clock stands meanwhile
    assert connection.close_code is None
    bench.run(200)
    assert connection.close_code == 1012


def test_a_frozen_book_says_nothing_while_the_rest_goes_on_and_catches_up(bench):
    connection = bench.connect("subscribe=orderBookL2,quote,trade")
    mirror = Mirror().take(frames_of(connection))
    bench.inject("freeze", inst_id="XBTUSD", duration_s=2)
    bench.run(1900)
    frames = frames_of(connection)
    mirror.take(frames)
    assert all(
        r["symbol"] != "XBTUSD" for t in ("orderBookL2", "quote") for f in of(frames, t) for r in f["data"]
    )
    assert any(r["symbol"] == "XBTUSD" for f in of(frames, "trade") for r in f["data"])
    assert mirror.book("ETHUSD") == bench.true_book("ETHUSD")
    late = bench.connect("subscribe=orderBookL2:XBTUSD")
    assert [frame for frame in frames_of(late) if "table" in frame] == []
    bench.run(200)
    assert mirror.take(frames_of(connection)).book("XBTUSD") == bench.true_book("XBTUSD")
    late_mirror = Mirror().take(frames_of(late))
    assert late_mirror.book("XBTUSD") == bench.true_book("XBTUSD")
    bench.run(500)
    assert late_mirror.take(frames_of(late)).book("XBTUSD") == bench.true_book("XBTUSD")
    assert (late_mirror.early, late_mirror.unknown, late_mirror.doubled) == (0, 0, 0)


def test_a_topic_of_a_frozen_book_can_be_given_up_before_its_partial(bench):
    bench.inject("freeze", inst_id="XBTUSD", duration_s=1)
    connection = bench.connect("subscribe=quote:XBTUSD")
    bench.ask(connection, "unsubscribe", "quote:XBTUSD")
    bench.run(2000)
    assert connection.texts_to_send() == []


def test_a_gap_leaves_a_wrong_book_until_a_new_partial(watched):
    bench, connection, mirror = watched
    bench.inject("gap", inst_id="XBTUSD", count=20)
    bench.run(20_000)
    assert mirror.take(frames_of(connection)).book("XBTUSD") != bench.true_book("XBTUSD")
    assert mirror.unknown + mirror.crossings > 0
    bench.ask(connection, "unsubscribe", "orderBookL2:XBTUSD")
    mirror.take(bench.ask(connection, "subscribe", "orderBookL2:XBTUSD"))
    assert mirror.book("XBTUSD") == bench.true_book("XBTUSD")


def test_a_crossed_book_is_crossed_by_a_level_that_is_not_there(watched):
    bench, connection, mirror = watched
    bench.inject("crossed", inst_id="XBTUSD")
    bench.run(500)
    mirror.take(frames_of(connection))
    assert mirror.crossings > 0
    assert len(mirror.book("XBTUSD").keys() - bench.true_book("XBTUSD").keys()) == 1


def test_unknown_ids_are_changed_and_deleted_without_harm(watched):
    bench, connection, mirror = watched
    bench.inject("unknown", inst_id="XBTUSD")
    bench.run(500)
    mirror.take(frames_of(connection))
    assert mirror.unknown == 2
    assert mirror.book("XBTUSD") == bench.true_book("XBTUSD")


def test_duplicates_repeat_the_frames_of_one_change(watched):
    bench, connection, mirror = watched
    bench.inject("duplicate", inst_id="XBTUSD", count=30)
    bench.run(2000)
    mirror.take(frames_of(connection))
    assert mirror.doubled > 0
    assert mirror.unknown > 0
    assert mirror.book("XBTUSD") == bench.true_book("XBTUSD")


def test_a_delete_may_carry_a_size(watched):
    bench, connection, mirror = watched
    bench.inject("sized_delete", inst_id="XBTUSD")
    bench.run(3000)
    frames = frames_of(connection)
    sized = [f for f in of(frames, "orderBookL2", "delete") if any("size" in row for row in f["data"])]
    assert len(sized) == 1
    assert mirror.take(frames).book("XBTUSD") == bench.true_book("XBTUSD")


def test_idle_sends_a_delta_without_rows_and_reset_a_second_partial(watched):
    bench, connection, mirror = watched
    bench.inject("idle", inst_id="XBTUSD")
    bench.inject("reset", inst_id="XBTUSD")
    bench.run(500)
    frames = frames_of(connection)
    assert sum(frame["data"] == [] for frame in of(frames, "orderBookL2")) == 1
    assert len(of(frames, "orderBookL2", "partial")) == 1
    assert mirror.take(frames).book("XBTUSD") == bench.true_book("XBTUSD")


def test_shuffle_lets_partials_overtake_their_acks(bench):
    """Section 2.1: the order of ack and partial is not fixed."""
    bench.venue.faults.inject("shuffle", {}, bench.real_ns)
    connection = bench.connect("subscribe=trade,quote,funding,instrument")
    frames = frames_of(connection)[1:]
    kinds = "".join("a" if "success" in frame else "p" for frame in frames)
    assert (kinds.count("a"), kinds.count("p")) == (4, 4)
    assert {"ap", "pa"} == {kinds[place : place + 2] for place in range(0, 8, 2)}


def test_early_lets_a_delta_overtake_the_partial(bench):
    bench.inject("early", inst_id="XBTUSD")
    frames = frames_of(bench.connect("subscribe=orderBookL2:XBTUSD"))
    assert [frame.get("action") for frame in frames] == [None, "update", None, "partial"]


def test_a_silent_venue_sends_neither_data_nor_pong(bench):
    silenced, other = bench.connect("subscribe=trade"), bench.connect("subscribe=trade")
    frames_of(silenced), frames_of(other)
    bench.inject("silent", conn_id=silenced.conn_id, duration_s=5)
    bench.run(3000)
    silenced.receive_text("ping", bench.real_ns)
    assert silenced.texts_to_send() == []
    assert of(frames_of(other), "trade")
    bench.run(3000)
    silenced.receive_text("ping", bench.real_ns)
    assert silenced.texts_to_send()[-1] == "pong"


def test_refused_connections_get_a_status(bench):
    bench.inject("refuse", duration_s=1)
    assert bench.connect() == Refusal(503, "Service Unavailable")
    bench.run(1000)
    assert not isinstance(bench.connect(), Refusal)


def test_a_book_too_far_behind_is_told_anew(watched, monkeypatch):
    bench, connection, mirror = watched
    monkeypatch.setattr("dquant.simulator.flow_book.TAP_LIMIT", 5)
    bench.run(2000, 2000 * NS_PER_MS)
    assert mirror.take(frames_of(connection)).partials == 2
    assert mirror.book("XBTUSD") == bench.true_book("XBTUSD")


# Any text

json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
op_like = st.fixed_dictionaries(
    {
        "op": st.sampled_from(["subscribe", "unsubscribe", "authKeyExpires", "cancelAllAfter"]) | json_like,
        "args": st.lists(st.sampled_from(["trade", "quote:XBTUSD", "orderBookL2_25:ETHUSD", ":"]) | st.text())
        | json_like,
    }
)
FUZZED = Bench(5)


@settings(max_examples=200, deadline=None)
@given(text=st.text() | json_like.map(json.dumps) | op_like.map(json.dumps))
def test_any_text_is_answered_with_a_frame_or_a_close(text):
    connection = FUZZED.connect()
    FUZZED.real_ns += 10 * NS_PER_S  # stay within the connections of an hour
    connection.texts_to_send()
    connection.receive_text(text, FUZZED.real_ns)
    answers = connection.texts_to_send()
    assert answers
    for answer in answers:
        assert answer == "pong" or isinstance(json.loads(answer), dict)
    FUZZED.venue.disconnected(connection)


@settings(max_examples=50, deadline=None)
@given(query=st.text() | st.text().map("subscribe={}".format))
def test_any_query_string_ends_in_a_connection_or_a_refusal(query):
    FUZZED.real_ns += 10 * NS_PER_S
    connection = FUZZED.connect(query)
    if not isinstance(connection, Refusal):
        assert "Welcome" in connection.texts_to_send()[0]
        FUZZED.venue.disconnected(connection)


# Against recorded frames


def fixture(name):
    path = FIXTURES / name
    if not path.exists():
        pytest.skip("the recorded payloads of ../shared/fixtures are not here")
    return json.loads(path.read_text())


def kind(value):
    """Return what JSON can tell of a type; recordings passed through JavaScript lost the point of floats."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return type(value).__name__
    return "number"


def kinds(row):
    return {key: kind(value) for key, value in row.items() if value is not None}


def told(subscribe, milliseconds=6000):
    bench = Bench()
    connection = bench.connect(f"subscribe={subscribe}")
    bench.run(milliseconds)
    return frames_of(connection)


def test_the_welcome_has_the_keys_and_types_of_the_recorded_one():
    assert kinds(told("")[0]) == kinds(fixture("ws_welcome_2025-09-30.json"))


@pytest.mark.parametrize(
    ("topic", "name"),
    [
        ("instrument", "ws_ack_subscribe_2025.json"),
        ("orderBookL2:ETHUSD", "ws_ack_subscribe_pool_2026-05-19.json"),
    ],
)
def test_acks_have_the_keys_and_types_of_the_recorded_ones(topic, name):
    recorded = fixture(name)
    bench = Bench()
    connection = bench.connect()
    frames_of(connection)
    asked = [topic] if isinstance(recorded["request"]["args"], list) else topic
    ack = bench.ask(connection, "subscribe", asked)[0]
    assert kinds(ack) == kinds(recorded)
    assert kinds(ack["request"]) == kinds(recorded["request"])


@pytest.mark.parametrize(
    ("table", "name", "columns_since"),
    [
        ("orderBookL2", "ws_orderBookL2_partial_2024.json", {"pool"}),
        ("quote", "ws_quote_partial_2024.json", {"pool"}),
        ("trade", "ws_trade_partial_XBTUSD_2020-01-30.json", {"pool", "trdType"}),
        ("funding", "ws_funding_partial_2024.json", set()),
        ("liquidation", "ws_liquidation_partial_empty_2024.json", set()),
        (
            "instrument",
            "ws_instrument_partial_2025.json",
            {"minPrice", "farLegSymbol", "nearLegSymbol", "pool", "tags"},
        ),
    ],
)
def test_partials_have_the_keys_types_and_columns_of_recorded_ones(table, name, columns_since):
    recorded = fixture(name)
    (partial,) = of(told(table, 0), table)
    assert partial["keys"] == recorded["keys"]
    assert {c: t for c, t in partial["types"].items() if c not in columns_since} == recorded["types"]
    assert partial["types"].keys() - recorded["types"].keys() == columns_since
    assert [key for key in recorded if key in partial] == [key for key in partial if key in recorded]
    if recorded["data"] and table != "instrument":
        mine, theirs = kinds(partial["data"][0]), kinds(recorded["data"][0])
        assert {key: k for key, k in mine.items() if key not in columns_since} == theirs


@pytest.mark.parametrize(
    ("table", "action", "name", "columns_since"),
    [
        (
            "orderBookL2",
            "insert",
            "ws_orderBookL2_insert_ETHUSDM22_2022-06-04.json",
            {"pool", "transactTime"},
        ),
        (
            "orderBookL2",
            "update",
            "ws_orderBookL2_update_XBTUSD_tardis02.json",
            {"price", "timestamp", "pool", "transactTime"},
        ),
        (
            "orderBookL2",
            "delete",
            "ws_orderBookL2_delete_XBTUSD_tardis17.json",
            {"price", "pool", "transactTime"},
        ),
        ("quote", "insert", "ws_quote_insert_ETHUSD_tardis05.json", {"pool"}),
        ("trade", "insert", "ws_trade_insert_2025-02-07.json", {"pool"}),
        ("orderBook10", "update", "ws_orderBook10_update_XBTUSD_2022-05-30.json", {"pool"}),
    ],
)
def test_deltas_have_the_keys_and_types_of_recorded_ones(table, action, name, columns_since):
    recorded = fixture(name)
    mine = of(told(f"{table}:XBTUSD"), table, action)[0]
    assert mine.keys() == recorded.keys()
    row = kinds(mine["data"][0])
    assert {key: k for key, k in row.items() if key not in columns_since} == kinds(recorded["data"][0])
    assert columns_since <= row.keys()


def test_index_updates_have_the_shape_of_the_recorded_one():
    recorded = fixture("ws_instrument_update_row_index_2026-05-27.json")
    rows = [row for frame in of(told("instrument:XBTUSD"), "instrument", "update") for row in frame["data"]]
    assert kinds(recorded) in [kinds(row) for row in rows]


def test_instrument_rows_have_the_keys_and_types_of_recorded_ones():
    (partial,) = of(told("instrument", 0), "instrument")
    rows = {row["symbol"]: kinds(row) for row in partial["data"]}
    perpetual = kinds(fixture("rest_GET_instrument_XBTUSD_2024-11.json"))
    perpetual.pop("capped")  # REST only
    assert rows["XBTUSD"] == perpetual
    index, linear = (kinds(row) for row in fixture("ws_instrument_partial_2025.json")["data"])
    since = {"minPrice", "highPrice", "lowPrice", "lastTickDirection"}
    assert {key: k for key, k in rows[".BXBT"].items() if key not in since} == index
    assert rows["XBTUSDT"] == linear
