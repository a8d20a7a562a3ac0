"""OpenF1's REST API as a source: puts client, limiter, circuit breaker and queue together as its options say."""

from __future__ import annotations

import asyncio
import email.utils
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from f1hbase.credentials import Credentials
from f1hbase.errors import F1HBaseError, SetupError, UnreachableError
from f1hbase.model.answers import Listing, RawAnswer, RequestStats
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.plans import Selection
from f1hbase.model.rates import Limits
from f1hbase.model.units import Unit
from f1hbase.sources.base import Deliver
from f1hbase.sources.http.answers import HttpAnswer
from f1hbase.sources.http.breaker import CircuitBreaker
from f1hbase.sources.http.errors import AwayError, GiveUpError, RequestError
from f1hbase.sources.http.limiter import SharedRateLimiter, state_path
from f1hbase.sources.openf1.client import OpenF1Client
from f1hbase.sources.openf1.formats import decode_json
from f1hbase.sources.openf1.query import FIRST_YEAR, OPENF1_URL, Query
from f1hbase.sources.openf1.queue import NAME, RequestQueue
from f1hbase.sources.openf1.sizing import Packer, Sizes
from f1hbase.sources.openf1.token import TokenProvider, token_path

_PROBES = (
    Query("meetings", ("meeting_key=1141",)),
    Query("drivers", ("session_key=9158", "driver_number=1")),
)
"""What is asked to find out whether the API answers at all: little, of two endpoints, as one may be broken, and without
`latest`, which OpenF1's own software answers with an error when it has no past session."""


@dataclass(frozen=True, slots=True)
class OpenF1Options:
    """How the API is asked; can be handed to another process.

    Attributes:
        api_url: Where it is.
        limits: Its limits, shared by all processes of the user on this machine.
        window: The length of the windows of samples; None sizes each so that its answer is near the budget.
        response_budget: The size in bytes that answers are to stay near.
        max_concurrent_requests: How many requests may be under way at once in a process.
        max_retries: How often a request that failed is sent again.
        retry_delay: The longest wait before the first retry, in seconds.
        request_timeout: How long one request may take, in seconds.
        credentials: Those of a subscription, if there is one.
    """

    api_url: str = OPENF1_URL
    limits: Limits = field(default_factory=Limits)
    window: timedelta | None = None
    response_budget: int = 4_000_000
    max_concurrent_requests: int = 10
    max_retries: int = 3
    retry_delay: float = 5.0
    request_timeout: float = 60.0
    credentials: Credentials | None = field(default=None, repr=False)


class OpenF1Source:
    """The API; see `f1hbase.sources.base.Source`.

    Args:
        queue: What asks it.
        options: How.
    """

    name = NAME
    first_year = FIRST_YEAR

    def __init__(self, queue: RequestQueue, options: OpenF1Options) -> None:
        self._queue = queue
        self._options = options
        self.home = options.api_url

    async def listing(self, selection: Selection) -> Listing:
        """Return the sessions that a selection may mean, and their meetings; takes two requests.

        Raises:
            UnreachableError: If it does not answer, or not as OpenF1 does.
        """
        url = self._options.api_url
        try:
            sessions, sessions_answer, stats = await self._queue.ask(_sessions_query(selection))
            keys = sorted({key for record in sessions if type(key := _key(record)) is int})
            meetings: list[Any] = []
            answers = {"sessions": _raw(_sessions_query(selection), sessions_answer)}
            if keys:
                # By key, not by year: the years of a meeting and of its sessions need not be the same.
                query = _meetings_query(selection, keys)
                meetings, meetings_answer, more = await self._queue.ask(query)
                answers["meetings"] = _raw(query, meetings_answer)
                stats.add(more)
        except AwayError as error:
            raise UnreachableError(f"{error}. Check the network and --api-url.") from error
        except F1HBaseError:
            raise
        except GiveUpError as error:
            raise UnreachableError(
                f"API: {url} refuses: {error}. The address of OpenF1 ends in /v1; see --api-url."
            ) from error
        except RequestError as error:
            raise UnreachableError(f"API: {url} does not answer: {error}. Check the network and --api-url.") from error
        return Listing(NAME, sessions, meetings, sessions_answer.asked_at, answers, stats)

    def knows(self, endpoint: str) -> frozenset[str]:
        """Return every field of the catalogue: it was made from this API."""
        return ENDPOINTS[endpoint].known

    def expected(self, units: Iterable[Unit]) -> int:
        """Return in how many units the answers will come, about: as many as windows that busy cars would take."""
        return expected_units(units, self._options)

    async def fetch(self, units: Iterable[Unit], deliver: Deliver) -> None:
        """Ask for units within the API's limits; see `f1hbase.sources.base.Source.fetch`."""
        await self._queue.fetch(units, deliver)

    def unaccounted(self) -> RequestStats:
        """Return what was spent since the last answer and belongs to none, and begin anew."""
        return self._queue.unaccounted.take()


def expected_units(units: Iterable[Unit], options: OpenF1Options) -> int:
    """Return in how many units the answers to some will come, with cars on track all the time."""
    return sum(len(batch.units) for batch in _batches(units, options))


def expected_requests(units: Iterable[Unit], options: OpenF1Options) -> int:
    """Return how many requests units take, with cars on track while sessions are on."""
    sizes = Sizes(options.response_budget, options.window)
    packer, number = Packer(units, sizes), 0
    while packer:
        sizes.suppose(packer.take())
        number += 1
    return number


def _batches(units: Iterable[Unit], options: OpenF1Options) -> list[Any]:
    packer = Packer(units, Sizes(options.response_budget, options.window))
    batches = []
    while packer:
        batches.append(packer.take())
    return batches


