"""Loading from files: a landing zone, or a folder of `<endpoint>.jsonl[.gz]`; asks no API."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from f1hbase.model.answers import RawAnswer, Records
from f1hbase.model.catalog import ALL_ENDPOINTS, HISTORY
from f1hbase.model.outcomes import Status, UnitState
from f1hbase.model.samples import Record, Samples
from f1hbase.model.times import moment_of, parse_time
from f1hbase.model.units import ALL_TIME, Scope, Unit, endpoints_of
from f1hbase.sources.base import Reader, Source
from f1hbase.sources.decoding import StoredRecords, records_of_lines
from f1hbase.sources.stored import (
    Again,
    Named,
    StoredPart,
    StoredSource,
    UnreadableError,
    read_parts,
    selected,
    within,
)
from f1hbase.stores.files.manifests import UNITS, endpoint_of_path, scope_of_path
from f1hbase.stores.files.objects import Objects
from f1hbase.stores.files.packing import DamagedError
from f1hbase.stores.files.reading import READ_ERRORS, LongLineError, lines_of, open_file, unpacked
from f1hbase.stores.files.urls import Location, LocationError, parse_location
from f1hbase.stores.files.zone import MARKER, Zone, find_zone

if TYPE_CHECKING:
    from f1hbase.config import Config

_log = logging.getLogger(__name__)

_NO_RECORDS = 400
"""A kept answer of this status or above says that there are no records (404; a CSV of nothing is a 500)."""


class ZoneReader:
    """The records of a landing zone: a `Reader` that keeps answers.

    Args:
        zone: The zone.
    """

    def __init__(self, zone: Zone) -> None:
        self._zone = zone
        self.home = zone.shown
        self._listed: dict[str, list[Record]] = {}
        self._raw: dict[str, dict[str, RawAnswer]] = {}
        self._listed_at: datetime | None = None

    def sessions(self) -> Sequence[Record]:
        """Return the records of all sessions; of one whose record is not there or damaged, its keys alone."""
        return self._records("sessions")

    def meetings(self) -> Sequence[Record]:
        """Return the records of all meetings."""
        return self._records("meetings")

    def races(self) -> Sequence[Record]:
        """Return the records of all races of the history; of one whose record is absent or damaged, the keys alone."""
        return self._records(HISTORY.sessions)

    def seasons(self) -> Sequence[Record]:
        """Return the records of all seasons of the history."""
        return self._records(HISTORY.meetings)

    def units(self, scope: Scope) -> Sequence[UnitState]:
        """Return the units that are stored of a session (or of a meeting as such).

        Those whose manifests cannot be read are failed ones: what cannot be read is not to look like what is not there.
        """
        return self._zone.unit_states(scope, unreadable=True)

    def read(self, unit: Unit) -> Iterator[Samples | Sequence[Any]]:
        """Yield the records of a unit's endpoint, session, driver and window, some at a time."""
        return read_parts(self, unit, self.units(unit.scope))

    def size(self, state: UnitState) -> int:
        """Return how many bytes the answers of a stored unit take in memory."""
        return sum(int(stored["bytes"]) for stored in state.objects)

    def parts(self, unit: Unit, state: UnitState) -> Sequence[StoredPart]:
        """Return the answers of a stored unit.

        Raises:
            UnreadableError: If one is not there or damaged; when they are all read, also if they have not as many
                records as the manifest counts.
        """
        return tallied(state, self.home, [self._part(unit.endpoint, stored) for stored in state.objects])

    def listing_answers(self) -> Mapping[str, RawAnswer]:
        """Return, by endpoint, the answer that holds all of the listed records, where one does."""
        return {endpoint: next(iter(answers.values())) for endpoint, answers in self._raw.items() if len(answers) == 1}

    def listed_at(self) -> datetime | None:
        """Return when the latest of the listed records was asked for."""
        return self._listed_at

    def sizes(self) -> dict[str, int]:
        """Return the size of each object of the zone in bytes, by one listing."""
        return {info.path: info.size for info in self._zone.objects.under("")}

    def _part(self, endpoint: str, stored: Mapping[str, Any]) -> StoredPart:
        try:
            body = self._zone.body(stored)
        except DamagedError as error:
            raise UnreadableError(f"{error}. Load it there again with --refresh.") from error
        return stored_part(endpoint, stored, body, self.home)

    def _records(self, endpoint: str) -> list[Record]:
        if endpoint not in self._listed:
            self._listed[endpoint] = list(self._list(endpoint))
        return self._listed[endpoint]

    def _list(self, endpoint: str) -> Iterator[Record]:
        """Yield the own record of each session (or meeting) that has units."""
        of_meetings, dataset = ALL_ENDPOINTS[endpoint].of_meeting, ALL_ENDPOINTS[endpoint].dataset
        scopes: dict[Scope, set[str]] = defaultdict(set)
        for info in self._zone.objects.under(UNITS):
            scope = scope_of_path(info.path)
            if scope is not None and scope.dataset is dataset and (scope.session_key is None) == of_meetings:
                scopes[scope].add(endpoint_of_path(info.path))
        raws = self._raw.setdefault(endpoint, {})
        bodies: dict[str, list[Any]] = {}
        for scope in sorted(scopes, key=lambda one: (one.year, one.meeting_key, one.session_key or 0)):
            keys: Record = dict(scope.fields)
            record, problem = None, f"its record ({endpoint}) was never stored. Load it there, which asks for it again"
            states = (
                [state for state in self.units(scope) if state.endpoint == endpoint]
                if endpoint in scopes[scope]
                else []
            )
            try:
                record = next(self._own(states, keys, bodies, raws), None)
            except UnreadableError as error:
                problem = str(error)
            if record is None and not of_meetings:
                _log.error(
                    "session %d of meeting %d in '%s' cannot be loaded: %s",
                    scope.session_key, scope.meeting_key, self.home, problem,
                )  # fmt: skip
            yield keys if record is None else record

    def _own(
        self,
        states: Sequence[UnitState],
        keys: Record,
        bodies: dict[str, list[Any]],
        raws: dict[str, RawAnswer],
    ) -> Iterator[Record]:
        for state in states:
            if state.fetched is not None:
                self._listed_at = max(state.fetched, self._listed_at or state.fetched)
            for stored in state.objects:
                path = str(stored["path"])
                if path not in bodies:
                    # Many sessions came in one answer, which is read once.
                    part = self._part(state.endpoint, {**stored, "select": {}})
                    bodies[path] = [record for some in part.records for record in some]
                    if part.raw is not None:
                        raws[path] = part.raw
                for record in bodies[path]:
                    if isinstance(record, dict) and all(record.get(name) == key for name, key in keys.items()):
                        yield record


