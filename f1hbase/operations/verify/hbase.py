"""HBase as `verify` looks at it: rows of `f1_data` and `f1_history` against the lines of `f1_reports`. Reads only."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from f1hbase.config import Config
from f1hbase.destinations.base import Batch
from f1hbase.errors import F1HBaseError
from f1hbase.model.catalog import ALL_ENDPOINTS, DATASETS, Dataset, Endpoint
from f1hbase.model.outcomes import RunState, UnitState
from f1hbase.model.times import parse_time
from f1hbase.model.units import ALL_TIME, SEPARATOR, Scope, Unit, endpoints_of, own_endpoint, scope_of_key
from f1hbase.operations.verify.base import Aside, Auditor, Depth, StoredRecord, Survey, Tick
from f1hbase.operations.verify.differences import Difference, Kind
from f1hbase.operations.verify.expected import described
from f1hbase.operations.verify.hbase_rows import FamilyCount
from f1hbase.operations.verify.reconcile import Reconciliation
from f1hbase.operations.verify.row_counter import count_rows, find_hbase_command
from f1hbase.state.hbase import cells as names
from f1hbase.state.hbase.leases import lease_of
from f1hbase.state.hbase.reports import HBaseReports
from f1hbase.stores.hbase.codec import decode, encode
from f1hbase.stores.hbase.connector import KEYS_ONLY, ONE_CELL_KEYS_ONLY, HBaseConnector, find_gateways
from f1hbase.stores.hbase.schema import Tables

_log = logging.getLogger(__name__)

_TICK_ROWS = 5_000
"""How many rows are counted between two looks at the clock."""

_FOREIGN_KEYS = 100
"""How many row keys that are none of f1hbase's are named; the search for sessions without a line ends there."""

_HASH = SEPARATOR.encode()
_AFTER_HASH = b"$"
"""The byte after `#`: a prefix with this behind it comes after all keys that begin with the prefix and `#`."""


