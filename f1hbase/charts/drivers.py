"""Who drives, and how each is drawn: the team's colour on light and on dark, the second of a team dashed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from f1hbase.charts.colours import DARK_GROUND, LIGHT_GROUND, WITHOUT_TEAM, hex_colour, readable
from f1hbase.charts.tables import SessionTables, numbers, times, wholes
from f1hbase.frames.session import Session


@dataclass(frozen=True, slots=True)
class DriverStyle:
    """One driver.

    Attributes:
        number: The car's.
        acronym: Three letters; the number, where they are unknown.
        name: In full; may be empty.
        team: May be empty.
        light: The team's colour on a light ground, as `#rrggbb`; one of its own, where that is unknown.
        dark: On a dark ground.
        second: Whether another driver of the same colour comes before, so that this one is dashed.
    """

    number: int
    acronym: str
    name: str
    team: str
    light: str
    dark: str
    second: bool


def driver_styles(session: Session | SessionTables, among: Iterable[int] | None = None) -> tuple[DriverStyle, ...]:
    """Return the drivers in the order of the result, else of the last positions, else of their numbers.

    Args:
        session: The session.
        among: The numbers that are wanted, also those that no list names; by default, all of the list.
    """
    tables = SessionTables.of(session)
    listed = {row["driver_number"]: row for row in tables.table("drivers").to_pylist()}
    wanted = set(listed if among is None else among)
    rank = final_order(tables)
    styles: list[DriverStyle] = []
    teams: set[str] = set()
    without = 0
    # Through all of them, so that a driver looks alike whoever else is drawn.
    for number in sorted(wanted.union(listed), key=lambda one: (rank.get(one, len(rank)), one)):
        row = listed.get(number, {})
        colour = hex_colour(row.get("team_colour"))
        second = bool(row.get("team_name")) and row.get("team_name") in teams
        if colour is None:
            colour = WITHOUT_TEAM[without % len(WITHOUT_TEAM)]
            second, without = second or without >= len(WITHOUT_TEAM), without + 1
        team = row.get("team_name") or ""
        styles.append(
            DriverStyle(
                number, row.get("name_acronym") or str(number), row.get("full_name") or "", team,
                readable(colour, LIGHT_GROUND), readable(colour, DARK_GROUND), second,
            )
        )  # fmt: skip
        teams.add(team)
    return tuple(style for style in styles if style.number in wanted)


def final_order(tables: SessionTables) -> dict[int, int]:
    """Return the place of each driver, from 0: as in the result, as in the last positions, by the best lap times."""
    result = tables.table("session_result")
    places = dict(zip(wholes(result, "driver_number"), numbers(result, "position"), strict=True))
    placed = sorted((number for number, place in places.items() if place == place), key=lambda one: places[one])
    # Who is not classified comes behind, in the order of the last positions.
    found = {int(number): rank for rank, number in enumerate(placed)}
    last = last_positions(tables)
    for number in sorted(last, key=lambda one: (last[one], one)):
        found.setdefault(number, len(found))
    best = best_times(tables)
    for number in sorted(best, key=lambda one: (best[one], one)):
        found.setdefault(number, len(found))
    return found


def best_times(tables: SessionTables) -> dict[int, float]:
    """Return the shortest lap of each driver in seconds, deleted ones included; who has none is left out."""
    laps = tables.table("laps")
    best: dict[int, float] = {}
    for number, seconds in zip(wholes(laps, "driver_number").tolist(), numbers(laps, "lap_duration"), strict=True):
        if seconds == seconds:
            best[number] = min(float(seconds), best.get(number, float(seconds)))
    return best


def last_positions(tables: SessionTables) -> dict[int, int]:
    """Return the position of each driver after the last change that is known."""
    changes = tables.table("position")
    rows = sorted(
        zip(times(changes, "date"), wholes(changes, "driver_number"), numbers(changes, "position"), strict=True),
        key=lambda row: row[0],
    )
    return {int(number): int(position) for _, number, position in rows if position == position}
