"""What the timing loops see: laps, positions, overtakes, intervals, results, all from when marks were passed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from simulator.motion import Lap
from simulator.sessions import Drive, Entry

Fields = dict[str, object]


@dataclass(frozen=True, slots=True)
class Crossing:
    """A car passes a mark; ``mark`` counts from the start of the race over all laps."""

    when: float
    entry: Entry
    mark: int


def crossings(drive: Drive) -> list[Crossing]:
    """Return every passing of a mark in a race, in time."""
    found = []
    for entry in drive.entries:
        number = 0
        for lap in _race_laps(drive, entry):
            for when in lap.marks:
                found.append(Crossing(when, entry, number))
                number += 1
    return sorted(found, key=lambda one: (one.when, one.entry.grid))


def _race_laps(drive: Drive, entry: Entry) -> list[Lap]:
    """Return the laps that count: the one after the flag does not."""
    return [lap for lap in entry.car.laps if lap.begin < drive.finish]


def lap_records(drive: Drive, random: Random, *, race: bool) -> Iterator[tuple[Entry, float | None, Fields]]:
    """Yield each lap: whose, when it began (None if that was not seen), and its other fields."""
    best = min((lap.time for one in drive.entries for lap in one.car.laps if lap.flying), default=0.0)
    for entry in drive.entries:
        own = min((lap.time for lap in entry.car.laps if lap.flying), default=0.0)
        for lap in entry.car.laps:
            stopped = lap.end == float("inf")
            first, second, third = (None, None, None) if stopped else lap.sector_times
            total = None if stopped else lap.time
            # As in the real records: the first sector of a first lap and of a lap out of the garage has no time.
            if lap.from_garage or (race and lap.number == 1):
                first = total = None
            hidden = lap.number == 1 and (race or random.random() < 0.3) and random.random() < 0.7
            trap = None if stopped or (lap.pit_in and drive.track.trap > drive.track.pit_entry) else lap.speeds[2]
            fields: Fields = {
                "duration_sector_1": first,
                "duration_sector_2": second,
                "duration_sector_3": third,
                "i1_speed": None if stopped or lap.number == 1 else lap.speeds[0],
                "i2_speed": None if stopped else lap.speeds[1],
                "is_pit_out_lap": lap.pit_out,
                "lap_duration": total,
                "lap_number": lap.number,
                "st_speed": trap,
            }
            quality = 2051 if total == best else 2049 if total == own or random.random() < 0.2 else 2048
            for sector, codes in enumerate(_segments(drive, lap, quality, random), 1):
                fields[f"segments_sector_{sector}"] = codes
            yield entry, None if hidden else lap.begin, fields


def _segments(drive: Drive, lap: Lap, quality: int, random: Random) -> list[list[int | None]]:
    """Return the colours of the mini sectors: 2048 yellow, 2049 green, 2051 purple, 2064 pit lane, null not seen."""
    first, second = (drive.track.marks.index(one) + 1 for one in drive.track.sectors)
    count = len(drive.track.marks)
    codes: list[int | None] = [quality if random.random() < 0.6 else random.choice((2048, 2049)) for _ in range(count)]
    if lap.pit_out:
        codes[0] = None
        codes[1] = 2064
    if lap.pit_in:
        codes[-1] = 2064
    for index in range(len(lap.marks), count):
        codes[index] = 0
    if random.random() < 0.03:
        codes[random.randrange(count)] = None
    return [codes[:first], codes[first:second], codes[second:]]


def race_order(drive: Drive) -> Iterator[tuple[float, list[tuple[Entry, int]], Entry, list[Entry]]]:
    """Yield each change in the order of a race.

    When it happened, who is where now (only those that changed), who moved up, and past whom. A car is ahead of
    another that has passed fewer marks, or as many and later.
    """
    order = sorted(drive.entries, key=lambda one: one.grid)
    passed = {one.driver.number: -1 for one in order}
    for crossing in crossings(drive):
        mover = crossing.entry
        passed[mover.driver.number] = crossing.mark
        place = order.index(mover)
        new = place
        while new > 0 and passed[order[new - 1].driver.number] < crossing.mark:
            new -= 1
        if new == place:
            continue
        overtaken = order[new:place]
        order[new : place + 1] = [mover, *overtaken]
        yield crossing.when, [(one, order.index(one) + 1) for one in order[new : place + 1]], mover, overtaken


def best_order(drive: Drive) -> Iterator[tuple[float, list[tuple[Entry, int]]]]:
    """Yield each change in the order by best lap, of a session that is not a race."""
    order = list(drive.entries)
    best: dict[int, tuple[int, float]] = {}
    laps = sorted(
        ((lap.end, index, lap, entry) for index, entry in enumerate(order) for lap in entry.car.laps if lap.flying),
        key=lambda one: one[:2],
    )
    for end, _, lap, entry in laps:
        number = entry.driver.number
        # A time of a later part of qualifying counts before all of an earlier one.
        part = sum(1 for begin, _ in drive.phases if lap.begin >= begin)
        mark = (-part, lap.time)
        if mark >= best.get(number, (1, 0.0)):
            continue
        best[number] = mark
        before = list(order)
        order.sort(key=lambda one: best.get(one.driver.number, (1, 0.0)))
        changed = [(one, place + 1) for place, one in enumerate(order) if before[place] is not one]
        if changed:
            yield end, changed


def final_order(drive: Drive, *, race: bool) -> list[Entry]:
    """Return the entries as they are placed at the end."""
    if race:
        placed = {one.driver.number: one for one in drive.entries}
        order = sorted(drive.entries, key=lambda one: one.grid)
        for _, changed, _, _ in race_order(drive):
            for entry, position in changed:
                order[position - 1] = placed[entry.driver.number]
        return order
    order = list(drive.entries)
    for _, changed in best_order(drive):
        for entry, position in changed:
            order[position - 1] = entry
    return order


def interval_records(drive: Drive) -> Iterator[tuple[Entry, float, object, object]]:
    """Yield a race's gaps at each mark: whose, when, to the leader, to the car ahead; all null for the leader."""
    loops = len(drive.track.marks)
    last: dict[int, Crossing] = {}
    leader: Crossing | None = None
    for entry in drive.entries:
        yield entry, -1.0 - 0.01 * entry.grid, None, None
    leading: dict[int, float] = {}
    for crossing in crossings(drive):
        mark = crossing.mark
        if leader is None or mark > leader.mark:
            leader = crossing
        leading.setdefault(mark, crossing.when)
        behind = (leader.mark - mark) // loops
        ahead = last.get(mark)
        if leader is crossing:
            yield crossing.entry, crossing.when, None, None
        else:
            gap: object = round(crossing.when - leading[mark], 3)
            if behind:
                gap = f"+{behind} LAP{'S' if behind > 1 else ''}"
            interval: object = None if ahead is None else round(crossing.when - ahead.when, 3)
            if isinstance(interval, float) and interval > 1.2 * drive.track.lap.duration:
                interval = "+1 LAP"
            yield crossing.entry, crossing.when, gap, interval
        last[mark] = crossing
    for entry in drive.entries:
        if entry.car.retired is not None:
            yield entry, entry.car.retired + 1.0, None, None


