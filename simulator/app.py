"""The API as its host runs it: f1hbase's server over files, with limits, tokens, slow queries and a log around it.

What OpenF1's own software answers is `f1hbase.serve`; only what its host and its load do to answers is here.
"""

from __future__ import annotations

import hmac
import math
import random
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from f1hbase.model.rates import Rate
from f1hbase.serve.app import Empty, detail
from f1hbase.serve.app import create_app as create_server
from f1hbase.serve.csvform import csv_pieces
from f1hbase.serve.query import Query
from f1hbase.serve.store import Piece, RecordStore, Selection, StoreFailedError
from simulator.limits import SlidingWindows

TOKEN_SECONDS = 3600

SELF_HOSTED_RATE = Rate(30, 10.0)
"""What OpenF1's own software lets through of one client."""

_SELF_HOSTED_REFUSAL = {"error": "Rate limit exceeded: 30 per 10 second"}

TIMED_OUT = (
    "pymongo.errors.ExecutionTimeout: PlanExecutor error during aggregation :: caused by :: operation exceeded time "
    "limit, full error: {'ok': 0.0, 'code': 50, 'codeName': 'MaxTimeMSExpired'}"
)
"""The last line of OpenF1's traceback when a query takes its database more than 5 s."""


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
    store: RecordStore,
    *,
    max_rows: int | None = None,
    max_bytes: int | None = None,
    slow_rows: int | None = None,
    empty: Empty | None = None,
    rates: Sequence[Rate] = (),
    self_hosted: bool = False,
    retry_after: bool = False,
    credentials: Credentials | None = None,
    token_rates: Sequence[Rate] | None = None,
    shuffle_seed: int | None = None,
    middlewares: Iterable[Middleware] = (),
) -> web.Application:
    """Return the application that serves ``store`` under ``/v1/``; the requests it had are ``app[LOG]``.

    ``max_rows``, ``max_bytes``: larger answers are a 422. ``slow_rows``: more records are a 500, as if they took
    the API too long. ``empty``: what an answer without a record is. ``rates``: more requests are a 429, all clients
    together, with ``Retry-After`` (seconds, rounded up) if ``retry_after``; a request with a valid token is held
    against ``token_rates`` instead, if given. ``self_hosted``: 30 requests in 10 s, refused in the words of OpenF1's
    own software. ``shuffle_seed``: an order that depends on it and the question. ``middlewares`` see a request
    before the limits do, and what they answer is logged; ``request["trusted"]`` tells them afterwards whether it had
    a token (else None) and a valid one.
    """
    if slow_rows is not None:
        store = _SlowStore(store, slow_rows)
    if shuffle_seed is not None:
        store = _ShuffledStore(store, shuffle_seed)
    tokens = _Tokens(credentials)
    limits = _Limits(tokens, (*rates, SELF_HOSTED_RATE) if self_hosted else rates, token_rates, retry_after=retry_after)
    limits.refusal = _SELF_HOSTED_REFUSAL if self_hosted else None
    layers: list[Middleware] = [_log_requests, *middlewares, limits.middleware]
    if max_bytes is not None:
        layers.append(_size_limit(max_bytes))
    app = create_server(store, max_rows=max_rows, empty=empty or Empty(), middlewares=layers)
    app[LOG] = []
    app.router.add_get("/_log", _show_log)
    app.router.add_post("/token", tokens.give)
    return app


class _SlowStore:
    """A store that takes too long for more records than some."""

    def __init__(self, store: RecordStore, rows: int) -> None:
        self._store = store
        self._rows = rows
        self.latest = store.latest

    def select(self, endpoint: str, query: Query, limit: int | None = None) -> Selection:
        selection = self._store.select(endpoint, query, limit)
        if (selection.rows or 0) > self._rows:
            raise StoreFailedError(TIMED_OUT)
        return selection


