"""The leases of a landing zone: who loads a meeting now, and how often its sessions were rolled back."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil

from f1hbase.model.times import parse_time
from f1hbase.model.units import Scope
from f1hbase.state.base import LEASE_SECONDS, Epochs
from f1hbase.state.holders import Holder
from f1hbase.stores.files.lease_objects import LeaseObject, advance, latest
from f1hbase.stores.files.objects import Objects

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lease:
    """That a run loads a meeting.

    Attributes:
        run: The run.
        host: The name of the host it runs on, for people.
        holders: Its process, and the worker that loads the meeting; nobody once it was given back.
        until: When it runs out, by the clock of whoever renewed it.
    """

    run: str
    host: str
    holders: tuple[Holder, ...]
    until: datetime

    @classmethod
    def parse(cls, content: dict[str, Any]) -> Lease | None:
        """Return the lease of a lease object; None where it holds none that can be understood."""
        try:
            holders = tuple(Holder.parse(one) for one in content["holders"])
            return cls(str(content["run"]), str(content["host"]), holders, parse_time(content["until"]))
        except (KeyError, TypeError, ValueError, OverflowError):
            return None

    def is_current(self, now: datetime) -> bool:
        """Return whether somebody holds it: of processes that can be seen one that lives, however late it renews."""
        if not self.holders:
            return False
        if all(holder.is_here for holder in self.holders):
            return any(holder.is_alive() for holder in self.holders)
        return now < self.until

    def __str__(self) -> str:
        process = f"process {self.holders[0].pid} on " if self.holders else ""
        return f"run {self.run} ({process}{self.host})"


class FilesLeases:
    """The leases of one run; takes, renews and gives them back.

    Args:
        patient: Where they are; used to take them.
        impatient: The same place, without patience: renews them and gives them back, which keeps nobody waiting.
        run_id: This run.
        clock: Says what time it is.
    """

    def __init__(
        self,
        patient: Objects,
        impatient: Objects,
        run_id: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._patient = patient
        self._impatient = impatient
        self._run_id = run_id
        self._clock = clock
        self._me = Holder.of()
        self._lock = threading.Lock()
        self._held: dict[str, LeaseObject] = {}
        self._meetings: dict[str, Scope] = {}

    def take(self, meeting: Scope) -> str | None:
        """Take the lease of a meeting; return who else holds it, None when it is ours now."""
        while True:
            before = latest(self._patient, meeting)
            lease = Lease.parse(before.content)
            if lease is not None and lease.run != self._run_id and lease.is_current(self._clock()):
                return str(lease)
            mine = Lease(self._run_id, socket.gethostname(), (self._me,), self._end())
            taken = advance(self._patient, meeting, before, _content(mine, before))
            if taken is not None:
                with self._lock:
                    self._held[meeting.prefix] = taken
                    self._meetings[meeting.prefix] = meeting
                return None

    def epochs(self, meeting: Scope) -> Epochs:
        """Return the epochs of a meeting whose lease is held, as they were when it was taken."""
        return epochs_of(self._held[meeting.prefix])

    def raise_epochs(self, meeting: Scope, keys: Collection[str], deleted_at: int) -> Epochs:
        """Make everything that counts of some sessions count no more; the lease of their meeting is held.

        Args:
            meeting: The meeting.
            keys: See `f1hbase.state.base.Epochs.by_session`.
            deleted_at: When, in milliseconds since 1970.

        Raises:
            KeyError: If the lease is not held, or no longer.
        """
        with self._lock:
            held = self._held[meeting.prefix]
            epochs = epochs_of(held).raised(keys, deleted_at)
            content = held.content | {"epochs": dict(epochs.by_session), "deleted_at": epochs.deleted_at}
            raised = advance(self._patient, meeting, held, content)
            if raised is None:
                del self._held[meeting.prefix]
                raise KeyError(meeting.prefix)
            self._held[meeting.prefix] = raised
            return epochs_of(raised)

    def name_worker(self, meeting: Scope, pid: int) -> None:
        """Say which process loads the meeting, so that it counts as held while that one lives."""
        try:
            worker = Holder.of(pid)
        except psutil.NoSuchProcess:
            return
        with self._lock:
            if meeting.prefix in self._held:
                self._renew(meeting, holders=(self._me, worker))

    def give_back(self, meeting: Scope) -> None:
        """Let others load the meeting; a lease that the store cannot be told of runs out by itself."""
        with self._lock:
            held = self._held.pop(meeting.prefix, None)
            lease = None if held is None else Lease.parse(held.content)
            if held is not None and lease is not None:
                free = replace(lease, holders=(), until=self._clock())
                advance(self._impatient, meeting, held, _content(free, held))

    def lost(self, meeting: Scope) -> bool:
        """Return whether a lease that was taken is held no longer, because it ran out and somebody else has it."""
        return meeting.prefix not in self._held

    def renew(self) -> None:
        """Make all leases that are held last longer; any thread may call it."""
        with self._lock:
            meetings = [self._meetings[prefix] for prefix in self._held]
        for meeting in meetings:
            with self._lock:
                if meeting.prefix in self._held:
                    self._renew(meeting)

    def _renew(self, meeting: Scope, holders: tuple[Holder, ...] | None = None) -> None:
        held = self._held[meeting.prefix]
        while True:
            lease = Lease.parse(held.content)
            if lease is None:
                return
            longer = replace(lease, until=self._end(), holders=lease.holders if holders is None else holders)
            renewed = advance(self._impatient, meeting, held, _content(longer, held))
            if renewed is not None:
                self._held[meeting.prefix] = renewed
                return
            now = latest(self._impatient, meeting)
            other = Lease.parse(now.content)
            if other is None or other.run != self._run_id or now.number <= held.number:
                _log.warning(
                    "the lease of meeting %d ran out, and %s has it now; it is left to that one",
                    meeting.meeting_key,
                    other or "nobody",
                )
                del self._held[meeting.prefix]
                return
            held = now  # an earlier renewal was done, and only its answer lost

    def _end(self) -> datetime:
        return self._clock() + timedelta(seconds=LEASE_SECONDS)


def holder_of(objects: Objects, meeting: Scope, now: datetime) -> str | None:
    """Return who loads a meeting now, for people; None if nobody does."""
    lease = Lease.parse(latest(objects, meeting).content)
    return str(lease) if lease is not None and lease.is_current(now) else None


def ran_out_elsewhere(lease: LeaseObject, now: datetime) -> bool:
    """Return whether somebody held a lease who cannot be seen from here, and who did not renew it in time."""
    known = Lease.parse(lease.content)
    if known is None or known.is_current(now):
        return False
    return any(not holder.is_here for holder in known.holders)


def _content(lease: Lease, before: LeaseObject) -> dict[str, Any]:
    epochs = epochs_of(before)
    return asdict(lease) | {
        "until": lease.until.isoformat(),
        "epochs": dict(epochs.by_session),
        "deleted_at": epochs.deleted_at,
    }


def epochs_of(lease: LeaseObject) -> Epochs:
    """Return the epochs that a lease object keeps."""
    epochs, deleted_at = lease.content.get("epochs"), lease.content.get("deleted_at")
    known = epochs if isinstance(epochs, dict) else {}
    return Epochs(
        {str(name): number for name, number in known.items() if type(number) is int and number},
        deleted_at if type(deleted_at) is int else 0,
    )
