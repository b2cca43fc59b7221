"""The benchmarks' own tools: streams that are valid and known, a load server that sends them, a report."""

import argparse
import base64
import json
import os
import socket
import struct
import zlib

import pytest

from benchmarks import streams
from benchmarks.load_server import Connection, Load
from benchmarks.report import table
from benchmarks.scenarios import RATIOS, SCENARIOS

COUNT = 400


def okx_books(name):
    """Yield the decoded data of each frame, the true top and a plain book kept from the frames alone."""
    bids, asks = {}, {}
    for text, top, _ in streams.messages(name, COUNT):
        frame = json.loads(text)
        (data,) = frame["data"]
        for side, rows in ((bids, data["bids"]), (asks, data["asks"])):
            for price, size, _, _ in rows:
                if size == "0":
                    side.pop(price)
                else:
                    side[price] = size
        yield frame["action"], data, top, bids, asks


@pytest.mark.parametrize("name", ["okx7", "okx7crc", "okx24"])
def test_okx_stream_keeps_its_chain_and_its_top_is_the_one_that_is_told(name):
    last_seq = -1
    for number, (action, data, top, bids, asks) in enumerate(okx_books(name)):
        assert action == ("snapshot" if number == 0 else "update")
        assert data["prevSeqId"] == last_seq
        last_seq = data["seqId"]
        assert int(data["ts"]) == streams.BASE_MS + number
        bid, ask = max(bids, key=float), min(asks, key=float)
        assert top == (float(bid), float(bids[bid]), float(ask), float(asks[ask]))
        assert top[0] < top[2]


def test_okx_checksum_is_valid_on_every_message():
    for _, data, _, bids, asks in okx_books("okx7crc"):
        best_bids = sorted(bids, key=float, reverse=True)[:25]
        best_asks = sorted(asks, key=float)[:25]
        text = ":".join(
            f"{bid}:{bids[bid]}:{ask}:{asks[ask]}" for bid, ask in zip(best_bids, best_asks, strict=True)
        )
        assert zlib.crc32(text.encode()) == data["checksum"] & 0xFFFFFFFF


def test_okx_stream_without_checksums_carries_zeros():
    assert {data["checksum"] for _, data, *_ in okx_books("okx7")} == {0}


def test_bitmex_stream_names_only_rows_that_are_there_and_its_top_is_the_one_that_is_told():
    rows = {}
    actions = []
    for number, (text, top, _) in enumerate(streams.messages("bitmex", 2000)):
        frame = json.loads(text)
        actions.append(frame["action"])
        for row in frame["data"]:
            known = row["id"] in rows
            if frame["action"] in ("partial", "insert"):
                assert not known
                rows[row["id"]] = row
            elif frame["action"] == "update":
                assert known
                rows[row["id"]] |= row
            else:
                assert known
                assert "size" not in row
                del rows[row["id"]]
        if number % 100 == 0:
            bid = max((row for row in rows.values() if row["side"] == "Buy"), key=lambda row: row["price"])
            ask = min((row for row in rows.values() if row["side"] == "Sell"), key=lambda row: row["price"])
            assert top == (bid["price"], bid["size"], ask["price"], ask["size"])
    assert actions[0] == "partial"
    assert actions.count("update") / len(actions) == pytest.approx(0.72, abs=0.04)
    assert actions.count("insert") / len(actions) == pytest.approx(0.14, abs=0.03)


@pytest.mark.parametrize(("name", "mean_changes", "mean_bytes"), [("okx7", 7.3, 370), ("okx24", 23.7, 790)])
def test_okx_stream_has_the_size_that_its_name_promises(name, mean_changes, mean_bytes):
    texts = [text for text, _, _ in streams.messages(name, 1500)][1:]
    changes = [len(data["asks"]) + len(data["bids"]) for text in texts for data in json.loads(text)["data"]]
    assert sum(changes) / len(changes) == pytest.approx(mean_changes, rel=0.1)
    assert sum(map(len, texts)) / len(texts) == pytest.approx(mean_bytes, rel=0.1)


def test_stream_is_the_same_every_time():
    once = [text for text, _, _ in streams.messages("okx7", 50)]
    assert once == [text for text, _, _ in streams.messages("okx7", 50)]


def test_snapshot_after_a_message_is_the_book_that_its_updates_made():
    bids, wanted = {}, None
    for text, _, snapshot in streams.messages("okx7", streams.SNAPSHOT_EVERY + 1):
        for price, size, _, _ in json.loads(text)["data"][0]["bids"]:
            bids[price] = size
        wanted = snapshot
    (data,) = json.loads(wanted)["data"]
    rows = {price: size for price, size, _, _ in data["bids"]}
    assert data["prevSeqId"] == -1
    # A snapshot stops at 400 levels; the book behind it may be a little deeper.
    assert rows.items() <= {price: size for price, size in bids.items() if size != "0"}.items()
    assert max(map(float, rows)) == max(float(price) for price, size in bids.items() if size != "0")


