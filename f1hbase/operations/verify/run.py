"""Compares what is stored in one place with what its state says of it, and that with what was asked for. Reads only.

Knows no kind of store: an auditor reads (`f1hbase.operations.verify.base`).
"""

from __future__ import annotations

import secrets
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic

from f1hbase.errors import F1HBaseError
from f1hbase.model.catalog import TIMING
from f1hbase.model.outcomes import RunState, UnitState
from f1hbase.model.plans import Selection
from f1hbase.model.units import Scope, endpoints_of, parse_scope
from f1hbase.operations.requested import RequestedScope, requested_of, requested_scopes
from f1hbase.operations.verify.against import Sample, compare_with_source
from f1hbase.operations.verify.base import Aside, Auditor, CountsAhead, Depth, Uncounted
from f1hbase.operations.verify.differences import Difference, Kind
from f1hbase.operations.verify.reconcile import Reconciliation
from f1hbase.operations.verify.report import EndpointResult, FamilyTotal, ScopeResult, Verification
from f1hbase.pipeline.display import Counter as RowDisplay
from f1hbase.pipeline.display import LineCounter, MakeCounter
from f1hbase.pipeline.normalise import IDENTITY
from f1hbase.sources.base import SourceRecipe

_ROUND_RECORDS = 100_000_000
"""How many records are counted ahead, by and large: what is expected of their sessions is in memory meanwhile. A season
has some 77 million."""


@dataclass(frozen=True, slots=True)
class VerifyRequest:
    """What a verification is to do.

    Attributes:
        selection: Which years, meetings, sessions and endpoints; all by default.
        depth: How closely to look.
        source: The source that units are asked of again; needed where the depth says so.
        patience: For how long that may be away, in seconds.
    """

    selection: Selection = Selection()
    depth: Depth = Depth()
    source: SourceRecipe | None = None
    patience: float = 1800.0


def verify(request: VerifyRequest, auditor: Auditor, show: MakeCounter = LineCounter) -> Verification:
    """Compare what is stored with what the state says, and that with what was asked for.

    Args:
        request: What to look at, and how closely.
        auditor: Looks at the place.
        show: Makes the display of how far it is.

    Raises:
        UnreachableError: If the place, or the source that is to be asked, is away.
        F1HBaseError: If there is nothing to compare; says why.
    """
    started = monotonic()
    depth = request.depth
    if depth.against_source and depth.seed is None:
        depth = replace(depth, seed=secrets.randbelow(2**32))
    verifier = _Verifier(request.selection, depth, auditor)
    verifier.run(show)
    result, sample = verifier.result, verifier.sample
    if depth.row_counter:
        verifier.count_whole_families()
    if request.source is not None and sample.units:
        result.comparisons = compare_with_source(request.source, request.patience, sample.units, auditor)
        result.differences += [difference for one in result.comparisons for difference in one.differences()]
    result.seconds = monotonic() - started
    return result


@dataclass(frozen=True, slots=True)
class _Work:
    """A scope that is looked at.

    Attributes:
        scope: The scope, described.
        books: What is expected of each endpoint, and what is counted.
        requested: What runs asked for.
        aside: What is in quarantine.
        has_units: Whether the state knows any unit of it.
    """

    scope: Scope
    books: Mapping[str, Reconciliation]
    requested: Sequence[RequestedScope]
    aside: Sequence[Aside]
    has_units: bool

    @property
    def reported(self) -> int:
        """How many records its units say there are."""
        return sum(book.reported for book in self.books.values())


