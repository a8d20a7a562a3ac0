"""What waits to be stored, as bytes: records, shared messages and what goes to quarantine."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from f1hbase.destinations.live import LiveBatch, LiveRecords
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.outcomes import Quarantined
from f1hbase.model.records import InvalidRecordError, check, digest, identity, raw_json
from f1hbase.model.samples import Samples
from f1hbase.model.times import parse_time
from f1hbase.model.units import Scope
from f1hbase.sources.feeds import FeedMessage, FeedRecords
from f1hbase.state.live import LoggedMessage

_SAMPLES, _RECORDS, _MESSAGE, _ASIDE = range(4)
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder()


@dataclass(slots=True)
class Decoded:
    """What was taken from the backlog.

    Attributes:
        batch: What is to be stored.
        rows: How many records of each endpoint it has.
        arrivals: When the messages came of which it has records, in seconds since 1970, with how many records each;
            without what had to be put in order.
    """

    batch: LiveBatch = field(default_factory=LiveBatch)
    rows: dict[str, int] = field(default_factory=dict)
    arrivals: list[tuple[float, int]] = field(default_factory=list)


def encode_message(message: FeedMessage, scope: Scope) -> Iterator[bytes]:
    """Yield what a message is to be stored as; what cannot be stored becomes an entry of quarantine."""
    arrived = message.arrived.timestamp() if message.raw is not None else 0.0
    for some in message.records:
        yield from _records(some, scope, arrived, message.arrived)
    logged = message.logged
    if logged is not None:
        content = [logged.moment.isoformat(), logged.topic, logged.body, logged.order, sorted(logged.seen_by)]
        yield _encoder.encode([_MESSAGE, arrived, content])


def decode(items: Iterable[bytes], knows: Callable[[str], frozenset[str]]) -> Decoded:
    """Return what items hold; `knows` tells the fields of an endpoint that the feed would give."""
    decoded = Decoded()
    batch = decoded.batch
    for item in items:
        kind, arrived, content = _decoder.decode(item)
        if kind == _SAMPLES:
            name, stamp, final, rows = content
            samples = Samples(ENDPOINTS[name], list(map(tuple, rows)))
            batch.records.append(LiveRecords(name, samples, stamp, final=final))
            _count(decoded, name, len(rows), arrived)
        elif kind == _RECORDS:
            name, stamp, replaces, final, text = content
            records = json.loads(text)
            known = knows(name) if replaces else frozenset()
            batch.records.append(LiveRecords(name, records, stamp, replaces, final, known))
            _count(decoded, name, len(records), arrived)
        elif kind == _MESSAGE:
            moment, topic, body, order, seen_by = content
            batch.messages.append(LoggedMessage(parse_time(moment), topic, body, order, frozenset(seen_by)))
        else:
            prefix, name, text, mark, reason, found = content
            batch.quarantined.append(Quarantined(prefix, name, text, mark, reason, parse_time(found)))
    return decoded


def aside(scope: Scope, endpoint: str, record: object, reason: str, found: datetime) -> bytes:
    """Return an entry of quarantine."""
    content = [scope.prefix, endpoint, raw_json(record), digest(record), reason, found.isoformat()]
    return _encoder.encode([_ASIDE, 0.0, content])


def _records(some: FeedRecords, scope: Scope, arrived: float, at: datetime) -> Iterator[bytes]:
    if isinstance(some.records, Samples):
        yield _encoder.encode([_SAMPLES, arrived, [some.endpoint, some.stamp, some.final, some.records.rows]])
        return
    endpoint = ENDPOINTS[some.endpoint]
    valid: dict[Any, Any] = {}
    for record in some.records:
        try:
            checked = check(endpoint, scope.year, record)
        except InvalidRecordError as error:
            yield aside(scope, some.endpoint, record, str(error), at)
            continue
        # Of two of one identity in a message the later one stands.
        valid[identity(endpoint, checked)] = checked
    if valid:
        text = json.dumps(list(valid.values()), ensure_ascii=False, separators=(",", ":"))
        yield _encoder.encode([_RECORDS, arrived, [some.endpoint, some.stamp, some.replaces, some.final, text]])


def _count(decoded: Decoded, name: str, number: int, arrived: float) -> None:
    decoded.rows[name] = decoded.rows.get(name, 0) + number
    if arrived:
        decoded.arrivals.append((arrived, number))
