"""A table as Spark's Java sees it: where its regions begin, its files written by Spark, and their hand-over.

All by public classes of HBase and Hadoop; one of ours (`Cells.java`) makes the cells. Knows no landing zone.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from f1hbase.cluster.errors import SparkError
from f1hbase.cluster.hbase import HBaseByJava
from f1hbase.cluster.session import SparkApplication

_USUAL_MOST_FILES = 32
"""How many files HBase takes for a region and family at a time, unless it is told otherwise."""

_ASSIGN_SECONDS = 15.0
"""For how long regions may be on their way from one server to another."""

_LOOK_SECONDS = 1.0

_HERE = "f1hbase-staging"

_MARK = ".run"


class HBaseFiles(HBaseByJava):
    """A table of HBase, to be filled with finished files.

    Args:
        spark: The application.
        table: The name of the table.
        staging: The folder for files until HBase has taken them; None for one below the file system's `/tmp`.

    Attributes:
        staging: That folder.
    """

    def __init__(self, spark: SparkApplication, table: str, staging: str | None) -> None:
        super().__init__(spark)
        self._name = self._table_name(table)
        self._path: Callable[[str], Any] = spark.java_class("org.apache.hadoop.fs.Path")
        self._staging = self._path(staging or self._usual_staging(table))
        self._files = self._staging.getFileSystem(self._conf)
        self._local = Path(str(self._staging.toUri().getPath())) if self._files.getScheme() == "file" else None
        self.staging = str(self._staging.toString())

    def region_starts(self) -> list[bytes]:
        """Return the first key of each region but the first, in order."""
        connection = self._connect()
        try:
            return sorted(filter(None, map(bytes, connection.getRegionLocator(self._name).getStartKeys())))
        finally:
            connection.close()

    def check_available(self) -> None:
        """Look whether HBase takes files into each region of the table.

        Raises:
            SparkError: If not; says what to do in hbase shell.
        """
        connection = self._connect()
        try:
            admin = connection.getAdmin()
            name = self._name.getNameAsString()
            self._check_enabled(admin, name)
            until = monotonic() + _ASSIGN_SECONDS
            while missing := self._unopened(admin):
                if monotonic() > until:
                    raise SparkError(
                        f"the table '{name}' has regions that no server has open: have HBase open them in hbase shell "
                        f"(assign '{missing[0]}')."
                    )
                sleep(_LOOK_SECONDS)
        finally:
            connection.close()

    def _unopened(self, admin: Any) -> list[str]:
        """Return the regions of the table that no server has open now, by their encoded names."""
        regions = {str(region.getEncodedName()) for region in admin.getRegions(self._name)}
        for server in admin.getRegionServers().toArray():
            regions -= {str(region.getEncodedName()) for region in admin.getRegions(server)}
        return sorted(regions)

    def make_room(self, run: str, living: Collection[str], needed: int) -> None:
        """Make the folder of a run, and delete those that runs left behind that are no more.

        Args:
            run: This run.
            living: The runs that are loading now.
            needed: About how many bytes its files will take.

        Raises:
            SparkError: If the folder cannot be written, or has no room.
        """
        try:
            self._files.mkdirs(self._staging)
            for status in self._files.listStatus(self._staging):
                name = str(status.getPath().getName())
                if name != run and name not in living:
                    self._files.delete(status.getPath(), True)
            folder = self._child(run)
            self._files.mkdirs(folder)
            if self._local is None:
                # The servers of HBase, which move the files away, may run as another user.
                self._files.setPermission(folder, self._everybody())
            # By which executors know the folder for the same one; it goes with the folder.
            self._files.create(self._path(f"{folder.toString()}/{_MARK}"), True).close()
            left = int(self._files.getStatus(folder).getRemaining())
        except Exception as error:
            if not hasattr(error, "java_exception"):
                raise
            reason = str(error.java_exception.getMessage() or error.java_exception.toString()).splitlines()[0]
            raise SparkError(
                f"the staging folder '{self.staging}' cannot be written ({reason[:200]}): name another with "
                "--spark-staging."
            ) from error
        if left < needed:
            raise SparkError(
                f"the staging folder '{self.staging}' has room for {left / 1e9:,.1f} GB, and about "
                f"{needed / 1e9:,.1f} GB are needed: free some, or name another with --spark-staging."
            )

    def write(self, blocks: Any, run: str, attempt: int, timestamp: int, most_files: int) -> tuple[str, int]:
        """Write blocks of rows as files of HBase.

        Args:
            blocks: A frame of the column block, in each partition sorted by family and first key.
            run: This run.
            attempt: Which folder of it.
            timestamp: Of every cell, in ms since 1970.
            most_files: How many files a region may get for a family.

        Returns:
            The folder of the files, and how many rows were written.
        """
        folder = f"{self._child(run).toString()}/{attempt:04d}"
        connection = self._connect()
        try:
            descriptor = connection.getAdmin().getDescriptor(self._name)
            job = self._spark.java_class("org.apache.hadoop.mapreduce.Job").getInstance(self._conf)
            output = self._spark.java_class("org.apache.hadoop.hbase.mapreduce.HFileOutputFormat2")
            output.configureIncrementalLoadMap(job, descriptor)
        finally:
            connection.close()
        conf = job.getConfiguration()
        settings: Mapping[str, str] = {
            "mapreduce.output.fileoutputformat.outputdir": folder,
            "hbase.mapreduce.hfileoutputformat.table.name": str(self._name.getNameAsString()),
            # It would ask HBase for the server of each file; where files are copied or moved, that gains nothing.
            "hbase.bulkload.locality.sensitive.enabled": "false",
            "mapreduce.fileoutputcommitter.marksuccessfuljobs": "false",
            "fs.permissions.umask-mode": "000" if self._local is None else "022",
        }
        for key, value in settings.items():
            conf.set(key, value)
        self._conf.set(
            "hbase.mapreduce.bulkload.max.hfiles.perRegion.perFamily", str(max(_USUAL_MOST_FILES, most_files))
        )
        written = self._spark.java_class("f1hbase.Cells").save(blocks._jdf, conf, timestamp, self._mark(run))
        return folder, int(written)

    def _mark(self, run: str) -> str | None:
        """Return the file by which executors know the folder of a run, if that is a local one."""
        return None if self._local is None else str(self._local / run / _MARK)

    def hand_over(self, folder: str) -> None:
        """Have HBase take the files of a folder; on return all of them are part of the table."""
        loader = self._spark.java_class("org.apache.hadoop.hbase.tool.BulkLoadHFiles").create(self._conf)
        loader.bulkLoad(self._name, self._path(folder))

    def clear(self, run: str) -> None:
        """Delete the folder of a run; what HBase has taken is not in it any more, or was copied."""
        if self._local is None:
            self._files.delete(self._child(run), True)
        else:
            # Also where Spark's Java has been killed.
            shutil.rmtree(self._local / run, ignore_errors=True)

    def file_root(self, scheme: str, root: str, prefix: str) -> str:
        """Return what Hadoop calls the root of a place, such as `s3a://bucket/prefix`.

        Raises:
            SparkError: If Spark cannot read there; says what it lacks.
        """
        if scheme == "file":
            return str(self._path(f"file:{root}").toString())  # without `..`
        for name in ("s3", "s3a") if scheme == "s3" else (scheme,):
            if self._has_file_system(name):
                return f"{name}://{root}" + (f"/{prefix}" if prefix else "")
        raise SparkError(
            f"this Spark cannot read {scheme}://: add its connector with --spark-conf spark.jars.packages=..., such as "
            "org.apache.hadoop:hadoop-aws:3.3.4 for S3."
        )

    def _has_file_system(self, scheme: str) -> bool:
        try:
            self._spark.java_class("org.apache.hadoop.fs.FileSystem").getFileSystemClass(scheme, self._hadoop)
        except Exception:  # noqa: BLE001 - Py4J's, of whatever class it is that is not there
            return False
        return True

    def _child(self, name: str) -> Any:
        return self._path(f"{self._staging.toString()}/{name}")

    def _usual_staging(self, table: str) -> str:
        return f"/tmp/{_HERE}-{os.getuid()}/{table}"  # noqa: S108 - of the cluster's file system, and its folder is ours

    def _everybody(self) -> Any:
        return self._spark.java_class("org.apache.hadoop.fs.permission.FsPermission")("777")
