"""What one flush says to Redis, packed: RESP bytes for a plain server, argument lists for a cluster.

Pure: records (JSON bytes) in, commands out. redis-py packs and awaits each command for tens of
microseconds; these names never change while a publisher runs, so their bytes are made once.

Names of one kind (``price``, ``depth``, ``trade``, ``health``) of one market::

    channel  price, price:<market>            every record, PUBLISH (SPUBLISH in a cluster)
    key      dquant:price:<market>            the newest record; expires after latest_ttl_ms
    stream   dquant:stream:price:<market>     every record in field ``json``, where streams are on

Units: ms for times to live, records for stream lengths. Trades have no latest key.
"""

import msgspec

from dquant.constants import FEED_SILENCE_S

# A feed that died must not look live: its keys go by themselves when it counts as silent, a living one's
# heartbeat renews them.
LATEST_TTL_MS = int(FEED_SILENCE_S * 1000)

KINDS_WITH_LATEST = frozenset({"price", "depth", "health"})


class Batch(msgspec.Struct, frozen=True, gc=False):
    """Records of one kind for one flush, oldest first; ``latest`` is what the key shall hold."""

    kind: str
    records: list[bytes]
    latest: bytes | None


def bulk(text: bytes) -> bytes:
    """Pack one RESP bulk string."""
    return b"$%d\r\n%b\r\n" % (len(text), text)


def command(*words: bytes) -> bytes:
    """Pack one RESP command."""
    return b"*%d\r\n%b" % (len(words), b"".join(map(bulk, words)))


class KindPacker:
    """Packs the records of one kind of one market."""

    def __init__(self, prefix: str, kind: str, market: str, *, streams: bool, stream_length: int) -> None:
        self.channels = (kind.encode(), f"{kind}:{market}".encode())
        self.key = f"{prefix}:{kind}:{market}".encode()
        self.stream = f"{prefix}:stream:{kind}:{market}".encode() if streams else None
        self._stream_length = b"%d" % stream_length
        self._ttl = b"%d" % LATEST_TTL_MS
        self._publish = tuple(b"*3\r\n%b%b" % (bulk(b"PUBLISH"), bulk(channel)) for channel in self.channels)
        self._set = b"*5\r\n%b%b" % (bulk(b"SET"), bulk(self.key))
        self._set_end = bulk(b"PX") + bulk(self._ttl)
        self.replies_of_one = 4 if streams else 3
        self._xadd = b"*8\r\n" + b"".join(map(bulk, self._xadd_words())) if streams else b""

    def _xadd_words(self) -> list[bytes]:
        return [b"XADD", self.stream or b"", b"MAXLEN", b"~", self._stream_length, b"*", b"json"]

    def pack(self, batch: Batch, out: list[bytes]) -> int:
        """Append the commands of ``batch`` to ``out``; return how many replies they will bring."""
        everywhere, here = self._publish
        record = text = None
        for record in batch.records:
            text = bulk(record)
            out += (everywhere, text, here, text)
            if self._xadd:
                out += (self._xadd, text)
        replies = len(batch.records) * (3 if self._xadd else 2)
        latest = batch.latest
        if latest is not None:
            # Mostly the record that was just packed.
            out += (self._set, text if text and latest is record else bulk(latest), self._set_end)
            replies += 1
        return replies

    def pack_one(self, record: bytes) -> bytes:
        """Return the commands for one record that is the newest, too; they bring ``replies_of_one``."""
        everywhere, here = self._publish
        text = bulk(record)
        to_stream = self._xadd and self._xadd + text
        return b"".join((everywhere, text, here, text, to_stream, self._set, text, self._set_end))

    def commands(self, batch: Batch) -> list[list[bytes]]:
        """Say the same as argument lists, for a client that routes by key or sharded channel."""
        lists: list[list[bytes]] = []
        for record in batch.records:
            lists += [[b"SPUBLISH", channel, record] for channel in self.channels]
            if self.stream is not None:
                lists.append([*self._xadd_words(), record])
        if batch.latest is not None:
            lists.append([b"SET", self.key, batch.latest, b"PX", self._ttl])
        return lists
