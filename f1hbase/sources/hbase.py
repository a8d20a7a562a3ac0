"""Reading back what is stored in HBase: decoded records of an endpoint, session, driver and window, by key ranges.

The tables are also a source to load from (`--from hbase`), by way of `StoredSource`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from f1hbase.errors import ConfigError
from f1hbase.model.catalog import ALL_ENDPOINTS, DATASETS, HISTORY, Endpoint, KeyText, KeyWord
from f1hbase.model.columns import SampleColumns
from f1hbase.model.memo import Memo
from f1hbase.model.outcomes import UnitState
from f1hbase.model.samples import AS_OPENF1, Record, Samples
from f1hbase.model.times import parse_time
from f1hbase.model.units import ALL_TIME, SEPARATOR, Scope, Unit, Window
from f1hbase.sources.base import Source
from f1hbase.sources.stored import StoredSource, UnreadableError
from f1hbase.state.hbase import cells as names
from f1hbase.state.hbase.reports import HBaseReports
from f1hbase.stores.hbase.answers import OtherRow, Rows, Run, value_of
from f1hbase.stores.hbase.codec import decode, escape, from_self_describing
from f1hbase.stores.hbase.connector import OTHER_CONNECTIONS, USUAL_THREADS, Gateway, find_gateways
from f1hbase.stores.hbase.scans import CONNECTIONS, KeyRange, Scanner
from f1hbase.stores.hbase.schema import Tables

if TYPE_CHECKING:
    from f1hbase.config import Config

_log = logging.getLogger(__name__)
_Made = TypeVar("_Made")

Part = Samples | Sequence[Record]
"""Some records of one endpoint."""

_AFTER_SEPARATOR = "$"
"""The character after `#`: what ends in it comes after every key that begins with the same and `#`."""

_BEFORE_DIGITS, _AFTER_DIGITS = "-", ":"
"""Between these are the numbers, and no word that a key may have in their place."""

_LISTING_UNITS = b"RowFilter(=,'regexstring:#(sessions|meetings|races|seasons)#-#-#-$')"


class HBaseReader:
    """Gives back the records in HBase; see `f1hbase.sources.base.Reader`. Several threads may use one.

    Args:
        scanner: Reads ranges of rows.
        tables: The names of the tables.
        place: Where HBase is, for people.
    """

    def __init__(self, scanner: Scanner, tables: Tables, place: str) -> None:
        self._scanner = scanner
        self._tables = tables
        self.home = place

    def sessions(self) -> Sequence[Record]:
        """Return the records of all sessions, in the order of their keys."""
        return self._all("sessions")

    def meetings(self) -> Sequence[Record]:
        """Return the records of all meetings, in the order of their keys."""
        return self._all("meetings")

    def races(self) -> Sequence[Record]:
        """Return the records of all races of the history, in the order of their keys."""
        return self._all(HISTORY.sessions)

    def seasons(self) -> Sequence[Record]:
        """Return the records of all seasons of the history, in the order of their keys."""
        return self._all(HISTORY.meetings)

    def units(self, scope: Scope) -> Sequence[UnitState]:
        """Return the units that are stored of a session (or of a meeting as such)."""
        with self._scanner.connector() as connector:
            return HBaseReports(connector, self._tables.reports).unit_states(scope)

    def listed_at(self) -> datetime | None:
        """Return when the latest of the listed records was asked for; None if that is not known."""
        with self._scanner.connector() as connector:
            rows = connector.stream(
                self._tables.reports, names.UNIT, columns=[names.FETCHED], row_filter=_LISTING_UNITS
            )
            return max((parse_time(cells[names.FETCHED].decode()) for _, cells in rows), default=None)

    def read(self, unit: Unit) -> Iterator[Part]:
        """Yield the records of a unit's endpoint, session, driver and window, some at a time.

        A time that is not spelt as OpenF1 does is in the window in whose range of keys it is.

        Raises:
            UnreadableError: If a row cannot be decoded; names it.
            StoreError, UnreachableError: If HBase refuses, or is away longer than patience lasts.
        """
        return self.read_made(unit, lambda part: part)

    def read_made(self, unit: Unit, make: Callable[[Part], _Made]) -> Iterator[_Made]:
        """Yield what is made of the records of a unit, in the order of their keys; see `read`.

        Args:
            unit: What to read.
            make: Makes something of some records, in other threads, while the next ones come.
        """
        endpoint = ALL_ENDPOINTS[unit.endpoint]
        columns = expected_columns(endpoint.name)
        ranges = self._ranges(endpoint, unit)

        def made(number: int, runs: list[Run]) -> list[_Made]:
            return [make(part) for part in self._parts(endpoint, ranges[number], unit, runs)]

        for some in self._scanner.read(self._table_of(endpoint), [(keys, columns) for keys in ranges], made):
            yield from some

    def read_some(self, endpoint: Endpoint, keys: KeyRange, most: int) -> tuple[list[Part], KeyRange | None]:
        """Return the records of the first rows of a range, and the range of the others; None if there are none.

        Nothing stays open between two calls; see `ScanConnector.some_rows`. Raises what `read` does.
        """
        with self._scanner.connector() as connector:
            runs, rest = connector.some_rows(self._tables.data, keys, expected_columns(endpoint.name), most)
        return list(self._parts(endpoint, keys, Unit(endpoint.name, Scope(0, 0, None)), runs)), rest

    def drivers(self, endpoint: Endpoint, scope: Scope) -> list[int]:
        """Return whoever has records of an endpoint in a session, by seeking from one to the next: a row each."""
        return self._drivers(endpoint, scope)

    def stop(self) -> None:
        """Read nothing more: calls of other threads that are under way end, and are not tried again."""
        self._scanner.stop()

    def close(self) -> None:
        """Close all connections."""
        self._scanner.close()

    # --- which rows ---

    def _ranges(self, endpoint: Endpoint, unit: Unit) -> list[KeyRange]:
        window = unit.window if endpoint.time_field is not None else ALL_TIME
        by_time = endpoint.by_driver and endpoint.time_field in endpoint.key_fields
        if unit.driver is None and by_time and (endpoint.sampled or window != ALL_TIME):
            drivers = self._drivers(endpoint, unit.scope)
            return [key_range(endpoint, unit.scope, driver, window) for driver in drivers]
        return [key_range(endpoint, unit.scope, unit.driver if endpoint.by_driver else None, window)]

    def _drivers(self, endpoint: Endpoint, scope: Scope) -> list[int]:
        """Return whoever has records of an endpoint, by seeking from one to the next."""
        lead = _lead(scope) + SEPARATOR
        position, stop = f"{lead}{_BEFORE_DIGITS}".encode(), f"{lead}{_AFTER_DIGITS}".encode()
        found = []
        with self._scanner.connector() as connector:
            while (
                key := connector.next_key(self._tables.data, KeyRange(position, stop), endpoint.family.encode())
            ) is not None:
                driver = key.decode(errors="backslashreplace").split(SEPARATOR)[3]
                position = f"{lead}{driver}{_AFTER_SEPARATOR}".encode()
                try:
                    found.append(int(driver))
                except ValueError:
                    _log.warning("the row %r is none of %s and is passed over", key, endpoint.name)
        return sorted(found)

    # --- what is in them ---

    def _parts(self, endpoint: Endpoint, keys: KeyRange, unit: Unit, runs: list[Run]) -> Iterator[Part]:
        records: list[Record] = []
        for run in runs:
            if isinstance(run, Rows):
                samples = self._samples(endpoint, keys, run) if endpoint.numeric else None
                if samples is not None:
                    if records:
                        yield records
                        records = []
                    yield samples
                    continue
                records += self._records(endpoint, run)
            else:
                records += self._record(endpoint, run)
        if unit.driver is not None and not endpoint.by_driver:
            records = [record for record in records if record.get("driver_number") == unit.driver]
        if records:
            yield records

    def _samples(self, endpoint: Endpoint, keys: KeyRange, rows: Rows) -> SampleColumns | None:
        """Return rows as columns; None if one of them is not as samples are."""
        lead = keys.start.rpartition(b"#")[0].decode()
        _, meeting_key, session_key, driver = map(int, lead.split(SEPARATOR))
        length = len(lead) + 1
        # All at once, in a third of the time; a key with a line break in it is none of samples'.
        dates = [key[length:] for key in b"\n".join(rows.keys).decode(errors="replace").split("\n")]
        if len(dates) != len(rows.keys) or not _ALL_AS_OPENF1.fullmatch("\n".join(dates)):
            return None
        try:
            values = [list(map(_WHOLE_NUMBERS.__getitem__, column)) for column in rows.columns]
        except ValueError:
            return None
        count = len(dates)
        places = [[meeting_key] * count, [session_key] * count, [driver] * count]
        return SampleColumns(endpoint, [*places, dates, *values])

    def _records(self, endpoint: Endpoint, rows: Rows) -> list[Record]:
        fields = [column.partition(b":")[2].decode() for column in expected_columns(endpoint.name)]
        try:
            columns = [
                list(map((_TEXTS if field in endpoint.text else _VALUES).__getitem__, column))
                for field, column in zip(fields, rows.columns, strict=True)
                if field
            ]
        except ValueError:
            return [record for row in _one_by_one(endpoint, rows) for record in self._record(endpoint, row)]
        fields = [field for field in fields if field]
        records = []
        for key, *values in zip(rows.keys, *columns, strict=True):
            record = self._keyed(endpoint, key, {})
            if record is not None:
                record.update(zip(fields, values, strict=True))
                records.append(record)
        return records

    def _record(self, endpoint: Endpoint, row: OtherRow) -> list[Record]:
        record = self._keyed(endpoint, *row)
        return [] if record is None else [record]

    def _keyed(self, endpoint: Endpoint, key: bytes, cells: Any) -> Record | None:
        try:
            return decode(endpoint, key, cells)
        except ValueError as error:
            raise UnreadableError(
                f"the row {key!r} of the table '{self._table_of(endpoint)}' cannot be read ({error}). Nothing of "
                "f1hbase wrote it so: delete it, or load it again with --refresh."
            ) from error

    def _all(self, endpoint_name: str) -> list[Record]:
        endpoint = ALL_ENDPOINTS[endpoint_name]
        everything, table = KeyRange(b"", b"\xff"), self._table_of(endpoint)
        with self._scanner.connector() as connector:
            listed = connector.tables()
        if table not in listed and any(self._tables.of(other) in listed for other in DATASETS):
            return []  # only the other table was loaded
        if table not in listed and endpoint.dataset is HISTORY:
            return []  # that of what was measured is missed first
        parts = self._scanner.read(
            table,
            [(everything, expected_columns(endpoint_name))],
            lambda _, runs: list(self._parts(endpoint, everything, Unit(endpoint_name, Scope(0, 0, None)), runs)),
        )
        return [record for some in parts for part in some for record in part]

    def _table_of(self, endpoint: Endpoint) -> str:
        return self._tables.of(endpoint.dataset)


@cache
def expected_columns(endpoint_name: str) -> tuple[bytes, ...]:
    """Return the columns that rows of an endpoint may have, its known fields', as `family:qualifier`."""
    endpoint = ALL_ENDPOINTS[endpoint_name]
    in_key = {*endpoint.dataset.session_fields, *endpoint.key_fields}
    fields = [field for field in endpoint.fields if field not in in_key]
    # The empty one stands in rows that have no other.
    return tuple(f"{endpoint.family}:{field}".encode() for field in (*fields, *([] if endpoint.numeric else [""])))


