"""Whether twice the rows take twice the time: whole loads of growing size."""

from __future__ import annotations

from benchmarks import records
from benchmarks.loads import endpoints_but, run_load
from benchmarks.options import Options, Tell
from benchmarks.results import Spread, markdown_table, number, spread
from benchmarks.servers import ReplayServer
from benchmarks.stage import Stage
from f1hbase.model.catalog import ENDPOINTS

_ROUNDS = 3
_MEETING_ROWS = 125_000
_PROCESSES = 2


def run(stage: Stage, options: Options, tell: Tell) -> str:
    """Load meetings of one size, more of them each time, in turns."""
    steps = options.growth_rows
    each = min(_MEETING_ROWS, steps[0])
    tell("making the records")
    model = records.simulated(stage.scratch / "growth-model", rows=each, meetings=1).meetings[0]
    counts = [round(step / each) for step in steps]
    made = records.cloned(model, stage.scratch / "growth", meetings=max(counts))
    keys = [str(meeting.session.meeting_key) for meeting in made.meetings]
    tables = stage.create("bench_growth", made.meetings)
    seconds: dict[int, list[float]] = {count: [] for count in counts}
    rows: dict[int, int] = {}
    tell("starting the replay server")
    with ReplayServer(made.folder) as api:
        for turn in range(options.rounds or _ROUNDS):
            for count in counts:
                stage.empty(tables.data, tables.reports)
                chosen = [word for key in keys[:count] for word in ("--meeting-key", key)]
                chosen += ["--processes", str(_PROCESSES), *endpoints_but("location", of=list(ENDPOINTS))]
                load = run_load(stage, api, tables, *chosen)
                rows[count] = load.rows
                seconds[count].append(load.seconds)
                tell(f"round {turn + 1}: {load.rows:,} rows in {load.seconds:.1f} s")
    stage.drop(tables.data, tables.reports)
    lines = []
    first: Spread | None = None
    for count in counts:
        times = Spread(tuple(seconds[count]))
        first = first or times
        lines.append(
            [
                number(rows[count]),
                str(count),
                number(times.median),
                spread(times),
                number(times.median / rows[count] * 1e6),
                f"{times.median / first.median:.2f} for {rows[count] / rows[counts[0]]:.2f}",
            ]
        )
    table = markdown_table(
        ["rows", "meetings", "seconds", "least to most", "seconds a million rows", "times the time for times the rows"],
        lines, texts=0,
    )  # fmt: skip
    return (
        f"Whole loads from the API to the table, {_PROCESSES} meetings at a time, from the first request to the last "
        f"acknowledged row; medians of {options.rounds or _ROUNDS} rounds.\n\n{table}"
    )
