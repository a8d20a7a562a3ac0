"""Writes what is stored as files, a file for each endpoint and session, and remembers in a manifest what each holds.

A file is written again only if what is stored has changed since, so an export that was ended anywhere is run again.
"""

from __future__ import annotations

import json
import logging
from collections import Counter as Count
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from f1hbase.errors import ConfigError
from f1hbase.frames.reading import Completeness, read_made, stored_fingerprint
from f1hbase.frames.schemas import SCHEMA_VERSION
from f1hbase.levels import STATS, SUCCESS
from f1hbase.model.catalog import ALL_ENDPOINTS
from f1hbase.model.outcomes import UnitState
from f1hbase.model.plans import Selection
from f1hbase.model.text import count, duration, size
from f1hbase.model.units import Scope, Unit, endpoints_of
from f1hbase.operations.export.files import ExportEngine, FileJob, Written, write_file
from f1hbase.operations.export.forms import Part
from f1hbase.operations.export.layout import file_path, manifest_path
from f1hbase.pipeline.display import Counter, LineCounter, MakeCounter
from f1hbase.pipeline.load import run_async
from f1hbase.pipeline.plan import make_plan, selected
from f1hbase.sources.base import Reader
from f1hbase.sources.stored import StoredSource
from f1hbase.stores.files.objects import Objects
from f1hbase.stores.files.zone import MARKER

_log = logging.getLogger(__name__)

_NEEDED_TO_LOAD = ("meetings", "sessions")
"""Without these, nothing can be loaded from JSON lines."""


