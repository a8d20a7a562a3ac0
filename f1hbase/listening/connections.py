"""Ends connections where aiohttp does not: those that ask nothing, and at the end those whose answer is not taken.

aiohttp closes connections that idle after a request, but waits for the first for ever. It knows no route and no store.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from aiohttp import web
from aiohttp.typedefs import Handler

FIRST_REQUEST_SECONDS = 10.0
"""How long a new connection has for its first request."""

_POLL_SECONDS = 0.02


class FirstRequests:
    """Looks for connections whose first request does not come. Only one event loop may use it.

    Args:
        seconds: How long they have.
        clock: Gives seconds, rising.
    """

    def __init__(self, seconds: float = FIRST_REQUEST_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._asked: set[web.RequestHandler] = set()
        self._silent: dict[web.RequestHandler, float] = {}

    def attach(self, app: web.Application) -> None:
        """Hear of the requests to an application that does not run yet."""

        @web.middleware
        async def heard(request: web.Request, handler: Handler) -> web.StreamResponse:
            self._asked.add(request.protocol)
            return await handler(request)

        app.middlewares.insert(0, heard)

    async def watch(self, server: web.Server) -> None:
        """Look every now and then, for good."""
        while True:
            await asyncio.sleep(self._seconds / 4)
            self.look(server)

    def look(self, server: web.Server) -> None:
        """Close the connections that have had their time."""
        now = self._clock()
        open_ones = set(server.connections)
        self._asked &= open_ones
        self._silent = {one: self._silent.get(one, now) for one in open_ones - self._asked}
        for one, since in self._silent.items():
            if now - since >= self._seconds and one.transport is not None:
                one.transport.abort()


async def end_answers(server: web.Server, seconds: float) -> None:
    """Let the answers under way end, and cut off what is left. For a server that takes no new connections.

    Before aiohttp's own end of them, which logs a traceback for an answer that ends in the moment of its timeout
    (3.13 sets the result of a future that the timeout has cancelled).

    Args:
        server: Whose connections they are.
        seconds: How long they have, and then how long what is cut off has to notice.
    """
    await _gone(server, seconds)
    for connection in server.connections:
        if connection.transport is not None:
            connection.transport.abort()
    await _gone(server, seconds)


async def _gone(server: web.Server, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while server.connections:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(_POLL_SECONDS)
