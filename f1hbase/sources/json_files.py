"""JSON files that others wrote: an extractor's (`laps_2024-12-08_Yas_Island_Race.json`), or raw answers by date.

They say what they are by their names and records; there is nothing else that describes them.
"""

from __future__ import annotations

import codecs
import json
import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from f1hbase.model.catalog import ENDPOINTS, HISTORY, Endpoint
from f1hbase.model.outcomes import Status, UnitState
from f1hbase.model.records import InvalidRecordError, check, identity
from f1hbase.model.samples import Record, Samples, samples_of_json
from f1hbase.model.times import moment_of
from f1hbase.model.units import ALL_TIME, Scope, Unit, endpoints_of, is_key
from f1hbase.sources.history_files import HistoryFiles
from f1hbase.sources.stored import Again, UnreadableError, selected, within
from f1hbase.stores.files.clients import ObjectInfo
from f1hbase.stores.files.extractor import ADDED, PLURALS
from f1hbase.stores.files.objects import Objects, UnreadableObjectError

_log = logging.getLogger(__name__)

_SLICE_RECORDS = 3_500
_PEEK_BYTES = 65_536
_CHUNK_BYTES = 1 << 20
_LONGEST_RECORD = 4 << 20
"""What goes on for so many characters without an end is no record."""

_EXTRACTED = re.compile(r"([a-z_]+)_(\d{4}-\d\d-\d\d_.+)\.json")
_DATED = re.compile(r"(?:.+/)?\d{4}-\d\d-\d\d/([^/]+)/(\d{1,11})(?:-(\d{1,9}))?\.json")
"""The seconds have ten digits until 2286."""

_JOLPICA = "jolpica"
"""The folder of Jolpica's answers, as the layout `dated` names it."""

_SPACE = re.compile(r"\s*")

Keys = tuple[int, int | None]
"""A meeting key and a session key; None for what is of a meeting as such."""


@dataclass(frozen=True, slots=True)
class JsonFile:
    """A file of records.

    Attributes:
        info: The object.
        endpoint: What they are records of.
        keys: The sessions (or meetings) that it has records of.
        age: Sorts the files of one session by when their answers came.
    """

    info: ObjectInfo
    endpoint: str
    keys: frozenset[Keys]
    age: tuple[float, int]


