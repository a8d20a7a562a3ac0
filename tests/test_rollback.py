"""What `rollback` deletes, what it leaves alone, and that it can be killed anywhere, on a real HBase."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing

import happybase
import pytest
from cli import ENTRY_POINT
from hbase_server import LocalHBase
from installation import Installation, is_of, loader_for, without
from replay_server import ReplayServer
from tables import Cells, values

from f1hbase.model.outcomes import Status
from f1hbase.model.units import Scope
from f1hbase.operations.rollback.base import NothingToRollBackError, Target
from f1hbase.state.hbase.leases import HBaseLeases
from f1hbase.stores.hbase import connector as connector_module
from f1hbase.stores.hbase import frames

pytestmark = pytest.mark.hbase

_YEAR = 2025
_MEETING, _PRACTICE, _RACE = 7001, 70001, 70002
_PLACE = f"{_YEAR}#{_MEETING}"
_HERE = f"{_PLACE}#{_RACE}"
_SCOPES = [Scope(_YEAR, *keys) for keys in ((7001, None), (7001, 70001), (7001, 70002), (7002, 70003), (7002, 70004))]
_BASE = "rollback_base"
_CAR = ["--endpoint", "car_data"]


@pytest.fixture(scope="module")
def base(hbase: LocalHBase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Two meetings of a practice and a race; two runs: car data, and the rest."""
    folder = tmp_path_factory.mktemp("rollback")
    arguments = ["--meetings", "2", "--sessions", "practice,race", "--minutes", "1", "--drivers", "2"]
    subprocess.run(
        [sys.executable, "-m", "simulator", "make", str(folder / "api"), "--year", str(_YEAR), *arguments],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    with ReplayServer(folder / "api") as api:
        environment = {
            "F1HBASE_API_URL": api.url,
            "F1HBASE_RETRY_DELAY": "0",
            "F1HBASE_WINDOW": "30s",
            "XDG_STATE_HOME": str(folder / "state"),
        }
        base = Installation(hbase, _BASE, loader_for(hbase, _BASE, folder, environment))
        base.loader.run(*_CAR)
        base.loader.run()
        yield base


@pytest.fixture
def loaded(base: Installation, table_prefix: str) -> Installation:
    """A copy of these tables, for one test."""
    return base.copy(table_prefix)


def _without_car(cells: Cells, among: Callable[[bytes], bool] | None = None) -> Cells:
    """A table without the car data, in all rows or in those that are meant."""
    rest = {
        key: {c: v for c, v in columns.items() if not c.startswith(b"car:") or (among and not among(key))}
        for key, columns in cells.items()
    }
    return {key: columns for key, columns in rest.items() if columns}


def _cells(cells: Cells) -> set[tuple[bytes, bytes, tuple[bytes, int]]]:
    """All cells of a table, to see whether one table is a part of another."""
    return {(key, column, cell) for key, columns in cells.items() for column, cell in columns.items()}


def _units(cells: Cells, part: str) -> dict[bytes, bytes]:
    """The status of the units whose key has a part."""
    return {
        key: columns[b"meta:status"][0]
        for key, columns in cells.items()
        if key.startswith(b"unit#") and part.encode() in key
    }


def _requested(reports: Cells) -> list[str]:
    """The sessions that runs were asked for."""
    asked = [cells[b"meta:sessions"][0].decode() for cells in reports.values() if b"meta:sessions" in cells]
    return [prefix for text in asked for prefix in text.split(",") if prefix]


def _requested_aside(reports: Cells) -> Cells:
    return {
        key: {column: cell for column, cell in cells.items() if column != b"meta:sessions"}
        for key, cells in reports.items()
    }


def _leases_aside(cells: Cells) -> Cells:
    """Leases are written again with the content that they had, so their timestamps are others."""
    leases = {key for key in cells if key.startswith(b"lease#")}
    return {k: v if k not in leases else {c: (value, 0) for c, (value, _) in v.items()} for k, v in cells.items()}


def _epochs_aside(cells: Cells) -> Cells:
    """The reports without what keeps off a worker that sleeps."""
    fences = {b"meta:epochs", b"meta:epoch"}
    rest = {key: {c: v for c, v in columns.items() if c not in fences} for key, columns in cells.items()}
    return {key: columns for key, columns in rest.items() if columns}


def _aside(cells: Cells) -> Cells:
    """The reports without what changes in rows that stay."""
    return _epochs_aside(_requested_aside(_leases_aside(cells)))


def _neighbours(place: str, longer: Iterable[str]) -> tuple[dict[bytes, dict[bytes, bytes]], ...]:
    """Rows that no report speaks of, some of them of a session or meeting with a longer key; and such report lines."""
    data = {f"{place}#99#2025-03-14T11:30:00.5+00:00": "car:rpm", f"{place}#nobody#knows": "weather:rainfall"}
    reports = {f"quarantine#{place}#laps#{'0' * 64}": "meta:record"}
    for other in longer:
        data |= {other: "session:location", f"{other}#44#1": "laps:lap_duration"}
        reports |= {f"unit#{other}#laps#-#-#-": "meta:status", f"quarantine#{other}#laps#{'0' * 64}": "meta:record"}
    return tuple({k.encode(): {c.encode(): b"done"} for k, c in rows.items()} for rows in (data, reports))


# --- a session, a meeting ---


def test_a_session_goes_without_a_trace_and_every_other_row_stays_as_it_was(loaded: Installation) -> None:
    data, reports = _neighbours(_HERE, [f"{_PLACE}#{_RACE}0"])
    loaded.put("f1_data", data)
    loaded.put("f1_reports", reports)
    before = loaded.data, loaded.reports

    output = loaded.loader.run("rollback", "--session-key", str(_RACE), "--yes")

    rows = sum(len({c.partition(b":")[0] for c in cells}) for key, cells in before[0].items() if is_of(key, _HERE))
    assert f"rolled back session {_RACE}: {rows:,} rows, " in output
    assert "1 quarantined record deleted" in output
    assert loaded.data == without(before[0], _HERE)
    assert _aside(loaded.reports) == _aside(without(before[1], _HERE))
    assert _requested(loaded.reports) == [prefix for prefix in _requested(before[1]) if prefix != _HERE]
    assert len(loaded.data) < len(before[0]) - 100


def test_a_meeting_goes_with_its_sessions_and_its_lease(loaded: Installation) -> None:
    data, reports = _neighbours(f"{_PLACE}#{_PRACTICE}", [f"{_PLACE}0", f"{_PLACE}0#{_RACE}"])
    loaded.put("f1_data", data)
    loaded.put("f1_reports", reports)
    before = loaded.data, loaded.reports
    assert f"lease#{_PLACE}".encode() in before[1]

    loaded.roll_back(Target(meetings=[_MEETING]))

    assert loaded.data == without(before[0], _PLACE)
    assert _aside(loaded.reports) == _aside(without(before[1], _PLACE))
    assert _requested(loaded.reports) == [
        prefix for prefix in _requested(before[1]) if not prefix.startswith(f"{_PLACE}#")
    ]


def test_rows_that_no_report_speaks_of_are_found_by_their_keys(base: Installation) -> None:
    before = base.data, _aside(base.reports)
    base.put("f1_data", {b"2031#8000#80005#1#2031-01-01T00:00:00+00:00": {b"car:rpm": b"1"}})
    assert "There is nothing of 99999." in base.roll_back(Target(sessions=[80005, 99999]))
    assert (base.data, _aside(base.reports)) == before
    base.put("f1_data", {b"2031#8000": {b"meeting:location": b"Spa"}, b"2031#8000#80005": {b"session:year": b"1"}})
    base.roll_back(Target(meetings=[8000]))
    assert (base.data, _aside(base.reports)) == before
    with pytest.raises(NothingToRollBackError), base.rollback(Target(meetings=[8000])):
        pass  # that its epochs stay does not make it something to delete


# --- a run ---


def test_a_run_takes_its_family_out_of_the_rows_that_it_shares(loaded: Installation) -> None:
    before = loaded.data, loaded.reports
    run = loaded.run_of(_HERE, "car_data")
    shared = [cells for cells in before[0].values() if {b"car:rpm", b"location:x"} <= cells.keys()]
    assert shared, "the simulator makes rows that two runs share"
    bad = f"quarantine#{_HERE}#laps#{'1' * 64}".encode()
    good = f"quarantine#{_HERE}#laps#{'2' * 64}".encode()
    loaded.put("f1_reports", {bad: {b"meta:run": run.encode()}, good: {b"meta:run": run.encode() + b"x"}})

    described = loaded.roll_back(Target(run))

    rows = sum(1 for cells in before[0].values() if any(column.startswith(b"car:") for column in cells))
    assert f"\n{rows:,} rows: car_data {rows:,}\n" in described
    assert loaded.data == _without_car(before[0])
    after = loaded.reports
    assert good in after
    del after[good]
    gone = {key for key, cells in before[1].items() if key.startswith(b"unit#") and b"#car_data#" in key}
    rest = {key: cells for key, cells in before[1].items() if key not in gone | {f"run#{run}".encode()}}
    assert _aside(after) == _aside(rest)
    others = [state for scope in _SCOPES for state in loaded.states(scope)]
    assert {state.status for state in others} == {Status.DONE}, "what stays counts as ever"
    assert not [key for key, cells in after.items() if run.encode() in key + repr(cells).encode()]


def test_of_two_runs_with_other_windows_the_rows_are_those_of_the_later_one(
    loaded: Installation, table_prefix: str
) -> None:
    first = loaded.run_of(_HERE, "car_data")
    loaded.loader.run("--session-key", str(_RACE), *_CAR, "--refresh", "--window", "45s")
    refresh = max(key for key in loaded.reports if key.startswith(b"run#")).decode().partition("#")[2]
    data, units = loaded.data, _units(loaded.reports, f"#{_RACE}#car_data#")
    copy = loaded.copy(f"{table_prefix}_copy")

    before = copy.data
    copy.roll_back(Target(first))
    assert copy.data == _without_car(before, lambda key: not is_of(key, _HERE)), "what was refreshed stays"
    left = _units(copy.reports, "#car_data#")
    assert set(left.values()) == {b"done"}
    assert left.items() < units.items()

    described = loaded.roll_back(Target(refresh))
    assert f"{len(units) - len(left)} units of earlier runs speak of rows that this run wrote over" in described
    assert loaded.data == _without_car(data, lambda key: is_of(key, _HERE))
    assert set(_units(loaded.reports, f"#{_RACE}#car_data#").values()) == {b"failed"}, "or nobody would ask again"

    loaded.loader.run()
    assert values(loaded.data) == values(data)
    assert set(_units(loaded.reports, "unit#").values()) == {b"done"}


# --- killed ---

_KILLED = """
import os, signal, sys
from f1hbase.cli.commands import main
from f1hbase.stores.hbase import connector, frames

frames.FRAME_BYTES = {batch_bytes}
puts, receive = 0, connector._receive

def receive_and_die(*call):
    global puts
    receive(*call)
    puts += 1
    if puts == {puts}:
        os.kill(os.getpid(), signal.SIGKILL)

connector._receive = receive_and_die
sys.argv[1:] = {arguments}
main()
"""


def _roll_back_killed_after(puts: int, loaded: Installation, *arguments: str, batch_bytes: int) -> None:
    """Run the command in a process that kills itself with SIGKILL when HBase has taken so many puts."""
    script = _KILLED.format(puts=puts, arguments=["rollback", *arguments, "--yes"], batch_bytes=batch_bytes)
    result = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | loaded.loader.environment, capture_output=True, check=False,
        cwd=loaded.loader.folder,
    )  # fmt: skip
    assert result.returncode == -signal.SIGKILL, result.stderr


