"""What can be measured, by the name that the command line and the page give it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks import (
    choices,
    contest,
    growth,
    memory,
    metrics,
    requesting,
    season,
    spark,
    spark_export,
    startup,
    storage,
    zones,
)
from benchmarks.options import Options, Tell
from benchmarks.stage import Stage

Study = Callable[[Stage, Options, Tell], str]
"""Measures something and returns what it found in Markdown."""

STUDIES: Mapping[str, Study] = {
    "contest": contest.run,
    "choices": choices.run,
    "storage": storage.run,
    "growth": growth.run,
    "memory": memory.run,
    "startup": startup.run,
    "requests": requesting.run,
    "status": season.run,
    "zones": zones.run,
    "metrics": metrics.run,
    "spark": spark.run,
    "spark-growth": spark.growth,
    "spark-export": spark_export.run,
}
