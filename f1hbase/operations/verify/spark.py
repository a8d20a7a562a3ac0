"""HBase as `verify` looks at it by Spark: what is expected is known here, and workers count what is there against it.

Reports, leases and what each session is are still read through the Thrift gateway; they are few. Reads only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from f1hbase.cluster.reading import SparkReader, open_spark_reader
from f1hbase.cluster.scans import Found, RangeScan, ScanPart
from f1hbase.errors import ConfigError
from f1hbase.model.catalog import ALL_ENDPOINTS
from f1hbase.model.memo import Memo
from f1hbase.model.text import count
from f1hbase.model.units import SEPARATOR, Scope
from f1hbase.operations.verify.base import Depth, StoredRecord, Tick, Uncounted
from f1hbase.operations.verify.differences import Difference
from f1hbase.operations.verify.hbase import FamilyRows, HBaseAuditor, families_of
from f1hbase.operations.verify.hbase_rows import FamilyCount
from f1hbase.operations.verify.reconcile import Reconciliation, Stray, Tally
from f1hbase.pipeline.display import TaskDisplay
from f1hbase.sources.hbase_rows import expected_columns
from f1hbase.stores.hbase.answers import OtherRow, rows_of, value_of
from f1hbase.stores.hbase.connector import HBaseConnector, find_gateways
from f1hbase.stores.hbase.scans import KeyRange
from f1hbase.stores.hbase.schema import Tables

if TYPE_CHECKING:
    from f1hbase.config import Config

_NO_COLUMN = b"\0"
"""What no cell is called."""


class SparkAuditor(HBaseAuditor):
    """Looks at HBase by Spark; see `f1hbase.operations.verify.base`: `Auditor`, `CountsAhead`.

    Args:
        connector: The connection to the gateway.
        tables: The names of the tables.
        reader: Reads the tables.
    """

    look = "keys counted by Spark; --deep reads the cells, too"
    deep_look = "every cell read by Spark"

    def __init__(self, connector: HBaseConnector, tables: Tables, reader: SparkReader) -> None:
        super().__init__(connector, tables)
        self._spark = reader
        self._foreign: dict[str, list[Difference]] = defaultdict(list)

    def check(self, depth: Depth) -> None:
        """Refuse to go on without the tables, or to count in two ways."""
        if depth.row_counter:
            raise ConfigError("--row-counter has HBase's own job count: leave it out, or --engine spark.")
        super().check(depth)

    def count_ahead(self, scopes: Sequence[Uncounted], *, deep: bool) -> None:
        """Count the rows of some scopes, a task of Spark for each family of a session, or several small ones in one."""
        families = [
            (one.scope, family)
            for one in scopes
            if one.scope.dataset in self._there
            for family in families_of(one.scope, one.reconciliations)
        ]
        if not families:
            return
        parts = [self._part(scope, family, deep=deep) for scope, family in families]
        name = f"Spark: {count(len(scopes), 'session')}"
        counted: list[tuple[list[Tally], Stray | None]] = self._spark.read(name, parts, _count)
        for (scope, family), (tallies, foreign) in zip(families, counted, strict=True):
            for book, tally in zip(family.counter.reconciliations, tallies, strict=True):
                book.take(tally)
            family.counter.foreign = foreign
            self._foreign[scope.prefix] += family.foreign(scope)

    def count(
        self, scope: Scope, reconciliations: Mapping[str, Reconciliation], tick: Tick, *, deep: bool
    ) -> Iterator[Difference]:
        """Yield what was found that belongs to no endpoint at all; `count_ahead` has counted the rest."""
        tick(sum(book.rows for book in reconciliations.values()))
        yield from self._foreign.pop(scope.prefix, ())

    def close(self) -> None:
        """End Spark, and close the connection."""
        self._spark.close()
        super().close()

    def _part(self, scope: Scope, family: FamilyRows, *, deep: bool) -> ScanPart:
        own, table = scope.row_prefix.encode(), self._tables.of(scope.dataset)
        below = own + SEPARATOR.encode()
        ranges = [KeyRange(below, own + bytes([below[-1] + 1]))]
        if family.is_keyless:
            ranges.insert(0, KeyRange(own, own + b"\0"))
        scans = [RangeScan(table, family.name, keys, keys_only=not deep) for keys in ranges]
        expected = sum(book.reported for book in family.counter.reconciliations)
        return ScanPart((family.name, family.counter, deep), scans, expected)


def open_auditor(config: Config, location: str, show: Callable[[], TaskDisplay]) -> SparkAuditor:
    """Look whether all is there that verifying by Spark needs, and return what does it; does not start Spark yet.

    Raises:
        F1HBaseError: If something is not there; says what, and how to have it.
    """
    if location != "hbase":
        raise ConfigError(
            f"--engine spark verifies tables of HBase, not '{location}': leave out --to, or use --engine local."
        )
    reader = open_spark_reader(config, "f1hbase verify", show)
    settings = config.settings
    gateways = find_gateways(settings.gateways, settings.hbase_transport, settings.hbase_protocol)
    connector = HBaseConnector(gateways, settings.patience.total_seconds())
    return SparkAuditor(connector, reader.tables, reader)


def _count(about: tuple[str, FamilyCount, bool], answers: Iterator[Found]) -> tuple[list[Tally], Stray | None]:
    """Count the rows of a family in a scope, in a worker."""
    family, counter, deep = about
    columns = _columns(family)
    for answer in answers:
        assert isinstance(answer, bytes)  # no columns of numbers are named
        if deep:
            for key, cells in _rows(answer, columns):
                counter.add(key, cells)
        else:
            for run in rows_of(answer, [_NO_COLUMN]):
                for key in [run.key] if isinstance(run, OtherRow) else run.keys:
                    counter.add(key)
    return [book.tally() for book in counter.reconciliations], counter.foreign


def _columns(family: str) -> list[bytes]:
    """Return the columns that rows of a family usually have."""
    columns = [expected_columns(one.name) for one in ALL_ENDPOINTS.values() if one.family == family]
    return list(dict.fromkeys(column for some in columns for column in some))


def _rows(answer: bytes, columns: Sequence[bytes]) -> list[StoredRecord]:
    """Return the rows of an answer with their cells."""
    rows: list[StoredRecord] = []
    try:
        for run in rows_of(answer, columns):
            if isinstance(run, OtherRow):
                rows.append(run)
                continue
            for key, *framed in zip(run.keys, *run.columns, strict=True):
                rows.append((key, {name: _VALUES[one] for name, one in zip(columns, framed, strict=True) if one}))
    except ValueError:
        # A value looks like the end of one. Read plainly, row by row, nothing can be mistaken.
        return [run for run in rows_of(answer, [_NO_COLUMN]) if isinstance(run, OtherRow)]
    return rows


_VALUES: Memo[bytes, bytes] = Memo(lambda framed: value_of(framed) or b"")
