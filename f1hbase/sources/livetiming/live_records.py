"""Messages of the live feed to records, through the normalisers that history uses; knows neither socket nor store.

Messages arrive nearly in order. What needs no order is made into records at once. Laps and stints are made when their
messages have waited long enough to be put in order; with them, and once more, all records whose normaliser keeps some
state, so that what an early or missing message has falsified is corrected. A gap, when the connection was lost or this
instance was not there, is filled with the messages that other instances have had.
"""

from __future__ import annotations

import heapq
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.records import Identity, InvalidRecordError, canonical_json, identity
from f1hbase.model.samples import Record, Samples
from f1hbase.model.text import safe
from f1hbase.model.times import lenient_time
from f1hbase.sources.feeds import FeedRecords
from f1hbase.sources.livetiming.files import Problem
from f1hbase.sources.livetiming.lines import BadLineError, inflate, is_deflated
from f1hbase.sources.livetiming.messages import Message, SessionContext
from f1hbase.sources.livetiming.spelling import utc
from f1hbase.sources.livetiming.topics import NORMALISERS, TELEMETRY, Normaliser
from f1hbase.sources.livetiming.topics.base import MISSHAPEN

WAIT_SECONDS = 3.0
"""How long messages wait to be put in order; 890 of 15,757 real ones arrived out of it, by less than a second."""

ORDERED_ALONE = ("laps", "stints")
"""The endpoints whose records are made only in order."""

_AT_THE_END = ("session_result",)
_ELSEWHERE = ("starting_grid",)
"""What needs the files of another session, which only the archive has."""

_STATELESS = ("position", "weather", "team_radio", "overtakes")
"""The endpoints whose records depend on nothing but their message."""

AT_ONCE = tuple(name for name in NORMALISERS if name not in {*ORDERED_ALONE, *_AT_THE_END, *_ELSEWHERE})
IN_ORDER = tuple(name for name in NORMALISERS if name not in {*_STATELESS, *_ELSEWHERE})

SHARED_TOPICS = frozenset(topic for name in IN_ORDER for topic in NORMALISERS[name].topics)
"""The topics whose messages instances share: without one of them, later records may be wrong."""

_TELEMETRY = {telemetry.topic: endpoint for endpoint, telemetry in TELEMETRY.items()}
_ENDPOINT_OF = {
    **{topic: name for name in (*IN_ORDER, *AT_ONCE) for topic in NORMALISERS[name].topics}, **_TELEMETRY,
}  # fmt: skip
_TIME = re.compile(rb'"(?:Utc|Timestamp)":\s*"(\d{4}-[0-9T:.\-]+)Z?"')
_GIVEN_FOR = 120.0
"""For how many seconds what was given at once is remembered, to be compared with what order makes of it."""

_STATE_AHEAD = timedelta(seconds=3)
"""Heartbeats name times up to this much ahead of the times of messages (2.2 s in a real recording)."""

_EXCERPT = 2_000


class _Place(NamedTuple):
    """What messages are put in order by: their time, topic and arrival."""

    moment: datetime
    topic: str
    order: int
    number: int


@dataclass(slots=True)
class _Waiting:
    """Messages that wait to be put in order."""

    heap: list[tuple[_Place, Message]] = field(default_factory=list)
    arrivals: deque[tuple[float, _Place]] = field(default_factory=deque)
    number: int = 0

    def add(self, message: Message, order: int, arrived: float, *, at: datetime | None = None) -> None:
        """Add a message; `at` is its place in time, if that is not its moment."""
        self.number += 1
        # The parts of a whole state keep the order in which they are given.
        place = _Place(at or message.moment, "" if at else message.topic, 0 if at else order, self.number)
        heapq.heappush(self.heap, (place, message))
        self.arrivals.append((arrived, place))

    def due(self, until: float) -> Iterator[Message]:
        """Yield, in order, the messages up to the last one that arrived at a moment or earlier."""
        last: _Place | None = None
        while self.arrivals and self.arrivals[0][0] <= until:
            _, place = self.arrivals.popleft()
            last = place if last is None else max(last, place)
        while last is not None and self.heap and self.heap[0][0] <= last:
            yield heapq.heappop(self.heap)[1]


