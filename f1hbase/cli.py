"""The command line."""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from f1hbase import __version__
from f1hbase.collector import EXIT_INTERRUPTED
from f1hbase.credentials import Credentials
from f1hbase.errors import F1HBaseError
from f1hbase.load import forecast, load, open_reports, plan_from_api
from f1hbase.logs import set_up_logging
from f1hbase.progress import duration
from f1hbase.rates import Rate
from f1hbase.settings import Settings, click_options, credentials_of, defaults, warn_of_unknown_variables
from f1hbase.status import read_status, status_json, status_lines

_log = logging.getLogger(__name__)

_WHERE = ("hbase_host", "hbase_port", "hbase_transport", "hbase_protocol", "table_prefix")
_WHAT = ("mode", "num_sessions", "year", "date", "meeting_key", "session_key", "endpoint", "driver")
_API = ("api_url", "rate", "max_retries", "retry_delay", "request_timeout", "max_concurrent_requests")


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
      nohup python hbase_populate_openF1.py > populate.out 2>&1 &

    \b
    Exit codes:
      0 all loaded    1 some failed, run again    2 wrong usage    3 HBase or the API away    130 interrupted

    Every option is also F1HBASE_<OPTION> in the environment and a key of f1hbase.toml.
    """


@cli.command("load", short_help="Load what is missing (the default).")
@click_options()
@click.pass_context
def load_command(ctx: click.Context, /, **options: Any) -> None:
    """Load what is missing; run it again to update or to resume.

    \b
    Examples:
      load --session-key 9159                    one session
      load --mode latest --num-sessions 5        the five latest
      load --year 2023 --year 2024               two seasons
      load --date 2024-12-07 --date 2024-12-08   two days
      load --meeting-key 1240 --dry-run          only say what would be loaded
    """
    settings = Settings(**options)
    settings.check()
    if settings.dry_run:
        set_up_logging(sys.stdout, None, quiet=settings.quiet, verbose=settings.verbose)
        _print_plan(settings, credentials_of(ctx))
        return
    set_up_logging(sys.stdout, settings.log_file, quiet=settings.quiet, verbose=settings.verbose)
    warn_of_unknown_variables()
    sys.exit(load(settings, credentials_of(ctx)))


@cli.command("plan", short_help="Say what load would ask for; touch nothing.")
@click_options((*_WHAT, *_API, *_WHERE, "window", "response_budget", "refresh"))
@click.pass_context
def plan_command(ctx: click.Context, /, **options: Any) -> None:
    """Say what `load` with the same options would ask for: sessions, units and requests. Touches nothing."""
    settings = defaults(**options)
    settings.check()
    set_up_logging(sys.stdout, None)
    warn_of_unknown_variables()
    _print_plan(settings, credentials_of(ctx))


@cli.command("status", short_help="What is loaded, what failed and why.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click_options(_WHERE)
def status_command(*, as_json: bool, **options: Any) -> None:
    """Say from f1_reports what is loaded, what failed and why, by season, meeting and session."""
    set_up_logging(sys.stderr, None)
    reports = open_reports(defaults(**options))
    scopes, runs = read_status(reports), reports.runs()
    if as_json:
        click.echo(json.dumps(status_json(scopes, runs), indent=2))
    else:
        for line in status_lines(scopes, runs):
            click.echo(line)


def _print_plan(settings: Settings, credentials: Credentials | None) -> None:
    plan, _ = plan_from_api(settings, credentials)
    forecasts = forecast(plan, settings)
    layout = "{:>8}{:>9}  {:<38}{:>17}{:>9}{:>10}{:>13}"
    click.echo(layout.format("meeting", "session", "", "begins (UTC)", "units", "requests", "rows, most"))
    for item in forecasts:
        scope = item.scope
        begins = f"{scope.date_start:%Y-%m-%d %H:%M}" if scope.date_start else "?"
        about = "~" if item.estimated else ""
        name = f"{scope.name}{' (cancelled)' if scope.cancelled else ''}"
        click.echo(
            layout.format(
                scope.meeting_key,
                scope.session_key or "-",
                name[:37],
                begins,
                f"{about}{item.units:,}",
                f"{about}{item.requests:,}",
                f"{item.rows:,}",
            )
        )
    requests = sum(item.requests for item in forecasts)
    least = _time_at_limits(requests, settings.rates(authenticated=credentials is not None))
    about = "about " if any(item.estimated for item in forecasts) else ""
    click.echo(
        f"{len(forecasts)} sessions, {about}{sum(item.units for item in forecasts):,} units in "
        f"{about}{requests:,} requests{least}; at most about {sum(item.rows for item in forecasts):,} rows "
        "of car and location data, which is nearly all there is."
    )
    if about:
        click.echo("~ an estimate: 20 drivers where they are not known yet, usual sizes with --window auto.")


def _time_at_limits(requests: int, rates: Sequence[Rate]) -> str:
    if not rates:
        return ""
    seconds = max(requests / rate.limit * rate.seconds for rate in rates)
    return f", at least {duration(seconds)} at the API's limits"


def main() -> None:
    """Run the command line; every error that a user can make is one line."""
    # Without a standard output (`>&-`) there is nobody to tell, but still a load to do.
    sys.stdout = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for good
    sys.stderr = sys.stderr or sys.stdout
    try:
        sys.exit(cli.main(standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except F1HBaseError as error:
        if not logging.getLogger("f1hbase").handlers:
            set_up_logging(sys.stdout, None)
        _log.error("%s", error)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _log.warning("interrupted")
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # `| head` has seen enough; what is still buffered must not be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print("f1hbase: cannot write the output: no space left on device", file=sys.stderr)  # noqa: T201
        sys.exit(1)
