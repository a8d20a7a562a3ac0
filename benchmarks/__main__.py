"""The command line: `benchmarks/run.sh`, which is `python -m benchmarks`."""

from __future__ import annotations

import shlex
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic

import click

from benchmarks.errors import BenchmarkError
from benchmarks.options import FULL, QUICK, Options
from benchmarks.results import machine, write_part
from benchmarks.servers import ROOT
from benchmarks.stage import open_stage
from benchmarks.studies import STUDIES

_PAGE = ROOT / "docs" / "performance.md"


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("studies", nargs=-1, metavar="[STUDY]...", type=click.Choice(["all", *STUDIES]))
@click.option("--rounds", type=click.IntRange(1), metavar="N", help="How often everything is measured.")
@click.option(
    "--rows", type=click.IntRange(1000), metavar="N", help=f"Records that each contender loads.  [default: {FULL.rows}]"
)
@click.option("--only", multiple=True, metavar="TEXT", help="Only contenders whose title has this in it; repeatable.")
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Load records from the files of a real session here instead of simulated ones.",
)
@click.option("--copies", type=click.IntRange(1), metavar="N", help="Meetings of the spark studies.  [default: 4]")
@click.option(
    "--zone",
    type=click.Path(path_type=Path, file_okay=False),
    help="The landing zone of the spark studies; filled if it is not there, and kept, so that parts can be run apart.",
)
@click.option("--compare", is_flag=True, help="Compare the tables of the spark study cell by cell (minutes).")
@click.option("--quick", is_flag=True, help="A smoke run: few records, one round; writes no page but that of --page.")
@click.option(
    "--page",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The page whose generated parts are written.  [default: docs/performance.md]",
)
def main(
    studies: tuple[str, ...],
    rounds: int | None,
    rows: int | None,
    only: tuple[str, ...],
    data: Path | None,
    copies: int | None,
    zone: Path | None,
    compare: bool,
    quick: bool,
    page: Path | None,
) -> None:
    """Measure f1hbase beside HBase's own limit and the naive way.

    \b
    STUDY is one of
      contest   the gateway's limit, f1hbase's put path and whole load, and the naive way, in turns (the default)
      choices   how many connections and how large calls the put path is fastest with
      storage   bytes a row on disk, with the project's schema and with default families
      growth    the time for 0.5, 1, 2 and 4 million rows
      memory    of parent and worker, over a whole session at full speed
      startup   from the start of the process to the first request
      requests  how many a real test day and a simulated weekend take, and how large the answers are
      status    of a season's 100,000 unit rows
      zones     records a second from the API into a landing zone
      metrics   what showing them to Prometheus costs
      spark     from a landing zone by each engine, ImportTsv and PerformanceEvaluation
      spark-growth   one meeting, two, four by Spark
      spark-export   from a table to files by each engine
      all       all of these

    Starts an HBase and a replay server of its own and stops them at the end. Prints tables, and writes those that are
    complete into docs/performance.md.
    """
    chosen = list(STUDIES) if "all" in studies else list(dict.fromkeys(studies)) or ["contest"]
    size = QUICK if quick else FULL
    options = replace(
        size, rounds=rounds or size.rounds, rows=rows or size.rows, only=only, data=data,
        copies=copies or size.copies, zone=zone, compare=compare or size.compare,
    )  # fmt: skip
    # Without paths: the page is for everybody.
    shown = {
        "--rounds": rounds,
        "--rows": rows,
        "--data": data and "FOLDER",
        "--copies": copies,
        "--quick": "" if quick else None,
    }
    words = [word for name, value in shown.items() if value is not None for word in (name, str(value)) if word]
    command = shlex.join(["benchmarks/run.sh", *studies, *words, *(word for text in only for word in ("--only", text))])
    target = page or (None if quick or only else _PAGE)
    # SIGTERM ends it as Ctrl-C does: by way of everything that has to be stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _measure(chosen, options, target, command)
    except BenchmarkError as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        click.echo("interrupted; everything is stopped", err=True)
        sys.exit(130)


def _measure(chosen: Sequence[str], options: Options, page: Path | None, command: str) -> None:
    begun = monotonic()

    def tell(line: str) -> None:
        click.echo(f"[{monotonic() - begun:6.1f} s] {line}", err=True)

    with tempfile.TemporaryDirectory(prefix="f1hbase-benchmark-", ignore_cleanup_errors=True) as scratch:
        tell("starting HBase")
        with open_stage(Path(scratch)) as stage:
            where = machine(stage.hbase.version)
            for name in chosen:
                tell(f"study: {name}")
                result = STUDIES[name](stage, options, tell)
                text = f"{result}\n\n{where}; `{command}`."
                click.echo(f"\n## {name}\n\n{text}\n")
                if page is not None:
                    write_part(page, name, text)


if __name__ == "__main__":
    main()
