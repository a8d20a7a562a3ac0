"""The layout `units`: what the API answered, byte for byte, gzip, one object an answer, in Hive-style folders."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from f1hbase.model.answers import RawAnswer
from f1hbase.model.outcomes import UnitState
from f1hbase.model.units import Scope, Unit
from f1hbase.stores.files.answers import JSON_LINES, StoredAnswer, put_packed
from f1hbase.stores.files.objects import Objects
from f1hbase.stores.files.paths import safe_name, scope_folder

_LONGEST_NAME = 100
"""Of what was asked, in characters: a path of less than 255 in all suits every file system."""

_OPERATORS = (("%3E", ">"), ("%3C", "<"), (">=", ".from."), ("<=", ".upto."), (">", ".after."), ("<", ".before."))
_IN_THE_FOLDER = ("session_key=", "meeting_key=", "csv=")
_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d)(?::(\d\d))?")


class UnitsLayout:
    """Objects such as `source=openf1/year=2024/meeting=1240/session=9558/endpoint=laps/all-<md5>.json.gz`."""

    name = "units"
    version = 1
    names_by_content = True
    packs = True
    makes_files = False
    reads_without_state = False

    def identity(self, unit: Unit, raw: RawAnswer, *, shared: bool) -> str:
        """Return the path, which has the MD5 in it."""
        return answer_path(unit, raw, shared=shared)

    def store(
        self, objects: Objects, unit: Unit, raw: RawAnswer, before: Sequence[Mapping[str, Any]], *, shared: bool
    ) -> StoredAnswer:
        """Store an answer byte for byte."""
        return put_packed(objects, answer_path(unit, raw, shared=shared), raw)

    def publish(self, objects: Objects, scope: Scope, endpoints: Collection[str], states: Sequence[UnitState]) -> None:
        """Make nothing: the answers are what people look at."""

    def remake(self, objects: Objects, scope: Scope, endpoints: Collection[str], states: Sequence[UnitState]) -> None:
        """Make nothing: nothing was made before."""

    def withdraw(self, objects: Objects, scope: Scope, endpoints: Collection[str]) -> None:
        """Delete nothing: nothing was made."""


def answer_path(unit: Unit, raw: RawAnswer, *, shared: bool) -> str:
    """Return the path of an answer: in its session's folder, or in that of its meeting, or in `listing`."""
    folder = scope_folder(unit.scope)
    if raw.content_type == JSON_LINES:
        return f"source={safe_name(raw.source)}/{folder}/endpoint={unit.endpoint}/records-{raw.md5}.jsonl.gz"
    if shared:
        # Sessions and meetings come in one list of many meetings, all else in one answer for a meeting.
        folder = "listing" if unit.endpoint in unit.scope.dataset.listing else scope_folder(unit.scope.meeting)
    kind = "csv" if raw.content_type.startswith("text/csv") else "json"
    name = f"{_asked(raw.request)}-{raw.md5}.{kind}.gz"
    return f"source={safe_name(raw.source)}/{folder}/endpoint={unit.endpoint}/{name}"


def _asked(request: str) -> str:
    """Return what was asked as a part of a name; what the folder says, or what is said by `csv`, is left out."""
    _, _, query = request.partition("?")
    for text, replacement in _OPERATORS:
        query = query.replace(text, replacement)
    query = _DATE.sub(r"\1\2\3T\4\5\6", query)
    filters = [part for part in query.split("&") if part and not part.startswith(_IN_THE_FOLDER)]
    return safe_name("_".join(filters))[:_LONGEST_NAME] if filters else "all"
