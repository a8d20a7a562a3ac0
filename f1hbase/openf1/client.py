"""One request to the API and what its answer means."""

from __future__ import annotations

import email.utils
import json
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import aiohttp
from yarl import URL

from f1hbase import __version__
from f1hbase.openf1.errors import (
    GiveUpError,
    NoAnswerError,
    RequestError,
    SessionLiveError,
    SlowDownError,
    TooMuchError,
    TransientError,
)
from f1hbase.units import Query, Unit

_EXCERPT_CHARACTERS = 120
_READ_BUFFER_BYTES = 256 * 1024


def address(base: str, query: Query) -> URL:
    """Return the URL of a query; `<` and `>` are percent-encoded, which every server and proxy lets through."""
    filters = "&".join(quote(item, safe="=:,") for item in query.filters)
    return URL(f"{base}/{query.endpoint}?{filters}".rstrip("?"), encoded=True)


def query_of(unit: Unit) -> Query:
    """Return the one query that asks for a unit."""
    scope = unit.scope
    key = f"meeting_key={scope.meeting_key}" if scope.session_key is None else f"session_key={scope.session_key}"
    return Query(unit.endpoint, (key, *_narrowing(unit)))


def _narrowing(unit: Unit) -> Iterator[str]:
    if unit.driver is not None:
        yield f"driver_number={unit.driver}"
    if unit.window.start is not None:
        yield f"date>={_api_time(unit.window.start)}"
    if unit.window.end is not None:
        yield f"date<{_api_time(unit.window.end)}"


def _api_time(moment: datetime) -> str:
    # Without a zone the API takes UTC; the '+' of a zone would have to survive as %2B on the way.
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat()


class OpenF1Client:
    """Sends requests; an answer that is not one of the API's becomes an exception of `f1hbase.openf1.errors`.

    Use it as an async context manager.

    Args:
        base_url: The API, such as `https://api.openf1.org/v1`.
        timeout: How long one request may take, in seconds.
    """

    def __init__(self, base_url: str, timeout: float) -> None:
        self._base_url = base_url
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> OpenF1Client:
        self._session = aiohttp.ClientSession(
            timeout=self._timeout,
            trust_env=True,  # HTTPS_PROXY and NO_PROXY
            headers={"User-Agent": f"f1hbase/{__version__}"},
            # The rate limiter and the queue decide how many requests there are, not the connection pool.
            connector=aiohttp.TCPConnector(limit=0),
            read_bufsize=_READ_BUFFER_BYTES,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, query: Query) -> bytes:
        """Return the body of an answer; empty when the API has no records.

        Raises:
            RequestError: Of the kind that fits.
        """
        assert self._session is not None, "use the client as an async context manager"
        try:
            async with self._session.get(address(self._base_url, query)) as response:
                body = await response.read()
        except TimeoutError as error:
            raise NoAnswerError(f"no answer within {self._timeout.total:g} s") from error
        except aiohttp.ClientConnectionError as error:
            raise NoAnswerError(f"no connection to {self._base_url}: {_connection_reason(error)}") from error
        except aiohttp.ClientError as error:
            raise TransientError(f"the answer broke off: {error}") from error
        if response.status == 200:
            return body
        if response.status == 404 and _detail(body).startswith("No results"):
            return b""
        raise _failure(response.status, _detail(body), response.headers.get("Retry-After"))


def decode_records(body: bytes) -> list[Any]:
    """Return the records of an answer's body.

    Raises:
        TransientError: If it is not a JSON list, as when a proxy's page or half an answer came instead.
    """
    if not body:
        return []
    try:
        records = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise TransientError(f"the answer is not JSON ({error}): {_excerpt(body)}") from error
    if not isinstance(records, list):
        raise TransientError(f"the answer is not a list of records: {_excerpt(body)}")
    return records


def _failure(status: int, detail: str, retry_after: str | None) -> RequestError:
    message = f"HTTP {status}: {detail}"
    if status == 429:
        return SlowDownError(message, _seconds(retry_after, datetime.now(UTC)))
    if status == 401 and "live f1 session" in detail.lower():
        return SessionLiveError(message)
    if status in {413, 422}:
        return TooMuchError(message)
    if status >= 500 or status == 408:
        return TransientError(message)
    return GiveUpError(message)


def _seconds(retry_after: str | None, now: datetime) -> float | None:
    """Read a Retry-After header: seconds, or an HTTP date."""
    if retry_after is None:
        return None
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        return max(0.0, (email.utils.parsedate_to_datetime(retry_after) - now).total_seconds())
    except (ValueError, TypeError):
        return None


def _detail(body: bytes) -> str:
    """The API's own words from the body of a refusal."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return _excerpt(body)
    if isinstance(content, dict) and content.get("detail"):
        detail = content["detail"]
        return detail if isinstance(detail, str) else json.dumps(detail)[:_EXCERPT_CHARACTERS]
    return _excerpt(body)


def _excerpt(body: bytes) -> str:
    text = re.sub(r"<[^>]*>", " ", body[:2000].decode(errors="replace"))
    text = " ".join(text.split())
    return text[:_EXCERPT_CHARACTERS] or "(nothing)"


def _connection_reason(error: aiohttp.ClientConnectionError) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "the host's name cannot be resolved"
    if isinstance(error, aiohttp.ClientConnectorError) and error.os_error.errno:
        # asyncio's own words for it name the address again, but not the reason.
        return os.strerror(error.os_error.errno).lower()
    return str(error) or type(error).__name__
