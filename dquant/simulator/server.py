"""The simulated venues on real sockets: HTTP, websockets, the clock that drives them, the control door.

This is the I/O around the pure venues (``venue``): one aiohttp server a venue and one for the control door,
and a driver that moves the clock, lets the flow happen and hands frames to the sockets.

A websocket has a queue of its own and a task that empties it, so that one slow client holds up nobody:
past ``QUEUE_LIMIT`` bytes it is hung up on and counted. Compression is not offered, because both ends
share a machine.
"""

import asyncio
import contextlib
import ipaddress
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from aiohttp import WSMsgType, web

from dquant.constants import NS_PER_MS, NS_PER_S
from dquant.simulator.clock import VirtualClock
from dquant.simulator.control import ControlDoor
from dquant.simulator.flow import CATCH_UP_NS, GRID_NS, Flow
from dquant.simulator.player import ScenarioPlayer
from dquant.simulator.rest_door import CLIENT_ERRORS, OwnErrors, RestDoors, hangs_up, http_date
from dquant.simulator.rest_faults import answer_with_faults
from dquant.simulator.scenarios import Scenario
from dquant.simulator.venue import CLOSE_ABORT, Refusal, RestRequest, Venue, VenueConnection

TICK_S = 0.005  # real time between two looks at the clock
SLICE_NS = 10 * NS_PER_MS  # virtual time between two publications, while there are not too many
SLICES_PER_TICK = 20
FULL_STEP_NS = 5 * NS_PER_S  # in a longer step less happens in a virtual second, as under a fast clock
COARSE = 10  # times fewer publications and price moves in such a step
PLAY_LIMIT_NS = 60 * NS_PER_S  # a longer step of the clock is leapt over, not played
FULL_ACTIVITY_SPEED = 20.0  # a faster clock thins out what happens
PLAYERS_LIMIT = 20  # scenarios played at once
QUEUE_LIMIT = 8 * 1024 * 1024  # bytes waiting for one client
CLOSE_SLOW = 4005
IDLE_S = {"bitmex": 90.0}  # an HTTP connection on which nothing is asked is closed (BitMEX section 1)
ANY_IDLE_S = 3600.0  # where nothing is known of that
CLOSE_TIMEOUT_S = 1.0
REQUEST_LIMIT = 1024 * 1024  # bytes of one message or body

Note = Callable[[dict[str, Any]], None]


class Socket:
    """One open websocket: what waits to be sent, and the task that sends it."""

    def __init__(
        self, connection: VenueConnection, ws: web.WebSocketResponse, request: web.BaseRequest
    ) -> None:
        self.connection, self.ws, self.request = connection, ws, request
        self.queued_bytes = 0
        self.is_stalled = False  # a fault holds back all that waits
        self._waiting: deque[tuple[int, str]] = deque()  # due (real time), text
        self._wake = asyncio.Event()
        self.rng = Random(connection.conn_id)  # by how much a fault lets it lag

    def put(self, texts: list[str], due_ns: int) -> None:
        """Queue texts to be sent when they are due."""
        for text in texts:
            self._waiting.append((due_ns, text))
            self.queued_bytes += len(text)
        self._wake.set()

    def forget(self) -> None:
        """Drop what waits: nobody is going to get it."""
        self._waiting.clear()
        self.queued_bytes = 0

    def wake(self) -> None:
        """Let the sender look at the connection's state."""
        self._wake.set()

    async def send_all(self) -> None:
        """Send until the connection is to be closed, and close it then."""
        while True:
            while self._waiting and not self.is_stalled:
                due_ns, text = self._waiting[0]
                late_ns = due_ns - time.monotonic_ns()
                if late_ns > 0:
                    await asyncio.sleep(late_ns / NS_PER_S)
                    continue
                self._waiting.popleft()
                self.queued_bytes -= len(text)
                await self.ws.send_str(text)
            if self.connection.close_code is not None and not self.is_stalled:
                await self._close(self.connection.close_code, self.connection.close_reason)
                return
            self._wake.clear()
            if not self._waiting or self.is_stalled:
                await self._wake.wait()

    def sender_ended(self, task: asyncio.Task[None]) -> None:
        """Cut a connection that nobody can send to any more."""
        if not task.cancelled() and task.exception() is not None:
            self.abort()

    def abort(self) -> None:
        """Cut the connection without a closing handshake."""
        if self.request.transport is not None:
            self.request.transport.abort()

    async def _close(self, code: int, reason: str) -> None:
        if code == CLOSE_ABORT:
            self.abort()
            return
        await self.ws.close(code=code, message=reason.encode())


