"""Spark for operations that read tables of HBase: whether all is there for it, and one read after the other."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from time import monotonic
from typing import TYPE_CHECKING, Any

from f1hbase.cluster.scans import ScanPart, Snapshot, TableScans, Work
from f1hbase.cluster.session import SparkApplication, SparkSettings, check_installed, hbase_jars
from f1hbase.cluster.thread import SparkThread
from f1hbase.pipeline.display import TaskDisplay
from f1hbase.state.hbase import cells as names
from f1hbase.state.hbase.reports import HBaseReports
from f1hbase.stores.hbase.connector import HBaseConnector, find_gateways
from f1hbase.stores.hbase.schema import Tables
from f1hbase.stores.hbase.shell import find_shell

if TYPE_CHECKING:
    from f1hbase.config import Config

_log = logging.getLogger(__name__)

_BRIEF_ROWS = 10_000_000
"""Below so many rows Java's slow compiler takes longer than it saves: see `SparkSettings`."""


class SparkReader:
    """Reads tables by Spark.

    Args:
        spark: Spark, which is started with the first read.
        tables: The names of the tables.
        known_row: A row of the reports that the Thrift gateway has; None if there is none.
        show: Makes the display of Spark's tasks.
        snapshot: Whether to read the files of snapshots, taken for each read.
    """

    def __init__(
        self,
        spark: SparkThread,
        tables: Tables,
        known_row: bytes | None,
        show: Callable[[], TaskDisplay],
        *,
        snapshot: bool = False,
    ) -> None:
        self.tables = tables
        self._spark = spark
        self._known_row = known_row
        self._show = show
        self._snapshot = snapshot

    def read(self, name: str, parts: Sequence[ScanPart], work: Work) -> list[Any]:
        """Return what workers make of some parts, in their order.

        Args:
            name: What it is, for people.
            parts: What is to be read.
            work: Called in Python workers, for one part after the other.

        Raises:
            SparkError: If Spark fails, or a table cannot be read; says why and what to do.
            UnreachableError, ConfigError: If Spark does not see the HBase that the Thrift gateway serves.
        """
        families: dict[str, set[str]] = defaultdict(set)
        for part in parts:
            for scan in part.ranges:
                families[scan.table].add(scan.family)

        def read(application: SparkApplication) -> list[Any]:
            scans = TableScans(application)
            if self._known_row is not None:
                scans.written_at(self.tables.reports, self._known_row)
            scans.check(families)
            none: dict[str, Snapshot] = {}
            with scans.snapshots(families) if self._snapshot else nullcontext(none) as snapshots:
                started = monotonic()
                results = scans.read(parts, work, snapshots)
                _log.debug("%s took %.1f s once it had started", name, monotonic() - started)
                return results

        display = self._show()
        try:
            display.begin(name)
            return self._spark.do(read, display, brief=sum(part.expected for part in parts) < _BRIEF_ROWS)
        finally:
            display.close()

    def close(self) -> None:
        """End Spark, whatever it is at."""
        self._spark.close()


def open_spark_reader(
    config: Config, name: str, show: Callable[[], TaskDisplay], *, snapshot: bool = False
) -> SparkReader:
    """Look whether all is there that reading HBase by Spark needs, and return what does it; starts nothing.

    Args:
        config: The settings.
        name: What Spark's own pages call it.
        show: Makes the display of Spark's tasks.
        snapshot: Whether to read the files of snapshots.

    Raises:
        F1HBaseError: If something is not there; says what, and how to have it.
    """
    settings = config.settings
    check_installed()
    jars = hbase_jars(settings.spark_conf, find_shell())
    tables = Tables(settings.table_prefix)
    gateways = find_gateways(settings.gateways, settings.hbase_transport, settings.hbase_protocol)
    connector = HBaseConnector(gateways, settings.patience.total_seconds())
    try:
        reports = HBaseReports(connector, tables.reports)
        reports.check_there()
        run = next(iter(reports.runs()), None)
    finally:
        connector.close()
    spark = SparkThread(SparkSettings(settings.spark_master, settings.spark_conf), jars, name)
    row = None if run is None else names.run_row(run.run_id)
    return SparkReader(spark, tables, row, show, snapshot=snapshot)
