"""Recorded conversations, section by section of the fact sheets, held again with the simulated venues.

Requests go over real sockets; answers must have the recorded keys and types, and the recorded values where
the protocol determines them. ``newer`` names fields that the venue added after a recording was made,
``other`` those that only another kind of contract or answer has.
"""

import base64
import hashlib
import hmac
import json
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote

import pytest
from websockets.sync.client import connect

FIXTURES = Path(__file__).resolve().parents[3] / "shared" / "fixtures"
INST = "BTC-USD-SWAP"
DEADLINE_S = 10
pytestmark = pytest.mark.skipif(
    not FIXTURES.exists(), reason=f"{FIXTURES} is not there: payloads of the venues live beside the repo"
)


def recorded(name):
    """Return a recorded body or frame."""
    found = json.loads((FIXTURES / f"{name}.json").read_text())
    if isinstance(found, dict) and "response" in found:
        found = found["response"]["body"]
    return json.loads(found) if isinstance(found, str) else found


def shape(value, path=""):
    """Return the type of every leaf by its path; a list counts by its first element."""
    if isinstance(value, dict) and value:
        leaves = {}
        for key, inner in value.items():
            leaves |= shape(inner, f"{path}.{key}")
        return leaves
    if isinstance(value, list) and value:
        return shape(value[0], f"{path}[]")
    kind = {int: "number", float: "number"}.get(type(value), type(value).__name__)
    return {path: kind}


def check(answer, name, newer=(), other=()):
    """Hold an answer to a recording."""
    own, real = shape(answer), shape(recorded(name))
    own = {path: kind for path, kind in own.items() if path.rpartition(".")[2] not in newer}
    real = {path: kind for path, kind in real.items() if path.rpartition(".")[2] not in other}
    assert own == real


