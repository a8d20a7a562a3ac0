"""The server towards those who ask: who may, answers to mistakes, slow readers, and a store that goes away."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp
import happybase
import psutil
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hbase_server import LocalHBase
from stored_weekend import YEAR, hbase_options, in_hbase, load, records, scopes, weekend
from tables import scan, values

import f1hbase
from f1hbase.errors import ConfigError
from f1hbase.listening.connections import FirstRequests
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.serve.app import INCOMPLETE, create_app
from f1hbase.serve.file_store import FileStore
from f1hbase.serve.openapi import description
from f1hbase.serve.security import Access, access_of
from f1hbase.stores.hbase.schema import Tables

ENTRY_POINT = Path(__file__).resolve().parent.parent / "hbase_populate_openF1.py"
TOKEN = "3a0f5c1d9e7b4286"

Client = TestClient[web.Request, web.Application]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weekend(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def prefix(hbase: LocalHBase, files: Path) -> str:
    return in_hbase(hbase, files)


@pytest.fixture(scope="module")
def zone(tmp_path_factory: pytest.TempPathFactory, files: Path) -> Path:
    made = tmp_path_factory.mktemp("zone") / "zone"
    load(files, to=made)
    return made


@asynccontextmanager
async def client_of(store: Any, access: Access, **options: Any) -> AsyncIterator[Client]:
    async with TestClient(TestServer(create_app(store, access=access, **options))) as client:
        yield client


@contextmanager
def serving(place: Path | str, *arguments: str, **environment: str) -> Iterator[tuple[int, int]]:
    """Run `f1hbase serve` over a place; gives its port and its process id."""
    command = [sys.executable, str(ENTRY_POINT), "serve", "--from", str(place), "--port", "0", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | environment
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            line = process.stdout.readline()
            assert line.startswith("serving http://127.0.0.1:"), process.stderr.read()
            yield int(line.split(":")[2].partition("/")[0]), process.pid
        finally:
            process.terminate()
            assert "Traceback" not in process.stderr.read()


def hbase_words(hbase: LocalHBase, prefix: str) -> list[str]:
    options = hbase_options(hbase, prefix)
    return [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]


# --- who may ask ---


@pytest.mark.parametrize(
    ("host", "options", "environment", "message"),
    [
        ("0.0.0.0", {}, {}, "F1HBASE_SERVE_TOKEN"),
        ("example.org", {}, {}, "--public"),
        ("127.0.0.1", {}, {"F1HBASE_SERVE_TOKEN": "short"}, "at least 16"),
        ("127.0.0.1", {}, {"F1HBASE_SERVE_TOKEN": "with a space in it"}, "without spaces"),
        ("127.0.0.1", {"public": True}, {"F1HBASE_SERVE_TOKEN": TOKEN}, "leave out the other"),
        ("127.0.0.1", {"origins": ("example.org",)}, {}, "origin of a web page"),
        ("127.0.0.1", {"origins": ("https://example.org/page",)}, {}, "origin of a web page"),
    ],
)
def test_what_would_open_the_server_unasked_is_refused(
    host: str, options: dict[str, Any], environment: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        access_of(host, environment=environment, **options)
    assert all(value not in str(refused.value) for value in environment.values())


async def test_a_token_is_asked_for_and_no_other_is_taken(files: Path) -> None:
    access = access_of("0.0.0.0", environment={"F1HBASE_SERVE_TOKEN": TOKEN})
    assert TOKEN not in repr(access)
    async with client_of(FileStore.load([files]), access) as client:
        for shown in ("", "Bearer", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}0", f"Basic {TOKEN}", TOKEN, "Bearer é"):
            async with client.get("/v1/sessions", headers={"Authorization": shown}) as answer:
                assert answer.status == 401
                assert answer.headers["WWW-Authenticate"] == "Bearer"
        for path in ("/", "/docs", "/openapi.json", "/v1/laps"):
            assert (await client.get(path)).status == 401
        async with client.get("/v1/sessions", headers={"Authorization": f"Bearer {TOKEN}"}) as answer:
            assert answer.status == 200
            assert len(await answer.json()) == 3


async def test_a_page_that_names_this_machine_otherwise_does_not_read_it(files: Path) -> None:
    store = FileStore.load([files])
    async with client_of(store, access_of("127.0.0.1", environment={})) as client:
        foreign = ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "evil.example@localhost", "[::", "")
        for host in foreign:
            assert (await client.get("/v1/sessions", headers={"Host": host})).status == 403
        for host in ("localhost", "127.0.0.1:80", "[::1]:8000", "LOCALHOST:1"):
            assert (await client.get("/v1/sessions", headers={"Host": host})).status == 200
    async with client_of(store, access_of("0.0.0.0", public=True, environment={})) as client:
        assert (await client.get("/v1/sessions", headers={"Host": "f1.example"})).status == 200


async def test_only_named_pages_may_read_answers(files: Path) -> None:
    store, page = FileStore.load([files]), "https://example.org"
    async with client_of(store, access_of("127.0.0.1", origins=(page,), environment={})) as client:
        for origin, allowed in ((page, page), ("https://example.com", None), ("null", None)):
            async with client.get("/v1/sessions", headers={"Origin": origin}) as answer:
                assert answer.headers.get("Access-Control-Allow-Origin") == allowed
                assert answer.headers["Vary"] == "Origin"
            ask = {"Origin": origin, "Access-Control-Request-Method": "GET"}
            async with client.options("/v1/sessions", headers=ask) as answer:
                assert answer.status == (204 if allowed else 405)
    for origins, allowed in (("*",), "*"), ((), None):
        async with client_of(store, access_of("127.0.0.1", origins=origins, environment={})) as client:
            answer = await client.get("/v1/sessions", headers={"Origin": page})
            assert answer.headers.get("Access-Control-Allow-Origin") == allowed


# --- mistakes ---


async def test_every_answer_has_the_headers_that_keep_browsers_from_harm(files: Path) -> None:
    async with client_of(FileStore.load([files]), access_of("127.0.0.1", environment={})) as client:
        for method, path, status in (
            ("GET", "/v1/sessions", 200),
            ("GET", "/v1/laps?date>x", 422),
            ("GET", "/v1/laps?session_key=latest&csv=true", 200),
            ("GET", "/v1/pit?lap_number=-1&csv=true", 500),
            ("GET", "/nowhere", 404),
            ("HEAD", "/v1/sessions", 405),
            ("POST", "/v1/sessions", 405),
            ("DELETE", "/v1/sessions", 405),
            ("HEAD", "/docs", 405),
            ("GET", "/docs", 200),
            ("GET", "/openapi.json", 200),
        ):
            async with client.request(method, path) as answer:
                assert answer.status == status, path
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
                assert answer.headers["Server"] == "f1hbase"


def test_what_is_no_question_is_answered_and_never_as_a_page(files: Path) -> None:
    targets = {
        "/v1/../../etc/passwd": 404,
        "/v1/..%2f..%2fetc%2fpasswd": 404,
        "/v1/%2e%2e/%2e%2e/etc/passwd": 404,
        "/v1/": 404,
        "/v1/laps/": 404,
        "/v1/laps%00": 404,
        "/v1/nothing": 200,
        "/v1/laps?<script>alert(1)</script>": 200,
        "/v1/laps?date=<script>alert(1)</script>": 422,
        "/v1/laps?" + "x" * 10_000_000: 400,
    }
    with serving(files) as (port, _):
        for target, status in targets.items():
            is_huge = len(target) > 1_000_000
            with socket.create_connection(("127.0.0.1", port), 10) as raw:
                try:
                    raw.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
                except ConnectionError:
                    assert is_huge  # refused before it was all sent
                head, _, body = b"".join(iter(lambda raw=raw: _received(raw), b"")).partition(b"\r\n\r\n")  # type: ignore[misc]
            if head or not is_huge:
                assert head.split()[1] == str(status).encode(), target
                assert b"passwd" not in body
                assert b"text/html" not in head


def _received(raw: socket.socket) -> bytes:
    try:
        return raw.recv(65536)
    except ConnectionError:
        return b""


# --- what can be asked ---


def test_the_description_has_every_endpoint_and_field() -> None:
    made = description()
    for name, endpoint in ENDPOINTS.items():
        asked = {one["name"] for one in made["paths"][f"/{name}"]["get"]["parameters"]}
        assert asked == {*endpoint.fields, "csv"}
        assert made["components"]["schemas"][name]["properties"].keys() == set(endpoint.fields)
    for reference in re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps(made)):
        assert reference in made["components"]["schemas"]


def test_the_types_of_the_description_are_those_of_the_records(files: Path) -> None:
    kinds: dict[str, tuple[type, ...]] = {
        "integer": (int,), "number": (int, float), "string": (str,), "boolean": (bool,), "array": (list,),
        "null": (type(None),),
    }  # fmt: skip
    schemas = description()["components"]["schemas"]
    for name in ENDPOINTS:
        for record in records(files, name):
            for field, value in record.items():
                said = schemas[name]["properties"][field]["type"]
                assert type(value) in {k for one in ([said] if isinstance(said, str) else said) for k in kinds[one]}, (
                    f"{name}.{field}"
                )


async def test_the_page_needs_nothing_from_elsewhere(files: Path) -> None:
    async with client_of(FileStore.load([files]), access_of("127.0.0.1", environment={})) as client:
        page = await (await client.get("/docs")).text()
    assert all(f'id="{name}"' in page for name in ENDPOINTS)
    assert not re.findall(r"https?://", page)
    assert "<script" not in page
    assert "src=" not in page


# --- a session that is not loaded as a whole ---


async def test_an_answer_says_which_sessions_are_not_loaded_as_a_whole(files: Path, tmp_path: Path) -> None:
    from f1hbase.serve.zone_store import record_store
    from f1hbase.sources.files import open_reader
    from f1hbase.stores.files.urls import parse_location

    one, two, *_ = [scope.session_key for scope in scopes(files)]
    driver = records(files, "drivers", session_key=two)[0]["driver_number"]
    target = tmp_path / "zone"
    load(files, to=target, endpoint=["sessions", "meetings", "drivers"])
    load(files, to=target, session_key=one, endpoint="laps")
    load(files, to=target, session_key=two, endpoint="laps", driver=driver)
    store = record_store(lambda: open_reader(parse_location(str(target))), 10.0)
    async with client_of(store, Access()) as client:
        for query, said in (
            (f"laps?session_key={one}", None),
            (f"laps?session_key={one}&session_key={two}", f"{two} partial"),
            (f"laps?session_key={two}&driver_number={driver}", None),
            (f"pit?session_key={one}", f"{one} absent"),
            (f"drivers?session_key={two}&csv=true", None),
            ("laps?session_key=1", None),
            ("sessions", None),
        ):
            async with client.get(f"/v1/{query}") as answer:
                assert answer.headers.get(INCOMPLETE) == said, query


# --- loading from it ---


@pytest.mark.hbase
@pytest.mark.parametrize("place", ["hbase", "zone"])
def test_what_is_loaded_from_the_server_is_the_same_table_cell_for_cell(
    hbase: LocalHBase, prefix: str, zone: Path, place: str, table_prefix: str
) -> None:
    words = hbase_words(hbase, prefix) if place == "hbase" else []
    with serving(place if place == "hbase" else zone, *words) as (port, _):
        options: dict[str, Any] = hbase_options(hbase, table_prefix) | {"api_url": f"http://127.0.0.1:{port}/v1"}
        result = f1hbase.load(year=YEAR, processes=2, patience="30s", **options)
        assert result.exit_code == 0, result.overall.failures
    there, here = (scan(hbase.port, Tables(one).data) for one in (prefix, table_prefix))
    assert values(here) == values(there)


# --- slow readers, and many ---


@pytest.mark.hbase
async def test_slow_readers_and_idle_connections_do_not_starve_the_others(
    hbase: LocalHBase, prefix: str, files: Path
) -> None:
    slow, idle = 100, 300
    session = scopes(files)[-1].session_key
    driver = records(files, "drivers", session_key=session)[0]["driver_number"]
    with serving("hbase", *hbase_words(hbase, prefix)) as (port, pid):
        process = psutil.Process(pid)
        connections = [_slow_reader(port, f"/v1/car_data?session_key={session}") for _ in range(slow)]
        connections += [socket.create_connection(("127.0.0.1", port), 10) for _ in range(idle)]
        try:
            begin = monotonic()
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:

                async def ask() -> int:
                    async with client.get(f"/v1/laps?session_key={session}&driver_number={driver}") as answer:
                        assert answer.status == 200
                        return len(await answer.json())

                found = await asyncio.gather(*(ask() for _ in range(50)))
            seconds = monotonic() - begin
        finally:
            for connection in connections:
                connection.close()
        assert set(found) == {len(records(files, "laps", session_key=session, driver_number=driver))}
        assert seconds < 20  # a thread or a connection that waits for a slow reader would wait a minute
        assert process.memory_info().rss < 300e6


def _slow_reader(port: int, target: str) -> socket.socket:
    """Return a connection that asks, and reads nothing."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", port))
    connection.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return connection


