"""What ``server`` asks of a simulated venue: the interface that both venues' protocol servers have.

A venue is pure: requests and times go in, texts to send and answers come out. It opens no socket and
reads no clock. One object a venue, one connection object a websocket:

    venue.publish(now_ns, real_ns)      after ``flow.advance(now_ns)``; fills the connections' outgoing texts
    venue.connect(path, query, real_ns, headers, remote) -> VenueConnection, or Refusal (HTTP status)
    connection.receive_text(text, real_ns)                  one text frame of the client
    connection.texts_to_send() -> list[str]                 and empties
    connection.close_code                                   not None: send what is left, then close with it
    venue.answer(request, now_ns) -> RestAnswer             REST
    venue.disconnected(connection)                          the socket is gone

``now_ns`` is virtual time (``clock``), ``real_ns`` real time for housekeeping. Between two calls of
``publish`` a venue stamps what it says with the ``now_ns`` it was last told.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from dquant.simulator.faults import FaultBoard
from dquant.simulator.flow import FlowMarket
from dquant.simulator.flow_book import ASK, BID

# A close code that no client sees: the socket is cut without a closing handshake.
CLOSE_ABORT = 1006


@dataclass(frozen=True, slots=True)
class Refusal:
    """A websocket upgrade that is not granted."""

    status: int
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


class RestRequest(msgspec.Struct, frozen=True):
    """One HTTP request; ``path`` starts with ``/api/`` and has no query.

    ``target`` is path and query exactly as sent, which is what clients sign; ``remote`` is who asks. Headers
    go by their names in lower case.
    """

    method: str
    path: str
    query: Mapping[str, str] = {}
    body: bytes = b""
    headers: Mapping[str, str] = {}
    target: str = ""
    remote: str = ""


class RestAnswer(msgspec.Struct, frozen=True):
    """One HTTP answer; the body is JSON unless ``content_type`` says otherwise.

    ``is_lost``: it never arrives, the connection is cut instead; what was asked for is done all the same.
    ``delay_ns``: real time that it comes late.
    """

    status: int
    body: bytes
    headers: Mapping[str, str] = {}
    content_type: str = "application/json; charset=utf-8"
    is_lost: bool = False
    delay_ns: int = 0


class VenueConnection(Protocol):
    """One client's websocket, seen from the venue."""

    conn_id: str
    close_code: int | None
    close_reason: str

    def receive_text(self, text: str, real_ns: int) -> None:
        """Take one text frame of the client; anything is answered or ends in a close code, never raises."""

    def texts_to_send(self) -> list[str]:
        """Return the texts to send, in order, and empty the list."""

    def close(self, code: int, reason: str) -> None:
        """Ask for the connection to be closed after what is still to be sent."""

    def subscriptions(self) -> list[str]:
        """Return what is subscribed, in words for the state page."""


class Venue(Protocol):
    """One simulated exchange without I/O."""

    name: str  # "okex", "bitmex"
    faults: FaultBoard
    counters: Counter[str]  # connections, subscribes, frames, errors, …

    @property
    def ws_paths(self) -> tuple[str, ...]:
        """What a websocket may be opened on."""

    def connect(
        self,
        path: str,
        query: str,
        real_ns: int,
        headers: Mapping[str, str] | None = None,
        remote: str = "",
    ) -> VenueConnection | Refusal:
        """Take a new connection; ``query`` is the raw query string, ``headers`` are the upgrade's.

        ``remote`` is the address that it comes from.
        """

    def disconnected(self, connection: Any) -> None:
        """Forget a connection whose socket is gone."""

    def connections(self) -> list[Any]:
        """Return the open connections."""

    def publish(self, now_ns: int, real_ns: int) -> None:
        """Bring every subscription up to this virtual time and do the housekeeping of connections."""

    def answer(self, request: RestRequest, now_ns: int) -> RestAnswer:
        """Answer a REST request."""

    def count_request(self, request: RestRequest, now_ns: int) -> Mapping[str, str]:
        """Count a request that a fault refuses against its limits; return the headers that tell of them."""

    def clock_s(self) -> int:
        """Return the venue's own clock, s: what its answers are dated with and requests are held against."""

    def truth(self) -> dict[str, Any]:
        """Return the true tops of book: ``{inst_id: {bid, bid_amount, ask, ask_amount}}``."""

    def events_of_note(self) -> list[dict[str, Any]]:
        """Return what an operator wants to see (rolls, fundings), oldest first, and empty the list."""


def true_top(market: FlowMarket) -> dict[str, Any]:
    """Return the best levels of a market as they truly are, for the state page."""
    book = market.book
    top: dict[str, Any] = {"bid": None, "bid_amount": None, "ask": None, "ask_amount": None}
    for side, name, tick in ((BID, "bid", book.best_bid), (ASK, "ask", book.best_ask)):
        if tick is not None:
            top[name] = market.tick.number(tick)
            top[f"{name}_amount"] = market.lot.number(book.level(side, tick)[0])
    return {**top, "ts": book.ts}
