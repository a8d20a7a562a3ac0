"""Takes back what a run loaded, or all there is of a session or a meeting: the rows and their lines in the reports.

A line that says "done" of rows that are deleted would be data lost, as no load would ask for them again. So the order
is: the units are marked as failed, then the rows are deleted, then the lines of the reports, the run's own row last.
Killed anywhere, what is left counts as not loaded: the next load asks for it again, or the same rollback goes on.
"""

from __future__ import annotations

import logging
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from threading import Event
from time import monotonic
from typing import NoReturn, Self

from tqdm import tqdm

from f1hbase.cli.options import Settings
from f1hbase.cli.progress import terminal
from f1hbase.errors import F1HBaseError
from f1hbase.levels import PROGRESS, SUCCESS
from f1hbase.model.catalog import ENDPOINTS, Endpoint, Slicing
from f1hbase.model.coverage import Status, UnitState, subtract
from f1hbase.model.text import count, duration
from f1hbase.model.units import ALL_TIME, Scope, Unit, Window, parse_time, parse_unit_key
from f1hbase.state.hbase.leases import (
    LEASE_COLUMN,
    RENEW_SECONDS,
    Lease,
    LeaseKeeper,
    Leases,
    lease_of,
    lease_row,
    ran_out_elsewhere,
)
from f1hbase.state.hbase.reports import HBaseReports, new_run_id
from f1hbase.stores.hbase.codec import SEPARATOR, decode, scope_prefix
from f1hbase.stores.hbase.connector import ONE_CELL_KEYS_ONLY, HBaseConnector, find_gateways
from f1hbase.stores.hbase.frames import RowMutation
from f1hbase.stores.hbase.schema import Tables

_log = logging.getLogger(__name__)

_MARK = "being rolled back"
"""The error of a unit whose rows may be deleted already; its other cells stay, so that it is found again."""

_SHOWN_SESSIONS = 20
_LEASE_CALL_SECONDS = 5.0
_LINE_SECONDS = 60.0
_LOOK_AT_CLOCK_ROWS = 1000

_HASH = SEPARATOR.encode()
_AFTER_HASH = bytes([_HASH[0] + 1])
"""`x#...` sorts before `x` and this, and what a longer number than `x` begins sorts after it."""


_MEETING = re.compile(rb"\d+#\d+(?![^#])")


class NothingToRollBackError(F1HBaseError):
    """There is no such run, session or meeting in the tables."""

    exit_code = 2


class BeingLoadedError(F1HBaseError):
    """Somebody loads what is to be rolled back."""


@dataclass(frozen=True, slots=True)
class Target:
    """What to roll back: a run, or sessions, or meetings; one of the three."""

    run: str = ""
    sessions: Sequence[int] = ()
    meetings: Sequence[int] = ()

    def __str__(self) -> str:
        if self.run:
            return f"run {self.run}"
        keys = self.sessions or self.meetings
        return f"{'session' if self.sessions else 'meeting'}{'s' * (len(keys) > 1)} {', '.join(map(str, keys))}"


@dataclass(slots=True)
class Extent:
    """How much is to be deleted, as far as the reports know.

    Attributes:
        meetings: The meetings concerned.
        units: How many units there are of each session, by scope prefix.
        rows: How many rows they stored, by scope prefix and endpoint.
        quarantined: How many records are in quarantine.
        notes: What else to know before it is deleted.
    """

    meetings: set[Scope] = field(default_factory=set)
    units: Counter[str] = field(default_factory=Counter)
    rows: Counter[tuple[str, str]] = field(default_factory=Counter)
    quarantined: int = 0
    notes: list[str] = field(default_factory=list)

    def add(self, prefix: str, endpoint: str, rows: float) -> None:
        """Count a unit."""
        self.units[prefix] += 1
        self.rows[prefix, endpoint] += int(rows)

    def lines(self) -> Iterator[str]:
        """Yield it for people."""
        by_session, by_endpoint = Counter[str](), Counter[str]()
        for (prefix, endpoint), rows in self.rows.items():
            by_session[prefix] += rows
            by_endpoint[endpoint] += rows
        layout = "{:<6}{:>8}{:>9}{:>8}{:>13}"
        if self.units:
            yield layout.format("season", "meeting", "session", "units", "rows")
        for prefix in islice(sorted(self.units), _SHOWN_SESSIONS):
            yield layout.format(*prefix.split(SEPARATOR), f"{self.units[prefix]:,}", f"{by_session[prefix]:,}")
        if len(self.units) > _SHOWN_SESSIONS:
            yield f"... and {count(len(self.units) - _SHOWN_SESSIONS, 'session')} more"
        yield f"{count(self.units.total(), 'unit')}, {count(self.quarantined, 'record')} in quarantine"
        endpoints = ", ".join(f"{name} {rows:,}" for name, rows in by_endpoint.most_common() if rows)
        yield f"{count(by_endpoint.total(), 'row')}{f': {endpoints}' if endpoints else ''}"
        yield from self.notes


