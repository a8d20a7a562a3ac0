"""Writes what is stored as files, a file for each endpoint and session, and remembers in a manifest what each holds.

A file is written again only if what is stored has changed since, so an export that was ended anywhere is run again.
"""

from __future__ import annotations

import hashlib
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
from f1hbase.operations.export.forms import FORMS, Content, Part
from f1hbase.operations.export.layout import file_path, manifest_path
from f1hbase.pipeline.display import Counter, LineCounter, MakeCounter
from f1hbase.pipeline.load import run_async
from f1hbase.pipeline.plan import make_plan, selected
from f1hbase.sources.base import Reader
from f1hbase.sources.stored import StoredSource, UnreadableError
from f1hbase.stores.files.objects import Objects
from f1hbase.stores.files.zone import MARKER
from f1hbase.version import __version__

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
        failures: The files that could not be written, and why.
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


@dataclass(frozen=True, slots=True)
class _File:
    """One file that is asked for."""

    form: str
    unit: Unit
    drivers: frozenset[int] | None
    states: Sequence[UnitState]

    @property
    def path(self) -> str:
        return file_path(self.form, self.unit.endpoint, self.unit.scope)

    @property
    def manifest_path(self) -> str:
        return manifest_path(self.form, self.unit.endpoint, self.unit.scope)


def export(
    reader: Reader, target: Objects, selection: Selection, form: str, counter: MakeCounter = LineCounter
) -> ExportResult:
    """Write the records of a selection as files.

    Args:
        reader: The store to read.
        target: Where the files go.
        selection: Which sessions, endpoints and drivers; of drivers, files hold those that were asked for before, too.
        form: `parquet`, `csv` or `jsonl`.
        counter: Makes what shows how far it is.

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
    shown = counter(len(scopes), "exported")
    try:
        for scope in scopes:
            states = reader.units(scope)
            expected = sum(int(state.stats.get("rows", 0)) for state in states)
            shown.begin(scope.name, expected)
            for file in _files(scope, states, selection, form):
                _export_file(reader, target, file, result, shown)
    finally:
        shown.close()
    _log_summary(result, target, monotonic() - started)
    return result


def _files(scope: Scope, states: Sequence[UnitState], selection: Selection, form: str) -> Iterator[_File]:
    for endpoint in endpoints_of(scope):
        if endpoint.name in selection.endpoints or (form == "jsonl" and endpoint.name in _NEEDED_TO_LOAD):
            drivers = frozenset(selection.drivers) if selection.drivers and endpoint.by_driver else None
            yield _File(form, Unit(endpoint.name, scope), drivers, states)


def _export_file(reader: Reader, target: Objects, file: _File, result: ExportResult, shown: Counter) -> None:
    completeness = Completeness(file.unit, file.states)
    if completeness.state == "absent":
        result.not_loaded += 1
        return
    before = _manifest(target, file)
    drivers = file.drivers
    if before is not None:
        # What was exported once stays in the export.
        had = before.get("drivers")
        drivers = None if had is None or drivers is None else drivers | frozenset(had)
    stored = stored_fingerprint(file.unit, file.states)
    if completeness.missing:
        result.partial[file.path] = completeness.missing
    if (
        before is not None
        and before["stored"] == stored
        and before["schema"] == SCHEMA_VERSION
        and before.get("drivers") == _sorted(drivers)
        and target.size(file.path) == before["bytes"]
    ):
        result.unchanged += 1
        return
    about = {
        "endpoint": file.unit.endpoint, "scope": file.unit.scope.prefix, "state": completeness.state,
        "missing": completeness.missing, "drivers": _sorted(drivers), "source": reader.home,
    }  # fmt: skip
    metadata = {f"f1hbase.{name}": text if isinstance(text, str) else json.dumps(text) for name, text in about.items()}
    try:
        content = FORMS[file.form](file.unit.endpoint, lambda make: _read(reader, file, drivers, make, shown), metadata)
    except UnreadableError as error:
        _log.error("%s: %s", file.path, error)
        result.failures[file.path] = str(error)
        return
    target.put(file.path, content.data)
    manifest = {
        "file": file.path, "format": file.form, "schema": SCHEMA_VERSION, **about, "stored": stored,
        "rows": content.rows, "bytes": len(content.data), "md5": _md5(content),
        "written_at": datetime.now(UTC).isoformat(), "written_by": f"f1hbase {__version__}",
    }  # fmt: skip
    target.put(file.manifest_path, json.dumps(manifest, indent=1).encode() + b"\n")
    result.files += 1
    result.rows[file.unit.endpoint] += content.rows
    result.bytes[file.unit.endpoint] += len(content.data)


def _read(
    reader: Reader,
    file: _File,
    drivers: frozenset[int] | None,
    make: Callable[[Part], object],
    shown: Counter,
) -> Iterator[object]:
    units = [file.unit] if drivers is None else [_of(file.unit, driver) for driver in sorted(drivers)]

    def counted(part: Part) -> tuple[int, object]:
        return len(part), make(part)

    for unit in units:
        for rows, made in read_made(reader, unit, file.states, counted):
            shown.count(rows)
            yield made


def _of(unit: Unit, driver: int) -> Unit:
    return Unit(unit.endpoint, unit.scope, driver)


def _manifest(target: Objects, file: _File) -> dict[str, Any] | None:
    content = target.get(file.manifest_path)
    if content is None:
        return None
    try:
        manifest = json.loads(content)
        return manifest if {"stored", "schema", "bytes"} <= manifest.keys() else None
    except (ValueError, AttributeError) as error:
        _log.warning("the manifest '%s' cannot be read (%s): its file is written again", file.manifest_path, error)
        return None


def _sorted(drivers: frozenset[int] | None) -> list[int] | None:
    return None if drivers is None else sorted(drivers)


def _md5(content: Content) -> str:
    return hashlib.md5(content.data, usedforsecurity=False).hexdigest()


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
