"""A recording from its beginning to its end: waits for a session, follows the feed, and loads it once more at last."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from f1hbase.destinations.live import LiveDestination, LiveDestinationRecipe
from f1hbase.errors import F1HBaseError
from f1hbase.levels import SUCCESS
from f1hbase.model.answers import RequestStats
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.outcomes import Outcome, Receipt
from f1hbase.model.plans import Selection
from f1hbase.model.text import count, duration
from f1hbase.model.times import LONG_AGO, minute
from f1hbase.model.units import Scope, Unit
from f1hbase.pipeline.collector import EXIT_DONE, EXIT_INTERRUPTED
from f1hbase.pipeline.live.backlog import Backlog, wait_until_empty
from f1hbase.pipeline.live.beating import Beating
from f1hbase.pipeline.live.choosing import Chosen, choose, file_name, instance_name, mark_over, sessions_over
from f1hbase.pipeline.live.figures import Figures
from f1hbase.pipeline.live.items import encode_message
from f1hbase.pipeline.live.storing import Storing
from f1hbase.sources.feeds import Back, Feed, FeedMessage, FeedRecipe, FeedRecords, HasRest, Lost, Over
from f1hbase.state.base import new_run_id
from f1hbase.state.live import CONNECTING, ENDED, LOST, RECORDING, STOPPED, WAITING, Heartbeat
from f1hbase.version import __version__

_log = logging.getLogger(__name__)

GRACE_SECONDS = 20.0
"""How long messages are still taken after the session was said to be over."""

_CHECK_SECONDS = 0.25
_SCHEDULE_EVERY_SECONDS = 3600.0
_SAY_EVERY_SECONDS = 60.0
_STOP_SECONDS = 10.0
"""How long what waits may take to be stored when the process is told to end; what is left stays on disk."""

_END_SECONDS = 120.0
_PARTIAL_EVERY_SECONDS = 60.0
_BEFORE_OVER = timedelta(seconds=1)


class Keeper(Protocol):
    """Keeps raw lines; never raises and never waits."""

    def add(self, line: bytes, arrived: float) -> None:
        """Keep a line, that arrived at a time in seconds since 1970."""

    def close(self) -> None:
        """Store what is left, or leave it to the next keeper of the same name."""


class KeeperRecipe(Protocol):
    """Says how raw lines are kept."""

    def open(self, scope: Scope, instance: str, folder: Path) -> Keeper:
        """Open the keeper of a session.

        Args:
            scope: The session.
            instance: The name of this instance.
            folder: Where what cannot be stored yet may wait.

        Raises:
            F1HBaseError: If there is no such place; says why and what to do.
        """


@dataclass(frozen=True, slots=True)
class LiveRequest:
    """What a recording is to do.

    Attributes:
        selection: Names the session by its key or that of its meeting; nothing for the one that is on, or the next.
        instance: The name of this instance; empty for the host's with a number.
        begin_before: How long before its scheduled start the feed is connected to.
        idle: After how long without data the recording ends.
        folder: Where what is not stored waits, when it is much.
        load_archive: Loads the session once more when it is over, and returns the exit code; None not to.
        shown: The settings as the run's row keeps them; no credentials.
        memory: How many bytes wait in memory at the most.
        grace: How long messages are still taken after the session was said to be over, in seconds.
        hear: Told of the records of each message as it comes, in the loop that reads the feed: it must not wait.
    """

    selection: Selection
    instance: str
    begin_before: timedelta
    idle: timedelta
    folder: Path
    load_archive: Callable[[Scope], int] | None = None
    shown: dict[str, str] = field(default_factory=dict)
    memory: int = 16_000_000
    grace: float = GRACE_SECONDS
    hear: Callable[[FeedRecords], None] | None = None


@dataclass(frozen=True, slots=True)
class LiveParts:
    """What a recording is made with.

    Attributes:
        feed: Where records come from.
        destination: Where they go.
        keepers: What keeps the raw lines.
    """

    feed: FeedRecipe
    destination: LiveDestinationRecipe
    keepers: Sequence[KeeperRecipe] = ()


@dataclass(slots=True)
class Recording:
    """A recording that is going on; its figures may be read by any thread.

    Attributes:
        state: See `f1hbase.state.live.Heartbeat`.
        chosen: The session, once it is known.
        instance: The name of this instance.
        error: What went wrong last, if it still does.
        figures: How it goes.
        backlog: What waits; None before and after.
    """

    state: str = WAITING
    chosen: Chosen | None = None
    instance: str = ""
    error: str = ""
    figures: Figures = field(default_factory=Figures)
    backlog: Backlog | None = None
    storing: Storing | None = None

    def stats(self) -> dict[str, float]:
        """Return the figures."""
        waiting = {"waiting_bytes": 0, "spooled_bytes": 0}
        if self.backlog is not None:
            waiting = {"waiting_bytes": self.backlog.waiting_bytes, "spooled_bytes": self.backlog.disk_bytes}
        return {**self.figures.stats(), **waiting}

    def beat(self) -> Heartbeat:
        """Return the heartbeat of now."""
        assert self.chosen is not None
        last = self.figures.last_message
        meta = {"host": socket.gethostname(), "pid": str(os.getpid()), "version": __version__}
        if last:
            meta["last_message"] = datetime.fromtimestamp(last, UTC).isoformat()
        error = self.error or (self.storing.away_because if self.storing is not None else "")
        return Heartbeat(
            self.chosen.scope.prefix, self.instance, self.state, datetime.now(UTC), meta, self.stats(), error
        )


@dataclass(frozen=True, slots=True)
class Recorded:
    """How a recording went.

    Attributes:
        exit_code: 0 recorded, and loaded from the archive where that was wanted; 1 something went to quarantine, could
            not be stored or not be loaded; 130 told to stop.
        scope: The session: its keys, its dates and its `name`; None if it was told to stop before one was known.
        instance: The name that this instance had.
        stats: The figures: `messages`, `rows`, `quarantined`, `reconnects`, `latency_p50` and `latency_p99` in seconds
            and others.
    """

    exit_code: int
    scope: Scope | None
    instance: str
    stats: dict[str, float]


async def record(request: LiveRequest, parts: LiveParts, stop: asyncio.Event, recording: Recording) -> int:
    """Record a session; return the exit code: 0 recorded, 1 something went to quarantine, 130 told to stop.

    Args:
        request: What to do.
        parts: What to do it with.
        stop: Set by who wants it to end.
        recording: Told how it goes.

    Raises:
        F1HBaseError: If it could not begin, or the feed cannot go on; says why and what to do.
    """
    while True:
        recording.chosen = await _chosen(request, parts)
        with instance_name(request.instance, request.folder) as name:
            recording.instance, recording.state = name, WAITING
            code = await _Run(request, parts, stop, recording, recording.chosen).run()
        if code is not None:
            return code


async def _chosen(request: LiveRequest, parts: LiveParts) -> Chosen:
    listing = await parts.feed.listing()
    return choose(listing, request.selection, datetime.now(UTC), sessions_over(request.folder))


def load_once_more(request: LiveRequest, recording: Recording, code: int) -> int:
    """Load a session that was recorded once more, if that is wanted; return the exit code of all.

    What was recorded is not complete for sure: who joined late has laps and stints wrong. Runs in a thread of its own,
    or in none, as a load does.

    Args:
        request: What the recording was to do.
        recording: How it went.
        code: Its exit code; of one that was told to stop nothing is loaded.
    """
    if code == EXIT_INTERRUPTED or request.load_archive is None or recording.chosen is None:
        return code
    scope = recording.chosen.scope
    _log.info("loading %s once more from the archive", scope.name)
    loaded = request.load_archive(scope)
    if loaded == EXIT_DONE:
        _log.log(SUCCESS, "%s is recorded, and loaded from the archive", scope.name)
    return loaded or code


class _Run:
    """One recording."""

    def __init__(
        self, request: LiveRequest, parts: LiveParts, stop: asyncio.Event, recording: Recording, chosen: Chosen
    ) -> None:
        self._request = request
        self._parts = parts
        self._stop = stop
        self._recording = recording
        self._chosen = chosen
        self._scope = chosen.scope
        self._run_id = new_run_id(datetime.now(UTC))
        self._keepers: list[Keeper] = []
        self._over: tuple[float, str] | None = None
        self._lost_at: float | None = None
        self._has_failed_to_tell = False

    async def run(self) -> int | None:
        """Record the session; return the exit code, or None if the schedule has changed and another one is next."""
        recording, scope = self._recording, self._scope
        folder = self._request.folder
        spool = folder / f"{file_name(recording.instance)}.{scope.session_key}.spool"
        with ExitStack() as stack:
            opened = self._parts.destination.open(scope, self._run_id)
            destination = await asyncio.to_thread(stack.enter_context, opened)
            async with self._parts.feed.open(scope, recording.instance, destination.log) as feed:
                for keeping in self._parts.keepers:
                    self._keepers.append(await asyncio.to_thread(keeping.open, scope, recording.instance, folder))
                backlog = recording.backlog = Backlog(spool, self._request.memory)
                stack.callback(backlog.close)
                if backlog.waiting_bytes:
                    _log.warning(
                        "%s of an earlier run were not stored yet, and are now", f"{backlog.waiting_bytes:,} bytes"
                    )
                storing = recording.storing = Storing(
                    backlog, destination.writer, scope, recording.figures, feed.knows, destination.name
                )
                stack.enter_context(storing)
                beating = Beating(destination.heartbeats, scope, recording.beat)
                await asyncio.to_thread(stack.enter_context, beating)
                self._put_session()
                for lack in feed.lacks:
                    _log.warning("this recording will not have: %s", lack)
                try:
                    if await self._wait_for_begin():
                        await self._follow(feed, destination)
                    elif not self._stop.is_set():
                        recording.state = STOPPED
                        return None
                except F1HBaseError as error:
                    recording.state, recording.error = STOPPED, str(error)
                    raise
                code = await self._finish(feed, backlog, destination)
            for keeper in self._keepers:
                await asyncio.to_thread(keeper.close)
            if recording.state == ENDED and await asyncio.to_thread(beating.is_last):
                await asyncio.to_thread(_forget, destination)
        return code

    async def _wait_for_begin(self) -> bool:
        """Wait until the session is near; False if told to stop meanwhile, or if another one is next now."""
        name, said = self._scope.name, LONG_AGO
        while not self._stop.is_set():
            start = self._scope.date_start
            left = -1.0 if start is None else (start - self._request.begin_before - _now()).total_seconds()
            if start is None or left <= 0:
                return True
            if start != said:
                _log.info("%s begins %s: waiting for %s", name, minute(start), duration(left))
                said = start
            if await self._is_told_to_stop(min(_SCHEDULE_EVERY_SECONDS, left)):
                return False
            if left > _SCHEDULE_EVERY_SECONDS and not await self._is_still_next():
                return False
        return False

    async def _is_still_next(self) -> bool:
        """Look at the schedule again, which changes now and then; tell whether the session is still the next one."""
        try:
            chosen = await _chosen(self._request, self._parts)
        except F1HBaseError as error:
            _log.warning("the schedule cannot be looked at again: %s", error)
            return True
        if chosen.scope.prefix != self._scope.prefix:
            _log.warning("the schedule has changed: %s is next, not %s", chosen.scope.name, self._scope.name)
            return False
        self._chosen = self._recording.chosen = chosen
        self._scope = chosen.scope
        return True

    async def _is_told_to_stop(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._stop.wait(), max(0.0, seconds))
        except TimeoutError:
            return False
        return True

    async def _follow(self, feed: Feed, destination: LiveDestination) -> None:
        """Take what the feed has until the session is over, nothing comes for long, or somebody says stop."""
        recording = self._recording
        recording.state = CONNECTING
        _log.info("recording %s from %s as %s", self._scope.name, feed.home, recording.instance)
        began = time.time()
        if self._scope.date_start is not None:
            began = max(began, self._scope.date_start.timestamp())
        said = written = time.monotonic()
        reading = asyncio.create_task(self._read(feed))
        try:
            while not reading.done():
                stopped = await self._is_told_to_stop(_CHECK_SECONDS)
                now = time.time()
                if stopped:
                    return
                if self._over is not None and now - self._over[0] > self._request.grace:
                    _log.info("the session is over: %s", self._over[1])
                    if self._scope.session_key is not None:
                        mark_over(self._request.folder, self._scope.session_key)
                    return
                silent = now - max(began, recording.figures.last_message)
                if silent > self._request.idle.total_seconds():
                    _log.warning("nothing has come for %s: the recording ends", duration(silent))
                    return
                if time.monotonic() - said > _SAY_EVERY_SECONDS:
                    said = time.monotonic()
                    self._say()
                if time.monotonic() - written > _PARTIAL_EVERY_SECONDS:
                    written = time.monotonic()
                    await asyncio.to_thread(self._write_partial, destination)
            reading.result()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self, feed: Feed) -> None:
        recording = self._recording
        async for event in feed.events():
            if isinstance(event, FeedMessage):
                self._take(event)
            elif isinstance(event, Lost):
                if self._lost_at is None:
                    self._lost_at = time.monotonic()
                if event.reason != recording.error:
                    _log.warning("the feed is not connected: %s; trying again", event.reason)
                recording.state, recording.error = LOST, event.reason
            elif isinstance(event, Back):
                if self._lost_at is not None:
                    _log.info("connected to %s after %.1f s", feed.home, time.monotonic() - self._lost_at)
                self._lost_at = None
                recording.state, recording.error = RECORDING, ""
                recording.figures.connections += 1
            elif isinstance(event, Over) and self._over is None:
                self._over = time.time(), event.reason

    def _take(self, message: FeedMessage) -> None:
        backlog = self._recording.backlog
        assert backlog is not None
        for item in encode_message(message, self._scope):
            backlog.put(item)
        if message.raw is not None:
            figures = self._recording.figures
            figures.messages += 1
            figures.last_message = message.arrived.timestamp()
            for keeper in self._keepers:
                keeper.add(message.raw, message.arrived.timestamp())
        if self._request.hear is not None:
            self._tell(self._request.hear, message.records)

    def _tell(self, hear: Callable[[FeedRecords], None], records: Sequence[FeedRecords]) -> None:
        try:
            for some in records:
                hear(some)
        except Exception:  # noqa: BLE001 - a mistake in it must not end a recording that nobody could make again
            if not self._has_failed_to_tell:
                _log.exception("what listens to the records has failed; the recording goes on, and this is said once")
            self._has_failed_to_tell = True

    def _put_session(self) -> None:
        """Store what is known of the session and its meeting, which no message says."""
        now = datetime.now(UTC)
        stamp = int(now.timestamp() * 1000)
        records = [FeedRecords("sessions", [self._chosen.session], stamp)]
        if self._chosen.meeting is not None:
            records.append(FeedRecords("meetings", [self._chosen.meeting], stamp))
        self._take(FeedMessage(now, records))

    async def _finish(self, feed: Feed, backlog: Backlog, destination: LiveDestination) -> int:
        stopped = self._stop.is_set()
        if isinstance(feed, HasRest):
            rest = feed.finish()
            if rest is not None:
                self._take(rest)
        empty = await asyncio.to_thread(wait_until_empty, backlog, _STOP_SECONDS if stopped else _END_SECONDS)
        if not empty:
            _log.error(
                "%s could not be stored in time: they stay in '%s', and the next recording of this session under the "
                "name %s stores them", f"{backlog.waiting_bytes:,} bytes", self._request.folder,
                self._recording.instance,
            )  # fmt: skip
        else:
            await asyncio.to_thread(self._write_partial, destination)
        self._recording.state = STOPPED if stopped else ENDED
        self._say()
        if stopped:
            return EXIT_INTERRUPTED
        return EXIT_DONE if empty and not self._recording.figures.quarantined else 1

    def _say(self) -> None:
        stats, figures = self._recording.stats(), self._recording.figures
        _log.info(
            "%s, %s stored, %s in quarantine, %s connections; latency p50 %.0f ms, p99 %.0f ms; %s bytes wait",
            count(figures.messages, "message"), count(figures.rows.total(), "row"), figures.quarantined,
            figures.connections, 1000 * stats["latency_p50"], 1000 * stats["latency_p99"],
            f"{stats['waiting_bytes']:,.0f}",
        )  # fmt: skip

    def _write_partial(self, destination: LiveDestination) -> None:
        """Write a line for each endpoint: never done, whatever the time, as the archive has yet to confirm it."""
        scope, figures = self._scope, self._recording.figures
        over_at = scope.over_at
        if over_at is None:
            return
        asked_at = min(datetime.now(UTC), over_at - _BEFORE_OVER)
        with figures.lock:
            rows = dict(figures.rows)
        outcomes = [
            Outcome(Unit(name, scope), asked_at, f"live:{self._recording.instance}", records=number,
                    receipt=Receipt(number), stats=RequestStats())
            for name, number in rows.items()
            if not ENDPOINTS[name].of_meeting
        ]  # fmt: skip
        try:
            destination.states.write_partial(self._run_id, outcomes)
        except F1HBaseError as error:
            _log.debug("the lines of the units are not written: %s", error)


def _now() -> datetime:
    return datetime.now(UTC)


def _forget(destination: LiveDestination) -> None:
    try:
        destination.forget_messages()
    except F1HBaseError as error:
        _log.debug("the shared messages are not deleted: %s", error)
