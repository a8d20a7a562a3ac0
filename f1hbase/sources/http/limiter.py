"""One rate limiter for all processes of the machine, exact over several sliding windows at once.

Why our own: pyrate-limiter 4.5.1 keeps its `MultiprocessBucket` in one run's `multiprocessing.Manager`, so
two runs have two budgets; its `SQLiteBucket` with a file lock is shared, but goes by the wall clock, records
the time a waiter meant to wake at and not when it did, and in a probe of 8 processes gave one of them 628 of
768 slots. `limits` needs a server to share anything; `ratemate` shares one rate among the children of one
process. In none of them did we find a way to pause everybody.

How it works: a file holds the times of the last grants, `paused_until` and the queue of waiting processes.
Each step (read, decide, write) happens under `flock`, which the kernel drops when its holder dies, and takes
some tens of microseconds. A grant is written before it is used, and nothing is reserved: a killed process
holds nothing.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import functools
import logging
import math
import os
import re
import struct
import time
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import platformdirs

from f1hbase.model.rates import MAX_LIMIT, MAX_SECONDS, Rate, next_grant, nth_grant, with_margin

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
_MAX_WAITERS = 256
# Linux stops CLOCK_MONOTONIC while the machine sleeps; elsewhere there is no CLOCK_BOOTTIME.
_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def state_path(host: str, folder: Path | None = None) -> Path:
    """Name the file that all processes share which send requests to one host.

    >>> state_path("api.openf1.org", Path("/var/lib/f1hbase"))
    PosixPath('/var/lib/f1hbase/rate-api.openf1.org')

    `host` is the API's host, with its port if it has one; `folder` is the user's state folder if not given.
    """
    folder = platformdirs.user_state_path("f1hbase") if folder is None else folder
    return folder / f"rate-{re.sub(r'[^a-z0-9.-]', '_', host.lower())}"


def machine_clock() -> float:
    """Tell the seconds since the machine started, the same for all its processes, time asleep included."""
    return time.clock_gettime(_CLOCK)


class SharedRateLimiter:
    """Lets through no more requests than allowed, counted over all processes that use the same file.

    >>> async def main() -> None:
    ...     limiter = SharedRateLimiter(parse_rates("3/s,30/m"), state_path("api.openf1.org"))
    ...     await limiter.acquire()
    ...     # send the request; on a 429: limiter.pause(retry_after)

    Processes are served first come first served, and so are the coroutines of one; a process has one place in
    the queue, however many of its coroutines wait. A limiter belongs to one event loop.

    - `rates`: the limits that hold at once; `()` for none (then only pauses hold, and nothing is counted).
      Limiters with different rates may share a file: each keeps its own, counting everyone's requests.
    - `path`: the file, made if absent; see `state_path`. It must be on a local disk.
    - `clock`: tells seconds, comparable between processes; `sleep`: waits for as many.

    Raises `OSError` if the file cannot be made or written. If it is damaged or lost later, all wait as if
    every slot had just been used.
    """

    def __init__(
        self,
        rates: Sequence[Rate],
        path: Path,
        *,
        clock: Callable[[], float] = machine_clock,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._rates = with_margin(rates)
        self._file = _StateFile(path)
        self._clock = clock
        self._sleep = sleep
        self._turn = asyncio.Lock()
        self._ticket: int | None = None
        self._own_pause = -math.inf
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(BlockingIOError), self._file.locked() as fd:
            self._file.write(fd, self._file.read(fd, clock()))

    async def acquire(self) -> float:
        """Wait until one request may be sent, and return the seconds waited."""
        start = self._clock()
        async with self._turn:
            try:
                while (delay := self._try_step()) > 0.0:
                    await self._sleep(delay)
            finally:
                self._leave()
        return self._clock() - start

    def pause(self, seconds: float) -> None:
        """Hold back every process for at least this many seconds from now; never shortens an earlier pause.

        Raises `ValueError` if `seconds` is negative or not finite.
        """
        if not (math.isfinite(seconds) and seconds >= 0.0):
            raise ValueError(f"'seconds' must be finite and not negative, not {seconds}")
        self._own_pause = max(self._own_pause, self._clock() + seconds)
        # If the file stays busy that long, the next step of this process carries the pause into it.
        for _ in range(20):
            try:
                with self._file.locked() as fd:
                    self._file.write(fd, self._read(fd, self._clock()))
                break
            except BlockingIOError:
                time.sleep(_LOCK_RETRY)
            except OSError as error:
                self._file.complain(error)
                break

    def paused_for(self) -> float:
        """Tell for how many seconds requests are still paused, by whichever process; 0 if they are not."""
        return max(0.0, max(self._own_pause, self._file.peek_pause()) - self._clock())

    def spent(self) -> list[int]:
        """Tell how many requests were sent within the window of each rate, by all processes; takes no slot."""
        state, now = self._file.peek(), self._clock()
        grants = () if state is None else state.grants
        return [sum(now - rate.seconds < grant <= now for grant in grants) for rate in self._rates]

    def _try_step(self) -> float:
        """Take a slot if one may be taken now (0.0), or tell after how many seconds to try again."""
        if not self._rates:
            return min(self.paused_for(), _HEARTBEAT)
        try:
            return self._step()
        except BlockingIOError:
            return _LOCK_RETRY
        except OSError as error:
            # A grant that cannot be written down (disk full) must not be used: others would not know of it.
            self._file.complain(error)
            return _HEARTBEAT

    def _step(self) -> float:
        with self._file.locked() as fd:
            now = self._clock()
            state = self._read(fd, now)
            ahead = [w for w in state.waiters if self._ticket is None or w.ticket < self._ticket]
            passable_at = max((w.due + _GRACE for w in ahead), default=-math.inf)
            free_at = max(next_grant(state.grants, self._rates, state.unknown_before), state.paused_until)
            if max(free_at, passable_at) <= now:
                state.grant(now)
                state.dequeue(self._ticket)
                self._file.write(fd, state)
                self._ticket = None
                return 0.0
            ticket = state.next_ticket if self._ticket is None else self._ticket
            start = max(now, state.paused_until)
            due = nth_grant(state.grants, self._rates, start, len(ahead), state.unknown_before)
            # Those ahead may have stricter rates, and be due only later.
            due = max([due, *(w.due for w in ahead)])
            state.enqueue(_Waiter(ticket, now, due))
            self._file.write(fd, state)
            self._ticket = ticket
            return min(max(min(due, max(free_at, passable_at)) - now, _POLL), _HEARTBEAT)

    def _leave(self) -> None:
        """Give up the place in the queue, if there is one: the caller was cancelled."""
        if self._ticket is None:
            return
        # If it fails, the place is passed over after its grace and forgotten after its lease.
        with suppress(OSError), self._file.locked() as fd:
            state = self._read(fd, self._clock())
            state.dequeue(self._ticket)
            self._file.write(fd, state)
        self._ticket = None

    def _read(self, fd: int, now: float) -> _State:
        """Read the state as of now: with this process's own pauses, without the waiters that are dead."""
        state = self._file.read(fd, now)
        state.paused_until = max(state.paused_until, self._own_pause)
        state.waiters = [waiter for waiter in state.waiters if now - _LEASE < waiter.seen <= now]
        return state


