"""A load by Spark on a real YARN and HDFS, held against the local engine's; part of `scripts/test.sh --all`.

Starts HBase, HDFS and YARN (tests/yarn_cluster.py) on this machine, loads a spoilt zone by each engine, and compares
tables, lines and quarantine; HBase's files lie on HDFS until HBase takes them. With a zone of one's own it
says how fast an executor of so many cores is:

    .venv/bin/python tests/spark_yarn.py [--zone FOLDER --cores 1,2]
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from time import monotonic

sys.path.insert(0, str(Path(__file__).resolve().parent))

import pyspark
from cli import Loader, loader_of
from hbase_server import LocalHBase
from spark_runs import fill_zone, lines_of, spark_loader, spoil, table_of
from weekend import simulate
from yarn_cluster import YarnCluster

from f1hbase.model.text import count

_STARTED = "Spark: started"
_ROWS = re.compile(r"rows: ([\d,]+) ")


def yarn_loader(hbase: LocalHBase, yarn: YarnCluster, folder: Path, prefix: str, cores: int) -> Loader:
    """Return a loader by Spark on YARN, with one executor of so many cores."""
    settings = {
        "spark.hadoop.hbase.zookeeper.property.clientPort": hbase.environment["LOCAL_HBASE_ZK_PORT"],
        "spark.executor.instances": "1",
        "spark.executor.cores": str(cores),
        "spark.executor.memory": "1g",
        "spark.yarn.am.memory": "512m",
        "spark.yarn.jars": f"local:{Path(pyspark.__file__).parent}/jars/*",
        # The cluster's settings name a class of Hadoop's tests, which Spark has not.
        "spark.hadoop.net.topology.node.switch.mapping.impl": "org.apache.hadoop.net.ScriptBasedMapping",
        "spark.driver.host": "127.0.0.1",
        "spark.ui.enabled": "false",
    }
    loader = spark_loader(
        hbase, folder, prefix, spark_master="yarn", spark_staging=f"{yarn.root}/tmp/f1hbase",
        spark_conf=" ".join(f"{name}={value}" for name, value in settings.items()),
    )  # fmt: skip
    return Loader(folder, loader.environment | yarn.environment | {"PYSPARK_PYTHON": sys.executable})


def compared(hbase: LocalHBase, yarn: YarnCluster, folder: Path) -> list[str]:
    """Load a spoilt zone by each engine; return what differs."""
    zone = folder / "zone"
    fill_zone(simulate(folder / "season"), zone, hbase, folder / "fill")
    spoil(zone)
    local = loader_of(hbase, folder / "local", "http://127.0.0.1:9/v1", "here")
    local.run("--from", str(zone), "--to", "hbase", exit_code=1)
    loader = yarn_loader(hbase, yarn, folder / "yarn", "there", 1)
    printed = loader.run("--from", str(zone), "--to", "hbase", "--engine", "spark", "--verbose", exit_code=None)
    wrong = [] if "Spark: round 1 took" in printed else [f"Spark on YARN did nothing: {printed[-2000:]}"]
    if "Traceback" in printed:
        wrong.append(f"a stack trace: {printed[printed.index('Traceback') :][:1000]}")
    if not table_of(hbase, "here") or table_of(hbase, "there") != table_of(hbase, "here"):
        wrong.append("the tables differ")
    wrong += [f"{kind} lines differ" for kind in ("unit", "quarantine")
              if lines_of(hbase, "there", kind) != lines_of(hbase, "here", kind)]  # fmt: skip
    return wrong


def measured(hbase: LocalHBase, yarn: YarnCluster, folder: Path, zone: Path, cores: int) -> str:
    """Load a zone with one executor of so many cores, and say how fast that was."""
    prefix = f"cores{cores}"
    loader = yarn_loader(hbase, yarn, folder / prefix, prefix, cores)
    loader.run("schema", "--create", "--from", str(zone))
    began = started = monotonic()
    with loader.start("--from", str(zone), "--to", "hbase", "--engine", "spark", "--verbose") as process:
        assert process.stdout is not None
        rows = 0
        for line in process.stdout:
            if _STARTED in line:
                started = monotonic()
            if found := _ROWS.search(line):
                rows = int(found[1].replace(",", ""))
    ended = monotonic()
    if process.returncode or started == began:
        raise SystemExit(f"exit {process.returncode}: {loader.log[-2000:]}")
    return (
        f"one executor of {count(cores, 'core')}: {rows:,} rows in {ended - began:.1f} s, "
        f"{rows / (ended - began):,.0f} rows/s; "
        f"without the start {rows / (ended - started):,.0f}"
    )


def main() -> int:
    """Run it; exit code 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zone", type=Path, help="measure loads of this zone instead")
    parser.add_argument("--cores", default="1,2")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary)
        (folder / "cluster").mkdir()
        hbase = LocalHBase(folder / "hbase")
        stack.callback(hbase.stop)
        hbase.start()
        yarn = stack.enter_context(YarnCluster(folder / "cluster"))
        if options.zone is not None:
            for cores in map(int, options.cores.split(",")):
                print(measured(hbase, yarn, folder, options.zone.resolve(), cores), flush=True)
            return 0
        wrong = compared(hbase, yarn, folder)
    print("\n".join(wrong) or "YARN and the local engine made the same tables, lines and quarantine")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
