"""The destination that keeps answers as they came: a landing zone in a folder or an object store."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from f1hbase.destinations.base import Batch
from f1hbase.model.answers import RawAnswer
from f1hbase.model.footprints import Footprint, Share
from f1hbase.model.outcomes import Receipt, UnitState
from f1hbase.model.units import Scope, Unit
from f1hbase.state.file_leases import FilesLeases
from f1hbase.state.files import FilesState
from f1hbase.stores.files.answers import JSON_LINES
from f1hbase.stores.files.footprint import footprint
from f1hbase.stores.files.layouts import DEFAULT_LAYOUT, layout_of
from f1hbase.stores.files.objects import Objects
from f1hbase.stores.files.urls import KNOWN_PLACES, Location, parse_location
from f1hbase.stores.files.zone import Zone, create_zone, find_zone

if TYPE_CHECKING:
    from f1hbase.config import Config

_STARTUP_PATIENCE_SECONDS = 30.0
"""How long a store may be away when a run starts: a wrong address is to be noticed."""

WRITERS = 4
"""As many answers are packed and sent at a time; packing leaves the interpreter lock."""


@dataclass(slots=True)
class Written:
    """What the writers of one process have stored, so that units that share an answer store it once."""

    before: dict[Scope, list[UnitState]] = field(default_factory=dict)
    objects: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    locks: defaultdict[str, threading.Lock] = field(default_factory=lambda: defaultdict(threading.Lock))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def lock_of(self, path: str) -> threading.Lock:
        """Return what keeps two writers from storing the same object at the same time."""
        with self.lock:
            return self.locks[path]


class FilesWriter:
    """Stores the answers that batches came in; batches without one as JSON lines.

    Every batch of an answer names the answer, the first as well as the last.

    Args:
        zone: Where to.
        written: What all writers of this process have stored.
    """

    def __init__(self, zone: Zone, written: Written) -> None:
        self._zone = zone
        self._written = written

    def write(self, batch: Batch) -> Receipt:
        """Store what a batch came in, unless it is stored already; on return it is durable.

        Raises:
            UnreachableError: If the store is away longer than patience lasts.
        """
        records = len(batch.records)
        if batch.raw is not None:
            stored = self._store(batch.unit, batch.raw, shared=bool(batch.select))
        elif records:
            stored = self._store_records(batch)
        else:
            return Receipt()
        return Receipt(rows=records, objects=({**stored, "records": records, "select": dict(batch.select)},))

    def close(self) -> None:
        """Nothing is kept open."""

    def _store_records(self, batch: Batch) -> Mapping[str, Any]:
        lines = msgspec.json.Encoder().encode_lines(list(batch.records))
        now = datetime.now(UTC)
        raw = RawAnswer(batch.source, "", now, now, 200, JSON_LINES, lines)
        return self._store(batch.unit, raw, shared=False)

    def _store(self, unit: Unit, raw: RawAnswer, *, shared: bool) -> Mapping[str, Any]:
        layout, written = self._zone.layout, self._written
        name = layout.identity(unit, raw, shared=shared)
        known = written.objects.get(name)
        if known is None:
            with written.lock_of(name):
                known = written.objects.get(name)
                if known is None:
                    before = () if layout.names_by_content else self._before(unit)
                    stored = layout.store(self._zone.objects, unit, raw, before, shared=shared)
                    known = written.objects[name] = stored.described(raw)
        return known

    def _before(self, unit: Unit) -> Sequence[Mapping[str, Any]]:
        """Return the objects of a unit until now, as its session was when this process first asked."""
        with self._written.lock:
            if unit.scope not in self._written.before:
                self._written.before[unit.scope] = self._zone.unit_states(unit.scope)
            states = self._written.before[unit.scope]
        return [one for state in states if state.endpoint == unit.endpoint for one in state.objects]


class FilesDestination:
    """A landing zone as a worker has it.

    Args:
        zone: The zone, open for writing.
        writers: How many answers may be stored at the same time.
    """

    def __init__(self, zone: Zone, writers: int = WRITERS) -> None:
        self.name = zone.shown
        self.state = FilesState(zone)
        written = Written()
        self.writers: Sequence[FilesWriter] = [FilesWriter(zone, written) for _ in range(writers)]

    def close(self) -> None:
        """Nothing is kept open."""


@dataclass(frozen=True, slots=True)
class FilesRecipe:
    """A landing zone; see `f1hbase.destinations.base.DestinationRecipe`.

    Attributes:
        location: Where it is.
        layout: How answers are kept; None for that of the zone that is there.
        default: How they are kept in a new zone, where none was asked for.
    """

    location: Location
    layout: str | None = None
    default: str = DEFAULT_LAYOUT
    keeps_answers: bool = True

    @property
    def name(self) -> str:
        """Where it is, for messages and logs."""
        return self.location.shown

    def footprint(self, shares: Iterable[Share]) -> Footprint:
        """Return what keeping what is expected takes, in the layout that a new zone would have."""
        return footprint(layout_of(self.layout or self.default), self.name, shares)

    def prepare(self, meetings: Sequence[Scope]) -> None:
        """Make the zone where there is none, and check the one that is there."""
        create_zone(Objects(self.location, _STARTUP_PATIENCE_SECONDS), self.layout, self.default)

    def open(self, *, workers: int, number: int, patience: float, stop: threading.Event) -> FilesDestination:
        """Open it for writing."""
        return FilesDestination(create_zone(Objects(self.location, patience, stop=stop), self.layout, self.default))

    def open_state(self, patience: float, stop: threading.Event) -> FilesState:
        """Open what it remembers; of a zone that does not exist, nothing."""
        objects = Objects(self.location, patience, stop=stop)
        return FilesState(find_zone(objects) or Zone(objects, layout_of(self.layout or self.default)))

    def open_runs(self, patience: float, stop: threading.Event) -> FilesState:
        """Open what it remembers of runs."""
        return self.open_state(patience, stop)

    def open_leases(self, run_id: str, patience: float, stop: threading.Event) -> FilesLeases:
        """Open the leases of a run."""
        return FilesLeases(Objects(self.location, patience, stop=stop), Objects(self.location), run_id)


def recipe(config: Config, location: str) -> FilesRecipe:
    """Return how a landing zone is opened for writing.

    Raises:
        LocationError: If the location is none, or the layout is not known.
    """
    layout = config.settings.layout
    # What has a name of its own is the place of the system that lays files out like that.
    default = "extractor" if location in KNOWN_PLACES else DEFAULT_LAYOUT
    return FilesRecipe(parse_location(location), None if layout is None else layout_of(layout).name, default)
