"""What a load would take, session by session: units and requests, rows and bytes; touches nothing."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from f1hbase.destinations.base import KeepsObjects
from f1hbase.errors import F1HBaseError
from f1hbase.model.catalog import ALL_ENDPOINTS
from f1hbase.model.footprints import Footprint, Share
from f1hbase.model.outcomes import UnitState
from f1hbase.model.plans import MeetingPlan, Plan, Selection
from f1hbase.model.rates import Limits
from f1hbase.model.units import Scope, Unit
from f1hbase.operations.estimate.costs import CostModel, learn
from f1hbase.operations.estimate.limits import seconds_at, seconds_for
from f1hbase.operations.status.base import StateView
from f1hbase.pipeline.remaining import Remaining
from f1hbase.sources.base import AskedByPage, AskedByRequest

_log = logging.getLogger(__name__)

_RECORDS_AN_ANSWER = 60_000
"""Of samples, in an answer of 4 MB."""

_MOST_UNITS = 20_000
"""From how many units is learnt, at most."""

SPARK_PAYS_FROM_ROWS = 2_000_000
"""From how many rows on Spark loads a landing zone sooner than the local engine: it takes ten seconds and more to start
and has more than twice the rows a second on the same processors from then on (measured: docs/cluster.md)."""

OpenView = Callable[[], StateView]
"""Opens what a destination remembers; raises an F1HBaseError if it cannot be reached."""


@dataclass(frozen=True, slots=True)
class SessionEstimate:
    """What loading a session (or what is of a meeting as such) would take.

    Attributes:
        units: How many units are missing; of samples, one for each span of time that is missing.
        rows: How many rows to expect, always an estimate.
        bytes: How many bytes to receive, always an estimate.
        settles: Whether only what is due again is asked for, as the session itself was not.
    """

    scope: Scope
    units: int
    rows: int
    bytes: int
    settles: bool = False


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a load takes, those of a meeting's sessions after what is of the meeting as such, and what that rests on.

    Attributes:
        parts: What each session and meeting takes.
        requests: How many requests each meeting takes, by year and key: sessions of a meeting share requests.
        costs: What the estimates rest on.
        limits: The source's.
        exact: Whether the requests are exact, as long as nothing fails.
        footprints: What keeping it takes, in each destination that is a store of objects.
        in_bulk: Whether it can be loaded by Spark: from a landing zone, into HBase alone.
    """

    parts: Sequence[SessionEstimate]
    requests: dict[tuple[int, int], int]
    costs: CostModel
    limits: Limits = field(default_factory=Limits)
    exact: bool = False
    footprints: Sequence[Footprint] = ()
    in_bulk: bool = False

    @property
    def engine(self) -> str:
        """The engine that loads it the soonest, as `--engine` names it."""
        return "spark" if self.in_bulk and self.rows >= SPARK_PAYS_FROM_ROWS else "local"

    @property
    def sessions(self) -> list[SessionEstimate]:
        """The sessions that were asked for."""
        return [part for part in self.parts if part.scope.session_key is not None and not part.settles]

    @property
    def settling(self) -> list[SessionEstimate]:
        """The other sessions of which something is due again."""
        return [part for part in self.parts if part.settles and part.scope.session_key is not None and part.units]

    @property
    def units(self) -> int:
        """All units."""
        return sum(part.units for part in self.parts)

    @property
    def rows(self) -> int:
        """All rows."""
        return sum(part.rows for part in self.parts)

    @property
    def bytes(self) -> int:
        """All bytes."""
        return sum(part.bytes for part in self.parts)

    @property
    def all_requests(self) -> int:
        """All requests."""
        return sum(self.requests.values())

    @property
    def seconds(self) -> float | None:
        """How long the requests take at the least; None without limits."""
        return seconds_at(self.limits.requests, self.all_requests)

    @property
    def seconds_by_bytes(self) -> float | None:
        """How long it takes at the least if the limit of bytes is kept as well; None unless there is one."""
        by_bytes = seconds_for(self.limits.bytes, self.bytes)
        return None if by_bytes is None else max(by_bytes, self.seconds or 0.0)


