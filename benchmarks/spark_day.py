"""The local engine and Spark side by side: the same landing zone into tables of their own, in one run.

`python -m benchmarks.spark_day [FOLDER] [--copies 4] [--rounds 3]`: FOLDER has the records of a session by endpoint (a
real test day of 9 hours and 18 cars has 1.8 million); each copy is a meeting of its own, under other keys. Without
FOLDER a race weekend is simulated. A replay server fills the zone, HBase is a real one; all are started here, and the
loads are `f1hbase load` as a user runs it, start-up included. Prints Markdown; exit code 1 if the tables differ.
"""

from __future__ import annotations

import argparse
import gzip
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import psutil

from benchmarks.measuring import MB, CpuClock
from benchmarks.servers import HOST, ROOT, LocalHBase, ReplayServer
from benchmarks.zone_day import digest

_SAMPLE_SECONDS = 0.2
_ROWS = re.compile(r"rows: ([\d,]+) ")
_ROUND = re.compile(r"Spark: round \d+ took")

ENGINES = {
    "local engine": ("--processes", "4"),
    "Spark local[1]": ("--engine", "spark", "--spark-master", "local[1]"),
    "Spark local[2]": ("--engine", "spark", "--spark-master", "local[2]"),
}


@dataclass
class Tree:
    """What a process and all below it have taken; those that have ended included, up to the last look at them.

    Attributes:
        cpu: Processor seconds by process.
        peak: The most memory (RSS, bytes) that all had together; what they share counts for each.
    """

    cpu: dict[int, float] = field(default_factory=dict)
    peak: int = 0

    def look(self, root: psutil.Process) -> None:
        """Look at all processes that are there now."""
        total = 0
        try:
            processes = [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for process in processes:
            try:
                times = process.cpu_times()
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
            self.cpu[process.pid] = times.user + times.system
        self.peak = max(self.peak, total)


@contextmanager
def watched(process: psutil.Process) -> Iterator[Tree]:
    """Look at a process and its children every fifth of a second."""
    tree, over = Tree(), threading.Event()

    def look() -> None:
        while not over.wait(_SAMPLE_SECONDS):
            tree.look(process)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    yield tree
    over.set()
    thread.join()


@dataclass(frozen=True)
class Load:
    """One load: rows, seconds, processor seconds of the loader and of HBase with its gateway, peak memory in bytes."""

    rows: int
    seconds: float
    client: float
    hbase: float
    peak: int


def load(folder: Path, environment: dict[str, str], hbase: LocalHBase, *options: str) -> Load:
    """Run a load that must succeed."""
    clock, began = CpuClock({"gateway": hbase.pids["gateway"], "HBase": hbase.pids["master"]}), monotonic()
    with subprocess.Popen(
        [sys.executable, "-m", "f1hbase", "load", *options], cwd=folder, env=os.environ | environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process, watched(psutil.Process(process.pid)) as tree:  # fmt: skip
        try:
            printed, _ = process.communicate()
        except BaseException:
            process.terminate()  # its workers end with it
            raise
        seconds = monotonic() - began
    if process.returncode:
        raise SystemExit(f"load {' '.join(options)}: exit {process.returncode}\n{printed[-3000:]}")
    if "spark" in options and not _ROUND.search(printed):
        raise SystemExit(f"Spark did nothing:\n{printed[-3000:]}")
    rows = _ROWS.search(printed)
    assert rows is not None, printed
    return Load(int(rows[1].replace(",", "")), seconds, sum(tree.cpu.values()), sum(clock.spent().values()), tree.peak)


def copy_of(source: Path, target: Path, number: int) -> None:
    """Write the records of a session under other keys: of another meeting, and of another session."""
    target.mkdir(parents=True)
    keys = re.compile(r'"(meeting_key|session_key)":\s*(\d+)')
    for path in sorted(source.rglob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines, gzip.open(target / path.name, "at", 1) as copy:
            copy.writelines(keys.sub(lambda key: f'"{key[1]}": {int(key[2]) + number * 100_000}', one) for one in lines)


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--zone", type=Path, help="load this landing zone, which is there already, instead")
    parser.add_argument("--engines", default=",".join(ENGINES), help="which of them, with commas between")
    parser.add_argument("--copies", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=int, default=20, help="of each session of a simulated weekend")
    options = parser.parse_args()
    wrong: list[str] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        source = options.folder
        if source is None and options.zone is None:
            source = folder / "simulated"
            weekend = ["--sessions", "practice", "--minutes", str(options.minutes), "--drivers", "20"]
            command = [sys.executable, "-m", "simulator", "make", str(source), *weekend]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
        for number in range(options.copies if source else 0):
            copy_of(source.resolve(), folder / "season" / str(number), number)
        hbase = stack.enter_context(LocalHBase(folder / "hbase"))
        zookeeper = f"spark.hadoop.hbase.zookeeper.property.clientPort={hbase.zookeeper_port}"
        environment = {
            "F1HBASE_HBASE_HOST": HOST, "F1HBASE_HBASE_PORT": str(hbase.gateway.port), "PYTHONPATH": str(ROOT),
            "PATH": f"{ROOT / 'scripts' / 'bin'}{os.pathsep}{os.environ['PATH']}", **hbase.settings,
            "F1HBASE_SPARK_CONF": f"{zookeeper} spark.local.dir={folder}",
            "F1HBASE_SPARK_STAGING": str(folder / "staging"),
        }  # fmt: skip
        zone = str(options.zone.resolve() if options.zone else folder / "zone")
        if options.zone is None:
            with ReplayServer(folder / "season") as api:
                load(folder, environment | {"F1HBASE_API_URL": api.url}, hbase, "--to", zone)
        engines = {name: ENGINES[name] for name in options.engines.split(",")}
        found: dict[str, list[Load]] = {name: [] for name in engines}
        tables = set()
        for turn in range(options.rounds):
            for number, (name, more) in enumerate(engines.items()):
                prefix = f"r{turn}e{number}"
                there = ("--from", zone, "--to", "hbase", "--table-prefix", prefix)
                # Before the clock runs: the hbase shell takes some ten seconds to create tables.
                created = [
                    sys.executable,
                    "-m",
                    "f1hbase",
                    "schema",
                    "--create",
                    "--from",
                    zone,
                    "--table-prefix",
                    prefix,
                ]
                subprocess.run(created, env=os.environ | environment, cwd=folder, check=True, capture_output=True)
                found[name].append(load(folder, environment, hbase, *there, *more))
                tables.add(digest(hbase.gateway.port, f"{prefix}_f1_data"))
                print(f"round {turn + 1}: {name}: {found[name][-1].seconds:.1f} s", file=sys.stderr, flush=True)
        if len(tables) > 1:
            wrong.append(f"the tables differ: {tables}")
    rows = next(iter(found.values()))[0].rows
    print(f"{rows:,} rows, {options.rounds} rounds in turns, medians; start-up included.\n")
    print("| engine | s | rows/s | CPU s a 100,000 rows: loader | HBase and gateway | MB, whole tree |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, loads in found.items():
        seconds, client, servers, peak = (
            statistics.median(values)
            for values in zip(*((one.seconds, one.client, one.hbase, one.peak) for one in loads), strict=True)
        )
        shares = f"{client / rows * 1e5:.2f} | {servers / rows * 1e5:.2f}"
        print(f"| {name} | {seconds:.1f} | {rows / seconds:,.0f} | {shares} | {peak / MB:,.0f} |")
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
