"""A landing zone in a volume of Databricks from elsewhere: the real databricks-sdk, a stand-in of the API."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from files_api import TOKEN, FilesApi, serving
from files_zone import MEETING, RACE, SESSIONS, fetch_all, fill, open_source, whole

from f1hbase.model.plans import Selection
from f1hbase.state.file_leases import FilesLeases
from f1hbase.stores.files.clients import ObjectInfo
from f1hbase.stores.files.objects import Objects, RefusedError
from f1hbase.stores.files.urls import LocationError, parse_location

pytest.importorskip("databricks.sdk", reason="databricks-sdk (f1hbase[databricks]) is not installed")

ROOT = "/Volumes/dev_f1_data_analytics/raw_data/landing"


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FilesApi]:
    for name in [name for name in os.environ if "DATABRICKS" in name]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))  # no ~/.databrickscfg
    with serving() as files_api:
        monkeypatch.setenv("DBT_DATABRICKS_HOST", files_api.url)
        monkeypatch.setenv("DBT_DATABRICKS_TOKEN", TOKEN)
        yield files_api


def volume() -> Objects:
    return Objects(parse_location("databricks"))


async def test_a_zone_in_a_volume_is_like_one_in_a_folder(api: FilesApi, tmp_path: Path) -> None:
    fill("databricks")
    fill(tmp_path / "zone")
    files = {str(p.relative_to(tmp_path / "zone")) for p in (tmp_path / "zone").rglob("*") if p.is_file()}
    assert {path.removeprefix(f"{ROOT}/") for path in api.files} == files
    assert json.loads(api.files[f"{ROOT}/_f1hbase.json"])["layout"] == "units"
    source = open_source("databricks")
    assert list((await source.listing(Selection())).sessions) == SESSIONS
    answers = await fetch_all(source, [whole("car_data"), whole("laps")])
    assert sum(len(records) for _, records in answers) == 9_003


def test_objects_are_created_once_listed_and_deleted(api: FilesApi) -> None:
    objects = volume()
    assert objects.create("a/b.json", b"1")
    assert not objects.create("a/b.json", b"2")
    assert objects.create("a/b.json", b"1")  # as if the answer had been lost
    objects.put("a/c.json", io.BytesIO(b"123456789"))
    objects.put("d.json", b"4")
    assert {info.path: info.size for info in objects.under("")} == {"a/b.json": 1, "a/c.json": 9, "d.json": 1}
    assert [info.path for info in objects.under("nowhere")] == []
    assert list(objects.chunks(ObjectInfo("a/c.json", 9), 4)) == [b"1234", b"5678", b"9"]
    assert sum(asked == ("GET", f"/api/2.0/fs/files{ROOT}/a/c.json") for asked in api.asked) == 1
    objects.delete(["a/b.json", "a/b.json"])
    assert objects.get("a/b.json") is None
    assert objects.size("a/b.json") is None
    assert objects.get("../outside") is None


def test_leases_work_in_a_volume(api: FilesApi) -> None:
    first, second = FilesLeases(volume(), volume(), "a"), FilesLeases(volume(), volume(), "b")
    assert first.take(MEETING) is None
    assert second.take(MEETING) is not None
    first.raise_epochs(MEETING, ["9558"], 7)
    first.give_back(MEETING)
    assert second.take(MEETING) is None
    assert second.epochs(MEETING).of(RACE) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token_is_one_clear_line_and_not_shown(
    api: FilesApi, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    if status == 401:
        monkeypatch.setenv("DBT_DATABRICKS_TOKEN", "dapi-wrong")
    else:
        api.refuse = 403
    with pytest.raises(RefusedError, match="refuses the key") as error:
        volume().put("x", b"")
    assert ROOT in str(error.value)
    assert "dapi" not in str(error.value)
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 3


def test_a_missing_volume_is_one_clear_line(api: FilesApi) -> None:
    with pytest.raises(RefusedError, match="there is no such volume"):
        Objects(parse_location("/Volumes/dev/raw/nowhere/x")).put("x", b"")


def test_without_credentials_the_way_out_is_named(api: FilesApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DBT_DATABRICKS_HOST")
    monkeypatch.delenv("DBT_DATABRICKS_TOKEN")
    with pytest.raises(LocationError, match="DBT_DATABRICKS_HOST and DBT_DATABRICKS_TOKEN") as error:
        volume()
    assert error.value.exit_code == 2


def test_a_volume_that_is_mounted_is_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_dir", lambda path: str(path) == "/Volumes")
    assert parse_location("databricks").scheme == "file"
