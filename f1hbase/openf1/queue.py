"""RequestQueue: asks for many units at once, within the API's limits, and tries again what failed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import tenacity

from f1hbase.openf1.client import OpenF1Client, decode_records, query_of
from f1hbase.openf1.errors import RequestError, SessionLiveError, SlowDownError, TransientError
from f1hbase.openf1.limiter import SharedRateLimiter
from f1hbase.units import Answer, Query, Unit

_log = logging.getLogger(__name__)

_LONGEST_BACKOFF_SECONDS = 120.0
_SLOW_DOWN_SECONDS = 10.0
"""The pause after a 429 that does not say how long: a sixth of the minute that OpenF1 counts in."""

_LIVE_POLL_SECONDS = 300.0
"""How often to look whether the API has opened again after a live session, which closes it for hours."""


@dataclass(slots=True)
class Effort:
    """What one query took."""

    requests: int = 0
    bytes: int = 0


class RequestQueue:
    """Fetches units concurrently; see `f1hbase.protocols.Source`.

    At most one answer at a time is decoded and handed on, so that while the receiver is slow the others wait as
    plain bytes: records as Python objects take about five times the memory.

    Args:
        client: What sends the requests.
        limiter: Who says when one may be sent.
        max_concurrent_requests: How many may be under way at once.
        max_retries: How often a request that failed is sent again.
        retry_delay: The longest wait before the first retry, in seconds; it doubles with each one, and the wait is
            a random part of it, so that processes that failed together do not come back together.
    """

    def __init__(
        self,
        client: OpenF1Client,
        limiter: SharedRateLimiter,
        *,
        max_concurrent_requests: int,
        max_retries: int,
        retry_delay: float,
    ) -> None:
        self._client = client
        self._limiter = limiter
        self._concurrency = max_concurrent_requests
        self._decoding = asyncio.Lock()
        self._stopping = False
        self._retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(TransientError),
            stop=tenacity.stop_after_attempt(max_retries + 1),
            wait=tenacity.wait_random_exponential(multiplier=retry_delay, max=_LONGEST_BACKOFF_SECONDS),
            reraise=True,
        )

    async def ask(self, query: Query) -> list[Any]:
        """Return the records of one query.

        Raises:
            RequestError: If it failed for good.
        """
        records: list[Any] = []

        async def keep(found: list[Any]) -> None:
            records.extend(found)

        await self._persist(query, Effort(), keep)
        return records

    async def fetch(self, units: Iterable[Unit], deliver: Callable[[Answer], Awaitable[None]]) -> None:
        """Ask for each unit and hand its answer to `deliver`; a failure is an answer with an error.

        Returns when all are delivered, or, after `stop`, when those under way are.
        """
        waiting = iter(units)
        async with asyncio.TaskGroup() as group:
            for _ in range(self._concurrency):
                group.create_task(self._work(waiting, deliver))

    def stop(self) -> None:
        """Begin no further unit."""
        self._stopping = True

    async def _work(self, units: Iterator[Unit], deliver: Callable[[Answer], Awaitable[None]]) -> None:
        for unit in units:
            if self._stopping:
                return
            await self._fetch_unit(unit, deliver)

    async def _fetch_unit(self, unit: Unit, deliver: Callable[[Answer], Awaitable[None]]) -> None:
        answer = Answer(unit, asked_at=datetime.now(UTC))
        effort = Effort()
        started = monotonic()

        async def hand_on(records: list[Any]) -> None:
            answer.records = records
            _settle(answer, effort, started)
            await deliver(answer)

        try:
            await self._persist(query_of(unit), effort, hand_on)
        except RequestError as error:
            _log.error("not loaded: %s: %s", unit, error)
            answer.error = str(error)
            _settle(answer, effort, started)
            await deliver(answer)

    async def _persist(self, query: Query, effort: Effort, receive: Callable[[list[Any]], Awaitable[None]]) -> None:
        """Send a query until its records are received, or its retries are used up."""
        # A copy, because tenacity keeps the state of an iteration in the object itself.
        async for attempt in self._retrying.copy():
            with attempt:
                try:
                    body = await self._send(query, effort)
                    async with self._decoding:
                        await receive(decode_records(body))
                except TransientError as error:
                    number = attempt.retry_state.attempt_number
                    _log.warning("%s: %s (attempt %d)", query, error, number)
                    raise

    async def _send(self, query: Query, effort: Effort) -> bytes:
        """Send a query once, or again for as long as the API is not open to anybody."""
        while True:
            await self._limiter.acquire()
            effort.requests += 1
            try:
                body = await self._client.get(query)
            except SlowDownError as error:
                seconds = _SLOW_DOWN_SECONDS if error.retry_after is None else error.retry_after
                _log.warning("%s; all processes wait %.0f s", error, seconds)
                self._limiter.pause(seconds)
            except SessionLiveError as error:
                _log.warning("%s; looking again in %.0f s", error, _LIVE_POLL_SECONDS)
                self._limiter.pause(_LIVE_POLL_SECONDS)
            else:
                effort.bytes += len(body)
                _log.debug("%s: %d bytes", query, len(body))
                return body


def _settle(answer: Answer, effort: Effort, started: float) -> None:
    answer.bytes = effort.bytes
    answer.requests = effort.requests
    answer.retries = effort.requests - 1
    answer.seconds = monotonic() - started
