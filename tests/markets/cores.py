"""What a test tells the public core of any venue, and what it reads of the answer."""

import json

from dquant.model.events import BookStale, TopOfBook


def feed(client, *frames, ts):
    """Feed frames (text or object) and return the events they made."""
    for frame in frames:
        client.receive_text(frame if isinstance(frame, str | bytes) else json.dumps(frame), ts)
    return client.events_received()


def commands(client):
    return [(sent["op"], sent["args"]) for sent in map(json.loads, client.texts_to_send())]


def tops(events):
    return [(e.bid, e.bid_size, e.ask, e.ask_size) for e in events if isinstance(e, TopOfBook)]


def stale_reasons(events):
    return [event.reason for event in events if isinstance(event, BookStale)]
