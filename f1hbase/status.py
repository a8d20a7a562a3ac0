"""What is loaded and what failed, from the reports, by season, meeting and session."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from f1hbase.codec import SEPARATOR
from f1hbase.coverage import Coverage, Status, UnitState
from f1hbase.hbase.reports import HBaseReports, RunState
from f1hbase.units import Scope, Unit

_DONE = (Status.DONE, Status.PROVISIONAL)


@dataclass(slots=True)
class ScopeStatus:
    """How a session (or a meeting as such, with session key None) stands; without any key, what belongs to none.

    Attributes:
        units: How many units there are of each status; failures that a later run made good are not counted.
        rows: The rows stored, by endpoint.
        quarantined: How many records are in quarantine, by endpoint.
        failures: Each unit that failed, with the reason.
    """

    year: int | None
    meeting_key: int | None
    session_key: int | None
    units: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    quarantined: dict[str, int] = field(default_factory=dict)
    failures: list[tuple[str, str]] = field(default_factory=list)

    @property
    def place(self) -> tuple[str, ...]:
        """Year, meeting and session as text, with `-` for what is not known."""
        return tuple("-" if key is None else str(key) for key in (self.year, self.meeting_key, self.session_key))

    def as_json(self) -> dict[str, Any]:
        """Return it in JSON's types."""
        return {
            "year": self.year,
            "meeting_key": self.meeting_key,
            "session_key": self.session_key,
            "units": dict(self.units),
            "rows": dict(self.rows),
            "quarantined": self.quarantined,
            "failures": [{"unit": unit, "reason": reason} for unit, reason in self.failures],
        }


def read_status(reports: HBaseReports) -> list[ScopeStatus]:
    """Return how each session stands, in the order of the keys."""
    by_scope: dict[str, list[UnitState]] = defaultdict(list)
    for state in reports.all_unit_states():
        by_scope[state.scope_prefix].append(state)
    quarantined: dict[str, dict[str, int]] = defaultdict(dict)
    for (prefix, endpoint), count in reports.quarantined().items():
        quarantined[prefix][endpoint] = count
    prefixes = sorted(
        {*by_scope, *quarantined}, key=lambda prefix: [_number(part) or 0 for part in prefix.split(SEPARATOR)]
    )
    return [_scope_status(prefix, by_scope[prefix], quarantined[prefix]) for prefix in prefixes]


def status_json(scopes: Iterable[ScopeStatus], runs: Iterable[RunState]) -> dict[str, Any]:
    """Return everything in JSON's types."""
    return {
        "sessions": [scope.as_json() for scope in scopes],
        "runs": [
            {
                "run_id": run.run_id,
                "meta": dict(run.meta),
                "stats": dict(run.stats),
                "errors": dict(run.errors),
            }
            for run in runs
        ],
    }


def status_lines(scopes: list[ScopeStatus], runs: list[RunState]) -> Iterable[str]:
    """Yield everything for people."""
    if not scopes:
        yield "Nothing is loaded yet."
    layout = "{:<6}{:>8}{:>9}{:>8}{:>13}{:>9}{:>8}{:>12}"
    total: Counter[str] = Counter()
    year = None
    for scope in scopes:
        if scope.year is not None and scope.year != year:
            year = scope.year
            yield layout.format("season", "meeting", "session", "done", "provisional", "partial", "failed", "rows")
        counts = [scope.units[status.value] for status in Status]
        rows = scope.rows.total()
        total.update(rows=rows, failed=len(scope.failures), quarantined=sum(scope.quarantined.values()))
        if scope.year is not None:
            yield layout.format(*scope.place, *counts, f"{rows:,}")
    if scopes:
        yield (
            f"{total['rows']:,} rows, counted in each column family (records of one instant or lap share a row); "
            f"{total['failed']:,} units failed; {total['quarantined']:,} records in quarantine"
        )
    for scope in scopes:
        for unit, reason in scope.failures:
            yield f"failed: {unit}: {reason}"
        for endpoint, count in scope.quarantined.items():
            where = SEPARATOR.join(scope.place)
            yield f"quarantine: {count:,} records of {endpoint}: rows quarantine#{where}#{endpoint}#... of the reports"
    if runs:
        yield f"last run: {_run_line(runs[0])}"


def _scope_status(prefix: str, states: list[UnitState], quarantined: Mapping[str, int]) -> ScopeStatus:
    year, meeting_key, session_key = map(_number, prefix.split(SEPARATOR))
    result = ScopeStatus(year, meeting_key, session_key, quarantined=dict(quarantined))
    if year is None or meeting_key is None:
        return result
    scope = Scope(year, meeting_key, session_key)
    coverage = Coverage(scope, states, datetime.now(UTC))
    for state in _standing(scope, states):
        unit = Unit(state.endpoint, scope, state.driver, state.window)
        if state.status not in _DONE and not coverage.missing(unit):
            continue  # made good by a later run
        if state.status is Status.FAILED:
            result.failures.append((str(unit), state.error or "no reason known"))
        else:
            result.rows[state.endpoint] += int(state.stats.get("rows", 0))
        result.units[state.status.value] += 1
    return result


def _standing(scope: Scope, states: Iterable[UnitState]) -> Iterator[UnitState]:
    """Yield the units but for those whose records others hold as well, as when windows of another size were loaded."""
    now = datetime.now(UTC)
    standing: list[UnitState] = []
    for state in sorted(states, key=_breadth, reverse=True):
        unit = Unit(state.endpoint, scope, state.driver, state.window)
        if state.status not in _DONE or Coverage(scope, standing, now).missing(unit):
            yield state
            if state.status in _DONE:
                standing.append(state)


def _breadth(state: UnitState) -> tuple[bool, bool, float]:
    """What sorts units so that a unit comes after those that may hold all of its records."""
    start, end = state.window.start, state.window.end
    seconds = (end - start).total_seconds() if start is not None and end is not None else math.inf
    return state.status is Status.DONE, state.driver is None, seconds


def _number(component: str) -> int | None:
    return None if component == "-" else int(component)


def _run_line(run: RunState) -> str:
    end = run.meta.get("end")
    how = f"ended {end} with exit code {run.meta.get('exit')}" if end else "has not ended, or was killed"
    rows = f"; {run.stats['rows']} rows in {run.stats.get('seconds')} s" if "rows" in run.stats else ""
    return f"{run.run_id}, begun {run.meta.get('start')}, {how}{rows}"
