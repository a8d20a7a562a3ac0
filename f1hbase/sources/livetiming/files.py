"""The file of a topic: its lines in order of time, in memory or, when large, on disk; knows no HTTP and no endpoint."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import BinaryIO, NamedTuple

from f1hbase.model.samples import Record
from f1hbase.model.text import safe
from f1hbase.sources.livetiming.lines import BadLineError, decode, split
from f1hbase.sources.livetiming.messages import Message, SessionContext

_log = logging.getLogger(__name__)

_NO_CLOCK = datetime(2000, 1, 1, tzinfo=UTC)
"""Stands for t0 where only the order of messages counts."""

_EXCERPT_CHARACTERS = 2_000
_MOST_EXCERPTS = 1_000
"""Of how many lines that cannot be read a file keeps what they hold."""


class Line(NamedTuple):
    """A line: since when, which one (from 1), and where it is in its file."""

    since: timedelta
    number: int
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Problem:
    """A line or message that could not be read.

    Attributes:
        where: The file, for people.
        line: Which line, from 1.
        reason: Why, for people.
        text: What it holds, or its beginning.
    """

    where: str
    line: int
    reason: str
    text: str

    def record(self) -> Record:
        """Return what quarantine keeps of it: as it has no keys, no record of any endpoint."""
        return {"file": self.where, "line": self.line, "reason": self.reason, "text": self.text}


class Problems:
    """Names each problem once, however often its line is read."""

    def __init__(self) -> None:
        self._named: set[tuple[str, int]] = set()

    def name(self, problem: Problem) -> None:
        """Log a problem that was not logged yet."""
        if (problem.where, problem.line) not in self._named:
            self._named.add((problem.where, problem.line))
            _log.error(
                "%s, line %d is put aside, the rest is loaded: %s",
                problem.where, problem.line, safe(problem.reason, 300),
            )  # fmt: skip


@dataclass(eq=False)
class TopicFile:
    """What the archive has of a topic.

    Attributes:
        topic: The topic.
        where: Its path, for people.
        data: Its bytes, or the open file that holds them.
        asked_at: When it was asked for.
        baselines: The numbers of the lines that are whole states and no events, as a recording may begin with.
    """

    topic: str
    where: str
    data: bytes | BinaryIO
    asked_at: datetime
    baselines: frozenset[int] = frozenset()
    problems: list[Problem] = field(default_factory=list)

    @cached_property
    def lines(self) -> list[Line]:
        """The lines that begin with a time, in order of time; others are among the `problems`."""
        lines: list[Line] = []
        start = 0
        for number, text in enumerate(self._raw_lines(), 1):
            try:
                found = split(text)
            except BadLineError as error:
                self._add_problem(number, str(error), text)
                found = None
            if found is not None:
                since, body = found
                lines.append(Line(since, number, start + text.index(body), len(body)))
            start += len(text)
        # Stable: lines of one moment stay in the order of the file. A clock that jumps back is put in order.
        lines.sort(key=lambda line: line.since)
        return lines

    def body(self, line: Line) -> bytes:
        """Return what a line holds after its time."""
        if isinstance(self.data, bytes):
            return self.data[line.start : line.start + line.length]
        return os.pread(self.data.fileno(), line.length, line.start)

    def close(self) -> None:
        """Give up the file on disk, if there is one."""
        if not isinstance(self.data, bytes):
            self.data.close()

    def problem(self, line: Line, reason: str) -> Problem:
        """Return a problem with a line."""
        text = self.body(line)[:_EXCERPT_CHARACTERS].decode(errors="replace")
        return Problem(self.where, line.number, reason, safe(text))

    def _raw_lines(self) -> Iterator[bytes]:
        if isinstance(self.data, bytes):
            start = 0
            while start < len(self.data):
                end = self.data.find(b"\n", start) + 1 or len(self.data)
                yield self.data[start:end]
                start = end
        else:
            self.data.seek(0)
            yield from self.data

    def _add_problem(self, number: int, reason: str, text: bytes) -> None:
        shown = ""
        if len(self.problems) < _MOST_EXCERPTS:
            shown = safe(text[:_EXCERPT_CHARACTERS].decode(errors="replace"))
        self.problems.append(Problem(self.where, number, reason, shown))


class SessionFiles:
    """The messages of a session from the files of its topics; an implementation of `SessionMessages`.

    Args:
        context: The session.
        files: The files by topic.
        t0: When the clock of the files starts; None where only the order of messages counts.
    """

    def __init__(self, context: SessionContext, files: Mapping[str, TopicFile], t0: datetime | None) -> None:
        self.context = context
        self._files = files
        self._t0 = t0 or _NO_CLOCK

    def messages(self, topics: Collection[str]) -> Iterator[Message | Problem]:
        """Yield the messages of some topics in order of time, topic and line, and what could not be read."""
        files = [self._files[topic] for topic in sorted(topics) if topic in self._files]
        for file in files:
            _ = file.lines  # finds the problems
            yield from file.problems
        every = [(line.since, place, line) for place, file in enumerate(files) for line in file.lines]
        every.sort(key=lambda item: item[:2])
        for since, place, line in every:
            file = files[place]
            try:
                content = decode(file.topic, file.body(line))
                yield Message(self._t0 + since, file.topic, content, line.number in file.baselines)
            except (BadLineError, OverflowError) as error:
                yield file.problem(line, str(error))
