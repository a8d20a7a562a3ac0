"""The layouts of a landing zone: what the object of an answer is called, how it is packed, and what is made of it.

A layout is a module of this folder and one line of `LAYOUTS`. Manifests, runs, quarantine and leases (`_state/`) are
the same in each.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

from f1hbase.model.answers import RawAnswer
from f1hbase.model.outcomes import UnitState
from f1hbase.model.units import Scope, Unit
from f1hbase.stores.files import dated, extractor, units
from f1hbase.stores.files.answers import StoredAnswer
from f1hbase.stores.files.objects import Objects
from f1hbase.stores.files.urls import LocationError

DEFAULT_LAYOUT = "units"


class Layout(Protocol):
    """How answers become objects.

    Attributes:
        name: As in `--layout`.
        version: Which form of it this is; a zone of a later one is not read.
        names_by_content: Whether the same answer always has the same path, so that it is seen there.
        packs: Whether answers are packed with gzip.
        makes_files: Whether `publish` does anything.
        reads_without_state: Whether its objects say what they are without manifests.
    """

    name: str
    version: int
    names_by_content: bool
    packs: bool
    makes_files: bool
    reads_without_state: bool

    def identity(self, unit: Unit, raw: RawAnswer, *, shared: bool) -> str:
        """Return what two answers have in common that are one object.

        Args:
            unit: A unit that it has records of.
            raw: The answer; of the content type `JSON_LINES` it is records that came without one.
            shared: Whether it may have records of other units, too.
        """

    def store(
        self, objects: Objects, unit: Unit, raw: RawAnswer, before: Sequence[Mapping[str, Any]], *, shared: bool
    ) -> StoredAnswer:
        """Store an answer, unless it is there; on return it is durable.

        Args:
            objects: Where.
            unit: A unit that it has records of.
            raw: The answer.
            before: The objects of the unit until now; empty where names say it all.
            shared: Whether it may have records of other units, too.
        """

    def publish(self, objects: Objects, scope: Scope, endpoints: Collection[str], states: Sequence[UnitState]) -> None:
        """Make of answers what people look at, before the manifests say that they are done.

        Args:
            objects: Where.
            scope: The session (or meeting), with what the source says of it.
            endpoints: Those of it that have changed.
            states: The units of these endpoints that count, the changed ones as they will be.

        Raises:
            DamagedAnswerError: If an answer of an earlier unit cannot be read.
        """

    def remake(self, objects: Objects, scope: Scope, endpoints: Collection[str], states: Sequence[UnitState]) -> None:
        """Make anew what was made of answers of which some are rolled back; delete it where too few are left.

        Args:
            objects: Where.
            scope: The session (or meeting), by its keys alone.
            endpoints: Those of it of which units are gone.
            states: The units of these endpoints that are left.

        Raises:
            DamagedAnswerError: If an answer that is left cannot be read.
        """

    def withdraw(self, objects: Objects, scope: Scope, endpoints: Collection[str]) -> None:
        """Delete what was made of the answers of a session (or meeting) that is rolled back."""


LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {"units": units.UnitsLayout(), "extractor": extractor.ExtractorLayout(), "dated": dated.DatedLayout()}
)


def layout_of(name: str) -> Layout:
    """Return a layout by its name.

    Raises:
        LocationError: If there is none of that name.
    """
    if name not in LAYOUTS:
        raise LocationError(f"there is no layout '{name}': {', '.join(LAYOUTS)}.")
    return LAYOUTS[name]
