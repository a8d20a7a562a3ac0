"""Where each file of an export is; opens nothing.

>>> from f1hbase.model.units import Scope
>>> file_path("parquet", "laps", Scope(2024, 1240, 9558))
'laps/season=2024/meeting=1240/session=9558/laps.parquet'
>>> file_path("jsonl", "laps", Scope(2024, 1240, 9558))
'season=2024/meeting=1240/session=9558/laps.jsonl.gz'
"""

from __future__ import annotations

from f1hbase.model.units import Scope

SUFFIXES = {"parquet": "parquet", "csv": "csv.gz", "jsonl": "jsonl.gz"}
"""What the name of a file of each format ends in."""

MANIFESTS = "_export"
"""The folder of the manifests; what begins with `_` is no data for Spark, Hive and Arrow."""


def file_path(form: str, endpoint: str, scope: Scope) -> str:
    """Return where the records of an endpoint and session (or meeting as such) are.

    Parquet and CSV have a folder for each endpoint, which is a table; JSON lines have one for each session, as
    `load --from` reads them. The names of the partitions are no fields of any record, so that no reader takes the one
    for the other.
    """
    place = f"season={scope.year}/meeting={scope.meeting_key}"
    if scope.session_key is not None:
        place += f"/session={scope.session_key}"
    table = "" if form == "jsonl" else f"{endpoint}/"
    return f"{table}{place}/{endpoint}.{SUFFIXES[form]}"


def manifest_path(form: str, endpoint: str, scope: Scope) -> str:
    """Return where the manifest of a file is."""
    path = file_path(form, endpoint, scope).removesuffix(SUFFIXES[form])
    return f"{MANIFESTS}/{form}/{path}json"
