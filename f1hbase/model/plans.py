"""What is to be loaded: the requested scope, and the meetings and sessions it turns out to be."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol

from f1hbase.model.answers import Listing
from f1hbase.model.catalog import ALL_ENDPOINTS
from f1hbase.model.samples import Record
from f1hbase.model.units import Scope

LATEST_SESSIONS = 10
"""How many sessions the mode `latest` means unless told otherwise."""


class Place(Protocol):
    """A session, or a meeting as such, by its keys."""

    @property
    def year(self) -> int | None:
        """The season."""

    @property
    def meeting_key(self) -> int | None:
        """The meeting."""

    @property
    def session_key(self) -> int | None:
        """The session; None for the meeting as such."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The requested scope: which sessions, which endpoints, which drivers; nothing named means all.

    Attributes:
        mode: `all`, `latest`, `year` or `manual`.
        num_sessions: With the mode `latest`, how many sessions; None for the default.
        year, date, meeting_key, session_key: Those that are named; a date is the UTC day of a session's beginning.
        endpoints: The endpoints, in the catalogue's order; of those a load takes what its source has.
        drivers: The drivers, each once, in order.
    """

    mode: str = "all"
    num_sessions: int | None = None
    year: tuple[int, ...] = ()
    date: tuple[date, ...] = ()
    meeting_key: tuple[int, ...] = ()
    session_key: tuple[int, ...] = ()
    endpoints: tuple[str, ...] = tuple(ALL_ENDPOINTS)
    drivers: tuple[int, ...] = ()

    @property
    def latest_sessions(self) -> int:
        """How many sessions the mode `latest` means."""
        return LATEST_SESSIONS if self.num_sessions is None else self.num_sessions

    def chooses(self, place: Place) -> bool:
        """Return whether `year`, `meeting_key` and `session_key` name a place; those not given name all."""
        return (
            (not self.year or place.year in self.year)
            and (not self.meeting_key or place.meeting_key in self.meeting_key)
            and (not self.session_key or place.session_key in self.session_key)
        )

    def unmet(self, places: Collection[Place]) -> list[str]:
        """Return which of these options name none of the places, such as `--year 2031`."""
        asked = {
            "--session-key": set(self.session_key).difference(place.session_key for place in places),
            "--meeting-key": set(self.meeting_key).difference(place.meeting_key for place in places),
            "--year": set(self.year).difference(place.year for place in places),
        }
        return [f"{option} {key}" for option, keys in asked.items() for key in sorted(keys)]

    @property
    def is_everything(self) -> bool:
        """Whether no year, meeting or session is named."""
        return not (self.year or self.meeting_key or self.session_key)


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """A session to load, with the record that the plan was made from, so that it need not be asked for again."""

    scope: Scope
    record: Record


@dataclass(frozen=True, slots=True)
class MeetingPlan:
    """A meeting to load, one process's work: the sessions asked for, and the meeting's own record.

    Attributes:
        record: None where the source has no such meeting although it has the sessions.
        asked_at: When the records were asked for.
        sessions_to_settle: Sessions that were not asked for, of which only what is due again is loaded.
    """

    scope: Scope
    record: Record | None
    sessions: Sequence[SessionPlan]
    asked_at: datetime
    sessions_to_settle: frozenset[int] = frozenset()

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """The meeting as such and its sessions."""
        return (self.scope, *(session.scope for session in self.sessions))


@dataclass(frozen=True, slots=True)
class Plan:
    """What a load means.

    Attributes:
        meetings: In order of time, each with those of its sessions that are meant.
        unusable: The records of sessions that cannot be loaded, whether they were asked for or not, with the reason.
        listing: What the source said of sessions and meetings.
    """

    meetings: Sequence[MeetingPlan]
    unusable: Sequence[tuple[object, str]]
    listing: Listing

    @property
    def session_count(self) -> int:
        """How many sessions there are."""
        return sum(len(meeting.sessions) for meeting in self.meetings)