class Client:
    """The least of a websocket client, at the other end of a socket pair."""

    def __init__(self, sock):
        self.sock = sock
        self.rest = b""
        key = base64.b64encode(bytes(16)).decode()
        sock.sendall(f"GET /ws/v5/public HTTP/1.1\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode())
        while b"\r\n\r\n" not in self.rest:
            self.rest += sock.recv(4096)
        _, _, self.rest = self.rest.partition(b"\r\n\r\n")

    def send(self, text):
        body = text.encode()
        assert len(body) < 126
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[at & 3] for at, byte in enumerate(body))
        self.sock.sendall(bytes((0x81, 0x80 | len(body))) + mask + masked)

    def _read(self, size):
        while len(self.rest) < size:
            more = self.sock.recv(65536)
            assert more, "the server hung up"
            self.rest += more
        taken, self.rest = self.rest[:size], self.rest[size:]
        return taken

    def receive(self):
        size = self._read(2)[1]
        if size == 126:
            (size,) = struct.unpack(">H", self._read(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", self._read(8))
        return self._read(size).decode()


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """Return a function that starts a load of ``COUNT`` messages and returns a connected client."""
    monkeypatch.setattr(streams, "CACHE", tmp_path)
    socks = []

    def start(**changes):
        options = {"stream": "okx7", "count": COUNT, "mode": "blast", "rate": 20_000, "drop": 0, "sent": None}
        near, far = socket.socketpair()
        near.settimeout(10)
        connection = Connection(far, Load(argparse.Namespace(**options | changes)))
        connection.start()
        socks.append((near, connection))
        return Client(near)

    yield start
    for near, connection in socks:
        near.close()
        connection.join(5)
        assert not connection.is_alive()


SUBSCRIBE = '{"op":"subscribe","args":[{"channel":"books","instId":"BTC-USD-SWAP"}]}'


@pytest.mark.parametrize("mode", ["blast", "paced", "burst"])
def test_load_server_acknowledges_and_then_sends_the_whole_stream_in_order(serve, mode):
    client = serve(mode=mode)
    client.send(SUBSCRIBE)
    assert json.loads(client.receive())["event"] == "subscribe"
    expected = [text for text, _, _ in streams.messages("okx7", COUNT)]
    assert [client.receive() for _ in expected] == expected


def test_load_server_loses_what_it_is_told_to_and_answers_a_resubscription_with_a_snapshot(serve):
    client = serve(mode="paced", drop=1)
    client.send(SUBSCRIBE)
    client.receive()
    last_seq = -1
    while True:
        (data,) = json.loads(client.receive())["data"]
        if data["prevSeqId"] != last_seq:
            break
        last_seq = data["seqId"]
    client.send(SUBSCRIBE)
    frames = iter(lambda: json.loads(client.receive()), None)
    snapshot = next(frame for frame in frames if frame.get("action") == "snapshot")
    following = json.loads(client.receive())
    assert following["data"][0]["prevSeqId"] == snapshot["data"][0]["seqId"]


def test_load_server_answers_a_text_ping(serve):
    client = serve()
    client.send("ping")
    assert client.receive() == "pong"


def test_every_ratio_names_clients_that_take_part_in_its_scenario():
    labels = {scenario.name: {each.label for each in scenario.contenders} for scenario in SCENARIOS}
    for ratio in RATIOS:
        assert {ratio.over, ratio.under} <= labels[ratio.scenario]


def test_report_scales_cpu_by_the_machine_s_speed_and_names_what_could_not_run():
    slow_peer = {"cpu_us": 60.0, "calibration_ms": 10.0, "seen": 9, "lost": 0}
    dquant = {"cpu_us": 10.0, "calibration_ms": 5.0, "seen": 9, "lost": 0, "wrong": 0, "checked": 3}
    rounds = [{"dquant": dquant, "cryptofeed 3": slow_peer, "ccxt": {"failed": "no module"}}]
    about = {
        "date": "2026-01-01",
        "minutes": 1,
        "machine": "a machine",
        "versions": {"py313": {"Python": "3.13"}},
    }
    lines = table(about, {"okx-books": rounds}).splitlines()
    (cryptofeed,) = [line for line in lines if "cryptofeed 3 ÷ dquant" in line]
    assert "| 3.00 |" in cryptofeed
    assert cryptofeed.endswith("| reach |")
    (ccxt,) = [line for line in lines if "ccxt ÷ dquant" in line]
    assert "no module" in ccxt


def test_report_counts_a_wrong_top_of_dquant_as_a_miss():
    result = {"cpu_us": 1.0, "calibration_ms": 1.0, "seen": 9, "lost": 0, "wrong": 2, "checked": 3}
    about = {"date": "", "minutes": 1, "machine": "", "versions": {}}
    (line,) = [
        line
        for line in table(about, {"okx-books": [{"dquant": result}]}).splitlines()
        if "wrong tops" in line
    ]
    assert "| 2, 0, 0 |" in line
    assert line.endswith("**missed** |")
