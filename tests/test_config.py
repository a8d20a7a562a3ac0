"""Every setting by flag, environment, file and default, and what is refused before anything begins."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import fields
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from f1hbase import values
from f1hbase.cli.options import click_options, config_of
from f1hbase.config import (
    HUB_URL,
    JOLPICA_URL,
    LIVETIMING_URL,
    MQTT_URL,
    OPENF1_URL,
    Config,
    Settings,
    default_of,
    is_repeatable,
    resolve,
    setting_name,
)
from f1hbase.credentials import shown_address
from f1hbase.errors import ConfigError
from f1hbase.model.catalog import ALL_ENDPOINTS
from f1hbase.model.rates import ByteRate, Limits, Rate, parse_limits
from f1hbase.sources.openf1.recipe import limits, recipe

ONE = Limits((Rate(1, 1.0),))
FREE = Limits((Rate(3, 1.0), Rate(30, 60.0)))


@pytest.fixture(autouse=True)
def _own_folder_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No f1hbase.toml and no F1HBASE_ variable but the test's own."""
    monkeypatch.chdir(tmp_path)
    for item in fields(Settings):
        monkeypatch.delenv(f"F1HBASE_{setting_name(item.name).upper()}", raising=False)
    monkeypatch.delenv("F1HBASE_CONFIG", raising=False)


class Outcome(NamedTuple):
    config: Config | None
    result: Result

    @property
    def error(self) -> str:
        """What is said on one line."""
        if isinstance(self.result.exception, ConfigError):
            assert self.result.exception.exit_code == 2
            assert "\n" not in str(self.result.exception)
            return str(self.result.exception)
        assert self.result.exit_code == 2, self.result.output
        return " ".join(self.result.output.split())


def run(*arguments: str, toml: str | None = None, **env: str) -> Outcome:
    """Run a command with all settings as options, in a folder with this `f1hbase.toml`."""
    return run_with(tuple(item.name for item in fields(Settings)), *arguments, toml=toml, **env)


def run_with(names: tuple[str, ...], *arguments: str, toml: str | None = None, **env: str) -> Outcome:
    """Run a command with some of the settings as options."""
    if toml is not None:
        Path("f1hbase.toml").write_text(toml, encoding="utf-8")
        Path("f1hbase.toml").chmod(0o644)  # whatever the umask: what others can change is refused for some settings
    seen: list[Config] = []

    @click.command()
    @click_options(names)
    def command(**options: Any) -> None:
        seen.append(config_of(options))
        assert not options

    result = CliRunner().invoke(command, arguments, env=env)
    return Outcome(seen[0] if seen else None, result)


def config_for(*arguments: str, toml: str | None = None, **env: str) -> Config:
    config, result = run(*arguments, toml=toml, **env)
    assert config is not None, (result.output, result.exception)
    return config


def settings_of(*arguments: str, toml: str | None = None, **env: str) -> Settings:
    return config_for(*arguments, toml=toml, **env).settings


def defaults(**changes: Any) -> Settings:
    return Settings(**changes)


class Example(NamedTuple):
    """Three texts for one setting, what each means, and the default."""

    field: str
    texts: tuple[str, str, str]
    values: tuple[Any, Any, Any]
    default: Any


def example(field: str, texts: str, values: tuple[Any, Any, Any], default: Any) -> Example:
    one, two, three = texts.split()
    return Example(field, (one, two, three), values, default)


def seconds(*numbers: float) -> Any:
    return tuple(timedelta(seconds=number) for number in numbers)


def one_each(*values: object) -> Any:
    return tuple((value,) for value in values)


