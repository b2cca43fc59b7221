"""The bars of the simulated OKX by name: ``1m``, ``4H``, ``1D`` of UTC+8, ``1Dutc``.

Written from the fact sheet, section 5.10. In: the name that a query or a channel carries. Out: the period.
"""

from dquant.simulator.bars import DAY_NS, HOUR_NS, MINUTE_NS, Period

_SHANGHAI_NS = -8 * HOUR_NS  # a day of UTC+8 begins eight hours before that of UTC
_MONDAY_NS = 4 * DAY_NS  # the epoch was a Thursday
_MONTH_NS = 28 * DAY_NS


def _long_bars(suffix: str, offset_ns: int) -> dict[str, Period]:
    return {
        **{f"{count}H{suffix}": Period(count * HOUR_NS, offset_ns) for count in (6, 12)},
        **{f"{count}D{suffix}": Period(count * DAY_NS, offset_ns) for count in (1, 2, 3)},
        f"1W{suffix}": Period(7 * DAY_NS, _MONDAY_NS + offset_ns),
        **{f"{count}M{suffix}": Period(count * _MONTH_NS, offset_ns, months=count) for count in (1, 3)},
    }


BARS = {
    **{f"{count}m": Period(count * MINUTE_NS) for count in (1, 3, 5, 15, 30)},
    **{f"{count}H": Period(count * HOUR_NS) for count in (1, 2, 4)},
    **_long_bars("", _SHANGHAI_NS),
    **_long_bars("utc", 0),
}
