"""Puts the parts of the source together: client, limiter, gate and queue, as the settings say."""

from __future__ import annotations

import asyncio
import email.utils
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from f1hbase.cli.options import Settings
from f1hbase.credentials import Credentials
from f1hbase.errors import SetupError
from f1hbase.model.units import Query, Unit
from f1hbase.sources.http.breaker import CircuitBreaker
from f1hbase.sources.http.errors import RequestError
from f1hbase.sources.http.limiter import SharedRateLimiter, state_path
from f1hbase.sources.openf1.batches import Packer, first_capacity
from f1hbase.sources.openf1.client import OpenF1Client
from f1hbase.sources.openf1.formats import decode_json
from f1hbase.sources.openf1.queue import RequestQueue
from f1hbase.sources.openf1.token import TokenProvider, token_path

_PROBES = (Query("meetings", ("meeting_key=latest",)), Query("drivers", ("session_key=latest",)))
"""What is asked to find out whether the API answers at all: little, and of two endpoints, as one may be broken."""


@asynccontextmanager
async def open_source(
    settings: Settings, credentials: Credentials | None, patience: float
) -> AsyncIterator[RequestQueue]:
    """Yield a queue that asks the API of the settings.

    Args:
        settings: Says where the API is, and how it is to be asked.
        credentials: Those of a subscription, if there is one.
        patience: For how long it may be away, in seconds.

    Raises:
        SetupError: If the folder for what processes share cannot be written.
    """
    limiter = _limiter(settings, credentials)
    async with _client(settings, credentials) as client:

        async def probe() -> None:
            failure: RequestError | None = None
            for query in _PROBES:
                await limiter.acquire()
                try:
                    await client.get(query)
                except RequestError as error:
                    failure = failure or error
                else:
                    return
            if failure is not None:
                raise failure

        yield RequestQueue(
            client,
            limiter,
            CircuitBreaker(_gate_path(shared_path(settings)), probe, patience),
            max_concurrent_requests=settings.max_concurrent_requests,
            max_retries=settings.max_retries,
            retry_delay=settings.retry_delay.total_seconds(),
            budget=settings.response_budget if settings.window is None else None,
        )


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


async def try_out(settings: Settings, credentials: Credentials | None, query: Query, patience: float) -> Probe:
    """Send one request, as soon as the limits allow, and say how that went; nothing is sent again.

    Args:
        settings: Says where the API is, and how it is to be asked.
        credentials: Those of a subscription, if there is one.
        query: What to ask.
        patience: How long to wait for the limits, in seconds.

    Raises:
        SetupError: If the folder for what processes share cannot be written.
        TimeoutError: If the limits did not allow the request for so long.
    """
    limiter = _limiter(settings, credentials)
    spent = limiter.spent()
    async with asyncio.timeout(patience):
        await limiter.acquire()
    async with _client(settings, credentials) as client:
        records: list[Any] = []
        failure: RequestError | None = None
        began = monotonic()
        try:
            body = await client.get(query)
            seconds, local = monotonic() - began, datetime.now(UTC)
            records = [] if body is None else decode_json(body)
        except RequestError as error:
            seconds, local, failure = monotonic() - began, datetime.now(UTC), error
        return Probe(records, failure, seconds, _http_date(client.date), local, spent)


def shared_path(settings: Settings) -> Path:
    """Return the file through which all processes share the API's limits; what else they share is beside it."""
    return state_path(urlsplit(settings.api_url).netloc)


def _limiter(settings: Settings, credentials: Credentials | None) -> SharedRateLimiter:
    shared = shared_path(settings)
    try:
        return SharedRateLimiter(settings.rates(authenticated=credentials is not None), shared)
    except OSError as error:
        raise SetupError(
            f"cannot write '{error.filename or shared}', through which all processes share the API's limits: "
            f"{(error.strerror or str(error)).lower()}. Set XDG_STATE_HOME to a folder that can be written."
        ) from error


def _client(settings: Settings, credentials: Credentials | None) -> OpenF1Client:
    tokens = None
    if credentials is not None:
        tokens = TokenProvider(settings.api_url, credentials, token_path(settings.api_url, credentials))
    return OpenF1Client(settings.api_url, settings.request_timeout.total_seconds(), tokens=tokens)


def _http_date(text: str | None) -> datetime | None:
    try:
        moment = None if text is None else email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment if moment is None or moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def expected_requests(units: Sequence[Unit], settings: Settings) -> int:
    """Return how many requests units cut into windows take; with `--window auto`, about, for cars on track."""
    if settings.window is not None:
        return len(units)
    packer = Packer(units, lambda _: first_capacity(settings.response_budget, as_csv=True).driver_seconds)
    requests = 0
    while packer:
        packer.take()
        requests += 1
    return requests


def _gate_path(limiter_path: Path) -> Path:
    return limiter_path.with_name(limiter_path.name.replace("rate-", "gate-", 1))
