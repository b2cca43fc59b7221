"""The simulated OKX v5 without I/O: listings, subscriptions, the roll, faults; accounts and trading.

Implements ``venue.Venue``. Requests come in through ``OkexConnection`` and ``answer``; ``publish`` brings
every listener up to a time of the flow. Orders and money are the engine's (``exchange``), their spelling is
that of ``okex_trade``, ``okex_private`` and ``okex_private_rest``. Written from the fact sheet, sections 2 to
11 and 14.
"""

import ipaddress
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random
from typing import Any

from dquant.constants import NS_PER_MS, NS_PER_S
from dquant.simulator import okex_data as data
from dquant.simulator.exchange import Exchange, ExchangeOptions, TradingMode
from dquant.simulator.exchange_faults import AnswerPlan
from dquant.simulator.faults import Fault, FaultBoard
from dquant.simulator.flow import Flow
from dquant.simulator.okex_account import AccountSettings
from dquant.simulator.okex_candles import CandlePushes, Candles
from dquant.simulator.okex_connection import OkexConnection, Subscription
from dquant.simulator.okex_contracts import COINS, FUNDS
from dquant.simulator.okex_errors import OkexError, refusal
from dquant.simulator.okex_feed import InstrumentFeed
from dquant.simulator.okex_instruments import Listing, next_change_ns, universe
from dquant.simulator.okex_login import KeyRing, Secrets, check_request
from dquant.simulator.okex_markets import demo_code
from dquant.simulator.okex_messages import (
    ALGO_CHANNELS,
    BOOK_CHANNELS,
    BUSINESS_CHANNELS,
    CANDLE_CHANNELS,
    DERIVATIVE_CHANNELS,
    FUNDING_CHANNELS,
    INDEX_CHANNELS,
    INSTRUMENT_CHANNELS,
    TIER_CHANNELS,
    TYPE_CHANNELS,
    dump,
    push,
)
from dquant.simulator.okex_orders import decimal_text
from dquant.simulator.okex_private import OkexPrivate, PushOptions
from dquant.simulator.okex_private_rest import PREFIXES, OkexPrivateRest
from dquant.simulator.okex_reference import ReferenceBars
from dquant.simulator.okex_rest import OkexRest
from dquant.simulator.okex_settlements import Settlements
from dquant.simulator.okex_trade import Answer, OkexDesk, TradeOptions
from dquant.simulator.orders import OrderRequest
from dquant.simulator.units import fixed
from dquant.simulator.venue import CLOSE_ABORT, Refusal, RestAnswer, RestRequest, true_top

_WS_PATHS = {f"/ws/v5/{kind}": kind for kind in ("public", "private", "business")}
_FIRST_UID = 447_058_923_436_195
_INST_TYPES = ("SPOT", "MARGIN", "SWAP", "FUTURES", "OPTION")
_CONNECTIONS, _LOCAL_CLIENTS = 3, 10  # new ones in a second; section 2.5
_HOUR_NS, _SETTLED_NS, _DAY_NS = 3600 * NS_PER_S, 8 * 3600 * NS_PER_S, 24 * 3600 * NS_PER_S
_FAULT_CODES = {"rate_limited": "50011", "overloaded": "50001", "timeout": "50004", "error": "50026"}
# REST says these of an instrument, the instruments channel does not (docs page of 2026-06-27).
_REST_ONLY = frozenset(
    {"floatPxLmtPct", "freq", "initPxLmtPct", "longPosRemainingQuota", "maxPlatOICoinLmt", "maxPlatOILmt"}
    | {"maxPxLmtPct", "method", "posLmtAmt", "posLmtPct", "rpiMinLevel", "rpiMinPxBand", "seriesId"}
    | {"shortPosRemainingQuota", "tradeQuoteCcyList"}
)


@dataclass(frozen=True, slots=True)
class OkexOptions:
    """How this OKX differs from the usual one.

    Args:
        has_alias: False leaves ``alias`` out of the instruments, as the venue announced.
        data_before_ack: The first push comes before the ack of its subscription.
        connections_per_second: More from one address are refused; 0 is no limit, None ``_usual_connections``.
        push_before_ack: What an order sets off is pushed before its operation is answered.
        is_vip: The fills channel and the deep books are open.
        limit_status: HTTP status of 50011: 429 or 200.
        account_level: acctLv of new accounts: 1 spot, 2 futures, 3 multi-currency.
        trade: How trading differs.
        pushes: How private pushes differ.

    """

    has_alias: bool = True
    data_before_ack: bool = False
    connections_per_second: int | None = None
    push_before_ack: bool = False
    is_vip: bool = False
    limit_status: int = 429
    account_level: str = "2"
    trade: TradeOptions = field(default_factory=TradeOptions)
    pushes: PushOptions = field(default_factory=PushOptions)


