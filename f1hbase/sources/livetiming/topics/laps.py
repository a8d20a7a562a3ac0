"""Laps, put together from what `TimingData` says of a driver while he drives them.

What belongs to a lap's end (its time, its last sectors) may come after the next one has begun; what comes within
`LATE` of that goes to the lap before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar

from f1hbase.model.samples import Record
from f1hbase.sources.livetiming.messages import Message, SessionContext, items, numbered
from f1hbase.sources.livetiming.spelling import number as decimal
from f1hbase.sources.livetiming.spelling import seconds_of, spelled, whole

LATE = timedelta(seconds=10)
_CHEQUERED_FLAG = "CHEQUERED FLAG"
_SPEEDS = {"I1": "i1_speed", "I2": "i2_speed", "ST": "st_speed"}
_MOST_SEGMENTS = 100
"""An index beyond this is a mistake; the longest sector known has 13 segments."""


@dataclass(slots=True, eq=False)
class _Lap:
    number: int
    start: datetime | None = None
    duration: float | None = None
    sectors: dict[int, float] = field(default_factory=dict)
    segments: dict[int, list[int | None]] = field(default_factory=dict)
    speeds: dict[str, int] = field(default_factory=dict)
    is_pit_out: bool = False
    is_timed_from_start: bool = False


class Laps:
    """Makes `laps`, again for a lap that goes on."""

    endpoint: ClassVar[str] = "laps"
    topics: ClassVar[frozenset[str]] = frozenset(
        {"LapCount", "RaceControlMessages", "SessionStatus", "TimingAppData", "TimingData"}
    )
    dated: ClassVar[bool] = True
    fields: ClassVar[frozenset[str]] = frozenset(
        {
            "meeting_key", "session_key", "driver_number", "lap_number", "date_start", "duration_sector_1",
            "duration_sector_2", "duration_sector_3", "i1_speed", "i2_speed", "is_pit_out_lap", "lap_duration",
            "segments_sector_1", "segments_sector_2", "segments_sector_3", "st_speed",
        }
    )  # fmt: skip

    def __init__(self, session: SessionContext) -> None:
        self._session = session
        self._counts = False
        self._started_at: datetime | None = None
        self._flag_at: datetime | None = None
        self._most_laps: int | None = None
        self._laps: dict[int, list[_Lap]] = {}
        self._given: dict[tuple[int, int], Record] = {}

    def take(self, message: Message) -> Iterator[Record]:
        """Yield the record of each lap that a message changes."""
        content = message.content
        if message.topic == "TimingData":
            if self._counts and "Lines" in content and not message.baseline:
                for number, line in numbered(content["Lines"]):
                    self._line(number, line, message.moment)
                    yield from self._changed(number)
        elif message.topic == "TimingAppData":
            self._counts |= any(line.get("Stints") for _, line in numbered(content.get("Lines", {})))
        elif message.topic == "LapCount":
            self._most_laps = whole(content.get("TotalLaps", self._most_laps))
        elif message.topic == "SessionStatus":
            yield from self._started(message)
        else:
            said = [str(entry.get("Message", "")).upper() for entry in items(content.get("Messages", []))]
            if _CHEQUERED_FLAG in said and self._session.is_race:
                self._flag_at = message.moment

    def end(self) -> Sequence[Record]:
        """Return nothing."""
        return ()

    def _started(self, message: Message) -> Iterator[Record]:
        if message.content.get("Status") != "Started" or message.baseline or self._started_at is not None:
            return
        self._started_at = message.moment
        if self._session.is_race:
            for number, laps in self._laps.items():
                if laps[0].number == 1 and len(laps) == 1:
                    laps[0].start = message.moment
                    yield from self._changed(number)

    def _line(self, number: int, line: dict[str, Any], moment: datetime) -> None:
        """Take what a message says of one driver."""
        laps = self._laps.get(number)
        if laps is None:
            laps = self._laps[number] = [_Lap(1, self._started_at if self._session.is_race else None)]
        last = line.get("LastLapTime")
        duration = seconds_of(last.get("Value")) if isinstance(last, dict) else None
        ended = _ended(laps, moment)
        if duration is not None and ended is not None:
            ended.duration = duration
        sectors = line.get("Sectors")
        if isinstance(sectors, dict):  # a list is a whole state
            for index, sector in numbered(sectors):
                lap = laps[-1] if index == 0 else ended
                if lap is not None:
                    _sector(lap, index + 1, sector)
        speeds = line.get("Speeds")
        if isinstance(speeds, dict):
            for label, entry in speeds.items():
                speed = whole(entry.get("Value")) if isinstance(entry, dict) else None
                if label in _SPEEDS and speed is not None:
                    laps[-1].speeds[label] = speed
        if isinstance(line.get("NumberOfLaps"), int):
            self._count(laps, line["NumberOfLaps"], moment)
        if line.get("PitOut") is not None:
            laps[-1].is_pit_out = True

    def _count(self, laps: list[_Lap], count: int, moment: datetime) -> None:
        """Open the lap that a count of laps is the number of; in races the count is of laps completed."""
        number = count + 1 if self._session.is_race else count
        if number > laps[-1].number:
            laps.append(_Lap(number))
        if laps[-1].start is None:
            laps[-1].start = moment
        if self._session.is_race and number == 2 and len(laps) == 2 and laps[0].start is not None:
            # Nothing times the first lap of a race, which has no line to begin at.
            laps[0].duration = round((moment - laps[0].start).total_seconds(), 3)
            laps[0].is_timed_from_start = True

    def _changed(self, number: int) -> Iterator[Record]:
        for lap in self._laps[number][-2:]:
            if self._is_after_the_end(lap):
                continue
            record = self._record(number, lap)
            key = number, lap.number
            # The status of a segment is given with the next other change: what is last said of a lap's segments is that
            # they are reset for the next one. The first status of a sector is such a change.
            told = _told(record)
            if told != self._given.get(key, _told(self._record(number, _Lap(lap.number)))):
                self._given[key] = told
                yield record

    def _is_after_the_end(self, lap: _Lap) -> bool:
        if not self._session.is_race:
            return False
        if self._most_laps is not None and lap.number > self._most_laps:
            return True
        return self._flag_at is not None and lap.start is not None and self._flag_at < lap.start

    def _record(self, number: int, lap: _Lap) -> Record:
        sectors = dict(lap.sectors)
        duration = lap.duration
        if lap.is_timed_from_start and duration and 1 not in sectors and {2, 3} <= sectors.keys():
            sectors[1] = round(duration - sectors[2] - sectors[3], 3)
        if not duration and len(sectors) == 3 and all(sectors.values()):
            duration = round(sum(sectors.values()), 3)
        return {
            **self._session.keys,
            "driver_number": number,
            "lap_number": lap.number,
            "date_start": None if lap.start is None else spelled(lap.start),
            **{f"duration_sector_{n}": sectors.get(n) for n in (1, 2, 3)},
            **{field: lap.speeds.get(label) for label, field in _SPEEDS.items()},
            "is_pit_out_lap": lap.is_pit_out,
            "lap_duration": duration,
            **{f"segments_sector_{n}": list(s) if (s := lap.segments.get(n)) else None for n in (1, 2, 3)},
        }


def _told(record: Record) -> Record:
    return {name: bool(value) if name.startswith("segments_") else value for name, value in record.items()}


def _ended(laps: list[_Lap], moment: datetime) -> _Lap | None:
    """Return the lap to which what belongs to a lap's end goes; None for what comes before any has ended."""
    current = laps[-1]
    if current.start is not None and moment - current.start < LATE:
        return laps[-2] if len(laps) > 1 else None
    return current


def _sector(lap: _Lap, number: int, sector: dict[str, Any]) -> None:
    duration = decimal(sector.get("Value"))
    if duration is not None:
        lap.sectors[number] = duration
    segments = sector.get("Segments")
    if isinstance(segments, dict):  # a list is a whole state
        for index, segment in numbered(segments):
            if index >= _MOST_SEGMENTS:
                raise ValueError(f"segment {index} of a sector")
            statuses = lap.segments.setdefault(number, [])
            statuses.extend([None] * (index + 1 - len(statuses)))
            statuses[index] = whole(segment.get("Status"))
