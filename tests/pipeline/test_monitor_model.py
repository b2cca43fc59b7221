"""What a monitor makes of records: rates, holes, lags, verdicts, silence; bad ones counted."""

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dquant.constants import NS_PER_MS, NS_PER_S
from dquant.pipeline.monitor_model import MARKETS_KEPT, MonitorModel, SeqWatch, SlidingRate

NOW = 1_795_334_400 * NS_PER_S


def text(record, **changes):
    return msgspec.json.encode(msgspec.structs.replace(record, **changes))


@pytest.fixture
def model():
    return MonitorModel(NOW)


def test_a_price_fills_the_row(model, records):
    model.receive(
        "price", text(records.live(5.0), seq=1, ts_pub=NOW, ts_event=NOW - NS_PER_MS), NOW + 2 * NS_PER_MS
    )

    view = model.markets[records.market]
    assert (view.bid, view.verdict, view.environment, view.is_live) == (5.0, "live", "dev", True)
    assert view.lag_pub_ms == 2.0
    assert view.lag_event_ms == 3.0


def test_a_hole_in_the_numbers_is_counted_in_records(model, records):
    for seq in (1, 2, 5, 6, 9):
        model.receive("price", text(records.live(), seq=seq, ts_pub=NOW + seq), NOW)

    view = model.markets[records.market]
    assert (view.gaps, view.lost) == (2, 4)


def test_kinds_are_numbered_apart(model, records):
    model.receive("price", text(records.live(), seq=7, ts_pub=NOW), NOW)
    model.receive("health", text(records.health(), seq=1, ts_pub=NOW), NOW)
    model.receive("price:m", text(records.live(), seq=8, ts_pub=NOW + 1), NOW)

    assert model.markets[records.market].lost == 0


def test_a_new_run_of_the_publisher_is_no_loss(model, records):
    for number, seq in enumerate((1, 2, 3, 1, 2)):
        model.receive("price", text(records.live(), seq=seq, ts_pub=NOW + number), NOW)

    view = model.markets[records.market]
    assert (view.lost, view.runs, view.records) == (0, 2, 5)


def test_two_feeds_of_one_market_are_said_and_their_mixture_is_no_price(model, records):
    """Each numbers its own records; after one has stopped the other is believed again."""
    for number in range(6):
        for late, seq in enumerate((100 + number, 1 + number)):
            ts = NOW + number * NS_PER_S + late
            model.receive("price", text(records.live(), seq=seq, ts_pub=ts), ts)

    view = model.markets[records.market]
    assert not view.is_live
    assert [notice.what for notice in model.notices_received()] == [
        "more than one feed publishes it, and their prices mix: stop one"
    ]
    for number in range(6, 20):
        ts = NOW + number * NS_PER_S
        model.receive("price", text(records.live(), seq=1 + number, ts_pub=ts), ts)
    assert view.is_live


def test_a_feed_that_its_service_restarts_is_not_taken_for_two(model, records):
    for number in range(5):
        for seq in (1, 2):
            ts = NOW + number * 5 * NS_PER_S + seq
            model.receive("price", text(records.live(), seq=seq, ts_pub=ts), ts)

    assert model.markets[records.market].is_live
    assert model.notices_received() == []


@pytest.mark.parametrize("channels", [("price",), ("price", "price:m")])
def test_a_feed_that_starts_again_with_a_clock_behind_is_heard_at_once(model, records, channels):
    """Another machine takes over; its clock is half a minute behind, its numbers begin at 1."""
    for channel in channels:
        model.receive(channel, text(records.live(5.0), seq=5000, ts_pub=NOW), NOW)
    view = model.markets[records.market]
    behind = NOW - 30 * NS_PER_S
    stale = text(records.stale("connecting"), seq=1, ts_pub=behind)
    got = [model.receive(channel, stale, NOW + NS_PER_S) for channel in channels]
    assert (view.is_live, view.reason, view.runs) == (False, "connecting", 2)
    assert [record is not None for record in got] == [True, False][: len(channels)]

    for channel in channels:
        model.receive(channel, text(records.live(6.0), seq=2, ts_pub=behind + 1), NOW + 2 * NS_PER_S)
    assert (view.is_live, view.bid, view.runs, view.lost) == (True, 6.0, 2, 0)


