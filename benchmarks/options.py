"""How large a benchmark is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MEETINGS = 4
"""How many meetings the contest loads, so that four can be loaded at a time."""

Tell = Callable[[str], None]
"""Hears how a benchmark goes, a line at a time."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says, and what follows from `--quick`.

    Attributes:
        rounds: How often what is measured is measured; None leaves it to the study.
        rows: About how many car_data records the contest loads.
        only: Words of which a contender's title has to have one; none means all contenders.
        data: A folder with real records to use instead of simulated ones.
        warm_up: Whether the contest has a round before that does not count.
        processes: With how many processes the contenders run.
        frame_rows: The sizes of frames with which the gateway's limit is looked for; the project's own frames have
            about 3,500 rows of car_data.
        naive_rows: How many records are put one at a time.
        storage_rows: How many records the storage study simulates where there are no real ones.
        growth_rows: How many rows the steps of the growth study have.
        minutes: How long the session of the memory study is; None means two hours.
        season: How many meetings the season of the status study has.
        copies: How many meetings the zone of the Spark studies has.
        zone: That zone; it is filled if it is not there, and stays. None fills one for this run.
        compare: Whether the tables of the Spark study are compared cell by cell.
    """

    rounds: int | None = None
    rows: int = 300_000
    only: tuple[str, ...] = ()
    data: Path | None = None
    warm_up: bool = True
    processes: tuple[int, ...] = (1, 2, 4)
    frame_rows: tuple[int, ...] = (1500, 3500)
    naive_rows: int = 3000
    storage_rows: int = 750_000
    growth_rows: tuple[int, ...] = (500_000, 1_000_000, 2_000_000, 4_000_000)
    minutes: float | None = None
    season: int = 24
    copies: int = 4
    zone: Path | None = None
    compare: bool = False


FULL = Options()
QUICK = Options(
    rounds=1,
    rows=8_000,
    warm_up=False,
    processes=(1, 2),
    frame_rows=(1500,),
    naive_rows=300,
    storage_rows=10_000,
    growth_rows=(10_000, 20_000),
    minutes=3.0,
    season=1,
    copies=2,
    compare=True,
)
"""A smoke run: shows that everything works, and measures nothing worth knowing."""
