"""Reads how an installation stands, again and again; what it reads from is a `StateView`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from f1hbase.errors import F1HBaseError
from f1hbase.model.outcomes import RunState
from f1hbase.model.plans import Selection
from f1hbase.model.rates import Limits
from f1hbase.model.times import LONG_AGO, lenient_time
from f1hbase.model.units import Scope, Unit, parse_scope
from f1hbase.operations.estimate.limits import seconds_at
from f1hbase.operations.status.base import StateView
from f1hbase.operations.status.judging import ScopeStatus, judge, weight
from f1hbase.sources.base import AskedByRequest
from f1hbase.state.live import Heartbeat

_PACE_SPAN = timedelta(minutes=5)
"""The time over which the pace of a running load is taken."""

_HEARTBEATS_SHOWN = timedelta(days=2)

OpenSource = Callable[[], object]
"""Returns the recipe of the source that the rest is loaded from; called only if there is a rest."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a load goes, by the last minutes.

    Attributes:
        done: What was done, in answers of the usual size.
        requests: How many requests that took.
        seconds: In how many seconds.
    """

    done: float
    requests: float
    seconds: float

    @property
    def requests_per_minute(self) -> float:
        """How many requests a minute took."""
        return 60 * self.requests / self.seconds if self.seconds > 0 else 0.0


@dataclass(slots=True)
class Overview:
    """Everything that `status` tells.

    Attributes:
        scopes: The meetings and sessions, in the order of their keys.
        runs: The runs, the latest first.
        loading: Who loads now, and which meetings.
        pace: How fast that goes; None while nobody loads, or has only begun.
        limits: The source's.
        requests_left: How many requests the rest takes, about; None if nothing says so.
        live: The last heartbeat of each live instance: those that record, or did in the last two days.
    """

    scopes: list[ScopeStatus]
    runs: list[RunState] = field(default_factory=list)
    loading: Mapping[str, list[int]] = field(default_factory=dict)
    pace: Pace | None = None
    limits: Limits = field(default_factory=Limits)
    requests_left: int | None = None
    live: Sequence[Heartbeat] = ()

    @property
    def left(self) -> float:
        """What is not done of what was asked for, in answers of the usual size."""
        return sum(scope.left for scope in self.scopes)

    @property
    def seconds_left(self) -> float | None:
        """How long the rest takes: at the pace of the run that loads now, otherwise at the source's limits."""
        if not self.left:
            return 0.0
        if self.pace is not None and self.pace.done:
            return self.left / self.pace.done * self.pace.seconds
        return None if self.requests_left is None else seconds_at(self.limits.requests, self.requests_left)


class StatusReader:
    """Reads how an installation stands.

    Args:
        view: What to read from.
        selection: Which years, meetings and sessions; nothing named means all.
        source: The source that the rest is loaded from.

    Raises:
        F1HBaseError: If nothing was ever loaded there.
    """

    def __init__(
        self,
        view: StateView,
        selection: Selection,
        source: OpenSource = lambda: None,
    ) -> None:
        self._view = view
        self._selection = selection
        self._source = source
        absent = view.absent()
        if absent:
            raise F1HBaseError(absent)

    def read(self) -> Overview:
        """Return how everything stands now.

        Raises:
            F1HBaseError: If a year or key was given of which nothing is known, or the store does not answer.
        """
        runs = self._view.runs()
        known = self._view.scopes()
        scopes = judge(self._view.units(known.keys()), self._view.quarantine_counts(), runs, known)
        chosen = self._chosen(scopes)
        loading, pace = self._loading(runs, known)
        missing = [
            unit for scope in chosen for unit in scope.missing if unit.endpoint not in unit.scope.dataset.listing
        ]
        overview = Overview(chosen, runs, loading, pace, live=self._live())
        source = self._source() if missing else None
        # None where what is missing is another source's, as Jolpica's is when OpenF1 is the default.
        if isinstance(source, AskedByRequest) and (left := source.requests(missing)):
            overview.limits, overview.requests_left = source.limits, left
        return overview

    def _loading(
        self, runs: Sequence[RunState], known: Mapping[str, Scope]
    ) -> tuple[Mapping[str, list[int]], Pace | None]:
        """Return who loads now, and how fast."""
        loading: dict[str, list[int]] = defaultdict(list)
        for meeting, holder in self._view.holders():
            loading[holder].append(meeting.meeting_key)
        if not loading:
            return {}, None
        now = datetime.now(UTC)
        began = max((moment for run in runs[:1] if (moment := lenient_time(run.meta.get("start")))), default=LONG_AGO)
        since = max(began, now - _PACE_SPAN)
        done = requests = 0.0
        for state in self._view.fetched_since(since):
            scope = known.get(state.scope_prefix) or parse_scope(state.scope_prefix)
            if scope is not None:
                done += weight(Unit(state.endpoint, scope, state.driver, state.window))
            requests += state.stats.get("attempts", 0.0)
        return dict(loading), Pace(done, requests, (now - since).total_seconds())

    def _live(self) -> list[Heartbeat]:
        """Return the heartbeats that say something of the present, of the sessions that were chosen."""
        since = datetime.now(UTC) - _HEARTBEATS_SHOWN
        named = self._selection
        beats = []
        for beat in self._view.heartbeats():
            scope = parse_scope(beat.scope_prefix)
            if scope is None or beat.at < since:
                continue
            if (
                (not named.year or scope.year in named.year)
                and (not named.meeting_key or scope.meeting_key in named.meeting_key)
                and (not named.session_key or scope.session_key in named.session_key)
            ):
                beats.append(beat)
        return beats

    def _chosen(self, scopes: Sequence[ScopeStatus]) -> list[ScopeStatus]:
        chosen = [scope for scope in scopes if self._selection.chooses(scope)]
        unknown = self._selection.unmet(chosen)
        if unknown:
            raise F1HBaseError(
                f"{self._view.home} knows nothing of {', '.join(unknown)}; 'status' alone shows all it knows."
            )
        return chosen
