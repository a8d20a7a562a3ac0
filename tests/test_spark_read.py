"""`export` and `verify` by Spark: the files and the differences of the local engine, of tables and of snapshots."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any

import duckdb
import happybase
import psutil
import pytest
from cli import ENTRY_POINT
from hbase_server import LocalHBase
from spark_runs import need_jars, spark_loader
from stored_weekend import KINDS, YEAR, hbase_options, in_hbase, load, records, weekend
from verifying import differences, settings_of

from f1hbase.composition import open_reader
from f1hbase.model.plans import Selection
from f1hbase.operations.export.run import export
from f1hbase.operations.verify.base import Depth
from f1hbase.stores.files.objects import Objects
from f1hbase.stores.files.urls import parse_location

pytestmark = pytest.mark.hbase

_DAMAGED = "spark_damaged"
_PROBE = Path(__file__).with_name("spark_read_probe.py")


@dataclass(frozen=True)
class Probed:
    """What both engines have made of the same tables."""

    folder: Path
    local: Path
    source: Path
    found: dict[str, Any]
    verified: dict[str, list[str]]
    failures: dict[str, str]


def _damage(hbase: LocalHBase) -> None:
    """Make the table differ from its reports in every way that rows can."""
    connection = happybase.Connection(hbase.host, hbase.port)
    table = connection.table(f"{_DAMAGED}_f1_data")
    cars = [key for key, _ in table.scan(columns=[b"car"]) if key.count(b"#") == 4]
    table.delete(cars[len(cars) // 2], columns=[b"car"])
    table.put(cars[-5], {b"car:rpm": b"1"})
    # What ends a value in the gateway's answers, and is none.
    table.put(cars[-6], {b"car:rpm": b"1\n\0\2" + bytes(8) + b"\0"})
    lead = cars[0].rpartition(b"#")[0]
    table.put(lead + b"#2025-03-14T11:00:00.000001+00:00", {b"car:rpm": b"1"})
    table.put(lead + b"#0#2025-03-14T11:00:00+00:00", {b"location:x": b"1"})
    table.put(b"2025#1#2#4#99", {b"laps:st_speed": b"1"})
    table.put(lead.rpartition(b"#")[0] + b"#?", {b"weather:humidity": b"1"})
    # What can be read, of a session whose files are written: numbers of one driver, and what is none of another.
    ends = [key.split(b"#")[2] for key in (cars[0], cars[-1])]
    others = [key for key in cars if key.split(b"#")[2] not in ends]
    _, usual, unusual = sorted({key.rpartition(b"#")[0] for key in others})[:3]
    numbers = [key for key in others if key.startswith(usual + b"#")]
    table.delete(numbers[1], columns=[b"car:rpm"])
    table.put(numbers[2], {b"car:rpm": b"-12"})
    table.put(numbers[3], {b"car:rpm": b"40000"})
    rows = [key for key in others if key.startswith(unusual + b"#")]
    for key, value in zip(rows[1:], (b"1.5", b"2147483648", b"null"), strict=False):
        table.put(key, {b"car:rpm": value})
    table.put(rows[5], {b"car:unheard_of": b"7"})
    for key, end in ((rows[6], b"-00:30"), (rows[7], b"0123+00:00")):
        table.delete(key, columns=[b"car"])
        table.put(key.replace(b"+00:00", end), {b"car:rpm": b"1"})
    connection.close()


@pytest.fixture(scope="module")
def probed(hbase: LocalHBase, tmp_path_factory: pytest.TempPathFactory) -> Probed:
    need_jars()
    source = weekend(tmp_path_factory.getbasetemp())
    good = in_hbase(hbase, source)
    load(source, **hbase_options(hbase, _DAMAGED))
    _damage(hbase)
    folder = tmp_path_factory.mktemp("by_spark")
    (_restored(hbase) / "f1hbase-of-a-killed-run").mkdir(parents=True)
    drivers = sorted({record["driver_number"] for record in records(source, "drivers")})[1:3]
    given = {
        "folder": str(folder), "port": hbase.port, "zookeeper": hbase.environment["LOCAL_HBASE_ZK_PORT"],
        "hbase": str(hbase.folder), "good": good, "damaged": _DAMAGED, "drivers": drivers,
    }  # fmt: skip
    probe = subprocess.run(
        [sys.executable, str(_PROBE), json.dumps(given)],
        env=os.environ | {"PYTHONPATH": str(ENTRY_POINT.parent)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert probe.returncode == 0, probe.stderr
    local = tmp_path_factory.mktemp("by_local")
    reader = open_reader(settings_of(hbase, table_prefix=good), "hbase")
    whole: dict[str, Any] = {"mode": "year", "year": (YEAR,)}
    some = whole | {"drivers": tuple(drivers), "endpoints": ("car_data", "laps")}
    read = whole | {"endpoints": ("car_data", "laps", "location")}
    for name, form, chosen in [
        ("parquet", "parquet", whole), ("csv", "csv", whole), ("jsonl", "jsonl", whole), ("drivers", "parquet", some)
    ]:  # fmt: skip
        export(reader, Objects(parse_location(str(local / name))), Selection(**chosen), form)
    config = settings_of(hbase, table_prefix=_DAMAGED)
    damaged = export(
        open_reader(config, "hbase"), Objects(parse_location(str(local / "damaged"))), Selection(**read), "parquet"
    )
    verified = {
        "good": [],
        "damaged": [str(one) for one in differences(config, Depth())],
        "damaged deep": [str(one) for one in differences(config, Depth(deep=True))],
    }
    return Probed(folder, local, source, json.loads(probe.stdout), verified, damaged.failures)


def _restored(hbase: LocalHBase) -> Path:
    """Return the folder in which snapshots of an HBase are restored."""
    root = hashlib.sha256(f"file://{hbase.folder}/data".encode()).hexdigest()[:12]
    return Path(f"/tmp/f1hbase-snapshots-{os.getuid()}", root)


def _content(folder: Path) -> dict[str, bytes]:
    """Return what all files have, of manifests without the time."""
    return {
        str(path.relative_to(folder)): re.sub(rb'"written_at": "[^"]*"', b"", path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl", "drivers"])
def test_the_files_are_those_of_the_local_engine(probed: Probed, form: str) -> None:
    content = _content(probed.folder / form)
    assert content == _content(probed.local / form)
    assert len(content) > 4


def test_a_snapshot_has_the_same_and_nothing_of_it_is_left(probed: Probed, hbase: LocalHBase) -> None:
    content, whole = _content(probed.folder / "snapshot"), _content(probed.local / "parquet")
    assert content == {path: whole[path] for path in content}
    assert len(content) == 2 * 3 * len(KINDS)  # the file and the manifest of each endpoint and session
    assert not list((hbase.folder / "data" / ".hbase-snapshot").glob("f1hbase-*"))
    assert not list(_restored(hbase).iterdir())


def test_only_what_is_missing_is_written_again(probed: Probed) -> None:
    first, again = probed.found["exports"]["snapshot"], probed.found["exports"]["again"]
    assert again["files"] == probed.found["lost"] > 0
    assert again["unchanged"] == first["files"] - probed.found["lost"]


def test_java_compiles_quickly_where_there_is_little_to_read(probed: Probed) -> None:
    assert "-XX:TieredStopAtLevel=1" in probed.found["java"]


def test_duckdb_reads_what_was_loaded(probed: Probed) -> None:
    for endpoint in ("car_data", "laps"):
        counts = {
            name: duckdb.execute(f"SELECT count(*) FROM read_parquet('{folder}/{endpoint}/**/*.parquet')").fetchall()
            for name, folder in [
                ("local", probed.local / "parquet"), ("table", probed.folder / "parquet"),
                ("snapshot", probed.folder / "snapshot"),
            ]
        }  # fmt: skip
        assert set(map(str, counts.values())) == {f"[({len(records(probed.source, endpoint))},)]"}


def test_a_row_that_cannot_be_read_is_said_in_the_same_words(probed: Probed) -> None:
    assert probed.found["exports"]["damaged"]["failures"] == probed.failures
    assert probed.failures


def test_rows_that_are_not_as_samples_are_are_exported_as_by_the_local_engine(probed: Probed) -> None:
    assert _content(probed.folder / "damaged") == _content(probed.local / "damaged")
    files = f"read_parquet('{probed.folder}/damaged/car_data/**/*.parquet')"
    extra = "\n".join(text for (text,) in duckdb.execute(f"SELECT extra FROM {files} WHERE extra NOT NULL").fetchall())
    for text in ('"rpm":40000', '"rpm":1.5', '"rpm":2147483648', '"unheard_of":7', '0123+00:00"'):
        assert text in extra
    assert duckdb.execute(f"SELECT count(*) FROM {files} WHERE rpm = -12").fetchall() == [(1,)]


def test_killed_by_spark_and_gone_on_with_by_the_local_engine_it_is_whole(
    probed: Probed, hbase: LocalHBase, tmp_path: Path
) -> None:
    loader = spark_loader(hbase, tmp_path / "loader", in_hbase(hbase, probed.source))
    target = tmp_path / "tables"
    options = ("export", "--to", str(target), "--year", str(YEAR))
    with loader.start(*options, "--engine", "spark") as process:
        while not list(target.glob("*/season=*/**/*.parquet")) and process.poll() is None:
            sleep(0.01)
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    _, left = psutil.wait_procs(children, timeout=30)
    assert not left
    loader.run(*options)
    assert _content(target) == _content(probed.local / "parquet")


@pytest.mark.parametrize("which", ["good", "damaged", "damaged deep"])
def test_verify_finds_the_same_differences(probed: Probed, which: str) -> None:
    assert probed.found["verified"][which] == probed.verified[which]


def test_the_damage_is_of_every_kind(probed: Probed) -> None:
    text = "\n".join(probed.verified["damaged deep"])
    for part in (
        "missing",
        "too many",
        "no endpoint makes such row keys",
        "no unit of the reports",
        "the cells of its",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("another HBase", "is not the one of the Thrift gateway: run 20010101T000000-no is not in its table"),
        ("no family", "has no column family 'nope': 'schema --check' names the lines"),
        ("no table", "there is no table 'gone': 'load' or 'schema --create' creates it"),
        ("no files", r"the files of HBase are not in 'file:.*/nowhere' \(hbase.rootdir\). Name HBase's own"),
        (
            "no file system",
            r"'gs://bucket/hbase' \(hbase.rootdir\) cannot be read \(.*\). Name HBase's own .*--snapshot",
        ),
    ],
)
def test_what_cannot_be_read_is_one_line(probed: Probed, what: str, said: str) -> None:
    line = probed.found["errors"][what]
    assert re.search(said, line)
    assert "\n" not in line