class _ShuffledStore:
    """A store whose answers have an order of their own for each question."""

    def __init__(self, store: RecordStore, seed: int) -> None:
        self._store = store
        self._seed = seed
        self.latest = store.latest

    def select(self, endpoint: str, query: Query, limit: int | None = None) -> Selection:
        return _Shuffled(self._store.select(endpoint, query, limit), f"{self._seed} {query.text}")


class _Shuffled:
    def __init__(self, selection: Selection, seed: str) -> None:
        self._selection = selection
        self._seed = seed
        self.rows = selection.rows

    def json(self) -> list[Piece]:
        return [b",".join(self._lines())]

    def csv(self) -> list[Piece]:
        lines = self._lines()
        return list(csv_pieces(lambda: iter(lines)))

    def lines(self) -> Iterator[bytes]:
        yield from self._lines()

    def _lines(self) -> list[bytes]:
        lines = list(self._selection.lines())
        random.Random(self._seed).shuffle(lines)  # noqa: S311
        return lines


class _Limits:
    """Refuses a request with an invalid token, and requests above the rates."""

    refusal: dict[str, str] | None = None
    """The body of a 429, if not the hosted API's."""

    def __init__(
        self, tokens: _Tokens, rates: Sequence[Rate], token_rates: Sequence[Rate] | None, *, retry_after: bool
    ) -> None:
        self._tokens = tokens
        self._free = SlidingWindows(rates)
        self._member = self._free if token_rates is None else SlidingWindows(token_rates)
        self._retry_after = retry_after

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.startswith("/v1/") or request.method != "GET":
            return await handler(request)
        trusted = request["trusted"] = self._tokens.check(request)
        if trusted is False:
            return detail(401, "Invalid or expired token", {"WWW-Authenticate": "Bearer"})
        wait = (self._member if trusted else self._free).admit()
        if wait <= 0:
            return await handler(request)
        headers = {"Retry-After": str(math.ceil(wait))} if self._retry_after else {}
        if self.refusal is not None:
            return web.json_response(self.refusal, status=429, headers=headers)
        return detail(429, "Rate limit exceeded", headers)


class _Tokens:
    """Gives tokens for the right credentials and knows them again, for an hour."""

    def __init__(self, credentials: Credentials | None) -> None:
        self._credentials = credentials
        self._ends: dict[str, float] = {}

    async def give(self, request: web.Request) -> web.Response:
        if self._credentials is None:
            return detail(404, "Not Found")
        form = await request.post()
        given = [str(form.get(field, "")) for field in ("username", "password")]
        wanted = [self._credentials.username, self._credentials.password]
        if not all(
            hmac.compare_digest(*pair)
            for pair in zip((one.encode() for one in given), (one.encode() for one in wanted), strict=True)
        ):
            return detail(401, "Incorrect username or password")
        token = secrets.token_urlsafe(24)
        self._ends[token] = time.monotonic() + TOKEN_SECONDS
        return web.json_response({"access_token": token, "expires_in": str(TOKEN_SECONDS), "token_type": "bearer"})

    def check(self, request: web.Request) -> bool | None:
        """Return None without a token (or without credentials to have one for), else whether it is valid."""
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if self._credentials is None or kind.lower() != "bearer":
            return None
        return time.monotonic() < self._ends.get(token.strip(), 0.0)


def _size_limit(max_bytes: int) -> Middleware:
    @web.middleware
    async def limit(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        if response.status != 200 or not request.path.startswith("/v1/"):
            return response
        if (size := await _body_size(response)) > max_bytes:
            return detail(422, f"Too much data requested: {size} bytes, at most {max_bytes} are allowed.")
        return response

    return limit


async def _body_size(response: web.StreamResponse) -> int:
    """Return the bytes of a response's body; one made on the way is made now, and kept."""
    if response.content_length is not None or not isinstance(response, web.Response):
        return response.content_length or 0
    if response.body is None or isinstance(response.body, bytes):
        return len(response.body or b"")
    response.body = await response.body.as_bytes()
    return len(response.body)


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
