"""Jolpica as a source: seasons and races as meetings and sessions, and the records of their units."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit

from f1hbase.config import JOLPICA_URL
from f1hbase.errors import F1HBaseError, UnreachableError
from f1hbase.model.answers import Answer, Listing, RawAnswer, RequestStats
from f1hbase.model.catalog import HISTORY_ENDPOINTS
from f1hbase.model.history import as_listed
from f1hbase.model.plans import Selection
from f1hbase.model.rates import Limits
from f1hbase.model.samples import Record
from f1hbase.model.text import safe
from f1hbase.model.times import LONG_AGO, lenient_time
from f1hbase.model.units import Unit, race_scope, season_scope
from f1hbase.sources.base import Deliver
from f1hbase.sources.http.asking import Asker, open_limiter
from f1hbase.sources.http.breaker import CircuitBreaker
from f1hbase.sources.http.errors import AwayError, RequestError
from f1hbase.sources.http.limiter import state_path
from f1hbase.sources.jolpica.client import NAME, JolpicaClient, PageAnswer
from f1hbase.sources.jolpica.pages import read_pages
from f1hbase.sources.jolpica.questions import Question, questions_of

_log = logging.getLogger(__name__)


FIRST_YEAR = 1950

_AT_ONCE = 4
"""How many questions a process has under way at once: as many as Jolpica takes requests a second."""

_SAME_RACE = timedelta(hours=24)
"""How far apart two sources may say that a race starts; a race of the fifties has no time of day."""

OPENF1_FIELDS = frozenset({"openf1_meeting_key", "openf1_session_key"})


@dataclass(frozen=True, slots=True)
class KnownRace:
    """A race as OpenF1 has it, by which its keys are found.

    Attributes:
        start: When it begins.
        meeting_key, session_key: Its keys.
    """

    start: datetime
    meeting_key: int
    session_key: int


@dataclass(frozen=True, slots=True)
class JolpicaOptions:
    """How Jolpica is asked; can be handed to another process.

    Attributes:
        url: Where it is.
        limits: How many requests may be sent, by all processes of the user on this machine.
        max_concurrent_requests: How many requests may be under way at once in a process; never more than four are.
        max_retries: How often a request that failed is sent again.
        retry_delay: The longest wait before the first retry, in seconds.
        request_timeout: How long one request may take, in seconds.
        known_races: The races that are loaded from OpenF1, whose keys are added to the same races here.
    """

    url: str = JOLPICA_URL
    limits: Limits = field(default_factory=Limits)
    max_concurrent_requests: int = 10
    max_retries: int = 3
    retry_delay: float = 5.0
    request_timeout: float = 60.0
    known_races: tuple[KnownRace, ...] = ()


class JolpicaSource:
    """Jolpica; see `f1hbase.sources.base.Source`.

    Args:
        asker: What asks it.
        options: How.
    """

    name = NAME
    first_year = FIRST_YEAR
    keys = "the season 1991 has the meeting key 199100, and its fifth race the session key 199105"

    def __init__(self, asker: Asker[PageAnswer], options: JolpicaOptions) -> None:
        self._asker = asker
        self._options = options
        self.home = options.url

    async def listing(self, selection: Selection) -> Listing:
        """Return the races that a selection may mean as sessions, and their seasons as meetings.

        It takes a request for the seasons, and one a season that is asked for, or one a hundred races for all. With
        the mode `latest`, the last race is the last one that has results.

        Raises:
            UnreachableError: If it does not answer, or not as Jolpica does.
        """
        asked_at = datetime.now(UTC)
        answers: dict[str, RawAnswer] = {}
        try:
            seasons = await self._pages("seasons", "seasons")
            if len(seasons) == 1:
                answers["seasons"] = seasons[0].raw
            known = [record for answer in seasons for record in answer.page.records]
            races = await self._races(selection, sorted({r["season"] for r in known if type(r.get("season")) is int}))
        except AwayError as error:
            raise UnreachableError(f"{error}. Check the network and --jolpica-url.") from error
        except F1HBaseError:
            raise
        except RequestError as error:
            raise UnreachableError(
                f"jolpica: {self.home} does not answer as Jolpica does: {error}. Check the network and --jolpica-url; "
                f"Jolpica's is {JOLPICA_URL}."
            ) from error
        sessions = []
        for answer in races:
            for record in answer.page.records:
                listed = as_listed(self._with_openf1_keys(record))
                sessions.append(listed)
                if "session_key" in listed:
                    answers[f"races {race_scope(record['season'], record['round']).prefix}"] = answer.raw
        wanted = {record.get("season") for record in sessions}
        meetings = [as_listed(record) for record in known if record.get("season") in wanted]
        return Listing(NAME, sessions, meetings, asked_at, answers, self._asker.spent.take())

    def knows(self, endpoint: str) -> frozenset[str]:
        """Return every field of the history; of OpenF1's keys only where some are known."""
        if endpoint not in HISTORY_ENDPOINTS:
            return frozenset()
        known = HISTORY_ENDPOINTS[endpoint].known
        return known if self._options.known_races else known - OPENF1_FIELDS

    def expected(self, units: Iterable[Unit]) -> int:
        """Return in how many units the answers come: those that were asked for."""
        return sum(1 for _ in units)

    async def fetch(self, units: Iterable[Unit], deliver: Deliver) -> None:
        """Ask for units; see `f1hbase.sources.base.Source.fetch`."""
        questions = iter(questions_of(units))

        async def work() -> None:
            for question in questions:
                await self._answer(question, deliver)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(_AT_ONCE, self._options.max_concurrent_requests)):
                group.create_task(work())

    def unaccounted(self) -> RequestStats:
        """Return what was spent since the last answer, and begin anew."""
        return self._asker.spent.take()

    async def _pages(self, path: str, endpoint: str) -> list[PageAnswer]:
        return await read_pages(self._asker.get, path, HISTORY_ENDPOINTS[endpoint])

    async def _races(self, selection: Selection, seasons: Sequence[int]) -> list[PageAnswer]:
        """Return the pages of the races that a selection may mean."""
        years = {
            *selection.year,
            *(day.year for day in selection.date),
            *(_season_of(key) for key in (*selection.meeting_key, *selection.session_key)),
        }
        if selection.mode == "latest":
            return await self._latest(selection, sorted(years & {*seasons}) or seasons)
        if not years:
            return await self._pages("races", "races")
        return [page for year in sorted(years & {*seasons}) for page in await self._pages(f"{year}/races", "races")]

    async def _latest(self, selection: Selection, seasons: Sequence[int]) -> list[PageAnswer]:
        """Return the seasons of the latest races, without the races after the last one that has results."""
        last = None
        if not selection.is_everything or selection.date:
            _log.debug("the latest of what was asked for, whether it has results or not")
        else:
            results = await self._pages("current/last/results", "results")
            found = [_place(record) for answer in results for record in answer.page.records]
            last = max((place for place in found if place is not None), default=None)
        pages: list[PageAnswer] = []
        begun = 0
        for season in sorted(seasons, reverse=True):
            if last is not None and season > last[0]:
                continue
            mine = await self._pages(f"{season}/races", "races")
            if last is not None:
                mine = [_until(answer, last) for answer in mine]
            pages += mine
            begun += sum(_has_begun(record) for answer in mine for record in answer.page.records)
            if begun >= selection.latest_sessions:
                break
        return pages

    async def _answer(self, question: Question, deliver: Deliver) -> None:
        """Ask one question, and hand each unit its records; a failure is delivered as such.

        Raises:
            F1HBaseError: If the run is over.
        """
        began, asked_at = monotonic(), datetime.now(UTC)
        if not question.path:
            for unit in question.units:
                await deliver(Answer(unit, asked_at, NAME))
            return
        try:
            pages = await self._pages(question.path, question.endpoint)
        except F1HBaseError:
            raise
        except RequestError as error:
            for unit in question.units:
                _log.warning("not loaded yet: %s: %s", unit, error)
                await deliver(Answer(unit, asked_at, NAME, stats=self._asker.spent.take(), error=safe(str(error), 500)))
            return
        for unit in question.units:
            await self._give(unit, pages, asked_at, monotonic() - began, deliver, shared=question.of_season)

    async def _give(
        self, unit: Unit, pages: Sequence[PageAnswer], asked_at: datetime, seconds: float, deliver: Deliver,
        *, shared: bool,
    ) -> None:  # fmt: skip
        """Hand on the records of a unit, page by page; a record that was not asked for goes with its unit's page."""
        fields = unit.scope.fields
        parts = [(answer, _own(answer.page.records, fields) if shared else answer.page.records) for answer in pages]
        if shared:
            parts = [(answer, mine) for answer, mine in parts if mine]
        if unit.endpoint == "races":
            parts = [(answer, [self._with_openf1_keys(record) for record in mine]) for answer, mine in parts]
        if not parts:
            await deliver(Answer(unit, asked_at, NAME, stats=self._asker.spent.take(), seconds=seconds))
            return
        for number, (answer, mine) in enumerate(parts, 1):
            await deliver(
                Answer(
                    unit,
                    asked_at,
                    NAME,
                    [mine] if mine else (),
                    answer.raw,
                    fields if shared else {},
                    self._asker.spent.take(),
                    seconds,
                    complete=number == len(parts),
                )
            )

    def _with_openf1_keys(self, record: Record) -> Record:
        """Return a race with the keys that it has in OpenF1, if it is known there."""
        listed = as_listed(record)
        start = lenient_time(listed.get("date_start"))
        if start is None or not self._options.known_races:
            return record
        nearest = min(self._options.known_races, key=lambda race: abs(race.start - start))
        if abs(nearest.start - start) > _SAME_RACE:
            return record
        return {**record, "openf1_meeting_key": nearest.meeting_key, "openf1_session_key": nearest.session_key}


