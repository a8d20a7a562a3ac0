"""Leases: one run loads a meeting at a time, and one that was killed locks nobody out. Against a real HBase."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from cli import Loader
from forwarder import Forwarder
from hbase_server import HOST, LocalHBase
from replay_server import ReplayServer
from tables import rows_by_family, scan, source_identities, values

from f1hbase.errors import UnreachableError
from f1hbase.model.units import Scope
from f1hbase.state.base import LEASE_SECONDS, Epochs, LeaseKeeper
from f1hbase.state.hbase.epochs import all_epochs, raise_epochs, read_epochs
from f1hbase.state.hbase.leases import HBaseLeases, lease_of, this_machine
from f1hbase.stores.hbase.connector import Gateway, HBaseConnector, find_gateway
from f1hbase.stores.hbase.frames import RowMutation

pytestmark = pytest.mark.hbase

_TABLE = "leases_f1_reports"
_COLUMN = b"meta:lease"


class Clock:
    """Says what time it is; stands still unless a test puts it forward."""

    def __init__(self) -> None:
        self._now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)


@pytest.fixture(scope="module")
def gateway(hbase: LocalHBase) -> Gateway:
    return find_gateway(hbase.host, hbase.port)


@pytest.fixture(scope="module")
def connector(gateway: Gateway) -> Iterator[HBaseConnector]:
    """Used for everything that needs none of its own; the table is there."""
    connector = HBaseConnector([gateway], patience=60)
    connector.create_table(_TABLE, ["meta"], {})
    yield connector
    connector.close()


@pytest.fixture
def meeting(request: pytest.FixtureRequest) -> Scope:
    """A meeting that no other test has."""
    return Scope(2024, 1 + request.session.items.index(request.node), None)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def leases_of(connector: HBaseConnector, clock: Clock) -> Callable[[str], HBaseLeases]:
    """The leases of a run of this process."""
    return lambda run: HBaseLeases(connector, connector, _TABLE, run, clock)


LeasesOf = Callable[[str], HBaseLeases]


def _key(meeting: Scope) -> bytes:
    return f"lease#2024#{meeting.meeting_key}".encode()


def _change(connector: HBaseConnector, meeting: Scope, **changes: object) -> None:
    """Change what the row of a lease says."""
    text = connector.get(_TABLE, _key(meeting), _COLUMN)
    assert text is not None
    changed = json.dumps(json.loads(text) | changes).encode()
    connector.put(_TABLE, [RowMutation(_key(meeting), {_COLUMN: changed})])


def _runs_out_in(connector: HBaseConnector, meeting: Scope, clock: Clock) -> float:
    text = connector.get(_TABLE, _key(meeting), _COLUMN)
    assert text is not None
    return (datetime.fromisoformat(json.loads(text)["until"]) - clock()).total_seconds()


def test_a_lease_that_is_taken_is_not_given_to_another_run_but_names_who_has_it(
    leases_of: LeasesOf, meeting: Scope
) -> None:
    assert leases_of("run-1").take(meeting) is None
    other = leases_of("run-2").take(meeting)
    assert other is not None
    assert other == f"run run-1 (process {os.getpid()} on {os.uname().nodename})"
    assert leases_of("run-1").take(meeting) is None, "it may take its own again"


def test_the_lease_of_one_meeting_is_not_that_of_another(leases_of: LeasesOf, meeting: Scope) -> None:
    assert leases_of("run-1").take(meeting) is None
    assert leases_of("run-2").take(Scope(2023, meeting.meeting_key, None)) is None
    assert leases_of("run-2").take(Scope(2024, meeting.meeting_key * 100_000, None)) is None


OnHost = Callable[[str], None]


@pytest.fixture
def on_host(monkeypatch: pytest.MonkeyPatch) -> OnHost:
    """Says on which machine what follows happens; all have the same host name, as containers may."""
    return lambda name: monkeypatch.setattr("f1hbase.state.hbase.leases.this_machine", lambda: name)


def test_a_lease_given_back_is_free_at_once(leases_of: LeasesOf, meeting: Scope) -> None:
    first, second = leases_of("run-1"), leases_of("run-2")
    first.take(meeting)
    first.give_back(meeting)
    assert second.take(meeting) is None
    first.give_back(meeting)
    assert first.take(meeting) is not None, "giving back what is another's by now takes nothing from it"


def test_a_lease_runs_out_on_other_hosts_unless_it_is_renewed(
    leases_of: LeasesOf, meeting: Scope, clock: Clock, on_host: OnHost
) -> None:
    first, second = leases_of("run-1"), leases_of("run-2")
    on_host("here")
    first.take(meeting)
    clock.advance(LEASE_SECONDS - 1)
    first.renew()
    clock.advance(LEASE_SECONDS - 1)
    on_host("there")
    assert second.take(meeting) is not None
    clock.advance(1)
    assert second.take(meeting) is None


def test_on_its_own_host_a_lease_lasts_as_long_as_its_process(
    leases_of: LeasesOf, meeting: Scope, clock: Clock
) -> None:
    leases_of("run-1").take(meeting)
    clock.advance(10 * LEASE_SECONDS)  # HBase was away, and nothing could be renewed
    assert leases_of("run-2").take(meeting) is not None


@pytest.mark.parametrize("how", ["renewed", "its worker named"])
def test_a_lease_lost_to_another_run_is_spoken_of_once_and_left_to_it(
    leases_of: LeasesOf,
    connector: HBaseConnector,
    meeting: Scope,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    on_host: OnHost,
    how: str,
) -> None:
    first, second = leases_of("run-1"), leases_of("run-2")
    on_host("here")
    first.take(meeting)
    assert not first.lost(meeting)
    clock.advance(LEASE_SECONDS)
    on_host("there")
    second.take(meeting)
    on_host("here")
    with caplog.at_level(logging.WARNING, "f1hbase"):
        if how == "renewed":
            first.renew()
        else:
            first.name_worker(meeting, os.getpid())
        first.renew()
        first.give_back(meeting)
    (warning,) = (record.getMessage() for record in caplog.records)
    assert warning.startswith(f"the lease of meeting {meeting.meeting_key} ran out, and run run-2 (process ")
    assert first.lost(meeting)
    holder = leases_of("run-3").take_or_see(meeting)
    assert holder is not None
    assert holder.run == "run-2"


def test_naming_the_worker_of_a_meeting_whose_lease_was_lost_meanwhile_is_no_error(
    leases_of: LeasesOf, meeting: Scope, clock: Clock, on_host: OnHost
) -> None:
    first, second = leases_of("run-1"), leases_of("run-2")
    on_host("here")
    first.take(meeting)
    clock.advance(LEASE_SECONDS)
    on_host("there")
    second.take(meeting)
    on_host("here")
    first.renew()  # the keeper is faster
    first.name_worker(meeting, os.getpid())
    holder = leases_of("run-3").take_or_see(meeting)
    assert holder is not None
    assert holder.run == "run-2"


def test_a_lease_on_another_host_counts_until_it_runs_out(
    leases_of: LeasesOf, connector: HBaseConnector, meeting: Scope, clock: Clock
) -> None:
    leases_of("run-1").take(meeting)
    nobody = [{"pid": 2**22 + 1, "began": 0.0}]
    _change(connector, meeting, host="another-host", machine="another", holders=nobody)
    other = leases_of("run-2").take(meeting)
    assert other == f"run run-1 (process {2**22 + 1} on another-host)"
    clock.advance(LEASE_SECONDS)
    assert leases_of("run-2").take(meeting) is None


def test_a_process_that_got_the_number_of_the_holder_later_is_not_taken_for_it(
    leases_of: LeasesOf, connector: HBaseConnector, meeting: Scope
) -> None:
    leases_of("run-1").take(meeting)
    began = psutil.Process().create_time()
    _change(connector, meeting, holders=[{"pid": os.getpid(), "began": began + 0.5}])
    assert leases_of("run-2").take(meeting) is not None, "the clock was set a little"
    _change(connector, meeting, holders=[{"pid": os.getpid(), "began": began - 60}])
    assert leases_of("run-2").take(meeting) is None


def test_how_long_a_lease_lasts_can_be_said(
    connector: HBaseConnector, meeting: Scope, clock: Clock, on_host: OnHost
) -> None:
    on_host("here")
    assert HBaseLeases(connector, connector, _TABLE, "run-1", clock, seconds=7).take(meeting) is None
    assert _runs_out_in(connector, meeting, clock) == 7


# --- leases of earlier versions: without a machine ---


def _as_before(connector: HBaseConnector, meeting: Scope, **changes: object) -> None:
    """Make a lease what the version before this one wrote."""
    text = connector.get(_TABLE, _key(meeting), _COLUMN)
    assert text is not None
    content = json.loads(text) | changes
    del content["machine"]
    connector.put(_TABLE, [RowMutation(_key(meeting), {_COLUMN: json.dumps(content, separators=(",", ":")).encode()})])


def test_a_lease_of_the_version_before_counts_while_its_process_lives_and_until_it_runs_out(
    leases_of: LeasesOf, connector: HBaseConnector, meeting: Scope, clock: Clock
) -> None:
    leases_of("run-1").take(meeting)
    _as_before(connector, meeting)
    clock.advance(10 * LEASE_SECONDS)
    other = leases_of("run-2").take(meeting)
    assert other == f"run run-1 (process {os.getpid()} on {os.uname().nodename})", "it lives"
    nobody = [{"pid": 2**22 + 1, "began": 0.0}]
    _change(connector, meeting, holders=nobody)
    assert leases_of("run-2").take(meeting) is None, "nobody lives here, and it has run out"
    _as_before(connector, meeting, run="run-1", holders=nobody)
    assert leases_of("run-3").take(meeting) is not None, "it may live in another container of the same name"
    clock.advance(LEASE_SECONDS)
    assert leases_of("run-3").take(meeting) is None


# --- two containers with one host name ---

_TAKE = """
import os, sys
from f1hbase.stores.hbase.connector import HBaseConnector, find_gateway
from f1hbase.state.hbase.leases import HBaseLeases
from f1hbase.model.units import Scope

