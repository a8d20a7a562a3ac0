"""Records of OpenF1 endpoints from files, kept as the JSON bytes they are answered with.

Each record is one stretch of bytes, records of one meeting, session and driver lie next to each other by
date, and a table of instants finds a window by bisection: the usual question (a session, a driver, fifteen
minutes) is then one slice of bytes. 1.8 million records take about 0.35 GB.
"""

from __future__ import annotations  # array[int] can be subscripted only from Python 3.12 on

import gzip
import json
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from f1hbase.serve.csvform import CsvLines
from f1hbase.serve.query import Condition, Query
from f1hbase.serve.times import instant

KEY_FIELDS = ("meeting_key", "session_key", "driver_number")

# What tells the records of one meeting, session and driver apart: the design's row keys without those three.
IDENTITY: dict[str, tuple[str, ...]] = {
    "car_data": ("date",),
    "championship_drivers": (),
    "championship_teams": ("team_name",),
    "drivers": (),
    "intervals": ("date",),
    "laps": ("lap_number",),
    "location": ("date",),
    "meetings": (),
    "overtakes": ("date", "overtaking_driver_number", "overtaken_driver_number"),
    "pit": ("lap_number",),
    "position": ("date",),
    "race_control": ("date", "lap_number", "category", "flag", "scope", "sector", "message"),
    "session_result": (),
    "sessions": (),
    "starting_grid": (),
    "stints": ("stint_number",),
    "team_radio": ("date",),
    "weather": ("date",),
}

GroupKey = tuple[int | None, int | None, int | None]


class StoreError(Exception):
    """Files that cannot be served; the text names the file, and the line where there is one."""


class Span(NamedTuple):
    """The records ``first`` up to, not including, ``last`` of a group."""

    group: Group
    first: int
    last: int


@dataclass(slots=True)
class Group:
    """The records of one meeting, session and driver: each one's JSON and a comma, joined.

    ``starts`` has one offset more than there are records; ``dates`` (microseconds, rising) is None where a
    record has no ``date``.
    """

    key: GroupKey
    blob: bytearray
    starts: array[int]
    dates: array[int] | None
    _csv: tuple[int, CsvLines] | None = field(default=None, init=False, repr=False)

    def json(self, first: int, last: int) -> memoryview:
        """Return the JSON of some records, commas between them."""
        return memoryview(self.blob)[self.starts[first] : self.starts[last] - 1]

    def csv(self) -> CsvLines:
        """Return the records as CSV; made when first asked for, and kept."""
        count = len(self.starts) - 1
        if self._csv is None or self._csv[0] != count:  # more files may have been added since
            self._csv = (count, CsvLines(self.lines(0, count)))
        return self._csv[1]

    def lines(self, first: int, last: int) -> Iterator[bytes]:
        """Yield the JSON of each of some records."""
        for index in range(first, last):
            yield bytes(self.blob[self.starts[index] : self.starts[index + 1] - 1])

    def select(self, conditions: dict[str, Condition]) -> Iterator[Span]:
        """Yield the records that fulfil the conditions, neighbours in one span."""
        rest = dict(conditions)
        spans = [(0, len(self.starts) - 1)]
        if self.dates is not None and (date := rest.pop("date", None)):
            spans = _by_date(self.dates, date)
        for first, last in spans:
            if first >= last:
                continue
            if not rest:
                yield Span(self, first, last)
                continue
            begin = None
            for index, line in enumerate(self.lines(first, last), first):
                record = json.loads(line)
                if all(condition.matches(record.get(field)) for field, condition in rest.items()):
                    begin = index if begin is None else begin
                elif begin is not None:
                    yield Span(self, begin, index)
                    begin = None
            if begin is not None:
                yield Span(self, begin, last)


