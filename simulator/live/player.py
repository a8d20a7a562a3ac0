"""Walks through a script by a clock, hands each message to who listens, and keeps the merged state; knows no socket."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import inf
from typing import IO, Any, NamedTuple

import msgspec

from f1hbase.sources.livetiming.lines import BadLineError, parse
from f1hbase.sources.livetiming.patch import KEY_FRAME, merged
from simulator.live.script import Script

WHOLE = frozenset({"Heartbeat", "SessionInfo", "SessionStatus", "TrackStatus", "WeatherData"})
"""The topics whose every message is the whole state, and says so: `_kf` (seen in both real recordings)."""

_YIELD_EVERY = 50
"""After so many messages that are due at once, others get their turn."""


@dataclass(frozen=True, slots=True)
class Timing:
    """When messages are played.

    Attributes:
        speed: How many seconds of the session pass in a real one; 0 for as fast as the listeners take them.
        start_at: When to begin (seconds of `time.time()`); None for as soon as `subscribers` have subscribed.
        subscribers: How many subscribers to begin with, where no time is given; 0 begins at once.
        hold: The player stands still while there are fewer subscribers; 0 for never, as the real hub.
        skip: What lies so far (seconds) from the first message is in the state at once, as for who joins late.
        until: What lies further (seconds) from the first message is not played.
    """

    speed: float = 1.0
    start_at: float | None = None
    subscribers: int = 1
    hold: int = 0
    skip: float = 0.0
    until: float = inf


class Played(NamedTuple):
    """A message that is being sent.

    Attributes:
        number: Which one, from 0.
        since: When, in seconds since the first message.
        body: Its JSON; of a topic in `.z` base64 in quotes.
        moment: When the service sent it.
    """

    number: int
    since: float
    topic: str
    body: bytes
    moment: datetime


Listener = Callable[[Played], Awaitable[None]]
"""Takes a message; with speed 0 the player waits for it."""


class Player:
    """Plays a script once.

    Args:
        script: What is played.
        timing: When.
        sent: Gets a line of JSON for each message: its number, topic, time, and when it was played (seconds of
            `time.time()`), from which latencies can be told.
    """

    def __init__(self, script: Script, timing: Timing, sent: IO[bytes] | None = None) -> None:
        self.script = script
        self.timing = timing
        self.position = 0
        """How many messages have been played."""
        self.since = 0.0
        """How far that is, in seconds since the first message."""
        self.over = asyncio.Event()
        """Set when all is played."""
        self._sent = sent
        self._state: dict[str, Any] = {}
        self._listeners: list[Listener] = []
        self._subscribers = 0
        self._excused_until = -inf
        self._hold = timing.hold
        self._started = asyncio.Event()
        self._changed = asyncio.Event()
        self._excused = asyncio.Event()
        self._excused.set()

    def listen(self, listener: Listener) -> None:
        """Hand on all messages from now on, to who is no subscriber."""
        self._listeners.append(listener)

    def subscribe(self, listener: Listener) -> None:
        """Hand on all messages from now on."""
        self._listeners.append(listener)
        self._subscribers += 1
        if self.timing.start_at is None and self._subscribers >= self.timing.subscribers:
            self._started.set()
        self._changed.set()

    def unsubscribe(self, listener: Listener) -> None:
        """Hand on no more."""
        if listener in self._listeners:
            self._listeners.remove(listener)
            self._subscribers -= 1
            self._changed.set()

    def start(self) -> None:
        """Begin, whoever listens."""
        self._started.set()

    def hold(self, subscribers: int) -> None:
        """Stand still while there are fewer subscribers from now on; 0 for never."""
        self._hold = subscribers
        self._changed.set()

    def excuse(self, seconds: float) -> None:
        """Do not stand still for so many seconds of the session: a subscriber is away on purpose."""
        if seconds and not self.over.is_set():
            self._excused_until = self.since + seconds
            self._excused.clear()
            self._changed.set()

    async def excused(self) -> None:
        """Wait until nobody is away on purpose."""
        await self._excused.wait()

    def snapshot(self, topics: Collection[str]) -> dict[str, Any]:
        """Return the merged state of some topics so far, as the hub sends it to who subscribes."""
        found = {topic: self._state[topic] for topic in sorted(topics) if topic in self._state}
        return {
            topic: {**state, KEY_FRAME: True} if topic in WHOLE and isinstance(state, dict) else state
            for topic, state in found.items()
        }

    async def run(self) -> None:
        """Wait for the beginning, and play to the end."""
        lines = self.script.lines
        first = lines[0].since
        self._skip_to(first + timedelta(seconds=self.timing.skip))
        await self._begin()
        ahead = 0.0  # how much later than planned everything is, for having stood still
        began, since_begin = time.monotonic(), self.since
        for number in range(self.position, len(lines)):
            since = (lines[number].since - first).total_seconds()
            if since > self.timing.until:
                break
            ahead += await self._stand_still(since)
            if self.timing.speed:
                due = began + ahead + (since - since_begin) / self.timing.speed
                if due > (now := time.monotonic()):
                    await asyncio.sleep(due - now)
            elif number % _YIELD_EVERY == 0:
                await asyncio.sleep(0)
            await self._play(number, since)
        self._excused.set()
        self.over.set()

    async def _begin(self) -> None:
        start_at = self.timing.start_at
        if start_at is not None:
            delay = asyncio.create_task(asyncio.sleep(max(0.0, start_at - time.time())))
            delay.add_done_callback(lambda _: self._started.set())
        elif not self.timing.subscribers:
            self._started.set()
        await self._started.wait()

    async def _stand_still(self, since: float) -> float:
        """Wait until there are enough subscribers, and return how long that took, in seconds."""
        began = time.monotonic()
        if since >= self._excused_until:
            self._excused.set()
        while self._subscribers < self._hold and since >= self._excused_until:
            self._changed.clear()
            await self._changed.wait()
        return time.monotonic() - began

    async def _play(self, number: int, since: float) -> None:
        line = self.script.lines[number]
        body = line.body
        if line.topic in WHOLE and body.endswith(b"}") and len(body) > 2 and f'"{KEY_FRAME}"'.encode() not in body:
            body = body[:-1] + f',"{KEY_FRAME}":true}}'.encode()
        self._merge(number)
        self.position, self.since = number + 1, since
        played = Played(number, since, line.topic, body, self.script.t0 + line.since)
        if self._sent is not None:
            entry = {"number": number, "topic": line.topic, "date": played.moment.isoformat(), "at": time.time()}
            self._sent.write(msgspec.json.encode(entry) + b"\n")
        for listener in tuple(self._listeners):
            await listener(played)

    def _merge(self, number: int) -> None:
        line = self.script.lines[number]
        try:
            content = parse(line.body)
        except BadLineError:
            return  # it is sent as it is, and changes nothing
        state = self._state.get(line.topic)
        try:
            self._state[line.topic] = content if state is None else merged(state, content)
        except ValueError:
            self._state[line.topic] = content

    def _skip_to(self, moment: timedelta) -> None:
        if not self.timing.skip:
            return
        lines = self.script.lines
        while self.position < len(lines) and lines[self.position].since < moment:
            self._merge(self.position)
            self.since = (lines[self.position].since - lines[0].since).total_seconds()
            self.position += 1