host, port, table, meeting, run = sys.argv[1:]
connector = HBaseConnector([find_gateway(host, int(port))])
print(os.getpid(), HBaseLeases(connector, connector, table, run).take(Scope(2024, int(meeting), None)), flush=True)
input()
"""
_NEW_PID_NAMESPACE = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child")


def _may_unshare() -> bool:
    try:
        return not subprocess.run([*_NEW_PID_NAMESPACE, "true"], capture_output=True, check=False).returncode
    except FileNotFoundError:
        return False


@contextmanager
def _container(hbase: LocalHBase, meeting: Scope, run: str) -> Iterator[tuple[str, str]]:
    """Process 1 of a PID namespace of its own, with our host name, that wants a lease: its number, and who has it."""
    command = [sys.executable, "-c", _TAKE, hbase.host, str(hbase.port), _TABLE, str(meeting.meeting_key), run]
    with subprocess.Popen(
        [*_NEW_PID_NAMESPACE, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        pid, _, other = process.stdout.readline().strip().partition(" ")
        try:
            yield pid, other
        finally:
            process.stdin.close()
            process.wait()


@pytest.mark.skipif(not _may_unshare(), reason="this machine gives nobody a PID namespace of their own")
def test_process_1_of_another_container_with_the_same_host_name_is_not_taken_for_the_holder_or_for_a_dead_one(
    hbase: LocalHBase, leases_of: LeasesOf, meeting: Scope, clock: Clock
) -> None:
    with _container(hbase, meeting, "run-1") as (pid, other):
        assert (pid, other) == ("1", "None")
        # That no process of ours is the holder proves nothing.
        assert leases_of("run-2").take(meeting) == f"run run-1 (process 1 on {os.uname().nodename})"
        with _container(hbase, meeting, "run-3") as (pid, other):
            assert (pid, other) == ("1", f"run run-1 (process 1 on {os.uname().nodename})")
    # The container is gone, and nobody can see that from here: its lease runs out.
    assert leases_of("run-2").take(meeting) is not None
    clock.advance(LEASE_SECONDS + 60)
    assert leases_of("run-2").take(meeting) is None


def test_where_there_is_no_proc_the_host_name_has_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("f1hbase.state.hbase.leases._BOOT_ID", tmp_path / "boot_id")
    assert this_machine() == os.uname().nodename


# --- epochs ---


def test_a_lease_comes_with_the_epochs_of_its_meeting_as_they_are_when_it_is_taken(
    leases_of: LeasesOf, connector: HBaseConnector, meeting: Scope
) -> None:
    leases = leases_of("run-1")
    leases.take(meeting)
    assert leases.epochs(meeting) == Epochs()
    raise_epochs(connector, _TABLE, meeting, ["9558", "-"], 1_700_000_000_000)
    raise_epochs(connector, _TABLE, meeting, ["9558"], 1_600_000_000_000)
    assert leases.epochs(meeting) == Epochs(), "what a worker has begun with does not change under it"
    now = Epochs({"9558": 2, "-": 1}, 1_700_000_000_000)
    assert read_epochs(connector, _TABLE, meeting) == now
    leases.give_back(meeting)
    leases.take(meeting)
    assert leases.epochs(meeting) == now
    assert all_epochs(connector, _TABLE)[2024, meeting.meeting_key] == now


def test_what_is_raised_for_a_whole_meeting_counts_for_each_session_known_or_not(
    connector: HBaseConnector, meeting: Scope
) -> None:
    raise_epochs(connector, _TABLE, meeting, ["9558"])
    epochs = raise_epochs(connector, _TABLE, meeting, ["*"])
    session, other = (Scope(2024, meeting.meeting_key, key) for key in (9558, 9559))
    assert [epochs.of(scope) for scope in (session, other, meeting)] == [2, 1, 1]


def test_of_many_that_raise_epochs_at_once_each_counts(gateway: Gateway, meeting: Scope) -> None:
    begin = threading.Barrier(4)

    def raise_them(number: int) -> None:
        mine = HBaseConnector([gateway])
        begin.wait()
        for second in range(5):
            raise_epochs(mine, _TABLE, meeting, ["9558", str(number)], number * 10 + second)
        mine.close()

    threads = [threading.Thread(target=raise_them, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    connector = HBaseConnector([gateway])
    epochs = read_epochs(connector, _TABLE, meeting)
    connector.close()
    assert epochs == Epochs({"9558": 20, "0": 5, "1": 5, "2": 5, "3": 5}, 34)


# Takes the lease of a meeting, names a process that it starts as its worker, says the number of that, and waits.
_HOLD = """
import subprocess, sys, time
from f1hbase.stores.hbase.connector import HBaseConnector, find_gateway
from f1hbase.state.hbase.leases import HBaseLeases
from f1hbase.model.units import Scope

