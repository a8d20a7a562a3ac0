"""The options of the command line: what each setting is called there, and how its help explains it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from f1hbase.cli.failures import ON_FAILURE
from f1hbase.config import DEFAULT_FILE, Config, Settings, default_of, flag, is_repeatable, resolve
from f1hbase.errors import ConfigError
from f1hbase.sources.openf1.query import FREE_LIMITS, SUBSCRIPTION_LIMITS

_log = logging.getLogger(__name__)

Command = TypeVar("Command", bound=Callable[..., Any])

_SWITCHES = {"snapshot", "no_archive", "refresh", "dry_run", "quiet", "verbose"}

_NOT_OF_LOAD = {
    "format", "hub_url", "mqtt_url", "instance", "begin_before", "idle_timeout", "no_archive", "serve",
    "catalogue", "required_header", "snapshot",
}  # fmt: skip
"""The settings that `load` does not take."""

_HELP: dict[str, tuple[str, str]] = {
    "source": (
        "PLACE",
        (
            "Where to load from: openf1, livetiming, jolpica, fastf1, hbase, local, databricks, or the path or URL of "
            "a zone or folder."
        ),
    ),
    "to": (
        "PLACE",
        (
            "Where to load to: hbase, local, databricks, or the path or URL of a landing zone; repeatable.  "
            "[default: hbase]"
        ),
    ),
    "layout": (
        "units|extractor|dated|raw-live",
        (
            "How a landing zone is laid out: the answers by unit, a JSON list for each endpoint and session, or the "
            "answers by date; of 'live' raw-live, the lines of the feed by the minute.  [default: as the zone that is "
            "there; of a new one units, of 'local' and 'databricks' extractor]"
        ),
    ),
    "engine": (
        "local|spark",
        (
            "What does the work: this machine, or Spark, which loads from a landing zone by writing HBase's own files "
            "(quicker above some 2 million rows), and exports and verifies tables of HBase (docs/cluster.md)."
        ),
    ),
    "spark_master": (
        "URL",
        "With --engine spark: as of spark-submit, such as yarn.  [default: local[*], all processors of this machine]",
    ),
    "spark_conf": ("K=V", "With --engine spark: a setting of Spark, such as spark.executor.memory=4g; repeatable."),
    "spark_staging": (
        "FOLDER",
        (
            "With --engine spark: where HBase's files are until HBase takes them, as Hadoop names it, such as "
            "hdfs:///tmp/f1hbase.  [default: a folder in /tmp of the cluster's file system]"
        ),
    ),
    "snapshot": (
        "",
        (
            "With --engine spark: read HBase's files by a snapshot, taken for it and deleted again, instead of asking "
            "region servers."
        ),
    ),
    "format": ("parquet|csv|jsonl", "What the files of an export are; jsonl can be loaded from again."),
    "mode": (
        "MODE",
        (
            "What to load: every session that has begun (all), the latest ones (latest; of a year or meeting if that "
            "is given, too), whole seasons (year), or the dates and keys given (manual).  [default: all, or what a "
            "key, year or date that is given says]"
        ),
    ),
    "num_sessions": ("N", "With --mode latest: how many sessions.  [default: 10; of jolpica and fastf1 1]"),
    "year": ("Y", "A season; repeatable."),
    "date": ("YYYY-MM-DD", "The UTC day on which a session begins; repeatable."),
    "meeting_key": ("K", "A race meeting; repeatable."),
    "session_key": ("K", "A session; repeatable."),
    "endpoint": ("E", "Only this endpoint, such as laps or car_data; repeatable.  [default: all of the source]"),
    "driver": ("N", "Only this driver, where an endpoint has records by driver; repeatable."),
    "processes": ("N", "How many meetings to load at once, a process each."),
    "max_concurrent_requests": ("N", "Requests under way at once in each process."),
    "window": (
        "DURATION|auto",
        (
            "The length of the windows of time in which car_data and location are fetched; 'auto' sizes each so that "
            "its answer is near --response-budget.  [default: auto]"
        ),
    ),
    "response_budget": ("N", "With --window auto: the size in bytes that answers are to stay near."),
    "max_retries": ("N", "How often a failed request is sent again."),
    "retry_delay": (
        "DURATION",
        "The longest wait before the first retry, a random part of which is waited; it doubles with each further one.",
    ),
    "request_timeout": ("DURATION", "How long one request may take."),
    "rate": (
        "RATES",
        (
            "The API's limits, such as 3/s,30/m or 2.8/s, shared by all processes of this machine; 'none' for no "
            f"limit.  [default: {FREE_LIMITS} for OpenF1's own host ({SUBSCRIPTION_LIMITS} with credentials), none for "
            "any other]"
        ),
    ),
    "api_url": ("URL", "The API of OpenF1."),
    "livetiming_url": ("URL", "The archive of F1's live timing, or a mirror of it."),
    "jolpica_url": ("URL", "Jolpica's API, or another one of Ergast's form."),
    "hub_url": ("URL", "The hub of F1's live timing, or a stand-in."),
    "mqtt_url": ("URL", "The MQTT broker of OpenF1's live feed (mqtts:// or wss://), or another."),
    "instance": (
        "NAME",
        "The name of this instance, which no other one that records has.  [default: the host's, with a number]",
    ),
    "begin_before": ("DURATION", "How long before its scheduled start a session is listened for."),
    "idle_timeout": ("DURATION", "After how long without data a recording ends."),
    "no_archive": ("", "Do not load the session once more from the archive when it is over."),
    "serve": (
        "HOST:PORT",
        "Run as a service that records when it is told to: POST / starts, /stop stops, /health and /metrics tell.",
    ),
    "hbase_host": (
        "HOST[,HOST...]",
        (
            "The host of HBase's Thrift gateway; several as a,b,c or a:9090,b:9091: the processes spread over them "
            "and do without one that is down."
        ),
    ),
    "hbase_port": ("N", "The port of HBase's Thrift gateway."),
    "hbase_transport": ("auto|buffered|framed", "The gateway's transport."),
    "hbase_protocol": ("auto|binary|compact", "The gateway's protocol."),
    "hbase_timeout": ("DURATION", "How long one call to HBase may take."),
    "table_prefix": ("PREFIX", "Begin all table names with this and an underscore."),
    "compression": (
        "GZ|NONE|SNAPPY|LZ4|ZSTD",
        "How new tables are compressed; all but GZ and NONE need a library that HBase has to have.",
    ),
    "catalogue": (
        "auto|zone|hbase|archive",
        (
            "Where ingest records files: in the landing zone, in f1_reports, or in the archive at API_ROOT.  "
            "[default: the archive if API_ROOT is set, else the zone]"
        ),
    ),
    "required_header": ("NAME", "A header without which ingest takes no file; repeatable."),
    "patience": ("DURATION", "How long the API or a destination may be away before the run gives up."),
    "put_timeout": ("DURATION", "How long a put that fails is tried again before its unit counts as failed."),
    "refresh": ("", "Ask again for what is done, and delete what has become null."),
    "dry_run": ("", "Say what would be loaded; touch nothing."),
    "metrics": (
        "HOST:PORT",
        (
            "Show at http://HOST:PORT/metrics what the run measures, for Prometheus; a port alone is one of this "
            "machine, such as 9464 (docs/metrics.md)."
        ),
    ),
    "metrics_file": (
        "PATH",
        "Write what the run measures to this file every 15 s and at the end, for node_exporter; ends in .prom.",
    ),
    "on_failure": (
        "COMMAND|URL",
        (
            "Tell of an exit code other than 0 and 130: POST a JSON summary to an address, or run a command without a "
            "shell, with the name of this one and the exit code behind its words and the summary at its input."
        ),
    ),
    "log_file": ("PATH", "Everything is logged here, appended to what is there."),
    "quiet": ("", "Only warnings and errors on the screen; the log file has all."),
    "verbose": ("", "Each request on the screen as well."),
}
"""What stands for a setting's value in the help, and what the setting means."""

