"""An HTTP server that answers as the OpenF1 API does, from a `Store`.

Statuses and bodies: "Facts about the API" in the design; 422 and 429 have the shape that FastAPI gives them,
which OpenF1 runs on.
"""

import asyncio
import hmac
import json
import math
import random
import secrets
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from f1hbase.model.rates import Rate
from f1hbase.serve.csvform import csv_line, to_csv
from f1hbase.serve.query import QueryError, parse_query
from f1hbase.serve.records import IDENTITY, Span, Store
from simulator.faults import error_answer
from simulator.limits import SlidingWindows

TOKEN_SECONDS = 3600
_PIECE = 256 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """A line of the log, in the order of arrival.

    ``at``, when it arrived, and ``seconds`` are by the monotonic clock; status 0 if none was sent. ``fault`` is
    what a middleware left in ``request["fault"]``. Before the answer all but the question is 0 or None.
    """

    at: float
    seconds: float
    method: str
    path: str
    query: str
    status: int
    bytes: int
    fault: str | None


@dataclass(frozen=True, slots=True)
class Credentials:
    """What ``POST /token`` asks for."""

    username: str
    password: str


LOG: web.AppKey[list[Request]] = web.AppKey("log", list)


def create_app(
    store: Store,
    *,
    max_rows: int | None = None,
    max_bytes: int | None = None,
    slow_rows: int | None = None,
    empty_csv_status: int = 404,
    rates: Sequence[Rate] = (),
    retry_after: bool = False,
    credentials: Credentials | None = None,
    token_rates: Sequence[Rate] | None = None,
    shuffle_seed: int | None = None,
    middlewares: Iterable[Middleware] = (),
) -> web.Application:
    """Return the application that serves ``store`` under ``/v1/``; the requests it had are ``app[LOG]``.

    ``max_rows``, ``max_bytes``: larger answers are a 422. ``slow_rows``: more records are a 500, as if they took
    the API too long. ``empty_csv_status``: what CSV without a record is answered with. ``rates``: more requests
    are a 429, all clients together, with ``Retry-After`` (seconds, rounded up) if ``retry_after``; a request
    with a valid token is held against ``token_rates`` instead, if given. ``shuffle_seed``: an order that depends
    on it and the question. ``middlewares`` see a request before the limits do, and what they answer is logged;
    ``request["trusted"]`` tells them afterwards whether it had a token (else None) and a valid one.
    """
    app = web.Application(middlewares=[_log_requests, *middlewares])
    app[LOG] = []
    tokens = _Tokens(credentials)
    api = _Api(store, shuffle_seed, max_rows, max_bytes, slow_rows, empty_csv_status)
    free = SlidingWindows(rates)
    member = free if token_rates is None else SlidingWindows(token_rates)

    async def answer(request: web.Request) -> web.Response:
        name = request.match_info["endpoint"].lower()
        if not api.knows(name):
            return _detail(404, "Not Found")
        trusted = request["trusted"] = tokens.check(request)
        if trusted is False:
            return _detail(401, "Invalid or expired token", {"WWW-Authenticate": "Bearer"})
        wait = (member if trusted else free).admit()
        if wait > 0:
            headers = {"Retry-After": str(math.ceil(wait))} if retry_after else {}
            return _detail(429, "Rate limit exceeded", headers)
        # In a thread, so that the log has the next request when it arrives, not when this answer is made.
        return await asyncio.to_thread(api.answer, name, request.raw_path.partition("?")[2])

    app.router.add_get("/v1/{endpoint}", answer)
    app.router.add_get("/_log", _show_log)
    app.router.add_post("/token", tokens.give)
    app.router.add_route("*", "/{anything:.*}", _not_found)
    return app


