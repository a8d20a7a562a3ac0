"""All records of one session, from what happened on its track."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

from simulator import events, timing
from simulator.files import Folder
from simulator.people import Driver
from simulator.sessions import Drive, Entry, drive_practice, drive_qualifying, drive_race, drive_safety_car
from simulator.telemetry import Keys, car_lines, location_lines, spell
from simulator.track import Track

Fields = dict[str, object]
Who = TypeVar("Who", int, str)
Grid = list[tuple[Driver, float | None]]

_NO_WINGS_FROM = 2026  # the year from which cars have no DRS
POINTS = {"race": (25, 18, 15, 12, 10, 8, 6, 4, 2, 1), "sprint": (8, 7, 6, 5, 4, 3, 2, 1)}
"""Points by place, of what gives any."""


@dataclass(slots=True)
class SessionFacts:
    """A session as planned: ``start`` in milliseconds since 1970, its length in seconds, its own record."""

    key: int
    meeting_key: int
    name: str
    kind: str
    start: int
    seconds: float
    year: int
    record: Fields = field(default_factory=dict)

    @property
    def is_race(self) -> bool:
        """Whether points are driven for."""
        return self.kind in POINTS

    def at(self, seconds: float) -> str:
        """Return the date of a moment of the session, to the millisecond."""
        return spell(self.start + round(seconds * 1000))

    def stamped(self, fields: Fields) -> Fields:
        """Return a record with the session's keys."""
        return {"meeting_key": self.meeting_key, "session_key": self.key, **fields}


class Points:
    """The championship so far."""

    def __init__(self) -> None:
        self.drivers: dict[int, int] = {}
        self.teams: dict[str, int] = {}


def write_session(
    files: Folder,
    session: SessionFacts,
    track: Track,
    drivers: list[Driver],
    grid: Grid,
    points: Points,
    random: Random,
) -> Grid:
    """Write every endpoint's records of a session, and return the grid for the next race.

    ``grid``: drivers in the order of the last qualifying, with their times.
    """
    race = session.is_race
    wings = session.year < _NO_WINGS_FROM
    drive = _drive(session, track, drivers, grid, random)
    stamped = session.stamped
    files.write("drivers", (one.record(session.meeting_key, session.key) for one in drivers))
    files.write("laps", _laps(session, drive, random, race=race))
    files.write("stints", _stints(session, drive))
    files.write("pit", _pits(session, drive, race=race))
    files.write("position", _positions(session, drive, race=race))
    results = list(timing.result_records(drive, race=race))
    files.write("session_result", (stamped({"driver_number": one.driver.number, **rest}) for one, rest in results))
    files.write(
        "weather", (stamped({"date": session.at(when), **rest}) for when, rest in events.weather(drive, random))
    )
    control = events.race_control(drive, random, race=race, wings=wings)
    files.write("race_control", (stamped({"date": session.at(when), **rest}) for when, rest in control))
    files.write("team_radio", _radio(session, drive, random))
    if race:
        _write_race(files, session, drive, points, [one.driver for one, _ in results])
    if session.kind.endswith("qualifying"):
        grid = _grid(results)
    if session.kind.endswith("qualifying") or (race and grid[0][1] is None):
        files.write("starting_grid", _grid_records(session, grid, drive, race=race))
    keys = Keys(session.meeting_key, session.key, session.start)
    seed = random.random()
    for entry in drive.entries:
        own = Random(f"{seed} car_data {entry.driver.number}")  # noqa: S311
        files.write_lines("car_data", car_lines(entry, track, keys, own, wings=wings))
        own = Random(f"{seed} location {entry.driver.number}")  # noqa: S311
        files.write_lines("location", location_lines(entry, keys, own))
    return grid


def write_safety_car(files: Folder, session: SessionFacts, track: Track, random: Random) -> None:
    """Add the safety car of a race to its location records."""
    entry = drive_safety_car(track, session.seconds, random)
    keys = Keys(session.meeting_key, session.key, session.start)
    files.write_lines("location", location_lines(entry, keys, random))


def _drive(session: SessionFacts, track: Track, drivers: list[Driver], grid: Grid, random: Random) -> Drive:
    if session.kind == "practice":
        return drive_practice(track, drivers, session.seconds, random)
    if session.kind.endswith("qualifying"):
        return drive_qualifying(track, drivers, session.seconds, random)
    seed = random.random()
    # A short race of few cars may be a procession; then their pace differs more.
    for spread in range(1, 10):
        drive = drive_race(track, [one for one, _ in grid], session.seconds, Random(f"{seed} {spread}"), spread)  # noqa: S311
        if next(timing.race_order(drive), None) is not None:
            break
    return drive


def _laps(session: SessionFacts, drive: Drive, random: Random, *, race: bool) -> Iterator[Fields]:
    for entry, begin, fields in timing.lap_records(drive, random, race=race):
        when = None if begin is None else session.at(begin)
        yield session.stamped({"date_start": when, "driver_number": entry.driver.number, **fields})


def _stints(session: SessionFacts, drive: Drive) -> Iterator[Fields]:
    for entry in drive.entries:
        for number, stint in enumerate(entry.stints, 1):
            yield session.stamped(
                {
                    "compound": stint.compound,
                    "driver_number": entry.driver.number,
                    "lap_end": stint.last,
                    "lap_start": stint.first,
                    "stint_number": number,
                    "tyre_age_at_start": stint.age,
                }
            )


