"""One request to the API, and what the status of its answer means."""

from __future__ import annotations

import email.utils
import json
import os
from datetime import UTC, datetime
from io import BytesIO
from urllib.parse import quote

import aiohttp
from yarl import URL

from f1hbase import __version__
from f1hbase.model.text import excerpt
from f1hbase.sources.http.answers import HttpAnswer
from f1hbase.sources.http.errors import (
    GiveUpError,
    NoAnswerError,
    RequestError,
    SessionLiveError,
    SlowDownError,
    SlowQueryError,
    TooMuchError,
    TransientError,
    UnauthorizedError,
    UnfaithfulError,
)
from f1hbase.sources.openf1.query import Query
from f1hbase.sources.openf1.token import TokenProvider, bearer

_CHUNK_BYTES = 256 * 1024
_LONGEST_RETRY_AFTER_SECONDS = 86_400.0
_LARGEST_BODY_BYTES = 32_000_000
"""Six times the largest answer known: the intervals of a race, 36,000 records (DESIGN.md, Facts about the API)."""


def address(base: str, query: Query) -> URL:
    """Return the URL of a query; `<` and `>` are percent-encoded, which every server and proxy lets through."""
    filters = "&".join(quote(item, safe="=:,") for item in query.filters)
    return URL(f"{base}/{query.endpoint}?{filters}".rstrip("?"), encoded=True)


