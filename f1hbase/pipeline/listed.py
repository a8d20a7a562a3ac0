"""What comes with the plan and is not asked for again: records of meetings and sessions, or of seasons and races."""

from __future__ import annotations

from collections.abc import Mapping

from f1hbase.model.answers import Answer, RawAnswer
from f1hbase.model.plans import MeetingPlan
from f1hbase.model.samples import Record
from f1hbase.model.units import Unit


def listed_answer(meeting: MeetingPlan, unit: Unit, source: str, listing: Mapping[str, RawAnswer]) -> Answer | None:
    """Return the answer to a unit of what the plan was made of; None if it is one of another endpoint.

    Args:
        meeting: The plan, with the records.
        unit: What is to be loaded.
        source: The name of the source.
        listing: The answers that the plan was made from, by endpoint, where they are kept.
    """
    records: list[Record]
    if unit.endpoint == unit.scope.dataset.meetings:
        records = [] if meeting.record is None else [meeting.record]
    elif unit.endpoint == unit.scope.dataset.sessions:
        records = [session.record for session in meeting.sessions if session.scope == unit.scope]
    else:
        return None
    raw = listing.get(f"{unit.endpoint} {unit.scope.prefix}") or listing.get(unit.endpoint)
    return Answer(unit, meeting.asked_at, source, [records] if records else (), raw, unit.scope.own_fields)
