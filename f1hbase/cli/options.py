"""One definition of every option: its flag, its environment variable, its key in `f1hbase.toml` and its default.

A value is taken from the flag, else from `F1HBASE_<OPTION>` in the environment, else from the file, else the default.
"""

from __future__ import annotations

import difflib
import logging
import os
import tomllib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, fields
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import click

from f1hbase.cli.parameters import (
    Day,
    Duration,
    Hosts,
    Key,
    Name,
    Number,
    Prefix,
    Rates,
    Url,
    WindowLength,
    split_hosts,
)
from f1hbase.credentials import (
    CREDENTIAL_KEYS,
    PASSWORD_VARIABLE,
    USERNAME_VARIABLE,
    Credentials,
    exposed_file_warning,
    read_credentials,
)
from f1hbase.model.catalog import ENDPOINTS, FIRST_YEAR
from f1hbase.model.rates import Rate, parse_rates

ENVIRONMENT_PREFIX = "F1HBASE_"
FILE_IN_CONTEXT = "f1hbase.file"
_log = logging.getLogger(__name__)
DEFAULT_FILE = Path("f1hbase.toml")
OPENF1_URL = "https://api.openf1.org/v1"
OPENF1_RATE = "3/s,30/m"
SUBSCRIPTION_RATE = "6/s,60/m"
"""What OpenF1 allows without and with a subscription (DESIGN.md, Facts about the API)."""

_LATEST_SESSIONS = 10
_AUTO_WINDOW = timedelta(minutes=15)


def _option(help: str, kind: Any, default: Any = None, **extra: Any) -> Any:  # noqa: A002 - click's own word
    """Describe one setting for `click_options`; a repeatable one has `multiple=True`."""
    metadata = {"help": help, "type": kind, "default": default, **extra}
    return field(metadata=metadata, default=() if extra.get("multiple") else default)


class Place(Protocol):
    """A session, or a meeting as such, by its keys."""

    @property
    def year(self) -> int | None:
        """The season."""

    @property
    def meeting_key(self) -> int | None:
        """The meeting."""

    @property
    def session_key(self) -> int | None:
        """The session; None for the meeting as such."""


