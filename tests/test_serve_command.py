"""`f1hbase serve` as a user runs it: what it prints, how it ends, and what a client's mistake leaves in its log."""

from __future__ import annotations

import gzip
import http.client
import io
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st

import f1hbase.serve
from f1hbase.serve.app import create_app
from f1hbase.serve.csvform import to_csv
from f1hbase.serve.file_store import FileStore
from f1hbase.serve.query import NoLatestError, Query, QueryError, parse_query
from f1hbase.serve.run import LoadingProgress
from f1hbase.serve.store import Piece, StoreFailedError
from f1hbase.serve.times import isoformat

ENTRY_POINT = Path(__file__).resolve().parent.parent / "hbase_populate_openF1.py"


class Running(NamedTuple):
    port: int
    process: subprocess.Popen[str]
    errors: Path


@contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[Running]:
    errors = folder.with_suffix(".err")
    command = [sys.executable, str(ENTRY_POINT), "serve", "--from", str(folder), "--port", "0", *arguments]
    with errors.open("w") as log, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line.startswith("serving http://127.0.0.1:"), errors.read_text()
            yield Running(int(line.split(":")[2].partition("/")[0]), process, errors)
        finally:
            process.terminate()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = tmp_path / "data" / "session-70"
    data.mkdir(parents=True)
    laps = [{"session_key": 70, "meeting_key": 7, "driver_number": 1, "lap_number": one} for one in range(1, 4)]
    with gzip.open(data / "laps.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(one) + "\n" for one in laps)
    return tmp_path / "data"


def ask(port: int, target: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", target)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_it_serves_a_folder_until_it_is_told_to_end(folder: Path) -> None:
    with serving(folder, "--max-rows", "2", "--empty", "404") as server:
        status, body = ask(server.port, "/v1/laps?lap_number%3E=2")
        assert (status, [one["lap_number"] for one in json.loads(body)]) == (200, [2, 3])
        assert ask(server.port, "/v1/laps")[0] == 422
        assert ask(server.port, "/v1/pit")[0] == 404
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(10) == 0
        assert server.errors.read_text() == ""


def test_what_a_client_does_wrong_is_no_stack_trace_in_the_log(folder: Path) -> None:
    with serving(folder) as server:
        assert ask(server.port, f"/v1/laps?{'a' * 66_000}")[0] == 414
        assert ask(server.port, f"/v1/laps?{'a' * 200_000}")[0] == 400
        for query in (
            "x",
            "=",
            "date>soon",
            "%ff%fe=%00",
            "lap_number=" + "9" * 5000,
            "&&&",
            "csv=",
            "date=9999-12-31",
        ):
            assert ask(server.port, f"/v1/laps?{query}")[0] in {200, 422}
        for text in (b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", server.port), 10) as raw:
                raw.sendall(text + b"\r\n\r\n")
                raw.recv(65536)
        assert ask(server.port, "/v1/laps")[0] == 200
        assert "Traceback" not in server.errors.read_text()


@pytest.mark.parametrize(
    ("make", "arguments", "code", "message"),
    [
        (None, ["--from", "nowhere"], 2, "there is no folder nowhere"),
        ("other.txt", ["--from", "."], 2, "is nothing that f1hbase can load from"),
        ("laps.jsonl", ["--from", "."], 2, "laps.jsonl, line 1: "),
        ("laps.jsonl.gz", ["--from", "."], 2, "laps.jsonl.gz cannot be read"),
        (None, [], 2, "--from"),
    ],
)
def test_what_cannot_be_served_is_one_line(
    tmp_path: Path, make: str | None, arguments: list[str], code: int, message: str
) -> None:
    if make is not None:
        (tmp_path / make).write_text('{"lap_number"')
    command = [sys.executable, str(ENTRY_POINT), "serve", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_exit_code_3(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, str(ENTRY_POINT), "serve", "--from", str(folder), "--port", port]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert f"cannot listen at 127.0.0.1:{port} (address already in use)" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_reading_says_how_far_it_is_every_five_seconds() -> None:
    now, out = 0.0, io.StringIO()
    with LoadingProgress(out, clock=lambda: now) as progress:
        for now in range(12):
            progress(now * 10, 110, now * 1000)
    assert out.getvalue() == "reading: 45%, 5,000 records\nreading: 91%, 10,000 records\n"


def test_reading_shows_a_bar_on_a_terminal() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    with LoadingProgress(out) as progress:
        progress(50, 100, 1000)
        progress(100, 100, 2000)
    assert "reading" in out.getvalue()


def test_a_store_tells_of_its_progress_to_the_last_byte(folder: Path) -> None:
    told: list[tuple[int, int, int]] = []
    FileStore.load([folder], lambda *one: told.append(one))
    size = sum(file.stat().st_size for file in folder.rglob("*.gz"))
    assert told[-1] == (size, size, 3)


async def test_csv_of_records_with_different_fields_is_streamed_and_says_the_same() -> None:
    store = FileStore()
    records = [
        {"date": isoformat(one * 1000), "driver_number": 1, "session_key": 7, **({"extra": one} if one % 2 else {})}
        for one in range(5000)
    ]
    store.add("car_data", [json.dumps(one).encode() for one in records])
    async with TestClient(TestServer(create_app(store))) as client, client.get("/v1/car_data?csv=true") as answer:
        assert answer.headers["Transfer-Encoding"] == "chunked"
        assert await answer.read() == to_csv(records)


class _Failing:
    """A store that fails at once, or in the middle of an answer."""

    def __init__(self, *, late: bool) -> None:
        self.late = late
        self.rows = 3

    def latest(self, field: str) -> int | None:
        raise StoreFailedError("UnreachableError: HBase does not answer")

    def select(self, endpoint: str, query: Query, limit: int | None = None) -> _Failing:
        if not self.late:
            raise StoreFailedError("UnreachableError: HBase does not answer")
        return self

    def json(self) -> Iterator[Piece]:
        yield b'{"a":1},'
        raise StoreFailedError("UnreachableError: HBase has gone")

    csv = json

    def lines(self) -> Iterator[bytes]:
        yield b""


@pytest.mark.parametrize("query", ["", "?session_key=latest"])
async def test_a_store_that_fails_is_a_500_with_its_reason_last(query: str) -> None:
    async with (
        TestClient(TestServer(create_app(_Failing(late=False)))) as client,
        client.get(f"/v1/laps{query}") as answer,
    ):
        assert answer.status == 500
        assert (await answer.text()).endswith("\nUnreachableError: HBase does not answer\n</pre>")


@pytest.mark.parametrize("form", ["", "?csv=true"])
async def test_a_store_that_fails_within_an_answer_breaks_it_off(form: str) -> None:
    async with TestClient(TestServer(create_app(_Failing(late=True)))) as client:
        with pytest.raises(aiohttp.ClientError):
            async with client.get(f"/v1/laps{form}") as answer:
                await answer.read()


@given(st.text(max_size=40), st.sampled_from([">=", "<=", "=", ">", "<", "", "%"]), st.text(max_size=40))
def test_no_query_is_too_strange(name: str, op: str, value: str) -> None:
    store = FileStore()
    store.add(
        "laps", [b'{"date":"2023-09-15T13:00:00+00:00","date_start":null,"lap_number":1,"codes":[1],"flag":"RED"}']
    )
    for field in (name, "date", "lap_number", "codes", "flag", "session_key"):
        with suppress(QueryError, NoLatestError):
            store.select("laps", parse_query(f"{field}{op}{value}", store.latest))


def test_the_server_knows_neither_the_simulator_nor_faults() -> None:
    for file in Path(f1hbase.serve.__file__).parent.glob("*.py"):
        text = file.read_text()
        assert "simulator" not in text
        assert "fault" not in text.replace("default", "")
