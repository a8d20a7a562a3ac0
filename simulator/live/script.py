"""What is played: the messages of one session in the order in which they were sent; knows no clock and no socket.

A session is read from an archive of live timing, from what `python -m simulator make` wrote, or from recordings: the
latter two are first written as an archive, which is served beside the hub.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import msgspec

from f1hbase.sources.livetiming.clock import ENOUGH_VOTES, STAMPED, TELEMETRY, Clock, telemetry_t0
from f1hbase.sources.livetiming.files import TopicFile
from f1hbase.sources.livetiming.lines import BadLineError
from f1hbase.sources.livetiming.messages import SessionContext
from f1hbase.sources.livetiming.recorded import is_recording, recordings_of
from f1hbase.sources.livetiming.recorded import read as read_recordings
from f1hbase.sources.livetiming.samples import SampleFile
from f1hbase.sources.livetiming.schedule import ListedSession, read_season
from f1hbase.sources.livetiming.spelling import cut
from f1hbase.sources.livetiming.topics.telemetry import TELEMETRY as SAMPLED
from simulator.livetiming import archive_line, write_archive

_BOM = b"\xef\xbb\xbf"
_STREAM = ".jsonStream"
_DEPTH_OF_SESSION = 3
"""How deep below its root an archive has a session's files: year, meeting, session."""


class ScriptError(Exception):
    """What was named holds no session that can be played; says why."""


class ScriptLine(NamedTuple):
    """A message as it is sent.

    Attributes:
        since: When, since the start of the session's files.
        topic: The topic.
        body: Its JSON; of a topic in `.z` base64 in quotes.
    """

    since: timedelta
    topic: str
    body: bytes


@dataclass(frozen=True)
class Script:
    """A session that can be played.

    Attributes:
        context: The session.
        t0: When the clock of its files starts (UTC).
        lines: Its messages, in order of time and, within a moment, of topic.
        archive: The folder that has it as an archive.
    """

    context: SessionContext
    t0: datetime
    lines: Sequence[ScriptLine]
    archive: Path


def read_script(place: Path, scratch: Path, session_key: int | None = None) -> Script:
    """Return the session that a folder or file holds.

    Args:
        place: An archive (its root, or the folder of one session), what `python -m simulator make` wrote, a recording,
            or a folder with recordings of one session.
        scratch: An empty folder, where an archive is written if `place` is none.
        session_key: Which session, where there are several.

    Raises:
        ScriptError: If there is none, or several and none is named.
    """
    if not place.exists():
        raise ScriptError(f"there is no {place}")
    t0 = None
    try:
        if is_recording(place):
            t0 = _write_recording(place, scratch)
            root = scratch
        elif place.is_dir() and any(place.glob("*/meetings.jsonl.gz")):
            write_archive(place, scratch)
            root = scratch
        else:
            root = _root_of(place)
    except ValueError as error:
        raise ScriptError(f"{place}: {error}") from error
    within = place.resolve() if any(place.glob(f"*{_STREAM}")) else None
    session = _chosen(list(_sessions(root)), root, within, session_key)
    return _script(root, session.context, t0)


def _root_of(place: Path) -> Path:
    """Return the root of an archive, by the root itself, what has it as `static`, or a session of it."""
    resolved = place.resolve()
    candidates = [resolved, resolved / "static"]
    if len(resolved.parents) >= _DEPTH_OF_SESSION:
        candidates.append(resolved.parents[_DEPTH_OF_SESSION - 1])
    for root in candidates:
        if any(root.glob("[12][0-9][0-9][0-9]/Index.json")):
            return root
    raise ScriptError(
        f"{place}: there is no session: it is neither an archive of live timing (<year>/Index.json), nor what "
        "`python -m simulator make` wrote, nor a recording"
    )


def _sessions(root: Path) -> Iterable[ListedSession]:
    """Yield the listed sessions of which there are files."""
    for index in sorted(root.glob("[12][0-9][0-9][0-9]/Index.json")):
        try:
            season = read_season(index.read_bytes(), int(index.parent.name))
        except BadLineError as error:
            raise ScriptError(f"{index}: {error}") from error
        for session in season.sessions:
            if any((root / session.context.path).glob(f"*{_STREAM}")):
                yield session


def _chosen(sessions: list[ListedSession], root: Path, within: Path | None, key: int | None) -> ListedSession:
    if key is not None:
        sessions = [one for one in sessions if one.context.session_key == key]
    if within is not None:
        sessions = [one for one in sessions if (root / one.context.path).resolve() == within]
    if not sessions:
        wanted = "no session" if key is None else f"no session {key}"
        raise ScriptError(f"{within or root}: the season's index lists {wanted} of which there are files")
    if len(sessions) > 1:
        names = ", ".join(f"{one.context.session_key} ({one.record['session_name']})" for one in sessions)
        raise ScriptError(f"{root}: there are several sessions; name one with --session-key: {names}")
    return sessions[0]


def _script(root: Path, context: SessionContext, t0: datetime | None) -> Script:
    folder = root / context.path
    files = {
        path.name.removesuffix(_STREAM): TopicFile(
            path.name.removesuffix(_STREAM), str(path), path.read_bytes(), datetime.now(UTC)
        )
        for path in sorted(folder.glob(f"*{_STREAM}"))
    }
    t0 = t0 or _t0(files)
    if t0 is None:
        raise ScriptError(f"{folder}: nothing tells when the clock of its files started, so no message has a time")
    lines = [ScriptLine(line.since, topic, file.body(line)) for topic, file in files.items() for line in file.lines]
    lines.sort(key=lambda line: (line.since, line.topic))
    if not lines:
        raise ScriptError(f"{folder}: its files hold no message")
    return Script(context, t0, lines, root)


def _t0(files: dict[str, TopicFile]) -> datetime | None:
    clock = Clock()
    for topic in STAMPED:
        for line in files[topic].lines if topic in files else ():
            clock.see(topic, line.since, files[topic].body(line))
        if clock.votes >= ENOUGH_VOTES:
            break
    if clock.t0 is not None:
        return clock.t0
    latest = []
    for endpoint, telemetry in SAMPLED.items():
        if telemetry.topic in TELEMETRY and telemetry.topic in files:
            samples = SampleFile(files[telemetry.topic], endpoint)
            samples.scan()
            latest += samples.latest
    return telemetry_t0(latest)


def _write_recording(place: Path, root: Path) -> datetime:
    """Write the recordings of one session as an archive of it, and return when the clock of its files starts."""
    recording = read_recordings(recordings_of(place))
    try:
        info = recording.info
        meeting = {**info["Meeting"], "Sessions": [{name: info[name] for name in info if name != "Meeting"}]}
        folder = root / recording.context.path
        t0 = cut(recording.t0)
        ahead = recording.t0 - t0
        folder.mkdir(parents=True, exist_ok=True)
        for topic, file in recording.files.items():
            lines = b"".join(archive_line(line.since + ahead, file.body(line)) for line in file.lines)
            (folder / f"{topic}{_STREAM}").write_bytes(_BOM + lines)
        feeds = {topic: {"StreamPath": f"{topic}{_STREAM}"} for topic in recording.files}
        (folder / "Index.json").write_bytes(_BOM + msgspec.json.encode({"Feeds": feeds}))
        year = re.match(r"(\d{4})/", recording.context.path)
        if year is None:
            raise ScriptError(f"{place}: its SessionInfo has no path, by which an archive could list it")
        season = {"Year": int(year[1]), "Meetings": [meeting]}
        (root / year[1] / "Index.json").write_bytes(_BOM + msgspec.json.encode(season))
        return t0
    finally:
        recording.close()
