"""A landing zone on Google's and Azure's object stores, by servers that stand in for them and the real client."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from files_zone import MEETING, SESSIONS, fetch_all, fill, open_source, whole
from store_servers import azurite, fake_gcs

from f1hbase.errors import F1HBaseError
from f1hbase.model.plans import Selection
from f1hbase.state.file_leases import FilesLeases
from f1hbase.stores.files.clients import PART_BYTES
from f1hbase.stores.files.objects import Objects, RefusedError
from f1hbase.stores.files.urls import parse_location

BUCKET = "races"


@pytest.fixture(scope="module", params=["gs", "az"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a store; return its scheme."""
    server = fake_gcs if request.param == "gs" else azurite
    with pytest.MonkeyPatch.context() as patch, server(tmp_path_factory.mktemp("store"), BUCKET) as environment:
        for name in [name for name in os.environ if name.startswith(("AZURE_", "GOOGLE_", "STORAGE_"))]:
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        yield request.param


async def test_a_zone_there_is_like_one_in_a_folder(store: str, tmp_path: Path) -> None:
    zone = f"{store}://{BUCKET}/like"
    fill(zone)
    fill(tmp_path)
    there = {info.path for info in Objects(parse_location(zone)).under("")}
    assert there == {info.path for info in Objects(parse_location(str(tmp_path))).under("")}
    source = open_source(zone)
    assert list((await source.listing(Selection())).sessions) == SESSIONS
    answers = await fetch_all(source, [whole("car_data"), whole("laps")])
    assert sum(len(records) for _, records in answers) == 9_003


def test_objects_are_created_once_and_leases_work(store: str) -> None:
    objects = Objects(parse_location(f"{store}://{BUCKET}/leases"))
    assert objects.create("a/b.json", b"1", {"Content-Type": "application/json", "source": "openf1"})
    assert not objects.create("a/b.json", b"2")
    first, second = FilesLeases(objects, objects, "a"), FilesLeases(objects, objects, "b")
    assert first.take(MEETING) is None
    assert second.take(MEETING) is not None
    first.raise_epochs(MEETING, ["9558"], 7)
    first.give_back(MEETING)
    assert second.take(MEETING) is None


def test_a_large_object_comes_in_parts_and_whole(store: str) -> None:
    objects = Objects(parse_location(f"{store}://{BUCKET}/large"))
    content = os.urandom(2 * PART_BYTES + 12_345)
    objects.put("locations.json", io.BytesIO(content))
    (info,) = objects.under("")
    assert b"".join(objects.chunks(info)) == content
    objects.delete(["locations.json", "nothing.json"])
    assert objects.get("locations.json") is None


def test_a_missing_bucket_is_one_clear_line(store: str) -> None:
    with pytest.raises(RefusedError, match="there is no such bucket") as error:
        Objects(parse_location(f"{store}://nowhere/x")).put("x", b"")
    assert "\n" not in str(error.value)


def test_googles_key_may_be_given_as_text_and_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    key = {"type": "service_account", "client_email": "x@y", "private_key": "hunter2", "private_key_id": "1"}
    for text in (json.dumps(key), "hunter2", '{"private_key": "hunter2"}'):
        monkeypatch.setenv("GOOGLE_CREDENTIALS", text)
        with pytest.raises(F1HBaseError, match="races") as error:
            Objects(parse_location("gs://races/x")).get("x")
        assert "hunter2" not in str(error.value)
        assert "\n" not in str(error.value)
