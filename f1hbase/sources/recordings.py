"""Recordings of the live feed as a source: `load --from recording.txt.gz`, or a folder or bucket of one session's."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from f1hbase.config import Config
from f1hbase.errors import ConfigError
from f1hbase.model.answers import Answer, Listing, Records, RequestStats
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.plans import Selection
from f1hbase.model.samples import Record, Samples
from f1hbase.model.units import Unit
from f1hbase.sources.base import Deliver, Source
from f1hbase.sources.livetiming import recorded
from f1hbase.sources.livetiming.files import Problems, SessionFiles
from f1hbase.sources.livetiming.normalised import NormalisedRecords
from f1hbase.sources.livetiming.recorded import RAW_FOLDER, RAW_SUFFIX, Recording, recordings_of
from f1hbase.sources.livetiming.samples import SampleFile, WindowSamples
from f1hbase.sources.livetiming.schedule import FIRST_YEAR, MEETING_FIELDS, meeting_record, session_record
from f1hbase.sources.livetiming.source import WINDOW, fields_of, windows_of
from f1hbase.sources.livetiming.topics import NORMALISERS, TELEMETRY
from f1hbase.stores.files.clients import ObjectInfo
from f1hbase.stores.files.objects import Objects
from f1hbase.stores.files.urls import Location, LocationError, parse_location
from f1hbase.stores.files.zone import MARKER, RAW_LIVE

_log = logging.getLogger(__name__)

NAME = "recording"

_SNIFF_PATIENCE_SECONDS = 10.0

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
    """A recording by its path, or raw lines by their place; see `f1hbase.sources.base.SourceRecipe`."""

    place: Path | Location
    window: timedelta | None = None

    def open(self, patience: float) -> AbstractAsyncContextManager[Source]:
        """Read the recording.

        Raises:
            ConfigError: If it cannot be read, or does not say which session it is.
            UnreachableError: If its store is away longer than patience lasts.
        """
        return _open(self, patience)


def is_recording(text: str) -> bool:
    """Return whether a text names a recording: a file, a folder of some, or a place where `live` keeps raw lines.

    Raises:
        UnreachableError: If that cannot be said, as the store is away or refuses it.
    """
    place = _place(text)
    if isinstance(place, Path):
        return is_local_recording(text)
    if _is_of_raw_lines(place):
        return True
    try:
        marker = json.loads(Objects(place, _SNIFF_PATIENCE_SECONDS).get(MARKER) or b"{}")
    except (ValueError, RecursionError):
        return False
    return isinstance(marker, dict) and marker.get("layout") == RAW_LIVE


def is_local_recording(text: str) -> bool:
    """Return whether a text names a recording on this machine; no store is asked."""
    place = _place(text)
    return isinstance(place, Path) and recorded.is_recording(place)


def recipe(config: Config, location: str) -> RecordingRecipe:
    """Return how a recording is opened.

    Raises:
        ConfigError: If there is none.
    """
    if not is_recording(location):
        raise ConfigError(
            f"--from {location}: there is no recording of live timing: it has lines like ['Topic', {{...}}, 'time'] "
            "or nanoseconds:Topic:{...}, gzipped or not."
        )
    place = _place(location)
    return RecordingRecipe(place.absolute() if isinstance(place, Path) else place, config.settings.window)


def _place(text: str) -> Path | Location:
    """Return the path on this machine that a text means, or the place elsewhere."""
    try:
        location = parse_location(text)
    except LocationError:
        return Path(text)
    return Path(location.root) if location.is_local else location


def _is_of_raw_lines(place: Location) -> bool:
    """Return whether a place is a part of where raw lines are kept, by its name."""
    return RAW_FOLDER in (*place.root.split("/"), *place.prefix.split("/"))


def _copied(place: Location, folder: Path, patience: float) -> list[Path]:
    """Copy the raw lines of a place into a folder of this machine, and return that of each instance.

    Raises:
        ConfigError: If there are none, or of several sessions.
        UnreachableError: If the store is away longer than patience lasts.
    """
    objects = Objects(place, patience)
    infos: dict[PurePosixPath, list[ObjectInfo]] = defaultdict(list)
    for info in objects.under("" if _is_of_raw_lines(place) else RAW_FOLDER):
        if info.path.endswith(RAW_SUFFIX):
            infos[PurePosixPath(info.path).parent].append(info)
    sessions = sorted({str(instance.parent) for instance in infos})
    if not sessions:
        raise ConfigError(f"--from {place}: there are no raw lines of a live recording.")
    if len(sessions) > 1:
        raise ConfigError(f"--from {place}: it holds several sessions; name one of them, such as {place}/{sessions[0]}")
    folders = {instance: folder / str(number) for number, instance in enumerate(sorted(infos))}
    sizes = {info.path: info for several in infos.values() for info in several}

    def copy(path: str) -> None:
        name = PurePosixPath(path)
        with (folders[name.parent] / name.name).open("wb") as file:
            file.writelines(objects.chunks(sizes[path]))

    for one in folders.values():
        one.mkdir()
    objects.each(copy, list(sizes))
    return list(folders.values())


def _read(place: Path | Location, patience: float) -> Recording:
    """Read the recordings of a place.

    Raises:
        ConfigError: If they cannot be read, or say of no session, or of several.
        UnreachableError: If the store is away longer than patience lasts.
    """
    with TemporaryDirectory(prefix="f1hbase-") as folder:
        try:
            paths = recordings_of(place) if isinstance(place, Path) else _copied(place, Path(folder), patience)
            return recorded.read(paths)
        except OSError as error:
            raise ConfigError(f"--from {place}: it cannot be read: {(error.strerror or str(error)).lower()}") from error
        except ValueError as error:
            raise ConfigError(f"--from {place}: {error}.") from error


@asynccontextmanager
async def _open(recipe: RecordingRecipe, patience: float) -> AsyncIterator[RecordingSource]:
    recording = await asyncio.to_thread(_read, recipe.place, patience)
    source = RecordingSource(recording, str(recipe.place), recipe.window)
    for problem in recording.problems:
        source._problems.name(problem)
    if recording.estimated:
        _log.warning(
            "%s says when messages were received, not when they were sent: the times of what they date are estimates. "
            "The archive has them to the millisecond: load --from livetiming.",
            recipe.place,
        )
    try:
        yield source
    finally:
        recording.close()
