"""What `rollback` deletes in a landing zone, what it leaves alone, and that it can be killed anywhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from hashlib import md5
from pathlib import Path
from typing import Any

import pytest
from files_zone import MEETING, RACE, SPRINT, destination_at, fill, json_answer, store, whole
from replay_server import ReplayServer
from test_files_layouts import everything
from test_files_load import manifests, run

from f1hbase.composition import open_rollback
from f1hbase.config import resolve
from f1hbase.model.outcomes import Quarantined
from f1hbase.model.units import Scope
from f1hbase.operations.rollback import files as rollback_module
from f1hbase.operations.rollback.base import BeingLoadedError, NothingToRollBackError, Rollback, Target
from f1hbase.state.file_leases import FilesLeases
from f1hbase.stores.files.lease_objects import advance, latest
from f1hbase.stores.files.manifests import manifest_path
from f1hbase.stores.files.objects import Objects, RefusedError
from f1hbase.stores.files.urls import LocationError, parse_location

ROOT = Path(__file__).resolve().parent.parent
LAYOUTS = ["units", "extractor", "dated"]
YEAR, FIRST, RACE_KEY = 2025, 7001, 70002
CAR = ("--endpoint", "car_data", "--endpoint", "sessions", "--endpoint", "meetings")
FOREIGN = {"notes.txt", f"source=openf1/year={YEAR}/meeting={FIRST}/session={RACE_KEY}/notes.txt"}


def rollback_of(zone: Path, target: Target) -> Rollback:
    return open_rollback(resolve({"to": [str(zone)]}, environment={}), target)


def roll_back(zone: Path, target: Target) -> str:
    with closing(rollback_of(zone, target)) as rollback:
        described = "\n".join(rollback.describe())
        rollback.carry_out()
    return described


def contents(zone: Path, *, leases: bool = False) -> dict[str, str]:
    """Return the MD5 of each file of a zone; leases are numbered anew each time that somebody has one."""
    return {
        str(path.relative_to(zone)): md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        for path in zone.rglob("*")
        if path.is_file() and (leases or "_state/leases" not in str(path))
    }


def answers(zone: Path) -> dict[str, str]:
    """Return the answers and the files that people read."""
    return {
        name: digest
        for name, digest in contents(zone).items()
        if name not in FOREIGN and (not name.startswith("_") or name.startswith("_state/answers/"))
    }


def bodies(zone: Path) -> list[str]:
    """Return what is stored whatever it is called: `dated` names answers by the second that they came."""
    return sorted(answers(zone).values())


def visible(zone: Path) -> set[str]:
    """Return the files of `extractor`."""
    return {name for name in answers(zone) if "/" not in name}


def assert_whole(zone: Path) -> None:
    """Check that nothing lacks that is named, and that nothing is there that nobody names."""
    named = {
        one["path"] for manifest in manifests(zone).values() for key in ("objects", "earlier") for one in manifest[key]
    }
    assert answers(zone).keys() - visible(zone) == named
    assert visible(zone) == {json.loads(path.read_text())["path"] for path in (zone / "_state").glob("files/**/*.json")}
    assert not list(zone.glob("_state/rollbacks/*"))


def runs(zone: Path) -> list[str]:
    return sorted(path.stem for path in zone.glob("_state/runs/*.json"))


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplayServer]:
    folder = tmp_path_factory.mktemp("api")
    arguments = ["--meetings", "2", "--sessions", "practice,race", "--minutes", "1", "--drivers", "2"]
    run("simulator", "make", "made", "--year", str(YEAR), *arguments, cwd=folder)
    with ReplayServer(folder / "made") as server:
        yield server


def load(api: ReplayServer, zone: Path, *options: str) -> str:
    words = ["--from", "openf1", "--api-url", api.url, "--to", str(zone), "--year", str(YEAR), "--window", "30s"]
    return run("f1hbase", "load", *words, *options, cwd=zone.parent)


@pytest.fixture(scope="module")
def bases(api: ReplayServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a zone of each layout, of two meetings and two runs: car data, and the rest."""
    folder = tmp_path_factory.mktemp("zones")
    for layout in LAYOUTS:
        load(api, folder / layout, "--layout", layout, *CAR)
        load(api, folder / layout)
        for name in FOREIGN:
            (folder / layout / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / layout / name).write_text("somebody else's")
    return folder


