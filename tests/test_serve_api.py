"""The server answers as OpenF1's own software does; what of that is in docs/serve.md."""

import asyncio
import gzip
import json
import operator
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st
from replay_server import ReplayServer
from yarl import URL

from f1hbase.model.rates import parse_rates
from f1hbase.serve import file_store
from f1hbase.serve.app import EMPTY_FORMS
from f1hbase.serve.app import create_app as create_server
from f1hbase.serve.file_store import FileStore, RecordFilesError
from f1hbase.serve.query import MOST_BOUNDS, Query, parse_query
from f1hbase.serve.store import StoreFailedError, StoreUnavailableError
from f1hbase.serve.times import filter_span, instant, isoformat
from simulator.app import LOG, Credentials, create_app
from simulator.limits import SlidingWindows

REAL = Path(__file__).parents[2] / "shared" / "openf1-real"

Record = dict[str, Any]
Get = Callable[[str], Awaitable[tuple[int, Any]]]


def record(**fields: Any) -> bytes:
    return json.dumps({"meeting_key": 7, "session_key": 70, **fields}, ensure_ascii=False).encode()


CARS = [
    record(driver_number=driver, date=date, speed=speed)
    for driver in (1, 10)
    for date, speed in (
        ("2023-09-15T13:00:00.500000+00:00", 100),
        ("2023-09-15T13:00:00+00:00", 90),
        ("2023-09-15T23:59:59.999000+00:00", 300),
        ("2023-09-16T00:00:00+00:00", 310),
    )
]
LAPS = [
    record(driver_number=1, lap_number=1, date_start=None, is_pit_out_lap=True, lap_duration=None, codes=[None, 1]),
    record(
        driver_number=1,
        lap_number=2,
        date_start="2023-09-15T13:01:00+00:00",
        is_pit_out_lap=False,
        lap_duration=91.5,
        codes=[2049, None],
    ),
]
SESSIONS = [
    record(session_key=70, date_start="2023-09-15T13:00:00+00:00", session_name="Practice 1", is_cancelled=False),
    record(session_key=71, date_start="2023-09-16T13:00:00+00:00", session_name="Qualifying", is_cancelled=False),
    record(session_key=72, date_start="2023-09-17T13:00:00+00:00", session_name="Race", is_cancelled=True),
    record(session_key=73, date_start="9023-09-17T13:00:00+00:00", session_name="Later", is_cancelled=False),
]
TEAMS = [record(team_name="Écurie Étoile", points=3), record(team_name="Kick & Sons", points=1)]


@pytest.fixture
def store() -> FileStore:
    store = FileStore()
    store.add("car_data", CARS)
    store.add("laps", LAPS)
    store.add("sessions", SESSIONS)
    store.add("championship_teams", TEAMS)
    return store


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[web.Application], Awaitable[Get]]]:
    clients = []

    async def start(app: web.Application) -> Get:
        client: TestClient[web.Request, web.Application] = TestClient(TestServer(app))
        await client.start_server()
        clients.append(client)

        async def get(path: str) -> tuple[int, Any]:
            # Encoded already: yarl would otherwise hide the spellings that these tests are about.
            url = URL(f"{client.make_url('/')}v1/{path}", encoded=True)
            async with client.session.get(url) as answer:
                text = await answer.text()
                return answer.status, json.loads(text) if answer.content_type == "application/json" else text

        return get

    yield start
    for client in clients:
        await client.close()


@pytest.fixture
async def get(store: FileStore, serve: Callable[[web.Application], Awaitable[Get]]) -> Get:
    return await serve(create_app(store))


