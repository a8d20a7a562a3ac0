"""The composition root: the only place that knows which kinds of sources and destinations there are.

A new kind is one module with a function `recipe(config, location)`, and one line here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from f1hbase.config import Config
from f1hbase.destinations.base import DestinationRecipe
from f1hbase.errors import ConfigError
from f1hbase.frames.needs import need
from f1hbase.operations.rollback.base import Rollback, Target
from f1hbase.operations.status.base import StateView, view_of
from f1hbase.pipeline.load import LoadRequest
from f1hbase.pipeline.parts import LoadOptions, Recipe
from f1hbase.sources.base import Reader, SourceRecipe

if TYPE_CHECKING:
    from f1hbase.operations.verify.base import Auditor
    from f1hbase.serve.pages import SharedStore
    from f1hbase.serve.store import RecordStore

SOURCES = {
    "hbase": "f1hbase.sources.hbase",
    "openf1": "f1hbase.sources.openf1.recipe",
    "livetiming": "f1hbase.sources.livetiming.recipe",
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

SERVED = {
    "hbase": "f1hbase.serve.hbase_store",
}
"""The module that serves what is stored in each place: `record_store(config, location, most_seconds)`."""

PAGES_PATIENCE_SECONDS = 3.0
"""How long a page waits for a store that is away before it says so, and tries again."""

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
    return Recipe(source_recipe(config), tuple(destination_recipe(config, name) for name in config.settings.to))


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


def open_record_store(
    config: Config, places: Sequence[str], most_seconds: float, read_files: Callable[[list[Path]], RecordStore]
) -> RecordStore:
    """Open what answers are made from, by names or URLs.

    Args:
        config: The settings.
        places: One place; or several folders of JSON lines, which are one API.
        most_seconds: How long a query may take until its first records are there.
        read_files: Reads folders of JSON lines into memory.

    Raises:
        F1HBaseError: If it cannot be opened; says why and what to do.
    """
    from f1hbase.serve import zone_store
    from f1hbase.sources.files import are_json_lines

    if len(places) == 1 and places[0] in SERVED:
        build: Callable[[Config, str, float], RecordStore] = import_module(SERVED[places[0]]).record_store
        return build(config, places[0], most_seconds)
    if all(are_json_lines(place) for place in places):
        return read_files([Path(place) for place in places])
    if len(places) > 1:
        raise ConfigError("several --from are one API only where each is a folder of JSON lines; name one of them.")
    settings = replace(config.settings, patience=timedelta(seconds=zone_store.PATIENCE_SECONDS))
    served = replace(config, settings=settings)
    return zone_store.record_store(lambda: open_reader(served, places[0]), most_seconds)


def shared_store(config: Config, places: Sequence[str], served: RecordStore) -> SharedStore:
    """Return what the web pages are about: what is served.

    It is opened when a page asks for something, and given up after `PAGES_PATIENCE_SECONDS` while it is away.

    Args:
        config: The settings.
        places: The places by their names or URLs.
        served: What the API's answers are made from, by `open_record_store`.

    Raises:
        MissingPackageError: If pyarrow or numpy is not installed; says how they are.
    """
    for package in ("pyarrow", "numpy"):
        need(package, "showing web pages")
    from f1hbase.frames.store import Store
    from f1hbase.serve.file_store import FileStore
    from f1hbase.serve.pages import SharedStore
    from f1hbase.serve.pages.memory import MemoryReader

    if isinstance(served, FileStore):
        return SharedStore(lambda: Store(MemoryReader(served, ", ".join(places))))
    patience = timedelta(seconds=PAGES_PATIENCE_SECONDS)
    impatient = replace(config, settings=replace(config.settings, patience=patience))
    return SharedStore(lambda: Store(open_reader(impatient, places[0])), lambda: state_view(impatient, places[0]))


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
    return LoadRequest(settings.selection, options, settings.shown())


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
