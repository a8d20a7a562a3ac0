"""One request to OpenF1's API, and what the status of its answer means."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from urllib.parse import quote

import aiohttp
from yarl import URL

from f1hbase.sources.http.answers import (
    HttpAnswer,
    detail_of,
    excerpt,
    failure_of,
    failure_to_ask,
    last_line,
)
from f1hbase.sources.http.body import read_beginning, read_body
from f1hbase.sources.http.errors import (
    GiveUpError,
    SlowQueryError,
    UnauthorizedError,
    UnfaithfulError,
)
from f1hbase.sources.http.session import new_session
from f1hbase.sources.http.shared import check_host
from f1hbase.sources.openf1.query import Query
from f1hbase.sources.openf1.token import TokenProvider, bearer
from f1hbase.stores.files.packing import LARGEST_ANSWER_BYTES

_KEEP_ALIVE_SECONDS = 4.0
"""uvicorn, which serves the API, closes idle connections after 5 s, so ours end before."""

_MOST_REDIRECTS = 3
_SLOW_SECONDS = 4.5
"""A query that takes the server more than 5 s fails with 500."""

_NO_RESULTS = "ValueError: No results"
_TIME_LIMIT = re.compile(r"time.?limit|timed? ?out|max_?time", re.IGNORECASE)


def address(base: str, query: Query) -> URL:
    """Return the URL of a query; `<` and `>` are percent-encoded, which every server and proxy lets through."""
    filters = "&".join(quote(item, safe="=:,") for item in query.filters)
    return URL(f"{base}/{query.endpoint}?{filters}".rstrip("?"), encoded=True)


def check_api_url(url: str) -> str:
    """Return the URL of an API as it was given.

    Raises:
        ValueError: If it has control characters or blanks in it, is not http or https, or its host cannot be one.
    """
    if re.search(r"[\x00-\x20\x7f]", url):
        raise ValueError(f"{url[:100]!a} is no URL: it has blanks or control characters (such as a line's end) in it")
    parts = URL(url, encoded=True)
    if parts.scheme not in {"http", "https"} or not parts.raw_host:
        raise ValueError(f"{url[:100]!a} is no URL of an API: write it like https://api.openf1.org/v1")
    check_host(parts.raw_host)
    return url


class OpenF1Client:
    """Sends requests; an answer that is not one of the API's becomes an exception of `f1hbase.sources.http.errors`.

    Use it as an async context manager.

    Args:
        base_url: The API, such as `https://api.openf1.org/v1`.
        timeout: How long one request may take, in seconds.
        tokens: Gives the tokens of a subscription, if there is one.
        largest_body: The size in bytes above which an answer is broken off.
        admit: Waits until one more request may be sent; called before a redirect within the host is followed.

    Attributes:
        date: The `Date` header of the last answer: what time it was at the server.

    Raises:
        ValueError: If `base_url` cannot be a URL.
    """

    def __init__(
        self,
        base_url: str,
        timeout: float,
        *,
        tokens: TokenProvider | None = None,
        largest_body: int = LARGEST_ANSWER_BYTES,
        admit: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self._base_url = check_api_url(base_url)
        self._shown_url = str(URL(base_url, encoded=True).with_user(None))
        self._timeout = timeout
        self._tokens = tokens
        self._largest_body = largest_body
        self._admit = admit
        self._session: aiohttp.ClientSession | None = None
        self._large = asyncio.Lock()
        self.date: str | None = None

    async def __aenter__(self) -> OpenF1Client:
        self._session = new_session(aiohttp.ClientTimeout(total=None), _KEEP_ALIVE_SECONDS)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, query: Query) -> bytes | None:
        """Return the body of an answer; None when the API says that it has no records.

        Raises:
            RequestError: Of the kind that fits.
        """
        answer = await self.fetch(query)
        return answer.body if answer.status == 200 else None

    async def fetch(self, query: Query, held: AsyncExitStack | None = None) -> HttpAnswer:
        """Return the answer to a query; one that says that there are no records is an answer, too.

        Args:
            query: What to ask.
            held: Closed when the answer is done with: until then no other large one is read.

        Raises:
            SlowQueryError: If the server took too long, or failed after so long that it may have been that.
            UnfaithfulError: If it fails at once when asked for CSV: JSON may be had.
            RequestError: Of another kind that fits.
        """
        if held is None:
            async with AsyncExitStack() as held:
                return await self.fetch(query, held)
        assert self._session is not None, "use the client as an async context manager"
        token = None if self._tokens is None else await self._tokens.get(self._session)
        answer, retry_after = await self._ask(self._session, query, token, held)
        if answer.status == 200 or _says_nothing_found(query, answer):
            return answer
        failure = failure_of(answer.status, answer.body, retry_after, seconds=answer.seconds)
        if query.as_csv and isinstance(failure, SlowQueryError) and not _may_be_slow(failure):
            raise UnfaithfulError(f"asked for CSV: {failure}")
        if answer.status == 401 and isinstance(failure, GiveUpError) and self._tokens is not None and token:
            # The token of this request, whatever the others have meanwhile; and not sent again here, but by who
            # asks the limiter.
            await self._tokens.renew(self._session, token)
            raise UnauthorizedError(str(failure))
        raise failure

    async def _ask(
        self, session: aiohttp.ClientSession, query: Query, token: str | None, held: AsyncExitStack
    ) -> tuple[HttpAnswer, str | None]:
        """Send a request and read its answer, redirects within the host included; with its `Retry-After`.

        Errors are raised outside of `except`: aiohttp's hold the request, with the token and the proxy's password.
        """
        url = first = address(self._base_url, query)
        for number in range(1, _MOST_REDIRECTS + 2):
            answer, location, retry_after = await self._send(session, query, url, token, number, held)
            if location is None:
                return answer, retry_after
            url = _within_host(first, url, location, answer.status)
            if self._admit is not None:
                await self._admit()
        raise GiveUpError(f"{_shown(first)} redirects again and again, at last to {_shown(url)}")

    async def _send(
        self,
        session: aiohttp.ClientSession,
        query: Query,
        url: URL,
        token: str | None,
        number: int,
        held: AsyncExitStack,
    ) -> tuple[HttpAnswer, str | None, str | None]:
        try:
            auth = None if token is None else bearer(token)
            asked_at = datetime.now(UTC)
            async with (
                asyncio.timeout(self._timeout) as limit,
                session.get(url, auth=auth, allow_redirects=False) as response,
            ):
                self.date = response.headers.get("Date")
                if response.status == 200:
                    body = await read_body(response, self._largest_body, partial(self._enter, held, limit))
                else:
                    body = await read_beginning(response)
                if (
                    response.status == 200
                    and query.as_csv
                    and response.content_length is None
                    and not _is_chunked(response)
                ):
                    # JSON ends in a bracket; CSV that has lost its last lines looks like any other.
                    raise UnfaithfulError("the CSV answer does not say how long it is, so it may be cut off")
                answer = HttpAnswer(
                    response.status,
                    response.headers.get("Content-Type", "").partition(";")[0].strip(),
                    body,
                    asked_at,
                    datetime.now(UTC),
                    _shown(url),
                    number,
                )
                location = response.headers.get("Location", "") if 300 <= response.status < 400 else None
                return answer, location, response.headers.get("Retry-After")
        except (TimeoutError, aiohttp.ClientError, ValueError) as error:
            failure = failure_to_ask(error, self._shown_url, self._timeout)
        raise failure

    async def _enter(self, held: AsyncExitStack, limit: asyncio.Timeout) -> None:
        """Wait until no other large answer is in memory; the time limit stands still meanwhile."""
        now = asyncio.get_running_loop().time
        left = (limit.when() or now()) - now()
        limit.reschedule(None)
        await held.enter_async_context(self._large)
        limit.reschedule(now() + left)


def _says_nothing_found(query: Query, answer: HttpAnswer) -> bool:
    if answer.status == 404:
        # Its own words alone: a gateway's page of that title says nothing about records.
        return (detail_of(answer.body) or "").startswith("No results")
    return answer.status == 500 and query.as_csv and last_line(answer.body) == _NO_RESULTS


def _may_be_slow(failure: SlowQueryError) -> bool:
    return failure.seconds >= _SLOW_SECONDS or _TIME_LIMIT.search(str(failure)) is not None


def _within_host(first: URL, url: URL, location: str, status: int) -> URL:
    """Return where a redirect leads, which must be the host that was asked.

    Raises:
        GiveUpError: If it is another one, or nothing that can be read.
    """
    try:
        target = url.join(URL(location)) if location else None
    except ValueError:
        target = None
    if target is None or not target.raw_host:
        raise GiveUpError(f"HTTP {status}: {_shown(first)} redirects to {excerpt(location.encode())}, which is no URL")
    if target.origin() != first.origin():
        raise GiveUpError(
            f"HTTP {status}: {first.origin()} redirects to another host, {target.origin()}, which is not followed; "
            "if that is the API, name it with --api-url"
        )
    return target


def _shown(url: URL) -> str:
    return str(url.with_user(None)) if url.raw_user is not None else str(url)


def _is_chunked(response: aiohttp.ClientResponse) -> bool:
    return "chunked" in response.headers.get("Transfer-Encoding", "").lower()