class HBaseAuditor:
    """Looks at HBase; see `f1hbase.operations.verify.base.Auditor`.

    Args:
        connector: The connection.
        tables: The names of the tables.
    """

    viewer = "hbase shell"
    look = "keys counted; --deep reads the cells, too"
    deep_look = "every cell read"

    def __init__(self, connector: HBaseConnector, tables: Tables) -> None:
        self.name = f"HBase (tables '{tables.data}' and '{tables.reports}')"
        self._connector = connector
        self._tables = tables
        self._reports = HBaseReports(connector, tables.reports)
        self._hbase_command = ""
        self._there: list[Dataset] = []  # whose tables there are

    def check(self, depth: Depth) -> None:
        """Refuse to go on without the tables, or without the command that RowCounter needs."""
        if depth.row_counter:
            self._hbase_command = find_hbase_command()
        self._reports.check_there()
        listed = self._connector.tables()
        self._there = [one for one in DATASETS if self._tables.of(one) in listed]
        if not self._there:
            raise F1HBaseError(
                f"there is no table '{self._tables.data}', although '{self._tables.reports}' is there: it was dropped "
                "or renamed. A load creates it anew; drop the table of reports first, so that all is loaded again."
            )

    def survey(self) -> Survey:
        """Return what the tables have, by seeking from one session to the next."""
        survey = Survey(set(self._reports.unit_scopes()))
        for dataset in self._there:
            self._survey(dataset, survey)
        return survey

    def _survey(self, dataset: Dataset, survey: Survey) -> None:
        strange = 0
        for first in _first_rows(
            self._connector, self._tables.of(dataset), len(dataset.session_fields) + dataset.led_by_year
        ):
            scope = scope_of_key(dataset, first.components)
            if scope is None or scope.dataset is not dataset or first.components[2:3] == ["-"]:
                detail = f"the row {first.key!r} is none that f1hbase makes"
                survey.foreign.append(Difference(Kind.FOREIGN, detail, found=1))
                strange += 1
                if strange == _FOREIGN_KEYS:
                    _log.warning(
                        "so many rows are none of f1hbase's that what comes after %r was not looked at", first.key
                    )
                    break
                continue
            survey.prefixes.add(scope.prefix)
            others = first.families - {own_endpoint(scope).family}
            if first.key == _own_key(scope) and others:
                detail = f"its own row has cells of {', '.join(sorted(others))}"
                survey.foreign.append(Difference(Kind.FOREIGN, detail, scope, found=1))

    def runs(self) -> Sequence[RunState]:
        """Return the runs of the reports."""
        return self._reports.runs()

    def quarantined(self) -> Iterator[Aside]:
        """Yield the records in quarantine."""
        columns = [names.FOUND, names.REASON]
        for key, cells in self._connector.stream(self._tables.reports, names.QUARANTINE, columns=columns):
            name = key.decode(errors="backslashreplace")
            _, *scope, endpoint, _digest = name.split(SEPARATOR)
            reason = cells.get(names.REASON, b"").decode(errors="backslashreplace")
            yield Aside(name, SEPARATOR.join(scope), endpoint, reason)

    def loading(self, meetings: Iterable[Scope]) -> Iterator[str]:
        """Yield which meetings have a lease that somebody holds."""
        for meeting in meetings:
            lease = lease_of(self._connector, self._tables.reports, meeting)
            if lease is not None:
                yield f"meeting {meeting.meeting_key} by {lease}"

    def describe(self, scope: Scope) -> Scope:
        """Return a scope with what its own row says."""
        own, endpoint = _own_key(scope), own_endpoint(scope)
        if scope.dataset not in self._there:
            return scope
        rows = dict(self._connector.scan(self._table(scope), own, columns=[endpoint.family.encode()]))
        if own not in rows:
            return scope
        try:
            record = decode(endpoint, own, rows[own])
        except ValueError as error:
            _log.warning("the row %s cannot be read: %s", own.decode(), error)
            return scope
        return described(scope, record)

    def units(self, scope: Scope) -> Sequence[UnitState]:
        """Return the units that the reports know; those of an older epoch as failed."""
        return self._reports.unit_states(scope)

    def count(
        self, scope: Scope, reconciliations: Mapping[str, Reconciliation], tick: Tick, *, deep: bool
    ) -> Iterator[Difference]:
        """Count the rows of a scope, family by family, and yield what belongs to no endpoint at all."""
        for one in families_of(scope, reconciliations):
            self._count_family_rows(scope, one, tick, deep=deep)
            yield from one.foreign(scope)

    def notes(self) -> Sequence[str]:
        """Return nothing."""
        return ()

    def count_family(self, family: str) -> int:
        """Have HBase's RowCounter count the rows of a family in the whole table."""
        _log.info("counting the rows of the family '%s' with HBase's RowCounter", family)
        (dataset,) = (one for one in DATASETS if family in one.families)
        return count_rows(self._hbase_command, self._tables.of(dataset), family)

    def encode(self, batch: Batch) -> Iterator[StoredRecord]:
        """Yield the rows of a batch."""
        endpoint = ALL_ENDPOINTS[batch.unit.endpoint]
        return (encode(endpoint, batch.unit.scope.year, record) for record in batch.records)

    def stored(self, unit: Unit) -> Iterator[StoredRecord]:
        """Yield the rows of a unit with the cells of its family."""
        endpoint = ALL_ENDPOINTS[unit.endpoint]
        rows = self._rows_in_window(unit) if endpoint.sampled else self._rows_of_unit(endpoint, unit)
        return (row for row in rows if _is_of(endpoint, unit, row[0]))

    def close(self) -> None:
        """Close the connection."""
        self._connector.close()

    def _count_family_rows(self, scope: Scope, family: FamilyRows, tick: Callable[[int], None], *, deep: bool) -> None:
        rows = 0
        row_filter = None if deep else ONE_CELL_KEYS_ONLY
        for key, cells in self._rows(scope, family.name, b"" if family.is_keyless else _HASH, row_filter):
            family.counter.add(key, cells if deep else None)
            rows += 1
            if rows == _TICK_ROWS:
                tick(rows)
                rows = 0
        tick(rows)

    def _rows(self, scope: Scope, family: str, begin: bytes, row_filter: bytes | None = None) -> Iterable[StoredRecord]:
        """Return the rows of a scope that have cells in a family.

        `begin` is what the rest of their keys begins with, after the scope's own key; nothing includes its own row.
        """
        own = _own_key(scope)
        if scope.dataset not in self._there:
            return ()
        rows = self._connector.stream(self._table(scope), own + begin, columns=[family.encode()], row_filter=row_filter)
        if begin:
            return rows
        # The key of a session may be what another one's begins with.
        return (row for row in rows if row[0] == own or row[0].startswith(own + _HASH))

    def _rows_of_unit(self, endpoint: Endpoint, unit: Unit) -> Iterable[StoredRecord]:
        begin = _HASH if endpoint.key else b""
        if unit.driver is not None:
            begin = f"{SEPARATOR}{unit.driver}{SEPARATOR if len(endpoint.key) > 1 else ''}".encode()
        return self._rows(unit.scope, endpoint.family, begin)

    def _rows_in_window(self, unit: Unit) -> Iterator[StoredRecord]:
        """Yield the samples of a window, seeking to it in the rows of each driver.

        Dates sort as text as they do as times, up to the second, where they are spelt as OpenF1 does, in UTC.
        """
        lead = _own_key(unit.scope) + _HASH
        start, end = unit.window.start, unit.window.end
        first = b"" if start is None else f"{start:%Y-%m-%dT%H:%M:%S}".encode()
        last = None if end is None else f"{end + timedelta(seconds=1):%Y-%m-%dT%H:%M:%S}".encode()
        for driver in self._drivers(unit, lead):
            mine = lead + driver + _HASH
            columns = [ALL_ENDPOINTS[unit.endpoint].family.encode()]
            for key, cells in self._connector.stream(
                self._table(unit.scope), mine, start=mine + first, columns=columns
            ):
                if last is not None and key[len(mine) :] > last:
                    break
                yield key, cells

    def _table(self, scope: Scope) -> str:
        return self._tables.of(scope.dataset)

    def _drivers(self, unit: Unit, lead: bytes) -> Iterator[bytes]:
        """Yield what the row keys of a sampled endpoint have for the driver, by seeking from one to the next."""
        if unit.driver is not None:
            yield str(unit.driver).encode()
            return
        position, columns = lead, [ALL_ENDPOINTS[unit.endpoint].family.encode()]
        while True:
            rows = self._connector.stream(
                self._table(unit.scope), lead, start=position, columns=columns, row_filter=ONE_CELL_KEYS_ONLY, chunk=1
            )
            key, _ = next(rows, (None, None))
            del rows  # and with it the scanner
            if key is None:
                return
            driver = key[len(lead) :].partition(_HASH)[0]
            yield driver
            position = lead + driver + _AFTER_HASH