def key_range(endpoint: Endpoint, scope: Scope, driver: int | None, window: Window) -> KeyRange:
    """Return the row keys of an endpoint's records of a session (or meeting), driver and window.

    Where a driver is wanted of an endpoint without one in its keys, or a window of one without a time there, the range
    is wider.
    """
    lead = _lead(scope)
    parts = list(endpoint.key)
    if not parts:
        return _exactly(lead)
    lead += SEPARATOR
    first = parts[0]
    if isinstance(first, KeyText):
        return KeyRange(lead.encode(), f"{lead[:-1]}{_AFTER_SEPARATOR}".encode())
    if isinstance(parts[0], KeyWord):
        lead += f"{parts.pop(0).word}{SEPARATOR}"  # type: ignore[union-attr]
    elif driver is None:
        return KeyRange(f"{lead}{_BEFORE_DIGITS}".encode(), f"{lead}{_AFTER_DIGITS}".encode())
    else:
        parts.pop(0)
        if not parts:
            return _exactly(f"{lead}{driver}")
        lead += f"{driver}{SEPARATOR}"
    stop = lead[:-1] + _AFTER_SEPARATOR
    start = lead
    if isinstance(parts[0], KeyText) and parts[0].field == endpoint.time_field:
        if window.start is not None:
            start = lead + escape(window.start.isoformat())
        if window.end is not None:
            stop = lead + escape(window.end.isoformat())
    return KeyRange(start.encode(), stop.encode())


