"""RequestQueue: asks for many units at once, within the API's limits, until each is answered or has failed for good.

How each kind of failure is treated:

| failure | treatment |
| --- | --- |
| TransientError | again after a random, growing wait, up to `max_retries` times while the API answers others |
| SlowQueryError | a request for several sessions one by one; for one, the same, and then in halves down to a minute |
| a 500 in less than 4.5 s | of CSV: once as JSON, whatever the circuit breaker says; of JSON: never in halves |
| nothing is answered | all processes wait at the circuit breaker, up to its patience; uses up no retry |
| SlowDownError | all processes pause as long as the API says; uses up no retry |
| SessionLiveError | all processes wait at the circuit breaker until the session is over; uses up no retry |
| TooMuchError | by session, then halved in time, or by ranges of driver numbers; what cannot be halved fails |
| TooLargeError | the same, where smaller parts can be smaller: at 32 MB by session and down to five minutes |
| UnfaithfulError | asked for once more as JSON |
| UnauthorizedError | the token is renewed, once |
| GiveUpError | failed at once, with the API's own words |
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import tenacity

from f1hbase.errors import F1HBaseError
from f1hbase.model.answers import Answer, RawAnswer, Records, RequestStats
from f1hbase.model.samples import Samples
from f1hbase.model.text import count
from f1hbase.model.units import Scope, Unit
from f1hbase.sources.base import Deliver
from f1hbase.sources.http import measuring
from f1hbase.sources.http.answers import HttpAnswer, slow_down_seconds
from f1hbase.sources.http.breaker import LONGEST_LIVE_SECONDS, CircuitBreaker, live_too_long
from f1hbase.sources.http.errors import (
    AwayError,
    GiveUpError,
    RequestError,
    SessionLiveError,
    SlowDownError,
    SlowQueryError,
    TooLargeError,
    TooMuchError,
    TransientError,
    UnauthorizedError,
    UnfaithfulError,
)
from f1hbase.sources.http.limiter import SharedRateLimiter
from f1hbase.sources.openf1.client import OpenF1Client
from f1hbase.sources.openf1.formats import decode_answer, decode_json
from f1hbase.sources.openf1.query import Query
from f1hbase.sources.openf1.requests import Checked, RequestBatch, share_out, split
from f1hbase.sources.openf1.sizing import Packer, Sizes

_log = logging.getLogger(__name__)

NAME = "openf1"

_LONGEST_BACKOFF_SECONDS = 120.0
_BYTES_UNDER_WAY = 12_000_000
"""How much a process may have asked for at once; what it holds in memory follows from it."""

_UNFAITHFUL_ANSWERS = 3
"""After so many answers whose CSV does not say all, an endpoint is asked for as JSON alone."""

_SLOW_SECONDS = 4.5
"""A query that takes OpenF1 more than 5 s fails with 500; what fails sooner has another reason."""

_TIME_LIMIT = re.compile(r"time.?limit|timed?.?out|exceeded", re.IGNORECASE)

_HOPELESS_UNITS = 3
"""After so many units of an endpoint and session in a row have failed for good, the rest is not tried in this pass: at
30 requests a minute, finding out one by one that an endpoint is broken would take hours."""

_LEAST_SLOW_WINDOW = timedelta(minutes=1)
"""A server that is too slow for a minute is not too slow because of what it is asked."""

_MOST_BYTES_A_SECOND = 100_000
"""Six times what twenty cars have in a second, as JSON. A body that is larger than this of its window has no end, or is
of something else: no smaller window would help."""

_MOST_BYTES_UNDATED = 4_000_000
"""Ten times the largest answer known of an endpoint without dates: the laps of nine hours, 0.4 MB. One that is larger
would be so for half of the drivers, too."""

Receive = Callable[[HttpAnswer], Awaitable[int]]
"""Takes an answer and returns how many records it had; may find that it is none."""


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


class _Counted:
    """Records that are counted as they are iterated."""

    def __init__(self, records: Records, see: Callable[[Samples], None] | None = None) -> None:
        self._records = records
        self._see = see
        self.number = 0

    def __iter__(self) -> Iterator[Samples | Sequence[Any]]:
        number = 0
        for some in self._records:
            number += len(some)
            if self._see is not None and self.number == 0 and isinstance(some, Samples):
                self._see(some)
            yield some
        self.number = number


class RequestQueue:
    """Fetches units concurrently; see `f1hbase.sources.base.Source`.

    At most one answer at a time is decoded and handed on, so that while the receiver is slow the others wait as
    plain bytes: records as Python objects take about five times the memory.

    Args:
        client: What sends the requests.
        limiter: Says when one may be sent.
        breaker: Says whether the API is there at all.
        sizes: How much one request may ask for.
        max_concurrent_requests: How many may be under way at once.
        max_retries: How often a request that failed is sent again.
        retry_delay: The longest wait before the first retry, in seconds; it doubles with each one, and the wait is
            a random part of it, so that processes that failed together do not come back together.
    """

    def __init__(
        self,
        client: OpenF1Client,
        limiter: SharedRateLimiter,
        breaker: CircuitBreaker,
        sizes: Sizes,
        *,
        max_concurrent_requests: int,
        max_retries: int,
        retry_delay: float,
    ) -> None:
        self._client = client
        self._limiter = limiter
        self._breaker = breaker
        self.sizes = sizes
        self._concurrency = max(1, min(max_concurrent_requests, _BYTES_UNDER_WAY // sizes.budget))
        self.unfaithful: Counter[str] = Counter()
        self.failed_in_a_row: Counter[tuple[str, Scope]] = Counter()
        self._slow_downs = 0
        self._slowed_since: float | None = None
        self.unaccounted = RequestStats()
        """What was spent on requests that brought no answer, until the next answer takes it over."""
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

    async def ask(self, query: Query) -> tuple[list[Any], HttpAnswer, RequestStats]:
        """Return the records of one query, what they came in, and what it took.

        Raises:
            RequestError: If it failed for good.
        """
        records: list[Any] = []
        answers: list[HttpAnswer] = []
        stats = RequestStats()

        async def keep(answer: HttpAnswer) -> int:
            records[:] = [] if answer.is_empty else decode_json(answer.body)
            answers[:] = [answer]
            return len(records)

        await self.persist(query, keep, stats)
        stats.add(self.unaccounted.take())
        return records, answers[0], stats

    async def fetch(self, units: Iterable[Unit], deliver: Deliver) -> None:
        """Ask for units and hand what comes to `deliver`; a failure is an answer with an error.

        Raises:
            AwayError: If the API is away for longer than patience lasts.
        """
        work = _Work(Packer(units, self.sizes))
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
                await _Fetch(self, batch, work.packer, deliver).run()
            finally:
                work.under_way -= 1
                work.changed.set()

    async def persist(
        self, query: Query, receive: Receive, stats: RequestStats, *, admitted: bool = False, retry_slow: bool = True
    ) -> None:
        """Send a query until its answer is received, or its retries are used up.

        Args:
            query: What to ask.
            receive: Takes the answer.
            stats: Where to count what it took.
            admitted: Whether circuit breaker and limiter have let the first request through already.
            retry_slow: Whether to try again after a SlowQueryError; not if there is something better to do.
        """
        # A copy, because tenacity keeps the state of an iteration in the object itself.
        retrying = self._retrying if retry_slow else self._retrying_all_but_slow
        async for attempt in retrying.copy():
            number = attempt.retry_state.attempt_number
            with attempt:
                try:
                    await self._send(query, receive, stats, admitted=admitted, again=number > 1)
                except TransientError as error:
                    admitted = False
                    _log.warning("%s: %s (attempt %d)", query, error, number)
                    raise

    async def _send(self, query: Query, receive: Receive, stats: RequestStats, *, admitted: bool, again: bool) -> None:
        """Send a query until it is answered or fails for a reason of its own."""
        renewed = False
        closed_since: float | None = None
        while True:
            if not admitted:
                await self._admit()
            admitted = False
            asked = self._breaker.now()
            stats.requests += 1
            stats.retries += again
            measured = measuring.counted(query.endpoint, again=again)
            again = True
            try:
                async with AsyncExitStack() as held:
                    held.enter_context(measured)
                    answer = await self._client.fetch(query, held)
                    took = self._breaker.now() - asked
                    measuring.took(query.endpoint, answer.seconds)
                    stats.bytes += len(answer.body)
                    stats.requests += answer.requests - 1
                    self._limiter.spend(len(answer.body))
                    self._slow_downs, self._slowed_since = 0, None
                    async with self._decoding:
                        records = await receive(answer)
            except SlowDownError as error:
                self._breaker.answered()
                self._slow_down(error)
            except UnauthorizedError as error:
                if renewed:
                    raise GiveUpError(f"{error} (with a new token, too)") from error
                self._breaker.answered()
                renewed = True  # by the client
            except SessionLiveError as error:
                # The probe may be answered, and this request refused each time.
                closed_since = asked if closed_since is None else closed_since
                if self._breaker.now() - closed_since >= LONGEST_LIVE_SECONDS:
                    raise live_too_long(error) from error
                await self._breaker.closed(error)
            except SlowQueryError as error:
                if query.as_csv and _failed_at_once(error):
                    raise _CsvRefusedError(str(error)) from error  # decided before the circuit breaker is asked
                if not await self._breaker.away(error, asked):
                    raise
            except TransientError as error:
                if not await self._breaker.away(error, asked):
                    raise
            except RequestError:
                self._breaker.answered()
                raise
            else:
                self._breaker.answered()
                _log.debug("%s: %s, %s, %.2f s", query, count(records, "record"), count(len(answer.body), "byte"), took)
                return

    async def _admit(self) -> None:
        """Wait until a request may be sent."""
        await measuring.admit(self._breaker, self._limiter)

    def _slow_down(self, error: SlowDownError) -> None:
        now = self._breaker.now()
        self._slowed_since = now if self._slowed_since is None else self._slowed_since
        if now - self._slowed_since > self._breaker.patience:
            raise AwayError(f"the API has said nothing but {error} for {now - self._slowed_since:.0f} s")
        # Never longer than patience without the user's word: the API is asked then, and may say the same again.
        seconds = min(slow_down_seconds(error.retry_after, self._slow_downs), max(self._breaker.patience, 1.0))
        self._slow_downs += 1
        # Whoever meets the same refusal a moment later has nothing new to say.
        level = logging.DEBUG if self._limiter.paused_for() > seconds / 2 else logging.WARNING
        _log.log(level, "%s; all processes wait %.0f s", error, seconds)
        self._limiter.pause(seconds, str(error), bound=max(self._breaker.patience, 1.0))


class _Fetch:
    """One request, from its sending to the delivery of all that it brings, or of its failure."""

    def __init__(self, queue: RequestQueue, batch: RequestBatch, packer: Packer, deliver: Deliver) -> None:
        self._queue = queue
        self._batch = batch
        self._packer = packer
        self._deliver = deliver
        self._asked_at, self._started = datetime.now(UTC), monotonic()
        self._stats = RequestStats()
        self._delivered: set[Unit] = set()

    async def run(self) -> None:
        """Fetch it; what fails is cut smaller, or delivered as a failure.

        Raises:
            F1HBaseError: If the run is over, not only this request.
        """
        batch = self._batch
        try:
            await self._fetch_whole(batch)
        except F1HBaseError:
            raise
        except RequestError as error:
            parts = self._parts(batch, error)
            if not parts:
                if isinstance(error, TooMuchError):
                    error = GiveUpError(f"{error} (and it cannot be cut smaller)")
                # Where no record is expected, it is not too many of them that take so long.
                hangs = isinstance(error, SlowQueryError) and not _reaches_session(batch)
                await self._fail([unit for unit in batch.units if unit not in self._delivered], error, hangs=hangs)
                return
            _log.info("%s: %s; asking in %s", batch, error, count(len(parts), "part"))
            if any(part.is_part for part in parts):
                await self._fetch_in_parts(parts)
                return
            self._queue.sizes.shrink(batch)
            self._queue.unaccounted.add(self._stats.take())
            self._packer.put_back(part for part in parts if part.units[0] not in self._delivered)
        else:
            self._queue.failed_in_a_row[batch.units[0].endpoint, batch.scope] = 0

    def _parts(self, batch: RequestBatch, error: RequestError) -> list[RequestBatch]:
        """Return what to ask instead of a request that has failed; nothing if that would not help."""
        if isinstance(error, TooMuchError):
            return _smaller(batch, error)
        if len(batch.units) > 1 and isinstance(error, TransientError):
            return split(batch)
        if not isinstance(error, SlowQueryError) or _failed_at_once(error) or not _reaches_session(batch):
            return []
        if self._queue.failed_in_a_row[batch.units[0].endpoint, batch.scope] >= _HOPELESS_UNITS:
            return []
        return [replace(part, retry_slow=False) for part in split(batch, _LEAST_SLOW_WINDOW)]

    async def _fetch_whole(self, batch: RequestBatch) -> None:
        """Send a request until it is answered: as CSV where that says as much, otherwise as JSON."""

        async def receive(answer: HttpAnswer) -> int:
            return await self._hand_on(batch, answer, complete=not batch.is_part)

        queue, endpoint, admitted = self._queue, batch.endpoint, not batch.is_part
        retry_slow = batch.retry_slow and len(batch.units) == 1
        if endpoint.numeric and queue.unfaithful[endpoint.name] < _UNFAITHFUL_ANSWERS:
            try:
                await queue.persist(
                    batch.query().in_csv(), receive, self._stats, admitted=admitted, retry_slow=retry_slow
                )
            except _CsvRefusedError as error:
                _log.debug("%s as CSV: %s", batch, error)
            except UnfaithfulError as error:
                queue.unfaithful[endpoint.name] += 1
                _log.debug("%s: %s", batch, error)
            except GiveUpError as error:
                _log.debug("%s as CSV: %s", batch, error)
            else:
                return
            admitted = False
        await queue.persist(batch.query(), receive, self._stats, admitted=admitted, retry_slow=retry_slow)

    async def _fetch_in_parts(self, parts: list[RequestBatch]) -> None:
        """Fetch one unit with several requests, handing on the parts as they come; they are halved where needed."""
        (unit,) = self._batch.units
        try:
            while parts:
                part = parts.pop(0)
                try:
                    await self._fetch_whole(part)
                except (TooMuchError, SlowQueryError) as error:
                    smaller = _smaller(part, error)
                    if not smaller:
                        raise GiveUpError(f"{error} (and it cannot be cut smaller)") from error
                    _log.info("%s: %s; asking in %s", part, error, count(len(smaller), "part"))
                    parts = smaller + parts
        except F1HBaseError:
            raise
        except RequestError as error:
            await self._fail([unit], error)
        else:
            await self._deliver_answer(unit)
            self._queue.failed_in_a_row[unit.endpoint, unit.scope] = 0

    async def _hand_on(self, batch: RequestBatch, answer: HttpAnswer, *, complete: bool) -> int:
        """Deliver what an answer brings to each unit, and return how many records that was."""
        queue = self._queue
        raw = RawAnswer(
            NAME, str(batch.query()), answer.asked_at, answer.received_at, answer.status, answer.content_type,
            answer.body,
        )  # fmt: skip
        records: Records = ()
        if not answer.is_empty:
            records = decode_answer(batch.endpoint, answer.content_type, answer.body)
        number = 0
        if len(batch.units) == 1:
            counted = _Counted(Checked(batch, records), lambda samples: queue.sizes.count(batch, samples))
            await self._deliver_answer(batch.units[0], counted, raw, complete=complete)
            number = counted.number
        else:
            for unit, share in share_out(batch, records).items():
                assert unit.scope.session_key is not None
                select = {"session_key": unit.scope.session_key}
                await self._deliver_answer(unit, [share] if share else (), raw, select=select)
                number += len(share)
        queue.sizes.learn(batch, len(answer.body))
        return number

    async def _deliver_answer(
        self,
        unit: Unit,
        records: Records = (),
        raw: RawAnswer | None = None,
        *,
        error: str | None = None,
        complete: bool = True,
        select: dict[str, int] | None = None,
    ) -> None:
        if unit in self._delivered:
            return  # by an earlier try, which failed at a later unit
        self._stats.add(self._queue.unaccounted.take())
        answer = Answer(
            unit, self._asked_at, NAME, records, raw, select or {}, self._stats.take(),
            seconds=monotonic() - self._started, error=error, complete=complete,
        )  # fmt: skip
        try:
            await self._deliver(answer)
        except RequestError:
            self._stats.add(answer.stats)  # not delivered after all
            raise
        if complete:
            self._delivered.add(unit)

    async def _fail(self, units: Iterable[Unit], error: RequestError, *, hangs: bool = False) -> None:
        """Deliver units as failures; after some in a row, or when all requests hang, the others are not tried."""
        queue = self._queue
        for unit in units:
            _log.warning("not loaded yet: %s: %s", unit, error)
            await self._deliver_answer(unit, error=str(error))
            where = (unit.endpoint, unit.scope)
            queue.failed_in_a_row[where] = max(queue.failed_in_a_row[where] + 1, _HOPELESS_UNITS if hangs else 0)
            if queue.failed_in_a_row[where] >= _HOPELESS_UNITS:
                rest = self._packer.remove(*where)
                if rest:
                    _log.warning("%s: %d more are not tried now, as those before failed", unit, len(rest))
                for other in rest:
                    await self._deliver_answer(other, error=f"not tried, as those before failed: {error}")


class _CsvRefusedError(UnfaithfulError):
    """A 500 that was not for want of time: perhaps the server cannot make CSV of these records."""


def _smaller(batch: RequestBatch, error: RequestError) -> list[RequestBatch]:
    """Return the parts to ask for instead of a request that was too much; none where that would not help."""
    if not isinstance(error, TooLargeError):
        return split(batch)
    if len(batch.units) == 1 and batch.endpoint.time_field is None and error.most > _MOST_BYTES_UNDATED:
        return []
    least = timedelta(seconds=error.most / _MOST_BYTES_A_SECOND)
    return split(batch, max(least, timedelta(seconds=1)), timedelta(hours=1))


def _failed_at_once(error: SlowQueryError) -> bool:
    return bool(error.body_end) and error.seconds < _SLOW_SECONDS and not _TIME_LIMIT.search(error.body_end)


def _reaches_session(batch: RequestBatch) -> bool:
    """Return whether a window is one of the session itself, and not of the time before or after it."""
    start, end = batch.scope.date_start, batch.scope.over_at
    before = start is not None and batch.window.end is not None and batch.window.end <= start
    after = end is not None and batch.window.start is not None and batch.window.start >= end
    return not (before or after)
