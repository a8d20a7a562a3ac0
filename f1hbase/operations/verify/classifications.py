"""Compares the classifications stored of OpenF1's races, sprints and qualifying sessions with those of the history.

The other side is what is stored of the history in the same place and, where that lacks a race, the source itself. Both
are a `Source`. Reads only; knows no store.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

from f1hbase.errors import NothingToLoadError
from f1hbase.model.answers import Answer, Listing
from f1hbase.model.catalog import ENDPOINTS, HISTORY_ENDPOINTS
from f1hbase.model.history import as_listed
from f1hbase.model.outcomes import STORED
from f1hbase.model.plans import Selection
from f1hbase.model.records import identity
from f1hbase.model.samples import Record
from f1hbase.model.text import count
from f1hbase.model.times import lenient_time
from f1hbase.model.units import Scope, Unit, race_scope
from f1hbase.operations.verify.classification import Classified, deviations, of_history, of_session, unsaid
from f1hbase.operations.verify.comparison import Comparison, EndpointComparison, ScopeComparison
from f1hbase.operations.verify.differences import Difference, Kind
from f1hbase.pipeline.display import LineCounter, MakeCounter
from f1hbase.pipeline.load import run_with_source
from f1hbase.pipeline.normalise import Account, AnswerNormaliser
from f1hbase.pipeline.plan import make_plan, selected
from f1hbase.sources.base import Reader, ReadsHistory, Source, SourceRecipe
from f1hbase.sources.stored import StoredSource, UnreadableError

RESULT = "session_result"

_OF_SESSION = {"Race": "results", "Sprint": "sprint_results", "Qualifying": "qualifying_results"}
"""Which endpoint of the history has the classification of a session, by OpenF1's name of the session."""

_SAME_RACE = timedelta(hours=24)
"""How far apart the two may say that a race begins."""

_WEEKEND = timedelta(days=4)
"""A race begins no later than this after the first session of its meeting that counts."""


@dataclass(frozen=True, slots=True)
class ClassificationRequest:
    """What is to be compared.

    Attributes:
        selection: Which sessions and drivers.
        history: How the source of the history is opened.
        name: What `--from` calls that.
        patience: For how long either may be away, in seconds.
    """

    selection: Selection
    history: SourceRecipe
    name: str
    patience: float = 1800.0


@dataclass(slots=True)
class _Session:
    """A session whose classification is compared.

    Attributes:
        scope: The session.
        here: What is stored of it.
        unit: Where the history has the same; None where it has no such race.
        there: What the history has; None where that is not known.
        error: Why it is not known.
    """

    scope: Scope
    here: list[Classified]
    unit: Unit | None = None
    there: dict[Any, Record] | None = None
    error: str | None = None


@dataclass(slots=True)
class _History:
    """What was found out of the history.

    Attributes:
        stored: The races that are stored here, of the seasons that are needed.
        requests: How many requests were sent.
        from_here: How many classifications are stored here.
        asked: How many were asked for.
    """

    stored: list[Record] = field(default_factory=list)
    requests: int = 0
    from_here: int = 0
    asked: int = 0


def compare_classifications(
    request: ClassificationRequest, reader: Reader, show: MakeCounter = LineCounter
) -> Comparison:
    """Compare every classification that is stored of races, sprints and qualifying with the history's.

    What is stored of the history costs no request; what is not is asked of its source, within its limits: two requests
    and one a season for the races, and about 14 a season for all results, sprints and qualifying.

    Args:
        request: What is compared.
        reader: Reads what is stored here, of both.
        show: Makes the display of how far it is.

    Returns:
        One difference for each driver and thing that differs.

    Raises:
        NothingToLoadError: If no session of what was asked for is stored, or no classification of it.
        UnreachableError: If the store or the source is away longer than patience lasts.
    """
    started = monotonic()
    result = Comparison(reader.home, request.name, request.name)
    run_with_source(_compare(request, reader, result, show))
    result.seconds = monotonic() - started
    return result


