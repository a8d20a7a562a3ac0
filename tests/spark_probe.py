"""Asks the parts of the Spark engine what they cannot have; prints what they say as JSON.

A process of its own, as PySpark leaves its sockets to the garbage collector. Its argument is an empty folder.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from spark_runs import COMMANDS

from f1hbase.cluster.errors import explain
from f1hbase.cluster.hfiles import HBaseFiles
from f1hbase.cluster.session import SparkApplication, SparkSettings
from f1hbase.errors import F1HBaseError


def main(folder: Path) -> None:
    """Run it."""
    listed = subprocess.run([str(COMMANDS / "hbase"), "mapredcp"], capture_output=True, text=True, check=True)
    jars = listed.stdout.strip().split(":")
    local = (("spark.local.dir", str(folder)),)
    errors = {"no master": _said(lambda: SparkApplication(SparkSettings("nonsense", local), jars, "tests"))}
    spark = SparkApplication(SparkSettings("local[1]", local), jars, "tests")
    try:
        files = HBaseFiles(spark, "t_f1_data", str(folder / "staging"))
        for name in ("dead", "alive"):
            (folder / "staging" / name).mkdir(parents=True)
        files.make_room("mine", {"alive"}, needed=1)
        folders = sorted(path.name for path in (folder / "staging").iterdir())
        (folder / "file").touch()
        nowhere = HBaseFiles(spark, "t_f1_data", str(folder / "file" / "in"))
        errors |= {
            "no room": _said(lambda: files.make_room("mine", set(), needed=10**18)),
            "no folder": _said(lambda: nowhere.make_room("mine", set(), needed=1)),
            "no class": _said(lambda: spark.java_class("org.example.Nothing")),
            "no file system": _said(lambda: files.file_root("gs", "bucket", "zone")),
            "twice": _said(lambda: SparkApplication(SparkSettings("local[1]"), [], "another")),
            "not shared": _said(lambda: _save(spark, folder)),
            "unknown file system": _said(lambda: HBaseFiles(spark, "t_f1_data", "nosuch://host/staging")),
            "no package": _said(lambda: spark.session.range(1).mapInArrow(_lacks, "id bigint").collect()),
        }
        rows = spark.session.range(1000).selectExpr("hash(cast(id as int)) as hash").collect()
        print(json.dumps({"errors": errors, "folders": folders, "hashes": [row["hash"] for row in rows]}))
    finally:
        spark.stop()


def _save(spark: SparkApplication, folder: Path) -> None:
    """Have an executor look for a folder that is not there."""
    conf = spark.java_class("org.apache.hadoop.conf.Configuration")()
    conf.set("mapreduce.output.fileoutputformat.outputdir", str(folder / "out"))
    blocks = spark.session.range(1).selectExpr("cast(id as binary) as block")
    spark.java_class("f1hbase.Cells").save(blocks._jdf, conf, 1, str(folder / "nowhere"))


def _lacks(batches: Iterator[Any]) -> Iterator[Any]:
    import not_there_at_all  # type: ignore[import-not-found] # noqa: F401

    yield from batches


def _said(call: Callable[[], object]) -> str:
    try:
        call()
    except F1HBaseError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - PySpark's and Py4J's
        return explain(error)
    return ""


if __name__ == "__main__":
    main(Path(sys.argv[1]))
