"""Ranges of HBase's rows for Python workers, read by executors from region servers or from the files of a snapshot.

A class of Java (`Scans.java`) reads, and hands the rows on in the form of the Thrift gateway's answers, so that they
are decoded as those are, or in columns where all of them are whole numbers. Knows no endpoint.
"""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import secrets
import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

from f1hbase.cluster.blocks import Block, read_block
from f1hbase.cluster.errors import SparkError, explain
from f1hbase.cluster.hbase import HBaseByJava
from f1hbase.stores.hbase.scans import ROWS_A_CALL, KeyRange

_log = logging.getLogger(__name__)

Found = bytes | Block
"""Some rows: an answer of Thrift's to `scannerGetList`, or a block, where columns of numbers were named."""

Work = Callable[[Any, Iterator[Found]], object]
"""Makes something in a worker: is given what a part is about, and the rows of its ranges in the order of their keys."""

ROWS_A_TASK = 100_000
"""What has fewer rows shares a task of Spark with others, as each takes some hundredths of a second by itself."""

_MESSAGE = struct.Struct(">2i")
_ALONG, _BLOCK = 0, 2
"""What kind of message it is, as of `Scans.java`; all others are answers."""

_SNAPSHOT = "f1hbase-"
_SNAPSHOT_SECONDS = 86_400
"""When HBase itself deletes a snapshot that a killed run has left behind."""

_RESTORED_IN = "/tmp/f1hbase-snapshots"  # noqa: S108 - of HBase's own file system, and its folder is ours

_RESTORED = "org.apache.hadoop.hbase.mapreduce.TableSnapshotInputFormat"
_RESTORED_TO = "hbase.TableSnapshotInputFormat.restore.dir"


@dataclass(frozen=True, slots=True)
class RangeScan:
    """A range of rows that is to be read.

    Attributes:
        table: The table.
        family: Only rows that have cells in this column family, and only those cells.
        keys: The range of their keys.
        keys_only: Whether no cells are wanted at all.
        numbers: Columns without the family; rows with whole numbers in these and in no others come as blocks.
    """

    table: str
    family: str
    keys: KeyRange
    keys_only: bool = False
    numbers: Sequence[bytes] = ()


