"""Answers of Jolpica that lie about as JSON files by date, without a zone's state: what they say of themselves.

An answer names its question, its place among the pages and how many entries there are in all, so that it is known
whether all pages are there. What is not complete is named, and left out.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from f1hbase.model.catalog import HISTORY, HISTORY_ENDPOINTS
from f1hbase.model.ergast import BadPageError, Page, endpoint_of, is_page, question_of, races_of, read_page
from f1hbase.model.outcomes import Status, UnitState
from f1hbase.model.records import Identity, identity
from f1hbase.model.samples import Record
from f1hbase.model.times import moment_of
from f1hbase.model.units import ALL_TIME, Scope, Unit, race_scope, season_scope
from f1hbase.sources.stored import UnreadableError
from f1hbase.stores.files.clients import ObjectInfo
from f1hbase.stores.files.objects import Objects

_log = logging.getLogger(__name__)

Age = tuple[float, int]
"""Sorts answers by when they came: seconds since 1970, and a number within the second."""

_Place = tuple[str, str]
"""An endpoint, and the prefix of a scope."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """One page.

    Attributes:
        info: The object.
        endpoint: What it has records of.
        age: When it came.
        places: Of which scopes it has records.
        offset, entries, total: Which of how many entries are on it.
    """

    info: ObjectInfo
    endpoint: str
    age: Age
    places: frozenset[_Place]
    offset: int
    entries: int
    total: int


class HistoryFiles:
    """The records of Jolpica's answers in files; several threads may read.

    Args:
        objects: Where they are.
        found: The objects that may be such answers, with their ages; others are passed over.
    """

    def __init__(self, objects: Objects, found: Iterable[tuple[Age, ObjectInfo]]) -> None:
        self._objects = objects
        self._races: dict[str, Record] = {}
        self._seasons: dict[int, Record] = {}
        self._listed: Age | None = None
        self.understood: set[str] = set()
        self._by_place: dict[_Place, list[_Answer]] = defaultdict(list)
        answers: dict[str, list[_Answer]] = defaultdict(list)
        for age, info in sorted(found, key=lambda one: one[0]):
            self._take(age, info, answers)
        for question, pages in answers.items():
            self._index(question, pages)

    def races(self) -> Sequence[Record]:
        """Return the record of each race that an answer names."""
        return list(self._races.values())

    def seasons(self) -> Sequence[Record]:
        """Return the record of each season that is listed."""
        return list(self._seasons.values())

    def units(self, scope: Scope) -> Sequence[UnitState]:
        """Return a unit for each endpoint of a race or season of which all pages are there."""
        states = []
        for name, endpoint in HISTORY_ENDPOINTS.items():
            answers = self._by_place.get((name, scope.prefix))
            if answers and endpoint.of_meeting == (scope.session_key is None):
                fetched = moment_of(max(answer.age for answer in answers)[0])
                prefix = scope.prefix
                states.append(UnitState(prefix, name, None, ALL_TIME, Status.DONE, fetched=fetched, source="files"))
        return states

    def read(self, unit: Unit) -> Iterator[list[Record]]:
        """Yield the records of a unit; where answers have other values of one, the newest counts.

        Raises:
            UnreadableError: If a file is gone or damaged; names it.
        """
        endpoint, wanted = HISTORY_ENDPOINTS[unit.endpoint], unit.scope.fields.items()
        seen: set[Identity] = set()
        answers = self._by_place.get((unit.endpoint, unit.scope.prefix), ())
        for answer in sorted(answers, key=lambda one: one.age, reverse=True):
            try:
                records = self._read(answer.info).records
            except BadPageError as error:
                raise UnreadableError(f"'{self._where(answer.info)}': {error}") from error
            mine = []
            for record in records:
                if all(record.get(name) == value for name, value in wanted):
                    mark = identity(endpoint, record)
                    if mark not in seen:
                        mine.append(record)
                    seen.add(mark)
            if mine:
                yield mine

    def listed_at(self) -> datetime | None:
        """Return when the latest answer came."""
        return None if self._listed is None else moment_of(self._listed[0])

    def _take(self, age: Age, info: ObjectInfo, answers: dict[str, list[_Answer]]) -> None:
        try:
            body = self._body(info)
            if not is_page(body):
                return
            self.understood.add(info.path)
            page, name = read_page(body), endpoint_of(body)
        except (BadPageError, FileNotFoundError) as error:
            _log.error("'%s' cannot be read: %s", self._where(info), error)
            return
        self._listed = max(age, self._listed or age)
        for race in races_of(body):
            scope = race_scope(race["season"], race["round"])
            self._races[scope.prefix] = self._races.get(scope.prefix, {}) | race
        if name is None:
            return  # an empty answer, which says of nothing that there is none
        if name == HISTORY.meetings:
            self._seasons.update({record["season"]: record for record in page.records})
        places = frozenset((name, prefix) for record in page.records if (prefix := _prefix(name, record)) is not None)
        answers[question_of(body)].append(_Answer(info, name, age, places, page.offset, len(page.records), page.total))

    def _index(self, question: str, pages: Sequence[_Answer]) -> None:
        """Remember which pages have records of what, if together they have all."""
        newest = {page.offset: page for page in pages}  # they come the oldest first
        there, total = 0, pages[-1].total
        for offset in sorted(newest):
            if offset <= there:
                there = max(there, offset + newest[offset].entries)
        if there < total:
            _log.error(
                "of %d entries of '%s' in '%s' only the first %d are there: not loaded. The other pages are missing.",
                total, question, self._objects.location, there,
            )  # fmt: skip
            return
        for page in newest.values():
            for place in page.places:
                self._by_place[place].append(page)

    def _read(self, info: ObjectInfo) -> Page:
        try:
            return read_page(self._body(info))
        except FileNotFoundError as error:
            raise UnreadableError(f"'{self._where(info)}' does not exist any more") from error

    def _body(self, info: ObjectInfo) -> bytes:
        body: bytes | None = self._objects.get(info.path)
        if body is None:
            raise FileNotFoundError("it does not exist any more")
        return body

    def _where(self, info: ObjectInfo) -> str:
        return f"{self._objects.location.shown}/{info.path}"


def _prefix(endpoint: str, record: Record) -> str | None:
    """Return the prefix of the race or season that a record is of; None for one that does not say it."""
    season, number = record.get("season"), record.get("round")
    if type(season) is not int:
        return None
    if HISTORY_ENDPOINTS[endpoint].of_meeting:
        return season_scope(season).prefix
    return race_scope(season, number).prefix if type(number) is int else None