async def speeds(get: Get, query: str) -> list[int]:
    status, answer = await get(f"car_data?{query}")
    assert status == 200
    return [one["speed"] for one in answer]


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("speed=100", [100]),
        ("speed>100", [300, 310]),
        ("speed>=100", [100, 300, 310]),
        ("speed<100", [90]),
        ("speed<=100", [90, 100]),
        ("speed%3E%3D100&speed%3C310", [100, 300]),
        ("speed%3E=100&speed%3C=300", [100, 300]),
        ("speed%3E%3D=300", []),
        ("speed==300", []),
        ("date==2023-09-15", []),
        ("speed=90&speed=310", [90, 310]),
        ("speed=90&speed=310&speed>100", [90, 300, 310]),
        ("speed=90&speed>=100&speed<300", [90, 100]),
        ("speed>=300&speed<100", [90, 300, 310]),
        ("speed>90&speed>100", [100, 300, 310]),
        ("speed>=90&speed<100&speed>=300&speed<310", [90, 300]),
        ("speed>=90&speed<300&speed<310", [90, 100, 300]),
        ("speed=nan", []),
        ("speed=true", []),
        ("date>5", []),
        ("date=2023-09-15", [90, 100, 300]),
        ("date>2023-09-15", [310]),
        ("date>=2023-09-15", [90, 100, 300, 310]),
        ("date<2023-09-15", []),
        ("date<=2023-09-15", [90, 100, 300]),
        ("date>2023-09-15T13:00:00&date<2023-09-16", [100, 300]),
        ("date>=2023-09-15T13:00&date<2023-09-15T13:00:01", [90, 100]),
        ("date=2023-09-15T13:00:00.500", [100]),
        ("date>=2023-09-15T15:00:00+02:00&date<2023-09-15T13:00:01", [90, 100]),
        ("date>=2023-09-15T15:00:00%2B02:00&date<2023-09-15T13:00:01Z", [90, 100]),
        ("date=2023-09-15&date=2023-09-16T00:00:00&date=2023-09-15T13:00:00", [90, 100, 300, 310]),
        ("date>2023-09-15T13:00:00&date>2023-09-15", [100, 300, 310]),
        ("date<2023-09-15T13:00:00.1&date>=2023-09-16", [90, 310]),
        ("date=2023-09-16T00:00:00&date<2023-09-15T13:00:00.1", [90, 310]),
        ("date>=2023-09-15T13:00:00.500999&date<2023-09-16", [100, 300]),
        ("date<=2023-09-15T13:00:00.500001", [90, 100]),
        ("date>2023-09-15T13:00:00.000999&date<2023-09-16", [100, 300]),
        ("date>=2023-09-15T23&date<2023-09-16", [300]),
        ("session_key=abc", []),
        ("team=none", []),
        ("speed=fast", []),
    ],
)
async def test_filters(get: Get, query: str, wanted: list[int]) -> None:
    assert await speeds(get, f"driver_number=1&{query}") == wanted


@pytest.mark.parametrize(
    ("query", "laps"),
    [
        ("is_pit_out_lap=true", [1]),
        ("is_pit_out_lap=False", [2]),
        ("is_pit_out_lap>=false", [1, 2]),
        ("is_pit_out_lap>false", [1]),
        ("is_pit_out_lap=1", []),
        ("lap_duration<92", [2]),
        ("date_start>=2023-09-15", [2]),
        ("codes=2049", [2]),
        ("lap_number>1", [2]),
        ("lap_number=1&lap_number=2", [1, 2]),
    ],
)
async def test_filters_of_booleans_lists_and_nulls(get: Get, query: str, laps: list[int]) -> None:
    _, answer = await get(f"laps?{query}")
    assert [one["lap_number"] for one in answer] == laps


async def test_text_is_compared_decoded(get: Get) -> None:
    _, answer = await get("championship_teams?team_name=%C3%89curie%20%C3%89toile&team_name=Kick+%26+Sons")
    assert [one["points"] for one in answer] == [3, 1]


async def test_repeating_a_field_means_or(get: Get) -> None:
    assert len(await speeds(get, "driver_number=1&driver_number=10&date<2023-09-16")) == 6
    assert len(await speeds(get, "driver_number>1&driver_number<10")) == 0
    assert len(await speeds(get, "driver_number>=10&driver_number<2")) == 8
    assert len(await speeds(get, "session_key=70&session_key=71&session_key=70")) == 8
    assert len(await speeds(get, "session_key=71&session_key=72")) == 0
    assert len(await speeds(get, "session_key=70.0")) == 8


