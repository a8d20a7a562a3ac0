"""The samples of one car: car_data and location, each at its own irregular instants."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate
from random import Random

from simulator.motion import Piece
from simulator.sessions import Entry
from simulator.track import TICK, Track

# Steps between samples in milliseconds and their weights: measured in the real car_data of a test day, where 9 % of
# the gaps were above 0.5 s (mostly in the garage), 1.5 % above 1 s and 12 in 755,919 above 5 s.
_CAR_STEPS = ((160, 83), (200, 77), (240, 65), (280, 46), (320, 32), (360, 23), (400, 15), (440, 11), (480, 6))
_LOCATION_STEPS = ((180, 40), (220, 90), (260, 90), (300, 60), (340, 30), (420, 10))
_GAPS = ((0.00002, 5_000, 9_000), (0.0015, 1_000, 2_500), (0.012, 500, 1_000))

# The top of each gear in km/h: halfway between the medians of neighbouring gears in the real car_data.
_GEAR_TOPS = (80, 112, 148, 184, 220, 256, 289, 400)

# A car in the garage is heard of for so long after it stopped and before it leaves, in seconds.
_AWAKE_AFTER, _AWAKE_BEFORE = 20.0, 10.0

_MILLISECONDS = ["+00:00", *(f".{one:03}000+00:00" for one in range(1, 1000))]


def spell(milliseconds: int) -> str:
    """Return the API's spelling of milliseconds since 1970: no fraction when it is zero, as isoformat does."""
    return _second(milliseconds // 1000) + _MILLISECONDS[milliseconds % 1000]


def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _gears() -> list[tuple[int, int]]:
    """Return gear and engine speed (rpm) for each km/h: about 8,500 at the bottom of a gear, 11,700 at its top."""
    table = []
    for speed in range(401):
        gear = next(index for index, top in enumerate(_GEAR_TOPS, 1) if speed <= top)
        if gear == 1:
            table.append((1, 4000 + round(speed / 80 * 7200)))
            continue
        bottom, top = _GEAR_TOPS[gear - 2], min(_GEAR_TOPS[gear - 1], 345)
        table.append((gear, 8800 + round((speed - bottom) / (top - bottom) * 2800)))
    return table


_GEARS = _gears()


@dataclass(frozen=True, slots=True)
class Keys:
    """Whose samples, and when the session starts, in milliseconds since 1970."""

    meeting: int
    session: int
    start: int


def car_lines(entry: Entry, track: Track, keys: Keys, random: Random, *, wings: bool) -> Iterator[str]:
    """Yield a car's car_data as JSON lines.

    ``wings``: whether cars have DRS, 8 within reach, 10 to 14 opening and open; the cars of 2026 have none, and
    send 0 in the real records.
    """
    driver, meeting, session = entry.driver.number, keys.meeting, keys.session
    for date, piece, index, _ in _walk(entry, keys.start, random, _CAR_STEPS):
        profile = piece.profile
        if piece.pace == 0.0:
            rpm = 4200 + int(random.random() * 300) if piece.engine else 0
            gear = speed = throttle = brake = drs = 0
        else:
            speed = round(profile.speed[index] / piece.pace * 3.6)
            gear, rpm = _GEARS[speed]
            throttle, brake = profile.throttle[index], profile.brake[index]
            if piece.pace > 1.1:
                throttle = throttle * 7 // 10
            rpm += int(random.random() * 240) - (320 if throttle == 0 else 120)
            drs = _drs(track, profile.distance[index], piece.wing) if wings else 0
        yield (
            f'{{"brake":{brake},"date":"{date}","driver_number":{driver},"drs":{drs},"meeting_key":{meeting},'
            f'"n_gear":{gear},"rpm":{rpm},"session_key":{session},"speed":{speed},"throttle":{throttle}}}\n'
        )


def _drs(track: Track, distance: float, wing: bool) -> int:
    for begin, end in track.drs:
        if begin <= distance <= end:
            if not wing:
                return 0
            return 10 if distance < begin + 15 else 12 if distance < begin + 50 else 14
        if wing and begin - 0.03 * track.length <= distance < begin:
            return 8
    return 0


def _walk(
    entry: Entry, start: int, random: Random, steps: tuple[tuple[int, int], ...]
) -> Iterator[tuple[str, Piece, int, float]]:
    """Yield each sample's date, piece, and place in the piece's profile: index and the part to the next."""
    sums = list(accumulate(weight for _, weight in steps))
    table = [step for step, weight in steps for _ in range(round(weight * 200 / sums[-1]))]
    size = len(table)
    now = round(entry.begin * 1000)
    last_second, text = -1, ""
    draw = random.random
    end = entry.end
    for piece in entry.car.pieces:
        begin, over = piece.begin, min(piece.end, end)
        pace, offset = piece.pace, piece.offset
        points = len(piece.profile.speed) - 1
        while now < over * 1000:
            seconds = now / 1000
            if piece.asleep and begin + _AWAKE_AFTER < seconds < over - _AWAKE_BEFORE:
                now = round((over - _AWAKE_BEFORE) * 1000) + int(draw() * 200)
                continue
            place = (offset + (seconds - begin) / pace if pace else offset) / TICK
            index = int(place) if place > 0 else 0
            if index >= points:
                index, place = points - 1, float(points)
            moment = start + now
            if moment // 1000 != last_second:
                last_second = moment // 1000
                text = _second(last_second)
            yield text + _MILLISECONDS[moment % 1000], piece, index, place - index
            chance = draw()
            now += table[int(draw() * size)] + int(chance * 40_000) % 40 - 20
            if chance < 0.0136:
                now += _gap(random, chance)


def _gap(random: Random, chance: float) -> int:
    for share, least, most in _GAPS:
        if chance < share:
            return random.randint(least, most)
    return 0


def location_lines(entry: Entry, keys: Keys, random: Random) -> Iterator[str]:
    """Yield a car's location as JSON lines; x, y, z in tenths of a metre, as speeds in real records show."""
    driver, meeting, session = entry.driver.number, keys.meeting, keys.session
    for date, piece, index, part in _walk(entry, keys.start, random, _LOCATION_STEPS):
        profile = piece.profile
        xs, ys = profile.x, profile.y
        x = xs[index] + (xs[index + 1] - xs[index]) * part
        y = ys[index] + (ys[index + 1] - ys[index]) * part
        yield (
            f'{{"date":"{date}","driver_number":{driver},"meeting_key":{meeting},"session_key":{session},'
            f'"x":{round(x * 10)},"y":{round(y * 10)},"z":{round(profile.z[index] * 10)}}}\n'
        )
