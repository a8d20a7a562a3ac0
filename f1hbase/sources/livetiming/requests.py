"""Asks for files until they come: within the limits, again after a failure, waiting while the archive is away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import tenacity

from f1hbase.errors import UnreachableError
from f1hbase.model.answers import RequestStats
from f1hbase.sources.http.answers import slow_down_seconds
from f1hbase.sources.http.breaker import CircuitBreaker
from f1hbase.sources.http.errors import AwayError, RequestError, SlowDownError, TransientError
from f1hbase.sources.http.limiter import SharedRateLimiter
from f1hbase.sources.livetiming.client import ArchiveClient, Body, NotModified

_log = logging.getLogger(__name__)

_LONGEST_BACKOFF_SECONDS = 120.0

MOST_AT_ONCE = 2
"""How many files a process asks for at once: the archive is a courtesy."""


class ArchiveRequests:
    """Fetches files persistently.

    Args:
        client: What sends the requests.
        limiter: Says when one may be sent.
        breaker: Says whether the archive is there at all.
        at_once: How many may be under way at once.
        max_retries: How often a request that failed is sent again.
        retry_delay: The longest wait before the first retry, in seconds; it doubles with each one.
        sleep: Waits for so many seconds.
    """

    def __init__(
        self,
        client: ArchiveClient,
        limiter: SharedRateLimiter,
        breaker: CircuitBreaker,
        *,
        at_once: int = MOST_AT_ONCE,
        max_retries: int = 3,
        retry_delay: float = 5.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._limiter = limiter
        self._breaker = breaker
        self._places = asyncio.Semaphore(max(1, min(at_once, MOST_AT_ONCE)))
        self._slow_downs = 0
        self._slowed_since: float | None = None
        self.spent = RequestStats()
        """What was spent since it was last taken."""
        self._retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(TransientError),
            stop=tenacity.stop_after_attempt(max_retries + 1),
            wait=tenacity.wait_random_exponential(multiplier=retry_delay, max=_LONGEST_BACKOFF_SECONDS),
            sleep=sleep,
            reraise=True,
        )

    async def get(self, path: str) -> Body | None:
        """Return a file; None if there is none.

        Raises:
            RequestError: If it failed for good.
            AwayError: If the archive is away for longer than patience lasts.
        """
        body = await self.get_if_changed(path, "")
        assert not isinstance(body, NotModified), "only what is known by a tag can be"
        return body

    async def get_if_changed(self, path: str, tag: str) -> Body | NotModified | None:
        """Return a file unless it is still the one that is known by a tag; None if there is none.

        Raises:
            RequestError: If it failed for good.
            AwayError: If the archive is away for longer than patience lasts.
        """
        async with self._places:
            # A copy, because tenacity keeps the state of an iteration in the object itself.
            async for attempt in self._retrying.copy():
                number = attempt.retry_state.attempt_number
                with attempt:
                    try:
                        return await self._send(path, tag, again=number > 1)
                    except TransientError as error:
                        _log.warning("%s: %s (attempt %d)", path, error, number)
                        raise
        raise AssertionError("tenacity raises the last error")

    async def _send(self, path: str, tag: str, *, again: bool) -> Body | NotModified | None:
        """Ask until there is an answer, or a failure that is the request's own."""
        while True:
            await self._breaker.wait()
            await self._limiter.acquire()
            asked = self._breaker.now()
            self.spent.requests += 1
            self.spent.retries += again
            again = True
            try:
                body = await self._client.fetch(path, tag)
            except SlowDownError as error:
                self._breaker.answered()
                self._slow_down(error)
            except TransientError as error:
                if not await self._breaker.away(error, asked):
                    raise
            except UnreachableError:
                raise
            except RequestError:
                self._breaker.answered()
                raise
            else:
                self._breaker.answered()
                self._slow_downs, self._slowed_since = 0, None
                size = body.size if isinstance(body, Body) else 0
                self.spent.bytes += size
                self._limiter.spend(size)
                what = "missing" if body is None else f"{size:,} bytes" if isinstance(body, Body) else "not modified"
                _log.debug("%s: %s, %.2f s", path, what, self._breaker.now() - asked)
                return body

    def _slow_down(self, error: SlowDownError) -> None:
        now, patience = self._breaker.now(), self._breaker.patience
        self._slowed_since = now if self._slowed_since is None else self._slowed_since
        if now - self._slowed_since > patience:
            raise AwayError(f"the archive has said nothing but {error} for {now - self._slowed_since:.0f} s")
        seconds = min(slow_down_seconds(error.retry_after, self._slow_downs), max(patience, 1.0))
        self._slow_downs += 1
        _log.warning("%s; all processes wait %.0f s", error, seconds)
        self._limiter.pause(seconds, str(error), bound=max(patience, 1.0))
