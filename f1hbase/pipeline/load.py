"""The main job: plan, then load, then say what was done."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from time import monotonic

from f1hbase import __version__
from f1hbase.cli.options import Settings
from f1hbase.cli.progress import log_summary, make_display, terminal
from f1hbase.credentials import Credentials
from f1hbase.destinations.hbase import HBaseSink
from f1hbase.errors import F1HBaseError, UnreachableError
from f1hbase.levels import SUCCESS
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.text import count
from f1hbase.model.units import MeetingPlan, SessionPlan
from f1hbase.pipeline.collector import EXIT_DONE, EXIT_INTERRUPTED, ParallelF1DataCollector, Result
from f1hbase.pipeline.plan import goes_on, make_plan, session_name
from f1hbase.sources.http.errors import AwayError, GiveUpError, RequestError
from f1hbase.sources.openf1.source import open_source
from f1hbase.state.hbase.leases import LeaseKeeper, Leases
from f1hbase.state.hbase.reports import HBaseReports, RunState, new_run_id
from f1hbase.stores.hbase.connector import OTHER_CONNECTIONS, USUAL_THREADS, Gateway, HBaseConnector, find_gateways
from f1hbase.stores.hbase.schema import Layout, Tables, ensure_tables, split_points
from f1hbase.stores.hbase.shell import find_shell

_log = logging.getLogger(__name__)

# At the start HBase is there or it is not: a mistake in the address must not take half an hour to show.
STARTUP_PATIENCE_SECONDS = 10.0

# At the end the user may be waiting for Ctrl-C to take effect.
_PATIENCE_AT_THE_END_SECONDS = 5.0
_PATIENCE_AT_ONCE_SECONDS = 1.0

# The parent's calls are small; one that hangs would keep it from its workers and from the user.
_CALL_SECONDS = 15.0

_NO_SCOPE = "-#-#-"
"""The place in quarantine of what does not say which session it is."""


def load(settings: Settings, credentials: Credentials | None = None) -> Result:
    """Load what is missing and return how it went.

    Raises:
        F1HBaseError: If nothing could be begun; its message says why and what to do.
    """
    started = monotonic()
    tables = Tables(settings.table_prefix)
    gateways = _find_gateways(settings)
    connector = HBaseConnector(gateways, STARTUP_PATIENCE_SECONDS)
    _log.info("HBase at %s, tables %s and %s", ", ".join(map(str, gateways)), tables.data, tables.reports)
    plan, unusable = plan_from_api(settings, credentials)
    sessions = sum(len(meeting.sessions) for meeting in plan)
    _log.info("asked for: %s of %s", count(sessions, "session"), count(len(plan), "meeting"))
    layout = Layout(settings.compression, split_points(meeting.scope for meeting in plan))
    for name in ensure_tables(connector, tables, layout, find_shell()):
        _log.info("created the table %s", name)

    now = datetime.now(UTC)
    run_id = new_run_id(now)
    sink = HBaseSink(connector, tables, run_id)
    for record in unusable:
        sink.quarantine("sessions", _NO_SCOPE, record, "a key field of the session is missing")
    stop = threading.Event()
    if settings.processes + OTHER_CONNECTIONS > USUAL_THREADS * len(gateways):
        _log.warning(
            "%d processes may be more than the Thrift gateway serves at a time: raise hbase.thrift.minWorkerThreads "
            "(%d by default), name more gateways, or lower --processes", settings.processes, USUAL_THREADS,
        )  # fmt: skip
    patience = settings.patience.total_seconds()
    patient = HBaseConnector(gateways, patience, stop, call_timeout=_CALL_SECONDS)
    impatient = HBaseConnector(gateways, patience=0, call_timeout=_PATIENCE_AT_THE_END_SECONDS)
    reports, leases = HBaseReports(patient, tables.reports), Leases(patient, impatient, tables.reports, run_id)
    asked = ",".join(session.scope.prefix for meeting in plan for session in meeting.sessions)
    meta = {"start": now.isoformat(), "version": __version__, "sessions": asked, **_shown(settings)}
    begun = RunState(run_id, meta=meta)
    reports.write_run(begun)
    # One thread of the gateway serves one connection.
    connector.close()
    display = make_display(len(plan), terminal(), quiet=settings.quiet)
    collector = ParallelF1DataCollector(
        settings,
        credentials=credentials,
        gateways=gateways,
        tables=tables,
        reports=reports,
        leases=leases,
        run_id=run_id,
        display=display,
        stop=stop,
    )
    try:
        with LeaseKeeper(leases):
            result = collector.run(plan)
    finally:
        display.close()
    result.quarantined(len(unusable))
    seconds = monotonic() - started
    log_summary(result.overall, meetings=len(plan), complete=result.complete, seconds=seconds)
    _warn_of_strangers(settings, result)
    _log.log(*_verdict(result, [s for meeting in plan for s in meeting.sessions if goes_on(s.scope, now)]))
    try:
        patience = _PATIENCE_AT_ONCE_SECONDS if result.stopped_at_once else _PATIENCE_AT_THE_END_SECONDS
        last = HBaseConnector(gateways, patience, call_timeout=patience)
        HBaseReports(last, tables.reports).write_run(_ended(run_id, result, seconds))
    except F1HBaseError as error:
        _log.warning("the end of the run is not in %s: %s", tables.reports, error)
    return result


def plan_from_api(settings: Settings, credentials: Credentials | None) -> tuple[list[MeetingPlan], list[object]]:
    """Ask the API what there is to load; also return the records of sessions that lack a key.

    Raises:
        NothingToLoadError: If it has nothing of what was asked for.
        UnreachableError: If it does not answer, or not as OpenF1 does.
    """
    return asyncio.run(_plan_from_api(settings, credentials))


async def _plan_from_api(settings: Settings, credentials: Credentials | None) -> tuple[list[MeetingPlan], list[object]]:
    patience = min(settings.patience.total_seconds(), STARTUP_PATIENCE_SECONDS)
    async with open_source(settings, credentials, patience) as source:
        try:
            return await make_plan(source.ask, settings, datetime.now(UTC))
        except AwayError as error:
            raise UnreachableError(f"{error}. Check the network and --api-url.") from error
        except F1HBaseError:
            raise
        except GiveUpError as error:
            raise UnreachableError(
                f"API: {settings.api_url} refuses: {error}. The address of OpenF1 ends in /v1; see --api-url."
            ) from error
        except RequestError as error:
            raise UnreachableError(
                f"API: {settings.api_url} does not answer: {error}. Check the network and --api-url."
            ) from error


def _find_gateways(settings: Settings) -> tuple[Gateway, ...]:
    return find_gateways(settings.gateways, settings.hbase_transport, settings.hbase_protocol)


def _shown(settings: Settings) -> dict[str, str]:
    """The settings as the run's row keeps them; credentials are no settings, so none can be among them."""
    return {item.name: _text(getattr(settings, item.name)) for item in fields(settings)}


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def _warn_of_strangers(settings: Settings, result: Result) -> None:
    """Say if there was no record at all of the drivers asked for, as a wrong number is no error."""
    rows = {name: number for name, number in result.overall.rows.items() if ENDPOINTS[name].by_driver}
    if settings.drivers and rows and not any(rows.values()) and not result.overall.failed:
        _log.warning(
            "the API has no record of driver %s in %s of these sessions; %s/drivers?session_key=... lists who drove",
            " or ".join(map(str, settings.drivers)), ", ".join(rows), settings.api_url,
        )  # fmt: skip


