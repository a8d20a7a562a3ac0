"""What one sees of a run: counts, bars on a terminal, a line a minute without one, and the summary at the end."""

from __future__ import annotations

import logging
import os
import sys
from collections import deque
from itertools import islice
from time import monotonic
from typing import NoReturn, TextIO

from tqdm import tqdm

from f1hbase.cli.logs import wants_colour
from f1hbase.levels import PROGRESS, STATS
from f1hbase.model.text import count, duration
from f1hbase.model.units import MeetingPlan
from f1hbase.pipeline.display import Display
from f1hbase.pipeline.tally import Tally

_log = logging.getLogger(__name__)

_LINE_SECONDS = 60.0
_RATE_SECONDS = 30.0
"""The span over which the rate on the bars is taken, so that it shows what happens now."""

_SHOWN_FAILURES = 20

_WIDE_COLUMNS = 100
_WIDE = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} units{postfix} [{elapsed}<{remaining}]"
_NARROW = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix} <{remaining}"
"""What a narrow terminal leaves out, or the end of the line would be cut off: the time that is left."""


class Pace:
    """Rows a second over the last half minute."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, int]] = deque([(monotonic(), 0)])

    def update(self, rows: int) -> float:
        """Note the count of now and return the rate."""
        now = monotonic()
        self._points.append((now, rows))
        while len(self._points) > 2 and self._points[0][0] < now - _RATE_SECONDS:
            self._points.popleft()
        then, before = self._points[0]
        return (rows - before) / (now - then) if now > then else 0.0


def make_display(meetings: int, stream: TextIO, *, quiet: bool = False) -> Display:
    """Return bars on a terminal and lines elsewhere."""
    return Bars(meetings, stream) if stream.isatty() and not quiet else Lines(meetings)


class Bars:
    """tqdm's bars: one overall and one for each running meeting.

    Args:
        meetings: How many meetings the run has.
        stream: The terminal.
    """

    def __init__(self, meetings: int, stream: TextIO) -> None:
        self._meetings = meetings
        self._stream = stream
        self._skipped = 0
        self._begun: set[int] = set()
        self._done: set[int] = set()
        self._paces: dict[int, Pace] = {}
        self._bars: dict[int, tqdm[NoReturn]] = {}
        self._pace = Pace()
        self._overall = self._bar("all meetings", 0, keep=True)

    def begin(self, meeting: MeetingPlan) -> None:
        """Show a bar for the meeting in the first free line."""
        taken = {bar.pos for bar in self._bars.values()}
        line = next(n for n in range(1, len(taken) + 2) if -n not in taken)
        key = meeting.scope.meeting_key
        self._bars[key] = self._bar(f"{key} {_short(meeting)}", line)
        self._paces[key] = Pace()
        self._begun.add(meeting.scope.meeting_key)
        self._done.discard(meeting.scope.meeting_key)  # of one that is gone on with

    def show(self, meeting: MeetingPlan, tally: Tally, overall: Tally) -> None:
        """Move the meeting's bar and the overall one."""
        key = meeting.scope.meeting_key
        if key in self._bars:
            _move(self._bars[key], tally, self._paces[key])
        self._show_overall(overall)

    def skip(self, meeting: MeetingPlan) -> None:
        """Count it."""
        self._skipped += 1

    def end(self, meeting: MeetingPlan) -> None:
        """Take the meeting's bar away."""
        bar = self._bars.pop(meeting.scope.meeting_key, None)
        if bar is not None:
            bar.close()
        self._done.add(meeting.scope.meeting_key)

    def tick(self, overall: Tally) -> None:
        """Keep the clocks running."""
        self._show_overall(overall)
        for bar in self._bars.values():
            bar.refresh()

    def close(self) -> None:
        """Leave the overall bar as it stands."""
        for bar in self._bars.values():
            bar.close()
        self._overall.close()

    def _show_overall(self, overall: Tally) -> None:
        done = f"{self._skipped + len(self._done)}/{self._meetings} meetings"
        self._overall.set_description_str(f"{done:<16}", refresh=False)
        _move(self._overall, overall, self._pace, _expected(overall, len(self._begun), self._meetings - self._skipped))

    def _bar(self, name: str, line: int, *, keep: bool = False) -> tqdm[NoReturn]:
        return tqdm(
            desc=f"{name[:16]:<16}", total=0, position=line, leave=keep, file=self._stream, dynamic_ncols=True,
            bar_format=_WIDE if self._is_wide() else _NARROW,
            colour="green" if keep and wants_colour(self._stream) else None,
        )  # fmt: skip

    def _is_wide(self) -> bool:
        try:
            return os.get_terminal_size(self._stream.fileno()).columns >= _WIDE_COLUMNS
        except OSError:  # gone
            return True


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
        expected = _expected(overall, len(self._begun), self._meetings - self._skipped)
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


def terminal() -> TextIO:
    """The stream that bars are drawn on."""
    return sys.stderr


def _expected(overall: Tally, begun: int, meetings: int) -> int:
    """How many units the run will have: those planned, and as many for each meeting that has not begun."""
    return overall.planned if begun == 0 else round(overall.planned / begun * max(begun, meetings))


def _move(bar: tqdm[NoReturn], tally: Tally, pace: Pace, total: int | None = None) -> None:
    bar.total = max(total or tally.planned, tally.ended)
    bar.n = tally.ended
    failed = f" {tally.failed} failed" if tally.failed else ""
    bar.set_postfix_str(
        f"{_compact(tally.all_rows)} rows {_compact(pace.update(tally.all_rows))}/s{failed}", refresh=False
    )
    bar.refresh()


def _compact(number: float) -> str:
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f}{letter}"
    return f"{number:.0f}"


def _short(meeting: MeetingPlan) -> str:
    record = meeting.record or {}
    return str(record.get("location") or record.get("meeting_name") or "")
