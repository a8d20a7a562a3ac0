"""A load into several places holds the lease of a meeting in each of them, all or none."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cli import Loader, read_until
from files_zone import MEETING, RACE
from replay_server import ReplayServer
from test_files_load import run as run_command

from f1hbase.errors import UnreachableError
from f1hbase.model.units import Scope
from f1hbase.state.all_leases import AllLeases
from f1hbase.state.base import Leases
from f1hbase.state.file_leases import FilesLeases, holder_of
from f1hbase.stores.files.objects import Objects
from f1hbase.stores.files.urls import parse_location

MADE = Scope(2025, 7001, None)


def leases(folder: Path, run: str) -> FilesLeases:
    objects = Objects(parse_location(str(folder)))
    return FilesLeases(objects, objects, run)


def both(folder: Path, run: str, first: str = "a", second: str = "b") -> AllLeases:
    """The leases of a run that names two places in some order."""
    return AllLeases([(name, leases(folder / name, run)) for name in (first, second)])


class Away(FilesLeases):
    """Leases of a store that is away."""

    def take(self, meeting: Scope) -> str | None:
        raise UnreachableError("'s3://away' cannot be reached")


def test_of_two_loads_into_the_same_places_one_has_all_and_the_other_none(tmp_path: Path) -> None:
    one, other = both(tmp_path, "one"), both(tmp_path, "other", "b", "a")
    assert one.take(MEETING) is None
    assert str(other.take(MEETING)).startswith("run one ")
    assert not one.lost(MEETING)
    assert other.lost(MEETING)
    one.give_back(MEETING)
    assert other.take(MEETING) is None


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_a_place_that_somebody_else_loads_into_lets_none_be_taken(tmp_path: Path, order: tuple[str, str]) -> None:
    alone = leases(tmp_path / "b", "alone")
    assert alone.take(MEETING) is None
    assert str(both(tmp_path, "both", *order).take(MEETING)).startswith("run alone ")
    assert leases(tmp_path / "a", "third").take(MEETING) is None, "what was taken was given back"


def test_when_a_place_is_away_none_is_kept(tmp_path: Path) -> None:
    objects = Objects(parse_location(str(tmp_path / "b")))
    places: list[tuple[str, Leases]] = [("a", leases(tmp_path / "a", "one")), ("b", Away(objects, objects, "one"))]
    with pytest.raises(UnreachableError, match="s3://away"):
        AllLeases(places).take(MEETING)
    assert leases(tmp_path / "a", "other").take(MEETING) is None


def test_each_place_has_epochs_of_its_own(tmp_path: Path) -> None:
    rollback = leases(tmp_path / "b", "rollback")
    assert rollback.take(MEETING) is None
    rollback.raise_epochs(MEETING, [str(RACE.session_key)], 0)
    rollback.give_back(MEETING)
    held = both(tmp_path, "load")
    assert held.take(MEETING) is None
    assert [epochs.of(RACE) for epochs in held.epochs(MEETING)] == [0, 1]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplayServer]:
    folder = tmp_path_factory.mktemp("season")
    run_command("simulator", "make", "made", "--minutes", "1", "--sessions", "race", "--drivers", "2", cwd=folder)
    with ReplayServer(folder / "made") as server:
        yield server


def test_a_load_waits_for_another_one_into_its_second_place(api: ReplayServer, tmp_path: Path) -> None:
    """And a rollback of that place is refused while the load has it."""
    environment = {"F1HBASE_API_URL": api.url, "XDG_STATE_HOME": str(tmp_path / "state")}
    loader = Loader(tmp_path, environment)
    loader.run("load", "--to", "second", "--year", "2025", "--endpoint", "laps")
    other = leases(tmp_path / "second", "other")
    assert other.take(MADE) is None
    with loader.start("load", "--to", "first", "--to", "second", "--year", "2025", "--patience", "10s") as process:
        read_until(process, "is being loaded by run other")
        assert not list((tmp_path / "first").glob("_state/units/**/*.json"))
        rollback = ("rollback", "--to", "second", "--meeting-key", str(MADE.meeting_key), "--yes")
        assert "is being loaded by run other" in loader.run(*rollback, exit_code=1)
        other.give_back(MADE)
        printed = process.communicate()[0]
    assert process.returncode == 0, printed
    first, second = (
        {path.name for path in (tmp_path / name).glob("_state/units/**/*.json")} for name in ("first", "second")
    )
    assert first == second
    for name in ("first", "second"):
        assert holder_of(Objects(parse_location(str(tmp_path / name))), MADE, datetime.now(UTC)) is None
