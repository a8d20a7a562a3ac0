"""Loads into and out of landing zones that are killed anywhere, again and again, until they are done.

At random but seeded moments it kills (-9) a worker or the parent, interrupts the load, or takes the store away: closes
all of its connections, refuses new ones, or loses answers of what it has done. After each end no unit may be marked
done without its objects; in the end zone and table must hold what an undisturbed load makes. The store is moto's S3
behind a forwarder, HBase a real one. The comparison uses none of the project's own code.

    .venv/bin/python tests/faults/kill_zone.py --runs 50
    .venv/bin/python tests/faults/kill_zone.py --runs 10 --kinds to        # needs no HBase
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import io
import json
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import happybase
import psutil
from cli import Loader
from forwarder import Forwarder
from hbase_server import LocalHBase
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3.models import S3Backend, s3_backends
from replay_server import ReplayServer
from store_servers import moto_s3

KINDS = ("to", "from", "both")
"""API to zone, zone to HBase, API to HBase and zone in one pass."""

LAYOUTS = ("units", "extractor", "dated")

VICTIMS = ("worker", "worker", "parent", "parent", "interrupt", "store", "store", "store")
"""What is killed, by how often it is chosen."""

BUCKET = "races"

_MARK = "KILL_ZONE_RUN"
"""A variable in the environment of every process of a run, by which those that are left over are found."""

_ORPHANS_END_WITHIN = 20.0
"""Seconds: a worker whose parent was killed has ten to store what it has in hand."""

_MOST_RESUMES = 20

Records = dict[tuple[str, str], Counter[str]]
"""The records of each endpoint and session, as canonical JSON, with how often each is there."""


@dataclass
class Truth:
    """What undisturbed loads make.

    Attributes:
        records: Of the zone.
        files: The files of the layout `extractor`, each as its records.
        table: A digest of each row's cells.
    """

    records: Records
    files: dict[str, Counter[str]]
    table: dict[bytes, bytes]


@dataclass
class Run:
    """One load with its kills, and what was wrong in the end."""

    seed: int
    kind: str
    layout: str
    kills: list[str] = field(default_factory=list)
    resumes: int = 0
    checks: int = 0
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0
    output: str = ""


@dataclass
class World:
    """What runs for all of the loads."""

    folder: Path
    api: str
    s3: str
    way: Forwarder
    hbase: LocalHBase | None = None

    def loader(self, name: str) -> Loader:
        """Return a loader with tables of its own, each process of which bears the mark of the run."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True, parents=True)
        environment = {
            "F1HBASE_API_URL": self.api,
            "F1HBASE_TABLE_PREFIX": name,
            "F1HBASE_RETRY_DELAY": "200ms",
            "F1HBASE_YEAR": "2025",
            "XDG_STATE_HOME": str(folder / "state"),
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.s3,
            _MARK: name,
        }
        if self.hbase is not None:
            environment |= {"F1HBASE_HBASE_HOST": self.hbase.host, "F1HBASE_HBASE_PORT": str(self.hbase.port)}
        return Loader(folder, environment)


def zone_url(name: str) -> str:
    """Return the zone of a run."""
    return f"s3://{BUCKET}/{name}"


def options_of(kind: str, name: str, layout: str) -> list[str]:
    """Return what a run loads from where to where."""
    if kind == "from":
        return ["--from", zone_url(f"truth-{layout}"), "--to", "hbase"]
    zone = ["--to", zone_url(name), "--layout", layout]
    return zone if kind == "to" else ["--to", "hbase", *zone]


def kill_anywhere(world: World, truth: Truth, seed: int, kinds: tuple[str, ...], *, seconds: float) -> Run:
    """Load while things are killed, resume until done, and compare.

    Args:
        world: What runs.
        truth: What has to come out.
        seed: Chooses what is loaded where, what is killed and when.
        kinds: Of which kinds of loads.
        seconds: About how long an undisturbed load takes.
    """
    chance = random.Random(seed)
    run = Run(seed, chance.choice(kinds), chance.choice(LAYOUTS))
    name = f"kill{seed}"
    loader = world.loader(name)
    began, wanted = monotonic(), chance.randint(2, 5)
    try:
        while run.resumes < _MOST_RESUMES:
            run.resumes += 1
            options = [
                *options_of(run.kind, name, run.layout),
                f"--processes={chance.choice([1, 2, 4])}",
                f"--window={chance.choice(['20s', '30s', '1m', 'auto'])}",
            ]
            with loader.start(*options) as process:
                while len(run.kills) < wanted and _waits(process, chance.uniform(0.2, seconds)):
                    run.kills.append(_kill(world, process, chance))
                if len(run.kills) >= wanted:
                    _bring_back(world)
                assert process.stdout is not None
                output = process.stdout.read()
            run.output += output
            _bring_back(world)
            if run.kind != "from":
                run.checks += 1
                run.wrong += unfounded(name, run.layout)
            if process.returncode == 0:
                break
            # A signal that comes before Python has begun to listen ends it as it would any program.
            if process.returncode not in (1, 3, 130, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT):
                run.wrong.append(f"exit code {process.returncode}: {output[-2000:]}")
        else:
            run.wrong.append(f"not done after {_MOST_RESUMES} resumes: {run.output[-2000:]}")
        run.wrong += _left_over(name)
        run.wrong += _tracebacks(run.output)
        run.wrong += compare(world, run, name, truth)
    finally:
        _bring_back(world)
        run.seconds = monotonic() - began
    if not run.wrong:
        _forget(world, run.kind, name)
    return run


