"""An HTTP application that answers as the OpenF1 API does, from a `RecordStore`.

It knows no kind of store. What it answers, and where the source is, is in `docs/serve.md`.
"""

from __future__ import annotations

import asyncio
import html
import json
import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Middleware

from f1hbase.serve.query import NoLatestError, Query, QueryError, parse_query
from f1hbase.serve.store import Piece, RecordStore, Selection, StoreFailedError, TooManyRowsError

_log = logging.getLogger(__name__)

LONGEST_QUERY_BYTES = 64 * 1024
"""uvicorn, on which OpenF1 runs, takes no more in the whole head of a request."""

_BLOCK_BYTES = 256 * 1024
_AT_ONCE_BYTES = 4 * _BLOCK_BYTES
_PIECES_AT_ONCE = 8

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
) -> web.Application:
    """Return the application that serves ``store`` under ``/v1/``, to GET alone.

    ``max_rows``: an answer with more records is a 422. ``middlewares`` see requests first.
    """
    app = web.Application(middlewares=list(middlewares))
    api = _Api(store, max_rows, empty)
    app.router.add_route("*", "/v1/{endpoint:[A-Za-z0-9_]+}", api.answer)
    app.router.add_route("*", "/{anything:.*}", _not_found)
    return app


class _Api:
    """Turns a request into an answer."""

    def __init__(self, store: RecordStore, max_rows: int | None, empty: Empty) -> None:
        self._store = store
        self._max_rows = max_rows
        self._empty = empty

    async def answer(self, request: web.Request) -> web.Response:
        if request.method != "GET":
            return detail(405, "Method Not Allowed", {"Allow": "GET"})
        raw_query = request.raw_path.partition("?")[2]
        if len(raw_query) > LONGEST_QUERY_BYTES:
            return detail(414, f"The query has more than {LONGEST_QUERY_BYTES} bytes")
        endpoint = request.match_info["endpoint"].lower()
        # In a thread, so that the next request is read when it arrives, not when this answer is made.
        answer = await asyncio.to_thread(self._answer, endpoint, raw_query)
        return answer if isinstance(answer, web.Response) else self._send(request, *answer)

    def _answer(self, endpoint: str, raw_query: str) -> web.Response | tuple[Iterable[Piece], str, dict[str, str]]:
        try:
            query = parse_query(raw_query, self._store.latest)
            selection = self._store.select(endpoint, query, self._max_rows)
            if selection.rows == 0:
                return self._nothing(query)
            if query.csv:
                headers = {"Content-Disposition": f"attachment; filename={endpoint}.csv"}
                return selection.csv(), "text/csv", headers
            return _bracketed(selection), "application/json", {}
        except QueryError as error:
            return detail(422, error.detail)
        except TooManyRowsError as error:
            return detail(422, f"Too much data requested: {error}.")
        except NoLatestError:
            return failure(NO_LATEST)
        except StoreFailedError as error:
            _log.warning("%s: the store failed: %s", endpoint, error)
            return failure(str(error))

    def _nothing(self, query: Query) -> web.Response:
        status = self._empty.csv if query.csv else self._empty.json
        if status == 200:
            return web.Response(body=b"[]", content_type="application/json")
        return failure(NO_RESULTS) if status == 500 else detail(status, "No results found.")

    def _send(self, request: web.Request, pieces: Iterable[Piece], kind: str, headers: dict[str, str]) -> web.Response:
        charset = "utf-8" if kind == "text/csv" else None
        if not isinstance(pieces, Sequence):
            body = _stream(request, iter(pieces))
            return web.Response(body=body, content_type=kind, charset=charset, headers=headers)
        size = sum(map(len, pieces))
        # aiohttp warns of a large body given whole: it would be copied into the socket's buffer at once.
        if size <= _AT_ONCE_BYTES:
            return web.Response(body=b"".join(pieces), content_type=kind, charset=charset, headers=headers)
        headers["Content-Length"] = str(size)
        return web.Response(body=_blocks(pieces), content_type=kind, charset=charset, headers=headers)


def detail(status: int, text: Any, headers: dict[str, str] | None = None) -> web.Response:
    """Return a refusal as FastAPI words it."""
    body = json.dumps({"detail": text}, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)


def failure(reason: str) -> web.Response:
    """Return a 500 as OpenF1 words it: a page with a traceback, whose last line is the reason.

    The traceback has no frames: they would be ours.
    """
    text = html.escape(f"Traceback (most recent call last):\n{reason}\n", quote=False)
    page = f"<h1>An error occurred</h1><pre>{text}</pre>"
    return web.Response(text=page, status=500, content_type="text/html")


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


async def _blocks(pieces: Iterable[Piece]) -> AsyncIterator[bytes]:
    """Yield what the pieces hold in blocks: a window of all cars has many small ones, a whole session a few large."""
    block = bytearray()
    for piece in pieces:
        view = memoryview(piece)
        for begin in range(0, len(view), _BLOCK_BYTES):
            block += view[begin : begin + _BLOCK_BYTES]
            if len(block) >= _BLOCK_BYTES:
                yield bytes(block)
                block.clear()
    yield bytes(block)


async def _stream(request: web.Request, pieces: Iterator[Piece]) -> AsyncIterator[bytes]:
    """Yield pieces that are made on the way; a failure ends the connection, so that no client takes a part for all."""
    while True:
        try:
            batch = await asyncio.to_thread(lambda: list(islice(pieces, _PIECES_AT_ONCE)))
        except StoreFailedError as error:
            _log.warning("the store failed within an answer: %s", error)
            if request.transport is not None:
                request.transport.abort()
            return
        if not batch:
            return
        yield b"".join(batch)
