"""The command line: verbs, options and their help; nothing here does anything.

Options may stand before or after the verb. A mistake is one line on standard error and exit code 2.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from dquant import __version__
from dquant.constants import EXIT_USAGE

PROGRAM = "bash cli.sh"  # what is typed; it starts `python -m dquant`
DEFAULT_VERB = "watch"

# verb -> one line of help; the README's table is compared with this by a test.
VERBS = {
    "watch": "show the live difference between the markets; trade nothing",
    "feed": "publish prices, depth, trades and health of the markets to Redis until stopped",
    "exec": "run a strategy that trades, on its own exchange connections (not yet)",
    "rexec": "run the same strategy on prices from Redis (not yet)",
    "monitor": "follow Redis channels: a table of every market, its rate, gaps, lag and verdict",
    "simulate": "run the simulated exchanges alone, for any client",
    "record": "write what the exchanges say to a tape (not yet)",
    "replay": "play a tape through the same code and print each change of the top of a book",
    "backtest": "run a strategy over tapes (not yet)",
    "markets": "list the market names, and what they stand for",
    "test": "run the project's checks and tests",
}
NOT_YET = ("exec", "rexec", "record", "backtest")

EXAMPLES = """\
examples:
  bash cli.sh                                       the markets and strategy of the configuration
  bash cli.sh -m okex_future_btcusd_thisweek,bitmex_future_btcusd -s diff watch
  bash cli.sh -m okex_swap_btcusd -s ticker --json watch --count 10
  bash cli.sh feed                                  prices to Redis; then, in another terminal:
  bash cli.sh monitor
  bash cli.sh -m BTC-USD-SWAP replay tape.jsonl.gz --json
  DQUANTENV=pro bash cli.sh feed                    live exchanges instead of simulated ones

environment:
  DQUANTENV      dev (default: simulated exchanges) or pro (live); reads config/<DQUANTENV>.cfg
  DQUANT_<KEY>   overrides a key of that file, e.g. DQUANT_REDIS_PORT=6380

exit codes: 0 done, 1 failed while running, 2 command line, configuration or machine not as it must be
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(
            f"dquant{self.prog.removeprefix(PROGRAM)}: {' '.join(message.split())} (see --help)\n"
        )
        sys.exit(EXIT_USAGE)


def _at_least(least: float, kind: type[float] | type[int]) -> "type[float] | type[int]":
    def parse(text: str) -> float:
        value = kind(text)
        if not least < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not above {least:g}")
        return value

    parse.__name__ = "number"
    return parse  # type: ignore[return-value]


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port from 0 (any free one) to 65535")
    return value


_port.__name__ = "port"


