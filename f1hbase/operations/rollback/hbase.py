"""Rollback in HBase: under the leases of the meetings, in an order in which a kill loses nothing.

A line that says "done" of rows that are deleted would be data lost, as no load would ask for them again. So the order
is: lines that stay get the next epoch, the epochs are raised, which leaves what a sleeping worker still writes without
effect; the units are marked as failed, then the rows are deleted, then the lines of the reports, the run's own row
last. Killed anywhere, what is left counts as not loaded: the next load asks for it again, or the same rollback goes on.

Each deletion bears the time of a cell that was seen in what it deletes, by the clock of whoever wrote that. So
it does not matter whose clock is ahead, and a deletion that reaches HBase late, even after its sender was killed,
spares what has been stored since. `deleted_at` in the lease row is never earlier than any of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import islice
from threading import Event
from time import monotonic

from f1hbase.config import Config
from f1hbase.errors import F1HBaseError
from f1hbase.levels import SUCCESS
from f1hbase.model.text import count, duration
from f1hbase.model.units import Scope, datasets_of
from f1hbase.operations.rollback.base import BeingLoadedError, NothingToRollBackError, Target
from f1hbase.operations.rollback.hbase_keys import KeyReader, encoded
from f1hbase.operations.rollback.hbase_parts import Part, Rows, part_of
from f1hbase.operations.rollback.progress import DeletionDisplay, DeletionLines
from f1hbase.state.base import RENEW_SECONDS, LeaseKeeper, new_run_id
from f1hbase.state.hbase.cells import LEASE_CELL, lease_row
from f1hbase.state.hbase.epochs import raise_epochs
from f1hbase.state.hbase.leases import HBaseLeases, Lease, lease_of, ran_out_elsewhere
from f1hbase.stores.hbase.connector import HBaseConnector, find_gateways
from f1hbase.stores.hbase.frames import RowMutation
from f1hbase.stores.hbase.schema import Tables

_log = logging.getLogger(__name__)

_LEASE_CALL_SECONDS = 5.0
_DELETED_AT_ONCE = 5000
"""How many rows are deleted with one time; each is remembered until then."""

_LONGEST_AHEAD_SECONDS = 60.0
"""For how much longer a rollback waits at its end if rows bore times to come; servers may differ by 30 s
(`hbase.master.maxclockskew`)."""

Wait = Callable[[float], object]
Clock = Callable[[], datetime]


def _now() -> datetime:
    return datetime.now(UTC)


def _wait(seconds: float) -> None:
    Event().wait(seconds)


def open_rollback(
    config: Config, location: str, target: Target, *, clock: Clock = _now, wait: Wait = _wait
) -> HBaseRollback:
    """Find what a rollback would delete; changes nothing.

    Args:
        config: Where HBase is.
        location: Its name; there is one HBase, which the settings name.
        target: What is meant.
        clock: Says what time it is.
        wait: Lets a number of seconds pass.

    Raises:
        NothingToRollBackError: If there is no such run, session or meeting; says how to see which there are.
        UnreachableError: If HBase does not answer.
    """
    del location
    settings = config.settings
    tables = Tables(settings.table_prefix)
    gateways = find_gateways(settings.gateways, settings.hbase_transport, settings.hbase_protocol)
    connector = HBaseConnector(gateways, settings.patience.total_seconds())
    existing = connector.tables()
    absent = [table for table in (tables.data, tables.history) if table not in existing]
    for table in (*(absent[:1] if len(absent) > 1 else ()), tables.reports):
        if table not in existing:
            raise NothingToRollBackError(
                f"there is no table '{table}': nothing has been loaded yet, or into tables of another name "
                "(--table-prefix)."
            )
    part = part_of(connector, tables, target)
    impatient = HBaseConnector(gateways, patience=0, call_timeout=_LEASE_CALL_SECONDS)
    return HBaseRollback(connector, impatient, tables, target, part, clock=clock, wait=wait)


class HBaseRollback:
    """What is to be deleted in HBase, once it has been found; see `f1hbase.operations.rollback.base.Rollback`.

    Args:
        connector: The connection to use.
        impatient: Another one, for the leases, which must not keep anybody waiting.
        tables: Where to delete.
        target: What to delete, for people.
        part: What that is.
        clock: Says what time it is.
        wait: Lets a number of seconds pass.
    """

    def __init__(
        self,
        connector: HBaseConnector,
        impatient: HBaseConnector,
        tables: Tables,
        target: Target,
        part: Part,
        *,
        clock: Clock = _now,
        wait: Wait = _wait,
    ) -> None:
        self._connector = connector
        self._impatient = impatient
        self._tables = tables
        self._target = target
        self._part = part
        self._clock = clock
        self._wait = wait
        self.extent = part.extent

    def close(self) -> None:
        """Close the connections."""
        self._connector.close()
        self._impatient.close()

    def describe(self) -> Iterator[str]:
        """Yield what will be deleted, for people."""
        names = [self._tables.of(one) for one in datasets_of(self.extent.meetings)]
        yield f"To be deleted from {', '.join(names)} and {self._tables.reports}, as the reports count it:"
        yield from self.extent.lines()
        yield (
            "It is deleted for good: values that a refresh wrote over do not come back, and the next load asks the "
            "API for all of it again."
        )

    def refuse_if_being_loaded(self) -> None:
        """Refuse to delete what somebody writes at the same time.

        Raises:
            BeingLoadedError: Naming the run, its process and host, and how long its lease lasts.
        """
        for meeting in self.extent.meetings:
            _refuse(meeting, lease_of(self._connector, self._tables.reports, meeting, self._clock()))

    def carry_out(self, show: Callable[[int], DeletionDisplay] = DeletionLines) -> None:
        """Delete it; what a failure or a kill leaves, a load loads again or the same rollback deletes.

        Args:
            show: Makes what shows how it goes, given how many rows are expected.

        Raises:
            BeingLoadedError: If somebody has begun to load it.
            UnreachableError: If HBase is away longer than patience lasts.
        """
        started = monotonic()
        reports, put = self._tables.reports, self._connector.put
        families = encoded(self._connector.families(reports))
        with self._leases_held() as leases:
            display = show(self.extent.rows.total())
            try:
                put(reports, self._part.kept())
                deletion = _Deletion(self._connector, self._tables, self._raise_epochs(), display)
                put(reports, self._part.marks())
                for rows in self._part.rows():
                    deletion.delete(rows)
                put(reports, self._part.amendments())
                put(reports, (RowMutation(key, {}, families) for key in self._part.report_keys()))
                self._wait_until_passed(deletion.latest, leases)
            except BaseException:
                _log.warning("not all is rolled back; what is left counts as not loaded. Run the same once more.")
                raise
            finally:
                display.close()
        _log.log(
            SUCCESS, "rolled back %s: %s, %s and %s deleted in %s", self._target,
            count(deletion.rows, "row"), count(self.extent.units.total(), "unit"),
            count(self.extent.quarantined, "quarantined record"), duration(monotonic() - started),
        )  # fmt: skip

    def _raise_epochs(self) -> dict[Scope, int]:
        """Raise the epochs of what is deleted; return until when each meeting's deletions may count as made."""
        times = {meeting: self._server_time(meeting) for meeting in self.extent.meetings}
        for meeting, now in times.items():
            keys = self._part.epochs.get(meeting, ())
            times[meeting] = raise_epochs(self._connector, self._tables.reports, meeting, keys, now).deleted_at
        return times

    def _server_time(self, meeting: Scope) -> int:
        """Return when the lease of a meeting was last renewed, by its server's clock."""
        return self._connector.timestamp(self._tables.reports, lease_row(meeting), LEASE_CELL) or 0

    def _wait_until_passed(self, latest: int, leases: HBaseLeases) -> None:
        """Wait until what a load stores is later than every deletion, should rows have borne times to come."""
        if not latest:
            return
        leases.renew()
        ahead = (latest - min(map(self._server_time, self.extent.meetings))) / 1000
        if ahead >= _LONGEST_AHEAD_SECONDS:
            _log.warning(
                "rows that were deleted bore times up to %s ahead of the server's clock: what is loaded before then "
                "stays hidden; wait that long, and check the servers' clocks",
                duration(ahead),
            )
        elif ahead >= 0:
            _log.info("waiting %.0f s for the server's clock to pass the times of what was deleted", ahead)
            self._wait(ahead + 0.001)

    @contextmanager
    def _leases_held(self) -> Iterator[HBaseLeases]:
        """Hold the leases of the meetings, so that no load begins meanwhile; then leave them as they were, or none."""
        table = self._tables.reports
        me = f"rollback-{new_run_id(datetime.now(UTC))}"
        leases = HBaseLeases(self._connector, self._impatient, table, me, self._clock)
        earlier: dict[Scope, bytes | None] = {}
        try:
            with LeaseKeeper(leases):
                ran_out = False
                for meeting in self.extent.meetings:
                    earlier[meeting] = self._connector.get(table, lease_row(meeting), LEASE_CELL)
                    ran_out |= ran_out_elsewhere(earlier[meeting])
                    _refuse(meeting, leases.take_or_see(meeting))
                if ran_out:
                    # Its holder may live, and learns that it has lost the meeting when it next renews the lease. If it
                    # sleeps even longer, its lines are without effect, but rows may be left that no line speaks of.
                    _log.info("waiting %.0f s for a load on another host that may not be over", 2 * RENEW_SECONDS)
                    self._wait(2 * RENEW_SECONDS)
                yield leases
        finally:
            with suppress(F1HBaseError):  # they then end with this process, or run out
                for meeting in earlier:
                    leases.give_back(meeting)
        for meeting, lease in earlier.items():
            self._leave_lease(meeting, me, lease)

    def _leave_lease(self, meeting: Scope, me: str, lease: bytes | None) -> None:
        """Put back the lease that a meeting had, if it was given back itself; delete any other."""
        table, row = self._tables.reports, lease_row(meeting)
        mine = self._connector.get(table, row, LEASE_CELL)
        if mine is None or me.encode() not in mine:
            return  # somebody else has it by now
        # One that only ran out would let its holder go on, with an epoch that is no longer the session's.
        if lease is None or b'"holders":[]' not in lease or b'"rollback-' in lease or self._part.deletes(lease):
            # Deleted as of when it was given back: a lease taken since stays.
            given_back = self._connector.timestamp(table, row, LEASE_CELL)
            self._connector.put(table, [RowMutation(row, {}, [LEASE_CELL])], timestamp=given_back)
        else:
            self._connector.put_if(table, row, LEASE_CELL, mine, lease)