class JsonFilesReader:
    """The records of JSON files: a `Reader`.

    Args:
        objects: Where they are.
        files: Those that are understood.
        unreadable: The paths of those that are not, although they should be.
        strip: The fields that whoever wrote them has added.
        history: Answers of Jolpica among them.
    """

    def __init__(
        self, objects: Objects, files: Sequence[JsonFile], unreadable: Sequence[str], strip: Sequence[str] = (),
        history: HistoryFiles | None = None,
    ) -> None:  # fmt: skip
        self._history = history
        self._objects = objects
        self.home = objects.location.shown
        self._unreadable = unreadable
        self._strip = strip
        self._by_unit: dict[tuple[str, Keys], list[JsonFile]] = defaultdict(list)
        for file in sorted(files, key=lambda file: file.age, reverse=True):
            for keys in file.keys:
                self._by_unit[file.endpoint, keys].append(file)
        self._listed: dict[str, list[Record]] = {}

    def sessions(self) -> Sequence[Record]:
        """Return the records of all sessions; of one whose record is not there, its keys alone.

        A file that cannot be read stands among them, so that a load names it and does not end as if all was well.
        """
        if "sessions" not in self._listed:
            records = self._all("sessions")
            known = {record.get("session_key") for record in records}
            for meeting, session in sorted({keys for _, keys in self._by_unit if keys[1] is not None}):
                if session not in known:
                    _log.error(
                        "session %d of meeting %d in '%s' cannot be loaded: there is no record of it (sessions)",
                        session, meeting, self.home,
                    )  # fmt: skip
                    records.append({"meeting_key": meeting, "session_key": session})
            records += [{"unreadable file": path} for path in self._unreadable]
            self._listed["sessions"] = records
        return self._listed["sessions"]

    def meetings(self) -> Sequence[Record]:
        """Return the records of all meetings."""
        if "meetings" not in self._listed:
            self._listed["meetings"] = self._all("meetings")
        return self._listed["meetings"]

    def races(self) -> Sequence[Record]:
        """Return the records of all races of the history."""
        return [] if self._history is None else self._history.races()

    def seasons(self) -> Sequence[Record]:
        """Return the records of all seasons of the history."""
        return [] if self._history is None else self._history.seasons()

    def units(self, scope: Scope) -> Sequence[UnitState]:
        """Return a unit for each endpoint of which there are files, fetched when the latest was written."""
        if scope.dataset is HISTORY:
            return [] if self._history is None else self._history.units(scope)
        states = []
        for endpoint in endpoints_of(scope):
            files = self._by_unit.get((endpoint.name, (scope.meeting_key, scope.session_key)))
            if files:
                fetched = moment_of(files[0].age[0])
                prefix, name, done = scope.prefix, endpoint.name, Status.DONE
                states.append(UnitState(prefix, name, None, ALL_TIME, done, fetched=fetched, source="files"))
        return states

    def read(self, unit: Unit) -> Iterator[Samples | Sequence[Any]]:
        """Yield the records of a unit, some at a time; where files have other values of a record, the newest counts.

        Raises:
            UnreadableError: If a file is damaged; names it.
        """
        if unit.scope.dataset is HISTORY:
            if self._history is not None:
                yield from self._history.read(unit)
            return
        scope, endpoint = unit.scope, ENDPOINTS[unit.endpoint]
        select = {"meeting_key": scope.meeting_key}
        if scope.session_key is not None:
            select["session_key"] = scope.session_key
        if unit.driver is not None:
            select["driver_number"] = unit.driver
        files = self._by_unit.get((unit.endpoint, (scope.meeting_key, scope.session_key)), ())
        seen: set[int] | None = set() if len(files) > 1 else None
        for file in files:
            records = selected(Again(lambda file=file: self._records(endpoint, file)), select)  # type: ignore[misc]
            mine = within(records, unit)
            yield from mine if seen is None else _unseen(endpoint, scope.year, mine, seen)

    def listed_at(self) -> datetime | None:
        """Return when the latest file of sessions or meetings was written."""
        ages = [files[0].age[0] for (name, _), files in self._by_unit.items() if name in ("sessions", "meetings")]
        if not ages:
            return None if self._history is None else self._history.listed_at()
        return moment_of(max(ages))

    def _all(self, endpoint: str) -> list[Record]:
        """Return the listed records, each session's newest one."""
        found: dict[Any, Record] = {}
        files = {file.info.path: file for (name, _), some in self._by_unit.items() if name == endpoint for file in some}
        key = "meeting_key" if endpoint == "meetings" else "session_key"
        for file in sorted(files.values(), key=lambda file: file.age):
            try:
                for some in self._records(ENDPOINTS[endpoint], file):
                    found.update({one.get(key): one for one in some if isinstance(one, dict)})
            except UnreadableError as error:
                _log.error("%s", error)
        return list(found.values())

    def _records(self, endpoint: Endpoint, file: JsonFile) -> Iterator[Samples | Sequence[Any]]:
        strip = [name for name in self._strip if name not in endpoint.known]
        where = f"{self.home}/{file.info.path}"
        held: list[Any] = []
        for record in stream_records(self._objects, file.info, where):
            if strip and isinstance(record, dict):
                for name in strip:
                    record.pop(name, None)
            held.append(record)
            if len(held) == _SLICE_RECORDS:
                yield _sliced(endpoint, held)
                held = []
        if held:
            yield _sliced(endpoint, held)


