"""The layouts of a landing zone: what the object of an answer is called and how it is packed.

A layout is a module of this folder and one line of `LAYOUTS`. Manifests, runs, quarantine and leases (`_state/`) are
the same in each.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from f1hbase.model.answers import RawAnswer
from f1hbase.model.units import Unit
from f1hbase.stores.files import units
from f1hbase.stores.files.urls import LocationError

DEFAULT_LAYOUT = "units"


class Layout(Protocol):
    """How answers become objects.

    Attributes:
        name: As in `--layout`.
        version: Which form of it this is; a zone of a later one is not read.
    """

    name: str
    version: int

    def raw_path(self, unit: Unit, raw: RawAnswer, *, shared: bool) -> str:
        """Return the path of the object of an answer.

        Args:
            unit: A unit that it has records of.
            raw: The answer.
            shared: Whether it may have records of other units, too.
        """

    def records_path(self, unit: Unit, source: str, md5: str) -> str:
        """Return the path of an object of records that came without an answer, as JSON lines."""


LAYOUTS: Mapping[str, Layout] = MappingProxyType({"units": units.UnitsLayout()})


def layout_of(name: str) -> Layout:
    """Return a layout by its name.

    Raises:
        LocationError: If there is none of that name.
    """
    if name not in LAYOUTS:
        raise LocationError(f"there is no layout '{name}': {', '.join(LAYOUTS)}.")
    return LAYOUTS[name]
