"""The composition root: the only place that knows which kinds of sources and destinations there are.

A new kind is one module with a function `recipe(config, location)`, and one line here.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from f1hbase.config import Config
from f1hbase.destinations.base import DestinationRecipe
from f1hbase.errors import ConfigError
from f1hbase.pipeline.load import LoadRequest
from f1hbase.pipeline.parts import LoadOptions, Recipe
from f1hbase.sources.base import Reader, SourceRecipe

SOURCES = {
    "hbase": "f1hbase.sources.hbase",
    "openf1": "f1hbase.sources.openf1.recipe",
}
"""The module of each source by the name that `--from` gives it; imported when it is needed."""

DESTINATIONS = {
    "hbase": "f1hbase.destinations.hbase",
}
"""The module of each destination by the name that `--to` gives it."""

_ANY_URL_SOURCE = "f1hbase.sources.files"
_ANY_URL_DESTINATION = "f1hbase.destinations.files"
"""What is no registered name is the path or URL of a landing zone."""


def load_recipe(config: Config) -> Recipe:
    """Return how the source and the destinations of a load are opened.

    Raises:
        F1HBaseError: If one of them cannot be; says why and what to do.
    """
    return Recipe(source_recipe(config), tuple(destination_recipe(config, name) for name in config.settings.to))


def source_recipe(config: Config, name: str | None = None) -> SourceRecipe:
    """Return how a source is opened, by its name or URL; by default the one of the settings."""
    location = config.settings.source if name is None else name
    build: Callable[[Config, str], SourceRecipe] = import_module(SOURCES.get(location, _ANY_URL_SOURCE)).recipe
    return build(config, location)


def open_reader(config: Config, name: str | None = None) -> Reader:
    """Open what reads a place back, by its name or URL; by default the source of the settings.

    Raises:
        F1HBaseError: If it cannot be opened, or nothing can be read back from there; says why and what to do.
    """
    location = config.settings.source if name is None else name
    patience = config.settings.patience.total_seconds()
    if location == "hbase":
        from f1hbase.sources import hbase

        return hbase.recipe(config).reader(patience)
    if location in SOURCES:
        raise ConfigError(f"--from {location} asks an API: only hbase, or a landing zone or folder, can be read back.")
    from f1hbase.sources import files
    from f1hbase.stores.files.urls import parse_location

    return files.open_reader(parse_location(location), patience)


def destination_recipe(config: Config, name: str | None = None) -> DestinationRecipe:
    """Return how a destination is opened, by its name or URL; by default the first one of the settings."""
    location = config.settings.to[0] if name is None else name
    module = import_module(DESTINATIONS.get(location, _ANY_URL_DESTINATION))
    build: Callable[[Config, str], DestinationRecipe] = module.recipe
    return build(config, location)


def load_request(config: Config) -> LoadRequest:
    """Return what the settings say that a load is to do."""
    settings = config.settings
    options = LoadOptions(settings.processes, settings.refresh, settings.patience.total_seconds())
    return LoadRequest(settings.selection, options, settings.shown())
