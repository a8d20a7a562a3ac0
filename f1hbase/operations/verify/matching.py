"""Holds the records that one place has of a unit against those of another. Knows no place, only what a record is."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from f1hbase.model.catalog import Endpoint, KeyHash, KeyText, KeyWord
from f1hbase.model.records import Identity, canonical_json, compact_json, identity
from f1hbase.model.samples import Record, Row, Samples
from f1hbase.model.text import safe
from f1hbase.model.times import lenient_time

LARGEST_SHIFT = timedelta(seconds=5)
"""How far apart two records of the same values may be that are taken for one at two times: live timing's clocks are
apart by less than a second, and a car on track repeats all of its values only after much longer."""

_LONGEST_VALUE = 120
"""How many characters of a value are shown."""

Content = Row | Record
"""What is in a record: a row where it is one of `Samples`."""

Contents = Mapping[Identity, Content]


@dataclass(frozen=True, slots=True)
class Other:
    """A record that both places have, with other values: the values of the fields that differ, here and there."""

    record: Record
    values: Mapping[str, tuple[Any, Any]]


@dataclass(frozen=True, slots=True)
class Shifted:
    """A record that both places have at two times, here later by `seconds` (less than 0: earlier)."""

    record: Record
    field: str
    seconds: float


@dataclass(slots=True)
class Match:
    """What two places have of a unit.

    Attributes:
        there: How many records the other place has.
        missing: Those of them that are not here.
        beyond: The records here that the other does not have.
        other: Those that have other values here.
        shifted: Those that are the same but for a time.
    """

    there: int
    missing: list[Record] = field(default_factory=list)
    beyond: list[Record] = field(default_factory=list)
    other: list[Other] = field(default_factory=list)
    shifted: list[Shifted] = field(default_factory=list)


def contents(endpoint: Endpoint, records: Samples | Any) -> Iterator[tuple[Identity, Content]]:
    """Yield records by what tells them apart."""
    if isinstance(records, Samples):
        return ((row[:4], row) for row in records.rows)
    return ((identity(endpoint, record), record) for record in records)


def match(endpoint: Endpoint, here: Contents, there: Contents, knows: frozenset[str]) -> Match:
    """Hold the records here against those of another place.

    Args:
        endpoint: What they are records of.
        here: The records here.
        there: The records of the other place.
        knows: The fields that the other place would give where there is a value; others are compared only where it
            gives one all the same.

    Returns:
        What differs. Null is absent. A record that is missing here and one that is beyond are one that is shifted,
        where all but their time is the same.
    """
    found = Match(len(there))
    whole_rows = knows >= endpoint.known
    missing: list[Record] = []
    for key, content in there.items():
        mine = here.get(key)
        if mine is None:
            missing.append(_record(endpoint, content))
            continue
        # Compared as they are: 98 of 100 records are rows.
        if whole_rows and type(mine) is tuple and type(content) is tuple and mine == content:
            continue
        record, other = _record(endpoint, mine), _record(endpoint, content)
        values = _differing(record, other, knows)
        if not values:
            continue
        shift = _shift(values)
        if shift is None:
            found.other.append(Other(record, values))
        else:
            found.shifted.append(Shifted(record, *shift))
    beyond = [_record(endpoint, content) for key, content in here.items() if key not in there]
    found.missing, found.beyond = missing, beyond
    if missing and beyond and endpoint.time_field is not None:
        _pair(endpoint.time_field, knows | set(endpoint.key_fields), found)
    return found


def label(endpoint: Endpoint, record: Record) -> str:
    """Return what to call a record within its session: `driver 44, lap 12`."""
    parts = []
    for part in endpoint.key:
        if isinstance(part, KeyWord):
            continue
        if isinstance(part, KeyHash):
            parts.append(" ".join(str(record[name]) for name in part.fields if record.get(name) is not None))
        elif isinstance(part, KeyText):
            parts.append(str(record[part.field]))
        else:
            parts.append(f"{part.field.removesuffix('_number').replace('_', ' ')} {record[part.field]}")
    return safe(", ".join(parts), _LONGEST_VALUE) or endpoint.noun


def shown(value: Any) -> str:
    """Return a value for people."""
    return "nothing" if value is None else safe(compact_json(value), _LONGEST_VALUE)


def _record(endpoint: Endpoint, content: Content) -> Record:
    return dict(zip(endpoint.fields, content, strict=True)) if isinstance(content, tuple) else content


def _differing(here: Record, there: Record, knows: frozenset[str]) -> dict[str, tuple[Any, Any]]:
    names = knows | {name for name, value in there.items() if value is not None}
    return {
        name: (here.get(name), there.get(name)) for name in sorted(names) if not _same(here.get(name), there.get(name))
    }


def _same(one: Any, other: Any) -> bool:
    # In Python, but not in JSON, True is 1.
    return bool(one == other) and isinstance(one, bool) is isinstance(other, bool)


def _shift(values: Mapping[str, tuple[Any, Any]]) -> tuple[str, float] | None:
    """Return the field and the seconds by which a record is shifted; None where more than its times differ."""
    shifts: list[tuple[str, float]] = []
    for name, (here, there) in values.items():
        one, other = lenient_time(here), lenient_time(there)
        if not name.startswith("date") or one is None or other is None:
            return None
        shifts.append((name, (one - other).total_seconds()))
    return shifts[0]


def _pair(time_field: str, names: frozenset[str], found: Match) -> None:
    """Take records that differ in their time alone out of `missing` and `beyond`, each with the nearest one."""

    def rest(record: Record) -> str:
        return canonical_json({name: record.get(name) for name in names if name != time_field})

    candidates: dict[str, list[tuple[datetime, int]]] = defaultdict(list)
    for number, record in enumerate(found.beyond):
        moment = lenient_time(record[time_field])
        if moment is not None:
            insort(candidates[rest(record)], (moment, number))
    missing: list[Record] = []
    taken: set[int] = set()
    for record in found.missing:
        moment = lenient_time(record[time_field])
        same = candidates.get(rest(record))
        if moment is None or not same:
            missing.append(record)
            continue
        place = bisect_left(same, (moment, -1))
        near = min(range(max(0, place - 1), min(len(same), place + 1)), key=lambda at: abs(same[at][0] - moment))
        mine, number = same[near]
        if abs(mine - moment) > LARGEST_SHIFT:
            missing.append(record)
            continue
        del same[near]
        taken.add(number)
        found.shifted.append(Shifted(found.beyond[number], time_field, (mine - moment).total_seconds()))
    found.missing = missing
    found.beyond = [record for number, record in enumerate(found.beyond) if number not in taken]
