"""A store of records from files of JSON lines, in memory; see `groups` for how they are kept."""

from __future__ import annotations  # array[int] can be subscripted only from Python 3.12 on

import json
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from f1hbase.errors import F1HBaseError
from f1hbase.model.catalog import ENDPOINTS, Endpoint, KeyHash
from f1hbase.model.samples import Samples
from f1hbase.serve.csvform import CsvLines, csv_line, csv_pieces
from f1hbase.serve.groups import Group, GroupBuilder, GroupKey, Span
from f1hbase.serve.query import Condition, Query
from f1hbase.serve.store import TIMED_OUT, Piece, StoreFailedError, StoreUnavailableError, TooManyRowsError
from f1hbase.serve.times import instant
from f1hbase.stores.files.reading import READ_ERRORS, LongLineError, lines_of, open_file, unpacked

KEY_FIELDS = ("meeting_key", "session_key", "driver_number")

_BEGUN_WITHIN = 60 * 1_000_000  # microseconds: a session counts as begun a minute before it does, as in OpenF1
_TELL_AFTER_LINES = 20_000

_LONG_SECONDS = 0.25
"""A query that has computed for so long, through some 50,000 records, is a long one."""

_LONG_AT_ONCE = 8
"""How many of those may go on at once: half of the server's threads, so that short ones find one."""

BUSY = "Many others look through records now. Try again later, or name a session, a driver and a time."

Progress = Callable[[int, int, int], None]
"""Told, now and then, the bytes read, the bytes of all files, and the records so far."""


def identity_fields(endpoint: Endpoint) -> tuple[str, ...]:
    """Return what tells the records of one meeting, session and driver apart.

    >>> identity_fields(ENDPOINTS["pit"])
    ('lap_number',)
    """
    hashed = (name for part in endpoint.key if isinstance(part, KeyHash) for name in part.fields)
    names = dict.fromkeys((*endpoint.key_fields, *hashed))
    return tuple(name for name in names if name not in {*KEY_FIELDS, "year"})


_IDENTITY = {name: identity_fields(endpoint) for name, endpoint in ENDPOINTS.items()}


class RecordFilesError(F1HBaseError):
    """Files that cannot be served; the text names the file, and the line where there is one."""

    exit_code = 2


class _Keys(msgspec.Struct, gc=False):
    """What every record is sorted in by; the rest of a line is not taken apart."""

    meeting_key: int | None = None
    session_key: int | None = None
    driver_number: int | None = None
    date: str | None = None


_decode_keys = msgspec.json.Decoder(_Keys).decode


