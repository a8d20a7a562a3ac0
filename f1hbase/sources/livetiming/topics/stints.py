"""Stints: `TimingAppData` says when there is a new set of tyres, `TimingData` how many laps a driver has driven."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar

from f1hbase.model.samples import Record
from f1hbase.sources.livetiming.messages import Message, SessionContext, numbered

LATE = timedelta(seconds=10)
"""The count of laps may come so long before the new stint that it does not belong to the old one any more."""


@dataclass(slots=True)
class _Stint:
    number: int
    lap_start: int
    lap_end: int
    compound: str | None = None
    tyre_age: int | None = None
    counted_at: datetime | None = None

    @property
    def values(self) -> tuple[Any, ...]:
        """What its record says."""
        return self.lap_start, self.lap_end, self.compound, self.tyre_age


class Stints:
    """Makes `stints`, again for a stint that goes on."""

    endpoint: ClassVar[str] = "stints"
    topics: ClassVar[frozenset[str]] = frozenset({"TimingAppData", "TimingData"})
    dated: ClassVar[bool] = False
    fields: ClassVar[frozenset[str]] = frozenset(
        {
            "meeting_key", "session_key", "driver_number", "stint_number", "compound", "lap_end", "lap_start",
            "tyre_age_at_start",
        }
    )  # fmt: skip

    def __init__(self, session: SessionContext) -> None:
        self._session = session
        self._stints: dict[int, dict[int, _Stint]] = {}
        self._given: dict[tuple[int, int], tuple[Any, ...]] = {}

    def take(self, message: Message) -> Iterator[Record]:
        """Yield the record of each stint that a message changes."""
        if "Lines" not in message.content:
            return
        for number, line in numbered(message.content["Lines"]):
            stints = self._stints.setdefault(number, {})
            if message.topic == "TimingAppData":
                self._tyres(stints, line.get("Stints"), message.moment)
            else:
                if not stints:
                    self._add(stints, 1, message.moment)
                if "NumberOfLaps" in line:
                    last = stints[max(stints)]
                    last.counted_at = None if message.baseline else message.moment
                    if isinstance(line["NumberOfLaps"], int):
                        last.lap_end = line["NumberOfLaps"]
            yield from self._changed(number, stints)

    def end(self) -> Sequence[Record]:
        """Return nothing."""
        return ()

    def _tyres(self, stints: dict[int, _Stint], entries: Any, moment: datetime) -> None:
        if isinstance(entries, list):
            several = list(enumerate(entries))
        elif isinstance(entries, dict):
            several = sorted((int(key), entry) for key, entry in entries.items() if key.isdecimal())
        else:
            return
        for index, entry in several:
            if index + 1 not in stints:
                self._add(stints, index + 1, moment)
            if not isinstance(entry, dict):
                continue
            stint = stints[index + 1]
            stint.compound = entry.get("Compound", stint.compound)
            if stint.tyre_age is None:
                stint.tyre_age = entry.get("TotalLaps")

    @staticmethod
    def _add(stints: dict[int, _Stint], number: int, moment: datetime) -> None:
        last = stints[max(stints)] if stints else None
        if last is not None and last.counted_at is not None and moment - last.counted_at < LATE:
            last.lap_end -= 1
        begin = 1 if last is None else last.lap_end + 1
        stints[number] = _Stint(number, begin, begin)

    def _changed(self, number: int, stints: dict[int, _Stint]) -> Iterator[Record]:
        for stint in stints.values():
            key = number, stint.number
            new = (stint.lap_start, stint.lap_start, None, None)
            if stint.values == self._given.get(key, new):
                continue
            self._given[key] = stint.values
            yield {
                **self._session.keys,
                "driver_number": number,
                "stint_number": stint.number,
                "lap_start": stint.lap_start,
                "lap_end": stint.lap_end,
                "compound": stint.compound,
                "tyre_age_at_start": stint.tyre_age,
            }