async def test_latest_is_the_session_that_has_begun_last_and_takes_place(get: Get) -> None:
    _, by_session = await get("sessions?session_key=latest")
    assert [one["session_key"] for one in by_session] == [71]
    _, by_meeting = await get("sessions?meeting_key=latest")
    assert len(by_meeting) == 4


async def test_without_a_session_that_takes_place_latest_is_a_500(
    serve: Callable[[web.Application], Awaitable[Get]],
) -> None:
    store = FileStore()
    store.add("sessions", [record(date_start="2023-09-15T13:00:00+00:00"), *SESSIONS[2:]])
    status, answer = await (await serve(create_app(store)))("sessions?session_key=latest")
    assert status == 500
    assert answer.endswith("SystemError: Could not find any past or current session in MongoDB\n</pre>")


def test_a_session_counts_as_begun_a_minute_before_it_does() -> None:
    for early, latest in ((61, None), (59, 70)):
        now = instant("2023-09-15T13:00:00") / 1_000_000 - early
        store = FileStore(clock=lambda now=now: now)  # type: ignore[misc]
        store.add("sessions", SESSIONS)
        assert store.latest("session_key") == latest


async def test_csv(get: Get) -> None:
    _, laps = await get("laps?csv=true")
    assert laps.splitlines() == [
        "codes,date_start,driver_number,is_pit_out_lap,lap_duration,lap_number,meeting_key,session_key",
        '"[None, 1]",,1,True,,1,7,70',
        '"[2049, None]",2023-09-15 13:01:00+00:00,1,False,91.5,2,7,70',
    ]
    _, cars = await get("car_data?driver_number=1&speed=100&csv=true")
    assert cars.splitlines()[1] == "2023-09-15 13:00:00.500000+00:00,1,7,70,100"
    for text, is_csv in (("true", True), ("1", True), ("no", True), ("false", False), ("0", False)):
        _, answer = await get(f"laps?csv={text}")
        assert isinstance(answer, str) == is_csv


async def test_no_records_are_an_empty_list_and_in_csv_a_500(get: Get) -> None:
    for path in ("car_data?driver_number=99", "weather", "no_such_endpoint", "sessions?year=2020"):
        assert await get(path) == (200, [])
    status, page = await get("car_data?speed=1&csv=true")
    assert status == 500
    assert page.startswith("<h1>An error occurred</h1><pre>Traceback")
    assert page.endswith("\nValueError: No results\n</pre>")


async def test_the_hosted_api_answers_404_without_a_record(
    store: FileStore, serve: Callable[[web.Application], Awaitable[Get]]
) -> None:
    get = await serve(create_app(store, empty=EMPTY_FORMS["404"]))
    for path in ("car_data?driver_number=99", "weather", "car_data?speed=1&csv=true"):
        assert await get(path) == (404, {"detail": "No results found."})


async def test_other_paths_are_404s(get: Get) -> None:
    for path in ("../other", "car-data", "laps/1", ""):
        assert await get(path) == (404, {"detail": "Not Found"})


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/v1/laps", "/elsewhere"])
async def test_only_get_is_answered(store: FileStore, method: str, path: str) -> None:
    async with TestClient(TestServer(create_server(store))) as client:
        answer = await client.request(method, path)
        assert (answer.status, answer.headers["Allow"]) == (405, "GET")
        if method != "HEAD":
            assert await answer.json() == {"detail": "Method Not Allowed"}


@pytest.mark.parametrize(
    "query",
    ["date>yesterday", "date=2023-13-01", "speed", "speed=", "=5", "date>=2023-09-15&date<text", "speed>1&speed<b"],
)
async def test_filters_that_make_no_sense_are_422s(get: Get, query: str) -> None:
    status, answer = await get(f"car_data?{query}")
    assert status == 422
    assert answer["detail"][0]["loc"][0] == "query"


