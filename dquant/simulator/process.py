"""The simulated venues as a process: what ``simulate`` runs, and how a parent keeps one as its child.

``serve`` runs in the calling process until a signal, its duration or the end of its parent. With
``as_json`` its first line on standard output is an object with addresses and keys, then one line an event
of note; without, a readable page.

``start_child`` starts the same in a process of its own and waits for that first line. The child has its own
process group, so that a terminal's Ctrl-C reaches the parent alone, and it ends with its parent even
after kill -9: its standard input is a pipe that closes, and the kernel tells it (Linux).
"""

import asyncio
import contextlib
import gc
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from dquant.constants import EXIT_DONE, NS_PER_S
from dquant.errors import DquantError
from dquant.util import has_reader, is_pipe, stop_signals

if TYPE_CHECKING:
    from argparse import Namespace

    from dquant.simulator.bitmex_private import SimulatedAccount

ACCOUNTS_LIMIT = 100
FIRST_BITMEX_ACCOUNT = 2_740_000
PARENT_CHECK_S = 1.0
_PR_SET_PDEATHSIG = 1

# The simulated account. These keys open nothing but a simulated venue, so they are no secret.
KEYS: dict[str, dict[str, str]] = {
    "okex": {
        "apiKey": "51a11a7e-d000-4000-8000-000000000001",
        "secret": "5EC0DE0000000000000000000000F00D",
        "passphrase": "Simulated-1",
    },
    "bitmex": {"apiKey": "simulated-bitmex-key-001", "secret": "simulated-bitmex-secret-" + "0" * 24},
}


# More keys of the first account, each with something wrong with it (secret and passphrase as above).
SPECIAL_OKEX_KEYS: dict[str, dict[str, Any]] = {
    "51a11a7e-d000-4000-8000-0000000000d0": {"is_demo_only": True},
    "51a11a7e-d000-4000-8000-0000000000a0": {"may_trade": False},
    "51a11a7e-d000-4000-8000-0000000000b0": {"refusal": "50110"},
    "51a11a7e-d000-4000-8000-0000000000c0": {"refusal": "50100"},
}


def account_name(number: int) -> str:
    """Return the name of an account, counted from 1, as the ledger and the control door say it."""
    return "main" if number == 1 else f"account{number}"


def keys_of(number: int) -> dict[str, dict[str, str]]:
    """Return the keys of an account, counted from 1; the first is that of ``KEYS``."""
    if number == 1:
        return KEYS
    okex, bitmex = KEYS["okex"], KEYS["bitmex"]
    return {
        "okex": {
            "apiKey": f"{okex['apiKey'][:-3]}{number:03d}",
            "secret": f"{okex['secret'][:-3]}{number:03d}",
            "passphrase": okex["passphrase"],
        },
        "bitmex": {
            "apiKey": f"{bitmex['apiKey'][:-3]}{number:03d}",
            "secret": f"{bitmex['secret'][:-3]}{number:03d}",
        },
    }


