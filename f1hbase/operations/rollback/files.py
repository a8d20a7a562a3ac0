"""Rollback in a landing zone: under the leases of the meetings, in an order in which a kill leaves nothing half done.

First a journal of what is to go is stored. Manifests that stay get the next epoch, then the epochs are raised, so what
a sleeping worker still writes counts for nothing. The manifests go before everything that they speak of: killed
anywhere, no unit looks done without its objects, and the same rollback finds the rest by its journal, which goes last.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from threading import Event
from time import monotonic

from f1hbase.config import Config
from f1hbase.errors import F1HBaseError
from f1hbase.levels import SUCCESS
from f1hbase.model.outcomes import RunState
from f1hbase.model.text import count, duration
from f1hbase.model.units import Scope, Unit
from f1hbase.operations.rollback.base import BeingLoadedError, Target
from f1hbase.operations.rollback.files_parts import Part, find_part
from f1hbase.operations.rollback.progress import DeletionDisplay, DeletionLines
from f1hbase.state.base import RENEW_SECONDS, LeaseKeeper, new_run_id
from f1hbase.state.file_leases import FilesLeases, holder_of, ran_out_elsewhere
from f1hbase.state.files import FilesState
from f1hbase.stores.files.extractor import DamagedAnswerError
from f1hbase.stores.files.lease_objects import latest
from f1hbase.stores.files.manifests import manifest_path, read_manifest, with_epoch
from f1hbase.stores.files.objects import Objects
from f1hbase.stores.files.urls import LocationError, parse_location
from f1hbase.stores.files.zone import MARKER, Zone, find_zone

_log = logging.getLogger(__name__)

_AT_ONCE = 500
"""How many objects are deleted before it is looked whether the leases are still held."""

Wait = Callable[[float], object]


def _wait(seconds: float) -> None:
    Event().wait(seconds)


def open_rollback(config: Config, location: str, target: Target, *, wait: Wait = _wait) -> FilesRollback:
    """Find what a rollback would delete; changes nothing.

    Args:
        config: How long a store that is away is waited for.
        location: Where the landing zone is.
        target: What is meant.
        wait: Lets a number of seconds pass.

    Raises:
        LocationError: If there is no landing zone.
        NothingToRollBackError: If there is no such run, session or meeting; says how to see which there are.
        UnreachableError: If the store does not answer.
    """
    place = parse_location(location)
    zone = find_zone(Objects(place, config.settings.patience.total_seconds()))
    if zone is None:
        raise LocationError(
            f"'{place}' is no landing zone: it has no {MARKER}. Say with --to where one is, or hbase for the tables."
        )
    return FilesRollback(zone, Objects(place), target, find_part(zone, target), wait=wait)


class FilesRollback:
    """What is to be deleted in a landing zone, once it has been found; see `rollback.base.Rollback`.

    Args:
        zone: The zone.
        impatient: Its objects, for the leases, which must not keep anybody waiting.
        target: What to delete, for people.
        part: What that is.
        wait: Lets a number of seconds pass.
    """

    def __init__(self, zone: Zone, impatient: Objects, target: Target, part: Part, *, wait: Wait = _wait) -> None:
        self._zone = zone
        self._objects = zone.objects
        self._impatient = impatient
        self._target = target
        self._part = part
        self._wait = wait
        self.extent = part.extent

    def close(self) -> None:
        """Nothing is kept open."""

    def describe(self) -> Iterator[str]:
        """Yield what will be deleted, for people."""
        yield f"To be deleted from the landing zone '{self._zone.shown}', as its manifests count it:"
        yield from self.extent.lines()
        yield (
            "It is deleted for good: versions that a refresh replaced do not come back, and the next load asks for all "
            "of it again."
        )

    def refuse_if_being_loaded(self) -> None:
        """Refuse to delete what somebody writes at the same time.

        Raises:
            BeingLoadedError: Naming the run, its process and host.
        """
        for meeting in self._meetings():
            _refuse(meeting, holder_of(self._objects, meeting, datetime.now(UTC)))

    def carry_out(self, show: Callable[[int], DeletionDisplay] = DeletionLines) -> None:
        """Delete it; what a failure or a kill leaves, a load loads again or the same rollback deletes.

        Args:
            show: Makes what shows how it goes, given how many rows are expected.

        Raises:
            BeingLoadedError: If somebody has begun to load it.
            UnreachableError: If the store is away longer than patience lasts.
        """
        started = monotonic()
        deleted = 0
        with self._leases_held() as leases:
            # What was loaded since it was described is meant, too.
            self._part = part = find_part(self._zone, self._target)
            _check(leases, part.extent.meetings)
            display = show(part.extent.rows.total())
            try:
                part.write_journal(self._objects)
                self._raise_epochs(leases)
                self._delete(leases, part.manifests)
                display.deleted(part.extent.rows.total())
                self._delete_files()
                gone = part.objects_to_delete(self._zone)
                self._delete(leases, gone.own)
                deleted = len(gone.own) + self._delete_common(gone.common)
                self._delete(leases, part.quarantine)
                self._amend_runs()
                part.delete_journal(self._objects)
            except BaseException:
                _log.warning("not all is rolled back; what is left counts as not loaded. Run the same once more.")
                raise
            finally:
                display.close()
        extent = part.extent
        _log.log(
            SUCCESS, "rolled back %s: %s, %s and %s deleted in %s", self._target, count(extent.units.total(), "unit"),
            count(deleted, "object"), count(extent.quarantined, "quarantined record"), duration(monotonic() - started),
        )  # fmt: skip

    def _meetings(self) -> list[Scope]:
        """Return the meetings in an order that is the same for everybody who takes their leases."""
        return sorted(self.extent.meetings, key=lambda meeting: (meeting.year, meeting.meeting_key))

    def _raise_epochs(self, leases: FilesLeases) -> None:
        """Make all that is deleted count no more, and what stays count as ever."""
        now = int(datetime.now(UTC).timestamp() * 1000)
        for meeting, keys in self._part.epochs.items():
            raised = leases.epochs(meeting).raised(keys)
            contents: dict[str, bytes] = {}
            paths = [path for path, scope in self._part.kept.items() if scope.meeting == meeting]
            for path, content in zip(paths, self._objects.get_all(paths), strict=True):
                scope = self._part.kept[path]
                if content is not None and read_manifest(content, path).epoch < raised.of(scope):
                    contents[path] = with_epoch(content, raised.of(scope))
            self._objects.each(lambda path, new=contents: self._objects.put(path, new[path]), list(contents))  # type: ignore[misc]
            try:
                leases.raise_epochs(meeting, keys, now)
            except KeyError:
                _check(leases, [meeting])
                raise

    def _delete_files(self) -> None:
        """Delete what was made of the units, or make it again of those that are left."""
        layout = self._zone.layout
        if not layout.makes_files:
            return
        by_scope: dict[Scope, set[str]] = defaultdict(set)
        for scope, endpoint in self._part.files:
            by_scope[scope].add(endpoint)
        for scope, endpoints in by_scope.items():
            states = self._zone.unit_states(scope, endpoints)
            for endpoint in endpoints:
                try:
                    layout.remake(self._objects, scope, [endpoint], states)
                except DamagedAnswerError as error:
                    _log.warning("%s", error)
                    unit = Unit(error.unit.endpoint, scope, error.unit.driver, error.unit.window)
                    self._objects.delete([manifest_path(unit)])
                    layout.withdraw(self._objects, scope, [endpoint])

    def _delete(self, leases: FilesLeases, paths: Sequence[str]) -> None:
        for start in range(0, len(paths), _AT_ONCE):
            _check(leases, self._part.extent.meetings)
            self._objects.delete(paths[start : start + _AT_ONCE])

    def _delete_common(self, paths: Sequence[str]) -> int:
        """Delete objects that a load of another meeting may be about to name, unless there is such a load.

        They are the lists of all sessions, and in `dated` answers without a record. What stays, the next load uses.
        """
        if not paths or self._others_load():
            return 0
        contents = dict(zip(paths, self._objects.get_all(paths), strict=True))
        self._objects.delete(paths)
        if self._others_load():  # it began meanwhile, and may have seen them
            for path, content in contents.items():
                if content is not None:
                    self._objects.create(path, content)
            return 0
        return len(paths)

    def _others_load(self) -> bool:
        return any(meeting not in self.extent.meetings for meeting, _ in FilesState(self._zone).holders())

    def _amend_runs(self) -> None:
        """Delete the run's own record, or take the sessions out of all: `verify` is not to miss what is rolled back."""
        if self._target.run:
            self._objects.delete([self._part.record] if self._part.record else [])
            return
        state = FilesState(self._zone)
        for run in state.runs():
            asked = run.meta.get("sessions", "").split(",")
            kept = [prefix for prefix in asked if not self._part.covers(prefix)]
            if kept != asked:
                state.write_run(RunState(run.run_id, meta={"sessions": ",".join(kept)}))

    @contextmanager
    def _leases_held(self) -> Iterator[FilesLeases]:
        """Hold the leases of the meetings, so that no load begins meanwhile."""
        leases = FilesLeases(self._objects, self._impatient, f"rollback-{new_run_id(datetime.now(UTC))}")
        taken: list[Scope] = []
        try:
            with LeaseKeeper(leases):
                ran_out = False
                for meeting in self._meetings():
                    ran_out |= ran_out_elsewhere(latest(self._objects, meeting), datetime.now(UTC))
                    _refuse(meeting, leases.take(meeting))
                    taken.append(meeting)
                if ran_out:
                    # Its holder may live, and learns that it has lost the meeting when it next renews the lease.
                    _log.info("waiting %.0f s for a load on another host that may not be over", 2 * RENEW_SECONDS)
                    self._wait(2 * RENEW_SECONDS)
                yield leases
        finally:
            with suppress(F1HBaseError):  # they then end with this process, or run out
                for meeting in taken:
                    leases.give_back(meeting)


def _check(leases: FilesLeases, meetings: Iterable[Scope]) -> None:
    """Refuse to go on without the leases.

    Raises:
        BeingLoadedError: If one of them is lost, or was never taken.
    """
    for meeting in meetings:
        if leases.lost(meeting):
            raise BeingLoadedError(
                f"the lease of meeting {meeting.meeting_key} is not held: it ran out, or the meeting has been loaded "
                "since it was looked at. Run the same rollback again."
            )


def _refuse(meeting: Scope, holder: str | None) -> None:
    if holder is not None:
        raise BeingLoadedError(
            f"meeting {meeting.meeting_key} is being loaded by {holder}; nothing was deleted. Let that end, or stop "
            "it, and try again."
        )
