"""Who drives when: practice, qualifying and race, each as the motion of every car."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from simulator.motion import Car, Lap
from simulator.people import SAFETY_CAR, Driver
from simulator.track import Profile, Track

_SOFT_TO_HARD = ("SOFT", "MEDIUM", "HARD")

_SAFETY_CAR_SECONDS = 420.0
_SAFETY_CAR_PACE = 1.5


@dataclass(slots=True)
class Stint:
    """Laps ``first`` to ``last`` on one set of tyres that was ``age`` laps old."""

    first: int
    last: int
    compound: str
    age: int


@dataclass(slots=True, eq=False)
class Entry:
    """A driver's session. ``begin`` and ``end``: the first and last moment the car is heard of, in seconds."""

    driver: Driver
    car: Car
    begin: float
    end: float
    stints: list[Stint] = field(default_factory=list)
    grid: int = 0


@dataclass(slots=True)
class Drive:
    """What happened on track. ``seconds`` is the planned length; ``phases`` when Q1, Q2, Q3 begin and end."""

    track: Track
    seconds: float
    entries: list[Entry]
    lead: float
    tail: float
    finish: float
    phases: list[tuple[float, float]] = field(default_factory=list)


def _entries(track: Track, drivers: list[Driver], seconds: float, random: Random) -> tuple[list[Entry], float, float]:
    """Return the entries, and how long before and after the session samples may come.

    Five minutes before and 12 after, as measured in one real session; less in a session of a few minutes.
    """
    lead = max(20.0, min(300.0, 0.2 * seconds))
    tail = max(15.0, min(720.0, 0.2 * seconds))
    entries = []
    for index, driver in enumerate(drivers):
        begin = -lead * random.uniform(0.9, 1.0)
        box = track.pit_exit * (0.15 + 0.4 * index / max(len(drivers), 1))
        end = seconds + tail * random.uniform(0.85, 0.99)
        entries.append(Entry(driver, Car(track, box, begin), begin, end))
    return entries, lead, tail


def _skill(driver: Driver) -> float:
    return 1.0 + 0.0016 * driver.skill


def drive_practice(track: Track, drivers: list[Driver], seconds: float, random: Random) -> Drive:
    """Return a session in which each car goes out for a few laps at a time until the chequered flag."""
    entries, lead, tail = _entries(track, drivers, seconds, random)
    for entry in entries:
        car = entry.car
        car.wing = True
        car.stand(seconds * random.uniform(0.02, 0.15), asleep=random.random() < 0.5)
        pause = 0.0
        while car.now + pause < seconds - 1.2 * car.plain_lap:
            if not car.laps:
                car.out_lap(1.15, 0.0, garage=True)
            else:
                car.out_lap(1.15, pause, garage=True)
            laps = random.randint(1, 5)
            for number in range(laps):
                if car.now > seconds:
                    break
                flying = number % 2 == 0
                pace = _skill(entry.driver) + abs(random.gauss(0, 0.004)) if flying else 1.28
                car.lap(pace).flying = flying
            _in_lap(car, 1.2)
            pause = max(3.0, seconds * random.uniform(0.03, 0.12))
        _settle(entry)
        entry.stints = _stints(car, random)
    return Drive(track, seconds, entries, lead, tail, seconds)


def drive_qualifying(track: Track, drivers: list[Driver], seconds: float, random: Random) -> Drive:
    """Return a session in three parts, the slowest quarter out after each; one part where time is short."""
    entries, lead, tail = _entries(track, drivers, seconds, random)
    whole = seconds >= 24 * track.lap.duration
    # Parts of 18, 15 and 12 minutes and two breaks, of an hour.
    shares = [(0.0, 0.3), (0.42, 0.67), (0.8, 1.0)] if whole else [(0.0, 1.0)]
    phases = [(begin * seconds, end * seconds) for begin, end in shares]
    running = list(entries)
    for number, (begin, end) in enumerate(phases):
        best: dict[int, float] = {}
        for entry in running:
            car = entry.car
            car.wing = True
            pause = max(begin + random.uniform(0.05, 0.3) * (end - begin) - car.now, 2.0)
            while car.now + pause < end - 1.2 * car.plain_lap:
                if not car.laps:
                    car.stand(car.now + pause, asleep=random.random() < 0.5)
                    car.out_lap(1.15, 0.0, garage=True)
                else:
                    car.out_lap(1.15, pause, garage=True)
                lap = car.lap(_skill(entry.driver) - 0.002 * number + abs(random.gauss(0, 0.003)))
                lap.flying = True
                best[entry.driver.number] = min(best.get(entry.driver.number, 1e9), lap.time)
                _in_lap(car, 1.2)
                pause = max(2.0, (end - begin) * random.uniform(0.15, 0.3))
        ranked = sorted(running, key=lambda one: best.get(one.driver.number, 1e9))
        keep = len(ranked) if number == len(phases) - 1 else max(1, round(len(entries) * (0.75, 0.5)[number]))
        running = [one for one in running if one in ranked[:keep]]
    for entry in entries:
        _settle(entry)
        entry.stints = _stints(entry.car, random, compound="SOFT")
    return Drive(track, seconds, entries, lead, tail, seconds, phases)