class FileStore:
    """The records of all endpoints, by meeting, session and driver, in memory.

    >>> store = FileStore()
    >>> store.add("weather", [b'{"date":"2023-05-07T18:42:25+00:00","session_key":9078,"humidity":58}'])
    >>> store.count("weather")
    1

    Args:
        clock: Gives the seconds since 1970, for what is the latest session.
        most_seconds: How long a query may take.
    """

    def __init__(self, clock: Callable[[], float] = time.time, most_seconds: float = math.inf) -> None:
        self._clock = clock
        self._most_seconds = most_seconds
        self._long = threading.BoundedSemaphore(_LONG_AT_ONCE)
        self._builders: dict[str, dict[GroupKey, GroupBuilder]] = {}
        self._groups: dict[str, list[Group]] = {}
        self._by_session: dict[str, dict[int | None, list[Group]]] = {}

    @classmethod
    def load(
        cls, folders: Iterable[Path], progress: Progress | None = None, most_seconds: float = math.inf
    ) -> FileStore:
        """Read every ``<endpoint>.jsonl`` and ``.jsonl.gz`` in the folders and below.

        The same record found twice counts once, the later one, files being read in order of their paths.
        Raises `RecordFilesError` when a folder is missing, has no such file, or a line is no record.
        """
        files: list[Path] = []
        for folder in folders:
            if not folder.is_dir():
                raise RecordFilesError(f"there is no folder {folder}")
            found = sorted(path for path in folder.rglob("*.jsonl*") if path.name.endswith((".jsonl", ".jsonl.gz")))
            if not found:
                raise RecordFilesError(f"no file named <endpoint>.jsonl or <endpoint>.jsonl.gz in {folder} or below")
            files += found
        store = cls(most_seconds=most_seconds)
        try:
            sizes = [path.stat().st_size for path in files]
        except OSError as error:
            raise RecordFilesError(f"{error.filename} cannot be read: {error.strerror}") from None
        done, records = 0, 0
        for path, size in zip(files, sizes, strict=True):

            def tell(read: int, lines: int, done: int = done, records: int = records) -> None:
                if progress is not None:
                    progress(done + read, sum(sizes), records + lines)

            records += store._add_file(path, tell)
            done += size
            tell(size, 0, done - size, records)
        for endpoint in store.endpoints():
            store.groups(endpoint)  # sorts now rather than in the first request
        return store

    def add(self, endpoint: str, lines: Iterable[bytes], source: str = "records") -> None:
        """Add records, one JSON object a line; ``source`` names them in a `RecordFilesError`."""
        builders = self._builders.setdefault(endpoint, {})
        identity = _IDENTITY.get(endpoint)
        self._groups.pop(endpoint, None)
        self._by_session.pop(endpoint, None)
        for number, line in enumerate(lines, 1):
            line = line.strip()
            if not line:
                continue
            try:
                keys = _read_keys(line)
                moment = None if keys.date is None else instant(keys.date)
                # A line with a space or an escape may not be compact; one without is answered as it stands.
                if b" " in line or b"\\u" in line:
                    line = json.dumps(json.loads(line), separators=(",", ":"), ensure_ascii=False).encode()
            except (ValueError, TypeError, RecursionError) as error:
                raise RecordFilesError(f"{source}, line {number}: {error}") from None
            key = (keys.meeting_key, keys.session_key, keys.driver_number)
            builder = builders.get(key)
            if builder is None:
                builder = builders[key] = GroupBuilder(key)
            if identity == ("date",) and moment is not None:
                builder.append(line, moment, None)
            elif identity is None:
                builder.append(line, moment, line)
            else:
                record = json.loads(line)
                builder.append(line, moment, tuple(str(record.get(name)) for name in identity))

    def add_samples(self, endpoint: str, samples: Samples, lines: Sequence[bytes]) -> None:
        """Add samples whose JSON lines are at hand, several times as fast as `add`."""
        *places, dates = samples.keys
        builders = self._builders.setdefault(endpoint, {})
        self._groups.pop(endpoint, None)
        self._by_session.pop(endpoint, None)
        by_key: dict[GroupKey, list[int]] = {}
        for number, key in enumerate(zip(*places, strict=True)):
            by_key.setdefault(key, []).append(number)
        for key, numbers in by_key.items():
            builder = builders.get(key)
            if builder is None:
                builder = builders[key] = GroupBuilder(key)
            builder.extend([lines[number] for number in numbers], [instant(dates[number]) for number in numbers])

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

    def select(self, endpoint: str, query: Query, limit: int | None = None) -> FileSelection:
        """Return the records that a query asks for, by session and driver, and in each by date.

        Raises `TooManyRowsError`, `StoreFailedError` where it takes too long, and `StoreUnavailableError` where many
        others take long already.
        """
        with ExitStack() as stack:
            return self._select(endpoint, query, limit, self._watch(stack))

    def _watch(self, stack: ExitStack) -> Callable[[], None]:
        """Return what ends a query that takes too long, and has one that takes long be one of a few."""
        deadline = time.monotonic() + self._most_seconds
        long_from = time.thread_time() + _LONG_SECONDS

        def check() -> None:
            nonlocal long_from
            if time.monotonic() > deadline:
                raise StoreFailedError(TIMED_OUT)
            if time.thread_time() >= long_from:
                if not self._long.acquire(blocking=False):
                    raise StoreUnavailableError(BUSY)
                stack.callback(self._long.release)
                long_from = math.inf

        return check

    def _select(self, endpoint: str, query: Query, limit: int | None, check: Callable[[], None]) -> FileSelection:
        keys = [(index, query.conditions[name]) for index, name in enumerate(KEY_FIELDS) if name in query.conditions]
        rest = {name: condition for name, condition in query.conditions.items() if name not in KEY_FIELDS}
        spans: list[Span] = []
        rows = 0
        for group in self._candidates(endpoint, query.conditions.get("session_key")):
            check()
            if all(condition.matches(group.key[index]) for index, condition in keys):
                for span in group.select(rest, check):
                    spans.append(span)
                    rows += span.last - span.first
        if limit is not None and rows > limit:
            raise TooManyRowsError(rows, limit)
        return FileSelection(spans, rows)

    def latest(self, field: str) -> int | None:
        """Return the ``meeting_key`` or ``session_key`` of the session that has begun last and takes place."""
        now = int(self._clock() * 1_000_000) + _BEGUN_WITHIN
        sessions = (
            json.loads(line) for group in self.groups("sessions") for line in group.lines(0, len(group.starts) - 1)
        )
        begun = [
            (instant(one["date_start"]), one.get("session_key") or 0, one.get(field))
            for one in sessions
            if one.get("date_start") and one.get("is_cancelled") is False
        ]
        past = [one for one in begun if one[0] <= now]
        return max(past, key=lambda one: one[:2])[2] if past else None

    def _candidates(self, endpoint: str, session: Condition | None) -> Iterable[Group]:
        """Return the groups that a condition on the session leaves to look at."""
        groups = self.groups(endpoint)
        wanted = None if session is None else session.numbers
        if wanted is None:
            return groups
        if endpoint not in self._by_session:
            index: dict[int | None, list[Group]] = {}
            for group in groups:
                index.setdefault(group.key[1], []).append(group)
            self._by_session[endpoint] = index
        return [group for key, some in self._by_session[endpoint].items() if key in wanted for group in some]

    def _add_file(self, path: Path, tell: Callable[[int, int], None]) -> int:
        """Add the records of a file, and return how many lines it has."""
        endpoint = path.name.removesuffix(".gz").removesuffix(".jsonl")
        count = 0

        def told(lines: Iterable[bytes]) -> Iterator[bytes]:
            nonlocal count
            for count, line in enumerate(lines, 1):
                if count % _TELL_AFTER_LINES == 0:
                    tell(raw.tell(), count)
                yield line

        try:
            with open_file(path) as raw:
                self.add(endpoint, told(lines_of(unpacked(raw, is_gzip=path.suffix == ".gz"), path)), str(path))
        except READ_ERRORS as error:
            raise RecordFilesError(f"{path} cannot be read: {error}") from None
        except LongLineError as error:
            raise RecordFilesError(f"{error}, and is no record") from None
        return count


