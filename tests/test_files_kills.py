"""A seeded sample of `tests/faults/kill_zone.py`: kills over landing zones, always exact."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults.kill_zone import run_all
from hbase_server import LocalHBase


def test_a_zone_is_exact_whatever_is_killed(tmp_path: Path) -> None:
    for run in run_all(tmp_path, range(1, 4), ("to",)):
        assert run.wrong == [], (run.seed, run.layout, run.kills)


@pytest.mark.hbase
def test_a_table_and_a_zone_are_exact_whatever_is_killed(tmp_path: Path, hbase: LocalHBase) -> None:
    for run in run_all(tmp_path, range(101, 103), ("from", "both"), hbase=hbase):
        assert run.wrong == [], (run.seed, run.kind, run.layout, run.kills)
