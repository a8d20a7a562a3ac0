"""The championships as they would stand if the race ended now, from `ChampionshipPrediction`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from f1hbase.model.samples import Record
from f1hbase.sources.livetiming.messages import Message, SessionContext
from f1hbase.sources.livetiming.patch import merged
from f1hbase.sources.livetiming.spelling import number, whole

_FIELDS = frozenset(
    {"meeting_key", "session_key", "position_start", "position_current", "points_start", "points_current"}
)


class _Championship:
    """Keeps the state of each competitor and gives its record when it has changed."""

    part: ClassVar[str]

    def __init__(self, session: SessionContext) -> None:
        self._session = session
        self._state: dict[str, dict[str, Any]] = {}

    def take(self, message: Message) -> Iterator[Record]:
        """Yield the record of each competitor that a message changes."""
        for name, entry in message.content.get(self.part, {}).items():
            if not isinstance(entry, dict):
                continue
            state = self._state[name] = merged(self._state.get(name, {}), entry)
            who = self._who(name, state)
            if who:
                yield {
                    **self._session.keys,
                    **who,
                    "position_start": _position(state.get("CurrentPosition")),
                    "position_current": _position(state.get("PredictedPosition")),
                    "points_start": number(state.get("CurrentPoints")),
                    "points_current": number(state.get("PredictedPoints")),
                }

    def end(self) -> Sequence[Record]:
        """Return nothing."""
        return ()

    def _who(self, name: str, state: dict[str, Any]) -> Record:
        raise NotImplementedError


class ChampionshipDrivers(_Championship):
    """Makes `championship_drivers`."""

    endpoint: ClassVar[str] = "championship_drivers"
    topics: ClassVar[frozenset[str]] = frozenset({"ChampionshipPrediction"})
    dated: ClassVar[bool] = False
    fields: ClassVar[frozenset[str]] = _FIELDS | {"driver_number"}
    part = "Drivers"

    def _who(self, name: str, state: dict[str, Any]) -> Record:
        return {"driver_number": int(name)} if name.isascii() and name.isdecimal() else {}


class ChampionshipTeams(_Championship):
    """Makes `championship_teams`; F1 keys a team by its name with the engine's, and calls it by the one without."""

    endpoint: ClassVar[str] = "championship_teams"
    topics: ClassVar[frozenset[str]] = frozenset({"ChampionshipPrediction"})
    dated: ClassVar[bool] = False
    fields: ClassVar[frozenset[str]] = _FIELDS | {"team_name"}
    part = "Teams"

    def _who(self, name: str, state: dict[str, Any]) -> Record:
        return {"team_name": str(state.get("TeamName") or name)}


def _position(value: Any) -> int | None:
    position = whole(value)
    return position if position is not None and position > 0 else None
