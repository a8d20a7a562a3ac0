"""The live timing hub as a feed: the session that is on, its records as they happen; knows no destination."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from f1hbase.config import HUB_URL, Config
from f1hbase.credentials import F1TV_VARIABLE, Secret, read_f1tv_token
from f1hbase.errors import ConfigError, F1HBaseError, UnreachableError
from f1hbase.model.answers import Listing
from f1hbase.model.plans import Selection
from f1hbase.model.text import safe
from f1hbase.model.times import lenient_time, minute
from f1hbase.model.units import Scope
from f1hbase.sources.feeds import Back, Feed, FeedEvent, FeedMessage, FeedRecords, Lost, Over
from f1hbase.sources.livetiming.archive import NAME
from f1hbase.sources.livetiming.hub import (
    Hub,
    HubEvent,
    HubLostError,
    HubRefusedError,
    NotAHubError,
    Snapshot,
    Unreadable,
)
from f1hbase.sources.livetiming.live_records import (
    SHARED_TOPICS,
    WAIT_SECONDS,
    LiveRecords,
    problem_of,
)
from f1hbase.sources.livetiming.messages import SessionContext
from f1hbase.sources.livetiming.recipe import recipe
from f1hbase.sources.livetiming.schedule import context_of, session_record
from f1hbase.sources.livetiming.source import LiveTimingOptions, fields_of, open_source
from f1hbase.sources.livetiming.spelling import utc, whole
from f1hbase.state.live import LoggedMessage, MessageLog

_log = logging.getLogger(__name__)

TOKEN_TOPICS = ("CarData.z", "Position.z", "ChampionshipPrediction", "DriverRaceInfo", "PitStop")
"""What the hub has for subscribers only."""

TOPICS = (
    "ArchiveStatus", "AudioStreams", "CarData.z", "ChampionshipPrediction", "ContentStreams", "CurrentTyres",
    "DriverList", "DriverRaceInfo", "DriverTracker", "ExtrapolatedClock", "Heartbeat", "LapCount", "LapSeries",
    "OvertakeSeries", "PitLaneTimeCollection", "PitStop", "PitStopSeries", "Position.z", "RaceControlMessages",
    "SessionData", "SessionInfo", "SessionStatus", "TeamRadio", "TimingAppData", "TimingData", "TimingStats",
    "TlaRcm", "TopThree", "TrackStatus", "TyreStintSeries", "WeatherData", "WeatherDataSeries",
)  # fmt: skip
"""What is subscribed to: more than is made into records, for the raw lines."""

_FOR_SUBSCRIBERS = (
    "car_data and location (CarData.z, Position.z), championship_drivers and championship_teams "
    "(ChampionshipPrediction), intervals and overtakes (DriverRaceInfo), and how long cars stand in the pits "
    "(PitStop): the hub has them for F1 TV subscribers only; set F1HBASE_F1TV_TOKEN"
)
_LACKS = "starting_grid, and session_result until the session is over: the archive has them"

_OVER = frozenset({"Finalised", "Ends"})
_TICK_SECONDS = 0.2
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 10.0
"""Seconds between two tries to connect; doubled from one to the next, less a random part."""

_MOST_UNPLACED = 50_000
"""How many messages are kept until the hub says which session they are of."""

_FILL_EVERY_SECONDS = 1.0
_FILL_AT_LEAST_SECONDS = 2.0 * WAIT_SECONDS / 3.0
_FILL_AT_MOST_SECONDS = 12.0
_AROUND_A_GAP = timedelta(seconds=20)


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """How the hub is asked.

    Attributes:
        url: Its address.
        token: Sent with each request; empty for none.
        patience: For how long it may not answer at the start, in seconds.
        wait: How long messages wait to be put in order, in seconds.
        silence: After how many seconds without a byte the connection counts as lost.
        archive: How the archive is asked for the schedule.
    """

    url: str
    token: Secret = field(default=Secret(""), repr=False)
    patience: float = 1800.0
    wait: float = WAIT_SECONDS
    silence: float = 30.0
    archive: LiveTimingOptions = field(default_factory=LiveTimingOptions)


@dataclass(slots=True)
class _Gap:
    """What this instance has missed, and how far filling it has come.

    Attributes:
        since: When the last message before it was sent; None for the whole session so far.
        began: When the connection came back, in seconds of the clock.
        first: When the first message after it was sent.
        found: What others have had of it.
    """

    since: datetime | None
    began: float
    first: datetime | None = None
    found: dict[tuple[datetime, str, bytes], LoggedMessage] = field(default_factory=dict)


class LiveTimingFeed:
    """The hub; see `f1hbase.sources.feeds.Feed`.

    Args:
        hub: The connection.
        scope: The session.
        instance: The name of this instance.
        log: The messages that instances share.
        options: How.
    """

    name = NAME

    def __init__(
        self, hub: Hub, scope: Scope, instance: str, log: MessageLog | None, options: LiveOptions
    ) -> None:  # fmt: skip
        self._hub = hub
        self._scope = scope
        self._instance = instance
        self._log = log
        self._options = options
        self._records: LiveRecords | None = None
        self._is_ours: bool | None = None
        self._unplaced: list[tuple[list[Any], int, float]] = []
        self._unplaced_state: tuple[dict[str, Any], datetime, float] | None = None
        self._gap: _Gap | None = None
        self._over: Over | None = None
        self._events: asyncio.Queue[FeedEvent | BaseException | tuple[float, HubEvent] | None] = asyncio.Queue()
        self.home = hub.url
        self.lacks: Sequence[str] = (_LACKS,) if options.token else (_FOR_SUBSCRIBERS, _LACKS)

    def knows(self, endpoint: str) -> frozenset[str]:
        """Return the fields that live timing has."""
        return fields_of(endpoint)

    async def events(self) -> AsyncIterator[FeedEvent]:
        """Yield what happens; see `f1hbase.sources.feeds.Feed`."""
        tasks = [asyncio.create_task(work) for work in (self._keep_connected(), self._tick(), self._fill())]
        try:
            while True:
                event = await self._events.get()
                if isinstance(event, BaseException):
                    raise event
                if event is None:
                    for found in self._due():
                        yield found
                elif isinstance(event, tuple):
                    for found in self._guarded(*event):
                        yield found
                else:
                    yield event
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def finish(self) -> FeedMessage | None:
        """Return what all that has come makes and, of a session that is over, its result; None for nothing."""
        records = [] if self._records is None else self._records.end(over=self._over is not None)
        return FeedMessage(datetime.now(UTC), records) if records else None

    async def _keep_connected(self) -> None:
        """Connect, and hand on what comes; and so on, for ever."""
        began, wait, ever = time.monotonic(), _FIRST_WAIT, False
        while True:
            reason = "the connection ended"
            try:
                async with self._hub.subscribed(TOPICS) as events:
                    connected = time.monotonic()
                    async for event in events:
                        if isinstance(event, Snapshot):
                            ever = True
                            self._events.put_nowait(Back(datetime.now(UTC)))
                        self._events.put_nowait((time.time(), event))
                        if time.monotonic() - connected > _LONGEST_WAIT:
                            wait = _FIRST_WAIT
            except HubLostError as error:
                reason = str(error)
            except HubRefusedError as error:
                if not ever or not self._options.token:
                    self._events.put_nowait(error)
                    return
                # Better what is free than nothing.
                _log.error("%s Going on without it.", error)
                self._hub = Hub(self._options.url, silence=self._options.silence)
                reason = "the token is refused"
            except F1HBaseError as error:
                if not ever and isinstance(error, NotAHubError):
                    self._events.put_nowait(error)
                    return
                reason = str(error)
            except Exception as error:  # noqa: BLE001 - raised where events are read
                self._events.put_nowait(error)
                return
            if not ever and time.monotonic() - began > self._options.patience:
                self._events.put_nowait(
                    UnreachableError(f"live timing: {reason}. Check the network and --hub-url.")
                )  # fmt: skip
                return
            self._events.put_nowait(Lost(datetime.now(UTC), reason))
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            wait = min(2 * wait, _LONGEST_WAIT)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            self._events.put_nowait(None)

    def _guarded(self, arrived: float, event: HubEvent) -> list[FeedEvent]:
        """Return what becomes of something that the hub sent; what nobody has thought of must not end a recording."""
        try:
            return self._heard(arrived, event)
        except Exception as error:  # noqa: BLE001 - it is put aside, whatever it is
            reason = f"{type(error).__name__}: {error}"
            _log.error("what the hub sent is put aside (%s): %.100s", safe(reason, 200), safe(f"{event!r:.200}", 100))
            at = datetime.fromtimestamp(arrived, UTC)
            return [FeedMessage(at, [problem_of("", at, reason, f"{event!r:.2000}")])]

    def _heard(self, arrived: float, event: HubEvent) -> list[FeedEvent]:
        """Return what becomes of something that the hub sent."""
        at = datetime.fromtimestamp(arrived, UTC)
        if isinstance(event, Unreadable):
            _log.error("the hub sent what is no message (%s), which is put aside: %.100s", event.reason,
                       safe(event.text, 100))  # fmt: skip
            return [FeedMessage(at, [problem_of("", at, event.reason, event.text)])]
        if isinstance(event, Snapshot):
            return self._snapshot(event.topics, at, arrived)
        arguments = event.arguments
        if not _is_message(arguments):
            _log.error("the hub pushed what is no message, which is put aside: %.100s", safe(f"{arguments!r}", 100))
            return [FeedMessage(at, [problem_of("", at, "it is not [topic, content, time]", arguments)])]
        if arguments[0] == "SessionInfo":
            self._place(arguments[1])
        if self._is_ours is None:
            if len(self._unplaced) < _MOST_UNPLACED:
                self._unplaced.append((arguments, time.time_ns(), arrived))
            return []
        found: list[FeedEvent] = []
        if self._unplaced_state is not None:
            state, self._unplaced_state = self._unplaced_state, None
            found += self._snapshot(*state)
        for earlier, order, before in self._unplaced:
            found += self._message(earlier, order, before)
        self._unplaced = []
        return found + self._message(arguments, time.time_ns(), arrived)

    def _snapshot(self, topics: dict[str, Any], at: datetime, arrived: float) -> list[FeedEvent]:
        self._place(topics.get("SessionInfo"))
        found: list[FeedEvent] = []
        if self._is_ours is None:
            self._unplaced_state = (topics, at, arrived)
        elif self._is_ours:
            assert self._records is not None
            if self._gap is None:
                self._gap = _Gap(self._records.last, arrived)
            else:
                self._gap.began = arrived
            moment = self._records.time_of(topics, at)
            records = self._records.snapshot(topics, moment, time.time_ns(), arrived)
            raw = _line("init", topics, moment.isoformat().replace("+00:00", "Z"))
            found.append(FeedMessage(at, records, raw))
            found += self._ending(topics.get("SessionStatus"), at)
        return found

    def _message(self, arguments: list[Any], order: int, arrived: float) -> list[FeedEvent]:
        topic, content, text = arguments[:3]
        at = datetime.fromtimestamp(arrived, UTC)
        try:
            moment = utc(text)
        except ValueError as error:
            return [FeedMessage(at, [problem_of(topic, at, str(error), arguments)])]
        if not self._is_ours:
            return []
        assert self._records is not None
        records = self._records.take(topic, content, moment, order, arrived)
        logged = None
        if topic in SHARED_TOPICS:
            logged = LoggedMessage(moment, topic, msgspec.json.encode(content), order, frozenset({self._instance}))
            if self._gap is not None and self._gap.first is None:
                self._gap.first = moment
        found: list[FeedEvent] = [FeedMessage(at, records, _line(topic, content, text), logged)]
        if topic == "SessionStatus":
            found += self._ending(content, at)
        return found

    def _due(self) -> list[FeedEvent]:
        records: list[FeedRecords] = [] if self._records is None else self._records.due(time.time())
        # They belong to messages that were handed on when they came; how long they waited was meant.
        return [FeedMessage(datetime.now(UTC), records)] if records else []

    def _place(self, info: Any) -> None:
        """Find out by a `SessionInfo` whether what comes is of the session that is wanted."""
        if not isinstance(info, dict) or ("Key" not in info and "StartDate" not in info):
            return
        key = whole(info.get("Key"))
        if key is not None and key >= 0:
            ours = key == self._scope.session_key
        else:
            start = lenient_time(session_record(info).get("date_start"))
            ours = start is not None and start == self._scope.date_start
        if ours and self._records is None:
            self._records = LiveRecords(self._context(info), self._options.wait)
        if self._is_ours and not ours:
            self._over = Over(datetime.now(UTC), "the hub has gone on to another session")
            self._events.put_nowait(self._over)
        elif not ours and self._is_ours is None:
            _log.info("the hub still has another session (%s); waiting for %s", key, self._scope.name)
        self._is_ours = ours

    def _context(self, info: dict[str, Any]) -> SessionContext:
        scope = self._scope
        assert scope.session_key is not None
        with suppress(ValueError):
            found = context_of(info)
            return replace(found, meeting_key=scope.meeting_key, session_key=scope.session_key)
        path = str(info.get("Path") or "")
        kind = str(info.get("Type") or scope.kind)
        return SessionContext(scope.meeting_key, scope.session_key, kind, f"{path.strip('/')}/" if path else "")

    def _ending(self, status: Any, at: datetime) -> list[FeedEvent]:
        if self._over is None and isinstance(status, dict) and status.get("Status") in _OVER:
            self._over = Over(at, f"its status is {status['Status']}")
            return [self._over]
        return []

    async def _fill(self) -> None:
        """Fill gaps with what other instances have had, as soon as these have written it down."""
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            gap = self._gap
            if gap is None or self._records is None:
                continue
            entries: list[LoggedMessage] | None = []
            if self._log is not None:
                entries = await self._read(gap)
                if entries is None:
                    await asyncio.sleep(_FILL_EVERY_SECONDS)
                    continue  # the store is away: what needs order waits
                for entry in entries:
                    gap.found[entry.moment, entry.topic, entry.body] = entry
            if gap is not self._gap:
                continue
            waited = time.time() - gap.began
            others = [entry for entry in gap.found.values() if entry.seen_by - {self._instance}]
            caught_up = gap.first is not None and any(entry.moment >= gap.first for entry in others)
            alone = not others and (waited > _FILL_AT_LEAST_SECONDS or not gap.found)
            if not (caught_up or alone or waited > _FILL_AT_MOST_SECONDS):
                await asyncio.sleep(_FILL_EVERY_SECONDS)
                continue
            found = [(entry.moment, entry.topic, entry.body, entry.order) for entry in gap.found.values()]
            missing = self._records.fill(found, covered=bool(others), arrived=time.time())
            self._gap = None
            if missing:
                _log.info("%d messages that this instance had missed came from other instances", missing)

    async def _read(self, gap: _Gap) -> list[LoggedMessage] | None:
        assert self._log is not None
        since = gap.since
        if gap.found:
            since = max(moment for moment, _, _ in gap.found)
        try:
            return await asyncio.to_thread(self._log.since, None if since is None else since - _AROUND_A_GAP)
        except F1HBaseError as error:
            _log.debug("the messages of other instances cannot be read yet: %s", error)
            return None


def _is_message(arguments: list[Any]) -> bool:
    return len(arguments) >= 3 and isinstance(arguments[0], str) and isinstance(arguments[2], str)


def _line(topic: str, content: Any, text: str) -> bytes:
    """Return a message as a line of a recording (`f1hbase.sources.livetiming.recorded`)."""
    return msgspec.json.encode([topic, content, text])


@dataclass(frozen=True, slots=True)
class LiveTimingFeedRecipe:
    """The hub as some options say; see `f1hbase.sources.feeds.FeedRecipe`."""

    options: LiveOptions
    selection: Selection

    async def listing(self) -> Listing:
        """Return the sessions of the archive's indexes, those to come included."""
        async with open_source(self.options.archive, self.options.patience) as source:
            return await source.listing(self.selection)

    @asynccontextmanager
    async def open(self, scope: Scope, instance: str, log: MessageLog | None) -> AsyncIterator[Feed]:
        """Open the hub; it is connected to when its events are read."""
        options = self.options
        yield LiveTimingFeed(Hub(options.url, options.token, silence=options.silence), scope, instance, log, options)


