"""The rolling day of tickers."""

from random import Random

from dquant.simulator.day_stats import DayStats

HOUR = 3600 * 1_000_000_000
START = 1_795_305_600_000_000_000 // (24 * HOUR) * (24 * HOUR) + 5 * HOUR


def test_it_starts_with_a_whole_day_behind_it():
    day = DayStats(START, 1000, 600, Random(1))
    assert day.low <= day.open <= day.high
    assert day.lots > 600
    assert day.last_tick == 1000


def test_trades_move_last_high_and_low():
    day = DayStats(START, 1000, 600, Random(1))
    lots = day.lots
    day.add(START, 5000, 7)
    day.add(START, 3, 2)
    assert (day.last_tick, day.last_lots, day.high, day.low) == (3, 2, 5000, 3)
    assert day.lots == lots + 9


def test_after_a_day_the_invented_hours_are_gone():
    day = DayStats(START, 1000, 600, Random(1))
    for hour in range(1, 26):
        day.add(START + hour * HOUR, 2000 + hour, 1)
    assert (day.open, day.high, day.low, day.lots) == (2002, 2025, 2002, 24)


def test_the_utc_days_begin_with_their_first_trade():
    day = DayStats(START, 1000, 600, Random(1))
    day.add(START + 12 * HOUR, 77, 1)  # 17:00 UTC, 01:00 in UTC+8
    assert day.sod_utc8 == 77
    day.add(START + 20 * HOUR, 88, 1)  # 01:00 UTC
    assert day.sod_utc0 == 88
