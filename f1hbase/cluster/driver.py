"""The rounds of a load as Spark does them: files of HBase written, and handed over."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence

from f1hbase.cluster.encoding import EncodedUnit
from f1hbase.cluster.hfiles import HBaseFiles
from f1hbase.cluster.rounds import Round, encode_round
from f1hbase.cluster.session import SparkApplication, SparkSettings
from f1hbase.cluster.thread import SparkThread
from f1hbase.pipeline.display import TaskDisplay
from f1hbase.stores.files.urls import Location
from f1hbase.stores.hbase.schema import Tables

STAGED_BYTES_PER_RECORD = 30
"""About what a record takes in HBase's files until HBase has them: 10.4 bytes of car_data with FAST_DIFF and GZ
(measured), more where a table has neither or Spark is at the merging."""


class SparkDriver:
    """Spark, started when there is something for it to do.

    Args:
        settings: How it is started.
        jars: The jars of HBase.
        location: The landing zone that it reads.
        tables: The names of the tables.
        run: The run that this is.
        stop: Set when the run is to end early.
    """

    def __init__(
        self,
        settings: SparkSettings,
        jars: Sequence[str],
        location: Location,
        tables: Tables,
        run: str,
        stop: threading.Event,
    ) -> None:
        self._settings = settings
        self._location = location
        self._tables = tables
        self._run_id = run
        self._stop = stop
        self._spark = SparkThread(settings, jars, f"f1hbase load {run}")
        self._files: HBaseFiles | None = None

    def encode(
        self,
        work: Round,
        *,
        run_row: bytes,
        records: int,
        deleted_at: int,
        living: Collection[str],
        display: TaskDisplay,
    ) -> tuple[str, list[EncodedUnit]]:
        """Write the files of a round, and return their folder, and what has become of each unit.

        Args:
            work: What is to be read.
            run_row: The row of this run among the reports, written just now: all cells bear its time.
            records: About how many records there are.
            deleted_at: When records of these meetings were last deleted; all cells bear a later time.
            living: The runs that load now, whose folders stay.
            display: Shows how far it is.

        Raises:
            StoppedError: If the run is to end.
            SparkError: If Spark fails; says why.
            UnreachableError: If Spark's Java does not reach HBase.
            ConfigError: If Spark's Java sees another HBase than this process.
        """

        def encode(application: SparkApplication) -> tuple[str, list[EncodedUnit]]:
            files = self._opened(application)
            written_at = files.written_at(self._tables.reports, run_row)
            files.check_available()
            files.make_room(self._run_id, living, records * STAGED_BYTES_PER_RECORD)
            root = files.file_root(self._location.scheme, self._location.root, self._location.prefix)
            return encode_round(application, files, self._run_id, work, root, max(written_at, deleted_at + 1))

        return self._spark.do(encode, display, self._stop)

    def hand_over(self, folder: str, display: TaskDisplay) -> None:
        """Have HBase take the files of a folder; not interrupted, as HBase would have some of them."""

        def hand_over(_: SparkApplication) -> None:
            assert self._files is not None
            self._files.hand_over(folder)

        self._spark.do(hand_over, display)

    def close(self) -> None:
        """End Spark and delete the staging folder of this run, whatever has happened."""
        self._spark.close(self._clear)

    def _opened(self, application: SparkApplication) -> HBaseFiles:
        if self._files is None:
            self._files = HBaseFiles(application, self._tables.data, self._settings.staging)
        return self._files

    def _clear(self) -> None:
        # What is left behind, the next run deletes.
        if self._files is not None:
            self._files.clear(self._run_id)
