"""Pit stops, from the best of three topics that has one.

`PitStop` and `PitStopSeries` know how long the car stood; `PitLaneTimeCollection`, which alone is sent without a token,
how long it was in the pit lane. A stop is one by its driver and lap, and a worse topic never overwrites a better one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from f1hbase.model.samples import Record
from f1hbase.sources.livetiming.messages import Message, SessionContext, items, numbered
from f1hbase.sources.livetiming.patch import merged
from f1hbase.sources.livetiming.spelling import number as decimal
from f1hbase.sources.livetiming.spelling import spelled, spelled_utc, whole

_BEST_FIRST = ("PitStop", "PitStopSeries", "PitLaneTimeCollection")


class Pit:
    """Makes `pit`."""

    endpoint: ClassVar[str] = "pit"
    topics: ClassVar[frozenset[str]] = frozenset(_BEST_FIRST)
    dated: ClassVar[bool] = True
    fields: ClassVar[frozenset[str]] = frozenset(
        {
            "meeting_key", "session_key", "driver_number", "lap_number", "date", "lane_duration", "pit_duration",
            "stop_duration",
        }
    )  # fmt: skip

    def __init__(self, session: SessionContext) -> None:
        self._session = session
        self._stop: dict[str, Any] = {}
        self._lanes: dict[int, dict[str, Any]] = {}
        self._rank: dict[tuple[int, int], int] = {}

    def take(self, message: Message) -> Iterator[Record]:
        """Yield the stops that a message says, but for those that a better topic has said."""
        rank = _BEST_FIRST.index(message.topic)
        for record in self._stops(message):
            stop = record["driver_number"], record["lap_number"]
            if rank <= self._rank.get(stop, len(_BEST_FIRST)):
                self._rank[stop] = rank
                yield record

    def end(self) -> Sequence[Record]:
        """Return nothing."""
        return ()

    def _stops(self, message: Message) -> Iterator[Record]:
        content = message.content
        if message.topic == "PitStop":
            # A merge patch of one stop: what is as in the stop before is left out.
            self._stop = merged(self._stop, content)
            yield from self._of(whole(self._stop.get("RacingNumber")), self._stop, spelled(message.moment))
        elif message.topic == "PitStopSeries":
            for number, stops in _by_driver(content):
                for entry in items(stops):
                    if isinstance(entry.get("PitStop"), dict) and "Timestamp" in entry:
                        yield from self._of(number, entry["PitStop"], spelled_utc(entry["Timestamp"]))
        else:
            for number, entry in numbered(content.get("PitTimes", {})):
                state = self._lanes[number] = merged(self._lanes.get(number, {}), entry)
                if "Duration" in entry and not message.baseline:
                    lane = {"PitLaneTime": state["Duration"], "Lap": state.get("Lap")}
                    yield from self._of(number, lane, spelled(message.moment))

    def _of(self, number: int | None, stop: dict[str, Any], date: str) -> Iterator[Record]:
        lap = whole(stop.get("Lap"))
        if number is None or lap is None:
            return
        lane = decimal(stop.get("PitLaneTime"))
        yield {
            **self._session.keys,
            "driver_number": number,
            "lap_number": lap,
            "date": date,
            "lane_duration": lane,
            "pit_duration": lane,
            "stop_duration": decimal(stop.get("PitStopTime")),
        }


def _by_driver(content: dict[str, Any]) -> Iterator[tuple[int, Any]]:
    for number, stops in content.get("PitTimes", {}).items():
        if number.isascii() and number.isdecimal() and isinstance(stops, list | dict):
            yield int(number), stops
