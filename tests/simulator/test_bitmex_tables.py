"""The JSON of the simulated BitMEX against golden texts written from the fact sheet."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dquant.simulator import bitmex_tables as tables

NOON_NS = 1_759_236_525_419_000_000  # 2025-09-30T12:48:45.419Z


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0005, "5.0E-4"),
        (3e-4 + 5e-20, "3.0000000000000003E-4"),
        (100.0, "100.0"),
        (98459.9, "98459.9"),
        (0.001, "0.001"),
        (1e-6, "1.0E-6"),
        (12345678.0, "1.2345678E7"),
        (1e7, "1.0E7"),
        (-0.000223, "-2.23E-4"),
        (0.0, "0.0"),
    ],
)
def test_floats_are_written_as_java_writes_them(value, text):
    assert tables.java_double(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_survives_the_way_there_and_back(value):
    assert float(tables.java_double(value)) == value


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_encoded_text_is_the_json_of_the_value(value):
    assert json.loads(tables.encode(value)) == value


def test_times_are_iso_with_milliseconds():
    assert tables.iso(NOON_NS) == "2025-09-30T12:48:45.419Z"


def test_the_welcome_has_the_form_of_2025():
    assert tables.welcome(NOON_NS, 719) == (
        '{"info":"Welcome to the BitMEX Realtime API.","version":"2.0.0",'
        '"timestamp":"2025-09-30T12:48:45.419Z","docs":"https://www.bitmex.com/app/wsAPI","heartbeatEnabled":false,"limit":{"remaining":719},'
        '"appName":"ws-feedhandler-dquant-simulator"}'
    )


def test_an_ack_repeats_the_request_and_names_the_pool_of_market_data():
    request = {"op": "subscribe", "args": ["orderBookL2:ETHUSDT"]}
    assert tables.ack("subscribe", "orderBookL2:ETHUSDT", request) == (
        '{"success":true,"subscribe":"orderBookL2:ETHUSDT",'
        '"request":{"op":"subscribe","args":["orderBookL2:ETHUSDT"]},"pool":"Primary"}'
    )
    assert tables.ack("subscribe", "instrument", {"op": "subscribe", "args": "instrument"}) == (
        '{"success":true,"subscribe":"instrument","request":{"op":"subscribe","args":"instrument"}}'
    )


def test_an_error_frame_has_status_words_meta_and_request():
    assert (
        tables.error(400, "No.", {"op": "x"}) == '{"status":400,"error":"No.","meta":{},"request":{"op":"x"}}'
    )


def test_a_partial_carries_keys_types_and_filter_and_a_delta_does_not():
    assert tables.partial("liquidation", None, []) == (
        '{"table":"liquidation","action":"partial","keys":["orderID"],"types":{"orderID":"guid","symbol":"symbol",'
        '"side":"symbol","price":"float","leavesQty":"long"},"filter":{},"data":[]}'
    )
    assert '"filter":{"symbol":"XBTUSD"}' in tables.partial("quote", "XBTUSD", [])
    assert tables.delta("quote", "insert", ['{"a":1}', '{"b":2}']) == (
        '{"table":"quote","action":"insert","data":[{"a":1},{"b":2}]}'
    )


def test_every_table_has_keys_that_are_columns_of_it():
    assert tables.KEYS.keys() == tables.TYPES.keys()
    for table, keys in tables.KEYS.items():
        assert set(keys) <= set(tables.TYPES[table])
