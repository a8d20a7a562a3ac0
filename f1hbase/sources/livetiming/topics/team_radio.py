"""The addresses of recordings of the team radio, from `TeamRadio`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from f1hbase.model.samples import Record
from f1hbase.sources.livetiming.messages import STATIC_URL, Message, SessionContext, items
from f1hbase.sources.livetiming.spelling import spelled_utc


class TeamRadio:
    """Makes `team_radio`; each capture carries its own time."""

    endpoint: ClassVar[str] = "team_radio"
    topics: ClassVar[frozenset[str]] = frozenset({"TeamRadio"})
    dated: ClassVar[bool] = False
    fields: ClassVar[frozenset[str]] = frozenset(
        {"meeting_key", "session_key", "driver_number", "date", "recording_url"}
    )

    def __init__(self, session: SessionContext) -> None:
        self._session = session

    def take(self, message: Message) -> Iterator[Record]:
        """Yield a record for each capture."""
        for capture in items(message.content.get("Captures", [])):
            yield {
                **self._session.keys,
                "driver_number": int(capture["RacingNumber"]),
                "date": spelled_utc(capture["Utc"]),
                "recording_url": f"{STATIC_URL}/{self._session.path}{capture['Path']}",
            }

    def end(self) -> Sequence[Record]:
        """Return nothing."""
        return ()
