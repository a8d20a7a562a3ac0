"""FastF1 as a source: sessions by the archive's index, and the records of their units, telemetry driver by driver."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from f1hbase.errors import UnreachableError
from f1hbase.model.answers import Answer, Listing, RequestStats
from f1hbase.model.plans import Selection
from f1hbase.model.samples import Record, Samples
from f1hbase.model.text import safe
from f1hbase.model.times import lenient_time
from f1hbase.model.units import Scope, Unit
from f1hbase.sources.base import Deliver
from f1hbase.sources.fastf1.library import NoSessionError, Places, load_session, open_library, season_meetings
from f1hbase.sources.fastf1.records import FIELDS, RECORDS, TELEMETRY, telemetry_samples
from f1hbase.sources.livetiming.schedule import (
    FIRST_YEAR,
    MEETING_FIELDS,
    SESSION_FIELDS,
    meeting_record,
    session_record,
)  # fmt: skip
from f1hbase.sources.stored import within

_log = logging.getLogger(__name__)

NAME = "fastf1"

_KEYS = frozenset({"meeting_key", "session_key"})


@dataclass(frozen=True, slots=True)
class FastF1Options:
    """Where FastF1 asks; can be handed to another process."""

    places: Places


class FastF1Source:
    """FastF1; see `f1hbase.sources.base.Source`.

    Args:
        library: The library, opened.
        options: Where it asks.
    """

    name = NAME
    first_year = FIRST_YEAR

    def __init__(self, library: Any, options: FastF1Options) -> None:
        self._library = library
        self._places = options.places
        self._seasons: dict[int, list[dict[str, Any]]] = {}
        self._lacking: dict[Unit, None] = {}
        self.home = f"FastF1 {library.__version__} ({options.places.livetiming_url})"

    async def listing(self, selection: Selection) -> Listing:
        """Return the sessions that a selection may mean, and their meetings; takes a request a season.

        With the mode `latest`, sessions are those that are over, as FastF1 has nothing of one that goes on.

        Raises:
            UnreachableError: If the archive has no index of any season that is meant.
        """
        asked_at = datetime.now(UTC)
        sessions: list[Record] = []
        meetings: list[Record] = []
        failure: NoSessionError | None = None
        for year in self._years(selection):
            try:
                season = await self._season(year)
            except NoSessionError as error:
                failure = error
                continue
            for meeting in season:
                mine = [one for one in meeting.get("Sessions") or () if _is_usable(one)]
                sessions += [session_record({**one, "Meeting": meeting}, year) for one in mine]
                record = meeting_record(meeting, mine, year)
                meetings += [] if record is None or not mine else [record]
            if selection.mode == "latest":
                sessions = [one for one in sessions if _is_over(one, asked_at)]
                if selection.is_everything and len(sessions) >= selection.latest_sessions:
                    break
        if failure is not None and not sessions:
            raise UnreachableError(f"{failure}. Check the network and --livetiming-url.")
        return Listing(NAME, sessions, meetings, asked_at)

    def knows(self, endpoint: str) -> frozenset[str]:
        """Return the fields that FastF1 has."""
        listed = {"sessions": SESSION_FIELDS, "meetings": MEETING_FIELDS}
        return listed.get(endpoint) or (FIELDS[endpoint] | _KEYS if endpoint in FIELDS else frozenset())

    def expected(self, units: Iterable[Unit]) -> int:
        """Return in how many units the answers come: those that FastF1 has the endpoint of."""
        return sum(unit.endpoint in FIELDS for unit in units)

    async def fetch(self, units: Iterable[Unit], deliver: Deliver) -> None:
        """Load each session once, and hand on its units; see `f1hbase.sources.base.Source.fetch`."""
        by_session: dict[Scope, list[Unit]] = defaultdict(list)
        for unit in units:
            if unit.endpoint in FIELDS:
                by_session[unit.scope].append(unit)
            else:
                self._lacking[unit] = None
        for scope, mine in by_session.items():
            began, asked_at = monotonic(), datetime.now(UTC)
            try:
                session = await self._load(scope)
            except NoSessionError as error:
                _log.warning("not loaded yet: %s and %d more: %s", mine[0], len(mine) - 1, error)
                for unit in mine:
                    await deliver(Answer(unit, asked_at, NAME, error=safe(str(error), 500)))
                continue
            for unit in mine:
                await self._give(unit, session, asked_at, began, deliver)
                began = monotonic()

    def lacking(self) -> Sequence[Unit]:
        """Return the units of endpoints that FastF1 has not."""
        return list(self._lacking)

    def unaccounted(self) -> RequestStats:
        """Return nothing: FastF1 does not tell what it asked, and much of it comes from its cache."""
        return RequestStats()

    async def _season(self, year: int) -> list[dict[str, Any]]:
        if year not in self._seasons:
            self._seasons[year] = await asyncio.to_thread(season_meetings, self._library, self._places, year)
        return self._seasons[year]

    async def _load(self, scope: Scope) -> Any:
        for meeting in await self._season(scope.year):
            for one in meeting.get("Sessions") or ():
                if isinstance(one, dict) and one.get("Key") == scope.session_key:
                    info = {**one, "Meeting": meeting}
                    return await asyncio.to_thread(load_session, self._library, self._places, info, scope.year)
        raise NoSessionError(f"the archive's index of {scope.year} has no such session")

    async def _give(self, unit: Unit, session: Any, asked_at: datetime, began: float, deliver: Deliver) -> None:
        assert unit.scope.session_key is not None
        keys = {"meeting_key": unit.scope.meeting_key, "session_key": unit.scope.session_key}

        def answer(records: Samples | list[Record], *, complete: bool = True) -> Answer:
            some = within([records], unit) if records else ()
            return Answer(unit, asked_at, NAME, some, seconds=monotonic() - began, complete=complete)

        try:
            if unit.endpoint not in TELEMETRY:
                records = await asyncio.to_thread(lambda: list(RECORDS[unit.endpoint](session, keys)))
                mine = [one for one in records if unit.driver in (None, one.get("driver_number"))]
                if not mine:
                    _log.warning("%s: FastF1 has none of this session", unit)
                await deliver(answer(mine))
                return
            frames = getattr(session, TELEMETRY[unit.endpoint])
            drivers = [one for one in frames if unit.driver in (None, int(one))]
            if not drivers:
                _log.warning("%s: FastF1 has none of this session", unit)
                await deliver(answer([]))
            for number, driver in enumerate(drivers, 1):
                samples = await asyncio.to_thread(telemetry_samples, unit.endpoint, frames[driver], int(driver), keys)
                await deliver(answer(samples, complete=number == len(drivers)))
        except self._library.exceptions.DataNotLoadedError:
            _log.warning("%s: FastF1 has none of this session", unit)
            await deliver(answer([]))

    def _years(self, selection: Selection) -> list[int]:
        """Return the seasons that a selection may mean, the latest first."""
        named = set(selection.year) | {day.year for day in selection.date}
        now = datetime.now(UTC).year
        return sorted(named or range(FIRST_YEAR, now + 1), reverse=True)


def _is_usable(session: Any) -> bool:
    """Return whether a session of an index has a key and files."""
    if not isinstance(session, dict) or type(session.get("Key")) is not int:
        return False
    return session["Key"] >= 0 and bool(session.get("Path"))


def _is_over(record: Record, now: datetime) -> bool:
    end = lenient_time(record.get("date_end"))
    return end is not None and end <= now


@asynccontextmanager
async def open_source(options: FastF1Options) -> AsyncIterator[FastF1Source]:
    """Yield FastF1.

    Raises:
        SetupError: If it is not installed.
    """
    yield FastF1Source(await asyncio.to_thread(open_library, options.places), options)
