"""Compares all that another source or place has with what is stored in one, record by record; reads only.

Both sides are reached through their seams: a `Source` for the other one, a `Reader` for what is stored here. The
records of one answer are in memory at a time, and as many of the place.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from time import monotonic
from typing import Any

from f1hbase.model.answers import Answer
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.coverage import subtract
from f1hbase.model.outcomes import UnitState
from f1hbase.model.plans import MeetingPlan, Plan, Selection
from f1hbase.model.records import Identity
from f1hbase.model.samples import Record, Samples
from f1hbase.model.text import count
from f1hbase.model.units import Scope, Unit, Window, endpoints_of, slice_time
from f1hbase.operations.verify.comparison import Comparison, EndpointComparison, ScopeComparison
from f1hbase.operations.verify.differences import Difference, Kind
from f1hbase.operations.verify.matching import Content, contents, match
from f1hbase.pipeline.display import Counter as RowDisplay
from f1hbase.pipeline.display import LineCounter, MakeCounter
from f1hbase.pipeline.load import STARTUP_PATIENCE_SECONDS, plan_load, run_with_source
from f1hbase.pipeline.normalise import Account, AnswerNormaliser
from f1hbase.pipeline.parts import Recipe
from f1hbase.sources.base import MayLack, Reader, Source, SourceRecipe
from f1hbase.sources.stored import KeepsAnswers, UnreadableError, read_parts, within, without

_RECORDS_AT_ONCE = 100_000
"""How many samples are compared at once, about: 40 MB of rows, twice."""

_LONG = timedelta(hours=1)
"""Samples of a longer window are counted before they are compared: they may be all of a session."""

_SHOWN_SCOPES = 5


@dataclass(frozen=True, slots=True)
class ComparisonRequest:
    """What is to be compared with what.

    Attributes:
        selection: Which sessions, endpoints and drivers.
        other: How the other source or place is opened.
        other_name: What `--from` calls it.
        patience: For how long either may be away, in seconds.
    """

    selection: Selection
    other: SourceRecipe
    other_name: str
    patience: float = 1800.0


def compare(request: ComparisonRequest, reader: Reader, show: MakeCounter = LineCounter) -> Comparison:
    """Compare what another source or place has with what is stored here.

    A place that holds what was loaded into it is compared in all that it has. A source that has everything is compared
    in what is stored here, and in the sessions that are named.

    Args:
        request: What with what.
        reader: Reads what is stored here.
        show: Makes the display of how far it is.

    Raises:
        NothingToLoadError: If the other has nothing of what was asked for.
        UnreachableError: If either is away longer than patience lasts.
    """
    started = monotonic()
    plan = plan_load(Recipe(request.other, ()), request.selection, min(request.patience, STARTUP_PATIENCE_SECONDS))
    result = Comparison(reader.home, plan.listing.source, request.other_name)
    result.unusable += _unusable(request.selection, plan, request.other_name)
    run_with_source(_compare(request, plan, reader, result, show))
    result.seconds = monotonic() - started
    return result


async def _compare(
    request: ComparisonRequest, plan: Plan, reader: Reader, result: Comparison, show: MakeCounter
) -> None:
    display = show(len(plan.meetings), "compared")
    try:
        async with request.other.open(request.patience) as source:
            result.other = source.home
            requested = _Requested(request.selection, source, result.other_name)
            for meeting in plan.meetings:
                comparer = _MeetingComparer(meeting, source, reader, result.other_name, display)
                await asyncio.to_thread(comparer.choose, requested)
                result.scopes += await comparer.run()
                requested.lacks += comparer.lacks
    finally:
        display.close()
    result.notes += requested.notes()
    result.notes += await asyncio.to_thread(_unlisted, request.selection, plan, reader, result.other_name)


class _Requested:
    """What of each session is compared, and what is left out.

    Args:
        selection: What was asked for.
        source: The other place.
        name: What it is called.
    """

    def __init__(self, selection: Selection, source: Source, name: str) -> None:
        self.lacks: list[Unit] = []
        self._selection = selection
        self._source = source
        self._name = name
        # What may lack something was filled by a load: all that it has is meant to be here, too.
        self._compares_all = isinstance(source, MayLack)
        self._not_here: dict[str, set[int]] = defaultdict(set)
        self._nowhere: set[int] = set()
        self._unknown: set[str] = set()

    def units(self, scope: Scope, states: Sequence[UnitState]) -> list[Unit]:
        """Return the units of a session (or a meeting) that are compared."""
        found: list[Unit] = []
        stored = {state.endpoint for state in states}
        selection = self._selection
        is_named = bool(selection.date or selection.meeting_key or selection.session_key)
        key = scope.session_key or scope.meeting_key
        for endpoint in endpoints_of(scope):
            if endpoint.name not in selection.endpoints:
                continue
            if not self._source.knows(endpoint.name):
                self._unknown.add(endpoint.name)
            elif self._compares_all or endpoint.name in stored or (is_named and not stored):
                drivers = selection.drivers if endpoint.by_driver and selection.drivers else (None,)
                found += [Unit(endpoint.name, scope, driver) for driver in drivers]
            elif not stored and scope.session_key is not None:
                self._nowhere.add(key)
            elif stored:
                self._not_here[endpoint.name].add(key)
        return found

    def notes(self) -> Iterator[str]:
        """Yield what was left out."""
        if self._nowhere:
            yield (
                f"not compared: {count(len(self._nowhere), 'session')} of {self._name} of which nothing is loaded; "
                "name one with --session-key to compare it all the same"
            )
        if self._not_here:
            parts = [f"{name} ({count(len(keys), 'session')})" for name, keys in self._not_here.items()]
            yield f"not compared, as nothing of it is loaded: {', '.join(parts)}"
        if self._unknown:
            yield f"not compared, as {self._name} does not have it: {', '.join(sorted(self._unknown))}"
        lacks: dict[str, set[str]] = defaultdict(set)
        for unit in self.lacks:
            lacks[unit.endpoint].add(unit.scope.prefix)
        if lacks:
            parts = [f"{name} ({count(len(scopes), 'session')})" for name, scopes in lacks.items()]
            yield f"not compared, as nothing of it was loaded into {self._name}: {', '.join(parts)}"


class _MeetingComparer:
    """Takes what the other place answers of a meeting, and holds it against what is stored.

    Args:
        meeting: The meeting and its sessions.
        source: The other place.
        reader: Reads what is stored.
        name: What the other place is called.
        display: Shows how far it is.
    """

    def __init__(self, meeting: MeetingPlan, source: Source, reader: Reader, name: str, display: RowDisplay) -> None:
        self.lacks: list[Unit] = []
        self._meeting = meeting
        self._source = source
        self._reader = reader
        self._name = name
        self._display = display
        self._units: list[Unit] = []
        self._states: dict[Scope, Sequence[UnitState]] = {}
        self._found: dict[tuple[Scope, str], EndpointComparison] = {}
        self._parts: dict[Unit, dict[Identity, Content]] = defaultdict(dict)
        self._answered: dict[tuple[Scope, str, int | None], list[Window]] = defaultdict(list)
        self._one_at_a_time = asyncio.Lock()

    def choose(self, requested: _Requested) -> None:
        """Find out what of the meeting is stored, and so what is compared."""
        settled = self._meeting.sessions_to_settle
        asked_for = {scope for scope in self._meeting.scopes[1:] if scope.session_key not in settled}
        if asked_for:
            asked_for.add(self._meeting.scope)
        for scope in self._meeting.scopes:
            if scope not in asked_for:
                continue
            self._states[scope] = self._reader.units(scope)
            self._units += requested.units(scope, self._states[scope])
        expected = sum(
            state.stats.get("rows", 0.0)
            for scope, states in self._states.items()
            for state in states
            if Unit(state.endpoint, scope) in {replace(unit, driver=None) for unit in self._units}
        )
        self._display.begin(self._meeting.scope.name, round(expected))

    async def run(self) -> list[ScopeComparison]:
        """Compare, and return what was found of each session."""
        listed = {unit: self._listed(unit) for unit in self._units if ENDPOINTS[unit.endpoint].keyed_by_year}
        for unit, record in listed.items():
            if record is not None:
                await self._deliver(Answer(unit, self._meeting.asked_at, self._source.name, [[record]]))
        asked = [unit for unit in self._units if unit not in listed]
        if asked:
            await self._source.fetch(asked, self._deliver)
        lacking = {unit for unit, record in listed.items() if record is None}
        if isinstance(self._source, MayLack):
            lacking.update(self._source.lacking())
        self.lacks = [unit for unit in self._units if unit in lacking]
        for unit in asked:
            answered = self._answered[unit.scope, unit.endpoint, unit.driver]
            if unit not in lacking and subtract(unit.window, answered):
                self._of(unit).errors.append((unit, f"{self._name} did not answer"))
        scopes: dict[Scope, ScopeComparison] = {}
        for unit in self._units:
            if unit in lacking:
                continue
            scope = scopes.setdefault(unit.scope, ScopeComparison(unit.scope))
            if unit.endpoint not in scope.endpoints:
                scope.endpoints[unit.endpoint] = self._of(unit)
                scope.differences += self._of(unit).differences(self._name)
        return list(scopes.values())

    def _listed(self, unit: Unit) -> Record | None:
        """Return the record of the meeting or of a session, which came with the plan."""
        if unit.scope.session_key is None:
            return self._meeting.record
        return next(session.record for session in self._meeting.sessions if session.scope == unit.scope)

    async def _deliver(self, answer: Answer) -> None:
        async with self._one_at_a_time:
            # In a thread, so that the other requests do not wait for decoding and for the store.
            await asyncio.to_thread(self._take, answer)

    def _take(self, answer: Answer) -> None:
        unit = answer.unit
        if answer.error is not None:
            self._parts.pop(unit, None)
            self._of(unit).errors.append((unit, f"{self._name}: {answer.error}"))
            self._answer_is_there(unit)
            return
        pieces = _pieces(answer)
        if len(pieces) > 1:
            for piece in pieces:
                mine = replace(answer, unit=piece, records=within(answer.records, piece))
                self._compare(mine, self._contents(mine))
        else:
            self._parts[unit].update(self._contents(answer))
            if not answer.complete:
                return
            self._compare(answer, self._parts.pop(unit))
        self._answer_is_there(unit)

    def _contents(self, answer: Answer) -> dict[Identity, Content]:
        """Return the records of an answer, or raise what decoding it raises."""
        endpoint = ENDPOINTS[answer.unit.endpoint]
        normalised = AnswerNormaliser(answer, Account(answer.unit), self._source.knows(endpoint.name))
        return normalised.made(lambda batch: contents(endpoint, batch.records))

    def _compare(self, answer: Answer, there: Mapping[Identity, Content]) -> None:
        unit, endpoint = answer.unit, ENDPOINTS[answer.unit.endpoint]
        here: dict[Identity, Content] = {}
        try:
            for some in without(self._read(unit), endpoint.name, answer.without):
                here.update(contents(endpoint, some))
        except UnreadableError as error:
            self._of(unit).errors.append((unit, str(error)))
            return
        self._of(unit).add(match(endpoint, here, there, self._source.knows(endpoint.name)), self._name)
        self._display.count(len(there))

    def _read(self, unit: Unit) -> Iterator[Samples | Sequence[Any]]:
        if isinstance(self._reader, KeepsAnswers):
            # The states of the session were read once, not for each window.
            return read_parts(self._reader, unit, self._states[unit.scope])
        return self._reader.read(unit)

    def _of(self, unit: Unit) -> EndpointComparison:
        key = unit.scope, unit.endpoint
        if key not in self._found:
            self._found[key] = EndpointComparison(ENDPOINTS[unit.endpoint], unit.scope)
        return self._found[key]

    def _answer_is_there(self, unit: Unit) -> None:
        self._answered[unit.scope, unit.endpoint, unit.driver].append(unit.window)


def _pieces(answer: Answer) -> list[Unit]:
    """Return a unit in windows of about as many records as are compared at once; whole where it is no large one."""
    unit, scope = answer.unit, answer.unit.scope
    start, end = unit.window.start or scope.date_start, unit.window.end or scope.over_at
    if not ENDPOINTS[unit.endpoint].sampled or start is None or end is None or end - start <= _LONG:
        return [unit]
    parts = sum(len(some) for some in answer.records) // _RECORDS_AT_ONCE + 1
    if parts == 1 or not answer.complete:
        return [unit]
    windows = slice_time(start, end, (end - start) / parts)
    windows[0], windows[-1] = replace(windows[0], start=unit.window.start), replace(windows[-1], end=unit.window.end)
    return [replace(unit, window=window) for window in windows]


def _unusable(selection: Selection, plan: Plan, name: str) -> Iterator[Difference]:
    """Yield what the other place lists that cannot be compared, if it may be of what was asked for."""
    for record, reason in plan.unusable:
        keys = record if isinstance(record, dict) else {}
        session, meeting = keys.get("session_key"), keys.get("meeting_key")
        if session in (selection.session_key or (session,)) and meeting in (selection.meeting_key or (meeting,)):
            what = f"session {session}" if session is not None else "a session"
            yield Difference(Kind.NOT_COMPARED, f"{what} that {name} lists cannot be compared: {reason}")


def _unlisted(selection: Selection, plan: Plan, reader: Reader, name: str) -> list[str]:
    """Return what to say of sessions that are stored and that the other place does not list."""
    listed = {record.get("session_key") for record in plan.listing.sessions if isinstance(record, dict)}
    keys = [
        record["session_key"]
        for record in reader.sessions()
        if record.get("session_key") not in listed
        and (not selection.year or record.get("year") in selection.year)
        and selection.mode != "latest"
        and not (selection.date or selection.meeting_key or selection.session_key)
    ]
    if not keys:
        return []
    more = f" and {len(keys) - _SHOWN_SCOPES:,} more" if len(keys) > _SHOWN_SCOPES else ""
    shown_keys = ", ".join(map(str, keys[:_SHOWN_SCOPES]))
    return [f"not compared, as {name} does not list it: {count(len(keys), 'session')} ({shown_keys}{more})"]
