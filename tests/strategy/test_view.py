"""The live screens: what is shown, what must not be, and that it fits the terminal."""

import subprocess
import sys
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dquant.strategy.diff import Diff
from dquant.strategy.ticker import Ticker
from dquant.strategy.view import (
    WIDEST,
    DiffScreen,
    TickerScreen,
    create_screen,
    render_svg,
    render_text,
)

A = "okex_future_btcusd_thisweek"
B = "bitmex_future_btcusd"
START = 1_795_334_400_000_000_000
SECOND = 1_000_000_000


@pytest.fixture
def screen(make_price):
    """A screen whose legs were live for a minute: sell_diff 3.3 for 30 s, then 5.3."""
    screen = DiffScreen(Diff([A, B], "dev"))
    screen.update(make_price(B, 84090.0, 84090.1, at_s=0))
    screen.update(make_price(A, 84093.4, 84093.5, at_s=0))
    screen.update(make_price(A, 84095.4, 84095.5, at_s=30))
    screen.update(make_price(B, 84090.0, 84090.1, at_s=60))
    return screen


def row(text, start):
    """Return the words of the first line that starts with ``start``."""
    return next(line for line in text.splitlines() if line.strip().startswith(start)).split()


def test_the_screen_shows_both_tops_the_differences_and_their_last_minutes(screen):
    text = render_text(screen, START + 60 * SECOND + 250_000_000)

    assert row(text, f"a  {A}")[2:] == ["BTC-USD-261127", "LIVE", "30.2", "s"]
    assert row(text, f"b  {B}")[2:] == ["XBTUSD", "LIVE", "250", "ms"]
    assert row(text, "a         120") == ["a", "120", "84095.4", "84095.5", "44", "0.1"]
    # 3.3 and 5.3 for 30 s each: mean 4.3, deviation 1; the bars end on the newest.
    # The figures reach to 60.25 s, which moves the mean to 4.304 and no digit shown.
    sell = row(text, "sell a, buy b")
    assert sell[4:10] == ["USD", "+5.3", "+4.30", "1.00", "+3.3", "+5.3"]
    assert sell[10].startswith("▁")
    assert sell[10].endswith("█")
    # 5.3 / 84090.05 * 1e4 = 0.63028
    assert row(text, "bp")[:2] == ["bp", "+0.63"]
    assert row(text, "buy a, sell b")[4:6] == ["USD", "+5.5"]
    assert "last 1 min" in text
    assert "2026-11-22 08:01:00 UTC" in text


@pytest.mark.parametrize(
    ("height", "kept"), [(24, "health"), (20, "health"), (18, "ask - ask"), (12, "ask - ask")]
)
def test_a_low_terminal_keeps_the_verdicts_the_tops_and_the_four_differences(screen, height, kept):
    lines = ["".join(text for text, _ in line) for line in screen.lines(START + SECOND, 80, height)]

    assert len(lines) <= height
    for words in (f"a  {A}", f"b  {B}", "a         120", "sell a, buy b", "buy a, sell b", "bid - bid", kept):
        assert any(words in line for line in lines)


def test_the_age_of_a_price_is_marked_before_its_book_counts_as_silent(screen):
    ages = {
        line[1][0].strip(): line[-1][1]
        for line in screen.lines(START + 60 * SECOND, 80)
        if len(line) == 5 and line[1][0].strip() in (A, B)
    }
    assert ages == {A: "warning", B: ""}  # 30 s, and this moment


def test_simulated_prices_are_called_so_and_real_ones_are_not(screen):
    assert "SIMULATED" in render_text(screen, START).splitlines()[0]
    assert "SIMULATED" not in render_text(DiffScreen(Diff([A, B], "pro")), START)
    assert "SIMULATED" in render_text(TickerScreen(Ticker([A], "dev")), START).splitlines()[0]