EXAMPLES = (
    example("source", "openf1 ./zone s3://b/p", ("openf1", "./zone", "s3://b/p"), "openf1"),
    example("to", "hbase ./zone s3://b/p", one_each("hbase", "./zone", "s3://b/p"), ("hbase",)),
    example("layout", "units extractor dated", ("units", "extractor", "dated"), None),
    example("engine", "spark local spark", ("spark", "local", "spark"), "local"),
    example("spark_master", "yarn local[2] spark://h:7077", ("yarn", "local[2]", "spark://h:7077"), None),
    example(
        "spark_conf", "spark.a=1 spark.b=x=y spark.jars=a,b",
        one_each(("spark.a", "1"), ("spark.b", "x=y"), ("spark.jars", "a,b")), (),
    ),
    example("spark_staging", "./s hdfs:///tmp/s s3://b/s", ("./s", "hdfs:///tmp/s", "s3://b/s"), None),
    example("format", "parquet csv jsonl", ("parquet", "csv", "jsonl"), "parquet"),
    example("mode", "latest manual year", ("latest", "manual", "year"), None),
    example("num_sessions", "1 2 3", (1, 2, 3), None),
    example("year", "2023 2024 2025", one_each(2023, 2024, 2025), ()),
    example(
        "date", "2023-01-01 2024-02-29 2025-12-31",
        one_each(date(2023, 1, 1), date(2024, 2, 29), date(2025, 12, 31)), (),
    ),
    example("meeting_key", "1 2 3", one_each(1, 2, 3), ()),
    example("session_key", "1 2 3", one_each(1, 2, 3), ()),
    example("endpoint", "laps pit car_data", one_each("laps", "pit", "car_data"), ()),
    example("driver", "1 44 0", one_each(1, 44, 0), ()),
    example("processes", "1 2 3", (1, 2, 3), 10),
    example("max_concurrent_requests", "1 2 3", (1, 2, 3), 10),
    example("window", "5m 30m 1h", seconds(300, 1800, 3600), None),
    example("response_budget", "1000 2000 3000", (1000, 2000, 3000), 4_000_000),
    example("max_retries", "0 1 2", (0, 1, 2), 3),
    example("retry_delay", "0 1s 1m", seconds(0, 1, 60), timedelta(seconds=5)),
    example("request_timeout", "1s 2s 1m", seconds(1, 2, 60), timedelta(seconds=60)),
    example(
        "rate", "none 1/s 6/s,4MB/10s", (Limits(), ONE, Limits((Rate(6, 1.0),), (ByteRate(4_000_000, 10.0),))), None,
    ),
    example(
        "api_url", "http://a http://b/v1 https://c:1/v1", ("http://a", "http://b/v1", "https://c:1/v1"), OPENF1_URL,
    ),
    example("livetiming_url", "http://a http://b/static https://c:1/s",
            ("http://a", "http://b/static", "https://c:1/s"), LIVETIMING_URL),
    example("jolpica_url", "http://a http://b/static https://c:1/s",
            ("http://a", "http://b/static", "https://c:1/s"), JOLPICA_URL),
    example("hub_url", "http://a http://b/hub https://c:1/s", ("http://a", "http://b/hub", "https://c:1/s"), HUB_URL),
    example("mqtt_url", "mqtts://a mqtt://b:1 wss://c:1/mqtt", ("mqtts://a", "mqtt://b:1", "wss://c:1/mqtt"), MQTT_URL),
    example("instance", "a b-1 c.d", ("a", "b-1", "c.d"), ""),
    example("begin_before", "0 30m 2h", seconds(0, 1800, 7200), timedelta(hours=2)),
    example("idle_timeout", "1s 30m 2h", seconds(1, 1800, 7200), timedelta(minutes=90)),
    example("serve", "a:1 127.0.0.1:8080 b", ("a:1", "127.0.0.1:8080", "b"), ""),
    example("hbase_host", "a b c", ("a", "b", "c"), "localhost"),
    example("hbase_port", "1 9091 65535", (1, 9091, 65535), 9090),
    example("hbase_transport", "buffered framed auto", ("buffered", "framed", "auto"), "auto"),
    example("hbase_protocol", "binary compact auto", ("binary", "compact", "auto"), "auto"),
    example("hbase_timeout", "1s 2s 1m", seconds(1, 2, 60), timedelta(seconds=60)),
    example("table_prefix", "a b-1 c.d", ("a", "b-1", "c.d"), ""),
    example("compression", "NONE SNAPPY zstd", ("NONE", "SNAPPY", "ZSTD"), "GZ"),
    example("catalogue", "zone hbase archive", ("zone", "hbase", "archive"), "auto"),
    example("required_header", "A B-C D", one_each("A", "B-C", "D"), ()),
    example("patience", "0 1m 2h", seconds(0, 60, 7200), timedelta(minutes=30)),
    example("put_timeout", "0 90s 10m", seconds(0, 90, 600), timedelta(minutes=10)),
    example("metrics", "9464 0.0.0.0:80 ::1", ("127.0.0.1:9464", "0.0.0.0:80", "[::1]:9464"), ""),
    example("metrics_file", "a.prom b/c.prom d", (Path("a.prom"), Path("b/c.prom"), Path("d")), None),
    example("on_failure", "tell https://host/a true", ("tell", "https://host/a", "true"), ""),
    example("log_file", "a.log b/c.log d", (Path("a.log"), Path("b/c.log"), Path("d")), Path("populate.log")),
)  # fmt: skip
SWITCHES = ("snapshot", "no_archive", "refresh", "dry_run", "quiet", "verbose")