def _common(*, is_top: bool, counted: str = "records") -> _Parser:
    """Options of every verb; below the top they have no default, so that one given before the verb stays."""
    parser = _Parser(add_help=False)
    group = parser.add_argument_group("options of every verb")
    group.add_argument(
        "-m", "--markets", metavar="NAME,…", help="markets, comma-separated (replay: instruments)"
    )
    group.add_argument("-s", "--strategy", metavar="NAME", help="strategy: diff, ticker")
    group.add_argument("-d", "--debug", action="store_true", help="log everything, wire frames included")
    group.add_argument(
        "--json", action="store_true", help="one JSON object a line on standard output, nothing else there"
    )
    group.add_argument("--count", type=_at_least(0, int), metavar="N", help=f"stop after N {counted}")
    group.add_argument("--duration", type=_at_least(0, float), metavar="SECONDS", help="stop after so long")
    if not is_top:
        for action in parser._actions:
            action.default = argparse.SUPPRESS
    return parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the options; ends the process with code 2 on a mistake, 0 on ``--help``."""
    parser = _Parser(
        prog=PROGRAM,
        description="Watch and feed the price difference between dated Bitcoin futures and perpetuals.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[_common(is_top=True)],
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"dquant {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs (default: watch)")
    for verb, words in VERBS.items():
        one = verbs.add_parser(
            verb,
            help=words,
            description=f"{words[0].upper()}{words[1:]}.",
            parents=[_common(is_top=False, counted=_COUNTED.get(verb, "records"))],
            epilog=_EPILOGS.get(verb),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if verb == "monitor":
            one.add_argument(
                "channels",
                nargs="*",
                metavar="CHANNEL",
                help="channel names, or patterns such as 'price:okex_*' (default: price health)",
            )
        elif verb == "replay":
            one.add_argument("tape", metavar="TAPE", help="a file of wire messages, plain, .gz or .zst")
            one.add_argument(
                "--speed",
                type=_at_least(0, float),
                metavar="X",
                help="times the tape's own pace (default: as fast as possible)",
            )
        elif verb == "simulate":
            for name, whose in (("okex", "OKX"), ("bitmex", "BitMEX"), ("control", "the control door")):
                one.add_argument(
                    f"--{name}-port",
                    type=_port,
                    default=0,
                    metavar="PORT",
                    help=f"port of {whose} (default: a free one)",
                )
            one.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
            one.add_argument(
                "--seed",
                type=int,
                metavar="N",
                help="the same seed gives the same prices (default: the key simulator_seed)",
            )
            one.add_argument(
                "--speed",
                type=float,
                default=1.0,
                metavar="X",
                help="its clock's speed, 1 is real time, 0 stands still (default: 1)",
            )
            one.add_argument(
                "--start",
                metavar="UTC",
                help="where its clock starts, e.g. 2026-11-27T07:59:00Z (default: now)",
            )
            one.add_argument(
                "--accounts",
                type=_at_least(0, int),
                default=1,
                metavar="N",
                help="accounts of each exchange, each with its keys (default: 1)",
            )
            one.add_argument(
                "--scenario",
                action="append",
                default=[],
                metavar="NAME|FILE",
                help="play a plan of faults, shipped or a TOML file; may be given again",
            )
            one.add_argument(
                "--list-scenarios", action="store_true", help="explain the shipped scenarios and end"
            )
            one.add_argument("--without-alias", action="store_true", help="OKX instruments carry no alias")
            one.add_argument(
                "--okex-connects-per-second",
                type=_at_least(-1, int),
                metavar="N",
                help="new websockets that OKX takes from an address in a second, 0 is no limit "
                "(default: 3, and 30 from this machine)",
            )
            one.add_argument(
                "--okex-account-level",
                choices=("1", "2", "3", "4"),
                default="2",
                help="mode of OKX accounts: 1 spot, 2 futures, 3 multi-currency, 4 portfolio (default: 2)",
            )
            one.add_argument(
                "--okex-vip",
                action="store_true",
                help="OKX accounts may subscribe to fills and the deep books",
            )
    options, more = parser.parse_known_args(argv)
    if options.verb == "monitor":
        # argparse takes the channels before an option and leaves those after it.
        options.channels += [word for word in more if not word.startswith("-")]
        more = [word for word in more if word.startswith("-")]
    if more:
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    if options.verb is None:
        options.verb = DEFAULT_VERB
    return options


# What --count counts.
_COUNTED = {
    "watch": "changes",
    "feed": "prices that left for Redis",
    "monitor": "records",
    "simulate": "lines",
    "replay": "prices",
    "markets": "markets",
}

_EPILOGS = {
    "watch": """\
A live view on a terminal, one line a change when piped. In dev the exchanges are simulated.
A leg that cannot be believed is STALE, with the reason, and has no numbers. -s diff takes 2 markets,
-s ticker 1 to 64.
  bash cli.sh -m okex_future_btcusd_quarter,okex_swap_btcusd
  bash cli.sh --json --count 100 watch > differences.jsonl""",
    "feed": """\
Channels: price for all markets, price:<market> for one; depth, trade and health likewise. Standard output
has the changes of state, with --json the health records. Where Redis is: redis_host and redis_port, or
redis_url; in dev one is started where none answers. Never run two feeds for one market on one Redis.
docs/formats.md has the records, docs/configuration.md the keys, docs/operating.md how to run a service.""",
    "monitor": """\
A live table on a terminal, lines when piped, the records themselves with --json.
Channels: price, depth, trade and health for all markets, price:<market> and so on for one; -m narrows the
default to these markets. A Redis Cluster has no patterns, only names.
  bash cli.sh monitor price health trade:okex_swap_btcusd
  bash cli.sh --json monitor 'depth:okex_*'""",
    "replay": """\
Prices go to standard output; the summary, which says what the tape has no prices of, to standard
error. -m filters by instrument (not market). docs/formats.md has the format of tapes.
  bash cli.sh --json -m BTC-USD-SWAP replay tape.jsonl.gz""",
    "simulate": """\
Prints its addresses, its keys and something to try first (--json: as one object); any client of the real
exchanges trades there with those. It listens on loopback unless --host says otherwise.
  bash cli.sh simulate --list-scenarios         what can go wrong, and what a sound client does then
  bash cli.sh simulate --scenario gaps --seed 42
  bash cli.sh simulate --speed 0                its clock stands still until the control door steps it
The control door is an HTTP port that sets faults and the clock, and tells what truly happened:
docs/simulator.md, as for scenarios and for how ccxt and other clients are pointed here.""",
    "markets": "Names are <exchange>_<kind>_<pair>[_<alias>]. An alias stands for the contract of the day.",
}
