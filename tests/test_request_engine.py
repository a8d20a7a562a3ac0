"""Whatever a real server does wrong, every unit arrives whole and exactly once, or it is named as failed."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from replay_server import ReplayServer
from samples import START, a_scope, exact, sample

from f1hbase.credentials import Credentials
from f1hbase.model.answers import Answer, Records, RequestStats
from f1hbase.model.catalog import ENDPOINTS, Endpoint
from f1hbase.model.coverage import union
from f1hbase.model.rates import parse_rates
from f1hbase.model.times import parse_time
from f1hbase.model.units import ALL_TIME, Scope, Unit, Window, slice_time
from f1hbase.serve.csvform import to_csv
from f1hbase.sources.http.answers import HttpAnswer
from f1hbase.sources.http.breaker import CircuitBreaker
from f1hbase.sources.http.errors import (
    GiveUpError,
    RequestError,
    SlowQueryError,
    TooMuchError,
    TransientError,
    UnfaithfulError,
)
from f1hbase.sources.http.limiter import SharedRateLimiter
from f1hbase.sources.http.shared import SharedState, machine_clock
from f1hbase.sources.openf1 import queue as queue_module
from f1hbase.sources.openf1.client import OpenF1Client
from f1hbase.sources.openf1.formats import decode_answer
from f1hbase.sources.openf1.query import Query
from f1hbase.sources.openf1.queue import RequestQueue
from f1hbase.sources.openf1.sizing import Sizes
from f1hbase.sources.openf1.token import TokenProvider
from simulator import Plan, simulate
from simulator.faults import KINDS

USER = Credentials("ayrton", "interlagos")
STEP = timedelta(seconds=20)
SIZES: list[dict[str, Any]] = [{"window": STEP}, {"budget": 200_000}]
BUDGETS = pytest.mark.parametrize("sizes", SIZES, ids=["fixed windows", "auto"])
SEEDS = pytest.mark.parametrize("seed", [1, 2, 3], ids="seed {}".format)
NO_FAULTS: dict[str, Any] = {"share": 0.0, "fail": {}, "lock_out": False, "down": False}
UNLISTED = 241
"""A car that only `location` has."""


@dataclass
class Data:
    """A simulated meeting: where it is, its sessions, the units to ask for, and the records that there are."""

    folder: Path
    scopes: list[Scope]
    records: dict[tuple[str, Scope], list[dict[str, Any]]]

    @property
    def units(self) -> list[Unit]:
        """One unit for each endpoint and session."""
        return [
            Unit(name, scope)
            for name, endpoint in ENDPOINTS.items()
            if not endpoint.of_meeting
            for scope in self.scopes
        ]

    def units_of(self, *endpoints: str) -> list[Unit]:
        return [unit for unit in self.units if unit.endpoint in endpoints]

    def truth(self, unit: Unit) -> list[str]:
        """Return the records that a unit is to bring, as texts in order."""
        return sorted(
            exact(record)
            for record in self.records[unit.endpoint, unit.scope]
            if (unit.driver is None or record["driver_number"] == unit.driver)
            and (unit.window == ALL_TIME or parse_time(record["date"]) in unit.window)
        )


def load(folder: Path) -> Data:
    records: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for path in sorted(folder.rglob("*.jsonl.gz")):
        with gzip.open(path) as lines:
            records[path.name.removesuffix(".jsonl.gz")] += map(json.loads, lines)
    scopes = []
    for session in sorted(records["sessions"], key=lambda one: str(one["date_start"])):
        start, end = parse_time(session["date_start"]), parse_time(session["date_end"])
        kind = session["session_type"]
        scopes.append(Scope(session["year"], session["meeting_key"], session["session_key"], start, end, kind=kind))
    by_session = {
        (name, scope): [one for one in records[name] if one.get("session_key") == scope.session_key]
        for name in ENDPOINTS
        for scope in scopes
    }
    return Data(folder, scopes, by_session)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    folder = tmp_path_factory.mktemp("data")
    for _ in simulate(folder, Plan(sessions=("qualifying", "race"), minutes=1, drivers=3)):
        pass
    found = load(folder)
    race = found.scopes[-1]
    one = found.records["location", race][0] | {"driver_number": UNLISTED}
    (folder / "safety-car").mkdir()
    with gzip.open(folder / "safety-car" / "location.jsonl.gz", "wt") as file:
        file.write(json.dumps(one) + "\n")
    found.records["location", race].append(one)
    return found


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
    """What was delivered: by unit, whose window may be a part of that of the unit asked for."""

    records: dict[Unit, list[Any]] = field(default_factory=lambda: defaultdict(list))
    complete: Counter[Unit] = field(default_factory=Counter)
    answers: Counter[Unit] = field(default_factory=Counter)
    errors: dict[Unit, str] = field(default_factory=dict)
    stats: RequestStats = field(default_factory=RequestStats)

    async def deliver(self, answer: Answer) -> None:
        assert self.complete[answer.unit] == 0, f"{answer.unit} goes on after it was complete"
        records = [record for some in answer.records for record in some]
        # From here on it is delivered: what decoding raises, it raises before.
        self.records[answer.unit] += records
        self.complete[answer.unit] += answer.complete
        self.answers[answer.unit] += 1
        self.stats.add(answer.stats)
        if answer.error is not None:
            self.errors[answer.unit] = answer.error

    def windows(self, asked: Unit) -> list[Unit]:
        """Return what of a unit was delivered, in order of time."""
        mine = [
            unit
            for unit in self.complete
            if (unit.endpoint, unit.scope, unit.driver) == (asked.endpoint, asked.scope, asked.driver)
            and unit.window.overlaps(asked.window)
        ]
        return sorted(mine, key=lambda unit: unit.window.start or datetime.min.replace(tzinfo=UTC))

    def assert_whole(self, data: Data, units: Sequence[Unit]) -> None:
        """Check that each unit arrived, whole and exactly once."""
        assert self.errors == {}
        assert set(self.complete.values()) <= {1}
        told: list[Unit] = []
        for unit in units:
            parts = self.windows(unit)
            told += parts
            assert parts, f"nothing came of {unit}"
            assert (parts[0].window.start, parts[-1].window.end) == (unit.window.start, unit.window.end)
            assert all(before.window.end == after.window.start is not None for before, after in pairwise(parts)), unit
            found = [record for part in parts for record in self.records[part]]
            assert sorted(map(exact, found)) == data.truth(unit), unit
            for part in parts:
                assert sorted(map(exact, self.records[part])) == data.truth(part), part
        assert Counter(told) == self.complete, "nothing else came"


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
    budget: int = 4_000_000,
    window: timedelta | None = None,
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
            await client.fetch(Query("meetings", ("meeting_key=1141",)))

        queue = RequestQueue(
            client,
            limiter,
            CircuitBreaker(folder / "breaker", look, patience=1e9, clock=time.clock, sleep=time.sleep),
            Sizes(budget, window),
            max_concurrent_requests=concurrency,
            max_retries=retries,
            retry_delay=0,
        )
        made = Engine(queue, limiter, client)
        yield made


def log_since(server: ReplayServer, before: int) -> list[dict[str, Any]]:
    return [entry for entry in server.log()[before:] if entry["path"].startswith("/v1/")]


# --- what a session is cut into ---


async def test_the_records_are_the_same_whatever_the_length_of_the_windows(
    data: Data, server: ReplayServer, tmp_path: Path
) -> None:
    units = data.units_of("car_data", "location")
    requests = {}
    for name, sizes in {"fixed": {"window": STEP}, "small": {"budget": 200_000}, "whole": {}}.items():
        async with engine(server.url, tmp_path, **sizes) as source:  # type: ignore[arg-type]
            fetched = await source.fetch(units)
        fetched.assert_whole(data, units)
        assert set(fetched.answers.values()) == {1}, "one request is one unit"
        assert fetched.stats.requests == source.limiter.grants == len(fetched.complete)
        requests[name] = fetched.stats.requests
    assert requests["fixed"] == 2 * 2 * 3
    assert requests["whole"] <= 8
    assert requests["whole"] < requests["small"]


@BUDGETS
async def test_all_endpoints_of_all_sessions_arrive(
    data: Data, server: ReplayServer, tmp_path: Path, sizes: dict[str, Any]
) -> None:
    before = len(server.log())
    async with engine(server.url, tmp_path, **sizes) as source:
        (await source.fetch(data.units)).assert_whole(data, data.units)
    log = log_since(server, before)
    assert {e["path"] for e in log if "csv=true" in e["query"]} == {"/v1/car_data", "/v1/location"}
    assert not any("driver_number" in entry["query"] for entry in log)


async def test_what_has_no_windows_is_one_request_for_all_sessions(
    data: Data, server: ReplayServer, tmp_path: Path
) -> None:
    before = len(server.log())
    units = [unit for unit in data.units if unit.endpoint not in {"car_data", "location", "intervals"}]
    async with engine(server.url, tmp_path) as source:
        fetched = await source.fetch(units)
    fetched.assert_whole(data, units)
    log = log_since(server, before)
    assert Counter(entry["path"] for entry in log) == Counter({f"/v1/{unit.endpoint}" for unit in units})
    both = "&".join(f"session_key={scope.session_key}" for scope in data.scopes)
    assert {entry["query"] for entry in log} == {both}
    assert fetched.stats.requests == len(log)


async def test_a_car_that_no_list_names_arrives(data: Data, server: ReplayServer, tmp_path: Path) -> None:
    race = data.scopes[-1]
    async with engine(server.url, tmp_path) as source:
        fetched = await source.fetch([Unit("location", race)])
    drivers = {record["driver_number"] for records in fetched.records.values() for record in records}
    assert UNLISTED in drivers
    assert UNLISTED not in {record["driver_number"] for record in data.records["drivers", race]}


async def test_a_driver_asked_for_is_a_unit_of_its_own(data: Data, server: ReplayServer, tmp_path: Path) -> None:
    race = data.scopes[-1]
    number = data.records["drivers", race][0]["driver_number"]
    units = [Unit(name, race, driver) for name in ("car_data", "laps") for driver in (number, 99)]
    async with engine(server.url, tmp_path) as source:
        fetched = await source.fetch(units)
    fetched.assert_whole(data, units)


async def test_windows_with_holes_between_them_are_asked_for_and_nothing_else_is_delivered(
    data: Data, server: ReplayServer, tmp_path: Path
) -> None:
    race = data.scopes[-1]
    spans = slice_time(race.date_start, race.date_end, timedelta(seconds=5))
    units = [Unit("car_data", race, None, window) for number, window in enumerate(spans) if number % 5 not in {1, 3}]
    async with engine(server.url, tmp_path) as source:
        (await source.fetch(units)).assert_whole(data, units)


# --- an API that gives less than was asked for ---


@pytest.mark.parametrize(("limit", "most"), [("--max-rows", "25"), ("--max-bytes", "4000")])
async def test_what_is_too_much_for_one_answer_arrives_in_smaller_ones(
    data: Data, tmp_path: Path, limit: str, most: str
) -> None:
    units = [unit for unit in data.units if unit.endpoint not in {"race_control", "car_data", "location"}]
    samples = [Unit("car_data", data.scopes[-1], None, Window(data.scopes[-1].date_end, None))]
    with ReplayServer(data.folder, limit, most) as strict:
        async with engine(strict.url, tmp_path) as source:
            fetched = await source.fetch([*units, *samples])
        log = log_since(strict, 0)
    fetched.assert_whole(data, [*units, *samples])
    assert sum(entry["status"] == 422 for entry in log) > 0
    assert len({(entry["path"], entry["query"]) for entry in log}) == len(log), "nothing is asked for twice"


async def test_a_unit_without_dates_that_is_too_much_is_asked_for_by_ranges_of_drivers(tmp_path: Path) -> None:
    """By session, then by ranges of drivers, each with all of its records; the last one is open."""
    laps = [
        sample("laps", driver_number=number, lap_number=lap) for number in (1, 4, 44, 63, 81, 241) for lap in (1, 2)
    ]
    with ReplayServer(written(tmp_path, "laps", laps), "--max-rows", "4") as strict:
        async with engine(strict.url, tmp_path) as source:
            units = [Unit("laps", a_scope()), Unit("laps", a_scope(9557))]
            fetched = await source.fetch(units)
        queries = [entry["query"] for entry in log_since(strict, 0)]
    assert fetched.errors == {}
    assert fetched.complete == Counter(units)
    assert sorted(map(exact, fetched.records[units[0]])) == sorted(map(exact, laps))
    assert fetched.answers[units[0]] > 2
    assert queries[0] == "session_key=9558&session_key=9557"
    assert {"session_key=9558", "session_key=9557"} <= set(queries)
    assert any("driver_number%3E=100" in query or "driver_number>=100" in query for query in map(_plain, queries))


async def test_a_unit_of_one_driver_that_is_too_much_has_failed_and_is_not_done(tmp_path: Path) -> None:
    laps = [sample("laps", lap_number=lap) for lap in range(9)]
    with ReplayServer(written(tmp_path, "laps", laps), "--max-rows", "5") as strict:
        async with engine(strict.url, tmp_path) as source:
            unit = Unit("laps", a_scope())
            fetched = await source.fetch([unit])
    assert "cannot be cut smaller" in fetched.errors[unit]


async def test_so_many_records_of_one_instant_that_no_window_is_small_enough_have_failed(tmp_path: Path) -> None:
    at_once = [sample("race_control", sector=sector) for sector in range(9)]
    window = Window(parse_time(at_once[0]["date"]) - timedelta(seconds=8), parse_time(at_once[0]["date"]) + STEP)
    with ReplayServer(written(tmp_path, "race_control", at_once), "--max-rows", "5") as strict:
        async with engine(strict.url, tmp_path) as source:
            fetched = await source.fetch([Unit("race_control", a_scope(), None, window)])
    (failed,) = fetched.errors
    assert failed.window.is_closed
    assert sum(len(records) for unit, records in fetched.records.items() if unit != failed) == 0


def written(folder: Path, endpoint: str, records: list[dict[str, Any]]) -> Path:
    """Return a folder with the records of one endpoint."""
    target = folder / "records"
    target.mkdir()
    (target / f"{endpoint}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return target


def _plain(query: str) -> str:
    return query.replace("%3E", ">").replace("%3C", "<")


async def test_requests_that_take_the_server_too_long_are_made_smaller_until_they_do_not(tmp_path: Path) -> None:
    scope = a_scope(date_end=START + timedelta(minutes=30))
    dates = [(START + timedelta(seconds=second)).isoformat() for second in range(0, 1_800, 2)]
    records = [sample("car_data", date=date) for date in dates]
    slow = Data(written(tmp_path, "car_data", records), [scope], {("car_data", scope): records})
    units = [Unit("car_data", scope)]
    with ReplayServer(slow.folder, "--slow-rows", "200") as server:
        async with engine(server.url, tmp_path, retries=0) as source:
            fetched = await source.fetch(units)
        log = log_since(server, 0)
    fetched.assert_whole(slow, units)
    failed = Counter((e["path"], e["query"].replace("&csv=true", "")) for e in log if e["status"] == 500)
    assert failed
    assert max(failed.values()) <= 2, "as CSV and as JSON; none is sent again as it was"


@pytest.mark.parametrize("status", ["404", "500"])
async def test_units_without_records_are_empty_and_have_not_failed_whatever_csv_says(
    data: Data, tmp_path: Path, status: str
) -> None:
    race = data.scopes[-1]
    units = [Unit("car_data", race, driver) for driver in (98, 99)] + [Unit("pit", race, 98)]
    arguments = ["--empty-csv-status", status]
    with ReplayServer(data.folder, *arguments) as server:
        async with engine(server.url, tmp_path, retries=3) as source:
            fetched = await source.fetch(units)
    fetched.assert_whole(data, units)
    assert fetched.stats.requests <= 2 * len(fetched.complete)


@BUDGETS
async def test_an_answer_larger_than_may_be_held_in_memory_is_asked_for_in_smaller_ones(
    data: Data, server: ReplayServer, tmp_path: Path, sizes: dict[str, Any]
) -> None:
    units = data.units_of("car_data", "intervals", "laps")
    async with engine(server.url, tmp_path, largest_body=10_000, **sizes) as source:
        fetched = await source.fetch(units)
    fetched.assert_whole(data, units)
    assert len(fetched.windows(data.units_of("intervals")[-1])) > 1


# --- an API that fails ---


@SEEDS
@BUDGETS
async def test_through_faults_of_every_kind_each_unit_arrives_whole_and_exactly_once(
    data: Data, server: ReplayServer, tmp_path: Path, sizes: dict[str, Any], seed: int
) -> None:
    before = len(server.log())
    server.faults(share=0.3, seed=seed, kinds=list(KINDS))
    async with engine(server.url, tmp_path, **sizes, answer_within=0.5) as source:
        fetched = await source.fetch(data.units)
    fetched.assert_whole(data, data.units)
    log = log_since(server, before)
    assert sum(entry["fault"] is not None for entry in log) > 0.15 * len(log)
    assert len(log) == source.limiter.grants


@SEEDS
@BUDGETS
async def test_a_record_that_was_not_asked_for_is_never_delivered(
    data: Data, server: ReplayServer, tmp_path: Path, sizes: dict[str, Any], seed: int
) -> None:
    server.faults(share=0.5, seed=seed, kinds=["foreign"])
    async with engine(server.url, tmp_path, **sizes) as source:
        fetched = await source.fetch(data.units)
    fetched.assert_whole(data, data.units)


@BUDGETS
async def test_a_request_is_never_sent_that_the_limiter_has_not_let_through(
    data: Data, server: ReplayServer, tmp_path: Path, sizes: dict[str, Any]
) -> None:
    """aiohttp would send a GET again by itself when the connection that it was kept for has been closed."""
    before = len(server.log())
    server.faults(share=0.4, seed=4, kinds=["closed", "reset"])
    async with engine(server.url, tmp_path, **sizes) as source:
        (await source.fetch(data.units)).assert_whole(data, data.units)
    log = log_since(server, before)
    assert sum(entry["fault"] is not None for entry in log) >= 10
    assert len(log) == source.limiter.grants


@BUDGETS
async def test_an_endpoint_that_only_fails_does_not_hold_up_the_others_and_is_not_asked_for_long(
    data: Data, server: ReplayServer, tmp_path: Path, sizes: dict[str, Any]
) -> None:
    before = len(server.log())
    server.faults(fail={"car_data": 500, "laps": 500})
    async with engine(server.url, tmp_path, retries=1, concurrency=2, **sizes) as source:
        fetched = await source.fetch(data.units)
    broken = data.units_of("car_data", "laps")
    assert {(unit.endpoint, unit.scope) for unit in fetched.errors} == {(unit.endpoint, unit.scope) for unit in broken}
    assert all("HTTP 500" in error for error in fetched.errors.values())
    assert set(fetched.complete.values()) == {1}
    for unit in set(data.units) - set(broken):
        parts = fetched.windows(unit)
        assert sorted(exact(record) for part in parts for record in fetched.records[part]) == data.truth(unit)
    for unit in broken:
        parts = fetched.windows(unit)
        assert (parts[0].window.start, parts[-1].window.end) == (None, None), "all of it is named as failed"
        assert all(one.window.end == other.window.start for one, other in pairwise(parts))
    asked = Counter(entry["path"] for entry in log_since(server, before))
    # Of each session three units with a retry each, as CSV and as JSON, and as many as are under way meanwhile, with
    # the larger requests before, which are halved and halved again.
    assert asked["/v1/car_data"] <= 2 * (2 * 2 * (3 + 2) + 12)
    assert asked["/v1/laps"] <= 1 + 2 * 2 + 2 * 2 * 12


async def test_units_outside_of_the_session_of_an_endpoint_that_only_fails_fail_too(
    data: Data, server: ReplayServer, tmp_path: Path
) -> None:
    race = data.scopes[-1]
    after = Window((race.date_end or START) + timedelta(hours=1), None)
    units = [Unit("car_data", race, driver, after) for driver in (None, 1, 44)]
    server.faults(fail={"car_data": 500})

    class AskedForEverError(Exception):
        pass

    def enough(looks: int) -> None:
        if looks > 50:
            raise AskedForEverError

    async with engine(server.url, tmp_path, retries=1, before_look=enough) as source:
        fetched = await source.fetch(units)
    assert set(fetched.errors) == set(units)


async def test_an_endpoint_that_hangs_is_not_asked_for_in_ever_smaller_parts(tmp_path: Path) -> None:
    asked: list[str] = []

    class Hanging(OpenF1Client):
        async def fetch(self, query: Query, held: AsyncExitStack | None = None) -> HttpAnswer:
            asked.append(str(query))
            raise SlowQueryError("no answer within 2 s", seconds=2.0)

    unit = Unit("car_data", a_scope(date_end=START + timedelta(hours=2)))
    queue = a_queue(Hanging("http://api.test/v1", 1.0), tmp_path)
    fetched = Fetched()
    await queue.fetch([unit], fetched.deliver)
    assert union(failed.window for failed in fetched.errors) == [unit.window]
    assert not any(map(len, fetched.records.values()))
    # The whole, the times before and after the session, and what was under way meanwhile.
    assert len(asked) <= 3, asked


@pytest.mark.parametrize("error", [TooMuchError("HTTP 422"), SlowQueryError("HTTP 500"), TransientError("HTTP 504")])
async def test_a_request_for_several_sessions_that_fails_is_sent_for_each_of_them(
    tmp_path: Path, error: RequestError
) -> None:
    asked: list[tuple[str, ...]] = []

    class OneByOne(OpenF1Client):
        async def fetch(self, query: Query, held: AsyncExitStack | None = None) -> HttpAnswer:
            asked.append(query.filters)
            if len(query.filters) > 1:
                raise error
            key = int(query.filters[0].partition("=")[2])
            return an_http_answer(json.dumps([sample("laps", session_key=key)]).encode())

    units = [Unit("laps", a_scope(key)) for key in (9556, 9557, 9558)]
    queue = a_queue(OneByOne("http://api.test/v1", 1.0), tmp_path)
    fetched = Fetched()
    await queue.fetch(units, fetched.deliver)
    assert fetched.errors == {}
    assert [[record["session_key"] for record in fetched.records[unit]] for unit in units] == [[9556], [9557], [9558]]
    assert len(asked) == 4
    assert fetched.stats.requests == 4, "the one in vain is counted, too"


async def test_of_several_sessions_one_that_fails_is_named_and_the_others_arrive(tmp_path: Path) -> None:
    class BrokenSession(OpenF1Client):
        async def fetch(self, query: Query, held: AsyncExitStack | None = None) -> HttpAnswer:
            if "session_key=9557" in query.filters:
                raise TooMuchError("HTTP 422: too much")
            key = int(query.filters[0].partition("=")[2])
            return an_http_answer(json.dumps([sample("championship_teams", session_key=key)]).encode())

    units = [Unit("championship_teams", a_scope(key)) for key in (9556, 9557, 9558)]
    queue = a_queue(BrokenSession("http://api.test/v1", 1.0), tmp_path)
    fetched = Fetched()
    await queue.fetch(units, fetched.deliver)
    assert set(fetched.errors) == {units[1]}
    assert "cannot be cut smaller" in fetched.errors[units[1]]
    assert fetched.complete == Counter(units)


@pytest.mark.parametrize("foreign", [{"session_key": 9559}, {"meeting_key": 7}])
async def test_a_record_of_a_session_that_was_not_asked_for_spoils_a_shared_answer(
    tmp_path: Path, foreign: dict[str, Any]
) -> None:
    number = 0

    class OnceForeign(OpenF1Client):
        async def fetch(self, query: Query, held: AsyncExitStack | None = None) -> HttpAnswer:
            nonlocal number
            number += 1
            records = [sample("laps", session_key=key) for key in (9557, 9558)]
            if number == 1:
                records.append(sample("laps", **foreign))
            return an_http_answer(json.dumps(records).encode())

    units = [Unit("laps", a_scope(key)) for key in (9557, 9558)]
    queue = a_queue(OnceForeign("http://api.test/v1", 1.0), tmp_path, retries=1)
    fetched = Fetched()
    await queue.fetch(units, fetched.deliver)
    assert number == 2
    assert {unit: len(records) for unit, records in fetched.records.items()} == dict.fromkeys(units, 1)


async def test_of_a_shared_answer_each_unit_says_which_records_are_its_own(tmp_path: Path) -> None:
    body = json.dumps([sample("laps", session_key=9557)]).encode()

    class Answering(OpenF1Client):
        async def fetch(self, query: Query, held: AsyncExitStack | None = None) -> HttpAnswer:
            return an_http_answer(body)

    answers: list[Answer] = []

    async def deliver(answer: Answer) -> None:
        list(answer.records)
        answers.append(answer)

    units = [Unit("laps", a_scope(key)) for key in (9557, 9558)]
    await a_queue(Answering("http://api.test/v1", 1.0), tmp_path).fetch(units, deliver)
    assert [answer.select for answer in answers] == [{"session_key": 9557}, {"session_key": 9558}]
    assert [answer.raw.body if answer.raw else None for answer in answers] == [body, body]
    assert {answer.raw.request for answer in answers if answer.raw} == {"laps?session_key=9557&session_key=9558"}


def an_http_answer(body: bytes, content_type: str = "application/json", status: int = 200) -> HttpAnswer:
    return HttpAnswer(status, content_type, body, START, START, "http://api.test/v1")


def a_queue(
    client: OpenF1Client, folder: Path, *, concurrency: int = 1, retries: int = 0, budget: int = 4_000_000
) -> RequestQueue:
    """Return a queue without limits, whose API is never away."""

    async def probe() -> None:
        return None

    return RequestQueue(
        client,
        SharedRateLimiter((), folder / "rate"),
        CircuitBreaker(folder / "breaker", probe, 60.0),
        Sizes(budget),
        max_concurrent_requests=concurrency,
        max_retries=retries,
        retry_delay=0,
    )


async def test_the_engine_ends_well_when_the_rest_of_an_endpoint_is_given_up_while_a_request_waits_for_its_turn(
    tmp_path: Path,
) -> None:
    class Refusing(OpenF1Client):
        async def fetch(self, query: Query, held: AsyncExitStack | None = None) -> HttpAnswer:
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

    queue = RequestQueue(
        Refusing("http://api.test/v1", 1.0),
        SlowLimiter((), tmp_path / "rate"),
        CircuitBreaker(tmp_path / "breaker", nobody, 60.0),
        Sizes(4_000_000),
        max_concurrent_requests=3,
        max_retries=0,
        retry_delay=0,
    )
    units = [Unit("car_data", a_scope(), driver) for driver in range(20)]
    fetched = Fetched()
    await queue.fetch(units, fetched.deliver)
    assert set(fetched.complete.values()) == {1}
    assert set(fetched.errors) == set(fetched.complete)
    for unit in units:
        parts = fetched.windows(unit)
        assert (parts[0].window.start, parts[-1].window.end) == (None, None)


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
    data: Data, server: ReplayServer, tmp_path: Path, sizes: dict[str, Any]
) -> None:
    def over_at_the_fifth_look(look: int) -> None:
        if look == 5:
            server.faults(lock_out=False)

    so_far = server.faults()["requests"]
    server.faults(lock_out=f"{so_far + 6}-{so_far + 1_000_000}")
    async with engine(server.url, tmp_path, **sizes, retries=0, before_look=over_at_the_fifth_look) as source:
        (await source.fetch(data.units)).assert_whole(data, data.units)
    assert source.looks == 5


async def test_a_token_that_is_refused_is_renewed_once_for_all(
    data: Data, server: ReplayServer, tmp_path: Path
) -> None:
    path = tmp_path / "api.sqlite"
    async with engine(server.url, tmp_path, tokens=TokenProvider(server.url, USER, path)) as source:
        await source.fetch([Unit("drivers", data.scopes[-1])])
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
    assert len(asked) == source.limiter.grants


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
        assert (await client.fetch(LOCATION)).body == CSV


@pytest.mark.parametrize("end", LINE_ENDS[:-1])
async def test_a_csv_that_is_cut_at_a_lines_end_is_shorter_than_it_says(end: int) -> None:
    async with answering(f"Content-Length: {len(CSV)}\r\n", CSV[:end]) as url, OpenF1Client(url, 5.0) as client:
        with pytest.raises(TransientError):
            await client.fetch(LOCATION)


@pytest.mark.parametrize("end", LINE_ENDS[:-1])
async def test_a_csv_in_chunks_of_which_the_last_is_missing_is_cut_off(end: int) -> None:
    chunk = f"{end:x}\r\n".encode() + CSV[:end] + b"\r\n"
    async with answering("Transfer-Encoding: chunked\r\n", chunk) as url, OpenF1Client(url, 5.0) as client:
        with pytest.raises(TransientError):
            await client.fetch(LOCATION)


async def test_a_csv_in_chunks_of_which_none_is_missing_is_taken() -> None:
    chunks = f"{len(CSV):x}\r\n".encode() + CSV + b"\r\n0\r\n\r\n"
    async with answering("Transfer-Encoding: chunked\r\n", chunks) as url, OpenF1Client(url, 5.0) as client:
        assert (await client.fetch(LOCATION)).body == CSV


async def test_a_csv_that_does_not_say_how_long_it_is_is_asked_for_as_json() -> None:
    async with answering("", CSV) as url, OpenF1Client(url, 5.0) as client:
        with pytest.raises(UnfaithfulError):
            await client.fetch(LOCATION)


async def test_a_csv_that_cannot_say_one_value_is_replaced_by_json_and_no_unit_is_delivered_twice(
    tmp_path: Path,
) -> None:
    unit = Unit("location", a_scope(), None, Window(START, START + timedelta(minutes=10)))
    records = [sample("location", driver_number=1), sample("location", driver_number=44, x="lost")]
    asked: list[bool] = []

    class Answering(OpenF1Client):
        async def fetch(self, query: Query, held: AsyncExitStack | None = None) -> HttpAnswer:
            asked.append(query.as_csv)
            if query.as_csv:
                return an_http_answer(to_csv(records), "text/csv")
            return an_http_answer(json.dumps(records).encode())

    fetched = Fetched()
    await a_queue(Answering("http://api.test/v1", 1.0), tmp_path).fetch([unit], fetched.deliver)
    assert fetched.complete == Counter([unit])
    assert fetched.records[unit] == records
    assert asked == [True, False]
    assert fetched.stats.requests == 2


# --- memory ---


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_while_the_receiver_is_busy_one_answer_is_decoded_and_the_others_wait_as_bytes(
    data: Data, server: ReplayServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, concurrency: int
) -> None:
    decoded = 0

    def counting(endpoint: Endpoint, content_type: str, body: bytes) -> Records:
        nonlocal decoded
        decoded += 1
        return decode_answer(endpoint, content_type, body)

    monkeypatch.setattr(queue_module, "decode_answer", counting)
    come: asyncio.Queue[Query] = asyncio.Queue()
    go_on, fetched = asyncio.Event(), Fetched()

    async def deliver(answer: Answer) -> None:
        await go_on.wait()
        await fetched.deliver(answer)

    race = data.scopes[-1]
    units = [Unit("car_data", race, None, window) for window in slice_time(race.date_start, race.date_end, STEP / 2)]
    async with engine(server.url, tmp_path, concurrency=concurrency) as source:
        fetch = source.client.fetch

        async def fetch_and_tell(query: Query, held: AsyncExitStack | None = None) -> HttpAnswer:
            answer = await fetch(query, held)
            come.put_nowait(query)
            return answer

        monkeypatch.setattr(source.client, "fetch", fetch_and_tell)
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


async def test_the_answers_under_way_are_fewer_when_they_may_be_larger(tmp_path: Path) -> None:
    under_way = most = 0

    class Watched(OpenF1Client):
        async def fetch(self, query: Query, held: AsyncExitStack | None = None) -> HttpAnswer:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            for _ in range(20):
                await asyncio.sleep(0)
            under_way -= 1
            return an_http_answer(b"[]")

    for budget, at_most in ((1_000_000, 10), (4_000_000, 3), (16_000_000, 1), (64_000_000, 1)):
        most = 0
        queue = a_queue(Watched("http://api.test/v1", 1.0), tmp_path, concurrency=10, budget=budget)
        await queue.fetch([Unit("laps", a_scope(meeting_key=key)) for key in range(40)], Fetched().deliver)
        assert most == at_most