each_setting = pytest.mark.parametrize("example", EXAMPLES, ids=[example.field for example in EXAMPLES])
each_switch = pytest.mark.parametrize("switch", SWITCHES)


def flag(field: str) -> str:
    return f"--{key(field)}"


def key(field: str) -> str:
    return setting_name(field).replace("_", "-")


def variable(field: str) -> str:
    return f"F1HBASE_{setting_name(field).upper()}"


# --- where a value comes from ---


def test_every_setting_is_tried_here() -> None:
    assert [item.name for item in fields(Settings)] == [
        *(example.field for example in EXAMPLES[:-4]),
        *("snapshot", "no_archive", "refresh", "dry_run", "metrics", "metrics_file", "on_failure", "log_file", "quiet"),
        "verbose",
    ]


@each_setting
def test_without_anything_a_setting_has_its_default(example: Example) -> None:
    assert getattr(settings_of(), example.field) == example.default
    assert getattr(defaults(), example.field) == default_of(example.field) == example.default


@each_setting
def test_a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default(example: Example) -> None:
    in_file, in_environment, in_flag = example.texts
    toml = f"{key(example.field)} = '{in_file}'"
    env = {variable(example.field): in_environment}
    arguments = (flag(example.field), in_flag)
    given = [
        settings_of(toml=toml),
        settings_of(toml=toml, **env),
        settings_of(*arguments, toml=toml, **env),
        settings_of(*arguments, toml=toml),
    ]
    file_value, environment_value, flag_value = example.values
    assert [getattr(settings, example.field) for settings in given] == [
        file_value, environment_value, flag_value, flag_value,
    ]  # fmt: skip


@each_switch
def test_a_switch_is_off_unless_the_flag_the_environment_or_the_file_turns_it_on(switch: str) -> None:
    assert getattr(settings_of(), switch) is False
    assert getattr(settings_of(flag(switch)), switch) is True
    assert getattr(settings_of(**{variable(switch): "1"}), switch) is True
    assert getattr(settings_of(toml=f"{key(switch)} = true"), switch) is True
    assert getattr(settings_of(toml=f"{key(switch)} = true", **{variable(switch): "false"}), switch) is False


def test_flags_alone_are_what_defaults_gives_with_the_same_changes() -> None:
    assert settings_of() == defaults()
    assert settings_of("--year", "2024", "--window", "5m") == defaults(year=(2024,), window=timedelta(minutes=5))


@pytest.mark.parametrize("field", [item.name for item in fields(Settings) if is_repeatable(item.name)])
def test_a_repeatable_setting_takes_several_values_in_each_place(field: str) -> None:
    example = next(example for example in EXAMPLES if example.field == field)
    wanted = tuple(value for values in example.values for value in values)
    arguments = [argument for text in example.texts for argument in (flag(field), text)]
    assert getattr(settings_of(*arguments), field) == wanted
    assert getattr(settings_of(**{variable(field): " ".join(example.texts)}), field) == wanted
    assert getattr(settings_of(toml=f"{key(field)} = {list(example.texts)}"), field) == wanted


def test_only_these_settings_are_repeatable() -> None:
    repeatable = {item.name for item in fields(Settings) if is_repeatable(item.name)}
    assert repeatable == {
        "to",
        "year",
        "date",
        "meeting_key",
        "session_key",
        "endpoint",
        "driver",
        "spark_conf",
        "required_header",
    }


def test_the_file_takes_toml_s_own_numbers_dates_and_lists() -> None:
    toml = "num_sessions = 5\nyear = [2023, 2024]\ndate = 2024-12-08\nhbase-port = 9095\nretry-delay = 2"
    settings = settings_of(toml=toml)
    assert (settings.num_sessions, settings.year, settings.hbase_port) == (5, (2023, 2024), 9095)
    assert settings.date == (date(2024, 12, 8),)
    assert settings.retry_delay == timedelta(seconds=2)


