"""A load that is killed anywhere and run again ends with the same table.

`tests/faults/kill_anywhere.py` is the long form, with many more seeds.
"""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import psutil
import pytest
from cli import read_until, workers
from faults.kill_anywhere import Truth, compare, drop, find_truth, kill_anywhere, loader_for, simulate
from hbase_server import LocalHBase
from replay_server import ReplayServer
from tables import reports

pytestmark = pytest.mark.hbase

_SECONDS = 2.0
"""About how long an undisturbed load of these meetings takes."""


@pytest.fixture(scope="module")
def meetings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("meetings")
    simulate(folder, minutes=1, drivers=4)
    return folder


@pytest.fixture(scope="module")
def truth(hbase: LocalHBase, meetings: Path, tmp_path_factory: pytest.TempPathFactory) -> Truth:
    """What an undisturbed load makes of the meetings."""
    with ReplayServer(meetings) as api:
        return find_truth(hbase, api.url, tmp_path_factory.mktemp("truth"))


@pytest.mark.parametrize("seed", [2, 3, 6, 8])
def test_whatever_is_killed_the_table_is_the_truth_in_the_end(
    hbase: LocalHBase, meetings: Path, truth: Truth, tmp_path: Path, seed: int
) -> None:
    with ReplayServer(meetings) as api:
        run = kill_anywhere(hbase, api.url, tmp_path, truth, seed, seconds=_SECONDS)
    assert run.kills
    assert run.wrong == []


def test_the_comparison_finds_what_a_load_has_lost(
    hbase: LocalHBase, meetings: Path, truth: Truth, tmp_path: Path
) -> None:
    with ReplayServer(meetings) as api:
        loader_for(hbase, api.url, tmp_path, "damaged").run()
    assert compare(hbase, "damaged", truth) == []
    first, second = sorted(truth.table)[:2]
    lost = Truth({key: digest for key, digest in truth.table.items() if key != first}, truth.rows)
    assert compare(hbase, "damaged", lost) == [f"1 rows too many, such as [{first!r}]"]
    changed = Truth(truth.table | {second: b"another"}, truth.rows)
    assert compare(hbase, "damaged", changed) == [f"1 rows different, such as [{second!r}]"]
    drop(hbase, "damaged")


def test_a_meeting_whose_worker_dies_again_and_again_is_given_up_and_the_rest_goes_on(
    hbase: LocalHBase, meetings: Path, truth: Truth, tmp_path: Path, table_prefix: str
) -> None:
    with ReplayServer(meetings) as api:
        loader = loader_for(hbase, api.url, tmp_path, table_prefix)
        with loader.start("--window", "10s", "--rate", "20/s") as process:
            output = read_until(process, "loading ", times=2)
            seen = workers(process)
            seen[0].kill()
            for _ in range(3):
                output += read_until(process, "a new one goes on")
                new = _new_worker(process, seen)
                seen.append(new)
                new.kill()
            assert process.stdout is not None
            output += process.stdout.read()
        assert process.returncode == 1, output
        assert "given up after 4 tries" in output
        assert output.count("[SUCCESS]") == 1, "the other meeting is loaded"
        (run,) = reports(hbase.port, table_prefix, "run").values()
        assert run["errors:worker crashed"] == "1"
        assert run["stats:restarts"] == "3"

        assert "all that was asked for is loaded" in loader.run("--window", "30s")
    assert compare(hbase, table_prefix, truth) == []


def test_a_second_interrupt_stops_at_once_while_hbase_does_not_answer(
    hbase: LocalHBase, meetings: Path, tmp_path: Path, table_prefix: str
) -> None:
    with ReplayServer(meetings) as api:
        loader = loader_for(hbase, api.url, tmp_path, table_prefix)
        with loader.start("--window", "10s", "--rate", "20/s") as process:
            read_until(process, "loading ", times=2)
            started = workers(process)
            gateway = psutil.Process(hbase.pids()["gateway"])
            gateway.suspend()
            try:
                process.send_signal(signal.SIGINT)
                output = read_until(process, "again to stop at once")
                process.send_signal(signal.SIGINT)
                assert process.stdout is not None
                output += process.stdout.read()
            finally:
                gateway.resume()
        assert process.returncode == 130, output
        assert "stopped at once" in output
        assert "Traceback" not in output
        assert not [worker for worker in started if worker.is_running()]


def test_workers_end_when_their_parent_was_killed(
    hbase: LocalHBase, meetings: Path, tmp_path: Path, table_prefix: str
) -> None:
    with ReplayServer(meetings) as api:
        loader = loader_for(hbase, api.url, tmp_path, table_prefix)
        with loader.start("--window", "10s", "--rate", "20/s") as process:
            read_until(process, "loading ", times=2)
            children = psutil.Process(process.pid).children(recursive=True)
            process.kill()
        assert len(children) >= 2
        _, alive = psutil.wait_procs(children, timeout=30)
        assert alive == []


def _new_worker(process: subprocess.Popen[str], seen: list[psutil.Process]) -> psutil.Process:
    while True:
        for worker in workers(process):
            if worker not in seen:
                return worker
