"""Every error code that the fact sheet of OKX names: how a client provokes it, or that a fault says it.

One table for all: ``CLIENT`` has a deed a code, done by a client's own requests against the venue (a few need
an account, a clock or a venue that is set up for it); ``VENUE`` has what the venue says of its own state,
which here the fault ``error`` says for it. A test holds the two to the sheet's lists, where it is at hand.

A deed that needs nothing special is done by an account of its own at one venue for all.
"""

import json
import re
from functools import cache
from itertools import count
from pathlib import Path

import pytest

from dquant.simulator.exchange import TradingMode
from dquant.simulator.exchange_faults import OrderFault
from dquant.simulator.flow import Flow
from dquant.simulator.okex_login import Secrets
from dquant.simulator.okex_login import sign as okex_sign
from dquant.simulator.okex_server import OkexOptions, OkexServer
from dquant.simulator.okex_trade import TradeOptions
from dquant.simulator.rest_faults import answer_with_faults
from dquant.simulator.venue import RestRequest

from .conftest import SECRETS, OkexBench, OkexTrader, utc

SHEET = Path(__file__).resolve().parents[3] / "shared" / "protocols" / "okx-v5.md"
SWAP, FUTURE, NEXT, SPOT = "BTC-USD-SWAP", "BTC-USD-261127", "BTC-USD-261204", "BTC-USDT"
UUID = "51a11a7e-d000-4000-8000-0000000000ff"
S = 1_000_000_000
FAR = -2000  # ticks from the best: it rests


ACCOUNTS = 120
numbers = count(1)


@cache
def shared():
    """Return a venue with many accounts, a tenth of a second old."""
    bench = bench_of([Secrets(f"key{n}", "secret", "words", f"account{n}") for n in range(ACCOUNTS)])
    bench.run(100)
    return bench


def trader(*when, is_alone=False, **more):
    """Return a client with a key: a new account of the shared venue, unless it needs a venue of its own."""
    if not when and not more and not is_alone:
        return OkexTrader(shared(), shared().secrets[next(numbers)])
    made = OkexTrader(OkexBench(utc(*(when or (2026, 11, 22))), **more))
    made.bench.run(100)
    return made


def of(answer):
    """Return the code of an answer: the element's where it has one."""
    failed = [row["sCode"] for row in answer.get("data", []) if row.get("sCode", "0") != "0"]
    return failed[0] if failed else answer["code"]


def rest(who, method, path, body=None, **query):
    return of(who.ask(method, path, body, **query)[1])


def resting(who, inst_id=SWAP, **more):
    """Place an order that rests; return its ordId."""
    frames = who.place(inst_id, **{"px": who.price(inst_id, ticks=FAR), **more})
    assert frames[0]["code"] == "0", frames
    return frames[0]["data"][0]["ordId"]


def order(who, **change):
    """Place an order by websocket that would be fine but for the change."""
    return of(who.place(**{"px": who.price(ticks=FAR), **change})[0])


def op(who, name, **arg):
    return of(who.op(name, {"instIdCode": who.code(SWAP), **arg})[0])


def said(kind="public", login=False, bench=None, **request):
    """Send one request on a connection of its own; return the code of the answer."""
    bench = bench or shared()
    secrets = bench.secrets[0]
    connection = OkexTrader(bench, secrets).login() if login and kind == "private" else bench.connect(kind)
    if login and kind != "private":
        connection.receive_text(
            json.dumps({"op": "login", "args": [login_arg(bench, secrets)]}), bench.real_ns
        )
        connection.texts_to_send()
    connection.receive_text(request.pop("text", None) or json.dumps(request), bench.real_ns)
    return json.loads(connection.texts_to_send()[-1]).get("code")


