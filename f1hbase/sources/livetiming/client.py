"""One file of the archive over HTTP, and what the status of its answer means; knows no topic."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO
from urllib.parse import quote

import aiohttp
from yarl import URL

from f1hbase.model.text import excerpt
from f1hbase.sources.http.answers import failure_of, failure_to_ask
from f1hbase.sources.http.body import pieces, read_beginning
from f1hbase.sources.http.errors import GiveUpError, TransientError
from f1hbase.sources.http.session import new_session

LARGEST_IN_MEMORY_BYTES = 16_000_000
"""A larger file is kept on disk while it is read; the telemetry of a race has some 8 MB, that of a test day 40."""

LARGEST_BYTES = 400_000_000
"""Ten times the largest that is known."""

_MOST_LINES = 300_000
_LONGEST_LINE = 8_000_000
"""Sixteen times the lines of the largest topic known (TimingData of a sprint, 18,000), and eighty times the longest
message: each line of a file is remembered, and read as a whole."""

_LONGEST_TAG = 200
_KEEP_ALIVE_SECONDS = 15.0
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Body:
    """What came of a file that is there.

    Attributes:
        data: Its bytes, or an unnamed file that holds them.
        size: How many bytes they are.
        content_type: As the server names it.
        tag: What the server knows it by: its ETag, else when it was last modified; empty for neither.
    """

    data: bytes | BinaryIO
    size: int
    content_type: str
    asked_at: datetime
    received_at: datetime
    tag: str = ""


@dataclass(frozen=True, slots=True)
class NotModified:
    """The archive still has the file that was known by a tag; it was not sent."""

    asked_at: datetime


class ArchiveClient:
    """Fetches files; what is not there is None, what is no file of the archive an exception of `sources.http.errors`.

    Use it as an async context manager.

    Args:
        base_url: The archive, such as `https://livetiming.formula1.com/static`.
        timeout: How long the server may be silent, in seconds; a whole file may take as long as it comes, at 4 KB a
            second or more.
    """

    def __init__(self, base_url: str, timeout: float) -> None:
        self._base = base_url.rstrip("/")
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> ArchiveClient:
        timeout = aiohttp.ClientTimeout(sock_connect=self._timeout, sock_read=self._timeout)
        self._session = new_session(timeout, _KEEP_ALIVE_SECONDS, "history of live timing")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def fetch(self, path: str, tag: str = "") -> Body | NotModified | None:
        """Return a file; None if the archive says (in XML) that it has none.

        Args:
            path: Its path below the archive.
            tag: That of the file as it is known (`Body.tag`): only another one is sent. Empty for any.

        Raises:
            RequestError: Of the kind that fits.
        """
        assert self._session is not None, "use the client as an async context manager"
        url = URL(f"{self._base}/{quote(path)}", encoded=True)
        # Raised outside of `except`: aiohttp's errors hold the request, with a proxy's password.
        try:
            return await self._get(self._session, url, tag)
        except (TimeoutError, aiohttp.ClientError, ValueError) as error:
            failure = failure_to_ask(error, str(url.with_user(None)), self._timeout)
        raise failure

    async def _get(self, session: aiohttp.ClientSession, url: URL, tag: str) -> Body | NotModified | None:
        asked_at = datetime.now(UTC)
        async with session.get(url, headers=_condition(tag), allow_redirects=False) as response:
            if response.status == 304 and tag:
                return NotModified(asked_at)
            content_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
            if response.status != 200:
                body = await read_beginning(response, patience=self._timeout)
                if response.status == 404 or (response.status == 403 and _is_xml(body)):
                    return None
                if 300 <= response.status < 400:
                    raise GiveUpError(
                        f"HTTP {response.status}: {url.with_user(None)} redirects to "
                        f"{excerpt(response.headers.get('Location', '').encode())}; if the archive is there, name it "
                        "with --livetiming-url"
                    )
                raise failure_of(response.status, body, response.headers.get("Retry-After"))
            data, size, head = await _read(response, self._timeout)
            own_tag = _tag_of(response)
        if _is_xml(head):
            return None
        if head.lstrip().startswith(b"<"):
            raise TransientError(f"the answer is a page, no file of the archive: {excerpt(head)}")
        if tag and own_tag == tag:
            # A server that does not look at conditions.
            if not isinstance(data, bytes):
                data.close()
            return NotModified(asked_at)
        return Body(data, size, content_type, asked_at, datetime.now(UTC), own_tag)


def _condition(tag: str) -> dict[str, str]:
    if not tag:
        return {}
    return {"If-None-Match" if tag.endswith('"') else "If-Modified-Since": tag}


def _tag_of(response: aiohttp.ClientResponse) -> str:
    """Return an ETag (which ends in a quote) or a time; neither if it could not be sent back as it is."""
    for name in ("ETag", "Last-Modified"):
        text = response.headers.get(name, "")
        is_fit = 0 < len(text) <= _LONGEST_TAG and text.isascii() and text.isprintable()
        if is_fit and (name == "ETag") == text.endswith('"'):
            return text
    return ""


async def _read(response: aiohttp.ClientResponse, patience: float) -> tuple[bytes | BinaryIO, int, bytes]:
    """Return a body, its size and its beginning."""
    # An unnamed file, which is gone when it is closed or the process ends.
    spool = tempfile.SpooledTemporaryFile(LARGEST_IN_MEMORY_BYTES, prefix="f1hbase-")  # noqa: SIM115
    size, head, lines, line = 0, b"", 0, 0
    try:
        async for piece in pieces(response, LARGEST_BYTES, patience=patience):
            head = head or piece[:2_000].removeprefix(_BOM)
            size += len(piece)
            lines += piece.count(b"\n")
            line = line + len(piece) if b"\n" not in piece else len(piece) - piece.rfind(b"\n") - 1
            if lines > _MOST_LINES or line > _LONGEST_LINE:
                what = f"more than {_MOST_LINES:,} lines" if lines > _MOST_LINES else f"a line of {line:,} bytes"
                raise GiveUpError(f"the file is none of the archive's: it has {what}")
            spool.write(piece)
        if size > LARGEST_IN_MEMORY_BYTES:
            spool.rollover()
            spool.flush()
            return _file_of(spool), size, head
        spool.seek(0)
        body = spool.read()
    except BaseException:
        spool.close()
        raise
    spool.close()
    return body, size, head


def _file_of(spool: tempfile.SpooledTemporaryFile[bytes]) -> BinaryIO:
    return spool  # type: ignore[return-value]  # it has all that is used of one


def _is_xml(body: bytes) -> bool:
    start = body.removeprefix(_BOM).lstrip()
    return start.startswith((b"<?xml", b"<Error"))
