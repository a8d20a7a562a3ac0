"""Loads by Spark for tests: the environment they need, zones with all that can be wrong, and what is compared."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli import ENTRY_POINT, Loader, loader_of
from hbase_server import SCRIPT, LocalHBase
from replay_server import ReplayServer
from tables import reports, scan, values

from f1hbase.stores.files.packing import md5_hex, pack

COMMANDS = ENTRY_POINT.parent / "scripts" / "bin"
"""Where the command `hbase` is."""

_OF_THE_RUN = {"meta:run", "stats:seconds"}
"""What the lines of two runs differ in."""


def need_jars() -> None:
    """Fetch the jars of HBase for Spark, or skip with the reason: without a network there are none."""
    fetched = subprocess.run([str(SCRIPT), "fetch", "spark"], capture_output=True, text=True, check=False)
    if fetched.returncode:
        pytest.skip(f"the jars of HBase for Spark are not there: {fetched.stderr.strip()[-200:]}")


def spark_loader(hbase: LocalHBase, folder: Path, prefix: str, **settings: str) -> Loader:
    """Return a loader by Spark in this process, with two tasks at a time, and its files in the folder."""
    loader = loader_of(hbase, folder, "http://127.0.0.1:9/v1", prefix)
    zookeeper = f"spark.hadoop.hbase.zookeeper.property.clientPort={hbase.environment['LOCAL_HBASE_ZK_PORT']}"
    mine = {
        "F1HBASE_SPARK_MASTER": "local[2]",
        "F1HBASE_SPARK_CONF": f"{zookeeper} spark.sql.shuffle.partitions=2 spark.local.dir={folder}",
        "F1HBASE_SPARK_STAGING": str(folder / "staging"),
        "PATH": f"{COMMANDS}{os.pathsep}{os.environ['PATH']}",
        "JDK_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1",
    }
    further = {f"F1HBASE_{name.upper()}": value for name, value in settings.items()}
    return Loader(folder, hbase.environment | loader.environment | mine | further)


def fill_zone(season: Path, zone: Path, hbase: LocalHBase, folder: Path) -> None:
    """Fill a landing zone from simulated records."""
    with ReplayServer(season) as api:
        loader_of(hbase, folder, api.url, "unused").run("--to", str(zone), "--window", "30s")


def spoil(zone: Path) -> None:
    """Add to a zone what can be wrong in answers, and damage it.

    A weather record without a date goes to quarantine, and so does one of two laps of one number; a sample comes
    twice, one has a fraction and a field that nobody knows, one is NaN; an endpoint has its records in two objects; an
    object is cut off, one is gone.
    """
    _rewrite(zone, "weather", lambda records: [*records, records[0] | {"date": None}])
    _rewrite(zone, "laps", lambda records: [*records, records[0] | {"lap_duration": 99.5}])
    _rewrite(zone, "position", lambda records: [*records, records[0], records[1] | {"unheard_of": [1, None]}])
    _split(zone, "race_control")
    cars = _objects(zone, "car_data")
    _rewrite_lines(zone, cars[0], lambda lines: [*lines, lines[-1], lines[-2].replace(",0,", ",0.5,", 1)])
    locations = _objects(zone, "location")
    _rewrite_lines(zone, locations[1], lambda lines: [*lines, "NaN," + lines[-1].partition(",")[2]])
    locations[0].write_bytes(locations[0].read_bytes()[:-20])
    _objects(zone, "stints")[0].unlink()
    for manifest, content in _manifests(zone):
        # It is of the answers before, and a unit that has other records than its manifest counts is not loaded.
        del content["counts"]["records"]
        manifest.write_text(json.dumps(content))


def _objects(zone: Path, endpoint: str) -> list[Path]:
    return sorted(zone.glob(f"source=*/**/endpoint={endpoint}/*"))


def _rewrite(zone: Path, endpoint: str, change: Callable[[list[Any]], list[Any]]) -> None:
    path = _objects(zone, endpoint)[0]
    _store(zone, path, json.dumps(change(json.loads(gzip.decompress(path.read_bytes())))).encode())


def _rewrite_lines(zone: Path, path: Path, change: Callable[[list[str]], list[str]]) -> None:
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    _store(zone, path, "".join(f"{line}\n" for line in change(lines)).encode())


def _store(zone: Path, path: Path, body: bytes) -> None:
    """Write an object anew, and have the manifests say so."""
    path.write_bytes(pack(body))
    for manifest, content in _manifests(zone):
        for stored in content["objects"]:
            if stored["path"] == str(path.relative_to(zone)):
                stored |= _said(body)
        manifest.write_text(json.dumps(content))


def _split(zone: Path, endpoint: str) -> None:
    """Have two objects for the units of an answer; one record is in both, with another value in the second."""
    path = _objects(zone, endpoint)[0]
    records = json.loads(gzip.decompress(path.read_bytes()))
    half = len(records) // 2
    other = path.with_name(f"more-{path.name}")
    body = json.dumps([records[0] | {"qualifying_phase": 3}, *records[half:]]).encode()
    other.write_bytes(pack(body))
    for manifest, content in _manifests(zone):
        mine = [one for one in content["objects"] if one["path"] == str(path.relative_to(zone))]
        content["objects"] += [one | {"path": str(other.relative_to(zone))} | _said(body) for one in mine]
        manifest.write_text(json.dumps(content))
    _store(zone, path, json.dumps(records[:half]).encode())


def _said(body: bytes) -> dict[str, Any]:
    return {
        "bytes": len(body),
        "md5": md5_hex(body),
        "stored_bytes": len(pack(body)),
        "stored_md5": md5_hex(pack(body)),
    }


def _manifests(zone: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted((zone / "_state" / "units").rglob("*.json")):
        yield path, json.loads(path.read_text())


def table_of(hbase: LocalHBase, prefix: str) -> dict[bytes, dict[bytes, bytes]]:
    """Return the values of the table of records."""
    return values(scan(hbase.port, f"{prefix}_f1_data"))


def lines_of(hbase: LocalHBase, prefix: str, kind: str = "unit") -> dict[str, dict[str, str]]:
    """Return the lines of units, but for what two runs always differ in."""
    return {
        key: {name: value for name, value in cells.items() if name not in _OF_THE_RUN}
        for key, cells in reports(hbase.port, prefix, kind).items()
    }