def open_rollback(settings: Settings, target: Target) -> Rollback:
    """Find what a rollback would delete; changes nothing.

    Raises:
        NothingToRollBackError: If there is no such run, session or meeting; says how to see which there are.
        UnreachableError: If HBase does not answer.
    """
    tables = Tables(settings.table_prefix)
    gateways = find_gateways(settings.gateways, settings.hbase_transport, settings.hbase_protocol)
    connector = HBaseConnector(gateways, settings.patience.total_seconds())
    existing = connector.tables()
    for table in tables.families:
        if table not in existing:
            raise NothingToRollBackError(
                f"there is no table '{table}': nothing has been loaded yet, or into tables of another name "
                "(--table-prefix)."
            )
    kind = RunRollback if target.run else ScopeRollback
    return kind(connector, HBaseConnector(gateways, patience=0, call_timeout=_LEASE_CALL_SECONDS), tables, target)


class Rollback(ABC):
    """What is to be deleted, once it has been found.

    Args:
        connector: The connection to use.
        impatient: Another one, for the leases, which must not keep anybody waiting.
        tables: Where to delete.
        target: What to delete.
    """

    def __init__(self, connector: HBaseConnector, impatient: HBaseConnector, tables: Tables, target: Target) -> None:
        self._connector = connector
        self._impatient = impatient
        self._tables = tables
        self._target = target
        self.extent = self._find()

    @abstractmethod
    def _find(self) -> Extent:
        """Find out how much it is."""

    @abstractmethod
    def _marks(self) -> Iterator[RowMutation]:
        """Yield what makes every unit concerned count as not loaded."""

    @abstractmethod
    def _data(self) -> Iterator[RowMutation]:
        """Yield the deletions in `f1_data`, one for each family of a row."""

    @abstractmethod
    def _report_keys(self) -> Iterator[bytes]:
        """Yield the rows to delete in `f1_reports`, what the rest is found by last."""

    def _amendments(self) -> Iterator[RowMutation]:
        """Yield what changes in rows of the reports that stay."""
        yield from ()

    @abstractmethod
    def _deletes(self, lease: bytes) -> bool:
        """Return whether the row of a lease, which nobody holds any more, is deleted as well."""

    def close(self) -> None:
        """Close the connections."""
        self._connector.close()
        self._impatient.close()

    def describe(self) -> Iterator[str]:
        """Yield what will be deleted, for people."""
        yield f"To be deleted from {self._tables.data} and {self._tables.reports}, as the reports count it:"
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
            _refuse(meeting, lease_of(self._connector, self._tables.reports, meeting))

    def carry_out(self) -> None:
        """Delete it; what a failure or a kill leaves, a load loads again or the same rollback deletes.

        Raises:
            BeingLoadedError: If somebody has begun to load it.
            UnreachableError: If HBase is away longer than patience lasts.
        """
        started = monotonic()
        families = _encoded(self._connector.families(self._tables.reports))
        with self._leases_held() as begun, _Progress(self.extent.rows.total()) as progress:
            try:
                self._connector.put(self._tables.reports, self._marks())
                # With a time, for a deletion may reach HBase after its sender was killed and a load has begun.
                self._connector.put(self._tables.data, progress.watch(self._data()), timestamp=begun)
                self._connector.put(self._tables.reports, self._amendments())
                self._connector.put(
                    self._tables.reports, (RowMutation(key, {}, families) for key in self._report_keys())
                )
            except BaseException:
                _log.warning("not all is rolled back; what is left counts as not loaded. Run the same once more.")
                raise
        _log.log(
            SUCCESS, "rolled back %s: %s, %s and %s deleted in %s", self._target,
            count(progress.rows, "row"), count(self.extent.units.total(), "unit"),
            count(self.extent.quarantined, "quarantined record"), duration(monotonic() - started),
        )  # fmt: skip

    @contextmanager
    def _leases_held(self) -> Iterator[int | None]:
        """Hold the leases of the meetings, so that no load begins meanwhile; then leave them as they were, or none.

        Yields:
            Since when they are held by HBase's clock, in milliseconds since 1970; None if there are none.
        """
        table, column = self._tables.reports, LEASE_COLUMN
        me = f"rollback-{new_run_id(datetime.now(UTC))}"
        leases = Leases(self._connector, self._impatient, table, me)
        earlier: dict[Scope, bytes | None] = {}
        try:
            with LeaseKeeper(leases):
                ran_out = False
                for meeting in self.extent.meetings:
                    earlier[meeting] = self._connector.get(table, lease_row(meeting), column)
                    ran_out |= ran_out_elsewhere(earlier[meeting])
                    _refuse(meeting, leases.take(meeting))
                if ran_out:
                    # Its holder may live, and learns that it has lost the meeting when it next renews the lease.
                    _log.info("waiting %.0f s for a load on another host that may not be over", 2 * RENEW_SECONDS)
                    Event().wait(2 * RENEW_SECONDS)
                times = [self._connector.timestamp(table, lease_row(meeting), column) for meeting in earlier]
                yield max((time for time in times if time is not None), default=None)
        finally:
            with suppress(F1HBaseError):  # they then end with this process, or run out
                for meeting in earlier:
                    leases.give_back(meeting)
        for meeting, lease in earlier.items():
            row = lease_row(meeting)
            mine = self._connector.get(table, row, column)
            if mine is None or me.encode() not in mine:
                continue  # somebody else has it by now
            if lease is None or b'"rollback-' in lease or self._deletes(lease):
                # Deleted as of when it was given back: a lease taken since stays.
                given_back = self._connector.timestamp(table, row, column)
                self._connector.put(table, [RowMutation(row, {}, [column])], timestamp=given_back)
            else:
                self._connector.put_if(table, row, column, mine, lease)

    def _below(
        self, table: str, prefix: str, columns: Sequence[bytes] | None = None, row_filter: bytes | None = None
    ) -> Iterator[tuple[bytes, dict[bytes, bytes]]]:
        """Yield the rows below `{prefix}#`."""
        return self._connector.stream(table, f"{prefix}{SEPARATOR}".encode(), columns=columns, row_filter=row_filter)

    def _keys(self, table: str, prefix: str, columns: Sequence[bytes] | None = None) -> Iterator[bytes]:
        """Yield the key that is the prefix itself, if there is such a row, and those below it."""
        if self._first(table, prefix.encode(), columns=columns) == prefix.encode():
            yield prefix.encode()
        for key, _ in self._below(table, prefix, columns, ONE_CELL_KEYS_ONLY):
            yield key

    def _first(
        self,
        table: str,
        prefix: bytes,
        start: bytes | None = None,
        columns: Sequence[bytes] | None = None,
        row_filter: bytes = ONE_CELL_KEYS_ONLY,
    ) -> bytes | None:
        """Return the first key with a prefix, from `start` on; a seek, however many rows there are."""
        rows = self._connector.stream(table, prefix, start=start, columns=columns, row_filter=row_filter, chunk=1)
        return next((key for key, _ in rows), None)