async def test_a_client_that_takes_nothing_is_cut_off() -> None:
    store = FileStore()
    # More than the buffers of both sockets hold.
    store.add("notes", (b'{"session_key":7,"text":"%d%s"}' % (n, b"x" * 1000) for n in range(30_000)))
    async with TestServer(create_app(store, stall_seconds=0.2)) as server:
        assert server.port is not None
        connection = _slow_reader(server.port, "/v1/notes")
        try:
            connection.setblocking(False)
            handlers: list[Any] = []
            while not handlers:
                await asyncio.sleep(0.01)
                assert server.runner is not None
                assert server.runner.server is not None
                handlers = server.runner.server.connections
            async with asyncio.timeout(20):
                while handlers[0].transport is not None:  # noqa: ASYNC110 - nothing tells of it
                    await asyncio.sleep(0.01)
        finally:
            connection.close()


async def test_a_connection_whose_first_request_does_not_come_is_closed() -> None:
    now = 0.0
    app, first_requests = create_app(FileStore()), FirstRequests(10.0, clock=lambda: now)
    first_requests.attach(app)
    async with TestServer(app) as server, aiohttp.ClientSession() as client:
        assert server.runner is not None
        assert server.runner.server is not None
        assert (await client.get(server.make_url("/v1/laps"))).status == 200
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /v1/laps HTTP/1.1\r\nHost: loc")
        while len(server.runner.server.connections) < 2:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
        first_requests.look(server.runner.server)
        now = 9.0
        first_requests.look(server.runner.server)
        assert len(server.runner.server.connections) == 2
        now = 10.0
        first_requests.look(server.runner.server)
        with suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        assert (await client.get(server.make_url("/v1/laps"))).status == 200
        assert len(server.runner.server.connections) == 1  # the one that has asked