def result_records(drive: Drive, *, race: bool) -> Iterator[tuple[Entry, Fields]]:
    """Yield the result of each driver: lists by part for qualifying, laps down in a race, nulls for the retired."""
    order = final_order(drive, race=race)
    if race:
        yield from _race_results(drive, order)
        return
    parts = [_best_in(drive, part) for part in range(max(1, len(drive.phases)))]
    leaders = [min(best.values(), default=None) for best in parts]
    for position, entry in enumerate(order, 1):
        times = [best.get(entry.driver.number) for best in parts]
        gaps = [
            None if time is None or leader is None else _gap(time - leader)
            for time, leader in zip(times, leaders, strict=True)
        ]
        qualifying = bool(drive.phases)
        pad = [None] * (3 - len(times))
        fields = _result(position, len(entry.car.laps))
        fields["duration"] = [*times, *pad] if qualifying else times[0]
        fields["gap_to_leader"] = [*gaps, *pad] if qualifying else gaps[0]
        fields["dns"] = not entry.car.laps
        yield entry, fields


def _race_results(drive: Drive, order: list[Entry]) -> Iterator[tuple[Entry, Fields]]:
    finished = [one for one in order if one.car.retired is None]
    winner = _race_laps(drive, finished[0])
    for position, entry in enumerate([*finished, *(one for one in order if one.car.retired is not None)], 1):
        laps = _race_laps(drive, entry)
        retired = entry.car.retired is not None
        fields = _result(None if retired else position, len(laps) - retired)
        fields["dnf"] = retired
        down = len(winner) - len(laps)
        if retired:
            fields["duration"] = fields["gap_to_leader"] = None
        else:
            fields["duration"] = round(laps[-1].end, 3)
            lapped = f"+{down} LAP{'S' if down > 1 else ''}"
            fields["gap_to_leader"] = lapped if down > 0 else _gap(laps[-1].end - winner[-1].end)
        yield entry, fields


def _result(position: int | None, laps: int) -> Fields:
    return {"dnf": False, "dns": False, "dsq": False, "number_of_laps": laps, "position": position}


def _gap(seconds: float) -> float | int:
    return round(seconds, 3) or 0


def _best_in(drive: Drive, part: int) -> dict[int, float]:
    best: dict[int, float] = {}
    for entry in drive.entries:
        for lap in entry.car.laps:
            inside = not drive.phases or sum(1 for begin, _ in drive.phases if lap.begin >= begin) == part + 1
            if lap.flying and inside:
                number = entry.driver.number
                best[number] = min(best.get(number, 1e9), lap.time)
    return best
