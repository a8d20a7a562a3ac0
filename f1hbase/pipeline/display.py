"""How far long work is, as whoever shows it is told, and the plainest ways to show it: a line a minute in the log.

Knows no terminal; bars are drawn by `f1hbase.cli.progress`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import islice
from time import monotonic
from typing import Protocol

from f1hbase.levels import PROGRESS, STATS
from f1hbase.metrics import names
from f1hbase.metrics.meter import Histogram, Measurements
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


class Counter(Protocol):
    """Shows how far it is to count or delete rows, one part (a session, a meeting) after the other."""

    def begin(self, name: str, expected: int) -> None:
        """The next part begins.

        Args:
            name: What people call it.
            expected: About how many rows it has; 0 where that is not known.
        """

    def count(self, rows: int) -> None:
        """So many more rows of it are done."""

    def close(self) -> None:
        """All parts are done, or the work ends early."""


MakeCounter = Callable[[int, str], Counter]
"""Makes a counter of so many parts; the text says what is done to the rows, such as `counted` or `deleted`."""


class TaskDisplay(Protocol):
    """Shows how far an engine is that loads in rounds of many tasks."""

    def begin(self, name: str) -> None:
        """A round begins; the name is for people."""

    def show(self, done: int, total: int) -> None:
        """So many of the tasks of the stages under way are done."""

    def close(self) -> None:
        """All rounds are over."""


class TaskLines:
    """A line a minute; see `TaskDisplay`."""

    def __init__(self) -> None:
        self._name = ""
        self._last = monotonic()

    def begin(self, name: str) -> None:
        """Remember what it is."""
        self._name = name

    def show(self, done: int, total: int) -> None:
        """Write a line when a minute has passed."""
        if monotonic() - self._last >= _LINE_SECONDS:
            self._last = monotonic()
            _log.log(PROGRESS, "%s: %d of %s done", self._name, done, count(total, "task"))

    def close(self) -> None:
        """Nothing to take away."""


class LineCounter:
    """A line a minute; see `Counter`.

    Args:
        parts: How many parts there are.
        done: What is done to the rows.
    """

    def __init__(self, parts: int, done: str) -> None:
        self._parts = parts
        self._what = done
        self._begun = 0
        self._rows = self._last_rows = 0
        self._last = monotonic()

    def begin(self, name: str, expected: int) -> None:
        """Count the part."""
        self._begun += 1
        self._log_when_due()

    def count(self, rows: int) -> None:
        """Count the rows, and write a line when a minute has passed."""
        self._rows += rows
        self._log_when_due()

    def close(self) -> None:
        """Nothing to take away."""

    def _log_when_due(self) -> None:
        now = monotonic()
        if now - self._last < _LINE_SECONDS:
            return
        rate = (self._rows - self._last_rows) / (now - self._last)
        self._last, self._last_rows = now, self._rows
        _log.log(
            PROGRESS, "session %d of %d, %s %s, %s rows/s",
            self._begun, self._parts, count(self._rows, "row"), self._what, f"{rate:,.0f}",
        )  # fmt: skip


class Meetings:
    """Which meetings of a run are under way, and how many are loaded to their end.

    Args:
        total: How many there are.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._skipped = 0
        self._begun: set[int] = set()
        self._tallies: dict[int, Tally] = {}
        self._done: set[int] = set()

    def begin(self, meeting: MeetingPlan) -> None:
        """One begins, or is gone on with."""
        self._begun.add(meeting.scope.meeting_key)
        self._done.discard(meeting.scope.meeting_key)

    def show(self, meeting: MeetingPlan, tally: Tally) -> None:
        """Remember how far one is."""
        self._tallies[meeting.scope.meeting_key] = tally

    def skip(self) -> None:
        """One has nothing left to load."""
        self._skipped += 1

    def end(self, meeting: MeetingPlan) -> None:
        """One is no longer being loaded; it is done only if all of its units have ended."""
        tally = self._tallies.pop(meeting.scope.meeting_key, None)
        if tally is not None and tally.ended >= tally.planned:
            self._done.add(meeting.scope.meeting_key)

    @property
    def done(self) -> int:
        """How many are done."""
        return self._skipped + len(self._done)

    def expected_units(self, overall: Tally) -> int:
        """How many units the run will have: those planned, and as many for each meeting that has not begun."""
        if not self._begun:
            return overall.planned
        to_load = max(len(self._begun), self.total - self._skipped)
        return round(overall.planned / len(self._begun) * to_load)


