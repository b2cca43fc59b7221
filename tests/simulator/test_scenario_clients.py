"""Every shipped scenario against clients that log in, listen and trade at both venues; no sockets.

A second of the scenario is five thousandths of one here: what is looked at is that the venues take and
answer everything, whatever is broken, not when it comes.
"""

import json
from datetime import UTC, datetime

import pytest

from dquant.simulator import scenarios
from dquant.simulator.bitmex_auth import sign as bitmex_sign
from dquant.simulator.player import ScenarioPlayer
from dquant.simulator.rest_faults import answer_with_faults
from dquant.simulator.venue import Refusal

S = 1_000_000_000
STEPS, STEP_S = 13, 10  # s of the scenario
SWAP = "BTC-USD-SWAP"


class Client:
    """Keeps one websocket open, as far as the venue lets it."""

    def __init__(self, bench, path, hello):
        self.bench, self.path, self.hello = bench, path, hello
        self.connection, self.logins = None, 0

    def talk(self, *requests):
        venue, now = self.bench.venue, self.bench.real_ns
        if self.connection is not None and self.connection.close_code is not None:
            venue.disconnected(self.connection)
            self.connection = None
        if self.connection is None:
            found = venue.connect(self.path, "", now)
            if isinstance(found, Refusal):
                return
            self.connection, self.logins = found, self.logins + 1
            requests = (*self.hello(), *requests)
        for request in requests:
            self.connection.receive_text(json.dumps(request), now)
        for text in self.connection.texts_to_send():
            json.loads(text)


class Okex:
    def __init__(self, trader):
        self.trader, self.bench = trader, trader.bench
        self.venue = self.bench.venue
        books = {"op": "subscribe", "args": [{"channel": "books", "instId": SWAP}]}
        self.private = Client(self.bench, "/ws/v5/private", self.hello)
        self.clients = [self.private, Client(self.bench, "/ws/v5/public", lambda: [books])]

    def hello(self):
        channels = ({"channel": name, "instType": "ANY"} for name in ("orders", "positions"))
        return [json.loads(self.trader.login_text()), {"op": "subscribe", "args": list(channels)}]

    def act(self, number):
        order = {"instIdCode": self.trader.code(SWAP), "tdMode": "cross", "sz": "1", "clOrdId": f"c{number}"}
        order |= {
            "side": "buy",
            "ordType": "limit",
            "px": self.trader.price(side="ask", ticks=number % 3 - 1),
        }
        name = {"instIdCode": order["instIdCode"], "clOrdId": order["clOrdId"]}
        self.private.talk(
            {"id": f"o{number}", "op": "order", "args": [order]},
            {"id": f"a{number}", "op": "amend-order", "args": [name | {"newSz": "2"}]},
            {"id": f"x{number}", "op": "cancel-order", "args": [name]},
        )
        self.clients[1].talk()
        asked = self.trader.signed("GET", "account/balance", None, {})
        answer_with_faults(self.venue, asked, self.bench.now_ns, self.bench.real_ns)


class Bitmex:
    def __init__(self, bench):
        self.bench, self.venue = bench, bench.venue
        self.clients = [Client(bench, "/realtime", self.hello)]

    def hello(self):
        (key, secret), expires = self.bench.KEYS[100_001], self.bench.now_ns // S + 5
        args = [key, expires, bitmex_sign(secret, "GET", "/realtime", str(expires))]
        topics = ["order", "execution", "position", "orderBookL2_25:XBTUSD"]
        return [{"op": "authKeyExpires", "args": args}, {"op": "subscribe", "args": topics}]

    def act(self, number):
        self.clients[0].talk()
        bid, _ask = self.bench.best()
        body = {"symbol": "XBTUSD", "orderQty": 100, "price": bid}
        for method, more in (("POST", body), ("DELETE", {"symbol": "XBTUSD"})):
            path = "/order" if method == "POST" else "/order/all"
            asked = self.bench.request(method, path, more)
            answer_with_faults(self.venue, asked, self.bench.now_ns, self.bench.real_ns)


@pytest.mark.parametrize("scenario", scenarios.shipped(), ids=lambda scenario: scenario.name)
def test_a_scenario_meets_clients_that_log_in_listen_and_trade(scenario, trader_at, bitmex_at):
    began = scenario.start_ns or 1_795_305_600 * S
    when = datetime.fromtimestamp(began // S, UTC).timetuple()[:6]
    okex, bitmex = Okex(trader_at(*when)), Bitmex(bitmex_at(*when))
    sides = {"okex": okex, "bitmex": bitmex}
    notes = []
    venues = {name: side.venue for name, side in sides.items()}
    player = ScenarioPlayer(scenario, venues, began, 1, notes.append)
    for number in range(STEPS):
        for side in sides.values():
            side.bench.run(50, 50)
            for note in side.venue.events_of_note():
                player.see(note)
        player.play(began + number * STEP_S * S, okex.bench.real_ns)
        for side in sides.values():
            side.act(number)
    assert player.played == len(notes)
    assert all(note["event"] == "fault" for note in notes)
    for side in sides.values():
        assert side.venue.exchange.ledger.rows(kind="order_accepted")
        assert all(client.logins for client in side.clients)
