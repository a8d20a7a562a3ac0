"""What a run tells whoever shows how it goes; the implementations are the command line's."""

from __future__ import annotations

from typing import Protocol

from f1hbase.model.units import MeetingPlan
from f1hbase.pipeline.tally import Tally


class Display(Protocol):
    """Shows how a run goes."""

    def begin(self, meeting: MeetingPlan) -> None:
        """A meeting is being loaded from now on."""

    def show(self, meeting: MeetingPlan, tally: Tally, overall: Tally) -> None:
        """Something of a meeting has been counted."""

    def skip(self, meeting: MeetingPlan) -> None:
        """A meeting has nothing left to load."""

    def end(self, meeting: MeetingPlan) -> None:
        """A meeting is no longer being loaded."""

    def tick(self, overall: Tally) -> None:
        """Time has passed."""

    def close(self) -> None:
        """The run is over."""