@pytest.fixture(params=LAYOUTS)
def zone(request: pytest.FixtureRequest, bases: Path, tmp_path: Path) -> Path:
    """Return a copy of one of these zones, for one test."""
    shutil.copytree(bases / request.param, tmp_path / request.param)
    copy: Path = tmp_path / request.param
    return copy


TARGETS: dict[str, Callable[[Path], Target]] = {
    "session": lambda _: Target(sessions=[RACE_KEY]),
    "meeting": lambda _: Target(meetings=[FIRST]),
    "first run": lambda zone: Target(run=runs(zone)[0]),
    "second run": lambda zone: Target(run=runs(zone)[1]),
}


def is_meant(manifest: dict[str, Any], target: Target) -> bool:
    unit = manifest["unit"]
    if target.run:
        return bool(manifest["run"] == target.run)
    return unit["session_key"] in target.sessions or unit["meeting_key"] in target.meetings


def asked_for(zone: Path) -> set[str]:
    """Return the keys of the sessions and meetings that runs say they asked for."""
    prefixes = [json.loads(path.read_text())["meta"]["sessions"] for path in zone.glob("_state/runs/*.json")]
    return {key for prefix in prefixes for one in prefix.split(",") for key in one.split("#")[1:]}


@pytest.mark.parametrize("kind", list(TARGETS))
def test_what_is_meant_goes_and_a_load_brings_it_back(kind: str, zone: Path, api: ReplayServer) -> None:
    target = TARGETS[kind](zone)
    before, units, stored, files = contents(zone), manifests(zone), bodies(zone), visible(zone)
    records = everything(zone)
    meant = {path for path, manifest in units.items() if is_meant(manifest, target)}
    assert 0 < len(meant) < len(units)

    assert f"{len(meant)} units" in roll_back(zone, target)
    assert set(manifests(zone)) == set(units) - meant
    assert_whole(zone)
    after = contents(zone)
    assert all((zone / name).exists() for name in FOREIGN)
    assert {name: after[name] for name in after if not name.startswith("_state/")}.items() <= before.items()
    if target.run:
        assert target.run not in runs(zone)
    else:
        assert not asked_for(zone) & set(map(str, (*target.sessions, *target.meetings)))

    load(api, zone)
    assert set(manifests(zone)) == set(units)
    assert visible(zone) == files
    assert everything(zone) == records
    if kind != "session":  # of one session, other answers are asked for than of both
        assert set(bodies(zone)) == set(stored)
    assert_whole(zone)
    assert "0 sessions worked on" in load(api, zone)


@pytest.mark.parametrize("kind", list(TARGETS))
def test_a_dry_run_changes_nothing(kind: str, zone: Path) -> None:
    before = contents(zone, leases=True)
    rollback = rollback_of(zone, TARGETS[kind](zone))
    assert "To be deleted from the landing zone" in "\n".join(rollback.describe())
    rollback.refuse_if_being_loaded()
    assert contents(zone, leases=True) == before


def test_both_runs_leave_nothing_but_what_is_not_ours(zone: Path) -> None:
    for name in runs(zone):
        roll_back(zone, Target(run=name))
    assert not manifests(zone)
    assert not answers(zone)
    assert not runs(zone)
    assert all((zone / name).exists() for name in FOREIGN)


class _KilledError(Exception):
    """Instead of a kill."""


