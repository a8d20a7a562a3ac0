"""The records that all contenders load, simulated or real, in folders that the replay server reads."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.errors import BenchmarkError
from f1hbase.destinations.base import Batch
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.samples import Samples
from f1hbase.model.times import parse_time
from f1hbase.model.units import Scope, Unit
from f1hbase.sources.openf1.formats import decode_answer
from simulator import Plan, simulate
from simulator.files import Folder

YEAR = 2025
CELLS = 6
"""Of each car_data row."""

ANSWER_RECORDS = 54_000
"""What an answer of car_data holds with `--window auto`: some twelve minutes of twenty cars."""

_DRIVERS = 10
_SAMPLES_A_SECOND = 3.8
_LONGER = 1.36
"""Samples begin before a session and end after it: how much longer that makes a short one."""


@dataclass(frozen=True, slots=True)
class Meeting:
    """One meeting in files, with one session.

    Attributes:
        folder: Of its `<endpoint>.jsonl[.gz]`, at any depth.
        session: Its session.
        car_data: How many car_data records it has.
    """

    folder: Path
    session: Scope
    car_data: int


@dataclass(frozen=True, slots=True)
class Records:
    """What is loaded.

    Attributes:
        folder: Of all meetings.
        meetings: Each of them.
        source: Where they come from, for the reader of a table.
    """

    folder: Path
    meetings: tuple[Meeting, ...]
    source: str

    @property
    def car_data(self) -> int:
        """How many car_data records there are."""
        return sum(meeting.car_data for meeting in self.meetings)

    def shares(self, processes: int) -> list[tuple[Meeting, ...]]:
        """Deal the meetings out to processes."""
        return [self.meetings[number::processes] for number in range(processes)]


def simulated(folder: Path, *, rows: int, meetings: int) -> Records:
    """Simulate about so many car_data records in all, in so many meetings; location records there are none."""
    minutes = rows / meetings / _DRIVERS / _SAMPLES_A_SECOND / 60 / _LONGER
    # No session is shorter than a minute.
    drivers = _DRIVERS if minutes >= 1 else max(2, round(_DRIVERS * minutes))
    plan = Plan(year=YEAR, meetings=meetings, sessions=("race",), minutes=max(1.0, minutes), drivers=drivers)
    for _ in simulate(folder, plan):
        pass
    for path in folder.rglob("location.jsonl.gz"):
        path.unlink()
    return Records(folder, find_meetings(folder), "simulated")


def real(source: Path, folder: Path, *, rows: int, meetings: int) -> Records:
    """Cut real car_data into meetings of their own: so many stretches of the session, with keys that count up.

    Args:
        source: A folder with the files of one session, `car_data.jsonl.gz` among them.
        folder: Where the meetings are written.
        rows: How many car_data records to take in all, at the most.
        meetings: Into how many meetings.
    """
    try:
        (meeting,), (session,) = _only(source, "meetings"), _only(source, "sessions")
    except ValueError:
        raise BenchmarkError(f"{source.name} has not the files of exactly one session") from None
    drivers = list(_only(source, "drivers"))
    lines = sorted(_lines(source, "car_data"), key=_date_of)
    each = min(rows, len(lines)) // meetings
    if not each:
        raise BenchmarkError(f"{source.name} has no car_data.jsonl.gz with enough records")
    for number in range(meetings):
        first = number * len(lines) // meetings
        records = [json.loads(line) for line in lines[first : first + each]]
        keys = {"meeting_key": meeting["meeting_key"] + number, "session_key": session["session_key"] + number}
        span = {"date_start": records[0]["date"], "date_end": records[-1]["date"]}
        with Folder(folder / f"meeting-{keys['meeting_key']}") as files:
            files.write("meetings", [meeting | span | {"meeting_key": keys["meeting_key"]}])
            files.write("sessions", [session | span | keys])
            files.write("drivers", [driver | keys for driver in drivers])
            files.write("car_data", [record | keys for record in records])
    return Records(folder, find_meetings(folder), "real")


def cloned(model: Meeting, folder: Path, *, meetings: int) -> Records:
    """Write a meeting so many times, each time with other keys."""
    texts = {path.name.partition(".")[0]: b"".join(_read(path)) for path in sorted(model.folder.rglob("*.jsonl*"))}
    scope = model.session
    for number in range(meetings):
        target = folder / f"meeting-{scope.meeting_key + number}"
        target.mkdir(parents=True)
        for endpoint, text in texts.items():
            for field, key in (("meeting_key", scope.meeting_key), ("session_key", scope.session_key or 0)):
                text = text.replace(b'"%s":%d' % (field.encode(), key), b'"%s":%d' % (field.encode(), key + number))
            (target / f"{endpoint}.jsonl.gz").write_bytes(gzip.compress(text, 1))
    return Records(folder, find_meetings(folder), "simulated")


def find_meetings(folder: Path) -> tuple[Meeting, ...]:
    """Return the meetings below a folder, each of which has one session with car_data, by key."""
    found = []
    for path in folder.rglob("sessions.jsonl.gz"):
        (session,) = _only(path.parent, "sessions")
        scope = Scope(
            year=session["year"],
            meeting_key=session["meeting_key"],
            session_key=session["session_key"],
            date_start=parse_time(session["date_start"]),
            date_end=parse_time(session["date_end"]),
        )
        meeting = path.parent if (path.parent / "meetings.jsonl.gz").exists() else path.parent.parent
        found.append(Meeting(meeting, scope, sum(1 for _ in _lines(path.parent, "car_data"))))
    if not found:
        raise BenchmarkError(f"no sessions.jsonl.gz in {folder.name} or below")
    return tuple(sorted(found, key=lambda one: one.session.meeting_key))


@dataclass(frozen=True, slots=True)
class Body:
    """The body of one answer of car_data, as the API would send it."""

    session: Scope
    json: bytes

    def batches(self) -> Iterator[Batch]:
        """Yield what the pipeline hands to a destination of it.

        Raises:
            BenchmarkError: If it is not samples, so that something else than a load would be measured.
        """
        unit = Unit("car_data", self.session)
        for records in decode_answer(ENDPOINTS[unit.endpoint], "application/json", self.json):
            if not isinstance(records, Samples):
                raise BenchmarkError("an answer of car_data is not one of samples, so this would not measure a load")
            yield Batch(unit, records)


def bodies(meetings: Iterable[Meeting]) -> Iterator[Body]:
    """Yield the car_data of meetings in answers of the usual size."""
    for meeting in meetings:
        for lines in batched(map(bytes.strip, _lines(meeting.folder, "car_data")), ANSWER_RECORDS):
            yield Body(meeting.session, b"[" + b",".join(lines) + b"]")


def batched(lines: Iterable[bytes], size: int) -> Iterator[list[bytes]]:
    """Yield lists of so many lines, the last one shorter."""
    iterator = iter(lines)
    while some := list(islice(iterator, size)):
        yield some


def session_records(meeting: Meeting, endpoint: str) -> Sequence[dict[str, Any]]:
    """Return the records of one endpoint."""
    return list(_only(meeting.folder, endpoint))


def _only(folder: Path, endpoint: str) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in _lines(folder, endpoint))


def _lines(folder: Path, endpoint: str) -> Iterator[bytes]:
    for path in sorted(folder.rglob(f"{endpoint}.jsonl*")):
        yield from _read(path)


def _read(path: Path) -> Iterator[bytes]:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
        yield from lines


def _date_of(line: bytes) -> str:
    date: str = json.loads(line)["date"]
    return date