@asynccontextmanager
async def open_source(options: OpenF1Options, patience: float) -> AsyncIterator[OpenF1Source]:
    """Yield the API of some options.

    Args:
        options: Say where it is, and how it is to be asked.
        patience: For how long it may be away, in seconds.

    Raises:
        SetupError: If the folder for what processes share cannot be written.
    """
    limiter = _limiter(options, patience)
    queues: list[RequestQueue] = []
    async with _client(options, limiter) as client:

        async def probe() -> None:
            failure: RequestError | None = None
            for query in _PROBES:
                await limiter.acquire()
                queues[0].unaccounted.requests += 1
                try:
                    await client.fetch(query)
                except RequestError as error:
                    failure = failure or error
                else:
                    return
            if failure is not None:
                raise failure

        queue = RequestQueue(
            client,
            limiter,
            CircuitBreaker(shared_path(options), probe, patience),
            Sizes(options.response_budget, options.window),
            max_concurrent_requests=options.max_concurrent_requests,
            max_retries=options.max_retries,
            retry_delay=options.retry_delay,
        )
        queues.append(queue)
        yield OpenF1Source(queue, options)


@dataclass(frozen=True, slots=True)
class Probe:
    """What one request says of the API.

    Attributes:
        records: What it brought.
        error: Why it brought nothing; None if it was answered.
        seconds: How long the API took to answer.
        server_time: What time it is there, if it says so, to the second.
        local_time: What time it was here then.
        spent: How many requests were sent before within the window of each rate, by all processes.
    """

    records: list[Any]
    error: RequestError | None
    seconds: float
    server_time: datetime | None
    local_time: datetime
    spent: list[int]


async def probe_api(options: OpenF1Options, query: Query, patience: float) -> Probe:
    """Send one request, as soon as the limits allow, and say how that went; nothing is sent again.

    Args:
        options: Say where the API is, and how it is to be asked.
        query: What to ask.
        patience: How long to wait for the limits, in seconds.

    Raises:
        SetupError: If the folder for what processes share cannot be written.
        TimeoutError: If the limits did not allow the request for so long.
    """
    limiter = _limiter(options, patience)
    spent = limiter.spent()
    async with asyncio.timeout(patience):
        await limiter.acquire()
    async with _client(options, limiter) as client:
        records: list[Any] = []
        failure: RequestError | None = None
        began = monotonic()
        try:
            answer = await client.fetch(query)
            seconds, local = monotonic() - began, datetime.now(UTC)
            records = [] if answer.is_empty else decode_json(answer.body)
        except RequestError as error:
            seconds, local, failure = monotonic() - began, datetime.now(UTC), error
        return Probe(records, failure, seconds, _http_date(client.date), local, spent)


def shared_path(options: OpenF1Options) -> Path:
    """Return the file through which all processes share the API's limits; what else they share is beside it."""
    return state_path(urlsplit(options.api_url).netloc)


def _limiter(options: OpenF1Options, patience: float) -> SharedRateLimiter:
    shared = shared_path(options)
    try:
        return SharedRateLimiter(options.limits.requests, shared, byte_rates=options.limits.bytes, patience=patience)
    except OSError as error:
        raise SetupError(
            f"cannot write '{error.filename or shared}', through which all processes share the API's limits: "
            f"{(error.strerror or str(error)).lower()}. Set XDG_STATE_HOME to a folder that can be written."
        ) from error


def _client(options: OpenF1Options, limiter: SharedRateLimiter) -> OpenF1Client:
    tokens = None
    if options.credentials is not None:
        path = token_path(options.api_url, options.credentials)
        tokens = TokenProvider(options.api_url, options.credentials, path)
    return OpenF1Client(options.api_url, options.request_timeout, tokens=tokens, admit=limiter.acquire)


def _sessions_query(selection: Selection) -> Query:
    """One query that covers what is asked for; the plan takes away what it brings too much.

    Where whole seasons or the latest sessions are loaded, what is due again in those seasons is loaded as well, so
    that all of their sessions are listed.
    """
    if selection.session_key:
        filters = [f"session_key={key}" for key in selection.session_key]
    elif selection.meeting_key:
        filters = [f"meeting_key={key}" for key in selection.meeting_key]
    elif selection.date:
        after = max(selection.date) + timedelta(days=1) if max(selection.date) < date.max else date.max
        filters = [f"date_start>={min(selection.date)}T00:00:00", f"date_start<{after}T00:00:00"]
    elif selection.year:
        filters = [f"year={year}" for year in selection.year]
    else:
        filters = [f"year>={FIRST_YEAR}"]
    return Query("sessions", tuple(filters))


def _meetings_query(selection: Selection, keys: Sequence[int]) -> Query:
    narrow = selection.session_key or selection.meeting_key or selection.date
    if not narrow and len(keys) > 50:
        # An address of all meetings since 2023 would be longer than some proxies let through.
        return Query("meetings", (f"meeting_key>={min(keys)}", f"meeting_key<={max(keys)}"))
    return Query("meetings", tuple(f"meeting_key={key}" for key in keys))


def _key(record: Any) -> Any:
    return record.get("meeting_key") if isinstance(record, dict) else None


def _raw(query: Query, answer: HttpAnswer) -> RawAnswer:
    return RawAnswer(
        NAME, str(query), answer.asked_at, answer.received_at, answer.status, answer.content_type, answer.body
    )


def _http_date(text: str | None) -> datetime | None:
    try:
        moment = None if text is None else email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment if moment is None or moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def with_patience(options: OpenF1Options, seconds: float) -> OpenF1Options:
    """Return the same options with requests that take at most so long."""
    return replace(options, request_timeout=min(options.request_timeout, seconds))
