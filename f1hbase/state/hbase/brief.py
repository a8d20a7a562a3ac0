"""What HBase remembers of all sessions, as `status` and `plan` read it: in brief, with as few cells as will do.

Knows what a season costs to read; how it is judged and shown is known by `f1hbase.operations`.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice, takewhile

from f1hbase.config import Config
from f1hbase.model.catalog import ALL_ENDPOINTS, DATASETS, TIMING, Dataset, Endpoint
from f1hbase.model.history import as_listed
from f1hbase.model.outcomes import RunState, Status, UnitState
from f1hbase.model.samples import Record
from f1hbase.model.times import lenient_time, parse_time
from f1hbase.model.units import SEPARATOR, Scope, Window, own_endpoint, parse_scope, scope_of_key
from f1hbase.state.hbase import cells as names
from f1hbase.state.hbase.epochs import all_epochs
from f1hbase.state.hbase.leases import lease_of
from f1hbase.state.hbase.live import HBaseHeartbeats
from f1hbase.state.hbase.reports import HBaseReports
from f1hbase.state.live import Heartbeat
from f1hbase.stores.hbase.codec import decode
from f1hbase.stores.hbase.connector import Gateway, HBaseConnector, find_gateways
from f1hbase.stores.hbase.schema import Tables

_log = logging.getLogger(__name__)

_PATIENCE_SECONDS = 10.0
_EARLIEST_YEAR = 1950
"""The first season of Formula 1; no source has anything before it."""

_STATS = {names.stat(name): name for name in ("rows", "bytes", "attempts")}
_HASH = SEPARATOR.encode()
_NOBODY: frozenset[int] = frozenset()
_ROWS = names.stat("rows")
_META = [names.STATUS, names.DRIVERS, names.SESSION_DRIVERS]
_OUT_OF_THE_ORDINARY = (
    b"RowFilter(=,'regexstring:#-#-#-$') OR (QualifierFilter(=,'binary:status') AND ValueFilter(!=,'binary:done'))"
)
"""Of `_META` all that units of all drivers and the whole session have; of others the status, if they are not done."""


class HBaseView:
    """The reports of an installation; see `f1hbase.operations.status.base.StateView`.

    Args:
        gateways: From `find_gateways`.
        tables: The names of the tables.
    """

    name = "HBase"

    def __init__(self, gateways: Sequence[Gateway], tables: Tables) -> None:
        self._connector = HBaseConnector(gateways, _PATIENCE_SECONDS)
        self._second = HBaseConnector(gateways, _PATIENCE_SECONDS, preferred=1)
        self._tables = tables
        self._reports = HBaseReports(self._connector, tables.reports)
        self.home = f"the table '{tables.reports}'"

    def absent(self) -> str | None:
        """Return why there is nothing to read; None if there are reports."""
        if self._tables.reports in self._connector.tables():
            return None
        return (
            f"there is no table '{self._tables.reports}': nothing has been loaded yet, or into tables of another name "
            "(--table-prefix)."
        )

    def runs(self) -> list[RunState]:
        """Return all runs, the latest first."""
        return self._reports.runs()

    def scopes(self) -> dict[str, Scope]:
        """Return every session and meeting that has a row of its own, by scope prefix."""
        listed = self._connector.tables()
        found: dict[str, Scope] = {}
        for dataset in DATASETS:
            if self._tables.of(dataset) in listed:
                found |= all_described(self._connector, self._tables.of(dataset), dataset)
        return found

    def units(self, known: Collection[str]) -> list[UnitState]:
        """Return every unit in brief; those of sessions that were rolled back in full, to be judged by their epochs."""
        rolled_back = [scope for scope in self._rolled_back() if scope.prefix]
        prefixes = {scope.prefix for scope in rolled_back}
        units = units_in_brief(self._connector, self._second, self._tables.reports, known)
        kept = [unit for unit in units if unit.scope_prefix not in prefixes]
        return [*kept, *(unit for scope in rolled_back for unit in self._reports.unit_states(scope))]

    def unit_states(self, scope: Scope) -> list[UnitState]:
        """Return the units known of one session (or of a meeting as such)."""
        return self._reports.unit_states(scope)

    def quarantine_counts(self) -> dict[tuple[str, str], int]:
        """Return how many records are in quarantine, by scope prefix and endpoint."""
        return self._reports.quarantine_counts()

    def holders(self) -> Iterator[tuple[Scope, str]]:
        """Yield the meetings that are being loaded now, and by whom."""
        for meeting in leased_meetings(self._connector, self._tables.reports):
            lease = lease_of(self._connector, self._tables.reports, meeting)
            if lease is not None:
                yield meeting, str(lease)

    def heartbeats(self) -> Sequence[Heartbeat]:
        """Return the last heartbeat of each live instance."""
        return HBaseHeartbeats(self._connector, self._tables.reports).read()

    def fetched_since(self, moment: datetime) -> Iterator[UnitState]:
        """Yield the units whose records were asked for at a moment or later, with their requests alone."""
        newer = f"SingleColumnValueFilter('meta', 'fetched', >=, 'binary:{moment.isoformat()}', true, true)".encode()
        for key, cells in _units(self._connector, self._tables.reports, [names.FETCHED, names.stat("attempts")], newer):
            yield from _brief(key, {column: value for column, value in cells.items() if column != names.FETCHED})

    def measured(self, most: int) -> Iterator[UnitState]:
        """Yield units that are stored, those of the latest seasons first, with their rows, bytes, attempts and run."""
        columns = [names.RUN_ID, names.SOURCE, *_STATS]
        for year in range(datetime.now(UTC).year + 1, _EARLIEST_YEAR - 1, -1):
            prefix = names.UNIT + f"{year}{SEPARATOR}".encode()
            for key, cells in islice(self._connector.stream(self._tables.reports, prefix, columns=columns), most):
                most -= 1
                if _ROWS in cells:
                    yield from _brief(key, cells)
            if most <= 0:
                return

    def close(self) -> None:
        """Close the connections."""
        self._connector.close()
        self._second.close()

    def _rolled_back(self) -> Iterator[Scope]:
        for (year, meeting_key), epochs in all_epochs(self._connector, self._tables.reports).items():
            for session_key, epoch in epochs.by_session.items():
                scope = parse_scope(SEPARATOR.join([str(year), str(meeting_key), session_key]))
                if epoch > 0 and scope is not None:
                    yield scope


def view(config: Config, location: str = "") -> HBaseView:
    """Return what HBase remembers, as the settings name it.

    Raises:
        UnreachableError: If no gateway answers.
    """
    del location  # there is one HBase, which the settings name
    settings = config.settings
    gateways = find_gateways(settings.gateways, settings.hbase_transport, settings.hbase_protocol)
    return HBaseView(gateways, Tables(settings.table_prefix))


def leased_meetings(connector: HBaseConnector, table: str) -> Iterator[Scope]:
    """Yield the meetings that are or were being loaded: those that have a lease, however old."""
    for key, _ in connector.scan(table, names.LEASE, columns=[names.LEASE_CELL]):
        scope = _meeting_of(key)
        if scope is not None:
            yield scope


def _meeting_of(lease_key: bytes) -> Scope | None:
    return parse_scope(f"{lease_key.decode(errors='replace').partition(SEPARATOR)[2]}{SEPARATOR}-")


def own_key(scope: Scope) -> bytes:
    """Return the row key of a session's (or meeting's) own record."""
    return scope.row_prefix.encode()


def described(connector: HBaseConnector, table: str, scope: Scope) -> Scope:
    """Add to a scope what its own row in the table says: its name and dates, and whether it was cancelled."""
    endpoint = own_endpoint(scope)
    rows = dict(connector.scan(table, own_key(scope), columns=[endpoint.family.encode()]))
    cells = rows.get(own_key(scope))
    return scope if cells is None else _with_record(endpoint, scope, cells)


def all_described(connector: HBaseConnector, table: str, dataset: Dataset = TIMING) -> dict[str, Scope]:
    """Return every session and meeting that has a row of its own, by scope prefix.

    One scan of two small families, which HBase keeps apart from those with the many rows.
    """
    found = {}
    own = [ALL_ENDPOINTS[name] for name in dataset.listing]
    for key, cells in connector.stream(table, columns=[endpoint.family.encode() for endpoint in own]):
        parts = key.decode(errors="backslashreplace").split(SEPARATOR)
        scope = scope_of_key(dataset, parts)
        if scope is None or scope.dataset is not dataset or own_key(scope) != key:
            continue
        found[scope.prefix] = _with_record(own_endpoint(scope), scope, cells)
    return found


def units_in_brief(
    connector: HBaseConnector, second: HBaseConnector, table: str, known: Collection[str] = ()
) -> list[UnitState]:
    """Return every unit with its status, rows and last error, and the drivers as far as units of all drivers say them.

    A season has tens of thousands of units of a dozen cells each, nearly all of them done. So only one cell of each is
    read, without a filter, which costs the region servers most; the other scans bring only what is out of the ordinary.
    Neighbouring windows of a driver that are done are returned as one, with how many they are as `stats["units"]`.

    Args:
        connector: The connection to HBase.
        second: Another one, so that two scans go on at the same time.
        table: The table of reports.
        known: The scope prefixes that are likely to have units, by which the work is divided.
    """
    # More than half is the first one's, as the second has the other scans.
    middle = names.UNIT + (sorted(known)[len(known) * 3 // 5].encode() if known else b"\xff")
    with ThreadPoolExecutor(max_workers=1) as thread:
        waiting = thread.submit(_out_of_the_ordinary, second, table)
        latter = thread.submit(lambda: list(_in_brief(_units(second, table, [_ROWS], start=middle), waiting.result())))
        former = list(takewhile(lambda row: row[0] < middle, _units(connector, table, [_ROWS])))
        others = waiting.result()
        units = [*_in_brief(former, others), *latter.result()]
    for key, cells in others.items():
        if names.STATUS in cells:
            units += _brief(key, cells)
    return units


def _out_of_the_ordinary(connector: HBaseConnector, table: str) -> dict[bytes, dict[bytes, bytes]]:
    others = dict(_units(connector, table, _META, _OUT_OF_THE_ORDINARY))
    for key, cells in _units(connector, table, [names.LAST_ERROR]):
        others.setdefault(key, {}).update(cells)
    return others


def _in_brief(
    stored: Iterable[tuple[bytes, dict[bytes, bytes]]], others: dict[bytes, dict[bytes, bytes]]
) -> Iterator[UnitState]:
    """Yield the units of rows of which only `_ROWS` was read, windows that meet as one; empties `others` of them."""
    chain, start, reached, rows, units = b"", b"", b"", 0, 0  # what the keys begin with, the windows' ends, sums
    for key, cells in stored:
        stem, _, ends = key.rpartition(_HASH)
        stem, _, begins = stem.rpartition(_HASH)
        more = others.pop(key, None)
        if more is None and not cells[_ROWS].isdigit():
            more = {}  # on its own, so that what cannot be read is named
        if more is None and stem == chain and begins == reached != b"-":
            reached, rows, units = ends, rows + int(cells[_ROWS]), units + 1
            continue
        if units:
            yield from _brief(_HASH.join((chain, start, reached)), {}, {"rows": rows, "units": units})
        if more is None:
            chain, start, reached, rows, units = stem, begins, ends, int(cells[_ROWS]), 1
        else:
            chain, units = b"", 0
            yield from _brief(key, cells | more)
    if units:
        yield from _brief(_HASH.join((chain, start, reached)), {}, {"rows": rows, "units": units})


def _units(
    connector: HBaseConnector,
    table: str,
    columns: list[bytes],
    row_filter: bytes | None = None,
    start: bytes | None = None,
) -> Iterator[tuple[bytes, dict[bytes, bytes]]]:
    return connector.stream(table, names.UNIT, start=start, columns=columns, row_filter=row_filter)


def _brief(key: bytes, cells: Mapping[bytes, bytes], sums: Mapping[str, float] | None = None) -> Iterator[UnitState]:
    """Yield the unit of a row of which only some cells were read; what cannot be read is left out and named."""
    try:
        _, year, meeting, session, endpoint, driver, start, end = key.decode().split(SEPARATOR)
        names.check_known(endpoint)
        number = None if driver == "-" else int(driver)
        stats = {_STATS[column]: names.figure_of(value) for column, value in cells.items() if column in _STATS}
        stats.update(sums or {})
        drivers, session_drivers = cells.get(names.DRIVERS), cells.get(names.SESSION_DRIVERS)
        # What is stored for one driver says no more than that.
        seen = _alone(number) if number is not None and stats.get("rows") else _NOBODY
        error = cells.get(names.LAST_ERROR)
        state = UnitState(
            scope_prefix=f"{year}{SEPARATOR}{meeting}{SEPARATOR}{session}",
            endpoint=endpoint,
            driver=number,
            window=_window(start, end),
            status=Status(cells[names.STATUS].decode()) if names.STATUS in cells else Status.DONE,
            drivers=seen if drivers is None else _numbers(drivers),
            stats=stats,
            error=None if error is None else error.decode(),
            run=cells.get(names.RUN_ID, b"").decode(),
            source=cells.get(names.SOURCE, b"").decode(),
            session_drivers=None if session_drivers is None else _numbers(session_drivers),
        )
    except ValueError as error:
        _log.warning("the report %r cannot be read (%s); what it speaks of counts as not loaded", key, error)
        return
    yield state


@lru_cache
def _alone(driver: int) -> frozenset[int]:
    return frozenset([driver])


_numbers = lru_cache(names.numbers_of)  # the endpoints of a session have the same drivers


@lru_cache(maxsize=4096)  # the windows of a session are those of each of its drivers
def _window(start: str, end: str) -> Window:
    return Window(*(None if edge == "-" else parse_time(edge) for edge in (start, end)))


def _with_record(endpoint: Endpoint, scope: Scope, cells: Mapping[bytes, bytes]) -> Scope:
    try:
        record = as_listed(decode(endpoint, own_key(scope), cells))
    except ValueError as error:
        _log.warning("the row %s cannot be read: %s", scope.prefix, error)
        return scope
    return Scope(
        scope.year,
        scope.meeting_key,
        scope.session_key,
        date_start=lenient_time(record.get("date_start")),
        date_end=lenient_time(record.get("date_end")),
        name=_name(record),
        cancelled=record.get("is_cancelled") is True,
        kind=str(record.get("session_type") or ""),
    )


def _name(record: Record) -> str:
    parts = [record.get("meeting_name") or record.get("location"), record.get("session_name")]
    return ", ".join(str(part) for part in parts if part)
