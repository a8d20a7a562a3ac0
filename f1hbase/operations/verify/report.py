"""What a verification has found: a table and a verdict for people, everything for machines. Knows no store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from f1hbase.model.outcomes import Status
from f1hbase.model.text import count, duration
from f1hbase.model.units import Scope
from f1hbase.operations.verify.against import Comparison
from f1hbase.operations.verify.base import Depth
from f1hbase.operations.verify.differences import Difference, difference_json, difference_lines
from f1hbase.operations.verify.reconcile import Gap

_TABLE = "{:<6}{:>8}{:>9}  {:<36}{:>13}{:>13}  {:<17} {}"

_SHOWN_CONFLICTS = 10


@dataclass(frozen=True, slots=True)
class EndpointResult:
    """How one endpoint of a session stands.

    Attributes:
        units: How many units there are of each status, `unchecked` those that later ones overlap in part.
        reported: How many rows the reports say there are.
        found: How many rows there are; None if they were not counted one by one.
        is_exact: Whether `reported` is what the table must hold.
        gaps: How many gaps above 5 s there are.
        longest_gaps: The longest of them, the longest first.
        differences: How many things are wrong.
    """

    units: Counter[str]
    reported: int
    found: int | None
    is_exact: bool
    gaps: int
    longest_gaps: tuple[Gap, ...]
    differences: int


@dataclass(frozen=True, slots=True)
class ScopeResult:
    """How a session (or a meeting as such) stands.

    Attributes:
        endpoints: Its endpoints, by name.
        quarantined: How many records are in quarantine, by endpoint.
        differences: How many things are wrong.
        conflicts: What names each record in quarantine that has the identity of a stored one, and other values.
    """

    scope: Scope
    endpoints: dict[str, EndpointResult]
    quarantined: dict[str, int]
    differences: int
    conflicts: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class FamilyTotal:
    """What RowCounter counted in a family, and what the reports say; not `is_exact` if they cannot know."""

    reported: int
    found: int
    is_exact: bool


@dataclass(slots=True)
class Verification:
    """All that was found.

    Attributes:
        depth: How closely it was looked, the seed included.
        viewer: With what one looks at single records.
        scopes: How each session and meeting stands, in the order of their keys.
        differences: All that is wrong; nothing means that all is stored as the reports say.
        notes: What else there is to know of the place; no differences.
        loading: Who loads one of the meetings now, so that differences may be due to that.
        comparisons: What the source says of the units that were fetched again.
        families: What RowCounter counted.
        quarantined_elsewhere: How many records in quarantine do not say which session they are of.
        seconds: How long it took.
        looked: How closely it was looked, for people.
    """

    depth: Depth
    viewer: str = ""
    scopes: list[ScopeResult] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    loading: list[str] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    families: dict[str, FamilyTotal] = field(default_factory=dict)
    quarantined_elsewhere: int = 0
    seconds: float = 0.0
    looked: str = ""


def verify_json(result: Verification) -> dict[str, Any]:
    """Return everything in JSON's types."""
    return {
        "ok": not result.differences,
        "deep": result.depth.deep,
        "seconds": round(result.seconds, 3),
        "reported": sum(one.reported for scope in result.scopes for one in scope.endpoints.values()),
        "found": _found(result),
        "loading": result.loading,
        "notes": result.notes,
        "sessions": [_scope_json(scope) for scope in result.scopes],
        "quarantined_elsewhere": result.quarantined_elsewhere,
        "differences": [difference_json(difference) for difference in result.differences],
        "against_api": None if not result.depth.against_source else {
            "seed": result.depth.seed,
            "units": [
                {
                    "unit": one.unit.key, "rows": one.rows, "missing": one.missing, "extra": one.extra,
                    "differing": one.differing, "examples": one.examples, "error": one.error,
                }
                for one in result.comparisons
            ],
        },
        "row_counter": None if not result.depth.row_counter else {
            family: {"reported": total.reported, "found": total.found, "exact": total.is_exact}
            for family, total in result.families.items()
        },
    }  # fmt: skip


