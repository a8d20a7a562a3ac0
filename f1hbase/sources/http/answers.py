"""An answer over HTTP, and what it means if it is none: status, `Retry-After`, the server's words, lost connections.

The one home of these for every source and for the token; it knows no endpoint and no library's response objects.
"""

from __future__ import annotations

import email.utils
import html
import json
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime

import aiohttp

from f1hbase.credentials import redacted
from f1hbase.model.text import excerpt as text_excerpt
from f1hbase.sources.http.errors import (
    GiveUpError,
    NoAnswerError,
    RequestError,
    SessionLiveError,
    SlowDownError,
    SlowQueryError,
    TooMuchError,
    TransientError,
)

LONGEST_RETRY_AFTER_SECONDS = 86_400.0
LEAST_RETRY_AFTER_SECONDS = 1.0
"""`Retry-After: 0`, or a date that has passed, would ask at once, and again."""

_SLOW_DOWN_SECONDS = 10.0
"""The first pause after a 429 that does not say how long: a sixth of the minute that OpenF1 counts in."""

_LONGEST_SLOW_DOWN_SECONDS = 120.0
_EXCERPT_CHARACTERS = 120
_EXCERPT_BYTES = 2000
_LONGEST_SECRET_BYTES = 4096
_PROXY_HINT = "are HTTP_PROXY and HTTPS_PROXY like http://host:port?"


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer, byte for byte, whether it has records or says that there are none.

    Attributes:
        status: 200, or what stands for "no records": 404 with its words, 500 for CSV.
        content_type: Without its parameters; empty if the server names none.
        body: Decoded from its content encoding, as it came.
        asked_at: When it was sent (UTC).
        received_at: When the last byte had come (UTC).
        url: What was asked, without user and password.
        requests: How many requests it took: one more for each redirect within the host.
    """

    status: int
    content_type: str
    body: bytes = field(repr=False)  # it may quote the token
    asked_at: datetime
    received_at: datetime
    url: str
    requests: int = 1

    @property
    def is_empty(self) -> bool:
        """Whether it says that there are no records; a 200 without a body is cut off, and says nothing."""
        # `strip` would copy the megabytes of a CSV answer, which ends in a line feed.
        return self.status != 200 or (len(self.body) < 100 and self.body.strip() == b"[]")

    @property
    def seconds(self) -> float:
        """How long it took, in seconds."""
        return (self.received_at - self.asked_at).total_seconds()


def excerpt(body: bytes) -> str:
    """Return the beginning of a body as one line of text, without the tags of a page, and without known secrets."""
    # Cut after the secrets are out, or half of one would be left.
    text = redacted(body[: _EXCERPT_BYTES + _LONGEST_SECRET_BYTES].decode(errors="replace"))
    return text_excerpt(text.encode())


def words_of(body: bytes) -> str:
    """Return the server's own words from the body of a refusal: its `detail`, or the beginning of a page or a text."""
    detail = _detail(body)
    if detail:
        return excerpt((detail if isinstance(detail, str) else json.dumps(detail)).encode(errors="replace"))
    return excerpt(body)


def detail_of(body: bytes) -> str | None:
    """Return the text that a JSON object has as its `detail`, as FastAPI words a refusal; None if it has none."""
    detail = _detail(body)
    return detail if isinstance(detail, str) else None


def _detail(body: bytes) -> object:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return content.get("detail") if isinstance(content, dict) else None


def last_line(body: bytes) -> str:
    """Return the last line of a traceback, which is the reason of a 500: as plain text, or as OpenF1 puts it in a page.

    Empty if the body is another page, or JSON.
    """
    text = redacted(body[-_EXCERPT_BYTES - _LONGEST_SECRET_BYTES :].decode(errors="replace")).strip()
    if body.lstrip()[:1] == b"<":
        # OpenF1's own software: <h1>An error occurred</h1><pre>Traceback ...</pre>
        text = html.unescape(text.rpartition("</pre>")[0]).strip()
        if b"<pre>" not in body:
            return ""
    if not text or body.lstrip()[:1] in {b"{", b"["}:
        return ""
    return _one_line(text.splitlines()[-1])