class OkexServer:
    """The venue.

    Args:
        flow: The market; this venue's instruments are added to it.
        secrets: The keys that may log in; each account is opened with ``FUNDS``.
        options: How it differs from the usual.

    """

    name = "okex"
    ws_paths = tuple(_WS_PATHS)

    def __init__(
        self, flow: Flow, secrets: Secrets | Sequence[Secrets], options: OkexOptions | None = None
    ) -> None:
        all_secrets = [secrets] if isinstance(secrets, Secrets) else list(secrets)
        self._all_keys: KeyRing = {one.api_key: one for one in all_secrets}
        self.options = options or OkexOptions()
        self.push_before_ack, self.is_vip = self.options.push_before_ack, self.options.is_vip
        self.faults = FaultBoard()
        self.counters: Counter[str] = Counter()
        self.now_ns, self.real_ns = flow.now_ns, 0
        self.listings: dict[str, Listing] = {}
        self.feeds: dict[str, InstrumentFeed] = {}
        self._flow = flow
        self._rng = Random(f"{flow.seed}/okex")
        self._first_index = {
            index_id: self.index(index_id) for index_id in ("BTC-USD", "BTC-USDT", "ETH-USD")
        }
        self._connections: dict[str, OkexConnection] = {}
        self._listeners: dict[Subscription, dict[str, OkexConnection]] = {}
        # First pictures that could not be given yet: the book is frozen, or its contract is not trading.
        self._waiting: list[tuple[OkexConnection, Subscription]] = []
        self._index_shown: dict[str, tuple[str, int]] = {}
        self._references = ReferenceBars(flow, tuple(self._first_index))
        self.candles = Candles(self.feeds, self._references)
        self._candle_pushes = CandlePushes(self.candles)
        self._index_slot = self._estimate_slot = 0
        self._notes: list[dict[str, Any]] = []
        self._next_listing_ns = 0
        self.settlements = Settlements(flow)
        self.exchange = Exchange(
            "okex",
            flow,
            COINS,
            ExchangeOptions(
                delivery_price=self._delivery_price,
                settlement_price=self._settlement_price,
                has_delivery_orders=True,
                house_note=self._house_note,
            ),
        )
        settings = {}
        for number, account in enumerate(dict.fromkeys(one.account for one in all_secrets)):
            settings[account] = AccountSettings(str(_FIRST_UID + number), self.options.account_level)
            self.exchange.open_account(account, FUNDS)
        self.desk = OkexDesk(self, self.exchange, settings, self.options.trade)
        self.private = OkexPrivate(self.desk, self.options.pushes, self.faults)
        self._shows_demo_codes = False
        self._suspended: set[str] = set()  # as far as it was told
        self._trading_told = 0
        self._limits_slot = 0
        self._is_maintained = False
        self._rest = OkexRest(self)
        self._private_rest = OkexPrivateRest(self.desk, self.private, self._rest.instruments)
        self._update_listings(self.now_ns, 0)
        self._references.look(self.feeds, self.now_ns)
        self._notes.clear()  # what was there from the start is no news

    # Connections

    def connect(
        self,
        path: str,
        query: str,
        real_ns: int,
        headers: Mapping[str, str] | None = None,
        remote: str = "",
    ) -> OkexConnection | Refusal:
        """Take a new connection; the demo's says so by its header or, as old clients do, by a brokerId."""
        named = {name.lower(): value for name, value in (headers or {}).items()}
        is_demo = named.get("x-simulated-trading") == "1" or "brokerId=9999" in query
        kind = _WS_PATHS.get(path)
        if kind is None:
            return Refusal(404, "no such websocket")
        if self.faults.holds("refuse", real_ns):
            self.counters["refused"] += 1
            return Refusal(503, "Service Unavailable")
        most = self.options.connections_per_second
        if most is None:
            most = _usual_connections(remote)
        if most and self.desk.limiter.is_too_many_connections(remote, real_ns, most):
            self.counters["refused"] += 1
            return Refusal(429, "Too Many Requests")
        conn_id = f"{self._rng.randrange(16**8):08x}"
        connection = OkexConnection(self, kind, conn_id, real_ns, is_demo=is_demo)
        self._connections[conn_id] = connection
        self.counters["connections"] += 1
        return connection

    def disconnected(self, connection: OkexConnection) -> None:
        """Forget a connection whose socket is gone."""
        self._connections.pop(connection.conn_id, None)
        for subscription in list(connection.subscribed):
            if connection.kind == "private":
                self.private.unsubscribed(connection, subscription)
            else:
                self.unsubscribed(connection, subscription)
        connection.subscribed.clear()

    def connections(self) -> list[OkexConnection]:
        """Return the open connections."""
        return list(self._connections.values())

    def count_request(self, request: RestRequest, now_ns: int) -> dict[str, str]:
        """Return the headers of a request that a fault refuses: OKX tells of no limits in them."""
        return {}

    def clock_s(self) -> int:
        """Return the time that answers are dated with, s."""
        return self.request_ms() // 1000

    # What connections ask

    @property
    def data_before_ack(self) -> bool:
        """Whether the first push comes before the ack of its subscription."""
        return self.options.data_before_ack or self.faults.holds("data_first", self.real_ns)

    @property
    def keys(self) -> KeyRing:
        """The keys that may log in now."""
        return {} if self.faults.holds("revoked", self.real_ns) else self._all_keys

    def request_ms(self, now_ns: int | None = None) -> int:
        """Return the clock that requests' times are held against, ms; a fault may put it off."""
        now_ns = self.now_ns if now_ns is None else now_ns
        return (now_ns + self.faults.skew_ns(self.real_ns)) // NS_PER_MS

    def count(self, what: str) -> None:
        """Count something that happened."""
        self.counters[what] += 1

    def index(self, index_id: str) -> float:
        """Return the index of this name."""
        coin, quote = index_id.split("-")
        return self._flow.index(coin, quote)

    def resolve(self, channel: str, arg: dict[str, Any]) -> Subscription | None:
        """Return what an arg stands for; None where there is no such channel or instrument."""
        inst_id = arg.get("instId")
        if channel in INDEX_CHANNELS:
            return (channel, inst_id) if isinstance(inst_id, str) and inst_id in self._first_index else None
        if channel in ALGO_CHANNELS:
            kinds = ("ANY", "MARGIN", *_INST_TYPES)
            return (channel, arg["instType"]) if arg.get("instType") in kinds else None
        if channel in INSTRUMENT_CHANNELS | TIER_CHANNELS | BUSINESS_CHANNELS:
            listing = self.listings.get(inst_id) if isinstance(inst_id, str) else None
            if listing is None:
                return None
            if channel in DERIVATIVE_CHANNELS and listing.inst_type == "SPOT":
                return None
            if channel in FUNDING_CHANNELS and not listing.has_funding:
                return None
            return channel, listing.inst_id
        if channel == "status":
            return channel, ""
        inst_type = arg.get("instType")
        if inst_type not in _INST_TYPES:
            return None
        if channel == "instruments":
            return channel, inst_type
        family = arg.get("instFamily") or arg.get("instId")
        return (channel, family) if isinstance(family, str) and inst_type == "FUTURES" else None

    def subscribed(self, connection: OkexConnection, subscription: Subscription, real_ns: int) -> None:
        """Start a subscription and say at once what is already known."""
        channel, name = subscription
        self._listeners.setdefault(subscription, {})[connection.conn_id] = connection
        if channel == "index-tickers":
            connection.push(self._index_text(name), real_ns)
        elif channel == "status":
            connection.push(push({"channel": "status"}, self.status_row()), real_ns)
        elif channel in TYPE_CHANNELS | ALGO_CHANNELS:
            pass  # nothing is said at once
        elif not self._first_push(connection, subscription, real_ns):
            self._waiting.append((connection, subscription))

    def unsubscribed(self, connection: OkexConnection, subscription: Subscription) -> None:
        """End a subscription."""
        listeners = self._listeners.get(subscription, {})
        listeners.pop(connection.conn_id, None)
        self._waiting = [entry for entry in self._waiting if entry != (connection, subscription)]
        if not listeners:
            self._listeners.pop(subscription, None)
            feed = self.feeds.get(subscription[1])
            self._candle_pushes.forget(subscription)
            if feed is not None:
                feed.forget(subscription[0])

    # Time

    def publish(self, now_ns: int, real_ns: int) -> None:
        """Bring every listener up to this time, and do the housekeeping of connections."""
        self.now_ns, self.real_ns = now_ns, real_ns
        slot = now_ns // NS_PER_S
        if slot != self._limits_slot:
            self._limits_slot = slot
            self.desk.keep_limits()
        self.desk.switches.pass_time()
        self.private.publish(now_ns, real_ns)
        if now_ns >= self._next_listing_ns:
            self._update_listings(now_ns, real_ns)
            self._tell_trading(real_ns)
        elif self._trading_told != self.exchange.trading_changes:
            self._tell_trading(real_ns)
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            self._waiting += [entry for entry in waiting if not self._first_push(*entry, real_ns)]
        for name, feed in self.feeds.items():
            for channel, text in feed.publish(now_ns, real_ns):
                self._send((channel, name), text, real_ns)
        self._references.look(self.feeds, now_ns)
        for listened, text in self._candle_pushes.publish(self._listeners, now_ns):
            self._send(listened, text, real_ns)
        self._publish_indices(now_ns, real_ns)
        self._publish_estimates(now_ns, real_ns)
        self._keep_house(real_ns)

    def answer(self, request: RestRequest, now_ns: int) -> RestAnswer:
        """Answer a REST request."""
        self.counters["rest"] += 1
        if self.faults.holds("refuse", self.real_ns):
            # A gateway's answer, not the venue's: no JSON.
            return RestAnswer(503, b"<html><body>503 Service Unavailable</body></html>", {}, "text/html")
        self._shows_demo_codes = request.headers.get("x-simulated-trading") == "1"
        path = request.path.removeprefix("/api/v5/")
        try:
            if path.startswith(PREFIXES):
                secrets = check_request(request, self.keys, self.request_ms(now_ns))
                if path.startswith("asset/") and self._shows_demo_codes:
                    raise OkexError("50038")
                answer = self._private_rest.answer(secrets.account, request, self.now_ns, self.real_ns)
                self.tell(self.real_ns)
                return answer
            # Who asks is known of sockets alone.
            if request.remote and self.desk.limiter.is_too_much(path, _address_key(request), self.real_ns):
                raise OkexError("50011")
        except OkexError as exc:
            return self._refused(exc)
        return self._rest.answer(request, now_ns)

    def operate(self, account: str, operation: str, args: Any, exp_time: Any, real_ns: int) -> Answer:
        """Do a trading operation of a websocket; raises ``OkexError`` where it is refused as a whole."""
        if operation == "mass-cancel":
            raise OkexError("51411")
        if not isinstance(args, list):
            raise OkexError("60013")
        fault = self.faults.take_rest("WS", operation, real_ns)
        if fault is None:
            return self.desk.operate(account, operation, args, real_ns, by_code=True, exp_time=exp_time)
        self.counters[f"fault_{fault.kind}"] += 1
        if fault.kind in ("timeout", "lost_answer") and fault.done:
            self.desk.operate(account, operation, args, real_ns, by_code=True, exp_time=exp_time)
        if fault.kind == "lost_answer":
            return Answer([], "0", "", plan=AnswerPlan(lost=True))
        raise refusal(fault.code or _FAULT_CODES[fault.kind])

    def fault_code(self, op: str, real_ns: int) -> str | None:
        """Return the code with which a fault refuses a login or a subscription now.

        A lost answer or a time-out is meant for orders unless its ``method`` is WS.
        """
        fault = self.faults.take_rest("WS", op, real_ns, by_name=("lost_answer", "timeout"))
        if fault is None:
            return None
        self.counters[f"fault_{fault.kind}"] += 1
        usual = {"rate_limited": "60014", "overloaded": "63999" if op == "login" else "64007"}
        return fault.code or usual.get(fault.kind, "60009" if op == "login" else "64007")

    def tell(self, real_ns: int) -> None:
        """Push what trading set off to whoever listens."""
        self.private.publish(self.now_ns, real_ns)

    def truth(self) -> dict[str, Any]:
        """Return the true tops of book."""
        return {name: true_top(feed.market) for name, feed in self.feeds.items()}

    def events_of_note(self) -> list[dict[str, Any]]:
        """Return deliveries and listings since the last call."""
        notes, self._notes = self._notes, []
        return notes

    def row(self, listing: Listing) -> dict[str, Any]:
        """Return an instrument's row as this venue shows it."""
        row = listing.row
        if listing.inst_id in self._suspended:
            row = {**row, "state": "suspend"}
        if self._shows_demo_codes:
            row = {**row, "instIdCode": demo_code(listing)}
        if self.options.has_alias:
            return row
        return {key: value for key, value in row.items() if key != "alias"}

    def index_row(self, index_id: str) -> dict[str, Any] | None:
        """Return an index ticker; None where there is no such index."""
        first = self._first_index.get(index_id)
        return (
            None if first is None else data.index_ticker(index_id, self.index(index_id), first, self.now_ns)
        )

    def status_row(self) -> dict[str, Any]:
        """Return the newest maintenance."""
        return data.status(self.now_ns, self._is_maintained)

    def index_ids(self) -> list[str]:
        """Return the names of the indices."""
        return list(self._first_index)

    # Inside

    def _delivery_price(self, symbol: str) -> Decimal:
        """Return what a contract is delivered at; the engine asks."""
        rows = self.desk.markets.rows(symbol)
        assert rows is not None  # only listed instruments are delivered
        return Decimal(self.settlements.deliver(rows.listing))

    def _house_note(self, account: str, request: OrderRequest) -> dict[str, object]:
        """Return what orders keep that liquidate or deliver a position; the engine asks."""
        leverage = self.exchange.leverage(
            account, request.symbol, request.pos_side, is_isolated=request.is_isolated
        )
        return {"ordType": "market", "lever": decimal_text(leverage)}

    def _settlement_price(self, symbol: str) -> Decimal:
        """Return what a contract is settled at today; the engine asks."""
        feed = self.feeds[symbol]
        return Decimal(self.settlements.settle(feed.listing, feed.market.mark, self.exchange.now_ns))

    def _refused(self, error: OkexError) -> RestAnswer:
        """Return a refusal in the venue's envelope; those of the headers come without ``data``."""
        self.count(f"error_{error.code}")
        status = self.options.limit_status if error.code == "50011" else error.status
        return RestAnswer(status, dump(error.envelope()).encode())

    def _first_push(self, connection: OkexConnection, subscription: Subscription, real_ns: int) -> bool:
        """Send a new listener the present state; False where there is none yet."""
        channel, name = subscription
        if channel in CANDLE_CHANNELS:
            text = self._candle_pushes.first_push(subscription, self.now_ns)
            if text is not None:
                connection.push(text, real_ns)
            return text is not None
        feed = self.feeds.get(name)
        if feed is None or (channel in BOOK_CHANNELS | TIER_CHANNELS and feed.is_frozen(real_ns)):
            return False
        feed.listen(channel, self.now_ns)
        text = feed.first_push(channel, self.now_ns, real_ns)
        if text is not None:
            connection.push(text, real_ns)
        return True

    def _send(self, subscription: Subscription, text: str, real_ns: int) -> None:
        listeners = self._listeners.get(subscription)
        if not listeners:
            return
        self.counters["frames"] += len(listeners)
        is_awaited = {id(connection) for connection, waiting in self._waiting if waiting == subscription}
        for connection in listeners.values():
            if id(connection) not in is_awaited:
                connection.push(text, real_ns)

    def _update_listings(self, now_ns: int, real_ns: int) -> None:
        """Deliver what has expired, list what is new, and say so on the instruments channel."""
        before, self.listings = self.listings, universe(now_ns)
        self._next_listing_ns = next_change_ns(now_ns)
        if before and self.faults.holds("unlisted", real_ns):
            # New contracts wait, and what opens stays as it was; looked at again in a second.
            self._next_listing_ns = min(self._next_listing_ns, now_ns + NS_PER_S)
            self.listings = {
                name: listing if listing.state == before[name].state else before[name]
                for name, listing in self.listings.items()
                if name in before
            }
        for name, listing in before.items():
            if name in self.listings:
                continue
            if name in self.feeds:
                self.desk.markets.prices(name)
                self.desk.markets.delisted(listing)
                self.tell(real_ns)
                del self.feeds[name]
                self._flow.remove(name)
            self._notes.append({"event": "expired", "venue": self.name, "inst_id": name, "ts": now_ns})
            self._push_row(listing, "expired", real_ns)
        for name, listing in self.listings.items():
            old = before.get(name)
            if old is not None and old.state == listing.state:
                if name in self.feeds:
                    self.feeds[name].listing = listing  # the alias may have moved on
                    self.desk.markets.relisted(listing)
                continue
            if listing.state == "live":
                market = self._flow.add(listing.spec)
                feed = self.feeds[name] = InstrumentFeed(listing, market, self.faults)
                self.desk.markets.listed(listing, feed)
                for channel, of in self._listeners:
                    if of == name:
                        feed.listen(channel, now_ns)
            event = "listed" if listing.state == "live" else listing.state
            self._notes.append({"event": event, "venue": self.name, "inst_id": name, "ts": now_ns})
            self._push_row(listing, listing.state, real_ns)

    def _tell_trading(self, real_ns: int) -> None:
        """Say on the instruments channel where trading stopped or goes on."""
        self._trading_told = self.exchange.trading_changes
        self._suspended &= self.feeds.keys()
        for name, feed in self.feeds.items():
            is_closed = self.exchange.trading(name) is TradingMode.CLOSED
            if is_closed != (name in self._suspended):
                self._suspended ^= {name}
                self._push_row(feed.listing, "suspend" if is_closed else "live", real_ns)

    def _push_row(self, listing: Listing, state: str, real_ns: int) -> None:
        subscription = ("instruments", listing.inst_type)
        if subscription in self._listeners:
            row = {**self.row(listing), "state": state}
            row = {key: value for key, value in row.items() if key not in _REST_ONLY}
            arg = {"channel": "instruments", "instType": listing.inst_type}
            self._send(subscription, push(arg, row), real_ns)

    def _index_text(self, index_id: str) -> str:
        row = data.index_ticker(index_id, self.index(index_id), self._first_index[index_id], self.now_ns)
        return push({"channel": "index-tickers", "instId": index_id}, row)

    def _publish_indices(self, now_ns: int, real_ns: int) -> None:
        slot = now_ns // (100 * NS_PER_MS)
        if slot == self._index_slot:
            return
        self._index_slot = slot
        for index_id in self._first_index:
            if ("index-tickers", index_id) not in self._listeners:
                continue
            price = fixed(self.index(index_id), 1)
            shown, sent_ns = self._index_shown.get(index_id, ("", 0))
            if price != shown or now_ns - sent_ns >= 60 * NS_PER_S:
                self._index_shown[index_id] = (price, now_ns)
                self._send(("index-tickers", index_id), self._index_text(index_id), real_ns)

    def _publish_estimates(self, now_ns: int, real_ns: int) -> None:
        """In the hour before a delivery or a daily settlement its price is estimated every 200 ms."""
        slot = now_ns // (200 * NS_PER_MS)
        if slot == self._estimate_slot:
            return
        self._estimate_slot = slot
        for channel, name in list(self._listeners):
            if channel != "estimated-price":
                continue
            for feed in self.feeds.values():
                listing = feed.listing
                if name not in (listing.family, listing.inst_id) or listing.expiry_ns is None:
                    continue
                is_delivery = listing.expiry_ns - now_ns <= _HOUR_NS
                is_settled = listing.row["futureSettlement"] and (_SETTLED_NS - now_ns) % _DAY_NS <= _HOUR_NS
                if is_delivery or is_settled:
                    row = data.estimated_price(listing, feed.market, now_ns, is_delivery=is_delivery)
                    for connection in self._listeners[channel, name].values():
                        connection.push(push(connection.subscribed[channel, name], row), real_ns)

    def _keep_house(self, real_ns: int) -> None:
        """Close what was silent too long, and do to connections what is asked for."""
        while (fault := self.faults.take("drop")) is not None:
            for connection in self._chosen(fault):
                connection.close(CLOSE_ABORT, "dropped")
        while (fault := self.faults.take("notice")) is not None:
            for connection in self._chosen(fault):
                connection.give_notice(real_ns, fault.seconds)
        is_maintained = self.faults.holds("maintenance", real_ns)
        if is_maintained != self._is_maintained:
            self._is_maintained = is_maintained
            self._send(("status", ""), push({"channel": "status"}, self.status_row()), real_ns)
        is_revoked = self.faults.holds("revoked", real_ns)
        for connection in self._connections.values():
            if is_revoked and connection.is_logged_in:
                connection.close(4007, "API key updated or deleted.")
            connection.keep_house(real_ns)

    def _chosen(self, fault: Fault) -> list[OkexConnection]:
        return [connection for name, connection in self._connections.items() if fault.conn_id in (None, name)]


def _usual_connections(remote: str) -> int:
    """Return how many websockets an address may open in a second; in process, without one, any number.

    The venue's three; this machine's own address stands for ten clients with three each, which live would not
    share one.
    """
    if not remote:
        return 0
    return _CONNECTIONS * _LOCAL_CLIENTS if ipaddress.ip_address(remote).is_loopback else _CONNECTIONS


def _address_key(request: RestRequest) -> str:
    """Return what public limits count by: the address, and the instrument or type where one is named."""
    names = (request.query.get(name, "")[:40] for name in ("instType", "instId"))
    return "/".join((request.remote, *names))