class _Deletion:
    """Deletes rows of records, and counts them.

    Args:
        connector: The connection to use.
        tables: Where to delete.
        times: Until when deletions in each meeting may count as made, as its lease row says; in milliseconds.
        display: Is told how many rows are deleted.

    Attributes:
        rows: How many rows there were, counted in each family.
        latest: The latest time that a deletion bears; 0 without any.
    """

    def __init__(
        self, connector: HBaseConnector, tables: Tables, times: dict[Scope, int], display: DeletionDisplay
    ) -> None:
        self._connector = connector
        self._keys = KeyReader(connector)
        self._tables = tables
        self._times = times
        self._display = display
        self.rows = 0
        self.latest = 0

    def delete(self, rows: Rows) -> None:
        """Delete rows; a family's cells of each."""
        table = self._tables.of(rows.meeting.dataset)
        found = ((key, time) for key, time in self._keys.times(table, rows.prefix, rows.family) if rows.hold(key))
        while some := list(islice(found, _DELETED_AT_ONCE)):
            self._delete(rows, some)
            # Most rows were stored at once; a cell that came later than the first of its row is left by that.
            if left := list(self._keys.times_left(table, [key for key, _ in some], rows.family)):
                self._delete(rows, left)
            self.rows += len(some)
            self._display.deleted(self.rows)

    def _delete(self, rows: Rows, some: Sequence[tuple[bytes, int]]) -> None:
        """Delete the cells of some keys that are no later than the latest of the times that were seen."""
        time = max(time for _, time in some)
        if time > self._times[rows.meeting]:
            raised = raise_epochs(self._connector, self._tables.reports, rows.meeting, deleted_at=time)
            self._times[rows.meeting] = raised.deleted_at
        deletions = [RowMutation(key, {}, [rows.family]) for key, _ in some]
        self._connector.put(self._tables.of(rows.meeting.dataset), deletions, timestamp=time)
        self.latest = max(self.latest, time)


def _refuse(meeting: Scope, lease: Lease | None) -> None:
    if lease is not None:
        raise BeingLoadedError(
            f"meeting {meeting.meeting_key} is being loaded by {lease}, whose lease lasts until "
            f"{lease.until:%Y-%m-%d %H:%M:%S} UTC; nothing was deleted. Let that end, or stop it, and try again."
        )
