"""Recorded feeds: the two forms that recorders write, read into one file a topic as the archive has them.

- `['Topic', {...}, '2025-11-08T14:21:08.442Z']`, a line a message as Python prints it (FastF1's recorder). It is never
  evaluated: strings, numbers, names and brackets are read one by one, and anything else makes a bad line.
- `["Topic", {...}, "2025-11-08T14:21:08.442Z"]`, the same as JSON: what `live --layout raw-live` keeps, in a folder for
  each instance an object a minute. Here `init` is the whole state at each connection.
- `<nanoseconds>:Topic:{...}`, with the time at which it was received; the first line, `init`, is the whole state.

Of several recordings of one session each message counts once. One that only says when a message was received is put
on the service's clock: by the same messages of another recording, else by the messages that say when they were sent.
"""

from __future__ import annotations

import gzip
import re
import tempfile
import zlib
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, BinaryIO, NamedTuple

import msgspec

from f1hbase.sources.livetiming.clock import STAMPED
from f1hbase.sources.livetiming.files import Problem, TopicFile
from f1hbase.sources.livetiming.lines import BadLineError, parse
from f1hbase.sources.livetiming.messages import SessionContext
from f1hbase.sources.livetiming.patch import KEY_FRAME
from f1hbase.sources.livetiming.schedule import context_of
from f1hbase.sources.livetiming.spelling import utc
from f1hbase.stores.files.packing import LONGEST_LINE_BYTES
from f1hbase.stores.files.reading import READ_ERRORS, cut_lines, open_file, unpacked

_TOKEN = re.compile(
    r"""\s+|[\[\]{},:]|(?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|(?P<name>True|False|None)"""
    r"""|(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)"""
)
_NAMES = {"True": "true", "False": "false", "None": "null"}
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_LETTERS = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", "'": "'", '"': '"', "a": "\a", "b": "\b", "f": "\f",
            "v": "\v", "0": "\0"}  # fmt: skip
_RECEIVED = re.compile(r"(\d{18,19}):([A-Za-z.]{1,64}):(.*)", re.ASCII | re.DOTALL)
_BEGINNING = re.compile(rb"\d{18,19}:[A-Za-z.]{1,64}:|\[['\"][A-Za-z0-9]{1,60}(\.z)?['\"]")
_INIT = "init"
_TOPIC = re.compile(r"[A-Za-z0-9]{1,60}(\.z)?", re.ASCII)
_SAME_WITHIN = timedelta(seconds=10)
"""Two equal messages of one topic this close together are one; a driver passes a segment again a lap later."""

RAW_FOLDER = "raw-live"
RAW_SUFFIX = ".txt.gz"

_TOLD_WHOLE = frozenset({"DriverList", "RaceControlMessages", "SessionData", "TeamRadio"})
"""The topics whose whole state holds what earlier messages said. Of others only the first one counts: a later one says
less than the messages before it."""

_SNIFFED_LINES = 3


class Recorded(NamedTuple):
    """A line of a recording.

    Attributes:
        moment: When the message was sent, or received (UTC).
        topic: The topic; `init` for the whole state of several.
        content: What it says; of a topic in `.z` the base64 text.
        received: Whether the moment is that of its arrival.
    """

    moment: datetime
    topic: str
    content: Any
    received: bool


@dataclass(eq=False)
class Recording:
    """A session as it was recorded.

    Attributes:
        info: Its `SessionInfo`.
        files: The messages by topic.
        t0: When the clock of the files starts.
        problems: Lines that could not be read.
        estimated: Whether the times of messages are those of their arrival, less the usual delay.
    """

    info: dict[str, Any]
    context: SessionContext
    files: dict[str, TopicFile]
    t0: datetime
    problems: list[Problem] = field(default_factory=list)
    estimated: bool = False

    def close(self) -> None:
        """Give up the files, which are on disk."""
        for file in self.files.values():
            file.close()


