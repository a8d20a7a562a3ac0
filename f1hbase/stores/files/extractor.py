"""The layout `extractor`: a JSON list for each endpoint and session, `laps_2024-12-08_Yas_Island_Race.json`.

Answers are kept below `_state/answers/` as they came. When those of an endpoint cover a session, its file is made of
them, in a stream and from their own texts, and appears whole; only then are they marked done.
"""

from __future__ import annotations

import json
import logging
import re
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import md5
from typing import IO, Any

import msgspec

from f1hbase.errors import StoreError
from f1hbase.model.answers import RawAnswer
from f1hbase.model.catalog import ALL_ENDPOINTS
from f1hbase.model.coverage import subtract
from f1hbase.model.outcomes import Status, UnitState
from f1hbase.model.times import LONG_AGO, lenient_time
from f1hbase.model.units import ALL_TIME, Scope, Unit, Window
from f1hbase.stores.files.answers import StoredAnswer, put_packed, read_body
from f1hbase.stores.files.json_records import fields_text, record_texts, with_fields
from f1hbase.stores.files.objects import Objects, RefusedError
from f1hbase.stores.files.packing import DamagedError
from f1hbase.stores.files.paths import scope_folder
from f1hbase.stores.files.units import answer_path

_log = logging.getLogger(__name__)

ANSWERS = "_state/answers"
FILES = "_state/files"
"""What is known of each file: a JSON object beside nobody's data."""

NAMES = "_state/names"
"""Which sessions would share a name."""

PLURALS = {
    name: {"position": "positions", "location": "locations", "pit": "pits", "session_result": "session_results",
           "starting_grid": "starting_grids"}.get(name, name)
    for name in ALL_ENDPOINTS
}  # fmt: skip
"""What the files of an endpoint begin with; those of the others are called as the endpoint."""

ADDED = ("session_name", "batch_day")
"""The fields that each record gets, unless it has them."""

_EMPTY = 400
_SPOOL_BYTES = 8 << 20
"""A file is put together in memory up to this size, and on the disk beyond."""


class DamagedAnswerError(StoreError):
    """An answer of an earlier unit that cannot be read, so that no file can be made of it.

    Attributes:
        scope: The session (or meeting).
        unit: The unit, as it is stored.
    """

    def __init__(self, message: str, scope: Scope, unit: UnitState) -> None:
        super().__init__(message)
        self.scope = scope
        self.unit = unit


class ExtractorLayout:
    """Files such as `laps_2024-12-08_Yas_Island_Race.json`, and the answers they are made of."""

    name = "extractor"
    version = 1
    names_by_content = True
    packs = True
    makes_files = True
    reads_without_state = True

    def identity(self, unit: Unit, raw: RawAnswer, *, shared: bool) -> str:
        """Return the path, which has the MD5 in it."""
        return answer_path(unit, raw, shared=shared)

    def store(
        self, objects: Objects, unit: Unit, raw: RawAnswer, before: Sequence[Mapping[str, Any]], *, shared: bool
    ) -> StoredAnswer:
        """Keep an answer byte for byte, out of the way."""
        return put_packed(objects, f"{ANSWERS}/{answer_path(unit, raw, shared=shared)}", raw)

    def publish(self, objects: Objects, scope: Scope, endpoints: Collection[str], states: Sequence[UnitState]) -> None:
        """Make the file of each endpoint that is there in full."""
        name: str | None = None
        for endpoint in sorted(endpoints):
            usable = [state for state in states if state.endpoint == endpoint and _is_usable(state)]
            if _covers(usable):
                name = name or _name(objects, scope)
                _make(objects, scope, endpoint, usable, name)

    def remake(self, objects: Objects, scope: Scope, endpoints: Collection[str], states: Sequence[UnitState]) -> None:
        """Make the file of each endpoint anew, under its name, of the units that are left; delete it if some lack."""
        for endpoint in sorted(endpoints):
            known = _known(objects, facts_path(scope, endpoint), endpoint)
            usable = [state for state in states if state.endpoint == endpoint and _is_usable(state)]
            if not known or not _covers(usable):
                self.withdraw(objects, scope, [endpoint])
                continue
            day, name = known.get("batch_day"), known["path"].removeprefix(f"{PLURALS[endpoint]}_")
            start = None if day is None else datetime.fromisoformat(day).replace(tzinfo=UTC)
            described = replace(scope, date_start=start, title=known.get("session_name") or "")
            _make(objects, described, endpoint, usable, name.removesuffix(".json"))

    def withdraw(self, objects: Objects, scope: Scope, endpoints: Collection[str]) -> None:
        """Delete the files of a session that is rolled back."""
        for endpoint in endpoints:
            facts = facts_path(scope, endpoint)
            known = _known(objects, facts, endpoint)
            if known:
                objects.delete([known["path"]])
            objects.delete([facts])  # last, as it says what the file is called


