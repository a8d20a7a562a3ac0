"""A closed circuit and how fast a Formula 1 car gets around it.

The centre line is a polygon with rounded corners, smoothed; the speed follows from its curvature. Grip, power, drag
and brakes are round numbers of public descriptions of the cars (4 to 5 g in fast corners, 5 g of braking,
0-100 km/h in 2.6 s, 330 km/h), so lap times and speeds come out as in the real records.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, field
from random import Random

TICK = 0.05
"""Seconds between the points of a profile."""

PIT_SPEED = 80 / 3.6
"""The limit in the pit lane, in m/s."""

_PIT_OFFSET = 15.0  # metres between the track and the pit lane beside it
_TOP_SPEED = 92.0  # m/s
_STEP = 2.0  # metres between the points of a line


def _drag(speed: float) -> float:
    return 0.0011 * speed * speed


def _power(speed: float) -> float:
    return min(12.0, 800.0 / max(speed, 1.0))


def _braking(speed: float) -> float:
    return 18.0 + 0.0035 * speed * speed


def _cornering(curvature: float) -> float:
    # Downforce grows with the square of the speed, so below some curvature a corner is no limit at all.
    tightness = curvature - 0.0045
    return _TOP_SPEED if tightness <= 0 else min(_TOP_SPEED, math.sqrt(16.0 / tightness))


@dataclass(slots=True)
class Profile:
    """A drive along a line: one point each `TICK`. Metres, m/s, percent; ``distance`` is from the start line."""

    distance: list[float]
    speed: list[float]
    x: list[float]
    y: list[float]
    z: list[float]
    throttle: list[int]
    brake: list[int]

    @property
    def duration(self) -> float:
        """Seconds from the first point to the last."""
        return (len(self.speed) - 1) * TICK

    def time_at(self, distance: float) -> float:
        """Return the seconds from the first point until the car is at ``distance``."""
        index = bisect_left(self.distance, distance)
        if index <= 0:
            return 0.0
        if index >= len(self.distance):
            return self.duration
        before, after = self.distance[index - 1], self.distance[index]
        part = (distance - before) / (after - before) if after > before else 0.0
        return (index - 1 + part) * TICK

    def speed_at(self, distance: float) -> float:
        """Return the speed at a distance, in m/s."""
        return self.speed[min(round(self.time_at(distance) / TICK), len(self.speed) - 1)]


@dataclass(slots=True)
class Track:
    """A circuit: its line, the profile of a fast lap, where it is timed, and its pit lane.

    ``sectors`` are the ends of the first two sectors, ``marks`` the timing loops (the last is the finish line),
    ``trap`` the speed trap, ``drs`` the stretches where the wing may open; all in metres from the line.
    """

    length: float
    x: list[float]
    y: list[float]
    z: list[float]
    limit: list[float]
    straight: float
    lap: Profile = field(init=False)
    sectors: tuple[float, float] = field(init=False)
    marks: list[float] = field(init=False)
    trap: float = field(init=False)
    drs: list[tuple[float, float]] = field(init=False)
    pit_entry: float = field(init=False)
    pit_exit: float = field(init=False)

    def __post_init__(self) -> None:
        count = len(self.x)
        # The second lap of two starts at racing speed.
        distances = [index * self.length / count for index in range(2 * count + 1)]
        caps = [self.limit[index % count] for index in range(2 * count + 1)]
        speeds = _drive(distances, caps, caps[0])
        self.limit = speeds[count : 2 * count]
        self.lap = self._profile([one - self.length for one in distances[count:]], speeds[count:], 0.0)
        quick = max(8, min(24, round(self.lap.duration / 3.8)))
        self.marks = [self._place((index + 1) / quick) for index in range(quick)]
        self.marks[-1] = self.length
        self.sectors = (self.marks[quick * 3 // 10], self.marks[quick * 7 // 10])
        self.pit_entry = self.length - min(150.0, 0.4 * self.straight)
        self.pit_exit = min(230.0, 0.5 * self.straight)
        inside = [one for one in range(len(self.lap.speed)) if self.pit_exit < self.lap.distance[one] < self.pit_entry]
        self.trap = self.lap.distance[max(inside, key=self.lap.speed.__getitem__)]
        self.drs = self._zones()

    def start(self, behind: float) -> Profile:
        """Return the drive from standing ``behind`` metres before the line until racing speed is reached."""
        return self._launch(-behind, 0.0, lane=False)

    def pit_in(self, box: float) -> Profile:
        """Return the drive into the pit lane, from where it begins to brake to standing at ``box`` metres."""
        entry = self.pit_entry - self.length
        distances = _steps(entry - min(250.0, 0.3 * self.length), box)
        caps = [min(self._cap(one), PIT_SPEED if one >= entry else _TOP_SPEED) for one in distances]
        caps[-1] = 0.0
        speeds = _drive(distances, caps, caps[0])
        braking = max(
            (at for at, one in enumerate(distances) if one < entry and speeds[at] >= self._cap(one) * 0.999),
            default=0,
        )
        return self._profile(distances[braking:], speeds[braking:], self._pit_offset())

    def pit_out(self, box: float) -> Profile:
        """Return the drive from standing at the box until racing speed is reached."""
        return self._launch(box, 0.0, lane=True)

    def _launch(self, first: float, speed: float, *, lane: bool) -> Profile:
        distances = _steps(first, self.length * 0.8)
        limit = PIT_SPEED if lane else _TOP_SPEED
        caps = [min(self._cap(one), limit) if one < self.pit_exit else self._cap(one) for one in distances]
        speeds = _drive(distances, caps, speed)
        joined = next(
            (
                index
                for index, one in enumerate(distances)
                if index > 1 and one > (self.pit_exit if lane else 0.0) and speeds[index] >= self._cap(one) * 0.999
            ),
            len(distances) - 1,
        )
        return self._profile(distances[: joined + 1], speeds[: joined + 1], self._pit_offset() if lane else 0.0)

    def _pit_offset(self) -> float:
        return min(_PIT_OFFSET, 0.1 * (self.pit_exit + self.length - self.pit_entry))

    def _cap(self, distance: float) -> float:
        return self._along(self.limit, distance)

    def _along(self, values: list[float], distance: float) -> float:
        place = (distance / self.length) % 1.0 * len(values)
        index = int(place)
        first, second = values[index % len(values)], values[(index + 1) % len(values)]
        return first + (second - first) * (place - index)

    def _place(self, part: float) -> float:
        return self.lap.distance[min(round(part * self.lap.duration / TICK), len(self.lap.distance) - 1)]

    def _profile(self, distances: list[float], speeds: list[float], offset: float) -> Profile:
        """Turn speeds along the line into points in time, ``offset`` metres beside the track in the pit lane."""
        times = [0.0]
        for index in range(1, len(distances)):
            mean = max((speeds[index] + speeds[index - 1]) / 2, 0.5)
            times.append(times[-1] + (distances[index] - distances[index - 1]) / mean)
        profile = Profile([], [], [], [], [], [], [])
        index = 0
        for tick in range(round(times[-1] / TICK) + 1):
            now = min(tick * TICK, times[-1])
            while index < len(times) - 2 and times[index + 1] < now:
                index += 1
            part = (now - times[index]) / (times[index + 1] - times[index])
            distance = distances[index] + (distances[index + 1] - distances[index]) * part
            speed = speeds[index] + (speeds[index + 1] - speeds[index]) * part
            profile.distance.append(distance)
            profile.speed.append(speed)
            x, y = self._along(self.x, distance), self._along(self.y, distance)
            if offset:
                ahead = (self._along(self.x, distance + 2) - x, self._along(self.y, distance + 2) - y)
                beside = self._beside(distance) * offset / math.hypot(*ahead)
                x, y = x - ahead[1] * beside, y + ahead[0] * beside
            profile.x.append(x)
            profile.y.append(y)
            profile.z.append(self._along(self.z, distance))
        profile.distance[-1] = distances[-1]
        _pedals(profile)
        return profile

    def _beside(self, distance: float) -> float:
        """Return how far a car is out of the track into the pit lane, 0 to 1, without a kink."""
        first, last = self.pit_entry - self.length, self.pit_exit
        edge = 0.2 * (last - first)
        part = max(0.0, min((distance - first) / edge, (last - distance) / edge, 1.0))
        return part * part * (3 - 2 * part)

    def _zones(self) -> list[tuple[float, float]]:
        """Return the flat-out stretches of 5 s and more, less the first 1.5 s of each: the DRS zones."""
        zones, begin = [], None
        for index, throttle in enumerate([*self.lap.throttle, 0]):
            if throttle == 100 and begin is None:
                begin = index
            elif throttle < 100 and begin is not None:
                if (index - begin) * TICK >= min(5.0, 0.12 * self.lap.duration):
                    skip = min(round(1.5 / TICK), (index - begin) // 3)
                    zones.append((self.lap.distance[begin + skip], self.lap.distance[index - 1]))
                begin = None
        return zones


def make_track(random: Random, lap_time: float) -> Track:
    """Return a circuit that a fast car laps in about ``lap_time`` seconds, 8 s at least."""
    corners = max(5, min(16, round(lap_time / 5.5)))
    shape = [
        (random.uniform(0.42, 1.0), (index + random.uniform(-0.3, 0.3)) / corners * math.tau)
        for index in range(corners)
    ]
    tightness = [random.uniform(0.06, 0.7) for _ in shape]
    hills = [(random.uniform(2, 12), random.uniform(0, math.tau)) for _ in range(3)]
    length = lap_time * 50.0
    track = _build(shape, tightness, hills, length)
    for _ in range(4):
        length *= (lap_time / track.lap.duration) ** 1.2
        track = _build(shape, tightness, hills, length)
    return track


def _build(
    shape: list[tuple[float, float]], tightness: list[float], hills: list[tuple[float, float]], length: float
) -> Track:
    corners = [(radius * math.cos(angle), radius * math.sin(angle)) for radius, angle in shape]
    line = _rounded(corners, tightness)
    points = _resampled(line, max(120, round(length / _STEP)))
    for _ in range(3):
        points = _smoothed(points, max(2, round(len(points) * 0.0025)))
    around = math.fsum(math.dist(points[index - 1], points[index]) for index in range(len(points)))
    points = [(x * length / around, y * length / around) for x, y in points]
    limit = [_cornering(one) for one in _curvatures(points)]
    first, last = _longest([one >= _TOP_SPEED for one in limit])
    count = len(points)
    # The line is a little before the middle of the longest straight, so that the pit lane fits beside it.
    line_at = (first + round((last - first) * 0.45)) % count
    turned = [(line_at + index) % count for index in range(count)]
    z = [
        math.fsum(
            height * math.sin(wave * math.tau * index / count + phase) for wave, (height, phase) in enumerate(hills, 1)
        )
        for index in range(count)
    ]
    return Track(
        length,
        [points[one][0] for one in turned],
        [points[one][1] for one in turned],
        z,
        [limit[one] for one in turned],
        straight=(last - first) / count * length,
    )


def _rounded(corners: list[tuple[float, float]], tightness: list[float]) -> list[tuple[float, float]]:
    """Replace each corner of a polygon by a curve that touches its edges (a quadratic Bezier arc)."""
    line = []
    for index, (x, y) in enumerate(corners):
        before, after = corners[index - 1], corners[(index + 1) % len(corners)]
        reach = 0.42 * tightness[index]
        a = (x + (before[0] - x) * reach, y + (before[1] - y) * reach)
        b = (x + (after[0] - x) * reach, y + (after[1] - y) * reach)
        for step in range(17):
            t = step / 16
            u = 1 - t
            line.append((u * u * a[0] + 2 * u * t * x + t * t * b[0], u * u * a[1] + 2 * u * t * y + t * t * b[1]))
    return line


def _resampled(line: list[tuple[float, float]], count: int) -> list[tuple[float, float]]:
    ends = [*line, line[0]]
    along = [0.0]
    for index in range(1, len(ends)):
        along.append(along[-1] + math.dist(ends[index - 1], ends[index]))
    points, index = [], 0
    for number in range(count):
        goal = along[-1] * number / count
        while along[index + 1] < goal:
            index += 1
        part = (goal - along[index]) / (along[index + 1] - along[index])
        (x, y), (to_x, to_y) = ends[index], ends[index + 1]
        points.append((x + (to_x - x) * part, y + (to_y - y) * part))
    return points


def _smoothed(points: list[tuple[float, float]], reach: int) -> list[tuple[float, float]]:
    count, width = len(points), 2 * reach + 1
    smooth = []
    x = math.fsum(points[one % count][0] for one in range(-reach, reach + 1))
    y = math.fsum(points[one % count][1] for one in range(-reach, reach + 1))
    for index in range(count):
        smooth.append((x / width, y / width))
        gone, come = points[(index - reach) % count], points[(index + reach + 1) % count]
        x, y = x + come[0] - gone[0], y + come[1] - gone[1]
    return smooth


def _curvatures(points: list[tuple[float, float]]) -> list[float]:
    """Return 1/radius at each point, of the circle through it and its neighbours some metres off."""
    count, reach = len(points), 3
    curvatures = []
    for index, b in enumerate(points):
        a, c = points[index - reach], points[(index + reach) % count]
        area = abs((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))
        sides = math.dist(a, b) * math.dist(b, c) * math.dist(a, c)
        curvatures.append(2 * area / sides if sides else 0.0)
    return curvatures


def _longest(flags: list[bool]) -> tuple[int, int]:
    """Return the longest run of true, around the end of the list too, as first and last (last may exceed it)."""
    best, begin = (0, len(flags) // 5), None
    length = 0
    for index in range(2 * len(flags)):
        if flags[index % len(flags)]:
            begin = index if begin is None else begin
            if length < index - begin < len(flags):
                length, best = index - begin, (begin, index)
        else:
            begin = None
    return best


def _steps(first: float, last: float) -> list[float]:
    count = max(4, math.ceil((last - first) / _STEP))
    return [first + (last - first) * index / count for index in range(count + 1)]


def _drive(distances: list[float], caps: list[float], speed: float) -> list[float]:
    """Return the highest speeds under the caps that power and brakes allow, beginning with ``speed``."""
    speeds = [min(speed, caps[0])]
    for index in range(1, len(distances)):
        step, now = distances[index] - distances[index - 1], speeds[-1]
        gain = 2 * (_power(now) - _drag(now)) * step
        speeds.append(min(caps[index], math.sqrt(max(now * now + gain, 0.0))))
    for index in range(len(distances) - 2, -1, -1):
        step, after = distances[index + 1] - distances[index], speeds[index + 1]
        speeds[index] = min(speeds[index], math.sqrt(after * after + 2 * _braking(after) * step))
    return speeds


def _pedals(profile: Profile) -> None:
    """Fill in throttle and brake: what the change of speed needs."""
    speeds = profile.speed
    for index, speed in enumerate(speeds):
        before, after = speeds[max(index - 2, 0)], speeds[min(index + 2, len(speeds) - 1)]
        change = (after - before) / (4 * TICK)
        if change < -(_drag(speed) + 1.5):
            profile.throttle.append(0)
            profile.brake.append(100)
            continue
        share = (change + _drag(speed)) / max(_power(speed), 0.1)
        throttle = 100 if share > 0.93 or speed > 0.99 * _TOP_SPEED else max(0, round(100 * share))
        profile.throttle.append(throttle)
        profile.brake.append(0)
