"""Asks for one thing at a time until it comes: within the limits, again after a failure, waiting while nobody answers.

For sources whose requests need not be cut or packed; OpenF1's has a queue of its own. Knows no source.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar
from urllib.parse import urlsplit

import tenacity

from f1hbase.errors import SetupError, UnreachableError
from f1hbase.model.answers import RequestStats
from f1hbase.model.rates import Limits, parse_limits
from f1hbase.sources.http import measuring
from f1hbase.sources.http.answers import slow_down_seconds
from f1hbase.sources.http.breaker import CircuitBreaker
from f1hbase.sources.http.errors import AwayError, RequestError, SlowDownError, TransientError
from f1hbase.sources.http.limiter import SharedRateLimiter

_log = logging.getLogger(__name__)

_LONGEST_BACKOFF_SECONDS = 120.0

_Answer = TypeVar("_Answer")


def open_limiter(limits: Limits, shared: Path, patience: float, whose: str) -> SharedRateLimiter:
    """Return the limiter that all processes share which ask a host.

    Args:
        limits: What may be asked.
        shared: The file through which they share it (`state_path`).
        patience: For how long the host may ask to wait, in seconds.
        whose: Whose limits they are, for messages, such as `the archive`.

    Raises:
        SetupError: If the file cannot be written.
    """
    try:
        return SharedRateLimiter(limits.requests, shared, byte_rates=limits.bytes, patience=patience)
    except OSError as error:
        raise SetupError(
            f"cannot write '{error.filename or shared}', through which all processes share {whose}'s limits: "
            f"{(error.strerror or str(error)).lower()}. Set XDG_STATE_HOME to a folder that can be written."
        ) from error


def _endpoint_of(path: str) -> str:
    """Return what metrics call a request: the last part of its path that is no number, of which there are few."""
    parts = path.partition("?")[0].strip("/").split("/")
    return next((part for part in reversed(parts) if part and not part.isdigit()), "-")


def limits_for(given: Limits | None, url: str, home: str, own: str) -> Limits:
    """Return the limits that hold for an address: those given, else a service's own at its own host, else none.

    Args:
        given: What the settings say.
        url: Where the service is asked.
        home: Its own address.
        own: Its own limits, such as `4/s,500/h`.
    """
    if given is not None:
        return given
    return parse_limits(own) if urlsplit(url).hostname == urlsplit(home).hostname else Limits()


class Asker(Generic[_Answer]):
    """Sends requests persistently.

    Args:
        fetch: Sends the request for a path, and raises what it met (`sources.http.errors`).
        size: Returns how many bytes an answer has.
        limiter: Says when a request may be sent.
        breaker: Says whether the host is there at all.
        whom: Who is asked, for messages, such as `the archive`.
        at_once: How many requests may be under way at once.
        max_retries: How often a request that failed is sent again.
        retry_delay: The longest wait before the first retry, in seconds; it doubles with each one.
        sleep: Waits for so many seconds.
    """

    def __init__(
        self,
        fetch: Callable[[str], Awaitable[_Answer]],
        size: Callable[[_Answer], int],
        limiter: SharedRateLimiter,
        breaker: CircuitBreaker,
        *,
        whom: str,
        at_once: int,
        max_retries: int = 3,
        retry_delay: float = 5.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._fetch = fetch
        self._size = size
        self._limiter = limiter
        self._breaker = breaker
        self._whom = whom
        self._places = asyncio.Semaphore(max(1, at_once))
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

    async def get(self, path: str) -> _Answer:
        """Return the answer to the request for a path; see `ask`."""
        return await self.ask(path, partial(self._fetch, path))

    async def ask(self, name: str, fetch: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Return the answer to a request.

        Args:
            name: What is asked for, in the log.
            fetch: Sends the request, and raises what it met.

        Raises:
            RequestError: If it failed for good.
            AwayError: If the host is away for longer than patience lasts.
        """
        async with self._places:
            # A copy, because tenacity keeps the state of an iteration in the object itself.
            async for attempt in self._retrying.copy():
                number = attempt.retry_state.attempt_number
                with attempt:
                    try:
                        return await self._send(name, fetch, again=number > 1)
                    except TransientError as error:
                        _log.warning("%s: %s (attempt %d)", name, error, number)
                        raise
        raise AssertionError("tenacity raises the last error")

    async def _send(self, name: str, fetch: Callable[[], Awaitable[_Answer]], *, again: bool) -> _Answer:
        """Ask until there is an answer, or a failure that is the request's own."""
        while True:
            await measuring.admit(self._breaker, self._limiter)
            asked = self._breaker.now()
            self.spent.requests += 1
            self.spent.retries += again
            endpoint = _endpoint_of(name)
            measured = measuring.counted(endpoint, again=again)
            again = True
            try:
                with measured:
                    answer = await fetch()
                    measuring.took(endpoint, self._breaker.now() - asked)
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
                size = self._size(answer)
                self.spent.bytes += size
                self._limiter.spend(size)
                _log.debug("%s: %s bytes, %.2f s", name, f"{size:,}", self._breaker.now() - asked)
                return answer

    def _slow_down(self, error: SlowDownError) -> None:
        now, patience = self._breaker.now(), self._breaker.patience
        self._slowed_since = now if self._slowed_since is None else self._slowed_since
        if now - self._slowed_since > patience:
            raise AwayError(f"{self._whom} has said nothing but {error} for {now - self._slowed_since:.0f} s")
        seconds = min(slow_down_seconds(error.retry_after, self._slow_downs), max(patience, 1.0))
        self._slow_downs += 1
        _log.warning("%s; all processes wait %.0f s", error, seconds)
        self._limiter.pause(seconds, str(error), bound=max(patience, 1.0))
