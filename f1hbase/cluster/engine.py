"""Loads by Spark what of a landing zone is new to HBase; see `f1hbase.pipeline.engine`.

The process that runs the load keeps leases, quarantine and the lines of units; Spark reads, encodes, sorts and writes
HBase's own files, which HBase takes whole. A unit's line is written only after that. Meetings are loaded in rounds, so
that a kill costs a round at the most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from f1hbase.cluster.driver import SparkDriver
from f1hbase.cluster.meetings import Meeting, MeetingRounds
from f1hbase.cluster.session import SparkSettings, check_installed, hbase_jars
from f1hbase.cluster.thread import StoppedError
from f1hbase.destinations.hbase import HBaseRecipe
from f1hbase.errors import ConfigError
from f1hbase.pipeline.display import TaskDisplay
from f1hbase.pipeline.engine import Bulk
from f1hbase.pipeline.load import STARTUP_PATIENCE_SECONDS
from f1hbase.sources.files import ZoneReader, open_reader
from f1hbase.stores.files.urls import Location, parse_location
from f1hbase.stores.hbase.shell import find_shell

if TYPE_CHECKING:
    from f1hbase.config import Config

ROUND_RECORDS = 30_000_000
"""How many records are loaded before their lines are written, by and large: a season has some 77 million."""

_SCHEMES = ("file", "s3", "gs")


class SparkEngine:
    """Loads what is new of a landing zone by Spark.

    Args:
        location: The landing zone.
        settings: How Spark is started.
        jars: The jars of HBase that it needs.
        patience: For how long zone and HBase may be away, in seconds.
        show: Makes the display of Spark's tasks.
        round_records: How many records a round has, by and large.
    """

    def __init__(
        self,
        location: Location,
        settings: SparkSettings,
        jars: Sequence[str],
        patience: float,
        show: Callable[[], TaskDisplay],
        round_records: int = ROUND_RECORDS,
    ) -> None:
        self._location = location
        self._settings = settings
        self._patience = patience
        self._show = show
        self._round_records = round_records
        self._jars = jars

    def load(self, bulk: Bulk) -> None:
        """Load what is new, in rounds of whole meetings.

        Raises:
            SparkError: If Spark fails; what earlier rounds have loaded is done.
            UnreachableError: If the zone or HBase is away for longer than patience lasts.
        """
        (recipe,) = bulk.recipe.destinations
        assert isinstance(recipe, HBaseRecipe)
        with ExitStack() as stack:
            zone = open_zone(self._location, self._patience)
            destination = recipe.open(workers=1, number=0, patience=self._patience, stop=bulk.stop)
            stack.callback(destination.close)
            spark = SparkDriver(self._settings, self._jars, self._location, recipe.tables, bulk.run_id, bulk.stop)
            stack.callback(spark.close)
            rounds = MeetingRounds(bulk, recipe, destination, zone, spark, self._patience)
            stack.callback(rounds.close)
            display = self._show()
            stack.callback(display.close)
            try:
                for number, meetings in enumerate(self._gathered(bulk, rounds), 1):
                    rounds.load(number, meetings, display)
            except StoppedError:
                return

    def _gathered(self, bulk: Bulk, rounds: MeetingRounds) -> Iterator[list[Meeting]]:
        """Yield the meetings of which something is new, under their leases, so many that a round is full."""
        some: list[Meeting] = []
        for plan in bulk.meetings:
            if bulk.stop.is_set():
                return
            meeting = rounds.begin(plan)
            if meeting is not None:
                some.append(meeting)
            if sum(one.records for one in some) >= self._round_records:
                yield some
                some = []
        if some:
            yield some


def open_engine(config: Config, location: str, show: Callable[[], TaskDisplay]) -> SparkEngine:
    """Look whether all is there that loading a landing zone by Spark needs, and return what does it; starts nothing.

    Raises:
        F1HBaseError: If something is not there; says what, and how to have it.
    """
    settings = config.settings
    where = parse_location(location)
    if where.scheme not in _SCHEMES:
        raise ConfigError(
            f"--engine spark reads folders, s3:// and gs://, not '{where}': load from there with --engine local."
        )
    check_installed()
    patience = settings.patience.total_seconds()
    open_zone(where, min(patience, STARTUP_PATIENCE_SECONDS))
    jars = hbase_jars(settings.spark_conf, find_shell())
    spark = SparkSettings(settings.spark_master, settings.spark_conf, settings.spark_staging)
    return SparkEngine(where, spark, jars, patience, show)


def open_zone(location: Location, patience: float) -> ZoneReader:
    """Return what reads a landing zone.

    Raises:
        LocationError: If there is nothing to load from.
        ConfigError: If what is there is no landing zone.
        UnreachableError: If the store is away for longer than patience lasts.
    """
    reader = open_reader(location, patience)
    if not isinstance(reader, ZoneReader):
        raise ConfigError(
            f"--engine spark loads from a landing zone, and '{location}' is none: make one of it with load --from "
            f"{location} --to FOLDER, or use --engine local."
        )
    return reader