def test_a_stale_leg_is_shown_with_its_reason_and_without_any_price(screen, make_price):
    screen.update(make_price(B, reason="sequence broken", at_s=61))

    text = render_text(screen, START + 62 * SECOND)

    assert (screen.legs["b"].verdict, screen.legs["b"].reason) == ("stale", "sequence broken")
    assert screen.legs["a"].verdict == "live"
    assert screen.difference.verdict == "stale"
    assert row(text, f"b  {B}")[2:] == ["XBTUSD", "STALE", "2.0", "s"]
    assert row(text, "b  STALE") == ["b", "STALE", "sequence", "broken"]
    assert "84090" not in text
    assert "84095.4" in text  # the other leg is live
    for label in ("sell a, buy b", "buy a, sell b", "bid - bid", "ask - ask"):
        assert row(text, label).count("—") == 1  # now; what was before stays


def test_health_alone_makes_the_leg_stale_on_the_screen(screen, make_health):
    screen.update(make_health(A, "stale", verdict="stale", reason="connection lost", at_s=61))

    text = render_text(screen, START + 61 * SECOND)

    assert "STALE  connection lost" in text
    assert "84095" not in text


def test_a_leg_that_falls_silent_is_stale_on_the_next_look(screen, make_health):
    """Nobody has to hand the time over: to look is enough."""
    for market in (A, B):
        screen.update(make_health(market, at_s=60))
    render_text(screen, START + 60 * SECOND)

    text = render_text(screen, START + 64 * SECOND)

    assert screen.legs["a"].reason == screen.legs["b"].reason == "silent"
    assert "8409" not in text


def test_a_stale_period_is_a_gap_in_the_bars_and_not_in_the_figures(screen, make_price):
    screen.update(make_price(B, reason="gap", at_s=60))
    screen.update(make_price(B, 84090.0, 84090.1, at_s=90))

    text = render_text(screen, START + 100 * SECOND, width=WIDEST)

    assert row(text, "sell a, buy b")[-1] == "▁▁▁▁▁▁██████······███"


def test_the_last_minutes_of_one_contract_are_not_those_of_the_next(screen, make_price):
    """At the roll the difference jumps by what the next week costs: its mean is that of the new one alone."""
    screen.update(make_price(A, reason="rolling", at_s=61))
    # (30 s * 3.3 + 31 s * 5.3) / 61 s, until there is another
    assert row(render_text(screen, START + 61 * SECOND), "sell a, buy b")[6] == "+4.32"
    screen.update(make_price(A, 84193.4, 84193.5, at_s=62, inst_id="BTC-USD-261204"))
    text = render_text(screen, START + 72 * SECOND)

    assert row(text, "sell a, buy b")[4:10] == ["USD", "+103.3", "+103.30", "0.00", "+103.3", "+103.3"]
    assert "last 10 s" in text


def test_a_clock_that_is_set_back_begins_the_last_minutes_anew(screen, make_price):
    for at_s in (-3600, -3590):
        screen.update(make_price(A, 84095.4, 84095.5, at_s=at_s))
        screen.update(make_price(B, 84090.0, 84090.1, at_s=at_s))

    assert "last 20 s" in render_text(screen, START - 3580 * SECOND)


def test_before_the_first_event_every_number_is_a_dash():
    text = render_text(DiffScreen(Diff([A, B], "dev")), START)

    assert text.count("STALE  not seen yet") == 2
    assert row(text, "sell a, buy b")[5:] == ["—"] * 5
    assert "no data yet" in text


def test_drops_and_reconnects_are_shown(screen, make_health):
    screen.update(make_health(A, at_s=60, reconnects=2, dropped=17))

    text = render_text(screen, START + 60 * SECOND)

    assert row(text, "a  messages") == [
        "a",
        "messages",
        "1234",
        "reconnects",
        "2",
        "resyncs",
        "0",
        "dropped",
        "17",
        "quarantined",
        "0",
    ]
    assert "b  no health report yet" in text