def fetch(base, method, path, body, headers):
    request = urllib.request.Request(
        base + path, body.encode() or None, {"Content-Type": "application/json", **headers}, method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as exc:
        with exc:
            return json.load(exc)


class Okex:
    """The simulated OKX over its sockets, signed by hand (section 3)."""

    def __init__(self, where):
        self.where, self.keys = where, where["keys"]

    def sign(self, text):
        mac = hmac.new(self.keys["secret"].encode(), text.encode(), hashlib.sha256)
        return base64.b64encode(mac.digest()).decode()

    def get(self, path, **query):
        words = "&".join(f"{key}={value}" for key, value in query.items())
        return self._ask("GET", f"/api/v5/{path}" + (f"?{words}" if words else ""), "")

    def post(self, path, body):
        return self._ask("POST", f"/api/v5/{path}", json.dumps(body))

    def _ask(self, method, path, body):
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
        headers = {
            "OK-ACCESS-KEY": self.keys["apiKey"],
            "OK-ACCESS-SIGN": self.sign(f"{stamp}{method}{path}{body}"),
            "OK-ACCESS-TIMESTAMP": stamp,
            "OK-ACCESS-PASSPHRASE": self.keys["passphrase"],
        }
        return fetch(self.where["rest"], method, path, body, headers)

    def low(self):
        """Return a price at which a buy order rests."""
        return f"{float(self.get('market/ticker', instId=INST)['data'][0]['bidPx']) * 0.98:.1f}"

    def order(self, **more):
        return {"instId": INST, "tdMode": "cross", "side": "buy", "ordType": "limit", "sz": "2", **more}

    def login(self):
        now = str(int(time.time()))
        arg = {"apiKey": self.keys["apiKey"], "passphrase": self.keys["passphrase"], "timestamp": now}
        return {"op": "login", "args": [{**arg, "sign": self.sign(f"{now}GET/users/self/verify")}]}


class Bitmex:
    """The simulated BitMEX over its sockets, signed by hand (section 4)."""

    def __init__(self, where):
        self.where, self.keys = where, where["keys"]

    def signed(self, method, path, body=""):
        expires = int(time.time()) + 30
        mac = hmac.new(
            self.keys["secret"].encode(), f"{method}{path}{expires}{body}".encode(), hashlib.sha256
        )
        return expires, mac.hexdigest()

    def buy(self, size, **more):
        return self.ask("POST", "order", symbol="XBTUSD", side="Buy", orderQty=size, **more)

    def ask(self, method, route, **params):
        """Ask, and heed the limit of ten a second (section 5.8)."""
        for _ in range(5):
            answer = self._ask(method, route, params)
            if not (isinstance(answer, dict) and answer.get("error", {}).get("name") == "RateLimitError"):
                break
            time.sleep(1)
        return answer

    def _ask(self, method, route, params):
        path, body = f"/api/v1/{route}", ""
        if method == "GET":
            words = "&".join(f"{key}={quote(value)}" for key, value in params.items())
            path += f"?{words}" if words else ""
        else:
            body = json.dumps(params)
        expires, signature = self.signed(method, path, body)
        headers = {"api-key": self.keys["apiKey"], "api-expires": str(expires), "api-signature": signature}
        return fetch(self.where["rest"], method, path, body, headers)

    def low(self):
        """Return a price at which a buy order rests."""
        return float(int(self.ask("GET", "orderBook/L2", symbol="XBTUSD", depth="1")[0]["price"] * 0.98))


@pytest.fixture
def okex(pair):
    venue = Okex(pair.where("okex"))
    yield venue
    open_orders = venue.get("trade/orders-pending")["data"]
    if open_orders:
        ids = [{"instId": row["instId"], "ordId": row["ordId"]} for row in open_orders]
        venue.post("trade/cancel-batch-orders", ids)
    venue.post("trade/close-position", {"instId": INST, "mgnMode": "cross"})


@pytest.fixture
def bitmex(pair):
    venue = Bitmex(pair.where("bitmex"))
    yield venue
    venue.ask("DELETE", "order/all")
    venue.ask("POST", "order", symbol="XBTUSD", execInst="Close")


def frames_until(socket, is_last):
    """Return frames up to the first that is the last."""
    frames = []
    ends = time.monotonic() + DEADLINE_S
    while not frames or not is_last(frames[-1]):
        frames.append(json.loads(socket.recv(timeout=ends - time.monotonic())))
    return frames


# OKX


def test_okex_account_is_set_up_and_read(okex):  # sections 8.1 and 9.3
    answer = okex.post("account/set-position-mode", {"posMode": "net_mode"})
    check(answer, "okx/rest_account_set_position_mode__ok")
    answer = okex.post("account/set-leverage", {"instId": INST, "lever": "5", "mgnMode": "cross"})
    check(answer, "okx/rest_account_set_leverage__ok")
    assert answer["data"][0]["lever"] == "5"
    check(okex.get("account/config"), "okx/rest_account_config")
    check(
        okex.get("account/balance"),
        "okx/rest_account_balance_doc",
        newer={"autoLendAmt", "autoStakingStatus"},
    )
    check(okex.get("account/leverage-info", instId=INST, mgnMode="cross"), "okx/rest_account_leverage_info")
    check(okex.get("account/max-size", instId=INST, tdMode="cross"), "okx/rest_account_max_size")
    fee = okex.get("account/trade-fee", instType="SPOT", instId="BTC-USDT")
    check(fee, "okx/rest_account_trade_fee_spot")


def test_okex_orders_are_placed_amended_and_cancelled(okex):  # sections 8.2 and 8.4
    order = okex.order(px=okex.low())
    placed = okex.post("trade/order", order)
    check(placed, "okx/rest_trade_order__ok_2025-09_real", newer={"subCode"})
    real = recorded("okx/rest_trade_order__ok_2025-09_real")
    assert (placed["code"], placed["data"][0]["sCode"]) == (real["code"], real["data"][0]["sCode"])
    assert placed["data"][0]["sMsg"] == real["data"][0]["sMsg"]
    name = {"instId": INST, "ordId": placed["data"][0]["ordId"]}
    pending = okex.get("trade/orders-pending", instType="SWAP")
    check(pending, "okx/rest_trade_orders_pending__live")
    assert pending["data"][0]["state"] == "live"
    check(okex.post("trade/cancel-order", name), "okx/rest_trade_cancel_order__ok")
    again = okex.post("trade/cancel-order", name)
    assert (again["code"], again["data"][0]["sCode"]) == ("1", "51400")
    batch = okex.post("trade/batch-orders", [order, order])
    check(batch, "okx/rest_trade_batch_orders__ok")
    names = [{"instId": INST, "ordId": row["ordId"]} for row in batch["data"]]
    amended = okex.post("trade/amend-batch-orders", [{**one, "newSz": "3"} for one in names])
    check(amended, "okx/rest_trade_amend_batch__ok")
    check(okex.post("trade/cancel-batch-orders", names), "okx/rest_trade_cancel_batch__ok")
    off = okex.post("trade/cancel-all-after", {"timeOut": "0"})
    check(off, "okx/rest_trade_cancel_all_after__ok")
    assert off["data"][0]["triggerTime"] == "0"


def test_okex_fills_positions_and_history_are_told(okex):  # sections 8.4 and 9.4
    order = okex.order(ordType="market")
    number = okex.post("trade/order", order)["data"][0]["ordId"]
    filled = okex.get("trade/order", instId=INST, ordId=number)
    check(filled, "okx/rest_trade_order_get__filled")
    assert (filled["data"][0]["state"], filled["data"][0]["accFillSz"]) == ("filled", "2")
    check(okex.get("account/positions"), "okx/rest_account_positions_doc")
    check(okex.get("trade/fills"), "okx/rest_trade_fills")
    closed = okex.post("trade/close-position", {"instId": INST, "mgnMode": "cross"})
    check(closed, "okx/rest_trade_close_position__ok")
    check(okex.get("trade/orders-history", instType="SWAP"), "okx/rest_trade_orders_history")
    check(okex.get("account/bills"), "okx/rest_account_bills")
    check(okex.get("account/positions-history"), "okx/rest_account_positions_history")
    check(okex.get("trade/account-rate-limit"), "okx/rest_trade_account_rate_limit")


def test_okex_refuses_with_the_recorded_codes(okex):  # section 10
    refused = okex.post("trade/order", okex.order(px=okex.low(), posSide="long"))
    check(
        refused,
        "okx/rest_trade_order__reject_51000_posSide",
        newer={"subCode", "ts", "inTime", "outTime"},
    )
    real = recorded("okx/rest_trade_order__reject_51000_posSide")
    assert refused["data"][0]["sCode"] == real["data"][0]["sCode"] == "51000"
    assert refused["data"][0]["sMsg"] == real["data"][0]["sMsg"]
    assert okex.get("market/ticker", instId="BTC-USD-170331") == recorded("okx/rest_error_51001")


def test_okex_tells_the_private_channels_what_an_order_did(okex):  # sections 2, 3, 8.3 and 9
    code = okex.get("public/instruments", instType="SWAP", instId=INST)["data"][0]["instIdCode"]
    channels = ("account", "positions", "balance_and_position", "orders")
    with connect(okex.where["ws"] + "/private") as socket:
        socket.send(json.dumps(okex.login()))
        (login,) = frames_until(socket, lambda frame: frame.get("event") == "login")
        check(login, "okx/ws_login__ack")
        args = [{"channel": name, "instType": "ANY"} for name in ("positions", "orders")]
        args += [{"channel": name} for name in ("account", "balance_and_position")]
        socket.send(json.dumps({"op": "subscribe", "args": args}))
        seen: set[str] = set()

        def is_greeted(frame):
            if frame.get("event") == "channel-conn-count":
                seen.add(frame["channel"])
            if "data" in frame:
                seen.add(frame["arg"]["channel"] + " data")
            return seen >= {*channels, "account data", "positions data", "balance_and_position data"}

        greeting = frames_until(socket, is_greeted)
        count = next(frame for frame in greeting if frame.get("event") == "channel-conn-count")
        check(count, "okx/ws_channel_conn_count_recorded")
        snapshot = next(frame for frame in greeting if frame.get("eventType") == "snapshot")
        assert (snapshot["curPage"], snapshot["lastPage"]) == (1, True)
        order = {"instIdCode": code, "tdMode": "cross", "side": "buy", "ordType": "market", "sz": "1"}
        socket.send(json.dumps({"id": "1512", "op": "order", "args": [order]}))
        told: dict[str, dict] = {}

        def is_told(frame):
            if "op" in frame:
                told["op"] = frame
            elif "data" in frame:
                told[frame["arg"]["channel"]] = frame
            filled = told.get("orders", {}).get("data", [{}])[0].get("state") == "filled"
            return filled and told.keys() >= {"op", *channels}

        frames_until(socket, is_told)
    check(told["op"], "okx/ws_op_order__ok", newer={"subCode"})
    check(told["orders"], "okx/ws_orders__push_filled_spot_postonly_demo_2026-09")
    check(
        told["account"],
        "okx/ws_account__push_snapshot_doc",
        other={"curPage", "lastPage"},
        newer={"curPage", "lastPage"},
    )
    check(
        told["balance_and_position"], "okx/ws_balance_and_position__push_snapshot_doc", other=LEGS, newer=LEGS
    )


# What an empty list has none of, and a full one has.
LEGS = {"trades", "tradeId", "instId"}


# BitMEX


def test_bitmex_orders_are_placed_amended_and_cancelled(bitmex):  # sections 5.2 to 5.4
    future = {"settlCurrency", "pool"}  # the recorded rows are of a spot pair, before the second book
    link = f"c{time.time_ns()}"
    placed = bitmex.ask(
        "POST", "order", symbol="XBTUSD", side="Buy", orderQty=200, price=bitmex.low(), clOrdID=link
    )
    check(placed, "bitmex/rest_POST_order_ack_2025-11-14", newer=future)
    real = recorded("bitmex/rest_POST_order_ack_2025-11-14")
    same = ("ordStatus", "ordType", "strategy", "text", "timeInForce", "workingIndicator", "cumQty", "side")
    assert {name: placed[name] for name in same} == {name: real[name] for name in same}
    amended = bitmex.ask("PUT", "order", orderID=placed["orderID"], orderQty=300, price=placed["price"] - 1)
    check(amended, "bitmex/rest_PUT_order_ack_amend_2025-11-14", newer=future)
    assert amended["text"] == recorded("bitmex/rest_PUT_order_ack_amend_2025-11-14")["text"]
    rows = bitmex.ask("GET", "order", filter='{"open":true}')
    assert [row["orderID"] for row in rows] == [placed["orderID"]]
    gone = bitmex.ask("DELETE", "order", orderID=placed["orderID"])
    check(gone, "bitmex/rest_DELETE_order_ack_2025-11-14", newer=future)
    real = recorded("bitmex/rest_DELETE_order_ack_2025-11-14")[0]
    assert (gone[0]["text"], gone[0]["ordStatus"], gone[0]["leavesQty"]) == (real["text"], "Canceled", 0)
    again = bitmex.ask("DELETE", "order", orderID=placed["orderID"])
    check(again, "bitmex/rest_DELETE_order_ack_failed_item_2025-12-09")
    assert again[0]["error"] == recorded("bitmex/rest_DELETE_order_ack_failed_item_2025-12-09")[0]["error"]


def test_bitmex_fills_are_told_by_rest(bitmex):  # sections 5.4 and 6.5
    future = {"settlCurrency", "pool", "strategy"}
    filled = bitmex.buy(100, ordType="Market")
    check(filled, "bitmex/rest_POST_order_market_buy_spot_2024-12", newer=future, other={"clOrdID"})
    assert (filled["ordStatus"], filled["cumQty"], filled["timeInForce"]) == (
        "Filled",
        100,
        "ImmediateOrCancel",
    )
    rows = bitmex.ask("GET", "order", filter=json.dumps({"orderID": filled["orderID"]}))
    check(rows, "bitmex/rest_GET_order_filled_market_buy_2024-12", newer=future)
    (trade,) = bitmex.ask("GET", "execution/tradeHistory", filter=json.dumps({"orderID": filled["orderID"]}))
    value = round(1e10 / trade["lastPx"])
    assert (trade["execCost"], trade["lastQty"]) == (-value, 100)
    assert trade["execComm"] == int(value * trade["commission"])
    fees = bitmex.ask("GET", "user/commission")
    real = recorded("bitmex/rest_GET_user_commission_2025")
    assert fees["XBTUSD"].keys() == next(iter(real.values())).keys()


def test_bitmex_refuses_in_the_recorded_words(bitmex):  # section 5.6
    bitmex.ask("POST", "position/leverage", symbol="XBTUSD", leverage=1)
    poor = bitmex.buy(9_000_000, price=bitmex.low())
    check(poor, "bitmex/rest_POST_order_error_insufficient_balance_2024-12")
    real = recorded("bitmex/rest_POST_order_error_insufficient_balance_2024-12")["error"]
    assert (poor["error"]["name"], poor["error"]["details"]) == (real["name"], real["details"])
    assert poor["error"]["message"].startswith("Account has insufficient Available Balance, ")
    number = bitmex.buy(100, price=bitmex.low())["orderID"]
    wrong = bitmex.ask("PUT", "order", orderID=number, leavesQty=-100)
    assert wrong == recorded("bitmex/rest_PUT_order_error_invalid_leavesQty")
    missing = bitmex.ask("GET", "orderBook/L2")
    assert missing["error"]["message"] == "'symbol' is a required arg."


def test_bitmex_tells_the_private_tables_what_an_order_did(bitmex):  # sections 2 and 3
    with connect(bitmex.where["ws"]) as socket:
        (welcome,) = frames_until(socket, lambda frame: "info" in frame)
        check(welcome, "bitmex/ws_welcome_2025-09-30")
        expires, signature = bitmex.signed("GET", "/realtime")
        login = {"op": "authKeyExpires", "args": [bitmex.keys["apiKey"], expires, signature]}
        socket.send(json.dumps(login))
        (ack,) = frames_until(socket, lambda frame: "success" in frame)
        assert ack == {"success": True, "request": login}
        topics = ["execution", "margin", "order", "position"]
        socket.send(json.dumps({"op": "subscribe", "args": topics}))
        seen: dict[str, dict] = {}

        def has(action):
            def is_there(frame):
                if frame.get("action") == action:
                    seen.setdefault(f"{frame['table']} {action}", frame)
                return seen.keys() >= {f"{name} {action}" for name in wanted}

            return is_there

        wanted = topics
        frames_until(socket, has("partial"))
        bitmex.buy(100, ordType="Market")
        wanted = ["execution", "order"]
        frames_until(socket, has("insert"))
    for table in ("execution", "position"):
        real = recorded(f"bitmex/ws_{table}_partial_empty_2025")
        own = seen[f"{table} partial"]
        assert own["keys"] == real["keys"]
        assert {field: kind for field, kind in own["types"].items() if field in real["types"]} == real[
            "types"
        ]
    real = recorded("bitmex/ws_margin_partial_2025")
    assert seen["margin partial"]["keys"] == real["keys"]
    assert shape(seen["margin partial"]).keys() >= shape(real).keys()
    check(
        seen["execution insert"],
        "bitmex/ws_execution_insert_market_buy_spot_2025-01-08",
        newer={"pool", "settlCurrency", "strategy"},
    )
    kinds = [row["execType"] for row in seen["execution insert"]["data"]]
    real = recorded("bitmex/ws_execution_insert_market_buy_spot_2025-01-08")
    assert kinds[:2] == [row["execType"] for row in real["data"]][:2] == ["New", "Trade"]
    assert seen["order insert"]["data"][0]["ordStatus"] == "Filled"