def drive_race(track: Track, grid: list[Driver], seconds: float, random: Random, spread: float = 1.0) -> Drive:
    """Return a race from the grid given: pit stops, passes, sometimes a retirement, over about 0.8 of the time.

    ``spread`` is how unlike the cars' pace is; more of it makes more passes.
    """
    entries, lead, tail = _entries(track, grid, seconds, random)
    laps = max(3, int(0.8 * seconds / (track.lap.duration * 1.05)))
    spacing = min(8.0, 0.35 * track.length / len(grid))
    starts: dict[int, Profile] = {}
    stops: dict[int, set[int]] = {}
    pace: dict[int, float] = {}
    failing = _failing(entries, laps, random)
    for index, entry in enumerate(entries):
        number = entry.driver.number
        entry.grid = index + 1
        starts[number] = entry.car.grid_start((index + 1) * spacing, 0.0, random.uniform(0.2, 0.45))
        pace[number] = 1.03 + spread * (0.5 * (_skill(entry.driver) - 1) + random.gauss(0, 0.004))
        first = max(1, round(laps * random.uniform(0.3, 0.6)))
        stops[number] = {min(first, laps - 1)}
        if laps > 20 and random.random() < 0.4:
            stops[number].add(min(laps - 2, first + round(laps * 0.3)))
    age = dict.fromkeys(pace, 0)
    for number in range(1, laps + 1):
        ahead = -1e9
        for entry in sorted(entries, key=lambda one: one.car.now):
            car, who = entry.car, entry.driver.number
            if car.retired is not None:
                continue
            if failing.get(who) == number and number - 1 not in stops[who]:
                car.retire(random.uniform(0.2, 0.7), entry.end)
                continue
            pit = number in stops[who]
            speed = pace[who] + 0.0004 * age[who] * (laps > 10) + random.gauss(0, 0.0025 * spread)
            age[who] += 1
            car.wing = number > 2 and random.random() < 0.4
            if number - 1 in stops[who]:
                car.out_lap(speed, random.uniform(1.9, 3.4), garage=False, pit=pit)
                age[who] = 0
            elif number == 1:
                car.lap(speed, first=starts[who], begin=0.0, pit=pit)
            elif pit:
                car.lap(speed, pit=True)
            else:
                # A car only a little faster does not get past, and stays just behind.
                plain = car.now + speed * car.plain_lap
                if ahead - 0.35 < plain < ahead + 0.25:
                    plain = max(plain, ahead + random.uniform(0.25, 0.7))
                car.lap(max(0.98, (plain - car.now) / car.plain_lap))
                ahead = car.now
    finish = min(one.car.now for one in entries if one.car.retired is None)
    for entry in entries:
        car = entry.car
        if car.retired is not None:
            continue
        _cut(car, finish)
        if not car.laps[-1].pit_in:
            _in_lap(car, 1.35)
        _settle(entry)
    for entry in entries:
        entry.stints = _stints(entry.car, random)
    return Drive(track, seconds, entries, lead, tail, finish)


def drive_safety_car(track: Track, seconds: float, random: Random) -> Entry:
    """Return the laps of the safety car, about the middle of a race, for some minutes: no list names it."""
    begin = seconds * random.uniform(0.35, 0.5)
    car = Car(track, track.pit_exit * 0.1, begin)
    car.out_lap(_SAFETY_CAR_PACE, 0.0, garage=True)
    until = begin + min(_SAFETY_CAR_SECONDS, 0.15 * seconds)
    while car.now < until:
        car.lap(_SAFETY_CAR_PACE)
    _in_lap(car, _SAFETY_CAR_PACE)
    entry = Entry(SAFETY_CAR, car, begin, car.now + 15.0)
    _settle(entry)
    return entry


def _in_lap(car: Car, pace: float) -> Lap:
    return car.lap(pace, pit=True)


def _settle(entry: Entry) -> None:
    """Bring a car home and leave it in the garage to the end."""
    if entry.car.laps:
        entry.car.park(entry.end)
    else:
        entry.car.stand(entry.end)


def _cut(car: Car, finish: float) -> None:
    """Take back the laps that began after the winner finished."""
    kept = [lap for lap in car.laps if lap.begin < finish or lap.number == 1]
    if len(kept) == len(car.laps):
        return
    end = kept[-1].end
    car.take_back(kept, end)


def _failing(entries: list[Entry], laps: int, random: Random) -> dict[int, int]:
    """Return which cars break down in which lap: about one in ten, never among few, and not the winner of a duel."""
    if len(entries) < 5 or laps < 4:
        return {}
    unlucky = random.sample(entries, max(1, len(entries) // 10))
    return {one.driver.number: random.randint(2, laps - 1) for one in unlucky}


def _stints(car: Car, random: Random, compound: str | None = None) -> list[Stint]:
    """Return the stints between the visits to the pits; real ones are sometimes UNKNOWN."""
    stints: list[Stint] = []
    first = 1
    for lap in car.laps:
        if lap.pit_in or lap is car.laps[-1]:
            kind = compound or random.choice(_SOFT_TO_HARD)
            if random.random() < 0.02:
                kind = "UNKNOWN"
            stints.append(Stint(first, lap.number, kind, random.choice((0, 0, 0, 1, 2, 3, 4))))
            first = lap.number + 1
    return stints