def parse_line(line: str) -> Recorded | None:
    """Return what a line of a recording says; None for an empty line.

    Raises:
        BadLineError: If it is of neither form.
    """
    text = line.strip().removeprefix("\ufeff")
    if not text:
        return None
    match = _RECEIVED.fullmatch(text)
    if match is not None:
        try:
            moment = datetime.fromtimestamp(int(match[1]) / 1e9, UTC)
        except (OverflowError, ValueError, OSError):
            raise BadLineError(f"{match[1]} is no time in nanoseconds") from None
        return Recorded(moment, match[2], parse(match[3].encode()), received=True)
    message = _listed(text) if text.startswith("[") else None
    if not isinstance(message, list) or len(message) != 3 or not all(isinstance(message[n], str) for n in (0, 2)):
        raise BadLineError("it is neither [topic, data, time] nor time:topic:data")
    topic, content, moment_text = message
    if not _TOPIC.fullmatch(topic):
        raise BadLineError(f"{topic[:60]!r} is no topic")
    try:
        return Recorded(utc(moment_text), topic, content, received=False)
    except ValueError as error:
        raise BadLineError(str(error)) from None


def _listed(text: str) -> Any:
    """Return a list as JSON has it, or as Python prints it."""
    try:
        return parse(text.encode())
    except (BadLineError, UnicodeEncodeError):
        return parse(as_json(text).encode(errors="surrogateescape"))


def as_json(text: str) -> str:
    r"""Return the JSON of a value as Python prints it; nothing is evaluated.

    >>> as_json("['Topic', {'a': True, 'b': None, 'c': \"it's\"}]")
    '["Topic", {"a": true, "b": null, "c": "it\'s"}]'

    Raises:
        BadLineError: If it holds anything but lists, objects, strings, numbers, True, False and None.
    """
    parts: list[str] = []
    place = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise BadLineError(f"it is no value as Python prints it, from {text[place : place + 40]!r} on")
        token = match[0]
        if match["string"]:
            parts.append(msgspec.json.encode(_unescaped(token[1:-1])).decode())
        else:
            parts.append(_NAMES.get(token, token))
        place = match.end()
    return "".join(parts)


def is_recording(path: Path) -> bool:
    """Return whether a file is a recording, or a folder has one, by the first lines."""
    if path.is_dir():
        files = [file for file in sorted(path.iterdir()) if file.is_file()]
        files += [next(iter(_objects(folder))) for folder in _instances(path)]
        return any(map(is_recording, files))
    if not path.is_file():
        return False
    try:
        with open_file(path) as file:
            for line in islice(cut_lines(unpacked(file)), _SNIFFED_LINES):
                # One that is too long is put aside when it is read; by its beginning it is of a recording.
                if len(line) > LONGEST_LINE_BYTES:
                    return _BEGINNING.match(line) is not None
                if parse_line(line.decode()) is not None:
                    return True
    except (*READ_ERRORS, UnicodeDecodeError, BadLineError):
        return False
    return False


def recordings_of(path: Path) -> list[Path]:
    """Return the recordings that a path means: itself, those of a folder, or the folders of raw lines in a zone."""
    if not path.is_dir():
        return [path]
    return _instances(path) or [file for file in sorted(path.iterdir()) if file.is_file() and is_recording(file)]


def _instances(path: Path) -> list[Path]:
    """Return the folders of a zone in which instances have kept raw lines."""
    if RAW_FOLDER not in path.absolute().parts and not (path / RAW_FOLDER).is_dir():
        return []
    return sorted({file.parent for file in path.rglob(f"*{RAW_SUFFIX}")})


def _objects(folder: Path) -> list[Path]:
    """Return the files of an instance's raw lines, in order of time."""
    return sorted(folder.glob(f"*{RAW_SUFFIX}"))