class LiveRecords:
    """The records of one session as its messages arrive.

    Args:
        context: The session.
        wait: How long messages wait to be put in order, in seconds.
    """

    def __init__(self, context: SessionContext, wait: float = WAIT_SECONDS) -> None:
        self._context = context
        self._wait = wait
        self._at_once = {name: NORMALISERS[name](context) for name in AT_ONCE}
        self._in_order = {name: NORMALISERS[name](context) for name in IN_ORDER}
        self._waiting = _Waiting()
        self._held = False
        self._seen: set[int] = set()
        self._baselines: list[tuple[Message, int, float]] = []
        self._given: dict[tuple[str, Identity, int], int] = {}
        self._given_at: deque[tuple[float, tuple[str, Identity, int]]] = deque()
        self._known: dict[tuple[str, Identity], int] = {}
        self.last: datetime | None = None
        """When the latest of the messages so far was sent."""

    def take(self, topic: str, content: Any, moment: datetime, order: int, arrived: float) -> list[FeedRecords]:
        """Return the records that a message makes at once.

        Args:
            topic: The message's topic, as the hub pushes it.
            content: What it says.
            moment: When it was sent.
            order: Tells which of two messages of one moment and topic came first.
            arrived: When it arrived, in seconds of the clock that `due` is given, too.
        """
        stamp = milliseconds(moment)
        self.last = moment if self.last is None else max(self.last, moment)
        if topic in _TELEMETRY:
            return self._samples(topic, content, moment, stamp)
        if topic in SHARED_TOPICS:
            mark = mark_of(moment, topic, msgspec.json.encode(content, order="sorted"))
            if mark in self._seen:
                return []  # the hub repeats messages now and then
            self._seen.add(mark)
        message = Message(moment, topic, content)
        found = self._made(self._at_once, message, arrived)
        if topic in SHARED_TOPICS:
            self._waiting.add(message, order, arrived)
        return found

    def snapshot(self, topics: Mapping[str, Any], moment: datetime, order: int, arrived: float) -> list[FeedRecords]:
        """Take the whole state of topics, as it comes with each connection; then `fill` is due.

        Returns:
            What needs no order: recordings of the team radio.
        """
        self._held = True
        self._baselines = []
        found: list[FeedRecords] = []
        # When the parts of qualifying began is in SessionData, and needed for the messages of race control.
        for topic in sorted(topics, key=lambda name: (name != "SessionData", name)):
            if is_deflated(topic):
                continue  # the latest samples, which the messages before had
            message = Message(moment, topic, topics[topic], baseline=True)
            for name, normaliser in self._at_once.items():
                if topic in normaliser.topics:
                    records, _ = _taken(normaliser, message)
                    if name in _STATELESS and records:
                        found.append(self._stored(name, records, message))
            if topic in SHARED_TOPICS:
                self._baselines.append((message, order, arrived))
        return found

    def fill(self, messages: Iterable[tuple[datetime, str, bytes, int]], *, covered: bool, arrived: float) -> int:
        """Fill a gap with messages of others, and go on putting in order.

        Args:
            messages: Time, topic, JSON and order of each; those that this instance has had count once.
            covered: Whether they are all that was sent meanwhile. Otherwise the whole state that came with the
                connection stands for what is missing.
            arrived: The present, by the clock of `take`.

        Returns:
            How many of the messages were missing.
        """
        missing = 0
        for moment, topic, body, order in messages:
            try:
                content = msgspec.json.decode(body)
                mark = mark_of(moment, topic, msgspec.json.encode(content, order="sorted"))
            except (msgspec.MsgspecError, RecursionError):
                continue
            if topic not in SHARED_TOPICS or mark in self._seen:
                continue
            self._seen.add(mark)
            self._waiting.add(Message(moment, topic, content), order, arrived)
            missing += 1
        if not covered:
            first = self._waiting.heap[0][0].moment if self._waiting.heap else datetime.max.replace(tzinfo=UTC)
            for message, order, at in self._baselines:
                place = min(first, message.moment) - timedelta(microseconds=1)
                self._waiting.add(message, order, at, at=place)
        self._baselines = []
        self._held = False
        return missing

    def due(self, now: float) -> list[FeedRecords]:
        """Return the records that messages make which have waited long enough."""
        self._forget(now)
        return [] if self._held else self._ordered(now - self._wait)

    def end(self, *, over: bool) -> list[FeedRecords]:
        """Return what all messages so far make and, if the session is over, what only its end makes."""
        self._held = False
        found = self._ordered(float("inf"))
        moment = self.last or datetime.now(UTC)
        for name, normaliser in self._in_order.items() if over else ():
            records = list(normaliser.end())
            if records:
                found.append(FeedRecords(name, records, milliseconds(moment)))
        return found

    def _ordered(self, until: float) -> list[FeedRecords]:
        latest: dict[tuple[str, Identity], tuple[int, Record]] = {}
        problems: list[FeedRecords] = []
        for message in self._waiting.due(until):
            for name, normaliser in self._in_order.items():
                if message.topic not in normaliser.topics:
                    continue
                records, problem = _taken(normaliser, message)
                for record in records:
                    key = name, identity(ENDPOINTS[name], record)
                    if not message.baseline or key not in self._known:
                        # Of a record that changes several times, the last state.
                        latest[key] = _stamp_of(name, record, message), record
                if problem is not None and name in ORDERED_ALONE:
                    problems.append(FeedRecords(name, [problem.record()], milliseconds(message.moment)))
        found = []
        for (name, key), (stamp, record) in latest.items():
            mark = hash(canonical_json(record))
            self._known[name, key] = stamp
            if self._given.get((name, key, stamp)) != mark:
                # Beside a record that was made at once, and wrong, nothing of that one may stay.
                found.append(FeedRecords(name, [record], stamp, replaces=name not in ORDERED_ALONE))
        return [*found, *problems]

    def _made(self, normalisers: Mapping[str, Normaliser], message: Message, arrived: float) -> list[FeedRecords]:
        found: list[FeedRecords] = []
        for name, normaliser in normalisers.items():
            if message.topic not in normaliser.topics:
                continue
            records, problem = _taken(normaliser, message)
            if records:
                made = self._stored(name, records, message)
                found.append(made)
                if name not in _STATELESS:
                    self._remember(name, made, arrived)
            if problem is not None:
                found.append(FeedRecords(name, [problem.record()], milliseconds(message.moment)))
        return found

    def _stored(self, name: str, records: Sequence[Record], message: Message) -> FeedRecords:
        stamp = max(_stamp_of(name, record, message) for record in records)
        return FeedRecords(name, records, stamp, final=name in _STATELESS)

    def _remember(self, name: str, made: FeedRecords, arrived: float) -> None:
        for record in made.records:
            key = name, identity(ENDPOINTS[name], record), made.stamp
            self._given[key] = hash(canonical_json(record))
            self._given_at.append((arrived, key))

    def _forget(self, now: float) -> None:
        while not self._held and self._given_at and self._given_at[0][0] < now - _GIVEN_FOR:
            self._given.pop(self._given_at.popleft()[1], None)

    def _samples(self, topic: str, content: Any, moment: datetime, stamp: int) -> list[FeedRecords]:
        endpoint = _TELEMETRY[topic]
        try:
            if not isinstance(content, str):
                raise BadLineError(f"it is no text, but {type(content).__name__}")
            rows, others = TELEMETRY[endpoint].rows(self._context, inflate(content))
        except (BadLineError, *MISSHAPEN) as error:
            return [FeedRecords(endpoint, [_problem(topic, moment, str(error), content).record()], stamp)]
        found: list[FeedRecords] = []
        if rows:
            found.append(FeedRecords(endpoint, Samples(ENDPOINTS[endpoint], rows), stamp, final=True))
        if others:
            found.append(FeedRecords(endpoint, others, stamp, final=True))
        return found

    def time_of(self, topics: Mapping[str, Any], arrived_at: datetime) -> datetime:
        """Return a time at which a whole state held, and which is no later than that of the messages after it."""
        found = [] if self.last is None else [self.last]
        for topic, content in topics.items():
            if is_deflated(topic):
                continue
            for text in _TIME.findall(msgspec.json.encode(content)):
                try:
                    found.append(utc(text.decode("ascii")) - _STATE_AHEAD)
                except (ValueError, OverflowError):
                    continue  # "0001-01-01T00:00:00" stands for no time
        return max((moment for moment in found if moment <= arrived_at), default=arrived_at)