class _Verifier:
    """Goes through the sessions, one after the other.

    Args:
        selection: Which of them.
        depth: How closely to look.
        auditor: Looks at the place.
    """

    def __init__(self, selection: Selection, depth: Depth, auditor: Auditor) -> None:
        self.result = Verification(depth, auditor.viewer)
        self.result.looked = auditor.deep_look if depth.deep else auditor.look
        self.sample = Sample(depth.against_source, depth.seed or 0)
        self._selection = selection
        self._depth = depth
        self._auditor = auditor
        self._reported: Counter[str] = Counter()
        self._inexact: set[str] = set()

    def run(self, show: MakeCounter) -> None:
        """Compare everything but for what a source says."""
        self._auditor.check(self._depth)
        runs = self._auditor.runs()
        requested = requested_scopes(runs)
        aside = self._quarantined()
        survey = self._auditor.survey()
        scopes = self._selected({*survey.prefixes, *requested, *aside})
        self.result.differences += [one for one in survey.foreign if self._is_asked_about(one)]
        meetings = {scope.meeting.prefix: scope.meeting for scope in scopes}
        self.result.loading += self._auditor.loading(meetings.values())
        display = show(len(scopes), "counted")
        begun = (self._begin(scope, requested, aside.get(scope.prefix, ()), runs) for scope in scopes)
        try:
            for works in self._rounds(work for work in begun if work is not None):
                for work in works:
                    self._end(work, display)
        finally:
            display.close()
        if self._selection.is_everything:
            self.result.notes += self._auditor.notes()

    def count_whole_families(self) -> None:
        """Compare what the store counts by itself in each family with what the units say, once `run` has read them."""
        for family, reported in self._reported.items():
            if not reported:
                continue
            found = self._auditor.count_family(family)
            exact = family not in self._inexact
            self.result.families[family] = FamilyTotal(reported, found, exact)
            if exact and found != reported:
                detail = f"RowCounter finds {found:,} rows in the family '{family}', the reports say {reported:,}"
                self.result.differences.append(Difference(Kind.TOTAL, detail, expected=reported, found=found))

    def _rounds(self, works: Iterable[_Work]) -> Iterator[Sequence[_Work]]:
        """Yield scopes that are to be counted one by one, or as many as are counted ahead at a time."""
        if self._depth.row_counter or not isinstance(self._auditor, CountsAhead):
            yield from ([work] for work in works)
            return
        for some in _batches(works):
            self._auditor.count_ahead([Uncounted(one.scope, one.books) for one in some], deep=self._depth.deep)
            yield some

    def _begin(
        self,
        scope: Scope,
        requested_by_scope: Mapping[str, Sequence[RequestedScope]],
        aside: Sequence[Aside],
        runs: Sequence[RunState],
    ) -> _Work | None:
        """Find out what is expected of a scope; None if none of it is asked about."""
        states = self._auditor.units(scope)
        requested = [*requested_by_scope.get(scope.prefix, ()), *_of_nameless_runs(runs, states)]
        scope = self._auditor.describe(scope)
        wanted = [endpoint for endpoint in endpoints_of(scope) if endpoint.name in self._selection.endpoints]
        if not wanted:
            return None
        requested = [one for one in requested if any(endpoint.name in one.endpoints for endpoint in wanted)]
        books = {endpoint.name: Reconciliation(endpoint, scope, states, requested) for endpoint in wanted}
        return _Work(scope, books, requested, aside, has_units=bool(states))

    def _end(self, work: _Work, display: RowDisplay) -> None:
        """Count what is there of a scope, and keep what is wrong."""
        scope, books = work.scope, work.books
        display.begin(scope.name or scope.prefix, work.reported)
        counted, deep = not self._depth.row_counter, self._depth.deep
        found = list(self._auditor.count(scope, books, display.count, deep=deep)) if counted else []
        by_endpoint = {name: list(book.differences(counted=counted, deep=deep)) for name, book in books.items()}
        if work.requested and not work.has_units and not any(book.rows for book in books.values()):
            detail = f"asked for by run {work.requested[-1].run}, and nothing of it is loaded"
            found.append(Difference(Kind.NOTHING, detail, scope))
            by_endpoint = {name: [] for name in books}
        wrong = {name: [*mine, *(one for one in found if one.endpoint == name)] for name, mine in by_endpoint.items()}
        results = {name: _endpoint_result(book, wrong[name], counted=counted) for name, book in books.items()}
        for book in books.values():
            self._reported[book.endpoint.family] += book.reported
            if not book.is_exact:
                self._inexact.add(book.endpoint.family)
            if scope.dataset is TIMING:  # the API that is asked has no other
                self.sample.offer(scope, book)
        found += [difference for differences in by_endpoint.values() for difference in differences]
        kept = [one for one in work.aside if one.endpoint in books]
        conflicts = [one.key for one in kept if one.reason.startswith(IDENTITY)]
        quarantined = dict(Counter(one.endpoint for one in kept))
        self.result.scopes.append(ScopeResult(scope, results, quarantined, len(found), conflicts))
        self.result.differences += found

    def _quarantined(self) -> Mapping[str, Sequence[Aside]]:
        """Return the records in quarantine of the endpoints asked about, by scope prefix."""
        by_scope: dict[str, list[Aside]] = defaultdict(list)
        for one in self._auditor.quarantined():
            if one.endpoint not in self._selection.endpoints:
                continue
            if parse_scope(one.scope_prefix) is not None:
                by_scope[one.scope_prefix].append(one)
            elif self._selection.is_everything:
                self.result.quarantined_elsewhere += 1
        return by_scope

    def _is_asked_about(self, difference: Difference) -> bool:
        if difference.scope is None:
            return self._selection.is_everything
        return self._selection.chooses(difference.scope)

    def _selected(self, prefixes: Iterable[str]) -> list[Scope]:
        """Return the scopes that are asked about, in the order of their keys.

        Raises:
            F1HBaseError: If a year or key was given of which nothing is known.
        """
        known = [scope for prefix in prefixes if (scope := parse_scope(prefix)) is not None]
        scopes = [scope for scope in known if self._selection.chooses(scope)]
        unknown = self._selection.unmet(scopes)
        if unknown:
            raise F1HBaseError(
                f"{self._auditor.name} has nothing of {', '.join(unknown)}; 'status' says what is loaded."
            )
        return sorted(scopes, key=lambda scope: (scope.year, scope.meeting_key, scope.session_key or 0))


def _batches(works: Iterable[_Work]) -> Iterator[Sequence[_Work]]:
    """Yield scopes in batches of `_ROUND_RECORDS`, by and large."""
    some: list[_Work] = []
    records = 0
    for work in works:
        some.append(work)
        records += work.reported
        if records >= _ROUND_RECORDS:
            yield some
            some, records = [], 0
    if some:
        yield some


def _of_nameless_runs(runs: Sequence[RunState], states: Sequence[UnitState]) -> list[RequestedScope]:
    """Return what runs of the first versions asked for, whose rows do not name their sessions.

    The row of any other run says it: such a run may have stored units of further sessions, which were due again.
    """
    writers = {state.run for state in states}
    return [
        requested_of(run)
        for run in sorted(runs, key=lambda run: run.run_id)
        if run.run_id in writers and "sessions" not in run.meta
    ]


def _endpoint_result(book: Reconciliation, differences: Sequence[Difference], *, counted: bool) -> EndpointResult:
    return EndpointResult(
        units=book.units,
        reported=book.reported,
        found=book.rows if counted else None,
        is_exact=book.is_exact,
        gaps=book.gaps,
        longest_gaps=tuple(sorted(book.longest_gaps, reverse=True)),
        differences=len(differences),
    )
