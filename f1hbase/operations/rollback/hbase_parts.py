"""What of HBase's tables is meant by a rollback: all there is of sessions or meetings, or what a run has loaded."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from f1hbase.model.catalog import ALL_ENDPOINTS, DATASETS, HISTORY, TIMING, Endpoint
from f1hbase.model.outcomes import Status
from f1hbase.model.text import count
from f1hbase.model.units import SEPARATOR, Scope, parse_unit_key, race_of_key, season_of_key
from f1hbase.operations.rollback.base import Extent, NothingToRollBackError, Target
from f1hbase.operations.rollback.hbase_keys import AFTER_HASH, HASH, KeyReader, encoded, meeting_in, scope_of
from f1hbase.operations.rollback.shares import BEING_ROLLED_BACK, Line, OwnRows, Share
from f1hbase.state.base import WHOLE_MEETING, Epochs, epoch_key
from f1hbase.state.hbase import cells as names
from f1hbase.state.hbase.epochs import read_epochs
from f1hbase.state.hbase.reports import ROLLED_BACK
from f1hbase.stores.hbase.codec import decode
from f1hbase.stores.hbase.connector import HBaseConnector
from f1hbase.stores.hbase.frames import RowMutation
from f1hbase.stores.hbase.schema import Tables


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of `f1_data` that are to lose the cells of a family.

    Attributes:
        meeting: The meeting they are of.
        prefix: What their keys begin with.
        family: The family.
        hold: Says of a key that begins so whether it is one of them.
    """

    meeting: Scope
    prefix: str
    family: bytes
    hold: Callable[[bytes], bool] = lambda _: True


class Part(Protocol):
    """A part of the tables that is to be deleted."""

    @property
    def extent(self) -> Extent:
        """How much it is, as it was found when the object was made."""

    @property
    def epochs(self) -> Mapping[Scope, Collection[str]]:
        """The epochs to raise before anything is deleted: keys of `Epochs.by_session` by meeting."""

    def kept(self) -> Iterator[RowMutation]:
        """Yield what makes lines that stay count as ever once the epochs are raised."""

    def marks(self) -> Iterator[RowMutation]:
        """Yield what makes every unit concerned count as not loaded."""

    def rows(self) -> Iterator[Rows]:
        """Yield the rows to delete in the tables of records."""

    def amendments(self) -> Iterator[RowMutation]:
        """Yield what changes in rows of the reports that stay."""

    def report_keys(self) -> Iterator[bytes]:
        """Yield the rows to delete in `f1_reports`, what the rest is found by last."""

    def deletes(self, lease: bytes) -> bool:
        """Return whether a lease, which nobody holds any more, is deleted as well."""


def part_of(connector: HBaseConnector, tables: Tables, target: Target) -> Part:
    """Find what a target means.

    Raises:
        NothingToRollBackError: If there is no such run, session or meeting; says how to see which there are.
    """
    kind = RunPart if target.run else ScopePart
    return kind(connector, tables, target)


