"""The order at the end of a session, and the grid: from the merged state of `TimingData` and `TimingAppData`.

They are the timing screen's, not the stewards': no points, no disqualifications, no later penalties.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from f1hbase.model.samples import Record
from f1hbase.sources.livetiming.messages import Message, SessionContext, numbered
from f1hbase.sources.livetiming.patch import merged
from f1hbase.sources.livetiming.spelling import seconds_of, whole

_LAPPED = re.compile(r"\+?(\d+) ?L(?:APS?)?", re.ASCII | re.IGNORECASE)
_SCREEN_FIELDS = (
    "Line", "Position", "GapToLeader", "TimeDiffToFastest", "Stats", "NumberOfLaps", "BestLapTime", "BestLapTimes",
)  # fmt: skip


class _Screen:
    """The merged state of what the timing screen says of each driver."""

    def __init__(self) -> None:
        self.lines: dict[int, dict[str, Any]] = {}

    def take(self, message: Message) -> None:
        """Merge a message."""
        for number, line in numbered(message.content.get("Lines", {})):
            known = {name: line[name] for name in _SCREEN_FIELDS if name in line}
            self.lines[number] = merged(self.lines.get(number, {}), known)

    def best(self, number: int) -> list[float | None]:
        """Return the best lap of each part of qualifying in seconds; an empty list where there are no parts."""
        best = self.lines.get(number, {}).get("BestLapTimes")
        if not isinstance(best, list):
            return []
        return [seconds_of(part.get("Value")) if isinstance(part, dict) else None for part in best]


class SessionResult:
    """Makes `session_result` when the session has ended."""

    endpoint: ClassVar[str] = "session_result"
    topics: ClassVar[frozenset[str]] = frozenset({"TimingData"})
    dated: ClassVar[bool] = False
    fields: ClassVar[frozenset[str]] = frozenset(
        {"meeting_key", "session_key", "driver_number", "duration", "gap_to_leader", "number_of_laps", "position"}
    )

    def __init__(self, session: SessionContext) -> None:
        self._session = session
        self._screen = _Screen()

    def take(self, message: Message) -> Iterator[Record]:
        """Keep the state; there is no result before the end."""
        self._screen.take(message)
        return iter(())

    def end(self) -> Sequence[Record]:
        """Return the order as the timing screen has it."""
        records: list[Record] = []
        for number, line in self._screen.lines.items():
            position = whole(line.get("Position")) or whole(line.get("Line"))
            records.append(
                {
                    **self._session.keys,
                    "driver_number": number,
                    "position": position,
                    "number_of_laps": whole(line.get("NumberOfLaps")),
                    **self._times(number, line),
                }
            )
        return sorted(records, key=lambda record: record["position"] or len(records))

    def _times(self, number: int, line: dict[str, Any]) -> Record:
        """Return duration and gap: of a race the gap alone, of qualifying a list with one for each part."""
        if self._session.is_race:
            is_first = whole(line.get("Position")) == 1
            return {"gap_to_leader": 0.0 if is_first else _gap(line.get("GapToLeader"))}
        parts = self._screen.best(number)
        if self._session.kind.lower() == "qualifying" and parts:
            leads = [self._fastest(part) for part in range(len(parts))]
            gaps = [
                None if mine is None or lead is None else round(mine - lead, 3)
                for mine, lead in zip(parts, leads, strict=True)
            ]
            return {"duration": parts, "gap_to_leader": gaps}
        best = line.get("BestLapTime")
        duration = seconds_of(best.get("Value")) if isinstance(best, dict) else None
        fastest = [
            seconds
            for other in self._screen.lines.values()
            if isinstance(other.get("BestLapTime"), dict)
            and (seconds := seconds_of(other["BestLapTime"].get("Value"))) is not None
        ]
        gap = None if duration is None else round(duration - min(fastest), 3)
        return {"duration": duration, "gap_to_leader": gap}

    def _fastest(self, part: int) -> float | None:
        times = [
            best[part]
            for number in self._screen.lines
            if len(best := self._screen.best(number)) > part and best[part] is not None
        ]
        return min((seconds for seconds in times if seconds is not None), default=None)


class StartingGrid:
    """Makes `starting_grid` of a qualifying session: best laps from it, the grid from the race after it.

    The messages of the race come with the topic `TimingAppData`, those of the qualifying with `TimingData`.
    """

    endpoint: ClassVar[str] = "starting_grid"
    topics: ClassVar[frozenset[str]] = frozenset({"TimingAppData", "TimingData"})
    dated: ClassVar[bool] = False
    fields: ClassVar[frozenset[str]] = frozenset(
        {"meeting_key", "session_key", "driver_number", "lap_duration", "position"}
    )

    def __init__(self, session: SessionContext) -> None:
        self._session = session
        self._screen = _Screen()
        self._grid: dict[int, int] = {}

    def take(self, message: Message) -> Iterator[Record]:
        """Keep the state; the grid is complete at the end."""
        if message.topic == "TimingData":
            self._screen.take(message)
        else:
            for number, line in numbered(message.content.get("Lines", {})):
                place = whole(line.get("GridPos"))
                if place is not None:
                    self._grid[number] = place
        return iter(())

    def end(self) -> Sequence[Record]:
        """Return who starts where, and the lap that each one drove for it."""
        return [
            {
                **self._session.keys,
                "driver_number": number,
                "position": place,
                "lap_duration": next((best for best in reversed(self._screen.best(number)) if best is not None), None),
            }
            for number, place in sorted(self._grid.items(), key=lambda item: item[1])
        ]


def _gap(text: Any) -> float | str | None:
    """Return the gap of a race's end: seconds, 0 for the leader (who has `LAP n`), or `+1 LAP`."""
    if not isinstance(text, str) or not text:
        return None
    if text.upper().startswith("LAP"):
        return 0.0
    match = _LAPPED.fullmatch(text)
    if match is not None:
        return f"+{match[1]} LAP{'' if match[1] == '1' else 'S'}"
    return seconds_of(text.removeprefix("+"))
