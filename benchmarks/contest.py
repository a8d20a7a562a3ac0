"""The contest: all contenders on the same records, in turns, and what came of it as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks import records
from benchmarks.contenders import (
    LIMIT,
    LIMIT_NAME,
    LOAD,
    NAIVE,
    PE_TABLE,
    Contender,
    PerformanceEvaluation,
    Scene,
    WholeLoad,
    ZoneLoad,
    limit,
    naive,
    naive_batches,
    put_records,
    put_rows,
)
from benchmarks.errors import BenchmarkError
from benchmarks.measuring import Measurement
from benchmarks.options import MEETINGS, Options, Tell
from benchmarks.records import CELLS
from benchmarks.results import Summary, markdown_table, megabytes, number, ratio, spread, summarize
from benchmarks.servers import ReplayServer
from benchmarks.stage import Stage

_ROUNDS = 5
_BATCHES_ARE_FASTER = 25
"""How many times more records the naive way gets with batches, so that both take some seconds."""


def run(stage: Stage, options: Options, tell: Tell) -> str:
    """Hold the contest and return its tables.

    Args:
        stage: HBase.
        options: Who takes part, with how many records, and how often.
        tell: Hears how it goes.
    """
    tell("making the records")
    folder = stage.scratch / "contest"
    what = (
        records.simulated(folder, rows=options.rows, meetings=MEETINGS)
        if options.data is None
        else records.real(options.data, folder, rows=options.rows, meetings=MEETINGS)
    )
    tables = stage.create("bench", what.meetings)
    rounds = options.rounds or _ROUNDS
    with ReplayServer(folder) as api:
        everybody = [
            one for one in contenders(Scene(stage, api, what, tables), options)
            if not options.only or any(word in _title(one) for word in options.only)
        ]  # fmt: skip
        if not everybody:
            raise BenchmarkError(f"--only {' '.join(options.only)}: no contender is called so")
        runs = compete(everybody, rounds=rounds, warm_up=options.warm_up, tell=tell)
    stage.drop(tables.data, tables.reports, PE_TABLE)
    intro = (
        f"{what.car_data:,} {what.source} car_data records of {len(what.meetings)} meetings, {CELLS} cells a row; "
        f"medians of {rounds} rounds."
    )
    return f"{intro}\n\n{report(everybody, runs)}"


def contenders(scene: Scene, options: Options) -> list[Contender]:
    """Return everybody who takes part, in the order of the table."""
    counts = options.processes
    everybody: list[Contender] = [limit(scene, count, rows) for count in counts for rows in options.frame_rows]
    extremes = sorted({min(counts), max(counts)})
    everybody += [PerformanceEvaluation(scene.stage, scene.records, count) for count in extremes]
    everybody += [put_rows(scene, count) for count in counts]
    everybody += [put_records(scene, count) for count in counts]
    everybody += [WholeLoad(scene, count, window) for count in counts for window in ("auto", "15m")]
    everybody += [ZoneLoad(scene, count) for count in counts]
    everybody += [naive(scene, options.naive_rows), naive_batches(scene, options.naive_rows * _BATCHES_ARE_FASTER)]
    return everybody


def compete(everybody: Sequence[Contender], *, rounds: int, warm_up: bool, tell: Tell) -> list[list[Measurement]]:
    """Let all run in turns.

    Args:
        everybody: The contenders.
        rounds: How often each runs; every other round goes backwards, so that nobody always follows the same one.
        warm_up: Whether there is a round before that does not count, for HBase's JVMs; it also counts what each puts.
        tell: Hears how it goes.

    Returns:
        The runs of each contender.
    """
    runs: list[list[Measurement]] = [[] for _ in everybody]
    for turn in range(0 if warm_up else 1, rounds + 1):
        order = range(len(everybody)) if turn % 2 else range(len(everybody) - 1, -1, -1)
        for place in order:
            contender = everybody[place]
            contender.prepare()
            measured = contender.run()
            if turn == 0 or (turn == 1 and not warm_up):
                contender.check()
            if turn:
                runs[place].append(measured)
            title = f"round {turn}" if turn else "warm-up"
            tell(f"{title}: {_title(contender)}: {number(measured.rate)} rows/s in {measured.seconds:.2f} s")
    return runs


def report(everybody: Sequence[Contender], runs: Sequence[Sequence[Measurement]]) -> str:
    """Return the tables: all contenders, the frames tried for the limit, and the parts of the whole loads."""
    summaries = {contender: summarize(measured) for contender, measured in zip(everybody, runs, strict=True)}
    limits = {contender: summary for contender, summary in summaries.items() if contender.kind == LIMIT}
    best = max(limits, key=lambda contender: limits[contender].rate.median, default=None)
    slow = next((contender for contender in summaries if contender.kind == NAIVE), None)
    top = None if best is None else summaries[best].rate
    bottom = None if slow is None else summaries[slow].rate
    rows = []
    for contender, summary in _shown(summaries):
        rows.append(
            [
                contender.name,
                str(contender.processes),
                number(summary.rate.median),
                spread(summary.rate),
                ratio(summary.rate, top),
                ratio(summary.rate, bottom),
                *(number(summary.cpu.get(name)) for name in ("clients", "gateway", "HBase", "API")),
                " / ".join(megabytes(size) for size in summary.peak.values()) or "-",
                number(summary.rows),
            ]
        )
    header = [
        "contender", "processes", "rows/s", "least to most", "of the limit", "x naive",
        "CPU s: clients", "gateway", "HBase", "API", "peak MB a process", "rows",
    ]  # fmt: skip
    parts = [markdown_table(header, rows)]
    if best is not None:
        parts.append(_frames_table(limits))
    loads = {contender: summary for contender, summary in summaries.items() if contender.kind == LOAD}
    if loads:
        parts.append(_loads_table(loads))
    return "\n\n".join(parts)


def _shown(summaries: Mapping[Contender, Summary]) -> list[tuple[Contender, Summary]]:
    """Of the limit only the best frames for each number of connections."""
    best: dict[int, Contender] = {}
    for contender, summary in summaries.items():
        if contender.kind == LIMIT:
            rival = best.setdefault(contender.processes, contender)
            if summary.rate.median > summaries[rival].rate.median:
                best[contender.processes] = contender
    return [
        (contender, summary)
        for contender, summary in summaries.items()
        if contender.kind != LIMIT or contender is best[contender.processes]
    ]


def _frames_table(limits: Mapping[Contender, Summary]) -> str:
    rows = [
        [contender.name.partition(", ")[2], str(contender.processes), number(summary.rate.median), spread(summary.rate)]
        for contender, summary in limits.items()
    ]
    intro = f"All that was tried for {LIMIT_NAME}; the highest median is what the ratios above are to:"
    return f"{intro}\n\n{markdown_table(['frames', 'connections', 'rows/s', 'least to most'], rows)}"


def _loads_table(loads: Mapping[Contender, Summary]) -> str:
    rows = []
    for contender, summary in loads.items():
        notes = summary.notes
        rows.append(
            [
                contender.name.partition(": ")[2],
                str(contender.processes),
                number(notes["first request"]),
                number(notes["first data request"]),
                number(notes["last row"]),
                number(notes["whole"]),
                number(notes["told"]),
                number(summary.rows / notes["whole"]),
                number(summary.rows / (notes["last row"] - notes["first data request"])),
            ]
        )
    header = [
        "whole load", "processes", "first request", "first of a worker", "last row", "end", "the run's own",
        "rows/s, start to end", "rows/s, workers only",
    ]  # fmt: skip
    intro = (
        "When what happened in a whole load, in seconds since its process was started (medians). The rate in the table "
        "above is from the first request to the last acknowledged row:"
    )
    return f"{intro}\n\n{markdown_table(header, rows)}"


def _title(contender: Contender) -> str:
    return f"{contender.name} ({contender.processes})"