def login_arg(bench, secrets, **change):
    stamp = str(bench.now_ns // S)
    arg = {"apiKey": secrets.api_key, "passphrase": secrets.passphrase, "timestamp": stamp}
    return {**arg, "sign": okex_sign(secrets.secret, f"{stamp}GET/users/self/verify"), **change}


def logged_in(secrets=None, **change):
    bench = bench_of([secrets]) if secrets else shared()
    return said("private", bench=bench, op="login", args=[login_arg(bench, bench.secrets[0], **change)])


class Bench(OkexBench):
    """A bench with accounts of the test's own."""

    def __init__(self, secrets, options=None):
        self.now_ns, self.real_ns, self.secrets = utc(2026, 11, 22), 0, secrets
        self.flow = Flow(7, self.now_ns)
        self.venue = OkexServer(self.flow, secrets, options)


def bench_of(secrets, options=None):
    return Bench(secrets, options)


def subscribed(kind="public", login=False, options=None, args=()):
    bench = bench_of([SECRETS], options) if options else None
    return said(kind, login, bench, op="subscribe", args=list(args))


def header(**change):
    """Ask for a balance with other headers; None leaves one out."""
    who = trader()
    request = who.signed("GET", "account/balance", None, {})
    for name, value in change.items():
        request.headers.pop(f"ok-access-{name.lower()}")
        if value is not None:
            request.headers[f"ok-access-{name.lower()}"] = value
    return of(json.loads(who.bench.venue.answer(request, who.bench.now_ns).body))


def keyed(method="GET", path="account/balance", body=None, more=(), **facts):
    """Ask with a key that has something wrong with it."""
    secrets = Secrets(UUID, "secret", "words", **facts)
    bench = bench_of([secrets])
    who = OkexTrader.__new__(OkexTrader)
    who.bench, who.secrets = bench, secrets
    request = who.signed(method, path, body, {}, **dict(more))
    return of(json.loads(bench.venue.answer(request, bench.now_ns).body))


def unsigned(body, **headers):
    """Post a body that is signed as it is."""
    who = trader()
    request = who.signed("POST", "trade/order", None, {})
    stamp = request.headers["ok-access-timestamp"]
    sign = okex_sign(who.secrets.secret, f"{stamp}POST/api/v5/trade/order".encode() + body)
    request = type(request)(
        "POST", request.path, {}, body, {**request.headers, "ok-access-sign": sign, **headers}, request.target
    )
    return of(json.loads(who.bench.venue.answer(request, who.bench.now_ns).body))


def many(who, inst_ids, batches):
    """Place batches of twenty orders that rest; return the code that ends it."""
    for _ in range(batches):
        for inst_id in inst_ids:
            who.bench.real_ns += 2 * S
            price = who.price(inst_id, ticks=FAR)
            arg = {"instIdCode": who.code(inst_id), "tdMode": "cross", "side": "buy", "ordType": "limit"}
            code = of(who.op("batch-orders", *[{**arg, "px": price, "sz": "0.1"}] * 20)[0])
            if code != "0":
                return code
    return "none"


def often(do, times):
    return next((code for code in (do() for _ in range(times)) if code != "0"), "0")


def amended_into_the_book():
    who = trader()
    who.listen({"channel": "orders", "instType": "ANY"})
    ord_id = resting(who, ordType="post_only")
    arg = {"instIdCode": who.code(SWAP), "ordId": ord_id, "newPx": who.price(side="ask", ticks=5)}
    return next(f["data"][0]["code"] for f in who.op("amend-order", arg) if f.get("arg"))


def amended_in_flight():
    who = trader()
    ord_id = resting(who)
    return often(lambda: op(who, "amend-order", ordId=ord_id, newSz="2"), 4)


def amended(**change):
    who = trader()
    return op(who, "amend-order", ordId=resting(who), **change)


def amended_after_the_end():
    who = trader()
    ord_id = resting(who)
    op(who, "cancel-order", ordId=ord_id)
    return op(who, "amend-order", ordId=ord_id, newSz="2")


def closing(held=True, **change):
    who = trader()
    if held:
        who.place(ordType="market", sz="2")
        resting(who, side="sell", px=who.price(side="ask", ticks=100), reduceOnly=True)
    return rest(who, "POST", "trade/close-position", {"instId": SWAP, "mgnMode": "cross", **change})


def reduced(held=None, side="sell", sz="1", **more):
    who = trader()
    if held:
        who.place(ordType="market", side=held, sz="1")
    return order(who, side=side, sz=sz, ordType="market", **more)


def hedged(sz):
    who = trader()
    rest(who, "POST", "account/set-position-mode", {"posMode": "long_short_mode"})
    who.place(ordType="market", posSide="long")
    return order(who, side="sell", posSide="long", sz=sz, ordType="market")


def leverage(lever="5", level="2", **change):
    who = trader() if level == "2" else trader(options=OkexOptions(account_level=level))
    body = {"instId": SWAP, "lever": lever, "mgnMode": "cross", **change}
    return rest(who, "POST", "account/set-leverage", body)


def leverage_of_what_is_held(order_type, mode="cross"):
    """Take up most of the margin at a hundred times, then ask for once."""
    who = trader()
    body = {"instId": SWAP, "mgnMode": mode}
    rest(who, "POST", "account/set-leverage", {**body, "lever": "100"})
    more = {"px": who.price(ticks=FAR)} if order_type == "limit" else {}
    assert who.place(ordType=order_type, sz="45000", tdMode=mode, **more)[0]["code"] == "0"
    return rest(who, "POST", "account/set-leverage", {**body, "lever": "1"})


def mode_while_open():
    who = trader()
    resting(who)
    return rest(who, "POST", "account/set-position-mode", {"posMode": "long_short_mode"})


def traded(mode):
    who = trader(is_alone=True)
    who.bench.venue.exchange.set_trading(TradingMode(mode))
    return order(who)


def at_the_hour(inst_id, when, by_rest=False, ms=200):
    """Ask for an order just after a moment in which something is due."""
    who = trader(*when)
    who.bench.run(1_900 + ms)
    arg = {"instId": inst_id, "tdMode": "cross", "side": "buy", "ordType": "market", "sz": "1"}
    return rest(who, "POST", "trade/order", arg) if by_rest else order(who, inst_id=inst_id, ordType="market")


def order_in(level):
    return order(trader(options=OkexOptions(account_level=level)))


def expiring(left_ms, **options):
    who = trader(options=OkexOptions(trade=TradeOptions(**options))) if options else trader()
    stamp = str(who.bench.now_ns // 1_000_000 + left_ms)
    arg = {"instIdCode": who.code(SWAP), "tdMode": "cross", "side": "buy", "ordType": "market", "sz": "1"}
    return of(who.op("order", arg, expTime=stamp)[0])


def refused_by_fault():
    who = trader()
    who.bench.venue.exchange.faults.add(OrderFault(kind="reject"))
    return order(who)


def preopen():
    who = trader(2026, 11, 27, 8, 5, 59)
    inst_id = next(name for name, one in who.bench.venue.listings.items() if one.state == "preopen")
    arg = {"instId": inst_id, "tdMode": "cross", "side": "buy", "ordType": "market", "sz": "1"}
    return rest(who, "POST", "trade/order", arg)


def twice_named():
    who = trader()
    resting(who, clOrdId="same")
    return order(who, clOrdId="same")


def batch(name, count, **change):
    who = trader()
    arg = {"instIdCode": who.code(SWAP), "ordId": "1", "newSz": "1", **change}
    return of(who.op(name, *[arg] * count)[0])


def get(path, **query):
    return rest(trader(), "GET", path, **query)


def fewer_orders_allowed():
    """The venue's limit is 4,000; here it is 40."""
    who = trader(is_alone=True)
    who.bench.venue.exchange._desk._max_orders = 40
    return many(who, [SWAP, NEXT], 2)


def said_too_often():
    connection = shared().connect()
    for _ in range(481):
        connection.receive_text(json.dumps({"op": "unsubscribe", "args": [BOOKS]}), 0)
    return json.loads(connection.texts_to_send()[-1])["code"]


def rest_too_often():
    who = trader()
    return often(lambda: rest(who, "GET", "account/config"), 6)


def orders_too_often():
    who = trader()
    args = [
        {
            "instIdCode": who.code(name),
            "tdMode": "cross",
            "side": "buy",
            "ordType": "ioc",
            "px": "1",
            "sz": "1",
        }
        for name in every_derivative()
    ]
    return often(lambda: in_turn(who, args), 1_000 // 20 + 1)


def in_turn(who, args):
    """Send one batch of twenty, of the next instrument; only a refusal of the whole counts."""
    args.append(args.pop(0))
    code = who.op("batch-orders", *[args[-1]] * 20)[0]["code"]
    return "0" if code == "1" else code


def every_derivative():
    return [name for name, one in shared().venue.listings.items() if one.inst_type != "SPOT"]


def too_many_switches():
    who = trader()
    codes = []
    for number in range(21):
        codes.append(rest(who, "POST", "trade/cancel-all-after", {"timeOut": "60", "tag": f"t{number}"}))
    return codes[-1]


def authorized():
    who = trader()
    request = who.signed("GET", "account/balance", None, {}, authorization="Bearer x")
    del request.headers["ok-access-key"]
    return of(json.loads(who.bench.venue.answer(request, who.bench.now_ns).body))


VIP = OkexOptions(is_vip=True)
TBT = {"channel": "books-l2-tbt", "instId": SWAP}
BOOKS = {"channel": "books", "instId": SWAP}
CLIENT = {
    # Websocket, section 2.6
    "60004": lambda: logged_in(timestamp="soon"),
    "60005": lambda: logged_in(apiKey="no key"),
    "60006": lambda: logged_in(timestamp="1795305500"),
    "60007": lambda: logged_in(sign="x"),
    "60009": lambda: logged_in(Secrets(UUID, "secret", "words", refusal="50110")),
    "60011": lambda: subscribed("private", args=[{"channel": "account"}]),
    "60012": lambda: said(text="[]"),
    "60013": lambda: subscribed(args=["books"]),
    "60014": said_too_often,
    "60018": lambda: subscribed(args=[{"channel": "books", "instId": "BTC-USD-170331"}]),
    "60019": lambda: said(op="shout", args=[]),
    "60024": lambda: logged_in(passphrase="wrong"),
    "60026": lambda: said("private", op="login", args=[{"apiKey": "a"}, {"token": "b"}]),
    "60027": lambda: subscribed(args=[{"channel": ""}]),
    "60028": lambda: said(id="1", op="order", args=[{}]),
    "60031": lambda: said("private", True, op="login", args=[{}]),
    "60032": lambda: logged_in(apiKey=UUID),
    "60033": lambda: said(id="with-hyphen", op="subscribe", args=[BOOKS]),
    "64000": lambda: subscribed(
        args=[{"channel": "estimated-price", "instType": "FUTURES", "uly": "BTC-USD"}]
    ),
    "64001": lambda: subscribed("private", args=[{"channel": "candle1m", "instId": SWAP}]),
    "64002": lambda: subscribed("business", args=[BOOKS]),
    "64003": lambda: subscribed(login=True, args=[TBT]),
    "64004": lambda: subscribed(login=True, options=VIP, args=[BOOKS, TBT]),
    # Requests, section 10
    "50000": lambda: unsigned(b""),
    "50002": lambda: unsigned(b"{"),
    "50006": lambda: unsigned(b"{}", **{"content-type": "text/plain"}),
    "50011": rest_too_often,
    "50014": lambda: get("account/leverage-info"),
    "50015": lambda: rest(trader(), "POST", "account/set-leverage", {"lever": "5", "mgnMode": "cross"}),
    "50016": lambda: get("trade/order", instId=SWAP, instIdCode="3", ordId="1"),
    "50024": lambda: order(trader(), pxUsd="1"),
    "50025": lambda: get("account/balance", ccy=",".join("abcdefghijklmnopqrstuv")),
    "50036": lambda: expiring(-1),
    "50037": lambda: expiring(1, processing_ms=5),
    "50038": lambda: keyed(path="asset/currencies", more={"x-simulated-trading": "1"}.items()),
    "50061": orders_too_often,
    "50072": lambda: order(trader(options=OkexOptions(account_level="3")), tdMode="isolated"),
    "50100": lambda: keyed(refusal="50100"),
    "50101": lambda: keyed(is_demo_only=True),
    "50102": lambda: header(TIMESTAMP="2026-11-21T23:59:00.000Z"),
    "50103": lambda: header(KEY=None),
    "50104": lambda: header(PASSPHRASE=None),
    "50105": lambda: header(PASSPHRASE="wrong"),
    "50106": lambda: header(SIGN=None),
    "50107": lambda: header(TIMESTAMP=None),
    "50110": lambda: keyed(refusal="50110"),
    "50111": lambda: header(KEY="no key"),
    "50112": lambda: header(TIMESTAMP="1795305600"),
    "50113": lambda: header(SIGN="x"),
    "50114": authorized,
    "50119": lambda: header(KEY=UUID),
    "50120": lambda: keyed("POST", "trade/order", {}, may_trade=False),
    "51000": lambda: order(trader(), side="up"),
    "51001": lambda: get("trade/order", instId="BTC-USD-170331", ordId="1"),
    "51002": lambda: get("trade/fills", instType="FUTURES", instId=FUTURE, instFamily="ETH-USD"),
    "51003": lambda: op(trader(), "cancel-order"),
    "51005": lambda: order(trader(), inst_id=SPOT, px="80000", sz="20"),
    "51006": lambda: order(trader(), px="100000"),
    "51008": lambda: order(trader(), sz="1000000"),
    "51010": lambda: order_in("1"),
    "51015": lambda: get("trade/orders-pending", instType="SWAP", instId=FUTURE),
    "51016": twice_named,
    "51020": lambda: order(trader(), sz="0.01"),
    "51021": preopen,
    "51022": lambda: traded("closed"),
    "51023": lambda: closing(held=False),
    "51025": fewer_orders_allowed,
    "51027": lambda: at_the_hour(FUTURE, (2026, 11, 27, 7, 59, 58), by_rest=True, ms=1_500),
    "51028": lambda: at_the_hour(FUTURE, (2026, 11, 27, 7, 59, 58), by_rest=True),
    "51029": lambda: at_the_hour(NEXT, (2026, 11, 24, 7, 59, 58)),
    "51030": lambda: at_the_hour(SWAP, (2026, 11, 24, 15, 59, 58)),
    "51039": lambda: leverage(level="4"),
    "51041": lambda: rest(
        trader(options=OkexOptions(account_level="4")),
        "POST",
        "account/set-position-mode",
        {"posMode": "long_short_mode"},
    ),
    "51071": too_many_switches,
    "51101": lambda: order(trader(), sz="200000000"),
    "51102": lambda: many(trader(), [SWAP], 26),
    "51111": lambda: batch("batch-orders", 21),
    "51112": lambda: hedged("5"),
    "51115": closing,
    "51121": lambda: order(trader(), sz="0.15"),
    "51149": refused_by_fault,
    "51169": lambda: reduced(reduceOnly=True),
    "51170": lambda: reduced("buy", "buy", reduceOnly=True),
    "51202": lambda: order(trader(), ordType="market", sz="50000"),
    "51400": lambda: op(trader(), "cancel-order", ordId="1"),
    "51500": amended,
    "51501": lambda: batch("batch-amend-orders", 21),
    "51502": lambda: amended(newSz="1000000"),
    "51503": amended_after_the_end,
    "51511": amended_into_the_book,
    "51512": lambda: batch("batch-amend-orders", 2),
    "51513": amended_in_flight,
    "51603": lambda: get("trade/order", instId=SWAP, ordId="1"),
    "54012": lambda: traded("reduce_only"),
    "54036": lambda: order(trader(), ordType="fok", stpMode="cancel_both"),
    "59000": mode_while_open,
    "59101": lambda: leverage_of_what_is_held("limit", "isolated"),
    "59102": lambda: leverage("101"),
    "59105": lambda: leverage("0.5"),
    "59107": lambda: leverage_of_what_is_held("limit"),
    "59108": lambda: leverage_of_what_is_held("market"),
}
# What the venue says of itself, of products and services that are not here, or in another code's place.
VENUE = {
    "60008": "60018, 64001 and 64002 are said of a wrong URL",
    "60023": "there is no login of several keys at once",
    "63999": "internal",
    "64007": "internal",
    "50001": "busy",
    "50004": "a time-out",
    "50005": "no endpoint is gone",
    "50013": "busy",
    "50026": "internal",
    **dict.fromkeys([str(code) for code in range(50017, 50024)], "an account that is frozen for a while"),
    "50030": "50120 is said of a key that may not",
    "50035": "no key has to be bound to an address",
    "50040": "50011 is said of what is too frequent",
    "50042": "no request is known again",
    "50053": "nothing is for the demo alone",
    "51004": "there is one tier, above what an account can carry",
    "51009": "no account is blocked",
    "51011": "ordIds are the venue's",
    "51024": "no account is blocked",
    "51037": "54012 is said where only what reduces is taken",
    "51038": "54012 is said where only what reduces is taken",
    "51054": "51149 is said of an order that timed out",
    "51063": "51603 is said of an order that is not there",
    **dict.fromkeys(("51103", "51174"), "51025 and 51102 are said of too many orders"),
    **dict.fromkeys([str(code) for code in range(51104, 51108)], "51101 is said of a size"),
    "51108": "the venue of a position too large to close",
    "51109": "a book is never empty",
    "51116": "51006 is said of a price",
    "51117": "nobody counts closing orders",
    "51120": "51020 is said of a size",
    "51127": "51008 is said of an empty account",
    "51131": "51008 is said of what is not there",
    **dict.fromkeys([str(code) for code in range(51135, 51139)], "51006 is said of a price"),
    "51148": "51170 is said of the wrong direction",
    "51186": "59102 is said of a leverage",
    "51187": "there is one tier",
    **dict.fromkeys(("51401", "51402"), "of Nitro spreads"),
    **dict.fromkeys(("51404", "51508"), "there is no call auction"),
    **dict.fromkeys(("51405", "51410", "51412"), "cancels are done at once"),
    "51506": "what cannot be amended does not rest",
    "54008": "of options",
    "59109": "59108 is said of too little margin",
    "59112": "59107 is said of orders in the way",
}


@pytest.mark.parametrize("code", CLIENT)
def test_a_client_can_provoke_this_code(code):
    assert CLIENT[code]() == code


def test_what_the_venue_says_of_itself_a_fault_says_for_it(stand_of_rest):
    who, answer = stand_of_rest
    for code in VENUE:
        if code.startswith("6"):
            who.bench.venue.faults.inject("error", {"method": "WS", "path": "subscribe", "code": code}, 0)
            assert said(bench=who.bench, op="subscribe", args=[BOOKS]) == code
        else:
            who.bench.venue.faults.inject("error", {"path": "/public/time", "code": code}, 0)
            assert answer()["code"] == code
    assert who.bench.get("public/time")[1]["code"] == "0"


@pytest.fixture
def stand_of_rest():
    who = trader()
    request = RestRequest("GET", "/api/v5/public/time")
    return who, lambda: json.loads(answer_with_faults(who.bench.venue, request, who.bench.now_ns, 0).body)


def test_every_code_of_the_sheet_has_its_line():
    if not SHEET.exists():
        pytest.skip(f"{SHEET} is not there: the fact sheet lives beside the repo")
    text = SHEET.read_text("utf-8")
    found = set()
    for title in ("### 2.6 WebSocket error codes", "## 10. Error codes"):
        part = text.split(title)[1].split("\n## ")[0]
        for line in part.splitlines():
            cell = re.match(r"\| ([\d, /()x+.-]+(?:\(\d+\))?[^|]*)\|", line)
            if cell:
                found |= codes_of(re.sub(r"\([^)]*\)", "", cell[1]))
    assert len(found) > 150
    assert found - {"0", "1", "2", "64008"} - CLIENT.keys() - VENUE.keys() == set()


def codes_of(cell):
    """Return the codes of a cell of the sheet, ranges written out."""
    codes = set(re.findall(r"\b\d{1,5}\b", cell))
    for first, last in re.findall(r"(\d{5})-(\d{5})", cell):
        codes |= {str(code) for code in range(int(first), int(last) + 1)}
    return codes
