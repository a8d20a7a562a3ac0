"""Loads by Spark what of a landing zone is new to HBase; see `f1hbase.pipeline.engine`.

The process that runs the load keeps leases, quarantine and the lines of units; Spark reads, encodes, sorts and writes
HBase's own files, which HBase takes whole. A unit's line is written only after that. Meetings are loaded in rounds, so
that a kill costs a round at the most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

from f1hbase.cluster.driver import SparkDriver, StoppedError
from f1hbase.cluster.meetings import Meeting, MeetingRounds
from f1hbase.cluster.session import SparkSettings, check_installed, hbase_jars
from f1hbase.destinations.hbase import HBaseRecipe
from f1hbase.errors import ConfigError
from f1hbase.pipeline.display import TaskDisplay
from f1hbase.pipeline.engine import Bulk
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
        patience: For how long zone and HBase may be away, in seconds.
        show: Makes the display of Spark's tasks.
        round_records: How many records a round has, by and large.
    """

    def __init__(
        self,
        location: Location,
        settings: SparkSettings,
        patience: float,
        show: Callable[[], TaskDisplay],
        round_records: int = ROUND_RECORDS,
    ) -> None:
        self._location = location
        self._settings = settings
        self._patience = patience
        self._show = show
        self._round_records = round_records
        self._jars: list[str] = []

    def prepare(self) -> None:
        """Look for PySpark, Java, HBase's jars and the landing zone.

        Raises:
            F1HBaseError: If one of them is not there; says how to have it.
        """
        check_installed()
        if self._location.scheme not in _SCHEMES:
            raise ConfigError(
                f"--engine spark reads folders, s3:// and gs://, not '{self._location}': load from there with "
                "--engine local."
            )
        self._zone()
        self._jars = hbase_jars(self._settings.conf, find_shell())

    def load(self, bulk: Bulk) -> None:
        """Load what is new, in rounds of whole meetings.

        Raises:
            SparkError: If Spark fails; what earlier rounds have loaded is done.
            UnreachableError: If the zone or HBase is away for longer than patience lasts.
        """
        (recipe,) = bulk.recipe.destinations
        assert isinstance(recipe, HBaseRecipe)
        with ExitStack() as stack:
            destination = recipe.open(workers=1, number=0, patience=self._patience, stop=bulk.stop)
            stack.callback(destination.close)
            spark = SparkDriver(self._settings, self._jars, self._location, recipe.tables, bulk.run_id, bulk.stop)
            stack.callback(spark.close)
            rounds = MeetingRounds(bulk, recipe, destination, self._zone(), spark, self._patience)
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

    def _zone(self) -> ZoneReader:
        reader = open_reader(self._location, self._patience)
        if not isinstance(reader, ZoneReader):
            raise ConfigError(
                f"--engine spark loads from a landing zone, and '{self._location}' is none: make one of it with "
                f"load --from {self._location} --to FOLDER, or use --engine local."
            )
        return reader


def open_engine(config: Config, location: str, show: Callable[[], TaskDisplay]) -> SparkEngine:
    """Return what loads a landing zone by Spark; starts nothing.

    Raises:
        LocationError: If the location is none.
    """
    settings = config.settings
    spark = SparkSettings(settings.spark_master, settings.spark_conf, settings.spark_staging)
    return SparkEngine(parse_location(location), spark, settings.patience.total_seconds(), show)