def read(paths: Sequence[Path]) -> Recording:
    """Read the recordings of one session.

    Raises:
        OSError: If one of them cannot be read.
        ValueError: If nothing in them says which session it is, or they are of several.
    """
    problems: list[Problem] = []
    ordered = sorted((list(_lines(path, problems)) for path in paths), key=_is_received)
    messages: list[tuple[Recorded, bool]] = []
    estimated = False
    for recording in ordered:
        several = _expanded(recording)
        if _is_received(recording):
            # Only the first has to be estimated: later ones are put on the clock of what is known by then.
            several, guessed = _on_clock(several, messages)
            estimated |= guessed
        messages += _news(several, messages)
    messages.sort(key=lambda item: (item[0].moment, item[0].topic))
    messages = _with_first_state(messages)
    info = _session_info(messages)
    context = context_of(info)
    files, t0 = _files(messages, ", ".join(path.name for path in paths))
    return Recording(info, context, files, t0, problems, estimated)


def _with_first_state(messages: list[tuple[Recorded, bool]]) -> list[tuple[Recorded, bool]]:
    """Leave out whole states that came with later connections, where they say less than the messages before them."""
    seen: set[str] = set()
    kept = []
    for message, baseline in messages:
        if baseline and message.topic in seen and message.topic not in _TOLD_WHOLE:
            continue
        seen.add(message.topic)
        if baseline and message.topic == "SessionData":
            # When the parts of qualifying began, which the messages of race control in the same state need.
            message = message._replace(moment=message.moment - timedelta(microseconds=1))
        kept.append((message, baseline))
    return sorted(kept, key=lambda item: (item[0].moment, item[0].topic))


def _lines(path: Path, problems: list[Problem]) -> Iterator[Recorded]:
    if path.is_dir():
        for part in _objects(path):
            yield from _lines(part, problems)
        return
    with open_file(path) as file:
        number = 0
        try:
            for number, line in enumerate(cut_lines(unpacked(file)), 1):
                try:
                    if len(line) > LONGEST_LINE_BYTES:
                        raise BadLineError(f"it is longer than {LONGEST_LINE_BYTES:,} bytes")
                    message = parse_line(line.decode(errors="surrogateescape"))
                except BadLineError as error:
                    problems.append(Problem(path.name, number, str(error), line[:2_000].decode(errors="replace")))
                    continue
                if message is not None:
                    yield message
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            problems.append(Problem(path.name, number, f"the file is cut off or damaged after it: {error}", ""))


def _is_received(recording: Sequence[Recorded]) -> bool:
    return bool(recording) and recording[0].received


def _expanded(recording: Sequence[Recorded]) -> list[tuple[Recorded, bool]]:
    """Return messages, each with whether it is a baseline; a whole state of several topics becomes one for each."""
    expanded: list[tuple[Recorded, bool]] = []
    for message in recording:
        if message.topic == _INIT and isinstance(message.content, dict):
            for topic, content in message.content.items():
                if _TOPIC.fullmatch(topic):
                    expanded.append((message._replace(topic=topic, content=content), True))
        else:
            expanded.append((message, False))
    return expanded


def _on_clock(
    several: list[tuple[Recorded, bool]], known: Sequence[tuple[Recorded, bool]]
) -> tuple[list[tuple[Recorded, bool]], bool]:
    """Put messages that were timed at their arrival on the service's clock; tell whether that is an estimate."""
    times = _times_by_content(known)
    delays: list[float] = []
    for message, baseline in several:
        near = None if baseline else _nearest(times.get(_content_key(message), []), message.moment)
        if near is not None:
            delays.append((message.moment - near).total_seconds())
    exact = bool(delays)
    if not delays:
        delays = [
            (message.moment - sent).total_seconds()
            for message, baseline in several
            if not baseline and message.topic in STAMPED
            for sent in _sent(message.content)
        ]
    delay = timedelta(seconds=median(delays)) if delays else timedelta(0)
    shifted = []
    for message, baseline in several:
        near = None if baseline else _nearest(times.get(_content_key(message), []), message.moment)
        shifted.append((message._replace(moment=near or message.moment - delay), baseline))
    return shifted, not exact


