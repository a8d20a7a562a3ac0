"""The circuit breaker: whether the API is there at all, for all processes of the user together.

One request that fails says something about the request; when nothing else is answered either, it says something about
the API. Then every process waits, and one of them, which holds the role, probes from time to time whether the API is
back. The kernel ends the role when its holder dies, so another takes over.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from f1hbase.errors import SetupError
from f1hbase.sources.http.errors import AwayError, RequestError, SessionLiveError, TransientError
from f1hbase.sources.http.shared import SharedState, briefly, machine_clock, role
from f1hbase.sources.http.waits import WaitNotice

_log = logging.getLogger(__name__)

_FIRST_PROBE_SECONDS = 5.0
_PROBE_SECONDS = 60.0
_FOLLOW_SECONDS = 1.0
"""How often those who wait read whether the one who probes has been answered."""

_NOTE_SECONDS = 0.25
"""How often an answer is noted in the file; every answer would be a write more than it is worth."""


LONGEST_LIVE_SECONDS = 12 * 3600.0
"""For how long an API may say that a live session closes it. OpenF1's is closed from half an hour before a session to
half an hour after it; the longest known session, a test day, took 9 hours."""


class CircuitBreaker:
    """Lets requests through while the API answers somebody, and holds all of them while it answers nobody.

    Args:
        path: The file that all processes share which ask the same API (`state_path`); made if absent. Where it cannot
            be used, each process finds out for itself.
        probe: Sends one small request, and raises what it met.
        patience: For how long the API may be away, in seconds. A live session is waited for up to
            `LONGEST_LIVE_SECONDS`, whatever the patience.
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
        self._path = path
        self._state = SharedState(path)
        self._complained = False
        self._notice = WaitNotice(_log, clock)
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
        """Return at once while the API answers, otherwise when it does again.

        Raises:
            AwayError: If the API stays away for longer than patience lasts.
        """
        if self._read().closed:
            # Whoever noted it may be gone, so there is no reason to wait before the first probe.
            await self._stand(TransientError("the API did not answer another process"), first_pause=0.0)

    async def away(self, error: RequestError, asked: float) -> bool:
        """Return, after a request failed, whether it was the API that was away; then it is back by now.

        Args:
            error: How the request failed.
            asked: When it was sent, by `now`.

        Raises:
            AwayError: If the API stays away for longer than patience lasts.
        """
        async with self._asking:
            if asked < self._read().answered or await self._answers():
                return False
        await self._stand(error)
        return True

    async def closed(self, error: SessionLiveError) -> None:
        """Wait until the API, which a live session has closed, is open again.

        Raises:
            AwayError: If it stays closed for longer than any session lasts.
        """
        await self._stand(error)

    def now(self) -> float:
        """Tell the time by the clock of the circuit breaker."""
        return self._clock()

    async def _stand(self, error: RequestError, first_pause: float = _FIRST_PROBE_SECONDS) -> None:
        """Wait until the API answers: as the one who asks it, or as one who follows."""
        began = self._clock()
        async with self._asking:
            seen = self._read()
            if seen.answered > began and not seen.closed:
                return  # while waiting for a turn
            if not seen.closed:
                self._write(seen.answered, began)
            while True:
                with self._role() as probes:
                    if probes:
                        await self._ask(error, began, first_pause)
                        return
                self._notice.waiting(f"another process probes whether the API is back: {error}", level=logging.INFO)
                await self._sleep(_FOLLOW_SECONDS)
                seen = self._read()
                if not seen.closed:
                    self._notice.over()
                    return
                # It probes once a minute; if it has not for so long, it has been stopped (SIGSTOP, a debugger).
                if self._clock() - max(began, seen.probed) > self.patience + 2 * _PROBE_SECONDS:
                    raise AwayError(f"the API is away, and the process that probes it has stopped: {error}")

    async def _ask(self, error: RequestError, began: float, pause: float) -> None:
        """Ask until there is an answer, whatever it says."""
        live = isinstance(error, SessionLiveError)
        away_since = began
        live_since = began if live else None
        while True:
            waited = self._clock() - away_since
            if live and live_since is not None and self._clock() - live_since >= LONGEST_LIVE_SECONDS:
                raise live_too_long(error)
            if not live and waited >= self.patience:
                raise AwayError(f"the API is away: {error}")
            if not live:
                pause = min(pause, self.patience - waited)
            state = "closed while a session is live, until half an hour after it" if live else "away"
            if not live and waited >= 1.0:
                state = f"away for {waited:.0f} s"
            again = f"in {pause:.0f} s" if pause >= 1.0 else "at once"
            wait = f"wait, for {LONGEST_LIVE_SECONDS / 3600:.0f} h at the most" if live else "wait"
            _log.warning("the API is %s: %s; all requests %s, probing again %s", state, error, wait, again)
            await self._sleep(pause)
            pause = min(max(2 * pause, _FIRST_PROBE_SECONDS), _PROBE_SECONDS)
            try:
                await self._probe()
            except SessionLiveError as closed:
                error, live = closed, True
                away_since = self._clock()
                live_since = live_since or away_since
            except TransientError as failed:
                error, live = failed, False
            except AwayError:
                raise  # paused for longer than patience lasts, for one
            except RequestError:
                break  # a refusal is an answer
            else:
                break
            self._update("UPDATE host SET probed = ?", self._clock())
        self._write(self._clock(), 0.0)
        _log.info("the API answers again")

    async def _answers(self) -> bool:
        try:
            await self._probe()
        except (TransientError, SessionLiveError):
            return False
        except AwayError:
            raise
        except RequestError:
            pass
        self.answered()
        return True

    def _read(self) -> _Seen:
        try:
            host = briefly(self._state.host)
        except (OSError, SetupError) as error:
            self._complain(error)
            host = None
        if host is None:
            return _Seen()
        # A time of the future is from before the clock began anew.
        now = self._clock()
        return _Seen(*(time if time <= now else 0.0 for time in (host["answered"], host["closed"], host["probed"])))

    def _write(self, answered: float, closed: float) -> None:
        self._update("UPDATE host SET answered = ?, closed = ?, probed = 0", answered, closed)

    def _update(self, change: str, *values: float) -> None:
        def update() -> None:
            with self._state.transaction() as (db, _):
                db.execute(change, values)

        try:
            briefly(update)
        except (OSError, SetupError) as error:
            self._complain(error)

    @contextmanager
    def _role(self) -> Iterator[bool]:
        with ExitStack() as stack:
            try:
                mine = stack.enter_context(role(self._path, "probe"))
            except (OSError, SetupError) as error:
                self._complain(error)
                mine = True
            yield mine

    def _complain(self, error: Exception) -> None:
        if not self._complained and not isinstance(error, BlockingIOError):
            _log.warning("%s: each process finds out for itself whether the API is there", error)
            self._complained = True


def live_too_long(error: RequestError) -> AwayError:
    """Return the error for an API that a live session closes for longer than any lasts."""
    hours = f"{LONGEST_LIVE_SECONDS / 3600:.0f} h"
    return AwayError(f"the API has been closed for a live session for {hours}, longer than any lasts: {error}")


class _Seen(NamedTuple):
    """When the API last answered anybody, since when it is away (0 if it is not), and when it was last probed then."""

    answered: float = 0.0
    closed: float = 0.0
    probed: float = 0.0
