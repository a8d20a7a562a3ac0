"""What a landing zone remembers of itself: units (their manifests), quarantine, runs; no other store is needed."""

from __future__ import annotations

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from f1hbase.model.outcomes import Outcome, Quarantined, RunState, UnitState
from f1hbase.model.units import Scope, Unit
from f1hbase.state.base import Epochs, quarantine_key
from f1hbase.state.file_leases import epochs_of, holder_of
from f1hbase.stores.files.extractor import DamagedAnswerError
from f1hbase.stores.files.lease_objects import latest, meetings_with_leases
from f1hbase.stores.files.manifests import UNITS, manifest_path, read_manifest, scope_of_path, write_manifest
from f1hbase.stores.files.objects import Objects
from f1hbase.stores.files.zone import Zone

_log = logging.getLogger(__name__)

_RUNS = "_state/runs"
QUARANTINE = "_state/quarantine"
_FAMILIES = ("meta", "stats", "errors")


class FilesState:
    """The state of a landing zone: `State`, `Runs` and `StateIndex`.

    Args:
        zone: The zone.
    """

    def __init__(self, zone: Zone) -> None:
        self._zone = zone
        self._objects: Objects = zone.objects

    def unit_states(self, scope: Scope) -> list[UnitState]:
        """Return the units known of one session (or of a meeting as such) that count: none of an older epoch."""
        return self._zone.unit_states(scope)

    def write_units(self, run_id: str, outcomes: Sequence[Outcome]) -> None:
        """Write the manifests of units; only ever after their objects are durable."""
        written: dict[str, bytes] = {}
        outcome_of = {manifest_path(outcome.unit): outcome for outcome in outcomes}
        paths = list(outcome_of)
        for path, content in zip(paths, self._objects.get_all(paths), strict=True):
            try:
                before = None if content is None else read_manifest(content, path)
            except ValueError:
                before = None  # it counts as not written
            manifest = write_manifest(outcome_of[path], run_id, before)
            if manifest is None:
                _log.warning("%s was rolled back and loaded again meanwhile; that stands", outcome_of[path].unit)
            else:
                written[path] = manifest
        damaged: DamagedAnswerError | None = None
        try:
            self._publish([outcome_of[path] for path in written], written)
        except DamagedAnswerError as error:
            # The unit of that answer is asked for again, and then the file is made.
            damaged = error
            unit = Unit(error.unit.endpoint, error.scope, error.unit.driver, error.unit.window)
            written.update(self._failed(Outcome(unit, datetime.now(UTC), error=str(error)), run_id))
        self._objects.each(lambda path: self._objects.put(path, written[path]), list(written))
        if damaged is not None:
            raise damaged

    def _publish(self, outcomes: Sequence[Outcome], written: Mapping[str, bytes]) -> None:
        """Let the layout make its files, as the manifests will say it; only then may those be written."""
        if not self._zone.layout.makes_files:
            return
        changed: dict[Scope, list[Unit]] = defaultdict(list)
        for outcome in outcomes:
            if outcome.error is None:
                changed[outcome.unit.scope].append(outcome.unit)
        for scope, units in changed.items():
            endpoints = {unit.endpoint for unit in units}
            known = self._zone.unit_states(scope, endpoints)
            states = {manifest_path(Unit(s.endpoint, scope, s.driver, s.window)): s for s in known}
            for unit in units:
                path = manifest_path(unit)
                states[path] = read_manifest(written[path], path).state
            self._zone.layout.publish(self._objects, scope, endpoints, list(states.values()))

    def _failed(self, outcome: Outcome, run_id: str) -> dict[str, bytes]:
        path = manifest_path(outcome.unit)
        content = self._objects.get(path)
        before = None if content is None else read_manifest(content, path)
        outcome = replace(outcome, epoch=0 if before is None else before.epoch)
        manifest = write_manifest(outcome, run_id, before)
        return {} if manifest is None else {path: manifest}

    def quarantined(self, scope: Scope, endpoint: str) -> list[tuple[str, str]]:
        """Return what is in quarantine of an endpoint and session: each one's key, and the key of its unit."""
        folder = _quarantine_folder(scope.prefix, endpoint)
        paths = sorted(info.path for info in self._objects.under(folder) if info.path.endswith(".json"))
        found = []
        for path, content in zip(paths, self._objects.get_all(paths), strict=True):
            record = _parsed(content, f"{self._zone.shown}/{path}")
            digest = path.rpartition("/")[2].removesuffix(".json")
            found.append((f"quarantine#{scope.prefix}#{endpoint}#{digest}", str(record.get("unit", ""))))
        return found

    def all_quarantined(self) -> Iterator[tuple[str, str, str, str]]:
        """Yield of each record in quarantine its key, the prefix of its scope, its endpoint and the reason."""
        infos = self._objects.under(QUARANTINE)
        paths = sorted(info.path for info in infos if info.path.endswith(".json"))
        for path, content in zip(paths, self._objects.get_all(paths), strict=True):
            parts = dict(part.split("=", 1) for part in path.split("/")[:-1] if "=" in part)
            if not {"year", "meeting", "session", "endpoint"} <= parts.keys():
                continue
            record = _parsed(content, f"{self._zone.shown}/{path}")
            prefix = f"{parts['year']}#{parts['meeting']}#{parts['session']}"
            digest = path.rpartition("/")[2].removesuffix(".json")
            key = f"quarantine#{prefix}#{parts['endpoint']}#{digest}"
            yield key, prefix, parts["endpoint"], str(record.get("reason", ""))

    def put_quarantine(self, run_id: str, records: Collection[Quarantined]) -> None:
        """Put records aside; the same record twice is once."""
        contents = {
            _quarantine_path(quarantine_key(record)): json.dumps(
                {
                    "record": record.record,
                    "reason": record.reason,
                    "found": record.found.isoformat(),
                    "run": run_id,
                    "unit": record.unit,
                },
                ensure_ascii=False,
                indent=1,
            ).encode(errors="backslashreplace")
            for record in records
        }
        self._objects.each(lambda path: self._objects.put(path, contents[path]), list(contents))

    def delete_quarantine(self, keys: Collection[str]) -> None:
        """Take records out of quarantine, by their keys."""
        self._objects.delete([_quarantine_path(key) for key in keys])

    def write_run(self, run: RunState) -> None:
        """Write what is known of a run; fields written before and not now stay."""
        path = run_path(run.run_id)
        before = _parsed(self._objects.get(path), f"{self._zone.shown}/{path}")
        content = {family: {**_texts(before.get(family)), **getattr(run, family)} for family in _FAMILIES}
        self._objects.put(
            path, json.dumps(content, ensure_ascii=False, indent=1).encode(errors="backslashreplace") + b"\n"
        )

    def runs(self) -> list[RunState]:
        """Return all runs, the latest first."""
        paths = sorted((info.path for info in self._objects.under(_RUNS) if info.path.endswith(".json")), reverse=True)
        runs = []
        for path, content in zip(paths, self._objects.get_all(paths), strict=True):
            parsed = _parsed(content, f"{self._zone.shown}/{path}")
            run_id = path.rpartition("/")[2].removesuffix(".json")
            runs.append(RunState(run_id, *(_texts(parsed.get(family)) for family in _FAMILIES)))
        return runs

    def unit_scopes(self) -> Iterable[str]:
        """Yield the prefix of each scope that has units."""
        seen = {scope_of_path(info.path) for info in self._objects.under(UNITS)}
        yield from sorted(scope.prefix for scope in seen if scope is not None)

    def quarantine_counts(self) -> dict[tuple[str, str], int]:
        """Return how many records are in quarantine, by scope prefix and endpoint."""
        counts: Counter[tuple[str, str]] = Counter()
        for info in self._objects.under(QUARANTINE):
            parts = dict(part.split("=", 1) for part in info.path.split("/")[:-1] if "=" in part)
            if {"year", "meeting", "session", "endpoint"} <= parts.keys():
                counts[f"{parts['year']}#{parts['meeting']}#{parts['session']}", parts["endpoint"]] += 1
        return dict(counts)

    def holders(self) -> Iterator[tuple[Scope, str]]:
        """Yield the meetings that are being loaded now, and by whom, for people."""
        for meeting in meetings_with_leases(self._objects):
            holder = holder_of(self._objects, meeting, datetime.now(UTC))
            if holder is not None:
                yield meeting, holder

    def epochs(self, meeting: Scope) -> Epochs:
        """Return how often the sessions of a meeting were rolled back here."""
        return epochs_of(latest(self._objects, meeting))

    def delete_units(self, units: Collection[Unit]) -> None:
        """Delete the manifests of units, so that they count as not loaded; their objects stay."""
        self._objects.delete([manifest_path(unit) for unit in units])


def run_path(run_id: str) -> str:
    """Return the path of what is known of a run."""
    return f"{_RUNS}/{run_id}.json"


def _quarantine_path(key: str) -> str:
    """Return the path of what a key names."""
    _, *scope, endpoint, digest = key.split("#")
    return f"{_quarantine_folder('#'.join(scope), endpoint)}/{digest}.json"


def _quarantine_folder(scope_prefix: str, endpoint: str) -> str:
    year, meeting, session = scope_prefix.split("#")
    return f"{QUARANTINE}/year={year}/meeting={meeting}/session={session}/endpoint={endpoint}"


def _parsed(content: bytes | None, where: str) -> Mapping[str, Any]:
    """Return a JSON object; an empty one where there is none, or none that can be read."""
    if content is None:
        return {}
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError):
        parsed = None
    if isinstance(parsed, dict):
        return parsed
    _log.warning("'%s' cannot be read", where)
    return {}


def _texts(value: object) -> dict[str, str]:
    return {str(name): str(text) for name, text in value.items()} if isinstance(value, dict) else {}
