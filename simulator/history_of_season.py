"""The results of simulated race weekends in the form of Jolpica's answers, so that both sides can be served.

What `simulate` wrote is read; points are given by the tables of `simulator.session_records`, as it gives them there.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from simulator.history import Entry, History, Race, Scale, Season
from simulator.session_records import POINTS

Line = dict[str, Any]


class RecordedSeason(Season):
    """One season made of meetings that are in files.

    Args:
        year: Which one.
        meetings: The folder of each meeting that is no test, in order of time.
    """

    def __init__(self, year: int, meetings: Sequence[Path]) -> None:
        super().__init__(1, year, Scale(rounds=len(meetings), first=year, last=year))
        self._meetings = meetings
        self.rounds = len(meetings)

    @cached_property
    def races(self) -> list[Race]:
        """All races, each with its sprint and qualifying."""
        return [self._recorded(number, folder) for number, folder in enumerate(self._meetings, 1)]

    @cached_property
    def drivers(self) -> list[Entry]:
        """Whoever drives, by number."""
        found: dict[int, Entry] = {}
        for folder in self._meetings:
            for path in sorted(folder.rglob("drivers.jsonl.gz")):
                found |= {line["driver_number"]: _driver(line) for line in _lines(path)}
        return [found[number] for number in sorted(found)]

    @cached_property
    def constructors(self) -> list[Entry]:
        """Whoever builds the cars."""
        teams = {
            line["team_name"]: _constructor(line["team_name"])
            for folder in self._meetings
            for path in sorted(folder.rglob("drivers.jsonl.gz"))
            for line in _lines(path)
        }
        return [teams[name] for name in sorted(teams)]

    def _recorded(self, number: int, folder: Path) -> Race:
        (meeting,) = _lines(folder / "meetings.jsonl.gz")
        sessions = {_lines(path)[0]["session_name"]: path.parent for path in sorted(folder.rglob("sessions.jsonl.gz"))}
        (session,) = _lines(sessions["Race"] / "sessions.jsonl.gz")
        start = session["date_start"]
        circuit = {
            "circuitId": meeting["circuit_short_name"].lower().replace(" ", "_"),
            "url": f"https://example.com/{meeting['circuit_key']}", "circuitName": meeting["circuit_short_name"],
            "Location": {
                "lat": "0", "long": "0", "locality": meeting["location"], "country": meeting["country_name"],
            },
        }  # fmt: skip
        race = Race({
            "season": str(self.year), "round": str(number), "url": f"https://example.com/{self.year}/{number}",
            "raceName": meeting["meeting_name"], "Circuit": circuit, "date": start[:10], "time": f"{start[11:19]}Z",
        })  # fmt: skip
        race.results = _classified(sessions["Race"], POINTS["race"])
        if "Sprint" in sessions:
            race.sprint = _classified(sessions["Sprint"], POINTS["sprint"])
        if "Qualifying" in sessions:
            race.qualifying = [
                {name: entry[name] for name in ("number", "position", "Driver", "Constructor")}
                for entry in _classified(sessions["Qualifying"], ())
            ]
        return race


class RecordedHistory(History):
    """The seasons that are in a folder of simulated race weekends.

    Args:
        folder: Where `simulate` wrote them.

    Raises:
        FileNotFoundError: If no race is in it.
    """

    def __init__(self, folder: Path) -> None:
        by_year: dict[int, dict[str, Path]] = {}
        for path in sorted(folder.rglob("sessions.jsonl.gz")):
            (session,) = _lines(path)
            if session["session_name"] == "Race" and (path.parent / "session_result.jsonl.gz").exists():
                by_year.setdefault(session["year"], {})[session["date_start"]] = path.parent.parent
        if not by_year:
            raise FileNotFoundError(f"no race is in {folder}")
        super().__init__(scale=Scale(first=min(by_year), last=max(by_year)))
        for year in self.years:
            of_year = by_year.get(year, {})
            self._seasons[year] = RecordedSeason(year, [of_year[start] for start in sorted(of_year)])


def _classified(folder: Path, points: Sequence[int]) -> list[Entry]:
    """Return the results of a session: who has a place first, then the others by the laps they drove."""
    people = {line["driver_number"]: line for line in _lines(folder / "drivers.jsonl.gz")}
    results = _lines(folder / "session_result.jsonl.gz")
    results.sort(key=lambda line: (line["position"] is None, line["position"] or -line["number_of_laps"]))
    entries = []
    for place, line in enumerate(results, 1):
        person = people[line["driver_number"]]
        finished = line["position"] is not None
        gained = points[place - 1] if finished and place <= len(points) else 0
        gap = line["gap_to_leader"]
        lapped = isinstance(gap, str)
        entries.append({
            "number": str(line["driver_number"]), "position": str(place),
            "positionText": str(place) if finished else "R", "points": str(gained),
            "Driver": _driver(person), "Constructor": _constructor(person["team_name"]), "grid": str(place),
            "laps": str(line["number_of_laps"]),
            "status": ("Lapped" if lapped else "Finished") if finished else "Retired",
        })  # fmt: skip
    return entries


def _driver(line: Mapping[str, Any]) -> Entry:
    number, first, last = line["driver_number"], line["first_name"], line["last_name"]
    return {
        "driverId": f"{first}_{last}".lower().replace(" ", "_"), "permanentNumber": str(number),
        "code": line["name_acronym"], "url": f"https://example.com/{number}", "givenName": first, "familyName": last,
        "dateOfBirth": "2000-01-01", "nationality": line["country_code"],
    }  # fmt: skip


def _constructor(name: str) -> Entry:
    return {
        "constructorId": name.lower().replace(" ", "_"), "url": f"https://example.com/{name}", "name": name,
        "nationality": "British",
    }  # fmt: skip


def _lines(path: Path) -> list[Line]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
