"""From a message to its stored records: the latency of `live` at several speeds, with an HBase that runs already.

    python -m benchmarks.live_latency FOLDER --hbase-port 9090 --speed 1 --speed 10

FOLDER is what the live simulator plays: an archive, a simulated season or a recording. Latency is counted from the
arrival of a message until HBase has acknowledged all that was made of it at once; laps and stints, which wait to be put
in order, do not count. What the hub played is counted, too, so that what the recorder was late to read would show.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import psutil

ROOT = Path(__file__).resolve().parent.parent
_FIGURES = re.compile(r"([\d,]+) messages?, ([\d,]+) rows? stored.*latency p50 (\d+) ms, p99 (\d+) ms")
_PORT = re.compile(r"hub (http://\S+)/signalrcore")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.option("--hbase-host", default="127.0.0.1", show_default=True)
@click.option("--hbase-port", default=9090, show_default=True)
@click.option("--speed", "speeds", type=float, multiple=True, default=(1.0, 10.0), show_default=True)
@click.option("--seconds", default=60.0, show_default=True, help="How long each is played.")
@click.option("--skip", default=900.0, show_default=True, help="From which second of the session on.")
@click.option("--table-prefix", default="bench_live", show_default=True)
def main(
    folder: Path, hbase_host: str, hbase_port: int, speeds: tuple[float, ...], seconds: float, skip: float,
    table_prefix: str,
) -> None:  # fmt: skip
    """Measure, and print a table in Markdown."""
    print("| speed | messages/s | rows/s | p50 ms | p99 ms | processor | load of the machine |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for speed in speeds:
        until = skip + seconds * speed
        messages, rows, p50, p99, cpu = _measure(folder, hbase_host, hbase_port, speed, skip, until, table_prefix)
        busy = f"{cpu / seconds:.0%}"
        load = os.getloadavg()[0]
        print(f"| {speed:g} | {messages / seconds:.1f} | {rows / seconds:,.0f} | {p50} | {p99} | {busy} | {load:.0f} |")


def _measure(
    folder: Path, host: str, port: int, speed: float, skip: float, until: float, prefix: str
) -> tuple[int, int, int, int, float]:
    """Play a part of a session to one instance; return messages, rows, p50 and p99 in ms, and processor seconds."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "F1HBASE_F1TV_TOKEN": "a-token-for-the-simulator"}
    words = ["--speed", str(speed), "--skip", str(skip), "--until", str(until), "--port", "0", "--archive-at-once"]
    with tempfile.TemporaryDirectory(prefix="live-latency-") as scratch, subprocess.Popen(
        [sys.executable, "-u", "-m", "simulator", "live", str(folder), *words],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True,
    ) as player:  # fmt: skip
        try:
            assert player.stdout is not None
            line = player.stdout.readline()
            match, key = _PORT.search(line), re.search(r"session (\d+)", line)
            assert match is not None, line
            assert key is not None, line
            return _record(match[1], key[1], host, port, prefix, Path(scratch), environment)
        finally:
            player.terminate()


def _record(
    url: str, key: str, host: str, port: int, prefix: str, folder: Path, environment: dict[str, str]
) -> tuple[int, int, int, int, float]:
    arguments = [
        "live", "--from", "livetiming", "--session-key", key, "--no-archive", "--idle-timeout", "6s",
        "--hub-url", f"{url}/signalrcore", "--livetiming-url", f"{url}/static", "--table-prefix", prefix,
        "--hbase-host", host, "--hbase-port", str(port),
    ]  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-u", str(ROOT / "hbase_populate_openF1.py"), *arguments],
        cwd=folder, env=environment | {"XDG_STATE_HOME": str(folder)}, stdout=subprocess.PIPE, text=True,
    ) as recorder:  # fmt: skip
        assert recorder.stdout is not None
        process, cpu, last = psutil.Process(recorder.pid), 0.0, None
        for line in recorder.stdout:
            last = _FIGURES.search(line) or last
            times = process.cpu_times()
            cpu = times.user + times.system
    assert last is not None, "the recording said no figures"
    messages, rows, p50, p99 = (int(text.replace(",", "")) for text in last.groups())
    return messages, rows, p50, p99, cpu


if __name__ == "__main__":
    main()