class ScopePart:
    """All there is of sessions, or of meetings with their sessions.

    Args:
        connector: The connection to use.
        tables: Where to look.
        target: The sessions or meetings.
    """

    def __init__(self, connector: HBaseConnector, tables: Tables, target: Target) -> None:
        self._connector = connector
        self._keys = KeyReader(connector)
        self._tables = tables
        self._target = target
        listed = connector.tables()
        self._there = [one for one in DATASETS if tables.of(one) in listed]
        self._families = {one: encoded(connector.families(tables.of(one))) for one in self._there}
        self._places = sorted(set(self._search()))
        if not self._places:
            raise NothingToRollBackError(
                f"neither {tables.data} nor {tables.reports} has anything of {target}; 'status' lists what is loaded."
            )
        self.extent = self._measure()
        self.epochs = self._epochs()

    def _search(self) -> Iterator[str]:
        """Yield the `{year}#{meeting_key}[#{session_key}]` meant; nothing says the year but the keys themselves."""
        if HISTORY in self._there:
            yield from self._search_history()
        reports = self._tables.reports
        words = [(reports, names.UNIT), (reports, names.QUARANTINE), (reports, names.LEASE)]
        if TIMING in self._there:
            words.append((self._tables.data, b""))
        for table, word in words:
            # The row of a lease stays for its epochs' sake when all else of a meeting is deleted.
            columns = [names.LEASE_CELL] if word == names.LEASE else None
            for meeting in self._keys.meetings(table, word, columns):
                if int(meeting.partition(HASH)[2]) in self._target.meetings:
                    yield meeting.decode()
                for session in self._target.sessions:
                    place = b"%b#%d" % (meeting, session)
                    key = self._keys.first(table, word + place)
                    if key is not None and (key + HASH).startswith(word + place + HASH):
                        yield place.decode()

    def _search_history(self) -> Iterator[str]:
        """Yield the seasons and races meant of which there are rows; their keys are made of year and round."""
        meant = [*map(season_of_key, self._target.meetings), *map(race_of_key, self._target.sessions)]
        for scope in filter(None, meant):
            own = scope.row_prefix.encode()
            for begin in (own, own + HASH):
                key = self._keys.first(self._tables.history, begin)
                if key is not None and (key + HASH).startswith(own + HASH):
                    yield scope.prefix.removesuffix(f"{SEPARATOR}-")
                    break

    def _measure(self) -> Extent:
        extent = Extent()
        for place in self._places:
            extent.meetings.add(scope_of(place).meeting)
            columns = [names.STATUS, names.stat("rows")]
            for key, cells in self._keys.below(self._tables.reports, f"unit{SEPARATOR}{place}", columns):
                _, *scope, endpoint = key.decode().split(SEPARATOR)[:5]
                extent.add(SEPARATOR.join(scope), endpoint, float(cells.get(names.stat("rows"), 0)))
            quarantine = f"quarantine{SEPARATOR}{place}"
            extent.quarantined += sum(1 for _ in self._keys.keys(self._tables.reports, quarantine))
        found = {int(key) for place in self._places for key in place.split(SEPARATOR)[1:]}
        absent = {*self._target.sessions, *self._target.meetings} - found
        extent.notes += [f"There is nothing of {key}." for key in sorted(absent)]
        extent.notes.append(
            f"All rows of {', '.join(self._places)} are deleted, those that no report speaks of included."
        )
        return extent

    def _epochs(self) -> dict[Scope, list[str]]:
        epochs: dict[Scope, list[str]] = {}
        for scope in map(scope_of, self._places):
            # A worker that sleeps may have sessions of the meeting in hand that nothing speaks of yet.
            key = WHOLE_MEETING if scope.session_key is None else epoch_key(scope)
            epochs.setdefault(scope.meeting, []).append(key)
        return epochs

    def kept(self) -> Iterator[RowMutation]:
        """No line of these sessions stays."""
        yield from ()

    def marks(self) -> Iterator[RowMutation]:
        """Yield what makes every unit of the sessions count as not loaded."""
        for place in self._places:
            for key, cells in self._keys.below(self._tables.reports, f"unit{SEPARATOR}{place}", [names.STATUS]):
                if cells[names.STATUS] != Status.FAILED.encode():
                    yield _mark(key, BEING_ROLLED_BACK)

    def rows(self) -> Iterator[Rows]:
        """Yield all rows, family by family: no cell of another one is looked at."""
        for scope in map(scope_of, self._places):
            for family in self._families.get(scope.dataset, ()):
                yield Rows(scope.meeting, scope.row_prefix, family)

    def amendments(self) -> Iterator[RowMutation]:
        """Yield the rows of runs without the sessions: what is rolled back on purpose is not missed by `verify`."""
        column = names.RUN_SESSIONS
        for key, cells in self._connector.scan(self._tables.reports, names.RUN, columns=[column]):
            asked = cells[column].decode().split(",")
            kept = [prefix for prefix in asked if not any(f"{prefix}#".startswith(f"{p}#") for p in self._places)]
            if kept != asked:
                yield RowMutation(key, {column: ",".join(kept).encode()})

    def report_keys(self) -> Iterator[bytes]:
        """Yield the lines of the sessions and what is in quarantine of them."""
        for place in self._places:
            for word in ("unit", "quarantine"):
                yield from self._keys.keys(self._tables.reports, f"{word}{SEPARATOR}{place}")

    def deletes(self, lease: bytes) -> bool:
        """Return whether the whole meeting goes."""
        return bool(self._target.meetings)


