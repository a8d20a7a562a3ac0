"""A landing zone on S3: moto's server, through the real client."""

from __future__ import annotations

import io
import json
import os
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Thread
from typing import IO

import pytest
from files_zone import (
    MEETING,
    RACE,
    SESSIONS,
    START,
    csv_answer,
    fetch_all,
    fill,
    json_answer,
    open_source,
    store,
    whole,
)
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3.models import S3Backend, s3_backends
from replay_server import ReplayServer
from store_servers import moto_s3
from stored_weekend import SESSION_ENDPOINTS, load, weekend
from test_files_load import run

import f1hbase
from f1hbase.composition import open_rollback
from f1hbase.config import resolve
from f1hbase.destinations.files import FilesDestination, FilesRecipe
from f1hbase.errors import F1HBaseError, UnreachableError
from f1hbase.frames.session import NotLoadedError
from f1hbase.model.plans import Selection
from f1hbase.operations.rollback.base import Target
from f1hbase.operations.verify.base import Depth
from f1hbase.operations.verify.files import FilesAuditor
from f1hbase.operations.verify.run import VerifyRequest, verify
from f1hbase.state.file_leases import FilesLeases
from f1hbase.stores.files import extractor
from f1hbase.stores.files.clients import PART_BYTES
from f1hbase.stores.files.objects import Objects, RefusedError
from f1hbase.stores.files.urls import parse_location
from f1hbase.stores.files.zone import create_zone, find_zone

ZONE = "s3://races/openf1"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with moto_s3() as url:
        yield url


