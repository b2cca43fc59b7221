"""A blocking call out of a market's loop that nobody has to wait for in the end.

A resolver whose servers are silent blocks for as long as it is configured to, half a minute and
more. In the loop's own pool that keeps the loop from ending (asyncio waits for its threads, at
the end of the process too; uvloop's pool even crashes a process that does not wait). A daemon
thread of its own ends when the call does, or with the process.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def call_in_daemon(name: str, function: Callable[[], T]) -> T:
    """Return what ``function`` returns, or raise what it raises; who stops waiting stops nothing."""
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[T] = loop.create_future()

    def hand_over(set_answer: Callable[[], None]) -> None:
        if not answered.done():
            set_answer()

    def run() -> None:
        try:
            value = function()
        except Exception as exc:
            error = exc
            answer: Callable[[], None] = lambda: answered.set_exception(error)  # noqa: E731
        else:
            answer = lambda: answered.set_result(value)  # noqa: E731
        try:
            loop.call_soon_threadsafe(hand_over, answer)
        except RuntimeError:
            return  # the market ended meanwhile

    threading.Thread(target=run, name=name, daemon=True).start()
    return await answered
