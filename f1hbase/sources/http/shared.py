"""The state that all processes of a user share about one API host: one small SQLite file, private to the user.

It knows how that file is opened, locked and healed; what the tables mean is known to the limiter, the circuit breaker
and the tokens. Each step is one `BEGIN IMMEDIATE` transaction of some tens of microseconds; SQLite's locks are the
kernel's, which drops them when their holder dies, and the journal of a killed process is rolled back by the next one.

A rollback journal that keeps its room (`PERSIST`) rather than WAL: it needs no shared memory, and a disk that fills up
later hardly ever matters. `synchronous=OFF`: after a loss of power the times are those of another start of the machine
anyway, and a file damaged by it is replaced. SQLite has no checksum of its pages: a changed bit within a time is
noticed only if it makes the time impossible.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import logging
import os
import re
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import platformdirs

from f1hbase.errors import SetupError

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

# Linux stops CLOCK_MONOTONIC while the machine sleeps; elsewhere there is no CLOCK_BOOTTIME.
_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

_VERSION = 1
_SCHEMA = f"""
CREATE TABLE host (
    boot TEXT NOT NULL, lost INTEGER NOT NULL,
    unknown_before REAL NOT NULL DEFAULT -1e300, next_ticket INTEGER NOT NULL DEFAULT 1,
    paused_until REAL NOT NULL DEFAULT 0, paused_at REAL NOT NULL DEFAULT 0,
    paused_by TEXT NOT NULL DEFAULT '', paused_why TEXT NOT NULL DEFAULT '',
    answered REAL NOT NULL DEFAULT 0, closed REAL NOT NULL DEFAULT 0,
    probed REAL NOT NULL DEFAULT 0, closed_why TEXT NOT NULL DEFAULT ''
);
CREATE TABLE grants (id INTEGER PRIMARY KEY, at REAL NOT NULL);
CREATE TABLE received (id INTEGER PRIMARY KEY, at REAL NOT NULL, bytes INTEGER NOT NULL);
CREATE TABLE waiters (ticket INTEGER PRIMARY KEY, seen REAL NOT NULL, due REAL NOT NULL);
CREATE TABLE tokens (user TEXT PRIMARY KEY, token TEXT NOT NULL, since REAL NOT NULL, until REAL NOT NULL);
PRAGMA user_version = {_VERSION};
"""
_OF_THE_CLOCK = ("grants", "received", "waiters")
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_ERRNO = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
    sqlite3.SQLITE_PERM: errno.EACCES,
}
_LEAKED: list[sqlite3.Connection] = []
"""Connections of the process that this one was forked from: closing them here is what SQLite forbids."""

_SMALLEST_PAGE = 512
_LONGEST_NAME = 200
_LONGEST_LABEL = 63


def machine_clock() -> float:
    """Tell the seconds since the machine started, the same for all its processes, time asleep included."""
    return time.clock_gettime(_CLOCK)


@functools.cache
def boot_id() -> str:
    """Name this start of the machine, since its clock begins again at each; a constant where that cannot be known."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def check_host(host: str) -> str:
    """Return a host, with its port if it has one, as it was given.

    Raises:
        ValueError: If it cannot be the name of one: it is empty, has control characters or blanks, or a label of more
            than 63 letters.
    """
    shown = ascii(host if len(host) <= _LONGEST_NAME else f"{host[:60]}...")
    if not host or re.search(r"[\x00-\x20\x7f]", host):
        raise ValueError(f"{shown} is no host name: it is empty, or has blanks or control characters in it")
    if any(len(label) > _LONGEST_LABEL for label in host.rpartition("@")[2].split(".")):
        raise ValueError(f"{shown} is no host name: a part of it has more than {_LONGEST_LABEL} letters")
    return host


def state_path(host: str, folder: Path | None = None) -> Path:
    """Name the file that all processes share which send requests to one host.

    >>> state_path("api.openf1.org", Path("/var/lib/f1hbase"))
    PosixPath('/var/lib/f1hbase/api-api.openf1.org.sqlite')

    `host` is the API's host, with its port if it has one; `folder` is the user's state folder if not given.

    Raises `ValueError` if `host` cannot be a host.
    """
    folder = platformdirs.user_state_path("f1hbase") if folder is None else folder
    name = re.sub(r"[^a-z0-9.-]", "_", check_host(host).rpartition("@")[2].lower())
    return folder / f"api-{name[:_LONGEST_NAME]}.sqlite"


