"""The token that OpenF1 gives for a username and password: one for all processes, renewed before it expires.

It lies in a file that only the user can read. Who finds no token in it that is still good locks a second file
beside it with `flock`, which the kernel drops when its holder dies, looks again, and asks for a new one; the
others meanwhile wait for the lock, and then find it. The file is replaced, never written over, so that it can be
read without the lock.

No exception that leaves this module holds the token or the password, nor is it chained to one of aiohttp's:
those carry the request with all its headers. That is why errors are made inside `except` and raised after it.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import logging
import math
import os
import re
import stat
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import platformdirs
from yarl import URL

from f1hbase.credentials import PASSWORD_VARIABLE, USERNAME_VARIABLE, Credentials, Secret
from f1hbase.errors import F1HBaseError
from f1hbase.sources.http.errors import GiveUpError, NoAnswerError, RequestError, SlowDownError, TransientError

logger = logging.getLogger(__name__)

_MARGIN_SECONDS = 300.0
_MARGIN_SHARE = 0.1
"""A token is renewed so long before its end: the smaller of the two, for tokens that live for minutes only."""

_USUAL_SECONDS = 3600.0
"""How long a token lives if the answer does not say (DESIGN.md, Facts about the API)."""

_LOCK_RETRY_SECONDS = 0.02
_LOCK_PATIENCE_SECONDS = 30.0
"""Who holds the lock that long has been stopped (SIGSTOP, a debugger), or gets no answer: the others go on without."""

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


def token_path(api_url: str, credentials: Credentials, folder: Path | None = None) -> Path:
    """Name the file that all processes share which use one API as one user.

    `folder` is made for it, closed to others; by default `tokens` in the user's state folder. The name has the host,
    and a hash instead of the username; another scheme or port is another file, lest a token got by https go by http.
    """
    folder = platformdirs.user_state_path("f1hbase") / "tokens" if folder is None else folder
    url = token_url(api_url)
    user = hashlib.sha256(f"{url}\n{credentials.username}".encode()).hexdigest()[:16]
    return folder / f"{re.sub(r'[^a-z0-9.-]', '_', (url.host or '').lower())}-{user}.json"


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
        path: The file; see `token_path`. Where it cannot be written, every process gets a token of its own.
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
        self._file = _TokenFile(path, sleep)
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
        tokens = [token for token in (self._file.read(), self._token) if token is not None and token.good_at(now)]
        newest = max(tokens, key=lambda token: token.since, default=None)
        return None if newest is None or newest.text == stale else newest.text

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
                status, retry_after = response.status, response.headers.get("Retry-After", "")
                body = await _read(response)
        except TimeoutError:
            return NoAnswerError(f"no token: no answer from {self._url} in time")
        except aiohttp.ClientConnectionError as error:
            return NoAnswerError(f"no token: no connection to {self._url}: {_reason(error)}")
        except aiohttp.ClientHttpProxyError as error:
            return NoAnswerError(f"no token: the proxy does not connect to {self._url.host}: HTTP {error.status}")
        except aiohttp.ClientPayloadError:
            return TransientError(f"no token: the answer of {self._url} broke off")
        except ValueError:  # InvalidURL is one
            # What an unreadable address of a proxy leads to; the error quotes it, password and all.
            return GiveUpError(
                f"no token: cannot ask {self._url}; are HTTP_PROXY and HTTPS_PROXY like http://host:port?"
            )
        except aiohttp.ClientError as error:
            return TransientError(f"no token from {self._url}: {type(error).__name__}")
        if status == 200:
            grant = _grant(body)
            return grant or TransientError(f"no token: the answer of {self._url} has none ({len(body)} bytes)")
        return self._refusal(status, retry_after, body)

    def _refusal(self, status: int, retry_after: str, body: bytes) -> RequestError:
        message = f"no token: HTTP {status} from {self._url}{self._words(body)}"
        if status in {400, 401, 403}:
            return CredentialsError(
                f"OpenF1 refused {USERNAME_VARIABLE}/{PASSWORD_VARIABLE} "
                f"(HTTP {status} from {self._url}{self._words(body)}); correct them, or unset both for the free API"
            )
        if status == 429:
            return SlowDownError(message, float(retry_after) if retry_after.strip().isdecimal() else None)
        if status >= 500 or status == 408:
            return TransientError(message)
        if status in {404, 405}:
            return GiveUpError(f"{message}; it gives no tokens: unset {USERNAME_VARIABLE} and {PASSWORD_VARIABLE}")
        return GiveUpError(message)

    def _words(self, body: bytes) -> str:
        """Return the server's own words to print after a status; none if they quote what they were given."""
        content = _parse(body)
        detail = content.get("detail") if isinstance(content, dict) else None
        if not isinstance(detail, str) or any(
            secret in detail for secret in (self._credentials.username, self._credentials.password)
        ):
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
        margin = min(_MARGIN_SECONDS, _MARGIN_SHARE * (self.until - self.since))
        return self.since <= now < self.until - margin