class Store:
    """The records of all endpoints, by meeting, session and driver.

    >>> store = Store()
    >>> store.add("weather", [b'{"date":"2023-05-07T18:42:25+00:00","session_key":9078,"humidity":58}'])
    >>> store.count("weather")
    1
    """

    def __init__(self) -> None:
        self._builders: dict[str, dict[GroupKey, _Builder]] = {}
        self._groups: dict[str, list[Group]] = {}

    @classmethod
    def load(cls, folders: Iterable[Path]) -> Store:
        """Read every ``<endpoint>.jsonl`` and ``.jsonl.gz`` in the folders and below.

        The same record found twice counts once, the later one, files being read in order of their paths.
        Raises `StoreError` when a folder is missing, has no such file, or a line is no record.
        """
        store = cls()
        for folder in folders:
            if not folder.is_dir():
                raise StoreError(f"there is no folder {folder}")
            files = sorted(path for path in folder.rglob("*.jsonl*") if path.name.endswith((".jsonl", ".jsonl.gz")))
            if not files:
                raise StoreError(f"no file named <endpoint>.jsonl or <endpoint>.jsonl.gz in {folder} or below")
            for path in files:
                store._add_file(path)
        return store

    def add(self, endpoint: str, lines: Iterable[bytes], source: str = "records") -> None:
        """Add records, one JSON object a line; ``source`` names them in a `StoreError`."""
        builders = self._builders.setdefault(endpoint, {})
        identity = IDENTITY.get(endpoint)
        self._groups.pop(endpoint, None)
        for number, line in enumerate(lines, 1):
            line = line.strip()
            if not line:
                continue
            try:
                record = json.loads(line.decode())  # of text, which is faster than of bytes
                if not isinstance(record, dict):
                    raise TypeError("not a JSON object")
                date = record.get("date")
                moment = None if date is None else instant(date)
                key = (record.get("meeting_key"), record.get("session_key"), record.get("driver_number"))
                builder = builders.get(key)
                if builder is None:
                    if not all(part is None or isinstance(part, int) for part in key):
                        raise TypeError(f"{', '.join(KEY_FIELDS)} must be whole numbers")
                    builder = builders[key] = _Builder(key)
            except (ValueError, TypeError) as error:
                raise StoreError(f"{source}, line {number}: {error}") from None
            # A line with a space or an escape may not be compact; one without is answered as it stands.
            if b" " in line or b"\\u" in line:
                line = json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode()
            if identity == ("date",) and moment is not None:
                builder.append(line, moment, None)
            else:
                known = line if identity is None else tuple(str(record.get(field)) for field in identity)
                builder.append(line, moment, known)

    def endpoints(self) -> list[str]:
        """Return the names of the endpoints that have records, sorted."""
        return sorted(self._builders)

    def count(self, endpoint: str) -> int:
        """Return how many records an endpoint has."""
        return sum(len(group.starts) - 1 for group in self.groups(endpoint))

    def groups(self, endpoint: str) -> list[Group]:
        """Return an endpoint's records in the order of answers: by date within a session and driver."""
        if endpoint not in self._groups:
            builders = self._builders.get(endpoint, {})
            self._groups[endpoint] = [builder.group() for builder in builders.values()]
        return self._groups[endpoint]

    def select(self, endpoint: str, query: Query) -> list[Span]:
        """Return the records that a query asks for."""
        keys = [(index, query.conditions[field]) for index, field in enumerate(KEY_FIELDS) if field in query.conditions]
        rest = {field: condition for field, condition in query.conditions.items() if field not in KEY_FIELDS}
        return [
            span
            for group in self.groups(endpoint)
            if all(condition.matches(group.key[index]) for index, condition in keys)
            for span in group.select(rest)
        ]

    def latest(self, field: str) -> int | None:
        """Return the ``meeting_key`` or ``session_key`` of the session that starts last, None without one."""
        sessions = (
            json.loads(line) for group in self.groups("sessions") for line in group.lines(0, len(group.starts) - 1)
        )
        begun = [one for one in sessions if one.get("date_start") and not one.get("is_cancelled")]
        if not begun:
            return None
        last: dict[str, Any] = max(begun, key=lambda one: (instant(one["date_start"]), one.get("session_key") or 0))
        return last.get(field)

    def _add_file(self, path: Path) -> None:
        endpoint = path.name.removesuffix(".gz").removesuffix(".jsonl")
        try:
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
                self.add(endpoint, lines, str(path))
        except (OSError, EOFError, zlib.error) as error:
            raise StoreError(f"{path} cannot be read: {error}") from None


class _Builder:
    """A group while files are being read."""

    def __init__(self, key: GroupKey) -> None:
        self._group = Group(key, bytearray(), array("Q", [0]), array("q"))
        self._identities: dict[object, int] = {}
        self._replaced: set[int] = set()
        self._in_order = True

    def append(self, line: bytes, moment: int | None, identity: object) -> None:
        """Add a record; one without ``identity`` is known by its date, which needs no memory."""
        group = self._group
        index = len(group.starts) - 1
        if moment is None:
            group.dates = None
        elif group.dates is not None:
            if group.dates and moment <= group.dates[-1]:
                self._in_order = False
            group.dates.append(moment)
        if identity is not None:
            earlier = self._identities.get(identity)
            if earlier is not None:
                self._replaced.add(earlier)
            self._identities[identity] = index
        group.blob += line
        group.blob += b","
        group.starts.append(len(group.blob))

    def group(self) -> Group:
        """Return the records by date, each identity once."""
        group = self._group
        if (group.dates is None or self._in_order) and not self._replaced:
            return group
        order = [index for index in range(len(group.starts) - 1) if index not in self._replaced]
        dates = group.dates
        if dates is not None:
            order.sort(key=dates.__getitem__)
            if not self._identities:
                order = [
                    one
                    for one, after in zip(order, [*order[1:], -1], strict=True)
                    if after < 0 or dates[one] != dates[after]
                ]
        # The builder keeps the result, so that more files can still be added.
        fresh = Group(group.key, bytearray(), array("Q", [0]), None if dates is None else array("q"))
        for index in order:
            fresh.blob += group.blob[group.starts[index] : group.starts[index + 1]]
            fresh.starts.append(len(fresh.blob))
            if fresh.dates is not None and dates is not None:
                fresh.dates.append(dates[index])
        return fresh


def _by_date(dates: array[int], condition: Condition) -> list[tuple[int, int]]:
    """Return the spans of ``dates`` that fulfil a condition on the field ``date``."""
    first, last = 0, len(dates)
    for bound in condition.bounds:
        begin, end = bound.span or (0, 0)
        match bound.op:
            case ">":
                first = max(first, bisect_left(dates, end))
            case ">=":
                first = max(first, bisect_left(dates, begin))
            case "<":
                last = min(last, bisect_left(dates, begin))
            case _:
                last = min(last, bisect_left(dates, end))
    if not condition.equals:
        return [(first, last)]
    spans: list[tuple[int, int]] = []
    for begin, end in sorted(one.span or (0, 0) for one in condition.equals):
        # Repeats of one day, or a time within it, must not give a record twice.
        floor = max(first, spans[-1][1] if spans else 0)
        spans.append((max(floor, bisect_left(dates, begin)), min(last, max(floor, bisect_left(dates, end)))))
    return [(begin, end) for begin, end in spans if begin < end]
