"""What of a landing zone is meant by a rollback: all there is of sessions or meetings, or what a run has loaded."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from f1hbase.model.catalog import ALL_ENDPOINTS
from f1hbase.model.text import count
from f1hbase.model.units import Scope
from f1hbase.operations.rollback.base import Extent, NothingToRollBackError, Target
from f1hbase.state.base import WHOLE_MEETING, epoch_key
from f1hbase.state.file_leases import Lease
from f1hbase.state.files import QUARANTINE, run_path
from f1hbase.stores.files.dated import FOLDER as DATED
from f1hbase.stores.files.extractor import ANSWERS, FILES
from f1hbase.stores.files.lease_objects import LEASES, latest, meetings_with_leases
from f1hbase.stores.files.manifests import UNITS, Manifest, endpoint_of_path, read_manifest
from f1hbase.stores.files.objects import Objects
from f1hbase.stores.files.packing import md5_hex
from f1hbase.stores.files.paths import safe_name, scope_folder
from f1hbase.stores.files.zone import Zone

JOURNALS = "_state/rollbacks"
"""What a rollback that was killed has still to delete."""

_AT_ONCE = 1000
_LONGEST_NAME = 100
_FOLDERS = re.compile(r"(?:^|/)year=(\d+)/meeting=(\d+)(?:/session=(\d+|-))?/")
_BY_CONTENT = (
    r"source=[^/]+/(?:listing|year=\d+/meeting=\d+(?:/session=\d+)?)/endpoint=[^/]+/"
    r"[^/]+-[0-9a-f]{32}\.(?:json|csv|jsonl)\.gz"
)
_OWN_NAMES = {
    "units": re.compile(_BY_CONTENT),
    "extractor": re.compile(f"{ANSWERS}/{_BY_CONTENT}"),
    "dated": re.compile(rf"{DATED}/\d{{4}}-\d\d-\d\d/[^/]+/\d+(?:-\d+)?\.json"),
}
"""What answers are called in each layout; anything else in the same folders is somebody else's."""


@dataclass(frozen=True, slots=True)
class Doomed:
    """Objects that no unit names any more.

    Attributes:
        own: Those that only the meetings that are rolled back can name.
        common: Those that a load of another meeting may be about to name.
    """

    own: Sequence[str]
    common: Sequence[str]


