"""Puts the parts of the source together: client, limiter, gate and queue, as the settings say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from f1hbase.credentials import Credentials
from f1hbase.errors import SetupError
from f1hbase.openf1.client import OpenF1Client
from f1hbase.openf1.errors import RequestError
from f1hbase.openf1.gate import Gate
from f1hbase.openf1.limiter import SharedRateLimiter, state_path
from f1hbase.openf1.parcels import Packer, first_capacity, parcel_of
from f1hbase.openf1.queue import RequestQueue
from f1hbase.openf1.token import TokenProvider, token_path
from f1hbase.settings import Settings
from f1hbase.units import Query, Unit

_ROWS_PER_SECOND = 3_350 / 900
"""What a car on track makes of each endpoint: 3,350 records in 15 minutes (DESIGN.md, Facts about the API)."""

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
    shared = state_path(urlsplit(settings.api_url).netloc)
    try:
        limiter = SharedRateLimiter(settings.rates(authenticated=credentials is not None), shared)
    except OSError as error:
        raise SetupError(
            f"cannot write '{error.filename or shared}', through which all processes share the API's limits: "
            f"{(error.strerror or str(error)).lower()}. Set XDG_STATE_HOME to a folder that can be written."
        ) from error
    tokens = None
    if credentials is not None:
        tokens = TokenProvider(settings.api_url, credentials, token_path(settings.api_url, credentials))
    async with OpenF1Client(settings.api_url, settings.request_timeout.total_seconds(), tokens=tokens) as client:

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
            Gate(_gate_path(shared), probe, patience),
            max_concurrent_requests=settings.max_concurrent_requests,
            max_retries=settings.max_retries,
            retry_delay=settings.retry_delay.total_seconds(),
            budget=settings.response_budget if settings.window is None else None,
        )


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


def expected_rows(units: Sequence[Unit]) -> int:
    """Return how many rows units cut into windows have at the most, with every car on track."""
    return round(sum(parcel_of(unit).driver_seconds for unit in units) * _ROWS_PER_SECOND)


def _gate_path(limiter_path: Path) -> Path:
    return limiter_path.with_name(limiter_path.name.replace("rate-", "gate-", 1))
