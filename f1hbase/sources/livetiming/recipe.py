"""How F1's archive is opened, by the settings of a run."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from f1hbase.config import Config
from f1hbase.errors import ConfigError
from f1hbase.model.catalog import TIMING
from f1hbase.sources.base import Source, check_endpoints
from f1hbase.sources.http.asking import limits_for
from f1hbase.sources.livetiming.messages import STATIC_URL
from f1hbase.sources.livetiming.schedule import FIRST_YEAR
from f1hbase.sources.livetiming.source import LiveTimingOptions, open_source

OWN_LIMITS = "5/s"
"""How many requests are sent to F1's own host: it states no limit, and a season of 120 sessions is 2,000 files."""


@dataclass(frozen=True, slots=True)
class LiveTimingRecipe:
    """The archive as some options say; see `f1hbase.sources.base.SourceRecipe`."""

    options: LiveTimingOptions

    def open(self, patience: float) -> AbstractAsyncContextManager[Source]:
        """Open the archive; nothing is asked yet."""
        return open_source(self.options, patience)


def recipe(config: Config, location: str = "") -> LiveTimingRecipe:
    """Return how the settings say that the archive is opened.

    Raises:
        ConfigError: If a season is asked for that it has not.
    """
    del location  # its address is a setting of its own
    settings = config.settings
    check_endpoints("livetiming", TIMING, settings.endpoint)
    for year in settings.year:
        if year < FIRST_YEAR:
            raise ConfigError(f"--year {year}: F1's live timing has no data before {FIRST_YEAR}.")
    return LiveTimingRecipe(
        LiveTimingOptions(
            url=settings.livetiming_url,
            limits=limits_for(settings.rate, settings.livetiming_url, STATIC_URL, OWN_LIMITS),
            window=settings.window,
            max_concurrent_requests=settings.max_concurrent_requests,
            max_retries=settings.max_retries,
            retry_delay=settings.retry_delay.total_seconds(),
            request_timeout=settings.request_timeout.total_seconds(),
        )
    )
