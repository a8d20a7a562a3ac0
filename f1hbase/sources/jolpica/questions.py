"""What Jolpica is asked to answer some units: by season where one answer holds many races, by race otherwise."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from f1hbase.model.catalog import HISTORY_ENDPOINTS
from f1hbase.model.units import Unit
from f1hbase.sources.jolpica.pages import PAGE

PATHS = {
    "seasons": "seasons",
    "races": "races",
    "season_circuits": "circuits",
    "season_drivers": "drivers",
    "season_constructors": "constructors",
    "finishing_status": "status",
    "results": "results",
    "sprint_results": "sprint",
    "qualifying_results": "qualifying",
    "driver_standings": "driverstandings",
    "constructor_standings": "constructorstandings",
    "pit_stops": "pitstops",
    "lap_times": "laps",
}
"""What the last part of an address is called, by endpoint."""

_BY_SEASON = frozenset({"races", "results", "sprint_results", "qualifying_results"})
"""What may be asked for a whole season at once; standings, laps and pit stops need the round."""

_SPRINTS = 6
"""How many sprints a season has at the most."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question, of one page or several.

    Attributes:
        path: What is asked for, such as `1991/results` or `1991/5/laps`; empty where nothing need be asked, as there
            is nothing of that season.
        units: The units that it answers.
        of_season: Whether it may have records of other races, too.
    """

    path: str
    units: tuple[Unit, ...]
    of_season: bool = False

    @property
    def endpoint(self) -> str:
        """The endpoint of all its units."""
        return self.units[0].endpoint

    @property
    def entries(self) -> int:
        """How many entries the answer has, about."""
        each = HISTORY_ENDPOINTS[self.endpoint].usual_records
        if not self.of_season:
            return each
        rounds = max(unit.scope.round or 1 for unit in self.units)
        return each * (min(rounds, _SPRINTS) if self.endpoint == "sprint_results" else rounds)

    @property
    def pages(self) -> int:
        """How many pages that are, about."""
        return max(1, math.ceil(self.entries / PAGE)) if self.path else 0


def questions_of(units: Iterable[Unit]) -> list[Question]:
    """Return what to ask, the fewest requests there can be: a season at once, unless few of its races are wanted."""
    groups: dict[tuple[str, int], list[Unit]] = defaultdict(list)
    for unit in units:
        groups[unit.endpoint, unit.scope.year].append(unit)
    questions: list[Question] = []
    for (endpoint, season), mine in groups.items():
        if season < HISTORY_ENDPOINTS[endpoint].first_year:
            questions.append(Question("", tuple(mine)))
        else:
            questions += _of_group(endpoint, season, mine)
    return questions


def _of_group(endpoint: str, season: int, units: Sequence[Unit]) -> list[Question]:
    name = PATHS[endpoint]
    if HISTORY_ENDPOINTS[endpoint].of_meeting:
        return [Question(f"{season}/{name}", tuple(units))]
    whole = Question(f"{season}/{name}", tuple(units), of_season=True)
    if endpoint in _BY_SEASON and len(units) > 1 and whole.pages <= len(units):
        return [whole]
    return [Question(f"{season}/{unit.scope.round}/{name}", (unit,)) for unit in units]