class ScopeRollback(Rollback):
    """All there is of sessions, or of meetings with their sessions."""

    def _find(self) -> Extent:
        self._families = [[family] for family in _encoded(self._connector.families(self._tables.data))]
        self._places = sorted(set(self._search()))
        if not self._places:
            raise NothingToRollBackError(
                f"neither {self._tables.data} nor {self._tables.reports} has anything of {self._target}; "
                "'status' lists what is loaded."
            )
        extent = Extent()
        for place in self._places:
            extent.meetings.add(_meeting(_scope(place)))
            units = f"unit{SEPARATOR}{place}"
            for key, cells in self._below(self._tables.reports, units, [b"meta:status", b"stats:rows"]):
                _, *scope, endpoint = key.decode().split(SEPARATOR)[:5]
                extent.add(SEPARATOR.join(scope), endpoint, float(cells.get(b"stats:rows", 0)))
            extent.quarantined += sum(1 for _ in self._keys(self._tables.reports, f"quarantine{SEPARATOR}{place}"))
        extent.notes += self._notes()
        return extent

    def _notes(self) -> Iterator[str]:
        found = {int(key) for place in self._places for key in place.split(SEPARATOR)[1:]}
        for key in {*self._target.sessions, *self._target.meetings} - found:
            yield f"There is nothing of {key}."
        yield f"All rows of {', '.join(self._places)} are deleted, those that no report speaks of included."

    def _search(self) -> Iterator[str]:
        """Yield the `{year}#{meeting_key}[#{session_key}]` meant; nothing says the year but the keys themselves."""
        reports = self._tables.reports
        words = [(reports, b"unit#"), (reports, b"quarantine#"), (reports, b"lease#"), (self._tables.data, b"")]
        for table, word in words:
            for meeting in self._meetings(table, word):
                if int(meeting.partition(_HASH)[2]) in self._target.meetings:
                    yield meeting.decode()
                for session in self._target.sessions:
                    place = b"%b#%d" % (meeting, session)
                    key = self._first(table, word + place)
                    if key is not None and (key + _HASH).startswith(word + place + _HASH):
                        yield place.decode()

    def _meetings(self, table: str, word: bytes) -> Iterator[bytes]:
        """Yield each `{year}#{meeting_key}` that keys go on with after a word, by seeking from one to the next."""
        position = word
        while (key := self._first(table, word, position)) is not None:
            match = _MEETING.match(key, len(word))
            if match is not None:
                yield match[0]
            position = key + b"\0" if match is None else word + match[0] + _AFTER_HASH

    def _marks(self) -> Iterator[RowMutation]:
        for place in self._places:
            for key, cells in self._below(self._tables.reports, f"unit{SEPARATOR}{place}", [b"meta:status"]):
                if cells[b"meta:status"] != Status.FAILED.encode():
                    yield _mark(key, _MARK)

    def _data(self) -> Iterator[RowMutation]:
        # Family by family: one cell says that a row has it, and no row of it is looked at twice.
        for place in self._places:
            for family in self._families:
                for key in self._keys(self._tables.data, place, family):
                    yield RowMutation(key, {}, family)

    def _amendments(self) -> Iterator[RowMutation]:
        # What was asked for and is rolled back on purpose is not to be missed by verify.
        column = b"meta:sessions"
        for key, cells in self._connector.scan(self._tables.reports, b"run#", columns=[column]):
            asked = cells[column].decode().split(",")
            kept = [prefix for prefix in asked if not any(f"{prefix}#".startswith(f"{p}#") for p in self._places)]
            if kept != asked:
                yield RowMutation(key, {column: ",".join(kept).encode()})

    def _report_keys(self) -> Iterator[bytes]:
        for place in self._places:
            for word in ("unit", "quarantine"):
                yield from self._keys(self._tables.reports, f"{word}{SEPARATOR}{place}")

    def _deletes(self, lease: bytes) -> bool:
        return bool(self._target.meetings)


