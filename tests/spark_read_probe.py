"""Exports and verifies tables by Spark in one application, and prints as JSON what came of it.

A process of its own, as PySpark leaves its sockets to the garbage collector. Its argument is a JSON object: `folder`
for files, `port` of the Thrift gateway and `zookeeper`, the folder of `hbase`, the prefixes of a `good` table and of a
`damaged` one, and two `drivers`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from hbase_server import HOST
from spark_runs import COMMANDS
from stored_weekend import YEAR

from f1hbase.cluster.reading import SparkReader
from f1hbase.cluster.scans import Found, RangeScan, ScanPart
from f1hbase.cluster.session import SparkApplication, SparkSettings
from f1hbase.cluster.thread import SparkThread
from f1hbase.composition import open_reader
from f1hbase.config import Config, resolve
from f1hbase.errors import F1HBaseError
from f1hbase.model.plans import Selection
from f1hbase.operations.export.run import ExportResult, export
from f1hbase.operations.export.spark import SparkExport
from f1hbase.operations.verify.base import Depth
from f1hbase.operations.verify.run import VerifyRequest, verify
from f1hbase.operations.verify.spark import SparkAuditor
from f1hbase.pipeline.display import TaskLines
from f1hbase.stores.files.objects import Objects
from f1hbase.stores.files.urls import parse_location
from f1hbase.stores.hbase.connector import HBaseConnector, find_gateways
from f1hbase.stores.hbase.scans import KeyRange
from f1hbase.stores.hbase.schema import Tables


class Probe:
    """One Spark application, and tables to read by it."""

    def __init__(self, port: int, spark: SparkThread) -> None:
        self._port = port
        self._spark = spark

    def config(self, prefix: str) -> Config:
        """Return the settings of some tables."""
        given = {"hbase_host": HOST, "hbase_port": self._port, "table_prefix": prefix, "patience": "10s"}
        return resolve(given, names=(), environment={})

    def reader(self, prefix: str, *, snapshot: bool = False, known_row: bytes | None = None) -> SparkReader:
        """Return what reads some tables."""
        return SparkReader(self._spark, Tables(prefix), known_row, TaskLines, snapshot=snapshot)

    def export(self, prefix: str, folder: Path, form: str = "parquet", **selection: Any) -> ExportResult:
        """Export all of the year; with `snapshot`, by one."""
        snapshot = selection.pop("snapshot", False)
        known_row = selection.pop("known_row", None)
        engine = SparkExport(self.reader(prefix, snapshot=snapshot, known_row=known_row), 10)
        chosen = Selection(**({"mode": "year", "year": (YEAR,)} | selection))
        target = Objects(parse_location(str(folder)))
        return export(open_reader(self.config(prefix), "hbase"), target, chosen, form, engine=engine)

    def differences(self, prefix: str, *, deep: bool) -> list[str]:
        """Return what `verify` finds."""
        connector = HBaseConnector(find_gateways([(HOST, self._port)], "auto", "auto"), 10)
        auditor = SparkAuditor(connector, Tables(prefix), self.reader(prefix))
        try:
            return [str(one) for one in verify(VerifyRequest(depth=Depth(deep)), auditor).differences]
        finally:
            connector.close()

    def said(self, call: Callable[[], object]) -> str:
        """Return the error that something ends with."""
        try:
            call()
        except F1HBaseError as error:
            return str(error)
        return ""


def _set(name: str, value: str, application: SparkApplication) -> None:
    application.context._jsc.hadoopConfiguration().set(name, value)


def _java_options(application: SparkApplication) -> list[str]:
    java = application.jvm.java.lang.management.ManagementFactory.getRuntimeMXBean()
    return list(java.getInputArguments())


def _nothing(about: object, answers: Iterator[Found]) -> None:
    for _ in answers:
        pass


def main(folder: Path, port: int, zookeeper: str, hbase: Path, good: str, damaged: str, drivers: Sequence[int]) -> None:
    """Run it."""
    listed = subprocess.run([str(COMMANDS / "hbase"), "mapredcp"], capture_output=True, text=True, check=True)
    conf = {
        "spark.local.dir": str(folder),
        "spark.hadoop.hbase.zookeeper.quorum": "127.0.0.1",
        "spark.hadoop.hbase.zookeeper.property.clientPort": zookeeper,
        "spark.hadoop.hbase.rootdir": f"file://{hbase}/data",
    }
    settings = SparkSettings("local[2]", tuple(conf.items()))
    spark = SparkThread(settings, listed.stdout.strip().split(":"), "tests")
    probe = Probe(port, spark)
    try:
        results = {form: probe.export(good, folder / form, form) for form in ("parquet", "csv", "jsonl")}
        # Each range of a snapshot opens the files of all families, so that these are few.
        some: dict[str, Any] = {"endpoints": ("car_data", "laps", "location")}
        results["snapshot"] = probe.export(good, folder / "snapshot", snapshot=True, **some)
        results["drivers"] = probe.export(
            good, folder / "drivers", drivers=tuple(drivers), endpoints=("car_data", "laps")
        )
        lost = sorted((folder / "snapshot").glob("l*/**/*.parquet"))
        for path in lost:
            path.unlink()
        results["again"] = probe.export(good, folder / "snapshot", **some)
        results["damaged"] = probe.export(damaged, folder / "damaged", **some)
        verified = {
            "good": probe.differences(good, deep=True),
            "damaged": probe.differences(damaged, deep=False),
            "damaged deep": probe.differences(damaged, deep=True),
        }
        nope = [ScanPart(None, [RangeScan(Tables(good).data, "nope", KeyRange(b"", b""))], 0)]
        gone = [ScanPart(None, [RangeScan("gone", "car", KeyRange(b"", b""))], 0)]
        errors = {
            "another HBase": probe.said(lambda: probe.export(good, folder / "x", known_row=b"run#20010101T000000-no")),
            "no family": probe.said(lambda: probe.reader(good).read("", nope, _nothing)),
            "no table": probe.said(lambda: probe.reader(good).read("", gone, _nothing)),
        }
        for name, root in (("no files", f"file://{folder}/nowhere"), ("no file system", "gs://bucket/hbase")):
            spark.do(partial(_set, "hbase.rootdir", root), TaskLines())
            errors[name] = probe.said(lambda: probe.export(good, folder / "x", snapshot=True, **some))
        java = spark.do(_java_options, TaskLines())
    finally:
        spark.close()
    counts = {
        name: {"files": one.files, "unchanged": one.unchanged, "rows": one.rows, "failures": one.failures}
        for name, one in results.items()
    }
    print(json.dumps({
        "exports": counts, "lost": len(lost), "verified": verified, "errors": errors, "java": java,
    }))  # fmt: skip


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    main(**given | {name: Path(given[name]) for name in ("folder", "hbase")})
