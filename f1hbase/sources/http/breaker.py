"""Whether the API is there at all, for all processes of the machine together.

One request that fails says something about the request; when nothing else is answered either, it says something about
the API. Then every process waits at the gate, and one of them, the one that holds a lock, looks from time to time
whether the API is back. The kernel drops the lock when its holder dies, so another takes over.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from f1hbase.sources.http.errors import AwayError, RequestError, SessionLiveError, TransientError
from f1hbase.sources.http.limiter import machine_clock

_log = logging.getLogger(__name__)

_FIRST_LOOK_SECONDS = 5.0
_LOOK_SECONDS = 60.0
_FOLLOW_SECONDS = 1.0
"""How often those who wait look whether the one who asks has been answered."""

_NOTE_SECONDS = 0.25
"""How often an answer is noted in the file; every answer would be a write more than it is worth."""

_FORMAT = struct.Struct("<dd")  # the time of the last answer; since when the gate is closed, or 0


class CircuitBreaker:
    """Lets requests through while the API answers somebody, and holds all of them while it answers nobody.

    Args:
        path: A file that all processes share which ask the same API; made if absent.
        probe: Sends one small request, and raises what it met.
        patience: For how long the API may be away, in seconds. A live session is waited for however long it takes.
        clock: Tells seconds, comparable between processes; sleep: waits for as many.
    """

    def __init__(
        self,
        path: Path,
        probe: Callable[[], Awaitable[object]],
        patience: float,
        *,
        clock: Callable[[], float] = machine_clock,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._probe = probe
        self.patience = patience
        self._clock = clock
        self._sleep = sleep
        self._noted = 0.0
        self._asking = asyncio.Lock()

    def answered(self) -> None:
        """Note that the API has answered a request, whatever it said."""
        now = self._clock()
        if now - self._noted >= _NOTE_SECONDS:
            self._write(now, 0.0)
            self._noted = now

    async def wait(self) -> None:
        """Return at once while the gate is open, otherwise when it is open again.

        Raises:
            AwayError: If the API stays away for longer than patience lasts.
        """
        _, closed = self._read()
        if closed:
            # Whoever closed it may be gone, so there is no reason to wait before the first look.
            await self._stand(TransientError("the API did not answer another process"), first_look=0.0)

    async def away(self, error: RequestError, asked: float) -> bool:
        """Return, after a request failed, whether it was the API that was away; then it is back by now.

        Args:
            error: How the request failed.
            asked: When it was sent, by the gate's clock.

        Raises:
            AwayError: If the API stays away for longer than patience lasts.
        """
        async with self._asking:
            answered, _ = self._read()
            # A clock that has begun anew since the file was written makes no answer of the future count.
            if asked < answered <= self._clock() or await self._answers():
                return False
        await self._stand(error)
        return True

    async def closed(self, error: SessionLiveError) -> None:
        """Wait until the API, which a live session has closed, is open again."""
        await self._stand(error)

    def now(self) -> float:
        """Tell the time by the gate's clock."""
        return self._clock()

    async def _stand(self, error: RequestError, first_look: float = _FIRST_LOOK_SECONDS) -> None:
        """Wait until the API answers: as the one who asks it, or as one who looks whether it has answered that one."""
        began = self._clock()
        async with self._asking:
            answered, closed = self._read()
            if answered > began and not closed:
                return  # while waiting for a turn
            if not closed:
                self._write(answered, began)
            while True:
                with self._lock() as asks:
                    if asks:
                        await self._ask(error, began, first_look)
                        return
                await self._sleep(_FOLLOW_SECONDS)
                _, closed = self._read()
                if not closed:
                    return

    async def _ask(self, error: RequestError, began: float, pause: float) -> None:
        """Ask until there is an answer, whatever it says."""
        live = isinstance(error, SessionLiveError)
        away_since = began
        while True:
            waited = self._clock() - away_since
            if not live and waited >= self.patience:
                raise AwayError(f"the API is away: {error}")
            if not live:
                pause = min(pause, self.patience - waited)
            state = (
                "closed while a session is live, until half an hour after it" if live else f"away for {waited:.0f} s"
            )
            _log.warning("the API is %s: %s; all requests wait, looking again in %.0f s", state, error, pause)
            await self._sleep(pause)
            pause = min(max(2 * pause, _FIRST_LOOK_SECONDS), _LOOK_SECONDS)
            try:
                await self._probe()
            except SessionLiveError as closed:
                error, live = closed, True
                away_since = self._clock()
            except TransientError as failed:
                error, live = failed, False
            except RequestError:
                break  # a refusal is an answer
            else:
                break
        self._write(self._clock(), 0.0)
        _log.info("the API answers again")

    async def _answers(self) -> bool:
        try:
            await self._probe()
        except (TransientError, SessionLiveError):
            return False
        except RequestError:
            pass
        self.answered()
        return True

    def _read(self) -> tuple[float, float]:
        try:
            answered, closed = _FORMAT.unpack(self._path.read_bytes())
        except (OSError, struct.error):
            return 0.0, 0.0
        # Times of the future are from before the machine was started.
        now = self._clock()
        return (answered if answered <= now else 0.0), (closed if closed <= now else 0.0)

    def _write(self, answered: float, closed: float) -> None:
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.pwrite(fd, _FORMAT.pack(answered, closed), 0)
                os.ftruncate(fd, _FORMAT.size)
            finally:
                os.close(fd)
        except OSError as error:
            # Without the file each process finds out for itself.
            _log.debug("cannot write %s: %s", self._path, error.strerror)

    @contextmanager
    def _lock(self) -> Iterator[bool]:
        fd = os.open(self._path.with_name(f"{self._path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(fd)
