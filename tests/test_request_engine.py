"""Whatever a real server does wrong, every unit arrives whole and exactly once, or it is named as failed."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from replay_server import ReplayServer
from samples import START, a_scope, exact, sample

from f1hbase.credentials import Credentials
from f1hbase.model.catalog import ENDPOINTS, Endpoint, Slicing
from f1hbase.model.rates import parse_rates
from f1hbase.model.units import Answer, Query, Scope, Unit, Window, parse_time, slice_time
from f1hbase.serve.csvform import to_csv
from f1hbase.sources.http.breaker import CircuitBreaker
from f1hbase.sources.http.errors import GiveUpError, TransientError, UnfaithfulError
from f1hbase.sources.http.limiter import SharedRateLimiter
from f1hbase.sources.http.shared import SharedState, machine_clock
from f1hbase.sources.openf1 import queue as queue_module
from f1hbase.sources.openf1.client import OpenF1Client
from f1hbase.sources.openf1.formats import records_of_json
from f1hbase.sources.openf1.queue import RequestQueue
from f1hbase.sources.openf1.token import TokenProvider
from simulator import Plan, simulate
from simulator.faults import KINDS

USER = Credentials("ayrton", "interlagos")
STEP = timedelta(seconds=10)
BUDGETS = pytest.mark.parametrize("budget", [None, 20_000], ids=["a request a unit", "auto"])
SEEDS = pytest.mark.parametrize("seed", [1, 2, 3], ids="seed {}".format)
NO_FAULTS: dict[str, Any] = {"share": 0.0, "fail": {}, "lock_out": False, "down": False}


@dataclass
class Data:
    """A simulated session: where it is, its units, and the records that each is to bring."""

    folder: Path
    scope: Scope
    drivers: list[int]
    units: list[Unit]
    truth: dict[Unit, list[str]]

    def windows_of(self, *endpoints: str) -> list[Unit]:
        return [unit for unit in self.units if unit.endpoint in endpoints]

    def largest_unit(self, *endpoints: str) -> int:
        """How many records the largest of some units has."""
        return max(len(self.truth[unit]) for unit in self.units if not endpoints or unit.endpoint in endpoints)


def load(folder: Path) -> Data:
    records: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for path in sorted(folder.rglob("*.jsonl.gz")):
        with gzip.open(path) as lines:
            records[path.name.removesuffix(".jsonl.gz")] += map(json.loads, lines)
    (session,) = records["sessions"]
    start, end = parse_time(session["date_start"]), parse_time(session["date_end"])
    scope = Scope(session["year"], session["meeting_key"], session["session_key"], start, end)
    drivers = [record["driver_number"] for record in records["drivers"]]
    units: list[Unit] = []
    for endpoint in ENDPOINTS.values():
        if endpoint.slicing is Slicing.SESSION:
            units.append(Unit(endpoint.name, scope))
        elif endpoint.slicing is Slicing.WINDOWS:
            spans = slice_time(start, end, STEP)
            units += [Unit(endpoint.name, scope, driver, window) for driver in drivers for window in spans]

    def belongs(record: dict[str, Any], unit: Unit) -> bool:
        own = unit.driver is None or record["driver_number"] == unit.driver
        return own and (unit.driver is None or parse_time(record["date"]) in unit.window)

    truth = {
        unit: sorted(exact(record) for record in records[unit.endpoint] if belongs(record, unit)) for unit in units
    }
    return Data(folder, scope, drivers, units, truth)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    folder = tmp_path_factory.mktemp("data")
    for _ in simulate(folder, Plan(sessions=("race",), minutes=1, drivers=3)):
        pass
    return load(folder)


@pytest.fixture(scope="module")
def only_server(data: Data) -> Iterator[ReplayServer]:
    login = ("--username", USER.username, "--password", USER.password)
    with ReplayServer(data.folder, *login, "--shuffle-seed", "5", "--fault-retry-after", "0") as server:
        yield server


@pytest.fixture
def server(only_server: ReplayServer) -> Iterator[ReplayServer]:
    """One server for all tests that change what it does wrong; each begins with one that does nothing wrong."""
    only_server.faults(**NO_FAULTS)
    yield only_server
    only_server.faults(**NO_FAULTS)


class JumpingTime:
    """A clock that jumps over every wait: a pause of a minute takes no time, and is a minute later."""

    def __init__(self) -> None:
        self._skipped = 0.0

    def clock(self) -> float:
        return machine_clock() + self._skipped

    async def sleep(self, seconds: float) -> None:
        self._skipped += seconds
        await asyncio.sleep(0)


class CountingLimiter(SharedRateLimiter):
    """Counts what it lets through."""

    grants = 0

    async def acquire(self) -> float:
        waited = await super().acquire()
        self.grants += 1
        return waited


@dataclass
class Fetched:
    """What was delivered."""

    records: dict[Unit, list[Any]] = field(default_factory=lambda: defaultdict(list))
    complete: Counter[Unit] = field(default_factory=Counter)
    answers: Counter[Unit] = field(default_factory=Counter)
    errors: dict[Unit, str] = field(default_factory=dict)
    requests: int = 0

    async def deliver(self, answer: Answer) -> None:
        assert self.complete[answer.unit] == 0, f"{answer.unit} goes on after it was complete"
        self.records[answer.unit] += answer.records
        self.complete[answer.unit] += answer.complete
        self.answers[answer.unit] += 1
        self.requests += answer.requests
        if answer.error is not None:
            self.errors[answer.unit] = answer.error

    def assert_whole(self, data: Data, units: Sequence[Unit]) -> None:
        """Check that each unit arrived, whole and exactly once."""
        assert self.errors == {}
        assert self.complete == Counter(units)
        for unit in units:
            assert sorted(map(exact, self.records[unit])) == data.truth[unit], unit


@dataclass
class Engine:
    """All parts of the source, as `open_source` puts them together, with a clock that jumps."""

    queue: RequestQueue
    limiter: CountingLimiter
    client: OpenF1Client
    looks: int = 0

    async def fetch(self, units: Sequence[Unit]) -> Fetched:
        fetched = Fetched()
        await self.queue.fetch(units, fetched.deliver)
        return fetched


@asynccontextmanager
async def engine(
    url: str,
    folder: Path,
    *,
    budget: int | None = None,
    retries: int = 10,
    answer_within: float = 10.0,
    concurrency: int = 4,
    tokens: TokenProvider | None = None,
    largest_body: int = 32_000_000,
    rates: str = "none",
    before_look: Callable[[int], None] = lambda _: None,
) -> AsyncIterator[Engine]:
    time = JumpingTime()
    limiter = CountingLimiter(parse_rates(rates), folder / "rate", clock=time.clock, sleep=time.sleep)
    async with OpenF1Client(url, answer_within, tokens=tokens, largest_body=largest_body) as client:

        async def look() -> None:
            made.looks += 1
            before_look(made.looks)
            await limiter.acquire()
            await client.get(Query("meetings", ("meeting_key=latest",)))

        queue = RequestQueue(
            client,
            limiter,
            CircuitBreaker(folder / "gate", look, patience=1e9, clock=time.clock, sleep=time.sleep),
            max_concurrent_requests=concurrency,
            max_retries=retries,
            retry_delay=0,
            budget=budget,
        )
        made = Engine(queue, limiter, client)
        yield made


def log_since(server: ReplayServer, before: int) -> list[dict[str, Any]]:
    return [entry for entry in server.log()[before:] if entry["path"].startswith("/v1/")]


# --- fewer, larger requests ---


async def test_units_that_share_requests_get_the_same_records_as_units_that_do_not(
    data: Data, server: ReplayServer, tmp_path: Path
) -> None:
    units = data.windows_of("car_data", "location")
    requests = {}
    for budget in (None, 2_000, 20_000, 4_000_000):
        async with engine(server.url, tmp_path, budget=budget) as source:
            fetched = await source.fetch(units)
        fetched.assert_whole(data, units)
        assert set(fetched.answers.values()) == {1}
        assert fetched.requests == source.limiter.grants
        requests[budget] = fetched.requests
    assert requests[None] == len(units)
    assert requests[4_000_000] <= 4
    assert requests[4_000_000] < requests[20_000] < requests[2_000] <= requests[None]


@BUDGETS
async def test_all_endpoints_of_a_session_arrive(
    data: Data, server: ReplayServer, tmp_path: Path, budget: int | None
) -> None:
    before = len(server.log())
    async with engine(server.url, tmp_path, budget=budget) as source:
        (await source.fetch(data.units)).assert_whole(data, data.units)
    asked_as_csv = {entry["path"] for entry in log_since(server, before) if "csv=true" in entry["query"]}
    assert asked_as_csv == (set() if budget is None else {"/v1/car_data", "/v1/location"})


async def test_units_with_holes_between_them_are_asked_for_and_nothing_else_is_delivered(
    data: Data, server: ReplayServer, tmp_path: Path
) -> None:
    units = [unit for number, unit in enumerate(data.windows_of("car_data")) if number % 5 not in {1, 3}]
    async with engine(server.url, tmp_path, budget=4_000_000) as source:
        (await source.fetch(units)).assert_whole(data, units)


# --- an API that gives less than was asked for ---


@pytest.mark.parametrize(("limit", "most", "budget"), [("--max-rows", "25", None), ("--max-bytes", "4000", 20_000)])
async def test_what_is_too_much_for_one_answer_arrives_in_parts(
    data: Data, tmp_path: Path, limit: str, most: str, budget: int | None
) -> None:
    units = [unit for unit in data.units if unit.endpoint != "race_control"]
    with ReplayServer(data.folder, limit, most) as strict:
        async with engine(strict.url, tmp_path, budget=budget) as source:
            fetched = await source.fetch(units)
        refused = sum(entry["status"] == 422 for entry in strict.log())
    fetched.assert_whole(data, units)
    assert refused > 0
    assert any(count > 1 for count in fetched.answers.values()), "some units came in parts"


async def test_requests_that_take_the_server_too_long_are_made_smaller_until_they_do_not(
    data: Data, tmp_path: Path
) -> None:
    units = data.windows_of("car_data", "location")
    slow = data.largest_unit("car_data", "location")
    with ReplayServer(data.folder, "--slow-rows", str(slow)) as server:
        async with engine(server.url, tmp_path, budget=4_000_000, retries=0) as source:
            fetched = await source.fetch(units)
        failed = [entry for entry in server.log() if entry["status"] == 500]
    fetched.assert_whole(data, units)
    assert failed
    assert len({(entry["path"], entry["query"]) for entry in failed}) == len(failed), "none is sent again as it was"


async def test_units_without_records_are_empty_and_have_not_failed_whatever_csv_says(
    data: Data, tmp_path: Path
) -> None:
    spans = slice_time(data.scope.date_start, data.scope.date_end, STEP)
    in_the_garage = [Unit("car_data", data.scope, driver, window) for driver in (98, 99) for window in spans]
    units = [*in_the_garage, *data.windows_of("car_data")]
    truth = data.truth | {unit: [] for unit in in_the_garage}
    with ReplayServer(data.folder, "--empty-csv-status", "500") as server:
        async with engine(server.url, tmp_path, budget=2_000, retries=3) as source:
            fetched = await source.fetch(units)
    fetched.assert_whole(Data(data.folder, data.scope, data.drivers, units, truth), units)
    assert fetched.requests <= 2 * len(units)


@BUDGETS
async def test_an_answer_larger_than_may_be_held_in_memory_is_asked_for_in_parts(
    data: Data, server: ReplayServer, tmp_path: Path, budget: int | None
) -> None:
    units = data.windows_of("car_data", "intervals", "laps")
    async with engine(server.url, tmp_path, budget=budget, largest_body=3_000) as source:
        fetched = await source.fetch(units)
    fetched.assert_whole(data, units)
    assert any(count > 1 for count in fetched.answers.values())


# --- an API that fails ---


@SEEDS
@BUDGETS
async def test_through_faults_of_every_kind_each_unit_arrives_whole_and_exactly_once(
    data: Data, server: ReplayServer, tmp_path: Path, budget: int | None, seed: int
) -> None:
    before = len(server.log())
    server.faults(share=0.3, seed=seed, kinds=list(KINDS))
    async with engine(server.url, tmp_path, budget=budget, answer_within=0.5) as source:
        fetched = await source.fetch(data.units)
    fetched.assert_whole(data, data.units)
    log = log_since(server, before)
    assert sum(entry["fault"] is not None for entry in log) > 0.15 * len(log)
    assert len(log) == source.limiter.grants


@SEEDS
@BUDGETS
async def test_a_record_that_was_not_asked_for_is_never_delivered(
    data: Data, server: ReplayServer, tmp_path: Path, budget: int | None, seed: int
) -> None:
    server.faults(share=0.5, seed=seed, kinds=["foreign"])
    async with engine(server.url, tmp_path, budget=budget) as source:
        fetched = await source.fetch(data.units)
    fetched.assert_whole(data, data.units)


@BUDGETS
async def test_a_request_is_never_sent_that_the_limiter_has_not_let_through(
    data: Data, server: ReplayServer, tmp_path: Path, budget: int | None
) -> None:
    """aiohttp would send a GET again by itself when the connection that it was kept for has been closed."""
    before = len(server.log())
    server.faults(share=0.4, seed=4, kinds=["closed", "reset"])
    async with engine(server.url, tmp_path, budget=budget) as source:
        (await source.fetch(data.units)).assert_whole(data, data.units)
    log = log_since(server, before)
    assert sum(entry["fault"] is not None for entry in log) >= 10
    assert len(log) == source.limiter.grants


@BUDGETS
async def test_an_endpoint_that_only_fails_does_not_hold_up_the_others_and_is_not_asked_for_long(
    data: Data, server: ReplayServer, tmp_path: Path, budget: int | None
) -> None:
    before = len(server.log())
    server.faults(fail={"car_data": 500})
    async with engine(server.url, tmp_path, budget=budget, retries=1, concurrency=2) as source:
        fetched = await source.fetch(data.units)
    broken = data.windows_of("car_data")
    assert set(fetched.errors) == set(broken)
    assert all("HTTP 500" in error for error in fetched.errors.values())
    assert fetched.complete == Counter(data.units)
    for unit in set(data.units) - set(broken):
        assert sorted(map(exact, fetched.records[unit])) == data.truth[unit]
    asked = sum(entry["path"] == "/v1/car_data" for entry in log_since(server, before))
    # Three units with a retry each, and as many as are under way when the third fails; with auto, each of them as
    # CSV too, and the larger requests before, which are halved and halved again.
    assert asked <= (2 * (3 + 2) if budget is None else 3 * (3 + 2) + 12) < 2 * len(broken)


async def test_units_outside_of_the_session_of_an_endpoint_that_only_fails_fail_too(
    data: Data, server: ReplayServer, tmp_path: Path
) -> None:
    after = Window((data.scope.date_end or parse_time("")) + timedelta(hours=1), None)
    units = [Unit("car_data", data.scope, driver, after) for driver in data.drivers]
    server.faults(fail={"car_data": 500})

    class AskedForEverError(Exception):
        pass

    def enough(looks: int) -> None:
        if looks > 50:
            raise AskedForEverError

    async with engine(server.url, tmp_path, budget=20_000, retries=1, before_look=enough) as source:
        fetched = await source.fetch(units)
    assert set(fetched.errors) == set(units)


async def test_the_engine_ends_well_when_the_rest_of_an_endpoint_is_given_up_while_a_request_waits_for_its_turn(
    tmp_path: Path,
) -> None:
    class Refusing(OpenF1Client):
        async def get(self, query: Query) -> bytes | None:
            for _ in range(10):
                await asyncio.sleep(0)
            raise GiveUpError("HTTP 400: no")

    class SlowLimiter(CountingLimiter):
        async def acquire(self) -> float:
            for _ in range(100):
                await asyncio.sleep(0)
            return await super().acquire()

    async def nobody() -> None:
        raise AssertionError

    limiter = SlowLimiter((), tmp_path / "rate")
    gate = CircuitBreaker(tmp_path / "gate", nobody, 60.0)
    client = Refusing("http://api.test/v1", 1.0)
    queue = RequestQueue(client, limiter, gate, max_concurrent_requests=3, max_retries=0, retry_delay=0)
    units = [Unit("car_data", a_scope(), driver) for driver in range(20)]
    fetched = Fetched()
    await queue.fetch(units, fetched.deliver)
    assert fetched.complete == Counter(units)
    assert set(fetched.errors) == set(units)


async def test_an_api_that_is_down_is_waited_for_and_then_all_arrives_without_using_up_retries(
    data: Data, server: ReplayServer, tmp_path: Path
) -> None:
    def up_at_the_fifth_look(look: int) -> None:
        if look == 5:
            server.faults(down=False)

    server.faults(down=True)
    async with engine(server.url, tmp_path, retries=0, before_look=up_at_the_fifth_look) as source:
        (await source.fetch(data.units)).assert_whole(data, data.units)
    assert source.looks == 5


@BUDGETS
async def test_a_live_session_is_waited_for_and_then_all_arrives_without_using_up_retries(
    data: Data, server: ReplayServer, tmp_path: Path, budget: int | None
) -> None:
    def over_at_the_fifth_look(look: int) -> None:
        if look == 5:
            server.faults(lock_out=False)

    so_far = server.faults()["requests"]
    server.faults(lock_out=f"{so_far + 6}-{so_far + 1_000_000}")
    async with engine(server.url, tmp_path, budget=budget, retries=0, before_look=over_at_the_fifth_look) as source:
        (await source.fetch(data.units)).assert_whole(data, data.units)
    assert source.looks == 5


async def test_a_token_that_is_refused_is_renewed_once_for_all(
    data: Data, server: ReplayServer, tmp_path: Path
) -> None:
    path = tmp_path / "api.sqlite"
    async with engine(server.url, tmp_path, tokens=TokenProvider(server.url, USER, path)) as source:
        await source.fetch([Unit("drivers", data.scope)])
    # Good for an hour, says the file, and the server has never heard of it.
    with SharedState(path).transaction() as (db, _):
        db.execute("UPDATE tokens SET token = 'x' || token")

    before = len(server.log())
    async with engine(server.url, tmp_path, tokens=TokenProvider(server.url, USER, path)) as source:
        (await source.fetch(data.units)).assert_whole(data, data.units)
    log = server.log()[before:]
    asked = [entry for entry in log if entry["path"] == "/v1/" + entry["path"].rpartition("/")[2]]
    refused = sum(entry["status"] == 401 for entry in log)
    assert sum(entry["path"] == "/token" for entry in log) == 1
    assert 1 <= refused <= 4, "those that were under way"
    assert len(asked) == source.limiter.grants == len(data.units) + refused


# --- CSV that lacks its last lines ---


@asynccontextmanager
async def answering(head: str, body: bytes) -> AsyncIterator[str]:
    """Serve one answer, whatever is asked, and then close the connection."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\n{head}Connection: close\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        yield f"http://{host}:{port}/v1"