async def _compare(request: ClassificationRequest, reader: Reader, result: Comparison, show: MakeCounter) -> None:
    listed = _Measured(reader)
    plan = await make_plan(listed, request.selection, datetime.now(UTC))
    chosen = [session.scope for session in selected(plan)]
    wanted = [scope for scope in chosen if scope.title in _OF_SESSION]
    sessions = [one for scope in wanted if (one := await asyncio.to_thread(_stored_session, reader, scope)) is not None]
    if not sessions:
        what = "no race, sprint or qualifying of what was asked for" if not wanted else f"no {RESULT} of it"
        raise NothingToLoadError(
            f"{reader.home} has {what}: nothing can be compared with {request.name}. 'load --endpoint {RESULT}' with "
            "the same sessions loads it; 'status' says what is loaded."
        )
    history = _History()
    display = show(len(sessions), "compared")
    try:
        await _find(request, reader, listed.records, sessions, history)
        for session in sessions:
            display.begin(session.scope.name, len(session.here))
            result.scopes.append(_compared(session, request))
            display.count(len(session.here))
    finally:
        display.close()
    result.notes += _notes(request, history, sessions, len(wanted) - len(sessions), len(chosen) - len(wanted))


class _Measured(StoredSource):
    """What is stored, without the races of the history among its sessions."""

    def __init__(self, reader: Reader) -> None:
        super().__init__(reader)
        self.records: Sequence[Record] = ()

    async def listing(self, selection: Selection) -> Listing:
        """Return all sessions and meetings of OpenF1 that are stored."""
        self.records = await asyncio.to_thread(self._reader.sessions)
        meetings = await asyncio.to_thread(self._reader.meetings)
        return Listing(self.name, self.records, meetings, datetime.now(UTC), {})


def _stored_session(reader: Reader, scope: Scope) -> _Session | None:
    """Return the classification that is stored of a session; None where none was loaded."""
    stored = {state.endpoint for state in reader.units(scope) if state.status in STORED}
    if RESULT not in stored:
        return None

    def read(endpoint: str) -> list[Record]:
        if endpoint not in stored:
            return []
        return [record for some in reader.read(Unit(endpoint, scope)) for record in some]

    return _Session(scope, of_session(read(RESULT), read("drivers"), read("championship_drivers")))


# --- the same of the history ---


async def _find(
    request: ClassificationRequest,
    reader: Reader,
    records: Sequence[Record],
    sessions: Sequence[_Session],
    history: _History,
) -> None:
    """Find the races of the sessions, and their classifications: those stored here, the others asked for."""
    if isinstance(reader, ReadsHistory):
        years = {session.scope.year for session in sessions}
        history.stored = [one for one in await asyncio.to_thread(reader.races) if one.get("season") in years]
    _join(sessions, records, history.stored)
    if history.stored:
        known = [one.unit for one in sessions if one.unit is not None]
        await _fetch(StoredSource(reader), known, sessions, history)
        history.from_here = sum(one.there is not None for one in sessions)
    missing = [one for one in sessions if one.there is None]
    if not missing:
        return
    for one in missing:
        one.error = None
    async with request.history.open(request.patience) as source:
        seasons = sorted({one.scope.year for one in missing if one.unit is None})
        if seasons:
            listing = await source.listing(Selection(mode="year", year=tuple(seasons)))
            history.requests += listing.stats.requests
            _join([one for one in missing if one.unit is None], records, listing.sessions)
        units = [one.unit for one in missing if one.unit is not None]
        await _fetch(source, units, missing, history)
        history.requests += source.unaccounted().requests
        history.asked = sum(one.there is not None for one in missing)


def _join(sessions: Iterable[_Session], records: Sequence[Record], races: Iterable[Record]) -> None:
    """Tell sessions which race of the history they belong to, by the key in its record, else by the time."""
    listed = [as_listed(race) for race in races]
    starts = [(start, race) for race in listed if (start := lenient_time(race.get("date_start"))) is not None]
    by_key = {race["openf1_meeting_key"]: race for race in listed if race.get("openf1_meeting_key") is not None}
    for session in sessions:
        scope = session.scope
        race = by_key.get(scope.meeting_key) or _by_time(scope, records, starts)
        if race is not None:
            session.unit = Unit(_OF_SESSION[scope.title], race_scope(race["season"], race["round"]))


def _by_time(scope: Scope, records: Iterable[Record], starts: Sequence[tuple[datetime, Record]]) -> Record | None:
    """Return the race that begins when a meeting's race does, or soon after its session where no race is stored."""
    of_race = next(
        (
            lenient_time(record.get("date_start"))
            for record in records
            if record.get("meeting_key") == scope.meeting_key and record.get("session_name") == "Race"
        ),
        None,
    )
    begins = of_race or scope.date_start
    if begins is None:
        return None
    early, late = (_SAME_RACE, _SAME_RACE) if of_race is not None else (timedelta(), _WEEKEND)
    near = [(abs(start - begins), race) for start, race in starts if -early <= start - begins <= late]
    return min(near, key=lambda one: one[0])[1] if near else None


