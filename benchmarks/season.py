"""`status`, and the planning of a load, when a whole season is loaded already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.errors import BenchmarkError
from benchmarks.loads import run_command, run_load
from benchmarks.options import Options, Tell
from benchmarks.records import YEAR
from benchmarks.results import Spread, markdown_table, megabytes, number, spread
from benchmarks.servers import ReplayServer
from benchmarks.stage import Stage
from f1hbase.destinations.base import Batch
from f1hbase.destinations.hbase import HBaseWriter
from f1hbase.model.answers import RequestStats
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.outcomes import Outcome, Receipt
from f1hbase.model.plans import MeetingPlan, Selection, SessionPlan
from f1hbase.model.units import Unit
from f1hbase.pipeline.plan import meeting_scope, session_scope
from f1hbase.pipeline.remaining import Remaining
from f1hbase.sources.openf1.sizing import Packer, Sizes
from f1hbase.state.base import new_run_id
from f1hbase.state.hbase.reports import HBaseReports
from f1hbase.stores.hbase.schema import Layout, Tables, creation_script
from simulator.files import Folder

_ROUNDS = 5
_DRIVERS = tuple(range(1, 21))
_UNIT_ROWS = 800
_HOURS = (1, 1, 1, 1, 2)
"""The lengths of a weekend's sessions."""

WINDOW = timedelta(seconds=11)
"""With --window auto a season has some 4,000 units; these make as many as one loaded by earlier versions has, by driver
and quarter of an hour, and more: 100,000."""


def run(stage: Stage, options: Options, tell: Tell) -> str:
    """Write the reports of a season, then time `status`, and a load that finds nothing left to do."""
    folder = stage.scratch / "season"
    plans = list(write_season(folder, options.season))
    tables = Tables("bench_season")
    stage.shell.run(creation_script(tables, Layout()))
    connector = stage.connector()
    run_id = new_run_id(datetime.now(UTC))
    writer, reports = HBaseWriter(connector, tables.data), HBaseReports(connector, tables.reports)
    count = 0
    for plan in plans:
        outcomes = [_loaded(unit) for unit in units_of(plan)]
        for session in plan.sessions:
            writer.write(Batch(Unit("sessions", session.scope), [session.record]))
        writer.write(Batch(Unit("meetings", plan.scope), [plan.record or {}]))
        reports.write_units(run_id, outcomes)
        count += len(outcomes)
    tell(f"{count:,} unit rows written")
    with ReplayServer(folder) as api:
        load = run_load(stage, api, tables, "--window", f"{WINDOW.total_seconds():.0f}s")
    if load.data_requests:
        raise BenchmarkError(f"the season is not all loaded: a load sent {load.data_requests} requests")
    tell(f"a load found nothing left in {load.ended:.1f} s")
    seconds = []
    for _ in range(options.rounds or _ROUNDS):
        took, printed = run_command(stage, tables, "status")
        seconds.append(took)
        tell(f"status took {took:.2f} s")
    if f"{count * _UNIT_ROWS:,} rows" not in printed:
        raise BenchmarkError(f"status does not tell of {count * _UNIT_ROWS:,} rows:\n{printed}")
    stage.drop(tables.data, tables.reports)
    times = Spread(tuple(seconds))
    table = markdown_table(
        ["", "seconds", "least to most", "peak MB of the parent"],
        [
            ["`status`", number(times.median), spread(times), "-"],
            ["`load`, which plans the season and finds nothing left", number(load.ended), "-",
             megabytes(load.peaks.get("parent"))],
        ],
    )  # fmt: skip
    return (
        f"{len(plans)} meetings, {sum(len(plan.sessions) for plan in plans)} sessions, {count:,} unit rows; from the "
        f"start of the process to its end, median of {len(seconds)} runs of `status`.\n\n{table}"
    )


def write_season(folder: Path, meetings: int) -> Iterator[MeetingPlan]:
    """Write the meetings and sessions of a season for the replay server, and yield their plans."""
    asked_at = datetime.now(UTC)
    friday = datetime(YEAR, 3, 7, 12, tzinfo=UTC)
    for week in range(meetings):
        begin = friday + timedelta(days=7 * week)
        place = {
            "year": YEAR, "meeting_key": 8001 + week, "location": f"Town {week + 1}",
            "country_name": f"Country {week + 1}", "is_cancelled": False, "gmt_offset": "00:00:00",
        }  # fmt: skip
        sessions: list[dict[str, Any]] = []
        for order, hours in enumerate(_HOURS):
            start = begin + timedelta(hours=12 * order)
            sessions.append(
                place
                | {
                    "session_key": 80001 + len(_HOURS) * week + order,
                    "session_name": f"Session {order + 1}",
                    "session_type": "Race" if hours == max(_HOURS) else "Practice",
                    "date_start": start.isoformat(),
                    "date_end": (start + timedelta(hours=hours)).isoformat(),
                }
            )
        ends = {"date_start": sessions[0]["date_start"], "date_end": sessions[-1]["date_end"]}
        meeting = place | ends | {"meeting_name": f"Grand Prix {week + 1}"}
        with Folder(folder / f"meeting-{place['meeting_key']}") as files:
            files.write("meetings", [meeting])
            files.write("sessions", sessions)
        plans = tuple(SessionPlan(session_scope(YEAR, one, meeting), one) for one in sessions)
        yield MeetingPlan(meeting_scope(YEAR, 8001 + week, meeting, plans), meeting, plans, asked_at)


def units_of(plan: MeetingPlan) -> Sequence[Unit]:
    """Return the units that a load of a meeting would have."""
    units = remaining_of(plan)
    packer = Packer(units, Sizes(4_000_000, WINDOW))
    found: list[Unit] = []
    while packer:
        found += packer.take().units
    return found


def remaining_of(plan: MeetingPlan) -> list[Unit]:
    """Return what is missing of a meeting of which nothing is loaded."""
    return Remaining(plan, [[]], Selection(endpoints=tuple(ENDPOINTS)), datetime.now(UTC)).units()


def _loaded(unit: Unit) -> Outcome:
    drivers = _DRIVERS if unit.driver is None else (unit.driver,)
    return Outcome(
        unit, datetime.now(UTC), "openf1", records=_UNIT_ROWS, receipt=Receipt(_UNIT_ROWS, hash(unit.key) % 2**64),
        stats=RequestStats(requests=1, bytes=150_000), seconds=0.25, drivers=frozenset(drivers),
    )  # fmt: skip