class OpenF1Client:
    """Sends requests; an answer that is not one of the API's becomes an exception of `f1hbase.sources.http.errors`.

    Use it as an async context manager.

    Args:
        base_url: The API, such as `https://api.openf1.org/v1`.
        timeout: How long one request may take, in seconds.
        tokens: Gives the tokens of a subscription, if there is one.
        largest_body: The size in bytes above which an answer is broken off.

    Attributes:
        date: The `Date` header of the last answer: what time it was at the server.
    """

    def __init__(
        self,
        base_url: str,
        timeout: float,
        *,
        tokens: TokenProvider | None = None,
        largest_body: int = _LARGEST_BODY_BYTES,
    ) -> None:
        self._base_url = base_url
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._tokens = tokens
        self._largest_body = largest_body
        self._session: aiohttp.ClientSession | None = None
        self.date: str | None = None

    async def __aenter__(self) -> OpenF1Client:
        self._session = aiohttp.ClientSession(
            timeout=self._timeout,
            trust_env=True,  # HTTPS_PROXY and NO_PROXY
            headers={"User-Agent": f"f1hbase/{__version__}"},
            middlewares=[_once],
            # The rate limiter and the queue decide how many requests there are, not the connection pool.
            connector=aiohttp.TCPConnector(limit=0),
            read_bufsize=_CHUNK_BYTES,
        )
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
        return None if answer.status == 404 else answer.body

    async def fetch(self, query: Query) -> HttpAnswer:
        """Return an answer.

        Raises:
            RequestError: Of the kind that fits.
        """
        assert self._session is not None, "use the client as an async context manager"
        asked_at = datetime.now(UTC)
        token = None if self._tokens is None else await self._tokens.get(self._session)
        response, body = await self._ask(self._session, query, token)
        nothing = response.status == 404 and _detail(body).startswith("No results")
        nothing |= response.status == 500 and query.as_csv and body.rstrip().endswith(b"ValueError: No results")
        if response.status == 200 or nothing:
            return HttpAnswer(
                response.status, response.content_type, body, asked_at, datetime.now(UTC), str(response.url)
            )
        failure = _failure(response.status, _detail(body), response.headers.get("Retry-After"))
        if response.status == 401 and isinstance(failure, GiveUpError) and self._tokens is not None and token:
            # The token of this request, whatever the others have meanwhile; and not sent again here, but by who
            # asks the limiter.
            await self._tokens.renew(self._session, token)
            raise UnauthorizedError(str(failure))
        raise failure

    async def _ask(
        self, session: aiohttp.ClientSession, query: Query, token: str | None
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        """Send a request and read its answer.

        Errors are raised outside of `except`: aiohttp's hold the request, with the token and the proxy's password.
        """
        try:
            auth = None if token is None else bearer(token)
            async with session.get(address(self._base_url, query), auth=auth) as response:
                self.date = response.headers.get("Date")
                body = await self._read(response)
                if query.as_csv and response.content_length is None and not _is_chunked(response):
                    # JSON ends in a bracket; CSV that has lost its last lines looks like any other.
                    raise UnfaithfulError("the CSV answer does not say how long it is, so it may be cut off")
                return response, body
        except TimeoutError:
            failure: RequestError = SlowQueryError(f"no answer within {self._timeout.total:g} s")
        except aiohttp.ClientPayloadError as error:
            failure = TransientError(f"the answer broke off: {error}")
        except aiohttp.ClientConnectionError as error:
            failure = NoAnswerError(f"no connection ({_connection_reason(error)}) with {self._base_url}")
        except aiohttp.ClientHttpProxyError as error:
            failure = NoAnswerError(f"no connection (the proxy answers HTTP {error.status}) with {self._base_url}")
        except ValueError:  # InvalidURL is one
            # What an unreadable address of a proxy leads to; the error quotes it, password and all.
            failure = GiveUpError(f"cannot ask {self._base_url}; are HTTP_PROXY and HTTPS_PROXY like http://host:port?")
        except aiohttp.ClientError as error:
            failure = TransientError(f"the answer is not HTTP as it should be: {error}")
        raise failure

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        """Read a body to its end, which `Content-Length` must agree with, unless it is too large."""
        body = BytesIO()
        async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
            body.write(chunk)
            if body.tell() > self._largest_body:
                raise TooMuchError(f"the answer is larger than {self._largest_body:,} bytes")
        return body.getvalue()  # without a copy


def _is_chunked(response: aiohttp.ClientResponse) -> bool:
    return "chunked" in response.headers.get("Transfer-Encoding", "").lower()


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending a request again by itself when a connection closes: the limiter would not know."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
        raise aiohttp.ClientConnectionError(_connection_reason(error)) from error


def _failure(status: int, detail: str, retry_after: str | None) -> RequestError:
    message = f"HTTP {status}: {detail.removeprefix(str(status)).strip()}"  # pages say it themselves
    if status == 429:
        return SlowDownError(message, _seconds(retry_after, datetime.now(UTC)))
    if status == 401 and "live f1 session" in detail.lower():
        return SessionLiveError(message)
    if status in {413, 422}:
        return TooMuchError(message)
    if status == 500:
        return SlowQueryError(message)
    if status > 500 or status == 408:
        return TransientError(message)
    return GiveUpError(message)


def _seconds(retry_after: str | None, now: datetime) -> float | None:
    """Read a Retry-After header: seconds, or an HTTP date."""
    if retry_after is None:
        return None
    if retry_after.strip().isdecimal():
        return min(float(retry_after), _LONGEST_RETRY_AFTER_SECONDS)
    try:
        seconds = (email.utils.parsedate_to_datetime(retry_after) - now).total_seconds()
        return min(max(0.0, seconds), _LONGEST_RETRY_AFTER_SECONDS)
    except (ValueError, TypeError):
        return None


def _detail(body: bytes) -> str:
    """The API's own words from the body of a refusal."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return excerpt(body)
    if isinstance(content, dict) and content.get("detail"):
        detail = content["detail"]
        return excerpt((detail if isinstance(detail, str) else json.dumps(detail)).encode(errors="replace"))
    return excerpt(body)


def _connection_reason(error: aiohttp.ClientConnectionError) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "the host's name cannot be resolved"
    # The errno of a TLS error is none: 1 would be "operation not permitted".
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not trusted: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientSSLError):
        return f"TLS failed: {error.os_error}"
    # asyncio's own words for it name the address again, but not the reason.
    if isinstance(error, aiohttp.ClientConnectorError) and error.os_error.errno:
        reason = os.strerror(error.os_error.errno).lower()
        is_proxy = isinstance(error, aiohttp.ClientProxyConnectionError)
        return f"the proxy {error.host}:{error.port}: {reason}" if is_proxy else reason
    if isinstance(error, aiohttp.ClientOSError) and error.errno:
        return os.strerror(error.errno).lower()
    return str(error) or type(error).__name__