class SimulatedVenues:
    """The venues, their sockets and their clock, in the running loop.

    Args:
        flow: The market.
        venues: Served in this order.
        clock: Its real time is ``time.monotonic_ns()``.
        host: Where to listen; loopback unless an operator said otherwise.
        ports: Of each venue's name and ``control``; 0 or absent is a free one.
        note: Called with every event of note.

    """

    def __init__(
        self,
        flow: Flow,
        venues: Sequence[Venue],
        clock: VirtualClock,
        *,
        host: str = "127.0.0.1",
        ports: dict[str, int] | None = None,
        note: Note | None = None,
    ) -> None:
        self.flow, self.clock = flow, clock
        self.venues = {venue.name: venue for venue in venues}
        self.ports = dict(ports or {})
        self.slow_clients = 0
        self._log = OwnErrors(logging.getLogger("dquant.simulator.http"))
        self.players: list[ScenarioPlayer] = []
        self._host = host
        self._note = note or (lambda _event: None)
        self._sockets: dict[str, dict[str, Socket]] = {venue.name: {} for venue in venues}
        self._runners: list[web.ServerRunner] = []
        self._driver: asyncio.Task[None] | None = None
        self._is_stepping = False

    @property
    def host(self) -> str:
        """Where clients on this machine find it."""
        return "127.0.0.1" if ipaddress.ip_address(self._host).is_unspecified else self._host

    @property
    def bad_requests(self) -> int:
        """How many requests ended in the middle, or were no HTTP."""
        return self._log.bad_requests

    def base(self, name: str) -> str:
        """Return the HTTP address of a venue or of ``control``."""
        return f"http://{self.host}:{self.ports[name]}"

    async def start(self) -> None:
        """Listen, and let time run.

        Raises:
            OSError: A port is taken.

        """
        try:
            for name, venue in self.venues.items():
                await self._listen(name, self._doors(venue))
            control = web.Server(
                ControlDoor(self).handle, access_log=None, logger=self._log, keepalive_timeout=ANY_IDLE_S
            )
            await self._listen("control", control)
        except BaseException:
            await self.stop()
            raise
        self._driver = asyncio.create_task(self._drive(), name="simulator-driver")

    async def run(self, stop: asyncio.Event, duration_s: float | None = None) -> None:
        """Wait until told to stop, or for so many seconds.

        Raises:
            Exception: What ended the driver, if something did: venues whose time stands are of no use.

        """
        if self._driver is None:
            raise RuntimeError("run() before start()")
        waiting = asyncio.create_task(stop.wait(), name="simulator-stop")
        try:
            await asyncio.wait(
                {waiting, self._driver}, timeout=duration_s, return_when=asyncio.FIRST_COMPLETED
            )
            if self._driver.done():
                self._driver.result()
        finally:
            waiting.cancel()

    async def stop(self) -> None:
        """Hang up on everybody and stop listening."""
        if self._driver is not None:
            self._driver.cancel()
            await asyncio.gather(self._driver, return_exceptions=True)  # ``run`` raises what ended it
            self._driver = None
        for sockets in self._sockets.values():
            for socket in list(sockets.values()):
                socket.forget()
                socket.is_stalled = False
                socket.connection.close(1001, "going away")
                socket.wake()
        runners, self._runners = self._runners, []
        for runner in runners:
            await runner.cleanup()

    async def _listen(self, name: str, server: web.Server) -> None:
        runner = web.ServerRunner(server, shutdown_timeout=CLOSE_TIMEOUT_S)
        await runner.setup()
        self._runners.append(runner)
        site = web.TCPSite(runner, self._host, self.ports.get(name, 0), reuse_address=True)
        await site.start()
        self.ports[name] = runner.addresses[0][1]

    # Time

    async def _drive(self) -> None:
        """Look at the clock every tick; a tick that comes late is not made up for, the next one does more."""
        due = time.monotonic()
        while True:
            if not self._is_stepping:
                self.catch_up()
            due = max(due + TICK_S, time.monotonic())
            await asyncio.sleep(due - time.monotonic())

    def catch_up(self) -> None:
        """Bring everything to what the clock says now."""
        real_ns = time.monotonic_ns()
        target = self.clock.now(real_ns)
        gap = target - self.flow.now_ns
        slices = 1 if gap > CATCH_UP_NS else max(1, min(SLICES_PER_TICK, gap // SLICE_NS))
        for number in range(1, slices + 1):
            now_ns = target - gap * (slices - number) // slices
            self._publish(now_ns, real_ns)
        self._flush(real_ns)

    def settle(self) -> None:
        """Tell what a request or the control door set off before the next one, where the clock stands.

        Left to the ticks, which are real time, chance would say which requests are told of together, and so
        in what order; a clock that is stepped repeats every frame.
        """
        if self.clock.speed == 0 and not self._is_stepping:
            self._publish(self.flow.now_ns, time.monotonic_ns())
            self._flush(time.monotonic_ns())

    def _tell(self) -> None:
        """Tell websockets what a request set off."""
        self.settle()
        self._flush(time.monotonic_ns())

    def _publish(self, now_ns: int, real_ns: int) -> None:
        if self.players:
            self._play(now_ns, real_ns)
        self.flow.advance(now_ns)
        for venue in self.venues.values():
            venue.publish(now_ns, real_ns)
            for event in venue.events_of_note():
                for player in self.players:
                    player.see(event)
                self._note(event)

    def play(self, scenario: Scenario) -> None:
        """Begin to play a scenario, from this moment of the clock; one of the same name is begun anew.

        Raises:
            ValueError: Too many are being played.

        """
        self.end_scenario(scenario.name)
        if len(self.players) >= PLAYERS_LIMIT:
            raise ValueError(f"{PLAYERS_LIMIT} scenarios are being played already")
        player = ScenarioPlayer(scenario, self.venues, self.flow.now_ns, self.flow.seed, self._note)
        self.players.append(player)
        self._note({"event": "scenario", "name": scenario.name, "ts": self.flow.now_ns})
        player.play(self.flow.now_ns, time.monotonic_ns())

    def end_scenario(self, name: str | None = None) -> int:
        """End a scenario, or all, lifting what it has in effect; return how many."""
        ended = [player for player in self.players if name in (None, player.scenario.name)]
        for player in ended:
            player.stop()
            self.players.remove(player)
        return len(ended)

    def _play(self, now_ns: int, real_ns: int) -> None:
        for player in list(self.players):
            player.play(now_ns, real_ns)
            if player.is_over:
                self.players.remove(player)
                self._note({"event": "scenario over", "name": player.scenario.name, "ts": now_ns})

    def _flush(self, real_ns: int) -> None:
        for name, venue in self.venues.items():
            for socket in self._sockets[name].values():
                self._hand_over(venue, socket, real_ns)

    def _hand_over(self, venue: Venue, socket: Socket, real_ns: int) -> None:
        """Move what a connection has to say into its socket's queue, unless a fault keeps it back."""
        connection = socket.connection
        is_stalled = venue.faults.holds("stall", real_ns, None, connection.conn_id)
        if is_stalled != socket.is_stalled:
            socket.is_stalled = is_stalled
            socket.wake()
        texts = connection.texts_to_send()
        if texts and not venue.faults.holds("silent", real_ns, None, connection.conn_id):
            late_ns = venue.faults.delay_ns(real_ns, connection.conn_id)
            reorder_ns = venue.faults.reorder_ns(real_ns)
            socket.put(texts, real_ns + late_ns + socket.rng.randrange(reorder_ns + 1))
            if socket.queued_bytes > QUEUE_LIMIT:
                self.slow_clients += 1
                self._note({"event": "slow client", "venue": venue.name, "conn_id": connection.conn_id})
                socket.forget()
                connection.close(CLOSE_SLOW, "send buffer full")
                # It does not read: a closing handshake would wait for it.
                socket.abort()
        if connection.close_code is not None:
            socket.wake()

    # Venues

    def _doors(self, venue: Venue) -> RestDoors:
        return RestDoors(
            venue,
            self.clock,
            tell=self._tell,
            handler=self._venue_handler(venue),
            idle_s=IDLE_S.get(venue.name, ANY_IDLE_S),
            log=self._log,
        )

    def _venue_handler(self, venue: Venue) -> Callable[[web.BaseRequest], Any]:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            if request.headers.get("Upgrade", "").lower() == "websocket":
                return await self._converse(venue, request)
            try:
                return await self._answer(venue, request)
            except CLIENT_ERRORS:  # a body that breaks off, or is not what its headers say
                self._log.bad_requests += 1
                return web.Response(status=400)

        return handle

    async def _answer(self, venue: Venue, request: web.BaseRequest) -> web.StreamResponse:
        if (request.content_length or 0) > REQUEST_LIMIT:
            return web.Response(status=413, text="request too large")
        asked = RestRequest(
            method=request.method,
            path=request.path,
            query=dict(request.query),
            body=await request.read(),
            headers=_named(request),
            target=request.raw_path,
            remote=request.remote or "",
        )
        real_ns = time.monotonic_ns()
        delay_ns = venue.faults.delay_ns(real_ns)
        if delay_ns:
            await asyncio.sleep(delay_ns / NS_PER_S)
        real_ns = time.monotonic_ns()
        answer = answer_with_faults(venue, asked, self.clock.now(real_ns), real_ns)
        self._tell()
        if answer.delay_ns:
            await asyncio.sleep(answer.delay_ns / NS_PER_S)
        if answer.is_lost and request.transport is not None:
            request.transport.abort()
        # A client measures its clock against this header (BitMEX section 8).
        headers = {**answer.headers, "Content-Type": answer.content_type, "Date": http_date(venue.clock_s())}
        response = web.Response(status=answer.status, body=answer.body, headers=headers)
        if hangs_up(answer):
            response.force_close()
        return response

    async def _converse(self, venue: Venue, request: web.BaseRequest) -> web.StreamResponse:
        accepted = venue.connect(
            request.path,
            request.query_string,
            time.monotonic_ns(),
            _named(request),
            request.remote or "",
        )
        if isinstance(accepted, Refusal):
            return web.Response(status=accepted.status, text=accepted.body, headers=accepted.headers)
        ws = web.WebSocketResponse(
            timeout=CLOSE_TIMEOUT_S, autoping=False, compress=False, max_msg_size=REQUEST_LIMIT
        )
        socket = Socket(accepted, ws, request)
        sender: asyncio.Task[None] | None = None
        try:
            await ws.prepare(request)
            self._sockets[venue.name][accepted.conn_id] = socket
            sender = asyncio.create_task(socket.send_all(), name=f"simulator-{accepted.conn_id}")
            sender.add_done_callback(socket.sender_ended)
            self.settle()
            self._hand_over(venue, socket, time.monotonic_ns())
            await self._read(venue, socket)
        except ConnectionError:
            self._log.bad_requests += 1
            if sender is None:  # hung up in the middle of the handshake
                return web.Response(status=400)
        finally:
            self._sockets[venue.name].pop(accepted.conn_id, None)
            venue.disconnected(accepted)
            if sender is not None:
                await _end(sender)
        return ws

    async def _read(self, venue: Venue, socket: Socket) -> None:
        connection = socket.connection
        async for message in socket.ws:
            real_ns = time.monotonic_ns()
            if message.type is WSMsgType.TEXT:
                connection.receive_text(message.data, real_ns)
                self.settle()
                self._hand_over(venue, socket, real_ns)
            elif message.type is WSMsgType.PING:
                faults, conn_id = venue.faults, connection.conn_id
                if not any(faults.holds(kind, real_ns, None, conn_id) for kind in ("silent", "stall")):
                    await socket.ws.pong(message.data)
            elif message.type is WSMsgType.BINARY:
                connection.close(1003, "text frames only")
                socket.wake()

    async def step(self, delta_ns: int) -> None:
        """Step the clock; up to a minute is played through before this returns, more is leapt over.

        All that happens is there in steps of up to ``FULL_STEP_NS``; a longer one has no more than that.

        Raises:
            ValueError: It is being stepped already, or it would go back.

        """
        if self._is_stepping:
            raise ValueError("the clock is being stepped already")
        self._is_stepping = True
        activity, slices_ns = self.flow.activity, SLICE_NS * SLICES_PER_TICK
        if FULL_STEP_NS < delta_ns <= PLAY_LIMIT_NS:
            self.flow.activity *= FULL_STEP_NS / delta_ns
            self.flow.stride_ns = COARSE * GRID_NS
            slices_ns *= COARSE
        try:
            while 0 < delta_ns <= PLAY_LIMIT_NS:
                step = min(delta_ns, slices_ns)
                delta_ns -= step
                self.clock.advance(step, time.monotonic_ns())
                self.catch_up()
                await asyncio.sleep(0)
            self.clock.advance(delta_ns, time.monotonic_ns())
            self.catch_up()
        finally:
            self.flow.activity, self.flow.stride_ns = activity, GRID_NS
            self._is_stepping = False

    def set_speed(self, speed: float) -> None:
        """Run the clock at another speed; far above real time less happens in a virtual second."""
        self.clock.set_speed(speed, time.monotonic_ns())
        self.flow.activity = min(1.0, FULL_ACTIVITY_SPEED / max(self.clock.speed, 1.0))

    def note(self, event: dict[str, Any]) -> None:
        """Tell whoever started the venues about an event of note."""
        self._note(event)

    def queued_bytes(self, venue: str, conn_id: str) -> int:
        """Return how much waits to be sent to a client."""
        socket = self._sockets[venue].get(conn_id)
        return 0 if socket is None else socket.queued_bytes


def _named(request: web.BaseRequest) -> dict[str, str]:
    """Return headers by their names in lower case; of several with one name the first."""
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        headers.setdefault(name.lower(), value)
    return headers


async def _end(task: asyncio.Task[None]) -> None:
    """End a sender; what went wrong in it went wrong with a client that is gone."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, ConnectionError, RuntimeError):
        await task
