"""Small simulated weekends for tests that load, and single sessions of them with records of the test's own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from replay_server import ReplayServer
from tables import source_records

YEAR = 2025

Records = dict[str, list[dict[str, Any]]]


def simulate(folder: Path, *, meetings: int = 2, minutes: int = 1, drivers: int = 3) -> Path:
    """Write meetings of a practice and a race each, and return their folder."""
    arguments = {"year": YEAR, "meetings": meetings, "sessions": "practice,race", "minutes": minutes}
    options = [f"--{name}={value}" for name, value in (arguments | {"drivers": drivers}).items()]
    command = [sys.executable, "-m", "simulator", "make", str(folder), *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder


def one_session(weekend: Path, *endpoints: str) -> Records:
    """Return the records of the first session that has all of the endpoints, with those of its meeting and itself."""
    (session, *_) = sorted(path.parent for path in weekend.rglob(f"{endpoints[0]}.jsonl.gz"))
    records: Records = {name: [record for one, record in source_records(session) if one == name] for name in endpoints}
    place = records[endpoints[0]][0]
    for name, key in (("sessions", "session_key"), ("meetings", "meeting_key")):
        records[name] = [record for one, record in source_records(weekend) if one == name and record[key] == place[key]]
    return records


@contextmanager
def serve(folder: Path, records: Mapping[str, Sequence[Any]], *arguments: str) -> Iterator[ReplayServer]:
    """Serve records, written to a folder, as the API would; further arguments as of `simulator serve`."""
    folder.mkdir(exist_ok=True, parents=True)
    for name, lines in records.items():
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    with ReplayServer(folder, *arguments) as api:
        yield api