def tallied(state: UnitState, home: str, parts: Sequence[StoredPart]) -> Sequence[StoredPart]:
    """Return the answers of a unit, the last of which raises `UnreadableError` if the manifest counts other records.

    Args:
        state: What the manifest says.
        home: Where the zone is, for messages.
        parts: The answers, all of them.
    """
    tally = _Tally(state, home, len(parts))
    return [replace(part, records=tally.of(number, part.records)) for number, part in enumerate(parts)]


class _Tally:
    """Counts the records of a unit as they are read, part after part, against what its manifest says.

    A manifest whose words do not fit its objects (another status, another choice of records) would else lose records
    in silence.
    """

    def __init__(self, state: UnitState, home: str, parts: int) -> None:
        self._state = state
        self._home = home
        self._parts = parts
        self._found: dict[int, int] = {}
        """How many records the parts had that were read to their end."""

    def of(self, number: int, records: Records) -> Records:
        """Return the records of a part, which are counted each time that they are read to their end."""
        return Again(lambda: self._counted(number, records))

    def _counted(self, number: int, records: Records) -> Iterator[Samples | Sequence[Any]]:
        found = 0
        for some in records:
            found += len(some)
            yield some
        self._found[number] = found
        wanted = self._state.stats.get("records")
        total = sum(self._found.values())
        if wanted is None or len(self._found) < self._parts or total == wanted:
            return
        raise UnreadableError(
            f"'{self._home}': the objects of {self._state.endpoint} have {total:,} of its "
            f"records, and their manifest counts {wanted:,.0f}. Load it there again with --refresh."
        )