class FileSelection:
    """Some spans of the files' records; see `f1hbase.serve.store.Selection`."""

    def __init__(self, spans: Sequence[Span], rows: int) -> None:
        self._spans = spans
        self.rows = rows

    def json(self) -> list[Piece]:
        """Return the JSON, as stretches of what was read."""
        pieces: list[Piece] = []
        for span in self._spans:
            if pieces:
                pieces.append(b",")
            pieces.append(span.group.json(span.first, span.last))
        return pieces

    def csv(self) -> Iterable[Piece]:
        """Return the CSV: stretches of lines made before where all records have the same fields."""
        tables: list[CsvLines] = []
        for span in self._spans:
            table = span.group.csv()
            if table.fields is None or (tables and tables[0].fields != table.fields):
                return csv_pieces(self.lines)
            tables.append(table)
        parts = [table.lines(span.first, span.last) for table, span in zip(tables, self._spans, strict=True)]
        return [csv_line(tables[0].fields or ()), *parts]

    def lines(self) -> Iterator[bytes]:
        """Yield the JSON of each record."""
        for span in self._spans:
            yield from span.group.lines(span.first, span.last)


def _read_keys(line: bytes) -> _Keys:
    """Return the keys of a record, or raise `ValueError` or `TypeError` with what is wrong with the line."""
    if not line.isascii():
        line.decode()  # which a field that is not looked at would not be
    try:
        return _decode_keys(line)
    except msgspec.MsgspecError:
        record = json.loads(line.decode(), parse_constant=_refuse)
    if not isinstance(record, dict):
        raise TypeError("not a JSON object")
    keys = {name: record.get(name) for name in KEY_FIELDS}
    if not all(value is None or (isinstance(value, int) and not isinstance(value, bool)) for value in keys.values()):
        raise TypeError(f"{', '.join(KEY_FIELDS)} must be whole numbers")
    date = record.get("date")
    if not (date is None or isinstance(date, str)):
        raise TypeError("date must be a text")
    return _Keys(**keys, date=date)


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
