"""Gaps and overtakes of a race, from `DriverRaceInfo`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from f1hbase.model.samples import Record
from f1hbase.sources.livetiming.messages import Message, SessionContext, numbered
from f1hbase.sources.livetiming.spelling import seconds_of, spelled, whole

_LAPPED = re.compile(r"\+?\d+ ?L(APS?)?", re.ASCII | re.IGNORECASE)
_OVERTAKES = 2
"""The `OvertakeState` of a driver who has just overtaken."""

_KEYS = frozenset({"meeting_key", "session_key", "date"})


def gap_of(text: Any) -> float | str | None:
    """Return a gap as OpenF1 spells it: seconds, the text `+1 LAP`, or None.

    >>> [gap_of(text) for text in ("LAP 3", "+0.061", "+1:02.500", "+1 LAP", "")]
    [0.0, 0.061, 62.5, '+1 LAP', None]
    """
    if not isinstance(text, str) or not text:
        return None
    if text.upper().startswith("LAP"):
        return 0.0
    seconds = seconds_of(text.removeprefix("+"))
    if seconds is not None:
        return seconds
    return text if _LAPPED.fullmatch(text) else None


class Intervals:
    """Makes `intervals`."""

    endpoint: ClassVar[str] = "intervals"
    topics: ClassVar[frozenset[str]] = frozenset({"DriverRaceInfo"})
    dated: ClassVar[bool] = True
    fields: ClassVar[frozenset[str]] = _KEYS | {"driver_number", "gap_to_leader", "interval"}

    def __init__(self, session: SessionContext) -> None:
        self._session = session
        self._last_gap: dict[int, float | str | None] = {}

    def take(self, message: Message) -> Iterator[Record]:
        """Yield a record for each driver of whom a message says a gap.

        A driver who is laps behind keeps that gap until there is another one.
        """
        for number, line in numbered(message.content):
            gap, interval = gap_of(line.get("Gap")), gap_of(line.get("Interval"))
            if gap is None and interval is None:
                continue
            if gap is None and isinstance(self._last_gap.get(number), str):
                gap = self._last_gap[number]
            self._last_gap[number] = gap
            if not message.baseline:
                yield {
                    **self._session.keys,
                    "driver_number": number,
                    "date": spelled(message.moment),
                    "gap_to_leader": gap,
                    "interval": interval,
                }

    def end(self) -> Sequence[Record]:
        """Return nothing."""
        return ()


class Overtakes:
    """Makes `overtakes`."""

    endpoint: ClassVar[str] = "overtakes"
    topics: ClassVar[frozenset[str]] = frozenset({"DriverRaceInfo"})
    dated: ClassVar[bool] = True
    fields: ClassVar[frozenset[str]] = _KEYS | {"overtaking_driver_number", "overtaken_driver_number", "position"}

    def __init__(self, session: SessionContext) -> None:
        self._session = session

    def take(self, message: Message) -> Iterator[Record]:
        """Yield a record for each driver who has lost a position to the one who overtakes."""
        if message.baseline:
            return
        lines = dict(numbered(message.content))
        overtaking = next((number for number, line in lines.items() if line.get("OvertakeState") == _OVERTAKES), None)
        if overtaking is None:
            return
        for number, line in lines.items():
            position = whole(line.get("Position"))
            if line.get("OvertakeState") != _OVERTAKES and position is not None:
                yield {
                    **self._session.keys,
                    "date": spelled(message.moment),
                    "overtaking_driver_number": overtaking,
                    "overtaken_driver_number": number,
                    "position": position - 1,  # what the overtaken one had
                }

    def end(self) -> Sequence[Record]:
        """Return nothing."""
        return ()