class RunRollback(Rollback):
    """The units whose lines a run wrote last, and their rows.

    Windows of other lengths, or other drivers, make units of other runs that speak of the same rows. What such a unit
    has stored later stays. Where this run came later, it wrote over the rows: they are deleted, and the earlier unit
    is marked as failed, so that it is asked for again.
    """

    def _find(self) -> Extent:
        run = self._target.run
        row = f"run{SEPARATOR}{run}".encode()
        self._row = row if self._first(self._tables.reports, row) == row else None
        quoted = run.replace("'", "''").encode()
        self._filter = b"SingleColumnValueFilter('meta','run',=,'binary:%b',true,true)" % quoted
        extent = Extent()
        overwritten = 0
        for share in self._shares():
            extent.meetings.add(_meeting(share.scope))
            for unit in share.mine:
                extent.add(unit.scope_prefix, unit.endpoint, unit.stats.get("rows", 0))
            overwritten += sum(1 for _ in share.overwritten())
        extent.quarantined = sum(1 for _ in self._of_run("quarantine"))
        if self._row is None and not extent.units and not extent.quarantined:
            raise NothingToRollBackError(
                f"{self._tables.reports} has no run '{run}'; 'status' names the last run, 'status --json' all of them."
            )
        for key, cells in self._connector.scan(self._tables.reports, b"lease#"):
            match = _MEETING.fullmatch(key, len(b"lease#"))
            if match is not None and run.encode() in cells.get(b"meta:lease", b""):
                extent.meetings.add(_scope(match[0].decode()))
        if overwritten:
            extent.notes.append(
                f"{count(overwritten, 'unit')} of earlier runs speak of rows that this run wrote over: "
                "they count as failed from then on, and are asked for again."
            )
        if self._row is not None and self._connector.get(self._tables.reports, self._row, b"meta:end") is None:
            extent.notes.append(
                "The run was killed: rows that it stored and did not live to report stay, until a load writes them "
                "again or their session is rolled back."
            )
        return extent

    def _marks(self) -> Iterator[RowMutation]:
        for share in self._shares():
            for unit in share.mine:
                if unit.status is not Status.FAILED:
                    yield _mark(share.key(unit), _MARK)
            for unit in share.overwritten():
                reason = f"run {self._target.run} wrote over its rows and was rolled back"
                yield _mark(share.key(unit), reason)

    def _data(self) -> Iterator[RowMutation]:
        for share in self._shares():
            for name in dict.fromkeys(unit.endpoint for unit in share.mine if unit.endpoint in ENDPOINTS):
                endpoint = ENDPOINTS[name]
                claims = share.claims(endpoint)
                family = [endpoint.family.encode()]
                for prefix in claims.prefixes():
                    for key in self._keys(self._tables.data, prefix, family):
                        if claims.hold(key):
                            yield RowMutation(key, {}, family)

    def _report_keys(self) -> Iterator[bytes]:
        yield from self._of_run("unit")
        yield from self._of_run("quarantine")
        if self._row is not None:
            yield self._row

    def _deletes(self, lease: bytes) -> bool:
        return self._target.run.encode() in lease

    def _of_run(self, word: str) -> Iterator[bytes]:
        for key, _ in self._below(self._tables.reports, word, [b"meta:run"], self._filter):
            yield key

    def _shares(self) -> Iterator[_Share]:
        """Yield the run's part of each session, one at a time: a season of units need not fit into memory."""
        reports = HBaseReports(self._connector, self._tables.reports)
        word = b"unit#"
        position = word
        while key := self._first(self._tables.reports, word, position, [b"meta:run"], self._filter):
            try:
                scope = _scope(parse_unit_key(key.decode())[0])
            except ValueError:
                position = key + b"\0"  # nobody can tell its rows, but without this line they count as not loaded
                continue
            position = word + scope.prefix.encode() + _AFTER_HASH
            states = reports.unit_states(scope)
            mine = [state for state in states if state.run == self._target.run]
            yield _Share(scope, mine, [state for state in states if state.run != self._target.run])


