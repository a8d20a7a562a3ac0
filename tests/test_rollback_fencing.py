"""A load after a rollback, and a load that slept through one: what counts, what is asked again, what the table holds.

With real processes on a real HBase.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from forwarder import Forwarder
from hbase_server import LocalHBase
from installation import Installation, is_of, loader_for, without
from replay_server import ReplayServer
from tables import rows_by_family, source_identities, values

from f1hbase.model.outcomes import Status
from f1hbase.model.units import Scope
from f1hbase.operations.rollback.base import BeingLoadedError, Target
from f1hbase.operations.rollback.hbase import open_rollback
from f1hbase.state.base import LEASE_SECONDS, RENEW_SECONDS
from f1hbase.state.hbase.epochs import read_epochs

pytestmark = pytest.mark.hbase

_SESSION = Scope(2025, 7001, 70001)
_PLACE = "2025#7001#70001"
_CAR = ["--endpoint", "car_data", "--window", "5s"]


@pytest.fixture(scope="module")
def practice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated practice of a minute with two drivers."""
    folder = tmp_path_factory.mktemp("fencing")
    arguments = ["--year", "2025", "--sessions", "practice", "--minutes", "1", "--drivers", "2"]
    subprocess.run(
        [sys.executable, "-m", "simulator", "make", str(folder), *arguments], check=True, stdout=subprocess.DEVNULL
    )
    return folder


@pytest.fixture
def api(practice: Path) -> Iterator[ReplayServer]:
    with ReplayServer(practice) as server:
        yield server


@pytest.fixture
def tables(hbase: LocalHBase, api: ReplayServer, tmp_path: Path, table_prefix: str) -> Installation:
    """Tables of the test's own, nothing in them."""
    environment = {
        "F1HBASE_API_URL": api.url,
        "F1HBASE_RETRY_DELAY": "0",
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }
    return Installation(hbase, table_prefix, loader_for(hbase, table_prefix, tmp_path, environment))


def _until(condition: Callable[[], bool]) -> None:
    """Wait for what must come."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.01)


def _questions(api: ReplayServer) -> list[str]:
    return [entry["query"] for entry in api.log() if entry["path"] == "/v1/car_data"]


def _lines(tables: Installation) -> dict[bytes, dict[bytes, bytes]]:
    """The units' lines of the session, as they are written."""
    lead = f"unit#{_PLACE}#".encode()
    return {key: cells for key, cells in values(tables.reports).items() if key.startswith(lead)}


