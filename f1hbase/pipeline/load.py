"""The main job: plan, then load, then say what was done; prints nothing and builds nothing itself."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Any, TypeVar

from f1hbase.destinations.base import DestinationRecipe
from f1hbase.errors import F1HBaseError
from f1hbase.levels import SUCCESS
from f1hbase.metrics import names
from f1hbase.metrics.base import Exporter
from f1hbase.metrics.meter import METER, Meter, figures
from f1hbase.metrics.periodic import Periodic
from f1hbase.model.catalog import ALL_ENDPOINTS
from f1hbase.model.outcomes import Quarantined, RunState
from f1hbase.model.plans import Plan, Selection, SessionPlan
from f1hbase.model.records import digest, raw_json
from f1hbase.model.text import count
from f1hbase.pipeline.collector import EXIT_DONE, EXIT_INTERRUPTED, ParallelF1DataCollector, Result
from f1hbase.pipeline.display import Display, Lines, log_summary
from f1hbase.pipeline.engine import Engine
from f1hbase.pipeline.parts import LoadOptions, Parts, Recipe
from f1hbase.pipeline.plan import make_plan, selected, session_name
from f1hbase.state.all_leases import AllLeases
from f1hbase.state.base import LeaseKeeper, Runs, new_run_id
from f1hbase.version import __version__

_log = logging.getLogger(__name__)

STARTUP_PATIENCE_SECONDS = 10.0
"""At the start a store is there or it is not: a mistake in the address must not take half an hour to show."""

REFRESH_SECONDS = 60.0
"""How often the row of a run gets the figures of now."""

_REFRESH_PATIENCE_SECONDS = 5.0
_WAITED_FOR = ("limiter", "api", "hbase")

_NO_SCOPE = "-#-#-"
"""The place in quarantine of what does not say which session it is."""

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """What a load is to do.

    Attributes:
        selection: What is asked for.
        options: How it is done.
        shown: The settings as the run's row keeps them; no credentials.
    """

    selection: Selection
    options: LoadOptions
    shown: Mapping[str, str]


def load(
    request: LoadRequest,
    recipe: Recipe,
    show: Callable[[int], Display] = Lines,
    engine: Engine | None = None,
    exporters: Sequence[Exporter] = (),
) -> Result:
    """Load what is missing and return how it went.

    Args:
        request: What to load.
        recipe: Where records come from and where they go.
        show: Makes the display of a run, given the number of meetings.
        engine: What loads in bulk first what it can; None where worker processes load it all.
        exporters: Who is shown what the run measures.

    Raises:
        F1HBaseError: If nothing could be begun; its message says why and what to do.
    """
    meter = Meter()
    METER.take()  # what was measured before is not of this run
    with ExitStack() as stack:
        for exporter in exporters:
            exporter.start(meter.read)
            stack.callback(exporter.close)
        return _load(request, recipe, show, engine, meter)


def _load(
    request: LoadRequest, recipe: Recipe, show: Callable[[int], Display], engine: Engine | None, meter: Meter
) -> Result:
    started = monotonic()
    selection, options = request.selection, request.options
    plan = plan_load(recipe, selection, min(options.patience, STARTUP_PATIENCE_SECONDS))
    sessions = selected(plan)
    meetings = len({(s.scope.year, s.scope.meeting_key) for s in sessions})
    _log.info("asked for: %s of %s", count(len(sessions), "session"), count(meetings, "meeting"))
    scopes = [meeting.scope for meeting in plan.meetings]
    for destination in recipe.destinations:
        destination.prepare(scopes)
    now = datetime.now(UTC)
    run_id = new_run_id(now)
    stop = threading.Event()
    first = recipe.destinations[0]
    parts = Parts(
        [destination.open_state(options.patience, stop) for destination in recipe.destinations],
        AllLeases([(one.name, one.open_leases(run_id, options.patience, stop)) for one in recipe.destinations]),
    )
    asked = ",".join(session.scope.prefix for session in sessions)
    meta = {"start": now.isoformat(), "version": __version__, "sessions": asked, **request.shown}
    first.open_runs(options.patience, stop).write_run(RunState(run_id, meta=meta))
    unusable = [_aside(record, reason, now) for record, reason in plan.unusable]
    for state in parts.states:
        state.put_quarantine(run_id, unusable)
    keeps_answers = any(destination.keeps_answers for destination in recipe.destinations)
    listing = plan.listing.answers if keeps_answers else {}
    display = show(meetings)
    collector = ParallelF1DataCollector(
        recipe, parts, selection, options, run_id=run_id, display=display, stop=stop, listing=listing,
        engine=engine, meter=meter,
    )  # fmt: skip
    collector.spent(plan.listing.stats)
    with ExitStack() as stack:
        stack.callback(display.close)
        refreshing = _refreshing(first, run_id, collector, started)
        refreshing.start()
        # An older state must not be written after the end of the run.
        stack.callback(refreshing.close, _REFRESH_PATIENCE_SECONDS, last=False)
        with LeaseKeeper(parts.leases):
            result = collector.run(plan.meetings)
    result.quarantined(len(unusable))
    seconds = monotonic() - started
    log_summary(result.overall, meetings=meetings, complete=result.complete, seconds=seconds)
    _warn_of_unknown_drivers(selection, result)
    _tell_of_lacking(result, plan.listing.source)
    _log.log(*_verdict(result, [session for session in sessions if session.scope.goes_on(now)]))
    try:
        last = first.open_runs(1.0 if result.stopped_at_once else 5.0, threading.Event())
        last.write_run(_ended(run_id, result, seconds))
    except F1HBaseError as error:
        _log.warning("the end of the run is not written down: %s", error)
    return result


def plan_load(recipe: Recipe, selection: Selection, patience: float) -> Plan:
    """Ask the source what there is to load.

    Raises:
        NothingToLoadError: If it has nothing of what was asked for.
        UnreachableError: If it does not answer, or not as it should.
    """

    async def ask() -> Plan:
        async with recipe.source.open(patience) as source:
            return await make_plan(source, selection, datetime.now(UTC))

    return run_async(ask())


def run_async(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Run a coroutine to its end, in a thread of its own where an event loop runs in this one already (Jupyter)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    outcome: list[_Result] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(asyncio.run(work))
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            failure.append(error)

    thread = threading.Thread(target=run, name="f1hbase-loop")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def run_with_source(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Run what asks a source, as `run_async` does; of several errors at once the first one is raised by itself.

    Raises:
        F1HBaseError: The first error, where all are of this kind.
    """
    try:
        return run_async(work)
    except* F1HBaseError as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        failure = error
    raise failure