@dataclass(frozen=True, slots=True)
class _Share:
    """What a run has loaded of a session (or of a meeting as such), and what others have."""

    scope: Scope
    mine: Sequence[UnitState]
    others: Sequence[UnitState]

    def key(self, state: UnitState) -> bytes:
        """The row of a unit in the reports."""
        return Unit(state.endpoint, self.scope, state.driver, state.window).key.encode()

    def overwritten(self) -> Iterator[UnitState]:
        """Yield the units of earlier runs that have rows which this run wrote over."""
        for other in self.others:
            if other.status is not Status.FAILED and any(
                _overlap(unit, other) and not _keeps(other, unit) for unit in self.mine
            ):
                yield other

    def claims(self, endpoint: Endpoint) -> _Claims:
        """Return which rows of an endpoint are the run's."""
        ours = [unit for unit in self.mine if unit.endpoint == endpoint.name]
        return _Claims(endpoint, self.scope, ours, self.others)


class _Claims:
    """Which rows of an endpoint in a session are those of some units, and not of others that have stored them later.

    Args:
        endpoint: The endpoint.
        scope: The session, or the meeting.
        mine: The units, all of the endpoint.
        others: All other units of the session.
    """

    def __init__(
        self, endpoint: Endpoint, scope: Scope, mine: Sequence[UnitState], others: Sequence[UnitState]
    ) -> None:
        self._endpoint = endpoint
        self._stem = scope_prefix(scope.year, scope.meeting_key, scope.session_key)
        self._mine = mine
        self._others = others
        self._windows: dict[int | None, list[Window]] = {}

    def prefixes(self) -> Iterator[str]:
        """Yield the prefixes below which the rows are; one for each driver where there are many rows."""
        drivers = {unit.driver for unit in self._mine}
        if self._endpoint.slicing is not Slicing.WINDOWS or None in drivers:
            yield self._stem
        else:
            yield from (f"{self._stem}{SEPARATOR}{driver}" for driver in sorted(d for d in drivers if d is not None))

    def hold(self, key: bytes) -> bool:
        """Return whether a row is one of the units'."""
        try:
            record = decode(self._endpoint, key, {})
        except ValueError:
            return False  # another endpoint's, of the same family
        windows = self._of_driver(record.get("driver_number"))
        if windows == [ALL_TIME]:
            return True
        try:
            moment = parse_time(record["date"])
        except (KeyError, ValueError):
            return False  # without a time, nobody can say whether it is another unit's
        return any(moment in window for window in windows)

    def _of_driver(self, driver: int | None) -> list[Window]:
        if driver not in self._windows:
            others = [other for other in self._others if other.endpoint == self._endpoint.name]
            pieces = [
                piece
                for unit in self._mine
                if unit.driver in {None, driver}
                for piece in subtract(
                    unit.window,
                    [other.window for other in others if other.driver in {None, driver} and _keeps(other, unit)],
                )
            ]
            self._windows[driver] = pieces if subtract(ALL_TIME, pieces) else [ALL_TIME]
        return self._windows[driver]


