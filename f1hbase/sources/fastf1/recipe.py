"""How FastF1 is opened, by the settings of a run."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from importlib.util import find_spec

from f1hbase.config import Config
from f1hbase.errors import ConfigError, SetupError
from f1hbase.model.catalog import TIMING
from f1hbase.sources.base import Source, check_endpoints
from f1hbase.sources.fastf1.library import INSTALL, Places
from f1hbase.sources.fastf1.records import FIELDS
from f1hbase.sources.fastf1.source import FastF1Options, open_source
from f1hbase.sources.livetiming.schedule import FIRST_YEAR

LATEST_SESSIONS = 1
"""How many sessions the mode `latest` means unless told otherwise."""

_LISTED = ("meetings", "sessions")


@dataclass(frozen=True, slots=True)
class FastF1Recipe:
    """FastF1 as some options say; see `f1hbase.sources.base.SourceRecipe`."""

    options: FastF1Options

    def open(self, patience: float) -> AbstractAsyncContextManager[Source]:
        """Open it; nothing is asked yet, and it has limits and patience of its own."""
        return open_source(self.options)


def recipe(config: Config, location: str = "") -> FastF1Recipe:
    """Return how the settings say that FastF1 is opened.

    Raises:
        SetupError: If it is not installed.
        ConfigError: If a season or an endpoint is asked for that it has not.
    """
    del location  # its addresses are settings of their own
    settings = config.settings
    if find_spec("fastf1") is None:
        raise SetupError(f"{INSTALL}.")
    check_endpoints("fastf1", TIMING, settings.endpoint)
    for name in settings.endpoint:
        if name not in FIELDS and name not in _LISTED:
            raise ConfigError(
                f"--endpoint {name}: fastf1 has no such records. It has {', '.join((*_LISTED, *FIELDS))}."
            )
    for year in settings.year:
        if year < FIRST_YEAR:
            raise ConfigError(f"--year {year}: FastF1 has laps and telemetry since {FIRST_YEAR}.")
    return FastF1Recipe(FastF1Options(Places(settings.livetiming_url, settings.jolpica_url)))
