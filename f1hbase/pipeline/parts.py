"""What a load is built from: the recipes of its source and destinations, which worker processes open for themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from f1hbase.destinations.base import DestinationRecipe
from f1hbase.sources.base import SourceRecipe
from f1hbase.state.all_leases import AllLeases
from f1hbase.state.base import State


@dataclass(frozen=True, slots=True)
class Recipe:
    """Where records come from and where they go; can be handed to another process.

    Attributes:
        source: How the source is opened.
        destinations: How each destination is opened; the first one keeps the runs.
    """

    source: SourceRecipe
    destinations: Sequence[DestinationRecipe]


@dataclass(frozen=True, slots=True)
class Parts:
    """What the process that starts a load has itself.

    Attributes:
        states: What each destination remembers.
        leases: The leases of this run, in each destination.
    """

    states: Sequence[State]
    leases: AllLeases


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How a load is done.

    Attributes:
        processes: How many meetings are loaded at once, a process each.
        refresh: Whether what is done is asked for again.
        patience: For how long source or destination may be away, in seconds.
    """

    processes: int = 10
    refresh: bool = False
    patience: float = 1800.0
