"""Loads by Spark with something wrong about HBase, the zone, the staging folder, the jars, Java, Python or the memory.

Each must end with its exit code and one line that says what to do, without a stack trace, with the table as it was and
no unit called done, and leave nothing behind: no process, no file of Spark's or HBase's, no lease. Once the cause is
gone, the same load makes the table that the local engine makes. Part of `scripts/test.sh --all`; it starts an HBase of
its own:

    .venv/bin/python tests/faults/refused_by_spark.py [--only PATTERN]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import happybase
import psutil
import pyspark
from cli import Loader, loader_of
from hbase_server import LocalHBase, free_ports
from spark_runs import COMMANDS, fill_zone, lines_of, spark_loader, table_of
from tables import reports
from weekend import simulate

ROUND, STARTED, WRITTEN = "Spark: round 1,", "Spark: started", "are written"
"""What the log says before Spark is started, once it is, and between the files and the bulk load."""

_TMPFS_BYTES = 200_000

_LONGEST_LOAD = 180.0
"""How long a load may last at the most, in seconds: what is wrong is to be said, and not to be waited for."""


@dataclass
class Place:
    """Where the loads of one case take place.

    Attributes:
        hbase: HBase.
        prefix: Of the tables.
        zone: The landing zone.
        folder: A folder for what is made to be wrong.
    """

    hbase: LocalHBase
    prefix: str
    zone: Path
    folder: Path

    @property
    def table(self) -> str:
        """The table of records."""
        return f"{self.prefix}_f1_data"

    @contextmanager
    def connected(self) -> Iterator[happybase.Connection]:
        """Connect to HBase."""
        connection = happybase.Connection(self.hbase.host, self.hbase.port, timeout=60_000)
        try:
            yield connection
        finally:
            connection.close()

    def regions(self) -> list[str]:
        """Return the encoded names of the regions of the table."""
        with self.connected() as connection:
            regions = connection.table(self.table).regions()
        return [one["name"].decode(errors="replace").split(".")[-2] for one in regions]


Cause = Callable[[Place, subprocess.Popen[str] | None], None]
"""Makes something wrong, while a load runs or before it."""


@dataclass(frozen=True)
class Wrong:
    """Something wrong.

    Attributes:
        said: What the line has to say, as a pattern.
        exit_code: How the load ends.
        cause: Makes it wrong.
        undo: Makes it right again.
        moment: What the log has said when that is made wrong; None for before the load.
        settings: Further settings of the load.
        conf: Settings of Spark.
        environment: Further variables of the load.
        root: Whether only root can make it wrong.
    """

    said: str
    exit_code: int = 1
    cause: Cause | None = None
    undo: Callable[[Place], None] = lambda _: None
    moment: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    conf: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    root: bool = False


def cases(folder: Path, lonely: str) -> dict[str, Wrong]:
    """Return what can be wrong, by name; `lonely` is a master of Spark without workers."""
    jars = _jars()
    without = [",".join(jar for jar in jars if word not in jar) for word in ("shaded-mapreduce", "opentelemetry")]
    full = str(folder / "full")
    other = LocalHBase(folder / "other")
    found = {
        # HBase
        "a table that is disabled": Wrong(r"' is disabled; in hbase shell: enable '", cause=disable, undo=enable),
        "a region that no server has open": Wrong(
            r"regions that no server has open", cause=lambda place, _: assigned(place, "unassign"),
            undo=lambda place: assigned(place, "assign"),
        ),
        "a table that is disabled while Spark writes": Wrong(
            r"disabled|does not take files into all regions", cause=disable, undo=enable, moment=STARTED
        ),
        "files of HBase that it may not change": Wrong(
            r"HBase has not taken the files", cause=read_only, undo=writable, moment=STARTED, root=True
        ),
        "a ZooKeeper that is not there": Wrong(
            r"does not reach HBase by its ZooKeeper at 127.0.0.1:9 .*zookeeper.quorum=HOST", exit_code=3,
            conf="spark.hadoop.hbase.zookeeper.property.clientPort=9",
        ),
        "a ZooKeeper that knows no such HBase": Wrong(
            r"does not reach HBase by its ZooKeeper", exit_code=3, conf="spark.hadoop.zookeeper.znode.parent=/another"
        ),
        "another HBase": Wrong(
            r"is not the one of the Thrift gateway", exit_code=2, cause=lambda *_: other.start(),
            undo=lambda _: other.stop(),
            conf=f"spark.hadoop.hbase.zookeeper.property.clientPort={other.environment['LOCAL_HBASE_ZK_PORT']}",
        ),
        # The staging folder, and Spark's own
        "no room in the staging folder": Wrong(
            r"has room for .* GB, and about .* are needed", settings={"SPARK_STAGING": full}, root=True
        ),
        "no room in Spark's own folder": Wrong(
            r"no room left.*spark.local.dir=FOLDER", conf=f"spark.local.dir={full}", root=True
        ),
        "a staging folder that cannot be made": Wrong(
            r"staging folder '/proc/staging' cannot be written", settings={"SPARK_STAGING": "/proc/staging"}
        ),
        "a staging folder of an unknown file system": Wrong(
            r"knows no file system 'nosuch'", settings={"SPARK_STAGING": "nosuch://host/staging"}
        ),
        "a staging folder of an HDFS that is not there": Wrong(
            r"staging folder 'hdfs://127.0.0.1:9/staging' cannot be", settings={"SPARK_STAGING": "hdfs://127.0.0.1:9/staging"}
        ),
        # The zone
        "a zone that executors do not see": Wrong(
            r"does not find 'file:\S*/source=.*load from a place", cause=hide, undo=show, moment=STARTED
        ),
        # Jars, Java and Python
        "no jars of HBase": Wrong(r"lacks the Java class", conf=f"spark.jars={without[0]}"),
        "jars that lack what HBase needs": Wrong(
            r"lacks the Java class io.opentelemetry", conf=f"spark.jars={without[1]}"
        ),
        "a jar that is not there": Wrong(r"is no file '/nowhere.jar'", exit_code=2, conf="spark.jars=/nowhere.jar"),
        "no Java": Wrong(r"no bin/java in it", exit_code=2, environment={"JAVA_HOME": "/nowhere"}),
        "no Python on the executors": Wrong(
            r"cannot start '/nowhere/python'", environment={"PYSPARK_PYTHON": "/nowhere/python"}
        ),
        # Spark and its memory
        "out of memory": Wrong(
            r"has run out of memory", conf="spark.driver.extraJavaOptions=-XX:MaxMetaspaceSize=64m"
        ),
        "too little memory to start": Wrong(r"too little memory to start", conf="spark.driver.memory=256m"),
        "more memory than there is": Wrong(r"more memory than .* has", conf="spark.driver.memory=900000g"),
        "a master of no form": Wrong(r"is no Spark master", exit_code=2, settings={"SPARK_MASTER": "nonsense"}),
        "a master that is not there": Wrong(
            r"there is no such Spark master: see --spark-master", settings={"SPARK_MASTER": "spark://127.0.0.1:9"}
        ),
        "YARN without its settings": Wrong(
            r"HADOOP_CONF_DIR", settings={"SPARK_MASTER": "yarn"},
            environment={"HADOOP_CONF_DIR": "", "YARN_CONF_DIR": ""},
        ),
        "a setting without a name of Spark's": Wrong(
            r"not of the form spark.name=value", exit_code=2, conf="driver.memory=1g"
        ),
        "a size that is none": Wrong(r"'lots'|lots", conf="spark.driver.memory=lots"),
        "a number that is none": Wrong(r"many", conf="spark.sql.shuffle.partitions=many"),
        # Whoever ends it
        "SIGTERM while Spark starts": Wrong(
            r"interrupted", exit_code=130, cause=lambda _, load: signalled(load, signal.SIGTERM), moment=ROUND
        ),
        "SIGTERM while it waits for a master": Wrong(
            r"interrupted", exit_code=130, settings={"SPARK_MASTER": "spark://127.0.0.1:9"},
            cause=lambda _, load: signalled(load, signal.SIGTERM), moment=ROUND,
        ),
        "SIGTERM while there are no executors": Wrong(
            r"interrupted", exit_code=130, cause=lambda _, load: signalled(load, signal.SIGTERM),
            moment="Spark gets no executors", settings={"SPARK_MASTER": lonely},
        ),
        "Ctrl-C while Spark writes": Wrong(
            r"interrupted", exit_code=130, cause=lambda _, load: signalled(load, signal.SIGINT), moment=STARTED
        ),
        "interrupted twice while Spark starts": Wrong(
            r"stopped at once", exit_code=130, moment=ROUND,
            cause=lambda _, load: signalled(load, signal.SIGINT, signal.SIGTERM),
        ),
        "interrupted twice while Spark writes": Wrong(
            r"stopped at once", exit_code=130, moment=STARTED,
            cause=lambda _, load: signalled(load, signal.SIGINT, signal.SIGTERM),
        ),
    }  # fmt: skip
    if python := _other_python():
        found["another Python on the executors"] = Wrong(
            r"executors have Python|executors' Python lacks", environment={"PYSPARK_PYTHON": python}
        )
    return found


# --- what is made wrong ---


def disable(place: Place, _: subprocess.Popen[str] | None) -> None:
    """Disable the table, as an administrator does."""
    with place.connected() as connection:
        connection.disable_table(place.table)


def enable(place: Place) -> None:
    """Enable it again."""
    with place.connected() as connection:
        connection.enable_table(place.table)


def assigned(place: Place, how: str) -> None:
    """Have HBase shell assign the first region, or unassign it."""
    place.hbase.shell(f"{how} '{place.regions()[0]}'")


def read_only(place: Place, _: subprocess.Popen[str] | None) -> None:
    """Keep HBase from changing its own files of the table."""
    data = str(next(place.hbase.folder.rglob(f"data/default/{place.table}")))
    subprocess.run(["mount", "--bind", data, data], check=True)
    subprocess.run(["mount", "-o", "remount,ro,bind", data], check=True)


def writable(place: Place) -> None:
    """Let it again."""
    subprocess.run(["umount", str(next(place.hbase.folder.rglob(f"data/default/{place.table}")))], check=True)


def hide(place: Place, _: subprocess.Popen[str] | None) -> None:
    """Take away the answers of the zone; the process that runs the load has read its manifests by then."""
    for one in place.zone.glob("source=*"):
        one.rename(place.folder / one.name)


def show(place: Place) -> None:
    """Put them back."""
    for one in place.folder.glob("source=*"):
        one.rename(place.zone / one.name)


def signalled(load: subprocess.Popen[str] | None, *numbers: signal.Signals) -> None:
    """Send signals to a load; of one kind two may come as one."""
    assert load is not None
    for number in numbers:
        load.send_signal(number)


# --- what becomes of it ---


def refused(place: Place, spark: Loader, wrong: Wrong) -> list[str]:
    """Load with something wrong; return what was not as it should be."""
    (place.folder / "tmp").mkdir()
    loader = _with(spark, wrong, place.folder / "tmp")
    before = table_of(place.hbase, place.prefix)
    began = monotonic()
    printed = _load(place, loader, wrong)
    seconds, text = monotonic() - began, "".join(printed[:-1])
    wrong.undo(place)
    problems = []
    if printed[-1] != str(wrong.exit_code):
        problems.append(f"exit code {printed[-1]} instead of {wrong.exit_code}")
    told = [line for line in printed if re.search(r"\[(?:ERROR|WARNING)\]|^Error", line)]
    if not any(re.search(wrong.said, line) for line in told):
        problems.append(f"it says: {''.join(told) or text[-800:]}")
    if "Traceback" in text or re.search(r"^\s+at \w", text, re.MULTILINE):
        problems.append("a stack trace")
    if seconds > _LONGEST_LOAD:
        problems.append(f"it took {seconds:.0f} s")
    done = [key for key, line in lines_of(place.hbase, place.prefix).items() if line["meta:status"] == "done"]
    if done:
        problems.append(f"{len(done)} units are called done")
    if table_of(place.hbase, place.prefix) != before:
        problems.append("the table has changed")
    return problems + left_behind(place, loader)


def _load(place: Place, loader: Loader, wrong: Wrong) -> list[str]:
    """Return what a load prints, with its exit code as the last line."""
    if wrong.cause is not None and wrong.moment is None:
        wrong.cause(place, None)
    printed = []
    with loader.start("--from", str(place.zone), "--to", "hbase", "--engine", "spark", "--verbose") as process:
        assert process.stdout is not None
        for line in process.stdout:
            printed.append(line)
            if wrong.cause is not None and wrong.moment is not None and wrong.moment in line:
                wrong.cause(place, process)
    return [*printed, str(process.returncode)]


def left_behind(place: Place, loader: Loader) -> list[str]:
    """Return what a load has left behind."""
    temporary = Path(loader.environment["TMPDIR"])
    left = [f"left in the folder for temporary files: {one.name}" for one in temporary.iterdir()]
    staging = loader.folder / "staging"
    left += [f"left in the staging folder: {one.name}" for one in (staging.iterdir() if staging.is_dir() else ())]
    for key, row in reports(place.hbase.port, place.prefix, "lease").items():
        if json.loads(row["meta:lease"])["holders"]:
            left.append(f"left held: {key}")
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("TMPDIR") == str(temporary):
                left.append(f"left running: {process.cmdline()[:3]}")
                process.kill()
    return left


def _with(spark: Loader, wrong: Wrong, temporary: Path) -> Loader:
    """Return a loader with what is wrong about its settings."""
    more = {f"F1HBASE_{name}": text for name, text in wrong.settings.items()}
    conf = f"{spark.environment['F1HBASE_SPARK_CONF']} spark.local.dir={temporary} {wrong.conf}".strip()
    more |= {"TMPDIR": str(temporary), "F1HBASE_SPARK_CONF": conf}
    return Loader(spark.folder, spark.environment | more | wrong.environment)


@contextmanager
def full_folder(folder: Path) -> Iterator[None]:
    """Have a file system of its own in a folder, in which next to nothing has room; needs to be root."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_TMPFS_BYTES}", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def lonely_master(folder: Path) -> Iterator[str]:
    """Run a master of Spark that has no workers, and yield its address."""
    (port,) = free_ports(1)
    command = [
        str(Path(pyspark.__file__).parent / "bin" / "spark-class"), "org.apache.spark.deploy.master.Master",
        "--host", "127.0.0.1", "--port", str(port), "--webui-port", "0",
    ]  # fmt: skip
    with (folder / "master.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield f"spark://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


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
    parser.add_argument("--only", default="", help="cases whose name has this pattern in it")
    options = parser.parse_args()
    failures = 0
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary)
        if not os.geteuid():
            stack.enter_context(full_folder(folder / "full"))
        lonely = stack.enter_context(lonely_master(folder))
        hbase = LocalHBase(folder / "hbase")
        stack.callback(hbase.stop)
        hbase.start()
        zone = folder / "zone"
        fill_zone(simulate(folder / "season"), zone, hbase, folder / "fill")
        loader_of(hbase, folder / "local", "http://127.0.0.1:9/v1", "truth").run("--from", str(zone), "--to", "hbase")
        truth = table_of(hbase, "truth")
        for number, (name, wrong) in enumerate(cases(folder, lonely).items()):
            if not re.search(options.only, name):
                continue
            if wrong.root and os.geteuid():
                print(f"skipped: {name}: only root can make it so")
                continue
            began = monotonic()
            # What is made wrong before the load leaves the table as it was; the others have tables of their own.
            place = Place(hbase, "refused" if wrong.moment is None else f"refused{number}", zone, folder / str(number))
            place.folder.mkdir()
            spark = spark_loader(hbase, folder / place.prefix, place.prefix, patience="1m")
            spark.run("schema", "--create", "--from", str(zone))
            problems = refused(place, spark, wrong)
            if wrong.moment is not None:
                problems += mended(place, spark, truth)
            shutil.rmtree(place.folder)
            failures += bool(problems)
            line = f"{'WRONG' if problems else 'ok'}: {name} ({monotonic() - began:.0f} s)"
            print("\n  ".join([line, *problems]), flush=True)
        spark = spark_loader(hbase, folder / "refused", "refused", patience="1m")
        problems = mended(Place(hbase, "refused", zone, folder), spark, truth)
        failures += bool(problems)
        print("\n".join(problems) or "ok: after all of them")
    print(f"{failures} went wrong")
    return 1 if failures else 0


def mended(place: Place, spark: Loader, truth: Mapping[bytes, Mapping[bytes, bytes]]) -> list[str]:
    """Load once more with nothing wrong; return what was not as it should be."""
    printed = spark.run("--from", str(place.zone), "--to", "hbase", "--engine", "spark", exit_code=None)
    if table_of(place.hbase, place.prefix) != truth:
        return [f"loaded again, the table is not the local engine's: {printed[-800:]}"]
    return []


if __name__ == "__main__":
    sys.exit(main())
