"""The command line.

Each command imports what it alone needs: `status` need not wait for an HTTP client, nor a worker process, which imports
this as well, for `verify`.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import signal
import sys
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from f1hbase.cli.failures import INTERRUPTED, ON_FAILURE
from f1hbase.cli.ingesting import ingest_command
from f1hbase.cli.logs import set_up_logging, wants_colour
from f1hbase.cli.options import arm, click_options, config_of, tell
from f1hbase.cli.plotting import plot_command
from f1hbase.cli.progress import make_counter, make_display, make_task_display, terminal
from f1hbase.config import flag
from f1hbase.credentials import SERVE_VARIABLE, redacted, register_secrets_in
from f1hbase.errors import ConfigError, F1HBaseError
from f1hbase.model.text import safe
from f1hbase.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from f1hbase.config import Config, Settings
    from f1hbase.model.plans import Plan
    from f1hbase.serve.pages import SharedStore
    from f1hbase.serve.store import RecordStore
    from f1hbase.stores.hbase.schema import SchemaReader

_log = logging.getLogger(__name__)

_WHERE = ("hbase_host", "hbase_port", "hbase_transport", "hbase_protocol", "table_prefix")
_SESSIONS = ("mode", "num_sessions", "year", "date", "meeting_key", "session_key")
_WHAT = (*_SESSIONS, "endpoint", "driver")
_SESSION_KEYS = ("year", "meeting_key", "session_key")
_CHOICE = (*_SESSION_KEYS, "endpoint")
_API = (
    "api_url",
    "livetiming_url",
    "jolpica_url",
    "rate",
    "max_retries",
    "retry_delay",
    "request_timeout",
    "max_concurrent_requests",
)
_SIZES = ("window", "response_budget")
_ENGINE = ("engine", "spark_master", "spark_conf")
_OF_AGAINST = ("mode", "num_sessions", "date", "driver")
"""What `verify` takes with --against only."""

_LONGEST_LINE = 10_000
"""How many characters of a line of a command are printed."""


class _LoadByDefault(click.Group):
    """A group in which no command means `load`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {"-h", "--help", "--version"}
        if not args or (args[0].startswith("-") and args[0] not in own):
            if args and args[-1] in self.commands:
                raise click.UsageError(f"The command comes first: {args[-1]} {' '.join(args[:-1])}", ctx)
            args = ["load", *args]
        return super().parse_args(ctx, args)


_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110, "show_default": False}


@click.group(cls=_LoadByDefault, context_settings=_CONTEXT)
@click.version_option(__version__, prog_name="f1hbase")
def cli() -> None:
    """Load Formula 1 data from the OpenF1 API into HBase.

    Without a command, `load` is meant. All of it can be interrupted and run again: what is stored stays stored, and
    only what is missing is asked for.

    \b
    Examples:
      python hbase_populate_openF1.py                        every session since 2023
      python hbase_populate_openF1.py --mode latest --num-sessions 1
      python hbase_populate_openF1.py --year 2024 --endpoint laps --endpoint pit
      python hbase_populate_openF1.py --session-key 9159 --driver 55
      python hbase_populate_openF1.py plan --year 2024       what that would take
      python hbase_populate_openF1.py status                 what is loaded
      python hbase_populate_openF1.py doctor                 is everything ready?
      nohup python hbase_populate_openF1.py > populate.log 2>&1 &

    \b
    Exit codes:
      0 all loaded    1 some failed, run again    2 wrong usage    3 HBase or the API away    130 interrupted

    Every option is also F1HBASE_<OPTION> in the environment and a key of f1hbase.toml.
    """


