"""Who loads a meeting of a landing zone, and what a rollback makes of a worker that slept through it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from files_zone import MEETING, RACE, SPRINT, destination_at, json_answer, store, whole

from f1hbase.model.units import Scope
from f1hbase.state.base import LEASE_SECONDS
from f1hbase.state.file_leases import FilesLeases
from f1hbase.state.holders import Holder, process_space
from f1hbase.stores.files.lease_objects import LeaseObject, advance, latest
from f1hbase.stores.files.objects import Objects
from f1hbase.stores.files.urls import parse_location

NOW = datetime(2024, 7, 7, 12, 0, tzinfo=UTC)


def objects_at(path: Path) -> Objects:
    return Objects(parse_location(str(path)))


def leases_at(path: Path, run: str, clock: Callable[[], datetime] = lambda: NOW) -> FilesLeases:
    return FilesLeases(objects_at(path), objects_at(path), run, clock)


def numbers(path: Path) -> list[int]:
    return sorted(int(file.stem) for file in (path / "_state/leases/year=2024/meeting=1240").glob("*.json"))


def elsewhere(path: Path, meeting: Scope = MEETING) -> None:
    """Make the latest lease look as if a process held it that this one cannot see."""
    before = latest(objects_at(path), meeting)
    content = json.loads(json.dumps(before.content))
    for holder in content["holders"]:
        holder["space"] = "another machine"
    assert advance(objects_at(path), meeting, before, content) is not None


def test_a_lease_is_held_by_one_run(tmp_path: Path) -> None:
    first, second = leases_at(tmp_path, "a"), leases_at(tmp_path, "b")
    assert first.take(MEETING) is None
    assert (second.take(MEETING) or "").startswith(f"run a (process {os.getpid()} on ")
    assert second.take(Scope(2024, 1241, None)) is None
    first.give_back(MEETING)
    assert second.take(MEETING) is None
    assert first.lost(MEETING)


def test_a_lease_of_a_process_that_cannot_be_seen_runs_out(tmp_path: Path) -> None:
    leases_at(tmp_path, "a").take(MEETING)
    elsewhere(tmp_path)
    almost = NOW + timedelta(seconds=LEASE_SECONDS - 1)
    assert leases_at(tmp_path, "b", lambda: almost).take(MEETING) is not None
    assert leases_at(tmp_path, "b", lambda: almost + timedelta(seconds=2)).take(MEETING) is None


def test_a_lease_of_a_process_that_is_gone_counts_for_nothing(tmp_path: Path) -> None:
    script = (
        "import sys; sys.path[:] = sys.argv[2].split(':')\n"
        "from pathlib import Path; from test_files_leases import leases_at, MEETING\n"
        "leases = leases_at(Path(sys.argv[1]), 'killed'); print(leases.take(MEETING), flush=True)\n"
        "sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path), ":".join(sys.path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"None\n"
    mine = leases_at(tmp_path, "b")
    assert "run killed" in (mine.take(MEETING) or "")
    late = leases_at(tmp_path, "b", lambda: NOW + timedelta(hours=1))
    assert late.take(MEETING) is not None  # it lives, however late it renews
    process.kill()
    process.communicate()
    assert mine.take(MEETING) is None


def test_containers_of_one_name_do_not_take_each_other_for_gone() -> None:
    here = Holder.of()
    assert here.is_here
    assert here.is_alive()
    other = replace(here, space="another boot/pid:[1]", pid=1)
    assert not other.is_here
    assert process_space() not in {"", os.uname().nodename}
    assert not replace(here, began=here.began - 60).is_alive()  # its number was given to another process
    assert Holder.parse(asdict(here)) == here


def test_a_renewed_lease_lasts_and_a_lost_one_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    now = NOW
    first = leases_at(tmp_path, "a", lambda: now)
    first.take(MEETING)
    first.name_worker(MEETING, os.getpid())
    now += timedelta(seconds=LEASE_SECONDS)
    first.renew()
    elsewhere(tmp_path)
    second = leases_at(tmp_path, "b", lambda: now + timedelta(seconds=LEASE_SECONDS + 1))
    assert second.take(MEETING) is None
    first.renew()
    assert first.lost(MEETING)
    assert "run b" in caplog.text
    first.give_back(MEETING)
    assert not second.lost(MEETING)


def test_old_lease_objects_go_and_the_epochs_stay(tmp_path: Path) -> None:
    leases = leases_at(tmp_path, "a")
    leases.take(MEETING)
    leases.raise_epochs(MEETING, ["9558"], 1_720_000_000_000)
    for _ in range(30):
        leases.renew()
    assert len(numbers(tmp_path)) <= 9
    assert leases.epochs(MEETING).of(RACE) == 1
    assert leases.epochs(MEETING).of(SPRINT) == 0
    leases.give_back(MEETING)
    again = leases_at(tmp_path, "b")
    again.take(MEETING)
    assert again.epochs(MEETING).of(RACE) == 1
    assert again.epochs(MEETING).deleted_at == 1_720_000_000_000


def test_whoever_read_an_old_lease_does_not_get_it(tmp_path: Path) -> None:
    objects = objects_at(tmp_path)
    stale = latest(objects, MEETING)
    leases = leases_at(tmp_path, "a")
    leases.take(MEETING)
    for _ in range(20):
        leases.renew()
    assert 1 not in numbers(tmp_path)
    # Its number is free again, but it is not the highest.
    assert advance(objects, MEETING, stale, {"run": "b"}) is None
    assert latest(objects, MEETING).content["run"] == "a"


def test_of_many_at_once_one_gets_the_lease(tmp_path: Path) -> None:
    stale, got = LeaseObject(), []

    def take(number: int) -> None:
        if advance(objects_at(tmp_path), MEETING, stale, {"run": str(number)}) is not None:
            got.append(number)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1


def test_a_lease_that_nobody_understands_locks_nobody_out(tmp_path: Path) -> None:
    leases_at(tmp_path, "a").take(MEETING)
    objects_at(tmp_path).put("_state/leases/year=2024/meeting=1240/00000002.json", b"\xff{")
    assert leases_at(tmp_path, "b").take(MEETING) is None


def test_after_a_rollback_what_an_older_worker_writes_counts_for_nothing(tmp_path: Path) -> None:
    destination = destination_at(tmp_path)
    leases = leases_at(tmp_path, "a")
    leases.take(MEETING)
    raw = json_answer("laps?session_key=9558", [{"lap_number": 1}])
    store(destination, whole("laps"), [{}], raw, epoch=0)
    store(destination, whole("laps", SPRINT), [{}], raw, epoch=0)
    leases.raise_epochs(MEETING, ["9558"], 0)
    assert destination.state.unit_states(RACE) == []
    assert len(destination.state.unit_states(SPRINT)) == 1
    store(destination, whole("pit"), [{}], raw, epoch=0)  # the worker that slept
    assert destination.state.unit_states(RACE) == []
    store(destination, whole("laps"), [{}], raw, epoch=1, run="new")
    store(destination, whole("laps"), [{}], raw, epoch=0, run="old")
    (state,) = destination.state.unit_states(RACE)
    assert state.run == "new"
    assert [(meeting.meeting_key, "run a" in holder) for meeting, holder in destination.state.holders()] == [
        (1240, True)
    ]
