"""`load --engine spark` makes the table and the lines of the local engine, whatever is wrong in the zone or killed."""

from __future__ import annotations

import random
import re
import signal
from dataclasses import dataclass
from pathlib import Path

import happybase
import psutil
import pytest
from cli import Loader, loader_of
from hbase_server import LocalHBase
from spark_runs import fill_zone, lines_of, need_jars, spark_loader, spoil, table_of
from tables import scan
from weekend import simulate

pytestmark = pytest.mark.hbase

_LOCAL, _SPARK = "spark_local", "spark_bulk"
_BY_SPARK = ("--to", "hbase", "--engine", "spark")
_ROUND = "Spark: round"


@dataclass(frozen=True)
class Loaded:
    """A spoilt zone, loaded by each engine into tables of its own."""

    hbase: LocalHBase
    zone: Path
    spark: Loader
    by_local: str
    by_spark: str

    def load(self, *options: str, exit_code: int = 1) -> str:
        return self.spark.run("--from", str(self.zone), *_BY_SPARK, *options, exit_code=exit_code)


@pytest.fixture(scope="module")
def loaded(hbase: LocalHBase, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    need_jars()
    folder = tmp_path_factory.mktemp("spark")
    zone = folder / "zone"
    fill_zone(simulate(folder / "season"), zone, hbase, folder / "fill")
    spoil(zone)
    local = loader_of(hbase, folder / "local", "http://127.0.0.1:9/v1", _LOCAL)
    spark = spark_loader(hbase, folder / "bulk", _SPARK)
    by_local = local.run("--from", str(zone), "--to", "hbase", exit_code=1)
    by_spark = spark.run("--from", str(zone), *_BY_SPARK, "--verbose", exit_code=1)
    return Loaded(hbase, zone, spark, by_local, by_spark)


def _failures(output: str) -> list[str]:
    return sorted(re.findall(r"not loaded: .*", output))


def test_the_table_is_the_one_of_the_local_engine(loaded: Loaded) -> None:
    assert _ROUND in loaded.by_spark
    table = table_of(loaded.hbase, _SPARK)
    assert table == table_of(loaded.hbase, _LOCAL)
    assert len(table) > 8_000


def test_the_lines_of_units_and_the_quarantine_are_the_same(loaded: Loaded) -> None:
    units, quarantine = (lines_of(loaded.hbase, _SPARK, kind) for kind in ("unit", "quarantine"))
    assert units == lines_of(loaded.hbase, _LOCAL)
    assert quarantine == lines_of(loaded.hbase, _LOCAL, "quarantine")
    assert len(quarantine) == 5
    assert {line["meta:status"] for line in units.values()} == {"done", "failed"}


def test_what_cannot_be_read_is_said_in_the_same_words(loaded: Loaded) -> None:
    failures = _failures(loaded.by_spark)
    assert failures == _failures(loaded.by_local)
    assert len(failures) == 3
    assert "Traceback" not in loaded.by_spark + loaded.spark.log


def test_the_rows_came_in_files_and_all_bear_the_time_of_their_round(loaded: Loaded) -> None:
    cells = scan(loaded.hbase.port, f"{_SPARK}_f1_data")
    samples = {
        time
        for columns in cells.values()
        for column, (_, time) in columns.items()
        if column.startswith((b"car:", b"location:"))
    }
    # The two whose objects are damaged were left to workers, and have no rows.
    assert len(samples) == 1
    connection = happybase.Connection("127.0.0.1", loaded.hbase.port)
    assert len(connection.table(f"{_SPARK}_f1_data").regions()) == 2  # split at the meetings
    connection.close()


def test_twice_is_once(loaded: Loaded) -> None:
    before = scan(loaded.hbase.port, f"{_SPARK}_f1_data")
    output = loaded.load()
    assert _ROUND not in output
    assert _failures(output) == _failures(loaded.by_spark)
    assert scan(loaded.hbase.port, f"{_SPARK}_f1_data") == before


def test_the_plan_says_which_engine_is_quicker(loaded: Loaded) -> None:
    printed = loaded.spark.run("plan", "--from", str(loaded.zone))
    assert "--engine local is quicker: fewer than 2,000,000 rows" in printed


@pytest.mark.parametrize("moment", [random.Random(18).choice(["are written", "HBase has"])])
def test_after_a_rollback_and_a_kill_it_loads_again(loaded: Loaded, moment: str) -> None:
    truth, lines = table_of(loaded.hbase, _LOCAL), lines_of(loaded.hbase, _LOCAL)
    loaded.spark.run("rollback", "--meeting-key", "7001", "--yes")
    assert len(table_of(loaded.hbase, _SPARK)) < len(truth)
    with loaded.spark.start("--from", str(loaded.zone), *_BY_SPARK, "--verbose") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if moment in line:
                break
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        process.stdout.read()
    _, left = psutil.wait_procs(children, timeout=30)
    assert not left
    # Nothing that a line calls done may be lacking, and nothing is called done that HBase had not taken.
    done = {key for key, line in lines_of(loaded.hbase, _SPARK).items() if line["meta:status"] == "done"}
    assert not [key for key in done if key.startswith("unit#2025#7001#")]
    assert _ROUND in loaded.load()
    assert table_of(loaded.hbase, _SPARK) == truth
    again = lines_of(loaded.hbase, _SPARK)
    epochs = {line.pop("meta:epoch") for key, line in again.items() if "#7001#" in key and line}
    assert epochs == {"1"}
    for cells in (*lines.values(), *again.values()):
        cells.pop("meta:epoch", None)
    assert again == lines
    assert not list((loaded.spark.folder / "staging").glob("*"))
