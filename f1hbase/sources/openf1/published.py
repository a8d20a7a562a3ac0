"""What OpenF1 publishes over MQTT: a REST record with signs of its own; knows no connection.

A payload has `_key`, what it is a record of, and `_id`, which grows: the same `_key` again replaces, and the highest
`_id` stands. Neither is a field of the record, nor is anything else that begins with an underscore. Its times are not
spelled as REST does: they have microseconds, and some have no zone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.samples import Record
from f1hbase.model.text import excerpt
from f1hbase.model.times import parse_time

TOPICS = "v1/#"
"""What is subscribed to."""

_PREFIX = "v1/"
_TIMES = frozenset({"date", "date_start", "date_end"})
_LONGEST_PAYLOAD_BYTES = 1_000_000
_decoder = msgspec.json.Decoder()


class BadPayloadError(ValueError):
    """A payload that is no record; the text says why."""


@dataclass(frozen=True, slots=True)
class Published:
    """A record that was published.

    Attributes:
        endpoint: What it is a record of.
        record: As the REST API has it.
        number: Its `_id`, in milliseconds since 1970; None where it has none that can be one.
    """

    endpoint: str
    record: Record
    number: int | None


def endpoint_of(topic: str) -> str | None:
    """Return the endpoint of a topic; None if it is none of the catalogue.

    >>> endpoint_of("v1/car_data")
    'car_data'
    """
    name = topic.removeprefix(_PREFIX)
    return name if topic.startswith(_PREFIX) and name in ENDPOINTS else None


def read(endpoint: str, payload: bytes) -> Published:
    """Return the record that a payload of an endpoint's topic holds.

    Raises:
        BadPayloadError: If it holds none.
    """
    if len(payload) > _LONGEST_PAYLOAD_BYTES:
        raise BadPayloadError(f"it is larger than {_LONGEST_PAYLOAD_BYTES:,} bytes")
    try:
        content = _decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise BadPayloadError(f"no JSON: {excerpt(payload)}") from None
    if not isinstance(content, dict):
        raise BadPayloadError(f"it is no object: {excerpt(payload)}")
    number = content.get("_id")
    record = {
        name: spelled(value) if name in _TIMES else value for name, value in content.items() if name[:1] != "_"
    }  # fmt: skip
    return Published(endpoint, record, number if type(number) is int and number > 0 else None)


def spelled(value: Any) -> Any:
    """Return a time as the REST API spells it: in UTC, cut (not rounded) to milliseconds, six digits or none.

    What is no time comes back as it is.

    >>> spelled("2025-11-08T14:21:08.442917")
    '2025-11-08T14:21:08.442000+00:00'
    >>> spelled("2025-11-08T11:21:08-03:00")
    '2025-11-08T14:21:08+00:00'
    """
    try:
        moment = parse_time(value)
    except (TypeError, ValueError, OverflowError):
        return value
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000).isoformat()