def _lead(scope: Scope) -> str:
    return scope.row_prefix


def _exactly(key: str) -> KeyRange:
    return KeyRange(key.encode(), key.encode() + b"\0")


_ALL_AS_OPENF1 = re.compile(rf"(?:{AS_OPENF1.pattern}(?:\n|\Z))++", re.ASCII)


def _whole_number(framed: bytes) -> int | None:
    value = value_of(framed)
    if value is None:
        return None
    # What is not spelt as whole numbers are (1.0, 1e3, " 1") is left to the codec.
    number = int(value)
    if b"%d" % number != value:
        raise ValueError(value)
    return number


_WHOLE_NUMBERS: Memo[bytes, int | None] = Memo(_whole_number)


def _text(framed: bytes) -> str | None:
    value = value_of(framed)
    return None if value is None else value.decode()


_TEXTS: Memo[bytes, str | None] = Memo(_text)


class _Values(dict[bytes, Any]):
    """What cells that describe themselves hold; remembers what comes again, but no lists, which could be changed."""

    _MOST, _LONGEST = 12_000, 16

    def __missing__(self, framed: bytes) -> Any:
        value = value_of(framed)
        found = None if value is None else from_self_describing(value)
        if len(self) < self._MOST and len(framed) <= self._LONGEST and not isinstance(found, list | dict):
            self[framed] = found
        return found


