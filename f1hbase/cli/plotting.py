"""The command `plot`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from f1hbase import values
from f1hbase.cli.logs import set_up_logging
from f1hbase.cli.options import click_options, config_of, tell
from f1hbase.cli.parameters import Value
from f1hbase.credentials import redacted
from f1hbase.model.text import safe
from f1hbase.operations.plot.request import KINDS, PlotRequest

_WHERE = ("hbase_host", "hbase_port", "hbase_transport", "hbase_protocol", "table_prefix", "hbase_timeout", "patience")

_LONGEST_LINE = 1000


@click.command("plot", short_help="Draw a session: lap times, positions, stints, the track, telemetry.")
@click.argument("kind", type=click.Choice(KINDS), metavar="KIND")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="The picture: its name ends in .png, .svg or .pdf.",
)
@click.option(
    "--lap",
    "laps",
    type=Value("N", values.whole_number(1, 10_000)),
    multiple=True,
    help=(
        "Of telemetry and track: which lap; one for all drivers, one for each, or several of one driver.  [default: "
        "each driver's fastest]"
    ),
)
@click.option("--dark", is_flag=True, help="On a dark ground.")
@click_options(("source", "session_key", "driver", *_WHERE, "quiet"))
def plot_command(*, kind: str, output: Path, laps: tuple[int, ...], dark: bool, **options: Any) -> None:
    """Draw a chart of a session that is loaded in HBase (the default of --from) or in a landing zone.

    KIND is lap-times, positions, stints, track or telemetry.

    \b
    Examples:
      plot lap-times --session-key 9558 -o laps.png
      plot positions --session-key 9558 --from ./zone -o positions.svg
      plot stints --session-key 9558 --driver 44 --driver 63 -o stints.pdf
      plot track --session-key 9558 --driver 44 -o track.png
      plot telemetry --session-key 9558 --driver 44 --driver 63 -o fastest-laps.png
      plot telemetry --session-key 9558 --driver 44 --lap 20 --lap 40 -o two-laps.png

    \b
    Exit codes:
      0 drawn, what is missing is said    2 wrong usage, or nothing to draw    3 HBase or the store away
    """  # fmt: skip
    from f1hbase.composition import open_reader
    from f1hbase.frames.needs import need

    config = config_of(options)
    settings = config.settings
    settings.check()
    if len(settings.session_key) != 1:
        raise click.UsageError("say which session: one --session-key.")
    request = PlotRequest(kind, tuple(dict.fromkeys(settings.driver)), laps, output, dark)
    request.check()
    for package in ("matplotlib", "pyarrow", "numpy"):
        need(package, "plot")
    from f1hbase.frames.store import Store
    from f1hbase.operations.plot.run import plot

    set_up_logging(sys.stdout, None, quiet=settings.quiet)
    tell(config)
    place = "hbase" if config.origins["source"] == "default" else settings.source
    with Store(open_reader(config, place)) as store:
        plotted = plot(store.session(settings.session_key[0]), request)
    for note in plotted.missing:
        click.echo(safe(redacted(f"missing: {note}"), _LONGEST_LINE), err=True)
    if not settings.quiet:
        click.echo(safe(f"{plotted.output}: {plotted.title}", _LONGEST_LINE))
