"""Loads by Spark with something wrong about HBase, the staging folder, the jars, the Python or the memory.

Each must end with one line that says what to do, without a stack trace, with the table as it was and no unit called
done; once the cause is gone, the same load makes the table that the local engine makes. Part of `scripts/test.sh
--all`; it starts an HBase of its own:

    .venv/bin/python tests/faults/refused_by_spark.py [--only NAME]
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import happybase
from cli import Loader, loader_of
from hbase_server import LocalHBase
from spark_runs import COMMANDS, fill_zone, lines_of, spark_loader, table_of
from weekend import simulate

PREFIX = "refused"
TABLE = f"{PREFIX}_f1_data"

_TMPFS_BYTES = 200_000


@dataclass(frozen=True)
class Wrong:
    """Something wrong.

    Attributes:
        said: What the line has to say, as a pattern.
        before: Has hbase shell make it so; `{region}` is the first region of the table.
        after: Undoes it.
        settings: Further settings of the load.
        conf: Settings of Spark.
        moment: What the log has said when `before` is run; None for before the load.
    """

    said: str
    before: str = ""
    after: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    conf: str = ""
    moment: str | None = None


def cases(folder: Path) -> dict[str, Wrong]:
    """Return what can be wrong, by name."""
    jars = _jars()
    without = [",".join(jar for jar in jars if word not in jar) for word in ("shaded-mapreduce", "opentelemetry")]
    found = {
        "a table that is disabled": Wrong(
            r"is disabled: enable it in hbase shell", before=f"disable '{TABLE}'", after=f"enable '{TABLE}'"
        ),
        "a region that no server has open": Wrong(
            r"regions that no server has open", before="unassign '{region}'", after="assign '{region}'"
        ),
        "a table that is disabled while Spark writes": Wrong(
            r"disabled|does not take files into all regions", before=f"disable '{TABLE}'", after=f"enable '{TABLE}'",
            moment="Spark: started",
        ),
        "no room in the staging folder": Wrong(
            r"has room for .* GB, and about .* are needed", settings={"SPARK_STAGING": str(folder / "full")}
        ),
        "a staging folder of an unknown file system": Wrong(
            r"knows no file system 'nosuch'", settings={"SPARK_STAGING": "nosuch://host/staging"}
        ),
        "a staging folder of an HDFS that is not there": Wrong(
            r"staging folder 'hdfs://127.0.0.1:9/staging' cannot be", settings={"SPARK_STAGING": "hdfs://127.0.0.1:9/staging"}
        ),
        "no jars of HBase": Wrong(r"lacks the Java class", conf=f"spark.jars={without[0]}"),
        "jars that lack what HBase needs": Wrong(r"lacks the Java class", conf=f"spark.jars={without[1]}"),
        "no Python on the executors": Wrong(
            r"cannot start '/nowhere/python'", settings={"PYSPARK_PYTHON": "/nowhere/python"}
        ),
        "out of memory": Wrong(
            r"has run out of memory", conf="spark.driver.extraJavaOptions=-XX:MaxMetaspaceSize=64m"
        ),
        "too little memory to start": Wrong(r"too little memory to start", conf="spark.driver.memory=256m"),
    }  # fmt: skip
    if other := _other_python():
        found["another Python on the executors"] = Wrong(
            r"executors have Python|executors' Python lacks", settings={"PYSPARK_PYTHON": other}
        )
    return found


def refused(hbase: LocalHBase, loader: Loader, zone: Path, wrong: Wrong) -> list[str]:
    """Load with something wrong; return what was not as it should be."""
    region = happybase_regions(hbase)[0]
    before, after = (text.format(region=region) for text in (wrong.before, wrong.after))
    stored = None if wrong.before and wrong.moment is None else table_of(hbase, PREFIX)
    if before and wrong.moment is None:
        hbase.shell(before)
    with loader.start("--from", str(zone), "--to", "hbase", "--engine", "spark", "--verbose") as process:
        assert process.stdout is not None
        printed = []
        for line in process.stdout:
            printed.append(line)
            if before and wrong.moment is not None and wrong.moment in line:
                hbase.shell(before)
    if after:
        hbase.shell(after)
    text = "".join(printed)
    errors = [line for line in printed if "[ERROR]" in line or line.startswith("Error")]
    problems = []
    if process.returncode in (0, None):
        problems.append(f"exit code {process.returncode}")
    if not any(re.search(wrong.said, line) for line in errors):
        problems.append(f"it says: {errors or text[-800:]}")
    if "Traceback" in text or re.search(r"^\s+at \w", text, re.MULTILINE):
        problems.append("a stack trace")
    done = [key for key, line in lines_of(hbase, PREFIX).items() if line["meta:status"] == "done"]
    if done:
        problems.append(f"{len(done)} units are called done")
    if stored is not None and table_of(hbase, PREFIX) != stored:
        problems.append("the table has changed")
    return problems


def happybase_regions(hbase: LocalHBase) -> list[str]:
    """Return the encoded names of the regions of the table."""
    connection = happybase.Connection(hbase.host, hbase.port, timeout=60_000)
    try:
        return [one["name"].decode(errors="replace").split(".")[-2] for one in connection.table(TABLE).regions()]
    finally:
        connection.close()


@contextmanager
def full_folder(folder: Path) -> Iterator[None]:
    """Have a file system of its own in a folder, in which next to nothing has room; needs to be root."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_TMPFS_BYTES}", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _other_python() -> str | None:
    """Return a Python of another version than this one."""
    mine = f"python{sys.version_info.major}.{sys.version_info.minor}"
    places = [*Path("/usr/bin").glob("python3.*"), *Path.home().glob(".pyenv/versions/3.*/bin/python3.*")]
    usable = [one for one in sorted(places) if re.fullmatch(r"python3\.\d+", one.name) and os.access(one, os.X_OK)]
    return next((str(one) for one in usable if one.name != mine), None)


