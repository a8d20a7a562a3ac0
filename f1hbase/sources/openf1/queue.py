"""RequestQueue: asks for many units at once, within the API's limits, until each is answered or has failed for good.

How each kind of failure is treated:

| failure | treatment |
| --- | --- |
| TransientError | again after a random, growing wait, up to `max_retries` times while the API answers others |
| SlowQueryError | a request for many units is cut smaller; for one, the same, and then in halves down to a minute |
| nothing is answered | all processes wait at the gate, up to its patience; uses up no retry |
| SlowDownError | all processes pause as long as the API says; uses up no retry |
| SessionLiveError | all processes wait at the gate until the session is over; uses up no retry |
| TooMuchError | halved, by units, then by time or driver; the parts count as the one unit |
| UnfaithfulError | asked for once more as JSON |
| UnauthorizedError | the token is renewed, once |
| GiveUpError | failed at once, with the API's own words |
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import tenacity

from f1hbase.errors import F1HBaseError
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.units import Answer, Query, Scope, Unit
from f1hbase.sources.http.breaker import CircuitBreaker
from f1hbase.sources.http.errors import (
    AwayError,
    GiveUpError,
    RequestError,
    SessionLiveError,
    SlowDownError,
    SlowQueryError,
    TooMuchError,
    TransientError,
    UnauthorizedError,
    UnfaithfulError,
)
from f1hbase.sources.http.limiter import SharedRateLimiter
from f1hbase.sources.openf1.batches import Capacity, Packer, RequestBatch, Sorter, first_capacity, sort_records, split
from f1hbase.sources.openf1.client import OpenF1Client
from f1hbase.sources.openf1.formats import CsvAnswer, decode_json, records_of_json

_log = logging.getLogger(__name__)

_LONGEST_BACKOFF_SECONDS = 120.0
_SLOW_DOWN_SECONDS = 10.0
"""The first pause after a 429 that does not say how long: a sixth of the minute that OpenF1 counts in."""

_LONGEST_SLOW_DOWN_SECONDS = 120.0
_BYTES_UNDER_WAY = 16_000_000
"""How much a process may have asked for at once; what it holds in memory follows from it."""

_UNFAITHFUL_ANSWERS = 3
"""After so many answers whose CSV does not say all, an endpoint is asked for as JSON alone."""

_HOPELESS_UNITS = 3
"""After so many units of an endpoint and session in a row have failed for good, the rest is not tried in this pass: at
30 requests a minute, finding out one by one that an endpoint is broken would take hours."""

Deliver = Callable[[Answer], Awaitable[None]]


@dataclass(slots=True)
class _Work:
    """What one call of `fetch` has to do, and how many requests for it are under way.

    While any is, what it asked for may yet be put back, so that nobody leaves before.
    """

    packer: Packer
    under_way: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def any_left(self) -> bool:
        """Return whether there is something to send, waiting until that is known."""
        while not self.packer and self.under_way:
            self.changed.clear()
            await self.changed.wait()
        return bool(self.packer)


@dataclass(slots=True)
class _RequestStats:
    """What has been spent and not yet been put on an answer's account."""

    requests: int = 0
    retries: int = 0
    bytes: int = 0

    def spend(self) -> tuple[int, int, int]:
        """Return bytes, requests and retries, and begin anew."""
        spent = (self.bytes, self.requests, self.retries)
        self.bytes = self.requests = self.retries = 0
        return spent

    def take(self, other: _RequestStats) -> None:
        """Add another's, and leave it with nothing."""
        size, requests, retries = other.spend()
        self.bytes += size
        self.requests += requests
        self.retries += retries