def milliseconds(moment: datetime) -> int:
    """Return a time as HBase has it: whole milliseconds since 1970, cut."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def mark_of(moment: datetime, topic: str, body: bytes) -> int:
    """Return what is the same for the same message, within a process."""
    return hash((milliseconds(moment), topic, body))


def endpoint_of(topic: str) -> str:
    """Return an endpoint that is made of a topic, to whose quarantine goes what cannot be read."""
    return _ENDPOINT_OF.get(topic, "sessions")


def problem_of(topic: str, moment: datetime, reason: str, content: Any) -> FeedRecords:
    """Return what goes to quarantine for a message that cannot be read."""
    return FeedRecords(
        endpoint_of(topic), [_problem(topic, moment, reason, content).record()], milliseconds(moment)
    )  # fmt: skip


def _taken(normaliser: Normaliser, message: Message) -> tuple[list[Record], Problem | None]:
    records: list[Record] = []
    try:
        for record in normaliser.take(message):
            identity(ENDPOINTS[normaliser.endpoint], record)
            records.append(record)
    except (*MISSHAPEN, InvalidRecordError) as error:
        what = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else str(error)
        reason = f"it is not as the service sends it ({what})"
        return records, _problem(message.topic, message.moment, reason, message.content)
    return records, None


def _problem(topic: str, moment: datetime, reason: str, content: Any) -> Problem:
    where = f"{topic}, message of {moment.isoformat()}"
    return Problem(where, 0, safe(reason, 300), safe(f"{content!r:.{_EXCERPT}}"))


def _stamp_of(endpoint: str, record: Record, message: Message) -> int:
    """Return the timestamp of a record's cells.

    It is its message's. A whole state says records anew whose own messages came when they happened; these precede.
    """
    stamp = milliseconds(message.moment)
    field_name = ENDPOINTS[endpoint].time_field
    if not message.baseline or field_name is None:
        return stamp
    own = lenient_time(record.get(field_name))
    return stamp if own is None else min(stamp, milliseconds(own))
