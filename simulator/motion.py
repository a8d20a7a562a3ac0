"""What a car does in a session: pieces of profiles one after the other, and the laps they make."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import fsum

from simulator.track import Profile, Track

_BLEND = 6.0  # seconds over which a car changes from one pace to another


@dataclass(slots=True)
class Piece:
    """A stretch of a profile, driven ``pace`` times slower; times in seconds since the start of the session.

    A car that stands has no pace: it stays at ``offset``, with the engine on or off. ``asleep``: it sends nothing
    while it stands in the garage, as real cars often do.
    """

    begin: float
    end: float
    profile: Profile
    offset: float
    pace: float = 0.0
    engine: bool = True
    asleep: bool = False
    wing: bool = False


@dataclass(slots=True)
class Lap:
    """A lap: its first and last moment, and when each of the track's marks was passed (the last is the finish)."""

    number: int
    begin: float
    end: float = 0.0
    marks: list[float] = field(default_factory=list)
    sectors: tuple[float, float] = (0.0, 0.0)
    speeds: tuple[int, int, int] = (0, 0, 0)
    pit_out: bool = False
    pit_in: bool = False
    from_garage: bool = False
    flying: bool = False

    @property
    def sector_times(self) -> tuple[float, float, float]:
        """Return the seconds of the three sectors, to the thousandth as they are timed."""
        first, second = self.sectors
        return round(first - self.begin, 3), round(second - first, 3), round(self.end - second, 3)

    @property
    def time(self) -> float:
        """Return the seconds of the lap: the sum of its rounded sectors."""
        return round(fsum(self.sector_times), 3)


@dataclass(slots=True)
class Stop:
    """A passage of the pit lane that ends lap ``lap``; ``standing`` is the time at the box, in seconds."""

    lap: int
    entry: float
    exit: float
    standing: float