def test_a_channel_that_lags_behind_a_restart_tells_nothing_new(model, records):
    """In a cluster each channel comes by a connection of its own."""
    first = [text(records.live(float(seq)), seq=seq, ts_pub=NOW + seq) for seq in (1, 2, 3)]
    second = [text(records.live(10.0 + seq), seq=seq, ts_pub=NOW + 10 + seq) for seq in (1, 2)]
    for record in (*first, *second):
        assert model.receive("price", record, NOW) is not None
        if record is first[0]:
            assert model.receive("price:m", record, NOW) is None
    for record in (*first[1:], *second):
        assert model.receive("price:m", record, NOW) is None

    view = model.markets[records.market]
    assert (view.bid, view.runs, view.lost, view.records) == (12.0, 2, 0, 5)


def test_records_that_another_channel_brought_are_no_sign_of_life(model, records):
    for seq in (1, 2):
        model.receive("price", text(records.live(), seq=seq, ts_pub=NOW + seq), NOW)
    model.receive_time(NOW + 3 * NS_PER_S)
    model.notices_received()
    for seq in (1, 2):
        model.receive("price:m", text(records.live(), seq=seq, ts_pub=NOW + seq), NOW + 3 * NS_PER_S)

    view = model.markets[records.market]
    assert (view.is_silent, view.age_s(NOW + 3 * NS_PER_S)) == (True, 3.0)
    assert [notice.market for notice in model.notices_received()] == [None]


def test_prices_whose_channel_was_lost_are_not_live_before_the_next_one(model, records):
    """Heartbeats over another node prove nothing about them."""
    for market in ("a", "b"):
        model.receive("price", text(records.live(market=market), seq=1, ts_pub=NOW), NOW)
        model.receive("health", text(records.health(market=market), seq=1, ts_pub=NOW), NOW)
    model.receive_lost(("price",))
    for market in ("a", "b"):
        model.receive("health", text(records.health(market=market), seq=2, ts_pub=NOW + 1), NOW)
    assert [view.is_live for view in model.markets.values()] == [False, False]

    model.receive("price", text(records.live(market="a"), seq=4, ts_pub=NOW + 2), NOW)
    assert [view.is_live for view in model.markets.values()] == [True, False]
    assert model.markets["a"].lost == 2


def test_a_second_channel_keeps_a_price_live_when_the_first_is_lost(model, records):
    for channel in ("price", "price:a"):
        model.receive(channel, text(records.live(market="a"), seq=1, ts_pub=NOW), NOW)
    model.receive_lost(("price",))
    assert model.markets["a"].is_live

    model.receive_lost(("price:a",))
    assert not model.markets["a"].is_live


def test_a_feed_that_started_again_unheard_is_heard_whatever_its_clock_says(model, records):
    for channel in ("price", "price:a"):
        model.receive(channel, text(records.live(market="a"), seq=5000, ts_pub=NOW), NOW)
    model.receive_lost(("price", "price:a"))
    model.receive("price:a", text(records.live(7.0, market="a"), seq=40, ts_pub=NOW - NS_PER_S), NOW)

    view = model.markets["a"]
    assert (view.is_live, view.bid, view.runs) == (True, 7.0, 2)


def test_a_lost_pattern_is_the_loss_of_all(model, records):
    model.receive("price:a", text(records.live(market="a"), seq=1, ts_pub=NOW), NOW)
    model.receive_lost(("price*", "health"))

    assert not model.markets["a"].is_live


def test_the_same_record_by_a_second_channel_counts_once(model, records):
    record = text(records.live(), seq=1, ts_pub=NOW)

    assert model.receive("price", record, NOW) is not None
    assert model.receive("price:m", record, NOW) is None
    assert model.records == 1


def test_a_stale_price_is_shown_as_stale_until_a_live_one(model, records):
    model.receive("price", text(records.live(), seq=1, ts_pub=NOW), NOW)
    model.receive("price", text(records.stale("crossed"), seq=2, ts_pub=NOW), NOW)
    view = model.markets[records.market]
    assert (view.is_live, view.reason, view.bid) == (False, "crossed", None)

    model.receive("price", text(records.live(), seq=3, ts_pub=NOW), NOW)
    assert view.is_live


def test_stale_health_takes_the_numbers_off_the_screen(model, records):
    model.receive("price", text(records.live(), seq=1, ts_pub=NOW), NOW)
    health = text(records.health("stale"), verdict="stale", reason="no frames", seq=1, ts_pub=NOW)
    model.receive("health", health, NOW)

    view = model.markets[records.market]
    assert (view.is_live, view.reason) == (False, "no frames")


