"""Loads through an API that fails at random, and compares the table with that of a load without failures.

The long form of `test_cli_faults.py`, outside CI's time. It starts an HBase and replay servers of its own:

    .venv/bin/python tests/faults/api_faults.py --seeds 10
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from threading import Event
from time import monotonic

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cli import Loader, loader_of
from hbase_server import LocalHBase
from replay_server import ReplayServer, most_requests
from tables import scan, values

RATE = {1.0: 30, 60.0: 900}
"""Requests allowed in so many seconds: small enough to be met, large enough to be done today."""


def rate_option() -> str:
    """Return the limits as the loader and the server take them."""
    return f"{RATE[1.0]}/s,{RATE[60.0]}/m"


def simulate(folder: Path, meetings: int, minutes: int, drivers: int) -> None:
    """Write the meetings to load."""
    arguments = ["--meetings", str(meetings), "--sessions", "practice,race", "--minutes", str(minutes)]
    subprocess.run(
        [sys.executable, "-m", "simulator", "make", str(folder), "--drivers", str(drivers), *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def loader_for(hbase: LocalHBase, folder: Path, url: str, prefix: str, **settings: str) -> Loader:
    """Return a loader with tables of its own, that waits as little as its limits allow."""
    defaults = {
        "retry_delay": "200ms", "request_timeout": "2s", "max_retries": "8", "window": "30s", "rate": rate_option(),
    }  # fmt: skip
    return loader_of(hbase, folder, url, prefix, **(defaults | settings))


def check_limits(server: ReplayServer) -> list[str]:
    """Return what the server's log says against the loader: each sliding window with too many requests."""
    log = server.log()
    over = [
        f"{most_requests(log, span)} requests in {span:g} s" for span, n in RATE.items() if most_requests(log, span) > n
    ]
    refused = sum(1 for entry in log if entry["status"] == 429 and not str(entry["fault"] or "").startswith("429"))
    return over + ([f"{refused} requests refused by the limits"] if refused else [])


def _run(loader: Loader, server: ReplayServer, outage: float) -> str:
    """Load, with the server down for a while if wanted, and return the output."""
    if not outage:
        return loader.run(exit_code=None)
    with loader.start() as process:
        assert process.stdout is not None
        while server.faults()["requests"] < 50:
            pass
        server.faults(down=True)
        Event().wait(outage)
        server.faults(down=False)
        return process.stdout.read()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--share", type=float, default=0.3)
    parser.add_argument("--outage", type=float, default=0, help="the server is down for so many seconds in mid-run")
    parser.add_argument("--window", default="30s", help="as of the loader: 30s, auto")
    options = parser.parse_args()
    failures = 0
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        simulate(work / "data", meetings=4, minutes=2, drivers=5)
        hbase = LocalHBase(work / "hbase")
        try:
            hbase.start()
            with ReplayServer(work / "data") as server:
                loader_for(hbase, work / "truth", server.url, "truth", rate="none").run()
            truth = values(scan(hbase.port, "truth_f1_data"))
            print(f"truth: {len(truth):,} rows", flush=True)
            for seed in range(options.first_seed, options.first_seed + options.seeds):
                started = monotonic()
                faults = ["--faults", str(options.share), "--fault-seed", str(seed), "--rate", rate_option()]
                with ReplayServer(work / "data", *faults) as server:
                    loader = loader_for(hbase, work / f"seed{seed}", server.url, f"seed{seed}", window=options.window)
                    output = _run(loader, server, options.outage)
                    dealt, wrong = server.faults()["dealt"], check_limits(server)
                    requests = len(server.log())
                table = values(scan(hbase.port, f"seed{seed}_f1_data"))
                if "all that was asked for is loaded" not in output:
                    wrong.append(f"not all loaded: {output[-2000:]}")
                if table != truth:
                    wrong.append(f"{len(table.keys() ^ truth.keys())} rows differ, {len(truth)} expected")
                failures += bool(wrong)
                verdict = "; ".join(wrong) or "identical, no limit exceeded"
                print(
                    f"seed {seed}: {requests} requests, {sum(dealt.values())} faults of {len(dealt)} kinds, "
                    f"{monotonic() - started:.0f} s: {verdict}",
                    flush=True,
                )
        finally:
            hbase.stop()
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
