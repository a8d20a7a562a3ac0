"""Who drives, from `DriverList`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from f1hbase.model.samples import Record
from f1hbase.sources.livetiming.messages import Message, SessionContext, numbered
from f1hbase.sources.livetiming.patch import merged

_NAMES = {
    "broadcast_name": "BroadcastName",
    "full_name": "FullName",
    "name_acronym": "Tla",
    "team_name": "TeamName",
    "team_colour": "TeamColour",
    "first_name": "FirstName",
    "last_name": "LastName",
    "headshot_url": "HeadshotUrl",
    "country_code": "CountryCode",
}


class Drivers:
    """Makes `drivers`, again for a driver of whom something has changed."""

    endpoint: ClassVar[str] = "drivers"
    topics: ClassVar[frozenset[str]] = frozenset({"DriverList"})
    dated: ClassVar[bool] = False
    fields: ClassVar[frozenset[str]] = frozenset({"meeting_key", "session_key", "driver_number", *_NAMES})

    def __init__(self, session: SessionContext) -> None:
        self._session = session
        self._state: dict[int, dict[str, Any]] = {}
        self._given: dict[int, Record] = {}

    def take(self, message: Message) -> Iterator[Record]:
        """Yield the record of each driver with a name whose record a message changes."""
        for number, entry in numbered(message.content):
            state = self._state[number] = merged(self._state.get(number, {}), entry)
            if not state.get("FullName"):
                continue
            record = {
                **self._session.keys,
                "driver_number": number,
                **{field: state.get(name) for field, name in _NAMES.items()},
            }
            if record != self._given.get(number):
                self._given[number] = record
                yield record

    def end(self) -> Sequence[Record]:
        """Return nothing."""
        return ()
