"""Heartbeats and shared messages of live instances as rows of `f1_reports`.

- `live#{S}#{instance}`: a heartbeat; see `f1hbase.state.live.Heartbeat`.
- `livemessage#{S}#{time}#{topic}#{hash}`: a message that instances have had; deleted when the session is over.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from hashlib import sha256

from f1hbase.model.times import parse_time
from f1hbase.model.units import SEPARATOR, Scope
from f1hbase.state.hbase.cells import LIVE, LIVE_MESSAGE
from f1hbase.state.live import Heartbeat, LoggedMessage
from f1hbase.stores.hbase.codec import escape, unescape
from f1hbase.stores.hbase.connector import ONE_CELL_KEYS_ONLY, HBaseConnector
from f1hbase.stores.hbase.frames import RowMutation
from f1hbase.stores.hbase.schema import REPORT_FAMILIES

_log = logging.getLogger(__name__)

_STATE, _AT, _ERROR = b"meta:state", b"meta:at", b"errors:last"
_BODY, _ORDER, _BY = b"meta:body", b"meta:order", b"meta:by-"
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
_DELETED_AT_ONCE = 1_000


class HBaseHeartbeats:
    """See `f1hbase.state.live.Heartbeats`.

    Args:
        connector: The connection to use.
        table: The name of the table of reports.
    """

    def __init__(self, connector: HBaseConnector, table: str) -> None:
        self._connector = connector
        self._table = table

    def write(self, beat: Heartbeat) -> None:
        """Write a heartbeat in the place of the instance's last one."""
        cells = {_STATE: beat.state.encode(), _AT: beat.at.isoformat().encode()}
        cells |= {f"meta:{name}".encode(): text.encode(errors="backslashreplace") for name, text in beat.meta.items()}
        cells |= {f"stats:{name}".encode(): json.dumps(number).encode() for name, number in beat.stats.items()}
        if beat.error:
            cells[_ERROR] = beat.error.encode(errors="backslashreplace")
        key = SEPARATOR.join(["live", beat.scope_prefix, escape(beat.instance)]).encode()
        self._connector.put(self._table, [RowMutation(key, cells, () if beat.error else [_ERROR])])

    def read(self, scope: Scope | None = None) -> Sequence[Heartbeat]:
        """Return the last heartbeat of each instance of a session, or of all."""
        prefix = LIVE if scope is None else LIVE + f"{scope.prefix}{SEPARATOR}".encode()
        beats = []
        for key, cells in self._connector.scan(self._table, prefix):
            try:
                beats.append(_beat(key.decode(), {column.decode(): value.decode() for column, value in cells.items()}))
            except (ValueError, KeyError) as error:
                _log.warning("the heartbeat %r cannot be read (%s)", key, error)
        return beats


class HBaseMessageLog:
    """See `f1hbase.state.live.MessageLog`.

    Args:
        connector: The connection to use.
        table: The name of the table of reports.
        scope: The session.
    """

    def __init__(self, connector: HBaseConnector, table: str, scope: Scope) -> None:
        self._connector = connector
        self._table = table
        self._prefix = message_prefix(scope)

    def since(self, moment: datetime | None) -> list[LoggedMessage]:
        """Return the messages that were sent at a moment or later, or all, in order of time, topic and arrival."""
        start = None if moment is None else self._prefix + moment.astimezone(UTC).strftime(_TIME).encode()
        rows = self._connector.stream(self._table, self._prefix, start=start)
        messages = [_message(key, cells) for key, cells in rows if _BODY in cells]
        return sorted(messages, key=lambda message: (message.moment, message.topic, message.order))

    def clear(self) -> None:
        """Delete the messages of the session: nobody will need them again."""
        families = [family.encode() for family in REPORT_FAMILIES]
        gone: list[RowMutation] = []
        for key, _ in self._connector.stream(self._table, self._prefix, row_filter=ONE_CELL_KEYS_ONLY):
            gone.append(RowMutation(key, {}, families))
        for start in range(0, len(gone), _DELETED_AT_ONCE):
            self._connector.put(self._table, gone[start : start + _DELETED_AT_ONCE])


def message_prefix(scope: Scope) -> bytes:
    """Return what the keys of a session's shared messages begin with."""
    return LIVE_MESSAGE + f"{scope.prefix}{SEPARATOR}".encode()


def message_mutations(scope: Scope, messages: Sequence[LoggedMessage]) -> Iterator[RowMutation]:
    """Yield the rows of messages; the same message is the same row, whoever has had it."""
    prefix = message_prefix(scope)
    for message in messages:
        digest = sha256(message.body).hexdigest()[:16]
        parts = [message.moment.astimezone(UTC).strftime(_TIME), escape(message.topic), digest]
        cells = {_BODY: message.body, _ORDER: b"%d" % message.order}
        cells |= {_BY + escape(instance).encode(): b"" for instance in message.seen_by}
        yield RowMutation(prefix + SEPARATOR.join(parts).encode(), cells)


def _message(key: bytes, cells: dict[bytes, bytes]) -> LoggedMessage:
    *_, time, topic, _ = key.decode().split(SEPARATOR)
    moment = datetime.strptime(time, _TIME).replace(tzinfo=UTC)
    by = frozenset(unescape(column[len(_BY) :].decode()) for column in cells if column.startswith(_BY))
    return LoggedMessage(moment, unescape(topic), cells[_BODY], int(cells.get(_ORDER, b"0")), by)


def _beat(key: str, cells: dict[str, str]) -> Heartbeat:
    _, year, meeting, session, instance = key.split(SEPARATOR)
    named = {"state", "at"}
    parts: dict[str, dict[str, str]] = {"meta": {}, "stats": {}, "errors": {}}
    for column, value in cells.items():
        family, _, name = column.partition(":")
        parts[family][name] = value
    return Heartbeat(
        SEPARATOR.join([year, meeting, session]),
        unescape(instance),
        parts["meta"]["state"],
        parse_time(parts["meta"]["at"]),
        {name: value for name, value in parts["meta"].items() if name not in named},
        {name: float(value) for name, value in parts["stats"].items()},
        parts["errors"].get("last", ""),
    )