def test_the_keys_of_the_file_may_have_hyphens_or_underscores() -> None:
    assert settings_of(toml="hbase-host = 'a'").hbase_host == "a"
    assert settings_of(toml="hbase_host = 'b'").hbase_host == "b"


def test_another_file_is_named_by_a_flag_or_the_environment(tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text("processes = 7", encoding="utf-8")
    here = "processes = 1"
    assert settings_of("--config", str(other), toml=here).processes == 7
    assert settings_of(toml=here, F1HBASE_CONFIG=str(other)).processes == 7
    assert settings_of(toml=here).processes == 1


def test_every_flag_is_explained_in_the_help() -> None:
    text = run("--help").result.output
    for item in fields(Settings):
        assert flag(item.name) in text


def test_a_command_can_take_some_settings_and_leave_the_others_in_the_file_alone() -> None:
    outcome = run_with(("hbase_host", "hbase_port"), "--hbase-port", "1", toml="year = 2024\nhbase-host = 'x'")
    assert outcome.config is not None
    assert outcome.config.settings == defaults(hbase_host="x", hbase_port=1)
    assert "No such option" in run_with(("hbase_host",), "--year", "2024").error


# --- what the file may not hold ---


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("proceses", "processes"), ("hbase-prot", "hbase-port"), ("session-keys", "session-key"), ("Rate", "rate")],
)
def test_an_unknown_key_in_the_file_is_named_with_the_one_that_was_probably_meant(wrong: str, right: str) -> None:
    error = run(toml=f"{wrong} = 1").error
    assert f"'{wrong}' in 'f1hbase.toml' is not a setting; did you mean '{right}'?" in error


def test_an_unknown_key_like_no_other_is_named_with_the_way_to_the_list() -> None:
    error = run(toml="xyzzy = 1").error
    assert "'xyzzy' in 'f1hbase.toml' is not a setting" in error
    assert "--help" in error


@pytest.mark.parametrize("toml", ["year = ", "year 2024", "[", "year = 2024\nyear = 2025"])
def test_a_file_that_is_not_toml_is_refused_with_its_name_and_the_place(toml: str) -> None:
    error = run(toml=toml).error
    assert "'f1hbase.toml' is not TOML" in error
    assert "line" in error or "end of document" in error


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f1hbase.toml").write_bytes(b"hbase-host = '\xff'")
    assert "'f1hbase.toml' is not TOML" in run().error


def test_a_file_that_is_asked_for_and_not_there_is_named() -> None:
    assert "cannot read 'no.toml': No such file" in run("--config", "no.toml").error


@pytest.mark.parametrize("toml", ["processes = [1, 2]", "[processes]\nx = 1"])
def test_a_table_or_a_list_where_one_value_belongs_is_refused_by_name(toml: str) -> None:
    assert "'processes' in 'f1hbase.toml' takes one value" in run(toml=toml).error


@pytest.mark.parametrize("toml", ["[[year]]\nx = 1", "year = [2023, {}]", "session-key = [[1, 2]]"])
def test_a_table_or_a_list_within_the_list_of_a_repeatable_setting_is_refused_by_name(toml: str) -> None:
    error = run(toml=toml).error
    assert "year" in error or "session-key" in error


@pytest.mark.parametrize(
    "field",
    [
        example.field
        for example in EXAMPLES
        if example.field
        not in {
            *("source", "to", "spark_staging", "hbase_host", "serve", "required_header"),
            *("metrics", "metrics_file", "on_failure", "log_file"),
        }
    ],
)
def test_a_value_in_the_file_or_the_environment_is_checked_like_a_flag(field: str) -> None:
    wrong = "?!"
    for outcome in (
        run(flag(field), wrong),
        run(**{variable(field): wrong}),
        run(toml=f"{key(field)} = '{wrong}'"),
    ):
        assert flag(field) in outcome.error


# --- kinds of values ---


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("15m", 900), ("30s", 30), ("1h", 3600), ("1.5h", 5400), ("90", 90), ("2d", 172_800), ("500ms", 0.5),
     (" 15 M ", 900), ("1e3", 1000), ("0.5m", 30)],
)  # fmt: skip
def test_a_length_of_time_reads_like_this(text: str, wanted: float) -> None:
    assert settings_of("--patience", text).patience == timedelta(seconds=wanted)


