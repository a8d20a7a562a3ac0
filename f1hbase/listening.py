"""What every HTTP server of f1hbase does about those who ask: whose names it answers to, and requests that are none.

It knows no route and no store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.typedefs import Handler
from aiohttp.web_protocol import RequestHandler
from yarl import URL

from f1hbase.credentials import is_loopback_host

_UNREADABLE = "f1hbase_unreadable"
_SHOWN_CHARACTERS = 200


def is_own_name(given: str | None, hosts: frozenset[str]) -> bool:
    """Tell whether the `Host` of a request is one of some names, in lower case, or a name of this machine.

    Of a server that only this machine reaches: a web page that points a name of its own at 127.0.0.1 sends that name.

    >>> is_own_name("LOCALHOST:80", frozenset()), is_own_name("evil.example", frozenset())
    (True, False)
    """
    if given is None:  # HTTP/1.0, which no browser speaks
        return True
    if "@" in given:
        return False
    try:
        name = (urlsplit(f"//{given}").hostname or "").lower()
    except ValueError:
        return False
    return name in hosts or is_loopback_host(name)


def is_of_other_site(headers: Mapping[str, str]) -> bool:
    """Tell whether a browser sent a request for a page that the server has not answered itself.

    Browsers say so themselves (`Sec-Fetch-Site`), and older ones name the page with each POST (`Origin`).
    """
    if headers.get("Sec-Fetch-Site", "none").lower() not in {"none", "same-origin"}:
        return True
    origin = headers.get("Origin")
    return origin is not None and origin.lower() != f"http://{headers.get('Host', '')}".lower()


class Runner(web.AppRunner):
    """Runs an application; what is no request of HTTP is a 400 or the connection's end, and one line in the log.

    aiohttp answers what its parser refuses. What only `yarl` refuses, such as `GET http://a:b:c/`, ends its task
    with a traceback and leaves the connection open for good.

    Args:
        app: The application, which does not run yet.
        logger: Where errors are logged.
        options: Those of `aiohttp.web.AppRunner`.
    """

    def __init__(self, app: web.Application, logger: logging.Logger, **options: Any) -> None:
        app.middlewares.insert(0, _refuse_unreadable)
        if _shorten not in logger.filters:
            logger.addFilter(_shorten)
        super().__init__(app, access_log=None, logger=logger, **options)
        self._logger = logger

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
                self._tell(error)
                made = make(message._replace(url=URL("/")), payload, protocol, writer, task)
                made[_UNREADABLE] = True
                return made

        server.request_factory = request
        loop = asyncio.get_running_loop()
        before = loop.get_exception_handler()

        def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            error = context.get("exception")
            if isinstance(context.get("protocol"), RequestHandler) and isinstance(error, ValueError):
                self._tell(error)  # asyncio ends the connection itself
            elif before is not None:
                before(loop, context)
            else:
                loop.default_exception_handler(context)

        loop.set_exception_handler(handle)

    def _tell(self, error: Exception) -> None:
        self._logger.warning("a request that is not HTTP: %s", _line(str(error)))


@web.middleware
async def _refuse_unreadable(request: web.Request, handler: Handler) -> web.StreamResponse:
    if _UNREADABLE in request:
        refusal = web.json_response({"detail": "Bad Request: the address cannot be read"}, status=400)
        refusal.force_close()
        return refusal
    return await handler(request)


def _shorten(record: logging.LogRecord) -> bool:
    """Make of a client's mistake one line, not a traceback."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.msg, record.args = "a request that is not HTTP: %s", (_line(str(error.message)),)
        record.exc_info = None
    return True


def _line(text: str) -> str:
    return (text.splitlines() or [""])[0][:_SHOWN_CHARACTERS]
