"""An HTTP application that answers as the OpenF1 API does, from a `RecordStore`.

It knows no kind of store. What it answers, and where the source is, is in `docs/serve.md`. `create_app` puts together
all that there is under one address; who may ask is `security`'s.
"""

from __future__ import annotations

import asyncio
import html
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from aiohttp import web
from aiohttp.typedefs import Middleware

from f1hbase.serve import openapi
from f1hbase.serve.pages import SharedStore, mount
from f1hbase.serve.query import NoLatestError, Query, QueryError, parse_query
from f1hbase.serve.security import OPEN, Access, access_layer, header_layer
from f1hbase.serve.store import (
    HoldsOpen,
    Piece,
    RecordStore,
    SaysWhatIsMissing,
    Selection,
    StoreFailedError,
    StoreUnavailableError,
    TooManyRowsError,
)

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")

LONGEST_QUERY_BYTES = 64 * 1024
"""uvicorn, on which OpenF1 runs, takes no more in the whole head of a request."""

_BLOCK_BYTES = 256 * 1024
_AT_ONCE_BYTES = 64 * 1024  # what the buffer of a socket takes

THREADS = 16
"""How many answers are worked at in the same moment. An answer has a thread only while a block of it is being made,
never while its client reads."""

_TURN_SECONDS = 0.25
"""How long an answer keeps its thread before others have a turn, if it has something to send or not."""

STALL_SECONDS = 60.0
"""A client that takes nothing for so long is cut off."""

RETRY_SECONDS = 5
"""When a store is away, clients are told to ask again after so long."""

INCOMPLETE = "X-F1HBase-Incomplete"
"""The header that names the query's sessions of which not all is loaded, such as `9558 partial, 9559 absent`."""

NO_RESULTS = "ValueError: No results"
NO_LATEST = "SystemError: Could not find any past or current session in MongoDB"
"""What OpenF1's tracebacks end in; clients may look for it."""


@dataclass(frozen=True, slots=True)
class Empty:
    """The statuses of an answer without a record: 200 with ``[]`` or 404 in JSON, 404 or 500 in CSV."""

    json: int = 200
    csv: int = 500


EMPTY_FORMS = {"list": Empty(200, 500), "404": Empty(404, 404)}
"""OpenF1's own software, and the hosted API."""


def create_app(
    store: RecordStore,
    *,
    max_rows: int | None = None,
    empty: Empty = EMPTY_FORMS["list"],
    middlewares: Iterable[Middleware] = (),
    access: Access = OPEN,
    stall_seconds: float = STALL_SECONDS,
    pages: SharedStore | None = None,
) -> web.Application:
    """Return the application: ``store`` under ``/v1/``, to GET alone, and the description of that.

    ``max_rows``: an answer with more records is a 422. ``middlewares`` see requests first. ``access``: who may ask.
    ``stall_seconds``: when a client that takes nothing is cut off. ``pages``: what the web pages are about, if there
    are any.
    """
    app = web.Application(middlewares=[access_layer(access), *middlewares])
    app.on_response_prepare.append(header_layer(access))
    api = _Api(store, max_rows, empty, stall_seconds)
    app.on_cleanup.append(api.close)
    app.router.add_route("*", "/v1/{endpoint:[A-Za-z0-9_]+}", api.answer)
    openapi.add_routes(app)
    if pages is not None:
        mount(app, pages)
    app.router.add_route("*", "/{anything:.*}", _not_found)
    return app