def _own(records: Iterable[Record], fields: Mapping[str, int]) -> list[Record]:
    return [record for record in records if all(record.get(name) == value for name, value in fields.items())]


def _season_of(key: int) -> int:
    """Return the season of the key of a season or race."""
    return key // season_scope(1).meeting_key


def _place(record: Record) -> tuple[int, int] | None:
    """Return the season and round of a race or result; None where it does not say them."""
    season, number = record.get("season"), record.get("round")
    return (season, number) if type(season) is int and type(number) is int else None


def _until(answer: PageAnswer, last: tuple[int, int]) -> PageAnswer:
    """Return a page of races without those after the last one."""
    page = answer.page
    kept = [record for record in page.records if (_place(record) or last) <= last]
    return PageAnswer(type(page)(page.limit, page.offset, page.total, kept), answer.raw)


def _has_begun(record: Record) -> bool:
    return (lenient_time(as_listed(record).get("date_start")) or LONG_AGO) <= datetime.now(UTC)


@asynccontextmanager
async def open_source(options: JolpicaOptions, patience: float) -> AsyncIterator[JolpicaSource]:
    """Yield Jolpica.

    Args:
        options: Say where it is, and how it is to be asked.
        patience: For how long it may be away, in seconds.

    Raises:
        SetupError: If the folder for what processes share cannot be written.
    """
    shared = shared_path(options)
    limiter = open_limiter(options.limits, shared, patience, "Jolpica")
    async with JolpicaClient(options.url, options.request_timeout) as client:
        found: list[Asker[PageAnswer]] = []

        async def probe() -> None:
            await limiter.acquire()
            found[0].spent.requests += 1
            await client.fetch("seasons/?limit=1")

        asker = Asker(
            client.fetch,
            lambda answer: len(answer.raw.body),
            limiter,
            CircuitBreaker(shared, probe, patience),
            whom="Jolpica",
            at_once=min(options.max_concurrent_requests, _AT_ONCE),
            max_retries=options.max_retries,
            retry_delay=options.retry_delay,
        )
        found.append(asker)
        yield JolpicaSource(asker, options)