class _Api:
    """Turns a query string into an answer."""

    def __init__(
        self,
        store: Store,
        shuffle_seed: int | None,
        max_rows: int | None,
        max_bytes: int | None,
        slow_rows: int | None,
        empty_csv_status: int,
    ) -> None:
        self._store = store
        self._shuffle_seed = shuffle_seed
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._slow_rows = slow_rows
        self._empty_csv_status = empty_csv_status
        self._endpoints = frozenset(IDENTITY) | frozenset(store.endpoints())
        for endpoint in store.endpoints():
            store.groups(endpoint)  # sorts now rather than in the first request

    def knows(self, endpoint: str) -> bool:
        return endpoint in self._endpoints

    def answer(self, endpoint: str, raw_query: str) -> web.Response:
        try:
            query = parse_query(raw_query, self._store.latest)
        except QueryError as error:
            return _detail(422, error.detail)
        spans = self._store.select(endpoint, query)
        rows = sum(span.last - span.first for span in spans)
        if rows == 0 and query.csv:
            return error_answer(self._empty_csv_status)
        if rows == 0:
            return _detail(404, "No results found.")
        if self._max_rows is not None and rows > self._max_rows:
            return _detail(422, f"Too much data requested: {rows} rows, at most {self._max_rows} are allowed.")
        if self._slow_rows is not None and rows > self._slow_rows:
            return error_answer(500)
        if query.csv:
            body = self._csv(spans, raw_query)
            headers = {"Content-Disposition": f"attachment; filename={endpoint}.csv"}
            return self._sized(body, "text/csv", headers)
        if self._shuffle_seed is None:
            pieces: Iterable[bytes | memoryview] = (span.group.json(span.first, span.last) for span in spans)
        else:
            pieces = self._lines(spans, raw_query)
        return self._sized(b"".join((b"[", b",".join(pieces), b"]")), "application/json")

    def _sized(self, body: bytes, kind: str, headers: dict[str, str] | None = None) -> web.Response:
        if self._max_bytes is not None and len(body) > self._max_bytes:
            return _detail(422, f"Too much data requested: {len(body)} bytes, at most {self._max_bytes} are allowed.")
        return _respond(body, kind, headers)

    def _csv(self, spans: Sequence[Span], raw_query: str) -> bytes:
        if self._shuffle_seed is None:
            tables = [span.group.csv() for span in spans]
            fields = {table.fields for table in tables}
            if len(fields) == 1 and (names := fields.pop()) is not None:
                parts = (table.lines(span.first, span.last) for table, span in zip(tables, spans, strict=True))
                return b"".join((csv_line(names), *parts))
        return to_csv([json.loads(line) for line in self._lines(spans, raw_query)])

    def _lines(self, spans: Iterable[Span], raw_query: str) -> list[bytes]:
        lines = [line for span in spans for line in span.group.lines(span.first, span.last)]
        if self._shuffle_seed is not None:
            random.Random(f"{self._shuffle_seed} {raw_query}").shuffle(lines)  # noqa: S311
        return lines


class _Tokens:
    """Gives tokens for the right credentials and knows them again, for an hour."""

    def __init__(self, credentials: Credentials | None) -> None:
        self._credentials = credentials
        self._ends: dict[str, float] = {}

    async def give(self, request: web.Request) -> web.Response:
        if self._credentials is None:
            return _detail(404, "Not Found")
        form = await request.post()
        given = [str(form.get(field, "")) for field in ("username", "password")]
        wanted = [self._credentials.username, self._credentials.password]
        if not all(
            hmac.compare_digest(*pair)
            for pair in zip((one.encode() for one in given), (one.encode() for one in wanted), strict=True)
        ):
            return _detail(401, "Incorrect username or password")
        token = secrets.token_urlsafe(24)
        self._ends[token] = time.monotonic() + TOKEN_SECONDS
        return web.json_response({"access_token": token, "expires_in": str(TOKEN_SECONDS), "token_type": "bearer"})

    def check(self, request: web.Request) -> bool | None:
        """Return None without a token (or without credentials to have one for), else whether it is valid."""
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if self._credentials is None or kind.lower() != "bearer":
            return None
        return time.monotonic() < self._ends.get(token.strip(), 0.0)


@web.middleware
async def _log_requests(request: web.Request, handler: Handler) -> web.StreamResponse:
    path, _, query = request.raw_path.partition("?")
    if path.startswith("/_"):  # looking is not asking
        return await handler(request)
    log, index = request.app[LOG], len(request.app[LOG])
    begin = time.monotonic()
    log.append(Request(begin, 0.0, request.method, path, query, 0, 0, None))
    status, size = 0, 0
    try:
        response = await handler(request)
        status, size = response.status, response.content_length or 0
        return response
    finally:
        seconds = time.monotonic() - begin
        log[index] = replace(log[index], seconds=seconds, status=status, bytes=size, fault=request.get("fault"))


async def _show_log(request: web.Request) -> web.Response:
    return web.json_response([asdict(one) for one in request.app[LOG]])


async def _not_found(_request: web.Request) -> web.Response:
    return _detail(404, "Not Found")


def _detail(status: int, detail: Any, headers: dict[str, str] | None = None) -> web.Response:
    body = json.dumps({"detail": detail}, separators=(",", ":"), ensure_ascii=False).encode()
    return _respond(body, "application/json", headers, status)


def _respond(body: bytes, kind: str, headers: dict[str, str] | None = None, status: int = 200) -> web.Response:
    # aiohttp warns of a large body given whole: it would be copied into the socket's buffer at once.
    if len(body) <= _PIECE * 4:
        return web.Response(body=body, status=status, content_type=kind, headers=headers)
    headers = {**(headers or {}), "Content-Length": str(len(body))}
    return web.Response(body=_pieces(body), status=status, content_type=kind, headers=headers)


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    view = memoryview(body)
    for begin in range(0, len(view), _PIECE):
        yield bytes(view[begin : begin + _PIECE])