class Lines:
    """A line a minute, for a log file or a pipe; see `Display`.

    Args:
        meetings: How many meetings the run has.
    """

    def __init__(self, meetings: int) -> None:
        self._meetings = Meetings(meetings)
        self._started = monotonic()
        self._last = self._started
        self._last_rows = 0

    def begin(self, meeting: MeetingPlan) -> None:
        """Say which meeting begins."""
        _log.info("loading %s (meeting %d)", meeting.scope.name, meeting.scope.meeting_key)
        self._meetings.begin(meeting)

    def show(self, meeting: MeetingPlan, tally: Tally, overall: Tally) -> None:
        """Remember how far it is."""
        self._meetings.show(meeting, tally)

    def skip(self, meeting: MeetingPlan) -> None:
        """Count it."""
        self._meetings.skip()

    def end(self, meeting: MeetingPlan) -> None:
        """Count it."""
        self._meetings.end(meeting)

    def tick(self, overall: Tally) -> None:
        """Write a line when a minute has passed."""
        now = monotonic()
        if now - self._last < _LINE_SECONDS:
            return
        expected = self._meetings.expected_units(overall)
        rate = (overall.all_rows - self._last_rows) / (now - self._last)
        self._last, self._last_rows = now, overall.all_rows
        left = ""
        if overall.ended:
            seconds = (now - self._started) / overall.ended * (expected - overall.ended)
            left = f", about {duration(seconds)} left"
        _log.log(
            PROGRESS, "%d/%d meetings, %s/%s units (%.1f %%), %s rows, %s rows/s, %s requests, %d failed%s%s",
            self._meetings.done, self._meetings.total, f"{overall.ended:,}", f"{expected:,}",
            100 * overall.ended / max(1, expected), f"{overall.all_rows:,}", f"{rate:,.0f}",
            f"{overall.requests:,}", overall.failed, left, self._measured(overall),
        )  # fmt: skip

    def close(self) -> None:
        """Nothing to take away."""

    def _measured(self, overall: Tally) -> str:
        """Return what was measured of the run so far, and of how memory stands now."""
        measured = Measurements() if overall.meter is None else overall.meter.read()
        api, puts = measured.merged(names.API_SECONDS), measured.merged(names.PUT_SECONDS)
        parts = [
            f"{what} p50 {_seconds(one.quantile(0.5))} p95 {_seconds(one.quantile(0.95))}"
            for what, one in (("API", api), ("put", puts))
            if one.count
        ]
        if parts:
            parts.append(f"workers {measured.total(names.MEMORY, 'workers') / 1e6:,.0f} MB")
        return "".join(f", {part}" for part in parts)


def log_summary(overall: Tally, *, meetings: int, complete: int, seconds: float) -> None:
    """Log what a run did: the totals, the rows of each endpoint, and each failure with its reason."""
    rate = overall.all_rows / seconds if seconds > 0 else 0.0
    already = f" ({complete} of them complete before)" if complete else ""
    worked_on = f"{count(meetings, 'meeting')}{already}, {count(len(overall.sessions), 'session')} worked on"
    _log.log(STATS, f"{worked_on} in {duration(seconds)}")
    if not overall.ended:
        return
    duplicates = count(overall.duplicates, "duplicate")
    lines = [
        f"units: {overall.stored:,} stored, {overall.failed:,} failed",
        f"requests: {overall.requests:,}, {overall.retries:,} of them retries; {overall.bytes / 1e6:,.1f} MB received",
        f"records: {overall.records:,}, {duplicates}, {overall.quarantined:,} in quarantine",
        f"rows: {overall.all_rows:,} ({rate:,.0f} rows/s), counted in each column family",
    ]
    lines += [f"  {endpoint:<21}{rows:>12,}" for endpoint, rows in overall.rows.items() if rows]
    lines += _measured_lines(Measurements() if overall.meter is None else overall.meter.read())
    for line in lines:
        _log.log(STATS, line)
    for unit, reason in islice(overall.failures.items(), _SHOWN_FAILURES):
        _log.error("not loaded: %s: %s", unit, reason)
    more = len(overall.failures) - _SHOWN_FAILURES
    if more > 0:
        _log.error("not loaded: %d more; 'status' lists them all", more)


def _measured_lines(measured: Measurements) -> list[str]:
    """Return what the summary says of what was measured; of what there was none, nothing."""
    lines = [
        f"{what}: {_spread(histogram)}"
        for what, metric in (
            ("API latency", names.API_SECONDS),
            ("puts into HBase", names.PUT_SECONDS),
            ("storing batches", names.STORE_SECONDS),
            ("ingest lag", names.LAG_SECONDS),
        )
        if (histogram := measured.merged(metric)).count
    ]
    if not lines:
        return lines
    waits = {what: measured.total(names.WAIT_SECONDS, what) for what in ("limiter", "api", "hbase")}
    lines.append(
        f"waited, all together: {_seconds(waits['limiter'])} for the limits, {_seconds(waits['api'])} for the API, "
        f"{_seconds(waits['hbase'])} for HBase"
    )
    workers, writers = measured.total(names.WORKER_SECONDS), measured.total(names.WRITER_SECONDS)
    if workers and writers:
        busy = measured.merged(names.STORE_SECONDS).sum / writers
        lines.append(
            f"workers: {measured.total(names.WORKER_CPU_SECONDS) / workers:.0%} of a processor each, writers busy "
            f"{busy:.0%} of the time, at the most {measured.total(names.LARGEST_WORKER) / 1e6:,.0f} MB"
        )
    return lines


def _spread(histogram: Histogram) -> str:
    values = {
        "mean": histogram.mean, "p50": histogram.quantile(0.5), "p95": histogram.quantile(0.95),
        "max": histogram.largest,
    }  # fmt: skip
    return f"{histogram.count:,}, " + ", ".join(f"{name} {_seconds(value)}" for name, value in values.items())


def _seconds(value: float) -> str:
    """Return a time as people read it.

    >>> _seconds(0.0123), _seconds(1.25), _seconds(300)
    ('12 ms', '1.2 s', '5 min')
    """
    if value < 1:
        return f"{value * 1000:.0f} ms"
    return f"{value:.1f} s" if value < 120 else duration(value)
