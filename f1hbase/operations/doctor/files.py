"""Looks at landing zones: whether they can be read, and written with a small object that is deleted again."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

from f1hbase.config import Config
from f1hbase.destinations.files import recipe
from f1hbase.errors import F1HBaseError
from f1hbase.model.text import count
from f1hbase.operations.doctor.base import Check, Grade, failed
from f1hbase.sources.files import open_reader
from f1hbase.stores.files.objects import Objects
from f1hbase.stores.files.urls import Location, parse_location
from f1hbase.stores.files.zone import find_zone

_ZONE = "landing zone"
_SOURCE = "source"
_FIX = "check its URL, its credentials and that it exists"


def check_zone(config: Config, place: str) -> Iterator[Check]:
    """Look at a landing zone that is loaded into: its layout, and whether an object comes back as it was written."""
    try:
        recipe(config, place)  # refuses a layout that makes no sense
        location = parse_location(place)
        objects = Objects(location)
        if not objects.exists:
            yield _absent(location)
            return
        yield _probe(objects)
        zone = find_zone(objects)
        if zone is not None:
            yield Check(Grade.OK, _ZONE, f"{location} is one of the layout {zone.layout.name}")
        elif objects.is_empty():
            yield Check(Grade.OK, _ZONE, f"{location} is empty: load begins a zone there")
        else:
            found = f"{location} is no landing zone, but not empty either"
            yield Check(Grade.WARN, _ZONE, found, "load begins one among what is there; choose a prefix of its own")
    except F1HBaseError as error:
        yield failed(_ZONE, error, _FIX)


def check_source(config: Config) -> Check:
    """Look at a landing zone or folder that is loaded from."""
    try:
        reader = open_reader(parse_location(config.settings.source))
        sessions = len(reader.sessions())
    except F1HBaseError as error:
        return failed(_SOURCE, error, _FIX)
    if not sessions:
        return Check(Grade.WARN, _SOURCE, f"{reader.home} can be read, but has no session", "load something into it")
    return Check(Grade.OK, _SOURCE, f"{reader.home} can be read; it has {count(sessions, 'session')}")


def _absent(location: Location) -> Check:
    folder = Path(location.root)
    parent = next(path for path in folder.parents if path.exists())
    if parent.is_dir() and os.access(parent, os.W_OK | os.X_OK):
        return Check(Grade.OK, _ZONE, f"{location} does not exist yet: load makes it")
    return Check(Grade.FAIL, _ZONE, f"{location} does not exist, and cannot be made in {parent}", _FIX)


def _probe(objects: Objects) -> Check:
    path, content = f"_f1hbase.probe-{secrets.token_hex(8)}", secrets.token_bytes(64)
    began = monotonic()
    objects.put(path, content)
    try:
        back = objects.get(path)
    finally:
        objects.delete([path])
    if back != content:
        found = f"an object written to {objects.location} does not come back as it was written"
        return Check(Grade.FAIL, _ZONE, found, "choose another store: what is stored there cannot be relied on")
    taken = (monotonic() - began) * 1000
    return Check(Grade.OK, _ZONE, f"an object was written, read and deleted in {taken:,.0f} ms")
