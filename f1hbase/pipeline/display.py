"""What a run tells whoever shows how it goes, and the plainest of them: a line a minute in the log."""

from __future__ import annotations

import logging
from itertools import islice
from time import monotonic
from typing import Protocol

from f1hbase.levels import PROGRESS, STATS
from f1hbase.model.plans import MeetingPlan
from f1hbase.model.text import count, duration
from f1hbase.pipeline.tally import Tally

_log = logging.getLogger(__name__)

_LINE_SECONDS = 60.0
_SHOWN_FAILURES = 20


class Display(Protocol):
    """Shows how a run goes."""

    def begin(self, meeting: MeetingPlan) -> None:
        """A meeting is being loaded from now on."""

    def show(self, meeting: MeetingPlan, tally: Tally, overall: Tally) -> None:
        """Something of a meeting has been counted."""

    def skip(self, meeting: MeetingPlan) -> None:
        """A meeting has nothing left to load."""

    def end(self, meeting: MeetingPlan) -> None:
        """A meeting is no longer being loaded."""

    def tick(self, overall: Tally) -> None:
        """Time has passed."""

    def close(self) -> None:
        """The run is over."""


class Lines:
    """A line a minute, for a log file or a pipe."""

    def __init__(self, meetings: int) -> None:
        self._meetings = meetings
        self._skipped = 0
        self._begun: set[int] = set()
        self._done: set[int] = set()
        self._started = monotonic()
        self._last = self._started
        self._last_rows = 0

    def begin(self, meeting: MeetingPlan) -> None:
        """Say which meeting begins."""
        _log.info("loading %s (meeting %d)", meeting.scope.name, meeting.scope.meeting_key)
        self._begun.add(meeting.scope.meeting_key)
        self._done.discard(meeting.scope.meeting_key)  # of one that is gone on with

    def show(self, meeting: MeetingPlan, tally: Tally, overall: Tally) -> None:
        """Nothing to draw."""

    def skip(self, meeting: MeetingPlan) -> None:
        """Count it."""
        self._skipped += 1

    def end(self, meeting: MeetingPlan) -> None:
        """Count it."""
        self._done.add(meeting.scope.meeting_key)

    def tick(self, overall: Tally) -> None:
        """Write a line when a minute has passed."""
        now = monotonic()
        if now - self._last < _LINE_SECONDS:
            return
        expected = expected_units(overall, len(self._begun), self._meetings - self._skipped)
        rate = (overall.all_rows - self._last_rows) / (now - self._last)
        self._last, self._last_rows = now, overall.all_rows
        left = ""
        if overall.ended:
            seconds = (now - self._started) / overall.ended * (expected - overall.ended)
            left = f", about {duration(seconds)} left"
        _log.log(
            PROGRESS, "%d/%d meetings, %s/%s units (%.1f %%), %s rows, %s rows/s, %s requests, %d failed%s",
            self._skipped + len(self._done), self._meetings, f"{overall.ended:,}", f"{expected:,}",
            100 * overall.ended / max(1, expected), f"{overall.all_rows:,}", f"{rate:,.0f}",
            f"{overall.requests:,}", overall.failed, left,
        )  # fmt: skip

    def close(self) -> None:
        """Nothing to take away."""


def log_summary(overall: Tally, *, meetings: int, complete: int, seconds: float) -> None:
    """Log what a run did: the totals, the rows of each endpoint, and each failure with its reason."""
    rate = overall.all_rows / seconds if seconds > 0 else 0.0
    already = f" ({complete} of them complete before)" if complete else ""
    worked_on = f"{count(meetings, 'meeting')}{already}, {count(len(overall.sessions), 'session')} worked on"
    _log.log(STATS, f"{worked_on} in {duration(seconds)}")
    if not overall.ended:
        return
    lines = [
        f"units: {overall.stored:,} stored, {overall.failed:,} failed",
        f"requests: {overall.requests:,}, {overall.retries:,} of them retries; {overall.bytes / 1e6:,.1f} MB received",
        f"records: {overall.records:,}, {overall.duplicates:,} duplicates, {overall.quarantined:,} in quarantine",
        f"rows: {overall.all_rows:,} ({rate:,.0f} rows/s), counted in each column family",
    ]
    lines += [f"  {endpoint:<21}{rows:>12,}" for endpoint, rows in overall.rows.items() if rows]
    for line in lines:
        _log.log(STATS, line)
    for unit, reason in islice(overall.failures.items(), _SHOWN_FAILURES):
        _log.error("not loaded: %s: %s", unit, reason)
    more = len(overall.failures) - _SHOWN_FAILURES
    if more > 0:
        _log.error("not loaded: %d more; 'status' lists them all", more)


def expected_units(overall: Tally, begun: int, meetings: int) -> int:
    """How many units the run will have: those planned, and as many for each meeting that has not begun."""
    return overall.planned if begun == 0 else round(overall.planned / begun * max(begun, meetings))
