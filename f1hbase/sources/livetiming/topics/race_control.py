"""Messages of race control, and when the session starts and stops: `RaceControlMessages` and `SessionData`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from f1hbase.model.samples import Record
from f1hbase.sources.livetiming.messages import Message, SessionContext, items
from f1hbase.sources.livetiming.spelling import spelled_utc, whole

_PHASED = frozenset({"Flag", "CarEvent", "SafetyCar"})
"""The categories whose messages belong to a part of qualifying."""

_UNTOLD = frozenset({"Inactive", "Finalised", "Ends"})
"""States of a session that OpenF1 makes no record of."""


class RaceControl:
    """Makes `race_control`; each message carries its own time."""

    endpoint: ClassVar[str] = "race_control"
    topics: ClassVar[frozenset[str]] = frozenset({"RaceControlMessages", "SessionData"})
    dated: ClassVar[bool] = False
    fields: ClassVar[frozenset[str]] = frozenset(
        {
            "meeting_key", "session_key", "date", "category", "driver_number", "flag", "lap_number", "message",
            "qualifying_phase", "scope", "sector",
        }
    )  # fmt: skip

    def __init__(self, session: SessionContext) -> None:
        self._session = session
        self._lap: int | None = None
        self._phase: int | None = None
        self._series: list[tuple[str, int | None, int | None]] = []

    def take(self, message: Message) -> Iterator[Record]:
        """Yield a record for each message of race control and each change of the session's state."""
        if message.topic == "RaceControlMessages":
            for entry in items(message.content.get("Messages", [])):
                date = spelled_utc(entry["Utc"])
                _, phase = self._at(date, message)
                phase = phase if entry.get("Category") in _PHASED else None
                yield self._record(
                    date=date,
                    driver_number=whole(entry.get("RacingNumber")),
                    lap_number=entry.get("Lap"),
                    category=entry.get("Category"),
                    flag=entry.get("Flag"),
                    scope=entry.get("Scope"),
                    sector=entry.get("Sector"),
                    message=entry.get("Message"),
                    qualifying_phase=phase,
                )
            return
        for entry in items(message.content.get("Series", [])):
            self._lap = whole(entry.get("Lap", self._lap))
            self._phase = whole(entry.get("QualifyingPart", self._phase))
            if message.baseline and isinstance(entry.get("Utc"), str):
                self._series.append((spelled_utc(entry["Utc"]), self._lap, self._phase))
        for entry in items(message.content.get("StatusSeries", [])):
            status = entry.get("SessionStatus")
            if isinstance(status, str) and status not in _UNTOLD:
                date = spelled_utc(entry["Utc"])
                lap, phase = self._at(date, message)
                yield self._record(
                    date=date,
                    lap_number=lap,
                    category="SessionStatus",
                    message=f"SESSION {status.upper()}",
                    qualifying_phase=phase,
                )

    def end(self) -> Sequence[Record]:
        """Return nothing."""
        return ()

    def _at(self, date: str, message: Message) -> tuple[int | None, int | None]:
        """Return the lap and the part of qualifying in which something was said.

        They are the present ones, but for a message of the past that comes in a whole state.
        """
        if not message.baseline:
            return self._lap, self._phase
        return next(((lap, phase) for when, lap, phase in reversed(self._series) if when <= date), (None, None))

    def _record(self, **values: Any) -> Record:
        nothing = dict.fromkeys(sorted(self.fields - {"meeting_key", "session_key"}))
        return {**self._session.keys, **nothing, **values}
