"""What the command line does, as typed functions below it; the same words, the same defaults, environment and file."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date as day
from datetime import timedelta
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

from f1hbase.config import resolve
from f1hbase.errors import ConfigError

if TYPE_CHECKING:
    from f1hbase.frames.store import Store
    from f1hbase.pipeline.collector import Result

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
    config: str | PathLike[str] | None = None,
) -> Result:
    """Load what is missing, as `f1hbase load` does; the options mean what they mean there.

    What is not given comes from the environment (`F1HBASE_<OPTION>`), else from `f1hbase.toml`, else is the default. May
    be called where an event loop runs (a notebook), in daemonic processes (Celery, `multiprocessing`), in any thread,
    and in a script without a main guard. What the command line would print goes to Python's logger `f1hbase`.

    Args:
        source, to: `--from` and `--to`: `openf1`, `hbase`, or the path or URL of a landing zone.
        layout: How a landing zone is laid out.
        mode, num_sessions, year, date, meeting_key, session_key: Which sessions.
        endpoint, driver: What of them.
        processes, max_concurrent_requests, window, response_budget: How much at once.
        max_retries, retry_delay, request_timeout, rate, api_url: How the API is asked.
        hbase_host, hbase_port, hbase_transport, hbase_protocol, hbase_timeout: Where HBase is.
        table_prefix, compression, put_timeout: How it is stored there.
        patience: How long the API or a destination may be away.
        refresh: Ask again for what is done.
        config: The settings file; by default `./f1hbase.toml`, if it is there.

    Returns:
        How it went: `exit_code` (0, 1, 3 or 130), `overall` with the counts and the failures by unit, `crashed`.

    Raises:
        ValueError: If a value makes no sense; the message says which and what to write.
        f1hbase.errors.F1HBaseError: If nothing could be begun; its message says why and what to do.
    """
    given = {name: value for name, value in locals().items() if name != "config" and value is not None}
    if isinstance(to, str | PathLike):
        given["to"] = [to]
    try:
        resolved = resolve(given, config=None if config is None else str(config))
        resolved.settings.check()
    except ConfigError as error:
        raise ValueError(str(error)) from error
    from f1hbase.composition import load_recipe, load_request
    from f1hbase.pipeline.load import load as run

    return run(load_request(resolved), load_recipe(resolved))


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


def _opened(place: str, given: dict[str, Any], config: str | PathLike[str] | None) -> Store:
    from f1hbase.frames.needs import need

    need("pyarrow", "reading tables")
    need("numpy", "reading tables")
    from f1hbase.composition import open_reader
    from f1hbase.frames.store import Store

    try:
        resolved = resolve(given, config=None if config is None else str(config))
    except ConfigError as error:
        raise ValueError(str(error)) from error
    return Store(open_reader(resolved, place))
