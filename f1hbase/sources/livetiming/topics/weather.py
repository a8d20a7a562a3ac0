"""The weather, once a minute, from `WeatherData`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from f1hbase.model.samples import Record
from f1hbase.sources.livetiming.messages import Message, SessionContext
from f1hbase.sources.livetiming.spelling import number, spelled, whole

_DECIMAL = {
    "air_temperature": "AirTemp",
    "humidity": "Humidity",
    "pressure": "Pressure",
    "track_temperature": "TrackTemp",
    "wind_speed": "WindSpeed",
}
_WHOLE = {"rainfall": "Rainfall", "wind_direction": "WindDirection"}


class Weather:
    """Makes `weather`. Each message is a whole state and a measurement, `_kf` or not."""

    endpoint: ClassVar[str] = "weather"
    topics: ClassVar[frozenset[str]] = frozenset({"WeatherData"})
    dated: ClassVar[bool] = True
    fields: ClassVar[frozenset[str]] = frozenset({"meeting_key", "session_key", "date", *_DECIMAL, *_WHOLE})

    def __init__(self, session: SessionContext) -> None:
        self._session = session

    def take(self, message: Message) -> Iterator[Record]:
        """Yield the record of a message."""
        if message.baseline:
            return
        content = message.content
        values: Record = {field: number(content.get(name)) for field, name in _DECIMAL.items()}
        values |= {field: whole(content.get(name)) for field, name in _WHOLE.items()}
        if any(value is not None for value in values.values()):
            yield {**self._session.keys, "date": spelled(message.moment), **values}

    def end(self) -> Sequence[Record]:
        """Return nothing."""
        return ()
