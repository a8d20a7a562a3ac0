"""OpenF1's records as they happen, over MQTT: which connection is open with which token, what comes of a payload."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

import aiohttp
import msgspec

from f1hbase.config import Config
from f1hbase.credentials import PASSWORD_VARIABLE, USERNAME_VARIABLE, check_broker
from f1hbase.errors import ConfigError, F1HBaseError, UnreachableError
from f1hbase.model.answers import Listing
from f1hbase.model.catalog import ENDPOINTS
from f1hbase.model.plans import Selection
from f1hbase.model.samples import Record
from f1hbase.model.text import safe
from f1hbase.model.units import Scope
from f1hbase.sources.feeds import Back, Feed, FeedEvent, FeedMessage, FeedRecords, Lost, Over
from f1hbase.sources.http.errors import RequestError
from f1hbase.sources.http.session import new_session
from f1hbase.sources.openf1.broker import (
    BrokerLostError,
    BrokerRefusedError,
    BrokerUntrustedError,
    Connection,
    Heard,
    connect,
)  # fmt: skip
from f1hbase.sources.openf1.published import TOPICS, BadPayloadError, endpoint_of, read
from f1hbase.sources.openf1.queue import NAME
from f1hbase.sources.openf1.recipe import options_of
from f1hbase.sources.openf1.source import OpenF1Options, open_source
from f1hbase.sources.openf1.token import TokenProvider, token_path
from f1hbase.state.live import MessageLog

_log = logging.getLogger(__name__)

_LACKS = "session_result and starting_grid: OpenF1 has them some time after the session, and not in its feed"

OVERLAP_SECONDS = 5.0
"""How long the old connection is read beside the new one: what the broker had for it arrives meanwhile."""

_FIRST_WAIT, _LONGEST_WAIT = 0.1, 10.0
"""Seconds between two tries to connect; doubled from one to the next, less a random part."""

_TRIES_WITH_A_TOKEN = 3
"""So many new tokens are refused before it is the subscription that must be wrong."""

_RETRY_RENEWAL_SECONDS = 10.0
_KEEP_ALIVE_SECONDS = 4.0
_AHEAD_MILLISECONDS = 3_600_000
"""An `_id` further ahead of the clock is no time: cells with it could not be overwritten for as long."""

_QUIET_SECONDS = 600.0
"""A session that was said to be finished, and whose time is up, is over after so long without a record of it."""

_FINISHED = frozenset({"SESSION FINISHED", "SESSION FINALISED", "SESSION ENDS"})
_TICK_SECONDS = 1.0
_PUT_ASIDE_CHARACTERS = 2_000


@dataclass(frozen=True, slots=True)
class FeedOptions:
    """How OpenF1's feed is read.

    Attributes:
        url: The broker.
        api: How the API is asked for the schedule and for tokens.
        patience: For how long the broker may not answer at the start, in seconds.
        overlap: How long two connections are open when the token is renewed, in seconds.
        quiet: How long nothing comes of a session that is finished before it is over, in seconds.
    """

    url: str
    api: OpenF1Options = field(repr=False)
    patience: float = 1800.0
    overlap: float = OVERLAP_SECONDS
    quiet: float = _QUIET_SECONDS


class _Dated(NamedTuple):
    """A connection, and when its token is to be renewed, in seconds of the monotonic clock; None without one."""

    connection: Connection
    renew_at: float | None


class OpenF1Feed:
    """The broker; see `f1hbase.sources.feeds.Feed`.

    Args:
        scope: The session.
        options: How.
        session: Asks for tokens.
        tokens: Gives them; None to connect without.
    """

    name = NAME

    def __init__(
        self, scope: Scope, options: FeedOptions, session: aiohttp.ClientSession, tokens: TokenProvider | None
    ) -> None:
        self._scope = scope
        self._options = options
        self._session = session
        self._tokens = tokens
        self._events: asyncio.Queue[FeedEvent | Heard | BaseException] = asyncio.Queue()
        self._ever = False
        self._unknown: set[str] = set()
        self._is_finished = False
        self._last = time.monotonic()
        self._last_number = 0
        self.home = options.url
        self.lacks: Sequence[str] = (_LACKS,)

    def knows(self, endpoint: str) -> frozenset[str]:
        """Return every field of the catalogue: it was made from this API."""
        return ENDPOINTS[endpoint].known

    async def events(self) -> AsyncIterator[FeedEvent]:
        """Yield what happens; see `f1hbase.sources.feeds.Feed`."""
        tasks = [asyncio.create_task(work) for work in (self._keep_connected(), self._watch())]
        try:
            while True:
                event = await self._events.get()
                if isinstance(event, BaseException):
                    raise event
                if isinstance(event, Heard):
                    message = self._message(event)
                    if message is not None:
                        yield message
                else:
                    yield event
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep_connected(self) -> None:
        """Connect, and hand on what comes; and so on, for ever."""
        try:
            while True:
                dated = await self._connected()
                self._events.put_nowait(Back(datetime.now(UTC)))
                reason = await self._follow(dated)
                self._events.put_nowait(Lost(datetime.now(UTC), reason))
        except Exception as error:  # noqa: BLE001 - raised where events are read
            self._events.put_nowait(error)

    async def _connected(self) -> _Dated:
        """Connect, however long it takes.

        Raises:
            F1HBaseError: If that is useless, or takes too long at the start.
        """
        began, wait, refusals = time.monotonic(), _FIRST_WAIT, 0
        while True:
            try:
                dated = await self._open()
            except BrokerRefusedError as error:
                refusals += 1
                if not self._ever and refusals >= _TRIES_WITH_A_TOKEN:
                    raise _refused(error, has_token=self._tokens is not None) from error
                reason = str(error)
            except (BrokerLostError, RequestError) as error:
                if isinstance(error, F1HBaseError):
                    raise
                if isinstance(error, BrokerUntrustedError) and not self._ever:
                    raise UnreachableError(
                        f"OpenF1's feed: {error}. Check --mqtt-url; of a broker of your own, name the file of its "
                        "certificate in SSL_CERT_FILE."
                    ) from error
                reason = str(error)
            else:
                self._ever = True
                return dated
            if not self._ever and time.monotonic() - began > self._options.patience:
                raise UnreachableError(f"OpenF1's feed: {reason}. Check the network and --mqtt-url.")
            self._events.put_nowait(Lost(datetime.now(UTC), reason))
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            wait = min(2 * wait, _LONGEST_WAIT)

    async def _open(self) -> _Dated:
        """Connect with a token that is good.

        Raises:
            BrokerLostError: If that fails; of a refused token there is a new one by the next try.
            RequestError: If there is no token to be had.
        """
        token, renew_at = "", None
        if self._tokens is not None:
            token = await self._tokens.get(self._session)
            renew_at = time.monotonic() + self._tokens.seconds_left()
        try:
            connection = await connect(self._options.url, token, TOPICS, self._events.put_nowait, time.time)
            return _Dated(connection, renew_at)
        except BrokerRefusedError:
            if self._tokens is not None:
                await self._tokens.renew(self._session, token)
            raise

    async def _follow(self, dated: _Dated) -> str:
        """Wait until there is no connection, and return why; the token's end is none: a new one is open before."""
        connection, renew_at = dated
        closing: set[asyncio.Task[None]] = set()
        try:
            while True:
                left = None if renew_at is None else max(0.0, renew_at - time.monotonic())
                done, _ = await asyncio.wait({connection.gone}, timeout=left)
                if done:
                    return connection.gone.result()
                newer = await self._renewed(connection)
                if newer is not None:
                    # What the broker still has for the old one is read; what comes twice is stored as once.
                    task = asyncio.create_task(self._close_later(connection))
                    closing.add(task)
                    task.add_done_callback(closing.discard)
                    connection, renew_at = newer
        finally:
            for task in closing:
                task.cancel()
            await asyncio.gather(*closing, connection.close(), return_exceptions=True)

    async def _renewed(self, connection: Connection) -> _Dated | None:
        """Return a connection with the next token; None if there is none yet."""
        try:
            newer = await self._open()
        except F1HBaseError as error:
            _log.error("%s; going on with the token that ends", safe(str(error), 300))
        except (BrokerLostError, RequestError) as error:
            _log.warning("the connection is not renewed yet: %s", safe(str(error), 300))
        else:
            _log.debug("connected with the next token")
            return newer
        await asyncio.wait({connection.gone}, timeout=_RETRY_RENEWAL_SECONDS)
        return None

    async def _close_later(self, connection: Connection) -> None:
        try:
            await asyncio.wait({connection.gone}, timeout=self._options.overlap)
        finally:
            await connection.close()

    async def _watch(self) -> None:
        """Say that the session is over, once nothing comes of one that is finished and whose time is up."""
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            quiet = time.monotonic() - self._last > self._options.quiet
            end = self._scope.date_end
            if self._is_finished and quiet and (end is None or end < datetime.now(UTC)):
                self._events.put_nowait(Over(datetime.now(UTC), "it is finished, and nothing comes any more"))
                return

    def _message(self, heard: Heard) -> FeedMessage | None:
        """Return what becomes of a payload; None for one of another session."""
        at = datetime.fromtimestamp(heard.arrived, UTC)
        endpoint = endpoint_of(heard.topic)
        if endpoint is None:
            if heard.topic not in self._unknown:
                self._unknown.add(heard.topic)
                _log.warning("the feed has the topic %s, which is no endpoint: left out", safe(heard.topic, 60))
            return None
        milliseconds = int(heard.arrived * 1000)
        try:
            published = read(endpoint, heard.payload)
        except BadPayloadError as error:
            _log.error("a message of %s is put aside, the rest is stored: %s", heard.topic, safe(str(error), 300))
            text = safe(heard.payload[:_PUT_ASIDE_CHARACTERS].decode(errors="replace"))
            problem = {"topic": heard.topic, "reason": safe(str(error), 300), "text": text}
            return FeedMessage(at, [FeedRecords(endpoint, [problem], milliseconds)], _line(at, heard, text))
        if not self._is_ours(endpoint, published.record):
            return None
        self._last = time.monotonic()
        if endpoint == "race_control" and published.record.get("message") in _FINISHED:
            self._is_finished = True
        number = published.number
        if number is None or number > milliseconds + _AHEAD_MILLISECONDS:
            # Without one, later ones replace earlier ones in the order of their arrival.
            number = self._last_number = max(self._last_number + 1, milliseconds)
        never_changes = ENDPOINTS[endpoint].sampled
        records = [FeedRecords(endpoint, [published.record], number, replaces=not never_changes, final=never_changes)]
        return FeedMessage(at, records, _line(at, heard, msgspec.Raw(heard.payload)))

    def _is_ours(self, endpoint: str, record: Record) -> bool:
        """Return whether a record is of the session, or of none that can be told."""
        if ENDPOINTS[endpoint].of_meeting:
            return record.get("meeting_key") in {self._scope.meeting_key, None}
        # Without a key it goes to quarantine.
        return record.get("session_key") in {self._scope.session_key, None}