@pytest.fixture(autouse=True)
def s3(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    names = {"aws_access_key_id": "testing", "aws_secret_access_key": "hunter2", "region_name": "us-east-1"}
    for name, value in names.items():
        monkeypatch.setenv("AWS_REGION" if name == "region_name" else name.upper(), value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    backend().create_bucket("races", "us-east-1")
    yield
    backend().reset()


def backend() -> S3Backend:
    return s3_backends[DEFAULT_ACCOUNT_ID]["aws"]


def keys() -> set[str]:
    return set(backend().buckets["races"].keys)


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


async def test_a_zone_on_s3_is_like_one_in_a_folder(tmp_path: Path) -> None:
    fill(ZONE)
    fill(tmp_path)
    assert {key.removeprefix("openf1/") for key in keys()} == files_in(tmp_path)
    source = open_source(ZONE)
    assert list((await source.listing(Selection())).sessions) == SESSIONS
    answers = await fetch_all(source, [whole("car_data"), whole("laps")])
    assert sum(len(records) for _, records in answers) == 9_003
    assert all(answer.error is None for answer, _ in answers)


def test_of_many_who_create_an_object_at_once_one_succeeds() -> None:
    """What names by the second, leases and manifests rest on."""
    objects = [Objects(parse_location(ZONE)) for _ in range(6)]
    with ThreadPoolExecutor(len(objects)) as threads:
        for number in range(20):
            path = f"{number}.json"
            won = list(threads.map(lambda at, path=path: objects[at].create(path, b"%d" % at), range(len(objects))))
            assert won.count(True) == 1
            assert objects[0].get(path) == b"%d" % won.index(True)


def test_the_same_content_is_not_uploaded_twice() -> None:
    raw = json_answer("laps?session_key=9558", [{"lap_number": 1}])
    uploaded: list[str] = []

    class Counting(Objects):
        def put(self, path: str, content: bytes | IO[bytes], attributes: Mapping[str, str] | None = None) -> None:
            uploaded.append(path)
            super().put(path, content, attributes or {})

    for _ in range(2):
        destination = FilesDestination(create_zone(Counting(parse_location(ZONE))))
        written = store(destination, whole("laps"), [{}], raw)
    (stored,) = written.receipt.objects
    assert uploaded.count(stored["path"]) == 1
    assert backend().buckets["races"].keys[f"openf1/{stored['path']}"].etag == f'"{stored["stored_md5"]}"'


@pytest.mark.parametrize("target", [Target(sessions=[9558]), Target(meetings=[1240]), Target(run="run")], ids=str)
def test_a_rollback_on_s3_leaves_what_one_in_a_folder_does(tmp_path: Path, target: Target) -> None:
    for place in (ZONE, str(tmp_path)):
        fill(place)
        open_rollback(resolve({"to": [place]}, environment={}), target).carry_out()
    assert {key.removeprefix("openf1/") for key in keys()} == files_in(tmp_path)


def test_leases_work_on_s3() -> None:
    objects = Objects(parse_location(ZONE))
    first, second = FilesLeases(objects, objects, "a"), FilesLeases(objects, objects, "b")
    assert first.take(MEETING) is None
    assert second.take(MEETING) is not None
    first.renew()
    first.raise_epochs(MEETING, ["9558"], 7)
    first.give_back(MEETING)
    assert second.take(MEETING) is None
    assert second.epochs(MEETING).of(RACE) == 1


def test_a_missing_bucket_is_one_clear_line() -> None:
    for call in (lambda o: o.put("x", b""), lambda o: o.get("x"), lambda o: list(o.under("x"))):
        with pytest.raises(RefusedError, match="'s3://nowhere/x': there is no such bucket") as error:
            call(Objects(parse_location("s3://nowhere/x")))
        assert error.value.exit_code == 3
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_one_clear_line_and_not_shown(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    with Answering(status) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(RefusedError, match="refuses the key") as error:
            Objects(parse_location(ZONE), patience=60).put("x", b"")
    assert ZONE in str(error.value)
    assert "hunter2" not in str(error.value)


def test_a_store_that_is_away_is_waited_for_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
    waited: list[float] = []

    class Stop(Event):
        def wait(self, timeout: float | None = None) -> bool:
            waited.append(timeout or 0.0)
            return False

    objects = Objects(parse_location(ZONE), patience=100, stop=Stop(), clock=lambda: sum(waited))
    with pytest.raises(UnreachableError, match=r"'s3://races/openf1' cannot be reached .*--patience") as error:
        objects.get("x")
    assert not isinstance(error.value, RefusedError)
    assert error.value.exit_code == 3
    assert 80 < sum(waited) <= 100


def test_a_store_that_comes_back_is_used_again(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    with Answering(503) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        stop = Event()
        objects = Objects(parse_location(ZONE), patience=100, stop=stop)
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)

        class Back(Event):
            def wait(self, timeout: float | None = None) -> bool:
                objects._client = Objects(parse_location(ZONE))._client
                return False

        objects._stop = Back()
        objects.put("x", b"1")
    assert objects.get("x") == b"1"


def test_keys_of_a_profile_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "credentials").write_text("[races]\naws_access_key_id = a\naws_secret_access_key = b\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "races")
    objects = Objects(parse_location(ZONE))
    objects.put("x", b"1")
    assert objects.get("x") == b"1"


def test_a_recipe_opens_all_that_a_load_needs() -> None:
    recipe = FilesRecipe(parse_location(ZONE))
    stop = Event()
    assert recipe.open_state(0, stop).unit_states(RACE) == []
    recipe.prepare([MEETING])
    destination = recipe.open(workers=1, number=0, patience=0, stop=stop)
    assert destination.name == recipe.name == ZONE
    assert recipe.open_leases("run", 0, stop).take(MEETING) is None
    assert recipe.open_runs(0, stop).runs() == []


class Answering:
    """A server on a port of the loopback interface that answers every request with one status."""

    def __init__(self, status: int) -> None:
        self._answer = f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
        self._socket = socket.create_server(("127.0.0.1", 0))

    def __enter__(self) -> str:
        Thread(target=self._serve, daemon=True).start()
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(self._answer)


# Once


def versions(prefix: str = "openf1/") -> dict[str, int]:
    """Return how often each object was uploaded: the bucket keeps every version."""
    kept = backend().buckets["races"].keys
    return {key: len(kept.getlist(key)) for key in list(kept) if key.startswith(prefix) and "_state/runs" not in key}


def requests(api: ReplayServer) -> list[str]:
    return [one["path"] for one in api.log() if not one["path"].endswith(("/sessions", "/meetings"))]


@pytest.mark.parametrize("layout", ["units", "extractor", "dated"])
def test_a_second_load_sends_no_request_and_uploads_nothing(tmp_path: Path, layout: str) -> None:
    backend().put_bucket_versioning("races", "Enabled")
    run("simulator", "make", "made", "--minutes", "1", "--sessions", "race", "--drivers", "2", cwd=tmp_path)
    with ReplayServer(tmp_path / "made") as api:
        options = ("f1hbase", "load", "--to", ZONE, "--layout", layout, "--year", "2025", "--api-url", api.url)
        assert "all that was asked for is loaded" in run(*options, cwd=tmp_path)
        asked, before = requests(api), versions()
        assert "0 sessions worked on" in run(*options, cwd=tmp_path)
        assert requests(api) == asked  # what is listed aside, which says what there is
        assert versions() == before
        # Asked for again and unchanged: nothing but manifests and leases is written.
        run(*options, "--refresh", cwd=tmp_path)
    uploaded = {key for key, number in versions().items() if number != before.get(key)}
    assert {key.split("/")[1] for key in uploaded} == {"_state"}
    assert {key.split("/")[2] for key in uploaded} <= {"units", "leases"}


def test_a_copy_to_another_zone_and_back_uploads_nothing_new(tmp_path: Path) -> None:
    backend().put_bucket_versioning("races", "Enabled")
    fill(ZONE)
    before = versions()
    fill(ZONE)
    answers = {key: number for key, number in versions().items() if "_state" not in key}
    assert answers == {key: number for key, number in before.items() if "_state" not in key}


def test_a_changed_answer_is_a_new_object_and_the_newest_counts() -> None:
    destination = FilesDestination(create_zone(Objects(parse_location(ZONE))))
    for lap_duration in (88.1, 88.2):
        store(destination, whole("laps"), [{}], json_answer("laps?session_key=9558", [{"lap_duration": lap_duration}]))
    assert len([key for key in keys() if "endpoint=laps" in key]) == 2
    (records,) = [list(some) for some in open_source(ZONE)._reader.read(whole("laps"))]
    assert records == [{"lap_duration": 88.2}]


class Tags:
    """Gives objects a tag of the store's own, as KMS does, or spoils what arrives."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tag: str, *, spoil: bool = False) -> None:
        stored = S3Backend.put_object

        def put_object(self: S3Backend, bucket: str, name: str, value: bytes, *rest: object, **more: object) -> object:
            key = stored(self, bucket, name, value[:-1] + b"?" if spoil else value, *rest, **more)  # type: ignore[arg-type]
            key._etag = tag
            return key

        monkeypatch.setattr(S3Backend, "put_object", put_object)


def test_a_tag_that_is_no_md5_of_the_content_is_minded(monkeypatch: pytest.MonkeyPatch) -> None:
    Tags(monkeypatch, "0" * 32)
    objects = Objects(parse_location(ZONE))
    objects.put("x", b"content")
    assert objects.get("x") == b"content"
    # Seen again it is compared by its content, as its tag says nothing.
    assert objects.holds("x", b"content") is True
    assert objects.holds("x", b"changed") is False
    assert objects.holds("y", b"content") is None


def test_what_arrived_otherwise_than_it_was_sent_is_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    Tags(monkeypatch, "0" * 32, spoil=True)
    with pytest.raises(UnreachableError, match="was not received as it was sent"):
        Objects(parse_location(ZONE)).put("x", b"content")


@pytest.mark.parametrize("encrypted", [False, True])
def test_an_object_in_parts_is_checked_by_their_md5s(monkeypatch: pytest.MonkeyPatch, encrypted: bool) -> None:
    objects = Objects(parse_location(ZONE))
    content = os.urandom(PART_BYTES + 1_000)
    read: list[str] = []
    client = objects._reading()

    def get_range(path: str, start: int, end: int) -> bytes:
        read.append(path)
        return content[start:end]

    monkeypatch.setattr(client, "get_range", get_range)
    if encrypted:
        complete = S3Backend.complete_multipart_upload

        def completed(self: S3Backend, *rest: object, **more: object) -> object:
            key = complete(self, *rest, **more)  # type: ignore[arg-type]
            assert key is not None
            key._etag = f"{'0' * 32}-2"
            return key

        monkeypatch.setattr(S3Backend, "complete_multipart_upload", completed)
    objects.put("locations.json", io.BytesIO(content))
    assert bytes(backend().buckets["races"].keys["openf1/locations.json"].value) == content
    assert bool(read) == encrypted  # the tag says it, unless the store encrypts


def test_the_metadata_of_dated_answers_is_the_objects() -> None:
    destination = FilesDestination(create_zone(Objects(parse_location(ZONE)), "dated"))
    store(destination, whole("laps"), [{}], json_answer("laps?session_key=9558", [{"lap_number": 1}]))
    (key,) = [key for name, key in backend().buckets["races"].keys.items() if "/raw/" in name]
    metadata = {name.lower().removeprefix("x-amz-meta-"): value for name, value in key.metadata.items()}
    assert metadata["source"] == "openf1"
    assert metadata["ingest_time_utc"] == "2024-09-01T00:00:01+00:00"
    assert metadata.get("content-type", "application/json") == "application/json"


@pytest.mark.parametrize("where", ["s3", "folder"])
def test_a_large_file_of_an_extractor_is_sent_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(extractor, "_SPOOL_BYTES", 10_000)
    zone = ZONE if where == "s3" else str(tmp_path)
    destination = FilesDestination(create_zone(Objects(parse_location(zone)), "extractor"))
    raw = csv_answer(START, 100_000)
    store(destination, whole("car_data"), [{}], raw)
    content = Objects(parse_location(zone)).get("car_data_2024-07-07.json") or b""
    assert len(content) > PART_BYTES
    records = json.loads(content)
    assert len(records) == 100_000
    assert records[-1]["batch_day"] == "2024-07-07"
    store(destination, whole("car_data"), [{}], raw)  # made again, it is the same, and not sent


def test_a_zone_on_s3_is_verified_as_one_in_a_folder() -> None:
    fill(ZONE)
    zone = find_zone(Objects(parse_location(ZONE)))
    assert zone is not None
    for deep in (False, True):
        assert not verify(VerifyRequest(depth=Depth(deep=deep)), FilesAuditor(zone)).differences
    gone, changed = sorted(path for path in keys() if "endpoint=car_data" in path and "/source=" in path)
    packed = bytearray(backend().buckets["races"].keys[changed].value)
    packed[len(packed) // 2] ^= 1
    zone.objects.put(changed.removeprefix("openf1/"), bytes(packed))
    zone.objects.delete([gone.removeprefix("openf1/")])
    quick = verify(VerifyRequest(), FilesAuditor(zone)).differences
    assert [one.kind.value for one in quick] == ["objects", "missing rows"]
    assert f"'{gone.removeprefix('openf1/')}' does not exist" in str(quick[0])
    deep_look = verify(VerifyRequest(depth=Depth(deep=True)), FilesAuditor(zone)).differences
    texts = [str(one) for one in deep_look if one.kind.value == "objects"]
    assert len(texts) == 2
    assert any(f"'{changed.removeprefix('openf1/')}' is damaged: " in text for text in texts)


# --- reading it back ---


@pytest.fixture
def loaded(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    """A simulated weekend in a zone on S3 and, as is returned, in a folder."""
    files = weekend(tmp_path_factory.getbasetemp())
    load(files, to=[ZONE, str(tmp_path / "zone")])
    return tmp_path / "zone"


def test_what_is_on_s3_is_read_back_as_from_a_folder(loaded: Path) -> None:
    with f1hbase.open(ZONE) as there, f1hbase.open(loaded) as here:
        assert there.home == ZONE
        for listing in ("meetings", "sessions"):
            assert getattr(there, listing)().to_pylist() == getattr(here, listing)().to_pylist()
        key = here.sessions()["session_key"].to_pylist()[-1]
        one, other = there.session(key), here.session(key)
        for endpoint in SESSION_ENDPOINTS:
            frame, wanted = one.read(endpoint), other.read(endpoint)
            assert frame.to_arrow().equals(wanted.to_arrow()), endpoint
            assert (frame.state, frame.missing) == (wanted.state, wanted.missing) == ("complete", [])
        driver = other.drivers()["driver_number"].to_pylist()[0]
        assert one.telemetry(driver, lap=2).equals(other.telemetry(driver, lap=2).to_arrow())
        batches = list(one.car_data().batches(rows=1000))
        assert sum(batch.num_rows for batch in batches) == other.car_data().num_rows
        assert max(batch.num_rows for batch in batches) == 1000


def test_what_is_not_on_s3_is_one_clear_line(loaded: Path) -> None:
    del loaded
    store = f1hbase.open(ZONE)
    with pytest.raises(NotLoadedError, match=f"there is no session 1 in {ZONE}; it has "):
        store.session(1)
    laps = [key for key in keys() if "endpoint=laps" in key and not key.startswith("openf1/_")]
    assert laps
    session = store.session(store.sessions()["session_key"].to_pylist()[-1])
    for key in laps:
        backend().delete_object("races", key)
    with pytest.raises(F1HBaseError) as error:
        session.laps().to_arrow()
    assert "\n" not in str(error.value)
    assert "hunter2" not in str(error.value)
    for place in ("s3://nowhere/zone", "s3://races/empty"):
        with pytest.raises(F1HBaseError, match=place) as error:
            f1hbase.open(place)
        assert "\n" not in str(error.value)