async def _fetch(source: Source, units: Collection[Unit], sessions: Sequence[_Session], history: _History) -> None:
    """Have a source answer units, and give each session its own."""
    of: dict[Unit, list[_Session]] = defaultdict(list)
    for session in sessions:
        if session.unit is not None:
            of[session.unit].append(session)
    found: dict[Unit, dict[Any, Record]] = defaultdict(dict)

    async def take(answer: Answer) -> None:
        history.requests += answer.stats.requests
        unit = answer.unit
        mine = of.get(unit, [])
        if answer.error is not None:
            for session in mine:
                session.error = answer.error
            return
        endpoint = HISTORY_ENDPOINTS[unit.endpoint]
        normalised = AnswerNormaliser(answer, Account(unit), source.knows(unit.endpoint))
        try:
            found[unit] |= await asyncio.to_thread(
                normalised.made, lambda batch: [(identity(endpoint, one), one) for one in batch.records]
            )
        except UnreadableError as error:
            for session in mine:
                session.error = str(error)
            return
        if answer.complete:
            for session in mine:
                session.there = found[unit]

    if units:
        await source.fetch(units, take)


# --- what differs ---


def _compared(session: _Session, request: ClassificationRequest) -> ScopeComparison:
    scope, name = session.scope, request.name
    part = EndpointComparison(ENDPOINTS[RESULT], scope)
    found = ScopeComparison(scope, {RESULT: part})

    def difference(kind: Kind, text: str, number: int | None = None) -> Difference:
        return Difference(kind, text, scope, RESULT, () if number is None else (number,))

    if session.unit is None:
        text = f"{name} has no race at this time, nor one of this meeting"
        found.differences.append(difference(Kind.UNKNOWN_RACE, text))
    elif session.there is None:
        part.errors.append((session.unit, session.error or f"{name} did not answer"))
        found.differences.append(difference(Kind.NOT_COMPARED, f"{name}: {session.error or 'no answer'}"))
    elif session.there:
        chosen = set(request.selection.drivers)
        there = of_history(session.there.values())
        part.compared = sum(not chosen or one.number in chosen for one in there)
        differing: set[int | None] = set()
        for one in deviations(session.here, there, name):
            if chosen and one.number not in chosen:
                continue
            part.missing += one.kind is Kind.MISSING_DRIVER
            part.beyond += one.kind is Kind.FURTHER_DRIVER
            if one.kind not in (Kind.MISSING_DRIVER, Kind.FURTHER_DRIVER, Kind.NOT_COMPARED):
                differing.add(one.number)
                part.fields[one.kind.value] += 1
            found.differences.append(difference(one.kind, one.detail, one.number))
        part.other = len(differing)
    return found


def _notes(
    request: ClassificationRequest, history: _History, sessions: Sequence[_Session], without: int, of_other_kind: int
) -> Iterator[str]:
    """Yield where the history came from, and what was not compared, and why that is no difference."""
    name = request.name
    asked = f"{count(history.asked, 'classification')} asked of {name} by {count(history.requests, 'request')}"
    if not history.stored:
        yield f"{asked}, as no race of it is loaded here; 'load --from {name}' with --year keeps them"
    elif history.requests:
        yield f"{count(history.from_here, 'classification')} of {name} as loaded here; {asked}"
    else:
        yield f"{count(history.from_here, 'classification')} of {name} as loaded here; nothing was asked for"
    if without:
        yield f"not compared: {count(without, 'session')} of which no {RESULT} is loaded"
    if of_other_kind:
        yield f"not compared: {count(of_other_kind, 'session')}, as {name} has races, sprints and qualifying alone"
    empty = sum(one.there is not None and not one.there for one in sessions)
    if empty:
        yield f"not compared: {count(empty, 'session')} of which {name} has no results, or not yet"
    yield from _unsaid(sessions)


def _unsaid(sessions: Sequence[_Session]) -> Iterator[str]:
    """Yield what the classifications here say of nobody, where the history has it."""
    lacking: Counter[str] = Counter()
    for session in sessions:
        if session.there and session.unit is not None and session.unit.endpoint != "qualifying_results":
            lacking.update(unsaid(session.here))
    words: Mapping[str, str] = {
        "points": "points: neither session_result nor championship_drivers has them here",
        "laps": "numbers of laps: session_result has none here",
        "outcomes": "DNF, DNS and DSQ: session_result has no such flags here",
    }
    for what, number in lacking.items():
        yield f"not compared in {count(number, 'session')}: {words[what]}"
