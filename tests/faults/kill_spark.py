"""Loads by Spark that are killed anywhere, again and again, until they are done; then tables are compared.

At random but seeded moments it kills (-9) the driver, Spark's Java, a Python worker of Spark or HBase itself, or
interrupts the load; among the moments are those between the files and the bulk load, and between that and the lines.
After each kill, no line may call done what the table lacks. The truth is what the local engine makes of the same zone.
The long form of `test_spark_load.py`, outside CI's time; it starts an HBase and a replay server of its own:

    .venv/bin/python tests/faults/kill_spark.py --runs 30
"""

from __future__ import annotations

import argparse
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import happybase
import psutil
from cli import Loader, loader_of
from hbase_server import LocalHBase
from spark_runs import fill_zone, lines_of, spark_loader, spoil, table_of
from weekend import simulate

VICTIMS = ("driver", "driver", "driver", "java", "python worker", "master", "interrupt")
"""What is killed, by how often it is chosen."""

WRITTEN, TAKEN = "are written", "HBase has the files"
"""What the log says between the files and the bulk load, and between that and the lines."""

_MOMENTS = (WRITTEN, TAKEN, None, None)
"""When: at what the log says, or after some random seconds."""

_MOST_RESUMES = 12
_LONGEST_LOAD = 15.0
"""About how long a load takes, in seconds, so that the moments are spread over it."""

_ROW = re.compile(r"unit#(\d+#\d+#\d+)#(\w+)#")

_FAMILIES = {"laps": b"laps:", "weather": b"weather:", "position": b"position:", "drivers": b"driver:"}
"""The families that belong to one endpoint each, of which a session has one unit."""

Table = dict[bytes, dict[bytes, bytes]]


@dataclass
class Run:
    """One load with its kills, and what was wrong in the end."""

    seed: int
    kills: list[str] = field(default_factory=list)
    resumes: int = 0
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0


def kill_anywhere(hbase: LocalHBase, loader: Loader, zone: Path, prefix: str, truth: Table, seed: int) -> Run:
    """Load while things are killed, resume until done, and compare."""
    chance, run, began = random.Random(seed), Run(seed), monotonic()
    wanted = chance.randint(1, 3)
    while run.resumes < _MOST_RESUMES:
        run.resumes += 1
        with loader.start("--from", str(zone), "--to", "hbase", "--engine", "spark", "--verbose") as process:
            children: list[psutil.Process] = []
            if len(run.kills) < wanted:
                moment = chance.choice(_MOMENTS)
                _await(process, moment, chance.uniform(0.5, _LONGEST_LOAD))
                children = _children(process)
                run.kills.append(f"{_kill(hbase, process, children, chance)} ({moment or 'some time'})")
            assert process.stdout is not None
            output = process.stdout.read()
        _, left = psutil.wait_procs(children, timeout=30)
        run.wrong += [f"process left: {one}" for one in left]
        if "Traceback" in output:
            run.wrong.append(f"a stack trace: {output[output.index('Traceback') :][:1000]}")
        run.wrong += unfounded(hbase, prefix, truth)
        if process.returncode == 1 and "not loaded: stints" in output:
            break  # with the two objects that are damaged from the beginning
        if process.returncode not in (1, 3, 130, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT):
            run.wrong.append(f"exit code {process.returncode}: {output[-1500:]}")
    else:
        run.wrong.append(f"not done after {_MOST_RESUMES} loads")
    table = table_of(hbase, prefix)
    if table != truth:
        missing, extra = truth.keys() - table.keys(), table.keys() - truth.keys()
        run.wrong.append(f"the table has {len(missing)} rows missing and {len(extra)} too many, or others")
    run.seconds = monotonic() - began
    return run


def unfounded(hbase: LocalHBase, prefix: str, truth: Table) -> list[str]:
    """Return which endpoints of sessions are called done altogether without all their rows."""
    connection = happybase.Connection(hbase.host, hbase.port, timeout=120_000)
    try:
        if f"{prefix}_f1_reports".encode() not in connection.tables():
            return []
    finally:
        connection.close()
    table = table_of(hbase, prefix)
    wrong = []
    for key, line in lines_of(hbase, prefix).items():
        found = _ROW.match(key)
        family = None if found is None else _FAMILIES.get(found[2])
        if found is None or family is None or line["meta:status"] != "done" or not key.endswith("#-#-#-"):
            continue
        rows = {row for row in truth if row.startswith(f"{found[1]}#".encode())}
        for row in rows:
            mine = {column: value for column, value in truth[row].items() if column.startswith(family)}
            if not mine.items() <= table.get(row, {}).items():
                wrong.append(f"{key} is done without {row!r}")
                break
    return wrong


def _await(process: subprocess.Popen[str], text: str | None, seconds: float) -> None:
    """Wait for what the log says, or for some seconds; not longer than the load lasts."""
    assert process.stdout is not None
    if text is None:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            return
        return
    for line in process.stdout:
        if text in line:
            return


def _children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _kill(
    hbase: LocalHBase, process: subprocess.Popen[str], children: list[psutil.Process], chance: random.Random
) -> str:
    """Kill something, and return what."""
    victim = chance.choice(VICTIMS)
    if victim == "driver":
        process.kill()
    elif victim == "interrupt":
        process.send_signal(chance.choice([signal.SIGINT, signal.SIGTERM]))
    elif victim == "master":
        hbase.kill_master()
        hbase.start()
    else:
        word = "java" if victim == "java" else "pyspark.daemon"
        some = [child for child in children if _is(child, word)]
        if not some:
            return f"nobody (no {victim} yet)"
        chance.choice(sorted(some, key=lambda child: child.pid)).kill()
    return victim


def _is(process: psutil.Process, word: str) -> bool:
    try:
        command = process.cmdline()
    except psutil.Error:
        return False
    return bool(command) and (command[0].endswith("java") if word == "java" else word in command)


def run_all(folder: Path, seeds: range, hbase: LocalHBase) -> Iterator[Run]:
    """Make a spoilt zone and its truth, and yield a run for each seed; HBase is running."""
    zone = folder / "zone"
    fill_zone(simulate(folder / "season"), zone, hbase, folder / "fill")
    spoil(zone)
    local = loader_of(hbase, folder / "local", "http://127.0.0.1:9/v1", "truth")
    local.run("--from", str(zone), "--to", "hbase", exit_code=1)
    truth = table_of(hbase, "truth")
    for seed in seeds:
        prefix = f"seed{seed}"
        loader = spark_loader(hbase, folder / prefix, prefix, patience="2m")
        yield kill_anywhere(hbase, loader, zone, prefix, truth, seed)


def main() -> int:
    """Run it; prints a line a run, and a summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=1)
    options = parser.parse_args()
    failures, kills = 0, Counter[str]()
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary)
        hbase = LocalHBase(folder / "hbase")
        stack.callback(hbase.stop)
        hbase.start()
        for run in run_all(folder, range(options.first_seed, options.first_seed + options.runs), hbase):
            failures += bool(run.wrong)
            kills.update(kill.partition(" (")[0] for kill in run.kills)
            shown = {name: getattr(run, name) for name in ("seed", "kills", "resumes", "wrong")}
            print(json.dumps({"ok": not run.wrong, "seconds": round(run.seconds, 1), **shown}), flush=True)
    print(f"{failures} of {options.runs} runs went wrong; killed: {dict(kills)}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
