"""Loads that are killed anywhere, again and again, until they are done; then the table is compared with the truth.

At random but seeded moments it kills (-9) a worker, the parent, the Thrift gateway or HBase itself, or interrupts the
load, starts again what it killed, and resumes with other settings. With --refresh the loads are of records that have
changed since an earlier one; with --zone the destination is a folder, which is loaded into HBase at the end.
The long form of `test_cli_kills.py`, outside CI's time; it starts an HBase and replay servers of its own:

    .venv/bin/python tests/faults/kill_anywhere.py --large 20 --small 80 --refresh 20 --zone 20
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from time import monotonic
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import happybase
import psutil
from cli import Loader, loader_of
from hbase_server import LocalHBase
from replay_server import ReplayServer

from f1hbase.model.catalog import ENDPOINTS

VICTIMS = ("worker", "worker", "parent", "parent", "gateway", "master", "interrupt")
"""What is killed, by how often it is chosen."""

_MARK = "KILL_RUN"
"""A variable in the environment of every process of a run, by which those that are left over are found."""

_ORPHANS_END_WITHIN = 15.0
"""Seconds: a worker whose parent was killed has ten to store what it has in hand."""

_MOST_RESUMES = 20

Digests = dict[bytes, bytes]


@dataclass
class Truth:
    """What an undisturbed load makes of the data.

    Attributes:
        table: A digest of each row's cells.
        rows: How many rows the units have, by endpoint.
    """

    table: Digests
    rows: Counter[str]


@dataclass
class Run:
    """One load with its kills, and what was wrong in the end."""

    seed: int
    kills: list[str] = field(default_factory=list)
    resumes: int = 0
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0
    output: str = ""


def simulate(folder: Path, *, minutes: int, drivers: int) -> None:
    """Write two meetings of a practice and a race each."""
    arguments = ["--meetings", "2", "--sessions", "practice,race", "--minutes", str(minutes)]
    subprocess.run(
        [sys.executable, "-m", "simulator", "make", str(folder), "--drivers", str(drivers), *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def change(folder: Path, target: Path) -> None:
    """Copy records with other values in some of them, and nulls for values; their identities are the same."""
    # Those of race_control are told apart by all of their fields.
    unchanged = {"meetings", "sessions", "race_control"}
    for path in sorted(folder.rglob("*.jsonl.gz")):
        endpoint = ENDPOINTS.get(path.name.partition(".")[0])
        copy = target / path.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(path, "rt", encoding="utf-8") as lines, gzip.open(copy, "wt", encoding="utf-8") as changed:
            for number, line in enumerate(lines):
                record = json.loads(line)
                if number % 5 == 0 and endpoint is not None and endpoint.name not in unchanged:
                    fields = sorted(record.keys() - set(endpoint.key_fields) - {"meeting_key", "session_key"})
                    fields = [name for name in fields if name not in endpoint.text and type(record[name]) is int]
                    if fields:
                        record[fields[number // 5 % len(fields)]] = None if number % 2 else 7
                changed.write(json.dumps(record) + "\n")


def find_truth(hbase: LocalHBase, url: str, folder: Path) -> Truth:
    """Load once without disturbance."""
    loader = loader_for(hbase, url, folder, "truth")
    loader.run()
    truth = Truth(digests(hbase, "truth_f1_data"), Counter())
    for key, cells in scan_rows(hbase, "truth_f1_reports", b"unit#"):
        truth.rows[key.decode().split("#")[4]] += int(cells[b"stats:rows"])
    drop(hbase, "truth")
    return truth


def kill_anywhere(
    hbase: LocalHBase, url: str, folder: Path, truth: Truth, seed: int, *, seconds: float, before: str = "",
    zone: bool = False,
) -> Run:  # fmt: skip
    """Load while things are killed, resume until done, and compare.

    Args:
        hbase: Is running before and after.
        url: The API.
        folder: For the loader's log and state.
        truth: What has to come out.
        seed: Chooses what is killed and when.
        seconds: About how long an undisturbed load takes.
        before: An API with other values, which are loaded undisturbed before; then the load is one with --refresh.
        zone: Whether to load into a folder first, and from there into HBase when that is done.
    """
    chance = random.Random(seed)
    prefix = f"kill{seed}"
    run = Run(seed)
    loader = loader_for(hbase, url, folder, prefix)
    began = monotonic()
    wanted = chance.randint(3, 6)
    always = ["--refresh"] if before else ["--to", str(folder / "zone")] if zone else []
    victims = [victim for victim in VICTIMS if not zone or victim not in {"gateway", "master"}]
    if before:
        loader_for(hbase, before, folder, prefix).run(f"--window={chance.choice(['30s', 'auto'])}")
    try:
        while run.resumes < _MOST_RESUMES:
            run.resumes += 1
            options = [
                *always,
                f"--processes={chance.choice([1, 2, 4])}",
                f"--window={chance.choice(['30s', '40s', '1m', '15m', 'auto'])}",
                f"--max-concurrent-requests={chance.choice([2, 10])}",
            ]
            with loader.start(*options) as process:
                # Into a file of the loader's own (populate.log) goes the same; nobody reads the pipe meanwhile.
                while len(run.kills) < wanted and _waits(process, chance.uniform(0.1, seconds)):
                    run.kills.append(_kill(hbase, process, chance, victims))
                if len(run.kills) >= wanted:
                    _start_again(hbase)
                assert process.stdout is not None
                output = process.stdout.read()
            run.output += output
            _start_again(hbase)
            if process.returncode == 0:
                break
            # A signal that comes before Python has begun to listen ends it as it would any program.
            if process.returncode not in (1, 3, 130, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT):
                run.wrong.append(f"exit code {process.returncode}: {output[-2000:]}")
            if chance.random() < 0.5:
                run.wrong += _left_over(prefix)
        else:
            run.wrong.append(f"not done after {_MOST_RESUMES} resumes: {run.output[-2000:]}")
        run.wrong += _left_over(prefix)
        run.wrong += _tracebacks(run.output)
        if zone:
            run.output += loader.run("--from", str(folder / "zone"), exit_code=None)
        # A refresh with other windows writes lines beside those of before, which count the same rows again.
        run.wrong += compare(hbase, prefix, truth, lines_of_all=not before)
    finally:
        _start_again(hbase)
        run.seconds = monotonic() - began
    if not run.wrong:
        drop(hbase, prefix)
    return run


def compare(hbase: LocalHBase, prefix: str, truth: Truth, *, lines_of_all: bool = True) -> list[str]:
    """Return what differs from the truth: rows and cells, and units that are not done, or done twice.

    Args:
        hbase: Where the tables are.
        prefix: Of their names.
        truth: What has to be in them.
        lines_of_all: Whether the units' lines must count each row once.
    """
    wrong = []
    table = digests(hbase, f"{prefix}_f1_data")
    missing, extra = truth.table.keys() - table.keys(), table.keys() - truth.table.keys()
    changed = [key for key in table.keys() & truth.table.keys() if table[key] != truth.table[key]]
    for what, keys in (("missing", missing), ("too many", extra), ("different", changed)):
        if keys:
            wrong.append(f"{len(keys)} rows {what}, such as {sorted(keys)[:3]}")
    rows: Counter[str] = Counter()
    windows: dict[tuple[str, ...], list[tuple[str, str]]] = defaultdict(list)
    for key, cells in scan_rows(hbase, f"{prefix}_f1_reports", b"unit#"):
        _, *place, start, end = key.decode().split("#")
        if cells[b"meta:status"] != b"done":
            wrong.append(
                f"{key.decode()} is {cells[b'meta:status'].decode()}: {cells.get(b'errors:last', b'').decode()}"
            )
            continue
        rows[place[3]] += int(cells[b"stats:rows"])
        windows[tuple(place)].append(("" if start == "-" else start, "~" if end == "-" else end))
    if not lines_of_all:
        return wrong
    if rows != truth.rows:
        wrong.append(f"the units have {dict(rows)} rows, the truth has {dict(truth.rows)}")
    for unit, spans in windows.items():
        spans.sort()
        if any(later[0] < earlier[1] for earlier, later in pairwise(spans)):
            wrong.append(f"done twice: {unit} in {spans}")
    return wrong


def digests(hbase: LocalHBase, table: str) -> Digests:
    """Return a digest of each row of a table."""
    return {
        key: hashlib.blake2b(repr(sorted(cells.items())).encode(), digest_size=16).digest()
        for key, cells in scan_rows(hbase, table)
    }


def scan_rows(hbase: LocalHBase, table: str, prefix: bytes = b"") -> Iterator[tuple[bytes, dict[bytes, bytes]]]:
    """Yield the rows of a table, without any code of the project."""
    connection = happybase.Connection(hbase.host, hbase.port)
    try:
        yield from connection.table(table).scan(row_prefix=prefix or None, batch_size=5000)
    finally:
        connection.close()


def drop(hbase: LocalHBase, prefix: str) -> None:
    """Drop the tables of a run of this harness, so that they do not fill the memory of the next."""
    connection = happybase.Connection(hbase.host, hbase.port, timeout=120_000)
    for table in (f"{prefix}_f1_data", f"{prefix}_f1_reports"):
        connection.delete_table(table, disable=True)
    connection.close()


def loader_for(hbase: LocalHBase, url: str, folder: Path, prefix: str) -> Loader:
    """Return a loader with tables of its own, each process of which bears the mark of the run."""
    loader = loader_of(hbase, folder, url, prefix, retry_delay="200ms")
    return replace(loader, environment=loader.environment | {_MARK: prefix})


def _waits(process: subprocess.Popen[str], seconds: float) -> bool:
    """Let a load run for a while, and return whether it still does."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    return False