def _aside(record: object, reason: str, found: datetime) -> Quarantined:
    return Quarantined(_NO_SCOPE, "sessions", raw_json(record), digest(record), reason, found)


def _warn_of_unknown_drivers(selection: Selection, result: Result) -> None:
    """Say if there was no record at all of the drivers asked for, as a wrong number is no error."""
    rows = {name: number for name, number in result.overall.rows.items() if ALL_ENDPOINTS[name].by_driver}
    if selection.drivers and rows and not any(rows.values()) and not result.overall.failed:
        _log.warning(
            "there is no record of driver %s in %s of these sessions; the endpoint 'drivers' lists those of a session",
            " or ".join(map(str, selection.drivers)), ", ".join(rows),
        )  # fmt: skip


def _tell_of_lacking(result: Result, home: str) -> None:
    """Say in one line what the source has not, by endpoint."""
    by_endpoint: dict[str, set[str]] = defaultdict(set)
    for unit in result.lacking:
        by_endpoint[unit.endpoint].add(unit.scope.prefix)
    if by_endpoint:
        parts = [
            f"{name} ({count(len(by_endpoint[name]), 'meeting' if endpoint.of_meeting else 'session')})"
            for name, endpoint in ALL_ENDPOINTS.items()
            if name in by_endpoint
        ]
        _log.warning(
            "'%s' has no %s: not asked for by name, so left as not loaded (--endpoint makes it a failure)",
            home, ", ".join(parts),
        )  # fmt: skip


