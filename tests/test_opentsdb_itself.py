"""What is sent to OpenTSDB is read back from OpenTSDB 2.4.1 itself, over the HBase of the tests.

`scripts/test.sh --all` runs it (TEST_ALL=1): it fetches OpenTSDB's jars and takes half a minute.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli import Loader
from hbase_server import LocalHBase
from opentsdb_tsd import opentsdb, query
from replay_server import ReplayServer
from test_metrics import filled
from weekend import YEAR, simulate

from f1hbase.metrics.opentsdb import opentsdb_of, points_of, submit, tags_of

pytestmark = [
    pytest.mark.hbase,
    pytest.mark.skipif(not os.environ.get("TEST_ALL"), reason="OpenTSDB itself is run by scripts/test.sh --all"),
]


@pytest.fixture(scope="module")
def tsdb(hbase: LocalHBase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with opentsdb(hbase, tmp_path_factory.mktemp("opentsdb")) as address:
        yield address


def _until(read: Callable[[], Any], wanted: Any) -> None:
    """Wait until OpenTSDB has flushed what it took: it answers before that."""
    until = time.monotonic() + 20
    while read() != wanted and time.monotonic() < until:
        time.sleep(0.1)
    assert read() == wanted


def _last(address: str, metric: str, tags: dict[str, str]) -> float | None:
    """Return the latest value of a series that has exactly these tags beside the host's."""
    for series in query(address, metric, tags):
        if series["tags"].keys() == {"host", *tags}:
            moment = max(series["dps"], key=int)
            return float(series["dps"][moment])
    return None


def test_every_value_that_is_sent_is_read_back(tsdb: str) -> None:
    points = points_of(filled().read(), tags_of("real test"))
    submit(f"http://{tsdb}", points)
    assert len(points) > 30
    for point in points:
        tags = {name: value for name, value in point["tags"].items() if name != "host"}
        # What is no whole number is kept in four or eight bytes, as it came.
        _until(lambda: _last(tsdb, point["metric"], tags), pytest.approx(point["value"], rel=1e-6))  # noqa: B023


def test_the_exporter_sends_its_last_figures_before_it_ends(tsdb: str) -> None:
    exporter = opentsdb_of({"OPENTSDB_HOSTNAME": tsdb, "INGESTER_PROCESS_NAME": "exporter"})
    assert exporter is not None
    exporter.start(filled().read)
    exporter.close()
    expected = {
        point["metric"]: point["value"]
        for point in points_of(filled().read(), {})
        if point["metric"].endswith("_count")
    }
    for metric, value in expected.items():
        _until(lambda: _last(tsdb, metric, {"ingester_process_name": "exporter"}), value)  # noqa: B023


def test_a_load_and_an_ingest_are_read_back(hbase: LocalHBase, tsdb: str, tmp_path: Path, table_prefix: str) -> None:
    weekend = simulate(tmp_path / "weekend", meetings=1)
    with ReplayServer(weekend) as api:
        environment = {
            "OPENTSDB_HOSTNAME": tsdb, "INGESTER_PROCESS_NAME": "night", "F1HBASE_API_URL": api.url,
            "XDG_STATE_HOME": str(tmp_path / "state"), "F1HBASE_HBASE_PORT": str(hbase.port),
            "F1HBASE_TABLE_PREFIX": table_prefix,
        }  # fmt: skip
        loader = Loader(tmp_path, environment)
        printed = loader.run("load", "--year", str(YEAR), "--endpoint", "laps", "--endpoint", "stints")
        assert "not so now: metrics" not in printed
        (run,) = json.loads(loader.run("status", "--json"))["runs"]
        (tmp_path / "laps.csv").write_text("lap,seconds\n1,90.5\n")
        loader.run("ingest", "laps.csv", "--to", "zone", "--header", "DATE-OBS=2024-07-07T14:00:00")

    def rows() -> float:
        found = query(tsdb, "f1hbase.rows", {"ingester_process_name": "night", "endpoint": "*"})
        return sum(float(series["dps"][max(series["dps"], key=int)]) for series in found)

    _until(rows, float(run["stats"]["rows"]))
    for name in ("upload_file", "post_frame", "ingest_lag"):
        _until(lambda: len(query(tsdb, f"ingester.{name}", {"ingester_process_name": "night"})), 1)  # noqa: B023
