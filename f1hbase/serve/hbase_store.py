"""The records in HBase, by ranges of row keys: what a query says of drivers and times is never filtered, but looked up.

It knows no HTTP.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import islice

from f1hbase.config import Config
from f1hbase.errors import ConfigError, StoreError
from f1hbase.frames.reading import stored_fingerprint
from f1hbase.model.catalog import Endpoint
from f1hbase.model.samples import Record, Samples
from f1hbase.model.units import ALL_TIME, Scope, Unit
from f1hbase.serve.blocks import EMPTY, Block, block_of, holds
from f1hbase.serve.reader_store import ReaderStore
from f1hbase.serve.sessions import Listed, Sessions
from f1hbase.serve.wanted import Wanted
from f1hbase.sources import hbase
from f1hbase.sources.hbase import HBaseReader, key_range
from f1hbase.stores.hbase.scans import KeyRange

CONNECTIONS = 8
"""How many calls are made at the same time: a gateway serves 16 connections unless told otherwise, and a load wants
some as well."""

ROWS_A_CALL = 2_000
"""How many rows one call brings at most: 0.4 MB of car_data as JSON, which is what the reader of an answer may hold."""

AT_ONCE = 8
"""How many ranges of one answer are read at the same time where they are small: windows of time, or whole endpoints
that have no samples. What is read of all of them together is no more than what one large range gives."""

_FEWEST_ROWS = ROWS_A_CALL // AT_ONCE

FRESH_SECONDS = 2.0
"""For how long the sessions, and what is loaded of them, are remembered."""

FRESH_DRIVERS_SECONDS = 10.0
"""For how long it is remembered who has records of a session, unless more of it was loaded meanwhile: it takes a call
for each car to find out."""

PATIENCE_SECONDS = 2.0
"""For how long HBase may be away before an answer is a 503."""

CALL_SECONDS = 20.0
"""How long one call may take."""


class HBaseRecords:
    """Reads the records of sessions by ranges of row keys; see `f1hbase.serve.reader_store.SessionRecords`.

    Args:
        reader: Reads HBase.
        clock: Gives seconds, rising.

    Attributes:
        rows_read: How many rows were read so far, those that were filtered out included.
    """

    def __init__(self, reader: HBaseReader, clock: Callable[[], float] = time.monotonic) -> None:
        self._reader = reader
        self._threads = ThreadPoolExecutor(CONNECTIONS, "hbase")
        self._clock = clock
        self._drivers: dict[tuple[str, str], _Drivers] = {}
        self._counting = threading.Lock()
        self.rows_read = 0

    def blocks(self, wanted: Wanted, listed: Listed, scopes: Sequence[Scope]) -> Iterator[Block]:
        """Yield the wanted records of some sessions, in the order of their keys."""
        rest = wanted.rest
        ranges = (keys for scope in scopes for keys in self._ranges(wanted, listed, scope))
        at_once = 1 if wanted.endpoint.sampled and wanted.windows == (ALL_TIME,) else AT_ONCE
        work: deque[_Reading] = deque()
        while True:
            work.extend(_Reading(keys) for keys in islice(ranges, at_once - len(work)))
            if not work:
                return
            self._read([one for one in work if one.parts is None], wanted.endpoint)
            yield EMPTY
            while work and (first := work[0]).parts is not None:
                for part in first.parts:
                    records = [one for one in part if _has(wanted, one)] if not isinstance(part, Samples) else part
                    yield block_of(records, rest)
                if first.others is None:
                    work.popleft()
                else:
                    work[0] = _Reading(first.others)

    def close(self) -> None:
        """Close all connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._reader.close()

    def _ranges(self, wanted: Wanted, listed: Listed, scope: Scope) -> Iterator[KeyRange]:
        endpoint = wanted.endpoint
        drivers: Sequence[int | None] = (None,)
        if endpoint.by_driver:
            filtered = "driver_number" in wanted.conditions
            if wanted.drivers is not None:
                drivers = wanted.drivers
            elif filtered or endpoint.sampled or (wanted.windows != (ALL_TIME,) and endpoint.time_field is not None):
                drivers = [one for one in self._drivers_of(endpoint, listed, scope) if wanted.wants_driver(one)]
        for driver in drivers:
            for window in wanted.windows:
                yield key_range(endpoint, scope, driver, window)

    def _drivers_of(self, endpoint: Endpoint, listed: Listed, scope: Scope) -> Sequence[int]:
        """Return who has records of an endpoint in a session: by the table, whatever the reports say."""
        key = (endpoint.family, scope.prefix)
        loaded = stored_fingerprint(Unit(endpoint.name, scope), listed.states_of(scope))
        known = self._drivers.get(key)
        now = self._clock()
        if known is not None and known.loaded == loaded and now - known.read_at < FRESH_DRIVERS_SECONDS:
            return known.numbers
        found = self._reader.drivers(endpoint, scope)
        self._count(len(found))
        if len(self._drivers) > _MOST_REMEMBERED:
            self._drivers.clear()
        self._drivers[key] = _Drivers(found, loaded, now)
        return found

    def _read(self, readings: Sequence[_Reading], endpoint: Endpoint) -> None:
        """Read the first rows of some ranges, all at the same time."""
        most = ROWS_A_CALL if len(readings) == 1 else _FEWEST_ROWS

        def read(one: _Reading) -> None:
            one.parts, one.others = self._reader.read_some(endpoint, one.keys, most)

        if len(readings) == 1:
            read(readings[0])
        else:
            list(self._threads.map(read, readings))
        self._count(sum(len(part) for one in readings for part in one.parts or ()))

    def _count(self, rows: int) -> None:
        with self._counting:
            self.rows_read += rows


_MOST_REMEMBERED = 1_000


@dataclass(frozen=True, slots=True)
class _Drivers:
    """Who has records, what was loaded when that was read, and when it was."""

    numbers: Sequence[int]
    loaded: Sequence[Sequence[str]]
    read_at: float


@dataclass(slots=True)
class _Reading:
    """A range, and once they are read, its first records and the range of the others."""

    keys: KeyRange
    parts: Sequence[Samples | Sequence[Record]] | None = None
    others: KeyRange | None = None


def _has(wanted: Wanted, record: Record) -> bool:
    """Tell whether a record is of the drivers and times that its range of keys was made for.

    Keys are texts: a time that is not spelt as OpenF1 does may be in another range.
    """
    return all(
        name not in record or holds(condition, record[name])
        for name, condition in wanted.conditions.items()
        if name in {"date", "driver_number"}
    )


def record_store(config: Config, location: str, most_seconds: float) -> ReaderStore:
    """Return the records of HBase's tables.

    Raises:
        ConfigError: If there are no tables.
        UnreachableError: If no gateway answers.
    """
    timeout = min(config.settings.hbase_timeout, timedelta(seconds=CALL_SECONDS))
    recipe = replace(hbase.recipe(config, location), call_timeout=timeout.total_seconds())
    reader = recipe.reader(PATIENCE_SECONDS, CONNECTIONS)
    sessions = Sessions(lambda: reader, FRESH_SECONDS)
    try:
        sessions.listed()
    except StoreError as error:
        raise ConfigError(f"there is nothing to serve in {reader.home}: {error}. Load something first.") from error
    return ReaderStore(sessions, HBaseRecords(reader), most_seconds)