host, port, table, meeting = sys.argv[1:]
connector = HBaseConnector([find_gateway(host, int(port))])
leases = HBaseLeases(connector, connector, table, "run-1")
scope = Scope(2024, int(meeting), None)
assert leases.take(scope) is None
worker = subprocess.Popen([sys.executable, "-c", "input()"], stdin=sys.stdin)
leases.name_worker(scope, worker.pid)
print(worker.pid, flush=True)
worker.wait()
time.sleep(600)
"""


@contextmanager
def _holder(hbase: LocalHBase, meeting: Scope) -> Iterator[tuple[psutil.Process, psutil.Process]]:
    """A process that holds the lease, and its worker; both end with the block."""
    command = [sys.executable, "-c", _HOLD, hbase.host, str(hbase.port), _TABLE, str(meeting.meeting_key)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        worker = None
        try:
            assert process.stdout is not None
            worker = psutil.Process(int(process.stdout.readline()))
            yield psutil.Process(process.pid), worker
        finally:
            process.kill()
            if worker is not None and worker.is_running():
                worker.kill()


def test_a_lease_whose_holders_were_killed_on_this_host_is_free_at_once_but_not_while_the_worker_lives(
    hbase: LocalHBase, connector: HBaseConnector, meeting: Scope, clock: Clock
) -> None:
    second = HBaseLeases(connector, connector, _TABLE, "run-2", clock)
    with _holder(hbase, meeting) as (parent, worker):
        assert second.take(meeting) is not None
        # Not waited for: a zombie is dead, too.
        parent.kill()
        _until(lambda: _is_over(parent))
        other = second.take_or_see(meeting)
        assert other is not None
        assert [holder.pid for holder in other.holders] == [parent.pid, worker.pid]
        worker.kill()
        _until(lambda: _is_over(worker))
        assert second.take(meeting) is None


def _is_over(process: psutil.Process) -> bool:
    """Whether a process has ended, be it that nobody has waited for it."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _until(condition: Callable[[], bool]) -> None:
    """Wait for what must come."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.01)


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{", b"null", b"[]", b"7", b'"a"', b"\xff", b"{}",
        b'{"run":"r","host":"h","holders":7,"until":"2099-01-01T00:00:00Z"}',
        b'{"run":"r","host":"h","holders":["x"],"until":"2099-01-01T00:00:00Z"}',
        b'{"run":"r","host":"h","holders":[{"pid":1}],"until":"2099-01-01T00:00:00Z"}',
        b'{"run":"r","host":"h","holders":[{"pid":1e999,"began":1}],"until":"2099-01-01T00:00:00Z"}',
        b'{"run":"r","host":"h","holders":[],"until":"soon"}',
        b'{"run":"r","host":"h","holders":[],"until":null}',
        b'{"run":"r","host":"h","holders":[],"until":"0001-01-01T00:00:00+14:00"}',
    ],
)  # fmt: skip
def test_a_lease_that_cannot_be_read_is_taken_over(
    leases_of: LeasesOf, connector: HBaseConnector, meeting: Scope, caplog: pytest.LogCaptureFixture, text: bytes
) -> None:
    connector.put(_TABLE, [RowMutation(_key(meeting), {_COLUMN: text})])
    with caplog.at_level(logging.WARNING, "f1hbase"):
        assert leases_of("run-1").take(meeting) is None
    assert "a lease cannot be read" in caplog.text
    assert leases_of("run-2").take(meeting) is not None


@pytest.mark.parametrize("pid", [0, -1, 2**22 + 1, 2**70])
def test_a_holder_that_no_process_can_be_is_dead(
    leases_of: LeasesOf, connector: HBaseConnector, meeting: Scope, pid: int
) -> None:
    leases_of("run-1").take(meeting)
    _change(connector, meeting, holders=[{"pid": pid, "began": 0}])
    assert leases_of("run-2").take(meeting) is None


def test_of_many_runs_that_want_a_meeting_at_once_one_gets_it_and_the_others_hear_who(
    gateway: Gateway, connector: HBaseConnector, meeting: Scope, clock: Clock
) -> None:
    runs, rounds = 6, 5
    begin = threading.Barrier(runs)
    answers: dict[tuple[int, str], str | None] = {}

    def want(run: str) -> None:
        mine = HBaseConnector([gateway])
        leases = HBaseLeases(mine, mine, _TABLE, run, clock)
        for number in range(rounds):
            begin.wait()
            other = leases.take_or_see(Scope(2024, meeting.meeting_key * 1000 + number, None))
            answers[number, run] = None if other is None else other.run
        mine.close()

    threads = [threading.Thread(target=want, args=(f"run-{number}",)) for number in range(runs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(rounds):
        heard = {run: other for (one, run), other in answers.items() if one == number}
        (winner,) = (run for run, other in heard.items() if other is None)
        assert Counter(heard.values()) == {None: 1, winner: runs - 1}


def test_a_renewal_whose_answer_was_lost_is_not_taken_for_somebody_else_s(
    hbase: LocalHBase,
    gateway: Gateway,
    connector: HBaseConnector,
    meeting: Scope,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Forwarder(hbase.port) as way, caplog.at_level(logging.WARNING, "f1hbase"):
        impatient = HBaseConnector([Gateway(HOST, way.port, gateway.dialect)], patience=0)
        leases = HBaseLeases(connector, impatient, _TABLE, "run-1", clock)
        leases.take(meeting)
        clock.advance(30)
        way.lose_answers()
        with suppress(UnreachableError):
            leases.renew()
        assert _runs_out_in(connector, meeting, clock) == LEASE_SECONDS
        clock.advance(30)
        leases.renew()
        assert _runs_out_in(connector, meeting, clock) == LEASE_SECONDS
        clock.advance(30)
        leases.give_back(meeting)
        assert HBaseLeases(connector, connector, _TABLE, "run-2", clock).take(meeting) is None
        impatient.close()
    assert not caplog.records


def test_leases_are_renewed_and_given_back_through_another_gateway_when_the_first_is_down(
    hbase: LocalHBase, gateway: Gateway, connector: HBaseConnector, meeting: Scope, clock: Clock
) -> None:
    with Forwarder(hbase.port) as down:
        down.stop()
        impatient = HBaseConnector([Gateway(HOST, down.port, gateway.dialect), gateway], patience=0)
        leases = HBaseLeases(connector, impatient, _TABLE, "run-1", clock)
        leases.take(meeting)
        clock.advance(30)
        leases.renew()
        assert _runs_out_in(connector, meeting, clock) == LEASE_SECONDS
        leases.give_back(meeting)
        assert HBaseLeases(connector, connector, _TABLE, "run-2", clock).take(meeting) is None
        impatient.close()


def test_the_keeper_goes_on_renewing_after_hbase_was_away(
    hbase: LocalHBase,
    gateway: Gateway,
    connector: HBaseConnector,
    meeting: Scope,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Forwarder(hbase.port) as way, caplog.at_level(logging.DEBUG, "f1hbase"):
        impatient = HBaseConnector([Gateway(HOST, way.port, gateway.dialect)], patience=0)
        leases = HBaseLeases(connector, impatient, _TABLE, "run-1", clock)
        leases.take(meeting)
        way.stop()
        with LeaseKeeper(leases, every=0.01):
            _until(lambda: "the leases are not renewed: HBase at" in caplog.text)
            way.start()
            clock.advance(60)
            _until(lambda: _runs_out_in(connector, meeting, clock) == LEASE_SECONDS)
        _until(lambda: not [thread for thread in threading.enumerate() if thread.name == "lease-keeper"])
        impatient.close()


def test_who_loads_a_meeting_can_be_asked_for(connector: HBaseConnector, meeting: Scope) -> None:
    leases = HBaseLeases(connector, connector, _TABLE, "run-1")
    assert lease_of(connector, _TABLE, meeting) is None
    leases.take(meeting)
    lease = lease_of(connector, _TABLE, meeting)
    assert lease is not None
    assert lease.run == "run-1"
    leases.give_back(meeting)
    assert lease_of(connector, _TABLE, meeting) is None


# Two loaders at once, as two users start them


@pytest.fixture(scope="module")
def practice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated practice of a minute with two drivers."""
    folder = tmp_path_factory.mktemp("practice")
    arguments = ["--sessions", "practice", "--minutes", "1", "--drivers", "2"]
    subprocess.run(
        [sys.executable, "-m", "simulator", "make", str(folder), *arguments],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return folder


@pytest.fixture
def api(practice: Path) -> Iterator[ReplayServer]:
    with ReplayServer(practice) as server:
        yield server


@pytest.fixture
def loaders(hbase: LocalHBase, api: ReplayServer, tmp_path: Path, table_prefix: str) -> tuple[Loader, Loader]:
    """Two installations that load into the same tables; the first asks slowly."""

    def make(name: str, rate: str) -> Loader:
        folder = tmp_path / name
        folder.mkdir()
        return Loader(
            folder,
            {
                "F1HBASE_HBASE_HOST": hbase.host,
                "F1HBASE_HBASE_PORT": str(hbase.port),
                "F1HBASE_API_URL": api.url,
                "F1HBASE_TABLE_PREFIX": table_prefix,
                "F1HBASE_WINDOW": "30s",
                "F1HBASE_RATE": rate,
                "XDG_STATE_HOME": str(folder / "state"),
            },
        )

    return make("first", "20/s"), make("second", "none")


def _until_it_says(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    output = ""
    for line in iter(process.stdout.readline, ""):
        output += line
        if text in line:
            return output
    raise AssertionError(f"it ended early: {output}")


@contextmanager
def _paused_worker(process: subprocess.Popen[str]) -> Iterator[psutil.Process]:
    """The worker of a load, which stands still while the block runs."""
    (worker,) = (
        child
        for child in psutil.Process(process.pid).children()
        if any("f1hbase.pipeline.worker" in word for word in child.cmdline())
    )
    worker.suspend()
    try:
        yield worker
    finally:
        worker.resume()


def _left(first: subprocess.Popen[str]) -> str:
    return rf"\[WARNING\] .* is being loaded by run \S+ \(process {first.pid} on .*\); it is left until that has ended"


def _asked_twice(api: ReplayServer) -> list[tuple[str, str]]:
    """The questions that the API got more than once, but for those of the plan."""
    asked = Counter(
        (entry["path"].rpartition("/")[2], entry["query"]) for entry in api.log() if entry["path"].startswith("/v1/")
    )
    return [question for question, times in asked.items() if times > 1 and question[0] not in {"sessions", "meetings"}]


def test_two_loads_at_once_ask_for_nothing_twice_and_the_second_says_that_it_waits(
    loaders: tuple[Loader, Loader], api: ReplayServer, practice: Path, hbase: LocalHBase, table_prefix: str
) -> None:
    first, second = loaders
    with first.start() as loading:
        _until_it_says(loading, "(meeting ")
        with second.start() as waiting:
            with _paused_worker(loading):
                output = _until_it_says(waiting, "it is left until that has ended")
            assert loading.stdout is not None
            assert waiting.stdout is not None
            told, output = loading.stdout.read(), output + waiting.stdout.read()
    assert (loading.returncode, waiting.returncode) == (0, 0), told + output
    assert re.search(_left(loading), output)
    assert output.count("it is left until") == 1
    assert "all loaded already" in output
    assert _asked_twice(api) == []
    assert rows_by_family(scan(hbase.port, f"{table_prefix}_f1_data")) == source_identities(practice)


def test_when_the_first_of_two_loads_is_killed_the_second_goes_on_with_its_meeting(
    loaders: tuple[Loader, Loader], api: ReplayServer, practice: Path, hbase: LocalHBase, table_prefix: str
) -> None:
    first, second = loaders
    with first.start() as loading:
        _until_it_says(loading, "(meeting ")
        with second.start() as waiting:
            with _paused_worker(loading) as worker:
                output = _until_it_says(waiting, "it is left until that has ended")
                loading.send_signal(signal.SIGKILL)
            assert waiting.stdout is not None
            output += waiting.stdout.read()
    assert waiting.returncode == 0, output
    assert _is_over(worker)
    assert "all that was asked for is loaded" in output
    assert rows_by_family(scan(hbase.port, f"{table_prefix}_f1_data")) == source_identities(practice)
    reports = values(scan(hbase.port, f"{table_prefix}_f1_reports"))
    runs = [cells for key, cells in reports.items() if key.startswith(b"run#")]
    assert [cells.get(b"meta:exit") for cells in runs] == [None, b"0"]