@pytest.mark.parametrize("text", ["", "m", "15x", "1:30", "15m30s", "nan", "inf", "1e99", "fifteen", "15 minutes"])
def test_what_is_no_length_of_time_is_refused_with_examples(text: str) -> None:
    assert "is not a length of time; write 15m, 30s, 1h or 1.5h" in run("--patience", text).error


@pytest.mark.parametrize(
    ("option", "text", "least"),
    [("--window", "0", "1s"), ("--window", "999ms", "1s"), ("--request-timeout", "99ms", "0.1s"),
     ("--retry-delay", "-1s", "0s"), ("--patience", "-1m", "0s")],
)  # fmt: skip
def test_a_length_of_time_that_is_too_short_is_refused_with_the_least(option: str, text: str, least: str) -> None:
    assert f"is too short; the least is {least}" in run(option, text).error


@pytest.mark.parametrize("text", ["31d", "1e8", "1000h"])
def test_a_length_of_time_that_nobody_can_mean_is_refused_with_the_most(text: str) -> None:
    assert "is too long; the most is 30 days" in run("--patience", text).error


@given(st.integers(1, 30 * 24 * 60))
def test_a_length_of_time_without_a_unit_is_seconds(number: int) -> None:
    read = values.duration()
    assert read(str(number)) == timedelta(seconds=number)
    if number <= 30 * 24 * 60:
        assert read(f"{number}m") == timedelta(minutes=number)


@pytest.mark.parametrize("text", ["08.12.2024", "2024-13-01", "2023-02-29", "2024-12-08T00:00", "yesterday", ""])
def test_what_is_no_date_is_refused_with_an_example(text: str) -> None:
    assert "is not a date; write it as YYYY-MM-DD" in run("--date", text).error


@pytest.mark.parametrize("text", ["", "3", "3/", "/s", "3/d", "0/s", "3/s;30/m", "3/s,", "5000/s", "1/9000s", "-1/s"])
def test_what_is_no_rate_is_refused_with_an_example(text: str) -> None:
    assert "write rates like '3/s,30/m'" in run("--rate", text).error


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("3/s,30/m", FREE),
        ("none", Limits()),
        ("NONE", Limits()),
        (" 3 / s , 30 / M ", FREE),
        ("10/4s", Limits((Rate(10, 4.0),))),
    ],
)
def test_a_rate_reads_like_this(text: str, rates: Limits) -> None:
    assert settings_of("--rate", text).rate == rates


