"""Publishes the records of what is played over MQTT, as OpenF1 does for its subscribers; knows no SignalR.

A message is the record as the REST API has it, with `_key`, what it is a record of, and `_id`, which grows: the same
`_key` again replaces. Times are not spelled as REST does: they have microseconds, and some no zone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from hashlib import blake2b
from heapq import heappop, heappush
from itertools import count
from typing import Any

import aiomqtt
import msgspec

from f1hbase.errors import F1HBaseError
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.samples import Record
from f1hbase.model.times import parse_time
from f1hbase.sources.livetiming.lines import BadLineError, inflate, is_deflated, parse, quoted
from f1hbase.sources.livetiming.messages import Message
from f1hbase.sources.livetiming.topics import NORMALISERS, TELEMETRY
from f1hbase.sources.livetiming.topics.base import MISSHAPEN, Normaliser
from simulator.live.faults import Dice, FeedFaults
from simulator.live.player import Played, Player

_log = logging.getLogger(__name__)

Publish = Callable[[str, bytes], Awaitable[None]]
"""Sends a payload to a topic."""

IDENTITIES = {
    "car_data": ("date", "driver_number"),
    "location": ("date", "driver_number"),
    "intervals": ("date", "driver_number"),
    "position": ("date", "driver_number"),
    "team_radio": ("date", "driver_number"),
    "weather": ("date",),
    "overtakes": ("date", "overtaking_driver_number", "overtaken_driver_number"),
    "race_control": ("date", "driver_number", "lap_number", "category", "flag", "scope", "sector"),
    "laps": ("session_key", "lap_number", "driver_number"),
    "pit": ("session_key", "lap_number", "driver_number"),
    "stints": ("session_key", "stint_number", "driver_number"),
    "drivers": ("session_key", "driver_number"),
    "championship_drivers": ("session_key", "driver_number"),
    "championship_teams": ("session_key", "team_name"),
}
"""What `_key` is made of, by endpoint: the endpoints that OpenF1 publishes."""

_WITHOUT_ZONE = frozenset({"intervals", "laps", "position", "weather"})
_FINER = frozenset({"car_data", "location", "team_radio"})
"""The endpoints whose dates are the service's own, to the microsecond, which REST cuts to milliseconds."""

_MERGED = frozenset({"laps", "stints", "pit", "drivers", "championship_drivers", "championship_teams"})
"""The endpoints whose records change, and are published whole with each change."""


class PublisherError(F1HBaseError):
    """The broker cannot be reached."""

    exit_code = 3


