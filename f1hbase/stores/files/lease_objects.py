"""The leases of meetings as objects: `_state/leases/year=2024/meeting=1240/00000007.json`, the highest number counts.

Whoever changes a lease creates the next number, which only one can: that works on every object store and in a folder.
The object also says how often each session was rolled back (its epoch), and is never deleted before a later one exists.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from typing import Any

from f1hbase.errors import StoreError
from f1hbase.model.units import Scope
from f1hbase.stores.files.objects import Objects
from f1hbase.stores.files.paths import scope_folder

_log = logging.getLogger(__name__)

LEASES = "_state/leases"

_WHOLE_MEETING = "*"
"""What in the epochs counts for each session of the meeting."""

_KEPT = 8
"""How many numbers below the latest one stay: a listing that takes place meanwhile must see one of them."""


@dataclass(frozen=True, slots=True)
class LeaseObject:
    """The latest lease object of a meeting; number 0 and empty where there is none."""

    number: int = 0
    content: dict[str, Any] = field(default_factory=dict)

    def epoch(self, scope: Scope) -> int:
        """Return how often a session (or the meeting as such) was rolled back."""
        epochs = self.content.get("epochs")
        known = epochs if isinstance(epochs, dict) else {}
        values = (known.get(name, 0) for name in (session_name(scope), _WHOLE_MEETING))
        return sum(value for value in values if type(value) is int)


def session_name(scope: Scope) -> str:
    """Return what a session is called in the epochs: its key, `-` for the meeting as such."""
    return "-" if scope.session_key is None else str(scope.session_key)


def latest(objects: Objects, meeting: Scope) -> LeaseObject:
    """Return the latest lease object of a meeting; one that nobody understands is as if it said nothing."""
    while True:
        number = max(_numbers(objects, meeting), default=0)
        if number == 0:
            return LeaseObject()
        content = objects.get(_path(meeting, number))
        if content is not None:
            return LeaseObject(number, _parse(content, f"{objects.location}/{_path(meeting, number)}"))
        # Listed, and deleted since: there are later ones.


def advance(objects: Objects, meeting: Scope, before: LeaseObject, content: dict[str, Any]) -> LeaseObject | None:
    """Put a new lease object behind the one that was read; None if somebody else did so first.

    Raises:
        StoreError: If something is in its place that no listing shows, such as a link: nobody could go on for ever.
    """
    mine = LeaseObject(before.number + 1, content)
    path = _path(meeting, mine.number)
    if not objects.create(path, json.dumps(content, indent=1).encode()):
        if max(_numbers(objects, meeting), default=0) < mine.number:
            raise StoreError(f"'{objects.location}/{path}' is in the way of a lease, and no object: remove it.")
        return None
    numbers = _numbers(objects, meeting)
    if max(numbers, default=mine.number) > mine.number:
        # So many were created since it was read that ours had been deleted already, and counts for nothing.
        return None
    objects.delete([_path(meeting, number) for number in numbers if number <= mine.number - _KEPT])
    return mine


def meetings_with_leases(objects: Objects) -> list[Scope]:
    """Return the meetings that have a lease object, whether anybody holds it or not."""
    found = {}
    for info in objects.under(LEASES):
        parts = dict(part.split("=", 1) for part in info.path.split("/") if "=" in part)
        try:
            scope = Scope(int(parts["year"]), int(parts["meeting"]), None)
        except (KeyError, ValueError):
            continue
        found[scope.prefix] = scope
    return [found[prefix] for prefix in sorted(found)]


def _numbers(objects: Objects, meeting: Scope) -> list[int]:
    names = (info.path.rpartition("/")[2].removesuffix(".json") for info in objects.under(_folder(meeting)))
    return [int(name) for name in names if name.isdecimal()]


def _folder(meeting: Scope) -> str:
    return f"{LEASES}/{scope_folder(meeting.meeting)}"


def _path(meeting: Scope, number: int) -> str:
    return f"{_folder(meeting)}/{number:08d}.json"


def _parse(content: bytes, where: str) -> dict[str, Any]:
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError):
        parsed = None
    if isinstance(parsed, dict):
        return parsed
    _log.warning("'%s' cannot be read as a lease; it counts as nobody's", where)
    return {}