def estimate_load(
    plan: Plan,
    selection: Selection,
    source: object,
    destinations: Sequence[OpenView],
    *,
    refresh: bool = False,
    stores: Sequence[KeepsObjects | None] = (),
) -> Estimate:
    """Return what is missing of each session, and what it takes to load that.

    Args:
        plan: Which sessions.
        selection: The endpoints and drivers asked for.
        source: The recipe of the source.
        destinations: What each destination remembers; one that cannot be reached counts as empty, and is named.
        refresh: Whether what is done is asked for again.
        stores: How each destination that is a store of objects is opened, in the same order; None for any other.
    """
    now = datetime.now(UTC)
    asked = source if isinstance(source, AskedByRequest) else None
    places = [_opened(one) for one in destinations]
    views = [view for view in places if view is not None]
    keeps_answers = [store is not None and store.keeps_answers for store in stores]
    shares: list[list[Share]] = [[] for _ in stores]
    try:
        costs = _learnt(views[0], plan, now) if views else CostModel()
        parts: list[SessionEstimate] = []
        requests: dict[tuple[int, int], int] = {}
        exact = not isinstance(source, AskedByPage)
        for meeting in plan.meetings:
            states: list[list[UnitState]] = [
                [] if view is None else [state for scope in meeting.scopes for state in view.unit_states(scope)]
                for view in places
            ]
            # A run that has stored nothing yet: with refresh, all remains.
            remaining = Remaining(meeting, states, selection, now, "-" if refresh else "", keeps_answers)
            units = remaining.units()
            # The records of meetings and sessions come with the plan.
            to_ask = [unit for unit in units if unit.endpoint not in unit.scope.dataset.listing]
            requests[meeting.scope.year, meeting.scope.meeting_key] = costs.requests(to_ask, asked)
            parts += _parts(meeting, units, costs, asked)
            for place, mine in enumerate(shares):
                lacking = [unit for unit in units if remaining.lacking(unit)[place]]
                mine += _shares(lacking, costs, asked, is_first=meeting is plan.meetings[0])
            if asked is not None and asked.learns_sizes:
                exact &= not any(ALL_ENDPOINTS[unit.endpoint].sampled for unit in to_ask)
        footprints: list[Footprint] = []
        for store, mine in zip(stores, shares, strict=True):
            if store is not None:
                footprints.append(store.footprint(mine))
        return Estimate(parts, requests, costs, Limits() if asked is None else asked.limits, exact, footprints)
    finally:
        for view in views:
            view.close()


def _opened(open_view: OpenView) -> StateView | None:
    try:
        view = open_view()
        return None if view.absent() else view
    except F1HBaseError as error:
        _log.warning("%s The plan is made as if nothing were loaded there.", error)
        return None


def _learnt(view: StateView, plan: Plan, now: datetime) -> CostModel:
    planned = {scope.prefix: scope for meeting in plan.meetings for scope in meeting.scopes}
    # What of a session that goes on is stored says little of what it will be.
    known = {prefix: scope for prefix, scope in {**view.scopes(), **planned}.items() if not scope.goes_on(now)}
    sized = {run.run_id for run in view.runs() if run.meta.get("window") == ""}
    return learn(view.measured(_MOST_UNITS), known, sized)


def _shares(
    units: Sequence[Unit], costs: CostModel, source: AskedByRequest | None, *, is_first: bool
) -> Iterator[Share]:
    """Yield what units of a meeting bring, by endpoint.

    Sessions and meetings come in one answer for all, which counts with the first meeting.
    """
    for name in dict.fromkeys(unit.endpoint for unit in units):
        endpoint, mine = ALL_ENDPOINTS[name], [unit for unit in units if unit.endpoint == name]
        records = sum(costs.rows(unit) for unit in mine)
        if endpoint.keyed_by_year:
            answers, records = int(is_first), len(mine)
        elif endpoint.sampled and source is None:
            answers = max(len(mine), math.ceil(records / _RECORDS_AN_ANSWER))
        else:
            answers = costs.requests(mine, source) or len(mine)
        stored = max(answers, len(mine)) if endpoint.sampled else len(mine)
        scopes = len({unit.scope for unit in mine})
        yield Share(name, mine[0].scope.meeting_key, stored, answers, scopes, records)


def _parts(
    meeting: MeetingPlan, units: Sequence[Unit], costs: CostModel, source: AskedByRequest | None
) -> Iterator[SessionEstimate]:
    for scope in meeting.scopes:
        mine = [unit for unit in units if unit.scope == scope]
        only_settles = scope.session_key in meeting.sessions_to_settle or (
            scope.session_key is None and len(meeting.sessions_to_settle) == len(meeting.sessions)
        )
        rows = sum(costs.rows(unit) for unit in mine)
        of_records = len([unit for unit in mine if unit.endpoint in unit.scope.dataset.listing])
        yield SessionEstimate(
            scope,
            units=len(mine),
            rows=max(round(rows), of_records if scope.session_key is None else 0),
            bytes=round(sum(costs.bytes(unit, source) for unit in mine)),
            settles=only_settles,
        )
