"""A landing zone as `verify` looks at it: its objects and files against its manifests. Reads only.

One listing gives the sizes of all objects, so that without `deep` only manifests are read.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from f1hbase.config import Config
from f1hbase.destinations.base import Batch
from f1hbase.errors import ConfigError
from f1hbase.model.answers import Answer
from f1hbase.model.catalog import ALL_ENDPOINTS
from f1hbase.model.outcomes import RunState, UnitState
from f1hbase.model.records import compact_json, identity
from f1hbase.model.text import count
from f1hbase.model.units import SEPARATOR, Scope, Unit, own_endpoint
from f1hbase.operations.verify.base import Aside, Auditor, Depth, StoredRecord, Survey, Tick
from f1hbase.operations.verify.differences import Difference, Kind
from f1hbase.operations.verify.expected import described
from f1hbase.operations.verify.files_objects import ObjectChecks
from f1hbase.operations.verify.reconcile import ExpectedRange, Reconciliation, Standing
from f1hbase.pipeline.normalise import Account, AnswerNormaliser
from f1hbase.sources.files import ZoneReader
from f1hbase.sources.stored import StoredSource
from f1hbase.state.files import FilesState
from f1hbase.stores.files.extractor import facts_path, is_complete
from f1hbase.stores.files.lease_objects import LeaseObject, latest
from f1hbase.stores.files.manifests import UNITS, Manifest, read_manifest, scope_of_path
from f1hbase.stores.files.objects import Objects, UnreadableObjectError
from f1hbase.stores.files.urls import LocationError, parse_location
from f1hbase.stores.files.zone import MARKER, Zone, find_zone

_STATE_FOLDERS = ("units", "runs", "quarantine", "leases", "files", "names", "ingested")
_OWN_FOLDERS = (*(f"_state/{name}/" for name in _STATE_FOLDERS), "files/")
"""What is below these is no answer, and no manifest names it."""

_EXAMPLES = 3
"""How many objects that no manifest names are shown."""


class FilesAuditor:
    """Looks at a landing zone; see `f1hbase.operations.verify.base.Auditor`.

    Args:
        zone: The zone.
    """

    look = "the sizes of its objects are right; --deep reads them, too"
    deep_look = "every object read"

    def __init__(self, zone: Zone) -> None:
        self.name = f"the landing zone '{zone.shown}'"
        self.viewer = f"'{zone.shown}'"
        self._zone = zone
        self._objects = zone.objects
        self._state = FilesState(zone)
        self._sizes: dict[str, int] = {}
        self._manifests: dict[str, list[str]] = defaultdict(list)
        self._named: set[str] = {MARKER}
        self._unreadable: dict[str, list[Difference]] = defaultdict(list)
        self._states: dict[str, Sequence[UnitState]] = {}
        self._leases: dict[str, LeaseObject] = {}
        self._checks = ObjectChecks(self._objects, self._sizes)
        self._own: dict[str, dict[tuple[Any, ...], Mapping[str, Any]]] = {}

    def check(self, depth: Depth) -> None:
        """Refuse RowCounter, which counts the rows of a table.

        Raises:
            ConfigError: If it was asked for.
        """
        if depth.row_counter:
            raise ConfigError(
                f"--row-counter counts the rows of an HBase table, and '{self._zone.shown}' is a landing zone: leave "
                "it out; --deep reads every object."
            )

    def survey(self) -> Survey:
        """List the zone once, and return what has manifests."""
        for info in self._objects.under(""):
            self._sizes[info.path] = info.size
            scope = scope_of_path(info.path) if info.path.startswith(f"{UNITS}/") else None
            if scope is not None and info.path.endswith(".json"):
                self._manifests[scope.prefix].append(info.path)
        return Survey(set(self._manifests))

    def runs(self) -> Sequence[RunState]:
        """Return the runs that loaded something into the zone."""
        return self._state.runs()

    def quarantined(self) -> Iterator[Aside]:
        """Yield the records in quarantine."""
        return (Aside(*one) for one in self._state.all_quarantined())

    def loading(self, meetings: Iterable[Scope]) -> Iterator[str]:
        """Yield which meetings have a lease that somebody holds."""
        wanted = {meeting.prefix for meeting in meetings}
        for meeting, holder in self._state.holders():
            if meeting.prefix in wanted:
                yield f"meeting {meeting.meeting_key} by {holder}"

    def describe(self, scope: Scope) -> Scope:
        """Return a scope with what its own record says, where that can be read."""
        endpoint, key = own_endpoint(scope).name, tuple(scope.fields.values())
        for state in self._states.get(scope.prefix, ()):
            for stored in state.objects if state.endpoint == endpoint else ():
                record = self._own_records(endpoint, stored).get(key)
                if record is not None:
                    return described(scope, record)
        return scope

    def units(self, scope: Scope) -> Sequence[UnitState]:
        """Return the units whose manifests count: none that is older than a rollback."""
        paths = sorted(self._manifests[scope.prefix])
        manifests: list[Manifest] = []
        for path, content in zip(paths, self._objects.try_all(paths), strict=True):
            if content is None:
                continue  # deleted since it was listed
            try:
                if isinstance(content, UnreadableObjectError):
                    raise ValueError(str(content))  # noqa: TRY004 - one way for all that is unreadable
                manifests.append(read_manifest(content, path))
            except ValueError as error:
                detail = f"the manifest '{path}' cannot be read ({error}), so that its unit counts as not loaded"
                endpoint = path.rpartition("/")[2].partition("__")[0]
                one = Difference(Kind.OBJECT, detail, scope, endpoint if endpoint in ALL_ENDPOINTS else None)
                self._unreadable[scope.prefix].append(one)
        for manifest in manifests:
            self._named.update(str(one.get("path")) for one in (*manifest.state.objects, *manifest.earlier))
        epoch = self._lease(scope.meeting).epoch(scope) if manifests else 0
        states = [manifest.state for manifest in manifests if manifest.epoch >= epoch]
        self._states[scope.prefix] = states
        return states

    def count(
        self, scope: Scope, reconciliations: Mapping[str, Reconciliation], tick: Tick, *, deep: bool
    ) -> Iterator[Difference]:
        """Count the records whose objects are as the manifests say, and yield each object and file that is not."""
        ranges = [
            (book, one, one.state)
            for book in reconciliations.values()
            for one in book.ranges
            # Of a unit that others have replaced nothing is loaded any more.
            if one.state is not None and one.state.was_stored and one.standing is not Standing.GONE
        ]
        self._checks.prepare([stored for _, _, state in ranges for stored in state.objects], deep=deep)
        for book, one, state in ranges:
            yield from self._count_unit(book, one, state, deep=deep)
            tick(one.rows)
        if self._zone.layout.makes_files:
            for name in reconciliations:
                yield from self._file_differences(scope, name, deep=deep)
        for broken in self._unreadable.pop(scope.prefix, ()):
            if broken.endpoint is None or broken.endpoint in reconciliations:
                yield broken

    def notes(self) -> Iterator[str]:
        """Yield what objects there are that no manifest names; units() has been asked about every session before."""
        unnamed = sorted(
            path for path in self._sizes if path not in self._named and not path.startswith(_OWN_FOLDERS)
        )  # fmt: skip
        if unnamed:
            shown = ", ".join(f"'{path}'" for path in unnamed[:_EXAMPLES])
            more = f" and {len(unnamed) - _EXAMPLES:,} more" if len(unnamed) > _EXAMPLES else ""
            yield (
                f"unnamed: {count(len(unnamed), 'object')} that no manifest names, foreign or left over from a load "
                f"that was killed; nothing is loaded from there: {shown}{more}"
            )

    def count_family(self, family: str) -> int:
        """Refuse: `check` has said why."""
        raise ConfigError(f"a landing zone has no column family '{family}'.")

    def encode(self, batch: Batch) -> Iterator[StoredRecord]:
        """Yield each record by its identity, with the JSON of its fields; null is absent, as CSV has no other null."""
        endpoint = ALL_ENDPOINTS[batch.unit.endpoint]
        for record in batch.records:
            key = SEPARATOR.join("-" if part is None else str(part) for part in identity(endpoint, record))
            fields = {
                name.encode(): compact_json(value).encode() for name, value in record.items() if value is not None
            }
            yield key.encode(), fields

    def stored(self, unit: Unit) -> Iterator[StoredRecord]:
        """Yield the records of a unit as `load --from` would load them."""
        return iter(asyncio.run(self._stored(unit)).items())

    def close(self) -> None:
        """Nothing is kept open."""

    async def _stored(self, unit: Unit) -> dict[bytes, Mapping[bytes, bytes]]:
        source = StoredSource(ZoneReader(self._zone))
        rows: dict[bytes, Mapping[bytes, bytes]] = {}

        async def deliver(answer: Answer) -> None:
            normalised = AnswerNormaliser(answer, Account(answer.unit), source.knows(unit.endpoint))
            rows.update(normalised.made(self.encode))

        await source.fetch([unit], deliver)
        return rows

    def _lease(self, meeting: Scope) -> LeaseObject:
        if meeting.prefix not in self._leases:
            self._leases[meeting.prefix] = latest(self._objects, meeting)
        return self._leases[meeting.prefix]

    def _own_records(
        self, endpoint: str, stored: Mapping[str, Any]
    ) -> Mapping[tuple[Any, ...], Mapping[str, Any]]:  # fmt: skip
        """Return the records of an answer to `sessions` or `meetings` by their keys; none where it is damaged."""
        path, fields = str(stored["path"]), ALL_ENDPOINTS[endpoint].scope_fields
        if path not in self._own:
            self._own[path] = {
                tuple(map(record.get, fields)): record
                for record in self._checks.records(endpoint, stored)
                if type(record.get(fields[0])) is int
            }
        return self._own[path]

    def _count_unit(
        self, book: Reconciliation, one: ExpectedRange, state: UnitState, *, deep: bool
    ) -> Iterator[Difference]:
        name, drivers = book.endpoint.name, () if one.driver is None else (one.driver,)

        def difference(detail: str, expected: int | None = None, found: int | None = None) -> Difference:
            return Difference(Kind.OBJECT, detail, book.scope, name, drivers, one.window, expected, found)

        decoded, whole = 0, True
        for stored in state.objects:
            problem = self._checks.problem(name, stored, deep=deep)
            if problem is not None:
                whole = False
                yield difference(f"'{stored['path']}' {problem}", _records(stored), 0)
                continue
            one.rows += _records(stored)
            decoded += self._checks.decoded(stored) if deep else 0
        counts = {key: int(state.stats.get(key, 0)) for key in ("records", "rows", "duplicates", "quarantined")}
        given, told = counts.pop("records"), sum(counts.values())
        if told != given:
            yield difference(
                f"its manifest does not add up: {count(given, 'record')}, but {counts['rows']:,} stored, "
                f"{counts['duplicates']:,} duplicates and {counts['quarantined']:,} in quarantine",
                given, told,
            )  # fmt: skip
        if deep and whole and decoded != given:
            detail = f"its objects have {count(decoded, 'record')}, and its manifest says {given:,}"
            yield difference(detail, given, decoded)

    def _file_differences(self, scope: Scope, endpoint: str, *, deep: bool) -> Iterator[Difference]:
        """Yield what is wrong with the file that was made of an endpoint and session."""
        path = facts_path(scope, endpoint)

        def difference(detail: str) -> Difference:
            return Difference(Kind.FILE, detail, scope, endpoint)

        if path not in self._sizes:
            states = [state for state in self._states.get(scope.prefix, ()) if state.endpoint == endpoint]
            if is_complete(states) and self._objects.size(path) is None:
                yield difference(f"'{path}' does not exist, which says what its file is called and holds")
            return
        try:
            facts = json.loads(self._objects.get(path) or b"")
            name, size, digest = str(facts["path"]), int(facts["bytes"]), str(facts["md5"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            yield difference(f"'{path}' cannot be read ({type(error).__name__})")
            return
        self._named.add(name)
        there = self._sizes.get(name)
        if there != size:
            there = self._objects.size(name)  # made anew since it was listed?
        if there is None:
            yield difference(f"the file '{name}' does not exist")
        elif there != size:
            yield difference(f"the file '{name}' has {there:,} bytes, and not {size:,}")
        elif deep and self._checks.digest(name, size) != digest:
            yield difference(f"the file '{name}' is damaged: its MD5 is not the {digest} of '{path}'")


def _records(stored: Mapping[str, Any]) -> int:
    records = stored.get("records", 0)
    return records if isinstance(records, int) else 0


def open_auditor(config: Config, location: str) -> Auditor:
    """Return what looks at a landing zone.

    Raises:
        LocationError: If there is none.
        UnreachableError: If the store is away or refuses.
    """
    where = parse_location(location)
    objects = Objects(where, config.settings.patience.total_seconds())
    zone = find_zone(objects)
    if zone is None:
        what = f"there is no {MARKER} in it" if objects.exists else "there is no such folder"
        raise LocationError(f"'{where}' is no landing zone: {what}. 'load --to' makes one.")
    return FilesAuditor(zone)
