"""Every frame and answer of the simulated OKX has the keys and types of the venue's own."""

from collections.abc import Iterator
from typing import Any

import pytest

INST = "BTC-USD-261127"


def shape(value: Any) -> Any:
    """Return keys and types; of a list, the shapes that occur in it."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        kinds = [shape(item) for item in value]
        return [kind for place, kind in enumerate(kinds) if kind not in kinds[:place]]
    return type(value).__name__


def first(frames: list[dict[str, Any]], **wanted: Any) -> dict[str, Any]:
    return next(
        frame
        for frame in frames
        if all(frame.get(key) == value for key, value in wanted.items()) and "data" in frame
    )


PUSHES = [
    ("tickers", INST, "ws_tickers__push_BTC-USD-220624"),
    ("tickers", "BTC-USD-SWAP", "ws_tickers__push_BTC-USD-SWAP_2022"),
    ("trades", "BTC-USDT", "ws_trades__push_BTC-USDT_2026-09_rpi"),
    ("bbo-tbt", INST, "ws_bbo_tbt__push_LTC-USDC_2025-12"),
    ("bbo-tbt", INST, "ws_bbo_tbt__push_doc"),
    ("books5", "BTC-USDT", "ws_books5__push_BTC-USDT_2026-09"),
    ("mark-price", INST, "ws_mark_price__push_futures_2021"),
    ("index-tickers", "BTC-USD", "ws_index_tickers__push_BTC-USD_2026-08"),
    ("funding-rate", "BTC-USDT-SWAP", "ws_funding_rate__push_BTC-USDT-SWAP_2026-09"),
    ("open-interest", "BTC-USDT-SWAP", "ws_open_interest__push_doc"),
]


@pytest.mark.parametrize(("channel", "inst_id", "name"), PUSHES)
def test_pushes_have_the_recorded_shape(okex, frames, recorded, channel, inst_id, name):
    connection = okex.listen(channel, inst_id)
    okex.run(3000)
    assert shape(first(frames(connection))) == shape(recorded(name))


def test_price_limits_have_the_keys_of_both_samples(okex, frames, recorded):
    """The docs have ``enabled`` and no ``instType``, the recording of 2021 the other way round."""
    own = shape(first(frames(okex.listen("price-limit", INST))))["data"][0]
    samples = [
        shape(recorded(f"ws_price_limit__push_{name}"))["data"][0] for name in ("doc", "XRP-USD-211231")
    ]
    assert own == samples[0] | samples[1]


def test_book_frames_have_the_recorded_shape(okex, frames, recorded):
    connection = okex.listen("books", INST)
    okex.run(1000)
    said = frames(connection)
    assert shape(first(said, action="snapshot")) == shape(
        recorded("ws_books__snapshot_NEAR-USDT_2025-12_truncated")
    )
    update = next(
        frame for frame in said if frame["action"] == "update" and all(frame["data"][0][s] for s in SIDES)
    )
    assert shape(update) == shape(recorded("ws_books__update_doc"))
    assert all(len(row) == 4 for frame in said for side in SIDES for row in frame["data"][0][side])


SIDES = ("asks", "bids")


def test_instrument_pushes_have_the_documented_shape(okex_at, frames, recorded):
    okex = okex_at(2026, 11, 27, 7, 59, 59)
    connection = okex.connect()
    okex.subscribe(connection, {"channel": "instruments", "instType": "FUTURES"})
    okex.run(1500)
    own, real = shape(first(frames(connection))), shape(recorded("ws_instruments__push_doc"))
    own["data"][0].pop("upcChg")
    real["data"][0].pop("upcChg")  # a change of the tick is announced there, none here
    assert own == real


def test_status_has_the_recorded_shape(okex, frames, recorded):
    connection = okex.connect()
    okex.subscribe(connection, {"channel": "status"})
    assert shape(first(frames(connection))) == shape(recorded("ws_status__push_recorded"))


def test_estimates_have_the_documented_shape(okex_at, frames, recorded):
    okex = okex_at(2026, 11, 27, 7, 59)
    connection = okex.connect()
    okex.subscribe(connection, recorded("ws_estimated_price__request")["args"][0])
    okex.run(300)
    assert shape(first(frames(connection))) == shape(recorded("ws_estimated_price__push_doc"))


def test_trades_of_every_match_have_the_documented_shape(okex, frames, recorded):
    connection = okex.connect("business")
    okex.subscribe(connection, {"channel": "trades-all", "instId": INST})
    okex.run(2000)
    assert shape(first(frames(connection))) == shape(recorded("ws_trades_all__push_doc"))


REST = [
    ("public/time", {}, "rest_public_time_recorded"),
    ("market/ticker", {"instId": "BTC-USD-SWAP"}, "rest_market_ticker"),
    ("market/books", {"instId": INST, "sz": "5"}, "rest_market_books"),
    ("market/books-full", {"instId": INST, "sz": "500"}, "rest_market_books_full"),
    ("market/trades", {"instId": INST}, "rest_market_trades"),
    ("market/index-tickers", {"instId": "BTC-USDT"}, "rest_market_index_tickers"),
    ("public/mark-price", {"instType": "SWAP", "instId": "BTC-USDT-SWAP"}, "rest_public_mark_price"),
    ("public/price-limit", {"instId": "BTC-USDT-SWAP"}, "rest_public_price_limit"),
    ("public/open-interest", {"instType": "SWAP"}, "rest_public_open_interest"),
    ("system/status", {}, "rest_system_status"),
    (
        "public/instruments",
        {"instType": "FUTURES", "instFamily": "BTC-USD"},
        "rest_public_instruments_BTC-USD-261030_2026-09",
    ),
]


@pytest.mark.parametrize(("path", "query", "name"), REST)
def test_rest_answers_have_the_recorded_shape(okex, recorded, path, query, name):
    okex.run(1000)
    status, answer = okex.get(path, **query)
    assert status == 200
    assert shape(answer) == shape(recorded(name))


def test_rest_funding_has_the_documented_keys_and_the_newer_one(okex, recorded):
    """``prevFundingTime`` is in the recorded push of 2026, not yet in the docs' REST example."""
    _status, answer = okex.get("public/funding-rate", instId="BTC-USDT-SWAP")
    own = shape(answer)
    assert own["data"][0].pop("prevFundingTime") == "str"
    assert own == shape(recorded("rest_public_funding_rate"))


def test_rest_estimates_have_the_documented_shape(okex_at, recorded):
    okex = okex_at(2026, 11, 27, 7, 30)
    _status, answer = okex.get("public/estimated-price", instId=INST)
    assert shape(answer) == shape(recorded("rest_public_estimated_price"))


def test_an_unknown_instrument_is_the_recorded_error(okex, recorded):
    status, answer = okex.get("market/ticker", instId="BTC-USD-200101")
    assert (status, answer) == (200, recorded("rest_error_51001"))


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, str):
        yield value


def test_no_number_is_written_as_a_float_would_be(okex):
    okex.run(500)
    for path, query, _name in REST:
        for text in strings(okex.get(path, **query)[1]):
            assert "e-" not in text.lower() or not text[:1].isdigit(), (path, text)
