"""The layout `units`: what the API answered, byte for byte, gzip, one object an answer, in Hive-style folders."""

from __future__ import annotations

import re

from f1hbase.model.answers import RawAnswer
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.units import Scope, Unit

_LONGEST_NAME = 100
"""Of what was asked, in characters: a path of less than 255 in all suits every file system."""

_UNSAFE = re.compile(r"[^A-Za-z0-9._=+-]+")
_OPERATORS = (("%3E", ">"), ("%3C", "<"), (">=", ".from."), ("<=", ".upto."), (">", ".after."), ("<", ".before."))
_IN_THE_FOLDER = ("session_key=", "meeting_key=", "csv=")
_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d)(?::(\d\d))?")


class UnitsLayout:
    """Objects such as `source=openf1/year=2024/meeting=1240/session=9558/endpoint=laps/all-<md5>.json.gz`."""

    name = "units"
    version = 1

    def raw_path(self, unit: Unit, raw: RawAnswer, *, shared: bool) -> str:
        """Return the path of an answer: in its session's folder, or in that of its meeting, or in `listing`."""
        folder = scope_folder(unit.scope)
        if shared:
            # Sessions and meetings come in one list of many meetings, all else in one answer for a meeting.
            folder = "listing" if ENDPOINTS[unit.endpoint].keyed_by_year else scope_folder(unit.scope.meeting)
        kind = "csv" if raw.content_type.startswith("text/csv") else "json"
        name = f"{_asked(raw.request)}-{raw.md5}.{kind}.gz"
        return f"source={_safe(raw.source)}/{folder}/endpoint={unit.endpoint}/{name}"

    def records_path(self, unit: Unit, source: str, md5: str) -> str:
        """Return the path of records that came without an answer."""
        return f"source={_safe(source)}/{scope_folder(unit.scope)}/endpoint={unit.endpoint}/records-{md5}.jsonl.gz"


def scope_folder(scope: Scope) -> str:
    """Return `year=2024/meeting=1240/session=9558`; without the last of a meeting as such."""
    folder = f"year={scope.year}/meeting={scope.meeting_key}"
    return folder if scope.session_key is None else f"{folder}/session={scope.session_key}"


def _asked(request: str) -> str:
    """Return what was asked as a part of a name; what the folder says, or what is said by `csv`, is left out."""
    _, _, query = request.partition("?")
    for text, replacement in _OPERATORS:
        query = query.replace(text, replacement)
    query = _DATE.sub(r"\1\2\3T\4\5\6", query)
    filters = [part for part in query.split("&") if part and not part.startswith(_IN_THE_FOLDER)]
    return _safe("_".join(filters))[:_LONGEST_NAME] if filters else "all"


def _safe(text: str) -> str:
    """Return a text as a part of a path: no slash, no colon, and no dot in front."""
    return _UNSAFE.sub("-", text).strip("-.") or "unknown"