def compare(world: World, run: Run, name: str, truth: Truth) -> list[str]:
    """Return what differs from the truth."""
    wrong = []
    if run.kind != "from":
        wrong += [f"{path} is {one['status']}" for path, one in manifests(name) if one["status"] != "done"]
        wrong += _differences("records", records_of(name), truth.records)
        if run.layout == "extractor":
            wrong += _differences("files", files_of(name), truth.files)
    if run.kind != "to":
        assert world.hbase is not None
        table = digests(world.hbase, f"{name}_f1_data")
        if table != truth.table:
            missing, extra = truth.table.keys() - table.keys(), table.keys() - truth.table.keys()
            changed = [key for key in table.keys() & truth.table.keys() if table[key] != truth.table[key]]
            wrong.append(f"the table has {len(missing)} rows missing, {len(extra)} too many, {len(changed)} changed")
    return wrong


def unfounded(name: str, layout: str) -> list[str]:
    """Return which units are marked done without the objects that their manifests name, or the file made of them."""
    wrong = []
    covered: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for path, manifest in manifests(name):
        if manifest["status"] not in ("done", "provisional"):
            continue
        unit = manifest["unit"]
        covered[unit["endpoint"], str(unit["session_key"])].append((unit["from"] or "", unit["before"] or "~"))
        for stored in manifest["objects"]:
            content = objects(name).get(stored["path"])
            if content is None:
                wrong.append(f"{path} is done without {stored['path']}")
            elif hashlib.md5(content).hexdigest() != stored["stored_md5"]:
                wrong.append(f"{stored['path']} is not what {path} says")
    if layout == "extractor":
        made = {
            (facts_path.rpartition("/")[2].removesuffix(".json"), _session_of(facts_path)): json.loads(content)
            for facts_path, content in objects(name).items()
            if facts_path.startswith("_state/files/")
        }
        for (endpoint, session), spans in covered.items():
            if not _is_whole(spans):
                continue
            facts = made.get((endpoint, session))
            content = None if facts is None else objects(name).get(facts["path"])
            if facts is None or content is None or len(content) != facts["bytes"]:
                wrong.append(f"{endpoint} of session {session} is done without its file")
            else:
                json.loads(content)
    return wrong


def _is_whole(spans: list[tuple[str, str]]) -> bool:
    at = ""
    for start, end in sorted(spans):
        if start > at:
            return False
        at = max(at, end)
    return at == "~"


def _session_of(path: str) -> str:
    session = next((part for part in path.split("/") if part.startswith("session=")), "session=-")
    return session.removeprefix("session=").replace("-", "None")


# What is stored, without any code of the project


def backend() -> S3Backend:
    """Return what moto's server keeps."""
    return s3_backends[DEFAULT_ACCOUNT_ID]["aws"]


def objects(name: str) -> dict[str, bytes]:
    """Return the objects of a zone by path."""
    keys = backend().buckets[BUCKET].keys
    return {key[len(name) + 1 :]: bytes(keys[key].value) for key in list(keys) if key.startswith(f"{name}/")}