@pytest.mark.parametrize(
    ("channel", "bad"),
    [("price", b"{"), ("price", b"\xff"), ("price", b'{"market": "m"}'), ("price", b"[]"), ("other", b"{}")],
)
def test_a_bad_record_is_counted_and_said_and_harms_nothing(model, channel, bad):
    assert model.receive(channel, bad, NOW) is None

    assert model.bad == 1
    assert "bad record" in model.notices_received()[0].what


def test_a_record_of_a_newer_publisher_with_more_fields_is_read(model, records):
    record = json.loads(text(records.live(), seq=1)) | {"later": 1}

    assert model.receive("price", json.dumps(record).encode(), NOW) is not None


def test_a_silent_feed_is_said_once_within_three_seconds_and_again_when_it_is_back(model, records):
    model.receive("health", text(records.health(), seq=1, ts_pub=NOW), NOW)
    model.receive_time(NOW + 2 * NS_PER_S)
    assert model.notices_received() == []

    # A look four times a second must have said it at 3 s.
    for quarter in range(8, 13):
        model.receive_time(NOW + quarter * NS_PER_S // 4)
    notices = model.notices_received()
    assert [notice.market for notice in notices] == [records.market, None]
    assert not model.markets[records.market].is_live

    model.receive("health", text(records.health(), seq=2, ts_pub=NOW + 1), NOW + 4 * NS_PER_S)
    assert "back" in model.notices_received()[-1].what
    assert not model.markets[records.market].is_silent


def test_one_silent_feed_among_living_ones_is_named(model, records):
    for market in ("a", "b"):
        model.receive("health", text(records.health(market=market), seq=1, ts_pub=NOW), NOW)
    model.receive("health", text(records.health(market="a"), seq=2, ts_pub=NOW + 1), NOW + 2 * NS_PER_S)
    model.receive_time(NOW + 3 * NS_PER_S)

    assert [notice.market for notice in model.notices_received()] == ["b"]


def test_a_silent_feed_is_said_though_the_clock_was_set_back(model, records):
    model.receive("health", text(records.health(market="a"), seq=1, ts_pub=NOW), NOW)
    for after_s in (-3600, -3597):
        model.receive_time(NOW + after_s * NS_PER_S)

    assert [notice.market for notice in model.notices_received()] == ["a", None]


def test_a_feed_is_not_taken_for_two_where_the_clock_was_set_back(model, records):
    """It was started four times in the hour that comes again."""
    for number, seq in enumerate((1, 1, 1, 1, 2)):
        ts = NOW + (-3600 if seq == 2 else 900 * number) * NS_PER_S
        model.receive("price", text(records.live(), seq=seq, ts_pub=ts), ts)

    assert model.markets[records.market].runs == 4
    assert model.markets[records.market].is_live
    assert model.notices_received() == []


def test_a_feed_that_was_never_there_is_said(model):
    model.receive_time(NOW + 3 * NS_PER_S)

    assert "is a feed running?" in model.notices_received()[0].what


def test_markets_beyond_the_bound_are_counted_not_kept(model, records):
    for number in range(MARKETS_KEPT + 2):
        model.receive("price", text(records.live(market=f"m{number}"), seq=1, ts_pub=NOW), NOW)

    assert len(model.markets) == MARKETS_KEPT
    assert model.unshown == 2


def test_the_rate_is_the_mean_of_the_last_whole_seconds():
    rate = SlidingRate()
    for tenth in range(100):
        rate.add(NOW + tenth * NS_PER_S // 10)

    assert rate.per_s(NOW + 10 * NS_PER_S) == 10.0
    assert rate.per_s(NOW + 60 * NS_PER_S) == 0.0


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=100))
def test_lost_is_exactly_what_lies_between_the_first_and_the_last_seen(arrives):
    watch = SeqWatch()
    seen = [seq for seq, comes in enumerate(arrives, 1) if comes]
    for seq in seen:
        assert watch.receive("price", seq, NOW + seq, NOW + seq)

    assert watch.lost == (seen[-1] - seen[0] + 1 - len(seen) if seen else 0)


@settings(deadline=None)
@given(st.text(), st.binary())
def test_any_message_is_read_or_counted(channel, data):
    model = MonitorModel(NOW)
    model.receive(channel, data, NOW)

    assert model.records + model.bad == 1