def verify_lines(result: Verification, *, verbose: bool = False) -> Iterator[str]:
    """Yield everything for people but for the verdict.

    Args:
        result: What was found.
        verbose: Whether to show each endpoint of every session, and not only of those that are wrong.
    """
    yield from _table(result, verbose=verbose)
    yield from _families(result)
    yield from _comparisons(result)
    if result.differences:
        yield ""
        yield from difference_lines(result.differences, viewer=result.viewer)
    notes = list(_notes(result))
    if notes:
        yield ""
        yield from notes


def verdict(result: Verification) -> str:
    """Return the last line for people: whether all is well, and what was looked at."""
    sessions = count(sum(scope.scope.session_key is not None for scope in result.scopes), "session")
    found = _found(result)
    took = f"in {duration(result.seconds)}"
    if not result.scopes and not result.differences:
        return "nothing is loaded yet"
    if result.differences:
        wrong = sum(scope.differences > 0 for scope in result.scopes if scope.scope.session_key is not None)
        where = f" in {wrong} of {sessions}" if wrong else ""
        return f"NOT AS IT SHOULD BE: {count(len(result.differences), 'difference')}{where}; {took}"
    if found is None:
        rows = sum(total.found for total in result.families.values())
        return f"OK: RowCounter finds {count(rows, 'row')} of {sessions}, as the reports say; {took}"
    compared = ""
    if result.comparisons:
        compared = f"; {count(len(result.comparisons), 'unit')} as {result.comparisons[0].source} has them"
    return f"OK: {count(found, 'row')} of {sessions}, as the reports say ({result.looked}){compared}; {took}"


def _table(result: Verification, *, verbose: bool) -> Iterator[str]:
    year = None
    for one in result.scopes:
        scope = one.scope
        if scope.year != year:
            year = scope.year
            heading = ("season", "meeting", "session", "", "reported", "found", "gaps > 5 s", "")
            yield _TABLE.format(*heading).rstrip()
        parts = list(one.endpoints.values())
        yield _line(
            (str(scope.year), str(scope.meeting_key), str(scope.session_key or "-"), scope.name[:35]),
            sum(part.reported for part in parts),
            None if not _is_counted(one) else sum(part.found or 0 for part in parts),
            _gaps(sum(part.gaps for part in parts), [gap for part in parts for gap in part.longest_gaps]),
            _remarks(one.differences, _units(parts), one.quarantined, counted=_is_counted(one)),
        )
        if verbose or one.differences:
            for name, part in one.endpoints.items():
                if verbose or part.differences:
                    yield _line(
                        ("", "", "", f"  {name}"),
                        part.reported,
                        part.found,
                        _gaps(part.gaps, list(part.longest_gaps)),
                        _remarks(part.differences, part.units, {}, counted=part.found is not None),
                    )


def _line(place: tuple[str, ...], reported: int, found: int | None, gaps: str, remarks: str) -> str:
    return _TABLE.format(*place, f"{reported:,}", "-" if found is None else f"{found:,}", gaps, remarks).rstrip()


def _remarks(differences: int, units: Counter[str], quarantined: dict[str, int], *, counted: bool) -> str:
    fine = "ok" if counted else "not counted"
    parts = [count(differences, "difference").upper() if differences else fine]
    if units[Status.PROVISIONAL.value]:
        parts.append(f"{count(units[Status.PROVISIONAL.value], 'unit')} provisional")
    if units["unchecked"]:
        parts.append(f"{count(units['unchecked'], 'unit')} unchecked")
    if quarantined:
        parts.append(f"{sum(quarantined.values()):,} in quarantine")
    return ", ".join(parts)


def _gaps(number: int, longest: list[Gap]) -> str:
    return f"{number:,}, longest {duration(max(longest).seconds)}" if longest else ""


