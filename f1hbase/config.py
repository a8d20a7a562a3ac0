"""Every setting: its name, its default, how its text is read, and where its value comes from.

A value is taken from what is given (a flag, an argument of `f1hbase.load`), else from `F1HBASE_<OPTION>` in the
environment, else from `f1hbase.toml`, else it is the default. Knows no command line.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from f1hbase import values
from f1hbase.credentials import (
    CREDENTIAL_KEYS,
    ENVIRONMENT,
    SECRET_VARIABLES,
    Credentials,
    check_own_file,
    exposed_file_warning,
    read_credentials,
    register_secrets_in,
)
from f1hbase.errors import ConfigError
from f1hbase.model.catalog import ALL_ENDPOINTS
from f1hbase.model.plans import LATEST_SESSIONS, Selection
from f1hbase.model.rates import Limits
from f1hbase.model.text import safe

ENVIRONMENT_PREFIX = "F1HBASE_"
CONFIG_VARIABLE = f"{ENVIRONMENT_PREFIX}CONFIG"
DEFAULT_FILE = Path("f1hbase.toml")
_LARGEST_FILE_BYTES = 1_000_000
_LONG_DOTTED_KEY = re.compile(rb"""(?<![\w"'-])(?:[\w"'-]++[ \t]*+\.[ \t]*+){50}""")
"""No setting has a dot in its name, and tomllib's memory grows with the square of a key's parts: 1.6 GB for 20,000."""

OPENF1_URL = "https://api.openf1.org/v1"
HUB_URL = "https://livetiming.formula1.com/signalrcore"
MQTT_URL = "mqtts://mqtt.openf1.org:8883"
DEFAULT_METRICS_PORT = 9464
"""The port that OpenTelemetry's exporter for Prometheus has by default."""

LIVETIMING_URL = "https://livetiming.formula1.com/static"
JOLPICA_URL = "https://api.jolpi.ca/ergast/f1"


def _setting(
    parse: values.Parse, default: Any = None, *, name: str = "", multiple: bool = False, hidden: bool = False
) -> Any:
    metadata = {"parse": parse, "multiple": multiple, "name": name, "hidden": hidden}
    return field(default=() if multiple and default is None else default, metadata=metadata)


_KEY = values.whole_number(0, 10**9)
_COUNT = values.whole_number(1, 10**9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting of a run; each command takes the ones it needs.

    What a setting means is said by its option (`load --help`); times are timedeltas, sizes bytes.
    """

    source: str = _setting(values.text, "openf1", name="from")
    to: tuple[str, ...] = _setting(values.text, ("hbase",), multiple=True)
    layout: str | None = _setting(values.one_of("units", "extractor", "dated", "raw-live"))
    engine: str = _setting(values.one_of("local", "spark"), "local")
    spark_master: str | None = _setting(values.spark_master)
    spark_conf: tuple[tuple[str, str], ...] = _setting(values.spark_setting, multiple=True)
    spark_staging: str | None = _setting(values.text)
    format: str = _setting(values.one_of("parquet", "csv", "jsonl"), "parquet")
    mode: str | None = _setting(values.one_of("all", "latest", "year", "manual"))
    num_sessions: int | None = _setting(_COUNT)
    year: tuple[int, ...] = _setting(_KEY, multiple=True)
    date: tuple[date, ...] = _setting(values.day, multiple=True)
    meeting_key: tuple[int, ...] = _setting(_KEY, multiple=True)
    session_key: tuple[int, ...] = _setting(_KEY, multiple=True)
    endpoint: tuple[str, ...] = _setting(values.name_of("endpoint", list(ALL_ENDPOINTS)), multiple=True)
    driver: tuple[int, ...] = _setting(_KEY, multiple=True)
    processes: int = _setting(values.whole_number(1, 1000), 10)
    max_concurrent_requests: int = _setting(values.whole_number(1, 1000), 10)
    window: timedelta | None = _setting(values.window)
    response_budget: int = _setting(values.whole_number(1000, 100_000_000), 4_000_000)
    max_retries: int = _setting(values.whole_number(0, 1000), 3)
    retry_delay: timedelta = _setting(values.duration(), timedelta(seconds=5))
    request_timeout: timedelta = _setting(values.duration(timedelta(milliseconds=100)), timedelta(seconds=60))
    rate: Limits | None = _setting(values.limits)
    api_url: str = _setting(values.url, OPENF1_URL)
    livetiming_url: str = _setting(values.url, LIVETIMING_URL)
    jolpica_url: str = _setting(values.url, JOLPICA_URL)
    hub_url: str = _setting(values.url, HUB_URL)
    mqtt_url: str = _setting(values.broker_url, MQTT_URL)
    instance: str = _setting(values.instance, "")
    begin_before: timedelta = _setting(values.duration(), timedelta(hours=2))
    idle_timeout: timedelta = _setting(values.duration(timedelta(seconds=1)), timedelta(minutes=90))
    serve: str = _setting(values.hosts, "")
    hbase_host: str = _setting(values.hosts, "localhost")
    hbase_port: int = _setting(values.whole_number(1, 65535), 9090)
    hbase_transport: str = _setting(values.one_of("auto", "buffered", "framed"), "auto")
    hbase_protocol: str = _setting(values.one_of("auto", "binary", "compact"), "auto")
    hbase_timeout: timedelta = _setting(values.duration(timedelta(seconds=1)), timedelta(seconds=60))
    table_prefix: str = _setting(values.table_prefix, "")
    compression: str = _setting(values.one_of("GZ", "NONE", "SNAPPY", "LZ4", "ZSTD", ignore_case=True), "GZ")
    catalogue: str = _setting(values.one_of("auto", "zone", "hbase", "archive"), "auto")
    required_header: tuple[str, ...] = _setting(values.text, multiple=True)
    patience: timedelta = _setting(values.duration(), timedelta(minutes=30))
    put_timeout: timedelta = _setting(values.duration(), timedelta(minutes=10))
    snapshot: bool = _setting(values.switch, False)
    no_archive: bool = _setting(values.switch, False)
    refresh: bool = _setting(values.switch, False)
    dry_run: bool = _setting(values.switch, False)
    metrics: str = _setting(values.listener(DEFAULT_METRICS_PORT), "")
    metrics_file: Path | None = _setting(values.path)
    on_failure: str = _setting(values.told_of_failure, "", hidden=True)
    log_file: Path = _setting(values.path, Path("populate.log"))
    quiet: bool = _setting(values.switch, False)
    verbose: bool = _setting(values.switch, False)

    @property
    def gateways(self) -> tuple[tuple[str, int], ...]:
        """The host and port of each Thrift gateway."""
        return tuple((host, port or self.hbase_port) for host, port in values.split_hosts(self.hbase_host))

    @property
    def selection(self) -> Selection:
        """The requested scope."""
        named = self.year or self.date or self.meeting_key or self.session_key
        mode = self.mode or (
            "manual" if self.date or self.meeting_key or self.session_key else "year" if named else "all"
        )
        return Selection(
            mode=mode,
            num_sessions=self.num_sessions,
            year=self.year,
            date=self.date,
            meeting_key=self.meeting_key,
            session_key=self.session_key,
            endpoints=tuple(name for name in ALL_ENDPOINTS if not self.endpoint or name in self.endpoint),
            drivers=tuple(sorted(set(self.driver))),
        )

    def check(self) -> None:
        """Refuse combinations that make no sense.

        Raises:
            ConfigError: Saying which and what to do.
        """
        selected = {"--date": self.date, "--meeting-key": self.meeting_key, "--session-key": self.session_key}
        if self.mode == "year" and not self.year:
            raise ConfigError("--mode year needs the season: add --year 2024 (repeatable).")
        if self.num_sessions is not None and self.mode != "latest":
            raise ConfigError(
                f"--num-sessions goes with --mode latest; add it, or leave out --num-sessions ({LATEST_SESSIONS})."
            )
        if self.mode == "manual" and not (self.year or any(selected.values())):
            raise ConfigError("--mode manual needs what to load: add --date, --meeting-key, --session-key or --year.")
        if self.mode == "all" and (self.year or any(selected.values())):
            given = next((name for name, some in selected.items() if some), "--year")
            raise ConfigError(f"--mode all loads everything; leave it out to load only what {given} names.")
        if self.quiet and self.verbose:
            raise ConfigError("--quiet and --verbose exclude each other.")

    def shown(self) -> dict[str, str]:
        """Return the settings as text; credentials are no settings, and what may hold one is only said to be set."""
        shown = {}
        for item in fields(self):
            text = _shown(getattr(self, item.name))
            shown[setting_name(item.name)] = "set" if text and item.metadata["hidden"] else text
        return shown


_FIELDS = {item.name: item for item in fields(Settings)}


def setting_name(name: str) -> str:
    """Return what users call a setting: the name of its field, but for `from`, which Python does not take."""
    given: str = _FIELDS[name].metadata["name"]
    return given or name


_BY_NAME = {setting_name(name): name for name in _FIELDS}


def flag(name: str) -> str:
    """Return the flag of a setting, such as `--num-sessions`."""
    return f"--{setting_name(name).replace('_', '-')}"


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return ENVIRONMENT_PREFIX + setting_name(name).upper()


def is_repeatable(name: str) -> bool:
    """Return whether a setting may be given several times."""
    return bool(_FIELDS[name].metadata["multiple"])


def default_of(name: str) -> Any:
    """Return the default of a setting."""
    return _FIELDS[name].default


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """Where settings were read from.

    Attributes:
        path: The file; None if there was none.
        content: Its values.
    """

    path: Path | None = None
    content: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Config:
    """The settings of a run, where they come from, and the credentials beside them.

    Attributes:
        settings: The settings.
        file: The file that was read.
        origins: Where each setting comes from: `given`, `environment`, `file` or `default`.
        warnings: What to tell the user: misspelt variables, a file that others may read.
    """

    settings: Settings
    file: SettingsFile = field(default_factory=SettingsFile)
    origins: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()

    def source_of(self, name: str) -> str | None:
        """Return where a setting comes from, in the words of `f1hbase.credentials.check_destination`."""
        origin = self.origins.get(name)
        return {"environment": ENVIRONMENT, "file": str(self.file.path)}.get(origin or "", origin)

    def credentials(self, environment: Mapping[str, str] | None = None) -> Credentials | None:
        """Return the credentials of the API from the environment or the file.

        Raises:
            ConfigError: If only one of username and password is given, or they may not be used.
        """
        try:
            return read_credentials(
                os.environ if environment is None else environment, self.file.content, self.file.path
            )
        except ValueError as error:
            raise ConfigError(str(error)) from error


def resolve(
    given: Mapping[str, Any],
    *,
    names: Iterable[str] | None = None,
    config: Path | str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Config:
    """Return the settings of a run.

    Args:
        given: What is given outright, by field: texts, or values of the setting's own type; None is not given.
        names: The settings that this run takes from environment and file; the others have their defaults.
        config: The file; by default the one that the environment names, or `./f1hbase.toml` if it is there.
        environment: The environment; by default that of the process.

    Raises:
        ConfigError: If a value makes no sense; says which and what to write.
    """
    environment = os.environ if environment is None else environment
    wanted = set(_FIELDS if names is None else names)
    file = read_file(config or environment.get(CONFIG_VARIABLE) or None)
    in_file = {name: _in_file(file, name) for name in _FIELDS}
    found: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name in _FIELDS:
        text = environment.get(variable(name), "")
        if given.get(name) is not None:
            found[name], origins[name] = _given(name, given[name]), "given"
        elif name in wanted and text:
            found[name], origins[name] = _from_text(name, text), "environment"
        elif name in wanted and in_file[name] is not None:
            found[name], origins[name] = in_file[name], "file"
        else:
            origins[name] = "default"
    if file.path is not None and origins["on_failure"] == "file" and found["on_failure"]:
        try:
            # What it names is run, or told.
            check_own_file(file.path, "words for --on-failure")
        except (ValueError, OSError) as error:
            raise ConfigError(f"Invalid value for '--on-failure': {error}") from error
    warnings = [*unknown_variables(environment)]
    if file.path is not None and (warning := exposed_file_warning(file.path, file.content)):
        warnings.append(warning)
    return Config(Settings(**found), file, origins, tuple(warnings))


def read_file(path: Path | str | None) -> SettingsFile:
    """Read a settings file; by default `./f1hbase.toml`, if there is one.

    Raises:
        ConfigError: If it cannot be read, is no TOML, or has a key that is no setting.
    """
    where = Path(path) if path else DEFAULT_FILE
    # A link that leads nowhere is there and broken.
    if not path and not os.path.lexists(where):
        return SettingsFile()
    try:
        # Opening a FIFO that nobody writes to would wait for ever.
        with os.fdopen(os.open(where, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigError(f"Invalid value for '--config': '{where}' is no regular file.")
            data = file.read(_LARGEST_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"Invalid value for '--config': cannot read '{where}': {error.strerror}.") from error
    if len(data) > _LARGEST_FILE_BYTES:
        raise ConfigError(f"Invalid value for '--config': '{where}' is larger than {_LARGEST_FILE_BYTES:,} bytes.")
    if _LONG_DOTTED_KEY.search(data):
        raise ConfigError(f"Invalid value for '--config': '{where}' is nested too deep.")
    try:
        content = tomllib.loads(data.decode("utf-8-sig"))
    except ValueError as error:  # a number of thousands of digits is one, too
        raise ConfigError(f"Invalid value for '--config': '{where}' is not TOML: {safe(str(error), 200)}.") from error
    except RecursionError:
        raise ConfigError(f"Invalid value for '--config': '{where}' is nested too deep.") from None
    for key in content:
        if key.replace("_", "-") not in CREDENTIAL_KEYS and key.replace("-", "_") not in _BY_NAME:
            raise ConfigError(_unknown_key(where, key))
    return SettingsFile(where, content)


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Say which F1HBASE_* variables mean nothing, as a misspelt one would otherwise do nothing in silence."""
    known = {variable(name) for name in _FIELDS} | {CONFIG_VARIABLE} | SECRET_VARIABLES
    warnings = []
    for name in sorted(name for name in environment if name.startswith(ENVIRONMENT_PREFIX) and name not in known):
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        warnings.append(f"the variable {safe(name, 80)} is no setting{hint}")
    return warnings


def _given(name: str, value: Any) -> Any:
    """Read what is given outright: a text, several, or a value of the right type."""
    if is_repeatable(name):
        several = value if isinstance(value, list | tuple | set | frozenset | range) else [value]
        return tuple(_parse(name, item, "") for item in several)
    return _parse(name, value, "")


def _from_text(name: str, text: str) -> Any:
    """Read an environment variable; a repeatable setting's may hold several values with spaces between them."""
    if is_repeatable(name):
        return tuple(_parse(name, part, f" ({variable(name)})") for part in text.split())
    return _parse(name, text, f" ({variable(name)})")


def _in_file(file: SettingsFile, name: str) -> Any:
    public = setting_name(name)
    for key, value in file.content.items():
        if key.replace("-", "_") != public:
            continue
        several = value if isinstance(value, list) and is_repeatable(name) else [value]
        if any(isinstance(item, dict | list) for item in several):
            many = "a value or a list of values" if is_repeatable(name) else "one value"
            raise ConfigError(
                f"Invalid value for '{flag(name)}': '{key}' in '{file.path}' takes {many}, not {safe(str(value), 80)}."
            )
        read = tuple(_parse(name, item, f" ('{key}' in '{file.path}')") for item in several)
        return read if is_repeatable(name) else read[0]
    return None


def _parse(name: str, value: Any, where: str) -> Any:
    parse: values.Parse = _FIELDS[name].metadata["parse"]
    text = _as_text(value)
    if text is None:
        return value  # of its own type already
    register_secrets_in(text)
    if is_repeatable(name):
        parts = [part for part in re.split(r"[,;\s]+", text) if part]
        if len(parts) > 1 and name not in ("to", "spark_conf"):
            options = " ".join(f"{flag(name)} {values.shortened(part)}" for part in parts[:5])
            raise ConfigError(
                f"Invalid value for '{flag(name)}'{where}: '{values.shortened(text)}' is not one value; "
                f"write {options}."
            )
    try:
        return parse(text)
    except ValueError as error:
        raise ConfigError(f"Invalid value for '{flag(name)}'{where}: {error}") from error


def _as_text(value: Any) -> str | None:
    """Return a value as it would be written on the command line; None for one that has no text, such as a timedelta."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.date().isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, int | float | os.PathLike):
        return str(value)
    if isinstance(value, timedelta):
        return f"{value.total_seconds()}s"
    return None


def _unknown_key(path: Path, key: str) -> str:
    names = [name.replace("_", "-") for name in _BY_NAME]
    close = difflib.get_close_matches(key[:80], names, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else ". 'load --help' lists them all."
    return f"Invalid value for '--config': '{safe(key, 80)}' in '{path}' is not a setting{hint}"


def _shown(value: object) -> str:
    if isinstance(value, tuple) and value and isinstance(value[0], tuple):
        return ",".join("=".join(map(str, pair)) for pair in value)
    if isinstance(value, tuple):
        return ",".join(map(_shown, value))
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)