@cli.command("load", short_help="Load what is missing (the default).")
@click_options()
def load_command(**options: Any) -> None:
    """Load what is missing; run it again to update or to resume.

    \b
    Examples:
      load --session-key 9159                    one session
      load --mode latest --num-sessions 5        the five latest
      load --year 2023 --year 2024               two seasons
      load --date 2024-12-07 --date 2024-12-08   two days
      load --meeting-key 1240 --dry-run          only say what would be loaded
    """
    from f1hbase.composition import exporters, load_engine, load_recipe, load_request
    from f1hbase.pipeline.load import load

    config = config_of(options)
    settings = config.settings
    settings.check()
    if settings.dry_run:
        set_up_logging(sys.stdout, None, quiet=settings.quiet, verbose=settings.verbose)
        _print_plan(config)
        return
    set_up_logging(sys.stdout, settings.log_file, quiet=settings.quiet, verbose=settings.verbose)
    tell(config)
    engine = load_engine(config, lambda: make_task_display(terminal(), quiet=settings.quiet))
    result = load(
        load_request(config),
        load_recipe(config),
        lambda meetings: make_display(meetings, terminal(), quiet=settings.quiet),
        engine,
        exporters(config),
    )
    overall = result.overall
    ON_FAILURE.counts = {
        "sessions": len(overall.sessions), "stored_units": overall.stored, "failed_units": overall.failed,
        "records": overall.records, "rows": overall.all_rows, "quarantined": overall.quarantined,
        "requests": overall.requests,
    }  # fmt: skip
    sys.exit(result.exit_code)