def manifests(name: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the manifests of a zone."""
    found = objects(name).items()
    return [(path, json.loads(content)) for path, content in found if path.startswith("_state/units/")]


def records_of(name: str) -> Records:
    """Return the records of all units, each from the object and the window that its manifest names."""
    found: Records = defaultdict(Counter)
    for _, manifest in manifests(name):
        unit = manifest["unit"]
        for stored in manifest["objects"]:
            if stored["status"] >= 400:
                continue
            content = objects(name)[stored["path"]]
            body = gzip.decompress(content) if stored["packing"] == "gzip" else content
            records = _csv(body) if stored["content_type"].startswith("text/csv") else json.loads(body)
            for record in records:
                if all(record.get(field) == value for field, value in stored["select"].items()):
                    found[unit["endpoint"], str(unit["session_key"])][_canonical(record)] += 1
    return {key: records for key, records in found.items() if records}


def files_of(name: str) -> dict[str, Counter[str]]:
    """Return the files that people look at, each as its records."""
    return {
        path: Counter(map(_canonical, json.loads(content)))
        for path, content in objects(name).items()
        if not path.startswith("_")
    }


def _csv(body: bytes) -> Iterator[dict[str, Any]]:
    for row in csv.DictReader(io.StringIO(body.decode())):
        yield {
            field: value.replace(" ", "T") if field == "date" else json.loads(value) if value else None
            for field, value in row.items()
        }


def _canonical(record: dict[str, Any]) -> str:
    return json.dumps(record, sort_keys=True)


def _differences(what: str, mine: dict[Any, Counter[str]], theirs: dict[Any, Counter[str]]) -> list[str]:
    wrong = []
    for key in mine.keys() | theirs.keys():
        here, there = mine.get(key, Counter()), theirs.get(key, Counter())
        missing, extra = there - here, here - there
        if missing or extra or (key in mine) != (key in theirs):
            wrong.append(f"{what} {key}: {missing.total()} missing, {extra.total()} too many")
    return wrong


def digests(hbase: LocalHBase, table: str) -> dict[bytes, bytes]:
    """Return a digest of each row of a table."""
    connection = happybase.Connection(hbase.host, hbase.port)
    try:
        return {
            key: hashlib.blake2b(repr(sorted(cells.items())).encode(), digest_size=16).digest()
            for key, cells in connection.table(table).scan(batch_size=5000)
        }
    finally:
        connection.close()


def _forget(world: World, kind: str, name: str) -> None:
    """Delete what a run has made, so that it does not fill the memory of the next."""
    keys = backend().buckets[BUCKET].keys
    for key in [key for key in keys if key.startswith(f"{name}/")]:
        keys.pop(key)
    if kind != "to":
        assert world.hbase is not None
        connection = happybase.Connection(world.hbase.host, world.hbase.port, timeout=120_000)
        for table in (f"{name}_f1_data", f"{name}_f1_reports"):
            connection.delete_table(table, disable=True)
        connection.close()


# Kills


def _waits(process: subprocess.Popen[str], seconds: float) -> bool:
    """Let a load run for a while, and return whether it still does."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    return False


def _kill(world: World, process: subprocess.Popen[str], chance: random.Random) -> str:
    """Kill something, and return what."""
    victim = chance.choice(VICTIMS)
    if chance.random() < 0.7:
        _bring_back(world)
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
        else:
            how = chance.choice(["stopped", "cut", "answers lost"])
            if how == "stopped":
                world.way.stop()
            elif how == "cut":
                world.way.cut()
            else:
                world.way.lose_answers(chance.randint(1, 3))
            return f"store ({how})"
    except psutil.NoSuchProcess:
        return f"nobody (the {victim} had ended)"
    return victim


def _bring_back(world: World) -> None:
    world.way.lose_answers(0)
    world.way.stop()
    world.way.start()


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


def find_truth(world: World) -> Truth:
    """Load without disturbance: a zone of each layout, and a table."""
    for layout in LAYOUTS:
        name = f"truth-{layout}"
        world.loader("truth").run("--to", zone_url(name), "--layout", layout)
    truth = Truth(records_of("truth-units"), files_of("truth-extractor"), {})
    for layout in LAYOUTS:
        assert not _differences("records", records_of(f"truth-{layout}"), truth.records)
    if world.hbase is not None:
        world.loader("truth").run("--to", "hbase")
        truth.table = digests(world.hbase, "truth_f1_data")
    return truth


def simulate(folder: Path) -> None:
    """Write two meetings of a practice and a race each."""
    arguments = ["--meetings", "2", "--sessions", "practice,race", "--minutes", "1", "--drivers", "6"]
    command = [sys.executable, "-m", "simulator", "make", str(folder), *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def run_all(
    folder: Path, seeds: range, kinds: tuple[str, ...], *, seconds: float = 4.0, hbase: LocalHBase | None = None
) -> Iterator[Run]:
    """Start what is needed, and yield a run for each seed; `hbase` is running if a kind needs it."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # moto's line for each request
    os.environ |= {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    with ExitStack() as stack:
        simulate(folder / "season")
        api = stack.enter_context(ReplayServer(folder / "season"))
        s3 = stack.enter_context(moto_s3())
        way = stack.enter_context(Forwarder(int(s3.rpartition(":")[2])))
        if BUCKET not in backend().buckets:
            backend().create_bucket(BUCKET, "us-east-1")
        stack.callback(backend().reset)
        world = World(folder, api.url, f"http://127.0.0.1:{way.port}", way, hbase)
        truth = find_truth(world)
        for seed in seeds:
            yield kill_anywhere(world, truth, seed, kinds, seconds=seconds)


def main() -> int:
    """Run it; prints a line a run, and a summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--kinds", default=",".join(KINDS), help="of to, from, both")
    options = parser.parse_args()
    kinds, failures = tuple(options.kinds.split(",")), 0
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        hbase = None
        if set(kinds) - {"to"}:
            hbase = LocalHBase(Path(temporary) / "hbase")
            stack.callback(hbase.stop)
            hbase.start()
        seeds = range(options.first_seed, options.first_seed + options.runs)
        for run in run_all(Path(temporary), seeds, kinds, hbase=hbase):
            failures += bool(run.wrong)
            shown = {
                name: getattr(run, name) for name in ("seed", "kind", "layout", "kills", "resumes", "checks", "wrong")
            }
            print(json.dumps({"ok": not run.wrong, "seconds": round(run.seconds, 1), **shown}), flush=True)
    print(f"{failures} of {options.runs} runs went wrong")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
