"""The market behind both simulated venues: one fair price a coin, a basis and a live book an instrument.

In: a seed, which instruments there are (``add``, ``remove``), and virtual time (``advance``). Out: for
each ``FlowMarket`` a book with taps (``flow_book``), recent trades, index, mark, premium and funding.
Pure: the same seed, calls and times give the same output, byte for byte.

Time moves on a grid of 5 ms, so that the output does not depend on how often ``advance`` is called. A
leap of more than ``CATCH_UP_NS`` at once is not played through: prices take one large step and the
books are laid anew.

For a venue::

    market = flow.add(MarketSpec("XBTUSD", coin="BTC", tick="0.1", lot="100", …))
    tap = market.book.tap()
    flow.advance(now_ns)
    tap.take_changes(), tap.take_trades(), market.book.top(BID, 25), market.mark, market.funding

Clients' orders stand in the same books (``flow_book``): the background trades with them as with itself, and
refills what they take. Whoever owns such orders and timers joins as a ``TimeKeeper``.

Prices are whole ticks and sizes whole lots here (``market.tick.text(n)``, ``market.lot.text(n)`` write them);
index and mark are floats, rounded by whoever prints them.
"""

import math
from collections import deque
from dataclasses import dataclass
from random import Random
from typing import Protocol

from dquant.constants import NS_PER_MS, NS_PER_S
from dquant.simulator.bars import Past
from dquant.simulator.day_stats import DayStats
from dquant.simulator.flow_book import ASK, BID, FlowBook, Trade
from dquant.simulator.orders import Order
from dquant.simulator.units import Step

GRID_NS = 5 * NS_PER_MS
CATCH_UP_NS = 10 * NS_PER_S
_YEAR_S = 365.0 * 86_400
COINS = {"BTC": 84_000.0, "ETH": 2_900.0}  # fair prices at the start, USD

# Fair price: quiet diffusion, a jump now and then, and a slow pull home, so that weeks stay in a range.
_VOLATILITY = 2.0e-5  # per square root of a second
_JUMP_RATE = 1 / 25  # per second
_JUMP_SIZE = 2.5e-4
_PULL = 1 / 40_000  # per second
_BASIS_MEMORY_S = 45.0
_MARK_MEMORY_S = 20.0
_PREMIUM_MEMORY_S = 1800.0
_INTEREST = 1.0e-4  # of a funding interval
_FUNDING_CAP = 0.00375
_EVERYTHING = 1 << 62  # lots


@dataclass(frozen=True, slots=True)
class MarketSpec:
    """How one instrument behaves. Defaults are those of a busy dated future."""

    symbol: str
    coin: str  # a key of COINS
    tick: str  # price step, e.g. "0.1"
    lot: str  # size step in the venue's own size unit, e.g. "0.1" contract
    quote: str = "USD"  # USDT has a small premium of its own over USD
    depth: int = 500  # levels a side
    rate: float = 60.0  # happenings a second
    half_spread: float = 1.2  # ticks from fair to the quotes that makers aim at
    spacing: int = 6  # mean distance of levels, ticks
    size: float = 120.0  # mean size of a level near the top, lots
    basis_bp: float = 0.0  # mean basis to the index, basis points
    basis_spread_bp: float = 1.5  # how far the basis wanders round its mean
    carry: float = 0.0  # basis of a dated future, per year to expiry
    expiry_ns: int | None = None
    funding_hour: int | None = (
        None  # perpetuals: first settlement of the UTC day (OKX 0, BitMEX 4), every 8 hours
    )
    open_interest: int = 5_000_000  # lots


@dataclass(frozen=True, slots=True)
class Funding:
    """Funding of a perpetual as of now; times in ns, rates per interval, positive: longs pay."""

    rate: float  # estimate for the settlement at ``time``
    time: int
    next_time: int
    prev_time: int
    settled_rate: float  # what was paid at ``prev_time``
    premium: float


class CoinPrice:
    """The fair price of one coin, USD, and what it was before the start."""

    __slots__ = ("_home", "_rng", "past", "price", "usdt")

    def __init__(self, price: float, rng: Random, past: Past) -> None:
        self.price = self._home = price
        self.usdt = 1.0  # what a USDT price is over the USD price
        self._rng, self.past = rng, past

    def step(self, seconds: float) -> None:
        """Move on by this much time."""
        rng = self._rng
        drift = _PULL * seconds * (self._home / self.price - 1.0)
        move = drift + _VOLATILITY * math.sqrt(seconds) * rng.gauss(0.0, 1.0)
        if rng.random() < _JUMP_RATE * seconds:
            move += rng.gauss(0.0, _JUMP_SIZE)
        self.price *= 1.0 + max(-0.2, min(0.2, move))
        self.usdt += (1.0002 - self.usdt) * min(1.0, seconds / 600) + 1e-6 * math.sqrt(seconds) * rng.gauss(
            0.0, 1.0
        )