def _kill(hbase: LocalHBase, process: subprocess.Popen[str], chance: random.Random, victims: Sequence[str]) -> str:
    """Kill something, and return what."""
    victim = chance.choice(victims)
    # What has been killed comes back at the next kill at the latest, or together with it.
    if chance.random() < 0.7:
        _start_again(hbase)
    alive = hbase.pids()
    try:
        if victim == "worker":
            workers = psutil.Process(process.pid).children()
            if not workers:
                return "nobody (no worker yet)"
            chance.choice(sorted(workers, key=lambda worker: worker.pid)).kill()
        elif victim == "parent":
            process.kill()
            process.wait()
        elif victim == "interrupt":
            process.send_signal(chance.choice([signal.SIGINT, signal.SIGTERM]))
        elif victim in alive:
            hbase.kill_gateway() if victim == "gateway" else hbase.kill_master()
            if chance.random() < 0.7:
                _start_again(hbase)
        else:
            return f"nobody (the {victim} is down)"
    except psutil.NoSuchProcess:
        return f"nobody (the {victim} had ended)"
    return victim


def _start_again(hbase: LocalHBase) -> None:
    if len(hbase.pids()) < 2:
        hbase.start()


def _left_over(mark: str) -> list[str]:
    """Return the processes of a run that are still there when all of them should have ended."""
    left = [process for process in psutil.process_iter() if _environment(process).get(_MARK) == mark]
    _, alive = psutil.wait_procs(left, timeout=_ORPHANS_END_WITHIN)
    return [f"process left: {process}" for process in alive]


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


