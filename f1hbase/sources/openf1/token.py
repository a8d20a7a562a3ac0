"""The token that OpenF1 gives for a username and password: one for all processes, renewed before it expires.

It lies in the state that all processes share (`f1hbase.sources.http.shared`), which only the user can read. Who finds
none that is still good takes the role of renewing it, looks again, and asks for a new one; the others meanwhile wait
for the role, and then find it.

No exception that leaves this module holds the token or the password, nor is it chained to one of aiohttp's:
those carry the request with all its headers. That is why errors are made inside `except` and raised after it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import math
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from f1hbase.credentials import PASSWORD_VARIABLE, USERNAME_VARIABLE, Credentials, Secret, redact, register_secret
from f1hbase.errors import F1HBaseError, SetupError
from f1hbase.sources.http.answers import failure_of, failure_to_ask
from f1hbase.sources.http.body import read_beginning
from f1hbase.sources.http.errors import (
    GiveUpError,
    NoAnswerError,
    RequestError,
    SlowQueryError,
    TooMuchError,
    TransientError,
)
from f1hbase.sources.http.shared import SharedState, briefly, machine_clock, role, state_path
from f1hbase.sources.http.waits import WaitNotice

logger = logging.getLogger(__name__)

_MARGIN_SECONDS = 300.0
_MARGIN_SHARE = 0.1
"""A token is renewed so long before its end: the smaller of the two, for tokens that live for minutes only."""

_USUAL_SECONDS = 3600.0
"""How long a token lives if the answer does not say: OpenF1's."""

_ROLE_RETRY_SECONDS = 0.02
_ROLE_PATIENCE_SECONDS = 30.0
"""Who renews for that long has been stopped (SIGSTOP, a debugger), or gets no answer: the others go on without."""

_MOST_BYTES = 64 * 1024
_EXCERPT_CHARACTERS = 120
_IN_A_HEADER = re.compile(r"[!-~]+")


class CredentialsError(RequestError, F1HBaseError):
    """OpenF1 refuses the username and password; asking again would not help, and the run is over."""

    exit_code = 2


def bearer(token: str) -> aiohttp.BasicAuth:
    """Return what makes aiohttp send a token: `session.get(url, auth=bearer(token))`.

    A header of our own would fail for users whose `~/.netrc` has an entry for the host, or a default one: with
    `trust_env` aiohttp looks there unless `auth` is given, and refuses to send both. It also drops `auth` when it
    follows a redirect to another host.
    """
    return _Bearer("", Secret(token))


class _Bearer(aiohttp.BasicAuth):
    """A token, held where a `BasicAuth` has its password."""

    def encode(self) -> str:
        """Return the value of the `Authorization` header."""
        return f"Bearer {self.password}"

    def __repr__(self) -> str:
        return "Bearer(***)"


def token_url(api_url: str) -> URL:
    """Return where the tokens of an API are to be had: at the root of its host.

    >>> token_url("https://api.openf1.org/v1")
    URL('https://api.openf1.org/token')
    """
    return URL(api_url).origin() / "token"


def token_path(api_url: str, credentials: Credentials, folder: Path | None = None) -> Path:  # noqa: ARG001 - as called
    """Name the file that all processes share which use one API: that of its host (`state_path`), whoever the user."""
    return state_path(urlsplit(api_url).netloc, folder)


def _user_of(url: URL, credentials: Credentials) -> str:
    """Name one user of one server, without the name; another scheme or port is another server."""
    return hashlib.sha256(f"{url}\n{credentials.username}".encode()).hexdigest()