def test_prices_of_a_finer_tick_bring_their_decimals_to_the_whole_screen(make_price):
    screen = DiffScreen(Diff([A, B], "dev"))
    screen.update(make_price(A, 3012.25, 3012.3))
    screen.update(make_price(B, 3010.0, 3010.5))

    text = render_text(screen, START)

    assert row(text, "a         120")[2:4] == ["3012.25", "3012.30"]
    assert row(text, "bid - bid")[3:5] == ["USD", "+2.25"]


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_no_line_is_wrapped_or_cut_at(screen, make_price, make_health, width):
    for market in (A, B):
        screen.update(make_health(market, at_s=60, reconnects=12, dropped=123456))
    screen.update(make_price(A, 121093.4, 121093.5, at_s=60, amounts=(98765432.0, 1234567.0)))

    for line in screen.lines(START + 61 * SECOND, width):
        assert sum(len(text) for text, _ in line) <= width
    text = render_text(screen, START + 61 * SECOND, width=width)
    assert "…" not in text
    assert len(text.splitlines()) == 22
    assert max(map(len, text.splitlines())) <= width


def test_a_reason_of_any_length_takes_one_line(screen, make_price):
    screen.update(make_price(A, reason="connection lost: " + "no route to host\n" * 20, at_s=61))

    text = render_text(screen, START + 61 * SECOND)

    assert len(text.splitlines()) == 22
    assert max(map(len, text.splitlines())) <= 80


def test_the_ticker_shows_each_market_on_its_row(make_price, make_health):
    screen = create_screen(Ticker([A, B, "okex_swap_btcusd"], "dev"))
    screen.update(make_price(A, 84093.4, 84093.5))
    screen.update(make_price(B, 84090.0, 84090.1))
    screen.update(make_price(B, reason="sequence broken", at_s=1))
    screen.update(make_health(A, dropped=17))

    text = render_text(screen, START + 2 * SECOND)

    assert row(text, A) == [A, "LIVE", "120", "84093.4", "84093.5", "44", "2.0", "s"]
    assert row(text, B) == [B, "STALE", "sequence", "broken"]
    assert row(text, "okex_swap_btcusd") == ["okex_swap_btcusd", "STALE", "not", "seen", "yet"]
    assert "84090" not in text
    assert f"{A}  dropped 17" in text
    assert screen.legs[B].verdict == "stale"


@pytest.mark.parametrize("width", [80, 120])
def test_the_ticker_fits_with_the_longest_names_and_numbers(make_price, width):
    names = ["okex_future_btcusd_nextquarter", B]
    screen = TickerScreen(Ticker(names, "dev"))
    for market in names:
        screen.update(make_price(market, 121093.45, 121093.5, amounts=(98765432.0, 1234567.0)))

    text = render_text(screen, START + 59 * SECOND, width=width)

    assert max(map(len, text.splitlines())) <= width
    assert names[0] in text
    assert text.count("59.0 s") == 2


def test_the_picture_is_well_formed_says_simulated_and_fetches_nothing(screen):
    svg = render_svg(screen, START + 60 * SECOND)

    ElementTree.fromstring(svg)
    assert "SIMULATED" in svg
    assert "@font-face" not in svg
    assert "url(http" not in svg


def test_the_model_of_a_screen_needs_no_rich():
    program = (
        "import sys; from dquant.strategy.view import create_screen; from dquant.strategy.diff import Diff;"
        "create_screen(Diff(['a', 'b'], 'dev')).lines(0, 80); sys.exit('rich' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=20).returncode == 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.integers(min_value=20, max_value=300), st.integers(min_value=0, max_value=10**12))
def test_any_width_and_time_can_be_drawn(make_price, width, wait):
    screen = DiffScreen(Diff([A, B], "dev"))
    screen.update(make_price(A, 84093.4, 84093.5))
    screen.update(make_price(B, 84090.0, 84090.1))

    text = render_text(screen, START + wait, width=width)

    assert max(map(len, text.splitlines())) <= width
