"""The memory of parent and worker while one whole session is loaded at full speed."""

from __future__ import annotations

from statistics import median

from benchmarks.loads import run_load
from benchmarks.measuring import Course
from benchmarks.options import Options, Tell
from benchmarks.records import YEAR
from benchmarks.results import markdown_table, megabytes, number
from benchmarks.servers import ReplayServer
from benchmarks.stage import Stage
from f1hbase.stores.hbase.schema import Layout, Tables, creation_script
from simulator import Plan, simulate

_LOOK_EVERY = 0.5


def run(stage: Stage, options: Options, tell: Tell) -> str:
    """Load a race of twenty drivers, all endpoints, in both forms, and watch."""
    folder = stage.scratch / "memory"
    tell("making the records")
    for _ in simulate(folder, Plan(year=YEAR, sessions=("race",), minutes=options.minutes)):
        pass
    tables = Tables("bench_memory")
    stage.shell.run(creation_script(tables, Layout()))
    lines = []
    rows = 0
    with ReplayServer(folder) as api:
        for form, arguments in (("--window auto", []), ("--window 15m", ["--window", "15m"])):
            stage.empty(tables.data, tables.reports)
            load = run_load(stage, api, tables, "--processes", "1", *arguments, look_every=_LOOK_EVERY)
            tell(f"{form}: {load.rows:,} rows in {load.seconds:.1f} s")
            rows = load.rows
            for course in load.courses:
                first, last = quarters(course)
                lines.append(
                    [form, course.kind, megabytes(course.peak), megabytes(first), megabytes(last),
                     f"{(last - first) / 1e6:+.1f}", number(len(course.rss))]
                )  # fmt: skip
    stage.drop(tables.data, tables.reports)
    table = markdown_table(
        ["load", "process", "peak MB", "MB, first quarter", "MB, last quarter", "change", "samples"],
        lines, texts=2,
    )  # fmt: skip
    return (
        f"A whole race with {rows:,} rows of all endpoints, one worker, no limit on requests. RSS, looked at every "
        f"{_LOOK_EVERY} s; the quarters are medians of the first and the last quarter of the time.\n\n{table}"
    )


def quarters(course: Course) -> tuple[float, float]:
    """Return the medians of the first and of the last quarter of what was seen, in bytes."""
    size = max(1, len(course.rss) // 4)
    return median(course.rss[:size]), median(course.rss[-size:])
