"""How far long work is, on a terminal: bars. Elsewhere it is the lines of `f1hbase.pipeline.display`."""

from __future__ import annotations

import os
import sys
from collections import deque
from time import monotonic
from typing import NoReturn, TextIO

from tqdm import tqdm

from f1hbase.cli.logs import wants_colour
from f1hbase.model.plans import MeetingPlan
from f1hbase.model.text import safe
from f1hbase.pipeline.display import Counter, Display, LineCounter, Lines, Meetings, TaskDisplay, TaskLines
from f1hbase.pipeline.tally import Tally

_RATE_SECONDS = 30.0
"""The span over which the rate on the bars is taken, so that it shows what happens now."""

_ROOM = 2
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


def make_counter(parts: int, done: str) -> Counter:
    """Return a bar on a terminal and lines elsewhere; see `f1hbase.pipeline.display.MakeCounter`."""
    return CountBar(parts) if terminal().isatty() else LineCounter(parts, done)


def make_task_display(stream: TextIO, *, quiet: bool = False) -> TaskDisplay:
    """Return a bar on a terminal and lines elsewhere; see `f1hbase.pipeline.display.TaskDisplay`."""
    return TaskBar(stream) if stream.isatty() and not quiet else TaskLines()


class TaskBar:
    """One bar of the tasks under way; see `f1hbase.pipeline.display.TaskDisplay`.

    Args:
        stream: The terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self._bar: tqdm[NoReturn] = tqdm(
            total=0, leave=False, file=stream, dynamic_ncols=True, position=1,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} tasks [{elapsed}]",
        )  # fmt: skip

    def begin(self, name: str) -> None:
        """Begin the bar anew."""
        self._bar.reset(0)
        self._bar.set_description_str(safe(name)[:40])

    def show(self, done: int, total: int) -> None:
        """Move the bar."""
        self._bar.total, self._bar.n = total, done
        self._bar.refresh()

    def close(self) -> None:
        """Take the bar away."""
        self._bar.close()


class CountBar:
    """One bar, anew for each part; see `f1hbase.pipeline.display.Counter`.

    Args:
        parts: How many parts there are.
    """

    def __init__(self, parts: int) -> None:
        self._parts = parts
        self._begun = 0
        self._bar: tqdm[NoReturn] = tqdm(
            total=0, leave=False, file=terminal(), dynamic_ncols=True, unit=" rows", unit_scale=True,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} rows, {rate_fmt}",
        )  # fmt: skip

    def begin(self, name: str, expected: int) -> None:
        """Begin the bar anew."""
        self._begun += 1
        self._bar.reset(expected)
        self._bar.set_description_str(f"{self._begun}/{self._parts} {safe(name)[:28]:<28}")

    def count(self, rows: int) -> None:
        """Move the bar; there may be more rows than expected."""
        self._bar.total = max(self._bar.total or 0, self._bar.n + rows)
        self._bar.update(rows)

    def close(self) -> None:
        """Take the bar away."""
        self._bar.close()


class Bars:
    """tqdm's bars: one overall and one for each running meeting; see `f1hbase.pipeline.display.Display`.

    Args:
        meetings: How many meetings the run has.
        stream: The terminal.
    """

    def __init__(self, meetings: int, stream: TextIO) -> None:
        self._meetings = Meetings(meetings)
        self._stream = stream
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
        self._meetings.begin(meeting)

    def show(self, meeting: MeetingPlan, tally: Tally, overall: Tally) -> None:
        """Move the meeting's bar and the overall one."""
        key = meeting.scope.meeting_key
        self._meetings.show(meeting, tally)
        if key in self._bars:
            _move(self._bars[key], tally, self._paces[key])
        self._show_overall(overall)

    def skip(self, meeting: MeetingPlan) -> None:
        """Count it."""
        self._meetings.skip()

    def end(self, meeting: MeetingPlan) -> None:
        """Take the meeting's bar away."""
        bar = self._bars.pop(meeting.scope.meeting_key, None)
        if bar is not None:
            bar.close()
        self._meetings.end(meeting)

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
        done = f"{self._meetings.done}/{self._meetings.total} meetings"
        self._overall.set_description_str(f"{done:<16}", refresh=False)
        _move(self._overall, overall, self._pace, self._meetings.expected_units(overall))

    def _bar(self, name: str, line: int, *, keep: bool = False) -> tqdm[NoReturn]:
        bar: tqdm[NoReturn] = tqdm(
            desc=f"{safe(name)[:16]:<16}", total=0, position=line, leave=keep, file=self._stream, dynamic_ncols=True,
            bar_format=_WIDE if self._is_wide() else _NARROW,
            colour="green" if keep and wants_colour(self._stream) else None,
        )  # fmt: skip
        bar.dynamic_ncols = self._shape  # type: ignore[assignment]  # what tqdm asks, once it is told to ask
        return bar

    def _shape(self, _: TextIO) -> tuple[int | None, int | None]:
        """Return columns and rows for a bar: there is room behind it for the `^C` of a terminal, which would wrap."""
        try:
            size = os.get_terminal_size(self._stream.fileno())
        except OSError:  # gone
            return None, None
        return max(1, size.columns - _ROOM), size.lines

    def _is_wide(self) -> bool:
        try:
            return os.get_terminal_size(self._stream.fileno()).columns >= _WIDE_COLUMNS
        except OSError:  # gone
            return True


def terminal() -> TextIO:
    """The stream that bars are drawn on."""
    return sys.stderr


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
