"""How OpenF1 is opened, by the settings of a run."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from urllib.parse import urlsplit

from f1hbase.config import Config, Settings
from f1hbase.credentials import Credentials, check_destination
from f1hbase.errors import ConfigError
from f1hbase.model.catalog import ENDPOINTS, TIMING
from f1hbase.model.rates import Limits, parse_limits
from f1hbase.model.units import Unit
from f1hbase.sources.base import Source, check_endpoints
from f1hbase.sources.openf1.query import FIRST_YEAR, FREE_LIMITS, OPENF1_URL, SUBSCRIPTION_LIMITS
from f1hbase.sources.openf1.source import OpenF1Options, expected_requests, open_source

_CSV_BYTES, _JSON_BYTES = 65.0, 633_000 / 3_350
"""Of a record: samples are asked for as CSV; in JSON, 3,350 records of car_data and location are 633 KB."""


@dataclass(frozen=True, slots=True)
class OpenF1Recipe:
    """OpenF1 as some options say; see `SourceRecipe` and `AskedByRequest` in `f1hbase.sources.base`."""

    options: OpenF1Options

    def open(self, patience: float) -> AbstractAsyncContextManager[Source]:
        """Open the API; nothing is asked yet."""
        return open_source(self.options, patience)

    @property
    def limits(self) -> Limits:
        """The API's limits."""
        return self.options.limits

    @property
    def learns_sizes(self) -> bool:
        """Whether windows have no fixed length."""
        return self.options.window is None

    def requests(self, units: Collection[Unit]) -> int:
        """Return how many requests some units take, with twenty cars on track in sessions; others' take none."""
        return expected_requests((unit for unit in units if unit.endpoint in ENDPOINTS), self.options)

    def bytes_per_record(self, endpoint: str) -> float:
        """Return how many bytes a record has in an answer."""
        return _CSV_BYTES if ENDPOINTS[endpoint].sampled else _JSON_BYTES


def recipe(config: Config, location: str = "") -> OpenF1Recipe:
    """Return how the settings say that OpenF1 is opened.

    Raises:
        ConfigError: If a season is asked for that OpenF1 has not.
    """
    del location  # its address is a setting of its own
    if config.settings.source == "openf1":
        check_endpoints("openf1", TIMING, config.settings.endpoint)
    for year in config.settings.year:
        if year < FIRST_YEAR:
            raise ConfigError(f"--year {year}: OpenF1 has no data before {FIRST_YEAR}.")
    return OpenF1Recipe(options_of(config))


def options_of(config: Config) -> OpenF1Options:
    """Return how the settings say that OpenF1 is asked.

    Raises:
        ConfigError: If there are credentials that cannot be used, or not for this API.
    """
    settings, credentials = config.settings, config.credentials()
    try:
        beside = None if credentials is None else credentials.source
        check_destination(credentials, settings.api_url, config.source_of("api_url"), beside)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return options_with(settings, credentials)


def options_with(settings: Settings, credentials: Credentials | None) -> OpenF1Options:
    """Return how OpenF1 is asked with some credentials, or without."""
    return OpenF1Options(
        api_url=settings.api_url,
        limits=limits(settings.rate, settings.api_url, authenticated=credentials is not None),
        window=settings.window,
        response_budget=settings.response_budget,
        max_concurrent_requests=settings.max_concurrent_requests,
        max_retries=settings.max_retries,
        retry_delay=settings.retry_delay.total_seconds(),
        request_timeout=settings.request_timeout.total_seconds(),
        credentials=credentials,
    )


def limits(given: Limits | None, api_url: str, *, authenticated: bool) -> Limits:
    """Return the limits that hold: those that are given, else OpenF1's own for its own host, else none."""
    if given is not None:
        return given
    own_host = urlsplit(api_url).hostname == urlsplit(OPENF1_URL).hostname
    return parse_limits(SUBSCRIPTION_LIMITS if authenticated else FREE_LIMITS) if own_host else Limits()
