"""The manifest of a unit: a JSON object that is written last and is the unit's done mark.

It names the objects that hold the unit's records and which of their records are the unit's. All manifests of a session
lie in one folder of `_state/units/`, so that one listing finds them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, NoReturn, TypeVar

import msgspec

from f1hbase.model.coverage import status_of
from f1hbase.model.outcomes import Outcome, Status, UnitState
from f1hbase.model.times import lenient_time, parse_time
from f1hbase.model.units import LARGEST_KEY, YEARS, Scope, Unit, Window, parse_scope
from f1hbase.stores.files.objects import Objects, UnreadableObjectError
from f1hbase.stores.files.packing import GZIP
from f1hbase.stores.files.paths import scope_folder
from f1hbase.version import __version__

_log = logging.getLogger(__name__)

UNITS = "_state/units"
"""The folder of all manifests."""

VERSION = 1
"""The form of a manifest."""


LARGEST_MANIFEST_BYTES = 8_000_000
"""Room for ten thousand objects; those of a recorded race have some hundreds."""

_Whole = Annotated[int, msgspec.Meta(ge=0, le=LARGEST_KEY)]
_Number = Annotated[int, msgspec.Meta(ge=-LARGEST_KEY, le=LARGEST_KEY)]
_Short = Annotated[str, msgspec.Meta(max_length=10_000)]
_Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
_Form = TypeVar("_Form")


class _Unit(msgspec.Struct):
    year: Annotated[int, msgspec.Meta(ge=YEARS[0], le=YEARS[-1])]
    meeting_key: _Whole
    session_key: _Whole | None
    endpoint: _Short
    driver_number: _Number | None
    start: str | None = msgspec.field(name="from")
    before: str | None


class _Named(msgspec.Struct):
    path: Annotated[str, msgspec.Meta(min_length=1, max_length=1_024)]


class _Object(_Named):
    """What must be said of an object so that it can be read; manifests keep whatever else is said."""

    source: _Short
    request: str
    asked_at: str
    stored_at: str
    content_type: _Short
    md5: _Digest
    stored_md5: _Digest
    bytes: _Whole
    status: Annotated[int, msgspec.Meta(ge=100, le=599)]
    select: dict[_Short, _Number]
    records: _Whole = 0
    stored_bytes: _Whole = 0
    packing: str = GZIP


class _Said(msgspec.Struct):
    version: Annotated[int, msgspec.Meta(ge=1, le=VERSION)]
    unit: _Unit
    status: Status
    run: _Short
    source: _Short
    epoch: _Whole
    fetched: str
    counts: dict[_Short, Annotated[float, msgspec.Meta(ge=0, lt=LARGEST_KEY)]]
    drivers: Annotated[list[_Number], msgspec.Meta(max_length=1_000)]
    error: str | None
    objects: list[dict[str, Any]]
    earlier: list[_Named]
    validator: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest as it is stored: the state of its unit, the epoch it was written in, and the objects before those."""

    state: UnitState
    epoch: int
    earlier: Sequence[Mapping[str, Any]]


def manifest_path(unit: Unit) -> str:
    """Return the path of a unit's manifest."""
    parts = (unit.endpoint, "all" if unit.driver is None else str(unit.driver), *map(_edge, _edges(unit.window)))
    return f"{scope_manifests(unit.scope)}/{'__'.join(parts)}.json"


def scope_manifests(scope: Scope) -> str:
    """Return the folder of the manifests of a session, or of a meeting as such: no other's are in it."""
    folder = scope_folder(scope)
    return f"{UNITS}/{folder}/session=-" if scope.session_key is None else f"{UNITS}/{folder}"


def scope_of_path(path: str) -> Scope | None:
    """Return the session (or meeting) whose manifest, lease or quarantine has this path; None if it is none's."""
    parts = dict(part.split("=", 1) for part in path.split("/")[:-1] if "=" in part)
    if not {"year", "meeting", "session"} <= parts.keys():
        return None
    return parse_scope(f"{parts['year']}#{parts['meeting']}#{parts['session']}")


def endpoint_of_path(path: str) -> str:
    """Return the endpoint that the path of a manifest speaks of."""
    return path.rpartition("/")[2].partition("__")[0]


