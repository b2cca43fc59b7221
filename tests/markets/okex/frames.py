"""Frames of OKX written by hand, and a core to feed them to."""

import functools

from dquant.constants import NS_PER_S
from dquant.markets.okex._okex_protocol import OkexPublicProtocol
from tests.markets.cores import feed

NOW = 1_795_334_400 * NS_PER_S  # 2026-11-22T08:00:00Z
INST = "BTC-USD-261127"
SILENCE_S = 10.0
BOOKS = {"channel": "books", "instId": INST}
told = functools.partial(feed, ts=NOW)


def core(*inst_ids, **options):
    """Return a core that has asked for these books, its requests drained."""
    client = OkexPublicProtocol(silence_s=SILENCE_S, now=NOW, **options)
    client.subscribe([{"channel": "books", "instId": inst_id} for inst_id in inst_ids or (INST,)])
    client.texts_to_send()
    return client


def at(seconds):
    return NOW + int(seconds * NS_PER_S)


def rows(*levels):
    return [[str(price), str(size), "0", "1"] for price, size in levels]


def book(action, asks=(), bids=(), inst_id=INST, channel="books", ts=1795334400000, **fields):
    data = {"asks": rows(*asks), "bids": rows(*bids), "ts": str(ts), **fields}
    frame = {"arg": {"channel": channel, "instId": inst_id}, "data": [data]}
    return {**frame, "action": action} if action else frame


def snapshot(seq=10, inst_id=INST, **fields):
    fields = {"asks": [(101, 5)], "bids": [(100, 7)], "checksum": 0, **fields}
    return book("snapshot", inst_id=inst_id, seqId=seq, prevSeqId=-1, **fields)


def update(prev, seq, asks=(), bids=(), inst_id=INST, **fields):
    return book("update", asks, bids, inst_id, **{"checksum": 0, "seqId": seq, "prevSeqId": prev, **fields})


def push(channel, *data, inst_id=INST):
    return {"arg": {"channel": channel, "instId": inst_id}, "data": list(data)}


def state(word, inst_id=INST):
    return {
        "arg": {"channel": "instruments", "instType": "FUTURES"},
        "data": [{"instId": inst_id, "state": word}],
    }


def error(code, message="Refused.", **fields):
    return {"event": "error", "code": code, "msg": message, **fields}