@dataclass(frozen=True, slots=True)
class _Piece:
    """Stored records, without those of which a later unit has others."""

    state: UnitState
    later: Sequence[UnitState]


class _Keys(msgspec.Struct):
    driver_number: Any = None
    session_key: Any = None
    meeting_key: Any = None
    season: Any = None
    round: Any = None
    date: Any = None


_KEYS = msgspec.json.Decoder(_Keys)


def file_name(endpoint: str, name: str) -> str:
    """Return what the file of an endpoint is called, by the name of its session (`2024-12-08_Yas_Island_Race`)."""
    return f"{PLURALS[endpoint]}_{name}.json"


def session_file_name(start: datetime | None, place: str, title: str) -> str:
    """Return the name of a session's files, without the endpoint: UTC date of its beginning, place, its own name."""
    day = "undated" if start is None else _day(start)
    return "_".join(_spelt(part) for part in (day, place, title) if part)


def facts_path(scope: Scope, endpoint: str) -> str:
    """Return where it is written what is known of the file of an endpoint and session (or meeting)."""
    return f"{_facts(scope)}/{endpoint}.json"


def is_complete(states: Iterable[UnitState]) -> bool:
    """Return whether the units of an endpoint and session are all that its file is made of."""
    return _covers([state for state in states if _is_usable(state)])


def _day(start: datetime) -> str:
    return f"{start.astimezone(UTC):%Y-%m-%d}"


def _spelt(text: str) -> str:
    """Return a text as a part of a name: spaces and slashes as `_`, and what no system takes as `-`."""
    return re.sub(r'[:*?"<>|\\\x00-\x1f\ud800-\udfff]', "-", re.sub(r"[ /]", "_", text))


def _name(objects: Objects, scope: Scope) -> str:
    """Return the name of a session; of several that would share it, those with later keys get the key behind it."""
    name = session_file_name(scope.date_start, scope.place, scope.title)
    key = scope.meeting_key if scope.session_key is None else scope.session_key
    kind = "meeting" if scope.session_key is None else "session"
    folder = f"{NAMES}/{name}"
    mine = f"{folder}/{kind}={key}.json"
    if objects.size(mine) is None:
        objects.put(mine, json.dumps({"folder": _facts(scope)}).encode())
    others: dict[int, str] = {}
    for info in objects.under(folder):
        found = re.fullmatch(rf"{kind}=(\d+)\.json", info.path.rpartition("/")[2])
        if found:
            others[int(found[1])] = info.path
    if min(others, default=key) < key:
        return f"{name}_{key}"
    for later in sorted(number for number in others if number > key):
        _rename(objects, others[later], name, f"{name}_{later}")
    return name


def _rename(objects: Objects, entry: str, name: str, to: str) -> None:
    """Give the files of a session that came first, and has a later key, the longer name."""
    folder = json.loads(objects.get(entry) or b"{}").get("folder", "")
    for info in list(objects.under(folder)) if folder else ():
        endpoint = info.path.rpartition("/")[2].removesuffix(".json")
        facts = _known(objects, info.path, endpoint) if endpoint in PLURALS else {}
        if facts.get("path") != file_name(endpoint, name):
            continue
        content = objects.get(facts["path"])
        if content is not None:
            objects.put(file_name(endpoint, to), content, _ATTRIBUTES)
        objects.put(info.path, json.dumps({**facts, "path": file_name(endpoint, to)}, indent=1).encode())
        objects.delete([file_name(endpoint, name)])


def _known(objects: Objects, path: str, endpoint: str) -> Mapping[str, Any]:
    """Return what is known of the file of an endpoint; nothing if that is damaged, or names what is no such file."""
    try:
        known = json.loads(objects.get(path) or b"{}")
        name, day = str(known["path"]), known.get("batch_day")
        if day is not None:
            datetime.fromisoformat(day)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    is_own = name.startswith(f"{PLURALS[endpoint]}_") and name.endswith(".json") and "/" not in name
    return known if is_own and isinstance(known.get("session_name") or "", str) else {}


def _facts(scope: Scope) -> str:
    folder = scope_folder(scope)
    return f"{FILES}/{folder}" if scope.session_key is not None else f"{FILES}/{folder}/session=-"


def _is_usable(state: UnitState) -> bool:
    # A unit that failed keeps what an earlier success stored; one of a session that goes on has what there is.
    return state.status is not Status.FAILED or bool(state.objects)


