"""Seventy-five plausible seasons in the form of Jolpica's answers: who drove, who won, and how many points that gave.

Nobody in them ever lived. What is true of Formula 1 is true here: how many races a season had, which records there are
since when (laps 1996, pit stops 2011, sprints 2021), how points were given, results that did not count before 1991,
two drivers who shared a car, a driver with two cars in one race, cars without a number, and a season's champion of
constructors and a driver that were excluded (2007 and 1997). A season depends on its seed and year alone.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property
from typing import Any, TypeVar

Entry = dict[str, Any]
"""One entry of an answer, spelt as Jolpica does."""

FIRST, LAST = 1950, 2024

_POINTS = {
    1950: (8, 6, 4, 3, 2), 1960: (8, 6, 4, 3, 2, 1), 1961: (9, 6, 4, 3, 2, 1), 1991: (10, 6, 4, 3, 2, 1),
    2003: (10, 8, 6, 5, 4, 3, 2, 1), 2010: (25, 18, 15, 12, 10, 8, 6, 4, 2, 1),
}  # fmt: skip
"""Points by place, from a season on."""

_SPRINT_POINTS = {2021: (3, 2, 1), 2022: (8, 7, 6, 5, 4, 3, 2, 1)}
_FASTEST_LAP_POINT = range(2019, 2025)
_ALL_COUNT_SINCE = 1991
"""Before, only the best results of a season counted."""

_EXCLUDED_DRIVER, _EXCLUDED_CONSTRUCTOR = 1997, 2007

_ROUNDS = {1950: 7, 1958: 11, 1967: 11, 1973: 15, 1984: 16, 2005: 19, 2012: 20, 2016: 21, 2021: 22, 2024: 24}
_FIRST_NAMES = ("Ada", "Bruno", "Carla", "Dino", "Elif", "Farid", "Gita", "Hugo", "Ines", "Jonas", "Kenji", "Lena")
_LAST_NAMES = (
    "Abello", "Brandt", "Corti", "Duval", "Eriksen", "Fonseca", "Grahl", "Hoshino", "Ibarra", "Jansky", "Keller",
    "Lindqvist", "Moretti", "Nakata", "Oduya", "Prandl", "Quint", "Rossi", "Sandoval", "Tamm", "Ulbrich", "Varga",
    "Weiss", "Yilmaz", "Zorn",
)  # fmt: skip
_NATIONALITIES = ("British", "Italian", "French", "German", "Brazilian", "Japanese", "Finnish", "Spanish")
_CIRCUITS = (
    ("northfield", "Northfield Aerodrome", "52.0786", "-1.01694", "Northfield", "UK"),
    ("porto_rosso", "Autodromo di Porto Rosso", "45.6156", "9.28111", "Porto Rosso", "Italy"),
    ("valbonne", "Circuit de Valbonne", "49.2542", "3.93083", "Valbonne", "France"),
    ("eichenwald", "Eichenwaldring", "50.3356", "6.9475", "Eichenwald", "Germany"),
    ("sao_bento", "Autódromo São Bento", "-23.7036", "-46.6997", "São Bento", "Brazil"),
    ("hoshikawa", "Hoshikawa Speedway", "34.8431", "136.541", "Hoshikawa", "Japan"),
    ("lago_azul", "Circuito Lago Azul", "41.57", "2.26111", "Lago Azul", "Spain"),
    ("red_mesa", "Red Mesa International", "30.1328", "-97.6411", "Red Mesa", "USA"),
)  # fmt: skip
_CONSTRUCTORS = (
    "Albatross", "Boreas", "Condor", "Draconis", "Estoc", "Falcata", "Griffon", "Halberd", "Ibex", "Jaguarundi",
    "Kestrel", "Lynx",
)  # fmt: skip
_WIKI = "http://en.wikipedia.org/wiki"
_STATUS_IDS = {
    "Finished": "1", "Disqualified": "2", "Accident": "3", "Engine": "5", "+1 Lap": "11", "+2 Laps": "12",
    "Retired": "31", "Lapped": "143",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scale:
    """How much there is.

    Attributes:
        cars: In a race.
        laps: Of a race, as they are timed.
        rounds: Of a season at the most; None for as many as there were.
        first, last: The seasons.
    """

    cars: int = 20
    laps: int = 58
    rounds: int | None = None
    first: int = FIRST
    last: int = LAST


@dataclass(slots=True)
class Race:
    """One race, each list in the order in which Jolpica gives it.

    Attributes:
        entry: What it is, with its circuit and times.
        results, sprint, qualifying: The entries of each.
        laps: The timings by lap.
        pit_stops: The stops, in the order of their times.
    """

    entry: Entry
    results: list[Entry] = field(default_factory=list)
    sprint: list[Entry] = field(default_factory=list)
    qualifying: list[Entry] = field(default_factory=list)
    laps: list[list[Entry]] = field(default_factory=list)
    pit_stops: list[Entry] = field(default_factory=list)


class Season:
    """One season, made when it is asked for.

    Args:
        seed: Chooses among the seasons that there could be.
        year: Which one.
        scale: How much there is.
        rounds_held: How many of its races have results; None for all.
    """

    def __init__(self, seed: int, year: int, scale: Scale, rounds_held: int | None = None) -> None:
        self.year = year
        self._seed = seed
        self._scale = scale
        number = _since(_ROUNDS, year)
        self.rounds = number if scale.rounds is None else min(number, scale.rounds)
        self._held = self.rounds if rounds_held is None else rounds_held
        self.entry: Entry = {"season": str(year), "url": f"{_WIKI}/{year}_Formula_One_season"}

    @cached_property
    def races(self) -> list[Race]:
        """All races, those without results included."""
        return [self._race(number) for number in range(1, self.rounds + 1)]

    @cached_property
    def drivers(self) -> list[Entry]:
        """Who drives, two to a car of each constructor and more in the early years."""
        chance = random.Random(f"{self._seed} drivers {self.year // 5}")  # noqa: S311 - no secret
        names = [(first, last) for last in _LAST_NAMES for first in _FIRST_NAMES]
        chosen = chance.sample(names, self._scale.cars + 2)
        drivers = []
        for number, (first, last) in enumerate(chosen):
            driver = {
                "driverId": f"{first}_{last}".lower(), "url": f"{_WIKI}/{first}_{last}", "givenName": first,
                "familyName": last, "dateOfBirth": f"{self.year - 22 - number % 15}-0{1 + number % 9}-1{number % 10}",
                "nationality": _NATIONALITIES[number % len(_NATIONALITIES)],
            }  # fmt: skip
            if self.year >= 2014:
                own = {"permanentNumber": str(2 + number), "code": last[:3].upper()}
                driver = {"driverId": driver.pop("driverId"), **own, **driver}
            drivers.append(driver)
        return drivers

    @cached_property
    def constructors(self) -> list[Entry]:
        """The constructors, as many as two cars each make."""
        return [
            {
                "constructorId": name.lower(), "url": f"{_WIKI}/{name}", "name": name,
                "nationality": _NATIONALITIES[number % len(_NATIONALITIES)],
            }
            for number, name in enumerate(_CONSTRUCTORS[: max(1, self._scale.cars // 2)])
        ]  # fmt: skip

    @cached_property
    def circuits(self) -> list[Entry]:
        """Where it is raced, in the order of the ids."""
        found = {race.entry["Circuit"]["circuitId"]: race.entry["Circuit"] for race in self.races}
        return [found[name] for name in sorted(found)]

    @cached_property
    def statuses(self) -> list[Entry]:
        """How often cars finished how, the most frequent first."""
        counts = Counter(result["status"] for race in self.races for result in race.results)
        return [
            {"statusId": _STATUS_IDS[status], "count": str(number), "status": status}
            for status, number in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        ]

    @property
    def last_held(self) -> int:
        """The last round that has results; 0 if none has."""
        return max((number for number, race in enumerate(self.races, 1) if race.results), default=0)

    def driver_standings(self, number: int) -> list[Entry]:
        """Return the standings of the drivers after a round."""
        teams: dict[str, dict[str, Entry]] = defaultdict(dict)
        for race in self.races[:number]:
            for result in race.results:
                team = result["Constructor"]
                teams[result["Driver"]["driverId"]][team["constructorId"]] = team
        excluded = {self.drivers[1]["driverId"]} if self.year == _EXCLUDED_DRIVER and number == self.rounds else set()
        people = {one["driverId"]: one for one in self.drivers}
        return [
            {**standing, "Driver": people[name], "Constructors": list(teams[name].values())}
            for name, standing in self._standings(number, "Driver", "driverId", excluded, "D")
        ]

    def constructor_standings(self, number: int) -> list[Entry]:
        """Return the standings of the constructors after a round; there are none before 1958."""
        if self.year < 1958:
            return []
        last = number == self.rounds
        excluded = {self.constructors[0]["constructorId"]} if self.year == _EXCLUDED_CONSTRUCTOR and last else set()
        all_of = {one["constructorId"]: one for one in self.constructors}
        return [
            {**standing, "Constructor": all_of[name]}
            for name, standing in self._standings(number, "Constructor", "constructorId", excluded, "E")
        ]

    def _standings(
        self, number: int, whose: str, key: str, excluded: set[str], sign: str
    ) -> list[tuple[str, Entry]]:  # fmt: skip
        points: dict[str, list[float]] = defaultdict(list)
        wins: Counter[str] = Counter()
        for race in self.races[:number]:
            mine: dict[str, float] = defaultdict(float)
            for result in [*race.results, *race.sprint]:
                mine[result[whose][key]] += float(result["points"])
            for name, some in mine.items():
                points[name].append(some)
            for result in race.results:
                wins[result[whose][key]] += result["positionText"] == "1"
        counting = None if self.year >= _ALL_COUNT_SINCE else max(3, self.rounds * 2 // 3)
        totals = {name: sum(sorted(some, reverse=True)[:counting]) for name, some in points.items()}
        order = sorted(totals, key=lambda name: (name in excluded, -totals[name], -wins[name], name))
        standings = []
        for place, name in enumerate(order, 1):
            own = {"position": str(place), "positionText": str(place)}
            if name in excluded:
                own = {"positionText": sign}
            standings.append((name, {**own, "points": _shown(totals[name]), "wins": str(wins[name])}))
        return standings

    # --- one race ---

    def _race(self, number: int) -> Race:
        chance = random.Random(f"{self._seed} {self.year} {number}")  # noqa: S311 - no secret
        race = Race(self._entry(number))
        if number > self._held:
            return race
        entries = self._entries(chance)
        race.results = self._results(entries, chance)
        race.qualifying = self._qualifying(entries, chance) if self.year >= 1994 else []
        if self.year >= 2021 and number % 4 == 0:
            race.sprint = self._sprint(entries, chance)
        if self.year >= 1996:
            race.laps = self._laps(race.results, chance)
        if self.year >= 2011:
            race.pit_stops = self._pit_stops(race.results, chance)
        return race

    def _entry(self, number: int) -> Entry:
        place = _CIRCUITS[(number * 3 + self.year) % len(_CIRCUITS)]
        name, lat, long, locality, country = place[1:]
        circuit = {
            "circuitId": place[0], "url": f"{_WIKI}/{place[0]}", "circuitName": name,
            "Location": {"lat": lat, "long": long, "locality": locality, "country": country},
        }  # fmt: skip
        day = date(self.year, 3, 10) + timedelta(days=(number - 1) * 240 // max(self.rounds, 1))
        day -= timedelta(days=(day.weekday() - 6) % 7)
        race: Entry = {
            "season": str(self.year), "round": str(number), "url": f"{_WIKI}/{self.year}_{place[0]}_Grand_Prix",
            "raceName": f"{locality} Grand Prix", "Circuit": circuit, "date": day.isoformat(),
        }  # fmt: skip
        if self.year >= 2005:
            race["time"] = "13:00:00Z"
        if self.year >= 2021:
            parts = {"FirstPractice": (2, "11:30:00Z"), "Qualifying": (1, "14:00:00Z")}
            if number % 4 == 0:
                parts["Sprint"] = (1, "10:00:00Z")
            for part, (before, time) in parts.items():
                race[part] = {"date": (day - timedelta(days=before)).isoformat(), "time": time}
        return race

    def _entries(self, chance: random.Random) -> list[Entry]:
        """Return driver, constructor and number of each car, the quickest first."""
        cars = []
        for place in range(self._scale.cars):
            constructor = self.constructors[place // 2 % len(self.constructors)]
            number = str(place + 1) if self.year > 1955 or place % 7 else "None"
            cars.append({"number": number, "Driver": self.drivers[place], "Constructor": constructor})
        if self.year < 1958 and len(cars) > 4:
            # The third shares the car of the second, and the fourth drives another one, too.
            cars.append({**cars[1], "Driver": self.drivers[2]})
            cars.append({**cars[4], "Driver": self.drivers[3], "number": str(60 + chance.randrange(9))})
        strengths = {id(car): chance.gauss(place, 4) for place, car in enumerate(cars)}
        return sorted(cars, key=lambda car: strengths[id(car)])

    def _results(self, entries: Sequence[Entry], chance: random.Random) -> list[Entry]:
        out = {place for place in range(len(entries)) if place > 1 and chance.random() < 0.15}
        order = [car for place, car in enumerate(entries) if place not in out]
        order += [car for place, car in enumerate(entries) if place in out]
        scheme = _since(_POINTS, self.year)
        timed, ranks = self.year >= 2004, chance.sample(range(1, len(order) + 1), len(order))
        finished = len(entries) - len(out)
        results = []
        for place, car in enumerate(order, 1):
            classified = place <= finished
            behind = 0 if place < finished * 3 // 4 else 1
            laps = self._scale.laps - behind if classified else chance.randrange(1, max(2, self._scale.laps))
            points = float(scheme[place - 1]) if classified and place <= len(scheme) else 0.0
            if self.year in _FASTEST_LAP_POINT and ranks[place - 1] == 1 and classified and place <= 10:
                points += 1
            status = ("+1 Lap" if behind else "Finished") if classified else chance.choice(("Engine", "Accident"))
            result: Entry = {
                "number": car["number"], "position": str(place), "positionText": str(place) if classified else "R",
                "points": _shown(points), "Driver": car["Driver"], "Constructor": car["Constructor"],
                "grid": str(1 + entries.index(car)), "laps": str(laps), "status": status,
            }  # fmt: skip
            if classified and not behind:
                millis = 5_400_000 + place * 4_321
                gap = "1:30:04.321" if place == 1 else f"+{(place - 1) * 4.321:.3f}"
                result["Time"] = {"millis": str(millis), "time": gap}
            if timed:
                result["FastestLap"] = {
                    "rank": str(ranks[place - 1]), "lap": str(1 + chance.randrange(laps)),
                    "Time": {"time": _lap_time(chance)},
                    "AverageSpeed": {"units": "kph", "speed": f"{chance.uniform(190, 240):.3f}"},
                }  # fmt: skip
            results.append(result)
        if self.year == 1975:  # half points
            for result in results:
                result["points"] = _shown(float(result["points"]) / 2)
        return results

    def _qualifying(self, entries: Sequence[Entry], chance: random.Random) -> list[Entry]:
        rows = []
        for place, car in enumerate(entries, 1):
            times = {"Q1": _lap_time(chance)}
            if self.year >= 2006 and place <= 15:
                times["Q2"] = _lap_time(chance)
            if self.year >= 2006 and place <= 10:
                times["Q3"] = _lap_time(chance)
            rows.append({
                "number": car["number"], "position": str(place), "Driver": car["Driver"],
                "Constructor": car["Constructor"], **times,
            })  # fmt: skip
        return rows

    def _sprint(self, entries: Sequence[Entry], chance: random.Random) -> list[Entry]:
        scheme = _since(_SPRINT_POINTS, self.year)
        rows = []
        for place, car in enumerate(chance.sample(list(entries), len(entries)), 1):
            points = scheme[place - 1] if place <= len(scheme) else 0
            rows.append({
                "number": car["number"], "position": str(place), "positionText": str(place), "points": str(points),
                "Driver": car["Driver"], "Constructor": car["Constructor"], "grid": str(1 + entries.index(car)),
                "laps": str(max(1, self._scale.laps // 3)), "status": "Finished",
            })  # fmt: skip
        return rows

    def _laps(self, results: Sequence[Entry], chance: random.Random) -> list[list[Entry]]:
        laps = []
        for lap in range(1, self._scale.laps + 1):
            on_track = [result["Driver"]["driverId"] for result in results if int(result["laps"]) >= lap]
            laps.append([
                {"driverId": name, "position": str(place), "time": _lap_time(chance)}
                for place, name in enumerate(on_track, 1)
            ])  # fmt: skip
        return laps

    def _pit_stops(self, results: Sequence[Entry], chance: random.Random) -> list[Entry]:
        stops = []
        for result in results:
            laps = sorted(chance.sample(range(1, int(result["laps"]) + 1), min(2, int(result["laps"]))))
            for stop, lap in enumerate(laps, 1):
                stops.append({
                    "driverId": result["Driver"]["driverId"], "lap": str(lap), "stop": str(stop),
                    "time": f"14:{lap % 60:02}:{chance.randrange(60):02}", "duration": f"{chance.uniform(20, 30):.3f}",
                })  # fmt: skip
        return sorted(stops, key=lambda stop: (stop["time"], stop["driverId"]))


class History:
    """All seasons, each made when it is first asked for.

    Args:
        seed: Chooses among the histories that there could be.
        scale: How much there is.
        held: How many races of the last season have results; None for all.
    """

    def __init__(self, seed: int = 1, scale: Scale | None = None, held: int | None = None) -> None:
        self.scale = scale or Scale()
        self._seed = seed
        self._held = held
        self._seasons: dict[int, Season] = {}

    @property
    def years(self) -> range:
        """The seasons there are."""
        return range(self.scale.first, self.scale.last + 1)

    def season(self, year: int) -> Season:
        """Return a season.

        Raises:
            KeyError: If there is none of that year.
        """
        if year not in self.years:
            raise KeyError(year)
        if year not in self._seasons:
            held = self._held if year == self.scale.last else None
            self._seasons[year] = Season(self._seed, year, self.scale, held)
        return self._seasons[year]

    @property
    def current(self) -> Season:
        """The last season."""
        return self.season(self.scale.last)


_Value = TypeVar("_Value")


def _since(values: Mapping[int, _Value], year: int) -> _Value:
    return values[max(first for first in values if first <= year)]


def _shown(points: float) -> str:
    return str(int(points)) if points == int(points) else str(points)


def _lap_time(chance: random.Random) -> str:
    return f"1:{chance.uniform(18, 45):06.3f}"