def _verdict(result: Result, going_on: Sequence[SessionPlan]) -> tuple[int, str]:
    if result.exit_code == EXIT_DONE and going_on:
        names = " and ".join(session_name(session.record) for session in going_on)
        was = "was" if len(going_on) == 1 else "were"
        return SUCCESS, f"all that there was is loaded; {names} {was} still going on: load again afterwards"
    if result.exit_code == EXIT_DONE and result.lacking:
        return SUCCESS, "all that the source has of what was asked for is loaded"
    if result.exit_code == EXIT_DONE:
        return SUCCESS, "all that was asked for is loaded"
    overall = result.overall
    parts = []
    if overall.failed:
        parts.append(f"{count(overall.failed, 'unit')} failed")
    if result.exit_code == EXIT_INTERRUPTED:
        parts.append("interrupted")
    parts += [reason.removesuffix(".") for reason in result.crashed]
    verdict = (
        f"not all is loaded: {'; '.join(parts)}. What is done stays done; run again to load the rest." if parts else ""
    )
    if overall.quarantined:
        verdict += (
            f"{' ' if verdict else ''}{count(overall.quarantined, 'record')} went to quarantine instead of being "
            "stored: 'status' says where; load with --refresh once the source has corrected them."
        )
    return logging.WARNING, verdict


def _refreshing(first: DestinationRecipe, run_id: str, collector: ParallelF1DataCollector, started: float) -> Periodic:
    """Return what writes the figures of a run into its row once a minute, so that one that is killed leaves some."""
    opened: list[Runs] = []

    def refresh() -> None:
        if not opened:
            opened.append(first.open_runs(_REFRESH_PATIENCE_SECONDS, refreshing.ended))
        opened[0].write_run(RunState(run_id, stats=_stats(collector.result, monotonic() - started)))

    what = "the figures of the run are written down"
    refreshing = Periodic(refresh, REFRESH_SECONDS, what, (F1HBaseError, OSError))
    return refreshing


def _stats(result: Result, seconds: float) -> dict[str, str]:
    """Return the figures of a run by name, as `run#` rows have them; may be called while it goes on."""
    overall = result.overall
    stats = {
        "units": str(overall.stored),
        "failed": str(overall.failed),
        "records": str(overall.records),
        "rows": str(overall.all_rows),
        "quarantined": str(overall.quarantined),
        "bytes": str(overall.bytes),
        "requests": str(overall.requests),
        "retries": str(overall.retries),
        "restarts": str(result.restarts),
        "seconds": f"{seconds:.1f}",
        "rows_per_second": f"{overall.all_rows / seconds:.0f}" if seconds else "0",
    }
    if overall.meter is None:
        return stats
    measured = overall.meter.read()
    stats |= figures(measured, (names.API_SECONDS, names.PUT_SECONDS, names.STORE_SECONDS, names.LAG_SECONDS))
    stats |= {f"waited_for_{what}": f"{measured.total(names.WAIT_SECONDS, what):.1f}" for what in _WAITED_FOR}
    stats["worker_seconds"] = f"{measured.total(names.WORKER_SECONDS):.1f}"
    stats["worker_cpu_seconds"] = f"{measured.total(names.WORKER_CPU_SECONDS):.1f}"
    stats["writer_seconds"] = f"{measured.total(names.WRITER_SECONDS):.1f}"
    stats["largest_worker_bytes"] = f"{measured.total(names.LARGEST_WORKER):.0f}"
    return stats


def _ended(run_id: str, result: Result, seconds: float) -> RunState:
    return RunState(
        run_id,
        meta={"end": datetime.now(UTC).isoformat(), "exit": str(result.exit_code)},
        stats=_stats(result, seconds),
        errors={kind: str(count) for kind, count in result.errors.items()},
    )