_VALUES = _Values()


def _one_by_one(endpoint: Endpoint, rows: Rows) -> Iterator[OtherRow]:
    columns = expected_columns(endpoint.name)
    for key, *values in zip(rows.keys, *rows.columns, strict=True):
        cells = {column: value_of(value) for column, value in zip(columns, values, strict=True)}
        yield OtherRow(key, {column: value for column, value in cells.items() if value is not None})


@dataclass(frozen=True, slots=True)
class HBaseSourceRecipe:
    """HBase to load from; see `f1hbase.sources.base.SourceRecipe`.

    Attributes:
        gateways: Where it is.
        tables: The names of its tables.
        connections: How many connections each process of a load may open.
        call_timeout: How long one call may take, in seconds.
    """

    gateways: tuple[Gateway, ...]
    tables: Tables
    connections: int
    call_timeout: float

    def reader(self, patience: float, connections: int = CONNECTIONS) -> HBaseReader:
        """Open a reader; close it when it is not needed any more."""
        scanner = Scanner(self.gateways, patience, connections=connections, call_timeout=self.call_timeout)
        place = f"HBase at {', '.join(f'{one.host}:{one.port}' for one in self.gateways)}"
        return HBaseReader(scanner, self.tables, f"{place}, table {self.tables.data}")

    def open(self, patience: float) -> AbstractAsyncContextManager[Source]:
        """Open it as a source; see `f1hbase.sources.base.SourceRecipe`."""
        return _opened(self, patience)


@asynccontextmanager
async def _opened(recipe: HBaseSourceRecipe, patience: float) -> AsyncIterator[Source]:
    reader = recipe.reader(patience, recipe.connections)
    try:
        yield StoredSource(reader)
    finally:
        reader.close()


def recipe(config: Config, location: str = "hbase") -> HBaseSourceRecipe:
    """Return how the settings say that HBase is opened to load from it, once its gateways have answered.

    Raises:
        ConfigError: If HBase is also where the records are to go.
        UnreachableError: If no gateway answers.
    """
    del location  # there is one HBase, which the settings name
    settings = config.settings
    if settings.source == "hbase" and "hbase" in settings.to:
        raise ConfigError(
            "--from hbase --to hbase would load the tables into themselves. Name a landing zone with --to, or copy "
            "tables with HBase's own snapshots (docs/tables.md)."
        )
    return _recipe(config)


def _recipe(config: Config) -> HBaseSourceRecipe:
    settings = config.settings
    return HBaseSourceRecipe(
        find_gateways(settings.gateways, settings.hbase_transport, settings.hbase_protocol),
        Tables(settings.table_prefix),
        connections_for(settings.processes, len(settings.gateways)),
        settings.hbase_timeout.total_seconds(),
    )


def connections_for(processes: int, gateways: int) -> int:
    """Return how many connections each of some processes may read by: all together as many as gateways serve.

    >>> connections_for(1, 1), connections_for(4, 1), connections_for(10, 1)
    (4, 3, 1)
    """
    return max(1, min(CONNECTIONS, (USUAL_THREADS * gateways - OTHER_CONNECTIONS) // processes))


def reader(config: Config, location: str, patience: float) -> HBaseReader:
    """Return what reads HBase back.

    Raises:
        UnreachableError: If no gateway answers.
    """
    del location
    return _recipe(config).reader(patience)
