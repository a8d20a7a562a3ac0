"""F1's archive as a source: what of a session is asked for, which files that needs, and the records they become."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from f1hbase.errors import F1HBaseError, UnreachableError
from f1hbase.model.answers import Answer, Listing, Records, RequestStats
from f1hbase.model.catalog import ENDPOINTS, QUALIFYING
from f1hbase.model.coverage import subtract
from f1hbase.model.plans import Selection
from f1hbase.model.rates import Limits
from f1hbase.model.text import safe
from f1hbase.model.times import LONG_AGO, lenient_time
from f1hbase.model.units import Scope, Unit, Window, slice_time
from f1hbase.sources.base import Deliver
from f1hbase.sources.http.asking import open_limiter
from f1hbase.sources.http.breaker import CircuitBreaker
from f1hbase.sources.http.errors import AwayError, RequestError
from f1hbase.sources.http.limiter import state_path
from f1hbase.sources.livetiming.archive import NAME, Archive, SessionArchive, now_year
from f1hbase.sources.livetiming.client import ArchiveClient
from f1hbase.sources.livetiming.files import Problems, SessionFiles, TopicFile
from f1hbase.sources.livetiming.messages import STATIC_URL
from f1hbase.sources.livetiming.normalised import NormalisedRecords, SessionMessages
from f1hbase.sources.livetiming.requests import ArchiveRequests
from f1hbase.sources.livetiming.samples import SampleFile, WindowSamples
from f1hbase.sources.livetiming.schedule import FIRST_YEAR, MEETING_FIELDS, SESSION_FIELDS, Season
from f1hbase.sources.livetiming.topics import NORMALISERS, TELEMETRY
from f1hbase.sources.livetiming.validators import Tags, Validator, parse_validator

_log = logging.getLogger(__name__)

WINDOW = timedelta(minutes=15)
"""The windows in which samples are handed on: some 67,000 records, of which the pipeline keeps the identities."""


@dataclass(frozen=True, slots=True)
class LiveTimingOptions:
    """How the archive is asked; can be handed to another process.

    Attributes:
        url: Where it is.
        limits: How many requests may be sent, by all processes of the user on this machine.
        window: The length of the windows of samples; None for `WINDOW`.
        max_concurrent_requests: How many requests may be under way at once in a process; never more than two are.
        max_retries: How often a request that failed is sent again.
        retry_delay: The longest wait before the first retry, in seconds.
        request_timeout: How long the server may be silent, in seconds.
    """

    url: str = STATIC_URL
    limits: Limits = field(default_factory=Limits)
    window: timedelta | None = None
    max_concurrent_requests: int = 10
    max_retries: int = 3
    retry_delay: float = 5.0
    request_timeout: float = 60.0


def fields_of(endpoint: str) -> frozenset[str]:
    """Return the fields of an endpoint that live timing has."""
    if endpoint in TELEMETRY:
        return TELEMETRY[endpoint].fields
    if endpoint in NORMALISERS:
        return NORMALISERS[endpoint].fields
    return {"sessions": SESSION_FIELDS, "meetings": MEETING_FIELDS}.get(endpoint, frozenset())


class LiveTimingSource:
    """The archive; see `f1hbase.sources.base.Source`.

    Args:
        requests: What asks it.
        options: How.
    """

    name = NAME
    first_year = FIRST_YEAR

    def __init__(self, requests: ArchiveRequests, options: LiveTimingOptions) -> None:
        self._requests = requests
        self._options = options
        self._archive = Archive(requests)
        self._problems = Problems()
        self._stored: dict[Unit, Validator] = {}
        self.home = options.url

    async def listing(self, selection: Selection) -> Listing:
        """Return the sessions that a selection may mean, and their meetings; takes a request a season.

        Raises:
            UnreachableError: If the archive does not answer, or not as it should.
        """
        asked_at = datetime.now(UTC)
        try:
            seasons = await self._seasons(selection)
        except AwayError as error:
            raise UnreachableError(f"{error}. Check the network and --livetiming-url.") from error
        except F1HBaseError:
            raise
        except RequestError as error:
            raise UnreachableError(
                f"live timing: {self.home} does not answer as the archive does: {error}. "
                "Check the network and --livetiming-url."
            ) from error
        sessions = [session.record for season in seasons for session in season.sessions]
        meetings = [meeting for season in seasons for meeting in season.meetings]
        return Listing(NAME, sessions, meetings, asked_at, {}, self._requests.spent.take())

    def stored(self, validators: Mapping[Unit, str]) -> None:
        """Be told what units were made of; see `f1hbase.sources.base.AsksConditionally`."""
        found = {unit: parse_validator(text, self.home) for unit, text in validators.items()}
        self._stored = {unit: validator for unit, validator in found.items() if validator is not None}

    async def has_files(self, year: int, session_key: int) -> bool:
        """Return whether the archive has files of a session, by a small one that each has."""
        try:
            listed = await self._archive.session(year, session_key)
            if listed is None:
                return False
            return await SessionArchive(self._requests, listed.context).file("SessionStatus") is not None
        except F1HBaseError:
            raise
        except RequestError as error:
            _log.debug("session %d: %s", session_key, error)
            return False

    def knows(self, endpoint: str) -> frozenset[str]:
        """Return the fields that live timing has; points, retirements, flags of countries and the like are absent."""
        return fields_of(endpoint)

    def expected(self, units: Iterable[Unit]) -> int:
        """Return in how many units the answers will come: samples by windows, all else as it was asked for."""
        return sum(len(self._windows(unit)) if ENDPOINTS[unit.endpoint].sampled else 1 for unit in units)

    async def fetch(self, units: Iterable[Unit], deliver: Deliver) -> None:
        """Ask for units; see `f1hbase.sources.base.Source.fetch`."""
        by_session: dict[Scope, list[Unit]] = defaultdict(list)
        for unit in units:
            by_session[unit.scope].append(unit)
        for scope, mine in by_session.items():
            await _SessionFetch(self, scope, deliver).run(mine)

    def unaccounted(self) -> RequestStats:
        """Return what was spent since the last answer, and begin anew."""
        return self._requests.spent.take()

    async def _seasons(self, selection: Selection) -> list[Season]:
        """Return the seasons that a selection may mean, asking for no more than it takes to know."""
        years = selection.year or tuple(sorted({day.year for day in selection.date}))
        if years:
            return [await self._archive.season(year) for year in years]
        wanted = set(selection.session_key)
        meetings = set(selection.meeting_key)
        seasons: list[Season] = []
        begun = 0
        for year in range(now_year() + 1, FIRST_YEAR - 1, -1):
            season = await self._archive.season(year)
            seasons.append(season)
            wanted -= {session.context.session_key for session in season.sessions}
            meetings -= {session.context.meeting_key for session in season.sessions}
            begun += sum(_has_begun(session.record) for session in season.sessions)
            if not selection.is_everything and not wanted and not meetings:
                break
            if selection.is_everything and selection.mode == "latest" and begun >= selection.latest_sessions:
                break
        return seasons

    def _windows(self, unit: Unit) -> list[Unit]:
        return windows_of(unit, self._options.window or WINDOW)


class _SessionFetch:
    """The units of one session (or meeting), from the first request to the last delivery."""

    def __init__(self, source: LiveTimingSource, scope: Scope, deliver: Deliver) -> None:
        self._source = source
        self._requests = source._requests
        self._scope = scope
        self._deliver = deliver
        self._began = monotonic()
        self._asked_at = datetime.now(UTC)

    async def run(self, units: Sequence[Unit]) -> None:
        """Fetch them; a failure is delivered as such.

        Raises:
            F1HBaseError: If the run is over.
        """
        if self._scope.session_key is None:
            await self._meeting(units)
            return
        try:
            listed = await self._source._archive.session(self._scope.year, self._scope.session_key)
        except F1HBaseError:
            raise
        except RequestError as error:
            await self._fail(units, str(error))
            return
        if listed is None:
            await self._fail(units, f"the archive's index of {self._scope.year} has no files of this session")
            return
        archive = SessionArchive(self._requests, listed.context)
        try:
            await self._all(units, archive, listed)
        finally:
            archive.close()

    async def _all(self, units: Sequence[Unit], archive: SessionArchive, listed: Any) -> None:
        for unit in units:
            if not ENDPOINTS[unit.endpoint].sampled:
                await self._guard([unit], self._unit(unit, archive, listed))
        for endpoint in TELEMETRY:
            spans = [unit for unit in units if unit.endpoint == endpoint]
            if spans:
                await self._guard(spans, self._samples(endpoint, spans, archive))
                archive.forget(endpoint)

    async def _guard(self, units: Sequence[Unit], work: Any) -> None:
        try:
            await work
        except F1HBaseError:
            raise
        except RequestError as error:
            await self._fail(units, str(error))

    async def _meeting(self, units: Sequence[Unit]) -> None:
        try:
            season = await self._source._archive.season(self._scope.year)
        except F1HBaseError:
            raise
        except RequestError as error:
            await self._fail(units, str(error))
            return
        mine = [record for record in season.meetings if record["meeting_key"] == self._scope.meeting_key]
        for unit in units:
            await self._give(unit, [mine] if mine else ())

    async def _unit(self, unit: Unit, archive: SessionArchive, listed: Any) -> None:
        """Fetch and hand on what is no sample."""
        if unit.endpoint == "sessions":
            await self._give(unit, [[listed.record]])
            return
        kind = NORMALISERS.get(unit.endpoint)
        if kind is None:
            await self._nothing(unit, "live timing has no such records")
            return
        if await self._stands([unit], archive):
            return
        files = await archive.files(kind.topics)
        further: Tags | None = {}
        if unit.endpoint == "starting_grid":
            files, further = await self._grid_files(files, listed)
        if not files.keys() & _needed(unit.endpoint):
            reason = f"the archive has no {' and no '.join(sorted(_needed(unit.endpoint)))} of it"
            await self._nothing(unit, reason, self._validator(archive.tags(kind.topics), further))
            return
        t0 = await archive.t0() if kind.dated else None
        if kind.dated and t0 is None:
            await self._fail([unit], "nothing in the archive tells when the clock of this session's files started")
            return
        messages: SessionMessages = SessionFiles(archive.context, files, t0)
        records = NormalisedRecords(unit, kind, messages, self._source._problems)
        validator = self._validator(archive.tags(kind.topics, dated=kind.dated), further)
        await self._give(unit, records, files.values(), validator)

    async def _stands(self, units: Sequence[Unit], archive: SessionArchive) -> bool:
        """Return whether units were stored from the files that the archive still has, and say so of each."""
        validators = [self._source._stored.get(unit) for unit in units]
        moments: list[datetime] = []
        for validator in validators:
            moment = None if validator is None else await archive.unchanged(validator.tags)
            if moment is None:
                return False
            moments.append(moment)
        for unit, validator, moment in zip(units, validators, moments, strict=True):
            stats = self._requests.spent.take()
            answer = Answer(unit, moment, NAME, stats=stats, validator=str(validator), unchanged=True)
            await self._deliver(answer)
        return True

    def _validator(self, *several: Tags | None) -> str:
        """Return what a unit is made of, by the tags of its files; empty if one has none."""
        if any(tags is None for tags in several):
            return ""
        return str(Validator(self._source.home, {path: tag for tags in several if tags for path, tag in tags.items()}))

    async def _grid_files(self, files: dict[str, TopicFile], listed: Any) -> tuple[dict[str, TopicFile], Tags | None]:
        """Return the best laps of a qualifying session and the grid of the race after it, and the tags of the latter.

        Where no race is known yet, the tag is that of the season's index, by which it would be.
        """
        if listed.context.kind != QUALIFYING:
            return {}, {}
        race = await self._source._archive.race_after(self._scope.year, listed)
        if race is None:
            laps_alone = {topic: file for topic, file in files.items() if topic == "TimingData"}
            return laps_alone, self._source._archive.tags(self._scope.year)
        of_race = SessionArchive(self._requests, race.context)
        grid = await of_race.file("TimingAppData")
        laps = files.get("TimingData")
        found = {topic: file for topic, file in (("TimingAppData", grid), ("TimingData", laps)) if file is not None}
        return found, of_race.tags(["TimingAppData"])

    async def _samples(self, endpoint: str, spans: Sequence[Unit], archive: SessionArchive) -> None:
        windows = [window for unit in spans for window in self._source._windows(unit)]
        if await self._stands(spans, archive) or await self._stands(windows, archive):
            return
        samples: SampleFile | None = await archive.samples(endpoint)
        validator = self._validator(archive.tags([TELEMETRY[endpoint].topic]))
        if samples is None:
            for unit in spans:
                await self._nothing(unit, f"the archive has no {TELEMETRY[endpoint].topic} of it", validator)
            return
        for number, unit in enumerate(windows):
            records = WindowSamples(unit, samples, archive.context, self._source._problems, first=not number)
            await self._give(unit, records, [samples.file], validator)

    async def _nothing(self, unit: Unit, reason: str, validator: str = "") -> None:
        _log.info("%s: nothing to load: %s", unit, reason)
        await self._give(unit, (), validator=validator)

    async def _give(
        self, unit: Unit, records: Records, files: Iterable[TopicFile] = (), validator: str = ""
    ) -> None:  # fmt: skip
        # Without the answer itself: a topic file alone does not say when its messages were sent.
        asked_at = min((file.asked_at for file in files), default=self._asked_at)
        stats = self._requests.spent.take()
        seconds = monotonic() - self._began
        answer = Answer(unit, asked_at, NAME, records, stats=stats, seconds=seconds, validator=validator)
        self._began = monotonic()
        await self._deliver(answer)

    async def _fail(self, units: Sequence[Unit], reason: str) -> None:
        _log.warning("not loaded yet: %s%s: %s", units[0], f" and {len(units) - 1} more" if units[1:] else "", reason)
        for unit in units:
            stats = self._requests.spent.take()
            await self._deliver(Answer(unit, self._asked_at, NAME, stats=stats, error=safe(reason, 500)))


def windows_of(unit: Unit, step: timedelta) -> list[Unit]:
    """Return a unit of samples in windows, whose edges are the same whatever is asked for."""
    windows = slice_time(unit.scope.date_start, unit.scope.over_at, step)
    return [replace(unit, window=piece) for window in windows for piece in _common(unit.window, window)]


def _needed(endpoint: str) -> frozenset[str]:
    """Return the topics of which an endpoint needs at least one."""
    if endpoint == "laps":
        return frozenset({"TimingData"})
    if endpoint == "starting_grid":
        return frozenset({"TimingAppData"})
    return NORMALISERS[endpoint].topics


def _common(one: Window, other: Window) -> list[Window]:
    """Return the part of one window that is in another: one window or none."""
    outside = subtract(one, [other])
    return subtract(one, outside) if outside else [one]


def _has_begun(record: dict[str, Any]) -> bool:
    return (lenient_time(record.get("date_start")) or LONG_AGO) <= datetime.now(UTC)


@asynccontextmanager
async def open_source(options: LiveTimingOptions, patience: float) -> AsyncIterator[LiveTimingSource]:
    """Yield the archive.

    Args:
        options: Say where it is, and how it is to be asked.
        patience: For how long it may be away, in seconds.

    Raises:
        SetupError: If the folder for what processes share cannot be written.
    """
    shared = shared_path(options)
    limiter = open_limiter(options.limits, shared, patience, "the archive")
    async with ArchiveClient(options.url, options.request_timeout) as client:
        found: list[ArchiveRequests] = []

        async def probe() -> None:
            await limiter.acquire()
            found[0].spent.requests += 1
            await client.fetch(f"{now_year()}/Index.json")

        requests = ArchiveRequests(
            client,
            limiter,
            CircuitBreaker(shared, probe, patience),
            at_once=options.max_concurrent_requests,
            max_retries=options.max_retries,
            retry_delay=options.retry_delay,
            sleep=asyncio.sleep,
        )
        found.append(requests)
        yield LiveTimingSource(requests, options)


def shared_path(options: LiveTimingOptions) -> Path:
    """Return the file through which all processes share the archive's limits."""
    return state_path(urlsplit(options.url).netloc)
