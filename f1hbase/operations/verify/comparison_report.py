"""What comparing two places has found: a table and a verdict for people, everything for machines. Knows no store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from f1hbase.model.text import count, duration
from f1hbase.operations.verify.comparison import Comparison, EndpointComparison, ScopeComparison
from f1hbase.operations.verify.differences import difference_json, difference_lines

_TABLE = "{:<6}{:>8}{:>9}  {:<36}{:>13}{:>11}{:>9}{:>9}{:>10}"


def comparison_json(result: Comparison) -> dict[str, Any]:
    """Return everything in JSON's types."""
    return {
        "ok": not result.differences,
        "place": result.place,
        "against": result.other,
        "seconds": round(result.seconds, 3),
        "compared": result.compared,
        "notes": result.notes,
        "sessions": [_scope_json(scope) for scope in result.scopes],
        "differences": [difference_json(difference) for difference in result.differences],
    }


def comparison_lines(result: Comparison, *, verbose: bool = False) -> Iterator[str]:
    """Yield everything for people but for the verdict.

    Args:
        result: What was found.
        verbose: Whether to show each endpoint of every session, and not only of those that differ.
    """
    yield f"{result.place} compared with {result.other}"
    year = None
    for one in result.scopes:
        scope = one.scope
        if scope.year != year:
            year = scope.year
            heading = ("season", "meeting", "session", "", "compared", "missing", "other", "shifted", "beyond")
            yield _TABLE.format(*heading).rstrip()
        parts = list(one.endpoints.values())
        yield _line((str(scope.year), str(scope.meeting_key), str(scope.session_key or "-"), scope.name[:35]), parts)
        for name, part in one.endpoints.items():
            if verbose or any(difference.endpoint == name for difference in one.differences):
                yield _line(("", "", "", f"  {name}"), [part])
    if result.differences:
        yield ""
        yield from difference_lines(result.differences, other=result.other_name)
    if result.notes:
        yield ""
        yield from result.notes


def comparison_verdict(result: Comparison) -> str:
    """Return the last line for people: whether both have the same, and how much was compared."""
    sessions = count(sum(scope.scope.session_key is not None for scope in result.scopes), "session")
    compared, took = count(result.compared, "record"), f"in {duration(result.seconds)}"
    if result.differences:
        return f"NOT THE SAME: {count(len(result.differences), 'difference')}; {compared} of {sessions} compared {took}"
    if not result.compared:
        return f"nothing was compared: {result.other_name} and {result.place} have nothing of it in common; {took}"
    return f"OK: {compared} of {sessions} are as {result.other_name} has them; {took}"


def _line(place: tuple[str, ...], parts: list[EndpointComparison]) -> str:
    numbers = [
        sum(getattr(part, name) for part in parts) for name in ("compared", "missing", "other", "shifted", "beyond")
    ]
    return _TABLE.format(*place, *(f"{number:,}" for number in numbers)).rstrip()


def _scope_json(one: ScopeComparison) -> dict[str, Any]:
    scope = one.scope
    return {
        "year": scope.year,
        "meeting_key": scope.meeting_key,
        "session_key": scope.session_key,
        "name": scope.name,
        "differences": len(one.differences),
        "endpoints": {
            name: {
                "compared": part.compared,
                "missing": part.missing,
                "other": part.other,
                "fields": dict(part.fields),
                "shifted": part.shifted,
                "shifted_by_seconds": list(part.shifts) if part.shifted else None,
                "beyond": part.beyond,
                "not_compared": [{"unit": unit.key, "error": error} for unit, error in part.errors],
            }
            for name, part in one.endpoints.items()
        },
    }