assert _HELP.keys() == {item.name for item in fields(Settings)}


def click_options(names: Iterable[str] | None = None) -> Callable[[Command], Command]:
    """Give a click command the named settings as options (default: all that `load` takes), and `--config`.

    The command then calls `config_of` with what it is given.
    """
    known = [item.name for item in fields(Settings)]
    wanted = [name for name in known if (name not in _NOT_OF_LOAD if names is None else name in set(names))]

    def decorate(command: Command) -> Command:
        command = click.option(
            "--config", "config_file", type=click.UNPROCESSED, metavar="FILE",
            help=f"Settings in TOML, such as  num-sessions = 5.  [default: ./{DEFAULT_FILE} if it is there]",
        )(command)  # fmt: skip
        for name in reversed(wanted):
            command = _option(name)(command)
        return command

    return decorate


def config_of(options: dict[str, Any], *, names: Iterable[str] | None = None) -> Config:
    """Return the settings of a command by its options; takes the settings out of `options`.

    Raises:
        ConfigError: If a value makes no sense; says which and what to write.
    """
    file = options.pop("config_file", None)
    given = {item.name: options.pop(item.name) for item in fields(Settings) if item.name in options}
    known = list(given) if names is None else names
    if "on_failure" in given:
        context = click.get_current_context(silent=True)
        arm(given["on_failure"], file, "" if context is None else context.info_name or "")
    return resolve(
        {name: value for name, value in given.items() if value not in (None, (), False)},
        names=known, config=Path(file) if file else None,
    )  # fmt: skip


def arm(target: str | None, file: str | None, command: str) -> None:
    """Set who is told of a failure, before anything else of the settings is read: that may be what fails.

    Args:
        target: Who is told; by default as the environment or the file say.
        file: The settings file that was given, if one was.
        command: What may fail.
    """
    with suppress(ConfigError):
        config = resolve({"on_failure": target}, names=["on_failure"], config=Path(file) if file else None)
        ON_FAILURE.arm(config.settings.on_failure, command)


def tell(config: Config) -> None:
    """Log what the settings warn of, once the log is set up."""
    for warning in config.warnings:
        _log.warning("%s", warning)


def _option(name: str) -> Callable[[Command], Command]:
    metavar, text = _HELP[name]
    default = default_of(name)
    if default not in (None, "", (), False) and "[default" not in text:
        text = f"{text}  [default: {_shown(default)}]"
    if name in _SWITCHES:
        return click.option(flag(name), name, is_flag=True, default=None, help=text)
    return click.option(
        flag(name), name, type=click.UNPROCESSED, metavar=metavar, multiple=is_repeatable(name), help=text
    )


def _shown(value: Any) -> str:
    if not isinstance(value, timedelta):
        return str(value)
    seconds = value.total_seconds()
    return f"{seconds / 60:g}m" if seconds >= 120 else f"{seconds:g}s"