class Publisher:
    """Makes records of messages and publishes them; a listener of the player.

    Args:
        player: Plays the session.
        publish: Sends a payload to a topic.
        faults: What goes wrong with payloads: `duplicate`, `reorder`, `late` and `garbage`.
        clock: Tells seconds, of which `_id` is made.
    """

    def __init__(
        self,
        player: Player,
        publish: Publish,
        faults: FeedFaults | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._player = player
        self._publish = publish
        self._faults = faults or FeedFaults()
        self._dice = Dice(self._faults)
        self._clock = clock
        self._last_id = 0
        self._known: dict[tuple[str, str], Record] = {}
        self._after: list[tuple[str, bytes]] = []
        self._late: list[tuple[float, int, tuple[str, bytes]]] = []
        self._order = count()
        self.published = 0
        """How many payloads were made."""
        context = player.script.context
        self._normalisers: dict[str, Normaliser] = {name: NORMALISERS[name](context) for name in IDENTITIES
                                                    if name in NORMALISERS}  # fmt: skip
        player.listen(self.offer)

    async def offer(self, played: Played) -> None:
        """Take a message that is played; see `simulator.live.player.Listener`."""
        while self._late and self._late[0][0] <= played.since:
            await self._publish(*heappop(self._late)[2])
        for endpoint, record in self._records(played):
            await self._offer(f"v1/{endpoint}", msgspec.json.encode(self._document(endpoint, record)), played.since)

    async def flush(self) -> None:
        """Publish what was kept back."""
        for item in [*self._after, *(item for _, _, item in sorted(self._late))]:
            await self._publish(*item)
        self._after.clear()
        self._late.clear()

    async def _offer(self, topic: str, payload: bytes, since: float) -> None:
        self.published += 1
        kind = self._dice.throw(connection=0, number=self.published)
        if kind == "reorder":
            self._after.append((topic, payload))
            return
        if kind == "late":
            heappush(self._late, (since + self._faults.late, next(self._order), (topic, payload)))
            return
        if kind == "garbage":
            await self._publish(topic, payload[: len(payload) // 2])
        await self._publish(topic, payload)
        if kind == "duplicate":
            await self._publish(topic, payload)
        for item in self._after:
            await self._publish(*item)
        self._after.clear()

    def _records(self, played: Played) -> Iterator[tuple[str, Record]]:
        """Yield the records that a message makes or changes, and their endpoints."""
        try:
            if is_deflated(played.topic):
                yield from self._samples(played)
                return
            message = Message(played.moment, played.topic, parse(played.body))
        except (BadLineError, *MISSHAPEN) as error:
            _log.debug("message %d is not published: %s", played.number, error)
            return
        for endpoint, normaliser in self._normalisers.items():
            if played.topic in normaliser.topics:
                try:
                    yield from ((endpoint, record) for record in normaliser.take(message))
                except MISSHAPEN as error:
                    _log.debug("message %d is not published: %s", played.number, error)

    def _samples(self, played: Played) -> Iterable[tuple[str, Record]]:
        context = self._player.script.context
        for endpoint, telemetry in TELEMETRY.items():
            if telemetry.topic == played.topic:
                rows, others = telemetry.rows(context, inflate(quoted(played.body)))
                fields = ENDPOINTS[endpoint].fields
                yield from ((endpoint, dict(zip(fields, row, strict=True))) for row in rows)
                yield from ((endpoint, record) for record in others)

    def _document(self, endpoint: str, record: Record) -> dict[str, Any]:
        key = "_".join(_part(record.get(name)) for name in IDENTITIES[endpoint])
        if endpoint in _MERGED:
            record = self._known[endpoint, key] = {**self._known.get((endpoint, key), {}), **record}
        whole: dict[str, Any] = {**dict.fromkeys(ENDPOINTS[endpoint].fields), **record}
        spelled = {name: _spelled(endpoint, name, value, key) for name, value in whole.items()}
        if endpoint == "stints":
            spelled["_date_start_last_lap"] = None  # a field of OpenF1's own that it publishes all the same
        self._last_id = max(self._last_id + 1, int(self._clock() * 1000))
        return {**spelled, "_key": key, "_id": self._last_id}


def _part(value: Any) -> str:
    """Return a part of a `_key`: a time in milliseconds, anything else as Python prints it."""
    if isinstance(value, str) and value[4:5] == "-" and value[10:11] == "T":
        return str(int(parse_time(value).timestamp() * 1000))
    return str(value)


def _spelled(endpoint: str, name: str, value: Any, key: str) -> Any:
    """Return a value as it is published: a time is spelled otherwise than by the REST API."""
    if name not in {"date", "date_start"} or not isinstance(value, str):
        return value
    text = value.removesuffix("+00:00")
    if endpoint in _FINER and text.endswith("000"):
        digits = int.from_bytes(blake2b(key.encode(), digest_size=2).digest(), "big") % 1000
        text = f"{text[:-3]}{digits:03d}"
    bare = endpoint in _WITHOUT_ZONE or (endpoint == "pit" and int(key[-1]) % 2 == 1)
    return text if bare else f"{text}+00:00"


@asynccontextmanager
async def broker(host: str, port: int, password: str | None = None) -> AsyncIterator[Publish]:
    """Connect to a broker, and yield what publishes there (QoS 0, as OpenF1).

    Raises:
        PublisherError: If it cannot be reached.
    """
    try:
        async with aiomqtt.Client(
            host, port, username=None if password is None else "simulator", password=password, timeout=10
        ) as client:

            async def publish(topic: str, payload: bytes) -> None:
                await client.publish(topic, payload)

            yield publish
    except aiomqtt.MqttError as error:
        raise PublisherError(f"--mqtt {host}:{port}: the broker cannot be reached ({error})") from None
