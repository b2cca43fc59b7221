"""What is measured: who runs against which stream and how, and which ratios come out of it."""

from dataclasses import dataclass, field
from statistics import median
from typing import Any

Result = dict[str, Any]
Round = dict[str, Result]  # one contender's result by its label


@dataclass(frozen=True)
class Contender:
    """One client in one scenario; ``count`` overrides the scenario's number of messages."""

    label: str
    module: str  # module:variant of benchmarks.contenders
    count: int | None = None


@dataclass(frozen=True)
class Scenario:
    """One stream, one pace, and the clients that run against it in turn."""

    name: str
    title: str
    env: str
    stream: str
    count: int
    contenders: tuple[Contender, ...]
    mode: str = "blast"
    rate: int = 2000
    drop: int = 0
    check_all: bool = False
    needs_redis: bool = False
    unpinned: bool = False
    once: bool = False  # a verdict or a size, not a race: the first round is enough


DQUANT = Contender("dquant", "dquant_market:market")
FEED_3 = Contender("cryptofeed 3", "cryptofeed_peer:plain")
CCXT = Contender("ccxt", "ccxt_peer:")
NAUTILUS = Contender("nautilus_trader", "nautilus_peer:")
FLOOR = Contender("picows alone", "transport:picows")
FLOOR_WEBSOCKETS = Contender("websockets alone", "transport:websockets")
DQUANT_WEBSOCKETS = Contender("dquant on websockets", "dquant_market:websockets")


def _with(contender: Contender, count: int) -> Contender:
    return Contender(contender.label, contender.module, count)


SCENARIOS = (
    Scenario(
        "okx-books",
        "OKX books, 7 levels a message, chain, flat out",
        "py313",
        "okx7",
        60_000,
        (
            DQUANT,
            _with(FEED_3, 30_000),
            _with(CCXT, 30_000),
            _with(NAUTILUS, 30_000),
            FLOOR,
            _with(DQUANT_WEBSOCKETS, 30_000),
            _with(FLOOR_WEBSOCKETS, 30_000),
        ),
    ),
    Scenario(
        "okx-books-24",
        "OKX books, 24 levels a message, chain, flat out",
        "py313",
        "okx24",
        30_000,
        (DQUANT, _with(FEED_3, 15_000), _with(CCXT, 15_000), _with(NAUTILUS, 15_000)),
    ),
    Scenario(
        "okx-checksum",
        "OKX books, 7 levels a message, CRC32 verified, flat out",
        "py311",
        "okx7crc",
        30_000,
        (DQUANT, _with(Contender("cryptofeed 2.4.1", "cryptofeed_peer:check"), 15_000)),
    ),
    Scenario(
        "bitmex",
        "BitMEX orderBookL2, flat out",
        "py311",
        "bitmex",
        60_000,
        (
            DQUANT,
            _with(Contender("cryptofeed 2.4.1", "cryptofeed_peer:plain"), 30_000),
            _with(CCXT, 30_000),
            FLOOR,
        ),
    ),
    Scenario(
        "paced",
        "OKX books, 2,000 messages a second",
        "py313",
        "okx7",
        5_000,
        (DQUANT, FLOOR, DQUANT_WEBSOCKETS, FLOOR_WEBSOCKETS, FEED_3, CCXT, NAUTILUS),
        mode="paced",
    ),
    Scenario(
        "bursts",
        "OKX books, bursts of 20, 100 a second",
        "py313",
        "okx7",
        5_000,
        (DQUANT, FEED_3, CCXT, NAUTILUS, FLOOR),
        mode="burst",
    ),
    Scenario(
        "redis",
        "OKX books at 2,000 a second, to a Redis subscriber in another process",
        "py311",
        "okx7",
        6_000,
        (Contender("dquant", "dquant_market:redis"), Contender("cryptofeed 2.4.1", "cryptofeed_peer:redis")),
        mode="paced",
        needs_redis=True,
    ),
    Scenario(
        "redis-checksum",
        "the same, CRC32 verified on every message",
        "py311",
        "okx7crc",
        6_000,
        (
            Contender("dquant", "dquant_market:redis"),
            Contender("cryptofeed 2.4.1", "cryptofeed_peer:check-redis"),
        ),
        mode="paced",
        needs_redis=True,
    ),
    Scenario(
        "redis-3",
        "the same on Python 3.13",
        "py313",
        "okx7",
        6_000,
        (
            Contender("dquant", "dquant_market:redis"),
            Contender("cryptofeed 3", "cryptofeed_peer:redis"),
            Contender("one PUBLISH alone", "transport:publish"),
        ),
        mode="paced",
        needs_redis=True,
    ),
    Scenario(
        "gil",
        "a CPU-bound Python thread beside the market, 250 messages a second",
        "py313",
        "okx7",
        1_000,
        (
            Contender("dquant", "dquant_market:hog"),
            Contender("default interval", "dquant_market:hog-default"),
        ),
        mode="paced",
        rate=250,
        # On one core the busy thread and the market would wait for the scheduler, not for the interpreter.
        unpinned=True,
    ),
    Scenario(
        "memory",
        "resident memory",
        "py311",
        "okx7",
        1_000,
        (
            Contender("one market", "dquant_market:market"),
            Contender("nine markets", "dquant_market:nine"),
            Contender("cryptofeed 2.4.1", "cryptofeed_peer:plain"),
        ),
        mode="paced",
        once=True,
    ),
    Scenario(
        "faults",
        "OKX books with four lost messages, each to be noticed",
        "py313",
        "okx7",
        6_000,
        (DQUANT,),
        mode="paced",
        drop=4,
        check_all=True,
        once=True,
    ),
    Scenario(
        "tops-okx",
        "every top compared, OKX 24 levels",
        "py313",
        "okx24",
        30_000,
        (DQUANT,),
        check_all=True,
        once=True,
    ),
    Scenario(
        "tops-bitmex",
        "every top compared, BitMEX",
        "py313",
        "bitmex",
        60_000,
        (DQUANT,),
        check_all=True,
        once=True,
    ),
)


