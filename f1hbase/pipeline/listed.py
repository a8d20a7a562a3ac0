"""The records of meetings and sessions, which come with the plan and need not be asked for again."""

from __future__ import annotations

from collections.abc import Mapping

from f1hbase.model.answers import Answer, RawAnswer
from f1hbase.model.plans import MeetingPlan
from f1hbase.model.units import Unit


def listed_answer(meeting: MeetingPlan, unit: Unit, source: str, listing: Mapping[str, RawAnswer]) -> Answer | None:
    """Return the answer to a unit of meetings or sessions; None if it is one of another endpoint.

    Args:
        meeting: The plan, with the records.
        unit: What is to be loaded.
        source: The name of the source.
        listing: The answers that the plan was made from, by endpoint, where they are kept.
    """
    select: dict[str, int] = {}
    if unit.endpoint == "meetings":
        records = [] if meeting.record is None else [meeting.record]
        select = {"meeting_key": meeting.scope.meeting_key}
    elif unit.endpoint == "sessions":
        records = [session.record for session in meeting.sessions if session.scope == unit.scope]
        select = {"session_key": unit.scope.session_key or 0}
    else:
        return None
    raw = listing.get(unit.endpoint)
    return Answer(unit, meeting.asked_at, source, [records] if records else (), raw, select)