class RunPart:
    """The units whose lines a run wrote last, and their rows; see `f1hbase.operations.rollback.shares`.

    Args:
        connector: The connection to use.
        tables: Where to look.
        target: The run.
    """

    def __init__(self, connector: HBaseConnector, tables: Tables, target: Target) -> None:
        self._connector = connector
        self._keys = KeyReader(connector)
        self._tables = tables
        self._run = target.run
        row = names.run_row(target.run)
        self._row = row if self._keys.first(tables.reports, row) == row else None
        quoted = target.run.replace("'", "''").encode()
        self._filter = b"SingleColumnValueFilter('meta','run',=,'binary:%b',true,true)" % quoted
        self._scopes = list(self._search())
        self.extent = self._measure()
        self.epochs: dict[Scope, list[str]] = {}
        for scope in self._scopes:
            self.epochs.setdefault(scope.meeting, []).append(epoch_key(scope))

    def _search(self) -> Iterator[Scope]:
        """Yield the sessions, and meetings as such, of which the run has units."""
        position = names.UNIT
        while key := self._keys.first(self._tables.reports, names.UNIT, position, [names.RUN_ID], self._filter):
            try:
                scope = scope_of(parse_unit_key(key.decode())[0])
            except ValueError:
                position = key + b"\0"  # nobody can tell its rows, but without this line they count as not loaded
                continue
            position = names.UNIT + scope.prefix.encode() + AFTER_HASH
            yield scope

    def _measure(self) -> Extent:
        extent = Extent()
        overwritten = 0
        for share in self._shares():
            extent.meetings.add(share.scope.meeting)
            for line in share.mine:
                extent.add(line.state.scope_prefix, line.state.endpoint, line.state.stats.get("rows", 0))
            overwritten += sum(1 for _ in share.overwritten())
        extent.quarantined = sum(1 for _ in self._of_run("quarantine"))
        reports = self._tables.reports
        if self._row is None and not extent.units and not extent.quarantined:
            raise NothingToRollBackError(
                f"{reports} has no run '{self._run}'; 'status' names the last run, 'status --json' all of them."
            )
        for key, cells in self._connector.scan(reports, names.LEASE, columns=[names.LEASE_CELL]):
            meeting = meeting_in(key, names.LEASE)
            if meeting is not None and self._run.encode() in cells[names.LEASE_CELL]:
                extent.meetings.add(scope_of(meeting))
        if overwritten:
            extent.notes.append(
                f"{count(overwritten, 'unit')} of earlier runs speak of rows that this run wrote over: "
                "they count as failed from then on, and are asked for again."
            )
        if self._row is not None and self._connector.get(reports, self._row, names.RUN_END) is None:
            extent.notes.append(
                "The run was killed: rows that it stored and did not live to report stay, until a load writes them "
                "again or their session is rolled back."
            )
        return extent

    def kept(self) -> Iterator[RowMutation]:
        """Yield the next epoch for each line of others that counts now."""
        for share in self._shares():
            epochs = self._epochs_of(share.scope)
            raised = epochs.raised(self.epochs[share.scope.meeting]).of(share.scope)
            for line in share.others:
                if line.state.status is not Status.FAILED:
                    yield RowMutation(line.key.encode(), {names.EPOCH: b"%d" % raised})

    def marks(self) -> Iterator[RowMutation]:
        """Yield what makes the run's units count as not loaded, and those whose rows it wrote over."""
        for share in self._shares():
            for line in share.mine:
                if line.state.status is not Status.FAILED:
                    yield _mark(line.key.encode(), BEING_ROLLED_BACK)
            for line in share.overwritten():
                yield _mark(line.key.encode(), f"run {self._run} wrote over its rows and was rolled back")

    def rows(self) -> Iterator[Rows]:
        """Yield the run's rows, a prefix for each driver where its units name drivers."""
        for share in self._shares():
            scope = share.scope
            stem = scope.row_prefix
            for name in dict.fromkeys(
                line.state.endpoint for line in share.mine if line.state.endpoint in ALL_ENDPOINTS
            ):
                endpoint = ALL_ENDPOINTS[name]
                own = share.rows_of(endpoint)
                by_driver = endpoint.sampled and own.drivers is not None
                drivers = [f"{stem}{SEPARATOR}{driver}" for driver in sorted(own.drivers or ())]
                for prefix in drivers if by_driver else [stem]:
                    yield Rows(scope.meeting, prefix, endpoint.family.encode(), _holding(endpoint, own))

    def amendments(self) -> Iterator[RowMutation]:
        """The run's own row goes."""
        yield from ()

    def report_keys(self) -> Iterator[bytes]:
        """Yield the run's lines, its quarantine, and its row."""
        yield from self._of_run("unit")
        yield from self._of_run("quarantine")
        if self._row is not None:
            yield self._row

    def deletes(self, lease: bytes) -> bool:
        """Return whether it was the run's."""
        return self._run.encode() in lease

    def _of_run(self, word: str) -> Iterator[bytes]:
        for key, _ in self._keys.below(self._tables.reports, word, [names.RUN_ID], self._filter):
            yield key

    def _epochs_of(self, scope: Scope) -> Epochs:
        return read_epochs(self._connector, self._tables.reports, scope.meeting)

    def _shares(self) -> Iterator[Share]:
        """Yield the run's part of each session, one at a time: a season of units need not fit into memory."""
        for scope in self._scopes:
            epoch = self._epochs_of(scope).of(scope)
            mine: list[Line] = []
            others: list[Line] = []
            for key, cells in self._connector.scan(self._tables.reports, names.units_of(scope)):
                try:
                    state = names.unit_state(key.decode(), cells)
                    is_older = names.epoch_of(cells) < epoch
                except (ValueError, KeyError):
                    continue  # what cannot be read counts as not loaded
                if state.run == self._run:
                    mine.append(Line(key.decode(), state))
                else:
                    state = replace(state, status=Status.FAILED, error=ROLLED_BACK) if is_older else state
                    others.append(Line(key.decode(), state))
            yield Share(scope, mine, others)


def _holding(endpoint: Endpoint, own: OwnRows) -> Callable[[bytes], bool]:
    def hold(key: bytes) -> bool:
        try:
            record = decode(endpoint, key, {})
        except ValueError:
            return False  # another endpoint's, of the same family
        return own.hold(record)

    return hold


def _mark(key: bytes, reason: str) -> RowMutation:
    return RowMutation(key, {names.STATUS: Status.FAILED.encode(), names.LAST_ERROR: reason.encode()})