class Car:
    """Builds the motion of one car piece by piece. ``now`` is where it has got to, in seconds of the session."""

    def __init__(self, track: Track, box: float, begin: float) -> None:
        self.track = track
        self.now = begin
        self.pieces: list[Piece] = []
        self.laps: list[Lap] = []
        self.stops: list[Stop] = []
        self.retired: float | None = None
        self.wing = False
        self._in, self._out = track.pit_in(box), track.pit_out(box)
        self._braking = track.length + self._in.distance[0]
        self._pace = 1.0
        self._passed: list[tuple[float, float, Piece]] = []

    @property
    def plain_lap(self) -> float:
        """Seconds of a lap at pace 1."""
        return self.track.lap.duration

    def stand(self, until: float, *, asleep: bool = False, engine: bool = False) -> None:
        """Stay in the box."""
        if until > self.now:
            self.pieces.append(Piece(self.now, until, self._out, 0.0, engine=engine, asleep=asleep))
            self.now = until

    def grid_start(self, behind: float, lights: float, reaction: float) -> Profile:
        """Stand on the grid until the lights go out, and return the drive that then begins."""
        start = self.track.start(behind)
        self.pieces.append(Piece(self.now, lights, start, 0.0, engine=False))
        self.pieces.append(Piece(lights, lights + reaction, start, 0.0))
        self.now = lights + reaction
        return start

    def lap(self, pace: float, *, first: Profile | None = None, begin: float | None = None, pit: bool = False) -> Lap:
        """Drive one lap, from the line or from where ``first`` begins, into the pit lane if ``pit``."""
        lap = Lap(len(self.laps) + 1, self.now if begin is None else begin, pit_in=pit)
        at = 0.0
        if first is not None:
            self._drive(first, 0.0, first.duration, pace)
            at = first.distance[-1]
        self._cruise(at, self._braking if pit else self.track.length, pace)
        if pit:
            self._drive(self._in, 0.0, self._in.time_at(0.0), pace, shift=self.track.length)
        self._finish(lap)
        return lap

    def out_lap(self, pace: float, standing: float, *, garage: bool, pit: bool = False) -> Lap:
        """Drive the lap that begins at the line in the pit lane, with a stop of ``standing`` seconds at the box.

        With ``garage`` the lap counts from when the car leaves the box, as OpenF1 has it.
        """
        begin = self.now
        entered = None
        if self.laps and self.laps[-1].pit_in:
            slow = self._in.time_at(self.track.pit_entry - self.track.length)
            entered = self.pieces[-1].begin + slow * self._pace
        if entered is not None:
            at_line = self._in.time_at(0.0)
            self._drive(self._in, at_line, self._in.duration, self._pace, shift=0.0)
        arrived = self.now
        if garage:
            sleeps = standing > 60 and int(arrived * 1000) % 2 == 0
            self.stand(arrived + standing, asleep=sleeps)
        else:
            self.stand(arrived + standing, engine=True)
        leaving = self.now
        lap = self.lap(pace, first=self._out, begin=leaving if garage else begin, pit=pit)
        lap.pit_out, lap.from_garage = True, garage
        if entered is not None:
            gone = leaving + self._out.time_at(self.track.pit_exit) * pace
            self.stops.append(Stop(lap.number - 1, entered, gone, standing))
        return lap

    def park(self, until: float) -> None:
        """After a lap that ended in the pit lane: go to the box and stay there."""
        self._drive(self._in, self._in.time_at(0.0), self._in.duration, self._pace)
        self.stand(until)

    def retire(self, part: float, until: float) -> None:
        """Roll out after ``part`` of a lap and stand beside the track."""
        self._passed = []
        lap = Lap(len(self.laps) + 1, self.now)
        stop = part * self.plain_lap
        self._cruise(0.0, self.track.lap.distance[int(stop / 0.05)], self._pace)
        pace = self._pace
        offset = stop
        while pace < 30 and offset < self.plain_lap - 1:
            pace *= 1.25
            step = 0.5 / pace
            self.pieces.append(Piece(self.now, self.now + 0.5, self.track.lap, offset, pace))
            self.now += 0.5
            offset += step
        self.pieces.append(Piece(self.now, max(until, self.now), self.track.lap, offset, engine=False))
        self.retired = self.now
        lap.marks = [self._when(mark) for mark in self.track.marks if mark <= self.track.lap.distance[int(stop / 0.05)]]
        lap.end = float("inf")
        self.laps.append(lap)
        self.now = max(until, self.now)

    def take_back(self, laps: list[Lap], end: float) -> None:
        """Undo all that came after ``laps``, which end at ``end``."""
        self.laps = laps
        self.stops = [stop for stop in self.stops if stop.exit <= end]
        self.pieces = [piece for piece in self.pieces if piece.begin < end - 1e-6]
        self.now = end

    def _cruise(self, begin: float, end: float, pace: float) -> None:
        """Follow the track, changing gradually from the pace so far."""
        profile = self.track.lap
        offset, last = profile.time_at(begin), profile.time_at(end)
        change = pace - self._pace
        if abs(change) > 0.02 and begin == 0.0:
            steps = 12
            step = min(_BLEND, 0.3 * (last - offset)) / steps
            for index in range(1, steps + 1):
                self._drive(profile, offset, offset + step, self._pace + change * index / steps)
                offset += step
        self._pace = pace
        self._drive(profile, offset, last, pace)

    def _drive(self, profile: Profile, offset: float, last: float, pace: float, shift: float = 0.0) -> None:
        seconds = (last - offset) * pace
        piece = Piece(self.now, self.now + seconds, profile, offset, pace, wing=self.wing and profile is self.track.lap)
        self.pieces.append(piece)
        self._passed.append(
            (profile.distance[min(int(offset / 0.05), len(profile.distance) - 1)] + shift, shift, piece)
        )
        self.now += seconds

    def _finish(self, lap: Lap) -> None:
        lap.end = self.now
        lap.marks = [*(self._when(mark) for mark in self.track.marks[:-1]), self.now]
        first, second = self.track.sectors
        lap.sectors = (self._when(first), self._when(second))
        lap.speeds = (self._speed(first), self._speed(second), self._speed(self.track.trap))
        self.laps.append(lap)
        self._passed = []

    def _piece_at(self, distance: float) -> tuple[float, Piece]:
        found = self._passed[0]
        for one in self._passed:
            if one[0] <= distance:
                found = one
        return found[1], found[2]

    def _when(self, distance: float) -> float:
        shift, piece = self._piece_at(distance)
        moment = piece.begin + (piece.profile.time_at(distance - shift) - piece.offset) * piece.pace
        return max(piece.begin, min(moment, piece.end))

    def _speed(self, distance: float) -> int:
        shift, piece = self._piece_at(distance)
        return round(piece.profile.speed_at(distance - shift) / piece.pace * 3.6)