def _news(several: list[tuple[Recorded, bool]], known: Sequence[tuple[Recorded, bool]]) -> list[tuple[Recorded, bool]]:
    """Return the messages that no recording before has."""
    times = _times_by_content(known)
    return [
        (message, baseline)
        for message, baseline in several
        if baseline or _nearest(times.get(_content_key(message), []), message.moment) is None
    ]


def _times_by_content(messages: Sequence[tuple[Recorded, bool]]) -> dict[bytes, list[datetime]]:
    times: dict[bytes, list[datetime]] = defaultdict(list)
    for message, baseline in messages:
        if not baseline:
            times[_content_key(message)].append(message.moment)
    for several in times.values():
        several.sort()
    return times


def _content_key(message: Recorded) -> bytes:
    return sha256(message.topic.encode() + msgspec.json.encode(message.content, order="sorted")).digest()


def _nearest(times: Sequence[datetime], moment: datetime) -> datetime | None:
    place = bisect_left(times, moment)
    near = [time for time in times[max(0, place - 1) : place + 1] if abs(time - moment) <= _SAME_WITHIN]
    return min(near, key=lambda time: abs(time - moment), default=None)


def _sent(content: Any) -> Iterator[datetime]:
    """Yield the times at which a message of a stamped topic says that it was sent."""
    if isinstance(content, dict):
        for name, value in content.items():
            if name in {"Utc", "Timestamp"} and isinstance(value, str):
                try:
                    yield utc(value)
                except ValueError:
                    continue
            else:
                yield from _sent(value)
    elif isinstance(content, list):
        for item in content:
            yield from _sent(item)


def _session_info(messages: Sequence[tuple[Recorded, bool]]) -> dict[str, Any]:
    """Return the last whole SessionInfo.

    Raises:
        ValueError: If there is none, or the recordings are of several sessions.
    """
    infos = [
        message.content
        for message, _ in messages
        if message.topic == "SessionInfo" and isinstance(message.content, dict) and "Key" in message.content
    ]
    if not infos:
        raise ValueError("nothing in it says which session it is (there is no SessionInfo with a key)")
    keys = {info["Key"] for info in infos}
    if len(keys) > 1:
        raise ValueError(f"it holds several sessions ({', '.join(map(str, sorted(keys, key=str)))})")
    return {name: value for name, value in infos[-1].items() if name != KEY_FRAME}


def _files(messages: Sequence[tuple[Recorded, bool]], where: str) -> tuple[dict[str, TopicFile], datetime]:
    """Return the messages as the archive would have them: a file a topic, its lines timed from the first message."""
    t0 = messages[0][0].moment
    spools: dict[str, BinaryIO] = {}
    baselines: dict[str, set[int]] = defaultdict(set)
    numbers: dict[str, int] = defaultdict(int)
    for message, baseline in messages:
        if message.topic not in spools:
            # An unnamed file, gone when it is closed or the process ends.
            spools[message.topic] = tempfile.TemporaryFile(prefix="f1hbase-")  # noqa: SIM115
        numbers[message.topic] += 1
        if baseline:
            baselines[message.topic].add(numbers[message.topic])
        spools[message.topic].write(_since(message.moment - t0).encode() + msgspec.json.encode(message.content) + b"\n")
    asked_at = datetime.now(UTC)
    files = {}
    for topic, spool in spools.items():
        spool.flush()
        files[topic] = TopicFile(topic, f"{where} ({topic})", spool, asked_at, baselines=frozenset(baselines[topic]))
    return files, t0


def _since(span: timedelta) -> str:
    seconds = span.days * 86_400 + span.seconds
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{span.microseconds:06d}"


def _unescaped(text: str) -> str:
    def letter(match: re.Match[str]) -> str:
        code = match[1] or match[2] or match[3]
        if code is not None:
            try:
                return chr(int(code, 16))
            except (ValueError, OverflowError):
                raise BadLineError(f"{match[0]} is no character") from None
        if match[4] not in _LETTERS:
            return match[0]
        return _LETTERS[match[4]]

    return _ESCAPE.sub(letter, text) if "\\" in text else text