async def test_more_bounds_than_anybody_needs_are_a_422(get: Get) -> None:
    bounds = [f"speed>={number}&speed<={number}" for number in range(MOST_BOUNDS // 2)]
    assert (await get("car_data?" + "&".join(bounds)))[0] == 200
    assert (await get("car_data?" + "&".join([*bounds, "speed>1"])))[0] == 422
    assert (await get("car_data?" + "&".join(f"speed={number}" for number in range(600))))[0] == 200


_COMPARE = {"=": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_NUMBERS = st.integers(0, 6)


@given(
    st.lists(st.tuples(st.sampled_from(list(_COMPARE)), _NUMBERS), min_size=1, max_size=8),
    st.one_of(_NUMBERS, st.lists(_NUMBERS | st.none(), max_size=3), st.none(), st.booleans(), st.just("3")),
)
def test_a_condition_of_many_filters_is_what_each_of_them_says(filters: list[tuple[str, int]], value: Any) -> None:
    query = parse_query("&".join(f"lap_number{sign}{number}" for sign, number in filters), lambda _: None)
    condition = query.conditions["lap_number"]
    items = [one for one in (value if isinstance(value, list) else [value]) if type(one) is int]
    wanted = any(
        all(any(_COMPARE[one.op](item, one.value) for item in items) for one in alternative)
        for alternative in condition.alternatives
    )
    assert condition.matches(value) is wanted


def test_a_query_of_files_ends_when_its_time_is_over() -> None:
    store = FileStore(most_seconds=0.0)
    store.add("laps", [record(driver_number=1, lap_number=number) for number in range(3)])
    with pytest.raises(StoreFailedError, match="operation exceeded time limit"):
        store.select("laps", parse_query("lap_number>5", lambda _: None))


def test_only_some_queries_may_take_long_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_store, "_LONG_SECONDS", 0.0)
    monkeypatch.setattr(file_store, "_LONG_AT_ONCE", 1)
    store = FileStore()
    store.add("laps", [record(driver_number=1, lap_number=number) for number in range(3)])
    query = parse_query("lap_number>5", lambda _: None)
    for _ in range(2):
        assert store.select("laps", query).rows == 0
    refused: list[Exception] = []

    class Condition:
        def matches(self, value: Any) -> bool:
            with pytest.raises(StoreUnavailableError) as error:
                store.select("laps", query)
            refused.append(error.value)
            return False

    store.select("laps", Query({"lap_number": Condition()}))  # type: ignore[dict-item]
    assert len(refused) == 3


async def test_too_many_rows_are_a_422(store: FileStore, serve: Callable[[web.Application], Awaitable[Get]]) -> None:
    get = await serve(create_app(store, max_rows=4))
    assert (await get("car_data?driver_number=1"))[0] == 200
    assert (await get("car_data"))[0] == 422


async def test_too_many_requests_are_a_429(store: FileStore) -> None:
    app = create_app(store, rates=parse_rates("2/h"), retry_after=True)
    async with TestClient(TestServer(app)) as client:
        answers = [await client.get("/v1/laps") for _ in range(3)]
        assert [one.status for one in answers] == [200, 200, 429]
        assert 3590 < int(answers[2].headers["Retry-After"]) <= 3600
        assert (await client.get("/_log")).status == 200


async def test_a_token_has_rates_of_its_own(store: FileStore) -> None:
    app = create_app(
        store, rates=parse_rates("1/h"), token_rates=parse_rates("2/h"), credentials=Credentials("me", "pä ss")
    )
    async with TestClient(TestServer(app)) as client:
        assert (await client.post("/token", data={"username": "me", "password": "no"})).status == 401
        given = await (await client.post("/token", data={"username": "me", "password": "pä ss"})).json()
        assert given["expires_in"] == "3600"
        assert given["token_type"] == "bearer"
        headers = {"Authorization": f"Bearer {given['access_token']}"}
        with_token = [(await client.get("/v1/laps", headers=headers)).status for _ in range(3)]
        assert with_token == [200, 200, 429]
        assert [(await client.get("/v1/laps")).status for _ in range(2)] == [200, 429]
        assert (await client.get("/v1/laps", headers={"Authorization": "Bearer x"})).status == 401


async def test_shuffled_answers_hold_the_same_records(
    store: FileStore, serve: Callable[[web.Application], Awaitable[Get]]
) -> None:
    get, shuffled = await serve(create_app(store)), await serve(create_app(store, shuffle_seed=3))
    plain, mixed, again = await get("car_data"), await shuffled("car_data"), await shuffled("car_data")
    assert mixed == again
    assert mixed != plain
    assert sorted(map(str, mixed[1])) == sorted(map(str, plain[1]))


async def test_the_log_tells_what_was_asked(store: FileStore) -> None:
    app = create_app(store)
    async with TestClient(TestServer(app)) as client:
        await client.get("/v1/laps?lap_number=2")
        await client.get("/v1/weather")
        log = await (await client.get("/_log")).json()
    assert [(one["path"], one["query"], one["status"]) for one in log] == [
        ("/v1/laps", "lap_number=2", 200),
        ("/v1/weather", "", 200),
    ]
    assert log[0]["bytes"] > 100
    assert log[0]["at"] <= log[1]["at"]
    assert len(app[LOG]) == 2


async def test_a_middleware_stands_before_the_api_and_is_logged(store: FileStore) -> None:
    @web.middleware
    async def broken(request: web.Request, handler: Any) -> web.StreamResponse:
        return web.Response(status=502, text="upstream request timeout")

    app = create_app(store, middlewares=[broken])
    async with TestClient(TestServer(app)) as client:
        assert (await client.get("/v1/laps")).status == 502
    assert [one.status for one in app[LOG]] == [502]


async def test_answers_are_compact_and_spelled_as_they_came(store: FileStore) -> None:
    async with TestClient(TestServer(create_app(store))) as client:
        body = await (await client.get("/v1/championship_teams")).read()
    assert body.startswith('[{"meeting_key":7,"session_key":70,"team_name":"Écurie Étoile"'.encode())


async def test_large_answers_arrive_whole(serve: Callable[[web.Application], Awaitable[Get]]) -> None:
    store = FileStore()
    store.add("car_data", (record(driver_number=1, date=isoformat(one * 1000)) for one in range(30_000)))
    _, answer = await (await serve(create_app(store)))("car_data")
    assert len(answer) == 30_000


def test_the_same_record_twice_counts_once_and_the_later_wins() -> None:
    store = FileStore()
    for temperature in (20, 21):
        store.add("car_data", [record(driver_number=1, date="2023-09-15T13:00:00+00:00", speed=temperature)])
        store.add("laps", [record(driver_number=1, lap_number=1, lap_duration=temperature)])
        store.add("meetings", [record(meeting_name=str(temperature))])
    for endpoint in ("car_data", "laps", "meetings"):
        (group,) = store.groups(endpoint)
        (line,) = group.lines(0, 1)
        assert b"21" in line


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=30), st.integers(0, 50), st.integers(0, 50))
def test_bisection_finds_what_a_scan_finds(samples: list[tuple[int, int]], begin: int, end: int) -> None:
    store = FileStore()
    store.add("car_data", (record(driver_number=1, date=isoformat(at * 1000), speed=speed) for at, speed in samples))
    window = f"date>={isoformat(begin * 1000)[:-6]}&date<{isoformat(end * 1000)[:-6]}"
    spans = store.select("car_data", parse_query(window, lambda _: None))
    found = [json.loads(line)["speed"] for line in spans.lines()]
    # Two bounds that make no interval are a union.
    wanted = (at for at in sorted(dict(samples)) if (begin <= at < end if begin <= end else at >= begin or at < end))
    assert found == [dict(samples)[at] for at in wanted]