def stored_part(endpoint: str, stored: Mapping[str, Any], body: bytes, home: str) -> StoredPart:
    """Return the answer that an object of a landing zone is.

    Args:
        endpoint: What it has records of.
        stored: What the manifest says of it.
        body: What it says, unpacked.
        home: Where the zone is, for messages.
    """
    where, select = f"{home}/{stored['path']}", stored["select"]
    records: Records = ()
    if stored["status"] < _NO_RECORDS:
        records = StoredRecords(ALL_ENDPOINTS[endpoint], stored["content_type"], body, where)
    raw = None
    if stored["request"]:
        asked_at, stored_at = parse_time(stored["asked_at"]), parse_time(stored["stored_at"])
        raw = RawAnswer(
            stored["source"], stored["request"], asked_at, stored_at, stored["status"], stored["content_type"], body
        )
    return StoredPart(selected(records, select), raw, select)


class FolderReader:
    """The records of `<endpoint>.jsonl[.gz]` files in a folder or in folders in it, as `simulator make` writes them.

    Where a folder has a `sessions` file of one session, the other files of the folder are that session's; elsewhere
    files are read whole for each session.

    Args:
        folder: The folder.
        shown: What it is called for people.
    """

    def __init__(self, folder: Path, shown: str) -> None:
        self.home = shown
        self._files: dict[str, list[Path]] = defaultdict(list)
        self._owner: dict[Path, int] = {}
        for path in sorted(folder.rglob("*.jsonl*")):
            name = path.name.removesuffix(".gz").removesuffix(".jsonl")
            if name in ALL_ENDPOINTS and path.name in (f"{name}.jsonl", f"{name}.jsonl.gz"):
                self._files[name].append(path)
            else:
                _log.warning("'%s' is passed over: it is of no endpoint that f1hbase knows", path)
        self._sessions = self._all("sessions")
        self._meetings = self._all("meetings")
        for path in self._files["sessions"]:
            keys = {record.get("session_key") for record in self._records(path, "sessions")}
            key = keys.pop() if len(keys) == 1 else None
            if type(key) is int:
                self._owner[path.parent] = key

    @property
    def is_empty(self) -> bool:
        """Whether there is no such file."""
        return not any(self._files.values())

    def sessions(self) -> Sequence[Record]:
        """Return the records of all sessions."""
        return self._sessions

    def meetings(self) -> Sequence[Record]:
        """Return the records of all meetings."""
        return self._meetings

    def units(self, scope: Scope) -> Sequence[UnitState]:
        """Return a unit for each endpoint of which there are files, fetched when those were written.

        A session of which they have no record has none.
        """
        states = []
        for endpoint in endpoints_of(scope):
            paths = self._files.get(endpoint.name)
            if not paths:
                continue
            fetched = moment_of(max(path.stat().st_mtime for path in paths))
            states.append(
                UnitState(
                    scope_prefix=scope.prefix,
                    endpoint=endpoint.name,
                    driver=None,
                    window=ALL_TIME,
                    status=Status.DONE,
                    fetched=fetched,
                    source="files",
                )
            )
        return states

    def read(self, unit: Unit) -> Iterator[Samples | Sequence[Any]]:
        """Yield the records of a unit, some at a time.

        Raises:
            UnreadableError: If a file is damaged or a line is no JSON; names it.
        """
        scope, endpoint = unit.scope, ALL_ENDPOINTS[unit.endpoint]
        select = {"meeting_key": scope.meeting_key}
        if scope.session_key is not None:
            select["session_key"] = scope.session_key
        if unit.driver is not None:
            select["driver_number"] = unit.driver
        for path in self._paths(unit.endpoint, scope):
            records: Records = Again(lambda path=path: records_of_lines(endpoint, _lines(path), str(path)))  # type: ignore[misc]
            yield from within(selected(records, select), unit)

    def listed_at(self) -> datetime | None:
        """Return when the latest file of sessions or meetings was written."""
        paths = [*self._files.get("sessions", ()), *self._files.get("meetings", ())]
        return moment_of(max(path.stat().st_mtime for path in paths)) if paths else None

    def _paths(self, endpoint: str, scope: Scope) -> list[Path]:
        session = scope.session_key
        return [
            path
            for path in self._files.get(endpoint, ())
            if session is None or self._owner.get(path.parent, session) == session
        ]

    def _all(self, endpoint: str) -> list[Record]:
        return [record for path in self._files.get(endpoint, ()) for record in self._records(path, endpoint)]

    def _records(self, path: Path, endpoint: str) -> Iterator[Record]:
        try:
            for some in records_of_lines(ALL_ENDPOINTS[endpoint], _lines(path), str(path)):
                yield from (record for record in some if isinstance(record, dict))
        except UnreadableError as error:
            _log.error("%s", error)


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with open_file(path) as file:
            yield from lines_of(unpacked(file, is_gzip=path.suffix == ".gz"), path)
    except READ_ERRORS as error:
        raise UnreadableError(f"'{path}' cannot be read: {error}") from error
    except LongLineError as error:
        raise UnreadableError(f"{error}, and is no record") from error