_NUMBER = Number(min=1)


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting of a load; `load`, `plan` and the others take the ones they need."""

    mode: str | None = _option(
        "What to load: every session since 2023 that has begun (all), the latest ones (latest; of a year or meeting "
        "if that is given, too), whole seasons (year), or the dates and keys given (manual).  [default: all, or "
        "manual when a key, year or date is given]",
        click.Choice(["all", "latest", "year", "manual"]),
    )
    num_sessions: int | None = _option("With --mode latest: how many sessions.  [default: 10]", _NUMBER, metavar="N")
    year: tuple[int, ...] = _option("A season; repeatable.", Key(), multiple=True, metavar="Y")
    date: tuple[date, ...] = _option("The UTC day on which a session begins; repeatable.", Day(), multiple=True)
    meeting_key: tuple[int, ...] = _option("A race meeting; repeatable.", Key(), multiple=True, metavar="K")
    session_key: tuple[int, ...] = _option("A session; repeatable.", Key(), multiple=True, metavar="K")
    endpoint: tuple[str, ...] = _option(
        "Only this endpoint, such as laps or car_data; repeatable.  [default: all 18]",
        Name("endpoint", list(ENDPOINTS)), multiple=True, metavar="E",
    )  # fmt: skip
    driver: tuple[int, ...] = _option(
        "Only this driver, where an endpoint has records by driver; repeatable.",
        Number(min=0), multiple=True, metavar="N",
    )  # fmt: skip
    processes: int = _option("How many meetings to load at once, a process each.", _NUMBER, 10, metavar="N")
    max_concurrent_requests: int = _option("Requests under way at once in each process.", _NUMBER, 10, metavar="N")
    window: timedelta | None = _option(
        "The length of the time windows in which car_data and location are fetched; 'auto' lets a request carry as "
        "many drivers and windows of 15 minutes as --response-budget allows.",
        WindowLength(),
        "15m",
    )
    response_budget: int = _option(
        "With --window auto: the size in bytes that answers are to stay below.",
        Number(min=1000),
        4_000_000,
        metavar="N",
    )
    max_retries: int = _option("How often a failed request is sent again.", Number(min=0), 3, metavar="N")
    retry_delay: timedelta = _option(
        "The longest wait before the first retry, a random part of which is waited; it doubles with each further one.",
        Duration(),
        "5s",
    )
    request_timeout: timedelta = _option(
        "How long one request may take.", Duration(least=timedelta(milliseconds=100)), "60s"
    )
    rate: tuple[Rate, ...] | None = _option(
        f"The API's limits, shared by all processes of this machine; 'none' for no limit.  "
        f"[default: {OPENF1_RATE} for OpenF1's own host ({SUBSCRIPTION_RATE} with credentials), none for any other]",
        Rates(),
    )
    api_url: str = _option("The API.", Url(), OPENF1_URL)
    hbase_host: str = _option(
        "The host of HBase's Thrift gateway; several as a,b,c or a:9090,b:9091: the processes spread over them "
        "and do without one that is down.",
        Hosts(),
        "localhost",
    )
    hbase_port: int = _option("The port of HBase's Thrift gateway.", Number(1, 65535), 9090, metavar="N")
    hbase_transport: str = _option("The gateway's transport.", click.Choice(["auto", "buffered", "framed"]), "auto")
    hbase_protocol: str = _option("The gateway's protocol.", click.Choice(["auto", "binary", "compact"]), "auto")
    table_prefix: str = _option("Begin both table names with this and an underscore.", Prefix(), "")
    compression: str = _option(
        "How new tables are compressed; all but GZ and NONE need a library that HBase has to have.",
        click.Choice(["GZ", "NONE", "SNAPPY", "LZ4", "ZSTD"], case_sensitive=False),
        "GZ",
    )
    patience: timedelta = _option("How long the API or HBase may be away before the run gives up.", Duration(), "30m")
    put_timeout: timedelta = _option(
        "How long a put that fails is tried again before its unit counts as failed.", Duration(), "10m"
    )
    refresh: bool = _option("Ask again for what is done, and delete cells that have become null.", bool, False)
    dry_run: bool = _option("Say what would be loaded; touch nothing.", bool, False)
    log_file: Path = _option(
        "Everything is logged here, appended to what is there.", click.Path(path_type=Path), "populate.log"
    )
    quiet: bool = _option("Only warnings and errors on the screen; the log file has all.", bool, False)
    verbose: bool = _option("Each request on the screen as well.", bool, False)

    def rates(self, *, authenticated: bool = False) -> tuple[Rate, ...]:
        """Return the limits that hold for the chosen API, with or without a subscription."""
        if self.rate is not None:
            return self.rate
        own_host = urlsplit(self.api_url).hostname == urlsplit(OPENF1_URL).hostname
        return parse_rates(SUBSCRIPTION_RATE if authenticated else OPENF1_RATE) if own_host else ()

    @property
    def gateways(self) -> tuple[tuple[str, int], ...]:
        """The host and port of each Thrift gateway."""
        return tuple((host, port or self.hbase_port) for host, port in split_hosts(self.hbase_host))

    @property
    def latest_sessions(self) -> int:
        """How many sessions `--mode latest` means."""
        return _LATEST_SESSIONS if self.num_sessions is None else self.num_sessions

    @property
    def unit_window(self) -> timedelta:
        """The length of the windows that units have; requests may carry several of them."""
        return _AUTO_WINDOW if self.window is None else self.window

    @property
    def drivers(self) -> tuple[int, ...]:
        """The drivers to load, each once; none means all."""
        return tuple(sorted(set(self.driver)))

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The endpoints to load, in the catalogue's order."""
        return tuple(name for name in ENDPOINTS if not self.endpoint or name in self.endpoint)

    def chooses(self, place: Place) -> bool:
        """Return whether `year`, `meeting_key` and `session_key` name a place; those not given name all."""
        return (
            (not self.year or place.year in self.year)
            and (not self.meeting_key or place.meeting_key in self.meeting_key)
            and (not self.session_key or place.session_key in self.session_key)
        )

    def unmet(self, places: Collection[Place]) -> list[str]:
        """Return which of these options name none of the places, such as `--year 2031`."""
        asked = {
            "--session-key": set(self.session_key).difference(place.session_key for place in places),
            "--meeting-key": set(self.meeting_key).difference(place.meeting_key for place in places),
            "--year": set(self.year).difference(place.year for place in places),
        }
        return [f"{option} {key}" for option, keys in asked.items() for key in sorted(keys)]

    def check(self) -> None:
        """Refuse combinations that make no sense.

        Raises:
            click.UsageError: Saying which and what to do.
        """
        selected = {"--date": self.date, "--meeting-key": self.meeting_key, "--session-key": self.session_key}
        if self.mode == "year" and not self.year:
            raise click.UsageError("--mode year needs the season: add --year 2024 (repeatable).")
        if self.num_sessions is not None and self.mode != "latest":
            raise click.UsageError("--num-sessions goes with --mode latest; add it, or leave out --num-sessions.")
        if self.mode == "manual" and not (self.year or any(selected.values())):
            raise click.UsageError(
                "--mode manual needs what to load: add --date, --meeting-key, --session-key or --year."
            )
        if self.mode == "all" and (self.year or any(selected.values())):
            given = next((name for name, values in selected.items() if values), "--year")
            raise click.UsageError(f"--mode all loads everything; leave it out to load only what {given} names.")
        for year in self.year:
            if year < FIRST_YEAR:
                raise click.UsageError(f"--year {year}: OpenF1 has no data before {FIRST_YEAR}.")
        if self.quiet and self.verbose:
            raise click.UsageError("--quiet and --verbose exclude each other.")