@given(st.datetimes())
def test_instants_survive_their_spelling(moment: Any) -> None:
    text = moment.isoformat() + "+00:00"
    assert isoformat(instant(text)) == text
    span = filter_span(text)
    assert span is not None
    assert span[0] <= instant(text) < span[1] == span[0] + 1000


@given(st.lists(st.floats(0, 0.5), max_size=60))
def test_windows_never_let_more_pass_than_the_rates_say(waits: list[float]) -> None:
    now, passed = 0.0, []
    windows = SlidingWindows(parse_rates("3/s,10/4s"), clock=lambda: now)
    for wait in waits:
        now += wait
        if windows.admit() == 0.0:
            passed.append(now)
    for count, seconds in ((3, 1.0), (10, 4.0)):
        assert all(later - earlier >= seconds for earlier, later in zip(passed, passed[count:], strict=False))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inner = tmp_path / "meeting-7" / "session-70"
    inner.mkdir(parents=True)
    with gzip.open(inner / "car_data.jsonl.gz", "wb") as file:
        file.write(b"\n".join(CARS))
    (tmp_path / "meeting-7" / "laps.jsonl").write_bytes(b"\n".join(LAPS) + b"\n\n")
    (tmp_path / "meeting-7" / "notes.txt").write_text("not data")
    return tmp_path


