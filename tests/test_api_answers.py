"""What each kind of answer of the API leads to: nothing is lost, nothing is asked in vain, all processes wait."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from aioresponses import aioresponses
from samples import START, a_scope

from f1hbase.model.answers import Answer, RequestStats
from f1hbase.model.coverage import union
from f1hbase.model.rates import parse_rates
from f1hbase.model.units import ALL_TIME, Unit, Window
from f1hbase.sources.http.answers import HttpAnswer, retry_after_seconds, slow_down_seconds
from f1hbase.sources.http.breaker import CircuitBreaker
from f1hbase.sources.http.errors import (
    AwayError,
    GiveUpError,
    NoAnswerError,
    RequestError,
    SessionLiveError,
    SlowDownError,
    SlowQueryError,
    TooMuchError,
    TransientError,
    UnfaithfulError,
)
from f1hbase.sources.http.limiter import SharedRateLimiter
from f1hbase.sources.openf1.client import OpenF1Client, address
from f1hbase.sources.openf1.formats import decode_json
from f1hbase.sources.openf1.query import Query
from f1hbase.sources.openf1.queue import RequestQueue
from f1hbase.sources.openf1.requests import batch_of
from f1hbase.sources.openf1.sizing import Sizes

BASE = "https://api.test/v1"
LAPS = Query("laps", ("session_key=9558",))
EVERY_ADDRESS = re.compile(r"^https://api\.test/v1/")
RECORDS = [{"lap_number": 1}, {"lap_number": 2}]
NO_RESULTS = '{"detail": "No results found."}'
LIVE = '{"detail": "Live F1 session in progress. Please try again later."}'
PAGE = "<!DOCTYPE html><html><title>500</title><body><h1>Internal Server Error</h1></body></html>"


class Limiter(SharedRateLimiter):
    """Lets everything through at once, and remembers who asked for what."""

    def __init__(self) -> None:
        self.grants = 0
        self.pauses: list[float] = []

    async def acquire(self) -> float:
        self.grants += 1
        await asyncio.sleep(0)
        return 0.0

    def pause(self, seconds: float, reason: str = "", *, bound: float = 1800.0) -> None:
        self.pauses.append(seconds)

    def paused_for(self) -> float:
        return 0.0

    def spend(self, size: int) -> None:
        pass


class ClosedCircuit(CircuitBreaker):
    """The breaker of an API that is there, whatever happens to one request; it remembers each live session."""

    def __init__(self) -> None:
        async def probe() -> None:
            raise AssertionError("nobody need look whether the API is there")

        super().__init__(Path(os.devnull), probe, patience=1e9)
        self.live = 0

    def answered(self) -> None:
        pass

    def now(self) -> float:
        return 0.0

    async def wait(self) -> None:
        await asyncio.sleep(0)

    async def away(self, error: RequestError, asked: float) -> bool:
        return False

    async def closed(self, error: SessionLiveError) -> None:
        self.live += 1


@pytest.fixture
def breaker() -> ClosedCircuit:
    return ClosedCircuit()


@pytest.fixture
def limiter() -> Limiter:
    return Limiter()


@pytest.fixture
def api() -> Iterator[aioresponses]:
    """The network: what is added to it is answered in this order, and nothing else is."""
    with aioresponses() as network:
        yield network


@pytest.fixture
async def client(api: aioresponses) -> AsyncIterator[OpenF1Client]:
    async with OpenF1Client(BASE, 30.0) as client:
        yield client


def queue_of(
    client: OpenF1Client,
    limiter: SharedRateLimiter,
    breaker: CircuitBreaker | None = None,
    *,
    retries: int = 3,
    at_once: int = 4,
) -> RequestQueue:
    """Return a queue whose retries do not wait."""
    breaker = breaker or ClosedCircuit()
    return RequestQueue(
        client, limiter, breaker, Sizes(4_000_000),
        max_concurrent_requests=at_once, max_retries=retries, retry_delay=0,
    )  # fmt: skip


@dataclass
class Fetched:
    """An answer whose records have been read."""

    unit: Unit
    records: list[Any]
    error: str | None
    stats: RequestStats
    complete: bool
    asked_at: datetime
    seconds: float

    @classmethod
    def of(cls, answer: Answer) -> Fetched:
        records = [record for some in answer.records for record in some]
        return cls(answer.unit, records, answer.error, answer.stats, answer.complete, answer.asked_at, answer.seconds)

    @property
    def requests(self) -> int:
        return self.stats.requests

    @property
    def retries(self) -> int:
        return self.stats.retries

    @property
    def bytes(self) -> int:
        return self.stats.bytes


Ask = Callable[..., Awaitable[Fetched]]


@pytest.fixture
def fetch(client: OpenF1Client, limiter: Limiter, breaker: ClosedCircuit) -> Ask:
    """Return a function that fetches one unit and returns its answer."""

    async def fetch_unit(unit: Unit | None = None, *, retries: int = 3) -> Fetched:
        answers: list[Fetched] = []

        async def deliver(answer: Answer) -> None:
            answers.append(Fetched.of(answer))

        await queue_of(client, limiter, breaker, retries=retries).fetch([unit or Unit("laps", a_scope())], deliver)
        (answer,) = answers
        return answer

    return fetch_unit


def answer_with(api: aioresponses, *answers: dict[str, Any]) -> None:
    for answer in answers:
        api.get(EVERY_ADDRESS, **answer)


def good(records: list[Any] | None = None) -> dict[str, Any]:
    return {"status": 200, "body": json.dumps(RECORDS if records is None else records)}


def requests_of(api: aioresponses) -> list[str]:
    return [str(url) for (_, url), calls in api.requests.items() for _ in calls]


# --- an answer ---


async def test_a_list_of_records_is_the_answer(api: aioresponses, fetch: Ask, limiter: Limiter) -> None:
    answer_with(api, good())
    answer = await fetch()
    assert (answer.records, answer.error) == (RECORDS, None)
    assert (answer.requests, answer.retries, answer.bytes) == (1, 0, len(json.dumps(RECORDS)))
    assert limiter.grants == 1
    assert limiter.pauses == []


@pytest.mark.parametrize(
    "nothing", [{"status": 200, "body": "[]"}, {"status": 404, "body": NO_RESULTS}], ids=["empty list", "404"]
)
async def test_no_records_is_an_answer_and_no_error(api: aioresponses, fetch: Ask, nothing: dict[str, Any]) -> None:
    answer_with(api, nothing)
    answer = await fetch()
    assert (answer.records, answer.error, answer.requests) == ([], None, 1)


@pytest.mark.parametrize(
    "body",
    [
        '{"detail": "Not Found"}',
        "<html>404</html>",
        "",
        "{}",
        "[]",
        '{"detail": ["No results found."]}',
        "No results found.",
        "<h1>No results</h1>",
        '"No results found."',
        '{"title": "No results found."}',
    ],
)
async def test_any_other_404_is_a_failure_and_never_no_records(api: aioresponses, fetch: Ask, body: str) -> None:
    answer_with(api, {"status": 404, "body": body})
    answer = await fetch()
    assert answer.error is not None
    assert "404" in answer.error
    assert answer.requests == 1


async def test_records_asked_for_by_a_query_come_as_a_list(
    api: aioresponses, client: OpenF1Client, limiter: Limiter
) -> None:
    answer_with(api, {"status": 503, "body": "no"}, good())
    records, _, stats = await queue_of(client, limiter).ask(LAPS)
    assert (records, stats.requests, stats.retries) == (RECORDS, 2, 1)


async def test_a_query_that_fails_for_good_says_so_to_who_asked(
    api: aioresponses, client: OpenF1Client, limiter: Limiter
) -> None:
    answer_with(api, {"status": 403, "body": '{"detail": "Forbidden"}'})
    with pytest.raises(GiveUpError, match="HTTP 403: Forbidden"):
        await queue_of(client, limiter).ask(LAPS)


# --- a refusal ---


@pytest.mark.parametrize(
    ("status", "body", "kind", "said"),
    [
        (400, '{"detail": "Unknown field speeed"}', GiveUpError, "HTTP 400: Unknown field speeed"),
        (401, '{"detail": "Invalid token"}', GiveUpError, "HTTP 401: Invalid token"),
        (401, LIVE, SessionLiveError, "Live F1 session in progress"),
        (403, "Forbidden", GiveUpError, "HTTP 403: Forbidden"),
        (404, '{"detail": "Not Found"}', GiveUpError, "HTTP 404: Not Found"),
        (408, "", TransientError, "HTTP 408"),
        (413, "too large", TooMuchError, "HTTP 413"),
        (422, '{"detail": "Request too large"}', TooMuchError, "HTTP 422: Request too large"),
        (422, '{"detail": [{"msg": "whatever the words"}]}', TooMuchError, "whatever the words"),
        (429, "slow", SlowDownError, "HTTP 429: slow"),
        (500, PAGE, SlowQueryError, "HTTP 500: Internal Server Error"),
        (502, "Bad Gateway", TransientError, "HTTP 502: Bad Gateway"),
        (503, "", TransientError, r"HTTP 503: \(nothing\)"),
        (504, "upstream request timeout", TransientError, "HTTP 504: upstream request timeout"),
    ],
)
async def test_each_refusal_is_of_its_kind_and_says_what_the_api_said(
    api: aioresponses, client: OpenF1Client, status: int, body: str, kind: type[RequestError], said: str
) -> None:
    answer_with(api, {"status": status, "body": body})
    with pytest.raises(kind, match=said) as refused:
        await client.get(LAPS)
    assert type(refused.value) is kind


@pytest.mark.parametrize(
    ("status", "body"),
    [(400, '{"detail": "Unknown field speeed"}'), (401, '{"detail": "Invalid token"}'), (403, "no"), (405, "no")],
)
async def test_a_refusal_that_asking_again_would_not_mend_is_not_asked_again(
    api: aioresponses, fetch: Ask, status: int, body: str
) -> None:
    answer_with(api, {"status": status, "body": body})
    answer = await fetch()
    assert answer.error is not None
    assert answer.error.startswith(f"HTTP {status}: ")
    assert (answer.records, answer.requests, answer.retries) == ([], 1, 0)


@pytest.mark.parametrize("endpoint", ["weather", "laps", "championship_teams", "car_data"])
async def test_an_api_that_finds_everything_too_much_is_not_asked_for_ever(endpoint: str, limiter: Limiter) -> None:
    def always_too_much(query: Query, number: int) -> bytes:
        assert sum(scripted.asked.values()) < 1000, f"asked for ever: {query}"
        assert number == 1, f"asked again in the same words: {query}"
        raise TooMuchError("HTTP 422: no")

    scripted = Scripted(always_too_much, laziness=0)
    answers = await collect(queue_of(scripted, limiter), [Unit(endpoint, a_scope())])
    assert all(answer.error is not None and "HTTP 422: no" in answer.error for answer in answers)
    assert union(answer.unit.window for answer in answers) == [ALL_TIME]


async def test_what_is_too_much_for_one_answer_is_asked_for_in_parts_and_nothing_is_lost(limiter: Limiter) -> None:
    """The server gives at most 10 records at once; each record belongs to one minute."""
    first = START - timedelta(hours=3)
    moments = [first + timedelta(minutes=minutes) for minutes in range(8 * 60)]

    def at_most_ten(query: Query, number: int) -> bytes:
        edges = [re.split("(>=|<)", text)[1:] for text in query.filters if text.startswith("date")]
        limits = {sign: datetime.fromisoformat(text).replace(tzinfo=UTC) for sign, text in edges}
        window = Window(limits.get(">="), limits.get("<"))
        found = [{"date": moment.isoformat()} for moment in moments if moment in window]
        if len(found) > 10:
            raise TooMuchError("HTTP 422: too much")
        return json.dumps(found).encode()

    answers = await collect(queue_of(Scripted(at_most_ten, laziness=0), limiter), [Unit("weather", a_scope())])

    assert [answer.error for answer in answers if answer.error] == []
    assert all(answer.complete for answer in answers), "each half is a unit of its own"
    assert union(answer.unit.window for answer in answers) == [ALL_TIME]
    dates = [record["date"] for answer in answers for record in answer.records]
    assert sorted(dates) == [moment.isoformat() for moment in moments]


async def test_the_words_of_the_api_are_kept_on_one_line(api: aioresponses, client: OpenF1Client) -> None:
    answer_with(api, {"status": 400, "body": json.dumps({"detail": "first\n[ERROR] second\r" + "x" * 10_000})})
    with pytest.raises(GiveUpError) as refused:
        await client.get(LAPS)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 1000


# --- what an answer says beside its records ---


async def test_an_answer_comes_whole_with_its_times_and_its_address(api: aioresponses, client: OpenF1Client) -> None:
    answer_with(api, {"status": 200, "body": "[]", "headers": {"Content-Type": "application/json; charset=utf-8"}})
    before = datetime.now(UTC)
    answer = await client.fetch(LAPS)
    assert (answer.status, answer.content_type, answer.body) == (200, "application/json", b"[]")
    assert answer.url == f"{BASE}/laps?session_key=9558"
    assert before <= answer.asked_at <= answer.received_at <= datetime.now(UTC)
    assert answer.requests == 1
    assert answer.is_empty


@pytest.mark.parametrize(
    ("answer", "empty"),
    [
        ({"status": 200, "body": "[]"}, True),
        ({"status": 200, "body": " [ ]"}, False),
        ({"status": 200, "body": "[]\n"}, True),
        ({"status": 404, "body": NO_RESULTS}, True),
        ({"status": 200, "body": ""}, False),
        ({"status": 200, "body": "[1]"}, False),
    ],
)
async def test_an_answer_knows_whether_it_is_empty(
    api: aioresponses, client: OpenF1Client, answer: dict[str, Any], empty: bool
) -> None:
    answer_with(api, answer)
    assert (await client.fetch(LAPS)).is_empty is empty


TRACEBACK = """Traceback (most recent call last):
  File "/app/query_api/app.py", line 131, in endpoint
    raise ValueError("No results")
{}
"""


async def test_the_reason_of_a_500_is_the_last_line_of_its_traceback(api: aioresponses, client: OpenF1Client) -> None:
    answer_with(api, {"status": 500, "body": TRACEBACK.format("pymongo.errors.NetworkTimeout: db:27017: timed out")})
    with pytest.raises(SlowQueryError) as failed:
        await client.get(LAPS)
    assert str(failed.value) == "HTTP 500: pymongo.errors.NetworkTimeout: db:27017: timed out"
    assert failed.value.body_end == "pymongo.errors.NetworkTimeout: db:27017: timed out"
    assert 0.0 <= failed.value.seconds < 4.0


@pytest.mark.parametrize("body", [PAGE, '{"detail": "Internal Server Error"}', "Internal Server Error"])
async def test_a_500_without_a_traceback_says_what_it_says(api: aioresponses, client: OpenF1Client, body: str) -> None:
    answer_with(api, {"status": 500, "body": body})
    with pytest.raises(SlowQueryError, match="HTTP 500: Internal Server Error"):
        await client.get(LAPS)


async def test_a_csv_500_whose_last_line_is_no_results_is_an_empty_answer(
    api: aioresponses, client: OpenF1Client
) -> None:
    body = TRACEBACK.format("ValueError: No results")
    answer_with(api, *[{"status": 500, "body": body}] * 3)
    assert await client.get(LAPS.in_csv()) is None
    assert (await client.fetch(LAPS.in_csv())).is_empty
    with pytest.raises(SlowQueryError):
        await client.get(LAPS)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("ValueError: No results found in cache", UnfaithfulError),
        ("KeyError: 'date'", UnfaithfulError),
        ("pymongo.errors.ExecutionTimeout: operation exceeded time limit", SlowQueryError),
        ("asyncio.exceptions.TimeoutError: timed out", SlowQueryError),
    ],
)
async def test_another_csv_500_is_asked_for_as_json_unless_it_names_a_time_limit(
    api: aioresponses, client: OpenF1Client, reason: str, kind: type[RequestError]
) -> None:
    answer_with(api, {"status": 500, "body": TRACEBACK.format(reason)})
    with pytest.raises(kind, match=re.escape(reason)):
        await client.get(LAPS.in_csv())


async def test_a_csv_500_after_4_5_seconds_is_a_slow_query(
    api: aioresponses, client: OpenF1Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_with(api, {"status": 500, "body": "Internal Server Error"})
    monkeypatch.setattr(HttpAnswer, "seconds", property(lambda _: 4.5))
    with pytest.raises(SlowQueryError) as failed:
        await client.get(LAPS.in_csv())
    assert failed.value.seconds == 4.5


# --- redirects and connections, of real servers ---


@asynccontextmanager
async def a_server(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    async with TestServer(app) as server:
        yield str(server.make_url("/v1"))


async def test_a_redirect_to_another_host_is_not_followed_so_its_404_makes_nothing_done() -> None:
    asked: list[str] = []

    async def elsewhere(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.json_response({"detail": "No results found."}, status=404)

    async with a_server(elsewhere) as other:

        async def redirect(_: web.Request) -> web.Response:
            raise web.HTTPFound(f"{other}/laps")

        async with a_server(redirect) as here, OpenF1Client(here, 30.0) as client:
            with pytest.raises(GiveUpError) as refused:
                await client.get(LAPS)
    assert asked == []
    assert here.removesuffix("/v1") in str(refused.value)
    assert other.removesuffix("/v1") in str(refused.value)
    assert "--api-url" in str(refused.value)


async def test_a_redirect_within_the_host_is_followed_and_each_request_is_admitted() -> None:
    admitted = 0

    async def admit() -> None:
        nonlocal admitted
        admitted += 1

    async def move(request: web.Request) -> web.Response:
        if request.path == "/v1/laps":
            raise web.HTTPTemporaryRedirect("/v1/laps/?" + request.query_string)
        assert request.query_string == "session_key=9558"
        return web.json_response(RECORDS)

    async with a_server(move) as here, OpenF1Client(here, 30.0, admit=admit) as client:
        answer = await client.fetch(LAPS)
    assert json.loads(answer.body) == RECORDS
    assert answer.url.endswith("/v1/laps/?session_key=9558")
    assert (answer.requests, admitted) == (2, 1)


@pytest.mark.parametrize("location", ["/v1/laps", "", "http://[", "//", "javascript:alert(1)", "\x07"])
async def test_a_redirect_that_leads_nowhere_is_given_up(api: aioresponses, location: str) -> None:
    answer_with(api, *[{"status": 301, "headers": {"Location": location}}] * 5)
    async with OpenF1Client(BASE, 30.0) as client:
        with pytest.raises(GiveUpError, match="redirects") as refused:
            await client.get(LAPS)
    assert str(refused.value).isprintable()


async def test_an_idle_connection_ends_before_the_server_closes_it() -> None:
    """uvicorn does so after 5 seconds, and a request sent just then is lost."""
    async with OpenF1Client(BASE, 30.0) as client:
        assert client._session is not None
        connector = client._session.connector
        assert isinstance(connector, aiohttp.TCPConnector)
        assert connector._keepalive_timeout == 4.0


@pytest.mark.parametrize(
    "url",
    ["https://api.test/v1\r\nX: 1", "https://api .test", "ftp://api.test", "api.test", f"https://{'a' * 64}.org", ""],
)
def test_what_is_no_url_is_refused_before_anything_is_asked(url: str) -> None:
    with pytest.raises(ValueError, match=r"is no (URL|host name)") as refused:
        OpenF1Client(url, 30.0)
    assert str(refused.value).isprintable()


async def test_a_name_and_password_in_the_url_are_not_shown(api: aioresponses) -> None:
    api.get(re.compile("^https://"), exception=aiohttp.ClientConnectionError("no"))
    api.get(re.compile("^https://"), status=200, body="[]")
    async with OpenF1Client("https://ayrton:hunter2@api.test/v1", 30.0) as client:
        with pytest.raises(NoAnswerError) as failed:
            await client.get(LAPS)
        assert "hunter2" not in str(failed.value)
        assert (await client.fetch(LAPS)).url == f"{BASE}/laps?session_key=9558"


# --- 429: all processes wait ---


@pytest.mark.parametrize("header", [None, "0", "1", "-1", "soon", "7", "100"])
def test_pauses_grow_whatever_the_api_says_and_are_never_nothing(header: str | None) -> None:
    said = retry_after_seconds(header, datetime.now(UTC))
    pauses = [slow_down_seconds(said, number) for number in range(12)]
    assert pauses == sorted(pauses)
    assert pauses[0] >= (said or 1.0)
    assert pauses[-1] == 120.0
    assert sum(pauses[:5]) >= 30.0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 1.0),
        ("00007", 7.0),
        ("9" * 5000, 86_400.0),
        ("\u0663", None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 1.0),
        ("Thu, 01 Jan 1970 00:00:00", 1.0),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
        ("", None),
    ],
)
def test_a_retry_after_is_read_or_is_none(header: str, seconds: float | None) -> None:
    assert retry_after_seconds(header, datetime.now(UTC)) == seconds


def http_date(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(("header", "pause"), [("7", 7.0), (" 0 ", 1.0), (None, 10.0), ("soon", 10.0), ("-3", 10.0)])
async def test_after_a_429_everything_pauses_for_as_long_as_the_api_says_or_10_seconds(
    api: aioresponses, fetch: Ask, limiter: Limiter, header: str | None, pause: float
) -> None:
    answer_with(api, {"status": 429, "headers": {} if header is None else {"Retry-After": header}}, good())
    assert (await fetch()).records == RECORDS
    assert limiter.pauses == [pause]


@pytest.mark.parametrize(("ahead", "least", "most"), [(30.0, 25.0, 30.0), (-30.0, 1.0, 1.0)])
async def test_a_429_may_say_until_when_with_a_date(
    api: aioresponses, fetch: Ask, limiter: Limiter, ahead: float, least: float, most: float
) -> None:
    answer_with(api, {"status": 429, "headers": {"Retry-After": http_date(ahead)}}, good())
    await fetch()
    (pause,) = limiter.pauses
    assert least <= pause <= most


async def test_a_429_does_not_use_up_a_retry(api: aioresponses, fetch: Ask, limiter: Limiter) -> None:
    answer_with(api, *[{"status": 429}] * 5, {"status": 503}, *[{"status": 429}] * 5, good())
    answer = await fetch(retries=1)
    assert (answer.records, answer.error) == (RECORDS, None)
    assert (answer.requests, answer.retries) == (12, 11)
    assert limiter.grants == 12
    assert len(limiter.pauses) == 10


async def test_a_429_holds_back_the_next_request_of_every_process(
    api: aioresponses, client: OpenF1Client, tmp_path: Path
) -> None:
    now = [1000.0]

    async def sleep(seconds: float) -> None:
        now[0] += seconds

    def limiter_of_a_process() -> SharedRateLimiter:
        return SharedRateLimiter(parse_rates("100/s"), tmp_path / "api.sqlite", clock=lambda: now[0], sleep=sleep)

    answer_with(api, {"status": 429, "headers": {"Retry-After": "60"}}, good())
    mine, other = limiter_of_a_process(), limiter_of_a_process()
    records, _, _ = await queue_of(client, mine).ask(LAPS)
    assert records == RECORDS
    assert now[0] >= 1060.0

    now[0] = 1030.0
    assert other.paused_for() == pytest.approx(30.0)


# --- 401: a live session closes the free API ---


async def test_while_a_session_is_live_everything_waits_at_the_gate_without_using_up_retries(
    api: aioresponses, fetch: Ask, breaker: ClosedCircuit
) -> None:
    answer_with(api, *[{"status": 401, "body": LIVE}] * 4, good())
    answer = await fetch(retries=0)
    assert (answer.records, answer.error) == (RECORDS, None)
    assert breaker.live == 4


async def test_a_request_that_is_refused_for_longer_than_any_session_lasts_ends_the_run(
    api: aioresponses, client: OpenF1Client, limiter: Limiter
) -> None:
    class Hours(ClosedCircuit):
        """A breaker whose probe is answered after an hour each time."""

        def now(self) -> float:
            return self.live * 3600.0

    breaker = Hours()
    answer_with(api, *[{"status": 401, "body": LIVE}] * 20)
    with pytest.raises(AwayError, match="for 12 h, longer than any lasts"):
        await queue_of(client, limiter, breaker).ask(LAPS)
    assert breaker.live == 12


async def test_a_live_session_is_said_and_looked_at_again_until_it_is_over_whatever_the_patience(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("f1hbase"), "propagate", True)
    now = [1000.0]
    looks = [SessionLiveError("HTTP 401: Live F1 session in progress")] * 120

    async def sleep(seconds: float) -> None:
        now[0] += seconds

    async def probe() -> None:
        if looks:
            raise looks.pop()

    breaker = CircuitBreaker(tmp_path / "api.sqlite", probe, patience=60.0, clock=lambda: now[0], sleep=sleep)
    await breaker.closed(SessionLiveError("HTTP 401: Live F1 session in progress"))

    assert not looks
    assert 3600 <= now[0] - 1000.0 <= 3 * 3600, "120 looks are about two hours"
    assert "Live F1 session in progress" in caplog.text


# --- what may be better next time ---

TRANSIENT: dict[str, dict[str, Any]] = {
    "500 with a page": {"status": 500, "body": PAGE},
    "502 with text": {"status": 502, "body": "Bad Gateway"},
    "503 with text": {"status": 503, "body": "upstream connect error"},
    "504 with text": {"status": 504, "body": "upstream request timeout"},
    "200 with a page": {"status": 200, "body": PAGE},
    "200 cut off": {"status": 200, "body": '[{"lap_number": 1}, {"lap_num'},
    "200 cut off within a character": {"status": 200, "body": '[{"a": "é"}]'.encode()[:9]},
    "200 with an object": {"status": 200, "body": '{"detail": "No results found."}'},
    "200 with a text": {"status": 200, "body": '"ok"'},
    "200 nested too deeply": {"status": 200, "body": "[" * 100_000},
    "no connection": {"exception": aiohttp.ClientConnectionError("Connection refused")},
    "connection closed midway": {"exception": aiohttp.ServerDisconnectedError()},
    "body broken off": {"exception": aiohttp.ClientPayloadError("Response payload is not completed")},
    "reset": {"exception": aiohttp.ClientOSError(104, "Connection reset by peer")},
    "no answer in time": {"exception": TimeoutError()},
    "socket timed out": {"exception": aiohttp.SocketTimeoutError()},
}  # fmt: skip
each_transient = pytest.mark.parametrize("failure", TRANSIENT.values(), ids=list(TRANSIENT))


@each_transient
async def test_it_is_asked_again_and_nothing_is_lost(api: aioresponses, fetch: Ask, failure: dict[str, Any]) -> None:
    answer_with(api, failure, failure, good())
    answer = await fetch()
    assert (answer.records, answer.error) == (RECORDS, None)
    assert (answer.requests, answer.retries) == (3, 2)


@each_transient
async def test_after_its_retries_it_is_a_failure_with_the_reason_and_no_records(
    api: aioresponses, fetch: Ask, limiter: Limiter, failure: dict[str, Any]
) -> None:
    answer_with(api, *[failure] * 20, good())
    answer = await fetch(retries=3)
    assert answer.error
    assert answer.records == []
    assert answer.requests == limiter.grants >= 4  # a window that was too slow is tried in parts as well


async def test_the_last_request_of_a_failure_was_not_sent_again_and_is_no_retry(api: aioresponses, fetch: Ask) -> None:
    answer_with(api, *[{"status": 503}] * 4)
    assert (await fetch(retries=3)).retries == 3


async def test_the_reason_of_a_failure_is_the_last_one(api: aioresponses, fetch: Ask) -> None:
    answer_with(api, {"status": 503, "body": "first"}, {"status": 504, "body": "last"})
    answer = await fetch(retries=1)
    assert answer.error == "HTTP 504: last"


async def test_without_retries_a_failure_is_final_at_once(api: aioresponses, fetch: Ask) -> None:
    answer_with(api, {"status": 503, "body": "no"}, good())
    assert (await fetch(retries=0)).error == "HTTP 503: no"


@pytest.mark.parametrize(
    ("exception", "kind", "said"),
    [
        (TimeoutError(), SlowQueryError, "no answer within 30 s"),
        (
            aiohttp.ClientConnectionError("Connection refused"),
            NoAnswerError,
            "Connection refused",
        ),
    ],
)
async def test_it_is_said_whether_the_api_could_not_be_reached_or_did_not_answer(
    api: aioresponses, client: OpenF1Client, exception: Exception, kind: type[RequestError], said: str
) -> None:
    answer_with(api, {"exception": exception})
    with pytest.raises(kind, match=re.escape(said)):
        await client.get(LAPS)


@pytest.mark.parametrize("body", [b"<html><b>Sorry</b></html>", b"[1, 2", b'{"a": 1}', b"null", b"\xff\xfe"])
def test_a_body_that_is_not_a_list_is_quoted_in_the_reason(body: bytes) -> None:
    with pytest.raises(TransientError) as failed:
        decode_json(body)
    assert len(str(failed.value)) < 400
    if body.startswith(b"<"):
        assert str(failed.value).endswith("Sorry")


async def test_a_200_without_a_body_is_a_cut_off_answer_and_not_no_records(api: aioresponses, fetch: Ask) -> None:
    answer_with(api, {"status": 200, "body": ""}, good())
    assert (await fetch()).records == RECORDS


# --- many units at once ---


class Scripted(OpenF1Client):
    """A client that counts who is under way, and answers as a function says."""

    def __init__(self, answer: Callable[[Query, int], bytes], laziness: int = 50) -> None:
        super().__init__(BASE, 30.0)
        self._laziness = laziness
        self._answer = answer
        self.asked: dict[str, int] = {}
        self.under_way = 0
        self.most = 0

    async def fetch(self, query: Query, held: AsyncExitStack | None = None) -> HttpAnswer:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            # So that all come to be under way, and overtake each other.
            for _ in range(self._laziness * (1 + len(str(query)) % 3)):
                await asyncio.sleep(0)
            number = self.asked[str(query)] = self.asked.get(str(query), 0) + 1
            now = datetime.now(UTC)
            return HttpAnswer(200, "application/json", self._answer(query, number), now, now, str(query))
        finally:
            self.under_way -= 1


def units(count: int) -> list[Unit]:
    return [Unit("laps", a_scope(9558), driver) for driver in range(count)]


def driver_of(query: Query) -> int:
    return int(query.filters[1].partition("=")[2])


def own_record(query: Query, number: int) -> bytes:
    return json.dumps([{"driver_number": driver_of(query)}]).encode()


async def collect(queue: RequestQueue, wanted: list[Unit]) -> list[Fetched]:
    answers: list[Fetched] = []

    async def deliver(answer: Answer) -> None:
        answers.append(Fetched.of(answer))

    await queue.fetch(wanted, deliver)
    return answers


@pytest.mark.parametrize(("at_once", "most"), [(1, 1), (2, 2), (10, 3)])
async def test_no_more_requests_than_allowed_are_under_way_at_once_and_no_fewer(
    limiter: Limiter, at_once: int, most: int
) -> None:
    """Of answers near 4 MB no more than three, whatever is allowed: they are held in memory until they are stored."""
    client = Scripted(own_record)
    answers = await collect(queue_of(client, limiter, at_once=at_once), units(40))
    assert len(answers) == 40
    assert client.most == most


async def test_each_unit_is_asked_for_once_and_gets_its_own_records(limiter: Limiter) -> None:
    client = Scripted(own_record)
    answers = await collect(queue_of(client, limiter), units(30))
    assert sorted(answer.unit.driver or 0 for answer in answers) == list(range(30))
    assert all(answer.records == [{"driver_number": answer.unit.driver}] for answer in answers)
    assert set(client.asked.values()) == {1}


async def test_units_that_fail_at_the_same_time_have_their_own_retries_each(limiter: Limiter) -> None:
    """tenacity keeps the state of a retry in the object that is iterated: units that shared it would mix."""

    def fails_as_often_as_its_number_says(query: Query, number: int) -> bytes:
        if number <= driver_of(query) % 5:
            raise TransientError(f"driver {driver_of(query)}, request {number}")
        return own_record(query, number)

    answers = await collect(queue_of(Scripted(fails_as_often_as_its_number_says), limiter, retries=3), units(40))

    assert len(answers) == 40
    for answer in answers:
        driver = answer.unit.driver or 0
        if driver % 5 == 4:
            assert answer.error == f"driver {driver}, request 4"
            assert answer.records == []
        else:
            assert answer.error is None
            assert answer.records == [{"driver_number": driver}]
        assert answer.requests == min(driver % 5, 3) + 1


async def test_a_unit_that_fails_does_not_keep_the_others_from_being_delivered(limiter: Limiter) -> None:
    def driver_3_is_refused(query: Query, number: int) -> bytes:
        if driver_of(query) == 3:
            raise GiveUpError("HTTP 400: no")
        return own_record(query, number)

    answers = await collect(queue_of(Scripted(driver_3_is_refused), limiter), units(10))
    assert {answer.unit.driver: answer.error for answer in answers if answer.error} == {3: "HTTP 400: no"}
    assert len(answers) == 10


async def test_one_answer_is_decoded_and_delivered_at_a_time_while_the_others_wait_as_bytes(limiter: Limiter) -> None:
    client = Scripted(own_record)
    queue = queue_of(client, limiter, at_once=3)
    may_go_on = asyncio.Event()
    delivering: list[int | None] = []
    most = 0

    async def deliver(answer: Answer) -> None:
        nonlocal most
        assert list(answer.records)
        delivering.append(answer.unit.driver)
        most = max(most, len(delivering))
        await may_go_on.wait()
        await asyncio.sleep(0)
        delivering.remove(answer.unit.driver)

    fetching = asyncio.create_task(queue.fetch(units(12), deliver))
    for _ in range(500):
        await asyncio.sleep(0)
    assert len(delivering) == 1
    assert sum(client.asked.values()) == 3, "the others have come meanwhile, and no more are asked for"
    may_go_on.set()
    await fetching
    assert most == 1
    assert sum(client.asked.values()) == 12


async def test_an_error_of_who_receives_ends_the_fetching(limiter: Limiter) -> None:
    async def deliver(answer: Answer) -> None:
        raise LookupError("the store is gone")

    with pytest.raises(ExceptionGroup) as ended:
        await queue_of(Scripted(own_record), limiter).fetch(units(3), deliver)
    assert ended.group_contains(LookupError)


async def test_an_answer_says_when_it_was_asked_for(limiter: Limiter) -> None:
    before = datetime.now(UTC)
    (answer,) = await collect(queue_of(Scripted(own_record), limiter), units(1))
    assert before <= answer.asked_at <= datetime.now(UTC)
    assert answer.seconds >= 0.0


# --- the address ---


def test_an_address_encodes_what_a_proxy_might_not_let_through_and_keeps_the_equals_sign() -> None:
    query = Query("car_data", ("session_key=9159", "date>=2023-09-15T13:00:00", "date<2023-09-15T13:15:00"))
    assert str(address(BASE, query)) == (
        f"{BASE}/car_data?session_key=9159&date%3E=2023-09-15T13:00:00&date%3C2023-09-15T13:15:00"
    )


def test_an_address_without_filters_has_no_question_mark() -> None:
    assert str(address(BASE, Query("sessions"))) == f"{BASE}/sessions"


def test_a_value_cannot_change_the_query_it_is_part_of() -> None:
    text = str(address(BASE, Query("drivers", ("team_name=A&B #1+2",))))
    assert text == f"{BASE}/drivers?team_name=A%26B%20%231%2B2"


@pytest.mark.parametrize(
    ("unit", "filters"),
    [
        (Unit("meetings", a_scope(None)), ("meeting_key=1240",)),
        (Unit("laps", a_scope()), ("session_key=9558",)),
        (Unit("laps", a_scope(), 44), ("session_key=9558", "driver_number=44")),
        (
            Unit("car_data", a_scope(), 44, Window(START, START + timedelta(minutes=15))),
            ("session_key=9558", "driver_number=44", "date>=2024-07-07T14:00:00", "date<2024-07-07T14:15:00"),
        ),
        (Unit("car_data", a_scope(), 44, Window(START, None)), ("session_key=9558", "driver_number=44",
                                                                "date>=2024-07-07T14:00:00")),
        (Unit("car_data", a_scope(), 44, Window(None, START)), ("session_key=9558", "driver_number=44",
                                                                "date<2024-07-07T14:00:00")),
    ],
)  # fmt: skip
def test_a_unit_is_asked_for_with_these_filters(unit: Unit, filters: tuple[str, ...]) -> None:
    assert batch_of(unit).query() == Query(unit.endpoint, filters)


def test_times_are_asked_for_in_utc_without_a_zone_whose_plus_would_arrive_as_a_space() -> None:
    local = START.astimezone(timezone(timedelta(hours=5, minutes=30)))
    unit = Unit("car_data", a_scope(), 1, Window(local, local + timedelta(microseconds=1)))
    assert batch_of(unit).query().filters[2:] == ("date>=2024-07-07T14:00:00", "date<2024-07-07T14:00:00.000001")
    assert "+" not in str(address(BASE, batch_of(unit).query()))