def _pits(session: SessionFacts, drive: Drive, *, race: bool) -> Iterator[Fields]:
    for entry in drive.entries:
        for stop in entry.car.stops:
            lane = round(stop.exit - stop.entry, 3)
            yield session.stamped(
                {
                    "date": session.at(stop.entry),
                    "driver_number": entry.driver.number,
                    "lane_duration": lane,
                    "lap_number": stop.lap,
                    "pit_duration": lane,
                    # Outside races a stop is a stay in the garage, which nobody times.
                    "stop_duration": round(stop.standing, 1) if race else None,
                }
            )


def _positions(session: SessionFacts, drive: Drive, *, race: bool) -> Iterator[Fields]:
    first = session.at(-0.9 * drive.lead)
    for place, entry in enumerate(drive.entries, 1):
        yield session.stamped({"date": first, "driver_number": entry.driver.number, "position": place})
    changes: Iterable[tuple[float, list[tuple[Entry, int]]]] = (
        ((when, changed) for when, changed, _, _ in timing.race_order(drive)) if race else timing.best_order(drive)
    )
    last: dict[int, int] = {}
    for when, changed in changes:
        for entry, place in changed:
            number = entry.driver.number
            # Two changes of one driver in one millisecond would be one identity.
            moment = max(session.start + round(when * 1000), last.get(number, 0) + 1)
            last[number] = moment
            yield session.stamped({"date": spell(moment), "driver_number": number, "position": place})


def _radio(session: SessionFacts, drive: Drive, random: Random) -> Iterator[Fields]:
    for entry, when in events.team_radio(drive, random):
        date = session.at(when)
        stamp = date[:19].replace("-", "").replace(":", "").replace("T", "_")
        name = f"{entry.driver.acronym}_{entry.driver.number}_{stamp}"
        url = f"https://media.example.com/{session.year}/{session.meeting_key}/{session.key}/TeamRadio/{name}.mp3"
        yield session.stamped({"date": date, "driver_number": entry.driver.number, "recording_url": url})


def _write_race(files: Folder, session: SessionFacts, drive: Drive, points: Points, order: list[Driver]) -> None:
    stamped = session.stamped
    files.write(
        "overtakes",
        (
            stamped(
                {
                    "date": session.at(when),
                    "overtaken_driver_number": behind.driver.number,
                    "overtaking_driver_number": mover.driver.number,
                    "position": next(place for one, place in changed if one is mover),
                }
            )
            for when, changed, mover, overtaken in timing.race_order(drive)
            for behind in overtaken
        ),
    )
    files.write("intervals", _intervals(session, drive))
    retired = {one.driver.number for one in drive.entries if one.car.retired is not None}
    before_drivers, before_teams = dict(points.drivers), dict(points.teams)
    for place, driver in enumerate(order):
        table = POINTS[session.kind]
        gained = table[place] if place < len(table) and driver.number not in retired else 0
        points.drivers[driver.number] = points.drivers.get(driver.number, 0) + gained
        points.teams[driver.team] = points.teams.get(driver.team, 0) + gained
    files.write(
        "championship_drivers",
        (stamped({"driver_number": who, **rest}) for who, rest in _standing(points.drivers, before_drivers)),
    )
    files.write(
        "championship_teams",
        (stamped({"team_name": who, **rest}) for who, rest in _standing(points.teams, before_teams)),
    )


def _standing(now: dict[Who, int], before: dict[Who, int]) -> Iterator[tuple[Who, Fields]]:
    """Yield who, and their points and places before and after; nulls before the first race."""
    places = {who: place for place, who in enumerate(sorted(now, key=lambda one: -now[one]), 1)}
    earlier = {who: place for place, who in enumerate(sorted(before, key=lambda one: -before[one]), 1)}
    for who in places:
        yield (
            who,
            {
                "points_current": now[who],
                "points_start": before.get(who),
                "position_current": places[who],
                "position_start": earlier.get(who),
            },
        )


def _intervals(session: SessionFacts, drive: Drive) -> Iterator[Fields]:
    last: dict[int, int] = {}
    for entry, when, gap, interval in timing.interval_records(drive):
        number = entry.driver.number
        moment = max(session.start + round(when * 1000), last.get(number, 0) + 1)
        last[number] = moment
        yield session.stamped(
            {"date": spell(moment), "driver_number": number, "gap_to_leader": gap, "interval": interval}
        )


def _grid(results: list[tuple[Entry, Fields]]) -> Grid:
    grid: Grid = []
    for entry, fields in results:
        times = [one for one in fields["duration"] if one is not None]  # type: ignore[attr-defined]
        grid.append((entry.driver, times[-1] if times else None))
    return grid


def _grid_records(session: SessionFacts, grid: Grid, drive: Drive, *, race: bool) -> Iterator[Fields]:
    """Yield the grid; the order without a qualifying is the order of the entries, without times."""
    order = [(one.driver, None) for one in drive.entries] if race else grid
    for place, (driver, time) in enumerate(order, 1):
        yield session.stamped({"driver_number": driver.number, "lap_duration": time, "position": place})
