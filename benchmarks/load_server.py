"""A stand-in for both venues that only sends: one stream of ready-made frames to each subscriber.

Runs as a process of its own. Says its port on standard output, answers what the clients under
test ask at start (instruments over REST, subscriptions, pings), then sends the stream to every
connection that subscribed to books, flat out, evenly paced or in bursts. The monotonic time
(ns, system-wide on Linux) just before each ``send`` goes into a shared file of 64-bit numbers,
one a message, so that any client on this machine can tell a message's age. Ends when its
standard input closes, and so with whoever started it.
"""

import argparse
import base64
import contextlib
import hashlib
import json
import mmap
import socket
import struct
import sys
import threading
import time
from array import array
from pathlib import Path
from typing import Any

from benchmarks.cores import pin
from benchmarks.streams import SNAPSHOT_EVERY, STREAMS, Recorded, frame

WEBSOCKET_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CHUNK = 1 << 16
SETTLE_S = 0.3  # between the snapshot and the first update
BURST = 20

# What each venue tells of the one instrument here; the fields that some client insists on.
INSTRUMENTS = json.loads((Path(__file__).resolve().parent / "instruments.json").read_text())


def rest_answer(target: str) -> bytes:
    """Return the body of a REST request as far as some client needs one to start."""
    path, _, query = target.partition("?")
    if path.startswith("/api/v1/instrument"):
        return json.dumps([INSTRUMENTS["bitmex"]]).encode()
    if path.startswith("/api/v1"):
        return b"[]"
    rows: list[Any] = []
    if path.endswith("/public/instruments") and "instType=SWAP" in query:
        rows = [INSTRUMENTS["okx"]]
    elif path.endswith("/public/time"):
        rows = [{"ts": str(time.time_ns() // 1_000_000)}]
    return json.dumps({"code": "0", "msg": "", "data": rows}).encode()


class Load:
    """The stream to send and how."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.mode, self.rate, self.count = options.mode, options.rate, options.count
        recorded = Recorded(options.stream, options.count, needs_snapshots=options.drop > 0)
        self.venue = STREAMS[options.stream].venue
        self.frames, self.offsets = recorded.frames()
        self.snapshots = recorded.snapshots() if options.drop else {}
        # Evenly spread, and never a message that a snapshot follows at once.
        self.dropped = {
            (number + 1) * options.count // (options.drop + 1) + 3 for number in range(options.drop)
        }
        self.sent: memoryview | None = None
        if options.sent:
            with Path(options.sent).open("r+b") as shared:
                self.sent = memoryview(mmap.mmap(shared.fileno(), 0)).cast("q")

    def frame(self, index: int) -> bytes:
        return self.frames[self.offsets[index] : self.offsets[index + 1]]


class Connection(threading.Thread):
    """One client: HTTP first, then perhaps a websocket."""

    def __init__(self, sock: socket.socket, load: Load) -> None:
        super().__init__(daemon=True)
        self.sock, self.load = sock, load
        self.rest = b""
        self.sending = threading.Lock()
        self.is_streaming = False
        self.wants_snapshot = threading.Event()

    def run(self) -> None:
        with contextlib.suppress(OSError, EOFError), self.sock:
            while not self._serve_request():
                pass
            if self.load.venue == "bitmex":
                self._send(
                    {
                        "info": "Welcome to the BitMEX Realtime API.",
                        "version": "2.0.0",
                        "limit": {"remaining": 39},
                    }
                )
            while True:
                self._receive_frame()

    def _read(self, size: int) -> bytes:
        while len(self.rest) < size:
            more = self.sock.recv(CHUNK)
            if not more:
                raise EOFError
            self.rest += more
        taken, self.rest = self.rest[:size], self.rest[size:]
        return taken

    def _serve_request(self) -> bool:
        """Answer one HTTP request; tell whether it made this a websocket."""
        while b"\r\n\r\n" not in self.rest:
            more = self.sock.recv(CHUNK)
            if not more:
                raise EOFError
            self.rest += more
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        key = headers.get("sec-websocket-key")
        if key is None:
            body = rest_answer(first.split()[1])
            status = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            self.sock.sendall(status + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            return False
        accept = base64.b64encode(hashlib.sha1(f"{key}{WEBSOCKET_GUID}".encode()).digest())
        self.sock.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        return True

    def _receive_frame(self) -> None:
        first, second = self._read(2)
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack(">H", self._read(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", self._read(8))
        mask = self._read(4)
        body = bytes(byte ^ mask[at & 3] for at, byte in enumerate(self._read(size)))
        opcode = first & 0x0F
        if opcode == 0x9:
            self._send_raw(bytes((0x8A, len(body))) + body)
        elif opcode == 0x8:
            self._send_raw(bytes((0x88, len(body))) + body)
            raise EOFError
        elif opcode == 0x1:
            self._receive_text(body.decode())

    def _send_raw(self, data: bytes | memoryview) -> None:
        with self.sending:
            self.sock.sendall(data)

    def _send(self, message: object) -> None:
        self._send_raw(
            frame(message if isinstance(message, str) else json.dumps(message, separators=(",", ":")))
        )

    def _receive_text(self, text: str) -> None:
        if text == "ping":
            self._send("pong")
            return
        if not text.startswith("{"):
            return
        request = json.loads(text)
        for arg in request.get("args", ()):
            if self.load.venue == "bitmex":
                ack = {"success": True, request["op"]: arg, "request": request}
                is_book = str(arg).startswith("orderBookL2:")
            else:
                ack = {"event": request["op"], "arg": arg, "connId": "a4d3ae55"}
                is_book = isinstance(arg, dict) and arg.get("channel") == "books"
            if request["op"] == "unsubscribe" or not is_book:
                self._send(ack)
            elif request["op"] == "subscribe":
                self._send(ack)
                if self.is_streaming:
                    self.wants_snapshot.set()
                else:
                    self.is_streaming = True
                    threading.Thread(target=self._stream, daemon=True).start()

    def _stream(self) -> None:
        load = self.load
        with contextlib.suppress(OSError):
            self._send_raw(load.frame(0))
            time.sleep(SETTLE_S)
            if load.mode == "blast":
                everything = memoryview(load.frames)
                for start in range(load.offsets[1], load.offsets[load.count], CHUNK):
                    self._send_raw(everything[start : min(start + CHUNK, load.offsets[load.count])])
            else:
                self._pace(BURST if load.mode == "burst" else 1)

    def _pace(self, size: int) -> None:
        """Send ``size`` messages in one go, then wait, so that ``rate`` a second go out in all."""
        load, sent = self.load, self.load.sent
        interval = size * 1_000_000_000 // load.rate
        due = time.monotonic_ns()
        for start in range(1, load.count, size):
            due += interval
            wait = due - time.monotonic_ns()
            if wait > 0:
                time.sleep(wait / 1e9)
            elif wait < -interval:
                due -= wait  # stalled: carry on from here rather than send what piled up in one heap
            if load.dropped:
                data = self._with_faults(start)
            else:
                data = load.frames[load.offsets[start] : load.offsets[min(start + size, load.count)]]
            now = time.monotonic_ns()
            if sent is not None:
                for index in range(start, min(start + size, load.count)):
                    sent[index] = now
            self._send_raw(data)

    def _with_faults(self, index: int) -> bytes:
        """Return the frame of ``index``; nothing where it is lost; a snapshot where one was asked for."""
        if self.wants_snapshot.is_set() and index % SNAPSHOT_EVERY == 0 and index in self.load.snapshots:
            self.wants_snapshot.clear()
            return self.load.snapshots[index]
        return b"" if index in self.load.dropped else self.load.frame(index)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stream", choices=STREAMS, required=True)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--mode", choices=("blast", "paced", "burst"), default="blast")
    parser.add_argument("--rate", type=int, default=2000, help="messages a second, unless blasting")
    parser.add_argument(
        "--drop", type=int, default=0, help="lose so many messages, evenly spread (paced only)"
    )
    parser.add_argument("--sent", help="file of 64-bit numbers that takes the sending times")
    options = parser.parse_args()
    pin(0)
    load = Load(options)
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        threading.Thread(target=_accept, args=(server, load), daemon=True).start()
        sys.stdin.read()


def _accept(server: socket.socket, load: Load) -> None:
    with contextlib.suppress(OSError):
        while True:
            sock, _ = server.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            Connection(sock, load).start()


def shared_times(path: Path, count: int) -> None:
    """Make the file that takes the sending times."""
    path.write_bytes(array("q", bytes(8 * count)).tobytes())


if __name__ == "__main__":
    main()