class _Progress:
    """How many rows are deleted: a bar on a terminal, a line a minute without one.

    Args:
        expected: How many there are, as far as the reports know.
    """

    def __init__(self, expected: int) -> None:
        self.rows = 0
        self._expected = expected
        self._started = self._said = monotonic()
        self._bar: tqdm[NoReturn] = tqdm(
            desc="deleting", total=expected, unit=" rows", unit_scale=True, file=terminal(), dynamic_ncols=True,
            leave=False, disable=not terminal().isatty(),
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def watch(self, deletions: Iterable[RowMutation]) -> Iterator[RowMutation]:
        """Pass deletions on and count them."""
        for deletion in deletions:
            yield deletion
            self.rows += 1
            if self.rows % _LOOK_AT_CLOCK_ROWS == 0:
                self._show()

    def _show(self) -> None:
        self._bar.total = max(self._expected, self.rows)
        self._bar.update(self.rows - self._bar.n)
        now = monotonic()
        if self._bar.disable and now - self._said >= _LINE_SECONDS:
            self._said = now
            _log.log(
                PROGRESS, "%s of about %s rows deleted, %s rows/s",
                f"{self.rows:,}", f"{self._expected:,}", f"{self.rows / (now - self._started):,.0f}",
            )  # fmt: skip


def _refuse(meeting: Scope, lease: Lease | None) -> None:
    if lease is not None:
        raise BeingLoadedError(
            f"meeting {meeting.meeting_key} is being loaded by {lease}, whose lease lasts until "
            f"{lease.until:%Y-%m-%d %H:%M:%S} UTC; nothing was deleted. Let that end, or stop it, and try again."
        )


def _overlap(one: UnitState, other: UnitState) -> bool:
    """Return whether two units of a session speak of the same rows."""
    if one.endpoint != other.endpoint or not (one.driver == other.driver or None in {one.driver, other.driver}):
        return False
    return subtract(one.window, [other.window]) != [one.window]


def _keeps(other: UnitState, unit: UnitState) -> bool:
    """Return whether the rows that both units speak of are another's: it is stored, and this one not, or earlier."""
    if other.status is Status.FAILED:
        return False
    if unit.status is Status.FAILED and unit.error != _MARK:
        return True
    return other.fetched is not None and unit.fetched is not None and other.fetched > unit.fetched


def _mark(key: bytes, reason: str) -> RowMutation:
    return RowMutation(key, {b"meta:status": Status.FAILED.encode(), b"errors:last": reason.encode()})


def _scope(prefix: str) -> Scope:
    """Return a session, or a meeting where there is none or `-` for it, by `{year}#{meeting_key}[#{session_key}]`."""
    year, meeting, *session = prefix.split(SEPARATOR)
    return Scope(int(year), int(meeting), int(session[0]) if session and session != ["-"] else None)


def _meeting(scope: Scope) -> Scope:
    return Scope(scope.year, scope.meeting_key, None)


def _encoded(families: Iterable[str]) -> list[bytes]:
    return sorted(family.encode() for family in families)
