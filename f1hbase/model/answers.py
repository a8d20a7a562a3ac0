"""What a source says of a unit: records, the answer they came in, or why there are none."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from f1hbase.model.samples import Samples
from f1hbase.model.units import Unit, Window

Records = Iterable[Samples | Sequence[Any]]
"""The records of an answer, some at a time. May be iterated more than once, each time from the beginning; decoding
may fail half way, with an error of the source's."""


@dataclass(frozen=True)
class RawAnswer:
    """One answer as it came, byte for byte; several units may share it.

    Attributes:
        source: The source's name, such as `openf1`.
        request: What was asked, for people and for a later reader: `laps?session_key=9558`; no credentials.
        asked_at: When the request was sent.
        received_at: When its last byte had come.
        status: The status that HTTP gives it.
        content_type: Such as `application/json` or `text/csv`.
        body: The uncompressed bytes.
    """

    source: str
    request: str
    asked_at: datetime
    received_at: datetime
    status: int
    content_type: str
    body: bytes = field(repr=False)

    @cached_property
    def md5(self) -> str:
        """The MD5 of the body, in hex."""
        return hashlib.md5(self.body, usedforsecurity=False).hexdigest()


@dataclass(slots=True)
class RequestStats:
    """What it took to get an answer: requests sent, those of them that were repeats, and bytes received."""

    requests: int = 0
    retries: int = 0
    bytes: int = 0

    def add(self, other: RequestStats) -> None:
        """Add another's."""
        self.requests += other.requests
        self.retries += other.retries
        self.bytes += other.bytes

    def take(self) -> RequestStats:
        """Return what has been counted, and begin anew."""
        taken = RequestStats(self.requests, self.retries, self.bytes)
        self.requests = self.retries = self.bytes = 0
        return taken


@dataclass(slots=True)
class Answer:
    """What a source made of a unit, or of a part of it.

    Attributes:
        unit: What this is: the unit asked for or, of a sampled endpoint, a shorter window of it.
        asked_at: When the first request for it was sent.
        source: The name of the source.
        records: The records; none when the source has none.
        raw: The answer they came in, where the source has it.
        select: Which of the answer's records are the unit's, as field and value (`{"session_key": 9558}`); all when
            empty.
        stats: What it took.
        seconds: From the first request to the last byte.
        error: Why the unit could not be fetched, for people; None when it was.
        complete: Whether this is all of the unit, or the last part of it.
        without: The drivers of whom other answers speak instead, and when: their records are not among these.
        validator: What the records were made of, in words of the source's own, by which it can tell later whether that
            has changed; empty where it cannot.
        unchanged: Whether what the unit was stored from is the same still, so that nothing was fetched: what is
            stored stands. Only ever of a unit whose `validator` the source was told (`AsksConditionally`).
    """

    unit: Unit
    asked_at: datetime
    source: str = ""
    records: Records = ()
    raw: RawAnswer | None = None
    select: Mapping[str, int] = field(default_factory=dict)
    stats: RequestStats = field(default_factory=RequestStats)
    seconds: float = 0.0
    error: str | None = None
    complete: bool = True
    without: Mapping[int, Sequence[Window]] = field(default_factory=dict)
    validator: str = ""
    unchanged: bool = False


@dataclass(frozen=True, slots=True)
class Listing:
    """What a source has: its sessions and meetings, as far as they were asked for.

    Attributes:
        source: The name of the source.
        sessions, meetings: The records, as they came; the sessions may be more than were asked for.
        asked_at: When they were asked for.
        answers: What they came in, by endpoint; where a list took several answers, by endpoint and scope prefix
            (`races 1991#199100#199105`).
        stats: What it took.
    """

    source: str
    sessions: Sequence[Any]
    meetings: Sequence[Any]
    asked_at: datetime
    answers: Mapping[str, RawAnswer] = field(default_factory=dict)
    stats: RequestStats = field(default_factory=RequestStats)
