"""The floor: a client that only counts frames; variants ``picows``, ``websockets``.

Variant ``publish`` also writes one PUBLISH a frame, of a record's size, to a bare socket: the floor of the
path through Redis.
"""

import asyncio
from collections.abc import Callable

import uvloop

from benchmarks.client import Session
from benchmarks.streams import BASE_MS

CHANNEL = b"price:okex_swap_btcusd"
FILLER = b"x" * 260


def run(session: Session, variant: str) -> None:
    session.is_checked = False
    path, hello = (
        ("/realtime", '{"op":"subscribe","args":["orderBookL2:XBTUSD"]}')
        if session.stream.venue == "bitmex"
        else ("/ws/v5/public", '{"op":"subscribe","args":[{"channel":"books","instId":"BTC-USD-SWAP"}]}')
    )
    url = f"ws://127.0.0.1:{session.port}{path}"
    chatter = 2 if session.stream.venue == "bitmex" else 1  # frames before the snapshot
    uvloop.run(
        {"picows": _picows, "publish": _picows, "websockets": _websockets}[variant](
            session, url, hello, chatter
        )
    )


async def _picows(session: Session, url: str, hello: str, chatter: int) -> None:
    from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

    publish = await _publisher(session.options.redis_port) if session.options.redis_port else None

    class Listener(WSListener):
        seen = -chatter

        def on_ws_connected(self, transport: WSTransport) -> None:
            transport.send(WSMsgType.TEXT, hello.encode())

        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            frame.get_payload_as_bytes()
            if self.seen >= 0:
                session.tick(self.seen, None, None)
                if publish is not None:
                    publish(self.seen)
            self.seen += 1

    transport, _ = await ws_connect(Listener, url)
    await transport.wait_disconnected()


async def _publisher(port: int) -> Callable[[int], None]:
    connection, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, "127.0.0.1", port)

    def publish(index: int) -> None:
        body = b'{"ts_event":%d,"filler":"%s"}' % ((BASE_MS + index) * 1_000_000, FILLER)
        parts = (len(CHANNEL), CHANNEL, len(body), body)
        connection.write(b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % parts)

    return publish


async def _websockets(session: Session, url: str, hello: str, chatter: int) -> None:
    from websockets.asyncio.client import connect

    seen = -chatter
    async with connect(url, compression=None, max_size=None) as ws:
        await ws.send(hello)
        while True:
            await ws.recv()
            if seen >= 0:
                session.tick(seen, None, None)
            seen += 1
    await asyncio.sleep(0)
