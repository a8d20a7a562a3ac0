"""What a season takes of memory in the process that plans it, and a session in the one that loads it."""

from __future__ import annotations

import gc
import json
import os
import pickle
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cli import ENTRY_POINT, loader_of
from hbase_server import LocalHBase, free_ports
from replay_server import ReplayServer
from samples import END, START, WEEK, a_meeting, sample

from f1hbase.model.outcomes import Outcome, Receipt
from f1hbase.model.units import Unit, slice_time
from f1hbase.pipeline.messages import Reported
from f1hbase.pipeline.tally import Tally

_SESSIONS_A_MEETING = 5
_LONG = timedelta(hours=5, minutes=15)
"""With windows of 48 seconds and two endpoints: some 800 units a session, 100,000 a season."""


@pytest.fixture(scope="module")
def season(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplayServer]:
    """An API that has the meetings and sessions of a season, and no other records."""
    folder = tmp_path_factory.mktemp("season")
    meetings = [sample("meetings", meeting_key=key, year=2024) for key in range(1200, 1224)]
    sessions: list[dict[str, Any]] = []
    for number, meeting in enumerate(meetings):
        for place in range(_SESSIONS_A_MEETING):
            start = START - number * WEEK + place * timedelta(hours=9)
            sessions.append(
                sample(
                    "sessions", meeting_key=meeting["meeting_key"], session_key=9000 + len(sessions),
                    date_start=start.isoformat(), date_end=(start + _LONG).isoformat(),
                )
            )  # fmt: skip
    for name, records in (("meetings", meetings), ("sessions", sessions)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    with ReplayServer(folder) as server:
        yield server


_MEASURE = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""
"""Runs a command and says how much memory it took at the most, in kilobytes. In a small process of its own, as what a
process has before it becomes a command counts for the command."""


def run(folder: Path, *arguments: str, **environment: str) -> tuple[str, float]:
    """Run the command line; return what it prints, and how much memory it took at the most, in megabytes."""
    result = subprocess.run(
        [sys.executable, "-c", _MEASURE, sys.executable, str(ENTRY_POINT), *arguments],
        cwd=folder, env=os.environ | environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return result.stdout, int(result.stderr) / 1000


def test_planning_a_season_of_100_000_units_takes_less_than_100_megabytes(season: ReplayServer, tmp_path: Path) -> None:
    (nowhere,) = free_ports(1)
    hbase = {"F1HBASE_HBASE_HOST": "127.0.0.1", "F1HBASE_HBASE_PORT": str(nowhere), "F1HBASE_WINDOW": "48s"}
    output, season_megabytes = run(tmp_path, "plan", "--year", "2024", F1HBASE_API_URL=season.url, **hbase)
    assert _requests(output, sessions=120) > 95_000
    assert season_megabytes < 100
    output, meeting_megabytes = run(tmp_path, "plan", "--meeting-key", "1200", F1HBASE_API_URL=season.url, **hbase)
    assert _requests(output, sessions=5) > 95_000 / 24
    assert season_megabytes - meeting_megabytes < 4, "the units of one meeting at a time; all would be 8 and more"


def _requests(output: str, *, sessions: int) -> int:
    found = re.search(rf"\b{sessions} sessions, [\d,]+ units in ([\d,]+) requests", output)
    assert found, output
    return int(found[1].replace(",", ""))


@pytest.mark.hbase
def test_a_worker_takes_less_than_100_megabytes_with_answers_of_4(
    hbase: LocalHBase, tmp_path: Path, table_prefix: str
) -> None:
    """Twenty cars for half an hour and what is before and after."""
    simulate = [sys.executable, "-m", "simulator", "make", str(tmp_path / "race"), "--sessions", "race"]
    subprocess.run([*simulate, "--minutes", "30"], check=True, stdout=subprocess.DEVNULL)
    with ReplayServer(tmp_path / "race") as api:
        environment = loader_of(hbase, tmp_path, api.url, table_prefix, processes="1").environment
        _, megabytes = run(tmp_path, "load", **environment)
        largest = max(entry["bytes"] for entry in api.log())
    assert largest > 3_000_000
    assert megabytes < 100, "the larger one of parent and worker"


def test_what_the_parent_counts_takes_no_memory_for_units_that_are_stored_and_little_for_those_that_fail() -> None:
    (scope,) = (session.scope for session in a_meeting().sessions)
    windows = slice_time(START, END, timedelta(seconds=36))
    units = [Unit("car_data", scope, driver, window) for driver in range(20) for window in windows]
    assert len(units) == 4_000
    reason = b"HTTP 504 Gateway Timeout: upstream request timeout; given up after 4 tries"
    tally = Tally()
    for error, most_bytes in ((None, 10), (reason, 300)):
        # A text of its own for each unit, as each is made anew.
        ends = [
            Outcome(unit, END, receipt=Receipt(3350), error=None if error is None else error.decode()) for unit in units
        ]
        messages = [pickle.dumps(Reported(ends[first : first + 100])) for first in range(0, len(ends), 100)]
        tracemalloc.start()
        for message in messages:
            _count(message, tally)
        gc.collect()  # Python keeps some freed tuples for new ones
        grown, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert grown / len(units) < most_bytes
    assert (tally.stored, tally.failed) == (4_000, 4_000)


def _count(message: bytes, tally: Tally) -> None:
    for outcome in pickle.loads(message).outcomes:
        tally.add(outcome)