def feed_recipe(config: Config) -> LiveTimingFeedRecipe:
    """Return how the settings say that the hub is opened.

    Raises:
        ConfigError: If the token may not be sent there, or has run out.
    """
    settings = config.settings
    try:
        token = read_f1tv_token(os.environ, settings.hub_url, config.source_of("hub_url"), HUB_URL)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    _refuse_expired(token)
    selection = settings.selection
    if not (selection.meeting_key or selection.session_key or selection.year):
        year = datetime.now(UTC).year
        selection = Selection(mode="year", year=(year, year + 1))
    options = LiveOptions(settings.hub_url, token, settings.patience.total_seconds(), archive=recipe(config).options)
    return LiveTimingFeedRecipe(options, selection)


async def is_archived(config: Config, scope: Scope) -> bool:
    """Return whether the archive has the files of a session: they appear some minutes after its end.

    Raises:
        F1HBaseError: If the archive is away.
    """
    async with open_source(recipe(config).options, config.settings.patience.total_seconds()) as source:
        return scope.session_key is not None and await source.has_files(scope.year, scope.session_key)


def _refuse_expired(token: Secret) -> None:
    """Refuse a token whose time is over, as far as it says when that is.

    Raises:
        ConfigError: If it is.
    """
    try:
        claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
        ended = datetime.fromtimestamp(float(claims["exp"]), UTC)
    except (ValueError, KeyError, IndexError, TypeError, OverflowError, OSError):
        return  # no JWT, or one that does not say: the hub decides
    if ended < datetime.now(UTC):
        raise ConfigError(
            f"{F1TV_VARIABLE} ran out {minute(ended)}: a token lasts some four days. Get a new one (docs/live.md), or "
            "unset it to record what is free."
        )
