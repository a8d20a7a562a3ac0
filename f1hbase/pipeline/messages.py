"""What a worker process and its parent tell each other."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from f1hbase.metrics.meter import Measurements
from f1hbase.model.answers import RawAnswer, RequestStats
from f1hbase.model.outcomes import Outcome
from f1hbase.model.plans import MeetingPlan, Selection
from f1hbase.model.units import Unit
from f1hbase.pipeline.parts import LoadOptions, Recipe
from f1hbase.state.base import Epochs

STOP = "stop"
"""What the parent sends to a worker that is to finish what it has in hand."""

GRACE_SECONDS = 10.0
"""How long a worker that was told to stop may take to store what it has in hand."""


@dataclass(frozen=True, slots=True)
class Task:
    """All that a worker needs to know.

    Attributes:
        meeting: What to load.
        selection: The endpoints and drivers asked for.
        options: How.
        recipe: How to open source and destinations.
        run_id: The run that this is part of.
        epochs: Those of the meeting's sessions in each destination, of when the leases were taken.
        workers: How many workers there are at the same time.
        number: Which one of all that the run has started.
        listing: The answers that the plan was made from, by endpoint; none where no destination keeps answers.
    """

    meeting: MeetingPlan
    selection: Selection
    options: LoadOptions
    recipe: Recipe
    run_id: str
    epochs: Sequence[Epochs]
    workers: int
    number: int
    listing: Mapping[str, RawAnswer] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Planned:
    """So many units more are to be loaded, or fewer than was told."""

    units: int


@dataclass(frozen=True, slots=True)
class Reported:
    """These units are stored (or failed), and their lines in the state are written."""

    outcomes: Sequence[Outcome]


@dataclass(frozen=True, slots=True)
class LogLine:
    """Something for the log, which the parent alone writes."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Measured:
    """What a worker has measured since it last told.

    Attributes:
        measured: Its counts and histograms.
        memory: How much memory it has resident, in bytes; 0 where that is not known.
    """

    measured: Measurements
    memory: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The worker has ended.

    Attributes:
        error: Why not everything was tried.
        exit_code: What that makes of the run.
        stats: What no unit accounts for.
        lacking: The units that the source has not, and that nobody asked for by name.
    """

    error: str | None = None
    exit_code: int = 0
    stats: RequestStats = field(default_factory=RequestStats)
    lacking: Sequence[Unit] = ()


Message = Planned | Reported | LogLine | Measured | Finished


class Link:
    """A worker's end of the connection to its parent; may be used from several threads."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def tell(self, message: Message) -> None:
        """Send a message; without a parent there is nobody to tell."""
        with self._lock, suppress(OSError):
            self._connection.send(message)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when the parent says something, or is no more."""
        return self._connection.fileno()

    def hear(self) -> bool:
        """Read what the parent says; False if it is no more."""
        try:
            self._connection.recv()
        except (EOFError, OSError):
            return False
        return True