class FlowMarket:
    """One instrument: its book, and who trades and quotes in it."""

    def __init__(self, spec: MarketSpec, coin: CoinPrice, seed: int, now_ns: int) -> None:
        self.spec, self.coin = spec, coin
        self.tick, self.lot = Step(spec.tick), Step(spec.lot)
        self._rng = Random(f"{seed}/{spec.symbol}")
        first = self._rng.randrange(10**9, 9 * 10**10)
        self.book = FlowBook(sequence=first, last_trade_id=self._rng.randrange(10**6, 10**8))
        self.trades: deque[Trade] = deque(maxlen=500)
        self.premium = 0.0  # of the mid over the index, averaged as funding does
        self._wander = 0.0
        self._mark_premium = self._mean_basis(now_ns)
        self._basis_ns = now_ns
        self.next_ns = now_ns
        self.open_interest = spec.open_interest
        self._settled_rate = _INTEREST
        self._prev_funding_ns = self._funding_time(now_ns) - 8 * 3600 * NS_PER_S
        self._lay_book(now_ns)
        mid = self.book.tick_at(BID, 0)
        hourly = int(spec.rate * spec.size * 40)
        self.day = DayStats(now_ns, mid, hourly, self._rng, coin.past)

    @property
    def symbol(self) -> str:
        """The instrument's name at its venue."""
        return self.spec.symbol

    @property
    def index(self) -> float:
        """The index that the instrument follows, in its quote currency."""
        return self.coin.price * (self.coin.usdt if self.spec.quote == "USDT" else 1.0)

    @property
    def mark(self) -> float:
        """The mark price: the index with the averaged basis."""
        return self.index * (1.0 + self._mark_premium)

    @property
    def funding(self) -> Funding | None:
        """The funding of a perpetual; None for everything else."""
        if self.spec.funding_hour is None:
            return None
        interval = 8 * 3600 * NS_PER_S
        time = self._prev_funding_ns + interval
        return Funding(
            self._rate(), time, time + interval, self._prev_funding_ns, self._settled_rate, self.premium
        )

    def run_until(self, ts: int, activity: float) -> None:
        """Let everything happen that happens up to this time."""
        rate = self.spec.rate * activity
        while self.next_ns <= ts:
            self._happen(self.next_ns)
            self.next_ns += max(1, int(self._rng.expovariate(rate) * NS_PER_S))

    def leap(self, ts: int) -> None:
        """Come out at a far later time: same instrument, new prices, new book."""
        self._wander = self._rng.gauss(0.0, self.spec.basis_spread_bp * 1e-4)
        self._mark_premium = self._mean_basis(ts)
        self._basis_ns = self.next_ns = ts
        self._settle_funding(ts)
        self._lay_book(ts)

    # How prices move

    def _mean_basis(self, ts: int) -> float:
        spec = self.spec
        carry = (
            0.0 if spec.expiry_ns is None else spec.carry * max(0, spec.expiry_ns - ts) / NS_PER_S / _YEAR_S
        )
        return spec.basis_bp * 1e-4 + carry

    def _fair_ticks(self, ts: int) -> float:
        """Move the basis on and return the instrument's own fair price in ticks."""
        seconds = (ts - self._basis_ns) / NS_PER_S
        self._basis_ns = ts
        if seconds > 0:
            share = min(1.0, seconds / _BASIS_MEMORY_S)
            noise = self.spec.basis_spread_bp * 1e-4 * math.sqrt(2 * share) * self._rng.gauss(0.0, 1.0)
            self._wander += noise - self._wander * share
        basis = self._mean_basis(ts) + self._wander
        self._mark_premium += (basis - self._mark_premium) * min(1.0, seconds / _MARK_MEMORY_S)
        self.premium += (basis - self.premium) * min(1.0, seconds / _PREMIUM_MEMORY_S)
        if self.spec.funding_hour is not None:
            self._settle_funding(ts)
        return self.index * (1.0 + basis) / self.tick.value

    def _rate(self) -> float:
        damped = max(-0.0005, min(0.0005, _INTEREST - self.premium))
        return max(-_FUNDING_CAP, min(_FUNDING_CAP, self.premium + damped))

    def _funding_time(self, ts: int) -> int:
        """Return the next settlement strictly after ``ts``."""
        interval = 8 * 3600 * NS_PER_S
        offset = (self.spec.funding_hour or 0) * 3600 * NS_PER_S
        return ts - (ts - offset) % interval + interval

    def _settle_funding(self, ts: int) -> None:
        interval = 8 * 3600 * NS_PER_S
        if ts >= self._prev_funding_ns + interval:
            self._settled_rate = self._rate()
            self._prev_funding_ns = self._funding_time(ts) - interval

    # What happens in the book

    def _happen(self, ts: int) -> None:
        """One moment: somebody takes what the fair price has passed, or makers move, or noise."""
        book, rng, spec = self.book, self._rng, self.spec
        fair = self._fair_ticks(ts)
        book.begin(ts, 1 + int(rng.random() * 6))
        if not (book.background_depth(BID) and book.background_depth(ASK)):
            self._found(fair)
        bid, ask = book.tick_at(BID, 0), book.tick_at(ASK, 0)
        low, high = math.floor(fair - spec.half_spread), math.ceil(fair + spec.half_spread)
        if ask <= fair - 1:
            self._sweep(ts, BID, math.floor(fair))
        elif bid >= fair + 1:
            self._sweep(ts, ASK, math.ceil(fair))
        elif bid < low and rng.random() < 0.5:
            self._rest(BID, min(bid + 1 + int(rng.random() * (low - bid)), ask - 1), 0)
        elif ask > high and rng.random() < 0.5:
            self._rest(ASK, max(ask - 1 - int(rng.random() * (ask - high)), bid + 1), 0)
        elif rng.random() < 0.07:
            side = BID if rng.random() < 0.5 else ASK
            reach = 2 * spec.spacing
            self._take(ts, side, self._draw_lots(0.5), ask + reach if side == BID else bid - reach)
        else:
            self._shuffle()
        self._keep_depth(BID)
        self._keep_depth(ASK)

    def _sweep(self, ts: int, side: int, limit: int) -> None:
        """Takers run through what lies on the wrong side of the fair price; makers pull what they leave."""
        self._take(ts, side, self._draw_lots(3.0), limit)
        book, maker = self.book, ASK if side == BID else BID
        while book.depth(maker) and (
            (tick := book.tick_at(maker, 0)) <= limit
            if maker == ASK
            else (tick := book.tick_at(maker, 0)) >= limit
        ):
            if book.is_lonely(maker, tick):
                return  # a client offers what is worth taking: more takers come until it is gone
            book.set_level(maker, tick, 0, 0)
            if book.depth(maker) < 10:
                self._keep_depth(maker)

    def _take(self, ts: int, side: int, lots: int, limit: int) -> None:
        for trade in self.book.take(side, lots, limit):
            self.trades.append(trade)
            self.day.add(ts, trade.tick, trade.lots)
            self.open_interest = max(1, self.open_interest + int((self._rng.random() - 0.5) * trade.lots))

    def take_for(self, order: Order, limit: int | None) -> bool:
        """Let a client's order take what it reaches; return whether it had to stop at one of its owner's.

        Its prints are public as all others.
        """
        for trade in self.book.take(order.side, order.left, limit, order):
            self.trades.append(trade)
            self.day.add(self.book.ts, trade.tick, trade.lots)
        return self.book.taker_met_itself

    def _shuffle(self) -> None:
        """A maker changes its mind somewhere, mostly near the top."""
        book, rng = self.book, self._rng
        side = BID if rng.random() < 0.5 else ASK
        depth = book.depth(side)
        index = int(rng.random() * depth) if rng.random() < 0.1 else int(rng.expovariate(0.15))
        index = min(index, depth - 1)
        tick = book.tick_at(side, index)
        what = rng.random()
        if what < 0.55:
            self._rest(side, tick, index)
        elif what < 0.78 and depth > self.spec.depth - 20:
            book.set_level(side, tick, 0, 0)
        else:
            away = 1 + int(rng.random() * self.spec.spacing)
            self._rest(side, tick - away if side == BID else tick + away, index)

    def _rest(self, side: int, tick: int, index: int) -> None:
        orders = 1 + int(self._rng.expovariate(0.5)) if index < 30 else 1
        self.book.set_level(side, tick, self._draw_lots(1.0 + index / 40), orders)

    def _draw_lots(self, scale: float) -> int:
        return max(1, int(self.spec.size * scale * math.exp(self._rng.gauss(-0.5, 1.0))))

    def _keep_depth(self, side: int) -> None:
        """Hold the number of levels at what the instrument has, at the far end."""
        book, depth = self.book, self.book.background_depth(side)
        if depth > self.spec.depth + 25:
            book.set_level(side, book.far_tick(side), 0, 0)
            return
        while 0 < depth < self.spec.depth:
            far = book.far_tick(side)
            away = 1 + int(self._rng.random() * 2 * self.spec.spacing)
            tick = far - away if side == BID else far + away
            if tick <= 0:
                return
            self._rest(side, tick, depth)
            depth += 1

    def _lay_book(self, ts: int) -> None:
        """Make a whole new book round the fair price; deletes come first, so that it never crosses itself."""
        book, spec = self.book, self.spec
        fair = self._fair_ticks(ts)
        book.begin(ts, 1 + int(self._rng.random() * 1000))
        for side in (BID, ASK):
            for tick in book.ticks(side):
                book.set_level(side, tick, 0, 0)
        low, high = math.floor(fair - spec.half_spread), math.ceil(fair + spec.half_spread)
        # Only clients are left: who is on the wrong side of the new price was traded with on the way.
        self._take_clients(ts, BID, low)
        self._take_clients(ts, ASK, high)
        self._rest(BID, low, 0)
        self._rest(ASK, high, 0)
        for side in (BID, ASK):
            self._keep_depth(side)

    def _take_clients(self, ts: int, side: int, limit: int) -> None:
        if self.book.depth(ASK if side == BID else BID):
            self._take(ts, side, _EVERYTHING, limit)

    def _found(self, fair: float) -> None:
        """Begin a side anew that somebody has taken to the last level."""
        book, spec = self.book, self.spec
        if not book.background_depth(BID):
            tick = math.floor(fair - spec.half_spread)
            self._rest(BID, tick if book.best_ask is None else min(tick, book.best_ask - 1), 0)
        if not book.background_depth(ASK):
            tick = math.ceil(fair + spec.half_spread)
            self._rest(ASK, tick if book.best_bid is None else max(tick, book.best_bid + 1), 0)