def defaults(**changes: Any) -> Settings:
    """Return the settings of a run without any option, but for `changes`; for use from Python and in tests."""
    values: dict[str, Any] = {}
    for item in fields(Settings):
        kind, default = item.metadata["type"], item.default
        convertible = isinstance(kind, click.ParamType) and default not in (None, ())
        values[item.name] = kind.convert(default, None, None) if convertible else default
    return Settings(**(values | changes))


Command = TypeVar("Command", bound=Callable[..., Any])


def click_options(names: Iterable[str] | None = None) -> Callable[[Command], Command]:
    """Give a click command the named settings as options (default: all), and `--config`."""
    wanted = None if names is None else set(names)

    def decorate(command: Command) -> Command:
        config = click.option(
            "--config", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", is_eager=True,
            expose_value=False, callback=_read_file, envvar=f"{ENVIRONMENT_PREFIX}CONFIG",
            help=f"Settings in TOML, such as  num-sessions = 5.  [default: ./{DEFAULT_FILE} if it is there]",
        )  # fmt: skip
        command = config(command)
        for item in reversed(fields(Settings)):
            if wanted is None or item.name in wanted:
                command = _click_option(item.name, dict(item.metadata))(command)
        return command

    return decorate


def _click_option(name: str, metadata: dict[str, Any]) -> Callable[[Command], Command]:
    arguments: dict[str, Any] = {**metadata, "envvar": ENVIRONMENT_PREFIX + name.upper()}
    if arguments["type"] is bool:
        arguments["is_flag"] = True
    elif arguments["default"] not in (None, ""):
        arguments["show_default"] = True
    if arguments.get("multiple"):
        arguments.pop("default")
    return click.option(f"--{name.replace('_', '-')}", name, **arguments)


def _read_file(ctx: click.Context, param: click.Parameter, value: Path | None) -> None:
    """Make the file's values the defaults of the command line."""
    path = value or DEFAULT_FILE
    if value is None and not path.exists():
        return
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise click.BadParameter(f"cannot read '{path}': {error.strerror}.", ctx, param) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"'{path}' is not TOML: {error}.", ctx, param) from error
    known = {item.name: item.metadata for item in fields(Settings)}
    values: dict[str, Any] = {}
    ctx.meta[FILE_IN_CONTEXT] = path, content
    for key, setting in content.items():
        if key.replace("_", "-") in CREDENTIAL_KEYS:
            continue
        name = key.replace("-", "_")
        if name not in known:
            raise click.BadParameter(_unknown_key(path, key, known), ctx, param)
        values[name] = _file_value(path, key, setting, bool(known[name].get("multiple")), ctx, param)
    ctx.default_map = {**values, **(ctx.default_map or {})}


def credentials_of(ctx: click.Context) -> Credentials | None:
    """Return the credentials from the environment or the file; there are no flags for them, which others could see.

    Raises:
        click.UsageError: If only one of username and password is given.
    """
    path, content = ctx.meta.get(FILE_IN_CONTEXT, (DEFAULT_FILE, {}))
    try:
        credentials = read_credentials(os.environ, content)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    warning = exposed_file_warning(path, content)
    if warning is not None:
        _log.warning("%s", warning)
    return credentials


def _file_value(path: Path, key: str, value: Any, multiple: bool, ctx: click.Context, param: click.Parameter) -> Any:
    values = value if isinstance(value, list) and multiple else [value]
    for item in values:
        if isinstance(item, dict | list):
            many = "a value or a list of values" if multiple else "one value"
            raise click.BadParameter(f"'{key}' in '{path}' takes {many}, not {value}.", ctx, param)
    # As text, so that a value is read as the same value on the command line is.
    texts = [item.isoformat() if isinstance(item, date) else str(item) for item in values]
    return texts if multiple else texts[0]


def warn_of_unknown_variables() -> None:
    """Say which F1HBASE_* variables mean nothing, as a misspelt one would otherwise do nothing in silence."""
    known = {f"{ENVIRONMENT_PREFIX}{item.name.upper()}" for item in fields(Settings)}
    known |= {f"{ENVIRONMENT_PREFIX}CONFIG", USERNAME_VARIABLE, PASSWORD_VARIABLE}
    for name in sorted(name for name in os.environ if name.startswith(ENVIRONMENT_PREFIX) and name not in known):
        close = difflib.get_close_matches(name, known, n=1)
        _log.warning("the variable %s is no setting%s", name, f"; did you mean {close[0]}?" if close else "")


def _unknown_key(path: Path, key: str, known: Iterable[str]) -> str:
    names: Sequence[str] = [name.replace("_", "-") for name in known]
    close = difflib.get_close_matches(key, names, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else ". 'load --help' lists them all."
    return f"'{key}' in '{path}' is not a setting{hint}"
