"""Asks the parts of the Spark engine what they cannot have; prints what they say as JSON.

A process of its own, as PySpark leaves its sockets to the garbage collector. Its argument is an empty folder.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import psutil
from spark_runs import COMMANDS

from f1hbase.cluster.errors import explain
from f1hbase.cluster.hfiles import HBaseFiles
from f1hbase.cluster.session import SparkApplication, SparkSettings, misspelt
from f1hbase.cluster.thread import SparkThread
from f1hbase.errors import F1HBaseError
from f1hbase.pipeline.display import TaskLines

_A_MASTER_SECONDS = 45.0
"""Spark itself waits for a master for a minute."""


def main(folder: Path) -> None:
    """Run it."""
    listed = subprocess.run([str(COMMANDS / "hbase"), "mapredcp"], capture_output=True, text=True, check=True)
    jars = listed.stdout.strip().split(":")
    local = (("spark.local.dir", str(folder)),)
    errors = {"no master": _said(SparkApplication(SparkSettings("nonsense", local), jars, "tests").start)}
    errors |= _stopped(local, jars)
    spark = SparkApplication(SparkSettings("local[1]", local), jars, "tests")
    spark.start()
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
            "twice": _said(SparkApplication(SparkSettings("local[1]"), [], "another").start),
            "not shared": _said(lambda: _save(spark, folder)),
            "unknown file system": _said(lambda: HBaseFiles(spark, "t_f1_data", "nosuch://host/staging")),
            "no package": _said(lambda: spark.session.range(1).mapInArrow(_lacks, "id bigint").collect()),
        }
        rows = spark.session.range(1000).selectExpr("hash(cast(id as int)) as hash").collect()
        names = [
            "spark.drivr.memory",
            "spark.executor.memroy",
            "spark.yarn.am.memory",
            "spark.local.dir",
            "spark.my.own",
        ]
        found = {"errors": errors, "folders": folders, "hashes": [row["hash"] for row in rows]}
        print(json.dumps(found | {"misspelt": misspelt(names, spark.known_settings())}))
    finally:
        spark.stop()


def _stopped(local: tuple[tuple[str, str], ...], jars: list[str]) -> dict[str, str]:
    """Stop Spark before its Java is there, and when a master that never answers has been asked."""
    errors = {}
    with socket.create_server(("127.0.0.1", 0)) as master:
        for name in ("stopped before Java is there", "stopped while the master is silent"):
            stop = threading.Event()
            if "Java" in name:
                stop.set()
            else:
                threading.Thread(target=_stop_when_asked, args=(master, stop), daemon=True).start()
            began = monotonic()
            spark = SparkThread(SparkSettings(f"spark://127.0.0.1:{master.getsockname()[1]}", local), jars, "tests")
            errors[name] = _said(partial(spark.do, lambda _: None, TaskLines(), stop))
            spark.close()
            if monotonic() - began > _A_MASTER_SECONDS:
                errors[name] = "it has waited for the master"
            if left := [child for child in psutil.Process().children() if child.name() == "java"]:
                errors[name] = f"it has left {left}"
    return errors


def _stop_when_asked(master: socket.socket, stop: threading.Event) -> None:
    asked, _ = master.accept()
    with asked:
        stop.set()


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
