"""What the tests of landing zones share: answers, batches, outcomes, and a zone of one meeting."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from f1hbase.destinations.base import Batch
from f1hbase.destinations.files import FilesDestination
from f1hbase.model.answers import Answer, RawAnswer
from f1hbase.model.outcomes import Outcome, Receipt
from f1hbase.model.units import ALL_TIME, Scope, Unit, Window
from f1hbase.sources.base import Reader
from f1hbase.sources.files import open_reader
from f1hbase.sources.stored import StoredSource
from f1hbase.stores.files.objects import Objects
from f1hbase.stores.files.urls import parse_location
from f1hbase.stores.files.zone import create_zone

START = datetime(2024, 7, 7, 14, 0, tzinfo=UTC)
END = datetime(2024, 7, 7, 16, 0, tzinfo=UTC)
SETTLED = datetime(2024, 9, 1, tzinfo=UTC)
MEETING = Scope(2024, 1240, None, START, END)
RACE = Scope(2024, 1240, 9558, START, END, kind="Race")
SPRINT = Scope(2024, 1240, 9554, START - timedelta(days=1), END - timedelta(days=1), kind="Race")

SESSIONS = [
    {"meeting_key": 1240, "session_key": scope.session_key, "year": 2024, "date_start": START.isoformat()}
    for scope in (SPRINT, RACE)
]
MEETINGS = [{"meeting_key": 1240, "year": 2024, "meeting_name": "British Grand Prix"}]


def destination_at(path: Path | str) -> FilesDestination:
    """Return a landing zone, open for writing."""
    return FilesDestination(create_zone(Objects(parse_location(str(path)))))


def json_answer(request: str, records: Sequence[Mapping[str, Any]], asked_at: datetime = SETTLED) -> RawAnswer:
    """Return records as the API answers with them."""
    body = json.dumps(records).encode()
    return RawAnswer("openf1", request, asked_at, asked_at + timedelta(seconds=1), 200, "application/json", body)


def csv_answer(start: datetime, samples: int, asked_at: datetime = SETTLED, driver: int = 44) -> RawAnswer:
    """Return car_data as the API answers with it as CSV, four samples a second."""
    lines = ["brake,date,driver_number,drs,meeting_key,n_gear,rpm,session_key,speed,throttle"]
    for number in range(samples):
        moment = start + timedelta(milliseconds=250 * number)
        date = f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond:06d}+00:00"
        lines.append(f"0,{date},{driver},8,1240,7,{11000 + number % 977},9558,{200 + number % 83},100")
    body = ("\n".join(lines) + "\n").encode()
    request = f"car_data?session_key=9558&date>={start:%Y-%m-%dT%H:%M:%S}&csv=true"
    return RawAnswer("openf1", request, asked_at, asked_at + timedelta(seconds=1), 200, "text/csv; charset=utf-8", body)


def store(
    destination: FilesDestination,
    unit: Unit,
    records: Sequence[Any],
    raw: RawAnswer | None,
    select: Mapping[str, int] | None = None,
    *,
    asked_at: datetime = SETTLED,
    epoch: int = 0,
    run: str = "run",
) -> Outcome:
    """Store a unit as the pipeline does: its records, then its manifest."""
    receipt = destination.writers[0].write(Batch(unit, list(records), raw=raw, select=dict(select or {})))
    outcome = Outcome(unit, asked_at, "openf1", records=len(records), receipt=receipt, epoch=epoch)
    destination.state.write_units(run, [outcome])
    return outcome


def failed(destination: FilesDestination, unit: Unit, error: str, *, epoch: int = 0) -> None:
    """Write that a unit failed."""
    destination.state.write_units(
        "run", [Outcome(unit, SETTLED, "openf1", receipt=Receipt(), error=error, epoch=epoch)]
    )


def fill(path: Path | str) -> FilesDestination:
    """Return a zone of a meeting of two sessions: the listing, laps of both in one answer, car_data in two windows."""
    destination = destination_at(path)
    listed = json_answer("sessions?year=2024", SESSIONS)
    for scope, record in zip((SPRINT, RACE), SESSIONS, strict=True):
        store(destination, Unit("sessions", scope), [record], listed, {"session_key": scope.session_key or 0})
    meetings = json_answer("meetings?meeting_key=1240", MEETINGS)
    store(destination, Unit("meetings", MEETING), MEETINGS, meetings, {"meeting_key": 1240})
    laps = [
        {
            "meeting_key": 1240,
            "session_key": scope.session_key,
            "driver_number": 44,
            "lap_number": lap,
            "st_speed": None,
        }
        for scope in (SPRINT, RACE)
        for lap in range(1, 4)
    ]
    shared = json_answer("laps?session_key=9554&session_key=9558", laps)
    for scope in (SPRINT, RACE):
        mine = [lap for lap in laps if lap["session_key"] == scope.session_key]
        store(destination, Unit("laps", scope), mine, shared, {"session_key": scope.session_key or 0})
    noon = START + timedelta(hours=1)
    for window, start, number in ((Window(None, noon), START, 5_000), (Window(noon, None), noon, 4_000)):
        raw = csv_answer(start, number)
        store(destination, Unit("car_data", RACE, window=window), [{}] * number, raw)
    return destination


def open_source(path: Path | str) -> StoredSource:
    """Return a zone as a source."""
    return StoredSource(reader_at(path))


def reader_at(path: Path | str) -> Reader:
    """Return what reads a location."""
    return open_reader(parse_location(str(path)))


async def fetch_all(source: StoredSource, units: Sequence[Unit]) -> list[tuple[Answer, list[Any]]]:
    """Return every answer with its records."""
    answers: list[tuple[Answer, list[Any]]] = []

    async def deliver(answer: Answer) -> None:
        answers.append((answer, [record for some in answer.records for record in some]))

    await source.fetch(units, deliver)
    return answers


def whole(endpoint: str, scope: Scope = RACE, driver: int | None = None) -> Unit:
    """Return the unit of all of a session."""
    return Unit(endpoint, scope, driver, ALL_TIME)
