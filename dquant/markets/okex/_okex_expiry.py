"""Which expiry an alias stands for: OKX's calendar of dated futures, without I/O.

Written from the fact sheet ``okx-v5`` section 6. Contracts expire on Fridays at 08:00 UTC:
weeklies every Friday, monthlies on the last Friday of the month, quarterlies on that of
March, June, September and December. The two nearest Fridays are the week aliases, the
next two unused last Fridays the month aliases, the next two unused quarter ends the
quarter aliases. The venue's own ``alias`` field is going away and serves as a cross-check.

Times are ns since the Unix epoch.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from dquant.constants import NS_PER_S
from dquant.model.instrument import Instrument

EXPIRY_HOUR = 8
FRIDAY = 4
QUARTER_MONTHS = (3, 6, 9, 12)

# The venue's words for the aliases, in order of nearness.
WEEKS = ("this_week", "next_week")
MONTHS = ("this_month", "next_month")
QUARTERS = ("quarter", "next_quarter")


def expiry_of(alias: str, now: int) -> int:
    """Return the expiry that ``alias`` stands for at ``now``; a contract is gone at its very expiry.

    Raises:
        KeyError: The alias is not one of the six.

    """
    return expiries_at(now)[alias]


def expiries_at(now: int) -> dict[str, int]:
    """Return the expiry of each of the six aliases at ``now``."""
    moment = datetime.fromtimestamp(now // NS_PER_S, UTC)
    friday = moment.replace(hour=EXPIRY_HOUR, minute=0, second=0, microsecond=0)
    friday += timedelta(days=(FRIDAY - friday.weekday()) % 7)
    if friday <= moment:
        friday += timedelta(days=7)
    fridays = [friday + timedelta(days=7 * week) for week in range(60)]
    last_fridays = [day for day in fridays if (day + timedelta(days=7)).month != day.month]
    used = fridays[:2]
    months = [day for day in last_fridays if day not in used][:2]
    quarters = [
        day for day in last_fridays if day.month in QUARTER_MONTHS and day not in used and day not in months
    ][:2]
    days = used + months + quarters
    return {
        alias: int(day.timestamp()) * NS_PER_S
        for alias, day in zip(WEEKS + MONTHS + QUARTERS, days, strict=True)
    }


def end_of(alias: str, expiry: int, now: int) -> int:
    """Return when ``alias`` stops standing for the contract of this expiry.

    Only this week's contract ends by its own expiry. The others live on under a nearer alias: each
    Friday next week's becomes this week's.
    """
    if expiry_of(alias, now) != expiry:
        return now
    friday = expiry_of("this_week", now)
    while expiry_of(alias, friday) == expiry:
        friday = expiry_of("this_week", friday)
    return friday


def contract_of(alias: str, instruments: Iterable[Instrument], now: int) -> Instrument | None:
    """Return the contract that ``alias`` stands for at ``now``, or ``None`` while it is not listed."""
    expiry = expiry_of(alias, now)
    for instrument in instruments:
        if instrument.expiry == expiry and instrument.kind == "future":
            return instrument
    return None