CSV = to_csv([sample("location", x=x) for x in range(5)])
LINE_ENDS = [number + 1 for number, byte in enumerate(CSV) if byte == ord("\n")]
LOCATION = Query("location", ("session_key=9558",)).in_csv()


async def test_a_csv_that_is_as_long_as_it_says_is_taken() -> None:
    async with answering(f"Content-Length: {len(CSV)}\r\n", CSV) as url, OpenF1Client(url, 5.0) as client:
        assert await client.get(LOCATION) == CSV


@pytest.mark.parametrize("end", LINE_ENDS[:-1])
async def test_a_csv_that_is_cut_at_a_lines_end_is_shorter_than_it_says(end: int) -> None:
    async with answering(f"Content-Length: {len(CSV)}\r\n", CSV[:end]) as url, OpenF1Client(url, 5.0) as client:
        with pytest.raises(TransientError):
            await client.get(LOCATION)


@pytest.mark.parametrize("end", LINE_ENDS[:-1])
async def test_a_csv_in_chunks_of_which_the_last_is_missing_is_cut_off(end: int) -> None:
    chunk = f"{end:x}\r\n".encode() + CSV[:end] + b"\r\n"
    async with answering("Transfer-Encoding: chunked\r\n", chunk) as url, OpenF1Client(url, 5.0) as client:
        with pytest.raises(TransientError):
            await client.get(LOCATION)


