"""What the simulated OKX lists: aliases, the roll, the decoys."""

from datetime import UTC, datetime

import pytest

from dquant.simulator.okex_instruments import expiries_by_alias, next_change_ns, universe


def utc(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp()) * 1_000_000_000


def futures(now_ns: int, family: str = "BTC-USD") -> dict[str, tuple[str, str]]:
    return {
        listing.alias: (listing.inst_id.rsplit("-", 1)[1], listing.state)
        for listing in universe(now_ns).values()
        if listing.inst_type == "FUTURES" and listing.family == family
    }


@pytest.mark.parametrize(
    ("now", "days"),
    [
        # The six contracts recorded in December 2024.
        ((2024, 12, 16), ["241220", "241227", "250131", "250228", "250328", "250627"]),
        # As of September 2026 BTC-USD-261030 was this_month.
        ((2026, 9, 25, 9), ["261002", "261009", "261030", "261127", "261225", "270326"]),
        # A month end and a quarter end that are near go by the nearer name.
        ((2026, 11, 22), ["261127", "261204", "261225", "270129", "270326", "270625"]),
    ],
)
def test_aliases_go_to_the_nearest_fridays_first(now, days):
    assert [f"{day:%y%m%d}" for day in expiries_by_alias(utc(*now)).values()] == days


def test_the_weekly_contract_rolls_on_friday_at_eight():
    before, after = utc(2026, 11, 27, 7, 59, 59), utc(2026, 11, 27, 8)
    assert next_change_ns(before) == after
    assert futures(before)["this_week"] == ("261127", "live")
    assert futures(after)["this_week"] == ("261204", "live")
    assert "next_week" not in futures(after)


def test_the_successor_is_preopen_before_it_is_listed_at_ten_past():
    assert futures(utc(2026, 11, 27, 8, 6))["next_week"] == ("261211", "preopen")
    assert futures(utc(2026, 11, 27, 8, 10))["next_week"] == ("261211", "preopen")
    assert futures(utc(2026, 11, 27, 8, 10, 1))["next_week"] == ("261211", "live")


def test_every_change_comes_when_it_is_announced():
    """Between two announced changes the list stays as it is."""
    now, end = utc(2026, 11, 20), utc(2026, 12, 12)
    while now < end:
        change = next_change_ns(now)
        assert change > now
        shown = {name: listing.row for name, listing in universe(now).items()}
        assert {name: listing.row for name, listing in universe(change - 1).items()} == shown
        assert {name: listing.row for name, listing in universe(change).items()} != shown
        now = change


def test_codes_and_ids_are_unique():
    listings = universe(utc(2026, 11, 22)).values()
    assert len({listing.code for listing in listings}) == len(listings)
    assert all(isinstance(listing.row["instIdCode"], int) for listing in listings)


def test_the_underlying_is_shared_with_decoys_the_family_is_not():
    rows = [listing.row for listing in universe(utc(2026, 11, 22)).values()]
    named = {row["instId"] for row in rows if row["uly"] == "BTC-USD" and row["instType"] == "FUTURES"}
    wanted = {
        row["instId"] for row in rows if row["instFamily"] == "BTC-USD" and row["instType"] == "FUTURES"
    }
    decoys = [row for row in rows if row["instId"] in named - wanted]
    assert len(wanted) == 6
    assert len(decoys) == 3
    assert {row["ctType"] for row in decoys} == {"linear"}
    assert {row["ruleType"] for row in decoys} == {"normal", "xperp"}


@pytest.mark.parametrize(
    ("inst_id", "name"),
    [
        ("BTC-USD-SWAP", "rest_public_instruments_BTC-USD-SWAP_2026-09"),
        ("BTC-USDT-SWAP", "rest_public_instruments_BTC-USDT-SWAP_2026-09"),
        ("BTC-USDT", "rest_public_instruments_BTC-USDT_spot_demo_2026-09"),
        ("BTC-USD-261030", "rest_public_instruments_BTC-USD-261030_2026-09"),
    ],
)
def test_rows_have_the_facts_of_the_recorded_ones(recorded, inst_id, name):
    """All of a row but its dates and ids, and what demo has otherwise."""
    real = recorded(name)["data"][0]
    own = universe(utc(2026, 9, 26))[inst_id].row
    assert {key: type(value) for key, value in own.items()} == {
        key: type(value) for key, value in real.items()
    }
    free = {"listTime", "contTdSwTime", "instIdCode"} | ({"minSz"} if inst_id == "BTC-USDT" else set())
    assert {key: own[key] for key in own.keys() - free} == {key: real[key] for key in real.keys() - free}