class TokenProvider:
    """Gives a token that is good now.

    >>> async def main(session: aiohttp.ClientSession) -> None:
    ...     tokens = TokenProvider(url, credentials, token_path(url, credentials))
    ...     token = await tokens.get(session)
    ...     # send the request with auth=bearer(token); on a 401: token = await tokens.renew(session, token)

    A provider belongs to one event loop. Coroutines that need a new token at the same time share one request for
    it, or its failure, as do all processes with the same file. Refused credentials are not tried a second time.

    Args:
        url: The API, such as `https://api.openf1.org/v1`.
        credentials: Whose token.
        path: The file of the host; see `token_path`. Where it cannot be written, every process gets a token of its own.
        clock: Tells seconds, comparable between processes and between starts of the machine.
        sleep: Waits for as many.
    """

    def __init__(
        self,
        url: str,
        credentials: Credentials,
        path: Path,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._url = token_url(url)
        self._credentials = credentials
        self._file = _TokenStore(path, _user_of(self._url, credentials), sleep)
        register_secret(credentials.password)
        self._clock = clock
        self._token: _Token | None = None
        self._turn = asyncio.Lock()
        self._attempts = 0
        self._failure: RequestError | None = None

    async def get(self, session: aiohttp.ClientSession) -> str:
        """Return a token that is good for a while yet.

        Raises:
            CredentialsError: If the credentials are refused.
            RequestError: Of the kind that fits, if a new token is needed and cannot be had.
        """
        return await self._good_token(session, None)

    async def renew(self, session: aiohttp.ClientSession, stale: str) -> str:
        """Return a token other than `stale`, which the API has refused: a new one, if nobody got one meanwhile.

        Raises:
            CredentialsError: If the credentials are refused.
            RequestError: Of the kind that fits, if it cannot be had.
        """
        return await self._good_token(session, Secret(stale))

    def seconds_left(self) -> float:
        """Return for how long the newest known token is good yet, in seconds; 0 without one."""
        now = self._clock()
        return max((token.good_until - now for token in self._tokens() if token.good_at(now)), default=0.0)

    async def _good_token(self, session: aiohttp.ClientSession, stale: Secret | None) -> Secret:
        known = self._known(stale)
        if known is not None:
            return known
        attempts = self._attempts
        async with self._turn:
            known = self._known(stale)
            if known is not None:
                return known
            if isinstance(self._failure, CredentialsError) or (self._failure and self._attempts > attempts):
                # One object for all who waited; the stack is that of whoever raises it.
                raise self._failure.with_traceback(None)
            async with self._file.locked() as locked:
                known = self._known(stale)
                if known is None:
                    self._token = await self._ask(session)
                    # Without the lock somebody else is about to write.
                    if locked:
                        self._file.write(self._token)
                    known = self._token.text
            self._failure = None
            return known

    def _known(self, stale: Secret | None) -> Secret | None:
        """Return the newest token there is, if it is good."""
        now = self._clock()
        tokens = [token for token in self._tokens() if token.good_at(now)]
        newest = max(tokens, key=lambda token: token.since, default=None)
        return None if newest is None or newest.text == stale else newest.text

    def _tokens(self) -> list[_Token]:
        """Return what tokens there are: what all processes share, and this one's own."""
        return [token for token in (self._file.read(), self._token) if token is not None]

    async def _ask(self, session: aiohttp.ClientSession) -> _Token:
        since = self._clock()
        answer = await self._post(session)
        self._attempts += 1
        if isinstance(answer, RequestError):
            self._failure = answer
            raise answer
        logger.debug("got a token from %s for %.0f s", self._url, answer.seconds)
        return _Token(answer.text, since, since + answer.seconds)

    async def _post(self, session: aiohttp.ClientSession) -> _Grant | RequestError:
        """Ask for a token; the error is returned so that it is raised outside of `except`: see the module."""
        try:
            async with session.post(
                self._url,
                data={"username": self._credentials.username, "password": self._credentials.password},
                allow_redirects=False,  # the password goes nowhere else
            ) as response:
                status, retry_after = response.status, response.headers.get("Retry-After")
                body = await read_beginning(response, _MOST_BYTES)
        except (TimeoutError, aiohttp.ClientError, ValueError) as error:
            return self._not_asked(failure_to_ask(error, str(self._url)))
        if status == 200:
            grant = _grant(body)
            return grant or TransientError(f"no token: the answer of {self._url} has none ({len(body)} bytes)")
        return self._refusal(status, retry_after, body)

    def _not_asked(self, error: RequestError) -> RequestError:
        kind = NoAnswerError if isinstance(error, SlowQueryError) else type(error)
        return kind(f"no token: {redact(str(error), *self._secrets())}")

    def _refusal(self, status: int, retry_after: str | None, body: bytes) -> RequestError:
        words = self._words(body)
        if status in {400, 401, 403}:
            return CredentialsError(
                f"OpenF1 refused {USERNAME_VARIABLE}/{PASSWORD_VARIABLE} "
                f"(HTTP {status} from {self._url}{words}); correct them, or unset both for the free API"
            )
        error = failure_of(status, b"", retry_after)
        message = f"no token: HTTP {status} from {self._url}{words}"
        if status in {404, 405}:
            message = f"{message}; it gives no tokens: unset {USERNAME_VARIABLE} and {PASSWORD_VARIABLE}"
        if isinstance(error, SlowQueryError):
            return TransientError(message)  # it is no query, and cannot be cut smaller
        if isinstance(error, TooMuchError):
            return GiveUpError(message)
        error.args = (message,)
        return error

    def _secrets(self) -> tuple[str, str]:
        return self._credentials.username, self._credentials.password

    def _words(self, body: bytes) -> str:
        """Return the server's own words to print after a status; none if they quote what they were given."""
        content = _parse(body)
        detail = content.get("detail") if isinstance(content, dict) else None
        if not isinstance(detail, str) or redact(detail, *self._secrets()) != detail:
            return ""
        return f": {' '.join(detail.split())[:_EXCERPT_CHARACTERS]}"


@dataclass(frozen=True, slots=True)
class _Grant:
    """A token as the API gives it: for how many seconds."""

    text: Secret
    seconds: float


@dataclass(frozen=True, slots=True)
class _Token:
    """A token and its life, in seconds of the clock."""

    text: Secret
    since: float
    until: float

    def good_at(self, now: float) -> bool:
        """Tell whether it is worth using; not before `since`: the clock was set back, and `until` means nothing."""
        return self.since <= now < self.good_until

    @property
    def good_until(self) -> float:
        """When it is to be renewed."""
        return self.until - min(_MARGIN_SECONDS, _MARGIN_SHARE * (self.until - self.since))


class _TokenStore:
    """The token of one user in the shared state, and the role of renewing it."""

    def __init__(self, path: Path, user: str, sleep: Callable[[float], Awaitable[object]]) -> None:
        self._path = path
        self._user = user
        self._state = SharedState(path)
        self._sleep = sleep
        self._complained = False

    def read(self) -> _Token | None:
        """Return the token; None if there is none, or the file cannot be used."""
        query = "SELECT token, since, until FROM tokens WHERE user = ?"
        try:
            rows = briefly(lambda: [_decode(*row) for row in self._state.rows(query, self._user)])
        except (OSError, SetupError) as error:
            self._complain(error)
            return None
        return rows[0] if rows else None

    def write(self, token: _Token) -> None:
        """Replace the token; the caller has the role."""

        def write() -> None:
            with self._state.transaction() as (db, _):
                db.execute(
                    "INSERT OR REPLACE INTO tokens (user, token, since, until) VALUES (?, ?, ?, ?)",
                    (self._user, str(token.text), token.since, token.until),
                )

        try:
            briefly(write)
        except (OSError, SetupError) as error:
            self._complain(error)

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[bool]:
        """Wait for the role and tell whether it was obtained: it is not when that takes too long, or cannot be."""
        notice = WaitNotice(logger, machine_clock)
        waited = 0.0
        with ExitStack() as stack:
            mine = False
            while not mine and waited < _ROLE_PATIENCE_SECONDS:
                try:
                    mine = stack.enter_context(role(self._path, f"token-{self._user[:16]}"))
                except (OSError, SetupError) as error:
                    self._complain(error)
                    break
                if not mine:
                    stack.close()
                    left = _ROLE_PATIENCE_SECONDS - waited
                    notice.waiting("another process asks for a new token", None if waited < 1.0 else left)
                    await self._sleep(_ROLE_RETRY_SECONDS)
                    waited += _ROLE_RETRY_SECONDS
            yield mine

    def _complain(self, error: Exception) -> None:
        if not self._complained and not isinstance(error, BlockingIOError):
            logger.warning("cannot use %s (%s): each process asks for a token of its own", self._path, error)
            self._complained = True


def _decode(token: object, since: object, until: object) -> _Token | None:
    text = _header_text(token)
    if text is None or not isinstance(since, float) or not isinstance(until, float):
        return None
    return _Token(text, since, until)


def _grant(body: bytes) -> _Grant | None:
    content = _parse(body)
    text = _header_text(content.get("access_token")) if isinstance(content, dict) else None
    return None if text is None else _Grant(text, _seconds(content.get("expires_in")))


def _header_text(value: object) -> Secret | None:
    """Return a token, unless it cannot stand in a header."""
    if not isinstance(value, str) or not _IN_A_HEADER.fullmatch(value):
        return None
    register_secret(value)
    return Secret(value)


def _seconds(expires_in: object) -> float:
    """Read how long a token lives: a number, or the text of one, as OpenF1 has it."""
    try:
        seconds = float(expires_in) if isinstance(expires_in, int | float | str) else math.nan
    except (ValueError, OverflowError):
        return _USUAL_SECONDS
    return seconds if math.isfinite(seconds) and seconds > 0.0 else _USUAL_SECONDS


def _parse(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