def _covers(states: Sequence[UnitState]) -> bool:
    """Return whether units are all of a session, for all drivers or for those that were asked for."""
    everybody = [state.window for state in states if state.driver is None]
    drivers: set[int | None] = {state.driver for state in states if state.driver is not None}
    return bool(states) and not any(
        subtract(ALL_TIME, [*everybody, *(state.window for state in states if state.driver == driver)])
        for driver in drivers or {None}
    )


def _make(objects: Objects, scope: Scope, endpoint: str, states: Sequence[UnitState], name: str) -> None:
    """Put the file of an endpoint together and store it, unless it is there."""
    ordered = sorted(states, key=lambda state: (state.fetched or LONG_AGO, state.run))
    pieces = [_Piece(state, _overlapping(state, ordered[place + 1 :])) for place, state in enumerate(ordered)]
    pieces.sort(key=lambda piece: (piece.state.window.start or LONG_AGO, piece.state.driver or 0))
    start = scope.date_start
    added = dict(zip(ADDED, (scope.title or None, None if start is None else _day(start)), strict=True))
    path, facts = file_name(endpoint, name), facts_path(scope, endpoint)
    with tempfile.SpooledTemporaryFile(_SPOOL_BYTES) as file:
        records, size, digest = _write(file, _records(objects, scope, endpoint, pieces, added), path)
        known = json.loads(objects.get(facts) or b"{}")
        if (known.get("path"), known.get("md5")) != (path, digest) or objects.size(path) != size:
            if size <= _SPOOL_BYTES:
                file.seek(0)
                objects.put(path, file.read(), _ATTRIBUTES)
            else:
                file.rollover()
                objects.put(path, file, _ATTRIBUTES)
    content = {"path": path, "records": records, "bytes": size, "md5": digest, **added}
    if known != content:
        objects.put(facts, json.dumps(content, ensure_ascii=False, indent=1).encode() + b"\n")
    if known.get("path") not in (None, path):
        objects.delete([known["path"]])


_ATTRIBUTES = {"Content-Type": "application/json"}


def _overlapping(state: UnitState, later: Iterable[UnitState]) -> list[UnitState]:
    return [
        other
        for other in later
        if other.window.overlaps(state.window) and (other.driver is None or state.driver in (None, other.driver))
    ]


def _write(file: IO[bytes], texts: Iterable[bytes], name: str) -> tuple[int, int, str]:
    """Write records as a JSON list, one a line; return how many, the size and the MD5.

    Raises:
        RefusedError: If there is no room for it in the folder for temporary files.
    """
    digest, records, size = md5(usedforsecurity=False), 0, 0

    def write(some: bytes) -> None:
        nonlocal size
        try:
            file.write(some)
        except OSError as error:
            raise RefusedError(
                f"'{name}' cannot be put together in '{tempfile.gettempdir()}': {error.strerror}. Make room there, or "
                "name another folder in TMPDIR."
            ) from error
        digest.update(some)
        size += len(some)

    held: list[bytes] = []
    write(b"[")
    for text in texts:
        held.append((b"\n" if not records else b",\n") + text)
        records += 1
        if len(held) == 1_000:
            write(b"".join(held))
            held.clear()
    write(b"".join(held))
    write(b"\n]\n" if records else b"]\n")
    return records, size, digest.hexdigest()


def _records(
    objects: Objects, scope: Scope, endpoint: str, pieces: Iterable[_Piece], added: Mapping[str, str | None]
) -> Iterator[bytes]:
    """Yield the texts of the records of some units."""
    tail = fields_text({name: value for name, value in added.items() if name not in ALL_ENDPOINTS[endpoint].known})
    for piece in pieces:
        try:
            for stored in piece.state.objects:
                if stored["status"] >= _EMPTY:
                    continue
                select, later = stored["select"], piece.later
                for text in record_texts(stored["content_type"], read_body(objects, stored)):
                    if (select or later) and not _counts(text, select, later):
                        continue
                    yield with_fields(text, tail)
        except (DamagedError, ValueError) as error:
            raise DamagedAnswerError(
                f"a file of {piece.state.endpoint} cannot be made, as an answer is damaged: {error}. It is asked for "
                "again.",
                scope,
                piece.state,
            ) from error


def _counts(text: bytes, select: Mapping[str, int], later: Sequence[UnitState]) -> bool:
    """Return whether a record is one of the unit's, and no later unit has it."""
    try:
        keys = _KEYS.decode(text)
    except msgspec.MsgspecError:
        return not select
    if any(getattr(keys, name, None) != value for name, value in select.items()):
        return False
    moment = lenient_time(keys.date) if later else None
    return not any(
        (other.driver is None or other.driver == keys.driver_number) and _has(other.window, moment) for other in later
    )


def _has(window: Window, moment: datetime | None) -> bool:
    return window == ALL_TIME if moment is None else moment in window
