"""Spark at work in a thread of its own, so that leases are kept and an interrupt is heard meanwhile."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from f1hbase.cluster.encoding import EncodedUnit
from f1hbase.cluster.errors import SparkError, explain, is_of_spark
from f1hbase.cluster.hfiles import HBaseFiles
from f1hbase.cluster.rounds import Round, encode_round
from f1hbase.cluster.session import SparkApplication, SparkSettings
from f1hbase.errors import ConfigError, F1HBaseError, UnreachableError
from f1hbase.pipeline.display import TaskDisplay
from f1hbase.stores.files.urls import Location
from f1hbase.stores.hbase.schema import Tables

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")

_TICK_SECONDS = 0.5
_CANCEL_SECONDS = 5.0
"""How long Spark may take to end what it is told to end; then its Java is killed."""

STAGED_BYTES_PER_RECORD = 30
"""About what a record takes in HBase's files until HBase has them: 10.4 bytes of car_data with FAST_DIFF and GZ
(measured), more where a table has neither or Spark is at the merging."""


class StoppedError(F1HBaseError):
    """The load was told to stop while Spark was at work."""


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
        self._jars = jars
        self._location = location
        self._tables = tables
        self._run_id = run
        self._stop = stop
        self._thread = ThreadPoolExecutor(1, "spark")
        self._application: SparkApplication | None = None
        self._files: HBaseFiles | None = None
        self._under_way: Future[Any] | None = None

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

        def encode() -> tuple[str, list[EncodedUnit]]:
            application, files = self._opened()
            written_at = self._written_at(files, run_row)
            files.check_available()
            files.make_room(self._run_id, living, records * STAGED_BYTES_PER_RECORD)
            root = files.file_root(self._location.scheme, self._location.root, self._location.prefix)
            return encode_round(application, files, self._run_id, work, root, max(written_at, deleted_at + 1))

        return self._do(encode, display, stoppable=True)

    def hand_over(self, folder: str, display: TaskDisplay) -> None:
        """Have HBase take the files of a folder; not interrupted, as HBase would have some of them."""

        def hand_over() -> None:
            assert self._files is not None
            self._files.hand_over(folder)

        self._do(hand_over, display, stoppable=False)

    def close(self) -> None:
        """End Spark and delete the staging folder of this run, whatever has happened."""
        application = self._application
        if application is not None and self._under_way is not None and not self._under_way.done():
            # The user would not wait any longer.
            application.cancel()
            if not wait([self._under_way], _CANCEL_SECONDS).done:
                application.kill()
        self._thread.submit(self._close)
        self._thread.shutdown()

    def _opened(self) -> tuple[SparkApplication, HBaseFiles]:
        if self._application is None:
            self._application = SparkApplication(self._settings, self._jars, f"f1hbase load {self._run_id}")
            _log.debug("Spark: started")
        if self._files is None:
            self._files = HBaseFiles(self._application, self._tables.data, self._settings.staging)
        return self._application, self._files

    def _written_at(self, files: HBaseFiles, run_row: bytes) -> int:
        """Return when the row of this run was written, as Spark's Java reads it; it proves that both see one HBase."""
        quorum = "spark.hadoop.hbase.zookeeper.quorum=HOST and spark.hadoop.hbase.zookeeper.property.clientPort=PORT"
        how = f"Name the right one with --spark-conf {quorum}, or HBase's settings with HBASE_CONF_DIR."
        try:
            written_at = files.written_at(self._tables.reports, run_row)
        except Exception as error:
            raise UnreachableError(
                f"Spark does not reach HBase by its ZooKeeper at {files.quorum} ({explain(error)}). {how}"
            ) from error
        if written_at is None:
            raise ConfigError(
                f"the HBase that Spark sees, by its ZooKeeper at {files.quorum}, is not the one of the Thrift gateway: "
                f"this run is not in its table '{self._tables.reports}'. {how}"
            )
        return written_at

    def _close(self) -> None:
        try:
            if self._files is not None:
                self._files.clear(self._run_id)
        except Exception as error:  # noqa: BLE001 - of Py4J; the next run deletes it
            _log.debug("the staging folder is not deleted: %s", explain(error))
        if self._application is not None:
            self._application.stop()

    def _do(self, call: Callable[[], _Result], display: TaskDisplay, *, stoppable: bool) -> _Result:
        """Call something in Spark's thread, and show meanwhile how far it is."""
        future = self._thread.submit(call)
        self._under_way = future
        while not wait([future], _TICK_SECONDS).done:
            application = self._application
            if application is None:
                continue
            if stoppable and self._stop.is_set():
                application.cancel()
            display.show(*application.stages())
        error: Any = future.exception()
        if error is None:
            return future.result()
        if stoppable and self._stop.is_set():
            raise StoppedError("interrupted while Spark was at work: nothing of this round is loaded") from error
        if isinstance(error, F1HBaseError):
            raise error
        # Of an error of Spark's own the stack says nothing of this program; Spark's words are logged when it ends.
        _log.debug("Spark failed (%s)", type(error).__name__, exc_info=None if is_of_spark(error) else error)
        raise SparkError(explain(error)) from error
