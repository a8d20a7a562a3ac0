"""One rate limiter for all processes of the user, exact over several sliding windows at once.

Why our own: pyrate-limiter 4.5.1 keeps its `MultiprocessBucket` in one run's `multiprocessing.Manager`, so
two runs have two budgets; its `SQLiteBucket` with a file lock is shared, but goes by the wall clock, records
the time a waiter meant to wake at and not when it did, and in a probe of 8 processes gave one of them 628 of
768 slots. `limits` needs a server to share anything; `ratemate` shares one rate among the children of one
process. In none of them did we find a way to pause everybody.

How it works: a database (see `shared`) holds the times of the last grants, until when requests are paused and the
queue of waiting processes. Each step (read, decide, write) is one transaction. A grant is written before it is used,
and nothing is reserved: a killed process holds nothing.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import socket
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from f1hbase.model.rates import MAX_LIMIT, MAX_SECONDS, ByteRate, Rate, next_grant, nth_grant, with_margin
from f1hbase.sources.http.errors import AwayError
from f1hbase.sources.http.shared import SharedState, briefly, machine_clock, state_path
from f1hbase.sources.http.waits import WaitNotice, clock_time

__all__ = ["PauseInfo", "SharedRateLimiter", "end_pause", "machine_clock", "pause_info", "state_path"]

logger = logging.getLogger(__name__)

# The event loop never waits for the lock: its holder may have been stopped (SIGSTOP, a debugger).
_LOCK_RETRY = 0.001
# A process whose turn has come and which has not taken it for this long is passed over, but keeps its place.
_GRACE = 0.025
# A waiting process looks at the file this often, for pauses and for places that have become free ...
_HEARTBEAT = 1.0
# ... and one that has not for this long is taken for dead.
_LEASE = 3.0
# While one ahead of us is due but has not moved yet, and is given its grace.
_POLL = 0.002
# What no window can reach any more is deleted once in so many grants or answers.
_PRUNE_EVERY = 256

LONGEST_PAUSE_SECONDS = 1800.0
"""The longest pause that one answer can bring unless who asks knows better: the default of `--patience`."""


class _Wait(NamedTuple):
    """For how many seconds to wait before the next try, for what, and until when, in seconds from now."""

    seconds: float
    what: str
    until: float | None = None
    level: int = logging.WARNING


class SharedRateLimiter:
    """Lets through no more requests than allowed, counted over all processes that use the same file.

    >>> async def main() -> None:
    ...     limiter = SharedRateLimiter(parse_rates("3/s,30/m"), state_path("api.openf1.org"))
    ...     await limiter.acquire()
    ...     # send the request; on a 429: limiter.pause(seconds, "HTTP 429"); on an answer: limiter.spend(len(body))

    Processes are served first come first served, and so are the coroutines of one; a process has one place in
    the queue, however many of its coroutines wait. A limiter belongs to one event loop.

    - `rates`: the limits that hold at once; `()` for none (then only pauses hold, and nothing is counted).
      Limiters with different rates may share a file: each keeps its own, counting everyone's requests.
    - `path`: the file, made if absent; see `state_path`. It must be on a local disk.
    - `byte_rates`: how many bytes may come; a request waits while the answers of a window have used them up. What
      is under way is not known yet, so a window may be exceeded by the answers to requests sent before.
    - `patience`: for how many seconds a pause may last before `acquire` raises; None for however long.
    - `clock`: tells seconds, comparable between processes; `sleep`: waits for as many.

    Raises `OSError` if the file cannot be made or written, `SetupError` if it is not the user's own. If it is
    damaged or lost later, all wait as if every slot had just been used.
    """

    def __init__(
        self,
        rates: Sequence[Rate],
        path: Path,
        *,
        byte_rates: Sequence[ByteRate] = (),
        patience: float | None = None,
        clock: Callable[[], float] = machine_clock,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._rates = with_margin(rates)
        self._most = max((rate.limit for rate in self._rates), default=1)
        self._byte_rates = tuple(byte_rates)
        self._patience = patience
        self._path = path
        self._state = SharedState(path)
        self._clock = clock
        self._sleep = sleep
        self._turn = asyncio.Lock()
        self._ticket: int | None = None
        self._own_due = -math.inf
        self._pending: _Pause | None = None
        self._notice = WaitNotice(logger, clock)
        self._complained = False
        with suppress(BlockingIOError):
            briefly(self._begin)

    async def acquire(self) -> float:
        """Wait until one request may be sent, and return the seconds waited.

        Raises:
            AwayError: If requests are paused for longer than patience lasts.
        """
        start = self._clock()
        async with self._turn:
            try:
                while (wait := self._try_step()) is not None:
                    self._notice.waiting(wait.what, wait.until, level=wait.level)
                    await self._sleep(wait.seconds)
            finally:
                self._leave()
            self._notice.over()
        return self._clock() - start

    def pause(self, seconds: float, reason: str = "", *, bound: float = LONGEST_PAUSE_SECONDS) -> None:
        """Hold back every process for at least this many seconds from now; never shortens an earlier pause.

        Args:
            seconds: For how long.
            reason: What the API said, on one line; later runs show it.
            bound: The most seconds that it may be, such as the run's patience, whatever `seconds` is.

        Raises:
            ValueError: If `seconds` is negative or not finite.
        """
        if not (math.isfinite(seconds) and seconds >= 0.0):
            raise ValueError(f"'seconds' must be finite and not negative, not {seconds}")
        until = self._clock() + min(seconds, bound)
        if self._pending is None or until > self._pending.until:
            self._pending = _Pause(until, time.time(), _this_process(), reason)
        # If the file stays busy, the next step of this process carries the pause into it.
        try:
            with suppress(BlockingIOError):
                briefly(self._begin)
        except OSError as error:
            self._complain(error)

    def paused_for(self) -> float:
        """Tell for how many seconds requests are still paused, by whichever process; 0 if they are not."""
        return self._pause_left()[0]

    def spend(self, size: int) -> None:
        """Note an answer of so many bytes, for the byte budgets of all processes."""
        try:
            briefly(lambda: self._spend(size))
        except OSError as error:
            logger.debug("cannot note %d bytes in %s: %s", size, self._path, error)

    def spent(self) -> list[int]:
        """Tell how many requests were sent within the window of each rate, by all processes; takes no slot.

        None is told of while the file cannot be read.
        """
        now = self._clock()
        query = "SELECT count(*) AS n FROM grants WHERE at > ? AND at <= ?"
        try:
            counts = [
                briefly(partial(self._state.rows, query, now - rate.seconds, now))[0]["n"] for rate in self._rates
            ]
        except OSError as error:
            logger.debug("cannot read %s: %s", self._path, error)
            return [0] * len(self._rates)
        return counts

    def _begin(self) -> None:
        with self._state.transaction() as (db, host):
            self._settle(db, host, self._clock())

    def _spend(self, size: int) -> None:
        with self._state.transaction() as (db, _):
            now = self._clock()
            row = db.execute("INSERT INTO received (at, bytes) VALUES (?, ?)", (now, size)).lastrowid or 0
            if row % _PRUNE_EVERY == 0:
                db.execute("DELETE FROM received WHERE at < ?", (now - MAX_SECONDS,))

    def _try_step(self) -> _Wait | None:
        """Take a slot if one may be taken now (None), or tell what to wait for."""
        try:
            wait = self._step() if self._rates or self._byte_rates else self._step_without_rates()
        except BlockingIOError:
            return _Wait(_LOCK_RETRY, f"another process holds the lock of {self._path}; has it been stopped?")
        except OSError as error:
            # A grant that cannot be written down (disk full) must not be used: others would not know of it.
            self._complain(error)
            return _Wait(_HEARTBEAT, f"{self._path} cannot be written ({error.strerror}), and no request is sent")
        self._complained = False
        return wait

    def _step_without_rates(self) -> _Wait | None:
        if self._pending is not None:
            self._begin()
        left, why = self._pause_left()
        return None if left <= 0.0 else self._paused(left, why)

    def _step(self) -> _Wait | None:
        with self._state.transaction() as (db, host):
            now = self._clock()
            paused, unknown = self._settle(db, host, now)
            grants = [row["at"] for row in db.execute("SELECT at FROM grants ORDER BY id DESC LIMIT ?", (self._most,))]
            grants.reverse()
            db.execute("DELETE FROM waiters WHERE seen <= ? OR seen > ?", (now - _LEASE, now))
            ahead = [
                row["due"]
                for row in db.execute(
                    "SELECT due FROM waiters WHERE ticket < ?", (self._ticket or host["next_ticket"],)
                )
            ]
            passable_at = max((due + _GRACE for due in ahead), default=-math.inf)
            enough_bytes_at = max((self._bytes_free_at(db, rate, now) for rate in self._byte_rates), default=-math.inf)
            slot_at = next_grant(grants, self._rates, unknown)
            free_at = max(slot_at, paused.until, enough_bytes_at)
            if max(free_at, passable_at) <= now:
                self._grant(db, now)
                return None
            self._enqueue(db, host, now, self._due(grants, max(now, paused.until, enough_bytes_at), ahead, unknown))
            seconds = min(max(min(self._own_due, max(free_at, passable_at)) - now, _POLL), _HEARTBEAT)
            if paused.until > now and paused.until >= slot_at:
                return self._paused(paused.until - now, paused.text())._replace(seconds=seconds)
            if unknown > now - MAX_SECONDS and slot_at == max(rate.seconds for rate in self._rates) + unknown:
                what = f"what was sent before is not known, as {self._path} was made anew or the clock went back"
                return _Wait(seconds, what, slot_at - now)
            return _Wait(seconds, "the limits of the API are used up", max(free_at, self._own_due) - now, logging.DEBUG)

    def _settle(self, db: sqlite3.Connection, host: sqlite3.Row, now: float) -> tuple[_Pause, float]:
        """Bring the state up to now, own pause included; return the pause, and before when grants are unknown."""
        unknown = float(host["unknown_before"])
        newest = db.execute("SELECT at FROM grants ORDER BY id DESC LIMIT 1").fetchone()
        if host["lost"] or max(unknown, newest["at"] if newest else -math.inf) > now:
            if not host["lost"]:
                logger.warning("the clock went back: requests wait as if every slot had just been used")
            unknown = now
            db.execute("DELETE FROM grants")
            db.execute("DELETE FROM received WHERE at > ?", (now,))
            db.execute("UPDATE host SET lost = 0, unknown_before = ?", (now,))
        paused = _Pause.of(host)
        if self._pending is not None:
            if self._pending.until > paused.until:
                paused = self._pending
                db.execute(
                    "UPDATE host SET paused_until = ?, paused_at = ?, paused_by = ?, paused_why = ?",
                    (paused.until, paused.at, paused.by, paused.why),
                )
            # Forgotten once it is shared, so that the user can end it for all.
            self._pending = None
        return paused, unknown

    def _grant(self, db: sqlite3.Connection, now: float) -> None:
        row = db.execute("INSERT INTO grants (at) VALUES (?)", (now,)).lastrowid or 0
        if row % _PRUNE_EVERY == 0:
            db.execute("DELETE FROM grants WHERE at < ? OR id <= ?", (now - MAX_SECONDS, row - MAX_LIMIT))
        if self._ticket is not None:
            db.execute("DELETE FROM waiters WHERE ticket = ?", (self._ticket,))
            self._ticket = None

    def _due(self, grants: Sequence[float], start: float, ahead: Sequence[float], unknown: float) -> float:
        due = nth_grant(grants, self._rates, start, len(ahead), unknown)
        # Those ahead may have stricter rates, and be due only later.
        return max([due, *ahead])

    def _enqueue(self, db: sqlite3.Connection, host: sqlite3.Row, now: float, due: float) -> None:
        self._own_due = due
        ticket = self._ticket
        if ticket is None or ticket >= host["next_ticket"]:  # the latter from before the file was made anew
            ticket = host["next_ticket"]
            db.execute("UPDATE host SET next_ticket = ?", (ticket + 1,))
        db.execute("INSERT OR REPLACE INTO waiters (ticket, seen, due) VALUES (?, ?, ?)", (ticket, now, due))
        self._ticket = ticket

    def _bytes_free_at(self, db: sqlite3.Connection, rate: ByteRate, now: float) -> float:
        """Tell when the answers of the last window leave room within a byte budget."""
        total = 0
        query = "SELECT at, bytes FROM received WHERE at > ? ORDER BY id DESC"
        for row in db.execute(query, (now - rate.seconds,)):
            total += row["bytes"]
            if total >= rate.bytes:
                return float(row["at"]) + rate.seconds
        return -math.inf

    def _pause_left(self) -> tuple[float, str]:
        pause = self._pending or _Pause()
        with suppress(OSError):
            host = briefly(self._state.host)
            if host is not None:
                pause = max(pause, _Pause.of(host), key=lambda each: each.until)
        return max(0.0, pause.until - self._clock()), pause.text()

    def _paused(self, left: float, why: str) -> _Wait:
        if self._patience is not None and left > self._patience:
            raise AwayError(f"requests are paused until {clock_time(left)}, longer than patience lasts, {why}")
        return _Wait(min(left, _HEARTBEAT), f"requests are paused {why}", left)

    def _leave(self) -> None:
        """Give up the place in the queue, if there is one: the caller was cancelled."""
        if self._ticket is None:
            return
        # If it fails, the place is passed over after its grace and forgotten after its lease.
        with suppress(OSError), self._state.transaction() as (db, _):
            db.execute("DELETE FROM waiters WHERE ticket = ?", (self._ticket,))
        self._ticket = None

    def _complain(self, error: OSError) -> None:
        """Say once, until it works again, that the file cannot be used."""
        if not self._complained:
            logger.warning("cannot write %s (%s): no request is sent until that works", self._path, error.strerror)
        self._complained = True


@dataclass(frozen=True, slots=True)
class _Pause:
    """Until when, by the machine's clock; when it was set, in seconds since 1970; by whom and why."""

    until: float = 0.0
    at: float = 0.0
    by: str = ""
    why: str = ""

    @classmethod
    def of(cls, host: Any) -> _Pause:
        return cls(host["paused_until"], host["paused_at"], host["paused_by"], host["paused_why"])

    def text(self) -> str:
        since = f"{datetime.fromtimestamp(self.at, UTC):%Y-%m-%d %H:%M:%S} UTC"
        return f"by {self.by or 'a process'} since {since}: {self.why or 'no reason given'}"


