"""The layout `dated`: each answer as JSON by the second that it came, `raw/2024-07-07/openf1/1720360800.json`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC
from itertools import count
from typing import Any

from f1hbase.model.answers import RawAnswer
from f1hbase.model.outcomes import UnitState
from f1hbase.model.units import Scope, Unit
from f1hbase.stores.files.answers import StoredAnswer
from f1hbase.stores.files.json_records import record_texts
from f1hbase.stores.files.objects import Objects
from f1hbase.stores.files.packing import PLAIN, md5_hex
from f1hbase.stores.files.paths import safe_name

FOLDER = "raw"
CONTENT_TYPE = "application/json"

_EMPTY = 400
"""An answer of this status or above says that there are no records."""


class DatedLayout:
    """Objects such as `raw/2024-07-07/openf1/1720360800.json`; a second one of the same second ends in `-1.json`."""

    name = "dated"
    version = 1
    names_by_content = False
    packs = False
    makes_files = False
    reads_without_state = True

    def __init__(self) -> None:
        # The second of the last answer, and its number in it: where to look for a free name.
        self._taken: dict[str, int] = {}

    def identity(self, unit: Unit, raw: RawAnswer, *, shared: bool) -> str:
        """Return what was asked and what came."""
        return f"{raw.source} {unit.endpoint} {raw.request} {raw.md5}" + ("" if raw.request else unit.key)

    def store(
        self, objects: Objects, unit: Unit, raw: RawAnswer, before: Sequence[Mapping[str, Any]], *, shared: bool
    ) -> StoredAnswer:
        """Store an answer as JSON under the second that it came, unless the unit has it already."""
        body = as_json(raw)
        known = md5_hex(body)
        for one in before:
            if one["md5"] == known and one["source"] == raw.source and objects.holds(one["path"], body):
                return StoredAnswer(one["path"], body, body, CONTENT_TYPE, PLAIN)
        stem = _stem(raw)
        taken = f"{objects.location} {stem}"
        for number in count(self._taken.get(taken, 0)):
            path = f"{stem}-{number}.json" if number else f"{stem}.json"
            ingested = raw.received_at.astimezone(UTC).isoformat()
            attributes = {"Content-Type": CONTENT_TYPE, "source": raw.source, "ingest_time_utc": ingested}
            if objects.create(path, body, attributes):
                self._taken = {taken: number}
                return StoredAnswer(path, body, body, CONTENT_TYPE, PLAIN)
        raise AssertionError("there is always another name")

    def publish(self, objects: Objects, scope: Scope, endpoints: Collection[str], states: Sequence[UnitState]) -> None:
        """Make nothing: the answers are what people look at."""

    def remake(self, objects: Objects, scope: Scope, endpoints: Collection[str], states: Sequence[UnitState]) -> None:
        """Make nothing: nothing was made before."""

    def withdraw(self, objects: Objects, scope: Scope, endpoints: Collection[str]) -> None:
        """Delete nothing: nothing was made."""


def as_json(raw: RawAnswer) -> bytes:
    """Return an answer as JSON: byte for byte where it is that, else its records as a list."""
    if raw.status >= _EMPTY and not raw.body.lstrip().startswith((b"{", b"[")):
        return b"[]"
    if raw.content_type.startswith(CONTENT_TYPE) and raw.content_type != "application/jsonl":
        return raw.body
    return b"[" + b",\n".join(record_texts(raw.content_type, raw.body)) + b"]"


def _stem(raw: RawAnswer) -> str:
    moment = raw.received_at.astimezone(UTC)
    return f"{FOLDER}/{moment:%Y-%m-%d}/{safe_name(raw.source)}/{int(moment.timestamp())}"