# --- a store that goes away ---


@pytest.mark.hbase
async def test_hbase_may_go_away_and_come_back(hbase: LocalHBase, prefix: str, files: Path) -> None:
    session = scopes(files)[0].session_key
    wanted = len(records(files, "laps", session_key=session))
    with serving("hbase", *hbase_words(hbase, prefix)) as (port, _):
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:

            async def ask(path: str = "laps") -> tuple[int, Any]:
                async with client.get(f"/v1/{path}?session_key={session}") as answer:
                    return answer.status, await answer.json()

            assert (await ask())[0] == 200
            hbase.stop_gateway()
            try:
                begin = monotonic()
                answers = await asyncio.gather(*(ask() for _ in range(40)))
                assert monotonic() - begin < 20
                assert {status for status, _ in answers} == {503}
                assert all("Try again later" in body["detail"] for _, body in answers)
                async with client.get("/v1/laps") as answer:
                    assert answer.headers["Retry-After"] == "5"
            finally:
                hbase.start_gateway()
            for _ in range(100):
                status, body = await ask()
                if status == 200:
                    break
                await asyncio.sleep(0.1)
            assert (status, len(body)) == (200, wanted)


@pytest.mark.hbase
async def test_a_table_that_is_deleted_is_a_503_and_what_has_begun_is_broken_off(
    hbase: LocalHBase, files: Path, table_prefix: str
) -> None:
    session = scopes(files)[-1].session_key
    load(files, session_key=session, endpoint=["car_data"], **hbase_options(hbase, table_prefix))
    with serving("hbase", *hbase_words(hbase, table_prefix)) as (port, _):
        begun = _slow_reader(port, f"/v1/car_data?session_key={session}")
        begun.recv(1024)
        connection = happybase.Connection(hbase.host, hbase.port)
        table = Tables(table_prefix).data
        connection.disable_table(table)
        connection.delete_table(table)
        connection.close()
        body = b"".join(iter(lambda: _received(begun), b""))
        begun.close()
        assert not body.endswith(b"0\r\n\r\n")
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
            answer = await client.get(f"/v1/car_data?session_key={session}")
            assert answer.status == 503
            assert "detail" in await answer.json()


def test_it_ends_when_it_is_told_to_while_answers_are_being_sent(files: Path) -> None:
    with serving(files) as (port, pid):
        readers = [_slow_reader(port, "/v1/car_data") for _ in range(5)]
        os.kill(pid, signal.SIGTERM)
        psutil.Process(pid).wait(10)
        for one in readers:
            one.close()


@pytest.mark.hbase
def test_no_table_is_one_line(hbase: LocalHBase, table_prefix: str) -> None:
    command = [sys.executable, str(ENTRY_POINT), "serve", "--from", "hbase", *hbase_words(hbase, table_prefix)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "there is nothing to serve" in done.stderr
    assert len(done.stderr.splitlines()) == 1
