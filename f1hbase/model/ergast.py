"""Answers of the form that Ergast had and Jolpica has: which records are in one; knows no network and no store.

An answer is an object `MRData` with `limit`, `offset`, `total` and a table. The records are flat: names are spelt
`driver_id` instead of `Driver.driverId`, numbers are numbers, what is null is left out, and each record says its
`season` and, where it has one, its `round`. docs/jolpica.md has the forms.

>>> circuits = b'[{"circuitId": "reims", "Location": {"lat": "49.2542", "country": "France"}}]'
>>> table = b'"CircuitTable": {"season": "1950", "Circuits": %b}' % circuits
>>> read_page(b'{"MRData": {"limit": "30", "offset": "0", "total": "1", %b}}' % table).records
[{'season': 1950, 'circuit_id': 'reims', 'location_lat': 49.2542, 'location_country': 'France'}]
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from f1hbase.model.catalog import HISTORY_NUMBERS
from f1hbase.model.samples import Record
from f1hbase.model.text import safe

_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,17})(?:\.\d{1,17})?", re.ASCII)

_WHOLE = re.compile(r"\d{1,9}", re.ASCII)

_LEAST = {"limit": 1, "offset": 0, "total": 0}
"""What an answer says of its page, and the least that each can be: pages of no entries would never end."""

_LISTS = ("Results", "SprintResults", "QualifyingResults", "PitStops")
"""What a race may have, each with one record an entry."""

_TABLES = {
    "SeasonTable": "Seasons",
    "CircuitTable": "Circuits",
    "DriverTable": "Drivers",
    "ConstructorTable": "Constructors",
    "StatusTable": "Status",
}
"""The tables whose entries are records as they are."""

_STANDINGS = ("DriverStandings", "ConstructorStandings")

_OF_STANDINGS = {"DriverStandings": "driver_standings", "ConstructorStandings": "constructor_standings"}
_OF_RACE = {
    "Results": "results", "SprintResults": "sprint_results", "QualifyingResults": "qualifying_results",
    "PitStops": "pit_stops", "Laps": "lap_times",
}  # fmt: skip
_OF_TABLE = {
    "SeasonTable": "seasons", "CircuitTable": "season_circuits", "DriverTable": "season_drivers",
    "ConstructorTable": "season_constructors", "StatusTable": "finishing_status",
}  # fmt: skip
"""The endpoints of what lists have records of."""

_NULL = "None"
"""What Jolpica writes for the number of a car that is not known."""


class BadPageError(ValueError):
    """An answer that has not this form; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page of an answer.

    Attributes:
        limit: How many entries a page has at the most, as the server says it.
        offset: How many entries come before it.
        total: How many entries there are in all pages.
        records: Its records, one an entry.
    """

    limit: int
    offset: int
    total: int
    records: list[Record]


def is_page(body: bytes) -> bool:
    """Return whether a JSON body begins as such an answer does."""
    return re.match(rb'\s*\{\s*"MRData"', body) is not None


def read_page(body: bytes) -> Page:
    """Return what an answer says.

    Raises:
        BadPageError: If it is none of this form.
    """
    with _of_form():
        content = json.loads(body)["MRData"]
        limit, offset, total = (_whole(content[name], name, least) for name, least in _LEAST.items())
        records = list(_records(content))
    return Page(limit, offset, total, records)


def endpoint_of(body: bytes) -> str | None:
    """Return which endpoint an answer's records are of; None where it has none.

    Raises:
        BadPageError: If it is none of this form.

    >>> endpoint_of(b'{"MRData": {"RaceTable": {"Races": [{"season": "1950", "round": "1", "Results": []}]}}}')
    'results'
    """
    with _of_form():
        content = json.loads(body)["MRData"]
        if "RaceTable" in content:
            races = content["RaceTable"]["Races"]
            named = {_OF_RACE[name] for race in races for name in _OF_RACE if name in race}
            return min(named) if named else "races" if races else None
        if "StandingsTable" in content:
            lists = content["StandingsTable"]["StandingsLists"]
            return next((_OF_STANDINGS[name] for one in lists for name in _STANDINGS if one.get(name)), None)
        return next((_OF_TABLE[name] for name, entries in _TABLES.items() if content.get(name, {}).get(entries)), None)


def races_of(body: bytes) -> list[Record]:
    """Return the records of the races that an answer names, whatever of them it has records of.

    Raises:
        BadPageError: If it is none of this form.
    """
    with _of_form():
        races = json.loads(body)["MRData"].get("RaceTable", {}).get("Races", ())
        own = [{name: value for name, value in race.items() if name not in _OF_RACE} for race in races]
        found = [_flat(race) for race in own]
    return [race for race in found if type(race.get("season")) is int and type(race.get("round")) is int]


def question_of(body: bytes) -> str:
    """Return what an answer answers, as it says itself: its address without a query; all pages of one say the same."""
    url = str(json.loads(body)["MRData"].get("url", ""))
    return url.partition("?")[0].rstrip("/").removesuffix(".json")


@contextmanager
def _of_form() -> Iterator[None]:
    """Have what is met in reading an answer of another form be a `BadPageError`."""
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise BadPageError(f"it has not the form of Ergast's answers ({type(error).__name__}: {error})") from error


def _whole(value: Any, name: str, least: int) -> int:
    text = str(value)
    if not _WHOLE.fullmatch(text) or int(text) < least:
        raise ValueError(f"its {name} is {safe(text, 40)}")
    return int(text)


def _records(content: dict[str, Any]) -> Iterator[Record]:
    if "RaceTable" in content:
        for race in content["RaceTable"]["Races"]:
            yield from _of_race(race)
    elif "StandingsTable" in content:
        for standings in content["StandingsTable"]["StandingsLists"]:
            of = {name: _value(name, standings[name]) for name in ("season", "round")}
            for name in _STANDINGS:
                yield from (of | _flat(entry) for entry in standings.get(name, ()))
    else:
        name = next((name for name in _TABLES if name in content), "")
        if not name:
            raise ValueError("it has no table")
        table = content[name]
        of = {} if name == "SeasonTable" else {"season": _value("season", table["season"])}
        yield from (of | _flat(entry) for entry in table[_TABLES[name]])


def _of_race(race: dict[str, Any]) -> Iterator[Record]:
    of = {name: _value(name, race[name]) for name in ("season", "round")}
    for name in _LISTS:
        if name in race:
            yield from (of | _flat(entry) for entry in race[name])
            return
    if "Laps" in race:
        for lap in race["Laps"]:
            number = {"lap": _value("lap", lap["number"])}
            yield from (of | number | _flat(timing) for timing in lap["Timings"])
        return
    yield _flat(race)


def _flat(entry: dict[str, Any], parent: str = "") -> Record:
    record: Record = {}
    for key, value in entry.items():
        name = _joined(parent, key)
        if value is None:
            continue
        if isinstance(value, dict):
            record |= _flat(value, name)
        elif isinstance(value, list):
            record[name] = [_flat(item) if isinstance(item, dict) else item for item in value]
        elif (read := _value(name, value)) is not None:
            record[name] = read
    return record


@lru_cache(maxsize=1000)
def _joined(parent: str, key: str) -> str:
    """Return the name of a field within an object; what the object's name says is not said again.

    >>> _joined("driver", "driverId"), _joined("fastest_lap_time", "time"), _joined("fastest_lap", "rank")
    ('driver_id', 'fastest_lap_time', 'fastest_lap_rank')
    """
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).lower()
    if not parent:
        return name
    if parent == name or parent.endswith(f"_{name}"):
        return parent
    return name if name.startswith(f"{parent}_") else f"{parent}_{name}"


def _value(name: str, value: Any) -> Any:
    """Return a number where the field is one and the text spells one; the text otherwise."""
    if name not in HISTORY_NUMBERS or not isinstance(value, str):
        return value
    if value == _NULL:
        return None
    if not _NUMBER.fullmatch(value):
        return value
    return float(value) if "." in value else int(value)