def _families(result: Verification) -> Iterator[str]:
    if not result.families:
        return
    yield ""
    layout = "{:<14}{:>15}{:>15}  {}"
    yield layout.format("family", "reported", "RowCounter", "").rstrip()
    for family, total in result.families.items():
        same = "ok" if total.found == total.reported else "DIFFERENT" if total.is_exact else "unchecked"
        yield layout.format(family, f"{total.reported:,}", f"{total.found:,}", same)


def _comparisons(result: Verification) -> Iterator[str]:
    """Yield one line for all units that agree with the source, and one for each that does not."""
    if not result.comparisons:
        return
    agree = [one for one in result.comparisons if one.agrees]
    rows = count(sum(one.rows for one in agree), "row")
    of = f"{len(agree):,} of {count(len(result.comparisons), 'unit')}"
    again = f"--seed {result.depth.seed} chooses the same again"
    yield ""
    yield f"compared with {result.comparisons[0].source}, cell by cell ({again}): {of} agree, {rows}"
    for one in result.comparisons:
        if not one.agrees:
            yield f"  {one.unit}: {count(one.rows, 'row')}, DIFFERENT"


def _notes(result: Verification) -> Iterator[str]:
    units: Counter[str] = Counter()
    for scope in result.scopes:
        units.update(_units(list(scope.endpoints.values())))
    if units["unchecked"]:
        yield (
            f"unchecked: {count(units['unchecked'], 'unit')} fetched again in part by later ones, so that how many "
            "rows are still their own is not known; --against-api compares such units, too"
        )
    if units[Status.PROVISIONAL.value]:
        yield (
            f"provisional: {count(units[Status.PROVISIONAL.value], 'unit')} fetched while corrections were still to "
            "come (48 hours after a session, 14 days for results); the first load after that asks once more"
        )
    quarantined = result.quarantined_elsewhere + sum(sum(scope.quarantined.values()) for scope in result.scopes)
    if quarantined:
        yield f"quarantine: {count(quarantined, 'record')}; 'status' says where"
    conflicts = [key for scope in result.scopes for key in scope.conflicts]
    if conflicts:
        yield (
            f"identity: {count(len(conflicts), 'record')} of those {'has' if len(conflicts) == 1 else 'have'} the "
            "identity of a stored one and other values; see there:"
        )
        yield from (f"  {key}" for key in conflicts[:_SHOWN_CONFLICTS])
        if len(conflicts) > _SHOWN_CONFLICTS:
            yield f"  and {len(conflicts) - _SHOWN_CONFLICTS:,} more; --json has all"
    if any(not total.is_exact and total.found != total.reported for total in result.families.values()):
        yield "unchecked families have units that failed or overlap: 'verify' without --row-counter says more"
    yield from result.notes
    for who in result.loading:
        yield f"loading: {who}; differences may be due to that, so verify again when it has ended"


def _units(parts: list[EndpointResult]) -> Counter[str]:
    units: Counter[str] = Counter()
    for part in parts:
        units.update(part.units)
    return units


def _is_counted(scope: ScopeResult) -> bool:
    return all(part.found is not None for part in scope.endpoints.values())


def _found(result: Verification) -> int | None:
    if result.depth.row_counter:
        return None
    return sum(one.found or 0 for scope in result.scopes for one in scope.endpoints.values())


def _scope_json(one: ScopeResult) -> dict[str, Any]:
    scope = one.scope
    return {
        "year": scope.year,
        "meeting_key": scope.meeting_key,
        "session_key": scope.session_key,
        "name": scope.name,
        "differences": one.differences,
        "quarantined": one.quarantined,
        "identity_conflicts": list(one.conflicts),
        "endpoints": {
            name: {
                "units": dict(part.units),
                "reported": part.reported,
                "found": part.found,
                "differences": part.differences,
                "gaps": {
                    "count": part.gaps,
                    "longest": [
                        {"driver": gap.driver, "after": gap.after.isoformat(), "seconds": gap.seconds}
                        for gap in part.longest_gaps
                    ],
                },
            }
            for name, part in one.endpoints.items()
        },
    }