@dataclass(frozen=True, slots=True)
class PauseInfo:
    """A pause of all requests to a host: since and until when (UTC), which process set it, and why."""

    since: datetime
    until: datetime
    by: str
    reason: str

    def __str__(self) -> str:
        return (
            f"paused until {self.until:%Y-%m-%d %H:%M:%S} UTC by {self.by} since {self.since:%H:%M:%S}: {self.reason}"
        )


def pause_info(path: Path, *, clock: Callable[[], float] = machine_clock) -> PauseInfo | None:
    """Return the pause that is in the file of a host (`state_path`) now; None if there is none.

    Raises:
        OSError, SetupError: As `SharedRateLimiter` does.
    """
    if not os.path.lexists(path):
        return None
    state = SharedState(path)
    host = briefly(state.host)
    state.close()
    left = 0.0 if host is None else host["paused_until"] - clock()
    if host is None or left <= 0.0:
        return None
    pause = _Pause.of(host)
    until = datetime.now(UTC) + timedelta(seconds=left)
    return PauseInfo(datetime.fromtimestamp(pause.at, UTC), until, pause.by, pause.why)


def end_pause(path: Path) -> bool:
    """End the pause in the file of a host, for all processes; tell whether there was a file.

    Raises:
        OSError, SetupError: As `SharedRateLimiter` does.
    """
    if not os.path.lexists(path):
        return False
    state = SharedState(path)

    def end() -> None:
        with state.transaction() as (db, _):
            db.execute("UPDATE host SET paused_until = 0")

    briefly(end)
    state.close()
    return True


def _this_process() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"
