"""The seam towards what loads in bulk: an engine takes what of a load is new, and the workers load the rest.

What is stored already and comes again (settling, `--refresh`), what an engine cannot take and what fails in it goes the
usual way, a process a meeting, so that every failure has the same words whatever the engine.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from f1hbase.model.outcomes import Outcome
from f1hbase.model.plans import MeetingPlan
from f1hbase.pipeline.parts import Parts, Recipe
from f1hbase.pipeline.remaining import Remaining


@dataclass(frozen=True, slots=True)
class Bulk:
    """What an engine is to load, and with what.

    Attributes:
        run_id: The run that this is part of.
        meetings: What was asked for.
        recipe: How source and destinations are opened.
        parts: The state of each destination and the leases, for the calling thread; the leases are renewed meanwhile.
        remaining: Reads what of a meeting is not stored yet.
        report: Takes what is loaded of a meeting, once the lines of its units are written.
        stop: Set when the run is to end early.
    """

    run_id: str
    meetings: Sequence[MeetingPlan]
    recipe: Recipe
    parts: Parts
    remaining: Callable[[MeetingPlan], Remaining]
    report: Callable[[MeetingPlan, Sequence[Outcome]], None]
    stop: threading.Event


class Engine(Protocol):
    """Loads in bulk."""

    def load(self, bulk: Bulk) -> None:
        """Load what is new of some meetings, each under its lease, and write the lines of its units.

        What it leaves has no line, and the workers load it. Returns early when the run is to stop.

        Raises:
            F1HBaseError: If it cannot go on; what it has written lines of is done.
        """
