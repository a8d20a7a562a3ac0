"""Runs an application: ends connections that ask nothing, and tells of requests that are none in few lines."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.typedefs import Handler
from aiohttp.web_protocol import RequestHandler
from yarl import URL

from f1hbase.listening.connections import FIRST_REQUEST_SECONDS, FirstRequests, end_answers

_UNREADABLE = "f1hbase_unreadable"
_SHOWN_CHARACTERS = 200
_TOLD_EVERY_SECONDS = 60.0
"""How often a request that is none is told of: whoever scans ports sends thousands."""

_END_SECONDS = 1.0
"""How long answers under way have at the end."""


class Runner(web.AppRunner):
    """Runs an application; what is no request of HTTP is a 400 or the connection's end, and a line a minute in the log.

    aiohttp answers what its parser refuses. What only `yarl` refuses, such as `GET http://a:b:c/`, ends its task
    with a traceback and leaves the connection open for good. So does a connection that never asks.

    Args:
        app: The application, which does not run yet.
        logger: Where errors are logged.
        first_request_seconds: How long a new connection has for its first request.
        options: Those of `aiohttp.web.AppRunner`.
    """

    def __init__(
        self,
        app: web.Application,
        logger: logging.Logger,
        *,
        first_request_seconds: float = FIRST_REQUEST_SECONDS,
        **options: Any,
    ) -> None:
        app.middlewares.insert(0, _refuse_unreadable)
        self._first_requests = FirstRequests(first_request_seconds)
        self._first_requests.attach(app)
        self._watching: asyncio.Task[None] | None = None
        self._garbage = GarbageLines(logger)
        super().__init__(app, access_log=None, logger=logger, shutdown_timeout=_END_SECONDS, **options)

    async def setup(self) -> None:
        """Begin to serve; sites can be added then."""
        await super().setup()
        server = self.server
        assert server is not None
        make = server.request_factory

        def request(
            message: RawRequestMessage, payload: StreamReader, protocol: RequestHandler, writer: AbstractStreamWriter,
            task: asyncio.Task[None],
        ) -> web.BaseRequest:  # fmt: skip
            try:
                return make(message, payload, protocol, writer, task)
            except ValueError as error:
                self._garbage.tell(str(error))
                made = make(message._replace(url=URL("/")), payload, protocol, writer, task)
                made[_UNREADABLE] = True
                return made

        server.request_factory = request
        loop = asyncio.get_running_loop()
        before = loop.get_exception_handler()

        def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            error = context.get("exception")
            if isinstance(context.get("protocol"), RequestHandler) and isinstance(error, ValueError):
                self._garbage.tell(str(error))  # asyncio ends the connection itself
            elif before is not None:
                before(loop, context)
            else:
                loop.default_exception_handler(context)

        loop.set_exception_handler(handle)
        self._watching = asyncio.create_task(self._first_requests.watch(server))

    async def shutdown(self) -> None:
        """Let answers under way end, then cut them off; called by `cleanup`, when no new connections are taken."""
        await super().shutdown()
        if self.server is not None:
            await end_answers(self.server, _END_SECONDS)

    async def cleanup(self) -> None:
        """End serving."""
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
        await super().cleanup()
        self._garbage.close()


class GarbageLines:
    """Tells of requests that are no HTTP: of the first at once, and then in one line a minute for all that came.

    Args:
        logger: Where the lines go. What aiohttp tells it of them itself is taken from there.
        clock: Gives seconds, rising.
    """

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._told_at = -_TOLD_EVERY_SECONDS
        self._untold = 0
        logger.addFilter(self._without_aiohttps)

    def tell(self, what: str) -> None:
        """Take one; the text says what is wrong with it."""
        now = self._clock()
        if now - self._told_at < _TOLD_EVERY_SECONDS:
            self._untold += 1
            return
        self._told_at = now
        more = f" (and {self._untold:,} more before it)" if self._untold else ""
        self._untold = 0
        first = (what.splitlines() or [""])[0][:_SHOWN_CHARACTERS]
        self._logger.warning("a request that is not HTTP: %s%s", first, more)

    def close(self) -> None:
        """Tell of those that were not told of yet; the logger is as it was then."""
        self._logger.removeFilter(self._without_aiohttps)
        if self._untold:
            self._logger.warning("%s more requests that were not HTTP", f"{self._untold:,}")

    def _without_aiohttps(self, record: logging.LogRecord) -> bool:
        """Tell of a client's mistake, for which aiohttp has a traceback."""
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, HttpProcessingError):
            return True
        self.tell(str(error.message))
        return False


@web.middleware
async def _refuse_unreadable(request: web.Request, handler: Handler) -> web.StreamResponse:
    if _UNREADABLE in request:
        refusal = web.json_response({"detail": "Bad Request: the address cannot be read"}, status=400)
        refusal.force_close()
        return refusal
    return await handler(request)