@dataclass(frozen=True)
class Ratio:
    """One line of the result: what over what, in which scenario, and what is wanted of it."""

    title: str
    scenario: str
    over: str
    under: str
    measure: str
    reach: float | None  # None: shown for comparison only
    aim: float | None
    is_more_better: bool
    values: list[float] = field(default_factory=list)

    def of(self, rounds: list[Round]) -> list[float]:
        """Return the ratio of each round in which both took part."""
        found = []
        for results in rounds:
            top, bottom = results.get(self.over), results.get(self.under)
            if top and bottom and self.measure in top and self.measure in bottom:
                found.append(_value(top, self.measure) / _value(bottom, self.measure))
        return found


def _value(result: Result, measure: str) -> float:
    """Return a measure; CPU is scaled by how fast the machine was during that very run."""
    value = float(result[measure])
    return value / float(result["calibration_ms"]) if measure == "cpu_us" else value


def _over_dquant(title: str, scenario: str, peer: str, reach: float, aim: float) -> Ratio:
    return Ratio(title, scenario, peer, "dquant", "cpu_us", reach, aim, is_more_better=True)


RATIOS = (
    _over_dquant(
        "OKX `books`, chain, CPU, Python 3.13: cryptofeed 3 ÷ dquant", "okx-books", "cryptofeed 3", 3, 5
    ),
    _over_dquant("the same: ccxt ÷ dquant", "okx-books", "ccxt", 3, 5),
    _over_dquant("the same: nautilus_trader's data client ÷ dquant", "okx-books", "nautilus_trader", 1.2, 2),
    _over_dquant("24 levels a message: cryptofeed 3 ÷ dquant", "okx-books-24", "cryptofeed 3", 3, 5),
    _over_dquant("24 levels: ccxt ÷ dquant", "okx-books-24", "ccxt", 3, 5),
    _over_dquant("24 levels: nautilus_trader ÷ dquant", "okx-books-24", "nautilus_trader", 1.2, 2),
    _over_dquant("OKX with checksums: cryptofeed 2.4.1 ÷ dquant", "okx-checksum", "cryptofeed 2.4.1", 4, 6),
    _over_dquant("BitMEX `orderBookL2`: cryptofeed 2.4.1 ÷ dquant", "bitmex", "cryptofeed 2.4.1", 2.3, 6),
    Ratio("paced p50: dquant ÷ picows alone", "paced", "dquant", "picows alone", "p50_us", 1.6, 1.4, False),
    Ratio(
        "bursts of 20, p50: dquant ÷ cryptofeed 3",
        "bursts",
        "dquant",
        "cryptofeed 3",
        "p50_us",
        0.45,
        0.25,
        False,
    ),
    Ratio(
        "to a Redis subscriber, p50: dquant ÷ cryptofeed 2.4.1 BookStream",
        "redis",
        "dquant",
        "cryptofeed 2.4.1",
        "redis_p50_us",
        0.4,
        0.25,
        False,
    ),
    Ratio("the same, CPU a message", "redis", "dquant", "cryptofeed 2.4.1", "cpu_us", 0.5, 0.33, False),
    Ratio(
        "the same with checksums on both sides, p50",
        "redis-checksum",
        "dquant",
        "cryptofeed 2.4.1",
        "redis_p50_us",
        0.4,
        0.25,
        False,
    ),
    Ratio(
        "the same, CPU a message", "redis-checksum", "dquant", "cryptofeed 2.4.1", "cpu_us", 0.5, 0.33, False
    ),
    Ratio(
        "the same: dquant ÷ cryptofeed 3 BookStream, as it ships, p50",
        "redis-3",
        "dquant",
        "cryptofeed 3",
        "redis_p50_us",
        0.4,
        0.25,
        False,
    ),
    Ratio(
        "the same, CPU a message (it gathers for half a second)",
        "redis-3",
        "dquant",
        "cryptofeed 3",
        "cpu_us",
        None,
        None,
        False,
    ),
    Ratio(
        "p99 beside a CPU-bound thread: as shipped ÷ default switch interval",
        "gil",
        "dquant",
        "default interval",
        "p99_us",
        0.35,
        0.15,
        False,
    ),
)


def middle(rounds: list[Round], label: str, measure: str) -> float | None:
    """Return the median of one measure of one contender over the rounds."""
    values = [float(results[label][measure]) for results in rounds if measure in results.get(label, {})]
    return median(values) if values else None