def kill_after(steps: int, patched: pytest.MonkeyPatch) -> None:
    """Let so many objects be written or deleted, leases aside, and no more."""
    left = steps
    put, delete = Objects.put, Objects.delete

    def step(path: str) -> None:
        nonlocal left
        if "_state/leases" not in path:
            if left == 0:
                raise _KilledError
            left -= 1

    def put_one(self: Objects, path: str, *arguments: Any) -> None:
        step(path)
        put(self, path, *arguments)

    def delete_each(self: Objects, paths: Any) -> None:
        for path in paths:
            step(path)
            delete(self, [path])

    patched.setattr(Objects, "put", put_one)
    patched.setattr(Objects, "delete", delete_each)


@pytest.mark.parametrize("kind", ["session", "meeting", "second run"])
def test_killed_anywhere_the_same_again_ends_the_same(
    kind: str, zone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = TARGETS[kind](zone)
    wanted = tmp_path / "wanted"
    shutil.copytree(zone, wanted)
    roll_back(wanted, target)
    for steps in (0, 1, 2, 3, 5, 8, 13, 21, 34, 45, 55, 66, 77, 89, 100):
        copy = tmp_path / f"killed-{steps}"
        shutil.copytree(zone, copy)
        with monkeypatch.context() as patched:
            kill_after(steps, patched)
            try:
                roll_back(copy, target)
            except _KilledError:
                ended = False
            else:
                ended = True
        assert all((copy / path).exists() for path in objects_that_count(copy))
        if not ended:
            roll_back(copy, target)
        assert without_epochs(copy) == without_epochs(wanted), steps
        shutil.rmtree(copy)


def objects_that_count(zone: Path) -> set[str]:
    """Return the objects of the units that count."""
    state = destination_at(zone).state
    keys = [prefix.split("#") for prefix in state.unit_scopes()]
    scopes = [Scope(int(year), int(meeting), None if key == "-" else int(key)) for year, meeting, key in keys]
    return {one["path"] for scope in scopes for unit in state.unit_states(scope) for one in unit.objects}


def without_epochs(zone: Path) -> dict[str, Any]:
    """Return all of a zone but for how often it was rolled back."""
    found: dict[str, Any] = dict(contents(zone))
    return found | {path: {**manifest, "epoch": 0} for path, manifest in manifests(zone).items()}


def test_after_a_kill_between_manifests_and_objects_a_load_loads_it(
    zone: Path, api: ReplayServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, units = bodies(zone), set(manifests(zone))

    def killed(_: object) -> None:
        raise _KilledError

    with monkeypatch.context() as patched:
        patched.setattr(rollback_module.FilesRollback, "_delete_files", killed)
        with pytest.raises(_KilledError):
            roll_back(zone, Target(meetings=[FIRST]))
    assert len(manifests(zone)) < len(units)
    assert bodies(zone) == before
    load(api, zone)
    assert set(manifests(zone)) == units
    if zone.name != "dated":  # there an answer of another second is another object
        assert bodies(zone) == before
    # The same rollback takes what was loaded since as well.
    assert "This rollback was begun before" in roll_back(zone, Target(meetings=[FIRST]))
    assert_whole(zone)


def test_what_other_units_name_stays(tmp_path: Path) -> None:
    destination = fill(tmp_path)
    new = json_answer("laps?session_key=9554", [{"session_key": 9554, "lap_number": 9}])
    # The answer of both sessions is an earlier version of one of them.
    store(destination, whole("laps", SPRINT), [{}], new, run="later")
    (shared,) = (name for name in answers(tmp_path) if "/meeting=1240/endpoint=laps/" in name)
    (listing,) = (name for name in answers(tmp_path) if "/listing/endpoint=sessions/" in name)
    assert "2 objects that other units name as well stay" in roll_back(tmp_path, Target(sessions=[9558]))
    assert {shared, listing} <= answers(tmp_path).keys()
    assert_whole(tmp_path)
    roll_back(tmp_path, Target(run="later"))
    assert shared not in answers(tmp_path)
    assert_whole(tmp_path)
    roll_back(tmp_path, Target(meetings=[1240]))
    assert not answers(tmp_path)
    with pytest.raises(NothingToRollBackError, match="has nothing of meeting 1240"):
        rollback_of(tmp_path, Target(meetings=[1240]))


def test_answers_that_no_unit_names_go_with_their_session(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / manifest_path(whole("laps"))).unlink()
    damaged = tmp_path / manifest_path(whole("car_data"))
    damaged.write_text('{"version": 1, ')
    roll_back(tmp_path, Target(sessions=[9558]))
    assert not damaged.exists()
    assert not [name for name in answers(tmp_path) if "session=9558" in name]
    assert_whole(tmp_path)


def test_many_sessions_at_once_and_a_run_of_a_strange_name(tmp_path: Path) -> None:
    fill(tmp_path)
    with pytest.raises(NothingToRollBackError, match=r"run \.\./\.\./x"):
        rollback_of(tmp_path, Target(run="../../x"))
    described = roll_back(tmp_path, Target(sessions=[9554, 9558, *range(100)]))
    assert "There is nothing of 99." in described
    assert [path.name for path in tmp_path.glob("_state/units/**/*.json")] == ["meetings__all__open__open.json"]


def test_quarantine_goes_with_its_session_or_run(tmp_path: Path) -> None:
    state = fill(tmp_path).state
    now = datetime.now(UTC)
    for scope, name in ((RACE, "a"), (SPRINT, "b"), (SPRINT, "run")):
        state.put_quarantine(name, [Quarantined(scope.prefix, "laps", "{}", name * 8, "NaN", now, "")])
    assert "1 record in quarantine" in roll_back(tmp_path, Target(sessions=[9558]))
    assert state.quarantine_counts() == {(SPRINT.prefix, "laps"): 2}
    assert "1 record in quarantine" in roll_back(tmp_path, Target(run="run"))
    assert state.quarantine_counts() == {(SPRINT.prefix, "laps"): 1}


def test_what_a_worker_that_slept_writes_afterwards_counts_for_nothing(tmp_path: Path) -> None:
    destination = fill(tmp_path)
    raw = json_answer("laps?session_key=9558", [{"session_key": 9558, "lap_number": 1}])
    store(destination, whole("pit", RACE), [], raw, run="other")
    roll_back(tmp_path, Target(run="run"))
    (state,) = destination.state.unit_states(RACE)
    assert (state.endpoint, state.run) == ("pit", "other")
    store(destination, whole("laps"), [{}], raw, epoch=0)
    store(destination, whole("pit"), [{}], raw, epoch=0, run="old")
    assert [one.run for one in destination.state.unit_states(RACE)] == ["other"]
    epoch = destination.state.epochs(MEETING).of(RACE)
    store(destination, whole("laps"), [{}], raw, epoch=epoch, run="new")
    assert {one.run for one in destination.state.unit_states(RACE)} == {"other", "new"}


def test_a_meeting_is_fenced_with_sessions_that_nobody_knew_of(tmp_path: Path) -> None:
    destination = fill(tmp_path)
    roll_back(tmp_path, Target(meetings=[1240]))
    unknown = Scope(2024, 1240, 9999)
    store(destination, whole("laps", unknown), [], json_answer("laps", []), epoch=0)
    assert destination.state.unit_states(unknown) == []
    assert destination.state.epochs(MEETING).of(unknown) == 1


def test_a_zone_that_is_loaded_beside_another_has_epochs_of_its_own(api: ReplayServer, tmp_path: Path) -> None:
    laps = ("--to", str(tmp_path / "second"), "--endpoint", "laps", "--endpoint", "sessions")
    load(api, tmp_path / "first", *laps)
    units = set(manifests(tmp_path / "second"))
    roll_back(tmp_path / "second", Target(meetings=[FIRST]))
    assert set(manifests(tmp_path / "second")) < units
    load(api, tmp_path / "first", *laps)
    assert set(manifests(tmp_path / "second")) == units
    assert "0 sessions worked on" in load(api, tmp_path / "first", *laps)


def test_what_is_being_loaded_is_refused(tmp_path: Path) -> None:
    fill(tmp_path)
    objects = Objects(parse_location(str(tmp_path)))
    leases = FilesLeases(objects, objects, "a-load")
    rollback = rollback_of(tmp_path, Target(sessions=[9558]))
    assert leases.take(MEETING) is None
    before = contents(tmp_path, leases=True)
    with pytest.raises(BeingLoadedError, match=r"meeting 1240 is being loaded by run a-load \(process"):
        rollback.refuse_if_being_loaded()
    with pytest.raises(BeingLoadedError, match="nothing was deleted"):
        rollback.carry_out()
    assert contents(tmp_path, leases=True) == before
    leases.give_back(MEETING)
    rollback.carry_out()
    assert leases.take(MEETING) is None  # and it is free for the next


def test_a_load_of_another_meeting_keeps_the_lists_that_it_may_name(tmp_path: Path) -> None:
    fill(tmp_path)
    objects = Objects(parse_location(str(tmp_path)))
    leases = FilesLeases(objects, objects, "a-load")
    assert leases.take(Scope(2024, 1241, None)) is None
    listed = {name for name in answers(tmp_path) if "/listing/" in name}
    assert listed
    roll_back(tmp_path, Target(meetings=[1240]))
    assert answers(tmp_path).keys() == listed


def test_a_load_on_another_host_that_ran_out_is_waited_for(tmp_path: Path) -> None:
    fill(tmp_path)
    objects = Objects(parse_location(str(tmp_path)))
    FilesLeases(objects, objects, "a", lambda: datetime(2024, 1, 1, tzinfo=UTC)).take(MEETING)
    before = latest(objects, MEETING)
    there = [{**holder, "space": "another machine"} for holder in before.content["holders"]]
    assert advance(objects, MEETING, before, {**before.content, "holders": there}) is not None
    waited: list[float] = []
    config = resolve({"to": [str(tmp_path)]}, environment={})
    rollback_module.open_rollback(config, str(tmp_path), Target(sessions=[9558]), wait=waited.append).carry_out()
    assert waited == [60.0]


@pytest.mark.parametrize("path", ["_f1hbase.json", "notes.txt", "source=openf1/../notes.txt"])
def test_a_manifest_that_names_what_is_no_answer_deletes_none_of_it(tmp_path: Path, path: str) -> None:
    fill(tmp_path)
    (tmp_path / "notes.txt").write_text("somebody else's")
    manifest = tmp_path / manifest_path(whole("laps"))
    content = json.loads(manifest.read_text())
    content["objects"][0]["path"] = path
    manifest.write_text(json.dumps(content))
    roll_back(tmp_path, Target(meetings=[1240]))
    assert (tmp_path / "notes.txt").exists()
    assert (tmp_path / "_f1hbase.json").exists()


# The command


def command(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "f1hbase", "rollback", *arguments], cwd=cwd, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=120,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
    )  # fmt: skip


def test_the_command_shows_asks_and_deletes(tmp_path: Path) -> None:
    fill(tmp_path / "zone")
    before = contents(tmp_path / "zone", leases=True)
    options = ["--to", "./zone", "--session-key", "9558"]
    shown = command(*options, "--dry-run", cwd=tmp_path)
    assert shown.returncode == 0
    assert "To be deleted from the landing zone './zone'" in shown.stdout
    refused = command(*options, cwd=tmp_path)
    assert refused.returncode == 2
    assert "add --yes" in refused.stdout
    assert contents(tmp_path / "zone", leases=True) == before
    done = command(*options, "--yes", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "rolled back session 9558" in done.stdout
    again = command(*options, "--yes", cwd=tmp_path)
    assert again.returncode == 2
    assert "has nothing of session 9558" in again.stdout


def test_what_is_no_zone_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(LocationError, match="is no landing zone"):
        rollback_of(tmp_path, Target(run="x"))
    for place in ("./nowhere", "ftp://host/x"):
        result = command("--to", place, "--meeting-key", "1240", "--yes", cwd=tmp_path)
        assert result.returncode == 2
        assert "Traceback" not in result.stdout
        assert place.partition(":")[0] in result.stdout
    assert not (tmp_path / "nowhere").exists()
    twice = command("--to", "a", "--to", "b", "--run", "x", cwd=tmp_path)
    assert "one place at a time" in twice.stdout


def test_a_store_that_is_away_is_exit_code_3(tmp_path: Path) -> None:
    result = command(
        "--to", "s3://races/zone", "--run", "x", "--yes", "--patience", "1s", cwd=tmp_path,
        AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b", AWS_REGION="us-east-1",
        AWS_ENDPOINT_URL="http://127.0.0.1:9",
    )  # fmt: skip
    assert result.returncode == 3, result.stdout
    assert "cannot be reached" in result.stdout


def test_nothing_behind_a_linked_folder_is_deleted(zone: Path, tmp_path: Path) -> None:
    link = {"units": f"source=openf1/year={YEAR}", "extractor": "_state/answers", "dated": "raw"}[zone.name]
    elsewhere = tmp_path / "elsewhere"
    shutil.move(zone / link, elsewhere)
    (zone / link).symlink_to(elsewhere)
    before = contents(elsewhere)
    described = roll_back(zone, Target(meetings=[FIRST]))
    assert f"The folder '{link}' is a link to elsewhere" in described
    assert contents(elsewhere) == before
    assert not [path for path in manifests(zone) if f"/meeting={FIRST}/" in path]


def test_a_zone_may_be_a_link_itself(zone: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(zone)
    roll_back(link, Target(meetings=[FIRST]))
    assert_whole(zone)


def test_a_linked_state_folder_is_refused_in_one_line(zone: Path, tmp_path: Path) -> None:
    shutil.move(zone / "_state/units", tmp_path / "elsewhere")
    (zone / "_state/units").symlink_to(tmp_path / "elsewhere")
    before = contents(tmp_path / "elsewhere")
    with pytest.raises(RefusedError, match="the folder '_state/units' is a link"):
        roll_back(zone, Target(meetings=[FIRST]))
    assert contents(tmp_path / "elsewhere") == before


def test_a_manifest_has_no_say_in_another_meeting(tmp_path: Path) -> None:
    fill(tmp_path)
    other = tmp_path / "source=openf1/year=2024/meeting=1241/session=1/endpoint=laps" / f"all-{'0' * 32}.json.gz"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"another meeting's")
    manifest = tmp_path / manifest_path(whole("laps"))
    content = json.loads(manifest.read_text())
    content["earlier"] = [{**content["objects"][0], "path": str(other.relative_to(tmp_path))}]
    manifest.write_text(json.dumps(content))
    roll_back(tmp_path, Target(sessions=[9558]))
    assert other.exists()


@pytest.mark.parametrize("path", ["_f1hbase.json", "notes.txt", "laps_/../notes.txt", 7])
def test_what_is_known_of_a_file_deletes_nothing_else(bases: Path, tmp_path: Path, path: object) -> None:
    zone = tmp_path / "zone"
    shutil.copytree(bases / "extractor", zone)
    (facts,) = zone.glob(f"_state/files/**/session={RACE_KEY}/laps.json")
    facts.write_text(json.dumps({**json.loads(facts.read_text()), "path": path}))
    roll_back(zone, Target(sessions=[RACE_KEY]))
    assert all((zone / name).exists() for name in (*FOREIGN, "_f1hbase.json"))
    assert not facts.exists()