def open_auditor(config: Config, location: str = "") -> Auditor:
    """Return what looks at the HBase of the settings, once a gateway has answered.

    Raises:
        UnreachableError: If no gateway answers.
    """
    del location  # there is one HBase, which the settings name
    settings = config.settings
    gateways = find_gateways(settings.gateways, settings.hbase_transport, settings.hbase_protocol)
    connector = HBaseConnector(gateways, settings.patience.total_seconds())
    return HBaseAuditor(connector, Tables(settings.table_prefix))


@dataclass(frozen=True, slots=True)
class FamilyRows:
    """The rows of a scope in one column family, which are counted in one go.

    Attributes:
        name: The family.
        is_keyless: Whether the scope's own row may be one of them.
        counter: What counts them.
    """

    name: str
    is_keyless: bool
    counter: FamilyCount

    def foreign(self, scope: Scope) -> Iterator[Difference]:
        """Yield what was counted that belongs to no endpoint."""
        stray = self.counter.foreign
        if stray is not None:
            detail = f"no endpoint makes such row keys in the family '{self.name}': {stray}"
            yield Difference(Kind.FOREIGN, detail, scope, found=stray.rows)


def families_of(scope: Scope, reconciliations: Mapping[str, Reconciliation]) -> Iterator[FamilyRows]:
    """Yield the families of a scope whose rows are to be counted."""
    for family in dict.fromkeys(ALL_ENDPOINTS[name].family for name in reconciliations):
        mine = [one for one in reconciliations.values() if one.endpoint.family == family]
        others = [one for one in endpoints_of(scope) if one.family == family and one.name not in reconciliations]
        keyless = any(not endpoint.key for endpoint in ALL_ENDPOINTS.values() if endpoint.family == family)
        yield FamilyRows(family, keyless, FamilyCount(mine, len(_own_key(scope)), others))


@dataclass(frozen=True, slots=True)
class _FirstRow:
    """The first row of a scope, or its own one, with the parts of its key and the families that it has cells in."""

    key: bytes
    components: list[str]
    families: set[str]


def _first_rows(connector: HBaseConnector, table: str, length: int = 3) -> Iterator[_FirstRow]:
    """Yield the first row of each scope and its own one; takes about two short calls a session.

    Args:
        connector: The connection.
        table: The table.
        length: Of how many components the key of a session's own row is.
    """
    position = b""
    while True:
        rows = connector.stream(table, start=position, row_filter=KEYS_ONLY, chunk=1)
        key, cells = next(rows, (None, dict[bytes, bytes]()))
        del rows  # and with it the scanner
        if key is None:
            return
        parts = key.split(_HASH)
        components = [part.decode(errors="backslashreplace") for part in parts]
        yield _FirstRow(key, components, {column.decode().partition(":")[0] for column in cells})
        position = _HASH.join(parts[:length]) + _AFTER_HASH if len(parts) > length else key + b"\0"


def _own_key(scope: Scope) -> bytes:
    return scope.row_prefix.encode()


def _is_of(endpoint: Endpoint, unit: Unit, key: bytes) -> bool:
    try:
        record = decode(endpoint, key, {})
        return (unit.driver is None or record["driver_number"] == unit.driver) and (
            endpoint.time_field is None
            or unit.window == ALL_TIME
            or parse_time(record[endpoint.time_field]) in unit.window
        )
    except (ValueError, OverflowError):
        return False