class SharedState:
    """One host's file; see the module. A connection is opened when needed, and anew when the file was replaced.

    `path` must be on a local disk. Its folder is made, and closed to other users (0700); so is the file (0600).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None
        self._identity: tuple[int, ...] = ()
        self._used = False
        self._said = False

    def __del__(self) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[tuple[sqlite3.Connection, sqlite3.Row]]:
        """Yield the database, locked for this process, and the row of `host`; what was written is kept at the end.

        Raises:
            BlockingIOError: If another process holds the lock, or the file had to be replaced: try again.
            OSError: If it cannot be read or written, as when the disk is full; nothing has changed.
            SetupError: If the file or its folder is not the user's own.
        """
        with self._connected() as db:
            db.execute("BEGIN IMMEDIATE")
            host = _host(db)
            if host["boot"] != boot_id():
                # Whatever was sent before this start of the machine was sent before its clock's zero.
                for table in _OF_THE_CLOCK:
                    db.execute(f"DELETE FROM {table}")  # noqa: S608 - a constant
                db.execute(
                    "UPDATE host SET boot = ?, lost = 0, unknown_before = 0, paused_until = 0, answered = 0,"
                    " closed = 0, probed = 0",
                    (boot_id(),),
                )
                host = _host(db)
            yield db, host
            db.execute("COMMIT")

    def host(self) -> sqlite3.Row | None:
        """Return the row of `host` without the lock; None if it is of another start of the machine.

        Raises:
            BlockingIOError: If another process is just writing: try again.
            OSError, SetupError: As for `transaction`.
        """
        with self._connected() as db:
            host = _host(db)
            return host if host["boot"] == boot_id() else None

    def rows(self, query: str, *values: object) -> list[sqlite3.Row]:
        """Return what a query finds, without the lock.

        Raises:
            BlockingIOError: If another process is just writing: try again.
            OSError, SetupError: As for `transaction`.
        """
        with self._connected() as db:
            return db.execute(query, values).fetchall()

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        if self._db is not None:
            if self._identity[-1] == os.getpid():
                with suppress(sqlite3.Error):
                    self._db.close()
            else:
                _LEAKED.append(self._db)
        self._db = None

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        try:
            if self._db is None or self._identity != self._look():
                self.close()
                self._db = self._open()
                self._used, self._said = True, False
            yield self._db
        except BaseException as error:
            if self._db is not None and self._db.in_transaction:
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error) and not isinstance(error, sqlite3.ProgrammingError):
                raise self._translated(error) from error
            raise

    def _look(self) -> tuple[int, ...]:
        """Tell which file there is now, and which process looks."""
        with suppress(FileNotFoundError):
            status = self._path.lstat()
            return status.st_dev, status.st_ino, os.getpid()
        return (os.getpid(),)

    def _open(self) -> sqlite3.Connection:
        with _locked_folder(self._path.parent):
            # SQLite drops its locks when the process closes any descriptor of the file, so it is not opened here.
            status = _own(self._path)
            if status is not None and status.st_mode & 0o077:
                self._remove("others could read or write it")
                status = None
            elif status is not None and 0 < status.st_size < _SMALLEST_PAGE:  # SQLite takes it for an empty one
                self._remove("cut short")
                status = None
            if status is None:
                # SQLite deletes the journal that a removed file left behind, since ours is empty.
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
            db = sqlite3.connect(self._path, timeout=0.0, isolation_level=None, check_same_thread=False)
            db.row_factory = sqlite3.Row
            self._identity = self._look()
            try:
                self._prepare(db)
            except BaseException:
                db.close()
                raise
            return db

    def _prepare(self, db: sqlite3.Connection) -> None:
        db.execute("PRAGMA journal_mode = PERSIST").fetchall()
        db.execute("PRAGMA synchronous = OFF")
        db.execute("BEGIN IMMEDIATE")
        if (
            db.execute("PRAGMA user_version").fetchone()[0] == 0
            and not db.execute("PRAGMA schema_version").fetchone()[0]
        ):
            for statement in _SCHEMA.split(";\n"):
                db.execute(statement)
            if self._used and not self._said:
                _log.warning(
                    "%s was removed or replaced: it is made anew, and requests wait as if every slot was just used",
                    self._path,
                )
            db.execute("INSERT INTO host (boot, lost) VALUES (?, ?)", (boot_id(), self._used))
        else:
            found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise sqlite3.DatabaseError(found)
            _host(db)
        db.execute("COMMIT")

    def _translated(self, error: Exception) -> Exception:
        """Say what an error of SQLite means for who uses the file; a damaged one is removed."""
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        if code in _BUSY:
            return BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(self._path))
        self.close()
        if code not in _DAMAGED:
            number = _ERRNO.get(code, errno.EIO)
            return OSError(number, os.strerror(number), str(self._path))
        try:
            with _locked_folder(self._path.parent):
                # Who waited for the lock finds the file that another process has made meanwhile.
                if self._look() == self._identity:
                    self._remove(str(error))
        except OSError as failed:
            return failed
        return BlockingIOError(errno.EAGAIN, "it was damaged and is made anew", str(self._path))

    def _remove(self, why: str) -> None:
        _log.warning(
            "%s cannot be trusted (%s): it is made anew, and requests wait as if every slot was just used",
            self._path, why,
        )  # fmt: skip
        self._used = self._said = True
        with suppress(FileNotFoundError):
            self._path.unlink()


def _host(db: sqlite3.Connection) -> sqlite3.Row:
    host: sqlite3.Row | None = db.execute("SELECT * FROM host").fetchone()
    if host is None:
        raise sqlite3.DatabaseError("a row is missing")
    return host


def briefly(step: Callable[[], _T]) -> _T:
    """Return what a step returns, trying again for 20 ms while another process holds the lock.

    Raises:
        BlockingIOError: If it holds it longer: it has been stopped (SIGSTOP, a debugger).
    """
    for _ in range(20):
        with suppress(BlockingIOError):
            return step()
        time.sleep(0.001)
    return step()


@contextmanager
def role(path: Path, name: str) -> Iterator[bool]:
    """Take a role that one process has at a time and keeps for long, such as probing the API; tell whether it is ours.

    It is a `flock` on a file beside the state, since a transaction of SQLite would keep out all others meanwhile. The
    kernel ends it when its holder dies.

    Raises:
        OSError: If the lock file cannot be made.
        SetupError: If it is not the user's own.
    """
    lock = path.with_name(f"{path.name}.{name}.lock")
    private_folder(lock.parent)
    _own(lock)
    fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)


def private_folder(folder: Path) -> None:
    """Make a folder that is the user's alone, or close it to others.

    Raises:
        OSError: If it cannot be made.
        SetupError: If it belongs to another user.
    """
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.stat()
    if status.st_uid != os.geteuid() or folder.lstat().st_uid not in {os.geteuid(), 0}:
        raise SetupError(
            f"'{folder}' belongs to another user (uid {status.st_uid}), who could change what processes share "
            "through it. Set XDG_STATE_HOME to a folder of your own."
        )
    if status.st_mode & 0o077:
        folder.chmod(0o700)


def _own(path: Path) -> os.stat_result | None:
    """Return the status of a regular file of the user's own; None if there is none."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_nlink == 1:
        return status
    what = "is not a regular file"
    if stat.S_ISLNK(status.st_mode):
        what = f"is a symbolic link (to '{path.readlink()}')"
    elif stat.S_ISREG(status.st_mode):
        what = "belongs to another user" if status.st_uid != os.geteuid() else "has a second name (a hard link)"
    raise SetupError(f"'{path}' {what}, so it is not used. Remove it, or set XDG_STATE_HOME to another folder.")


@contextmanager
def _locked_folder(folder: Path) -> Iterator[None]:
    """Keep other processes from making or removing files of the folder."""
    private_folder(folder)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)