def stream_records(objects: Objects, info: ObjectInfo, where: str) -> Iterator[Any]:
    """Yield the records of a JSON list one after another, however large the file is.

    Raises:
        UnreadableError: If it is no such list, or cut off; says where.
    """
    decode, text, position = codecs.getincrementaldecoder("utf-8-sig")(), "", 0
    chunks = objects.chunks(info, _CHUNK_BYTES)
    parser = json.JSONDecoder(parse_int=_whole_number)
    expected, is_last, read = "[", False, 0

    def more() -> None:
        nonlocal text, position, is_last, read
        try:
            chunk = next(chunks, b"")
            read += len(chunk)
            is_last = read >= info.size
            text, position = text[position:] + decode.decode(chunk, final=is_last), 0
        except FileNotFoundError as error:
            raise UnreadableError(f"'{where}' does not exist any more") from error
        except UnreadableObjectError as error:
            raise UnreadableError(str(error)) from error
        except UnicodeDecodeError as error:
            raise UnreadableError(f"'{where}' is no text ({error.reason})") from error

    while True:
        position = _SPACE.match(text, position).end()  # type: ignore[union-attr]
        if position >= len(text):
            if is_last:
                raise UnreadableError(f"'{where}' is cut off after {info.size:,} bytes")
            more()
            continue
        if expected in ("[", ","):
            sign = text[position]
            if expected == "[" and sign == "{":
                return  # `{"detail": "No results found."}`, which is how the API says that there is nothing
            if sign == "]" and expected == ",":
                return
            if sign != expected:
                raise UnreadableError(f"'{where}' is no list of records: {text[position : position + 60]!r}")
            position += 1
            expected = "first" if expected == "[" else "record"
            continue
        if expected == "first" and text[position] == "]":
            return
        try:
            record, position = parser.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            if is_last or len(text) - position > _LONGEST_RECORD or isinstance(error, RecursionError):
                raise UnreadableError(
                    f"'{where}' has a record that is no JSON: {text[position : position + 60]!r}"
                ) from error
            more()
            continue
        yield record
        expected = ","


def _whole_number(text: str) -> int | float:
    # One number of thousands of digits, which int() refuses, puts its record into quarantine, not the whole file.
    return int(text) if len(text) <= 1_000 else float("inf")


def _sliced(endpoint: Endpoint, records: list[Any]) -> Samples | Sequence[Any]:
    if not endpoint.numeric:
        return records
    try:
        return samples_of_json(endpoint, msgspec.json.encode(records)) or records
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError):
        return records


def _unseen(
    endpoint: Endpoint, year: int, records: Iterable[Samples | Sequence[Any]], seen: set[int]
) -> Iterator[Samples | Sequence[Any]]:
    """Yield the records that no newer file has, and remember them; what is no valid record goes on as it is."""
    mine: set[int] = set()
    for some in records:
        kept = []
        for record in some:
            try:
                mark = hash(identity(endpoint, check(endpoint, year, record)))
            except InvalidRecordError:
                kept.append(record)
                continue
            mine.add(mark)
            if mark not in seen:
                kept.append(record)
        if kept:
            yield _sliced(endpoint, kept)
    seen |= mine


_LOOKED_AT = 10_000
"""How many objects are listed to find out what a place holds: ten requests to S3, where a bucket may have millions."""


def recognise(objects: Objects) -> JsonFilesReader | None:
    """Return what reads an extractor's files or raw answers by date, if there are any."""
    extracted: list[tuple[str, str, ObjectInfo]] = []
    dated: list[tuple[str, tuple[float, int], ObjectInfo]] = []
    foreign = 0
    by_plural = {plural: name for name, plural in PLURALS.items()} | {name: name for name in PLURALS}
    first = list(objects.under("", most=_LOOKED_AT))
    if len(first) == _LOOKED_AT and not any(_EXTRACTED.fullmatch(i.path) or _DATED.fullmatch(i.path) for i in first):
        _log.warning(
            "of the first %d objects of '%s' none is one that f1hbase knows, and the rest is not looked at: say in "
            "which folder they are", _LOOKED_AT, objects.location,
        )  # fmt: skip
        return None
    for info in first if len(first) < _LOOKED_AT else objects.under(""):
        name = info.path
        if (match := _EXTRACTED.fullmatch(name)) and match[1] in by_plural:
            extracted.append((by_plural[match[1]], match[2], info))
        elif match := _DATED.fullmatch(name):
            dated.append((match[1], (float(match[2]), int(match[3] or 0)), info))
        elif not name.startswith("_"):
            foreign += 1
    if extracted:
        reader = _extracted(objects, extracted)
    elif dated:
        reader = _dated(objects, dated)
    else:
        return None
    if foreign:
        _log.warning("%d other files in '%s' are passed over", foreign, objects.location)
    return reader


