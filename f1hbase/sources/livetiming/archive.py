"""The archive: the index of a season, the index of a session, the files of its topics, and t0; knows no endpoint."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime

from f1hbase.model.catalog import RACE
from f1hbase.sources.http.errors import GiveUpError
from f1hbase.sources.livetiming.client import Body, NotModified
from f1hbase.sources.livetiming.clock import ENOUGH_VOTES, STAMPED, TELEMETRY, Clock, telemetry_t0
from f1hbase.sources.livetiming.files import TopicFile
from f1hbase.sources.livetiming.lines import BadLineError, parse
from f1hbase.sources.livetiming.messages import SessionContext
from f1hbase.sources.livetiming.requests import ArchiveRequests
from f1hbase.sources.livetiming.samples import SampleFile
from f1hbase.sources.livetiming.schedule import ListedSession, Season, read_season
from f1hbase.sources.livetiming.topics.telemetry import TELEMETRY as SAMPLED
from f1hbase.sources.livetiming.validators import MISSING, UNLISTED, Tags

_log = logging.getLogger(__name__)

NAME = "livetiming"

_SUBSTITUTES = {"TimingData": "TimingDataF1"}
"""What holds the same where a topic is missing."""

_ENDPOINTS = {telemetry.topic: endpoint for endpoint, telemetry in SAMPLED.items()}


class Archive:
    """The indexes of seasons, each asked for once.

    Args:
        requests: What asks.
    """

    def __init__(self, requests: ArchiveRequests) -> None:
        self._requests = requests
        self._seasons: dict[int, Season] = {}
        self._tags: dict[int, str] = {}

    async def season(self, year: int) -> Season:
        """Return what there is of a season; nothing if the archive has no index of it.

        Raises:
            RequestError: If it cannot be had, or is none.
        """
        if year not in self._seasons:
            path = f"{year}/Index.json"
            body = await self._requests.get(path)
            self._tags[year] = "" if body is None else body.tag
            season = Season((), (), ())
            if body is not None:
                try:
                    season = read_season(body.data if isinstance(body.data, bytes) else b"", year)
                except BadLineError as error:
                    raise GiveUpError(f"{path}: {error}") from error
            self._seasons[year] = season
            if season.left_out:
                _log.warning(
                    "season %d: %d sessions are left out, as the archive has no key or no files of them: %s",
                    year, len(season.left_out), "; ".join(season.left_out),
                )  # fmt: skip
        return self._seasons[year]

    def tags(self, year: int) -> Tags | None:
        """Return by which tag the index of a season is known; None if it has none, or was not asked for."""
        tag = self._tags.get(year)
        return {f"{year}/Index.json": tag} if tag else None

    async def session(self, year: int, session_key: int) -> ListedSession | None:
        """Return a session; None if the index of its season has none of that key."""
        season = await self.season(year)
        return next((one for one in season.sessions if one.context.session_key == session_key), None)

    async def race_after(self, year: int, session: ListedSession) -> ListedSession | None:
        """Return the race (or sprint) whose grid a qualifying session was for; None if there is none."""
        season = await self.season(year)
        start = str(session.record["date_start"])
        races = [
            one
            for one in season.sessions
            if one.context.meeting_key == session.context.meeting_key
            and one.context.kind == RACE
            and str(one.record["date_start"]) > start
        ]
        return min(races, key=lambda one: str(one.record["date_start"]), default=None)


class SessionArchive:
    """The files of one session, each asked for once; telemetry is given up when it has been read.

    Args:
        requests: What asks.
        context: The session.
    """

    def __init__(self, requests: ArchiveRequests, context: SessionContext) -> None:
        self._requests = requests
        self.context = context
        self._listed: frozenset[str] | None = None
        self._index_read = False
        self._files: dict[str, TopicFile | None] = {}
        self._samples: dict[str, SampleFile | None] = {}
        self._t0: datetime | None = None
        self._clock_read = False
        self._lock = asyncio.Lock()
        self._index_lock = asyncio.Lock()
        self._tags: dict[str, str | None] = {}
        self._clock_topics: list[str] = []
        self._checked: dict[tuple[str, str], datetime | None] = {}
        self._changed: dict[str, Body] = {}
        self._untagged: set[str] = set()

    async def file(self, topic: str) -> TopicFile | None:
        """Return the file of a topic; None if the archive has none.

        Raises:
            RequestError: If it cannot be had.
        """
        await self._read_index()
        if topic not in self._files:
            name = topic
            if self._listed is not None and topic not in self._listed:
                name = _SUBSTITUTES.get(topic, topic)
            missing = self._listed is not None and name not in self._listed
            if name != topic or missing:
                self._tags[self._path(topic)] = self._tags[self._path(name)] = UNLISTED
            body = None if missing else await self._get(self._path(name))
            if body is None and not missing and self._listed is not None:
                _log.info("%s is listed, but not there", self._path(name))
            self._files[topic] = None if body is None else self._topic_file(topic, name, body)
        return self._files[topic]

    def tags(self, topics: Iterable[str], *, dated: bool = False) -> Tags | None:
        """Return by which tags the files of some topics are known, that were asked for, and the index of the session.

        Args:
            topics: The topics.
            dated: Whether those that t0 was told from count, too.

        Returns:
            None if a file has no tag, so that nobody could ask whether it has changed.
        """
        paths = {self._path(name) for topic in topics for name in self._names(topic)}
        if dated:
            paths |= {self._path(name) for topic in self._clock_topics for name in self._names(topic)}
        paths.add(self._index_path)
        tags = {path: self._tags[path] for path in sorted(paths) if path in self._tags}
        return None if any(path in self._untagged for path in tags) else tags

    async def unchanged(self, tags: Tags) -> datetime | None:
        """Return when the archive began to be asked whether files are still those of some tags; None if they are not.

        Raises:
            RequestError: If it cannot be told.
        """
        # The index first: as long as it is the same, what it does not list is not there.
        ordered = sorted(tags.items(), key=lambda item: item[0] != self._index_path)
        asked: list[datetime] = []
        for path, tag in ordered:
            if tag is UNLISTED:
                continue
            if (path, tag) not in self._checked:
                self._checked[path, tag] = await self._asked(path, tag)
            moment = self._checked[path, tag]
            if moment is None:
                return None
            asked.append(moment)
        return min(asked, default=None)

    async def _asked(self, path: str, tag: str) -> datetime | None:
        """Return when a file was asked for that is still the one of a tag; None for another, which is kept."""
        if path in self._changed or (path in self._tags and self._tags[path] != tag):
            return None
        began = datetime.now(UTC)
        body = await self._requests.get_if_changed(path, tag)
        if isinstance(body, Body):
            self._changed[path] = body
            return None
        if isinstance(body, NotModified):
            return body.asked_at
        return began if tag == MISSING else None

    async def _get(self, path: str) -> Body | None:
        """Return a file, and remember its tag."""
        body = self._changed.pop(path, None) or await self._requests.get(path)
        self._tags[path] = MISSING if body is None else body.tag
        if body is not None and not body.tag:
            self._untagged.add(path)
        return body

    def _names(self, topic: str) -> list[str]:
        return [topic] if topic not in _SUBSTITUTES else [topic, _SUBSTITUTES[topic]]

    async def files(self, topics: Iterable[str]) -> dict[str, TopicFile]:
        """Return the files of those topics that the archive has.

        Raises:
            RequestError: If one of them cannot be had.
        """
        await self._read_index()
        names = sorted(topics)
        found = await asyncio.gather(*(self.file(topic) for topic in names), return_exceptions=True)
        for one in found:
            if isinstance(one, BaseException):
                raise one
        return {topic: file for topic, file in zip(names, found, strict=True) if isinstance(file, TopicFile)}

    async def samples(self, endpoint: str) -> SampleFile | None:
        """Return the samples of an endpoint; None if the archive has none.

        Raises:
            RequestError: If they cannot be had.
        """
        if endpoint not in self._samples:
            file = await self.file(SAMPLED[endpoint].topic)
            samples = None if file is None else SampleFile(file, endpoint)
            if samples is not None:
                await asyncio.to_thread(samples.scan)
            self._samples[endpoint] = samples
        return self._samples[endpoint]

    def forget(self, endpoint: str) -> None:
        """Give up the samples of an endpoint, which take more memory than all else."""
        self._samples.pop(endpoint, None)
        file = self._files.pop(SAMPLED[endpoint].topic, None)
        if file is not None:
            file.close()

    def close(self) -> None:
        """Give up all files."""
        for body in self._changed.values():
            if not isinstance(body.data, bytes):
                body.data.close()
        for file in self._files.values():
            if file is not None:
                file.close()

    async def t0(self) -> datetime | None:
        """Return when the clock of the files starts; None if nothing tells.

        It is always looked for in the same way, whatever else is asked for, so that a date is always the same.

        Raises:
            RequestError: If what tells it cannot be had.
        """
        async with self._lock:
            if not self._clock_read:
                self._t0 = await self._stamped_t0() or await self._telemetry_t0()
                self._clock_read = True
        return self._t0

    async def _stamped_t0(self) -> datetime | None:
        clock = Clock()
        for topic in STAMPED:
            self._clock_topics.append(topic)
            file = await self.file(topic)
            for line in [] if file is None else file.lines:
                assert file is not None
                clock.see(topic, line.since, file.body(line))
            if clock.votes >= ENOUGH_VOTES:
                break
        return clock.t0

    async def _telemetry_t0(self) -> datetime | None:
        found = []
        for topic in TELEMETRY:
            self._clock_topics.append(topic)
            samples = await self.samples(_ENDPOINTS[topic])
            found += [] if samples is None else samples.latest
        return telemetry_t0(found)

    async def _read_index(self) -> None:
        async with self._index_lock:
            if self._index_read:
                return
            path = self._index_path
            body = await self._get(path)
            self._index_read = True
            with suppress(BadLineError, AttributeError):
                content = parse(body.data) if body is not None and isinstance(body.data, bytes) else None
                feeds = content.get("Feeds") if isinstance(content, dict) else None
                if isinstance(feeds, dict):
                    self._listed = frozenset(feeds)
            if self._listed is None:
                _log.info("%s lists no topics: each is asked for", path)

    @property
    def _index_path(self) -> str:
        return f"{self.context.path}Index.json"

    def _path(self, topic: str) -> str:
        return f"{self.context.path}{topic}.jsonStream"

    def _topic_file(self, topic: str, name: str, body: Body) -> TopicFile:
        path = self._path(name)
        return TopicFile(topic, path, body.data, body.asked_at)


def now_year() -> int:
    """Return the present year."""
    return datetime.now(UTC).year
