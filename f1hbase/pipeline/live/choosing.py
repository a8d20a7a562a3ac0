"""Which session a recording is of, and what this instance is called."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import platformdirs

from f1hbase.errors import NothingToLoadError, SetupError
from f1hbase.model.answers import Listing
from f1hbase.model.plans import Selection
from f1hbase.model.samples import Record
from f1hbase.model.times import LONG_AGO, lenient_time, minute
from f1hbase.model.units import Scope, is_key, is_year
from f1hbase.pipeline.plan import session_name, session_scope

_OVERRUN = timedelta(minutes=30)
"""How long after its scheduled end a session may still be the one that is on."""

_MOST_ON_A_HOST = 100
_OVER = ".over"
_OVER_FOR_SECONDS = 7 * 86_400


@dataclass(frozen=True, slots=True)
class Chosen:
    """The session that is recorded.

    Attributes:
        scope: Its keys, dates and name.
        session: Its record.
        meeting: The record of its meeting, if the source has it.
    """

    scope: Scope
    session: Record
    meeting: Record | None


def choose(listing: Listing, selection: Selection, now: datetime, over: Collection[int] = ()) -> Chosen:
    """Return the session that a selection names, else the one that is on, else the next one.

    Args:
        listing: The schedule.
        selection: What was asked for.
        now: The present.
        over: The keys of sessions that are over, whatever the schedule says; one that is named is chosen all the same.

    Raises:
        NothingToLoadError: If there is none; says what to name instead.
    """
    sessions = [record for record in listing.sessions if _is_usable(record)]
    wanted = [
        record
        for record in sessions
        if (not selection.session_key or record["session_key"] in selection.session_key)
        and (not selection.meeting_key or record["meeting_key"] in selection.meeting_key)
    ]
    wanted.sort(key=lambda record: lenient_time(record["date_start"]) or LONG_AGO)
    if not wanted:
        named = [f"session {key}" for key in selection.session_key]
        named += [f"meeting {key}" for key in selection.meeting_key]
        what = " and ".join(named) or "any session of this season"
        raise NothingToLoadError(f"the schedule does not have {what}. Look for the keys with: f1hbase plan --year Y")
    if selection.session_key:
        chosen = wanted[0]
    else:
        coming = [
            record for record in wanted if _end(record) + _OVERRUN > now and record["session_key"] not in over
        ]  # fmt: skip
        if not coming:
            last = wanted[-1]
            raise NothingToLoadError(
                f"no session is on or to come: the last one, {session_name(last)}, was to end {minute(_end(last))}. "
                "Name one with --session-key to wait for it all the same."
            )
        chosen = coming[0]
    meeting = next(
        (one for one in listing.meetings if isinstance(one, dict) and one.get("meeting_key") == chosen["meeting_key"]),
        None,
    )
    year = chosen["year"] if meeting is None or type(meeting.get("year")) is not int else meeting["year"]
    return Chosen(session_scope(year, chosen, meeting), chosen, meeting)


def live_folder() -> Path:
    """Return the folder of the user in which instances keep locks, and what is not stored yet."""
    return platformdirs.user_state_path("f1hbase") / "live"


@contextmanager
def instance_name(given: str, folder: Path) -> Iterator[str]:
    """Hold a name that no other instance of this machine has: the given one, or the host's with the first free number.

    The same number comes back after a restart, so that an instance goes on under its name and with its spool.

    Args:
        given: The name asked for; empty for the host's.
        folder: Where the locks are.

    Raises:
        SetupError: If an instance of that name runs here already, or the folder cannot be written.
    """
    host = socket.gethostname() or "host"
    names: Sequence[str] = [given] if given else [f"{host}-{n}" for n in range(1, _MOST_ON_A_HOST)]
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in names:
            path = folder / f"{file_name(name)}.lock"
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(lock)
                continue
            try:
                yield name
            finally:
                os.close(lock)
            return
    except OSError as error:
        raise SetupError(
            f"cannot write '{error.filename or folder}', where instances keep what is not stored: "
            f"{(error.strerror or str(error)).lower()}. Set XDG_STATE_HOME to a folder that can be written."
        ) from error
    raise SetupError(f"an instance named '{names[0]}' runs on this machine already: choose another --instance.")


def sessions_over(folder: Path) -> frozenset[int]:
    """Return the keys of the sessions that were recorded to their end, by an instance of this user on this machine."""
    return frozenset(int(path.stem) for path in folder.glob(f"*{_OVER}") if path.stem.isdecimal())


def mark_over(folder: Path, session_key: int) -> None:
    """Remember that a session is over, so that the next recording is of the next one."""
    for old in folder.glob(f"*{_OVER}"):
        if time.time() - old.stat().st_mtime > _OVER_FOR_SECONDS:
            old.unlink(missing_ok=True)
    (folder / f"{session_key}{_OVER}").touch(mode=0o600)


def file_name(name: str) -> str:
    """Return a name as a file can have it."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-.") else "_" for c in name)[:100] or "_"


def _is_usable(record: Any) -> bool:
    return (
        isinstance(record, dict)
        and is_year(record.get("year"))
        and is_key(record.get("meeting_key"))
        and is_key(record.get("session_key"))
        and lenient_time(record.get("date_start")) is not None
        and not record.get("is_cancelled")
    )


def _end(record: Record) -> datetime:
    start = lenient_time(record["date_start"])
    assert start is not None
    return lenient_time(record.get("date_end")) or start + timedelta(hours=2)