class _Waiter(NamedTuple):
    """A process in the queue: who, when it last looked (seconds), and when it expects its turn (seconds)."""

    ticket: int
    seen: float
    due: float


@dataclass(slots=True)
class _State:
    """What all processes know; times are seconds of the machine's clock, `grants` and `waiters` in order."""

    sequence: int = 0
    paused_until: float = -math.inf
    unknown_before: float = -math.inf
    next_ticket: int = 0
    grants: array[float] = field(default_factory=lambda: array("d"))
    waiters: list[_Waiter] = field(default_factory=list)

    def grant(self, now: float) -> None:
        self.grants.append(now)
        del self.grants[: max(bisect_left(self.grants, now - MAX_SECONDS), len(self.grants) - MAX_LIMIT)]

    def dequeue(self, ticket: int | None) -> None:
        self.waiters = [waiter for waiter in self.waiters if waiter.ticket != ticket]

    def enqueue(self, waiter: _Waiter) -> None:
        self.dequeue(waiter.ticket)
        self.waiters = sorted([*self.waiters, waiter])[:_MAX_WAITERS]
        # A ticket can be from before the file was damaged or replaced.
        self.next_ticket = max(self.next_ticket, waiter.ticket + 1)


# magic, CRC-32 of all that follows it, boot, then as in _State up to next_ticket, and the two lengths
_HEADER = struct.Struct("<8sI16sQddQII")
_CRC_END = 12
_MAGIC = b"f1hrate1"
_WAITER = struct.Struct("<Qdd")
_SLOT_BYTES = 48 * 1024  # >= header + MAX_LIMIT * 8 + _MAX_WAITERS * 24 bytes
_FILE_BYTES = 2 * _SLOT_BYTES


