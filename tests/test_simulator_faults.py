"""The simulated API fails on purpose: as told, countably, and the same way again for the same seed."""

import asyncio
import contextlib
import csv
import io
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from email.utils import parsedate_to_datetime
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.request import urlopen

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from replay_server import ReplayServer, most_requests

from f1hbase.model.rates import parse_rates
from f1hbase.serve.app import Empty
from f1hbase.serve.file_store import FileStore
from f1hbase.serve.times import instant, isoformat
from simulator.app import LOG, Credentials, create_app
from simulator.cli import main
from simulator.faults import DEFAULT_KINDS, KINDS, LOCKED, Dice, Faults, FaultSettings, LockOut, add_foreign, cut

BEGIN = instant("2023-09-15T13:00:00")
CARS = [
    json.dumps(
        {
            "date": isoformat(BEGIN + number * 250_000),
            "session_key": 70,
            "meeting_key": 7,
            "driver_number": driver,
            "speed": 100 + number,
        },
        separators=(",", ":"),
    ).encode()
    for driver in (1, 10)
    for number in range(20)
]
QUERY = "session_key=70&driver_number=1&date>=2023-09-15T13:00:00&date<2023-09-15T13:15:00"
EMPTY = "session_key=70&driver_number=99"


class Answer(NamedTuple):
    """What a connection brought: status 0 if there was no answer; ``reset`` if it ended by RST."""

    status: int
    headers: dict[str, str]
    body: bytes
    reset: bool = False

    @property
    def length(self) -> int:
        return int(self.headers["content-length"])


Get = Callable[..., Awaitable[Answer]]