def _tracebacks(output: str) -> list[str]:
    return [f"a stack trace: {output[output.index('Traceback') :][:2000]}"] if "Traceback" in output else []


@dataclass(frozen=True)
class _Size:
    name: str
    minutes: int
    drivers: int
    seconds: float


SMALL = _Size("small", minutes=1, drivers=10, seconds=4.0)
LARGE = _Size("large", minutes=7, drivers=20, seconds=25.0)


def _report(run: Run, kind: str) -> dict[str, Any]:
    return {
        "kind": kind,
        "seed": run.seed,
        "ok": not run.wrong,
        "kills": run.kills,
        "resumes": run.resumes,
        "seconds": round(run.seconds, 1),
        "wrong": run.wrong,
    }


def main() -> int:
    """Run the long form; prints a line a run, and a summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", type=int, default=0, help="how many runs of at least 300,000 rows")
    parser.add_argument("--small", type=int, default=5, help="how many runs of some 20,000 rows")
    parser.add_argument("--refresh", type=int, default=0, help="how many small runs that refresh changed records")
    parser.add_argument("--zone", type=int, default=0, help="how many small runs into a folder")
    parser.add_argument("--first-seed", type=int, default=1)
    options = parser.parse_args()
    failures, total, seed = 0, 0, options.first_seed
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        hbase = LocalHBase(work / "hbase")
        try:
            hbase.start()
            kinds = (
                ("small", SMALL, options.small), ("large", LARGE, options.large),
                ("refresh", SMALL, options.refresh), ("zone", SMALL, options.zone),
            )  # fmt: skip
            for kind, size, runs in kinds:
                if not runs:
                    continue
                data = work / size.name
                if not data.exists():
                    simulate(data, minutes=size.minutes, drivers=size.drivers)
                before = ReplayServer(data) if kind == "refresh" else None
                if before is not None:
                    change(data, work / "changed")
                    data = work / "changed"
                with ExitStack() as stack:
                    server = stack.enter_context(ReplayServer(data))
                    earlier = stack.enter_context(before).url if before is not None else ""
                    truth = find_truth(hbase, server.url, work / f"{kind}-truth")
                    print(f"{kind}: {len(truth.table):,} rows", flush=True)
                    for _ in range(runs):
                        run = kill_anywhere(
                            hbase, server.url, work / f"run{seed}", truth, seed, seconds=size.seconds,
                            before=earlier, zone=kind == "zone",
                        )  # fmt: skip
                        failures += bool(run.wrong)
                        total += 1
                        print(json.dumps(_report(run, kind)), flush=True)
                        seed += 1
        finally:
            hbase.stop()
    print(f"{failures} of {total} runs went wrong")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
