"""A weekend in miniature, in files and in a real HBase: what the tests of reading and exporting read."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from hbase_server import LocalHBase

import f1hbase
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.units import Scope
from f1hbase.pipeline.collector import Result
from simulator import Plan, simulate

YEAR = 2025
KINDS = ("practice", "qualifying", "race")


@cache
def weekend(folder: Path) -> Path:
    """Return a folder with the files of a simulated weekend, made once."""
    made = folder / "weekend"
    for _ in simulate(made, Plan(year=YEAR, sessions=KINDS, minutes=3, drivers=4, first_day=date(2025, 3, 14))):
        pass
    return made


def load(source: Path, **options: Any) -> Result:
    """Load all of 2025 that a folder has; every unit must be stored."""
    result = f1hbase.load(source=source, year=YEAR, processes=2, patience="30s", **options)
    assert result.exit_code == 0, result.overall.failures
    return result


_loaded: dict[int, str] = {}


def in_hbase(hbase: LocalHBase, folder: Path) -> str:
    """Return the prefix of tables that have all that a folder has, loaded once; nobody changes them."""
    if hbase.port not in _loaded:
        load(folder, **hbase_options(hbase, "weekend"))
        _loaded[hbase.port] = "weekend"
    return _loaded[hbase.port]


def hbase_options(hbase: LocalHBase, prefix: str) -> dict[str, Any]:
    """Return the options that mean the tables of a prefix."""
    return {
        "hbase_host": hbase.host, "hbase_port": hbase.port, "hbase_transport": hbase.transport,
        "hbase_protocol": hbase.protocol, "table_prefix": prefix,
    }  # fmt: skip


def scopes(folder: Path) -> list[Scope]:
    """Return the sessions of a folder."""
    return [Scope(one["year"], one["meeting_key"], one["session_key"]) for one in records(folder, "sessions")]


def records(folder: Path, endpoint: str, **values: Any) -> list[dict[str, Any]]:
    """Return the records of an endpoint in the files whose fields have these values, each once."""
    found = [record for record in _lines(folder, endpoint) if all(record.get(k) == v for k, v in values.items())]
    return [json.loads(line) for line in {json.dumps(record): None for record in found}]


def _lines(folder: Path, endpoint: str) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.rglob(f"{endpoint}.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            yield from map(json.loads, lines)


def alike(records: Iterable[dict[str, Any]]) -> Counter[str]:
    """Return records so that they are equal only if they are the same JSON, up to nulls and order."""
    return Counter(
        json.dumps({name: value for name, value in record.items() if value is not None}, sort_keys=True)
        for record in records
    )


SESSION_ENDPOINTS = [name for name, endpoint in ENDPOINTS.items() if not endpoint.of_meeting]
