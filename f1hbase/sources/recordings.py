"""Recordings of the live feed as a source: `load --from recording.txt.gz`, or a folder with several of one session."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from f1hbase.config import Config
from f1hbase.errors import ConfigError
from f1hbase.model.answers import Answer, Listing, Records, RequestStats
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.plans import Selection
from f1hbase.model.samples import Record, Samples
from f1hbase.model.units import Unit
from f1hbase.sources.base import Deliver, Source
from f1hbase.sources.livetiming.files import Problems, SessionFiles
from f1hbase.sources.livetiming.normalised import NormalisedRecords
from f1hbase.sources.livetiming.recorded import Recording, is_recording, read, recordings_of
from f1hbase.sources.livetiming.samples import SampleFile, WindowSamples
from f1hbase.sources.livetiming.schedule import FIRST_YEAR, MEETING_FIELDS, meeting_record, session_record
from f1hbase.sources.livetiming.source import WINDOW, fields_of, windows_of
from f1hbase.sources.livetiming.topics import NORMALISERS, TELEMETRY

_log = logging.getLogger(__name__)

NAME = "recording"

_NOT_OF_A_MEETING = frozenset({"date_start", "date_end"})
"""What one session does not tell of its meeting."""


class RecordingSource:
    """A recorded session; see `f1hbase.sources.base.Source`.

    Args:
        recording: What was recorded.
        home: The file or folder.
        window: The length of the windows of samples.
    """

    name = NAME
    first_year = FIRST_YEAR

    def __init__(self, recording: Recording, home: str, window: timedelta | None = None) -> None:
        self._recording = recording
        self._window = window or WINDOW
        self._problems = Problems()
        self._messages = SessionFiles(recording.context, recording.files, recording.t0)
        self._session = session_record(recording.info)
        self._read_at = datetime.now(UTC)
        self.home = home

    async def listing(self, selection: Selection) -> Listing:
        """Return the session that was recorded, and its meeting."""
        return Listing(NAME, [self._session], self._meetings(), self._read_at)

    def knows(self, endpoint: str) -> frozenset[str]:
        """Return the fields that live timing has."""
        return MEETING_FIELDS - _NOT_OF_A_MEETING if endpoint == "meetings" else fields_of(endpoint)

    def expected(self, units: Iterable[Unit]) -> int:
        """Return in how many units the answers will come."""
        return sum(len(self._windows(unit)) for unit in units)

    async def fetch(self, units: Iterable[Unit], deliver: Deliver) -> None:
        """Hand on what was recorded of units; see `f1hbase.sources.base.Source.fetch`.

        The lines that are no messages are of no endpoint: they come with the first answer, for quarantine.
        """
        samples: dict[str, SampleFile | None] = {}
        put_aside = [problem.record() for problem in self._recording.problems]
        for unit in units:
            if unit.scope.session_key not in {None, self._recording.context.session_key}:
                await deliver(Answer(unit, self._read_at, NAME, error=f"{self.home} is of another session"))
                continue
            if unit.endpoint in TELEMETRY and unit.endpoint not in samples:
                samples[unit.endpoint] = await self._scanned(unit.endpoint)
            for number, window in enumerate(self._windows(unit)):
                records = self._records(window, samples.get(unit.endpoint), first=not number)
                if put_aside:
                    records, put_aside = _With(records, put_aside), []
                await deliver(Answer(window, self._read_at, NAME, records))

    def unaccounted(self) -> RequestStats:
        """Return nothing: reading a file takes no request."""
        return RequestStats()

    def _records(self, unit: Unit, samples: SampleFile | None, *, first: bool) -> Records:
        context = self._recording.context
        if unit.endpoint == "sessions":
            return [[self._session]]
        if unit.endpoint == "meetings":
            meetings = self._meetings()
            return [meetings] if meetings else ()
        if samples is not None:
            return WindowSamples(unit, samples, context, self._problems, first=first)
        kind = NORMALISERS.get(unit.endpoint)
        if kind is None or unit.endpoint == "starting_grid" or not kind.topics & self._recording.files.keys():
            return ()
        return NormalisedRecords(unit, kind, self._messages, self._problems)

    async def _scanned(self, endpoint: str) -> SampleFile | None:
        file = self._recording.files.get(TELEMETRY[endpoint].topic)
        if file is None:
            return None
        samples = SampleFile(file, endpoint)
        await asyncio.to_thread(samples.scan)
        return samples

    def _windows(self, unit: Unit) -> list[Unit]:
        if not ENDPOINTS[unit.endpoint].sampled or TELEMETRY[unit.endpoint].topic not in self._recording.files:
            return [unit]
        return windows_of(unit, self._window)

    def _meetings(self) -> list[Any]:
        meeting = self._recording.info.get("Meeting")
        record = meeting_record(meeting, [self._recording.info]) if isinstance(meeting, dict) else None
        if record is None:
            return []
        return [{name: value for name, value in record.items() if name not in _NOT_OF_A_MEETING}]


@dataclass(frozen=True, slots=True)
class _With:
    """Records, and some more behind them."""

    records: Records
    more: Sequence[Record]

    def __iter__(self) -> Iterator[Samples | Sequence[Any]]:
        yield from self.records
        yield self.more


@dataclass(frozen=True, slots=True)
class RecordingRecipe:
    """A recording by its path; see `f1hbase.sources.base.SourceRecipe`."""

    path: Path
    window: timedelta | None = None

    def open(self, patience: float) -> AbstractAsyncContextManager[Source]:
        """Read the recording.

        Raises:
            ConfigError: If it cannot be read, or does not say which session it is.
        """
        return _open(self)


def recipe(config: Config, location: str) -> RecordingRecipe:
    """Return how a recording is opened.

    Raises:
        ConfigError: If there is none.
    """
    path = Path(location)
    if not is_recording(path):
        raise ConfigError(
            f"--from {location}: there is no recording of live timing: it has lines like ['Topic', {{...}}, 'time'] "
            "or nanoseconds:Topic:{...}, gzipped or not."
        )
    return RecordingRecipe(path.absolute(), config.settings.window)


@asynccontextmanager
async def _open(recipe: RecordingRecipe) -> AsyncIterator[RecordingSource]:
    paths = recordings_of(recipe.path)
    try:
        recording = await asyncio.to_thread(read, paths)
    except OSError as error:
        raise ConfigError(
            f"--from {recipe.path}: it cannot be read: {(error.strerror or str(error)).lower()}"
        ) from error
    except ValueError as error:
        raise ConfigError(f"--from {recipe.path}: {error}.") from error
    source = RecordingSource(recording, str(recipe.path), recipe.window)
    for problem in recording.problems:
        source._problems.name(problem)
    if recording.estimated:
        _log.warning(
            "%s says when messages were received, not when they were sent: the times of what they date are estimates. "
            "The archive has them to the millisecond: load --from livetiming.",
            recipe.path,
        )
    try:
        yield source
    finally:
        recording.close()