def _line(at: datetime, heard: Heard, payload: msgspec.Raw | str) -> bytes:
    return msgspec.json.encode({"arrived": at.isoformat(), "topic": heard.topic, "payload": payload})


def _refused(error: Exception, *, has_token: bool) -> ConfigError:
    if has_token:
        return ConfigError(f"{error}, though the token is new: the feed needs a subscription of OpenF1.")
    return ConfigError(
        f"{error}: the feed needs a subscription of OpenF1; set {USERNAME_VARIABLE} and {PASSWORD_VARIABLE}."
    )


@dataclass(frozen=True, slots=True)
class OpenF1FeedRecipe:
    """The feed as some options say; see `f1hbase.sources.feeds.FeedRecipe`."""

    options: FeedOptions
    selection: Selection

    async def listing(self) -> Listing:
        """Return the sessions that the API has, those to come included."""
        async with open_source(self.options.api, self.options.patience) as source:
            return await source.listing(self.selection)

    @asynccontextmanager
    async def open(self, scope: Scope, instance: str, log: MessageLog | None) -> AsyncIterator[Feed]:
        """Open the feed; the broker is connected to when its events are read. Records are whole: no log is needed."""
        api = self.options.api
        timeout = aiohttp.ClientTimeout(total=api.request_timeout)
        async with new_session(timeout, _KEEP_ALIVE_SECONDS, "live") as session:
            tokens = None
            if api.credentials is not None:
                tokens = TokenProvider(api.api_url, api.credentials, token_path(api.api_url, api.credentials))
            yield OpenF1Feed(scope, self.options, session, tokens)


def feed_recipe(config: Config) -> OpenF1FeedRecipe:
    """Return how the settings say that the feed is opened.

    Raises:
        ConfigError: If there are no credentials, or the broker may not have a token.
    """
    settings, api = config.settings, options_of(config)
    try:
        check_broker(api.credentials, settings.mqtt_url, config.source_of("mqtt_url"))
    except ValueError as error:
        raise ConfigError(str(error)) from error
    selection = settings.selection
    if not (selection.meeting_key or selection.session_key or selection.year):
        year = datetime.now(UTC).year
        selection = Selection(mode="year", year=(year, year + 1))
    return OpenF1FeedRecipe(FeedOptions(settings.mqtt_url, api, settings.patience.total_seconds()), selection)