@functools.cache
def _boot() -> bytes:
    """Name this start of the machine in 16 bytes, since its clock begins again at each."""
    with suppress(OSError, ValueError):
        return bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", ""))[:16]
    return bytes(16)


class _StateFile:
    """The record on disk, in two slots that are written in turn.

    A process killed while it writes leaves a torn slot, whose CRC is wrong. The other one holds the state
    from before, which is then the truth: the killed process never used what it was about to be granted.

    The file is opened anew for each step, a few microseconds: a `flock` belongs to the open file, which
    children made by `fork` would share, and a file that was removed or replaced would not be noticed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._used = False
        self._complained = False

    @contextmanager
    def locked(self) -> Iterator[int]:
        """Open and lock the file; raises `BlockingIOError` if another process is at it."""
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # someone removed the folder
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # All of its room from the start: a disk that fills up later does not matter.
            if (size := os.fstat(fd).st_size) < _FILE_BYTES:
                _write_all(fd, bytes(_FILE_BYTES - size), size)
            yield fd
        finally:
            os.close(fd)

    def read(self, fd: int, now: float) -> _State:
        """Read the newest valid record; what cannot be known is taken for a window just used up."""
        newest = _newest(fd)
        if newest is None:
            if self._used or any(os.pread(fd, _FILE_BYTES, 0)):
                logger.warning("%s was damaged or replaced: waiting as if all slots were just used", self._path)
                return _State(unknown_before=now)
            return _State()
        boot, state = newest
        if boot != _boot():
            # Whatever was sent before this start of the machine was sent before its clock's zero.
            return _State(sequence=state.sequence, unknown_before=0.0)
        if max(state.unknown_before, state.grants[-1] if state.grants else -math.inf) > now:
            return _State(sequence=state.sequence, unknown_before=now)
        return state

    def write(self, fd: int, state: _State) -> None:
        """Write the record to the slot that does not hold the newest one."""
        state.sequence += 1
        _write_all(fd, _encode(state, _boot()), state.sequence % 2 * _SLOT_BYTES)
        self._used, self._complained = True, False

    def peek_pause(self) -> float:
        """Tell until when requests are paused."""
        state = self.peek()
        return -math.inf if state is None else state.paused_until

    def peek(self) -> _State | None:
        """Read the newest valid record of this boot without the lock: a slot just being written fails its CRC."""
        try:
            fd = os.open(self._path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            newest = _newest(fd)
        finally:
            os.close(fd)
        return newest[1] if newest is not None and newest[0] == _boot() else None

    def complain(self, error: OSError) -> None:
        """Say once, until it works again, that the file cannot be used."""
        if not self._complained:
            logger.warning("cannot write %s (%s): no request is sent until that works", self._path, error)
        self._complained = True


def _write_all(fd: int, data: bytes, offset: int) -> None:
    if os.pwrite(fd, data, offset) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _encode(state: _State, boot: bytes) -> bytes:
    record = bytearray(_HEADER.size)
    _HEADER.pack_into(
        record,
        0,
        _MAGIC,
        0,
        boot,
        state.sequence,
        state.paused_until,
        state.unknown_before,
        state.next_ticket,
        len(state.grants),
        len(state.waiters),
    )
    record += state.grants.tobytes()
    record += b"".join(_WAITER.pack(*waiter) for waiter in state.waiters)
    struct.pack_into("<I", record, 8, zlib.crc32(memoryview(record)[_CRC_END:]))
    return bytes(record)


def _newest(fd: int) -> tuple[bytes, _State] | None:
    slots = [slot for offset in (0, _SLOT_BYTES) if (slot := _decode(fd, offset)) is not None]
    return max(slots, key=lambda slot: slot[1].sequence, default=None)


def _decode(fd: int, offset: int) -> tuple[bytes, _State] | None:
    """Read the boot and the state in one slot; None if it is empty, torn or damaged."""
    header = os.pread(fd, _HEADER.size, offset)
    if len(header) < _HEADER.size or not header.startswith(_MAGIC):
        return None
    _, crc, boot, sequence, paused_until, unknown_before, next_ticket, grants, waiters = _HEADER.unpack(header)
    if grants > MAX_LIMIT or waiters > _MAX_WAITERS:
        return None
    body = os.pread(fd, grants * 8 + waiters * _WAITER.size, offset + _HEADER.size)
    if zlib.crc32(body, zlib.crc32(header[_CRC_END:])) != crc:
        return None
    times = array("d", body[: grants * 8])
    queue = [_Waiter(*values) for values in _WAITER.iter_unpack(body[grants * 8 :])]
    return boot, _State(sequence, paused_until, unknown_before, next_ticket, times, queue)
