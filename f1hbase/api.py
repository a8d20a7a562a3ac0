"""What the command line does, as typed functions below it; the same words, the same defaults, environment and file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date as day
from datetime import timedelta
from functools import partial
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

from f1hbase.config import resolve

if TYPE_CHECKING:
    import threading

    from f1hbase.config import Config
    from f1hbase.frames.store import Store
    from f1hbase.operations.estimate.forecast import Estimate
    from f1hbase.operations.ingest import Ingester
    from f1hbase.operations.status import Overview
    from f1hbase.pipeline.collector import Result
    from f1hbase.pipeline.live.run import Recorded

Several = int | Sequence[int]
Texts = str | Sequence[str]
Duration = str | int | float | timedelta
"""`15m`, `30s`, `1h`; a number is seconds."""


def load(
    *,
    source: str | PathLike[str] | None = None,
    to: Texts | PathLike[str] | None = None,
    layout: str | None = None,
    mode: str | None = None,
    num_sessions: int | None = None,
    year: Several | None = None,
    date: str | day | Sequence[str | day] | None = None,
    meeting_key: Several | None = None,
    session_key: Several | None = None,
    endpoint: Texts | None = None,
    driver: Several | None = None,
    processes: int | None = None,
    max_concurrent_requests: int | None = None,
    window: Duration | None = None,
    response_budget: int | None = None,
    max_retries: int | None = None,
    retry_delay: Duration | None = None,
    request_timeout: Duration | None = None,
    rate: str | None = None,
    api_url: str | None = None,
    jolpica_url: str | None = None,
    hbase_host: str | None = None,
    hbase_port: int | None = None,
    hbase_transport: str | None = None,
    hbase_protocol: str | None = None,
    hbase_timeout: Duration | None = None,
    table_prefix: str | None = None,
    compression: str | None = None,
    patience: Duration | None = None,
    put_timeout: Duration | None = None,
    refresh: bool | None = None,
    engine: str | None = None,
    spark_master: str | None = None,
    spark_conf: Mapping[str, str] | None = None,
    spark_staging: str | None = None,
    metrics: str | int | None = None,
    metrics_file: str | PathLike[str] | None = None,
    config: str | PathLike[str] | None = None,
) -> Result:
    """Load what is missing, as `f1hbase load` does; the options mean what they mean there.

    What is not given comes from the environment (`F1HBASE_<OPTION>`), else from `f1hbase.toml`, else is the
    default. May be called where an event loop runs (a notebook), in daemonic processes (Celery, `multiprocessing`),
    in any thread, and in a script without a main guard. What the command line would print goes to Python's logger
    `f1hbase`.

    Args:
        source: Where from (`--from`): `openf1`, `livetiming`, `jolpica`, `fastf1`, `local`, `databricks`, or a landing
            zone's path or URL.
        to: Where to: `hbase`, `local`, `databricks`, or the path or URL of a landing zone; several go into all of them.
        layout: How a landing zone is laid out: `units`, `extractor` or `dated`.
        mode: `all`, `latest`, `year` or `manual`.
        num_sessions: With the mode `latest`, how many sessions.
        year: Seasons.
        date: The UTC days on which sessions begin: `2024-12-08`, or dates.
        meeting_key: Race meetings.
        session_key: Sessions.
        endpoint: Only these endpoints.
        driver: Only these drivers.
        processes: How many meetings at once, a process each.
        max_concurrent_requests: How many requests at once in each process.
        window: The length of the windows of car_data and location, or `auto`.
        response_budget: With `auto`, the size in bytes that answers stay near.
        max_retries: How often a failed request is sent again.
        retry_delay: The longest wait before the first retry.
        request_timeout: How long one request may take.
        rate: The API's limits, such as `3/s,30/m`; `none` for no limit.
        api_url: The API of OpenF1.
        jolpica_url: That of Jolpica.
        hbase_host: The host of HBase's Thrift gateway, or several with commas between them.
        hbase_port: Its port.
        hbase_transport: `auto`, `buffered` or `framed`.
        hbase_protocol: `auto`, `binary` or `compact`.
        hbase_timeout: How long one call to HBase may take.
        table_prefix: What all table names begin with.
        compression: How new tables are compressed.
        patience: How long the API or a destination may be away.
        put_timeout: How long a put is tried again.
        refresh: Whether to ask again for what is done.
        engine: What loads: `local`, processes of this machine, or `spark`.
        spark_master: With `spark`: its master, such as `yarn`.
        spark_conf: With `spark`: its settings.
        spark_staging: With `spark`: where HBase's files are until HBase takes them.
        metrics: Where Prometheus may ask for what the run measures: a port of this machine, or `host:port`.
        metrics_file: The file that node_exporter reads it from.
        config: The settings file; by default `./f1hbase.toml`, if it is there.

    Returns:
        How it went: `exit_code` (0, 1, 3 or 130), `overall` with the counts and the failures by unit, `crashed`.

    Raises:
        ValueError: If a value makes no sense; the message says which and what to write.
        f1hbase.errors.F1HBaseError: If nothing could be begun; its message says why and what to do.
    """
    given = locals()
    if spark_conf is not None:
        given["spark_conf"] = [f"{name}={value}" for name, value in spark_conf.items()]
    resolved = _resolved(given)
    from f1hbase.composition import exporters, load_engine, load_recipe, load_request
    from f1hbase.pipeline.display import TaskLines
    from f1hbase.pipeline.load import load as run

    return run(
        load_request(resolved),
        load_recipe(resolved),
        engine=load_engine(resolved, TaskLines),
        exporters=exporters(resolved),
    )


def live(
    *,
    source: str | None = None,
    to: Texts | PathLike[str] | None = None,
    layout: str | None = None,
    meeting_key: int | None = None,
    session_key: int | None = None,
    instance: str | None = None,
    begin_before: Duration | None = None,
    idle_timeout: Duration | None = None,
    no_archive: bool | None = None,
    hub_url: str | None = None,
    mqtt_url: str | None = None,
    livetiming_url: str | None = None,
    api_url: str | None = None,
    rate: str | None = None,
    request_timeout: Duration | None = None,
    hbase_host: str | None = None,
    hbase_port: int | None = None,
    hbase_transport: str | None = None,
    hbase_protocol: str | None = None,
    hbase_timeout: Duration | None = None,
    table_prefix: str | None = None,
    compression: str | None = None,
    patience: Duration | None = None,
    config: str | PathLike[str] | None = None,
    stop: threading.Event | None = None,
    on_records: Callable[[str, Sequence[dict[str, Any]]], None] | None = None,
) -> Recorded:
    """Record the session that is on, or wait for the next one, as `f1hbase live` does (docs/live.md).

    Returns when the session is over and loaded once more from the archive, or soon after `stop` was set. May be called
    in any thread, in a notebook and where an event loop runs, which goes on meanwhile with
    `await asyncio.to_thread(f1hbase.live, stop=stop)`. In the main thread Ctrl-C and SIGTERM end it, too.

    Args:
        source: Where from (`--from`): `livetiming` or `openf1`.
        to: `hbase`, and the path or URL of a place for the raw lines.
        layout: `raw-live` with such a place.
        meeting_key: A session of this race meeting.
        session_key: This session.
        instance: The name of this instance.
        begin_before: How long before its start a session is listened to.
        idle_timeout: After how long without data the recording ends.
        no_archive: Whether not to load the session from the archive when it is over.
        hub_url: The hub of F1's live timing.
        mqtt_url: The broker of OpenF1's feed.
        livetiming_url: The archive of F1's live timing.
        api_url: The API of OpenF1.
        rate: The limits of the archive or API.
        request_timeout: How long one request to it may take.
        hbase_host: As for `load`, and so are the others.
        hbase_port: The gateway's port.
        hbase_transport: Its transport.
        hbase_protocol: Its protocol.
        hbase_timeout: How long one call to HBase may take.
        table_prefix: What all table names begin with.
        compression: How new tables are compressed.
        patience: How long the feed may be away before it was ever there.
        config: The settings file.
        stop: Set it to end the recording: what came until then is stored, and no archive is loaded.
        on_records: Called with the name of an endpoint and some records of it as they come, before they are stored and
            before they are checked; in the thread that reads the feed, which it must not keep waiting.

    Returns:
        How it went: `exit_code` (0, 1 or 130), `scope` (the session), `instance`, `stats`.

    Raises:
        ValueError: If a value makes no sense; the message says which and what to write.
        f1hbase.errors.F1HBaseError: If it could not begin, or cannot go on; its message says why and what to do.
    """
    resolved = _resolved({name: value for name, value in locals().items() if name not in {"stop", "on_records"}})
    from f1hbase.composition import live_parts, live_request
    from f1hbase.pipeline.live.service import record_until_told

    request = live_request(resolved)
    if on_records is not None:
        request = replace(request, hear=lambda some: on_records(some.endpoint, some.records))
    return record_until_told(request, live_parts(resolved), stop, metrics=resolved.settings.metrics)


def plan(
    *,
    source: str | PathLike[str] | None = None,
    to: Texts | PathLike[str] | None = None,
    mode: str | None = None,
    num_sessions: int | None = None,
    year: Several | None = None,
    date: str | day | Sequence[str | day] | None = None,
    meeting_key: Several | None = None,
    session_key: Several | None = None,
    endpoint: Texts | None = None,
    driver: Several | None = None,
    window: Duration | None = None,
    rate: str | None = None,
    api_url: str | None = None,
    jolpica_url: str | None = None,
    hbase_host: str | None = None,
    hbase_port: int | None = None,
    table_prefix: str | None = None,
    refresh: bool | None = None,
    config: str | PathLike[str] | None = None,
) -> Estimate:
    """Say what `load` with the same words would take: sessions, units, requests, rows, bytes, time; touches nothing.

    Args:
        source: As for `load`, and so are the others.
        to: Where to.
        mode: Which sessions.
        num_sessions: With the mode `latest`, how many.
        year: Seasons.
        date: Days.
        meeting_key: Race meetings.
        session_key: Sessions.
        endpoint: Only these endpoints.
        driver: Only these drivers.
        window: The length of windows.
        rate: The API's limits.
        api_url: The API.
        jolpica_url: That of Jolpica.
        hbase_host: The gateway's host.
        hbase_port: Its port.
        table_prefix: What all table names begin with.
        refresh: Whether to ask again for what is done.
        config: The settings file.

    Returns:
        The estimate: `sessions`, `units`, `all_requests`, `rows`, `bytes`, `seconds` at the source's limits, and
        `footprints`: what keeping it takes in each landing zone.

    Raises:
        ValueError: If a value makes no sense; the message says which and what to write.
        f1hbase.errors.F1HBaseError: If the source does not answer, or has nothing of it.
    """
    return estimate_of(_resolved(locals()))


def status(
    *,
    source: str | PathLike[str] | None = None,
    to: Texts | PathLike[str] | None = None,
    year: Several | None = None,
    meeting_key: Several | None = None,
    session_key: Several | None = None,
    hbase_host: str | None = None,
    hbase_port: int | None = None,
    table_prefix: str | None = None,
    config: str | PathLike[str] | None = None,
) -> Overview:
    """Say what is loaded, what failed and why, and how long the rest takes.

    Args:
        source: Where the rest is loaded from, as for `load`.
        to: Where it is loaded to; the first one is read.
        year: Only these seasons.
        meeting_key: Only these race meetings.
        session_key: Only these sessions.
        hbase_host: The gateway's host.
        hbase_port: Its port.
        table_prefix: What all table names begin with.
        config: The settings file.

    Returns:
        The overview: `scopes` (meetings and sessions), `runs`, `loading`, `requests_left`, `seconds_left`.

    Raises:
        ValueError: If a value makes no sense; the message says which and what to write.
        f1hbase.errors.F1HBaseError: If nothing was loaded, or the destination does not answer.
    """
    resolved = _resolved(locals())
    from f1hbase.composition import source_recipe, state_view
    from f1hbase.operations.status import StatusReader

    view = state_view(resolved)
    try:
        return StatusReader(view, resolved.settings.selection, lambda: source_recipe(resolved)).read()
    finally:
        view.close()


def ingester(
    *,
    to: str | PathLike[str] | None = None,
    catalogue: str | None = None,
    required_header: Texts | None = None,
    patience: Duration | None = "10s",
    config: str | PathLike[str] | None = None,
) -> Ingester:
    """Open what stores files of any kind once, as `f1hbase ingest` does (docs/ingest.md).

    What is not given comes from the environment, else from `f1hbase.toml`; `FILESTORE_TYPE`, `BUCKET`,
    `REQUIRED_HEADERS`, `API_ROOT` and `AUTH_TOKEN` mean what they mean to ingester libraries.

    Args:
        to: The folder or bucket: `./zone`, `s3://bucket/prefix`.
        catalogue: Where files are recorded: `auto`, `zone`, `hbase` or `archive`.
        required_header: The headers that a file must have.
        patience: How long a store may be away.
        config: The settings file; by default `./f1hbase.toml`, if it is there.

    Raises:
        ValueError: If a value makes no sense; the message says which and what to write.
        f1hbase.errors.F1HBaseError: If it cannot be opened; its message says why and what to do.
    """
    given = {name: value for name, value in locals().items() if name != "config" and value is not None}
    if "to" in given:
        given["to"] = [given["to"]]
    from f1hbase.composition import open_ingester

    return open_ingester(resolve(given, config=None if config is None else str(config)))


def connect(
    *,
    hbase_host: str | None = None,
    hbase_port: int | None = None,
    hbase_transport: str | None = None,
    hbase_protocol: str | None = None,
    hbase_timeout: Duration | None = None,
    table_prefix: str | None = None,
    patience: Duration | None = "10s",
    config: str | PathLike[str] | None = None,
) -> Store:
    """Open what is loaded in HBase, to read it back (docs/reading.md).

    What is not given comes from the environment (`F1HBASE_<OPTION>`), else from `f1hbase.toml`, else is the default.

    Args:
        hbase_host: The host of HBase's Thrift gateway, or several.
        hbase_port: Its port.
        hbase_transport: Its transport.
        hbase_protocol: Its protocol.
        hbase_timeout: How long one call may take.
        table_prefix: What the tables' names begin with.
        patience: How long HBase may be away before reading fails.
        config: The settings file; by default `./f1hbase.toml`, if it is there.

    Raises:
        ValueError: If a value makes no sense; the message says which and what to write.
        f1hbase.errors.F1HBaseError: If HBase is not there, or pyarrow is not installed.
    """
    given = {name: value for name, value in locals().items() if name != "config" and value is not None}
    return _opened("hbase", given, config)


def open(  # noqa: A001 - as `f1hbase.open`
    place: str | PathLike[str], *, patience: Duration | None = "10s", config: str | PathLike[str] | None = None
) -> Store:
    """Open a landing zone or a folder of records, to read it back (docs/reading.md).

    Args:
        place: A path or URL: `./folder`, `s3://bucket/prefix`, `gs://...`, `az://...`.
        patience: How long a store may be away before reading fails.
        config: The settings file; by default `./f1hbase.toml`, if it is there.

    Raises:
        ValueError: If a value makes no sense; the message says which and what to write.
        f1hbase.errors.F1HBaseError: If nothing can be read there, or pyarrow is not installed.
    """
    given = {} if patience is None else {"patience": patience}
    return _opened(fspath(place), given, config)


def estimate_of(config: Config) -> Estimate:
    """Return what a load with some settings would take.

    Raises:
        f1hbase.errors.F1HBaseError: If the source does not answer, or has nothing of it.
    """
    from f1hbase.composition import can_load_in_bulk, object_store, selection_of, source_recipe, state_view
    from f1hbase.operations.estimate.forecast import estimate_load
    from f1hbase.pipeline.load import STARTUP_PATIENCE_SECONDS, plan_load
    from f1hbase.pipeline.parts import Recipe

    source = source_recipe(config)
    settings = config.settings
    selection = selection_of(config)
    found = plan_load(Recipe(source, ()), selection, STARTUP_PATIENCE_SECONDS)
    views = [partial(state_view, config, name) for name in settings.to]
    stores = [object_store(config, name) for name in settings.to]
    estimate = estimate_load(found, selection, source, views, refresh=settings.refresh, stores=stores)
    return replace(estimate, in_bulk=can_load_in_bulk(config))


def _resolved(arguments: Mapping[str, Any]) -> Config:
    """Return the settings of a function by its arguments, those of them that are given.

    Raises:
        ConfigError: If a value makes no sense; the message says which and what to write.
    """
    given = {name: value for name, value in arguments.items() if name != "config" and value is not None}
    if isinstance(given.get("to"), str | PathLike):
        given["to"] = [given["to"]]
    file = arguments["config"]
    resolved = resolve(given, config=None if file is None else str(file))
    resolved.settings.check()
    return resolved


def _opened(place: str, given: dict[str, Any], config: str | PathLike[str] | None) -> Store:
    from f1hbase.frames.needs import need

    need("pyarrow", "reading tables")
    need("numpy", "reading tables")
    from f1hbase.composition import open_reader
    from f1hbase.frames.store import Store

    return Store(open_reader(resolve(given, config=None if config is None else str(config)), place))
