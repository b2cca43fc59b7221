"""What market names stand for, and which are refused before anything connects."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from dquant.config import MyConfiguration
from dquant.errors import ConfigError, VenueClosed
from dquant.markets.market_factory import (
    SPECS,
    check_venues_open,
    connection_settings,
    create_markets,
    specs_of,
)

ADDRESSES = {
    "okex": ("http://127.0.0.1:1", "ws://127.0.0.1:1/ws/v5"),
    "bitmex": ("http://127.0.0.1:1", "ws://127.0.0.1:1/realtime"),
}
MakeSettings = Callable[..., MyConfiguration]


def test_every_market_of_the_table_can_be_made_and_starts_nothing(make_settings: MakeSettings) -> None:
    threads = threading.enumerate()
    markets = create_markets(list(SPECS), make_settings(), ADDRESSES)

    assert [market.market_name for market in markets] == list(SPECS)
    assert len(markets) == 15
    assert threading.enumerate() == threads
    assert {market.environment for market in markets} == {"dev"}
    assert all(market.get_ticker() is None and market.price.reason == "connecting" for market in markets)


def test_names_alone_make_markets_of_this_process_s_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    rest_url, ws_url = ADDRESSES["okex"]
    for key, value in {"ENV": "dev", "_OKEX_REST_URL": rest_url, "_OKEX_WS_URL": ws_url}.items():
        monkeypatch.setenv(f"DQUANT{key}", value)

    (market,) = create_markets(["okex_swap_btcusd"])

    assert (market.market_name, market.environment) == ("okex_swap_btcusd", "dev")


@pytest.mark.parametrize(
    ("name", "code", "inst_id", "contract"),
    [
        ("okex_future_btcusd_thisweek", "btc_usd_this_week", None, "100 USD"),
        ("okex_future_ethusd_nextquarter", "eth_usd_next_quarter", None, "10 USD"),
        ("okex_swap_btcusd", "btc_usd_swap", "BTC-USD-SWAP", "100 USD"),
        ("okex_swap_btcusdt", "btc_usdt_swap", "BTC-USDT-SWAP", "0.01 BTC"),
        ("okex_spot_btcusdt", "btc_usdt", "BTC-USDT", "1 BTC"),
        ("bitmex_future_btcusd", "btc_usd", "XBTUSD", "1 USD"),
        ("bitmex_future_ethusd", "eth_usd", "ETHUSD", "0.000001 XBT a USD"),
    ],
)
def test_name_stands_for_its_meta_code_instrument_and_contract(
    name: str, code: str, inst_id: str | None, contract: str
) -> None:
    (spec,) = specs_of([name], "-m")

    assert (spec.meta_code, spec.inst_id, spec.contract) == (code, inst_id, contract)
    assert name.startswith(spec.venue)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "none given"),
        (["okex_swap_btcus"], "'okex_swap_btcus' is not a market; did you mean okex_swap_btcusd?"),
        (["xyz"], "'xyz' is not a market; the verb `markets` lists the names"),
        (["okex_swap_btcusd", "okex_swap_btcusd"], "okex_swap_btcusd is given twice"),
    ],
)
def test_names_that_cannot_be_are_refused_with_the_option(names: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        specs_of(names, "-m")

    assert words in str(caught.value)
    assert str(caught.value).startswith("-m: ")
    assert caught.value.exit_code == 2


def test_market_of_a_closed_venue_is_one_clear_error(make_settings: MakeSettings) -> None:
    """What closed, when, and what to use instead; the other venue is not hurt by it."""
    cfg = make_settings(bitmex_closed_at="2026-09-23T04:00:00Z", bitmex_use_instead="okex_swap_btcusd")

    with pytest.raises(VenueClosed) as caught:
        create_markets(["okex_swap_btcusd", "bitmex_future_btcusd"], cfg, ADDRESSES)

    words = str(caught.value)
    for word in ("bitmex_future_btcusd", "BitMEX", "2026-09-23T04:00:00Z", "use okex_swap_btcusd instead"):
        assert word in words
    assert "bitmex_closed_at" in words
    assert caught.value.exit_code == 2
    check_venues_open(specs_of(["okex_swap_btcusd"], "-m"), cfg)


def test_what_to_use_instead_is_a_market(make_settings: MakeSettings) -> None:
    """Said at every start, not only once the venue has closed and the advice is read."""
    cfg = make_settings(okex_use_instead="okex_swap_btcusd_")

    with pytest.raises(ConfigError, match="okex_use_instead: 'okex_swap_btcusd_' is not a market"):
        check_venues_open(specs_of(["bitmex_future_btcusd"], "-m"), cfg)


def test_pro_marks_bitmex_as_closed() -> None:
    cfg = MyConfiguration("pro", {})

    with pytest.raises(VenueClosed, match="2026-09-23T04:00:00Z"):
        create_markets(["bitmex_future_btcusd"], cfg)
    (market,) = create_markets(["okex_swap_btcusd"], cfg)
    assert market.environment == "pro"


@pytest.mark.parametrize("key", ["rest_url", "ws_url"])
def test_venue_without_an_address_is_refused(make_settings: MakeSettings, key: str) -> None:
    rest_url, ws_url = ADDRESSES["okex"]
    addresses = {"okex": ("" if key == "rest_url" else rest_url, "" if key == "ws_url" else ws_url)}

    with pytest.raises(ConfigError, match=f"okex_{key} is empty, and okex_swap_btcusd needs it"):
        create_markets(["okex_swap_btcusd"], make_settings(), addresses)


def test_connection_keys_reach_the_faces(make_settings: MakeSettings) -> None:
    cfg = make_settings(transport="websockets", book_silence_s=2.5)
    settings: Any = connection_settings(cfg)

    assert {name: getattr(cfg, name) for name in settings.__slots__} == {
        name: getattr(settings, name) for name in settings.__slots__
    }
    assert (settings.transport, settings.book_silence_s) == ("websockets", 2.5)