@dataclass(frozen=True, slots=True)
class SimulateOptions:
    """What the simulated venues are started with.

    Args:
        okex_port: TCP port of OKX; 0 is a free one.
        bitmex_port: TCP port of BitMEX.
        control_port: TCP port of the control door.
        host: Address to listen on.
        seed: What everything random comes from.
        start_ns: Virtual time at the start, ns since the Unix epoch; None is that of a scenario, or now.
        speed: Virtual seconds in a real second; 0 only moves by the control door.
        has_alias: Whether OKX instruments carry ``alias``.
        okex_connects_per_second: New websockets that OKX takes in a second from an address; 0 is no limit,
            None is 3, or 30 from this machine.
        okex_vip: Whether accounts of OKX have the fee tier that opens fills and the deep books.
        okex_account_level: ``acctLv`` of the accounts of OKX.
        duration_s: Ends by itself after this many real seconds; None runs until stopped.
        count: Ends by itself after this many events of note; None runs until stopped.
        as_json: JSON lines instead of a page to read.
        parent_pid: Ends when this process is not its parent any more; None has no such parent.
        accounts: How many accounts each venue has, each with keys of its own.
        scenarios: Names of shipped scenarios, or files, played from the start.
        list_scenarios: Only tell which scenarios there are.

    """

    okex_port: int = 0
    bitmex_port: int = 0
    control_port: int = 0
    host: str = "127.0.0.1"
    seed: int = 1
    start_ns: int | None = None
    speed: float = 1.0
    has_alias: bool = True
    okex_connects_per_second: int | None = None
    okex_vip: bool = False
    okex_account_level: str = "2"
    duration_s: float | None = None
    count: int | None = None
    as_json: bool = False
    parent_pid: int | None = None
    accounts: int = 1
    scenarios: tuple[str, ...] = ()
    list_scenarios: bool = False

    def to_text(self) -> str:
        """Return the options as one argument of a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> "SimulateOptions":
        """Return the options that ``to_text`` wrote."""
        values = json.loads(text)
        return cls(**{**values, "scenarios": tuple(values["scenarios"])})


def options_from(args: "Namespace") -> SimulateOptions:
    """Return the options of a parsed command line.

    Raises:
        ValueError: A value is out of range.

    """
    from datetime import UTC, datetime

    start_ns = None
    if args.start:
        try:
            start = datetime.fromisoformat(args.start)
        except ValueError:
            raise ValueError(
                f"--start: {args.start!r} is no time; allowed: UTC such as 2026-11-27T07:59:00Z"
            ) from None
        start = start if start.tzinfo is not None else start.replace(tzinfo=UTC)
        start_ns = int(start.timestamp() * 1000) * (NS_PER_S // 1000)
    if not 0.0 <= args.speed <= 1e6:
        raise ValueError(f"--speed must be 0 to 1e6, not {args.speed:g}")
    if not 1 <= args.accounts <= ACCOUNTS_LIMIT:
        raise ValueError(f"--accounts must be 1 to {ACCOUNTS_LIMIT}, not {args.accounts}")
    return SimulateOptions(
        okex_port=args.okex_port,
        bitmex_port=args.bitmex_port,
        control_port=args.control_port,
        host=_host(args.host),
        seed=args.seed,
        start_ns=start_ns,
        speed=args.speed,
        has_alias=not args.without_alias,
        okex_connects_per_second=args.okex_connects_per_second,
        okex_vip=args.okex_vip,
        okex_account_level=args.okex_account_level,
        duration_s=args.duration,
        count=args.count,
        as_json=args.json,
        accounts=args.accounts,
        scenarios=tuple(args.scenario),
        list_scenarios=args.list_scenarios,
    )


def _host(text: str) -> str:
    import ipaddress

    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError(f"--host: {text!r} is no address; allowed: an IPv4 or IPv6 address") from None


def serve(options: SimulateOptions) -> int:
    """Serve the venues until told to stop; return the exit code. Call it from the main thread.

    Raises:
        ConfigError: There is no such scenario, or something in it is wrong.
        DquantError: A port cannot be listened on, or standard output cannot be written.

    """
    if options.list_scenarios:
        return _list_scenarios(options)
    watch_parent(options.parent_pid)
    try:
        import uvloop
    except ImportError:
        runner = asyncio.Runner()
    else:
        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    with runner:
        return runner.run(_serve(options))


def addresses(base: Any, accounts: int = 1) -> dict[str, Any]:
    """Return the first line: where the venues are (``base(name)`` is an HTTP address), and their keys.

    ``keys`` are those of the first account; where there are more, ``accounts`` has all of them.
    """
    names = [{"name": account_name(number), **keys_of(number)} for number in range(1, accounts + 1)]
    more = {"accounts": names} if accounts > 1 else {}
    okex, bitmex = base("okex"), base("bitmex")
    return {
        "okex": {"rest": okex, "ws": okex.replace("http://", "ws://", 1) + "/ws/v5"},
        "bitmex": {"rest": bitmex, "ws": bitmex.replace("http://", "ws://", 1) + "/realtime"},
        "control": base("control"),
        "keys": KEYS,
        **more,
    }


def watch_parent(parent_pid: int | None) -> None:
    """Ask the kernel for SIGUSR2 when the parent dies; from the main thread, before anything else runs.

    The kernel also sends it when only the parent's *thread* ends that started us, so the handler looks
    whether the parent is still ours.
    """
    if parent_pid is None or not sys.platform.startswith("linux"):
        return
    import ctypes

    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGUSR2)


def bitmex_accounts(count: int) -> "list[SimulatedAccount]":
    """Return the accounts of the simulated BitMEX, with the keys of ``keys_of``."""
    from dquant.simulator.bitmex_private import SimulatedAccount

    return [
        SimulatedAccount(
            FIRST_BITMEX_ACCOUNT + number,
            ((keys_of(number)["bitmex"]["apiKey"], keys_of(number)["bitmex"]["secret"]),),
            name=account_name(number),
        )
        for number in range(1, count + 1)
    ]


async def _serve(options: SimulateOptions) -> int:
    from dquant.simulator.bitmex_server import BitmexServer
    from dquant.simulator.clock import VirtualClock
    from dquant.simulator.flow import Flow
    from dquant.simulator.okex_login import Secrets
    from dquant.simulator.okex_server import OkexOptions, OkexServer
    from dquant.simulator.scenarios import load as load_scenario
    from dquant.simulator.server import SimulatedVenues
    from dquant.simulator.venue import Venue

    scenarios = [load_scenario(name) for name in options.scenarios]
    starts = [options.start_ns, *(scenario.start_ns for scenario in scenarios), time.time_ns()]
    start_ns = next(start for start in starts if start is not None)
    started_at = time.monotonic_ns()  # the same moment: what the flow takes to set up must not lag the clock
    flow = Flow(options.seed, start_ns)
    okex_keys = [(account_name(number), keys_of(number)["okex"]) for number in range(1, options.accounts + 1)]
    secrets = [Secrets(k["apiKey"], k["secret"], k["passphrase"], name) for name, k in okex_keys]
    for api_key, facts in SPECIAL_OKEX_KEYS.items():
        secrets.append(replace(secrets[0], api_key=api_key, **facts))
    venues: list[Venue] = [
        OkexServer(
            flow,
            secrets,
            OkexOptions(
                has_alias=options.has_alias,
                connections_per_second=options.okex_connects_per_second,
                is_vip=options.okex_vip,
                account_level=options.okex_account_level,
            ),
        ),
        BitmexServer(flow, accounts=bitmex_accounts(options.accounts)),
    ]
    stop = asyncio.Event()
    told = 0
    failures: list[DquantError] = []

    def count() -> None:
        nonlocal told
        told += 1
        if told == options.count:
            stop.set()

    def note(event: dict[str, Any]) -> None:
        try:
            _say(options, event, stop)
        except DquantError as exc:
            failures.append(exc)  # not in the middle of a venue's work
        count()

    ports = {"okex": options.okex_port, "bitmex": options.bitmex_port, "control": options.control_port}
    simulated = SimulatedVenues(
        flow,
        venues,
        VirtualClock(start_ns, started_at, options.speed),
        host=options.host,
        ports=ports,
        note=note,
    )
    try:
        await simulated.start()
    except OSError as exc:
        raise DquantError(f"cannot listen on {options.host}: {exc.strerror or exc}") from exc
    simulated.set_speed(options.speed)
    # Books and instruments stay: a collector that walks through them holds up whoever waits for an answer.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
    loop = asyncio.get_running_loop()
    for number in stop_signals():
        loop.add_signal_handler(number, stop.set)
    watcher = None
    if options.parent_pid is not None:
        watcher = asyncio.create_task(_watch(options.parent_pid, stop), name="simulator-parent-watch")
    elif _has_pipe():
        watcher = asyncio.create_task(_watch_reader(stop), name="simulator-reader-watch")
    try:
        _introduce(options, addresses(simulated.base, options.accounts), stop)
        count()  # where the venues are is the first record
        for scenario in scenarios:
            simulated.play(scenario)
        await simulated.run(stop, options.duration_s)
    finally:
        if watcher is not None:
            watcher.cancel()
        await simulated.stop()
    if failures:
        raise failures[0]
    return EXIT_DONE


async def _watch(parent_pid: int, stop: asyncio.Event) -> None:
    """Stop when the parent is gone: its end of our standard input closes, or we have another parent."""
    loop = asyncio.get_running_loop()

    def look() -> None:
        if os.getppid() != parent_pid:
            stop.set()

    def read() -> None:
        with contextlib.suppress(OSError):
            if os.read(0, 4096):
                return
        loop.remove_reader(0)
        stop.set()

    loop.add_signal_handler(signal.SIGUSR2, look)
    loop.add_reader(0, read)
    try:
        while True:
            look()
            await asyncio.sleep(PARENT_CHECK_S)
    finally:
        loop.remove_reader(0)


def _has_pipe() -> bool:
    with contextlib.suppress(OSError, ValueError):  # closed, or not a file at all
        return is_pipe(sys.stdout.fileno())
    return False


async def _watch_reader(stop: asyncio.Event) -> None:
    """Stop when nobody reads the pipe that is our standard output any more."""
    while True:
        if not has_reader(sys.stdout.fileno()):
            stop.set()
            return
        await asyncio.sleep(PARENT_CHECK_S)


def _list_scenarios(options: SimulateOptions) -> int:
    """Explain the shipped scenarios: one object a line, or a page."""
    from dquant.simulator.scenarios import catalogue

    stop = asyncio.Event()
    for scenario in catalogue():
        if options.as_json:
            _write(json.dumps(scenario), stop)
            continue
        _write(
            f"{scenario['name']}\n"
            f"    happens: {scenario['about']}\n"
            f"    a sound client {scenario['expect']}\n"
            f"    {' and '.join(scenario['venues'])}: {', '.join(scenario['faults'])}",
            stop,
        )
    if not options.as_json:
        _write(
            "\nPlay one:  simulate --scenario gaps\n"
            "Write one: copy a file of dquant/simulator/scenario_files; docs/simulator.md explains the keys",
            stop,
        )
    return EXIT_DONE


def _write(text: str, stop: asyncio.Event) -> None:
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except (BrokenPipeError, ValueError):
        stop.set()
    except OSError as exc:
        stop.set()
        raise DquantError(f"standard output cannot be written: {exc.strerror}") from exc


def _say(options: SimulateOptions, event: dict[str, Any], stop: asyncio.Event) -> None:
    if options.as_json:
        _write(json.dumps(event), stop)
        return
    facts = " ".join(f"{key}={value}" for key, value in event.items() if key != "event")
    _write(f"{event['event']}: {facts}", stop)


def _introduce(options: SimulateOptions, where: dict[str, Any], stop: asyncio.Event) -> None:
    import ipaddress

    if not ipaddress.ip_address(options.host).is_loopback:
        # The doors ask nobody who he is, so listening wider is said in plain sight.
        sys.stderr.write(f"simulate: WARNING: listening on {options.host}, not on loopback alone\n")
    if options.as_json:
        _write(json.dumps(where), stop)
        return
    _write(
        "SIMULATED exchanges; prices are invented, the protocols are real.\n"
        f"  OKX     REST {where['okex']['rest']}/api/v5/…   websocket {where['okex']['ws']}/public\n"
        f"  BitMEX  REST {where['bitmex']['rest']}/api/v1/…   websocket {where['bitmex']['ws']}\n"
        f"  control {where['control']}   GET /state, GET /ledger, POST /fault, POST /scenario, POST /clock\n"
        f"{_key_lines(where)}"
        "Try:\n"
        f"  curl '{where['okex']['rest']}/api/v5/market/ticker?instId=BTC-USD-SWAP'\n"
        f'  curl -d \'{{"venue": "okex", "fault": "drop"}}\' {where["control"]}/fault\n'
        "Or with ccxt, in Python:\n"
        f"{_snippet(where)}"
        "Ctrl-C stops them.",
        stop,
    )


def _snippet(where: dict[str, Any]) -> str:
    """Return a few lines that trade, ready to be pasted."""
    keys = where["keys"]["okex"]
    login = {"apiKey": keys["apiKey"], "secret": keys["secret"], "password": keys["passphrase"]}
    return (
        "  import ccxt\n"
        f"  okx = ccxt.okx({login})\n"
        f"  okx.urls['api']['rest'] = '{where['okex']['rest']}'\n"
        "  print(okx.create_order('BTC/USD:BTC', 'market', 'buy', 1))\n"
    )


def _key_lines(where: dict[str, Any]) -> str:
    lines = []
    for account in where.get("accounts", [{"name": account_name(1), **where["keys"]}]):
        for venue in ("okex", "bitmex"):
            words = "  ".join(f"{name} {value}" for name, value in account[venue].items())
            lines.append(f"  keys of {account['name']} at {venue}: {words}\n")
    return "".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run as ``python -m dquant.simulator.process OPTIONS``, which is what ``start_child`` starts."""
    (text,) = sys.argv[1:] if argv is None else argv
    try:
        return serve(SimulateOptions.from_text(text))
    except DquantError as exc:
        sys.stderr.write(f"simulate: {exc}\n")
        return exc.exit_code


if __name__ == "__main__":
    sys.exit(main())