@dataclass(slots=True)
class Part:
    """A part of a landing zone that is to be deleted.

    Attributes:
        target: What was asked for.
        extent: How much it is.
        epochs: The epochs to raise before anything is deleted: keys of `Epochs.by_session` by meeting.
        manifests: Of the units that are to count as not loaded.
        kept: The manifests that count now and are to count as ever, with their sessions.
        files: Of which sessions (or meetings) and endpoints the layout's own files change.
        candidates: The objects of these units, and whether each is one that other meetings may name.
        quarantine: What is in quarantine of them.
        record: What is known of the run itself; empty where there is nothing, or no run is meant.
    """

    target: Target
    extent: Extent = field(default_factory=Extent)
    epochs: dict[Scope, set[str]] = field(default_factory=lambda: defaultdict(set))
    manifests: list[str] = field(default_factory=list)
    kept: dict[str, Scope] = field(default_factory=dict)
    files: set[tuple[Scope, str]] = field(default_factory=set)
    candidates: dict[str, bool] = field(default_factory=dict)
    quarantine: list[str] = field(default_factory=list)
    record: str = ""

    def covers(self, prefix: str) -> bool:
        """Return whether a session, by its scope prefix, is among the sessions or meetings asked for."""
        return any(_means(self.target, scope) for scope in (_scope_of_prefix(prefix),) if scope is not None)

    def leave_linked(self, objects: Objects) -> None:
        """Leave out the objects that lie behind linked folders, and say so."""
        links = {path: link for path in self.candidates if (link := objects.linked_folder(path)) is not None}
        for path in links:
            del self.candidates[path]
        for link in sorted(set(links.values())):
            lie = count(sum(1 for other in links.values() if other == link), "object")
            self.extent.notes.append(f"The folder '{link}' is a link to elsewhere: {lie} behind it stay.")

    def objects_to_delete(self, zone: Zone) -> Doomed:
        """Return the objects that no other unit's manifest names, neither now nor as an earlier version."""
        named = self._named(zone)
        doomed = [path for path in sorted(self.candidates) if path not in named]
        own = [path for path in doomed if not self.candidates[path]]
        return Doomed(own, [path for path in doomed if self.candidates[path]])

    def _named(self, zone: Zone) -> set[str]:
        going = set(self.manifests)
        # Another meeting's unit can only name a list of many meetings or, in `dated`, the same answer of one second.
        anywhere = any(common and path.startswith(f"{DATED}/") for path, common in self.candidates.items())
        paths = [
            info.path
            for info in zone.objects.under(UNITS)
            if info.path.endswith(".json")
            and info.path not in going
            and (anywhere or _is_listed(endpoint_of_path(info.path)) or _meeting(info.path) in self.extent.meetings)
        ]
        return {one["path"] for _, manifest in _read(zone.objects, paths) for one in _objects_of(manifest)}

    # --- the journal ---

    @property
    def _journal(self) -> str:
        name = safe_name(str(self.target))
        # Many keys make a longer name than file systems take.
        return f"{JOURNALS}/{name[:_LONGEST_NAME]}-{md5_hex(name.encode())[:8]}.json"

    def write_journal(self, objects: Objects) -> None:
        """Store what is to go, so that the same rollback finds it when the manifests are gone."""
        files = [[scope.year, scope.meeting_key, scope.session_key, endpoint] for scope, endpoint in self.files]
        content = {
            "target": str(self.target),
            "meetings": sorted([meeting.year, meeting.meeting_key] for meeting in self.extent.meetings),
            "files": sorted(files, key=str),
            "objects": self.candidates,
        }
        objects.put(self._journal, json.dumps(content, indent=1).encode() + b"\n")

    def read_journal(self, zone: Zone) -> bool:
        """Add what the same rollback left when it was killed; return whether there was one."""
        content = zone.objects.get(self._journal)
        if content is None:
            return False
        try:
            parsed = json.loads(content)
            meetings = {Scope(int(year), int(meeting), None) for year, meeting in parsed["meetings"]}
            files = {(Scope(int(y), int(m), s), str(endpoint)) for y, m, s, endpoint in parsed["files"]}
            objects = {str(path): bool(common) for path, common in parsed["objects"].items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return True  # it was of a rollback that had deleted nothing, or is damaged: it is written again
        self.extent.meetings |= meetings
        self.files |= files
        self.candidates |= {path: common for path, common in objects.items() if _is_answer(zone, path)}
        return True

    def delete_journal(self, objects: Objects) -> None:
        """Nothing is left to be found."""
        objects.delete([self._journal])


def find_part(zone: Zone, target: Target) -> Part:
    """Find what a target means.

    Raises:
        NothingToRollBackError: If there is no such run, session or meeting; says how to see which there are.
    """
    part = Part(target)
    was_killed = part.read_journal(zone)
    sizes = {info.path: info.size for info in zone.objects.under("")}
    if target.run:
        found = _add_run(part, zone, sizes)
        hint = f"'status --json --to {zone.shown}' lists all runs"
    else:
        found = _add_scopes(part, zone, sizes)
        hint = f"'status --to {zone.shown}' lists what is loaded"
    if not found and not was_killed:
        raise NothingToRollBackError(f"the landing zone '{zone.shown}' has nothing of {target}; {hint}.")
    if was_killed:
        part.extent.notes.append("This rollback was begun before: what it left is deleted, too.")
    part.leave_linked(zone.objects)
    doomed = part.objects_to_delete(zone)
    going = [path for path in (*doomed.own, *doomed.common) if path in sizes]
    megabytes = sum(sizes[path] for path in going) / 1e6
    note = f"{count(len(going), 'object')} of answers ({megabytes:,.1f} MB) are deleted"
    if stay := len(part.candidates) - len(doomed.own) - len(doomed.common):
        note += f"; {count(stay, 'object')} that other units name as well stay"
    part.extent.notes.append(f"{note}.")
    return part


def _add_scopes(part: Part, zone: Zone, paths: Collection[str]) -> bool:
    """Add all there is of sessions, or of meetings with their sessions; return whether there is anything."""
    target, extent = part.target, part.extent
    scopes: set[Scope] = set()
    manifests: list[str] = []
    for path in paths:
        scope = _scope(path)
        if scope is None or not _means(target, scope):
            continue
        if path.startswith(f"{UNITS}/") and path.endswith(".json"):
            manifests.append(path)
        elif path.startswith(f"{QUARANTINE}/"):
            part.quarantine.append(path)
        elif path.startswith(f"{FILES}/"):
            part.files.add((scope, path.rpartition("/")[2].removesuffix(".json")))
        elif _is_answer(zone, path):
            part.candidates.setdefault(path, False)
        else:
            continue
        scopes.add(scope)
    part.files = {(scope, endpoint) for scope, endpoint in part.files if endpoint in ALL_ENDPOINTS}
    part.manifests = sorted(manifests)
    readable = set()
    for path, manifest in _read(zone.objects, part.manifests):
        readable.add(path)
        _add_unit(part, zone, manifest)
    for path in part.manifests:
        if path not in readable and (scope := _scope(path)) is not None:
            extent.add(scope.prefix, endpoint_of_path(path), 0)
    extent.quarantined = len(part.quarantine)
    extent.meetings |= {scope.meeting for scope in scopes}
    for scope in scopes:
        part.epochs[scope.meeting].add(WHOLE_MEETING if target.meetings else epoch_key(scope))
    for meeting in extent.meetings - part.epochs.keys():  # known from the journal alone
        part.epochs[meeting] |= {WHOLE_MEETING} if target.meetings else set(map(str, target.sessions))
    found = {key for scope in scopes for key in (scope.meeting_key, scope.session_key)}
    absent = sorted({*target.sessions, *target.meetings} - found)
    extent.notes += [f"There is nothing of {key}." for key in absent] if scopes else []
    return bool(scopes)


def _add_run(part: Part, zone: Zone, paths: Collection[str]) -> bool:
    """Add the units whose manifests a run wrote last; return whether there is anything of the run."""
    extent, run = part.extent, part.target.run
    others: dict[Scope, list[str]] = defaultdict(list)
    mine: dict[str, Scope] = {}
    every = sorted(path for path in paths if path.startswith(f"{UNITS}/") and path.endswith(".json"))
    epochs: dict[Scope, int] = {}
    for path, manifest in _read(zone.objects, every):
        scope = _scope(path)
        if scope is None:
            continue
        if manifest.state.run == run:
            mine[path] = scope
            _add_unit(part, zone, manifest)
            part.files.add((scope, manifest.state.endpoint))
        else:
            others[scope].append(path)
            epochs[scope] = max(epochs.get(scope, 0), manifest.epoch)
    part.manifests = list(mine)
    scopes = {*mine.values(), *(scope for scope, _ in part.files)}
    for scope in scopes:
        extent.meetings.add(scope.meeting)
        part.epochs[scope.meeting].add(epoch_key(scope))
        epoch = latest(zone.objects, scope.meeting).epoch(scope)
        part.kept |= {path: scope for path, manifest in _read(zone.objects, others[scope]) if manifest.epoch >= epoch}
    quarantined = [path for path in paths if path.startswith(f"{QUARANTINE}/") and path.endswith(".json")]
    for path, content in _contents(zone.objects, quarantined):
        if _run_of(content) == run:
            part.quarantine.append(path)
            scope = _scope(path)
            if scope is not None:
                extent.meetings.add(scope.meeting)
    extent.quarantined = len(part.quarantine)
    for meeting in meetings_with_leases(zone.objects):
        lease = Lease.parse(latest(zone.objects, meeting).content)
        if lease is not None and lease.run == run and lease.holders:
            extent.meetings.add(meeting)
    if run_path(run) in paths:
        part.record = run_path(run)
    record = zone.objects.get(part.record) if part.record else None
    if record is not None and not _has_ended(record):
        extent.notes.append(
            "The run was killed: answers that it stored and did not live to report stay, until a load uses them or "
            "their session is rolled back."
        )
    return bool(mine or part.quarantine) or record is not None


def _add_unit(part: Part, zone: Zone, manifest: Manifest) -> None:
    state = manifest.state
    part.extent.add(state.scope_prefix, state.endpoint, state.stats.get("rows", 0))
    scope = _scope_of_prefix(state.scope_prefix)
    for one in _objects_of(manifest):
        path = one["path"]
        if scope is None or not _is_answer(zone, path):
            continue
        is_of_meeting = f"/{scope_folder(scope.meeting)}/" in path
        if (
            is_of_meeting or "/listing/" in path or path.startswith(f"{DATED}/")
        ):  # a manifest has no say in another meeting's folder
            may_be_common = _is_listed(state.endpoint) or not one.get("records")
            part.candidates[path] = may_be_common and not is_of_meeting


def _objects_of(manifest: Manifest) -> Iterator[Mapping[str, Any]]:
    """Yield the objects that a manifest names, those of earlier versions of its unit included."""
    for one in (*manifest.state.objects, *manifest.earlier):
        if isinstance(one.get("path"), str):
            yield one


def _read(objects: Objects, paths: Sequence[str]) -> Iterator[tuple[str, Manifest]]:
    """Yield the manifests that can be read of these."""
    for path, content in _contents(objects, paths):
        try:
            yield path, read_manifest(content, path)
        except ValueError:
            continue  # it counts as not loaded, and nobody can tell what it names


def _contents(objects: Objects, paths: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    for start in range(0, len(paths), _AT_ONCE):
        some = paths[start : start + _AT_ONCE]
        for path, content in zip(some, objects.try_all(some), strict=True):
            if isinstance(content, bytes):
                yield path, content


def _is_listed(endpoint: str) -> bool:
    """Return whether the answers of an endpoint are lists of many meetings."""
    return endpoint in ALL_ENDPOINTS and endpoint in ALL_ENDPOINTS[endpoint].dataset.listing


def _is_answer(zone: Zone, path: str) -> bool:
    """Return whether a path is one that the layout gives to answers; nothing else is deleted, whoever names it."""
    return _OWN_NAMES[zone.layout.name].fullmatch(path) is not None and not {".", ".."} & set(path.split("/"))


def _scope(path: str) -> Scope | None:
    """Return the session, or the meeting as such, whose folder a path is in."""
    found = _FOLDERS.search(path)
    if found is None or path.startswith(f"{LEASES}/"):
        return None
    session = None if found[3] in (None, "-") else int(found[3])
    return Scope(int(found[1]), int(found[2]), session)


def _meeting(path: str) -> Scope | None:
    scope = _scope(path)
    return None if scope is None else scope.meeting


def _scope_of_prefix(prefix: str) -> Scope | None:
    return _scope("year={}/meeting={}/session={}/".format(*prefix.split("#"))) if prefix.count("#") == 2 else None


def _means(target: Target, scope: Scope) -> bool:
    return scope.meeting_key in target.meetings or scope.session_key in target.sessions


def _run_of(content: bytes) -> object:
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return parsed.get("run") if isinstance(parsed, dict) else None


def _has_ended(record: bytes) -> bool:
    try:
        return "end" in json.loads(record)["meta"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