@cli.command("plan", short_help="Say what load would ask for; touch nothing.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click_options(("source", "to", "layout", *_WHAT, *_API, *_WHERE, *_SIZES, "refresh"))
def plan_command(*, as_json: bool, **options: Any) -> None:
    """Say what `load` with the same options would take: sessions, units, requests, rows, bytes and time.

    Of landing zones also their size, and what S3 asks for that. What has a ~ is an estimate, learnt from the sessions
    already loaded where there are any. Counts what is due again in the seasons that are loaded, too. Touches nothing.
    """
    config = config_of(options)
    config.settings.check()
    set_up_logging(sys.stderr if as_json else sys.stdout, None)
    tell(config)
    _print_plan(config, as_json=as_json)


@cli.command("status", short_help="What is loaded, what failed and why, and how long the rest takes.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.option("--watch", "watching", is_flag=True, help="Show it again every few seconds, in place; Ctrl-C ends it.")
@click_options(("source", "to", "layout", *_SESSION_KEYS, "api_url", "jolpica_url", "rate", *_SIZES, *_WHERE))
def status_command(*, as_json: bool, watching: bool, **options: Any) -> None:
    """Say from the reports what is loaded, what failed and why, and how long the rest takes.

    Done is what is stored of all that runs have asked for; a session that none has asked for does not count.
    """
    from f1hbase.cli.watching import watch
    from f1hbase.composition import source_recipe, state_view
    from f1hbase.operations.status import StatusReader, status_json, status_lines

    if as_json and watching:
        raise click.UsageError("--watch is for people and --json for machines: leave one of them out.")
    config = config_of(options)
    if len(config.settings.to) > 1 and config.origins["to"] == "given":
        raise click.UsageError("--to: status looks at one place at a time.")
    set_up_logging(sys.stderr, None)
    tell(config)
    reader = StatusReader(state_view(config), config.settings.selection, lambda: source_recipe(config))
    if as_json:
        click.echo(json.dumps(status_json(reader.read()), indent=2))
    elif watching and sys.stdout.isatty():
        watch(lambda: status_lines(reader.read()), sys.stdout)
    else:
        if watching:
            _log.warning("--watch needs a terminal; this is how it stands now")
        _print(status_lines(reader.read()))


@cli.command("doctor", short_help="Check everything before a run, and say what to do about it.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.option("--end-pause", is_flag=True, help="End the pause of all requests that the API has asked for.")
@click_options(
    (
        "source", "to", "layout", "processes", "max_concurrent_requests", "request_timeout", "api_url", "jolpica_url",
        "rate", *_WHERE, "log_file",
    )
)  # fmt: skip
def doctor_command(*, as_json: bool, end_pause: bool, **options: Any) -> None:
    """Check what a load needs: this machine, where it loads from and to. A line each, with the fix.

    Changes nothing: a landing zone gets a small object, which is deleted again. Asks the API once (with --from
    jolpica that one), within its limits. --end-pause lets all processes ask it again before the time that it has named.

    \b
    Exit codes:
      0 ready, perhaps with warnings    1 something failed    2 wrong usage
    """
    from f1hbase.composition import DESTINATIONS, SOURCES
    from f1hbase.operations.doctor import Grade, doctor_json, doctor_lines, examine, judgement, resume_requests

    config = config_of(options)
    set_up_logging(sys.stderr, None, quiet=True)
    tell(config)
    if end_pause:
        resume_requests(config)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    colours = {Grade.OK: "green", Grade.WARN: "yellow", Grade.FAIL: "red", Grade.SKIP: "cyan"}
    checks = []
    for check in examine(config, {*SOURCES, *DESTINATIONS}):
        checks.append(check)
        for number, line in enumerate([] if as_json else doctor_lines(check, width)):
            plain = number > 0 or not wants_colour(sys.stdout)
            shown = safe(redacted(line), _LONGEST_LINE)
            click.echo(shown if plain else click.style(shown[:4], fg=colours[check.grade], bold=True) + shown[4:])
    click.echo(json.dumps(doctor_json(checks), indent=2) if as_json else judgement(checks))
    sys.exit(1 if any(check.grade is Grade.FAIL for check in checks) else 0)


@cli.command("schema", short_help="Create the tables, or say how; compare those that exist.")
@click.option("--create", is_flag=True, help="Create the tables that are absent; with 'hbase shell' if it is there.")
@click.option("--check", is_flag=True, help="Compare the tables that exist with what they should be.")
@click.option(
    "--regions", type=click.IntRange(min=1), metavar="N",
    help="How many regions f1_data begins with at the most.  [default: one a meeting, at most 100]",
)  # fmt: skip
@click_options(("source", *_SESSIONS, *_API, *_WHERE, "compression"))
def schema_command(*, create: bool, check: bool, regions: int | None, **options: Any) -> None:
    """Print a script for `hbase shell` that creates the tables, split at the meetings that the options name.

    The script, --create and `load` create what is absent; nothing here drops or alters a table. --check names the
    lines for `hbase shell` that correct one.

    \b
    Examples:
      schema --year 2024                         the script, split for a season
      schema --year 2024 | hbase shell -n        run it
      schema --create                            the same, for every season since 2023
      schema --check                             are the tables as they should be?
      schema --regions 1                         without split points; asks the API nothing

    \b
    Exit codes:
      0 done, or no difference    1 there are differences    2 wrong usage    3 HBase or the API away
    """
    from f1hbase.model.units import datasets_of
    from f1hbase.stores.hbase import schema
    from f1hbase.stores.hbase.shell import find_shell

    if create and check:
        raise click.UsageError("--create and --check exclude each other.")
    if check and regions is not None:
        raise click.UsageError("--regions goes with --create or the script; --check says how many there are.")
    config = config_of(options)
    settings = config.settings
    settings.check()
    set_up_logging(sys.stderr, None)
    tell(config)
    tables = schema.Tables(settings.table_prefix)
    if check:
        layout = schema.Layout(settings.compression)
        checks = schema.check_tables(_schema_reader(settings), tables, layout, find_shell())
        _print(schema.check_lines(checks))
        sys.exit(0 if all(found.well for found in checks) else 1)
    meetings = [] if regions == 1 else [meeting.scope for meeting in _plan(config).meetings]
    splits = schema.split_points(meetings, regions or schema.MOST_REGIONS)
    layout = schema.Layout(settings.compression, splits)
    datasets = datasets_of(meetings)
    if not create:
        click.echo(schema.creation_script(tables, layout, datasets))
        return
    created = schema.ensure_tables(_schema_reader(settings), tables, layout, find_shell(), datasets)
    for name in tables.families_of(datasets):
        click.echo(f"{name}: {'created' if name in created else 'was there already, and stays as it is'}")


def _schema_reader(settings: Settings) -> SchemaReader:
    from f1hbase.pipeline.load import STARTUP_PATIENCE_SECONDS
    from f1hbase.stores.hbase.connector import find_gateways
    from f1hbase.stores.hbase.schema import SchemaReader

    gateways = find_gateways(settings.gateways, settings.hbase_transport, settings.hbase_protocol)
    return SchemaReader(gateways, STARTUP_PATIENCE_SECONDS)


@cli.command("verify", short_help="Compare what is stored with what the reports say.")
@click.option(
    "--deep", is_flag=True, help="Read the cells (of a landing zone the objects), too, and compare checksums."
)
@click.option(
    "--against-api", type=click.IntRange(min=0), default=0, metavar="N",
    help="Ask OpenF1 for N random units again and compare them cell by cell.",
)  # fmt: skip
@click.option("--seed", type=int, metavar="S", help="With --against-api: choose the same units again.")
@click.option(
    "--against", default="", metavar="PLACE",
    help="Compare every record with what another source or place has: openf1, livetiming, or the path or URL of a "
    "landing zone or recording; or the classifications with those of jolpica; instead of what is checked otherwise.",
)  # fmt: skip
@click.option(
    "--row-counter", is_flag=True,
    help="Have HBase's own RowCounter job count the whole table instead of scanning it; needs the command hbase.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.option("--verbose", "every_endpoint", is_flag=True, help="Show each endpoint of every session.")
@click_options(("to", *_ENGINE, *_WHAT, *_API, *_SIZES, *_WHERE, "patience"))
def verify_command(
    *, as_json: bool, every_endpoint: bool, deep: bool, against_api: int, seed: int | None, row_counter: bool,
    against: str, **options: Any,
) -> None:  # fmt: skip
    """Compare what is stored with what the reports say, and that with what was asked for. Reads only.

    With --against, compare it with what another source or place has instead, record by record.

    \b
    Examples:
      verify                                     all that is known, by counting keys
      verify --session-key 9159 --deep           one session, with its cells
      verify --year 2024 --against-api 20        a season, and twenty units of it against the API
      verify --deep --engine spark               every cell, by Spark
      verify --to s3://bucket/f1 --deep          a landing zone: every object against its manifest
      verify --against s3://bucket/f1            every record of a landing zone is in HBase
      verify --against livetiming --session-key 9636 --endpoint laps   two sources of one session
      verify --against jolpica --year 2024       classifications: f1_history's, or else asked of Jolpica

    \b
    Exit codes:
      0 no difference    1 there are differences    2 wrong usage    3 the store or the API away
    """
    if against:
        if deep or row_counter or against_api or seed is not None:
            raise click.UsageError("--against compares all: leave out --deep, --against-api, --seed and --row-counter.")
        if options["engine"] == "spark":
            raise click.UsageError("--against compares in this process: leave out --engine spark.")
        _verify_against(config_of(options), against, as_json=as_json, every_endpoint=every_endpoint)
    from f1hbase.composition import open_auditor, source_recipe
    from f1hbase.operations.verify.base import Depth
    from f1hbase.operations.verify.report import verdict, verify_json, verify_lines
    from f1hbase.operations.verify.run import VerifyRequest, verify

    for name in _OF_AGAINST:
        if options[name] not in (None, ()):
            raise click.UsageError(f"{flag(name)} goes with --against.")
    config = config_of(options, names=[name for name in options if name not in _OF_AGAINST])
    settings = config.settings
    if row_counter and (deep or any(getattr(settings, name) for name in _CHOICE)):
        raise click.UsageError("--row-counter counts the whole table: leave out --deep, and what chooses a part of it.")
    if seed is not None and not against_api:
        raise click.UsageError("--seed goes with --against-api N.")
    if len(settings.to) > 1 and config.origins["to"] == "given":
        raise click.UsageError("--to: verify looks at one place at a time.")
    set_up_logging(sys.stderr, None)
    tell(config)
    request = VerifyRequest(
        settings.selection,
        Depth(deep, against_api, seed, row_counter),
        source_recipe(config, "openf1") if against_api else None,
        settings.patience.total_seconds(),
    )
    auditor = open_auditor(config, show=lambda: make_task_display(terminal()))
    try:
        result = verify(request, auditor, make_counter)
    finally:
        auditor.close()
    if as_json:
        click.echo(json.dumps(verify_json(result), indent=2))
    else:
        _print(verify_lines(result, verbose=every_endpoint))
        click.secho(verdict(result), fg="red" if result.differences else "green", bold=True)
    sys.exit(1 if result.differences else 0)


def _verify_against(config: Config, against: str, *, as_json: bool, every_endpoint: bool) -> NoReturn:
    """Compare what is stored with another source or place, and exit."""
    from f1hbase.composition import classification_source, open_reader, source_recipe
    from f1hbase.operations.verify.classifications import ClassificationRequest, compare_classifications
    from f1hbase.operations.verify.comparing import ComparisonRequest, compare
    from f1hbase.operations.verify.comparison_report import comparison_json, comparison_lines, comparison_verdict

    settings = config.settings
    settings.check()
    if len(settings.to) > 1 and config.origins["to"] == "given":
        raise click.UsageError("--to: verify looks at one place at a time.")
    if against == settings.to[0]:
        raise click.UsageError(f"--against {against}: that is what is to be compared; name another place, or --to.")
    set_up_logging(sys.stderr, None)
    tell(config)
    patience = settings.patience.total_seconds()
    history = classification_source(config, against)
    if history is not None:
        of_history = ClassificationRequest(settings.selection, history, against, patience)
        result = compare_classifications(of_history, open_reader(config, settings.to[0]), make_counter)
    else:
        request = ComparisonRequest(settings.selection, source_recipe(config, against), against, patience)
        result = compare(request, open_reader(config, settings.to[0]), make_counter)
    if as_json:
        click.echo(json.dumps(comparison_json(result), indent=2))
    else:
        _print(comparison_lines(result, verbose=every_endpoint))
        click.secho(comparison_verdict(result), fg="red" if result.differences else "green", bold=True)
    sys.exit(1 if result.differences else 0)


@cli.command("rollback", short_help="Delete what a run, a session or a meeting wrote.")
@click.option("--run", default="", metavar="ID", help="What this run loaded; 'status' names the last run.")
@click.option("--session-key", "sessions", type=int, multiple=True, metavar="K", help="All of a session; repeatable.")
@click.option("--meeting-key", "meetings", type=int, multiple=True, metavar="K", help="All of a meeting; repeatable.")
@click.option("--dry-run", "only_show", is_flag=True, help="Say what would be deleted; touch nothing.")
@click.option("--yes", is_flag=True, help="Do not ask; for scripts.")
@click_options(("to", *_WHERE, "patience"))
def rollback_command(
    *, run: str, sessions: tuple[int, ...], meetings: tuple[int, ...], only_show: bool, yes: bool, **options: Any
) -> None:
    """Delete what a run, a session or a meeting has in HBase or in a landing zone, after a question.

    In HBase these are rows and the lines in the reports, in a landing zone manifests, answers and the files made of
    them. It can be interrupted and run again: what is left meanwhile counts as not loaded.

    \b
    Examples:
      rollback --session-key 9159 --dry-run      only say what would be deleted
      rollback --meeting-key 1240 --yes          a meeting and its sessions, without a question
      rollback --run 20261122T053000.000000Z-3f9a1c
      rollback --to ./zone --session-key 9159    of a landing zone

    \b
    Exit codes:
      0 done    1 it is being loaded, or "no" was answered    2 wrong usage, or no such place, run, session or meeting
      3 the store away
    """
    from f1hbase.cli.deletion import make_deletion_display
    from f1hbase.composition import open_rollback
    from f1hbase.operations.rollback.base import Target

    set_up_logging(sys.stderr, None)
    if [bool(run), bool(sessions), bool(meetings)].count(True) != 1:
        raise click.UsageError("say what to delete: --run ID, --session-key K or --meeting-key K, one kind at a time.")
    config = config_of(options)
    if len(config.settings.to) > 1 and config.origins["to"] == "given":
        raise click.UsageError("--to: rollback changes one place at a time.")
    tell(config)
    rollback = open_rollback(config, Target(run, sessions, meetings))
    _print(rollback.describe())
    if only_show:
        return
    if not (yes or (sys.stdin and sys.stdin.isatty())):
        raise click.UsageError("nothing was deleted: there is no terminal to ask on; add --yes to delete it.")
    rollback.refuse_if_being_loaded()
    if not yes and not click.confirm("Delete it?"):
        raise click.ClickException("nothing was deleted")
    rollback.carry_out(lambda expected: make_deletion_display(expected, terminal()))


@cli.command("serve", short_help="Serve stored records as the OpenF1 API does, and as web pages.")
@click.option(
    "--from",
    "places",
    multiple=True,
    required=True,
    metavar="PLACE",
    help=(
        "hbase, the path or URL of a landing zone, or a folder of <endpoint>.jsonl[.gz], at any depth; such folders "
        "are repeatable, all of them being one API."
    ),
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen; by default only this machine.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option(
    "--empty",
    default="list",
    show_default=True,
    type=click.Choice(["list", "404"]),
    help="An answer without a record: 200 [] as OpenF1's own software, or 404 as its host.",
)
@click.option("--max-rows", type=click.IntRange(1), metavar="N", help="Answers with more records are a 422.")
@click.option(
    "--max-seconds",
    default=10.0,
    show_default=True,
    type=click.FloatRange(0.1, 3600),
    metavar="S",
    help="A query that has no answer by then is a 500.",
)
@click.option("--public", is_flag=True, help="Whoever reaches the server may ask it, without a token.")
@click.option(
    "--cors", "origins", multiple=True, metavar="ORIGIN",
    help="A web page whose scripts may read answers, such as https://example.org; repeatable, * for all.",
)  # fmt: skip
@click_options((*_WHERE, "hbase_timeout"))
def serve_command(
    *,
    places: tuple[str, ...],
    host: str,
    port: int,
    empty: str,
    max_rows: int | None,
    max_seconds: float,
    public: bool,
    origins: tuple[str, ...],
    **options: Any,
) -> None:
    """Answer /v1/<endpoint> as the OpenF1 API does, and show it as web pages, from what is stored. Asks no API.

    It listens on this machine only. Any other --host needs F1HBASE_SERVE_TOKEN in the environment, which requests must
    then show (Authorization: Bearer ...), or --public. /docs says what can be asked.

    \b
    Examples:
      serve --from hbase
      serve --from s3://bucket/f1 --max-rows 50000
      serve --from out/weekend
      curl 'http://127.0.0.1:8000/v1/laps?session_key=latest&driver_number=1&lap_duration<95'

    \b
    Exit codes:
      0 stopped by Ctrl-C or SIGTERM    2 wrong usage, or nothing that can be served
      3 the address is taken, or HBase does not answer
    """  # fmt: skip
    from f1hbase.composition import open_record_store
    from f1hbase.serve.app import EMPTY_FORMS, create_app
    from f1hbase.serve.run import open_files, serve
    from f1hbase.serve.security import access_of

    set_up_logging(sys.stderr, None)
    config = config_of(options)
    tell(config)
    access = access_of(host, public=public, origins=origins)
    store = open_record_store(config, places, max_seconds, lambda folders: open_files(folders, sys.stderr, max_seconds))
    pages = _pages(config, places, store)
    app = create_app(store, max_rows=max_rows, empty=EMPTY_FORMS[empty], access=access, pages=pages)
    serve(app, host, port, click.echo, has_pages=pages is not None)


def _pages(config: Config, places: Sequence[str], store: RecordStore) -> SharedStore | None:
    """Return what the web pages of `serve` are about; None, and why is said, where there are none."""
    from f1hbase.composition import shared_store
    from f1hbase.frames.needs import MissingPackageError

    try:
        return shared_store(config, places, store)
    except MissingPackageError as error:
        click.echo(f"no web pages: {error}", err=True)
        return None


_LIVE = (
    "source", "to", "layout", "meeting_key", "session_key", "instance", "begin_before", "idle_timeout", "no_archive",
    "serve", "metrics", "hub_url", "mqtt_url", "livetiming_url", "api_url", "rate", "request_timeout", *_WHERE,
    "compression", "patience", "hbase_timeout", "on_failure", "log_file", "quiet", "verbose",
)  # fmt: skip


@cli.command("live", short_help="Store records as they happen, until the session is over.")
@click_options(_LIVE)
def live_command(**options: Any) -> None:
    """Record the session that is on, or wait for the next one; two instances at once are better than one.

    Begins two hours before the session, ends when it is over or nothing has come for 90 minutes, and loads it once
    more from the archive then. What HBase does not take waits in a file.

    \b
    Examples:
      live --from livetiming                                     the session that is on, or the next one
      live --from livetiming --session-key 9873 --no-archive     that one, and nothing after it
      live --from livetiming --to hbase --to s3://bucket/live --layout raw-live
      live --from livetiming --serve 127.0.0.1:8080              when it is told to: curl -X POST 127.0.0.1:8080
      live --from livetiming --metrics 9465                      what it records, for Prometheus
      live --from openf1                                         OpenF1's feed, for its subscribers

    \b
    Exit codes:
      0 recorded    1 something went to quarantine, or could not be stored or loaded again    2 wrong usage
      3 HBase or the feed away    130 interrupted: start it again to go on
    """
    from f1hbase.composition import live_parts, live_request
    from f1hbase.pipeline.live.service import record_until_told, serve_until_told
    from f1hbase.pipeline.load import run_async

    config = config_of(options)
    settings = config.settings
    if settings.quiet and settings.verbose:
        raise ConfigError("--quiet and --verbose exclude each other.")
    set_up_logging(sys.stdout, settings.log_file, quiet=settings.quiet, verbose=settings.verbose)
    tell(config)
    if settings.serve:
        if config.origins["metrics"] == "given":
            raise ConfigError("--metrics: with --serve the figures are at /metrics of that address; leave it out.")
        token = os.environ.get(SERVE_VARIABLE, "")
        served = serve_until_told(
            settings.serve, token, live_request(config), lambda: live_parts(config), ON_FAILURE.tell
        )
        code = run_async(served)
        ON_FAILURE.tell(code)
        logging.shutdown()
        # A load in a thread cannot be ended otherwise; it can be run again wherever it was.
        os._exit(code)
    sys.exit(record_until_told(live_request(config), live_parts(config), metrics=settings.metrics).exit_code)


def _plan(config: Config) -> Plan:
    """Ask the source what there is of what the settings name."""
    from f1hbase.composition import selection_of, source_recipe
    from f1hbase.pipeline.load import STARTUP_PATIENCE_SECONDS, plan_load
    from f1hbase.pipeline.parts import Recipe

    return plan_load(Recipe(source_recipe(config), ()), selection_of(config), STARTUP_PATIENCE_SECONDS)


def _print_plan(config: Config, *, as_json: bool = False) -> None:
    from f1hbase.api import estimate_of
    from f1hbase.operations.estimate.lines import estimate_json, estimate_lines

    estimate = estimate_of(config)
    if as_json:
        click.echo(json.dumps(estimate_json(estimate), indent=2))
    else:
        _print(estimate_lines(estimate))


def _print(lines: Iterable[str]) -> None:
    """Print lines, each made harmless: names and reasons in them are other people's words."""
    for line in lines:
        click.echo(safe(redacted(line), _LONGEST_LINE))


def _print_errors(lines: Iterable[str]) -> None:
    """Print what is wrong with options and settings, of which one may have been given what belongs to another."""
    for line in lines:
        click.echo(safe(redacted(line), _LONGEST_LINE), err=True)


def main() -> None:
    """Run the command line; every error that a user can make is one line."""
    # To be ended politely is to be interrupted, whoever asks for it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Without a standard output (`>&-`) there is nobody to tell, but still a load to do.
    sys.stdout = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for good
    sys.stderr = sys.stderr or sys.stdout
    for argument in sys.argv[1:]:
        register_secrets_in(argument)  # where it belongs to no option, too
    _arm_by_environment()
    reason = ""
    try:
        sys.exit(cli.main(standalone_mode=False))
    except click.ClickException as error:
        shown = StringIO()
        error.show(file=shown)
        _print_errors(shown.getvalue().splitlines())
        code, reason = error.exit_code, error.format_message()
    except ConfigError as error:
        _print_errors([f"Error: {error}"])
        code, reason = error.exit_code, str(error)
    except F1HBaseError as error:
        if not logging.getLogger("f1hbase").handlers:
            set_up_logging(sys.stdout, None)
        _log.error("%s", error)
        code, reason = error.exit_code, str(error)
    except (click.Abort, KeyboardInterrupt):
        _log.warning("interrupted")
        code = INTERRUPTED
    except BrokenPipeError:
        # `| head` has seen enough; what is still buffered must not be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        if error.errno != errno.ENOSPC:
            ON_FAILURE.tell(1, f"{type(error).__name__}: {error}")
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        reason = "cannot write the output: no space left on device"
        print(f"f1hbase: {reason}", file=sys.stderr)  # noqa: T201
        code = 1
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except Exception as error:
        ON_FAILURE.tell(1, f"{type(error).__name__}: {error}")
        raise
    _tell_of_failure(code, reason)
    sys.exit(code)


def _arm_by_environment() -> None:
    """Set who is told of a command line that cannot even be read, where the environment says it."""
    command = next((word for word in sys.argv[1:] if not word.startswith("-")), "load")
    command = command if command in cli.commands else "load"
    if any(parameter.name == "on_failure" for parameter in cli.commands[command].params):
        arm(None, None, command)


def _tell_of_failure(code: int, reason: str) -> None:
    try:
        ON_FAILURE.tell(code, reason)
    except KeyboardInterrupt:
        _log.warning("interrupted while the failure was told")


@cli.command("export", short_help="Write what is loaded as Parquet, CSV or JSON lines.")
@click_options(
    (
        "source", "to", "format", *_ENGINE, "snapshot", *_WHAT, *_WHERE, "hbase_timeout", "patience", "on_failure",
        "log_file", "quiet", "verbose",
    )
)  # fmt: skip
def export_command(**options: Any) -> None:
    """Write what is loaded in HBase or a landing zone as files; run it again to bring them up to date.

    A file holds an endpoint of a session, and is written again only if what is stored has changed.

    \b
    Examples:
      export --to ./tables                              all that is in HBase, as Parquet
      export --to s3://bucket/tables --year 2024        a season
      export --to ./laps --format csv --endpoint laps --session-key 9558
      export --from ./zone --to ./lines --format jsonl  a landing zone as JSON lines
      export --to s3://bucket/tables --engine spark     all that is in HBase, by Spark

    \b
    Exit codes:
      0 all written    1 something stored is damaged    2 wrong usage    3 HBase or the target away
    """
    from f1hbase.composition import export_engine, open_reader
    from f1hbase.frames.needs import need
    from f1hbase.stores.files.objects import Objects
    from f1hbase.stores.files.urls import parse_location

    config = config_of(options)
    settings = config.settings
    settings.check()
    if len(settings.to) != 1 or settings.to[0] == "hbase":
        raise click.UsageError("say where the files go: one --to with a folder or URL, such as --to ./tables.")
    for package in ("pyarrow", "numpy"):
        need(package, "export")
    from f1hbase.operations.export.run import export
    from f1hbase.pipeline.display import LineCounter

    set_up_logging(sys.stdout, settings.log_file, quiet=settings.quiet, verbose=settings.verbose)
    tell(config)
    target = Objects(parse_location(settings.to[0]), settings.patience.total_seconds())
    place = "hbase" if config.origins["source"] == "default" else settings.source
    shown = LineCounter if settings.quiet else make_counter
    engine = export_engine(config, place, lambda: make_task_display(terminal(), quiet=settings.quiet))
    try:
        result = export(open_reader(config, place), target, settings.selection, settings.format, shown, engine)
    finally:
        if engine is not None:
            engine.close()
    sys.exit(result.exit_code)


cli.add_command(plot_command)
cli.add_command(ingest_command)
