"""The composition root: the only place that knows which kinds of sources and destinations there are.

A new kind is one module with a function `recipe(config, location)`, and one line here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from f1hbase.config import Config
from f1hbase.destinations.base import DestinationRecipe
from f1hbase.errors import ConfigError, F1HBaseError
from f1hbase.model.plans import Selection
from f1hbase.model.samples import Record
from f1hbase.operations.rollback.base import Rollback, Target
from f1hbase.operations.status.base import StateView, view_of
from f1hbase.pipeline.load import LoadRequest
from f1hbase.pipeline.parts import LoadOptions, Recipe
from f1hbase.sources.base import JoinsSessions, Reader, SourceRecipe

if TYPE_CHECKING:
    from f1hbase.operations.verify.base import Auditor
    from f1hbase.sources.hbase import HBaseReader

_log = logging.getLogger(__name__)

_READ_PATIENCE_SECONDS = 10.0

SOURCES = {
    "hbase": "f1hbase.sources.hbase",
    "openf1": "f1hbase.sources.openf1.recipe",
    "livetiming": "f1hbase.sources.livetiming.recipe",
    "jolpica": "f1hbase.sources.jolpica.recipe",
    "fastf1": "f1hbase.sources.fastf1.recipe",
}
"""The module of each source by the name that `--from` gives it; imported when it is needed."""

DESTINATIONS = {
    "hbase": "f1hbase.destinations.hbase",
}
"""The module of each destination by the name that `--to` gives it."""


AUDITORS = {
    "hbase": "f1hbase.operations.verify.hbase",
}
"""The module of what `verify` looks at a destination with, by the same names; its function is `open_auditor`."""

ROLLBACKS = {
    "hbase": "f1hbase.operations.rollback.hbase",
}
"""The module that rolls back in each destination: one with a function `open_rollback(config, location, target)`."""

STATE_VIEWS = {
    "hbase": "f1hbase.state.hbase.brief",
}
"""The module that reads what each destination remembers faster than session by session."""

READERS = {
    "hbase": "f1hbase.sources.hbase",
}
"""The module that reads back what is stored in each place: one with a function `reader(config, location, patience)`."""

_RECORDING_SOURCE = "f1hbase.sources.recordings"
_ANY_URL_SOURCE = "f1hbase.sources.files"
_ANY_URL_DESTINATION = "f1hbase.destinations.files"
_ANY_URL_AUDITOR = "f1hbase.operations.verify.files"
_ANY_URL_ROLLBACK = "f1hbase.operations.rollback.files"
_ANY_URL_READER = "f1hbase.sources.files"
"""What is no registered name is a recording, by its first lines, or the path or URL of a landing zone."""


def load_recipe(config: Config) -> Recipe:
    """Return how the source and the destinations of a load are opened.

    Raises:
        F1HBaseError: If one of them cannot be; says why and what to do.
    """
    source = source_recipe(config)
    destinations = tuple(destination_recipe(config, name) for name in config.settings.to)
    if isinstance(source, JoinsSessions):
        source = source.joined(_known_sessions(config))
    return Recipe(source, destinations)


def _known_sessions(config: Config) -> Sequence[Record]:
    """Return the sessions that are loaded in HBase already, where that is loaded into; none that cannot be read."""
    if "hbase" not in config.settings.to:
        return ()
    read: Callable[[Config, str, float], HBaseReader] = import_module(READERS["hbase"]).reader
    reader = read(replace(config, settings=replace(config.settings, source="openf1")), "hbase", _READ_PATIENCE_SECONDS)
    try:
        return reader.sessions()
    except F1HBaseError as error:
        _log.info("races get no keys of OpenF1, as no sessions of it can be read: %s", error)
        return ()
    finally:
        reader.close()


def source_recipe(config: Config, name: str | None = None) -> SourceRecipe:
    """Return how a source is opened, by its name or URL; by default the one of the settings."""
    location = config.settings.source if name is None else name
    build: Callable[[Config, str], SourceRecipe] = _source_module(location).recipe
    return build(config, location)


def _source_module(location: str) -> ModuleType:
    if location in SOURCES:
        return import_module(SOURCES[location])
    recordings = import_module(_RECORDING_SOURCE)
    return recordings if recordings.is_recording(Path(location)) else import_module(_ANY_URL_SOURCE)


def open_reader(config: Config, name: str | None = None) -> Reader:
    """Open what reads a place back, by its name or URL; by default the source of the settings.

    Raises:
        F1HBaseError: If it cannot be opened, or nothing can be read back from there; says why and what to do.
    """
    location = config.settings.source if name is None else name
    read: Callable[[Config, str, float], Reader] = _module(READERS, _ANY_URL_READER, location, "reading back").reader
    return read(config, location, config.settings.patience.total_seconds())


def _module(modules: Mapping[str, str], otherwise: str, location: str, action: str) -> ModuleType:
    """Return the module that does something in a place.

    Raises:
        ConfigError: If the place has a name of its own, and no module for that.
    """
    if location not in modules and location in (*SOURCES, *DESTINATIONS):
        offered = ", ".join(modules)
        raise ConfigError(f"{action} is not offered for '{location}', only for {offered} and for landing zones.")
    return import_module(modules.get(location, otherwise))


def destination_recipe(config: Config, name: str | None = None) -> DestinationRecipe:
    """Return how a destination is opened, by its name or URL; by default the first one of the settings."""
    location = config.settings.to[0] if name is None else name
    module = import_module(DESTINATIONS.get(location, _ANY_URL_DESTINATION))
    build: Callable[[Config, str], DestinationRecipe] = module.recipe
    return build(config, location)


def state_view(config: Config, name: str | None = None) -> StateView:
    """Return what a destination remembers, for `status` and `plan`; by default the first one of the settings.

    Raises:
        F1HBaseError: If it cannot be reached; says why and what to do.
    """
    location = config.settings.to[0] if name is None else name
    if location in DESTINATIONS:
        build: Callable[[Config, str], StateView] = _module(STATE_VIEWS, "", location, "status").view
        return build(config, location)
    return view_of(destination_recipe(config, location), open_reader(config, location))


def open_auditor(config: Config, name: str | None = None) -> Auditor:
    """Open what `verify` looks at a destination with, by its name or URL; by default the first one of the settings.

    Raises:
        F1HBaseError: If it cannot be opened; says why and what to do.
    """
    location = config.settings.to[0] if name is None else name
    module = _module(AUDITORS, _ANY_URL_AUDITOR, location, "verify")
    build: Callable[[Config, str], Auditor] = module.open_auditor
    return build(config, location)


def load_request(config: Config) -> LoadRequest:
    """Return what the settings say that a load is to do."""
    settings = config.settings
    options = LoadOptions(settings.processes, settings.refresh, settings.patience.total_seconds())
    return LoadRequest(selection_of(config), options, settings.shown())


def selection_of(config: Config) -> Selection:
    """Return what the settings ask for; how many sessions the latest are, each source may say for itself."""
    selection, location = config.settings.selection, config.settings.source
    latest = getattr(_source_module(location), "LATEST_SESSIONS", None) if location in SOURCES else None
    if selection.mode == "latest" and selection.num_sessions is None and latest is not None:
        return replace(selection, num_sessions=latest)
    return selection


def open_rollback(config: Config, target: Target) -> Rollback:
    """Find what a rollback would delete in the first destination of the settings; changes nothing.

    Raises:
        NothingToRollBackError: If there is no such run, session or meeting; says how to see which there are.
        F1HBaseError: If there is no such place, or it cannot be reached.
    """
    location = config.settings.to[0]
    module = _module(ROLLBACKS, _ANY_URL_ROLLBACK, location, "rollback")
    find: Callable[[Config, str, Target], Rollback] = module.open_rollback
    return find(config, location, target)