def _extracted(objects: Objects, found: Sequence[tuple[str, str, ObjectInfo]]) -> JsonFilesReader:
    """Return the reader of an extractor's files: whose they are, their first records say, else the names."""
    broken: set[str] = set()

    def look(path: str) -> Keys | None:
        try:
            return _first_keys(objects, path)
        except UnreadableObjectError as error:
            _log.error("%s", error)
            broken.add(path)
            return None

    firsts = objects.each(look, [info.path for _, _, info in found])
    owners: dict[str, set[Keys]] = defaultdict(set)
    for (endpoint, name, _), keys in zip(found, firsts, strict=True):
        if keys is not None and not ENDPOINTS[endpoint].of_meeting:
            owners[name].add(keys)
    files, unreadable = [], []
    for (endpoint, name, info), first in zip(found, firsts, strict=True):
        mine = {first} if first is not None else owners.get(name, set())
        if ENDPOINTS[endpoint].of_meeting:
            mine = {(meeting, None) for meeting, _ in mine}
        if mine:
            moment = 0.0 if info.modified is None else info.modified.timestamp()
            files.append(JsonFile(info, endpoint, frozenset(mine), (moment, 0)))
        elif info.size > 10 or info.path in broken:  # more than an empty list
            unreadable.append(info.path)
    _name_unreadable(objects, unreadable)
    return JsonFilesReader(objects, files, unreadable, ADDED)


def _dated(objects: Objects, found: Sequence[tuple[str, tuple[float, int], ObjectInfo]]) -> JsonFilesReader:
    """Return the reader of raw answers by date: what they are of, their records say."""
    history = HistoryFiles(objects, ((age, info) for folder, age, info in found if folder == _JOLPICA))
    found = [one for one in found if one[2].path not in history.understood]
    infos = {info.path: info for _, _, info in found}

    def look(path: str) -> tuple[str | None, frozenset[Keys]] | None:
        keys: set[Keys] = set()
        name: str | None = None
        try:
            for record in stream_records(objects, infos[path], path):
                if isinstance(record, dict):
                    name = name or _endpoint_of(record, path.split("/")[-2])
                    meeting, session = record.get("meeting_key"), record.get("session_key")
                    if is_key(meeting):
                        keys.add((meeting, session if is_key(session) else None))
        except UnreadableError as error:
            _log.error("%s", error)
            return None
        return name, frozenset(keys)

    files, unreadable = [], []
    looked = objects.each(look, list(infos))
    for (_, age, info), seen in zip(found, looked, strict=True):
        if seen is None:
            unreadable.append(info.path)
        elif seen[0] is not None:
            of_meeting = ENDPOINTS[seen[0]].of_meeting
            files.append(JsonFile(info, seen[0], frozenset(k for k in seen[1] if (k[1] is None) == of_meeting), age))
        elif seen[1]:
            _log.warning("'%s/%s' is passed over: it is of no endpoint that f1hbase knows", objects.location, info.path)
    return JsonFilesReader(objects, files, unreadable, history=history if history.understood else None)


def _name_unreadable(objects: Objects, paths: Sequence[str]) -> None:
    for path in paths:
        _log.error("'%s/%s' cannot be read: no record is in it, and nothing says whose it is", objects.location, path)


def _first_keys(objects: Objects, path: str) -> Keys | None:
    text = _head(objects, path).decode("utf-8-sig", errors="ignore").lstrip()
    if not text.startswith("["):
        return None
    try:
        record, _ = json.JSONDecoder(parse_int=_whole_number).raw_decode(text[1:].lstrip())
    except (ValueError, RecursionError):
        return None
    meeting = record.get("meeting_key") if isinstance(record, dict) else None
    if not is_key(meeting):
        return None
    session = record.get("session_key")
    return meeting, session if is_key(session) else None


def _head(objects: Objects, path: str) -> bytes:
    size = objects.size(path) or 0
    return next(objects.chunks(ObjectInfo(path, min(size, _PEEK_BYTES)), _PEEK_BYTES), b"")


def _endpoint_of(record: Record, folder: str) -> str | None:
    """Return which endpoint a record is of: the folder may say it, else the fields do."""
    for name in ENDPOINTS:
        if folder == name or folder.endswith((f"_{name}", f"-{name}")):
            return name
    best: list[tuple[int, str]] = []
    for name, endpoint in ENDPOINTS.items():
        needed = {"meeting_key", *endpoint.key_fields, *(() if endpoint.of_meeting else ("session_key",))}
        if needed <= record.keys() and not (endpoint.of_meeting and "session_key" in record):
            best.append((len(endpoint.known & record.keys()) - len(record.keys() - endpoint.known), name))
    best.sort(reverse=True)
    if not best or best[0][0] <= 0 or (len(best) > 1 and best[0][0] == best[1][0]):
        return None
    return best[0][1]