def test_a_server_of_its_own_process(folder: Path) -> None:
    with ReplayServer([folder], "--rate", "3/h", "--retry-after") as server:
        with urlopen(f"{server.url}/car_data?driver_number=10&date%3E=2023-09-16") as answer:
            assert [one["speed"] for one in json.load(answer)] == [310]
        with urlopen(f"{server.url}/laps?csv=true") as answer:
            assert answer.headers["Content-Type"].startswith("text/csv")
        with urlopen(f"{server.url}/weather") as answer:
            assert json.load(answer) == []
        with pytest.raises(HTTPError) as error:
            urlopen(f"{server.url}/weather")
        assert error.value.code == 429
        error.value.close()
        assert [one["status"] for one in server.log()] == [200, 200, 200, 429]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("laps.jsonl", b'{"lap_number":1}\n{"lap_number"\n', "laps.jsonl, line 2"),
        ("laps.jsonl", b"[1]\n", "laps.jsonl, line 1: not a JSON object"),
        ("laps.jsonl", b'{"date":"soon"}', "laps.jsonl, line 1"),
        ("laps.jsonl", b'{"session_key":"7"}', "must be whole numbers"),
        ("laps.jsonl", b'{"speed":NaN}', "NaN is not JSON"),
        ("laps.jsonl", b'{"session_key":true}', "must be whole numbers"),
        ("laps.jsonl", b'{"flag":"\\ud800"}', "line 1: 'utf-8' codec can't encode"),
        ("laps.jsonl", b'{"flag":"\xff"}', "line 1: 'utf-8' codec can't decode"),
        ("laps.jsonl.gz", b"not gzip", "laps.jsonl.gz cannot be read"),
        ("laps.txt", b"{}", "no file named <endpoint>.jsonl"),
    ],
)
def test_files_that_are_no_records_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecordFilesError, match=message.replace("[", r"\[")):
        FileStore.load([tmp_path])


async def test_a_missing_folder_ends_the_command_without_a_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "simulator", "serve", str(tmp_path / "none")]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.strip() == f"Error: there is no folder {tmp_path / 'none'}"


async def test_real_records_are_served_as_they_are(serve: Callable[[web.Application], Awaitable[Get]]) -> None:
    folder = REAL / "meeting-1240-silverstone-fp1"
    if not folder.is_dir():
        pytest.skip(f"the real records are not at {REAL}")
    get = await serve(create_app(FileStore.load([folder])))
    for file in sorted(folder.glob("*.jsonl.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            wanted = [json.loads(line) for line in lines]
        _, answer = await get(f"{file.name.removesuffix('.jsonl.gz')}?session_key=9551&session_key=latest")
        if file.name.startswith("meetings"):
            _, answer = await get("meetings?meeting_key=1240&year>2023")
        assert sorted(map(str, answer)) == sorted(map(str, wanted))
    _, flags = await get("race_control?session_key=9551&date=2024-07-05T11:38:50&flag=RED")
    assert [one["message"] for one in flags] == ["RED FLAG"]