class RequestQueue:
    """Fetches units concurrently; see `f1hbase.sources.base.Source`.

    At most one answer at a time is decoded and handed on, so that while the receiver is slow the others wait as
    plain bytes: records as Python objects take about five times the memory.

    Args:
        client: What sends the requests.
        limiter: Says when one may be sent.
        gate: Says whether the API is there at all.
        max_concurrent_requests: How many may be under way at once.
        max_retries: How often a request that failed is sent again.
        retry_delay: The longest wait before the first retry, in seconds; it doubles with each one, and the wait is
            a random part of it, so that processes that failed together do not come back together.
        budget: The size in bytes that answers are to stay below when units share a request; None for a request a unit.
    """

    def __init__(
        self,
        client: OpenF1Client,
        limiter: SharedRateLimiter,
        gate: CircuitBreaker,
        *,
        max_concurrent_requests: int,
        max_retries: int,
        retry_delay: float,
        budget: int | None = None,
    ) -> None:
        self._client = client
        self._limiter = limiter
        self._gate = gate
        self._concurrency = max_concurrent_requests
        if budget is not None:
            self._concurrency = max(1, min(max_concurrent_requests, _BYTES_UNDER_WAY // budget))
        self._budget = budget
        self._capacities: dict[str, Capacity] = {}
        self._unfaithful: Counter[str] = Counter()
        self._failed_in_a_row: Counter[tuple[str, Scope]] = Counter()
        self._slow_downs = 0
        self._slowed_since: float | None = None
        self._unaccounted = _RequestStats()  # of requests that had to be cut smaller
        self._cutting = asyncio.Lock()
        self._decoding = asyncio.Lock()
        self._retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(TransientError),
            stop=tenacity.stop_after_attempt(max_retries + 1),
            wait=tenacity.wait_random_exponential(multiplier=retry_delay, max=_LONGEST_BACKOFF_SECONDS),
            reraise=True,
        )
        # For a request that can be cut smaller, or asked for as JSON, when the server finds it too slow.
        self._retrying_all_but_slow = self._retrying.copy(
            retry=tenacity.retry_if_exception(
                lambda error: isinstance(error, TransientError) and not isinstance(error, SlowQueryError)
            )
        )

    async def ask(self, query: Query) -> list[Any]:
        """Return the records of one query.

        Raises:
            RequestError: If it failed for good.
        """
        records: list[Any] = []

        async def keep(body: bytes | None) -> None:
            records.extend([] if body is None else decode_json(body))

        await self._persist(query, keep, _RequestStats())
        return records

    async def fetch(self, units: Iterable[Unit], deliver: Deliver) -> None:
        """Ask for each unit and hand its answer to `deliver`; a failure is an answer with an error.

        A unit that had to be fetched in parts has an answer for each, of which only the last one is `complete`.

        Raises:
            AwayError: If the API is away for longer than patience lasts.
        """
        work = _Work(Packer(units, self._driver_seconds))
        async with asyncio.TaskGroup() as group:
            for _ in range(self._concurrency):
                group.create_task(self._work(work, deliver))

    async def _work(self, work: _Work, deliver: Deliver) -> None:
        while True:
            # One at a time, so that a request is cut when it can be sent, by all that is known by then.
            async with self._cutting:
                if not await work.any_left():
                    return
                await self._admit()
                if not work.packer:
                    continue  # given up meanwhile, or put back by nobody
                batch = work.packer.take()
                work.under_way += 1
            try:
                await self._fetch(batch, work.packer, deliver)
            finally:
                work.under_way -= 1
                work.changed.set()

    async def _fetch(self, batch: RequestBatch, packer: Packer, deliver: Deliver) -> None:
        asked_at, started = datetime.now(UTC), monotonic()
        effort = _RequestStats()
        delivered: set[Unit] = set()

        async def hand_on(
            unit: Unit, records: Sequence[Any], *, error: str | None = None, complete: bool = True
        ) -> None:
            if unit in delivered:
                return  # by an earlier try, which failed at a later unit
            answer = Answer(unit, asked_at, records, seconds=monotonic() - started, error=error, complete=complete)
            effort.take(self._unaccounted)
            answer.bytes, answer.requests, answer.retries = effort.spend()
            if complete:
                delivered.add(unit)
            await deliver(answer)

        async def receive(body: bytes | None, *, as_csv: bool) -> None:
            if as_csv and body is not None:
                await self._hand_on_csv(batch, body, hand_on)
            else:
                by_unit = sort_records(batch, _records(batch, body))
                for unit, records in by_unit.items():
                    await hand_on(unit, records)
            self._learn(batch, 0 if body is None else len(body))

        where = (batch.endpoint, batch.scope)
        try:
            await self._fetch_whole(batch, receive, effort)
            self._failed_in_a_row[where] = 0
        except F1HBaseError:
            raise  # the run is over, not only this unit
        except RequestError as error:
            left = [unit for unit in batch.units if unit not in delivered]
            if len(batch.units) > 1 and isinstance(error, TooMuchError | TransientError):
                _log.info("%s: %s; asking for less at once", batch, error)
                self._shrink(batch)
                self._unaccounted.take(effort)
                packer.put_back(left)
            elif isinstance(error, TooMuchError) or (isinstance(error, SlowQueryError) and batch.window.is_closed):
                await self._fetch_in_parts(batch, error, packer, hand_on, effort)
            else:
                await self._fail(left, packer, error, hand_on)

    async def _fetch_whole(
        self, batch: RequestBatch, receive: Callable[..., Awaitable[None]], effort: _RequestStats
    ) -> None:
        """Fetch a batch with one request that is answered: as CSV where that says as much, otherwise as JSON."""

        async def receive_csv(body: bytes | None) -> None:
            await receive(body, as_csv=True)

        async def receive_json(body: bytes | None) -> None:
            await receive(body, as_csv=False)

        many = len(batch.units) > 1
        admitted = True
        if self._wants_csv(batch):
            try:
                await self._persist(batch.query().in_csv(), receive_csv, effort, admitted=True, retry_slow=False)
            except UnfaithfulError as error:
                self._unfaithful[batch.endpoint] += 1
                _log.debug("%s: %s", batch, error)
            except (SlowQueryError, GiveUpError) as error:
                # Where there is no record, the API may answer a question for CSV with an error.
                _log.debug("%s as CSV: %s", batch, error)
            else:
                return
            admitted = False
        await self._persist(batch.query(), receive_json, effort, admitted=admitted, retry_slow=not many)

    async def _hand_on_csv(self, batch: RequestBatch, body: bytes, hand_on: Callable[..., Awaitable[None]]) -> None:
        answer = CsvAnswer(body, ENDPOINTS[batch.endpoint])
        samples = answer.samples()
        if samples is not None:
            for unit, some in sort_records(batch, samples).items():
                await hand_on(unit, some)
            return
        sorter = Sorter(batch)
        by_unit: dict[Unit, list[str]] = {unit: [] for unit in batch.units}
        for line, driver, date in answer.places():
            by_unit[sorter.unit(int(driver) if driver.isdecimal() else None, date)].append(line)
        for unit, lines in by_unit.items():
            records = answer.records(lines)
            lines.clear()
            for record in records:
                sorter.check_scope(record)
            await hand_on(unit, records)

    async def _fetch_in_parts(
        self,
        batch: RequestBatch,
        error: RequestError,
        packer: Packer,
        hand_on: Callable[..., Awaitable[None]],
        effort: _RequestStats,
    ) -> None:
        """Fetch one unit with several requests, handing on the parts as they come."""
        (unit,) = batch.units

        async def receive_part(body: bytes | None) -> None:
            await hand_on(unit, sort_records(part, _records(part, body))[unit], complete=False)

        failure: RequestError | None = None
        try:
            parts = await self._split(batch, error)
            while parts:
                part = parts.pop(0)
                try:
                    # What was too slow has had its retries; its parts are tried once.
                    await self._persist(part.query(), receive_part, effort, retry_slow=isinstance(error, TooMuchError))
                except (TooMuchError, SlowQueryError) as too_much:
                    parts = await self._split(part, too_much) + parts
        except F1HBaseError:
            raise  # the run is over, not only this unit
        except RequestError as met:
            failure = met
        if failure is None:
            await hand_on(unit, [])
            self._failed_in_a_row[unit.endpoint, unit.scope] = 0
        else:
            await self._fail([unit], packer, failure, hand_on)

    async def _split(self, batch: RequestBatch, error: RequestError) -> list[RequestBatch]:
        drivers: list[int] = []
        endpoint = ENDPOINTS[batch.endpoint]
        if endpoint.time_field is None and endpoint.by_driver and not batch.drivers:
            records = await self.ask(Query("drivers", (f"session_key={batch.scope.session_key}",)))
            numbers = {record.get("driver_number") for record in records if isinstance(record, dict)}
            drivers = sorted(number for number in numbers if type(number) is int)
        # A server that is too slow for a minute is not too slow because of what it is asked.
        least = timedelta(seconds=1) if isinstance(error, TooMuchError) else timedelta(minutes=1)
        parts = split(batch, drivers, least)
        if not parts:
            raise GiveUpError(f"{error} (and it cannot be cut smaller)") if isinstance(error, TooMuchError) else error
        _log.info("%s: %s; asking in %d parts", batch, error, len(parts))
        return parts

    async def _fail(
        self, units: Iterable[Unit], packer: Packer, error: RequestError, hand_on: Callable[..., Awaitable[None]]
    ) -> None:
        for unit in units:
            _log.warning("not loaded yet: %s: %s", unit, error)
            await hand_on(unit, [], error=str(error))
            where = (unit.endpoint, unit.scope)
            self._failed_in_a_row[where] += 1
            if self._failed_in_a_row[where] == _HOPELESS_UNITS:
                rest = packer.remove(*where)
                if rest:
                    _log.warning("%s: %d more units are not tried now, as those before failed", unit, len(rest))
                for other in rest:
                    await hand_on(other, [], error=f"not tried, as those before failed: {error}")

    async def _persist(
        self,
        query: Query,
        receive: Callable[[bytes | None], Awaitable[None]],
        effort: _RequestStats,
        *,
        admitted: bool = False,
        retry_slow: bool = True,
    ) -> None:
        """Send a query until its answer is received, or its retries are used up.

        Args:
            query: What to ask.
            receive: Takes the body; may find that it is no answer.
            effort: Where to count what it took.
            admitted: Whether gate and limiter have let the first request through already.
            retry_slow: Whether to try again after a SlowQueryError; not if there is something better to do.
        """
        # A copy, because tenacity keeps the state of an iteration in the object itself.
        retrying = self._retrying if retry_slow else self._retrying_all_but_slow
        async for attempt in retrying.copy():
            number = attempt.retry_state.attempt_number
            with attempt:
                try:
                    await self._send(query, receive, effort, admitted=admitted, again=number > 1)
                except TransientError as error:
                    admitted = False
                    _log.warning("%s: %s (attempt %d)", query, error, number)
                    raise

    async def _send(
        self,
        query: Query,
        receive: Callable[[bytes | None], Awaitable[None]],
        effort: _RequestStats,
        *,
        admitted: bool,
        again: bool,
    ) -> None:
        """Send a query until it is answered or fails for a reason of its own."""
        renewed = False
        while True:
            if not admitted:
                await self._admit()
            admitted = False
            asked = self._gate.now()
            effort.requests += 1
            effort.retries += again
            again = True
            try:
                body = await self._client.get(query)
                effort.bytes += len(body or b"")
                self._slow_downs, self._slowed_since = 0, None
                async with self._decoding:
                    await receive(body)
            except SlowDownError as error:
                self._gate.answered()
                self._slow_down(error)
            except UnauthorizedError as error:
                if renewed:
                    raise GiveUpError(f"{error} (with a new token, too)") from error
                self._gate.answered()
                renewed = True  # by the client
            except SessionLiveError as error:
                await self._gate.closed(error)
            except TransientError as error:
                if not await self._gate.away(error, asked):
                    raise
            except RequestError:
                self._gate.answered()
                raise
            else:
                self._gate.answered()
                _log.debug("%s: %d bytes", query, len(body or b""))
                return

    async def _admit(self) -> None:
        """Wait until a request may be sent."""
        await self._gate.wait()
        await self._limiter.acquire()

    def _slow_down(self, error: SlowDownError) -> None:
        now = self._gate.now()
        self._slowed_since = now if self._slowed_since is None else self._slowed_since
        if now - self._slowed_since > self._gate.patience:
            raise AwayError(f"the API has said nothing but {error} for {now - self._slowed_since:.0f} s")
        seconds = error.retry_after
        if seconds is None:
            seconds = min(_SLOW_DOWN_SECONDS * 2**self._slow_downs, _LONGEST_SLOW_DOWN_SECONDS)
            self._slow_downs += 1
        # Whoever meets the same refusal a moment later has nothing new to say.
        level = logging.DEBUG if self._limiter.paused_for() > seconds / 2 else logging.WARNING
        _log.log(level, "%s; all processes wait %.0f s", error, seconds)
        self._limiter.pause(seconds)

    def _wants_csv(self, batch: RequestBatch) -> bool:
        return (
            self._budget is not None
            and ENDPOINTS[batch.endpoint].numeric
            and self._unfaithful[batch.endpoint] < _UNFAITHFUL_ANSWERS
        )

    def _capacity(self, endpoint: str) -> Capacity | None:
        if self._budget is None or not ENDPOINTS[endpoint].numeric:
            return None
        if endpoint not in self._capacities:
            self._capacities[endpoint] = first_capacity(self._budget, as_csv=True)
        return self._capacities[endpoint]

    def _driver_seconds(self, endpoint: str) -> float | None:
        capacity = self._capacity(endpoint)
        return None if capacity is None else capacity.driver_seconds

    def _learn(self, batch: RequestBatch, size: int) -> None:
        capacity = self._capacity(batch.endpoint)
        if capacity is not None and batch.driver_seconds:
            capacity.learn(batch.driver_seconds, size)

    def _shrink(self, batch: RequestBatch) -> None:
        capacity = self._capacity(batch.endpoint)
        if capacity is not None:
            capacity.shrink(batch.driver_seconds)


def _records(batch: RequestBatch, body: bytes | None) -> Sequence[Any]:
    return [] if body is None else records_of_json(body, ENDPOINTS[batch.endpoint])
