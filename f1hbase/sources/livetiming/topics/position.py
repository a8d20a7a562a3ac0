"""The order of the drivers: `TimingData` says each driver's line on the timing screen when it changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from f1hbase.model.samples import Record
from f1hbase.sources.livetiming.messages import Message, SessionContext, numbered
from f1hbase.sources.livetiming.spelling import spelled, whole


class Position:
    """Makes `position`."""

    endpoint: ClassVar[str] = "position"
    topics: ClassVar[frozenset[str]] = frozenset({"TimingData"})
    dated: ClassVar[bool] = True
    fields: ClassVar[frozenset[str]] = frozenset({"meeting_key", "session_key", "driver_number", "date", "position"})

    def __init__(self, session: SessionContext) -> None:
        self._session = session

    def take(self, message: Message) -> Iterator[Record]:
        """Yield a record for each driver whose line a message says."""
        if message.baseline or "Lines" not in message.content:
            return
        date = spelled(message.moment)
        for number, line in numbered(message.content["Lines"]):
            position = whole(line.get("Line"))
            if position is not None:
                yield {**self._session.keys, "driver_number": number, "date": date, "position": position}

    def end(self) -> Sequence[Record]:
        """Return nothing."""
        return ()
