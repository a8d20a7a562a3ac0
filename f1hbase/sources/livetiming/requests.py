"""Asks for files until they come: within the limits, again after a failure, waiting while the archive is away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from f1hbase.sources.http.asking import Asker
from f1hbase.sources.http.breaker import CircuitBreaker
from f1hbase.sources.http.limiter import SharedRateLimiter
from f1hbase.sources.livetiming.client import ArchiveClient, Body, NotModified

MOST_AT_ONCE = 2
"""How many files a process asks for at once: the archive is a courtesy."""


class ArchiveRequests(Asker[Body | NotModified | None]):
    """Fetches files persistently; a file that the archive has not is None.

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
        super().__init__(
            client.fetch,
            lambda body: body.size if isinstance(body, Body) else 0,
            limiter,
            breaker,
            whom="the archive",
            at_once=min(at_once, MOST_AT_ONCE),
            max_retries=max_retries,
            retry_delay=retry_delay,
            sleep=sleep,
        )
        self._client = client

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
        return await self.ask(path, partial(self._client.fetch, path, tag))