async def test_a_csv_in_chunks_of_which_none_is_missing_is_taken() -> None:
    chunks = f"{len(CSV):x}\r\n".encode() + CSV + b"\r\n0\r\n\r\n"
    async with answering("Transfer-Encoding: chunked\r\n", chunks) as url, OpenF1Client(url, 5.0) as client:
        assert await client.get(LOCATION) == CSV


async def test_a_csv_that_does_not_say_how_long_it_is_is_asked_for_as_json() -> None:
    async with answering("", CSV) as url, OpenF1Client(url, 5.0) as client:
        with pytest.raises(UnfaithfulError):
            await client.get(LOCATION)


async def test_a_csv_that_cannot_say_one_value_is_replaced_by_json_and_no_unit_is_delivered_twice(
    tmp_path: Path,
) -> None:
    scope = a_scope()
    window = Window(START, START + timedelta(minutes=10))
    units = [Unit("location", scope, driver, window) for driver in (1, 4, 44)]
    records = [sample("location", driver_number=1), sample("location", driver_number=44, x="lost")]

    class Answering(OpenF1Client):
        async def get(self, query: Query) -> bytes | None:
            return to_csv(records) if query.as_csv else json.dumps(records).encode()

    async def nobody() -> None:
        raise AssertionError

    queue = RequestQueue(
        Answering("http://api.test/v1", 1.0),
        SharedRateLimiter((), tmp_path / "rate"),
        CircuitBreaker(tmp_path / "gate", nobody, 60.0),
        max_concurrent_requests=1,
        max_retries=0,
        retry_delay=0,
        budget=4_000_000,
    )
    fetched = Fetched()
    await queue.fetch(units, fetched.deliver)
    assert fetched.complete == Counter(units)
    assert [fetched.records[unit] for unit in units] == [records[:1], [], records[1:]]