@dataclass(frozen=True, slots=True)
class JolpicaProbe:
    """What one request says of Jolpica.

    Attributes:
        seasons: How many seasons it has.
        error: Why it did not say so; None if it was answered.
        seconds: How long it took to answer.
        spent: How many requests were sent before within the window of each rate, by all processes.
    """

    seasons: int
    error: RequestError | None
    seconds: float
    spent: list[int]


async def probe_jolpica(options: JolpicaOptions, patience: float) -> JolpicaProbe:
    """Ask once, as soon as the limits allow, and say how that went; nothing is sent again.

    Args:
        options: Say where it is.
        patience: How long to wait for the limits, in seconds.

    Raises:
        SetupError: If the folder for what processes share cannot be written.
        TimeoutError: If the limits did not allow the request for so long.
    """
    limiter = open_limiter(options.limits, shared_path(options), patience, "Jolpica")
    spent = limiter.spent()
    async with asyncio.timeout(patience):
        await limiter.acquire()
    async with JolpicaClient(options.url, options.request_timeout) as client:
        began = monotonic()
        try:
            answer = await client.fetch("seasons/?limit=1")
        except RequestError as error:
            return JolpicaProbe(0, error, monotonic() - began, spent)
        return JolpicaProbe(answer.page.total, None, monotonic() - began, spent)


def shared_path(options: JolpicaOptions) -> Path:
    """Return the file through which all processes share Jolpica's limits."""
    return state_path(urlsplit(options.url).netloc)
