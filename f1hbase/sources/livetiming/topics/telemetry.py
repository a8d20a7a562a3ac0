"""Samples of the cars: `CarData.z` and `Position.z`, 98 of 100 records of a session.

Their messages have the shape that a typed decoder reads straight into tuples; what has another shape goes a general,
slower way, and is not lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import msgspec

from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.samples import Record, Row
from f1hbase.sources.livetiming.lines import parse
from f1hbase.sources.livetiming.messages import SessionContext
from f1hbase.sources.livetiming.spelling import spelled_utc

_CHANNELS = {"rpm": "0", "speed": "2", "n_gear": "3", "throttle": "4", "brake": "5", "drs": "45"}
_AXES = {"x": "X", "y": "Y", "z": "Z"}
_KEYS = 4
"""How many fields of a sample are keys: those of meeting and session, the driver's number, the date."""


Sample = tuple[str, int, tuple[int | None, ...]]
"""Date, driver number and the values of a sample, in the order of the catalogue's fields."""


class _Channels(msgspec.Struct, rename=_CHANNELS, gc=False):
    brake: int | None = None
    drs: int | None = None
    n_gear: int | None = None
    rpm: int | None = None
    speed: int | None = None
    throttle: int | None = None


class _Car(msgspec.Struct, rename={"channels": "Channels"}, gc=False):
    channels: _Channels


class _Moment(msgspec.Struct, rename={"utc": "Utc", "cars": "Cars"}, gc=False):
    utc: str
    cars: dict[str, _Car]


class _CarData(msgspec.Struct, rename={"entries": "Entries"}, gc=False):
    entries: list[_Moment]


class _Place(msgspec.Struct, rename=_AXES, gc=False):
    x: int | None = None
    y: int | None = None
    z: int | None = None


class _Snapshot(msgspec.Struct, rename={"timestamp": "Timestamp", "entries": "Entries"}, gc=False):
    timestamp: str
    entries: dict[str, _Place]


class _Position(msgspec.Struct, rename={"position": "Position"}, gc=False):
    position: list[_Snapshot]


@dataclass(frozen=True, slots=True)
class Telemetry:
    """One of the two topics.

    Attributes:
        endpoint: What its records are.
        topic: Its name.
        read: Reads a message of the usual shape: date, number and values of each sample.
        entries, time, cars, values: The names of a message's parts.
        names: The name of each field there.
    """

    endpoint: str
    topic: str
    read: Callable[[bytes], list[Sample]]
    entries: str
    time: str
    cars: str
    values: str | None
    names: Mapping[str, str]

    def rows(self, session: SessionContext, body: bytes) -> tuple[list[Row], list[Record]]:
        """Return the samples of a message, and those of its records that are no samples: a fraction, a text.

        Raises:
            ValueError, TypeError, KeyError, AttributeError: If the message has not even that shape.
        """
        meeting, key = session.meeting_key, session.session_key
        try:
            return [(meeting, key, number, date, *values) for date, number, values in self.read(body)], []
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError):
            return self._slowly(session, parse(body))

    @property
    def fields(self) -> frozenset[str]:
        """The fields that its records have."""
        return ENDPOINTS[self.endpoint].known

    def _slowly(self, session: SessionContext, content: Any) -> tuple[list[Row], list[Record]]:
        fields = ENDPOINTS[self.endpoint].fields
        rows: list[Row] = []
        others: list[Record] = []
        for entry in content[self.entries]:
            date = spelled_utc(entry[self.time])
            for number, car in entry[self.cars].items():
                values = car if self.values is None else car[self.values]
                record = {**session.keys, "driver_number": int(number), "date": date}
                record |= {field: values.get(self.names[field]) for field in fields[_KEYS:]}
                if all(value is None or type(value) is int for value in record.values() if value is not date):
                    rows.append(tuple(record[field] for field in fields))
                else:
                    others.append(record)
        return rows, others


_car_data = msgspec.json.Decoder(_CarData)
_position = msgspec.json.Decoder(_Position)


def _read_car_data(body: bytes) -> list[Sample]:
    samples: list[Sample] = []
    for moment in _car_data.decode(body).entries:
        date = spelled_utc(moment.utc)
        for number, car in moment.cars.items():
            c = car.channels
            samples.append((date, int(number), (c.brake, c.drs, c.n_gear, c.rpm, c.speed, c.throttle)))
    return samples


def _read_position(body: bytes) -> list[Sample]:
    samples: list[Sample] = []
    for snapshot in _position.decode(body).position:
        date = spelled_utc(snapshot.timestamp)
        samples += [(date, int(number), (place.x, place.y, place.z)) for number, place in snapshot.entries.items()]
    return samples


TELEMETRY: Mapping[str, Telemetry] = MappingProxyType(
    {
        "car_data": Telemetry("car_data", "CarData.z", _read_car_data, "Entries", "Utc", "Cars", "Channels", _CHANNELS),
        "location": Telemetry(
            "location", "Position.z", _read_position, "Position", "Timestamp", "Entries", None, _AXES
        ),
    }
)
"""The two topics by endpoint."""