def _verdict(result: Result, going_on: Sequence[SessionPlan]) -> tuple[int, str]:
    if result.exit_code == EXIT_DONE and going_on:
        names = " and ".join(session_name(session.record) for session in going_on)
        was = "was" if len(going_on) == 1 else "were"
        return SUCCESS, f"all that there was is loaded; {names} {was} still going on: load again afterwards"
    if result.exit_code == EXIT_DONE:
        return SUCCESS, "all that was asked for is loaded"
    overall = result.overall
    parts = []
    if overall.failed:
        parts.append(f"{overall.failed:,} units failed")
    if result.exit_code == EXIT_INTERRUPTED:
        parts.append("interrupted")
    parts += result.crashed
    verdict = (
        f"not all is loaded: {'; '.join(parts)}. What is done stays done; run again to load the rest." if parts else ""
    )
    if overall.quarantined:
        verdict += (
            f"{' ' if verdict else ''}{count(overall.quarantined, 'record')} went to quarantine instead of f1_data: "
            "'status' says where; load with --refresh once the API has mended them."
        )
    return logging.WARNING, verdict


def _ended(run_id: str, result: Result, seconds: float) -> RunState:
    overall = result.overall
    return RunState(
        run_id,
        meta={"end": datetime.now(UTC).isoformat(), "exit": str(result.exit_code)},
        stats={
            "units": str(overall.stored),
            "failed": str(overall.failed),
            "rows": str(overall.all_rows),
            "quarantined": str(overall.quarantined),
            "bytes": str(overall.bytes),
            "requests": str(overall.requests),
            "retries": str(overall.retries),
            "restarts": str(result.restarts),
            "seconds": f"{seconds:.1f}",
            "rows_per_second": f"{overall.all_rows / seconds:.0f}" if seconds else "0",
        },
        errors={kind: str(count) for kind, count in result.errors.items()},
    )
