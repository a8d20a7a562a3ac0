"""Loads of the history that are killed anywhere and run again; then the table is compared with an undisturbed load's.

At seeded moments (after so many requests) it kills (-9) the parent, and now and then a worker before. The long form of
`test_jolpica_load.py`, over 75 seasons; it starts an HBase and a server of its own:

    .venv/bin/python tests/faults/kill_history.py --kills 10
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path
from time import monotonic

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cli import Loader, loader_of, workers
from hbase_server import LocalHBase
from history_api import CountingLog, serving_in_thread
from tables import scan, values

from simulator.history import History, Scale

Rows = dict[bytes, dict[bytes, bytes]]

_NOTHING = "http://127.0.0.1:9/v1"
"""OpenF1 is not asked."""


def history_loader(hbase: LocalHBase, folder: Path, url: str, prefix: str) -> Loader:
    """Return a loader whose source is Jolpica at an address."""
    return loader_of(hbase, folder, _NOTHING, prefix, jolpica_url=url, processes="2")


def kill_and_resume(
    hbase: LocalHBase, folder: Path, history: History, prefix: str, seed: int, *, kills: int
) -> list[str]:
    """Load everything, killed so many times on the way; return what was killed.

    Each time it is killed after a seeded number of requests, and then begun again; the last load runs to its end.
    """
    chance = random.Random(seed)
    killed: list[str] = []
    for _ in range(kills):
        log = CountingLog(chance.randrange(8, 25))
        with serving_in_thread(history, log=log) as url:
            loader = history_loader(hbase, folder, url, prefix)
            with loader.start("load", "--from", "jolpica") as process:
                _wait_for(log, process, log.number)
                victims = workers(process) if chance.random() < 0.5 and process.poll() is None else []
                if victims:
                    # The load goes on with another one in its place.
                    chance.choice(victims).kill()
                    killed.append("worker")
                    _wait_for(log, process, len(log.requests) + 10)
                if process.poll() is None:
                    process.kill()
                    killed.append("parent")
                process.communicate()
    with serving_in_thread(history) as url:
        history_loader(hbase, folder, url, prefix).run("load", "--from", "jolpica")
    return killed


def _wait_for(log: CountingLog, process: subprocess.Popen[str], requests: int) -> None:
    """Wait until so many requests have come, or the load is over."""
    while len(log.requests) < requests and process.poll() is None:
        log.reached.wait(0.05)
        log.reached.clear()


def standings_differ(rows: Rows, years: Iterable[int], excluded: Collection[int] = ()) -> list[str]:
    """Return where the standings after a season's last race are not the sums of the points of its races and sprints.

    Computed from the rows alone. In an excluded season, whoever has no position is passed over.
    """
    wrong = []
    for year in years:
        rounds = [int(key.split(b"#")[1]) for key in rows if _is(key, year) and key.split(b"#")[1].isdigit()]
        sums: dict[str, float] = defaultdict(float)
        told: dict[str, float] = {}
        for key, cells in rows.items():
            if not _is(key, year):
                continue
            for family in (b"raceresult", b"sprint"):
                if family + b":points" in cells:
                    driver = f"driver {key.split(b'#')[2].decode()}"
                    team = f"constructor {cells[family + b':constructor_id'].decode()}"
                    for whose in (driver, team):
                        sums[whose] += float(cells[family + b":points"])
            if key.split(b"#")[1] == b"%d" % max(rounds):
                for family, whose in ((b"driverstanding", "driver"), (b"constructorstanding", "constructor")):
                    if family + b":points" in cells:
                        told[f"{whose} {key.split(b'#')[-1].decode()}"] = float(cells[family + b":points"])
        wrong += [
            f"{year} {whose}: {told.get(whose)} told, {total} summed"
            for whose, total in sums.items()
            if told.get(whose) != total and not (year in excluded and whose not in told)
        ]
    return wrong


def _is(key: bytes, year: int) -> bool:
    return key.startswith(b"%d#" % year)


def main() -> int:
    """Run it, and print what was found; 1 if anything was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=4)
    options = parser.parse_args()
    history = History(options.seed, Scale(cars=6, laps=3, rounds=options.rounds))
    with tempfile.TemporaryDirectory(prefix="f1hbase-history-") as folder:
        hbase = LocalHBase(Path(folder) / "hbase")
        hbase.start()
        try:
            began = monotonic()
            with serving_in_thread(history) as url:
                history_loader(hbase, Path(folder) / "work", url, "truth").run("load", "--from", "jolpica")
            took = monotonic() - began
            killed = kill_and_resume(hbase, Path(folder) / "work", history, "killed", options.seed, kills=options.kills)
            truth, found = (values(scan(hbase.port, f"{prefix}_f1_history")) for prefix in ("truth", "killed"))
            wrong = standings_differ(found, range(1991, 2025), excluded={1997, 2007})
            verified = history_loader(hbase, Path(folder) / "work", _NOTHING, "killed").run("verify", "--deep")
        finally:
            hbase.stop()
    print(json.dumps({
        "seasons": len(history.years), "rows": len(truth), "seconds_undisturbed": round(took, 1), "killed": killed,
        "same": found == truth, "standings_wrong": wrong, "verify": verified.splitlines()[-1],
    }, indent=1))  # fmt: skip
    return 0 if found == truth and not wrong and killed else 1


if __name__ == "__main__":
    sys.exit(main())
