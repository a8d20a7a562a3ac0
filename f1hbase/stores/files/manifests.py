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
from typing import Any

from f1hbase.model.coverage import status_of
from f1hbase.model.outcomes import Outcome, Status, UnitState
from f1hbase.model.times import parse_time
from f1hbase.model.units import Scope, Unit, Window, parse_scope
from f1hbase.stores.files.objects import Objects
from f1hbase.stores.files.paths import scope_folder
from f1hbase.version import __version__

_log = logging.getLogger(__name__)

UNITS = "_state/units"
"""The folder of all manifests."""

VERSION = 1
"""The form of a manifest."""


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
    try:
        parsed = json.loads(content)
        if int(parsed["version"]) > VERSION:
            raise ValueError(f"it is of version {parsed['version']}, which a later f1hbase wrote")
        unit = parsed["unit"]
        scope = Scope(int(unit["year"]), int(unit["meeting_key"]), _number(unit["session_key"]))
        window = Window(*(None if unit[edge] is None else parse_time(unit[edge]) for edge in ("from", "before")))
        state = UnitState(
            scope_prefix=scope.prefix,
            endpoint=str(unit["endpoint"]),
            driver=_number(unit["driver_number"]),
            window=window,
            status=Status(parsed["status"]),
            drivers=frozenset(map(int, parsed["drivers"])),
            stats={str(name): float(value) for name, value in parsed["counts"].items()},
            error=None if parsed["error"] is None else str(parsed["error"]),
            run=str(parsed["run"]),
            fetched=parse_time(parsed["fetched"]),
            source=str(parsed["source"]),
            objects=tuple(map(_object, parsed["objects"])),
            validator=str(parsed.get("validator", "")),
        )
        result = Manifest(state, int(parsed["epoch"]), tuple(map(dict, parsed["earlier"])))
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"it lacks what a manifest has ({type(error).__name__}: {error})") from error
    if manifest_path(Unit(state.endpoint, scope, state.driver, state.window)) != path:
        raise ValueError("it is not of the unit that its name says")
    return result


def read_manifests(objects: Objects, paths: Sequence[str]) -> list[Manifest]:
    """Return the manifests that can be read of these; the others are named in the log, and count as not written."""
    found = []
    for path, content in zip(paths, objects.get_all(paths), strict=True):
        if content is None:
            continue  # deleted since it was listed
        try:
            found.append(read_manifest(content, path))
        except ValueError as error:
            # Not understood is not done: the unit is fetched again.
            _log.warning(
                "'%s/%s' cannot be read as a manifest (%s); its unit counts as not loaded",
                objects.location,
                path,
                error,
            )
    return found


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


def _object(one: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a manifest says of an object, if it says all that is needed to read it.

    Raises:
        KeyError, TypeError, ValueError: If it does not.
    """
    texts = ("path", "source", "request", "asked_at", "stored_at", "content_type", "md5", "stored_md5")
    for name, kind in [*((name, str) for name in texts), ("bytes", int), ("status", int), ("select", dict)]:
        if type(one[name]) is not kind:
            raise TypeError(f"'{name}' of an object is {one[name]!r:.40}")
    return dict(one)


def _number(value: object) -> int | None:
    if value is not None and type(value) is not int:
        raise TypeError(f"{value!r:.40} is no whole number")
    return value


def _edges(window: Window) -> tuple[datetime | None, datetime | None]:
    return tuple(None if edge is None else edge.astimezone(UTC) for edge in (window.start, window.end))  # type: ignore[return-value]


def _edge(moment: datetime | None) -> str:
    if moment is None:
        return "open"
    return f"{moment:%Y%m%dT%H%M%S}" + (f".{moment.microsecond:06d}Z" if moment.microsecond else "Z")