class TimeKeeper(Protocol):
    """Somebody with moments of his own (timers, settlements), who also looks in after the books moved."""

    def next_due(self) -> int | None:
        """Return when the next thing is due, virtual ns; None while nothing is."""

    def advance(self, now_ns: int) -> None:
        """Do what is due up to now; ``next_due`` lies after it then."""


class Flow:
    """All instruments of both venues over one set of coins.

    Args:
        seed: What everything random comes from.
        start_ns: Virtual time at the start, ns since the Unix epoch.

    """

    def __init__(self, seed: int, start_ns: int) -> None:
        self.seed = seed
        self.now_ns = start_ns - start_ns % GRID_NS
        self.activity = 1.0  # factor on every instrument's rate; a fast clock turns it down
        self.stride_ns = GRID_NS  # how far prices move at once, in whole grid steps
        self.coins = {
            name: CoinPrice(price, Random(f"{seed}/{name}"), Past(f"{seed}/{name}/past", self.now_ns))
            for name, price in COINS.items()
        }
        self.markets: dict[str, FlowMarket] = {}
        self.keepers: list[TimeKeeper] = []

    def add(self, spec: MarketSpec) -> FlowMarket:
        """List an instrument; it is there, with a full book, from now on.

        Raises:
            ValueError: It is listed already, or its coin is unknown.

        """
        if spec.symbol in self.markets:
            raise ValueError(f"{spec.symbol} is listed already")
        if spec.coin not in self.coins:
            raise ValueError(f"{spec.symbol}: unknown coin {spec.coin!r}")
        market = FlowMarket(spec, self.coins[spec.coin], self.seed, self.now_ns)
        self.markets[spec.symbol] = market
        return market

    def remove(self, symbol: str) -> None:
        """Take an instrument off the list; whoever holds its ``FlowMarket`` may still read the last state."""
        del self.markets[symbol]

    def index(self, coin: str, quote: str = "USD") -> float:
        """Return the index of a coin in USD or USDT."""
        price = self.coins[coin]
        return price.price * (price.usdt if quote == "USDT" else 1.0)

    def advance(self, now_ns: int) -> None:
        """Let everything happen up to this virtual time; an earlier one than before changes nothing.

        Where a time keeper has something due on the way, the books stop there for it.
        """
        while (due := self._next_due()) is not None and due <= now_ns:
            self._run_until(due)
            for keeper in self.keepers:
                keeper.advance(due)
        self._run_until(now_ns)
        for keeper in self.keepers:
            keeper.advance(now_ns)

    def _next_due(self) -> int | None:
        dues = [due for keeper in self.keepers if (due := keeper.next_due()) is not None]
        return min(dues, default=None)

    def _run_until(self, now_ns: int) -> None:
        if now_ns - self.now_ns > CATCH_UP_NS:
            target = now_ns - now_ns % GRID_NS
            seconds = (target - self.now_ns) / NS_PER_S
            for coin in self.coins.values():
                coin.step(seconds)
            for market in self.markets.values():
                market.leap(target)
            self.now_ns = target
        for stride_ns in (self.stride_ns, GRID_NS):  # what is left over of the last stride in grid steps
            stride_s = stride_ns / NS_PER_S
            while self.now_ns + stride_ns <= now_ns:
                self.now_ns += stride_ns
                for coin in self.coins.values():
                    coin.step(stride_s)
                for market in self.markets.values():
                    if market.next_ns <= self.now_ns:
                        market.run_until(self.now_ns, self.activity)
