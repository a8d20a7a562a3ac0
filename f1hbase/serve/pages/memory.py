"""Reading what `serve` keeps in memory, folders of JSON lines, as any other store is read: by session, driver and time.

It knows no HTTP and no file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from f1hbase.frames.reading import Part
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.outcomes import Status, UnitState
from f1hbase.model.records import InvalidRecordError, check
from f1hbase.model.samples import Record, Samples
from f1hbase.model.units import ALL_TIME, Scope, Unit, endpoints_of
from f1hbase.serve.file_store import FileStore
from f1hbase.serve.query import Query, parse_query
from f1hbase.sources.decoding import records_of_lines

_Made = TypeVar("_Made")


class MemoryReader:
    """Gives back the records of a `FileStore`; see `f1hbase.sources.base.Reader`. Each record is there once.

    Args:
        store: The records.
        home: What they are called for people.
    """

    def __init__(self, store: FileStore, home: str) -> None:
        self._store = store
        self.home = home

    def sessions(self) -> Sequence[Record]:
        """Return the records of all sessions."""
        return self._all("sessions")

    def meetings(self) -> Sequence[Record]:
        """Return the records of all meetings."""
        return self._all("meetings")

    def units(self, scope: Scope) -> Sequence[UnitState]:
        """Return a unit for each endpoint that has a record of the session."""
        return [
            UnitState(scope.prefix, endpoint.name, None, ALL_TIME, Status.DONE, source="files")
            for endpoint in endpoints_of(scope)
            if self._store.select(endpoint.name, _query(Unit(endpoint.name, scope))).rows
        ]

    def read(self, unit: Unit) -> Iterator[Samples | Sequence[Any]]:
        """Yield the records of a unit, some at a time; of a window those of its first and last millisecond as well."""
        lines = self._store.select(unit.endpoint, _query(unit)).lines()
        return records_of_lines(ENDPOINTS[unit.endpoint], lines, self.home)

    def read_made(self, unit: Unit, make: Callable[[Part], _Made]) -> Iterator[_Made]:
        """Yield what is made of the records of a unit, some at a time; what lacks its keys is left out."""
        for some in self.read(unit):
            yield make(some if isinstance(some, Samples) else [one for one in some if _is_valid(unit, one)])

    def _all(self, endpoint: str) -> list[Record]:
        return [json.loads(line) for line in self._store.select(endpoint, Query({})).lines()]


def _query(unit: Unit) -> Query:
    """Return the query for the records of a unit."""
    scope = unit.scope
    parts = [f"meeting_key={scope.meeting_key}"]
    if scope.session_key is not None:
        parts.append(f"session_key={scope.session_key}")
    if unit.driver is not None:
        parts.append(f"driver_number={unit.driver}")
    if ENDPOINTS[unit.endpoint].time_field == "date":
        # A time in a query stands for its millisecond.
        if unit.window.start is not None:
            parts.append(f"date>={_text(unit.window.start)}")
        if unit.window.end is not None:
            parts.append(f"date<={_text(unit.window.end)}")
    return parse_query("&".join(parts), lambda _: None)


def _is_valid(unit: Unit, record: Any) -> bool:
    try:
        check(ENDPOINTS[unit.endpoint], unit.scope.year, record)
    except InvalidRecordError:
        return False
    return True


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat()