def write_manifest(outcome: Outcome, run_id: str, before: Manifest | None) -> bytes | None:
    """Return the manifest of a unit that ended.

    Args:
        outcome: How it ended.
        run_id: The run that it was part of.
        before: Its manifest until now.

    Returns:
        The JSON; None if the manifest of now was written after a rollback that this worker does not know of, or what
        was to stand as it is has been rolled back.
    """
    if before is not None and before.epoch > outcome.epoch:
        return None
    # What was stored before a rollback is deleted.
    earlier = before if before is not None and before.epoch == outcome.epoch else None
    failed = outcome.error is not None
    status = Status.FAILED if failed else status_of(outcome.unit, outcome.asked_at)
    objects: Sequence[Mapping[str, Any]] = _merged(outcome.receipt.objects)
    replaced: Sequence[Mapping[str, Any]] = _replaced(earlier, objects)
    counts: Mapping[str, float] = _counts(outcome)
    drivers: Iterable[int] = outcome.drivers
    if failed:
        # What an earlier success stored stays; that it failed this time makes it no worse.
        objects, replaced, counts, drivers = (), (), {}, ()
        if earlier is not None:
            objects, replaced = earlier.state.objects, earlier.earlier
            counts, drivers = earlier.state.stats, earlier.state.drivers
    elif outcome.unchanged:
        if earlier is None:
            return None  # what was to stand is gone
        objects, replaced = earlier.state.objects, earlier.earlier
        counts, drivers, run_id = earlier.state.stats, earlier.state.drivers, earlier.state.run
    unit = outcome.unit
    start, end = _edges(unit.window)
    content = {
        "version": VERSION,
        "loader": f"f1hbase {__version__}",
        "unit": {
            "year": unit.scope.year,
            "meeting_key": unit.scope.meeting_key,
            "session_key": unit.scope.session_key,
            "endpoint": unit.endpoint,
            "driver_number": unit.driver,
            "from": None if start is None else start.isoformat(),
            "before": None if end is None else end.isoformat(),
        },
        "status": status.value,
        "run": run_id,
        "source": outcome.source,
        "epoch": outcome.epoch,
        "fetched": outcome.asked_at.isoformat(),
        "written": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "counts": counts,
        "drivers": sorted(drivers),
        "error": outcome.error,
        "validator": outcome.validator,
        "objects": list(objects),
        "earlier": list(replaced),
    }
    return json.dumps(content, ensure_ascii=False, indent=1).encode(errors="backslashreplace") + b"\n"


def with_epoch(content: bytes, epoch: int) -> bytes:
    """Return a manifest that is the same but for its epoch."""
    changed = {**json.loads(content), "epoch": epoch}
    return json.dumps(changed, ensure_ascii=False, indent=1).encode(errors="backslashreplace") + b"\n"