# --- memory ---


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_while_the_receiver_is_busy_one_answer_is_decoded_and_the_others_wait_as_bytes(
    data: Data, server: ReplayServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, concurrency: int
) -> None:
    decoded = 0

    def counting(body: bytes, endpoint: Endpoint) -> Sequence[Any]:
        nonlocal decoded
        decoded += 1
        return records_of_json(body, endpoint)

    monkeypatch.setattr(queue_module, "records_of_json", counting)
    come: asyncio.Queue[Query] = asyncio.Queue()
    go_on, fetched = asyncio.Event(), Fetched()

    async def deliver(answer: Answer) -> None:
        await go_on.wait()
        await fetched.deliver(answer)

    units = data.windows_of("car_data")
    async with engine(server.url, tmp_path, concurrency=concurrency) as source:
        get: Callable[[Query], Awaitable[bytes | None]] = source.client.get

        async def get_and_tell(query: Query) -> bytes | None:
            body = await get(query)
            come.put_nowait(query)
            return body

        monkeypatch.setattr(source.client, "get", get_and_tell)
        fetching = asyncio.ensure_future(source.queue.fetch(units, deliver))
        for _ in range(concurrency):
            await come.get()
        for _ in range(100):
            await asyncio.sleep(0)
        assert decoded == 1
        assert source.limiter.grants == concurrency
        go_on.set()
        await fetching
    fetched.assert_whole(data, units)
    assert decoded == len(units)


async def test_with_auto_the_answers_under_way_are_fewer_when_they_may_be_larger(tmp_path: Path) -> None:
    under_way = most = 0

    class Watched(OpenF1Client):
        async def get(self, query: Query) -> bytes | None:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            for _ in range(20):
                await asyncio.sleep(0)
            under_way -= 1
            return None

    async def nobody() -> None:
        raise AssertionError

    for budget, at_most in ((1_000_000, 10), (4_000_000, 4), (16_000_000, 1), (64_000_000, 1)):
        most = 0
        limiter = SharedRateLimiter((), tmp_path / "rate")
        queue = RequestQueue(
            Watched("http://api.test/v1", 1.0),
            limiter,
            CircuitBreaker(tmp_path / "gate", nobody, 60.0),
            max_concurrent_requests=10,
            max_retries=0,
            retry_delay=0,
            budget=budget,
        )
        await queue.fetch([Unit("laps", a_scope(key)) for key in range(40)], Fetched().deliver)
        assert most == at_most
