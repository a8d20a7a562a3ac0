"""Who is loading a meeting now: a row of `f1_reports` for each, which runs out by itself when its holder is gone.

Two loaders at once on the same tables would do no harm, as every put can be repeated; a lease spares them from asking
the API for the same twice, and keeps a rollback from a meeting that is being loaded. A worker that slept past its
lease is fenced off by its epoch instead (`f1hbase.state.hbase.epochs`).
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

from f1hbase.model.times import parse_time
from f1hbase.model.units import SEPARATOR, Scope
from f1hbase.state.base import LEASE_SECONDS, Epochs
from f1hbase.state.hbase.cells import EPOCHS_CELL, LEASE, LEASE_CELL, lease_row
from f1hbase.state.hbase.reports import parse_epochs
from f1hbase.stores.hbase.connector import HBaseConnector

_log = logging.getLogger(__name__)

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE = Path("/proc/self/ns/pid")


def this_machine() -> str:
    """Return what tells apart where process numbers mean the same: this start of a kernel, and the PID namespace in it.

    A host name does not: two containers may have one name and each a process 1. Where there is no `/proc`, it is the
    host name all the same.
    """
    try:
        return f"{_BOOT_ID.read_text('ascii').strip()}/{_PID_NAMESPACE.stat().st_ino}"
    except (OSError, UnicodeDecodeError):
        return socket.gethostname()


@dataclass(frozen=True, slots=True)
class Holder:
    """A process: its number, and when it began, so that another one that got its number later is not taken for it."""

    pid: int
    began: float

    @classmethod
    def of(cls, pid: int) -> Holder:
        """Describe a process of this machine."""
        return cls(pid, psutil.Process(pid).create_time())

    def is_alive(self) -> bool:
        """Return whether it runs on this machine."""
        try:
            process = psutil.Process(self.pid)
            # Its beginning is worked out from the clock, which may have been set by a little since.
            same = abs(process.create_time() - self.began) < 2.0
            return same and process.status() != psutil.STATUS_ZOMBIE
        except (psutil.NoSuchProcess, ValueError):  # nor can there be a process of a negative number
            return False
        except psutil.AccessDenied:
            return True


@dataclass(frozen=True, slots=True)
class Lease:
    """That a run loads a meeting.

    Attributes:
        run: The run.
        host: The name of the host it runs on, for people.
        holders: Its process, and the worker that loads the meeting; nobody once it was given back.
        until: When the lease runs out.
        machine: Where the numbers of its processes mean something, see `this_machine`; empty in leases of earlier
            versions, which knew the host name alone.
    """

    run: str
    host: str
    holders: tuple[Holder, ...]
    until: datetime
    machine: str = ""

    @property
    def is_of_this_machine(self) -> bool:
        """Whether its processes can be looked for here."""
        return self.machine == this_machine() if self.machine else self.host == socket.gethostname()

    def is_current(self, now: datetime) -> bool:
        """Return whether somebody holds it: on this machine a process that lives, however long HBase was away."""
        lives = self.is_of_this_machine and any(holder.is_alive() for holder in self.holders)
        if self.machine and self.is_of_this_machine:
            return lives
        # One of an earlier version may be another container's of the same host name: that none lives here proves
        # nothing.
        return lives or now < self.until

    def __str__(self) -> str:
        process = f"process {self.holders[0].pid} on " if self.holders else ""
        return f"run {self.run} ({process}{self.host})"


class HBaseLeases:
    """The leases of one run; takes, renews and gives them back.

    Args:
        patient: Takes leases; used by the calling thread alone.
        impatient: Renews them and gives them back, which must not keep anybody waiting; used by one thread at a time.
        table: The name of the table of reports.
        run_id: This run.
        clock: Says what time it is.
        seconds: How long a lease lasts after it was last renewed.
    """

    def __init__(
        self,
        patient: HBaseConnector,
        impatient: HBaseConnector,
        table: str,
        run_id: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        seconds: float = LEASE_SECONDS,
    ) -> None:
        self._patient = patient
        self._impatient = impatient
        self._table = table
        self._run_id = run_id
        self._clock = clock
        self._seconds = seconds
        self._me = Holder.of(os.getpid())
        self._lock = threading.Lock()
        self._held: dict[bytes, Lease] = {}
        self._epochs: dict[bytes, Epochs] = {}

    def take(self, meeting: Scope) -> str | None:
        """Take the lease of a meeting.

        Returns:
            Who else holds it, for people; None when it is ours now.

        Raises:
            UnreachableError: If HBase is away longer than patience lasts.
        """
        other = self.take_or_see(meeting)
        return None if other is None else str(other)

    def take_or_see(self, meeting: Scope) -> Lease | None:
        """Take the lease of a meeting, or return the one that somebody else has.

        Raises:
            UnreachableError: If HBase is away longer than patience lasts.
        """
        row = lease_row(meeting)
        while True:
            before = self._patient.get(self._table, row, LEASE_CELL)
            lease = None if before is None else _parse(before)
            if lease is not None and lease.run != self._run_id and lease.is_current(self._clock()):
                return lease
            mine = Lease(self._run_id, socket.gethostname(), (self._me,), self._end(), this_machine())
            if self._patient.put_if(self._table, row, LEASE_CELL, before, _text(mine)):
                epochs = parse_epochs(self._patient.get(self._table, row, EPOCHS_CELL))
                with self._lock:
                    self._held[row] = mine
                    self._epochs[row] = epochs
                return None

    def epochs(self, meeting: Scope) -> Epochs:
        """Return the epochs of a meeting, as they were when its lease was taken."""
        return self._epochs[lease_row(meeting)]

    def name_worker(self, meeting: Scope, pid: int) -> None:
        """Say which process loads the meeting, so that it counts as held while that one lives."""
        row = lease_row(meeting)
        with self._lock:
            lease = self._held.get(row)
            if lease is None:
                return  # lost meanwhile, and told so
            try:
                worker = Holder.of(pid)
            except psutil.NoSuchProcess:
                return
            named = replace(lease, holders=(self._me, worker), until=self._end())
            self._renew(row, named)

    def give_back(self, meeting: Scope) -> None:
        """Let others load the meeting; a lease that HBase cannot be told of runs out by itself."""
        row = lease_row(meeting)
        with self._lock:
            lease = self._held.pop(row, None)
            if lease is not None:
                # Not deleted: between reading and deleting somebody else may have taken it.
                self._put_over(row, lease, replace(lease, holders=(), until=self._clock()))

    def lost(self, meeting: Scope) -> bool:
        """Return whether a lease that was taken is held no longer, because it ran out and somebody else has it."""
        return lease_row(meeting) not in self._held

    def renew(self) -> None:
        """Make all leases that are held last longer; any thread may call it."""
        with self._lock:
            rows = list(self._held)
        for row in rows:
            with self._lock:
                if row in self._held:
                    self._renew(row, replace(self._held[row], until=self._end()))

    def _renew(self, row: bytes, lease: Lease) -> None:
        other = self._put_over(row, self._held[row], lease)
        if other is None:
            self._held[row] = lease
            return
        meeting = row.decode().rpartition(SEPARATOR)[2]
        _log.warning("the lease of meeting %s ran out, and %s has it now; it is left to that one", meeting, other)
        del self._held[row]

    def _put_over(self, row: bytes, held: Lease, lease: Lease) -> str | None:
        """Put a lease in the place of the one that is held; return who has the meeting instead, if it is lost."""
        expected = _text(held)
        while not self._impatient.put_if(self._table, row, LEASE_CELL, expected, _text(lease)):
            now = self._impatient.get(self._table, row, LEASE_CELL)
            other = None if now is None else _parse(now)
            if now is None or other is None or other.run != self._run_id:
                return str(other or "nobody")
            expected = now  # an earlier renewal was done, and only its answer lost
        return None

    def _end(self) -> datetime:
        return self._clock() + timedelta(seconds=self._seconds)


def _text(lease: Lease) -> bytes:
    content = asdict(lease) | {"until": lease.until.isoformat()}
    return json.dumps(content, separators=(",", ":")).encode()


def _parse(text: bytes) -> Lease | None:
    try:
        content = json.loads(text)
        holders = tuple(Holder(int(one["pid"]), float(one["began"])) for one in content["holders"])
        until = parse_time(content["until"])
        return Lease(str(content["run"]), str(content["host"]), holders, until, str(content.get("machine", "")))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        # A lease that nobody understands must not lock anyone out.
        _log.warning("a lease cannot be read (%s) and is taken over: %.200r", error, text)
        return None


def ran_out_elsewhere(text: bytes | None) -> bool:
    """Return whether a lease of another machine ran out without having been given back: its holder may still live."""
    lease = None if text is None else _parse(text)
    return lease is not None and bool(lease.holders) and not lease.is_of_this_machine


def living_runs(connector: HBaseConnector, table: str, now: datetime | None = None) -> set[str]:
    """Return the runs that hold a lease now (or at a time)."""
    moment = now or datetime.now(UTC)
    found = (_parse(cells[LEASE_CELL]) for _, cells in connector.scan(table, LEASE, columns=[LEASE_CELL]))
    return {lease.run for lease in found if lease is not None and lease.is_current(moment)}


def lease_of(connector: HBaseConnector, table: str, meeting: Scope, now: datetime | None = None) -> Lease | None:
    """Return who loads a meeting now (or at a time), if anybody does."""
    text = connector.get(table, lease_row(meeting), LEASE_CELL)
    lease = None if text is None else _parse(text)
    return lease if lease is not None and lease.is_current(now or datetime.now(UTC)) else None