def read_manifest(content: bytes, path: str) -> Manifest:
    """Return what a manifest says.

    Raises:
        ValueError: If it is none, or not of the unit that its path names.
    """
    if len(content) > LARGEST_MANIFEST_BYTES:
        raise ValueError(f"it has {len(content):,} bytes, more than any of f1hbase's")
    try:
        parsed = json.loads(content, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("it is nested more deeply than any of f1hbase's") from error
    _refuse_later(parsed)
    said = _converted(parsed, _Said)
    for one in parsed["objects"]:
        _check_object(_converted(one, _Object))
    scope = Scope(said.unit.year, said.unit.meeting_key, said.unit.session_key)
    state = UnitState(
        scope_prefix=scope.prefix,
        endpoint=said.unit.endpoint,
        driver=said.unit.driver_number,
        window=Window(_edge_of(said.unit.start, "from"), _edge_of(said.unit.before, "before")),
        status=said.status,
        drivers=frozenset(said.drivers),
        stats=said.counts,
        error=said.error,
        run=said.run,
        fetched=_moment(said.fetched, "fetched"),
        source=said.source,
        objects=tuple(parsed["objects"]),
        validator=said.validator,
    )
    result = Manifest(state, said.epoch, tuple(parsed["earlier"]))
    if manifest_path(Unit(state.endpoint, scope, state.driver, state.window)) != path:
        raise ValueError("it is not of the unit that its name says")
    return result


def unit_of_path(path: str) -> Unit | None:
    """Return the unit whose manifest has this path; None if it is none's."""
    scope, parts = scope_of_path(path), path.rpartition("/")[2].removesuffix(".json").split("__")
    if scope is None or len(parts) != 4:
        return None
    try:
        driver = None if parts[1] == "all" else int(parts[1])
        start, end = (None if edge == "open" else parse_time(edge) for edge in parts[2:])
    except (ValueError, OverflowError):
        return None
    unit = Unit(parts[0], scope, driver, Window(start, end))
    return unit if manifest_path(unit) == path else None


def read_manifests(objects: Objects, paths: Sequence[str]) -> tuple[list[Manifest], list[UnitState]]:
    """Return the manifests that can be read of these, and of the others the units, as failed ones.

    The others are named in the log, and count as not written.
    """
    found, unreadable = [], []
    for path, content in zip(paths, objects.try_all(paths), strict=True):
        if content is None:
            continue  # deleted since it was listed
        try:
            if isinstance(content, UnreadableObjectError):
                raise ValueError(str(content))  # noqa: TRY004 - one way for all that is unreadable
            found.append(read_manifest(content, path))
        except ValueError as error:
            # Not understood is not done: the unit is fetched again.
            _log.warning(
                "'%s/%s' cannot be read as a manifest (%s); its unit counts as not loaded",
                objects.location,
                path,
                error,
            )
            unit = unit_of_path(path)
            if unit is not None:
                problem = f"its manifest '{path}' cannot be read: {error}. Load it there again."
                unreadable.append(
                    UnitState(
                        unit.scope.prefix, unit.endpoint, unit.driver, unit.window, Status.FAILED, error=problem,
                        is_unreadable=True,
                    )
                )  # fmt: skip
    return found, unreadable


def _merged(objects: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return each object once: of an answer that came in several batches the records are added up."""
    merged: dict[tuple[Any, ...], dict[str, Any]] = {}
    for one in objects:
        key = (one["path"], *sorted(one["select"].items()))
        if key in merged:
            merged[key]["records"] += one["records"]
        else:
            merged[key] = dict(one)
    return list(merged.values())


def _replaced(before: Manifest | None, objects: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the objects of earlier versions of a unit, the newest first, without those that count now."""
    if before is None:
        return []
    seen = {one["path"] for one in objects}
    earlier = []
    for one in (*before.state.objects, *before.earlier):
        if one["path"] not in seen:
            seen.add(one["path"])
            earlier.append(one)
    return earlier


def _counts(outcome: Outcome) -> dict[str, float]:
    return {
        "records": outcome.records,
        "rows": outcome.rows,
        "duplicates": outcome.duplicates,
        "quarantined": outcome.quarantined,
        "bytes": outcome.stats.bytes,
        "requests": outcome.stats.requests,
        "retries": outcome.stats.retries,
        "seconds": round(outcome.seconds, 3),
    }


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _refuse_later(parsed: object) -> None:
    """Refuse the manifest of a later version before its form is looked at, which may be another."""
    version = parsed.get("version") if isinstance(parsed, dict) else None
    if type(version) is int and version > VERSION:
        raise ValueError(f"it is of version {version!r:.20}, which a later f1hbase wrote")


def _converted(value: object, form: type[_Form]) -> _Form:
    """Return a part of a manifest in its form.

    Raises:
        ValueError: If it has not that form; names the field.
    """
    try:
        return msgspec.convert(value, form)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).partition(" - at `$")
        raise ValueError(f"field '{place.strip('.`')}': {problem}" if place else problem) from error


def _check_object(one: _Object) -> None:
    _moment(one.asked_at, "asked_at")
    _moment(one.stored_at, "stored_at")


def _edge_of(text: str | None, name: str) -> datetime | None:
    return None if text is None else _moment(text, name)


def _moment(text: str, name: str) -> datetime:
    moment = lenient_time(text)
    if moment is None or moment.year < YEARS[0]:
        raise ValueError(f"field '{name}': {text!r:.60} is no time that a session can have")
    return moment


def _edges(window: Window) -> tuple[datetime | None, datetime | None]:
    return tuple(None if edge is None else edge.astimezone(UTC) for edge in (window.start, window.end))  # type: ignore[return-value]


def _edge(moment: datetime | None) -> str:
    if moment is None:
        return "open"
    return f"{moment:%Y%m%dT%H%M%S}" + (f".{moment.microsecond:06d}Z" if moment.microsecond else "Z")
