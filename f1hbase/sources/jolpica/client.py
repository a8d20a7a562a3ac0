"""One request to Jolpica, and what the status of its answer means; knows no endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp
from yarl import URL

from f1hbase.model.answers import RawAnswer
from f1hbase.model.ergast import BadPageError, Page, read_page
from f1hbase.model.text import safe
from f1hbase.model.units import is_round
from f1hbase.sources.http.answers import excerpt, failure_of, failure_to_ask
from f1hbase.sources.http.body import read_beginning, read_body
from f1hbase.sources.http.errors import GiveUpError, RequestError, TransientError, WrongAnswerError
from f1hbase.sources.http.session import new_session

NAME = "jolpica"

_LARGEST_BODY_BYTES = 2_000_000
"""A page of 100 results has 60 KB; what is in memory of one, as objects, is many times that."""

_KEEP_ALIVE_SECONDS = 15.0
_SHOWN_CHARACTERS = 40


@dataclass(frozen=True, slots=True)
class PageAnswer:
    """A page, and the answer that it came in."""

    page: Page
    raw: RawAnswer


class JolpicaClient:
    """Sends requests; an answer that is no page becomes an exception of `sources.http.errors`.

    Use it as an async context manager.

    Args:
        base_url: The API, such as `https://api.jolpi.ca/ergast/f1`.
        timeout: How long one request may take, in seconds.
    """

    def __init__(self, base_url: str, timeout: float) -> None:
        self._base = base_url.rstrip("/")
        self._shown = str(URL(self._base, encoded=True).with_user(None))
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> JolpicaClient:
        self._session = new_session(self._timeout, _KEEP_ALIVE_SECONDS, "history of results")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def fetch(self, request: str) -> PageAnswer:
        """Return the answer to a request such as `1991/5/results/?limit=100&offset=0`.

        Raises:
            RequestError: Of the kind that fits.
        """
        assert self._session is not None, "use the client as an async context manager"
        # Raised outside of `except`: aiohttp's errors hold the request, with a proxy's password.
        try:
            return await self._get(self._session, request)
        except (TimeoutError, aiohttp.ClientError) as error:
            failure = failure_to_ask(error, self._shown, self._timeout.total)
        except RequestError as error:
            failure = error
        raise failure

    async def _get(self, session: aiohttp.ClientSession, request: str) -> PageAnswer:
        asked_at = datetime.now(UTC)
        url = URL(f"{self._base}/{request}", encoded=True)
        async with session.get(url, allow_redirects=False) as response:
            content_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
            status = response.status
            if status == 200:
                data = await read_body(response, _LARGEST_BODY_BYTES)
            else:
                data = await read_beginning(response)
            if 300 <= status < 400:
                raise GiveUpError(
                    f"HTTP {status}: {self._shown} redirects to "
                    f"{excerpt(response.headers.get('Location', '').encode())}; if the API is there, name it with "
                    "--jolpica-url"
                )
            if status != 200:
                raise failure_of(status, data, response.headers.get("Retry-After"))
        try:
            page = read_page(data)
        except BadPageError as error:
            if data.lstrip().startswith(b"{") and data.rstrip().endswith(b"}"):
                raise WrongAnswerError(f"the answer is none of Jolpica's: {error}") from error
            raise TransientError(f"the answer is cut off, or no JSON: {excerpt(data)}") from error
        if foreign := _foreign(request, page):
            raise WrongAnswerError(f"the answer to {request.partition('/?')[0]} {foreign}")
        raw = RawAnswer(NAME, request, asked_at, datetime.now(UTC), status, content_type or "application/json", data)
        return PageAnswer(page, raw)


def _foreign(request: str, page: Page) -> str:
    """Return what an answer has that was not asked for; nothing if all is of the season and race that a request names.

    >>> _foreign("1991/results/?limit=100", Page(100, 0, 1, [{"season": 1992, "round": 1}]))
    'has records of season 1992'
    """
    named = [int(part) for part in request.split("/")[:2] if part.isascii() and part.isdigit()]
    wanted = dict(zip(("season", "round"), named, strict=False))
    for record in page.records:
        for name, value in wanted.items():
            if record.get(name) != value:
                return f"has records of {name} {safe(str(record.get(name)), _SHOWN_CHARACTERS)}"
        if wanted and "round" in record and not is_round(record["round"]):
            return f"has records of round {safe(str(record['round']), _SHOWN_CHARACTERS)}"
    return ""
