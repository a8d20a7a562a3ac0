"""What the tables say of a session (or a meeting as such): its own row, with name and dates, and its units in brief."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice, takewhile

from f1hbase.model.catalog import ENDPOINTS, FIRST_YEAR, Endpoint, Slicing
from f1hbase.model.coverage import Status, UnitState
from f1hbase.model.samples import Record
from f1hbase.model.units import Scope, Window, parse_time
from f1hbase.stores.hbase.codec import SEPARATOR, decode, scope_prefix
from f1hbase.stores.hbase.connector import HBaseConnector

_log = logging.getLogger(__name__)

_STATS = {f"stats:{name}".encode(): name for name in ("rows", "bytes", "attempts")}
_HASH = SEPARATOR.encode()
_NOBODY: frozenset[int] = frozenset()
_ROWS = b"stats:rows"
_META = [b"meta:status", b"meta:drivers", b"meta:entrants"]
_OUT_OF_THE_ORDINARY = (
    b"RowFilter(=,'regexstring:#-#-#-$') OR (QualifierFilter(=,'binary:status') AND ValueFilter(!=,'binary:done'))"
)
"""Of `_META` all that units of all drivers and the whole session have; of others the status, if they are not done."""


def endpoints_of(scope: Scope) -> list[Endpoint]:
    """Return the endpoints of which a session (or a meeting as such) has records."""
    is_meeting = scope.session_key is None
    return [endpoint for endpoint in ENDPOINTS.values() if (endpoint.slicing is Slicing.MEETING) == is_meeting]


def own_key(scope: Scope) -> bytes:
    """Return the row key of a session's (or meeting's) own record."""
    return scope_prefix(scope.year, scope.meeting_key, scope.session_key).encode()


def parse_scope(prefix: str) -> Scope | None:
    """Return what a scope prefix stands for; None if it is not spelt as one."""
    try:
        year, meeting_key, session_key = (None if part == "-" else int(part) for part in prefix.split(SEPARATOR))
    except ValueError:
        return None
    if year is None or meeting_key is None:
        return None
    scope = Scope(year, meeting_key, session_key)
    return scope if scope.prefix == prefix else None


def described(connector: HBaseConnector, table: str, scope: Scope) -> Scope:
    """Add to a scope what its own row in the table says: its name and dates, and whether it was cancelled."""
    (endpoint,) = (one for one in endpoints_of(scope) if not one.key)
    rows = dict(connector.scan(table, own_key(scope), columns=[endpoint.family.encode()]))
    cells = rows.get(own_key(scope))
    return scope if cells is None else _told(endpoint, scope, cells)


def all_described(connector: HBaseConnector, table: str) -> dict[str, Scope]:
    """Return every session and meeting that has a row of its own, by scope prefix.

    One scan of two small families, which HBase keeps apart from those with the many rows.
    """
    found = {}
    own = [endpoint for endpoint in ENDPOINTS.values() if not endpoint.key]
    for key, cells in connector.stream(table, columns=[endpoint.family.encode() for endpoint in own]):
        parts = key.decode(errors="backslashreplace").split(SEPARATOR)
        scope = parse_scope(SEPARATOR.join([*parts, "-"][:3]))
        if scope is None or own_key(scope) != key:
            continue
        (endpoint,) = (one for one in endpoints_of(scope) if not one.key)
        found[scope.prefix] = _told(endpoint, scope, cells)
    return found


def units_in_brief(
    connector: HBaseConnector, second: HBaseConnector, table: str, known: Collection[str] = ()
) -> list[UnitState]:
    """Return every unit with its status, rows and last error, and who drove as far as units of all drivers say it.

    A season has tens of thousands of units of a dozen cells each, nearly all of them done. So only one cell of each is
    read, without a filter, which costs the region servers most; the other scans bring only what is out of the ordinary.
    Neighbouring windows of a driver that are done are returned as one, with how many they are as `stats["units"]`.

    Args:
        connector: The connection to HBase.
        second: Another one, so that two scans go on at the same time.
        table: The table of reports.
        known: The scope prefixes that are likely to have units, by which the work is divided.
    """
    lead = f"unit{SEPARATOR}".encode()
    # More than half is the first one's, as the second has the other scans.
    middle = lead + (sorted(known)[len(known) * 3 // 5].encode() if known else b"\xff")
    with ThreadPoolExecutor(max_workers=1) as thread:
        waiting = thread.submit(_out_of_the_ordinary, second, table)
        latter = thread.submit(lambda: list(_in_brief(_units(second, table, [_ROWS], start=middle), waiting.result())))
        former = list(takewhile(lambda row: row[0] < middle, _units(connector, table, [_ROWS])))
        others = waiting.result()
        units = [*_in_brief(former, others), *latter.result()]
    for key, cells in others.items():
        if b"meta:status" in cells:
            units += _brief(key, cells)
    return units


def _out_of_the_ordinary(connector: HBaseConnector, table: str) -> dict[bytes, dict[bytes, bytes]]:
    others = dict(_units(connector, table, _META, _OUT_OF_THE_ORDINARY))
    for key, cells in _units(connector, table, [b"errors:last"]):
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


def units_since(connector: HBaseConnector, table: str, moment: datetime) -> Iterator[UnitState]:
    """Yield the units whose records were asked for at a moment or later, without their numbers."""
    newer = f"ValueFilter(>=,'binary:{moment.isoformat()}')".encode()
    for key, _ in _units(connector, table, [b"meta:fetched"], newer):
        yield from _brief(key, {})


def measured_units(connector: HBaseConnector, table: str, most: int) -> Iterator[UnitState]:
    """Yield units that are stored, those of the latest seasons first, with their rows, bytes, attempts and run."""
    columns = [b"meta:run", b"stats:rows", b"stats:bytes", b"stats:attempts"]
    for year in range(datetime.now(UTC).year + 1, FIRST_YEAR - 1, -1):
        prefix = f"unit{SEPARATOR}{year}{SEPARATOR}".encode()
        units = islice(connector.stream(table, prefix, columns=columns), most)
        for key, cells in units:
            most -= 1
            if b"stats:rows" in cells:
                yield from _brief(key, cells)


def _units(
    connector: HBaseConnector,
    table: str,
    columns: list[bytes],
    row_filter: bytes | None = None,
    start: bytes | None = None,
) -> Iterator[tuple[bytes, dict[bytes, bytes]]]:
    return connector.stream(table, f"unit{SEPARATOR}".encode(), start=start, columns=columns, row_filter=row_filter)


def _brief(key: bytes, cells: Mapping[bytes, bytes], sums: Mapping[str, float] | None = None) -> Iterator[UnitState]:
    """Yield the unit of a row of which only some cells were read; what cannot be read is left out and named."""
    try:
        _, year, meeting, session, endpoint, driver, start, end = key.decode().split(SEPARATOR)
        number = None if driver == "-" else int(driver)
        stats = {_STATS[column]: float(value) for column, value in cells.items() if column in _STATS}
        stats.update(sums or {})
        drivers, entrants = cells.get(b"meta:drivers"), cells.get(b"meta:entrants")
        # What is stored for one driver says no more than that.
        seen = _alone(number) if number is not None and stats.get("rows") else _NOBODY
        error = cells.get(b"errors:last")
        state = UnitState(
            scope_prefix=f"{year}{SEPARATOR}{meeting}{SEPARATOR}{session}",
            endpoint=endpoint,
            driver=number,
            window=_window(start, end),
            status=Status(cells[b"meta:status"].decode()) if b"meta:status" in cells else Status.DONE,
            drivers=seen if drivers is None else _numbers(drivers),
            stats=stats,
            error=None if error is None else error.decode(),
            run=cells[b"meta:run"].decode() if b"meta:run" in cells else "",
            entrants=None if entrants is None else _numbers(entrants),
        )
    except ValueError as error:
        _log.warning("the report %r cannot be read (%s); what it speaks of counts as not loaded", key, error)
        return
    yield state


@lru_cache
def _alone(driver: int) -> frozenset[int]:
    return frozenset([driver])


@lru_cache  # the endpoints of a session have the same drivers
def _numbers(drivers: bytes) -> frozenset[int]:
    return frozenset(json.loads(drivers))


@lru_cache(maxsize=4096)  # the windows of a session are those of each of its drivers
def _window(start: str, end: str) -> Window:
    return Window(*(None if edge == "-" else parse_time(edge) for edge in (start, end)))


def _told(endpoint: Endpoint, scope: Scope, cells: Mapping[bytes, bytes]) -> Scope:
    try:
        record = decode(endpoint, own_key(scope), cells)
    except ValueError as error:
        _log.warning("the row %s cannot be read: %s", scope.prefix, error)
        return scope
    return Scope(
        scope.year,
        scope.meeting_key,
        scope.session_key,
        date_start=_time(record.get("date_start")),
        date_end=_time(record.get("date_end")),
        name=_name(record),
        cancelled=record.get("is_cancelled") is True,
    )


def _time(value: object) -> datetime | None:
    try:
        return parse_time(value) if isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None


def _name(record: Record) -> str:
    parts = [record.get("meeting_name") or record.get("location"), record.get("session_name")]
    return ", ".join(str(part) for part in parts if part)