@dataclass(slots=True)
class ExportResult:
    """What an export did.

    Attributes:
        files: How many files were written.
        unchanged: How many were there already, with what is stored now.
        rows: The rows written, by endpoint.
        bytes: The bytes written, by endpoint.
        partial: The files of which not all is loaded, and what is missing.
        failures: The files that could not be written as something stored cannot be read, and why.
        not_loaded: How many were left out, as nothing of them is loaded.
    """

    files: int = 0
    unchanged: int = 0
    rows: Count[str] = field(default_factory=Count)
    bytes: Count[str] = field(default_factory=Count)
    partial: dict[str, Sequence[str]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    not_loaded: int = 0

    @property
    def exit_code(self) -> int:
        """0, or 1 if a file could not be written."""
        return 1 if self.failures else 0


def export(
    reader: Reader,
    target: Objects,
    selection: Selection,
    form: str,
    counter: MakeCounter = LineCounter,
    engine: ExportEngine | None = None,
) -> ExportResult:
    """Write the records of a selection as files.

    Args:
        reader: The store to read.
        target: Where the files go.
        selection: Which sessions, endpoints and drivers; of drivers, files hold those that were asked for before, too.
        form: `parquet`, `csv` or `jsonl`.
        counter: Makes what shows how far it is.
        engine: Reads the store by itself and writes all files; None writes one after the other in this process.

    Raises:
        ConfigError: If the target is a landing zone.
        NothingToLoadError: If the store has nothing of what was asked for.
        F1HBaseError: If the store or the target fails; what is written stays written.
    """
    if target.get(MARKER) is not None:
        raise ConfigError(f"'{target.location}' is a landing zone: name another folder with --to.")
    started = monotonic()
    plan = run_async(make_plan(StoredSource(reader), selection, datetime.now(UTC)))
    sessions = [session.scope for session in selected(plan)]
    keys = {scope.meeting_key for scope in sessions}
    scopes = [meeting.scope for meeting in plan.meetings if meeting.scope.meeting_key in keys] + sessions
    result = ExportResult()
    left: list[FileJob] = []
    shown = counter(len(scopes), "exported" if engine is None else "compared")
    try:
        for scope in scopes:
            states = reader.units(scope)
            shown.begin(scope.name, sum(int(state.stats.get("rows", 0)) for state in states))
            for unit in _units(scope, selection, form):
                job = _job(reader, target, form, unit, _drivers(unit, selection), states, result)
                if job is not None and engine is None:
                    _note(result, job, _write(reader, target, job, states, shown))
                elif job is not None:
                    left.append(job)
    finally:
        shown.close()
    if engine is not None and left:
        for job, written in engine.write(left, target):
            _note(result, job, written)
    _log_summary(result, target, monotonic() - started)
    return result


def _units(scope: Scope, selection: Selection, form: str) -> Iterator[Unit]:
    for endpoint in endpoints_of(scope):
        if endpoint.name in selection.endpoints or (form == "jsonl" and endpoint.name in _NEEDED_TO_LOAD):
            yield Unit(endpoint.name, scope)


def _drivers(unit: Unit, selection: Selection) -> frozenset[int] | None:
    return frozenset(selection.drivers) if selection.drivers and ALL_ENDPOINTS[unit.endpoint].by_driver else None


def _job(
    reader: Reader,
    target: Objects,
    form: str,
    unit: Unit,
    drivers: frozenset[int] | None,
    states: Sequence[UnitState],
    result: ExportResult,
) -> FileJob | None:
    """Return what is to be written of a unit; None if nothing of it is loaded, or its file is as it should be."""
    path = file_path(form, unit.endpoint, unit.scope)
    if problem := _unreadable(unit, drivers, states):
        # As of a damaged object: an earlier file stays, and is not written again with less in it.
        _fail(result, path, problem)
        return None
    completeness = Completeness(unit, states)
    if completeness.state == "absent":
        result.not_loaded += 1
        return None
    before = _manifest(target, manifest_path(form, unit.endpoint, unit.scope))
    if before is not None:
        # What was exported once stays in the export.
        had = before.get("drivers")
        drivers = None if had is None or drivers is None else drivers | frozenset(had)
    about = {
        "endpoint": unit.endpoint, "scope": unit.scope.prefix, "state": completeness.state,
        "missing": completeness.missing, "drivers": _sorted(drivers), "source": reader.home,
    }  # fmt: skip
    expected = sum(int(state.stats.get("rows", 0)) for state in states if state.endpoint == unit.endpoint)
    job = FileJob(form, unit, drivers, about, stored_fingerprint(unit, states), expected)
    if completeness.missing:
        result.partial[job.path] = completeness.missing
    if (
        before is not None
        and before["stored"] == job.stored
        and before["schema"] == SCHEMA_VERSION
        and before.get("drivers") == _sorted(drivers)
        and target.size(job.path) == before["bytes"]
    ):
        result.unchanged += 1
        return None
    return job


def _write(reader: Reader, target: Objects, job: FileJob, states: Sequence[UnitState], shown: Counter) -> Written:
    """Write a file in this process."""

    def read(make: Callable[[Part], object]) -> Iterator[object]:
        def counted(part: Part) -> tuple[int, object]:
            return len(part), make(part)

        for unit in job.units:
            for rows, made in read_made(reader, unit, states, counted):
                shown.count(rows)
                yield made

    return write_file(job, target, read)


def _note(result: ExportResult, job: FileJob, written: Written) -> None:
    if written.error is not None:
        _fail(result, job.path, written.error)
        return
    result.files += 1
    result.rows[job.unit.endpoint] += written.rows
    result.bytes[job.unit.endpoint] += written.bytes


def _fail(result: ExportResult, path: str, problem: str) -> None:
    _log.error("%s: %s", path, problem)
    result.failures[path] = problem


def _unreadable(unit: Unit, drivers: frozenset[int] | None, states: Sequence[UnitState]) -> str | None:
    """Return why it cannot be said what is stored of a unit, if that is so."""
    for state in states:
        is_wanted = drivers is None or state.driver is None or state.driver in drivers
        if state.is_unreadable and state.endpoint == unit.endpoint and is_wanted:
            return state.error
    return None


def _manifest(target: Objects, path: str) -> dict[str, Any] | None:
    content = target.get(path)
    if content is None:
        return None
    try:
        manifest = json.loads(content)
        return manifest if {"stored", "schema", "bytes"} <= manifest.keys() else None
    except (ValueError, AttributeError) as error:
        _log.warning("the manifest '%s' cannot be read (%s): its file is written again", path, error)
        return None


def _sorted(drivers: frozenset[int] | None) -> list[int] | None:
    return None if drivers is None else sorted(drivers)


def _log_summary(result: ExportResult, target: Objects, seconds: float) -> None:
    rows, written = sum(result.rows.values()), sum(result.bytes.values())
    rate = rows / seconds if seconds > 0 else 0.0
    _log.log(
        STATS, "%s written to %s (%s unchanged) in %s: %s rows, %s, %s rows/s",
        count(result.files, "file"), target.location, f"{result.unchanged:,}", duration(seconds), f"{rows:,}",
        size(written), f"{rate:,.0f}",
    )  # fmt: skip
    for endpoint in ALL_ENDPOINTS:
        if result.rows[endpoint]:
            by_row = result.bytes[endpoint] / result.rows[endpoint]
            _log.log(STATS, "  %-21s%12s rows %8.1f bytes a row", endpoint, f"{result.rows[endpoint]:,}", by_row)
    for path, missing in result.partial.items():
        _log.warning("'%s' has not all: %s", path, "; ".join(missing)[:500])
    if result.not_loaded:
        _log.info("%s left out, as nothing of them is loaded", count(result.not_loaded, "file"))
    if result.failures:
        _log.warning("%s could not be written (see above); the others are", count(len(result.failures), "file"))
    else:
        _log.log(SUCCESS, "all that is loaded of what was asked for is in '%s'", target.location)
