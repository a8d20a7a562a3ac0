"""How Jolpica is opened, by the settings of a run."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace

from f1hbase.config import JOLPICA_URL, Config, Settings
from f1hbase.errors import ConfigError
from f1hbase.model.catalog import HISTORY, HISTORY_ENDPOINTS
from f1hbase.model.rates import Limits
from f1hbase.model.samples import Record
from f1hbase.model.times import lenient_time
from f1hbase.model.units import Unit
from f1hbase.sources.base import Source, check_endpoints
from f1hbase.sources.http.asking import limits_for
from f1hbase.sources.jolpica.pages import PAGE
from f1hbase.sources.jolpica.questions import questions_of
from f1hbase.sources.jolpica.source import FIRST_YEAR, JolpicaOptions, KnownRace, open_source

OWN_LIMITS = "4/s,500/h"
"""What Jolpica allows who has no token (its docs/rate_limits.md)."""

LATEST_SESSIONS = 1
"""How many races the mode `latest` means unless told otherwise."""

_BYTES = {"lap_times": 70.0, "pit_stops": 110.0}
_USUAL_BYTES = 520.0
"""Of an entry of an answer: driver and constructor are written out in each result and standing."""


@dataclass(frozen=True, slots=True)
class JolpicaRecipe:
    """Jolpica as some options say; see `SourceRecipe`, `AskedByRequest`, `JoinsSessions` in `f1hbase.sources.base`."""

    options: JolpicaOptions

    def open(self, patience: float) -> AbstractAsyncContextManager[Source]:
        """Open the API; nothing is asked yet."""
        return open_source(self.options, patience)

    def joined(self, sessions: Iterable[Record]) -> JolpicaRecipe:
        """Return the same with the sessions that are loaded from OpenF1, whose keys the same races get."""
        known = [
            KnownRace(start, record["meeting_key"], record["session_key"])
            for record in sessions
            if record.get("session_name") == "Race" and (start := lenient_time(record.get("date_start"))) is not None
        ]
        return JolpicaRecipe(replace(self.options, known_races=tuple(sorted(known, key=lambda race: race.start))))

    @property
    def limits(self) -> Limits:
        """The API's limits."""
        return self.options.limits

    @property
    def page(self) -> int:
        """The entries of a page."""
        return PAGE

    @property
    def learns_sizes(self) -> bool:
        """Nothing: a page is a page."""
        return False

    def requests(self, units: Collection[Unit]) -> int:
        """Return how many requests some units take, about: the pages of all answers; others' units take none."""
        own = [unit for unit in units if unit.endpoint in HISTORY_ENDPOINTS]
        return sum(question.pages for question in questions_of(own))

    def bytes_per_record(self, endpoint: str) -> float:
        """Return how many bytes an entry has in an answer."""
        return _BYTES.get(endpoint, _USUAL_BYTES)


def recipe(config: Config, location: str = "") -> JolpicaRecipe:
    """Return how the settings say that Jolpica is opened.

    Raises:
        ConfigError: If a season or an endpoint is asked for that it has not, or a driver by number.
    """
    del location  # its address is a setting of its own
    settings = config.settings
    check_endpoints("jolpica", HISTORY, settings.endpoint)
    for year in settings.year:
        if year < FIRST_YEAR:
            raise ConfigError(f"--year {year}: the first season of Formula 1 was {FIRST_YEAR}.")
    if settings.driver and settings.source == "jolpica":
        raise ConfigError(
            f"--driver {settings.driver[0]}: Jolpica names drivers by words, as numbers were given anew for each race; "
            "leave --driver out."
        )
    return JolpicaRecipe(options_of(settings))


def options_of(settings: Settings) -> JolpicaOptions:
    """Return how Jolpica is asked, as the settings say."""
    return JolpicaOptions(
        url=settings.jolpica_url,
        limits=limits_for(settings.rate, settings.jolpica_url, JOLPICA_URL, OWN_LIMITS),
        max_concurrent_requests=settings.max_concurrent_requests,
        max_retries=settings.max_retries,
        retry_delay=settings.retry_delay.total_seconds(),
        request_timeout=settings.request_timeout.total_seconds(),
    )
