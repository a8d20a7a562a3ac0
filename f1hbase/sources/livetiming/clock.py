"""t0, the moment at which the clock of a session's files starts: a message's time is t0 and its line's offset.

OpenF1 takes the greatest difference between a telemetry record's own time and its line's offset. Five small topics
carry the time at which they were sent, so that the same difference is a constant there, to the millisecond (on two
real sessions with both): they are asked first, as telemetry is nine tenths of a session's bytes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from f1hbase.sources.livetiming.spelling import cut, utc

STAMPED = ("SessionData", "ExtrapolatedClock", "WeatherDataSeries", "PitStopSeries", "OvertakeSeries")
"""The topics whose messages carry the time at which they were sent, cheapest first."""

TELEMETRY = ("Position.z", "CarData.z")

ENOUGH_VOTES = 3
"""How many messages must agree on t0 before no more topics are asked."""

_TIME = re.compile(rb'"(?:Utc|Timestamp)":\s*"([0-9T:.\-]+Z?)"')


class Clock:
    """Finds t0 from the lines of the stamped topics: the difference that most of them have.

    >>> clock = Clock()
    >>> clock.see("ExtrapolatedClock", timedelta(seconds=2), b'{"Utc":"2025-03-16T03:07:24.618Z"}')
    >>> clock.t0
    datetime.datetime(2025, 3, 16, 3, 7, 22, 618000, tzinfo=datetime.timezone.utc)
    """

    def __init__(self) -> None:
        self._votes: Counter[datetime] = Counter()
        self._seen: set[str] = set()

    def see(self, topic: str, since: timedelta, body: bytes) -> None:
        """Take a line into account; the first of SessionData is a whole state, and has times of its past."""
        first = topic not in self._seen
        self._seen.add(topic)
        if first and topic == "SessionData":
            return
        for text in _TIME.findall(body):
            try:
                self._votes[cut(utc(text.decode("ascii")) - since)] += 1
            except (ValueError, OverflowError):
                continue

    @property
    def votes(self) -> int:
        """How many messages agree on t0."""
        return max(self._votes.values(), default=0)

    @property
    def t0(self) -> datetime | None:
        """The difference that most messages have, the earliest of equally frequent ones; None without any."""
        if not self._votes:
            return None
        most = self.votes
        return min(moment for moment, number in self._votes.items() if number == most)


def telemetry_t0(latest: Iterable[tuple[timedelta, datetime]]) -> datetime | None:
    """Return t0 from telemetry: offset and latest own time of each line; None without any."""
    return max((cut(moment - since) for since, moment in latest), default=None)


def times_in(body: bytes) -> list[Any]:
    """Return the times of a telemetry message's records, as bytes."""
    return _TIME.findall(body)
