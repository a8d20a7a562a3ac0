"""Objects of a folder or bucket: read, written whole, created, listed, deleted; knows no layout.

An object appears whole or not at all, and `create` lets one of several processes win. A store that is away is waited
for; what waiting does not help is an error at once, on one line that names the location.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import IO, TypeVar

from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError

from f1hbase.errors import UnreachableError
from f1hbase.stores.files.clients import PART_BYTES, Client, ObjectInfo, empty_client, open_client
from f1hbase.stores.files.packing import LARGEST_OBJECT_BYTES
from f1hbase.stores.files.reading import NO_FILE, is_no_file
from f1hbase.stores.files.urls import Location, LocationError

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 15.0
"""Seconds between two tries of a store that is away; doubled from one to the next."""

_REQUESTS_AT_ONCE = 16
"""How many small objects of an object store are read or written at the same time: a round trip takes 10 to 50 ms."""

_NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|The specified bucket does not exist", re.IGNORECASE)
_STATUS = re.compile(r"status code: (\d{3}[^:\n]*)")
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_MD5 = re.compile(r'"?([0-9a-f]{32})"?')
_MD5_OF_PARTS = re.compile(r'"?([0-9a-f]{32}-\d+)"?')
_NO_ATTRIBUTES: Mapping[str, str] = {}
_WAITABLE_STATUS = {408, 409, 425, 429}


class RefusedError(UnreachableError):
    """A store that answers, but does not do what it is asked: no such bucket, a refused key, a full disk."""


class UnreadableObjectError(RefusedError):
    """One object that cannot be read, while others may be: a pipe, a file that may not be read, too long a name."""


class Objects:
    """The objects of one location; may be used by several threads.

    Args:
        location: Where they are.
        patience: For how many seconds a store that is away is waited for.
        stop: Set when nothing is to be waited for any more.
        clock: Tells seconds.

    Raises:
        LocationError: If it is no folder, or its settings make no sense. A folder that does not exist is an empty one,
            and is made when the first object is written.
    """

    def __init__(
        self,
        location: Location,
        patience: float = 0.0,
        *,
        stop: threading.Event | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.location = location
        self._patience = patience
        self._stop = stop or threading.Event()
        self._clock = clock
        self._etag_is_md5 = location.scheme in ("s3", "gs")
        self._takes_files = False
        self._client: Client | None = None
        folder = Path(location.root)
        if location.is_local and not folder.is_dir():
            if folder.exists():
                raise LocationError(f"'{location}' is a file, not a folder.")
        else:
            self._client = self._open()

    @property
    def exists(self) -> bool:
        """Whether the folder exists; of a bucket that is not known, and taken for granted."""
        return self._client is not None or Path(self.location.root).is_dir()

    def get(self, path: str) -> bytes | None:
        """Return the bytes of an object; None if it does not exist or has no proper path.

        Raises:
            UnreadableObjectError: If it cannot be read, of a folder.
            RefusedError: If the store does not give it.
            UnreachableError: If the store is away longer than patience lasts.
        """
        self._check_file(path)
        try:
            return self._call("read", lambda: self._reading().get(path))
        except (FileNotFoundError, ValueError):
            return None
        except RefusedError as error:
            # A bucket that refuses one object refuses all; a folder may have one bad file.
            raise UnreadableObjectError(str(error)) if self.location.is_local else error from error.__cause__

    def get_all(self, paths: Sequence[str]) -> list[bytes | None]:
        """Return the bytes of several objects, in order; of an object store several at a time."""
        return self.each(self.get, paths)

    def try_all(self, paths: Sequence[str]) -> list[bytes | UnreadableObjectError | None]:
        """Return the bytes of several objects as `get_all`, or what is wrong with one; none is larger than any may be.

        Of an object store the size is not asked for, which would be a request more for each.
        """

        def one(path: str) -> bytes | UnreadableObjectError | None:
            try:
                self._check_file(path, LARGEST_OBJECT_BYTES)
                return self.get(path)
            except UnreadableObjectError as error:
                return error

        return self.each(one, paths)

    def size(self, path: str) -> int | None:
        """Return the size of an object in bytes; None if it does not exist."""
        self._check_file(path)
        try:
            return self._call("read", lambda: self._reading().head(path).size)
        except FileNotFoundError:
            return None

    def holds(self, path: str, content: bytes) -> bool | None:
        """Return whether an object has this content, by what the store says of it; None if there is none.

        It is read only where its size is right and its tag is no MD5 of this content: one whose bytes have changed
        on the disk is not taken for what it was.
        """
        self._check_file(path)
        try:
            info = self._call("read", lambda: self._reading().head(path))
        except FileNotFoundError:
            return None
        if info.size != len(content):
            return False
        tag = _MD5.fullmatch(info.tag or "")
        # Elsewhere the tag is no MD5: a folder has none, and a store that encrypts (KMS) another.
        return (tag is not None and tag[1] == _md5(content)) or self.get(path) == content

    def chunks(self, info: ObjectInfo, size: int = PART_BYTES) -> Iterator[bytes]:
        """Yield the bytes of an object, some at a time; it is not to change meanwhile.

        Raises:
            FileNotFoundError: If it is gone.
            RefusedError: If the store does not give it.
            UnreachableError: If the store is away longer than patience lasts.
        """
        self._check_file(info.path)
        for start in range(0, info.size, size):
            end = min(start + size, info.size)
            yield self._call("read", lambda start=start, end=end: self._reading().get_range(info.path, start, end))  # type: ignore[misc]

    def put(self, path: str, content: bytes | IO[bytes], attributes: Mapping[str, str] = _NO_ATTRIBUTES) -> None:
        """Write an object, whatever was there; on return it is durable and was received as it was sent.

        Args:
            path: Its path.
            content: Its bytes, or a file that has them, which is sent in parts; the object appears whole.
            attributes: What the store is to say of it (`Content-Type` and names of one's own); folders keep none.

        Raises:
            RefusedError: If the store does not take it.
            UnreachableError: If the store is away longer than patience lasts.
        """
        self._call("written", lambda: self._put(path, content, attributes))

    def create(self, path: str, content: bytes, attributes: Mapping[str, str] = _NO_ATTRIBUTES) -> bool:
        """Write an object unless there is one; return whether it is ours now.

        When an answer of the store was lost, an object that is the same as ours counts as ours.

        Raises:
            RefusedError: If the store does not take it.
            UnreachableError: If the store is away longer than patience lasts.
        """

        def once() -> bool:
            try:
                self._writing().create(path, content, attributes)
            except AlreadyExistsError:
                return False
            self._sync(path)
            return True

        return self._call("written", once) or self.get(path) == content

    def under(self, prefix: str, most: int | None = None) -> Iterator[ObjectInfo]:
        """Yield the objects whose paths begin with these folders, in no order.

        Args:
            prefix: Whole folders, such as `_state/units/year=2024`; empty for all.
            most: After how many to stop; S3 lists a thousand with each request.
        """
        # An object store lists a folder that does not exist as an empty one, and so does this.
        yield from self._call("listed", lambda: list(islice(self._list(prefix), most)))

    def is_empty(self, prefix: str = "") -> bool:
        """Return whether there is no object below these folders; takes one request, however many there are."""
        return next(self.under(prefix, most=1), None) is None

    def linked_folder(self, path: str) -> str | None:
        """Return the first folder on the way to an object that is a link, as the object then lies elsewhere.

        None if there is none. The location itself may be a link.
        """
        parts = path.split("/")[:-1] if self.location.is_local else []
        folders = ("/".join(parts[:end]) for end in range(1, len(parts) + 1))
        return next((folder for folder in folders if Path(self.location.root, folder).is_symlink()), None)

    def delete(self, paths: Sequence[str]) -> None:
        """Delete objects; those that do not exist are none the worse for it.

        Raises:
            RefusedError: If the store does not let it, or an object lies behind a linked folder: it may be anybody's.
            UnreachableError: If the store is away longer than patience lasts.
        """

        def one(path: str) -> None:
            link = self.linked_folder(path)
            if link is not None:
                raise RefusedError(
                    f"'{self.location}/{path}' is not deleted: the folder '{link}' is a link, so that it lies outside. "
                    "Put the folder itself there, or delete it by hand."
                )
            try:
                self._call("deleted", lambda: self._reading().delete(path))
            except FileNotFoundError:
                return

        self.each(one, paths)

    def each(self, call: Callable[[str], _Result], paths: Sequence[str]) -> list[_Result]:
        """Call something for each path, of an object store for several at a time; return the results in order."""
        if self.location.is_local or len(paths) < 2:
            return [call(path) for path in paths]
        with ThreadPoolExecutor(min(_REQUESTS_AT_ONCE, len(paths)), "objects") as threads:
            return list(threads.map(call, paths))

    def _reading(self) -> Client:
        if self._client is None:
            if not self.exists:
                return empty_client()
            self._client = self._open()
        return self._client

    def _writing(self) -> Client:
        if self._client is None:
            try:
                Path(self.location.root).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise RefusedError(f"the folder '{self.location}' cannot be made: {_reason(error)}.") from error
        if self.location.is_local and not self._takes_files:
            self._try_to_write()
        return self._reading()

    def _try_to_write(self) -> None:
        """Find out whether files can be made in the folder.

        Where none can although it is there (/proc), obstore would try for ever: it takes "no such file" for a folder
        that is still to be made.
        """
        probe = Path(self.location.root, f"_f1hbase.probe-{os.getpid()}-{threading.get_ident()}")
        try:
            os.close(os.open(probe, os.O_CREAT | os.O_WRONLY, 0o600))
            probe.unlink(missing_ok=True)
        except OSError as error:
            raise RefusedError(
                f"'{self.location}' cannot be written: {_reason(error)}. Check the folder, or choose another one."
            ) from error
        self._takes_files = True

    def _open(self) -> Client:
        try:
            return open_client(self.location)
        except (BaseError, ValueError, OSError) as error:
            raise LocationError(f"'{self.location}' cannot be opened: {_reason(error)}.") from error

    def _list(self, prefix: str) -> Iterator[ObjectInfo]:
        try:
            yield from self._reading().list(prefix)
        except FileNotFoundError:
            return

    def _put(self, path: str, content: bytes | IO[bytes], attributes: Mapping[str, str]) -> None:
        if isinstance(content, bytes):
            tag = self._writing().put(path, content, attributes)
            self._sync(path)
            self._check(path, content, tag)
            return
        content.seek(0)
        tag = self._writing().put(path, content, attributes)
        self._sync(path)
        self._check_parts(path, content, tag)

    def _check(self, path: str, content: bytes, tag: str | None) -> None:
        etag = _MD5.fullmatch(tag or "")
        # Either it arrived otherwise than it was sent, or the store encrypts it (KMS), where the tag is no MD5.
        if self._etag_is_md5 and etag is not None and etag[1] != _md5(content):
            if self._reading().get(path) != content:
                raise OSError("the object was not received as it was sent")
            self._etag_is_md5 = False

    def _check_parts(self, path: str, content: IO[bytes], tag: str | None) -> None:
        """Compare what a store says of an object that came in parts with what was sent.

        S3's tag of such an object is the MD5 of the parts' MD5s, and their number; with KMS it is something else that
        looks like it, and then the object is read. Other stores say the size.
        """
        if self.location.is_local:
            return
        client, etag = self._reading(), _MD5_OF_PARTS.fullmatch(tag or "")
        content.seek(0)
        if etag is None:
            if client.head(path).size != content.seek(0, os.SEEK_END):
                raise OSError("the object was not received as it was sent")
            return
        parts = [hashlib.md5(part, usedforsecurity=False).digest() for part in _parts(content)]
        if etag[1] == f"{_md5(b''.join(parts))}-{len(parts)}":
            return
        size = client.head(path).size
        starts = range(0, size, PART_BYTES)
        there = (client.get_range(path, start, min(start + PART_BYTES, size)) for start in starts)
        if [_md5(part) for part in there] != [part.hex() for part in parts]:
            raise OSError("the object was not received as it was sent")

    def _check_file(self, path: str, most: int | None = None) -> None:
        """Refuse what would be waited for, or read, for ever: a pipe, a device, or a link to one; or what is larger."""
        if not self.location.is_local:
            return
        try:
            found = Path(self.location.root, path).stat()
        except (OSError, ValueError):
            return  # reading it says what is wrong
        if is_no_file(found.st_mode):
            raise UnreadableObjectError(f"'{self.location}/{path}' cannot be read: {NO_FILE}.")
        if most is not None and found.st_size > most:
            raise UnreadableObjectError(
                f"'{self.location}/{path}' is not read: it has {found.st_size:,} bytes, and no answer more than "
                f"{most:,}."
            )

    def _sync(self, path: str) -> None:
        if not self.location.is_local:
            return
        file = Path(self.location.root, path)
        for one in (file, file.parent):
            descriptor = os.open(one, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _call(self, done: str, call: Callable[[], _Result]) -> _Result:
        began, wait = self._clock(), _FIRST_WAIT
        while True:
            try:
                return call()
            except FileNotFoundError as error:
                if done == "written" or _NO_BUCKET.search(str(error)):
                    raise self._refused(done, error) from error
                raise
            except (BaseError, OSError) as error:
                if _is_final(error, self.location):
                    raise self._refused(done, error) from error
                if self._clock() - began + wait > self._patience:
                    raise UnreachableError(
                        f"'{self.location}' cannot be reached ({_reason(error)}). What is done is kept; run the same "
                        "command again when the store answers, or wait longer with --patience."
                    ) from error
                if wait == _FIRST_WAIT:
                    _log.warning("'%s' does not answer (%s); waiting for it", self.location, _reason(error))
            if self._stop.wait(wait):
                raise UnreachableError(f"'{self.location}' did not answer, and is not waited for any more.")
            wait = min(wait * 2, _LONGEST_WAIT)

    def _refused(self, done: str, error: Exception) -> RefusedError:
        kind = {"file": "folder", "volume": "volume"}.get(self.location.scheme, "bucket")
        is_absent = isinstance(error, FileNotFoundError) and not self.location.is_local
        if is_absent or _NO_BUCKET.search(str(error)):
            return RefusedError(f"'{self.location}': there is no such {kind}. Create it, or correct its name.")
        if isinstance(error, PermissionDeniedError | UnauthenticatedError) and not self.location.is_local:
            return RefusedError(
                f"'{self.location}' refuses the key it was given ({_reason(error)}): it may not be {done}. Check the "
                "credentials and what they allow."
            )
        return RefusedError(f"'{self.location}' cannot be {done}: {_reason(error)}. Check the {kind}.")


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _parts(content: IO[bytes]) -> Iterator[bytes]:
    while part := content.read(PART_BYTES):
        yield part


def _is_final(error: Exception, location: Location) -> bool:
    """Return whether waiting does not help."""
    if isinstance(error, PermissionDeniedError | UnauthenticatedError) or location.is_local:
        return True
    if _NO_BUCKET.search(str(error)) or "169.254.169.254" in str(error):
        return True
    status = _STATUS.search(str(error))
    return status is not None and 400 <= int(status[1][:3]) < 500 and int(status[1][:3]) not in _WAITABLE_STATUS


def _reason(error: Exception) -> str:
    """Return what is wrong, in one line, without the parts of the client's message that speak of itself."""
    text = str(error).partition("\n\nDebug source")[0]
    number = _OS_ERROR.search(text)
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno).lower()
    if number is not None:
        return os.strerror(int(number[1])).lower()
    if "169.254.169.254" in text:
        return "no credentials were found"
    code = re.search(r"<Code>([^<]*)</Code>", text)
    status = _STATUS.search(text)
    if status is not None:
        return status[1].strip() + (f", {code[1]}" if code else "")
    return " ".join(text.rpartition(" - ")[2].split())[:200] or type(error).__name__