def test_what_a_worker_writes_that_slept_through_its_lease_and_a_rollback_does_not_count_and_is_loaded_again(
    tables: Installation, api: ReplayServer, hbase: LocalHBase, practice: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables.create()
    with Forwarder(hbase.port) as way:
        slow = {"F1HBASE_HBASE_PORT": str(way.port), "F1HBASE_RATE": "5/s"}
        loader = loader_for(hbase, tables.prefix, tables.loader.folder, tables.loader.environment)
        loader.environment.update(slow)
        with loader.start(*_CAR) as loading:
            _until(lambda: bool(_lines(tables)))
            way.hold()  # so that it cannot store what it has been answered
            asked = len(_questions(api))
            _until(lambda: len(_questions(api)) >= asked + 2)
            parent = psutil.Process(loading.pid)
            (worker,) = (
                child
                for child in parent.children()
                if any("f1hbase.pipeline.worker" in word for word in child.cmdline())
            )
            parent.suspend()
            worker.suspend()

            _roll_back_elsewhere(tables, monkeypatch)
            assert not tables.data
            assert not _lines(tables)

            parent.kill()  # or it would end its worker before that has written anything
            way.release()
            worker.resume()
            worker.wait(60)
            assert loading.stdout is not None
            loading.stdout.read()
    monkeypatch.undo()

    late = _lines(tables)
    assert {cells[b"meta:status"] for cells in late.values()} == {b"done"}, "it has written its lines after all"
    assert {cells[b"meta:epoch"] for cells in late.values()} == {b"0"}
    assert tables.data, "and rows"
    states = tables.states(_SESSION)
    assert len(states) == len(late)
    assert {(state.status, state.error) for state in states} == {(Status.FAILED, "rolled back")}

    asked = len(_questions(api))
    tables.loader.run(*_CAR)
    assert len(_questions(api)) >= asked + 12, "all of it is asked for again"
    assert rows_by_family(tables.data) == {"car": source_identities(practice)["car"]}
    assert {state.status for state in tables.states(_SESSION)} == {Status.DONE}
    clean = Installation(hbase, f"{tables.prefix}_clean", tables.loader)
    loader_for(hbase, clean.prefix, clean.loader.folder, clean.loader.environment).run(*_CAR)
    assert values(tables.data) == values(clean.data)


def _roll_back_elsewhere(tables: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Roll the session back on another machine: at first the lease still counts, and then it has run out."""
    monkeypatch.setattr("f1hbase.state.hbase.leases.this_machine", lambda: "another")
    target = Target(sessions=[70001])
    with closing(open_rollback(tables.config, "hbase", target)) as rollback, pytest.raises(BeingLoadedError):
        rollback.refuse_if_being_loaded()
    waited: list[float] = []

    def clock() -> datetime:
        return datetime.now(UTC) + timedelta(seconds=LEASE_SECONDS)

    with closing(open_rollback(tables.config, "hbase", target, clock=clock, wait=waited.append)) as rollback:
        rollback.refuse_if_being_loaded()
        rollback.carry_out()
    assert waited == [2 * RENEW_SECONDS], "it may yet learn that it has lost its lease"


@pytest.mark.parametrize("way", ["new rows", "rows that may be there", "a refresh"])
def test_what_is_loaded_at_once_after_a_rollback_stays(tables: Installation, way: str) -> None:
    tables.loader.run()
    before, lines = tables.data, _lines(tables)
    tables.roll_back(Target(sessions=[70001]))
    if way == "rows that may be there":
        tables.put("f1_reports", lines)  # as a worker does that slept
        assert {state.status for state in tables.states(_SESSION)} == {Status.FAILED}
    assert values(tables.data) == values(without(before, _PLACE))
    tables.loader.run(*(["--refresh"] if way == "a refresh" else []))
    assert values(tables.data) == values(before)
    assert {state.status for state in tables.states(_SESSION)} == {Status.DONE}


def test_rows_of_a_server_whose_clock_is_ahead_go_as_well_and_what_is_loaded_at_once_is_not_hidden(
    tables: Installation,
) -> None:
    tables.loader.run(*_CAR)
    before = tables.data
    soon = int(time.time() * 1000) + 2000
    tables.put("f1_data", {key: {b"car:rpm": b"1"} for key in before}, soon)
    tables.roll_back(Target(sessions=[70001]))
    assert not tables.data
    assert time.time() * 1000 > soon, "it has waited"
    with closing(tables.connector()) as connector:
        assert read_epochs(connector, f"{tables.prefix}_f1_reports", _SESSION.meeting).deleted_at == soon
    tables.loader.run(*_CAR)
    assert values(tables.data) == values(before)


def test_the_lease_row_says_when_was_deleted_last_and_keeps_it_when_all_else_of_the_meeting_is_gone(
    tables: Installation,
) -> None:
    tables.loader.run(*_CAR)
    stored = max(time for cells in tables.data.values() for _, time in cells.values())
    tables.roll_back(Target(meetings=[7001]))
    assert not [key for key in tables.reports if is_of(key, "2025#7001") and not key.startswith(b"lease#")]
    with closing(tables.connector()) as connector:
        epochs = read_epochs(connector, f"{tables.prefix}_f1_reports", _SESSION.meeting)
    assert epochs.by_session == {"*": 1}
    assert epochs.deleted_at > stored
