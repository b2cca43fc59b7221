"""The calendar of dated futures against the recorded list of Dec 2024 and a day-by-day rule."""

import calendar
import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dquant.constants import NS_PER_S
from dquant.markets.okex._okex_expiry import contract_of, expiries_at, expiry_of
from dquant.markets.okex._okex_future_rest import instruments_of
from dquant.model.instrument import Instrument

ALIASES = ["this_week", "next_week", "this_month", "next_month", "quarter", "next_quarter"]


def ns(*parts):
    return int(datetime(*parts, tzinfo=UTC).timestamp()) * NS_PER_S


def day_of(expiry):
    moment = datetime.fromtimestamp(expiry / NS_PER_S, UTC)
    assert (moment.hour, moment.minute, moment.second) == (8, 0, 0)
    return moment.date()


FRIDAYS = [
    date(year, month, week[calendar.FRIDAY])
    for year in range(2024, 2033)
    for month in range(1, 13)
    for week in calendar.monthcalendar(year, month)
    if week[calendar.FRIDAY]
]
LAST_FRIDAYS = {
    max(day for day in FRIDAYS if (day.year, day.month) == (some.year, some.month)) for some in FRIDAYS
}


def by_hand(moment):
    """Take name after name from the calendar, as the fact sheet words the rule."""
    free = [day for day in FRIDAYS if datetime(day.year, day.month, day.day, 8, tzinfo=UTC) > moment][:90]
    names = {"this_week": free.pop(0), "next_week": free.pop(0)}
    months = [day for day in free if day in LAST_FRIDAYS]
    names["this_month"], names["next_month"] = months.pop(0), months.pop(0)
    quarters = [day for day in months if day.strftime("%b") in ("Mar", "Jun", "Sep", "Dec")]
    names["quarter"], names["next_quarter"] = quarters[:2]
    return names


def test_the_list_of_december_2024_is_reproduced(recorded):
    """All six aliases, by expTime alone, are what the venue called them then."""
    answer = json.loads(
        (recorded / "okx" / "rest_public_instruments_futures_BTC-USD_2024-12.json").read_text()
    )
    instruments, quarantined = instruments_of(answer["data"])
    now = ns(2024, 12, 16, 12)

    assert (len(instruments), quarantined) == (6, 0)
    for item in instruments:
        assert contract_of(item.alias, instruments, now) == item
    assert {item.alias: item.inst_id[-6:] for item in instruments} == {
        "this_week": "241220",
        "next_week": "241227",
        "this_month": "250131",
        "next_month": "250228",
        "quarter": "250328",
        "next_quarter": "250627",
    }


def test_the_list_of_september_2026_is_reproduced(recorded):
    answer = json.loads(
        (recorded / "okx" / "rest_public_instruments_BTC-USD-261030_2026-09.json").read_text()
    )
    (item,), _ = instruments_of(answer["data"])

    assert contract_of(item.alias, [item], ns(2026, 9, 25, 12)) == item


def test_every_day_of_seven_years_follows_the_rule():
    moment = datetime(2024, 1, 1, 8, tzinfo=UTC)
    while moment < datetime(2031, 1, 1, tzinfo=UTC):
        for second in (moment - timedelta(seconds=1), moment):  # the roll is on Fridays at 08:00
            found = expiries_at(int(second.timestamp()) * NS_PER_S)
            assert {alias: day_of(expiry) for alias, expiry in found.items()} == by_hand(second), second
        moment += timedelta(days=1)


@given(st.integers(ns(2020, 1, 1), ns(2040, 1, 1)))
def test_aliases_are_distinct_fridays_to_come_in_order(now):
    found = expiries_at(now)

    assert list(found) == ALIASES
    assert len(set(found.values())) == 6
    assert all(expiry > now and day_of(expiry).weekday() == 4 for expiry in found.values())
    for nearer, farther in (
        ("this_week", "next_week"),
        ("this_month", "next_month"),
        ("quarter", "next_quarter"),
    ):
        assert found[nearer] < found[farther]
    assert found["next_week"] < found["this_month"]
    assert found["this_week"] - now <= 7 * 86_400 * NS_PER_S


def test_a_contract_is_gone_at_its_very_expiry():
    roll = ns(2026, 11, 27, 8)

    assert expiry_of("this_week", roll - 1) == roll
    assert expiry_of("this_week", roll) == ns(2026, 12, 4, 8)
    assert expiry_of("this_week", roll - 1) + 7 * 86_400 * NS_PER_S == expiry_of("next_week", roll - 1)


def test_month_takes_the_quarter_end_that_is_nearest():
    """In February the second last Friday ahead is a quarter end: the month has it, the quarters go on."""
    found = expiries_at(ns(2026, 2, 2))

    assert {alias: day_of(expiry) for alias, expiry in found.items()} == {
        "this_week": date(2026, 2, 6),
        "next_week": date(2026, 2, 13),
        "this_month": date(2026, 2, 27),
        "next_month": date(2026, 3, 27),
        "quarter": date(2026, 6, 26),
        "next_quarter": date(2026, 9, 25),
    }


def test_unknown_alias_is_an_error():
    with pytest.raises(KeyError):
        expiry_of("third_quarter", ns(2026, 2, 2))


def future(inst_id, expiry, kind="future"):
    one = Decimal(1)
    return Instrument(
        venue="okex",
        inst_id=inst_id,
        kind=kind,
        family="BTC-USD",
        tick=one,
        lot=one,
        min_size=one,
        multiplier=one,
        is_inverse=True,
        settle_ccy="BTC",
        expiry=expiry,
    )


def test_no_contract_while_the_alias_is_not_listed():
    """Ten minutes each Friday: delivered at 08:00, the next listed at 08:10."""
    listed = [future("BTC-USD-261204", ns(2026, 12, 4, 8)), future("swap", ns(2026, 12, 11, 8), "swap")]

    assert contract_of("this_week", listed, ns(2026, 11, 27, 8)) == listed[0]
    assert contract_of("next_week", listed, ns(2026, 11, 27, 8)) is None
    assert contract_of("this_week", [], ns(2026, 11, 27, 8)) is None
