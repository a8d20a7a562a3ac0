"""OpenTSDB itself, over the HBase of the tests: fetched by Maven, checked against the sums beside it, and started."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import happybase
import pytest
from hbase_server import HOST, LocalHBase, free_ports

_HERE = Path(__file__).resolve().parent / "opentsdb"
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "f1hbase" / "tests" / "opentsdb-2.4.1"
_FETCH_SECONDS = 280
_START_SECONDS = 90

TABLES: Mapping[str, tuple[str, ...]] = {
    "tsdb": ("t",), "tsdb-uid": ("id", "name"), "tsdb-tree": ("t",), "tsdb-meta": ("name",),
}  # fmt: skip
"""The tables and families that OpenTSDB's `create_table.sh` makes."""

_OPENS = [
    option
    for package in ("java.nio", "java.lang", "java.util", "sun.nio.ch")
    for option in ("--add-opens", f"java.base/{package}=ALL-UNNAMED")
]
"""It was made for Java 8."""


def fetch_opentsdb() -> Path:
    """Return the folder of the jars, fetched unless they are there and sound; skip the test where they cannot be."""
    wanted = dict(line.split()[::-1] for line in (_HERE / "jars.sha256").read_text().splitlines())
    if _are_sound(_CACHE, wanted):
        return _CACHE
    for program in ("mvn", "java"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program}, which OpenTSDB needs")
    fresh = _CACHE.with_name(f"{_CACHE.name}.{os.getpid()}")
    command = [
        "mvn", "--batch-mode", "--quiet", "--strict-checksums", "-f", str(_HERE / "pom.xml"),
        "dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={fresh}",
    ]  # fmt: skip
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_FETCH_SECONDS)
        if result.returncode:
            errors = [line for line in result.stdout.splitlines() if "ERROR" in line]
            pytest.skip(f"Maven cannot fetch OpenTSDB: {''.join(errors[:1])[:200]}")
        assert _are_sound(fresh, wanted), "what Maven fetched is not what opentsdb/jars.sha256 says"
        shutil.rmtree(_CACHE, ignore_errors=True)
        fresh.rename(_CACHE)
    except subprocess.TimeoutExpired:
        pytest.skip(f"Maven did not fetch OpenTSDB within {_FETCH_SECONDS} s")
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return _CACHE


def _are_sound(folder: Path, wanted: Mapping[str, str]) -> bool:
    there = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*")}
    return there == wanted


@contextmanager
def opentsdb(hbase: LocalHBase, folder: Path) -> Iterator[str]:
    """Run OpenTSDB over an HBase while the block runs, and yield its address, `host:port`.

    Its tables are made if they are not there, and stay.
    """
    jars = fetch_opentsdb()
    connection = happybase.Connection(hbase.host, hbase.port)
    try:
        there = {name.decode() for name in connection.tables()}
        for name, families in TABLES.items():
            if name not in there:
                connection.create_table(name, {family: {"max_versions": 1} for family in families})
    finally:
        connection.close()
    (port,) = free_ports(1)
    for name in ("static", "cache"):
        (folder / name).mkdir(parents=True)
    quorum = f"{HOST}:{hbase.environment['LOCAL_HBASE_ZK_PORT']}"
    options = {
        "port": port, "bind": HOST, "zkquorum": quorum, "zkbasedir": "/hbase", "staticroot": folder / "static",
        "cachedir": folder / "cache", "flush-interval": 100,
    }  # fmt: skip
    command = [
        "java", "-Xmx384m", "-XX:TieredStopAtLevel=1", *_OPENS, "-cp", f"{jars}/*", "net.opentsdb.tools.TSDMain",
        "--auto-metric", *(f"--{name}={value}" for name, value in options.items()),
    ]  # fmt: skip
    with (folder / "tsd.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            _wait(process, f"http://{HOST}:{port}/api/version", folder / "tsd.log")
            yield f"{HOST}:{port}"
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        with suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:
            assert "version" in json.load(answer)
            return
        assert process.poll() is None, log.read_text(errors="replace")[-3000:]
        time.sleep(0.2)
    raise AssertionError(f"OpenTSDB did not start: {log.read_text(errors='replace')[-3000:]}")


def query(address: str, metric: str, tags: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the series of a metric of the last hour, as `/api/query` answers; none of a name that it does not know."""
    body = {"start": "1h-ago", "queries": [{"metric": metric, "aggregator": "none", "tags": dict(tags)}]}
    request = urllib.request.Request(
        f"http://{address}/api/query", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            found: list[dict[str, Any]] = json.load(answer)
            return found
    except urllib.error.HTTPError as error:
        if b"No such name" not in error.read():
            raise
        return []
