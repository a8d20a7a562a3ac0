"""Reading back what is stored in HBase: decoded records of an endpoint, session, driver and window, by key ranges.

The tables are also a source to load from (`--from hbase`), by way of `StoredSource`.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from f1hbase.errors import ConfigError
from f1hbase.model.catalog import ALL_ENDPOINTS, DATASETS, HISTORY, Endpoint, KeyText, KeyWord
from f1hbase.model.outcomes import UnitState
from f1hbase.model.samples import Record
from f1hbase.model.times import lenient_time
from f1hbase.model.units import ALL_TIME, SEPARATOR, Scope, Unit, Window
from f1hbase.sources.base import Source
from f1hbase.sources.hbase_rows import Part, RowDecoder, expected_columns
from f1hbase.sources.stored import StoredSource
from f1hbase.state.hbase import cells as names
from f1hbase.state.hbase.reports import HBaseReports
from f1hbase.stores.hbase.answers import Run
from f1hbase.stores.hbase.codec import escape
from f1hbase.stores.hbase.connector import OTHER_CONNECTIONS, USUAL_THREADS, Gateway, find_gateways
from f1hbase.stores.hbase.scans import CONNECTIONS, KeyRange, Scanner
from f1hbase.stores.hbase.schema import Tables

if TYPE_CHECKING:
    from f1hbase.config import Config

_log = logging.getLogger(__name__)
_Made = TypeVar("_Made")

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
            # Rows that another program has put there may say no time, or none that is one.
            times = (lenient_time(cells.get(names.FETCHED, b"").decode(errors="replace")) for _, cells in rows)
            return max(filter(None, times), default=None)

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
        columns, decoder = expected_columns(endpoint.name), self._decoder(endpoint)
        ranges = self._ranges(endpoint, unit)

        def made(_: int, runs: list[Run]) -> list[_Made]:
            return [make(part) for part in decoder.parts(runs, unit.driver)]

        for some in self._scanner.read(self._table_of(endpoint), [(keys, columns) for keys in ranges], made):
            yield from some

    def read_some(self, endpoint: Endpoint, keys: KeyRange, most: int) -> tuple[list[Part], KeyRange | None]:
        """Return the records of the first rows of a range, and the range of the others; None if there are none.

        Nothing stays open between two calls; see `ScanConnector.some_rows`. Raises what `read` does.
        """
        with self._scanner.connector() as connector:
            runs, rest = connector.some_rows(self._tables.data, keys, expected_columns(endpoint.name), most)
        return list(self._decoder(endpoint).parts(runs)), rest

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
            lambda _, runs: list(self._decoder(endpoint).parts(runs)),
        )
        return [record for some in parts for part in some for record in part]

    def _decoder(self, endpoint: Endpoint) -> RowDecoder:
        return RowDecoder(endpoint, self._table_of(endpoint))

    def _table_of(self, endpoint: Endpoint) -> str:
        return self._tables.of(endpoint.dataset)


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