def test_after_a_kill_in_the_middle_a_load_loads_all_of_it_again_and_so_does_a_rollback_delete_it(
    loaded: Installation,
) -> None:
    before = loaded.data
    _roll_back_killed_after(4, loaded, "--session-key", str(_RACE), batch_bytes=20_000)
    left = _cells(loaded.data)
    assert _cells(without(before, _HERE)) < left < _cells(before), "it was killed in the middle"
    reports = loaded.reports
    assert set(_units(reports, f"#{_RACE}#").values()) == {b"failed"}
    assert b'"run":"rollback-' in reports[f"lease#{_PLACE}".encode()][b"meta:lease"][0], "it held off other loaders"

    loaded.loader.run()
    assert values(loaded.data) == values(before)
    assert set(_units(loaded.reports, "unit#").values()) == {b"done"}

    _roll_back_killed_after(4, loaded, "--session-key", str(_RACE), batch_bytes=20_000)
    loaded.roll_back(Target(sessions=[_RACE]))
    assert values(loaded.data) == values(without(before, _HERE))
    assert not [key for key in loaded.reports if is_of(key, _HERE)]


@pytest.mark.parametrize("kind", ["session", "run"])
def test_wherever_it_is_killed_no_unit_is_done_whose_rows_are_gone_and_it_goes_on(
    loaded: Installation, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    before = loaded.data
    target = Target(sessions=[_RACE]) if kind == "session" else Target(loaded.run_of(_HERE, "car_data"))
    part = f"#{_RACE}#" if kind == "session" else "#car_data#"
    send, left = connector_module._send, 0

    class Killed(BaseException):
        pass

    def send_or_die(connection: object, frame: frames.Frame) -> None:
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1
        send(connection, frame)

    monkeypatch.setattr(connector_module, "_send", send_or_die)
    monkeypatch.setattr(frames, "FRAME_BYTES", 30_000 if kind == "session" else 60_000)
    deaths = 0
    while True:
        left = deaths + 1  # each time it gets a little further
        try:
            loaded.roll_back(target)
        except Killed:
            deaths += 1
            loaded.forget_leases()
        except NothingToRollBackError:
            break
        else:
            break
        standing = set(_units(loaded.reports, part).values()) - {b"failed"}
        assert loaded.data == before or not standing
        others = [
            state
            for scope in _SCOPES
            for state in loaded.states(scope)
            if (scope.session_key != _RACE if kind == "session" else state.endpoint != "car_data")
        ]
        assert {state.status for state in others} == {Status.DONE}, "what stays counts as ever"
    assert deaths > 3
    assert f"run#{target.run}".encode() not in loaded.reports
    assert not _units(loaded.reports, part)
    assert loaded.data == (without(before, _HERE) if kind == "session" else _without_car(before))


class _Killed(BaseException):
    pass


@pytest.mark.parametrize("clock", ["one for all", "that of the server of the rows is behind"])
def test_a_deletion_that_arrives_after_its_sender_was_killed_spares_what_a_load_has_stored_since(
    loaded: Installation, monkeypatch: pytest.MonkeyPatch, clock: str
) -> None:
    before = loaded.data
    anew = {key: {b"car:rpm": b"1"} for key, cells in before.items() if is_of(key, _HERE) and b"car:rpm" in cells}
    stored = max(time for cells in before.values() for _, time in cells.values())
    late: list[frames.Frame] = []
    send = connector_module._send

    def send_none(connection: object, frame: frames.Frame) -> None:
        if b"_f1_data" in frame.data:
            late.append(frame)
            raise _Killed
        send(connection, frame)

    with monkeypatch.context() as patch:
        patch.setattr(connector_module, "_send", send_none)
        with pytest.raises(_Killed):
            loaded.roll_back(Target(sessions=[_RACE]))
    loaded.put("f1_data", anew, None if clock == "one for all" else stored + 1)
    with closing(happybase.Connection(loaded.hbase.host, loaded.hbase.port)) as connection:
        send(connection, late[0])
        connector_module._receive(connection, late[0])
    deleted = {mutation.key for mutation in late[0].changes if isinstance(mutation, frames.RowMutation)}
    assert deleted == anew.keys(), "the family that is first in the alphabet"
    others = values(_without_car(before, lambda key: is_of(key, _HERE)))
    assert values(loaded.data) == others | {key: others.get(key, {}) | cells for key, cells in anew.items()}


def test_cells_that_came_later_than_the_first_of_their_row_go_as_well(loaded: Installation) -> None:
    before = loaded.data
    keys = [key for key, cells in before.items() if is_of(key, _HERE) and b"car:rpm" in cells][::7]
    loaded.put("f1_data", {key: {b"car:zz": b"1"} for key in keys})
    loaded.roll_back(Target(sessions=[_RACE]))
    assert loaded.data == without(before, _HERE)


# --- asking first ---


def test_nothing_is_deleted_without_a_yes(loaded: Installation) -> None:
    before = loaded.data, loaded.reports
    session = ["rollback", "--session-key", str(_RACE)]

    shown = loaded.loader.run(*session, "--dry-run")
    assert re.search(rf"^2025 +{_MEETING} +{_RACE} +\d+ +[\d,]+$", shown, re.MULTILINE)
    assert re.search(r"^[\d,]+ rows: car_data \d+, location \d+, ", shown, re.MULTILINE)
    assert "values that a refresh wrote over do not come back, and the next load asks the API for all of it" in shown
    assert "there is no terminal to ask on; add --yes" in loaded.loader.run(*session, exit_code=2)
    asked = _on_a_terminal(loaded, *session, answer="n", exit_code=1)
    assert "Delete it? [y/N]" in asked
    assert "nothing was deleted" in asked
    assert (loaded.data, loaded.reports) == before

    assert "rolled back session" in _on_a_terminal(loaded, *session, answer="y", exit_code=0)
    assert loaded.data == without(before[0], _HERE)


def _on_a_terminal(loaded: Installation, *arguments: str, answer: str, exit_code: int) -> str:
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(
            [sys.executable, str(ENTRY_POINT), *arguments], cwd=loaded.loader.folder, stdin=theirs,
            env=os.environ | loaded.loader.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        ) as process:  # fmt: skip
            os.write(ours, f"{answer}\n".encode())
            assert process.stdout is not None
            output = process.stdout.read()
        assert process.returncode == exit_code, output
    finally:
        os.close(ours)
        os.close(theirs)
    return output


def test_what_is_being_loaded_is_not_deleted(base: Installation) -> None:
    before = base.data
    connectors = [base.connector() for _ in range(2)]
    leases = HBaseLeases(connectors[0], connectors[1], f"{base.prefix}_f1_reports", "20990101T000000.000000Z-abcdef")
    assert leases.take(Scope(_YEAR, _MEETING, None)) is None

    output = base.loader.run("rollback", "--meeting-key", str(_MEETING), "--yes", exit_code=1)
    assert re.search(
        rf"meeting {_MEETING} is being loaded by run 20990101T000000.000000Z-abcdef \(process {os.getpid()} on .+\), "
        r"whose lease lasts until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC; nothing was deleted",
        output,
    )
    assert base.data == before

    leases.give_back(Scope(_YEAR, _MEETING, None))
    for connector in connectors:
        connector.close()
    with base.rollback(Target(meetings=[_MEETING])) as rollback:
        rollback.refuse_if_being_loaded()


def test_wrong_usage_is_said(base: Installation) -> None:
    assert "say what to delete: --run ID, --session-key K or --meeting-key K" in base.loader.run(
        "rollback", exit_code=2
    )
    both = ["--meeting-key", str(_MEETING), "--run", "x", "--yes"]
    assert "one kind at a time" in base.loader.run("rollback", *both, exit_code=2)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (Target("20200101T000000.000000Z-it's"), "has no run '20200101T000000.000000Z-it's'; 'status' names the last"),
        (Target("2"), "has no run '2'"),
        (Target(sessions=[7000]), "has anything of session 7000; 'status' lists what is loaded"),
        (Target(sessions=[_MEETING, 700020]), f"has anything of sessions {_MEETING}, 700020; "),
        (Target(meetings=[70010, _YEAR]), f"has anything of meetings 70010, {_YEAR}; "),
    ],
    ids=str,
)
def test_what_there_is_nothing_of_is_said(base: Installation, target: Target, message: str) -> None:
    with pytest.raises(NothingToRollBackError, match=re.escape(message)) as error, base.rollback(target):
        pass
    assert error.value.exit_code == 2


def test_tables_of_another_name_are_no_tables(base: Installation) -> None:
    nobody = Installation(base.hbase, "nobody", base.loader)
    with (
        pytest.raises(NothingToRollBackError, match="there is no table 'nobody_f1_data'"),
        nobody.rollback(Target("1")),
    ):
        pass