class _Api:
    """Turns a request into an answer."""

    def __init__(self, store: RecordStore, max_rows: int | None, empty: Empty, stall_seconds: float) -> None:
        self._store = store
        self._max_rows = max_rows
        self._empty = empty
        self._stall_seconds = stall_seconds
        self._threads = ThreadPoolExecutor(THREADS, "answer")

    async def close(self, _: web.Application) -> None:
        """Let go of the threads; what they are at is waited for by nobody."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if isinstance(self._store, HoldsOpen):
            self._store.close()

    async def answer(self, request: web.Request) -> web.Response:
        if request.method != "GET":
            return detail(405, "Method Not Allowed", {"Allow": "GET"})
        raw_query = request.raw_path.partition("?")[2]
        if len(raw_query) > LONGEST_QUERY_BYTES:
            return detail(414, f"The query has more than {LONGEST_QUERY_BYTES} bytes")
        endpoint = request.match_info["endpoint"].lower()
        # In a thread, so that the next request is read when it arrives, not when this answer is made.
        answer = await self._in_thread(lambda: self._answer(endpoint, raw_query))
        return answer if isinstance(answer, web.Response) else self._send(request, *answer)

    async def _in_thread(self, call: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def _answer(self, endpoint: str, raw_query: str) -> web.Response | tuple[Iterable[Piece], str, dict[str, str]]:
        try:
            query = parse_query(raw_query, self._store.latest)
            selection = self._store.select(endpoint, query, self._max_rows)
            headers = {}
            if isinstance(selection, SaysWhatIsMissing) and selection.missing:
                headers[INCOMPLETE] = ", ".join(selection.missing)
            if selection.rows == 0:
                return self._nothing(query, headers)
            if query.csv:
                headers["Content-Disposition"] = f"attachment; filename={endpoint}.csv"
                return selection.csv(), "text/csv", headers
            return _bracketed(selection), "application/json", headers
        except QueryError as error:
            return detail(422, error.detail)
        except TooManyRowsError as error:
            return detail(422, f"Too much data requested: {error}.")
        except NoLatestError:
            return failure(NO_LATEST)
        except StoreUnavailableError as error:
            return detail(503, str(error), {"Retry-After": str(RETRY_SECONDS)})
        except StoreFailedError as error:
            _log.warning("%s: the store failed: %s", endpoint, error)
            return failure(str(error))

    def _nothing(self, query: Query, headers: dict[str, str]) -> web.Response:
        status = self._empty.csv if query.csv else self._empty.json
        if status == 200:
            return web.Response(body=b"[]", content_type="application/json", headers=headers)
        if status == 500:
            return failure(NO_RESULTS, headers)
        return detail(status, "No results found.", headers)

    def _send(self, request: web.Request, pieces: Iterable[Piece], kind: str, headers: dict[str, str]) -> web.Response:
        charset = "utf-8" if kind == "text/csv" else None
        if not isinstance(pieces, Sequence):
            body = self._stream(request, iter(pieces))
            return web.Response(body=body, content_type=kind, charset=charset, headers=headers)
        size = sum(map(len, pieces))
        if size <= _AT_ONCE_BYTES:
            return web.Response(body=b"".join(pieces), content_type=kind, charset=charset, headers=headers)
        headers["Content-Length"] = str(size)
        body = self._blocks(request, pieces)
        return web.Response(body=body, content_type=kind, charset=charset, headers=headers)

    async def _blocks(self, request: web.Request, pieces: Iterable[Piece]) -> AsyncIterator[bytes]:
        """Yield what the pieces hold, in blocks."""
        for block in _in_blocks(pieces):
            with self._watch(request):
                yield block

    async def _stream(self, request: web.Request, pieces: Iterator[Piece]) -> AsyncIterator[bytes]:
        """Yield pieces that are made on the way; a failure ends the connection: no client takes a part for all."""
        is_last = False
        while not is_last and request.transport is not None and not request.transport.is_closing():
            try:
                batch, is_last = await self._in_thread(lambda: _some(pieces))
            except StoreFailedError as error:
                _log.warning("the store failed within an answer: %s", error)
                if request.transport is not None:
                    request.transport.abort()
                return
            for block in _in_blocks(batch):
                with self._watch(request):
                    yield block

    @contextmanager
    def _watch(self, request: web.Request) -> Iterator[None]:
        """Cut the client off that does not take a block."""
        transport = request.transport
        if transport is None:
            yield
            return
        timer = asyncio.get_running_loop().call_later(self._stall_seconds, transport.abort)
        try:
            yield
        finally:
            timer.cancel()


def detail(status: int, text: Any, headers: dict[str, str] | None = None) -> web.Response:
    """Return a refusal as FastAPI words it."""
    body = json.dumps({"detail": text}, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)


def failure(reason: str, headers: dict[str, str] | None = None) -> web.Response:
    """Return a 500 as OpenF1 words it: a page with a traceback, whose last line is the reason.

    The traceback has no frames: they would be ours.
    """
    text = html.escape(f"Traceback (most recent call last):\n{reason}\n", quote=False)
    page = f"<h1>An error occurred</h1><pre>{text}</pre>"
    return web.Response(text=page, status=500, content_type="text/html", headers=headers)


async def _not_found(request: web.Request) -> web.Response:
    if request.method != "GET":
        return detail(405, "Method Not Allowed", {"Allow": "GET"})
    return detail(404, "Not Found")


def _bracketed(selection: Selection) -> Iterable[Piece]:
    pieces = selection.json()
    if isinstance(pieces, Sequence):
        return [b"[", *pieces, b"]"]
    return _between(b"[", pieces, b"]")


def _between(first: Piece, pieces: Iterable[Piece], last: Piece) -> Iterator[Piece]:
    yield first
    yield from pieces
    yield last


def _some(pieces: Iterator[Piece]) -> tuple[list[Piece], bool]:
    """Return the next pieces, as many as make a block or come within a turn, and whether they are the last ones."""
    begin = time.monotonic()
    batch: list[Piece] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece)
        if size >= _BLOCK_BYTES or time.monotonic() - begin >= _TURN_SECONDS:
            return batch, False
    return batch, True


def _in_blocks(pieces: Iterable[Piece]) -> Iterator[bytes]:
    """Yield what the pieces hold in blocks: a window of all cars has many small ones, a whole session a few large."""
    block = bytearray()
    for piece in pieces:
        view = memoryview(piece)
        for begin in range(0, len(view), _BLOCK_BYTES):
            block += view[begin : begin + _BLOCK_BYTES]
            if len(block) >= _BLOCK_BYTES:
                yield bytes(block)
                block.clear()
    if block:
        yield bytes(block)