def open_reader(location: Location, patience: float = 0.0) -> Reader:
    """Return what reads a location, by what is there.

    Raises:
        LocationError: If it holds nothing that can be loaded from; says what was looked for.
        UnreachableError: If the store is away or refuses.
    """
    objects = Objects(location, patience)
    zone = find_zone(objects)
    if zone is not None and (not zone.layout.reads_without_state or not objects.is_empty(UNITS)):
        return ZoneReader(zone)
    if not objects.exists:
        raise LocationError(f"there is no folder '{location}', and no source of that name.")
    if location.is_local:
        reader = FolderReader(Path(location.root), location.shown)
        if not reader.is_empty:
            return reader
    from f1hbase.sources.json_files import recognise  # seldom needed, and each worker would wait for it

    files = recognise(objects)
    if files is not None:
        return files
    if zone is not None:
        return ZoneReader(zone)
    if objects.is_empty():
        raise LocationError(f"'{location}' is empty: there is nothing to load.")
    raise LocationError(
        f"'{location}' is nothing that f1hbase can load from: neither a landing zone ({MARKER} at its root) nor files "
        "such as laps.jsonl.gz, laps_2024-12-08_Yas_Island_Race.json or raw/2024-12-08/openf1/1733673600.json."
    )


def are_json_lines(place: str) -> bool:
    """Return whether a place is a folder with `<endpoint>.jsonl[.gz]` files, at any depth, and no landing zone.

    A folder that is not there counts as one: whoever reads it says so.

    Raises:
        LocationError: If the place is none.
    """
    location = parse_location(place)
    if not location.is_local:
        return False
    folder = Path(location.root)
    if not folder.is_dir():
        return True
    return not (folder / MARKER).exists() and any(
        path.name.endswith((".jsonl", ".jsonl.gz")) for path in folder.rglob("*.jsonl*")
    )


def is_zone(location: str) -> bool:
    """Return whether there is a landing zone, and no file or other folder.

    Raises:
        LocationError: If the location is none.
        UnreachableError: If the store is away or refuses.
    """
    where = parse_location(location)
    return not Path(where.root).is_file() and find_zone(Objects(where)) is not None


def reader(config: Config, location: str, patience: float) -> Reader:
    """Return what reads a landing zone or folder back.

    Raises:
        LocationError: If the location is none, or holds nothing that can be read.
        UnreachableError: If the store is away or refuses.
    """
    del config  # what is there says how it is laid out
    return open_reader(parse_location(location), patience)


@dataclass(frozen=True, slots=True)
class FilesSourceRecipe:
    """A landing zone or folder to load from; see `f1hbase.sources.base.SourceRecipe`.

    Attributes:
        location: Where it is.
        named: What was asked for by name.
    """

    location: Location
    named: Named = Named()

    def open(self, patience: float) -> AbstractAsyncContextManager[Source]:
        """Open it; the caller closes nothing."""
        return _opened(self.location, patience, self.named)


@asynccontextmanager
async def _opened(location: Location, patience: float, named: Named) -> AsyncIterator[Source]:
    # In a thread: whoever opens it must hear meanwhile that it is to stop, or that its parent is gone.
    yield StoredSource(await asyncio.to_thread(open_reader, location, patience), named=named)


def recipe(config: Config, location: str) -> FilesSourceRecipe:
    """Return how a landing zone or folder is opened to load from it.

    Raises:
        LocationError: If the location is none, or a folder that does not exist.
    """
    settings = config.settings  # what is there says how it is laid out
    named = Named(frozenset(settings.endpoint), frozenset(settings.session_key))
    found = parse_location(location)
    if found.is_local and not Path(found.root).exists():
        raise LocationError(f"there is no folder '{found}', and no source of that name.")
    return FilesSourceRecipe(found, named)
