"""What was chosen by measuring: how many connections a worker puts over, and how large a call becomes."""

from __future__ import annotations

from benchmarks import records
from benchmarks.contenders import Scene, put_records, row_connections
from benchmarks.contest import compete
from benchmarks.options import MEETINGS, Options, Tell
from benchmarks.results import markdown_table, number, spread, summarize
from benchmarks.servers import ReplayServer
from benchmarks.stage import Stage
from f1hbase.stores.hbase.frames import FRAME_BYTES

_ROUNDS = 3
_PROCESSES = (1, 4)
_CONNECTIONS = (1, 2, 4)
_FRAME_BYTES = (250_000,)


def run(stage: Stage, options: Options, tell: Tell) -> str:
    """Put the same records with each number of connections, and with each size of calls, in turns."""
    tell("making the records")
    folder = stage.scratch / "choices"
    what = records.simulated(folder, rows=options.rows // 3, meetings=MEETINGS)
    tables = stage.create("bench_choices", what.meetings)
    ways = [(processes, count, FRAME_BYTES) for processes in _PROCESSES for count in _CONNECTIONS]
    ways += [(processes, row_connections(processes), size) for processes in _PROCESSES for size in _FRAME_BYTES]
    rounds = options.rounds or _ROUNDS
    with ReplayServer(folder) as api:
        scene = Scene(stage, api, what, tables)
        everybody = [
            put_records(scene, processes, connections=count, frame_bytes=size, name=f"{count} of {size:,} bytes")
            for processes, count, size in ways
        ]
        runs = compete(everybody, rounds=rounds, warm_up=options.warm_up, tell=tell)
    stage.drop(tables.data, tables.reports)
    lines = []
    for (processes, count, size), measured in zip(ways, runs, strict=True):
        summary = summarize(measured)
        chosen = "chosen" if (count, size) == (row_connections(processes), FRAME_BYTES) else ""
        lines.append(
            [
                str(processes), str(count), f"{size:,}", number(summary.rate.median), spread(summary.rate),
                number(summary.cpu["clients"]), chosen,
            ]
        )  # fmt: skip
    table = markdown_table(
        ["processes", "connections each", "bytes a call", "rows/s", "least to most", "CPU s: clients", ""],
        lines, texts=0,
    )  # fmt: skip
    return (
        f"{what.car_data:,} simulated car_data records through `HBaseWriter.write`; medians of {rounds} rounds. A "
        f"slice of an answer is a call of some 500,000 bytes, if it is not cut.\n\n{table}"
    )
