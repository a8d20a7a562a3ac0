"""What the web pages are told: the numbers of the tables, with the right status, made anew when more is stored."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import importlib.util
import io
import json
import struct
import subprocess
import sys
import tarfile
import threading
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from pages_server import serving
from stored_weekend import load, records, scopes, weekend

import f1hbase
from f1hbase.charts import SessionTables, lap_times
from f1hbase.errors import UnreachableError
from f1hbase.frames.session import NotLoadedError, Session
from f1hbase.frames.store import Store
from f1hbase.model.plans import SessionPlan
from f1hbase.serve.pages.answers import CHARTS
from f1hbase.serve.pages.replay import STEPS_A_SECOND, places
from f1hbase.serve.pages.shared import FRESH_SECONDS, MOST_WAITING, THREADS, BusyError, SharedStore
from f1hbase.serve.pages.tables import SharedTables

_ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weekend(tmp_path_factory.mktemp("pages"))


@pytest.fixture(scope="module")
def zone(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("zone") / "zone"
    load(files, to=str(place))
    return place


@pytest.fixture(scope="module")
def server(zone: Path) -> Iterator[str]:
    with serving(zone) as address:
        yield address


@pytest.fixture(scope="module")
def race(zone: Path, files: Path) -> Session:
    (record,) = records(files, "sessions", session_name="Race")
    return f1hbase.open(zone).session(record["session_key"])


def ask(address: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    request = urllib.request.Request(address, headers=headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read(), {name.lower(): value for name, value in answer.headers.items()}
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), {name.lower(): value for name, value in error.headers.items()}


def asked(address: str) -> Any:
    status, body, _ = ask(address)
    assert status == 200, body
    return json.loads(body)


# --- data ---


@pytest.mark.parametrize("chart", sorted(CHARTS))
def test_every_chart_of_every_session_is_columns_of_one_length(server: str, files: Path, chart: str) -> None:
    for scope in scopes(files):
        found = asked(f"{server}/pages/data/session/{scope.session_key}/{chart}")
        assert len({len(column) for column in found["columns"].values()}) <= 1
        assert isinstance(found["missing"], list)


def test_laps_are_those_of_the_table(server: str, race: Session) -> None:
    found = asked(f"{server}/pages/data/session/{race.key}/laps")
    columns = found["columns"]
    keys = zip(columns["driver_number"], columns["lap_number"], columns["seconds"], strict=True)
    table = race.laps().to_pylist()
    assert sorted(map(str, keys)) == sorted(
        str((row["driver_number"], row["lap_number"], row["lap_duration"])) for row in table
    )
    assert found["outlier"] == lap_times(SessionTables(race)).outlier.tolist()


def test_a_session_names_its_drivers_and_how_much_of_it_is_stored(server: str, race: Session) -> None:
    found = asked(f"{server}/pages/data/session/{race.key}")
    assert {driver["acronym"] for driver in found["drivers"]} == set(race.drivers()["name_acronym"].to_pylist())
    assert found["state"] == "complete"
    assert found["endpoints"]["car_data"] == {"state": "complete", "missing": []}
    assert found["is_race"]


def test_places_are_on_the_straight_line_between_the_samples(race: Session) -> None:
    samples = race.location().to_pylist()
    driver = samples[0]["driver_number"]
    mine = [row for row in samples if row["driver_number"] == driver]
    start = mine[len(mine) // 2]["date"].replace(microsecond=0)
    answer = places(SessionTables(race), start, 20)
    (length,) = struct.unpack_from("<I", answer)
    head = json.loads(answer[4 : 4 + length])
    assert (4 + length) % 4 == 0
    assert head["start"] == start.timestamp() * 1000
    values = np.frombuffer(answer, "<f4", offset=4 + length).reshape(len(head["drivers"]), 2, head["count"])
    at = head["drivers"].index(driver)
    for step in range(0, head["count"], 7):
        moment = start + timedelta(seconds=step * head["step"])
        before = max((row for row in mine if row["date"] <= moment), key=lambda row: row["date"])
        after = min((row for row in mine if row["date"] >= moment), key=lambda row: row["date"])
        for axis, name in enumerate("xy"):
            low, high = sorted((before[name] / 10, after[name] / 10))
            assert low - 0.01 <= values[at, axis, step] <= high + 0.01


def test_a_car_is_nowhere_before_its_first_place_and_after_its_last(race: Session) -> None:
    last = max(row["date"] for row in race.location().to_pylist())
    answer = places(SessionTables(race), last + timedelta(seconds=10), 4)
    (length,) = struct.unpack_from("<I", answer)
    assert json.loads(answer[4 : 4 + length])["drivers"] == []
    answer = places(SessionTables(race), last - timedelta(seconds=2), 60)
    (length,) = struct.unpack_from("<I", answer)
    values = np.frombuffer(answer, "<f4", offset=4 + length).reshape(-1, 2, 60 * STEPS_A_SECOND)
    assert np.isnan(values[:, :, 3 * STEPS_A_SECOND :]).all()
    assert not np.isnan(values[:, :, 0]).all()


# --- statuses and headers ---


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("data/session/{key}/telemetry", 400, "1 to 8 laps"),
        ("data/session/{key}/telemetry?lap=%3Cb%3E", 400, "44-12"),
        ("data/session/{key}/telemetry?" + "&".join(["lap=1"] * 9), 400, "1 to 8 laps"),
        ("data/session/{key}/telemetry?lap=999", 404, "999"),
        ("data/session/{key}/telemetry?lap=1-999", 404, "999"),
        ("data/session/{key}/places?start=1&seconds=901", 400, "seconds"),
        ("data/session/{key}/places?start=x&seconds=1", 400, "start"),
        ("data/session/{key}/places?start=99999999999&seconds=1", 400, "start"),
        ("data/session/{key}/nothing", 404, "there are laps"),
        ("data/session/1/laps", 404, "there is no session 1"),
        ("data/nothing", 404, "no such page"),
        ("session/1", 404, "there is no session 1"),
        ("telemetry/{key}?lap=98-1", 404, "there is no driver 98"),
        ("telemetry/{key}?lap=%3Cscript%3E", 400, "44-12"),
        ("session/99999999999", 404, "no such page"),
        ("static/app.py", 404, "no file"),
        (f"static/{'a' * 5000}.js", 404, "no file"),
        ("static/..%2fapp.py", 404, ""),
        ("static/vendor/VERSION", 404, "no file"),
        ("nothing", 404, "no such page"),
    ],
)
def test_what_makes_no_sense_or_is_not_there_has_its_status_and_words(
    server: str, race: Session, path: str, status: int, words: str
) -> None:
    found, body, headers = ask(f"{server}/pages/{path.format(key=race.key)}")
    assert found == status
    assert words in body.decode()
    assert "unsafe" not in headers["content-security-policy"]


def test_pages_only_read(server: str) -> None:
    request = urllib.request.Request(f"{server}/pages/", data=b"x")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    with refused.value as error:
        assert error.code == 405
        assert b"only read" in error.read()


@pytest.mark.parametrize("path", ["", "session/{key}", "data/loaded", "data/session/{key}/laps", "static/base.js"])
def test_nothing_inline_runs_and_nothing_of_another_host(server: str, race: Session, path: str) -> None:
    status, body, headers = ask(f"{server}/pages/{path.format(key=race.key)}")
    assert status == 200
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert headers["x-content-type-options"] == "nosniff"
    if path in ("", "session/{key}"):
        for inline in (b"<style", b" style=", b"onclick", b"javascript:", b"https://", b"http://"):
            assert inline not in body


def test_a_browser_that_has_an_answer_is_not_sent_it_again(server: str, race: Session) -> None:
    for path in (f"data/session/{race.key}/laps", "static/pages.css"):
        _, _, headers = ask(f"{server}/pages/{path}")
        status, body, again = ask(f"{server}/pages/{path}", **{"If-None-Match": headers["etag"]})
        assert (status, body, again["etag"]) == (304, b"", headers["etag"])


def test_serve_says_where_the_pages_are(zone: Path) -> None:
    command = [sys.executable, str(_ROOT / "hbase_populate_openF1.py"), "serve", "--from", str(zone), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline().startswith("serving http://127.0.0.1:")
            address = process.stdout.readline().removeprefix("web pages: ").strip()
            status, body, _ = ask(address)
            assert (status, b"What is loaded" in body) == (200, True)
        finally:
            process.terminate()


def test_the_api_is_served_beside_the_pages(server: str, race: Session) -> None:
    laps = asked(f"{server}/v1/laps?session_key={race.key}")
    assert len(laps) == len(race.laps())


# --- more is stored ---


def test_what_is_stored_meanwhile_is_shown(files: Path, race: Session, tmp_path: Path) -> None:
    place = str(tmp_path / "zone")
    load(files, to=place, session_key=race.key, endpoint=["meetings", "sessions", "drivers"])
    now = [0.0]
    shared = SharedStore(lambda: f1hbase.open(place), clock=lambda: now[0])
    try:
        before = shared.answer(race.key, "laps", count_laps)
        load(files, to=place, session_key=race.key, endpoint=["laps"])
        assert shared.answer(race.key, "laps", count_laps) == before
        now[0] += FRESH_SECONDS + 1
        after = shared.answer(race.key, "laps", count_laps)
        assert (before[1], after[1]) == (b"0", str(len(race.laps())).encode())
        assert after[0] != before[0]
        # What has not changed since is not made again.
        now[0] += FRESH_SECONDS + 1
        assert shared.answer(race.key, "laps", lambda _: b"made again") == after
    finally:
        asyncio.run(shared.close())


def count_laps(tables: SessionTables) -> bytes:
    return str(tables.table("laps").num_rows).encode()


def test_a_load_is_told_as_it_ends(files: Path, race: Session, tmp_path: Path) -> None:
    place = tmp_path / "zone"
    load(files, to=str(place), session_key=race.key, endpoint=["meetings", "sessions", "drivers"])
    address = "/pages/data/progress"
    with serving(place, idle_seconds=0.1) as server, urllib.request.urlopen(server + address, timeout=30) as events:
        assert events.headers["Content-Type"].startswith("text/event-stream")
        first = next_overview(events)
        load(files, to=str(place), session_key=race.key, endpoint=["laps"])
        while (found := next_overview(events))["rows"] < first["rows"] + len(race.laps()):
            pass
        (meeting,) = found["seasons"][0]["meetings"]
        (session,) = meeting["sessions"]
        assert session["by_endpoint"]["laps"] == len(race.laps())


def next_overview(events: Any) -> Any:
    name = ""
    for line in events:
        if line.startswith(b"event: "):
            name = line.removeprefix(b"event: ").strip().decode()
        elif line.startswith(b"data: ") and name == "overview":
            return json.loads(line.removeprefix(b"data: "))
    raise AssertionError("the events have ended")


# --- the store, shared ---


class Counted(Store):
    """A store that says whether it is closed."""

    def __init__(self, zone: Path) -> None:
        super().__init__(f1hbase.open(zone)._reader)
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True
        super().close()


def test_a_store_that_fails_is_opened_anew_and_closed_when_nobody_uses_it(zone: Path, race: Session) -> None:
    made: list[Counted] = []

    def open_one() -> Store:
        made.append(Counted(zone))
        return made[-1]

    shared = SharedStore(open_one)

    def fail(store: Store) -> None:
        # Another one asks at the same time, and is not disturbed.
        assert shared.with_session(race.key, lambda tables: tables.session.key) == race.key
        raise UnreachableError("the gateway has gone")

    with pytest.raises(UnreachableError):
        shared.with_store(fail)
    assert [one.is_closed for one in made] == [True]
    with pytest.raises(NotLoadedError):
        shared.with_session(1, lambda _: None)
    shared.with_session(race.key, lambda _: None)
    assert [one.is_closed for one in made] == [True, False]
    asyncio.run(shared.close())
    assert made[-1].is_closed


def test_a_table_is_read_once_however_many_charts_need_it_at_once(race: Session) -> None:
    reads: list[str] = []
    everybody = threading.Barrier(4)

    class Counting(Session):
        def read(self, endpoint: str, **options: Any) -> Any:
            reads.append(endpoint)
            return super().read(endpoint, **options)

    tables = SharedTables(Counting(race._reader, SessionPlan(race.scope, race.record)))

    def ask() -> int:
        everybody.wait()
        return int(tables.table("laps").num_rows)

    with ThreadPoolExecutor(4) as threads:
        asking = [threads.submit(ask) for _ in range(4)]
    assert [one.result() for one in asking] == [len(race.laps())] * 4
    assert reads == ["laps"]


async def test_too_many_questions_are_refused(zone: Path) -> None:
    shared = SharedStore(lambda: f1hbase.open(zone))
    go_on = threading.Event()
    waiting = [asyncio.create_task(shared.run(go_on.wait)) for _ in range(THREADS + MOST_WAITING)]
    await asyncio.sleep(0)
    try:
        with pytest.raises(BusyError, match="ask again"):
            await shared.run(lambda: None)
    finally:
        go_on.set()
        await asyncio.gather(*waiting)
        await shared.close()


# --- the charting library ---


@pytest.fixture(scope="module")
def assets() -> ModuleType:
    spec = importlib.util.spec_from_file_location("web_assets", _ROOT / "scripts" / "web_assets.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def packed(assets: ModuleType, content: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name in assets.FILES:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def test_only_the_published_library_is_taken(
    assets: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tarball = tmp_path / "uplot.tgz"
    tarball.write_bytes(packed(assets, b"something else"))
    with pytest.raises(assets.AssetsError, match="not the published one"):
        assets.provide(tarball, tmp_path / "vendor")
    assert not (tmp_path / "vendor").exists()
    digest = base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
    monkeypatch.setattr(assets, "INTEGRITY", f"sha512-{digest}")
    assert assets.provide(tarball, tmp_path / "vendor") is True
    assert (tmp_path / "vendor" / "uPlot.iife.min.js").read_bytes() == b"something else"
    assert assets.provide(tarball, tmp_path / "vendor") is False


def test_without_npm_it_says_what_to_do(assets: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(assets.AssetsError, match=r"no npm to fetch .*npm pack uplot@"):
        assets.provide(folder=tmp_path / "vendor")


def test_a_wheel_has_the_pages_and_the_library_with_its_licence(assets: ModuleType, tmp_path: Path) -> None:
    if not all((assets.VENDOR / name).is_file() for name in assets.FILES.values()):
        pytest.skip("uPlot was not fetched: python scripts/web_assets.py")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=_ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    pages = _ROOT / "f1hbase" / "serve" / "pages"
    own = [path for folder in ("html", "static") for path in (pages / folder).iterdir() if path.is_file()]
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        assert {str(path.relative_to(_ROOT)) for path in own} <= names
        licence = archive.read("f1hbase/serve/pages/static/vendor/uPlot.LICENSE.txt").decode()
    assert "f1hbase/serve/pages/static/vendor/uPlot.iife.min.js" in names
    assert "MIT" in licence