@dataclass(frozen=True, slots=True)
class ScanPart:
    """Something that one worker makes of some rows.

    Attributes:
        about: What the worker is told of it; pickled.
        ranges: The rows, one at least.
        expected: About how many there are.
    """

    about: object
    ranges: Sequence[RangeScan]
    expected: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot of a table that can be read: its name, and the folder that it was restored to."""

    name: str
    restored: str


class TableScans(HBaseByJava):
    """Reads tables of HBase by Spark; see `HBaseByJava`."""

    def check(self, families: Mapping[str, Collection[str]]) -> None:
        """Refuse tables that cannot be read.

        Args:
            families: The column families that are read of each table.

        Raises:
            SparkError: If a table is not there, is disabled or lacks a family; says what to do.
        """
        connection = self._connect()
        try:
            admin = connection.getAdmin()
            for table, needed in families.items():
                name = self._table_name(table)
                if not admin.tableExists(name):
                    raise SparkError(f"there is no table '{table}': 'load' or 'schema --create' creates it.")
                self._check_enabled(admin, table)
                there = {bytes(one).decode() for one in admin.getDescriptor(name).getColumnFamilyNames()}
                missing = sorted(set(needed) - there)
                if missing:
                    raise SparkError(
                        f"the table '{table}' has no column family '{missing[0]}': 'schema --check' names the lines "
                        "for hbase shell that add what is absent."
                    )
        finally:
            connection.close()

    @contextmanager
    def snapshots(self, tables: Collection[str]) -> Iterator[Mapping[str, Snapshot]]:
        """Take a snapshot of each table for as long as the block runs.

        Raises:
            SparkError: If one cannot be taken, or its files cannot be read; says what to do.
        """
        taken: dict[str, Snapshot] = {}
        connection = self._connect()
        try:
            admin = connection.getAdmin()
            for table in tables:
                name = f"{_SNAPSHOT}{table.replace(':', '-')}-{secrets.token_hex(6)}"
                taken[table] = Snapshot(name, "")
                self._take(admin, table, name)
                taken[table] = Snapshot(name, self._restore(admin, name))
            yield taken
        finally:
            for snapshot in taken.values():
                self._drop(connection, snapshot)
            connection.close()

    def read(self, parts: Sequence[ScanPart], work: Work, snapshots: Mapping[str, Snapshot]) -> list[Any]:
        """Return what workers make of some parts, in their order.

        Args:
            parts: What is to be read.
            work: Called in Python workers, for one part after the other.
            snapshots: Of the tables, where these are to be read instead.

        Raises:
            SparkError: If what is made of a part has not come back.
        """
        from pyspark.rdd import RDD
        from pyspark.serializers import NoOpSerializer

        def worked(messages: Iterable[bytes]) -> Iterable[tuple[int, object]]:
            return _worked(messages, work)

        tasks = self._spark.java_class("java.util.ArrayList")()
        for numbers in grouped([part.expected for part in parts]):
            tasks.add(b"".join(packed(number, parts[number], snapshots) for number in numbers))
        context = self._spark.context
        messages = self._spark.java_class("f1hbase.Scans").read(context._jsc, tasks, self._conf, ROWS_A_CALL)
        # Not by Spark SQL: to begin with that takes longer than many an export does.
        results = dict(RDD(messages, context, NoOpSerializer()).mapPartitions(worked).collect())
        if len(results) != len(parts):
            raise SparkError(f"Spark has lost {len(parts) - len(results):,} of {len(parts):,} parts: run it again.")
        return [results[number] for number in range(len(parts))]

    def _take(self, admin: Any, table: str, name: str) -> None:
        properties = self._spark.java_class("java.util.HashMap")()
        properties.put("TTL", _SNAPSHOT_SECONDS)
        flush = self._spark.java_class("org.apache.hadoop.hbase.client.SnapshotType").FLUSH
        describe = self._spark.java_class("org.apache.hadoop.hbase.client.SnapshotDescription")
        try:
            admin.snapshot(describe(name, self._table_name(table), flush, properties))
        except Exception as error:
            raise SparkError(
                f"HBase takes no snapshot of the table '{table}' ({explain(error)}): leave out --snapshot."
            ) from error

    def _restore(self, admin: Any, name: str) -> str:
        """Make what a snapshot's readers need in a folder of the file system of HBase; return the folder.

        Folders that killed runs have left behind are deleted: those whose snapshot is no more.
        """
        path = self._spark.java_class("org.apache.hadoop.fs.Path")
        root = self._conf.get("hbase.rootdir")
        how = (
            "Name HBase's own with HBASE_CONF_DIR or --spark-conf spark.hadoop.hbase.rootdir=URL, as a user who may "
            "read them; or leave out --snapshot."
        )
        try:
            files = path(root).getFileSystem(self._conf)
            is_there = bool(files.exists(path(f"{root}/.hbase-snapshot/{name}")))
            if is_there:
                # Several HBases may share a file system.
                mine = f"{_RESTORED_IN}-{os.getuid()}/{hashlib.sha256(root.encode()).hexdigest()[:12]}"
                parent = path(f"{files.getUri().toString()}{mine}")
                folder = path(f"{parent.toString()}/{name}")
                files.mkdirs(folder)
                living = {str(one.getName()) for one in admin.listSnapshots()}
                for status in files.listStatus(parent):
                    if str(status.getPath().getName()) not in living:
                        files.delete(status.getPath(), True)
                job = self._spark.java_class("org.apache.hadoop.mapreduce.Job").getInstance(self._conf)
                self._spark.java_class(_RESTORED).setInput(job, name, folder)
                return str(job.getConfiguration().get(_RESTORED_TO))
        except Exception as error:
            raise SparkError(
                f"the files of HBase in '{root}' (hbase.rootdir) cannot be read ({explain(error)}). {how}"
            ) from error
        raise SparkError(f"the files of HBase are not in '{root}' (hbase.rootdir). {how}")

    def _drop(self, connection: Any, snapshot: Snapshot) -> None:
        """Delete a snapshot and what was restored of it; what cannot be, HBase deletes after a day."""
        try:
            if snapshot.restored:
                folder = self._spark.java_class("org.apache.hadoop.fs.Path")(snapshot.restored).getParent()
                folder.getFileSystem(self._conf).delete(folder, True)
            connection.getAdmin().deleteSnapshot(snapshot.name)
        except Exception as error:  # noqa: BLE001 - of Py4J
            _log.debug("the snapshot %s is not deleted: %s", snapshot.name, explain(error))


def packed(number: int, part: ScanPart, snapshots: Mapping[str, Snapshot]) -> bytes:
    """Return a part as `Scans.java` reads it."""
    fields: list[bytes] = []
    about = pickle.dumps(part.about)
    for scan in part.ranges:
        snapshot = snapshots.get(scan.table, Snapshot("", ""))
        texts = [text.encode() for text in (scan.table, snapshot.name, snapshot.restored, scan.family)]
        fields += [struct.pack(">i", number), struct.pack(">i", len(about)), about]
        fields += [struct.pack(">H", len(text)) + text for text in texts]
        fields.append(struct.pack(">?i", scan.keys_only, len(scan.numbers)))
        fields += [struct.pack(">i", len(one)) + one for one in (*scan.numbers, *scan.keys)]
        about = b""  # it goes with the first answer of all
    return b"".join(fields)


def grouped(sizes: Sequence[int], most: int = ROWS_A_TASK) -> list[list[int]]:
    """Share out parts of some sizes among tasks: the large ones have one each, and come first.

    Args:
        sizes: About how many rows each part has.
        most: Up to how many rows parts share a task.

    Returns:
        Of each task the numbers of its parts.

    >>> grouped([5, 300, 20, 90], most=100)
    [[1], [3], [2, 0]]
    """
    tasks: list[list[int]] = []
    room = 0
    for number in sorted(range(len(sizes)), key=lambda number: -sizes[number]):
        if not tasks or sizes[number] > room:
            # Whatever is left of an earlier task is left free: it makes no difference.
            tasks.append([])
            room = most
        tasks[-1].append(number)
        room -= max(1, sizes[number])
    return tasks


def _worked(messages: Iterable[bytes], work: Work) -> Iterator[tuple[int, object]]:
    """Yield what is made of each part, with its number."""
    for number, group in groupby(map(_read, messages), itemgetter(0)):
        _, about = next(group)
        yield number, work(about, (found for _, found in group))  # noqa: B031 - goes on where `next` has ended


def _read(message: bytes) -> tuple[int, Any]:
    """Return what part a message is of, and what it says."""
    number, kind = _MESSAGE.unpack_from(message)
    if kind == _BLOCK:
        return number, read_block(message, _MESSAGE.size)
    content = message[_MESSAGE.size :]
    # Pickled by the process that runs the application.
    return number, pickle.loads(content) if kind == _ALONG else content  # noqa: S301