def _jars() -> list[str]:
    listed = subprocess.run([str(COMMANDS / "hbase"), "mapredcp"], capture_output=True, text=True, check=True)
    return listed.stdout.strip().rpartition("\n")[2].split(":")


def main() -> int:
    """Run it; prints a line a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases with this in their name")
    options = parser.parse_args()
    failures = 0
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary)
        hbase = LocalHBase(folder / "hbase")
        stack.callback(hbase.stop)
        hbase.start()
        zone = folder / "zone"
        fill_zone(simulate(folder / "season"), zone, hbase, folder / "fill")
        loader_of(hbase, folder / "local", "http://127.0.0.1:9/v1", "truth").run("--from", str(zone), "--to", "hbase")
        spark = spark_loader(hbase, folder / "bulk", PREFIX, patience="1m")
        spark.run("schema", "--create", "--from", str(zone))
        for name, wrong in cases(folder).items():
            if options.only not in name:
                continue
            if name.startswith("no room"):
                if os.geteuid():
                    print(f"skipped: {name}: only root can mount a small file system")
                    continue
                stack.enter_context(full_folder(folder / "full"))
            more = {key if key == "PYSPARK_PYTHON" else f"F1HBASE_{key}": text for key, text in wrong.settings.items()}
            if wrong.conf:
                more["F1HBASE_SPARK_CONF"] = f"{spark.environment['F1HBASE_SPARK_CONF']} {wrong.conf}"
            problems = refused(hbase, Loader(spark.folder, spark.environment | more), zone, wrong)
            failures += bool(problems)
            print(f"{'WRONG' if problems else 'ok'}: {name}" + "".join(f"\n  {one}" for one in problems), flush=True)
        spark.run("--from", str(zone), "--to", "hbase", "--engine", "spark")
        if table_of(hbase, PREFIX) != table_of(hbase, "truth"):
            failures += 1
            print("WRONG: the table is not the local engine's in the end")
    print(f"{failures} went wrong")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
