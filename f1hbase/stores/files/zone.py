"""A landing zone: a location with `_f1hbase.json` at its root, which says in what layout it is."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from f1hbase.model.outcomes import UnitState
from f1hbase.model.units import Scope
from f1hbase.stores.files import lease_objects
from f1hbase.stores.files.answers import read_body
from f1hbase.stores.files.layouts import DEFAULT_LAYOUT, Layout, layout_of
from f1hbase.stores.files.manifests import endpoint_of_path, read_manifests, scope_manifests
from f1hbase.stores.files.objects import Objects
from f1hbase.stores.files.urls import Location, LocationError
from f1hbase.version import __version__

MARKER = "_f1hbase.json"
RAW_LIVE = "raw-live"
"""What the marker of a place says that holds raw lines of a feed (`f1hbase.pipeline.live.raw_lines`)."""


@dataclass(frozen=True, slots=True)
class Zone:
    """A landing zone that is open.

    Attributes:
        objects: Its objects.
        layout: How answers are kept in it.
    """

    objects: Objects
    layout: Layout

    @property
    def shown(self) -> str:
        """Where it is, for people."""
        return self.objects.location.shown

    def unit_states(
        self, scope: Scope, endpoints: Collection[str] | None = None, *, unreadable: bool = False
    ) -> list[UnitState]:
        """Return the units of one session (or of a meeting as such) that count: none from before a rollback.

        Args:
            scope: The session or meeting.
            endpoints: Only the units of these; None for all.
            unreadable: Whether units whose manifests cannot be read are returned as well, as failed ones.
        """
        paths = sorted(
            info.path
            for info in self.objects.under(scope_manifests(scope))
            if info.path.endswith(".json") and (endpoints is None or endpoint_of_path(info.path) in endpoints)
        )
        manifests, failed = read_manifests(self.objects, paths)
        failed = failed if unreadable else []
        if not manifests:
            return failed
        epoch = lease_objects.latest(self.objects, scope.meeting).epoch(scope)
        return [*(manifest.state for manifest in manifests if manifest.epoch >= epoch), *failed]

    def body(self, stored: Mapping[str, Any]) -> bytes:
        """Return the uncompressed bytes of an object that a manifest names; see `read_body`."""
        return read_body(self.objects, stored)


def create_zone(objects: Objects, layout: str | None = None, default: str = DEFAULT_LAYOUT) -> Zone:
    """Open a landing zone for writing, and make it where there is none.

    Args:
        objects: Where.
        layout: The layout that was asked for; None for that of the zone that is there.
        default: That of a new one, where none was asked for.

    Raises:
        LocationError: If there is one that this version cannot read, or of another layout.
        RefusedError: If the store does not let it be made.
        UnreachableError: If the store is away.
    """
    wanted, location = layout_of(layout or default), objects.location
    found = _layout_there(objects)
    if found is None:
        marker = {"layout": wanted.name, "version": wanted.version, "written_by": f"f1hbase {__version__}"}
        objects.create(MARKER, json.dumps(marker, indent=1).encode() + b"\n")
        found = _layout_there(objects) or wanted  # another process may have been first
    if layout is not None and found.name != wanted.name:
        raise LocationError(
            f"the landing zone '{location}' has the layout '{found.name}', not '{wanted.name}'. Say --layout "
            f"{found.name}, or choose another folder."
        )
    return Zone(objects, found)


def find_zone(objects: Objects) -> Zone | None:
    """Return the landing zone that is there, if there is one.

    Raises:
        LocationError: If this version cannot read it.
        RefusedError: If the store does not let it be read.
        UnreachableError: If the store is away.
    """
    layout = _layout_there(objects)
    return None if layout is None else Zone(objects, layout)


def _layout_there(objects: Objects) -> Layout | None:
    content = objects.get(MARKER)
    return None if content is None else _read_marker(content, objects.location)


def _read_marker(content: bytes, location: Location) -> Layout:
    try:
        marker = json.loads(content)
        name, version = str(marker["layout"]), marker["version"]
        if type(version) is not int:
            raise TypeError(f"version is {version!r:.40}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise LocationError(
            f"'{location}/{MARKER}' cannot be read ({type(error).__name__}): it is damaged, or none of f1hbase's."
        ) from error
    if name == RAW_LIVE:
        raise LocationError(
            f"'{location}' holds raw lines of live recordings, no answers: load --from '{location}' makes records of "
            "them; or name another place."
        )
    layout = layout_of(name)
    if version > layout.version:
        raise LocationError(
            f"the landing zone '{location}' is of version {version} of the layout '{name}', which a later f1hbase "
            f"wrote; this one knows {layout.version}."
        )
    return layout
