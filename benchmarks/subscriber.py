"""The far end of the Redis path, in a process of its own: notes when each message's news arrived.

Reads a channel (dquant's price records) or a stream (cryptofeed's BookStream) over a bare socket with
hiredis, the same cheap way for both, and writes the monotonic arrival time of message ``i`` into a
shared file of 64-bit numbers. Ends when its standard input closes.
"""

import argparse
import json
import mmap
import socket
import sys
import threading
import time
from pathlib import Path

import hiredis

from benchmarks.cores import pin
from benchmarks.streams import BASE_MS


def _command(*parts: str) -> bytes:
    packed = [part.encode() for part in parts]
    return b"*%d\r\n" % len(packed) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in packed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--channel")
    parser.add_argument("--stream")
    parser.add_argument("--arrived", type=Path, required=True)
    options = parser.parse_args()
    pin(0)
    with options.arrived.open("r+b") as shared:
        arrived = memoryview(mmap.mmap(shared.fileno(), 0)).cast("q")
    threading.Thread(target=_read, args=(options, arrived), daemon=True).start()
    sys.stdin.read()


def _read(options: argparse.Namespace, arrived: memoryview) -> None:
    sock = socket.create_connection(("127.0.0.1", options.port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    reader = hiredis.Reader()
    last_id = "0"

    def note(ts_ms: float, now: int) -> None:
        index = round(ts_ms) - BASE_MS
        if 0 <= index < len(arrived) and not arrived[index]:
            arrived[index] = now

    def ask() -> None:
        if options.stream:
            sock.sendall(_command("XREAD", "BLOCK", "0", "STREAMS", options.stream, last_id))

    if options.channel:
        sock.sendall(_command("SUBSCRIBE", options.channel))
    ask()
    print("ready", flush=True)
    while True:
        data = sock.recv(1 << 16)
        if not data:
            return
        reader.feed(data)
        while (reply := reader.gets()) is not False:
            now = time.monotonic_ns()
            if options.channel:
                if reply[0] == b"message":
                    note(json.loads(reply[2])["ts_event"] / 1e6, now)
                continue
            for entry_id, fields in reply[0][1]:
                last_id = entry_id.decode()
                named = dict(zip(fields[::2], fields[1::2], strict=True))
                note(float(named[b"timestamp"]) * 1000, now)
            ask()


if __name__ == "__main__":
    main()