class _TokenFile:
    """The token on disk, and the lock for renewing it."""

    def __init__(self, path: Path, sleep: Callable[[float], Awaitable[object]]) -> None:
        self._path = path
        self._sleep = sleep
        self._complained = False

    def read(self) -> _Token | None:
        """Return the token; None if there is none, or one that others could have put there."""
        try:
            # Not waiting, as opening a pipe would.
            fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return None
        try:
            status = os.fstat(fd)
            mine = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077
            return _decode(os.read(fd, _MOST_BYTES)) if mine else None
        except OSError:
            return None
        finally:
            os.close(fd)

    def write(self, token: _Token) -> None:
        """Replace the file, which is nobody else's at any moment; the caller holds the lock."""
        fresh = self._path.with_name(f"{self._path.name}.new")
        try:
            with suppress(FileNotFoundError):  # of a process that was killed just here
                fresh.unlink()
            fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(_encode(token))
            fresh.replace(self._path)
        except OSError as error:
            self._complain(error)

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[bool]:
        """Wait for the lock and tell whether it was obtained: it is not when that takes too long, or cannot be."""
        fd = self._open_lock()
        if fd is None:
            yield False
            return
        try:
            waited = 0.0
            while not (locked := _try_lock(fd)) and waited < _LOCK_PATIENCE_SECONDS:
                await self._sleep(_LOCK_RETRY_SECONDS)
                waited += _LOCK_RETRY_SECONDS
            yield locked
        finally:
            os.close(fd)

    def _open_lock(self) -> int | None:
        path = self._path.with_name(f"{self._path.name}.lock")
        try:
            self._path.parent.parent.mkdir(parents=True, exist_ok=True)
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        except OSError as error:
            self._complain(error)
            return None

    def _complain(self, error: OSError) -> None:
        if not self._complained:
            reason = (error.strerror or type(error).__name__).lower()
            logger.warning("cannot write %s (%s): each process asks for a token of its own", self._path, reason)
        self._complained = True


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _encode(token: _Token) -> bytes:
    return json.dumps({"access_token": token.text, "since": token.since, "until": token.until}).encode()


def _decode(data: bytes) -> _Token | None:
    content = _parse(data)
    if not isinstance(content, dict):
        return None
    text, since, until = _header_text(content.get("access_token")), content.get("since"), content.get("until")
    if text is None or not isinstance(since, float) or not isinstance(until, float):
        return None
    return _Token(text, since, until)


def _grant(body: bytes) -> _Grant | None:
    content = _parse(body)
    text = _header_text(content.get("access_token")) if isinstance(content, dict) else None
    return None if text is None else _Grant(text, _seconds(content.get("expires_in")))


def _header_text(value: object) -> Secret | None:
    """Return a token, unless it cannot stand in a header."""
    return Secret(value) if isinstance(value, str) and _IN_A_HEADER.fullmatch(value) else None


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


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Return the body, or its beginning if it is longer than any token's."""
    body = bytearray()
    async for chunk in response.content.iter_chunked(_MOST_BYTES):
        body += chunk
        if len(body) > _MOST_BYTES:
            break
    return bytes(body[:_MOST_BYTES])


def _reason(error: aiohttp.ClientConnectionError) -> str:
    """Say why in words that cannot quote the request."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "the host's name cannot be resolved"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "its certificate is not trusted"
    if isinstance(error, aiohttp.ClientSSLError):
        return "TLS failed"
    if isinstance(error, aiohttp.ClientOSError) and error.errno:
        reason = os.strerror(error.errno).lower()
        return f"the proxy: {reason}" if isinstance(error, aiohttp.ClientProxyConnectionError) else reason
    return "it was closed"