@pytest.mark.parametrize(
    "text", ["api.openf1.org/v1", "ftp://api.openf1.org", "http://", "", "https://a:99999/", "https://[::1", "http:/a"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    assert "is not an address" in run("--api-url", text).error


def test_an_address_loses_the_slash_at_its_end() -> None:
    assert settings_of("--api-url", "http://localhost:8000/v1/").api_url == "http://localhost:8000/v1"


@pytest.mark.parametrize("who", ["anna:hunter2", ":hunter2", "hunter2"])
@pytest.mark.parametrize("rest", ["api.openf1.org/v1", "localhost:8000"])
def test_credentials_in_the_address_are_refused_and_not_shown(who: str, rest: str) -> None:
    error = run("--api-url", f"https://{who}@{rest}").error
    assert "credentials do not belong in the address" in error
    assert "hunter2" not in error


@pytest.mark.parametrize("url", ["ftp://anna:hunter2@host", "https://anna:hunter2@host:99999", "anna:hunter2@host"])
def test_credentials_in_an_address_that_is_wrong_anyhow_are_not_shown_either(url: str) -> None:
    assert "hunter2" not in run("--api-url", url).error


@pytest.mark.parametrize(
    "words",
    [
        ("--api-url", "https://host/v1?token=hunter2-secret"),
        ("--livetiming-url", "https://host/?a=b&token=hunter2-secret#x"),
        ("--jolpica-url", "http://hunter2-secret@host/"),
        ("--hub-url", "host?key=hunter2-secret"),
        ("--mqtt-url", "mqtts://host/?token=" + "x" * 30 + "hunter2-secret" * 30),
        ("--hbase-host", "anna:hunter2-secret@gateway:9090"),
        ("--metrics", "anna:hunter2-secret@127.0.0.1:9464"),
        ("--year", "https://host/?x=hunter2-secret"),
        ("http://anna:hunter2-secret@host/lap.csv",),
        ("--no-such-option=http://hunter2-secret@host",),
    ],
)
def test_secrets_in_what_is_no_value_of_an_option_are_not_quoted(words: tuple[str, ...], tmp_path: Path) -> None:
    command = "live" if words[0] in {"--hub-url", "--mqtt-url"} else "load"
    ran = subprocess.run(
        [sys.executable, "-m", "f1hbase", command, *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 2
    assert "Error" in ran.stderr
    assert "hunter2" not in ran.stdout + ran.stderr


def test_addresses_are_looked_through_in_time_however_long_they_are() -> None:
    began = time.monotonic()
    assert shown_address("a:,@" + "a:," * 40_000)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("url", ["https://api.openf1.org/v1?x=1", "https://api.openf1.org/v1#x"])
def test_an_address_that_nothing_can_be_appended_to_is_refused(url: str) -> None:
    assert "must not have a '?' or '#'" in run("--api-url", url).error


@pytest.mark.parametrize("text", ["f1", "F1-test", "a_b.c", "2024", ""])
def test_a_table_prefix_is_of_characters_that_hbase_takes(text: str) -> None:
    assert settings_of("--table-prefix", text).table_prefix == text


@pytest.mark.parametrize("text", ["_a", "-a", ".a", "a b", "a/b", "a:b", "ä", "a\n", "²"])
def test_any_other_table_prefix_is_refused(text: str) -> None:
    assert "cannot begin a table's name" in run("--table-prefix", text).error


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--processes", "0"), ("--max-concurrent-requests", "0"), ("--max-retries", "-1"), ("--num-sessions", "0"),
        ("--hbase-port", "0"), ("--hbase-port", "65536"), ("--driver", "-1"), ("--endpoint", "lap"),
        ("--mode", "newest"), ("--hbase-transport", "http"), ("--hbase-protocol", "json"), ("--year", "last"),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_refused_by_name(option: str, text: str) -> None:
    assert option in run(option, text).error


@pytest.mark.parametrize(
    ("option", "text", "instead"),
    [
        ("--year", "2023,2024", "--year 2023 --year 2024"),
        ("--driver", "1, 44", "--driver 1 --driver 44"),
        ("--date", "2024-12-07,2024-12-08", "--date 2024-12-07 --date 2024-12-08"),
        ("--endpoint", "laps,pit", "--endpoint laps --endpoint pit"),
    ],
)
def test_several_values_in_one_are_refused_with_what_to_write(option: str, text: str, instead: str) -> None:
    assert f"is not one value; write {instead}." in run(option, text).error


@pytest.mark.parametrize("text", ["7_0001", "\u0667\u0660", "1e3", "0x10", "9" * 20, ""])
def test_what_only_python_takes_for_a_number_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a valid whole number"):
        resolve({"session_key": [text]}, environment={})
    with pytest.raises(ConfigError, match="is not a length of time"):
        resolve({"patience": "1_0s"}, environment={})


def test_what_is_no_number_is_refused_in_plain_words() -> None:
    for option in ("--driver", "--session-key", "--num-sessions"):
        assert f"'{option}': 'VER' is not a valid whole number." in run(option, "VER").error


@pytest.mark.parametrize(
    ("text", "said"),
    [("lapz", "did you mean 'laps'?"), ("car-data", "did you mean 'car_data'?"), ("telemetry", "'telemetry'. There")],
)
def test_a_misspelt_endpoint_is_refused_with_the_one_that_was_probably_meant_and_all_others(
    text: str, said: str
) -> None:
    error = run("--endpoint", text).error
    assert said in error
    assert f"There are {', '.join(ALL_ENDPOINTS)}." in error


def test_an_endpoint_is_known_in_whatever_case() -> None:
    assert settings_of("--endpoint", "Laps").selection.endpoints == ("laps",)


# --- combinations ---


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mode": "year"}, "--mode year needs the season: add --year"),
        ({"mode": "manual"}, "--mode manual needs what to load: add --date, --meeting-key, --session-key or --year"),
        ({"mode": "all", "session_key": (1,)}, "leave it out to load only what --session-key names"),
        ({"mode": "all", "meeting_key": (1,)}, "leave it out to load only what --meeting-key names"),
        ({"mode": "all", "date": (date(2024, 1, 1),)}, "leave it out to load only what --date names"),
        ({"mode": "all", "year": (2024,)}, "leave it out to load only what --year names"),
        ({"quiet": True, "verbose": True}, "--quiet and --verbose exclude each other"),
    ],
)
def test_a_combination_that_makes_no_sense_is_refused_with_what_to_do(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        defaults(**options).check()
    assert said in str(refused.value)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("years", [(2022,), (2024, 1950)])
def test_a_season_that_the_source_has_not_is_refused_by_the_source(years: tuple[int, ...]) -> None:
    settings = defaults(year=years)
    settings.check()
    with pytest.raises(ConfigError, match=f"--year {min(years)}: OpenF1 has no data before 2023"):
        recipe(Config(settings))


@pytest.mark.parametrize(
    "options",
    [
        {}, {"mode": "all"}, {"mode": "latest"}, {"mode": "latest", "year": (2024,)}, {"year": (2024,)},
        {"mode": "year", "year": (2023, 2024)}, {"session_key": (1,)}, {"mode": "manual", "session_key": (1,)},
        {"mode": "manual", "year": (2024,)}, {"meeting_key": (1,), "driver": (44,)}, {"date": (date(2024, 1, 1),)},
        {"quiet": True}, {"verbose": True}, {"mode": "all", "endpoint": ("laps",)},
    ],
    ids=str,
)  # fmt: skip
def test_a_combination_that_makes_sense_is_taken(options: dict[str, Any]) -> None:
    defaults(**options).check()


# --- what follows from the settings ---


@pytest.mark.parametrize("url", [OPENF1_URL, "https://API.OpenF1.org/v1", "http://api.openf1.org:80/v1"])
def test_openf1_s_own_host_is_asked_within_its_limits(url: str) -> None:
    assert limits(None, url, authenticated=False) == parse_limits("3/s,30/m") == FREE
    assert limits(None, url, authenticated=True) == Limits((Rate(6, 1.0), Rate(60, 60.0)))


@pytest.mark.parametrize("url", ["http://localhost:8000/v1", "https://openf1.org/v1", "https://mirror.example/v1"])
def test_any_other_host_has_no_limits_by_default(url: str) -> None:
    assert limits(None, url, authenticated=False) == limits(None, url, authenticated=True) == Limits()


@pytest.mark.parametrize("url", [OPENF1_URL, "http://localhost:8000/v1"])
def test_limits_that_are_given_hold_for_any_host(url: str) -> None:
    for authenticated in (False, True):
        assert limits(parse_limits("1/s"), url, authenticated=authenticated) == ONE
        assert limits(parse_limits("none"), url, authenticated=authenticated) == Limits()


def test_all_endpoints_are_loaded_unless_some_are_named_and_always_in_the_catalogue_s_order() -> None:
    assert defaults().selection.endpoints == tuple(ALL_ENDPOINTS)
    assert defaults(endpoint=("car_data", "drivers", "laps")).selection.endpoints == ("drivers", "laps", "car_data")


def test_settings_cannot_be_changed_by_accident() -> None:
    change: Callable[..., None] = setattr
    with pytest.raises(AttributeError):
        change(defaults(), "year", (2024,))


# --- what a hostile file, variable or flag can do ---


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "f1hbase.toml").write_bytes(b"\xef\xbb\xbfprocesses = 7\n")
    assert settings_of().processes == 7


def test_a_link_that_leads_nowhere_is_named_instead_of_passed_over(tmp_path: Path) -> None:
    (tmp_path / "f1hbase.toml").symlink_to("gone.toml")
    assert "cannot read 'f1hbase.toml': No such file" in run().error


@pytest.mark.timeout(20)
@pytest.mark.parametrize("device", ["/dev/zero", "/dev/stdin", "/dev/tty", "fifo", "."])
def test_what_is_no_regular_file_is_refused_at_once(device: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert re.search("is no regular file|cannot read", run("--config", device).error)
    assert re.search("is no regular file|cannot read", run(F1HBASE_CONFIG=device).error)


def test_a_file_that_is_larger_than_settings_can_be_is_not_read_to_its_end(tmp_path: Path) -> None:
    with (tmp_path / "huge.toml").open("wb") as file:
        file.truncate(50_000_000_000)  # no block of it is on the disk
    assert "is larger than 1,000,000 bytes" in run("--config", "huge.toml").error


@pytest.mark.parametrize("toml", ["x = " + "[" * 5000, "x = " + "{a=" * 2000, "a" + ".a" * 20_000 + " = 1"])
def test_a_file_that_is_nested_deeply_is_refused_without_a_stack_trace(toml: str) -> None:
    assert re.search("nested too deep|is not TOML|is not a setting", run(toml=toml).error)


@pytest.mark.parametrize("form", ["{} = 1", "[{}]", "[[{}]]", "x = {{ {} = 1 }}"])
def test_a_key_of_many_parts_is_refused_before_it_takes_memory(form: str) -> None:
    tracemalloc.start()
    try:
        assert "is nested too deep" in run(toml=form.format("a" + " . 'a'" * 2_000)).error
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_a_number_of_thousands_of_digits_is_refused_without_a_stack_trace() -> None:
    assert "is not TOML" in run(toml="num-sessions = " + "9" * 5_000).error


def test_a_key_or_value_in_the_file_is_quoted_harmlessly_and_shortened() -> None:
    error = run(toml=f'"\\u001b[2J{"x" * 5000}" = 1').error
    assert error.isprintable()
    assert len(error) < 400
    error = run(toml=f'window = "\\u001b[2J{"x" * 5000}"').error
    assert error.isprintable()
    assert len(error) < 400


@pytest.mark.parametrize(
    ("text", "gateways"),
    [("[::1]", [("::1", 9090)]), ("[::1]:9091", [("::1", 9091)]), ("::1", [("::1", 9090)]),
     ("a,[fe80::1%eth0]:9095,b:1", [("a", 9090), ("fe80::1%eth0", 9095), ("b", 1)])],
)  # fmt: skip
def test_a_gateway_may_have_an_ipv6_address(text: str, gateways: list[tuple[str, int]]) -> None:
    assert list(settings_of("--hbase-host", text).gateways) == gateways


@pytest.mark.parametrize("host", ["a" * 64, f"b.{'a' * 64}.org", ".".join(["abc"] * 80), "a b", "a/b", "", "a:0"])
def test_what_can_be_no_host_is_refused(host: str) -> None:
    assert re.search("is no host|is not a host|is not a port", run("--hbase-host", host).error)
    if host and ":" not in host and "/" not in host:
        assert re.search("is no host|has a space", run("--api-url", f"http://{host}/v1").error)


@pytest.mark.parametrize("url", ["http://a\r\nHost: b/v1", "http://a/v1\n", "http://a\t/v1", "http://a/\x00v1"])
def test_an_address_with_a_control_character_is_refused(url: str) -> None:
    assert "space or a control character" in run("--api-url", url).error


def test_the_last_day_there_is_can_be_asked_for() -> None:
    assert settings_of("--date", "9999-12-31").date == (date(9999, 12, 31),)


def test_a_table_prefix_is_short_enough_for_the_names_that_hbase_takes() -> None:
    assert len(settings_of("--table-prefix", "a" * 100).table_prefix) == 100
    assert "is longer than 100" in run("--table-prefix", "a" * 101).error
    assert len(f"{'a' * 100}_f1_reports") + len(".regionserver-00000000000000000000.snapshot") < 255


def test_a_variable_that_is_no_setting_is_named_with_the_one_that_was_probably_meant() -> None:
    warnings = config_for(F1HBASE_PROCESES="3", F1HBASE_API_USERNAME="a", F1HBASE_SERVE_TOKEN="t").warnings
    assert list(warnings) == ["the variable F1HBASE_PROCESES is no setting; did you mean F1HBASE_PROCESSES?"]


def test_where_each_value_comes_from_is_known() -> None:
    origins = config_for("--year", "2024", toml="processes = 3", F1HBASE_PATIENCE="1m").origins
    assert {origins[name] for name in ("year", "processes", "patience", "window")} == {
        "given", "file", "environment", "default",
    }  # fmt: skip
    assert [origins[name] for name in ("year", "processes", "patience")] == ["given", "file", "environment"]


def test_from_python_values_may_have_their_own_types() -> None:
    settings = resolve({"year": [2024, 2023], "window": timedelta(minutes=5), "log_file": Path("x")}).settings
    assert (settings.year, settings.window, settings.log_file) == ((2024, 2023), timedelta(minutes=5), Path("x"))
    assert resolve({"date": date(2024, 1, 2), "retry_delay": 1.5}).settings.date == (date(2024, 1, 2),)
    with pytest.raises(ConfigError, match="'fast' is not a length of time"):
        resolve({"window": "fast"})