class Started(NamedTuple):
    app: web.Application
    port: int

    async def get(self, query: str = QUERY, endpoint: str = "car_data", **headers: str) -> Answer:
        """Ask over a bare socket, which hides nothing and repeats nothing."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        lines = [f"GET /v1/{endpoint}?{query} HTTP/1.1", "Host: simulator", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        received, reset = bytearray(), False
        try:
            while piece := await reader.read(65536):
                received += piece
        except ConnectionResetError:
            reset = True
        finally:
            writer.close()
            with contextlib.suppress(ConnectionResetError):
                await writer.wait_closed()
        head, _, body = bytes(received).partition(b"\r\n\r\n")
        if not head:
            return Answer(0, {}, b"", reset)
        first, *rest = head.decode().split("\r\n")
        pairs = (line.split(": ", 1) for line in rest)
        return Answer(int(first.split()[1]), {name.lower(): value for name, value in pairs}, body, reset)

    async def control(self, changes: Any = None) -> tuple[int, dict[str, Any]]:
        async with aiohttp.ClientSession() as session:
            method = "GET" if changes is None else "POST"
            async with session.request(method, f"http://127.0.0.1:{self.port}/_faults", json=changes) as answer:
                return answer.status, await answer.json()

    def faults(self) -> list[str | None]:
        return [one.fault for one in self.app[LOG]]


Start = Callable[..., Awaitable[Started]]


@pytest.fixture
def store() -> FileStore:
    store = FileStore()
    store.add("car_data", CARS)
    return store


@pytest.fixture
async def start(store: FileStore) -> AsyncIterator[Start]:
    servers = []

    async def begin(settings: FaultSettings | None = None, **options: Any) -> Started:
        app = create_app(store, middlewares=[Faults(settings).middleware], **options)
        server = TestServer(app, host="127.0.0.1")
        await server.start_server()
        servers.append(server)
        assert server.port is not None
        return Started(app, server.port)

    yield begin
    for server in servers:
        await server.close()


@pytest.fixture
def one(start: Start) -> Callable[..., Awaitable[Answer]]:
    """Return the answer to one request that meets a fault of a kind."""

    async def ask(kind: str, query: str = QUERY, **settings: Any) -> Answer:
        server = await start(FaultSettings(share=1, kinds=(kind,), **settings))
        answer = await server.get(query)
        assert server.faults() == [kind]
        return answer

    return ask


async def test_without_settings_nothing_goes_wrong(start: Start) -> None:
    server = await start()
    answer = await server.get()
    assert (answer.status, len(json.loads(answer.body))) == (200, 20)
    assert server.faults() == [None]


@pytest.mark.parametrize("query", [QUERY, EMPTY])
async def test_500_is_a_page(one: Get, query: str) -> None:
    answer = await one("500", query)
    assert answer.status == 500
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.body.startswith(b"<html>")


@pytest.mark.parametrize(
    ("kind", "text"), [("502", b"Bad Gateway"), ("503", b"upstream connect"), ("504", b"upstream request timeout")]
)
async def test_errors_of_the_gateway_are_plain_text(one: Get, kind: str, text: bytes) -> None:
    answer = await one(kind)
    assert answer.status == int(kind)
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.body.startswith(text)


@pytest.mark.parametrize("query", [QUERY, EMPTY])
async def test_cut_is_half_a_body_of_the_length_it_says(one: Get, query: str) -> None:
    answer = await one("cut", query)
    assert (answer.status, answer.length) == (200, len(answer.body))
    assert answer.headers["content-type"].startswith("application/json")
    with pytest.raises(ValueError):
        json.loads(answer.body)


async def test_cut_csv_ends_within_a_line(one: Get) -> None:
    answer = await one("cut", QUERY + "&csv=true")
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.body.startswith(b"date,driver_number,")
    assert not answer.body.endswith((b"\r", b"\n"))


@given(st.lists(st.binary(min_size=1).filter(lambda line: not set(line) & set(b"\r\n")), min_size=1))
def test_no_cut_leaves_a_csv_that_looks_whole(lines: list[bytes]) -> None:
    body = b"".join(line + b"\r\n" for line in lines)
    part = cut(body)
    assert body.startswith(part)
    assert 0 < len(part) < len(body)
    assert not part.endswith((b"\r", b"\n"))


@pytest.mark.parametrize("query", [QUERY, EMPTY, QUERY + "&csv=true"])
async def test_broken_is_less_than_the_length_it_says(one: Get, query: str) -> None:
    answer = await one("broken", query)
    assert answer.status == 200
    assert len(answer.body) == answer.length // 2


async def test_large_answers_are_spoilt_as_well(store: FileStore, one: Get) -> None:
    dates = (isoformat(number * 1000) for number in range(20_000))
    store.add("car_data", (b'{"date":"%s","driver_number":2,"speed":300}' % date.encode() for date in dates))
    broken, part = await one("broken", "driver_number=2"), await one("cut", "driver_number=2")
    assert len(broken.body) == broken.length // 2 == len(part.body) == part.length > 500_000


async def test_html_says_it_is_fine(one: Get) -> None:
    answer = await one("html")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.body.startswith(b"<html>")


@pytest.mark.parametrize("query", [QUERY, QUERY + "&csv=true"])
async def test_object_is_no_list(one: Get, query: str) -> None:
    answer = await one("object", query)
    assert answer.status == 200
    assert isinstance(json.loads(answer.body), dict)


async def test_closed_and_reset_send_nothing(one: Get) -> None:
    assert await one("closed") == Answer(0, {}, b"", reset=False)
    assert await one("reset") == Answer(0, {}, b"", reset=True)


async def test_silent_waits_until_the_client_gives_up(start: Start) -> None:
    server = await start(FaultSettings(share=1, kinds=("silent",)))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(server.get(), 0.2)
    async with asyncio.timeout(5):  # far below the 600 s of silence
        while server.faults() != ["silent"]:
            await server.control()
    (entry,) = server.app[LOG]
    assert entry.status == 0
    assert entry.seconds >= 0.1


async def test_silent_ends_after_its_seconds(one: Get) -> None:
    assert (await one("silent", silence=0)).status == 0


async def test_429_says_when_to_come_again_or_not(one: Get) -> None:
    seconds = await one("429", retry_after=7)
    assert (seconds.status, seconds.headers["retry-after"]) == (429, "7")
    before = time.time()
    dated = await one("429-date", retry_after=7)
    assert dated.status == 429
    moment = parsedate_to_datetime(dated.headers["retry-after"])
    assert before + 7 <= moment.timestamp() <= time.time() + 8
    bare = await one("429-bare")
    assert bare.status == 429
    assert "retry-after" not in bare.headers


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("form", ["", "&csv=true"])
async def test_foreign_is_one_record_outside_what_was_asked(one: Get, seed: int, form: str) -> None:
    answer = await one("foreign", QUERY + form, seed=seed)
    text = answer.body.decode()
    assert answer.status == 200
    assert answer.length == len(answer.body)
    records = list(csv.DictReader(io.StringIO(text, newline=""))) if form else json.loads(text)
    foreign = [
        one
        for one in records
        if (str(one["session_key"]), str(one["driver_number"])) != ("70", "1")
        or not BEGIN <= instant(one["date"]) < BEGIN + 900_000_000
    ]
    assert (len(records), len(foreign)) == (21, 1)


async def test_what_asks_for_everything_gets_nothing_foreign(start: Start) -> None:
    server = await start(FaultSettings(share=1, kinds=("foreign",)))
    for query in ("", "csv=true", EMPTY):
        assert (await server.get(query)).status in {200, 404}
    assert server.faults() == [None, None, None]


def test_foreign_must_be_named() -> None:
    assert set(KINDS) - set(DEFAULT_KINDS) == {"foreign"}


SETTINGS = st.builds(
    FaultSettings, share=st.floats(0, 1), seed=st.integers(), in_a_row=st.integers(0, 4), kinds=st.just(DEFAULT_KINDS)
)


@given(SETTINGS, st.lists(st.sampled_from("abc"), max_size=60), st.randoms(use_true_random=False))
def test_faults_do_not_depend_on_the_order_of_arrival(settings: FaultSettings, asked: list[str], rng: Any) -> None:
    def deal(queries: list[str]) -> list[tuple[str, int, str | None]]:
        dice, count = Dice(settings), Counter[str]()
        dealt = []
        for query in queries:
            count[query] += 1
            dealt.append((query, count[query], dice.throw(query).kind))
        return sorted(dealt, key=str)

    other = list(asked)
    rng.shuffle(other)
    assert deal(asked) == deal(other)


@given(SETTINGS)
def test_never_more_faults_in_a_row_than_said(settings: FaultSettings) -> None:
    dice = Dice(settings)
    dealt = [dice.throw("query").kind is not None for _ in range(50)]
    assert max((len(list(row)) for fault, row in groupby(dealt) if fault), default=0) <= settings.in_a_row


def test_the_share_is_met_and_every_kind_comes() -> None:
    dice = Dice(FaultSettings(share=0.3, seed=4))
    dealt = Counter(dice.throw(f"query {number}").kind for number in range(5000))
    assert dealt[None] == pytest.approx(3500, abs=150)
    assert set(dealt) == {None, *DEFAULT_KINDS}


async def test_another_seed_deals_other_faults(start: Start) -> None:
    dealt = []
    for seed in (1, 1, 2):
        server = await start(FaultSettings(share=0.5, seed=seed, kinds=("500", "502", "504")))
        await asyncio.gather(*(server.get(f"lap_number={number % 8}") for number in range(24)))
        dealt.append(sorted((entry.query, entry.fault or "") for entry in server.app[LOG]))
    assert dealt[0] == dealt[1]
    assert dealt[0] != dealt[2]


async def test_fail_is_for_ever(start: Start) -> None:
    server = await start(FaultSettings(fail={"laps": 500, "pit": 503, "weather": 404}))
    for endpoint, status, text in (
        ("laps", 500, b"<html>"),
        ("pit", 503, b"upstream"),
        ("weather", 404, b'{"detail": "No results found."}'),
        ("car_data", 200, b"["),
    ):
        for _ in range(3):
            answer = await server.get(endpoint=endpoint)
            assert answer.status == status
            assert answer.body.startswith(text)
    assert server.faults() == ["fail"] * 9 + [None] * 3


async def test_lock_out_by_number(start: Start) -> None:
    server = await start(FaultSettings(lock_out=LockOut.parse("2-3")))
    answers = [await server.get() for _ in range(4)]
    assert [one.status for one in answers] == [200, 401, 401, 200]
    assert json.loads(answers[1].body) == {"detail": LOCKED}
    assert server.faults() == [None, "lock-out", "lock-out", None]


async def test_lock_out_by_the_clock(store: FileStore) -> None:
    now = 100.0
    faults = Faults(FaultSettings(lock_out=LockOut.parse("20s-60s")), clock=lambda: now)
    async with TestClient(TestServer(create_app(store, middlewares=[faults.middleware]))) as client:
        statuses = []
        for now in (119.0, 120.0, 160.0, 161.0):  # noqa: B007
            async with client.get("/v1/car_data") as answer:
                statuses.append(answer.status)
    assert statuses == [200, 401, 401, 200]


async def test_a_token_opens_a_lock_out(start: Start) -> None:
    server = await start(FaultSettings(lock_out=LockOut()), credentials=Credentials("me", "secret"))
    async with aiohttp.ClientSession() as session:
        form = {"username": "me", "password": "secret"}
        async with session.post(f"http://127.0.0.1:{server.port}/token", data=form) as answer:
            token = (await answer.json())["access_token"]
    assert (await server.get(Authorization=f"Bearer {token}")).status == 200
    assert json.loads((await server.get()).body) == {"detail": LOCKED}
    assert json.loads((await server.get(Authorization="Bearer x")).body)["detail"] != LOCKED


async def test_requests_that_meet_a_fault_count_for_the_rates(start: Start) -> None:
    server = await start(FaultSettings(share=1, kinds=("closed", "504"), in_a_row=9), rates=parse_rates("2/h"))
    answers = [await server.get() for _ in range(4)]
    assert [one.status for one in answers[2:]] == [429, 429]
    assert [fault is None for fault in server.faults()] == [False, False, True, True]


async def test_control_shows_and_changes_a_running_server(start: Start) -> None:
    server = await start()
    status, shown = await server.control({"share": 1, "kinds": ["504"], "in_a_row": 1})
    assert (status, shown["share"], shown["kinds"], shown["dealt"], shown["requests"]) == (200, 1, ["504"], {}, 0)
    assert [(await server.get()).status for _ in range(3)] == [504, 200, 504]
    await server.control({"share": 0, "fail": {"laps": 500}})
    assert (await server.get(endpoint="laps")).status == 500
    _, shown = await server.control({"fail": {}, "lock_out": True})
    assert shown["lock_out"] is True
    assert (await server.get()).status == 401
    _, shown = await server.control({"lock_out": "100-200"})
    assert shown["lock_out"] == "100-200"
    assert (await server.get()).status == 200
    _, shown = await server.control({"lock_out": False, "down": True})
    assert [(await server.get()).status, (await server.get(endpoint="laps")).status] == [0, 0]
    await server.control({"down": False})
    assert (await server.get()).status == 200
    _, shown = await server.control()
    assert shown["dealt"] == {"504": 2, "fail": 1, "lock-out": 1, "down": 2}
    assert shown["lock_out"] is False
    assert all(not entry.path.startswith("/_") for entry in server.app[LOG])


async def test_a_seed_begins_anew(start: Start) -> None:
    server = await start(FaultSettings(share=0.5, kinds=("500", "502", "503", "504")))
    first = [(await server.get()).status for _ in range(12)]
    await server.control({"seed": 1})
    assert [(await server.get()).status for _ in range(12)] == first


@pytest.mark.parametrize(
    "changes",
    [
        [],
        {"shares": 0.3},
        {"share": 2},
        {"share": True},
        {"kinds": ["505"]},
        {"in_a_row": -1},
        {"fail": {"lap": 500}},
        {"fail": {"laps": 200}},
        {"lock_out": "60-20"},
        {"down": "yes"},
        {"share": 1, "seed": "x"},
    ],
)
async def test_changes_that_make_no_sense_change_nothing(start: Start, changes: Any) -> None:
    server = await start()
    _, before = await server.control()
    status, refused = await server.control(changes)
    assert status == 422
    assert refused["detail"]
    assert (await server.control())[1] == before


async def test_the_log_is_in_order_of_arrival(start: Start) -> None:
    server = await start(FaultSettings(share=1, kinds=("silent",), in_a_row=1))
    silent = asyncio.create_task(server.get())
    while (await server.control())[1]["dealt"] != {"silent": 1}:
        pass
    begin = time.monotonic()
    assert (await server.get()).status == 200
    first, second = server.app[LOG]
    assert (first.status, second.status) == (0, 200)
    assert first.at < begin <= second.at
    silent.cancel()
    with pytest.raises(asyncio.CancelledError):
        await silent


async def test_slow_queries_and_large_bodies_fail(start: Start) -> None:
    server = await start(slow_rows=25, max_bytes=3000)
    slow = await server.get("session_key=70")
    assert slow.status == 500
    assert b"operation exceeded time limit" in slow.body
    assert (await server.get()).status == 200
    server = await start(max_bytes=3000)
    assert (await server.get("session_key=70")).status == 422
    assert (await server.get("session_key=70&csv=true")).status == 200
    assert server.faults() == [None, None]


@pytest.mark.parametrize(("status", "kind"), [(404, "application/json"), (500, "text/html")])
async def test_csv_without_a_record(start: Start, status: int, kind: str) -> None:
    server = await start(empty=Empty(404, status))
    answer = await server.get(EMPTY + "&csv=true")
    assert answer.status == status
    assert answer.headers["content-type"].startswith(kind)
    assert (await server.get(EMPTY)).status == 404


def test_a_foreign_record_of_an_open_window_lies_on_its_closed_side() -> None:
    body = b"[" + CARS[0] + b"]"
    for seed in range(5):
        more = add_foreign(body, "date<2023-09-15T13:15:00", random.Random(seed))
        assert more is not None
        assert sum(instant(one["date"]) >= BEGIN + 900_000_000 for one in json.loads(more)) == 1


def test_a_server_of_its_own_process_is_told_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "car_data.jsonl").write_bytes(b"\n".join(CARS))
    with ReplayServer(
        tmp_path,
        *("--faults", "1", "--fault-seed", "3", "--fault-kinds", "504", "--faults-in-a-row", "1"),
        *("--fail", "laps", "--fail", "pit=503", "--lock-out", "100-200", "--slow-rows", "25"),
    ) as server:
        for path, status in (("car_data?driver_number=1", 504), ("laps", 500), ("pit", 503)):
            with pytest.raises(HTTPError) as error:
                urlopen(f"{server.url}/{path}")
            assert error.value.code == status
            error.value.close()
        with urlopen(f"{server.url}/car_data?driver_number=1") as answer:
            assert len(json.load(answer)) == 20
        shown = server.faults()
        assert shown["dealt"] == {"504": 1, "fail": 2}
        assert (shown["seed"], shown["lock_out"], shown["requests"]) == (3, "100-200", 4)
        assert server.faults(down=True)["down"] is True
        with pytest.raises(ConnectionError):
            urlopen(f"{server.url}/car_data?driver_number=1")
        log = server.log()
        assert [entry["fault"] for entry in log] == ["504", "fail", "fail", None, "down"]
        assert most_requests(log, 3600) == 5


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--fault-kinds", "504,505"], "'kinds' are 500, 502"),
        (["--fail", "lap"], "'fail' names no endpoint"),
        (["--fail", "laps=ok"], "'ok' is no status"),
        (["--fail", "laps=200"], "from 400 to 599"),
        (["--lock-out", "60s-20s"], "FROM-TO"),
        (["--faults", "3"], "--faults"),
    ],
)
def test_options_that_make_no_sense_are_wrong_usage(tmp_path: Path, option: list[str], message: str) -> None:
    done = CliRunner().invoke(main, ["serve", str(tmp_path), *option])
    assert done.exit_code == 2
    assert message in done.output


def test_the_help_names_every_kind() -> None:
    done = CliRunner().invoke(main, ["serve", "--help"])
    for kind, text in KINDS.items():
        assert kind in done.output
        assert text.split()[0] in done.output