def failure_of(status: int, body: bytes, retry_after: str | None, *, seconds: float = 0.0) -> RequestError:
    """Return the error that a status other than 200 stands for.

    Args:
        status: The status.
        body: The answer's body.
        retry_after: Its header of that name.
        seconds: How long the server took.
    """
    end = last_line(body) if status == 500 else ""
    words = (end or words_of(body)).removeprefix(str(status)).strip()  # pages say it themselves
    message = f"HTTP {status}: {words}"
    if status == 429:
        return SlowDownError(message, retry_after_seconds(retry_after, datetime.now(UTC)))
    if status == 401 and "live f1 session" in words.lower():
        return SessionLiveError(message)
    if status in {413, 422}:
        return TooMuchError(message)
    if status == 500:
        return SlowQueryError(message, body_end=end, seconds=seconds)
    if status > 500 or status == 408:
        return TransientError(message)
    return GiveUpError(message)


def retry_after_seconds(header: str | None, now: datetime) -> float | None:
    """Read a `Retry-After` header, seconds or an HTTP date; None if there is none that can be read.

    At least a second and at most a day.
    """
    if header is None:
        return None
    text = header.strip()
    try:
        if text.isascii() and text.isdecimal():
            seconds = float(text)
        else:
            moment = email.utils.parsedate_to_datetime(text)
            seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now.timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, LEAST_RETRY_AFTER_SECONDS), LONGEST_RETRY_AFTER_SECONDS)


def slow_down_seconds(retry_after: float | None, in_a_row: int) -> float:
    """Return for how long to pause after the nth 429 in a row (from 0).

    >>> [slow_down_seconds(None, n) for n in range(5)]
    [10.0, 20.0, 40.0, 80.0, 120.0]
    >>> [slow_down_seconds(0.0, n) for n in range(5)]
    [1.0, 2.0, 4.0, 8.0, 16.0]

    It grows whether the API says how long or not: one that names a second each time would be asked each second.
    """
    first = _SLOW_DOWN_SECONDS if retry_after is None else LEAST_RETRY_AFTER_SECONDS
    grown = min(first * 2.0 ** min(in_a_row, 10), _LONGEST_SLOW_DOWN_SECONDS)
    return max(grown, retry_after or 0.0)


def failure_to_ask(error: Exception, what: str, timeout: float | None = None) -> RequestError:
    """Return the error for a request that brought no answer, in words that cannot quote the request.

    aiohttp's errors hold the request with the token and the proxy's password, so raise this one outside of `except`.

    Args:
        error: A `TimeoutError`, an error of aiohttp, or the `ValueError` of an address that cannot be read.
        what: What was asked: a URL without secrets.
        timeout: How long was waited, in seconds, if that is known.
    """
    if isinstance(error, TimeoutError):
        within = "in time" if timeout is None else f"within {timeout:g} s"
        return SlowQueryError(f"no answer {within}", seconds=timeout or 0.0)
    if isinstance(error, aiohttp.ClientPayloadError):
        return TransientError("the answer broke off")
    if isinstance(error, aiohttp.ClientConnectionError):
        return NoAnswerError(f"no connection ({connection_reason(error)}) with {what}")
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return NoAnswerError(f"no connection (the proxy answers HTTP {error.status}) with {what}")
    if isinstance(error, ValueError):  # InvalidURL is one
        # What an unreadable address of a proxy leads to; the error quotes it, password and all.
        return GiveUpError(f"cannot ask {what}; {_PROXY_HINT}")
    return TransientError(f"the answer is not HTTP as it should be: {_one_line(redacted(str(error)))}")


def connection_reason(error: aiohttp.ClientConnectionError) -> str:
    """Say why there is no connection, in words that cannot quote the request."""
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
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the server closed it"
    return _one_line(redacted(str(error))) or "it was closed"


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:_EXCERPT_CHARACTERS] or "(nothing)"
